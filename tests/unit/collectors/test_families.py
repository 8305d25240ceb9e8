# SPDX-License-Identifier: GPL-2.0-or-later
"""Families of which no recording is at hand: single rows as their MIBs and other systems tell."""

from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from collectors.discovery import discover
from collectors.pdu import reading_of
from collectors.profile import load_profiles
from collectors.readings import Quality
from tests.support.recordings import SYS_OBJECT_ID, DictionaryAgent

ENTERPRISES = "1.3.6.1.4.1"


@dataclass(frozen=True)
class Family:
    sys_object_id: str
    answers: Mapping[str, object]  #: under ENTERPRISES
    w: int
    va: int | None = None
    quality: Quality = Quality.GOOD
    profile: str = ""  #: where one profile is of several families


FAMILIES = {
    "apc-cpdu": Family(
        "318.1.1.32.1",
        {"318.1.1.32.2.4.1.4.1": 610, "318.1.1.32.2.4.1.4.2": 0, "318.1.1.32.2.4.1.5.1": 640},
        610,
        640,
    ),
    "apc-rpdu": Family(  # phases and banks in one table, told apart by the bank's number
        "318.1.3.4.5",
        {
            "318.1.1.12.2.3.1.1.2.1": 100,
            "318.1.1.12.2.3.1.1.2.2": 60,
            "318.1.1.12.2.3.1.1.2.3": 40,
            "318.1.1.12.2.3.1.1.5.1": 0,
            "318.1.1.12.2.3.1.1.5.2": 1,
            "318.1.1.12.2.3.1.1.5.3": 2,
            "318.1.1.12.1.15.0": 230,
        },
        2300,
        2300,
        Quality.ESTIMATED,
    ),
    "aten": Family(  # meters the device, not its outlets
        "21317.1.3",
        {
            "21317.1.3.2.2.2.1.99.1.2.1": 2_100,
            "21317.1.3.2.2.2.1.99.1.3.1": 229_600,
            "21317.1.3.2.2.2.1.99.1.4.1": 460_000,
            "21317.1.3.2.2.2.2.99.1.4.1": -2_000_000,
            "21317.1.3.2.2.2.2.99.1.4.2": -2_000_000,
        },
        460,
        482,
    ),
    "bachmann-bluenet2": Family(  # a number and its power of ten; two phases, no total
        "31770.2.1",
        {
            "31770.2.2.8.4.1.5.0.0.0.0.255.255.0.1": 23_010,
            "31770.2.2.8.2.1.9.0.0.0.0.255.255.0.1": -2,
            "31770.2.2.8.4.1.5.0.0.0.0.255.255.0.4": 1802,
            "31770.2.2.8.2.1.9.0.0.0.0.255.255.0.4": -3,
            "31770.2.2.8.4.1.5.0.0.0.0.255.255.0.19": 4012,
            "31770.2.2.8.2.1.9.0.0.0.0.255.255.0.19": -1,
            "31770.2.2.8.4.1.5.0.0.0.1.255.255.0.19": 3008,
            "31770.2.2.8.2.1.9.0.0.0.1.255.255.0.19": -1,
            "31770.2.2.8.4.1.5.0.0.0.1.255.7.0.19": 3008,  # an outlet of the second
            "31770.2.2.8.2.1.9.0.0.0.1.255.7.0.19": -1,
        },
        702,
    ),
    "baytech": Family(
        "4779",
        {
            "4779.1.3.5.2.1.4.1": 32,
            "4779.1.3.5.2.1.6.1": 1201,
            "4779.1.3.5.2.1.7.1": 362,
        },
        362,
        384,
    ),
    "conteg": Family(  # 70 W beside 0.38 A at 230.34 V: whole watts, not hundredths
        "28402.11.1",
        {
            "28402.12.1.1.2.6.1.1.5.1.1": 38,
            "28402.12.1.1.2.6.1.1.7.1.1": 23_034,
            "28402.12.1.1.2.6.1.1.10.1.1": 70,
        },
        70,
        88,
    ),
    "cyberpower": Family(  # a chain of two PDUs
        "3808.1.1.6",
        {
            "3808.1.1.6.3.4.1.5.1": 31,
            "3808.1.1.6.3.4.1.18.1": 702,
            "3808.1.1.6.3.4.1.18.2": 40,
            "3808.1.1.6.3.4.1.15.1": 715,
            "3808.1.1.6.3.4.1.15.2": 45,
            "3808.1.1.6.4.4.1.5.1": 31,
            "3808.1.1.6.4.4.1.6.1": 2310,
            "3808.1.1.6.4.4.1.7.1": 702,
        },
        742,
        760,
    ),
    "cyberpower-epdu": Family(  # a phase and its two banks in one table
        "3808.1.1.3",
        {
            "3808.1.1.3.2.3.1.1.2.1": 31,
            "3808.1.1.3.2.3.1.1.2.2": 20,
            "3808.1.1.3.2.3.1.1.2.3": 11,
            "3808.1.1.3.2.3.1.1.5.1": 0,
            "3808.1.1.3.2.3.1.1.5.2": 1,
            "3808.1.1.3.2.3.1.1.5.3": 2,
            "3808.1.1.3.2.3.1.1.6.1": 2310,
            "3808.1.1.3.2.3.1.1.7.1": 702,
            "3808.1.1.3.2.3.1.1.7.2": 455,
            "3808.1.1.3.2.3.1.1.7.3": 247,
        },
        702,
        profile="cyberpower",
    ),
    "e3meter-ctr": Family(
        "21695.1401", {"21695.1.10.4.1.18.10167.0": 1507, "21695.1.10.4.1.18.10168.0": 93}, 1600
    ),
    "enlogic": Family(  # the PDU's row is .1, not .1.1
        "38446.1",
        {
            "38446.1.2.4.1.4.1": 540,
            "38446.1.3.4.1.5.1.1": 277,
            "38446.1.3.4.1.6.1.1": 205,
        },
        540,
        568,
    ),
    "gude": Family(  # the model's own number is in every object; the second channel is not fitted
        "28507.43",
        {
            "28507.43.1.5.1.2.1.2.1": 1,
            "28507.43.1.5.1.2.1.2.2": 0,
            "28507.43.1.5.1.2.1.4.1": 318,
            "28507.43.1.5.1.2.1.4.2": 318,
            "28507.43.1.5.1.2.1.5.1": 1_452,
            "28507.43.1.5.1.2.1.6.1": 231,
            "28507.43.1.5.1.2.1.10.1": 335,
        },
        318,
        335,
    ),
    "hpe-hpdu": Family(
        "232.165.9",
        {
            "232.165.9.2.1.1.4.1": 2771,
            "232.165.9.2.1.1.5.1": 402,
            "232.165.9.2.1.1.6.1": 1114,
            "232.165.9.2.1.1.7.1": 1090,
            "232.165.9.2.1.1.7.2": 910,
            "232.165.9.2.1.1.6.2": 930,
        },
        2000,
        2044,
    ),
    "hpe-ipdu": Family(  # a load segment that measures nothing answers -1
        "232.165.5",
        {
            "232.165.5.2.1.1.6.1.1": 2302,
            "232.165.5.2.1.1.7.1.1": 341,
            "232.165.5.2.1.1.8.1.1": 785,
            "232.165.5.2.1.1.9.1.1": 760,
            "232.165.5.2.1.1.8.1.2": -1,
            "232.165.5.2.1.1.9.1.2": -1,
        },
        760,
        785,
    ),
    "hpe-pdu3": Family(  # its MIB says thousandths of a watt
        "232.165.11",
        {
            "232.165.11.2.1.1.5.1": 154,
            "232.165.11.2.1.1.9.1": 98,
            "232.165.11.2.2.1.1.1.1": 1,
            "232.165.11.2.2.1.3.1.1": 2298,
            "232.165.11.2.2.1.11.1.1": 65,
        },
        154,
        149,
    ),
    "ipoman": Family(
        "2468.1.4.2.1",
        {
            "2468.1.4.2.1.3.1.3.1.2.1": 2240,
            "2468.1.4.2.1.3.1.3.1.3.1": 3830,
            "2468.1.4.2.1.3.1.3.1.2.2": 2240,
            "2468.1.4.2.1.3.1.3.1.3.2": 0,
        },
        858,
        858,
        Quality.ESTIMATED,
    ),
    "netio": Family(
        "47952",
        {
            "47952.1.2.1.0": 230_412,
            "47952.1.2.3.0": 1_310,
            "47952.1.2.4.0": 950,
            "47952.1.2.5.0": 287,
            "47952.1.1.1.25.1": 287,
        },
        287,
        302,
    ),
    "panduit-g5": Family(  # no total; the third phase is not fitted
        "19536.10.1",
        {
            f"19536.10.1.2.2.1.{column}.1.{phase}": value
            for phase, row in {
                1: {1: 1, 3: 2301, 11: 331, 19: 762, 20: 720},
                2: {1: 2, 3: 2297, 11: 229, 19: 526, 20: 498},
                3: {1: 0, 3: 2297, 11: 229, 19: 526, 20: 498},
            }.items()
            for column, value in row.items()
        },
        1218,
        1288,
    ),
    "raritan-px3": Family(  # three poles, an inlet in tenths, two linked PDUs
        "13742.6",
        {
            "13742.6.5.2.3.1.4.1.1.5": 12_345,
            "13742.6.3.3.4.1.7.1.1.5": 1,
            "13742.6.5.2.3.1.4.2.1.5": 800,
            "13742.6.3.3.4.1.7.2.1.5": 0,
        },
        2034,
    ),
    "sentry3": Family(  # the system's total is preferred; the neutral answers -1
        "1718.3",
        {
            "1718.3.1.6.0": 1503,
            "1718.3.2.2.1.7.1.1": 362,
            "1718.3.2.2.1.11.1.1": 2093,
            "1718.3.2.2.1.12.1.1": 750,
            "1718.3.2.2.1.7.1.4": 10,
            "1718.3.2.2.1.11.1.4": -1,
            "1718.3.2.2.1.12.1.4": -1,
        },
        1503,
    ),
    "ts-bspdu": Family(  # one of its eight inlets is fitted
        "42610.1.4.4",
        {
            "42610.1.4.4.1.6.1.2.1.2.1": 4570,
            "42610.1.4.4.1.6.1.2.1.2.2": 0,
            "42610.1.4.4.1.6.1.2.1.6.1": 210,
            "42610.1.4.4.1.6.1.2.1.9.1": 2287,
            "42610.1.4.4.1.6.1.2.1.9.2": 0,
            "42610.1.4.4.1.6.1.2.1.12.1": 952,
            "42610.1.4.4.1.6.1.2.1.15.1": 4570,
        },
        457,
        480,
    ),
    "ts-bspdu-pwt": Family(  # the same columns, and others in them
        "42610.1.4.4",
        {
            "42610.1.4.4.1.6.1.2.1.2.1": 4570,
            "42610.1.4.4.1.6.1.2.1.12.1": 210,
            "42610.1.4.4.1.6.1.2.1.15.1": 2287,
            "42610.1.4.4.1.6.1.2.1.30.1": 4570,
            "42610.1.4.4.1.6.1.2.1.42.1": 4800,
        },
        457,
        480,
    ),
    "vertiv-ita2": Family(
        "13400.2.54",
        {
            "13400.2.54.2.3.8.0": 141,
            "13400.2.54.2.3.1.0": 2308,
            "13400.2.54.2.3.4.0": 76,
        },
        1410,
        1754,
    ),
    "wti": Family(
        "2634.6.8",
        {
            "2634.3.200.70.0": 256,
            "2634.3.200.50.0": 256,
            "2634.3.200.40.0": 11,
            "2634.3.200.10.1.8.1": 233,
        },
        256,
        256,
    ),
}


@pytest.mark.parametrize(("name", "family"), FAMILIES.items(), ids=FAMILIES.keys())
async def test_a_device_is_recognised_and_read(name: str, family: Family) -> None:
    answers = {f"{ENTERPRISES}.{oid}": value for oid, value in family.answers.items()}
    identity = {SYS_OBJECT_ID: f"{ENTERPRISES}.{family.sys_object_id}"}

    found = await discover(DictionaryAgent(identity | answers), load_profiles())
    reading = reading_of(found.plan, found.answer, name="r1.A", ceiling_w=99_999)

    assert found.plan.profile == (family.profile or name)
    assert (reading.active_power_w, reading.quality) == (family.w, family.quality)
    assert reading.apparent_power_va == family.va
