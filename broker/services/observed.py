# SPDX-License-Identifier: GPL-2.0-or-later
"""What a cycle looks at, remembers and plans, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from broker.domain.actions import Action
from broker.domain.cluster import SlurmView, Telemetry
from broker.domain.ladder import Shed
from broker.domain.load import LayerLoad
from broker.domain.power_graph import PowerGraph
from broker.domain.reservation import PowerReservation
from broker.domain.switches import Mode
from broker.domain.tokens import Pool

FENCE_PREFIX = "pw-fence-"
OURS_PREFIX = "pw-"


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at everything."""

    now: datetime
    mode: Mode
    view: SlurmView
    telemetry: Telemetry
    reservations: tuple[PowerReservation, ...]  #: open ones
    tokens_enforced: bool  #: has slurmctld read our layers?
    #: what they say, watts by layer; None: just what is planned
    compiled: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What one cycle tells the next. All of it can be lost: Slurm and the ledger keep the rest."""

    last_charge: Mapping[str, int] = field(default_factory=dict)  #: tokens by node, last seen
    #: Most tokens by node, and when it held so many last: meters show it for some time.
    lately: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)
    last_over: Mapping[str, datetime] = field(default_factory=dict)  #: by layer
    fence_needed: Mapping[str, datetime] = field(default_factory=dict)  #: by node, last time
    under_way: tuple[Shed, ...] = ()
    helped: Mapping[int, datetime] = field(default_factory=dict)  #: hot jobs others made way for


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in the order they are to be done, and what the cycle knows now."""

    actions: tuple[Action, ...]
    loads: Mapping[str, LayerLoad]
    pools: tuple[Pool, ...]
    fenced: Mapping[str, tuple[str, ...]]  #: by rack, once the plan is applied
    notes: tuple[str, ...]  #: what no action can help
    memory: Memory


def fences_in(view: SlurmView) -> Mapping[str, tuple[str, ...]]:
    """Fenced nodes by rack, as Slurm has them."""
    return {
        name.removeprefix(FENCE_PREFIX): each.nodes
        for name, each in view.reservations.items()
        if name.startswith(FENCE_PREFIX)
    }


def free_nodes(graph: PowerGraph, view: SlurmView, pools: Sequence[Pool]) -> frozenset[str]:
    """Nodes that hold no job and belong to no reservation; down ones may return at any time.

    A node that Slurm does not know can start nothing.
    """
    taken = {name for job in view.jobs.values() if job.state.holds_nodes for name in job.nodes}
    taken |= {name for pool in pools for name in pool.reservation.nodes}
    return (frozenset(graph.nodes) & frozenset(view.nodes)) - taken
