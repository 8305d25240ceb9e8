# SPDX-License-Identifier: GPL-2.0-or-later
"""One cycle of the broker: observe, plan, apply, publish, and one sentence about it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol

from broker.domain.actions import KeepTokenLayers, MoveReservation, ShedJob, StripTokens
from broker.domain.admission_state import AdmissionState
from broker.domain.errors import ConfigInvalid, SlurmRefused, StoreUnavailable
from broker.domain.switches import Mode
from broker.domain.tokens import TokenLayer
from broker.domain.units import watts
from broker.services.apply import Apply, Outcome
from broker.services.ingest import Ingest
from broker.services.observe import Observe
from broker.services.observed import Memory, Observed, Plan
from broker.services.plan import plan_cycle
from broker.services.plan_tokens import plan_tokens
from broker.services.ports import Clock, SlurmController, Store
from broker.services.publish import Site, admission_state
from broker.services.remember import forget_relief
from broker.services.settle_jobs import SettleJobs

log = logging.getLogger(__name__)

_SECOND_STEP_AFTER = timedelta(seconds=1)
_REFUSED_PAUSE = timedelta(minutes=10)  #: the same refused layers are tried again no sooner


class TokenFile(Protocol):
    """resources.yaml."""

    def holds(self, layers: Sequence[TokenLayer]) -> bool:
        """Does it say just these layers?"""

    def write(self, layers: Sequence[TokenLayer]) -> None:
        """Replace it at once, after checking what it will say."""

    def restore(self) -> None:
        """Put the one before back: slurmctld would not have the new one."""

    def counts(self) -> Mapping[str, int]:
        """Watts of each layer in it, by name."""


@dataclass(frozen=True, slots=True)
class Picture:
    """What the last cycle knew: powermgr reads it, the hook is told of it."""

    observed: Observed
    plan: Plan
    state: AdmissionState
    sentence: str


@dataclass
class TokenLayers:
    """Keeps Slurm's token layers as planned, and knows whether slurmctld has read them."""

    file: TokenFile
    slurm: SlurmController
    store: Store
    clock: Clock
    not_more_often_than: timedelta
    enforced: bool = False
    _reconfigured_at: datetime | None = None
    _unread: bool | None = None  #: has slurmctld not read the file yet? None: not looked up
    _refused: tuple[TokenLayer, ...] | None = None
    _new_pool: bool = False  #: did the last file bring a layer that was not there before?

    @property
    def compiled(self) -> Mapping[str, int]:
        """Watts by layer that slurmctld has read; nothing while that is not certain."""
        if self._unread is None:
            self._unread = self._died_before_reconfigure()
        try:
            return {} if self._unread else self.file.counts()
        except OSError as unreadable:
            log.warning("token layers are not known: %s", unreadable)
            return {}

    def __call__(self, action: KeepTokenLayers) -> str:
        """Returns a sentence when something was done, or cannot be.

        Raises SlurmUnavailable: the file may be written and not read, which is made up for later.
        """
        try:
            return self._keep(action)
        except (ConfigInvalid, OSError) as wrong:
            # Fences and sheds must go on without it.
            return f"token layers stay as they are: {wrong}"

    def _keep(self, action: KeepTokenLayers) -> str:
        if self.file.holds(action.layers) and not self._unread:
            # Found so at start as well: slurmctld read it then, or will when it starts.
            self.enforced = bool(action.layers)
            return ""
        now = self.clock.now()
        pause = self.not_more_often_than
        if self._new_pool:
            # Its watts come in a second step (see grant_pools), and its owner is waiting.
            pause = _SECOND_STEP_AFTER
        if action.layers == self._refused:
            pause = max(pause, _REFUSED_PAUSE)
        if self._reconfigured_at and timedelta(0) <= now - self._reconfigured_at < pause:
            return ""
        self._reconfigured_at = now
        return self._replace(action)

    def _died_before_reconfigure(self) -> bool:
        """Did the broker before us write the file and end before slurmctld was told?"""
        try:
            last = self.store.actions(kind=KeepTokenLayers.__name__, limit=1)
        except StoreUnavailable:
            return False
        return bool(last) and last[0].outcome == "intent"

    def _replace(self, action: KeepTokenLayers) -> str:
        action_id = self._intend(action)
        self._new_pool = not {each.name for each in action.layers} <= set(self.file.counts())
        self.file.write(action.layers)
        self._unread = True
        try:
            self.slurm.reconfigure()
        except SlurmRefused as refused:
            self._confirm(action_id, "refused", str(refused))
            self._refused = action.layers
            self._back_to_last_good()
            return f"slurmctld refused resources.yaml: {refused}"
        self._unread, self._refused = False, None
        self.enforced = bool(action.layers)
        self._confirm(action_id, "done", "")
        return f"token layers compiled ({action.because})"

    def _back_to_last_good(self) -> None:
        """A failed reconfigure charges running jobs again, until one goes well."""
        self.file.restore()
        try:
            self.slurm.reconfigure()
        except SlurmRefused as refused:
            log.error("slurmctld refused the resources.yaml before as well: %s", refused)
        self._unread = False

    def _intend(self, action: KeepTokenLayers) -> int | None:
        facts = {"layers": [[each.name, list(each.nodes), each.count_w] for each in action.layers]}
        try:
            return self.store.intend(
                action.kind, action.target, action.because, now=self.clock.now(), facts=facts
            )
        except StoreUnavailable:
            return None

    def _confirm(self, action_id: int | None, outcome: str, error: str) -> None:
        if action_id is None:
            return
        try:
            self.store.confirm(action_id, now=self.clock.now(), outcome=outcome, error=error)
        except StoreUnavailable as away:
            log.warning("action %d is %s, and could not be confirmed: %s", action_id, outcome, away)


