# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated DCMI power readings: straight into the reader, and as packets of BMCs that answer badly
into the real worker process, with healthy BMCs beside them that must not notice."""

import asyncio
import logging
import random
import socket
import struct
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from collectors.bmc import BmcReader
from collectors.devices import Bmc
from collectors.quality import Judge
from collectors.secrets import Login
from collectors.transport.ipmi import IpmiAccess, run_worker
from tests.fleet.bmc import SimulatedBmc
from tests.fleet.journal import Journal
from tests.fleet.layout import Layout, layout_of
from tests.fleet.plant import Plant
from tests.fuzz.findings import HANG_S, Findings
from tests.fuzz.oracle import wrong_with

CEILING_W = 15_300
_ODD_W = (0, 1, 49, 50, 10_200, 15_300, 15_301, 30_000, 65_534, 65_535)
_INTERVAL_S, _HEALTHY, _BAD = 0.5, 6, 50


def fuzz_dcmi(*, seed: int, first: int, count: int) -> Findings:
    """Cases straight into the reader: three answers of one BMC, each mutated or not."""
    findings = Findings("dcmi", seed)
    for case in range(first, first + count):
        chance = random.Random(f"{seed}/dcmi/{case}")
        bmc = Bmc("n01.bmc", "bmc", "127.0.0.1", 623, CEILING_W)
        reader, judge = BmcReader(bmc), Judge(bmc, interval_s=1.0)
        before_w = None
        begun_s = time.thread_time()
        for _ in range(3):
            code, data = _answer(chance)
            try:
                at_us = time.time_ns() // 1000
                reading = judge(reader.read(at_us=at_us, code=code, data=data))
                wrong = wrong_with(reading, ceiling_w=CEILING_W, before_w=before_w)
            except Exception as why:
                findings.crash(case, why)
                break
            findings.note(reading.quality.value)
            if wrong:
                findings.problem(case, wrong.split(" ")[-1], f"{wrong}: {reading}")
            if reading.quality.value == "good":
                before_w = reading.active_power_w
        if time.thread_time() - begun_s > HANG_S:
            findings.problem(case, "hang", f"took {time.thread_time() - begun_s:.1f} s of CPU")
        findings.cases += 1
    findings.mutated = 3 * findings.cases
    return findings


def _answer(chance: random.Random) -> tuple[int, bytes]:
    watts = chance.choice((*_ODD_W, chance.randrange(65_536)))
    state = chance.choice((0x40, 0x40, 0x40, 0x00, 0xFF, 0xBF))
    low, high = chance.randrange(65_536), chance.randrange(65_536)
    data = bytearray(b"\xdc" + struct.pack("<HHHHIIB", watts, low, high, watts, 1, 1000, state))
    kind = chance.random()
    if kind < 0.3:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    elif kind < 0.5:
        data = data[: chance.randrange(len(data))]
    elif kind < 0.6:
        data += chance.randbytes(chance.choice((1, 7, 4000)))
    elif kind < 0.65:
        data = bytearray(chance.randbytes(chance.randrange(40)))
    code = 0 if chance.random() < 0.9 else chance.randrange(256)
    return code, bytes(data)


class BadSocket:
    """A BMC's socket whose packets are mutated on their way out, some of them."""

    def __init__(self, endpoint: socket.socket, chance: random.Random, findings: Findings) -> None:
        self._endpoint = endpoint
        self._chance = chance
        self._findings = findings

    def sendto(self, packet: bytes, client: Any) -> None:
        data = bytearray(packet)
        kind = self._chance.random()
        if kind < 0.25:
            for _ in range(self._chance.choice((1, 1, 3))):
                data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        elif kind < 0.32:
            data = data[: self._chance.randrange(len(data))]
        elif kind < 0.37:
            data += self._chance.randbytes(self._chance.choice((1, 20, 3000)))
        elif kind < 0.40:
            data = bytearray(self._chance.randbytes(self._chance.randrange(1, 200)))
        elif kind < 0.45:
            self._findings.mutated += 1
            return
        self._findings.mutated += kind < 0.45
        self._endpoint.sendto(bytes(data), client)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._endpoint, name)


def fuzz_bmcs(*, seed: int, first: int, count: int) -> Findings:
    """The real worker against bad BMCs until so many packets were mutated."""
    findings = Findings("bmcs", seed)
    asyncio.run(_worker_and_bmcs(findings, random.Random(f"{seed}/bmcs/{first}"), count))
    return findings


