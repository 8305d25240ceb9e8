# SPDX-License-Identifier: GPL-2.0-or-later
"""The charge of a job that the hook did not see: found at install, or stripped of its tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass

from broker.domain.admission_state import NodeType
from broker.domain.cluster import SlurmJob
from broker.domain.envelope import BadEnvelope, Envelope, complete, parse_envelope
from broker.domain.power_graph import PowerGraph
from broker.domain.rules import Rules


@dataclass(frozen=True, slots=True)
class Charge:
    """Tokens for a job, the admitted envelope to write into it, and how it was found."""

    tokens_w_per_node: int
    admin_comment: str
    because: str


def charge_of(job: SlurmJob, graph: PowerGraph, rules: Rules) -> Charge:
    """Charge by its comment's envelope; without one, or with one that is wrong, its maximum."""
    nodes = max(1, len(job.nodes) or job.node_count)
    kind = _widest(job, graph)
    try:
        envelope = parse_envelope(job.comment)
        figures = complete(envelope, nodes, kind, rules.classes)
        because = "charged by its envelope" if envelope else "undeclared, charged its maximum"
    except BadEnvelope as error:
        envelope = None
        figures = complete(None, nodes, kind)
        because = f"its envelope is wrong ({error}), charged its maximum"
    tier = (envelope or Envelope()).tier or rules.default_tier
    found = dict(job.admitted)
    admitted = {
        # What says why it is held must stay, or nobody would ever release it.
        **(found if job.held else {}),
        "v": 1,
        "ticket": found.get("ticket", f"JOB-{job.job_id}"),
        "lane": rules.lane_of(job.partition),
        "tier": str(tier),
        "est_w": figures.est_w,
        "max_w": figures.max_w,
        "charge_w": figures.charge_w,
        "tokens_w_per_node": figures.tokens_w_per_node,
        "nodes": nodes,
        "reason": found.get("reason", "Settled") if job.held else "Settled",
    }
    return Charge(figures.tokens_w_per_node, json.dumps(admitted, separators=(",", ":")), because)


def _widest(job: SlurmJob, graph: PowerGraph) -> NodeType:
    names = [name for name in job.nodes if name in graph.nodes] or list(graph.nodes)
    kind = max((graph.nodes[name].type for name in names), key=lambda each: each.tokens_max_w)
    return NodeType(kind.name, kind.idle_w, kind.max_w, kind.gpus)
