# SPDX-License-Identifier: GPL-2.0-or-later
"""``powermgr why TICKET|JOBID``: what was asked, what was answered, and what happened since."""

from __future__ import annotations

from collections.abc import Sequence

from broker.cli.command import Context, Output, ask, one_line
from broker.cli.entities import ENTITIES
from broker.cli.table import Style, read_format, render
from broker.cli.values import read_names
from broker.domain.errors import BadRequest
from broker.services.messages import Request, shown


def why(words: Sequence[str], context: Context) -> Output:
    """The story of a job or of a verdict."""
    if len(words) != 1:
        raise BadRequest(
            f"why needs one ticket or job id, {len(words)} words given", hint="powermgr why 1234"
        )
    try:
        (name,) = read_names(words[0].removeprefix("jobid=").removeprefix("ticket="), context.now)
    except ValueError:
        raise BadRequest(
            f"cannot understand {shown(words[0])}: expected a ticket or a job id"
        ) from None
    answer = ask(context, Request(op="why", entity="story", where={"id": name}))
    options = context.options
    fields = read_format("", ENTITIES["story"])
    # For people a story, not a table: no header, and what it is about before it.
    table = options.style is Style.TABLE
    text = render(answer.rows, fields, style=options.style, header=options.header and not table)
    return Output((one_line(answer.message) if table else "") + text, answer.exit_code)
