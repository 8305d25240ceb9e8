# SPDX-License-Identifier: GPL-2.0-or-later
"""The database schema, one change a file. `upgrade` is what `powerbrokerd --migrate` runs."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from alembic.config import Config

DEFAULT_URL = "postgresql+psycopg:///power_broker"


def upgrade(url: str = DEFAULT_URL, revision: str = "head") -> None:
    """Bring the database at an SQLAlchemy URL to a revision."""
    from alembic import command

    command.upgrade(_config(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Take changes back; what they held is lost."""
    from alembic import command

    command.downgrade(_config(url), revision)


def _config(url: str) -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["url"] = url
    return config
