# SPDX-License-Identifier: GPL-2.0-or-later
"""Verdicts of the hook, and how far its spool was read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from broker.adapters.postgres.plain import plain_facts, plain_text
from broker.adapters.postgres.tables import DecisionRow, SpoolRow
from broker.services.ports import Verdict

_VERDICTS_AT_ONCE = 1_000  # a statement takes 65,535 values
_MOST_JOB_ID = 2**32


def add_verdicts(session: Session, verdicts: Iterable[Verdict], *, spool: str, offset: int) -> None:
    """Keep verdicts, each once, together with the place in the spool."""
    rows = [_values(each) for each in verdicts]
    for first in range(0, len(rows), _VERDICTS_AT_ONCE):
        given = insert(DecisionRow).values(rows[first : first + _VERDICTS_AT_ONCE])
        session.execute(given.on_conflict_do_nothing())
    place = insert(SpoolRow).values(spool=spool, read_to=offset)
    session.execute(place.on_conflict_do_update(index_elements=["spool"], set_={"read_to": offset}))


def spool_offset(session: Session, spool: str) -> int:
    """How far a spool was read, in bytes; 0 for an unknown one."""
    return session.scalar(select(SpoolRow.read_to).where(SpoolRow.spool == spool)) or 0


def verdicts(session: Session, *, ticket: str | None, limit: int) -> Sequence[Verdict]:
    """Verdicts, newest first."""
    query = select(DecisionRow.ticket, DecisionRow.at, DecisionRow.facts)
    if ticket is not None:
        query = query.where(DecisionRow.ticket == plain_text(ticket))
    newest = query.order_by(DecisionRow.at.desc(), DecisionRow.id.desc()).limit(limit)
    return [Verdict(*row) for row in session.execute(newest)]


def _values(verdict: Verdict) -> dict[str, Any]:
    facts = plain_facts(verdict.facts)
    job_id = facts.get("job_id")
    words = ("user", "account", "verdict", "reason", "message")
    return {
        "ticket": plain_text(verdict.ticket),
        "at": verdict.at,
        "call": str(facts.get("call") or "submit"),
        "job_id": job_id if isinstance(job_id, int) and 0 < job_id < _MOST_JOB_ID else None,
        **{word: str(facts.get(word) or "") for word in words},
        "facts": facts,
    }
