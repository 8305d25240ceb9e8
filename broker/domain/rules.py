# SPDX-License-Identifier: GPL-2.0-or-later
"""The site's policy as plain values, for the parts that decide."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal

from broker.domain.admission_state import PowerClass
from broker.domain.cluster import Tier


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane and the partition behind it."""

    name: str
    partition: str
    committed_limit_w: int | None = None  #: charges it may hold; None: the site's safe limit


@dataclass(frozen=True, slots=True)
class Rules:
    """When a meter is believed, when to shed, when to give back (policy.toml)."""

    hot: Lane
    cold: Lane
    default_tier: Tier = Tier.SILVER
    silver_notice: timedelta = timedelta(minutes=10)
    silver_notice_signal: str = "SIGUSR1"
    stale_after: timedelta = timedelta(seconds=7)
    over_limit_polls: int = 2
    feeds_agree_within: Decimal = Decimal("0.15")
    meter_tolerance: Decimal = Decimal("0.02")
    bmcs_within: Decimal = Decimal("0.10")
    conversion_loss_most: Decimal = Decimal("0.08")
    job_start: timedelta = timedelta(seconds=30)
    shed_settle: timedelta = timedelta(seconds=10)
    give_back_after: timedelta = timedelta(seconds=20)
    reservation_grace: timedelta = timedelta(minutes=10)
    reservation_lead: timedelta = timedelta(days=1)
    classes: tuple[PowerClass, ...] = ()  #: defaults for what an envelope leaves out

    def lane_of(self, partition: str) -> str:
        """Name of the lane behind a partition; the partition's own name when it has none."""
        # A pending job may name several partitions, the first one first.
        named = partition.split(",")
        lanes = {lane.partition: lane.name for lane in (self.cold, self.hot)}
        return next((lanes[each] for each in named if each in lanes), partition)

    def carries_power(self, partition: str) -> bool:
        """Is one of the partitions a lane?"""
        return any(
            each in {self.hot.partition, self.cold.partition} for each in partition.split(",")
        )
