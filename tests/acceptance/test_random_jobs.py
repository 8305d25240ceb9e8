# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hundred random jobs: no limit passed at any sample, no job lost, none starved."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance import head, oracle
from tests.acceptance.wishes import Wish, wishes

pytestmark = pytest.mark.lab

JOBS, SEED = 200, 20261
ALL_ENDED_WITHIN_S = 150
DISTURBED = 12  #: jobs requeued or cancelled midway


def test_two_hundred_random_jobs_pass_no_limit_and_all_end() -> None:
    wanted = wishes(SEED, JOBS)
    head.fleet("reset-max")
    began = time.monotonic()
    with oracle.watching() as watch:
        with ThreadPoolExecutor(2) as users:
            submitted = users.map(_submit_all, (_of(wanted, "alice"), _of(wanted, "bob")))
            cancelled = _disturb(random.Random(SEED))
            accepted = [each for found in submitted for each in found]
        head.wait("every job to end", head.queue_is_empty, within_s=ALL_ENDED_WITHIN_S)
    took_s = time.monotonic() - began
    status = head.fleet_status()
    print(f"{JOBS} jobs in {took_s:.0f} s, {len(accepted)} submissions, {len(cancelled)} cancelled")
    print({rack: facts["max_draw_w"] for rack, facts in status["racks"].items()})

    oracle.drawn_within(watch.plant, status, limit="burst_w")
    # No job drew more than it was charged, so neither did any rack.
    oracle.drawn_within(watch.plant, status, limit="safe_w")
    assert took_s <= ALL_ENDED_WITHIN_S
    ended = _ended_jobs()
    for job, wish, _ in accepted:
        tasks = [each for each in ended if each["array"] == job or each["job"] == job]
        assert len(tasks) == wish.tasks, f"job {job} of {wish}: {tasks}"
        for task in tasks:
            assert task["licenses"] == f"power:{wish.tokens_w}", f"{wish}: {task}"
            allowed = {"COMPLETED", *(["CANCELLED"] if task["job"] in cancelled else [])}
            assert task["state"] in allowed, f"{wish}: {task}"
    _every_ticket_is_in_the_ledger([said for _, _, said in accepted])


def _of(wanted: Sequence[Wish], user: str) -> list[Wish]:
    return [each for each in wanted if each.user == user]


def _submit_all(wanted: list[Wish]) -> list[tuple[str, Wish, str]]:
    """(job, wish, ticket); every one of these fits some day, so every one is accepted."""
    accepted = []
    for wish in wanted:
        done = head.sbatch(wish.user, *wish.options, load=f"{wish.load_w}W", script=wish.script)
        assert done.status == 0, f"{wish}: {done.text}"
        accepted.append((done.out.strip(), wish, head.ticket(done.err)))
    return accepted


def _disturb(dice: random.Random) -> set[str]:
    """Requeue or cancel a running job every second or so; returns those that were cancelled."""
    cancelled: set[str] = set()
    for number in range(DISTURBED):
        running = head.wait("a running job", _running)
        job = dice.choice(running)
        if number % 3:
            head.run("scontrol", "requeue", job, check=False)  # it may have just ended
        else:
            head.run("scancel", job, check=False)
            cancelled.add(job)
        time.sleep(dice.uniform(0.5, 2))  # the dice's, not for anything to happen
    return cancelled


def _running() -> list[str]:
    """Without tasks of arrays: the last one bears the whole array's number."""
    found = head.run("squeue", "-h", "-t", "R", "-o", "%i", check=False).out.split()
    return [each for each in found if "_" not in each]


def _ended_jobs() -> list[dict[str, str]]:
    keys = {"job": "JobId", "array": "ArrayJobId", "state": "JobState", "licenses": "Licenses"}
    return [
        {
            name: found[1] if (found := re.search(rf"(?:^|\s){key}=(\S+)", line)) else ""
            for name, key in keys.items()
        }
        for line in head.run("scontrol", "-o", "show", "job").out.splitlines()
    ]


def _every_ticket_is_in_the_ledger(tickets: list[str]) -> None:
    assert len(set(tickets)) == len(tickets)

    def missing() -> set[str]:
        told = head.rows("show", "decision", "limit=5000")
        return set(tickets) - {each["ticket"] for each in told}

    head.wait("the verdicts to be read", lambda: not missing(), within_s=10)
