# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of powermgr. They may stand anywhere; after ``feasible`` short ones are sbatch's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from broker.cli.table import Style
from broker.cli.words import cannot_understand, match_word
from broker.domain.errors import BadRequest
from broker.services.messages import shown

SOCKET = Path("/run/power-broker/powermgr.sock")
_SHORT = {
    "n": "noheader", "p": "parsable", "P": "parsable2", "i": "immediate", "h": "help",
    "V": "version",
}  # fmt: skip
_LONG = ("noheader", "parsable", "parsable2", "immediate", "json", "socket", "help", "version")


@dataclass
class Options:
    """How to ask and how to answer."""

    style: Style = Style.TABLE
    header: bool = True
    immediate: bool = False
    socket: Path = SOCKET
    help: bool = False
    version: bool = False
    words: list[str] = field(default_factory=list)  #: what is left, in order


def read_options(argv: Sequence[str]) -> Options:
    """Sort options from words; ``--`` ends them."""
    options = Options()
    rest = iter(argv)
    for word in rest:
        feasible = bool(options.words) and match_word(options.words[0], ("feasible",)) is not None
        if word == "--":
            options.words.extend(rest)
        elif word.startswith("--") and not (feasible and not _is_ours(word)):
            _long(options, word[2:], rest)
        elif word.startswith("-") and len(word) > 1 and not feasible:
            for letter in word[1:]:
                if letter not in _SHORT:
                    raise cannot_understand(f"-{letter}", [f"-{each}" for each in _SHORT])
                _set(options, _SHORT[letter])
        else:
            options.words.append(word)
    return options


def _is_ours(word: str) -> bool:
    return word[2:].partition("=")[0] in _LONG


def _long(options: Options, word: str, rest: Iterator[str]) -> None:
    name, equals, value = word.partition("=")
    if name not in _LONG:
        raise cannot_understand(f"--{name}", [f"--{each}" for each in _LONG])
    if name != "socket":
        if equals:
            raise BadRequest(f"--{name} takes no value, {shown(value)} was given")
        _set(options, name)
        return
    path = value if equals else next(rest, "")
    if not path or "\0" in path:
        raise BadRequest("--socket needs a path", hint=f"--socket {SOCKET}")
    options.socket = Path(path)


def _set(options: Options, name: str) -> None:
    match name:
        case "noheader":
            options.header = False
        case "parsable":
            options.style = Style.PARSABLE
        case "parsable2":
            options.style = Style.PARSABLE2
        case "json":
            options.style = Style.JSON
        case "immediate":
            options.immediate = True
        case "help":
            options.help = True
        case "version":
            options.version = True
