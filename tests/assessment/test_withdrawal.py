"""Withdrawal: a judgement that was taken back keeps its row and id, counts as none, and whoever syncs sees that it is gone (domain.md §6)."""

from typing import Any

import pytest

from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import URNS, Trust, asked, batch, counted, entry, issues, judged, roll, sent, upn

GONE: dict[str, Any] = {"grade": None, "withdrawn": True}


def withdrawn(number: int, **more: Any) -> dict[str, Any]:
    return judged(number, **GONE) | more


async def graded(small_trust: Trust) -> int:
    """Pupils whose reading is counted with a grade."""
    return int(
        await small_trust.value(
            "SELECT COALESCE(sum(n), 0) FROM cells c JOIN subjects s ON s.tenant_id = c.tenant_id AND s.no = c.subject_no"
            " WHERE s.code = 'reading' AND grade_no > 0"
        )
    )


async def test_it_keeps_the_row_and_its_history_and_counts_as_none(small_trust: Trust, vendor: Any) -> None:
    represent = {"Prefer": "return=representation"}
    made = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, mark=40), judged(2)]), **represent)
    before = await small_trust.value("SELECT sum(eligible) FROM totals WHERE subject_no = 1")
    gone = await sent(vendor, "/v1/judgements", batch("Oak", [withdrawn(1)]), **represent)
    assert counted(gone) == {"withdrawn": 1}
    assert gone["results"] == [{**made["results"][0], "outcome": "withdrawn", "version": 2}]
    shown = (await vendor.get(f"/v1/judgements/{gone['results'][0]['id']}")).json()
    assert [shown[name] for name in ("grade", "mark", "status", "version")] == [None, None, "withdrawn", 2]
    assert [row["id"] for row in (await vendor.get("/v1/judgements?status=withdrawn")).json()["data"]] == [shown["id"]]
    kept = await small_trust.operator.fetch("SELECT mark, version FROM judgement_history")
    assert [(float(row["mark"]), row["version"]) for row in kept] == [(40.0, 1)]
    assert await graded(small_trust) == 1
    assert await small_trust.value("SELECT sum(eligible) FROM totals WHERE subject_no = 1") == before


async def test_again_it_is_unchanged_and_recording_again_updates(small_trust: Trust, vendor: Any) -> None:
    represent = {"Prefer": "return=representation"}
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    await sent(vendor, "/v1/judgements", batch("Oak", [withdrawn(1)]))
    before = await small_trust.everything()
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [withdrawn(1)]))) == {"unchanged": 1}
    never = await sent(vendor, "/v1/judgements", batch("Oak", [withdrawn(5)]), **represent)
    assert never["results"] == [{"at": "/entries/0", "reference": "P5", "outcome": "unchanged", "id": None, "version": None}]
    assert await small_trust.everything() == before
    again = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]), **represent)
    assert (again["results"][0]["outcome"], again["results"][0]["version"]) == ("updated", 3)
    assert await graded(small_trust) == 1


