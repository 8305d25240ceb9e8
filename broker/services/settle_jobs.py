# SPDX-License-Identifier: GPL-2.0-or-later
"""Keep every run of every job in the ledger, after Slurm has forgotten it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from broker.domain.cluster import JobState, SlurmJob, SlurmView
from broker.services.ports import JobRecord, Store
from broker.services.publish import Site, charge_w

_Run = tuple[int, datetime]


@dataclass
class SettleJobs:
    """Writes what changed since the last cycle; a run that vanished has ended."""

    site: Site
    store: Store
    _known: dict[_Run, JobRecord] = field(default_factory=dict)
    _adopted: bool = False

    def __call__(self, view: SlurmView) -> int:
        """Returns how many runs were written. Raises StoreUnavailable; nothing is forgotten."""
        if not self._adopted:
            self._adopt(view.seen_at)
        seen = {_run(record): record for record in self._records(view)}
        gone = [
            replace(record, ended_at=view.seen_at, state="ENDED")
            for run, record in self._known.items()
            if record.ended_at is None and run not in seen
        ]
        changed = [record for run, record in seen.items() if self._known.get(run) != record]
        if changed or gone:
            self.store.settle_jobs([*changed, *gone], now=view.seen_at)
        self._known = seen
        return len(changed) + len(gone)

    def _adopt(self, now: datetime) -> None:
        """Runs that were open when the last broker ended: they may have ended meanwhile."""
        runs = self.store.job_runs(start=now, end=now)
        self._known = {_run(each): each for each in runs if each.ended_at is None}
        self._adopted = True

    def _records(self, view: SlurmView) -> Iterable[JobRecord]:
        for job in view.jobs.values():
            if job.started_at is not None and job.nodes and job.state is not JobState.PENDING:
                yield self._record(job)

    def _record(self, job: SlurmJob) -> JobRecord:
        assert job.started_at is not None
        return JobRecord(
            job_id=job.job_id,
            started_at=job.started_at,
            # While it completes its processes may still draw: the node is not free yet.
            ended_at=job.ended_at if job.state is JobState.ENDED else None,
            user=job.user,
            account=job.account,
            partition=job.partition,
            nodes=job.nodes,
            charge_w=charge_w(self.site, job),
            tier=str(job.tier),
            lane=self.site.rules.lane_of(job.partition),
            state=job.slurm_state,
            reservation=job.reservation,
            ticket=str(job.admitted.get("ticket", "")),
        )


def _run(record: JobRecord) -> _Run:
    return record.job_id, record.started_at
