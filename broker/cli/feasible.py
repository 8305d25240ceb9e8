# SPDX-License-Identifier: GPL-2.0-or-later
"""``powermgr feasible ENVELOPE -N4``: would this job fit, where and when; nothing is submitted.

The options after it are sbatch's. Exit code 0: now; 10: later; 12: never; 2: bad envelope.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from broker.cli.command import Context, Output, ask, one_line
from broker.cli.entities import ENTITIES, Key
from broker.cli.table import Style, read_format, render
from broker.cli.values import read_count, read_duration, read_names
from broker.cli.words import LONGEST_VALUE, cannot_understand, read_value
from broker.domain.errors import BadRequest
from broker.services.messages import Request, shown

_OPTIONS = {
    "-N": Key("nodes", read_count, "4"),
    "-t": Key("time", read_duration, "30"),
    "-p": Key("partition", read_names, "hot"),
    "-A": Key("account", read_names, "ml"),
    "--gpus-per-node": Key("gpus-per-node", read_count, "8"),
}
_LONG = {"--nodes": "-N", "--time": "-t", "--partition": "-p", "--account": "-A"}
_EXAMPLE = 'powermgr feasible "power: est=18.5kW max=24kW" -N4'


def feasible(words: Sequence[str], context: Context) -> Output:
    """Print the plan for a job that nobody submitted."""
    values = read_request(words, context)
    answer = ask(context, Request(op="feasible", entity="plan", values=values))
    fields = read_format("", ENTITIES["plan"])
    style = context.options.style
    table = render(answer.rows, fields, style=style, header=context.options.header)
    if style is not Style.TABLE:
        return Output(table, answer.exit_code)
    return Output(one_line(answer.message) + (table if answer.rows else ""), answer.exit_code)


def read_request(words: Sequence[str], context: Context) -> dict[str, Any]:
    """The values to send: envelope, nodes and what else was given."""
    found: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        if not word.startswith("-"):
            if "envelope" in found:
                raise BadRequest(f"a second envelope: {shown(word)}", hint=_EXAMPLE)
            if len(word) > LONGEST_VALUE + 100:
                raise BadRequest(f"the envelope {shown(word)} is {len(word):,} characters long")
            found["envelope"] = word
            continue
        option, value = _split(word)
        key = _OPTIONS[option]
        text = next(rest, "") if value is None else value
        if key.name == "nodes":
            # -N2-4: the fewest nodes decide, since they share the job's watts (design: Envelope).
            text = re.sub(r"^([0-9]+)-[0-9]+$", r"\1", text)
        if key.name in found:
            raise BadRequest(f"{option} is given twice", hint="give it once")
        found[key.name] = read_value(key, text, now=context.now)
    if "envelope" not in found or "nodes" not in found:
        missing = "envelope" if "envelope" not in found else "number of nodes"
        raise BadRequest(f"feasible needs an envelope and -N; no {missing} given", hint=_EXAMPLE)
    return _sendable(found)


def _split(word: str) -> tuple[str, str | None]:
    """``-N4``, ``-N 4``, ``--nodes=4`` and ``--nodes 4`` are the same."""
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        option = _LONG.get(name, name)
    else:
        option, value = word[:2], word[2:]
        equals = value
    if option not in _OPTIONS:
        raise cannot_understand(option, [*_OPTIONS, *_LONG])
    return option, value if equals else None


def _sendable(found: dict[str, Any]) -> dict[str, Any]:
    sent = {key.replace("-", "_"): each for key, each in found.items() if key != "time"}
    if "time" in found:
        sent["time_limit_s"] = int(found["time"].total_seconds())
    return sent
