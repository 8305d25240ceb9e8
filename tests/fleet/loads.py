# SPDX-License-Identifier: GPL-2.0-or-later
"""What the jobs on each node declare, read from the environment of their processes."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.fleet.curves import Curve, constant, read_curve
from tests.fleet.units import parse_watts

# A process is young while its environment may still change: fork comes before exec, and a pid
# read in between shows slurmstepd's environment.
_YOUNG_S = 5.0
# Older processes are read again now and then all the same: one of this many scans each.
_REREAD_EVERY = 8


@dataclass(frozen=True, slots=True)
class Declared:
    """One process's declaration."""

    node: str
    job: str
    curve: Curve


@dataclass(frozen=True, slots=True)
class _Seen:
    first_s: float
    declared: Declared | None


Complain = Callable[[str, str, str], None]  # node, job, what is wrong


@dataclass(slots=True)
class LoadScanner:
    complain: Complain
    proc: Path = Path("/proc")
    _seen: dict[int, _Seen] = field(default_factory=dict)
    _job_since_s: dict[tuple[str, str], float] = field(default_factory=dict)
    _complained: set[tuple[str, str, str]] = field(default_factory=set)
    _scans: int = 0

    def scan(self, now_s: float) -> dict[str, dict[str, float]]:
        """Node -> job -> watts.

        A job's processes inherit one environment: they count once, with the largest of them.
        """
        self._scans += 1
        loads: dict[str, dict[str, float]] = {}
        since: dict[tuple[str, str], float] = {}
        for declared in self._declarations(now_s):
            key = (declared.node, declared.job)
            since[key] = self._job_since_s.get(key, now_s)
            watts = declared.curve.at(now_s - since[key])
            jobs = loads.setdefault(declared.node, {})
            jobs[declared.job] = max(watts, jobs.get(declared.job, 0.0))
        self._job_since_s = since
        return loads

    def _declarations(self, now_s: float) -> Iterator[Declared]:
        pids = [int(name) for name in os.listdir(self.proc) if name.isdecimal()]
        self._seen = {pid: self._look(pid, now_s) for pid in pids}
        for pid, seen in self._seen.items():
            if seen.declared is not None and self._runs_here(pid):
                yield seen.declared

    def _look(self, pid: int, now_s: float) -> _Seen:
        known = self._seen.get(pid)
        if known is None:
            return _Seen(now_s, self._read(pid))
        if now_s - known.first_s < _YOUNG_S or (pid + self._scans) % _REREAD_EVERY == 0:
            return _Seen(known.first_s, self._read(pid))
        return known

    def _read(self, pid: int) -> Declared | None:
        try:
            raw = (self.proc / str(pid) / "environ").read_bytes()
        except OSError:
            return None  # gone, or not ours to read
        if b"FLEET_" not in raw:
            return None
        return self._declared(_environment(raw))

    def _declared(self, env: Mapping[str, str]) -> Declared | None:
        node = env.get("SLURMD_NODENAME")
        if node is None:  # a shell that only prepares a submission draws nothing
            return None
        job = env.get("SLURM_JOB_ID", "-")
        try:
            curve = _curve(env)
        except (OSError, ValueError) as error:
            self._complain_once(node, job, str(error))
            return None
        return None if curve is None else Declared(node, job, curve)

    def _complain_once(self, node: str, job: str, problem: str) -> None:
        if (node, job, problem) not in self._complained:
            self._complained.add((node, job, problem))
            self.complain(node, job, problem)

    def _runs_here(self, pid: int) -> bool:
        """Alive, not stopped, and in our own container: a host sees its containers' processes."""
        try:
            stat = (self.proc / str(pid) / "stat").read_text(errors="replace")
        except OSError:
            return False
        state = stat.rpartition(")")[2].split()[0]
        return state not in "TtZX" and self._namespace(str(pid)) == self._namespace("self")

    def _namespace(self, pid: str) -> str | None:
        try:
            return os.readlink(self.proc / pid / "ns" / "pid")
        except OSError:
            return None


def _curve(env: Mapping[str, str]) -> Curve | None:
    if "FLEET_CURVE" in env:
        return read_curve(Path(env["FLEET_CURVE"]))
    if "FLEET_LOAD" in env:
        return constant(parse_watts(env["FLEET_LOAD"]))
    return None


def _environment(raw: bytes) -> dict[str, str]:
    pairs = (entry.partition("=") for entry in raw.decode(errors="replace").split("\0"))
    return {name: value for name, equals, value in pairs if equals}
