# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves records from the spool into Postgres, in its own thread: polling never waits for it."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import psycopg

from collectors import metrics
from collectors.copying import COPY, INCOMING, copy_text, storable
from collectors.readings import Identity, Layout, Reading, Record, Silence
from collectors.spool import Spool

log = logging.getLogger("powercollectord")

CONNECT_TIMEOUT_S = 2
STATEMENT_TIMEOUT_S = 10
RETRY_AFTER_S = 1.0
_DAYS_KNOWN_FOR_S = 3600.0
_DAY_US = 86_400_000_000
_REFUSED = (psycopg.DataError, psycopg.IntegrityError)

# A batch whose commit was not acknowledged comes again: its rows are there already.
_STORE_SAMPLES = """
    WITH stored AS (
        INSERT INTO samples (device, polled_at, active_power_w, apparent_power_va, energy_wh,
                             quality, note, layout, vals, energy_source)
        SELECT device, timestamptz 'epoch' + polled_us * interval '1 microsecond',
               active_power_w, apparent_power_va, energy_wh,
               quality, note, layout, vals, energy_source
        FROM incoming
        ON CONFLICT DO NOTHING
        RETURNING polled_at
    )
    INSERT INTO rollups_due
    SELECT DISTINCT 'minutes', date_bin('1 minute', polled_at, 'epoch') FROM stored"""

# Late records (a spool drained after a restart) never turn `latest` back.
_STORE_LATEST = """
    WITH answers AS (
        SELECT *, timestamptz 'epoch' + polled_us * interval '1 microsecond' AS at FROM incoming
    ), newest AS (
        SELECT DISTINCT ON (device) * FROM answers ORDER BY device, at DESC
    ), newest_good AS (
        SELECT DISTINCT ON (device) device, at AS good_at, active_power_w AS good_power_w
        FROM answers WHERE quality = 'good' ORDER BY device, at DESC
    )
    INSERT INTO latest AS l
        (device, kind, polled_at, active_power_w, apparent_power_va, energy_wh, quality, note,
         layout, vals, energy_source, good_at, good_power_w)
    SELECT device, kind, at, active_power_w, apparent_power_va, energy_wh, quality, note,
           layout, vals, energy_source, good_at, good_power_w
    FROM newest LEFT JOIN newest_good USING (device)
    ORDER BY device
    ON CONFLICT (device) DO UPDATE SET
        kind = excluded.kind, polled_at = excluded.polled_at,
        active_power_w = excluded.active_power_w,
        apparent_power_va = excluded.apparent_power_va, energy_wh = excluded.energy_wh,
        layout = excluded.layout, vals = excluded.vals, energy_source = excluded.energy_source,
        quality = excluded.quality, note = excluded.note,
        good_at = coalesce(excluded.good_at, l.good_at),
        good_power_w = coalesce(excluded.good_power_w, l.good_power_w),
        silent_since = NULL
    WHERE l.polled_at IS NULL OR l.polled_at < excluded.polled_at"""

_STORE_SILENCE = """
    INSERT INTO latest AS l (device, kind, note, silent_since)
    VALUES (%(device)s, %(kind)s, %(note)s, %(since)s)
    ON CONFLICT (device) DO UPDATE SET
        silent_since = coalesce(l.silent_since, excluded.silent_since), note = excluded.note
    WHERE l.polled_at IS NULL OR l.polled_at < %(noticed_at)s"""

_STORE_IDENTITY = """
    INSERT INTO latest AS l (device, kind, profile, sys_object_id, description)
    VALUES (%(device)s, %(kind)s, %(profile)s, %(sys_object_id)s, %(description)s)
    ON CONFLICT (device) DO UPDATE SET
        profile = excluded.profile, sys_object_id = excluded.sys_object_id,
        description = excluded.description"""


