# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides how far an answer can be believed. Pure: what was answered and what is known, no I/O.

A meter that lies must never add headroom, so in doubt a reading is implausible; the value as
answered is kept beside the reason.
"""

import math
from dataclasses import dataclass
from decimal import Decimal

from collectors.readings import Quality

ABSURD_SHARE = 1.5  #: of what the feed may carry for good: no breaker lets that through for long
LOADED_W = 50  #: a device that drew this much does not fall to exactly 0 W unnoticed
_INT4_MAX = 2**31 - 1
_INT8_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a raw number means: value = raw x scale, except for the markers."""

    scale: Decimal = Decimal(1)
    not_supported: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Judgement:
    active_power_w: int | None
    quality: Quality
    note: str = ""


def judge_power(
    raw: object, meaning: Meaning, *, ceiling_w: int, last_good_w: int | None
) -> Judgement:
    """Whether the power answered is one the device can really see."""
    if raw is None:
        return Judgement(None, Quality.NOT_SUPPORTED, "the answer leaves out the power object")
    whole = _whole_number(raw)
    if whole is None:
        return Judgement(None, Quality.IMPLAUSIBLE, f"answered {_short(raw)}, not a whole number")
    if whole in meaning.not_supported:
        return Judgement(
            None, Quality.NOT_SUPPORTED, f"answered {whole}, its word for not supported"
        )
    power_w = _scaled(whole, meaning.scale)
    stored_w = power_w if abs(power_w) <= _INT4_MAX else None
    why = _why_implausible(power_w, ceiling_w=ceiling_w, last_good_w=last_good_w)
    return Judgement(stored_w, Quality.IMPLAUSIBLE if why else Quality.GOOD, why)


def believable_extra(raw: object, meaning: Meaning) -> int | None:
    """A value beside the power (VA, Wh), or None where there is no use in it."""
    whole = _whole_number(raw)
    if whole is None or whole < 0 or whole in meaning.not_supported:
        return None
    value = _scaled(whole, meaning.scale)
    return value if value <= _INT8_MAX else None


def fits_int4(value: int | None) -> int | None:
    """The value where the column can hold it."""
    return value if value is not None and abs(value) <= _INT4_MAX else None


def _why_implausible(power_w: int, *, ceiling_w: int, last_good_w: int | None) -> str:
    if power_w < 0:
        return f"{power_w:,} W is negative"
    if power_w > ceiling_w:
        return f"{power_w:,} W is more than the {ceiling_w:,} W that could ever pass"
    if power_w == 0 and (last_good_w or 0) >= LOADED_W:
        return f"0 W from a device that drew {last_good_w:,} W"
    return ""


def _whole_number(raw: object) -> int | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int):
        return raw
    if isinstance(raw, float) and math.isfinite(raw) and raw.is_integer():
        return int(raw)
    return None


def _scaled(whole: int, scale: Decimal) -> int:
    return int((whole * scale).to_integral_value())


def _short(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 40 else text[:37] + "..."
