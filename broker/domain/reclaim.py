# SPDX-License-Identifier: GPL-2.0-or-later
"""Cold gives back on demand: which cold jobs to requeue so that a hot job that waits can start.

Slurm cannot do it: with tokens full its own preemption takes nothing (tried on 26.05.5).
No more victims than needed, bronze first, the youngest first; gold never. A hot job is helped
once in a while only, so that one that waits for something else does not empty the cold lane.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.domain.cluster import JobState, SlurmJob, Tier
from broker.domain.power_graph import PowerGraph
from broker.domain.units import watts

# Slurm's own word for the one that is next; those behind it wait for "Priority".
_NEXT_IN_LINE = "Resources"
_TIERS = (Tier.BRONZE, Tier.SILVER)
HELPED_EVERY = timedelta(minutes=5)  #: the same hot job is helped no more often


@dataclass(frozen=True, slots=True)
class Room:
    """What could be started on now: tokens left by layer, and open nodes by rack."""

    tokens_w: Mapping[str, int]
    nodes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Reclaim:
    """Cold jobs that make way for a hot one."""

    hot: SlurmJob
    victims: tuple[SlurmJob, ...]
    because: str


def plan_reclaim(
    graph: PowerGraph,
    jobs: Sequence[SlurmJob],
    room: Room,
    *,
    hot: str,
    cold: str,
    waits_at_least: timedelta,
    helped: Mapping[int, datetime],
    now: datetime,
) -> Reclaim | None:
    """Choose victims for the hot job that is next in line; None when none is needed or enough.

    ``hot`` and ``cold`` are the lanes' partitions, ``helped`` when a hot job was last helped.
    """
    waiting = next_in_line(jobs, hot, waits_at_least=waits_at_least, helped=helped, now=now)
    if waiting is None or hosts(graph, room, waiting) >= waiting.node_count:
        return None
    candidates = sorted(
        (
            job
            for job in jobs
            if job.partition == cold and job.sheddable and job.tier in _TIERS
            if all(name in graph.nodes for name in job.nodes)
        ),
        key=lambda job: (_TIERS.index(job.tier), -_started(job), job.job_id),
    )
    victims: list[SlurmJob] = []
    while hosts(graph, without(graph, room, victims), waiting) < waiting.node_count:
        if len(victims) == len(candidates):
            return None
        victims.append(candidates[len(victims)])
    for job in tuple(victims):
        # What was taken first may be needless by what was taken last.
        fewer = [each for each in victims if each is not job]
        if hosts(graph, without(graph, room, fewer), waiting) >= waiting.node_count:
            victims = fewer
    return Reclaim(
        waiting,
        tuple(victims),
        f"hot job {waiting.job_id} waits for {watts(waiting.tokens_w)} of tokens"
        f" on {waiting.node_count} nodes",
    )


def next_in_line(
    jobs: Sequence[SlurmJob],
    hot: str,
    *,
    waits_at_least: timedelta,
    helped: Mapping[int, datetime],
    now: datetime,
) -> SlurmJob | None:
    """The hot job that Slurm would start next, once it has waited a little in vain."""
    for job in sorted(jobs, key=lambda each: (-(each.priority or 0), each.job_id)):
        if job.partition != hot or job.state is not JobState.PENDING or job.held:
            continue
        if job.reason != _NEXT_IN_LINE or job.reservation or job.tokens_w_per_node is None:
            continue
        waited = now - job.submitted_at if job.submitted_at else timedelta(0)
        lately = job.job_id in helped and now - helped[job.job_id] < HELPED_EVERY
        return None if lately or waited < waits_at_least else job
    return None


def hosts(graph: PowerGraph, room: Room, job: SlurmJob) -> int:
    """On how many nodes the job's tokens fit, on all layers at once."""
    each_w = max(1, job.tokens_w_per_node or 0)
    left = dict(room.tokens_w)
    total = 0
    for rack in graph.racks:
        above = graph.above(rack)
        count = min(room.nodes.get(rack.name, 0), *(left[layer.name] // each_w for layer in above))
        for layer in above:
            left[layer.name] -= max(0, count) * each_w
        total += max(0, count)
    return total


def without(graph: PowerGraph, room: Room, gone: Collection[SlurmJob]) -> Room:
    """The room there would be without these jobs."""
    tokens, nodes = dict(room.tokens_w), dict(room.nodes)
    for job in gone:
        for name in job.nodes:
            rack = graph.layers[graph.nodes[name].rack]
            nodes[rack.name] = nodes.get(rack.name, 0) + 1
            for layer in graph.above(rack):
                tokens[layer.name] += job.tokens_w_per_node or 0
    return Room(tokens, nodes)


def _started(job: SlurmJob) -> float:
    return job.started_at.timestamp() if job.started_at else 0.0
