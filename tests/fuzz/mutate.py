# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutations of an SNMP answer: by its grammar (a tree of TLVs) and byte by byte."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.support import ber

_CONSTRUCTED = (ber.SEQUENCE, ber.GET, ber.GET_NEXT, ber.RESPONSE, ber.GET_BULK)
_ODD_INTEGERS = (
    *(0, 1, -1, 127, 128, 255, -128, 9_999, 65_535, 99_999, 2**31 - 1, 2**31, -(2**31)),
    *(2**32 - 1, 2**32, 2**53 + 1, 10**15, 2**63 - 1, 2**63, -(2**63), 2**64 - 1, 2**64, 2**200),
)
_ODD_TAGS = (0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x09, 0x0C, 0x1F, 0x30, 0x31, 0x40, 0x41, 0x42)
_ODD_TAGS += (0x43, 0x44, 0x45, 0x46, 0x47, 0x80, 0x81, 0x82, 0xA0, 0xA2, 0xA7, 0xA8, 0xFF)
_ODD_WORDS = (b"", b"0", b"1140", b"-5", b"1e9", b"NaN", b"inf", b"\xff\xfe", b"\x00" * 9)
_ODD_WORDS += (b"3.5", b"9" * 400, b"1.3.6.1", b"\xef\xbc\x91", b"A" * 5000)
_ODD_LENGTHS = (b"\x00", b"\x7f", b"\x80", b"\x81\xff", b"\x82\xff\xff", b"\x84\xff\xff\xff\xff")
_ODD_LENGTHS += (
    b"\x88" + b"\xff" * 8,
    b"\x88\x7f" + b"\xff" * 7,
    b"\xff" + b"\x01" * 127,
    b"\x81\x00",
)
_FLOAT_OPAQUES = (b"\x9f\x78\x04\x7f\x80\x00\x00", b"\x9f\x78\x04\x7f\xc0\x00\x00", b"\x9f\x78\x04")
_LARGEST_DATAGRAM = 65_000


@dataclass(slots=True)
class Node:
    """One TLV; a constructed one has children instead of a body."""

    tag: int
    body: bytes = b""
    children: list["Node"] = field(default_factory=list)
    length: bytes | None = None  #: said instead of the true one

    @property
    def constructed(self) -> bool:
        return self.tag in _CONSTRUCTED

    def encoded(self) -> bytes:
        body = b"".join(each.encoded() for each in self.children) if self.children else self.body
        size = ber.length(len(body)) if self.length is None else self.length
        return bytes((self.tag,)) + size + body

    def everything(self) -> list["Node"]:
        found = [self]
        for each in self.children:
            found += each.everything()
        return found


def tree(data: bytes) -> Node:
    """A whole answer as a tree. Raises NotBer."""
    tag, begin, end = ber.read(data, 0)
    return _node(data, tag, begin, end)


def _node(data: bytes, tag: int, begin: int, end: int) -> Node:
    node = Node(tag)
    if node.constructed:
        node.children = [_node(data, *each) for each in ber.children(data, begin, end)]
    else:
        node.body = data[begin:end]
    return node


