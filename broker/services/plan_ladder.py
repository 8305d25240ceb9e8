# SPDX-License-Identifier: GPL-2.0-or-later
"""Whom to shed, whom to warn, whom to give back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from broker.domain.actions import Action, GiveBack, NotifyJob, ShedJob
from broker.domain.cluster import JobState
from broker.domain.draw import node_draw_w
from broker.domain.ladder import Shed, plan_ladder
from broker.domain.load import LayerLoad, tokens_by_node
from broker.domain.marks import (
    held_blind,
    instant,
    marked,
    notice_until,
    shed_by_us,
    stamp,
    unmarked,
)
from broker.domain.power_graph import PowerGraph
from broker.domain.rules import Rules
from broker.services.give_way import still_makes_way
from broker.services.observed import Memory, Observed

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


def plan_steps(
    graph: PowerGraph,
    observed: Observed,
    memory: Memory,
    rules: Rules,
    loads: Mapping[str, LayerLoad],
) -> tuple[list[Action], tuple[str, ...], Memory]:
    now = observed.now
    jobs = [job for job in observed.view.jobs.values() if job.state is JobState.RUNNING]
    warned = {job.job_id: until for job in jobs if (until := notice_until(job)) is not None}
    ladder = plan_ladder(
        list(loads.values()),
        jobs,
        relief_by_node=_relief_by_node(graph, observed, rules),
        under_way=memory.under_way,
        warned_until=warned,
        now=now,
        silver_notice=rules.silver_notice,
    )
    sheds: list[Action] = [
        ShedJob(
            step.because,
            step.job.job_id,
            step.layer,
            step.relief_w,
            marked(
                step.job,
                held=True,
                shed_at=stamp(now),
                shed_w=step.relief_w,
                shed_from=step.layer,
                because=step.because,
            ),
        )
        for step in ladder.shed
    ]
    until = now + rules.silver_notice
    warnings: list[Action] = [
        NotifyJob(
            f"{step.because}; notice until {until:%H:%M:%S} UTC",
            step.job.job_id,
            marked(step.job, notice_until=stamp(until), because=step.because),
        )
        for step in ladder.warn
    ]
    begun = tuple(Shed(step.job.job_id, step.job.nodes, step.relief_w, now) for step in ladder.shed)
    return sheds + warnings, ladder.helpless, replace(memory, under_way=memory.under_way + begun)


def plan_give_back(
    observed: Observed, memory: Memory, rules: Rules, loads: Mapping[str, LayerLoad]
) -> list[GiveBack]:
    """Release shed jobs once every layer has been within its limit for a while.

    The fence stays where it is needed, so they land where there is room.
    """
    calm = all(
        observed.now - at >= rules.give_back_after for at in memory.last_over.values()
    ) and not any(load.over for load in loads.values())
    if not calm:
        return []
    return [
        GiveBack("every layer is within its limit again", job.job_id, unmarked(job))
        for job in observed.view.jobs.values()
        if shed_by_us(job) and not held_blind(job)
        # One without tokens is charged first, or it would start for nothing.
        if job.tokens_w_per_node is not None or not rules.carries_power(job.partition)
        # The mark remembers for a broker that was restarted and does not.
        if not timedelta(0)
        <= observed.now - (instant(job.admitted.get("shed_at")) or _LONG_AGO)
        < rules.give_back_after
        if not still_makes_way(observed.view, job, now=observed.now)
    ]


def _relief_by_node(graph: PowerGraph, observed: Observed, rules: Rules) -> Mapping[str, int]:
    """What each node draws above idle: by its BMC, else what its job was charged."""
    charged = tokens_by_node(graph, list(observed.view.jobs.values()), {})
    relief = {}
    for name, tokens_w in charged.items():
        node = graph.nodes[name]
        draw_w = node_draw_w(observed.telemetry, node.bmc, now=observed.now, rules=rules)
        relief[name] = tokens_w if draw_w is None else max(0, draw_w - node.type.idle_w)
    return relief
