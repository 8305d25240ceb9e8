# SPDX-License-Identifier: GPL-2.0-or-later
"""At most one acting broker: a cycle runs only under the lease."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from broker.domain.errors import StoreUnavailable


class Lease(Protocol):
    """A lease that everybody asks the same database for."""

    def hold(self, ttl_s: float) -> int | None:
        """Take or renew it; its fencing token, or None while another holds it."""

    def release(self) -> None:
        """Give it up at once."""


@dataclass
class Leader:
    """Runs ``cycle`` while this process is the leader.

    While the database is away nobody can take the lease over, so the leader goes on: shedding
    must work from Slurm's word alone. A broker that was not the leader stays one that is not.
    """

    lease: Lease
    ttl_s: float
    cycle: Callable[[], str]
    epoch: int | None = None
    _asked_at: float = field(default=float("-inf"))

    def __call__(self) -> str:
        self._renew()
        if self.epoch is None:
            return "standby: another broker holds the lease"
        return self.cycle()

    def resign(self) -> None:
        """Let a standby take over at once."""
        if self.epoch is not None:
            with suppress(StoreUnavailable):
                self.lease.release()

    def describe(self) -> str:
        """For `powermgr show broker`."""
        return f"{socket.gethostname()} (epoch {self.epoch})" if self.epoch else "standby"

    def _renew(self) -> None:
        now = time.monotonic()
        slept = now - self._asked_at > self.ttl_s
        self._asked_at = now
        try:
            self.epoch = self.lease.hold(self.ttl_s)
        except StoreUnavailable:
            if slept:
                # Paused for longer than the lease: another may act by now, and cannot be asked.
                self.epoch = None
            if self.epoch is None:
                raise
