"""The README's map and its two walk-throughs are true: the files are there, and a request runs through the functions named, in that order."""

import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import FrameType
from typing import Any

import asyncpg
import httpx2
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from domain.clients import clients, grants, signing_keys
from domain.read import compile
from domain.store.database import Database
from tests.conftest import SECRET, Databases

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_every_file_named_in_the_readme_is_there() -> None:
    named = set(re.findall(r"`((?:api|domain|tests|migrations|openapi|expected)/[\w./-]+)`", README)) | set(
        re.findall(r"\]\(([\w./]+)\)", README)
    )
    assert len(named) > 5
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_setting_named_in_the_readme_is_read_somewhere() -> None:
    code = "".join(path.read_text() for room in ("api", "domain", "migrations", "tests") for path in (ROOT / room).rglob("*.py"))
    settings = set(re.findall(r"`((?:DATABASE|MARKONCE)_\w+)`", README))
    assert len(settings) >= 6
    assert [name for name in settings if name not in code] == []


class Calls:
    """The functions of ours that ran, in the order they were first entered."""

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and file.startswith((str(ROOT / "api"), str(ROOT / "domain"))):
            self.seen.setdefault(frame.f_code.co_name)


async def followed(request: Any) -> list[str]:
    calls = Calls()
    sys.setprofile(calls)
    try:
        await request
    finally:
        sys.setprofile(None)
    return list(calls.seen)


def in_order(names: list[str], seen: list[str]) -> None:
    assert [name for name in names if name not in seen] == []
    assert sorted(names, key=seen.index) == names


@pytest_asyncio.fixture
async def http(databases: Databases, database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    """The application in process, asked by a client that holds every scope on the installation."""
    settings = Settings(databases.app_url, SECRET.encode(), "http://readme")
    operator = await asyncpg.connect(databases.operator_url)
    await signing_keys.ensure_signing_key(operator, settings.secret)
    client_id, secret = await clients.create_client(operator, "reader", "client_secret")
    await grants.approve_grant(operator, client_id, grants.parse_grant("installation=all"), purpose="test", approved_by="test")
    await operator.close()
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=build_app(settings, database)), base_url=settings.base_url
    ) as asking:
        answer = await asking.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=(str(client_id), str(secret)))
        asking.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield asking


async def test_following_a_read(http: httpx2.AsyncClient) -> None:
    """GET /v1/pupils?include=school, as the README tells it."""
    compile.statements.clear()
    seen = await followed(http.get("/v1/pupils?include=school"))
    assert all(f"`{name}`" in README for name in ("read_list", "PreparedQuery"))
    in_order(["read_list", "compile_query", "run"], seen)


async def test_following_a_write(http: httpx2.AsyncClient) -> None:
    """POST /v1/judgements, as the README tells it."""
    seen = await followed(http.post("/v1/judgements", json={"window": "none", "entries": []}, headers={"Idempotency-Key": "walk"}))
    assert all(f"`{name}`" in README for name in ("Command.parse_in_steps", "perform", "record_judgements"))
    in_order(["parse_in_steps", "perform", "claim_key", "record_judgements"], seen)
