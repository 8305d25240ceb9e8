# SPDX-License-Identifier: GPL-2.0-or-later
"""The BMCs of a rack against its PDUs, and its feeds against each other: which meter lies?

Everything is compared as a range, from the least to the most that was shown in the last polls, so
that ramps, meters that lag and a load that moves from one feed to the other are no lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from broker.domain.power_graph import Layer, Node, PowerGraph
from broker.domain.rules import Rules
from broker.domain.units import watts

FEWEST_POLLS = 3  #: of each PDU; fewer prove nothing
_FAR_TOO_HIGH = 1.5  # less may be a load that has no BMC
_SLACK_W = 200  # steps of ten watts, fans of the PDU, rounding


@dataclass(frozen=True, slots=True)
class _Range:
    least_w: int
    most_w: int

    @classmethod
    def of(cls, shown: Sequence[int]) -> _Range:
        return cls(min(shown), max(shown))

    @classmethod
    def sum(cls, parts: Iterable[_Range]) -> _Range:
        least_w = most_w = 0
        for each in parts:
            least_w, most_w = least_w + each.least_w, most_w + each.most_w
        return cls(least_w, most_w)

    def times(self, count: int) -> _Range:
        return _Range(self.least_w * count, self.most_w * count)

    def meets(self, other: _Range) -> bool:
        return self.least_w <= other.most_w and other.least_w <= self.most_w

    def __str__(self) -> str:
        return watts((self.least_w + self.most_w) // 2)


def lying_meters(
    graph: PowerGraph, rack: Layer, shown: Mapping[str, Sequence[int]], rules: Rules
) -> Mapping[str, str]:
    """Meters of a rack that lie by what the others show, each with the reason in a sentence.

    ``shown`` holds the believable watts of the last polls of each meter that is seen. Too low is
    dangerous: when it cannot be told which PDU it is, it is all of them. Too high is named only
    where a third source tells; else the watts just count.
    """
    nodes = [graph.nodes[name] for name in rack.nodes]
    if not rack.pdus or any(len(shown.get(pdu, ())) < FEWEST_POLLS for pdu in rack.pdus):
        return {}
    if not any(shown.get(node.bmc) for node in nodes):
        return {}
    feeds = {pdu: _Range.of(shown[pdu]) for pdu in rack.pdus}
    due = _due(rack, nodes, shown, rules)
    whole = _Range.sum(feeds.values())
    if whole.meets(due):
        return {}
    too_high = whole.least_w > due.most_w
    if too_high and whole.least_w <= _FAR_TOO_HIGH * due.most_w:
        return {}  # a fan tray that nobody declared, on feeds that share unevenly
    if liar := _odd_one_out(feeds, due):
        return {liar: _because(liar, feeds, nodes, shown)}
    if too_high:
        return {}
    if _agree(list(feeds.values()), rules) and len(feeds) > 1:
        culprits = [node for node in nodes if whole.meets(_due(rack, nodes, shown, rules, node))]
        if culprits:
            return _lying_bmc(culprits, whole, nodes, shown)
    return {pdu: _because(pdu, feeds, nodes, shown) for pdu in feeds}


def _due(
    rack: Layer,
    nodes: Sequence[Node],
    shown: Mapping[str, Sequence[int]],
    rules: Rules,
    but: Node | None = None,
) -> _Range:
    """What the PDUs should show by the BMCs; anything for a node that is not seen, or ``but``."""
    parts = (
        _Range.of(shown[node.bmc])
        if node is not but and shown.get(node.bmc)
        else _Range(0, node.type.max_w)
        for node in nodes
    )
    bmcs = _Range.sum(parts)
    within = rules.bmcs_within
    most_w = bmcs.most_w * (1 + within) / (1 - rules.conversion_loss_most)
    return _Range(
        int(bmcs.least_w * (1 - within)) - _SLACK_W, int(most_w) + rack.static_w + _SLACK_W
    )


def _odd_one_out(feeds: Mapping[str, _Range], due: _Range) -> str:
    """The feed that alone does not carry its share, where all others do."""
    fair = {pdu for pdu, each in feeds.items() if each.times(len(feeds)).meets(due)}
    odd = [pdu for pdu in feeds if pdu not in fair]
    return odd[0] if len(feeds) > 1 and len(odd) == 1 else ""


def _agree(feeds: Sequence[_Range], rules: Rules) -> bool:
    most_w = max(each.most_w for each in feeds)
    return most_w - min(each.least_w for each in feeds) <= rules.feeds_agree_within * most_w


def _because(
    liar: str,
    feeds: Mapping[str, _Range],
    nodes: Sequence[Node],
    shown: Mapping[str, Sequence[int]],
) -> str:
    others = [f"{pdu} shows {each}" for pdu, each in feeds.items() if pdu != liar]
    beside = " and ".join([*others, _bmcs_sentence(nodes, shown)])
    return f"{liar} is not believed: it shows {feeds[liar]} while {beside}"


def _bmcs_sentence(nodes: Sequence[Node], shown: Mapping[str, Sequence[int]]) -> str:
    seen = [_Range.of(shown[node.bmc]) for node in nodes if shown.get(node.bmc)]
    count = f"{len(seen)}" if len(seen) == len(nodes) else f"{len(seen)} of {len(nodes)}"
    return f"the rack's {count} BMCs add up to {_Range.sum(seen)}"


def _lying_bmc(
    culprits: Sequence[Node],
    whole: _Range,
    nodes: Sequence[Node],
    shown: Mapping[str, Sequence[int]],
) -> Mapping[str, str]:
    """Feeds that agree outweigh one BMC; which one, only where no other could explain it."""
    if len(culprits) > 1:
        return {}
    bmc = culprits[0].bmc
    return {
        bmc: f"{bmc} is not believed: it shows {_Range.of(shown[bmc])}, and"
        f" {_bmcs_sentence(nodes, shown)} while the PDUs agree on {whole}"
    }
