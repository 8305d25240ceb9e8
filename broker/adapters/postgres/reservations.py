# SPDX-License-Identifier: GPL-2.0-or-later
"""Power reservations: no instant of any layer is promised twice, whoever else is writing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from broker.adapters.postgres.errors import refusal
from broker.adapters.postgres.plain import plain_text
from broker.adapters.postgres.tables import LayerRow, LedgerRow, ReservationRow
from broker.domain.errors import BadRequest
from broker.domain.power_graph import Layer, PowerGraph
from broker.domain.reservation import PowerReservation, ReservationState, check_promise

_OPEN_STATES = [state.value for state in ReservationState if state.open]


def add_reservation(
    session: Session, wanted: PowerReservation, *, graph: PowerGraph, now: datetime, by: str
) -> None:
    """Promise the watts under the layers' locks; PowerUnavailable or BadRequest, and no change."""
    _lock(session, graph, graph.above(graph.layers[wanted.rack]))
    others = reservations(session, open_only=True)
    session.add(_to_row(wanted, now=now, by=by))
    session.add(_audit(wanted.name, "added", wanted.reason, now=now, by=by, facts=_facts(wanted)))
    try:
        session.flush()
    except IntegrityError as error:
        if refused := refusal(wanted.name, error):
            raise refused from error
        raise
    check_promise(wanted, graph=graph, others=others)


def reservations(session: Session, *, open_only: bool) -> Sequence[PowerReservation]:
    """Reservations by start, then name."""
    row = ReservationRow
    query = select(row).order_by(row.starts_at, row.name, row.id)
    if open_only:
        query = query.where(row.state.in_(_OPEN_STATES))
    return [_to_domain(found) for found in session.scalars(query)]


def set_reservation_state(
    session: Session,
    name: str,
    state: ReservationState,
    *,
    reason: str,
    now: datetime,
    by: str,
    used_at: datetime | None,
) -> None:
    """Move the open reservation of a name; a closed one stays as it is, an unknown is refused."""
    row = ReservationRow
    named = select(row).where(row.name == name)
    found = session.scalar(named.where(row.state.in_(_OPEN_STATES)).with_for_update())
    if found is None:
        if session.scalar(named.limit(1)) is None:
            raise BadRequest(f"no reservation {name}", hint="powermgr show reservation")
        return
    if (found.state, found.reason) != (state.value, reason):
        facts = {"from": found.state, "to": state.value, "tokens_w": found.tokens_w}
        session.add(_audit(name, state.value, reason, now=now, by=by, facts=facts))
    found.state, found.reason = state.value, plain_text(reason)
    found.used_at = used_at or found.used_at


def _lock(session: Session, graph: PowerGraph, layers: Sequence[Layer]) -> None:
    """Lock the layers' rows until the transaction ends, and keep them as the graph has them."""
    # In order of names, so that two writers who want the same layers cannot deadlock.
    tokens_w = {each.name: graph.tokens_w(each) for each in sorted(layers, key=lambda x: x.name)}
    missing = [
        {"name": name, "kind": graph.layers[name].kind.value, "tokens_w": amount_w}
        for name, amount_w in tokens_w.items()
    ]
    # Nothing is done to rows that are there: the lock below is the only one that decides.
    session.execute(insert(LayerRow).values(missing).on_conflict_do_nothing())
    locked = session.scalars(
        select(LayerRow)
        .where(LayerRow.name.in_(list(tokens_w)))
        .order_by(LayerRow.name)
        .with_for_update()
    )
    for row in locked.all():
        row.kind, row.tokens_w = graph.layers[row.name].kind.value, tokens_w[row.name]


def _audit(
    reservation: str, event: str, reason: str, *, now: datetime, by: str, facts: dict[str, Any]
) -> LedgerRow:
    return LedgerRow(
        at=now,
        reservation=reservation,
        event=event,
        by=by,
        reason=plain_text(reason),
        facts=facts,
    )


def _facts(wanted: PowerReservation) -> dict[str, Any]:
    return {
        "rack": wanted.rack,
        "nodes": list(wanted.nodes),
        "power_w": wanted.power_w,
        "tokens_w": wanted.tokens_w,
        "starts_at": wanted.starts_at.isoformat(),
        "ends_at": wanted.ends_at.isoformat(),
        "accounts": list(wanted.accounts),
        "users": list(wanted.users),
    }


def _to_row(wanted: PowerReservation, *, now: datetime, by: str) -> ReservationRow:
    return ReservationRow(
        name=wanted.name,
        rack=wanted.rack,
        nodes=list(wanted.nodes),
        power_w=wanted.power_w,
        tokens_w=wanted.tokens_w,
        starts_at=wanted.starts_at,
        ends_at=wanted.ends_at,
        accounts=list(wanted.accounts),
        users=list(wanted.users),
        state=wanted.state.value,
        reason=wanted.reason,
        used_at=wanted.used_at,
        created_at=now,
        created_by=by,
    )


def _to_domain(row: ReservationRow) -> PowerReservation:
    return PowerReservation(
        name=row.name,
        rack=row.rack,
        nodes=tuple(row.nodes),
        power_w=row.power_w,
        tokens_w=row.tokens_w,
        starts_at=row.starts_at,
        ends_at=row.ends_at,
        accounts=tuple(row.accounts),
        users=tuple(row.users),
        state=ReservationState(row.state),
        reason=row.reason,
        used_at=row.used_at,
    )
