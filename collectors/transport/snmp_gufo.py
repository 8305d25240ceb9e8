# SPDX-License-Identifier: GPL-2.0-or-later
"""SNMP through gufo-snmp: about 50 times cheaper than pysnmp, one socket per agent."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

from gufo.snmp import (
    Aes128Key,
    DesKey,
    Md5Key,
    Sha1Key,
    Sha256Key,
    Sha512Key,
    SnmpDecodeError,
    SnmpError,
    SnmpVersion,
    User,
)
from gufo.snmp.aio import SnmpSession

from collectors.transport import WALK_AT_MOST, NoAnswer, SnmpTarget, SnmpUser
from collectors.transport.address import address_of, is_address
from collectors.transport.walk import MOST_S, ROWS_PER_REQUEST, WAITS, Walk

_AUTH = {"MD5": Md5Key, "SHA": Sha1Key, "SHA256": Sha256Key, "SHA512": Sha512Key}
_PRIV = {"DES": DesKey, "AES128": Aes128Key}
_V3_CLOCK_GOOD_FOR_S = 100.0  #: gufo counts the agent's seconds on; 150 off and it is refused

_T = TypeVar("_T")


class GufoTransport:
    def __init__(self, target: SnmpTarget) -> None:
        self._target = target
        self._session: SnmpSession | None = None
        self._opening: SnmpSession | None = None  #: v3: the last one begun
        self._heard_s = 0.0
        self._thinks_long = False  #: a third of the timeout is too little for an answer

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        """One GET; get_many leaves out what the agent does not have, as we want it."""
        try:
            answer = await self._guarded(lambda session: session.get_many(oids))
        except NoAnswer as why:
            self._distrust_session()
            if self._knows_us_but_never_answered() and isinstance(why.__cause__, TimeoutError):
                # What it cannot decrypt an agent drops without a word (RFC 3414, 3.2).
                raise NoAnswer(f"{why}, though it is there: is priv_password right?") from why
            raise
        except asyncio.CancelledError:
            self._distrust_session()  # another of our sockets was answered sooner
            raise
        if not answer:
            # gufo 0.13 does not look at the error status (tooBig, genErr): nothing is left then.
            raise NoAnswer(f"answered an error or none of the {len(oids)} objects asked")
        return answer

    async def walk(self, oid: str, *, at_most: int = WALK_AT_MOST) -> Sequence[tuple[str, object]]:
        """GETBULK until the subtree ends; gufo itself would follow a looping agent for ever."""
        try:
            return await self._walk(Walk(oid, at_most), ROWS_PER_REQUEST)
        except NoAnswer as why:
            if not isinstance(why.__cause__, SnmpDecodeError):
                raise
        # gufo 0.13 reads 4 KB of an answer: rows of long words need a request each.
        return await self._walk(Walk(oid, at_most), 1)

    async def _walk(self, walk: Walk, rows_per_request: int) -> Sequence[tuple[str, object]]:
        rows: list[AsyncIterator[tuple[str, object]]] = []

        async def walk_on(session: SnmpSession) -> bool:
            """Take what about one request brings; whether there may be more."""
            if not rows:
                rows.append(session.getbulk(walk.root, rows_per_request))
            for _ in range(rows_per_request):
                row = await anext(rows[0], None)
                if row is None or not walk.add(*row):
                    return False
            return True

        try:
            async with asyncio.timeout(MOST_S):
                while await self._stubbornly(walk_on, walk):
                    pass
        except TimeoutError as why:
            raise NoAnswer(f"walked {len(walk.rows):,} objects in {MOST_S:g} s, no end") from why
        return walk.rows

    def close(self) -> None:
        self._session = None

    async def _stubbornly(self, ask: Callable[[SnmpSession], Awaitable[bool]], walk: Walk) -> bool:
        """Ask again while nothing comes; a row that comes counts as an answer to what was asked."""
        silent = 0
        while True:
            had = len(walk.rows)
            share = 1.0 if self._thinks_long else WAITS[silent]
            try:
                on = await self._guarded(ask, share)
            except NoAnswer as why:
                silent = 0 if len(walk.rows) > had else silent + 1
                if silent == len(WAITS) or not isinstance(why.__cause__, TimeoutError):
                    raise
            else:
                # To be asked thrice is too much for an agent that answers late each time.
                self._thinks_long = share == 1.0
                return on

    async def _guarded(self, ask: Callable[[SnmpSession], Awaitable[_T]], share: float = 1.0) -> _T:
        """Wait for this share of the timeout; whatever goes wrong in gufo becomes NoAnswer."""
        timeout_s = share * self._target.timeout_s
        begun_s = time.monotonic()
        try:
            # gufo starts its own timeout anew with every stray datagram: ours bounds them all.
            async with asyncio.timeout(timeout_s):
                answer = await ask(await self._opened())
        except TimeoutError as why:
            if time.monotonic() - begun_s < timeout_s / 2:
                # gufo says so of a closed port too, at once.
                raise NoAnswer(f"nobody listens on its port {self._target.port}") from why
            raise NoAnswer(f"timed out after {timeout_s:g} s") from why
        except SnmpError as why:
            # What is left in the socket after garbage would answer the next poll: begin anew.
            self._session = None
            raise NoAnswer(f"answered with an error: {type(why).__name__} {why}".strip()) from why
        except OSError as why:
            self._session = None
            raise NoAnswer(why.strerror or str(why)) from why
        except BaseException as why:
            # gufo 0.13 panics in Rust on some garbage (1400 bytes of 0xff); a panic is no Exception
            # in Python and would end the collector, every device with it. On other garbage it
            # raises a bare RuntimeError.
            if type(why).__name__ not in ("PanicException", "RuntimeError"):
                raise
            self._session = None
            raise NoAnswer("answered with garbage") from why
        if (task := asyncio.current_task()) is not None and task.cancelling():
            # Where an answer and a cancellation come together, gufo keeps the answer, and the
            # cancellation would be lost (asyncio.wait_for before Python 3.12).
            raise asyncio.CancelledError
        self._heard_s = time.monotonic()
        return answer

    def _distrust_session(self) -> None:
        """An agent that restarted has another clock, and gufo waits for it in vain; a name may have
        moved to another address."""
        if self._target.user or not is_address(self._target.host):
            self._session = None

    def _knows_us_but_never_answered(self) -> bool:
        session = self._opening
        return session is not None and not self._heard_s and bool(session.get_engine_id())

    async def _opened(self) -> SnmpSession:
        stale = time.monotonic() - self._heard_s > _V3_CLOCK_GOOD_FOR_S
        if self._session is None or (self._target.user and stale):
            session = _session(self._target, await address_of(self._target.host))
            self._opening = session if self._target.user else None
            await session.refresh()  # v3: asks the agent's engine ID and clock
            self._session = session
        return self._session


def _session(target: SnmpTarget, address: str) -> SnmpSession:
    return SnmpSession(
        addr=address,
        port=target.port,
        community=target.community,
        version=SnmpVersion.v3 if target.user else SnmpVersion.v2c,
        user=_user(target.user) if target.user else None,
        timeout=target.timeout_s,
    )


def _user(user: SnmpUser) -> User:
    return User(
        user.name,
        auth_key=_AUTH[user.auth_protocol](user.auth_password.encode()),
        priv_key=_PRIV[user.priv_protocol](user.priv_password.encode()),
    )