async def _worker_and_bmcs(findings: Findings, chance: random.Random, count: int) -> None:
    complaints = _Complaints()
    logging.getLogger("powercollectord").addHandler(complaints)
    answered: Counter[str] = Counter()
    last_s: dict[str, float] = {}
    longest_s = 0.0

    def heard(message: Mapping[str, Any]) -> None:
        nonlocal longest_s
        name = message["device"]
        if "missed" in message:
            findings.note("missed, healthy" if name.startswith("good") else "missed")
            return
        answered[name] += 1
        reading = readers[name].read(
            at_us=message["at_us"], code=message["code"], data=bytes.fromhex(message["data"])
        )
        findings.note(reading.quality.value)
        if wrong := wrong_with(reading, ceiling_w=CEILING_W):
            findings.problem(0, wrong.split(" ")[-1], f"{wrong}: {reading}")
        if name.startswith("good"):
            longest_s = max(longest_s, time.monotonic() - last_s.get(name, time.monotonic()))
            last_s[name] = time.monotonic()

    with ExitStack() as stack:
        bmcs = _open(findings, chance, stack)
        readers = {each.name: BmcReader(each) for each in bmcs}
        stopping = asyncio.Event()
        logins = {each.name: Login("admin", "password") for each in bmcs}
        access = IpmiAccess(logins, interval_s=_INTERVAL_S, timeout_s=_INTERVAL_S * 0.8)
        share = [(each, nth * _INTERVAL_S / len(bmcs)) for nth, each in enumerate(bmcs)]
        work = asyncio.create_task(run_worker(share, access, heard, stopping=stopping))
        deadline_s = time.monotonic() + 20 + count / 20
        while findings.mutated < count and time.monotonic() < deadline_s and not work.done():
            await asyncio.sleep(0.1)
        stopping.set()
        await asyncio.wait_for(work, 10)
    findings.cases = sum(answered.values())
    findings.note(
        f"answers of {len(answered)} BMCs, longest gap of a healthy one {longest_s:.2f} s;"
    )
    if complaints.said:
        findings.problem(0, "worker", f"the worker ended or was stuck: {complaints.said[0]}")
    if longest_s > _INTERVAL_S + HANG_S:
        findings.problem(0, "gap", f"a healthy BMC was not asked for {longest_s:.1f} s")
    if sum(1 for name in answered if name.startswith("good")) < _HEALTHY:
        findings.problem(0, "healthy", f"healthy BMCs that answered: {answered}")


class _Complaints(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def _open(findings: Findings, chance: random.Random, stack: ExitStack) -> list[Bmc]:
    names = [f"good{nth}" for nth in range(_HEALTHY)] + [f"bad{nth}" for nth in range(_BAD)]
    journal = Journal(Path("/dev/null"))
    stack.callback(journal.close)
    plant = Plant(_layout(names), journal, seed=findings.seed)
    loop = asyncio.get_running_loop()
    bmcs = []
    for nth, name in enumerate(names, 1):
        endpoint = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        endpoint.bind((f"127.49.0.{nth}", 0))
        used: Any = endpoint
        if name.startswith("bad"):
            used = BadSocket(endpoint, random.Random(chance.random()), findings)
        bmc = SimulatedBmc(plant.layout.nodes[name], plant, used)
        loop.add_reader(endpoint, _receive, endpoint, bmc)
        stack.callback(loop.remove_reader, endpoint)
        bmcs.append(Bmc(f"{name}.bmc", "bmc", *endpoint.getsockname(), CEILING_W))
    return bmcs


def _receive(endpoint: socket.socket, bmc: SimulatedBmc) -> None:
    try:
        packet, client = endpoint.recvfrom(65535, socket.MSG_DONTWAIT)
    except OSError:
        return
    # Real BMCs think; pyghmi's client misses answers that come at once.
    asyncio.get_running_loop().call_later(0.005, bmc.receive, packet, client)


_FEED = {
    "pdu": "snmp://127.0.0.1",
    "profile": "apc-rpdu2",
    "breaker_rating_a": 80,
    "phase_voltage_v": 230,
}


def _layout(names: list[str]) -> Layout:
    nodes = {name: {"rack": "r1", "type": "t", "bmc": "ipmi://127.0.0.1"} for name in names}
    return layout_of(
        {
            "site": {"name": "s", "margin": 0, "operator_limit_w": 10**6},
            "rows": {"a": {"operator_limit_w": 10**6}},
            "racks": {"r1": {"row": "a", "operator_limit_w": 10**6, "feeds": {"A": _FEED}}},
            "node_types": {"t": {"idle_w": 1000}},
            "nodes": nodes,
        }
    )
