# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook's spool on disk: slurmctld appends, the broker reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_MOST_BYTES = 4 * 1024 * 1024  #: a cycle takes no more, so a backlog delays nothing
_ROTATE_ABOVE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FileVerdictSpool:
    """Known by device and inode, so that a rotated file is read to its end and not again."""

    path: Path

    def identity(self) -> str | None:
        for path in (self._old, self.path):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            return f"{found.st_dev}:{found.st_ino}"
        return None

    def read(self, offset: int) -> tuple[list[bytes], int]:
        path = self._old if self._old.exists() else self.path
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read(_MOST_BYTES)
        whole = data[: data.rfind(b"\n") + 1]
        if path == self._old and not data:
            # Read to its end a whole cycle after it was set aside: nobody writes to it any more.
            self._old.unlink()
        elif path == self.path and offset + len(whole) > _ROTATE_ABOVE_BYTES:
            self.path.rename(self._old)
        return whole.splitlines(), offset + len(whole)

    @property
    def _old(self) -> Path:
        return self.path.with_suffix(self.path.suffix + ".old")
