# SPDX-License-Identifier: GPL-2.0-or-later
import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from collectors.discovery import UnknownDevice, candidates, discover, identify
from collectors.pdu import reading_of
from collectors.profile import Profile
from collectors.profile_plan import Plan, decoded, value_of
from collectors.readings import Quality
from collectors.transport import NoAnswer
from tests.support.recordings import SYS_DESCR, SYS_OBJECT_ID, SYS_UP_TIME, DictionaryAgent

MIB = "1.3.6.1.4.1.9"
WATTS, VOLTS, AMPERES = f"{MIB}.1", f"{MIB}.2", f"{MIB}.3"


def profile(**keys: Any) -> Profile:
    return Profile.model_validate(
        {"description": "a PDU", "sys_object_ids": [MIB], "probe": [WATTS, AMPERES]} | keys
    )


def agent(values: Mapping[str, object]) -> DictionaryAgent:
    return DictionaryAgent({SYS_OBJECT_ID: MIB, SYS_DESCR: b"x", SYS_UP_TIME: 1} | dict(values))


async def found(made: Profile, values: Mapping[str, object]) -> tuple[Plan, Mapping[str, object]]:
    discovered = await discover(agent(values), {"it": made})
    return discovered.plan, discovered.answer


PHASES = {
    "kind": "phase",
    "columns": {
        "power_w": {"oid": WATTS},
        "voltage_v": {"oid": VOLTS},
        "current_a": {"oid": AMPERES, "scale": 0.1},
    },
}


def three_phases(power_w: int) -> dict[str, object]:
    rows: dict[str, object] = {}
    for n in (1, 2, 3):
        rows |= {f"{WATTS}.{n}": power_w, f"{VOLTS}.{n}": 230, f"{AMPERES}.{n}": 20}
    return rows


async def test_a_device_without_a_total_is_the_sum_of_its_phases() -> None:
    made = profile(totals={"active_power_w": [{"sum": "phase"}]}, tables=[PHASES])

    plan, answer = await found(made, three_phases(400))

    assert decoded(plan, answer).power_w == 1200
    assert [each.label for each in plan.rows] == ["L1", "L2", "L3"]


@pytest.mark.parametrize(("power_w", "wrong"), [(4600, "13,800 W"), (40, "120 W")])
async def test_a_scale_off_by_ten_is_refused_naming_both(power_w: int, wrong: str) -> None:
    sources = [{"sum": "phase"}, {"estimate": "phase", "power_factor": 1}]
    made = profile(totals={"active_power_w": sources}, tables=[PHASES])

    plan, answer = await found(made, three_phases(power_w))

    assert plan.refused == (
        f"answers {wrong} where volts x amperes are 1,380 W: its scale is not believed"
    )
    assert plan.notes == (plan.refused,)
    reading = reading_of(plan, answer, name="r1.A", ceiling_w=99_999)
    assert (reading.quality, reading.note) == (Quality.IMPLAUSIBLE, plan.refused)


async def test_another_measured_source_takes_the_place_of_a_refused_one() -> None:
    sources = [{"object": {"oid": f"{MIB}.7", "scale": 10}}, {"sum": "phase"}]
    made = profile(totals={"active_power_w": sources}, tables=[PHASES])

    plan, answer = await found(made, three_phases(400) | {f"{MIB}.7.0": 1200})

    assert decoded(plan, answer).power_w == 1200
    assert "12,000 W" in plan.notes[0]
    assert plan.refused == ""


async def test_a_moments_lie_at_discovery_is_forgiven_once_watts_fit_volts_and_amperes() -> None:
    made = profile(totals={"active_power_w": [{"sum": "phase"}]}, tables=[PHASES])
    plan, _ = await found(made, three_phases(0))

    later = reading_of(plan, three_phases(400), name="r1.A", ceiling_w=99_999)

    assert plan.refused
    assert (later.quality, later.active_power_w) == (Quality.GOOD, 1200)


async def test_an_idle_device_is_not_accused() -> None:
    made = profile(totals={"active_power_w": [{"sum": "phase"}]}, tables=[PHASES])
    values = three_phases(2) | {f"{AMPERES}.{n}": 0 for n in (1, 2, 3)}

    plan, answer = await found(made, values)

    assert (decoded(plan, answer).power_w, plan.refused) == (6, "")


