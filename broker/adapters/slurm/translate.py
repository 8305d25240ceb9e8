# SPDX-License-Identifier: GPL-2.0-or-later
"""pyslurm's objects in the domain's words. Knows their attributes, not the library."""

from __future__ import annotations

import pwd
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from broker.adapters.slurm.hostlist import expand
from broker.domain.cluster import JobState, SlurmJob, SlurmNode, SlurmReservation, SlurmView

# 0xffffffff, Slurm's INFINITE: what it calls a time that never comes.
NEVER = datetime.fromtimestamp(0xFFFFFFFF, UTC)

# Slurm shows one flag in place of the base state. A job being configured or resized has its
# nodes; one that is requeued waits for them. COMPLETING comes first in Slurm's own choice.
_STATES: Mapping[str, JobState] = {
    "PENDING": JobState.PENDING,
    "REQUEUED": JobState.PENDING,
    "REQUEUE_FED": JobState.PENDING,
    "REQUEUE_HOLD": JobState.PENDING,
    "SPECIAL_EXIT": JobState.PENDING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "CONFIGURING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "EXPEDITING": JobState.RUNNING,
    "SUSPENDED": JobState.SUSPENDED,
    "COMPLETING": JobState.COMPLETING,
}

_POWER = re.compile(r"^power(?:\([^)]*\))?(?:[:=](\d+))?$")
_OUTSIDE_PARENTHESES = re.compile(r"[,;](?![^(]*\))")


def view(nodes: Any, jobs: Any, reservations: Any, *, seen_at: datetime) -> SlurmView:
    """One look at Slurm out of three pyslurm collections."""
    return SlurmView(
        seen_at=seen_at,
        nodes={each.name: each for each in map(_node, nodes.values())},
        jobs={each.job_id: each for each in map(_job, jobs.values())},
        reservations={each.name: each for each in map(reservation, reservations.values())},
    )


def reservation(found: Any) -> SlurmReservation:
    """A reservation; its flags are left out, as pyslurm fails on flags it does not know."""
    return SlurmReservation(
        name=found.name,
        nodes=expand(found.nodes),
        starts_at=_time(found.start_time) or NEVER,
        ends_at=_time(found.end_time) or NEVER,
        accounts=tuple(found.accounts),
        users=tuple(found.users),
    )


def licenses_text(found: str | Iterable[str] | Mapping[str, int] | None) -> str:
    """Licences as ``name:count,...``, whatever the binding made of them."""
    if not found:
        return ""
    if isinstance(found, Mapping):
        return ",".join(f"{name}:{count}" for name, count in found.items())
    text = found if isinstance(found, str) else ",".join(found)
    return ",".join(_plain(each.strip()) for each in _OUTSIDE_PARENTHESES.split(text) if each)


def with_tokens(licenses: str, tokens_w_per_node: int | None) -> str:
    """Replace the power tokens in a licence text, keep the others."""
    others = [each for each in licenses.split(",") if each and not _POWER.match(each)]
    tokens = [] if tokens_w_per_node is None else [f"power:{tokens_w_per_node}"]
    return ",".join([*others, *tokens])


def job_state(word: str) -> JobState:
    """Slurm's word for a job's state; an unknown one is a final state."""
    return _STATES.get(word, JobState.ENDED)


def _plain(license_text: str) -> str:
    # A job that runs may show where its tokens come from: power(n[01-04]):6000.
    found = _POWER.match(license_text)
    return f"power:{found[1] or 1}" if found else license_text


def _node(found: Any) -> SlurmNode:
    return SlurmNode(name=found.name, state=found.state, weight=found.weight or 1)


def _job(found: Any) -> SlurmJob:
    state = job_state(found.state)
    nodes = expand(found.allocated_nodes) if state.holds_nodes else ()
    started_at = _time(found.start_time)
    return SlurmJob(
        job_id=found.id,
        user=_user_name(found.user_id),
        account=found.account or "",
        partition=found.partition or "",
        state=state,
        slurm_state=found.state,
        reason=_reason(found.state_reason),
        name=found.name or "",
        nodes=nodes or expand(found.allocated_nodes),
        node_count=len(nodes) or found.num_nodes or 1,
        licenses=licenses_text(found.licenses),
        admin_comment=found.admin_comment or "",
        comment=found.comment or "",
        reservation=found.reservation or "",
        batch=bool(found.is_batch_job),
        requeue=bool(found.is_requeueable),
        priority=found.priority if isinstance(found.priority, int) else None,
        restarts=found.requeue_count or 0,
        submitted_at=_time(found.submit_time),
        # A waiting job's start is backfill's guess, not a fact.
        started_at=None if state is JobState.PENDING else started_at,
        ended_at=_time(found.end_time) if state is JobState.ENDED else None,
        ends_by=_time(found.end_time) if state is JobState.RUNNING else None,
        array_job_id=found.array_id,
        array_task_id=_array_task(found),
    )


def _reason(words: str | None) -> str:
    return "" if words in (None, "None") else str(words)


def _array_task(found: Any) -> int | None:
    # pyslurm reads task 0 as "none": a member of an array that stands for no waiting tasks is it.
    if found.array_id and found.array_task_id is None and not found.array_tasks_waiting:
        return 0
    task: int | None = found.array_task_id
    return task


def _time(unix_s: int | None) -> datetime | None:
    return datetime.fromtimestamp(unix_s, UTC) if unix_s else None


@lru_cache(maxsize=4096)
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
