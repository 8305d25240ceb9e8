# SPDX-License-Identifier: GPL-2.0-or-later
"""`powercollectord profile check FILE --against WALK.snmprec`: what a profile reads of a recording.

A recording has one object a line, `OID|type|value`, in the format that snmpsim replays.
"""

import argparse
import asyncio
import json
import sys
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from collectors.complaints import BadConfiguration
from collectors.discovery import UnknownDevice, discover
from collectors.pdu import reading_of
from collectors.probe_report import report_of
from collectors.profile import Column, Profile, load_profile
from collectors.profile_plan import value_of
from collectors.transport import NoAnswer

BAD, UNKNOWN = 2, 3
_NUMBERS = frozenset({"2", "65", "66", "67", "70"})
_NO_CEILING_W = 10_000_000


class Recording:
    """A recorded walk that answers as the device did."""

    def __init__(self, lines: Iterator[str] | Sequence[str]) -> None:
        self.values: dict[str, object] = {}
        self.requests = 0
        for line in lines:
            oid, _, rest = line.rstrip("\n").partition("|")
            tag, bar, value = rest.partition("|")
            if bar:
                self.values[oid.strip().lstrip(".")] = _typed(tag, value)
        self.sort()

    def sort(self) -> None:
        """Put the objects in the order of a walk, after `values` changed."""
        self._order = sorted((_key(oid), oid) for oid in self.values)

    @classmethod
    def of(cls, path: Path) -> "Recording":
        return cls(path.read_text(errors="replace").splitlines())

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        self.requests += 1
        answer = {oid: self.values[oid] for oid in oids if oid in self.values}
        if not answer:
            raise NoAnswer(f"answered none of the {len(oids)} objects asked")
        return answer

    async def walk(self, oid: str, *, at_most: int = 20_000) -> Sequence[tuple[str, object]]:
        self.requests += 1
        root = _key(oid)
        rows: list[tuple[str, object]] = []
        for key, name in self._order[bisect_right(self._order, (root, oid)) :]:
            if key[: len(root)] != root:
                break
            rows.append((name, self.values[name]))
        return rows

    def close(self) -> None:
        """There is no socket."""


def main(argv: Sequence[str]) -> int:
    """Exit status 0, 1 its power is refused, 2 a bad file, 3 not a device of this family."""
    parser = argparse.ArgumentParser(prog="powercollectord profile", description=__doc__)
    what = parser.add_subparsers(dest="what", required=True)
    check = what.add_parser("check", help="hold a profile against a recorded walk")
    check.add_argument("file", type=Path)
    check.add_argument("--against", type=Path, required=True, metavar="WALK.snmprec")
    check.add_argument("--json", action="store_true")
    asked = parser.parse_args(argv)
    try:
        profile = load_profile(asked.file)
        recording = Recording.of(asked.against)
    except BadConfiguration as why:
        for complaint in why.complaints:
            print(f"powercollectord: {complaint}", file=sys.stderr)
        return BAD
    except (OSError, ValueError) as why:
        print(f"powercollectord: {asked.against}: {why}", file=sys.stderr)
        return BAD
    return asyncio.run(_check(asked, profile, recording))


async def _check(asked: argparse.Namespace, profile: Profile, recording: Recording) -> int:
    name = asked.file.stem
    try:
        found = await discover(recording, {name: profile}, chosen=name)
    except (UnknownDevice, NoAnswer) as why:
        print(f"powercollectord: {asked.against}: {why}; none of `probe` answers", file=sys.stderr)
        return UNKNOWN
    plan = found.plan
    reading = reading_of(plan, found.answer, name=name, ceiling_w=_NO_CEILING_W)
    values = {
        row.name(measure): value_of(item, found.answer)
        for row in plan.rows
        for measure, item in row.items.items()
    }
    values["total.power_factor"] = reading.values[-1]
    report = report_of(
        reading,
        profile=name,
        sys_object_id=plan.sys_object_id,
        description=plan.description,
        values=values,
        notes=plan.notes,
    )
    print(json.dumps(report.as_json(), indent=2) if asked.json else "\n".join(report.lines()))
    profile = profile.for_model(plan.sys_object_id)
    complaints = list(_complaints(profile, plan.sys_object_id, plan.description, recording))
    for each in complaints:
        print(f"powercollectord: {name}: {each}", file=sys.stderr)
    print(f"{recording.requests} requests, {len(plan.total_oids())} objects make the totals")
    return 1 if plan.refused else 0


def _complaints(
    profile: Profile, sys_object_id: str, description: str, recording: Recording
) -> Iterator[str]:
    if not (profile.recognises(sys_object_id) or profile.described_by(description)):
        yield f"does not recognise sysObjectID {sys_object_id or '(none)'}"
    for where, column in _columns(profile):
        prefix = f"{column.oid}."
        if not any(oid.startswith(prefix) for oid in recording.values):
            yield f"{where} {column.oid}: nothing there in this recording"


def _columns(profile: Profile) -> Iterator[tuple[str, Column]]:
    for total, sources in profile.totals:
        for source in sources:
            if source.object:
                yield f"totals.{total}", source.object
    for table in profile.tables:
        for measure, columns in table.columns.items():
            yield from ((f"{table.kind}.{measure}", each) for each in columns)


def _typed(tag: str, value: str) -> object:
    if tag in _NUMBERS:
        try:
            return int(value)
        except ValueError:
            return value.encode()
    if tag == "6":
        return value.lstrip(".")
    if tag.endswith("x"):
        try:
            return bytes.fromhex(value)
        except ValueError:
            return value.encode()
    return value.encode()


def _key(oid: str) -> tuple[int, ...]:
    return tuple(int(each) for each in oid.split("."))
