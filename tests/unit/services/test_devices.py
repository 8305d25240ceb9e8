# SPDX-License-Identifier: GPL-2.0-or-later
"""What powermgr shows of the meters."""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from broker.config.inventory import load_inventory
from broker.domain.admission_state import Switches
from broker.domain.errors import BadRequest
from broker.domain.power_graph import Feed, PowerGraph
from broker.domain.showback import Tariff
from broker.services.desk import Desk
from broker.services.devices import device_rows, doubted, feed_rows, sensor_rows, unit_of
from broker.services.messages import Request
from broker.services.ports import DeviceState
from broker.services.publish import Site
from broker.testing.memory_store import MemoryStore
from tests.support.builders import A_MINUTE, A_SECOND, NOON, RULES, a_graph

ETC = Path(__file__).resolve().parents[3] / "etc"


def graph() -> PowerGraph:
    """One rack, r1, of two nodes and feeds A and B."""
    found = a_graph(rows={"a": {"r1": 2}})
    rack = found.layers["r1"]
    feeds = tuple(Feed(pdu[-1], 80, 41_952, pdu) for pdu in rack.pdus)
    return PowerGraph({**found.layers, "r1": replace(rack, feeds=feeds)}, found.nodes)


def a_state(name: str = "r1.A", power_w: int | None = 3_000, **others: Any) -> DeviceState:
    values: dict[str, Any] = {"kind": "pdu", "polled_at": NOON - 2 * A_SECOND, "quality": "good"}
    return DeviceState(name=name, active_power_w=power_w, **{**values, **others})


def test_every_meter_of_the_inventory_has_a_row() -> None:
    rows = device_rows(graph(), [a_state(profile="apc-rpdu2", energy_wh=12_345)], NOON)

    assert [(row["name"], row["kind"], row["rack"], row["feed"]) for row in rows] == [
        ("r1.A", "pdu", "r1", "A"),
        ("r1.B", "pdu", "r1", "B"),
        ("n01.bmc", "bmc", "r1", None),
        ("n02.bmc", "bmc", "r1", None),
    ]
    first, second = rows[:2]
    assert (first["profile"], first["draw_w"], first["quality"]) == ("apc-rpdu2", 3_000, "good")
    assert (first["age_s"], first["note"], first["energy_kwh"]) == (2, "", 12.345)
    assert second["note"] == "never answered"


def test_a_meter_that_is_not_believed_shows_why_and_no_draw() -> None:
    liar = a_state(power_w=0, quality="implausible", note="0 W from a device that drew 4,000 W")
    (row, *_) = device_rows(graph(), [liar], NOON)

    assert (row["draw_w"], row["quality"], row["note"]) == (None, "implausible", liar.note)


def test_a_silent_meter_is_silent_whatever_it_said_last() -> None:
    gone = a_state(silent_since=NOON - A_MINUTE, note="no answer for 60 s: timeout")
    (row, *_) = device_rows(graph(), [gone], NOON)

    assert (row["draw_w"], row["quality"]) == (None, "silent")


def test_a_meter_that_was_taken_out_of_the_inventory_is_said_to_be() -> None:
    row = device_rows(graph(), [a_state("r9.A", note="x")], NOON)[-1]

    assert (row["name"], row["rack"], row["note"]) == ("r9.A", None, "not in the inventory; x")


def test_a_liar_by_what_the_others_show_is_marked_though_its_reading_looked_good() -> None:
    marked = doubted([a_state(), a_state("r1.B")], {"r1.B": "r1.B is not believed: because"})
    first, second, *_ = device_rows(graph(), marked, NOON)

    assert (first["quality"], first["draw_w"], first["note"]) == ("good", 3_000, "")
    assert (second["quality"], second["draw_w"]) == ("implausible", None)
    assert second["note"] == "r1.B is not believed: because"


def test_feeds_share_the_draw() -> None:
    rows = feed_rows(graph(), [a_state(), a_state("r1.B", 1_000, quality="estimated")], NOON)

    assert [(row["feed"], row["pdu"], row["draw_w"], row["share_percent"]) for row in rows] == [
        ("A", "r1.A", 3_000, 75.0),
        ("B", "r1.B", 1_000, 25.0),
    ]
    assert (rows[0]["rating_a"], rows[0]["continuous_w"], rows[0]["age_s"]) == (80, 41_952, 2)


def test_half_a_rack_is_no_share() -> None:
    rows = feed_rows(graph(), [a_state()], NOON)

    assert [(row["draw_w"], row["share_percent"]) for row in rows] == [(3_000, None), (None, None)]


def test_sensors_are_the_named_values_with_their_unit() -> None:
    state = a_state(values={"inlet.1.current_a": 3.4000000953674316, "outlet.2.on": None})

    assert sensor_rows([state], NOON) == [
        {"device": "r1.A", "name": "inlet.1.current_a", "value": 3.4, "unit": "A", "age_s": 2},
        {"device": "r1.A", "name": "outlet.2.on", "value": None, "unit": None, "age_s": 2},
    ]


def test_units_are_those_of_the_names() -> None:
    names = ("phase.L1.voltage_v", "sensor.1.temperature_c", "total.power_factor", "gpu.0.power_w")

    assert [unit_of(each) for each in names] == ["V", "C", None, "W"]


def test_too_many_sensors_are_refused_with_a_way_out() -> None:
    state = a_state(values={f"outlet.{n}.power_w": 1.0 for n in range(20_001)})

    with pytest.raises(BadRequest, match="20,001 sensors") as refused:
        sensor_rows([state], NOON)
    assert refused.value.hint == "powermgr show sensor where device=r1.A"


def test_the_sample_inventory_gives_its_feeds() -> None:
    rack = load_inventory(ETC / "inventory.toml").layers["r1"]

    assert rack.feeds == (Feed("A", 80, 41_952, "r1.A"), Feed("B", 80, 41_952, "r1.B"))


@pytest.mark.parametrize(
    ("entity", "where", "names"),
    [
        ("device", {"kind": ["bmc"]}, ["n01.bmc", "n02.bmc"]),
        ("device", {"quality": ["good"]}, ["r1.A"]),
        ("sensor", {"device": ["r1.A"]}, ["inlet.1.current_a"]),
        ("sensor", {"device": ["r1.B"]}, []),
        ("feed", {"feed": ["B"]}, ["B"]),
    ],
)
def test_the_desk_shows_them(entity: str, where: dict[str, Any], names: list[str]) -> None:
    store = MemoryStore()
    store.add_device(a_state(values={"inlet.1.current_a": 13.6}))
    site = Site(cluster="lab", graph=graph(), rules=RULES, switches=Switches(), admins=())
    tariff = Tariff(Decimal("0.25"), Decimal("0.05"), "EUR")
    desk = Desk(site, store, FixedClock(), tariff, 1.0, lambda: None, lambda: "me")

    answer = desk(Request("show", entity, where=where))

    assert [row.get("name", row.get("feed")) for row in answer.rows] == names


class FixedClock:
    def now(self) -> datetime:
        return NOON
