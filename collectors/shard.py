# SPDX-License-Identifier: GPL-2.0-or-later
"""Which devices are this collector's: shares of the inventory, held by lease in Postgres.

Any number of collectors with the same inventory divide it evenly. A lease is renewed every
`renew_s` and lost `lease_s` after the last renewal. While Postgres is away everybody goes on with
what it has: nobody can take anything over then. But who was stopped itself (SIGSTOP, a paused
virtual machine) cannot know what happened meanwhile, and asks before it polls again.
"""

import asyncio
import fcntl
import json
import logging
import os
import socket
import threading
import time
import uuid
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import psycopg

from collectors import metrics

log = logging.getLogger("powercollectord")

SHARES = 64
ALL = frozenset(range(SHARES))
NONE: frozenset[int] = frozenset()
_BEAT_S = 0.25
_HURRIED_S = 0.3  #: renewals right after somebody came or went: shares are changing hands
_HURRIED_FOR_S = 10.0


def share_of(device: str) -> int:
    """The same in every collector, whatever else its inventory holds."""
    return zlib.crc32(device.encode()) % SHARES


def boot_s() -> float:
    """Seconds that also pass while this process, or its machine, is stopped."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Member:
    """This collector as the others see it; the same after a restart, for it has the same spool."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as why:
            os.close(self._lock)
            said = "held by another powercollectord; give each a [spool] dir of its own"
            raise OSError(why.errno, said, str(folder / "lock")) from why
        self._shares = folder / "shares.json"
        identity = folder / "collector.id"
        if not identity.exists() or not identity.read_text().strip():
            identity.write_text(uuid.uuid4().hex + "\n")
        self.identity = identity.read_text().strip()

    def remember(self, shares: frozenset[int], *, alone: bool) -> None:
        """For a restart while Postgres is away. The file's time is that of the last renewal."""
        fresh = json.dumps({"shares": sorted(shares), "alone": alone}) + "\n"
        try:
            if self._shares.exists() and self._shares.read_text() == fresh:
                os.utime(self._shares)
                return
            written = self._shares.with_suffix(".new")
            written.write_text(fresh)
            written.replace(self._shares)
        except OSError as why:
            log.warning("shares: cannot write %s: %s", self._shares, why.strerror)

    def remembered(self, lease_s: float) -> frozenset[int]:
        """What is certainly still ours though Postgres cannot be asked."""
        try:
            age_s = time.time() - self._shares.stat().st_mtime
            told = json.loads(self._shares.read_text())
            if told["alone"]:
                return ALL
            return frozenset(told["shares"]) & ALL if 0 <= age_s < lease_s else NONE
        except (OSError, ValueError, KeyError, TypeError):
            return NONE


