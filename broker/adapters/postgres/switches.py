# SPDX-License-Identifier: GPL-2.0-or-later
"""What operators set: it outlives the daemon."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from broker.adapters.postgres.tables import LedgerRow, SettingRow

_MODE = "mode"


def mode(session: Session) -> str | None:
    """The mode that an operator set; None when nobody did."""
    return session.scalar(select(SettingRow.value).where(SettingRow.key == _MODE))


def set_mode(session: Session, new: str, *, by: str, now: datetime) -> None:
    """Keep the mode, and who changed it from what."""
    before = mode(session)
    values = {"value": new, "set_at": now, "set_by": by}
    given = insert(SettingRow).values(key=_MODE, **values)
    session.execute(given.on_conflict_do_update(index_elements=["key"], set_=values))
    facts = {"from": before, "to": new}
    session.add(LedgerRow(at=now, event="mode", by=by, reason=f"mode={new}", facts=facts))
