# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be stored, decided without the collector's own code: bounds, and what Postgres takes."""

import math

from collectors.readings import Quality, Reading, from_line, to_line

_INT4, _INT8, _REAL = 2**31 - 1, 2**63 - 1, 3.4e38
_YEAR_2000_US, _YEAR_2200_US = 946_684_800_000_000, 7_258_118_400_000_000
#: What no rack's device can show, by the unit a value's name ends in.
_BOUNDS = {
    "_w": (0, 1e6),
    "_va": (0, 1e6),
    "_a": (0, 1e4),
    "_v": (0, 1e5),
    "_c": (-100, 300),
    "_percent": (0, 100),
    "power_factor": (-1, 1),
}


def wrong_with(reading: Reading, *, ceiling_w: int, before_w: int | None = None) -> str:
    """Why this reading must never have been made; '' where it may."""
    return _not_storable(reading) or _not_good(reading, ceiling_w, before_w)


def _not_storable(reading: Reading) -> str:
    if from_line(to_line(reading)) != reading:
        return "does not survive the spool"
    if not _YEAR_2000_US < reading.polled_at_us < _YEAR_2200_US:
        return f"polled_at_us {reading.polled_at_us}"
    for name, most in (
        ("active_power_w", _INT4),
        ("apparent_power_va", _INT4),
        ("energy_wh", _INT8),
    ):
        value = getattr(reading, name)
        if value is not None and (type(value) is not int or abs(value) > most):
            return f"{name} {value!r} does not fit its column"
    if len(reading.layout) != len(reading.values):
        return f"{len(reading.values)} values for {len(reading.layout)} names"
    for value in reading.values:
        if value is not None and not (math.isfinite(value) and abs(value) < _REAL):
            return f"value {value!r} does not fit its column"
    return _not_text(reading.note) or _not_text(reading.device)


def _not_text(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return f"{text!r} is no UTF-8"
    return f"{text!r} holds a NUL, which Postgres refuses" if "\0" in text else ""


def _not_good(reading: Reading, ceiling_w: int, before_w: int | None) -> str:
    if reading.quality is not Quality.GOOD:
        return ""
    power_w = reading.active_power_w
    if power_w is None:
        return "good, but without power"
    if not 0 <= power_w <= ceiling_w:
        return f"{power_w} W is good where {ceiling_w} W can pass"
    if power_w == 0 and (before_w or 0) >= 50:
        return f"0 W is good from a device that drew {before_w} W"
    if reading.apparent_power_va is not None and reading.apparent_power_va < 0:
        return f"{reading.apparent_power_va} VA is good"
    if reading.energy_wh is not None and reading.energy_wh < 0:
        return f"{reading.energy_wh} Wh is good"
    return _not_good_values(reading)


def _not_good_values(reading: Reading) -> str:
    for name, value in zip(reading.layout, reading.values, strict=True):
        low, high = next(
            (b for end, b in _BOUNDS.items() if name.endswith(end)), (-math.inf, math.inf)
        )
        if value is not None and not low <= value <= high:
            return f"{name} = {value} in a good reading"
    return ""
