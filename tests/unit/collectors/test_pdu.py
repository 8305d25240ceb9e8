# SPDX-License-Identifier: GPL-2.0-or-later
import pytest

from collectors import pdu as pdu_module
from collectors.devices import Pdu
from collectors.pdu import PduReader
from collectors.profile import Profile
from collectors.profile_plan import MOST_OIDS
from collectors.readings import Quality
from collectors.transport import NoAnswer
from tests.support.recordings import SYS_DESCR, SYS_OBJECT_ID, SYS_UP_TIME, DictionaryAgent

BASE = "1.3.6.1.4.1.9"
POWER, VA, DIGITS, VA_DIGITS = f"{BASE}.1.1", f"{BASE}.2.1", f"{BASE}.3.1", f"{BASE}.4.1"
VOLTS, AMPERES, OUTLET = f"{BASE}.5.1", f"{BASE}.6.1", f"{BASE}.7"
PROFILE = Profile.model_validate(
    {
        "description": "a PDU that tells its decimal digits",
        "sys_object_ids": [BASE],
        "probe": [f"{BASE}.1", f"{BASE}.5"],
        "totals": {
            "active_power_w": [
                {"object": {"oid": f"{BASE}.1", "digits": f"{BASE}.3"}},
                {"estimate": "phase", "power_factor": 1},
            ],
            "apparent_power_va": [{"object": {"oid": f"{BASE}.2", "digits": f"{BASE}.4"}}],
        },
        "tables": [
            {
                "kind": "phase",
                "columns": {
                    "voltage_v": {"oid": f"{BASE}.5"},
                    "current_a": {"oid": f"{BASE}.6", "scale": 0.1},
                },
            },
            {"kind": "outlet", "columns": {"power_w": {"oid": OUTLET}}},
        ],
    }
)


def an_agent(**changes: object) -> DictionaryAgent:
    agent = DictionaryAgent(
        {
            SYS_DESCR: b"a PDU",
            SYS_OBJECT_ID: f"{BASE}.77",
            SYS_UP_TIME: 1000,
            POWER: 12_345,
            VA: 13_000,
            DIGITS: 1,
            VA_DIGITS: 1,
        }
    )
    agent.values |= changes
    return agent


def a_reader(agent: DictionaryAgent) -> PduReader:
    return PduReader(Pdu("r1.B", "pdu", "127.0.1.2", 161, 66_240, "px", PROFILE), agent)


async def test_one_poll_is_one_get_and_discovery_asks_for_no_power() -> None:
    agent = an_agent()
    reader = a_reader(agent)

    await reader.read()
    walked = len(agent.walked)
    await reader.read()

    assert [POWER in asked for asked in agent.gets] == [False, True, True]
    assert len(agent.walked) == walked


async def test_the_digits_that_the_device_told_scale_its_values() -> None:
    reading = await a_reader(an_agent()).read()

    assert (reading.active_power_w, reading.apparent_power_va) == (1_234, 1_300)
    assert reading.energy_wh is None
    assert reading.energy_source == ""


async def test_the_reader_knows_what_the_device_is_and_how_long_its_agent_is_up() -> None:
    reader = a_reader(an_agent())

    await reader.read()

    assert reader.up_time == 1000
    assert reader.identity is not None
    assert (reader.identity.profile, reader.identity.sys_object_id) == ("px", f"{BASE}.77")
    assert reader.identity.description == "a PDU"


async def test_values_have_names_with_their_units_and_the_power_factor_is_last() -> None:
    reading = await a_reader(an_agent(**{VOLTS: 230, AMPERES: 56, f"{OUTLET}.7": 40})).read()

    named = dict(zip(reading.layout, reading.values, strict=True))
    assert named == {
        "phase.L1.voltage_v": 230,
        "phase.L1.current_a": 5.6,
        "outlet.7.power_w": 40,
        "total.power_factor": 0.95,
    }


async def test_no_poll_asks_more_than_one_packet_carries_and_the_total_is_always_in_it() -> None:
    outlets = {f"{OUTLET}.{n}": n for n in range(1, 200)}
    agent = an_agent(**outlets)

    reading = await a_reader(agent).read()

    assert len(agent.gets[-1]) == MOST_OIDS
    assert {POWER, VA, SYS_UP_TIME} <= set(agent.gets[-1])
    assert reading.active_power_w == 1_234
    assert len(reading.values) == len(reading.layout) < MOST_OIDS


async def test_after_a_reboot_the_digits_are_asked_again_before_the_answer_is_believed() -> None:
    agent = an_agent()
    reader = a_reader(agent)
    await reader.read()

    agent.values |= {SYS_UP_TIME: 5, POWER: 1_234, DIGITS: 0}
    reading = await reader.read()

    assert (reading.active_power_w, reading.quality) == (1_234, Quality.GOOD)


