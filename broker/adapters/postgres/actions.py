# SPDX-License-Identifier: GPL-2.0-or-later
"""Actions: the intent before the call, the outcome after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from broker.adapters.postgres.plain import plain_facts, plain_text
from broker.adapters.postgres.tables import ActionRow
from broker.domain.errors import BadRequest
from broker.services.ports import ActionRecord


def intend(
    session: Session,
    kind: str,
    target: str,
    because: str,
    *,
    now: datetime,
    facts: Mapping[str, Any] | None,
) -> int:
    """Write the intent; returns the action's id."""
    row = ActionRow(
        at=now,
        kind=kind,
        target=target,
        because=plain_text(because),
        facts=None if facts is None else plain_facts(facts),
        outcome="intent",
    )
    session.add(row)
    session.flush()
    return row.id


def confirm(session: Session, action_id: int, *, now: datetime, outcome: str, error: str) -> None:
    """Write what came of an action."""
    row = session.get(ActionRow, action_id, with_for_update=True)
    if row is None:
        raise BadRequest(f"no action {action_id} to confirm")
    row.outcome, row.error, row.confirmed_at = outcome, plain_text(error), now


def actions(
    session: Session,
    *,
    target: str | None,
    kind: str | None,
    since: datetime | None,
    limit: int,
) -> Sequence[ActionRecord]:
    """Actions, newest first."""
    row = ActionRow
    query = select(row)
    if target is not None:
        query = query.where(row.target == target)
    if kind is not None:
        query = query.where(row.kind == kind)
    if since is not None:
        query = query.where(row.at >= since)
    newest = query.order_by(row.at.desc(), row.id.desc()).limit(limit)
    return [_to_record(found) for found in session.scalars(newest)]


def _to_record(row: ActionRow) -> ActionRecord:
    return ActionRecord(
        action_id=row.id,
        at=row.at,
        kind=row.kind,
        target=row.target,
        because=row.because,
        outcome=row.outcome,
        error=row.error,
        facts=row.facts,
    )
