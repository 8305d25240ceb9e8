# SPDX-License-Identifier: GPL-2.0-or-later
"""`powermgr feasible`: the hook's own verdict, for a job that nobody submitted."""

from __future__ import annotations

from datetime import datetime

from broker.domain.admission import Decision, decide_admission
from broker.domain.admission import Request as PowerRequest
from broker.services.cycle import Picture
from broker.services.messages import Answer, Request

_EXIT = {"now": 0, "later": 10, "never": 12}
_BAD_ENVELOPE = 2


def feasible(request: Request, picture: Picture, *, now: datetime) -> Answer:
    """Judge by the state that the hook has; exit code 0 now, 10 later, 12 never."""
    decision = decide_admission(_wanted(request, picture), picture.state, int(now.timestamp()))
    if decision.reason == "BadEnvelope":
        return Answer.refused(decision.message, exit_code=_BAD_ENVELOPE)
    if not decision.managed:
        return Answer(message="this partition carries no power: the job would not be touched")
    return Answer(
        rows=[_row(decision, picture)], message=decision.message, exit_code=_EXIT[decision.fits]
    )


def _wanted(request: Request, picture: Picture) -> PowerRequest:
    gpus = request.number("gpus_per_node", 0)
    seconds = request.number("time_limit_s", 0)
    hot = next(lane.partition for lane in picture.state.lanes if lane.name == "hot")
    return PowerRequest(
        comment=request.text("envelope"),
        user=request.peer.user if request.peer else None,
        account=request.text("account", "") or None,
        partition=",".join(request.texts("partition")) or hot,
        min_nodes=request.number("nodes"),
        tres_per_node=f"gres/gpu:{gpus}" if gpus else None,
        time_limit_min=-(-seconds // 60) if seconds else None,
    )


def _row(decision: Decision, picture: Picture) -> dict[str, object]:
    figures = decision.figures
    tokens_w = figures.tokens_w_per_node if figures else 0
    return {
        "lane": decision.lane,
        "verdict": decision.fits,
        "reason": str(decision.reason),
        "nodes": figures.nodes if figures else None,
        "charge_w": figures.charge_w if figures else None,
        "tokens_w_per_node": tokens_w or None,
        # Where a node of it fits now; Slurm chooses among them.
        "racks": ",".join(
            rack.name
            for rack in picture.state.racks
            if rack.nodes_now and tokens_w and rack.tokens_now_w >= tokens_w
        ),
        "earliest": picture.observed.now if decision.fits == "now" else None,
    }
