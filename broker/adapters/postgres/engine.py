# SPDX-License-Identifier: GPL-2.0-or-later
"""Connections to PostgreSQL: few, checked before use, and never waited for long."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine

CONNECT_TIMEOUT_S = 2
STATEMENT_TIMEOUT_S = 5
# A broker that hangs in a transaction must not keep its row locks for ever.
IDLE_TIMEOUT_S = 60

_OPTIONS = {
    "statement_timeout": f"{STATEMENT_TIMEOUT_S}s",
    "idle_in_transaction_session_timeout": f"{IDLE_TIMEOUT_S}s",
    "timezone": "UTC",
}


def make_engine(url: str) -> Engine:
    """An engine for the daemon's threads; nothing is connected yet."""
    return create_engine(
        url,
        # After the wait for a row lock, the next statement must see what the winner committed.
        isolation_level="READ COMMITTED",
        pool_size=3,
        max_overflow=5,
        pool_timeout=CONNECT_TIMEOUT_S,
        pool_pre_ping=True,
        connect_args={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,
            "application_name": "powerbrokerd",
            "options": " ".join(f"-c {key}={value}" for key, value in _OPTIONS.items()),
        },
    )
