# SPDX-License-Identifier: GPL-2.0-or-later
"""What one cycle decides: pure, so the same observation and memory give the same plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from broker.domain.actions import (
    Action,
    ChargeJob,
    GiveBack,
    MoveReservation,
    NotifyJob,
    SetFence,
    ShedJob,
)
from broker.domain.cluster import JobState, SlurmJob
from broker.domain.ladder import Shed
from broker.domain.reservation import ReservationState
from broker.domain.switches import Mode
from broker.services.observed import Memory, Observed, Plan
from broker.services.plan import plan_cycle
from broker.services.plan_tokens import in_force, plan_tokens
from broker.services.remember import forget_relief
from tests.support.builders import (
    A_MINUTE,
    A_SECOND,
    NOON,
    RULES,
    a_graph,
    a_job,
    a_pending_job,
    a_reading,
    a_reservation,
    a_shed_job,
    a_view,
    observed,
    telemetry,
)

GRAPH = a_graph(row_w=100_000, site_w=200_000)  # only racks bind
OVER = telemetry(draws_w={"r1": 36_000}, bmc_w={"n01": 9_000, "n02": 9_000})
ALL_R1 = ("n01", "n02", "n03", "n04")


def plan(seen: Observed, memory: Memory | None = None) -> Plan:
    _, pools = plan_tokens(GRAPH, seen, RULES)
    return plan_cycle(GRAPH, seen, memory or Memory(), RULES, pools)


def brief(actions: Sequence[Action]) -> list[str]:
    """Kind and target of each action."""
    return [
        f"{each.kind} {each.target}"
        + (f" {','.join(each.nodes)}" if isinstance(each, SetFence) else "")
        for each in actions
    ]


FENCE_R1 = "SetFence r1 n01,n02,n03,n04"
CASES: dict[str, tuple[Observed, list[str]]] = {
    "nothing runs": (observed(), []),
    "all is well": (observed([a_job(1, "n01"), a_job(2, "n05,n06")]), []),
    "a bronze job in a rack over its limit": (
        observed([a_job(1, "n01"), a_job(2, "n09")], meters=OVER),
        [FENCE_R1, "ShedJob 1"],
    ),
    "a silver one": (
        observed([a_job(1, "n01", tier="silver")], meters=OVER),
        [FENCE_R1, "NotifyJob 1"],
    ),
    "a gold one": (observed([a_job(1, "n01", tier="gold")], meters=OVER), [FENCE_R1]),
    "a job that is on its way out is not shed": (
        observed([a_job(1, "n01", state=JobState.COMPLETING)], meters=OVER),
        [FENCE_R1],
    ),
    "a suspended one neither": (
        observed([a_job(1, "n01", state=JobState.SUSPENDED)], meters=OVER),
        [FENCE_R1],
    ),
    "a lost meter: the rack counts as full, nobody is shed": (
        observed(
            [a_job(1, "n01")],
            meters=telemetry(draws_w={"r1": 13_200}, replaced={"r1.A": []}),
        ),
        [FENCE_R1],
    ),
    "a job without tokens is charged": (
        observed([a_job(1, "n01", tokens_w=None)]),
        ["ChargeJob 1"],
    ),
    "so is a pending one that names both partitions": (
        observed([a_pending_job(1, tokens_w=None, partition="hot,cold")]),
        ["ChargeJob 1"],
    ),
    "one in a partition without power is left alone": (
        observed([a_job(1, "n01", tokens_w=None, partition="debug")]),
        [],
    ),
    "one that ends is left alone": (
        observed([a_job(1, "n01", tokens_w=None, state=JobState.COMPLETING)]),
        [],
    ),
    "a job held by a hook without state is released": (
        observed([a_pending_job(1, priority=0, marks={"reason": "StateMissing"})]),
        ["GiveBack 1"],
    ),
    "one that has no tokens either is charged first": (
        observed([a_pending_job(1, tokens_w=None, priority=0, marks={"reason": "StateMissing"})]),
        ["ChargeJob 1"],
    ),
    "a job that its user holds is left alone": (observed([a_pending_job(1, priority=0)]), []),
    "a shed job comes back when all is calm": (observed([a_shed_job(1)]), ["GiveBack 1"]),
    "not so soon, though nobody remembers": (observed([a_shed_job(1, ago=15 * A_SECOND)]), []),
    "not while a layer is over": (
        observed([a_shed_job(1)], meters=OVER),
        [FENCE_R1],
    ),
    "a fence of a rack that is gone": (
        observed(view=a_view(fences={"r9": "n99"}, extra_nodes="n99")),
        ["SetFence r9 "],
    ),
    "nodes that Slurm does not know are no reason to be refused": (
        observed(
            view=a_view([a_job(1, "n01", tier="gold")], unknown="n03", extra_nodes="login1"),
            meters=OVER,
        ),
        ["SetFence r1 n01,n02,n04"],
    ),
    "a reservation of ours that nobody knows": (
        observed(view=a_view(reservations={"pw-ghost": "n05", "maint": "n06"})),
        ["DropReservation pw-ghost"],
    ),
}


@pytest.mark.parametrize(("seen", "want"), CASES.values(), ids=CASES.keys())
def test_actions(seen: Observed, want: list[str]) -> None:
    assert brief(plan(seen).actions) == want
    assert plan(seen) == plan(seen)


def test_without_slurm_s_reservations_a_ledger_s_one_is_made_again() -> None:
    found = plan(observed(reservations=[a_reservation()]))

    assert brief(found.actions) == ["MoveReservation launch", "KeepReservation launch"]
    moved = found.actions[0]
    assert isinstance(moved, MoveReservation)
    assert moved.state is ReservationState.ACTIVE


ACTIVE = {"state": ReservationState.ACTIVE, "reason": "its watts are free"}
IN_SLURM = {"pw-launch": "n05,n06"}
RESERVED: dict[str, tuple[dict[str, Any], dict[str, str], list[SlurmJob], list[str]]] = {
    "in order": (ACTIVE, IN_SLURM, [], []),
    "an administrator changed its nodes": (
        ACTIVE,
        {"pw-launch": "n05,n07"},
        [],
        ["DropReservation pw-launch", "KeepReservation launch"],
    ),
    "Slurm gives its nodes in another order": (ACTIVE, {"pw-launch": "n06,n05"}, [], []),
    "it has no nodes any more": (
        ACTIVE,
        {"pw-launch": ""},
        [],
        ["DropReservation pw-launch", "KeepReservation launch"],
    ),
    "its window is over": (
        {**ACTIVE, "starts_at": NOON - 2 * A_MINUTE, "ends_at": NOON},
        IN_SLURM,
        [],
        ["MoveReservation launch", "DropReservation pw-launch"],
    ),
    "unused for longer than the grace period": (
        {**ACTIVE, "starts_at": NOON - 11 * A_MINUTE},
        IN_SLURM,
        [],
        ["MoveReservation launch", "DropReservation pw-launch"],
    ),
    "in use: that is noted": (
        ACTIVE,
        IN_SLURM,
        [a_job(1, "n05", reservation="pw-launch")],
        ["MoveReservation launch"],
    ),
    "in use, and that was noted some seconds ago": (
        {**ACTIVE, "starts_at": NOON - 29 * A_MINUTE, "used_at": NOON - 5 * A_SECOND},
        IN_SLURM,
        [a_job(1, "n05", reservation="pw-launch")],
        [],
    ),
    # No fence: Slurm hands out no more of the pool than they have freed.
    "outsiders hold its watts": (
        {},
        IN_SLURM,
        [a_job(1, "n07"), a_job(2, "n08")],
        ["MoveReservation launch"],
    ),
}


@pytest.mark.parametrize(
    ("its", "in_slurm", "jobs", "want"), RESERVED.values(), ids=RESERVED.keys()
)
def test_reservations(
    its: dict[str, Any], in_slurm: dict[str, str], jobs: list[SlurmJob], want: list[str]
) -> None:
    seen = observed(view=a_view(jobs, reservations=in_slurm), reservations=[a_reservation(**its)])

    assert brief(plan(seen).actions) == want


def test_of_two_reservations_on_one_node_the_later_waits_for_the_end_of_the_earlier() -> None:
    later = a_reservation("later", starts_at=NOON + 40 * A_MINUTE, ends_at=NOON + 60 * A_MINUTE)
    seen = observed(reservations=[later, a_reservation()])

    assert [each.name for each in in_force(seen, RULES)] == ["launch"]
    keep, _ = plan_tokens(GRAPH, seen, RULES)
    sets = [frozenset(layer.nodes) for layer in keep.layers]
    assert len(sets) == len(set(sets))


@dataclass(frozen=True)
class Story:
    """What is seen second by second; wanted are the actions of each."""

    frames: list[tuple[float, Observed]]
    want: list[list[str]]
    memory: Memory = field(default_factory=Memory)


def at(seconds: float, jobs: Sequence[SlurmJob] = (), **others: Any) -> tuple[float, Observed]:
    now = NOON + timedelta(seconds=seconds)
    draws = others.pop("draws_w", {})
    fences = others.pop("fences", {})
    bmc_w = {"n01": 9_000, "n02": 9_000}
    meters = telemetry(draws_w=draws, now=now, bmc_w=bmc_w)
    view = a_view(jobs, now=now, fences=fences)
    return seconds, observed(view=view, meters=meters, now=now, **others)


HOT = {"r1": 36_000}
R1 = {"r1": "n01,n02,n03,n04"}
BRONZE = [a_job(1, "n01"), a_job(2, "n02")]
STORIES = {
    "a shed job is not shed again, nor another, while it is under way": Story(
        [at(0, BRONZE, draws_w=HOT), at(1, BRONZE, draws_w=HOT, fences=R1)],
        [[FENCE_R1, "ShedJob 2"], []],
    ),
    "one that does not help in time is followed by the next": Story(
        [at(0, BRONZE, draws_w=HOT), at(11, BRONZE[:1], draws_w=HOT, fences=R1)],
        [[FENCE_R1, "ShedJob 2"], ["ShedJob 1"]],
    ),
    "a fence is taken away after a calm while": Story(
        [at(0, draws_w=HOT), at(5, fences=R1), at(19, fences=R1), at(21, fences=R1)],
        [[FENCE_R1], [], [], ["SetFence r1 "]],
    ),
    "of a wide fence what is not needed goes, though the rest is": Story(
        [at(s, draws_w={"r1": 21_000}, fences=R1) for s in (0, 10, 19, 21)],
        [[], [], [], ["SetFence r1 n01,n02,n03"]],
    ),
    "a broker that was just started waits as long": Story(
        [at(0, fences=R1), at(19, fences=R1), at(21, fences=R1)],
        [[], [], ["SetFence r1 "]],
    ),
    "what jobs drew that have just ended is not fenced, nor for ever left alone": Story(
        [
            at(0, BRONZE, draws_w={"r1": 21_000}),
            at(1, draws_w={"r1": 21_000}),
            at(6, draws_w={"r1": 21_000}),
            at(8, draws_w={"r1": 21_000}),
        ],
        [[], [], [], ["SetFence r1 n01,n02,n03"]],
    ),
    "but above the limit it is, at once": Story(
        [at(0, BRONZE), at(1, draws_w=HOT)],
        [[], [FENCE_R1]],
    ),
    "a clock that is set back an hour holds nothing up for an hour": Story(
        [
            at(3_600, BRONZE, draws_w=HOT),
            at(0, BRONZE, draws_w=HOT, fences=R1),
            at(11, fences=R1),
            at(32, fences=R1),
        ],
        [[FENCE_R1, "ShedJob 2"], ["ShedJob 2"], [], ["SetFence r1 "]],
    ),
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES.keys())
def test_story(story: Story) -> None:
    memory, told = story.memory, []
    for _, seen in story.frames:
        found = plan(seen, memory)
        memory = found.memory
        told.append(brief(found.actions))

    assert told == story.want


def test_a_shed_is_remembered_by_its_mark_when_the_broker_was_restarted() -> None:
    """The job is gone from its node; what it drew still shows for some seconds."""
    marks = {"held": True, "shed_at": NOON.isoformat(), "shed_w": 8_000, "shed_from": "r1"}
    shed = a_pending_job(1, marks=marks, priority=0)

    found = plan(observed([shed, a_job(2, "n02")], meters=OVER))

    assert brief(found.actions) == [FENCE_R1]


def test_what_slurm_would_not_requeue_gives_no_relief() -> None:
    memory = Memory(under_way=(Shed(1, ("n01",), 8_000, NOON),))
    seen = observed([a_job(1, "n01"), a_job(2, "n02")], meters=OVER)

    assert "ShedJob 2" not in brief(plan(seen, memory).actions)
    assert "ShedJob 2" in brief(plan(seen, forget_relief(memory, {1})).actions)


@pytest.mark.parametrize("marks", [{"reason": "StateMissing"}, a_shed_job().admitted])
def test_a_held_job_that_is_charged_is_released_all_the_same(marks: dict[str, Any]) -> None:
    held = a_pending_job(1, tokens_w=None, priority=0, marks=marks)

    (charge,) = plan(observed([held])).actions
    assert isinstance(charge, ChargeJob)
    licenses = f"power:{charge.tokens_w_per_node}"
    charged = replace(held, licenses=licenses, admin_comment=charge.admin_comment)

    assert brief(plan(observed([charged])).actions) == ["GiveBack 1"]


def test_a_shed_job_carries_what_is_needed_to_give_it_back() -> None:
    shed = plan(observed([a_job(1, "n01")], meters=OVER)).actions[1]
    assert isinstance(shed, ShedJob)
    held = a_pending_job(1, priority=0, admin_comment=shed.admin_comment)

    back = plan(observed([held], now=NOON + A_MINUTE)).actions
    assert isinstance(back[0], GiveBack)

    assert json.loads(back[0].admin_comment) == a_job(1, "n01").admitted


@pytest.mark.parametrize(
    "until", ["soon", "2026-11-21T11:59:59", None, 7, "2026-11-21T11:59:59+00:00"]
)
def test_marks_that_somebody_edited_are_no_crash(until: object) -> None:
    marks = {"notice_until": until, "shed_at": until, "held": True, "shed_w": "x", "shed_from": []}
    jobs = [a_job(1, "n01", tier="silver", marks=marks), a_pending_job(2, priority=0, marks=marks)]

    kinds = [type(each) for each in plan(observed(jobs, meters=OVER)).actions]

    assert kinds == [SetFence, ShedJob if until == "2026-11-21T11:59:59+00:00" else NotifyJob]


DOWN = {"n01": "DOWN*"}
SILENT: dict[str, tuple[dict[str, int], dict[str, Any], int]] = {
    "a node that went down with a job counts at its charge": (
        {"n01": 7_000},
        {"n01.bmc": []},
        7_000,
    ),
    "its maximum where nobody remembers": ({}, {"n01.bmc": []}, 9_200),
    "nothing when it was idle before": ({"n01": 0}, {"n01.bmc": []}, 0),
    "nothing once its BMC shows it low": ({"n01": 7_000}, {}, 0),
    "still while its BMC shows it busy": (
        {"n01": 7_000},
        {"n01.bmc": [a_reading("n01.bmc", 1_300)]},
        7_000,
    ),
}


@pytest.mark.parametrize(("last", "bmc", "want_w"), SILENT.values(), ids=SILENT.keys())
def test_silent_nodes(last: dict[str, int], bmc: dict[str, Any], want_w: int) -> None:
    seen = observed(view=a_view(states=DOWN), meters=telemetry(replaced=bmc))

    assert plan(seen, Memory(last_charge=last)).loads["r1"].tokens_used_w == want_w


def test_a_node_idle_for_long_that_goes_down_unseen_takes_no_watts() -> None:
    memory = plan(observed()).memory
    seen = observed(view=a_view(states=DOWN), meters=telemetry(replaced={"n01.bmc": []}))

    for _ in range(3):
        found = plan(seen, memory)
        memory = found.memory
        assert found.loads["r1"].tokens_used_w == 0


def test_an_unseen_rack_gives_nothing_back_and_keeps_its_fence() -> None:
    memory = plan(observed([a_job(1, "n01")], meters=OVER)).memory
    for seconds in range(2, 120, 2):
        now = NOON + seconds * A_SECOND
        seen = observed(
            now=now,
            view=a_view([a_shed_job(1, ago=0 * A_SECOND)], fences=R1, now=now),
            meters=telemetry(now=now, replaced={"r1.A": []}),
        )
        found = plan(seen, memory)
        memory = found.memory
        assert not found.actions


def test_observing_says_what_it_would_do_and_touches_nothing() -> None:
    seen = observed([a_job(1, "n01", tokens_w=None), a_job(2, "n02", tokens_w=None)], meters=OVER)

    found = plan(replace(seen, mode=Mode.OBSERVE))

    assert found.actions == ()
    assert [note.split(" (")[0] for note in found.notes] == [
        "would SetFence r1",
        "would ShedJob 2",
    ]
    assert found.memory.under_way == ()


@pytest.mark.parametrize("mode", [Mode.OFF, Mode.OBSERVE])
def test_standing_down_takes_back_all_that_is_ours_tokens_first(mode: Mode) -> None:
    jobs = [
        a_job(1, "n01"),
        a_pending_job(2),
        a_shed_job(3, tokens_w=None),
        a_pending_job(4, tokens_w=None, priority=0, marks={"reason": "StateMissing"}),
        a_job(5, "n02", state=JobState.COMPLETING),
        a_job(6, state=JobState.ENDED),
        a_pending_job(7, tokens_w=None, priority=0),
    ]
    view = a_view(jobs, fences=R1, reservations={**IN_SLURM, "maint": "n09"})

    found = plan(observed(view=view, mode=mode, reservations=[a_reservation(**ACTIVE)]))
    acts = [each for each in found.actions if not isinstance(each, MoveReservation)]

    assert brief(acts) == [
        "StripTokens 1",
        "StripTokens 2",
        "GiveBack 3",
        "GiveBack 4",
        "SetFence r1 ",
        "DropReservation pw-launch",
    ]
    assert not plan_tokens(GRAPH, observed(mode=mode), RULES)[0].layers


def test_a_thousand_nodes_and_jobs_are_planned() -> None:
    rows = {f"row{i}": {f"r{i}-{j}": 10 for j in range(10)} for i in range(10)}
    graph = a_graph(rows=rows, rack_w=60_000, row_w=450_000, site_w=3_000_000)
    jobs = [a_job(i + 1, name, tokens_w=5_000) for i, name in enumerate(graph.nodes)]
    pending = [a_pending_job(2_000 + i) for i in range(200)]
    seen = observed(
        [*jobs, *pending],
        graph=graph,
        meters=telemetry(
            graph,
            dict.fromkeys([rack.name for rack in graph.racks[:20]], 65_000),
            bmc_w=dict.fromkeys(graph.nodes, 6_500),
        ),
        tokens_enforced=False,
    )
    keep, pools = plan_tokens(graph, seen, RULES)
    found = plan_cycle(graph, seen, Memory(), RULES, pools)

    assert keep.layers
    assert len([each for each in found.actions if isinstance(each, ShedJob)]) >= 20
