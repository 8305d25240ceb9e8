# SPDX-License-Identifier: GPL-2.0-or-later
"""What every store says of the meters: the same tests on memory and on PostgreSQL."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
import pytest

from broker.adapters.postgres.store import PostgresStore
from broker.services.ports import DeviceState, Store
from broker.testing.memory_store import MemoryStore

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
PDU = DeviceState(
    name="r1.B",
    kind="pdu",
    polled_at=NOON,
    active_power_w=3_000,
    quality="estimated",
    note="stamped 3.2 s before the answer before it: the clock went back",
    energy_wh=5_000_000_000,
    energy_source="counter",
    profile="raritan-px3",
    sys_object_id="1.3.6.1.4.1.13742.6",
    description="PX3-5902V",
    values={"inlet.1.current_a": 12.5, "inlet.1.voltage_v": None},
)
SILENT = DeviceState("r1.A", "pdu", None, None, None, note="no answer", silent_since=NOON)


@dataclass(frozen=True)
class Opened:
    store: Store
    collect: Callable[[DeviceState], None]


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.postgres)])
def opened(request: pytest.FixtureRequest) -> Iterator[Opened]:
    if request.param == "memory":
        memory = MemoryStore()
        yield Opened(memory, memory.add_device)
        return
    store = PostgresStore(request.getfixturevalue("database_url"))
    dsn = request.getfixturevalue("database_dsn")
    yield Opened(store, lambda state: _collect(dsn, state))
    store.close()


def _collect(dsn: str, state: DeviceState) -> None:
    names = list(state.values)
    with psycopg.connect(dsn) as connection:
        connection.execute(
            "INSERT INTO latest (device, kind, polled_at, active_power_w, quality, note,"
            " silent_since, energy_wh, energy_source, profile, sys_object_id, description, layout,"
            " vals) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s,"
            " CASE WHEN %s::text[] = '{}' THEN NULL ELSE layout_number(%s) END, %s)",
            (
                state.name,
                state.kind,
                state.polled_at,
                state.active_power_w,
                state.quality,
                state.note,
                state.silent_since,
                state.energy_wh,
                state.energy_source,
                state.profile,
                state.sys_object_id,
                state.description,
                names,
                names,
                list(state.values.values()) or None,
            ),
        )


def test_the_meters_as_they_answered_last_by_name(opened: Opened) -> None:
    assert opened.store.devices() == []

    opened.collect(PDU)
    opened.collect(SILENT)

    assert opened.store.devices() == [SILENT, PDU]


def test_only_those_asked_for(opened: Opened) -> None:
    opened.collect(PDU)
    opened.collect(SILENT)

    assert opened.store.devices(["r1.B", "r9.Z"]) == [PDU]
