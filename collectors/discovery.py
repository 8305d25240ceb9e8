# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds out what an SNMP agent is and what it has; walks only what the profiles name."""

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from collectors.profile import KINDS, Column, Kind, Profile, Source, Table
from collectors.profile_plan import Answer, Item, Plan, Row, Total, decoded, scale_complaint
from collectors.profile_value import MISSING, Absence, Decoder, number, text
from collectors.transport import NoAnswer, SnmpTransport

SYS_DESCR = "1.3.6.1.2.1.1.1.0"
SYS_OBJECT_ID = "1.3.6.1.2.1.1.2.0"
SYS_UP_TIME = "1.3.6.1.2.1.1.3.0"

DISCOVERED_WITHIN_S = 120.0  #: a loaded or lossy agent of 20,000 objects needs a minute
_MOST_DIGITS = 9  # a device that claims more decimal digits than this is not to be believed
Index = tuple[int, ...]


class UnknownDevice(Exception):
    """No profile fits; says what the device answered."""

    def __init__(self, answered: "Identity") -> None:
        super().__init__(f"answers as {answered.sys_object_id or 'nothing known'}")
        self.answered = answered


@dataclass(frozen=True, slots=True)
class Identity:
    sys_object_id: str
    description: str


@dataclass(frozen=True, slots=True)
class Discovered:
    """What the device has, and all that it answered when it was asked."""

    plan: Plan
    answer: Answer


class Walks:
    """What was walked of one device; nothing is walked twice."""

    def __init__(self, transport: SnmpTransport) -> None:
        self._transport = transport
        self._columns: dict[str, Mapping[Index, object]] = {}
        self.answer: dict[str, object] = {}

    async def column(self, oid: str) -> Mapping[Index, object]:
        if oid not in self._columns:
            rows = await self._transport.walk(oid)
            self.answer.update(rows)
            self._columns[oid] = {_index(each, oid): value for each, value in rows}
        return self._columns[oid]


async def identify(transport: SnmpTransport) -> Identity:
    answer = await transport.get([SYS_DESCR, SYS_OBJECT_ID, SYS_UP_TIME])
    return Identity(
        text(answer.get(SYS_OBJECT_ID, "")).lstrip("."), text(answer.get(SYS_DESCR, ""))[:300]
    )


async def discover(
    transport: SnmpTransport,
    profiles: Mapping[str, Profile],
    *,
    chosen: str = "",
    within_s: float = DISCOVERED_WITHIN_S,
) -> Discovered:
    """The device by the first profile that fits; raises NoAnswer, UnknownDevice.

    A profile that an operator chose is believed where the device has its objects.
    """
    try:
        async with asyncio.timeout(within_s):
            return await _discover(transport, profiles, chosen)
    except TimeoutError as why:
        raise NoAnswer(f"what it has was not found out within {within_s:g} s") from why


async def _discover(
    transport: SnmpTransport, profiles: Mapping[str, Profile], chosen: str
) -> Discovered:
    found = await identify(transport)
    walks = Walks(transport)
    names = [chosen] if chosen else candidates(profiles, found)
    for name in names:
        profile = profiles[name].for_model(found.sys_object_id)
        if not await _has_one(walks, profile.probe):
            continue
        plan = await _plan(walks, name, profile, found)
        if not plan.empty:
            return Discovered(plan, walks.answer)
    raise UnknownDevice(found)


def candidates(profiles: Mapping[str, Profile], found: Identity) -> list[str]:
    """By sysObjectID, nearest first; then by description; a stranger may be any of them."""
    by_id = sorted(
        (name for name in profiles if profiles[name].likeness(found.sys_object_id)),
        key=lambda name: (-profiles[name].likeness(found.sys_object_id), profiles[name].rank),
    )
    by_words = [name for name in profiles if profiles[name].described_by(found.description)]
    return list(dict.fromkeys([*by_id, *by_words, *(() if by_id else profiles)]))


async def _has_one(walks: Walks, oids: Sequence[str]) -> bool:
    for oid in oids:
        if await walks.column(oid):
            return True
    return False


