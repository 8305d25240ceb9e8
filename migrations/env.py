# SPDX-License-Identifier: GPL-2.0-or-later
"""Alembic's entry. The URL: `-x url=`, what `migrations.upgrade` was given, or the environment."""

import os

from alembic import context
from sqlalchemy import create_engine, pool

from migrations import DEFAULT_URL

config = context.config


def _url() -> str:
    given = context.get_x_argument(as_dictionary=True).get("url") or config.attributes.get("url")
    return given or os.environ.get("POWER_BROKER_DATABASE_URL", DEFAULT_URL)


def _migrate() -> None:
    if context.is_offline_mode():
        context.configure(url=_url(), literal_binds=True)
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = create_engine(_url(), poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection)
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


_migrate()
