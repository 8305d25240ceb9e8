# SPDX-License-Identifier: GPL-2.0-or-later
"""Which fences Slurm should have, and when one may go."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from broker.domain.actions import SetFence
from broker.domain.fence import plan_fence
from broker.domain.load import LayerLoad
from broker.domain.power_graph import PowerGraph
from broker.domain.rules import Rules
from broker.domain.tokens import Pool
from broker.services.observed import Memory, Observed, fences_in, free_nodes


def plan_fences(
    graph: PowerGraph,
    observed: Observed,
    memory: Memory,
    rules: Rules,
    loads: Mapping[str, LayerLoad],
    pools: Sequence[Pool],
) -> tuple[list[SetFence], Mapping[str, tuple[str, ...]], Memory]:
    current, now = fences_in(observed.view), observed.now
    fenced_now = {name for names in current.values() for name in names}
    plan = plan_fence(
        graph,
        loads,
        free_nodes=free_nodes(graph, observed.view, pools),
        fenced=fenced_now,
        tokens_enforced=observed.tokens_enforced,
    )
    # A fence that nobody remembers (the broker was restarted) counts as needed until now.
    needed = {name: memory.fence_needed.get(name, now) for name in fenced_now}
    needed |= dict.fromkeys(plan.all_nodes(), now)
    known = observed.view.nodes
    racks = {rack.name for rack in graph.racks}
    actions = [
        SetFence(f"no rack {name} is in the inventory", name, ())
        for name in current
        if name not in racks
    ]
    fenced: dict[str, tuple[str, ...]] = {}
    for rack in graph.racks:
        before = current.get(rack.name, ())
        # A node is let go only after a calm while, or its fence would flicker.
        kept = {name for name in before if now - needed[name] < rules.give_back_after}
        # Slurm would refuse the whole fence for one node that it does not know.
        wanted = tuple(sorted({*plan.nodes.get(rack.name, ()), *kept} & known.keys()))
        if wanted:
            fenced[rack.name] = wanted
        if set(wanted) != set(before):
            why = plan.because.get(rack.name, f"rack {rack.name} is within its limits again")
            actions.append(SetFence(why, rack.name, wanted))
    return actions, fenced, replace(memory, fence_needed=needed)
