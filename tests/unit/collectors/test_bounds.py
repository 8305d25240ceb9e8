# SPDX-License-Identifier: GPL-2.0-or-later
"""Values beside the power that no device can show."""

import math
from dataclasses import replace

import pytest

from collectors.bounds import bounded
from collectors.readings import Quality, Reading


def reading(name: str, value: float | None) -> Reading:
    return Reading(
        "r1.A", "pdu", 1, 1140, None, None, Quality.GOOD, layout=(name,), values=(value,)
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sensor.1.temperature_c", 24.5),
        ("sensor.1.temperature_c", -20.0),
        ("inlet.1.current_a", 0.0),
        ("phase.L1.power_w", 3.0),
        ("total.power_factor", -0.98),
        ("outlet.1.on", 1.0),
        ("inlet.1.energy_wh", 9e10),
        ("inlet.1.current_a", None),
    ],
)
def test_what_a_device_can_show_stays(name: str, value: float | None) -> None:
    same = reading(name, value)

    assert bounded(same) is same


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sensor.1.temperature_c", 39_000.0),
        ("sensor.1.humidity_percent", 655.35),
        ("inlet.1.current_a", -1.0),
        ("phase.L1.power_w", -198.4),
        ("inlet.1.voltage_v", 2e6),
        ("total.power_factor", 98.0),
        ("inlet.1.energy_wh", math.inf),
        ("inlet.1.power_w", math.nan),
    ],
)
def test_what_no_device_can_show_is_left_out(name: str, value: float) -> None:
    kept = bounded(reading(name, value))

    assert kept.values == (None,)
    assert kept.quality is Quality.GOOD


def test_an_energy_that_no_site_ever_used_is_left_out() -> None:
    counted = replace(reading("inlet.1.current_a", 1.0), energy_source="counter")

    too_much = bounded(replace(counted, energy_wh=2**63 - 1))

    assert (too_much.energy_wh, too_much.energy_source) == (None, "")
    assert bounded(replace(counted, energy_wh=19_677_000)).energy_wh == 19_677_000
