# SPDX-License-Identifier: GPL-2.0-or-later
"""A rack that nobody sees counts as full: fenced, nothing shed, the others go on."""

from __future__ import annotations

import pytest

from tests.acceptance import head, oracle

pytestmark = pytest.mark.lab

BLINDED = {
    "one feed is silent": ["mute r4.B"],
    "both feeds are silent": ["mute r4.A", "mute r4.B"],
    "a feed says that it cannot tell": ["lie r4.A -1"],
    "a feed says what no breaker lets through": ["lie r4.B 999999W"],
}


@pytest.mark.parametrize("commands", BLINDED.values(), ids=BLINDED.keys())
def test_a_rack_that_is_not_seen_counts_as_full_until_it_is(commands: list[str]) -> None:
    inside = _job("bob", "n13", tier="bronze", load="9kW")
    elsewhere = _job("bob", "n01", tier="bronze", load="9kW")
    head.wait_running(inside, elsewhere)
    sheds = len(head.actions("kind=ShedJob"))

    with oracle.watching():
        for command in commands:
            head.fleet(*command.split())
        head.wait("it to count as unseen", lambda: head.rack("r4")["state"] == "unseen")
        head.wait("its fence", lambda: head.fenced("r4"))
        assert head.rack("r4")["headroom_w"] <= 0
        kept_out = _job("alice", "n14")
        let_in = head.submit("alice", "--exclude=n[13-16]", "--comment=power: max=10kW")
        head.wait_running(let_in)
        assert not head.is_running(kept_out)
        assert head.is_running(inside)
        assert head.is_running(elsewhere)

        head.fleet("reset")
        head.wait("it to be seen", lambda: head.rack("r4")["state"] == "ok")
        head.wait_running(kept_out)
    assert head.restarts(inside) == 0
    assert len(head.actions("kind=ShedJob")) == sheds


def _job(user: str, node: str, *, tier: str = "silver", load: str = "") -> int:
    return head.submit(user, "-w", node, f"--comment=power: max=10kW tier={tier}", load=load)
