# SPDX-License-Identifier: GPL-2.0-or-later
"""NVML as nvidia-ml-py shows it, without a GPU: the calls that collectors/nvml.py makes."""

import ctypes
import time
from dataclasses import dataclass, field

import pynvml


@dataclass(slots=True)
class Card:
    power_mw: int = 300_000
    energy_mj: int = 7_200_000_000
    limit_mw: int = 700_000
    reasons: int = pynvml.nvmlClocksEventReasonNone
    has_instant: bool = True
    lost: bool = False


@dataclass(slots=True)
class FakeNvml:
    """Stands for the module pynvml."""

    cards: list[Card] = field(default_factory=lambda: [Card(), Card()])
    driver_loaded: bool = True
    blocks_s: float = 0.0

    NVMLError = pynvml.NVMLError
    NVML_SUCCESS = pynvml.NVML_SUCCESS
    NVML_FI_DEV_POWER_INSTANT = pynvml.NVML_FI_DEV_POWER_INSTANT
    NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION = pynvml.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION
    NVML_FI_DEV_POWER_CURRENT_LIMIT = pynvml.NVML_FI_DEV_POWER_CURRENT_LIMIT

    def nvmlInit(self) -> None:
        if not self.driver_loaded:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)

    def nvmlDeviceGetCount(self) -> int:
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetName(self, handle: int) -> str:
        return "Fake H100"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "0.0"

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._card(handle).power_mw

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        return self._card(handle).reasons

    def nvmlDeviceGetFieldValues(
        self, handle: int, numbers: list[int]
    ) -> "ctypes.Array[pynvml.c_nvmlFieldValue_t]":
        card = self._card(handle)
        known = {
            self.NVML_FI_DEV_POWER_INSTANT: ("uiVal", 1, card.power_mw),
            self.NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION: ("ullVal", 3, card.energy_mj),
            self.NVML_FI_DEV_POWER_CURRENT_LIMIT: ("uiVal", 1, card.limit_mw),
        }
        answers = (pynvml.c_nvmlFieldValue_t * len(numbers))()
        for answer, number in zip(answers, numbers, strict=True):
            answer.fieldId = number
            width, answer.valueType, value = known[number]
            setattr(answer.value, width, value)
            if number == self.NVML_FI_DEV_POWER_INSTANT and not card.has_instant:
                answer.nvmlReturn = pynvml.NVML_ERROR_NOT_SUPPORTED
        return answers

    def _card(self, handle: int) -> Card:
        time.sleep(self.blocks_s)
        self.nvmlInit()
        if self.cards[handle].lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return self.cards[handle]
