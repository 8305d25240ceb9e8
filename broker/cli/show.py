# SPDX-License-Identifier: GPL-2.0-or-later
"""``powermgr show ENTITY [where] key=value ... [format=...]``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from broker.cli.command import Context, Output, ask
from broker.cli.entities import Entity
from broker.cli.table import Row, read_format, render
from broker.cli.values import iso
from broker.cli.words import read_entity, read_terms, split_at, take_format
from broker.services.messages import Request


def show(words: Sequence[str], context: Context) -> Output:
    """List the rows that every term picks."""
    entity = read_entity(words, "show")
    wanted_format, rest = take_format(words[1:])
    fields = read_format(wanted_format, entity)
    sections = split_at(rest, "where")
    where = read_terms([*sections[""], *sections["where"]], entity.where, now=context.now)
    answer = ask(context, Request(op="show", entity=entity.name, where=sendable(where)))
    rows = [row for row in answer.rows if _picked(row, where, entity)]
    text = render(rows, fields, style=context.options.style, header=context.options.header)
    return Output(text, answer.exit_code)


def sendable(terms: Mapping[str, Any]) -> dict[str, Any]:
    """Terms as they go through the socket."""
    return {key: iso(each) if isinstance(each, datetime) else each for key, each in terms.items()}


def _picked(row: Row, where: Mapping[str, Any], entity: Entity) -> bool:
    """Does a row have what the terms on its columns ask for? The broker may have picked already."""
    columns = {each.name for each in entity.columns if each.name in row}
    return all(_words(row[key]) & _words(wanted) for key, wanted in where.items() if key in columns)


def _words(value: Any) -> set[str]:
    if isinstance(value, bool):
        return {"yes" if value else "no"}
    if not isinstance(value, list):
        # ``ALLOCATED+DRAIN`` and ``n05,n06`` are picked by any of their words.
        value = [] if value is None else [value, *re.split(r"[,+]", str(value))]
    return {str(each).lower() for each in value}
