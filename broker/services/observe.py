# SPDX-License-Identifier: GPL-2.0-or-later
"""Look at Slurm, the meters and the ledger, and give one picture."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from broker.domain.cluster import Telemetry
from broker.domain.errors import StoreUnavailable
from broker.domain.reservation import PowerReservation
from broker.domain.rules import Rules
from broker.domain.switches import Mode
from broker.services.observed import Observed
from broker.services.ports import Clock, SlurmController, Store

log = logging.getLogger(__name__)


@dataclass
class Observe:
    """Observation with a memory: without Postgres, the ledger's last word goes on counting.

    The meters' last word does not: readings grow old, and an unseen rack counts as full.
    """

    slurm: SlurmController
    store: Store
    clock: Clock
    rules: Rules
    default_mode: Mode
    blind: str = ""  #: why the ledger could not be read; empty when it could
    _read_once: bool = False
    _mode: Mode | None = None
    _reservations: tuple[PowerReservation, ...] = ()
    _telemetry: Telemetry = field(default_factory=Telemetry)

    def __call__(self, *, tokens_enforced: bool) -> Observed:
        """Raises SlurmUnavailable: without Slurm's word nothing is decided.

        Raises StoreUnavailable until the ledger was read once: a broker that knows neither its
        mode nor its reservations would take away what others rely on.
        """
        view = self.slurm.observe()
        now = self.clock.now()
        try:
            mode = Mode(self.store.mode(self.default_mode))
            reservations = tuple(self.store.reservations())
            horizon_s = self.rules.stale_after.total_seconds() * 2
            telemetry = self.store.telemetry(now=now, horizon_s=horizon_s)
        except StoreUnavailable as error:
            if not self._read_once:
                raise
            self._say(str(error))
        else:
            self._mode, self._reservations, self._telemetry = mode, reservations, telemetry
            self._read_once = True
            self._say("")
        return Observed(
            now=now,
            mode=self._mode or self.default_mode,
            view=view,
            telemetry=self._telemetry,
            reservations=self._reservations,
            tokens_enforced=tokens_enforced,
        )

    def _say(self, blind: str) -> None:
        """Log an outage once, and its end once."""
        if blind and not self.blind:
            log.error("the ledger is away, jobs and limits are watched without it: %s", blind)
        if self.blind and not blind:
            log.info("the ledger is back")
        self.blind = blind
