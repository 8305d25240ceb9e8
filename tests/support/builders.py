# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests of decisions are made of. Defaults are sensible: a case names only what matters.

The graph is a small lab: rows a (r1, r2) and b (r3, r4), four nodes a rack, n01 to n16,
1,000 W idle, 10,200 W at most; safe limits 32, 58 and 108 kW.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.domain.cluster import (
    JobState,
    Quality,
    Reading,
    SlurmJob,
    SlurmNode,
    SlurmReservation,
    SlurmView,
    Telemetry,
)
from broker.domain.draw import LayerDraw
from broker.domain.load import LayerLoad
from broker.domain.power_graph import Layer, LayerKind, Node, NodeType, PowerGraph
from broker.domain.reservation import PowerReservation
from broker.domain.rules import Lane, Rules
from broker.domain.switches import Mode
from broker.services.observed import Observed

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
A_SECOND = timedelta(seconds=1)
A_MINUTE = timedelta(minutes=1)
POLL = timedelta(seconds=2)

RULES = Rules(hot=Lane("hot", "hot"), cold=Lane("cold", "cold"))


def a_graph(
    *,
    rows: Mapping[str, Mapping[str, int]] | None = None,
    idle_w: int = 1_000,
    max_w: int = 10_200,
    rack_w: int = 32_000,
    row_w: int = 58_000,
    site_w: int = 108_000,
    static_w: int = 0,
    max_w_of: Mapping[str, int] | None = None,
    feeds: str = "AB",
) -> PowerGraph:
    """``rows`` gives the racks of each row with their number of nodes."""
    rows = rows or {"a": {"r1": 4, "r2": 4}, "b": {"r3": 4, "r4": 4}}
    numbers = iter(range(1, 100_000))
    nodes: dict[str, Node] = {}
    racks: list[Layer] = []
    row_layers: list[Layer] = []
    for row, its_racks in rows.items():
        names: list[str] = []
        for rack, count in its_racks.items():
            here = [f"n{next(numbers):02d}" for _ in range(count)]
            for name in here:
                most_w = (max_w_of or {}).get(name, max_w)
                nodes[name] = Node(
                    name, rack, NodeType(f"t{most_w}", idle_w, most_w, 8), f"{name}.bmc"
                )
            pdus = tuple(f"{rack}.{feed}" for feed in feeds)
            racks.append(
                Layer(
                    rack, LayerKind.RACK, row, rack_w, rack_w * 5 // 4, static_w, tuple(here), pdus
                )
            )
            names += here
        below_w = static_w * len(its_racks)
        row_layers.append(
            Layer(row, LayerKind.ROW, "lab", row_w, row_w * 5 // 4, below_w, tuple(names))
        )
    below_w = static_w * len(racks)
    site = Layer("lab", LayerKind.SITE, None, site_w, site_w * 5 // 4, below_w, tuple(nodes))
    return PowerGraph({each.name: each for each in [*racks, *row_layers, site]}, nodes)


GRAPH = a_graph()


def a_job(
    job_id: int = 1,
    nodes: str = "n01",
    *,
    tokens_w: int | None = 9_200,
    tier: str = "bronze",
    state: JobState = JobState.RUNNING,
    partition: str = "hot",
    age: timedelta = timedelta(hours=1),
    marks: Mapping[str, Any] | None = None,
    **others: Any,
) -> SlurmJob:
    """A job on ``nodes`` (joined by commas), tokens in W per node; None: it carries none."""
    names = tuple(name for name in nodes.split(",") if name)
    running = state is not JobState.PENDING
    admitted = {"v": 1, "ticket": f"T{job_id}", "tier": tier, "reason": "Fits", **(marks or {})}
    values: dict[str, Any] = {
        "user": "alice",
        "account": "ml",
        "slurm_state": str(state),
        "reason": "" if running else "Resources",
        "node_count": max(1, len(names)),
        "licenses": "" if tokens_w is None else f"power:{tokens_w}",
        "admin_comment": json.dumps(admitted),
        "priority": 1_000,
        "started_at": NOON - age if running else None,
    }
    values.update(others)
    return SlurmJob(
        job_id=job_id,
        partition=partition,
        state=state,
        nodes=names if running else (),
        **values,
    )


def a_pending_job(job_id: int = 1, **others: Any) -> SlurmJob:
    return a_job(job_id, others.pop("nodes", ""), state=JobState.PENDING, **others)


def a_shed_job(job_id: int = 1, *, ago: timedelta = A_MINUTE, **others: Any) -> SlurmJob:
    """A job that the broker requeued and holds."""
    marks = {"held": True, "shed_at": (NOON - ago).isoformat(), "shed_w": 9_000, "shed_from": "r1"}
    return a_pending_job(job_id, marks=marks, priority=0, reason="JobHeldAdmin", **others)


def a_view(
    jobs: Iterable[SlurmJob] = (),
    *,
    graph: PowerGraph = GRAPH,
    states: Mapping[str, str] | None = None,
    fences: Mapping[str, str] | None = None,
    reservations: Mapping[str, str] | None = None,
    unknown: str = "",
    extra_nodes: str = "",
    now: datetime = NOON,
) -> SlurmView:
    """``fences`` gives fenced nodes by rack, ``reservations`` nodes by Slurm's name."""
    jobs = list(jobs)
    busy = {name for job in jobs if job.state.holds_nodes for name in job.nodes}
    names = [n for n in graph.nodes if n not in unknown.split(",")] + extra_nodes.split(",")
    blocks = {**{f"pw-fence-{rack}": n for rack, n in (fences or {}).items()}}
    blocks.update(reservations or {})
    return SlurmView(
        seen_at=now,
        nodes={
            name: SlurmNode(name, (states or {}).get(name, "ALLOCATED" if name in busy else "IDLE"))
            for name in names
            if name
        },
        jobs={job.job_id: job for job in jobs},
        reservations={
            name: SlurmReservation(
                name,
                tuple(each for each in nodes.split(",") if each),
                now,
                now + timedelta(days=3650),
            )
            for name, nodes in blocks.items()
        },
    )


def a_reading(
    device: str,
    power_w: int | None,
    *,
    age: timedelta = A_SECOND,
    quality: str = "good",
    now: datetime = NOON,
) -> Reading:
    return Reading(device, now - age, power_w, Quality(quality))


def telemetry(
    graph: PowerGraph = GRAPH,
    draws_w: Mapping[str, int] | None = None,
    *,
    before_w: Mapping[str, int] | None = None,
    now: datetime = NOON,
    skew: float = 0.5,
    bmc_w: Mapping[str, int] | None = None,
    replaced: Mapping[str, Iterable[Reading]] | None = None,
) -> Telemetry:
    """All meters answer: ``draws_w`` by rack (default: idle), in two polls, half on each feed.

    ``skew`` is the share of feed A; ``replaced`` says word for word what a device showed.
    """
    found: dict[str, tuple[Reading, ...]] = {}
    for rack in graph.racks:
        idle_w = rack.static_w + graph.idle_w(rack)
        now_w = (draws_w or {}).get(rack.name, idle_w)
        then_w = (before_w or {}).get(rack.name, now_w)
        shares = [skew, *[(1 - skew) / max(1, len(rack.pdus) - 1)] * (len(rack.pdus) - 1)]
        for pdu, share in zip(rack.pdus, shares, strict=False):
            found[pdu] = (
                a_reading(pdu, round(then_w * share), age=A_SECOND + POLL, now=now),
                a_reading(pdu, round(now_w * share), now=now),
            )
    for name, node in graph.nodes.items():
        power_w = (bmc_w or {}).get(name, node.type.idle_w)
        found[node.bmc] = (a_reading(node.bmc, power_w, now=now),)
    for device, readings in (replaced or {}).items():
        found[device] = tuple(readings)
    return Telemetry(found)


def a_reservation(name: str = "launch", **others: Any) -> PowerReservation:
    """20 kW of rack r2 on n05 and n06 for account ml, since a minute, for half an hour."""
    values: dict[str, Any] = {
        "rack": "r2",
        "nodes": ("n05", "n06"),
        "power_w": 20_000,
        "tokens_w": 18_000,
        "starts_at": NOON - A_MINUTE,
        "ends_at": NOON + 30 * A_MINUTE,
        "accounts": ("ml",),
    }
    values.update(others)
    return PowerReservation(name, **values)


def observed(
    jobs: Iterable[SlurmJob] = (),
    *,
    graph: PowerGraph = GRAPH,
    mode: Mode = Mode.ENFORCE,
    view: SlurmView | None = None,
    meters: Telemetry | None = None,
    reservations: Iterable[PowerReservation] = (),
    tokens_enforced: bool = True,
    now: datetime = NOON,
) -> Observed:
    """One look at everything; nothing is wrong unless the case says so."""
    return Observed(
        now=now,
        mode=mode,
        view=view or a_view(jobs, graph=graph, now=now),
        telemetry=meters or telemetry(graph, now=now),
        reservations=tuple(reservations),
        tokens_enforced=tokens_enforced,
    )


def a_draw(seen_w: int = 0, **others: Any) -> LayerDraw:
    """Seen and confirmed by the poll before."""
    values: dict[str, Any] = {
        "feared_w": seen_w,
        "previous_w": seen_w,
        "feeds_agree": False,
        "lost": (),
        "oldest_at": NOON,
    }
    values.update(others)
    return LayerDraw(seen_w, **values)


def a_load(
    layer: Layer,
    *,
    graph: PowerGraph = GRAPH,
    tokens_used_w: int = 0,
    reserved_w: int = 0,
    starting_w: int = 0,
    draw: LayerDraw | None = None,
) -> LayerLoad:
    committed_w = layer.static_w + graph.idle_w(layer) + tokens_used_w
    return LayerLoad(
        layer=layer,
        tokens_used_w=tokens_used_w,
        committed_w=committed_w,
        starting_w=starting_w,
        reserved_w=reserved_w,
        draw=draw or a_draw(committed_w),
        tolerance_w=layer.safe_w // 50,
    )
