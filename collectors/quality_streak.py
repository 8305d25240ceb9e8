# SPDX-License-Identifier: GPL-2.0-or-later
"""Values that stand still: a stuck meter, or just a quiet rack under a coarse one.

That a number repeats proves nothing by itself: a meter with steps of 10 W on an idle rack repeats
for hours. It is stuck when something that must move with it moves (its energy counter, its
amperes), or when a meter fine enough never stood still at this load before.
"""

import math
from dataclasses import dataclass, field, replace

from collectors.quality_balance import Electric

FEWEST_POLLS = 15  #: shorter streaks are never judged
_FEWEST_SEEN = 200  # polls at about this load before its restlessness is known
_CHANCE = 1e-9  # of a streak as long, were the meter alive
_FINE = 0.001  # steps of at most this share of the power: noise must show
_COUNTER_STEP_WH = 1_000  # of an energy counter, until it showed a smaller one


@dataclass(frozen=True, slots=True)
class Streak:
    """How long one power has been repeated, and what else happened meanwhile."""

    power_w: int = -1
    since_us: int = 0
    polls: int = 0
    energy_wh: int | None = None  #: the counter when it began
    least_va: float = math.inf
    most_va: float = 0.0
    #: smallest step of power and of energy that was ever seen
    step_w: int = 0
    step_wh: int = _COUNTER_STEP_WH
    last_wh: int | None = None
    #: polls, and changes among them, by half octave of power
    restless: dict[int, tuple[int, int]] = field(default_factory=dict)


def lengthened(
    streak: Streak, *, power_w: int, at_us: int, energy_wh: int | None, electric: Electric | None
) -> Streak:
    """The streak with one more answer."""
    same = power_w == streak.power_w
    step_wh = streak.step_wh
    if energy_wh is not None and streak.last_wh is not None and energy_wh > streak.last_wh:
        step_wh = min(step_wh, energy_wh - streak.last_wh)
    va = electric.va if electric else None
    seen, changes = streak.restless.get(_octave(power_w), (0, 0))
    restless = {**streak.restless, _octave(power_w): (seen + 1, changes + (not same))}
    step_w = math.gcd(streak.step_w, power_w)
    if not same:
        return Streak(
            power_w=power_w,
            since_us=at_us,
            polls=1,
            energy_wh=energy_wh,
            least_va=math.inf if va is None else va,
            most_va=0.0 if va is None else va,
            step_w=step_w,
            step_wh=step_wh,
            last_wh=energy_wh,
            restless=restless,
        )
    return replace(
        streak,
        polls=streak.polls + 1,
        least_va=streak.least_va if va is None else min(streak.least_va, va),
        most_va=streak.most_va if va is None else max(streak.most_va, va),
        energy_wh=energy_wh if _went_back(streak, energy_wh) else streak.energy_wh,
        step_w=step_w,
        step_wh=step_wh,
        last_wh=energy_wh,
        # A stuck meter must not teach that standing still is its way.
        restless=streak.restless if streak.polls >= FEWEST_POLLS else restless,
    )


def why_stuck(streak: Streak, *, at_us: int, slack_va: float) -> str:
    """The evidence that the meter is stuck, empty when there is none."""
    if streak.polls < FEWEST_POLLS or streak.power_w <= 0:
        return ""
    for_s = (at_us - streak.since_us) / 1e6
    shown = f"{streak.power_w:,} W in {streak.polls} polls, {for_s:.0f} s"
    moved_va = streak.most_va - streak.least_va
    if moved_va > max(3 * slack_va, 0.15 * streak.most_va) and streak.most_va > 0:
        return (
            f"stuck: {shown}, while volts times amperes went"
            f" from {streak.least_va:,.0f} to {streak.most_va:,.0f} VA"
        )
    if streak.energy_wh is not None and streak.last_wh is not None:
        counted_wh = streak.last_wh - streak.energy_wh
        due_wh = streak.power_w * for_s / 3600
        if abs(counted_wh - due_wh) > 0.25 * due_wh + 3 * streak.step_wh:
            return f"stuck: {shown}, while its counter rose {counted_wh:,} Wh, not {due_wh:,.0f}"
    if _was_never_so_still(streak):
        return f"stuck: {shown}; at this load it never stood still before"
    return ""


def _was_never_so_still(streak: Streak) -> bool:
    if streak.step_w > streak.power_w * _FINE:
        return False
    seen, changes = streak.restless.get(_octave(streak.power_w), (0, 0))
    if seen < _FEWEST_SEEN:
        return False
    share = changes / seen
    share -= 3 * math.sqrt(share * (1 - share) / seen)
    return share > 0 and streak.polls * math.log1p(-min(share, 0.999)) < math.log(_CHANCE)


def _went_back(streak: Streak, energy_wh: int | None) -> bool:
    return energy_wh is None or streak.energy_wh is None or energy_wh < (streak.last_wh or 0)


def _octave(power_w: int) -> int:
    return int(2 * math.log2(power_w)) if power_w > 0 else -1
