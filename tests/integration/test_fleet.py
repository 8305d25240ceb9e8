# SPDX-License-Identifier: GPL-2.0-or-later
"""The fleet as a process, asked by clients that are not its own code's other half."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from gufo.snmp import SnmpVersion
from gufo.snmp.aio import SnmpSession

REPOSITORY = Path(__file__).parents[2]
APC_POWER = "1.3.6.1.4.1.318.1.1.26.4.3.1.5.1"
APC_VA = "1.3.6.1.4.1.318.1.1.26.4.3.1.16.1"
RARITAN_POWER = "1.3.6.1.4.1.13742.6.5.2.3.1.4.1.1.5"
RARITAN_DIGITS = "1.3.6.1.4.1.13742.6.3.3.4.1.7.1.1.5"
PDU_A, PDU_B, BMC = "127.1.1.1", "127.1.1.2", "127.1.2.1"

INVENTORY = f"""
[site]
name = "bench"
margin = 0.20
operator_limit_w = 10000
[rows.z]
operator_limit_w = 10000
[node_types.small]
idle_w = 1000
[racks.t1]
row = "z"
operator_limit_w = 10000
[racks.t1.feeds.A]
breaker_rating_a = 80
phase_voltage_v = 230
pdu = "snmp://{PDU_A}"
profile = "apc-rpdu2"
[racks.t1.feeds.B]
breaker_rating_a = 80
phase_voltage_v = 230
pdu = "snmp://{PDU_B}"
profile = "raritan-px3"
[nodes.t01]
rack = "t1"
type = "small"
bmc = "ipmi://{BMC}"
[nodes.t02]
rack = "t1"
type = "small"
bmc = "ipmi://127.1.2.2"
"""

# pyghmi keeps a thread and sockets for the life of its process: it gets one of its own.
ASK_BMC = """
import json, sys
from pyghmi.ipmi.command import Command
watts = []
bmc = Command(sys.argv[1], "admin", "password", port=int(sys.argv[2]))
for poll in range(3):
    data = bytes(bmc.raw_command(netfn=0x2C, command=2, data=(0xDC, 1, 0, 0))["data"])
    watts.append(int.from_bytes(data[1:3], "little"))
