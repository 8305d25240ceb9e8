# SPDX-License-Identifier: GPL-2.0-or-later
"""The two clusters of the contract: one in memory, one real (inside the lab)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from broker.adapters.slurm.controller import PyslurmController
from broker.adapters.slurm.resources_yaml import render, write_resources
from broker.domain.cluster import JobState, SlurmView
from broker.domain.tokens import TokenLayer
from broker.services.ports import SlurmController
from broker.testing.fake_slurm import FakeSlurm

NODES = tuple(f"n{number:02d}" for number in range(1, 17))

# slurmdbd knows it as AdminLevel=Administrator: no call may need more than that.
BROKER = "powerbroker"

_CONF = Path("/etc/slurm/slurm.conf")
_HOOK = Path("/etc/slurm/job_submit.lua")
_RESOURCES = Path("/etc/slurm/resources.yaml")
# The contract is about slurmctld: jobs pass as their test wrote them.
_NO_HOOK = """
function slurm_job_submit(job, parts, uid) return slurm.SUCCESS end
function slurm_job_modify(job, record, parts, uid) return slurm.SUCCESS end
return slurm.SUCCESS
"""


class ACluster(Protocol):
    """What a test needs beside the controller: users, and the end of slurmctld."""

    controller: SlurmController

    def submit(
        self,
        *,
        node_count: int = 1,
        user: str = "alice",
        licenses: str = "",
        reservation: str = "",
    ) -> int: ...

    def cancel(self, job_id: int) -> None: ...

    def got_signal(self, job_id: int) -> bool: ...

    def use_layers(self, layers: Sequence[TokenLayer]) -> None: ...

    def unreachable(self) -> SlurmController: ...

    def clean(self) -> None: ...


def wait_for(
    controller: SlurmController, condition: Callable[[SlurmView], bool], *, deadline_s: float = 40
) -> SlurmView:
    """Look until it is so."""
    ends = time.monotonic() + deadline_s
    while True:
        view = controller.observe()
        if condition(view):
            return view
        open_jobs = [job for job in view.jobs.values() if job.state is not JobState.ENDED]
        assert time.monotonic() < ends, f"not seen within {deadline_s:g} s: {open_jobs}"
        time.sleep(0.2)


class FakeCluster:
    """In memory."""

    def __init__(self) -> None:
        self.fake = FakeSlurm(NODES)
        self.controller: SlurmController = self.fake

    def submit(
        self,
        *,
        node_count: int = 1,
        user: str = "alice",
        licenses: str = "",
        reservation: str = "",
    ) -> int:
        return self.fake.submit(
            node_count=node_count,
            user=user,
            account={"alice": "ml", "bob": "bio"}[user],
            licenses=licenses,
            reservation=reservation,
        )

    def cancel(self, job_id: int) -> None:
        self.fake.end(job_id, "CANCELLED")

    def got_signal(self, job_id: int) -> bool:
        return (job_id, "SIGUSR1") in self.fake.signals

    def use_layers(self, layers: Sequence[TokenLayer]) -> None:
        self.fake.resources = layers
        self.controller.reconfigure()

    def unreachable(self) -> SlurmController:
        self.fake.reachable = False
        return self.fake

    def clean(self) -> None:
        """Nothing outlives a test."""


class RealCluster:
    """The lab's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._jobs: list[int] = []
        self.pyslurm = PyslurmController(run_as=BROKER)
        self.controller: SlurmController = self.pyslurm
        self._others: list[PyslurmController] = []

    def submit(
        self,
        *,
        node_count: int = 1,
        user: str = "alice",
        licenses: str = "",
        reservation: str = "",
    ) -> int:
        words = [f"--nodes={node_count}", "--requeue", "--output=/dev/null", "--time=10"]
        words += [f"--licenses={licenses}"] if licenses else []
        words += [f"--reservation={reservation}"] if reservation else []
        # Short sleeps: a shell runs its trap between commands only.
        mark = f"{self._folder}/$SLURM_JOB_ID"
        script = f'trap "touch {mark}" USR1; touch {mark}.up; while sleep 0.2; do :; done'
        command = ["runuser", "-u", user, "--", "sbatch", "--parsable", "--chdir=/tmp", *words]
        done = subprocess.run(
            [*command, "--wrap", script], capture_output=True, text=True, check=True
        )
        self._jobs.append(int(done.stdout))
        return self._jobs[-1]

    def cancel(self, job_id: int) -> None:
        subprocess.run(["scancel", str(job_id)], check=True)

    def got_signal(self, job_id: int) -> bool:
        return self._appears(f"{job_id}")

    def script_runs(self, job_id: int) -> bool:
        return self._appears(f"{job_id}.up")

    def use_layers(self, layers: Sequence[TokenLayer]) -> None:
        write_resources(_RESOURCES.resolve(), render(layers))
        self.controller.reconfigure()

    def unreachable(self) -> SlurmController:
        # Another port, so that the lab's own slurmctld is left in peace.
        elsewhere = self._folder / "slurm.conf"
        elsewhere.write_text(_CONF.read_text() + "\nSlurmctldPort=1\n")
        other = PyslurmController(
            deadline_s=2.0, environment={"SLURM_CONF": str(elsewhere)}, run_as=BROKER
        )
        self._others.append(other)
        return other

    def clean(self) -> None:
        for job_id in self._jobs:
            self.cancel(job_id)
        for name in self.controller.observe().reservations:
            if name.startswith("pw-fence-test"):
                self.controller.set_fence(name.removeprefix("pw-fence-"), [])
        for name in wait_for(self.controller, _is_quiet).reservations:
            if name.startswith("pw-test"):
                self.controller.delete_reservation(name)
        for each in (self.pyslurm, *self._others):
            each.close()

    def _appears(self, name: str) -> bool:
        ends = time.monotonic() + 10
        while not (self._folder / name).exists() and time.monotonic() < ends:
            time.sleep(0.1)
        return (self._folder / name).exists()


def _is_quiet(view: SlurmView) -> bool:
    # IDLE+RESERVED is quiet too.
    return all(node.state.startswith("IDLE") for node in view.nodes.values())


@contextmanager
def lab_to_ourselves() -> Iterator[None]:
    """The lab without the broker's own hands, with a plain licence beside the tokens."""
    was_active = subprocess.run(["systemctl", "is-active", "-q", "powerbrokerd"], check=False)
    subprocess.run(["systemctl", "stop", "powerbrokerd"], check=False)
    kept = {path: _text(path) for path in (_CONF, _HOOK, _RESOURCES.resolve())}
    try:
        _CONF.write_text(f"{kept[_CONF]}\nLicenses=matlab:10\n")
        _HOOK.write_text(_NO_HOOK)
        subprocess.run(["scontrol", "reconfigure"], check=True)
        yield
    finally:
        for path, text in kept.items():
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(text)
        subprocess.run(["scontrol", "reconfigure"], check=True)
        if was_active.returncode == 0:
            subprocess.run(["systemctl", "start", "powerbrokerd"], check=True)


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None
