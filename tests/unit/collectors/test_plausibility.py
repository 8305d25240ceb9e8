# SPDX-License-Identifier: GPL-2.0-or-later
from dataclasses import dataclass
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.plausibility import Meaning, believable_extra, judge_power
from collectors.readings import Quality

CEILING_W = 66_240
TENS_OF_W = Meaning(Decimal(10), frozenset({-1}))


@dataclass(frozen=True)
class Case:
    raw: object
    want: Quality
    power_w: int | None
    note: str = ""
    meaning: Meaning = TENS_OF_W
    last_good_w: int | None = 4_210


CASES = {
    "a reading is scaled": Case(27, Quality.GOOD, 270),
    "decimal digits divide": Case(
        16_654, Quality.GOOD, 1_665, meaning=Meaning(Decimal(1).scaleb(-1))
    ),
    "exactly the ceiling is possible": Case(6_624, Quality.GOOD, 66_240),
    "above the ceiling is absurd": Case(6_625, Quality.IMPLAUSIBLE, 66_250, "66,250 W is more"),
    "the marker is no reading": Case(-1, Quality.NOT_SUPPORTED, None, "answered -1"),
    "a missing object is not supported": Case(None, Quality.NOT_SUPPORTED, None, "leaves out"),
    "negative is implausible": Case(-2, Quality.IMPLAUSIBLE, -20, "-20 W is negative"),
    "the marker's value is negative where it means nothing": Case(
        -1, Quality.IMPLAUSIBLE, -1, "negative", meaning=Meaning()
    ),
    "zero from a loaded device is a lie": Case(
        0, Quality.IMPLAUSIBLE, 0, "0 W from a device that drew 4,210 W"
    ),
    "zero from a device that never drew is believed": Case(0, Quality.GOOD, 0, last_good_w=None),
    "zero from a device that hardly drew is believed": Case(0, Quality.GOOD, 0, last_good_w=49),
    "bytes are no number": Case(b"12", Quality.IMPLAUSIBLE, None, "not a whole number"),
    "NaN is no number": Case(float("nan"), Quality.IMPLAUSIBLE, None, "answered nan"),
    "infinity is no number": Case(float("inf"), Quality.IMPLAUSIBLE, None, "answered inf"),
    "half a unit is no answer": Case(2.5, Quality.IMPLAUSIBLE, None, "answered 2.5"),
    "true is no number": Case(True, Quality.IMPLAUSIBLE, None, "answered True"),
    "more than the column can hold is noted, not stored": Case(
        2**31, Quality.IMPLAUSIBLE, None, "21,474,836,480 W is more"
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_one_answer(case: Case) -> None:
    judged = judge_power(case.raw, case.meaning, ceiling_w=CEILING_W, last_good_w=case.last_good_w)

    assert (judged.quality, judged.active_power_w) == (case.want, case.power_w)
    assert case.note in judged.note
    assert bool(judged.note) is (case.want is not Quality.GOOD)


_ANYTHING = st.one_of(st.integers(), st.floats(), st.binary(), st.text(), st.none(), st.booleans())


@given(raw=_ANYTHING, last_good_w=st.none() | st.integers(0, CEILING_W))
def test_whatever_is_answered_good_means_possible(raw: object, last_good_w: int | None) -> None:
    judged = judge_power(raw, TENS_OF_W, ceiling_w=CEILING_W, last_good_w=last_good_w)

    if judged.quality is Quality.GOOD:
        assert judged.active_power_w is not None
        assert 0 <= judged.active_power_w <= CEILING_W
    else:
        assert judged.note
    if judged.active_power_w is not None:
        assert abs(judged.active_power_w) < 2**31


@given(raw=_ANYTHING)
def test_what_stands_beside_the_power_fits_its_column_or_is_left_out(raw: object) -> None:
    value = believable_extra(raw, TENS_OF_W)

    assert value is None or 0 <= value < 2**63
