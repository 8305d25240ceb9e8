# SPDX-License-Identifier: GPL-2.0-or-later
"""Marks in admin_comment: what the broker did to a job, so that its successor knows as well."""

from __future__ import annotations

import json
from datetime import datetime

from broker.domain.cluster import SlurmJob

_OURS = {"held", "shed_at", "shed_w", "shed_from", "made_way_for", "notice_until", "because"}


def marked(job: SlurmJob, **marks: object) -> str:
    """The job's admitted envelope with these marks."""
    return json.dumps({**job.admitted, "v": 1, **marks}, separators=(",", ":"))


def unmarked(job: SlurmJob) -> str:
    """The job's admitted envelope alone."""
    kept = {key: value for key, value in job.admitted.items() if key not in _OURS}
    return json.dumps(kept, separators=(",", ":"))


def shed_by_us(job: SlurmJob) -> bool:
    """Is it held, and by the broker?"""
    return job.held and job.admitted.get("held") is True


def held_blind(job: SlurmJob) -> bool:
    """Was it held by a hook that had no state to judge by?"""
    return job.held and job.admitted.get("reason") in {"StateMissing", "StateStale"}


def notice_until(job: SlurmJob) -> datetime | None:
    """Until when a warned job is left alone."""
    return instant(job.admitted.get("notice_until"))


def stamp(at: datetime) -> str:
    """An instant as a mark holds it."""
    return at.isoformat(timespec="seconds")


def instant(text: object) -> datetime | None:
    """An instant of a mark; None for whatever is none (an operator may have edited it)."""
    try:
        at = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return at if at.tzinfo is not None else None
