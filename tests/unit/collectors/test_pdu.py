# SPDX-License-Identifier: GPL-2.0-or-later
from collections.abc import Mapping, Sequence

import pytest

from collectors.devices import Pdu
from collectors.pdu import SYS_OBJECT_ID, SYS_UP_TIME, PduReader
from collectors.profile import MeasuredObject, Profile
from collectors.readings import Quality
from collectors.transport import NoAnswer

POWER, VA, DIGITS, VA_DIGITS = "1.3.6.1.4.1.9.1", "1.3.6.1.4.1.9.2", "1.3.9.1", "1.3.9.2"
PROFILE = Profile(
    description="a PDU that tells its decimal digits",
    sys_object_ids=("1.3.6.1.4.1.9",),
    active_power_w=MeasuredObject(oid=POWER, digits_oid=DIGITS),
    apparent_power_va=MeasuredObject(oid=VA, digits_oid=VA_DIGITS),
)


class Agent:
    def __init__(self) -> None:
        self.values: dict[str, object] = {
            SYS_OBJECT_ID: "1.3.6.1.4.1.9.77",
            SYS_UP_TIME: 1000,
            POWER: 12_345,
            VA: 13_000,
            DIGITS: 1,
            VA_DIGITS: 1,
        }
        self.gets: list[Sequence[str]] = []
        self.fails_on: str | None = None

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        self.gets.append(oids)
        if self.fails_on in oids:
            raise NoAnswer("timed out after 1.5 s")
        return {oid: self.values[oid] for oid in oids if oid in self.values}

    def close(self) -> None:
        """There is no socket."""


def a_reader(agent: Agent) -> PduReader:
    return PduReader(Pdu("r1.B", "pdu", "127.0.1.2", 161, 66_240, "px", PROFILE), agent)


async def test_one_poll_is_one_get_and_discovery_asks_for_no_power() -> None:
    agent = Agent()
    reader = a_reader(agent)

    await reader.read()
    await reader.read()

    assert [POWER in asked for asked in agent.gets] == [False, True, True]


async def test_the_digits_that_the_device_told_scale_its_values() -> None:
    reading = await a_reader(Agent()).read()

    assert (reading.active_power_w, reading.apparent_power_va) == (1_234, 1_300)
    assert reading.energy_wh is None


async def test_after_a_reboot_the_digits_are_asked_again_before_the_answer_is_believed() -> None:
    agent = Agent()
    reader = a_reader(agent)
    await reader.read()

    agent.values |= {SYS_UP_TIME: 5, POWER: 1_234, DIGITS: 0}
    reading = await reader.read()

    assert (reading.active_power_w, reading.quality) == (1_234, Quality.GOOD)


async def test_an_answer_after_a_reboot_counts_as_implausible_until_the_digits_are_known() -> None:
    agent = Agent()
    reader = a_reader(agent)
    await reader.read()

    agent.values |= {SYS_UP_TIME: 5, DIGITS: 0}
    agent.fails_on = DIGITS
    first = await reader.read()
    agent.fails_on = None
    agent.values[SYS_UP_TIME] = 5
    second = await reader.read()

    assert first.quality is Quality.IMPLAUSIBLE
    assert "rebooted" in first.note
    assert (second.quality, second.active_power_w) == (Quality.GOOD, 12_345)


async def test_a_device_of_another_family_is_stored_as_implausible() -> None:
    agent = Agent()
    agent.values[SYS_OBJECT_ID] = "1.3.6.1.4.1.8072.3"

    reading = await a_reader(agent).read()

    assert reading.quality is Quality.IMPLAUSIBLE
    assert reading.note == "answers as 1.3.6.1.4.1.8072.3, which is no px"


async def test_a_missing_value_is_never_a_zero() -> None:
    agent = Agent()
    del agent.values[POWER], agent.values[VA]

    reading = await a_reader(agent).read()

    assert reading.quality is Quality.NOT_SUPPORTED
    assert reading.active_power_w is None
    assert reading.apparent_power_va is None


async def test_power_whose_digits_are_not_told_is_not_guessed() -> None:
    agent = Agent()
    agent.values[DIGITS] = -3

    with pytest.raises(NoAnswer, match="decimal digits"):
        await a_reader(agent).read()


async def test_zero_after_a_load_is_implausible_and_a_later_load_is_good_again() -> None:
    agent = Agent()
    reader = a_reader(agent)
    await reader.read()

    agent.values[POWER] = 0
    lie = await reader.read()
    agent.values[POWER] = 20_000
    truth = await reader.read()

    assert lie.quality is Quality.IMPLAUSIBLE
    assert lie.note == "0 W from a device that drew 1,234 W"
    assert truth.quality is Quality.GOOD
