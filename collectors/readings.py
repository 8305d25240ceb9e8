# SPDX-License-Identifier: GPL-2.0-or-later
"""What a device answered, that it did not, and what it is: the things a collector records."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from broker.domain.cluster import Quality as Quality

Kind = Literal["pdu", "bmc", "gpu"]
EnergySource = Literal["counter", "integrated", ""]
Layout = tuple[str, ...]  #: value names with their unit: "inlet.1.current_a", "outlet.12.on"


@dataclass(frozen=True, slots=True)
class Reading:
    """One answered poll: one row in `samples`, whatever the device answered."""

    device: str
    kind: Kind
    polled_at_us: int  #: when the answer arrived, microseconds since 1970 (UTC)
    active_power_w: int | None
    apparent_power_va: int | None
    energy_wh: int | None
    quality: Quality
    note: str = ""
    layout: Layout = ()  #: what `values` are, one name each
    values: tuple[float | None, ...] = ()  #: None: not supported, or left out of this answer
    energy_source: EnergySource = ""


@dataclass(frozen=True, slots=True)
class Silence:
    """A device stopped answering. No row in `samples`: there is nothing to store."""

    device: str
    kind: Kind
    noticed_at_us: int
    since_us: int  #: the last answer, or the first poll when there never was one
    note: str


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device turned out to be at discovery; recorded when it is first known or changes.

    A reader that knows it has it as its attribute `identity`.
    """

    device: str
    kind: Kind
    noticed_at_us: int
    profile: str
    sys_object_id: str
    description: str


Record = Reading | Silence | Identity


class UnreadableRecord(Exception):
    """A line of the spool that is not a record: torn by a crash, or edited."""


def to_line(record: Record, layout_number: int | None = None) -> bytes:
    """One record as one line of JSON, newline included.

    With a number, a reading refers to the layout that `layout_line` defined; else it spells it out.
    """
    if isinstance(record, Reading):
        fields: list[object] = [
            "reading",
            record.device,
            record.kind,
            record.polled_at_us,
            record.active_power_w,
            record.apparent_power_va,
            record.energy_wh,
            record.quality.value,
            record.note,
        ]
        if record.layout or record.energy_source:
            layout = record.layout if layout_number is None else layout_number
            fields += [layout, record.values, record.energy_source]
    elif isinstance(record, Silence):
        fields = [
            "silence",
            record.device,
            record.kind,
            record.noticed_at_us,
            record.since_us,
            record.note,
        ]
    else:
        fields = [
            "identity",
            record.device,
            record.kind,
            record.noticed_at_us,
            record.profile,
            record.sys_object_id,
            record.description,
        ]
    return _line(fields)


def layout_line(number: int, layout: Layout) -> bytes:
    """Defines a layout's number for the lines after it."""
    return _line(["layout", number, layout])


class Lines:
    """Reads the lines of one spool segment in order: a layout is defined before its use."""

    def __init__(self) -> None:
        self._layouts: dict[int, Layout] = {}

    def read(self, line: bytes) -> Record | None:
        """The record that `to_line` wrote, None for a layout. Raises UnreadableRecord."""
        try:
            return self._record(json.loads(line))
        except (ValueError, TypeError, IndexError, KeyError, RecursionError) as why:
            raise UnreadableRecord(f"{line[:80]!r}: {why}") from why

    def read_all(self, lines: Sequence[bytes]) -> list[Record]:
        """Many whole lines at once, several times faster. Raises UnreadableRecord for all."""
        try:
            parsed = json.loads(b"[" + b",".join(lines) + b"]")
            if len(parsed) != len(lines):
                raise ValueError("a line that is no record")
            read = [self._record(each) for each in parsed]
        except (ValueError, TypeError, IndexError, KeyError, RecursionError) as why:
            raise UnreadableRecord(f"{len(lines)} lines: {why}") from why
        return [each for each in read if each is not None]

    def _record(self, fields: Any) -> Record | None:
        what = fields[0]
        if what == "reading":
            return _reading(fields, self._layouts)
        if what == "silence":
            return Silence(*fields[1:])
        if what == "identity":
            return Identity(*fields[1:])
        if what == "layout":
            _, number, names = fields
            self._layouts[number] = tuple(names)
            return None
        raise ValueError("no record")


def from_line(line: bytes) -> Record:
    """A record whose line stands alone."""
    record = Lines().read(line)
    if record is None:
        raise UnreadableRecord(f"{line[:80]!r}: a layout is no record")
    return record


_QUALITIES = {each.value: each for each in Quality}


def _reading(fields: Any, layouts: Mapping[int, Layout]) -> Reading:
    _, device, kind, at_us, power_w, apparent_va, energy_wh, quality, note, *more = fields
    if type(at_us) is not int or type(device) is not str:
        raise ValueError("no time or no device")
    if not more:  # also every line of a collector before layouts
        return Reading(
            device, kind, at_us, power_w, apparent_va, energy_wh, _QUALITIES[quality], note
        )
    layout, values, source = more
    names = layouts[layout] if type(layout) is int else tuple(layout)
    if len(names) != len(values):
        raise ValueError(f"{len(values)} values for {len(names)} names")
    return Reading(
        device,
        kind,
        at_us,
        power_w,
        apparent_va,
        energy_wh,
        _QUALITIES[quality],
        note,
        names,
        tuple(values),
        source,
    )


def _line(fields: Sequence[object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"
