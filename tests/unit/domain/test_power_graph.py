# SPDX-License-Identifier: GPL-2.0-or-later
"""What a layer may carry, and how layers hang together."""

from __future__ import annotations

from decimal import Decimal

import pytest

from broker.domain.power_graph import (
    BranchCircuit,
    Redundancy,
    continuous_capacity,
    safe_limit_w,
)
from tests.support.builders import GRAPH, a_graph

BIG, SMALL = BranchCircuit(80, 230, 3), BranchCircuit(32, 230, 3)

CAPACITIES = {
    "one circuit: 80 A x 230 V x 3 x 0.80 x 0.95": ([BIG], Redundancy.FAILOVER, 41_952),
    "redundant feeds are never added up": ([BIG, BIG], Redundancy.FAILOVER, 41_952),
    "the smaller of two redundant feeds must carry all": (
        [BIG, SMALL],
        Redundancy.FAILOVER,
        16_780,
    ),
    "additive feeds add up": ([BIG, SMALL], Redundancy.ADDITIVE, 58_732),
}


@pytest.mark.parametrize(
    ("circuits", "redundancy", "want_w"), CAPACITIES.values(), ids=CAPACITIES.keys()
)
def test_capacity(circuits: list[BranchCircuit], redundancy: Redundancy, want_w: int) -> None:
    capacity = continuous_capacity(circuits, redundancy=redundancy, power_factor=Decimal("0.95"))

    assert capacity.amount == want_w


def test_the_smallest_bound_less_the_margin_rounded_down() -> None:
    assert safe_limit_w([40_000, 41_952], margin=Decimal("0.20")) == 32_000
    assert safe_limit_w([33_333], margin=Decimal("0.10")) == 29_999


def test_static_loads_of_racks_are_counted_once_in_rows_and_site() -> None:
    graph = a_graph(static_w=500)

    assert [graph.layers[name].static_w for name in ("r1", "a", "lab")] == [500, 1_000, 2_000]
    assert graph.tokens_w(graph.layers["r1"]) == 32_000 - 500 - 4_000
    assert graph.tokens_w(graph.site) == 108_000 - 2_000 - 16_000
    assert graph.nameplate_w(graph.layers["a"]) == 1_000 + 8 * 10_200


def test_layers_hang_together() -> None:
    r3, b = GRAPH.layers["r3"], GRAPH.layers["b"]

    assert [each.name for each in GRAPH.above(r3)] == ["r3", "b", "lab"]
    assert [each.name for each in GRAPH.children(GRAPH.site)] == ["a", "b"]
    assert [each.name for each in GRAPH.racks_below(b)] == ["r3", "r4"]
    assert GRAPH.racks_below(r3) == (r3,)
    assert GRAPH.racks_below(GRAPH.site) == GRAPH.racks
