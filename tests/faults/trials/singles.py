"""Singles: single judgements and targets of three clients at once, while pupils move school: what each becomes is what a plain model says."""

import random
from contextlib import AsyncExitStack

import httpx2

from tests.faults.laboratory.result import Result, Watch
from tests.faults.laboratory.site import Laboratory
from tests.faults.laboratory.stage import note_unforeseen
from tests.fixtures.registration import authorise
from tests.fixtures.singles import GAPS, UNRECEIPTED, Singles

ABOUT = "random single writes at once, by a plain model of their rules"
SMALL, FULL = 32, 20_000
AT_ONCE = 64
NAMES = ("trust", "second", "both")
TOKEN_ROUNDS = 100
"""Rounds for which a token is good."""


async def run(lab: Laboratory, count: int, seed: int, watch: Watch) -> Result:
    """Sends so many requests, in rounds."""
    result = Result("singles", seed)
    databases = await lab.fresh()
    server = lab.server(databases, rate=100_000, burst=1_000_000)
    try:
        await server.start()
        async with AsyncExitStack() as opened:
            clients = [await opened.enter_async_context(httpx2.AsyncClient(base_url=server.base_url, timeout=60)) for _ in NAMES]
            singles = Singles(clients, random.Random(seed))
            connection = await lab.superuser(databases.name)
            await singles.begin(connection)
            for number in range(steps(count)):
                if number % TOKEN_ROUNDS == 0:
                    for name, client in zip(NAMES, clients, strict=True):
                        client.headers |= await authorise(client, lab.clients[name])
                await singles.run_round(min(AT_ONCE, count))
                watch()
        await lab.settle(databases)
        for difference in await singles.find_differences(connection):
            result.add_break("answers and rows are those of the model in some order", difference)
        for promise, statement in (("each version but the last is in history", GAPS), ("each change has one receipt", UNRECEIPTED)):
            rows = await connection.fetchval(statement)
            result.expect(rows == 0, promise, f"{rows} rows")
        await connection.close()
        await lab.check_counts(databases, result)
    finally:
        await server.stop()
        note_unforeseen(server, result)
        await lab.drop(databases)
    result.numbers["requests"] = str(singles.sent)
    result.numbers["outcomes"] = ", ".join(f"{n} {name}" for name, n in singles.outcomes.most_common())
    return result


def steps(count: int) -> int:
    """How often `run` calls its Watch."""
    return -(-count // AT_ONCE)
