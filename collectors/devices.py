# SPDX-License-Identifier: GPL-2.0-or-later
"""The devices a collector polls, as the inventory names them."""

from dataclasses import dataclass

from collectors.profile import Profile
from collectors.readings import Kind


@dataclass(frozen=True, slots=True)
class Device:
    """One meter: `r1.A` is the PDU of rack r1's feed A, `n01.bmc` the BMC of node n01."""

    name: str
    kind: Kind
    host: str
    port: int
    ceiling_w: int  #: more than this cannot be true


@dataclass(frozen=True, slots=True)
class Pdu(Device):
    profile_name: str
    profile: Profile


@dataclass(frozen=True, slots=True)
class Bmc(Device):
    pass
