# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps the tables: minutes and hours, days ahead, days closed, days dropped.

In a thread with a connection of its own, for some of it takes long. Every collector does it; what
must not be done twice at once is guarded by a lock in the database.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg

from collectors import metrics

log = logging.getLogger("powercollectord")

ROLL_UP_EVERY_S = 10.0
TABLES_EVERY_S = 600.0
SETTLED_AFTER_S = 5.0  #: a bucket is rolled up when its end is this long ago
CLOSED_AFTER = timedelta(hours=3)  #: of a day's end; later ones are stored all the same
_BUCKETS_AT_ONCE = 30  #: per transaction
_LONGEST_S = 3600


class Housekeeping(threading.Thread):
    """Looks after the tables until told to stop; a Postgres that is away is asked again."""

    def __init__(
        self,
        *,
        dsn: str,
        hold_s: float,
        partition_days_ahead: int,
        keep_days: int,
        keep_minutes_days: int,
        keep_hours_days: int,
    ) -> None:
        super().__init__(name="housekeeping", daemon=True)
        self._dsn = dsn
        self._hold_s = hold_s  #: a reading is taken for true this long when no other follows
        self._partition_days_ahead = partition_days_ahead
        self._keep_days = keep_days
        self._keep_minutes_days = keep_minutes_days
        self._keep_hours_days = keep_hours_days
        self._stopping = threading.Event()
        self._tables_due_s = 0.0
        self._complained = False

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._keep_while_it_lasts()
            except psycopg.Error as why:
                if not self._complained:
                    log.warning("housekeeping: %s", str(why).strip().splitlines()[0])
                self._complained = True
            self._stopping.wait(ROLL_UP_EVERY_S)

    def stop(self) -> None:
        """What is under way may be cut off: it is done again by whoever comes next."""
        self._stopping.set()

    def keep(self, connection: psycopg.Connection, closed: datetime | None = None) -> None:
        """One round: all that is due, up to the time `closed`."""
        if time.monotonic() >= self._tables_due_s:
            self._keep_tables(connection)
            self._tables_due_s = time.monotonic() + TABLES_EVERY_S
        until = closed or datetime.now(UTC) - timedelta(seconds=SETTLED_AFTER_S)
        for level in ("minutes", "hours"):
            self._repeat(lambda level=level: self._roll_up(connection, level, until))  # type: ignore[misc]

    def _keep_while_it_lasts(self) -> None:
        with psycopg.connect(
            self._dsn,
            autocommit=True,
            connect_timeout=2,
            application_name="powercollectord housekeeping",
            options=f"-c statement_timeout={_LONGEST_S}s",
        ) as connection:
            while not self._stopping.is_set():
                self.keep(connection)
                self._complained = False
                self._stopping.wait(ROLL_UP_EVERY_S)

    def _repeat(self, once: Callable[[], int]) -> None:
        while not self._stopping.is_set() and once():
            pass

    def _roll_up(self, connection: psycopg.Connection, level: str, until: datetime) -> int:
        row = connection.execute(
            "SELECT roll_up(%s, %s, %s, %s)", (level, until, self._hold_s, _BUCKETS_AT_ONCE)
        ).fetchone()
        count: int = row[0] if row else 0
        metrics.rolled_up(level, count)
        return count

    def _keep_tables(self, connection: psycopg.Connection) -> None:
        connection.execute("SELECT make_sample_partitions(%s)", (self._partition_days_ahead,))
        for what, statement, values in (
            ("days of readings", "SELECT drop_sample_partitions(%s)", (self._keep_days,)),
            (
                "months of minutes and years of hours",
                "SELECT drop_rollup_partitions(%s, %s)",
                (self._keep_minutes_days, self._keep_hours_days),
            ),
        ):
            row = connection.execute(statement, values).fetchone()
            if row and row[0]:
                log.info("housekeeping: dropped %d %s", row[0], what)
        self._close_days(connection)

    def _close_days(self, connection: psycopg.Connection) -> None:
        while not self._stopping.is_set():
            try:
                row = connection.execute("SELECT close_sample_day(%s)", (CLOSED_AFTER,)).fetchone()
            except psycopg.errors.LockNotAvailable:
                return  # somebody reads that day: next time
            if not row or row[0] is None:
                return
            log.info("housekeeping: closed the day %s", row[0])
