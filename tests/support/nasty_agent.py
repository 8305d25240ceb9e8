# SPDX-License-Identifier: GPL-2.0-or-later
"""An SNMP agent on loopback that answers wrongly on purpose, late, or not at all."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pyasn1.codec.ber import decoder, encoder
from pysnmp.proto.api import v2c

Row = tuple[str, object]


class NastyAgent:
    """Answers the nth request with what `answer` gives for it: rows, or bytes as they are."""

    def __init__(self, endpoint: socket.socket) -> None:
        self.endpoint = endpoint
        self.asked = 0
        self.answer: Callable[[int], list[Row] | bytes | None] = lambda nth: []
        self.error_status = 0
        self.delay_s = 0.0
        self.sender = endpoint

    @property
    def port(self) -> int:
        return int(self.endpoint.getsockname()[1])

    def receive(self) -> None:
        packet, client = self.endpoint.recvfrom(65535)
        self.asked += 1
        answer = self.answer(self.asked)
        if answer is None:
            return
        data = answer if isinstance(answer, bytes) else self._encoded(packet, answer)
        asyncio.get_running_loop().call_later(self.delay_s, self._send, data, client)

    def _send(self, data: bytes, client: object) -> None:
        if self.endpoint.fileno() >= 0:
            self.sender.sendto(data, client)  # type: ignore[arg-type]

    def _encoded(self, packet: bytes, rows: list[Row]) -> bytes:
        message, _ = decoder.decode(packet, asn1Spec=v2c.Message())
        request = v2c.apiMessage.get_pdu(message)
        reply = v2c.GetResponsePDU()
        v2c.apiPDU.set_defaults(reply)
        v2c.apiPDU.set_request_id(reply, int(request.getComponentByPosition(0)))
        v2c.apiPDU.set_error_status(reply, self.error_status)
        v2c.apiPDU.set_varbinds(reply, rows)
        answer = v2c.apiMessage.get_response(message)
        v2c.apiMessage.set_pdu(answer, reply)
        return bytes(encoder.encode(answer))


@asynccontextmanager
async def nasty_agent() -> AsyncIterator[NastyAgent]:
    """One on a free port."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.bind(("127.0.0.1", 0))
        endpoint.setblocking(False)
        agent = NastyAgent(endpoint)
        loop.add_reader(endpoint, agent.receive)
        yield agent
        loop.remove_reader(endpoint)
