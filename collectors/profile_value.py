# SPDX-License-Identifier: GPL-2.0-or-later
"""What a raw value means: a number in our unit, `not supported`, or garbage. Never raises."""

import math
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

_MOST = 1e15  #: no meter counts so far; larger is garbage, whatever the scale


class Absence(Enum):
    """Why there is no number."""

    MISSING = "left out of the answer"
    NOT_SUPPORTED = "not supported"
    GARBAGE = "garbage"


MISSING: Final = Absence.MISSING
NOT_SUPPORTED: Final = Absence.NOT_SUPPORTED
GARBAGE: Final = Absence.GARBAGE
Value = float | Absence


@dataclass(frozen=True, slots=True)
class Decoder:
    """How one object's raw value is read, everything the device told at discovery included."""

    scale: float = 1.0
    not_supported: frozenset[int] = frozenset()
    negative: str = "not_supported"
    states: dict[str, int] = field(default_factory=dict)
    fahrenheit: bool = False

    def __call__(self, raw: object) -> Value:
        if raw is None:
            return MISSING
        if self.states:
            return self._state(raw)
        found = number(raw)
        if found is None:
            return GARBAGE
        if found in self.not_supported:
            return NOT_SUPPORTED
        if found < 0:
            if self.negative == "not_supported":
                return NOT_SUPPORTED
            if self.negative == "absolute":
                found = -found
        # Ten digits are more than any device has: 0.1 x 3 shall be 0.3.
        value = round(found * self.scale, 10)
        if self.fahrenheit:
            value = round((value - 32) / 1.8, 2)
        return value

    def _state(self, raw: object) -> Value:
        found = number(raw)
        name = str(int(found)) if found is not None else text(raw)
        return float(self.states[name]) if name in self.states else NOT_SUPPORTED


def number(raw: object) -> float | int | None:
    """A raw value as a number; some agents tell numbers as text."""
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int):
        return raw if abs(raw) <= _MOST else None
    if isinstance(raw, bytes | str):
        if len(raw) > 32:
            return None
        try:
            raw = float(raw)
        except ValueError:
            return None
    if isinstance(raw, float) and math.isfinite(raw) and abs(raw) <= _MOST:
        return raw
    return None


def text(raw: object) -> str:
    """A raw value as text that may be shown and stored."""
    if isinstance(raw, bytes):
        raw = raw.decode("utf-8", "replace")
    return "".join(each if each.isprintable() else " " for each in str(raw)).strip()