async def test_the_next_source_counts_where_the_first_answers_its_marker() -> None:
    sources = [{"object": {"oid": f"{MIB}.7", "scale": 10}}, {"object": {"oid": f"{MIB}.8"}}]
    made = profile(totals={"active_power_w": sources})

    plan, answer = await found(made, {f"{WATTS}.1": 1, f"{MIB}.7.1": -1, f"{MIB}.8.0": 312})

    assert decoded(plan, answer).power_w == 312


async def test_linked_pdus_behind_one_agent_add_up_and_keep_their_numbers() -> None:
    outlets = {"kind": "outlet", "columns": {"power_w": {"oid": f"{MIB}.5"}}}
    made = profile(totals={"active_power_w": [{"object": {"oid": WATTS}}]}, tables=[outlets])
    values = {f"{WATTS}.1": 500, f"{WATTS}.2": 700}
    values |= {f"{MIB}.5.{unit}.{outlet}": 1 for unit in (1, 2) for outlet in (1, 2)}

    plan, answer = await found(made, values)

    assert decoded(plan, answer).power_w == 1200
    assert [each.label for each in plan.rows] == ["1-1", "1-2", "2-1", "2-2"]


async def test_a_sensor_type_behind_the_index_chooses_among_the_values_and_their_digits() -> None:
    column = {"oid": f"{MIB}.4", "suffix": "5", "digits": f"{MIB}.6"}
    rows = {"kind": "inlet", "columns": {"power_w": column}}
    made = profile(totals={"active_power_w": [{"object": column}]}, tables=[rows])
    values = {f"{WATTS}.0": 0}
    for inlet in (1, 2):
        values |= {f"{MIB}.4.1.{inlet}.1": 99, f"{MIB}.4.1.{inlet}.5": 1234}
        values |= {f"{MIB}.6.1.{inlet}.1": 3, f"{MIB}.6.1.{inlet}.5": inlet - 1}

    plan, answer = await found(made, values)

    assert decoded(plan, answer).power_w == pytest.approx(1234 + 123.4)
    assert [each.label for each in plan.rows] == ["1", "2"]


async def test_of_several_columns_the_first_with_a_value_counts_row_by_row() -> None:
    exact, rough = {"oid": f"{MIB}.4", "scale": 0.01}, {"oid": f"{MIB}.5", "scale": 0.1}
    made = profile(tables=[{"kind": "outlet", "columns": {"current_a": [exact, rough]}}])
    values = {f"{WATTS}.0": 0, f"{MIB}.4.1": 152, f"{MIB}.5.1": 15, f"{MIB}.4.2": -1}
    values |= {f"{MIB}.5.2": 31, f"{MIB}.5.3": 7}

    plan, answer = await found(made, values)

    shown = {each.label: value_of(each.items["current_a"], answer) for each in plan.rows}
    assert shown == {"1": 1.52, "2": 3.1, "3": 0.7}


async def test_a_row_must_pass_every_filter_whose_column_the_device_has() -> None:
    fitted = {"oid": f"{MIB}.4", "not_values": [0]}
    metered, absent = {"oid": f"{MIB}.5", "values": [1]}, {"oid": f"{MIB}.6", "values": [1]}
    column = {"oid": f"{MIB}.7"}
    table = {
        "kind": "outlet",
        "where": [fitted, metered, absent],
        "columns": {"power_w": column},
    }
    made = profile(tables=[table])
    values = {f"{WATTS}.0": 0} | {f"{MIB}.7.{n}": 50 for n in (1, 2, 3)}
    values |= {f"{MIB}.4.1": 1, f"{MIB}.4.2": 0, f"{MIB}.4.3": 3}
    values |= {f"{MIB}.5.1": 1, f"{MIB}.5.2": 1, f"{MIB}.5.3": 2}

    plan, _ = await found(made, values)

    assert [each.label for each in plan.rows] == ["1"]


async def test_named_variables_become_rows_with_the_scale_the_device_tells() -> None:
    names, values_, factors = f"{MIB}.4", f"{MIB}.5", f"{MIB}.6"
    column = {"oid": values_, "match": r"Phase (?P<row>L\d)\.Voltage", "factors": factors}
    table = {"kind": "phase", "names": names, "columns": {"voltage_v": column}}
    made = profile(tables=[table])
    values: dict[str, object] = {f"{WATTS}.0": 0}
    listed = [
        (b"Phase L1.Voltage", 2292, -10),
        (b"Fan.Voltage", 12, 1),
        (b"Phase L2.Voltage", 23, 10),
    ]
    for n, (name, value, factor) in enumerate(listed):
        values |= {f"{names}.2.{n}": name, f"{values_}.2.{n}": value, f"{factors}.2.{n}": factor}

    plan, answer = await found(made, values)

    shown = {each.label: value_of(each.items["voltage_v"], answer) for each in plan.rows}
    assert shown == {"L1": 229.2, "L2": 230}


