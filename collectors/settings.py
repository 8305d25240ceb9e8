# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads and checks collectors.toml, secrets.toml and what a collector needs of inventory.toml.

The whole inventory is checked by `powerbrokerd --check`; here unknown keys in it are left alone.
"""

import os
import stat
import tomllib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from collectors.complaints import BadConfiguration, Complaint, complaints_of
from collectors.devices import Bmc, Device, Pdu
from collectors.plausibility import ABSURD_SHARE
from collectors.profile import Profile, load_profiles

SNMP_PORT = 161
IPMI_PORT = 623


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PollingSection(_Section):
    interval_s: float = Field(2.0, ge=0.1, le=300, description="from one poll to the next")
    timeout_s: float = Field(1.5, gt=0, description="after this a poll counts as missed")
    spread_s: float = Field(0.2, ge=0, description="devices of one round start within this time")
    stale_after_polls: int = Field(3, ge=1, le=100, description="missed polls before silent")
    snmp_engine: Literal["gufo", "pysnmp"] = Field("gufo", description="pysnmp: for odd cases")
    ipmi_processes: int = Field(1, ge=1, le=64, description="worker processes that share the BMCs")

    @model_validator(mode="after")
    def _a_poll_ends_before_the_next(self) -> Self:
        if self.timeout_s >= self.interval_s:
            raise ValueError(
                f"timeout_s {self.timeout_s} must be below interval_s {self.interval_s}"
            )
        if self.spread_s > self.interval_s:
            raise ValueError(f"spread_s {self.spread_s} must not pass interval_s {self.interval_s}")
        return self


class DatabaseSection(_Section):
    dsn: str = Field("dbname=power_broker", description="libpq's words; no password here")
    flush_s: float = Field(0.2, gt=0, le=10, description="longest wait before a batch is stored")
    partition_days_ahead: int = Field(3, ge=1, le=30, description="day partitions made ahead")
    keep_days: int = Field(90, ge=2, le=3650, description="older day partitions are dropped")
    keep_minutes_days: int = Field(400, ge=2, le=3650, description="older minutes are dropped")
    keep_hours_days: int = Field(3650, ge=2, le=36500, description="older hours are dropped")


class SpoolSection(_Section):
    dir: Path = Field(Path("/var/lib/power-collector/spool"), description="on a local disk")
    max_mb: int = Field(1024, ge=1, description="when full the oldest readings are dropped")


class ShardingSection(_Section):
    lease_s: float = Field(
        8.0, ge=2, le=60, description="a collector not heard of for this long loses its devices"
    )
    renew_s: float = Field(1.5, ge=0.1, description="how often a collector says that it lives")

    @model_validator(mode="after")
    def _a_missed_renewal_costs_nothing(self) -> Self:
        if self.renew_s * 3 > self.lease_s:
            raise ValueError(f"lease_s {self.lease_s} must be three times renew_s {self.renew_s}")
        return self


class MetricsSection(_Section):
    listen: str = Field(
        "127.0.0.1:9477", description="HOST:PORT of the Prometheus metrics; empty: none"
    )

    @model_validator(mode="after")
    def _a_host_and_a_port(self) -> Self:
        _, _, port = self.listen.rpartition(":")
        if self.listen and (not port.isdecimal() or not 0 < int(port) < 65536):
            raise ValueError("expected HOST:PORT, or nothing for no metrics")
        return self


class CollectorsFile(_Section):
    polling: PollingSection = PollingSection()
    database: DatabaseSection = DatabaseSection()
    spool: SpoolSection = SpoolSection()
    sharding: ShardingSection = ShardingSection()
    metrics: MetricsSection = MetricsSection()


class SnmpSecret(_Section):
    community: SecretStr = Field(min_length=1)


class IpmiSecret(_Section):
    user: str = Field(min_length=1, max_length=16)
    password: SecretStr = Field(max_length=20)


class SecretsFile(_Section):
    snmp: SnmpSecret
    ipmi: IpmiSecret


class _Partly(BaseModel):
    """A section of which only some keys concern the collectors."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class FeedKeys(_Partly):
    breaker_rating_a: Decimal = Field(gt=0)
    phase_voltage_v: Decimal = Field(gt=0)
    phases: Literal[1, 3] = 3
    derating: Decimal = Field(Decimal("0.80"), gt=0, le=1)
    pdu: str
    profile: str

    def ceiling_w(self) -> int:
        """No power factor here: a PDU may honestly show nearly as many W as VA."""
        continuous_va = self.breaker_rating_a * self.phase_voltage_v * self.phases * self.derating
        return int(continuous_va * Decimal(ABSURD_SHARE))


class RackKeys(_Partly):
    feeds: dict[str, FeedKeys] = Field(min_length=1)


class NodeTypeKeys(_Partly):
    max_w: int = Field(gt=0)


class NodeKeys(_Partly):
    type: str
    bmc: str | None = None


