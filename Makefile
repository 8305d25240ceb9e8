# SPDX-License-Identifier: GPL-2.0-or-later
.PHONY: help demo test check host lab clean

help:
	@echo 'make demo     the story in 12 steps, on a real Slurm in a container (root, Debian); KEEP=1 leaves it up'
	@echo 'make test     every test: here, in the lab, and of the lab (root, Debian)'
	@echo 'make check    style, types, layers, unit tests; needs no root once python3-venv and lua5.1 are there'
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

lab: host
	@tests/lab/lab up

clean:
	@if [ "$$(id -u)" = 0 ]; then tests/lab/lab destroy; fi
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
