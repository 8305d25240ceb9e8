# SPDX-License-Identifier: GPL-2.0-or-later
"""A job's load over time, from a file of `seconds,watts` lines."""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_FILE_AT_MOST = 1 << 20


@dataclass(frozen=True, slots=True)
class Curve:
    """Linear between its points, flat before the first and after the last."""

    seconds: tuple[float, ...]
    watts: tuple[float, ...]

    def at(self, elapsed_s: float) -> float:
        after = bisect_right(self.seconds, elapsed_s)
        if after == 0:
            return self.watts[0]
        if after == len(self.seconds):
            return self.watts[-1]
        start, end = self.seconds[after - 1], self.seconds[after]
        share = (elapsed_s - start) / (end - start)
        return self.watts[after - 1] + share * (self.watts[after] - self.watts[after - 1])


def constant(watts: float) -> Curve:
    return Curve((0.0,), (watts,))


def parse_curve(text: str) -> Curve:
    points = [_point(number, line) for number, line in enumerate(text.splitlines(), 1) if line]
    if not points:
        raise ValueError("the curve has no points")
    seconds, watts = zip(*points, strict=True)
    if any(later <= earlier for earlier, later in pairwise(seconds)):
        raise ValueError("the curve's seconds do not rise from line to line")
    return Curve(seconds, watts)


def read_curve(path: Path) -> Curve:
    if not path.is_absolute():
        raise ValueError(f"{str(path)!r} is not an absolute path")
    if path.stat().st_size > _FILE_AT_MOST:
        raise ValueError(f"{path} is over {_FILE_AT_MOST} bytes")
    return parse_curve(path.read_text(encoding="utf-8"))


def _point(number: int, line: str) -> tuple[float, float]:
    try:
        seconds, watts = (float(part) for part in line.split(","))
    except ValueError:
        raise ValueError(f"line {number} {line[:40]!r} is not `seconds,watts`") from None
    if not (0 <= seconds < 1e9 and 0 <= watts < 1e9):
        raise ValueError(f"line {number} {line[:40]!r}: both from 0 to 1e9")
    return seconds, watts
