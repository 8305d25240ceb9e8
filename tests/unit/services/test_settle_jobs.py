# SPDX-License-Identifier: GPL-2.0-or-later
"""Every run of every job is kept, each once."""

from __future__ import annotations

from datetime import timedelta

import pytest

from broker.domain.admission_state import Switches
from broker.domain.cluster import JobState, SlurmJob
from broker.domain.errors import StoreUnavailable
from broker.services.publish import Site
from broker.services.settle_jobs import SettleJobs
from broker.testing.memory_store import MemoryStore
from tests.support.builders import A_MINUTE, GRAPH, NOON, RULES, a_job, a_pending_job, a_view

SITE = Site(cluster="lab", graph=GRAPH, rules=RULES, switches=Switches(), admins=())


class Book:
    def __init__(self) -> None:
        self.store = MemoryStore()
        self.settle = SettleJobs(SITE, self.store)

    def see(self, *jobs: SlurmJob, minute: int = 0) -> int:
        return self.settle(a_view(jobs, now=NOON + minute * A_MINUTE))

    def runs(self) -> list[tuple[int, str, timedelta | None]]:
        found = self.store.job_runs(start=NOON - timedelta(days=1), end=NOON + timedelta(days=1))
        return sorted(
            (each.job_id, each.state, each.ended_at and each.ended_at - NOON) for each in found
        )


def test_a_run_is_written_when_it_begins_and_not_again() -> None:
    book = Book()

    assert book.see(a_job(1), a_pending_job(2)) == 1
    assert book.see(a_job(1), a_pending_job(2), minute=1) == 0
    assert book.runs() == [(1, "RUNNING", None)]


def test_a_run_ends_with_slurm_s_own_word() -> None:
    book = Book()
    book.see(a_job(1))

    ended = a_job(1, state=JobState.ENDED, slurm_state="NODE_FAIL", ended_at=NOON + A_MINUTE)
    book.see(ended, minute=2)

    assert book.runs() == [(1, "NODE_FAIL", A_MINUTE)]
    assert book.see(minute=9) == 0


def test_while_it_completes_it_has_not_ended() -> None:
    book = Book()
    book.see(a_job(1, state=JobState.COMPLETING, ended_at=NOON))

    assert book.runs() == [(1, "COMPLETING", None)]


def test_one_that_vanished_has_ended() -> None:
    book = Book()
    book.see(a_job(1))
    book.see(minute=3)

    assert book.runs() == [(1, "ENDED", 3 * A_MINUTE)]


def test_a_requeued_job_has_two_runs() -> None:
    book = Book()
    book.see(a_job(1))
    book.see(a_pending_job(1), minute=1)
    book.see(a_job(1, started_at=NOON + 2 * A_MINUTE), minute=2)

    assert book.runs() == [(1, "ENDED", A_MINUTE), (1, "RUNNING", None)]


def test_a_run_that_ended_while_no_broker_ran_is_closed() -> None:
    book = Book()
    book.see(a_job(1), a_job(2, "n02"))
    book.settle = SettleJobs(SITE, book.store)

    book.see(a_job(2, "n02"), minute=5)

    assert book.runs() == [(1, "ENDED", 5 * A_MINUTE), (2, "RUNNING", None)]


def test_the_ledger_away_nothing_is_forgotten() -> None:
    book = Book()
    book.see(a_job(1))
    book.store.away = "connection refused"
    with pytest.raises(StoreUnavailable):
        book.see(a_job(2, "n02"), minute=1)
    book.store.away = ""

    book.see(a_job(2, "n02"), minute=2)

    assert book.runs() == [(1, "ENDED", 2 * A_MINUTE), (2, "RUNNING", None)]
