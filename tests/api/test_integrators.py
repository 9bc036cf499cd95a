"""What integrators complain about elsewhere, each a test here, asked as an integrator would ask."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest_asyncio

from domain.clients.grants import approve_grant, list_grants, parse_grant, revoke_grant
from tests import world
from tests.conftest import Databases
from tests.doors import Doors, exact, opened
from tests.world import AUTUMN, SCHOOLS

ALDER = {"urn": SCHOOLS["Alder"]}


@pytest_asyncio.fixture(scope="module")
async def doors(module_databases: Databases) -> AsyncIterator[Doors]:
    async with opened(module_databases) as both:
        yield both


async def get(doors: Doors, path: str, client: str = "North", **parameters: Any) -> Any:
    answer = await doors.http.get(f"/v1/{path}", params=parameters or None, headers=doors.tokens[client])
    assert answer.status_code == 200, answer.text
    return exact(answer)


async def post(doors: Doors, path: str, body: Any, client: str = "North", **headers: str) -> Any:
    answer = await doors.http.post(f"/v1/{path}", json=body, headers=doors.tokens[client] | headers)
    return answer.status_code, exact(answer)


def judged(reference: str, **more: Any) -> dict[str, Any]:
    return {"school": ALDER, "window": AUTUMN, "entries": [{"reference": reference, "subject": "reading", **more}]}


async def test_a_year_that_has_not_begun_yet_is_no_404(doors: Doors) -> None:
    """Lists of a year that nothing is known of are empty, and the school says that its roll is the last year's. A window that nobody has planned is
    unknown."""
    for path in ("groups", "judgements", "windows"):
        assert (await get(doors, path, academicYear="2041-42"))["data"] == []
    unknown = await doors.http.get("/v1/returns", params={"windowCode": "2041-42/autumn"}, headers=doors.tokens["North"])
    assert (unknown.status_code, unknown.json()["issues"][0]["code"]) == (422, "window-not-found")
    school = await get(doors, f"schools/{doors.world.schools['Alder']}")
    assert (school["rollYear"], school["rollState"]) == ("2024-25", "previous")
    assert (await get(doors, f"schools/{school['id']}/onRoll"))["data"]


async def test_what_is_taken_back_is_seen_by_its_natural_key(doors: Doors) -> None:
    await post(doors, "judgements", judged("Alder-6", grade="EX👍"))
    before = (await get(doors, "judgements", subjectCode="reading", windowCode=AUTUMN, first=1000))["data"]
    status, answer = await post(doors, "judgements", judged("Alder-6", grade=None, withdrawn=True))
    assert (status, answer["withdrawn"]) == (200, "1")
    after = {
        row["id"]: row for row in (await get(doors, "judgements", subjectCode="reading", windowCode=AUTUMN, first=1000))["data"]
    }
    assert set(after) >= {row["id"] for row in before}
    assert [row["grade"] for row in after.values() if row["status"] == "withdrawn"] == [None]


async def test_no_row_is_skipped_or_repeated_while_rows_come_in_between_the_pages(doors: Doors) -> None:
    """A cursor is a place, not a number of rows: test_paging tries every order."""
    wanted = {row["id"] for row in (await get(doors, "pupils", first=1000))["data"]}
    seen, after, pages = [], None, 0
    while True:
        page = await get(doors, "pupils", first=3, sort="surname", **({"after": after} if after else {}))
        seen += [row["id"] for row in page["data"]]
        if not page["page"]["hasMore"]:
            break
        after, pages = page["page"]["endCursor"], pages + 1
        entry = world.roll("North", "Alder", world.random.Random(pages))[0]
        entry |= {"reference": f"between-{pages}", "upn": None, "surname": "AAA"}
        await post(doors, "pupils", {"school": ALDER, "asOf": "2025-03-01", "entries": [entry]})
    assert len(seen) == len(set(seen))
    assert wanted <= set(seen)


async def test_reads_of_a_whole_school_have_pages(doors: Doors) -> None:
    page = await get(doors, f"schools/{doors.world.schools['Alder']}/pupils", first=2)
    assert (len(page["data"]), page["page"]["hasMore"]) == (2, True)
    answer = await doors.http.get("/v1/pupils?first=2", headers=doors.tokens["North"])
    following = await doors.http.get(answer.headers["link"].split(">")[0][1:], headers=doors.tokens["North"])
    assert following.status_code == 200
    assert exact(following)["data"] != exact(answer)["data"]


async def test_a_full_sync_that_changes_nothing_marks_nothing_as_changed(doors: Doors) -> None:
    entries = world.roll("Fir", "Fir", world.random.Random("Fir"))
    roll = {"school": {"urn": SCHOOLS["Fir"]}, "asOf": "2024-10-01", "entries": entries}
    await post(doors, "pupils", roll, "Fir")
    before = await get(doors, "pupils", "Fir", first=1000)
    status, answer = await post(doors, "pupils", roll, "Fir")
    assert (status, answer["unchanged"], answer["received"]) == (200, answer["received"], str(len(entries)))
    assert await get(doors, "pupils", "Fir", first=1000) == before


async def test_another_mis_finds_the_same_pupils(doors: Doors) -> None:
    """A new vendor's references are its own; the UPN carries the child over, and ids stay."""
    before = {row["id"] for row in (await get(doors, "pupils", "Fir", first=1000))["data"]}
    entries = [
        entry | {"reference": f"new-mis-{n}"}
        for n, entry in enumerate(world.roll("Fir", "Fir", world.random.Random("Fir")))
        if entry["upn"] is not None
    ]
    status, answer = await post(
        doors, "pupils", {"school": {"urn": SCHOOLS["Fir"]}, "asOf": "2024-10-02", "entries": entries}, "everything"
    )
    assert (status, answer["created"], answer["rejected"]) == (200, "0", "0")
    assert {row["id"] for row in (await get(doors, "pupils", "Fir", first=1000))["data"]} == before


