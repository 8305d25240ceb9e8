# SPDX-License-Identifier: GPL-2.0-or-later
"""Thousands of rack PDUs in one process: one socket answers for every address of 127/8.

Run as `python -m tests.bench.agents --port N`; prints `ready`, and when its stdin ends one JSON
object of what it did. Values are an APC rPDU2's: one phase, W = V x A x PF.
"""

import argparse
import json
import math
import random
import select
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support import ber, ber_agent

_DEVICE, _PHASE = "1.3.6.1.4.1.318.1.1.26.4.3.1", "1.3.6.1.4.1.318.1.1.26.6.3.1"
POWER = f"{_DEVICE}.5.1"
POLLED = (
    "1.3.6.1.2.1.1.3.0",
    POWER,
    f"{_DEVICE}.16.1",
    f"{_DEVICE}.17.1",
    f"{_DEVICE}.9.1",
    f"{_PHASE}.5.1",
    f"{_PHASE}.6.1",
    f"{_PHASE}.7.1",
)
SYS_OBJECT_ID = "1.3.6.1.4.1.318.1.3.4.6"
VOLTAGE_V, POWER_FACTOR = 230, 0.98
_RECEIVE_BUFFER = 4 * 2**20
_IP_PKTINFO = 8  # not named by Python before 3.12
_PKTINFO = struct.Struct("=I4s4s")

Encode = Callable[["Device", float], bytes]


@dataclass(slots=True)
class Device:
    """One PDU; its power moves slowly, so that no reading looks stuck."""

    number: int
    dead: bool = False
    asked_at_s: list[float] = field(default_factory=list)  #: turns: polls of its power
    answered: int = 0  #: turns; two answers in one are one reading
    answered_this_turn: bool = False
    asked_by: set[object] = field(default_factory=set)  #: sockets, in this turn

    def asked(self, at_s: float, client: object, timeout_s: float) -> None:
        """Within the timeout another socket of the collector asks the same again."""
        late = not self.asked_at_s or at_s - self.asked_at_s[-1] >= timeout_s
        if late or client in self.asked_by:
            self.asked_at_s.append(at_s)
            self.answered_this_turn = False
            self.asked_by.clear()
        self.asked_by.add(client)

    def answers(self) -> None:
        self.answered += not self.answered_this_turn
        self.answered_this_turn = True

    def power_w(self, at_s: float) -> float:
        base_w = 2000 + self.number % 1000
        return base_w + 300 * math.sin(at_s / 30 + self.number)


def _ampere_tenths(device: Device, at_s: float) -> int:
    return round(10 * device.power_w(at_s) / VOLTAGE_V / POWER_FACTOR)


def _words(text: str) -> Encode:
    encoded = ber.tlv(ber.OCTETS, text.encode())
    return lambda device, at_s: encoded


def _number(value: Callable[[Device, float], float], tag: int = ber.INTEGER) -> Encode:
    return lambda device, at_s: ber.integer(int(value(device, at_s)), tag)


_BEGIN_S = time.time()
OBJECTS: dict[str, Encode] = {
    "1.3.6.1.2.1.1.1.0": _words("APC Web/SNMP Management Card (simulated)"),
    "1.3.6.1.2.1.1.2.0": lambda device, at_s: ber.oid(ber.dotted(SYS_OBJECT_ID)),
    "1.3.6.1.2.1.1.3.0": _number(lambda d, s: (s - _BEGIN_S + 9e4) * 100, ber.TIMETICKS),
    "1.3.6.1.2.1.1.5.0": lambda device, at_s: ber.tlv(ber.OCTETS, b"pdu%d" % device.number),
    f"{_DEVICE}.1.1": _number(lambda d, s: 1),
    f"{_DEVICE}.4.1": _number(lambda d, s: 2),
    POWER: _number(lambda d, s: d.power_w(s) / 10),
    f"{_DEVICE}.9.1": _number(lambda d, s: 50_000 + d.number + (s - _BEGIN_S) / 150),
    f"{_DEVICE}.16.1": _number(lambda d, s: d.power_w(s) / POWER_FACTOR / 10),
    f"{_DEVICE}.17.1": _number(lambda d, s: 100 * POWER_FACTOR),
    f"{_PHASE}.1.1": _number(lambda d, s: 1),
    f"{_PHASE}.2.1": _number(lambda d, s: 1),
    f"{_PHASE}.3.1": _number(lambda d, s: 1),
    f"{_PHASE}.5.1": _number(_ampere_tenths),
    f"{_PHASE}.6.1": _number(lambda d, s: VOLTAGE_V),
    f"{_PHASE}.7.1": _number(lambda d, s: d.power_w(s) / 10),
}


