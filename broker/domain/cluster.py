# SPDX-License-Identifier: GPL-2.0-or-later
"""What the broker saw in Slurm and on the meters, as plain values."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

_POWER_LICENSE = re.compile(r"(?:^|,)\s*power[:=](\d+)\s*(?=$|,)")


class Tier(StrEnum):
    """Who is shed first. Declared in the envelope, else the policy's default."""

    GOLD = "gold"  #: never shed
    SILVER = "silver"  #: shed after notice
    BRONZE = "bronze"  #: shed at once


class JobState(StrEnum):
    """Slurm's base states, as far as power cares."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUSPENDED = "SUSPENDED"
    COMPLETING = "COMPLETING"  #: still holds its nodes and tokens
    ENDED = "ENDED"  #: any final state

    @property
    def holds_nodes(self) -> bool:
        return self in {JobState.RUNNING, JobState.SUSPENDED, JobState.COMPLETING}


@dataclass(frozen=True, slots=True)
class SlurmNode:
    """A node as Slurm sees it."""

    name: str
    state: str  #: Slurm's words joined by +, e.g. ``IDLE`` or ``ALLOCATED+DRAIN``
    weight: int = 1

    @property
    def usable(self) -> bool:
        """May Slurm start a job on it, now or when it returns by itself?"""
        words = set(self.state.replace("*", "").upper().split("+"))
        return not words & {"DRAIN", "DRAINED", "DRAINING", "FAIL", "FUTURE", "DOWN", "UNKNOWN"}


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """A job as Slurm sees it. Times are UTC; watts are in its licences and admin_comment."""

    job_id: int
    user: str
    account: str
    partition: str
    state: JobState
    slurm_state: str  #: Slurm's own word, e.g. ``COMPLETED`` or ``NODE_FAIL``
    reason: str  #: Slurm's reason for pending
    name: str = ""
    nodes: tuple[str, ...] = ()
    node_count: int = 1  #: nodes it has, or the fewest it may get while pending
    licenses: str = ""
    admin_comment: str = ""
    comment: str = ""
    reservation: str = ""
    batch: bool = True
    requeue: bool = True
    priority: int | None = None  #: 0 is held
    restarts: int = 0
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    ends_by: datetime | None = None  #: while it runs: when its time limit is over; None: never
    array_job_id: int | None = None
    array_task_id: int | None = None

    @property
    def tokens_w_per_node(self) -> int | None:
        """Its power tokens in W per node, None when it has none."""
        found = _POWER_LICENSE.search(self.licenses)
        return int(found[1]) if found else None

    @property
    def tokens_w(self) -> int:
        """Tokens that it holds (or will hold) on all its nodes, in W."""
        return (self.tokens_w_per_node or 0) * (len(self.nodes) or self.node_count)

    @property
    def held(self) -> bool:
        return self.state is JobState.PENDING and self.priority == 0

    @property
    def admitted(self) -> Mapping[str, Any]:
        """The admitted envelope in its admin_comment; empty when there is none."""
        try:
            found = json.loads(self.admin_comment)
        except ValueError:
            return {}
        return found if isinstance(found, dict) and found.get("v") == 1 else {}

    @property
    def tier(self) -> Tier:
        """Its tier; jobs that nobody classified are silver, so they are never taken unwarned."""
        word = self.admitted.get("tier")
        return next((tier for tier in Tier if tier == word), Tier.SILVER)

    @property
    def sheddable(self) -> bool:
        """Can Slurm requeue it? Others would be killed, so they are never shed."""
        return self.batch and self.requeue and self.state is JobState.RUNNING


@dataclass(frozen=True, slots=True)
class SlurmReservation:
    """A reservation as Slurm sees it."""

    name: str
    nodes: tuple[str, ...]
    starts_at: datetime
    ends_at: datetime
    accounts: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SlurmView:
    """One look at Slurm."""

    seen_at: datetime
    nodes: Mapping[str, SlurmNode]
    jobs: Mapping[int, SlurmJob]
    reservations: Mapping[str, SlurmReservation]


class Quality(StrEnum):
    """How far a reading may be believed (written by the collectors)."""

    GOOD = "good"
    ESTIMATED = "estimated"
    IMPLAUSIBLE = "implausible"
    NOT_SUPPORTED = "not_supported"

    @property
    def believable(self) -> bool:
        return self in {Quality.GOOD, Quality.ESTIMATED}


@dataclass(frozen=True, slots=True)
class Reading:
    """One answer of one device."""

    device: str
    polled_at: datetime
    active_power_w: int | None
    quality: Quality
    note: str = ""


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The last readings of every device, newest last; devices that never answered are absent."""

    readings: Mapping[str, tuple[Reading, ...]] = field(default_factory=dict)

    def newest(self, device: str) -> Reading | None:
        found = self.readings.get(device)
        return found[-1] if found else None
