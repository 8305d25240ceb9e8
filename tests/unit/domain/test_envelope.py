# SPDX-License-Identifier: GPL-2.0-or-later
"""The charge that follows from an envelope; what can be written in one is in tests/unit/hook."""

import pytest

from broker.domain.admission_state import NodeType, PowerClass
from broker.domain.envelope import BadEnvelope, Figures, complete, parse_envelope

H100 = NodeType("h100x8", idle_w=1000, max_w=10200, gpus=8)
TRAINING = PowerClass("training", est_share=0.9)
INFERENCE = PowerClass("inference", est_share=0.7, max_share=0.5)

CASES = {
    "an undeclared job is charged its nodes' maximum": (
        "", 2, Figures(20400, 20400, 20400, 9200, 2)),
    "a declared maximum is the charge": (
        "power: est=18kW max=24kW", 4, Figures(18000, 24000, 24000, 5000, 4)),
    "an estimate alone leaves the maximum at the nodes'": (
        "power: est=3kW", 1, Figures(3000, 10200, 10200, 9200, 1)),
    "a total is divided by the fewest nodes and rounded up": (
        "power: max=10kW", 3, Figures(10000, 10000, 10000, 2334, 3)),
    "per node": (
        "power: max=4kW/node", 3, Figures(12000, 12000, 12000, 3000, 3)),
    "never more than a node can draw": (
        "power: max=500kW", 2, Figures(20400, 20400, 20400, 9200, 2)),
    "never less than idle, and one token at least": (
        "power: max=10W", 2, Figures(10, 10, 2000, 1, 2)),
    "a class fills in the estimate": (
        "power: max=10kW class=training", 1, Figures(9000, 10000, 10000, 9000, 1)),
    "a class that was named fills in the maximum": (
        "power: class=inference", 2, Figures(7140, 10200, 10200, 4100, 2)),
}  # fmt: skip


@pytest.mark.parametrize(("comment", "nodes", "want"), CASES.values(), ids=CASES.keys())
def test_the_charge(comment: str, nodes: int, want: Figures) -> None:
    assert complete(parse_envelope(comment), nodes, H100, (TRAINING, INFERENCE)) == want


def test_an_estimate_above_the_maximum_shows_once_the_nodes_are_known() -> None:
    envelope = parse_envelope("power: est=4kW/node max=10kW")
    assert complete(envelope, 2, H100).max_w == 10000
    with pytest.raises(BadEnvelope, match="est=12000W: must not be above max, which is 10000 W"):
        complete(envelope, 3, H100)


def test_a_class_that_the_site_does_not_have_names_those_it_has() -> None:
    with pytest.raises(BadEnvelope, match="class=fun: must be a class of this site: training"):
        complete(parse_envelope("power: class=fun"), 1, H100, (TRAINING,))