async def _plan(walks: Walks, name: str, profile: Profile, found: Identity) -> Plan:
    rows: list[Row] = []
    for kind in KINDS:
        for table in profile.tables:
            if table.kind == kind:
                taken = {each.label for each in rows if each.kind == kind}
                rows += [each for each in await _rows(walks, table) if each.label not in taken]
    notes = list(profile.notes)
    totals = profile.totals
    all_rows = tuple(rows)
    power = await _power(walks, totals.active_power_w, all_rows, notes)
    plan = Plan(
        profile=name,
        sys_object_id=found.sys_object_id,
        description=found.description,
        power=power.total,
        apparent=await _first(walks, totals.apparent_power_va, all_rows, "apparent_power_va"),
        factor=await _first(walks, totals.power_factor, all_rows, "power_factor"),
        energy=await _first(walks, totals.energy_kwh, all_rows, "energy_kwh"),
        rows=all_rows,
        notes=tuple(notes),
        refused=power.refused,
        passed_over=power.passed_over,
        better=power.better,
    )
    if power.total is not None:
        return plan
    apparent_va = decoded(plan, walks.answer).apparent_va
    says = "measures no active power" + (
        f", only apparent power: {apparent_va:,.0f} VA" if apparent_va is not None else ""
    )
    return _with_note(plan, says)


def _with_note(plan: Plan, note: str) -> Plan:
    return replace(plan, notes=(*plan.notes, note))


# --- rows --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Cell:
    unit: Index  #: which PDU, cord or module
    row: int | str
    index: Index  #: of the row, the column's suffix left out
    item: Item
    raw: object

    @property
    def absent(self) -> bool:
        return isinstance(self.item.decode(self.raw), Absence)


async def _rows(walks: Walks, table: Table) -> list[Row]:
    names = await walks.column(table.names) if table.names else {}
    filters = [(each, await walks.column(each.oid)) for each in table.where]
    labels = await walks.column(table.label) if table.label else {}
    found: dict[tuple[Index, int | str], dict[str, _Cell]] = {}
    # What is shared goes to the rows that the others made.
    in_order = sorted(
        ((measure, each) for measure, several in table.columns.items() for each in several),
        key=lambda each: each[1].shared,
    )
    for measure, column in in_order:
        for cell in await _cells(walks, table, column, names):
            # A device without a filter's column has nothing to tell apart.
            passes = (
                not answered or each.passes(number(answered.get(cell.index)))
                for each, answered in filters
            )
            if column.shared:
                for cells in found.values():
                    _take(cells, measure, cell)
            elif all(passes):
                _take(found.setdefault((cell.unit, cell.row), {}), measure, cell)
    told = {key: _told_label(cells, labels) for key, cells in found.items()}
    unique = len(set(told.values())) == len(told) and all(told.values())
    units = _unit_labels([unit for unit, _ in found])
    rows = []
    for (unit, number_), cells in sorted(found.items(), key=lambda each: _order(each[0])):
        label = told[unit, number_] if unique else ""
        row = _row(table, cells, label or _label(table, units[unit], number_))
        if row.items and (table.needs is None or table.needs in row.items):
            rows.append(row)
    return rows


def _take(cells: dict[str, _Cell], measure: str, cell: _Cell) -> None:
    """The cell for the row, unless an earlier column has a value there."""
    before = cells.get(measure)
    if before is None or (before.absent and not cell.absent):
        cells[measure] = cell


def _row(table: Table, cells: Mapping[str, _Cell], label: str) -> Row:
    items, absent = {}, {}
    rating_a = None
    for measure, cell in cells.items():
        value = cell.item.decode(cell.raw)
        if measure == "rating_a":
            rating_a = None if isinstance(value, Absence) else value
        elif not isinstance(value, Absence) or (cell.item.decode.states and value is not MISSING):
            # A state unknown now may be known later; what is not supported stays so.
            items[measure] = cell.item
        else:
            absent[measure] = cell.item
    return Row(table.kind, label, items, rating_a, absent)


async def _cells(
    walks: Walks, table: Table, column: Column, names: Mapping[Index, object]
) -> list[_Cell]:
    """One column's instances by row."""
    values = await walks.column(column.oid)
    told = await _told(walks, column)
    suffix = _parts(column.suffix)
    cells = []
    for index, raw in values.items():
        short = index[: len(index) - len(suffix)]
        if suffix and (index[len(short) :] != suffix or not short):
            continue
        place = _place(table, column, short, names)
        decoder = told.decoder(index, short)
        if place is not None and decoder is not None:
            unit, row = place
            cells.append(_Cell(unit, row, short, Item(_oid(column.oid, index), decoder), raw))
    return cells


