# SPDX-License-Identifier: GPL-2.0-or-later
"""What the hook is told: no more than is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from broker.domain.admission_state import AdmissionState, Switches
from broker.domain.cluster import JobState, SlurmJob
from broker.services.observed import Memory, Observed
from broker.services.plan import plan_cycle
from broker.services.plan_tokens import plan_tokens
from broker.services.publish import Site, admission_state, charge_w
from tests.support.builders import (
    GRAPH,
    NOON,
    RULES,
    a_job,
    a_pending_job,
    a_reservation,
    a_view,
    observed,
    telemetry,
)

SITE = Site(cluster="lab", graph=GRAPH, rules=RULES, switches=Switches(), admins=("root",))


def state_of(seen: Observed) -> AdmissionState:
    _, pools = plan_tokens(GRAPH, seen, RULES)
    plan = plan_cycle(GRAPH, seen, Memory(), RULES, pools)
    return admission_state(SITE, plan, seen.view, mode=seen.mode, generation=7, now=seen.now)


def layer(state: AdmissionState, name: str) -> Any:
    return next(each for each in state.layers if each.name == name)


LEFT: dict[str, tuple[Observed, dict[str, tuple[int, int]]]] = {
    "nothing runs": (observed(), {"r1": (28_000, 4), "a": (50_000, 8), "lab": (92_000, 16)}),
    "a job takes its tokens and its nodes": (
        observed([a_job(1, "n01,n02", tokens_w=5_000)]),
        {"r1": (18_000, 2), "r2": (28_000, 4), "a": (40_000, 6)},
    ),
    "a reservation takes its watts and its nodes": (
        observed(reservations=[a_reservation()]),
        {"r2": (10_000, 2), "a": (32_000, 6), "r1": (28_000, 4)},
    ),
    "a drained node starts nothing": (
        observed(view=a_view(states={"n01": "IDLE+DRAIN"})),
        {"r1": (28_000, 3)},
    ),
    "a node that Slurm does not know starts nothing": (
        observed(view=a_view(unknown="n01")),
        {"r1": (28_000, 3)},
    ),
    "a rack that nobody sees has nothing left": (
        observed(meters=telemetry(replaced={"r1.A": []})),
        {"r1": (0, 0)},
    ),
}


@pytest.mark.parametrize(("seen", "want"), LEFT.values(), ids=LEFT.keys())
def test_what_is_left(seen: Observed, want: dict[str, tuple[int, int]]) -> None:
    state = state_of(seen)

    found = {name: layer(state, name) for name in want}
    assert {n: (each.tokens_now_w, each.nodes_now) for n, each in found.items()} == want


def test_what_a_layer_could_ever_grant_does_not_change() -> None:
    busy = state_of(observed([a_job(1, "n01,n02,n03")]))

    assert [layer(busy, name).tokens_ever_w for name in ("r1", "a", "lab")] == [
        28_000,
        50_000,
        92_000,
    ]
    assert layer(busy, "r1").parents == ("a", "lab")
    assert layer(busy, "lab").parents == ()


POOLS: dict[str, tuple[list[SlurmJob], dict[str, Any], int]] = {
    "unused": ([], {}, 18_000),
    "used in part by its owner": ([a_job(1, "n05", tokens_w=8_000)], {}, 10_000),
    "of a job that is half outside only the half inside counts": (
        [a_job(1, "n05,n09", tokens_w=8_000)],
        {},
        10_000,
    ),
    "behind a fence nothing": (
        [],
        {"meters": telemetry(replaced={"r2.A": []})},
        0,
    ),
    "held by outsiders in part": ([a_job(1, "n07,n08", tokens_w=9_000)], {}, 10_000),
}


@pytest.mark.parametrize(("jobs", "others", "want_w"), POOLS.values(), ids=POOLS.keys())
def test_what_is_left_of_a_reservation(
    jobs: list[SlurmJob], others: dict[str, Any], want_w: int
) -> None:
    (pool,) = state_of(observed(jobs, reservations=[a_reservation()], **others)).reservations

    assert pool.tokens_now_w == want_w
    assert (pool.slurm, pool.tokens_ever_w, pool.node_count) == ("pw-launch", 18_000, 2)


ROOM: dict[str, tuple[Sequence[SlurmJob], int, int]] = {
    "empty lanes": ([], 108_000, 108_000),
    "running and waiting jobs count": (
        [a_job(1, "n01"), a_pending_job(2, tokens_w=4_000, node_count=2)],
        108_000 - 10_200 - 10_000,
        108_000,
    ),
    "ended ones do not": ([a_job(1, state=JobState.ENDED)], 108_000, 108_000),
    "a job that names both is the first one's": (
        [a_pending_job(1, partition="cold,hot")],
        108_000,
        108_000 - 10_200,
    ),
    "never less than none": ([a_pending_job(1, node_count=16)], 0, 108_000),
}


@pytest.mark.parametrize(("jobs", "hot_w", "cold_w"), ROOM.values(), ids=ROOM.keys())
def test_room_of_the_lanes(jobs: Sequence[SlurmJob], hot_w: int, cold_w: int) -> None:
    lanes = {lane.name: lane.room_w for lane in state_of(observed(jobs)).lanes}

    assert lanes == {"hot": hot_w, "cold": cold_w}


CHARGES: dict[str, tuple[SlurmJob, int]] = {
    "as admitted": (a_job(1, "n01", tokens_w=5_000, marks={"charge_w": 5_999, "nodes": 1}), 5_999),
    "as admitted, for each node that it got": (
        a_job(1, "n01,n02,n03", tokens_w=4_000, marks={"charge_w": 10_000, "nodes": 2}),
        15_000,
    ),
    "by its tokens, where nobody admitted it": (a_job(1, "n01,n02", tokens_w=4_000), 10_000),
    "its maximum without tokens": (a_job(1, "n01,n02", tokens_w=None), 20_400),
    "nonsense in the admitted envelope is none": (
        a_job(1, "n01", tokens_w=4_000, marks={"charge_w": True}),
        5_000,
    ),
}


@pytest.mark.parametrize(("job", "want_w"), CHARGES.values(), ids=CHARGES.keys())
def test_charge(job: SlurmJob, want_w: int) -> None:
    assert charge_w(SITE, job) == want_w


def test_it_is_valid_for_half_a_minute() -> None:
    state = state_of(observed())

    assert (state.generation, state.written_at) == (7, int(NOON.timestamp()))
    assert state.valid_until - state.written_at == 30