def mutated(answer: bytes, chance: random.Random) -> list[bytes]:
    """The datagrams that are sent instead of the answer: mostly one."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if chance.random() < 0.7:
            answer = _by_grammar(answer, chance)
        else:
            answer = chance.choice(_RAW)(answer, chance)
    packets = [answer[:_LARGEST_DATAGRAM]]
    if chance.random() < 0.05:
        packets *= chance.randint(2, 20)
    return packets


def _by_grammar(answer: bytes, chance: random.Random) -> bytes:
    try:
        root = tree(answer)
        chance.choice(_GRAMMAR)(root, chance)
        return root.encoded()
    except (ber.NotBer, IndexError, ValueError, RecursionError):
        return _flip(answer, chance)  # it was broken before


def _values(root: Node) -> list[Node]:
    """The value of every variable binding."""
    return [each.children[1] for each in _bindings(root).children if len(each.children) == 2]


def _bindings(root: Node) -> Node:
    return root.children[2].children[3]


def _odd_integer(root: Node, chance: random.Random) -> None:
    value = chance.choice(_ODD_INTEGERS)
    if chance.random() < 0.3:
        value = chance.randint(-(2**34), 2**34)
    node = chance.choice(_values(root))
    node.children, node.body = [], ber.integer(value)[2:]
    if chance.random() < 0.7:
        node.tag = chance.choice((ber.INTEGER, ber.GAUGE32, ber.COUNTER32, ber.COUNTER64))


def _scaled_integer(root: Node, chance: random.Random) -> None:
    """A value that is off by a power of ten or has the wrong sign, as real firmware has them."""
    node = chance.choice(_values(root))
    value = int.from_bytes(node.body[:8], "big", signed=True)
    factor = chance.choice((-1, 10, 100, 1000, 10_000))
    node.body = ber.integer(value * factor)[2:]


def _odd_size(root: Node, chance: random.Random) -> None:
    chance.choice(_values(root)).body = chance.choice((b"", bytes(9), b"\x7f" * 20, b"\xff" * 1000))


def _odd_tag(root: Node, chance: random.Random) -> None:
    node = chance.choice(_values(root) if chance.random() < 0.7 else root.everything())
    node.tag = chance.choice(_ODD_TAGS)


def _words(root: Node, chance: random.Random) -> None:
    node = chance.choice(_values(root))
    node.tag, node.body, node.children = ber.OCTETS, chance.choice(_ODD_WORDS), []


def _opaque(root: Node, chance: random.Random) -> None:
    node = chance.choice(_values(root))
    node.tag, node.body, node.children = ber.OPAQUE, chance.choice(_FLOAT_OPAQUES), []


def _odd_name(root: Node, chance: random.Random) -> None:
    name = chance.choice(_bindings(root).children).children[0]
    body = bytearray(name.body)
    place = chance.randrange(len(body))
    body[place] = chance.choice((0, 1, body[place] ^ 1, 0x7F, 0x80, 0xFF))
    name.body = chance.choice((bytes(body), b"", name.body + b"\xff" * 300, name.body[:-1]))


def _shuffled(root: Node, chance: random.Random) -> None:
    """The right values under each other's names."""
    bindings = _bindings(root).children
    values = [each.children[1] for each in bindings]
    chance.shuffle(values)
    for each, value in zip(bindings, values, strict=True):
        each.children[1] = value


def _fewer(root: Node, chance: random.Random) -> None:
    bindings = _bindings(root)
    bindings.children = chance.sample(bindings.children, chance.randrange(len(bindings.children)))


def _more(root: Node, chance: random.Random) -> None:
    bindings = _bindings(root)
    bindings.children += [chance.choice(bindings.children)] * chance.choice((1, 7, 500))


def _header(root: Node, chance: random.Random) -> None:
    """Version, community, request id, error status or index."""
    pdu = root.children[2]
    place = chance.choice((root.children[0], root.children[1], *pdu.children[:3]))
    if place.tag == ber.OCTETS:
        place.body = chance.choice(_ODD_WORDS)
    else:
        place.body = ber.integer(chance.choice((*range(20), *_ODD_INTEGERS)))[2:]


def _kind(root: Node, chance: random.Random) -> None:
    root.children[2].tag = chance.choice((0xA0, 0xA1, 0xA3, 0xA4, 0xA5, 0xA6, 0xA7, 0xA8, 0x30))


def _length(root: Node, chance: random.Random) -> None:
    node = chance.choice(root.everything())
    node.length = chance.choice(_ODD_LENGTHS)


def _deep(root: Node, chance: random.Random) -> None:
    nest = b""
    for _ in range(chance.choice((3, 40, 2000))):
        nest = ber.tlv(ber.SEQUENCE, nest)
    node = chance.choice(root.everything())
    node.children, node.body = [], nest


_Grammar = Callable[[Node, random.Random], None]
_GRAMMAR: tuple[_Grammar, ...] = (
    *(_odd_integer, _odd_integer, _odd_integer, _scaled_integer, _scaled_integer, _odd_size),
    *(_odd_tag, _words, _opaque, _odd_name, _shuffled, _fewer, _more, _header, _kind, _length),
    _deep,
)


def _flip(data: bytes, chance: random.Random) -> bytes:
    flipped = bytearray(data or b"\x00")
    for _ in range(chance.choice((1, 1, 2, 8))):
        flipped[chance.randrange(len(flipped))] ^= 1 << chance.randrange(8)
    return bytes(flipped)


def _cut(data: bytes, chance: random.Random) -> bytes:
    return data[: chance.randrange(len(data) + 1)]


def _appended(data: bytes, chance: random.Random) -> bytes:
    return data + chance.randbytes(chance.choice((1, 100, 5000)))


def _replaced(data: bytes, chance: random.Random) -> bytes:
    kinds = (b"", b"\xff" * 1400, b"\x30\x80" * 700, chance.randbytes(len(data)), data * 3)
    return chance.choice(kinds)


def _inserted(data: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.randint(1, 8)) + data[at:]


_RAW = (_flip, _flip, _flip, _cut, _appended, _replaced, _inserted)
