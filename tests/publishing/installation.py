"""An installation whose trusts are generated: its application in process, and the operator's connection."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import asyncpg
import httpx2

from api.app import build_app
from api.settings import Settings
from domain.clients.signing_keys import ensure_signing_key
from domain.store.database import Database
from tests.fixtures.databases import Databases, Statements, open_counted
from tests.fixtures.settings import SECRET, WIDE


class Installation(NamedTuple):
    """What the tests of publications ask."""

    operator: Any
    database: Database
    http: httpx2.AsyncClient


@asynccontextmanager
async def open_installation(databases: Databases) -> AsyncIterator[Installation]:
    """Serves a database without kept answers, until the block ends."""
    operator = await asyncpg.connect(databases.operator_url)
    await ensure_signing_key(operator, SECRET.encode())
    database = await open_counted(Statements(), databases.app_url)
    settings = Settings(databases.app_url, SECRET.encode(), "http://published", cache_mb=0, **WIDE)
    transport = httpx2.ASGITransport(app=build_app(settings, database))
    async with httpx2.AsyncClient(transport=transport, base_url=settings.base_url) as http:
        yield Installation(operator, database, http)
    await database.close()
    await operator.close()
