# SPDX-License-Identifier: GPL-2.0-or-later
"""The meters as they answered last (the collectors write it)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ARRAY, Integer, Text, column, select, table
from sqlalchemy.orm import Session

from broker.adapters.postgres.tables import LatestRow
from broker.services.ports import DeviceState

_LAYOUTS = table("layouts", column("layout_id", Integer), column("names", ARRAY(Text)))


def devices(session: Session, names: Sequence[str] = ()) -> list[DeviceState]:
    """By name; values are None where the device told none."""
    query = (
        select(LatestRow, _LAYOUTS.c.names)
        .outerjoin(_LAYOUTS, _LAYOUTS.c.layout_id == LatestRow.layout)
        .order_by(LatestRow.device)
    )
    if names:
        query = query.where(LatestRow.device.in_(names))
    return [_state(row, layout) for row, layout in session.execute(query)]


def _state(row: LatestRow, layout: list[str] | None) -> DeviceState:
    return DeviceState(
        name=row.device,
        kind=row.kind,
        polled_at=row.polled_at,
        active_power_w=row.active_power_w,
        quality=row.quality,
        note=row.note,
        silent_since=row.silent_since,
        energy_wh=row.energy_wh,
        energy_source=row.energy_source,
        profile=row.profile,
        sys_object_id=row.sys_object_id,
        description=row.description,
        values=_values(layout, row.vals),
    )


def _values(
    layout: list[str] | None, found: Sequence[float | None] | None
) -> Mapping[str, float | None]:
    return dict(zip(layout or (), found or (), strict=False))
