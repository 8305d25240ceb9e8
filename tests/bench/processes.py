# SPDX-License-Identifier: GPL-2.0-or-later
"""What processes cost, from /proc: CPU seconds and proportional memory of a process and its
descendants; and helpers that run with it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").glob("*/children"):
            found += [int(child) for child in task.read_text().split()]
    return found


def cpu_s(pids: Sequence[int]) -> float:
    """User and system time so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_S


def memory_mb(pids: Sequence[int]) -> float:
    """Proportional set size: what is shared is counted once."""
    return sum(_pss_kb(pid) for pid in pids) / 1024


def _pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


@dataclass(frozen=True, slots=True)
class Cost:
    """What was used in a stretch of time."""

    wall_s: float
    cpu_s: float
    memory_mb: float

    @property
    def cores(self) -> float:
        return self.cpu_s / self.wall_s


def measure(pids: Sequence[int], work: Callable[[], object]) -> Cost:
    """The cost of the processes while `work` is done by somebody else."""
    before_s, begun_s = cpu_s(pids), time.monotonic()
    work()
    wall_s = time.monotonic() - begun_s
    return Cost(wall_s, cpu_s(pids) - before_s, memory_mb(pids))


class Helper:
    """A simulator: ready when it says so, tells what it did when its stdin is closed."""

    def __init__(self, module: str, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == "ready\n", f"{module} did not start"

    def result(self) -> Any:
        said, _ = self.process.communicate(timeout=30)
        return json.loads(said)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def start_collector(folder: Path) -> subprocess.Popen[bytes]:
    """The real powercollectord on a configuration folder; its log is beside it."""
    log = (folder / "log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "collectors.main", "--config", str(folder)], cwd=ROOT, stderr=log
    )
    log.close()
    return process


def every(pause_s: float, *, within_s: float) -> Iterator[None]:
    """Turns of a loop that waits for something."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        yield
        time.sleep(pause_s)
