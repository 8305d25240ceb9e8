# SPDX-License-Identifier: GPL-2.0-or-later
"""The one place where ports meet adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from broker.adapters.clock import SystemClock
from broker.adapters.deadline import with_deadline
from broker.adapters.postgres.lease import LeaderLease
from broker.adapters.postgres.store import PostgresStore
from broker.adapters.slurm.controller import PyslurmController
from broker.adapters.slurm.token_file import YamlTokenFile
from broker.adapters.socket_server import SocketServer
from broker.adapters.state_file import write_state
from broker.adapters.verdict_spool import FileVerdictSpool
from broker.config.settings import Settings
from broker.daemon.leader import Leader
from broker.domain import admission_state as told
from broker.domain.rules import Lane, Rules
from broker.domain.showback import Tariff
from broker.services.apply import Apply
from broker.services.cycle import Cycle, TokenLayers
from broker.services.desk import Desk
from broker.services.ingest import Ingest
from broker.services.observe import Observe
from broker.services.publish import Site
from broker.services.settle_jobs import SettleJobs

# The daemon's own user drives Slurm, so its changes must pass the modify hook.
_OWN_USER = "powerbroker"


@dataclass(frozen=True, slots=True)
class Daemon:
    """What powerbrokerd runs."""

    lead: Callable[[], str]
    server: SocketServer
    close: Callable[[], None]


def rules_of(settings: Settings) -> Rules:
    """The policy as plain values."""
    policy = settings.policy
    control, tiers = policy.control, policy.tiers
    return Rules(
        hot=Lane("hot", policy.lanes.hot.partition, policy.lanes.hot.committed_limit_w),
        cold=Lane("cold", policy.lanes.cold.partition, policy.lanes.cold.committed_limit_w),
        default_tier=tiers.default,
        silver_notice=timedelta(seconds=tiers.silver_notice_s),
        silver_notice_signal=tiers.silver_notice_signal,
        # Half a poll of grace: an answer that comes a little late is not lost.
        stale_after=timedelta(seconds=control.poll_interval_s * (control.stale_polls + 0.5)),
        over_limit_polls=control.over_limit_polls,
        feeds_agree_within=control.feeds_agree_within,
        meter_tolerance=control.meter_tolerance,
        bmcs_within=control.bmcs_within,
        conversion_loss_most=control.conversion_loss_most,
        job_start=timedelta(seconds=control.job_start_s),
        shed_settle=timedelta(seconds=control.shed_settle_s),
        give_back_after=timedelta(seconds=control.give_back_after_s),
        reservation_grace=timedelta(minutes=policy.reservations.grace_minutes),
        reservation_lead=timedelta(minutes=policy.reservations.lead_minutes),
        classes=tuple(
            told.PowerClass(name, float(each.est_share), float(each.max_share))
            for name, each in policy.classes.items()
        ),
    )


def site_of(settings: Settings) -> Site:
    """What the hook is told that does not change."""
    hook = settings.policy.hook
    return Site(
        cluster=settings.broker.cluster,
        graph=settings.graph,
        rules=rules_of(settings),
        switches=told.Switches(
            when_missing=hook.when_missing,
            stale_after_s=hook.stale_after_s,
            missing_after_s=hook.missing_after_s,
        ),
        admins=tuple(dict.fromkeys((*settings.broker.admins, _OWN_USER))),
    )


def wire(settings: Settings) -> Daemon:
    """Put everything together; nothing is contacted yet."""
    broker = settings.broker
    site, clock = site_of(settings), SystemClock()
    store = PostgresStore(broker.database_url)
    # Requests may wait for Postgres; the cycle may not.
    ledger = with_deadline(store, broker.database_deadline_s)
    lease = with_deadline(LeaderLease(store.engine, "powerbrokerd"), broker.database_deadline_s)
    slurm = PyslurmController(deadline_s=broker.slurm_deadline_s)
    cycle = Cycle(
        site=site,
        observe=Observe(slurm, ledger, clock, site.rules, broker.mode),
        token_layers=TokenLayers(
            YamlTokenFile(broker.resources_yaml),
            slurm,
            ledger,
            clock,
            timedelta(seconds=broker.reconfigure_interval_s),
        ),
        apply=Apply(slurm, ledger, clock, site.rules.silver_notice_signal),
        settle=SettleJobs(site, ledger),
        ingest=Ingest(FileVerdictSpool(broker.verdict_spool), ledger),
        clock=clock,
        publish=lambda state: write_state(broker.state_file, state),
    )
    leader = Leader(lease, broker.lease_s, cycle)
    showback = settings.policy.showback
    desk = Desk(
        site=site,
        store=store,
        clock=clock,
        cycle_s=broker.cycle_s,
        tariff=Tariff(showback.tariff_per_kwh, showback.reserved_tariff_per_kwh, showback.currency),
        picture=lambda: cycle.picture,
        leader=leader.describe,
    )

    def close() -> None:
        leader.resign()
        slurm.close()
        store.engine.dispose()

    return Daemon(lead=leader, server=SocketServer(broker.socket, desk), close=close)
