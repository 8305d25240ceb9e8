# SPDX-License-Identifier: GPL-2.0-or-later
"""From readings to the draw of a layer: what is believed, and what must be feared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from broker.domain.cluster import Reading, Telemetry
from broker.domain.crosscheck import lying_meters
from broker.domain.power_graph import Layer, LayerKind, PowerGraph
from broker.domain.rules import Rules


@dataclass(frozen=True, slots=True)
class LayerDraw:
    """The draw of one layer.

    ``seen_w`` is what meters show (parts nobody can see count nothing): shedding acts on it.
    ``feared_w`` counts a rack at its upper bound while a part is unseen or implausibly high:
    fencing acts on it. Stale or absent telemetry thus never makes room (reliability I6).
    """

    seen_w: int
    feared_w: int
    previous_w: int | None  #: the least it drew in the polls before, where all meters kept step
    feeds_agree: bool  #: the meters confirm each other, so one poll is enough to act
    lost: tuple[str, ...]  #: why a part is not seen, a sentence each
    oldest_at: datetime | None  #: time of the oldest last believable reading of a meter
    #: meters of a rack that lie by what the others show, each with the reason
    liars: Mapping[str, str] = field(default_factory=dict)

    def confirmed_above(self, limit_w: int) -> bool:
        """Is it above the limit poll after poll, or by two meters that agree?"""
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
    histories: list[list[Reading]] = []  # of the meters that are seen, newest last
    lost: list[str] = []
    alarm_w = 0
    last_words: list[datetime] = []
    liars = lying_meters(graph, rack, _shown(graph, rack, telemetry, now, rules), rules)
    for pdu in rack.pdus:
        readings = telemetry.readings.get(pdu, ())
        good = _believed(readings, now, rules)
        last_words += [each.polled_at for each in good[-1:]]
        if not good or now - good[-1].polled_at > rules.stale_after:
            lost.append(_why_lost(pdu, readings, good, now))
            continue
        if pdu in liars:
            lost.append(liars[pdu])
            continue
        histories.append(good)
        alarm_w += max(_implausibly_high(readings), _power_w(good[-1]))
    powers = [_power_w(good[-1]) for good in histories]
    seen_w = sum(powers)
    # A meter that says more than could be is as good as silent: it must not fill row and site.
    most_w = max(graph.nameplate_w(rack), seen_w)
    return LayerDraw(
        seen_w=seen_w,
        feared_w=most_w if lost else min(most_w, max(seen_w, alarm_w)),
        previous_w=_least_before_w(histories, rules),
        feeds_agree=len(powers) > 1
        and not lost
        and _in_step(histories, 1)
        and _agree(powers, rules),
        lost=tuple(lost),
        oldest_at=min(last_words, default=None),
        liars=liars,
    )


def _shown(
    graph: PowerGraph, rack: Layer, telemetry: Telemetry, now: datetime, rules: Rules
) -> Mapping[str, list[int]]:
    """The believable watts of the last polls, of each meter of the rack that is seen."""
    shown = {}
    for device in (*rack.pdus, *(graph.nodes[name].bmc for name in rack.nodes)):
        good = _believed(telemetry.readings.get(device, ()), now, rules)
        if good and now - good[-1].polled_at <= rules.stale_after:
            shown[device] = [_power_w(each) for each in good]
    return shown


def _believed(readings: tuple[Reading, ...], now: datetime, rules: Rules) -> list[Reading]:
    """Readings that count: with watts, and not from a clock that runs ahead."""
    return [
        each
        for each in readings
        if each.quality.believable
        and each.active_power_w is not None
        and each.active_power_w >= 0
        # Else it would look fresh for as long as that clock is ahead.
        and each.polled_at - now <= rules.stale_after
    ]


def _power_w(reading: Reading) -> int:
    return reading.active_power_w or 0


def _least_before_w(histories: list[list[Reading]], rules: Rules) -> int | None:
    """The least that the meters showed together in the polls before the newest one.

    None while one lags behind: when a feed dies, its last word and the other feed, which now
    carries all, would add up to an overload that never was.
    """
    polls = rules.over_limit_polls
    if not histories or any(len(good) < polls for good in histories):
        return None
    if not all(_in_step(histories, back) for back in range(1, polls)):
        return None
    before = range(2, polls + 1) if polls > 1 else [1]
    return min(sum(_power_w(good[-back]) for good in histories) for back in before)


def _in_step(histories: list[list[Reading]], back: int) -> bool:
    """Did all meters answer since any of them gave its last answer but ``back``?"""
    later = min(good[-back].polled_at for good in histories)
    return all(len(good) <= back or good[-back - 1].polled_at < later for good in histories)


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
    # A part that confirms nothing counts nothing: the others may be too much already.
    known = [part.previous_w for part in parts if part.previous_w is not None]
    times = [part.oldest_at for part in parts if part.oldest_at is not None]
    return LayerDraw(
        seen_w=static_w + sum(part.seen_w for part in parts),
        feared_w=static_w + sum(part.feared_w for part in parts),
        previous_w=static_w + sum(known) if known else None,
        feeds_agree=all(part.feeds_agree for part in parts),
        lost=tuple(why for part in parts for why in part.lost),
        oldest_at=min(times, default=None),
    )


def node_draw_w(telemetry: Telemetry, bmc: str, *, now: datetime, rules: Rules) -> int | None:
    """What a node's BMC last showed, None when it is not seen."""
    good = _believed(telemetry.readings.get(bmc, ()), now, rules)
    if not good or now - good[-1].polled_at > rules.stale_after:
        return None
    return good[-1].active_power_w
