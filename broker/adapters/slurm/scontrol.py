# SPDX-License-Identifier: GPL-2.0-or-later
"""The few things that pyslurm cannot do, by Slurm's own command."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from broker.adapters.slurm.hostlist import expand
from broker.domain.errors import SlurmRefused, SlurmUnavailable

# What scontrol says when it did not reach slurmctld; its exit status is 1 for everything.
_NOT_REACHED = ("Unable to contact", "Connection", "timed out", "standby", "Could not establish")


@dataclass(frozen=True, slots=True)
class Scontrol:
    """The command, with a deadline in seconds; ``run_as`` as in PyslurmController."""

    deadline_s: float
    environment: Mapping[str, str]
    run_as: str | None = None

    def clear_job_field(self, job_id: int, field: str) -> None:
        """Empty a job's ``licenses`` or ``admincomment``: pyslurm takes "" for no change."""
        self._run("update", f"jobid={job_id}", f"{field}=")

    def token_usage(self) -> Sequence[tuple[tuple[str, ...], int, int]]:
        """(nodes, total, used) of every layer, in W.

        pyslurm keys licences by name, and so hides all layers but one.
        """
        found: dict[str, Any] = json.loads(self._run("show", "license", "--json"))
        return [
            (expand(each["Nodes"]), each["Total"], each["Used"])
            for each in found["licenses"]
            if each["LicenseName"] == "power" and each["Nodes"]
        ]

    def _run(self, *words: str) -> str:
        command = ["scontrol", *words]
        said = " ".join(command)
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=self.deadline_s,
                check=False,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "LC_ALL": "C.UTF-8", **self.environment},
                user=self.run_as,
            )
        except subprocess.TimeoutExpired as error:
            raise SlurmUnavailable(
                f"{said}: no answer within {self.deadline_s:g} s", hint="scontrol ping"
            ) from error
        except OSError as error:
            raise SlurmUnavailable(f"{said}: {error}", hint="install Slurm's commands") from error
        if done.returncode == 0:
            return done.stdout
        words_of_slurm = (done.stderr or done.stdout).strip()
        if any(each in words_of_slurm for each in _NOT_REACHED):
            raise SlurmUnavailable(f"{said}: {words_of_slurm}", hint="scontrol ping")
        raise SlurmRefused(f"{said}: {words_of_slurm}")
