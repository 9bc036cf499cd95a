"""A class and its latest: lists that belong to one row, the latest judgements of a pupil, and ranges; in both interfaces."""

import asyncio
from typing import Any

import pytest

from domain import RESOURCES
from domain.declare.ids import new_id
from tests.fixtures.interfaces import Interfaces, read_exact_json

DAYS = ("2024-09-30", "2024-10-01", "2024-12-20", "2024-12-21", "2025-01-06", "2019-01-01", None)


async def get(interfaces: Interfaces, path: str, client: str = "North", **parameters: Any) -> Any:
    answer = await interfaces.http.get(f"/v1/{path}", params=parameters or None, headers=interfaces.tokens[client])
    await asyncio.sleep(0)  # asyncpg tells its query loggers in the next turn of the loop
    return answer.status_code, read_exact_json(answer)


@pytest.mark.parametrize("on", DAYS)
async def test_who_is_in_a_class_on_a_day(on: str | None, interfaces: Interfaces) -> None:
    """As a list, nested in the group, and by GraphQL; and it is those whom the dated memberships and spells on roll say."""
    told = {"on": on} if on else {}
    day = on or "2026-11-20"
    for group in interfaces.rows["North"]["group"]:
        _, listed = await get(interfaces, f"groups/{group['id']}/pupils", fields="id", sort="id", **told)
        _, nested = await get(
            interfaces, f"groups/{group['id']}", include="pupils", fields="pupils.id", **{f"pupils.{n}": v for n, v in told.items()}
        )
        query = "query ($id: ID!, $on: Date) { group(id: $id) { pupils(on: $on, orderBy: [{field: id}]) { nodes { id } } } }"
        answer = await interfaces.graphql("North", query, id=group["id"], on=on)
        found = [row["id"] for row in listed["data"]]
        assert found == [row["id"] for row in answer["data"]["group"]["pupils"]["nodes"]]
        assert sorted(found) == sorted(row["id"] for row in nested["pupils"]["data"])
        members = await interfaces.two_trusts.as_superuser(
            "SELECT DISTINCT m.pupil_id FROM group_members m JOIN enrolments e ON e.pupil_id = m.pupil_id AND e.school_id = m.school_id"
            f" WHERE m.group_id = '{group['id']}' AND daterange(m.from_on, m.to_on, '[]') @> '{day}'::date"
            f" AND daterange(e.from_on, e.to_on, '[]') @> '{day}'::date"
        )
        assert sorted(found) == sorted(str(row["pupil_id"]) for row in members)


async def test_the_groups_of_a_pupil_are_the_other_side(interfaces: Interfaces) -> None:
    both = set()
    for group in interfaces.rows["North"]["group"]:
        _, listed = await get(interfaces, f"groups/{group['id']}/pupils", on="2025-02-01")
        both |= {(group["id"], row["id"]) for row in listed["data"]}
    _, pupils = await get(interfaces, "pupils", first=60, include="groups", fields="id,groups.id", **{"groups.on": "2025-02-01"})
    assert both == {(group["id"], row["id"]) for row in pupils["data"] for group in row["groups"]["data"]}
    assert len(both) > 20


async def test_latest_judgements_are_the_latest_grades_of_each_subject_and_aspect(interfaces: Interfaces) -> None:
    windows = {row["code"]: row for row in interfaces.rows["North"]["window"]}
    _, answer = await get(
        interfaces,
        "pupils",
        first=60,
        include="latestJudgements,judgements",
        **{"judgements.first": 12, "latestJudgements.first": 12},
    )
    carried = 0
    for pupil in answer["data"]:
        graded = [row for row in pupil["judgements"]["data"] if row["grade"] is not None]
        latest: dict[tuple[str, str], Any] = {}
        for row in sorted(graded, key=lambda row: windows[row["windowCode"]]["censusOn"]):
            latest[row["subjectCode"], row["aspect"]] = row
        shown = {(row["subjectCode"], row["aspect"]): row for row in pupil["latestJudgements"]["data"]}
        assert {key: row["id"] for key, row in shown.items()} == {key: row["id"] for key, row in latest.items()}
        for (subject, aspect), row in shown.items():
            # reading and maths are asked for again in the key stage 2 window, of Years 5 and 6
            again = row["windowCode"] == "2024-25/autumn" and subject in ("reading", "maths") and aspect == "main"
            assert row["carriedFrom"] == ("2024-25/autumn" if again and pupil["yearGroup"] in ("5", "6") else None)
            carried += row["carriedFrom"] is not None
    assert carried > 3