async def test_nothing_lands_in_silence(doors: Doors) -> None:
    """All or nothing unless lenient is asked for, and then every row is accounted for."""
    batch = judged("Alder-1", grade="G\\D")
    batch["entries"].append({"reference": "nobody", "subject": "reading", "grade": "G\\D"})
    status, refused = await post(doors, "judgements", batch)
    assert (status, [issue["at"] for issue in refused["issues"]]) == (422, ["/entries/1/reference"])
    status, answer = await post(doors, "judgements", batch, Prefer="handling=lenient")
    outcomes = ("created", "updated", "unchanged", "superseded", "withdrawn", "rejected")
    assert (status, answer["rejected"]) == (200, "1")
    assert int(answer["received"]) == sum(int(answer[outcome]) for outcome in outcomes) == 2


async def test_a_parameter_or_field_that_is_not_known_is_refused_by_name(doors: Doors) -> None:
    answer = await doors.http.get("/v1/pupils?yeargroup=6&limit=3", headers=doors.tokens["North"])
    assert (answer.status_code, [issue["at"] for issue in exact(answer)["issues"]]) == (400, ["yeargroup", "limit"])
    status, refused = await post(doors, "judgements", judged("Alder-1", grades="G\\D"))
    assert (status, refused["issues"][0]["at"]) == (422, "/entries/0/grades")


async def test_everything_that_is_wrong_is_told_at_once_with_its_place(doors: Doors) -> None:
    batch = judged("Alder-1", grade="none", window="nowhere")
    batch["entries"] += [{"reference": "nobody", "subject": "x", "grade": "?"}, {"subject": "reading"}]
    status, refused = await post(doors, "judgements", batch)
    places = {issue["at"] for issue in refused["issues"]}
    assert status == 422
    assert places >= {"/entries/0/window", "/entries/1/reference", "/entries/1/subject", "/entries/2"}


