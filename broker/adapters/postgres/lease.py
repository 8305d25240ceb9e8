# SPDX-License-Identifier: GPL-2.0-or-later
"""Who leads: one row, decided in one statement by the database's clock; never two at once."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from sqlalchemy import Connection, Engine, text

from broker.adapters.postgres.engine import make_engine
from broker.adapters.postgres.errors import translated

# clock_timestamp(), not now(): a writer may have waited for the row's lock since it began.
_HOLD = text("""
    INSERT INTO leases AS held (name, holder, epoch, expires_at)
    VALUES (:name, :holder, 1, clock_timestamp() + make_interval(secs => :ttl_s))
    ON CONFLICT (name) DO UPDATE SET
        holder = excluded.holder,
        epoch = CASE WHEN held.holder = excluded.holder AND held.expires_at > clock_timestamp()
                     THEN held.epoch ELSE held.epoch + 1 END,
        expires_at = clock_timestamp() + make_interval(secs => :ttl_s)
    WHERE held.holder = excluded.holder OR held.expires_at <= clock_timestamp()
    RETURNING epoch""")

_HOLDER = text("SELECT holder FROM leases WHERE name = :name")

_RELEASE = text("""
    UPDATE leases SET expires_at = '-infinity' WHERE name = :name AND holder = :holder""")


class LeaderLease:
    """A lease by name, of this process unless another ``holder`` is named."""

    def __init__(
        self, database: str | Engine, name: str = "leader", *, holder: str | None = None
    ) -> None:
        self._engine = make_engine(database) if isinstance(database, str) else database
        self._name = name
        self._holder = holder or this_process()

    def hold(self, ttl_s: float) -> int | None:
        """Take or renew it for ``ttl_s`` seconds; None when another holds it.

        The epoch returned is the fencing token: it grows with every takeover, and also when this
        holder comes back after its lease ran out. Raises StoreUnavailable.
        """
        with translated(), self._engine.begin() as connection:
            epoch = self._take(connection, ttl_s)
            if epoch is None and self._holder_died(connection):
                epoch = self._take(connection, ttl_s)
        return epoch

    def release(self) -> None:
        """Give it up at once, so that nobody waits for its end; harmless when not held."""
        with translated(), self._engine.begin() as connection:
            connection.execute(_RELEASE, {"name": self._name, "holder": self._holder})

    def _take(self, connection: Connection, ttl_s: float) -> int | None:
        values = {"name": self._name, "holder": self._holder, "ttl_s": ttl_s}
        epoch: int | None = connection.execute(_HOLD, values).scalar()
        return epoch

    def _holder_died(self, connection: Connection) -> bool:
        """End the lease of a process of this machine that is gone: a restart need not wait."""
        holder = connection.execute(_HOLDER, {"name": self._name}).scalar()
        if holder is None or not is_dead(holder):
            return False
        connection.execute(_RELEASE, {"name": self._name, "holder": holder})
        return True


def this_process() -> str:
    """A name that no other process of any machine has."""
    return f"{_here()}/{os.getpid()}/{_started(os.getpid())}"


def is_dead(holder: str) -> bool:
    """Was it a process of this machine that is gone? Of others nothing is known."""
    here, _, process = holder.partition("/")
    pid, _, started = process.partition("/")
    if here != _here() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:  # another user's, so it lives
        return False
    # The pid may be somebody else's by now.
    return _started(int(pid)) not in {started, ""}


def _here() -> str:
    """This machine, and the namespace in which a pid means something."""
    # Not the boot id: the unit's ProcSubset=pid hides it. After a boot the pid is gone anyhow.
    machine = Path("/etc/machine-id").read_text().strip()
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    return f"{socket.gethostname()}:{machine}:{namespace}"


def _started(pid: int) -> str:
    """Start time of a process in clock ticks since boot; empty when it cannot be seen."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # proc(5): field 22, counted behind the command's closing parenthesis.
    return stat.rpartition(")")[2].split()[19]
