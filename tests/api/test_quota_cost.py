"""A request costs what it asks for, the same in both interfaces, and is told so in RateLimit and in `extensions.cost`."""

import re
import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx2
import pytest

from api.http import rate_limit
from tests.fixtures.small_trust import Trust


class FrozenTime:
    """An hour after any bucket was made, so that it is full, and nothing comes back into it while a test runs."""

    at = time.monotonic() + 3600

    @classmethod
    def monotonic(cls) -> float:
        return cls.at


@pytest.fixture(autouse=True)
def frozen() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rate_limit, "time", FrozenTime)
        yield


class Spending:
    """A client, and what each of its requests cost as the header field says it."""

    def __init__(self, trust: Trust, client: httpx2.AsyncClient) -> None:
        self.client, self._trust = client, trust
        self.left = 0

    async def cost(self, method: str, path: str, **options: Any) -> tuple[int, httpx2.Response]:
        answer = await self.client.request(method, path, **options)
        before = self.left
        (left,) = re.findall(r'^"default";r=(\d+);', answer.headers["ratelimit"])
        self.left = int(left)
        quotas = self._trust.transport.app.state.authenticator.quotas  # type: ignore[attr-defined]
        assert quotas.find(UUID(self._trust.credentials["vendor"][0])).tokens == self.left
        return before - self.left, answer

    async def graphql(self, query: str, **variables: Any) -> tuple[int, dict[str, Any]]:
        cost, answer = await self.cost("POST", "/graphql", json={"query": query, "variables": variables})
        body = answer.json()
        assert body["extensions"]["cost"] == cost, body
        return cost, body


async def test_both_interfaces_cost_the_same(small_trust: Trust) -> None:
    spending = Spending(small_trust, await small_trust.client("vendor", "trust:4128=all"))
    await spending.cost("GET", "/v1/schools?fields=id")
    assert (await spending.cost("GET", "/v1/schools?fields=name"))[0] == 1
    cost, answer = await spending.cost("GET", "/v1/schools?fields=id,name&first=1000")
    assert cost == 3
    cost, body = await spending.graphql("{ schools(first: 1000) { nodes { id name } } }")
    assert (cost, body["extensions"]) == (3, {"cost": 3, "values": 2000})
    assert (await spending.graphql("{ schools(first: 1000) { nodes { id name } } }"))[0] == 3  # by its plan
    headers = {"If-None-Match": answer.headers["etag"]}
    cost, answer = await spending.cost("GET", "/v1/schools?fields=id,name&first=1000", headers=headers)
    assert (cost, answer.status_code) == (1, 304)
    for path, query, expected in (
        ("/v1/me", "{ me { client { name } } }", 3),
        (
            "/v1/aggregates?window=2017-18/KS2&subject=reading&groupBy=school",
            '{ aggregates(window: "2017-18/KS2", subject: "reading", groupBy: [school]) { nodes { schoolId } } }',
            21,
        ),
    ):
        assert (await spending.cost("GET", path))[0] == expected
        cost, answer = await spending.cost("POST", "/graphql", json={"query": query})
        assert cost == expected, answer.text
        assert answer.json().get("extensions", {"cost": expected})["cost"] == expected


async def test_a_body_costs_beside_what_it_asks_for(small_trust: Trust) -> None:
    """700 values and 60 kB are one token together. A refused request costs what it had asked for until then."""
    spending = Spending(small_trust, await small_trust.client("vendor", "trust:4128=all"))
    await spending.cost("GET", "/v1/schools?fields=id")
    names = [f"{i:0>60}" for i in range(900)]
    where = {"where": {"surname": names}, "first": 350, "fields": ["id", "forename"]}
    cost, answer = await spending.cost("POST", "/v1/pupils/lookup", json=where)
    assert (cost, answer.status_code) == (2, 200), answer.text
    cost, _ = await spending.cost("POST", "/v1/pupils/lookup", json={**where, "first": 10})
    assert cost == 1
    cost, answer = await spending.cost("POST", "/v1/pupils", json={"entries": [{"upn": "x" * 250_000}]})
    assert (cost, answer.status_code) == (3, 422)
    subject = 'mutation { createSubject(input: {code: "la", name: "Latin", tenant: {trust: {groupUid: 4128}}}) { code } }'
    cost, answer = await spending.cost("POST", "/graphql", json={"query": subject})
    assert (cost, answer.json().get("extensions", {"cost": 1})) == (1, {"cost": 1})