@dataclass
class Cycle:
    """Safe to repeat and to kill anywhere: each cycle acts on what it observes."""

    site: Site
    observe: Observe
    token_layers: TokenLayers
    apply: Apply
    settle: SettleJobs
    ingest: Ingest
    clock: Clock
    publish: Callable[[AdmissionState], None]
    picture: Picture | None = None
    memory: Memory = field(default_factory=Memory)
    generation: int = 0

    def __call__(self) -> str:
        """Run one cycle and say in a sentence what came of it."""
        graph, rules = self.site.graph, self.site.rules
        observed = self._with_layers(self.observe(tokens_enforced=self.token_layers.enforced))
        keep, pools = plan_tokens(graph, observed, rules)
        stands_down = observed.mode is not Mode.ENFORCE
        told = [] if stands_down else [self.token_layers(keep)]
        observed = self._with_layers(observed)
        plan = plan_cycle(graph, observed, self.memory, rules, pools)
        if self.picture is None:
            # The hook knows whose changes to let pass, the broker's own too, from the state alone.
            self._publish(observed, plan, "first cycle")
        outcomes = self.apply(plan.actions)
        if stands_down and not any(isinstance(each, StripTokens) for each in plan.actions):
            # Not before Slurm shows no token any more: without the resource they wait for ever.
            told.append(self.token_layers(keep))
        self.memory = forget_relief(plan.memory, _not_shed(outcomes))
        sentence = _sentence(told, outcomes, plan.notes) or self._nothing_done(observed, plan)
        self._publish(observed, plan, sentence)
        self._keep_books(observed)
        return sentence

    def _with_layers(self, observed: Observed) -> Observed:
        """What slurmctld enforces by now."""
        layers = self.token_layers
        return replace(observed, tokens_enforced=layers.enforced, compiled=layers.compiled)

    def _nothing_done(self, observed: Observed, plan: Plan) -> str:
        site = plan.loads[self.site.graph.site.name]
        away = ", the ledger is away" if self.observe.blind else ""
        return (
            f"no action{away}: {watts(site.draw.seen_w)} drawn and {watts(site.committed_w)}"
            f" committed of {watts(site.layer.safe_w)}, mode {observed.mode}"
        )

    def _publish(self, observed: Observed, plan: Plan, sentence: str) -> None:
        # Seconds since 1970 grow over restarts as well, so a generation is never used twice.
        self.generation = max(self.generation + 1, int(observed.now.timestamp()))
        state = admission_state(
            self.site,
            plan,
            observed.view,
            mode=_told_mode(observed),
            generation=self.generation,
            now=self.clock.now(),
        )
        self.publish(state)
        self.picture = Picture(observed, plan, state, sentence)

    def _keep_books(self, observed: Observed) -> None:
        try:
            self.settle(observed.view)
            self.ingest()
        except StoreUnavailable as away:
            log.debug("books wait: %s", away)
        except OSError as unreadable:
            log.warning("verdicts wait in their spool: %s", unreadable)


def _told_mode(observed: Observed) -> Mode:
    """What the hook is to do. Before Slurm has read the layers it refuses every token."""
    if observed.mode is Mode.ENFORCE and not observed.tokens_enforced:
        return Mode.OBSERVE
    return observed.mode


def _not_shed(outcomes: Sequence[Outcome]) -> set[int]:
    return {
        each.action.job_id for each in outcomes if each.error and isinstance(each.action, ShedJob)
    }


def _sentence(told: Sequence[str], outcomes: Sequence[Outcome], notes: Sequence[str]) -> str:
    """What was done, refused, or cannot be helped; empty when nothing was."""
    steps = [each for each in outcomes if each.error or not isinstance(each.action, _QUIET)]
    return "; ".join(each for each in (*told, *map(_step, steps), *notes) if each)


def _step(outcome: Outcome) -> str:
    what = f"{outcome.action.kind} {outcome.action.target}"
    return (
        f"{what} refused: {outcome.error}"
        if outcome.error
        else (f"{what}: {outcome.action.because}")
    )


_QUIET = (MoveReservation,)  #: the ledger has its own audit rows of these
