# SPDX-License-Identifier: GPL-2.0-or-later
"""The running fleet: one process, one loop; every PDU and BMC has its own socket in it."""

import asyncio
import gc
import math
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fleet import control
from tests.fleet.bmc import SimulatedBmc
from tests.fleet.journal import Journal
from tests.fleet.layout import Layout, load_layout
from tests.fleet.loads import LoadScanner
from tests.fleet.plant import Plant
from tests.fleet.snmp import SnmpAgent

TICK_S = 0.25
_DATAGRAM_AT_MOST = 65535
_PACKETS_AT_ONCE = 32  # then the loop looks after the others
_SESSION_SWEEP_TICKS = 40
# Real BMCs take 5 to 100 ms.  Answered within 0.2 ms, pyghmi's client now and then misses that the
# answer has come (it looks, then sleeps) and sits out its retry timer of up to a second.
_BMC_THINKS_S = 0.005


class CannotServe(Exception):
    """The fleet cannot start; the message says what is in the way."""


@dataclass(frozen=True, slots=True)
class Options:
    inventory: Path
    control: Path
    log: Path
    seed: int = 1
    snmp_port: int = 161
    bmc_port: int = 623
    ceiling_w: float = math.inf


async def serve(options: Options) -> None:
    layout = load_layout(options.inventory)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with ExitStack() as stack:
        journal = Journal(options.log)
        stack.callback(journal.close)
        plant = Plant(layout, journal, options.seed, options.ceiling_w)
        _open_pdus(plant, options.snmp_port, stack)
        bmcs = _open_bmcs(plant, options.bmc_port, stack)
        server = await control.listen(options.control, plant)
        stack.callback(options.control.unlink, missing_ok=True)
        stack.callback(server.close)
        _announce(layout, journal)
        await _run(plant, bmcs, stop)
        journal.write("stopped")


async def _run(plant: Plant, bmcs: list[SimulatedBmc], stop: asyncio.Event) -> None:
    def complain(node: str, job: str, problem: str) -> None:
        plant.journal.write("bad-load", node=node, job=job, problem=problem)

    scanner = LoadScanner(complain)
    last_s = time.monotonic()
    ticks = 0
    while not stop.is_set():
        now_s = time.monotonic()
        plant.tick(now_s - last_s, scanner.scan(now_s))
        last_s = now_s
        ticks += 1
        if ticks % _SESSION_SWEEP_TICKS == 0:
            for bmc in bmcs:
                bmc.drop_idle_sessions()
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), TICK_S)


def _open_pdus(plant: Plant, port: int, stack: ExitStack) -> None:
    for pdu in plant.layout.pdus.values():
        endpoint = _bind(pdu.name, pdu.address, port, stack)
        agent = SnmpAgent(pdu, plant)

        def receive(
            packet: bytes,
            client: Any,
            agent: SnmpAgent = agent,
            endpoint: socket.socket = endpoint,
        ) -> None:
            answer = agent.answer(packet, client)
            if answer is not None:
                with suppress(OSError):
                    endpoint.sendto(answer, client)

        _listen(endpoint, receive, stack)


def _open_bmcs(plant: Plant, port: int, stack: ExitStack) -> list[SimulatedBmc]:
    bmcs = []
    for node in plant.layout.nodes.values():
        endpoint = _bind(node.bmc, node.bmc_address, port, stack)
        bmc = SimulatedBmc(node, plant, endpoint)
        bmcs.append(bmc)
        _listen(endpoint, _after_a_moment(bmc), stack)
    return bmcs


def _after_a_moment(bmc: SimulatedBmc) -> Callable[[bytes, Any], None]:
    loop = asyncio.get_running_loop()

    def receive(packet: bytes, client: Any) -> None:
        loop.call_later(_BMC_THINKS_S, bmc.receive, packet, client)

    return receive


def _bind(device: str, address: str, port: int, stack: ExitStack) -> socket.socket:
    endpoint = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    try:
        endpoint.bind((address, port))
    except OSError as error:
        raise CannotServe(f"{device} cannot have {address}:{port}/udp: {error.strerror}") from error
    return endpoint


def _listen(
    endpoint: socket.socket, receive: Callable[[bytes, Any], None], stack: ExitStack
) -> None:
    def drain() -> None:
        # MSG_DONTWAIT, for pyghmi switches its socket to blocking with every answer it sends.
        with suppress(OSError):
            for _ in range(_PACKETS_AT_ONCE):
                packet, client = endpoint.recvfrom(_DATAGRAM_AT_MOST, socket.MSG_DONTWAIT)
                receive(packet, client)

    loop = asyncio.get_running_loop()
    loop.add_reader(endpoint, drain)
    stack.callback(loop.remove_reader, endpoint)


def _announce(layout: Layout, journal: Journal) -> None:
    journal.write("started", pdus=len(layout.pdus), bmcs=len(layout.nodes))
    print(f"fleet: {len(layout.pdus)} PDUs and {len(layout.nodes)} BMCs answer", flush=True)
    gc.freeze()
    _notify_systemd()


def _notify_systemd() -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, suppress(OSError):
            notify.sendto(b"READY=1", address.replace("@", "\0", 1))
