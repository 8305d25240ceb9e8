# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes readings of what a BMC answers to DCMI's Get Power Reading (DCMI 1.5, table 6-16)."""

import struct
from collections.abc import Callable, Mapping
from typing import Any

from collectors.devices import Bmc
from collectors.plausibility import Meaning, judge_power
from collectors.readings import Quality, Reading
from collectors.watch import Watch

_MEASURING = 0x40  #: bit 6 of the state byte: power measurement is active
_WATTS = Meaning()


class BmcReader:
    """One BMC's answers, judged."""

    def __init__(self, bmc: Bmc, *, last_good_w: int | None = None) -> None:
        self._bmc = bmc
        self._last_good_w = last_good_w

    def read(self, *, at_us: int, code: int, data: bytes) -> Reading:
        """One answer, whatever it is, as one reading."""
        power_w, why = _current_power_w(code, data)
        judged = judge_power(
            power_w, _WATTS, ceiling_w=self._bmc.ceiling_w, last_good_w=self._last_good_w
        )
        if judged.quality is Quality.GOOD:
            self._last_good_w = judged.active_power_w
        return Reading(
            device=self._bmc.name,
            kind="bmc",
            polled_at_us=at_us,
            active_power_w=judged.active_power_w,
            apparent_power_va=None,
            energy_wh=None,
            quality=judged.quality,
            note=why or judged.note,
        )


def _current_power_w(code: int, data: bytes) -> tuple[int | None, str]:
    if code:
        return None, f"answered completion code 0x{code:02x} to the DCMI power reading"
    if len(data) < 18 or data[0] != 0xDC:
        return None, f"answered {len(data)} bytes that are no DCMI power reading"
    if not data[17] & _MEASURING:
        return None, "says that it does not measure power now"
    return struct.unpack_from("<H", data, 1)[0], ""


def listener(
    bmcs: Mapping[str, BmcReader], watches: Mapping[str, Watch]
) -> Callable[[Mapping[str, Any]], None]:
    """What is done with each line a worker says."""

    def heard(message: Mapping[str, Any]) -> None:
        name = message["device"]
        if "missed" in message:
            watches[name].missed(message["missed"])
            return
        data = bytes.fromhex(message["data"])
        reading = bmcs[name].read(at_us=message["at_us"], code=message["code"], data=data)
        watches[name].answered(reading)

    return heard
