"""python -m api explain: what a request is read as, its statements and their plans, for both interfaces, and no personal data in any of it."""

import json
import os
import re

import pytest_asyncio

from api.explain import explain
from api.settings import Settings
from domain.declare.ids import new_id
from tests.fixtures.commands import run_command
from tests.fixtures.privacy import PLANTED, find_personal_data
from tests.fixtures.settings import SECRET
from tests.fixtures.two_trusts import AUTUMN, TwoTrusts, upn

QUERY = 'query ($first: Int) { pupils(first: $first, where: {yearGroup: "6"}) { nodes { id forename school { name } } } }'


@pytest_asyncio.fixture(scope="module")
async def names(two_trusts: TwoTrusts) -> set[str]:
    rows = await two_trusts.as_superuser(
        "SELECT surname FROM pupils UNION SELECT forename FROM pupils UNION SELECT upn FROM pupils"
    )
    return {row[0] for row in rows} - {None, "null"}  # a child's name, and a word of SQL


def run(two_trusts: TwoTrusts, *arguments: str, given: str = "", **environment: str) -> tuple[int, str, str]:
    """The exit code of the command, and what it prints and complains of."""
    settings = {"DATABASE_URL": two_trusts.databases.app_url, "MARKONCE_SECRET": SECRET} | environment
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "200", **settings}
    done = run_command("explain", *arguments, environment=environment, given=given)
    return done.returncode, done.stdout, done.stderr


def printed(two_trusts: TwoTrusts, *arguments: str, given: str = "") -> str:
    code, said, complained = run(two_trusts, *arguments, given=given)
    assert (code, complained) == (0, ""), said + complained
    return said


def test_a_url_is_explained_as_a_tree_its_sql_and_its_plan(two_trusts: TwoTrusts, names: set[str]) -> None:
    url = "/v1/pupils?include=school,judgements.window&judgements.first=2&fields=id,surname,upn,school.name&sort=-surname&yearGroup=6&first=3"
    said = printed(two_trusts, url, "--client", "North")
    plan = said.partition("statement")[0]
    assert "pupils: first 3; where yearGroup = 6; order -surname" in plan
    assert re.search(r"data: each row\W+id, surname, upn\W+school → one school\W+name\n", plan)
    assert "judgements → judgements: first 2" in plan
    assert "window → one window" in plan
    assert "hasMore, endCursor" in plan
    assert f"uuid         {two_trusts.clients['North'].caller.client_id}" in said
    assert "‹hidden›" in said
    assert all(word in said for word in ("string_agg(", "WindowAgg", "actual time=", "Buffers: shared hit=", "Planning Time"))
    assert re.search(r"^[\d,]+ bytes answered; \d statements?; [\d.]+ ms of planning, [\d.]+ ms of execution$", said, re.M)
    assert find_personal_data(said, names) == set()


def test_a_document_is_explained_likewise_with_its_variables(two_trusts: TwoTrusts, names: set[str]) -> None:
    by_id = str(two_trusts.clients["South"].caller.client_id)
    said = printed(two_trusts, QUERY, "--client", by_id, "--variables", '{"first": 3}')
    assert "pupils: first 3; where yearGroup = 6" in said
    assert re.search(r"school → one school\W+name\n", said)
    assert "actual time=" in said
    assert find_personal_data(said, names) == set()


def test_what_identifies_a_child_is_shown_nowhere(two_trusts: TwoTrusts, names: set[str]) -> None:
    """As a filter it is bound, and a plan made for its value would show it; here it comes by standard input, so that no shell keeps it."""
    document = (
        f'{{ pupils(where: {{upn: ["{upn("Alder", 1)}", "{upn("Alder", 2)}"], surname: ["{PLANTED}"]}}) {{ nodes {{ id }} }} }}'
    )
    said = printed(two_trusts, "-", "--client", "North", given=document)
    assert "upn = ‹hidden› and surname = ‹hidden›" in said
    assert "[‹hidden›, ‹hidden›]" in said
    assert find_personal_data(said, names | {PLANTED}) == set()


