# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook inside a real slurmctld, as alice sees it; run in the lab."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.lab

SPOOL = Path("/var/spool/power-broker/verdicts.jsonl")


def as_alice(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["runuser", "-u", "alice", "--", *words],
        cwd="/tmp",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def field(job: str, name: str) -> str:
    shown = subprocess.check_output(["scontrol", "show", "job", job], text=True)
    # AdminComment and Comment have lines of their own and may hold blanks.
    found = re.search(rf"(?m)(?:^|\s){name}=(\{{.*\}}|\S*)", shown)
    return found[1] if found else ""


@pytest.fixture
def sbatch() -> Iterator[Callable[..., tuple[str, str]]]:
    """Submits as alice, an hour ahead so that nothing starts; the jobs go when the test ends."""
    submitted = []

    def run(*words: str, begin: str = "now+1hour") -> tuple[str, str]:
        job = ["sbatch", "--parsable", f"--begin={begin}", *words, "--wrap", "sleep 60"]
        done = as_alice(*job)
        if done.returncode == 0:
            submitted.append(done.stdout.strip())
        return done.stdout.strip(), done.stderr

    yield run
    if submitted:
        subprocess.run(["scancel", *submitted], check=True)


def ticket(said: str) -> str:
    found = re.search(r"\[ticket (PW-[0-9A-Z]+)\]", said)
    assert found, said
    return found[1]


def test_a_declared_job_carries_tokens_and_its_envelope(
    sbatch: Callable[..., tuple[str, str]],
) -> None:
    job, said = sbatch("-N4", "--comment", "power: est=18.5kW max=24kW tier=gold")
    assert "charged 24.00 kW on 4 nodes (5,000 W tokens a node)" in said
    assert field(job, "Licenses") == "power:5000"
    admitted = json.loads(field(job, "AdminComment"))
    assert admitted["ticket"] == ticket(said)
    assert (admitted["tier"], admitted["charge_w"], admitted["nodes"]) == ("gold", 24000, 4)


def test_an_undeclared_job_is_charged_its_maximum(sbatch: Callable[..., tuple[str, str]]) -> None:
    job, said = sbatch("--gpus=20", "-L", "power:1")
    assert "charged 30.60 kW on 3 nodes (9,200 W tokens a node)" in said
    assert field(job, "Licenses") == "power:9200"
    assert field(job, "NumNodes").startswith("3")


REJECTED = {
    "more than can ever be fed": (["-N12"], "12 nodes at 9,200 W of tokens each can never run"),
    "a blank before the unit": (["-N1", "--comment", "power: max=24 KW"], "max=24: must be"),
    "est above max": (
        ["-N1", "--comment", "power: est=9kW max=8kW"], "est=9000W: must not be above max"),
    "a byte that is not ASCII": (["-N1", "--comment", "power: max=2kW\u00b2"], "printable ASCII"),
    "an over-long comment": (
        ["-N1", "--comment", "power: " + "x" * 2000], "must be at most 1,024 bytes long"),
    "OR-licences": (["-N1", "-L", "a|b"], "licences joined with |"),
}  # fmt: skip


@pytest.mark.parametrize(("words", "because"), REJECTED.values(), ids=REJECTED.keys())
def test_sbatch_fails_with_one_clear_sentence(
    sbatch: Callable[..., tuple[str, str]], words: list[str], because: str
) -> None:
    job, said = sbatch(*words)
    assert job == ""
    assert "power: job rejected: " in said
    assert because in said
    assert '"verdict":"reject"' in line_of(ticket(said))


def line_of(wanted: str) -> str:
    """The spool's line of a ticket; the broker may have read it, but leaves it there."""
    return next(line for line in SPOOL.read_text().splitlines() if f'"{wanted}"' in line)


def test_heterogeneous_jobs_are_refused_in_plain_words() -> None:
    done = as_alice("sbatch", "-N1", ":", "-N1", "--wrap", "true")
    assert done.returncode != 0
    assert "heterogeneous jobs cannot be charged for power yet" in done.stderr


def test_srun_and_salloc_pass_the_hook() -> None:
    ran = as_alice("srun", "-N1", "--comment", "power: max=2kW", "true")
    assert (ran.returncode, "power: job accepted" in ran.stderr) == (0, True), ran.stderr
    got = as_alice("salloc", "-N1", "--comment", "power: max=2kW", "true")
    assert (got.returncode, "power: job accepted" in got.stderr) == (0, True), got.stderr


def test_an_owner_changes_the_envelope_of_a_pending_job(
    sbatch: Callable[..., tuple[str, str]],
) -> None:
    job, _ = sbatch("-N2", "--comment", "power: max=8kW")
    for words, tokens in {
        "comment=power: max=12kW": "power:5000",
        "numnodes=4": "power:2000",
        "comment=nothing": "power:9200",
    }.items():
        done = as_alice("scontrol", "update", f"jobid={job}", words)
        assert done.returncode == 0, done.stderr
        assert field(job, "Licenses") == tokens
    for words in ("licenses=", "licenses=power:1", "numnodes=12", "comment=power: max=1"):
        done = as_alice("scontrol", "update", f"jobid={job}", words)
        assert done.returncode != 0
        assert "power: change refused" in done.stderr
    assert field(job, "Licenses") == "power:9200"


def test_an_owner_cannot_strip_a_running_job(sbatch: Callable[..., tuple[str, str]]) -> None:
    job, _ = sbatch("-N1", "--comment", "power: max=2kW", begin="now")
    deadline = time.monotonic() + 30
    while field(job, "JobState") != "RUNNING":
        assert time.monotonic() < deadline, field(job, "Reason")
        time.sleep(0.2)
    for words in ("licenses=", "licenses=power:1", "comment=power: max=1kW", "comment="):
        done = as_alice("scontrol", "update", f"jobid={job}", words)
        assert done.returncode != 0, words
        assert "power: change refused" in done.stderr
    assert field(job, "Licenses") == "power:1000"


def test_a_hold_of_ones_own_can_be_released(sbatch: Callable[..., tuple[str, str]]) -> None:
    job, _ = sbatch("-N1", "--hold", "--comment", "power: max=2kW")
    assert as_alice("scontrol", "release", job).returncode == 0
