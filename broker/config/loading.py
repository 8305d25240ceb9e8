# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a TOML file into a section; a mistake is one line: file, dotted key, value, the rule."""

from __future__ import annotations

import difflib
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from broker.domain.errors import ConfigInvalid


class Section(BaseModel):
    """Base of all sections: a key that nobody knows is a mistake, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _plain_numbers(cls, raw: Any) -> Any:
        """Refuse what pydantic would quietly turn into a number: ``"80"`` and ``true``."""
        if isinstance(raw, dict):
            for key, value in raw.items():
                field = cls.model_fields.get(key)
                if field is None or not isinstance(value, (bool, str)):
                    continue
                if any(kind in _NUMBERS for kind in _kinds(field.annotation)):
                    raise PydanticCustomError(
                        _NOT_A_NUMBER, "{key}", {"key": key, "value": _shown(value)}
                    )
        return raw


_NUMBERS = (int, float, Decimal)
_NOT_A_NUMBER = "not_a_plain_number"


def _kinds(annotation: Any) -> tuple[Any, ...]:
    """The types that a field may have; of a ``Literal`` those of its values."""
    origin = typing.get_origin(annotation)
    if origin is Literal:
        return tuple(type(each) for each in typing.get_args(annotation))
    if origin is typing.Annotated:
        return _kinds(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return tuple(kind for each in typing.get_args(annotation) for kind in _kinds(each))
    return (annotation,)


Found = TypeVar("Found", bound=Section)


def load(path: Path, section: type[Found]) -> Found:
    """Read and check one file; ConfigInvalid lists every mistake, a line each."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigInvalid(
            f"{path}: no such file", hint=f"see the sample etc/{path.name}"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path}: not text in UTF-8, from byte {error.start} on") from error
    except OSError as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        raw = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise ConfigInvalid(f"{path}: {_explain_toml(error, text)}") from error
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        lines = [f"{path}: {_explain(found, section)}" for found in error.errors()]
        raise ConfigInvalid("\n".join(lines)) from error


_LINE = re.compile(r"at line (\d+)")


def _explain_toml(error: Exception, text: str) -> str:
    if isinstance(error, RecursionError):
        return "not TOML: brackets are nested too deep"
    said = one_line(str(error))
    found = _LINE.search(said)
    at = text.splitlines()[int(found[1]) - 1 :][:1] if found else []
    where = f": {_shown(at[0].strip())}" if at else ""
    if said.startswith(("Cannot declare", "Cannot overwrite", "Cannot mutate")):
        return (
            f"given twice (a node stands in one rack, a rack in one row): {said}{where};"
            " leave one out"
        )
    return f"not TOML: {said}{where}"


def _explain(found: Any, section: type[Section]) -> str:
    location: Sequence[str | int] = found["loc"]
    key = ".".join(_part(part) for part in location if part != "[key]")
    kind = found["type"]
    if kind == "extra_forbidden":
        return f"{key} = {_shown(found['input'])}: unknown key{_meant(location, section)}"
    if kind == "missing":
        return f"{key}: missing; it must be given"
    if kind == _NOT_A_NUMBER:
        inside = ".".join(part for part in (key, found["ctx"]["key"]) if part)
        return f"{inside} = {found['ctx']['value']}: must be a plain number"
    if kind == "value_error":
        return f"{key}: {one_line(str(found['ctx']['error']))}"
    rule = found["msg"].lower().replace("dictionary", "table")
    return f"{key} = {_shown(found['input'])}: {one_line(rule)}"


def _part(part: str | int) -> str:
    text = str(part)
    return text if text.isidentifier() or text.isdecimal() else _shown(text)


def one_line(text: str) -> str:
    """Without line breaks and control characters: an operator's terminal is not to obey them."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _shown(value: Any) -> str:
    text = f'"{value}"' if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        text = text.lower()
    text = one_line(text)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _meant(location: Sequence[str | int], section: type[Section]) -> str:
    model: Any = section
    for part in location[:-1]:
        model = _below(model, str(part))
        if model is None:
            return ""
    allowed = sorted(model.model_fields) if hasattr(model, "model_fields") else []
    close = difflib.get_close_matches(str(location[-1]), allowed, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"; allowed: {', '.join(allowed)}{hint}" if allowed else hint


def _below(model: Any, part: str) -> Any:
    """The section one key further down, through ``dict[str, Section]`` and ``Section | None``."""
    if isinstance(model, _Entries):
        return model.entry
    if isinstance(model, type) and issubclass(model, BaseModel):
        field = model.model_fields.get(part)
        return None if field is None else _unwrapped(field.annotation)
    return None


def _unwrapped(annotation: Any) -> Any:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return next(
            (_unwrapped(a) for a in typing.get_args(annotation) if a is not type(None)), None
        )
    if origin is dict or origin is Mapping:
        return _Entries(_unwrapped(typing.get_args(annotation)[1]))
    return annotation


class _Entries:
    """Stands for the values of a table whose keys are names."""

    def __init__(self, entry: Any) -> None:
        self.entry = entry
