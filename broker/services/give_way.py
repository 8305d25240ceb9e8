# SPDX-License-Identifier: GPL-2.0-or-later
"""Cold jobs make way for a hot one that waits: bronze at once, silver after its notice."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta

from broker.domain.actions import Action, NotifyJob, ShedJob
from broker.domain.cluster import JobState, SlurmJob, SlurmView, Tier
from broker.domain.load import LayerLoad
from broker.domain.marks import instant, marked, notice_until, stamp
from broker.domain.power_graph import PowerGraph
from broker.domain.reclaim import Reclaim, Room, plan_reclaim
from broker.domain.rules import Rules

# Slurm starts what fits within seconds; a job that waits longer waits for others to end.
_LEFT_TO_SLURM = timedelta(seconds=10)
# A hot job that has not started by then waits for something else.
_KEPT_AWAY = timedelta(minutes=2)


def plan_ways(
    graph: PowerGraph,
    view: SlurmView,
    loads: Mapping[str, LayerLoad],
    helped: Mapping[int, datetime],
    *,
    free: Collection[str],
    fenced: Mapping[str, tuple[str, ...]],
    now: datetime,
    rules: Rules,
) -> tuple[list[Action], Mapping[int, datetime]]:
    """Actions for one hot job at most, and when each was helped last.

    Nothing while a layer is over its limit or unseen: then the ladder and the fence have a say.
    """
    helped = {job_id: at for job_id, at in helped.items() if job_id in view.jobs}
    if any(load.over or load.draw.lost for load in loads.values()):
        return [], helped
    found = plan_reclaim(
        graph,
        list(view.jobs.values()),
        _room(graph, view, loads, free, fenced),
        hot=rules.hot.partition,
        cold=rules.cold.partition,
        waits_at_least=_LEFT_TO_SLURM,
        helped=helped,
        now=now,
    )
    if found is None:
        return [], helped
    unripe = [job for job in found.victims if not _ripe(job, now, rules)]
    if unripe:
        # All go together or nobody goes: a bronze job requeued too early would go in vain.
        return [
            _warning(job, found, now, rules) for job in unripe if notice_until(job) is None
        ], helped
    return [_step(job, graph, found, now) for job in found.victims], {
        **helped,
        found.hot.job_id: now,
    }


def still_makes_way(view: SlurmView, job: SlurmJob, *, now: datetime) -> bool:
    """Is the hot job that it made way for still about to start?"""
    waiting = view.jobs.get(_job_id(job.admitted.get("made_way_for")))
    shed_at = instant(job.admitted.get("shed_at"))
    if waiting is None or waiting.state is not JobState.PENDING or shed_at is None:
        return False
    return timedelta(0) <= now - shed_at < _KEPT_AWAY


def _job_id(mark: object) -> int:
    return mark if isinstance(mark, int) else -1


def _ripe(job: SlurmJob, now: datetime, rules: Rules) -> bool:
    if job.tier is Tier.BRONZE or rules.silver_notice <= timedelta(0):
        return True
    until = notice_until(job)
    return until is not None and now >= until


def _warning(job: SlurmJob, found: Reclaim, now: datetime, rules: Rules) -> NotifyJob:
    until = now + rules.silver_notice
    because = f"{found.because}; cold silver job {job.job_id} makes way at {until:%H:%M:%S} UTC"
    return NotifyJob(because, job.job_id, marked(job, notice_until=stamp(until), because=because))


def _step(job: SlurmJob, graph: PowerGraph, found: Reclaim, now: datetime) -> ShedJob:
    because = f"{found.because}; cold {job.tier} job {job.job_id} makes way"
    comment = marked(
        job, held=True, shed_at=stamp(now), made_way_for=found.hot.job_id, because=because
    )
    # Its relief is in tokens: no meter has to fall for this.
    return ShedJob(because, job.job_id, graph.nodes[job.nodes[0]].rack, job.tokens_w, comment)


def _room(
    graph: PowerGraph,
    view: SlurmView,
    loads: Mapping[str, LayerLoad],
    free: Collection[str],
    fenced: Mapping[str, tuple[str, ...]],
) -> Room:
    closed = {name for names in fenced.values() for name in names}
    return Room(
        tokens_w={
            name: max(0, graph.tokens_w(load.layer) - load.tokens_used_w - load.reserved_w)
            for name, load in loads.items()
        },
        nodes={
            rack.name: sum(
                1
                for name in rack.nodes
                if name in free
                and name not in closed
                and (node := view.nodes.get(name)) is not None
                and node.usable
            )
            for rack in graph.racks
        },
    )