async def test_of_a_child_whose_spell_was_taken_back_it_can_be_sent_again_and_withdrawn(small_trust: Trust, vendor: Any) -> None:
    """Night after night the same batch succeeds, and a new value is refused for what it is; targets likewise."""
    joined = entry(99, enrolments=[{"from": "2017-09-04", "status": "C"}])
    await sent(vendor, "/v1/pupils", roll("Oak", [joined], asOf="2018-05-01"))
    row = judged(99, horizon={"academicYear": "2018-19", "point": "KS3"}, basis="teacher", scheme="ks2-scaled-score")
    targets = {"school": {"urn": URNS["Oak"]}, "entries": [row]}
    ids = [row["id"] for row in (await sent(vendor, "/v1/pupils/lookup", {"where": {"reference": ["P99"]}}))["data"]]
    keys: list[dict[str, Any]] = [{}, {"reference": None, "upn": upn(99)}, {"reference": None, "id": ids[0]}]
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(99), judged(2)]))
    await sent(vendor, "/v1/targets", targets)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(99, enrolments=[])], asOf="2018-08-31"))
    before = await small_trust.everything()
    for key in keys:
        same = {name: value for name, value in (judged(99) | key).items() if value is not None}
        assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [same, judged(2)]))) == {"unchanged": 2}
        refused = await sent(vendor, "/v1/judgements", batch("Oak", [same | {"grade": 101}, same | {"subject": "maths"}]), 422)
        assert issues(refused) == {"/entries/0": "not-on-roll", "/entries/1": "not-on-roll"}
    assert counted(await sent(vendor, "/v1/targets", targets)) == {"unchanged": 1}
    refused = await sent(vendor, "/v1/targets", targets | {"entries": [row | {"grade": 101}]}, 422)
    assert issues(refused) == {"/entries/0": "not-on-roll"}
    assert await small_trust.everything() == before
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    refused = await sent(elm, "/v1/judgements", batch("Elm", [{"upn": upn(99), "subject": "reading", **GONE}]), 422)
    assert issues(refused) == {"/entries/0/upn": "pupil-not-found"}
    mutation = "mutation($i: JudgementBatchInput!) { recordJudgements(input: $i) { withdrawn unchanged } }"
    for outcome in ({"withdrawn": 1, "unchanged": 0}, {"withdrawn": 0, "unchanged": 1}):
        assert (await asked(vendor, mutation, i=batch("Oak", [withdrawn(99)])))["recordJudgements"] == outcome
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_withdrawal_is_ordered_by_recorded_at_and_versions_like_any_change(vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, recordedAt="2018-06-01T10:00:00Z")]))
    older = withdrawn(1, recordedAt="2018-06-01T09:00:00Z")
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [older]))) == {"superseded": 1}
    stale = await sent(vendor, "/v1/judgements", batch("Oak", [withdrawn(1, expectedVersion=3)]), 422)
    assert issues(stale) == {"/entries/0/expectedVersion": "version-conflict"}
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [withdrawn(1, expectedVersion=1)]))) == {"withdrawn": 1}


@pytest.mark.parametrize("both", [{"grade": 100}, {"status": "absent"}, {"mark": 12}])
async def test_what_is_withdrawn_has_no_value(vendor: Any, both: dict[str, Any]) -> None:
    refused = await sent(vendor, "/v1/judgements", batch("Oak", [withdrawn(1, **both)]), 422)
    assert issues(refused) == {"/entries/0": "wrong-value"}


async def test_a_second_school_cannot_withdraw_the_main_schools(small_trust: Trust, vendor: Any) -> None:
    dual = {"enrolments": [{"from": "2017-10-01", "status": "S"}], "reference": "E1"}
    pupil = (await small_trust.operator.fetchrow("SELECT upn, surname FROM pupils WHERE surname = 'Surname1'")) or {}
    entry = {
        "upn": pupil["upn"],
        "surname": "Surname1",
        "forename": "Sam",
        "dateOfBirth": "2007-01-01",
        "sex": "M",
        "yearGroup": "6",
    }
    main = {**entry, "reference": "P1", "enrolments": [{"from": "2014-09-01", "status": "M"}]}
    for at, row in (("Oak", main), ("Elm", entry | dual)):
        await sent(vendor, "/v1/pupils", {"school": {"urn": URNS[at]}, "asOf": "2018-05-01", "entries": [row]})
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    refused = await sent(vendor, "/v1/judgements", batch("Elm", [{"reference": "E1", "subject": "reading", **GONE}]), 422)
    assert issues(refused) == {"/entries/0": "recorded-by-main-school"}


async def test_graphql_withdraws_too(vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    told = await asked(
        vendor,
        "mutation ($b: JudgementBatchInput!) { recordJudgements(input: $b) { received withdrawn } }",
        b=batch("Oak", [withdrawn(1)]),
    )
    assert told == {"recordJudgements": {"received": 1, "withdrawn": 1}}
    seen = await asked(vendor, '{ judgements(where: {status: ["withdrawn"]}) { nodes { grade status version } } }')
    assert seen["judgements"]["nodes"] == [{"grade": None, "status": "withdrawn", "version": 2}]
