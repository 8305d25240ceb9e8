# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated SNMP answers: over a real socket through an engine, and straight into the reader.

A case is one device, discovered and polled twice; one of its answers (or all from one on) is
mutated, and mostly the true answer follows, as after a packet that lost its way.
"""

import asyncio
import random
import socket
import time
from collections.abc import Mapping, Sequence

from collectors.devices import Pdu
from collectors.pdu import PduReader
from collectors.profile import load_profiles
from collectors.quality import Judge
from collectors.readings import Reading
from collectors.transport import NoAnswer, SnmpTarget, SnmpTransport, snmp_engine
from tests.fuzz.findings import HANG_S, Findings
from tests.fuzz.mutate import mutated
from tests.fuzz.oracle import wrong_with
from tests.fuzz.seeds import Seed
from tests.support import ber, ber_agent

CEILING_W = 30_000
_TIMEOUT_S = 0.05
_POLLS = 2
_DISCOVERED_WITHIN_S = 3.0  #: not minutes: a large tree, every answer of it mutated
_READ_AT_MOST_S = 10.0  #: two discoveries, after a reboot, beside the other cases on a busy machine
_AT_ONCE = 24
_PROFILES = load_profiles()
#: Python values no engine should give, but a new one might.
_ODD_OBJECTS = (None, True, False, 1.5, float("nan"), float("inf"), -0.0, "12", "", b"", b"\x00")
_ODD_OBJECTS += (b"1140", "９", 10**30, -(10**30), 2**64, (), [], {}, object())  # noqa: RUF001


class MutatingAgent:
    """One device on a socket of its own."""

    def __init__(self, seed: Seed, chance: random.Random) -> None:
        self._seed = seed
        self._chance = chance
        self._asked = 0
        self.mutated = 0
        self._first = chance.choice((0, 0, 1, 1, 1, 2, 2, 3, 5))
        self._last = self._first if chance.random() < 0.8 else 10**9
        self._true_follows = chance.random() < 0.8
        self.endpoint = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.endpoint.bind(("127.0.0.1", 0))
        self.endpoint.setblocking(False)

    @property
    def port(self) -> int:
        return int(self.endpoint.getsockname()[1])

    def receive(self) -> None:
        try:
            packet, client = self.endpoint.recvfrom(65535)
        except OSError:
            return
        for each in self.answers(packet):
            try:
                self.endpoint.sendto(each, client)
            except OSError:
                return

    def answers(self, packet: bytes) -> list[bytes]:
        """What goes out for a request."""
        true = ber_agent.answer(ber_agent.parsed(packet), self._seed.order, self._seed.values.get)
        nth, self._asked = self._asked, self._asked + 1
        if not self._first <= nth <= self._last:
            return [true]
        packets = mutated(true, self._chance)
        self.mutated += packets != [true]
        return [*packets, true] if self._true_follows else packets

    def close(self) -> None:
        self.endpoint.close()


class DirectTransport:
    """Hands the reader what the mutated bytes could mean to an engine, or worse."""

    def __init__(self, agent: MutatingAgent, chance: random.Random) -> None:
        self._agent = agent
        self._chance = chance

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        names = b"".join(ber.tlv(ber.SEQUENCE, ber.oid(ber.dotted(o)) + b"\x05\x00") for o in oids)
        found = dict(self._rows(ber.GET, b"\x02\x01\x00", names))
        if self._chance.random() < 0.3:
            found[self._chance.choice(list(oids))] = self._chance.choice(_ODD_OBJECTS)
        return found

    async def walk(self, oid: str, *, at_most: int = 20_000) -> Sequence[tuple[str, object]]:
        found: list[tuple[str, object]] = []
        last = oid
        for _ in range(40):
            name = ber.tlv(ber.SEQUENCE, ber.oid(ber.dotted(last)) + b"\x05\x00")
            rows = self._rows(ber.GET_BULK, b"\x02\x01\x19", name)
            inside = [each for each in rows if each[0].startswith(oid + ".")]
            found += inside
            if len(inside) < len(rows) or not rows:
                break
            last = rows[-1][0]
        if found and self._chance.random() < 0.2:
            at = self._chance.randrange(len(found))
            found[at] = (found[at][0], self._chance.choice(_ODD_OBJECTS))
        return found[:at_most]

    def close(self) -> None:
        self._agent.close()

    def _rows(self, kind: int, second: bytes, names: bytes) -> list[tuple[str, object]]:
        body = b"\x02\x01\x07" + b"\x02\x01\x00" + second + ber.tlv(ber.SEQUENCE, names)
        head = ber.integer(1) + ber.tlv(ber.OCTETS, b"public")
        packet = ber.tlv(ber.SEQUENCE, head + ber.tlv(kind, body))
        try:
            return _lenient(self._agent.answers(packet)[0])
        except (ber.NotBer, IndexError, RecursionError) as why:
            raise NoAnswer("answered with garbage") from why


def _lenient(data: bytes) -> list[tuple[str, object]]:
    """Decodes as a careless engine would: no check of what is announced."""
    _, begin, _ = ber.read(data, 0)
    _, _, end = ber.read(data, begin)
    _, _, end = ber.read(data, end)
    _, at, _ = ber.read(data, end)
    for _ in range(3):
        _, _, at = ber.read(data, at)
    _, begin, end = ber.read(data, at)
    rows = []
    for _, inner, _ in ber.children(data, begin, end):
        _, name_begin, name_end = ber.read(data, inner)
        tag, value_begin, value_end = ber.read(data, name_end)
        if tag not in (ber.NO_SUCH_OBJECT, ber.NO_SUCH_INSTANCE, ber.END_OF_MIB, ber.NULL):
            name = ".".join(map(str, ber.arcs_of(data[name_begin:name_end])))
            rows.append((name, _plain(tag, data[value_begin:value_end])))
    return rows


def _plain(tag: int, body: bytes) -> object:
    if tag in (ber.INTEGER, ber.COUNTER32, ber.GAUGE32, ber.TIMETICKS, ber.COUNTER64):
        if len(body) > 20:
            raise ber.NotBer(f"no engine takes an integer of {len(body)} bytes")
        return int.from_bytes(body, "big", signed=True)
    if tag == ber.OID:
        return ".".join(map(str, ber.arcs_of(body)))
    return body


def fuzz_engine(
    engine: str, seeds: Sequence[Seed], *, seed: int, first: int, count: int
) -> Findings:
    """Cases over real sockets."""
    findings = Findings(engine, seed)
    asyncio.run(_all_cases(findings, seeds, range(first, first + count)))
    return findings


async def _all_cases(findings: Findings, seeds: Sequence[Seed], cases: range) -> None:
    waiting = iter(cases)
    heart = asyncio.create_task(_watch_the_loop(findings))

    async def work() -> None:
        for case in waiting:
            await _socket_case(findings, seeds, case)

    await asyncio.gather(*(work() for _ in range(_AT_ONCE)))
    heart.cancel()


async def _watch_the_loop(findings: Findings) -> None:
    """A decoder that spins holds up everybody: this notices."""
    while True:
        begun_s, cpu_s = time.monotonic(), time.thread_time()
        await asyncio.sleep(0.05)
        if time.monotonic() - begun_s > HANG_S and time.thread_time() - cpu_s > HANG_S:
            findings.problem(
                findings.cases, "hang", f"the loop stood still before {findings.cases}"
            )


async def _socket_case(findings: Findings, seeds: Sequence[Seed], case: int) -> None:
    chance = random.Random(f"{findings.seed}/{findings.target}/{case}")
    device = chance.choice(seeds)
    agent = MutatingAgent(device, chance)
    loop = asyncio.get_running_loop()
    loop.add_reader(agent.endpoint, agent.receive)
    target = SnmpTarget("127.0.0.1", agent.port, "public", _TIMEOUT_S)
    transport = snmp_engine(findings.target)(target)
    try:
        await _one_case(findings, device, transport, case)
    finally:
        loop.remove_reader(agent.endpoint)
        findings.mutated += agent.mutated
        agent.close()
        transport.close()


def fuzz_reader(seeds: Sequence[Seed], *, seed: int, first: int, count: int) -> Findings:
    """Cases without a socket: many more of them in the same time."""
    findings = Findings("reader", seed)

    async def work() -> None:
        for case in range(first, first + count):
            chance = random.Random(f"{seed}/reader/{case}")
            device = chance.choice(seeds)
            agent = MutatingAgent(device, chance)
            begun_s = time.thread_time()
            await _one_case(findings, device, DirectTransport(agent, chance), case)
            findings.mutated += agent.mutated
            agent.close()
            if time.thread_time() - begun_s > HANG_S:
                findings.problem(case, "hang", f"took {time.thread_time() - begun_s:.1f} s of CPU")

    asyncio.run(work())
    return findings


async def _one_case(findings: Findings, device: Seed, transport: SnmpTransport, case: int) -> None:
    reader, judge = _reader(device, transport)
    before_w: int | None = None
    for _ in range(_POLLS):
        try:
            async with asyncio.timeout(_READ_AT_MOST_S):
                reading = judge(await reader.read())
        except NoAnswer:
            findings.note("no answer")
            continue
        except TimeoutError:
            findings.problem(case, "hang", f"a poll did not end within {_READ_AT_MOST_S} s")
            break
        except BaseException as why:
            if isinstance(why, asyncio.CancelledError | KeyboardInterrupt):
                raise
            findings.crash(case, why)
            break
        findings.note(reading.quality.value)
        before_w = _judged(findings, case, reading, before_w)
    findings.cases += 1


def _judged(findings: Findings, case: int, reading: Reading, before_w: int | None) -> int | None:
    try:
        wrong = wrong_with(reading, ceiling_w=CEILING_W, before_w=before_w)
    except Exception as why:
        findings.crash(case, why)
        return before_w
    if wrong:
        findings.problem(case, wrong.split(" ")[-1], f"{wrong}: {reading}")
    return reading.active_power_w if reading.quality.value == "good" else before_w


def _reader(device: Seed, transport: SnmpTransport) -> tuple[PduReader, Judge]:
    profile = _PROFILES[device.profile]
    pdu = Pdu("r1.A", "pdu", "127.0.0.1", 161, CEILING_W, device.profile, profile)
    reader = PduReader(pdu, transport, discovered_within_s=_DISCOVERED_WITHIN_S)
    return reader, Judge(pdu, interval_s=1.0)
