# SPDX-License-Identifier: GPL-2.0-or-later
"""Read a TOML file into a section; a mistake is one line: file, dotted key, value, the rule."""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from broker.domain.errors import ConfigInvalid


class Section(BaseModel):
    """Base of all sections: a key that nobody knows is a mistake, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Found = TypeVar("Found", bound=Section)


def load(path: Path, section: type[Found]) -> Found:
    """Read and check one file; ConfigInvalid lists every mistake, a line each."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigInvalid(
            f"{path}: no such file", hint=f"see the sample etc/{path.name}"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path}: cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid(f"{path}: {_explain_toml(error)}") from error
    try:
        return section.model_validate(raw)
    except ValidationError as error:
        lines = [f"{path}: {_explain(found, section)}" for found in error.errors()]
        raise ConfigInvalid("\n".join(lines)) from error


def _explain_toml(error: tomllib.TOMLDecodeError) -> str:
    text = str(error)
    if text.startswith("Cannot declare"):
        return f"declared twice (a node stands in one rack, a rack in one row): {text}"
    return f"not TOML: {text}"


def _explain(found: Any, section: type[Section]) -> str:
    location: Sequence[str | int] = found["loc"]
    key = ".".join(str(part) for part in location)
    if found["type"] == "extra_forbidden":
        return f"{key}: unknown key{_meant(location, section)}"
    if found["type"] == "missing":
        return f"{key}: missing; it must be given"
    if found["type"] == "value_error":
        # Ours: the sentence names key and value itself.
        return str(found["ctx"]["error"])
    return f"{key} = {_shown(found['input'])}: {found['msg'].lower()}"


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, str) else f'"{value}"'
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
