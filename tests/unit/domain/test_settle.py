# SPDX-License-Identifier: GPL-2.0-or-later
"""The charge of jobs that the hook did not see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from broker.domain.cluster import SlurmJob
from broker.domain.settle import charge_of
from tests.support.builders import GRAPH, RULES, a_graph, a_job, a_pending_job

CASES: dict[str, tuple[SlurmJob, int, dict[str, Any]]] = {
    "undeclared: its nodes' maximum": (
        a_job(nodes="n01,n02", tokens_w=None),
        9_200,
        {"charge_w": 20_400, "nodes": 2, "lane": "hot"},
    ),
    "declared: its maximum, idle taken off each node": (
        a_job(nodes="n01,n02", tokens_w=None, comment="power: est=8kW max=12kW tier=gold"),
        5_000,
        {"est_w": 8_000, "max_w": 12_000, "charge_w": 12_000, "tier": "gold"},
    ),
    "declared below idle: at least a watt of tokens": (
        a_job(tokens_w=None, comment="power: max=500W"),
        1,
        {"charge_w": 1_000},
    ),
    "an envelope that is wrong: its maximum": (
        a_job(tokens_w=None, comment="power: max=lots"),
        9_200,
        {"charge_w": 10_200, "tier": "silver"},
    ),
    "a pending job: the fewest nodes it may get": (
        a_pending_job(tokens_w=None, node_count=4, comment="power: max=20kW"),
        4_000,
        {"nodes": 4},
    ),
    "a pending job of no nodes at all": (
        a_pending_job(tokens_w=None, node_count=0),
        9_200,
        {"nodes": 1},
    ),
    "a pending job that names both partitions: the first lane": (
        a_pending_job(tokens_w=None, partition="cold,hot"),
        9_200,
        {"lane": "cold"},
    ),
    "a job on nodes outside the inventory": (
        a_job(nodes="login1", tokens_w=None),
        9_200,
        {"charge_w": 10_200},
    ),
    "its ticket is kept": (a_job(7, tokens_w=None), 9_200, {"ticket": "T7"}),
    "an admin_comment of somebody else's": (
        a_job(7, tokens_w=None, admin_comment="ask Bob"),
        9_200,
        {"ticket": "JOB-7"},
    ),
}


@pytest.mark.parametrize(("job", "tokens_w", "admitted"), CASES.values(), ids=CASES.keys())
def test_charge(job: SlurmJob, tokens_w: int, admitted: dict[str, Any]) -> None:
    charge = charge_of(job, GRAPH, RULES)
    written = json.loads(charge.admin_comment)

    assert charge.tokens_w_per_node == tokens_w
    assert {key: written[key] for key in admitted} == admitted
    assert len(charge.admin_comment) < 1_024


def test_nodes_of_several_types_are_charged_as_the_widest() -> None:
    graph = a_graph(max_w_of={"n02": 6_000})

    assert charge_of(a_job(nodes="n01,n02", tokens_w=None), graph, RULES).tokens_w_per_node == 9_200
