# SPDX-License-Identifier: GPL-2.0-or-later
import asyncio
from collections.abc import Mapping, Sequence

import pytest

from collectors.transport import NoAnswer, SnmpTarget
from collectors.transport.hedged import HedgedTransport

TARGET = SnmpTarget("192.0.2.1", 161, "public", timeout_s=0.2)
POWER = "1.3.6.1.4.1.9.1"


class Socket:
    """Answers, or fails, after a time."""

    def __init__(self, after_s: float, answers: bool) -> None:
        self.after_s, self.answers = after_s, answers
        self.asked = 0

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        self.asked += 1
        await asyncio.sleep(self.after_s)
        if not self.answers:
            raise NoAnswer(f"failed after {self.after_s:g} s")
        return dict.fromkeys(oids, self.after_s)

    async def walk(self, oid: str, *, at_most: int = 0) -> Sequence[tuple[str, object]]:
        return []

    def close(self) -> None:
        """There is none."""


def over(*sockets: Socket) -> HedgedTransport:
    waiting = iter(sockets)
    return HedgedTransport(lambda target: next(waiting), TARGET, len(sockets))


@pytest.mark.parametrize(
    ("sockets", "answer"),
    [
        pytest.param([(0.01, True), (0, True), (0, True)], 0.01, id="the first, at once"),
        pytest.param([(9, True), (0.01, True), (9, True)], 0.01, id="the second"),
        pytest.param([(9, True), (9, True), (0.01, True)], 0.01, id="the third"),
        pytest.param([(0.19, True), (0, False), (0, False)], 0.19, id="the others fail"),
        pytest.param([(0.01, False), (0, True)], None, id="the first is refused"),
        pytest.param([(0.2, False), (9, True), (9, True)], None, id="no time is left"),
        pytest.param([(0.2, False), (0, False), (0, False)], None, id="all fail"),
    ],
)
async def test_whose_answer_counts(sockets: list[tuple[float, bool]], answer: float | None) -> None:
    hedged = over(*(Socket(after_s, answers) for after_s, answers in sockets))

    if answer is None:
        with pytest.raises(NoAnswer, match=f"failed after {sockets[0][0]:g} s"):
            await hedged.get([POWER])
    else:
        assert await hedged.get([POWER]) == {POWER: answer}


async def test_who_answered_last_is_asked_first() -> None:
    dead, alive = Socket(9, True), Socket(0, True)
    hedged = over(dead, alive)

    for _ in range(3):
        await hedged.get([POWER])

    assert (dead.asked, alive.asked) == (1, 3)
