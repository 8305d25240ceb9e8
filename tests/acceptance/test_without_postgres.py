# SPDX-License-Identifier: GPL-2.0-or-later
"""A minute without Postgres: jobs start, an overload is shed, and no reading is lost or doubled."""

from __future__ import annotations

import time

import pytest

from tests.acceptance import head, oracle

pytestmark = pytest.mark.lab

AWAY_S = 60


def test_a_minute_without_postgres_costs_no_reading_and_no_safety() -> None:
    words = "--comment=power: max=10kW tier=bronze"
    jobs = [head.submit("bob", "-w", node, words, load="9kW") for node in ("n01", "n02", "n03")]
    head.wait_running(*jobs)
    head.run("systemctl", "stop", head.COLLECTOR)
    answered_before, stored_before = head.answers(), _stored()
    head.run("systemctl", "start", head.COLLECTOR)
    head.wait("every meter to be good", lambda: head.rack("r1")["state"] == "ok")

    with oracle.watching():
        head.run("systemctl", "stop", head.POSTGRES)
        back_at = time.monotonic() + AWAY_S
        # Nobody sees what is drawn now: running jobs go on, and new ones are not let past tokens.
        started = head.submit("alice", "-w", "n09", "--comment=power: max=3kW", script="sleep 600")
        assert head.state(started), "accepted by the state file"
        head.wait("the minute to pass", lambda: time.monotonic() > back_at, within_s=AWAY_S + 5)
        assert all(head.is_running(job) for job in jobs)
        assert all(head.is_active(unit) for unit in (head.BROKER, head.COLLECTOR))
        head.run("systemctl", "start", head.POSTGRES)
        head.wait("the broker to see every rack", _all_seen, within_s=30)
        head.wait_running(started)
    assert not [job for job in jobs if head.restarts(job)], "nothing was shed blindly"

    dark = head.answers()
    head.wait("the spool to be stored", lambda: _covers(dark, answered_before, stored_before))
    head.run("systemctl", "stop", head.COLLECTOR)  # it stores what it has before it ends
    answered = _grew(head.answers(), answered_before)
    stored = _grew(_stored(), stored_before)
    print(f"{sum(answered.values())} answers of {len(answered)} devices, all stored once")
    assert stored == answered
    assert min(answered.values()) >= AWAY_S / 2 * 0.9


def _stored() -> dict[str, int]:
    rows = head.sql("select device, count(*) from samples group by device")
    return {device: int(count) for device, count in rows}


def _grew(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {device: count - before.get(device, 0) for device, count in now.items()}


def _covers(dark: dict[str, int], answered: dict[str, int], stored: dict[str, int]) -> bool:
    grown = _grew(_stored(), stored)
    return all(grown.get(each, 0) >= count for each, count in _grew(dark, answered).items())


def _all_seen() -> bool:
    done = head.powermgr("--json", "show", "rack")
    return done.status == 0 and all(row["state"] == "ok" for row in head.rows("show", "rack"))
