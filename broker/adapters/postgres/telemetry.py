# SPDX-License-Identifier: GPL-2.0-or-later
"""What the collectors wrote, as readings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from sqlalchemy import select, true
from sqlalchemy.orm import Session

from broker.adapters.postgres.tables import LatestRow, SampleRow
from broker.domain.cluster import Quality, Reading, Telemetry

_ROWS_AT_ONCE = 2_000
# Without a limit the planner may join all devices at once and read the whole day each second;
# with it, it walks the key's index device by device. More than any horizon holds.
_MOST_PER_DEVICE = 10_000
_BELIEVABLE = [quality.value for quality in Quality if quality.believable]


def telemetry(session: Session, *, since: datetime) -> Telemetry:
    """Readings newer than ``since`` by device; of a device without one, its last answer."""
    recent = (
        select(SampleRow.polled_at, SampleRow.active_power_w, SampleRow.quality, SampleRow.note)
        .where(SampleRow.device == LatestRow.device, SampleRow.polled_at > since)
        .order_by(SampleRow.polled_at.desc())
        .limit(_MOST_PER_DEVICE)
        .lateral("recent")
    )
    last = (LatestRow.polled_at, LatestRow.active_power_w, LatestRow.quality, LatestRow.note)
    query = (
        select(LatestRow.device, *recent.c, *last)
        .outerjoin(recent, true())
        .where(LatestRow.polled_at.is_not(None))
        .order_by(LatestRow.device, recent.c.polled_at)
    )
    readings = defaultdict(list)
    for device, *columns in session.execute(query):
        answer = columns[:4] if columns[0] is not None else columns[4:]
        readings[device].append(_reading(device, *answer))
    return Telemetry({device: tuple(found) for device, found in readings.items()})


def samples(session: Session, *, start: datetime, end: datetime) -> Iterator[Reading]:
    """Believable readings with watts in ``[start, end)``, a few at a time from the server."""
    row = SampleRow
    query = (
        select(row.device, row.polled_at, row.active_power_w, row.quality, row.note)
        .where(row.polled_at >= start, row.polled_at < end)
        .where(row.active_power_w.is_not(None), row.quality.in_(_BELIEVABLE))
        .order_by(row.device, row.polled_at)
    )
    # A reader may stop early: the server's cursor is closed even so.
    with session.execute(query.execution_options(yield_per=_ROWS_AT_ONCE)) as found:
        for answer in found:
            yield _reading(*answer)


def _reading(
    device: str, polled_at: datetime, active_power_w: int | None, quality: str, note: str
) -> Reading:
    return Reading(device, polled_at, active_power_w, Quality(quality), note)
