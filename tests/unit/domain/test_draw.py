# SPDX-License-Identifier: GPL-2.0-or-later
"""What is believed, and what must be feared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.cluster import Reading, Telemetry
from broker.domain.draw import LayerDraw, assess_draw, node_draw_w
from tests.support.builders import A_SECOND, GRAPH, NOON, POLL, RULES, a_graph, a_reading, telemetry

NAMEPLATE_W, LIMIT_W = 40_800, 32_000
HOUR = timedelta(hours=1)


def draws(meters: Telemetry, graph=GRAPH, rules=RULES) -> Mapping[str, LayerDraw]:  # type: ignore[no-untyped-def]
    return assess_draw(graph, meters, now=NOON, rules=rules)


def polls(
    device: str, *watts: int | None, age: timedelta = A_SECOND, **others: str
) -> list[Reading]:
    """Readings a poll apart, newest last."""
    return [
        a_reading(device, power_w, age=age + POLL * (len(watts) - 1 - i), **others)
        for i, power_w in enumerate(watts)
    ]


@dataclass(frozen=True)
class Case:
    """Feed A of r1 shows ``a``; B shows 17,000 W twice."""

    a: list[Reading]
    seen_w: int
    feared_w: int
    over: bool = False
    lost: int = 1


B_W = 17_000
CASES = {
    "both feeds seen, and both polls above": Case(
        polls("r1.A", 20_000, 20_000), 37_000, 37_000, True, 0
    ),
    "one poll above, feeds that differ": Case(
        polls("r1.A", 9_000, 25_000), 42_000, 42_000, False, 0
    ),
    "one poll above, feeds that agree": Case(polls("r1.A", 9_000, 16_000), 33_000, 33_000, True, 0),
    "a feed that never answered": Case([], 17_000, NAMEPLATE_W),
    "a feed silent for too long": Case(
        polls("r1.A", 20_000, 20_000, age=8 * A_SECOND), 17_000, NAMEPLATE_W
    ),
    "a feed late by one poll counts, but confirms nothing": Case(
        polls("r1.A", 20_000, 20_000, age=A_SECOND + POLL), 37_000, 37_000, False, 0
    ),
    "a feed that is not supported any more, within the window": Case(
        [*polls("r1.A", 20_000, age=5 * A_SECOND), a_reading("r1.A", -1, quality="not_supported")],
        37_000,
        37_000,
        False,
        0,
    ),
    "a feed that is not supported any more, after the window": Case(
        [*polls("r1.A", 20_000, age=9 * A_SECOND), a_reading("r1.A", -1, quality="not_supported")],
        17_000,
        NAMEPLATE_W,
    ),
    "an implausibly high reading counts for fencing at once, never for shedding": Case(
        [
            *polls("r1.A", 5_000, 5_000, age=3 * A_SECOND),
            a_reading("r1.A", 90_000, quality="implausible"),
        ],
        22_000,
        NAMEPLATE_W,
        False,
        0,
    ),
    "an implausibly high reading of a lost feed": Case(
        [a_reading("r1.A", 90_000, quality="implausible")], 17_000, NAMEPLATE_W
    ),
    "an implausibly low reading makes no room": Case(
        [
            *polls("r1.A", 20_000, 20_000, age=3 * A_SECOND),
            a_reading("r1.A", 3, quality="implausible"),
        ],
        37_000,
        37_000,
        False,
        0,
    ),
    "a good reading without watts is none": Case(polls("r1.A", None, None), 17_000, NAMEPLATE_W),
    "a negative reading is none": Case(polls("r1.A", -5, -5), 17_000, NAMEPLATE_W),
    "readings of a clock an hour ahead are none": Case(
        polls("r1.A", 1_000, 1_000, age=-HOUR), 17_000, NAMEPLATE_W
    ),
    "a clock a second ahead is nothing": Case(
        polls("r1.A", 20_000, 20_000, age=-A_SECOND), 37_000, 37_000, True, 0
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_rack(case: Case) -> None:
    b_age = A_SECOND if case.a and case.a[-1].polled_at <= NOON else -A_SECOND
    shown = {"r1.A": case.a, "r1.B": polls("r1.B", B_W, B_W, age=b_age)}

    draw = draws(telemetry(replaced=shown))["r1"]

    assert (draw.seen_w, draw.feared_w) == (case.seen_w, case.feared_w)
    assert draw.confirmed_above(LIMIT_W) is case.over
    assert len(draw.lost) == case.lost


def test_a_feed_that_dies_while_the_other_takes_over_is_no_overload() -> None:
    shown = {
        "r1.A": polls("r1.A", 15_000, 15_000, age=5 * A_SECOND),
        "r1.B": polls("r1.B", 15_000, 30_000, 30_000),
    }
    draw = draws(telemetry(replaced=shown))["r1"]

    assert draw.seen_w == 45_000
    assert not draw.confirmed_above(LIMIT_W)


def test_one_feed_alone_above_the_limit_poll_after_poll_is_an_overload() -> None:
    shown = {"r1.A": [], "r1.B": polls("r1.B", 33_000, 33_500)}

    assert draws(telemetry(replaced=shown))["r1"].confirmed_above(LIMIT_W)


def test_three_polls_where_the_policy_asks_for_three() -> None:
    rules = replace(RULES, over_limit_polls=3)
    twice = {"r1.A": polls("r1.A", 9_000, 25_000, 25_000), "r1.B": polls("r1.B", *[B_W] * 3)}
    thrice = {"r1.A": polls("r1.A", *[25_000] * 3), "r1.B": polls("r1.B", *[B_W] * 3)}

    assert not draws(telemetry(replaced=twice), rules=rules)["r1"].confirmed_above(LIMIT_W)
    assert draws(telemetry(replaced=thrice), rules=rules)["r1"].confirmed_above(LIMIT_W)


def test_rows_and_the_site_are_the_sums_of_their_racks_and_their_own_static_loads() -> None:
    graph = a_graph(static_w=500)
    row = replace(graph.layers["a"], static_w=1_300)
    graph = replace(graph, layers={**graph.layers, "a": row})

    found = draws(telemetry(graph, {"r1": 20_000, "r2": 10_000, "r3": 5_000, "r4": 5_000}), graph)

    assert found["a"].seen_w == 30_000 + 300
    assert found["lab"].seen_w == 40_000
    assert found["lab"].previous_w == 40_000


def test_a_lost_rack_does_not_hide_the_overload_of_its_row() -> None:
    shown = {
        "r2.A": [],
        **{f"r1.{f}": polls(f"r1.{f}", 30_000, 30_000) for f in "AB"},
    }
    row = draws(telemetry(replaced=shown))["a"]

    assert row.confirmed_above(58_000)
    assert row.feared_w == 60_000 + NAMEPLATE_W
    assert row.lost == ("r2.A has never answered",)


def test_a_rack_without_meters_is_not_lost_and_never_shed() -> None:
    graph = a_graph(feeds="")
    draw = draws(telemetry(graph), graph)["r1"]

    assert (draw.seen_w, draw.lost, draw.confirmed_above(0)) == (0, (), False)


BMC = {
    "its last word": ([a_reading("n01.bmc", 5_000)], 5_000),
    "nothing when it is old": ([a_reading("n01.bmc", 5_000, age=8 * A_SECOND)], None),
    "nothing when it never answered": ([], None),
    "the last good word while it lies": (
        [
            a_reading("n01.bmc", 5_000, age=3 * A_SECOND),
            a_reading("n01.bmc", 9**9, quality="implausible"),
        ],
        5_000,
    ),
    "nothing from the future": ([a_reading("n01.bmc", 5_000, age=-HOUR)], None),
}


@pytest.mark.parametrize(("readings", "want"), BMC.values(), ids=BMC.keys())
def test_a_node_by_its_bmc(readings: list[Reading], want: int | None) -> None:
    meters = telemetry(replaced={"n01.bmc": readings})

    assert node_draw_w(meters, "n01.bmc", now=NOON, rules=RULES) == want


_readings = st.lists(
    st.builds(
        a_reading,
        st.just("r1.A"),
        st.none() | st.integers(-10, 100_000),
        age=st.integers(-20, 20).map(lambda s: timedelta(seconds=s)),
        quality=st.sampled_from(["good", "estimated", "implausible", "not_supported"]),
    ),
    max_size=4,
).map(lambda found: sorted(found, key=lambda each: each.polled_at))


@given(_readings, st.integers(0, 60_000))
def test_less_telemetry_never_makes_room(readings: list[Reading], b_w: int) -> None:
    """I6: whatever feed A says or leaves out, fear is no less than what is seen and B's word."""
    shown = {"r1.A": readings, "r1.B": polls("r1.B", b_w, b_w)}
    whole = draws(telemetry(replaced=shown))

    assert whole["r1"].feared_w >= whole["r1"].seen_w >= b_w
    believed = [r for r in readings if r.quality.believable and r.active_power_w is not None]
    if not any(r.active_power_w >= 0 for r in believed):
        assert whole["r1"].feared_w >= NAMEPLATE_W
    for name in ("a", "lab"):
        assert whole[name].feared_w >= whole["r1"].feared_w
    # Losing what it has makes it no smaller, once it counts as lost.
    gone = draws(telemetry(replaced={**shown, "r1.A": []}))["r1"]
    assert gone.feared_w >= min(whole["r1"].feared_w, NAMEPLATE_W)
