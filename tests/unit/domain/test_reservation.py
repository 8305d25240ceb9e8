# SPDX-License-Identifier: GPL-2.0-or-later
"""Reservations: what can be promised, and where one stands in its life."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import PowerUnavailable
from broker.domain.reservation import (
    PowerReservation,
    ReservationState,
    check_promise,
    next_state,
    peak_reserved_w,
    plan_reservation,
)
from tests.support.graph import a_graph

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
GRAPH = a_graph()
RACK = GRAPH.layers["r1"]


def at(minute: int) -> datetime:
    return NOON + timedelta(minutes=minute)


def a_reservation(
    start: int = 0,
    end: int = 60,
    *,
    name: str = "launch",
    rack: str = "r1",
    nodes: tuple[str, ...] = ("n01",),
    tokens_w: int = 9_000,
    state: ReservationState = ReservationState.PENDING,
) -> PowerReservation:
    power_w = tokens_w + 1_000 * len(nodes)
    return PowerReservation(name, rack, nodes, power_w, tokens_w, at(start), at(end), state=state)


# --- the worst instant ---------------------------------------------------------------------------


def test_reservations_one_after_the_other_count_once() -> None:
    others = [a_reservation(0, 10), a_reservation(10, 20), a_reservation(20, 30)]

    assert peak_reserved_w(others, RACK, start=at(0), end=at(30)) == 9_000


def test_the_worst_instant_counts_though_no_other_shares_it() -> None:
    long = a_reservation(0, 60, tokens_w=5_000)
    others = [long, a_reservation(10, 20), a_reservation(30, 40, tokens_w=2_000)]

    assert peak_reserved_w(others, RACK, start=at(0), end=at(60)) == 14_000
    assert peak_reserved_w(others, RACK, start=at(20), end=at(60)) == 7_000


def test_closed_ones_and_other_racks_take_nothing() -> None:
    others = [
        a_reservation(state=ReservationState.RELEASED),
        a_reservation(rack="r2", nodes=("n05",)),
    ]

    assert peak_reserved_w(others, RACK, start=at(0), end=at(60)) == 0
    assert peak_reserved_w(others, GRAPH.layers["a"], start=at(0), end=at(60)) == 9_000


_spans = st.tuples(st.integers(0, 30), st.integers(1, 15), st.integers(1, 5_000))


@given(st.lists(_spans, max_size=8), st.integers(0, 30), st.integers(1, 15))
def test_the_peak_is_that_of_looking_at_every_minute(
    spans: list[tuple[int, int, int]], start: int, length: int
) -> None:
    others = [a_reservation(b, b + n, tokens_w=tokens_w) for b, n, tokens_w in spans]
    brute_force = max(
        sum(tokens_w for b, n, tokens_w in spans if b <= minute < b + n)
        for minute in range(start, start + length)
    )

    found = peak_reserved_w(others, RACK, start=at(start), end=at(start + length))

    assert found == brute_force


# --- what can be promised ------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    wanted: PowerReservation
    others: tuple[PowerReservation, ...] = ()
    refused: str = ""


CASES = {
    "the last watt of a rack": Case(
        a_reservation(tokens_w=19_000, nodes=("n02", "n03", "n04")),
        (a_reservation(),),
    ),
    "one watt more than the rack has left": Case(
        a_reservation(tokens_w=19_001, nodes=("n02", "n03", "n04")),
        (a_reservation(),),
        "rack r1: 19001 W above idle asked, 19000 W of 28000 W can still be reserved",
    ),
    "the rack has it, the row does not": Case(
        a_reservation(tokens_w=25_000),
        (a_reservation(rack="r2", nodes=("n05",), tokens_w=25_001),),
        "row a: 25000 W above idle asked, 24999 W of 50000 W can still be reserved",
    ),
    "a node that is another's at the time": Case(
        a_reservation(30, 90, nodes=("n01", "n02")),
        (a_reservation(0, 60, name="early"),),
        "rack r1: n01 set aside for reservation early from 2026-11-20T12:00 to 2026-11-20T13:00",
    ),
    "a node that another has given back by then": Case(
        a_reservation(60, 90), (a_reservation(0, 60, name="early"),)
    ),
    "two that do not meet leave room beside both": Case(
        a_reservation(0, 60, tokens_w=10_000, nodes=("n02",)),
        (a_reservation(0, 30, tokens_w=18_000), a_reservation(30, 60, tokens_w=18_000)),
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_promises(case: Case) -> None:
    if not case.refused:
        check_promise(case.wanted, graph=GRAPH, others=case.others)
        return
    with pytest.raises(PowerUnavailable) as refused:
        check_promise(case.wanted, graph=GRAPH, others=case.others)
    assert str(refused.value) == case.refused


def test_a_plan_takes_free_nodes_and_their_idle_off_the_watts() -> None:
    wanted = replace(a_reservation(nodes=()), power_w=20_000, tokens_w=0)

    planned = plan_reservation(
        wanted,
        node_count=2,
        graph=GRAPH,
        others=[a_reservation(nodes=("n02",), tokens_w=1_000, name="other")],
        busy_until={"n01": at(1), "n03": at(0)},
    )

    assert (planned.nodes, planned.tokens_w) == (("n03", "n04"), 18_000)


def test_a_plan_wants_more_than_the_idle_draw_of_its_nodes() -> None:
    wanted = replace(a_reservation(nodes=()), power_w=2_000, tokens_w=0)

    with pytest.raises(PowerUnavailable, match=r"idle draw 2\.00 kW, up to their maximum 20\.40"):
        plan_reservation(wanted, node_count=2, graph=GRAPH, others=[], busy_until={})


# --- its life ------------------------------------------------------------------------------------

_ACTIVE = ReservationState.ACTIVE
LIFE = {
    "before its window it is pending": (a_reservation(), -1, True, "pending"),
    "its window begins and its watts are free": (a_reservation(), 0, True, "active"),
    "others still use its watts": (a_reservation(), 0, False, "pending"),
    "unused for the grace period it is given up": (
        a_reservation(state=_ACTIVE),
        10,
        True,
        "degraded",
    ),
    "used lately it stays": (
        replace(a_reservation(state=_ACTIVE), used_at=at(5)),
        10,
        True,
        "active",
    ),
    "its window ends": (a_reservation(state=_ACTIVE), 60, True, "expired"),
    "released is released": (
        a_reservation(state=ReservationState.RELEASED),
        60,
        True,
        "released",
    ),
}


@pytest.mark.parametrize(
    ("reservation", "minute", "watts_free", "state"), LIFE.values(), ids=LIFE.keys()
)
def test_next_state(
    reservation: PowerReservation, minute: int, watts_free: bool, state: str
) -> None:
    found, _ = next_state(
        reservation, watts_free=watts_free, now=at(minute), grace=timedelta(minutes=10)
    )

    assert found == state
