# SPDX-License-Identifier: GPL-2.0-or-later
"""A ledger that hangs is away: said within the deadline, and at once from then on."""

from __future__ import annotations

import time
from threading import Event

import pytest

from broker.adapters.deadline import with_deadline
from broker.domain.errors import PowerUnavailable, StoreUnavailable


class Ledger:
    def __init__(self) -> None:
        self.awake = Event()
        self.awake.set()

    def mode(self, default: str) -> str:
        assert self.awake.wait(10)
        return default

    def refuse(self) -> None:
        raise PowerUnavailable("no watts left")

    def its_own_timeout(self) -> None:
        raise TimeoutError("mine")


def test_what_answers_in_time_is_passed_on() -> None:
    ledger = with_deadline(Ledger(), 5)

    assert ledger.mode("observe") == "observe"
    with pytest.raises(PowerUnavailable, match="no watts left"):
        ledger.refuse()
    with pytest.raises(TimeoutError, match="mine"):
        ledger.its_own_timeout()


def test_a_hung_ledger_costs_one_deadline_and_then_nothing_until_it_answers() -> None:
    real = Ledger()
    ledger = with_deadline(real, 0.05, pause_s=0.1)
    real.awake.clear()

    with pytest.raises(StoreUnavailable, match=r"did not answer mode within 0\.05 s"):
        ledger.mode("observe")
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(StoreUnavailable, match="has not answered for"):
            ledger.mode("observe")
    assert time.monotonic() - began < 0.05 * 100

    real.awake.set()
    until = time.monotonic() + 5
    while time.monotonic() < until:
        try:
            assert ledger.mode("observe") == "observe"
            return
        except StoreUnavailable:
            time.sleep(0.01)
    pytest.fail("the ledger answers again, and is still called away")
