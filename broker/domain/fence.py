# SPDX-License-Identifier: GPL-2.0-or-later
"""The fence: the fewest nodes to keep new jobs off, so that C + R + P <= L on every layer.

Terms as in the design: L safe limit, C current, R reserved and unused, P what unfenced nodes that
are free could still add (bounded by the tokens that are left, when Slurm enforces tokens).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from broker.domain.load import LayerLoad
from broker.domain.power_graph import Layer, PowerGraph
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
    full = {
        name: _why_full(load)
        for name, load in loads.items()
        if load.current_w + load.reserved_w > load.layer.safe_w
    }
    because: dict[str, str] = {}
    forced: set[str] = set()
    for name, why in full.items():
        # Busy nodes too: what frees itself in a layer that is full must not be refilled.
        forced.update(graph.layers[name].nodes)
        for rack in graph.racks_below(graph.layers[name]):
            because.setdefault(rack.name, why)

    room = _Room(graph, loads, set(free_nodes) - forced, tokens_enforced)
    order = sorted(room.open, key=lambda name: _preference(graph, loads, fenced, name))
    taken: list[str] = []
    for layer in graph.layers.values():
        if layer.name in full or room.fits(layer):
            continue
        here = frozenset(layer.nodes)
        for name in order:
            if room.fits(layer):
                break
            if name in here and name in room.open:
                room.close(name)
                taken.append(name)
                because.setdefault(graph.nodes[name].rack, _why_room(loads[layer.name]))
    # A node that was taken early may be spared by bigger ones, or by those of a layer above.
    for name in sorted(taken, key=lambda name: _preference(graph, loads, fenced, name))[::-1]:
        room.reopen(name)
        if not all(room.fits(each) for each in graph.above(graph.layers[graph.nodes[name].rack])):
            room.close(name)

    chosen = forced | {name for name in taken if name not in room.open}
    nodes = {
        rack.name: names
        for rack in graph.racks
        if (names := tuple(name for name in rack.nodes if name in chosen))
    }
    return FencePlan(nodes=nodes, because={name: because[name] for name in nodes})


class _Room:
    """``P`` of every layer, kept up to date as nodes are closed and reopened."""

    def __init__(
        self,
        graph: PowerGraph,
        loads: Mapping[str, LayerLoad],
        open_nodes: set[str],
        tokens_enforced: bool,
    ) -> None:
        self._graph, self._loads, self._tokens_enforced = graph, loads, tokens_enforced
        self.open = set(open_nodes)
        self._could_w = dict.fromkeys(graph.layers, 0)
        self._addable_w = dict.fromkeys(graph.layers, 0)
        for name in open_nodes:
            self._could_w[graph.nodes[name].rack] += graph.nodes[name].type.tokens_max_w
        for layer in graph.layers.values():  # racks first, the site last
            self._lift(layer, self._bounded_w(layer))

    def fits(self, layer: Layer) -> bool:
        load = self._loads[layer.name]
        needed_w = load.current_w + load.reserved_w + self._addable_w[layer.name]
        # A layer that is full whatever its free nodes do has all of them fenced already.
        return needed_w <= layer.safe_w or load.current_w + load.reserved_w > layer.safe_w

    def close(self, name: str) -> None:
        self.open.remove(name)
        self._change(name, -self._graph.nodes[name].type.tokens_max_w)

    def reopen(self, name: str) -> None:
        self.open.add(name)
        self._change(name, self._graph.nodes[name].type.tokens_max_w)

    def _change(self, name: str, by_w: int) -> None:
        rack = self._graph.layers[self._graph.nodes[name].rack]
        self._could_w[rack.name] += by_w
        for layer in self._graph.above(rack):
            self._lift(layer, self._bounded_w(layer))

    def _lift(self, layer: Layer, addable_w: int) -> None:
        """Set what a layer could add, and pass the difference on to the one above."""
        if layer.parent is not None:
            self._could_w[layer.parent] += addable_w - self._addable_w[layer.name]
        self._addable_w[layer.name] = addable_w

    def _bounded_w(self, layer: Layer) -> int:
        """What open nodes could add, never more than the layer's tokens left."""
        could_w = self._could_w[layer.name]
        if not self._tokens_enforced:
            return could_w
        load = self._loads[layer.name]
        left_w = self._graph.tokens_w(layer) - load.tokens_used_w - load.reserved_w
        return min(could_w, max(0, left_w))


def _preference(
    graph: PowerGraph, loads: Mapping[str, LayerLoad], fenced: Collection[str], name: str
) -> tuple[bool, int, int, str]:
    """Already fenced first, then the racks with the least headroom, biggest nodes first."""
    node = graph.nodes[name]
    return (name not in fenced, loads[node.rack].headroom_w, -node.type.tokens_max_w, name)


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
