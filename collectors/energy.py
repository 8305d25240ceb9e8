# SPDX-License-Identifier: GPL-2.0-or-later
"""Energy that only grows: from a device's counter where it has one, else its power over time.

A counter that wraps, is reset, jumps or stands still costs no energy and invents none: the gap is
bridged with the integrated power. Wh; the fraction is kept, the whole is stored.
"""

from dataclasses import dataclass, replace

from collectors.readings import EnergySource, Quality, Reading

COUNTER: EnergySource = "counter"
INTEGRATED: EnergySource = "integrated"

#: A counter silent while this much was drawn is stuck: none counts in steps of more than 1 kWh.
STUCK_AFTER_WH = 3_000.0
LONGEST_GAP_US = 60_000_000  #: nobody knows what was drawn in a longer one
_STEP_WH = 1_100.0  # what a counter may rise at once, though next to nothing was drawn
_WRAPS_WH = tuple(
    (1 << bits) * scale
    for bits in (31, 32)
    for scale in (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
)


@dataclass(frozen=True, slots=True)
class Meter:
    """What one device has used, as far as it is known."""

    total_wh: float = 0.0
    counter_wh: int | None = None  #: as it stood last; None: not known
    counter_at_us: int = 0
    power_w: int | None = None  #: the last power that was believed
    power_at_us: int = 0
    unmoved_wh: float = 0.0  #: drawn since the counter last moved
    counter_stuck: bool = False
    started: bool = False
    resumed: bool = False  #: its total is from before a restart; its counter may go on from there


def resumed(*, energy_wh: int | None, energy_source: str, at_us: int, power_w: int | None) -> Meter:
    """The meter as it was left: from the device's row in `latest`."""
    if energy_wh is None:
        return Meter()
    return Meter(
        total_wh=float(energy_wh),
        counter_at_us=at_us,
        power_w=power_w,
        power_at_us=at_us,
        started=True,
        resumed=energy_source == COUNTER,
    )


def metered(meter: Meter, reading: Reading, *, most_w: int) -> tuple[Reading, Meter]:
    """The reading with its cumulative energy and where that is from, and the meter after it."""
    drawn_wh = _drawn_wh(meter, reading)
    if reading.energy_wh is None or reading.energy_wh < 0:
        meter, source = _bridged(replace(meter, counter_wh=None, resumed=False), drawn_wh)
    else:
        meter, source = _counted(meter, reading.energy_wh, reading.polled_at_us, drawn_wh, most_w)
    return _stored(_power_noted(meter, reading), reading, source)


def _bridged(meter: Meter, drawn_wh: float) -> tuple[Meter, EnergySource]:
    """Without the counter; what it had not told yet (it counts in steps) is not lost."""
    total_wh = meter.total_wh + meter.unmoved_wh + drawn_wh
    return replace(meter, total_wh=total_wh, unmoved_wh=0.0), INTEGRATED


def _counted(
    meter: Meter, counter_wh: int, at_us: int, drawn_wh: float, most_w: int
) -> tuple[Meter, EnergySource]:
    if not meter.started:
        return replace(
            meter,
            total_wh=float(counter_wh),
            counter_wh=counter_wh,
            counter_at_us=at_us,
            started=True,
        ), COUNTER
    before_wh = meter.total_wh if meter.resumed else meter.counter_wh
    at_most_wh = most_w * max(0, at_us - meter.counter_at_us) / 3.6e9 * 1.2 + _STEP_WH
    rise_wh = None if before_wh is None else _rise_wh(before_wh, counter_wh, at_most_wh)
    noted = replace(meter, counter_wh=counter_wh, counter_at_us=at_us, resumed=False)
    if rise_wh is None:
        # Reset, replaced, garbage, or back after a while: it counts from here on.
        return _bridged(noted, drawn_wh)
    if rise_wh > 0:
        # What a stuck counter missed was added already.
        rise_wh = drawn_wh if meter.counter_stuck else rise_wh
        total_wh = meter.total_wh + rise_wh
        return replace(noted, total_wh=total_wh, unmoved_wh=0.0, counter_stuck=False), COUNTER
    return _stood_still(noted, drawn_wh)


def _stood_still(meter: Meter, drawn_wh: float) -> tuple[Meter, EnergySource]:
    if meter.counter_stuck:
        return replace(meter, total_wh=meter.total_wh + drawn_wh), INTEGRATED
    if meter.unmoved_wh + drawn_wh <= STUCK_AFTER_WH:
        return replace(meter, unmoved_wh=meter.unmoved_wh + drawn_wh), COUNTER
    return _bridged(replace(meter, counter_stuck=True), drawn_wh)


def _rise_wh(before_wh: float, counter_wh: int, at_most_wh: float) -> float | None:
    """What was counted since, or None when the counter does not go on from there."""
    rise_wh = counter_wh - before_wh
    if -1 < rise_wh < 0:
        return 0.0  # the fraction that is not stored
    for wrap_wh in (0.0, *_WRAPS_WH):
        if 0 <= rise_wh + wrap_wh <= at_most_wh:
            return rise_wh + wrap_wh
    return None


def _drawn_wh(meter: Meter, reading: Reading) -> float:
    """By the trapezoid between the last two powers that are believed."""
    gap_us = reading.polled_at_us - meter.power_at_us
    if meter.power_w is None or not _believed(reading) or not 0 < gap_us <= LONGEST_GAP_US:
        return 0.0
    return (meter.power_w + (reading.active_power_w or 0)) / 2 * gap_us / 3.6e9


def _power_noted(meter: Meter, reading: Reading) -> Meter:
    if not _believed(reading) or reading.polled_at_us <= meter.power_at_us:
        return meter
    return replace(
        meter, power_w=reading.active_power_w, power_at_us=reading.polled_at_us, started=True
    )


def _believed(reading: Reading) -> bool:
    believed = reading.quality in {Quality.GOOD, Quality.ESTIMATED}
    return believed and reading.active_power_w is not None


def _stored(meter: Meter, reading: Reading, source: EnergySource) -> tuple[Reading, Meter]:
    if not meter.started:
        return reading, meter
    return replace(reading, energy_wh=int(meter.total_wh), energy_source=source), meter