class Agents:
    """Answers GET, GETNEXT and GETBULK for whatever address it is asked at."""

    def __init__(self, *, drop: float, dead_one_in: int, timeout_s: float, seed: int) -> None:
        self._encode = {ber.dotted(name): encode for name, encode in OBJECTS.items()}
        self._order = sorted(self._encode)
        self._power = ber.dotted(POWER)
        self._drop = drop
        self._dead_one_in = dead_one_in
        self._timeout_s = timeout_s
        self._random = random.Random(seed)
        self.devices: dict[bytes, Device] = {}
        self.objects_asked: Counter[int] = Counter()

    def answer(self, packet: bytes, address: bytes, client: object) -> bytes | None:
        device, request = self._device(address), ber_agent.parsed(packet)
        asks_power = request.kind == ber.GET and self._power in request.names
        if asks_power:
            device.asked(time.time(), client, self._timeout_s)
            self.objects_asked[len(request.names)] += 1
        if device.dead or (self._drop and self._random.random() < self._drop):
            return None
        at_s = time.time()

        def encode(name: ber.Arcs) -> bytes | None:
            value = self._encode.get(name)
            return value(device, at_s) if value else None

        if asks_power:
            device.answers()
        return ber_agent.answer(request, self._order, encode)

    def _device(self, address: bytes) -> Device:
        device = self.devices.get(address)
        if device is None:
            number = int.from_bytes(address[1:], "big")
            dead = bool(self._dead_one_in) and number % self._dead_one_in == 0
            device = self.devices[address] = Device(number, dead)
        return device


def serve(agents: Agents, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        endpoint.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
        endpoint.bind(("0.0.0.0", port))
        print("ready", flush=True)
        while sys.stdin not in select.select([endpoint, sys.stdin], [], [])[0]:
            packet, aside, _, client = endpoint.recvmsg(65535, 64)
            _, _, address = _PKTINFO.unpack(aside[0][2])
            try:
                answer = agents.answer(packet, address, client)
            except (ber.NotBer, IndexError):
                continue
            if answer is not None:
                here = _PKTINFO.pack(0, address, bytes(4))
                from_here = [(socket.IPPROTO_IP, _IP_PKTINFO, here)]
                endpoint.sendmsg([answer], from_here, 0, client)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--drop", type=float, default=0.0, help="share of requests that are lost")
    parser.add_argument("--dead-one-in", type=int, default=0, help="addresses that never answer")
    parser.add_argument("--timeout", type=float, default=0.0, help="of the collector's polls, s")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    agents = Agents(
        drop=asked.drop,
        dead_one_in=asked.dead_one_in,
        timeout_s=asked.timeout,
        seed=asked.seed,
    )
    serve(agents, asked.port)
    devices = {
        socket.inet_ntoa(address): {
            "answered": each.answered,
            "dead": each.dead,
            "asked_at_s": each.asked_at_s,
        }
        for address, each in agents.devices.items()
    }
    json.dump({"devices": devices, "objects_asked": dict(agents.objects_asked)}, sys.stdout)


if __name__ == "__main__":
    main()
