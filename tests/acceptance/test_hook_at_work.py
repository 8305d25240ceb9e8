# SPDX-License-Identifier: GPL-2.0-or-later
"""What users may type, on a real slurmctld: each mistake one sentence, and nothing dies of it.

What the hook answers to good input, and most of what an owner may change: integration/test_hook.py.
"""

from __future__ import annotations

import time

import pytest

from tests.acceptance import head

pytestmark = pytest.mark.lab

# comment: what its one sentence says, key, value and what is allowed
BAD = {
    "power: max": "max must be key=value",
    "power: max=": "max",
    "power: max=24": "max=24: must be a plain number above 0 with its unit",
    "power: max=24KW": "max=24KW: must be a plain number above 0 with its unit W, kW or MW",
    "power: max=24kw": "max=24kw: must be",
    "power: max=24kVA": "max=24kVA: must be",
    "power: max=2,4kW": "max=2,4kW: must be",
    "power: max=1e3kW": "max=1e3kW: must be",
    "power: max=+3kW": "max=+3kW: must be",
    "power: max=-3kW": "max=-3kW: must be",
    "power: max=0kW": "max=0kW: must be a plain number above 0",
    "power: max=NaN": "max=NaN: must be",
    "power: max=nankW": "max=nankW: must be",
    "power: max=infkW": "max=infkW: must be",
    "power: max=0x10kW": "max=0x10kW: must be",
    "power: max=3kW/rack": "max=3kW/rack: must be",
    "power: max=99999999999999999999kW": "must be at most 1,000,000,000 W",
    "power: max=2000MW": "max=2000MW: must be at most 1,000,000,000 W",
    "power: max=" + "9" * 60 + "W": "...: must be",
    "power: est=9kW max=8kW": "est=9000W: must not be above max, which is 8000 W",
    "power: headroom=3kW/node max=4kW": "headroom=3kW/node: must be",
    "power: tier=platinum": "tier=platinum: must be gold, silver or bronze",
    "power: tier=Gold": "tier=Gold: must be gold, silver or bronze",
    "power: class=nobody": "class=nobody: must be a class of this site: default",
    "power: deadline=tomorrow": "deadline=tomorrow: must be a time such as 2026-12-01T18:00",
    "power: deadline=2026-02-30T10:00": "deadline=2026-02-30T10:00: must be a time",
    "power: preempt=maybe": "preempt=maybe: must be yes or no",
    "power: burst=30s": "burst=30s: must be 1 to 3600 seconds and a power",
    "power: burst=0s@26kW": "burst=0s@26kW: must be 1 to 3600 seconds",
    "power: watts=3kW": "watts=3kW: is not a key of an envelope; allowed are est, max",
    "power: max=3kW max=4kW": "max=4kW: is given twice",
    "power: max=3kW\u00b2": "must be printable ASCII",
    "power: max=\u0664kW": "must be printable ASCII",
    "power: max=3kW\x1b[2J": "must be printable ASCII",
    "power: max=3kW\ntier=gold": "must be printable ASCII",
    "power: $(reboot) %s%s%n": "must be key=value",
    "power: max=3kW " + "x=1 " * 300: "must be at most 1,024 bytes long",
    'power: {"maxPowerKW": }': "must be one flat JSON object",
    '{"maxPowerKW": "24"}': 'maxPowerKW="24": must be a plain number of kW above 0',
    '{"maxPowerKW": -24}': "maxPowerKW=-24: must be a plain number of kW above 0",
    '{"maxPowerKW": NaN}': "maxPowerKW=NaN: must be a plain number of kW above 0",
    '{"maxPowerKW": 1e9}': "maxPowerKW=1e9: must be a plain number of kW",
    '{"maxPowerKW": 24, "maxPowerKw": 3}': "maxPowerKw=3: is not a key of an envelope; allowed",
    '{"maxPowerKW": 24, "priority": gold}': "must be gold, silver or bronze",
    '{"maxPowerKW": 24, "preemptible": "no"}': 'preemptible="no": must be true or false',
    '{"maxPowerKW": 4, "estimatedPowerKW": 5}': "must not be above max",
    '{"maxPowerKW": 4, "class": {"a": 1}}': "must be one flat JSON object",
    '{"maxPowerKW": 4': "must be one flat JSON object",
}


