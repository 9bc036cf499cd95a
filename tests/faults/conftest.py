"""The same data read with and without row-level security."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.fixtures.both_roles import BothRoles, open_both_roles
from tests.fixtures.two_trusts import TwoTrusts


@pytest_asyncio.fixture(scope="module")
async def both_roles(two_trusts: TwoTrusts) -> AsyncIterator[BothRoles]:
    async with open_both_roles(two_trusts) as made:
        yield made
