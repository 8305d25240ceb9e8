# SPDX-License-Identifier: GPL-2.0-or-later
"""Watts and volt-amperes as types, so that adding one to the other is an error."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal
from typing import ClassVar, Self

JOULES_PER_KWH = 3_600_000


@dataclass(frozen=True, slots=True, order=True)
class _Quantity:
    amount: int

    unit: ClassVar[str]

    def __add__(self, other: Self) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        return type(self)(self.amount + other.amount)

    def __sub__(self, other: Self) -> Self:
        if type(other) is not type(self):
            return NotImplemented
        return type(self)(self.amount - other.amount)

    def scaled(self, factor: Decimal) -> Self:
        """Multiply and round down: no breaker carries a fraction more."""
        return type(self)(int((self.amount * factor).to_integral_value(ROUND_FLOOR)))

    def __str__(self) -> str:
        return f"{format_kilo(self.amount)}{self.unit}"


class ApparentPower(_Quantity):
    """Volt-amperes: what a breaker, a feed and a PDU are rated for."""

    __slots__ = ()
    unit = "VA"

    def at_power_factor(self, power_factor: Decimal) -> ActivePower:
        """Active power that this apparent power carries at a power factor (W per VA)."""
        return ActivePower(self.scaled(power_factor).amount)


class ActivePower(_Quantity):
    """Watts: what a node draws and what headroom is counted in."""

    __slots__ = ()
    unit = "W"


def format_kilo(amount: int) -> str:
    """Write an amount for people, up to the unit: ``18.50 k`` or ``640 ``."""
    if abs(amount) >= 1_000:
        return f"{Decimal(amount) / 1_000:.2f} k"
    return f"{amount} "


def watts(amount_w: int) -> str:
    """Write watts for people: ``18.50 kW``, ``640 W``."""
    return str(ActivePower(amount_w))
