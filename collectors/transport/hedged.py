# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks again where an answer does not come, over whichever engine is configured.

A poll lost with one packet would leave a hole of a whole interval. A plain retry would throw away
the answer of an agent that is only slow; a hedged request waits on for the first one as well.
(Dean and Barroso, The Tail at Scale, CACM 56(2), 2013.)
"""

import asyncio
from collections.abc import Mapping, Sequence

from collectors.transport import WALK_AT_MOST, SnmpEngine, SnmpTarget, SnmpTransport

Answer = Mapping[str, object]
Asked = asyncio.Task[Answer]


class HedgedTransport:
    """One SNMP agent, asked up to `attempts` (2 or more) times within its timeout."""

    def __init__(self, engine: SnmpEngine, target: SnmpTarget, attempts: int) -> None:
        # Each has a socket of its own, opened when it is needed: an engine waits for one answer
        # at a time. The one that heard the agent last comes first.
        self._transports = [engine(target) for _ in range(attempts)]
        # Half of the timeout for the first, since a device that is only busy should not be asked
        # twice; the others share the rest.
        half_s = target.timeout_s / 2
        self._waits_s = [half_s, *[half_s / (attempts - 1)] * (attempts - 2), None]

    async def get(self, oids: Sequence[str]) -> Answer:
        """One GET, repeated while nothing comes back. Raises NoAnswer, at once for a refusal."""
        asked: dict[Asked, SnmpTransport] = {}
        try:
            for each, wait_s in zip(self._transports, self._waits_s, strict=True):
                asked[asyncio.create_task(_get(each, oids))] = each
                if decisive := await _decisive(list(asked), wait_s):
                    break
            assert decisive is not None
            answer = decisive.result()
        finally:
            for task in asked:
                _forget(task)
        self._transports.sort(key=lambda each: each is not asked[decisive])
        return answer

    async def walk(self, oid: str, *, at_most: int = WALK_AT_MOST) -> Sequence[tuple[str, object]]:
        """As the engine walks: it repeats what it asks by itself."""
        return await self._transports[0].walk(oid, at_most=at_most)

    def close(self) -> None:
        for each in self._transports:
            each.close()


async def _decisive(asked: list[Asked], wait_s: float | None) -> Asked | None:
    """The first of these to be answered, or the first of all once that failed; None: none so far.

    That a later one fails (no socket left, an old refusal still in it) says nothing of the first.
    """
    loop = asyncio.get_running_loop()
    until_s = None if wait_s is None else loop.time() + wait_s
    pending = {task for task in asked if not task.done()}
    while pending:
        left_s = None if until_s is None else until_s - loop.time()
        ended, pending = await asyncio.wait(
            pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in ended:
            if task.exception() is None:
                return task
        if asked[0].done():
            return asked[0]
        if not ended:
            break
    return None


async def _get(transport: SnmpTransport, oids: Sequence[str]) -> Answer:
    return await transport.get(oids)


def _forget(task: Asked) -> None:
    """Not waited for any more, whatever becomes of it."""
    task.cancel()
    # An exception that nobody looks at would be logged.
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
