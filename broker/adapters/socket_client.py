# SPDX-License-Identifier: GPL-2.0-or-later
"""powermgr's Unix socket, the asker's side."""

from __future__ import annotations

import contextlib
import socket
import time
from pathlib import Path

from broker.domain.errors import BadRequest, BrokerError
from broker.services.messages import Answer, Request

LONGEST_ANSWER = 256_000_000  #: bytes; ten thousand jobs are some 4 MB


class BrokerUnreachable(BrokerError):
    """No broker answers on the socket."""


def ask(request: Request, *, path: Path, timeout_s: float = 60.0) -> Answer:
    """Send a request and wait for its answer."""
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(path))
        except OSError as error:
            raise BrokerUnreachable(
                f"powerbrokerd does not answer at {path}: {error.strerror or error}"
            ) from error
        try:
            line = _exchange(connection, request.to_line(), deadline)
        except TimeoutError as error:
            raise BrokerUnreachable(
                f"powerbrokerd did not answer within {timeout_s:g} s"
            ) from error
        except OSError as error:
            raise BrokerUnreachable(f"powerbrokerd hung up: {error.strerror or error}") from error
    if not line.endswith(b"\n"):
        raise BrokerUnreachable("powerbrokerd hung up before its answer was complete")
    try:
        return Answer.from_line(line)
    except BadRequest as error:
        raise BrokerUnreachable(f"{path}: the answer is not powerbrokerd's: {error}") from error


def _exchange(connection: socket.socket, line: bytes, deadline: float) -> bytes:
    # A server that had enough hangs up early; what it answered says why.
    with contextlib.suppress(ConnectionError):
        connection.sendall(line)
    answer = bytearray()
    while not answer.endswith(b"\n") and len(answer) < LONGEST_ANSWER:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        connection.settimeout(left_s)
        chunk = connection.recv(1 << 20)
        if not chunk:
            break
        answer += chunk
    return bytes(answer)
