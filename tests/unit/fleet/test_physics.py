# SPDX-License-Identifier: GPL-2.0-or-later
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fleet.physics import (
    RAMP_S,
    node_target_w,
    noisy_w,
    ramped_w,
    split_over_feeds_w,
)

watts = st.floats(min_value=0, max_value=1e6)
seconds = st.floats(min_value=0, max_value=1e6)


@given(draw_w=watts, at_s=seconds)
def test_the_two_feeds_carry_exactly_the_draw(draw_w: float, at_s: float) -> None:
    a_w, b_w = split_over_feeds_w(draw_w, at_s)
    assert a_w + b_w == draw_w
    assert a_w == pytest.approx(draw_w / 2, rel=0.02)


@given(level_w=watts, target_w=watts, elapsed_s=seconds)
def test_a_ramp_never_overshoots(level_w: float, target_w: float, elapsed_s: float) -> None:
    ahead_w = ramped_w(level_w, target_w, elapsed_s)
    assert min(level_w, target_w) <= ahead_w <= max(level_w, target_w)


@given(steps=st.lists(st.floats(min_value=0, max_value=2), min_size=1, max_size=20))
def test_a_ramp_in_steps_is_the_ramp_in_one(steps: list[float]) -> None:
    level_w = 1000.0
    for step_s in steps:
        level_w = ramped_w(level_w, 8000.0, step_s)
    assert level_w == pytest.approx(ramped_w(1000.0, 8000.0, sum(steps)))


def test_a_ramp_covers_63_percent_in_its_time_constant() -> None:
    assert ramped_w(0, 1000, RAMP_S) == pytest.approx(1000 * (1 - math.exp(-1)))


@given(level_w=watts, gauss=st.floats(allow_nan=False, allow_infinity=False))
def test_noise_never_adds_and_takes_little(level_w: float, gauss: float) -> None:
    assert level_w * 0.987 <= noisy_w(level_w, gauss) <= level_w


@pytest.mark.parametrize(
    ("loads_w", "limits", "expected_w"),
    [
        pytest.param([], {}, 1000, id="idle"),
        pytest.param([7500], {}, 8500, id="one job"),
        pytest.param([7500, 500], {}, 9000, id="jobs add up"),
        pytest.param([50_000], {}, 51_000, id="a job may lie beyond the node's maximum"),
        pytest.param([50_000], {"ceiling_w": 12_000}, 12_000, id="a ceiling is physical"),
        pytest.param([7500], {"cap_w": 4000}, 4000, id="a power limit lowers the draw"),
        pytest.param([7500], {"cap_w": 10}, 1000, id="but not below idle"),
    ],
)
def test_a_node_heads_for(
    loads_w: list[float], limits: dict[str, float], expected_w: float
) -> None:
    assert node_target_w(1000, loads_w, **limits) == expected_w
