# SPDX-License-Identifier: GPL-2.0-or-later
"""powermgr's Unix socket, the broker's side: a JSON line in, a JSON line out, then it hangs up.

Anybody on the machine may connect, so nobody may hurt the others: every connection has a thread,
a deadline and a size limit, and one user holds only some of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.domain.errors import BadRequest, BrokerError
from broker.services.messages import Answer, Peer, Request

log = logging.getLogger(__name__)

_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7), SO_PEERCRED


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take."""

    request_bytes: int = 1_000_000
    read_s: float = 5.0  #: for the whole request
    write_s: float = 30.0  #: for the whole answer
    connections: int = 128
    connections_per_user: int = 16


class SocketServer:
    """Serves ``handle`` on a Unix socket. ``handle`` is called from several threads at once."""

    def __init__(
        self,
        path: Path,
        handle: Callable[[Request], Answer],
        *,
        limits: Limits | None = None,
        mode: int = 0o666,
    ) -> None:
        self._path = path
        self._handle = handle
        self._limits = limits or Limits()
        self._mode = mode
        self._open: Counter[int] = Counter()  # connections by uid
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._thread: threading.Thread | None = None
        self._inode = 0

    def start(self) -> None:
        """Listen; a socket that a dead broker left is replaced, a live one's is not."""
        if _is_served(self._path):
            raise BrokerError(
                f"another broker serves {self._path}", hint="systemctl status powerbrokerd"
            )
        # Renamed into place when it listens: clients see the old socket or a working one.
        fresh = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(fresh))
        fresh.chmod(self._mode)
        listener.listen(self._limits.connections)
        self._inode = fresh.stat().st_ino
        fresh.rename(self._path)
        self._listener = listener
        self._thread = threading.Thread(target=self._accept, name="powermgr-socket", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; answers that are under way are still sent."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(FileNotFoundError):
            if self._path.stat().st_ino == self._inode:  # not a successor's
                self._path.unlink()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _accept(self) -> None:
        while (listener := self._listener) is not None:
            try:
                connection, _ = listener.accept()
            except OSError as error:
                if self._listener is None:
                    return
                # Out of file descriptors: wait for some to come back rather than spin or die.
                log.warning("cannot accept a powermgr connection: %s", error)
                time.sleep(0.1)
                continue
            self._welcome(connection)

    def _welcome(self, connection: socket.socket) -> None:
        pid, uid, gid = _credentials(connection)
        limits = self._limits
        with self._lock:
            total = sum(self._open.values())
            busy = total >= limits.connections or self._open[uid] >= limits.connections_per_user
            if not busy:
                self._open[uid] += 1
        if busy:
            _turn_away(connection)
            return
        thread = threading.Thread(
            target=self._serve,
            args=(connection, pid, uid, gid),
            name="powermgr-client",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:  # no more threads
            self._leave(uid)
            _turn_away(connection)

    def _leave(self, uid: int) -> None:
        with self._lock:
            self._open[uid] -= 1
            if not self._open[uid]:
                del self._open[uid]

    def _serve(self, connection: socket.socket, pid: int, uid: int, gid: int) -> None:
        try:
            with connection:
                line = _read_line(connection, self._limits)
                peer = Peer(uid=uid, gid=gid, pid=pid, user=_login(uid))
                answer = self._answer(line, peer)
                connection.settimeout(self._limits.write_s)
                connection.sendall(answer)
        except OSError as gone:  # it hung up or hangs; nobody is left to tell
            log.debug("powermgr client uid %d: %s", uid, gone)
        finally:
            self._leave(uid)

    def _answer(self, line: bytes | BrokerError, peer: Peer) -> bytes:
        try:
            if isinstance(line, BrokerError):
                raise line
            return self._handle(Request.from_line(line, peer=peer)).to_line()
        except BrokerError as error:
            refused = Answer.refused(str(error), hint=error.hint, exit_code=error.exit_code)
        except Exception:
            log.exception("powermgr request of %s failed", peer.user)
            refused = Answer.refused(
                "the broker failed on this request; that is a bug of the broker's",
                hint="journalctl -u powerbrokerd has the details",
            )
        return refused.to_line()


def _read_line(connection: socket.socket, limits: Limits) -> bytes | BrokerError:
    """The bytes up to the first newline, or what is wrong with them."""
    deadline = time.monotonic() + limits.read_s
    chunks: list[bytes] = []
    size = 0
    while size <= limits.request_bytes:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return BadRequest(f"no whole request within {limits.read_s:g} s")
        connection.settimeout(left_s)
        try:
            chunk = connection.recv(65_536)
        except TimeoutError:
            continue
        if not chunk:
            return BadRequest(f"the request ended after {size} bytes without a newline")
        head, newline, _ = chunk.partition(b"\n")
        chunks.append(head)
        size += len(head)
        if newline and size <= limits.request_bytes:
            return b"".join(chunks)
    return BadRequest(f"the request is longer than {limits.request_bytes:,} bytes")


def _credentials(connection: socket.socket) -> tuple[int, int, int]:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return pid, uid, gid


def _login(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _turn_away(connection: socket.socket) -> None:
    # Never wait for it: this runs in the accepting thread.
    busy = Answer.refused("the broker is busy: too many powermgr at once", hint="try again")
    with connection, contextlib.suppress(OSError):
        connection.setblocking(False)
        connection.send(busy.to_line())


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except (TimeoutError, BlockingIOError):
            return True
        return True
