# SPDX-License-Identifier: GPL-2.0-or-later
import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.poller import next_turn, phases, poll
from collectors.polling import Group
from collectors.readings import Quality, Reading
from collectors.transport import NoAnswer


@given(
    now_s=st.floats(0, 1e9),
    interval_s=st.sampled_from([0.5, 2.0, 10.0]),
    share=st.floats(0, 1, exclude_max=True),
)
def test_the_next_turn_lies_ahead_and_within_one_interval(
    now_s: float, interval_s: float, share: float
) -> None:
    turn = next_turn(now_s, interval_s=interval_s, phase_s=share * interval_s)

    assert now_s - 1e-6 <= turn <= now_s + interval_s + 1e-6


def test_devices_of_a_round_start_spread() -> None:
    assert phases(4, 0.2) == pytest.approx([0, 0.05, 0.1, 0.15])
    assert phases(0, 0.2) == []


class Reader:
    """Answers, times out, breaks, and again."""

    def __init__(self) -> None:
        self.polls = 0
        self.closed = False

    async def read(self) -> Reading:
        self.polls += 1
        if self.polls % 3 == 1:
            raise NoAnswer("timed out")
        if self.polls % 3 == 2:
            raise ZeroDivisionError("a bug")
        return Reading("r1.A", "pdu", self.polls, 1, None, None, Quality.GOOD)

    def close(self) -> None:
        self.closed = True


class Diary:
    def __init__(self) -> None:
        self.said: list[str] = []

    def identified(self, identity: object) -> None:
        pass

    def answered(self, reading: Reading, **beside: object) -> None:
        self.said.append("answered")

    def missed(self, reason: str) -> None:
        self.said.append(reason)


async def test_a_collector_that_lost_its_lease_asks_nothing() -> None:
    stopping, reader = asyncio.Event(), Reader()
    polling = asyncio.create_task(
        poll(
            reader,
            Diary(),  # type: ignore[arg-type]
            interval_s=0.01,
            phase_s=0,
            stopping=stopping,
            may_poll=lambda: False,
        )
    )
    await asyncio.sleep(0.1)
    stopping.set()
    await polling

    assert reader.polls == 0
    assert reader.closed


async def test_neither_silence_nor_a_bug_ends_the_polling() -> None:
    stopping, diary, reader = asyncio.Event(), Diary(), Reader()
    polling = asyncio.create_task(
        poll(
            reader,
            diary,  # type: ignore[arg-type]
            interval_s=0.01,
            phase_s=0,
            stopping=stopping,
            may_poll=lambda: True,
        )
    )

    async with asyncio.timeout(5):
        while len(diary.said) < 6:
            await asyncio.sleep(0.005)
    stopping.set()
    await polling

    assert reader.closed
    assert diary.said[:3] == ["timed out", "ZeroDivisionError: a bug", "answered"]
    assert diary.said[5] == "answered"


class Stuck(Reader):
    """An agent that is still being discovered; its last poll ends within `ends_s`."""

    def __init__(self, ends_s: float) -> None:
        super().__init__()
        self.ends_s = ends_s

    async def read(self) -> Reading:
        await asyncio.sleep(self.ends_s)
        return Reading("r1.A", "pdu", 1, 1, None, None, Quality.GOOD)


@pytest.mark.parametrize(
    ("ends_s", "said"),
    [pytest.param(0.2, ["answered"], id="a poll"), pytest.param(600, [], id="a discovery")],
)
async def test_what_is_given_up_ends_soon_but_not_before_its_answer(
    ends_s: float, said: list[str]
) -> None:
    reader, diary = Stuck(ends_s), Diary()
    group = Group([], asyncio.Event())
    work = poll(
        reader,
        diary,  # type: ignore[arg-type]
        interval_s=0.01,
        phase_s=0,
        stopping=group.stopping,
        may_poll=lambda: True,
    )
    group.tasks.append(asyncio.create_task(work))
    await asyncio.sleep(0.1)

    async with asyncio.timeout(5):
        await group.end(within_s=0.5)

    assert diary.said == said
    assert reader.closed
