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
_RECORDS = st.one_of(
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
