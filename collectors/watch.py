# SPDX-License-Identifier: GPL-2.0-or-later
"""Notices when a device goes silent and when it comes back: one log line each, one record."""

import logging
import time
from collections.abc import Callable

from collectors.devices import Device
from collectors.metrics import DeviceMeter
from collectors.quality import Judge
from collectors.readings import Identity, Quality, Reading, Record, Silence

log = logging.getLogger("powercollectord")


class Watch:
    """The history of one device that matters for silence and for the diary."""

    def __init__(
        self,
        device: Device,
        *,
        stale_after_polls: int,
        emit: Callable[[Record], None],
        judge: Judge | None = None,
    ) -> None:
        self._device = device
        self._stale_after_polls = stale_after_polls
        self._emit = emit
        self._judge = judge
        self._missed = 0
        self._heard_at_us = time.time_ns() // 1000
        self._silent = False
        self._quality = Quality.GOOD
        self._meter = DeviceMeter(device)
        self._identity: Identity | None = None

    def identified(self, identity: Identity | None) -> None:
        """What the device is, as its reader found out; recorded once."""
        if identity is not None and identity != self._identity:
            self._emit(identity)
            self._identity = identity

    def answered(
        self, reading: Reading, *, took_s: float | None = None, up_time: int | None = None
    ) -> None:
        if self._judge is not None:
            reading = self._judge(reading, up_time=up_time)
        self._emit(reading)
        self._meter.answered(reading, took_s)
        if self._silent:
            away_s = (reading.polled_at_us - self._heard_at_us) / 1e6
            log.info("%s: answers again after %.0f s", reading.device, away_s)
        if reading.quality is not self._quality:
            log.info("%s: %s%s", reading.device, reading.quality, _because(reading.note))
        self._quality = reading.quality
        self._heard_at_us = reading.polled_at_us
        self._missed = 0
        self._silent = False

    def missed(self, reason: str) -> None:
        self._missed += 1
        self._meter.missed(reason)
        if self._silent or self._missed < self._stale_after_polls:
            return
        self._silent = True
        self._meter.silent()
        now_us = time.time_ns() // 1000
        note = f"no answer for {(now_us - self._heard_at_us) / 1e6:.0f} s: {reason}"
        log.warning("%s: %s", self._device.name, note)
        self._emit(Silence(self._device.name, self._device.kind, now_us, self._heard_at_us, note))

    def forget(self) -> None:
        """The device is another collector's now."""
        self._meter.forget()


def _because(note: str) -> str:
    return f": {note}" if note else ""
