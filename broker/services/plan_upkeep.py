# SPDX-License-Identifier: GPL-2.0-or-later
"""Charges of jobs that have none, the life of reservations, and standing down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from broker.domain.actions import (
    Action,
    ChargeJob,
    DropReservation,
    GiveBack,
    KeepReservation,
    MoveReservation,
    SetFence,
    StripTokens,
)
from broker.domain.cluster import JobState, SlurmJob
from broker.domain.marks import held_blind, shed_by_us, unmarked
from broker.domain.power_graph import PowerGraph
from broker.domain.reservation import PowerReservation, next_state
from broker.domain.rules import Rules
from broker.domain.settle import charge_of
from broker.domain.tokens import Pool
from broker.services.observed import FENCE_PREFIX, OURS_PREFIX, Observed, fences_in

# The ledger need not learn each second that a reservation is in use.
_USE_NOTED_EVERY = timedelta(minutes=1)
_CAN_BE_CHANGED = frozenset({JobState.PENDING, JobState.RUNNING, JobState.SUSPENDED})


def plan_charges(graph: PowerGraph, observed: Observed, rules: Rules) -> list[Action]:
    """Jobs in a lane that carry no tokens: found at install, or accepted while blind."""
    if not observed.tokens_enforced:
        # Slurm does not know the licence before it has read the layers, and would refuse.
        return []
    actions: list[Action] = []
    for job in observed.view.jobs.values():
        if job.state not in {JobState.PENDING, JobState.RUNNING}:
            continue
        if rules.carries_power(job.partition) and job.tokens_w_per_node is None:
            charge = charge_of(job, graph, rules)
            because = f"job {job.job_id} has no power tokens: {charge.because}"
            actions.append(
                ChargeJob(because, job.job_id, charge.tokens_w_per_node, charge.admin_comment)
            )
        elif _changed_by_owner(job):
            charge = charge_of(job, graph, rules)
            if charge.tokens_w_per_node == job.tokens_w_per_node:
                because = f"job {job.job_id} was changed: {charge.because}"
                actions.append(
                    ChargeJob(because, job.job_id, charge.tokens_w_per_node, charge.admin_comment)
                )
        elif held_blind(job):
            because = f"job {job.job_id} was held while the broker's state was missing"
            actions.append(GiveBack(because, job.job_id, _seen_at_last(job)))
    return actions


def _changed_by_owner(job: SlurmJob) -> bool:
    """Do its tokens tell of another envelope than its admin_comment?

    The modify hook rewrites the tokens of a pending job; the comment it may not, for Slurm would
    refuse the owner's whole update ("Access denied").
    """
    told = job.admitted.get("tokens_w_per_node")
    return job.state is JobState.PENDING and told is not None and told != job.tokens_w_per_node


def _seen_at_last(job: SlurmJob) -> str:
    return json.dumps({**job.admitted, "reason": "Waits"}, separators=(",", ":"))


def plan_reservations(observed: Observed, rules: Rules, pools: Sequence[Pool]) -> list[Action]:
    complete = {pool.reservation.name for pool in pools if pool.complete}
    in_use = {job.reservation for job in observed.view.jobs.values() if job.state.holds_nodes}
    actions: list[Action] = []
    for each in observed.reservations:
        noted = each
        if each.slurm_name in in_use:
            each = replace(each, used_at=observed.now)
        state, reason = next_state(
            each,
            watts_free=each.name in complete,
            now=observed.now,
            grace=rules.reservation_grace,
        )
        if (state, reason) != (each.state, each.reason) or _use_is_news(noted, each, rules):
            actions.append(MoveReservation(reason, each.name, state, each.used_at))
        found = observed.view.reservations.get(each.slurm_name)
        if found is not None and not state.open:
            actions.append(DropReservation(reason, each.slurm_name))
        elif found is not None and set(found.nodes) != set(each.nodes):
            actions.append(DropReservation("its nodes were changed in Slurm", each.slurm_name))
            found = None
        if found is None and state.open:
            actions.append(KeepReservation("it is in the ledger", replace(each, state=state)))
    known = {each.slurm_name for each in observed.reservations}
    actions += [
        DropReservation("it is not open in the ledger", name)
        for name in observed.view.reservations
        if name.startswith(OURS_PREFIX) and not name.startswith(FENCE_PREFIX)
        if name not in known
    ]
    return actions


def _use_is_news(noted: PowerReservation, now: PowerReservation, rules: Rules) -> bool:
    if now.used_at is None or noted.used_at is None:
        return now.used_at != noted.used_at
    return now.used_at - noted.used_at >= min(_USE_NOTED_EVERY, rules.reservation_grace / 4)


def stand_down(observed: Observed) -> list[Action]:
    """Take back what is ours in Slurm: tokens first, or pending jobs would wait for ever."""
    because = f"mode is {observed.mode}"
    jobs = [j for j in observed.view.jobs.values() if j.state in _CAN_BE_CHANGED]
    return [
        *(StripTokens(because, job.job_id) for job in jobs if job.tokens_w_per_node is not None),
        *(GiveBack(because, job.job_id, unmarked(job)) for job in jobs if shed_by_us(job)),
        *(GiveBack(because, job.job_id, _seen_at_last(job)) for job in jobs if held_blind(job)),
        *(SetFence(because, rack, ()) for rack in fences_in(observed.view)),
        *(
            DropReservation(because, name)
            for name in observed.view.reservations
            if name.startswith(OURS_PREFIX) and not name.startswith(FENCE_PREFIX)
        ),
    ]


def only_ledger(actions: Sequence[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, MoveReservation)]
