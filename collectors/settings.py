# SPDX-License-Identifier: GPL-2.0-or-later
"""Loads and checks collectors.toml, secrets.toml and what a collector needs of inventory.toml.

The whole inventory is checked by `powerbrokerd --check`; here unknown keys in it are left alone.
"""

import os
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from collectors.complaints import BadConfiguration, Complaint, complaints_of
from collectors.devices import PORTS, Bmc, Device, Meter, Pdu, Scheme
from collectors.plausibility import ABSURD_SHARE
from collectors.profile import Profile, load_profiles
from collectors.secrets import SecretsFile

SNMP_SCHEMES: tuple[Scheme, ...] = ("snmp", "snmp3")
PDU_SCHEMES: tuple[Scheme, ...] = ("snmp", "snmp3", "redfish")
BMC_SCHEMES: tuple[Scheme, ...] = ("ipmi", "redfish")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PollingSection(_Section):
    interval_s: float = Field(2.0, ge=0.1, le=300, description="from one poll to the next")
    timeout_s: float = Field(1.5, gt=0, description="after this a poll counts as missed")
    attempts: int = Field(
        3, ge=1, le=10, description="requests within timeout_s, until one is answered"
    )
    spread_s: float = Field(0.2, ge=0, description="devices of one round start within this time")
    stale_after_polls: int = Field(3, ge=1, le=100, description="missed polls before silent")
    snmp_engine: Literal["gufo", "pysnmp"] = Field("gufo", description="pysnmp: for odd cases")
    ipmi_processes: int = Field(1, ge=1, le=64, description="worker processes that share the BMCs")

    @property
    def hold_s(self) -> float:
        """How long a reading is taken for true when no other follows."""
        return (self.stale_after_polls + 1) * self.interval_s

    @property
    def end_s(self) -> float:
        """A poll under way has ended by then, be it of four requests; a discovery may not have."""
        return 4 * self.timeout_s + 1.0

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


class NvmlSection(_Section):
    node: str = Field("", description="the node this is: its GPUs are read too, as NODE.gpu")
    only: bool = Field(False, description="read nothing else from here: a collector on a node")


class CollectorsFile(_Section):
    polling: PollingSection = PollingSection()
    database: DatabaseSection = DatabaseSection()
    spool: SpoolSection = SpoolSection()
    sharding: ShardingSection = ShardingSection()
    metrics: MetricsSection = MetricsSection()
    nvml: NvmlSection = NvmlSection()


