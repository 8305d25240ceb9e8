# SPDX-License-Identifier: GPL-2.0-or-later
"""Daemons are killed, frozen and restarted under load: no limit is passed and nothing is lost."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.acceptance import head, oracle
from tests.acceptance.wishes import a_wish

pytestmark = pytest.mark.lab

SEED = 4
FROZEN_S = 15
START_S = 5  #: a new broker's own start, before its first cycle


def test_the_broker_is_killed_at_random_moments_and_finds_its_way_back() -> None:
    dice = random.Random(SEED)
    with oracle.watching(), _load(SEED) as ran:
        head.wait("jobs", lambda: len(ran()) >= 10)
        for _ in range(3):
            time.sleep(dice.uniform(0.2, 2.5))  # the dice's moment
            _kill_broker_and_compare()
        name = "launch"
        words = ("rack=r4", "watts=10kW", "nodes=1", "start=now+20minutes", "duration=5")
        done = head.powermgr("-i", "add", "reservation", f"name={name}", *words, "account=ml")
        _kill_broker_and_compare()
        assert done.status == 0, done.text
        assert "pw-launch" in head.slurm_reservations()
        before = len(ran())
        head.wait("more jobs to run", lambda: len(ran()) > before + 5)


def test_the_broker_is_killed_while_it_sheds_and_no_job_is_shed_twice() -> None:
    nodes = ("n05", "n06", "n07")
    words = "--comment=power: max=10kW tier=bronze"
    jobs = [head.submit("bob", "-w", node, words, load="9kW") for node in nodes]
    head.wait_running(*jobs)
    head.wait("their draw on the meters", lambda: (head.rack("r2")["draw_w"] or 0) > 30_500)
    began = time.time()
    with oracle.watching():
        head.fleet("extra", "r2", "15kW")
        head.wait("a shed to begin", _shed_begun)
        _kill_broker_and_compare()
        head.wait(
            "it under the limit",
            lambda: head.fleet_event("under-limit", began, rack="r2"),
            within_s=20,
        )
        head.fleet("reset")
        head.wait_running(*jobs, within_s=40)
    assert sorted(head.restarts(job) for job in jobs) == [0, 1, 1]


def test_a_frozen_broker_harms_nobody_while_it_sleeps_or_when_it_wakes() -> None:
    with oracle.watching(), _load(SEED + 1) as ran:
        head.wait("jobs", lambda: len(ran()) >= 6)
        pid = str(head.pid_of(head.BROKER))
        head.run("kill", "-STOP", pid)
        try:
            asleep_until = time.monotonic() + FROZEN_S
            before = len(ran())
            head.wait("jobs to start without it", lambda: len(ran()) > before + 3)
            head.wait("it to have slept", lambda: time.monotonic() > asleep_until)
        finally:
            head.run("kill", "-CONT", pid)
        head.wait("it to look again", lambda: _looked_since_wake(pid))
        _wait_in_order()


def test_slurmctld_restarts_and_the_broker_goes_on() -> None:
    with oracle.watching() as watch, _load(SEED + 2) as ran:
        head.wait("jobs", lambda: len(ran()) >= 6)
        before, layers = head.pid_of(head.BROKER), head.layers_in_slurm()
        head.run("systemctl", "restart", "slurmctld")
        head.wait("slurmctld", lambda: head.layers_in_slurm() == layers)
        head.wait_cycles(2)
        seen = len(ran())
        head.wait("more jobs to run", lambda: len(ran()) > seen + 3)
        assert head.pid_of(head.BROKER) == before
    assert watch.samples > watch.unanswered


def test_a_killed_collector_comes_back_and_goes_on() -> None:
    before = head.pid_of(head.COLLECTOR)
    head.run("systemctl", "kill", "-s", "KILL", "--kill-whom=main", head.COLLECTOR)
    head.wait_restarted(head.COLLECTOR, before)
    fresh = "select count(*) from latest where good_at > now() - interval '3 s'"
    head.wait("every device to be read anew", lambda: head.sql(fresh) == [["24"]])


# -------------------------------------------------------------------------------------------------


@contextmanager
def _load(seed: int) -> Iterator[Callable[[], set[str]]]:
    """Random jobs, always some waiting; gives all that were seen running or done."""
    stop, started = threading.Event(), set[str]()
    wrong: list[str] = []

    def submit() -> None:
        dice = random.Random(seed)
        while not stop.is_set():
            queue = head.run("squeue", "-h", "-o", "%i %t", check=False).out.split("\n")
            started.update(line.split()[0] for line in queue if line.endswith(" R"))
            if sum(line.endswith(" PD") for line in queue) < 4:
                wish = a_wish(dice)
                load, script = f"{wish.load_w}W", wish.script
                done = head.sbatch(wish.user, *wish.options, load=load, script=script)
                # slurmctld itself may be away; a verdict that says no is a mistake.
                if "rejected" in done.text:
                    wrong.append(done.text)
            stop.wait(0.1)

    thread = threading.Thread(target=submit)
    thread.start()
    try:
        yield lambda: set(started)
    finally:
        stop.set()
        thread.join()
    assert not wrong, wrong


def _kill_broker_and_compare() -> None:
    running = _jobs("R")
    before = head.pid_of(head.BROKER)
    head.run("systemctl", "kill", "-s", "KILL", head.BROKER)
    killed_at = time.monotonic()
    head.wait_restarted(head.BROKER, before)
    head.wait("its first cycle", head.last_cycle)
    restarted_s = time.monotonic() - killed_at
    _wait_in_order()
    print(f"a cycle after {restarted_s:.1f} s, in order after {time.monotonic() - killed_at:.1f} s")
    lost = running - _jobs("R,CG,PD") - _ended()
    assert not lost, f"jobs that nobody knows any more: {lost}"


def _wait_in_order() -> None:
    head.wait("Slurm to match the ledger", _in_order, within_s=START_S + 2 * head.CYCLE_S)


def _in_order() -> bool:
    """Every open reservation is in Slurm and no other, and slurmctld has what the file says."""
    opened = {
        f"pw-{name}"
        for (name,) in head.sql("select name from reservations where state in ('pending','active')")
    }
    found = {name for name in head.slurm_reservations() if name.startswith("pw-")}
    found -= {name for name in found if name.startswith("pw-fence-")}
    intents = head.sql(
        "select id from actions where outcome = 'intent' and at > now() - '3 s'::interval"
    )
    return found == opened and not intents and head.layers_in_slurm() == head.layers_in_file()


def _jobs(states: str) -> set[str]:
    return set(head.run("squeue", "-h", "-t", states, "-o", "%A").out.split())


def _ended() -> set[str]:
    said = head.run("scontrol", "-o", "show", "job").out
    return set(re.findall(r"JobId=(\d+) .*?JobState=(?:COMPLETED|CANCELLED) ", said))


def _shed_begun() -> bool:
    rows = head.sql("select 1 from actions where kind = 'ShedJob' and at > now() - '3 s'::interval")
    return bool(rows)


def _looked_since_wake(pid: str) -> bool:
    assert int(pid) == head.pid_of(head.BROKER), "it woke and ended"
    seconds = head.sql("select extract(epoch from now())::int")[0][0]
    written = re.search(r"written_at=(\d+)", head.STATE_FILE.read_text())
    return written is not None and int(seconds) - int(written[1]) <= 2
