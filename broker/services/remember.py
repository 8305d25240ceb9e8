# SPDX-License-Identifier: GPL-2.0-or-later
"""What one cycle tells the next: charges of nodes that go silent, sheds under way, overloads."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from broker.domain.cluster import JobState
from broker.domain.draw import node_draw_w
from broker.domain.ladder import Shed
from broker.domain.load import LayerLoad, tokens_by_node
from broker.domain.marks import instant
from broker.domain.power_graph import PowerGraph
from broker.domain.rules import Rules
from broker.services.observed import Memory, Observed

# A node that is down counts as dark when its BMC shows hardly more than idle.
_DARK_ABOVE_IDLE = 1.25


def remember(
    graph: PowerGraph,
    observed: Observed,
    memory: Memory,
    loads: Mapping[str, LayerLoad],
    rules: Rules,
) -> Memory:
    now = observed.now
    charges = tokens_by_node(graph, list(observed.view.jobs.values()), {})
    last_charge = {
        # A node that was idle when it went down holds nothing that could still draw.
        name: charges.get(name, 0) if node.usable else charges.get(name, memory.last_charge[name])
        for name, node in observed.view.nodes.items()
        if name in graph.nodes and (node.usable or name in charges or name in memory.last_charge)
    }
    # A clock that was set back must not keep an instant in the future for an hour.
    over = {name: min(at, now) for name, at in memory.last_over.items()}
    for name, load in loads.items():
        unseen = load.draw.lost and name in over and now - over[name] < rules.give_back_after
        if load.over or unseen:
            over[name] = now
    return replace(
        memory,
        last_charge=last_charge,
        last_over=over,
        fence_needed={name: min(at, now) for name, at in memory.fence_needed.items()},
        under_way=_under_way(graph, observed, memory, rules),
    )


def silent_nodes(
    graph: PowerGraph, observed: Observed, memory: Memory, rules: Rules
) -> Mapping[str, int]:
    """Nodes that Slurm gave up on, at their last charge, until their BMC shows them low."""
    holding = {
        name for job in observed.view.jobs.values() if job.state.holds_nodes for name in job.nodes
    }
    silent = {}
    for name, node in graph.nodes.items():
        seen = observed.view.nodes.get(name)
        if name in holding or seen is None or seen.usable:
            continue
        draw_w = node_draw_w(observed.telemetry, node.bmc, now=observed.now, rules=rules)
        if draw_w is None or draw_w > node.type.idle_w * _DARK_ABOVE_IDLE:
            silent[name] = memory.last_charge.get(name, node.type.tokens_max_w)
    return silent


def lately_held(
    graph: PowerGraph, observed: Observed, memory: Memory, rules: Rules
) -> Mapping[str, tuple[int, datetime]]:
    """The most tokens that each node held since the readings that count were taken.

    Without it every job's end would look like draw that nobody was charged for, and be fenced.
    """
    now = observed.now
    tokens = tokens_by_node(graph, list(observed.view.jobs.values()), {})
    found = {name: (tokens_w, now) for name, tokens_w in tokens.items()}
    for name, (tokens_w, at) in memory.lately.items():
        fresh = timedelta(0) <= now - at < rules.stale_after
        if fresh and tokens_w > tokens.get(name, 0):
            found[name] = tokens_w, at
    return found


def _under_way(
    graph: PowerGraph, observed: Observed, memory: Memory, rules: Rules
) -> tuple[Shed, ...]:
    """Sheds that the meters may not show yet: remembered, or marked by a broker that died."""

    def fresh(at: datetime) -> bool:
        return timedelta(0) <= observed.now - at < rules.shed_settle

    kept = [each for each in memory.under_way if fresh(each.at)]
    remembered = {each.job_id for each in kept}
    for job in observed.view.jobs.values():
        if job.job_id in remembered or job.state is JobState.RUNNING:
            continue
        marks = job.admitted
        at, layer = instant(marks.get("shed_at")), graph.layers.get(str(marks.get("shed_from")))
        relief_w = marks.get("shed_w")
        if marks.get("held") is True and at and layer and isinstance(relief_w, int) and fresh(at):
            kept.append(Shed(job.job_id, layer.nodes, relief_w, at))
    return tuple(kept)


def forget_relief(memory: Memory, refused: Collection[int]) -> Memory:
    """Slurm would not requeue these jobs: try others, and expect nothing of them."""
    return replace(
        memory,
        under_way=tuple(
            replace(each, relief_w=0) if each.job_id in refused else each
            for each in memory.under_way
        ),
    )
