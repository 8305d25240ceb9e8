# SPDX-License-Identifier: GPL-2.0-or-later
"""BER as SNMP uses it (RFC 3416, X.690), for simulated agents; without a library."""

from collections.abc import Iterator

INTEGER, OCTETS, NULL, OID, SEQUENCE = 0x02, 0x04, 0x05, 0x06, 0x30
COUNTER32, GAUGE32, TIMETICKS, OPAQUE, COUNTER64 = 0x41, 0x42, 0x43, 0x44, 0x46
NO_SUCH_OBJECT, NO_SUCH_INSTANCE, END_OF_MIB = 0x80, 0x81, 0x82
GET, GET_NEXT, RESPONSE, GET_BULK = 0xA0, 0xA1, 0xA2, 0xA5

Arcs = tuple[int, ...]


class NotBer(Exception):
    """The bytes end before what they announce."""


def length(count: int) -> bytes:
    if count < 0x80:
        return bytes((count,))
    digits = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(digits),)) + digits


def tlv(tag: int, body: bytes) -> bytes:
    return bytes((tag,)) + length(len(body)) + body


def integer(value: int, tag: int = INTEGER) -> bytes:
    return tlv(tag, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def oid(arcs: Arcs) -> bytes:
    body = bytearray(_base128(arcs[0] * 40 + arcs[1]))
    for arc in arcs[2:]:
        body += _base128(arc)
    return tlv(OID, bytes(body))


def arcs_of(body: bytes) -> Arcs:
    """An object identifier's arcs from the content of its TLV."""
    found, arc = [], 0
    for octet in body:
        arc = arc << 7 | octet & 0x7F
        if octet < 0x80:
            found.append(arc)
            arc = 0
    first = min(found[0] // 40, 2)
    return (first, found[0] - 40 * first, *found[1:])


def dotted(text: str) -> Arcs:
    return tuple(int(each) for each in text.strip(".").split("."))


def read(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, begin and end of the content of the TLV at `at`."""
    try:
        tag, size, begin = data[at], data[at + 1], at + 2
        if size >= 0x80:
            digits = size & 0x7F
            size, begin = int.from_bytes(data[begin : begin + digits], "big"), begin + digits
    except IndexError as why:
        raise NotBer(f"{len(data)} bytes end within a TLV at {at}") from why
    if begin + size > len(data):
        raise NotBer(f"a TLV at {at} announces {size} bytes of {len(data) - begin}")
    return tag, begin, begin + size


def children(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    while begin < end:
        tag, inner, begin = read(data, begin)
        yield tag, inner, begin


def _base128(arc: int) -> bytes:
    octets = [arc & 0x7F]
    while arc := arc >> 7:
        octets.append(0x80 | arc & 0x7F)
    return bytes(reversed(octets))
