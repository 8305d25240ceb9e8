# SPDX-License-Identifier: GPL-2.0-or-later
"""Cold jobs make way for a hot one: enough of them, no more, bronze first, gold never."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.cluster import JobState, SlurmJob
from broker.domain.reclaim import HELPED_EVERY, Reclaim, Room, hosts, plan_reclaim, without
from tests.support.graph import a_graph

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
GRAPH = a_graph()


def a_hot_job(nodes: int = 1, tokens_w: int = 9_000, **changes: object) -> SlurmJob:
    usual: dict[str, object] = {
        "job_id": 1,
        "user": "alice",
        "account": "ml",
        "partition": "hot",
        "state": JobState.PENDING,
        "slurm_state": "PENDING",
        "reason": "Resources",
        "priority": 100,
        "node_count": nodes,
        "licenses": f"power:{tokens_w}",
        "submitted_at": NOW - timedelta(minutes=1),
    }
    return SlurmJob(**{**usual, **changes})  # type: ignore[arg-type]


def a_cold_job(job_id: int, *nodes: str, tier: str = "bronze", age_s: int = 60) -> SlurmJob:
    return SlurmJob(
        job_id=job_id,
        user="bob",
        account="bio",
        partition="cold",
        state=JobState.RUNNING,
        slurm_state="RUNNING",
        reason="",
        nodes=nodes,
        licenses="power:9000",
        admin_comment=json.dumps({"v": 1, "tier": tier}),
        started_at=NOW - timedelta(seconds=age_s),
    )


def a_room(used: dict[str, int] | None = None, nodes: int = 4) -> Room:
    """All of the graph's tokens, less what is used; the same count of open nodes in each rack."""
    tokens = {name: GRAPH.tokens_w(layer) for name, layer in GRAPH.layers.items()}
    for rack, used_w in (used or {}).items():
        for layer in GRAPH.above(GRAPH.layers[rack]):
            tokens[layer.name] -= used_w
    return Room(tokens, {rack.name: nodes for rack in GRAPH.racks})


def reclaim(jobs: list[SlurmJob], room: Room, **changes: object) -> Reclaim | None:
    usual: dict[str, object] = {
        "hot": "hot",
        "cold": "cold",
        "waits_at_least": timedelta(seconds=5),
        "helped": {},
        "now": NOW,
    }
    return plan_reclaim(GRAPH, jobs, room, **{**usual, **changes})  # type: ignore[arg-type]


FULL = a_room(nodes=0)
OLD_AND_YOUNG = [a_cold_job(10, "n01", age_s=600), a_cold_job(11, "n02", age_s=30)]


@dataclass(frozen=True)
class Case:
    hot: SlurmJob
    cold: list[SlurmJob]
    want: tuple[int, ...]
    room: Room = FULL
    helped: dict[int, datetime] = field(default_factory=dict)


CASES = {
    "the youngest makes way: it loses the least work": Case(a_hot_job(), OLD_AND_YOUNG, (11,)),
    "two nodes need two of them": Case(a_hot_job(2), OLD_AND_YOUNG, (10, 11)),
    "bronze goes before a younger silver": Case(
        a_hot_job(), [a_cold_job(10, "n01"), a_cold_job(11, "n02", tier="silver", age_s=1)], (10,)
    ),
    "gold never goes": Case(a_hot_job(), [a_cold_job(10, "n01", tier="gold")], ()),
    "nobody goes when all together are not enough": Case(a_hot_job(3), OLD_AND_YOUNG, ()),
    "nobody goes while Slurm has room": Case(a_hot_job(), OLD_AND_YOUNG, (), room=a_room()),
    "one that is held waits for its user, not for watts": Case(
        a_hot_job(priority=0), OLD_AND_YOUNG, ()
    ),
    "one that waits for another job is not next in line": Case(
        a_hot_job(reason="Dependency"), OLD_AND_YOUNG, ()
    ),
    "one of a reservation waits for its own watts": Case(
        a_hot_job(reservation="pw-launch"), OLD_AND_YOUNG, ()
    ),
    "one that came a moment ago is left to Slurm": Case(
        a_hot_job(submitted_at=NOW - timedelta(seconds=1)), OLD_AND_YOUNG, ()
    ),
    "one that was helped and still waits must want something else": Case(
        a_hot_job(), OLD_AND_YOUNG, (), helped={1: NOW - HELPED_EVERY / 2}
    ),
    "a needless first victim is spared when a later one is enough": Case(
        a_hot_job(2), [a_cold_job(10, "n01", "n02", age_s=600), a_cold_job(11, "n05")], (10,)
    ),
    "one whose row stays over its limit would go in vain": Case(
        a_hot_job(),
        [a_cold_job(10, "n09", age_s=600), a_cold_job(11, "n01", age_s=1)],
        (10,),
        room=a_room({"r1": 28_000, "r2": 26_000, "r3": 27_000}, nodes=0),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_victims(case: Case) -> None:
    found = reclaim([case.hot, *case.cold], case.room, helped=case.helped)

    victims = found.victims if found else ()
    assert tuple(sorted(job.job_id for job in victims)) == case.want


@given(
    st.lists(st.sampled_from(GRAPH.site.nodes), unique=True, max_size=12),
    st.integers(1, 6),
    st.integers(1_000, 9_200),
)
def test_victims_are_enough_and_none_is_needless(
    busy: list[str], nodes: int, tokens_w: int
) -> None:
    cold = [a_cold_job(10 + number, name) for number, name in enumerate(busy)]
    hot = a_hot_job(nodes, tokens_w)
    found = reclaim([hot, *cold], FULL)

    if found is None:
        assert hosts(GRAPH, without(GRAPH, FULL, cold), hot) < nodes
        return
    assert hosts(GRAPH, without(GRAPH, FULL, found.victims), hot) >= nodes
    for spared in found.victims:
        fewer = [job for job in found.victims if job is not spared]
        assert hosts(GRAPH, without(GRAPH, FULL, fewer), hot) < nodes
