# SPDX-License-Identifier: GPL-2.0-or-later
"""Decide what one cycle does. Pure: the same observation and memory give the same plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broker.domain.actions import Action
from broker.domain.draw import assess_draw
from broker.domain.load import assess_loads
from broker.domain.power_graph import PowerGraph
from broker.domain.rules import Rules
from broker.domain.switches import Mode
from broker.domain.tokens import Pool
from broker.services.give_way import plan_ways
from broker.services.observed import Memory, Observed, Plan, free_nodes
from broker.services.plan_fences import plan_fences
from broker.services.plan_ladder import plan_give_back, plan_steps
from broker.services.plan_tokens import as_slurm_knows, promised
from broker.services.plan_upkeep import only_ledger, plan_charges, plan_reservations, stand_down
from broker.services.remember import lately_held, remember, silent_nodes


def plan_cycle(
    graph: PowerGraph,
    observed: Observed,
    memory: Memory,
    rules: Rules,
    pools: Sequence[Pool],
) -> Plan:
    """Everything but the token layers, which are kept first (plan_tokens)."""
    silent = silent_nodes(graph, observed, memory, rules)
    draws = assess_draw(graph, observed.telemetry, now=observed.now, rules=rules)
    memory = replace(memory, lately=lately_held(graph, observed, memory, rules))
    loads = assess_loads(
        graph,
        observed.view,
        draws,
        [promised(pool, observed) for pool in pools],
        silent,
        now=observed.now,
        rules=rules,
        lately={name: tokens_w for name, (tokens_w, _) in memory.lately.items()},
    )
    memory = remember(graph, observed, memory, loads, rules)
    pools = as_slurm_knows(pools, observed)
    if observed.mode is Mode.OFF:
        return Plan(tuple(stand_down(observed)), loads, pools, {}, (), memory)

    before = memory.under_way
    fences, fenced, memory = plan_fences(graph, observed, memory, rules, loads, pools)
    ladder, notes, memory = plan_steps(graph, observed, memory, rules, loads)
    ways, helped = plan_ways(
        graph,
        observed.view,
        loads,
        memory.helped,
        free=free_nodes(graph, observed.view, pools),
        fenced=fenced,
        now=observed.now,
        rules=rules,
    )
    memory = replace(memory, helped=helped)
    actions: list[Action] = [
        *fences,
        *ladder,
        *ways,
        *plan_give_back(observed, memory, rules, loads),
        *plan_charges(graph, observed, rules),
        *plan_reservations(observed, rules, pools),
    ]
    if observed.mode is Mode.OBSERVE:
        # What was ours while enforcing must not outlive it.
        return Plan(
            (*stand_down(observed), *only_ledger(actions)),
            loads,
            pools,
            {},
            (*(f"would {_told(action)}" for action in (*fences, *ladder, *ways)), *notes),
            # Nothing was done, so nothing is under way.
            replace(memory, under_way=before),
        )
    return Plan(tuple(actions), loads, pools, fenced, notes, memory)


def _told(action: Action) -> str:
    return f"{action.kind} {action.target} ({action.because})"
