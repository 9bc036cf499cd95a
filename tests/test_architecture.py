"""docs/architecture.md is true: its map holds the first sentence of every module, its names exist, and requests run through its functions in order."""

import ast
import re
import sys
from collections.abc import AsyncIterator
from types import FrameType
from typing import Any

import asyncpg
import httpx2
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from domain.clients import signing_keys
from domain.declare.ids import new_id
from domain.declare.type_numbers import SCHOOL
from domain.read import compile
from domain.store.database import Database
from tests.fixtures.databases import Databases
from tests.fixtures.golden import check_golden
from tests.fixtures.registration import authorise, register_client
from tests.fixtures.settings import ROOT, SECRET

PAGE = ROOT / "docs" / "architecture.md"
MAP = "## The files\n\n"


def first_sentence(path: Any) -> str:
    text = " ".join((ast.get_docstring(ast.parse(path.read_text())) or "").split())
    return re.split(r"(?<=\.)\s+(?=[A-Z`])", text)[0]


def draw_map() -> str:
    """Every module by package, with the first sentence of its docstring."""
    lines = []
    packages = sorted(
        {path.parent for name in ("domain", "api") for path in (ROOT / name).rglob("*.py")}, key=lambda p: p.as_posix()
    )
    for package in sorted(packages, key=lambda path: (not path.is_relative_to(ROOT / "domain"), path.as_posix())):
        modules = [(path, first_sentence(path)) for path in sorted(package.glob("*.py"))]
        rows = [f"- `{path.name}` {sentence}" for path, sentence in modules if sentence]
        lines += [f"### {package.relative_to(ROOT).as_posix()}", "", *rows, ""]
    return "\n".join(lines)


def test_golden_map_of_the_files() -> None:
    head = PAGE.read_text().partition(MAP)[0]
    check_golden(PAGE, f"{head}{MAP}{draw_map()}")


def test_every_module_says_what_it_does() -> None:
    paths = [path for name in ("domain", "api") for path in (ROOT / name).rglob("*.py")]
    assert [str(path) for path in paths if path.read_text().strip() and not first_sentence(path)] == []


def test_every_name_is_there() -> None:
    """Names in backquotes are files, settings or definitions of the code."""
    code = "".join(path.read_text() for name in ("domain", "api") for path in (ROOT / name).rglob("*.py"))
    named = set(re.findall(r"`([A-Za-z_][\w.]*)`", PAGE.read_text().partition(MAP)[0]))
    assert len(named) > 20
    missing = [name for name in named if not re.search(rf"\b{re.escape(name.split('.')[-1])}\b", code)]
    assert [name for name in missing if name not in ("domain", "api", "create_token_response")] == []


class Calls:
    """The functions of ours that ran, in the order they were first entered."""

    def __init__(self) -> None:
        self.seen: dict[str, None] = {}

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        file = frame.f_code.co_filename
        if event == "call" and (file.startswith((str(ROOT / "api"), str(ROOT / "domain"))) or "authlib" in file):
            self.seen.setdefault(frame.f_code.co_name)


async def follow(request: Any) -> list[str]:
    calls = Calls()
    sys.setprofile(calls)
    try:
        await request
    finally:
        sys.setprofile(None)
    return list(calls.seen)


def check_order(names: list[str], seen: list[str]) -> None:
    assert [name for name in names if name not in seen] == []
    assert sorted(names, key=seen.index) == names
    assert [name for name in names if f"`{name}" not in PAGE.read_text() and f".{name}`" not in PAGE.read_text()] == []


@pytest_asyncio.fixture
async def http(databases: Databases, database: Database) -> AsyncIterator[httpx2.AsyncClient]:
    """The application in process, asked by a client that holds every scope at every school."""
    settings = Settings(databases.app_url, SECRET.encode(), "http://architecture")
    operator = await asyncpg.connect(databases.operator_url)
    await signing_keys.ensure_signing_key(operator, settings.secret)
    await operator.execute(
        "INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, status)"
        " VALUES ($1, $1, 100001, 'Oak', '936', 'Surrey', 'open')",
        new_id(SCHOOL),
    )
    credentials = await register_client(operator, "reader", "schools=all")
    await operator.close()
    transport = httpx2.ASGITransport(app=build_app(settings, database))
    async with httpx2.AsyncClient(transport=transport, base_url=settings.base_url) as asking:
        asking.headers.update(await authorise(asking, credentials))
        asking.auth = credentials
        yield asking


async def test_a_read(http: httpx2.AsyncClient) -> None:
    compile.statements.clear()
    http.auth = None
    seen = await follow(http.get("/v1/pupils?include=school"))
    check_order(["authenticate", "split_template", "read_list", "check_scopes", "check_cost", "compile_query", "run"], seen)


async def test_a_graphql_read(http: httpx2.AsyncClient) -> None:
    http.auth = None
    check_order(["execute", "make_query"], await follow(http.post("/graphql", json={"query": "{ pupils { nodes { id } } }"})))


async def test_a_write(http: httpx2.AsyncClient) -> None:
    http.auth = None
    posted = http.post("/v1/judgements", json={"window": "none", "entries": []}, headers={"Idempotency-Key": "walk"})
    check_order(["read_json", "parse_in_steps", "perform", "claim_key", "record_judgements"], await follow(posted))


async def test_an_aggregate(http: httpx2.AsyncClient) -> None:
    http.auth = None
    seen = await follow(http.get("/v1/aggregates?window=2025-26/KS2&subject=rwm&groupBy=school"))
    check_order(["read_query", "compile_aggregate"], seen)


async def test_a_token(http: httpx2.AsyncClient) -> None:
    seen = await follow(http.post("/oauth/token", data={"grant_type": "client_credentials"}))
    check_order(["read_client_auth", "exchange", "create_token_response"], seen)
