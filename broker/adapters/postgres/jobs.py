# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs of jobs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from broker.adapters.postgres.plain import plain_text
from broker.adapters.postgres.tables import JobRow
from broker.services.ports import JobRecord

_RUNS_AT_ONCE = 1_000  # a statement takes 65,535 values
_KEY = ("job_id", "started_at")


def settle_jobs(session: Session, jobs: Iterable[JobRecord], *, now: datetime) -> None:
    """Upsert runs; of one run given twice the last counts, and an older view changes nothing."""
    # In order of the key, so that two writers cannot deadlock.
    runs = [run for _, run in sorted({(j.job_id, j.started_at): j for j in jobs}.items())]
    for first in range(0, len(runs), _RUNS_AT_ONCE):
        rows = [_values(run, now) for run in runs[first : first + _RUNS_AT_ONCE]]
        given = insert(JobRow).values(rows)
        changed = {name: given.excluded[name] for name in rows[0] if name not in _KEY}
        newer = JobRow.seen_at <= given.excluded.seen_at
        session.execute(given.on_conflict_do_update(index_elements=_KEY, set_=changed, where=newer))


def job_runs(session: Session, *, start: datetime, end: datetime) -> Sequence[JobRecord]:
    """Runs that overlap ``[start, end)``; of an instant, those that run then."""
    return _runs(
        session,
        or_(JobRow.started_at < end, JobRow.started_at <= start),
        or_(JobRow.ended_at.is_(None), JobRow.ended_at > start),
    )


def job_runs_of(session: Session, job_id: int) -> Sequence[JobRecord]:
    """Runs of one job, oldest first."""
    return _runs(session, JobRow.job_id == job_id)


def _runs(session: Session, *conditions: ColumnElement[bool]) -> list[JobRecord]:
    query = select(JobRow).where(*conditions).order_by(JobRow.started_at, JobRow.job_id)
    return [_to_record(row) for row in session.scalars(query)]


def _values(run: JobRecord, now: datetime) -> dict[str, Any]:
    return {
        "job_id": run.job_id,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "user": plain_text(run.user),
        "account": plain_text(run.account),
        "partition": run.partition,
        "nodes": list(run.nodes),
        "charge_w": run.charge_w,
        "tier": run.tier,
        "lane": run.lane,
        "state": run.state,
        "reservation": run.reservation,
        "ticket": plain_text(run.ticket),
        "seen_at": now,
    }


def _to_record(row: JobRow) -> JobRecord:
    return JobRecord(
        job_id=row.job_id,
        started_at=row.started_at,
        ended_at=row.ended_at,
        user=row.user,
        account=row.account,
        partition=row.partition,
        nodes=tuple(row.nodes),
        charge_w=row.charge_w,
        tier=row.tier,
        lane=row.lane,
        state=row.state,
        reservation=row.reservation,
        ticket=row.ticket,
    )
