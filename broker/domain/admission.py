# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens to a job that asks for watts: a pure function of (request, state, now).

slurm_plugin/power_broker/admission.lua is the same in Lua and rules inside slurmctld; this one
answers `powermgr feasible` and settles the jobs found at install. One table of cases and random
input run through both (tests/unit/hook), so change them together.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal

from broker.domain.admission_state import AdmissionState, Lane, Layer, NodeType, ReservedPool
from broker.domain.envelope import BadEnvelope, Envelope, Figures, complete, parse_envelope

RESOURCE = "power"  #: the licence (HRES) that counts watts, per node
HOT, COLD = "hot", "cold"
MOST_LICENSES_BYTES = 1024  # Slurm refuses longer ones after the hook
SOON_S = 600  #: a pending reservation that starts within this time already takes its owner's jobs


class Verdict(StrEnum):
    """What happens to the job."""

    ACCEPT = "accept"
    REROUTE = "reroute"
    HOLD = "hold"
    REJECT = "reject"


class Reason(StrEnum):
    """Stable words for scripts, admin_comment and tests; messages may be reworded."""

    FITS = "Fits"
    WAITS = "Waits"
    EXCEEDS_SAFE_LIMIT = "ExceedsSafeLimit"
    TO_COLD = "ToCold"
    TO_RESERVATION = "ToReservation"
    BAD_ENVELOPE = "BadEnvelope"
    STATE_STALE = "StateStale"
    STATE_MISSING = "StateMissing"
    NOT_PERMITTED = "NotPermitted"
    NOT_SUPPORTED = "NotSupported"


Fits = Literal["now", "later", "never"]


