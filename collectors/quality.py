# SPDX-License-Identifier: GPL-2.0-or-later
"""One device's judge and energy meter: every answer passes here before it is recorded."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from collectors.bounds import bounded
from collectors.devices import Device
from collectors.energy import Meter, metered, resumed
from collectors.plausibility import History, Limits, judge
from collectors.readings import Reading

log = logging.getLogger("powercollectord")

CONNECT_TIMEOUT_S = 5


@dataclass(frozen=True, slots=True)
class LastKnown:
    """What `latest` says of a device, so that a restart forgets no energy and believes no 0 W."""

    good_w: int | None = None
    good_at_us: int = 0
    energy_at_us: int = 0
    energy_wh: int | None = None
    energy_source: str = ""


class Judge:
    """Remembers one device from answer to answer."""

    def __init__(self, device: Device, *, interval_s: float, last: LastKnown | None = None) -> None:
        last = last or LastKnown()
        self._limits = Limits.of(device.ceiling_w, interval_s)
        self._history = History(good_w=last.good_w, good_at_us=last.good_at_us)
        self._meter: Meter = resumed(
            energy_wh=last.energy_wh,
            energy_source=last.energy_source,
            at_us=last.energy_at_us,
            power_w=last.good_w if last.good_at_us == last.energy_at_us else None,
        )

    def __call__(self, reading: Reading, *, up_time: int | None = None) -> Reading:
        """The reading with its quality and its cumulative energy."""
        reading = bounded(reading)
        judged, self._history = judge(self._history, reading, limits=self._limits, up_time=up_time)
        stored, self._meter = metered(self._meter, judged, most_w=self._limits.ceiling_w)
        return stored


def last_known(dsn: str, devices: Iterable[str]) -> dict[str, LastKnown]:
    """Of each device that ever answered; nothing when Postgres is away: no reason to wait."""
    query = (
        "SELECT device, good_power_w, (extract(epoch FROM good_at) * 1000000)::bigint,"
        " (extract(epoch FROM polled_at) * 1000000)::bigint, energy_wh, energy_source"
        " FROM latest WHERE device = ANY (%s)"
    )
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            rows = connection.execute(query, (list(devices),)).fetchall()
    except psycopg.Error as why:
        first_line = str(why).partition("\n")[0]
        log.warning("last readings are not known at start: %s", first_line)
        return {}
    return {
        device: LastKnown(good_w, good_at_us or 0, at_us or 0, energy_wh, source)
        for device, good_w, good_at_us, at_us, energy_wh, source in rows
    }
