# SPDX-License-Identifier: GPL-2.0-or-later
"""What the story needs: run a command as somebody in the lab and show it, check, wait."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

LAB = Path(__file__).resolve().parents[1] / "lab" / "lab"
_Found = TypeVar("_Found")


class NotAsExpected(Exception):
    """A check of the story failed."""


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


@dataclass
class Stage:
    """The lab, seen from the head node's terminals."""

    width: int = 180
    shed: int = 0  #: a job that was shed, for the next step

    def lab(self, *words: str) -> None:
        """Run a lab command, its progress shown."""
        subprocess.run([LAB, *words], check=True)

    def run(self, command: str, *, user: str = "root") -> Ran:
        """Run a command in the lab, not shown."""
        words = [LAB, "exec", "--user", user, "bash", "-c", command]
        done = subprocess.run(
            words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120
        )
        return Ran(done.returncode, done.stdout, done.stderr)

    def show(self, command: str, *, user: str = "root", status: int | None = 0) -> Ran:
        """Run a command and show what a user would see; ``status`` is what it must end with."""
        print(f"\n    {user}@head{'#' if user == 'root' else '$'} {command}", flush=True)
        ran = self.run(command, user=user)
        for line in ran.text.rstrip().splitlines():
            print(f"    {line[: self.width]}", flush=True)
        if status is not None:
            self.expect(
                ran.status == status,
                f"exit status {ran.status}",
                quietly=True,
                wanted=f"exit status {status}",
            )
        return ran

    def expect(self, true: bool, said: str, *, quietly: bool = False, wanted: str = "") -> None:
        """Check, and say what was checked."""
        if not true:
            raise NotAsExpected(f"{said}{f', expected {wanted}' if wanted else ''}")
        if not quietly:
            print(f"    -> {said}", flush=True)

    def wait(self, what: str, look: Callable[[], _Found | None], *, within_s: float = 30) -> _Found:
        """Look again until something is found."""
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            if found := look():
                return found
            time.sleep(0.3)
        raise NotAsExpected(f"waited {within_s:.0f} s for: {what}")

    # -- what the story asks often -----------------------------------------------------------------

    def rows(self, words: str, *, verb: str = "show") -> list[dict[str, Any]]:
        """Rows of a powermgr listing or report."""
        ran = self.run(f"powermgr --json {verb} {words}")
        if ran.status:
            raise NotAsExpected(f"powermgr {verb} {words}: {ran.text}")
        found: list[dict[str, Any]] = json.loads(ran.out)
        return found

    def rack(self, name: str) -> dict[str, Any]:
        return next(row for row in self.rows("rack") if row["name"] == name)

    def submit(self, user: str, options: str, *, load: str = "", seconds: int = 600) -> int:
        """Submit a job that burns watts, shown; returns its id."""
        burn = f"--export=ALL,FLEET_LOAD={load} " if load else ""
        ran = self.show(f"sbatch {burn}{options} --wrap 'sleep {seconds}'", user=user)
        word = ran.out.split()[-1:]
        self.expect(bool(word) and word[0].isdigit(), f"no job id in: {ran.text}", quietly=True)
        return int(word[0])

    def state(self, job_id: int) -> str:
        """A job's state and reason, as squeue says."""
        return self.run(f"squeue -h -j {job_id} -o '%T %r %P'").out.strip()

    def wait_running(self, *job_ids: int, within_s: float = 40) -> None:
        for job_id in job_ids:
            self.wait(
                f"job {job_id} to run (it is: {self.state(job_id)})",
                lambda job_id=job_id: self.state(job_id).startswith("RUNNING"),
                within_s=within_s,
            )

    def wait_seen(self, job_id: int) -> None:
        """Wait for the broker's next look at the queue."""
        self.wait(
            f"the broker to see job {job_id} run",
            lambda: any(
                row["state"] == "RUNNING" for row in self.rows(f"job where jobid={job_id}")
            ),
        )

    def fleet_log(self) -> list[dict[str, Any]]:
        return [
            json.loads(line) for line in self.run("cat /run/fleet/fleet.jsonl").out.splitlines()
        ]

    def cancel_all(self) -> None:
        """Between two scenes."""
        self.run("scancel -u alice; scancel -u bob")
        self.wait("the queue to be empty", lambda: not self.run("squeue -h").out.strip())
