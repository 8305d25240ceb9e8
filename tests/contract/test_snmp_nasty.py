# SPDX-License-Identifier: GPL-2.0-or-later
"""Agents that answer wrongly on purpose, against both SNMP engines: a reason, never a crash."""

import socket
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from pysnmp.proto.api import v2c

from collectors.transport import NoAnswer, SnmpTarget, SnmpTransport, SnmpUser, snmp_engine
from tests.support.nasty_agent import NastyAgent, Row

TIMEOUT_S = 0.3
ROOT = "1.3.6.1.4.1.9"
TOO_BIG, GEN_ERR = 1, 5


@pytest.fixture(params=["gufo", "pysnmp"])
async def transport(
    request: pytest.FixtureRequest, agent: NastyAgent
) -> AsyncIterator[SnmpTransport]:
    port = agent.port
    transport = snmp_engine(request.param)(SnmpTarget("127.0.0.1", port, "public", TIMEOUT_S))
    yield transport
    transport.close()


@pytest.fixture
def elsewhere() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.bind(("127.0.0.2", 0))
        yield endpoint


def numbered(*numbers: int) -> list[Row]:
    return [(f"{ROOT}.{n}", v2c.Integer(n)) for n in numbers]


async def test_a_walk_ends_where_its_subtree_ends(
    agent: NastyAgent, transport: SnmpTransport
) -> None:
    beyond = ("1.3.6.1.4.1.10.1", v2c.Integer(0))
    agent.answer = lambda nth: numbered(1, 2) if nth == 1 else [*numbered(5), beyond]

    assert await transport.walk(ROOT) == [(f"{ROOT}.1", 1), (f"{ROOT}.2", 2), (f"{ROOT}.5", 5)]
    assert agent.asked == 2


async def test_a_walk_ends_with_the_mib(agent: NastyAgent, transport: SnmpTransport) -> None:
    end = [(f"{ROOT}.2", v2c.EndOfMibView(""))]
    agent.answer = lambda nth: numbered(1, 2) if nth == 1 else end

    assert [oid for oid, _ in await transport.walk(ROOT)] == [f"{ROOT}.1", f"{ROOT}.2"]


async def test_a_lost_packet_of_a_walk_is_asked_for_again(
    agent: NastyAgent, transport: SnmpTransport
) -> None:
    def answer(nth: int) -> list[Row] | None:
        if nth == 2:
            return None
        return numbered(1, 2) if nth == 1 else [("1.3.6.1.4.1.10.1", v2c.Integer(0))]

    agent.answer = answer

    assert len(await transport.walk(ROOT)) == 2
    assert agent.asked == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(lambda nth: numbered(1), "circles", id="the same row for ever"),
        pytest.param(lambda nth: numbered(1, 2, 3), "circles", id="the same rows for ever"),
        pytest.param(lambda nth: numbered(9, 8), "circles", id="backwards within one answer"),
        pytest.param(lambda nth: numbered(9 - nth), "circles", id="backwards, answer by answer"),
        pytest.param(
            lambda nth: numbered(*range(10 * nth, 10 * nth + 10)),
            "more than 100 objects",
            id="without end",
        ),
    ],
)
async def test_a_walk_that_does_not_end_is_refused(
    agent: NastyAgent,
    transport: SnmpTransport,
    answer: Callable[[int], list[Row]],
    reason: str,
) -> None:
    agent.answer = answer

    with pytest.raises(NoAnswer, match=reason):
        await transport.walk(ROOT, at_most=100)

    assert agent.asked < 20


async def test_a_walk_over_long_words_comes_through(
    agent: NastyAgent, transport: SnmpTransport
) -> None:
    words = v2c.OctetString(b"w" * 900)
    longer_than_4_kb: list[Row] = [(f"{ROOT}.{n}", words) for n in range(1, 7)]
    end = [("1.3.6.1.4.1.10.1", v2c.Integer(0))]
    short = {2: longer_than_4_kb[:3], 3: longer_than_4_kb[3:], 4: end}
    agent.answer = lambda nth: longer_than_4_kb if nth == 1 else short.get(nth, end)
    if type(transport).__name__ == "PysnmpTransport":
        agent.answer = lambda nth: longer_than_4_kb if nth == 1 else end

    assert await transport.walk(ROOT) == [(oid, b"w" * 900) for oid, _ in longer_than_4_kb]


