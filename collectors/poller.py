# SPDX-License-Identifier: GPL-2.0-or-later
"""Polls on a grid of the monotonic clock: a slow device misses its own turn, nobody else's."""

import asyncio
import logging
import time
from collections.abc import Callable

from collectors.reach import Reader
from collectors.transport import NoAnswer
from collectors.watch import Watch

log = logging.getLogger("powercollectord")


def phases(count: int, spread_s: float) -> list[float]:
    """Start of each device within a round: close together, but not all at once."""
    return [spread_s * index / count for index in range(count)]


def next_turn(now_s: float, *, interval_s: float, phase_s: float) -> float:
    """The next point of a device's grid after now; missed points are not made up for."""
    return (now_s - phase_s) // interval_s * interval_s + interval_s + phase_s


async def poll(
    reader: Reader,
    watch: Watch,
    *,
    interval_s: float,
    phase_s: float,
    stopping: asyncio.Event,
    may_poll: Callable[[], bool],
) -> None:
    """Poll one device until told to stop; a poll under way goes on, so that its answer is kept."""
    loop = asyncio.get_running_loop()
    try:
        while not stopping.is_set():
            turn = next_turn(loop.time(), interval_s=interval_s, phase_s=phase_s)
            if await _stopped_before(stopping, turn - loop.time()):
                break
            if may_poll():
                await _poll_once(reader, watch)
    finally:
        closing = reader.close()
        if closing is not None:
            await closing


async def _poll_once(reader: Reader, watch: Watch) -> None:
    asked_s = time.perf_counter()
    try:
        reading = await reader.read()
        watch.identified(getattr(reader, "identity", None))
        watch.answered(
            reading,
            took_s=time.perf_counter() - asked_s,
            up_time=getattr(reader, "up_time", None),
        )
    except NoAnswer as why:
        watch.missed(str(why))
    except Exception as why:
        # A bug or an answer nobody foresaw must cost this poll, not the polling.
        log.exception("unexpected while polling")
        watch.missed(f"{type(why).__name__}: {why}")


async def _stopped_before(stopping: asyncio.Event, delay_s: float) -> bool:
    try:
        async with asyncio.timeout(delay_s):
            await stopping.wait()
    except TimeoutError:
        return False
    return True
