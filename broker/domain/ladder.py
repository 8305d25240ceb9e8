# SPDX-License-Identifier: GPL-2.0-or-later
"""The safety ladder: whom to shed when a layer draws more than it may.

Bronze at once, silver after notice, gold never. Shedding requeues and holds; it never cancels.
Nothing is shed on one meter alone (see LayerDraw.confirmed_above), and no more than is needed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.domain.cluster import SlurmJob, Tier
from broker.domain.load import LayerLoad
from broker.domain.units import watts


@dataclass(frozen=True, slots=True)
class Shed:
    """A shed under way: its relief counts until the meters had time to show it."""

    job_id: int
    nodes: tuple[str, ...]
    relief_w: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with one job, and why."""

    job: SlurmJob
    layer: str
    relief_w: int
    because: str


@dataclass(frozen=True, slots=True)
class LadderPlan:
    """Jobs to shed now, jobs to warn, and layers that nothing more can help."""

    shed: tuple[Step, ...]
    warn: tuple[Step, ...]
    helpless: tuple[str, ...]


def plan_ladder(
    loads: Sequence[LayerLoad],
    jobs: Sequence[SlurmJob],
    *,
    relief_by_node: Mapping[str, int],
    under_way: Sequence[Shed],
    warned_until: Mapping[int, datetime],
    now: datetime,
    silver_notice: timedelta,
) -> LadderPlan:
    """Choose victims layer by layer, racks first.

    ``relief_by_node`` is what each node's draw would lose with its job, in W. A shed planned for
    a rack counts for its row and the site as well.
    """
    shed: dict[int, Step] = {}
    warn: dict[int, Step] = {}
    helpless: list[str] = []
    for load in loads:
        limit_w = load.layer.safe_w
        if not load.draw.confirmed_above(limit_w):
            continue
        excess_w = load.draw.seen_w - limit_w
        excess_w -= sum(_within(each, load) for each in under_way)
        excess_w -= sum(_relief_w(s.job, load, relief_by_node) for s in shed.values())
        if excess_w <= 0:
            continue
        busy = {each.job_id for each in under_way} | set(shed)
        able = [job for job in jobs if job.sheddable and job.job_id not in busy]
        ripe = [job for job in able if _ripe(job, warned_until, now, silver_notice)]
        for tier in (Tier.BRONZE, Tier.SILVER):
            excess_w = _take(tier, ripe, load, relief_by_node, excess_w, shed)
        if excess_w > 0:
            unwarned = [job for job in able if job not in ripe and job.job_id not in warned_until]
            excess_w = _take(Tier.SILVER, unwarned, load, relief_by_node, excess_w, warn)
        waiting = any(
            job.job_id in warned_until and job not in ripe and _relief_w(job, load, relief_by_node)
            for job in able
        )
        if excess_w > 0 and not waiting:
            helpless.append(
                f"{load.layer.kind} {load.layer.name} is {watts(excess_w)} over its limit and has"
                " nothing left to shed"
            )
    return LadderPlan(tuple(shed.values()), tuple(warn.values()), tuple(helpless))


def _ripe(
    job: SlurmJob, warned_until: Mapping[int, datetime], now: datetime, notice: timedelta
) -> bool:
    if job.tier is Tier.BRONZE:
        return True
    if job.tier is Tier.GOLD:
        return False
    if notice <= timedelta(0):
        return True
    return job.job_id in warned_until and now >= warned_until[job.job_id]


def _take(
    tier: Tier,
    jobs: Collection[SlurmJob],
    load: LayerLoad,
    relief_by_node: Mapping[str, int],
    excess_w: int,
    into: dict[int, Step],
) -> int:
    """Add jobs of one tier until the excess is gone; returns what is left of it."""
    reliefs = {
        job.job_id: (relief_w, job)
        for job in jobs
        if job.tier is tier and (relief_w := _relief_w(job, load, relief_by_node)) > 0
    }
    while excess_w > 0 and reliefs:
        # The smallest job that is enough alone; else the largest, so that the fewest are hit.
        enough = [each for each in reliefs.values() if each[0] >= excess_w]
        relief_w, job = (
            min(enough, key=lambda each: (each[0], -each[1].job_id))
            if enough
            else max(reliefs.values(), key=lambda each: (each[0], each[1].job_id))
        )
        into[job.job_id] = Step(
            job,
            load.layer.name,
            relief_w,
            f"{load.layer.kind} {load.layer.name} draws {watts(load.draw.seen_w)},"
            f" {watts(load.draw.seen_w - load.layer.safe_w)} above its safe limit of"
            f" {watts(load.layer.safe_w)}; {tier} job {job.job_id} draws {watts(relief_w)} of it",
        )
        excess_w -= relief_w
        del reliefs[job.job_id]
    return excess_w


def _relief_w(job: SlurmJob, load: LayerLoad, relief_by_node: Mapping[str, int]) -> int:
    return sum(relief_by_node.get(name, 0) for name in job.nodes if name in load.layer.nodes)


def _within(shed: Shed, load: LayerLoad) -> int:
    """The part of a shed's relief that this layer feels."""
    share = sum(1 for name in shed.nodes if name in load.layer.nodes)
    return shed.relief_w * share // len(shed.nodes) if shed.nodes else 0