@pytest.mark.parametrize("status", [TOO_BIG, GEN_ERR])
async def test_an_error_status_is_no_answer(
    agent: NastyAgent, transport: SnmpTransport, status: int
) -> None:
    agent.error_status = status
    agent.answer = lambda nth: [(f"{ROOT}.1", v2c.Null(""))]

    with pytest.raises(NoAnswer, match="error"):
        await transport.get([f"{ROOT}.1"])


async def test_objects_nobody_asked_for_do_no_harm(
    agent: NastyAgent, transport: SnmpTransport
) -> None:
    agent.answer = lambda nth: numbered(*range(1, 100))

    answer = await transport.get([f"{ROOT}.1"])

    assert answer[f"{ROOT}.1"] == 1


async def test_an_oversized_answer_is_no_answer(
    agent: NastyAgent, transport: SnmpTransport
) -> None:
    agent.answer = lambda nth: b"\x30\x84\x7f\xff\xff\xff" + b"\x02\x01\x01" * 20_000

    with pytest.raises(NoAnswer):
        await transport.get([f"{ROOT}.1"])


async def test_an_answer_from_elsewhere_is_not_believed(
    agent: NastyAgent, transport: SnmpTransport, elsewhere: socket.socket
) -> None:
    agent.sender = elsewhere
    agent.answer = lambda nth: numbered(1)

    with pytest.raises(NoAnswer, match="timed out"):
        await transport.get([f"{ROOT}.1"])


@pytest.mark.parametrize(
    "value",
    [
        v2c.OctetString(b"\xff\x00not text"),
        v2c.Opaque(b"\x9f\x78\x04\x42\xf6\x00\x00"),
        v2c.IpAddress("192.0.2.7"),
        v2c.Counter64(2**64 - 1),
        v2c.Integer(-(2**31)),
        v2c.OctetString(b""),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_odd_values_look_the_same_in_both_engines(
    agent: NastyAgent, transport: SnmpTransport, value: object
) -> None:
    expected = {
        "Opaque": b"\x9f\x78\x04\x42\xf6\x00\x00",
        "IpAddress": "192.0.2.7",
    }.get(type(value).__name__)
    if expected is None:
        expected = bytes(value) if isinstance(value, v2c.OctetString) else int(value)  # type: ignore[call-overload]
    agent.answer = lambda nth: [(f"{ROOT}.1", value)]

    assert await transport.get([f"{ROOT}.1"]) == {f"{ROOT}.1": expected}


@pytest.mark.parametrize("engine", ["gufo", "pysnmp"])
async def test_a_name_is_as_good_as_an_address(agent: NastyAgent, engine: str) -> None:
    agent.answer = lambda nth: numbered(1)
    port = agent.port
    transport = snmp_engine(engine)(SnmpTarget("localhost", port, "public", TIMEOUT_S))

    assert await transport.get([f"{ROOT}.1"]) == {f"{ROOT}.1": 1}
    transport.close()


@pytest.mark.parametrize("user", [None, SnmpUser("u", "authauth", "privpriv")], ids=["2c", "3"])
@pytest.mark.parametrize("engine", ["gufo", "pysnmp"])
async def test_a_name_nobody_knows_is_no_answer(engine: str, user: SnmpUser | None) -> None:
    target = SnmpTarget("no-such-host.invalid", 161, "public", 5.0, user)
    transport = snmp_engine(engine)(target)

    with pytest.raises(NoAnswer, match=r"its name no-such-host\.invalid is not known"):
        await transport.get([f"{ROOT}.1"])
    transport.close()
