# SPDX-License-Identifier: GPL-2.0-or-later
"""Whom to shed: bronze at once, silver after notice, gold never, and no more than needed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.domain.cluster import SlurmJob, Tier
from broker.domain.ladder import LadderPlan, Shed, plan_ladder
from broker.domain.load import LayerLoad
from tests.support.builders import A_MINUTE, A_SECOND, GRAPH, NOON, a_draw, a_graph, a_job, a_load

NOTICE = 10 * A_MINUTE


def loads(over: Mapping[str, int], **draw: Any) -> list[LayerLoad]:
    """All layers; ``over`` gives W above the safe limit, of the others none is."""
    return [
        a_load(
            layer,
            draw=a_draw(layer.safe_w + over[layer.name], **draw)
            if layer.name in over
            else a_draw(0),
        )
        for layer in GRAPH.layers.values()
    ]


def ladder(
    jobs: Sequence[SlurmJob],
    over: Mapping[str, int],
    *,
    relief: Mapping[str, int] | None = None,
    under_way: Sequence[Shed] = (),
    warned: Mapping[int, datetime] | None = None,
    notice: timedelta = NOTICE,
    **draw: Any,
) -> LadderPlan:
    return plan_ladder(
        loads(over, **draw),
        jobs,
        relief_by_node=relief or dict.fromkeys(GRAPH.nodes, 5_000),
        under_way=under_way,
        warned_until=warned or {},
        now=NOON,
        silver_notice=notice,
    )


@dataclass(frozen=True)
class Case:
    """Jobs 1, 2, 3, 4 on n01 to n04, each drawing 5,000 W above idle."""

    tiers: str
    over_w: int = 4_000
    shed: set[int] = field(default_factory=set)
    warn: set[int] = field(default_factory=set)
    helpless: bool = False
    warned: Mapping[int, datetime] = field(default_factory=dict)
    relief: Mapping[str, int] | None = None
    others: Mapping[str, Any] = field(default_factory=dict)
    jobs: Mapping[str, Any] = field(default_factory=dict)


TIERS = {"b": "bronze", "s": "silver", "g": "gold"}
AGO, LATER = NOON - A_SECOND, NOON + A_SECOND
CASES = {
    "within the limit: nobody": Case("bbbb", over_w=0),
    "bronze goes at once": Case("bsgg", shed={1}),
    "two where one is not enough": Case("bbbb", 6_000, shed={3, 4}),
    "the smallest job that is enough": Case(
        "bbbb", shed={3}, relief={"n01": 9_000, "n02": 3_000, "n03": 4_000, "n04": 8_000}
    ),
    "the largest where none is enough": Case(
        "bbbb", 10_000, shed={1, 3}, relief={"n01": 9_000, "n02": 500, "n03": 1_000, "n04": 2_000}
    ),
    "silver is warned first": Case("sggg", warn={1}),
    "silver that was warned waits for its time": Case("sggg", warned={1: LATER}),
    "silver goes when its notice is over": Case("sggg", shed={1}, warned={1: AGO}),
    "a notice of yesterday is none": Case("sggg", warn={1}, warned={1: NOON - timedelta(days=1)}),
    "one silver job waits: no second one is warned in its place": Case("sssg", warned={2: LATER}),
    "without notice in the policy silver goes at once": Case(
        "sggg", shed={1}, others={"notice": timedelta(0)}
    ),
    "bronze before silver whose notice is over": Case("sbgg", shed={2}, warned={1: AGO}),
    "bronze first, silver warned for the rest": Case("sbgg", 7_000, shed={2}, warn={1}),
    "gold never": Case("gggg", helpless=True),
    "a job that cannot be requeued never": Case("bbbb", helpless=True, jobs={"requeue": False}),
    "nor an interactive one": Case("bbbb", helpless=True, jobs={"batch": False}),
    "idle jobs help nobody": Case("bbbb", helpless=True, relief={"n05": 9_000}),
    "one poll alone is not believed": Case("bbbb", others={"previous_w": None}),
    "nor one after a poll within the limit": Case("bbbb", others={"previous_w": 31_999}),
    "feeds that agree are believed at once": Case(
        "bggg", shed={1}, others={"previous_w": None, "feeds_agree": True}
    ),
    "a shed under way is enough": Case(
        "bbbb", others={"under_way": [Shed(9, ("n01", "n02"), 4_000, NOON)]}
    ),
    "of a shed elsewhere nothing is felt": Case(
        "bggg", shed={1}, others={"under_way": [Shed(9, ("n05",), 4_000, NOON)]}
    ),
    "of half a shed half is felt": Case(
        "bggg", shed={1}, others={"under_way": [Shed(9, ("n04", "n05"), 4_000, NOON)]}
    ),
    "a job under way is not shed again": Case(
        "bggg", helpless=True, others={"under_way": [Shed(1, ("n01",), 0, NOON)]}
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_rack_r1(case: Case) -> None:
    jobs = [
        a_job(i + 1, f"n0{i + 1}", tier=TIERS[letter], **case.jobs)
        for i, letter in enumerate(case.tiers)
    ]
    found = ladder(jobs, {"r1": case.over_w}, warned=case.warned, relief=case.relief, **case.others)

    assert {step.job.job_id for step in found.shed} == case.shed
    assert {step.job.job_id for step in found.warn} == case.warn
    assert bool(found.helpless) is case.helpless


def test_a_job_without_a_tier_is_warned_as_silver() -> None:
    jobs = [a_job(1, "n01", admin_comment="")]

    assert [step.job.job_id for step in ladder(jobs, {"r1": 1}).warn] == [1]


def test_a_shed_for_a_rack_counts_for_its_row_and_site() -> None:
    jobs = [a_job(i, f"n0{i}") for i in range(1, 9)]

    found = ladder(jobs, {"r1": 4_000, "a": 5_000, "lab": 5_000})

    assert len(found.shed) == 1


def test_a_wider_victim_spares_the_one_before_it() -> None:
    jobs = [a_job(1, "n01"), a_job(2, "n02,n05")]
    relief = {"n01": 4_000, "n02": 4_500, "n05": 20_000}

    found = ladder(jobs, {"r1": 4_000, "a": 22_000}, relief=relief)

    assert [step.job.job_id for step in found.shed] == [2]


def test_a_warning_for_a_rack_counts_for_its_row() -> None:
    jobs = [a_job(1, "n01", tier="silver"), a_job(2, "n05", tier="silver")]

    found = ladder(jobs, {"r1": 4_000, "a": 4_000})

    assert [(step.job.job_id, step.layer) for step in found.warn] == [(1, "r1")]


def test_the_reason_has_the_numbers() -> None:
    found = ladder([a_job(1, "n01")], {"r1": 4_000})

    assert found.shed[0].because == (
        "rack r1 draws 36.00 kW, 4.00 kW above its safe limit of 32.00 kW;"
        " bronze job 1 draws 5.00 kW of it"
    )


@st.composite
def _jobs(draw: st.DrawFn) -> list[SlurmJob]:
    nodes = sorted(draw(st.sets(st.sampled_from(sorted(GRAPH.nodes)), min_size=1)))
    jobs = []
    while nodes:
        size = draw(st.integers(1, min(4, len(nodes))))
        mine, nodes = nodes[:size], nodes[size:]
        jobs.append(
            a_job(
                len(jobs) + 1,
                ",".join(mine),
                tier=draw(st.sampled_from(["bronze", "silver", "gold"])),
                batch=draw(st.booleans()) or draw(st.booleans()),
                requeue=draw(st.booleans()) or draw(st.booleans()),
            )
        )
    return jobs


@settings(max_examples=300)
@given(
    _jobs(),
    st.dictionaries(st.sampled_from(list(GRAPH.layers)), st.integers(1, 40_000), max_size=4),
    st.dictionaries(st.sampled_from(sorted(GRAPH.nodes)), st.integers(0, 9_200)),
    st.dictionaries(st.integers(1, 16), st.sampled_from([AGO, LATER, NOON - timedelta(days=2)])),
    st.sampled_from([None, True, False]),
)
def test_the_rules_of_the_ladder(
    jobs: list[SlurmJob],
    over: dict[str, int],
    relief: dict[str, int],
    warned: dict[int, datetime],
    confirmed: bool | None,
) -> None:
    draw = {"previous_w": None, "feeds_agree": confirmed} if confirmed is not None else {}
    found = ladder(jobs, over, relief=relief or {"n01": 0}, warned=warned, **draw)
    shed = [step.job for step in found.shed]
    warn = [step.job for step in found.warn]

    def felt_w(layer: str, victims: Sequence[SlurmJob]) -> int:
        return sum(
            relief.get(n, 0) for job in victims for n in job.nodes if n in GRAPH.layers[layer].nodes
        )

    if confirmed is False:
        assert not shed
        assert not warn
    ids = [job.job_id for job in [*shed, *warn]]
    assert len(ids) == len(set(ids)), "one step for a job"
    for job in shed + warn:
        assert job.tier is not Tier.GOLD
        assert job.batch
        assert job.requeue
    for job in shed:
        if job.tier is Tier.SILVER:
            assert warned.get(job.job_id) == AGO
            for layer in [name for name in over if felt_w(name, [job])]:
                left = [j for j in jobs if j.tier is Tier.BRONZE and j.sheddable and j not in shed]
                enough = felt_w(layer, [j for j in shed if j is not job]) >= over[layer]
                assert enough or not felt_w(layer, left), "bronze all before silver"
    assert all(job.tier is Tier.SILVER for job in warn)
    top = Tier.SILVER if any(j.tier is Tier.SILVER for j in shed) else Tier.BRONZE
    for job in [j for j in shed if j.tier is top]:
        rest = [j for j in shed if j is not job]
        assert any(
            felt_w(name, rest) < excess_w for name, excess_w in over.items() if felt_w(name, [job])
        ), f"job {job.job_id} is shed for nothing"
    assert found == ladder(jobs, over, relief=relief or {"n01": 0}, warned=warned, **draw)


def test_a_thousand_jobs_take_no_time() -> None:
    rows = {f"row{i}": {f"r{i}-{j}": 10 for j in range(10)} for i in range(10)}
    graph = a_graph(rows=rows)
    jobs = [a_job(i, name) for i, name in enumerate(graph.nodes)]
    over = [
        a_load(layer, graph=graph, draw=a_draw(layer.safe_w + 20_000))
        for layer in graph.layers.values()
    ]
    begin = time.process_time()
    found = plan_ladder(
        over,
        jobs,
        relief_by_node=dict.fromkeys(graph.nodes, 5_000),
        under_way=(),
        warned_until={},
        now=NOON,
        silver_notice=NOTICE,
    )
    took_s = time.process_time() - begin

    assert len(found.shed) == 400
    assert took_s < 1
