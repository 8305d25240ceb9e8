# SPDX-License-Identifier: GPL-2.0-or-later
"""A Slurm in memory that behaves like the real one; tests/contract holds the two together.

It schedules whole nodes, first come first served, whenever it is looked at. It knows fences,
reservations, holds and token layers; it knows nothing of priorities, backfill or time limits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from broker.domain.cluster import (
    JobState,
    SlurmJob,
    SlurmNode,
    SlurmReservation,
    SlurmView,
)
from broker.domain.errors import SlurmRefused, SlurmUnavailable
from broker.domain.reservation import PowerReservation
from broker.domain.tokens import TokenLayer

_FENCE = "pw-fence-"
_NO_END = timedelta(days=3650)


def _utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass
class FakeSlurm:
    """The SlurmController of tests. Set ``reachable`` to False and slurmctld is gone."""

    node_names: Sequence[str]
    now: Callable[[], datetime] = _utc_now
    reachable: bool = True
    resources: Sequence[TokenLayer] = ()  #: what stands in resources.yaml; reconfigure() reads it
    layers: Sequence[TokenLayer] = ()  #: what is enforced
    signals: list[tuple[int, str]] = field(default_factory=list)  #: (job id, signal) as sent
    reconfigured: int = 0
    jobs: dict[int, SlurmJob] = field(default_factory=dict)
    reservations: dict[str, SlurmReservation] = field(default_factory=dict)
    node_states: dict[str, str] = field(default_factory=dict)  #: other than IDLE or ALLOCATED

    # What a test does, in the place of users and administrators.

    def submit(
        self,
        *,
        node_count: int = 1,
        user: str = "alice",
        account: str = "ml",
        partition: str = "hot",
        licenses: str = "",
        comment: str = "",
        admin_comment: str = "",
        reservation: str = "",
        batch: bool = True,
        requeue: bool = True,
        held: bool = False,
        name: str = "job",
    ) -> int:
        """Submit a job; returns its id."""
        job_id = max(self.jobs, default=0) + 1
        self.jobs[job_id] = SlurmJob(
            job_id=job_id,
            user=user,
            account=account,
            partition=partition,
            state=JobState.PENDING,
            slurm_state="PENDING",
            reason="JobHeldUser" if held else "Resources",
            name=name,
            node_count=node_count,
            licenses=licenses,
            comment=comment,
            admin_comment=admin_comment,
            reservation=reservation,
            batch=batch,
            requeue=requeue,
            priority=0 if held else 1000,
            submitted_at=self.now(),
        )
        self._schedule()
        return job_id

    def end(self, job_id: int, slurm_state: str = "COMPLETED") -> None:
        """Let a job end, or cancel it."""
        self._change(
            job_id, state=JobState.ENDED, slurm_state=slurm_state, reason="", ended_at=self.now()
        )

    # What the broker does: ports.SlurmController.

    def observe(self) -> SlurmView:
        self._reach("look at Slurm")
        self._schedule()
        return SlurmView(
            seen_at=self.now(),
            nodes={name: SlurmNode(name, self._node_state(name)) for name in self.node_names},
            jobs=dict(self.jobs),
            reservations=dict(self.reservations),
        )

    def set_fence(self, rack: str, nodes: Sequence[str]) -> None:
        self._reach(f"fence rack {rack}")
        self._check_nodes(nodes)
        name = _FENCE + rack
        if not nodes:
            self.reservations.pop(name, None)
            return
        old = self.reservations.get(name)
        starts_at = old.starts_at if old else self.now()
        self.reservations[name] = SlurmReservation(
            name, tuple(nodes), starts_at, starts_at + _NO_END, users=("root",)
        )

    def requeue_held(self, job_id: int) -> None:
        job = self._job(job_id, f"requeue job {job_id}")
        if job.state is JobState.ENDED or not job.batch or not job.requeue:
            raise SlurmRefused(f"requeue job {job_id}: only batch jobs that may be requeued can")
        if job.state is not JobState.PENDING:
            job = replace(job, restarts=job.restarts + 1, nodes=(), started_at=None)
        self.jobs[job_id] = replace(
            job,
            state=JobState.PENDING,
            slurm_state="PENDING",
            reason="job requeued in held state",
            priority=0,
        )

    def release(self, job_id: int) -> None:
        if self._job(job_id, f"release job {job_id}").held:
            self._change(job_id, priority=1000, reason="Resources")

    def signal(self, job_id: int, signal: str) -> None:
        self._job(job_id, f"signal job {job_id}")
        self.signals.append((job_id, signal))

    def set_admin_comment(self, job_id: int, text: str) -> None:
        self._job(job_id, f"set admin_comment of job {job_id}")
        self._change(job_id, admin_comment=text)

    def set_tokens(self, job_id: int, tokens_w_per_node: int | None) -> None:
        job = self._job(job_id, f"set tokens of job {job_id}")
        others = [each for each in job.licenses.split(",") if each and "power:" not in each]
        tokens = [] if tokens_w_per_node is None else [f"power:{tokens_w_per_node}"]
        if tokens and not self.layers:
            raise SlurmRefused(f"set tokens of job {job_id}: Invalid license specification")
        self._change(job_id, licenses=",".join([*others, *tokens]))

    def create_reservation(self, reservation: PowerReservation) -> None:
        self._reach(f"create reservation {reservation.slurm_name}")
        self._check_nodes(reservation.nodes)
        if not (reservation.accounts or reservation.users):
            raise SlurmRefused(f"create reservation {reservation.slurm_name}: no owner")
        for other in self._rivals(reservation):
            raise SlurmRefused(
                f"create reservation {reservation.slurm_name}: it shares nodes with {other.name}"
            )
        found = self.reservations.get(reservation.slurm_name)
        self.reservations[reservation.slurm_name] = SlurmReservation(
            name=reservation.slurm_name,
            nodes=reservation.nodes,
            starts_at=found.starts_at if found else max(reservation.starts_at, self.now()),
            ends_at=reservation.ends_at,
            accounts=reservation.accounts,
            users=reservation.users,
        )

    def delete_reservation(self, slurm_name: str) -> None:
        self._reach(f"delete reservation {slurm_name}")
        inside = [each for each in self.jobs.values() if each.reservation == slurm_name]
        if any(each.state.holds_nodes for each in inside):
            raise SlurmRefused(f"delete reservation {slurm_name}: it is in use by running jobs")
        self.reservations.pop(slurm_name, None)

    def reconfigure(self) -> None:
        self._reach("reconfigure slurmctld")
        self.layers = tuple(self.resources)
        self.reconfigured += 1

    def token_usage(self) -> Sequence[tuple[tuple[str, ...], int, int]]:
        self._reach("read the token layers")
        return [
            (tuple(sorted(layer.nodes)), layer.count_w, self._used_w(layer))
            for layer in self.layers
        ]

    def _rivals(self, wanted: PowerReservation) -> Iterable[SlurmReservation]:
        return [
            other
            for other in self.reservations.values()
            if other.name != wanted.slurm_name
            and not other.name.startswith(_FENCE)
            and set(other.nodes) & set(wanted.nodes)
            and other.starts_at < wanted.ends_at
            and wanted.starts_at < other.ends_at
        ]

    def _reach(self, attempted: str) -> None:
        if not self.reachable:
            raise SlurmUnavailable(f"{attempted}: slurmctld does not answer")

    def _job(self, job_id: int, attempted: str) -> SlurmJob:
        self._reach(attempted)
        self._schedule()
        if job_id not in self.jobs:
            raise SlurmRefused(f"{attempted}: Invalid job id specified")
        return self.jobs[job_id]

    def _change(self, job_id: int, **changes: object) -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], **changes)  # type: ignore[arg-type]

    def _check_nodes(self, nodes: Iterable[str]) -> None:
        unknown = set(nodes) - set(self.node_names)
        if unknown:
            raise SlurmRefused(f"no such node: {', '.join(sorted(unknown))}")

    def _node_state(self, name: str) -> str:
        busy = any(name in job.nodes for job in self.jobs.values() if job.state.holds_nodes)
        return self.node_states.get(name, "ALLOCATED" if busy else "IDLE")

    def _schedule(self) -> None:
        for job in [each for each in self.jobs.values() if each.state is JobState.PENDING]:
            nodes = self._nodes_for(job)
            if not job.held and nodes:
                self._change(
                    job.job_id,
                    state=JobState.RUNNING,
                    slurm_state="RUNNING",
                    reason="",
                    nodes=nodes,
                    started_at=self.now(),
                )

    def _nodes_for(self, job: SlurmJob) -> tuple[str, ...]:
        chosen: tuple[str, ...] = ()
        for name in self._allowed_nodes(job):
            if self._fits_tokens(job, (*chosen, name)):
                chosen = (*chosen, name)
            if len(chosen) == job.node_count:
                return chosen
        return ()

    def _allowed_nodes(self, job: SlurmJob) -> Sequence[str]:
        active = [
            each
            for each in self.reservations.values()
            if each.starts_at <= self.now() < each.ends_at
        ]
        own = next((each for each in active if _may_use(job, each)), None)
        if job.reservation and own is None:
            return ()
        closed = {name for each in active if each is not own for name in each.nodes}
        open_to = own.nodes if own else self.node_names
        return [name for name in open_to if name not in closed and self._node_state(name) == "IDLE"]

    def _fits_tokens(self, job: SlurmJob, nodes: Sequence[str]) -> bool:
        asked_w = job.tokens_w_per_node or 0
        return all(
            self._used_w(layer) + asked_w * len(set(nodes) & set(layer.nodes)) <= layer.count_w
            for layer in self.layers
            if asked_w and set(nodes) & set(layer.nodes)
        )

    def _used_w(self, layer: TokenLayer) -> int:
        return sum(_held_w(job, layer.nodes) for job in self.jobs.values())


def _may_use(job: SlurmJob, reservation: SlurmReservation) -> bool:
    owned = job.account in reservation.accounts or job.user in reservation.users
    return owned and job.reservation == reservation.name


def _held_w(job: SlurmJob, nodes: Iterable[str]) -> int:
    if not job.state.holds_nodes:
        return 0
    return (job.tokens_w_per_node or 0) * len(set(job.nodes) & set(nodes))
