# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that powermgr can ask for: who may ask, which use case answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from broker.domain.cluster import JobState
from broker.domain.errors import BadRequest, BrokerError, NotAllowed
from broker.domain.power_graph import LayerKind
from broker.domain.reservation import PowerReservation, ReservationState, plan_reservation
from broker.domain.showback import Tariff
from broker.domain.switches import Mode
from broker.domain.units import watts
from broker.services.cycle import Picture
from broker.services.devices import device_rows, doubted, feed_rows, sensor_rows
from broker.services.explain import explain
from broker.services.feasible import feasible
from broker.services.listing import (
    Row,
    action_row,
    decision_row,
    job_rows,
    layer_rows,
    node_rows,
    picked,
    reservation_rows,
)
from broker.services.messages import Answer, Request, shown
from broker.services.ports import Clock, DeviceState, Store
from broker.services.publish import Site
from broker.services.report import report_showback

# Words of `where` that are no columns.
_NOT_COLUMNS = {"start", "end", "limit"}
_MOST_ROWS = 10_000
_LONGEST_MINUTES = 366 * 24 * 60
_RESERVATION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")


@dataclass(frozen=True, slots=True)
class Desk:
    """Answers requests; ``picture`` gives what the last cycle knew."""

    site: Site
    store: Store
    clock: Clock
    tariff: Tariff
    cycle_s: float
    picture: Callable[[], Picture | None]
    leader: Callable[[], str]

    def __call__(self, request: Request) -> Answer:
        """Answer one request; what cannot be done is an answer too."""
        try:
            return _HANDLERS[request.op](self, request)
        except BrokerError as error:
            return Answer.refused(str(error), hint=error.hint, exit_code=error.exit_code)

    # -- reading ---------------------------------------------------------------------------------

    def _show(self, request: Request) -> Answer:
        rows = self._rows(request)
        where = {k: v for k, v in request.where.items() if k not in _NOT_COLUMNS}
        return Answer(rows=picked(rows, where))

    def _rows(self, request: Request) -> Sequence[Row]:
        entity, now = request.entity, self.clock.now()
        match entity:
            case "rack" | "row" | "site":
                return layer_rows(self.site, self._seen(), LayerKind(entity), now)
            case "node":
                return node_rows(self.site, self._seen(), now)
            case "device":
                return device_rows(self.site.graph, self._meters(), now)
            case "sensor":
                return sensor_rows(self.store.devices(request.texts("device")), now)
            case "feed":
                return feed_rows(self.site.graph, self._meters(), now)
            case "job":
                return job_rows(self.site, self._seen())
            case "reservation":
                return reservation_rows(self.picture(), self.store.reservations(open_only=False))
            case "decision":
                return self._decisions(request)
            case "action":
                return self._actions(request)
            case "broker":
                return [self._broker_row()]
        raise BadRequest(f"nothing is called '{entity}'")

    def _meters(self) -> Sequence[DeviceState]:
        picture = self.picture()
        loads = picture.plan.loads.values() if picture else ()
        liars = {name: why for load in loads for name, why in load.draw.liars.items()}
        return doubted(self.store.devices(), liars)

    def _seen(self) -> Picture:
        picture = self.picture()
        if picture is None:
            raise BrokerError(
                "the broker has not finished its first cycle: it waits for slurmctld",
                hint="journalctl -u powerbrokerd",
            )
        return picture

    def _decisions(self, request: Request) -> list[Row]:
        start, end, limit = _window(request)
        # The newest of all may lie behind the window.
        looked_at = limit if start is None and end is None else _MOST_ROWS
        jobs = self.picture()
        ids = {
            job.admitted.get("ticket"): job.job_id
            for job in (jobs.observed.view.jobs.values() if jobs else ())
        }
        found = self.store.verdicts(limit=looked_at)
        return [
            decision_row(each, ids.get(each.ticket))
            for each in found
            if (start is None or each.at >= start) and (end is None or each.at < end)
        ][:limit]

    def _actions(self, request: Request) -> list[Row]:
        start, end, limit = _window(request)
        found = self.store.actions(since=start, limit=limit if end is None else _MOST_ROWS)
        return [action_row(each) for each in found if end is None or each.at < end][:limit]

    def _broker_row(self) -> Row:
        picture = self.picture()
        return {
            "mode": str(picture.observed.mode) if picture else None,
            "leader": self.leader(),
            "generation": picture.state.generation if picture else None,
            "cycle_s": self.cycle_s,
            "last_cycle": picture.observed.now if picture else None,
            "last_sentence": picture.sentence if picture else "waiting for slurmctld",
        }

    def _why(self, request: Request) -> Answer:
        return Answer(rows=explain(self.store, self.site, self.picture(), request.text("id")))

    def _feasible(self, request: Request) -> Answer:
        return feasible(request, self._seen(), now=self.clock.now())

    def _report(self, request: Request) -> Answer:
        now = self.clock.now()
        report = report_showback(
            self.store,
            self.site.graph,
            self.tariff,
            request.time("start", now - timedelta(days=1)),
            request.time("end", now),
            request.texts("account"),
            now=now,
        )
        return Answer(rows=report.rows, message=report.sentence)

    # -- changing --------------------------------------------------------------------------------

    def _add(self, request: Request) -> Answer:
        self._permit(request)
        if request.entity != "reservation":
            raise BadRequest(f"a {request.entity} cannot be added")
        wanted, node_count = self._wanted(request)
        chosen = plan_reservation(
            wanted,
            node_count=node_count,
            graph=self.site.graph,
            others=self.store.reservations(),
            busy_until=self._busy_until(),
        )
        self.store.add_reservation(
            chosen, graph=self.site.graph, now=self.clock.now(), by=_who(request)
        )
        return Answer(
            rows=reservation_rows(self.picture(), [chosen]),
            message=f"Reserved {watts(chosen.power_w)} on {','.join(chosen.nodes)} of rack"
            f" {chosen.rack} as {chosen.slurm_name},"
            f" {chosen.starts_at:%Y-%m-%dT%H:%M} to {chosen.ends_at:%Y-%m-%dT%H:%M} UTC",
        )

    def _wanted(self, request: Request) -> tuple[PowerReservation, int]:
        rack = request.text("rack")
        if rack not in {each.name for each in self.site.graph.racks}:
            known = ", ".join(each.name for each in self.site.graph.racks)
            raise BadRequest(f"rack={rack}: no such rack", hint=f"racks are {known}")
        now = self.clock.now()
        # Slurm's reservations begin and end on the minute.
        start = request.time("start", now).replace(second=0, microsecond=0)
        if start < now - timedelta(minutes=1):
            raise BadRequest(f"start={start:%Y-%m-%dT%H:%M} UTC is in the past")
        if start > now + timedelta(minutes=_LONGEST_MINUTES):
            raise BadRequest(f"start={start:%Y-%m-%dT%H:%M} UTC is over a year ahead")
        minutes = request.number("duration", 60)
        if not 0 < minutes <= _LONGEST_MINUTES:
            raise BadRequest(f"duration={minutes}: allowed are 1 to {_LONGEST_MINUTES} minutes")
        end = request.time("end", start + timedelta(minutes=minutes))
        if end - start > timedelta(minutes=_LONGEST_MINUTES):
            raise BadRequest(f"end={end:%Y-%m-%dT%H:%M} UTC is over a year after its start")
        if end <= max(now, start):
            raise BadRequest(f"the window ends {end:%Y-%m-%dT%H:%M} UTC, before it begins or now")
        accounts, users = request.texts("accounts"), request.texts("users")
        if not accounts and not users:
            raise BadRequest("account= or user= is missing: whose reservation is it?")
        wanted = PowerReservation(
            name=_reservation_name(request.text("name")),
            rack=rack,
            nodes=(),
            power_w=request.number("power_w"),
            tokens_w=0,
            starts_at=start,
            ends_at=end,
            accounts=accounts,
            users=users,
        )
        return wanted, request.number("nodes")

    def _busy_until(self) -> Mapping[str, datetime]:
        """Until when nodes are in use, by their jobs' time limits; unusable ones for good."""
        never = datetime.max.replace(tzinfo=UTC)
        view = self._seen().observed.view
        busy = {name: never for name, node in view.nodes.items() if not node.usable}
        for job in view.jobs.values():
            if not job.state.holds_nodes or job.state is JobState.COMPLETING:
                continue
            for name in job.nodes:
                busy[name] = max(job.ends_by or never, busy.get(name, job.ends_by or never))
        return busy

    def _delete(self, request: Request) -> Answer:
        self._permit(request)
        if request.entity != "reservation":
            raise BadRequest(f"a {request.entity} cannot be deleted")
        name = request.text("name")
        if name not in {each.name for each in self.store.reservations()}:
            raise BadRequest(
                f"no open reservation is called '{name}'", hint="powermgr show reservation"
            )
        self.store.set_reservation_state(
            name,
            ReservationState.RELEASED,
            reason=f"released by {_who(request)}",
            now=self.clock.now(),
            by=_who(request),
        )
        return Answer(message=f"Released reservation {name}; Slurm's part follows within a cycle")

    def _modify(self, request: Request) -> Answer:
        self._permit(request)
        if request.entity != "broker":
            raise BadRequest(f"a {request.entity} cannot be modified; delete it and add a new one")
        wanted = request.text("mode")
        if wanted not in set(Mode):
            raise BadRequest(f"mode={shown(wanted)}: allowed are {', '.join(Mode)}")
        mode = Mode(wanted)
        self.store.set_mode(mode, by=_who(request), now=self.clock.now())
        return Answer(message=f"Mode is {mode} from the next cycle on")

    def _permit(self, request: Request) -> None:
        if request.peer is None or (
            request.peer.uid != 0 and request.peer.user not in self.site.admins
        ):
            raise NotAllowed(
                f"user {_who(request)} may not {request.op} a {request.entity}",
                hint=f"allowed are {', '.join(self.site.admins)} (admins in broker.toml)",
            )


_HANDLERS: Mapping[str, Callable[[Desk, Request], Answer]] = {
    "show": Desk._show,
    "why": Desk._why,
    "feasible": Desk._feasible,
    "report": Desk._report,
    "add": Desk._add,
    "delete": Desk._delete,
    "modify": Desk._modify,
}


def _reservation_name(name: str) -> str:
    # pw-fence-r1 is a fence of the broker's own: no reservation may look like one.
    if not _RESERVATION_NAME.fullmatch(name) or name.startswith("fence-"):
        raise BadRequest(
            f"name={shown(name)}: allowed are letters, digits, _ and -, 40 at most, a letter or"
            " digit first, and not fence-..."
        )
    return name


def _who(request: Request) -> str:
    return request.peer.user if request.peer else "nobody"


def _window(request: Request) -> tuple[datetime | None, datetime | None, int]:
    start = request.time("start") if request.has("start") else None
    end = request.time("end") if request.has("end") else None
    return start, end, min(request.number("limit", 100), _MOST_ROWS)