def test_aggregates_are_explained_too(two_trusts: TwoTrusts, names: set[str]) -> None:
    url = f"/v1/aggregates?groupBy=school&window={AUTUMN}&subject=reading"
    inner = f'{{ aggregates(groupBy: [school], window: "{AUTUMN}", subject: "reading") {{ nodes {{ eligible }} }} }}'
    for request in (url, inner):
        said = printed(two_trusts, request, "--client", "North")
        assert "No rows are selected: a function of the domain answers." in said
        assert "actual time=" in said
        assert re.search(r"; \d statements?; ", said)
        assert find_personal_data(said, names) == set()


async def test_the_plan_is_that_of_the_statement_which_the_server_sends(two_trusts: TwoTrusts) -> None:
    """One row, as row-level security shows it to the client: its id is bound, and no plan is made for the value."""
    settings = Settings(two_trusts.databases.app_url, SECRET.encode())
    (row,) = await two_trusts.as_superuser(
        "SELECT id FROM pupils WHERE school_id = (SELECT id FROM schools WHERE name = 'Birch') LIMIT 1"
    )
    explained = await explain(settings, "North", f"/v1/pupils/{row['id']}?fields=id,yearGroup")
    statement = next(each for each in explained.statements if ("uuid", row["id"]) in each.binds)
    number = statement.binds.index(("uuid", row["id"])) + 1
    assert str(row["id"]) not in "\n".join(statement.plan)
    assert any("Index Cond" in line and f"(id = ${number})" in line for line in statement.plan)
    assert statement.planning > 0 < statement.execution
    assert explained.length > 50


def test_a_bad_request_is_reported_with_every_issue(two_trusts: TwoTrusts) -> None:
    code, said, complained = run(two_trusts, f"/v1/pupils?first=0&colour=red&surname={PLANTED}", "--client", "North")
    assert (code, said) == (1, "")
    assert all(words in complained for words in ("3 parameters cannot be read.", "first is a whole number", "colour", "/lookup"))
    assert find_personal_data(complained, {PLANTED}) == set()
    code, said, complained = run(two_trusts, "{ pupils { nodes { id colour } } }", "--client", "North")
    assert (code, said) == (1, "")
    assert "'colour'" in complained
    assert "(line 1, column 23)" in complained
    code, said, complained = run(two_trusts, '{ pupils(after: "x") { nodes { id } } }', "--client", "North")
    assert (code, said) == (1, "")
    assert "cursor" in complained
    code, said, complained = run(two_trusts, "/v1/groups", "--client", "mixed")
    assert (code, said) == (1, "")
    assert complained.startswith("error: groups needs groups:read.")
    assert run(two_trusts, QUERY, "--client", "North", "--variables", "{")[::2] == (1, "error: --variables is not JSON.\n")


def test_nothing_is_written(two_trusts: TwoTrusts) -> None:
    mutation = "mutation ($id: String!) { openWindow(input: {id: $id}) { id } }"
    given = json.dumps({"id": str(new_id(1))})
    code, said, complained = run(two_trusts, mutation, "--client", "North", "--variables", given)
    assert (code, said, complained) == (1, "", "error: Only reading is explained; nothing was written.\n")


def test_an_unknown_client_is_answered_with_the_names_of_clients(two_trusts: TwoTrusts) -> None:
    code, said, complained = run(two_trusts, "/v1/pupils", "--client", "nobody")
    assert (code, said) == (1, "")
    names = "A vendor of both, Class lists, Fir, North, Signs, South, everything, guest, mixed"  # each once: three tenants have Class lists
    assert complained == f"error: There is no client nobody. There are: {names}.\n"


def test_missing_settings_are_named(two_trusts: TwoTrusts) -> None:
    code, said, complained = run(two_trusts, "/v1/pupils", "--client", "North", DATABASE_URL="", MARKONCE_SECRET="")
    assert (code, said) == (1, "")
    assert "DATABASE_URL is not set" in complained
    assert "MARKONCE_SECRET is not set" in complained
    code, _, complained = run(two_trusts, "/v1/pupils", "--client", "North", DATABASE_URL=two_trusts.databases.owner_url)
    assert code == 1
    assert "name the app role" in complained


def test_the_command_is_listed() -> None:
    helped = run_command("--help", environment=os.environ)
    assert "explain" in helped.stdout