@dataclass(frozen=True, slots=True)
class Request:
    """What Slurm tells of a job before it has an id; None is what the user left out."""

    comment: str | None = None
    user: str | None = None
    account: str | None = None
    partition: str | None = None
    reservation: str | None = None
    licenses: str | None = None
    min_nodes: int | None = None
    num_tasks: int | None = None
    ntasks_per_node: int | None = None
    cpus_per_task: int | None = None
    min_cpus: int | None = None
    tres_per_node: str | None = None
    tres_per_job: str | None = None
    tres_per_task: str | None = None
    cpus_per_node: int | None = None  #: of the partition, where the state does not tell
    time_limit_min: int | None = None
    batch: bool = True
    requeue: bool = True
    het: bool = False
    stay: bool = False  #: a job that already has its place: judged, not re-routed


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict with its numbers, and what to write into the job."""

    verdict: Verdict
    reason: Reason
    message: str  #: one sentence, without the ticket
    fits: Fits
    lane: str | None = None
    tier: str | None = None
    figures: Figures | None = None
    partition: str | None = None  #: to write, where the job is re-routed
    reservation: str | None = None  #: to write, where it goes into its owner's
    licenses: str | None = None  #: to write: other licences kept, tokens set
    fix_nodes: bool = False  #: the node count was worked out and must be written
    managed: bool = True  #: False: the partition carries no power, leave the job alone


class _Refused(Exception):
    def __init__(self, reason: Reason, because: str, fits: Fits = "never") -> None:
        self.reason, self.because, self.fits = reason, because, fits
        super().__init__(because)


@dataclass(frozen=True, slots=True)
class _Job:
    """The request with everything worked out that does not depend on what is free."""

    request: Request
    envelope: Envelope
    lane: Lane
    tier: str
    figures: Figures
    licenses: str
    fix_nodes: bool

    @property
    def can_be_requeued(self) -> bool:
        return self.request.batch and self.request.requeue

    @property
    def tokens_w(self) -> int:
        return self.figures.tokens_w_per_node

    @property
    def headroom_w(self) -> int:
        return self.envelope.headroom_w or 0


def decide_admission(request: Request, state: AdmissionState, now: int) -> Decision:
    """Judge a job by the last state the broker wrote; `now` in unix seconds."""
    age_s = abs(now - state.written_at)
    switches = state.switches
    try:
        job = _work_out(request, state)
        if job is None:
            return _unmanaged()
        if age_s > switches.missing_after_s:
            return _too_old(job, age_s, switches.missing_after_s, switches.when_missing)
        if age_s > switches.stale_after_s and switches.when_stale in ("hold", "reject"):
            return _too_old(job, age_s, switches.stale_after_s, switches.when_stale)
        decision = _place(job, state, now)
    except BadEnvelope as bad:
        return _rejected(_Refused(Reason.BAD_ENVELOPE, str(bad)))
    except _Refused as refused:
        return _rejected(refused)
    if age_s > switches.stale_after_s:
        note = f"{decision.message} (by figures {age_s} s old)"
        decision = replace(decision, reason=Reason.STATE_STALE, message=note)
    return decision


# --- what the job is ----------------------------------------------------------------------------


def _work_out(request: Request, state: AdmissionState) -> _Job | None:
    partitions = _partitions(request, state)
    lanes = [lane for lane in state.lanes if lane.partition in partitions]
    types = [each for each in state.node_types if set(each.partitions) & set(partitions)]
    if not lanes or not types:
        return None
    if request.het:
        raise _Refused(
            Reason.NOT_SUPPORTED,
            "heterogeneous jobs cannot be charged for power yet; submit the parts as jobs",
        )
    licenses = other_licenses(request.licenses)
    envelope = parse_envelope(request.comment)
    node_type = _widest(types)
    asked, worked_out = _node_count(request, node_type)
    figures = complete(envelope, asked, node_type, state.classes)
    lane = lanes[0]
    declared = envelope or Envelope()
    return _Job(
        request=request,
        envelope=declared,
        lane=lane,
        tier=declared.tier or lane.tier_default,
        figures=figures,
        licenses=with_tokens(licenses, figures.tokens_w_per_node),
        fix_nodes=worked_out,
    )


def _partitions(request: Request, state: AdmissionState) -> list[str]:
    if request.partition:
        return [each for each in request.partition.split(",") if each]
    hot = state.lane(HOT) or state.lanes[0]
    return [hot.partition]


def _widest(types: list[NodeType]) -> NodeType:
    """One node type that is never better than the real one: charged most, least idle taken off."""
    return NodeType(
        name=types[0].name,
        idle_w=min(each.idle_w for each in types),
        max_w=max(each.max_w for each in types),
        gpus=max(each.gpus for each in types),
        nodes=sum(each.nodes for each in types),
        cpus=max(each.cpus for each in types),
    )


def _node_count(request: Request, node_type: NodeType) -> tuple[int, bool]:
    """The fewest nodes the job may get, and whether that had to be worked out."""
    if request.min_nodes is not None:
        if request.min_nodes < 1:
            raise _Refused(
                Reason.NOT_SUPPORTED, "a job without nodes has no power; ask -N 1 or more"
            )
        return request.min_nodes, False
    needs = [1, *_nodes_for_tasks(request, node_type), *_nodes_for_gpus(request, node_type)]
    return max(needs), True


def _nodes_for_tasks(request: Request, node_type: NodeType) -> list[int]:
    needs = []
    if request.num_tasks and request.ntasks_per_node:
        needs.append(-(-request.num_tasks // request.ntasks_per_node))
    wanted = max(request.min_cpus or 0, (request.num_tasks or 0) * (request.cpus_per_task or 1))
    if wanted > 1:
        cpus = node_type.cpus or request.cpus_per_node or 0
        if cpus < 1:
            raise _cannot_tell("CPUs of a node are not known")
        needs.append(-(-wanted // cpus))
    return needs


def _nodes_for_gpus(request: Request, node_type: NodeType) -> list[int]:
    asked = gpu_count(request.tres_per_job)
    per_task = gpu_count(request.tres_per_task)
    gpu_count(request.tres_per_node)  # nothing to count, but it must be readable
    if per_task and not request.num_tasks:
        raise _cannot_tell("GPUs per task without a number of tasks")
    asked = max(asked, per_task * (request.num_tasks or 0))
    if not asked:
        return []
    if node_type.gpus < 1:
        raise _cannot_tell("GPUs of a node are not known")
    return [-(-asked // node_type.gpus)]


def gpu_count(tres: str | None) -> int:
    """GPUs in `gres/gpu:8`, `gres:gpu:h100:8`, `cpu=4,gres/gpu=2`; none is 0."""
    total = 0
    for item in (tres or "").split(","):
        match = re.fullmatch(r"(?:gres[:/])?gpu((?:[:=/].*)?)", item)
        if not match:
            continue
        count = re.fullmatch(r"(?:[:=/][A-Za-z][A-Za-z0-9_.-]*)?(?:[:=]([0-9]{1,6}))?", match[1])
        if not count:
            raise _cannot_tell("the GPU request is not understood")
        total += int(count[1] or "1")
    return total


def _cannot_tell(why: str) -> _Refused:
    return _Refused(
        Reason.NOT_SUPPORTED, f"the number of nodes cannot be worked out ({why}); give -N"
    )


def other_licenses(licenses: str | None) -> str:
    """The job's licences without any power tokens; raises for what cannot be combined with them."""
    text = licenses or ""
    if "|" in text:
        raise _Refused(
            Reason.NOT_SUPPORTED, "licences joined with | cannot be combined with power; name one"
        )
    items = (item.strip(" \t") for item in re.split("[,;]", text))
    return ",".join(item for item in items if item and not _is_token(item))


