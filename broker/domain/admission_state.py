# SPDX-License-Identifier: GPL-2.0-or-later
"""What the broker tells the job_submit hook: limits and grants, no decisions.

The hook reads it from a small text file (broker.adapters.state_file); `powermgr feasible` and the
broker itself use the same dataclasses. All watts are whole numbers, all times unix seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Lane:
    """A partition that carries power jobs."""

    name: str
    partition: str
    tier_default: str
    room_w: int  #: charge that the lane can still take on now


@dataclass(frozen=True, slots=True)
class NodeType:
    """Figures of one kind of node, at the PDU."""

    name: str
    idle_w: int
    max_w: int
    gpus: int = 0
    nodes: int = 0
    partitions: tuple[str, ...] = ()
    cpus: int = 0  #: 0: not told; the hook then asks Slurm's partition


@dataclass(frozen=True, slots=True)
class PowerClass:
    """Policy defaults for what an envelope leaves out."""

    name: str
    est_share: float = 1.0  #: est as a share of max
    max_share: float = 1.0  #: max as a share of the node's, where the class was named by the user


@dataclass(frozen=True, slots=True)
class Layer:
    """A rack, a row or the site, with what it can grant."""

    name: str
    kind: str  #: rack | row | site
    safe_w: int
    nodes: int
    tokens_ever_w: int  #: with nothing running and no fence
    tokens_now_w: int
    nodes_now: int = 0  #: free nodes outside every fence
    fenced: int = 0
    parents: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReservedPool:
    """A power reservation as the hook sees it: who may use it, and what it still has."""

    name: str
    slurm: str  #: its name in Slurm, pw-NAME
    accounts: tuple[str, ...]
    users: tuple[str, ...]
    racks: tuple[str, ...]
    nodes: tuple[str, ...]
    node_count: int
    tokens_now_w: int
    tokens_ever_w: int
    start: int
    end: int
    state: str  #: pending | active | ...


@dataclass(frozen=True, slots=True)
class Switches:
    """What the site wants when the state is old."""

    when_stale: str = "grants"
    when_missing: str = "hold"
    stale_after_s: int = 30
    missing_after_s: int = 600


@dataclass(frozen=True, slots=True)
class AdmissionState:
    """One generation of admission.state."""

    generation: int
    written_at: int
    valid_until: int
    mode: str  #: enforce | observe | off
    cluster: str
    lanes: tuple[Lane, ...]
    node_types: tuple[NodeType, ...]
    layers: tuple[Layer, ...]
    classes: tuple[PowerClass, ...] = ()
    reservations: tuple[ReservedPool, ...] = ()
    admins: tuple[str, ...] = ()
    admin_uids: tuple[int, ...] = ()  #: the hook cannot turn a uid into a name
    switches: Switches = field(default_factory=Switches)

    @property
    def racks(self) -> tuple[Layer, ...]:
        return tuple(layer for layer in self.layers if layer.kind == "rack")

    def lane(self, name: str) -> Lane | None:
        return next((lane for lane in self.lanes if lane.name == name), None)

    def lane_of(self, partition: str) -> Lane | None:
        return next((lane for lane in self.lanes if lane.partition == partition), None)

    def class_named(self, name: str) -> PowerClass | None:
        return next((each for each in self.classes if each.name == name), None)

    def pool(self, slurm_name: str) -> ReservedPool | None:
        return next((pool for pool in self.reservations if pool.slurm == slurm_name), None)

    def upper_layers(self) -> Mapping[str, Layer]:
        """Rows and sites by name; the site also under the word `site`."""
        upper = {layer.name: layer for layer in self.layers if layer.kind != "rack"}
        for layer in self.layers:
            if layer.kind == "site":
                upper.setdefault("site", layer)
        return upper
