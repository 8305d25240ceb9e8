# SPDX-License-Identifier: GPL-2.0-or-later
"""Who used which energy, so that the lines add up to the PDUs to the joule.

Integers all through: times in ms, power in W, energy in J. A rack's PDUs say how much; its nodes'
BMCs say in what proportion; the jobs say whose. Power between two samples is a straight line; when
the next one is more than ``max_gap_ms`` away, the last holds for that long and the rest counts as
unmetered, never as zero watts silently.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise

Samples = Sequence[tuple[int, int]]  #: (time in ms, power in W), in any order

IDLE = "(idle)"  #: what no job drew
OTHERS = "(others)"  #: accounts that were not asked for
_J_PER_WH = 3_600
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Tariff:
    """What a kWh costs, and one that was reserved and not used."""

    per_kwh: Decimal
    reserved_per_kwh: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class NodeMeter:
    """A node and what its BMC said."""

    name: str
    idle_w: int
    samples: Samples = ()


@dataclass(frozen=True, slots=True)
class RackMeters:
    """A rack: its PDUs by device name, and its nodes."""

    name: str
    pdus: Mapping[str, Samples]
    nodes: Sequence[NodeMeter]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job on nodes of its own. ``charge_w`` is for all of them, idle included."""

    job_id: int
    account: str
    nodes: tuple[str, ...]
    start_ms: int
    end_ms: int
    charge_w: int
    reservation: str = ""


@dataclass(frozen=True, slots=True)
class ReservedPower:
    """Watts kept for an account, whether it used them or not; idle of its nodes included."""

    name: str
    account: str
    power_w: int
    start_ms: int
    end_ms: int


