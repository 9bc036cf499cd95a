"""Brings a database to the newest schema, as its owner."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import SQLAlchemyError

from domain.engine.errors import DatabaseError

MIGRATIONS = Path(__file__).parents[2] / "migrations"


def migrate(owner_url: str) -> None:
    """Runs every migration that has not run. Safe to repeat. Raises DatabaseError; must not be called inside a running event loop."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = owner_url
    try:
        command.upgrade(config, "head")
    except (OSError, SQLAlchemyError) as problem:
        raise DatabaseError(f"The migration failed: {str(problem).splitlines()[0]}") from problem
