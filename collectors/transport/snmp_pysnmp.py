# SPDX-License-Identifier: GPL-2.0-or-later
"""SNMP through pysnmp: the second engine, for odd agents. Dear: 1 ms of CPU and more per poll."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, Protocol

from pyasn1.error import PyAsn1Error
from pysnmp.error import PySnmpError
from pysnmp.proto import rfc1902, rfc1905
from pysnmp.proto.api import v2c

from collectors.transport import WALK_AT_MOST, NoAnswer, SnmpTarget
from collectors.transport.walk import MOST_S, WAITS, Walk

_LAST_STATUS = 18  #: inconsistentName (RFC 3416)
_PATIENCE = 2.0  #: of our timeouts, until pysnmp is not waited for
_ABSENT = (rfc1905.NoSuchObject, rfc1905.NoSuchInstance, rfc1905.EndOfMibView)

_Outcome = tuple[Any, Any, Any, Any]  #: error, status, index, bindings


class _Asker(Protocol):
    """One of pysnmp's two architectures; both answer (error, status, index, bindings)."""

    async def get(self, oids: Sequence[str]) -> _Outcome: ...

    async def bulk(self, oid: str) -> _Outcome: ...

    def close(self) -> None: ...


class PysnmpTransport:
    def __init__(self, target: SnmpTarget) -> None:
        self._target = target
        self._asker: _Asker | None = None
        self._known = False

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        """One GET without retries."""
        error, status, _, bindings = await self._ended(self._opened().get(oids))
        if error and self._known and self._target.user:
            # An agent that restarted has another clock, and pysnmp never asks for it again.
            self.close()
        self._known = not error
        self._refuse(error, status)
        answer = {str(oid): plain(value) for oid, value in bindings if not _absent(value)}
        if not answer:
            raise NoAnswer(f"answered none of the {len(oids)} objects asked")
        return answer

    async def walk(self, oid: str, *, at_most: int = WALK_AT_MOST) -> Sequence[tuple[str, object]]:
        """GETBULK until the subtree ends."""
        walk = Walk(oid, at_most)
        try:
            async with asyncio.timeout(MOST_S):
                while await self._walk_on(walk, oid):
                    oid = walk.rows[-1][0]
        except TimeoutError as why:
            raise NoAnswer(f"walked {len(walk.rows):,} objects in {MOST_S:g} s, no end") from why
        return walk.rows

    def close(self) -> None:
        if self._asker is not None:
            self._asker.close()
            self._asker = None

    async def _walk_on(self, walk: Walk, after: str) -> bool:
        for _ in WAITS:
            error, status, _, bindings = await self._ended(self._opened().bulk(after))
            if not _timed_out(error):
                break
        self._refuse(error, status)
        on = False
        for oid, value in bindings:
            if _absent(value) or not walk.add(str(oid), plain(value)):
                return False
            on = True
        return on

    async def _ended(self, asking: Awaitable[_Outcome]) -> _Outcome:
        """pysnmp 7.1 forgets a request whose answer it cannot decode, its timeout included."""
        try:
            async with asyncio.timeout(_PATIENCE * self._target.timeout_s):
                return await asking
        except TimeoutError as why:
            self.close()
            raise NoAnswer("answered with garbage") from why
        except (PySnmpError, PyAsn1Error, OSError) as why:
            self.close()
            raise NoAnswer(f"could not be asked: {why}") from why

    def _refuse(self, error: object, status: Any) -> None:
        if _timed_out(error):
            raise NoAnswer(f"timed out after {self._target.timeout_s:g} s")
        if error:
            raise NoAnswer(f"answered with an error: {error}")
        if int(status):
            known = int(status) <= _LAST_STATUS
            raise NoAnswer(
                f"answered with an error: {status.prettyPrint() if known else 'unknown'}"
            )

    def _opened(self) -> _Asker:
        # One for each agent: a shared socket loses answers at ~160 in flight.
        if self._asker is None:
            self._asker = _asker(self._target)
        return self._asker


def _timed_out(error: object) -> bool:
    return type(error).__name__ == "RequestTimedOut"


def _asker(target: SnmpTarget) -> _Asker:
    if target.user is None:
        from collectors.transport.pysnmp_v2c import V2cAsker

        return V2cAsker(target)
    from collectors.transport.pysnmp_v3 import V3Asker

    return V3Asker(target)


def plain(value: Any) -> object:
    """A value as gufo gives it: int, bytes, or str for names and addresses."""
    if isinstance(value, v2c.ObjectIdentifier):
        return str(value)
    if isinstance(value, rfc1902.IpAddress):
        return str(value.prettyPrint())
    if hasattr(value, "get_oid"):
        return str(value.get_oid())
    if hasattr(value, "asOctets"):
        return bytes(value.asOctets())
    return int(value)


def _absent(value: object) -> bool:
    return isinstance(value, _ABSENT) or type(value).__name__ == "Null"
