# SPDX-License-Identifier: GPL-2.0-or-later
"""Showback: every watt-hour of a window, by account, reconciled with the PDUs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.domain.errors import BadRequest
from broker.domain.power_graph import Layer, PowerGraph
from broker.domain.reservation import PowerReservation, ReservationState
from broker.domain.showback import (
    Metered,
    NodeMeter,
    RackMeters,
    ReservedPower,
    Run,
    Tariff,
    bill,
    meter_rack,
    promised_wms,
)
from broker.services.ports import JobRecord, Store

MAX_GAP = timedelta(seconds=30)  #: a reading counts for no longer than this
LONGEST = timedelta(days=400)
_CHUNK = timedelta(hours=1)  #: samples of one hour are in memory at a time


@dataclass(frozen=True, slots=True)
class ShowbackReport:
    """Rows as powermgr shows them, and a sentence that says what they add up to."""

    rows: Sequence[Mapping[str, Any]]
    sentence: str


def report_showback(
    store: Store,
    graph: PowerGraph,
    tariff: Tariff,
    start: datetime,
    end: datetime,
    accounts: Sequence[str] = (),
    *,
    now: datetime | None = None,
    max_gap: timedelta = MAX_GAP,
) -> ShowbackReport:
    """Bill a window; what lies after ``now`` is left out."""
    until = min(end, now) if now else end
    if start >= until:
        raise BadRequest(
            f"start={_iso(start)} is not before end={_iso(until)}", hint="start=now-1day end=now"
        )
    if until - start > LONGEST:
        raise BadRequest(
            f"start={_iso(start)} end={_iso(until)}: {(until - start).days} days asked,"
            f" at most {LONGEST.days} are allowed",
            hint="report year by year",
        )
    runs = [_run(each, until) for each in store.job_runs(start=start, end=until)]
    metered = _meter(store, graph, runs, start, until, max_gap)
    reserved = promised_wms(
        runs, _reserved(store, graph, start, until), start_ms=_ms(start), end_ms=_ms(until)
    )
    lines = bill(metered, reserved, _count_jobs(runs), tariff, accounts=accounts)
    total = lines[-1]
    sentence = (
        f"Total is what the racks' PDUs metered from {_iso(start)} to {_iso(until)}:"
        f" {total.metered_kwh} kWh, {total.cost} {tariff.currency}."
        f"{_gaps(metered, start, until)}"
    )
    return ShowbackReport(rows=[asdict(each) for each in lines], sentence=sentence)


def _meter(
    store: Store,
    graph: PowerGraph,
    runs: Sequence[Run],
    start: datetime,
    end: datetime,
    max_gap: timedelta,
) -> Metered:
    found = Metered()
    begin = start
    while begin < end:
        until = min(begin + _CHUNK, end)
        samples: dict[str, list[tuple[int, int]]] = defaultdict(list)
        # Neighbours on both sides of the hour, so that the hours join without a seam.
        for reading in store.samples(start=begin - max_gap, end=until + max_gap):
            if reading.active_power_w is not None:
                samples[reading.device].append((_ms(reading.polled_at), reading.active_power_w))
        window = (_ms(begin), _ms(until))
        present = [each for each in runs if each.start_ms < window[1] and each.end_ms > window[0]]
        for rack in graph.racks:
            found.add(
                meter_rack(
                    _rack_meters(graph, rack, samples),
                    present,
                    start_ms=window[0],
                    end_ms=window[1],
                    max_gap_ms=_span_ms(max_gap),
                )
            )
        begin = until
    return found


def _rack_meters(
    graph: PowerGraph, rack: Layer, samples: Mapping[str, list[tuple[int, int]]]
) -> RackMeters:
    nodes = [graph.nodes[name] for name in rack.nodes]
    return RackMeters(
        name=rack.name,
        pdus={device: samples.get(device, []) for device in rack.pdus},
        nodes=[NodeMeter(n.name, n.type.idle_w, samples.get(n.bmc, [])) for n in nodes],
    )


def _run(record: JobRecord, now: datetime) -> Run:
    return Run(
        job_id=record.job_id,
        account=record.account,
        nodes=record.nodes,
        start_ms=_ms(record.started_at),
        end_ms=_ms(record.ended_at or now),
        charge_w=record.charge_w,
        reservation=record.reservation,
    )


def _count_jobs(runs: Sequence[Run]) -> dict[str, int]:
    """Jobs by account; one that was requeued counts once."""
    jobs: dict[str, set[int]] = defaultdict(set)
    for run in runs:
        jobs[run.account].add(run.job_id)
    return {account: len(ids) for account, ids in jobs.items()}


def _reserved(
    store: Store, graph: PowerGraph, start: datetime, end: datetime
) -> list[ReservedPower]:
    """Windows in which watts were really kept for somebody."""
    kept = []
    for each in store.reservations(open_only=False):
        # A pending one has no watts yet, so its owner pays nothing yet.
        if each.state is ReservationState.PENDING or each.starts_at >= end or each.ends_at <= start:
            continue
        # Of several owners the first one named pays.
        owner = each.accounts[0] if each.accounts else ",".join(each.users)
        until = _given_back_at(store, each)
        if until > each.starts_at:
            kept.append(
                ReservedPower(each.name, owner, each.power_w, _ms(each.starts_at), _ms(until))
            )
    return kept


def _given_back_at(store: Store, reservation: PowerReservation) -> datetime:
    """When its watts were free again: its end, or when the broker took it out of Slurm before."""
    if reservation.state not in {ReservationState.RELEASED, ReservationState.DEGRADED}:
        return reservation.ends_at
    drops = store.actions(
        target=reservation.slurm_name, kind="DropReservation", since=reservation.starts_at
    )
    # None since it began: it was released before, and never held anything.
    return min((each.at for each in drops), default=reservation.starts_at)


def _gaps(metered: Metered, start: datetime, end: datetime) -> str:
    """Say which PDUs were silent, worst first; their energy in that time is in no line."""
    silent = sorted(((ms, name) for name, ms in metered.unmetered_ms.items() if ms), reverse=True)
    if not silent:
        return ""
    worst = ", ".join(f"{name} {timedelta(seconds=ms // 1000)}" for ms, name in silent[:4])
    share = sum(ms for ms, _ in silent) / (len(metered.unmetered_ms) * _span_ms(end - start))
    more = f" and {len(silent) - 4} more" if len(silent) > 4 else ""
    return f" Unmetered, in no line: {share:.1%} of the PDU time ({worst}{more})."


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _span_ms(span: timedelta) -> int:
    return round(span.total_seconds() * 1000)


def _iso(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
