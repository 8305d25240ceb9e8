# SPDX-License-Identifier: GPL-2.0-or-later
"""policy.toml: what the site wants: lanes, tiers, defaults, control and tariff."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from broker.config.inventory import Name
from broker.config.loading import Section, load
from broker.domain.cluster import Tier
from broker.domain.errors import ConfigInvalid

_DAY_S = 86_400
_YEAR_MIN = 366 * 1_440


class LaneSection(Section):
    """A lane is a Slurm partition with a promise about power."""

    partition: Name
    committed_limit_w: PositiveInt | None = Field(
        None,
        le=1_000_000_000,
        description="charges it may hold, running and waiting; default: the site's safe limit",
    )


class LanesSection(Section):
    hot: LaneSection = Field(description="power-guaranteed, placed first")
    cold: LaneSection = Field(description="requeue-able, uses what hot leaves idle")


class TiersSection(Section):
    default: Tier = Field(Tier.SILVER, description="tier of jobs that name none")
    silver_notice_s: NonNegativeInt = Field(
        600, le=_DAY_S, description="warning before silver is requeued"
    )
    silver_notice_signal: str = Field("SIGUSR1", pattern=r"^SIG[A-Z0-9]+$")


class ClassSection(Section):
    """Defaults of jobs of one class that declare only part of their envelope."""

    est_share: Decimal = Field(Decimal(1), gt=0, le=1, description="estimate / maximum")
    max_share: Decimal = Field(Decimal(1), gt=0, le=1, description="maximum / the nodes' own")


class HookSection(Section):
    """What the hook does when the state file is not what it should be."""

    when_missing: Literal["hold", "accept", "reject"] = "hold"
    stale_after_s: PositiveInt = Field(30, le=_DAY_S)
    missing_after_s: PositiveInt = Field(600, le=_DAY_S)


class ControlSection(Section):
    """When the broker believes a meter, and when it gives back."""

    stale_polls: PositiveInt = Field(
        3, le=100, description="polls without a reading: counts as full"
    )
    poll_interval_s: float = Field(2.0, gt=0, le=3600, description="the collectors' interval")
    over_limit_polls: PositiveInt = Field(
        2, le=5, description="polls over the limit before shedding"
    )
    feeds_agree_within: Decimal = Field(
        Decimal("0.15"), gt=0, lt=1, description="feeds that differ less confirm each other"
    )
    meter_tolerance: Decimal = Field(
        Decimal("0.02"), ge=0, lt=1, description="share of the limit that meters may be wrong by"
    )
    bmcs_within: Decimal = Field(
        Decimal("0.10"), gt=0, lt=1, description="share that the sum of a rack's BMCs may be off by"
    )
    conversion_loss_most: Decimal = Field(
        Decimal("0.08"), ge=0, lt=1, description="share of a PDU's watts that no BMC sees"
    )
    job_start_s: PositiveInt = Field(
        30, le=_DAY_S, description="a job younger than this is still starting"
    )
    shed_settle_s: PositiveInt = Field(
        10, le=_DAY_S, description="time a shed needs to show on the meters"
    )
    give_back_after_s: PositiveInt = Field(
        20,
        le=_DAY_S,
        description="a layer must be within its limit so long before shed jobs are released",
    )


class ReservationsSection(Section):
    grace_minutes: PositiveInt = Field(
        10, le=_YEAR_MIN, description="unused for longer: given back"
    )
    lead_minutes: PositiveInt = Field(
        1440, le=_YEAR_MIN, description="outsiders' tokens shrink so long before a window begins"
    )


class ShowbackSection(Section):
    tariff_per_kwh: Decimal = Field(Decimal("0.25"), ge=0, le=1_000_000)
    reserved_tariff_per_kwh: Decimal = Field(
        Decimal("0.05"), ge=0, le=1_000_000, description="for watts kept free and not used"
    )
    currency: str = Field("EUR", pattern=r"^[A-Z]{3}$")


class PolicySection(Section):
    """The whole of policy.toml."""

    lanes: LanesSection
    tiers: TiersSection = TiersSection()
    classes: dict[Name, ClassSection] = Field(default_factory=lambda: {"default": ClassSection()})
    hook: HookSection = HookSection()
    control: ControlSection = ControlSection()
    reservations: ReservationsSection = ReservationsSection()
    showback: ShowbackSection = ShowbackSection()


def load_policy(path: Path) -> PolicySection:
    """Read policy.toml."""
    policy = load(path, PolicySection)
    hot, cold, hook = policy.lanes.hot, policy.lanes.cold, policy.hook
    if hot.partition == cold.partition:
        raise ConfigInvalid(
            f'{path}: lanes.cold.partition = "{cold.partition}": must not be the hot lane\'s'
        )
    if hook.missing_after_s < hook.stale_after_s:
        raise ConfigInvalid(
            f"{path}: hook.missing_after_s = {hook.missing_after_s}: must not be below"
            f" stale_after_s = {hook.stale_after_s}"
        )
    return policy
