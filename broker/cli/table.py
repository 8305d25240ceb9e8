# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes rows as sacctmgr does, or as JSON. Nothing is cut unless ``format=name%10`` says so."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any

from broker.cli.entities import Column, Entity, Kind
from broker.cli.words import cannot_understand, match_word
from broker.domain.errors import BadRequest
from broker.services.messages import shown

Row = Mapping[str, Any]
WIDEST = 1000


class Style(Enum):
    """How rows are laid out."""

    TABLE = "table"
    PARSABLE = "|, also at the end"  #: -p
    PARSABLE2 = "| between"  #: -P
    JSON = "JSON"


@dataclass(frozen=True, slots=True)
class Field:
    """A column as it is to be shown; ``width`` 0 fits its contents, below 0 is left-aligned."""

    column: Column
    width: int = 0


def read_format(text: str, entity: Entity) -> list[Field]:
    """Read ``name,state%20,reason%-30``; no text: all columns but the extra ones."""
    if not text:
        return [Field(each) for each in entity.columns if not each.extra]
    return [_read_field(word, entity) for word in text.split(",")]


def _read_field(word: str, entity: Entity) -> Field:
    name, percent, width = word.partition("%")
    columns = {each.name: each for each in entity.columns}
    found = match_word(name, columns)
    if found is None:
        raise cannot_understand(name, columns, what="format=")
    if percent and (not re.fullmatch(r"-?[0-9]{1,4}", width) or not 0 < abs(int(width)) <= WIDEST):
        raise BadRequest(
            f"cannot understand format={shown(word)}: the width after % is 1 to {WIDEST}, or -1 to"
            f" -{WIDEST} for left-aligned"
        )
    return Field(columns[found], int(width or 0))


def render(rows: Sequence[Row], fields: Sequence[Field], *, style: Style, header: bool) -> str:
    """The rows as text, a newline after each line."""
    if style is Style.JSON:
        objects = [{f.column.name: row.get(f.column.name) for f in fields} for row in rows]
        return json.dumps(objects, indent=2, allow_nan=False) + "\n"
    unknown = "-" if style is Style.TABLE else ""
    cells = [
        [_cell(row.get(f.column.name), f.column.kind, unknown) for f in fields] for row in rows
    ]
    names = [field.column.name for field in fields]
    if style is Style.TABLE:
        return _lines(_table(fields, names, cells, header))
    end = "|" if style is Style.PARSABLE else ""
    return _lines("|".join(each) + end for each in ([names] if header else []) + cells)


def _table(
    fields: Sequence[Field], names: list[str], cells: list[list[str]], header: bool
) -> list[str]:
    contents = ([names] if header else []) + cells
    widths = [
        abs(field.width) or max([1, *(_width(line[index]) for line in contents)])
        for index, field in enumerate(fields)
    ]
    lines = [_line(fields, widths, names), " ".join("-" * w for w in widths)] if header else []
    return lines + [_line(fields, widths, each) for each in cells]


def _line(fields: Sequence[Field], widths: Sequence[int], cells: Sequence[str]) -> str:
    padded = []
    for field, width, cell in zip(fields, widths, cells, strict=True):
        text = _cut(cell, width)
        gap = " " * (width - _width(text))
        left = field.width < 0 or field.column.kind is Kind.SENTENCE
        padded.append(text + gap if left else gap + text)
    return " ".join(padded).rstrip()


def _cell(value: object, kind: Kind, unknown: str) -> str:
    if value is None or value == "" or value == []:
        return unknown
    return _printable(_WRITE.get(kind, _text)(value))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(str(each) for each in value)
    return str(value)


def _time(value: Any) -> str:
    try:
        return f"{datetime.fromisoformat(value).astimezone():%Y-%m-%dT%H:%M:%S}"
    except (TypeError, ValueError, OverflowError):
        return str(value)


def _decimals(places: int) -> Callable[[Any], str]:
    def write(value: Any) -> str:
        return f"{value:.{places}f}" if isinstance(value, (int, float)) else str(value)

    return write


_WRITE: dict[Kind, Callable[[Any], str]] = {
    Kind.TIME: _time,
    Kind.KWH: _decimals(3),
    Kind.MONEY: _decimals(2),
}


def _printable(text: str) -> str:
    # Names and comments come from users: none of their control characters reaches a terminal.
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _width(text: str) -> int:
    """Columns that a terminal needs for it."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(bool(unicodedata.combining(c)) for c in text)


def _cut(text: str, width: int) -> str:
    """Cut as sacctmgr does: the last character becomes + where something is missing."""
    if _width(text) <= width:
        return text
    kept = text[: width - 1]
    while _width(kept) > width - 1:
        kept = kept[:-1]
    return kept + "+"


def _lines(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines)
