# SPDX-License-Identifier: GPL-2.0-or-later
"""Watts, times and durations, as operators type them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest

from broker.cli.values import (
    iso,
    read_coming,
    read_count,
    read_duration,
    read_ids,
    read_name,
    read_names,
    read_time,
    read_watts,
)


@pytest.fixture(autouse=True)
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def now() -> datetime:
    return datetime.fromisoformat("2026-11-20T14:30:15+01:00")


@pytest.mark.parametrize(
    ("text", "power_w"),
    [("20kW", 20_000), ("20000W", 20_000), ("0.02MW", 20_000), ("18.5kW", 18_500), ("0.5W", 1)],
)
def test_watts(text: str, power_w: int) -> None:
    assert read_watts(text, now()) == power_w


@pytest.mark.parametrize(
    "text",
    ["20", "20KW", "20kw", "20 kW", "-20kW", "0W", "1e3W", "nankW", "NaN", "infW", "W", "20kVA",
     "\u0662\u0660kW", "20kW/node", "2000MW", "9" * 500 + "W", "0x10W", "1,000W"],
)  # fmt: skip
def test_what_is_no_power(text: str) -> None:
    with pytest.raises(ValueError, match="a power above 0"):
        read_watts(text, now())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", "2026-11-20T13:30:15+00:00"),
        ("NOW+1minute", "2026-11-20T13:31:15+00:00"),
        ("now+2hours", "2026-11-20T15:30:15+00:00"),
        ("now+90", "2026-11-20T13:31:45+00:00"),
        ("now-7days", "2026-11-13T13:30:15+00:00"),
        ("now+1week", "2026-11-27T13:30:15+00:00"),
        ("today", "2026-11-19T23:00:00+00:00"),
        ("midnight", "2026-11-19T23:00:00+00:00"),
        ("yesterday", "2026-11-18T23:00:00+00:00"),
        ("tomorrow", "2026-11-20T23:00:00+00:00"),
        ("2026-12-01", "2026-11-30T23:00:00+00:00"),
        ("2026-12-01T18:00", "2026-12-01T17:00:00+00:00"),
        ("2026-07-01T18:00:30", "2026-07-01T16:00:30+00:00"),
        ("2026-12-01T18:00Z", "2026-12-01T18:00:00+00:00"),
        ("18:00", "2026-11-20T17:00:00+00:00"),
    ],
)
def test_times_are_local(text: str, expected: str) -> None:
    assert iso(read_time(text, now())) == expected


def test_a_time_of_day_that_is_over_is_tomorrow_for_what_is_to_come() -> None:
    assert iso(read_coming("08:00", now())) == "2026-11-21T07:00:00+00:00"
    assert iso(read_coming("18:00", now())) == "2026-11-20T17:00:00+00:00"
    assert iso(read_time("08:00", now())) == "2026-11-20T07:00:00+00:00"


@pytest.mark.parametrize(
    "text",
    ["", "soon", "now+", "now+1fortnight", "now+1m1", "24:00", "18:60", "2026-13-01", "2026-02-30",
     "2026-12-01 18:00", "0001-01-01", "9999-12-31T23:59", "1796122800", "now+999999999weeks",
     "20261201T1800", "2026-W49"],
)  # fmt: skip
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="a time such as now"):
        read_time(text, now())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 1800), ("30:00", 1800), ("00:45", 45), ("01:00:00", 3600), ("1-00:00:00", 86_400),
     ("2-12", 216_000), ("1-02:30", 95_400)],
)  # fmt: skip
def test_durations_are_sbatchs(text: str, seconds: int) -> None:
    assert read_duration(text, now()) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["0", "-5", "1h", "1:2:3:4", "401-00", "9999999", "1.5", "UNLIMITED", "", ":30", "1-"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="minutes, MM:SS"):
        read_duration(text, now())


def test_lists() -> None:
    assert read_names("r1,r2,r1", now()) == ["r1", "r2"]
    assert read_ids("12,13", now()) == [12, 13]
    for text in ("r1,", ",", "r 1", "räck", "r1\n"):
        with pytest.raises(ValueError, match="without blanks"):
            read_names(text, now())
    with pytest.raises(ValueError, match="job id"):
        read_ids("1_2", now())


def test_counts_and_names() -> None:
    assert read_count("16", now()) == 16
    for text in ("0", "-1", "1.0", "1e3", "²", "9" * 10):
        with pytest.raises(ValueError, match="whole number"):
            read_count(text, now())
    assert read_name("launch-2", now()) == "launch-2"
    for text in ("x" * 33, "läunch", "-x", "a b", "a/b", "a,b"):
        with pytest.raises(ValueError, match="a name of at most 32"):
            read_name(text, now())
