"""A trust with a window open, 10 pupils at Oak and 3 at Elm, and its vendor, who may do everything."""

from typing import Any

import pytest_asyncio

from tests.fixtures.small_trust import Trust, entry, opened, roll, sent


@pytest_asyncio.fixture
async def vendor(small_trust: Trust) -> Any:
    client = await small_trust.client("vendor", "trust:4128=all")
    await opened(client)
    await sent(client, "/v1/pupils", roll("Oak", [entry(n) for n in range(10)]))
    await sent(client, "/v1/pupils", roll("Elm", [entry(n) for n in range(20, 23)]))
    return client
