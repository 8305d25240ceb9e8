# SPDX-License-Identifier: GPL-2.0-or-later
"""What powermgr and powerbrokerd say to each other: one request, one answer, a JSON line each.

Ops: ``show``, ``add``, ``modify``, ``delete``, ``why``, ``feasible``, ``report``. powermgr has
understood the words already: watts are integers, times ISO in UTC. Anybody can write to the socket,
so the broker reads ``where`` and ``values`` through the accessors, which refuse all else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

from broker.domain.errors import BadRequest

OPS = ("show", "add", "modify", "delete", "why", "feasible", "report")
_T = TypeVar("_T")

LONGEST_TEXT = 4096  #: characters of any one value


@dataclass(frozen=True, slots=True)
class Peer:
    """Who asks, as the kernel says (SO_PEERCRED)."""

    uid: int
    gid: int
    pid: int
    user: str  #: login name; the uid in digits when it has none


@dataclass(frozen=True, slots=True)
class Request:
    """One question or order. ``peer`` is filled in by the server, never by the client."""

    op: str
    entity: str
    where: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    peer: Peer | None = None

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of words, from where ``key`` stands; none when it is not there."""
        found = self._found(key)
        listed = [found] if isinstance(found, (str, int)) else [] if found is None else found
        if not isinstance(listed, list) or not all(_is_text(each) for each in listed):
            raise BadRequest(f"{key}={shown(found)}: expected words")
        return tuple(str(each) for each in listed)

    def text(self, key: str, default: str | None = None) -> str:
        """One word; BadRequest when it is missing and there is no default."""
        words = self.texts(key)
        if len(words) > 1:
            raise BadRequest(f"{key}={shown(words)}: expected one word")
        return words[0] if words else self._default(key, default)

    def number(self, key: str, default: int | None = None) -> int:
        """A whole number, not negative."""
        found = self._found(key)
        if found is None:
            return self._default(key, default)
        if isinstance(found, list) and len(found) == 1:
            found = found[0]
        if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 2**53:
            raise BadRequest(f"{key}={shown(found)}: expected a whole number")
        return found

    def time(self, key: str, default: datetime | None = None) -> datetime:
        """An instant, aware, in UTC."""
        found = self._found(key)
        if found is None:
            return self._default(key, default)
        try:
            at = datetime.fromisoformat(found)
        except (TypeError, ValueError):
            at = None
        if at is None or at.tzinfo is None:
            raise BadRequest(
                f"{key}={shown(found)}: expected a time such as 2026-12-01T18:00+00:00"
            )
        return at.astimezone(UTC)

    def has(self, key: str) -> bool:
        return self._found(key) is not None

    def _found(self, key: str) -> Any:
        return self.values.get(key, self.where.get(key))

    def _default(self, key: str, default: _T | None) -> _T:
        if default is None:
            self._missing(key)
        return default

    def _missing(self, key: str) -> NoReturn:
        raise BadRequest(f"{self.op} {self.entity}: {key}= is missing")

    def to_line(self) -> bytes:
        """The request as the client sends it."""
        said = {"op": self.op, "entity": self.entity, "where": self.where, "values": self.values}
        return _line(said)

    @classmethod
    def from_line(cls, line: bytes, *, peer: Peer) -> Request:
        """Read what a client sent; BadRequest for whatever is no request."""
        said = _read(line)
        op, entity = said.get("op"), said.get("entity", "")
        where, values = said.get("where", {}), said.get("values", {})
        if op not in OPS:
            raise BadRequest(f"op={shown(op)}: expected one of {', '.join(OPS)}")
        if not isinstance(entity, str):
            raise BadRequest(f"entity={shown(entity)}: expected a word")
        if not isinstance(where, dict) or not isinstance(values, dict):
            raise BadRequest("where and values: expected objects")
        return cls(op=op, entity=entity, where=where, values=values, peer=peer)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request. ``rows`` hold all columns of the entity; times may be datetimes."""

    rows: Sequence[Mapping[str, Any]] = ()
    message: str = ""  #: a sentence for people
    exit_code: int = 0
    error: str = ""
    hint: str = ""

    @property
    def ok(self) -> bool:
        return not self.error

    @classmethod
    def refused(cls, error: str, *, hint: str = "", exit_code: int = 1) -> Answer:
        return cls(error=error, hint=hint, exit_code=exit_code)

    def to_line(self) -> bytes:
        """The answer as the server sends it."""
        if self.ok:
            rows = [dict(each) for each in self.rows]
            said = {"ok": True, "rows": rows, "message": self.message, "exit_code": self.exit_code}
            return _line(said)
        said = {"ok": False, "error": self.error, "hint": self.hint, "exit_code": self.exit_code}
        return _line(said)

    @classmethod
    def from_line(cls, line: bytes) -> Answer:
        """Read what the server sent."""
        said = _read(line)
        rows = said.get("rows", [])
        if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
            raise BadRequest("rows: expected a list of objects")
        error = "" if said.get("ok") else str(said.get("error") or "no reason given")
        return cls(
            rows=tuple(rows),
            message=str(said.get("message", "")),
            exit_code=int(said.get("exit_code", 1 if error else 0)),
            error=error,
            hint=str(said.get("hint", "")),
        )


def shown(value: object, *, longest: int = 60) -> str:
    """A value as it may stand in a sentence: quoted, on one line, not too long."""
    text = value if isinstance(value, str) else str(value)
    # isprintable: no control character of a user's may reach an operator's terminal.
    safe = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: longest + 1])
    return f"'{safe[:longest]}...'" if len(safe) > longest else f"'{safe}'"


def _is_text(value: object) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, str) and len(value) <= LONGEST_TEXT)


def _line(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, default=_plain, allow_nan=False).encode() + b"\n"


def _plain(value: object) -> object:
    match value:
        case datetime():
            return value.astimezone(UTC).isoformat()
        case Decimal():
            return float(value)
        case set() | frozenset():
            return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _read(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line, parse_constant=_no_constant)
    # RecursionError: brackets nested ten thousand deep are a bad request, not a crash.
    except (ValueError, RecursionError) as wrong:
        raise BadRequest(
            f"not a line of JSON: {shown(line[:80].decode('utf-8', 'replace'))}"
        ) from wrong
    if not isinstance(said, dict):
        raise BadRequest("not a JSON object")
    return said


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")
