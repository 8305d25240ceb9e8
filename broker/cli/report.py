# SPDX-License-Identifier: GPL-2.0-or-later
"""``powermgr report showback start= end= [account=]``: who used, reserved and pays what."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from broker.cli.command import Context, Output, ask, one_line
from broker.cli.entities import ENTITIES
from broker.cli.show import sendable
from broker.cli.table import Style, read_format, render
from broker.cli.words import (
    cannot_understand,
    match_word,
    read_terms,
    split_at,
    take_format,
)
from broker.domain.errors import BadRequest
from broker.services.messages import Request

_REPORTS = ("showback",)


def report(words: Sequence[str], context: Context) -> Output:
    """Print a report, and the sentence that says what it adds up to."""
    if not words:
        raise BadRequest("report what?", hint=f"expected one of {', '.join(_REPORTS)}")
    if match_word(words[0], _REPORTS) is None:
        raise cannot_understand(words[0], _REPORTS)
    entity = ENTITIES["showback"]
    wanted_format, rest = take_format(words[1:])
    fields = read_format(wanted_format, entity)
    sections = split_at(rest, "where")
    where = read_terms([*sections[""], *sections["where"]], entity.keys, now=context.now)
    end = where.setdefault("end", context.now)
    start = where.setdefault("start", end - timedelta(days=1))
    if start >= end:
        raise BadRequest(
            f"start={start:%Y-%m-%dT%H:%M:%S} is not before end={end:%Y-%m-%dT%H:%M:%S}"
        )
    answer = ask(context, Request(op="report", entity=entity.name, where=sendable(where)))
    options = context.options
    table = render(answer.rows, fields, style=options.style, header=options.header)
    note = one_line(answer.message) if options.style is Style.TABLE else ""
    return Output(table + note, answer.exit_code)
