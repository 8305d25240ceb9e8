# SPDX-License-Identifier: GPL-2.0-or-later
"""sacctmgr's grammar: words, their unambiguous beginnings, and terms ``key=value``."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any

from broker.cli.entities import ENTITIES, Entity, Key
from broker.domain.errors import BadRequest
from broker.services.messages import shown

VERBS = (
    "show",
    "list",
    "add",
    "create",
    "modify",
    "delete",
    "why",
    "feasible",
    "report",
    "help",
    "version",
)
_SAME = {"list": "show", "create": "add"}
LONGEST_VALUE = 1000


def match_word(word: str, known: Collection[str]) -> str | None:
    """The one known word that it is, or is the beginning of; any case, singular or plural."""
    lower = word.lower()
    for exact in (lower, lower.removesuffix("s")):
        if exact in known:
            return exact
    found = [each for each in known if lower and each.startswith(lower)]
    return found[0] if len(found) == 1 else None


def cannot_understand(word: str, known: Iterable[str], *, what: str = "") -> BadRequest:
    """The error for a word that is none of the known ones, or the beginning of several."""
    known = list(known)
    several = [each for each in known if word and each.startswith(word.lower())]
    close = difflib.get_close_matches(word.lower()[:40], known, n=1)
    advice = f"expected one of {', '.join(known)}"
    if len(several) > 1:
        advice = f"it may be {' or '.join(several)}"
    elif close:
        advice = f"did you mean {close[0]}? {advice}"
    return BadRequest(f"cannot understand {what}{shown(word)}", hint=advice)


def read_verb(word: str) -> str:
    """The verb, ``list`` and ``create`` being other words for ``show`` and ``add``."""
    found = match_word(word, VERBS)
    if found is None:
        raise cannot_understand(word, VERBS)
    return _SAME.get(found, found)


def read_entity(words: Sequence[str], verb: str) -> Entity:
    """The entity, singular or plural."""
    known = [each.name for each in ENTITIES.values() if each.shown]
    if not words:
        raise BadRequest(f"{verb} what?", hint=f"expected one of {', '.join(known)}")
    word = words[0]
    found = match_word(word, known)
    if found is None:
        raise cannot_understand(word, known)
    return ENTITIES[found]


def read_terms(words: Iterable[str], keys: Sequence[Key], *, now: datetime) -> dict[str, Any]:
    """Read ``key=value`` words; one without ``=`` is the value of the first key, as in sacctmgr."""
    by_name = {each.name: each for each in keys}
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            if not keys or "=" in word:
                raise cannot_understand(word, by_name)
            name, value = keys[0].name, word
        match = match_word(name, by_name)
        if match is None:
            raise cannot_understand(name, by_name)
        key = by_name[match]
        sends = key.sends or key.name
        if sends in found:
            raise BadRequest(
                f"{match} is given twice, the second time as {shown(value)}", hint="give it once"
            )
        found[sends] = read_value(key, value, now=now)
    return found


def read_value(key: Key, value: str, *, now: datetime) -> Any:
    """Read one value, or say what is allowed."""
    if not value:
        example = f"such as {key.name}={key.example}" if key.example else "it has no value"
        raise BadRequest(f"{key.name}= is empty", hint=f"give it a value, {example}")
    if len(value) > LONGEST_VALUE:
        raise BadRequest(
            f"{key.name}={shown(value)} is {len(value):,} characters long, at most"
            f" {LONGEST_VALUE:,} are allowed"
        )
    try:
        return key.read(value, now)
    except ValueError as allowed:
        raise BadRequest(
            f"cannot understand {key.name}={shown(value)}: expected {allowed}"
        ) from None


def split_at(words: Sequence[str], *names: str) -> dict[str, list[str]]:
    """Sort words by the section word before them (``where``, ``set``); ``""`` before any."""
    sections: dict[str, list[str]] = {name: [] for name in ("", *names)}
    section = ""
    for word in words:
        if word.lower() in names:
            section = word.lower()
        else:
            sections[section].append(word)
    return sections


def take_format(words: Sequence[str]) -> tuple[str, list[str]]:
    """Take ``format=`` out of the words."""
    others: list[str] = []
    found = ""
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name.lower() != "format":
            others.append(word)
            continue
        if found:
            raise BadRequest("format is given twice", hint="give it once, columns with commas")
        if not value or len(value) > LONGEST_VALUE:
            raise BadRequest("format= is empty or too long", hint="such as format=name,state%20")
        found = value
    return found, others
