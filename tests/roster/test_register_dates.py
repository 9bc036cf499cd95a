"""The register in time: an extract older than the last, memberships that would end before they begin, and former LAESTABs."""

import csv
import io
from datetime import UTC, date, datetime
from typing import Any

import pytest

from domain.roster.gias.apply import apply_gias
from tests.fixtures.clock import set_clock
from tests.fixtures.gias_rows import SPRING, SUMMER, extract, group, link, school, spells
from tests.fixtures.small_trust import LAESTABS, URNS, WINDOW, Trust, asked, batch, counted, entry, issues, opened, roll, sent, upn

FORMER = LAESTABS["Oak"]
BY_FORMER = {"laestab": f"{FORMER[:3]}/{FORMER[3:]}"}


async def renumber(here: Trust, name: str, la: str, day: date = SUMMER, **changed: str) -> None:
    """An extract in which a school has another local authority, and so another LAESTAB."""
    async with here.operator.transaction():
        await apply_gias(here.operator, extract([school(URNS[name], la=la, name=name, **changed)]), day)


@pytest.fixture
async def oak(small_trust: Trust, vendor: Any) -> Any:
    """The client of Oak, which has pupils and another LAESTAB than before."""
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2)]))
    await renumber(small_trust, "Oak", "937")
    return await small_trust.client("oak", f"school:{URNS['Oak']}=all")


BY_UPN = {"upn": upn(1), "subject": "reading", "grade": 100}
WRITES: dict[str, dict[str, Any]] = {
    "pupils": roll("Oak", [entry(1), entry(2)]),
    "judgements": batch("Oak", [BY_UPN]),
    "groups": {
        "academicYear": "2017-18",
        "asOf": "2018-05-01",
        "entries": [{"code": "6W", "name": "A", "kind": "class", "members": [{"upn": upn(1)}]}],
    },
    "targets": {
        "entries": [
            BY_UPN | {"basis": "teacher", "horizon": {"academicYear": "2017-18", "point": "KS2"}, "scheme": "ks2-scaled-score"},
        ],
    },
}


@pytest.mark.parametrize("path", WRITES)
async def test_a_former_laestab_finds_its_school_and_is_reported(small_trust: Trust, vendor: Any, oak: Any, path: str) -> None:
    whole = WRITES[path] | {"school": BY_FORMER}
    in_rows = {name: value for name, value in whole.items() if name != "school"}
    in_rows["entries"] = [row | {"school": BY_FORMER} for row in whole["entries"]]
    for body, places in (
        (whole, ["/school/laestab"]),
        (in_rows, [f"/entries/{n}/school/laestab" for n in range(len(whole["entries"]))]),
    ):
        for client in (oak, vendor):
            answer = await sent(client, f"/v1/{path}", body)
            assert (answer["issues"], issues({"issues": answer["warnings"]})) == ([], dict.fromkeys(places, "laestab-superseded"))
    assert answer["unchanged"] == answer["received"]
    present = await sent(oak, f"/v1/{path}", whole | {"school": {"laestab": "9370001"}})
    assert (present["warnings"], counted(present)) == ([], {"unchanged": present["received"]})
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    assert issues(await sent(elm, f"/v1/{path}", whole, 422)) == {"/school": "school-not-found"}


async def find(client: Any, *laestabs: str) -> list[str]:
    """The names of the schools that the filter finds, in both interfaces."""
    rows = (await client.get("/v1/schools", params={"laestab": list(laestabs), "fields": "name", "sort": "name"})).json()["data"]
    query = "query ($l: [String!]) { schools(where: {laestab: $l}, orderBy: [{field: name}]) { nodes { name } } }"
    assert (await asked(client, query, l=list(laestabs)))["schools"]["nodes"] == rows
    return [row["name"] for row in rows]


