# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector as installed: its unit, its user, the lab's own Postgres and fleet."""

import json
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest

pytestmark = pytest.mark.lab

COLLECTOR, POSTGRES = "powercollectord", "postgresql"
AWAY_S = 10


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def sql(statement: str) -> list[list[str]]:
    said = run(
        *("runuser", "-u", "powercollect", "--", "psql", "-d", "power_broker"),
        *("-AtF", "|", "-c", statement),
    )
    return [line.split("|") for line in said.splitlines()]


def answered() -> dict[str, int]:
    """What the fleet counted: answered power polls per device."""
    counts: dict[str, int] = json.loads(run("fleet", "counts", "--json"))
    return counts


def stored() -> dict[str, int]:
    return {d: int(n) for d, n in sql("SELECT device, count(*) FROM samples GROUP BY device")}


def wait_for(what: str, condition: Callable[[], bool], *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.2)


def grew(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {device: count - before.get(device, 0) for device, count in now.items()}


@pytest.fixture
def services() -> Iterator[None]:
    """Whatever a test stops runs again afterwards."""
    yield
    run("systemctl", "start", POSTGRES)
    run("systemctl", "reset-failed", COLLECTOR)
    run("systemctl", "start", COLLECTOR)


def test_every_device_of_the_inventory_is_read_and_fresh() -> None:
    wait_for(
        "24 good devices, none older than 4 s",
        lambda: (
            sql(
                "SELECT count(*) FROM latest WHERE quality = 'good' AND silent_since IS NULL"
                " AND polled_at > now() - interval '4 s'"
            )
            == [["24"]]
        ),
    )


@pytest.mark.usefixtures("services")
def test_postgres_away_and_a_killed_collector_lose_no_answer_and_double_none() -> None:
    run("systemctl", "stop", COLLECTOR)
    answered_before, stored_before = answered(), stored()
    run("systemctl", "start", COLLECTOR)
    wait_for("it polls", lambda: min(grew(answered(), answered_before).values()) >= 2)

    run("systemctl", "stop", POSTGRES)
    away_until = time.monotonic() + AWAY_S
    wait_for("polls in the dark", lambda: time.monotonic() > away_until - AWAY_S / 2)
    _kill_between_polls()
    wait_for("more of them", lambda: time.monotonic() > away_until)
    run("systemctl", "start", POSTGRES)

    dark = answered()
    wait_for(
        "the spool is stored",
        lambda: all(
            count >= grew(dark, answered_before)[device]
            for device, count in grew(stored(), stored_before).items()
        ),
    )
    run("systemctl", "stop", COLLECTOR)
    assert grew(stored(), stored_before) == grew(answered(), answered_before)


def _kill_between_polls() -> None:
    """An answer on its way at the instant of the kill has nobody to keep it: choose a pause."""
    begun = answered()
    wait_for("a round begins", lambda: answered() != begun)
    settled = begun
    while (now := answered()) != settled:
        settled = now
        time.sleep(0.3)
    run("systemctl", "kill", "--signal=SIGKILL", "--kill-whom=main", COLLECTOR)
