# SPDX-License-Identifier: GPL-2.0-or-later
"""The graph as token layers: what Slurm then allows keeps every rack, row and the site."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.adapters.slurm.resources_yaml import render
from broker.domain.power_graph import PowerGraph
from broker.domain.reservation import PowerReservation
from broker.domain.tokens import Pool, TokenLayer, compile_layers, grant_pools
from tests.support.builders import GRAPH, a_graph, a_reservation


def counts(layers: Sequence[TokenLayer]) -> dict[str, tuple[int, int]]:
    return {each.name: (len(each.nodes), each.count_w) for each in layers}


def test_without_reservations_the_layers_are_the_graph() -> None:
    layers = compile_layers(GRAPH, ())

    assert layers[0].name == "lab"
    assert counts(layers) == {
        "lab": (16, 92_000),
        "a": (8, 50_000),
        "b": (8, 50_000),
        **{f"r{i}": (4, 28_000) for i in range(1, 5)},
    }


def test_a_pool_stands_beside_the_rest_of_its_rack_row_and_site() -> None:
    layers = counts(compile_layers(GRAPH, (Pool(a_reservation(), 18_000),)))

    assert layers["pw-launch"] == (2, 18_000)
    assert layers["r2-rest"] == (2, 10_000)
    # 32 + 50 kW of rows would leave the site's 74 kW: lowered in proportion.
    assert layers["a-rest"] == (6, 28_878)
    assert layers["b"] == (8, 45_121)
    assert layers["lab"] == (16, 92_000)


def test_a_pool_whose_watts_outsiders_still_hold_gets_what_they_freed() -> None:
    layers = counts(compile_layers(GRAPH, (Pool(a_reservation(), 5_000),)))

    assert layers["pw-launch"] == (2, 5_000)
    assert layers["r2-rest"] == (2, 10_000)


def test_nodes_that_slurm_does_not_know_are_left_out() -> None:
    known = set(GRAPH.nodes) - {"n01", "n05"}

    layers = compile_layers(GRAPH, (Pool(a_reservation(), 18_000),), known)

    assert {name for each in layers for name in each.nodes} == known


GRANTS: dict[str, tuple[dict[str, int], list[dict[str, Any]], list[int]]] = {
    "nobody runs": ({}, [{}], [18_000]),
    "outsiders hold what is not reserved": ({"n07": 5_000, "n08": 5_000}, [{}], [18_000]),
    "outsiders hold more": ({"n07": 9_000, "n08": 9_000}, [{}], [10_000]),
    "outsiders of the row hold more": (
        {**dict.fromkeys(("n01", "n02", "n03"), 9_200), "n07": 9_200},
        [{}],
        [50_000 - 36_800],
    ),
    "outsiders on its own nodes": ({"n05": 9_200, "n07": 9_200, "n08": 9_200}, [{}], [9_600]),
    "the owner's jobs are within it": ({"n05": 9_000, "n06": 9_000}, [{}], [18_000]),
    "two of one rack: the earlier is served first": (
        {},
        [{"tokens_w": 18_000}, {"name": "z", "nodes": ("n07",), "tokens_w": 9_000}],
        [18_000, 9_000],
    ),
    "two that outsiders leave too little for": (
        {"n08": 5_000},
        [{"tokens_w": 18_000}, {"name": "z", "nodes": ("n07",), "tokens_w": 9_000}],
        [18_000, 5_000],
    ),
}


@pytest.mark.parametrize(("tokens", "wanted", "want"), GRANTS.values(), ids=GRANTS.keys())
def test_grants(tokens: dict[str, int], wanted: list[dict[str, Any]], want: list[int]) -> None:
    reservations = [a_reservation(**{"name": "launch", **each}) for each in wanted]

    assert [pool.granted_w for pool in grant_pools(GRAPH, reservations, tokens)] == want


SHAPES = {
    "the lab": {"a": {"r1": 4, "r2": 4}, "b": {"r3": 4, "r4": 4}},
    "a row of one rack": {"a": {"r1": 4, "r2": 4}, "b": {"r3": 4}},
    "a site of one row": {"a": {"r1": 3, "r2": 4}},
    "a site of one rack": {"a": {"r1": 4}},
    "racks of one node": {"a": {"r1": 1, "r2": 1}, "b": {"r3": 1}},
    "rows of one rack each": {"a": {"r1": 4}, "b": {"r2": 4}},
    "all sizes": {"a": {"r1": 1, "r2": 7}, "b": {"r3": 2}, "c": {"r4": 3, "r5": 1}},
}


@st.composite
def _worlds(draw: st.DrawFn) -> tuple[PowerGraph, dict[str, int], list[PowerReservation]]:
    graph = a_graph(
        rows=draw(st.sampled_from(list(SHAPES.values()))),
        rack_w=draw(st.integers(9_000, 60_000)),
        row_w=draw(st.integers(14_000, 90_000)),
        site_w=draw(st.integers(20_000, 150_000)),
    )
    tokens: dict[str, int] = {}
    for name in draw(st.permutations(sorted(graph.nodes))):
        chain = graph.above(graph.layers[graph.nodes[name].rack])
        left_w = min(
            graph.tokens_w(layer) - sum(tokens.get(n, 0) for n in layer.nodes) for layer in chain
        )
        tokens[name] = draw(st.integers(0, max(0, min(9_200, left_w))))
    reservations = []
    for i, rack in enumerate(draw(st.sets(st.sampled_from(sorted(r.name for r in graph.racks))))):
        nodes = draw(st.lists(st.sampled_from(graph.layers[rack].nodes), min_size=1, unique=True))
        reservations.append(
            a_reservation(
                f"res{i}",
                rack=rack,
                nodes=tuple(sorted(nodes)),
                tokens_w=draw(st.integers(1, 9_200 * len(nodes))),
            )
        )
    return graph, tokens, reservations


@settings(max_examples=200)
@given(_worlds(), st.data())
def test_whatever_slurm_then_allows_keeps_every_layer(
    world: tuple[PowerGraph, dict[str, int], list[PowerReservation]], data: st.DataObject
) -> None:
    """I1, with outsiders running when the pools are carved out, and jobs starting after."""
    graph, tokens, reservations = world
    pools = grant_pools(graph, reservations, tokens)
    layers = compile_layers(graph, pools, tokens_by_node=tokens)

    for one, other in combinations([frozenset(each.nodes) for each in layers], 2):
        assert one != other
        assert not one & other or one < other or other < one
    assert set(layers[0].nodes) == set(graph.nodes)
    render(layers)  # slurmctld's own demands: equally deep leaves, one root, two levels

    held = dict(tokens)
    for name in data.draw(st.permutations(sorted(graph.nodes))):
        left_w = min(
            each.count_w - sum(held[n] for n in each.nodes) for each in layers if name in each.nodes
        )
        if left_w > 0:
            held[name] += data.draw(st.sampled_from([left_w, left_w // 2, 0]))
    for layer in graph.layers.values():
        assert sum(held[name] for name in layer.nodes) <= graph.tokens_w(layer), layer.name
    for pool in pools:
        # What was granted is there for its owner, whatever outsiders do.
        mine = sum(held[n] for n in pool.reservation.nodes)
        for layer in graph.above(graph.layers[pool.reservation.rack]):
            others_w = sum(held[n] for n in layer.nodes if n not in pool.reservation.nodes)
            promised_w = sum(
                max(p.granted_w, sum(held[n] for n in p.reservation.nodes))
                - sum(held[n] for n in p.reservation.nodes)
                for p in pools
                if p is not pool
                and p.reservation.rack in {r.name for r in graph.racks_below(layer)}
            )
            assert others_w + promised_w + max(pool.granted_w, mine) <= graph.tokens_w(layer)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_slurmctld_would_read_it(shape: dict[str, dict[str, int]]) -> None:
    graph = a_graph(rows=shape)
    first = graph.racks[0]
    reservation = a_reservation(rack=first.name, nodes=first.nodes[:1], tokens_w=5_000)

    assert render(compile_layers(graph, ()))
    assert render(compile_layers(graph, (Pool(reservation, 5_000),)))