async def test_a_filter_finds_it_until_another_open_school_has_it(small_trust: Trust, vendor: Any, oak: Any) -> None:
    assert await find(vendor, FORMER) == await find(oak, FORMER) == await find(vendor, "9370001") == ["Oak"]
    assert await find(vendor, FORMER, LAESTABS["Elm"]) == ["Elm", "Oak"]
    (row,) = (await oak.get("/v1/schools?fields=laestab,formerLaestabs")).json()["data"]
    assert row == {"laestab": "9370001", "formerLaestabs": [FORMER]}
    await small_trust.operator.execute("UPDATE schools SET laestab = $1 WHERE name = 'Elm'", FORMER)
    assert (await find(vendor, FORMER), await find(oak, FORMER)) == (["Elm"], [])
    answer = await sent(vendor, "/v1/pupils", roll("Elm", [entry(9)]) | {"school": BY_FORMER})
    assert (counted(answer), answer["warnings"]) == ({"created": 1}, [])
    assert issues(await sent(oak, "/v1/pupils", roll("Oak", [entry(1)]) | {"school": BY_FORMER}, 422)) == {
        "/school": "school-not-found"
    }
    await small_trust.operator.execute("UPDATE schools SET status = 'closed' WHERE name = 'Elm'")
    assert set(await find(vendor, FORMER)) == {"Elm", "Oak"}  # a filter finds closed schools too
    assert counted(await sent(oak, "/v1/pupils", roll("Oak", [entry(1)]) | {"school": BY_FORMER})) == {"updated": 1}


async def test_a_school_that_gets_its_laestab_back_has_the_other_as_a_former_one(small_trust: Trust, vendor: Any, oak: Any) -> None:
    await small_trust.operator.execute("UPDATE schools SET laestab = $1 WHERE name = 'Oak'", FORMER)
    await renumber(small_trust, "Oak", "938", date(2022, 9, 1))
    await renumber(small_trust, "Oak", "937", date(2022, 10, 1))
    (row,) = (await oak.get("/v1/schools?fields=laestab,formerLaestabs")).json()["data"]
    assert row == {"laestab": "9370001", "formerLaestabs": ["9380001", FORMER]}


async def test_other_places_that_name_a_school_take_a_former_laestab(small_trust: Trust, vendor: Any, oak: Any) -> None:
    (row,) = (await vendor.get("/v1/windows", params={"code": WINDOW, "fields": "id"})).json()["data"]
    discount = {"school": BY_FORMER, "pupil": {"reference": "P1"}, "reason": "Came from abroad", "author": "Head"}
    await sent(vendor, f"/v1/windows/{row['id']}/discounts", discount, 201)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2)], complete=True) | {"school": BY_FORMER})
    await small_trust.operator.execute("INSERT INTO former_laestabs VALUES ($1, '9990001', '2020-01-01')", small_trust.ids["Quay"])
    quay = await small_trust.client("quay", f"school:{URNS['Quay']}=all")
    await sent(
        quay, "/v1/schemes", {"tenant": {"school": {"laestab": "9990001"}}, "code": "x", "name": "X", "template": "effort"}, 201
    )


async def test_aggregates_take_a_former_laestab(small_trust: Trust, vendor: Any, oak: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [BY_UPN]))
    query = 'query ($s: [ID!]) { aggregates(groupBy: [subject], window: "2017-18/KS2", school: $s) { nodes { eligible } } }'
    pages = []
    for name in (FORMER, "936/2001", "9370001", str(URNS["Oak"])):
        answer = await vendor.get("/v1/aggregates", params={"groupBy": "subject", "window": WINDOW, "school": name})
        assert answer.status_code == 200, answer.text
        pages.append(answer.json()["data"])
        assert [row["eligible"] for row in pages[-1]] == [
            node["eligible"] for node in (await asked(vendor, query, s=[name]))["aggregates"]["nodes"]
        ]
    assert pages[0]
    assert all(page == pages[0] for page in pages)
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    refused = await elm.get("/v1/aggregates", params={"groupBy": "subject", "window": WINDOW, "school": FORMER})
    assert issues(refused.json()) == {"school": "school-not-found"}