async def test_a_value_comes_with_its_power_of_ten_or_not_at_all() -> None:
    made = profile(
        totals={"active_power_w": [{"sum": "phase"}]},
        tables=[
            {"kind": "phase", "columns": {"power_w": {"oid": WATTS, "exponents": f"{MIB}.4"}}},
        ],
    )
    values = {f"{WATTS}.1": 4012, f"{WATTS}.2": 3, f"{WATTS}.3": 777, f"{WATTS}.4": 777}
    values |= {f"{MIB}.4.1": -1, f"{MIB}.4.2": 2, f"{MIB}.4.4": 1000}

    plan, answer = await found(made, values)

    assert {each.label for each in plan.rows} == {"L1", "L2"}
    assert decoded(plan, answer).power_w == pytest.approx(701.2)


async def test_a_row_is_known_by_the_form_of_its_index() -> None:
    columns = {"power_w": {"oid": WATTS, "suffix": "7"}}
    made = profile(
        totals={"active_power_w": [{"sum": "phase"}]},
        tables=[
            {"kind": "phase", "index": r"(?P<unit>\d+)\.(?P<row>\d)\.255", "columns": columns},
            {"kind": "outlet", "index": r"\d+\.255\.(?P<row>\d+)", "columns": columns},
        ],
    )
    values = {
        f"{WATTS}.{index}.7": watts
        for index, watts in {"1.1.255": 300, "2.1.255": 200, "1.255.24": 80}.items()
    }
    values |= {f"{WATTS}.1.1.9": 1}

    plan, answer = await found(made, values)

    assert {(each.kind, each.label) for each in plan.rows} == {
        ("phase", "1-L1"),
        ("phase", "2-L1"),
        ("outlet", "24"),
    }
    assert decoded(plan, answer).power_w == 500


async def test_each_of_several_pdus_has_the_one_row() -> None:
    tables = [
        {"kind": "phase", "row": name, "columns": {"power_w": {"oid": oid}}}
        for name, oid in (("L1", WATTS), ("L2", VOLTS))
    ]
    made = profile(totals={"active_power_w": [{"sum": "phase"}]}, tables=tables)

    one, _ = await found(made, {f"{WATTS}.0": 300, f"{VOLTS}.0": 200})
    two, answer = await found(made, {f"{oid}.{n}": 100 for oid in (WATTS, VOLTS) for n in (1, 2)})

    assert [each.label for each in one.rows] == ["L1", "L2"]
    assert sorted(each.label for each in two.rows) == ["1-L1", "1-L2", "2-L1", "2-L2"]
    assert decoded(two, answer).power_w == 400


async def test_the_objects_of_a_family_may_lie_below_the_models_own_id() -> None:
    made = profile(
        model_tree=f"{MIB}.81",
        probe=[f"{MIB}.81.1"],
        totals={"active_power_w": [{"object": {"oid": f"{MIB}.81.1"}}]},
    )
    other = {SYS_OBJECT_ID: f".{MIB}.43", f"{MIB}.43.1.0": 640, f"{MIB}.81.1.0": 1}

    plan, answer = await found(made, other)

    assert decoded(plan, answer).power_w == 640


async def test_a_temperature_follows_the_unit_of_its_own_row() -> None:
    column = {
        "oid": f"{MIB}.4",
        "scale": 0.1,
        "negative": "value",
        "not_supported": [-1],
        "unit": f"{MIB}.5",
        "unit_fahrenheit": [1],
    }
    made = profile(tables=[{"kind": "sensor", "columns": {"temperature_c": column}}])
    values = {f"{WATTS}.0": 0, f"{MIB}.4.1": 680, f"{MIB}.5.1": 1, f"{MIB}.4.2": 205}
    values |= {f"{MIB}.5.2": 0, f"{MIB}.4.3": -1, f"{MIB}.5.3": 0}

    plan, answer = await found(made, values)

    assert [value_of(each.items["temperature_c"], answer) for each in plan.rows] == [20.0, 20.5]


async def test_volt_amperes_without_a_power_factor_are_never_watts() -> None:
    column = {"apparent_power_va": {"oid": f"{MIB}.4"}}
    made = profile(
        totals={"apparent_power_va": [{"sum": "branch"}]},
        tables=[{"kind": "branch", "columns": column}],
    )

    plan, answer = await found(made, {f"{WATTS}.0": 0, f"{MIB}.4.1": 1467})

    assert plan.power is None
    assert decoded(plan, answer).apparent_va == 1467
    assert plan.notes == ("measures no active power, only apparent power: 1,467 VA",)


