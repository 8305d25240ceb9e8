# SPDX-License-Identifier: GPL-2.0-or-later
"""What every store promises: the same tests on memory and on PostgreSQL."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from broker.adapters.postgres.store import PostgresStore
from broker.domain.cluster import Quality, Reading
from broker.domain.errors import BadRequest, PowerUnavailable
from broker.domain.reservation import PowerReservation, ReservationState
from broker.services.ports import JobRecord, Store, Verdict
from broker.testing.memory_store import MemoryStore
from tests.support.graph import a_graph

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
GRAPH = a_graph()


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


@dataclass(frozen=True)
class Opened:
    """A store, with what the port has no way to do: collect, and look at the audit."""

    store: Store
    collect: Callable[[Reading], None]
    audit: Callable[[], list[tuple[str | None, str, str]]]  #: reservation, event, by


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    if request.param == "memory":
        memory = MemoryStore()
        yield Opened(
            memory,
            memory.add_reading,
            lambda: [(row.reservation, row.event, row.by) for row in memory.audit],
        )
        return
    store = PostgresStore(request.getfixturevalue("database_url"))
    dsn = request.getfixturevalue("database_dsn")
    yield Opened(store, lambda reading: _collect(dsn, reading), lambda: _audit(dsn))
    store.close()


@pytest.fixture
def store(opened: Opened) -> Store:
    return opened.store


def _collect(dsn: str, reading: Reading) -> None:
    """As the collectors do: a row in `samples`, and `latest` never turned back."""
    values: dict[str, Any] = {
        "device": reading.device,
        "at": reading.polled_at,
        "watts": reading.active_power_w,
        "quality": reading.quality.value,
        "note": reading.note,
    }
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "SELECT make_sample_partition((%(at)s AT TIME ZONE 'UTC')::date)", values
        )
        connection.execute(
            "INSERT INTO samples (device, polled_at, active_power_w, quality, note)"
            " VALUES (%(device)s, %(at)s, %(watts)s, %(quality)s, %(note)s)",
            values,
        )
        connection.execute(
            "INSERT INTO latest AS l (device, kind, polled_at, active_power_w, quality, note)"
            " VALUES (%(device)s, 'pdu', %(at)s, %(watts)s, %(quality)s, %(note)s)"
            " ON CONFLICT (device) DO UPDATE SET polled_at = excluded.polled_at,"
            " active_power_w = excluded.active_power_w, quality = excluded.quality,"
            " note = excluded.note WHERE l.polled_at < excluded.polled_at",
            values,
        )


def _audit(dsn: str) -> list[tuple[str | None, str, str]]:
    with psycopg.connect(dsn) as connection:
        return connection.execute(
            "SELECT reservation, event, by FROM ledger ORDER BY id"
        ).fetchall()


def a_reading(
    seconds: float, device: str = "r1.A", power_w: int | None = 4_000, **changes: Any
) -> Reading:
    return replace(Reading(device, at(seconds), power_w, Quality.GOOD), **changes)


def a_reservation(name: str = "launch", **changes: Any) -> PowerReservation:
    default = PowerReservation(
        name,
        rack="r2",
        nodes=("n05", "n06"),
        power_w=20_000,
        tokens_w=18_000,
        starts_at=at(60),
        ends_at=at(1_860),
        accounts=("ml",),
    )
    return replace(default, **changes)


def a_run(job_id: int = 7, started: float = 0, **changes: Any) -> JobRecord:
    default = JobRecord(
        job_id=job_id,
        started_at=at(started),
        ended_at=None,
        user="alice",
        account="ml",
        partition="hot",
        nodes=("n01", "n02"),
        charge_w=18_000,
        tier="gold",
        lane="hot",
        state="RUNNING",
        ticket="t-1",
    )
    return replace(default, **changes)


def a_verdict(ticket: str = "t-1", seconds: float = 0, **facts: Any) -> Verdict:
    whole = {"v": 1, "ticket": ticket, "at": int(at(seconds).timestamp()), "verdict": "accept"}
    return Verdict(ticket, at(seconds), {**whole, "call": "submit", "job_id": None, **facts})


def add(store: Store, reservation: PowerReservation) -> None:
    store.add_reservation(reservation, graph=GRAPH, now=NOON, by="alice")


# --- telemetry -----------------------------------------------------------------------------------


def test_readings_of_the_horizon_come_newest_last(opened: Opened) -> None:
    readings = [a_reading(second, power_w=4_000 + second) for second in (0, 2, 4)]
    for reading in readings:
        opened.collect(reading)

    telemetry = opened.store.telemetry(now=at(5), horizon_s=4)

    assert telemetry.readings == {"r1.A": tuple(readings[1:])}
    assert telemetry.newest("r1.A") == readings[2]
    assert telemetry.newest("r1.B") is None


def test_a_silent_device_gives_its_last_answer_however_old(opened: Opened) -> None:
    old = a_reading(0, "r1.B", 3_900, quality=Quality.ESTIMATED, note="phase 2 missing")
    opened.collect(a_reading(-60, "r1.B"))
    opened.collect(old)
    opened.collect(a_reading(3_600))

    telemetry = opened.store.telemetry(now=at(3_601), horizon_s=10)

    assert telemetry.readings["r1.B"] == (old,)
    assert telemetry.readings["r1.A"] == (a_reading(3_600),)


def test_a_reading_that_nobody_should_believe_is_seen_all_the_same(opened: Opened) -> None:
    garbage = a_reading(0, power_w=None, quality=Quality.IMPLAUSIBLE, note="-1 W")
    opened.collect(garbage)

    assert opened.store.telemetry(now=at(1), horizon_s=10).newest("r1.A") == garbage


def test_samples_are_the_believable_ones_by_device_and_time(opened: Opened) -> None:
    kept = [a_reading(0, "r1.A"), a_reading(2, "r1.A"), a_reading(1, "r1.B")]
    left_out = [
        a_reading(-1),
        a_reading(10),
        a_reading(3, power_w=None),
        a_reading(4, quality=Quality.IMPLAUSIBLE),
        a_reading(5, quality=Quality.NOT_SUPPORTED),
    ]
    for reading in [kept[2], *left_out, kept[1], kept[0]]:
        opened.collect(reading)

    assert list(opened.store.samples(start=at(0), end=at(10))) == kept


def test_a_reader_of_samples_may_stop_early(opened: Opened) -> None:
    for second in range(5):
        opened.collect(a_reading(second))

    for _ in range(20):  # more often than there are connections
        assert next(iter(opened.store.samples(start=at(0), end=at(10)))) == a_reading(0)


# --- switches ------------------------------------------------------------------------------------


def test_the_mode_is_the_default_until_somebody_sets_it(opened: Opened) -> None:
    assert opened.store.mode("observe") == "observe"

    opened.store.set_mode("enforce", by="root", now=NOON)
    opened.store.set_mode("off", by="root", now=NOON)

    assert opened.store.mode("observe") == "off"
    assert opened.audit() == [(None, "mode", "root")] * 2


# --- reservations --------------------------------------------------------------------------------


def test_a_reservation_comes_back_as_it_was_added(opened: Opened) -> None:
    wanted = a_reservation(users=("alice", "bob"), reason="starts 12:01")

    add(opened.store, wanted)

    assert opened.store.reservations() == [wanted]
    assert opened.audit() == [("launch", "added", "alice")]


def test_reservations_come_by_start_then_name(store: Store) -> None:
    late = a_reservation("a", starts_at=at(120), rack="r1", nodes=("n01",), tokens_w=1)
    first, second = a_reservation("b", tokens_w=1), a_reservation("c", nodes=("n07",), tokens_w=1)
    for each in (late, second, first):
        add(store, each)

    assert store.reservations() == [first, second, late]


def test_the_last_watt_of_a_layer_can_be_reserved_and_not_one_more(opened: Opened) -> None:
    add(opened.store, a_reservation(tokens_w=18_000))
    add(opened.store, a_reservation("fits", nodes=("n07",), tokens_w=10_000))

    with pytest.raises(PowerUnavailable) as refused:
        add(opened.store, a_reservation("much", nodes=("n08",), tokens_w=1))

    assert str(refused.value) == (
        "rack r2: 1 W above idle asked, 0 W of 28000 W can still be reserved"
    )
    assert [each.name for each in opened.store.reservations()] == ["fits", "launch"]
    assert [name for name, _, _ in opened.audit()] == ["launch", "fits"]


def test_windows_that_do_not_meet_may_promise_the_same_watts(store: Store) -> None:
    add(store, a_reservation("early", ends_at=at(600), tokens_w=18_000))
    add(store, a_reservation("late", starts_at=at(600), tokens_w=18_000))

    add(store, a_reservation("beside", nodes=("n07", "n08"), tokens_w=10_000))

    assert len(store.reservations()) == 3


def test_a_row_is_not_promised_more_than_it_has(store: Store) -> None:
    add(store, a_reservation(nodes=("n05", "n06", "n07"), power_w=27_000, tokens_w=24_000))
    add(store, a_reservation("r1", rack="r1", nodes=("n01", "n02"), tokens_w=16_000))
    add(store, a_reservation("far", rack="r3", nodes=("n09",), tokens_w=18_000))

    # Its window meets only the second half of those above: still the worst instant counts.
    wanted = a_reservation("more", starts_at=at(900), ends_at=at(3_600), rack="r1", nodes=("n03",))
    with pytest.raises(PowerUnavailable, match=r"row a: 10001 W .* 10000 W of 50000 W"):
        add(store, replace(wanted, power_w=12_000, tokens_w=10_001))


def test_a_node_is_set_aside_once_at_a_time(store: Store) -> None:
    add(store, a_reservation(tokens_w=1_000))

    with pytest.raises(PowerUnavailable, match="n06 set aside for reservation launch"):
        add(store, a_reservation("second", nodes=("n06", "n07"), tokens_w=1_000))


REFUSED = {
    "it must end after it starts": {"ends_at": at(60)},
    "its watts must be more than the idle draw": {"tokens_w": 0},
    "it has no nodes": {"nodes": ()},
}


@pytest.mark.parametrize(("because", "changes"), REFUSED.items(), ids=REFUSED.keys())
def test_what_makes_no_sense_is_refused(
    opened: Opened, because: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(BadRequest, match=f"reservation launch: {because}"):
        add(opened.store, a_reservation(**changes))

    assert opened.store.reservations() == []
    assert opened.audit() == []


def test_a_name_is_free_again_once_its_reservation_is_closed(store: Store) -> None:
    add(store, a_reservation())
    with pytest.raises(BadRequest, match="reservation launch: its name is in use"):
        add(store, a_reservation(rack="r1", nodes=("n01",)))

    move(store, ReservationState.RELEASED)
    add(store, a_reservation(rack="r1", nodes=("n01",)))

    assert [each.rack for each in store.reservations()] == ["r1"]
    assert [each.rack for each in store.reservations(open_only=False)] == ["r2", "r1"]


def move(store: Store, state: ReservationState, reason: str = "as asked", **more: Any) -> None:
    store.set_reservation_state("launch", state, reason=reason, now=at(60), by="root", **more)


def test_released_watts_can_be_promised_again(store: Store) -> None:
    add(store, a_reservation(tokens_w=18_000))
    move(store, ReservationState.RELEASED)

    add(store, a_reservation("next", tokens_w=18_000))

    assert [each.name for each in store.reservations()] == ["next"]


def test_releasing_twice_frees_once(opened: Opened) -> None:
    add(opened.store, a_reservation())

    move(opened.store, ReservationState.RELEASED)
    move(opened.store, ReservationState.RELEASED)
    move(opened.store, ReservationState.ACTIVE, "its watts are free")  # a cycle that came too late

    (found,) = opened.store.reservations(open_only=False)
    assert (found.state, found.reason) == (ReservationState.RELEASED, "as asked")
    assert [event for _, event, _ in opened.audit()] == ["added", "released"]


def test_use_is_remembered_without_a_row_of_audit_each_time(opened: Opened) -> None:
    add(opened.store, a_reservation())
    move(opened.store, ReservationState.ACTIVE, used_at=at(61))
    move(opened.store, ReservationState.ACTIVE, used_at=at(62))
    move(opened.store, ReservationState.ACTIVE)

    (found,) = opened.store.reservations()
    assert (found.state, found.used_at) == (ReservationState.ACTIVE, at(62))
    assert [event for _, event, _ in opened.audit()] == ["added", "active"]


def test_a_reservation_that_never_was_cannot_be_moved(store: Store) -> None:
    with pytest.raises(BadRequest, match="no reservation launch"):
        move(store, ReservationState.RELEASED)


# --- actions -------------------------------------------------------------------------------------


def test_an_action_is_an_intent_until_it_is_confirmed(store: Store) -> None:
    facts = {"rack": "r1", "nodes": ("n01", "n02")}
    action_id = store.intend("SetFence", "r1", "rack r1 is full", now=NOON, facts=facts)

    (found,) = store.actions()

    assert (found.action_id, found.outcome, found.error) == (action_id, "intent", "")
    assert (found.kind, found.target, found.because) == ("SetFence", "r1", "rack r1 is full")
    assert (found.at, found.facts) == (NOON, {"rack": "r1", "nodes": ["n01", "n02"]})

    store.confirm(action_id, now=at(1), outcome="refused", error="Invalid node name")

    (found,) = store.actions()
    assert (found.outcome, found.error, found.at) == ("refused", "Invalid node name", NOON)


def test_actions_come_newest_first_and_by_what_is_asked(store: Store) -> None:
    fence, shed, fence_again = (
        store.intend(kind, target, "because", now=at(second))
        for second, (kind, target) in enumerate([("F", "r1"), ("S", "7"), ("F", "r1")])
    )

    def ids(**terms: Any) -> list[int]:
        return [each.action_id for each in store.actions(**terms)]

    assert ids() == [fence_again, shed, fence]
    assert ids(limit=1) == [fence_again]
    assert ids(target="r1") == ids(kind="F") == [fence_again, fence]
    assert ids(since=at(1)) == [fence_again, shed]
    assert ids(target="7", kind="F") == []


def test_what_was_never_intended_cannot_be_confirmed(store: Store) -> None:
    with pytest.raises(BadRequest, match="no action 99"):
        store.confirm(99, now=NOON, outcome="done")


# --- verdicts ------------------------------------------------------------------------------------


def test_verdicts_and_the_place_in_the_spool_are_kept_together(store: Store) -> None:
    first, second = a_verdict("t-1", 0), a_verdict("t-2", 1, verdict="reject", message="too much")
    assert store.spool_offset("8:1") == 0

    store.add_verdicts([first, second], spool="8:1", offset=240)

    assert store.spool_offset("8:1") == 240
    assert store.spool_offset("8:2") == 0
    assert store.verdicts() == [second, first]
    assert store.verdicts(limit=1) == [second]
    assert store.verdicts(ticket="t-1") == [first]


def test_a_verdict_read_twice_is_kept_once(store: Store) -> None:
    store.add_verdicts([a_verdict()], spool="8:1", offset=120)

    store.add_verdicts([a_verdict(), a_verdict(), a_verdict("t-2")], spool="8:1", offset=360)

    assert [each.ticket for each in store.verdicts()] == ["t-2", "t-1"]


def test_one_ticket_may_have_a_verdict_at_submit_and_later_ones(store: Store) -> None:
    verdicts = [a_verdict(), a_verdict(call="modify", job_id=7), a_verdict(seconds=5)]

    store.add_verdicts(verdicts, spool="8:1", offset=360)

    assert store.verdicts(ticket="t-1") == [verdicts[2], verdicts[1], verdicts[0]]


def test_no_new_verdict_still_moves_the_place(store: Store) -> None:
    store.add_verdicts([], spool="8:1", offset=17)

    assert store.spool_offset("8:1") == 17


# --- runs ----------------------------------------------------------------------------------------


def test_a_run_is_written_once_and_then_changed(store: Store) -> None:
    store.settle_jobs([a_run()], now=at(0))
    store.settle_jobs([a_run(ended_at=at(30), state="COMPLETED")], now=at(31))

    assert store.job_runs_of(7) == [a_run(ended_at=at(30), state="COMPLETED")]


def test_a_requeued_job_has_several_runs_oldest_first(store: Store) -> None:
    runs = [a_run(started=0, ended_at=at(30), state="PREEMPTED"), a_run(started=90)]

    store.settle_jobs([*reversed(runs), a_run(8)], now=at(91))

    assert store.job_runs_of(7) == runs
    assert store.job_runs_of(9) == []


def test_of_a_run_given_twice_the_last_counts(store: Store) -> None:
    store.settle_jobs([a_run(), a_run(state="COMPLETING")], now=at(0))

    assert [run.state for run in store.job_runs_of(7)] == ["COMPLETING"]


def test_an_older_view_does_not_bring_an_ended_run_back(store: Store) -> None:
    ended = a_run(ended_at=at(30), state="COMPLETED")
    store.settle_jobs([ended], now=at(31))

    store.settle_jobs([a_run()], now=at(29))

    assert store.job_runs_of(7) == [ended]


def test_runs_of_a_window_overlap_it(store: Store) -> None:
    runs = {
        "over before": a_run(1, -20, ended_at=at(0)),
        "reaches in": a_run(2, -10, ended_at=at(1)),
        "open": a_run(3, -5),
        "inside": a_run(4, 2, ended_at=at(3)),
        "begins at the end": a_run(5, 10),
    }
    store.settle_jobs(runs.values(), now=at(11))

    assert [run.job_id for run in store.job_runs(start=at(0), end=at(10))] == [2, 3, 4]


def test_an_instant_is_a_window_too(store: Store) -> None:
    store.settle_jobs([a_run(1, -5), a_run(2, 0), a_run(3, -5, ended_at=at(0))], now=at(0))

    assert [run.job_id for run in store.job_runs(start=at(0), end=at(0))] == [1, 2]


def test_many_runs_are_settled_at_once(store: Store) -> None:
    store.settle_jobs((a_run(job_id) for job_id in range(1, 2_502)), now=at(0))

    assert len(store.job_runs(start=at(0), end=at(1))) == 2_501
