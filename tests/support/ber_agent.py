# SPDX-License-Identifier: GPL-2.0-or-later
"""An SNMP v2c agent's answers (RFC 3416), without a library and fast enough for thousands."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.support import ber

BULK_AT_MOST = 100

Encode = Callable[[ber.Arcs], bytes | None]  #: the value's TLV, None where there is no object


@dataclass(frozen=True, slots=True)
class Request:
    kind: int
    header: bytes  #: version and community as they came
    request_id: bytes  #: its TLV as it came
    names: list[ber.Arcs]
    repeats: int


def parsed(packet: bytes) -> Request:
    """Raises NotBer or IndexError for what is no v1 or v2c request."""
    _, begin, _ = ber.read(packet, 0)
    _, _, version_end = ber.read(packet, begin)
    _, _, community_end = ber.read(packet, version_end)
    kind, at, _ = ber.read(packet, community_end)
    _, _, id_end = ber.read(packet, at)
    _, _, first_end = ber.read(packet, id_end)
    _, second, second_end = ber.read(packet, first_end)
    repeats = int.from_bytes(packet[second:second_end], "big") if kind == ber.GET_BULK else 1
    _, list_begin, list_end = ber.read(packet, second_end)
    names = []
    for _, inner, _ in ber.children(packet, list_begin, list_end):
        _, name_begin, name_end = ber.read(packet, inner)
        names.append(ber.arcs_of(packet[name_begin:name_end]))
    header, request_id = packet[begin:community_end], packet[at:id_end]
    return Request(kind, header, request_id, names, min(repeats, BULK_AT_MOST))


def answer(request: Request, order: Sequence[ber.Arcs], encode: Encode) -> bytes:
    """The answer of an agent whose objects, in order, are these."""
    found = b"".join(_found(request, order, encode))
    body = request.request_id + b"\x02\x01\x00\x02\x01\x00" + ber.tlv(ber.SEQUENCE, found)
    return ber.tlv(ber.SEQUENCE, request.header + ber.tlv(ber.RESPONSE, body))


def _found(request: Request, order: Sequence[ber.Arcs], encode: Encode) -> Iterator[bytes]:
    if request.kind == ber.GET:
        for name in request.names:
            yield ber.tlv(ber.SEQUENCE, ber.oid(name) + (encode(name) or b"\x81\x00"))
        return
    for name in request.names:
        for _ in range(request.repeats):
            place = bisect_right(order, name)
            if place == len(order):
                yield ber.tlv(ber.SEQUENCE, ber.oid(name) + b"\x82\x00")
                break
            name = order[place]
            yield ber.tlv(ber.SEQUENCE, ber.oid(name) + (encode(name) or b"\x05\x00"))
