# SPDX-License-Identifier: GPL-2.0-or-later
"""Errors raised on purpose. Anything else that escapes is a bug and keeps its traceback."""

from __future__ import annotations

from typing import ClassVar


class BrokerError(Exception):
    """What happened, with the numbers; ``hint`` says what to do next."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class BadRequest(BrokerError):
    """Somebody asked for something that cannot be understood."""

    exit_code: ClassVar[int] = 2


class NotAllowed(BrokerError):
    """The asker may not do this."""

    exit_code: ClassVar[int] = 3


class ConfigInvalid(BrokerError):
    """A configuration file cannot be used; the message names file and dotted key."""

    exit_code: ClassVar[int] = 2


class PowerUnavailable(BrokerError):
    """Watts were asked for that a layer cannot promise."""


class SlurmUnavailable(BrokerError):
    """slurmctld was not reached; the same call may work next cycle."""


class SlurmRefused(BrokerError):
    """slurmctld said no; repeating the call will not help."""


class StoreUnavailable(BrokerError):
    """PostgreSQL was not reached; the same call may work next cycle."""
