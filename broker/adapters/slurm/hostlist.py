# SPDX-License-Identifier: GPL-2.0-or-later
"""Slurm's way of writing node names: ``n[01-04,07],gpu1`` to names and back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

_OUTSIDE_BRACKETS = re.compile(r",(?![^\[]*\])")
_FIRST_RANGE = re.compile(r"^([^\[]*)\[([^\]]+)\](.*)$")
_TRAILING_NUMBER = re.compile(r"^(.*?)(\d+)$")


def expand(hostlist: str | None) -> tuple[str, ...]:
    """All names of a hostlist, in its order."""
    parts = _OUTSIDE_BRACKETS.split(hostlist or "")
    return tuple(name for part in parts if part for name in _expand_part(part))


def compress(nodes: Iterable[str]) -> str:
    """The shortest simple hostlist of some names, in order of the names."""
    return ",".join(compressed_parts(nodes))


def compressed_parts(nodes: Iterable[str]) -> Sequence[str]:
    """One hostlist per prefix and number width: ``["gpu1", "n[01-04,07]"]``."""
    numbers: dict[tuple[str, int], list[int]] = {}
    plain: list[str] = []
    for name in sorted(set(nodes)):
        found = _TRAILING_NUMBER.match(name)
        if found:
            numbers.setdefault((found[1], len(found[2])), []).append(int(found[2]))
        else:
            plain.append(name)
    return sorted([*plain, *(_part(*key, each) for key, each in numbers.items())])


def _expand_part(part: str) -> Iterator[str]:
    found = _FIRST_RANGE.match(part)
    if not found:
        yield part
        return
    head, ranges, tail = found.groups()
    for each in ranges.split(","):
        first, _, last = each.partition("-")
        for number in range(int(first), int(last or first) + 1):
            for rest in _expand_part(tail) if tail else ("",):
                yield f"{head}{number:0{len(first)}d}{rest}"


def _part(prefix: str, width: int, numbers: Sequence[int]) -> str:
    runs = list(_runs(sorted(numbers)))
    if len(runs) == 1 and runs[0][0] == runs[0][1]:
        return f"{prefix}{runs[0][0]:0{width}d}"
    texts = (f"{a:0{width}d}" if a == b else f"{a:0{width}d}-{b:0{width}d}" for a, b in runs)
    return f"{prefix}[{','.join(texts)}]"


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last
