# SPDX-License-Identifier: GPL-2.0-or-later
"""Minutes and hours against a brute force over the samples."""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import fmean

import psycopg
import pytest

pytestmark = pytest.mark.postgres

HOLD_S = 30.0
# A night in which clocks in Europe go back, of the year before: only UTC has no such hour.
_YEAR = datetime.now(UTC).year - 1
AUTUMN = datetime(
    _YEAR, 10, 31 - (datetime(_YEAR, 10, 31, tzinfo=UTC).weekday() + 1) % 7, tzinfo=UTC
)


@dataclass(frozen=True, slots=True)
class Sample:
    device: str
    at: datetime
    power_w: int | None
    quality: str
    energy_wh: int | None

    @property
    def believed(self) -> bool:
        return self.power_w is not None and self.quality in ("good", "estimated")


@dataclass(frozen=True, slots=True)
class Bucket:
    polls: int
    readings: int
    mean_w: float | None
    max_w: int | None
    p95_w: float | None
    energy_wh: float
    source: str
    covered_s: float


def brute_force(samples: list[Sample], start: datetime, width: timedelta) -> Bucket | None:
    """One device's bucket, by going through all its samples in order."""
    end, hold = start + width, timedelta(seconds=HOLD_S)
    ordered = sorted(samples, key=lambda each: each.at)
    inside = [each for each in ordered if start <= each.at < end]
    believed = [each for each in ordered if each.believed]
    powers = sorted(each.power_w or 0 for each in believed if start <= each.at < end)
    covered_s = energy_ws = 0.0
    steps: list[int | None] = []
    for number, each in enumerate(believed):
        following = believed[number + 1].at if number + 1 < len(believed) else end
        held = min(following, each.at + hold, end) - max(each.at, start)
        held_s = max(held.total_seconds(), 0.0) if each.at < end else 0.0
        covered_s += held_s
        energy_ws += held_s * (each.power_w or 0)
        if start <= each.at < end:
            counted = [e for e in believed[:number] if e.energy_wh is not None]
            before = counted[-1] if counted and counted[-1].at >= start - hold else None
            both = each.energy_wh is not None and before is not None
            steps.append(
                (each.energy_wh or 0) - (before.energy_wh or 0) if both and before else None
            )
    if not inside and not covered_s:
        return None
    by_counter = bool(steps) and all(step is not None and step >= 0 for step in steps)
    return Bucket(
        polls=len(inside),
        readings=len(powers),
        mean_w=fmean(powers) if powers else None,
        max_w=powers[-1] if powers else None,
        p95_w=_percentile(powers, 0.95) if powers else None,
        energy_wh=sum(step or 0 for step in steps) if by_counter else energy_ws / 3600,
        source="counter" if by_counter else "integrated" if covered_s else "",
        covered_s=covered_s,
    )


def _percentile(ordered: list[int], share: float) -> float:
    place = share * (len(ordered) - 1)
    low = math.floor(place)
    high = math.ceil(place)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def a_history(seed: int, start: datetime, minutes: int) -> list[Sample]:
    """Three devices: one with a counter that is reset, one without, one that is often away."""
    chance = random.Random(seed)
    samples = []
    for device in ("r1.A", "r1.B", "n01.bmc"):
        at, energy_wh = start, 10_000.0
        while at < start + timedelta(minutes=minutes):
            at += timedelta(seconds=chance.choice([2, 2, 2, 7, 31 if device == "n01.bmc" else 3]))
            power_w = chance.randrange(1_000, 9_000)
            energy_wh = 0 if chance.random() < 0.002 else energy_wh + power_w / 900
            quality = chance.choices(
                ["good", "estimated", "implausible", "not_supported"], [90, 4, 4, 2]
            )[0]
            samples.append(
                Sample(
                    device,
                    at + timedelta(microseconds=chance.randrange(1_000_000)),
                    None if quality == "not_supported" else power_w,
                    quality,
                    int(energy_wh) if device == "r1.A" else None,
                )
            )
    return samples


class Tables:
    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def store(self, samples: list[Sample]) -> None:
        """As the sink does: samples, latest, and what is due, in one transaction."""
        with self.connection.transaction(), self.connection.cursor() as cursor:
            for day in {each.at.date() for each in samples}:
                cursor.execute("SELECT make_sample_partition(%s)", (day,))
            cursor.executemany(
                "WITH stored AS (INSERT INTO samples (device, polled_at, active_power_w, quality,"
                " energy_wh, energy_source) VALUES (%s, %s, %s, %s, %s, %s)"
                " ON CONFLICT DO NOTHING RETURNING polled_at) INSERT INTO rollups_due"
                " SELECT 'minutes', date_bin('1 minute', polled_at, 'epoch') FROM stored",
                [
                    (
                        *(e.device, e.at, e.power_w, e.quality, e.energy_wh),
                        "" if e.energy_wh is None else "counter",
                    )
                    for e in samples
                ],
            )
            cursor.execute(
                "INSERT INTO latest (device, kind) SELECT DISTINCT device, 'pdu' FROM samples"
                " ON CONFLICT DO NOTHING"
            )

    def roll_up(self, closed: datetime) -> int:
        rolled = 0
        for level in ("minutes", "hours"):
            while count := self._roll_up(level, closed):
                rolled += count
        return rolled

    def _roll_up(self, level: str, closed: datetime) -> int:
        row = self.connection.execute(
            "SELECT roll_up(%s, %s, %s, 10)", (level, closed, HOLD_S)
        ).fetchone()
        assert row is not None
        return int(row[0])

    def buckets(self, level: str) -> dict[tuple[str, datetime], Bucket]:
        rows = self.connection.execute(
            "SELECT device, start, polls, readings, mean_power_w, max_power_w, p95_power_w,"
            f" energy_wh, energy_source, covered_s FROM {level}"  # type: ignore[arg-type]
        ).fetchall()
        return {(row[0], row[1].astimezone(UTC)): Bucket(*row[2:]) for row in rows}


