# SPDX-License-Identifier: GPL-2.0-or-later
"""When cycles run, and how their outcomes are logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from apscheduler.schedulers.base import BaseScheduler
from apscheduler.triggers.interval import IntervalTrigger

from broker.domain.errors import BrokerError

log = logging.getLogger(__name__)

_QUIET_S = 60.0  #: the same "no action" is said no more often


def every(scheduler: BaseScheduler, interval_s: float, name: str, cycle: Callable[[], str]) -> None:
    """Run ``cycle`` each interval: never twice at once, never in a burst after a pause."""
    scheduler.add_job(
        Reported(name, cycle),
        # IntervalTrigger counts whole seconds and fractions of them alike.
        IntervalTrigger(seconds=interval_s),
        id=name,
        name=name,
        max_instances=1,
        coalesce=True,
        misfire_grace_time=None,
    )


class Reported:
    """A cycle that logs its outcome, and an outage once rather than each round."""

    def __init__(self, name: str, cycle: Callable[[], str]) -> None:
        self._name = name
        self._cycle = cycle
        self._failing_since_round = 0
        self._quiet_until = 0.0

    def __call__(self) -> None:
        try:
            outcome = self._cycle()
        except BrokerError as error:
            self._failing_since_round += 1
            level = logging.ERROR if self._failing_since_round == 1 else logging.DEBUG
            log.log(level, "%s: %s", self._name, error, extra={"cycle": self._name})
            return
        except Exception:
            log.exception("%s: unexpected error, please report it", self._name)
            return
        if self._failing_since_round:
            log.info("%s: recovered after %d rounds", self._name, self._failing_since_round)
            self._failing_since_round = 0
        self._say(outcome)

    def _say(self, outcome: str) -> None:
        """Every sentence with an action; of the idle ones, one a minute (all at DEBUG)."""
        idle = outcome.startswith(("no action", "standby"))
        level = logging.INFO
        if idle:
            level = logging.DEBUG if time.monotonic() < self._quiet_until else logging.INFO
            if level == logging.INFO:
                self._quiet_until = time.monotonic() + _QUIET_S
        else:
            self._quiet_until = 0.0
        log.log(level, "%s: %s", self._name, outcome, extra={"cycle": self._name})
