# SPDX-License-Identifier: GPL-2.0-or-later
"""What the hook is told after a cycle: limits, what is left of them, pools and switches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.domain import admission_state as told
from broker.domain.cluster import JobState, SlurmJob, SlurmView
from broker.domain.load import LayerLoad, tokens_by_node
from broker.domain.power_graph import Layer, LayerKind, PowerGraph
from broker.domain.rules import Lane, Rules
from broker.domain.settle import charge_of
from broker.domain.switches import Mode
from broker.domain.tokens import Pool
from broker.services.observed import Plan, free_nodes

# Longer than the hook's stale_after_s would be a lie, shorter would cry wolf at a slow cycle.
_VALID_S = 30


@dataclass(frozen=True, slots=True)
class Site:
    """What does not change while the broker runs."""

    cluster: str
    graph: PowerGraph
    rules: Rules
    switches: told.Switches
    admins: tuple[str, ...]


def admission_state(
    site: Site, plan: Plan, view: SlurmView, *, mode: Mode, generation: int, now: datetime
) -> told.AdmissionState:
    """The next generation of the state file."""
    fenced = {name for names in plan.fenced.values() for name in names}
    open_nodes = {
        name
        for name in free_nodes(site.graph, view, plan.pools)
        if name not in fenced and (node := view.nodes.get(name)) is not None and node.usable
    }
    at = int(now.timestamp())
    return told.AdmissionState(
        generation=generation,
        written_at=at,
        valid_until=at + _VALID_S,
        mode=str(mode),
        cluster=site.cluster,
        lanes=tuple(_lane(site, lane, view) for lane in (site.rules.hot, site.rules.cold)),
        node_types=_node_types(site),
        layers=tuple(
            _layer(site.graph, plan.loads[layer.name], open_nodes, fenced)
            for layer in site.graph.layers.values()
        ),
        classes=site.rules.classes,
        reservations=_pools(site.graph, plan.pools, view, fenced),
        admins=site.admins,
        switches=site.switches,
    )


def _lane(site: Site, lane: Lane, view: SlurmView) -> told.Lane:
    limit_w = lane.committed_limit_w or site.graph.site.safe_w
    return told.Lane(
        name=lane.name,
        partition=lane.partition,
        tier_default=str(site.rules.default_tier),
        room_w=max(0, limit_w - sum(charge_w(site, job) for job in _of_lane(site, lane, view))),
    )


def _of_lane(site: Site, lane: Lane, view: SlurmView) -> Sequence[SlurmJob]:
    return [
        job
        for job in view.jobs.values()
        if site.rules.lane_of(job.partition) == lane.name and job.state is not JobState.ENDED
    ]


def charge_w(site: Site, job: SlurmJob) -> int:
    """What a job is charged, idle of its nodes included: as admitted, else as it would be."""
    admitted = job.admitted
    charge_w, counted = admitted.get("charge_w"), admitted.get("nodes")
    nodes = len(job.nodes) or job.node_count
    # The envelope was for the fewest nodes it may get; Slurm charges the ones it got.
    if type(charge_w) is int and (type(counted) is not int or nodes <= counted):
        return charge_w
    per_node_w = job.tokens_w_per_node
    if per_node_w is None:
        per_node_w = charge_of(job, site.graph, site.rules).tokens_w_per_node
    types = [site.graph.nodes[name].type for name in job.nodes if name in site.graph.nodes]
    if len(types) == nodes:
        return sum(per_node_w + each.idle_w for each in types)
    idle_w = max(node.type.idle_w for node in site.graph.nodes.values())
    return nodes * (per_node_w + idle_w)


def _node_types(site: Site) -> tuple[told.NodeType, ...]:
    count: dict[str, int] = {}
    for node in site.graph.nodes.values():
        count[node.type.name] = count.get(node.type.name, 0) + 1
    kinds = {node.type.name: node.type for node in site.graph.nodes.values()}
    lanes = (site.rules.hot.partition, site.rules.cold.partition)
    return tuple(
        told.NodeType(kind.name, kind.idle_w, kind.max_w, kind.gpus, count[name], lanes)
        for name, kind in kinds.items()
    )


def _layer(
    graph: PowerGraph, load: LayerLoad, open_nodes: set[str], fenced: set[str]
) -> told.Layer:
    layer = load.layer
    tokens_w = graph.tokens_w(layer)
    left_w = min(tokens_w - load.tokens_used_w - load.reserved_w, load.headroom_w)
    return told.Layer(
        name=layer.name,
        kind=str(layer.kind),
        safe_w=layer.safe_w,
        nodes=len(layer.nodes),
        tokens_ever_w=tokens_w,
        tokens_now_w=max(0, left_w),
        nodes_now=sum(1 for name in layer.nodes if name in open_nodes),
        fenced=sum(1 for name in layer.nodes if name in fenced),
        parents=_parents(graph, layer),
    )


def _parents(graph: PowerGraph, layer: Layer) -> tuple[str, ...]:
    if layer.kind is LayerKind.SITE:
        return ()
    return tuple(each.name for each in graph.above(layer)[1:])


def _pools(
    graph: PowerGraph, pools: Sequence[Pool], view: SlurmView, fenced: set[str]
) -> tuple[told.ReservedPool, ...]:
    tokens = tokens_by_node(graph, list(view.jobs.values()), {})
    return tuple(_pool(pool, tokens, fenced) for pool in pools)


def _pool(pool: Pool, tokens: Mapping[str, int], fenced: set[str]) -> told.ReservedPool:
    each = pool.reservation
    used_w = sum(tokens.get(name, 0) for name in each.nodes)
    # A fence keeps its owner's jobs out as well.
    granted_w = 0 if set(each.nodes) <= fenced else pool.granted_w
    return told.ReservedPool(
        name=each.name,
        slurm=each.slurm_name,
        accounts=each.accounts,
        users=each.users,
        racks=(each.rack,),
        nodes=each.nodes,
        node_count=len(each.nodes),
        tokens_now_w=max(0, granted_w - used_w),
        tokens_ever_w=each.tokens_w,
        start=int(each.starts_at.timestamp()),
        end=int(each.ends_at.timestamp()),
        state=str(each.state),
    )
