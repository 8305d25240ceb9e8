# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables of the ledger. Migrations make them, and a test compares every constraint.

Watts are integers, times aware. Constraints that refuse what a user asked for have a sentence in
errors.py.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

OPEN_NAME = "reservations_open_name"
WINDOW = "reservations_window"
WATTS = "reservations_watts"
HAS_NODES = "reservations_nodes"

_OPEN = "state IN ('pending', 'active')"
_STATES = "state IN ('pending', 'active', 'released', 'expired', 'degraded')"
_QUALITIES = "quality IN ('good', 'implausible', 'not_supported', 'estimated')"


class Base(DeclarativeBase):
    """How Python's types are kept, for all tables."""

    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: DateTime(timezone=True),
        str: Text(),
        int: Integer(),
        list[str]: ARRAY(Text()),
        list[float]: ARRAY(REAL()),
        dict[str, Any]: JSONB(),
    }


class SampleRow(Base):
    """One answered poll of one device (the collectors write it)."""

    __tablename__ = "samples"
    __table_args__ = (
        CheckConstraint(_QUALITIES, name="samples_quality"),
        {"postgresql_partition_by": "RANGE (polled_at)"},
    )

    device: Mapped[str] = mapped_column(primary_key=True)
    polled_at: Mapped[datetime] = mapped_column(primary_key=True)
    active_power_w: Mapped[int | None]
    apparent_power_va: Mapped[int | None]
    energy_wh: Mapped[int | None] = mapped_column(BigInteger)
    quality: Mapped[str]
    note: Mapped[str] = mapped_column(server_default="")
    layout: Mapped[int | None]
    vals: Mapped[list[float] | None]
    energy_source: Mapped[str] = mapped_column(server_default="")


class LatestRow(Base):
    """The last answer of a device, and since when it is silent (the collectors write it)."""

    __tablename__ = "latest"
    __table_args__ = (
        CheckConstraint("kind IN ('pdu', 'bmc', 'gpu')", name="latest_kind"),
        CheckConstraint(_QUALITIES, name="latest_quality"),
    )

    device: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    polled_at: Mapped[datetime | None]
    active_power_w: Mapped[int | None]
    quality: Mapped[str | None]
    note: Mapped[str] = mapped_column(server_default="")
    good_at: Mapped[datetime | None]
    good_power_w: Mapped[int | None]
    silent_since: Mapped[datetime | None]
    apparent_power_va: Mapped[int | None]
    energy_wh: Mapped[int | None] = mapped_column(BigInteger)
    layout: Mapped[int | None]
    vals: Mapped[list[float] | None]
    energy_source: Mapped[str] = mapped_column(server_default="")
    profile: Mapped[str] = mapped_column(server_default="")
    sys_object_id: Mapped[str] = mapped_column(server_default="")
    description: Mapped[str] = mapped_column(server_default="")


class DecisionRow(Base):
    """One verdict of the hook. Words are not checked: the hook may be newer than the broker."""

    __tablename__ = "decisions"
    __table_args__ = (
        UniqueConstraint("ticket", "call", "at", name="decisions_once"),
        Index("decisions_newest", "at", "id"),
        Index("decisions_job", "job_id", postgresql_where=text("job_id IS NOT NULL")),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    ticket: Mapped[str]
    at: Mapped[datetime]
    call: Mapped[str]
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    user: Mapped[str]
    account: Mapped[str]
    verdict: Mapped[str]
    reason: Mapped[str]
    message: Mapped[str]
    facts: Mapped[dict[str, Any]]


class SpoolRow(Base):
    """How far a spool file was read, in bytes."""

    __tablename__ = "spools"
    __table_args__ = (CheckConstraint("read_to >= 0", name="spools_read_to"),)

    spool: Mapped[str] = mapped_column(primary_key=True)
    read_to: Mapped[int] = mapped_column(BigInteger)


class JobRow(Base):
    """One run of a job."""

    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint("charge_w >= 0", name="jobs_charge"),
        Index("jobs_ended", "ended_at"),
    )

    job_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    started_at: Mapped[datetime] = mapped_column(primary_key=True)
    ended_at: Mapped[datetime | None]
    user: Mapped[str]
    account: Mapped[str]
    partition: Mapped[str]
    nodes: Mapped[list[str]]
    charge_w: Mapped[int]
    tier: Mapped[str]
    lane: Mapped[str]
    state: Mapped[str]
    reservation: Mapped[str]
    ticket: Mapped[str]
    seen_at: Mapped[datetime]


class LayerRow(Base):
    """A layer of the power graph; whoever promises its watts holds this row's lock."""

    __tablename__ = "layers"
    __table_args__ = (CheckConstraint("kind IN ('rack', 'row', 'site')", name="layers_kind"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]
    tokens_w: Mapped[int] = mapped_column(BigInteger)


class ReservationRow(Base):
    """A power reservation, kept after its end."""

    __tablename__ = "reservations"
    __table_args__ = (
        CheckConstraint("starts_at < ends_at", name=WINDOW),
        CheckConstraint("0 < tokens_w AND tokens_w <= power_w", name=WATTS),
        CheckConstraint("cardinality(nodes) > 0", name=HAS_NODES),
        CheckConstraint(_STATES, name="reservations_state"),
        Index(OPEN_NAME, "name", unique=True, postgresql_where=text(_OPEN)),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    name: Mapped[str]
    rack: Mapped[str]
    nodes: Mapped[list[str]]
    power_w: Mapped[int]
    tokens_w: Mapped[int]
    starts_at: Mapped[datetime]
    ends_at: Mapped[datetime]
    accounts: Mapped[list[str]]
    users: Mapped[list[str]]
    state: Mapped[str]
    reason: Mapped[str]
    used_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    created_by: Mapped[str]


class LedgerRow(Base):
    """What was changed, by whom and why. Rows are added, never changed."""

    __tablename__ = "ledger"
    __table_args__ = (Index("ledger_reservation", "reservation", "at"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime]
    reservation: Mapped[str | None]
    event: Mapped[str]
    by: Mapped[str]
    reason: Mapped[str]
    facts: Mapped[dict[str, Any]]


class ActionRow(Base):
    """One step in Slurm: written as an intent, confirmed when it was done or refused."""

    __tablename__ = "actions"
    __table_args__ = (
        CheckConstraint("outcome IN ('intent', 'done', 'refused')", name="actions_outcome"),
        CheckConstraint(
            "(outcome = 'intent') = (confirmed_at IS NULL)", name="actions_confirmed_with_outcome"
        ),
        Index("actions_newest", "at", "id"),
        Index("actions_target", "target", "at"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime]
    kind: Mapped[str]
    target: Mapped[str]
    because: Mapped[str]
    facts: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    outcome: Mapped[str]
    error: Mapped[str] = mapped_column(server_default="")
    confirmed_at: Mapped[datetime | None]


class SettingRow(Base):
    """What an operator set, over restarts."""

    __tablename__ = "settings"

    key: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[str]
    set_at: Mapped[datetime]
    set_by: Mapped[str]


class LeaseRow(Base):
    """Who leads, until when by the database's clock. The row stays, so the epoch only grows."""

    __tablename__ = "leases"
    __table_args__ = (CheckConstraint("epoch > 0", name="leases_epoch"),)

    name: Mapped[str] = mapped_column(primary_key=True)
    holder: Mapped[str]
    epoch: Mapped[int] = mapped_column(BigInteger)
    expires_at: Mapped[datetime]
