# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m tests.bench.storage_outage`: Postgres down, the collector killed in the middle of it.

Prints what the simulated devices answered and what is in the table: the same, or it exits 1.
"""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

import migrations
from tests.integration.test_collector import Collector, Fleet, _kill_between_polls, wait_for
from tests.support.postgres import Cluster


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.storage_outage")
    parser.add_argument("--down-s", type=float, default=60.0)
    asked = parser.parse_args()
    cluster = Cluster()
    with tempfile.TemporaryDirectory() as folder:
        fleet_folder, own_folder = Path(folder) / "fleet", Path(folder) / "collector"
        fleet_folder.mkdir()
        own_folder.mkdir()
        fleet, collector = Fleet(fleet_folder), Collector(own_folder, cluster.dsn("outage"))
        try:
            cluster.start()
            cluster.execute("CREATE DATABASE outage")
            migrations.upgrade(cluster.url("outage"))
            fleet.start()
            collector.configure()
            collector.start()
            return _outage(cluster, fleet, collector, down_s=asked.down_s)
        finally:
            if collector.process is not None:
                collector.end(signal.SIGKILL)
            fleet.stop()
            cluster.destroy()


def _outage(cluster: Cluster, fleet: Fleet, collector: Collector, *, down_s: float) -> int:
    wait_for("all devices are stored", collector.heard_all)
    before = sum(collector.stored().values())
    cluster.stop()
    time.sleep(down_s / 2)
    _kill_between_polls(fleet, collector)
    collector.start()
    time.sleep(down_s / 2)
    answered = sum(fleet.counts().values())
    cluster.start()
    back_s = time.monotonic()
    wait_for("the spool is stored", lambda: sum(collector.stored().values()) >= answered)
    drained_s = time.monotonic() - back_s
    collector.end(signal.SIGTERM)
    answered_by, stored_by = fleet.counts(), collector.stored()
    print(
        f"Postgres down {down_s:.0f} s, collector killed after {down_s / 2:.0f} s:"
        f" {answered - before:,} answers spooled, stored {drained_s:.1f} s after it was back;"
        f" {sum(answered_by.values()):,} answers given, {sum(stored_by.values()):,} rows"
    )
    return 0 if answered_by == stored_by else 1


if __name__ == "__main__":
    sys.exit(main())
