# SPDX-License-Identifier: GPL-2.0-or-later
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.profile_plan import Item, Plan, Row, Total, decoded, value_of
from collectors.profile_value import GARBAGE, MISSING, NOT_SUPPORTED, Absence, Decoder, Value

CASES: dict[str, tuple[Decoder, object, Value]] = {
    "tenths": (Decoder(0.1), 3, 0.3),
    "a number told as text": (Decoder(), b"115.6260", 115.626),
    "text that is none": (Decoder(), b"notsupported", GARBAGE),
    "nothing": (Decoder(), None, MISSING),
    "a marker": (Decoder(not_supported=frozenset({-410}), negative="value"), -410, NOT_SUPPORTED),
    "below zero": (Decoder(), -1, NOT_SUPPORTED),
    "below zero where that is a value": (Decoder(0.1, negative="value"), -55, -5.5),
    "a leading power factor": (Decoder(0.001, negative="absolute"), -707, 0.707),
    "Fahrenheit": (Decoder(0.1, fahrenheit=True), 680, 20.0),
    "on": (Decoder(states={"7": 1, "8": 0}), 7, 1.0),
    "a state nobody knows": (Decoder(states={"7": 1}), 9, NOT_SUPPORTED),
    "not a number": (Decoder(), math.nan, GARBAGE),
    "an absurd one": (Decoder(), 10**400, GARBAGE),
    "a truth value": (Decoder(), True, GARBAGE),
}


@pytest.mark.parametrize(("decoder", "raw", "value"), CASES.values(), ids=CASES.keys())
def test_a_raw_value_means(decoder: Decoder, raw: object, value: Value) -> None:
    assert decoder(raw) == value


RAW: Any = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=40),
    st.binary(max_size=40),
    st.lists(st.integers(), max_size=2),
)
POWER = Item("1.1", Decoder(10.0))
VOLTS, AMPERES = Item("1.2", Decoder()), Item("1.3", Decoder(0.1))
STATE = Item("1.4", Decoder(states={"1": 1, "2": 0}))
PLANS = [
    Plan("p", "", "", power, Total(((VOLTS, AMPERES),)), Total(((STATE,),)), power, ())
    for power in (Total(((POWER,), (VOLTS,))), Total(((VOLTS, AMPERES),), measured=False), None)
]


@given(st.dictionaries(st.sampled_from(["1.1", "1.2", "1.3", "1.4"]), RAW))
def test_no_answer_whatever_breaks_decoding_or_becomes_a_number_that_is_none(
    answer: dict[str, object],
) -> None:
    for plan in PLANS:
        found = decoded(plan, answer)
        assert found.power_w is None or math.isfinite(found.power_w)
        assert (found.power_w is None) is bool(found.absence)
        assert found.power_factor is None or 0 <= found.power_factor <= 1
    row = Row("phase", "L1", {"power_w": POWER, "on": STATE})
    for item in row.items.values():
        value = value_of(item, answer)
        assert value is None or math.isfinite(value)


def test_a_total_of_several_is_absent_when_one_of_them_is() -> None:
    total = Total(((VOLTS,), (POWER,)))

    assert total.value({"1.2": 5, "1.1": 7}) == 75
    assert total.value({"1.2": 5}) is MISSING
    assert total.value({"1.2": 5, "1.1": -1}) is NOT_SUPPORTED
    assert total.value({"1.1": b"x"}) is GARBAGE
    assert isinstance(total.value({}), Absence)
