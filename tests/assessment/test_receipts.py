"""Receipts: what was last accepted at a school, from whom, and what was not; and what became of a request whose answer was lost."""

from typing import Any

import asyncpg

from tests.fixtures.small_trust import URNS, Trust, asked, batch, entry, judged, roll, sent

OUTCOMES = ("created", "updated", "unchanged", "superseded", "withdrawn", "rejected")


async def noted(client: Any, at: str = "Oak", **where: str) -> list[dict[str, Any]]:
    """The receipts of a school, newest first, without the counts that are 0."""
    schools = (await client.get("/v1/schools", params={"urn": URNS[at], "include": "receipts", "receipts.first": 100})).json()[
        "data"
    ]
    rows = [row for row in schools[0]["receipts"]["data"] if where.items() <= row.items()]
    assert all(row["received"] == sum(row[outcome] for outcome in OUTCOMES) for row in rows)
    return [{name: value for name, value in row.items() if value is False or value != 0} for row in rows]


def told(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("accepted", *OUTCOMES) if name in row}


async def test_every_batch_leaves_one_a_school_window_subject_and_aspect(small_trust: Trust, vendor: Any) -> None:
    rows = [judged(1), judged(2), judged(3, "maths"), judged(4, "writing", "EXS", aspect="teacher")]
    elsewhere = [judged(20, school={"urn": URNS["Elm"]})]
    with small_trust.statements.counting() as ran:
        await sent(vendor, "/v1/judgements", batch("Oak", [*rows, *elsewhere]))
    assert sum("INSERT INTO receipts" in statement for statement in ran) == 1
    found = {(row["subjectCode"], row["aspect"]): row for row in await noted(vendor, operation="recordJudgements")}
    assert {key: told(row) for key, row in found.items()} == {
        ("reading", "main"): {"accepted": True, "created": 2},
        ("maths", "main"): {"accepted": True, "created": 1},
        ("writing", "teacher"): {"accepted": True, "created": 1},
    }
    (elm,) = await noted(vendor, "Elm", operation="recordJudgements")
    assert (elm["client"], elm["windowCode"], told(elm)) == ("vendor", "2017-18/KS2", {"accepted": True, "created": 1})
    (pupils,) = await noted(vendor, operation="recordPupils")
    assert (pupils["windowCode"], pupils["subjectCode"], told(pupils)) == (None, None, {"accepted": True, "created": 10})


async def test_what_changes_nothing_is_noted_and_the_newest_comes_first(vendor: Any) -> None:
    for body in (batch("Oak", [judged(1)]), batch("Oak", [judged(1)]), batch("Oak", [judged(1, grade=None, withdrawn=True)])):
        await sent(vendor, "/v1/judgements", body)
    found = await noted(vendor, operation="recordJudgements")
    assert [told(row) for row in found] == [{"accepted": True, name: 1} for name in ("withdrawn", "unchanged", "created")]
    first = (await vendor.get("/v1/receipts", params={"first": 1})).json()
    second = (await vendor.get("/v1/receipts", params={"first": 1, "after": first["page"]["endCursor"]})).json()
    assert [page["data"][0]["id"] for page in (first, second)] == [row["id"] for row in found[:2]]


async def test_a_batch_refused_whole_says_why_a_school_has_no_values(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1), judged(2, grade="ZZ"), judged(3, "chess")]), 422)
    found = {row["subjectCode"]: told(row) for row in await noted(vendor, operation="recordJudgements")}
    assert found == {"reading": {"accepted": False, "rejected": 2}, None: {"accepted": False, "rejected": 1}}
    assert await small_trust.value("SELECT count(*) FROM judgements") == 0
    unread = roll("Elm", [entry(30, sex="x"), entry(31)])
    await sent(vendor, "/v1/pupils", unread, 422)
    assert told((await noted(vendor, "Elm", operation="recordPupils"))[0]) == {"accepted": False, "rejected": 2}
    lenient = batch("Oak", [judged(1), judged(2, grade="ZZ")])
    await sent(vendor, "/v1/judgements", lenient, Prefer="handling=lenient")
    assert told((await noted(vendor, operation="recordJudgements"))[0]) == {"accepted": True, "created": 1, "rejected": 1}


async def test_dry_runs_replays_and_schools_out_of_reach_leave_none(small_trust: Trust, vendor: Any) -> None:
    body = batch("Oak", [judged(1)])
    await sent(vendor, "/v1/judgements?dryRun=true", body)
    await sent(vendor, "/v1/judgements?dryRun=true", batch("Oak", [judged(1, grade="ZZ")]), 422)
    assert await noted(vendor, operation="recordJudgements") == []
    for _ in range(2):
        await sent(vendor, "/v1/judgements", body, Idempotency_Key="k")
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(2)]), 422, Idempotency_Key="k")
    assert len(await noted(vendor, operation="recordJudgements")) == 1
    count = await small_trust.value("SELECT count(*) FROM receipts")
    oak = await small_trust.client("oak", f"school:{URNS['Oak']}=all")
    await sent(oak, "/v1/judgements", batch("Elm", [judged(20)]), 422)
    assert await small_trust.value("SELECT count(*) FROM receipts") == count
    assert {row["schoolId"] for row in (await oak.get("/v1/receipts")).json()["data"]} == {str(small_trust.ids["Oak"])}


