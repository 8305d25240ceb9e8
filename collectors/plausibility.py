# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides how far an answer can be believed. Pure: what was answered and what is known, no I/O.

A meter that lies must never add headroom, so in doubt a reading is implausible; the value as
answered is kept beside the reason. But nodes really double their power within a second: a steep
ramp is no lie. `judge_power` looks at one number, `judge` at the device over time.
"""

import math
from dataclasses import dataclass, field, replace
from decimal import Decimal

from collectors.quality_balance import FAR_OFF, Electric, electric_of
from collectors.quality_streak import Streak, lengthened, why_stuck
from collectors.readings import Quality, Reading

ABSURD_SHARE = 1.5  #: of what the feed may carry for good: no breaker lets that through for long
LOADED_W = 50  #: a device that drew this much does not fall to exactly 0 W unnoticed
_INT4_MAX = 2**31 - 1
_INT8_MAX = 2**63 - 1
_FULL_SCALE = frozenset({2**15 - 1, 2**16 - 1})  # W; larger ones are above every ceiling
_TELLING_W = 200  # less than this, a factor of ten is a fan
_SLACK_W = 50
_POLLS_TO_MIND = 3
_BELIEVED = frozenset({Quality.GOOD, Quality.ESTIMATED})
_ZERO = "0 W from a device that drew"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a raw number means: value = raw x scale, except for the markers."""

    scale: Decimal = Decimal(1)
    not_supported: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Judgement:
    active_power_w: int | None
    quality: Quality
    note: str = ""


def judge_power(
    raw: object, meaning: Meaning, *, ceiling_w: int, last_good_w: int | None
) -> Judgement:
    """Whether the power answered is one the device can really see."""
    if raw is None:
        return Judgement(None, Quality.NOT_SUPPORTED, "the answer leaves out the power object")
    whole = _whole_number(raw)
    if whole is None:
        return Judgement(None, Quality.IMPLAUSIBLE, f"answered {_short(raw)}, not a whole number")
    if whole in meaning.not_supported:
        return Judgement(
            None, Quality.NOT_SUPPORTED, f"answered {whole}, its word for not supported"
        )
    power_w = _scaled(whole, meaning.scale)
    stored_w = power_w if abs(power_w) <= _INT4_MAX else None
    why = _why_implausible(power_w, ceiling_w=ceiling_w, last_good_w=last_good_w)
    return Judgement(stored_w, Quality.IMPLAUSIBLE if why else Quality.GOOD, why)


def believable_extra(raw: object, meaning: Meaning) -> int | None:
    """A value beside the power (VA, Wh), or None where there is no use in it."""
    whole = _whole_number(raw)
    if whole is None or whole < 0 or whole in meaning.not_supported:
        return None
    value = _scaled(whole, meaning.scale)
    return value if value <= _INT8_MAX else None


def fits_int4(value: int | None) -> int | None:
    """The value where the column can hold it."""
    return value if value is not None and abs(value) <= _INT4_MAX else None


def _why_implausible(power_w: int, *, ceiling_w: int, last_good_w: int | None) -> str:
    if power_w < 0:
        return f"{power_w:,} W is negative"
    if power_w > ceiling_w:
        return f"{power_w:,} W is more than the {ceiling_w:,} W that could ever pass"
    if power_w == 0 and (last_good_w or 0) >= LOADED_W:
        return f"{_ZERO} {last_good_w:,} W"
    return ""


def _whole_number(raw: object) -> int | None:
    if isinstance(raw, bool):
        return None
    if isinstance(raw, int):
        return raw if raw.bit_length() <= 64 else None
    if isinstance(raw, float) and math.isfinite(raw) and raw.is_integer():
        return int(raw)
    return None


def _scaled(whole: int, scale: Decimal) -> int:
    return int((whole * scale).to_integral_value())


def _short(raw: object) -> str:
    if isinstance(raw, int) and raw.bit_length() > 64:
        return f"a number of {raw.bit_length()} bits"  # Python refuses to print the longest
    text = repr(raw)
    return text if len(text) <= 40 else text[:37] + "..."


