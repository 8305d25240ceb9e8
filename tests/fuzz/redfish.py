# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated Redfish answers: JSON straight into the reader, and bytes through the HTTP client.

A case is one device, discovered and polled twice; one resource in some is mutated.
"""

import asyncio
import copy
import json
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collectors.devices import Meter
from collectors.quality import Judge
from collectors.redfish import RedfishReader
from collectors.transport import NoAnswer
from collectors.transport.http import HttpTarget, HttpTransport
from tests.fuzz.findings import HANG_S, Findings
from tests.fuzz.oracle import wrong_with

_CEILING_W = 15_300
_POLLS = 2
_AT_ONCE = 8
_HTTP_TIMEOUT_S = 0.2
_READ_AT_MOST_S = 10.0
_ODD: tuple[Any, ...] = (None, True, False, 0, -1, 1e400, -1e400, float("nan"), 10**40, -(10**18))
_ODD += (0.0, -0.0, 1e-320, 15_300, 15_301, 99_999.5, "", "344", "On", "\0", "\ud800", "x" * 9000)
_ODD += ([], {}, [None], {"@odata.id": 5}, {"Reading": {"Reading": 1}}, [[[[]]]])


@dataclass(frozen=True, slots=True)
class Tree:
    """One device's resources by path, without the slash at the end."""

    name: str
    kind: str
    resources: Mapping[str, Any]


def own_trees() -> list[Tree]:
    chassis = {
        "/redfish/v1": {"Chassis": {"@odata.id": "/redfish/v1/Chassis"}},
        "/redfish/v1/Chassis": {"Members": [{"@odata.id": "/redfish/v1/Chassis/1"}]},
        "/redfish/v1/Chassis/1": {
            "Id": "1",
            "ChassisType": "RackMount",
            "EnvironmentMetrics": {"@odata.id": "/redfish/v1/Chassis/1/EnvironmentMetrics"},
            "Power": {"@odata.id": "/redfish/v1/Chassis/1/Power"},
        },
        "/redfish/v1/Chassis/1/EnvironmentMetrics": {
            "PowerWatts": {"Reading": 344, "ReadingUnits": "W"},
            "EnergykWh": {"Reading": 56.4},
            "TemperatureCelsius": {"Reading": 24.5},
        },
        "/redfish/v1/Chassis/1/Power": {"PowerControl": [{"PowerConsumedWatts": 344}]},
    }
    pdu = {
        "/redfish/v1": {"PowerEquipment": {"@odata.id": "/redfish/v1/PowerEquipment"}},
        "/redfish/v1/PowerEquipment": {"RackPDUs": {"@odata.id": "/redfish/v1/P"}},
        "/redfish/v1/P": {"Members": [{"@odata.id": "/redfish/v1/P/1"}]},
        "/redfish/v1/P/1": {
            "Metrics": {"@odata.id": "/redfish/v1/P/1/Metrics"},
            "Mains": {"@odata.id": "/redfish/v1/P/1/Mains"},
        },
        "/redfish/v1/P/1/Metrics": {
            "PowerWatts": {"Reading": 6438, "ApparentVA": 6900, "PowerFactor": 0.93},
            "EnergykWh": {"Reading": 56_438},
        },
        "/redfish/v1/P/1/Mains": {"Members": [{"@odata.id": "/redfish/v1/P/1/Mains/AC1"}]},
        "/redfish/v1/P/1/Mains/AC1": {
            "Id": "AC1",
            "Voltage": {"Reading": 230},
            "PolyPhaseCurrentAmps": {"Line1": {"Reading": 9.3}},
            "BreakerState": "Normal",
        },
    }
    return [Tree("own chassis", "bmc", chassis), Tree("own pdu", "pdu", pdu)]


def recorded_trees(folder: Path) -> list[Tree]:
    """DMTF's mockups that hold power."""
    found = []
    for name, kind in (("public-pdu", "pdu"), ("public-rackmount1", "bmc")):
        resources = {}
        for path in sorted((folder / name).rglob("index.json")):
            inside = path.parent.relative_to(folder / name).as_posix()
            resources["/redfish/v1" if inside == "." else f"/redfish/v1/{inside}"] = json.loads(
                path.read_text()
            )
        found.append(Tree(name, kind, resources))
    return found


def trees(shared: Path | None) -> list[Tree]:
    folder = shared / "data" / "redfish" if shared else None
    return own_trees() + (recorded_trees(folder) if folder and folder.is_dir() else [])


class MutatingDevice:
    """Answers for a tree; every so often not what is in it."""

    def __init__(self, tree: Tree, chance: random.Random) -> None:
        self._tree = tree
        self._chance = chance
        self._share = chance.choice((0.1, 0.3, 0.6))
        self.mutated = 0

    def resource(self, path: str) -> Any:
        """The resource as an object, mutated or not; None where there is none."""
        found = self._tree.resources.get(path.partition("?")[0].rstrip("/"))
        if found is None or self._chance.random() > self._share:
            return found
        self.mutated += 1
        return _mutated(found, self._chance)


class DirectJson:
    """What the reader asks of HTTP, without it."""

    timeout_s = 1.0

    def __init__(self, device: MutatingDevice, chance: random.Random) -> None:
        self._device = device
        self._chance = chance

    async def get(self, path: str) -> dict[str, Any]:
        if type(path) is not str:
            raise AssertionError(f"asked for {path!r}")
        found = self._device.resource(path)
        if not isinstance(found, dict) or self._chance.random() < 0.02:
            raise NoAnswer("answered 404")
        return found

    async def aclose(self) -> None:
        pass


