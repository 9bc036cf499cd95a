"""A migration adds a column to every table while the server runs: no answer changes, no write fails, and plans from before are made anew."""

import asyncio
import os
import random
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from domain import RESOURCES
from domain.declare.resource import Resource
from domain.store.database import Database
from tests.fixtures.databases import Databases
from tests.fixtures.interfaces import Interfaces, open_interfaces, read_exact_json
from tests.fixtures.random_queries import Document, Question
from tests.fixtures.settings import ROOT, SECRET, WIDE
from tests.fixtures.sizes import choose_some
from tests.fixtures.small_trust import TRUST, URNS, WINDOW, Trust, batch, entry, judged, open_trust, roll, sent, window
from tests.fixtures.small_trust import opened as opened_window
from tests.fixtures.two_trusts import build_two_trusts

ADDED = "ALTER TABLE {table} ADD COLUMN {name} text, ADD COLUMN {name}_counted integer NOT NULL DEFAULT 0"
READER = "everything"


async def add_columns(databases: Databases, name: str) -> list[str]:
    """Adds two columns to every table, as a migration would; answers the tables."""
    owner = await asyncpg.connect(databases.owner_url)
    tables = await owner.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    for (table,) in tables:
        await owner.execute(ADDED.format(table=table, name=name))
    await owner.close()
    return [table for (table,) in tables]


@pytest_asyncio.fixture
async def own_interfaces(databases: Databases) -> AsyncIterator[Interfaces]:
    two_trusts = await build_two_trusts(databases)
    async with open_interfaces(two_trusts) as both:
        yield both
    await two_trusts.database.close()


def lists() -> list[tuple[str, Question]]:
    """Every list with all its fields, and with everything that its rows lead to."""

    def ask(resource: Resource, links: dict[str, Question]) -> Question:
        return Question(resource, list(resource.fields), links, first=10)

    asks = []
    for resource in RESOURCES.values():
        asks.append((resource.plural, ask(resource, {})))
        for name, link in resource.links.items():
            asks.append((f"{resource.plural} {name}", ask(resource, {name: ask(RESOURCES[link.target], {})})))
    return asks


async def read_everything(interfaces: Interfaces) -> dict[str, Any]:
    """What both interfaces answer, list by list, and what leads on from a row."""
    answers: dict[str, Any] = {}
    for name, ask in choose_some(lists(), 6):
        rest = await interfaces.rest(READER, ask)
        assert rest.status_code == 200, (name, rest.text)
        answers[name] = read_exact_json(rest)
        document = Document(random.Random(name))
        asked, read = document.asking(document.page(ask, ask.resource.plural))
        answer = await interfaces.graphql(READER, asked, **document.values)
        assert answer.get("errors") is None, (name, answer)
        assert read(answer["data"]) == [answers[name]], name
    for resource in RESOURCES.values():
        rows = interfaces.rows[READER][resource.name]
        for name, link in resource.links.items() if resource.has_id and rows else ():
            if link.many:
                below = Question(RESOURCES[link.target], list(RESOURCES[link.target].fields))
                answer = await interfaces.of_row(READER, resource, rows[0]["id"], name, below)
                assert answer.status_code == 200, (resource.plural, name, answer.text)
                answers[f"{resource.plural}/{{id}}/{name}"] = read_exact_json(answer)
    for path in ("/v1/me", "/v1/aggregates?window=2024-25/KS2&groupBy=school", "/oauth/jwks"):
        answers[path] = (await interfaces.http.get(path, headers=interfaces.tokens[READER])).json()
    return answers


async def test_a_column_more_in_every_table_changes_no_answer(interfaces: Interfaces) -> None:
    """Of the server that runs, whose statements are prepared, and of one that is started afterwards."""
    before = await read_everything(interfaces)
    assert sum(len(answer["data"]) for name, answer in before.items() if " " in name) > 60
    assert len(await add_columns(interfaces.two_trusts.databases, "added")) > 35
    assert await read_everything(interfaces) == before
    restarted = await Database.open(interfaces.two_trusts.databases.app_url)
    settings = Settings(interfaces.two_trusts.databases.app_url, SECRET.encode(), "http://interfaces", cache_mb=0, **WIDE)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=build_app(settings, restarted)), base_url=settings.base_url
    ) as http:
        again = await read_everything(Interfaces(interfaces.two_trusts, http, interfaces.tokens, interfaces.rows))
    await restarted.close()
    assert again == before


