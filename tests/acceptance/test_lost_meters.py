# SPDX-License-Identifier: GPL-2.0-or-later
"""A rack that nobody sees counts as full: fenced, nothing shed, the others go on."""

from __future__ import annotations

import pytest

from tests.acceptance import head, oracle

pytestmark = pytest.mark.lab

# Of two rows, so that the site still has room beside two racks at their upper bound.
BLINDED = {
    "one feed of each is silent": ["mute r4.B", "mute r2.A"],
    "both feeds are silent, a feed says too much": ["mute r4.A", "mute r4.B", "lie r2.B 999999W"],
}


@pytest.mark.parametrize("commands", BLINDED.values(), ids=BLINDED.keys())
def test_racks_that_are_not_seen_count_as_full_until_they_are(commands: list[str]) -> None:
    inside = [_job("bob", node, max_w=10_000, load="9kW") for node in ("n05", "n13")]
    elsewhere = _job("bob", "n01", max_w=4_000, load="3kW")
    head.wait_running(*inside, elsewhere)
    sheds = len(head.actions("kind=ShedJob"))

    with oracle.watching():
        for command in commands:
            head.fleet(*command.split())
        for rack in ("r2", "r4"):
            head.wait("it to count as unseen", lambda rack=rack: _state(rack) == "unseen")
            head.wait("its fence", lambda rack=rack: head.fenced(rack))
            assert head.rack(rack)["headroom_w"] <= 0
        kept_out = [_job("alice", node) for node in ("n06", "n14")]
        let_in = head.submit("alice", "--exclude=n[05-08,13-16]", "--comment=power: max=4kW")
        head.wait_running(let_in)
        assert not [job for job in kept_out if head.is_running(job)]
        assert all(head.is_running(job) for job in (*inside, elsewhere))

        head.fleet("reset")
        head.wait("both to be seen", lambda: {_state("r2"), _state("r4")} <= {"ok", "full"})
        head.wait_running(*kept_out)
    assert not [job for job in inside if head.restarts(job)]
    assert len(head.actions("kind=ShedJob")) == sheds


def test_a_total_that_stays_not_supported_is_replaced_by_the_phases() -> None:
    # One that looked at a calm moment reads the total.
    head.run("systemctl", "stop", head.COLLECTOR)
    [[stopped]] = head.sql("select now()")
    head.run("systemctl", "start", head.COLLECTOR)
    since = f"select count(*) from samples where device = 'r2.A' and polled_at > '{stopped}'"
    head.wait("it to be polled again", lambda: int(head.sql(since)[0][0]) >= 2)

    head.fleet("lie", "r2.A", "-1")
    head.wait("it to count as unseen", lambda: _state("r2") == "unseen")

    head.wait("its phases to be read", lambda: _state("r2") == "ok", within_s=100)

    device = next(row for row in head.rows("show", "device") if row["name"] == "r2.A")
    assert device["quality"] == "good"
    assert 0.9 * device["draw_w"] < head.rack("r2")["draw_w"] / 2 < 1.1 * device["draw_w"]
    head.fleet("reset")


def _state(rack: str) -> str:
    return str(head.rack(rack)["state"])


def _job(user: str, node: str, *, max_w: int = 4_000, load: str = "") -> int:
    comment = f"--comment=power: max={max_w}W tier=bronze"
    return head.submit(user, "-w", node, comment, load=load)
