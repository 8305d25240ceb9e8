# SPDX-License-Identifier: GPL-2.0-or-later
"""A deadline for a neighbour that may hang: a stopped PostgreSQL must not stop the safety loop.

libpq waits for ever on a Unix socket whose server is stopped (SIGSTOP, a frozen disk), and the
server's own statement_timeout is of no use then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar, cast

from broker.domain.errors import StoreUnavailable

_Target = TypeVar("_Target")
_Job = tuple["Future[Any]", Callable[[], Any]]


class _Worker:
    """One daemon thread, so that a call that never returns cannot hold up the end either."""

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        Thread(target=self._work, name=name, daemon=True).start()

    def submit(self, call: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._jobs.put((future, call))
        return future

    def _work(self) -> None:
        while True:
            future, call = self._jobs.get()
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)


class _WithDeadline(Generic[_Target]):
    def __init__(self, target: _Target, deadline_s: float, pause_s: float) -> None:
        self._target = target
        self._deadline_s = deadline_s
        self._pause_s = pause_s
        self._worker = _Worker(type(target).__name__)
        self._last: Future[Any] | None = None
        self._answered_at = time.monotonic()
        self._paused_until = float("-inf")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._target, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self._refuse_while_away()
            began = time.monotonic()
            self._last = self._worker.submit(lambda: method(*arguments, **named))
            try:
                answer = self._last.result(timeout=self._deadline_s)
            except TimeoutError:
                if self._last.done():
                    raise
                self._pause()
                raise StoreUnavailable(
                    f"PostgreSQL did not answer {name} within {self._deadline_s:g} s",
                    hint="systemctl status postgresql; is its disk full or frozen?",
                ) from None
            except StoreUnavailable:
                if time.monotonic() - began > self._deadline_s / 2:
                    self._pause()
                raise
            self._answered_at = time.monotonic()
            return answer

        return call

    def _pause(self) -> None:
        self._paused_until = time.monotonic() + self._pause_s

    def _refuse_while_away(self) -> None:
        """Fail at once for a while, or every call of every cycle would wait for its deadline."""
        waiting = self._last is not None and not self._last.done()
        if waiting or time.monotonic() < self._paused_until:
            silent_s = time.monotonic() - self._answered_at
            raise StoreUnavailable(f"PostgreSQL has not answered for {silent_s:.0f} s")


def with_deadline(target: _Target, deadline_s: float, *, pause_s: float = 5.0) -> _Target:
    """The same object, whose methods raise StoreUnavailable when they take too long.

    After that it is tried again only after ``pause_s``. One call at a time. A call that was given
    up may still be done later: all of the ledger's calls are safe to repeat. Not for generators,
    whose work comes after the call.
    """
    return cast(_Target, _WithDeadline(target, deadline_s, pause_s))