@dataclass(frozen=True, slots=True)
class Limits:
    """What can pass through a device."""

    ceiling_w: int  #: more than this cannot be true
    continuous_w: int  #: what it may carry for good: no load steps by more between two polls
    interval_us: int  #: from one poll to the next

    @classmethod
    def of(cls, ceiling_w: int, interval_s: float) -> "Limits":
        return cls(ceiling_w, int(ceiling_w / ABSURD_SHARE), int(interval_s * 1e6))


@dataclass(frozen=True, slots=True)
class History:
    """What is remembered of a device from poll to poll."""

    polled_at_us: int = 0
    up_time: int | None = None  #: of its agent, hundredths of a second
    rebooted_at_us: int | None = None
    good_w: int | None = None  #: the last power that was believed
    good_at_us: int = 0
    changed_unit: str = ""  #: why its unit is in doubt, until something shows it is not
    jumped_w: int = 0
    jumps: int = 0  #: polls in a row that showed about that, and were not believed
    off_polls: int = 0  #: polls in a row where W and V x A do not fit
    streak: Streak = field(default_factory=Streak)


def judge(
    history: History, reading: Reading, *, limits: Limits, up_time: int | None = None
) -> tuple[Reading, History]:
    """The reading with its quality, and what to remember for the next one.

    What was decoded as not good stays so and teaches nothing, but for a zero: over time there is
    more to say about it.
    """
    history, late = _on_time(history, reading, up_time)
    power_w = reading.active_power_w
    if power_w == 0 and reading.note.startswith(_ZERO):
        reading = replace(reading, quality=Quality.GOOD, note="")
    if reading.quality not in _BELIEVED or power_w is None:
        return reading, history
    electric = electric_of(reading)
    slack_va = electric.slack if electric else 0.0
    known_step_w = history.streak.step_w
    history = replace(
        history,
        streak=lengthened(
            history.streak,
            power_w=power_w,
            at_us=reading.polled_at_us,
            energy_wh=reading.energy_wh,
            electric=electric,
        ),
        off_polls=history.off_polls + 1 if _off(reading, power_w, electric) else 0,
        changed_unit=_changed_unit(history, reading, power_w, electric, limits),
    )
    why = (
        _out_of_range(history, power_w, limits)
        or _zero_though_loaded(history, power_w, electric)
        or _against_itself(reading, power_w, electric)
        or history.changed_unit
        or why_stuck(history.streak, at_us=reading.polled_at_us, slack_va=slack_va)
    )
    if why:
        # A lie must not make a coarse meter pass for a fine one.
        streak = replace(history.streak, step_w=known_step_w)
        history = replace(history, streak=streak)
        return replace(reading, quality=Quality.IMPLAUSIBLE, note=why), history
    why, history = _jumped(history, reading, power_w, electric, limits)
    if why and history.jumps:
        return replace(reading, quality=Quality.IMPLAUSIBLE, note=why), history
    history = replace(history, good_w=power_w, good_at_us=reading.polled_at_us)
    doubt = why or late or _why_off(history, reading, power_w, electric)
    if doubt:
        note = "; ".join(each for each in (reading.note, doubt) if each)
        return replace(reading, quality=Quality.ESTIMATED, note=note), history
    return reading, history


def _on_time(history: History, reading: Reading, up_time: int | None) -> tuple[History, str]:
    """Notes the time and a reboot; says so when time went back."""
    at_us = reading.polled_at_us
    back_us = history.polled_at_us - at_us
    rebooted = None not in (up_time, history.up_time) and (up_time or 0) < (history.up_time or 0)
    noted = replace(
        history,
        polled_at_us=at_us,
        # Else nothing would look fresh until the clock has caught up.
        good_at_us=min(history.good_at_us, at_us),
        streak=replace(history.streak, since_us=min(history.streak.since_us, at_us)),
        up_time=history.up_time if up_time is None else up_time,
        rebooted_at_us=at_us if rebooted else history.rebooted_at_us,
    )
    if back_us < 0 or not history.polled_at_us:
        return noted, ""
    return noted, f"stamped {back_us / 1e6:.1f} s before the answer before it: the clock went back"


def _out_of_range(history: History, power_w: int, limits: Limits) -> str:
    if why := _why_implausible(power_w, ceiling_w=limits.ceiling_w, last_good_w=None):
        return why
    good_w = history.good_w
    if power_w in _FULL_SCALE and good_w is not None and abs(power_w - good_w) > 0.3 * power_w:
        return f"{power_w:,} W is the largest number its register holds; it drew {good_w:,} W"
    return ""