async def test_power_factors_of_several_pdus_are_not_added() -> None:
    made = profile(
        totals={
            "active_power_w": [{"object": {"oid": WATTS}}],
            "apparent_power_va": [{"object": {"oid": VOLTS}}],
            "power_factor": [{"object": {"oid": f"{MIB}.4", "scale": 0.01}}],
        }
    )
    values = {f"{WATTS}.{n}": 90 for n in (1, 2)} | {f"{VOLTS}.{n}": 100 for n in (1, 2)}
    values |= {f"{MIB}.4.{n}": 95 for n in (1, 2)}

    plan, answer = await found(made, values)

    assert decoded(plan, answer).power_factor == 0.9


async def test_a_poll_that_cannot_hold_all_has_the_watts_of_every_row_first() -> None:
    columns = {"voltage_v": {"oid": VOLTS}, "power_w": {"oid": WATTS}}
    outlets = {"kind": "outlet", "columns": columns}
    inlet = {"kind": "inlet", "row": "1", "columns": {"frequency_hz": {"oid": f"{MIB}.8"}}}
    made = profile(tables=[inlet, outlets])
    values: dict[str, object] = {f"{MIB}.8.0": 50}
    for n in range(1, 5):
        values |= {f"{VOLTS}.{n}": 230, f"{WATTS}.{n}": 10 * n}

    plan, _ = await found(made, values)

    named = plan.polled(6)
    assert list(named) == [
        "inlet.1.frequency_hz",
        "outlet.1.voltage_v",
        *(f"outlet.{n}.power_w" for n in range(1, 5)),
    ]


async def test_only_what_the_profile_names_is_walked() -> None:
    made = profile(totals={"active_power_w": [{"sum": "phase"}]}, tables=[PHASES])
    values = three_phases(400) | {f"{MIB}.99.{n}": n for n in range(20_000)}
    asked = agent(values)

    await discover(asked, {"it": made})

    assert sorted(asked.walked) == sorted([WATTS, VOLTS, AMPERES])


async def test_garbage_for_a_model_is_no_model() -> None:
    made = profile(model_tree=f"{MIB}.1", totals={"active_power_w": [{"object": {"oid": WATTS}}]})
    asked = agent({f"{WATTS}.0": 400, SYS_OBJECT_ID: f"{MIB}.foo\x00"})

    discovered = await discover(asked, {"it": made})

    assert decoded(discovered.plan, discovered.answer).power_w == 400


async def test_an_agent_that_dribbles_is_given_up() -> None:
    class Dribbles(DictionaryAgent):
        async def walk(self, oid: str, *, at_most: int = 20_000) -> Sequence[tuple[str, object]]:
            await asyncio.sleep(60)
            return []

    asked = Dribbles({SYS_OBJECT_ID: MIB, SYS_DESCR: b"slow", SYS_UP_TIME: 1})

    with pytest.raises(NoAnswer, match=r"not found out within 0\.05 s"):
        await discover(asked, {"it": profile()}, within_s=0.05)


async def test_a_stranger_is_refused_with_its_identity() -> None:
    asked = DictionaryAgent({SYS_OBJECT_ID: ".1.3.6.1.4.1.8072.3", SYS_DESCR: b"Linux\x00 box"})

    with pytest.raises(UnknownDevice) as refused:
        await discover(asked, {"it": profile()})

    assert refused.value.answered.sys_object_id == "1.3.6.1.4.1.8072.3"
    assert refused.value.answered.description == "Linux  box"


async def test_the_nearest_family_is_tried_first_then_the_description_then_all() -> None:
    families = {
        "wide": profile(),
        "near": profile(sys_object_ids=[f"{MIB}.1"]),
        "after": profile(sys_object_ids=[f"{MIB}.1"], rank=1),
        "worded": profile(sys_object_ids=[], sys_descr="^iBox"),
    }

    async def order(object_id: str, words: bytes) -> list[str]:
        asked = DictionaryAgent({SYS_OBJECT_ID: object_id, SYS_DESCR: words})
        return candidates(families, await identify(asked))

    assert await order(f".{MIB}.1.5", b"") == ["near", "after", "wide"]
    assert await order(f"{MIB}.1", b"iBox 3") == ["near", "after", "wide", "worded"]
    assert (await order("1.3.6.1.4.1.8072", b"iBox"))[0] == "worded"
