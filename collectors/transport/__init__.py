# SPDX-License-Identifier: GPL-2.0-or-later
"""How a device is asked, one file per library. A transport carries values, it knows no vendor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

WALK_AT_MOST = 20_000  #: objects under one root; the largest recorded PDU has half of that

AuthProtocol = Literal["MD5", "SHA", "SHA256", "SHA512"]
PrivProtocol = Literal["DES", "AES128"]


class NoAnswer(Exception):
    """A poll that brought nothing to store; says why in a few words."""


@dataclass(frozen=True, slots=True)
class SnmpUser:
    """Who asks in SNMPv3, always authPriv. Passwords stay out of repr: that is what logs show."""

    name: str
    auth_password: str = field(repr=False)
    priv_password: str = field(repr=False)
    auth_protocol: AuthProtocol = "SHA"
    priv_protocol: PrivProtocol = "AES128"


@dataclass(frozen=True, slots=True)
class SnmpTarget:
    """One agent: v2c with a community, or v3 with a user."""

    host: str
    port: int
    community: str = field(repr=False)
    timeout_s: float
    user: SnmpUser | None = None
    context: str = ""  #: of SNMPv3, which one agent may have several of; pysnmp only

    @property
    def version(self) -> Literal["2c", "3"]:
        return "2c" if self.user is None else "3"


class SnmpTransport(Protocol):
    """One SNMP agent."""

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        """One GET; an engine never repeats it, see `HedgedTransport`. Raises NoAnswer.

        Objects that the agent does not have are left out of the mapping.
        """

    async def walk(self, oid: str, *, at_most: int = WALK_AT_MOST) -> Sequence[tuple[str, object]]:
        """Everything under an object, in order, by GETBULK; a lost packet is asked for again.

        Raises NoAnswer also for an agent that goes in circles, backwards, or past `at_most`.
        """

    def close(self) -> None:
        """Give up the socket."""


class SnmpEngine(Protocol):
    def __call__(self, target: SnmpTarget) -> SnmpTransport: ...


def snmp_engine(name: str, *, attempts: int = 1) -> SnmpEngine:
    """The engine a configuration names, asking up to `attempts` times within a timeout."""
    engine = _bare_engine(name)
    if attempts == 1:
        return engine
    from collectors.transport.hedged import HedgedTransport

    return lambda target: HedgedTransport(engine, target, attempts)


def _bare_engine(name: str) -> SnmpEngine:
    """A library not chosen is not imported."""
    if name == "pysnmp":
        from collectors.transport.snmp_pysnmp import PysnmpTransport

        return PysnmpTransport
    from collectors.transport.snmp_gufo import GufoTransport

    return GufoTransport
