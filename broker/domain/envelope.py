# SPDX-License-Identifier: GPL-2.0-or-later
"""A job's power envelope: what its user wrote in --comment, and the charge that follows.

slurm_plugin/power_broker/envelope.lua is the same in Lua; one table of cases and random input
run through both (tests/unit/hook), so change them together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from broker.domain.admission_state import NodeType, PowerClass

MOST_COMMENT_BYTES = (
    1024  # Slurm refuses longer ones, after the hook and in words nobody understands
)
MOST_VALUE_BYTES = 40
MOST_POWER_W = 1_000_000_000
TIERS = ("gold", "silver", "bronze")
KEYS = ("est", "max", "headroom", "tier", "class", "deadline", "preempt", "burst")
JSON_KEYS = {
    "estimatedPowerKW": "est",
    "maxPowerKW": "max",
    "minRackHeadroomKW": "headroom",
    "priority": "tier",
    "class": "class",
    "deadline": "deadline",
    "preemptible": "preempt",
    "burst": "burst",
}
_UNMISTAKABLE = ('"estimatedPowerKW"', '"maxPowerKW"', '"minRackHeadroomKW"')
_SCALE_W = {"W": 1, "kW": 1_000, "MW": 1_000_000}
_WORD_BYTES = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
_NO_VALUE = "\n"  # no value can be that: the envelope is printable

_POWER = re.compile(r"([0-9]+)(?:\.([0-9]{1,6}))?([A-Za-z]+)((?:/[A-Za-z]+)?)")
_KILOWATTS = re.compile(r"([0-9]+)(?:\.([0-9]{1,6}))?")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
_DEADLINE = re.compile(r"(20[0-9]{2})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?")
_BURST = re.compile(r"([0-9]{1,4})s@(.+)")

_A_POWER = "must be a plain number above 0 with its unit W, kW or MW right after it, such as 18.5kW"
_A_POWER_OR_NODE = _A_POWER + " or 4kW/node"
_A_NUMBER_OF_KW = "must be a plain number of kW above 0, such as 18.5"
_TOO_MUCH = "must be at most 1,000,000,000 W"
_A_TIER = "must be gold, silver or bronze"
_A_CLASS = "must be a name of at most 32 letters, digits, _ and -"
_A_DEADLINE = "must be a time such as 2026-12-01T18:00"
_A_YES = "must be yes or no"
_A_TRUTH = "must be true or false"
_A_BURST = "must be 1 to 3600 seconds and a power, such as 30s@26kW"
_A_KEY = "is not a key of an envelope; allowed are " + ", ".join(KEYS)
_A_JSON_KEY = "is not a key of an envelope; allowed are " + ", ".join(JSON_KEYS)
_A_WORD = "must be key=value; the keys are " + ", ".join(KEYS)
_ONCE = "is given twice; give each key once"
_FLAT_JSON = "must be one flat JSON object with the keys " + ", ".join(JSON_KEYS)
_ASCII = "must be printable ASCII"
_SHORT = "must be at most 1,024 bytes long"


class BadEnvelope(ValueError):
    """An envelope that cannot be understood: which key, what it says, what is allowed."""

    reason: ClassVar[str] = "BadEnvelope"

    def __init__(self, key: str, value: str, allowed: str) -> None:
        self.key = _shown(key)
        self.value = _shown(value)
        self.allowed = allowed
        super().__init__(
            f"{self.key}={self.value}: {allowed}" if value else f"{self.key} {allowed}"
        )


@dataclass(frozen=True, slots=True)
class Envelope:
    """What the user declared; None is what he left out."""

    est_w: int | None = None
    est_per_node: bool = False
    max_w: int | None = None
    max_per_node: bool = False
    headroom_w: int | None = None
    tier: str | None = None
    power_class: str | None = None
    deadline: str | None = None
    preempt: bool | None = None
    burst_s: int | None = None  #: checked and kept; granted only once nodes have verified caps
    burst_w: int | None = None


@dataclass(frozen=True, slots=True)
class Figures:
    """The admitted envelope of a whole job, idle of its nodes included; tokens are a node's."""

    est_w: int
    max_w: int
    charge_w: int
    tokens_w_per_node: int
    nodes: int


