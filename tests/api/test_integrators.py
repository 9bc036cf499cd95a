"""What integrators complain about elsewhere, each a test here, asked as an integrator would ask."""

from typing import Any

import asyncpg

from domain.clients.grants import approve_grant, list_grants, parse_grant, revoke_grant
from tests.fixtures import two_trusts
from tests.fixtures.interfaces import Interfaces, read_exact_json
from tests.fixtures.two_trusts import AUTUMN, SCHOOLS

ALDER = {"urn": SCHOOLS["Alder"]}


async def get(interfaces: Interfaces, path: str, client: str = "North", **parameters: Any) -> Any:
    answer = await interfaces.http.get(f"/v1/{path}", params=parameters or None, headers=interfaces.tokens[client])
    assert answer.status_code == 200, answer.text
    return read_exact_json(answer)


async def post(interfaces: Interfaces, path: str, body: Any, client: str = "North", **headers: str) -> Any:
    answer = await interfaces.http.post(f"/v1/{path}", json=body, headers=interfaces.tokens[client] | headers)
    return answer.status_code, read_exact_json(answer)


def judged(reference: str, **more: Any) -> dict[str, Any]:
    return {"school": ALDER, "window": AUTUMN, "entries": [{"reference": reference, "subject": "reading", **more}]}


async def test_a_year_that_has_not_begun_yet_is_no_404(interfaces: Interfaces) -> None:
    """Lists of a year that nothing is known of are empty, and the school says that its roll is the last year's. A window that nobody has planned is
    unknown."""
    for path in ("groups", "judgements", "windows"):
        assert (await get(interfaces, path, academicYear="2041-42"))["data"] == []
    unknown = await interfaces.http.get("/v1/returns", params={"windowCode": "2041-42/autumn"}, headers=interfaces.tokens["North"])
    assert (unknown.status_code, unknown.json()["issues"][0]["code"]) == (422, "window-not-found")
    school = await get(interfaces, f"schools/{interfaces.two_trusts.schools['Alder']}")
    assert (school["rollYear"], school["rollState"]) == ("2024-25", "previous")
    assert (await get(interfaces, f"schools/{school['id']}/onRoll"))["data"]


async def test_what_is_taken_back_is_seen_by_its_natural_key(interfaces: Interfaces) -> None:
    await post(interfaces, "judgements", judged("Alder-6", grade="EX👍"))
    before = (await get(interfaces, "judgements", subjectCode="reading", windowCode=AUTUMN, first=1000))["data"]
    status, answer = await post(interfaces, "judgements", judged("Alder-6", grade=None, withdrawn=True))
    assert (status, answer["withdrawn"]) == (200, "1")
    after = {
        row["id"]: row
        for row in (await get(interfaces, "judgements", subjectCode="reading", windowCode=AUTUMN, first=1000))["data"]
    }
    assert set(after) >= {row["id"] for row in before}
    assert [row["grade"] for row in after.values() if row["status"] == "withdrawn"] == [None]


async def test_no_row_is_skipped_or_repeated_while_rows_come_in_between_the_pages(interfaces: Interfaces) -> None:
    """A cursor is a place, not a number of rows: test_paging tries every order."""
    wanted = {row["id"] for row in (await get(interfaces, "pupils", first=1000))["data"]}
    seen, after, pages = [], None, 0
    while True:
        page = await get(interfaces, "pupils", first=3, sort="surname", **({"after": after} if after else {}))
        seen += [row["id"] for row in page["data"]]
        if not page["page"]["hasMore"]:
            break
        after, pages = page["page"]["endCursor"], pages + 1
        entry = two_trusts.roll("North", "Alder", two_trusts.random.Random(pages))[0]
        entry |= {"reference": f"between-{pages}", "upn": None, "surname": "AAA"}
        await post(interfaces, "pupils", {"school": ALDER, "asOf": "2025-03-01", "entries": [entry]})
    assert len(seen) == len(set(seen))
    assert wanted <= set(seen)


