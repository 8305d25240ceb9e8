# SPDX-License-Identifier: GPL-2.0-or-later
"""What powermgr may ask for, and what it is told when it may not."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.admission_state import Switches
from broker.domain.cluster import JobState
from broker.domain.showback import Tariff
from broker.domain.switches import Mode
from broker.services.cycle import Picture
from broker.services.desk import Desk
from broker.services.messages import OPS, Answer, Peer, Request
from broker.services.observed import Memory, Observed
from broker.services.plan import plan_cycle
from broker.services.plan_tokens import plan_tokens
from broker.services.ports import Verdict
from broker.services.publish import Site, admission_state
from broker.testing.memory_store import MemoryStore
from tests.support.builders import (
    A_MINUTE,
    GRAPH,
    NOON,
    RULES,
    a_job,
    a_pending_job,
    a_reservation,
    a_shed_job,
    observed,
)

SITE = Site(cluster="lab", graph=GRAPH, rules=RULES, switches=Switches(), admins=("root", "slurm"))
ROOT, ALICE = Peer(0, 0, 1, "root"), Peer(1001, 1001, 2, "alice")
SLURM = Peer(64030, 64030, 3, "slurm")


class AtNoon:
    def now(self) -> Any:
        return NOON


def picture_of(seen: Observed) -> Picture:
    _, pools = plan_tokens(GRAPH, seen, RULES)
    plan = plan_cycle(GRAPH, seen, Memory(), RULES, pools)
    state = admission_state(SITE, plan, seen.view, mode=seen.mode, generation=1, now=seen.now)
    return Picture(seen, plan, state, "no action")


SEEN = observed([a_job(1, "n01,n02", tokens_w=5_000), a_pending_job(2), a_shed_job(3)])
PICTURE = picture_of(SEEN)


def a_desk(store: MemoryStore | None = None, picture: Picture | None = PICTURE) -> Desk:
    return Desk(
        site=SITE,
        store=store or MemoryStore(),
        clock=AtNoon(),
        tariff=Tariff(Decimal("0.25"), Decimal("0.05"), "EUR"),
        cycle_s=1.0,
        picture=lambda: picture,
        leader=lambda: "here (epoch 1)",
    )


def ask(
    desk: Desk,
    op: str,
    entity: str = "",
    *,
    peer: Peer | None = ROOT,
    where: Any = None,
    **values: Any,
) -> Answer:
    return desk(Request(op, entity, where or {}, values, peer))


def test_racks_in_numbers() -> None:
    answer = ask(a_desk(), "show", "rack", where={"name": "r1"})

    assert answer.rows == [
        {
            "name": "r1",
            "row": "a",
            "safe_w": 32_000,
            "burst_w": 40_000,
            "committed_w": 14_000,
            "draw_w": 4_000,
            "reserved_w": 0,
            "headroom_w": 18_000,
            "state": "ok",
            "age_s": 1,
        }
    ]


def test_jobs_with_the_reason_of_a_shed_one() -> None:
    rows = {row["jobid"]: row for row in ask(a_desk(), "show", "job").rows}

    assert (rows[1]["charge_w"], rows[1]["draw_w"], rows[1]["racks"]) == (12_000, 2_000, "r1")
    assert rows[3]["reason"] == "PowerShed"
    assert rows[2]["draw_w"] is None


@pytest.mark.parametrize("entity", ["rack", "row", "site", "node", "job", "feasible"])
def test_before_the_first_cycle_it_says_so(entity: str) -> None:
    desk = a_desk(picture=None)

    answer = ask(desk, "show", entity) if entity != "feasible" else ask(desk, "feasible")

    assert not answer.ok
    assert "first cycle" in answer.error
    assert ask(desk, "show", "broker").ok
    assert ask(desk, "show", "reservation").ok


ADD = {
    "name": "launch",
    "rack": "r2",
    "power_w": 20_000,
    "nodes": 2,
    "start": (NOON + A_MINUTE).isoformat(),
    "duration": 30,
    "accounts": ["ml"],
}
LONG = "x" * 41
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a rack that is none": ({"rack": "r9"}, "rack=r9: no such rack"),
    "a row for a rack": ({"rack": "a"}, "no such rack"),
    "no owner": ({"accounts": []}, "whose reservation"),
    "no name": ({"name": None}, "name= is missing"),
    "a name that would pass for a fence": ({"name": "fence-r1"}, "name='fence-r1': allowed are"),
    "a name with a blank": ({"name": "a b"}, "name='a b': allowed are"),
    "a name with an escape sequence": ({"name": "\x1b[2J"}, "allowed are"),
    "a name without end": ({"name": LONG}, "allowed are"),
    "an empty name": ({"name": ""}, "allowed are"),
    "no time at all": ({"duration": 0}, "duration=0: allowed are 1 to"),
    "time without end": ({"duration": 2**52}, "allowed are 1 to"),
    "an end before its beginning": ({"end": NOON.isoformat()}, "before it begins"),
    "an end in a century": ({"end": "2126-01-01T00:00+00:00"}, "over a year"),
    "a start in the past": ({"start": "2026-11-21T11:00+00:00"}, "in the past"),
    "a start at the end of time": ({"start": "9999-12-31T23:59+00:00"}, "over a year ahead"),
    "a start that is no time": ({"start": "tomorrow"}, "start='tomorrow': expected a time"),
    "more watts than its nodes can draw": ({"power_w": 20_401}, "up to their maximum 20.40 kW"),
    "fewer than they idle at": ({"power_w": 2_000}, "more than their idle draw 2.00 kW"),
    "negative watts": ({"power_w": -1}, "expected a whole number"),
    "watts in words": ({"power_w": "20kW"}, "expected a whole number"),
    "no nodes": ({"nodes": 0}, "on 0 nodes"),
    "more nodes than are free": ({"rack": "r1", "nodes": 3}, "3 nodes asked, 2 of 4 are free"),
    "more watts than the rack can promise": ({"nodes": 4, "power_w": 33_000}, "rack r2"),
}


@pytest.mark.parametrize(("changed", "says"), REFUSED.values(), ids=REFUSED.keys())
def test_reservations_that_are_refused(changed: dict[str, Any], says: str) -> None:
    store = MemoryStore()
    values = {key: each for key, each in {**ADD, **changed}.items() if each is not None}

    answer = ask(a_desk(store), "add", "reservation", **values)

    assert not answer.ok
    assert says in answer.error
    assert answer.error.isprintable()
    assert answer.exit_code != 0
    assert store.reservations() == []


def test_a_reservation_that_fits() -> None:
    store = MemoryStore()

    answer = ask(a_desk(store), "add", "reservation", **ADD)

    assert answer.message == (
        "Reserved 20.00 kW on n05,n06 of rack r2 as pw-launch,"
        " 2026-11-21T12:01 to 2026-11-21T12:31 UTC"
    )
    (kept,) = store.reservations()
    assert (kept.nodes, kept.tokens_w, kept.accounts) == (("n05", "n06"), 18_000, ("ml",))
    assert not ask(a_desk(store), "add", "reservation", **ADD).ok


CHANGES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "add": ("add", "reservation", ADD),
    "delete": ("delete", "reservation", {"name": "launch"}),
    "modify": ("modify", "broker", {"mode": "off"}),
}


@pytest.mark.parametrize(("op", "entity", "values"), CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("peer", [ALICE, None])
def test_who_may_not_change_anything(
    op: str, entity: str, values: dict[str, Any], peer: Peer | None
) -> None:
    store = MemoryStore()

    answer = ask(a_desk(store), op, entity, peer=peer, **values)

    assert (answer.exit_code, answer.ok) == (3, False)
    assert "root, slurm" in answer.hint
    assert (store.reservations(), store.mode("observe"), store.audit) == ([], "observe", [])


def test_an_admin_changes_the_mode() -> None:
    store = MemoryStore()

    assert ask(a_desk(store), "modify", "broker", peer=SLURM, mode="off").ok
    assert store.mode("observe") == Mode.OFF


def test_a_mode_that_is_none() -> None:
    answer = ask(a_desk(), "modify", "broker", mode="on")

    assert answer.error == "mode='on': allowed are off, observe, enforce"


def test_a_reservation_is_released_once() -> None:
    store = MemoryStore()
    store.add_reservation(a_reservation(), graph=GRAPH, now=NOON, by="root")
    desk = a_desk(store)

    assert ask(desk, "delete", "reservation", name="launch").ok
    again = ask(desk, "delete", "reservation", name="launch")
    assert "no open reservation is called 'launch'" in again.error


def test_decisions_of_a_window_are_found_behind_newer_ones() -> None:
    store = MemoryStore()
    verdicts = [
        Verdict(f"T{i}", NOON - timedelta(minutes=i), {"at": 1, "ticket": f"T{i}"})
        for i in range(150)
    ]
    store.add_verdicts(verdicts, spool="8:1", offset=1)
    until = (NOON - timedelta(minutes=120)).isoformat()

    rows = ask(a_desk(store), "show", "decision", where={"end": until, "limit": 5}).rows

    assert [row["ticket"] for row in rows] == [f"T{i}" for i in range(121, 126)]


WHY = {
    "a job that runs": ("1", "RUNNING on n01,n02, charged 12.00 kW, draws 2.00 kW"),
    "its ticket": ("T1", "RUNNING on n01,n02"),
    "one that was shed": ("3", "PENDING (PowerShed)"),
}


@pytest.mark.parametrize(("asked", "says"), WHY.values(), ids=WHY.keys())
def test_why(asked: str, says: str) -> None:
    answer = ask(a_desk(), "why", id=asked)

    assert says in answer.rows[-1]["text"]


@pytest.mark.parametrize("asked", ["T99", "77", "9" * 40, "\u00b2", "", "-1", "1; drop table"])
def test_why_nobody_knows(asked: str) -> None:
    answer = ask(a_desk(), "why", id=asked)

    assert "nothing is known of" in answer.error
    assert answer.exit_code == 2


def test_rows_with_odd_jobs() -> None:
    jobs = [
        a_job(1, "login7", tokens_w=None),
        a_job(2, "n01,login7", state=JobState.SUSPENDED),
        a_job(3, "n02", state=JobState.COMPLETING, started_at=None),
        a_pending_job(4, node_count=0, admin_comment="{"),
        a_job(5, "n03", array_job_id=5, array_task_id=1),
    ]
    desk = a_desk(picture=picture_of(observed(jobs)))

    for entity in ("rack", "row", "site", "node", "job"):
        assert ask(desk, "show", entity).ok, entity
    for job in jobs:
        assert ask(desk, "why", id=str(job.job_id)).ok


_values = st.dictionaries(
    st.sampled_from([*ADD, "mode", "id", "envelope", "end", "limit", "account", "partition"]),
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.lists(st.text(max_size=5), max_size=3)
    | st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    max_size=6,
)


@given(
    st.sampled_from(OPS),
    st.sampled_from(
        ["rack", "node", "job", "reservation", "decision", "action", "broker", "x", ""]
    ),
    _values,
    _values,
)
def test_any_request_has_an_answer(op: str, entity: str, where: Any, values: Any) -> None:
    answer = a_desk()(Request(op, entity, where, values, ROOT))

    assert answer.ok or answer.error
    assert answer.to_line().count(b"\n") == 1
