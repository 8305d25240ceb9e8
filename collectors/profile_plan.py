# SPDX-License-Identifier: GPL-2.0-or-later
"""What discovery found a device to have: which objects are asked, and how answers are read."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from collectors.profile import Kind
from collectors.profile_value import GARBAGE, MISSING, NOT_SUPPORTED, Absence, Decoder, Value

MOST_OIDS = 60  #: in one GET: its answer fits into one packet
_FIRST = ("power_w", "temperature_c", "humidity_percent", "current_a", "on", "breaker_closed")
_TELLING_VA = 30  # of less load, a factor of ten may be rounding
_TOO_MUCH, _TOO_LITTLE, _FAR_TOO_LITTLE = 3.0, 1 / 4, 1 / 8
Answer = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Item:
    """One instance of one object."""

    oid: str
    decode: Decoder

    def value(self, answer: Answer) -> Value:
        return self.decode(answer.get(self.oid))


@dataclass(frozen=True, slots=True)
class Row:
    """One inlet, phase, branch, outlet or sensor."""

    kind: Kind
    label: str
    items: Mapping[str, Item]  #: by measure
    rating_a: float | None = None
    absent: Mapping[str, Item] = field(default_factory=dict)  #: not supported, at the moment

    def name(self, measure: str) -> str:
        return f"{self.kind}.{self.label}.{measure}"


@dataclass(frozen=True, slots=True)
class Total:
    """A sum of products of objects: mostly one object, or one for each row."""

    terms: tuple[tuple[Item, ...], ...]
    factor: float = 1.0
    measured: bool = True  #: False: estimated from volts and amperes
    says: str = ""  #: what an operator should know of it

    @property
    def oids(self) -> Iterator[str]:
        return (item.oid for term in self.terms for item in term)

    def value(self, answer: Answer) -> Value:
        total = 0.0
        worst: Absence | None = None
        for term in self.terms:
            product = self.factor
            for item in term:
                value = item.value(answer)
                if isinstance(value, Absence):
                    worst = _worse(worst, value)
                else:
                    product *= value
            total += product
        return worst or round(total, 6)

    def why_absent(self, answer: Answer) -> str:
        """In words: the first object without a number, and what it answered."""
        for term in self.terms:
            for item in term:
                value = item.value(answer)
                if value is MISSING:
                    return "the answer leaves out the power object"
                if value is NOT_SUPPORTED:
                    return f"answered {_short(answer[item.oid])}, its word for not supported"
                if value is GARBAGE:
                    return f"answered {_short(answer[item.oid])}, not a number"
        return ""


@dataclass(frozen=True, slots=True)
class Plan:
    """One device, as discovery found it."""

    profile: str
    sys_object_id: str
    description: str
    power: Total | None
    apparent: Total | None
    factor: Total | None
    energy: Total | None
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    refused: str = ""  #: why its power is not believed
    passed_over: frozenset[str] = frozenset()  #: totals whose scale was not believed, by OID
    better: tuple[Item, ...] = ()  #: would tell the power better or more of it; no number now

    @property
    def empty(self) -> bool:
        totals = (self.power, self.apparent, self.energy)
        return not self.rows and not any(totals)

    def total_oids(self) -> list[str]:
        """What the totals need, power first; without these a poll would be half an answer."""
        totals = (self.power, self.apparent, self.factor, self.energy)
        return list(dict.fromkeys(oid for each in totals if each for oid in each.oids))

    def polled(self, most: int = MOST_OIDS) -> dict[str, Item]:
        """The named values of a poll: as many as fit, and those the totals need anyway.

        All of the inlets and phases, by which watts are judged; then the watts of every other row
        before the amperes of any.
        """
        listed = [(row, m, item) for row in self.rows for m, item in row.items.items()]
        oids = set(self.total_oids())
        taken = set()
        for row, measure, item in sorted(listed, key=lambda each: _urgency(*each[:2])):
            if item.oid in oids or len(oids) < most:
                oids.add(item.oid)
                taken.add(row.name(measure))
        return {row.name(m): item for row, m, item in listed if row.name(m) in taken}


def _urgency(row: Row, measure: str) -> int:
    if row.kind in ("inlet", "phase"):
        return -1
    return _FIRST.index(measure) if measure in _FIRST else len(_FIRST)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An answer in our units."""

    power_w: float | None
    absence: str  #: why there is no power, in words
    garbage: bool
    apparent_va: float | None
    power_factor: float | None
    energy_kwh: float | None


