# SPDX-License-Identifier: GPL-2.0-or-later
"""What every command is given and what it hands back; main prints and exits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from broker.cli.options import Options
from broker.domain.errors import BrokerError
from broker.services.messages import Answer, Request


@dataclass(frozen=True, slots=True)
class Context:
    """The options, the time, and the two that can be asked: the broker and the operator."""

    options: Options
    now: datetime
    broker: Callable[[Request], Answer]
    confirm: Callable[[str], bool]  #: shows what will be done; True to go on


@dataclass(frozen=True, slots=True)
class Output:
    """Text for stdout and the exit code."""

    text: str
    exit_code: int = 0


Command = Callable[[Sequence[str], Context], Output]


class Refused(BrokerError):
    """The broker said no; its words, hint and exit code."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.error, hint=answer.hint)
        self.answer_code = answer.exit_code or 1


def ask(context: Context, request: Request) -> Answer:
    """The broker's answer; Refused when it says no."""
    answer = context.broker(request)
    if not answer.ok:
        raise Refused(answer)
    return answer


def one_line(text: str) -> str:
    """A broker's sentence, safe for a terminal."""
    safe = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    return f"{safe}\n" if safe else ""
