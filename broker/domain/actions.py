# SPDX-License-Identifier: GPL-2.0-or-later
"""What a plan asks to be done. Every action says why; applying one twice changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broker.domain.reservation import PowerReservation, ReservationState
from broker.domain.tokens import TokenLayer


@dataclass(frozen=True, slots=True)
class Action:
    """One step in Slurm, with its reason."""

    because: str

    @property
    def kind(self) -> str:
        return type(self).__name__

    @property
    def target(self) -> str:
        """What it acts on: a rack, a job id or a reservation."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class SetFence(Action):
    """Keep new jobs off these nodes of a rack; no nodes: take the fence away."""

    rack: str
    nodes: tuple[str, ...]

    @property
    def target(self) -> str:
        return self.rack


@dataclass(frozen=True, slots=True)
class _JobAction(Action):
    job_id: int

    @property
    def target(self) -> str:
        return str(self.job_id)


@dataclass(frozen=True, slots=True)
class ShedJob(_JobAction):
    """Requeue a job and hold it; ``admin_comment`` marks the hold as ours."""

    rack: str
    relief_w: int  #: draw expected to go with it
    admin_comment: str


@dataclass(frozen=True, slots=True)
class NotifyJob(_JobAction):
    """Signal a silver job that it will be requeued; ``admin_comment`` says when."""

    admin_comment: str


@dataclass(frozen=True, slots=True)
class GiveBack(_JobAction):
    """Release a job that was shed."""

    admin_comment: str


@dataclass(frozen=True, slots=True)
class ChargeJob(_JobAction):
    """Give a job that has no tokens its own: found at install, or cleared by somebody."""

    tokens_w_per_node: int
    admin_comment: str


@dataclass(frozen=True, slots=True)
class StripTokens(_JobAction):
    """Take the tokens from a job, before the resource goes away (mode=off)."""


@dataclass(frozen=True, slots=True)
class KeepReservation(Action):
    """Create a power reservation in Slurm."""

    reservation: PowerReservation

    @property
    def target(self) -> str:
        return self.reservation.name


@dataclass(frozen=True, slots=True)
class DropReservation(Action):
    """Delete a reservation of ours from Slurm."""

    slurm_name: str

    @property
    def target(self) -> str:
        return self.slurm_name


@dataclass(frozen=True, slots=True)
class KeepTokenLayers(Action):
    """Let Slurm enforce these layers of tokens; none: take the resource away."""

    layers: tuple[TokenLayer, ...]

    @property
    def target(self) -> str:
        return "resources.yaml"


@dataclass(frozen=True, slots=True)
class MoveReservation(Action):
    """Move a power reservation to another state in the ledger."""

    name: str
    state: ReservationState
    used_at: datetime | None = None

    @property
    def target(self) -> str:
        return self.name
