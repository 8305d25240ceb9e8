# SPDX-License-Identifier: GPL-2.0-or-later
"""Runs the hook's Lua in one process for many cases, with a stand-in for Slurm's tables."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PLUGIN = Path(__file__).resolve().parents[3] / "slurm_plugin"
CASES = Path(__file__).with_name("cases")
DRIVER = Path(__file__).with_name("driver.lua")
NO_VAL, NO_VAL16 = 4294967294, 65534
NOON = 1_800_000_000  #: when lab.state was written

#: A batch job with nothing said, as slurmctld hands it to Lua.
PLAIN_JOB: Mapping[str, Any] = {
    "name": "job",
    "user_id": 1001,
    "user_name": "alice",
    "default_account": "ml",
    "script": "#!/bin/sh\n",
    "min_nodes": NO_VAL,
    "max_nodes": NO_VAL,
    "num_tasks": NO_VAL,
    "min_cpus": 1,
    "ntasks_per_node": NO_VAL16,
    "cpus_per_task": NO_VAL16,
    "requeue": NO_VAL16,
    "time_limit": NO_VAL,
    "priority": NO_VAL,
    "het_job_offset": NO_VAL,
}

#: scontrol update with nothing asked.
PLAIN_UPDATE: Mapping[str, Any] = {
    "min_nodes": NO_VAL,
    "max_nodes": NO_VAL,
    "priority": NO_VAL,
    "het_job_offset": NO_VAL,
}


def interpreters() -> list[str]:
    found = [name for name in ("lua5.1", "lua5.2", "lua5.3", "lua5.4") if shutil.which(name)]
    return found or ["lua5.1"]


def run(cases: Sequence[Mapping[str, Any]], lua: str = "lua5.1") -> list[dict[str, Any]]:
    """One answer per case, in order."""
    return timed(cases, lua)[0]


def timed(
    cases: Sequence[Mapping[str, Any]], lua: str = "lua5.1"
) -> tuple[list[dict[str, Any]], float]:
    """The answers, and the processor time they took in seconds."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua", encoding="latin-1") as file:
        # Lua 5.1 allows some 260,000 constants in a function: one function a case.
        body = ",\n".join(f"(function() return {literal(case)} end)()" for case in cases)
        file.write(f"return {{\n{body}\n}}\n")
        file.flush()
        done = subprocess.run(
            [lua, str(DRIVER), str(PLUGIN), file.name], capture_output=True, check=False
        )
    if done.returncode:
        raise RuntimeError(done.stderr.decode("latin-1"))
    answers = [json.loads(line) for line in done.stdout.decode("latin-1").splitlines()]
    return answers, float(done.stderr)


def literal(value: Any) -> str:
    """A Lua expression; text as the bytes that Slurm would hand over."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        raw = value.encode("utf-8", "surrogateescape")
        return '"' + "".join(f"\\{byte:03d}" for byte in raw) + '"'
    if isinstance(value, Mapping):
        return "{" + ",".join(f"[{literal(k)}]={literal(v)}" for k, v in value.items()) + "}"
    return "{" + ",".join(literal(each) for each in value) + "}"


def edited_state(text: str, edits: Mapping[str, Mapping[str, Any]]) -> str:
    """lab.state with some values changed: {"layer r1": {"nodes_now": 0}}; None drops a record."""
    lines, left = [], dict(edits)
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        values = dict(item.split("=", 1) for item in rest.split())
        name = f"{word} {values['name']}" if "name" in values else word
        values |= {key: str(value) for key, value in left.pop(name, {}).items()}
        lines.append((word, values))
    for name, values in left.items():
        word, _, each = name.partition(" ")
        lines.insert(-1, (word, {"name": each, **{k: str(v) for k, v in values.items()}}))
    return "".join(
        " ".join([word, *(f"{key}={value}" for key, value in values.items())]) + "\n"
        for word, values in lines
    )
