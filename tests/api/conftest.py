"""The installation the tests of OAuth ask: one application and database a module, two new clients a test."""

import secrets
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest_asyncio
from starlette.applications import Starlette
from starlette.routing import Route

from api import oauth
from api.http import auth
from api.http.rate_limit import Buckets
from api.settings import Settings
from domain.clients import clients, signing_keys
from domain.clients.grants import approve_grant, parse_grant
from domain.store.database import Database
from tests.fixtures.oauth_installation import BASE, EDWARDS, RSA, SECRET, SIGNS, Installation, unauthorised, who


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def app(module_databases: Any) -> AsyncIterator[Starlette]:
    built = Starlette(routes=[*oauth.make_routes(), Route("/who", who)], exception_handlers={auth.Unauthorised: unauthorised})
    built.state.token_rate_limits = Buckets(Settings.rate, Settings.burst)
    built.state.database = await Database.open(module_databases.app_url)
    yield built
    await built.state.database.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def operator(module_databases: Any) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(module_databases.operator_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def installation(app: Starlette, operator: Any) -> AsyncIterator[Installation]:
    await signing_keys.ensure_signing_key(operator, SECRET)
    name = secrets.token_hex(4)
    client_id, secret = await clients.create_client(operator, f"{name} has a secret", "client_secret")
    keys = {"keys": [key.as_dict(private=False) for key in (SIGNS, RSA, EDWARDS)]}
    signer, _ = await clients.create_client(operator, f"{name} signs", "private_key_jwt", keys)
    asked = parse_grant("installation=schools:read,pupils:read,judgements:write")
    grant_id = await approve_grant(operator, client_id, asked, purpose="tests", approved_by="tests")
    await approve_grant(operator, signer, asked, purpose="tests", approved_by="tests")
    app.state.settings = Settings("", SECRET, BASE)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=BASE) as http:
        made = Installation(app, http, operator, str(client_id), str(secret), str(signer), grant_id)
        made.forget()
        yield made
