# SPDX-License-Identifier: GPL-2.0-or-later
"""A bad network: packets lost, one device in ten dead. Do the others keep their period?

    python -m tests.bench.resilience [--pdus 200] [--bmcs 20] [--drop 0.3] [--seconds 30]

The period is the time between two turns of a device: when its first request reaches it (or is lost
on the way). A turn whose three requests are all lost brings no reading: 0.3^3 = 2.7 % of them.
"""

import argparse
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import psycopg

import migrations
from tests.bench.processes import Helper, every, start_collector
from tests.bench.site import Site, configure, free_port
from tests.support.postgres import Cluster

INTERVAL_S = 1.0
TIMEOUT_S, ATTEMPTS = 0.8, 3
DEAD_ONE_IN = 10
LATE_AT_MOST = 2  #: answers that came when nobody waited for them any more


@dataclass(frozen=True, slots=True)
class Gaps:
    """Gaps of one group of devices, in intervals, sorted."""

    asked: Sequence[float]  #: of the PDUs
    stored: Sequence[float]  #: of the PDUs
    stored_bmcs: Sequence[float]
    devices: int
    lost_rows: int  #: turns answered that are not in the table

    def asked_at(self, share: float) -> float:
        return _at(self.asked, share)


def run(cluster: Cluster, *, pdus: int, bmcs: int, drop: float, for_s: float, folder: Path) -> Gaps:
    """Poll a site over a bad network; the gaps of the devices that are alive."""
    database = folder.name
    cluster.execute(f"CREATE DATABASE {database}")
    migrations.upgrade(cluster.url(database))
    dsn = cluster.dsn(database)
    site = Site(pdus, bmcs, free_port(), free_port())
    configure(
        folder,
        site,
        dsn,
        interval_s=INTERVAL_S,
        timeout_s=TIMEOUT_S,
        attempts=ATTEMPTS,
        spread_s=0.5,
    )
    options = ["--port", str(site.snmp_port), "--drop", str(drop), "--timeout", str(TIMEOUT_S)]
    agents = Helper("tests.bench.agents", *options, "--dead-one-in", str(DEAD_ONE_IN))
    where = ("--inventory", str(folder / "inventory.toml"), "--port", str(site.bmc_port))
    nodes = Helper("tests.bench.bmcs", *where, "--drop", str(drop))
    collector = start_collector(folder)
    try:
        with psycopg.connect(dsn, autocommit=True) as connection:
            alive = pdus - pdus // DEAD_ONE_IN + bmcs
            for _ in every(0.5, within_s=60):
                row = connection.execute("SELECT count(DISTINCT device) FROM samples").fetchone()
                if row and row[0] >= alive:
                    break
            begun_s = time.time()
            time.sleep(for_s)
            ended_s = time.time()
            collector.send_signal(signal.SIGTERM)
            assert collector.wait(30) == 0, (folder / "log").read_text()[-2000:]
            rows = connection.execute(
                "SELECT device, extract(epoch FROM polled_at)::float8 FROM samples ORDER BY 1, 2"
            ).fetchall()
    finally:
        if collector.poll() is None:
            os.kill(collector.pid, signal.SIGKILL)
            collector.wait()
    told, told_bmcs = agents.result()["devices"], nodes.result()
    agents.end()
    nodes.end()
    stored: dict[str, list[float]] = {}
    for device, at_s in rows:
        stored.setdefault(device, []).append(at_s)
    asked_gaps, stored_gaps, lost, devices = [], [], 0, 0
    for name, host in site.pdu_hosts().items():
        if host in told and not told[host]["dead"]:
            devices += 1
            asked_gaps += _gaps(told[host]["asked_at_s"], begun_s, ended_s)
            stored_gaps += _gaps(stored.get(name, []), begun_s, ended_s)
            lost += told[host]["answered"] - len(stored.get(name, []))
    bmc_gaps = []
    for name, answered in told_bmcs.items():
        bmc_gaps += _gaps(stored.get(name, []), begun_s, ended_s)
        lost += answered - len(stored.get(name, []))
    return Gaps(sorted(asked_gaps), sorted(stored_gaps), sorted(bmc_gaps), devices, lost)


def _gaps(at_s: Sequence[float], begun_s: float, ended_s: float) -> list[float]:
    within = [each for each in at_s if begun_s <= each <= ended_s]
    return [(b - a) / INTERVAL_S for a, b in pairwise(within)]


def _at(gaps: Sequence[float], share: float) -> float:
    return gaps[min(int(len(gaps) * share), len(gaps) - 1)]


def report(gaps: Gaps, *, pdus: int, drop: float) -> bool:
    """Print the distributions; whether the period is kept."""
    without, most = without_reading(gaps.stored), 2 * drop**ATTEMPTS
    kept = gaps.asked_at(0.99) < 1.2 and without < most and gaps.lost_rows <= LATE_AT_MOST
    print(
        f"\n{pdus} PDUs every {INTERVAL_S:g} s, {drop:.0%} of the packets lost,"
        f" one device in {DEAD_ONE_IN} dead; gaps of the {gaps.devices} others, in intervals:"
    )
    lines = [("between turns", gaps.asked), ("between readings", gaps.stored)]
    lines += [("of BMCs", gaps.stored_bmcs)] if gaps.stored_bmcs else []
    for what, found in lines:
        figures = "  ".join(f"p{q:g} {_at(found, q / 100):.2f}" for q in (1, 50, 90, 99, 99.9))
        print(f"  {what:<18}{figures}  most {found[-1]:.2f}  ({len(found)})")
    print(
        f"  p99 between turns < 1.2, turns without a reading {without:.1%} < {most:.1%}:"
        f" {'ok' if kept else 'MISSED'}; answered turns without a row {gaps.lost_rows};"
        f" of BMCs {without_reading(gaps.stored_bmcs):.1%}; load {os.getloadavg()[0]:.1f}"
    )
    return kept


def without_reading(gaps: Sequence[float]) -> float:
    """Share of the turns that brought no reading."""
    return 1 - len(gaps) / sum(gaps) if gaps else 0.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pdus", type=int, default=200)
    parser.add_argument("--bmcs", type=int, default=20)
    parser.add_argument("--drop", type=float, default=0.3)
    parser.add_argument("--seconds", type=float, default=30)
    asked = parser.parse_args()
    cluster, work = Cluster(), Path(tempfile.mkdtemp(prefix="bench"))
    try:
        cluster.start()
        folder = work / "resilience"
        gaps = run(
            cluster,
            pdus=asked.pdus,
            bmcs=asked.bmcs,
            drop=asked.drop,
            for_s=asked.seconds,
            folder=folder,
        )
    finally:
        cluster.destroy()
        shutil.rmtree(work)
    return 0 if report(gaps, pdus=asked.pdus, drop=asked.drop) else 1


if __name__ == "__main__":
    raise SystemExit(main())
