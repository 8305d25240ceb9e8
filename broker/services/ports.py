# SPDX-License-Identifier: GPL-2.0-or-later
"""What the services need from the outside world; adapters implement it, fakes stand in for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from broker.domain.cluster import Reading, SlurmView, Telemetry
from broker.domain.power_graph import PowerGraph
from broker.domain.reservation import PowerReservation, ReservationState


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """The time now, aware, UTC."""


class SlurmController(Protocol):
    """Slurm, as the broker drives it.

    Every call raises SlurmUnavailable when slurmctld was not reached within the deadline, and
    SlurmRefused when it said no. Each is safe to repeat.
    """

    def observe(self) -> SlurmView:
        """Nodes, jobs (running, pending and those ended within MinJobAge) and reservations."""

    def set_fence(self, rack: str, nodes: Sequence[str]) -> None:
        """Make ``pw-fence-RACK`` (MAINT, IGNORE_JOBS, no end) cover exactly these nodes.

        No nodes: delete it. It may cover busy nodes, and nodes of other reservations (OVERLAP).
        """

    def requeue_held(self, job_id: int) -> None:
        """Requeue a batch job and hold it."""

    def release(self, job_id: int) -> None:
        """Release a held job."""

    def signal(self, job_id: int, signal: str) -> None:
        """Send a signal such as ``SIGUSR1`` to the batch script."""

    def set_admin_comment(self, job_id: int, text: str) -> None:
        """Replace a job's admin_comment."""

    def set_tokens(self, job_id: int, tokens_w_per_node: int | None) -> None:
        """Set a job's power tokens, keep its other licences; None takes them away."""

    def create_reservation(self, reservation: PowerReservation) -> None:
        """Create ``pw-NAME`` of its named nodes for its owner (STATIC_ALLOC); adopt an equal one.

        A start in the past is moved to now.
        """

    def delete_reservation(self, slurm_name: str) -> None:
        """Delete a reservation; one that is not there is no error."""

    def reconfigure(self) -> None:
        """Let slurmctld read its files, resources.yaml among them."""

    def token_usage(self) -> Sequence[tuple[tuple[str, ...], int, int]]:
        """Slurm's own sums: (nodes, total, used) of every layer of tokens, in W.

        Empty when slurmctld has no such resource. Compare with the plan after each reconfigure.
        """


@dataclass(frozen=True, slots=True)
class Verdict:
    """One verdict of the hook, as it stood in its spool (keys as in the spool's JSON)."""

    ticket: str
    at: datetime
    facts: Mapping[str, Any]  #: the whole JSON object


@dataclass(frozen=True, slots=True)
class ActionRecord:
    """One action: intent, then what came of it."""

    action_id: int
    at: datetime
    kind: str
    target: str
    because: str
    outcome: str  #: ``intent`` | ``done`` | ``refused``
    error: str = ""
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One run of a job, kept after Slurm forgot it. A requeued job has several runs."""

    job_id: int
    started_at: datetime
    ended_at: datetime | None
    user: str
    account: str
    partition: str
    nodes: tuple[str, ...]
    charge_w: int
    tier: str
    lane: str
    state: str
    reservation: str = ""
    ticket: str = ""


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What is known of a meter that ever answered, or was expected to."""

    name: str
    kind: str  #: ``pdu`` | ``bmc`` | ``gpu``
    polled_at: datetime | None  #: its last answer
    active_power_w: int | None
    quality: str | None
    note: str = ""
    silent_since: datetime | None = None
    energy_wh: int | None = None
    energy_source: str = ""
    profile: str = ""
    sys_object_id: str = ""
    description: str = ""
    values: Mapping[str, float | None] = field(default_factory=dict)  #: by name, unit included


class Store(Protocol):
    """The ledger in PostgreSQL. Every call is one transaction; StoreUnavailable when it is away."""

    def telemetry(self, *, now: datetime, horizon_s: float) -> Telemetry:
        """Readings of the last ``horizon_s`` seconds per device (newest last), from ``samples``.

        A device without one in that time gives its row of ``latest``, however old.
        """

    def devices(self, names: Sequence[str] = ()) -> Sequence[DeviceState]:
        """The meters of these names (none: all) by name, each as it answered last."""

    def mode(self, default: str) -> str:
        """The mode that an operator set, else ``default``."""

    def set_mode(self, mode: str, *, by: str, now: datetime) -> None:
        """Keep the mode over restarts."""

    def add_reservation(
        self, reservation: PowerReservation, *, graph: PowerGraph, now: datetime, by: str
    ) -> None:
        """Add it, unless a layer would be over-promised: then PowerUnavailable and no change.

        Decided under row locks of the layers (locked in order of their names), so that of several
        writers at once only those that fit get through. A name in use by an open one: BadRequest.
        """

    def reservations(self, *, open_only: bool = True) -> Sequence[PowerReservation]:
        """Reservations by start, then name."""

    def set_reservation_state(
        self,
        name: str,
        state: ReservationState,
        *,
        reason: str,
        now: datetime,
        by: str,
        used_at: datetime | None = None,
    ) -> None:
        """Move the open reservation of that name; keeps an audit row (table ledger)."""

    def intend(
        self,
        kind: str,
        target: str,
        because: str,
        *,
        now: datetime,
        facts: Mapping[str, Any] | None = None,
    ) -> int:
        """Write the intent row of an action; returns its id."""

    def confirm(self, action_id: int, *, now: datetime, outcome: str, error: str = "") -> None:
        """Write what came of it: ``done`` or ``refused``."""

    def actions(
        self,
        *,
        target: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[ActionRecord]:
        """Actions, newest first."""

    def add_verdicts(self, verdicts: Iterable[Verdict], *, spool: str, offset: int) -> None:
        """Keep verdicts (one read twice is kept once) and how far the spool was read."""

    def spool_offset(self, spool: str) -> int:
        """How far this spool (file identity) was read; 0 for an unknown one."""

    def verdicts(self, *, ticket: str | None = None, limit: int = 100) -> Sequence[Verdict]:
        """Verdicts, newest first."""

    def settle_jobs(self, jobs: Iterable[JobRecord], *, now: datetime) -> None:
        """Upsert runs by (job_id, started_at)."""

    def job_runs(self, *, start: datetime, end: datetime) -> Sequence[JobRecord]:
        """Runs that overlap a window."""

    def job_runs_of(self, job_id: int) -> Sequence[JobRecord]:
        """Runs of one job, oldest first."""

    def samples(self, *, start: datetime, end: datetime) -> Iterable[Reading]:
        """Believable readings with watts in a window, ordered by device and time."""
