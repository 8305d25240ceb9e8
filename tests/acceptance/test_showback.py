# SPDX-License-Identifier: GPL-2.0-or-later
"""Showback: the lines add up to the PDUs, and a known job is billed what it drew."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from tests.acceptance import head, oracle

pytestmark = pytest.mark.lab

SECONDS, LOAD_W, NODES = 20, 9_000, 3
IDLE_W = 1_000


def test_a_known_job_is_billed_what_it_drew_and_all_lines_add_up_to_the_pdus() -> None:
    began = _on_the_second()
    before = _fleet_wh()
    script = f"srun -Q sleep {SECONDS}"
    comment = f"--comment=power: max={NODES * (LOAD_W + IDLE_W)}W"
    with _true_draws() as draws:
        known = head.submit("alice", f"-N{NODES}", comment, load=f"{LOAD_W}W", script=script)
        other = head.submit("bob", "-N1", load="4kW", script=f"sleep {SECONDS // 2}")
        head.wait("both to end", head.queue_is_empty, within_s=SECONDS + 30)
    known_kwh = _true_kwh(known, draws)
    ended = _on_the_second()
    after = _fleet_wh()
    # The window's last instant lies between two samples, and both runs are in the ledger.
    late = f"select count(*) from latest where kind = 'pdu' and good_at > to_timestamp({ended})"
    head.wait("a sample of every PDU after it", lambda: head.sql(late) == [["8"]])
    head.wait_cycles(2)

    lines = {row["account"]: row for row in _report(began, ended)}
    total = lines.pop("Total")
    assert set(lines) == {"ml", "bio", "(idle)"}
    assert (lines["ml"]["jobs"], lines["bio"]["jobs"]) == (1, 1), f"{known}, {other}"
    added_kwh = sum(row["metered_kwh"] for row in lines.values())
    assert added_kwh == pytest.approx(total["metered_kwh"], abs=1e-9)
    assert sum(row["cost"] for row in lines.values()) == pytest.approx(total["cost"], abs=1e-9)

    by_hand_kwh = _trapezoids_kwh(began, ended)
    by_fleet_kwh = (after - before) / 1000
    print(f"total {total['metered_kwh']} kWh, by hand {by_hand_kwh:.4f}, fleet {by_fleet_kwh:.4f}")
    print(f"ml {lines['ml']['metered_kwh']} kWh, truly {known_kwh:.4f} kWh")
    assert total["metered_kwh"] == pytest.approx(by_hand_kwh, rel=0.01)
    assert total["metered_kwh"] == pytest.approx(by_fleet_kwh, rel=0.02)
    assert lines["ml"]["metered_kwh"] == pytest.approx(known_kwh, rel=0.05)


def _on_the_second() -> float:
    """Times of a report are whole seconds: the fleet's totals are read at such an instant."""
    return float(head.wait("a whole second", lambda: (at := time.time()) % 1 < 0.15 and at))


def _report(start: float, end: float) -> list[dict[str, float]]:
    return head.rows("report", "showback", f"start={_local(start)}", f"end={_local(end)}")


def _local(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(at))


Draws = list[tuple[float, dict[str, float]]]  # when, what every node drew


@contextmanager
def _true_draws() -> Iterator[Draws]:
    """What every node really draws, by the fleet's own word."""
    draws, stop = Draws(), threading.Event()

    def look() -> None:
        while not stop.wait(0.2):
            nodes = head.fleet_status()["nodes"]
            draws.append((time.time(), {name: each["draw_w"] for name, each in nodes.items()}))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield draws
    finally:
        stop.set()
        thread.join()


def _true_kwh(job: int, draws: Draws) -> float:
    """Of a job's nodes, from its start to its end by Slurm's clock, which has whole seconds."""
    start, end = (
        datetime.fromisoformat(head.job_field(job, key)).timestamp()
        for key in ("StartTime", "EndTime")
    )
    nodes = oracle.expand(head.job_field(job, "NodeList"))
    assert len(nodes) == NODES
    total = [(at, sum(draw_w[name] for name in nodes)) for at, draw_w in draws]
    return sum(_between(a, b, start, end) for a, b in pairwise(total)) / 3_600_000


def _fleet_wh() -> float:
    return sum(each["energy_wh"] for each in head.fleet_status()["pdus"].values())


def _trapezoids_kwh(began: float, ended: float) -> float:
    """The PDUs' samples, joined by straight lines and cut at the window's whole seconds."""
    start, end = float(int(began)), float(int(ended))
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    around = [datetime.fromtimestamp(at, UTC).isoformat() for at in (start - 10, end + 10)]
    for device, at, watts in head.sql(
        "select device, extract(epoch from polled_at), active_power_w from samples"
        " where device like 'r%' and quality = 'good'"
        f" and polled_at between '{around[0]}' and '{around[1]}' order by polled_at"
    ):
        found[device].append((float(at), float(watts)))
    assert len(found) == 8
    joules = sum(
        _between(a, b, start, end) for samples in found.values() for a, b in pairwise(samples)
    )
    return joules / 3_600_000


def _between(a: tuple[float, float], b: tuple[float, float], start: float, end: float) -> float:
    low, high = max(a[0], start), min(b[0], end)
    if high <= low:
        return 0.0

    def at(instant: float) -> float:
        return a[1] + (b[1] - a[1]) * (instant - a[0]) / (b[0] - a[0])

    return (at(low) + at(high)) / 2 * (high - low)