def _zero_though_loaded(history: History, power_w: int, electric: Electric | None) -> str:
    if power_w or (history.good_w or 0) < LOADED_W:
        return ""
    if electric and electric.live and electric.va <= electric.slack:
        return ""  # the load went to the other feed, or off: no current says so too
    return f"{_ZERO} {history.good_w:,} W"


def _against_itself(reading: Reading, power_w: int, electric: Electric | None) -> str:
    if electric and electric.far_from(power_w):
        return f"{power_w:,} W, while volts times amperes are {electric.va:,.0f} VA"
    apparent_va = reading.apparent_power_va
    if apparent_va and power_w > FAR_OFF * apparent_va + _SLACK_W:
        return f"{power_w:,} W of {apparent_va:,} VA apparent power"
    if apparent_va and power_w < apparent_va / (2 * FAR_OFF) - _SLACK_W:
        return f"{power_w:,} W of {apparent_va:,} VA apparent power"
    return ""


def _off(reading: Reading, power_w: int, electric: Electric | None) -> bool:
    if electric and electric.off(power_w):
        return True
    apparent_va = reading.apparent_power_va
    return bool(apparent_va) and power_w > 1.1 * (apparent_va or 0) + _SLACK_W


def _why_off(history: History, reading: Reading, power_w: int, electric: Electric | None) -> str:
    # Its values are not of one instant: while a load ramps they may differ for a poll or two.
    if history.off_polls < _POLLS_TO_MIND:
        return ""
    if electric and electric.off(power_w):
        factor = f", {electric.watts:,.0f} W by its power factor" if electric.watts else ""
        return f"{power_w:,} W beside {electric.va:,.0f} VA{factor}, {history.off_polls} polls long"
    return f"{power_w:,} W beside {reading.apparent_power_va:,} VA, {history.off_polls} polls long"


def _changed_unit(
    history: History, reading: Reading, power_w: int, electric: Electric | None, limits: Limits
) -> str:
    """Whether it seems to speak in tenths or thousands of what it spoke in before."""
    good_w = history.good_w or 0
    if good_w < _TELLING_W or (electric and electric.confirms(power_w)):
        return ""
    if history.changed_unit:
        return "" if good_w / 3 <= power_w <= good_w * 3 else history.changed_unit
    since_us = reading.polled_at_us - (history.rebooted_at_us or 0)
    rebooted = history.rebooted_at_us is not None and since_us <= 5 * limits.interval_us
    if not rebooted and not _fresh(history, reading, limits):
        return ""
    # An idle rack may really draw ten times as much a poll later: that alone is no sign.
    for factor in (10, 100, 1000) if rebooted else (100, 1000):
        # In coarser units the fraction is lost: 1,482 W are 1 kW.
        up_off, down_off = abs(power_w / factor - good_w), abs(power_w * factor - good_w)
        if up_off <= 0.15 * good_w or down_off <= 0.15 * good_w + factor:
            after = " after a reboot" if rebooted else ""
            return (
                f"{power_w:,} W{after}, about a factor of {factor} from the {good_w:,} W"
                " before: its unit or scale changed"
            )
    return ""


def _jumped(
    history: History, reading: Reading, power_w: int, electric: Electric | None, limits: Limits
) -> tuple[str, History]:
    """A step that no breaker lets through counts once it lasts, or volts and amperes agree."""
    good_w = history.good_w
    calm = replace(history, jumps=0)
    if good_w is None or not (history.jumps or _fresh(history, reading, limits)):
        return "", calm
    if abs(power_w - good_w) <= limits.continuous_w or (electric and electric.confirms(power_w)):
        return "", calm
    same = history.jumps and abs(power_w - history.jumped_w) <= limits.continuous_w / 4
    jumps = history.jumps + 1 if same else 1
    sentence = (
        f"{good_w:,} W to {power_w:,} W in one poll, where {limits.continuous_w:,} W is all"
        " that may flow"
    )
    if jumps >= _POLLS_TO_MIND:
        return f"{sentence}; shown {jumps} times", calm
    return sentence, replace(history, jumps=jumps, jumped_w=power_w)


def _fresh(history: History, reading: Reading, limits: Limits) -> bool:
    return reading.polled_at_us - history.good_at_us <= 3 * limits.interval_us
