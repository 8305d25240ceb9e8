# SPDX-License-Identifier: GPL-2.0-or-later
"""What a probe shows: the device as it would be stored, as one object or a table."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from collectors.readings import Reading

_LISTS = {
    "inlet": "inlets",
    "phase": "phases",
    "branch": "branches",
    "outlet": "outlets",
    "sensor": "sensors",
}
_COLUMN_NAMES = {"power_w": "active_power_w", "apparent_va": "apparent_power_va"}
_SWITCHES = frozenset({"on", "breaker_closed"})
_WIDEST = 100


@dataclass(frozen=True, slots=True)
class Report:
    """One device; the fields are the keys of the JSON object."""

    profile: str
    sys_object_id: str
    description: str
    active_power_w: int | None
    apparent_power_va: int | None
    power_factor: float | None
    energy_kwh: float | None
    quality: str
    notes: tuple[str, ...] = ()
    parts: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return {
            "profile": self.profile,
            "sys_object_id": self.sys_object_id,
            "description": self.description,
            "active_power_w": self.active_power_w,
            "apparent_power_va": self.apparent_power_va,
            "power_factor": self.power_factor,
            "energy_kwh": self.energy_kwh,
            **{name: self.parts.get(name, []) for name in _LISTS.values()},
            "quality": self.quality,
            "notes": list(self.notes),
        }

    def lines(self) -> Iterator[str]:
        """For people."""
        for name, value in self.as_json().items():
            if name in _LISTS.values():
                if value:
                    yield f"{name} ({len(value)}):"
                    yield from _table(value)
            elif name == "notes":
                yield from (f"note: {each}" for each in value)
            else:
                shown = "-" if value is None or value == "" else value
                yield f"{name:18} {str(shown)[:_WIDEST]}"


def report_of(
    reading: Reading,
    *,
    profile: str,
    sys_object_id: str = "",
    description: str = "",
    energy_kwh: float | None = None,
    values: Mapping[str, float | None] | None = None,
    notes: Iterable[str] = (),
) -> Report:
    named = dict(zip(reading.layout, reading.values, strict=True)) if values is None else values
    if energy_kwh is None and reading.energy_wh is not None:
        energy_kwh = reading.energy_wh / 1000
    said = [*notes, reading.note] if reading.note else notes
    return Report(
        profile=profile,
        sys_object_id=sys_object_id,
        description=description,
        active_power_w=reading.active_power_w,
        apparent_power_va=reading.apparent_power_va,
        power_factor=named.get("total.power_factor"),
        energy_kwh=energy_kwh,
        quality=reading.quality.value,
        notes=tuple(dict.fromkeys(said)),
        parts=_parts(named),
    )


def _parts(named: Mapping[str, float | None]) -> dict[str, list[dict[str, Any]]]:
    """`outlet.12.on` becomes a key of the outlet that is called 12."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for name, value in named.items():
        where, _, measure = name.rpartition(".")
        kind, _, label = where.partition(".")
        if kind in _LISTS and label:
            row = rows.setdefault((kind, label), {"name": label})
            row[_COLUMN_NAMES.get(measure, measure)] = _plain(measure, value)
    parts: dict[str, list[dict[str, Any]]] = {}
    for (kind, _), row in rows.items():
        parts.setdefault(_LISTS[kind], []).append(row)
    return parts


def _plain(measure: str, value: float | None) -> float | bool | None:
    if value is None:
        return None
    if measure in _SWITCHES:
        return bool(value)
    return int(value) if float(value).is_integer() else round(value, 6)


def _table(rows: list[dict[str, Any]]) -> Iterator[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(key)) for key in columns] for row in rows]
    widths = [max(len(key), *(len(each[at]) for each in cells)) for at, key in enumerate(columns)]
    for line in [columns, *cells]:
        padded = (cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        yield "  " + "  ".join(padded).rstrip()


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "-" if value is None else str(value)
