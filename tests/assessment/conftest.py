"""A trust with a window open, 10 pupils at Oak and 3 at Elm, and its vendor, who may do everything."""

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.conftest import Databases
from tests.trust import Trust, entry, opened, roll, sent, trust


@pytest_asyncio.fixture
async def hedgerow(databases: Databases) -> AsyncIterator[Trust]:
    async with trust(databases) as made:
        yield made


@pytest_asyncio.fixture
async def vendor(hedgerow: Trust) -> Any:
    client = await hedgerow.client("vendor", "trust:4128=all")
    await opened(client)
    await sent(client, "/v1/pupils", roll("Oak", [entry(n) for n in range(10)]))
    await sent(client, "/v1/pupils", roll("Elm", [entry(n) for n in range(20, 23)]))
    return client
