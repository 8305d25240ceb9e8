# SPDX-License-Identifier: GPL-2.0-or-later
"""Do what was planned: intent row, call, confirm row. A refusal stops nobody else's step."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from functools import singledispatchmethod
from typing import Any

from broker.domain.actions import (
    Action,
    ChargeJob,
    DropReservation,
    GiveBack,
    KeepReservation,
    MoveReservation,
    NotifyJob,
    SetFence,
    ShedJob,
    StripTokens,
)
from broker.domain.errors import SlurmRefused, StoreUnavailable
from broker.services.ports import Clock, SlurmController, Store

log = logging.getLogger(__name__)

ASK_AGAIN_AFTER = timedelta(seconds=60)  #: what Slurm refused is not asked for again before
_MOST_LATE = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one action."""

    action: Action
    error: str = ""


@dataclass
class Apply:
    """Applies actions one by one. Safety comes before paperwork: no ledger, the step is done all
    the same, and its rows are written when the ledger is back."""

    slurm: SlurmController
    store: Store
    clock: Clock
    notice_signal: str = "SIGUSR1"
    _refused: dict[tuple[str, str], datetime] = field(default_factory=dict)
    # A ledger that is away for days must not fill the memory.
    _late: deque[tuple[datetime, Action, str]] = field(
        default_factory=lambda: deque(maxlen=_MOST_LATE)
    )

    def __call__(self, actions: Sequence[Action]) -> list[Outcome]:
        """Raises SlurmUnavailable: what is left is planned anew next cycle."""
        self._catch_up()
        return [self._one(action) for action in actions if not self._refused_lately(action)]

    def _refused_lately(self, action: Action) -> bool:
        """Slurm would say the same again each second, and the ledger would fill with it.

        A fence or a shed is asked for again at once: it is what keeps a rack within its limit.
        """
        since = self._refused.get((action.kind, action.target))
        if since is None or isinstance(action, SetFence | ShedJob):
            return False
        return timedelta(0) <= self.clock.now() - since < ASK_AGAIN_AFTER

    def _one(self, action: Action) -> Outcome:
        quiet = isinstance(action, MoveReservation)
        action_id = None if quiet else self._intend(action)
        try:
            self._do(action)
            error = ""
            self._refused.pop((action.kind, action.target), None)
        except SlurmRefused as refused:
            error = str(refused)
            self._refused[action.kind, action.target] = self.clock.now()
            log.warning("%s %s refused: %s", action.kind, action.target, error)
        if action_id is not None:
            self._confirm(action_id, error)
        elif not quiet:
            self._late.append((self.clock.now(), action, error))
        return Outcome(action, error)

    def _intend(self, action: Action) -> int | None:
        try:
            return self.store.intend(
                action.kind,
                action.target,
                action.because,
                now=self.clock.now(),
                facts=facts_of(action),
            )
        except StoreUnavailable:
            return None

    def _confirm(self, action_id: int, error: str) -> None:
        outcome = "refused" if error else "done"
        try:
            self.store.confirm(action_id, now=self.clock.now(), outcome=outcome, error=error)
        except StoreUnavailable as away:
            log.warning("action %d is %s, and could not be confirmed: %s", action_id, outcome, away)

    def _catch_up(self) -> None:
        """Write the rows of what was done while the ledger was away."""
        while self._late:
            at, action, error = self._late[0]
            try:
                action_id = self.store.intend(
                    action.kind, action.target, action.because, now=at, facts=facts_of(action)
                )
            except StoreUnavailable:
                return
            self._confirm(action_id, error)
            self._late.popleft()

    # -- one method per kind of action ---------------------------------------------------------

    @singledispatchmethod
    def _do(self, action: Action) -> None:
        raise NotImplementedError(action.kind)

    @_do.register
    def _(self, action: SetFence) -> None:
        self.slurm.set_fence(action.rack, action.nodes)

    @_do.register
    def _(self, action: ShedJob) -> None:
        # The mark first: a job of ours that is held is never taken for its user's own hold.
        self.slurm.set_admin_comment(action.job_id, action.admin_comment)
        self.slurm.requeue_held(action.job_id)

    @_do.register
    def _(self, action: NotifyJob) -> None:
        self.slurm.signal(action.job_id, self.notice_signal)
        self.slurm.set_admin_comment(action.job_id, action.admin_comment)

    @_do.register
    def _(self, action: GiveBack) -> None:
        # The mark goes last: a held job without it would wait for ever.
        self.slurm.release(action.job_id)
        self.slurm.set_admin_comment(action.job_id, action.admin_comment)

    @_do.register
    def _(self, action: ChargeJob) -> None:
        self.slurm.set_tokens(action.job_id, action.tokens_w_per_node)
        self.slurm.set_admin_comment(action.job_id, action.admin_comment)

    @_do.register
    def _(self, action: StripTokens) -> None:
        self.slurm.set_tokens(action.job_id, None)

    @_do.register
    def _(self, action: KeepReservation) -> None:
        self.slurm.create_reservation(action.reservation)

    @_do.register
    def _(self, action: DropReservation) -> None:
        self.slurm.delete_reservation(action.slurm_name)

    @_do.register
    def _(self, action: MoveReservation) -> None:
        try:
            self.store.set_reservation_state(
                action.name,
                action.state,
                reason=action.because,
                now=self.clock.now(),
                by="powerbrokerd",
                used_at=action.used_at,
            )
        except StoreUnavailable as away:
            log.warning("reservation %s: %s", action.name, away)


def facts_of(action: Action) -> dict[str, Any]:
    """The action's own values, for the ledger."""
    plain: dict[type, Callable[[Any], Any]] = {tuple: list}
    return {
        each.name: plain.get(type(value), lambda found: found)(value)
        for each in fields(action)
        if each.name not in {"because", "reservation", "layers"}
        if isinstance(value := getattr(action, each.name), str | int | tuple)
    }
