# SPDX-License-Identifier: GPL-2.0-or-later
"""pysnmp's small architecture: v2c only, a third of the CPU of the full one."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pysnmp.hlapi.v1arch.asyncio import (
    CommunityData,
    SnmpDispatcher,
    Udp6TransportTarget,
    UdpTransportTarget,
    bulk_cmd,
    get_cmd,
)
from pysnmp.proto.api import v2c

from collectors.transport import SnmpTarget
from collectors.transport.address import address_of
from collectors.transport.walk import ROWS_PER_REQUEST


class V2cAsker:
    def __init__(self, target: SnmpTarget) -> None:
        self._target = target
        self._dispatcher = SnmpDispatcher()
        self._community = CommunityData(target.community, mpModel=1)
        self._agent: Any = None

    async def get(self, oids: Sequence[str]) -> tuple[Any, Any, Any, Any]:
        asked = [(v2c.ObjectIdentifier(oid), v2c.Null("")) for oid in oids]
        answer: tuple[Any, Any, Any, Any] = await get_cmd(
            self._dispatcher, self._community, await self._where(), *asked, lookupMib=False
        )
        return answer

    async def bulk(self, oid: str) -> tuple[Any, Any, Any, Any]:
        answer: tuple[Any, Any, Any, Any] = await bulk_cmd(
            self._dispatcher,
            self._community,
            await self._where(),
            0,
            ROWS_PER_REQUEST,
            (v2c.ObjectIdentifier(oid), v2c.Null("")),
            lookupMib=False,
        )
        return answer

    def close(self) -> None:
        # pysnmp 7.1 tells a request under way of its end with an argument too few; by then all
        # sockets are closed.
        with suppress(TypeError):
            self._dispatcher.close()

    async def _where(self) -> Any:
        if self._agent is None:
            target = self._target
            address = await address_of(target.host)
            kind = Udp6TransportTarget if ":" in address else UdpTransportTarget
            self._agent = await kind.create(
                (address, target.port), timeout=target.timeout_s, retries=0
            )
            self._agent.PROTO_TRANSPORT = _hears_only(
                kind.PROTO_TRANSPORT, self._agent.transport_address
            )
        return self._agent


def _hears_only(transport: type[Any], agent: tuple[str, int]) -> type[Any]:
    """pysnmp believes whoever knows the request's number, wherever the answer comes from."""

    def datagram_received(self: Any, datagram: bytes, sender: Any) -> None:
        if tuple(sender[:2]) == tuple(agent[:2]):
            transport.datagram_received(self, datagram, sender)

    return type("HearsOnly", (transport,), {"datagram_received": datagram_received})
