# SPDX-License-Identifier: GPL-2.0-or-later
"""Both engines: what nobody answers is asked again, and a late first answer still counts."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from pysnmp.proto.api import v2c

from collectors.transport import NoAnswer, SnmpTarget, SnmpTransport, snmp_engine
from tests.support.nasty_agent import NastyAgent, Row

TIMEOUT_S = 0.6
POWER = "1.3.6.1.4.1.9.1"
TRUE: list[Row] = [(POWER, v2c.Integer(1140))]


@pytest.fixture(params=["gufo", "pysnmp"])
async def transport(
    request: pytest.FixtureRequest, agent: NastyAgent
) -> AsyncIterator[SnmpTransport]:
    target = SnmpTarget("127.0.0.1", agent.port, "public", TIMEOUT_S)
    transport = snmp_engine(request.param, attempts=3)(target)
    yield transport
    transport.close()


async def test_an_answer_at_once_is_asked_for_once(
    agent: NastyAgent, transport: SnmpTransport
) -> None:
    agent.answer = lambda nth: TRUE

    for _ in range(3):
        assert await transport.get([POWER]) == {POWER: 1140}
    await asyncio.sleep(TIMEOUT_S)

    assert agent.asked == 3


@pytest.mark.parametrize("lost", [1, 2])
async def test_lost_packets_cost_no_poll(
    agent: NastyAgent, transport: SnmpTransport, lost: int
) -> None:
    agent.answer = lambda nth: None if nth <= lost else TRUE
    begun_s = asyncio.get_running_loop().time()

    assert await transport.get([POWER]) == {POWER: 1140}

    assert agent.asked == lost + 1
    assert asyncio.get_running_loop().time() - begun_s < TIMEOUT_S


async def test_the_late_answer_of_a_slow_agent_counts(
    agent: NastyAgent, transport: SnmpTransport
) -> None:
    agent.delay_s = TIMEOUT_S * 0.8  # later than the second request, and the third
    agent.answer = lambda nth: TRUE

    assert await transport.get([POWER]) == {POWER: 1140}


async def test_silence_ends_with_the_timeout(agent: NastyAgent, transport: SnmpTransport) -> None:
    agent.answer = lambda nth: None
    begun_s = asyncio.get_running_loop().time()

    with pytest.raises(NoAnswer, match=r"timed out after 0\.6 s"):
        await transport.get([POWER])

    assert agent.asked == 3
    assert asyncio.get_running_loop().time() - begun_s < 1.5 * TIMEOUT_S


async def test_a_refusal_is_not_asked_again(agent: NastyAgent, transport: SnmpTransport) -> None:
    agent.answer = lambda nth: [(POWER, v2c.NoSuchObject(""))]

    with pytest.raises(NoAnswer, match="none of the 1 objects"):
        await transport.get([POWER])

    assert agent.asked == 1


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(lambda nth: None, id="nothing"),
        pytest.param(lambda nth: b"\x30\x03abc", id="garbage"),
    ],
)
async def test_the_next_poll_is_not_harmed(
    agent: NastyAgent,
    transport: SnmpTransport,
    answers: Callable[[int], bytes | None],
) -> None:
    agent.answer = answers
    with pytest.raises(NoAnswer):
        await transport.get([POWER])

    agent.answer = lambda nth: TRUE

    assert await transport.get([POWER]) == {POWER: 1140}
