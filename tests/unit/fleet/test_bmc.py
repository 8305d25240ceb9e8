# SPDX-License-Identifier: GPL-2.0-or-later
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet import bmc as bmc_module
from tests.fleet.bmc import SimulatedBmc
from tests.fleet.cli import OWN_INVENTORY
from tests.fleet.journal import Journal
from tests.fleet.layout import load_layout
from tests.fleet.plant import Plant
from tests.fleet.retransmission import Retransmissions

SHA1, SHA256 = 1, 3


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    journal = Journal(tmp_path / "fleet.jsonl")
    yield Plant(load_layout(OWN_INVENTORY), journal)
    journal.close()


@pytest.fixture
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.bind(("127.0.0.1", 0))
        endpoint.settimeout(1)
        yield endpoint


@pytest.fixture
def bmc(plant: Plant) -> Iterator[SimulatedBmc]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.bind(("127.0.0.1", 0))
        yield SimulatedBmc(plant.layout.nodes["n01"], plant, endpoint)


def open_session(authentication: int) -> bytes:
    """RMCP+ Open Session Request (IPMI 2.0, table 13-9)."""
    body = bytes((7, 4, 0, 0)) + b"abcd"
    for kind, algorithm in enumerate((authentication, 1, 1)):
        body += bytes((kind, 0, 0, 8, algorithm, 0, 0, 0))
    return b"\x06\x00\xff\x07\x06\x10" + bytes(8) + struct.pack("<H", len(body)) + body


def test_clients_that_come_and_never_leave_do_not_fill_the_memory(
    bmc: SimulatedBmc, client: socket.socket
) -> None:
    for _ in range(100):
        bmc.receive(open_session(SHA1), client.getsockname())
    assert bmc.session_count == 64


def test_idle_sessions_end(
    bmc: SimulatedBmc, client: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bmc.receive(open_session(SHA1), client.getsockname())
    bmc.drop_idle_sessions()
    assert bmc.session_count == 1
    monkeypatch.setattr(bmc_module, "IDLE_SESSION_S", -1.0)
    bmc.drop_idle_sessions()
    assert bmc.session_count == 0


def test_an_authentication_it_does_not_speak_is_refused(
    bmc: SimulatedBmc, client: socket.socket
) -> None:
    bmc.receive(open_session(SHA256), client.getsockname())
    answer = client.recv(100)
    assert (answer[5], answer[16], answer[17], answer[20:24]) == (0x11, 7, 0x04, b"abcd")
    assert bmc.session_count == 0


def test_a_muted_bmc_opens_no_session(
    bmc: SimulatedBmc, plant: Plant, client: socket.socket
) -> None:
    plant.mute("n01.bmc")
    bmc.receive(open_session(SHA1), client.getsockname())
    assert bmc.session_count == 0


@pytest.mark.parametrize("length", range(0, 60, 3))
def test_half_a_packet_changes_nothing(
    length: int, bmc: SimulatedBmc, client: socket.socket
) -> None:
    bmc.receive(open_session(SHA1)[:28][:length], client.getsockname())
    assert bmc.session_count == 0


def test_a_request_sent_again_is_recognised_per_client() -> None:
    requests = Retransmissions()
    seen = [requests.seen(*pair) for pair in (("a", b"1"), ("b", b"1"), ("a", b"1"), ("a", b"2"))]
    assert seen == [False, False, True, False]
