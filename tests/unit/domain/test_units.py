# SPDX-License-Identifier: GPL-2.0-or-later
"""Watts are not volt-amperes, and nothing is rounded up."""

from __future__ import annotations

from decimal import Decimal

import pytest

from broker.domain.units import ActivePower, ApparentPower, watts


def test_watts_and_volt_amperes_do_not_mix() -> None:
    with pytest.raises(TypeError):
        ActivePower(1) + ApparentPower(1)  # type: ignore[operator]
    with pytest.raises(TypeError):
        ActivePower(1) - ApparentPower(1)  # type: ignore[operator]


def test_sums_and_differences_keep_their_unit() -> None:
    assert ActivePower(5) + ActivePower(7) == ActivePower(12)
    assert ApparentPower(5) - ApparentPower(7) == ApparentPower(-2)


def test_scaling_rounds_down() -> None:
    assert ActivePower(9_999).scaled(Decimal("0.8")) == ActivePower(7_999)
    assert ApparentPower(1_001).at_power_factor(Decimal("0.95")) == ActivePower(950)


WORDS = {
    0: "0 W",
    640: "640 W",
    999: "999 W",
    1_000: "1.00 kW",
    18_500: "18.50 kW",
    -1_500: "-1.50 kW",
}


@pytest.mark.parametrize(("amount_w", "want"), WORDS.items())
def test_watts_for_people(amount_w: int, want: str) -> None:
    assert watts(amount_w) == want
