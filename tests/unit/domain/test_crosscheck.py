# SPDX-License-Identifier: GPL-2.0-or-later
"""Which meter lies, where three sources tell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.crosscheck import lying_meters
from broker.domain.draw import assess_draw
from tests.support.builders import A_SECOND, NOON, POLL, RULES, a_graph, a_reading, telemetry

GRAPH = a_graph()
RACK = GRAPH.layers["r1"]
BMCS = tuple(GRAPH.nodes[name].bmc for name in RACK.nodes)


def steady(power_w: int, polls: int = 5) -> list[int]:
    return [power_w] * polls


def bmcs(*powers: int) -> dict[str, list[int]]:
    return {bmc: steady(power_w) for bmc, power_w in zip(BMCS, powers, strict=False)}


FOUR_BUSY = bmcs(4_700, 4_700, 4_700, 4_700)  # 18.8 kW, 20 kW at the PDUs


@dataclass(frozen=True)
class Case:
    a: Sequence[int]
    b: Sequence[int]
    lie: set[str] = field(default_factory=set)
    nodes: Mapping[str, Sequence[int]] = field(default_factory=lambda: FOUR_BUSY)


CASES = {
    "feeds that share what the BMCs show": Case(steady(10_000), steady(10_000)),
    "feeds that share it unevenly": Case(steady(13_000), steady(7_000)),
    "one feed carries all: a real transfer": Case(steady(0), steady(20_000)),
    "a transfer within the polls": Case([10_000, 10_000, 0, 0], [10_000, 10_000, 20_000, 20_000]),
    "zero from A, but B carries only its half": Case(steady(0), steady(10_000), {"r1.A"}),
    "a tenth from B": Case(steady(10_000), steady(1_000), {"r1.B"}),
    "ten times from A": Case(steady(100_000), steady(10_000), {"r1.A"}),
    "A stuck at what it was before the jobs ended": Case(
        steady(10_000), steady(2_200), {"r1.A"}, bmcs(1_000, 1_000, 1_000, 1_000)
    ),
    "both far too low: it cannot be told which": Case(
        steady(1_000), steady(3_000), {"r1.A", "r1.B"}
    ),
    "both a tenth: the same wrong scale": Case(steady(1_000), steady(1_000), {"r1.A", "r1.B"}),
    "both too high by as much: the watts count": Case(steady(30_000), steady(30_000)),
    "feeds that agree outweigh a BMC": Case(
        steady(10_000), steady(10_000), {"n03.bmc"}, bmcs(4_700, 4_700, 14_000, 4_700)
    ),
    "a BMC that shows too little is not the PDUs' fault": Case(
        steady(10_000), steady(10_000), set(), bmcs(4_700, 4_700, 4_700, 0)
    ),
    "a load without a BMC on feeds that share unevenly": Case(steady(18_000), steady(9_500)),
    "a ramp that the BMCs show later": Case(
        [2_000, 2_000, 10_000, 10_000], [2_000, 2_000, 10_000, 10_000], set(), bmcs(*[1_000] * 4)
    ),
    "BMCs that are still high after a ramp down": Case(
        [10_000, 10_000, 2_000], [10_000, 10_000, 2_000]
    ),
    "a node that is not seen may draw anything": Case(
        steady(10_000), steady(10_000), set(), bmcs(4_700, 4_700)
    ),
    "half the BMCs show more than the PDUs": Case(
        steady(500), steady(4_500), {"r1.A"}, bmcs(4_700, 4_700)
    ),
    "no BMC, no third source": Case(steady(0), steady(10_000), set(), {}),
    "two polls prove nothing": Case(steady(0, 2), steady(10_000, 2)),
    "a feed that is not seen is no liar": Case([], steady(10_000)),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_rack(case: Case) -> None:
    shown = {"r1.A": case.a, "r1.B": case.b, **case.nodes}

    found = lying_meters(GRAPH, RACK, {k: v for k, v in shown.items() if v}, RULES)

    assert set(found) == case.lie


def test_the_reason_names_who_shows_what() -> None:
    shown = {"r1.A": steady(1_000), "r1.B": steady(10_000), **FOUR_BUSY}

    assert lying_meters(GRAPH, RACK, shown, RULES) == {
        "r1.A": "r1.A is not believed: it shows 1.00 kW while r1.B shows 10.00 kW and the rack's"
        " 4 BMCs add up to 18.80 kW"
    }


def test_a_single_pdu_that_shows_less_than_its_nodes_lies() -> None:
    rack = replace(RACK, pdus=("r1.A",))

    assert set(lying_meters(GRAPH, rack, {"r1.A": steady(2_000), **FOUR_BUSY}, RULES)) == {"r1.A"}
    assert not lying_meters(GRAPH, rack, {"r1.A": steady(20_000), **FOUR_BUSY}, RULES)


def test_static_loads_are_no_lie() -> None:
    rack = replace(RACK, static_w=6_000)
    shown = {"r1.A": steady(13_000), "r1.B": steady(13_000), **FOUR_BUSY}

    assert not lying_meters(GRAPH, rack, shown, RULES)


@given(
    st.lists(st.lists(st.integers(1_000, 10_200), min_size=4, max_size=4), min_size=3, max_size=7),
    st.floats(0.02, 0.08),
    st.floats(0, 1),
    st.floats(-0.05, 0.05),
)
def test_honest_meters_are_never_called_liars(
    polls: list[list[int]], loss: float, share: float, error: float
) -> None:
    """Whatever the load does, however the feeds share it."""
    at_pdus = [sum(each) / (1 - loss) for each in polls]
    shown = {
        "r1.A": [round(each * share) for each in at_pdus],
        "r1.B": [round(each * (1 - share)) for each in at_pdus],
    }
    for bmc, watts in zip(BMCS, zip(*polls, strict=True), strict=True):
        shown[bmc] = [round(each * (1 + error)) for each in watts]

    assert not lying_meters(GRAPH, RACK, shown, RULES)


def test_a_rack_with_a_liar_counts_as_its_upper_bound() -> None:
    """Feed B shows nothing for three polls, A its half; the nodes draw all they can."""
    ages = [A_SECOND + POLL * back for back in (2, 1, 0)]
    replaced = {
        "r1.A": [a_reading("r1.A", 20_000, age=age) for age in ages],
        "r1.B": [a_reading("r1.B", 0, age=age) for age in ages],
        **{bmc: [a_reading(bmc, 9_500, age=age) for age in ages] for bmc in BMCS},
    }

    draws = assess_draw(GRAPH, telemetry(GRAPH, replaced=replaced), now=NOON, rules=RULES)

    assert (draws["r1"].seen_w, draws["r1"].feared_w) == (20_000, 40_800)
    assert draws["r1"].lost == (
        "r1.B is not believed: it shows 0 W while r1.A shows 20.00 kW and the rack's 4 BMCs add"
        " up to 38.00 kW",
    )
    assert set(draws["r1"].liars) == {"r1.B"}
    assert not draws["r2"].lost
