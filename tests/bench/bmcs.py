# SPDX-License-Identifier: GPL-2.0-or-later
"""Hundreds of the fleet's BMCs in one process.

Run as `python -m tests.bench.bmcs --inventory F --port N`; prints `ready`, and when its stdin ends
one JSON object: answered power polls by device.
"""

import argparse
import asyncio
import json
import random
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.fleet.bmc import SimulatedBmc
from tests.fleet.journal import Journal
from tests.fleet.layout import load_layout
from tests.fleet.plant import Plant
from tests.fleet.serve import _open_bmcs

_TICK_S = 5.0


async def serve(inventory: Path, port: int, drop: float) -> dict[str, int]:
    """Answer until stdin ends."""
    plant = Plant(load_layout(inventory), Journal(Path("/dev/null")))
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, ended.set)
    with ExitStack() as stack:
        bmcs = _open_bmcs(plant, port, stack)
        if drop:
            for each in bmcs:
                _lose(each, drop)
        print("ready", flush=True)
        while not ended.is_set():
            plant.tick(_TICK_S, {})
            for each in bmcs:
                each.drop_idle_sessions()
            try:
                async with asyncio.timeout(_TICK_S):
                    await ended.wait()
            except TimeoutError:
                continue
    return {bmc: plant.answers[bmc] for bmc in (node.bmc for node in plant.layout.nodes.values())}


def _lose(bmc: SimulatedBmc, share: float) -> None:
    """Packets to this BMC are lost from now on."""
    receive, chance = bmc.receive, random.Random(1)

    def lossy(packet: bytes, client: Any) -> None:
        if chance.random() >= share:
            receive(packet, client)

    bmc.receive = lossy  # type: ignore[method-assign]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inventory", type=Path, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--drop", type=float, default=0.0, help="share of packets that are lost")
    asked = parser.parse_args()
    json.dump(asyncio.run(serve(asked.inventory, asked.port, asked.drop)), sys.stdout)


if __name__ == "__main__":
    main()
