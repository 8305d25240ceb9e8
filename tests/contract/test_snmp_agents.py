# SPDX-License-Identifier: GPL-2.0-or-later
"""Both SNMP engines against agents that others wrote, v2c and v3: snmpd, snmpsim."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from collectors.transport import NoAnswer, SnmpTarget, SnmpTransport, SnmpUser, snmp_engine
from tests.support.snmp_agents import Agent, snmpd, snmpsim, user

SYS_OBJECT_ID, SYS_UP_TIME, ABSENT = "1.3.6.1.2.1.1.2.0", "1.3.6.1.2.1.1.3.0", "1.3.6.1.2.1.9.9.0"
SYSTEM = "1.3.6.1.2.1.1"
RECORD = """\
1.3.6.1.2.1.1.1.0|4|a box
1.3.6.1.2.1.1.2.0|6|1.3.6.1.4.1.318.1.3.4.6
1.3.6.1.2.1.1.3.0|67|77
1.3.6.1.2.1.2.1.0|2|1
"""
USERS = {
    "v2c": None,
    "v3 SHA AES128": user("sha"),
    "v3 SHA256 AES128": user("sha256", "SHA256"),
    "v3 SHA512 AES128": user("sha512", "SHA512"),
    "v3 MD5 DES": user("md5", "MD5", "DES"),
}
Opens = Callable[[int, SnmpUser | None], SnmpTransport]


def _simulated(folder: Path) -> AbstractContextManager[Agent]:
    return snmpsim(folder, {"public": RECORD, "self": RECORD})


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with snmpd(tmp_path_factory.mktemp("snmpd")) as agent:
        yield agent


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    with _simulated(tmp_path_factory.mktemp("snmpsim")) as agent:
        yield agent


@pytest.fixture(
    params=[("gufo", 1), ("gufo", 3), ("pysnmp", 1), ("pysnmp", 3)],
    ids=["gufo", "gufo hedged", "pysnmp", "pysnmp hedged"],
)
async def opens(request: pytest.FixtureRequest) -> AsyncIterator[Opens]:
    opened: list[SnmpTransport] = []
    name, attempts = request.param

    def open_(port: int, user: SnmpUser | None, timeout_s: float = 2.0) -> SnmpTransport:
        target = SnmpTarget("127.0.0.1", port, "public", timeout_s, user)
        opened.append(snmp_engine(name, attempts=attempts)(target))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.mark.snmpd
@pytest.mark.parametrize("who", USERS.values(), ids=USERS.keys())
async def test_debians_agent_is_asked_and_walked(
    debian: Agent, opens: Opens, who: SnmpUser | None
) -> None:
    transport = opens(debian.port, who)

    answer = await transport.get([SYS_OBJECT_ID, SYS_UP_TIME, ABSENT])
    rows = await transport.walk("1.3.6.1.2.1")

    assert answer.keys() == {SYS_OBJECT_ID, SYS_UP_TIME}
    assert answer[SYS_OBJECT_ID] == "1.3.6.1.4.1.318.1.3.4.6"
    assert isinstance(answer[SYS_UP_TIME], int)
    assert len(rows) > 500
    assert dict(rows)[SYS_OBJECT_ID] == "1.3.6.1.4.1.318.1.3.4.6"
    assert all(oid.startswith("1.3.6.1.2.1.") for oid, _ in rows)


@pytest.mark.parametrize("who", list(USERS.values())[:3], ids=list(USERS)[:3])
async def test_snmpsim_is_asked_and_walked(
    simulated: Agent, opens: Opens, who: SnmpUser | None
) -> None:
    transport = opens(simulated.port, who)

    assert await transport.get([SYS_UP_TIME, ABSENT]) == {SYS_UP_TIME: 77}
    assert await transport.walk(SYSTEM) == [
        ("1.3.6.1.2.1.1.1.0", b"a box"),
        (SYS_OBJECT_ID, "1.3.6.1.4.1.318.1.3.4.6"),
        (SYS_UP_TIME, 77),
    ]


@pytest.mark.snmpd
@pytest.mark.parametrize(
    "wrong",
    [{"auth_password": "not-the-password"}, {"priv_password": "not-this-one"}, {"name": "nobody"}],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_a_wrong_secret_is_no_answer_and_is_not_told(
    debian: Agent, opens: Opens, wrong: dict[str, str]
) -> None:
    who = replace(user("sha"), **wrong)  # type: ignore[arg-type]

    with pytest.raises(NoAnswer) as refused:
        await opens(debian.port, who, 0.5).get([SYS_UP_TIME])  # type: ignore[call-arg]

    assert who.auth_password not in str(refused.value)
    assert who.auth_password not in repr(who)
    assert who.priv_password not in repr(who)


@pytest.mark.snmpd
async def test_a_wrong_privacy_password_is_told_from_an_agent_that_is_away(debian: Agent) -> None:
    who = replace(user("sha"), priv_password="not-this-one")
    away, there = (
        snmp_engine("gufo")(SnmpTarget("127.0.0.1", port, "", 0.5, who))
        for port in (1, debian.port)
    )

    with pytest.raises(NoAnswer, match="priv_password"):
        await there.get([SYS_UP_TIME])
    with pytest.raises(NoAnswer) as silent:
        await away.get([SYS_UP_TIME])

    assert "priv_password" not in str(silent.value)


@pytest.mark.snmpd
async def test_an_agent_that_restarts_is_asked_again_without_a_new_collector(
    opens: Opens, tmp_path: Path
) -> None:
    with snmpd(tmp_path) as agent:
        transport = opens(agent.port, user("sha"))
        await transport.get([SYS_UP_TIME])
        agent.stop()
        with pytest.raises(NoAnswer):
            await transport.get([SYS_UP_TIME])
        agent.start()

        for _ in range(3):
            try:
                assert await transport.get([SYS_UP_TIME])
                return
            except NoAnswer:
                await asyncio.sleep(0.2)

    pytest.fail("three polls after its restart the agent still counts as away")
