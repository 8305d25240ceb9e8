# SPDX-License-Identifier: GPL-2.0-or-later
"""`powercollectord probe` against agents that others wrote: SNMPv3, Redfish, and a huge device."""

import asyncio
import json
import time
from pathlib import Path

import pytest

from collectors import probe
from tests.support.http_device import Answer, http_device, tree
from tests.support.snmp_agents import AUTH_PASSWORD, PRIV_PASSWORD, snmpsim

pytestmark = pytest.mark.shared_data
IN_SECONDS = 8.0  #: for a device of 20,000 objects, on a busy machine


@pytest.fixture
def secrets(tmp_path: Path) -> str:
    path = tmp_path / "secrets.toml"
    path.write_text(
        f'[snmp3.sha]\nauth_password = "{AUTH_PASSWORD}"\npriv_password = "{PRIV_PASSWORD}"\n'
        '[redfish.poller]\nuser = "poller"\npassword = "of the test"\ntls = false\n'
    )
    path.chmod(0o600)
    return str(path)


@pytest.fixture
def recordings(shared_data: Path) -> Path:
    return shared_data / "data" / "pdu"


def _record(path: Path) -> str:
    return path.read_text(errors="replace")


def test_snmpv3_and_one_of_several_contexts(
    recordings: Path, tmp_path: Path, secrets: str, capsys: pytest.CaptureFixture[str]
) -> None:
    records = {
        "self": _record(recordings / "raritan-pdu_px2.snmprec"),
        "cords": _record(recordings / "sentry4.snmprec"),
    }
    with snmpsim(tmp_path, records) as agent:
        url = f"snmp3://sha@127.0.0.1:{agent.port}"
        status = probe.main([url, "--secrets", secrets, "--json", "--snmp-context", "cords"])

    assert status == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["active_power_w"] == 2966


def test_a_device_of_twenty_thousand_objects_is_probed_in_seconds(
    recordings: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = "".join(f"1.3.6.1.4.1.13742.6.99.{n}.1|2|{n}\n" for n in range(20_000))
    record = _record(recordings / "raritan-pdu_px3.snmprec")
    with snmpsim(tmp_path, {"huge": record + more}) as agent:
        url = f"snmp://huge@127.0.0.1:{agent.port}"
        probe.main([url, "--json"])  # snmpsim reads its index at the first question
        begun_s = time.monotonic()
        status = probe.main([url, "--json"])
        took_s = time.monotonic() - begun_s

    print(f"28,000 objects: probed in {took_s:.2f} s")
    assert status == 0, capsys.readouterr().err
    assert took_s < IN_SECONDS


async def test_a_redfish_pdu(
    shared_data: Path, secrets: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with http_device() as device:
        device.answer = tree(shared_data / "data" / "redfish" / "public-pdu", expands=True)
        url = f"redfish://poller@127.0.0.1:{device.port}"
        status = await asyncio.to_thread(probe.main, [url, "--secrets", secrets, "--json"])

    said = capsys.readouterr()
    assert status == 0, said.err
    shown = json.loads(said.out)
    assert (shown["profile"], shown["active_power_w"], shown["energy_kwh"]) == (
        "redfish",
        6438,
        56438,
    )
    assert shown["outlets"]


async def test_a_wrong_redfish_password_is_said_so(
    secrets: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async with http_device() as device:
        device.answer = lambda asked: Answer(401)
        url = f"redfish://poller@127.0.0.1:{device.port}"
        status = await asyncio.to_thread(probe.main, [url, "--secrets", secrets])

    assert status == 1
    said = capsys.readouterr().err
    assert "401" in said
    assert "of the test" not in said
