# SPDX-License-Identifier: GPL-2.0-or-later
"""resources.yaml: token layers in the form that slurmctld enforces (HRES mode 3, 26.05).

slurmctld stops at its next start over a file that it cannot read, so nothing is written unchecked.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from itertools import combinations
from pathlib import Path

from broker.adapters.slurm.hostlist import compressed_parts
from broker.domain.errors import ConfigInvalid
from broker.domain.tokens import TokenLayer

#: A file without resources. An empty one, or one of comments only, ends slurmctld at its next
#: start; no file at all (a dangling link too) is as good as this.
NO_RESOURCES = "# Written by powerbrokerd: no power tokens.\n[]\n"

_MOST_W = 0xFFFFFFFD  # counts are 32 bits, the two largest values mean "none" and "no limit"


def render(layers: Sequence[TokenLayer]) -> str:
    """The file's text; the same layers always give the same text."""
    validate(layers)
    depths = _depths(layers)
    # Deepest first: 26.05 builds the tree in the order of the file, and refuses some root first.
    in_order = sorted(layers, key=lambda layer: (-depths[layer.name], sorted(layer.nodes)))
    lines = [
        "# Written by powerbrokerd; watts per layer. Changes by hand are lost.",
        "- resource: power",
        "  mode: MODE_3",
        "  layers:",
    ]
    return "\n".join([*lines, *map(_line, in_order)]) + "\n"


def validate(layers: Sequence[TokenLayer]) -> None:
    """Refuse what slurmctld would refuse, or worse: accept and not enforce."""
    _check_each(layers)
    if len(layers) < 2:
        raise _invalid(f"{len(layers)} layer given; a single layer is accepted but not enforced")
    everything = {name for layer in layers for name in layer.nodes}
    if not any(set(layer.nodes) == everything for layer in layers):
        raise _invalid(f"no layer holds all {len(everything)} nodes; one root is needed")
    for one, other in combinations(layers, 2):
        _check_pair(one, other)
    _check_leaves(layers)


def write_resources(path: Path, text: str) -> bool:
    """Swap the file in one step and keep the one before; False when nothing changed."""
    before = path.read_text() if path.exists() else None
    if text == before:
        return False
    if before is not None:
        _swap(path.with_name(path.name + ".last-good"), before)
    _swap(path, text)
    return True


def _line(layer: TokenLayer) -> str:
    nodes = ", ".join(f'"{part}"' for part in compressed_parts(layer.nodes))
    return f"    - {{nodes: [{nodes}], count: {layer.count_w}}}  # {layer.name}"


def _check_each(layers: Iterable[TokenLayer]) -> None:
    for layer in layers:
        if not layer.nodes:
            raise _invalid(f"layer {layer.name} has no nodes")
        if not 0 <= layer.count_w <= _MOST_W:
            raise _invalid(f"layer {layer.name}: {layer.count_w} W is outside 0 to {_MOST_W} W")


def _check_pair(one: TokenLayer, other: TokenLayer) -> None:
    names, others = set(one.nodes), set(other.nodes)
    if names == others:
        raise _invalid(f"layers {one.name} and {other.name} hold the same {len(names)} nodes")
    shared = names & others
    if shared and not (names < others or others < names):
        raise _invalid(
            f"layers {one.name} and {other.name} share {min(shared)}"
            f" and {len(shared) - 1} more nodes, but neither lies inside the other"
        )


def _check_leaves(layers: Sequence[TokenLayer]) -> None:
    # Leaves of different depth: slurmctld mostly refuses ("isn't a perfect tree"), but in some
    # orders of the file it accepts them and then lets the upper layers run over.
    depths = _depths(layers)
    leaves = {
        layer.name: depths[layer.name]
        for layer in layers
        if not any(set(other.nodes) < set(layer.nodes) for other in layers)
    }
    shallow, deep = min(leaves, key=leaves.__getitem__), max(leaves, key=leaves.__getitem__)
    if leaves[shallow] != leaves[deep]:
        raise _invalid(
            f"leaf {shallow} is {leaves[shallow]} deep and leaf {deep} {leaves[deep]};"
            " all must be equally deep"
        )


def _depths(layers: Sequence[TokenLayer]) -> dict[str, int]:
    return {
        layer.name: sum(set(layer.nodes) <= set(other.nodes) for other in layers)
        for layer in layers
    }


def _invalid(problem: str) -> ConfigInvalid:
    return ConfigInvalid(
        f"resources.yaml: {problem}", hint="the file before stays; check inventory.toml"
    )


def _swap(path: Path, text: str) -> None:
    prefix = f".{path.name}."
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=prefix, delete=False) as new:
        new.write(text)
        new.flush()
        os.fchmod(new.fileno(), 0o644)  # slurmctld and its nodes read it as other users
        os.fsync(new.fileno())
    os.replace(new.name, path)
