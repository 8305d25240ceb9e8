# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m tests.bench.storage`: what it costs to keep readings, beside a row per sensor.

A reading is one sensor's value; a device's poll brings eight: W, VA and Wh in columns, five named
values in an array. Postgres is a server of its own, durable as delivered (fsync on).
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

import migrations
from collectors.readings import Quality, Reading
from collectors.sink import Sink
from collectors.spool import Spool
from tests.support import postgres

LAYOUT = (
    "total.power_factor",
    "phase.L1.current_a",
    "phase.L2.current_a",
    "phase.L3.current_a",
    "phase.L1.voltage_v",
)
VALUES = 3 + len(LAYOUT)
_TICKS = os.sysconf("SC_CLK_TCK")

_PER_SENSOR = """
    CREATE TABLE sensor_rows (
        device text NOT NULL, sensor text NOT NULL, polled_at timestamptz NOT NULL,
        value real, quality text NOT NULL, PRIMARY KEY (device, sensor, polled_at))"""
_INSERT_SENSOR = "INSERT INTO sensor_rows VALUES (%s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"


def a_reading(device: int, second: int, start_us: int) -> Reading:
    """Values as they come: noisy, so that nothing compresses by chance."""
    power_w = 4_000 + (device * 7919 + second * 104_729) % 2_000
    amps = power_w / 690
    values = (0.97, round(amps, 2), round(amps * 1.01, 2), round(amps * 0.98, 2), 230.1)
    at_us = start_us + second * 1_000_000 + device * 150
    return Reading(
        *(f"r{device // 2}.{'AB'[device % 2]}", "pdu", at_us, power_w, int(power_w / 0.97)),
        1_000_000 + second,
        Quality.GOOD,
        "",
        LAYOUT,
        values,
        "counter",
    )


@dataclass(slots=True)
class Spent:
    wall_s: float = 0.0
    here_s: float = 0.0
    postgres_s: float = 0.0

    @property
    def cores(self) -> float:
        return (self.here_s + self.postgres_s) / self.wall_s


@contextmanager
def spent(postmaster: int) -> Iterator[Spent]:
    """CPU of this process and of the server with all that it started."""
    found = Spent()
    wall_s, here_s, there_s = time.monotonic(), _here_s(), _server_s(postmaster)
    yield found
    found.wall_s = time.monotonic() - wall_s
    found.here_s, found.postgres_s = _here_s() - here_s, _server_s(postmaster) - there_s


