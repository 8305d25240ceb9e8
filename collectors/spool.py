# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector's journal: every record goes to disk before Postgres is asked to take it.

Segments of JSON lines, appended by the poller, read in order by the sink, deleted once stored.
A killed collector loses nothing it had written; a restart may store some records twice, which
their key makes harmless. Bounded: when full, the oldest segment goes.
"""

import errno
import logging
import os
import threading
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from collectors.readings import (
    Layout,
    Lines,
    Reading,
    Record,
    UnreadableRecord,
    layout_line,
    to_line,
)

log = logging.getLogger("powercollectord")

SEGMENT_BYTES = 1024 * 1024  #: the most that a restart stores a second time
_READ_BYTES = 2 * 1024 * 1024
_LAYOUT = b'["layout"'
_KEPT_IN_MEMORY = 20_000  #: records held while the spool's disk cannot be written


@dataclass(frozen=True, slots=True)
class _Position:
    """Everything before this place is in Postgres."""

    segment: int
    offset: int


class Spool:
    """One writer (the poller's thread) and one reader (the sink's)."""

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = min(segment_bytes, max(max_bytes // 4, 1))
        self._lock = threading.Lock()
        self.arrived = threading.Event()
        folder.mkdir(parents=True, exist_ok=True)
        old = self._segments()
        self._position = _Position(old[0] if old else 1, 0)
        self._taken = self._position
        self._unwritten: deque[Record] = deque(maxlen=_KEPT_IN_MEMORY)
        self._to_sync: list[int] = []
        # Never append to a segment of an earlier life: its last line may be torn.
        self._writing = (old[-1] if old else 0) + 1
        self._written_bytes = 0
        self._torn = False
        self._refused = False
        self._handed_out: list[Record] = []  #: of the unwritten, what the sink has taken
        self._layouts: dict[Layout, int] = {}  #: defined in the segment written to
        self._lines, self._lines_of = Lines(), self._position.segment
        self._fd = self._open(self._writing)

    # -- the poller's side -------------------------------------------------------------

    def append(self, record: Record) -> None:
        """Write one record; it survives the process from here on. Never raises for the disk."""
        with self._lock:
            self._unwritten.append(record)
            try:
                self._write_out()
                self._refused = False
            except OSError as why:
                if not self._refused:
                    log.error("spool: cannot write %s: %s", self._folder, why.strerror)
                self._refused = True
        self.arrived.set()

    def _write_out(self) -> None:
        while self._unwritten:
            if self._written_bytes >= self._segment_bytes:
                self._rotate()
            record = self._unwritten[0]
            layout = record.layout if isinstance(record, Reading) else ()
            line = self._line(record, layout)
            written = os.write(self._fd, line)
            self._written_bytes += written
            self._torn = written < len(line)
            if self._torn:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if layout:
                self._layouts.setdefault(layout, len(self._layouts))
            self._unwritten.popleft()

    def _line(self, record: Record, layout: Layout) -> bytes:
        """The record's line, after that of its layout where the segment has not seen it yet."""
        # A full disk tears a line in the middle: its rest must not be taken for another's.
        before = b"\n" if self._torn else b""
        if not layout:
            return before + to_line(record)
        number = self._layouts.get(layout)
        if number is None:
            number = len(self._layouts)
            before += layout_line(number, layout)
        return before + to_line(record, number)

    def _rotate(self) -> None:
        fresh = self._open(self._writing + 1)
        self._to_sync.append(self._fd)  # fsync may take long: that is the sink's thread's job
        self._fd = fresh
        self._writing += 1
        self._written_bytes = 0
        self._torn = False
        self._layouts = {}
        self._drop_oldest_beyond_limit()

    def _drop_oldest_beyond_limit(self) -> None:
        sizes = {n: self._size(n) for n in self._segments()}
        for oldest in list(sizes)[:-1]:
            if sum(sizes.values()) <= self._max_bytes:
                return
            data = self._path(oldest).read_bytes()
            lost = data.count(b"\n") - data.count(_LAYOUT)
            self._path(oldest).unlink(missing_ok=True)
            del sizes[oldest]
            log.error(
                "spool: over %d MB, dropped the oldest %d records (segment %d)",
                self._max_bytes // 2**20,
                lost,
                oldest,
            )

    # -- the sink's side ---------------------------------------------------------------

    def take(self) -> list[Record]:
        """The next records after what is done, in order; the same again until done() is called."""
        lines = self._next_lines()
        return self._readable(lines) if lines else self._from_memory()

    def done(self) -> None:
        """What was taken is stored: forget it."""
        for segment in range(self._position.segment, self._taken.segment):
            self._path(segment).unlink(missing_ok=True)
        self._position = self._taken
        self._handed_out = []

    def backlog_bytes(self) -> int:
        """How much of the spool is not stored yet."""
        later = sum(self._size(n) for n in self._segments() if n > self._position.segment)
        here = max(self._size(self._position.segment) - self._position.offset, 0)
        return later + here

    def sync(self) -> None:
        """Make what was appended outlast the machine; called while Postgres is away."""
        with self._lock:
            rotated, self._to_sync = self._to_sync, []
            current = os.dup(self._fd)
        for fd in [*rotated, current]:
            try:
                os.fsync(fd)
            except OSError as why:
                log.error("spool: fsync failed: %s", why.strerror)
            finally:
                os.close(fd)

    def close(self) -> None:
        self.sync()
        os.close(self._fd)

    def _next_lines(self) -> list[bytes]:
        place = self._position
        while True:
            # Asked first: a segment that is not the one written to will not grow any more.
            finished = place.segment < self._writing
            data = self._read(place)
            whole = len(data) if finished and len(data) < _READ_BYTES else data.rfind(b"\n") + 1
            if whole or not finished:
                self._taken = _Position(place.segment, place.offset + whole)
                return data[:whole].splitlines()
            place = _Position(self._segment_after(place.segment), 0)

    def _from_memory(self) -> list[Record]:
        """What the disk did not take goes to Postgres all the same."""
        with self._lock:
            self._handed_out += self._unwritten
            self._unwritten.clear()
        return self._handed_out

    def _segment_after(self, segment: int) -> int:
        return min((n for n in self._segments() if n > segment), default=self._writing)

    def _read(self, place: _Position) -> bytes:
        try:
            with self._path(place.segment).open("rb") as file:
                file.seek(place.offset)
                return file.read(_READ_BYTES)
        except FileNotFoundError:  # dropped because the spool was full
            return b""

    def _readable(self, lines: list[bytes]) -> list[Record]:
        if self._lines_of != self._taken.segment:
            self._lines, self._lines_of = Lines(), self._taken.segment
        try:
            return self._lines.read_all(lines)
        except UnreadableRecord:
            records = [self._readable_one(line) for line in lines if line]
            return [each for each in records if each is not None]

    def _readable_one(self, line: bytes) -> Record | None:
        try:
            return self._lines.read(line)
        except UnreadableRecord as why:
            log.warning("spool: skipped a line that is no record: %s", why)
            return None

    # -- files -------------------------------------------------------------------------

    def _segments(self) -> list[int]:
        return sorted(int(p.stem) for p in self._folder.glob("*.jsonl") if p.stem.isdigit())

    def _path(self, segment: int) -> Path:
        return self._folder / f"{segment:012d}.jsonl"

    def _size(self, segment: int) -> int:
        try:
            return self._path(segment).stat().st_size
        except FileNotFoundError:
            return 0

    def _open(self, segment: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        return os.open(self._path(segment), flags, 0o640)
