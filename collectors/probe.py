# SPDX-License-Identifier: GPL-2.0-or-later
"""`powercollectord probe URL`: recognises one device and prints what would be stored of it."""

import argparse
import asyncio
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from collectors.bmc import BmcReader
from collectors.complaints import Complaint
from collectors.devices import PORTS, Bmc, Device, Meter, Scheme
from collectors.discovery import Identity, UnknownDevice, discover
from collectors.pdu import reading_of
from collectors.probe_report import Report, report_of
from collectors.profile import load_profiles
from collectors.profile_plan import value_of
from collectors.reach import meter_reader, snmp_target
from collectors.secrets import SecretsFile
from collectors.settings import load_secrets
from collectors.transport import NoAnswer, SnmpTarget, SnmpTransport, snmp_engine
from collectors.transport.ipmi import IpmiAccess, run_worker

NO_ANSWER, BAD_USE, UNKNOWN = 1, 2, 3
_SCHEMES: tuple[Scheme, ...] = ("snmp", "snmp3", "ipmi", "redfish")
_SECRETS = Path("/etc/power-broker/secrets.toml")
_ENTERPRISES = "1.3.6.1.4.1"
_LISTED_AT_MOST = 20_000  #: objects of a stranger
_LISTING_S = 15.0
_ATTEMPTS = 3
_NO_CEILING_W = 10_000_000


class BadUse(Exception):
    """Something to correct in the command."""


def main(argv: Sequence[str]) -> int:
    """Exit status 0, 1 no answer, 2 a mistake in the command, 3 an unknown device."""
    parser = argparse.ArgumentParser(prog="powercollectord probe", description=__doc__)
    parser.add_argument("url", help="snmp://COMMUNITY@HOST[:PORT], snmp3://USER@HOST, ipmi://...")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--secrets", type=Path, default=None, help=f"default: {_SECRETS}")
    parser.add_argument("--profile", default="", help="do not recognise it, it is one of these")
    parser.add_argument("--snmp-context", default="", help="SNMPv3 context name")
    parser.add_argument("--snmp-engine", choices=("gufo", "pysnmp"), default="gufo")
    parser.add_argument("--timeout", type=float, default=3.0, metavar="S")
    asked = parser.parse_args(argv)
    try:
        report = asyncio.run(_probe(asked))
    except BadUse as why:
        return _complain(why, BAD_USE)
    except NoAnswer as why:
        return _complain(f"{_address(asked.url)}: {why}", NO_ANSWER)
    except _Stranger as why:
        _list_stranger(why, as_json=asked.json)
        return _complain(f"{_address(asked.url)}: no profile fits this device", UNKNOWN)
    if asked.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print("\n".join(report.lines()))
    return 0


class _Stranger(Exception):
    def __init__(self, identity: Identity, subtrees: Mapping[str, int], note: str) -> None:
        super().__init__(identity.sys_object_id)
        self.identity = identity
        self.subtrees = subtrees
        self.note = note


async def _probe(asked: argparse.Namespace) -> Report:
    scheme, login, host, port = _split(asked.url)
    if scheme == "snmp" or scheme == "snmp3":
        device = Device("probe", "pdu", host, port, _NO_CEILING_W, scheme=scheme, login=login)
        target = _snmp_target(asked, device)
        engine = "pysnmp" if target.context else asked.snmp_engine
        transport = snmp_engine(engine, attempts=_ATTEMPTS)(target)
        try:
            return await probe_snmp(transport, chosen=asked.profile)
        finally:
            transport.close()
    secrets = _secrets(asked.secrets)
    if not secrets.has(scheme, login):
        raise BadUse(f"no [{scheme}.{login}] in {asked.secrets or _SECRETS}")
    if scheme == "redfish":
        return await _probe_redfish(host, port, login, secrets, asked.timeout)
    bmc = Bmc("probe", "bmc", host, port, _NO_CEILING_W, scheme="ipmi", login=login)
    return await _probe_ipmi(bmc, secrets, asked.timeout)


async def probe_snmp(transport: SnmpTransport, *, chosen: str = "") -> Report:
    """The device, everything its profile names; raises NoAnswer, _Stranger."""
    profiles = load_profiles()
    if chosen and chosen not in profiles:
        raise BadUse(f"no profile {chosen!r}; there are {', '.join(profiles)}")
    try:
        found = await discover(transport, profiles, chosen=chosen)
    except UnknownDevice as why:
        subtrees, note = await _subtrees(transport)
        raise _Stranger(why.answered, subtrees, note) from why
    plan, answer = found.plan, found.answer
    reading = reading_of(plan, answer, name="probe", ceiling_w=_NO_CEILING_W)
    values: dict[str, float | None] = {}
    for row in plan.rows:
        values |= {row.name(each): value_of(item, answer) for each, item in row.items.items()}
        if row.rating_a is not None:
            values[row.name("rating_a")] = row.rating_a
    values["total.power_factor"] = reading.values[-1]
    return report_of(
        reading,
        profile=plan.profile,
        sys_object_id=plan.sys_object_id,
        description=plan.description,
        values=values,
        notes=plan.notes,
    )