def _here_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _server_s(postmaster: int) -> float:
    """Its own, that of children that ended (they are waited for), and of those alive."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    return sum(_ticks(postmaster)) / _TICKS + sum(sum(_ticks(int(c))) for c in children) / _TICKS


def _ticks(pid: int) -> tuple[int, ...]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return (0,)
    return tuple(int(each) for each in stat[11:15])


def start_us_of(days_ago: int) -> int:
    day = datetime.now(UTC).replace(hour=6, minute=0, second=0, microsecond=0)
    return int((day - timedelta(days=days_ago)).timestamp()) * 1_000_000


def a_sink(spool: Spool, dsn: str) -> Sink:
    return Sink(spool, dsn=dsn, flush_s=0.2, partition_days_ahead=2, keep_days=10)


def steady(dsn: str, postmaster: int, folder: Path, *, devices: int, seconds: int) -> None:
    """Every device once a second, in real time."""
    spool = Spool(folder / "steady", max_bytes=2**30)
    sink = a_sink(spool, dsn)
    sink.start()
    with spent(postmaster) as cost:
        begun = time.monotonic()
        for second in range(seconds):
            now_us = time.time_ns() // 1000 - second * 1_000_000
            for device in range(devices):
                spool.append(a_reading(device, second, now_us))
            time.sleep(max(begun + second + 1 - time.monotonic(), 0))
        sink.stop(within_s=30)
    rate = devices * seconds * VALUES / cost.wall_s
    _say("live, samples", rate, cost)
    spool.close()


def backfill(dsn: str, postmaster: int, folder: Path, *, devices: int, seconds: int) -> None:
    spool = Spool(folder / "backfill", max_bytes=2**33)
    start_us = start_us_of(1)
    with spent(postmaster) as cost:
        for second in range(seconds):
            for device in range(devices):
                spool.append(a_reading(device, second, start_us))
    readings = devices * seconds * VALUES
    size = spool.backlog_bytes()
    print(
        f"spool: {readings / cost.wall_s:,.0f} readings/s written, {size / readings:.1f} bytes each"
    )
    sink = a_sink(spool, dsn)
    with spent(postmaster) as cost:
        sink.start()
        sink.stop(within_s=1)  # it drains all there is before it ends
        sink.join()
    _say("backfill, samples", readings / cost.wall_s, cost)
    spool.close()


def rivals(dsn: str, postmaster: int, *, devices: int, seconds: int) -> None:
    """The same values, a row for each sensor: by COPY into a staging table, and by INSERT."""
    names = ("active_power_w", "apparent_power_va", "energy_wh", *LAYOUT)

    def rows(start_us: int, length: int) -> Iterator[tuple[object, ...]]:
        for second in range(length):
            for device in range(devices):
                each = a_reading(device, second, start_us)
                at = datetime.fromtimestamp(each.polled_at_us / 1e6, UTC)
                first = (each.active_power_w, each.apparent_power_va, each.energy_wh)
                for name, value in zip(names, (*first, *each.values), strict=True):
                    yield each.device, name, at, value, "good"

    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        cursor.execute(_PER_SENSOR)
        cursor.execute("CREATE TEMPORARY TABLE staged (LIKE sensor_rows) ON COMMIT DELETE ROWS")
        connection.commit()
        with spent(postmaster) as cost:
            for second in range(0, seconds, 2):
                with cursor.copy("COPY staged FROM STDIN") as copy:
                    for row in rows(start_us_of(1) + second * 1_000_000, min(2, seconds - second)):
                        copy.write_row(row)
                cursor.execute(
                    "INSERT INTO sensor_rows SELECT * FROM staged ON CONFLICT DO NOTHING"
                )
                connection.commit()
        _say("rival: row per sensor, COPY", devices * seconds * VALUES / cost.wall_s, cost)
        cursor.execute(
            "SELECT pg_total_relation_size('sensor_rows')::float8 / count(*) FROM sensor_rows"
        )
        print(f"  {_one(cursor):.0f} bytes per reading")
        few = max(seconds // 20, 2)
        with spent(postmaster) as cost:
            for second in range(few):
                cursor.executemany(_INSERT_SENSOR, rows(start_us_of(2) + second * 1_000_000, 1))
                connection.commit()
        _say("rival: row per sensor, INSERT", devices * few * VALUES / cost.wall_s, cost)


def sizes_and_rollups(dsn: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        day = (datetime.now(UTC) - timedelta(days=1)).strftime("samples_%Y%m%d")
        readings = f"SELECT count(*) * {VALUES} FROM {day}"
        count = _one(connection.execute(readings))
        size = f"SELECT pg_total_relation_size('{day}'), pg_table_size('{day}')"
        print(f"open day: {_sizes(connection.execute(size), count)}")
        took_s = _timed(lambda: connection.execute("SELECT close_sample_day('0 s')"))
        print(f"closed day: {_sizes(connection.execute(size), count)}, closed in {took_s:.1f} s")
        for level in ("minutes", "hours"):
            until = datetime.now(UTC).replace(hour=0, minute=0)
            took_s = _timed(
                lambda level=level, until=until: connection.execute(
                    "SELECT roll_up(%s, %s, 10, 1000)", (level, until)
                )
            )
            rolled = _one(connection.execute(f"SELECT count(*) FROM {level}"))
            print(f"{level}: {rolled:.0f} rows in {took_s:.1f} s")


def _sizes(cursor: psycopg.Cursor[tuple[int, ...]], readings: float) -> str:
    row = cursor.fetchone()
    assert row is not None
    whole, table = row
    return f"{whole / readings:.1f} bytes per reading ({table / readings:.1f} without the key)"


def _timed(work: Callable[[], object]) -> float:
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def _one(cursor: psycopg.Cursor[tuple[float, ...]]) -> float:
    row = cursor.fetchone()
    assert row is not None
    return float(row[0])


def _say(what: str, rate: float, cost: Spent) -> None:
    print(
        f"{what}: {rate:,.0f} readings/s, {cost.cores:.2f} cores"
        f" ({cost.here_s / cost.wall_s:.2f} here, {cost.postgres_s / cost.wall_s:.2f} Postgres),"
        f" {cost.wall_s:.1f} s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.storage", description=__doc__)
    parser.add_argument("--devices", type=int, default=1_250)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--backfill-seconds", type=int, default=240)
    asked = parser.parse_args()
    postgres._FAST = ("-c", "listen_addresses=")  # durable, unlike the tests' servers
    cluster = postgres.Cluster()
    try:
        cluster.start()
        cluster.execute("CREATE DATABASE bench")
        migrations.upgrade(cluster.url("bench"))
        dsn = cluster.dsn("bench")
        postmaster = int((cluster.folder / "data" / "postmaster.pid").read_text().split()[0])
        with tempfile.TemporaryDirectory() as folder:
            steady(dsn, postmaster, Path(folder), devices=asked.devices, seconds=asked.seconds)
            backfill(
                dsn,
                postmaster,
                Path(folder),
                devices=asked.devices,
                seconds=asked.backfill_seconds,
            )
        sizes_and_rollups(dsn)
        rivals(dsn, postmaster, devices=asked.devices, seconds=asked.seconds)
    finally:
        cluster.destroy()


if __name__ == "__main__":
    main()