async def test_pupils_that_come_along_and_targets_have_their_own(vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(50)], pupils=[entry(50)], asOf="2018-05-01"))
    target = {"reference": "P50", "subject": "reading", "horizon": {"academicYear": "2017-18", "point": "KS2"}, "grade": 100}
    await sent(vendor, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": [target | {"basis": "teacher"}]})
    found = await noted(vendor)
    assert found[0]["operation"] == "recordTargets"
    assert {row["operation"] for row in found[1:3]} == {"recordPupils", "recordJudgements"}
    assert all(told(row) == {"accepted": True, "created": 1} for row in found[:3])


async def test_windows_stay_unnamed_without_their_scope_and_a_portal_sees_no_counts(small_trust: Trust, vendor: Any) -> None:
    """A batch of three judgements tells that a class has three pupils, which aggregates hide."""
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    staff = await small_trust.client("staff", "trust:4128=pupils:read")
    newest = (await staff.get("/v1/receipts", params={"first": 1})).json()["data"][0]
    assert (newest["client"], newest["created"], "windowCode" in newest) == ("vendor", 1, False)
    seen = await asked(vendor, "{ receipts(first: 1) { nodes { client subjectCode created school { urn } } } }")
    assert seen["receipts"]["nodes"] == [
        {"client": "vendor", "subjectCode": "reading", "created": 1, "school": {"urn": URNS["Oak"]}}
    ]
    portal = await small_trust.client("portal", "trust:4128=trusts:read,schools:read,windows:read,aggregates:read")
    for path in ("/v1/receipts", f"/v1/schools/{small_trust.ids['Oak']}/receipts", "/v1/schools?include=receipts", "/v1/returns"):
        assert (await portal.get(path)).status_code == 403


# What became of a request whose answer was lost.

KEPT = "query ($key: String!) { receipt(key: $key) { operation receivedAt expiresAt answer } }"


async def test_the_lost_answer_is_found_by_its_key(small_trust: Trust, vendor: Any) -> None:
    key = "night/2018-05-14?a=%2F"
    answers = [
        await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]), Idempotency_Key=key, Prefer="return=representation"),
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]), Idempotency_Key=key),
    ]
    answers[0]["results"][0]["reference"] = None  # what is kept holds no references
    found = (await vendor.get("/v1/idempotency-keys/night%2F2018-05-14%3Fa=%252F")).json()["data"]
    assert [(each["operation"], each["answer"]) for each in found] == list(
        zip(("recordJudgements", "recordPupils"), answers, strict=True)
    )
    assert all(each["receivedAt"] < each["expiresAt"] for each in found)
    assert (await asked(vendor, KEPT, key=key))["receipt"] == found
    other = await small_trust.client("other", "trust:4128=all")
    missing = await other.get("/v1/idempotency-keys/night%2F2018-05-14%3Fa=%252F")
    assert (missing.status_code, missing.content) == (404, (await vendor.get("/v1/idempotency-keys/none")).content)
    assert (await asked(vendor, KEPT, key="none"))["receipt"] is None
    assert (await vendor.get("/v1/idempotency-keys/caf%C3%A9")).status_code == 400
    await small_trust.operator.execute("UPDATE idempotency SET expires_at = now()")
    assert (await vendor.get("/v1/idempotency-keys/night%2F2018-05-14%3Fa=%252F")).status_code == 404


async def test_while_the_request_runs_it_is_409(small_trust: Trust, vendor: Any) -> None:
    client_id = await small_trust.value("SELECT id FROM clients WHERE name = 'vendor'")
    running = await asyncpg.connect(small_trust.databases.operator_url)
    async with running.transaction():
        await running.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{client_id} record_judgements k")
        busy = await vendor.get("/v1/idempotency-keys/k")
        assert (busy.status_code, busy.json()["type"].rsplit("/", 1)[1]) == (409, "idempotency-in-progress")
        assert int(busy.headers["retry-after"]) > 0
    await running.close()
    assert (await vendor.get("/v1/idempotency-keys/k")).status_code == 404
    blind = await small_trust.client("blind", "trust:4128=schools:read")
    assert (await blind.get("/v1/idempotency-keys/k")).status_code == 404


async def test_what_is_kept_holds_no_value(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=104)]))
    stale, asking = (
        batch("Oak", [judged(1, grade=90, expectedVersion=0), judged(2)]),
        {"Prefer": "handling=lenient", "Idempotency-Key": "k"},
    )
    first = await sent(vendor, "/v1/judgements", stale, **asking)
    assert first["issues"][0].pop("current")["grade"] == "104"
    assert await sent(vendor, "/v1/judgements", stale, **asking) == first
    assert "104" not in await small_trust.value("SELECT answer FROM idempotency")


async def test_the_old_path_answers_as_before_and_names_the_new_one(vendor: Any) -> None:
    key = {"Idempotency-Key": "caf/e-1"}
    await vendor.post("/v1/judgements", json=batch("Oak", [judged(1)]), headers=key)
    for name, status in (("caf%2Fe-1", 200), ("none", 404)):
        old, new = await vendor.get(f"/v1/receipts/{name}"), await vendor.get(f"/v1/idempotency-keys/{name}")
        assert (old.status_code, old.content) == (status, new.content)
        assert old.headers["Link"] == f'</v1/idempotency-keys/{name}>; rel="successor-version"'
        assert old.headers["Deprecation"] == "@1795737600"
        assert old.headers["Sunset"] == "Sat, 27 Nov 2027 00:00:00 GMT"
        assert not {"Deprecation", "Sunset", "Link"} & {*map(str.title, new.headers)}
