# SPDX-License-Identifier: GPL-2.0-or-later
"""Decide what one cycle does. Pure: the same observation and memory give the same plan."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from broker.domain.actions import (
    Action,
    ChargeJob,
    DropReservation,
    GiveBack,
    KeepReservation,
    KeepTokenLayers,
    MoveReservation,
    NotifyJob,
    SetFence,
    ShedJob,
    StripTokens,
)
from broker.domain.cluster import JobState, SlurmJob, SlurmView, Telemetry
from broker.domain.draw import assess_draw, node_draw_w
from broker.domain.fence import plan_fence
from broker.domain.ladder import Shed, plan_ladder
from broker.domain.load import LayerLoad, assess_loads, tokens_by_node
from broker.domain.marks import instant, marked, notice_until, shed_by_us, stamp, unmarked
from broker.domain.power_graph import PowerGraph
from broker.domain.reservation import PowerReservation, next_state
from broker.domain.rules import Rules
from broker.domain.settle import charge_of
from broker.domain.switches import Mode
from broker.domain.tokens import Pool, compile_layers, grant_pools
from broker.domain.units import watts
from broker.services.give_way import plan_ways, still_makes_way

FENCE_PREFIX = "pw-fence-"
OURS_PREFIX = "pw-"
# A node that is down counts as dark when its BMC shows hardly more than idle.
_DARK_ABOVE_IDLE = 1.25
# The ledger need not learn each second that a reservation is in use.
_USE_NOTED_EVERY = timedelta(minutes=1)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Observed:
    """One look at everything."""

    now: datetime
    mode: Mode
    view: SlurmView
    telemetry: Telemetry
    reservations: tuple[PowerReservation, ...]  #: open ones
    tokens_enforced: bool  #: has slurmctld read our layers?
    #: what they say, watts by layer; None: just what is planned
    compiled: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What one cycle tells the next. All of it can be lost: Slurm and the ledger keep the rest."""

    last_charge: Mapping[str, int] = field(default_factory=dict)  #: tokens by node, last seen
    #: Most tokens by node, and when it held so many last: meters show it for some time.
    lately: Mapping[str, tuple[int, datetime]] = field(default_factory=dict)
    last_over: Mapping[str, datetime] = field(default_factory=dict)  #: by layer
    fence_needed: Mapping[str, datetime] = field(default_factory=dict)  #: by rack, last time
    under_way: tuple[Shed, ...] = ()
    helped: Mapping[int, datetime] = field(default_factory=dict)  #: hot jobs others made way for


@dataclass(frozen=True, slots=True)
class Plan:
    """Actions in the order they are to be done, and what the cycle knows now."""

    actions: tuple[Action, ...]
    loads: Mapping[str, LayerLoad]
    pools: tuple[Pool, ...]
    fenced: Mapping[str, tuple[str, ...]]  #: by rack, once the plan is applied
    notes: tuple[str, ...]  #: what no action can help
    memory: Memory


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


def plan_cycle(
    graph: PowerGraph,
    observed: Observed,
    memory: Memory,
    rules: Rules,
    pools: Sequence[Pool],
) -> Plan:
    """Everything but the token layers, which are kept first (plan_tokens)."""
    silent = _silent_nodes(graph, observed, memory, rules)
    draws = assess_draw(graph, observed.telemetry, now=observed.now, rules=rules)
    memory = replace(memory, lately=_lately(graph, observed, memory, rules))
    loads = assess_loads(
        graph,
        observed.view,
        draws,
        [_promised(pool, observed) for pool in pools],
        silent,
        now=observed.now,
        rules=rules,
        lately={name: tokens_w for name, (tokens_w, _) in memory.lately.items()},
    )
    memory = _remember(graph, observed, memory, loads, rules)
    if observed.mode is Mode.OFF:
        return Plan(tuple(_stand_down(observed)), loads, tuple(pools), {}, (), memory)

    before = memory.under_way
    fences, fenced, memory = _plan_fences(graph, observed, memory, rules, loads, pools)
    ladder, notes, memory = _plan_ladder(graph, observed, memory, rules, loads)
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
        *_plan_give_back(observed, memory, rules, loads),
        *_plan_charges(graph, observed, rules),
        *_plan_reservations(observed, rules, pools),
    ]
    if observed.mode is Mode.OBSERVE:
        # What was ours while enforcing must not outlive it.
        return Plan(
            (*_stand_down(observed), *_only_ledger(actions)),
            loads,
            tuple(pools),
            {},
            (*(f"would {_told(action)}" for action in (*fences, *ladder, *ways)), *notes),
            # Nothing was done, so nothing is under way.
            replace(memory, under_way=before),
        )
    return Plan(tuple(actions), loads, tuple(pools), fenced, notes, memory)