def _place(
    table: Table, column: Column, index: Index, names: Mapping[Index, object]
) -> tuple[Index, int | str] | None:
    """Which unit and row an instance belongs to; None: to none of this table."""
    if table.names:
        name = re.fullmatch(column.match, text(names.get(index, "")))
        if name is None:
            return None
        return index[:-1], _clean(name.groupdict().get("row") or table.row or "1")
    if table.index:
        form = re.fullmatch(table.index, ".".join(map(str, index)))
        if form is None or not (form["row"] or "").isdigit():
            return None
        return _parts(form.groupdict().get("unit") or ""), int(form["row"])
    if not index:
        return None
    if table.row:
        return index, table.row
    if table.row_first:
        index = index[1:] + index[:1]
    return index[:-1], index[-1]


@dataclass(frozen=True, slots=True)
class _Told:
    """A column, and what the device itself tells about its scale and unit."""

    column: Column
    digits: Mapping[Index, object]
    factors: Mapping[Index, object]
    exponents: Mapping[Index, object]
    units: Mapping[Index, object]

    def decoder(self, index: Index, row: Index) -> Decoder | None:
        """None where the device does not tell the scale: no value is better than a wrong one."""
        column = self.column
        scale = float(column.scale)
        if column.digits:
            digits = number(self.digits.get(index))
            if digits is None or not 0 <= digits <= _MOST_DIGITS:
                return None
            scale = float(column.scale.scaleb(-int(digits)))
        if column.factors:
            factor = number(self.factors.get(index))
            if factor is None:
                return None
            # -10 divides by ten, 10 multiplies, 0 and 1 leave it as it is.
            scale = scale * factor if factor > 0 else scale / -factor if factor < 0 else scale
        if column.exponents:
            exponent = number(self.exponents.get(index))
            if exponent is None or abs(exponent) > _MOST_DIGITS:
                return None
            scale *= 10.0 ** int(exponent)
        # The row's own unit, that of the PDU it belongs to, or a scalar.
        keys = [row[:n] for n in range(len(row), 0, -1)]
        unit = number(next((self.units[key] for key in [*keys, (0,)] if key in self.units), None))
        return Decoder(
            scale=scale,
            not_supported=column.not_supported,
            negative=column.negative,
            states=dict(column.states),
            fahrenheit=column.fahrenheit or unit in column.unit_fahrenheit,
        )


async def _told(walks: Walks, column: Column) -> _Told:
    async def of(oid: str | None) -> Mapping[Index, object]:
        return await walks.column(oid) if oid else {}

    return _Told(
        column,
        await of(column.digits),
        await of(column.factors),
        await of(column.exponents),
        await of(column.unit),
    )


def _told_label(cells: Mapping[str, _Cell], labels: Mapping[Index, object]) -> str:
    first = next(iter(cells.values()))
    return _clean(text(labels.get(first.index, "")))


def _label(table: Table, unit: str, row: int | str) -> str:
    if table.row:
        name = table.row
    elif isinstance(row, str):
        name = row
    else:
        name = str(row + 1 - table.base)
        prefix = "L" if table.kind == "phase" else table.prefix and f"{table.prefix}-"
        name = f"{prefix}{name}"
    return f"{unit}-{name}" if unit else name


def _unit_labels(units: Sequence[Index]) -> dict[Index, str]:
    """Nothing where there is one unit only; a long index becomes an ordinal."""
    distinct = sorted(set(units), key=lambda each: (len(each), each))
    if len(distinct) <= 1:
        return dict.fromkeys(distinct, "")
    same_length = len({len(each) for each in distinct}) == 1
    telling = (
        [n for n in range(len(distinct[0])) if len({each[n] for each in distinct}) > 1]
        if same_length
        else []
    )
    if not telling or len(telling) > 2:
        return {each: str(n) for n, each in enumerate(distinct, 1)}
    return {each: "-".join(str(each[n]) for n in telling) for each in distinct}


def _order(key: tuple[Index, int | str]) -> tuple[Index, int, str]:
    unit, row = key
    return (unit, row, "") if isinstance(row, int) else (unit, 0, row)


# --- totals ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Power:
    total: Total | None
    refused: str  #: why it is not believed
    passed_over: frozenset[str]  #: what else was not believed
    better: tuple[Item, ...]  #: objects of its source and of those before, with no number now


