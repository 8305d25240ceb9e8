# SPDX-License-Identifier: GPL-2.0-or-later
"""`powermgr why`: the story of a job or of a refused submission, in order of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from broker.domain.cluster import JobState, SlurmJob
from broker.domain.errors import BadRequest
from broker.domain.units import watts
from broker.services.cycle import Picture
from broker.services.listing import job_row
from broker.services.ports import ActionRecord, JobRecord, Store, Verdict
from broker.services.publish import Site

Row = Mapping[str, Any]


def explain(store: Store, site: Site, picture: Picture | None, asked: str) -> list[Row]:
    """Rows ``at, event, text``; BadRequest when nobody knows the ticket or job."""
    job = _job(picture, asked)
    runs = store.job_runs_of(int(asked)) if _is_job_id(asked) else []
    ticket = _ticket(asked, job, runs)
    verdicts = store.verdicts(ticket=ticket) if ticket else []
    job_id = job.job_id if job else int(asked) if runs else None
    if job is None and not verdicts and not runs:
        raise BadRequest(
            f"nothing is known of '{asked}'",
            hint="a ticket stands in the message of sbatch; powermgr show decision lists them",
        )
    actions = store.actions(target=str(job_id)) if job_id else []
    story = [
        *_asked(verdicts),
        *_ran(runs),
        *_acted(actions),
    ]
    story.sort(key=lambda row: row["at"])
    if job is not None and picture is not None:
        story.append(_now(site, picture, job))
    return story


def _is_job_id(asked: str) -> bool:
    """Slurm's job ids have 32 bits at most; longer numbers are no job's."""
    return asked.isascii() and asked.isdecimal() and len(asked) < 10


def _job(picture: Picture | None, asked: str) -> SlurmJob | None:
    jobs = picture.observed.view.jobs if picture else {}
    if _is_job_id(asked):
        return jobs.get(int(asked))
    return next((job for job in jobs.values() if job.admitted.get("ticket") == asked), None)


def _ticket(asked: str, job: SlurmJob | None, runs: Sequence[JobRecord]) -> str | None:
    if not _is_job_id(asked):
        return asked
    if job is not None:
        found = job.admitted.get("ticket")
        return str(found) if found else None
    return next((run.ticket for run in runs if run.ticket), None)


def _asked(verdicts: Iterable[Verdict]) -> Iterable[Row]:
    for verdict in verdicts:
        facts = verdict.facts
        who = f"{facts.get('user') or facts.get('uid')} ({facts.get('account') or 'no account'})"
        yield {
            "at": verdict.at,
            "event": f"{facts.get('call', 'submit')}: {facts.get('verdict')}",
            "text": f"{who}: {facts.get('message')} [{facts.get('reason')}, {verdict.ticket}]",
        }


def _ran(runs: Iterable[JobRecord]) -> Iterable[Row]:
    for run in runs:
        yield {
            "at": run.started_at,
            "event": "started",
            "text": f"on {','.join(run.nodes)} in lane {run.lane},"
            f" {run.tier}, charged {watts(run.charge_w)}",
        }
        if run.ended_at is not None:
            lasted = int((run.ended_at - run.started_at).total_seconds())
            yield {"at": run.ended_at, "event": "ended", "text": f"{run.state} after {lasted} s"}


def _acted(actions: Iterable[ActionRecord]) -> Iterable[Row]:
    for action in actions:
        outcome = "" if action.outcome == "done" else f" [{action.outcome} {action.error}]"
        yield {"at": action.at, "event": action.kind, "text": action.because + outcome}


def _now(site: Site, picture: Picture, job: SlurmJob) -> Row:
    row = job_row(site, picture, job)
    draw = "" if row["draw_w"] is None else f", draws {watts(row['draw_w'])}"
    where = f" on {row['nodes']}" if job.state.holds_nodes else ""
    reason = f" ({row['reason']})" if job.state is JobState.PENDING else ""
    at: datetime = picture.observed.now
    return {
        "at": at,
        "event": "now",
        "text": f"{row['state']}{reason}{where}, charged {watts(row['charge_w'])}{draw}",
    }
