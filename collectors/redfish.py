# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads one PDU or BMC over Redfish (DSP0268): its total every poll, then as much detail as fits.

A row is one answer to the resource that holds the total. Details that do not come in time are
None in that row; they never cost it.
"""

import asyncio
import math
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from collectors.devices import Meter
from collectors.plausibility import Meaning, fits_int4, judge_power
from collectors.readings import Identity, Quality, Reading
from collectors.transport import NoAnswer

ROOT = "/redfish/v1/"
_EQUIPMENT = ("RackPDUs", "PowerShelves", "FloorPDUs")
_DETAIL_SHARE = 0.3  #: of a poll's timeout: the total waits for them to be stored
_MOST_GETS = 12  #: for details of one poll, of a device that cannot expand a collection
_MOST_MEMBERS = 96  #: of one collection
_DISCOVER_AGAIN_S = 3600.0
_WATTS = Meaning()
_PHASES = {"L1": "Line1", "L2": "Line2", "L3": "Line3"}
_CLOSED = {"Normal": 1.0, "Tripped": 0.0, "Off": 0.0}
_STATE = {"On": 1.0, "Off": 0.0}

Values = dict[str, float | None]


class Json(Protocol):
    """What a reader asks of HTTP."""

    @property
    def timeout_s(self) -> float: ...

    async def get(self, path: str) -> dict[str, Any]:
        """One resource. Raises NoAnswer."""

    async def aclose(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Total:
    """What the resource with the total says."""

    power: object = None
    apparent_va: object = None
    energy_kwh: object = None
    values: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where a device keeps what: found once, asked again after an hour."""

    totals: tuple[str, ...]  #: one for each PDU behind the address, added up
    power_resource: bool  #: the old Chassis/Power instead of EnvironmentMetrics
    details: tuple[tuple[str, str], ...]  #: (inlet, branch, outlet or control; collection)
    description: str


