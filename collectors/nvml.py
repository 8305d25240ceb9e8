# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the GPUs of the node it runs on through NVML (the driver's library, by nvidia-ml-py).

The instant field is for control, the energy counter for accounting; nvmlDeviceGetPowerUsage is an
average over about a second on Ampere and later, and asked only of cards that lack the field.
"""

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

from collectors.devices import Meter
from collectors.plausibility import Meaning, judge_power
from collectors.readings import Identity, Quality, Reading
from collectors.transport import NoAnswer

_WATTS = Meaning()
_POWER_CAPPED = 0x04  #: nvmlClocksEventReasonSwPowerCap
_THERMAL = 0x20 | 0x40  #: software, hardware
_POWER_BRAKE = 0x80  #: the hardware slows the card because power is short outside it
_WIDTH = {0: "dVal", 1: "uiVal", 2: "ulVal", 3: "ullVal", 4: "sllVal", 5: "siVal"}
_TIMEOUT_S = 1.5  #: a driver in trouble blocks its callers for a minute and more


@dataclass(frozen=True, slots=True)
class _Gpu:
    """One card's answer; None is what it does not tell."""

    power_w: float | None
    energy_wh: float | None
    limit_w: float | None
    reasons: int | None
    trouble: str = ""


class NvmlReader:
    """All GPUs of this node as one device, each card in the values."""

    def __init__(
        self,
        meter: Meter,
        *,
        nvml: Any = None,
        timeout_s: float = _TIMEOUT_S,
        last_good_w: int | None = None,
    ) -> None:
        self._meter = meter
        self._nvml = nvml
        self._timeout_s = timeout_s
        self._last_good_w = last_good_w
        self._handles: list[Any] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nvml")
        self._under_way: Future[list[_Gpu]] | None = None
        self.identity: Identity | None = None

    async def read(self) -> Reading:
        """Poll once; raises NoAnswer."""
        if self._under_way is not None and not self._under_way.done():
            raise NoAnswer("the driver still holds the last request")
        self._under_way = self._thread.submit(self._ask)
        try:
            async with asyncio.timeout(self._timeout_s):
                gpus = await asyncio.wrap_future(self._under_way)
        except TimeoutError as why:
            raise NoAnswer(f"the driver did not answer within {self._timeout_s:g} s") from why
        return self._reading(gpus, time.time_ns() // 1000)

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self) -> list[_Gpu]:
        """In the thread: NVML blocks."""
        nvml = self._library()
        try:
            if not self._handles:
                self._begin(nvml)
            return [_ask_one(nvml, each) for each in self._handles]
        except nvml.NVMLError as why:
            self._handles = []  # a driver that was reloaded wants to be opened again
            raise NoAnswer(f"NVML: {why}") from why

    def _library(self) -> Any:
        if self._nvml is None:
            try:
                import pynvml
            except ImportError as why:
                raise NoAnswer("nvidia-ml-py is not installed; pip install .[nvml]") from why
            self._nvml = pynvml
        return self._nvml

    def _begin(self, nvml: Any) -> None:
        nvml.nvmlInit()
        count = nvml.nvmlDeviceGetCount()
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        if not handles:
            raise NoAnswer("the driver knows no GPU")
        description = (
            f"{len(handles)} x {nvml.nvmlDeviceGetName(handles[0])},"
            f" driver {nvml.nvmlSystemGetDriverVersion()}"
        )
        now_us = time.time_ns() // 1000
        self.identity = Identity(self._meter.name, "gpu", now_us, "nvml", "", description)
        self._handles = handles

    def _reading(self, gpus: list[_Gpu], at_us: int) -> Reading:
        names, values = _values(gpus)
        power_w = _sum([each.power_w for each in gpus])
        judged = judge_power(
            None if power_w is None else round(power_w),
            _WATTS,
            ceiling_w=self._meter.ceiling_w,
            last_good_w=self._last_good_w,
        )
        if judged.quality is Quality.GOOD:
            self._last_good_w = judged.active_power_w
        trouble = next((f"GPU {n}: {g.trouble}" for n, g in enumerate(gpus) if g.trouble), "")
        energy_wh = _sum([each.energy_wh for each in gpus])
        return Reading(
            device=self._meter.name,
            kind="gpu",
            polled_at_us=at_us,
            active_power_w=judged.active_power_w,
            apparent_power_va=None,
            energy_wh=None if energy_wh is None else int(energy_wh),
            quality=judged.quality,
            note=trouble or judged.note,
            layout=names,
            values=values,
            energy_source="" if energy_wh is None else "counter",
        )


def _ask_one(nvml: Any, handle: Any) -> _Gpu:
    """One card; a lost one must not hide the others."""
    trouble = ""
    try:
        fields = _fields(nvml, handle)
        instant_mw = fields.get(nvml.NVML_FI_DEV_POWER_INSTANT)
        power_mw = nvml.nvmlDeviceGetPowerUsage(handle) if instant_mw is None else instant_mw
    except nvml.NVMLError as why:
        fields, power_mw, trouble = {}, None, str(why)
    energy_mj = fields.get(nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION)
    limit_mw = fields.get(nvml.NVML_FI_DEV_POWER_CURRENT_LIMIT)
    return _Gpu(
        power_w=None if power_mw is None else power_mw / 1e3,
        energy_wh=None if energy_mj is None else energy_mj / 3.6e6,
        limit_w=None if limit_mw is None else limit_mw / 1e3,
        reasons=_reasons(nvml, handle),
        trouble=trouble,
    )


def _fields(nvml: Any, handle: Any) -> dict[int, float]:
    """The fields this card has, by number; the others say so, each for itself."""
    answers = nvml.nvmlDeviceGetFieldValues(
        handle,
        [
            nvml.NVML_FI_DEV_POWER_INSTANT,
            nvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION,
            nvml.NVML_FI_DEV_POWER_CURRENT_LIMIT,
        ],
    )
    return {
        each.fieldId: getattr(each.value, _WIDTH[each.valueType])
        for each in answers
        if each.nvmlReturn == nvml.NVML_SUCCESS and each.valueType in _WIDTH
    }


def _reasons(nvml: Any, handle: Any) -> int | None:
    try:
        return int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
    except nvml.NVMLError:
        return None


def _values(gpus: list[_Gpu]) -> tuple[tuple[str, ...], tuple[float | None, ...]]:
    named: dict[str, float | None] = {}
    for number, gpu in enumerate(gpus):
        named[f"gpu.{number}.power_w"] = gpu.power_w
        named[f"gpu.{number}.energy_wh"] = gpu.energy_wh
        named[f"gpu.{number}.power_limit_w"] = gpu.limit_w
        named[f"gpu.{number}.power_capped"] = _bit(gpu.reasons, _POWER_CAPPED)
        named[f"gpu.{number}.thermal_slowdown"] = _bit(gpu.reasons, _THERMAL)
        named[f"gpu.{number}.power_brake"] = _bit(gpu.reasons, _POWER_BRAKE)
    return tuple(named), tuple(named.values())


def _bit(reasons: int | None, mask: int) -> float | None:
    return None if reasons is None else float(bool(reasons & mask))


def _sum(parts: list[float | None]) -> float | None:
    """A sum that leaves a card out would be a lie."""
    return None if None in parts else sum(cast(list[float], parts))