async def test_no_conflict_for_the_order_of_posting(doors: Doors) -> None:
    """A joiner comes with the judgement, and a correction that arrives before what it corrects stands."""
    joiner = world.roll("North", "Alder", world.random.Random("joiner"))[0] | {"reference": "late", "upn": None, "yearGroup": "6"}
    batch = judged("late", grade="G\\D", recordedAt="2025-03-02T10:00:00Z") | {"pupils": [joiner], "asOf": "2025-03-01"}
    status, answer = await post(doors, "judgements", batch)
    assert (status, answer["created"], answer["pupils"]["created"]) == (200, "1", "1")
    status, answer = await post(doors, "judgements", judged("late", grade="EX👍", recordedAt="2025-03-01T10:00:00Z"))
    assert (status, answer["superseded"]) == (200, "1")


async def test_a_first_query_needs_no_contract(doors: Doors) -> None:
    """The contract is open, and tells where tokens come from; `make demo` has the credentials (tests/journeys)."""
    contract = exact(await doors.http.get("/openapi.json"))
    flow = contract["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]
    found = exact(await doors.http.get("/.well-known/oauth-authorization-server"))
    assert flow["tokenUrl"] == found["token_endpoint"]
    refused = await doors.http.get("/v1/pupils")
    assert refused.status_code == 401
    assert "/.well-known/oauth-protected-resource" in refused.headers["www-authenticate"]


async def test_assessment_is_no_second_class_data(doors: Doors) -> None:
    """What a school judges is read in one request with the pupils, in the school's own scheme and with what it means."""
    pupils = await get(
        doors, "pupils", first=60, include="latestJudgements", fields="id,latestJudgements.grade,latestJudgements.expected"
    )
    latest = [row for pupil in pupils["data"] for row in pupil["latestJudgements"]["data"]]
    assert {row["grade"] for row in latest} & {'W"T', "EX👍"}
    assert {row["expected"] for row in latest} - {None} == {True, False}


async def test_what_changed_since_can_be_asked(doors: Doors) -> None:
    """By changedAt, withdrawn judgements included."""
    (now,) = await doors.world.as_superuser("SELECT clock_timestamp() AS now")
    since = now["now"].isoformat()
    await post(doors, "judgements", judged("Alder-2", grade="G\\D", recordedAt=since))
    await post(doors, "judgements", judged("Alder-2", grade=None, withdrawn=True))
    entry = world.roll("North", "Alder", world.random.Random("North"))[2] | {"surname": "Renamed"}
    await post(doors, "pupils", {"school": ALDER, "asOf": "2025-03-02", "entries": [entry]})
    changed = (await get(doors, "judgements", **{"changedAt.gte": since}))["data"]
    assert [row["status"] for row in changed] == ["withdrawn"]
    pupils = (await get(doors, "pupils", **{"changedAt.gte": since}))["data"]
    assert [row["surname"] for row in pupils] == ["Renamed"]
    assert (await get(doors, "groups", **{"changedAt.gte": since}))["data"] == []


async def test_a_revoked_grant_ends_at_once_and_the_app_is_told(doors: Doors) -> None:
    """So that it can delete what it holds: the grant stands in /v1/me with its end."""
    client_id = doors.world.clients["mixed"].caller.client_id
    operator = await asyncpg.connect(doors.world.databases.operator_url)
    try:
        before = await get(doors, "pupils", "mixed", first=1000)
        grants = await list_grants(operator, client_id)
        revoked = next(grant for grant in grants if grant.target == f"school:{SCHOOLS['Alder']}")
        await revoke_grant(operator, revoked.id)
        after = await get(doors, "pupils", "mixed", first=1000)
        assert 0 < len(after["data"]) < len(before["data"])
        told = {grant["id"]: grant["state"] for grant in (await get(doors, "me", "mixed"))["grants"]}
        assert told[str(revoked.id)] == "revoked"
        await approve_grant(operator, client_id, parse_grant(world.GRANTS["mixed"][0]), purpose="tests", approved_by="tests")
    finally:
        await operator.close()
