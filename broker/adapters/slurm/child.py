# SPDX-License-Identifier: GPL-2.0-or-later
"""The child process that talks to slurmctld; the only place that imports pyslurm.

pyslurm holds the interpreter's lock in every call, and libslurm ends the process when it is
unhappy: both may happen here, where the controller can kill and replace the process.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import traceback
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from broker.adapters.slurm.calls import CALLS

# slurm_errno.h: 2000 and up is slurmctld saying no, below is not reaching it.
_FIRST_REFUSAL = 2000
_IN_STANDBY_MODE = 2027
# SLURM_ERROR: slurmctld's no without a number, e.g. to a reconfigure with a broken file.
_UNSPECIFIED = -1

_USUAL_PLACES = (
    "/etc/slurm/slurm.conf",
    "/etc/slurm-llnl/slurm.conf",
    "/usr/local/etc/slurm.conf",
    "/opt/slurm/etc/slurm.conf",
    "/run/slurm/conf/slurm.conf",
)

#: (what came of it, the value or the words about it)
Answer = tuple[str, Any]


def serve(requests: Connection) -> None:
    """Answer requests until the parent closes its end, which it also does by dying."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        slurm = _load_pyslurm(os.environ)
    except (OSError, ImportError) as error:
        requests.send(("unavailable", str(error)))
        return
    requests.send(("done", os.getpid()))
    while True:
        try:
            name, arguments, deadline_s = requests.recv()
        except EOFError:
            return
        # Nobody would kill a child that hangs in C after its parent died.
        signal.alarm(math.ceil(deadline_s) + 2)
        requests.send(answer(slurm, name, arguments))
        signal.alarm(0)


def answer(slurm: Any, name: str, arguments: tuple[Any, ...]) -> Answer:
    """Do one call; its error in words."""
    try:
        return "done", CALLS[name](slurm, *arguments)
    except slurm.RPCError as error:
        outcome = "refused" if _is_refusal(error.errno) else "unavailable"
        return outcome, f"{error.msg} (errno {error.errno})"
    except Exception:
        return "bug", traceback.format_exc()


def _is_refusal(errno: int) -> bool:
    return errno == _UNSPECIFIED or (errno >= _FIRST_REFUSAL and errno != _IN_STANDBY_MODE)


def _load_pyslurm(environment: Mapping[str, str]) -> Any:
    # Where there is no slurm.conf the import ends the process with "fatal".
    chosen = environment.get("SLURM_CONF")
    places = [chosen] if chosen else _USUAL_PLACES
    configless = "SLURM_CONF_SERVER" in environment
    if not configless and not any(Path(place).is_file() for place in places):
        raise FileNotFoundError(f"no slurm.conf at {', '.join(places)}; set SLURM_CONF")
    import pyslurm

    return pyslurm


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
