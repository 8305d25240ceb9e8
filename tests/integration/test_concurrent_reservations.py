# SPDX-License-Identifier: GPL-2.0-or-later
"""Writers at once: no instant of any layer is promised twice, and one broker leads at a time."""

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import Engine

from broker.adapters.postgres.engine import make_engine
from broker.adapters.postgres.lease import LeaderLease, is_dead, this_process
from broker.adapters.postgres.store import PostgresStore
from broker.domain.errors import BadRequest, PowerUnavailable
from broker.domain.reservation import PowerReservation, peak_reserved_w
from tests.support.graph import a_graph

pytestmark = pytest.mark.postgres

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
WRITERS = 8
ROUNDS = 5


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


def a_reservation(
    name: str, rack: str, node: str, *, round_: int, tokens_w: int
) -> PowerReservation:
    start = NOON + timedelta(hours=round_)
    end = start + timedelta(hours=1)
    return PowerReservation(name, rack, (node,), tokens_w + 1_000, tokens_w, start, end)


def reserve_at_once(engine: Engine, wanted: list[PowerReservation], **graph: int) -> list[str]:
    """Names of those that got in; every writer has its own store, as every process has."""
    at_once = Barrier(len(wanted))

    def reserve(each: PowerReservation) -> str | None:
        store = PostgresStore(engine)
        at_once.wait()
        try:
            store.add_reservation(each, graph=a_graph(**graph), now=NOON, by="alice")
        except (PowerUnavailable, BadRequest):
            return None
        return each.name

    with ThreadPoolExecutor(len(wanted)) as pool:
        return [name for name in pool.map(reserve, wanted) if name]


def test_the_last_watts_of_the_site_are_given_to_those_that_fit(engine: Engine) -> None:
    """Racks and nodes differ, so only the site's row stands between them."""
    graph = a_graph(site_tokens_w=25_000)
    nodes = [(rack, node) for node in range(3) for rack in ("r1", "r2", "r3")][:WRITERS]
    for round_ in range(ROUNDS):
        wanted = [
            a_reservation(
                f"w{writer}-{round_}",
                rack,
                graph.layers[rack].nodes[node],
                round_=round_,
                tokens_w=8_000,
            )
            for writer, (rack, node) in enumerate(nodes)
        ]

        got_in = reserve_at_once(engine, wanted, site_tokens_w=25_000)

        assert len(got_in) == 3
        start = NOON + timedelta(hours=round_)
        kept = PostgresStore(engine).reservations()
        promised_w = peak_reserved_w(kept, graph.site, start=start, end=start + timedelta(hours=1))
        assert promised_w == 24_000
        assert {each.name for each in kept if each.starts_at == start} == set(got_in)


def test_a_node_is_set_aside_for_one_of_many_who_want_it(engine: Engine) -> None:
    for round_ in range(ROUNDS):
        wanted = [
            a_reservation(f"w{writer}-{round_}", "r1", "n01", round_=round_, tokens_w=1_000)
            for writer in range(WRITERS)
        ]

        assert len(reserve_at_once(engine, wanted)) == 1


def test_a_name_is_taken_once(engine: Engine) -> None:
    nodes = [*a_graph().layers["r1"].nodes, *a_graph().layers["r2"].nodes]
    wanted = [
        a_reservation("launch", "r1" if node < "n05" else "r2", node, round_=0, tokens_w=1_000)
        for node in nodes
    ]

    assert reserve_at_once(engine, wanted) == ["launch"]


# --- the leader's lease --------------------------------------------------------------------------


def test_one_of_many_brokers_leads(engine: Engine) -> None:
    at_once = Barrier(WRITERS)

    def hold(holder: str) -> int | None:
        at_once.wait()
        return LeaderLease(engine, holder=holder).hold(60)

    with ThreadPoolExecutor(WRITERS) as pool:
        epochs = list(pool.map(hold, "abcdefgh"))

    assert sorted(epochs, key=str) == [1, *[None] * (WRITERS - 1)]


def test_the_epoch_grows_with_each_takeover_only(engine: Engine) -> None:
    first, second = (LeaderLease(engine, holder=name) for name in ("first", "second"))

    assert [first.hold(60), first.hold(60), second.hold(60)] == [1, 1, None]
    second.release()  # it holds nothing
    assert second.hold(60) is None
    first.release()
    assert [second.hold(0), first.hold(60), second.hold(60)] == [2, 3, None]


def test_a_restarted_broker_need_not_wait_for_its_dead_self(engine: Engine) -> None:
    naming_itself = "from broker.adapters.postgres import lease; print(lease.this_process())"
    ended = subprocess.run(
        [sys.executable, "-c", naming_itself], capture_output=True, text=True, check=True
    )
    holder = ended.stdout.strip()

    assert LeaderLease(engine, holder=holder).hold(60) == 1
    assert LeaderLease(engine).hold(60) == 2
    assert LeaderLease(engine, holder="other").hold(60) is None  # this process lives


def test_who_is_known_to_be_dead() -> None:
    here, pid, started = this_process().split("/")

    assert is_dead(f"{here}/{pid}/{int(started) - 1}")  # its pid is this process's by now
    assert not is_dead(this_process())
    assert not is_dead("elsewhere:machine:1/4194304/0")
    assert not is_dead("set by hand")
