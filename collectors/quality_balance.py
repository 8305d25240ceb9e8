# SPDX-License-Identifier: GPL-2.0-or-later
"""Volts times amperes beside the watts: what a device's own other values say about its power."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from collectors.readings import Reading

FAR_OFF = 3.0  #: W against VA: more than a ramp between two of its values can explain
_AMPERE_STEP = 0.1  # the coarsest that PDUs tell, on each phase
_WATT_SLACK = 20.0  # and ten-watt steps, twice
_MOST_POWER_FACTOR = 1.10  # rounding; the public Redfish mockup itself has 1.02
_PART = re.compile(r"((?:.*\.)?(phase|inlet)\.[^.]+)\.(voltage_v|current_a|power_factor)")


@dataclass(frozen=True, slots=True)
class Electric:
    """What flows by volts and amperes, whatever the wattmeter says."""

    va: float
    watts: float | None  #: VA x PF where the power factors are there
    slack: float  #: what steps of 0.1 A and 10 W may hide
    live: bool  #: there is voltage, so no current means no load

    def confirms(self, power_w: float) -> bool:
        """Could a load of so many watts show these volts and amperes?"""
        most = self.va * 1.5 + self.slack
        return self.va / 2 - self.slack <= power_w <= most

    def far_from(self, power_w: float) -> bool:
        """Off by more than a ramp, a bad power factor or line voltages for phase ones explain."""
        if power_w > self.va * FAR_OFF + self.slack:
            return True
        return power_w < (self.watts or self.va) / (2 * FAR_OFF) - self.slack

    def off(self, power_w: float) -> bool:
        """Off by more than rounding, though no lie of a factor."""
        if power_w > self.va * _MOST_POWER_FACTOR + self.slack:
            return True
        if self.watts is None:
            return False
        # Some devices tell line voltages, root of three too high.
        return not any(
            0.75 * watts - self.slack <= power_w <= 1.25 * watts + self.slack
            for watts in (self.watts, self.watts / math.sqrt(3))
        )


def electric_of(reading: Reading) -> Electric | None:
    """Sum of V x A over the phases, else the inlets; None where one of them is missing."""
    found: list[tuple[float, float, float | None]] = []
    for volts_at, amps_at, factor_at in _places(reading.layout):
        volts, amps = reading.values[volts_at], reading.values[amps_at]
        if volts is None or amps is None or volts < 0 or amps < 0:
            return None
        found.append((volts, amps, None if factor_at is None else reading.values[factor_at]))
    if not found:
        return None
    va = sum(volts * amps for volts, amps, _ in found)
    return Electric(
        va=va,
        watts=_watts(reading, found, va),
        slack=_WATT_SLACK + sum(volts * _AMPERE_STEP for volts, _, _ in found),
        live=max(volts for volts, _, _ in found) >= 50,
    )


def _watts(
    reading: Reading, found: list[tuple[float, float, float | None]], va: float
) -> float | None:
    factors = [factor for _, _, factor in found]
    if all(factor is not None and 0 < factor <= 1 for factor in factors):
        return sum(volts * amps * (factor or 0) for volts, amps, factor in found)
    whole = _value(reading, "total.power_factor")
    return va * whole if whole is not None and 0 < whole <= 1 else None


def _value(reading: Reading, name: str) -> float | None:
    return reading.values[reading.layout.index(name)] if name in reading.layout else None


@lru_cache(maxsize=4096)
def _places(layout: tuple[str, ...]) -> tuple[tuple[int, int, int | None], ...]:
    """Where volts, amperes and power factor of each phase (else inlet) stand in a layout."""
    parts: dict[str, dict[str, dict[str, int]]] = {"phase": {}, "inlet": {}}
    for at, name in enumerate(layout):
        if found := _PART.fullmatch(name):
            parts[found[2]].setdefault(found[1], {})[found[3]] = at
    for kind in ("phase", "inlet"):
        if whole := _complete(parts[kind]):
            return whole
    return ()


def _complete(parts: Mapping[str, Mapping[str, int]]) -> tuple[tuple[int, int, int | None], ...]:
    metered = [each for each in parts.values() if "current_a" in each]
    if any("voltage_v" not in each for each in metered):
        return ()  # a part of the sum would pass for all of it
    return tuple((e["voltage_v"], e["current_a"], e.get("power_factor")) for e in metered)
