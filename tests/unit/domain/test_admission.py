# SPDX-License-Identifier: GPL-2.0-or-later
"""Admission as `powermgr feasible` asks it; the rules' own table is tests/unit/hook/cases."""

from dataclasses import replace

import pytest

from broker.domain.admission import Reason, Request, Verdict, decide_admission, gpu_count, kilowatts
from broker.domain.admission_state import AdmissionState, Lane, Layer, NodeType

NOON = 1_800_000_000
RACK = Layer(
    "r1",
    "rack",
    safe_w=32000,
    nodes=4,
    tokens_ever_w=28000,
    tokens_now_w=28000,
    nodes_now=4,
    parents=("lab",),
)
SITE = replace(RACK, name="lab", kind="site", parents=())
STATE = AdmissionState(
    generation=1,
    written_at=NOON,
    valid_until=NOON + 30,
    mode="enforce",
    cluster="lab",
    lanes=(Lane("hot", "hot", "silver", 32000), Lane("cold", "cold", "bronze", 32000)),
    node_types=(NodeType("h100x8", 1000, 10200, 8, 4, ("hot", "cold")),),
    layers=(RACK, SITE),
)

FITS = {
    "now": (Request(min_nodes=3), STATE, "now"),
    "never": (Request(min_nodes=4), STATE, "never"),
    "never, for a bad envelope": (Request(min_nodes=1, comment="power: max=1"), STATE, "never"),
    "later, when a rack is full": (
        Request(min_nodes=1),
        replace(STATE, layers=(replace(RACK, tokens_now_w=9199), SITE)),
        "later",
    ),
    "later, when nobody knows": (Request(min_nodes=1), replace(STATE, written_at=0), "later"),
}


@pytest.mark.parametrize(("request_", "state", "fits"), FITS.values(), ids=FITS.keys())
def test_when_it_fits(request_: Request, state: AdmissionState, fits: str) -> None:
    assert decide_admission(request_, state, NOON).fits == fits


def test_the_last_watt_of_a_rack_can_be_taken() -> None:
    last = replace(STATE, layers=(replace(RACK, tokens_now_w=9200, nodes_now=1), SITE))
    decision = decide_admission(Request(min_nodes=1), last, NOON)
    assert (decision.verdict, decision.reason) == (Verdict.ACCEPT, Reason.FITS)
    short = replace(STATE, layers=(replace(RACK, tokens_now_w=9199, nodes_now=1), SITE))
    assert decide_admission(Request(min_nodes=1), short, NOON).reason is Reason.WAITS


def test_a_place_of_its_own_is_not_re_routed() -> None:
    full = replace(STATE, lanes=(replace(STATE.lanes[0], room_w=0), STATE.lanes[1]))
    asked = Request(min_nodes=1, comment="power: max=2kW preempt=yes")
    assert decide_admission(asked, full, NOON).reason is Reason.TO_COLD
    assert decide_admission(replace(asked, stay=True), full, NOON).reason is Reason.WAITS


@pytest.mark.parametrize(
    ("tres", "gpus"),
    [(None, 0), ("gres/gpu:8", 8), ("gres:gpu:h100:4,gres/shard:2", 4), ("cpu=2,gres/gpu=3", 3),
     ("gres/gpu", 1), ("gres/gpu:h100", 1), ("gres/gpu:a:1,gres/gpu:b:2", 3)],
)  # fmt: skip
def test_gpus_are_counted(tres: str | None, gpus: int) -> None:
    assert gpu_count(tres) == gpus


@pytest.mark.parametrize(
    ("power_w", "text"), [(0, "0.00 kW"), (4, "0.00 kW"), (5, "0.01 kW"), (24000, "24.00 kW")]
)
def test_kilowatts_round_half_up(power_w: int, text: str) -> None:
    assert kilowatts(power_w) == text
