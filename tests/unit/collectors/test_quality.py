# SPDX-License-Identifier: GPL-2.0-or-later
from dataclasses import replace

from collectors.devices import Device
from collectors.plausibility import Meaning, judge_power
from collectors.quality import Judge, LastKnown
from collectors.readings import Quality, Reading

DEVICE = Device("r1.A", "pdu", "127.0.1.1", 161, 66_000)
START_US = 1_795_000_000_000_000
PHASE = ("phase.L1.voltage_v", "phase.L1.current_a")


def a_reading(nth: int, power_w: int | None, energy_wh: int | None = None) -> Reading:
    return Reading(
        "r1.A", "pdu", START_US + nth * 2_000_000, power_w, None, energy_wh, Quality.GOOD
    )


def test_a_reading_leaves_with_its_quality_and_its_energy() -> None:
    judge = Judge(DEVICE, interval_s=2)

    first, lie, last = (judge(a_reading(nth, w)) for nth, w in enumerate((36_000, -5, 36_000)))

    assert (first.quality, first.energy_wh, first.energy_source) == (Quality.GOOD, 0, "integrated")
    assert (lie.quality, lie.note) == (Quality.IMPLAUSIBLE, "-5 W is negative")
    assert last.energy_wh == 40


def test_a_restart_still_doubts_a_sudden_zero_and_keeps_the_energy() -> None:
    last = LastKnown(36_000, START_US - 2_000_000, START_US - 2_000_000, 700, "integrated")
    judge = Judge(DEVICE, interval_s=2, last=last)

    zero, back = judge(a_reading(0, 0)), judge(a_reading(1, 36_000))

    assert (zero.quality, zero.energy_wh) == (Quality.IMPLAUSIBLE, 700)
    assert (back.quality, back.energy_wh) == (Quality.GOOD, 740)


def test_a_zero_that_the_decoder_doubts_is_believed_when_no_current_flows() -> None:
    decoded = judge_power(0, Meaning(), ceiling_w=66_000, last_good_w=9_000)
    zero = replace(a_reading(1, 0), quality=decoded.quality, note=decoded.note, layout=PHASE)
    judge = Judge(DEVICE, interval_s=2, last=LastKnown(9_000, START_US))

    assert judge(replace(zero, values=(230.0, 0.0))).quality is Quality.GOOD

    judge = Judge(DEVICE, interval_s=2, last=LastKnown(9_000, START_US))
    assert judge(replace(zero, values=(230.0, 39.0))).quality is Quality.IMPLAUSIBLE
