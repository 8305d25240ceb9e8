# SPDX-License-Identifier: GPL-2.0-or-later
"""The fewest nodes to keep new jobs off, so that C + R + P <= L on every layer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.fence import FencePlan, plan_fence
from broker.domain.load import LayerLoad
from broker.domain.power_graph import PowerGraph
from tests.support.builders import GRAPH, a_draw, a_graph, a_load


def loads_of(graph: PowerGraph, tokens: Mapping[str, int], **draws: Any) -> dict[str, LayerLoad]:
    """Loads with these tokens by node; ``draws`` and reserved watts by rack add up upwards."""
    reserved, excess = draws.get("reserved", {}), draws.get("excess", {})
    found = {}
    for layer in graph.layers.values():
        racks = [rack.name for rack in graph.racks_below(layer)]
        load = a_load(
            layer,
            graph=graph,
            tokens_used_w=sum(tokens.get(name, 0) for name in layer.nodes),
            reserved_w=sum(reserved.get(rack, 0) for rack in racks),
        )
        more_w = sum(excess.get(rack, 0) for rack in racks)
        lost = tuple(draws.get("lost", ()))
        draw = a_draw(load.committed_w + more_w, lost=lost)
        found[layer.name] = replace(load, draw=draw)
    return found


def addable_w(
    graph: PowerGraph, loads: Mapping[str, LayerLoad], name: str, unfenced: set[str], tokens: bool
) -> int:
    """P of a layer, worked out anew from its definition."""
    layer = graph.layers[name]
    below = graph.children(layer)
    could_w = (
        sum(addable_w(graph, loads, each.name, unfenced, tokens) for each in below)
        if below
        else sum(graph.nodes[n].type.tokens_max_w for n in layer.nodes if n in unfenced)
    )
    left_w = graph.tokens_w(layer) - loads[name].tokens_used_w - loads[name].reserved_w
    return min(could_w, max(0, left_w)) if tokens else could_w


def fits(
    graph: PowerGraph, loads: Mapping[str, LayerLoad], name: str, unfenced: set[str], tokens: bool
) -> bool:
    load = loads[name]
    p_w = addable_w(graph, loads, name, unfenced, tokens)
    return load.current_w + load.reserved_w + p_w <= load.layer.safe_w


@dataclass(frozen=True)
class Case:
    want: Mapping[str, tuple[str, ...]]
    tokens: Mapping[str, int] = field(default_factory=dict)
    graph: PowerGraph = GRAPH
    enforced: bool = True
    fenced: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


WIDE = a_graph(row_w=100_000, site_w=200_000)  # only racks can bind
FULL = dict.fromkeys(("n01", "n02", "n03", "n04"), 7000)
CASES = {
    "nothing wrong, tokens enforced: nothing": Case({}),
    "tokens all taken: nothing, as Slurm starts no more": Case({}, tokens=FULL),
    "a draw above what was promised eats the room": Case(
        {"r1": ("n02", "n03", "n04")},
        tokens={"n01": 9_200},
        graph=WIDE,
        more={"excess": {"r1": 12_000}},
    ),
    "a rack above its limit is fenced whole, busy nodes too": Case(
        {"r1": GRAPH.layers["r1"].nodes},
        tokens={"n01": 9_200},
        graph=WIDE,
        more={"excess": {"r1": 19_000}},
    ),
    "watts that are reserved are not given away": Case(
        {"r2": GRAPH.layers["r2"].nodes},
        tokens={"n07": 9_000, "n08": 9_000},
        more={"reserved": {"r2": 18_000}},
    ),
    "a site above its limit is fenced whole": Case(
        {rack.name: rack.nodes for rack in GRAPH.racks},
        more={"excess": {"r1": 28_000, "r2": 28_000, "r3": 28_000, "r4": 9_000}},
    ),
}


def plan(case: Case) -> FencePlan:
    return plan_fence(
        case.graph,
        loads_of(case.graph, case.tokens, **case.more),
        free_nodes=set(case.graph.nodes) - set(case.tokens),
        fenced=case.fenced,
        tokens_enforced=case.enforced,
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_which_nodes(case: Case) -> None:
    found = plan(case)

    assert found.nodes == case.want
    assert found.because.keys() == found.nodes.keys()


def test_without_tokens_the_fence_alone_keeps_the_sums() -> None:
    found = plan(Case({}, enforced=False))

    # Rows bind: 8 + 5 x 9.2 = 54 of 58 kW, so five nodes a row stay open, three in each rack.
    left = set(GRAPH.nodes) - found.all_nodes()
    assert [sum(1 for n in GRAPH.layers[row].nodes if n in left) for row in "ab"] == [5, 5]
    assert all(sum(1 for n in rack.nodes if n in left) <= 3 for rack in GRAPH.racks)


@pytest.mark.parametrize("fenced", ["n02", "n03", "n04"])
def test_a_fence_does_not_wander(fenced: str) -> None:
    # 4 + 9.2 + 3 x 9.2 of 32 kW: one of the three free nodes is too many, any one.
    tokens = {"n01": 9_200}
    loads = {
        name: replace(load, layer=replace(load.layer, safe_w=load.layer.safe_w + 40_000))
        if name != "r1"
        else load
        for name, load in loads_of(GRAPH, tokens).items()
    }
    free = {"n02", "n03", "n04"}

    found = plan_fence(GRAPH, loads, free_nodes=free, fenced={fenced}, tokens_enforced=False)

    assert found.nodes == {"r1": (fenced,)}


def test_a_bigger_node_spares_the_small_ones_taken_before_it() -> None:
    graph = a_graph(max_w_of={"n04": 25_000, "n02": 2_000, "n03": 2_000})
    # 4 + 9.2 + 1 + 1 + 24 of 32 kW; n04 alone is enough.
    found = plan_fence(
        graph,
        loads_of(graph, {}),
        free_nodes={"n01", "n02", "n03", "n04"},
        fenced={"n02"},
        tokens_enforced=False,
    )
    assert found.nodes == {"r1": ("n04",)}


def test_a_lost_meter_is_named() -> None:
    loads = loads_of(WIDE, {}, excess={"r3": 36_800}, lost=["r3.B has never answered"])

    found = plan_fence(WIDE, loads, free_nodes=set(WIDE.nodes), fenced=(), tokens_enforced=True)

    assert found.nodes == {"r3": GRAPH.layers["r3"].nodes}
    assert "r3.B has never answered" in found.because["r3"]


_SHAPES = [
    {"a": {"r1": 4, "r2": 4}, "b": {"r3": 4, "r4": 4}},
    {"a": {"r1": 1}, "b": {"r2": 5, "r3": 2}},
    {"a": {"r1": 3}},
]


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[PowerGraph, dict[str, LayerLoad], set[str], set[str]]:
    shape = draw(st.sampled_from(_SHAPES))
    count = sum(sum(racks.values()) for racks in shape.values())
    names = [f"n{i + 1:02d}" for i in range(count)]
    graph = a_graph(
        rows=shape,
        rack_w=draw(st.integers(6_000, 45_000)),
        row_w=draw(st.integers(9_000, 80_000)),
        site_w=draw(st.integers(17_000, 150_000)),
        max_w_of={n: draw(st.sampled_from([2_000, 6_500, 10_200])) for n in names},
    )
    busy = draw(st.sets(st.sampled_from(names)))
    tokens = {n: draw(st.integers(1, graph.nodes[n].type.tokens_max_w)) for n in sorted(busy)}
    racks = [rack.name for rack in graph.racks]
    by_rack = st.dictionaries(st.sampled_from(racks), st.integers(0, 30_000), max_size=2)
    loads = loads_of(graph, tokens, excess=draw(by_rack), reserved=draw(by_rack))
    return graph, loads, set(names) - busy, draw(st.sets(st.sampled_from(names)))


@settings(max_examples=200)
@given(_worlds(), st.booleans())
def test_every_layer_fits_or_is_fenced_whole_and_no_node_is_fenced_for_nothing(
    world: tuple[PowerGraph, dict[str, LayerLoad], set[str], set[str]], tokens: bool
) -> None:
    graph, loads, free, fenced = world
    found = plan_fence(graph, loads, free_nodes=free, fenced=fenced, tokens_enforced=tokens)
    chosen = found.all_nodes()
    unfenced = free - chosen

    full = {n for n, load in loads.items() if load.current_w + load.reserved_w > load.layer.safe_w}
    for name, layer in graph.layers.items():
        assert fits(graph, loads, name, unfenced, tokens) or set(layer.nodes) <= chosen
    forced = {node for name in full for node in graph.layers[name].nodes}
    assert forced <= chosen
    for node in chosen - forced:
        assert node in free
        chain = graph.above(graph.layers[graph.nodes[node].rack])
        assert not all(
            fits(graph, loads, each.name, unfenced | {node}, tokens)
            for each in chain
            if each.name not in full
        ), f"{node} is fenced for nothing"
    again = plan_fence(graph, loads, free_nodes=free, fenced=fenced, tokens_enforced=tokens)
    assert again == found


@given(st.data())
def test_with_tokens_enforced_and_nothing_wrong_nothing_is_fenced(data: st.DataObject) -> None:
    tokens: dict[str, int] = {}
    for name in GRAPH.nodes:
        chain = GRAPH.above(GRAPH.layers[GRAPH.nodes[name].rack])
        left_w = min(
            GRAPH.tokens_w(layer) - sum(tokens.get(n, 0) for n in layer.nodes) for layer in chain
        )
        tokens[name] = data.draw(st.integers(0, min(9_200, left_w)))
    busy = {name for name, tokens_w in tokens.items() if tokens_w}

    found = plan_fence(
        GRAPH,
        loads_of(GRAPH, tokens),
        free_nodes=set(GRAPH.nodes) - busy,
        fenced=(),
        tokens_enforced=True,
    )
    assert found.nodes == {}


def test_a_thousand_nodes_in_a_hundred_racks_take_no_time() -> None:
    rows = {f"row{i}": {f"r{i}-{j}": 10 for j in range(10)} for i in range(10)}
    graph = a_graph(rows=rows, rack_w=70_000, row_w=500_000, site_w=4_000_000)
    loads = loads_of(graph, {})

    begin = time.process_time()
    found = plan_fence(graph, loads, free_nodes=set(graph.nodes), fenced=(), tokens_enforced=False)
    took_s = time.process_time() - begin

    assert len(found.all_nodes()) > 600
    assert took_s < 0.2
