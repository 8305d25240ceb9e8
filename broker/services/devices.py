# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows for `powermgr show device|sensor|feed`: the meters themselves, with age and quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from broker.domain.cluster import Quality
from broker.domain.errors import BadRequest
from broker.domain.power_graph import Feed, Layer, PowerGraph
from broker.services.listing import Row
from broker.services.ports import DeviceState

SILENT = "silent"
_MOST_SENSORS = 20_000
_UNITS = {
    "a": "A",
    "v": "V",
    "w": "W",
    "va": "VA",
    "wh": "Wh",
    "kwh": "kWh",
    "hz": "Hz",
    "c": "C",
    "percent": "%",
}


def doubted(states: Sequence[DeviceState], liars: Mapping[str, str]) -> list[DeviceState]:
    """The meters, those that lie by what the others of their rack show marked so."""
    return [
        replace(each, quality=Quality.IMPLAUSIBLE.value, note=liars[each.name])
        if each.name in liars
        else each
        for each in states
    ]


def device_rows(graph: PowerGraph, states: Sequence[DeviceState], now: datetime) -> list[Row]:
    """Every meter of the inventory, and those that answered once though they are not in it."""
    by_name = {each.name: each for each in states}
    expected = dict(_expected(graph))
    return [
        _device_row(name, by_name.get(name), expected.get(name), now)
        for name in [*expected, *(each.name for each in states if each.name not in expected)]
    ]


def _expected(graph: PowerGraph) -> Iterator[tuple[str, tuple[str, str, str | None]]]:
    """Meters by name, with kind, rack and feed."""
    for rack in graph.racks:
        for pdu in rack.pdus:
            yield pdu, ("pdu", rack.name, _feed_of(rack, pdu))
    for node in graph.nodes.values():
        yield node.bmc, ("bmc", node.rack, None)


def _feed_of(rack: Layer, pdu: str) -> str:
    named = [each.name for each in rack.feeds if each.pdu == pdu]
    return named[0] if named else pdu.removeprefix(f"{rack.name}.")


def _device_row(
    name: str,
    state: DeviceState | None,
    place: tuple[str, str, str | None] | None,
    now: datetime,
) -> Row:
    kind, rack, feed = place or ("", None, None)
    note = "" if place else "not in the inventory"
    state = state or DeviceState(name, kind, None, None, None, note="never answered")
    return {
        "name": name,
        "kind": state.kind,
        "rack": rack,
        "feed": feed,
        "profile": state.profile or None,
        "draw_w": _draw_w(state),
        "quality": _quality(state),
        "age_s": _age_s(state, now),
        "note": "; ".join(each for each in (note, state.note) if each),
        "energy_kwh": None if state.energy_wh is None else state.energy_wh / 1000,
        "energy_source": state.energy_source or None,
        "sys_object_id": state.sys_object_id or None,
        "description": state.description or None,
    }


def sensor_rows(states: Sequence[DeviceState], now: datetime) -> list[Row]:
    """Every named value of the last answers."""
    count = sum(len(each.values) for each in states)
    if count > _MOST_SENSORS:
        raise BadRequest(
            f"{count:,} sensors are more than the {_MOST_SENSORS:,} shown at once",
            hint=f"powermgr show sensor where device={states[0].name}",
        )
    return [
        {
            "device": state.name,
            "name": name,
            # Stored with seven digits: what follows is noise of the conversion.
            "value": None if value is None else float(f"{value:.7g}"),
            "unit": unit_of(name),
            "age_s": _age_s(state, now),
        }
        for state in states
        for name, value in state.values.items()
    ]


def unit_of(name: str) -> str | None:
    """The unit that a value's name ends in."""
    return _UNITS.get(name.rpartition(".")[2].rpartition("_")[2])


def feed_rows(graph: PowerGraph, states: Sequence[DeviceState], now: datetime) -> list[Row]:
    """The feeds of every rack, what each carries and its share of the rack's draw."""
    by_name = {each.name: each for each in states}
    return [_feed_row(rack, feed, by_name, now) for rack in graph.racks for feed in rack.feeds]


def _feed_row(rack: Layer, feed: Feed, by_name: Mapping[str, DeviceState], now: datetime) -> Row:
    state = by_name.get(feed.pdu or "")
    draw_w = _draw_w(state) if state else None
    draws = [_draw_w(by_name[pdu]) if pdu in by_name else None for pdu in rack.pdus]
    whole_w = None if None in draws else sum(each or 0 for each in draws)
    share = None if draw_w is None or not whole_w else round(100 * draw_w / whole_w, 1)
    return {
        "rack": rack.name,
        "feed": feed.name,
        "pdu": feed.pdu,
        "rating_a": feed.breaker_rating_a,
        "continuous_w": feed.continuous_w,
        "draw_w": draw_w,
        "share_percent": share,
        "quality": _quality(state) if state else None,
        "age_s": _age_s(state, now) if state else None,
    }


def _quality(state: DeviceState) -> str | None:
    return SILENT if state.silent_since else state.quality


def _draw_w(state: DeviceState) -> int | None:
    """What it showed last; nothing that is not believed, and nothing of a silent one."""
    believed = _quality(state) in {"good", "estimated"}
    return state.active_power_w if believed else None


def _age_s(state: DeviceState, now: datetime) -> int | None:
    if state.polled_at is None:
        return None
    return max(0, round((now - state.polled_at).total_seconds()))
