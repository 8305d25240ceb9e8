# SPDX-License-Identifier: GPL-2.0-or-later
"""PostgreSQL away, cut off, not migrated, or given something that it does not take."""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from broker.adapters.postgres.lease import LeaderLease
from broker.adapters.postgres.store import PostgresStore
from broker.domain.errors import StoreUnavailable
from broker.services.ports import JobRecord, Verdict
from tests.support.postgres import Cluster

pytestmark = pytest.mark.postgres

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture
def store(database_url: str) -> Iterator[PostgresStore]:
    store = PostgresStore(database_url)
    yield store
    store.close()


def test_an_outage_is_said_at_once_and_ends_by_itself(
    store: PostgresStore, postgres_cluster: Cluster
) -> None:
    lease = LeaderLease(store.engine)
    store.set_mode("enforce", by="root", now=NOON)
    postgres_cluster.stop()
    try:
        began = time.monotonic()
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="PostgreSQL is away: "):
                store.mode("observe")
            with pytest.raises(StoreUnavailable):
                lease.hold(10)
            with pytest.raises(StoreUnavailable):
                list(store.samples(start=NOON, end=NOON))
        took_s = time.monotonic() - began
    finally:
        postgres_cluster.start()

    assert took_s < 5
    assert store.mode("observe") == "enforce"
    assert lease.hold(10) == 1


def test_connections_that_an_administrator_cut_are_replaced(
    store: PostgresStore, database_dsn: str
) -> None:
    assert store.mode("observe") == "observe"
    with psycopg.connect(database_dsn) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'powerbrokerd'"
        )

    assert store.mode("observe") == "observe"


def test_a_lock_that_somebody_keeps_is_not_waited_for_without_end(
    store: PostgresStore, database_dsn: str
) -> None:
    action_id = store.intend("SetFence", "r1", "full", now=NOON)
    with psycopg.connect(database_dsn) as connection:
        connection.execute("SELECT 1 FROM actions FOR UPDATE")

        with pytest.raises(StoreUnavailable, match="statement timeout"):
            store.confirm(action_id, now=NOON, outcome="done")

    store.confirm(action_id, now=NOON, outcome="done")


def test_an_empty_database_gets_a_hint(postgres_cluster: Cluster) -> None:
    postgres_cluster.execute("CREATE DATABASE bare")
    store = PostgresStore(postgres_cluster.url("bare"))

    with pytest.raises(StoreUnavailable, match="the schema is not there yet") as refused:
        store.reservations()

    store.close()
    assert refused.value.hint == "powerbrokerd --migrate"


def test_what_a_column_cannot_hold_does_not_hold_up_the_spool(store: PostgresStore) -> None:
    line = rb'{"ticket":"t-1","user":"a\u0000b","comment":"\ud800","est_w":NaN,"job_id":1e99}'
    facts = {**json.loads(line), "deep": [{"x\0": float("inf")}]}

    store.add_verdicts([Verdict("t-1\0", NOON, facts)], spool="8:1", offset=80)

    (found,) = store.verdicts(ticket="t-1")
    assert found.facts["user"] == "ab"
    assert found.facts["est_w"] is None
    assert found.facts["deep"] == [{"x": None}]


def test_a_name_with_an_odd_byte_does_not_hold_up_the_runs(store: PostgresStore) -> None:
    run = JobRecord(
        7, NOON, None, "al\udcffice", "ml\0", "hot", ("n01",), 1_000, "gold", "hot", "RUNNING"
    )

    store.settle_jobs([run], now=NOON + timedelta(seconds=1))

    assert [(found.user, found.account) for found in store.job_runs_of(7)] == [("al?ice", "ml")]
