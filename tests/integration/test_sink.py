# SPDX-License-Identifier: GPL-2.0-or-later
"""What the sink makes of records in a real Postgres."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

import migrations
from collectors.devices import Device
from collectors.housekeeping import Housekeeping
from collectors.quality import Judge, LastKnown, last_known
from collectors.readings import Identity, Quality, Reading, Record, Silence
from collectors.sink import Sink
from collectors.spool import Spool
from tests.support.postgres import Cluster

pytestmark = pytest.mark.postgres

NOW_US = time.time_ns() // 1000
SECOND_US = 1_000_000
DAY_US = 86_400 * SECOND_US


def a_reading(
    at_us: int, power_w: int | None, quality: Quality = Quality.GOOD, note: str = ""
) -> Reading:
    return Reading("r1.A", "pdu", at_us, power_w, 1, 2**40, quality, note)


class Store:
    """A sink run to its end on given records, and a look at what it left."""

    def __init__(self, dsn: str, folder: Path) -> None:
        self.dsn = dsn
        self.folder = folder
        self.lives = 0

    def take(self, *records: Record) -> None:
        self.lives += 1
        spool = Spool(self.folder / str(self.lives), max_bytes=2**24)
        for each in records:
            spool.append(each)
        sink = Sink(spool, dsn=self.dsn, flush_s=0.01, partition_days_ahead=2, keep_days=10)
        sink.start()
        sink.stop(within_s=30)
        assert not sink.is_alive()
        assert spool.backlog_bytes() == 0
        spool.close()

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]

    def keep_house(self, closed: datetime | None = None) -> None:
        keeper = Housekeeping(
            dsn=self.dsn,
            hold_s=10,
            partition_days_ahead=2,
            keep_days=10,
            keep_minutes_days=400,
            keep_hours_days=3650,
        )
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            keeper.keep(connection, closed)

    def powers(self) -> list[object]:
        return [power for (power,) in self.rows("SELECT active_power_w FROM samples ORDER BY 1")]

    def latest(self, columns: str) -> tuple[object, ...]:
        [row] = self.rows(f"SELECT {columns} FROM latest")
        return row


@pytest.fixture
def store(database_dsn: str, tmp_path: Path) -> Store:
    return Store(database_dsn, tmp_path)


def test_the_time_of_the_answer_is_kept_to_the_microsecond(store: Store) -> None:
    store.take(a_reading(NOW_US, 1_000))

    [(polled_at,)] = store.rows("SELECT polled_at FROM samples")
    assert polled_at == datetime.fromtimestamp(0, UTC) + timedelta(microseconds=NOW_US)


def test_a_batch_that_comes_twice_changes_nothing(store: Store) -> None:
    batch = [a_reading(NOW_US + n, n) for n in range(100)]
    store.take(*batch)
    before = store.rows("SELECT * FROM samples ORDER BY 1, 2"), store.latest("*")

    store.take(*batch, *batch)

    assert (store.rows("SELECT * FROM samples ORDER BY 1, 2"), store.latest("*")) == before


def test_a_late_batch_is_stored_but_does_not_turn_latest_back(store: Store) -> None:
    store.take(a_reading(NOW_US, 2_000))
    store.take(a_reading(NOW_US - SECOND_US, 1_000))

    assert store.powers() == [1_000, 2_000]
    assert store.latest("active_power_w, good_power_w") == (2_000, 2_000)


def test_an_implausible_value_leaves_the_good_one(store: Store) -> None:
    store.take(a_reading(NOW_US, 2_000))
    store.take(a_reading(NOW_US + 1, 0, Quality.IMPLAUSIBLE, "0 W from a loaded device"))

    assert store.latest("active_power_w, quality, note, good_power_w") == (
        0,
        "implausible",
        "0 W from a loaded device",
        2_000,
    )
    assert last_known(store.dsn, ["r1.A", "r1.B"]) == {
        "r1.A": LastKnown(2_000, NOW_US, NOW_US + 1, 2**40, "")
    }


def test_energy_goes_on_where_a_collector_left_it(store: Store) -> None:
    device = Device("r1.A", "pdu", "127.0.1.1", 161, 66_000)
    for life in range(2):
        judge = Judge(device, interval_s=10, last=last_known(store.dsn, ["r1.A"]).get("r1.A"))
        for nth in range(3):
            at_us = NOW_US + (3 * life + nth) * 10 * SECOND_US
            reading = Reading("r1.A", "pdu", at_us, 36_000, None, None, Quality.GOOD)
            store.take(judge(reading))

    assert store.rows("SELECT energy_wh, energy_source FROM samples ORDER BY polled_at") == [
        (100 * nth, "integrated") for nth in range(6)
    ]


def test_the_good_value_of_a_batch_that_ends_in_a_bad_one_is_kept(store: Store) -> None:
    store.take(
        a_reading(NOW_US, 2_000),
        a_reading(NOW_US + 1, None, Quality.NOT_SUPPORTED, "answered -1"),
    )

    assert store.latest("active_power_w, quality, good_power_w") == (None, "not_supported", 2_000)


def a_full_reading(at_us: int, power_w: int, *values: float | None) -> Reading:
    layout = tuple(f"inlet.{n}.current_a" for n in range(len(values or (0.0,))))
    return Reading(
        *("r1.A", "pdu", at_us, power_w, 1, 2**40, Quality.GOOD, ""),
        layout,
        values or (0.5,),
        "counter",
    )


def test_values_are_found_by_their_names(store: Store) -> None:
    store.take(a_full_reading(NOW_US, 1, 1.5, None, 229.9), a_reading(NOW_US + 1, 2))
    store.take(a_full_reading(NOW_US + 2, 3, 7.0))

    named = """SELECT s.active_power_w, v.name, v.value FROM samples s JOIN layouts l ON
        l.layout_id = s.layout, unnest(l.names, s.vals) AS v(name, value) ORDER BY 1, 2"""
    assert store.rows(named) == [
        (1, "inlet.0.current_a", 1.5),
        (1, "inlet.1.current_a", None),
        (1, "inlet.2.current_a", pytest.approx(229.9, rel=1e-6)),
        (3, "inlet.0.current_a", 7.0),
    ]
    assert store.rows(
        "SELECT layout, vals, energy_source FROM samples WHERE active_power_w = 2"
    ) == [(None, None, "")]
    assert store.latest("vals, energy_wh, energy_source") == ([7.0], 2**40, "counter")
    store.take(a_full_reading(NOW_US + 3, 4, 8.0))
    assert store.rows("SELECT count(*) FROM layouts") == [(2,)]


def test_values_that_no_real_holds_cost_themselves_only(store: Store) -> None:
    store.take(a_full_reading(NOW_US, 1, 1e300, 2.0, 1e-300, float("nan")))

    assert store.rows("SELECT vals FROM samples") == [([None, 2.0, 0.0, None],)]


def test_a_note_may_hold_anything(store: Store) -> None:
    note = "tab\t newline\n back\\slash \\N nul\0 'quotes' ü {}"
    store.take(a_reading(NOW_US, 1, Quality.IMPLAUSIBLE, note))

    assert store.rows("SELECT note FROM samples") == [(note.replace("\0", ""),)]


def test_what_a_device_turned_out_to_be_stays_with_it(store: Store) -> None:
    store.take(Identity("r1.A", "pdu", NOW_US, "apc-rpdu2", "1.3.6.1.4.1.318.1", "AP8853"))
    store.take(a_reading(NOW_US, 2_000))

    assert store.latest("profile, sys_object_id, description, active_power_w") == (
        "apc-rpdu2",
        "1.3.6.1.4.1.318.1",
        "AP8853",
        2_000,
    )


def test_silence_marks_latest_and_makes_no_sample(store: Store) -> None:
    store.take(a_reading(NOW_US, 2_000))
    silence = Silence("r1.A", "pdu", NOW_US + 7 * SECOND_US, NOW_US, "no answer for 7 s: timed out")
    store.take(silence)

    assert len(store.powers()) == 1
    assert store.latest("active_power_w, note, silent_since = polled_at") == (
        2_000,
        "no answer for 7 s: timed out",
        True,
    )

    store.take(a_reading(NOW_US + 9 * SECOND_US, 2_100))
    store.take(silence)

    assert store.latest("active_power_w, note, silent_since") == (2_100, "", None)


def test_a_device_that_never_answered_is_silent_too(store: Store) -> None:
    store.take(Silence("n01.bmc", "bmc", NOW_US, NOW_US - 6 * SECOND_US, "no answer for 6 s"))

    assert store.latest("device, kind, polled_at, quality, good_at") == (
        "n01.bmc",
        "bmc",
        None,
        None,
        None,
    )


def test_a_spooled_day_gets_its_partition(store: Store) -> None:
    store.take(*[a_reading(NOW_US - days * DAY_US, days) for days in range(10)])

    assert store.powers() == list(range(10))
    day = (datetime.now(UTC) - timedelta(days=9)).strftime("%Y%m%d")
    assert store.rows(f"SELECT count(*) FROM samples_{day}") == [(1,)]


def test_a_wrong_clock_costs_its_readings_only(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.take(
        a_reading(NOW_US - 4_000 * DAY_US, 1),
        a_reading(NOW_US, 2),
        a_reading(NOW_US + 400 * DAY_US, 3),
    )

    assert store.powers() == [2]
    assert "dropped 2 readings" in caplog.text


def test_a_reading_that_postgres_refuses_does_not_hold_up_the_others(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    store.take(a_reading(NOW_US, 1), a_reading(NOW_US + 1, 2**40), a_reading(NOW_US + 2, 3))

    assert store.powers() == [1, 3]
    assert "Postgres refuses Reading" in caplog.text


def test_old_days_are_dropped(store: Store) -> None:
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        for days in (9, 11, 300):
            connection.execute("SELECT make_sample_partition(current_date - %s)", (days,))

    store.keep_house()

    partitions = store.rows(
        "SELECT relname FROM pg_class WHERE relname ~ '^samples_[0-9]+$' ORDER BY 1"
    )
    oldest = (datetime.now(UTC) - timedelta(days=9)).strftime("samples_%Y%m%d")
    assert partitions[0] == (oldest,)
    assert len(partitions) == 1 + 4  # made by the migration: today and three days ahead


def test_nobody_but_the_collector_may_drop_days(store: Store) -> None:
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS nosy")
        connection.execute("CREATE ROLE nosy")
        connection.execute("SET ROLE nosy")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT drop_sample_partitions(2)")


def test_the_collectors_own_role_is_enough_and_has_no_more(
    postgres_cluster: Cluster, tmp_path: Path
) -> None:
    name = "owned"
    for role in ("powerbroker", "powercollect"):
        postgres_cluster.execute(f"CREATE ROLE {role} LOGIN")
    postgres_cluster.execute(f"CREATE DATABASE {name} OWNER powerbroker")
    migrations.upgrade(postgres_cluster.url(name, user="powerbroker"))
    store = Store(postgres_cluster.dsn(name, user="powercollect"), tmp_path)

    store.take(a_reading(NOW_US - 5 * DAY_US, 1), a_reading(NOW_US, 2))
    store.take(Silence("r1.A", "pdu", NOW_US + SECOND_US, NOW_US, "no answer for 1 s"))
    store.take(a_full_reading(NOW_US + 2, 3))
    store.keep_house(datetime.now(UTC) + timedelta(hours=2))

    assert store.powers() == [1, 2, 3]
    with psycopg.connect(store.dsn, autocommit=True) as connection:
        for forbidden in (
            "DELETE FROM samples",
            "UPDATE samples SET note = ''",
            "DROP TABLE latest",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden)  # type: ignore[call-overload]


def test_the_schema_goes_down_and_up_again(postgres_cluster: Cluster, database: str) -> None:
    migrations.downgrade(postgres_cluster.url(database), "base")
    with psycopg.connect(postgres_cluster.dsn(database)) as connection:
        left = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p') ORDER BY 1"
        ).fetchall()
    assert left == [("alembic_version",)]

    migrations.upgrade(postgres_cluster.url(database))