@pytest.mark.parametrize("name", [FORMER, f"{FORMER[:3]}/{FORMER[3:]}", "937/0001"])
async def test_pages_of_aggregates_by_a_laestab_follow_each_other(vendor: Any, oak: Any, name: str) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [BY_UPN]))
    of_oak = {"groupBy": "subject", "window": WINDOW, "school": name}
    whole = (await vendor.get("/v1/aggregates", params=of_oak)).json()["data"]
    assert len(whole) > 1
    paged: list[Any] = []
    after: dict[str, str] = {}
    while True:
        answer = await vendor.get("/v1/aggregates", params=of_oak | {"first": "1"} | after)
        assert answer.status_code == 200, answer.text
        paged += answer.json()["data"]
        if not answer.json()["page"]["hasMore"]:
            break
        after = {"after": answer.json()["page"]["endCursor"]}
    assert paged == whole


INVERTED = {
    "joined after the trust closed, by the link": [link(100001, 2001, "2022-05-01", closed="01-03-2022")],
    "joined after the trust closed, by the trust": [link(100001, 2002, "2022-05-01")],
}


@pytest.mark.parametrize("what", INVERTED)
async def test_a_membership_never_ends_before_it_began(connection: Any, what: str) -> None:
    groups = [group(2001), group(2002, status="Closed", closed="01-03-2022")]
    report = await apply_gias(connection, extract([school(100001)], groups, INVERTED[what]), SUMMER)
    ((_, _, joined, left),) = await spells(connection)
    assert (joined, left) == ("2022-05-01", "2022-05-01")
    assert [(issue.code, issue.severity) for issue in report.issues] == [("gias-membership-inverted", "note")]


async def test_nor_does_one_whose_link_is_gone_before_it_begins(connection: Any) -> None:
    two = [school(100001), school(100002)]
    await apply_gias(connection, extract(two, [group(2001)], [link(100001, 2001, "2022-09-01"), link(100002, 2001)]), SPRING)
    await apply_gias(connection, extract(two, [group(2001)], [link(100002, 2001)]), SUMMER)
    assert ("2022-09-01", "2022-09-01") in {(joined, left) for _, _, joined, left in await spells(connection)}
    await apply_gias(connection, extract(two, [group(2001, status="Closed", closed="01-01-2010")]), SUMMER)
    assert all(left is None or joined <= left for _, _, joined, left in await spells(connection))


async def send_extract(client: Any, as_of: str, status: int = 200, **fields: str) -> Any:
    text = io.StringIO()
    writer = csv.DictWriter(text, group(9001))
    writer.writeheader()
    writer.writerow(group(9001))
    files = {"file": ("groups.csv", text.getvalue().encode())}
    answer = await client.post("/v1/imports/gias", data={"asOf": as_of} | fields, files=files)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_an_extract_older_than_the_last_is_refused_unless_forced(small_trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    importer = await small_trust.client("importer", "installation=imports:write")
    await send_extract(importer, "2022-06-20")
    for as_of, fields in (("2022-06-19", {}), ("2021-12-31", {"force": "false"})):
        assert issues(await send_extract(importer, as_of, 422, **fields)) == {"/asOf": "gias-extract-older"}
    assert issues(await send_extract(importer, "2022-06-19", 400, force="yes")) == {"/force": "wrong-value"}
    assert (await send_extract(importer, "2022-06-20"))["trusts"]["unchanged"] == 1
    await send_extract(importer, "2022-04-20", force="true")
    await send_extract(importer, "2022-04-21")  # the register is of April again
    set_clock(monkeypatch, datetime(2022, 6, 20, 23, 30, tzinfo=UTC))  # 21 June in England
    assert issues(await send_extract(importer, "2022-06-23", 422)) == {"/asOf": "as-of-implausible"}
    await send_extract(importer, "2022-06-22")
