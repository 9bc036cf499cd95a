"""A trust with a window open, 10 pupils at Oak and 3 at Elm, and its vendor, who may do everything."""

import pytest

from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.small_trust import Trust, entry, opened, roll, sent


@pytest.fixture
def fill_trust(request: pytest.FixtureRequest) -> Filling | None:
    return open_window_with_pupils if "vendor" in request.fixturenames else None


async def open_window_with_pupils(trust: Trust) -> None:
    client = await register_vendor(trust)
    await opened(client)
    await sent(client, "/v1/pupils", roll("Oak", [entry(n) for n in range(10)]))
    await sent(client, "/v1/pupils", roll("Elm", [entry(n) for n in range(20, 23)]))
