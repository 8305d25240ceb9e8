# SPDX-License-Identifier: GPL-2.0-or-later
"""How a device is asked, one file per library. A transport carries values, it knows no vendor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


class NoAnswer(Exception):
    """A poll that brought nothing to store; says why in a few words."""


@dataclass(frozen=True, slots=True)
class SnmpTarget:
    host: str
    port: int
    community: str
    timeout_s: float


class SnmpTransport(Protocol):
    """One SNMP agent."""

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        """One GET, never repeated: an answer stored is an answer given. Raises NoAnswer.

        Objects that the agent does not have are left out of the mapping.
        """

    def close(self) -> None:
        """Give up the socket."""


class SnmpEngine(Protocol):
    def __call__(self, target: SnmpTarget) -> SnmpTransport: ...


def snmp_engine(name: str) -> SnmpEngine:
    """The engine a configuration names; a library not chosen is not imported."""
    if name == "pysnmp":
        from collectors.transport.snmp_pysnmp import PysnmpTransport

        return PysnmpTransport
    from collectors.transport.snmp_gufo import GufoTransport

    return GufoTransport
