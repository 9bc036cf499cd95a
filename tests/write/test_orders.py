"""A night's batches in any order, sent twice and late, with new versions of the scheme and crosswalks between them, end in the same state.

`make faults ARGS=orders` does 2,000 orders on a server of its own.
"""

from random import Random
from typing import Any

from tests.fixtures.orders import Orders
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import Trust, entry, roll, sent

ROUNDS, SEED = 6, 17


async def test_batches_in_any_order_end_in_the_same_state(small_trust: Trust) -> None:
    client: Any = await small_trust.client("vendor", "trust:4128=all")
    await sent(client, "/v1/pupils", roll("Oak", [entry(n) for n in range(4)]))
    orders = Orders(client, Random(SEED), [f"P{n}" for n in range(4)], {})
    await orders.begin()
    for _ in range(ROUNDS):
        await orders.run_round()
    assert not orders.differences, "\n".join(orders.differences)
    assert await miscounted(small_trust) == (0, 0, 0)
    assert orders.sent > 8 * ROUNDS
