# SPDX-License-Identifier: GPL-2.0-or-later
"""The fence: the fewest nodes to keep new jobs off, so that C + R + P <= L on every layer.

Terms as in the design: L safe limit, C current, R reserved and unused, P what unfenced nodes that
are free could still add (bounded by the tokens that are left, when Slurm enforces tokens).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from broker.domain.load import LayerLoad
from broker.domain.power_graph import Layer, LayerKind, PowerGraph
from broker.domain.units import watts


@dataclass(frozen=True, slots=True)
class FencePlan:
    """Nodes to fence by rack, and why each rack is fenced."""

    nodes: Mapping[str, tuple[str, ...]]
    because: Mapping[str, str]

    def all_nodes(self) -> frozenset[str]:
        return frozenset(name for names in self.nodes.values() for name in names)


def plan_fence(
    graph: PowerGraph,
    loads: Mapping[str, LayerLoad],
    *,
    free_nodes: Collection[str],
    fenced: Collection[str],
    tokens_enforced: bool,
) -> FencePlan:
    """Choose the nodes.

    ``free_nodes`` are those a job could start on: idle, returning or powered down, outside power
    reservations. ``fenced`` are fenced now: they are preferred, so that a fence does not wander.
    """
    chosen: set[str] = set()
    because: dict[str, str] = {}

    def fence(names: Collection[str], why: str) -> None:
        for name in names:
            if name not in chosen:
                chosen.add(name)
                because.setdefault(graph.nodes[name].rack, why)

    for layer in graph.layers.values():
        load = loads[layer.name]
        if load.current_w + load.reserved_w > layer.safe_w:
            # Busy nodes too: what frees itself in a layer that is full must not be refilled.
            fence(layer.nodes, _why_full(load))
    for layer in graph.layers.values():
        for name in _fence_order(graph, layer, loads, free_nodes, fenced):
            if _fits(graph, layer, loads, free_nodes, chosen, tokens_enforced):
                break
            fence([name], _why_room(loads[layer.name]))

    return FencePlan(
        nodes={
            rack.name: names
            for rack in graph.racks
            if (names := tuple(name for name in rack.nodes if name in chosen))
        },
        because=because,
    )


def _fits(
    graph: PowerGraph,
    layer: Layer,
    loads: Mapping[str, LayerLoad],
    free_nodes: Collection[str],
    chosen: Collection[str],
    tokens_enforced: bool,
) -> bool:
    load = loads[layer.name]
    addable_w = _addable_w(graph, layer, loads, free_nodes, chosen, tokens_enforced)
    return load.current_w + load.reserved_w + addable_w <= layer.safe_w


def _addable_w(
    graph: PowerGraph,
    layer: Layer,
    loads: Mapping[str, LayerLoad],
    free_nodes: Collection[str],
    chosen: Collection[str],
    tokens_enforced: bool,
) -> int:
    """``P`` of a layer: what its open nodes could add, never more than its tokens left."""
    if layer.kind is LayerKind.RACK:
        could_w = sum(
            graph.nodes[name].type.tokens_max_w
            for name in layer.nodes
            if name in free_nodes and name not in chosen
        )
    else:
        could_w = sum(
            _addable_w(graph, child, loads, free_nodes, chosen, tokens_enforced)
            for child in graph.children(layer)
        )
    if not tokens_enforced:
        return could_w
    load = loads[layer.name]
    left_w = graph.tokens_w(layer) - load.tokens_used_w - load.reserved_w
    return min(could_w, max(0, left_w))


def _fence_order(
    graph: PowerGraph,
    layer: Layer,
    loads: Mapping[str, LayerLoad],
    free_nodes: Collection[str],
    fenced: Collection[str],
) -> list[str]:
    """Already fenced first, then the racks with the least headroom, biggest nodes first."""
    return sorted(
        (name for name in layer.nodes if name in free_nodes),
        key=lambda name: (
            name not in fenced,
            loads[graph.nodes[name].rack].headroom_w,
            -graph.nodes[name].type.tokens_max_w,
            name,
        ),
    )


def _why_full(load: LayerLoad) -> str:
    layer = load.layer
    if load.draw.lost:
        return (
            f"{layer.kind} {layer.name} counts as full: {'; '.join(load.draw.lost)}"
            f" (upper bound {watts(load.draw.feared_w)}, safe limit {watts(layer.safe_w)})"
        )
    return (
        f"{layer.kind} {layer.name} draws {watts(load.draw.feared_w)},"
        f" committed {watts(load.committed_w)}, safe limit {watts(layer.safe_w)}"
    )


def _why_room(load: LayerLoad) -> str:
    layer = load.layer
    return (
        f"{layer.kind} {layer.name}: {watts(load.current_w)} in use and"
        f" {watts(load.reserved_w)} reserved of {watts(layer.safe_w)} leave too little"
    )
