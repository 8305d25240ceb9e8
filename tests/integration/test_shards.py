# SPDX-License-Identifier: GPL-2.0-or-later
"""Several collectors with one inventory and one database: each answer once, whoever dies."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from collectors.shard import SHARES, share_of
from tests.integration.test_collector import INTERVAL_S, ROOT, Collector, Fleet, wait_for
from tests.support.postgres import Cluster

pytestmark = pytest.mark.postgres

LEASE_S = 8.0
TAKEN_OVER_WITHIN_S = 15.0
_TWICE_AT_MOST_S = INTERVAL_S + 0.2

_CLOSE = """
    SELECT device, polled_at, gap FROM (
        SELECT device, polled_at, extract(epoch FROM polled_at - lag(polled_at) OVER (
            PARTITION BY device ORDER BY polled_at))::float8 AS gap
        FROM samples) gaps
    WHERE gap < %s"""


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    folder = tmp_path / "fleet"
    folder.mkdir()
    fleet = Fleet(folder)
    fleet.start()
    yield fleet
    fleet.stop()


class Host(Collector):
    """A collector on a host of its own: in a process group that stops and dies as a whole."""

    def start(self) -> None:
        import subprocess
        import sys

        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "collectors.main", "--config", str(self.folder)],
                cwd=ROOT,
                stderr=log,
                start_new_session=True,
            )

    def tell(self, number: signal.Signals) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, number)

    def tell_main(self, number: signal.Signals) -> None:
        """Its main process only, not its workers."""
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.tell(signal.SIGKILL)
        assert self.process is not None
        self.process.wait()
        self.process = None


@pytest.fixture
def hosts(tmp_path: Path, fleet: Fleet, database_dsn: str) -> Iterator[Callable[[int], list[Host]]]:
    started: list[Host] = []

    def start(count: int) -> list[Host]:
        for _ in range(count):
            folder = tmp_path / f"host{len(started)}"
            folder.mkdir()
            host = Host(folder, database_dsn)
            host.configure()
            with (folder / "collectors.toml").open("a") as file:
                file.write('[metrics]\nlisten = ""\n')
            started.append(host)
            host.start()
        return started[-count:]

    yield start
    for host in started:
        if host.process is not None:
            host.tell(signal.SIGCONT)
            host.end(signal.SIGTERM)


def shares(dsn: str) -> dict[str, int]:
    """Shares held by each collector that is alive."""
    with psycopg.connect(dsn) as connection:
        found = connection.execute(
            "SELECT c.name, count(s.share) FROM collectors c"
            " LEFT JOIN device_shares s ON s.holder = c.collector"
            " WHERE c.expires_at > clock_timestamp() GROUP BY c.name"
        ).fetchall()
    return dict(found)


def fair(dsn: str, count: int) -> bool:
    held = sorted(shares(dsn).values())
    return len(held) == count and sum(held) == SHARES and held[-1] <= -(-SHARES // count)


def longest_gap_s(host: Collector, since: str) -> float:
    [(gap,)] = host.rows(
        "SELECT max(gap)::float8 FROM (SELECT extract(epoch FROM polled_at - lag(polled_at)"
        " OVER (PARTITION BY device ORDER BY polled_at)) AS gap FROM samples"
        f" WHERE polled_at > '{since}') gaps"
    )
    assert isinstance(gap, float)
    return gap


def stop_all(hosts: list[Host]) -> None:
    for each in hosts:
        if each.process is not None:
            assert each.end(signal.SIGTERM) == 0


def test_the_inventory_spreads_over_the_shares() -> None:
    counts = [0] * SHARES
    for number in range(2_500):
        counts[share_of(f"r{number // 2}.{'AB'[number % 2]}")] += 1

    assert max(counts) < 2 * 2_500 / SHARES
    assert min(counts) > 0


def test_one_alone_polls_all_at_once(
    hosts: Callable[[int], list[Host]], fleet: Fleet, database_dsn: str
) -> None:
    [only] = hosts(1)
    wait_for("it holds all", lambda: fair(database_dsn, 1), within_s=5)
    wait_for("all devices are stored", only.heard_all, within_s=10)
    stop_all([only])

    assert shares(database_dsn) == {}
    assert only.stored() == fleet.counts()


def test_who_joins_gets_a_fair_part_and_no_answer_is_lost_or_doubled(
    hosts: Callable[[int], list[Host]], fleet: Fleet, database_dsn: str
) -> None:
    [first] = hosts(1)
    wait_for("all devices are stored", first.heard_all)
    others = hosts(2)
    wait_for("three equal parts", lambda: fair(database_dsn, 3))
    before = first.stored()
    wait_for("all are polled", lambda: all(n > before[d] + 4 for d, n in first.stored().items()))
    stop_all([first, *others])

    assert first.stored() == fleet.counts()
    assert longest_gap_s(first, "-infinity") < 6


def test_a_lost_host_is_taken_over_and_its_spool_is_stored_when_it_returns(
    hosts: Callable[[int], list[Host]], fleet: Fleet, database_dsn: str
) -> None:
    first, lost = hosts(2)
    wait_for("two equal parts", lambda: fair(database_dsn, 2))
    wait_for("all devices are stored", first.heard_all)
    time.sleep(2)

    # Stopped first, so that no answer is on its way to a process that is dead.
    _between_polls(fleet)
    lost.kill()
    killed_s, before = time.monotonic(), first.stored()
    wait_for(
        "every device is polled again",
        lambda: all(count > before[device] + 1 for device, count in first.stored().items()),
        within_s=TAKEN_OVER_WITHIN_S,
    )
    print(f"taken over within {time.monotonic() - killed_s:.1f} s")
    lost.start()
    wait_for("it gets its part back", lambda: fair(database_dsn, 2))
    stop_all([first, lost])

    assert first.stored() == fleet.counts()


@pytest.mark.parametrize("whole", [True, False], ids=["host", "main process"])
def test_who_was_stopped_longer_than_its_lease_asks_before_it_polls(
    hosts: Callable[[int], list[Host]], fleet: Fleet, database_dsn: str, whole: bool
) -> None:
    first, stopped = hosts(2)
    wait_for("two equal parts", lambda: fair(database_dsn, 2))
    wait_for("all devices are stored", first.heard_all)
    time.sleep(2)

    _between_polls(fleet)
    send = stopped.tell if whole else stopped.tell_main
    [(asleep,)] = first.rows("SELECT clock_timestamp()::text")
    send(signal.SIGSTOP)
    wait_for("the other holds all", lambda: fair(database_dsn, 1), within_s=TAKEN_OVER_WITHIN_S)
    time.sleep(5)
    send(signal.SIGCONT)
    wait_for("two equal parts again", lambda: fair(database_dsn, 2))
    time.sleep(3)
    stop_all([first, stopped])

    assert "asking what is ours" in stopped.log()
    counted, stored = fleet.counts(), first.stored()
    # The answer on its way when it was stopped may have come to nobody.
    assert {d for d in counted if counted[d] != stored[d]} == set()
    doubled = first.rows(
        "SELECT device, count(*) FROM (SELECT device, extract(epoch FROM polled_at - lag(polled_at)"
        " OVER (PARTITION BY device ORDER BY polled_at)) AS gap FROM samples"
        f" WHERE polled_at > '{asleep}') gaps WHERE gap < {INTERVAL_S / 2} GROUP BY device"
        " HAVING count(*) > 1"
    )
    assert doubled == []


def test_while_postgres_is_away_everybody_goes_on_with_its_own(
    hosts: Callable[[int], list[Host]],
    fleet: Fleet,
    database_dsn: str,
    postgres_cluster: Cluster,
) -> None:
    both = hosts(2)
    wait_for("two equal parts", lambda: fair(database_dsn, 2))
    wait_for("all devices are stored", both[0].heard_all)
    time.sleep(2)
    postgres_cluster.stop()
    try:
        time.sleep(LEASE_S + 4)
    finally:
        postgres_cluster.start()
    wait_for("two equal parts again", lambda: fair(database_dsn, 2))
    time.sleep(2)
    stop_all(both)

    assert both[0].stored() == fleet.counts()
    for host in both:
        assert "were" not in host.log().split("shares: not renewed")[-1]
    doubled = both[0].rows(_CLOSE % (INTERVAL_S / 4))
    assert doubled == []


def _between_polls(fleet: Fleet) -> None:
    counts = fleet.counts()
    wait_for("a round begins", lambda: fleet.counts() != counts)
    settled = fleet.counts()
    time.sleep(INTERVAL_S * 0.1)
    while (now := fleet.counts()) != settled:
        settled = now
