# SPDX-License-Identifier: GPL-2.0-or-later
"""What is mutated: devices' true answers, recorded where the recordings are, else our own."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from collectors.profile import load_profiles
from tests.bench.agents import OBJECTS, Device
from tests.support import ber

_SYS_OBJECT_ID = ber.dotted("1.3.6.1.2.1.1.2.0")
_TAGS = {
    "2": 2,
    "4": 4,
    "4x": 4,
    "6": 6,
    "64": 0x40,
    "65": 0x41,
    "66": 0x42,
    "67": 0x43,
    "70": 0x46,
}


@dataclass(frozen=True, slots=True)
class Seed:
    """One device's objects, in order, each value as its TLV."""

    name: str
    profile: str
    values: Mapping[ber.Arcs, bytes]
    order: tuple[ber.Arcs, ...]


def own_seeds() -> list[Seed]:
    device, at_s = Device(1), 1e9
    values = {ber.dotted(name): encode(device, at_s) for name, encode in OBJECTS.items()}
    values |= {ber.dotted("1.3.6.1.2.1.1.3.0"): ber.integer(100_000, ber.TIMETICKS)}
    values |= {ber.dotted("1.3.6.1.4.1.318.1.1.26.4.3.1.9.1"): ber.integer(19_677)}
    raritan = {
        "1.3.6.1.2.1.1.2.0": ber.oid(ber.dotted("1.3.6.1.4.1.13742.6")),
        "1.3.6.1.2.1.1.3.0": ber.integer(100_000, ber.TIMETICKS),
        **{f"1.3.6.1.4.1.13742.6.3.3.4.1.7.1.1.{n}": ber.integer(n == 1) for n in (1, 4, 5, 6, 8)},
        "1.3.6.1.4.1.13742.6.5.2.3.1.4.1.1.1": ber.integer(72, ber.GAUGE32),
        "1.3.6.1.4.1.13742.6.5.2.3.1.4.1.1.4": ber.integer(230, ber.GAUGE32),
        "1.3.6.1.4.1.13742.6.5.2.3.1.4.1.1.5": ber.integer(1623, ber.GAUGE32),
        "1.3.6.1.4.1.13742.6.5.2.3.1.4.1.1.6": ber.integer(1656, ber.GAUGE32),
        "1.3.6.1.4.1.13742.6.5.2.3.1.4.1.1.8": ber.integer(27_001_000, ber.GAUGE32),
    }
    return [
        _seed("own apc-rpdu2", "apc-rpdu2", values),
        _seed("own raritan-px3", "raritan-px3", {ber.dotted(k): v for k, v in raritan.items()}),
    ]


def recorded_seeds(folder: Path) -> list[Seed]:
    """Every recording of a folder that a shipped profile recognises."""
    profiles = load_profiles()
    found = []
    for path in sorted(folder.glob("*.snmprec")):
        values = _recorded(path)
        identity = values.get(_SYS_OBJECT_ID, b"\x06\x01\x00")
        name = ".".join(map(str, ber.arcs_of(identity[2:])))
        for profile_name, profile in profiles.items():
            if profile.recognises(name):
                found.append(_seed(path.stem, profile_name, values))
                break
    return found


def seeds(shared: Path | None) -> list[Seed]:
    recorded = recorded_seeds(shared / "data" / "pdu") if shared else []
    return own_seeds() + recorded


def _seed(name: str, profile: str, values: Mapping[ber.Arcs, bytes]) -> Seed:
    return Seed(name, profile, values, tuple(sorted(values)))


def _recorded(path: Path) -> dict[ber.Arcs, bytes]:
    values = {}
    for line in path.read_text(errors="replace").splitlines():
        name, tag, text = line.split("|", 2)
        if tag in _TAGS:
            values[ber.dotted(name)] = _value(tag, text)
    return values


def _value(tag: str, text: str) -> bytes:
    if tag == "4x":
        return ber.tlv(ber.OCTETS, bytes.fromhex(text))
    if tag == "4":
        return ber.tlv(ber.OCTETS, text.encode())
    if tag == "6":
        return ber.oid(ber.dotted(text))
    if tag == "64":
        return ber.tlv(0x40, bytes(int(each) for each in text.split(".")))
    return ber.integer(int(text), _TAGS[tag])
