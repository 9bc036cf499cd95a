"""Aggregates as pictures: what they say is what the JSON of the same caller says, hidden figures are drawn as hidden, and nothing in them runs."""

import re
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree

import httpx2
import pytest
import pytest_asyncio

from api.app import build_app
from api.rest.aggregate_pictures import MAX_BARS, draw
from api.rest.svg import NAMESPACE
from api.settings import Settings
from domain.aggregates.aggregate_rows import AggregateBasis, AggregatePage, AggregateRow, Coverage, PageInfo
from domain.aggregates.query import AggregateQuery
from tests.fixtures.registration import authorise
from tests.fixtures.settings import SECRET, WIDE
from tests.fixtures.two_trusts import KS2, TwoTrusts

BASE = "https://markonce.example"
HOSTILE = '</text><script>alert(1)</script> & "St Mary\'s" \u202e\u0003]]>'
SVG = {"Accept": "image/svg+xml"}
TAG = f"{{{NAMESPACE}}}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def manager(two_trusts: TwoTrusts) -> AsyncIterator[httpx2.AsyncClient]:
    """The client of North, of whose schools Cedar has a name that would be markup."""
    await two_trusts.as_superuser(f"UPDATE schools SET name = E'{HOSTILE.replace(chr(39), chr(39) * 2)}' WHERE name = 'Cedar'")
    transport = httpx2.ASGITransport(
        app=build_app(Settings(two_trusts.databases.app_url, SECRET.encode(), BASE, **WIDE), two_trusts.database)
    )
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as http:
        http.headers.update(await authorise(http, two_trusts.clients["North"].credentials))
        yield http
    await two_trusts.as_superuser("UPDATE schools SET name = 'Cedar' WHERE name LIKE '</text>%'")


def parse(text: bytes) -> ElementTree.Element:
    """The picture, as a browser parses it: as XML, or not at all."""
    return ElementTree.fromstring(text)  # noqa: S314 it was written here


async def draw_and_read(client: httpx2.AsyncClient, **question: Any) -> tuple[ElementTree.Element, list[dict[str, Any]]]:
    """The picture of a question, and the rows that the same client gets as JSON."""
    answer = await client.get("/v1/aggregates", params=question, headers=SVG)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("image/svg+xml")
    rows = (await client.get("/v1/aggregates", params=question | {"first": 1000})).json()["data"]
    return parse(answer.content), rows


@pytest.mark.parametrize("view", ["own", "public"])
async def test_a_picture_says_what_the_json_says(manager: httpx2.AsyncClient, view: str) -> None:
    """Each row in words in the description and below its bar; a bar is as long as its percentage, and a hidden row is a frame with its symbol."""
    root, rows = await draw_and_read(manager, groupBy="school,sex", subject="maths", window=KS2, view=view)
    described = root.findtext(f"{TAG}desc", "").splitlines()
    assert len(rows) > 5
    for row, words in zip(rows, described, strict=False):
        figures = [
            int(number) for number in re.findall(r"(\d+) (?:%|pupils? eligible)|\bn (\d+)", words) for number in number if number
        ]
        expected = [row["expectedPercent"], row["higherPercent"], row["eligible"], row["coveragePercent"]]
        if row["status"] is None:
            assert figures == [figure for figure in expected if figure is not None]
        else:
            assert f"({row['status']})" in words
            assert not re.search(r"\d+ %", words)
    widths = [
        box.get("width", "") for box in root.iter(f"{TAG}rect") if box.get("class") == "pale" and box.get("width", "").endswith("%")
    ]
    assert widths == [f"{row['expectedPercent']}%" for row in rows if row["expectedPercent"] is not None]
    frames = [box for box in root.iter(f"{TAG}rect") if box.get("class") == "hidden" and box.get("width") == "100%"]
    assert len(frames) == sum(row["expectedPercent"] is None and row["higherPercent"] is None for row in rows)
    assert bool(frames) or view == "own"
    shown = " ".join(text.text or "" for text in root.iter(f"{TAG}text"))
    assert "contribute" in shown
    assert ("coverage" in shown) == any(row["eligible"] for row in rows)
    assert (root.get("role"), root.get("aria-labelledby")) == ("img", f"{root.get('id')}_title {root.get('id')}_desc")


