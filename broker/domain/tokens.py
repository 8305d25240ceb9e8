# SPDX-License-Identifier: GPL-2.0-or-later
"""The power graph compiled into layers of tokens that Slurm itself enforces (HRES mode 3).

Without reservations the layers are the graph: site > rows > racks. Every reservation in force is
carved out: a pool of its own nodes and watts right below the root, and all layers that held those
nodes are lowered by its watts. Sums then hold on every layer by construction:
rack = its pool + its rest, row = the pools in it + its rest, and so on.

slurmctld wants one root, at least two levels, no node set twice and all leaves equally deep.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

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
    held_w: int = 0  #: tokens on its nodes now, outsiders' that have not ended yet included

    @property
    def complete(self) -> bool:
        """Are all its watts free of outsiders?"""
        return self.granted_w >= self.reservation.tokens_w

    @property
    def taken_w(self) -> int:
        """What it takes out of the layers above: its promise, or more while more is held."""
        return max(self.reservation.tokens_w, self.held_w)


def grant_pools(
    graph: PowerGraph,
    reservations: Sequence[PowerReservation],
    tokens_by_node: Mapping[str, int],
    *,
    kept: Container[str] | None = None,
) -> tuple[Pool, ...]:
    """How much of every reservation in force is free of outsiders' jobs, first come first served.

    Granting more would let the owner's jobs and those that still run outside break a layer.
    ``kept`` are the layers that slurmctld knows (None: all). A pool that it does not know yet gets
    no watts at first: until outsiders' layers are lowered, one may start after we looked.
    """
    reserved_nodes = {name for each in reservations for name in each.nodes}
    left_w = {
        layer.name: graph.tokens_w(layer)
        - sum(tokens_by_node.get(name, 0) for name in layer.nodes if name not in reserved_nodes)
        for layer in graph.layers.values()
    }
    held_w = {
        each.name: sum(tokens_by_node.get(name, 0) for name in each.nodes) for each in reservations
    }
    ordered = sorted(reservations, key=lambda found: (found.starts_at, found.name))
    for each in ordered:
        for layer in graph.above(graph.layers[each.rack]):
            left_w[layer.name] -= held_w[each.name]
    pools = []
    for each in ordered:
        above = graph.above(graph.layers[each.rack])
        more_w = max(0, min(left_w[layer.name] for layer in above))
        # What its nodes hold already is in use, whoever's it is; more comes only from what is left.
        granted_w = min(each.tokens_w, held_w[each.name] + more_w)
        if kept is not None and each.slurm_name not in kept:
            granted_w = min(granted_w, held_w[each.name])
        for layer in above:
            left_w[layer.name] -= max(0, granted_w - held_w[each.name])
        pools.append(Pool(each, granted_w, held_w[each.name]))
    return tuple(pools)


@dataclass(frozen=True, slots=True)
class _Branch:
    layer: TokenLayer
    below: tuple[_Branch, ...] = ()

    @property
    def depth(self) -> int:
        return 1 + max((each.depth for each in self.below), default=0)

    def all(self) -> Iterator[TokenLayer]:
        yield self.layer
        for each in self.below:
            yield from each.all()


def compile_layers(
    graph: PowerGraph,
    pools: Sequence[Pool],
    known: Collection[str] | None = None,
    tokens_by_node: Mapping[str, int] | None = None,
) -> tuple[TokenLayer, ...]:
    """The layers, the root first.

    ``known`` are the nodes that Slurm has (default: all), ``tokens_by_node`` what jobs hold now.
    """
    names = frozenset(graph.nodes if known is None else known)
    held = tokens_by_node or {}
    tree = _tree(graph, pools, names, held)
    # A tree of one level is accepted by slurmctld, and not enforced.
    padded = _padded(tree, max(2, tree.depth)) or _padded(_flat(tree, held), 2)
    return tuple((padded or tree).all())


def _tree(
    graph: PowerGraph, pools: Sequence[Pool], known: frozenset[str], held: Mapping[str, int]
) -> _Branch:
    rows = []
    for row in graph.children(graph.site):
        racks = [_Branch(_rest(graph, rack, pools, known)) for rack in graph.children(row)]
        rest = _rest(graph, row, pools, known)
        rows.append(_Branch(rest, tuple(each for each in racks if each.layer.nodes)))
    rows = [each for each in rows if each.layer.nodes]
    # No layer of its own can hold all outsiders: a pool stands right below the root as well.
    # So the rows get no more than the site has without the pools.
    if pools:
        left_w = _rest(graph, graph.site, pools, known).count_w
        squeezed = _squeezed([row.layer for row in rows], left_w, held)
        rows = [replace(row, layer=layer) for row, layer in zip(rows, squeezed, strict=True)]
    site = graph.site
    root = TokenLayer(site.name, _known(site.nodes, known), graph.tokens_w(site))
    return _merged(_Branch(root, (*rows, *_pool_branches(pools, known))))


def _pool_branches(pools: Sequence[Pool], known: frozenset[str]) -> Iterator[_Branch]:
    for pool in pools:
        if nodes := _known(pool.reservation.nodes, known):
            yield _Branch(TokenLayer(pool.reservation.slurm_name, nodes, pool.granted_w))


def _rest(
    graph: PowerGraph, layer: Layer, pools: Sequence[Pool], known: frozenset[str]
) -> TokenLayer:
    """A layer without the pools in it."""
    racks = {rack.name for rack in graph.racks_below(layer)}
    inside = [pool for pool in pools if pool.reservation.rack in racks]
    reserved = {name for pool in inside for name in pool.reservation.nodes}
    return TokenLayer(
        f"{layer.name}-rest" if inside else layer.name,
        tuple(name for name in _known(layer.nodes, known) if name not in reserved),
        max(0, graph.tokens_w(layer) - sum(pool.taken_w for pool in inside)),
    )


def _known(nodes: Sequence[str], known: frozenset[str]) -> tuple[str, ...]:
    return tuple(name for name in nodes if name in known)


def _squeezed(
    layers: Sequence[TokenLayer], total_w: int, held: Mapping[str, int]
) -> list[TokenLayer]:
    """The same layers, lowered where they may come to more than ``total_w`` together.

    In proportion; where jobs hold more than that already, only what is left is shared out. The
    first does not depend on the jobs: each change of a count restarts every slurmd.
    """
    counts_w = [layer.count_w for layer in layers]
    held_w = [sum(held.get(name, 0) for name in layer.nodes) for layer in layers]

    def too_much(counts: Sequence[int]) -> bool:
        return sum(max(pair) for pair in zip(counts, held_w, strict=True)) > total_w

    if too_much(counts_w):
        sum_w = sum(counts_w)
        wanted_w, counts_w = (
            counts_w,
            [min(each, each * total_w // max(1, sum_w)) for each in counts_w],
        )
        if too_much(counts_w):
            room_w = [max(0, c - h) for c, h in zip(wanted_w, held_w, strict=True)]
            spare_w = min(sum(room_w), max(0, total_w - sum(held_w)))
            counts_w = [
                min(c, h) + r * spare_w // max(1, sum(room_w))
                for c, h, r in zip(wanted_w, held_w, room_w, strict=True)
            ]
    return [
        replace(layer, count_w=count_w) for layer, count_w in zip(layers, counts_w, strict=True)
    ]


def _merged(branch: _Branch) -> _Branch:
    """No node set twice (a row of one rack): one layer, and the smaller count binds."""
    below = tuple(_merged(each) for each in branch.below)
    if len(below) == 1 and set(below[0].layer.nodes) == set(branch.layer.nodes):
        count_w = min(branch.layer.count_w, below[0].layer.count_w)
        return _Branch(replace(branch.layer, count_w=count_w), below[0].below)
    return _Branch(branch.layer, below)


def _padded(branch: _Branch, levels: int) -> _Branch | None:
    """The same tree with all its leaves ``levels`` deep; None where a leaf has too few nodes.

    A leaf is halved; the halves bind nothing, as each may hold what the whole may.
    """
    if levels == 1:
        return branch
    below = branch.below or _halves(branch.layer)
    padded = [_padded(each, levels - 1) for each in below]
    found = tuple(each for each in padded if each is not None)
    return _Branch(branch.layer, found) if found and len(found) == len(below) else None


def _halves(layer: TokenLayer) -> tuple[_Branch, ...]:
    middle = len(layer.nodes) // 2
    if not middle:
        return ()
    return (
        _Branch(TokenLayer(f"{layer.name}.1", layer.nodes[:middle], layer.count_w)),
        _Branch(TokenLayer(f"{layer.name}.2", layer.nodes[middle:], layer.count_w)),
    )


def _flat(tree: _Branch, held: Mapping[str, int]) -> _Branch:
    """Root and leaves only. What the rows would have bound is taken off their racks for good."""
    leaves: list[TokenLayer] = []
    for branch in tree.below:
        racks = [each.layer for each in branch.below] or [branch.layer]
        leaves += _squeezed(racks, branch.layer.count_w, held)
    return _Branch(tree.layer, tuple(_Branch(layer) for layer in leaves))