async def test_carried_from_is_null_where_a_later_grade_has_come(interfaces: Interfaces) -> None:
    _, answer = await get(interfaces, "judgements", first=1000, fields="id,pupilId,subjectCode,aspect,windowCode,grade,carriedFrom")
    later = {
        (row["pupilId"], row["subjectCode"], row["aspect"])
        for row in answer["data"]
        if row["windowCode"] == "2024-25/KS2" and row["grade"] is not None
    }
    of_autumn = [row for row in answer["data"] if row["windowCode"] == "2024-25/autumn" and row["grade"] is not None]
    replaced = [row for row in of_autumn if (row["pupilId"], row["subjectCode"], row["aspect"]) in later]
    assert len(replaced) > 5
    assert {row["carriedFrom"] for row in replaced} == {None}
    assert "2024-25/autumn" in {row["carriedFrom"] for row in of_autumn}
    _, unnamed = await get(interfaces, "judgements", first=1)
    assert "carriedFrom" not in unnamed["data"][0]


async def test_current_targets_are_those_of_the_nearest_year_that_is_not_over(interfaces: Interfaces) -> None:
    _, answer = await get(interfaces, "pupils", first=60, include="currentTargets,targets")
    shown = {row["id"] for pupil in answer["data"] for row in pupil["currentTargets"]["data"]}
    assert shown == {row["id"] for pupil in answer["data"] for row in pupil["targets"]["data"] if row["horizonYear"] == "2039-40"}
    assert shown


MANY = [
    (resource, name) for resource in RESOURCES.values() if resource.has_id for name, link in resource.links.items() if link.many
]


@pytest.mark.parametrize(("resource", "name"), MANY, ids=lambda each: each if isinstance(each, str) else each.name)
async def test_a_list_of_a_row_is_what_is_nested_in_it_and_takes_its_cursors(
    resource: Any, name: str, interfaces: Interfaces
) -> None:
    for row in interfaces.rows["North"][resource.name][:3]:
        url = f"{resource.path}/{row['id']}"
        status, whole = await get(interfaces, f"{url}/{name}", first=1000)
        assert status == 200
        _, nested = await get(interfaces, url, include=name, **{f"{name}.first": 2})
        page = nested[name]
        assert page["data"] == whole["data"][:2]
        if page["page"]["hasMore"]:
            _, following = await get(interfaces, f"{url}/{name}", first=3, after=page["page"]["endCursor"])
            assert following["data"] == whole["data"][2:5]


async def test_a_list_of_a_row_out_of_reach_is_the_same_404_as_one_of_none(interfaces: Interfaces) -> None:
    own = {row["id"] for row in interfaces.rows["North"]["group"]}
    theirs = next(row["id"] for row in interfaces.rows["South"]["group"] if row["id"] not in own)
    answers = [await get(interfaces, f"groups/{id_}/pupils") for id_ in (theirs, new_id(10), new_id(4), "x")]
    assert {status for status, _ in answers} == {404}
    assert len({str(body) for _, body in answers}) == 1