async def test_reads_of_a_whole_school_have_pages(interfaces: Interfaces) -> None:
    page = await get(interfaces, f"schools/{interfaces.two_trusts.schools['Alder']}/pupils", first=2)
    assert (len(page["data"]), page["page"]["hasMore"]) == (2, True)
    answer = await interfaces.http.get("/v1/pupils?first=2", headers=interfaces.tokens["North"])
    following = await interfaces.http.get(answer.headers["link"].split(">")[0][1:], headers=interfaces.tokens["North"])
    assert following.status_code == 200
    assert read_exact_json(following)["data"] != read_exact_json(answer)["data"]


async def test_a_full_sync_that_changes_nothing_marks_nothing_as_changed(interfaces: Interfaces) -> None:
    entries = two_trusts.roll("Fir", "Fir", two_trusts.random.Random("Fir"))
    roll = {"school": {"urn": SCHOOLS["Fir"]}, "asOf": "2024-10-01", "entries": entries}
    await post(interfaces, "pupils", roll, "Fir")
    before = await get(interfaces, "pupils", "Fir", first=1000)
    status, answer = await post(interfaces, "pupils", roll, "Fir")
    assert (status, answer["unchanged"], answer["received"]) == (200, answer["received"], str(len(entries)))
    assert await get(interfaces, "pupils", "Fir", first=1000) == before


async def test_another_mis_finds_the_same_pupils(interfaces: Interfaces) -> None:
    """A new vendor's references are its own; the UPN carries the child over, and ids stay."""
    before = {row["id"] for row in (await get(interfaces, "pupils", "Fir", first=1000))["data"]}
    entries = [
        entry | {"reference": f"new-mis-{n}"}
        for n, entry in enumerate(two_trusts.roll("Fir", "Fir", two_trusts.random.Random("Fir")))
        if entry["upn"] is not None
    ]
    status, answer = await post(
        interfaces, "pupils", {"school": {"urn": SCHOOLS["Fir"]}, "asOf": "2024-10-02", "entries": entries}, "everything"
    )
    assert (status, answer["created"], answer["rejected"]) == (200, "0", "0")
    assert {row["id"] for row in (await get(interfaces, "pupils", "Fir", first=1000))["data"]} == before


async def test_nothing_lands_in_silence(interfaces: Interfaces) -> None:
    """All or nothing unless lenient is asked for, and then every row is accounted for."""
    batch = judged("Alder-1", grade="G\\D")
    batch["entries"].append({"reference": "nobody", "subject": "reading", "grade": "G\\D"})
    status, refused = await post(interfaces, "judgements", batch)
    assert (status, [issue["at"] for issue in refused["issues"]]) == (422, ["/entries/1/reference"])
    status, answer = await post(interfaces, "judgements", batch, Prefer="handling=lenient")
    outcomes = ("created", "updated", "unchanged", "superseded", "withdrawn", "rejected")
    assert (status, answer["rejected"]) == (200, "1")
    assert int(answer["received"]) == sum(int(answer[outcome]) for outcome in outcomes) == 2


async def test_a_parameter_or_field_that_is_not_known_is_refused_by_name(interfaces: Interfaces) -> None:
    answer = await interfaces.http.get("/v1/pupils?yeargroup=6&limit=3", headers=interfaces.tokens["North"])
    assert (answer.status_code, [issue["at"] for issue in read_exact_json(answer)["issues"]]) == (400, ["yeargroup", "limit"])
    status, refused = await post(interfaces, "judgements", judged("Alder-1", grades="G\\D"))
    assert (status, refused["issues"][0]["at"]) == (422, "/entries/0/grades")


async def test_everything_that_is_wrong_is_reported_at_once_with_its_place(interfaces: Interfaces) -> None:
    batch = judged("Alder-1", grade="none", window="nowhere")
    batch["entries"] += [{"reference": "nobody", "subject": "x", "grade": "?"}, {"subject": "reading"}]
    status, refused = await post(interfaces, "judgements", batch)
    places = {issue["at"] for issue in refused["issues"]}
    assert status == 422
    assert places >= {"/entries/0/window", "/entries/1/reference", "/entries/1/subject", "/entries/2"}


