# SPDX-License-Identifier: GPL-2.0-or-later
"""Slurm's job table as the broker's request: what slurm_plugin/power_broker/job.lua does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from broker.domain.admission import Request
from tests.unit.hook.lua import NO_VAL, NO_VAL16, PLAIN_JOB


def request_of(fields: Mapping[str, Any]) -> Request:
    job = {**PLAIN_JOB, **fields}

    def number(name: str) -> int | None:
        value = job.get(name)
        return None if value in (None, NO_VAL, NO_VAL16) else int(value)

    return Request(
        comment=job.get("comment"),
        user=job.get("user_name"),
        account=job.get("account") or job.get("default_account"),
        partition=job.get("partition"),
        reservation=job.get("reservation"),
        licenses=job.get("licenses"),
        min_nodes=number("min_nodes"),
        num_tasks=number("num_tasks"),
        ntasks_per_node=number("ntasks_per_node"),
        cpus_per_task=number("cpus_per_task"),
        min_cpus=number("min_cpus"),
        tres_per_node=job.get("tres_per_node"),
        tres_per_job=job.get("tres_per_job"),
        tres_per_task=job.get("tres_per_task"),
        time_limit_min=number("time_limit"),
        batch=bool(job.get("script")),
        requeue=number("requeue") != 0,
        het=number("het_job_offset") is not None,
    )
