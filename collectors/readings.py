# SPDX-License-Identifier: GPL-2.0-or-later
"""What a device answered, and that it did not: the two things a collector records."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

Kind = Literal["pdu", "bmc"]


class Quality(StrEnum):
    """How far a reading can be believed; the words are stored."""

    GOOD = "good"
    IMPLAUSIBLE = "implausible"
    NOT_SUPPORTED = "not_supported"
    ESTIMATED = "estimated"


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


@dataclass(frozen=True, slots=True)
class Silence:
    """A device stopped answering. No row in `samples`: there is nothing to store."""

    device: str
    kind: Kind
    noticed_at_us: int
    since_us: int  #: the last answer, or the first poll when there never was one
    note: str


Record = Reading | Silence


class UnreadableRecord(Exception):
    """A line of the spool that is not a record: torn by a crash, or edited."""


def to_line(record: Record) -> bytes:
    """One record as one line of JSON, newline included."""
    if isinstance(record, Reading):
        fields = [
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
    else:
        fields = [
            "silence",
            record.device,
            record.kind,
            record.noticed_at_us,
            record.since_us,
            record.note,
        ]
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"


def from_line(line: bytes) -> Record:
    """The record that `to_line` wrote."""
    try:
        what, *fields = json.loads(line)
        if what == "reading":
            fields[6] = Quality(fields[6])
            return _checked(Reading(*fields))
        if what == "silence":
            return Silence(*fields)
    except (ValueError, TypeError, IndexError) as why:
        raise UnreadableRecord(f"{line[:80]!r}: {why}") from why
    raise UnreadableRecord(f"{line[:80]!r}: neither a reading nor a silence")


def _checked(reading: Reading) -> Reading:
    if not isinstance(reading.polled_at_us, int) or not isinstance(reading.device, str):
        raise ValueError("no time or no device")
    return reading
