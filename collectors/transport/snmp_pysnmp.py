# SPDX-License-Identifier: GPL-2.0-or-later
"""SNMP through pysnmp: the second engine, for odd agents. Dear: 1 ms of CPU and more per poll."""

from collections.abc import Mapping, Sequence

from pysnmp.hlapi.v1arch.asyncio import (
    CommunityData,
    ObjectIdentity,
    ObjectType,
    SnmpDispatcher,
    UdpTransportTarget,
    get_cmd,
)
from pysnmp.proto import rfc1905
from pysnmp.proto.api import v2c

from collectors.transport import NoAnswer, SnmpTarget

_ABSENT = (rfc1905.NoSuchObject, rfc1905.NoSuchInstance, rfc1905.EndOfMibView)


class PysnmpTransport:
    def __init__(self, target: SnmpTarget) -> None:
        self._target = target
        self._dispatcher: SnmpDispatcher | None = None

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        """One GET without retries."""
        # A dispatcher of its own for each agent: a shared one loses answers at ~160 in flight.
        self._dispatcher = self._dispatcher or SnmpDispatcher()
        target = self._target
        where = await UdpTransportTarget.create(
            (target.host, target.port), timeout=target.timeout_s, retries=0
        )
        error, status, _, bindings = await get_cmd(
            self._dispatcher,
            CommunityData(target.community, mpModel=1),
            where,
            *[ObjectType(ObjectIdentity(oid)) for oid in oids],
            lookupMib=False,
        )
        if error:
            raise NoAnswer(f"timed out after {target.timeout_s:g} s ({error})")
        if int(status):
            raise NoAnswer(f"answered with an error: {status.prettyPrint()}")
        return {str(oid): _plain(value) for oid, value in bindings if not _absent(value)}

    def close(self) -> None:
        if self._dispatcher is not None:
            self._dispatcher.close()
            self._dispatcher = None


def _absent(value: object) -> bool:
    return isinstance(value, _ABSENT) or type(value).__name__ == "Null"


def _plain(value: object) -> object:
    if isinstance(value, ObjectIdentity):
        value = value.get_oid()
    if isinstance(value, v2c.ObjectIdentifier):
        return str(value)
    if hasattr(value, "asOctets"):
        return value.asOctets()
    return int(value)  # type: ignore[call-overload]