def _mutated(resource: Any, chance: random.Random) -> Any:
    changed = copy.deepcopy(resource)
    for _ in range(chance.choice((1, 1, 2, 5))):
        places = list(_places(changed))
        if not places:
            return chance.choice(_ODD)
        holder, key = chance.choice(places)
        kind = chance.random()
        value = holder[key]
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if kind < 0.4 and number:
            holder[key] = value * chance.choice((-1, 10, 100, 1000, 1e-3, 1e300, 0))
        elif kind < 0.8:
            holder[key] = copy.deepcopy(chance.choice(_ODD))
        elif kind < 0.9 and isinstance(holder, dict):
            del holder[key]
        elif isinstance(holder, dict):
            holder[chance.choice(list(holder))] = value
        else:
            holder.extend([value] * chance.choice((1, 300)))
    return changed


def _places(found: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(found, dict):
        for key in list(found):
            yield found, key
            yield from _places(found[key])
    elif isinstance(found, list):
        for nth in range(len(found)):
            yield found, nth
            yield from _places(found[nth])


def fuzz_redfish(known: list[Tree], *, seed: int, first: int, count: int) -> Findings:
    """JSON straight into the reader."""
    findings = Findings("redfish", seed)

    async def work() -> None:
        for case in range(first, first + count):
            chance = random.Random(f"{seed}/redfish/{case}")
            tree = chance.choice(known)
            device = MutatingDevice(tree, chance)
            begun_s = time.thread_time()
            meter = _meter(tree)
            reader = RedfishReader(meter, DirectJson(device, chance))
            await _one_case(findings, meter, reader, case)
            findings.mutated += device.mutated
            if time.thread_time() - begun_s > HANG_S:
                findings.problem(case, "hang", f"took {time.thread_time() - begun_s:.1f} s of CPU")

    asyncio.run(work())
    return findings


def fuzz_http(known: list[Tree], *, seed: int, first: int, count: int) -> Findings:
    """Bytes through the real HTTP client, one device on a port of its own for each case."""
    findings = Findings("http", seed)

    async def work() -> None:
        waiting = iter(range(first, first + count))

        async def worker() -> None:
            for case in waiting:
                await _http_case(findings, known, case)

        await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))

    asyncio.run(work())
    return findings


async def _http_case(findings: Findings, known: list[Tree], case: int) -> None:
    chance = random.Random(f"{findings.seed}/http/{case}")
    tree = chance.choice(known)
    device = MutatingDevice(tree, chance)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while asked := await reader.readuntil(b"\r\n\r\n"):
                answer, goes_on = _http_answer(asked, device, chance)
                writer.write(answer)
                await writer.drain()
                if not goes_on:
                    break
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = HttpTarget("127.0.0.1", port, "operator", "secret", _HTTP_TIMEOUT_S, tls=False)
    reader = RedfishReader(_meter(tree), HttpTransport(target))
    try:
        await _one_case(findings, _meter(tree), reader, case)
    finally:
        await reader.close()
        server.close()
        findings.mutated += device.mutated


def _http_answer(asked: bytes, device: MutatingDevice, chance: random.Random) -> tuple[bytes, bool]:
    path = asked.split(b" ", 2)[1].decode("latin-1")
    found = device.resource(path)
    body = json.dumps(found).encode() if found is not None else b"{}"
    status = b"200 OK" if found is not None else b"404 Not Found"
    length, goes_on = len(body), True
    kind = chance.random()
    if kind < 0.16:
        device.mutated += 1
    if kind < 0.04:
        at = chance.randrange(len(body))
        body = body[:at] + bytes((body[at] ^ 1 << chance.randrange(8),)) + body[at + 1 :]
    elif kind < 0.06:
        body, goes_on = body[: chance.randrange(len(body))], False
    elif kind < 0.08:
        length += chance.choice((-1, 1, 10**12))
        goes_on = False
    elif kind < 0.10:
        other = (b"503 Busy", b"302 Found\r\nLocation: /redfish/v1", b"999 ?", b"204 No", b"500 No")
        status = chance.choice(other)
    elif kind < 0.12:
        body = chance.choice((b"", b"[]", b"null", b"[" * 100_000, b"\xff\xfe{}", b'{"a":' * 900))
        length = len(body)
    elif kind < 0.14:
        return chance.randbytes(chance.randint(1, 400)), False
    elif kind < 0.16:
        status += b"\r\n" + chance.choice((b"Content-Encoding: gzip", b"X: \x00", b"Y" * 70_000))
    head = b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % length + body, goes_on


async def _one_case(findings: Findings, meter: Meter, reader: RedfishReader, case: int) -> None:
    before_w, judge = None, Judge(meter, interval_s=1.0)
    for _ in range(_POLLS):
        try:
            async with asyncio.timeout(_READ_AT_MOST_S):
                reading = judge(await reader.read())
            wrong = wrong_with(reading, ceiling_w=_CEILING_W, before_w=before_w)
        except NoAnswer:
            findings.note("no answer")
            continue
        except TimeoutError:
            findings.problem(case, "hang", f"a poll did not end within {_READ_AT_MOST_S} s")
            break
        except Exception as why:
            findings.crash(case, why)
            break
        findings.note(reading.quality.value)
        if wrong:
            findings.problem(case, wrong.split(" ")[-1], f"{wrong}: {reading}"[:800])
        if reading.quality.value == "good":
            before_w = reading.active_power_w
    findings.cases += 1


def _meter(tree: Tree) -> Meter:
    kind: Any = tree.kind
    return Meter("r1.A", kind, "127.0.0.1", 0, _CEILING_W, scheme="redfish")
