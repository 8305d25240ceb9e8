# SPDX-License-Identifier: GPL-2.0-or-later
"""IPMI: worker processes that share the BMCs, watched from here and replaced when stuck."""

import asyncio
import json
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collectors.devices import Bmc
from collectors.secrets import Login
from collectors.transport.ipmi_cipher import warn_of_cipher_zero

log = logging.getLogger("powercollectord")

_STUCK_AFTER_INTERVALS = 5  #: every BMC is heard of once an interval, missed or answered
_START_ALLOWANCE_S = 10.0  #: until the first word: imports and logins on a busy machine
_RESTART_AFTER_S = 1.0


@dataclass(frozen=True, slots=True)
class IpmiAccess:
    logins: Mapping[str, Login]  #: by BMC
    interval_s: float
    timeout_s: float
    attempts: int = 1  #: how often a request is sent within its timeout


Heard = Callable[[Mapping[str, Any]], None]


async def run_worker(
    bmcs: Sequence[tuple[Bmc, float]],
    access: IpmiAccess,
    heard: Heard,
    *,
    stopping: asyncio.Event,
) -> None:
    """Keep one worker polling these BMCs (each with its phase in s) until told to stop."""
    async with asyncio.TaskGroup() as tasks:
        checking = tasks.create_task(warn_of_cipher_zero([bmc for bmc, _ in bmcs]))
        await _keep_running(bmcs, access, heard, stopping)
        checking.cancel()


async def _keep_running(
    bmcs: Sequence[tuple[Bmc, float]], access: IpmiAccess, heard: Heard, stopping: asyncio.Event
) -> None:
    while not stopping.is_set():
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", __name__ + "_worker", stdin=PIPE, stdout=PIPE
        )
        try:
            await _serve(process, bmcs, access, heard, stopping)
        finally:
            await _end(process)
        if not stopping.is_set():
            log.error("ipmi worker %d ended or was stuck, starting another", process.pid)
            await asyncio.sleep(_RESTART_AFTER_S)


async def _serve(
    process: Process,
    bmcs: Sequence[tuple[Bmc, float]],
    access: IpmiAccess,
    heard: Heard,
    stopping: asyncio.Event,
) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(_instructions(bmcs, access))
    closing = asyncio.create_task(_end_when(stopping, process, within_s=2 * access.timeout_s))
    patience_s = _STUCK_AFTER_INTERVALS * access.interval_s + _START_ALLOWANCE_S
    try:
        while line := await asyncio.wait_for(process.stdout.readline(), patience_s):
            _pass_on(line, heard)
            patience_s = _STUCK_AFTER_INTERVALS * access.interval_s
    except TimeoutError:
        log.error("ipmi worker %d said nothing for %.0f s", process.pid, patience_s)
    finally:
        closing.cancel()


def _pass_on(line: bytes, heard: Heard) -> None:
    try:
        message = json.loads(line)
    except ValueError:
        log.error("ipmi worker said what is no answer: %r", line[:80])
        return
    heard(message)


async def _end_when(stopping: asyncio.Event, process: Process, *, within_s: float) -> None:
    assert process.stdin is not None
    await stopping.wait()
    process.stdin.close()  # the worker stops asking, waits for what it asked, and ends
    await asyncio.sleep(within_s)
    process.kill()


def _instructions(bmcs: Sequence[tuple[Bmc, float]], access: IpmiAccess) -> bytes:
    told = {
        "interval_s": access.interval_s,
        "timeout_s": access.timeout_s,
        "attempts": access.attempts,
        "bmcs": [
            {
                "name": bmc.name,
                "host": bmc.host,
                "port": bmc.port,
                "phase_s": phase_s,
                "user": access.logins[bmc.name].user,
                "password": access.logins[bmc.name].password,
            }
            for bmc, phase_s in bmcs
        ],
    }
    return json.dumps(told).encode() + b"\n"


async def _end(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()
