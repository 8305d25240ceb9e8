# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds BMCs that let anyone in without a password: they accept IPMI's cipher suite 0.

One packet asks to open a session without authentication, integrity and confidentiality (IPMI 2.0,
13.17); a sound BMC refuses. The session is not used: a BMC forgets it within a minute.
"""

import asyncio
import logging
import struct
from collections.abc import Iterable

from collectors.devices import Bmc

log = logging.getLogger("powercollectord")

_AT_ONCE = 32
_PATIENCE_S = 1.0
_ATTEMPTS = 2
_OPEN_REQUEST, _OPEN_RESPONSE = 0x10, 0x11
_OURS = b"cip0"  #: our session ID, to know our answer by
_NONE = 0  #: the algorithm of suite 0 in all three places
_checked: set[str] = set()  #: BMCs asked by this process; once is enough


def open_session_request() -> bytes:
    """RMCP header, empty IPMI 2.0 session header, Open Session Request with suite 0."""
    algorithms = b"".join(bytes((kind, 0, 0, 8, _NONE, 0, 0, 0)) for kind in range(3))
    payload = bytes((0x5A, 0, 0, 0)) + _OURS + algorithms
    header = bytes((6, 0, 0xFF, 7, 6, _OPEN_REQUEST)) + bytes(8) + struct.pack("<H", len(payload))
    return header + payload


def lets_anyone_in(answer: bytes) -> bool | None:
    """Whether an Open Session Response accepts suite 0; None for a packet that is none of ours."""
    if len(answer) < 24 or answer[:1] != b"\x06" or answer[5] & 0x3F != _OPEN_RESPONSE:
        return None
    if answer[20:24] != _OURS:
        return None
    return answer[17] == 0


async def warn_of_cipher_zero(bmcs: Iterable[Bmc]) -> None:
    """One warning that names every BMC that accepts suite 0; silence says nothing."""
    fresh = [each for each in bmcs if each.name not in _checked]
    _checked.update(each.name for each in fresh)
    turns = asyncio.Semaphore(_AT_ONCE)
    open_to_all = await asyncio.gather(*(_accepts_cipher_zero(each, turns) for each in fresh))
    names = [bmc.name for bmc, accepts in zip(fresh, open_to_all, strict=True) if accepts]
    if names:
        log.warning(
            "%s: IPMI cipher suite 0 is enabled, anyone may log in without a password;"
            " disable it on the BMC (ipmitool lan set 1 cipher_privs X...)",
            ", ".join(names),
        )


async def _accepts_cipher_zero(bmc: Bmc, turns: asyncio.Semaphore) -> bool:
    async with turns:
        for _ in range(_ATTEMPTS):
            try:
                accepts = await asyncio.wait_for(_ask(bmc), _PATIENCE_S)
            except (OSError, TimeoutError):
                continue
            return accepts
    return False


async def _ask(bmc: Bmc) -> bool:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[bool] = loop.create_future()
    transport, _ = await loop.create_datagram_endpoint(
        lambda: _Ears(answered), remote_addr=(bmc.host, bmc.port)
    )
    try:
        transport.sendto(open_session_request())
        return await answered
    finally:
        transport.close()


class _Ears(asyncio.DatagramProtocol):
    def __init__(self, answered: "asyncio.Future[bool]") -> None:
        self._answered = answered

    def datagram_received(self, data: bytes, addr: object) -> None:
        accepts = lets_anyone_in(data)
        if accepts is not None and not self._answered.done():
            self._answered.set_result(accepts)

    def error_received(self, exc: Exception) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc)