async def write_everything(here: Trust, manager: httpx2.AsyncClient, operator: httpx2.AsyncClient, n: int) -> None:
    """Every command, each with something to change, so that no statement is left out."""
    spell = {"from": f"2018-04-0{n}", "status": "C"}
    pupils = [
        entry(1, forename=f"Sam {n}", enrolments=[{"from": "2014-09-01", "status": "M"}]),
        entry(2, characteristics=[{"kind": "ever6Fsm", "value": "true" if n % 2 else "false", "from": "2017-09-01"}]),
        entry(3, upn=None),
        entry(100 + n),
    ]
    await sent(manager, "/v1/pupils", roll("Oak", pupils))
    await sent(
        manager, "/v1/pupils", roll("Elm", [entry(1, reference=f"E{n}", enrolments=[{"from": "2014-09-01", "status": "S"}])])
    )
    await sent(manager, "/v1/pupils", roll("Elm", [entry(100 + n, reference=f"moved {n}", enrolments=[spell])]))
    answer = await sent(manager, "/v1/judgements", batch("Oak", [judged(i, grade=90 + n) for i in (1, 2)]))
    assert answer["created" if n == 1 else "updated"] == 2, answer
    code = f"group {n}"
    members = {"code": code, "name": "Six", "kind": "class", "members": [{"reference": f"P{i}"} for i in (1, 2)]}
    groups = {"school": {"urn": URNS["Oak"]}, "academicYear": "2017-18", "asOf": "2018-05-01", "entries": [members]}
    await sent(manager, "/v1/groups", groups)
    await sent(manager, "/v1/groups", groups | {"entries": [members | {"members": members["members"][:1]}]})
    aimed = {"reference": "P1", "subject": "reading", "grade": 100 + n, "basis": "teacher"}
    target = aimed | {"horizon": {"academicYear": "2017-18", "point": "KS2"}}
    await sent(manager, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": [target]}, Idempotency_Key=f"target-{n}")
    tenant = {"trust": {"groupUid": TRUST}}
    await sent(manager, "/v1/schemes", {"tenant": tenant, "code": f"own-{n}", "name": "Own", "template": "effort"}, 201)
    planned = await sent(manager, "/v1/windows", window(f"2017-18/{n}"), 201)
    for verb in ("open", "close", "reopen"):
        await sent(manager, f"/v1/windows/{planned['id']}/{verb}")
    unused = await sent(manager, "/v1/windows", window(f"2017-18/unused {n}"), 201)
    merge = {"Content-Type": "application/merge-patch+json"}
    (pupil,) = (await sent(manager, "/v1/pupils/lookup", {"where": {"surname": ["Surname2"]}}))["data"]
    (group,) = [row for row in (await manager.get("/v1/groups")).json()["data"] if row["code"] == code]
    for path, change in (
        (f"/v1/pupils/{pupil['id']}", {"forename": f"Kim {n}", "yearGroup": "6"}),
        (f"/v1/groups/{group['id']}", {"name": f"Six {n}"}),
        (f"/v1/windows/{planned['id']}", {"name": f"Changed {n}"}),
        (f"/v1/schools/{here.ids['Oak']}", {"shortName": f"Oak {n}"}),
    ):
        row = (await manager.get(path)).json()
        answer = await manager.patch(path, json=change, headers=merge | {"If-Match": f'"{row["version"]}"'})
        assert (answer.status_code, answer.json()["outcome"]) == (200, "updated"), (path, answer.text)
    deleted = await manager.delete(f"/v1/windows/{unused['id']}", headers={"If-Match": "*"})
    assert deleted.status_code == 204, deleted.text
    assert (await operator.get("/v1/me")).status_code == 200


async def test_a_column_more_in_every_table_fails_no_write(databases: Databases) -> None:
    """On one connection, whose statements were all prepared before: in a transaction they cannot be prepared again where they fail."""
    async with open_trust(databases, pool=1) as here:
        manager = await here.client("manager", f"trust:{TRUST}=all")
        operator = await here.client("operator", "installation=all")
        await opened_window(manager, WINDOW)
        for n in (1, 2):
            await write_everything(here, manager, operator, n)
        await add_columns(databases, "added")
        await write_everything(here, manager, operator, 3)
        history = (
            await here.value("SELECT count(*) FROM judgement_history"),
            await here.value("SELECT count(*) FROM target_history"),
        )
        assert history == (4, 2)


TOMORROW = """
import asyncio, os, sys
from sqlalchemy import Column, Table, Text, event

@event.listens_for(Table, "after_parent_attach")
def declare(table, metadata):
    if table.name == sys.argv[1]:
        table.append_column(Column("from_tomorrow", Text))

import httpx2
from api.app import build_app
from api.settings import Settings
from domain.store.database import Database
from domain.store.metadata import metadata

async def ask():
    assert "from_tomorrow" in metadata.tables[sys.argv[1]].columns
    settings = Settings.from_environment({"MARKONCE_BASE_URL": "http://interfaces", **os.environ})
    database = await Database.open(settings.database_url)
    app = build_app(settings, database)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=settings.base_url) as http:
        http.headers["Authorization"] = sys.argv[2]
        for path in sys.argv[3:]:
            answer = await http.get(path)
            print(answer.status_code, path)
    await database.close()

asyncio.run(ask())
"""
"""A program that declares a column which the table has by now, and the views made of it have not."""
VIEWED = {
    "pupils": ["/v1/groups/{group}/pupils", "/v1/schools/{school}/onRoll", "/v1/groups?include=pupils"],
    "groups": ["/v1/pupils/{pupil}/groups", "/v1/pupils?include=groups"],
    "judgements": ["/v1/pupils/{pupil}/latestJudgements", "/v1/pupils?include=latestJudgements"],
    "targets": ["/v1/pupils/{pupil}/currentTargets", "/v1/pupils?include=currentTargets"],
}
"""By table, lists that are read through a view of it."""


@pytest.mark.parametrize("table", VIEWED)
async def test_a_column_that_is_declared_and_not_shown_breaks_no_view(interfaces: Interfaces, table: str) -> None:
    """A view has the columns that its table had when it was made."""
    databases, rows = interfaces.two_trusts.databases, interfaces.rows[READER]
    owner = await asyncpg.connect(databases.owner_url)
    await owner.execute(f"ALTER TABLE {table} ADD COLUMN from_tomorrow text")
    await owner.close()
    ids = {
        "group": rows["group"][0]["id"],
        "school": interfaces.two_trusts.schools["Alder"],
        "pupil": rows["pupil"][0]["id"],
    }
    paths = [path.format(**ids) for path in VIEWED[table]]
    environment = {**os.environ, "DATABASE_URL": databases.app_url, "MARKONCE_SECRET": SECRET, "PYTHONPATH": str(ROOT)}
    program = [sys.executable, "-c", TOMORROW, table, interfaces.tokens[READER]["Authorization"], *paths]
    process = await asyncio.create_subprocess_exec(*program, env=environment, stdout=PIPE, stderr=STDOUT)
    printed = (await process.communicate())[0].decode()
    assert [line for line in printed.splitlines() if line.endswith(tuple(paths))] == [f"200 {path}" for path in paths], printed[
        -3000:
    ]


@pytest.mark.parametrize("change", ["ALTER TABLE probe ADD COLUMN b text", "ALTER TABLE probe ALTER COLUMN a TYPE text"])
async def test_a_plan_from_before_is_made_anew(databases: Databases, change: str) -> None:
    """Also in a transaction, which is run again, and where each of several connections has one."""
    owner = await asyncpg.connect(databases.owner_url)
    await owner.execute(
        "CREATE TABLE probe (a integer); INSERT INTO probe VALUES (1); GRANT SELECT, INSERT ON probe TO markonce_app"
    )
    database = await Database.open(databases.app_url, size=1)
    runs = 0

    async def work(connection: Any) -> Any:
        nonlocal runs
        runs += 1
        await connection.execute("INSERT INTO probe (a) VALUES ('2')")
        return await connection.fetch("SELECT * FROM probe")

    assert len(await database.run_transaction(None, work)) == 2
    assert (await database.read("SELECT * FROM probe"))["a"] == 1  # type: ignore[index]
    await owner.execute(change)
    assert len(await database.run_transaction(None, work)) == 3
    assert runs == 3
    await owner.execute(change.replace("b text", "c text").replace("TYPE text", "TYPE varchar(9)"))
    assert str((await database.read("SELECT * FROM probe"))["a"]) == "1"  # type: ignore[index]
    assert await owner.fetchval("SELECT count(*) FROM probe") == 3
    await owner.close()
    await database.close()


async def test_a_statement_that_the_database_has_forgotten_is_prepared_again(databases: Databases) -> None:
    """As DISCARD ALL of a pooler makes it forget."""
    database = await Database.open(databases.app_url, size=1)

    async def forget() -> None:
        async with database.without_caller() as connection:
            await connection.execute("DEALLOCATE ALL")

    async def work(connection: Any) -> Any:
        return await connection.fetchval("SELECT 2")

    assert (await database.read("SELECT 1 AS n"))["n"] == 1  # type: ignore[index]
    assert await database.run_transaction(None, work) == 2
    await forget()
    assert (await database.read("SELECT 1 AS n"))["n"] == 1  # type: ignore[index]
    await forget()
    assert await database.run_transaction(None, work) == 2
    await database.close()


async def test_a_read_that_was_in_the_way_of_a_migration_is_asked_again(databases: Databases) -> None:
    """Each has a lock that the other waits for, and PostgreSQL ends the read, which has waited longer."""
    owner, other = await asyncpg.connect(databases.owner_url), await asyncpg.connect(databases.owner_url)
    database = await Database.open(databases.app_url)
    asked = "SELECT count(*) AS n FROM trusts, succession"
    assert (await database.read(asked))["n"] == 0  # type: ignore[index]
    async with owner.transaction():
        await owner.execute("LOCK TABLE succession")
        reading = asyncio.create_task(database.read(asked))
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'succession'::regclass"
        for _ in range(4_000):
            if await other.fetchval(waits):
                break
            await asyncio.sleep(0.005)
        await owner.execute("LOCK TABLE trusts")
    assert (await reading)["n"] == 0  # type: ignore[index]
    for connection in (owner, other, database):
        await connection.close()