def _is_token(item: str) -> bool:
    return re.split(r"[:=@(]", item, maxsplit=1)[0].rstrip(" \t") == RESOURCE


def with_tokens(licenses: str, tokens_w_per_node: int) -> str:
    tokens = f"{RESOURCE}:{tokens_w_per_node}"
    joined = f"{licenses},{tokens}" if licenses else tokens
    if len(joined.encode("utf-8", "surrogateescape")) > MOST_LICENSES_BYTES:
        raise _Refused(Reason.NOT_SUPPORTED, "the licences are longer than 1,024 bytes; name fewer")
    return joined


# --- where it fits ------------------------------------------------------------------------------


def _place(job: _Job, state: AdmissionState, now: int) -> Decision:
    named = state.pool(job.request.reservation) if job.request.reservation else None
    if named:
        return _place_in_pool(job, named)
    own = _own_pool(job, state, now) if _may_move(job) else None
    if own:
        return _into_pool(job, own)
    _refuse_the_impossible(job, state)
    waits = _why_it_waits(job, state)
    if not waits:
        return _accepted(job, Reason.FITS, "now", f"accepted on {job.lane.name}", "fits now")
    cold = state.lane(COLD)
    if cold and _may_go_cold(job, cold, state):
        return _into_cold(job, cold, waits)
    return _accepted(job, Reason.WAITS, "later", f"accepted on {job.lane.name}", f"waits: {waits}")


def _place_in_pool(job: _Job, pool: ReservedPool) -> Decision:
    nodes, tokens_w = job.figures.nodes, job.figures.nodes * job.tokens_w
    if nodes > pool.node_count or tokens_w > pool.tokens_ever_w:
        raise _Refused(
            Reason.EXCEEDS_SAFE_LIMIT,
            f"{count(nodes)} at {watts(job.tokens_w)} of tokens each can never run in reservation"
            f" {pool.slurm}, which has {count(pool.node_count)} and {watts(pool.tokens_ever_w)}",
        )
    where = f"accepted in reservation {pool.slurm}"
    if pool.state == "active" and tokens_w <= pool.tokens_now_w:
        return _accepted(job, Reason.FITS, "now", where, "fits now")
    waits = (
        f"waits: {watts(tokens_w)} of tokens asked, {watts(max(0, pool.tokens_now_w))} free there"
    )
    if pool.state != "active":
        waits = f"waits: the reservation is {pool.state}"
    return _accepted(job, Reason.WAITS, "later", where, waits)


def _own_pool(job: _Job, state: AdmissionState, now: int) -> ReservedPool | None:
    """The first reservation of the job's owner that can take it: its watts are meant for that."""
    limit_min = job.request.time_limit_min
    for pool in state.reservations:
        soon = pool.state == "pending" and pool.start <= now + SOON_S
        owned = job.request.account in pool.accounts or job.request.user in pool.users
        if not owned or not (pool.state == "active" or soon):
            continue
        if limit_min is not None and max(now, pool.start) + 60 * limit_min > pool.end:
            continue
        if job.figures.nodes > pool.node_count:
            continue
        if job.figures.nodes * job.tokens_w <= pool.tokens_now_w:
            return pool
    return None


def _into_pool(job: _Job, pool: ReservedPool) -> Decision:
    when = "fits now" if pool.state == "active" else "starts with it"
    decision = _accepted(
        job, Reason.TO_RESERVATION, "now", f"put into your reservation {pool.slurm}", when
    )
    return replace(decision, verdict=Verdict.REROUTE, reservation=pool.slurm)


def _refuse_the_impossible(job: _Job, state: AdmissionState) -> None:
    nodes, tokens_w = job.figures.nodes, job.tokens_w
    there = sum(rack.nodes for rack in state.racks)
    if nodes > there:
        raise _Refused(
            Reason.EXCEEDS_SAFE_LIMIT, f"{count(nodes)} asked, {count(there)} are under power"
        )
    ever = _hosts(state, tokens_w, job.headroom_w, ever=True)
    if nodes > ever:
        beside = f" beside a headroom of {watts(job.headroom_w)} a rack" if job.headroom_w else ""
        raise _Refused(
            Reason.EXCEEDS_SAFE_LIMIT,
            f"{count(nodes)} at {watts(tokens_w)} of tokens each{beside} can never run at once:"
            f" the safe limits of racks, rows and site allow {count(ever)}",
        )


