# SPDX-License-Identifier: GPL-2.0-or-later
"""A refusal stops nobody else's step, and is not provoked again each second."""

from __future__ import annotations

from datetime import datetime, timedelta

from broker.domain.actions import DropReservation, SetFence
from broker.domain.errors import SlurmRefused
from broker.services.apply import ASK_AGAIN_AFTER, Apply
from broker.testing.fake_slurm import FakeSlurm
from broker.testing.memory_store import MemoryStore
from tests.support.builders import NOON

IN_USE = DropReservation("it is released", "pw-launch")
FENCE = SetFence("rack r1 is over its limit", "r1", ("n01",))


class Time:
    at = NOON

    def now(self) -> datetime:
        return self.at


class StubbornSlurm(FakeSlurm):
    """Refuses everything that is asked of reservations."""

    def delete_reservation(self, slurm_name: str) -> None:
        raise SlurmRefused("Requested reservation is in use")

    def set_fence(self, rack: str, nodes: object) -> None:
        raise SlurmRefused("no such node")


def test_what_was_refused_is_asked_again_after_a_while_and_a_fence_at_once() -> None:
    time, store = Time(), MemoryStore()
    apply = Apply(StubbornSlurm(("n01",), now=time.now), store, time)

    assert [bool(each.error) for each in apply([IN_USE, FENCE])] == [True, True]
    time.at += timedelta(seconds=1)
    assert [each.action for each in apply([IN_USE, FENCE])] == [FENCE]
    time.at += ASK_AGAIN_AFTER
    assert [each.action for each in apply([IN_USE])] == [IN_USE]

    rows = store.actions(target="pw-launch")
    assert [row.outcome for row in rows] == ["refused", "refused"]
    assert rows[0].error == "Requested reservation is in use"