async def test_an_answer_after_a_reboot_counts_as_implausible_until_the_digits_are_known() -> None:
    agent = an_agent()
    reader = a_reader(agent)
    await reader.read()

    agent.values |= {SYS_UP_TIME: 5, DIGITS: 0}
    agent.fails_on = DIGITS
    first = await reader.read()
    agent.fails_on = None
    second = await reader.read()

    assert first.quality is Quality.IMPLAUSIBLE
    assert "rebooted" in first.note
    assert (second.quality, second.active_power_w) == (Quality.GOOD, 12_345)


async def test_a_device_of_another_family_is_stored_as_implausible() -> None:
    agent = an_agent(**{SYS_OBJECT_ID: "1.3.6.1.4.1.8072.3"})

    reading = await a_reader(agent).read()

    assert reading.quality is Quality.IMPLAUSIBLE
    assert reading.note == "answers as 1.3.6.1.4.1.8072.3, which is no px"


async def test_a_device_without_any_of_the_objects_is_named() -> None:
    agent = DictionaryAgent({SYS_OBJECT_ID: "1.3.6.1.4.1.8072.3", SYS_UP_TIME: 1})

    with pytest.raises(NoAnswer, match=r"answers as 1\.3\.6\.1\.4\.1\.8072\.3, which is no px"):
        await a_reader(agent).read()


async def test_a_missing_value_is_never_a_zero() -> None:
    agent = an_agent()
    reader = a_reader(agent)
    await reader.read()

    del agent.values[POWER], agent.values[VA]
    reading = await reader.read()

    assert reading.quality is Quality.NOT_SUPPORTED
    assert reading.note == "the answer leaves out the power object"
    assert reading.active_power_w is None
    assert reading.apparent_power_va is None


async def test_power_whose_digits_are_not_told_is_not_guessed() -> None:
    agent = an_agent(**{DIGITS: -3, VOLTS: 230, AMPERES: 56})

    reading = await a_reader(agent).read()

    assert (reading.active_power_w, reading.quality) == (1_288, Quality.ESTIMATED)


async def test_a_vanished_object_is_looked_for_and_believed_again_when_it_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pdu_module, "LOOK_AGAIN_S", 0.0)
    agent = an_agent(**{VOLTS: 230, AMPERES: 56})
    reader = a_reader(agent)
    before = await reader.read()
    power = agent.values.pop(POWER)
    gone, estimated = await reader.read(), await reader.read()
    agent.values[POWER] = power
    await reader.read()
    back = await reader.read()

    assert gone.quality is Quality.NOT_SUPPORTED
    assert (estimated.active_power_w, estimated.quality) == (1_288, Quality.ESTIMATED)
    assert (back.active_power_w, back.quality) == (before.active_power_w, Quality.GOOD)


async def test_a_total_no_longer_supported_is_replaced_after_a_while_and_returns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = an_agent(**{VOLTS: 230, AMPERES: 56})
    reader = a_reader(agent)
    before = await reader.read()

    power, agent.values[POWER] = agent.values[POWER], -1
    at_first = [await reader.read() for _ in range(3)]
    monkeypatch.setattr(pdu_module, "LOOK_AGAIN_S", 0.0)
    estimated = await reader.read()
    agent.values[POWER] = power
    await reader.read()
    back = await reader.read()

    assert {each.quality for each in at_first} == {Quality.NOT_SUPPORTED}
    assert (estimated.active_power_w, estimated.quality) == (1_288, Quality.ESTIMATED)
    assert (back.active_power_w, back.quality) == (before.active_power_w, Quality.GOOD)


async def test_a_total_not_supported_from_the_start_is_taken_once_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = an_agent(**{VOLTS: 230, AMPERES: 56, POWER: -1})
    reader = a_reader(agent)
    estimated = await reader.read()
    walked = len(agent.walked)
    monkeypatch.setattr(pdu_module, "LOOK_AGAIN_S", 0.0)
    await reader.read()
    await reader.read()
    walked_while_it_is_not = len(agent.walked) - walked

    agent.values[POWER] = 12_345
    await reader.read()
    measured = await reader.read()

    assert (estimated.active_power_w, estimated.quality) == (1_288, Quality.ESTIMATED)
    assert walked_while_it_is_not == 0
    assert (measured.active_power_w, measured.quality) == (1_234, Quality.GOOD)


CHAIN = {f"{BASE}.1.{n}": 33_000 for n in (1, 2)} | {f"{BASE}.3.{n}": 1 for n in (1, 2)}


async def test_half_of_a_total_is_not_taken_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdu_module, "LOOK_AGAIN_S", 0.0)
    agent = an_agent()
    agent.values |= CHAIN
    reader = a_reader(agent)
    both = await reader.read()

    agent.values[f"{BASE}.1.2"] = -1
    await reader.read()
    one = [await reader.read() for _ in range(2)][-1]
    agent.values[f"{BASE}.1.2"] = 33_000
    await reader.read()
    both_again = await reader.read()

    assert (both.active_power_w, both.quality) == (6_600, Quality.GOOD)
    assert one.quality is Quality.IMPLAUSIBLE
    assert one.note.startswith("its total lacks 1 of 2 parts")
    assert (both_again.active_power_w, both_again.quality) == (6_600, Quality.GOOD)


