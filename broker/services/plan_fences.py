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
    current = fences_in(observed.view)
    plan = plan_fence(
        graph,
        loads,
        free_nodes=free_nodes(graph, observed.view, pools),
        fenced={name for names in current.values() for name in names},
        tokens_enforced=observed.tokens_enforced,
    )
    # A fence that nobody remembers (the broker was restarted) counts as needed until now.
    found = {rack: observed.now for rack in current if rack not in memory.fence_needed}
    needed = {**memory.fence_needed, **found, **dict.fromkeys(plan.nodes, observed.now)}
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
        # Slurm would refuse the whole fence for one node that it does not know.
        wanted = tuple(name for name in plan.nodes.get(rack.name, ()) if name in known)
        calm_for = observed.now - needed.get(rack.name, observed.now - rules.give_back_after)
        if set(wanted) < set(before) and calm_for < rules.give_back_after:
            # A fence is taken away only after a calm while, or it would flicker.
            wanted = tuple(sorted(name for name in {*wanted, *before} if name in known))
        if wanted:
            fenced[rack.name] = wanted
        if set(wanted) != set(before):
            why = plan.because.get(rack.name, f"rack {rack.name} is within its limits again")
            actions.append(SetFence(why, rack.name, wanted))
    return actions, fenced, replace(memory, fence_needed=needed)