class RedfishReader:
    """One device, and what discovery told about it."""

    def __init__(self, meter: Meter, http: Json, *, last_good_w: int | None = None) -> None:
        self._meter = meter
        self._http = http
        self._last_good_w = last_good_w
        self._plan: _Plan | None = None
        self._plan_good_until_s = 0.0
        self._names: dict[str, None] = {}  #: every value seen so far, in order: the layout
        self._cannot_expand = False
        self.identity: Identity | None = None

    async def read(self) -> Reading:
        """Poll once; raises NoAnswer."""
        plan = await self._planned()
        try:
            totals = [await self._http.get(path) for path in plan.totals]
        except NoAnswer:
            self._plan_good_until_s = 0.0  # firmware may have moved things: look again
            raise
        at_us = time.time_ns() // 1000
        read = _power if plan.power_resource else _metrics
        total = _sum([read(each) for each in totals])
        values = dict(total.values)
        await self._read_details(plan, values)
        return self._reading(total, values, at_us)

    async def close(self) -> None:
        await self._http.aclose()

    async def _planned(self) -> _Plan:
        if self._plan is None or time.monotonic() > self._plan_good_until_s:
            root = await self._http.get(ROOT)
            find = self._find_equipment if self._meter.kind == "pdu" else self._find_chassis
            self._plan = await find(root)
            self._plan_good_until_s = time.monotonic() + _DISCOVER_AGAIN_S
            self.identity = Identity(
                self._meter.name,
                self._meter.kind,
                time.time_ns() // 1000,
                "redfish",
                "",
                self._plan.description,
            )
        return self._plan

    async def _find_equipment(self, root: Mapping[str, Any]) -> _Plan:
        equipment = await self._http.get(_link(root, "PowerEquipment"))
        for kind in _EQUIPMENT:
            if kind not in equipment:
                continue
            members = await self._members(_link(equipment, kind))
            metered = [each for each in members if "Metrics" in each]
            if metered:
                details = [
                    (what, _link(each, collection))
                    for what, collection in (
                        ("inlet", "Mains"),
                        ("branch", "Branches"),
                        ("outlet", "Outlets"),
                    )
                    for each in metered[:1]
                    if collection in each
                ]
                totals = tuple(_link(each, "Metrics") for each in metered)
                return _Plan(totals, False, tuple(details), _description(metered[0]))
        raise NoAnswer(f"has no metered {' or '.join(_EQUIPMENT)}")

    async def _find_chassis(self, root: Mapping[str, Any]) -> _Plan:
        """The chassis that is the node: a sum over parts of one another would count twice."""
        found = await self._members(_link(root, "Chassis"))
        found.sort(key=lambda each: (_is_part(each), not _holds_the_bmc(each)))
        for each in found[:_MOST_GETS]:
            for resource, power_resource in (("EnvironmentMetrics", False), ("Power", True)):
                if resource in each and await self._measures(_link(each, resource), power_resource):
                    controls = [("control", _link(each, "Controls"))] if "Controls" in each else []
                    total = (_link(each, resource),)
                    return _Plan(total, power_resource, tuple(controls), _description(each))
        raise NoAnswer("has no chassis that measures its power")

    async def _measures(self, path: str, power_resource: bool) -> bool:
        try:
            found = await self._http.get(path)
        except NoAnswer:
            return False
        total = _power(found) if power_resource else _metrics(found)
        return isinstance(total.power, int | float)

    async def _members(self, path: str) -> list[dict[str, Any]]:
        """The members of a collection, in one request where the device can."""
        suffix = "" if self._cannot_expand else "?$expand=.($levels=1)"
        try:
            collection = await self._http.get(path + suffix)
        except NoAnswer as why:
            if not suffix or ("HTTP 4" not in str(why) and "HTTP 501" not in str(why)):
                raise
            self._cannot_expand = True
            collection = await self._http.get(path)
        members = [each for each in _list(collection.get("Members")) if isinstance(each, dict)]
        members = members[:_MOST_MEMBERS]
        if all(len(each) > 1 for each in members):
            return members
        self._cannot_expand = True
        return [await self._http.get(_path(each)) for each in members[:_MOST_GETS]]

    async def _read_details(self, plan: _Plan, values: Values) -> None:
        """Adds what comes in time; a device too slow for details keeps its total."""
        try:
            async with asyncio.timeout(self._time_for_details_s()):
                for what, path in plan.details:
                    if what == "outlet" and self._cannot_expand:
                        continue  # a request for each outlet is more than a poll can carry
                    for number, each in enumerate(await self._members(path), start=1):
                        values |= _DETAILS[what](_id(each, number), each)
        except (NoAnswer, TimeoutError):
            return

    def _time_for_details_s(self) -> float:
        return _DETAIL_SHARE * self._http.timeout_s

    def _reading(self, total: _Total, values: Values, at_us: int) -> Reading:
        judged = judge_power(
            _whole(total.power),
            _WATTS,
            ceiling_w=self._meter.ceiling_w,
            last_good_w=self._last_good_w,
        )
        if judged.quality is Quality.GOOD:
            self._last_good_w = judged.active_power_w
        self._names |= dict.fromkeys(values)
        apparent = _number(total.apparent_va)
        energy = _number(total.energy_kwh)
        energy_wh = None if energy is None or not 0 <= energy < 1e15 else round(energy * 1000)
        return Reading(
            device=self._meter.name,
            kind=self._meter.kind,
            polled_at_us=at_us,
            active_power_w=judged.active_power_w,
            apparent_power_va=None
            if apparent is None or apparent < 0
            else fits_int4(round(apparent)),
            energy_wh=energy_wh,
            quality=judged.quality,
            note=judged.note,
            layout=tuple(self._names),
            values=tuple(values.get(name) for name in self._names),
            energy_source="" if energy_wh is None else "counter",
        )


def _metrics(found: Mapping[str, Any]) -> _Total:
    """PowerDistributionMetrics and EnvironmentMetrics hold their total alike."""
    values: Values = {}
    _put(values, "total.power_factor", _dig(found, "PowerWatts", "PowerFactor"))
    _put(values, "sensor.1.temperature_c", _dig(found, "TemperatureCelsius", "Reading"))
    _put(values, "sensor.1.humidity_percent", _dig(found, "HumidityPercent", "Reading"))
    _put(values, "limit.power_w", _dig(found, "PowerLimitWatts", "SetPoint"))
    return _Total(
        _dig(found, "PowerWatts", "Reading"),
        _dig(found, "PowerWatts", "ApparentVA"),
        _dig(found, "EnergykWh", "Reading"),
        values,
    )


def _power(found: Mapping[str, Any]) -> _Total:
    """The old Power resource: PowerControl 0 is the chassis as a whole (DSP0268, Power)."""
    controls = _list(found.get("PowerControl"))
    first = controls[0] if controls and isinstance(controls[0], dict) else {}
    values: Values = {}
    _put(values, "limit.power_w", _dig(first, "PowerLimit", "LimitInWatts"))
    for number, supply in enumerate(_list(found.get("PowerSupplies"))[:16], start=1):
        if isinstance(supply, dict):
            _put(values, f"inlet.{number}.voltage_v", supply.get("LineInputVoltage"))
            _put(values, f"inlet.{number}.power_w", supply.get("PowerInputWatts"))
    return _Total(power=first.get("PowerConsumedWatts"), values=values)


