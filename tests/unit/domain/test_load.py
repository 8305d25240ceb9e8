# SPDX-License-Identifier: GPL-2.0-or-later
"""Committed, reserved, starting: the sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from broker.domain.cluster import JobState, SlurmJob
from broker.domain.draw import assess_draw
from broker.domain.load import LayerLoad, assess_loads, tokens_by_node
from tests.support.builders import (
    A_SECOND,
    GRAPH,
    NOON,
    RULES,
    a_draw,
    a_graph,
    a_job,
    a_load,
    a_pending_job,
    a_reservation,
    a_view,
    telemetry,
)


def loads(jobs: Sequence[SlurmJob] = (), **others: Any) -> Mapping[str, LayerLoad]:
    graph = others.get("graph", GRAPH)
    meters = others.get("meters") or telemetry(graph)
    return assess_loads(
        graph,
        a_view(jobs, graph=graph),
        assess_draw(graph, meters, now=NOON, rules=RULES),
        others.get("reservations", ()),
        others.get("silent", {}),
        now=NOON,
        rules=RULES,
    )


COMMITTED = {
    "nothing runs: the idle of all nodes": ([], (4_000, 8_000, 16_000)),
    "a job on two racks counts on each, and in the row once": (
        [a_job(nodes="n04,n05", tokens_w=3_000)],
        (7_000, 14_000, 22_000),
    ),
    "a job without tokens counts its nodes' maximum": (
        [a_job(tokens_w=None)],
        (13_200, 17_200, 25_200),
    ),
    "a job that completes holds its tokens": (
        [a_job(state=JobState.COMPLETING, tokens_w=3_000)],
        (7_000, 11_000, 19_000),
    ),
    "so does a suspended one": (
        [a_job(state=JobState.SUSPENDED, tokens_w=3_000)],
        (7_000, 11_000, 19_000),
    ),
    "pending and ended ones hold nothing": (
        [a_pending_job(1), a_job(2, state=JobState.ENDED)],
        (4_000, 8_000, 16_000),
    ),
    "nodes outside the inventory count nowhere": (
        [a_job(nodes="n01,login7", tokens_w=3_000)],
        (7_000, 11_000, 19_000),
    ),
    "two jobs on one node add up": (
        [a_job(1, tokens_w=3_000), a_job(2, tokens_w=2_000)],
        (9_000, 13_000, 21_000),
    ),
    "tasks of an array are jobs": (
        [
            a_job(7, "n01", tokens_w=1_000, array_job_id=7, array_task_id=0),
            a_job(8, "n02", tokens_w=1_000, array_job_id=7, array_task_id=1),
        ],
        (6_000, 10_000, 18_000),
    ),
}


@pytest.mark.parametrize(("jobs", "want"), COMMITTED.values(), ids=COMMITTED.keys())
def test_committed_of_rack_row_and_site(jobs: list[SlurmJob], want: tuple[int, ...]) -> None:
    found = loads(jobs)

    assert tuple(found[name].committed_w for name in ("r1", "a", "lab")) == want


def test_silent_nodes_count_at_their_last_charge_and_never_less_than_their_job() -> None:
    jobs = [a_job(nodes="n02", tokens_w=5_000)]

    assert tokens_by_node(GRAPH, jobs, {"n01": 4_000, "n02": 3_000}) == {"n01": 4_000, "n02": 5_000}


RESERVED = {
    "an unused reservation": ([], 18_000),
    "its jobs use it up": ([a_job(nodes="n05", tokens_w=8_000)], 10_000),
    "more than it cannot be used": ([a_job(nodes="n05,n06", tokens_w=9_200)], 0),
    "jobs elsewhere do not": ([a_job(nodes="n07", tokens_w=8_000)], 18_000),
}


@pytest.mark.parametrize(("jobs", "want_w"), RESERVED.values(), ids=RESERVED.keys())
def test_reserved_and_unused(jobs: list[SlurmJob], want_w: int) -> None:
    found = loads(jobs, reservations=[a_reservation()])

    assert [found[name].reserved_w for name in ("r2", "a", "lab")] == [want_w] * 3
    assert [found[name].reserved_w for name in ("r1", "b")] == [0, 0]


def test_young_jobs_are_starting() -> None:
    jobs = [
        a_job(1, "n01", tokens_w=1_000, age=29 * A_SECOND),
        a_job(2, "n02", tokens_w=2_000, age=31 * A_SECOND),
        a_job(3, "n03", tokens_w=4_000, age=-timedelta(hours=1)),  # the clock was set back
        a_job(4, "n04", tokens_w=8_000, started_at=None),
    ]
    assert loads(jobs)["r1"].starting_w == 5_000


CURRENT = {
    "committed while the draw is within it": (a_draw(20_000), 4_000, 24_000),
    "committed while the draw is within the meters' tolerance": (a_draw(24_600), 4_000, 24_000),
    "the draw and what is starting above it": (a_draw(25_000), 4_000, 29_000),
    "the upper bound of what nobody sees": (a_draw(9_000, feared_w=40_800), 0, 40_800),
}


@pytest.mark.parametrize(("draw", "starting_w", "want_w"), CURRENT.values(), ids=CURRENT.keys())
def test_current(draw: Any, starting_w: int, want_w: int) -> None:
    load = a_load(GRAPH.layers["r1"], tokens_used_w=20_000, starting_w=starting_w, draw=draw)

    assert load.current_w == want_w


STATES = {
    "ok": a_load(GRAPH.layers["r1"]),
    "full": a_load(GRAPH.layers["r1"], tokens_used_w=28_000),
    "over": a_load(GRAPH.layers["r1"], draw=a_draw(32_001)),
    "unseen": a_load(GRAPH.layers["r1"], draw=a_draw(9_000, feared_w=40_800, lost=("r1.A",))),
}


@pytest.mark.parametrize(("want", "load"), STATES.items(), ids=STATES.keys())
def test_state(want: str, load: LayerLoad) -> None:
    assert load.state == want


def test_static_loads_are_committed() -> None:
    assert loads(graph=a_graph(static_w=700))["lab"].committed_w == 4 * 700 + 16_000


def test_a_job_that_starts_where_nobody_sees_is_counted_once() -> None:
    young = [a_job(1, "n01", age=A_SECOND), a_job(2, "n05", age=A_SECOND)]
    unseen = telemetry(replaced={"r1.A": []})
    found = loads(young, meters=unseen)
    assert found["r1"].current_w == GRAPH.nameplate_w(GRAPH.layers["r1"])
    assert [found[name].starting_w for name in ("r1", "r2", "lab")] == [0, 9_200, 9_200]
