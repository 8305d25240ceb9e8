# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger in PostgreSQL: every call one transaction, safe to call from any thread."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from broker.adapters.postgres import (
    actions,
    decisions,
    devices,
    jobs,
    reservations,
    switches,
    telemetry,
)
from broker.adapters.postgres.engine import make_engine
from broker.adapters.postgres.errors import translated
from broker.domain.cluster import Reading, Telemetry
from broker.domain.power_graph import PowerGraph
from broker.domain.reservation import PowerReservation, ReservationState
from broker.services.ports import ActionRecord, DeviceState, JobRecord, Verdict


class PostgresStore:
    """Implements the port ``Store``; what a method promises is said there."""

    def __init__(self, database: str | Engine) -> None:
        self.engine = make_engine(database) if isinstance(database, str) else database  #: to share

    def close(self) -> None:
        """Close the pooled connections; a later call opens new ones."""
        self.engine.dispose()

    @contextmanager
    def _transaction(self) -> Iterator[Session]:
        with translated(), Session(self.engine) as session, session.begin():
            yield session

    def telemetry(self, *, now: datetime, horizon_s: float) -> Telemetry:
        with self._transaction() as session:
            return telemetry.telemetry(session, since=now - timedelta(seconds=horizon_s))

    def samples(self, *, start: datetime, end: datetime) -> Iterator[Reading]:
        with self._transaction() as session:
            yield from telemetry.samples(session, start=start, end=end)

    def devices(self, names: Sequence[str] = ()) -> Sequence[DeviceState]:
        with self._transaction() as session:
            return devices.devices(session, names)

    def mode(self, default: str) -> str:
        with self._transaction() as session:
            return switches.mode(session) or default

    def set_mode(self, mode: str, *, by: str, now: datetime) -> None:
        with self._transaction() as session:
            switches.set_mode(session, mode, by=by, now=now)

    def add_reservation(
        self, reservation: PowerReservation, *, graph: PowerGraph, now: datetime, by: str
    ) -> None:
        with self._transaction() as session:
            reservations.add_reservation(session, reservation, graph=graph, now=now, by=by)

    def reservations(self, *, open_only: bool = True) -> Sequence[PowerReservation]:
        with self._transaction() as session:
            return reservations.reservations(session, open_only=open_only)

    def set_reservation_state(
        self,
        name: str,
        state: ReservationState,
        *,
        reason: str,
        now: datetime,
        by: str,
        used_at: datetime | None = None,
    ) -> None:
        with self._transaction() as session:
            reservations.set_reservation_state(
                session, name, state, reason=reason, now=now, by=by, used_at=used_at
            )

    def intend(
        self,
        kind: str,
        target: str,
        because: str,
        *,
        now: datetime,
        facts: Mapping[str, Any] | None = None,
    ) -> int:
        with self._transaction() as session:
            return actions.intend(session, kind, target, because, now=now, facts=facts)

    def confirm(self, action_id: int, *, now: datetime, outcome: str, error: str = "") -> None:
        with self._transaction() as session:
            actions.confirm(session, action_id, now=now, outcome=outcome, error=error)

    def actions(
        self,
        *,
        target: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[ActionRecord]:
        with self._transaction() as session:
            return actions.actions(session, target=target, kind=kind, since=since, limit=limit)

    def add_verdicts(self, verdicts: Iterable[Verdict], *, spool: str, offset: int) -> None:
        with self._transaction() as session:
            decisions.add_verdicts(session, verdicts, spool=spool, offset=offset)

    def spool_offset(self, spool: str) -> int:
        with self._transaction() as session:
            return decisions.spool_offset(session, spool)

    def verdicts(self, *, ticket: str | None = None, limit: int = 100) -> Sequence[Verdict]:
        with self._transaction() as session:
            return decisions.verdicts(session, ticket=ticket, limit=limit)

    def settle_jobs(self, jobs_seen: Iterable[JobRecord], *, now: datetime) -> None:
        with self._transaction() as session:
            jobs.settle_jobs(session, jobs_seen, now=now)

    def job_runs(self, *, start: datetime, end: datetime) -> Sequence[JobRecord]:
        with self._transaction() as session:
            return jobs.job_runs(session, start=start, end=end)

    def job_runs_of(self, job_id: int) -> Sequence[JobRecord]:
        with self._transaction() as session:
            return jobs.job_runs_of(session, job_id)
