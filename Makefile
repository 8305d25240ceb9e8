# SPDX-License-Identifier: GPL-2.0-or-later
.PHONY: help demo test check bench fuzz host lab clean

help:
	@echo 'make demo     the story in 12 steps, on a real Slurm in a container (root, Debian); KEEP=1 leaves it up'
	@echo 'make test     every test: here, in the lab, and of the lab (root, Debian)'
	@echo 'make check    style, types, layers, unit tests; needs no root once python3-venv and lua5.1 are there'
	@echo 'make bench    what polling and storing cost, and how fresh readings are: figures and a plot'
	@echo 'make fuzz     100,000 mutated answers of devices; prints its seed, ARGS="--seed N" runs it again'
	@echo 'make lab      the lab, to look around in; then tests/lab/lab exec ...'
	@echo 'make clean    drop the lab, its cached root file system, and what tools left in the checkout'

host:
	@tests/lab/prepare-host

demo: host
	@KEEP='$(KEEP)' tests/demo/run

test: host
	@tests/lab/test-all

check: host
	@tests/lab/check

bench: host
	@tests/bench/run $(ARGS)

fuzz: host
	@tests/fuzz/run $(ARGS)

lab: host
	@tests/lab/lab up

clean:
	@if [ "$$(id -u)" = 0 ]; then tests/lab/lab destroy; fi
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
