"""Pupils in a judgement batch: a joiner and their judgements need one request, in one transaction."""

from typing import Any

from tests.fixtures.small_trust import URNS, Trust, asked, batch, counted, entry, issues, judged, sent

AS_OF = {"asOf": "2018-05-01"}


def joining(pupils: list[Any], entries: list[Any], **more: Any) -> dict[str, Any]:
    return batch("Oak", entries, pupils=pupils, **AS_OF) | more


async def test_a_joiner_and_their_judgements_in_one_request(small_trust: Trust, vendor: Any) -> None:
    body = joining([entry(50), entry(1)], [judged(50), judged(50, "maths"), judged(1)])
    told = await sent(vendor, "/v1/judgements", body, Prefer="return=representation")
    assert (counted(told), counted(told["pupils"])) == ({"created": 3}, {"created": 1, "unchanged": 1})
    assert [(r["at"], r["outcome"]) for r in told["results"]] == [
        ("/pupils/0", "created"),
        ("/pupils/1", "unchanged"),
        *((f"/entries/{n}", "created") for n in range(3)),
    ]
    before = await small_trust.everything()
    again = await sent(vendor, "/v1/judgements", body)
    assert (counted(again), counted(again["pupils"])) == ({"unchanged": 3}, {"unchanged": 2})
    assert await small_trust.everything() == before
    counts = "SELECT sum(n) FROM cells c JOIN subjects s ON s.no = c.subject_no WHERE s.code = 'reading' AND grade_no > 0"
    assert await small_trust.value(counts) == 2
    assert (await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)])))["pupils"] is None


async def test_strict_refuses_both_lists_with_every_issue_and_lenient_lands_the_good(small_trust: Trust, vendor: Any) -> None:
    pupils = [entry(50), entry(51, upn="X80120000A001"), entry(52, sex="x"), entry(50)]
    body = joining(pupils, [judged(50), judged(51), judged(1, grade="ZZ"), {"subject": "maths"}])
    wrong = {
        "/pupils/1/upn": "upn-invalid",
        "/pupils/2/sex": "wrong-value",
        "/pupils/3": "duplicate-in-batch",
        "/entries/1/reference": "pupil-not-found",
        "/entries/2/grade": "grade-unknown",
        "/entries/3": "wrong-value",
    }
    before = await small_trust.everything()
    refused = await sent(vendor, "/v1/judgements", body, 422)
    assert issues(refused) == wrong
    assert [issue["at"] for issue in refused["issues"]] == list(wrong)
    assert "/pupils/0" in refused["issues"][2]["message"]
    assert await small_trust.everything() == before
    lenient = await sent(vendor, "/v1/judgements", body, Prefer="handling=lenient")
    assert issues(lenient) == wrong
    assert (counted(lenient), counted(lenient["pupils"])) == ({"created": 1, "rejected": 3}, {"created": 1, "rejected": 3})


async def test_one_wrong_judgement_keeps_the_pupils_out_too(small_trust: Trust, vendor: Any) -> None:
    before = await small_trust.everything()
    refused = await sent(vendor, "/v1/judgements", joining([entry(50)], [judged(50, grade="ZZ")]), 422)
    assert issues(refused) == {"/entries/0/grade": "grade-unknown"}
    assert await small_trust.everything() == before
    dry = await sent(vendor, "/v1/judgements?dryRun=true", joining([entry(50)], [judged(50)]))
    assert (counted(dry), counted(dry["pupils"])) == ({"created": 1}, {"created": 1})
    assert await small_trust.everything() == before


async def test_it_needs_the_day_of_the_roll_and_the_scope_of_pupils(small_trust: Trust, vendor: Any) -> None:
    undated = batch("Oak", [judged(1)], pupils=[entry(1)])
    assert issues(await sent(vendor, "/v1/judgements", undated, 422)) == {"/asOf": "required"}
    marker = await small_trust.client("marker", "trust:4128=judgements:write")
    refused = await sent(marker, "/v1/judgements", joining([entry(50)], []), 403)
    assert "pupils:write" in refused["detail"]
    elsewhere = await small_trust.client(
        "elsewhere", f"school:{URNS['Oak']}=judgements:write", f"school:{URNS['Elm']}=judgements:write,pupils:write"
    )
    assert issues(await sent(elsewhere, "/v1/judgements", joining([entry(50)], []), 422)) == {"/school": "school-not-found"}


async def test_lists_that_are_none_are_reported_together(vendor: Any) -> None:
    refused = await sent(vendor, "/v1/judgements", batch("Oak", []) | {"pupils": {}, "entries": "none"}, 422)
    assert issues(refused) == {"/pupils": "wrong-type", "/entries": "wrong-type"}
    many = joining([{}] * 20_001, [])
    assert issues(await sent(vendor, "/v1/judgements", many, 422)) == {"/pupils": "too-many-entries"}


async def test_as_many_statements_for_many_as_for_few(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", joining([entry(40)], [judged(40)]))  # what the trust marks with is read once
    with small_trust.statements.counting() as few:
        await sent(vendor, "/v1/judgements", joining([entry(n) for n in range(50, 60)], [judged(n) for n in range(50, 60)]))
    with small_trust.statements.counting() as many:
        await sent(vendor, "/v1/judgements", joining([entry(n) for n in range(100, 180)], [judged(n) for n in range(100, 180)]))
    assert len(many) == len(few), "\n".join(many)


async def test_graphql_takes_them_too(vendor: Any) -> None:
    told = await asked(
        vendor,
        "mutation ($b: JudgementBatchInput!) { recordJudgements(input: $b) { received created pupils { received created } } }",
        b=joining([entry(50)], [judged(50)]),
    )
    assert told == {"recordJudgements": {"received": 1, "created": 1, "pupils": {"received": 1, "created": 1}}}