def decoded(plan: Plan, answer: Answer) -> Decoded:
    """The totals of an answer; never raises, whatever was answered."""
    power: Value = plan.power.value(answer) if plan.power else NOT_SUPPORTED
    absence = ""
    if isinstance(power, Absence):
        absence = plan.power.why_absent(answer) if plan.power else "it has no power object"
    apparent_va = _number(plan.apparent, answer)
    return Decoded(
        power_w=None if isinstance(power, Absence) else power,
        absence=absence,
        garbage=power is GARBAGE,
        apparent_va=apparent_va,
        power_factor=_factor(plan, answer, power, apparent_va),
        energy_kwh=_number(plan.energy, answer),
    )


def value_of(item: Item, answer: Answer) -> float | None:
    value = item.value(answer)
    # The column holds 32-bit floats.
    return None if isinstance(value, Absence) or abs(value) > 3e38 else value


def volt_amperes(rows: tuple[Row, ...], answer: Answer) -> tuple[float, float | None] | None:
    """V x A, and x power factor where it is told, of the phases, else of the inlets."""
    for kind in ("phase", "inlet"):
        found = [_volt_amperes(each, answer) for each in rows if each.kind == kind]
        metered = [each for each in found if each is not None]
        if metered:
            watts = [each[1] for each in metered]
            factored = None if None in watts else math.fsum(each or 0.0 for each in watts)
            return math.fsum(each[0] for each in metered), factored
    return None


def scale_complaint(power_w: float, rows: tuple[Row, ...], answer: Answer) -> str:
    """Why these watts cannot be, beside the device's own volts and amperes; '' when they can."""
    beside = volt_amperes(rows, answer)
    if beside is None:
        return ""
    va, watts = beside
    expected = va if watts is None else watts
    least = _FAR_TOO_LITTLE if watts is None else _TOO_LITTLE
    too_much = power_w > _TOO_MUCH * va and power_w > _TELLING_VA
    too_little = expected > _TELLING_VA and power_w < least * expected
    if not (too_much or too_little):
        return ""
    by = "volts x amperes" if watts is None else "volts x amperes x power factor"
    return f"answers {power_w:,.0f} W where {by} are {expected:,.0f} W: its scale is not believed"


def _volt_amperes(row: Row, answer: Answer) -> tuple[float, float | None] | None:
    volts, amperes, factor = (
        value_of(row.items[each], answer) if each in row.items else None
        for each in ("voltage_v", "current_a", "power_factor")
    )
    if volts is None or amperes is None:
        return None
    va = volts * amperes
    return va, va * factor if factor is not None and 0 < factor <= 1 else None


def _factor(plan: Plan, answer: Answer, power: Value, apparent_va: float | None) -> float | None:
    if plan.factor and isinstance(told := plan.factor.value(answer), float | int):
        return told if 0 <= told <= 1 else None
    if isinstance(power, Absence) or not apparent_va or not (plan.power and plan.power.measured):
        return None
    ratio = round(power / apparent_va, 3)
    return ratio if 0 <= ratio <= 1 else None


def _number(total: Total | None, answer: Answer) -> float | None:
    value = total.value(answer) if total else MISSING
    return None if isinstance(value, Absence) else value


def _worse(one: Absence | None, other: Absence) -> Absence:
    order = (NOT_SUPPORTED, MISSING, GARBAGE)
    return other if one is None else max(one, other, key=order.index)


def _short(raw: object) -> str:
    shown = repr(raw)
    return shown if len(shown) <= 40 else shown[:37] + "..."