class Sink(threading.Thread):
    """Drains the spool; while Postgres is away the spool just grows."""

    def __init__(
        self,
        spool: Spool,
        *,
        dsn: str,
        flush_s: float,
        partition_days_ahead: int,
        keep_days: int,
    ) -> None:
        super().__init__(name="sink", daemon=True)
        self._spool = spool
        self._dsn = dsn
        self._flush_s = flush_s
        self._partition_days_ahead = partition_days_ahead
        self._keep_days = keep_days
        self._stopping = threading.Event()
        self._connection: psycopg.Connection | None = None
        self._days: set[date] = set()  #: days known to have a partition
        self._days_known_until_s = 0.0
        self._layouts: dict[Layout, int] = {}
        self._away_since_s: float | None = None

    def run(self) -> None:
        while not self._stopping.is_set():
            self._spool.arrived.wait()
            self._spool.arrived.clear()
            self._stopping.wait(self._flush_s)  # what arrives meanwhile shares the transaction
            while not self._drained() and not self._stopping.is_set():
                self._stopping.wait(RETRY_AFTER_S)
                self._spool.sync()
        if not self._drained():
            log.info("sink: %d bytes stay in the spool", self._spool.backlog_bytes())
        if self._connection is not None:
            self._connection.close()

    def stop(self, *, within_s: float) -> None:
        """Store what is left if Postgres takes it in time; the spool keeps it otherwise."""
        self._stopping.set()
        self._spool.arrived.set()
        self.join(within_s)

    def _drained(self) -> bool:
        """Store all there is; False when Postgres would not have it."""
        try:
            while records := self._spool.take():
                self._store(records)
                self._spool.done()
                answered = (each.polled_at_us for each in records if isinstance(each, Reading))
                metrics.stored(len(records), min(answered, default=None))
            self._spool.done()
        except psycopg.Error as why:
            self._lost(why)
            return False
        self._recovered()
        return True

    def _store(self, records: Sequence[Record]) -> None:
        connection = self._connected()
        readings = [each for each in records if isinstance(each, Reading)]
        others = [each for each in records if not isinstance(each, Reading)]
        try:
            self._write(connection, self._with_partitions(connection, readings), others)
        except _REFUSED:
            connection.rollback()
            self._store_one_by_one(connection, records)

    def _store_one_by_one(self, connection: psycopg.Connection, records: Sequence[Record]) -> None:
        """One record that Postgres will never take must not hold up all others for ever."""
        for each in records:
            try:
                if isinstance(each, Reading):
                    fitting = replace(each, values=storable(each))
                    self._write(connection, self._with_partitions(connection, [fitting]), [])
                else:
                    self._write(connection, [], [each])
            except _REFUSED as why:
                connection.rollback()
                log.error("sink: Postgres refuses %r, dropped: %s", each, _first_line(why))

    def _write(
        self,
        connection: psycopg.Connection,
        readings: Sequence[Reading],
        others: Iterable[Silence | Identity],
    ) -> None:
        self._number_layouts(connection, readings)
        with connection.transaction(), connection.cursor() as cursor:
            if readings:
                with cursor.copy(COPY) as copy:
                    copy.write(copy_text(readings, self._layouts))
                cursor.execute(_STORE_SAMPLES)
                cursor.execute(_STORE_LATEST)
            for each in others:
                if isinstance(each, Silence):
                    cursor.execute(_STORE_SILENCE, _silence_values(each))
                else:
                    cursor.execute(_STORE_IDENTITY, _identity_values(each))

    def _number_layouts(self, connection: psycopg.Connection, readings: Sequence[Reading]) -> None:
        """Before the readings, in a transaction of its own: what is kept here must be there."""
        for layout in {each.layout for each in readings if each.layout} - self._layouts.keys():
            row = connection.execute("SELECT layout_number(%s)", (list(layout),)).fetchone()
            assert row is not None
            self._layouts[layout] = row[0]

    def _with_partitions(
        self, connection: psycopg.Connection, readings: Sequence[Reading]
    ) -> list[Reading]:
        """The readings whose day has a partition; it is made for a spooled day that lacks one."""
        kept: list[Reading] = []
        if time.monotonic() >= self._days_known_until_s:  # one may have been dropped meanwhile
            self._days.clear()
            self._days_known_until_s = time.monotonic() + _DAYS_KNOWN_FOR_S
        by_day: dict[int, list[Reading]] = {}
        for each in readings:
            by_day.setdefault(each.polled_at_us // _DAY_US, []).append(each)
        for number, of_day in by_day.items():
            if self._has_partition(connection, number):
                kept += of_day
        if len(kept) < len(readings):
            log.error(
                "sink: dropped %d readings of days not kept (keep_days %d; is the clock right?)",
                len(readings) - len(kept),
                self._keep_days,
            )
        return kept

    def _has_partition(self, connection: psycopg.Connection, number: int) -> bool:
        try:
            day = date(1970, 1, 1) + timedelta(days=number)
        except OverflowError:
            return False
        if not self._within_retention(day):
            return False
        if day not in self._days:
            connection.execute("SELECT make_sample_partition(%s)", (day,))
            self._days.add(day)
        return True

    def _within_retention(self, day: date) -> bool:
        today = datetime.now(UTC).date()
        oldest = today - timedelta(days=self._keep_days)
        return oldest <= day <= today + timedelta(days=self._partition_days_ahead)

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=CONNECT_TIMEOUT_S,
                application_name="powercollectord",
                options=f"-c statement_timeout={STATEMENT_TIMEOUT_S}s",
            )
            self._connection.execute(INCOMING)
            self._layouts.clear()  # it may be another database
        return self._connection

    def _lost(self, why: psycopg.Error) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            metrics.postgres_away(True)
            log.warning("sink: Postgres would not take readings, spooling: %s", _first_line(why))

    def _recovered(self) -> None:
        if self._away_since_s is not None:
            away_s = time.monotonic() - self._away_since_s
            log.info("sink: Postgres is back after %.0f s, the spool is stored", away_s)
            self._away_since_s = None
            metrics.postgres_away(False)


def _silence_values(silence: Silence) -> dict[str, object]:
    return {
        "device": silence.device,
        "kind": silence.kind,
        "note": silence.note,
        "since": _utc(silence.since_us),
        "noticed_at": _utc(silence.noticed_at_us),
    }


def _identity_values(identity: Identity) -> dict[str, object]:
    return {
        "device": identity.device,
        "kind": identity.kind,
        "profile": identity.profile,
        "sys_object_id": identity.sys_object_id,
        "description": identity.description,
    }


def _utc(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)


def _first_line(why: Exception) -> str:
    return (str(why).strip().splitlines() or [type(why).__name__])[0]
