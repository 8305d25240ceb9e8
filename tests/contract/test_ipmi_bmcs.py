# SPDX-License-Identifier: GPL-2.0-or-later
"""The IPMI worker process against BMCs that answer wrongly; cipher suite 0, which lets all in."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pyghmi.ipmi.private.serversession import ServerSession

from collectors.devices import Bmc
from collectors.secrets import Login
from collectors.transport import ipmi_cipher
from collectors.transport.ipmi import IpmiAccess, run_worker
from collectors.transport.ipmi_cipher import (
    lets_anyone_in,
    open_session_request,
    warn_of_cipher_zero,
)
from tests.fleet.bmc import SimulatedBmc
from tests.fleet.cli import OWN_INVENTORY
from tests.fleet.journal import Journal
from tests.fleet.layout import load_layout
from tests.fleet.plant import Plant

INTERVAL_S = 0.4
PASSWORD = "password"
Answers = Callable[[bytes], bytes | None]


@pytest.fixture
async def bmcs() -> AsyncIterator[Callable[[str, Answers], Bmc]]:
    """Opens a BMC on loopback that answers each packet as told, None for silence."""
    loop, sockets = asyncio.get_running_loop(), []

    def open_(name: str, answers: Answers) -> Bmc:
        endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        endpoint.bind(("127.0.0.1", 0))
        endpoint.setblocking(False)
        sockets.append(endpoint)

        def receive() -> None:
            packet, client = endpoint.recvfrom(4096)
            if (answer := answers(packet)) is not None:
                endpoint.sendto(answer, client)

        loop.add_reader(endpoint, receive)
        return Bmc(name, "bmc", *endpoint.getsockname(), 15_300, scheme="ipmi")

    yield open_
    for each in sockets:
        loop.remove_reader(each)
        each.close()


class Sent:
    """The socket of a simulated BMC, which keeps the last packet instead of sending it."""

    def __init__(self) -> None:
        self.last: bytes | None = None

    def sendto(self, packet: bytes, client: object) -> None:
        self.last = bytes(packet)

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 623

    def setblocking(self, flag: object) -> None:
        pass


@pytest.fixture
def sound(tmp_path: Path) -> Iterator[Callable[[str], Answers]]:
    """What the sound BMC of a node answers."""
    journal = Journal(tmp_path / "fleet.jsonl")
    plant = Plant(load_layout(OWN_INVENTORY), journal)

    def of(node: str) -> Answers:
        sent: Any = Sent()
        bmc = SimulatedBmc(plant.layout.nodes[node], plant, sent)

        def answers(packet: bytes) -> bytes | None:
            sent.last = None
            bmc.receive(packet, ("127.0.0.1", 1))
            answer: bytes | None = sent.last
            return answer

        return answers

    yield of
    journal.close()


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    ipmi_cipher._checked.clear()


def open_response(packet: bytes, status: int) -> bytes:
    """The answer to an Open Session Request (IPMI 2.0, table 13-10)."""
    body = bytes((packet[16], status, 0, 0)) + packet[20:24] + b"bmc!" + packet[24:]
    return packet[:5] + b"\x11" + bytes(8) + struct.pack("<H", len(body)) + body


async def heard_of(
    bmcs: list[Bmc],
    *,
    until: Callable[[list[Mapping[str, Any]]], bool],
    interval_s: float = INTERVAL_S,
    attempts: int = 1,
) -> list[Mapping[str, Any]]:
    stopping, heard = asyncio.Event(), list[Mapping[str, Any]]()
    access = IpmiAccess(
        {each.name: Login("admin", PASSWORD) for each in bmcs},
        interval_s,
        interval_s * 0.75,
        attempts,
    )
    worker = asyncio.create_task(
        run_worker([(each, 0.0) for each in bmcs], access, heard.append, stopping=stopping)
    )
    try:
        async with asyncio.timeout(25):
            while not until(heard):
                await asyncio.sleep(0.1)
    finally:
        stopping.set()
        await worker
    return heard


async def test_bmcs_that_answer_nothing_or_garbage_are_missed_by_name(
    bmcs: Callable[[str, Answers], Bmc], caplog: pytest.LogCaptureFixture
) -> None:
    bad = [
        bmcs("silent", lambda packet: None),
        bmcs("garbage", lambda packet: b"\xff" * 200),
        bmcs("echo", lambda packet: packet),
        bmcs("empty", lambda packet: b""),
        bmcs("truncated", lambda packet: packet[:9]),
        bmcs("accepts and never answers again", _accepts_once),
    ]

    heard = await heard_of(
        bad, until=lambda heard: {each["device"] for each in heard} == {b.name for b in bad}
    )

    assert all("missed" in each and each["missed"] for each in heard)
    assert PASSWORD not in str(heard)
    assert "another" not in caplog.text, "the worker ended and was started again"


def _accepts_once(packet: bytes) -> bytes | None:
    return open_response(packet, 0) if packet[4:6] == b"\x06\x10" else None


async def test_bmcs_that_fall_silent_right_after_the_login_cost_others_no_turn(
    bmcs: Callable[[str, Answers], Bmc],
    sound: Callable[[str], Answers],
    caplog: pytest.LogCaptureFixture,
) -> None:
    def until_logged_in(answers: Answers) -> Answers:
        # Payload type 0 within a session: all that comes after RAKP message 4.
        return lambda packet: None if packet[4:6] == b"\x06\xc0" else answers(packet)

    mute = [bmcs(f"mute{n}", until_logged_in(sound(f"n0{n}"))) for n in (2, 3)]
    healthy = bmcs("healthy", sound("n01"))

    def answers_at_s(heard: list[Mapping[str, Any]]) -> list[float]:
        return [each["at_us"] / 1e6 for each in heard if "data" in each]

    heard = await heard_of(
        [*mute, healthy], until=lambda heard: len(answers_at_s(heard)) >= 8, interval_s=1.0
    )

    assert {each["device"] for each in heard if "data" in each} == {"healthy"}
    gaps_s = [after - before for before, after in pairwise(answers_at_s(heard))]
    assert max(gaps_s) < 1.5, gaps_s
    missed = [each["device"] for each in heard if "missed" in each]
    assert missed.count("mute2") >= 5, "said nothing of a BMC that says nothing"
    assert "another" not in caplog.text, "the worker ended and was started again"


async def test_two_packets_of_three_lost_cost_no_turn(
    bmcs: Callable[[str, Answers], Bmc], sound: Callable[[str], Answers]
) -> None:
    answers, heard_power, packets = sound("n01"), [0], [0]

    def lossy(packet: bytes) -> bytes | None:
        if not heard_power[0]:
            return answers(packet)
        packets[0] += 1
        return answers(packet) if packets[0] % 3 == 0 else None

    def enough(heard: list[Mapping[str, Any]]) -> bool:
        heard_power[0] = sum("data" in each for each in heard)
        return heard_power[0] >= 8

    heard = await heard_of([bmcs("n01.bmc", lossy)], until=enough, interval_s=1.5, attempts=3)

    first = next(n for n, each in enumerate(heard) if "data" in each)
    assert not [each for each in heard[first:] if "missed" in each]


async def test_a_bmc_that_refuses_administrators_is_read_as_operator(
    bmcs: Callable[[str, Answers], Bmc],
    sound: Callable[[str], Answers],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    handle = ServerSession.handle_client_request

    def for_operators_only(session: Any, request: dict[str, Any]) -> None:
        if (request["netfn"], request["command"]) == (6, 0x3B):
            asked.append(request["data"][0])
            session.maxpriv, session.clientpriv = 3, 0
        handle(session, request)

    monkeypatch.setattr(ServerSession, "handle_client_request", for_operators_only)

    await heard_of(
        [bmcs("n01.bmc", sound("n01"))], until=lambda heard: any("data" in e for e in heard)
    )

    assert asked == [4, 3]


@pytest.mark.parametrize(("status", "expected"), [(0, True), (0x11, False)])
async def test_cipher_suite_0_is_found_and_named(
    bmcs: Callable[[str, Answers], Bmc],
    caplog: pytest.LogCaptureFixture,
    status: int,
    expected: bool,
) -> None:
    bmc = bmcs("n07.bmc", lambda packet: open_response(packet, status))

    with caplog.at_level(logging.WARNING, logger="powercollectord"):
        await warn_of_cipher_zero([bmc])
        await warn_of_cipher_zero([bmc])

    named = [each.message for each in caplog.records if "cipher suite 0" in each.message]
    assert len(named) == (1 if expected else 0)
    assert all(each.startswith("n07.bmc: ") for each in named)


@pytest.mark.parametrize(
    "answers",
    [lambda packet: None, lambda packet: b"", lambda packet: packet, lambda packet: b"\x06" * 99],
    ids=["silence", "nothing", "an echo", "garbage"],
)
async def test_what_is_no_answer_accuses_nobody(
    bmcs: Callable[[str, Answers], Bmc], caplog: pytest.LogCaptureFixture, answers: Answers
) -> None:
    with caplog.at_level(logging.WARNING, logger="powercollectord"):
        await warn_of_cipher_zero([bmcs("n08.bmc", answers)])

    assert caplog.records == []


def test_an_answer_to_somebody_else_is_not_ours() -> None:
    request = open_session_request()
    assert lets_anyone_in(open_response(request, 0)) is True
    other = request[:20] + b"else" + request[24:]
    assert lets_anyone_in(open_response(other, 0)) is None
