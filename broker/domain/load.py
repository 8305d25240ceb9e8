# SPDX-License-Identifier: GPL-2.0-or-later
"""What is promised on every layer: committed, reserved, starting; and what that leaves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.domain.cluster import JobState, SlurmJob, SlurmView
from broker.domain.draw import LayerDraw
from broker.domain.power_graph import Layer, PowerGraph
from broker.domain.reservation import PowerReservation
from broker.domain.rules import Rules


@dataclass(frozen=True, slots=True)
class LayerLoad:
    """One layer in watts, with the words of the design."""

    layer: Layer
    tokens_used_w: int  #: tokens of jobs on its nodes, and of nodes that went silent with them
    committed_w: int  #: static + idle of all nodes + tokens used
    starting_w: int  #: tokens of jobs too young to show on the meters
    reserved_w: int  #: reserved and not yet in use
    draw: LayerDraw
    tolerance_w: int  #: meters may be wrong by so much
    lately_w: int = 0  #: committed, with jobs that ended so lately that meters may still show them

    @property
    def current_w(self) -> int:
        """``C`` of the fence: committed, or draw and what is starting when that is larger."""
        # Above the limit nothing is explained by jobs that have just ended.
        explained_w = max(self.committed_w, min(self.lately_w, self.layer.safe_w))
        if self.draw.feared_w > explained_w + self.tolerance_w:
            return self.draw.feared_w + self.starting_w
        return self.committed_w

    @property
    def headroom_w(self) -> int:
        """What the layer can still promise now; negative when it is over."""
        return self.layer.safe_w - self.current_w - self.reserved_w

    @property
    def over(self) -> bool:
        """Is it drawing more than its safe limit, seen by believable meters?"""
        return self.draw.seen_w > self.layer.safe_w

    @property
    def state(self) -> str:
        """``over`` its limit, ``unseen`` by a meter, ``full`` or ``ok``."""
        if self.over:
            return "over"
        if self.draw.lost:
            return "unseen"
        return "full" if self.headroom_w <= 0 else "ok"


def tokens_by_node(
    graph: PowerGraph, jobs: Sequence[SlurmJob], silent: Mapping[str, int]
) -> Mapping[str, int]:
    """Tokens charged to every node, in W.

    A job without tokens counts its nodes' maximum. ``silent`` are nodes that went down with a
    job: they count at their last charge until a meter shows them low.
    """
    found: dict[str, int] = {}
    for job in jobs:
        if not job.state.holds_nodes:
            continue
        for name in job.nodes:
            if name in graph.nodes:
                most_w = graph.nodes[name].type.tokens_max_w
                tokens_w = job.tokens_w_per_node
                found[name] = found.get(name, 0) + (most_w if tokens_w is None else tokens_w)
    for name, tokens_w in silent.items():
        found[name] = max(found.get(name, 0), tokens_w)
    return found


def assess_loads(
    graph: PowerGraph,
    view: SlurmView,
    draws: Mapping[str, LayerDraw],
    reservations: Sequence[PowerReservation],
    silent: Mapping[str, int],
    *,
    now: datetime,
    rules: Rules,
    lately: Mapping[str, int] | None = None,
) -> Mapping[str, LayerLoad]:
    """Every layer's load, by name. ``lately`` are the most tokens a node held moments ago."""
    held = lately or {}
    jobs = list(view.jobs.values())
    tokens = tokens_by_node(graph, jobs, silent)
    young = [job for job in jobs if _starting(job, now, rules)]
    starting = {
        name: tokens_w
        for name, tokens_w in tokens_by_node(graph, young, {}).items()
        # The upper bound of a rack that is not seen has them already.
        if not draws[graph.nodes[name].rack].lost
    }
    return {
        layer.name: LayerLoad(
            layer=layer,
            tokens_used_w=(used_w := sum(tokens.get(name, 0) for name in layer.nodes)),
            committed_w=layer.static_w + graph.idle_w(layer) + used_w,
            starting_w=sum(starting.get(name, 0) for name in layer.nodes),
            reserved_w=_reserved_unused_w(layer, reservations, tokens),
            draw=draws[layer.name],
            tolerance_w=int(layer.safe_w * rules.meter_tolerance),
            lately_w=layer.static_w
            + graph.idle_w(layer)
            + sum(max(tokens.get(name, 0), held.get(name, 0)) for name in layer.nodes),
        )
        for layer in graph.layers.values()
    }


def _starting(job: SlurmJob, now: datetime, rules: Rules) -> bool:
    return (
        job.state is JobState.RUNNING
        and job.started_at is not None
        and now - job.started_at < rules.job_start
    )


def _reserved_unused_w(
    layer: Layer, reservations: Sequence[PowerReservation], tokens: Mapping[str, int]
) -> int:
    return sum(
        max(0, each.tokens_w - sum(tokens.get(name, 0) for name in each.nodes))
        for each in reservations
        if each.nodes and each.nodes[0] in layer.nodes
    )