async def test_a_pdu_of_a_chain_that_boots_later_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdu_module, "LOOK_AGAIN_S", 0.0)
    agent = an_agent()
    agent.values |= CHAIN | {f"{BASE}.1.2": -1}
    reader = a_reader(agent)
    alone = await reader.read()
    agent.values[f"{BASE}.1.2"] = 33_000
    await reader.read()

    assert (alone.active_power_w, alone.quality) == (3_300, Quality.GOOD)
    assert (await reader.read()).active_power_w == 6_600


async def test_a_full_poll_outlives_its_total(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdu_module, "LOOK_AGAIN_S", 0.0)
    agent = an_agent(**{VOLTS: 230, AMPERES: 56})
    agent.values |= {f"{OUTLET}.{n}": 10 for n in range(1, 71)}
    reader = a_reader(agent)
    await reader.read()
    del agent.values[POWER]
    await reader.read()
    agent.gets.clear()

    reading = await reader.read()

    assert (reading.active_power_w, reading.quality) == (1_288, Quality.ESTIMATED)
    assert max(len(each) for each in agent.gets) <= MOST_OIDS
    assert [each for each in agent.gets if POWER in each] == [agent.gets[-1]]


async def test_a_better_total_of_another_scale_is_not_looked_at_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = an_agent(**{VOLTS: 230, AMPERES: 300, POWER: -1})
    reader = a_reader(agent)
    await reader.read()
    monkeypatch.setattr(pdu_module, "LOOK_AGAIN_S", 0.0)
    agent.values[POWER] = 10 * 66_000
    await reader.read()
    await reader.read()
    walked = len(agent.walked)

    reading = [await reader.read() for _ in range(3)][-1]

    assert len(agent.walked) == walked
    assert reading.quality is not Quality.GOOD


async def test_a_total_that_did_not_fit_for_a_moment_is_looked_at_again_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    agent = an_agent(**{f"{VOLTS}.1": 230, f"{AMPERES}.1": 560, f"{BASE}.8.1": 12_345})
    tables = [
        {
            "kind": "phase",
            "columns": {
                "voltage_v": {"oid": VOLTS},
                "current_a": {"oid": AMPERES, "scale": 0.1},
                "power_w": {"oid": f"{BASE}.8"},
            },
        }
    ]
    sources = [{"object": {"oid": f"{BASE}.1"}}, {"sum": "phase"}]
    made = PROFILE.model_dump() | {"tables": tables, "totals": {"active_power_w": sources}}
    del agent.values[POWER], agent.values[DIGITS]
    agent.values[f"{BASE}.1.0"] = 123
    profile = Profile.model_validate(made)
    reader = PduReader(Pdu("r1.B", "pdu", "127.0.1.2", 161, 66_240, "px", profile), agent)
    await reader.read()
    asked_for_total = [f"{BASE}.1.0" in each for each in agent.gets]
    agent.values[f"{BASE}.1.0"] = 12_345
    monkeypatch.setattr(pdu_module, "LOOK_TWICE_AFTER_S", 0.0)
    await reader.read()
    await reader.read()
    walked = len(agent.walked)

    reading = await reader.read()

    assert asked_for_total == [False, False]
    assert (reading.active_power_w, reading.quality) == (12_345, Quality.GOOD)
    assert f"{BASE}.1.0" in agent.gets[-1]
    assert len(agent.walked) == walked


async def test_zero_after_a_load_is_implausible_and_a_later_load_is_good_again() -> None:
    agent = an_agent()
    reader = a_reader(agent)
    await reader.read()

    agent.values[POWER] = 0
    lie = await reader.read()
    agent.values[POWER] = 20_000
    truth = await reader.read()

    assert lie.quality is Quality.IMPLAUSIBLE
    assert lie.note == "0 W from a device that drew 1,234 W"
    assert truth.quality is Quality.GOOD


async def test_a_load_that_went_to_the_other_feed_is_no_lie() -> None:
    agent = an_agent(**{VOLTS: 230, AMPERES: 56})
    reader = a_reader(agent)
    await reader.read()

    agent.values |= {POWER: 0, AMPERES: 0}

    assert (await reader.read()).quality is Quality.GOOD


async def test_garbage_in_place_of_power_is_stored_as_implausible() -> None:
    agent = an_agent()
    reader = a_reader(agent)
    await reader.read()

    agent.values[POWER] = b"\xff\xff"
    reading = await reader.read()

    assert (reading.quality, reading.active_power_w) == (Quality.IMPLAUSIBLE, None)
    assert "not a number" in reading.note
