# SPDX-License-Identifier: GPL-2.0-or-later
"""Redfish devices read whole: DMTF's mockups, and devices that misbehave."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from collectors.devices import Meter
from collectors.readings import Quality, Reading
from collectors.redfish import RedfishReader
from collectors.transport import NoAnswer
from collectors.transport.http import HttpTarget, HttpTransport
from tests.support.http_device import Answer, Answers, Asked, HttpDevice, Writes, http_device, tree

PDU = Meter("r1.A", "pdu", "127.0.0.1", 0, 66_240, scheme="redfish")
BMC = Meter("n01.bmc", "bmc", "127.0.0.1", 0, 15_300, scheme="redfish")
TIMEOUT_S = 1.0


@pytest.fixture
async def device() -> AsyncIterator[HttpDevice]:
    async with http_device() as device:
        yield device


def reader_of(device: HttpDevice, meter: Meter) -> RedfishReader:
    target = HttpTarget("127.0.0.1", device.port, "operator", "s3cret!", TIMEOUT_S, tls=False)
    return RedfishReader(meter, HttpTransport(target))


async def read(device: HttpDevice, meter: Meter) -> Reading:
    reader = reader_of(device, meter)
    try:
        return await reader.read()
    finally:
        await reader.close()


def named(reading: Reading) -> dict[str, float | None]:
    return dict(zip(reading.layout, reading.values, strict=True))


@pytest.mark.shared_data
@pytest.mark.parametrize("expands", [True, False], ids=["expands", "member by member"])
async def test_a_rack_pdu_is_read_with_its_circuits(
    shared_data: Path, device: HttpDevice, expands: bool
) -> None:
    device.answer = tree(shared_data / "data/redfish/public-pdu", expands=expands)

    reading = await read(device, PDU)

    assert (reading.active_power_w, reading.apparent_power_va) == (6438, 6300)
    assert (reading.energy_wh, reading.energy_source) == (56_438_000, "counter")
    assert reading.quality is Quality.GOOD
    values = named(reading)
    expected = {
        "total.power_factor": 0.93,
        "sensor.1.temperature_c": 31.0,
        "inlet.AC1.breaker_closed": 1.0,
        "inlet.AC1.phase.L1.current_a": 8.02,
        "inlet.AC1.phase.L2.voltage_v": 116.6,
        "inlet.AC1.phase.L3.power_w": 58.1,
        "branch.A.current_a": 5.19,
        "branch.A.power_w": 937.4,
        "branch.A.rating_a": 16.0,
    }
    assert {name: values[name] for name in expected} == expected
    assert ("outlet.A1.power_w" in values) is expands
    if expands:
        assert (values["outlet.A1.power_w"], values["outlet.A1.on"]) == (197.4, 1.0)


@pytest.mark.shared_data
async def test_a_power_shelf_counts_as_a_pdu(shared_data: Path, device: HttpDevice) -> None:
    device.answer = tree(shared_data / "data/redfish/public-power-shelf", expands=False)

    reading = await read(device, PDU)

    assert reading.active_power_w == 6438
    assert any(name.startswith("inlet.AC2.") for name in reading.layout)


@pytest.mark.shared_data
async def test_a_server_is_read_by_its_environment_and_its_power_limit(
    shared_data: Path, device: HttpDevice
) -> None:
    device.answer = tree(shared_data / "data/redfish/public-rackmount1", expands=False)

    reading = await read(device, BMC)

    assert reading.active_power_w == 374
    assert named(reading)["limit.power_w"] == 500.0
    assert named(reading)["limit.lowest_power_w"] == 150.0


@pytest.mark.shared_data
async def test_a_server_with_the_old_power_resource_only(
    shared_data: Path, device: HttpDevice
) -> None:
    recorded = tree(shared_data / "data/redfish/public-rackmount1", expands=False)
    device.answer = lambda asked: (
        Answer(404) if "EnvironmentMetrics" in asked.path else recorded(asked)
    )

    reading = await read(device, BMC)

    assert reading.active_power_w == 344
    assert named(reading)["limit.power_w"] == 500.0
    assert named(reading)["inlet.1.voltage_v"] == 120.0


@pytest.mark.shared_data
async def test_trays_inside_a_chassis_are_not_counted_twice(
    shared_data: Path, device: HttpDevice
) -> None:
    folder = shared_data / "data/redfish/public-telemetry"
    device.answer = tree(folder, expands=False)
    chassis = json.loads((folder / "Chassis/1/Power/index.json").read_text())

    reading = await read(device, BMC)

    assert reading.active_power_w == chassis["PowerControl"][0]["PowerConsumedWatts"]


def small(metrics: object) -> Answers:
    """A PDU with a total and nothing else."""
    tree_ = {
        "/redfish/v1/": {"PowerEquipment": {"@odata.id": "/e"}},
        "/e": {"RackPDUs": {"@odata.id": "/p"}},
        "/p": {"Members": [{"@odata.id": "/p/1"}]},
        "/p/1": {"Id": "1", "Metrics": {"@odata.id": "/p/1/m"}},
        "/p/1/m": metrics,
    }

    def answer(asked: Asked) -> Answer | Writes:
        if asked.path not in tree_:
            return Answer(404)
        return Answer(body=json.dumps(tree_[asked.path]).encode())

    return answer


@pytest.mark.parametrize(
    ("power", "quality"),
    [
        (6438, Quality.GOOD),
        (6437.6, Quality.GOOD),
        (None, Quality.NOT_SUPPORTED),
        (-5, Quality.IMPLAUSIBLE),
        (10**9, Quality.IMPLAUSIBLE),
        (10**400, Quality.IMPLAUSIBLE),
        ("6438", Quality.IMPLAUSIBLE),
        (True, Quality.IMPLAUSIBLE),
        ([6438], Quality.IMPLAUSIBLE),
    ],
    ids=str,
)
async def test_a_total_is_believed_only_as_a_number_that_can_be(
    device: HttpDevice, power: object, quality: Quality
) -> None:
    device.answer = small({"PowerWatts": {"Reading": power}})

    reading = await read(device, PDU)

    assert reading.quality is quality
    if quality is Quality.GOOD:
        assert reading.active_power_w == 6438


@pytest.mark.parametrize(
    "metrics",
    [
        {},
        {"PowerWatts": 7, "EnergykWh": []},
        {"PowerWatts": {"Reading": 5, "ApparentVA": "x", "PowerFactor": {}}, "EnergykWh": None},
        {"PowerWatts": {"Reading": 5, "ApparentVA": -1}, "EnergykWh": {"Reading": -7}},
        {"PowerWatts": {"Reading": 5, "ApparentVA": 1e300}, "EnergykWh": {"Reading": 1e300}},
    ],
)
async def test_odd_shapes_leave_values_out_and_break_nothing(
    device: HttpDevice, metrics: object
) -> None:
    device.answer = small(metrics)

    reading = await read(device, PDU)

    assert reading.apparent_power_va is None
    assert (reading.energy_wh, reading.energy_source) == (None, "")


@pytest.mark.parametrize("link", ["//192.0.2.1/m", "http://192.0.2.1/m", "", "/m\r\nX: y", 7, None])
async def test_a_link_that_leads_off_the_device_is_not_followed(
    device: HttpDevice, link: object
) -> None:
    device.answer = lambda asked: Answer(
        body=json.dumps({"PowerEquipment": {"@odata.id": link}}).encode()
    )

    with pytest.raises(NoAnswer, match="leads nowhere"):
        await read(device, PDU)


async def test_something_that_is_no_pdu_says_so(device: HttpDevice) -> None:
    device.answer = lambda asked: Answer(body=b'{"PowerEquipment": {"@odata.id": "/e"}}')

    with pytest.raises(NoAnswer, match="no metered RackPDUs"):
        await read(device, PDU)


async def test_slow_details_do_not_cost_the_total(device: HttpDevice) -> None:
    quick = small({"PowerWatts": {"Reading": 100}})
    pdu = {"Id": "1", "Metrics": {"@odata.id": "/p/1/m"}, "Mains": {"@odata.id": "/p/1/slow"}}

    async def never(writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(5)

    def answer(asked: Asked) -> Answer | Writes:
        if asked.path == "/p/1":
            return Answer(body=json.dumps(pdu).encode())
        return never if asked.path == "/p/1/slow" else quick(asked)

    device.answer = answer
    reader = reader_of(device, PDU)

    assert (await reader.read()).active_power_w == 100
    assert (await reader.read()).active_power_w == 100
    await reader.close()


async def test_a_device_that_restarts_differently_is_discovered_again(device: HttpDevice) -> None:
    device.answer = small({"PowerWatts": {"Reading": 100}})
    reader = reader_of(device, PDU)
    await reader.read()
    asked_at_first = len(device.asked)
    await reader.read()
    assert len(device.asked) == asked_at_first + 1

    device.answer = lambda asked: Answer(500)
    with pytest.raises(NoAnswer, match="HTTP 500"):
        await reader.read()
    device.answer = small({"PowerWatts": {"Reading": 200}})

    assert (await reader.read()).active_power_w == 200
    assert device.asked[-1].path == "/p/1/m"
    await reader.close()
