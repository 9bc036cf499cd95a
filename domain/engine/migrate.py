"""Brings a database to the newest schema, as its owner."""

import asyncio
from pathlib import Path

from alembic import command
from alembic.config import Config

MIGRATIONS = Path(__file__).parents[2] / "migrations"


def migrate(owner_url: str) -> None:
    """Runs every migration that has not run. Safe to repeat; must not be called inside a running event loop."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = owner_url
    command.upgrade(config, "head")


async def migrate_async(owner_url: str) -> None:
    """The same, from inside an event loop."""
    await asyncio.to_thread(migrate, owner_url)
