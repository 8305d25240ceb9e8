# SPDX-License-Identifier: GPL-2.0-or-later
"""Agents of a dictionary: objects a test writes down, or a recorded walk."""

from collections.abc import Mapping, Sequence

from collectors.profile_check import Recording
from collectors.transport import NoAnswer

SYS_DESCR = "1.3.6.1.2.1.1.1.0"
SYS_OBJECT_ID = "1.3.6.1.2.1.1.2.0"
SYS_UP_TIME = "1.3.6.1.2.1.1.3.0"


class DictionaryAgent:
    """Answers GET and walks from `values`, which a test may change at any time."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self.values: dict[str, object] = dict(values)
        self.gets: list[Sequence[str]] = []
        self.walked: list[str] = []
        self.fails_on: str | None = None

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        self.gets.append(oids)
        answer = {oid: self.values[oid] for oid in oids if oid in self.values}
        if self.fails_on in oids or not answer:
            raise NoAnswer("timed out after 1.5 s")
        return answer

    async def walk(self, oid: str, *, at_most: int = 20_000) -> Sequence[tuple[str, object]]:
        self.walked.append(oid)
        if self.fails_on is not None and self.fails_on.startswith(oid):
            raise NoAnswer("timed out after 1.5 s")
        recording = Recording([])
        recording.values = self.values
        recording.sort()
        return await recording.walk(oid)

    def close(self) -> None:
        """There is no socket."""
