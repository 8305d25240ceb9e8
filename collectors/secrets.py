# SPDX-License-Identifier: GPL-2.0-or-later
"""Logins of the devices: read from secrets.toml, and from nowhere else.

A device's URL names an entry, never a secret: `ipmi://rack7@HOST` is asked with [ipmi.rack7],
`ipmi://HOST` with [ipmi] itself.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from collectors.devices import Device, Scheme
from collectors.transport import AuthProtocol, PrivProtocol, SnmpUser

_DELIVERED = Path(__file__).with_name("default_logins.toml")


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SnmpSecret(_Entry):
    community: SecretStr = Field(min_length=1)


class Snmp3Secret(_Entry):
    user: str = Field("", max_length=32, description="the entry's name when left out")
    auth_protocol: AuthProtocol = "SHA"
    auth_password: SecretStr = Field(min_length=8, description="RFC 3414 wants 8 characters")
    priv_protocol: PrivProtocol = "AES128"
    priv_password: SecretStr = Field(min_length=8)


class IpmiSecret(_Entry):
    user: str = Field(min_length=1, max_length=16)
    password: SecretStr = Field(max_length=20)


class RedfishSecret(_Entry):
    user: str = Field(min_length=1)
    password: SecretStr
    session: bool = Field(False, description="true: log in once; BMCs allow only a few sessions")
    tls: bool = Field(True, description="false: plain HTTP, for simulators only")
    verify: bool = Field(True, description="false: any certificate is believed")
    ca_file: Path | None = Field(None, description="who signs the devices' certificates")


class _WithGroups(BaseModel):
    """A section whose tables are entries of their own: [ipmi] and [ipmi.rack7]."""

    model_config = ConfigDict(extra="allow", frozen=True)


class SnmpSecrets(_WithGroups):
    __pydantic_extra__: dict[str, SnmpSecret]
    community: SecretStr | None = Field(None, min_length=1)


class IpmiSecrets(_WithGroups):
    __pydantic_extra__: dict[str, IpmiSecret]
    user: str | None = Field(None, min_length=1, max_length=16)
    password: SecretStr | None = Field(None, max_length=20)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.user is None) is not (self.password is None):
            raise ValueError("user and password belong together")
        return self


class RedfishSecrets(_WithGroups):
    __pydantic_extra__: dict[str, RedfishSecret]
    user: str | None = Field(None, min_length=1)
    password: SecretStr | None = None
    session: bool = False
    tls: bool = True
    verify: bool = True
    ca_file: Path | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.user is None) is not (self.password is None):
            raise ValueError("user and password belong together")
        return self


class SecretsFile(_Entry):
    snmp: SnmpSecrets = SnmpSecrets()
    snmp3: dict[str, Snmp3Secret] = {}
    ipmi: IpmiSecrets = IpmiSecrets()
    redfish: RedfishSecrets = RedfishSecrets()

    def has(self, scheme: Scheme, entry: str) -> bool:
        """Whether there is something to ask a device with."""
        return scheme == "nvml" or self._entry(scheme, entry) is not None

    def community(self, device: Device) -> str:
        secret = self._entry("snmp", device.login)
        assert isinstance(secret, SnmpSecret)
        return secret.community.get_secret_value()

    def snmp_user(self, device: Device) -> SnmpUser:
        secret = self._entry("snmp3", device.login)
        assert isinstance(secret, Snmp3Secret)
        return SnmpUser(
            secret.user or device.login,
            secret.auth_password.get_secret_value(),
            secret.priv_password.get_secret_value(),
            secret.auth_protocol,
            secret.priv_protocol,
        )

    def login(self, device: Device) -> "Login":
        """User and password of a BMC."""
        secret = self._entry("ipmi", device.login)
        assert isinstance(secret, IpmiSecret)
        return Login(secret.user, secret.password.get_secret_value())

    def redfish_secret(self, device: Device) -> RedfishSecret:
        secret = self._entry("redfish", device.login)
        assert isinstance(secret, RedfishSecret)
        return secret

    def _entry(self, scheme: Scheme, name: str) -> _Entry | None:
        if scheme == "snmp3":
            return self.snmp3.get(name)
        if scheme == "snmp":
            return self.snmp.__pydantic_extra__.get(name) if name else _snmp_default(self.snmp)
        if scheme == "ipmi":
            return self.ipmi.__pydantic_extra__.get(name) if name else _ipmi_default(self.ipmi)
        return self.redfish.__pydantic_extra__.get(name) if name else _redfish_default(self.redfish)


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str = field(repr=False)


def warnings(devices: Iterable[Device], secrets: SecretsFile) -> list[str]:
    """What an attacker would try first, by device: one line for each kind of weakness."""
    found: dict[str, list[str]] = {}
    for device in devices:
        for weakness in _weaknesses(device, secrets):
            found.setdefault(weakness, []).append(device.name)
    return [f"{_names(names)}: {weakness}" for weakness, names in found.items()]


def _weaknesses(device: Device, secrets: SecretsFile) -> Iterable[str]:
    match device.scheme:
        case "snmp":
            if secrets.community(device).lower() in _delivered()[0]:
                yield "SNMP v2c with a default community, which also may write; use snmp3://"
            else:
                # We never send a SET, so whether it may write only the device's own pages tell.
                yield (
                    "SNMP v2c: its community can be read on the wire, and may write where the"
                    " device allows it; make it read-only there, or use snmp3://"
                )
        case "ipmi":
            login = secrets.login(device)
            if _delivered_with(login.user, login.password):
                yield "IPMI with a default password; change it on the BMC"
        case "redfish":
            secret = secrets.redfish_secret(device)
            if _delivered_with(secret.user, secret.password.get_secret_value()):
                yield "Redfish with a default password; change it on the device"
            if not secret.tls:
                yield "Redfish without TLS: its password can be read on the wire"
            elif not secret.verify:
                yield "Redfish with any certificate: set ca_file in secrets.toml"


def _delivered_with(user: str, password: str) -> bool:
    return not password or (user.lower(), password.lower()) in _delivered()[1]


@cache
def _delivered() -> tuple[frozenset[str], frozenset[tuple[str, str]]]:
    """Communities and logins that devices come with."""
    known = tomllib.loads(_DELIVERED.read_text())
    logins = frozenset((user, password) for user, password in known["logins"])
    return frozenset(known["communities"]), logins


def _names(names: list[str], most: int = 8) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _snmp_default(section: SnmpSecrets) -> SnmpSecret | None:
    return SnmpSecret(community=section.community) if section.community else None


def _ipmi_default(section: IpmiSecrets) -> IpmiSecret | None:
    if section.user is None or section.password is None:
        return None
    return IpmiSecret(user=section.user, password=section.password)


def _redfish_default(section: RedfishSecrets) -> RedfishSecret | None:
    if section.user is None or section.password is None:
        return None
    return RedfishSecret(
        user=section.user,
        password=section.password,
        session=section.session,
        tls=section.tls,
        verify=section.verify,
        ca_file=section.ca_file,
    )
