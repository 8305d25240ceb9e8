# SPDX-License-Identifier: GPL-2.0-or-later
import struct

from collectors.bmc import BmcReader, listener
from collectors.devices import Bmc
from collectors.readings import Quality, Reading, Record, Silence
from collectors.watch import Watch

N01 = Bmc("n01.bmc", "bmc", "127.0.2.1", 623, 15_300)
CEILING_PASSED_W = 15_301


def dcmi(power_w: int, *, state: int = 0x40) -> bytes:
    return b"\xdc" + struct.pack("<HHHHIIB", power_w, 0, power_w, power_w, 0, 1000, state)


def read(data: bytes, *, code: int = 0) -> Reading:
    return BmcReader(N01).read(at_us=1, code=code, data=data)


def test_the_current_power_is_read() -> None:
    assert read(dcmi(4_250)).active_power_w == 4_250
    assert read(dcmi(4_250)).quality is Quality.GOOD


def test_an_answer_that_is_no_reading_says_why() -> None:
    refused = read(b"", code=0xC1)
    short = read(dcmi(100)[:9])
    idle = read(dcmi(100, state=0))

    assert {each.quality for each in (refused, short, idle)} == {Quality.NOT_SUPPORTED}
    assert "0xc1" in refused.note
    assert "9 bytes" in short.note
    assert "does not measure" in idle.note


def test_more_than_the_node_can_draw_is_implausible() -> None:
    assert read(dcmi(CEILING_PASSED_W)).quality is Quality.IMPLAUSIBLE


def test_a_line_of_the_worker_is_a_reading_or_a_miss() -> None:
    records: list[Record] = []
    watch = Watch(N01, stale_after_polls=1, emit=records.append)
    heard = listener({N01.name: BmcReader(N01)}, {N01.name: watch})

    heard({"device": "n01.bmc", "at_us": 7, "code": 0, "data": dcmi(990).hex()})
    heard({"device": "n01.bmc", "missed": "login failed: timeout"})

    reading, silence = records
    assert isinstance(reading, Reading)
    assert (reading.polled_at_us, reading.active_power_w) == (7, 990)
    assert isinstance(silence, Silence)
    assert silence.note.endswith("login failed: timeout")
