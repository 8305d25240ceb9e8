# SPDX-License-Identifier: GPL-2.0-or-later
"""The true state of the fleet: draws, energies, misbehaviour, and what was answered."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.fleet.journal import Journal
from tests.fleet.layout import Layer, Layout, Pdu
from tests.fleet.physics import node_target_w, noisy_w, ramped_w, split_over_feeds_w

POWER_FACTOR = 0.98
NOT_SUPPORTED = -1.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What a PDU measures now; `claimed_w` is what it says of the active power."""

    active_w: float
    claimed_w: float
    energy_wh: float
    voltage_v: float
    rating_a: float
    uptime_s: float

    @property
    def supported(self) -> bool:
        return self.claimed_w != NOT_SUPPORTED

    @property
    def apparent_va(self) -> float:
        return self.active_w / POWER_FACTOR


@dataclass(slots=True)
class Plant:
    layout: Layout
    journal: Journal
    seed: int = 1
    ceiling_w: float = math.inf

    extra_w: dict[str, float] = field(default_factory=dict)
    muted: set[str] = field(default_factory=set)
    lies_w: dict[str, float] = field(default_factory=dict)
    caps_w: dict[str, float] = field(default_factory=dict)  # node -> active DCMI power limit
    answers: dict[str, int] = field(default_factory=dict)
    loads_w: dict[str, dict[str, float]] = field(default_factory=dict)  # node -> job -> W
    node_w: dict[str, float] = field(default_factory=dict)
    feed_w: dict[str, float] = field(default_factory=dict)
    energy_wh: dict[str, float] = field(default_factory=dict)
    max_w: dict[str, float] = field(default_factory=dict)
    over_limit: set[str] = field(default_factory=set)  # racks whose excursion is in the journal
    uptime_s: float = 0.0
    _level_w: dict[str, float] = field(default_factory=dict)
    _random: random.Random = field(default_factory=random.Random)

    def __post_init__(self) -> None:
        self._random.seed(self.seed)
        self._level_w = {node.name: node.idle_w for node in self.layout.nodes.values()}
        self.answers = dict.fromkeys(self.layout.devices, 0)
        # Real meters have years behind them; a total near zero would hide scaling mistakes.
        self.energy_wh = {pdu: self._random.uniform(2e6, 9e7) for pdu in self.layout.pdus}
        self.tick(0.0, {})

    def tick(self, elapsed_s: float, loads_w: Mapping[str, Mapping[str, float]]) -> None:
        self.uptime_s += elapsed_s
        self.loads_w = {node: dict(jobs) for node, jobs in loads_w.items()}
        self._advance_nodes(elapsed_s)
        for rack in self.layout.racks:
            self._feed(rack, elapsed_s)
        self._note_peaks()
        for rack in sorted(self.over_limit):
            self._note_recovery(self.layout.racks[rack])

    def draw_w(self, layer: Layer) -> float:
        """The truth at the PDUs, whatever they say."""
        return sum(
            self.feed_w[pdu.name] for rack in layer.racks for pdu in self.layout.pdus_of(rack)
        )

    def pdu_reading(self, pdu: Pdu) -> Reading:
        active_w = self.feed_w[pdu.name]
        return Reading(
            active_w=active_w,
            claimed_w=self.lies_w.get(pdu.name, active_w),
            energy_wh=self.energy_wh[pdu.name],
            voltage_v=pdu.phase_voltage_v,
            rating_a=pdu.rating_a,
            uptime_s=self.uptime_s,
        )

    def count_pdu_answer(self, pdu: Pdu) -> None:
        """Called just before an answer that carries active power leaves."""
        self.answers[pdu.name] += 1
        rack = self.layout.racks[pdu.rack]
        draw_w = self.draw_w(rack)
        if draw_w > rack.limit_w and pdu.rack not in self.over_limit:
            self.over_limit.add(pdu.rack)
            self._record_limit("over-limit-answer", rack, draw_w, device=pdu.name)

    def set_extra(self, rack: str, watts: float) -> None:
        self.extra_w[rack] = watts
        # At once, not at the next tick: an answer after this line shows what it did.
        self._feed(rack, 0.0)
        self._note_peaks()
        self.journal.write("extra", rack=rack, watts=watts)

    def mute(self, device: str) -> None:
        self.muted.add(device)
        self.journal.write("mute", device=device)

    def unmute(self, device: str) -> None:
        self.muted.discard(device)
        self.journal.write("unmute", device=device)

    def lie(self, device: str, value: float) -> None:
        self.lies_w[device] = value
        self.journal.write("lie", device=device, value=value)

    def stop_lying(self, device: str) -> None:
        self.lies_w.pop(device, None)
        self.journal.write("lie", device=device, value=None)

    def reset(self) -> None:
        self.extra_w.clear()
        self.muted.clear()
        self.lies_w.clear()
        self.caps_w.clear()
        self.journal.write("reset")

    def reset_max(self) -> None:
        self.max_w.clear()
        self._note_peaks()
        self.journal.write("reset-max")

    def _advance_nodes(self, elapsed_s: float) -> None:
        for node in self.layout.nodes.values():
            target_w = node_target_w(
                node.idle_w,
                self.loads_w.get(node.name, {}).values(),
                ceiling_w=self.ceiling_w,
                cap_w=self.caps_w.get(node.name, math.inf),
            )
            level_w = ramped_w(self._level_w[node.name], target_w, elapsed_s)
            self._level_w[node.name] = level_w
            self.node_w[node.name] = noisy_w(level_w, self._random.gauss(0, 1))

    def _feed(self, rack: str, elapsed_s: float) -> None:
        nodes_w = sum(self.node_w[node.name] for node in self.layout.nodes_of(rack))
        draw_w = nodes_w + self.extra_w.get(rack, 0.0)
        pdus = self.layout.pdus_of(rack)
        parts_w = split_over_feeds_w(draw_w, self.uptime_s) if len(pdus) == 2 else (draw_w,)
        for pdu, part_w in zip(pdus, parts_w, strict=True):
            self.feed_w[pdu.name] = part_w
            self.energy_wh[pdu.name] += part_w * elapsed_s / 3600

    def _note_peaks(self) -> None:
        for name, layer in self.layout.layers.items():
            self.max_w[name] = max(self.max_w.get(name, 0.0), self.draw_w(layer))

    def _note_recovery(self, rack: Layer) -> None:
        draw_w = self.draw_w(rack)
        if draw_w <= rack.limit_w:
            self.over_limit.discard(rack.name)
            self._record_limit("under-limit", rack, draw_w)

    def _record_limit(self, event: str, rack: Layer, draw_w: float, **facts: str) -> None:
        self.journal.write(
            event, rack=rack.name, **facts, draw_w=round(draw_w, 1), limit_w=rack.limit_w
        )
