# SPDX-License-Identifier: GPL-2.0-or-later
"""broker.toml: how powerbrokerd runs; and all three files together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import Field, PositiveInt

from broker.config.inventory import Name, load_inventory
from broker.config.loading import Section, load
from broker.config.policy import PolicySection, load_policy
from broker.domain.errors import ConfigInvalid
from broker.domain.power_graph import PowerGraph
from broker.domain.switches import Mode

DEFAULT_DIR = Path("/etc/power-broker")

_File = TypeVar("_File")


class BrokerSection(Section):
    """The whole of broker.toml."""

    mode: Mode = Field(Mode.OBSERVE, description="until an operator sets another by powermgr")
    cluster: Name = Field(description="ClusterName of slurm.conf")
    cycle_s: float = Field(1.0, gt=0, le=60)
    slurm_deadline_s: float = Field(5.0, gt=0, le=60, description="for one call of slurmctld")
    database_deadline_s: float = Field(
        2.0, gt=0, le=60, description="for one call; then the cycle goes on without the ledger"
    )
    database_url: str = "postgresql+psycopg:///power_broker"
    state_file: Path = Path("/run/power-broker/admission.state")
    socket: Path = Path("/run/power-broker/powermgr.sock")
    verdict_spool: Path = Path("/var/spool/power-broker/verdicts.jsonl")
    resources_yaml: Path = Path("/var/lib/power-broker/slurm/resources.yaml")
    reconfigure_interval_s: PositiveInt = Field(
        10,
        le=86_400,
        description="at most one `scontrol reconfigure` in this time: it restarts every slurmd",
    )
    lease_s: PositiveInt = Field(
        10, le=3_600, description="a leader that is silent so long is replaced"
    )
    admins: tuple[str, ...] = Field(
        ("root", "slurm"), description="users who may change things by powermgr"
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that powerbrokerd was told."""

    broker: BrokerSection
    policy: PolicySection
    graph: PowerGraph


def load_settings(directory: Path) -> Settings:
    """Read inventory, policy and broker; ConfigInvalid holds the mistakes of all three files."""
    mistakes: list[str] = []

    def read(name: str, reader: Callable[[Path], _File]) -> _File | None:
        try:
            return reader(directory / f"{name}.toml")
        except ConfigInvalid as error:
            mistakes.append(str(error) + (f" ({error.hint})" if error.hint else ""))
            return None

    graph = read("inventory", load_inventory)
    policy = read("policy", load_policy)
    broker = read("broker", lambda path: load(path, BrokerSection))
    if broker is None or policy is None or graph is None:
        raise ConfigInvalid("\n".join(mistakes))
    return Settings(broker=broker, policy=policy, graph=graph)
