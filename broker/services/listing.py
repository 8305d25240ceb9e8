# SPDX-License-Identifier: GPL-2.0-or-later
"""Rows for `powermgr show`: what the last cycle knew, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from broker.domain.cluster import JobState, SlurmJob
from broker.domain.draw import node_draw_w
from broker.domain.load import LayerLoad
from broker.domain.power_graph import LayerKind
from broker.domain.reservation import PowerReservation
from broker.services.cycle import Picture
from broker.services.ports import ActionRecord, Verdict
from broker.services.publish import Site, charge_w

Row = Mapping[str, Any]


def layer_rows(site: Site, picture: Picture, kind: LayerKind, now: datetime) -> list[Row]:
    """Racks, rows or the site."""
    return [
        _layer_row(load, now) for load in picture.plan.loads.values() if load.layer.kind is kind
    ]


def _layer_row(load: LayerLoad, now: datetime) -> Row:
    oldest = load.draw.oldest_at
    return {
        "name": load.layer.name,
        "row": load.layer.parent if load.layer.kind is LayerKind.RACK else None,
        "safe_w": load.layer.safe_w,
        "burst_w": load.layer.burst_w,
        "committed_w": load.committed_w,
        # Half of a rack's draw would look like a healthy rack: unseen is unseen.
        "draw_w": None if load.draw.lost else load.draw.seen_w,
        "reserved_w": load.reserved_w,
        "headroom_w": load.headroom_w,
        "state": load.state,
        "age_s": _age_s(oldest, now),
    }


def node_rows(site: Site, picture: Picture, now: datetime) -> list[Row]:
    """Nodes with their job, charge and draw."""
    observed = picture.observed
    holders = {
        name: job
        for job in observed.view.jobs.values()
        if job.state.holds_nodes
        for name in job.nodes
    }
    fenced = {name for names in picture.plan.fenced.values() for name in names}
    rows: list[Row] = []
    for name, node in site.graph.nodes.items():
        job = holders.get(name)
        seen = observed.view.nodes.get(name)
        newest = observed.telemetry.newest(node.bmc)
        tokens_w = (job.tokens_w_per_node if job else 0) or 0
        rows.append(
            {
                "name": name,
                "rack": node.rack,
                "state": seen.state if seen else "UNKNOWN",
                "draw_w": node_draw_w(
                    observed.telemetry, node.bmc, now=observed.now, rules=site.rules
                ),
                "idle_w": node.type.idle_w,
                "max_w": node.type.max_w,
                "job": job.job_id if job else None,
                "charge_w": node.type.idle_w + tokens_w,
                "fenced": "yes" if name in fenced else "no",
                "age_s": _age_s(newest.polled_at if newest else None, now),
            }
        )
    return rows


def job_rows(site: Site, picture: Picture) -> list[Row]:
    """Jobs that wait or hold nodes."""
    return [
        job_row(site, picture, job)
        for job in picture.observed.view.jobs.values()
        if job.state is not JobState.ENDED
    ]


def job_row(site: Site, picture: Picture, job: SlurmJob) -> Row:
    """One job; ``draw_w`` is that of its nodes by their BMCs."""
    racks = {site.graph.nodes[name].rack for name in job.nodes if name in site.graph.nodes}
    return {
        "jobid": job.job_id,
        "user": job.user,
        "account": job.account,
        "lane": site.rules.lane_of(job.partition),
        "tier": str(job.tier),
        "charge_w": charge_w(site, job),
        "draw_w": _job_draw_w(site, picture, job),
        "state": job.slurm_state if job.state is JobState.ENDED else str(job.state),
        "reason": _reason(job),
        "ticket": job.admitted.get("ticket"),
        "nodes": ",".join(job.nodes),
        "racks": ",".join(sorted(racks)),
        "tokens_w": job.tokens_w,
        "reservation": job.reservation or None,
        "start": job.started_at,
    }


def _reason(job: SlurmJob) -> str:
    if job.held and job.admitted.get("held") is True:
        return "PowerShed"
    return job.reason if job.state is JobState.PENDING else str(job.admitted.get("reason", ""))


def _job_draw_w(site: Site, picture: Picture, job: SlurmJob) -> int | None:
    if not job.state.holds_nodes:
        return None
    observed = picture.observed
    draws = [
        node_draw_w(
            observed.telemetry, site.graph.nodes[name].bmc, now=observed.now, rules=site.rules
        )
        for name in job.nodes
        if name in site.graph.nodes
    ]
    return None if None in draws else sum(each or 0 for each in draws)


def reservation_rows(
    picture: Picture | None, reservations: Iterable[PowerReservation]
) -> list[Row]:
    """Power reservations, ended ones included; ``used_w`` is what its jobs are charged now."""
    return [_reservation_row(picture, each) for each in reservations]


def _reservation_row(picture: Picture | None, each: PowerReservation) -> Row:
    jobs = picture.observed.view.jobs.values() if picture else ()
    used_w = sum(
        job.tokens_w for job in jobs if job.state.holds_nodes and job.reservation == each.slurm_name
    )
    idle_w = each.power_w - each.tokens_w
    return {
        "name": each.name,
        "rack": each.rack,
        "nodes": ",".join(each.nodes),
        "power_w": each.power_w,
        "used_w": used_w + idle_w if used_w else 0,
        "account": ",".join(each.accounts),
        "user": ",".join(each.users),
        "start": each.starts_at,
        "end": each.ends_at,
        "state": str(each.state),
        "reason": each.reason,
    }


def decision_row(verdict: Verdict, job_id: int | None) -> Row:
    """One verdict of the hook."""
    facts = verdict.facts
    return {
        "at": verdict.at,
        "ticket": verdict.ticket,
        "jobid": facts.get("job_id") or job_id,
        "user": facts.get("user"),
        "verdict": facts.get("verdict"),
        "reason": facts.get("reason"),
        "message": facts.get("message"),
    }


def action_row(action: ActionRecord) -> Row:
    """One action of the broker."""
    return {
        "at": action.at,
        "kind": action.kind,
        "target": action.target,
        "outcome": action.outcome,
        "because": action.because + (f" [{action.error}]" if action.error else ""),
    }


def _age_s(at: datetime | None, now: datetime) -> int | None:
    return None if at is None else max(0, round((now - at).total_seconds()))


def picked(rows: Iterable[Row], where: Mapping[str, Any]) -> list[Row]:
    """Rows whose columns hold one of the values asked for; any case, as in sacctmgr."""
    wanted = {
        key: {str(each).lower() for each in (value if isinstance(value, list) else [value])}
        for key, value in where.items()
    }
    return [
        row
        for row in rows
        if all(
            values & {part.lower() for part in str(row.get(key)).split(",")}
            for key, values in wanted.items()
            if key in row
        )
    ]