def _sum(totals: list[_Total]) -> _Total:
    """Several PDUs behind one address: one of them unreadable leaves no sum."""
    if len(totals) == 1:
        return totals[0]
    values = {
        f"part.{number}.power_w": _number(each.power) for number, each in enumerate(totals, start=1)
    }
    return _Total(
        _added(each.power for each in totals),
        _added(each.apparent_va for each in totals),
        _added(each.energy_kwh for each in totals),
        dict(values),
    )


def _added(parts: Iterable[object]) -> float | None:
    numbers = [_number(each) for each in parts]
    known = [each for each in numbers if each is not None]
    return sum(known) if known and len(known) == len(numbers) else None


def _circuit(name: str, found: Mapping[str, Any], phase: str) -> Values:
    values: Values = {}
    _put(values, f"{name}.current_a", _dig(found, "CurrentAmps", "Reading"))
    _put(values, f"{name}.voltage_v", _dig(found, "Voltage", "Reading"))
    _put(values, f"{name}.power_w", _dig(found, "PowerWatts", "Reading"))
    _put(values, f"{name}.energy_kwh", _dig(found, "EnergykWh", "Reading"))
    _put(values, f"{name}.breaker_closed", _CLOSED.get(str(found.get("BreakerState"))))
    _put(values, f"{name}.rating_a", found.get("RatedCurrentAmps"))
    for line, word in _PHASES.items() if phase else ():
        current = _dig(found, "PolyPhaseCurrentAmps", word, "Reading")
        voltage = _dig(found, "PolyPhaseVoltage", f"{word}ToNeutral", "Reading")
        power = _dig(found, "PolyPhasePowerWatts", f"{word}ToNeutral", "Reading")
        _put(values, f"{phase}.{line}.current_a", current)
        _put(values, f"{phase}.{line}.voltage_v", voltage)
        _put(values, f"{phase}.{line}.power_w", power)
    return values


def _inlet(id_: str, found: Mapping[str, Any]) -> Values:
    return _circuit(f"inlet.{id_}", found, f"inlet.{id_}.phase")


def _branch(id_: str, found: Mapping[str, Any]) -> Values:
    return _circuit(f"branch.{id_}", found, "")


def _outlet(id_: str, found: Mapping[str, Any]) -> Values:
    values = _circuit(f"outlet.{id_}", found, "")
    _put(values, f"outlet.{id_}.on", _STATE.get(str(found.get("PowerState"))))
    return values


def _control(id_: str, found: Mapping[str, Any]) -> Values:
    values: Values = {}
    if found.get("ControlType") == "Power" and found.get("SetPointUnits", "W") == "W":
        _put(values, "limit.power_w", found.get("SetPoint"))
        _put(values, "limit.lowest_power_w", found.get("AllowableMin"))
        _put(values, "limit.highest_power_w", found.get("AllowableMax"))
    return values


_DETAILS = {"inlet": _inlet, "branch": _branch, "outlet": _outlet, "control": _control}


def _put(values: Values, name: str, raw: object) -> None:
    number = _number(raw)
    if number is not None:
        values[name] = number


def _number(raw: object) -> float | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        return None
    return float(raw) if abs(raw) < 1e15 and math.isfinite(raw) else None


def _whole(raw: object) -> object:
    """Watts as a whole number; what is no number stays as it is, to be judged."""
    return round(raw) if isinstance(raw, float) and math.isfinite(raw) else raw


def _dig(found: object, *keys: str) -> Any:
    for key in keys:
        if not isinstance(found, Mapping):
            return None
        found = found.get(key)
    return found


def _list(raw: object) -> list[Any]:
    return raw if isinstance(raw, list) else []


def _link(found: Mapping[str, Any], key: str) -> str:
    return _path(found.get(key))


def _path(link: object) -> str:
    """Only a path on this device: an @odata.id must not lead the login elsewhere."""
    path = _dig(link, "@odata.id")
    if not isinstance(path, str) or not re.fullmatch(r"/[!-~]{0,500}", path) or path[1:2] == "/":
        raise NoAnswer("has a link that leads nowhere on this device")
    return path


def _id(found: Mapping[str, Any], number: int) -> str:
    name = str(found.get("Id", ""))
    return name if re.fullmatch(r"[A-Za-z0-9_-]{1,24}", name) else str(number)


def _is_part(chassis: Mapping[str, Any]) -> bool:
    return _dig(chassis, "Links", "ContainedBy") is not None


def _holds_the_bmc(chassis: Mapping[str, Any]) -> bool:
    return bool(_dig(chassis, "Links", "ManagersInChassis"))


def _description(found: Mapping[str, Any]) -> str:
    words = (found.get("Manufacturer"), found.get("Model"), found.get("FirmwareVersion"))
    return " ".join(str(each) for each in words if each)[:200]
