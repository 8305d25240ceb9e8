# SPDX-License-Identifier: GPL-2.0-or-later
"""Cold jobs make way through Slurm: marked, held until the hot job has started, then given back."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from broker.domain.actions import Action, ChargeJob, GiveBack, NotifyJob, ShedJob
from broker.domain.cluster import JobState, SlurmJob
from broker.domain.rules import Rules
from broker.services.observed import Memory, Plan
from broker.services.plan import plan_cycle
from tests.support.builders import (
    GRAPH,
    NOON,
    RULES,
    a_job,
    a_pending_job,
    observed,
    telemetry,
)

WAITED = NOON - timedelta(minutes=1)


def a_full_cold_lane(tier: str = "bronze") -> list[SlurmJob]:
    """Ten nodes at 9,200 W: every token of the site, five in each row."""
    names = ("n01", "n02", "n03", "n05", "n06", "n09", "n10", "n11", "n13", "n14")
    return [
        a_job(10 + number, name, partition="cold", tier=tier) for number, name in enumerate(names)
    ]


def a_hot_job_that_waits(**others: object) -> SlurmJob:
    return a_pending_job(1, tier="gold", tokens_w=9_200, submitted_at=WAITED, **others)


def plan(jobs: list[SlurmJob], memory: Memory | None = None, rules: Rules = RULES) -> Plan:
    return plan_cycle(GRAPH, observed(jobs), memory or Memory(), rules, ())


def of_kind(found: Plan, kind: type[Action]) -> list[Action]:
    return [each for each in found.actions if isinstance(each, kind)]


def test_one_cold_job_makes_way_for_one_node() -> None:
    found = plan([a_hot_job_that_waits(), *a_full_cold_lane()])

    (shed,) = of_kind(found, ShedJob)
    assert "hot job 1 waits for 9.20 kW of tokens on 1 nodes" in shed.because
    assert found.memory.helped == {1: NOON}


def test_the_same_job_is_not_helped_again_at_once() -> None:
    jobs = [a_hot_job_that_waits(), *a_full_cold_lane()]

    assert not of_kind(plan(jobs, plan(jobs).memory), ShedJob)


def test_silver_is_warned_first_and_goes_after_its_notice() -> None:
    jobs = [a_hot_job_that_waits(), *a_full_cold_lane("silver")]
    (warning,) = of_kind(plan(jobs), NotifyJob)
    assert isinstance(warning, NotifyJob)

    told = [
        replace(job, admin_comment=warning.admin_comment) if job.job_id == warning.job_id else job
        for job in jobs
    ]
    assert not of_kind(plan(told), NotifyJob)
    assert not of_kind(plan(told), ShedJob)

    later = replace(RULES, silver_notice=timedelta(0))
    assert [each.target for each in of_kind(plan(told, rules=later), ShedJob)] == [warning.target]


def test_it_is_given_back_when_the_hot_job_runs_and_not_before() -> None:
    jobs = [a_hot_job_that_waits(), *a_full_cold_lane()]
    (shed,) = of_kind(plan(jobs), ShedJob)
    assert isinstance(shed, ShedJob)
    long_ago = NOON - timedelta(seconds=60)
    held = a_pending_job(shed.job_id, partition="cold", priority=0)
    held = replace(
        held, admin_comment=shed.admin_comment.replace(NOON.isoformat(), long_ago.isoformat())
    )

    still_waiting = plan([a_hot_job_that_waits(), held])
    assert not of_kind(still_waiting, GiveBack)

    running = a_job(1, "n01", tier="gold", state=JobState.RUNNING)
    (back,) = of_kind(plan([running, held]), GiveBack)
    assert back.target == str(shed.job_id)


def test_nobody_makes_way_while_a_meter_is_lost() -> None:
    jobs = [a_hot_job_that_waits(), *a_full_cold_lane()]
    blind = plan_cycle(
        GRAPH, observed(jobs, meters=telemetry(replaced={"r3.A": ()})), Memory(), RULES, ()
    )

    assert not of_kind(blind, ShedJob)


def test_a_job_whose_owner_changed_its_envelope_is_described_anew() -> None:
    changed = a_pending_job(
        7,
        tokens_w=5_000,
        comment="power: max=6kW tier=bronze",
        marks={"tokens_w_per_node": 9_000, "charge_w": 10_000},
    )
    (charge,) = of_kind(plan([changed]), ChargeJob)

    assert isinstance(charge, ChargeJob)
    assert charge.tokens_w_per_node == 5_000
    assert '"charge_w":6000' in charge.admin_comment
    assert '"ticket":"T7"' in charge.admin_comment


def test_tokens_that_an_administrator_set_by_hand_are_left_alone() -> None:
    by_hand = a_pending_job(7, tokens_w=4_000, marks={"tokens_w_per_node": 9_200})

    assert not of_kind(plan([by_hand]), ChargeJob)
