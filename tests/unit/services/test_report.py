# SPDX-License-Identifier: GPL-2.0-or-later
"""The showback report reads the ledger hour by hour and says what it adds up to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest

from broker.domain.cluster import Quality, Reading
from broker.domain.errors import BadRequest
from broker.domain.power_graph import Layer, LayerKind, Node, NodeType, PowerGraph
from broker.domain.reservation import PowerReservation, ReservationState
from broker.domain.showback import IDLE, Tariff
from broker.services.ports import ActionRecord, JobRecord, Store
from broker.services.report import report_showback

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
TARIFF = Tariff(Decimal("0.30"), Decimal("0.10"), "EUR")
TYPE = NodeType("t", idle_w=1000, max_w=10_200, gpus=8)
GRAPH = PowerGraph(
    layers={
        "r1": Layer("r1", LayerKind.RACK, "lab", 32_000, 40_000, 0, ("n01", "n02"), ("r1.A",)),
        "lab": Layer("lab", LayerKind.SITE, None, 32_000, 40_000, 0, ("n01", "n02")),
    },
    nodes={name: Node(name, "r1", TYPE, f"{name}.bmc") for name in ("n01", "n02")},
)


@dataclass
class Ledger:
    """What a report reads of the store."""

    power_w: dict[str, int] = field(default_factory=dict)
    runs: Sequence[JobRecord] = ()
    kept: Sequence[PowerReservation] = ()
    done: Sequence[ActionRecord] = ()
    silent: tuple[datetime, datetime] = (NOON, NOON)
    until: datetime = NOON + 10 * HOUR

    def samples(self, *, start: datetime, end: datetime) -> Iterator[Reading]:
        step = timedelta(seconds=10)
        for device, watt in sorted(self.power_w.items()):
            at = max(start, NOON)
            at += (NOON - at) % step
            while at < min(end, self.until):
                if not self.silent[0] <= at < self.silent[1]:
                    yield Reading(device, at, watt, Quality.GOOD)
                at += step

    def job_runs(self, *, start: datetime, end: datetime) -> Sequence[JobRecord]:
        return self.runs

    def reservations(self, *, open_only: bool = True) -> Sequence[PowerReservation]:
        return [each for each in self.kept if each.state.open or not open_only]

    def actions(
        self, *, target: str, kind: str, since: datetime, limit: int = 100
    ) -> Sequence[ActionRecord]:
        return [
            each for each in self.done
            if each.target == target and each.kind == kind and each.at >= since
        ]  # fmt: skip


def a_run(job_id: int = 1, account: str = "ml", **changes: Any) -> JobRecord:
    usual: dict[str, Any] = {
        "started_at": NOON, "ended_at": NOON + HOUR, "user": "alice", "partition": "hot",
        "nodes": ("n01",), "charge_w": 5000, "tier": "gold", "lane": "hot", "state": "COMPLETED",
    }  # fmt: skip
    return JobRecord(job_id=job_id, account=account, **{**usual, **changes})


def a_reservation(state: ReservationState) -> PowerReservation:
    return PowerReservation(
        "launch", "r1", ("n01",), power_w=6000, tokens_w=5000, starts_at=NOON,
        ends_at=NOON + 2 * HOUR, accounts=("ml",), state=state,
    )  # fmt: skip


def report(ledger: Ledger, hours: int = 2, **more: Any) -> tuple[dict[str, dict[str, Any]], str]:
    found = report_showback(cast(Store, ledger), GRAPH, TARIFF, NOON, NOON + hours * HOUR, **more)
    return {row["account"]: dict(row) for row in found.rows}, found.sentence


METERS = {"r1.A": 4000, "n01.bmc": 2700, "n02.bmc": 900}


def test_rows_add_up_to_the_pdus() -> None:
    rows, sentence = report(Ledger(METERS, [a_run()]))

    assert rows["ml"] == {
        "account": "ml", "jobs": 1, "metered_kwh": Decimal("3.000"),
        "reserved_kwh": Decimal("5.000"), "unused_kwh": Decimal("2.000"), "cost": Decimal("1.10"),
    }  # fmt: skip
    assert rows[IDLE]["metered_kwh"] == Decimal("5.000")
    assert rows["Total"]["metered_kwh"] == Decimal("8.000")
    assert sentence == (
        "Total is what the racks' PDUs metered from 2026-11-20T12:00:00Z to 2026-11-20T14:00:00Z:"
        " 8.000 kWh, 2.60 EUR."
    )


def test_a_requeued_job_counts_once() -> None:
    runs = [a_run(ended_at=NOON + HOUR / 2), a_run(started_at=NOON + HOUR)]

    assert report(Ledger(METERS, runs))[0]["ml"]["jobs"] == 1


def test_a_running_job_is_billed_up_to_now() -> None:
    rows, _ = report(Ledger(METERS, [a_run(ended_at=None)]), now=NOON + HOUR)

    assert rows["ml"]["reserved_kwh"] == Decimal("5.000")


def test_a_silent_pdu_is_named() -> None:
    ledger = Ledger(METERS, silent=(NOON + HOUR, NOON + HOUR * 1.5))

    rows, sentence = report(ledger)

    assert rows["Total"]["metered_kwh"] == Decimal("6.022")  # 20 s more are held
    assert "Unmetered, in no line: 24.7% of the PDU time (r1.A 0:29:40)." in sentence


RESERVED = {
    "pending: no watts yet": (ReservationState.PENDING, None, "0.000"),
    "active: the whole window so far": (ReservationState.ACTIVE, None, "12.000"),
    "expired: the whole window": (ReservationState.EXPIRED, None, "12.000"),
    "degraded: until it was taken back": (ReservationState.DEGRADED, HOUR / 2, "3.000"),
    "released before it began: nothing": (ReservationState.RELEASED, -HOUR, "0.000"),
}


@pytest.mark.parametrize("case", RESERVED.values(), ids=RESERVED.keys())
def test_unused_reservations_are_paid(
    case: tuple[ReservationState, timedelta | None, str],
) -> None:
    state, dropped_after, expected = case
    done: Iterable[ActionRecord] = (
        [ActionRecord(1, NOON + dropped_after, "DropReservation", "pw-launch", "", "done")]
        if dropped_after is not None
        else []
    )

    rows, _ = report(Ledger(METERS, kept=[a_reservation(state)], done=list(done)))

    assert rows["Total"]["reserved_kwh"] == rows["Total"]["unused_kwh"] == Decimal(expected)


def test_windows_that_make_no_sense_are_refused() -> None:
    with pytest.raises(BadRequest, match="is not before"):
        report(Ledger(), hours=0)
    with pytest.raises(BadRequest, match=r"416 days asked, at most 400 are allowed"):
        report(Ledger(), hours=24 * 416)
