# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger in memory, for tests: what PostgresStore promises, by the same contract tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import RLock
from typing import Any

from broker.domain.cluster import Reading, Telemetry
from broker.domain.errors import BadRequest, StoreUnavailable
from broker.domain.power_graph import PowerGraph
from broker.domain.reservation import PowerReservation, ReservationState, check_promise
from broker.services.ports import ActionRecord, DeviceState, JobRecord, Verdict


@dataclass(frozen=True, slots=True)
class Audit:
    """A row of the ledger's audit."""

    at: datetime
    reservation: str | None
    event: str
    by: str
    reason: str


class MemoryStore:
    """Implements the port ``Store``. Set ``away`` to a sentence and every call is an outage."""

    def __init__(self, readings: Iterable[Reading] = ()) -> None:
        self.away = ""
        self.audit: list[Audit] = []
        self._one_at_a_time = RLock()
        self._readings: dict[str, list[Reading]] = {}
        self._devices: dict[str, DeviceState] = {}
        self._mode: str | None = None
        self._reservations: list[PowerReservation] = []
        self._actions: list[ActionRecord] = []
        self._verdicts: dict[tuple[str, str, datetime], Verdict] = {}
        self._spools: dict[str, int] = {}
        self._jobs: dict[tuple[int, datetime], tuple[datetime, JobRecord]] = {}
        for reading in readings:
            self.add_reading(reading)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._one_at_a_time:
            if self.away:
                raise StoreUnavailable(self.away)
            yield

    def add_reading(self, reading: Reading) -> None:
        """What a collector would have written."""
        found = self._readings.setdefault(reading.device, [])
        found.append(reading)
        found.sort(key=lambda each: each.polled_at)

    def telemetry(self, *, now: datetime, horizon_s: float) -> Telemetry:
        since = now - timedelta(seconds=horizon_s)
        with self._transaction():
            return Telemetry(
                {
                    device: tuple(each for each in found if each.polled_at > since)
                    or tuple(found[-1:])
                    for device, found in self._readings.items()
                }
            )

    def add_device(self, state: DeviceState) -> None:
        """What a collector would have made of its last answer."""
        self._devices[state.name] = state

    def devices(self, names: Sequence[str] = ()) -> Sequence[DeviceState]:
        with self._transaction():
            found = [each for each in self._devices.values() if not names or each.name in names]
            return sorted(found, key=lambda each: each.name)

    def samples(self, *, start: datetime, end: datetime) -> Iterator[Reading]:
        with self._transaction():
            found = [
                each
                for device in sorted(self._readings)
                for each in self._readings[device]
                if start <= each.polled_at < end
                if each.quality.believable and each.active_power_w is not None
            ]
        yield from found

    def mode(self, default: str) -> str:
        with self._transaction():
            return self._mode or default

    def set_mode(self, mode: str, *, by: str, now: datetime) -> None:
        with self._transaction():
            self._mode = mode
            self.audit.append(Audit(now, None, "mode", by, f"mode={mode}"))

    def add_reservation(
        self, reservation: PowerReservation, *, graph: PowerGraph, now: datetime, by: str
    ) -> None:
        with self._transaction():
            others = [each for each in self._reservations if each.state.open]
            if because := _broken_rule(reservation, others):
                raise BadRequest(f"reservation {reservation.name}: {because}")
            check_promise(reservation, graph=graph, others=others)
            self._reservations.append(reservation)
            self.audit.append(Audit(now, reservation.name, "added", by, reservation.reason))

    def reservations(self, *, open_only: bool = True) -> Sequence[PowerReservation]:
        with self._transaction():
            found = [each for each in self._reservations if each.state.open or not open_only]
            return sorted(found, key=lambda each: (each.starts_at, each.name))

    def set_reservation_state(
        self,
        name: str,
        state: ReservationState,
        *,
        reason: str,
        now: datetime,
        by: str,
        used_at: datetime | None = None,
    ) -> None:
        with self._transaction():
            named = [i for i, each in enumerate(self._reservations) if each.name == name]
            if not named:
                raise BadRequest(f"no reservation {name}", hint="powermgr show reservation")
            for index in named:
                found = self._reservations[index]
                if not found.state.open:
                    continue
                self._reservations[index] = replace(
                    found, state=state, reason=reason, used_at=used_at or found.used_at
                )
                if (found.state, found.reason) != (state, reason):
                    self.audit.append(Audit(now, name, state.value, by, reason))

    def intend(
        self,
        kind: str,
        target: str,
        because: str,
        *,
        now: datetime,
        facts: Mapping[str, Any] | None = None,
    ) -> int:
        with self._transaction():
            action_id = len(self._actions) + 1
            kept = None if facts is None else _as_json(facts)
            self._actions.append(
                ActionRecord(action_id, now, kind, target, because, "intent", facts=kept)
            )
            return action_id

    def confirm(self, action_id: int, *, now: datetime, outcome: str, error: str = "") -> None:
        with self._transaction():
            if not 1 <= action_id <= len(self._actions):
                raise BadRequest(f"no action {action_id} to confirm")
            intent = self._actions[action_id - 1]
            self._actions[action_id - 1] = replace(intent, outcome=outcome, error=error)

    def actions(
        self,
        *,
        target: str | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        limit: int = 100,
    ) -> Sequence[ActionRecord]:
        with self._transaction():
            found = [
                each
                for each in self._actions
                if target in {None, each.target} and kind in {None, each.kind}
                if since is None or each.at >= since
            ]
        return sorted(found, key=lambda each: (each.at, each.action_id), reverse=True)[:limit]

    def add_verdicts(self, verdicts: Iterable[Verdict], *, spool: str, offset: int) -> None:
        with self._transaction():
            for each in verdicts:
                key = (each.ticket, str(each.facts.get("call") or "submit"), each.at)
                self._verdicts.setdefault(key, replace(each, facts=_as_json(each.facts)))
            self._spools[spool] = offset

    def spool_offset(self, spool: str) -> int:
        with self._transaction():
            return self._spools.get(spool, 0)

    def verdicts(self, *, ticket: str | None = None, limit: int = 100) -> Sequence[Verdict]:
        with self._transaction():
            last_first = reversed(self._verdicts.values())
            found = [each for each in last_first if ticket in {None, each.ticket}]
        return sorted(found, key=lambda each: each.at, reverse=True)[:limit]

    def settle_jobs(self, jobs: Iterable[JobRecord], *, now: datetime) -> None:
        with self._transaction():
            for each in jobs:
                seen_at, known = self._jobs.get((each.job_id, each.started_at), (now, each))
                self._jobs[each.job_id, each.started_at] = (
                    (now, each) if now >= seen_at else (seen_at, known)
                )

    def job_runs(self, *, start: datetime, end: datetime) -> Sequence[JobRecord]:
        return [
            run
            for run in self._runs()
            if run.started_at < end or run.started_at <= start
            if run.ended_at is None or run.ended_at > start
        ]

    def job_runs_of(self, job_id: int) -> Sequence[JobRecord]:
        return [run for run in self._runs() if run.job_id == job_id]

    def _runs(self) -> list[JobRecord]:
        with self._transaction():
            found = [run for _, run in self._jobs.values()]
        return sorted(found, key=lambda run: (run.started_at, run.job_id))


def _broken_rule(wanted: PowerReservation, others: Sequence[PowerReservation]) -> str:
    """The constraint of the table ``reservations`` that it breaks; empty when it breaks none."""
    if wanted.starts_at >= wanted.ends_at:
        return "it must end after it starts"
    if not 0 < wanted.tokens_w <= wanted.power_w:
        return "its watts must be more than the idle draw of its nodes"
    if not wanted.nodes:
        return "it has no nodes"
    if wanted.name in {each.name for each in others}:
        return "its name is in use by an open reservation"
    return ""


def _as_json(facts: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from a jsonb column: tuples are lists."""
    kept: dict[str, Any] = json.loads(json.dumps(facts))
    return kept
