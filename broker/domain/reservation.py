# SPDX-License-Identifier: GPL-2.0-or-later
"""Power reservations: watts x window x rack x owner, and the rules of their life."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from broker.domain.errors import PowerUnavailable
from broker.domain.power_graph import Layer, PowerGraph
from broker.domain.units import watts


class ReservationState(StrEnum):
    """``pending -> active -> released | expired | degraded`` (design: Power reservation)."""

    PENDING = "pending"  #: accepted; its window has not begun or its watts are not free yet
    ACTIVE = "active"
    RELEASED = "released"  #: given back by its owner or an operator
    EXPIRED = "expired"  #: its window is over
    DEGRADED = "degraded"  #: unused after the grace period, its watts given back

    @property
    def open(self) -> bool:
        return self in {ReservationState.PENDING, ReservationState.ACTIVE}


@dataclass(frozen=True, slots=True)
class PowerReservation:
    """Watts of one rack for one owner in one window; ``nodes`` are the ones set aside."""

    name: str
    rack: str
    nodes: tuple[str, ...]
    power_w: int  #: idle of its nodes included
    tokens_w: int  #: power less the idle of its nodes: what its jobs may hold
    starts_at: datetime
    ends_at: datetime
    accounts: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    state: ReservationState = ReservationState.PENDING
    reason: str = ""
    used_at: datetime | None = None  #: when one of its jobs was last seen running

    @property
    def slurm_name(self) -> str:
        """Its name in Slurm."""
        return f"pw-{self.name}"

    def overlaps(self, other: PowerReservation) -> bool:
        return self.starts_at < other.ends_at and other.starts_at < self.ends_at

    def covers(self, at: datetime) -> bool:
        """Is this instant in its window? Its end is not."""
        return self.starts_at <= at < self.ends_at


def reserved_w(reservations: Iterable[PowerReservation], layer: Layer) -> int:
    """Tokens that open reservations take out of a layer, in W."""
    return sum(
        each.tokens_w
        for each in reservations
        if each.state.open and each.nodes and each.nodes[0] in layer.nodes
    )


def peak_reserved_w(
    reservations: Iterable[PowerReservation], layer: Layer, *, start: datetime, end: datetime
) -> int:
    """Tokens that open reservations take out of a layer at the worst instant of a window, in W."""
    found = list(reservations)
    # The sum only grows where one begins, so no other instant can be the worst.
    begins = {start, *(each.starts_at for each in found if start <= each.starts_at < end)}
    return max(reserved_w((each for each in found if each.covers(at)), layer) for at in begins)


def check_promise(
    wanted: PowerReservation, *, graph: PowerGraph, others: Sequence[PowerReservation]
) -> None:
    """Raise PowerUnavailable if its nodes are taken, or a layer cannot promise its watts."""
    rivals = [each for each in others if each.state.open and each.overlaps(wanted)]
    for rival in rivals:
        if shared := sorted(set(rival.nodes) & set(wanted.nodes)):
            raise PowerUnavailable(
                f"rack {wanted.rack}: {','.join(shared)} set aside for reservation {rival.name}"
                f" from {_minute(rival.starts_at)} to {_minute(rival.ends_at)}",
                hint="powermgr show reservation",
            )
    for layer in graph.above(graph.layers[wanted.rack]):
        peak_w = peak_reserved_w(rivals, layer, start=wanted.starts_at, end=wanted.ends_at)
        left_w = graph.tokens_w(layer) - peak_w
        if wanted.tokens_w > left_w:
            raise PowerUnavailable(
                # To the watt, so that what is left can be asked for as it stands here.
                f"{layer.kind} {layer.name}: {wanted.tokens_w} W above idle asked,"
                f" {left_w} W of {graph.tokens_w(layer)} W can still be reserved",
                hint="powermgr show reservation",
            )


def plan_reservation(
    wanted: PowerReservation,
    *,
    node_count: int,
    graph: PowerGraph,
    others: Sequence[PowerReservation],
    busy_until: Mapping[str, datetime],
) -> PowerReservation:
    """Choose the nodes of a new reservation, or say which layer cannot promise its watts.

    ``busy_until`` gives for nodes in use when their job ends at the latest; such nodes are
    not chosen for a window that begins before.
    """
    rack = graph.layers[wanted.rack]
    rivals = [each for each in others if each.state.open and each.overlaps(wanted)]
    taken = {name for each in rivals for name in each.nodes}
    candidates = [name for name in rack.nodes if name not in taken]
    free = [n for n in candidates if n not in busy_until or busy_until[n] <= wanted.starts_at]
    # Idle ones first: a job may be given more time.
    free.sort(key=lambda name: name in busy_until)
    if len(free) < node_count:
        raise PowerUnavailable(
            f"rack {rack.name}: {node_count} nodes asked, {len(free)} of {len(rack.nodes)} are free"
            f" at {wanted.starts_at:%Y-%m-%dT%H:%M}",
            hint=f"powermgr show node where rack={rack.name}",
        )
    nodes = tuple(name for name in rack.nodes if name in free[:node_count])
    least_w = sum(graph.nodes[name].type.idle_w for name in nodes)
    most_w = sum(graph.nodes[name].type.max_w for name in nodes)
    if not least_w < wanted.power_w <= most_w:
        raise PowerUnavailable(
            f"watts={wanted.power_w}W on {node_count} nodes of rack {rack.name}: allowed is more"
            f" than their idle draw {watts(least_w)}, up to their maximum {watts(most_w)}"
        )
    chosen = replace(wanted, nodes=nodes, tokens_w=wanted.power_w - least_w)
    check_promise(chosen, graph=graph, others=rivals)
    return chosen


def next_state(
    reservation: PowerReservation, *, watts_free: bool, now: datetime, grace: timedelta
) -> tuple[ReservationState, str]:
    """Where a reservation stands now, and why."""
    if not reservation.state.open:
        return reservation.state, reservation.reason
    if now >= reservation.ends_at:
        return ReservationState.EXPIRED, f"window ended {reservation.ends_at:%Y-%m-%dT%H:%M}"
    if now < reservation.starts_at:
        return ReservationState.PENDING, f"starts {reservation.starts_at:%Y-%m-%dT%H:%M}"
    unused_since = reservation.used_at or reservation.starts_at
    if reservation.state is ReservationState.ACTIVE and now - unused_since >= grace:
        minutes = int(grace.total_seconds() // 60)
        return ReservationState.DEGRADED, f"no job used it for {minutes} minutes"
    if not watts_free:
        return reservation.state, "waits for jobs outside it to free its watts"
    return ReservationState.ACTIVE, "its watts are free"


def _minute(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M}"
