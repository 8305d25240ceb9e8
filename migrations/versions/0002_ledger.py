# SPDX-License-Identifier: GPL-2.0-or-later
"""Ledger: verdicts, runs, reservations and their audit, actions, switches, the leader's lease.

All of it is the broker's own: powercollect is granted nothing here.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

revision = "0002_ledger"
down_revision = "0001_telemetry"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_NAMES = ARRAY(sa.Text())
_OPEN = sa.text("state IN ('pending', 'active')")


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False)


def _id() -> sa.Column[int]:
    return sa.Column("id", sa.BigInteger(), sa.Identity(), primary_key=True)


def _time(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, _TIME, nullable=nullable)


def upgrade() -> None:
    _decisions()
    _jobs()
    _reservations()
    _actions()
    _switches()


def _decisions() -> None:
    op.create_table(
        "decisions",
        _id(),
        _text("ticket"),
        _time("at"),
        _text("call"),
        sa.Column("job_id", sa.BigInteger()),
        *(_text(name) for name in ("user", "account", "verdict", "reason", "message")),
        sa.Column("facts", JSONB(), nullable=False),
        sa.UniqueConstraint("ticket", "call", "at", name="decisions_once"),
    )
    op.create_index("decisions_newest", "decisions", ["at", "id"])
    op.create_index(
        "decisions_job", "decisions", ["job_id"], postgresql_where=sa.text("job_id IS NOT NULL")
    )
    op.create_table(
        "spools",
        sa.Column("spool", sa.Text(), primary_key=True),
        sa.Column("read_to", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("read_to >= 0", name="spools_read_to"),
    )


def _jobs() -> None:
    op.create_table(
        "jobs",
        sa.Column("job_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("started_at", _TIME, primary_key=True),
        _time("ended_at", nullable=True),
        *(_text(name) for name in ("user", "account", "partition")),
        sa.Column("nodes", _NAMES, nullable=False),
        sa.Column("charge_w", sa.Integer(), nullable=False),
        *(_text(name) for name in ("tier", "lane", "state", "reservation", "ticket")),
        _time("seen_at"),
        sa.CheckConstraint("charge_w >= 0", name="jobs_charge"),
    )
    op.create_index("jobs_ended", "jobs", ["ended_at"])


def _reservations() -> None:
    op.create_table(
        "layers",
        sa.Column("name", sa.Text(), primary_key=True),
        _text("kind"),
        sa.Column("tokens_w", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('rack', 'row', 'site')", name="layers_kind"),
    )
    op.create_table(
        "reservations",
        _id(),
        _text("name"),
        _text("rack"),
        sa.Column("nodes", _NAMES, nullable=False),
        sa.Column("power_w", sa.Integer(), nullable=False),
        sa.Column("tokens_w", sa.Integer(), nullable=False),
        _time("starts_at"),
        _time("ends_at"),
        sa.Column("accounts", _NAMES, nullable=False),
        sa.Column("users", _NAMES, nullable=False),
        _text("state"),
        _text("reason"),
        _time("used_at", nullable=True),
        _time("created_at"),
        _text("created_by"),
        sa.CheckConstraint("starts_at < ends_at", name="reservations_window"),
        sa.CheckConstraint("0 < tokens_w AND tokens_w <= power_w", name="reservations_watts"),
        sa.CheckConstraint("cardinality(nodes) > 0", name="reservations_nodes"),
        sa.CheckConstraint(
            "state IN ('pending', 'active', 'released', 'expired', 'degraded')",
            name="reservations_state",
        ),
    )
    op.create_index(
        "reservations_open_name", "reservations", ["name"], unique=True, postgresql_where=_OPEN
    )
    op.create_table(
        "ledger",
        _id(),
        _time("at"),
        sa.Column("reservation", sa.Text()),
        *(_text(name) for name in ("event", "by", "reason")),
        sa.Column("facts", JSONB(), nullable=False),
    )
    op.create_index("ledger_reservation", "ledger", ["reservation", "at"])


def _actions() -> None:
    op.create_table(
        "actions",
        _id(),
        _time("at"),
        *(_text(name) for name in ("kind", "target", "because")),
        sa.Column("facts", JSONB()),
        _text("outcome"),
        sa.Column("error", sa.Text(), nullable=False, server_default=""),
        _time("confirmed_at", nullable=True),
        sa.CheckConstraint("outcome IN ('intent', 'done', 'refused')", name="actions_outcome"),
        sa.CheckConstraint(
            "(outcome = 'intent') = (confirmed_at IS NULL)", name="actions_confirmed_with_outcome"
        ),
    )
    op.create_index("actions_newest", "actions", ["at", "id"])
    op.create_index("actions_target", "actions", ["target", "at"])


def _switches() -> None:
    op.create_table(
        "settings",
        sa.Column("key", sa.Text(), primary_key=True),
        _text("value"),
        _time("set_at"),
        _text("set_by"),
    )
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), primary_key=True),
        _text("holder"),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        _time("expires_at"),
        sa.CheckConstraint("epoch > 0", name="leases_epoch"),
    )


_TABLES = (
    "leases",
    "settings",
    "actions",
    "ledger",
    "reservations",
    "layers",
    "jobs",
    "spools",
    "decisions",
)


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table)