@dataclass
class Metered:
    """Energy by account in J, and how long each PDU said nothing in ms. Adds up in any order."""

    energy_j: dict[str, int] = field(default_factory=dict)
    unmetered_ms: dict[str, int] = field(default_factory=dict)

    def add(self, other: Metered) -> None:
        for mine, theirs in (
            (self.energy_j, other.energy_j),
            (self.unmetered_ms, other.unmetered_ms),
        ):
            for key, amount in theirs.items():
                mine[key] = mine.get(key, 0) + amount


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the report. kWh lines add up exactly as shown, to the Wh."""

    account: str
    jobs: int
    metered_kwh: Decimal
    reserved_kwh: Decimal
    unused_kwh: Decimal
    cost: Decimal


def meter_rack(
    rack: RackMeters, runs: Iterable[Run], *, start_ms: int, end_ms: int, max_gap_ms: int
) -> Metered:
    """Divide a rack's PDU energy in a window among the accounts that had its nodes.

    Slices are cut where a job on the rack starts or ends. In each, a node's share is in proportion
    to its BMC's energy; while its BMC says nothing, to what its job is charged, else to its idle.
    """
    names = {node.name for node in rack.nodes}
    here = [each for each in runs if names & set(each.nodes)]
    edges = {edge for run in here for edge in (run.start_ms, run.end_ms)}
    cuts = [start_ms, *sorted(e for e in edges if start_ms < e < end_ms), end_ms]
    holders = {name: _holders(name, here, cuts) for name in names}

    found = Metered()
    slices_j = [0] * (len(cuts) - 1)
    for device, samples in rack.pdus.items():
        device_j, covered_ms = _between(samples, cuts, max_gap_ms)
        slices_j = [a + b for a, b in zip(slices_j, device_j, strict=True)]
        found.unmetered_ms[device] = end_ms - start_ms - sum(covered_ms)

    weights = {
        node.name: _weights_j(node, holders[node.name], cuts, max_gap_ms) for node in rack.nodes
    }
    for index, energy_j in enumerate(slices_j):
        shares = apportion(energy_j, {name: each[index] for name, each in weights.items()})
        for name, share_j in shares.items():
            run = holders[name][index] if name in holders else None
            account = run.account if run else IDLE
            found.energy_j[account] = found.energy_j.get(account, 0) + share_j
    return found


def promised_wms(
    runs: Iterable[Run], reservations: Iterable[ReservedPower], *, start_ms: int, end_ms: int
) -> dict[str, int]:
    """Energy promised to each account in W x ms: charges of jobs, and reserved watts they left."""
    runs = list(runs)
    promised: dict[str, int] = {}
    for run in runs:
        amount = run.charge_w * _overlap_ms(run.start_ms, run.end_ms, start_ms, end_ms)
        promised[run.account] = promised.get(run.account, 0) + amount
    for each in reservations:
        inside = [run for run in runs if run.reservation in {each.name, f"pw-{each.name}"}]
        left = _left_wms(each, inside, max(each.start_ms, start_ms), min(each.end_ms, end_ms))
        promised[each.account] = promised.get(each.account, 0) + left
    return promised


def bill(
    metered: Metered,
    reserved: Mapping[str, int],
    jobs: Mapping[str, int],
    tariff: Tariff,
    *,
    accounts: Sequence[str] = (),
) -> list[Line]:
    """The lines: accounts by name, what no job drew, ``Total``. The total is that of the PDUs.

    ``accounts`` picks lines; the rest is one line, so that the sum still holds.
    """
    named = sorted((set(metered.energy_j) | set(reserved) | set(jobs)) - {IDLE})
    order = [*named, IDLE]
    metered_wh = _round_together(metered.energy_j, order, _J_PER_WH)
    reserved_wh = _round_together(reserved, order, _J_PER_WH * 1000)
    lines = [
        _line(name, jobs.get(name, 0), metered_wh[name], reserved_wh[name], tariff)
        for name in order
    ]
    if accounts:
        rest = [each for each in lines if each.account not in {*accounts, IDLE}]
        lines = [each for each in lines if each.account in {*accounts, IDLE}]
        if rest:
            lines.append(_sum(OTHERS, rest))
    return [*lines, _sum("Total", lines)]


def apportion(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Divide ``total`` in proportion, in whole units that add up to it (largest remainder)."""
    names = sorted(weights)
    if not names:
        return {"": total}
    whole = sum(weights.values())
    if whole == 0:
        weights, whole = dict.fromkeys(names, 1), len(names)
    shares = {name: total * weights[name] // whole for name in names}
    left = total - sum(shares.values())
    by_remainder = sorted(names, key=lambda name: (-(total * weights[name] % whole), name))
    for name in by_remainder[:left]:
        shares[name] += 1
    return shares


def _segments(
    samples: Samples, max_gap_ms: int, start_ms: int, end_ms: int
) -> Iterator[tuple[int, int, int, int]]:
    """Straight pieces (from ms, to ms, from W, to W) that touch the window."""
    ordered = sorted(samples)
    for index, (at, watt) in enumerate(ordered):
        if at >= end_ms:
            return
        following = ordered[index + 1] if index + 1 < len(ordered) else None
        if following is None or following[0] - at > max_gap_ms:
            following = (at + max_gap_ms, watt)  # held
        if following[0] > max(at, start_ms):
            # Nothing feeds power back into a PDU: a negative reading counts as none.
            yield at, following[0], max(0, watt), max(0, following[1])


def _between(samples: Samples, cuts: Sequence[int], max_gap_ms: int) -> tuple[list[int], list[int]]:
    """Energy in J and metered time in ms between neighbouring cuts.

    Rounding the running total, not each slice, keeps the sum the same however it is cut.
    """
    total_2wms = covered_ms = 0  # twice the energy in W x ms: whole numbers
    energy_j, covered = [0] * len(cuts), [0] * len(cuts)
    cut = 0
    for begin, end, from_w, to_w in _segments(samples, max_gap_ms, cuts[0], cuts[-1]):
        while cut < len(cuts) and cuts[cut] < end:
            done_2wms = _area_2wms(begin, end, from_w, to_w, cuts[cut])
            energy_j[cut] = total_2wms + done_2wms
            covered[cut] = covered_ms + max(0, cuts[cut] - begin)
            cut += 1
        total_2wms += (from_w + to_w) * (end - begin)
        covered_ms += end - begin
    energy_j[cut:] = [total_2wms] * (len(cuts) - cut)
    covered[cut:] = [covered_ms] * (len(cuts) - cut)
    rounded = [(each - energy_j[0] + 1000) // 2000 for each in energy_j]
    return _steps(rounded), _steps(covered)


def _area_2wms(begin: int, end: int, from_w: int, to_w: int, until: int) -> int:
    """Twice the area of a segment up to ``until``, in W x ms."""
    part = until - begin
    if part <= 0:
        return 0
    return 2 * from_w * part + (to_w - from_w) * part * part // (end - begin)


def _steps(totals: Sequence[int]) -> list[int]:
    return [after - before for before, after in pairwise(totals)]


def _weights_j(
    node: NodeMeter, holders: Sequence[Run | None], cuts: Sequence[int], max_gap_ms: int
) -> list[int]:
    """What a node drew in each slice as far as anybody knows, in J."""
    energy_j, covered_ms = _between(node.samples, cuts, max_gap_ms)
    weights = []
    for index, run in enumerate(holders):
        dark_ms = cuts[index + 1] - cuts[index] - covered_ms[index]
        expected_w = run.charge_w // len(run.nodes) if run else node.idle_w
        weights.append(energy_j[index] + expected_w * dark_ms // 1000)
    return weights


def _holders(name: str, runs: Sequence[Run], cuts: Sequence[int]) -> list[Run | None]:
    """The run that has a node in each slice; of two, the later one (the other is completing)."""
    found: list[Run | None] = [None] * (len(cuts) - 1)
    on_it = sorted((r for r in runs if name in r.nodes), key=lambda r: (r.start_ms, r.job_id))
    for run in on_it:
        first = bisect_left(cuts, run.start_ms)
        last = bisect_right(cuts, run.end_ms) - 1
        for index in range(first, last):
            found[index] = run
    return found


def _overlap_ms(start: int, end: int, window_start: int, window_end: int) -> int:
    return max(0, min(end, window_end) - max(start, window_start))


def _left_wms(reservation: ReservedPower, runs: Sequence[Run], start: int, end: int) -> int:
    """Reserved watts that its own jobs did not take, times the time, in W x ms."""
    if end <= start:
        return 0
    edges = {edge for run in runs for edge in (run.start_ms, run.end_ms)}
    cuts = [start, *sorted(e for e in edges if start < e < end), end]
    left = 0
    for begin, until in pairwise(cuts):
        taken = sum(r.charge_w for r in runs if r.start_ms <= begin and r.end_ms >= until)
        left += max(0, reservation.power_w - taken) * (until - begin)
    return left


def _round_together(amounts: Mapping[str, int], order: Sequence[str], unit: int) -> dict[str, int]:
    """Whole units per name that add up to the rounded sum."""
    total = (sum(amounts.values()) + unit // 2) // unit
    return apportion(total, {name: amounts.get(name, 0) for name in order})


def _line(account: str, jobs: int, metered_wh: int, reserved_wh: int, tariff: Tariff) -> Line:
    unused_wh = max(0, reserved_wh - metered_wh)
    cost = (metered_wh * tariff.per_kwh + unused_wh * tariff.reserved_per_kwh) / 1000
    return Line(
        account=account,
        jobs=jobs,
        metered_kwh=_kwh(metered_wh),
        reserved_kwh=_kwh(reserved_wh),
        unused_kwh=_kwh(unused_wh),
        cost=cost.quantize(_CENT, ROUND_HALF_UP),
    )


def _kwh(energy_wh: int) -> Decimal:
    return Decimal(energy_wh).scaleb(-3)


def _sum(account: str, lines: Sequence[Line]) -> Line:
    return Line(
        account=account,
        jobs=sum(each.jobs for each in lines),
        metered_kwh=sum((each.metered_kwh for each in lines), Decimal("0.000")),
        reserved_kwh=sum((each.reserved_kwh for each in lines), Decimal("0.000")),
        unused_kwh=sum((each.unused_kwh for each in lines), Decimal("0.000")),
        cost=sum((each.cost for each in lines), Decimal("0.00")),
    )