class _Partly(BaseModel):
    """A section of which only some keys concern the collectors."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class FeedKeys(_Partly):
    breaker_rating_a: Decimal = Field(gt=0)
    phase_voltage_v: Decimal = Field(gt=0)
    phases: Literal[1, 3] = 3
    derating: Decimal = Field(Decimal("0.80"), gt=0, le=1)
    pdu: str
    profile: str | None = Field(None, description="left out: the device is recognised")

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
    bmcs: tuple[Bmc, ...]  #: over IPMI
    meters: tuple[Meter, ...] = ()  #: over Redfish, and this node's GPUs

    @property
    def devices(self) -> tuple[Device, ...]:
        return (*self.pdus, *self.bmcs, *self.meters)


_File = TypeVar("_File", bound=BaseModel)


def load_settings(folder: Path) -> Settings:
    """Read and check a configuration folder; raises BadConfiguration with every complaint."""
    complaints: list[Complaint] = []
    collectors = _load(folder / "collectors.toml", CollectorsFile, complaints)
    secrets = load_secrets(folder / "secrets.toml", complaints)
    inventory_path = folder / "inventory.toml"
    inventory = _load(inventory_path, InventoryKeys, complaints)
    devices: list[Device] = []
    if inventory is not None:
        reader = _Reader(inventory_path, inventory, secrets, complaints)
        devices = [*reader.pdus(load_profiles()), *reader.bmcs()]
        complaints += _shared_addresses(inventory_path, devices)
        if collectors is not None:
            if collectors.nvml.only:
                devices = []
            devices += reader.gpus(folder / "collectors.toml", collectors.nvml.node)
    if complaints or collectors is None or secrets is None:
        raise BadConfiguration(complaints)
    return Settings(
        polling=collectors.polling,
        database=collectors.database,
        spool=collectors.spool,
        sharding=collectors.sharding,
        metrics=collectors.metrics,
        secrets=secrets,
        pdus=tuple(each for each in devices if isinstance(each, Pdu)),
        bmcs=tuple(each for each in devices if isinstance(each, Bmc)),
        meters=tuple(each for each in devices if isinstance(each, Meter)),
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


def load_secrets(path: Path, complaints: list[Complaint]) -> SecretsFile | None:
    """The logins, from a file that nobody else may read; None and a complaint otherwise."""
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


@dataclass(frozen=True, slots=True)
class _Url:
    scheme: Scheme
    login: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class _Reader:
    """Makes devices of the inventory's sections, and complaints of what is none."""

    path: Path
    inventory: InventoryKeys
    secrets: SecretsFile | None
    complaints: list[Complaint]

    def pdus(self, profiles: dict[str, Profile]) -> Iterator[Device]:
        for rack, section in self.inventory.racks.items():
            for feed, keys in section.feeds.items():
                key = f"racks.{rack}.feeds.{feed}"
                url = self._url(f"{key}.pdu", keys.pdu, PDU_SCHEMES)
                profile = None
                if keys.profile is not None and (url is None or url.scheme in SNMP_SCHEMES):
                    profile = self._profile(f"{key}.profile", keys.profile, profiles)
                if url is None:
                    continue
                name, where = f"{rack}.{feed}", (url.host, url.port, keys.ceiling_w())
                if url.scheme == "redfish":
                    yield Meter(name, "pdu", *where, scheme=url.scheme, login=url.login)
                elif keys.profile is None or profile is not None:
                    yield Pdu(
                        name,
                        "pdu",
                        *where,
                        keys.profile or "",
                        profile,
                        scheme=url.scheme,
                        login=url.login,
                    )

    def bmcs(self) -> Iterator[Device]:
        for node, keys in self.inventory.nodes.items():
            if keys.bmc is None:
                continue
            url = self._url(f"nodes.{node}.bmc", keys.bmc, BMC_SCHEMES)
            ceiling_w = self._node_ceiling_w(node, keys)
            if url is None or ceiling_w is None:
                continue
            of_its_kind = Meter if url.scheme == "redfish" else Bmc
            yield of_its_kind(
                f"{node}.bmc",
                "bmc",
                url.host,
                url.port,
                ceiling_w,
                scheme=url.scheme,
                login=url.login,
            )

    def gpus(self, path: Path, node: str) -> Iterator[Device]:
        """The GPUs of the node this collector runs on."""
        if not node:
            return
        keys = self.inventory.nodes.get(node)
        if keys is None:
            allowed = "expected a node of inventory.toml, or nothing"
            self.complaints.append(Complaint(path, "nvml.node", node, allowed))
            return
        ceiling_w = self._node_ceiling_w(node, keys)
        if ceiling_w is not None:
            yield Meter(f"{node}.gpu", "gpu", "localhost", 0, ceiling_w, scheme="nvml")

    def _node_ceiling_w(self, node: str, keys: NodeKeys) -> int | None:
        types = self.inventory.node_types
        if keys.type not in types:
            self._complain(
                f"nodes.{node}.type",
                keys.type,
                f"expected one of {', '.join(types) or '(no node_types)'}",
            )
            return None
        return int(types[keys.type].max_w * ABSURD_SHARE)

    def _profile(self, key: str, name: str, profiles: dict[str, Profile]) -> Profile | None:
        if name in profiles:
            return profiles[name]
        self._complain(key, name, f"expected one of {', '.join(profiles)}")
        return None

    def _url(self, key: str, url: str, schemes: tuple[Scheme, ...]) -> _Url | None:
        found = _split(url, schemes)
        if found is None:
            first = schemes[0]
            # A community or password typed into the URL must not end in a log.
            self._complain(
                key,
                None if "@" in url else url,
                f"expected {first}://HOST or {first}://HOST:PORT, secrets in secrets.toml"
                + (f"; or {', '.join(schemes[1:])}" if schemes[1:] else ""),
            )
            return None
        if self.secrets is not None and not self.secrets.has(found.scheme, found.login):
            # The part before @ is a name only when secrets.toml knows it; else it may be a secret.
            section = f"[{found.scheme}.NAME]" if found.login else f"[{found.scheme}]"
            self._complain(
                key,
                None if found.login else url,
                f"no {section} in secrets.toml for it"
                + ("" if found.scheme != "snmp3" else "; write snmp3://NAME@HOST"),
            )
            return None
        return found

    def _complain(self, key: str, value: object, allowed: str) -> None:
        self.complaints.append(Complaint(self.path, key, value, allowed))


def _split(url: str, schemes: tuple[Scheme, ...]) -> _Url | None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    scheme = next((each for each in schemes if each == parts.scheme), None)
    beside_the_address = parts.path or parts.query or parts.fragment or parts.password is not None
    if scheme is None or not parts.hostname or beside_the_address or port == 0:
        return None
    return _Url(scheme, parts.username or "", parts.hostname, port or PORTS[scheme])


def _shared_addresses(path: Path, devices: list[Device]) -> list[Complaint]:
    first_at: dict[tuple[str, str, int], str] = {}
    complaints = []
    for each in devices:
        first = first_at.setdefault((each.kind, each.host, each.port), each.name)
        if first != each.name:
            allowed = f"{first} has this address too; one meter cannot be two"
            complaints.append(Complaint(path, each.name, f"{each.host}:{each.port}", allowed))
    return complaints
