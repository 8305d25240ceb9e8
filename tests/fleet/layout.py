# SPDX-License-Identifier: GPL-2.0-or-later
"""What the fleet plays: the racks, PDUs and BMCs of an inventory file, and their safe limits."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

PROFILES = ("apc-rpdu2", "raritan-px3")


class BadInventory(Exception):
    """The inventory cannot be played; the message names the key."""


@dataclass(frozen=True, slots=True)
class Node:
    name: str
    rack: str
    idle_w: float
    bmc_address: str

    @property
    def bmc(self) -> str:
        return f"{self.name}.bmc"


@dataclass(frozen=True, slots=True)
class Pdu:
    name: str
    rack: str
    feed: str
    profile: str
    address: str
    rating_a: float
    phase_voltage_v: float


@dataclass(frozen=True, slots=True)
class Layer:
    """A rack, a row or the site: `racks` are those it carries."""

    name: str
    kind: str
    limit_w: int  # operator_limit_w x (1 - margin): the safe limit
    racks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    layers: Mapping[str, Layer]
    racks: Mapping[str, Layer]
    nodes: Mapping[str, Node]
    pdus: Mapping[str, Pdu]

    @property
    def devices(self) -> tuple[str, ...]:
        return (*self.pdus, *(node.bmc for node in self.nodes.values()))

    def nodes_of(self, rack: str) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes.values() if node.rack == rack)

    def pdus_of(self, rack: str) -> tuple[Pdu, ...]:
        return tuple(pdu for pdu in self.pdus.values() if pdu.rack == rack)


def load_layout(path: Path) -> Layout:
    try:
        return layout_of(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise BadInventory(f"{path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInventory(f"{path}: no TOML: {error}") from error
    except KeyError as error:
        raise BadInventory(f"{path}: the key {error} is missing") from error
    except (AttributeError, TypeError, ValueError) as error:
        raise BadInventory(f"{path}: {error}") from error


def layout_of(inventory: Mapping[str, Any]) -> Layout:
    """The broker checks an inventory whole; this reads only what the simulation needs."""
    site = inventory["site"]
    keep = 1 - float(site.get("margin", 0))
    racks = {
        name: Layer(name, "rack", _safe_w(rack, keep), (name,))
        for name, rack in inventory["racks"].items()
    }
    rows = {
        name: Layer(name, "row", _safe_w(row, keep), _racks_in(name, inventory))
        for name, row in inventory["rows"].items()
    }
    whole = Layer(site["name"], "site", _safe_w(site, keep), tuple(racks))
    pdus = [
        _pdu(rack_name, feed, values)
        for rack_name, rack in inventory["racks"].items()
        for feed, values in sorted(rack["feeds"].items())
    ]
    nodes = [_node(name, values, inventory) for name, values in inventory["nodes"].items()]
    return Layout(
        layers={**racks, **rows, whole.name: whole},
        racks=racks,
        nodes={node.name: node for node in nodes},
        pdus={pdu.name: pdu for pdu in pdus},
    )


def _safe_w(layer: Mapping[str, Any], keep: float) -> int:
    return round(layer["operator_limit_w"] * keep)


def _racks_in(row: str, inventory: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, rack in inventory["racks"].items() if rack["row"] == row)


def _pdu(rack: str, feed: str, values: Mapping[str, Any]) -> Pdu:
    if values["profile"] not in PROFILES:
        raise ValueError(
            f"racks.{rack}.feeds.{feed}.profile {values['profile']!r}: "
            f"the fleet plays {' and '.join(PROFILES)}"
        )
    return Pdu(
        name=f"{rack}.{feed}",
        rack=rack,
        feed=feed,
        profile=values["profile"],
        address=_host(values["pdu"]),
        rating_a=float(values["breaker_rating_a"]),
        phase_voltage_v=float(values["phase_voltage_v"]),
    )


def _node(name: str, values: Mapping[str, Any], inventory: Mapping[str, Any]) -> Node:
    node_type = inventory["node_types"][values["type"]]
    return Node(name, values["rack"], float(node_type["idle_w"]), _host(values["bmc"]))


def _host(url: str) -> str:
    host = urlsplit(url).hostname
    if host is None:
        raise ValueError(f"{url!r} names no address, as in snmp://127.0.1.1")
    return host