@pytest.mark.parametrize(
    ("path", "at", "code"),
    [
        ("groups/{id}/pupils?on=yesterday", "on", "parameter-invalid"),
        ("groups/{id}/pupils?on=2024-01-01&on=2024-01-02", "on", "parameter-repeated"),
        ("groups/{id}/pupils?surname=X", "surname", "filter-in-body-only"),
        ("groups/{id}/pupils?of=2024-01-01", "of", "filter-unknown"),
        ("groups?include=pupils&pupils.of=2024-01-01", "pupils.of", "parameter-unknown"),
        ("groups?include=pupils&pupils.on=x", "pupils.on", "parameter-invalid"),
        ("groups?pupils.on=2024-01-01", "pupils.on", "link-not-included"),
        ("pupils?on=2024-01-01", "on", "filter-unknown"),
        ("judgements?grade.gte=4", "grade.gte", "filter-unknown"),
        ("judgements?mark.over=4", "mark.over", "filter-unknown"),
        ("judgements?version.=4", "version.", "filter-unknown"),
        ("judgements?mark.gte=x", "mark.gte", "filter-value-invalid"),
        ("judgements?mark.gte=1&mark.gte=2", "mark.gte", "parameter-repeated"),
    ],
)
async def test_what_cannot_be_read_is_named(path: str, at: str, code: str, interfaces: Interfaces) -> None:
    status, body = await get(interfaces, path.format(id=interfaces.rows["North"]["group"][0]["id"]))
    assert status == 400
    assert [(issue["at"], issue["code"]) for issue in body["issues"]] == [(at, code)]


async def test_ranges(interfaces: Interfaces) -> None:
    rows = [row for row in interfaces.rows["North"]["judgement"] if row["mark"] is not None]
    _, answer = await get(interfaces, "judgements", first=1000, **{"mark.gte": "12.5", "mark.lt": "40"})
    assert {row["id"] for row in answer["data"]} == {row["id"] for row in rows if 12.5 <= float(row["mark"]) < 40}
    query = "{ judgements(first: 1000, where: {range: {mark: {gte: 12.5, lt: 40}}}) { nodes { id } } }"
    by_graphql = await interfaces.graphql("North", query)
    assert [row["id"] for row in by_graphql["data"]["judgements"]["nodes"]] == [row["id"] for row in answer["data"]]
    assert answer["data"]


async def test_a_list_of_a_row_is_one_data_statement(interfaces: Interfaces) -> None:
    group = interfaces.rows["North"]["group"][0]["id"]
    asked = {"on": "2024-11-01", "include": "latestJudgements,currentTargets", "fields": "forename,surname"}
    await get(interfaces, f"groups/{group}/pupils", **asked)  # from now on the names of what is asked for are known
    with interfaces.two_trusts.statements.counting() as seen:
        await get(interfaces, f"groups/{group}/pupils", **asked)
    assert len(seen) == 1


async def test_a_list_of_a_row_as_a_spreadsheet(interfaces: Interfaces) -> None:
    group = interfaces.rows["North"]["group"][0]["id"]
    answer = await interfaces.http.get(
        f"/v1/groups/{group}/pupils?format=csv&on=2024-11-01&fields=id,yearGroup", headers=interfaces.tokens["North"]
    )
    _, listed = await get(interfaces, f"groups/{group}/pupils", on="2024-11-01")
    assert answer.headers["content-type"].startswith("text/csv")
    assert len(answer.text.splitlines()) == len(listed["data"]) + 1 > 2


async def test_pupils_of_several_schools_at_once(interfaces: Interfaces) -> None:
    ids = [str(interfaces.two_trusts.schools[name]) for name in ("Alder", "Birch")]
    _, both = await get(interfaces, "pupils", first=1000, schoolId=ids)
    assert {row["schoolId"] for row in both["data"]} == set(ids)
    apart = [await get(interfaces, "pupils", first=1000, schoolId=id_) for id_ in ids]
    assert sorted(row["id"] for row in both["data"]) == sorted(row["id"] for _, answer in apart for row in answer["data"])
    query = "query ($ids: [ID!]) { pupils(first: 1000, where: {schoolId: $ids}) { nodes { id } } }"
    by_graphql = await interfaces.graphql("North", query, ids=ids)
    assert [row["id"] for row in by_graphql["data"]["pupils"]["nodes"]] == [row["id"] for row in both["data"]]