class InventoryKeys(_Partly):
    racks: dict[str, RackKeys] = Field(min_length=1)
    node_types: dict[str, NodeTypeKeys] = {}
    nodes: dict[str, NodeKeys] = {}


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a collector is told, checked."""

    polling: PollingSection
    database: DatabaseSection
    spool: SpoolSection
    sharding: ShardingSection
    metrics: MetricsSection
    secrets: SecretsFile
    pdus: tuple[Pdu, ...]
    bmcs: tuple[Bmc, ...]


_File = TypeVar("_File", bound=BaseModel)


def load_settings(folder: Path) -> Settings:
    """Read and check a configuration folder; raises BadConfiguration with every complaint."""
    complaints: list[Complaint] = []
    collectors = _load(folder / "collectors.toml", CollectorsFile, complaints)
    secrets = _load_secrets(folder / "secrets.toml", complaints)
    inventory_path = folder / "inventory.toml"
    inventory = _load(inventory_path, InventoryKeys, complaints)
    pdus: tuple[Pdu, ...] = ()
    bmcs: tuple[Bmc, ...] = ()
    if inventory is not None:
        pdus = tuple(_pdus(inventory_path, inventory, load_profiles(), complaints))
        bmcs = tuple(_bmcs(inventory_path, inventory, complaints))
        complaints += _shared_addresses(inventory_path, [*pdus, *bmcs])
    if complaints or collectors is None or secrets is None:
        raise BadConfiguration(complaints)
    return Settings(
        polling=collectors.polling,
        database=collectors.database,
        spool=collectors.spool,
        sharding=collectors.sharding,
        metrics=collectors.metrics,
        secrets=secrets,
        pdus=pdus,
        bmcs=bmcs,
    )


def _load(
    path: Path, model: type[_File], complaints: list[Complaint], *, secret: bool = False
) -> _File | None:
    try:
        return model.model_validate(_toml(path))
    except ValidationError as why:
        complaints += complaints_of(path, why, secret=secret)
    except OSError as why:
        complaints.append(Complaint(path, "", None, why.strerror or str(why)))
    except tomllib.TOMLDecodeError as why:
        complaints.append(Complaint(path, "", None, f"not TOML: {why}"))
    except UnicodeDecodeError as why:
        complaints.append(Complaint(path, "", None, f"not UTF-8: {why.reason} at {why.start}"))
    return None


def _toml(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_bytes().decode())


def _load_secrets(path: Path, complaints: list[Complaint]) -> SecretsFile | None:
    try:
        mode = stat.S_IMODE(os.stat(path).st_mode)
    except OSError as why:
        complaints.append(Complaint(path, "", None, why.strerror or str(why)))
        return None
    if mode & 0o077:
        complaints.append(
            Complaint(path, "", None, f"mode {mode:04o} lets others read it; chmod 600 {path}")
        )
        return None
    return _load(path, SecretsFile, complaints, secret=True)


def _pdus(
    path: Path, inventory: InventoryKeys, profiles: dict[str, Profile], complaints: list[Complaint]
) -> list[Pdu]:
    found = []
    for rack, section in inventory.racks.items():
        for feed, keys in section.feeds.items():
            key = f"racks.{rack}.feeds.{feed}"
            address = _address(path, f"{key}.pdu", keys.pdu, "snmp", SNMP_PORT, complaints)
            profile = profiles.get(keys.profile)
            if profile is None:
                allowed = f"expected one of {', '.join(profiles)}"
                complaints.append(Complaint(path, f"{key}.profile", keys.profile, allowed))
            if address is None or profile is None:
                continue
            found.append(
                Pdu(f"{rack}.{feed}", "pdu", *address, keys.ceiling_w(), keys.profile, profile)
            )
    return found


def _bmcs(path: Path, inventory: InventoryKeys, complaints: list[Complaint]) -> list[Bmc]:
    found = []
    for node, keys in inventory.nodes.items():
        if keys.bmc is None:
            continue
        address = _address(path, f"nodes.{node}.bmc", keys.bmc, "ipmi", IPMI_PORT, complaints)
        node_type = inventory.node_types.get(keys.type)
        if node_type is None:
            allowed = f"expected one of {', '.join(inventory.node_types) or '(no node_types)'}"
            complaints.append(Complaint(path, f"nodes.{node}.type", keys.type, allowed))
        if address is None or node_type is None:
            continue
        ceiling_w = int(node_type.max_w * ABSURD_SHARE)
        found.append(Bmc(f"{node}.bmc", "bmc", *address, ceiling_w))
    return found


def _address(
    path: Path, key: str, url: str, scheme: str, port: int, complaints: list[Complaint]
) -> tuple[str, int] | None:
    allowed = f"expected {scheme}://HOST or {scheme}://HOST:PORT, secrets in secrets.toml"
    try:
        parts = urlsplit(url)
        if (
            parts.scheme == scheme
            and parts.hostname
            and parts.username is None
            and not (parts.path or parts.query or parts.fragment)
            and parts.port != 0
        ):
            return parts.hostname, parts.port or port
    except ValueError:
        pass
    # A community or password typed into the URL must not end in a log.
    shown = None if "@" in url else url
    complaints.append(Complaint(path, key, shown, allowed))
    return None


def _shared_addresses(path: Path, devices: list[Device]) -> list[Complaint]:
    first_at: dict[tuple[str, str, int], str] = {}
    complaints = []
    for each in devices:
        first = first_at.setdefault((each.kind, each.host, each.port), each.name)
        if first != each.name:
            allowed = f"{first} has this address too; one meter cannot be two"
            complaints.append(Complaint(path, each.name, f"{each.host}:{each.port}", allowed))
    return complaints