@pytest.fixture(params=["UTC", "Europe/Berlin", "Asia/Kathmandu"])
def tables(database_dsn: str, request: pytest.FixtureRequest) -> Iterator[Tables]:
    with psycopg.connect(database_dsn, autocommit=True) as connection:
        connection.execute("SELECT set_config('TimeZone', %s, false)", (request.param,))
        yield Tables(connection)


def assert_equal(tables: Tables, samples: list[Sample], closed: datetime) -> None:
    for level, width in (("minutes", timedelta(minutes=1)), ("hours", timedelta(hours=1))):
        expected = {}
        first = min(each.at for each in samples).replace(minute=0, second=0, microsecond=0)
        for device in {each.device for each in samples}:
            own = [each for each in samples if each.device == device]
            start = first
            while start + width <= closed:
                if bucket := brute_force(own, start, width):
                    expected[device, start] = bucket
                start += width
        found = tables.buckets(level)
        assert found.keys() == expected.keys()
        for key, bucket in expected.items():
            is_, wanted = found[key], bucket
            assert (is_.polls, is_.readings, is_.max_w, is_.source) == (
                wanted.polls,
                wanted.readings,
                wanted.max_w,
                wanted.source,
            ), key
            for name in ("mean_w", "p95_w", "energy_wh", "covered_s"):
                a, b = getattr(is_, name), getattr(wanted, name)
                assert a == b or a == pytest.approx(b, rel=1e-5, abs=1e-3), (key, name, a, b)


def test_minutes_and_hours_are_those_of_a_brute_force_over_the_night_clocks_go_back(
    tables: Tables,
) -> None:
    samples = a_history(1, AUTUMN - timedelta(minutes=30), 200)
    closed = AUTUMN + timedelta(hours=3, minutes=40)
    tables.store(samples)
    tables.roll_up(closed)

    assert_equal(tables, samples, closed)
    sources = {bucket.source for bucket in tables.buckets("minutes").values()}
    assert sources >= {"counter", "integrated"}


def test_late_samples_change_what_they_touch_and_nothing_is_rolled_twice(tables: Tables) -> None:
    samples = a_history(2, AUTUMN, 130)
    chance = random.Random(3)
    late = [each for each in samples if chance.random() < 0.2]
    closed = AUTUMN + timedelta(hours=2)
    tables.store([each for each in samples if each not in late])
    tables.roll_up(closed)
    for _ in range(3):
        part, late = late[: len(late) // 2 + 1], late[len(late) // 2 + 1 :]
        tables.store(part)
        tables.roll_up(closed)
    tables.store(late)
    tables.roll_up(closed)

    assert_equal(tables, samples, closed)
    assert tables.roll_up(closed) == 0
    tables.store(samples)  # all of it again: nothing new, so nothing is due
    assert tables.roll_up(closed) == 0

    later = AUTUMN + timedelta(hours=4)
    tables.roll_up(later)
    assert_equal(tables, samples, later)


def test_a_bucket_that_has_not_ended_waits(tables: Tables) -> None:
    samples = a_history(4, AUTUMN, 3)
    tables.store(samples)
    tables.roll_up(AUTUMN + timedelta(minutes=1, seconds=59))

    assert {start for _, start in tables.buckets("minutes")} == {AUTUMN}
    assert tables.buckets("hours") == {}


def test_old_minutes_are_dropped_before_old_hours(tables: Tables) -> None:
    old, now = AUTUMN, datetime.now(UTC)
    tables.store(a_history(5, old, 61))
    tables.store(a_history(5, now - timedelta(hours=2), 61))
    tables.roll_up(now)

    days = (now - old).days
    tables.connection.execute("SELECT drop_rollup_partitions(2, %s)", (days + 400,))
    starts = {start for _, start in tables.buckets("minutes")}
    assert starts
    assert min(starts) > old + timedelta(days=31)
    assert min(start for _, start in tables.buckets("hours")) == old


def test_a_closed_day_answers_the_same_and_still_takes_a_late_sample(tables: Tables) -> None:
    samples = a_history(6, AUTUMN, 60)
    tables.store(samples)
    everything = "SELECT * FROM samples ORDER BY device, polled_at"
    before = tables.connection.execute(everything).fetchall()  # type: ignore[call-overload]

    closed = tables.connection.execute("SELECT close_sample_day('3 hours')").fetchone()
    again = tables.connection.execute("SELECT close_sample_day('3 hours')").fetchone()

    assert (closed, again) == ((AUTUMN.date(),), (None,))
    assert tables.connection.execute(everything).fetchall() == before  # type: ignore[call-overload]
    late = Sample("r1.A", AUTUMN + timedelta(hours=5), 1, "good", None)
    tables.store([late, *samples])
    assert len(tables.connection.execute(everything).fetchall()) == len(before) + 1  # type: ignore[call-overload]
