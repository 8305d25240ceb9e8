# SPDX-License-Identifier: GPL-2.0-or-later
"""What PostgreSQL says, in the domain's words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg
from sqlalchemy import exc

from broker.adapters.postgres import tables
from broker.domain.errors import BadRequest, BrokerError, StoreUnavailable

#: Constraints that a user can run into, with what was wrong and what to do.
_REFUSALS = {
    tables.OPEN_NAME: ("its name is in use by an open reservation", "powermgr show reservation"),
    tables.WINDOW: ("it must end after it starts", "start=now+1minute duration=30"),
    tables.WATTS: ("its watts must be more than the idle draw of its nodes", "raise watts="),
    tables.HAS_NODES: ("it has no nodes", "nodes=1 or more"),
}

# A hot standby after a failover, or a server that shuts down, may be fine next cycle.
_AWAY = (psycopg.OperationalError, psycopg.InterfaceError, pg.ReadOnlySqlTransaction)


@contextmanager
def translated() -> Iterator[None]:
    """Turn an outage into StoreUnavailable; what is not recognised stays a bug."""
    try:
        yield
    except exc.TimeoutError as error:
        raise StoreUnavailable("PostgreSQL: all connections are busy") from error
    except exc.DBAPIError as error:
        cause = error.orig
        if isinstance(cause, pg.UndefinedTable):
            raise StoreUnavailable(
                f"PostgreSQL: {_first_line(cause)}; the schema is not there yet",
                hint="powerbrokerd --migrate",
            ) from error
        if isinstance(cause, _AWAY):
            raise StoreUnavailable(f"PostgreSQL is away: {_first_line(cause)}") from error
        raise


def refusal(reservation: str, error: exc.IntegrityError) -> BrokerError | None:
    """Why a reservation was not taken; None for a constraint that no request can break."""
    cause = error.orig
    name = cause.diag.constraint_name if isinstance(cause, psycopg.Error) else None
    if name not in _REFUSALS:
        return None
    because, hint = _REFUSALS[name]
    return BadRequest(f"reservation {reservation}: {because}", hint=hint)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
