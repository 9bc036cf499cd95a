"""Aggregates as a spreadsheet: the same figures as in JSON, a row per row or a row per school, and what is refused."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from tests.fixtures.databases import Databases
from tests.fixtures.settings import SECRET
from tests.fixtures.two_trusts import KS2, SCHOOLS, build_two_trusts

BASE = "https://markonce.example"
FIGURES = ("eligible", "expectedPercent", "higherPercent", "average")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def manager(module_databases: Databases) -> AsyncIterator[httpx2.AsyncClient]:
    """The client of North, all of whose scopes it holds."""
    two_trusts = await build_two_trusts(module_databases)
    await two_trusts.as_superuser("UPDATE schools SET name = '=cmd|A0' WHERE name = 'Birch'")
    transport = httpx2.ASGITransport(app=build_app(Settings(module_databases.app_url, SECRET.encode(), BASE), two_trusts.database))
    client = two_trusts.clients["North"]
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as http:
        basic = (str(client.caller.client_id), client.secret)
        token = (await http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=basic)).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        yield http
    await two_trusts.database.close()


async def rows(client: httpx2.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/aggregates", params={"window": KS2, "first": 1000, **asked})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def sheet(client: httpx2.AsyncClient, **asked: Any) -> list[dict[str, str]]:
    answer = await client.get("/v1/aggregates", params={"window": KS2, "format": "csv", **asked})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert answer.headers["content-disposition"] == 'attachment; filename="aggregates.csv"'
    assert answer.content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


def written(value: Any) -> str:
    return "" if value is None else str(value)


@pytest.mark.parametrize("view", ["own", "public"])
async def test_a_long_sheet_has_the_rows_of_the_answer(manager: httpx2.AsyncClient, view: str) -> None:
    asked = {"groupBy": "school,subject,sex", "view": view}
    told, lines = await rows(manager, **asked), await sheet(manager, **asked, first="1000")
    assert len(lines) == len(told) > 20
    for row, line in zip(told, lines, strict=True):
        guarded = {**row, "schoolName": row["schoolName"].replace("=cmd", "'=cmd")}
        assert line == {name: written(guarded[name]) for name in line}
    assert {"schoolUrn", "subject", "window", "sex", "status", "reason", "coveragePercent"} <= set(lines[0])
    assert set(lines[0]).isdisjoint({"eal", "sen", "disadvantaged", "yearGroup"})
    assert all(set(line).isdisjoint({"schoolUrn", "schoolId"}) for line in await sheet(manager, groupBy="subject"))


async def test_a_long_sheet_has_pages(manager: httpx2.AsyncClient) -> None:
    asked = {"window": KS2, "groupBy": "school,subject", "first": "5"}
    whole, read = await sheet(manager, groupBy="school,subject", first="1000"), []
    answer = await manager.get("/v1/aggregates", params=asked, headers={"Accept": "text/csv"})
    while True:
        read += list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))
        if "link" not in answer.headers:
            break
        answer = await manager.get(answer.links["next"]["url"], headers={"Accept": "text/csv"})
    assert read == whole


@pytest.mark.parametrize("view", ["own", "public"])
@pytest.mark.parametrize("by", ["school,subject", "sex,subject,school", "disadvantaged,school"])
async def test_a_wide_sheet_has_a_row_per_school(manager: httpx2.AsyncClient, by: str, view: str) -> None:
    asked = {"groupBy": by, "view": view} | ({} if "subject" in by else {"subject": "maths"})
    told, lines = await rows(manager, **asked), await sheet(manager, **asked, shape="wide")
    assert [line["schoolUrn"] for line in lines] == [str(SCHOOLS[name]) for name in ("Alder", "Birch", "Cedar")]
    assert [line["schoolName"] for line in lines] == ["Alder", "'=cmd|A0", "Cedar"]
    by_urn, kinds = {line["schoolUrn"]: line for line in lines}, [name for name in ("sex", "disadvantaged") if name in by]
    for row in told:
        column = ".".join([row["subject"], *(f"{name}={row[name]}" for name in kinds)])
        for figure in FIGURES:
            instead = row["status"] or "z"
            assert by_urn[str(row["schoolUrn"])][f"{column}.{figure}"] == (written(row[figure]) or instead)
    groups = len(told) // 3
    assert all(len(line) == 2 + groups * len(FIGURES) for line in lines)
    assert (view == "public") == any("c" in line.values() for line in lines)


async def test_a_wide_sheet_names_the_window_it_is_grouped_by(manager: httpx2.AsyncClient) -> None:
    answer = await manager.get("/v1/aggregates?groupBy=window,school&subject=maths&format=csv&shape=wide")
    assert f"{KS2}.maths.expectedPercent" in answer.content.decode("utf-8-sig").splitlines()[0].split(",")


async def test_a_school_of_which_nothing_is_collected_has_its_row(manager: httpx2.AsyncClient) -> None:
    lines = await sheet(manager, groupBy="school", subject="science", shape="wide")
    assert [set(line.values()) & {"c", "z", "x"} for line in lines] == [set()] * 3  # no column, and every school


@pytest.mark.parametrize(
    ("asked", "issues"),
    [
        ({"groupBy": "school,subject", "shape": "wide"}, {"shape shape-of-csv"}),
        ({"groupBy": "school,subject", "shape": "long", "format": "json"}, {"shape shape-of-csv"}),
        ({"groupBy": "subject", "shape": "wide", "format": "csv"}, {"groupBy wide-by-school"}),
        ({"groupBy": "school,subject", "shape": "tall", "format": "csv"}, {"shape parameter-invalid"}),
        ({"groupBy": "school,subject", "format": "xlsx", "veiw": "own"}, {"format parameter-invalid", "veiw parameter-unknown"}),
        (
            {"groupBy": "subject,school", "shape": "wide", "format": "csv", "first": "9", "after": "x"},
            {"first wide-is-whole", "after wide-is-whole"},
        ),
        (
            {"groupBy": "school", "shape": ["wide", "long"], "format": "csv"},
            {"shape parameter-repeated", "subject subject-required"},
        ),
    ],
)
async def test_all_that_is_wrong_is_said_at_once(manager: httpx2.AsyncClient, asked: dict[str, Any], issues: set[str]) -> None:
    answer = await manager.get("/v1/aggregates", params={"window": KS2, **asked})
    assert answer.status_code == 400
    assert {f"{issue['at']} {issue['code']}" for issue in answer.json()["issues"]} == issues
