# SPDX-License-Identifier: GPL-2.0-or-later
"""What both SNMP engines demand of a walk: it goes forward, and it ends."""

from collectors.transport import NoAnswer

ROWS_PER_REQUEST = 25  #: a row is about 30 bytes: well below what fits into one packet
#: How long each request of a walk is waited for until it is asked again, in timeouts (by gufo; in
#: pysnmp each has a whole one): most agents answer at once, some think long. A walk stores no row,
#: so asking again hides nothing.
WAITS = (1 / 3, 1 / 3, 1 / 3, 1.0, 1.0, 1.0)
MOST_S = 60.0  #: for one walk, however slowly its agent answers


class Walk:
    """The rows of one walk so far."""

    def __init__(self, root: str, at_most: int) -> None:
        self.root = root
        self._root_key = key(root)
        self._last = self._root_key
        self._at_most = at_most
        self.rows: list[tuple[str, object]] = []

    def add(self, oid: str, value: object) -> bool:
        """Take one row; False when it lies behind the end. Raises NoAnswer for a bad agent."""
        here = key(oid)
        if here <= self._last:
            raise NoAnswer(
                f"walks in circles: after {dotted(self._last)} it answered {oid}, which is before"
            )
        if here[: len(self._root_key)] != self._root_key:
            return False
        if len(self.rows) >= self._at_most:
            raise NoAnswer(f"answers more than {self._at_most:,} objects under {self.root}")
        self._last = here
        self.rows.append((oid, value))
        return True


def key(oid: str) -> tuple[int, ...]:
    """An object's place in the order of MIBs."""
    return tuple(int(part) for part in oid.split("."))


def dotted(oid: tuple[int, ...]) -> str:
    return ".".join(str(part) for part in oid)
