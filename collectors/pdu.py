# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads one PDU over SNMP by its profile: asks everything in one GET, so an answer is a row."""

import time
from collections.abc import Mapping

from collectors.devices import Pdu
from collectors.plausibility import Meaning, believable_extra, fits_int4, judge_power
from collectors.readings import Quality, Reading
from collectors.transport import NoAnswer, SnmpTransport

SYS_OBJECT_ID = "1.3.6.1.2.1.1.2.0"
SYS_UP_TIME = "1.3.6.1.2.1.1.3.0"
_MOST_DIGITS = 9  # a device that claims more decimal digits than this is not to be believed


class PduReader:
    """One PDU, and what discovery told about it."""

    def __init__(
        self, pdu: Pdu, transport: SnmpTransport, *, last_good_w: int | None = None
    ) -> None:
        self._pdu = pdu
        self._transport = transport
        self._objects = pdu.profile.objects()
        self._asked = [SYS_UP_TIME, *(each.oid for each in self._objects.values())]
        self._meanings: Mapping[str, Meaning] = {}
        self._stranger = ""  #: why the device is not what the inventory says
        self._up_time = -1
        self._last_good_w = last_good_w

    async def read(self) -> Reading:
        """Poll once; raises NoAnswer."""
        if not self._meanings:
            await self._discover()
        answer = await self._transport.get(self._asked)
        polled_at_us = time.time_ns() // 1000
        doubt = await self._doubt_after_reboot(answer)
        reading = self._decode(answer, polled_at_us, doubt)
        if reading.quality is Quality.GOOD:
            self._last_good_w = reading.active_power_w
        return reading

    def close(self) -> None:
        self._transport.close()

    async def _discover(self) -> None:
        """Ask who it is and how many decimal digits its values have; no power is asked here."""
        digits_oids = [each.digits_oid for each in self._objects.values() if each.digits_oid]
        answer = await self._transport.get([SYS_OBJECT_ID, *digits_oids])
        found = str(answer.get(SYS_OBJECT_ID, "")).lstrip(".")
        self._stranger = "" if self._pdu.profile.recognises(found) else found or "nothing"
        meanings = {}
        for name, each in self._objects.items():
            digits = _digits(answer.get(each.digits_oid)) if each.digits_oid else 0
            if digits is None and name == "active_power_w":
                raise NoAnswer(f"does not say how many decimal digits its power has ({each.oid})")
            if digits is not None:
                meanings[name] = each.meaning(digits)
        self._meanings = meanings

    async def _doubt_after_reboot(self, answer: Mapping[str, object]) -> str:
        """An agent that started anew may have another scale: ask again before believing it."""
        up_time = answer.get(SYS_UP_TIME)
        if not isinstance(up_time, int):
            return ""
        rebooted = up_time < self._up_time
        self._up_time = up_time
        if not rebooted:
            return ""
        try:
            await self._discover()
        except NoAnswer as why:
            self._up_time = up_time + 1  # so that the next poll asks once more
            return f"rebooted, and its scale could not be read again: {why}"
        return ""

    def _decode(self, answer: Mapping[str, object], polled_at_us: int, doubt: str) -> Reading:
        raw = {name: answer.get(each.oid) for name, each in self._objects.items()}
        power = judge_power(
            raw["active_power_w"],
            self._meanings["active_power_w"],
            ceiling_w=self._pdu.ceiling_w,
            last_good_w=self._last_good_w,
        )
        if self._stranger:
            doubt = f"answers as {self._stranger}, which is no {self._pdu.profile_name}"
        extra = {
            name: believable_extra(raw[name], self._meanings[name])
            for name in raw
            if name in self._meanings
        }
        return Reading(
            device=self._pdu.name,
            kind="pdu",
            polled_at_us=polled_at_us,
            active_power_w=power.active_power_w,
            apparent_power_va=fits_int4(extra.get("apparent_power_va")),
            energy_wh=extra.get("energy_wh"),
            quality=Quality.IMPLAUSIBLE if doubt else power.quality,
            note=doubt or power.note,
        )


def _digits(raw: object) -> int | None:
    if isinstance(raw, int) and not isinstance(raw, bool) and 0 <= raw <= _MOST_DIGITS:
        return raw
    return None
