# SPDX-License-Identifier: GPL-2.0-or-later
"""powermgr: the only place that prints, shows errors and chooses the exit code."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of

from broker.adapters import socket_client
from broker.cli.change import add, delete, modify
from broker.cli.command import Command, Context, Output, Refused, one_line
from broker.cli.feasible import feasible
from broker.cli.manual import manual
from broker.cli.options import read_options
from broker.cli.report import report
from broker.cli.show import show
from broker.cli.why import why
from broker.cli.words import read_verb
from broker.domain.errors import BadRequest, BrokerError

DECIDE_S = 30
SIGPIPE_CODE = 141  #: 128 + SIGPIPE: what a shell says of a tool that `head` cut off
REPORT_S = 600.0  #: a month of samples takes the broker a while
_COMMANDS: dict[str, Command] = {
    "show": show, "add": add, "modify": modify, "delete": delete, "why": why,
    "feasible": feasible, "report": report,
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    try:
        output = run(sys.argv[1:] if argv is None else argv)
        return _write(output.text) or output.exit_code
    except Refused as refused:
        _complain(refused)
        return refused.answer_code
    except BrokerError as error:
        _complain(error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def run(argv: Sequence[str]) -> Output:
    """Understand the words and do what they say."""
    options = read_options(argv)
    verb = read_verb(options.words[0]) if options.words else ""
    if options.help or verb == "help":
        return Output(manual())
    if options.version or verb == "version":
        return Output(f"powermgr {_version()}\n")
    if not verb:
        raise BadRequest("nothing is asked", hint="powermgr --help, or powermgr show rack")
    context = Context(
        options=options,
        now=datetime.now().astimezone(),
        broker=partial(socket_client.ask, path=options.socket, timeout_s=_patience_s(verb)),
        confirm=(lambda doing: True) if options.immediate else _confirm,
    )
    return _COMMANDS[verb](options.words[1:], context)


def _patience_s(verb: str) -> float:
    return REPORT_S if verb == "report" else 60.0


def _confirm(doing: str) -> bool:
    """Ask as sacctmgr does; nobody at a terminal to ask means yes, so that scripts go on."""
    if sys.stdin is None or not sys.stdin.isatty():
        return True
    question = f"Would you like to commit changes? (You have {DECIDE_S} seconds to decide)\n(N/y): "
    _write(doing + question)
    ready, _, _ = select.select([sys.stdin], [], [], DECIDE_S)
    return bool(ready) and sys.stdin.readline().strip().lower() in {"y", "yes"}


def _write(text: str) -> int:
    """Print; returns an exit code, 0 when all went out."""
    if sys.stdout is None:  # closed by the caller
        return 0
    try:
        # What a terminal's encoding cannot show is escaped rather than an error.
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence()
        return SIGPIPE_CODE
    except OSError as error:
        _silence()
        _complain(BrokerError(f"cannot write: {error.strerror}"))
        return 1
    return 0


def _silence() -> None:
    """Let the interpreter flush into nowhere at exit, instead of failing once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(error: BrokerError) -> None:
    if sys.stderr is None:
        return
    lines = one_line(f"powermgr: error: {error}")
    if error.hint:
        lines += one_line(f"powermgr: hint: {error.hint}")
    with contextlib.suppress(OSError):
        sys.stderr.write(lines)
        sys.stderr.flush()


def _version() -> str:
    try:
        return version_of("slurm-power-broker")
    except PackageNotFoundError:  # run from a checkout
        return "(not installed)"
