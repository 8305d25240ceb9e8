# SPDX-License-Identifier: GPL-2.0-or-later
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.readings import (
    Identity,
    Layout,
    Quality,
    Reading,
    Record,
    Silence,
    UnreadableRecord,
    from_line,
    to_line,
)
from collectors.spool import Spool

MB = 2**20


def a_reading(number: int) -> Reading:
    return Reading("r1.A", "pdu", number, number, None, None, Quality.GOOD, "")


def open_spool(folder: Path, *, max_bytes: int = MB, segment_bytes: int = 1000) -> Spool:
    return Spool(folder, max_bytes=max_bytes, segment_bytes=segment_bytes)


def drain(spool: Spool) -> list[Record]:
    records: list[Record] = []
    while taken := spool.take():
        records += taken
        spool.done()
    spool.done()
    return records


_NAMES = st.text(min_size=1)
_NUMBERS = st.none() | st.integers(-(2**63), 2**63 - 1)
_NAMED = st.lists(
    st.tuples(st.text(), st.none() | st.floats(allow_nan=False, width=32)), max_size=5
)
_RECORDS = st.one_of(
    st.builds(
        lambda named, source: Reading(
            *("r1.A", "pdu", 1, 2, None, 3, Quality.GOOD, "note"),
            tuple(name for name, _ in named),
            tuple(value for _, value in named),
            source,
        ),
        _NAMED,
        st.sampled_from(["counter", "integrated", ""]),
    ),
    st.builds(
        Identity,
        _NAMES,
        st.sampled_from(["pdu", "bmc", "gpu"]),
        st.integers(0, 2**60),
        st.text(),
        st.text(),
        st.text(),
    ),
    st.builds(
        Reading,
        _NAMES,
        st.sampled_from(["pdu", "bmc"]),
        st.integers(0, 2**60),
        _NUMBERS,
        _NUMBERS,
        _NUMBERS,
        st.sampled_from(Quality),
        st.text(),
    ),
    st.builds(
        Silence,
        _NAMES,
        st.sampled_from(["pdu", "bmc"]),
        st.integers(0, 2**60),
        st.integers(0, 2**60),
        st.text(),
    ),
)


@given(record=_RECORDS)
def test_a_record_comes_back_from_its_line(record: Record) -> None:
    line = to_line(record)

    assert line.count(b"\n") == 1
    assert from_line(line) == record


@given(line=st.binary())
def test_any_other_line_is_refused(line: bytes) -> None:
    with pytest.raises(UnreadableRecord):
        from_line(line)


def test_a_line_of_a_collector_before_layouts_is_read() -> None:
    line = b'["reading","r1.A","pdu",1,2000,null,17,"good",""]\n'

    assert from_line(line) == Reading("r1.A", "pdu", 1, 2_000, None, 17, Quality.GOOD, "")


INLET: Layout = ("inlet.1.current_a", "inlet.1.voltage_v")
OUTLET: Layout = ("outlet.1.on",)


def a_full_reading(number: int, layout: Layout = INLET) -> Reading:
    values = tuple(number + place / 4 for place in range(len(layout)))
    return Reading(
        "r1.A", "pdu", number, number, None, 9, Quality.GOOD, "", layout, values, "counter"
    )


def test_a_layout_is_spelled_out_once_in_a_segment(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, segment_bytes=MB)
    for number in range(100):
        spool.append(a_full_reading(number, OUTLET if number % 3 else INLET))

    [segment] = tmp_path.iterdir()
    assert segment.read_text().count("inlet.1.current_a") == 1
    assert drain(spool) == [
        a_full_reading(number, OUTLET if number % 3 else INLET) for number in range(100)
    ]


def test_layouts_outlive_segments_partial_reads_and_restarts(tmp_path: Path) -> None:
    old = open_spool(tmp_path, segment_bytes=400)
    for number in range(20):
        old.append(a_full_reading(number))
        if number % 4 == 3:
            assert old.take()
            old.done()
    for number in range(20, 50):
        old.append(a_full_reading(number))

    new = open_spool(tmp_path, segment_bytes=400)
    new.append(a_full_reading(50))

    kept = drain(new)
    first = kept[0].polled_at_us if isinstance(kept[0], Reading) else -1
    assert 0 < first <= 20
    assert kept == [a_full_reading(number) for number in range(first, 51)]


