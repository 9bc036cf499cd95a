"""Fixtures of the roster: the register, empty."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest_asyncio

from domain.store.embedded import SUPERUSER
from tests.fixtures.databases import Databases
from tests.fixtures.gias_rows import as_role


@pytest_asyncio.fixture
async def connection(module_databases: Databases) -> AsyncIterator[Any]:
    """A transaction as the app, on an empty register, rolled back in the end. `as_role` makes it another role."""
    opened = await asyncpg.connect(module_databases.cluster.url(module_databases.name, SUPERUSER))
    transaction = opened.transaction()
    await transaction.start()
    await as_role(opened, "markonce_app")
    yield opened
    await transaction.rollback()
    await opened.close()
