# SPDX-License-Identifier: GPL-2.0-or-later
"""A generated site: as many PDUs and BMCs as asked, all on loopback, and its configuration."""

import json
import socket
from dataclasses import dataclass
from pathlib import Path

_SITE = """
[site]
name = "bench"
power_factor = 0.95
margin = 0.20
operator_limit_w = 99000000
burst_limit_w = 99000000

[rows.a]
operator_limit_w = 99000000
burst_limit_w = 99000000

[node_types.h100x8]
idle_w = 1000
max_w = 10200
gpus = 8
"""
_RACK = """
[racks.r{rack}]
row = "a"
redundancy = "failover"
operator_limit_w = 40000
burst_limit_w = 40000
"""
_FEED = """
[racks.r{rack}.feeds.{feed}]
breaker_rating_a = 32
phase_voltage_v = 230
phases = 1
derating = 0.80
pdu = "snmp://{host}:{port}"
profile = "apc-rpdu2"
"""
_NODE = """
[nodes.n{node}]
rack = "r1"
type = "h100x8"
bmc = "ipmi://{host}:{port}"
"""


@dataclass(frozen=True, slots=True)
class Site:
    """What is simulated; the ports are free ones."""

    pdus: int
    bmcs: int
    snmp_port: int
    bmc_port: int

    def pdu_hosts(self) -> dict[str, str]:
        """Address by device name."""
        return {
            f"r{nth // 2 + 1}.{'AB'[nth % 2]}": f"127.32.{nth // 250}.{nth % 250 + 1}"
            for nth in range(self.pdus)
        }

    def bmc_hosts(self) -> list[str]:
        return [f"127.48.{nth // 250}.{nth % 250 + 1}" for nth in range(self.bmcs)]

    def inventory(self) -> str:
        parts = [_SITE]
        for name, host in self.pdu_hosts().items():
            rack, feed = name[1:].split(".")
            if feed == "A":
                parts.append(_RACK.format(rack=rack))
            parts.append(_FEED.format(rack=rack, feed=feed, host=host, port=self.snmp_port))
        for nth, host in enumerate(self.bmc_hosts(), 1):
            parts.append(_NODE.format(node=nth, host=host, port=self.bmc_port))
        if not self.bmcs:
            parts.append("[nodes]\n")
        return "".join(parts)


def free_port() -> int:
    """A UDP port that is free on every address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        return int(probe.getsockname()[1])


def configure(folder: Path, site: Site, dsn: str, **polling: object) -> None:
    """Write inventory.toml, secrets.toml and collectors.toml."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "inventory.toml").write_text(site.inventory())
    secrets = folder / "secrets.toml"
    secrets.write_text(
        '[snmp]\ncommunity = "public"\n[ipmi]\nuser = "admin"\npassword = "password"\n'
    )
    secrets.chmod(0o600)
    lines = [f"{key} = {json.dumps(value)}" for key, value in polling.items()]
    (folder / "collectors.toml").write_text(
        "[polling]\n" + "\n".join(lines) + "\n"
        f'[database]\ndsn = "{dsn}"\n[spool]\ndir = "{folder}/spool"\n'
    )