def test_a_layout_torn_by_a_full_disk_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    for room_bytes in (10, 50, 70, 100):
        spool = open_spool(tmp_path / str(room_bytes))
        room = [room_bytes]

        def small_disk(fd: int, data: bytes, room: list[int] = room) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = real(fd, data[: room[0]])
            room[0] -= written
            return written

        monkeypatch.setattr(os, "write", small_disk)
        spool.append(a_full_reading(1))
        monkeypatch.setattr(os, "write", real)
        spool.append(a_full_reading(2))

        assert drain(spool) == [a_full_reading(1), a_full_reading(2)]


def test_what_was_appended_comes_out_in_order_and_once(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for number in range(100):
        spool.append(a_reading(number))

    assert drain(spool) == [a_reading(number) for number in range(100)]
    assert spool.take() == []
    assert spool.backlog_bytes() == 0


def test_what_was_taken_but_not_stored_is_taken_again(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(a_reading(1))

    assert spool.take() == spool.take() == [a_reading(1)]


def test_stored_segments_are_deleted(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    for number in range(500):
        spool.append(a_reading(number))
    assert len(list(tmp_path.iterdir())) > 10

    drain(spool)

    assert len(list(tmp_path.iterdir())) == 1


def test_a_new_collector_goes_on_where_the_old_one_was_killed(tmp_path: Path) -> None:
    old = open_spool(tmp_path)
    for number in range(50):
        old.append(a_reading(number))

    new = open_spool(tmp_path)
    new.append(a_reading(50))

    assert drain(new) == [a_reading(number) for number in range(51)]


def test_a_torn_line_costs_that_line_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    old = open_spool(tmp_path)
    old.append(a_reading(1))
    [segment] = tmp_path.iterdir()
    with segment.open("ab") as file:
        file.write(to_line(a_reading(2))[:20])

    new = open_spool(tmp_path)
    new.append(a_reading(3))

    assert drain(new) == [a_reading(1), a_reading(3)]
    assert "skipped a line that is no record" in caplog.text


def test_a_line_still_being_written_is_left_for_later(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append(a_reading(1))
    [segment] = tmp_path.iterdir()
    line = to_line(a_reading(2))
    with segment.open("ab") as file:
        file.write(line[:20])
        file.flush()
        assert drain(spool) == [a_reading(1)]
        file.write(line[20:])

    assert drain(spool) == [a_reading(2)]


def test_a_full_spool_drops_its_oldest_and_says_how_many(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(tmp_path, max_bytes=10_000)
    for number in range(1_000):
        spool.append(a_reading(number))

    kept = drain(spool)

    dropped = sum(r.args[1] for r in caplog.records if isinstance(r.args, tuple))  # type: ignore[misc]
    assert kept == [a_reading(number) for number in range(dropped, 1_000)]
    assert 0 < dropped < 1_000
    assert spool.backlog_bytes() == 0


def test_a_disk_that_refuses_writes_costs_nothing_when_it_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    spool = open_spool(tmp_path)
    real = os.write
    room = [70]

    def small_disk(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = real(fd, data[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", small_disk)
    for number in range(5):
        spool.append(a_reading(number))
    monkeypatch.setattr(os, "write", real)
    spool.append(a_reading(5))

    assert drain(spool) == [a_reading(number) for number in range(6)]
    assert caplog.text.count("No space left on device") == 1


def test_what_the_disk_refuses_still_reaches_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    spool.append(a_reading(1))

    def full_disk(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full_disk)
    spool.append(a_reading(2))
    spool.append(a_reading(3))

    assert drain(spool) == [a_reading(1), a_reading(2), a_reading(3)]


def test_nothing_written_is_lost_when_the_collector_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from collectors.readings import Quality, Reading\n"
        "from collectors.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), max_bytes=2**30, segment_bytes=5000)\n"
        "for n in range(10**9):\n"
        "    spool.append(Reading('r1.A', 'pdu', n, n, None, None, Quality.GOOD, ''))\n"
        "    print(n, flush=True)\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert writer.stdout is not None
    with writer.stdout:
        deadline = time.monotonic() + 30
        said: list[bytes] = []
        while len(said) < 2_000:
            assert time.monotonic() < deadline
            said.append(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        said += writer.stdout.read().splitlines()
    writer.wait()
    promised = int(said[-1]) if said[-1].strip().isdigit() else int(said[-2])

    numbers = [
        each.polled_at_us for each in drain(open_spool(tmp_path)) if isinstance(each, Reading)
    ]

    assert numbers[: promised + 1] == list(range(promised + 1))