class Pulse:
    """Whether this process has been running all the time; asked before every poll."""

    def __init__(self, longest_s: float, clock: Callable[[], float] = boot_s) -> None:
        self._longest_s = longest_s
        self._clock = clock
        self._last_s = clock()
        self._woke_at_s: float | None = None

    def beat(self) -> None:
        now_s = self._clock()
        if now_s - self._last_s > self._longest_s:
            log.warning("shares: stopped for %.0f s, asking what is ours", now_s - self._last_s)
            self._woke_at_s = now_s
        self._last_s = now_s

    def may_poll(self) -> bool:
        return not self.stopped and self._clock() - self._last_s <= self._longest_s

    @property
    def stopped(self) -> bool:
        """Was, and has not renewed since."""
        return self._woke_at_s is not None

    def renewed(self, asked_at_s: float) -> None:
        if self._woke_at_s is not None and asked_at_s >= self._woke_at_s:
            self._woke_at_s = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What Postgres answered to a renewal."""

    asked_at_s: float
    held: frozenset[int]
    quota: int
    others: int

    def divided(self) -> tuple[frozenset[int], frozenset[int]]:
        """What to poll, and what is more than our part."""
        ordered = sorted(self.held)
        return frozenset(ordered[: self.quota]), frozenset(ordered[self.quota :])


class Claims(threading.Thread):
    """Renews, in a thread: a Postgres that hangs must not stop the polling."""

    def __init__(
        self,
        member: Member,
        *,
        dsn: str,
        lease_s: float,
        renew_s: float,
        heard: Callable[[Claim | None], None],
    ) -> None:
        super().__init__(name="shares", daemon=True)
        self._member = member
        self._dsn = dsn
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._heard = heard
        self._wake = threading.Event()
        self._leaving = False
        self._lock = threading.Lock()
        self._to_release: frozenset[int] = NONE
        self._connection: psycopg.Connection | None = None
        self._renewing_since_s: float | None = None
        self._others = 0
        self._hurried_until_s = 0.0

    def run(self) -> None:
        while not self._leaving:
            self._wake.clear()
            try:
                claim = self._claim()
            except psycopg.Error as why:
                self._lost(why)
                claim = None
            self._heard(claim)
            hurried = time.monotonic() < self._hurried_until_s
            self._wake.wait(min(_HURRIED_S, self._renew_s) if hurried else self._renew_s)
        self._leave()

    def give_back(self, shares: frozenset[int]) -> None:
        """They are not polled any more."""
        with self._lock:
            self._to_release |= shares
        self._wake.set()

    def leave(self, *, within_s: float) -> None:
        """Everything is given back, so that nobody waits for the end of our leases."""
        self._leaving = True
        self._wake.set()
        self.join(within_s)

    def _claim(self) -> Claim:
        connection = self._connected()
        with self._lock:
            given_back = self._to_release
        if given_back:
            self._release(connection, given_back)
            with self._lock:
                self._to_release -= given_back
        asked_at_s = boot_s()
        since_s = self._renewing_since_s
        # What ran out may be taken by one who has seen the database all that time: after an
        # outage everybody's lease has run out, and everybody is polling still.
        may_take_over = since_s is not None and asked_at_s - since_s > self._lease_s
        row = connection.execute(
            "SELECT held, quota, others FROM hold_shares(%s, %s, %s, %s, %s)",
            (self._member.identity, self._member.name, SHARES, self._lease_s, may_take_over),
        ).fetchone()
        assert row is not None
        held, quota, others = row
        answered_at_s = boot_s()
        if since_s is None or answered_at_s - asked_at_s > self._lease_s / 2:
            self._renewing_since_s = answered_at_s
        if others != self._others:
            self._hurried_until_s = time.monotonic() + _HURRIED_FOR_S
        self._others = others
        return Claim(asked_at_s, frozenset(held), quota, others)

    def _release(
        self, connection: psycopg.Connection, shares: frozenset[int], *, leaving: bool = False
    ) -> None:
        connection.execute(
            "SELECT release_shares(%s, %s, %s)", (self._member.identity, list(shares), leaving)
        )

    def _leave(self) -> None:
        if self._connection is None:
            return
        try:
            self._release(self._connection, ALL, leaving=True)
            self._connection.close()
        except psycopg.Error as why:
            log.info("shares: not given back, they run out: %s", str(why).strip())

    def _connected(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = psycopg.connect(
                self._dsn,
                autocommit=True,
                connect_timeout=2,
                application_name="powercollectord shares",
                tcp_user_timeout=int(self._lease_s * 500),
                options=f"-c statement_timeout={int(self._lease_s * 500)}",
            )
        return self._connection

    def _lost(self, why: psycopg.Error) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
            log.warning("shares: not renewed: %s", (str(why).strip().splitlines() or ["?"])[0])
        self._renewing_since_s = None


class Shares:
    """Sees to it that exactly our shares are polled."""

    def __init__(
        self,
        member: Member,
        pulse: Pulse,
        poll: Callable[[frozenset[int]], Awaitable[None]],
        *,
        dsn: str,
        lease_s: float,
        renew_s: float,
    ) -> None:
        self._member = member
        self._pulse = pulse
        self._poll = poll
        self._dsn = dsn
        self._lease_s = lease_s
        self._renew_s = renew_s
        self._polled: frozenset[int] | None = None  #: None: nobody has told us yet

    async def run(self, stopping: asyncio.Event) -> None:
        """Until told to stop; then nothing is polled any more, and all is given back."""
        loop = asyncio.get_running_loop()
        heard: asyncio.Queue[Claim | None] = asyncio.Queue()
        claims = Claims(
            self._member,
            dsn=self._dsn,
            lease_s=self._lease_s,
            renew_s=self._renew_s,
            heard=lambda claim: _tell(loop, heard, claim),
        )
        claims.start()
        beating = asyncio.create_task(self._beat(heard))
        stopped = asyncio.create_task(stopping.wait())
        try:
            while not stopping.is_set():
                asked = asyncio.create_task(heard.get())
                await asyncio.wait({asked, stopped}, return_when=asyncio.FIRST_COMPLETED)
                if asked.done():
                    await self._follow(asked.result(), claims)
                else:
                    asked.cancel()
        finally:
            beating.cancel()
            await self._poll(NONE)
            await asyncio.to_thread(claims.leave, within_s=self._renew_s)

    async def _beat(self, heard: "asyncio.Queue[Claim | None]") -> None:
        while True:
            self._pulse.beat()
            if self._pulse.stopped and self._polled:
                heard.put_nowait(None)  # the worker processes must be ended, not at a renewal only
            await asyncio.sleep(_BEAT_S)

    async def _follow(self, claim: Claim | None, claims: Claims) -> None:
        self._pulse.beat()
        if claim is None:
            await self._without_postgres()
            return
        if self._pulse.stopped and self._polled:
            await self._change_to(NONE)  # what a worker process would go on polling by itself
        self._pulse.renewed(claim.asked_at_s)
        if self._pulse.stopped:
            return
        ours, surplus = claim.divided()
        await self._change_to(ours)
        if surplus:
            claims.give_back(surplus)
        self._member.remember(ours, alone=claim.others == 0)
        metrics.shares(len(ours), claim.others)

    async def _without_postgres(self) -> None:
        if self._pulse.stopped:
            await self._change_to(NONE)
        elif self._polled is None:
            remembered = self._member.remembered(self._lease_s)
            if not remembered:
                log.warning("shares: waiting for Postgres to tell which devices are ours")
            await self._change_to(remembered)

    async def _change_to(self, shares: frozenset[int]) -> None:
        if shares == self._polled:
            return
        if self._polled is not None:
            log.info("shares: %d of %d are ours, were %d", len(shares), SHARES, len(self._polled))
        self._polled = shares
        await self._poll(shares)


def _tell(
    loop: asyncio.AbstractEventLoop, heard: "asyncio.Queue[Claim | None]", claim: Claim | None
) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(heard.put_nowait, claim)