def parse_envelope(comment: str | None) -> Envelope | None:
    """The envelope in a comment, or None where there is none; raises BadEnvelope."""
    if not comment:
        return None
    text = _as_bytes(comment)
    if len(text) > MOST_COMMENT_BYTES:
        raise BadEnvelope("comment", f"{len(text)} bytes", _SHORT)
    start = _after_marker(text)
    if start is None:
        return _parse_bare_json(text)
    body = text[start:].strip(" \t")
    _refuse_unprintable(body)
    pairs = _json_pairs(body) if body.startswith("{") else _word_pairs(body)
    if pairs is None:
        raise BadEnvelope("power", body, _FLAT_JSON)
    if not pairs:
        raise BadEnvelope("power", "", _A_WORD)
    return _json_envelope(pairs) if body.startswith("{") else _word_envelope(pairs)


def complete(
    envelope: Envelope | None, nodes: int, node_type: NodeType, classes: Sequence[PowerClass] = ()
) -> Figures:
    """Fill in what was left out and work out the charge; raises BadEnvelope."""
    declared = envelope or Envelope()
    defaults = _class_of(declared, classes)
    full_w = nodes * node_type.max_w
    most_w = _total(declared.max_w, declared.max_per_node, nodes)
    if most_w is None:
        most_w = _share(full_w, defaults.max_share) if declared.power_class else full_w
    est_w = _total(declared.est_w, declared.est_per_node, nodes)
    if est_w is None:
        est_w = _share(most_w, defaults.est_share) if envelope else most_w
    if declared.max_w is not None and est_w > most_w:
        raise BadEnvelope("est", f"{est_w}W", f"must not be above max, which is {most_w} W")
    # A node cannot draw more than its maximum, whatever is declared, and never less than idle.
    most_w = min(max(most_w, est_w), full_w)
    est_w = min(est_w, most_w)
    charge_w = max(most_w, nodes * node_type.idle_w)
    per_node_w = min(-(-charge_w // nodes), node_type.max_w)
    return Figures(est_w, most_w, charge_w, max(1, per_node_w - node_type.idle_w), nodes)


def _class_of(declared: Envelope, classes: Sequence[PowerClass]) -> PowerClass:
    wanted = declared.power_class or "default"
    for each in classes:
        if each.name == wanted:
            return each
    if declared.power_class:
        names = ", ".join(each.name for each in classes) or "none"
        raise BadEnvelope("class", wanted, f"must be a class of this site: {names}")
    return PowerClass("default")


def _total(power_w: int | None, per_node: bool, nodes: int) -> int | None:
    if power_w is None:
        return None
    return power_w * nodes if per_node else power_w


def _share(power_w: int, share: float) -> int:
    scaled = power_w * share
    return int(scaled) + (scaled > int(scaled))


# --- from text to pairs -------------------------------------------------------------------------


def _as_bytes(comment: str) -> str:
    """One character per byte, as Lua sees the comment."""
    try:
        raw = comment.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raw = comment.encode("utf-8", "replace")
    return raw.decode("latin-1")


def _after_marker(text: str) -> int | None:
    """Where the envelope starts: after the first `power:` that is a word of its own."""
    at = text.find("power:")
    while at > 0 and text[at - 1] in _WORD_BYTES:
        at = text.find("power:", at + 1)
    return None if at < 0 else at + len("power:")


def _refuse_unprintable(body: str) -> None:
    if any(not (" " <= each <= "~" or each == "\t") for each in body):
        raise BadEnvelope("power", body, _ASCII)


def _word_pairs(body: str) -> list[tuple[str, str]]:
    """Keys and values; a word without `=` is a key of its own, refused when its turn comes."""
    words = (word.partition("=") for word in re.split(r"[ \t]+", body) if word)
    return [(key, value if equals else _NO_VALUE) for key, equals, value in words]


def _parse_bare_json(text: str) -> Envelope | None:
    """A comment that is nothing but a JSON object is ours if it has one of our keys."""
    body = text.strip(" \t")
    if not body.startswith("{"):
        return None
    pairs = _json_pairs(body)
    if pairs is None:
        if not any(key in body for key in _UNMISTAKABLE):
            return None
        _refuse_unprintable(body)
        raise BadEnvelope("comment", body, _FLAT_JSON)
    if not any(key in JSON_KEYS for key, _ in pairs):
        return None
    _refuse_unprintable(body)
    return _json_envelope(pairs)


_JSON_PAIR = re.compile(r'[ \t]*"([^"\\]*)"[ \t]*:[ \t]*("[^"\\]*"|[^",{}\[\] \t]+)[ \t]*')


def _json_pairs(body: str) -> list[tuple[str, str]] | None:
    """Keys and raw values of a flat object, or None. Ours need no escapes and no nesting."""
    if re.fullmatch(r"\{[ \t]*\}", body):
        return []
    pairs, at = [], 1
    while match := _JSON_PAIR.match(body, at):
        pairs.append((match[1], match[2]))
        at = match.end()
        if body[at : at + 1] == "}":
            return pairs if at + 1 == len(body) and body.startswith("{") else None
        if body[at : at + 1] != ",":
            return None
        at += 1
    return None


# --- from pairs to an envelope ------------------------------------------------------------------


def _word_envelope(pairs: list[tuple[str, str]]) -> Envelope:
    envelope, seen = Envelope(), set()
    for key, value in pairs:
        if value == _NO_VALUE:
            raise BadEnvelope(key, "", _A_WORD)
        if key not in _READ:
            raise BadEnvelope(key, value, _A_KEY)
        if key in seen:
            raise BadEnvelope(key, value, _ONCE)
        seen.add(key)
        envelope = _READ[key](envelope, key, value)
    return _refuse_est_above_max(envelope)


def _json_envelope(pairs: list[tuple[str, str]]) -> Envelope:
    envelope, seen = Envelope(), set()
    for key, raw in pairs:
        if key not in JSON_KEYS:
            raise BadEnvelope(key, raw, _A_JSON_KEY)
        if key in seen:
            raise BadEnvelope(key, raw, _ONCE)
        seen.add(key)
        envelope = _READ_JSON.get(key, _read_json_string)(envelope, key, raw)
    return _refuse_est_above_max(envelope)


def _refuse_est_above_max(envelope: Envelope) -> Envelope:
    est_w, max_w = envelope.est_w, envelope.max_w
    if est_w is None or max_w is None or envelope.est_per_node != envelope.max_per_node:
        return envelope
    if est_w > max_w:
        raise BadEnvelope("est", f"{est_w}W", f"must not be above max, which is {max_w} W")
    return envelope


def _watts(whole: str, fraction: str | None, scale_w: int) -> int | None:
    """Exact in whole numbers, rounded up; None where it is beyond all reason."""
    digits = whole.lstrip("0")
    if len(digits) > 9:
        return None
    millionths = int(((fraction or "") + "000000")[:6])
    power_w = int(digits or "0") * scale_w - (-millionths * scale_w // 1_000_000)
    return power_w if power_w <= MOST_POWER_W else None


def _power(key: str, value: str, *, per_node_allowed: bool, allowed: str) -> tuple[int, bool]:
    match = _POWER.fullmatch(value) if len(value) <= MOST_VALUE_BYTES else None
    if not match or match[3] not in _SCALE_W:
        raise BadEnvelope(key, value, allowed)
    if match[4] and not (per_node_allowed and match[4] == "/node"):
        raise BadEnvelope(key, value, allowed)
    power_w = _watts(match[1], match[2], _SCALE_W[match[3]])
    if power_w is None:
        raise BadEnvelope(key, value, _TOO_MUCH)
    return power_w, bool(match[4])


def _read_est(envelope: Envelope, key: str, value: str) -> Envelope:
    power_w, per_node = _power(key, value, per_node_allowed=True, allowed=_A_POWER_OR_NODE)
    if power_w == 0:
        raise BadEnvelope(key, value, _A_POWER_OR_NODE)
    return replace(envelope, est_w=power_w, est_per_node=per_node)


def _read_max(envelope: Envelope, key: str, value: str) -> Envelope:
    power_w, per_node = _power(key, value, per_node_allowed=True, allowed=_A_POWER_OR_NODE)
    if power_w == 0:
        raise BadEnvelope(key, value, _A_POWER_OR_NODE)
    return replace(envelope, max_w=power_w, max_per_node=per_node)


def _read_headroom(envelope: Envelope, key: str, value: str) -> Envelope:
    power_w, _ = _power(key, value, per_node_allowed=False, allowed=_A_POWER)
    return replace(envelope, headroom_w=power_w)


def _read_tier(envelope: Envelope, key: str, value: str) -> Envelope:
    if value not in TIERS:
        raise BadEnvelope(key, value, _A_TIER)
    return replace(envelope, tier=value)


def _read_class(envelope: Envelope, key: str, value: str) -> Envelope:
    if not _NAME.fullmatch(value):
        raise BadEnvelope(key, value, _A_CLASS)
    return replace(envelope, power_class=value)


def _read_deadline(envelope: Envelope, key: str, value: str) -> Envelope:
    match = _DEADLINE.fullmatch(value)
    if not match or not _is_a_time(*(int(part or "0") for part in match.groups())):
        raise BadEnvelope(key, value, _A_DEADLINE)
    return replace(envelope, deadline=value)


def _is_a_time(year: int, month: int, day: int, hour: int, minute: int, second: int) -> bool:
    if not (1 <= month <= 12 and hour <= 23 and minute <= 59 and second <= 59):
        return False
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    days = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]
    return 1 <= day <= days


def _read_preempt(envelope: Envelope, key: str, value: str) -> Envelope:
    if value not in ("yes", "no"):
        raise BadEnvelope(key, value, _A_YES)
    return replace(envelope, preempt=value == "yes")


def _read_burst(envelope: Envelope, key: str, value: str) -> Envelope:
    match = _BURST.fullmatch(value)
    if not match or not 1 <= int(match[1]) <= 3600:
        raise BadEnvelope(key, value, _A_BURST)
    power_w, _ = _power(key, match[2], per_node_allowed=False, allowed=_A_BURST)
    if power_w == 0:
        raise BadEnvelope(key, value, _A_BURST)
    return replace(envelope, burst_s=int(match[1]), burst_w=power_w)


def _read_json_kilowatts(envelope: Envelope, key: str, raw: str) -> Envelope:
    match = _KILOWATTS.fullmatch(raw) if len(raw) <= MOST_VALUE_BYTES else None
    if not match:
        raise BadEnvelope(key, raw, _A_NUMBER_OF_KW)
    power_w = _watts(match[1], match[2], 1_000)
    if power_w is None:
        raise BadEnvelope(key, raw, _TOO_MUCH)
    if power_w == 0 and key != "minRackHeadroomKW":
        raise BadEnvelope(key, raw, _A_NUMBER_OF_KW)
    if JSON_KEYS[key] == "est":
        return replace(envelope, est_w=power_w)
    if JSON_KEYS[key] == "max":
        return replace(envelope, max_w=power_w)
    return replace(envelope, headroom_w=power_w)


def _read_json_truth(envelope: Envelope, key: str, raw: str) -> Envelope:
    if raw not in ("true", "false"):
        raise BadEnvelope(key, raw, _A_TRUTH)
    return replace(envelope, preempt=raw == "true")


def _read_json_string(envelope: Envelope, key: str, raw: str) -> Envelope:
    # An unquoted word fails the same check as a wrong one: the quotes stay in the value.
    value = raw[1:-1] if raw.startswith('"') else f"({raw})"
    return _READ[JSON_KEYS[key]](envelope, key, value)


_Reader = Callable[[Envelope, str, str], Envelope]
_READ: dict[str, _Reader] = {
    "est": _read_est,
    "max": _read_max,
    "headroom": _read_headroom,
    "tier": _read_tier,
    "class": _read_class,
    "deadline": _read_deadline,
    "preempt": _read_preempt,
    "burst": _read_burst,
}
_READ_JSON: dict[str, _Reader] = {
    "estimatedPowerKW": _read_json_kilowatts,
    "maxPowerKW": _read_json_kilowatts,
    "minRackHeadroomKW": _read_json_kilowatts,
    "preemptible": _read_json_truth,
}


def _shown(text: str) -> str:
    """At most 40 printable characters: it goes to terminals and logs."""
    clean = "".join(each if " " <= each <= "~" else "?" for each in text[:40])
    return clean + ("..." if len(text) > 40 else "")
