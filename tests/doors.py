"""Both doors of one application in process, on the world, with a token for each of its clients."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx2

from api.app import build_app
from api.settings import Settings
from domain import RESOURCES
from domain.declare.resource import Resource
from tests.conftest import SECRET, Databases
from tests.questions import Ask, Asking
from tests.world import World, build, settled


@dataclass(frozen=True)
class Doors:
    """The application in process, and what each client may ask with: a token, and rows to take filters from."""

    world: World
    http: httpx2.AsyncClient
    tokens: dict[str, dict[str, str]]
    rows: dict[str, dict[str, list[Any]]]

    async def rest(self, client: str, ask: Ask) -> httpx2.Response:
        headers = self.tokens[client]
        if ask.identifies:
            return await self.http.post(f"/v1/{ask.resource.path}/lookup", json=ask.body(), headers=headers)
        return await self.http.get(f"/v1/{ask.resource.path}", params=ask.parameters(), headers=headers)

    async def row(self, client: str, ask: Ask, id_: str) -> httpx2.Response:
        """One row, by its URL."""
        asked = replace(ask, choices={}).parameters().remove("first")  # which are of lists
        return await self.http.get(f"/v1/{ask.resource.path}/{id_}", params=asked, headers=self.tokens[client])

    async def of_row(self, client: str, resource: Resource, id_: str, link: str, ask: Ask) -> httpx2.Response:
        """What a row leads to, as a list."""
        return await self.http.get(f"/v1/{resource.path}/{id_}/{link}", params=ask.parameters(), headers=self.tokens[client])

    def asking(self, client: str, draw: random.Random) -> Asking:
        return Asking(self.world.clients[client].caller, self.rows[client], draw)

    async def graphql(self, client: str, query: str, **variables: Any) -> Any:
        answer = await self.http.post("/graphql", json={"query": query, "variables": variables}, headers=self.tokens[client])
        return exact(answer)


def exact(answer: httpx2.Response) -> Any:
    """JSON values, numbers as they are written."""
    return json.loads(answer.content, parse_float=str, parse_int=str)


@asynccontextmanager
async def opened(databases: Databases) -> AsyncIterator[Doors]:
    """The doors to a new world."""
    world = await build(databases)
    settings = Settings(databases.app_url, SECRET.encode(), "http://doors", cache_mb=0)  # each question is asked of the database
    transport = httpx2.ASGITransport(app=build_app(settings, world.database))
    async with httpx2.AsyncClient(transport=transport, base_url=settings.base_url) as http:
        tokens, rows = {}, {}
        for name, client in world.clients.items():
            credentials = (str(client.caller.client_id), client.secret)
            answer = await http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=credentials)
            tokens[name] = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            readable = [of for of in RESOURCES.values() if of.scope in client.caller.scopes]
            rows[name] = {of.name: settled(await world.rows(world.database, client.caller, of)) for of in readable}
        yield Doors(world, http, tokens, rows)
    await world.database.close()