async def _probe_redfish(
    host: str, port: int, login: str, secrets: SecretsFile, timeout_s: float
) -> Report:
    """A PDU where the service has power equipment, else a node."""
    last: NoAnswer | None = None
    for kind in ("pdu", "bmc"):
        meter = Meter(
            "probe",
            "pdu" if kind == "pdu" else "bmc",
            host,
            port,
            _NO_CEILING_W,
            scheme="redfish",
            login=login,
        )
        reader = meter_reader(meter, secrets, timeout_s)
        try:
            reading = await reader.read()
        except NoAnswer as why:
            last = why
            continue
        finally:
            if (closing := reader.close()) is not None:
                await closing
        identity = getattr(reader, "identity", None)
        return report_of(
            reading, profile="redfish", description=identity.description if identity else ""
        )
    assert last is not None
    raise last


async def _probe_ipmi(bmc: Bmc, secrets: SecretsFile, timeout_s: float) -> Report:
    """Through a worker process, as in operation: its first word is the answer."""
    first: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
    stopping = asyncio.Event()

    def heard(message: Mapping[str, Any]) -> None:
        if "device" in message and not first.done():
            first.set_result(message)

    logins = {bmc.name: secrets.login(bmc)}
    access = IpmiAccess(logins, timeout_s + 1.0, timeout_s, _ATTEMPTS)
    worker = asyncio.create_task(run_worker([(bmc, 0.0)], access, heard, stopping=stopping))
    try:
        async with asyncio.timeout(10 * timeout_s + 10):
            message = await first
    except TimeoutError as why:
        raise NoAnswer("the BMC did not answer") from why
    finally:
        stopping.set()
        await worker
    if "missed" in message:
        raise NoAnswer(str(message["missed"]))
    data = bytes.fromhex(message["data"])
    reading = BmcReader(bmc).read(at_us=message["at_us"], code=message["code"], data=data)
    return report_of(reading, profile="dcmi", description="BMC with DCMI power reading")


async def _subtrees(transport: SnmpTransport) -> tuple[dict[str, int], str]:
    """Objects by enterprise and its first branch."""
    try:
        async with asyncio.timeout(_LISTING_S):
            rows = await transport.walk(_ENTERPRISES, at_most=_LISTED_AT_MOST)
    except NoAnswer as why:
        return {}, f"its enterprise objects could not be listed: {why}"
    except TimeoutError:
        return {}, f"its enterprise objects could not be listed in {_LISTING_S:g} s"
    depth = _ENTERPRISES.count(".") + 3
    return dict(Counter(".".join(oid.split(".")[:depth]) for oid, _ in rows)), ""


def _list_stranger(stranger: _Stranger, *, as_json: bool) -> None:
    identity = stranger.identity
    answered = [{"subtree": oid, "objects": count} for oid, count in stranger.subtrees.items()]
    if as_json:
        known = {"sys_object_id": identity.sys_object_id, "description": identity.description}
        print(json.dumps({**known, "answered": answered, "note": stranger.note}, indent=2))
        return
    print(f"sys_object_id      {identity.sys_object_id or '-'}")
    print(f"description        {identity.description or '-'}")
    for each in answered:
        print(f"answered           {each['subtree']}  {each['objects']} objects")
    if stranger.note:
        print(f"note: {stranger.note}")


def _snmp_target(asked: argparse.Namespace, device: Device) -> SnmpTarget:
    context, timeout_s = asked.snmp_context, asked.timeout
    if device.scheme == "snmp":
        # A name of secrets.toml where it is one, else the community itself.
        if asked.secrets is not None and _secrets(asked.secrets).has("snmp", device.login):
            return snmp_target(device, _secrets(asked.secrets), timeout_s)
        return SnmpTarget(device.host, device.port, device.login or "public", timeout_s)
    secrets = _secrets(asked.secrets)
    if not secrets.has("snmp3", device.login):
        raise BadUse(f"no [snmp3.{device.login}] in {asked.secrets or _SECRETS}")
    return SnmpTarget(device.host, device.port, "", timeout_s, secrets.snmp_user(device), context)


def _secrets(path: Path | None) -> SecretsFile:
    complaints: list[Complaint] = []
    found = load_secrets(path or _SECRETS, complaints)
    if found is None:
        raise BadUse("; ".join(str(each) for each in complaints))
    return found


def _split(url: str) -> tuple[Scheme, str, str, int]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as why:
        raise BadUse(f"{_address(url)}: {why}") from why
    scheme = next((each for each in _SCHEMES if each == parts.scheme), None)
    if scheme is None or not parts.hostname:
        known = ", ".join(f"{each}://" for each in _SCHEMES)
        raise BadUse(f"{_address(url)}: expected one of {known} and a host")
    if parts.password is not None:
        raise BadUse("a password belongs in secrets.toml, not in a command that others can see")
    return scheme, unquote(parts.username or ""), parts.hostname, port or PORTS[scheme]


def _address(url: str) -> str:
    """A URL that may be shown: a community is a secret too."""
    before, at, after = url.rpartition("@")
    return f"{before.partition('://')[0]}://{after}" if at else url


def _complain(what: object, status: int) -> int:
    print(f"powercollectord: {what}", file=sys.stderr)
    return status
