# SPDX-License-Identifier: GPL-2.0-or-later
"""A device judged over time: what is a lie, and what is only steep, quiet or coarse."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.plausibility import History, Limits, judge
from collectors.quality_balance import electric_of
from collectors.readings import Quality, Reading

INTERVAL_US = 2_000_000
LIMITS = Limits(ceiling_w=66_000, continuous_w=44_000, interval_us=INTERVAL_US)
START_US = 1_795_000_000_000_000
PHASES = tuple(f"phase.L{n}.{what}" for n in (1, 2, 3) for what in ("voltage_v", "current_a"))


def a_reading(power_w: int | None, **others: Any) -> Reading:
    values: dict[str, Any] = {
        "polled_at_us": 0,
        "apparent_power_va": None,
        "energy_wh": None,
        "quality": Quality.GOOD,
    }
    values.update(others)
    return Reading("r1.A", "pdu", active_power_w=power_w, **values)


def with_amps(power_w: int, amps: float, volts: float = 230.0, **others: Any) -> Reading:
    """A balanced three-phase PDU."""
    return a_reading(power_w, layout=PHASES, values=(volts, amps) * 3, **others)


def judged(
    readings: Iterable[Reading], *, limits: Limits = LIMITS, up_times: Iterable[int] = ()
) -> list[Reading]:
    """Each on its poll, unless it says when."""
    history, found, uptime = History(), [], iter(up_times)
    for nth, each in enumerate(readings):
        at_us = each.polled_at_us or START_US + nth * INTERVAL_US
        judgement, history = judge(
            history, replace(each, polled_at_us=at_us), limits=limits, up_time=next(uptime, None)
        )
        found.append(judgement)
    return found


def steady(power_w: int = 10_000, polls: int = 3) -> list[Reading]:
    return [a_reading(power_w + nth) for nth in range(polls)]


@dataclass(frozen=True)
class Case:
    readings: list[Reading]
    want: Quality  #: of the last one
    note: str = ""
    up_times: tuple[int, ...] = ()


GOOD, BAD, ROUGH = Quality.GOOD, Quality.IMPLAUSIBLE, Quality.ESTIMATED
CASES = {
    "a node that doubles within a poll is no lie": Case([*steady(), a_reading(20_000)], GOOD),
    "a rack from idle to full within a poll is no lie": Case(
        [*steady(4_000), a_reading(40_800)], GOOD
    ),
    "a rack that all jobs leave at once is no lie": Case([*steady(40_800), a_reading(4_000)], GOOD),
    "negative": Case([*steady(), a_reading(-1)], BAD, "-1 W is negative"),
    "more than ever passes": Case([*steady(), a_reading(66_001)], BAD, "66,001 W is more"),
    "what was decoded as not supported stays so": Case(
        [replace(a_reading(None), quality=Quality.NOT_SUPPORTED, note="x")],
        Quality.NOT_SUPPORTED,
        "x",
    ),
    "what is estimated stays so": Case(
        [replace(a_reading(10_000), quality=ROUGH, note="VA times PF")], ROUGH, "VA times PF"
    ),
    "an estimate can be a lie too": Case(
        [replace(a_reading(-5), quality=ROUGH, note="VA times PF")], BAD, "-5 W is negative"
    ),
    "a full register": Case([*steady(), a_reading(32_767)], BAD, "largest number"),
    "32,767 W reached by a ramp is just watts": Case([*steady(32_000), a_reading(32_767)], GOOD),
    "zero from a loaded device": Case([*steady(), a_reading(0)], BAD, "0 W from a device that"),
    "zero watts and no current: the load is gone": Case(
        [with_amps(10_000, 14.8), with_amps(0, 0.0)], GOOD
    ),
    "zero watts beside amperes": Case([with_amps(10_000, 14.8), with_amps(0, 14.8)], BAD),
    "zero of everything may be the meter's own death": Case(
        [with_amps(10_000, 14.8), with_amps(0, 0.0, volts=0.0)], BAD, "0 W from a device"
    ),
    "a step that no breaker lets through": Case(
        [*steady(10_000), a_reading(60_000)], BAD, "where 44,000 W is all that may flow"
    ),
    "such a step that lasts is believed, with a note": Case(
        [*steady(10_000), *[a_reading(60_000 + n) for n in range(3)]], ROUGH, "shown 3 times"
    ),
    "such a step that the amperes show too": Case(
        [with_amps(10_000, 14.8), with_amps(60_000, 90.0)], GOOD
    ),
    "after a long silence every step is possible": Case(
        [
            replace(a_reading(10_000), polled_at_us=START_US),
            replace(a_reading(60_000), polled_at_us=START_US + 60_000_000),
        ],
        GOOD,
    ),
    "W ten times V x A": Case([with_amps(40_000, 6.0)], BAD, "volts times amperes are 4,140 VA"),
    "W a tenth of V x A": Case([with_amps(1_000, 14.8)], BAD, "volts times amperes"),
    "line voltages for phase voltages are no lie": Case([with_amps(9_700, 14.8, 400.0)], GOOD),
    "an idle power supply with a bad power factor is no lie": Case([with_amps(180, 0.6)], GOOD),
    "a ramp between two of its values is no lie": Case([with_amps(20_000, 14.8)], GOOD),
    "somewhat more W than VA, poll after poll": Case(
        [with_amps(13_000 + n, 14.8) for n in range(3)], ROUGH, "beside 10,212 VA, 3 polls long"
    ),
    "W a thousandth of the VA it tells": Case(
        [a_reading(10, apparent_power_va=10_300)], BAD, "10 W of 10,300 VA"
    ),
    "the clock went back": Case(
        [
            replace(a_reading(10_000), polled_at_us=START_US),
            replace(a_reading(10_001), polled_at_us=START_US - 3_200_000),
        ],
        ROUGH,
        "stamped 3.2 s before",
    ),
    "a tenth after a reboot is another unit": Case(
        [*steady(10_000), a_reading(1_003)], BAD, "about a factor of 10", (500, 700, 900, 30)
    ),
    "a tenth without a reboot is jobs that ended": Case(
        [*steady(10_000), a_reading(1_003)], GOOD, "", (500, 700, 900, 1_100)
    ),
    "a tenth after a reboot, amperes too: load that went": Case(
        [with_amps(10_000, 14.8), with_amps(1_003, 1.5)], GOOD, "", (500, 30)
    ),
    "another unit stays one as long as nothing speaks for it": Case(
        [*steady(10_000), *[a_reading(1_003 + 9 * n) for n in range(40)]],
        BAD,
        "about a factor of 10",
        (500, 700, 900, *range(30, 8_030, 200)),
    ),
    "and is forgiven when it speaks as before": Case(
        [*steady(10_000), a_reading(1_003), a_reading(9_800)], GOOD, "", (500, 700, 900, 30, 230)
    ),
    "a thousandth at once is another unit, reboot or not": Case(
        [*steady(10_000), a_reading(10)], BAD, "about a factor of 1000"
    ),
    "a reboot by itself is no lie": Case(
        [*steady(10_000), a_reading(10_020)], GOOD, "", (500, 700, 900, 3)
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_last_reading(case: Case) -> None:
    last = judged(case.readings, up_times=case.up_times)[-1]

    assert (last.quality, case.note in last.note) == (case.want, True), last.note
    assert last.active_power_w == case.readings[-1].active_power_w


def test_a_lie_does_not_become_the_measure_of_truth() -> None:
    found = judged([*steady(10_000), *[a_reading(0)] * 50, a_reading(9_900)])

    assert [each.quality for each in found[3:-1]] == [BAD] * 50
    assert found[-1].quality is GOOD


def test_a_coarse_meter_on_an_idle_rack_is_not_stuck() -> None:
    busy = [a_reading(4_000 + 10 * (n * 7 % 90)) for n in range(600)]
    idle = [a_reading(4_210)] * 2_000

    assert {each.quality for each in judged([*busy, *idle])} == {GOOD}


def test_a_coarse_meter_whose_counter_goes_on_as_it_should_is_not_stuck() -> None:
    readings = [
        a_reading(4_210, energy_wh=int(4_213 * n * 2 / 3600) // 100 * 100) for n in range(5_000)
    ]

    assert {each.quality for each in judged(readings)} == {GOOD}


def test_stuck_watts_beside_a_counter_that_tells_more() -> None:
    readings = [a_reading(4_210, energy_wh=int(9_000 * n * 2 / 3600)) for n in range(100)]

    found = judged(readings)

    assert found[10].quality is GOOD
    assert found[-1].quality is BAD
    assert found[-1].note == (
        "stuck: 4,210 W in 100 polls, 198 s, while its counter rose 495 Wh, not 232"
    )


def test_a_device_frozen_with_its_counter_is_stuck() -> None:
    found = judged([with_amps(9_700, 14.8, energy_wh=5_000_000)] * 1_000)

    assert found[100].quality is GOOD
    assert (found[-1].quality, "rose 0 Wh" in found[-1].note) == (BAD, True)


def test_stuck_watts_while_amperes_move() -> None:
    found = judged([with_amps(9_700, 14.8 - n * 0.3) for n in range(20)])

    assert (found[-1].quality, "volts times amperes went from" in found[-1].note) == (BAD, True)


def test_a_fine_meter_that_never_stood_still_is_stuck() -> None:
    alive = [a_reading(5_003 + n * 7919 % 97) for n in range(400)]
    found = judged([*alive, *[a_reading(5_050)] * 20, a_reading(5_061)])

    assert {each.quality for each in found[:400]} == {GOOD}
    assert (found[419].quality, "never stood still" in found[419].note) == (BAD, True)
    assert found[420].quality is GOOD


def test_a_bmc_that_renews_its_value_every_tenth_poll_is_not_stuck() -> None:
    slow = [a_reading(5_003 + n // 10 * 7919 % 97) for n in range(3_000)]

    assert {each.quality for each in judged(slow)} == {GOOD}


def test_a_phase_without_voltage_says_nothing_about_the_sum() -> None:
    missing = with_amps(9_700, 14.8)

    assert electric_of(missing) is not None
    assert electric_of(replace(missing, values=(230.0, 14.8, None, 14.8, 230.0, 14.8))) is None
    assert electric_of(a_reading(9_700)) is None


@given(
    st.lists(
        st.tuples(
            st.none() | st.integers(-(2**31), 2**31 - 1),
            st.none() | st.integers(0, 2**63 - 1),
            st.none() | st.floats(-1e9, 1e9),
            st.none() | st.integers(0, 2**32 - 1),
            st.integers(-10_000_000, 10_000_000),
        ),
        max_size=30,
    )
)
def test_whatever_is_answered_nothing_impossible_is_believed(
    answers: list[tuple[int | None, int | None, float | None, int | None, int]],
) -> None:
    history, at_us = History(), START_US
    for power_w, energy_wh, amps, up_time, passed_us in answers:
        at_us += passed_us
        reading = a_reading(
            power_w,
            energy_wh=energy_wh,
            layout=PHASES,
            values=(230.0, amps) * 3,
            polled_at_us=at_us,
        )
        found, history = judge(history, reading, limits=LIMITS, up_time=up_time)
        assert found.active_power_w == power_w
        assert found.note or found.quality is GOOD
        if found.quality in {GOOD, ROUGH} and power_w is not None:
            assert 0 <= power_w <= LIMITS.ceiling_w


@given(st.lists(st.integers(60, 44_000), max_size=200))
def test_no_load_that_a_feed_may_carry_is_called_a_lie(powers: list[int]) -> None:
    """Of a PDU that tells V, A and W, however the load leaps between polls."""
    found = judged(with_amps(power_w, power_w / 0.95 / 690) for power_w in powers)

    assert {each.quality for each in found} <= {GOOD}