async def _power(
    walks: Walks, sources: Sequence[Source], rows: tuple[Row, ...], notes: list[str]
) -> _Power:
    """The first source whose watts fit volts and amperes; else the first one, and why not."""
    refused: tuple[Total | None, str] = (None, "")
    better: list[Item] = []
    passed_over: frozenset[str] = frozenset()
    for source in sources:
        total = await _total(walks, source, rows, "power_w")
        value = total.value(walks.answer) if total else MISSING
        better += await _absent(walks, source, rows)
        if total is None or isinstance(value, Absence):
            continue
        if refused[0] and not total.measured:
            break  # an estimate must not hide that the wattmeter lies
        why = scale_complaint(value, rows, walks.answer) if total.measured else ""
        if not why:
            if total.says:
                notes.append(total.says)
            return _Power(total, "", passed_over, tuple(better))
        notes.append(why)
        passed_over |= set(total.oids)
        refused = refused if refused[0] else (total, why)
    return _Power(*refused, passed_over, tuple(better))


async def _absent(walks: Walks, source: Source, rows: tuple[Row, ...]) -> list[Item]:
    """What this source would take too, if it had a number: a PDU of a chain that is off, say."""
    if source.object:
        items = await _instances(walks, source.object)
        return [each for each in items if isinstance(each.value(walks.answer), Absence)]
    return [
        each.absent["power_w"]
        for each in rows
        if each.kind == source.sum and each.absent.get("power_w")
    ]


async def _first(
    walks: Walks, sources: Sequence[Source], rows: tuple[Row, ...], measure: str
) -> Total | None:
    for source in sources:
        total = await _total(walks, source, rows, measure)
        if measure == "power_factor" and total and len(total.terms) > 1:
            continue  # those of several PDUs are not added up
        if total and not isinstance(total.value(walks.answer), Absence):
            return total
    return None


async def _total(walks: Walks, source: Source, rows: tuple[Row, ...], measure: str) -> Total | None:
    terms: list[tuple[Item, ...]]
    if source.object:
        terms = [
            (each,)
            for each in await _instances(walks, source.object)
            if not isinstance(each.value(walks.answer), Absence)
        ]
        return Total(tuple(terms)) if terms else None
    if source.sum:
        of_kind = [each for each in rows if each.kind == source.sum]
        terms = [(each.items[measure],) for each in of_kind if measure in each.items]
        return Total(tuple(terms)) if terms else None
    if source.apparent_x_factor:
        terms = list(_products(rows, source.apparent_x_factor, "apparent_power_va", "power_factor"))
        says = "active power is apparent power x power factor, both measured"
        return Total(tuple(terms), says=says) if terms else None
    return _estimate(source, rows, measure)


def _estimate(source: Source, rows: tuple[Row, ...], measure: str) -> Total | None:
    """Watts from volts and amperes; VA in the same way."""
    kind: Kind = source.estimate or "phase"
    if measure == "apparent_power_va":
        terms = tuple(_products(rows, kind, "voltage_v", "current_a"))
        return Total(terms, measured=False) if terms else None
    if source.power_factor is None:
        terms = tuple(_products(rows, kind, "voltage_v", "current_a", "power_factor"))
        says = "active power is an estimate: volts x amperes x power factor"
        return Total(terms, measured=False, says=says) if terms else None
    terms = tuple(_products(rows, kind, "voltage_v", "current_a"))
    factor = float(source.power_factor)
    says = f"no wattmeter: active power is volts x amperes, power factor taken as {factor:g}"
    return Total(terms, factor, measured=False, says=says) if terms else None


def _products(rows: tuple[Row, ...], kind: Kind, *measures: str) -> Iterator[tuple[Item, ...]]:
    """One product for each row; none at all when a loaded row lacks one of the measures."""
    of_kind = [each for each in rows if each.kind == kind]
    if all(set(measures) <= each.items.keys() for each in of_kind):
        yield from (tuple(each.items[name] for name in measures) for each in of_kind)


async def _instances(walks: Walks, column: Column) -> list[Item]:
    """Every instance whose scale is known: one for each PDU or cord behind the agent."""
    told = await _told(walks, column)
    suffix = _parts(column.suffix)
    found: list[Item] = []
    for index in await walks.column(column.oid):
        if suffix and index[-len(suffix) :] != suffix:
            continue
        if (decoder := told.decoder(index, index)) is not None:
            found.append(Item(_oid(column.oid, index), decoder))
    return found


# --- OIDs --------------------------------------------------------------------------------------


def _index(oid: str, column: str) -> Index:
    return _parts(oid[len(column) + 1 :])


def _parts(dotted: str) -> Index:
    return tuple(int(each) for each in dotted.split(".")) if dotted else ()


def _oid(column: str, index: Index) -> str:
    return ".".join([column, *map(str, index)])


def _clean(label: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-")[:40]
