# SPDX-License-Identifier: GPL-2.0-or-later
"""The devices a collector polls, as the inventory names them."""

from dataclasses import dataclass, field
from typing import Literal

from collectors.profile import Profile
from collectors.readings import Kind

Scheme = Literal["snmp", "snmp3", "ipmi", "redfish", "nvml"]
PORTS: dict[Scheme, int] = {"snmp": 161, "snmp3": 161, "ipmi": 623, "redfish": 443, "nvml": 0}


@dataclass(frozen=True, slots=True)
class Device:
    """One meter: `r1.A` is the PDU of rack r1's feed A, `n01.bmc` the BMC of node n01."""

    name: str
    kind: Kind
    host: str
    port: int
    ceiling_w: int  #: more than this cannot be true
    scheme: Scheme = field(default="snmp", kw_only=True)
    login: str = field(default="", kw_only=True)  #: its entry in secrets.toml, never a secret


@dataclass(frozen=True, slots=True)
class Pdu(Device):
    profile_name: str = ""  #: left out: it is recognised
    profile: Profile | None = None


@dataclass(frozen=True, slots=True)
class Bmc(Device):
    pass


@dataclass(frozen=True, slots=True)
class Meter(Device):
    """A PDU or BMC read over Redfish, or the GPUs of this node: no profile is needed."""
