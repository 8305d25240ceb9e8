# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be promised, recomputed from squeue, scontrol and inventory.toml alone.

Shares no line with the broker: a mistake there must not be made here too.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from tests.acceptance.head import run

INVENTORY = Path("/etc/power-broker/inventory.toml")
EVERY_S = 0.5
_HOLDING = {"RUNNING", "COMPLETING", "SUSPENDED"}


@dataclass(frozen=True)
class Bounds:
    """A rack, a row or the site."""

    safe_w: int
    burst_w: int
    static_w: int
    nodes: frozenset[str]


@dataclass(frozen=True)
class Plant:
    """The inventory, worked out by hand."""

    layers: dict[str, Bounds]
    idle_w: dict[str, int]
    max_w: dict[str, int]

    def committed_w(self, tokens_w: dict[str, int]) -> dict[str, int]:
        """Static loads, the idle draw of all nodes, and the tokens on each."""
        return {
            name: layer.static_w + sum(self.idle_w[n] + tokens_w.get(n, 0) for n in layer.nodes)
            for name, layer in self.layers.items()
        }


def read_plant() -> Plant:
    raw = tomllib.loads(INVENTORY.read_text())
    site, racks, rows = raw["site"], raw["racks"], raw["rows"]
    types = {name: raw["node_types"][node["type"]] for name, node in raw["nodes"].items()}
    in_rack = {
        rack: {name for name, node in raw["nodes"].items() if node["rack"] == rack}
        for rack in racks
    }
    layers = {rack: _bounds(each, site, in_rack[rack]) for rack, each in racks.items()}
    for row, each in rows.items():
        nodes = {n for rack in racks if racks[rack]["row"] == row for n in in_rack[rack]}
        layers[row] = _bounds(each, site, nodes)
    layers[site["name"]] = _bounds(site, site, set(raw["nodes"]))
    return Plant(
        layers,
        {name: each["idle_w"] for name, each in types.items()},
        {name: each["max_w"] for name, each in types.items()},
    )


def _bounds(section: dict[str, Any], site: dict[str, Any], nodes: set[str]) -> Bounds:
    feeds_w = [
        each["breaker_rating_a"] * each["phase_voltage_v"] * each["phases"] * each["derating"]
        for each in section.get("feeds", {}).values()
    ]
    # Redundant feeds are never added up: one must carry everything.
    bounds_w = [watts * site["power_factor"] for watts in feeds_w]
    bounds_w += [section[key] for key in ("operator_limit_w", "cooling_limit_w") if key in section]
    safe_w = round(min(bounds_w) * (1 - section.get("margin", site["margin"])))
    return Bounds(
        safe_w, section["burst_limit_w"], section.get("static_load_w", 0), frozenset(nodes)
    )


def expand(hostlist: str) -> list[str]:
    """n[01-03,07],x1 -> n01 n02 n03 n07 x1"""
    found = []
    for prefix, inside, plain in re.findall(r"([a-z]+)\[([^]]*)\]|([a-z]+\d+)", hostlist):
        if plain:
            found.append(plain)
            continue
        for part in inside.split(","):
            first, _, last = part.partition("-")
            found += [
                f"{prefix}{number:0{len(first)}d}"
                for number in range(int(first), int(last or first) + 1)
            ]
    return found


# -- two ways to ask Slurm ------------------------------------------------------------------------

Holding = list[tuple[str, str, list[str]]]  # job, licences, nodes


def by_squeue() -> Holding | None:
    words = ["squeue", "-h", "-t", "R,CG,S", "-o", "%i|%W|%N"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    lines = (line.strip().split("|") for line in done.stdout.splitlines())
    return [(job, licenses, expand(nodes)) for job, licenses, nodes in lines]


def by_scontrol() -> Holding | None:
    words = ["scontrol", "-o", "show", "job"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    held = []
    for line in done.stdout.splitlines():
        job, now, nodes, licenses = (
            found[1] if (found := re.search(rf"\s{key}=(\S+)", " " + line)) else ""
            for key in ("JobId", "JobState", "NodeList", "Licenses")
        )
        if now in _HOLDING and nodes:
            held.append((job, licenses, expand(nodes)))
    return held


def tokens_by_node(holding: Holding, plant: Plant) -> dict[str, int]:
    """A job without tokens may draw all that its nodes can."""
    tokens_w: dict[str, int] = {}
    for _, licenses, nodes in holding:
        found = re.search(r"(?:^|,)power[:=](\d+)", licenses)
        for node in nodes:
            most_w = plant.max_w[node] - plant.idle_w[node]
            tokens_w[node] = tokens_w.get(node, 0) + (int(found[1]) if found else most_w)
    return tokens_w


# -- looking all the time -------------------------------------------------------------------------


@dataclass
class Watch:
    """Samples of what is committed, taken by a thread of its own."""

    plant: Plant
    every_s: float = EVERY_S
    samples: int = 0
    unanswered: int = 0
    highest_w: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    seen_jobs: set[str] = field(default_factory=set)
    _stop: threading.Event = field(default_factory=threading.Event)

    def look(self) -> None:
        for number in count():
            self._sample(by_scontrol() if number % 4 == 3 else by_squeue())
            if self._stop.wait(self.every_s):
                return

    def _sample(self, holding: Holding | None) -> None:
        if holding is None:
            self.unanswered += 1
            return
        self.samples += 1
        self.seen_jobs |= {job for job, _, _ in holding}
        committed_w = self.plant.committed_w(tokens_by_node(holding, self.plant))
        for name, watts in committed_w.items():
            self.highest_w[name] = max(watts, self.highest_w.get(name, 0))
            if watts > self.plant.layers[name].safe_w:
                self.broken.append(
                    f"{time.strftime('%T')} {name}: {watts} W committed of"
                    f" {self.plant.layers[name].safe_w} W: {holding}"
                )

    def stop(self) -> None:
        self._stop.set()


@contextmanager
def watching() -> Iterator[Watch]:
    """Every sample taken inside must be within every limit."""
    watch = Watch(read_plant())
    thread = threading.Thread(target=watch.look)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop()
        thread.join()
    assert not watch.broken, f"{len(watch.broken)} samples over a limit: {watch.broken[:3]}"
    assert watch.samples > 0
    print(f"{watch.samples} samples, {watch.unanswered} unanswered, highest {watch.highest_w}")


def drawn_within(plant: Plant, status: dict[str, Any], *, limit: str) -> None:
    """No rack's PDU pair drew more than its ``safe_w`` or ``burst_w`` since reset-max."""
    for rack, facts in status["racks"].items():
        most_w = getattr(plant.layers[rack], limit)
        assert facts["max_draw_w"] <= most_w, f"rack {rack} drew {facts['max_draw_w']} W, {limit}"


def hostlist_of(nodes: set[str]) -> str:
    """As Slurm writes it."""
    return run("scontrol", "show", "hostlist", ",".join(sorted(nodes))).out.strip()
