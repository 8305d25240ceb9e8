# SPDX-License-Identifier: GPL-2.0-or-later
"""The migrations make what the models say, and keep what was there."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text

import migrations
from broker.adapters.postgres.tables import Base
from tests.support.postgres import Cluster

pytestmark = pytest.mark.postgres

_OURS = set(Base.metadata.tables)
# Everything the catalogue knows of a schema, as text that can be compared.
_CATALOGUE = text("""
    SELECT c.relname AS of_table, 'column ' || a.attname AS name,
           concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
                     pg_get_expr(d.adbin, d.adrelid)) AS definition
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
    WHERE c.relnamespace = to_regnamespace(:schema) AND c.relkind IN ('r', 'p') AND a.attnum > 0
    UNION ALL
    SELECT c.relname, 'constraint ' || k.conname, pg_get_constraintdef(k.oid)
    FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
    WHERE k.connamespace = to_regnamespace(:schema)
    UNION ALL
    SELECT tablename, 'index ' || indexname, replace(indexdef, :schema || '.', '')
    FROM pg_indexes WHERE schemaname = :schema""")


@pytest.fixture
def connection(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url)
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _catalogue(connection: Connection, schema: str) -> dict[tuple[str, str], str]:
    rows = connection.execute(_CATALOGUE, {"schema": schema})
    return {(table, name): definition for table, name, definition in rows if table in _OURS}


def test_alembic_finds_no_difference_to_the_models(connection: Connection) -> None:
    def ours(name: str | None, kind: str, parents: Any) -> bool:
        return kind != "table" or name in _OURS  # not the partitions, nor Alembic's own table

    context = MigrationContext.configure(connection, opts={"include_name": ours})

    assert compare_metadata(context, Base.metadata) == []


def test_columns_constraints_and_indexes_are_those_of_the_models(connection: Connection) -> None:
    """Alembic's own comparison does not look at check constraints and partial indexes."""
    connection.execute(text("CREATE SCHEMA models"))
    mapped = connection.execution_options(schema_translate_map={None: "models"})
    Base.metadata.create_all(mapped)

    migrated, modelled = _catalogue(connection, "public"), _catalogue(connection, "models")

    assert migrated == modelled
    assert {table for table, _ in migrated} == _OURS
    assert ("reservations", "constraint reservations_watts") in migrated


def test_the_ledger_comes_to_a_database_that_has_telemetry(postgres_cluster: Cluster) -> None:
    postgres_cluster.execute("CREATE DATABASE walked")
    url, dsn = postgres_cluster.url("walked"), postgres_cluster.dsn("walked")
    migrations.upgrade(url, "0001_telemetry")
    with psycopg.connect(dsn) as connection:
        connection.execute("INSERT INTO samples VALUES ('r1.A', now(), 4000, 4200, 17, 'good')")
        connection.execute(
            "INSERT INTO latest (device, kind, polled_at, active_power_w, quality)"
            " SELECT device, 'pdu', polled_at, active_power_w, quality FROM samples"
        )

    migrations.upgrade(url)
    migrations.upgrade(url)  # what an operator does again finds nothing to do

    with psycopg.connect(dsn) as connection:
        found = connection.execute("SELECT device, active_power_w, energy_wh FROM samples")
        assert found.fetchall() == [("r1.A", 4_000, 17)]
        assert connection.execute("SELECT count(*) FROM latest").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM reservations").fetchone() == (0,)


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A server of its own: roles belong to a whole server."""
    cluster = Cluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.destroy()


def test_the_collector_is_given_nothing_of_the_ledger(own_cluster: Cluster) -> None:
    """Its role exists where the suite is installed, before the migrations run."""
    own_cluster.execute("CREATE ROLE powercollect LOGIN")
    migrations.upgrade(own_cluster.url("postgres"))

    with psycopg.connect(own_cluster.dsn("postgres")) as connection:
        readable = connection.execute(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p')"
            " AND relnamespace = 'public'::regnamespace"
            " AND has_table_privilege('powercollect', oid, 'SELECT,INSERT,UPDATE,DELETE')"
        ).fetchall()

    assert sorted(name for (name,) in readable) == ["latest", "rollups_due", "samples"]
