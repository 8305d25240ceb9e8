# SPDX-License-Identifier: GPL-2.0-or-later
"""The GPU reader against the fake NVML, through nvidia-ml-py against a stub of the driver's
library, and against the real one: `pytest tests/contract/test_nvml.py` on a node with a GPU."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from collectors.devices import Meter
from collectors.nvml import NvmlReader
from collectors.readings import Quality, Reading, from_line
from collectors.transport import NoAnswer
from tests.support.fake_nvml import Card, FakeNvml

NODE = Meter("n01.gpu", "gpu", "localhost", 0, 15_300, scheme="nvml")
Opens = Callable[..., NvmlReader]
STUB = Path(__file__).parents[1] / "support" / "nvml_stub.c"
#: In a process of its own, since a library once loaded stays.
READ = """
import asyncio
import sys
from collectors.devices import Meter
from collectors.nvml import NvmlReader
from collectors.readings import to_line

reader = NvmlReader(Meter("n01.gpu", "gpu", "localhost", 0, 15_300, scheme="nvml"))
sys.stdout.buffer.write(to_line(asyncio.run(reader.read())))
"""


@pytest.fixture
def opens() -> Iterator[Opens]:
    readers: list[NvmlReader] = []

    def open_(nvml: object, **more: float) -> NvmlReader:
        readers.append(NvmlReader(NODE, nvml=nvml, **more))  # type: ignore[arg-type]
        return readers[-1]

    yield open_
    for each in readers:
        each.close()


@pytest.mark.parametrize(
    "nvml", [pytest.param("fake"), pytest.param("real", marks=pytest.mark.gpu)]
)
async def test_every_card_is_read_and_the_node_is_their_sum(opens: Opens, nvml: str) -> None:
    reader = opens(FakeNvml() if nvml == "fake" else None)

    first = await reader.read()
    second = await reader.read()

    assert first.quality is Quality.GOOD, first.note
    named = dict(zip(first.layout, first.values, strict=True))
    powers = [value for name, value in named.items() if name.endswith(".power_w")]
    assert first.active_power_w == round(sum(value for value in powers if value is not None))
    assert first.energy_source == "counter"
    assert first.energy_wh is not None
    assert second.energy_wh is not None
    assert second.energy_wh >= first.energy_wh
    assert named["gpu.0.power_capped"] in (0.0, 1.0)
    assert named["gpu.0.power_limit_w"] is not None
    assert reader.identity is not None
    assert "driver" in reader.identity.description


def test_what_the_drivers_library_says_in_its_own_units(tmp_path: Path) -> None:
    library = tmp_path / "libnvidia-ml.so.1"
    compile_ = ["cc", "-shared", "-fPIC", "-Wall", "-Werror", f"-Wl,-soname,{library.name}"]
    subprocess.run([*compile_, "-o", str(library), str(STUB)], check=True)

    told = subprocess.run(
        [sys.executable, "-c", READ],
        env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        timeout=30,
        check=False,
    )

    assert told.returncode == 0, told.stderr.decode()
    reading = from_line(told.stdout)
    assert isinstance(reading, Reading)
    named = dict(zip(reading.layout, reading.values, strict=True))
    assert (named["gpu.0.power_w"], named["gpu.1.power_w"]) == (412.3, 70.5)
    assert (named["gpu.0.power_capped"], named["gpu.1.power_capped"]) == (1.0, 0.0)
    assert (named["gpu.0.power_brake"], named["gpu.1.thermal_slowdown"]) == (1.0, 1.0)
    assert (named["gpu.0.energy_wh"], named["gpu.0.power_limit_w"]) == (2.001, 700.0)
    assert (reading.active_power_w, reading.energy_wh) == (483, 4)


async def test_units_and_clock_reasons(opens: Opens) -> None:
    card = Card(power_mw=412_300, energy_mj=7_200_000, limit_mw=650_000, reasons=0x04 | 0x80)

    reading = await opens(FakeNvml([card])).read()

    assert dict(zip(reading.layout, reading.values, strict=True)) == {
        "gpu.0.power_w": 412.3,
        "gpu.0.energy_wh": 2.0,
        "gpu.0.power_limit_w": 650.0,
        "gpu.0.power_capped": 1.0,
        "gpu.0.thermal_slowdown": 0.0,
        "gpu.0.power_brake": 1.0,
    }
    assert (reading.active_power_w, reading.energy_wh) == (412, 2)


async def test_a_card_without_the_instant_field_gives_its_average(opens: Opens) -> None:
    reading = await opens(FakeNvml([Card(power_mw=70_000, has_instant=False)])).read()

    assert reading.active_power_w == 70


async def test_a_lost_card_leaves_no_sum_and_is_named(opens: Opens) -> None:
    reading = await opens(FakeNvml([Card(), Card(lost=True)])).read()

    assert reading.active_power_w is None
    assert reading.quality is Quality.NOT_SUPPORTED
    assert reading.note.startswith("GPU 1: ")
    assert reading.values[0] == 300.0


async def test_a_driver_that_goes_and_comes_back_is_opened_again(opens: Opens) -> None:
    nvml = FakeNvml(driver_loaded=False)
    reader = opens(nvml)
    with pytest.raises(NoAnswer, match="NVML: "):
        await reader.read()

    nvml.driver_loaded = True

    assert (await reader.read()).active_power_w == 600


async def test_a_driver_that_blocks_holds_nobody_up(opens: Opens) -> None:
    nvml = FakeNvml([Card()], blocks_s=0.3)
    reader = opens(nvml, timeout_s=0.05)
    begun = time.monotonic()

    with pytest.raises(NoAnswer, match=r"within 0\.05 s"):
        await reader.read()
    with pytest.raises(NoAnswer, match="still holds"):
        await reader.read()

    assert time.monotonic() - begun < 0.25
    nvml.blocks_s = 0.0
    await asyncio.sleep(1.0)
    assert (await reader.read()).active_power_w == 300


async def test_more_than_the_node_can_draw_is_implausible(opens: Opens) -> None:
    reading = await opens(FakeNvml([Card(power_mw=20_000_000)])).read()

    assert reading.quality is Quality.IMPLAUSIBLE