def _is_compiled(pool: Pool, observed: Observed) -> bool:
    """Has slurmctld read what the pool was granted?"""
    if observed.compiled is None:
        return True
    return observed.compiled.get(pool.reservation.slurm_name, -1) >= pool.granted_w


def _promised(pool: Pool, observed: Observed) -> PowerReservation:
    """A reservation with the watts that can really come of it: Slurm hands out no more."""
    compiled_w = (observed.compiled or {}).get(pool.reservation.slurm_name, 0)
    return replace(pool.reservation, tokens_w=max(pool.granted_w, compiled_w))


def _silent_nodes(
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


def _lately(
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


def _remember(
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


# -- fences ---------------------------------------------------------------------------------------


def _plan_fences(
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


def fences_in(view: SlurmView) -> Mapping[str, tuple[str, ...]]:
    """Fenced nodes by rack, as Slurm has them."""
    return {
        name.removeprefix(FENCE_PREFIX): each.nodes
        for name, each in view.reservations.items()
        if name.startswith(FENCE_PREFIX)
    }


def free_nodes(graph: PowerGraph, view: SlurmView, pools: Sequence[Pool]) -> frozenset[str]:
    """Nodes that hold no job and belong to no reservation; down ones may return at any time.

    A node that Slurm does not know can start nothing.
    """
    taken = {name for job in view.jobs.values() if job.state.holds_nodes for name in job.nodes}
    taken |= {name for pool in pools for name in pool.reservation.nodes}
    return (frozenset(graph.nodes) & frozenset(view.nodes)) - taken


# -- the ladder -----------------------------------------------------------------------------------


def _plan_ladder(
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


def _relief_by_node(graph: PowerGraph, observed: Observed, rules: Rules) -> Mapping[str, int]:
    """What each node draws above idle: by its BMC, else what its job was charged."""
    charged = tokens_by_node(graph, list(observed.view.jobs.values()), {})
    relief = {}
    for name, tokens_w in charged.items():
        node = graph.nodes[name]
        draw_w = node_draw_w(observed.telemetry, node.bmc, now=observed.now, rules=rules)
        relief[name] = tokens_w if draw_w is None else max(0, draw_w - node.type.idle_w)
    return relief


def _plan_give_back(
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
        if shed_by_us(job)
        # One without tokens is charged first, or it would start for nothing.
        if job.tokens_w_per_node is not None or not rules.carries_power(job.partition)
        # The mark remembers for a broker that was restarted and does not.
        if not timedelta(0)
        <= observed.now - (instant(job.admitted.get("shed_at")) or _LONG_AGO)
        < rules.give_back_after
        if not still_makes_way(observed.view, job, now=observed.now)
    ]


# -- charges, reservations, standing down ---------------------------------------------------------


def _plan_charges(graph: PowerGraph, observed: Observed, rules: Rules) -> list[Action]:
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
        elif _held_blind(job):
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


def _held_blind(job: SlurmJob) -> bool:
    """Was it held by a hook that had no state to judge by?"""
    return job.held and job.admitted.get("reason") in {"StateMissing", "StateStale"}


def _seen_at_last(job: SlurmJob) -> str:
    return json.dumps({**job.admitted, "reason": "Waits"}, separators=(",", ":"))


def _plan_reservations(observed: Observed, rules: Rules, pools: Sequence[Pool]) -> list[Action]:
    complete = {
        pool.reservation.name for pool in pools if pool.complete and _is_compiled(pool, observed)
    }
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


def _stand_down(observed: Observed) -> list[Action]:
    """Take back what is ours in Slurm: tokens first, or pending jobs would wait for ever."""
    because = f"mode is {observed.mode}"
    jobs = [j for j in observed.view.jobs.values() if j.state in _CAN_BE_CHANGED]
    return [
        *(StripTokens(because, job.job_id) for job in jobs if job.tokens_w_per_node is not None),
        *(GiveBack(because, job.job_id, unmarked(job)) for job in jobs if shed_by_us(job)),
        *(GiveBack(because, job.job_id, _seen_at_last(job)) for job in jobs if _held_blind(job)),
        *(SetFence(because, rack, ()) for rack in fences_in(observed.view)),
        *(
            DropReservation(because, name)
            for name in observed.view.reservations
            if name.startswith(OURS_PREFIX) and not name.startswith(FENCE_PREFIX)
        ),
    ]


_CAN_BE_CHANGED = frozenset({JobState.PENDING, JobState.RUNNING, JobState.SUSPENDED})


def _only_ledger(actions: Sequence[Action]) -> list[Action]:
    return [action for action in actions if isinstance(action, MoveReservation)]


def _told(action: Action) -> str:
    return f"{action.kind} {action.target} ({action.because})"
