# SPDX-License-Identifier: GPL-2.0-or-later
"""Energy that only grows, whatever the counter does."""

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.energy import Meter, metered, resumed
from collectors.readings import Quality, Reading

START_US = 1_795_000_000_000_000
MOST_W = 44_000
TEN_S = 10.0


def a_reading(at_s: float, power_w: int | None, counter_wh: int | None, **others: Any) -> Reading:
    at_us = START_US + round(at_s * 1e6)
    return Reading("r1.A", "pdu", at_us, power_w, None, counter_wh, Quality.GOOD, **others)


def run(
    answers: Iterable[tuple[int | None, int | None]],
    *,
    every_s: float = TEN_S,
    meter: Meter | None = None,
) -> list[Reading]:
    """Power and counter of each poll."""
    found, meter = [], meter or Meter()
    for nth, (power_w, counter_wh) in enumerate(answers):
        reading = a_reading(nth * every_s, power_w, counter_wh)
        reading, meter = metered(meter, reading, most_w=MOST_W)
        found.append(reading)
    return found


def totals(found: list[Reading]) -> list[int | None]:
    return [each.energy_wh for each in found]


def test_a_counter_is_stored_as_it_counts() -> None:
    found = run([(36_000, 5_000), (36_000, 5_100), (36_000, 5_200)])

    assert totals(found) == [5_000, 5_100, 5_200]
    assert {each.energy_source for each in found} == {"counter"}


def test_without_a_counter_power_is_integrated_and_said_so() -> None:
    found = run([(36_000, None)] * 4)

    assert totals(found) == [0, 100, 200, 300]
    assert {each.energy_source for each in found} == {"integrated"}


@pytest.mark.parametrize("scale", [1, 10, 100, 1000])
@pytest.mark.parametrize("bits", [31, 32])
def test_a_wrap_costs_and_invents_nothing(bits: int, scale: int) -> None:
    top = 2**bits * scale
    found = run([(36_000, top - scale), (36_000, 0), (36_000, scale)])

    assert totals(found) == [top - scale, top, top + scale]


def test_a_reset_is_bridged_by_the_power() -> None:
    found = run([(36_000, 9_000), (36_000, 9_100), (36_000, 20), (36_000, 120)])

    assert totals(found) == [9_000, 9_100, 9_200, 9_300]
    assert [each.energy_source for each in found] == ["counter"] * 2 + ["integrated", "counter"]


def test_one_garbled_count_is_no_energy() -> None:
    found = run([(36_000, 9_000), (36_000, 4_294_967_295), (36_000, 9_200), (36_000, 9_300)])

    assert totals(found) == [9_000, 9_100, 9_200, 9_300]


def test_a_counter_that_is_missing_for_a_while_is_bridged() -> None:
    found = run([(36_000, 9_000), (36_000, None), (36_000, None), (36_000, 9_300), (0, 9_350)])

    assert totals(found) == [9_000, 9_100, 9_200, 9_300, 9_350]


def test_a_counter_in_kwh_is_not_stuck() -> None:
    true_wh = [36_000 * n * TEN_S / 3600 for n in range(500)]
    found = run([(36_000, int(each) // 1_000 * 1_000) for each in true_wh])

    assert totals(found)[-1] == 49_000
    assert {each.energy_source for each in found} == {"counter"}


def test_a_counter_that_stands_still_is_replaced_and_taken_back() -> None:
    still = [(36_000, 9_000)] * 61
    again = [(36_000, 9_000 + 100 * n) for n in range(1, 4)]
    found = run([*still, *again])

    assert totals(found)[30] == 9_000
    assert totals(found)[60:] == [15_000, 15_100, 15_200, 15_300]
    assert [each.energy_source for each in found[60:]] == ["integrated", *["counter"] * 3]


def test_what_nobody_saw_is_not_invented() -> None:
    found = run([(36_000, None)] * 3, every_s=3600)

    assert totals(found) == [0, 0, 0]


def test_a_power_that_is_not_believed_is_not_energy() -> None:
    meter = Meter()
    for at_s, power_w, quality in (
        (0, 36_000, Quality.GOOD),
        (10, 9_000_000, Quality.IMPLAUSIBLE),
        (20, 36_000, Quality.GOOD),
    ):
        reading = Reading("r1.A", "pdu", START_US + at_s * 10**6, power_w, None, None, quality)
        reading, meter = metered(meter, reading, most_w=MOST_W)

    assert reading.energy_wh == 200


def test_a_restart_goes_on_with_the_counter() -> None:
    before = run([(36_000, 9_000), (36_000, 9_100)])[-1]
    meter = resumed(
        energy_wh=before.energy_wh,
        energy_source=before.energy_source,
        at_us=before.polled_at_us,
        power_w=before.active_power_w,
    )
    reading, meter = metered(meter, a_reading(3_610, 36_000, 45_000), most_w=MOST_W)

    assert (reading.energy_wh, reading.energy_source) == (45_000, "counter")


def test_a_restart_after_a_reset_goes_on_with_the_total() -> None:
    meter = resumed(energy_wh=9_200, energy_source="counter", at_us=START_US, power_w=36_000)
    found = []
    for at_s, counter_wh in ((10, 220), (20, 320)):
        reading, meter = metered(meter, a_reading(at_s, 36_000, counter_wh), most_w=MOST_W)
        found.append(reading)

    assert totals(found) == [9_300, 9_400]


def test_a_restart_goes_on_integrating() -> None:
    meter = resumed(energy_wh=700, energy_source="integrated", at_us=START_US, power_w=36_000)
    reading, _ = metered(meter, a_reading(10, 36_000, None), most_w=MOST_W)

    assert (reading.energy_wh, reading.energy_source) == (800, "integrated")


def test_a_clock_that_goes_back_is_no_energy() -> None:
    meter = Meter()
    for at_s in (100, 110, 50, 60, 120):
        reading, meter = metered(meter, a_reading(at_s, 36_000, None), most_w=MOST_W)

    assert reading.energy_wh == 200


@given(
    st.lists(
        st.tuples(
            st.integers(0, MOST_W), st.sampled_from(["", "", "", "reset", "gone", "garbage"])
        ),
        min_size=2,
        max_size=80,
    ),
    st.sampled_from([1, 10, 100, 1000]),
    st.integers(0, 2**32),
)
def test_never_less_and_near_the_truth(
    polls: list[tuple[int, str]], step_wh: int, first: int
) -> None:
    """Against the energy really drawn; a fault may cost what was drawn between two polls."""
    true_wh, counter_wh, meter, before_wh = 0.0, float(first % 2**32 * step_wh), Meter(), None
    found, faults, last_w = [], 0, None
    for nth, (power_w, fault) in enumerate(polls):
        if last_w is not None:
            true_wh += (last_w + power_w) / 2 * TEN_S / 3600
            counter_wh += (last_w + power_w) / 2 * TEN_S / 3600
        last_w = power_w
        faults += bool(fault)
        counter_wh = 0.0 if fault == "reset" else counter_wh % (2**32 * step_wh)
        told = int(counter_wh // step_wh) * step_wh
        told_or = {"gone": None, "garbage": 7 * 2**40}.get(fault, told)
        reading, meter = metered(meter, a_reading(nth * TEN_S, power_w, told_or), most_w=MOST_W)
        found.append(reading.energy_wh)
        assert before_wh is None or (reading.energy_wh or 0) >= before_wh
        before_wh = reading.energy_wh

    assert abs((found[-1] or 0) - (found[0] or 0) - true_wh) <= (faults + 1) * 2 * (step_wh + 123)