async def test_no_conflict_for_the_order_of_posting(interfaces: Interfaces) -> None:
    """A joiner comes with the judgement, and a correction that arrives before what it corrects stands."""
    joiner = two_trusts.roll("North", "Alder", two_trusts.random.Random("joiner"))[0] | {
        "reference": "late",
        "upn": None,
        "yearGroup": "6",
    }
    batch = judged("late", grade="G\\D", recordedAt="2025-03-02T10:00:00Z") | {"pupils": [joiner], "asOf": "2025-03-01"}
    status, answer = await post(interfaces, "judgements", batch)
    assert (status, answer["created"], answer["pupils"]["created"]) == (200, "1", "1")
    status, answer = await post(interfaces, "judgements", judged("late", grade="EX👍", recordedAt="2025-03-01T10:00:00Z"))
    assert (status, answer["superseded"]) == (200, "1")


async def test_a_first_query_needs_no_contract(interfaces: Interfaces) -> None:
    """The contract is open, and tells where tokens come from; `make demo` has the credentials (tests/journeys)."""
    contract = read_exact_json(await interfaces.http.get("/openapi.json"))
    flow = contract["components"]["securitySchemes"]["oauth2"]["flows"]["clientCredentials"]
    found = read_exact_json(await interfaces.http.get("/.well-known/oauth-authorization-server"))
    assert flow["tokenUrl"] == found["token_endpoint"]
    refused = await interfaces.http.get("/v1/pupils")
    assert refused.status_code == 401
    assert "/.well-known/oauth-protected-resource" in refused.headers["www-authenticate"]


async def test_assessment_is_no_second_class_data(interfaces: Interfaces) -> None:
    """What a school judges is read in one request with the pupils, in the school's own scheme and with what it means."""
    pupils = await get(
        interfaces, "pupils", first=60, include="latestJudgements", fields="id,latestJudgements.grade,latestJudgements.expected"
    )
    latest = [row for pupil in pupils["data"] for row in pupil["latestJudgements"]["data"]]
    assert {row["grade"] for row in latest} & {'W"T', "EX👍"}
    assert {row["expected"] for row in latest} - {None} == {True, False}


async def test_what_changed_since_can_be_asked(interfaces: Interfaces) -> None:
    """By changedAt, withdrawn judgements included."""
    (now,) = await interfaces.two_trusts.as_superuser("SELECT clock_timestamp() AS now")
    since = now["now"].isoformat()
    await post(interfaces, "judgements", judged("Alder-2", grade="G\\D", recordedAt=since))
    await post(interfaces, "judgements", judged("Alder-2", grade=None, withdrawn=True))
    entry = two_trusts.roll("North", "Alder", two_trusts.random.Random("North"))[2] | {"surname": "Renamed"}
    await post(interfaces, "pupils", {"school": ALDER, "asOf": "2025-03-02", "entries": [entry]})
    changed = (await get(interfaces, "judgements", **{"changedAt.gte": since}))["data"]
    assert [row["status"] for row in changed] == ["withdrawn"]
    pupils = (await get(interfaces, "pupils", **{"changedAt.gte": since}))["data"]
    assert [row["surname"] for row in pupils] == ["Renamed"]
    assert (await get(interfaces, "groups", **{"changedAt.gte": since}))["data"] == []


async def test_a_revoked_grant_ends_at_once_with_a_clear_refusal(interfaces: Interfaces) -> None:
    """So that it can delete what it holds: the grant stands in /v1/me with its end."""
    client_id = interfaces.two_trusts.clients["mixed"].caller.client_id
    operator = await asyncpg.connect(interfaces.two_trusts.databases.operator_url)
    try:
        before = await get(interfaces, "pupils", "mixed", first=1000)
        grants = await list_grants(operator, client_id)
        revoked = next(grant for grant in grants if grant.target == f"school:{SCHOOLS['Alder']}")
        await revoke_grant(operator, revoked.id)
        after = await get(interfaces, "pupils", "mixed", first=1000)
        assert 0 < len(after["data"]) < len(before["data"])
        told = {grant["id"]: grant["state"] for grant in (await get(interfaces, "me", "mixed"))["grants"]}
        assert told[str(revoked.id)] == "revoked"
        await approve_grant(operator, client_id, parse_grant(two_trusts.GRANTS["mixed"][0]), purpose="tests", approved_by="tests")
    finally:
        await operator.close()
