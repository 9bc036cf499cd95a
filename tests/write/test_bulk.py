"""Bulk writes over HTTP: what is promised of 5,000 judgements, of a batch sent again, of rolls and of targets."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.small_trust import (
    COLLECTED,
    URNS,
    WINDOW,
    Trust,
    batch,
    counted,
    entry,
    issues,
    judged,
    opened,
    roll,
    sent,
    upn,
    window,
)

MOST_STATEMENTS, MOST_OF_JUDGEMENTS = 25, 12
SIZE = 5_000


def five_thousand(pupils: int = 834) -> list[dict[str, Any]]:
    """5,000 judgements of one school: every collected subject and aspect of each pupil."""
    grades = {"ks2-scaled-score": "100", "ks2-writing-ta": "EXS", "ks2-science-ta": "EXS"}
    made = [judged(n, s, grades[m], aspect=a) for s, a, m in COLLECTED for n in range(pupils)]
    return made[:SIZE]


async def test_five_thousand_judgements_take_as_many_statements_as_five_hundred(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    with small_trust.statements.counting() as pupils_written:
        assert counted(await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(834)]))) == {"created": 834}
    entries = five_thousand()
    await sent(vendor, "/v1/judgements", batch("Oak", entries[:1]))  # what the trust marks with is read once
    with small_trust.statements.counting() as few:
        assert counted(await sent(vendor, "/v1/judgements", batch("Oak", entries[:500]))) == {"created": 499, "unchanged": 1}
    with small_trust.statements.counting() as many:
        assert counted(await sent(vendor, "/v1/judgements", batch("Oak", entries))) == {"created": 4_500, "unchanged": 500}
    assert len(many) == len(few), "\n".join(many)
    changed = [{**e, "grade": {"100": "101", "EXS": "A"}[e["grade"]]} for e in entries]
    with small_trust.statements.counting() as corrected:
        assert counted(await sent(vendor, "/v1/judgements", batch("Oak", changed))) == {"updated": SIZE}
    assert len(pupils_written) <= MOST_STATEMENTS
    assert max(len(few), len(corrected)) <= MOST_OF_JUDGEMENTS
    assert await small_trust.value("SELECT count(*) FROM judgement_history") == SIZE
    assert (
        await small_trust.value("SELECT sum(n) FROM cells c JOIN subjects s ON s.no = c.subject_no WHERE s.code = 'maths'") == 834
    )


async def test_a_batch_sent_again_is_unchanged_and_writes_no_row(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    pupils = roll("Oak", [entry(n) for n in range(834)])
    await sent(vendor, "/v1/pupils", pupils)
    body = batch("Oak", five_thousand())
    assert counted(await sent(vendor, "/v1/judgements", body)) == {"created": SIZE}
    before = await small_trust.everything()
    assert counted(await sent(vendor, "/v1/judgements", body)) == {"unchanged": SIZE}
    assert counted(await sent(vendor, "/v1/pupils", pupils)) == {"unchanged": 834}
    assert await small_trust.everything() == before


@pytest.fixture
def fill_trust(request: pytest.FixtureRequest) -> Filling:
    return open_window_with_20_pupils if "ready" in request.fixturenames else register_vendor


async def open_window_with_20_pupils(trust: Trust) -> None:
    vendor = await register_vendor(trust)
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(20)]))


@pytest.fixture
def ready(vendor: Any) -> Any:
    """The vendor, with the window open and 20 pupils at Oak."""
    return vendor


async def test_the_same_key_gives_the_first_answer_byte_for_byte(small_trust: Trust, ready: Any) -> None:
    body = batch("Oak", [judged(n) for n in range(20)])
    asked = {"headers": {"Idempotency-Key": "half-term-1", "Prefer": "return=representation"}}
    first = await ready.post("/v1/judgements", json=body, **asked)
    assert (first.status_code, "idempotency-replayed" in first.headers) == (200, False)
    before = await small_trust.everything()
    again = await ready.post("/v1/judgements", json=body, **asked)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.content == first.content
    quoted = await ready.post("/v1/judgements", json=body, headers=asked["headers"] | {"Idempotency-Key": '"half-term-1"'})
    assert quoted.content == first.content
    assert await small_trust.everything() == before
    other = await sent(ready, "/v1/judgements", batch("Oak", [judged(1, grade=90)]), 422, Idempotency_Key="half-term-1")
    assert issues(other) == {"Idempotency-Key": "idempotency-key-reused"}
    assert counted(await sent(ready, "/v1/judgements", body, Idempotency_Key="half-term-2")) == {"unchanged": 20}


async def test_a_write_names_its_tenant_in_its_first_statement_and_in_what_it_keeps(small_trust: Trust, ready: Any) -> None:
    """A client of several tenants says it with the school of the batch: its stored answers and receipts name the tenant too."""
    of_two = await small_trust.client("of two", "trust:4128=all", f"school:{URNS['Quay']}=all")
    trust, body = small_trust.ids["trust"], batch("Oak", [{"upn": upn(1), "subject": "reading", "grade": 100}])
    for client, is_named in ((ready, True), (of_two, False)):
        for dry_run in ("true", "false"):
            small_trust.statements.seen.clear()
            await sent(client, f"/v1/judgements?dryRun={dry_run}", body, Idempotency_Key="k")
            begun = [query for query in small_trust.statements.seen if query.startswith("BEGIN")]
            named = [f"set_config('markonce.tenant', '{trust}', true)" in query for query in begun]
            assert begun
            assert named == [is_named] * len(begun)
    kept = await small_trust.operator.fetch("SELECT of_tenant FROM idempotency")
    assert [row["of_tenant"] for row in kept] == [trust, trust]
    assert await small_trust.operator.fetch("SELECT DISTINCT tenant_id FROM receipts") == [(trust,)]


async def test_a_key_still_at_work_is_409_and_a_refused_request_keeps_none(small_trust: Trust, ready: Any) -> None:
    bad, good = batch("Oak", [judged(1, grade="ZZ")]), batch("Oak", [judged(1)])
    await sent(ready, "/v1/judgements", bad, 422, Idempotency_Key="k")
    assert await small_trust.value("SELECT count(*) FROM idempotency") == 0
    client_id = await small_trust.value("SELECT id FROM clients WHERE name = 'vendor'")
    other = await asyncpg.connect(small_trust.databases.operator_url)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", f"{client_id} record_judgements k")
        busy = await ready.post("/v1/judgements", json=good, headers={"Idempotency-Key": "k"})
        assert (busy.status_code, int(busy.headers["retry-after"]) > 0) == (409, True)
        assert busy.json()["type"].endswith("/idempotency-in-progress")
    await other.close()
    assert counted(await sent(ready, "/v1/judgements", good, Idempotency_Key="k")) == {"created": 1}


async def test_one_key_from_many_requests_at_once_writes_once(small_trust: Trust, ready: Any) -> None:
    body = batch("Oak", [judged(n) for n in range(20)])
    answers = await asyncio.gather(*(ready.post("/v1/judgements", json=body, headers={"Idempotency-Key": "k"}) for _ in range(8)))
    assert {a.status_code for a in answers} <= {200, 409}
    assert len({a.content for a in answers if a.status_code == 200}) == 1
    assert [a.headers.get("idempotency-replayed") for a in answers if a.status_code == 200].count(None) == 1
    assert await small_trust.value("SELECT sum(version) FROM judgements") == 20


async def test_a_dry_run_says_all_and_writes_nothing(small_trust: Trust, ready: Any) -> None:
    before = await small_trust.everything()
    body = batch("Oak", [judged(n) for n in range(20)])
    told = await sent(ready, "/v1/judgements?dryRun=true", body, Idempotency_Key="k")
    assert (told["dryRun"], counted(told)) == (True, {"created": 20})
    told = await sent(ready, "/v1/pupils?dryRun=true", roll("Elm", [entry(n) for n in range(500, 520)]))
    assert (told["dryRun"], counted(told)) == (True, {"created": 20})
    assert (await sent(ready, "/v1/windows?dryRun=true", window("another")))["state"] == "planned"
    assert await small_trust.everything() == before
    assert await small_trust.value("SELECT count(*) FROM windows") == 1
    assert counted(await sent(ready, "/v1/judgements", body, Idempotency_Key="k")) == {"created": 20}


async def test_strict_writes_all_or_nothing_and_lenient_the_good_rows(small_trust: Trust, ready: Any) -> None:
    rows = [judged(0), judged(1, grade="ZZ"), judged(2, subject="chess"), judged(99), judged(3), judged(3), {"subject": "maths"}]
    wrong = {
        "/entries/1/grade": "grade-unknown",
        "/entries/2/subject": "subject-unknown",
        "/entries/3/reference": "pupil-not-found",
        "/entries/5": "duplicate-in-batch",
    }
    before = await small_trust.everything()
    strict = issues(await sent(ready, "/v1/judgements", batch("Oak", rows), 422))
    assert strict.pop("/entries/6") == "wrong-value"
    assert await small_trust.everything() == before
    lenient = await sent(ready, "/v1/judgements", batch("Oak", rows), Prefer="handling=lenient, return=representation")
    assert counted(lenient) == {"created": 2, "rejected": 5}
    found = issues(lenient)
    assert found.pop("/entries/6") == "wrong-value"
    assert (found, strict) == (wrong, wrong)
    assert [(r["at"], r["outcome"]) for r in lenient["results"] if r["outcome"] != "rejected"] == [
        ("/entries/0", "created"),
        ("/entries/4", "created"),
    ]
    assert counted(await sent(ready, "/v1/judgements", batch("Oak", rows), Prefer="handling=lenient")) == {
        "unchanged": 2,
        "rejected": 5,
    }
    assert counted(await sent(ready, "/v1/judgements", batch("Oak", []))) == {}


async def test_recorded_at_orders_corrections(ready: Any) -> None:
    now = datetime.now(UTC)

    async def at(minutes: float, grade: int, status: int = 200) -> Any:
        when = (now + timedelta(minutes=minutes)).isoformat()
        return await sent(ready, "/v1/judgements", batch("Oak", [judged(1, grade=grade, recordedAt=when)]), status)

    assert counted(await at(-60, 100)) == {"created": 1}
    assert counted(await at(-90, 99)) == {"superseded": 1}
    assert counted(await at(-30, 101)) == {"updated": 1}
    assert counted(await at(-45, 101)) == {"unchanged": 1}
    assert counted(await at(-45, 102)) == {"superseded": 1}
    assert issues(await at(6, 103, 422)) == {"/entries/0/recordedAt": "recorded-in-future"}
    assert counted(await at(4, 104)) == {"updated": 1}
    assert counted(await at(4.5, 104)) == {"unchanged": 1}  # and confirmed at that time
    assert counted(await at(4.2, 105)) == {"superseded": 1}
    shown = (await ready.get("/v1/judgements")).json()["data"]
    assert [(row["grade"], row["version"]) for row in shown] == [("104", 3)]


# Rolls.


async def lookup(client: Any, **where: Any) -> list[dict[str, Any]]:
    found = await sent(client, "/v1/pupils/lookup", {"where": where, "include": ["school", "enrolments"]})
    return list(found["data"])


async def test_a_temporary_upn_becomes_permanent_and_both_name_the_pupil(small_trust: Trust, ready: Any) -> None:
    temporary, permanent = upn(700, temporary=True), upn(700)
    await sent(ready, "/v1/pupils", roll("Oak", [entry(700, upn=temporary)]))
    (before,) = await lookup(ready, upn=temporary)
    assert counted(await sent(ready, "/v1/pupils", roll("Oak", [entry(700, upn=permanent)]))) == {"updated": 1}
    (after,) = await lookup(ready, upn=permanent)
    assert (after["id"], after["version"]) == (before["id"], 2)
    stored = await small_trust.operator.fetch("SELECT upn, current FROM upns WHERE pupil_id::text = $1", after["id"])
    assert {row["upn"]: row["current"] for row in stored} == {temporary: False, permanent: True}
    named = batch("Oak", [{"upn": temporary, "subject": "maths", "grade": 100}])
    assert counted(await sent(ready, "/v1/judgements", named)) == {"created": 1}


async def test_a_former_upn_finds_the_pupil_again(ready: Any) -> None:
    known = entry(1, upn=upn(800).lower(), formerUpns=[upn(1)], reference=None)
    assert counted(await sent(ready, "/v1/pupils", roll("Oak", [known]))) == {"updated": 1}
    assert counted(await sent(ready, "/v1/pupils", roll("Oak", [known]))) == {"unchanged": 1}
    assert len(await lookup(ready, surname="Surname1")) == 1
    assert [p["upn"] for p in await lookup(ready, surname="Surname1")] == [upn(800)]


@pytest.mark.parametrize("keys", [{"reference": "P1", "upn": upn(2)}, {"reference": "P1", "upn": upn(801), "formerUpns": [upn(2)]}])
async def test_keys_of_two_pupils_name_both_and_merge_nothing(small_trust: Trust, ready: Any, keys: Any) -> None:
    (one,), (two,) = await lookup(ready, surname="Surname1"), await lookup(ready, surname="Surname2")
    before = await small_trust.everything()
    refused = await sent(ready, "/v1/pupils", roll("Oak", [entry(1, **keys)]), 422)
    assert issues(refused) == {"/entries/0": "pupil-merge-needed"}
    assert one["id"] in refused["issues"][0]["message"]
    assert two["id"] in refused["issues"][0]["message"]
    assert await small_trust.everything() == before


async def test_former_upns_of_two_pupils_are_not_merged_either(ready: Any) -> None:
    keys = {"reference": None, "upn": upn(802), "formerUpns": [upn(1), upn(2)]}
    refused = await sent(ready, "/v1/pupils", roll("Oak", [entry(1, **keys)]), 422)
    assert issues(refused) == {"/entries/0": "pupil-merge-needed"}


async def test_who_is_absent_from_a_batch_stays(ready: Any) -> None:
    assert counted(await sent(ready, "/v1/pupils", roll("Oak", [entry(0)]))) == {"unchanged": 1}
    assert len((await ready.get("/v1/pupils")).json()["data"]) == 20


async def test_a_pupil_moves_inside_the_trust_with_their_judgements(small_trust: Trust, ready: Any) -> None:
    await sent(ready, "/v1/judgements", batch("Oak", [judged(1)]))
    (before,) = await lookup(ready, upn=upn(1))
    moved = roll("Elm", [entry(1, reference="E1", enrolments=[{"from": "2018-06-01", "status": "C"}])], asOf="2018-06-02")
    assert counted(await sent(ready, "/v1/pupils", moved)) == {"updated": 1}
    assert counted(await sent(ready, "/v1/pupils", moved)) == {"unchanged": 1}
    (after,) = await lookup(ready, upn=upn(1))
    assert (after["id"], after["school"]["urn"]) == (before["id"], URNS["Elm"])
    spells = {(s["from"], s["to"]) for s in after["enrolments"]["data"]}
    assert spells == {("2014-09-01", "2018-05-31"), ("2018-06-01", None)}
    assert await small_trust.value("SELECT school_id FROM judgements") == small_trust.ids["Elm"]
    # the census was before the move: Oak still counts the pupil
    counts = await small_trust.operator.fetch("SELECT school_id, sum(eligible) AS n FROM totals WHERE subject_no = 1 GROUP BY 1")
    assert {row["school_id"]: row["n"] for row in counts if row["n"]} == {small_trust.ids["Oak"]: 20}
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    assert [row["grade"] for row in (await elm.get("/v1/judgements")).json()["data"]] == ["100"]
    oak = await small_trust.client("oak", f"school:{URNS['Oak']}=all")
    assert (await oak.get("/v1/judgements")).json()["data"] == []


async def test_a_school_alone_takes_a_pupil_only_after_the_other_let_go(small_trust: Trust, ready: Any) -> None:
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    oak = await small_trust.client("oak", f"school:{URNS['Oak']}=all")
    arrived = roll("Elm", [entry(1, reference="E1", enrolments=[{"from": "2018-06-01", "status": "C"}])], asOf="2018-06-02")
    assert issues(await sent(elm, "/v1/pupils", arrived, 422)) == {"/entries/0/enrolments": "pupil-elsewhere"}
    left = roll("Oak", [entry(1, reference="O1", enrolments=[{"from": "2014-09-01", "to": "2018-05-31", "status": "C"}])])
    assert counted(await sent(oak, "/v1/pupils", left)) == {"updated": 1}
    assert counted(await sent(elm, "/v1/pupils", arrived)) == {"updated": 1}
    assert counted(await sent(elm, "/v1/pupils", arrived)) == {"unchanged": 1}
    assert len(await lookup(elm, upn=upn(1))) == 1
    assert await lookup(oak, upn=upn(1)) == []
    assert await small_trust.value("SELECT count(*) FROM pupils") == 20


@pytest.mark.parametrize("order", [("Oak", "Elm"), ("Elm", "Oak")])
async def test_dual_registration_from_either_side_first(small_trust: Trust, vendor: Any, order: tuple[str, str]) -> None:
    await opened(vendor)
    both_roles = {
        "Oak": entry(1, reference="O1", surname="Main", enrolments=[{"from": "2014-09-01", "status": "M"}]),
        "Elm": entry(1, reference="E1", surname="Second", enrolments=[{"from": "2017-10-01", "status": "S"}]),
    }
    own = {name: await small_trust.client(name, f"school:{URNS[name]}=all") for name in order}
    for name in order:
        await sent(own[name], "/v1/pupils", roll(name, [both_roles[name]]))
    before = await small_trust.everything()
    for name in order:
        assert counted(await sent(own[name], "/v1/pupils", roll(name, [both_roles[name]]))) == {"unchanged": 1}
    assert await small_trust.everything() == before
    for client in own.values():
        (seen,) = (await client.get("/v1/pupils", params={"include": "school"})).json()["data"]
        assert (seen["surname"], seen["upn"]) == ("Main", upn(1))
    assert await small_trust.value("SELECT school_id FROM pupils") == small_trust.ids["Oak"]
    counts = await small_trust.operator.fetch("SELECT school_id, eligible FROM totals WHERE subject_no = 1 AND eligible <> 0")
    assert [(row["school_id"], row["eligible"]) for row in counts] == [(small_trust.ids["Oak"], 1)]


async def test_a_second_school_sees_the_pupil_until_they_stop_attending(small_trust: Trust, ready: Any) -> None:
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    attends = entry(1, reference="E1", enrolments=[{"from": "2017-10-01", "status": "S"}])
    refused = await sent(elm, "/v1/pupils", roll("Elm", [attends]), 422)  # the main school does not say that there is a second one
    assert issues(refused) == {"/entries/0/enrolments": "pupil-elsewhere"}
    dual = entry(1, enrolments=[{"from": "2017-09-01", "status": "M"}])
    await sent(ready, "/v1/pupils", roll("Oak", [dual]))
    stranger = attends | {"surname": "Unknown", "forename": "Unknown"}
    refused = await sent(elm, "/v1/pupils", roll("Elm", [stranger]), 422)  # who knows the UPN does not yet know the child
    assert issues(refused) == {"/entries/0/enrolments": "pupil-elsewhere"}
    assert counted(await sent(elm, "/v1/pupils", roll("Elm", [attends]))) == {"updated": 1}
    assert len((await elm.get("/v1/pupils")).json()["data"]) == 1
    attended = attends | {"enrolments": [{"from": "2017-10-01", "to": "2018-03-31", "status": "S"}]}
    assert counted(await sent(elm, "/v1/pupils", roll("Elm", [attended]))) == {"updated": 1}
    assert (await elm.get("/v1/pupils")).json()["data"] == []
    before = await small_trust.everything()
    assert counted(await sent(elm, "/v1/pupils", roll("Elm", [attended]))) == {"unchanged": 1}
    assert await small_trust.everything() == before


# Targets.


async def test_targets_in_bulk_and_judgements_against_them(small_trust: Trust, ready: Any) -> None:
    def target(number: int, grade: Any, **more: Any) -> dict[str, Any]:
        horizon = {"academicYear": "2017-18", "point": "KS2"}
        return {"reference": f"P{number}", "subject": "reading", "horizon": horizon, "grade": grade, "basis": "teacher"} | more

    body = {"school": {"urn": URNS["Oak"]}, "entries": [target(n, 100) for n in range(20)]}
    with small_trust.statements.counting() as ran:
        assert counted(await sent(ready, "/v1/targets", body)) == {"created": 20}
    assert len(ran) <= MOST_STATEMENTS
    before = await small_trust.everything()
    assert counted(await sent(ready, "/v1/targets", body)) == {"unchanged": 20}
    assert await small_trust.everything() == before
    raised = body | {
        "entries": [
            target(0, 105),
            target(1, 90, recordedAt="2018-01-01T00:00:00Z"),
            target(2, "EXS"),
            target(3, 100),
            target(3, 100),
        ]
    }
    lenient = await sent(ready, "/v1/targets", raised, Prefer="handling=lenient")
    assert counted(lenient) == {"updated": 1, "superseded": 1, "unchanged": 1, "rejected": 2}
    assert issues(lenient) == {"/entries/2/grade": "grade-unknown", "/entries/4": "duplicate-in-batch"}
    grades = {0: 104, 1: 100, 2: 101, 3: "A"}
    await sent(ready, "/v1/judgements", batch("Oak", [judged(n, grade=g) for n, g in grades.items()]))
    shown = (await ready.get("/v1/judgements", params={"fields": "againstTarget,pupil.reference", "include": "pupil"})).json()[
        "data"
    ]
    verdicts = {row["pupil"]["reference"]: row["againstTarget"] for row in shown}
    assert verdicts == {"P0": "below", "P1": "on", "P2": "above", "P3": None}


async def test_a_batch_without_school_names_the_candidates(small_trust: Trust, ready: Any) -> None:
    body = {"window": WINDOW, "entries": [judged(1)]}
    refused = await sent(ready, "/v1/judgements", body, 422)
    assert issues(refused) == {"/school": "ambiguous"}
    assert all(name in refused["issues"][0]["message"] for name in ("Oak", "Elm", "Ash"))
    oak = await small_trust.client("oak", f"school:{URNS['Oak']}=all")
    alone = {"window": WINDOW, "entries": [{"upn": upn(1), "subject": "reading", "grade": 100}]}
    assert counted(await sent(oak, "/v1/judgements", alone)) == {"created": 1}
