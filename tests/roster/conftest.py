"""Fixtures of the roster: the register, empty, and a trust with its vendor."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest_asyncio

from domain.engine.embedded import SUPERUSER
from tests.conftest import Databases
from tests.roster.gias_rows import as_role
from tests.trust import TRUST, Trust, trust


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


@pytest_asyncio.fixture
async def hedgerow(databases: Databases) -> AsyncIterator[Trust]:
    async with trust(databases) as made:
        yield made


@pytest_asyncio.fixture
async def vendor(hedgerow: Trust) -> Any:
    """The client of the whole trust."""
    return await hedgerow.client("vendor", f"trust:{TRUST}=all")
