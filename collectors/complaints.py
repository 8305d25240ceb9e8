# SPDX-License-Identifier: GPL-2.0-or-later
"""What is wrong with a configuration, one line each: file, dotted key, value, what is allowed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError


@dataclass(frozen=True, slots=True)
class Complaint:
    file: Path
    key: str
    value: object
    allowed: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else f"{self.file}"
        given = "" if self.value is None else f" = {_short(self.value)}"
        return f"{where}{given}: {self.allowed}"


class BadConfiguration(Exception):
    """The configuration cannot be used; holds every complaint, not only the first."""

    def __init__(self, complaints: Sequence[Complaint]) -> None:
        self.complaints = tuple(complaints)
        super().__init__("\n".join(str(each) for each in complaints))


def complaints_of(file: Path, why: ValidationError, *, secret: bool = False) -> list[Complaint]:
    """pydantic's errors in our words. The values of a secrets file are never repeated."""
    found = []
    for error in why.errors(include_url=False, include_context=False):
        hide = secret or error["type"] == "missing" or isinstance(error["input"], dict)
        key = ".".join(str(part) for part in error["loc"])
        found.append(Complaint(file, key, None if hide else error["input"], _words(error["msg"])))
    return found


def _words(message: str) -> str:
    if message == "Extra inputs are not permitted":
        return "no such key"
    if message == "Field required":
        return "this key is required"
    return message[:1].lower() + message[1:]


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
