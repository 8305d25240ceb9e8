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
        asked: dict[asyncio.Task[Answer], SnmpTransport] = {}
        try:
            for each, wait_s in zip(self._transports, self._waits_s, strict=True):
                asked[asyncio.create_task(_get(each, oids))] = each
                ended, _ = await asyncio.wait(
                    asked, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED
                )
                if ended:
                    break
            first = min(ended, key=lambda task: task.exception() is not None)
            answer = first.result()
        finally:
            for task in asked:
                _forget(task)
        self._transports.sort(key=lambda each: each is not asked[first])
        return answer

    async def walk(self, oid: str, *, at_most: int = WALK_AT_MOST) -> Sequence[tuple[str, object]]:
        """As the engine walks: it repeats what it asks by itself."""
        return await self._transports[0].walk(oid, at_most=at_most)

    def close(self) -> None:
        for each in self._transports:
            each.close()


async def _get(transport: SnmpTransport, oids: Sequence[str]) -> Answer:
    return await transport.get(oids)


def _forget(task: asyncio.Task[Answer]) -> None:
    """Not waited for any more, whatever becomes of it."""
    task.cancel()
    # An exception that nobody looks at would be logged.
    task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
