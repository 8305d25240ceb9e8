# SPDX-License-Identifier: GPL-2.0-or-later
"""A rack draws more than it was promised: fence, requeue by tier, give back; never cancel."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.acceptance import head

pytestmark = pytest.mark.lab

FENCE_WITHIN_S, UNDER_WITHIN_S = 4, 15


def test_a_rack_full_of_bronze_is_fenced_and_back_under_its_limit_in_time() -> None:
    jobs = [_job("bob", node, "bronze", charge="10kW", load="9kW") for node in ("n09", "n10")]
    jobs.append(_job("alice", "n11", "bronze", charge="10kW", load="9kW"))
    head.wait_running(*jobs)
    head.wait("their draw on the meters", lambda: (head.rack("r3")["draw_w"] or 0) > 30_500)

    began = time.time()
    head.fleet("extra", "r3", "15kW")
    head.wait("the fence", lambda: head.fenced("r3"), within_s=20)
    fenced_at = time.time()
    under = head.wait("it under the limit", lambda: _event("under-limit", began), within_s=30)
    over = _event("over-limit-answer", began)

    assert over is not None
    fence_s, under_s = fenced_at - over["at"], under["at"] - over["at"]
    print(f"fence after {fence_s:.1f} s, under the limit after {under_s:.1f} s")
    assert fence_s <= FENCE_WITHIN_S
    assert under_s <= UNDER_WITHIN_S
    shed = [job for job in jobs if not head.is_running(job)]
    # 15 kW more than idle and three times 9 kW: two of them are enough, one is not.
    assert len(shed) == 2, f"shed: {shed}"
    for job in shed:
        assert head.state(job).startswith("PENDING")
        assert head.powermgr("why", str(job), user="bob").out.count("rack r3 draws") >= 1

    head.fleet("reset")
    head.wait_running(*jobs, within_s=40)
    head.wait("the fence to go", lambda: not head.fences())
    for job in jobs:
        assert len(_rows("ShedJob", job)) == head.restarts(job) == (job in shed)
        assert len(_rows("GiveBack", job)) == (job in shed)


def test_bronze_goes_at_once_silver_after_notice_gold_and_the_unrequeueable_never(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    noted = f"/tmp/notice-{time.time_ns()}"
    trap = f"trap 'echo noticed > {noted}' USR1; for i in $(seq 600); do sleep 1; done"
    bronze = _job("bob", "n13", "bronze")
    stubborn = _job("bob", "n14", "bronze", "--no-requeue")
    silver = _job("alice", "n15", "silver", script=trap)
    gold = _job("alice", "n16", "gold")
    head.wait_running(bronze, stubborn, silver, gold)
    head.wait("their draw on the meters", lambda: (head.rack("r4")["draw_w"] or 0) > 29_000)

    head.fleet("extra", "r4", "6kW")  # 30 + 6: one job's 6.5 kW is enough
    head.wait("bronze to be shed", lambda: not head.is_running(bronze), within_s=20)
    head.wait("it under the limit", lambda: _drawn("r4") <= 32_000)
    assert all(head.is_running(job) for job in (stubborn, silver, gold))
    assert not _rows("NotifyJob", silver)

    began = time.time()
    head.fleet("extra", "r4", "12kW")  # 4 + 19.5 + 12: silver must go, after its notice
    head.wait("silver to be warned", lambda: _rows("NotifyJob", silver))
    warned_at = time.time()
    assert head.is_running(silver)
    head.wait("silver to be shed", lambda: not head.is_running(silver))
    notice_s = time.time() - warned_at
    print(f"silver warned after {warned_at - began:.1f} s, shed {notice_s:.1f} s later")
    assert notice_s >= 3, "silver was told of 5 s, and looked at up to 2 s late"
    assert head.run("cat", noted).out == "noticed\n"
    head.wait("it under the limit", lambda: _drawn("r4") <= 32_000)

    head.fleet("extra", "r4", "25kW")  # nothing is left that may be shed
    head.wait("the broker to say so", lambda: "nothing left to shed" in _sentence())
    head.stays("they run", lambda: head.is_running(gold) and head.is_running(stubborn), for_s=3)

    head.fleet("reset")
    head.wait_running(bronze, silver, stubborn, gold, within_s=40)
    head.wait("the fence to go", lambda: not head.fences())
    for job, times in {bronze: 1, silver: 1, stubborn: 0, gold: 0}.items():
        assert len(_rows("ShedJob", job)) == head.restarts(job) == times
    for each in head.actions():
        assert each["because"], each
        assert each["outcome"] in {"done", "refused"}, each


def _job(
    user: str,
    node: str,
    tier: str,
    *options: str,
    charge: str = "8kW",
    load: str = "6.5kW",
    script: str = "sleep 600",
) -> int:
    comment = f"--comment=power: max={charge} tier={tier}"
    return head.submit(user, "-w", node, comment, *options, load=load, script=script)


def _event(name: str, since: float) -> dict[str, Any] | None:
    return head.fleet_event(name, since, rack="r3")


def _rows(kind: str, job: int) -> list[dict[str, Any]]:
    return head.actions(f"kind={kind}", f"target={job}")


def _drawn(rack: str) -> float:
    return float(head.fleet_status()["racks"][rack]["draw_w"])


def _sentence() -> str:
    return str(head.rows("show", "broker")[0]["last_sentence"])