def test_every_bad_envelope_is_one_sentence_and_slurmctld_lives() -> None:
    before, tickets = head.pid_of("slurmctld"), set[str]()
    for number, (comment, because) in enumerate(BAD.items()):
        user = ("alice", "bob")[number % 2]
        done = head.sbatch(user, "-H", "-N1", f"--comment={comment}")
        said = [line for line in done.err.splitlines() if "power: " in line]
        assert done.status != 0, f"{comment!r} was accepted: {done.text}"
        assert done.out == "", comment
        assert len(said) == 1, f"{comment!r}: {done.text}"
        assert "power: job rejected: " in said[0], f"{comment!r}: {said[0]}"
        assert because in said[0], f"{comment!r}: {said[0]}"
        assert said[0].isprintable(), f"{comment!r}: {said[0]!r}"
        tickets.add(head.ticket(said[0]))
    assert len(tickets) == len(BAD)
    assert head.pid_of("slurmctld") == before
    assert head.queue_is_empty()
    head.wait("all of them in the ledger", lambda: tickets <= _rejected_tickets(), within_s=10)


def _rejected_tickets() -> set[str]:
    told = head.rows("show", "decision", "where", "verdict=reject", "limit=1000")
    return {each["ticket"] for each in told}


def test_every_bad_envelope_is_refused_as_a_change_as_well() -> None:
    job = head.submit("alice", "-H", "-N1", "--comment=power: max=3kW")
    for comment in list(BAD)[::6]:
        words = ("scontrol", "update", f"jobid={job}", f"comment={comment}")
        done = head.run(*words, user="alice", check=False)
        assert done.status != 0, comment
        assert "power: change refused: " in done.err, f"{comment!r}: {done.text}"
    assert head.job_field(job, "Licenses") == "power:2000"


def test_a_running_job_keeps_its_power_whatever_its_owner_asks() -> None:
    job = head.submit("alice", "-N2", "--comment=power: max=8kW tier=bronze")
    head.wait_running(job)
    refused = {
        "licenses=": "carry its power and cannot be cleared|licences of a running job",
        "licenses=power:1": "licences of a running job",
        "comment=power: max=4kW": "envelope of a running job cannot be changed",
        "comment=power: max=8kW tier=gold": "envelope of a running job cannot be changed",
        "numnodes=1": "nodes of a running job",
        "admincomment={}": "",
    }
    for words, because in refused.items():
        done = head.run("scontrol", "update", f"jobid={job}", words, user="alice", check=False)
        assert done.status != 0, words
        assert any(each in done.err for each in because.split("|")), f"{words}: {done.text}"
    assert head.job_field(job, "Licenses") == "power:3000"
    assert head.admitted(job)["tier"] == "bronze"


def test_a_pending_job_is_charged_anew_in_another_lane_and_never_less() -> None:
    job = head.submit("bob", "-H", "-N1", "--comment=power: max=3kW", "-L", "power:1")
    assert head.job_field(job, "Licenses") == "power:2000"
    for words in ("partition=cold", "timelimit=10", "numnodes=2"):
        head.run("scontrol", "update", f"jobid={job}", words, user="bob")
    assert head.job_field(job, "Partition") == "cold"
    assert head.job_field(job, "Licenses") == "power:500"
    other = head.run("scontrol", "update", f"jobid={job}", "licenses=", user="alice", check=False)
    assert other.status != 0


def test_what_is_submitted_without_a_state_is_held_and_released_when_the_broker_is_back() -> None:
    head.run("systemctl", "stop", head.BROKER)
    head.STATE_FILE.unlink()
    done = head.sbatch("alice", "-N1", "--comment=power: max=3kW tier=gold", script="sleep 30")
    assert done.status == 0, done.text
    assert "power: job accepted but held: the power state cannot be read" in done.err
    job = int(done.out)
    assert head.state(job).startswith("PENDING JobHeld")
    bad = head.sbatch("alice", "-N1", "--comment=power: max=3")
    assert (bad.status != 0, "max=3: must be" in bad.err) == (True, True), bad.text

    # It is held for power: its owner's release does not let it past the limits.
    freed = head.run("scontrol", "release", str(job), user="alice", check=False)
    assert freed.status != 0
    assert "held for power" in freed.err
    assert head.state(job).startswith("PENDING JobHeld")

    head.run("systemctl", "start", head.BROKER)
    head.wait_running(job)
    assert head.job_field(job, "Licenses") == "power:2000"
    assert head.admitted(job)["tier"] == "gold"
    assert head.admitted(job)["ticket"] == head.ticket(done.err)


def test_a_job_without_a_script_is_charged_too() -> None:
    """salloc and srun pass the hook, and their tokens are Slurm's to enforce."""
    words = ("-N1", "-L", "power:1", "scontrol", "-o", "show", "job")
    said = head.run("salloc", *words, user="alice")
    assert "charged 10.20 kW on 1 node (9,200 W tokens a node)" in said.err
    assert "Licenses=power:9200" in said.out
    begun = time.monotonic()
    ran = head.run("srun", "-N2", "--comment=power: max=5kW/node", "true", user="bob")
    assert "(4,000 W tokens a node)" in ran.err
    assert time.monotonic() - begun < 20
