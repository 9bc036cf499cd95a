"""Lists and aggregates as spreadsheets: the same values as in JSON, in cells without objects; a row per row or a row per school, and what is refused."""

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from api.app import build_app
from api.rest.csv import write_table
from api.settings import Settings
from domain import RESOURCES
from domain.declare.resource import Resource
from domain.support.slices import run_at_once
from tests.fixtures.registration import authorise
from tests.fixtures.settings import SECRET, WIDE
from tests.fixtures.two_trusts import KS2, SCHOOLS, TwoTrusts

BASE = "https://markonce.example"
FIGURES = ("eligible", "expectedPercent", "higherPercent", "average")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def manager(two_trusts: TwoTrusts) -> AsyncIterator[httpx2.AsyncClient]:
    """The client of North, all of whose scopes it holds."""
    await two_trusts.as_superuser("UPDATE schools SET name = '=cmd|A0' WHERE name = 'Birch'")
    transport = httpx2.ASGITransport(
        app=build_app(Settings(two_trusts.databases.app_url, SECRET.encode(), BASE, **WIDE), two_trusts.database)
    )
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as http:
        http.headers.update(await authorise(http, two_trusts.clients["North"].credentials))
        yield http


async def rows(client: httpx2.AsyncClient, **asked: Any) -> list[dict[str, Any]]:
    answer = await client.get("/v1/aggregates", params={"window": KS2, "first": 1000, **asked})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def sheet(client: httpx2.AsyncClient, **asked: Any) -> list[dict[str, str]]:
    answer = await client.get("/v1/aggregates", params={"window": KS2, "format": "csv", **asked})
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/csv; charset=utf-8")
    assert answer.headers["content-disposition"] == 'attachment; filename="aggregates.csv"'
    assert not answer.content.startswith(b"\xef\xbb\xbf")
    return list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))


GUARDED = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def flatten(row: dict[str, Any], columns: list[str]) -> dict[str, str]:
    """The cells of a row of JSON: a column such as window.name is the member of an object, or empty where there is none."""
    cells = {}
    for column in columns:
        value: Any = row
        for name in column.split("."):
            value = None if value is None else value[name]
        assert not isinstance(value, dict), column
        if isinstance(value, list):
            value = ";".join(value)
        text = str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)
        cells[column] = f"'{text}" if isinstance(value, str) and text.lstrip(" ").startswith(GUARDED) else text
    return cells


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)
async def test_a_list_has_the_values_of_json_in_flat_cells(manager: httpx2.AsyncClient, resource: Resource) -> None:
    """With every link to one row, two deep; no cell holds an object of Python or of JSON."""
    to_one = [name for name, link in resource.links.items() if not link.many]
    deeper = [f"{name}.{n}" for name in to_one for n, link in RESOURCES[resource.links[name].target].links.items() if not link.many]
    params = {"first": "5", "include": ",".join([*to_one, *deeper[:2]])} if to_one else {"first": "5"}
    told = (await manager.get(f"/v1/{resource.path}", params=params)).json()["data"]
    answer = await manager.get(f"/v1/{resource.path}", params=params | {"format": "csv"})
    assert answer.status_code == 200, answer.text
    assert answer.text.endswith("\r\n")
    lines = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert len(lines) == len(told)
    for row, line in zip(told, lines, strict=True):
        assert line == flatten(row, [*line])
    header = answer.text.partition("\r\n")[0].split(",")
    assert {f"{name}." for name in to_one} <= {f"{column.partition('.')[0]}." for column in header if "." in column}
    assert not set(to_one) & set(header)


async def test_a_list_within_a_row_is_refused_before_its_cost(manager: httpx2.AsyncClient) -> None:
    for include in ("judgements", "school.pupils", "school,judgements.window"):
        answer = await manager.get("/v1/pupils", params={"include": include, "format": "csv"})
        assert [(issue["at"], issue["code"]) for issue in answer.json()["issues"]] == [("include", "csv-not-flat")], include


async def test_a_byte_order_mark_is_written_where_it_is_asked_for(manager: httpx2.AsyncClient) -> None:
    aggregates = f"/v1/aggregates?window={KS2}&groupBy=school&subject=maths"
    for path in ("/v1/schools?fields=urn,name", aggregates, f"{aggregates}&shape=wide"):
        plain = await manager.get(f"{path}&format=csv")
        marked = await manager.get(f"{path}&format=csv&bom=true")
        assert (plain.content[:3], marked.content) == (plain.content[:3].decode("ascii").encode(), b"\xef\xbb\xbf" + plain.content)
        assert (await manager.get(f"{path}&format=csv&bom=false")).content == plain.content
        if "shape" not in path:
            accepted = {"headers": {"Accept": "text/csv"}}
            assert (await manager.get(f"{path}&bom=true", **accepted)).content == marked.content
            for wrong in ("bom=true", "format=json&bom=true", "format=csv&bom=yes"):
                answer = await manager.get(f"{path}&{wrong}")
                assert [(i["at"], i["code"]) for i in answer.json()["issues"]] == [("bom", "parameter-invalid")], wrong
    assert (await manager.post("/v1/pupils/lookup", json={"bom": True})).json()["issues"][0]["code"] == "unknown-field"


def test_cells_are_quoted_and_run_nothing() -> None:
    """RFC 4180 for commas, quotes and line ends; a ' before what a spreadsheet would run, in lists too, and none before a number."""
    cells = ["=1+1", "+44", "-x", "@sum", " =1", "＝1", "\t=1", "a,b", 'a"b', "a\r\nb", ["=x", "y"], [], None, True, -1.5, 0, ""]
    table = run_at_once(write_table(["a", "b"], [cells]))
    assert table.endswith(b"\r\n")
    (_, row) = csv.reader(io.StringIO(table.decode(), newline=""))
    expected = [
        "'=1+1",
        "'+44",
        "'-x",
        "'@sum",
        "' =1",
        "'＝1",
        "'\t=1",
        "a,b",
        'a"b',
        "a\r\nb",
        "'=x;y",
        "",
        "",
        "true",
        "-1.5",
        "0",
        "",
    ]
    assert row == expected
    with pytest.raises(TypeError):
        run_at_once(write_table(["a"], [[{"a": 1}]]))


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
        read += list(csv.DictReader(io.StringIO(answer.content.decode(), newline="")))
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
    assert f"{KS2}.maths.expectedPercent" in answer.content.decode().splitlines()[0].split(",")


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
