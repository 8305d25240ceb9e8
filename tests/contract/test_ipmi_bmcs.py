# SPDX-License-Identifier: GPL-2.0-or-later
"""The IPMI worker process against BMCs that answer wrongly; cipher suite 0, which lets all in."""

import asyncio
import logging
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from collectors.devices import Bmc
from collectors.secrets import Login
from collectors.transport import ipmi_cipher
from collectors.transport.ipmi import IpmiAccess, run_worker
from collectors.transport.ipmi_cipher import (
    lets_anyone_in,
    open_session_request,
    warn_of_cipher_zero,
)

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


@pytest.fixture(autouse=True)
def asked_anew() -> None:
    ipmi_cipher._checked.clear()


def open_response(packet: bytes, status: int) -> bytes:
    """The answer to an Open Session Request (IPMI 2.0, table 13-10)."""
    body = bytes((packet[16], status, 0, 0)) + packet[20:24] + b"bmc!" + packet[24:]
    return packet[:5] + b"\x11" + bytes(8) + struct.pack("<H", len(body)) + body


async def heard_of(
    bmcs: list[Bmc], *, until: Callable[[list[Mapping[str, Any]]], bool], password: str = PASSWORD
) -> list[Mapping[str, Any]]:
    stopping, heard = asyncio.Event(), list[Mapping[str, Any]]()
    access = IpmiAccess(
        {each.name: Login("admin", password) for each in bmcs}, INTERVAL_S, INTERVAL_S * 0.75
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