async def test_nothing_in_a_picture_runs(manager: httpx2.AsyncClient) -> None:
    """A name that is markup is text. There is neither link nor script, no other origin, and each id begins with that of the picture."""
    answer = await manager.get("/v1/aggregates", params={"groupBy": "school", "subject": "maths", "window": KS2}, headers=SVG)
    root = parse(answer.content)
    assert any("<script>alert(1)</script>" in (text.text or "") for text in root.iter(f"{TAG}text")) or "<script>" in root.findtext(
        f"{TAG}desc", ""
    )
    assert {element.tag.removeprefix(TAG) for element in root.iter()} <= {
        *("svg", "title", "desc", "style", "defs", "pattern", "rect", "line", "circle", "text")
    }
    assert "\u202e" not in answer.text
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    assert len(ids) == len(set(ids))
    assert all(str(id_).startswith(str(root.get("id"))) for id_ in ids)
    rules = re.findall(r"(?:^|[{}])\s*([^{}@]+)\{", root.findtext(f"{TAG}style", ""))
    assert rules
    assert all(rule.strip().startswith(f"#{root.get('id')}") for rule in rules)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "sandbox" in policy
    assert "script" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.links["alternate"]["type"] == "text/csv"
    table = await manager.get(answer.links["alternate"]["url"])
    assert table.headers["content-type"].startswith("text/csv")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("image/svg+xml", "image/svg+xml"),
        ("image/*", "image/svg+xml"),
        ("application/json;q=0.5, image/svg+xml", "image/svg+xml"),
        ("image/avif,image/webp,image/svg+xml,image/*,*/*;q=0.8", "image/svg+xml"),
        ("image/svg+xml;q=0.1, text/csv;q=0.2", "text/csv"),
        ("image/svg+xml;q=0, */*", "application/json"),
        ("image/png;q=0, */*", "application/json"),
        ("*/*", "application/json"),
        ("image/png", "application/problem+json"),
        ("image/png, image/svg+xml;q=0", "application/problem+json"),
    ],
)
async def test_the_media_type_is_negotiated(manager: httpx2.AsyncClient, accept: str, kind: str) -> None:
    """GET and HEAD alike; each representation has a tag of its own, and `format` decides before Accept."""
    path, accepted = f"/v1/aggregates?groupBy=school&subject=maths&window={KS2}", {"Accept": accept}
    answer, head = await manager.get(path, headers=accepted), await manager.head(path, headers=accepted)
    assert answer.headers["content-type"].split(";")[0] == kind
    assert (head.status_code, head.headers["content-type"]) == (answer.status_code, answer.headers["content-type"])
    if kind == "application/problem+json":
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (406, "not-acceptable")
        return
    assert "Accept" in answer.headers["vary"]
    as_json = await manager.get(path)
    assert (as_json.headers["etag"] == answer.headers["etag"]) == (kind == "application/json")
    again = await manager.get(path, headers=accepted | {"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    named = await manager.get(f"{path}&format=svg", headers={"Accept": "application/json"})
    assert named.headers["content-type"].startswith("image/svg+xml")


async def test_what_is_no_picture_is_refused(manager: httpx2.AsyncClient) -> None:
    """All that is wrong is named at once, and a picture that would show too much is refused with its limit."""
    answer = await manager.get("/v1/aggregates?groupBy=school&subject=maths&first=3&bom=true&veiw=own", headers=SVG)
    assert answer.status_code == 400
    assert {f"{issue['at']} {issue['code']}" for issue in answer.json()["issues"]} == {
        *("first picture-is-whole", "bom parameter-invalid", "veiw parameter-unknown", "window window-required")
    }
    by_class = await manager.get(f"/v1/aggregates?groupBy=class&subject=maths&window={KS2}", headers=SVG)
    assert by_class.json()["issues"][0]["code"] == "teacher-comparison-not-supported"
    wide = await manager.get(f"/v1/aggregates?groupBy=school,subject,sen&window={KS2}", headers=SVG)
    assert (wide.status_code, wide.json()["issues"][0]["code"]) == (422, "picture-too-wide")
    assert f"at most {MAX_BARS}" in wide.json()["detail"]


def make_page(rows: list[AggregateRow]) -> AggregatePage:
    basis = AggregateBasis(judgements="current", crosswalks_on="2026-11-01", scale=None)
    return AggregatePage(
        data=rows,
        page=PageInfo(has_more=False, end_cursor=None),
        excluded=[],
        coverage=Coverage(schools=1, contributing=1),
        basis=basis,
    )


def test_a_course_has_a_gap_where_a_window_is_hidden() -> None:
    """A hidden window is neither nought nor bridged; nought is a mark on the ground line."""
    percents = [40, None, 0, 50]
    rows = [
        AggregateRow(subject="maths", window=f"{2020 + i}/spring", academic_year=f"{2020 + i}", schools=1, status="c")
        if percent is None
        else AggregateRow(
            subject="maths",
            window=f"{2020 + i}/spring",
            academic_year=f"{2020 + i}",
            schools=1,
            eligible=10,
            valid=10,
            expected_percent=percent,
            expected_of=10,
            coverage_percent=100,
            higher_status="z",
        )
        for i, percent in enumerate(percents)
    ]
    root = parse(draw(make_page(rows), AggregateQuery(("window",), subject="maths"), "x"))
    joined = [line for line in root.iter(f"{TAG}line") if line.get("class") == "line" and line.get("x1", "").endswith("%")]
    assert len(joined) == 1
    discs = [each for each in root.iter(f"{TAG}circle") if each.get("class") == "dot" and each.get("cx", "").endswith("%")]
    assert len(discs) == 3
    grounds = [line.get("y1") for line in root.iter(f"{TAG}line") if line.get("class") == "grid"]
    assert discs[1].get("cy") == grounds[0]
    frames = [box for box in root.iter(f"{TAG}rect") if box.get("class") == "hidden" and box.get("width", "").endswith("%")]
    assert len(frames) == 1


def test_two_schools_of_one_name_are_named_by_urn() -> None:
    rows = [
        AggregateRow(school_id=str(urn), school_urn=urn, school_name="St Mary's", schools=1, status="z", subject="maths")
        for urn in (1, 2)
    ]
    root = parse(draw(make_page(rows), AggregateQuery(("school",), subject="maths", window="w"), "x"))
    names = [text.text for text in root.iter(f"{TAG}text") if text.get("class") == "name"]
    assert {"St Mary's (1)", "St Mary's (2)"} <= set(names)
