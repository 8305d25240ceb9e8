# SPDX-License-Identifier: GPL-2.0-or-later
"""From readings to the draw of a layer: what is believed, and what must be feared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from broker.domain.cluster import Reading, Telemetry
from broker.domain.power_graph import Layer, LayerKind, PowerGraph
from broker.domain.rules import Rules


@dataclass(frozen=True, slots=True)
class LayerDraw:
    """The draw of one layer.

    ``seen_w`` is what meters show (parts nobody can see count nothing): shedding acts on it.
    ``feared_w`` counts unseen parts at their upper bound, and implausibly high readings as they
    are: fencing acts on it. Stale or absent telemetry thus never makes room (reliability I6).
    """

    seen_w: int
    feared_w: int
    previous_w: int | None  #: ``seen_w`` one poll earlier
    feeds_agree: bool  #: the meters confirm each other, so one poll is enough to act
    lost: tuple[str, ...]  #: why a part is not seen, a sentence each
    oldest_at: datetime | None  #: time of the oldest reading that counts

    def confirmed_above(self, limit_w: int) -> bool:
        """Is it above the limit by two polls, or by two meters that agree?"""
        if self.seen_w <= limit_w:
            return False
        return self.feeds_agree or (self.previous_w is not None and self.previous_w > limit_w)


def assess_draw(
    graph: PowerGraph, telemetry: Telemetry, *, now: datetime, rules: Rules
) -> Mapping[str, LayerDraw]:
    """The draw of every layer; rows and the site are the sums of their racks."""
    racks = {rack.name: _rack_draw(graph, rack, telemetry, now, rules) for rack in graph.racks}
    return {
        layer.name: racks[layer.name]
        if layer.kind is LayerKind.RACK
        else _sum_of([racks[rack.name] for rack in graph.racks_below(layer)], layer, graph)
        for layer in graph.layers.values()
    }


def _rack_draw(
    graph: PowerGraph, rack: Layer, telemetry: Telemetry, now: datetime, rules: Rules
) -> LayerDraw:
    if not rack.pdus:
        # No meter at all: Slurm's tokens alone keep the sum, and nothing is shed.
        return LayerDraw(0, 0, None, False, (), None)
    current: list[Reading] = []
    previous: list[int] = []
    lost: list[str] = []
    alarm_w = 0
    for pdu in rack.pdus:
        readings = telemetry.readings.get(pdu, ())
        good = [each for each in readings if each.quality.believable]
        if not good or now - good[-1].polled_at > rules.stale_after:
            lost.append(_why_lost(pdu, readings, good, now))
            alarm_w += _implausibly_high(readings)
            continue
        current.append(good[-1])
        previous.extend(each.active_power_w or 0 for each in good[-2:-1])
        alarm_w += max(_implausibly_high(readings), good[-1].active_power_w or 0)
    powers = [each.active_power_w or 0 for each in current]
    seen_w = sum(powers)
    return LayerDraw(
        seen_w=seen_w,
        feared_w=max(graph.nameplate_w(rack), alarm_w) if lost else max(seen_w, alarm_w),
        previous_w=sum(previous) if len(previous) == len(rack.pdus) else None,
        feeds_agree=len(powers) > 1 and not lost and _agree(powers, rules),
        lost=tuple(lost),
        oldest_at=min((each.polled_at for each in current), default=None),
    )


def _implausibly_high(readings: tuple[Reading, ...]) -> int:
    """A newest reading that is too high to be believed still counts for fencing."""
    if not readings or readings[-1].quality.believable:
        return 0
    return max(0, readings[-1].active_power_w or 0)


def _agree(powers: list[int], rules: Rules) -> bool:
    return max(powers) - min(powers) <= rules.feeds_agree_within * max(powers)


def _why_lost(pdu: str, readings: tuple[Reading, ...], good: list[Reading], now: datetime) -> str:
    if readings and not readings[-1].quality.believable:
        return f"{pdu} is not believed: {readings[-1].note or readings[-1].quality}"
    if good:
        return f"{pdu} gave no reading for {(now - good[-1].polled_at).total_seconds():.0f} s"
    return f"{pdu} has never answered"


def _sum_of(parts: list[LayerDraw], layer: Layer, graph: PowerGraph) -> LayerDraw:
    # A layer's own static loads (those that no rack below holds) are on no rack's meter.
    static_w = layer.static_w - sum(rack.static_w for rack in graph.racks_below(layer))
    before = [part.previous_w for part in parts]
    known = [each for each in before if each is not None]
    times = [part.oldest_at for part in parts if part.oldest_at is not None]
    return LayerDraw(
        seen_w=static_w + sum(part.seen_w for part in parts),
        feared_w=static_w + sum(part.feared_w for part in parts),
        previous_w=static_w + sum(known) if len(known) == len(before) else None,
        feeds_agree=all(part.feeds_agree for part in parts),
        lost=tuple(why for part in parts for why in part.lost),
        oldest_at=min(times, default=None),
    )


def node_draw_w(telemetry: Telemetry, bmc: str, *, now: datetime, rules: Rules) -> int | None:
    """What a node's BMC last showed, None when it is not seen."""
    good = [each for each in telemetry.readings.get(bmc, ()) if each.quality.believable]
    if not good or now - good[-1].polled_at > rules.stale_after:
        return None
    return good[-1].active_power_w
