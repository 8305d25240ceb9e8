# SPDX-License-Identifier: GPL-2.0-or-later
"""The power graph compiled into layers of tokens that Slurm itself enforces (HRES mode 3).

Without reservations the layers are the graph: site > rows > racks. Every reservation in force is
carved out: a pool of its own nodes and watts right below the root, and all layers that held those
nodes are lowered by its watts. Sums then hold on every layer by construction:
rack = its pool + its rest, row = the pools in it + its rest, and so on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from broker.domain.power_graph import Layer, PowerGraph
from broker.domain.reservation import PowerReservation


@dataclass(frozen=True, slots=True)
class TokenLayer:
    """One layer of resources.yaml: these nodes together may hold so many watts of tokens."""

    name: str
    nodes: tuple[str, ...]
    count_w: int


@dataclass(frozen=True, slots=True)
class Pool:
    """A reservation in force. ``granted_w`` is what outsiders have already freed of it."""

    reservation: PowerReservation
    granted_w: int

    @property
    def complete(self) -> bool:
        """Are all its watts free of outsiders?"""
        return self.granted_w >= self.reservation.tokens_w


def grant_pools(
    graph: PowerGraph,
    reservations: Sequence[PowerReservation],
    tokens_by_node: Mapping[str, int],
) -> tuple[Pool, ...]:
    """How much of every reservation in force is free of outsiders' jobs, first come first served.

    Granting more would let the owner's jobs and those that still run outside break a layer.
    """
    reserved_nodes = {name for each in reservations for name in each.nodes}
    left_w = {
        layer.name: graph.tokens_w(layer)
        - sum(tokens_by_node.get(name, 0) for name in layer.nodes if name not in reserved_nodes)
        for layer in graph.layers.values()
    }
    pools = []
    for each in sorted(reservations, key=lambda found: (found.starts_at, found.name)):
        above = graph.above(graph.layers[each.rack])
        granted_w = max(0, min(each.tokens_w, *(left_w[layer.name] for layer in above)))
        for layer in above:
            left_w[layer.name] -= granted_w
        pools.append(Pool(each, granted_w))
    return tuple(pools)


def compile_layers(graph: PowerGraph, pools: Sequence[Pool]) -> tuple[TokenLayer, ...]:
    """The layers, the root first."""
    root = graph.site
    layers = [TokenLayer(root.name, root.nodes, graph.tokens_w(root))]
    for pool in pools:
        name = pool.reservation.slurm_name
        layers.append(TokenLayer(name, pool.reservation.nodes, pool.granted_w))
    seen = {frozenset(layer.nodes) for layer in layers}
    for layer in reversed(list(graph.layers.values())):
        rest = _rest(graph, layer, pools)
        if not rest.nodes:
            continue
        if frozenset(rest.nodes) in seen:
            # Slurm wants no node set twice (a row of one rack): the smaller count binds.
            layers = [_narrower(known, rest) for known in layers]
            continue
        seen.add(frozenset(rest.nodes))
        layers.append(rest)
    return tuple(layers)


def _rest(graph: PowerGraph, layer: Layer, pools: Sequence[Pool]) -> TokenLayer:
    inside = [pool.reservation for pool in pools if pool.reservation.nodes[0] in layer.nodes]
    reserved = {name for each in inside for name in each.nodes}
    return TokenLayer(
        f"{layer.name}-rest" if inside else layer.name,
        tuple(name for name in layer.nodes if name not in reserved),
        max(0, graph.tokens_w(layer) - sum(each.tokens_w for each in inside)),
    )


def _narrower(known: TokenLayer, rest: TokenLayer) -> TokenLayer:
    if set(known.nodes) != set(rest.nodes):
        return known
    return TokenLayer(known.name, known.nodes, min(known.count_w, rest.count_w))
