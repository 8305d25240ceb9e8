# SPDX-License-Identifier: GPL-2.0-or-later
"""How draw behaves: ramps, noise, two feeds.  Pure, watts and seconds throughout."""

import math
from collections.abc import Iterable

RAMP_S = 0.7  # time constant: a node is within 5 % of a step after 2 s
NOISE_SIGMA = 0.003
_NOISE_AT_MOST = 4 * NOISE_SIGMA
_SHARE_A = 0.505
_SHARE_DRIFT = 0.004
_DRIFT_PERIOD_S = 90.0


def node_target_w(
    idle_w: float,
    loads_w: Iterable[float],
    *,
    ceiling_w: float = math.inf,
    cap_w: float = math.inf,
) -> float:
    """Not clamped at the node's declared maximum: a job that lies must be able to show it."""
    return min(idle_w + sum(loads_w), ceiling_w, max(cap_w, idle_w))


def ramped_w(level_w: float, target_w: float, elapsed_s: float) -> float:
    """First order, so it never overshoots."""
    ahead = target_w + (level_w - target_w) * math.exp(-elapsed_s / RAMP_S)
    low, high = sorted((level_w, target_w))
    return min(max(ahead, low), high)


def noisy_w(level_w: float, gauss: float) -> float:
    """Noise only takes away: what a job declares is its peak, and no sample passes it."""
    return level_w * (1 - min(abs(gauss) * NOISE_SIGMA, _NOISE_AT_MOST))


def split_over_feeds_w(draw_w: float, at_s: float) -> tuple[float, float]:
    """(A, B), together exactly the draw.

    A's share stays above one half: then `draw - A` is exact in floating point (Sterbenz).
    """
    share = _SHARE_A + _SHARE_DRIFT * math.sin(2 * math.pi * at_s / _DRIFT_PERIOD_S)
    a_w = draw_w * share
    return a_w, draw_w - a_w
