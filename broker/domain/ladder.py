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

_NOTICE_KEEPS = timedelta(minutes=1)  #: a lapsed notice counts so long, at the least


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
    over = [
        _Over(load, frozenset(load.layer.nodes), load.draw.seen_w - load.layer.safe_w)
        for load in loads
        if load.draw.confirmed_above(load.layer.safe_w)
    ]
    busy = {each.job_id for each in under_way}
    able = [job for job in jobs if job.sheddable and job.job_id not in busy]
    ripe = [job for job in able if _ripe(job, warned_until, now, silver_notice)]
    ripe_ids = {job.job_id for job in ripe}
    waiting = [
        job
        for job in able
        if job.tier is Tier.SILVER
        and job.job_id not in ripe_ids
        and _notice_runs(job, warned_until, now)
    ]
    waiting_ids = {job.job_id for job in waiting}
    unwarned = [job for job in able if job.job_id not in ripe_ids | waiting_ids]

    shed: dict[int, Step] = {}
    warn: dict[int, Step] = {}
    helpless: list[str] = []
    for each in over:
        left_w = each.excess_w - sum(_within(done, each) for done in under_way)
        left_w -= sum(each.relief_w(step.job, relief_by_node) for step in shed.values())
        for tier in (Tier.BRONZE, Tier.SILVER):
            left_w = _take(tier, ripe, each, relief_by_node, left_w, shed)
        # Those that were warned will go when their notice is over: warn nobody in their place.
        told = [*waiting, *(step.job for step in warn.values())]
        left_w -= sum(each.relief_w(job, relief_by_node) for job in told)
        left_w = _take(Tier.SILVER, unwarned, each, relief_by_node, left_w, warn)
        if left_w > 0:
            layer = each.load.layer
            helpless.append(
                f"{layer.kind} {layer.name} is {watts(left_w)} over its limit and has nothing left"
                " to shed"
            )
    _spare(shed, over, relief_by_node, under_way)
    return LadderPlan(tuple(shed.values()), tuple(warn.values()), tuple(helpless))


@dataclass(frozen=True, slots=True)
class _Over:
    """A layer that is over its limit, confirmed."""

    load: LayerLoad
    nodes: frozenset[str]
    excess_w: int

    def relief_w(self, job: SlurmJob, relief_by_node: Mapping[str, int]) -> int:
        """What the layer would feel of a job's end."""
        return sum(relief_by_node.get(name, 0) for name in job.nodes if name in self.nodes)


def _spare(
    shed: dict[int, Step],
    over: Sequence[_Over],
    relief_by_node: Mapping[str, int],
    under_way: Sequence[Shed],
) -> None:
    """Let go of victims that a later choice for a wider layer has made needless.

    Silver first; bronze only where no silver has to go, as bronze always goes before it.
    """

    def needless(step: Step) -> bool:
        return all(
            sum(each.relief_w(s.job, relief_by_node) for s in shed.values() if s is not step)
            >= each.excess_w - sum(_within(done, each) for done in under_way)
            for each in over
            if each.relief_w(step.job, relief_by_node)
        )

    for tier in (Tier.SILVER, Tier.BRONZE):
        if tier is Tier.BRONZE and any(step.job.tier is Tier.SILVER for step in shed.values()):
            return
        for step in [s for s in shed.values() if s.job.tier is tier]:
            if needless(step):
                del shed[step.job.job_id]


def _ripe(
    job: SlurmJob, warned_until: Mapping[int, datetime], now: datetime, notice: timedelta
) -> bool:
    if job.tier is Tier.BRONZE:
        return True
    if job.tier is Tier.GOLD:
        return False
    if notice <= timedelta(0):
        return True
    until = warned_until.get(job.job_id)
    # A notice of last week is no notice: the job is warned anew.
    return until is not None and until <= now <= until + max(notice, _NOTICE_KEEPS)


def _notice_runs(job: SlurmJob, warned_until: Mapping[int, datetime], now: datetime) -> bool:
    return job.job_id in warned_until and now < warned_until[job.job_id]


def _take(
    tier: Tier,
    jobs: Collection[SlurmJob],
    over: _Over,
    relief_by_node: Mapping[str, int],
    excess_w: int,
    into: dict[int, Step],
) -> int:
    """Add jobs of one tier until the excess is gone; returns what is left of it."""
    if excess_w <= 0:
        return excess_w
    load = over.load
    reliefs = {
        job.job_id: (relief_w, job)
        for job in jobs
        if job.tier is tier and job.job_id not in into
        if (relief_w := over.relief_w(job, relief_by_node)) > 0
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


def _within(shed: Shed, over: _Over) -> int:
    """The part of a shed's relief that this layer feels."""
    share = sum(1 for name in shed.nodes if name in over.nodes)
    return shed.relief_w * share // len(shed.nodes) if shed.nodes else 0
