# SPDX-License-Identifier: GPL-2.0-or-later
"""off, observe, enforce: what is the broker's in Slurm goes and comes with them."""

from __future__ import annotations

import pytest

from tests.acceptance import head

pytestmark = pytest.mark.lab


def test_observing_leaves_slurm_alone_and_says_what_would_be_done() -> None:
    held = head.submit("alice", "-N1", "--comment=power: max=3kW")
    head.wait_running(held)
    _reserve("launch")
    _mode("observe")
    head.wait("nothing of ours in Slurm", _slurm_is_bare)
    assert head.is_running(held)
    done = head.sbatch("bob", "-N12", "--comment=power: max=10kW/node")
    assert (done.status, "power:" in done.text) == (0, False), "it would never fit"
    free = int(done.out)
    head.wait_running(free)
    assert head.job_field(free, "Licenses") == "(null)"
    wait_for = {"verdict": "reject", "reason": "ExceedsSafeLimit"}
    head.wait("its verdict, noted all the same", lambda: _newest_decision(wait_for))

    head.fleet("extra", "r1", "40kW")
    head.wait("it to say what it would do", lambda: "would SetFence r1" in _sentence())
    head.stays("no fence", lambda: not head.fences(), for_s=2)
    assert "would" in head.run("journalctl", "-u", head.BROKER, "-n", "50", "-o", "cat").out
    assert head.is_running(held)


def test_off_takes_everything_away_and_enforcing_again_charges_what_runs() -> None:
    running = head.submit("alice", "-N2", "--comment=power: max=8kW tier=bronze")
    head.wait_running(running)
    head.fleet("mute", "r4.A")
    _reserve("launch")
    head.wait("a fence", lambda: head.fenced("r4"))
    # Four nodes' tokens are more than two racks of a row have left: it waits for watts.
    waiting = [head.submit("bob", "-N1", "-w", f"n{n:02d}") for n in (5, 6, 7, 8)]
    pending = head.wait(
        "one to wait for watts", lambda: [j for j in waiting if not head.is_running(j)]
    )

    _mode("off")
    head.wait("nothing of ours in Slurm", _slurm_is_bare)
    assert head.is_running(running)
    assert head.job_field(running, "Licenses") == "(null)"
    head.wait_running(*pending)
    unseen = head.sbatch("alice", "-N1", "-w", "n13", "--comment=power: max=oops")
    assert (unseen.status, unseen.err) == (0, ""), "the hook says nothing while off"
    stranger = int(unseen.out)
    head.wait_running(stranger)

    head.fleet("reset")
    _mode("enforce")
    head.wait("layers in Slurm", head.layers_in_slurm)
    head.wait("its tokens back", lambda: head.job_field(running, "Licenses") == "power:3000")
    for job in (*waiting, stranger):
        head.wait(
            "its maximum charged", lambda job=job: head.job_field(job, "Licenses") == "power:9200"
        )
    # Four undeclared jobs hold 36.8 kW of 28 kW: nobody is killed for it, and nobody new is let in.
    assert all(head.is_running(job) for job in (running, stranger, *waiting))
    head.wait("the rack to count as full", lambda: head.rack("r2")["headroom_w"] < 0)
    head.wait("its fence", lambda: head.fenced("r2"))


def _mode(name: str) -> None:
    done = head.powermgr("-i", "modify", "broker", f"mode={name}")
    assert done.status == 0, done.text
    head.wait(f"mode {name}", lambda: head.rows("show", "broker")[0]["mode"] == name)


def _reserve(name: str) -> None:
    words = ("rack=r3", "watts=6kW", "nodes=1", "start=now", "duration=30", "account=ml")
    assert head.powermgr("-i", "add", "reservation", f"name={name}", *words).status == 0
    head.wait("it in Slurm", lambda: f"pw-{name}" in head.slurm_reservations())


def _slurm_is_bare() -> bool:
    ours = [name for name in head.slurm_reservations() if name.startswith("pw-")]
    tokens = head.run("squeue", "-h", "-o", "%W").out
    return not ours and not head.layers_in_slurm() and "power" not in tokens


def _sentence() -> str:
    return str(head.rows("show", "broker")[0]["last_sentence"])


def _newest_decision(facts: dict[str, str]) -> bool:
    newest = head.rows("show", "decision", "limit=1")[0]
    return all(newest[key] == value for key, value in facts.items())
