# SPDX-License-Identifier: GPL-2.0-or-later
"""Both SNMP engines against one small agent: whichever is configured, the poller sees the same."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress

import pytest
from pyasn1.codec.ber import decoder, encoder
from pysnmp.proto.api import v2c

from collectors.transport import NoAnswer, SnmpTarget, SnmpTransport, snmp_engine

TIMEOUT_S = 0.3
NUMBER, GAUGE, COUNTER, WORDS, NAME, TICKS, ABSENT = (f"1.3.6.1.4.1.9.{n}.0" for n in range(7))
VALUES = {
    NUMBER: v2c.Integer(-1),
    GAUGE: v2c.Gauge32(2**32 - 1),
    COUNTER: v2c.Counter64(2**63),
    WORDS: v2c.OctetString(b"twelve"),
    NAME: v2c.ObjectIdentifier("1.3.6.1.4.1.318.1.3.4.6"),
    TICKS: v2c.TimeTicks(77),
}
Reply = Callable[[bytes, Callable[[bytes], None]], None]


class Agent:
    """Answers GETs of VALUES; `reply` decides what becomes of each answer."""

    def __init__(self, endpoint: socket.socket) -> None:
        self.endpoint = endpoint
        self.asked = 0
        self.request_id_off_by = 0
        self.reply: Reply = lambda answer, send: send(answer)

    def receive(self) -> None:
        packet, client = self.endpoint.recvfrom(65535)
        self.asked += 1
        self.reply(self._answer(packet), lambda data: self._send(data, client))

    def _send(self, data: bytes, client: object) -> None:
        if self.endpoint.fileno() >= 0:
            self.endpoint.sendto(data, client)  # type: ignore[arg-type]

    def _answer(self, packet: bytes) -> bytes:
        message, _ = decoder.decode(packet, asn1Spec=v2c.Message())
        request = v2c.apiMessage.get_pdu(message)
        reply = v2c.apiPDU.get_response(request)
        number = int(v2c.apiPDU.get_request_id(request)) + self.request_id_off_by
        v2c.apiPDU.set_request_id(reply, number)
        asked = [str(oid) for oid, _ in v2c.apiPDU.get_varbinds(request)]
        v2c.apiPDU.set_varbinds(
            reply, [(oid, VALUES.get(oid, v2c.NoSuchInstance(""))) for oid in asked]
        )
        answer = v2c.apiMessage.get_response(message)
        v2c.apiMessage.set_pdu(answer, reply)
        return bytes(encoder.encode(answer))


@pytest.fixture
def agent() -> Iterator[Agent]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.bind(("127.0.0.1", 0))
        endpoint.setblocking(False)
        yield Agent(endpoint)


@pytest.fixture(params=["gufo", "pysnmp"])
async def transport(request: pytest.FixtureRequest, agent: Agent) -> AsyncIterator[SnmpTransport]:
    port = agent.endpoint.getsockname()[1]
    transport = snmp_engine(request.param)(SnmpTarget("127.0.0.1", port, "public", TIMEOUT_S))
    yield transport
    transport.close()


async def ask(agent: Agent, transport: SnmpTransport, *oids: str) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    loop.add_reader(agent.endpoint, agent.receive)
    try:
        return dict(await transport.get(oids))
    finally:
        loop.remove_reader(agent.endpoint)


async def test_values_come_as_plain_numbers_bytes_and_names(
    agent: Agent, transport: SnmpTransport
) -> None:
    assert await ask(agent, transport, *VALUES) == {
        NUMBER: -1,
        GAUGE: 2**32 - 1,
        COUNTER: 2**63,
        WORDS: b"twelve",
        NAME: "1.3.6.1.4.1.318.1.3.4.6",
        TICKS: 77,
    }
    assert agent.asked == 1


async def test_an_object_the_agent_lacks_is_left_out(
    agent: Agent, transport: SnmpTransport
) -> None:
    assert await ask(agent, transport, NUMBER, ABSENT) == {NUMBER: -1}


async def test_silence_is_no_answer_and_is_asked_once_only(
    agent: Agent, transport: SnmpTransport
) -> None:
    agent.reply = lambda answer, send: None

    with pytest.raises(NoAnswer, match=r"timed out after 0\.3 s"):
        await ask(agent, transport, NUMBER)

    assert agent.asked == 1


async def test_a_late_answer_is_not_taken_for_the_next_one(
    agent: Agent, transport: SnmpTransport
) -> None:
    held: list[tuple[bytes, Callable[[bytes], None]]] = []
    agent.reply = lambda answer, send: held.append((answer, send))
    with pytest.raises(NoAnswer):
        await ask(agent, transport, GAUGE)

    def late_then_true(answer: bytes, send: Callable[[bytes], None]) -> None:
        for late, send_late in held:
            send_late(late)
        send(answer)

    agent.reply = late_then_true

    assert await ask(agent, transport, NUMBER) == {NUMBER: -1}


async def test_an_answer_to_another_request_is_not_believed(
    agent: Agent, transport: SnmpTransport
) -> None:
    agent.request_id_off_by = 1

    with pytest.raises(NoAnswer):
        await ask(agent, transport, NUMBER)


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x30\x03abc", id="truncated"),
        pytest.param(b"\xff" * 1400, id="a length that makes gufo panic"),
    ],
)
async def test_garbage_costs_one_poll_at_most(
    agent: Agent, transport: SnmpTransport, garbage: bytes
) -> None:
    def garbage_first(answer: bytes, send: Callable[[bytes], None]) -> None:
        send(garbage)
        send(garbage)
        send(answer)

    agent.reply = garbage_first
    with suppress(NoAnswer):
        assert await ask(agent, transport, NUMBER) == {NUMBER: -1}

    agent.reply = lambda answer, send: send(answer)
    assert await ask(agent, transport, NUMBER) == {NUMBER: -1}


async def test_stray_packets_do_not_stretch_the_timeout(
    agent: Agent, transport: SnmpTransport
) -> None:
    loop = asyncio.get_running_loop()
    agent.request_id_off_by = 1

    def again_and_again(answer: bytes, send: Callable[[bytes], None]) -> None:
        for nth in range(20):
            loop.call_later(nth * TIMEOUT_S / 4, send, answer)

    agent.reply = again_and_again
    begun = loop.time()

    with pytest.raises(NoAnswer):
        await ask(agent, transport, NUMBER)

    assert loop.time() - begun < 3 * TIMEOUT_S


async def test_a_closed_port_is_no_answer(agent: Agent, transport: SnmpTransport) -> None:
    agent.endpoint.close()

    with pytest.raises(NoAnswer):
        await transport.get([NUMBER])


async def test_who_is_cancelled_ends_though_an_answer_comes_just_then(
    agent: Agent, transport: SnmpTransport
) -> None:
    async def ask_on() -> None:
        while True:
            await transport.get([NUMBER])

    loop = asyncio.get_running_loop()
    loop.add_reader(agent.endpoint, agent.receive)
    try:
        for _ in range(20):
            task = asyncio.create_task(ask_on())
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task], timeout=5 * TIMEOUT_S)
            assert task.cancelled()
    finally:
        loop.remove_reader(agent.endpoint)
