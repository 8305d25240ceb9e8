# SPDX-License-Identifier: GPL-2.0-or-later
import logging
import time

import pytest

from collectors.devices import Bmc
from collectors.quality import Judge, LastKnown
from collectors.readings import Quality, Reading, Record, Silence
from collectors.watch import Watch

N01 = Bmc("n01.bmc", "bmc", "127.0.2.1", 623, 15_300)


def a_reading(quality: Quality = Quality.GOOD, note: str = "") -> Reading:
    return Reading("n01.bmc", "bmc", time.time_ns() // 1000, 900, None, None, quality, note)


def test_silence_is_recorded_once_and_only_after_three_misses() -> None:
    records: list[Record] = []
    watch = Watch(N01, stale_after_polls=3, emit=records.append)

    for _ in range(2):
        watch.missed("timed out")
    assert records == []
    for _ in range(5):
        watch.missed("timed out")

    [silence] = records
    assert isinstance(silence, Silence)
    assert silence.note == "no answer for 0 s: timed out"


def test_one_answer_starts_the_count_anew() -> None:
    records: list[Record] = []
    watch = Watch(N01, stale_after_polls=3, emit=records.append)

    for _ in range(4):
        watch.missed("timed out")
        watch.missed("timed out")
        watch.answered(a_reading())

    assert [type(each) for each in records] == [Reading] * 4


def test_going_and_coming_back_is_one_log_line_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = Watch(N01, stale_after_polls=1, emit=lambda _: None)

    for _ in range(3):
        watch.missed("timed out")
    for _ in range(3):
        watch.answered(a_reading())

    gone, back = caplog.messages
    assert gone == "n01.bmc: no answer for 0 s: timed out"
    assert back == "n01.bmc: answers again after 0 s"


def test_a_meter_that_begins_to_lie_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    watch = Watch(N01, stale_after_polls=3, emit=lambda _: None)

    watch.answered(a_reading())
    for _ in range(3):
        watch.answered(a_reading(Quality.IMPLAUSIBLE, "-20 W is negative"))
    watch.answered(a_reading())

    assert caplog.messages == ["n01.bmc: implausible: -20 W is negative", "n01.bmc: good"]


def test_a_reading_is_judged_before_it_is_recorded() -> None:
    records: list[Record] = []
    judge = Judge(N01, interval_s=2, last=LastKnown(good_w=1_500, good_at_us=1))
    watch = Watch(N01, stale_after_polls=3, emit=records.append, judge=judge)
    watch.answered(Reading("n01.bmc", "bmc", 2_000_000, 0, None, None, Quality.GOOD))

    assert [(each.quality, each.note) for each in records if isinstance(each, Reading)] == [
        (Quality.IMPLAUSIBLE, "0 W from a device that drew 1,500 W")
    ]
