# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the values that operators type: watts with their unit, times and durations as in Slurm.

Every reader takes the text and the time now, and raises ValueError saying what is allowed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Any

Reader = Callable[[str, datetime], Any]

MOST_W = 1_000_000_000
LONGEST = timedelta(days=400)
_SCALE_W = {"W": 1, "kW": 1_000, "MW": 1_000_000}
_WATTS = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(W|kW|MW)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}")
_WORD = re.compile(r"[A-Za-z0-9_.:@+*/\[\]()-]{1,128}")
_RELATIVE = re.compile(r"now(?:([+-])([0-9]{1,9})([a-z]*))?", re.IGNORECASE)
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")
_DURATION = re.compile(r"(?:([0-9]{1,4})-)?([0-9]{1,7})(?::([0-9]{1,2}))?(?::([0-9]{1,2}))?")
_UNITS_S = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800}


def read_watts(text: str, now: datetime) -> int:
    """Power in W, rounded up; the unit must be there, so that nobody mistakes kW for W."""
    found = _WATTS.fullmatch(text)
    if not found:
        raise ValueError("a power above 0 with its unit W, kW or MW, such as 20kW or 20000W")
    power_w = int((Decimal(found[1]) * _SCALE_W[found[2]]).to_integral_value(ROUND_CEILING))
    if not 0 < power_w <= MOST_W:
        raise ValueError(f"a power above 0 W, at most {MOST_W:,} W")
    return power_w


def read_count(text: str, now: datetime) -> int:
    """A whole number of things."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) == 0:
        raise ValueError("a whole number from 1 to 999999999")
    return int(text)


def read_name(text: str, now: datetime) -> str:
    """The name of something new."""
    if not _NAME.fullmatch(text):
        raise ValueError("a name of at most 32 letters, digits, _ . and -")
    return text


def read_names(text: str, now: datetime) -> list[str]:
    """Words separated by commas."""
    words = text.split(",")
    if not all(_WORD.fullmatch(each) for each in words):
        raise ValueError("a word without blanks, or several with commas and nothing between")
    return list(dict.fromkeys(words))


def read_ids(text: str, now: datetime) -> list[int]:
    """Job ids separated by commas."""
    words = text.split(",")
    if not all(re.fullmatch(r"[0-9]{1,10}", each) for each in words):
        raise ValueError("a job id, or several with commas")
    return [int(each) for each in dict.fromkeys(words)]


def one_of(*words: str) -> Reader:
    """A reader for a few words."""

    def read(text: str, now: datetime) -> str:
        if text.lower() not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return text.lower()

    return read


def read_coming(text: str, now: datetime) -> datetime:
    """An instant; a time of day is the next one."""
    at = _read_time(text, now)
    if at <= now and _CLOCK.fullmatch(text):
        return _local(at.replace(tzinfo=None) + timedelta(days=1))
    return at


def read_time(text: str, now: datetime) -> datetime:
    """An instant; a time of day is today's."""
    return _read_time(text, now)


def read_duration(text: str, now: datetime) -> timedelta:
    """A time span as in sbatch: MIN, MIN:SEC, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
    allowed = (
        "minutes, MM:SS, HH:MM:SS, D-HH, D-HH:MM or D-HH:MM:SS, above 0,"
        f" at most {LONGEST.days} days"
    )
    found = _DURATION.fullmatch(text)
    if not found:
        raise ValueError(allowed)
    days, first, second, third = (int(each or 0) for each in found.groups())
    with_hours = found[1] is not None or found[4] is not None
    clock = (first, second, third) if with_hours else (0, first, second)
    span = timedelta(days=days, hours=clock[0], minutes=clock[1], seconds=clock[2])
    if not timedelta() < span <= LONGEST:
        raise ValueError(allowed)
    return span


def iso(at: datetime) -> str:
    """A time as it goes to the broker."""
    return at.astimezone(UTC).isoformat(timespec="seconds")


def _read_time(text: str, now: datetime) -> datetime:
    allowed = (
        "a time such as now, now+1hour, now-7days, today, tomorrow, 18:00,"
        " 2026-12-01 or 2026-12-01T18:00"
    )
    try:
        if relative := _RELATIVE.fullmatch(text):
            return now + _offset(relative)
        if clock := _CLOCK.fullmatch(text):
            hour, minute, second = (int(each or 0) for each in clock.groups())
            return _local(_midnight(now).replace(hour=hour, minute=minute, second=second))
        day = {"yesterday": -1, "today": 0, "midnight": 0, "tomorrow": 1}.get(text.lower())
        if day is not None:
            return _local(_midnight(now) + timedelta(days=day))
        return _local(_read_date(text))
    except (ValueError, OverflowError, OSError) as wrong:
        raise ValueError(allowed) from wrong


def _read_date(text: str) -> datetime:
    if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:$|T)", text):
        raise ValueError(text)
    at = datetime.fromisoformat(text)
    if not 1970 <= at.year <= 2999:
        raise ValueError(text)
    return at


def _offset(relative: re.Match[str]) -> timedelta:
    sign, amount, unit = relative.groups()
    if not sign:
        return timedelta()
    # As in Slurm: unambiguous beginnings, and seconds when there is no unit.
    word = (unit or "seconds").lower().removesuffix("s") or "second"
    scale_s = next((s for name, s in _UNITS_S.items() if name.startswith(word)), None)
    if scale_s is None:
        raise ValueError(unit)
    span = timedelta(seconds=int(amount) * scale_s)
    return span if sign == "+" else -span


def _midnight(now: datetime) -> datetime:
    return now.astimezone().replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)


def _local(at: datetime) -> datetime:
    """A time without zone is a local one, in the offset that holds on that day."""
    return at.astimezone()
