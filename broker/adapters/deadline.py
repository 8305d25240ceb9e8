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
    def __init__(self, target: _Target, deadline_s: float) -> None:
        self._target = target
        self._deadline_s = deadline_s
        self._worker = _Worker(type(target).__name__)
        self._hung: Future[Any] | None = None
        self._hung_since = 0.0

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._target, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self._refuse_while_hung()
            began = time.monotonic()
            future = self._worker.submit(lambda: method(*arguments, **named))
            try:
                return future.result(timeout=self._deadline_s)
            except TimeoutError:
                if future.done():
                    raise
                self._hung, self._hung_since = future, began
                raise StoreUnavailable(
                    f"PostgreSQL did not answer {name} within {self._deadline_s:g} s",
                    hint="systemctl status postgresql; is its disk full or frozen?",
                ) from None

        return call

    def _refuse_while_hung(self) -> None:
        """Fail at once while an earlier call still waits: each cycle loses its deadline only once."""
        if self._hung is not None and not self._hung.done():
            silent_s = time.monotonic() - self._hung_since
            raise StoreUnavailable(f"PostgreSQL has not answered for {silent_s:.0f} s")
        self._hung = None


def with_deadline(target: _Target, deadline_s: float) -> _Target:
    """The same object, whose methods raise StoreUnavailable when they take too long.

    One call at a time. A call that was given up may still be done later: all of the ledger's
    calls are safe to repeat. Not for generators, whose work comes after the call.
    """
    return cast(_Target, _WithDeadline(target, deadline_s))
