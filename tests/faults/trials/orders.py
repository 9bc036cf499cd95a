"""Orders: a night's batches permuted, sent twice and late, between new versions of a scheme and signed crosswalks: what stands is what a plain model says."""

import random

import httpx2

from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import Laboratory
from tests.faults.laboratory.stage import note_unforeseen
from tests.fixtures.orders import Orders
from tests.fixtures.registration import authorise
from tests.fixtures.small_trust import entry, roll, sent

ABOUT = "batches in any order, twice and late, with versions of schemes and crosswalks: one end"
SMALL, FULL = 2, 2_000
PUPILS = 6
FIRST = 70_000
"""Numbers of pupils whom nobody else writes."""
TOKEN_ROUNDS = 20


async def run(lab: Laboratory, count: int, seed: int, watch: Watch) -> Result:
    """Sends so many permuted nights."""
    result = Result("orders", seed)
    databases = await lab.fresh()
    server = lab.server(databases, rate=100_000, burst=1_000_000)
    try:
        await server.start()
        async with httpx2.AsyncClient(base_url=server.base_url, timeout=60) as client:
            client.headers |= await authorise(client, lab.clients["trust"])
            numbers = range(FIRST, FIRST + PUPILS)
            pupils = [entry(n, yearGroup="5", dateOfBirth="2008-01-01") for n in numbers]
            await sent(client, "/v1/pupils", roll("Oak", pupils))
            orders = Orders(client, random.Random(seed), [f"P{n}" for n in numbers], {"yearGroups": ["5"]})
            await orders.begin()
            for number in range(count):
                if number % TOKEN_ROUNDS == 0:
                    client.headers |= await authorise(client, lab.clients["trust"])
                await orders.run_round()
                watch()
        for difference in orders.differences:
            result.add_break("what stands is what the model says, in any order", difference)
        await lab.check_counts(databases, result)
    finally:
        await server.stop()
        note_unforeseen(server, result)
        await lab.drop(databases)
    result.numbers["orders"] = str(orders.rounds)
    result.numbers["requests"] = str(orders.sent)
    return result


def steps(count: int) -> int:
    """How often `run` calls its Watch."""
    return count
