"""Runs the migrations as the owner of the database, over a connection the caller opened or over DATABASE_OWNER_URL."""

import asyncio
import os

from alembic import context
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine


def run(connection: Connection) -> None:
    context.configure(connection=connection, transaction_per_migration=False)
    with context.begin_transaction():
        context.run_migrations()


async def connect_and_run() -> None:
    url = context.config.attributes.get("url") or os.environ["DATABASE_OWNER_URL"]
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://", 1))
    async with engine.begin() as connection:
        await connection.run_sync(run)
    await engine.dispose()


asyncio.run(connect_and_run())
