# SPDX-License-Identifier: GPL-2.0-or-later
"""Moves records from the spool into Postgres, in its own thread: polling never waits for it."""

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta

import psycopg

from collectors.readings import Reading, Record, Silence
from collectors.spool import Spool

log = logging.getLogger("powercollectord")

CONNECT_TIMEOUT_S = 2
STATEMENT_TIMEOUT_S = 10
RETRY_AFTER_S = 1.0
HOUSEKEEPING_EVERY_S = 3600.0

_INCOMING = """
    CREATE TEMPORARY TABLE IF NOT EXISTS incoming (
        device text, kind text, polled_us bigint, active_power_w integer,
        apparent_power_va integer, energy_wh bigint, quality text, note text
    ) ON COMMIT DELETE ROWS"""

_COPY = """
    COPY incoming (device, kind, polled_us, active_power_w, apparent_power_va, energy_wh,
                   quality, note) FROM STDIN"""

# A batch whose commit was not acknowledged comes again: its rows are there already.
_STORE_SAMPLES = """
    INSERT INTO samples
        (device, polled_at, active_power_w, apparent_power_va, energy_wh, quality, note)
    SELECT device, timestamptz 'epoch' + polled_us * interval '1 microsecond',
           active_power_w, apparent_power_va, energy_wh, quality, note
    FROM incoming
    ON CONFLICT DO NOTHING"""

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
        (device, kind, polled_at, active_power_w, quality, note, good_at, good_power_w)
    SELECT device, kind, at, active_power_w, quality, note, good_at, good_power_w
    FROM newest LEFT JOIN newest_good USING (device)
    ORDER BY device
    ON CONFLICT (device) DO UPDATE SET
        kind = excluded.kind, polled_at = excluded.polled_at,
        active_power_w = excluded.active_power_w,
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


def last_good_power(dsn: str) -> dict[str, int]:
    """What each device last drew, so that a restarted collector still doubts a sudden 0 W."""
    try:
        with psycopg.connect(dsn, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            rows = connection.execute(
                "SELECT device, good_power_w FROM latest WHERE good_power_w IS NOT NULL"
            ).fetchall()
    except psycopg.Error as why:
        log.warning("sink: last readings not known at start: %s", _first_line(why))
        return {}
    return dict(rows)


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
        self._housekeeping_due_s = 0.0
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
            self._spool.done()
        except psycopg.Error as why:
            self._lost(why)
            return False
        self._recovered()
        return True

    def _store(self, records: Sequence[Record]) -> None:
        connection = self._connected()
        readings = [each for each in records if isinstance(each, Reading)]
        silences = [each for each in records if isinstance(each, Silence)]
        try:
            self._write(connection, self._with_partitions(connection, readings), silences)
        except psycopg.DataError:
            connection.rollback()
            self._store_one_by_one(connection, records)

    def _store_one_by_one(self, connection: psycopg.Connection, records: Sequence[Record]) -> None:
        """One record that Postgres will never take must not hold up all others for ever."""
        for each in records:
            try:
                if isinstance(each, Reading):
                    self._write(connection, [each], [])
                elif isinstance(each, Silence):
                    self._write(connection, [], [each])
            except psycopg.DataError as why:
                connection.rollback()
                log.error("sink: Postgres refuses %r, dropped: %s", each, _first_line(why))

    def _write(
        self,
        connection: psycopg.Connection,
        readings: Iterable[Reading],
        silences: Iterable[Silence],
    ) -> None:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(_INCOMING)
            with cursor.copy(_COPY) as copy:
                for each in readings:
                    copy.write_row(_row(each))
            cursor.execute(_STORE_SAMPLES)
            cursor.execute(_STORE_LATEST)
            for silence in silences:
                cursor.execute(_STORE_SILENCE, _silence_values(silence))

    def _with_partitions(
        self, connection: psycopg.Connection, readings: Sequence[Reading]
    ) -> list[Reading]:
        """The readings whose day has a partition; it is made for a spooled day that lacks one."""
        kept = []
        for each in readings:
            day = _utc(each.polled_at_us).date()
            if day not in self._days and self._within_retention(day):
                connection.execute("SELECT make_sample_partition(%s)", (day,))
                self._days.add(day)
            if day in self._days:
                kept.append(each)
        if len(kept) < len(readings):
            log.error(
                "sink: dropped %d readings of days not kept (keep_days %d; is the clock right?)",
                len(readings) - len(kept),
                self._keep_days,
            )
        return kept

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
        if time.monotonic() >= self._housekeeping_due_s:
            self._keep_house(self._connection)
            self._housekeeping_due_s = time.monotonic() + HOUSEKEEPING_EVERY_S
        return self._connection

    def _keep_house(self, connection: psycopg.Connection) -> None:
        connection.execute("SELECT make_sample_partitions(%s)", (self._partition_days_ahead,))
        row = connection.execute("SELECT drop_sample_partitions(%s)", (self._keep_days,)).fetchone()
        self._days.clear()
        if row and row[0]:
            log.info("sink: dropped %d day partitions older than %d days", row[0], self._keep_days)

    def _lost(self, why: psycopg.Error) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            log.warning("sink: Postgres would not take readings, spooling: %s", _first_line(why))

    def _recovered(self) -> None:
        if self._away_since_s is not None:
            away_s = time.monotonic() - self._away_since_s
            log.info("sink: Postgres is back after %.0f s, the spool is stored", away_s)
            self._away_since_s = None


def _row(reading: Reading) -> tuple[object, ...]:
    return (
        reading.device,
        reading.kind,
        reading.polled_at_us,
        reading.active_power_w,
        reading.apparent_power_va,
        reading.energy_wh,
        reading.quality.value,
        reading.note,
    )


def _silence_values(silence: Silence) -> dict[str, object]:
    return {
        "device": silence.device,
        "kind": silence.kind,
        "note": silence.note,
        "since": _utc(silence.since_us),
        "noticed_at": _utc(silence.noticed_at_us),
    }


def _utc(microseconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)


def _first_line(why: Exception) -> str:
    return (str(why).strip().splitlines() or [type(why).__name__])[0]
