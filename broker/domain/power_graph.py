# SPDX-License-Identifier: GPL-2.0-or-later
"""The power graph: what every layer (rack, row, site) may safely draw, and what hangs below it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import cached_property, reduce
from operator import add

from broker.domain.units import ActivePower, ApparentPower


class Redundancy(StrEnum):
    """How the feeds of a layer share its load."""

    FAILOVER = "failover"  #: any one feed must carry all
    ADDITIVE = "additive"  #: the feeds add up


class LayerKind(StrEnum):
    """Where in the tree a layer stands."""

    RACK = "rack"
    ROW = "row"
    SITE = "site"


@dataclass(frozen=True, slots=True)
class BranchCircuit:
    """One breaker and the wires behind it, as printed on the panel."""

    breaker_rating_a: int
    phase_voltage_v: int  #: line to neutral
    phases: int
    derating: Decimal = Decimal("0.80")  #: share of the rating usable continuously (NEC 210.20)

    def capacity(self) -> ApparentPower:
        """Load that the circuit may carry continuously, in VA."""
        rated = self.breaker_rating_a * self.phase_voltage_v * self.phases
        return ApparentPower(rated).scaled(self.derating)


def continuous_capacity(
    circuits: Sequence[BranchCircuit], *, redundancy: Redundancy, power_factor: Decimal
) -> ActivePower:
    """Active power that the feeds carry continuously; redundant feeds are never added up."""
    capacities = [circuit.capacity() for circuit in circuits]
    usable = min(capacities) if redundancy is Redundancy.FAILOVER else reduce(add, capacities)
    return usable.at_power_factor(power_factor)


def safe_limit_w(upper_bounds_w: Iterable[int], *, margin: Decimal) -> int:
    """``min(bounds) x (1 - margin)``: what a layer may be promised, in W (design: Power graph)."""
    return ActivePower(min(upper_bounds_w)).scaled(1 - margin).amount


@dataclass(frozen=True, slots=True)
class NodeType:
    """What nodes of one build draw at the PDU."""

    name: str
    idle_w: int
    max_w: int
    gpus: int

    @property
    def tokens_max_w(self) -> int:
        """The most tokens that a job can need on one such node, in W."""
        return self.max_w - self.idle_w


@dataclass(frozen=True, slots=True)
class Node:
    """A node, where it stands and what it draws."""

    name: str
    rack: str
    type: NodeType
    bmc: str  #: device name of its BMC in the telemetry


@dataclass(frozen=True, slots=True)
class Feed:
    """One supply of a layer."""

    name: str
    breaker_rating_a: int
    continuous_w: int  #: what it may carry for good
    pdu: str | None  #: device name of the PDU that meters it


@dataclass(frozen=True, slots=True)
class Layer:
    """A rack, row or the site: limits in W, and the nodes below it."""

    name: str
    kind: LayerKind
    parent: str | None
    safe_w: int
    burst_w: int
    static_w: int  #: loads that are no nodes, those of the layers below included
    nodes: tuple[str, ...]
    pdus: tuple[str, ...] = ()  #: device names; their readings add up to the rack's draw
    feeds: tuple[Feed, ...] = ()


@dataclass(frozen=True)
class PowerGraph:
    """All layers and nodes by name. Layers come racks first, then rows, then the site."""

    layers: Mapping[str, Layer]
    nodes: Mapping[str, Node]

    @cached_property
    def racks(self) -> tuple[Layer, ...]:
        """The racks, in the inventory's order."""
        return tuple(each for each in self.layers.values() if each.kind is LayerKind.RACK)

    @cached_property
    def site(self) -> Layer:
        """The root of the tree."""
        return next(each for each in self.layers.values() if each.kind is LayerKind.SITE)

    @cached_property
    def _children(self) -> Mapping[str, tuple[Layer, ...]]:
        found: dict[str, list[Layer]] = {name: [] for name in self.layers}
        for layer in self.layers.values():
            if layer.parent is not None:
                found[layer.parent].append(layer)
        return {name: tuple(layers) for name, layers in found.items()}

    @cached_property
    def _racks_below(self) -> Mapping[str, tuple[Layer, ...]]:
        found: dict[str, list[Layer]] = {name: [] for name in self.layers}
        for rack in self.racks:
            for layer in self.above(rack):
                found[layer.name].append(rack)
        return {name: tuple(racks) for name, racks in found.items()}

    @cached_property
    def _idle_w(self) -> Mapping[str, int]:
        return {
            layer.name: sum(self.nodes[name].type.idle_w for name in layer.nodes)
            for layer in self.layers.values()
        }

    def children(self, layer: Layer) -> tuple[Layer, ...]:
        """The layers right below one."""
        return self._children[layer.name]

    def above(self, layer: Layer) -> tuple[Layer, ...]:
        """The layer itself and all its ancestors, the site last."""
        chain = [layer]
        while chain[-1].parent is not None:
            chain.append(self.layers[chain[-1].parent])
        return tuple(chain)

    def racks_below(self, layer: Layer) -> tuple[Layer, ...]:
        """The racks that a layer holds; a rack holds itself."""
        return self._racks_below[layer.name]

    def idle_w(self, layer: Layer) -> int:
        """Idle draw of all nodes of a layer, in W."""
        return self._idle_w[layer.name]

    def nameplate_w(self, layer: Layer) -> int:
        """The most that a layer can draw: static loads and every node at its maximum, in W."""
        return layer.static_w + sum(self.nodes[name].type.max_w for name in layer.nodes)

    def tokens_w(self, layer: Layer) -> int:
        """Tokens of a layer: safe limit - static loads - idle of all its nodes, in W."""
        return layer.safe_w - layer.static_w - self.idle_w(layer)