def _why_it_waits(job: _Job, state: AdmissionState) -> str:
    hosts = _hosts(state, job.tokens_w, job.headroom_w, ever=False)
    if job.figures.nodes > hosts:
        return f"power for {hosts} of {count(job.figures.nodes)} now"
    if job.figures.charge_w > job.lane.room_w:
        return f"lane {job.lane.name} has room for {kilowatts(max(0, job.lane.room_w))} now"
    return ""


def _hosts(state: AdmissionState, tokens_w: int, headroom_w: int, *, ever: bool) -> int:
    """How many nodes at these tokens all layers together can host.

    Layers are a tree and every node asks the same, so taking racks in any order finds the most.
    """
    upper = state.upper_layers()
    left = {layer.name: _tokens(layer, ever=ever) for layer in upper.values()}
    total = 0
    for rack in state.racks:
        free_w = _tokens(rack, ever=ever) - headroom_w
        most = min(rack.nodes if ever else rack.nodes_now, free_w // tokens_w)
        parents = [upper[name].name for name in rack.parents if name in upper]
        most = max(0, min([most, *(left[name] // tokens_w for name in parents)]))
        for name in parents:
            left[name] -= most * tokens_w
        total += most
    return total


def _tokens(layer: Layer, *, ever: bool) -> int:
    return layer.tokens_ever_w if ever else layer.tokens_now_w


def _may_move(job: _Job) -> bool:
    """Only a new job in hot that asked for no place of its own is re-routed."""
    return job.lane.name == HOT and not job.request.reservation and not job.request.stay


def _may_go_cold(job: _Job, cold: Lane, state: AdmissionState) -> bool:
    return (
        _may_move(job)
        and job.envelope.preempt is True
        and job.tier != "gold"  # gold is never preempted, and everything in cold may be
        and job.can_be_requeued
        and _partitions(job.request, state) == [job.lane.partition]
        and cold.room_w >= job.figures.charge_w
    )


def _into_cold(job: _Job, cold: Lane, waits: str) -> Decision:
    tier = job.envelope.tier or cold.tier_default
    moved = replace(job, lane=cold, tier=tier)
    ending = f"in hot it would wait: {waits}"
    decision = _accepted(moved, Reason.TO_COLD, "later", "re-routed to cold", ending)
    return replace(decision, verdict=Verdict.REROUTE, partition=cold.partition)


# --- sentences ----------------------------------------------------------------------------------


def _accepted(job: _Job, reason: Reason, fits: Fits, what: str, ending: str) -> Decision:
    return _decision(job, Verdict.ACCEPT, reason, fits, f"job {what}: {_charged(job)}, {ending}")


def _too_old(job: _Job, age_s: int, limit_s: int, wish: str) -> Decision:
    old = f"the power state is {age_s} s old (limit {limit_s} s)"
    if wish == "reject":
        raise _Refused(Reason.STATE_MISSING, f"{old}; try again later", "later")
    if wish == "accept":
        ending = f"not checked: {old}"
        return _accepted(job, Reason.STATE_MISSING, "later", "accepted", ending)
    message = f"job accepted but held: {old}; {_charged(job)}, the broker releases it"
    return _decision(job, Verdict.HOLD, Reason.STATE_MISSING, "later", message)


def _decision(job: _Job, verdict: Verdict, reason: Reason, fits: Fits, message: str) -> Decision:
    return Decision(
        verdict=verdict,
        reason=reason,
        message=f"power: {message}",
        fits=fits,
        lane=job.lane.name,
        tier=job.tier,
        figures=job.figures,
        licenses=job.licenses,
        fix_nodes=job.fix_nodes,
    )


def _charged(job: _Job) -> str:
    figures = job.figures
    return (
        f"charged {kilowatts(figures.charge_w)} on {count(figures.nodes)}"
        f" ({watts(figures.tokens_w_per_node)} tokens a node)"
    )


def _rejected(refused: _Refused) -> Decision:
    message = f"power: job rejected: {refused.because}"
    return Decision(Verdict.REJECT, refused.reason, message, refused.fits)


def _unmanaged() -> Decision:
    return Decision(
        Verdict.ACCEPT, Reason.FITS, "power: this partition has no lane", "now", managed=False
    )


def count(nodes: int) -> str:
    return "1 node" if nodes == 1 else f"{nodes} nodes"


def watts(power_w: int) -> str:
    return f"{power_w:,} W"


def kilowatts(power_w: int) -> str:
    """Two decimals of a kW, rounded half up in whole numbers: Lua prints the same."""
    hundredths = (power_w + 5) // 10
    return f"{hundredths // 100}.{hundredths % 100:02d} kW"
