# SPDX-License-Identifier: GPL-2.0-or-later
"""Slurm through a child process with deadlines, so that a hung slurmctld never hangs the broker."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

from broker.adapters.slurm.scontrol import Scontrol
from broker.adapters.slurm.translate import with_tokens
from broker.domain.cluster import SlurmReservation, SlurmView
from broker.domain.errors import SlurmRefused, SlurmUnavailable
from broker.domain.reservation import PowerReservation

_HINT = "scontrol ping; systemctl status slurmctld"


@dataclass(frozen=True, slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    requests: Connection


class PyslurmController:
    """The SlurmController of a real cluster. Safe to share between threads."""

    def __init__(
        self,
        deadline_s: float = 5.0,
        *,
        start_deadline_s: float = 15.0,
        environment: Mapping[str, str] | None = None,
        run_as: str | None = None,
    ) -> None:
        """``environment`` adds to the child's, e.g. another SLURM_CONF.

        ``run_as`` lets root talk to Slurm as another user (the tests, as the broker's).
        """
        self._deadline_s = deadline_s
        self._start_deadline_s = start_deadline_s
        self._environment = dict(environment or {})
        self._run_as = run_as
        self._scontrol = Scontrol(deadline_s, self._environment, run_as)
        self._child: _Child | None = None
        self._one_at_a_time = Lock()

    def observe(self) -> SlurmView:
        view: SlurmView = self._call("look at Slurm", "observe")
        return view

    def set_fence(self, rack: str, nodes: Sequence[str]) -> None:
        self._call(f"fence {len(nodes)} nodes of rack {rack}", "set_fence", rack, tuple(nodes))

    def requeue_held(self, job_id: int) -> None:
        self._call(f"requeue and hold job {job_id}", "requeue_held", job_id)

    def release(self, job_id: int) -> None:
        self._call(f"release job {job_id}", "release", job_id)

    def signal(self, job_id: int, signal: str) -> None:
        self._call(f"send {signal} to job {job_id}", "send_signal", job_id, signal)

    def set_admin_comment(self, job_id: int, text: str) -> None:
        if text:
            what = f"set admin_comment of job {job_id}"
            self._call(what, "set_admin_comment", job_id, text)
        else:
            self._scontrol.clear_job_field(job_id, "admincomment")

    def set_tokens(self, job_id: int, tokens_w_per_node: int | None) -> None:
        what = f"set tokens of job {job_id} to {tokens_w_per_node} W per node"
        before: str = self._call(what, "licenses", job_id)
        after = with_tokens(before, tokens_w_per_node)
        if after == before:
            return
        if after:
            self._call(what, "set_licenses", job_id, after)
        else:
            self._scontrol.clear_job_field(job_id, "licenses")

    def create_reservation(self, reservation: PowerReservation) -> None:
        wanted = SlurmReservation(
            name=reservation.slurm_name,
            nodes=reservation.nodes,
            starts_at=reservation.starts_at,
            ends_at=reservation.ends_at,
            accounts=reservation.accounts,
            users=reservation.users,
        )
        self._call(f"create reservation {wanted.name}", "create_reservation", wanted)

    def delete_reservation(self, slurm_name: str) -> None:
        self._call(f"delete reservation {slurm_name}", "delete_reservation", slurm_name)

    def reconfigure(self) -> None:
        self._call("reconfigure slurmctld", "reconfigure")

    def token_usage(self) -> Sequence[tuple[tuple[str, ...], int, int]]:
        return self._scontrol.token_usage()

    @property
    def child_pid(self) -> int | None:
        """The child's process id while there is one."""
        return self._child.process.pid if self._child else None

    def close(self) -> None:
        """End the child; the next call starts another."""
        with self._one_at_a_time:
            self._drop_child()

    def _call(self, attempted: str, name: str, *arguments: Any) -> Any:
        with self._one_at_a_time:
            outcome, value = self._ask(attempted, name, arguments)
        if outcome == "done":
            return value
        if outcome == "refused":
            raise SlurmRefused(f"{attempted}: slurmctld says: {value}")
        if outcome == "unavailable":
            raise SlurmUnavailable(f"{attempted}: {value}", hint=_HINT)
        raise RuntimeError(f"{attempted}: {value}")

    def _ask(self, attempted: str, name: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
        if self._child is not None and self._child.process.poll() is not None:
            self._drop_child()
        try:
            child = self._child or self._start_child(attempted)
            child.requests.send((name, arguments, self._deadline_s))
            return self._receive(child, attempted, self._deadline_s)
        except (EOFError, OSError) as error:
            status = self._drop_child()
            raise SlurmUnavailable(
                f"{attempted}: the process that talks to Slurm died (status {status})", hint=_HINT
            ) from error

    def _start_child(self, attempted: str) -> _Child:
        ours, theirs = Pipe()
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "broker.adapters.slurm.child", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | self._environment,
                user=self._run_as,
            )
        self._child = _Child(process, ours)
        outcome, words = self._receive(self._child, attempted, self._start_deadline_s)
        if outcome != "done":
            self._drop_child()
            raise SlurmUnavailable(f"{attempted}: {words}", hint=_HINT)
        return self._child

    def _receive(self, child: _Child, attempted: str, deadline_s: float) -> tuple[str, Any]:
        if not child.requests.poll(deadline_s):
            self._drop_child()
            raise SlurmUnavailable(f"{attempted}: no answer within {deadline_s:g} s", hint=_HINT)
        answer: tuple[str, Any] = child.requests.recv()
        return answer

    def _drop_child(self) -> int | None:
        child, self._child = self._child, None
        if child is None:
            return None
        child.requests.close()
        # Our own child, by its handle: it cannot be another process of that id.
        child.process.kill()
        return child.process.wait()
