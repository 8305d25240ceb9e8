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
    kwh: float | None = None
    rows: str = ""  #: by their names, where that is of interest


FAMILIES = {
    "apc-cpdu": Family(
        "318.1.1.32.1",
        {"318.1.1.32.2.4.1.4.1": 610, "318.1.1.32.2.4.1.4.2": 0, "318.1.1.32.2.4.1.5.1": 640},
        610,
        640,
    ),
    "avocent-pm": Family(  # tenths of watts; two PDUs in a chain
        "10418.17.1.7",
        {
            "10418.17.2.5.3.1.60.1.1": 4210,
            "10418.17.2.5.3.1.60.1.2": 1090,
            "10418.17.2.5.3.1.50.1.1": 19,
            "10418.17.2.5.3.1.50.1.2": 5,
            "10418.17.2.5.3.1.70.1.1": 231,
            "10418.17.2.5.3.1.70.1.2": 231,
            "10418.17.2.5.3.1.105.1.1": 12_500,
            "10418.17.2.5.3.1.105.1.2": 2500,
        },
        530,
        554,
        kwh=15.0,
        rows="1 2",
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
    "e3meter-ctr": Family(
        "21695.1401", {"21695.1.10.4.1.18.10167.0": 1507, "21695.1.10.4.1.18.10168.0": 93}, 1600
    ),
    "eaton-epdu": Family(  # the neutral, the total and voltages between lines are no phases
        "534.6.6.7",
        {
            "534.6.6.7.3.5.1.4.0.1": 2990,
            "534.6.6.7.7.1.1.3.0.1": 1,
            "534.6.6.7.7.1.1.4.0.1": 719,
            "534.6.6.7.7.1.1.3.0.2": 0,
            "534.6.6.7.7.1.1.4.0.2": -4595,
            "534.6.6.7.1.2.1.9.0": 1,
        }
        | {f"534.6.6.7.3.2.1.3.0.1.{n}": 231_000 if n < 4 else 400_000 for n in range(1, 7)}
        | {f"534.6.6.7.3.3.1.2.0.1.{n}": n + 2 if n < 4 else 2 for n in range(1, 5)}
        | {f"534.6.6.7.3.3.1.4.0.1.{n}": 4500 if n < 4 else 300 for n in range(1, 5)}
        | {f"534.6.6.7.3.4.1.4.0.1.{n}": 1000 if n < 4 else 3000 for n in range(1, 5)},
        2990,
        3118,
        rows="L1 L2 L3 1",
    ),
    "eaton-hdx": Family(  # three rows of phases, one of them fitted
        "534.7.1",
        {
            "534.7.1.2.1.1.4.1": 512,
            "534.7.1.2.1.1.5.1": 489,
            "534.7.1.2.2.1.1.1.1": 1,
            "534.7.1.2.2.1.1.1.2": 0,
            "534.7.1.2.2.1.3.1.1": 2325,
            "534.7.1.2.2.1.3.1.2": 0,
            "534.7.1.2.2.1.11.1.1": 220,
            "534.7.1.2.2.1.11.1.2": 0,
        },
        489,
        512,
        rows="1 L1",
    ),
    "eaton-managed": Family(
        "534.6.6.6",
        {
            "534.6.6.6.1.3.1.1.0": 3100,
            "534.6.6.6.1.3.1.2.0": 229_000,
            "534.6.6.6.1.3.1.3.0": 640,
            "534.6.6.6.1.3.1.4.0": 700,
            "534.6.6.6.1.2.2.1.7.0": 320,
            "534.6.6.6.1.2.2.1.7.1": 320,
        },
        640,
        700,
        rows="1 1 2",
    ),
    "geist-v3": Family(  # phases are columns; the second's of an older model are not measured
        "21239.2",
        {
            "21239.2.2.1.14.1": 120,
            "21239.2.2.1.16.1": 42,
            "21239.2.2.1.18.1": 480,
            "21239.2.2.1.19.1": 504,
            "21239.2.2.1.23.1": 0,
        },
        480,
        504,
        rows="L1",
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
    "hpe-pdu3": Family(  # its MIB says thousandths of a watt
        "232.165.11",
        {
            "232.165.11.2.1.1.5.1": 154,
            "232.165.11.2.1.1.9.1": 98,
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
    "liebert-mph": Family(  # three-phase: line to neutral; coarser columns on older firmware
        "476.1.42",
        {
            "476.1.42.3.8.30.20.1.65.1.1": 4607,
            "476.1.42.3.8.30.20.1.90.1.1": 4667,
            "476.1.42.3.8.30.20.1.50.1.1": 46_790,
        }
        | {f"476.1.42.3.8.30.40.1.20.1.1.{n}": 231 for n in (1, 2, 3)}
        | {f"476.1.42.3.8.30.40.1.21.1.1.{n}": 67 for n in (1, 2, 3)}
        | {f"476.1.42.3.8.30.40.1.63.1.1.{n}": 1535 for n in (1, 2, 3)},
        4607,
        4667,
        kwh=4679.0,
        rows="1 L1 L2 L3",
    ),
    "liebert-power": Family(  # the input has a row of its own
        "476.1.42",
        {
            "476.1.42.3.5.2.2.1.7.1": 71,
            "476.1.42.3.5.2.2.1.8.1": 70,
            "476.1.42.3.5.2.2.1.7.2": 69,
            "476.1.42.3.5.2.2.1.8.2": 68,
        }
        | {f"476.1.42.3.5.2.3.1.5.2.{n}": 120 for n in (1, 2, 3)}
        | {f"476.1.42.3.5.2.3.1.6.2.{n}": 191 for n in (1, 2, 3)},
        68_000,
        69_000,
    ),
    "poweralert": Family(  # three phases; the device's total where phases have no watts
        "850.1",
        {f"850.1.1.3.2.3.2.1.1.4.1.{n}": 1200 for n in (1, 2, 3)}
        | {f"850.1.1.3.2.3.2.1.1.5.1.{n}": 500 for n in (1, 2, 3)}
        | {"850.1.1.3.2.2.1.1.9.1": 1710},
        1710,
        1800,
    ),
    "raritan-px1": Family(  # firmware before inlets: the unit's own scalars
        "13742.4",
        {
            "13742.4.1.3.1.1.0": 4100,
            "13742.4.1.3.1.2.0": 230_000,
            "13742.4.1.3.1.3.0": 900,
            "13742.4.1.3.1.4.0": 943,
        },
        900,
        943,
        rows="1",
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
    "ts-bspdu": Family(
        "42610.1.4.4",
        {f"42610.1.4.4.1.6.1.2.1.15.{n}": 2287 for n in (1, 2)},
        457,
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

    assert found.plan.profile == name
    assert (reading.active_power_w, reading.quality) == (family.w, family.quality)
    assert reading.apparent_power_va == family.va
    if family.kwh is not None:
        assert reading.energy_wh == round(family.kwh * 1000)
    if family.rows:
        assert " ".join(each.label for each in found.plan.rows) == family.rows
