# SPDX-License-Identifier: GPL-2.0-or-later
"""inventory.toml: the power graph as an operator writes it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt

from broker.config.loading import Section, load
from broker.domain.errors import ConfigInvalid
from broker.domain.power_graph import (
    BranchCircuit,
    Feed,
    Layer,
    LayerKind,
    Node,
    NodeType,
    PowerGraph,
    Redundancy,
    continuous_capacity,
    safe_limit_w,
)

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")


def _checked_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(
            f'name "{name[:70]}": allowed are a letter, then letters, digits, _ and -, 63 at most'
        )
    return name


Name = Annotated[str, AfterValidator(_checked_name)]
# A 1 GW limit is a typo (W for kW), not a building.
Watts = Annotated[int, Field(strict=True, gt=0, le=1_000_000_000)]
# Of an address: no white space, and nothing a terminal would obey.
_ADDRESS = r"[A-Za-z0-9._~:/?#@!$&*+,;=%\[\]-]{1,200}$"


class FeedSection(Section):
    """One supply of a layer: a branch circuit, and the PDU that meters it."""

    breaker_rating_a: PositiveInt = Field(le=10_000, description="as printed on the breaker")
    phase_voltage_v: PositiveInt = Field(le=1_000, description="line to neutral")
    phases: Literal[1, 3] = 3
    derating: Decimal = Field(Decimal("0.80"), gt=0, le=1)
    pdu: str | None = Field(
        None, pattern=rf"^(snmp|snmp3|redfish)://{_ADDRESS}", description="its address"
    )
    profile: str | None = Field(None, description="the PDU's profile; recognised when left out")

    def circuit(self) -> BranchCircuit:
        return BranchCircuit(
            self.breaker_rating_a, self.phase_voltage_v, self.phases, self.derating
        )


class LayerSection(Section):
    """Limits of a rack, row or site. The smallest bound, less the margin, is the safe limit."""

    operator_limit_w: Watts | None = Field(None, description="what the operator allows")
    cooling_limit_w: Watts | None = Field(None, description="what the cooling carries away")
    burst_limit_w: Watts | None = Field(None, description="for a limited time; default: safe limit")
    static_load_w: NonNegativeInt = Field(
        0, le=1_000_000_000, description="switches and the like, always on"
    )
    margin: Decimal | None = Field(None, ge=0, lt=1, description="default: the site's")
    redundancy: Redundancy = Redundancy.FAILOVER
    feeds: dict[Name, FeedSection] = Field(default_factory=dict)


class SiteSection(LayerSection):
    """The root of the tree."""

    name: Name
    margin: Decimal = Field(Decimal("0.20"), ge=0, lt=1)
    power_factor: Decimal = Field(Decimal("0.95"), gt=0, le=1, description="W per VA")


class RowSection(LayerSection):
    """A row of racks."""


class RackSection(LayerSection):
    """A rack; without a feed nobody knows what its breakers carry."""

    row: Name
    feeds: dict[Name, FeedSection] = Field(min_length=1)


class NodeTypeSection(Section):
    """What nodes of one build draw at the PDU."""

    idle_w: Watts
    max_w: Watts
    gpus: NonNegativeInt = Field(0, le=1_024)


class NodeSection(Section):
    """A node, its rack and its BMC."""

    rack: Name
    type: Name
    bmc: str | None = Field(
        None, pattern=rf"^(ipmi|redfish)://{_ADDRESS}", description="its address"
    )


class InventorySection(Section):
    """The whole of inventory.toml."""

    site: SiteSection
    rows: dict[Name, RowSection] = Field(min_length=1)
    node_types: dict[Name, NodeTypeSection] = Field(min_length=1)
    racks: dict[Name, RackSection] = Field(min_length=1)
    nodes: dict[Name, NodeSection] = Field(min_length=1)


def load_inventory(path: Path) -> PowerGraph:
    """Read inventory.toml into a power graph; ConfigInvalid names every key that is wrong."""
    inventory = load(path, InventorySection)
    graph_or_mistakes = list(_mistakes(inventory))
    if graph_or_mistakes:
        raise ConfigInvalid("\n".join(f"{path}: {line}" for line in graph_or_mistakes))
    graph = build_graph(inventory)
    mistakes = list(_limit_mistakes(inventory, graph))
    if mistakes:
        raise ConfigInvalid("\n".join(f"{path}: {line}" for line in mistakes))
    return graph


def _mistakes(inventory: InventorySection) -> Iterator[str]:
    """References that lead nowhere, and things named or addressed twice."""
    for name, rack in inventory.racks.items():
        if rack.row not in inventory.rows:
            yield f'racks.{name}.row = "{rack.row}": no such row; {_known(inventory.rows)}'
    for name, node in inventory.nodes.items():
        if node.rack not in inventory.racks:
            yield f'nodes.{name}.rack = "{node.rack}": no such rack; {_known(inventory.racks)}'
        if node.type not in inventory.node_types:
            yield (
                f'nodes.{name}.type = "{node.type}": no such node type;'
                f" {_known(inventory.node_types)}"
            )
    for name, kind in inventory.node_types.items():
        if kind.idle_w >= kind.max_w:
            yield f"node_types.{name}.max_w = {kind.max_w}: must be above idle_w = {kind.idle_w}"
    layers = [inventory.site.name, *inventory.rows, *inventory.racks]
    for name, times in Counter(layers).items():
        if times > 1:
            yield f'"{name}" names {times} layers: site, rows and racks need names of their own'
    addresses = [f.pdu for rack in inventory.racks.values() for f in rack.feeds.values() if f.pdu]
    addresses += [node.bmc for node in inventory.nodes.values() if node.bmc]
    for address, times in Counter(addresses).items():
        if times > 1:
            yield f'address "{address}" is given {times} times: a device meters one thing'
    used_racks = {node.rack for node in inventory.nodes.values()}
    used_rows = {rack.row for rack in inventory.racks.values()}
    for name in inventory.racks:
        if name not in used_racks:
            yield f"racks.{name}: no node stands in it; leave it out or give it nodes"
    for name in inventory.rows:
        if name not in used_rows:
            yield f"rows.{name}: no rack stands in it; leave it out or give it racks"
    for name, rack in inventory.racks.items():
        unmetered = [feed for feed, each in rack.feeds.items() if each.pdu is None]
        if unmetered and len(unmetered) < len(rack.feeds):
            yield (
                f"racks.{name}.feeds.{unmetered[0]}.pdu: missing; half a rack on the meters would"
                " pass for all of it: give every feed of the rack a pdu, or none"
            )


def _known(table: Mapping[str, object]) -> str:
    return f"known: {', '.join(table)}"


def _limit_mistakes(inventory: InventorySection, graph: PowerGraph) -> Iterator[str]:
    sections: dict[str, tuple[str, LayerSection]] = {
        inventory.site.name: ("site", inventory.site),
        **{name: (f"rows.{name}", row) for name, row in inventory.rows.items()},
        **{name: (f"racks.{name}", rack) for name, rack in inventory.racks.items()},
    }
    for layer in graph.layers.values():
        key, section = sections[layer.name]
        needed_w = layer.static_w + graph.idle_w(layer)
        if layer.safe_w <= needed_w:
            yield (
                f"{key}: its safe limit of {layer.safe_w} W (operator_limit_w ="
                f" {section.operator_limit_w or 'not given'}) must be above its static loads and"
                f" idle nodes, {needed_w} W"
            )
        if layer.burst_w < layer.safe_w:
            yield (
                f"{key}.burst_limit_w = {layer.burst_w}: must not be below its safe limit of"
                f" {layer.safe_w} W"
            )


def build_graph(inventory: InventorySection) -> PowerGraph:
    """Make the graph of a checked inventory."""
    types = {
        name: NodeType(name, kind.idle_w, kind.max_w, kind.gpus)
        for name, kind in inventory.node_types.items()
    }
    nodes = {
        name: Node(name, node.rack, types[node.type], f"{name}.bmc")
        for name, node in inventory.nodes.items()
    }
    by_rack: dict[str, list[Node]] = {name: [] for name in inventory.racks}
    for node in nodes.values():
        by_rack[node.rack].append(node)
    racks_of: dict[str, list[str]] = {name: [] for name in inventory.rows}
    for name, rack in inventory.racks.items():
        racks_of[rack.row].append(name)
    racks = [
        _layer(inventory, name, LayerKind.RACK, section.row, section, by_rack, [name])
        for name, section in inventory.racks.items()
    ]
    rows = [
        _layer(
            inventory, name, LayerKind.ROW, inventory.site.name, section, by_rack, racks_of[name]
        )
        for name, section in inventory.rows.items()
    ]
    site = _layer(
        inventory,
        inventory.site.name,
        LayerKind.SITE,
        None,
        inventory.site,
        by_rack,
        list(inventory.racks),
    )
    return PowerGraph({layer.name: layer for layer in [*racks, *rows, site]}, nodes)


def _layer(
    inventory: InventorySection,
    name: str,
    kind: LayerKind,
    parent: str | None,
    section: LayerSection,
    by_rack: Mapping[str, Sequence[Node]],
    racks: Sequence[str],
) -> Layer:
    nodes = [node for rack in racks for node in by_rack[rack]]
    margin = inventory.site.margin if section.margin is None else section.margin
    safe_w = safe_limit_w(_bounds_w(inventory, section, kind, nodes, racks), margin=margin)
    return Layer(
        name=name,
        kind=kind,
        parent=parent,
        safe_w=safe_w,
        burst_w=safe_w if section.burst_limit_w is None else section.burst_limit_w,
        static_w=_static_w(inventory, section, kind, racks),
        nodes=tuple(node.name for node in nodes),
        pdus=tuple(f"{name}.{feed}" for feed, each in section.feeds.items() if each.pdu),
        feeds=tuple(_feeds(inventory, name, section)),
    )


def _feeds(inventory: InventorySection, name: str, section: LayerSection) -> Iterator[Feed]:
    for feed, each in section.feeds.items():
        capacity = each.circuit().capacity().at_power_factor(inventory.site.power_factor)
        pdu = f"{name}.{feed}" if each.pdu else None
        yield Feed(feed, each.breaker_rating_a, capacity.amount, pdu)


def _bounds_w(
    inventory: InventorySection,
    section: LayerSection,
    kind: LayerKind,
    nodes: Sequence[Node],
    racks: Sequence[str],
) -> list[int]:
    bounds = [each for each in (section.operator_limit_w, section.cooling_limit_w) if each]
    if section.feeds:
        circuits = [feed.circuit() for feed in section.feeds.values()]
        capacity = continuous_capacity(
            circuits, redundancy=section.redundancy, power_factor=inventory.site.power_factor
        )
        bounds.append(capacity.amount)
    if not bounds:
        # A row or site that states nothing binds nothing: its nodes cannot draw more than this.
        static_w = _static_w(inventory, section, kind, racks)
        most_w = static_w + sum(node.type.max_w for node in nodes)
        margin = inventory.site.margin if section.margin is None else section.margin
        bounds.append(int(most_w / (1 - margin)) + 1)
    return bounds


def _static_w(
    inventory: InventorySection, section: LayerSection, kind: LayerKind, racks: Sequence[str]
) -> int:
    """Static loads of a layer and of those below it, in W."""
    total = section.static_load_w
    if kind is not LayerKind.RACK:
        total += sum(inventory.racks[name].static_load_w for name in racks)
    if kind is LayerKind.SITE:
        total += sum(row.static_load_w for row in inventory.rows.values())
    return total
