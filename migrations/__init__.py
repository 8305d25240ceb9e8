# SPDX-License-Identifier: GPL-2.0-or-later
"""The database schema, one change a file. `upgrade` is what `powerbrokerd --migrate` runs."""

from pathlib import Path

DEFAULT_URL = "postgresql+psycopg:///power_broker"


def upgrade(url: str = DEFAULT_URL, revision: str = "head") -> None:
    """Bring the database at an SQLAlchemy URL to a revision."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    command.upgrade(config, revision)
