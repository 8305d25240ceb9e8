# SPDX-License-Identifier: GPL-2.0-or-later
"""The few things that pyslurm cannot do, by Slurm's own command."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

from broker.adapters.slurm.hostlist import expand
from broker.domain.errors import SlurmRefused, SlurmUnavailable

# What scontrol says when it did not reach slurmctld; its exit status is 1 for everything.
_NOT_REACHED = ("Unable to contact", "Connection", "timed out", "standby", "Could not establish")


def clear_job_field(job_id: int, field: str, *, deadline_s: float) -> None:
    """Empty a job's ``licenses`` or ``admincomment``: pyslurm takes an empty text for no change."""
    _scontrol(["update", f"jobid={job_id}", f"{field}="], deadline_s=deadline_s)


def token_usage(*, deadline_s: float) -> Sequence[tuple[tuple[str, ...], int, int]]:
    """(nodes, total, used) of every layer, in W.

    pyslurm keys licences by name, and so hides all layers but one.
    """
    found: dict[str, Any] = json.loads(
        _scontrol(["show", "license", "power", "--json"], deadline_s=deadline_s)
    )
    return [
        (expand(each["Nodes"]), each["Total"], each["Used"])
        for each in found["licenses"]
        if each["LicenseName"] == "power"
    ]


def _scontrol(words: Sequence[str], *, deadline_s: float) -> str:
    command = ["scontrol", *words]
    said = " ".join(command)
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
            stdin=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired as error:
        raise SlurmUnavailable(
            f"{said}: no answer within {deadline_s:g} s", hint="scontrol ping"
        ) from error
    except OSError as error:
        raise SlurmUnavailable(f"{said}: {error}", hint="install Slurm's commands") from error
    if done.returncode == 0:
        return done.stdout
    words_of_slurm = (done.stderr or done.stdout).strip()
    if any(each in words_of_slurm for each in _NOT_REACHED):
        raise SlurmUnavailable(f"{said}: {words_of_slurm}", hint="scontrol ping")
    raise SlurmRefused(f"{said}: {words_of_slurm}")
