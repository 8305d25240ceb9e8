# SPDX-License-Identifier: GPL-2.0-or-later
"""Which token layers Slurm should enforce now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from broker.domain.actions import KeepTokenLayers
from broker.domain.load import tokens_by_node
from broker.domain.power_graph import PowerGraph
from broker.domain.reservation import PowerReservation
from broker.domain.rules import Rules
from broker.domain.switches import Mode
from broker.domain.tokens import Pool, compile_layers, grant_pools
from broker.domain.units import watts
from broker.services.observed import Observed


def in_force(observed: Observed, rules: Rules) -> tuple[PowerReservation, ...]:
    """Reservations whose watts are kept from outsiders now: from a lead before their window.

    Of two on the same node, one after the other, the later one waits for the end of the earlier.
    """
    kept: list[PowerReservation] = []
    taken: set[str] = set()
    for each in sorted(observed.reservations, key=lambda found: (found.starts_at, found.name)):
        due = each.starts_at - rules.reservation_lead <= observed.now < each.ends_at
        if each.nodes and due and not taken & set(each.nodes):
            kept.append(each)
            taken |= set(each.nodes)
    return tuple(kept)


def plan_tokens(
    graph: PowerGraph, observed: Observed, rules: Rules
) -> tuple[KeepTokenLayers, tuple[Pool, ...]]:
    """The token layers that Slurm should enforce now."""
    if observed.mode is not Mode.ENFORCE:
        return KeepTokenLayers(f"mode is {observed.mode}", ()), ()
    tokens = tokens_by_node(graph, list(observed.view.jobs.values()), {})
    pools = grant_pools(graph, in_force(observed, rules), tokens, kept=observed.compiled)
    names = ", ".join(
        f"{pool.reservation.name} {watts(pool.granted_w)} of {watts(pool.reservation.tokens_w)}"
        for pool in pools
    )
    because = f"reservations in force: {names}" if pools else "the inventory's layers"
    # slurmctld would refuse the whole file for one node that it does not know.
    layers = compile_layers(graph, pools, observed.view.nodes, tokens)
    return KeepTokenLayers(because, layers), pools


def as_slurm_knows(pools: Sequence[Pool], observed: Observed) -> tuple[Pool, ...]:
    """The pools with the watts that slurmctld has read: before that their jobs cannot start."""
    compiled = observed.compiled
    if compiled is None:
        return tuple(pools)
    return tuple(
        replace(pool, granted_w=min(pool.granted_w, compiled.get(pool.reservation.slurm_name, 0)))
        for pool in pools
    )


def promised(pool: Pool, observed: Observed) -> PowerReservation:
    """A reservation with the watts that can really come of it: Slurm hands out no more."""
    compiled_w = (observed.compiled or {}).get(pool.reservation.slurm_name, 0)
    return replace(pool.reservation, tokens_w=max(pool.granted_w, compiled_w))