print(json.dumps(watts))
"""


@dataclass(frozen=True)
class Fleet:
    process: subprocess.Popen[str]
    directory: Path
    snmp_port: int
    bmc_port: int

    def command(self, *words: str) -> str:
        control = str(self.directory / "control.sock")
        return subprocess.run(
            [sys.executable, "-m", "tests.fleet", "--control", control, *words],
            cwd=REPOSITORY,
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    def counts(self) -> dict[str, int]:
        return dict(json.loads(self.command("counts", "--json")))

    def events(self) -> list[str]:
        return [str(json.loads(line)["event"]) for line in self.command("log").splitlines()]

    def get(self, address: str, *oids: str, community: str = "public") -> dict[str, int]:
        async def ask() -> dict[str, int]:
            async with SnmpSession(
                addr=address,
                port=self.snmp_port,
                community=community,
                version=SnmpVersion.v2c,
                timeout=1,
            ) as session:
                return dict(await session.get_many(list(oids)))

        return asyncio.run(ask())

    def ask_bmc(self) -> list[int]:
        """Three readings of t01.bmc in a session of their own."""
        asked = subprocess.run(
            [sys.executable, "-c", ASK_BMC, BMC, str(self.bmc_port)],
            check=True,
            capture_output=True,
            text=True,
        )
        return list(json.loads(asked.stdout))

    def rack_w(self) -> int:
        """What the two PDUs of t1 say together."""
        a_w = self.get(PDU_A, APC_POWER)[APC_POWER] * 10
        return a_w + self.get(PDU_B, RARITAN_POWER)[RARITAN_POWER]


def free_udp_port(address: str) -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    (tmp_path / "inventory.toml").write_text(INVENTORY)
    snmp_port, bmc_port = free_udp_port(PDU_A), free_udp_port(BMC)
    options = {
        "--inventory": tmp_path / "inventory.toml",
        "--control": tmp_path / "control.sock",
        "--log": tmp_path / "fleet.jsonl",
        "--snmp-port": snmp_port,
        "--bmc-port": bmc_port,
    }
    words = [str(part) for option in options.items() for part in option]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fleet", "serve", *words],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "fleet: 2 PDUs and 2 BMCs answer\n"
    yield Fleet(process, tmp_path, snmp_port, bmc_port)
    process.terminate()
    process.wait(5)
    process.stdout.close()


def wait_for_rack_w(fleet: Fleet, low_w: float, high_w: float) -> None:
    deadline = time.monotonic() + 10
    while not low_w <= (seen_w := fleet.rack_w()) <= high_w:
        assert time.monotonic() < deadline, f"rack t1 at {seen_w} W, not {low_w} to {high_w} W"
        time.sleep(0.2)


def test_the_pdus_follow_what_a_process_declares(fleet: Fleet) -> None:
    wait_for_rack_w(fleet, 1950, 2000)
    job = {**os.environ, "SLURMD_NODENAME": "t01", "SLURM_JOB_ID": "1", "FLEET_LOAD": "5kW"}
    with subprocess.Popen(["sleep", "60"], env=job) as process:
        wait_for_rack_w(fleet, 6850, 7000)
        process.kill()
    wait_for_rack_w(fleet, 1950, 2000)


def test_each_power_answer_is_counted(fleet: Fleet) -> None:
    for _ in range(5):
        fleet.get(PDU_A, APC_POWER, APC_VA)
    fleet.get(PDU_B, RARITAN_DIGITS)
    watts = fleet.ask_bmc() + fleet.ask_bmc()
    assert len(watts) == 6
    assert all(980 <= value <= 1000 for value in watts)
    assert fleet.counts() == {"t1.A": 5, "t1.B": 0, "t01.bmc": 6, "t02.bmc": 0}


def test_a_muted_pdu_and_a_wrong_community_get_silence(fleet: Fleet) -> None:
    fleet.command("mute", "t1.B")
    with pytest.raises(TimeoutError):
        fleet.get(PDU_B, RARITAN_POWER)
    fleet.command("unmute", "t1.B")
    assert fleet.get(PDU_B, RARITAN_POWER)[RARITAN_POWER] > 0
    with pytest.raises(TimeoutError):
        fleet.get(PDU_B, RARITAN_POWER, community="private")


def test_a_lie_changes_the_power_object_only(fleet: Fleet) -> None:
    fleet.command("lie", "t1.A", "-1")
    fleet.command("lie", "t1.B", "-1")
    told = fleet.get(PDU_A, APC_POWER, APC_VA)
    assert told[APC_POWER] == -1
    assert told[APC_VA] > 90
    assert RARITAN_POWER not in fleet.get(PDU_B, RARITAN_POWER, RARITAN_DIGITS)
    fleet.command("lie", "t1.A", "5kW")
    assert fleet.get(PDU_A, APC_POWER)[APC_POWER] == 500


def test_the_first_over_limit_answer_and_the_recovery_are_logged(fleet: Fleet) -> None:
    fleet.command("extra", "t1", "9kW")
    fleet.rack_w()
    fleet.rack_w()
    fleet.command("reset")
    time.sleep(0.6)
    assert fleet.events() == ["started", "extra", "over-limit-answer", "reset", "under-limit"]


def test_garbage_is_met_with_silence_and_survived(fleet: Fleet) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        rmcp = b"\x06\x00\xff\x07"
        for packet in (b"", b"\x30", b"\x30\x82\xff\xff", rmcp, rmcp + b"\x06\x10" + bytes(9)):
            sender.sendto(packet, (PDU_A, fleet.snmp_port))
            sender.sendto(packet, (BMC, fleet.bmc_port))
        sender.sendto(rmcp + b"\x06\xc0" + b"\x01" * 60, (BMC, fleet.bmc_port))
    assert fleet.get(PDU_A, APC_POWER)[APC_POWER] > 90


def test_sigterm_ends_it_cleanly(fleet: Fleet) -> None:
    fleet.process.send_signal(signal.SIGTERM)
    assert fleet.process.wait(3) == 0
    assert not (fleet.directory / "control.sock").exists()
