"""Whom a row of a roll means: no child becomes another, and a number recorded in error goes to its owner."""

import asyncio
from typing import Any

import pytest

from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, batch, counted, entry, issues, opened, roll, sent, upn
from tests.roster.children import ANN, BEN, EVA, EVAN, child, patch, pupil, put, references, refuse, upns, warned

# Two facts that differ

ANOTHER = {
    "UPN and birthday": {"upn": upn(50), "dateOfBirth": "2007-03-02"},
    "birthday and forename": {"dateOfBirth": "2007-03-02", "forename": "Zoe"},
    "UPN and forename": {"upn": upn(50), "forename": "Zoe"},
    "no UPN, birthday and forename": {"upn": None, "dateOfBirth": "2007-03-02", "forename": "Zoe"},
    "temporary UPN, birthday and forename": {"upn": upn(50, temporary=True), "dateOfBirth": "2007-03-02", "forename": "Zoe"},
    "everything": {"upn": upn(50), "dateOfBirth": "2007-03-02", "forename": "Zoe", "sex": "M"},
}
SAME = {
    "surname": {"surname": "Married"},
    "birthday": {"dateOfBirth": "2007-03-02"},
    "forename": {"forename": "Zoe"},
    "UPN": {"upn": upn(50)},
    "surname and birthday": {"surname": "Married", "dateOfBirth": "2007-03-02"},
    "sex and birthday": {"sex": "M", "dateOfBirth": "2007-03-02"},
    "temporary UPN and birthday": {"upn": upn(50, temporary=True), "dateOfBirth": "2007-03-02"},
    "second forename and birthday": {"forename": "Ann Marie", "dateOfBirth": "2007-03-02"},
    "case and birthday": {"forename": "ANN", "dateOfBirth": "2007-03-02"},
}


@pytest.mark.parametrize("changed", ANOTHER.values(), ids=ANOTHER)
@pytest.mark.parametrize("by_id", [False, True], ids=["reference", "id"])
async def test_two_facts_that_differ_are_another_child(
    small_trust: Trust, vendor: Any, changed: dict[str, Any], by_id: bool
) -> None:
    await put(vendor, child(ANN), child(BEN))
    ann = await pupil(vendor, surname="Archer")
    row = child(ANN, **changed) | ({"id": ann["id"], "reference": "other"} if by_id else {})
    before = await small_trust.everything()
    refused = await sent(vendor, "/v1/pupils", roll("Oak", [row, child(BEN, surname="Married")]), 422)
    assert issues(refused) == {"/entries/0": "pupil-conflict"}
    told = refused["issues"][0]["message"]
    assert ann["id"] in told
    assert not any(text in str(refused) for text in ("Zoe", "Ann", upn(50), upn(ANN), "2007-03"))
    facts = {"UPN": "upn" in changed and changed["upn"] == upn(50), "date of birth": "dateOfBirth" in changed}
    assert [(fact in told) for fact in facts] == [*facts.values()]
    assert ("forename" in told) is ("forename" in changed)
    assert await small_trust.everything() == before
    lenient = await put(vendor, row, child(BEN, surname="Married"), Prefer="handling=lenient")
    assert counted(lenient) == {"rejected": 1, "updated": 1}
    assert await pupil(vendor, surname="Archer") == ann


@pytest.mark.parametrize("changed", SAME.values(), ids=SAME)
async def test_one_fact_that_differs_is_a_correction(vendor: Any, changed: dict[str, Any]) -> None:
    await put(vendor, child(ANN))
    ann = await pupil(vendor, surname="Archer")
    assert counted(await put(vendor, child(ANN, **changed))) == {"updated": 1}
    assert counted(await put(vendor, child(ANN, **changed))) == {"unchanged": 1}
    (after,) = (await vendor.get("/v1/pupils")).json()["data"]
    assert after["id"] == ann["id"]


async def test_a_person_says_that_it_is_the_same_child(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN))
    ann = await pupil(vendor, surname="Archer")
    corrected = child(ANN, forename="Zoe", dateOfBirth="2007-03-02")
    said = corrected | {"id": ann["id"], "sameChild": True, "actor": "staff-7"}
    assert counted(await put(vendor, said)) == {"updated": 1}
    assert counted(await put(vendor, said)) == {"unchanged": 1}
    assert counted(await put(vendor, corrected)) == {"unchanged": 1}
    kept = await small_trust.operator.fetch("SELECT pupil_id::text, kind, facts, actor, client_id FROM identity_history")
    assert [tuple(row)[:4] for row in kept] == [(ann["id"], "same child", "dateOfBirth forename", "staff-7")]
    assert kept[0]["client_id"] == await small_trust.value("SELECT id FROM clients WHERE name = 'vendor'")


async def test_same_child_needs_the_id_and_an_actor_needs_same_child(vendor: Any) -> None:
    await put(vendor, child(ANN))
    assert await refuse(vendor, child(ANN) | {"sameChild": True}) == {"/entries/0": "wrong-value"}
    assert await refuse(vendor, child(ANN) | {"actor": "staff-7"}) == {"/entries/0": "wrong-value"}


async def test_same_child_merges_no_two_pupils(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN), child(BEN))
    ann, before = await pupil(vendor, surname="Archer"), await small_trust.everything()
    row = child(BEN) | {"id": ann["id"], "sameChild": True}
    assert await refuse(vendor, row) == {"/entries/0": "pupil-merge-needed"}
    assert await small_trust.everything() == before


async def test_a_patch_of_two_facts_is_another_child(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN))
    ann, before = await pupil(vendor, surname="Archer"), await small_trust.everything()
    for change in (
        {"forename": "Zoe", "dateOfBirth": "2007-03-02"},
        {"upn": upn(50), "forename": "Zoe"},
        {"upn": upn(50), "dateOfBirth": "2007-03-02"},
    ):
        assert issues(await patch(vendor, ann, 422, **change)) == {"": "pupil-conflict"}
        assert await small_trust.everything() == before
    query = "mutation ($input: PupilChangeInput!) { updatePupil(input: $input) { outcome version warnings { at code } } }"
    change = {"id": ann["id"], "expectedVersion": 1, "forename": "Zoe", "dateOfBirth": "2007-03-02", "sameChild": True}
    assert (await asked(vendor, query, input=change))["updatePupil"] == {"outcome": "updated", "version": 2, "warnings": []}
    assert await small_trust.value("SELECT facts FROM identity_history") == "dateOfBirth forename"


async def test_joiners_of_a_batch_of_judgements_are_distinguished_too(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    await put(vendor, child(ANN))
    before = await small_trust.everything()
    body = batch("Oak", [{"reference": "P1", "subject": "reading", "grade": 100}], asOf="2018-05-01")
    body["pupils"] = [child(ANN, forename="Zoe", dateOfBirth="2007-03-02")]
    assert issues(await sent(vendor, "/v1/judgements", body, 422)) == {"/pupils/0": "pupil-conflict"}
    assert await small_trust.everything() == before


@pytest.mark.parametrize("key", [{"reference": "P1"}, {"upn": upn(BEN).lower()}, {"id": True}], ids=["reference", "UPN", "id"])
async def test_a_judgement_of_a_joiner_who_is_another_child_is_not_the_stored_childs(
    small_trust: Trust, vendor: Any, key: dict[str, Any]
) -> None:
    """Where the good rows land, the judgement of a rejected row would be the one's whose keys it has."""
    await opened(vendor)
    await put(vendor, child(ANN))
    keyed = {"id": (await pupil(vendor, surname="Archer"))["id"]} if "id" in key else key
    wrong = child(BEN, surname="Archer", reference="P1") | ({"id": keyed["id"], "reference": "P2"} if "id" in key else {})
    judged = [keyed | {"subject": "reading", "grade": 100}, {"reference": "P3", "subject": "reading", "grade": 101}]
    body = batch("Oak", judged, asOf="2018-05-01", pupils=[wrong, child(EVA)])
    answer = await sent(vendor, "/v1/judgements", body, Prefer="handling=lenient")
    field = next(iter(keyed))
    assert issues(answer) == {"/pupils/0": "pupil-conflict", f"/entries/0/{field}": "pupil-conflict"}
    assert await small_trust.value("SELECT array_agg(p.forename) FROM judgements j JOIN pupils p ON p.id = j.pupil_id") == ["Eva"]


# A row that has nothing but a UPN


@pytest.mark.parametrize("reference", ["new", None])
async def test_a_twin_with_the_others_upn_is_distinguished(small_trust: Trust, vendor: Any, reference: str | None) -> None:
    await put(vendor, child(EVA))
    before = await small_trust.everything()
    for changed in ({}, {"sex": "F"}, {"sex": "F", "dateOfBirth": "2007-07-08"}):
        twin = child(EVAN, upn=upn(EVA), reference=reference, **changed)
        assert await refuse(vendor, twin) == {"/entries/0": "pupil-conflict"}
    assert await refuse(vendor, child(EVA, reference=reference, sex="M")) == {"/entries/0": "pupil-conflict"}
    assert await refuse(vendor, child(EVA, reference=reference, dateOfBirth="2007-07-08")) == {"/entries/0": "pupil-conflict"}
    assert await small_trust.everything() == before
    assert counted(await put(vendor, child(EVA, reference=reference, forename="EVA Marie", surname="Other"))) == {"updated": 1}
    assert await small_trust.value("SELECT count(*) FROM pupils") == 1


async def test_a_temporary_upn_identifies_with_the_birthday_alone(small_trust: Trust, vendor: Any) -> None:
    temporary = upn(60, temporary=True)
    await put(vendor, child(EVA, upn=temporary))
    before = await small_trust.everything()
    assert await refuse(vendor, child(BEN, upn=temporary)) == {"/entries/0": "pupil-conflict"}
    assert await refuse(vendor, child(EVAN, upn=temporary)) == {"/entries/0": "pupil-conflict"}
    assert await small_trust.everything() == before
    found = child(EVA, reference=None, formerUpns=[temporary])
    assert counted(await put(vendor, found)) == {"updated": 1}
    assert await small_trust.value("SELECT count(*) FROM pupils") == 1
    assert counted(await put(vendor, child(EVA, upn=temporary, reference=None))) == {"unchanged": 1}


async def test_a_name_alone_finds_nobody(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN, upn=None))
    assert counted(await put(vendor, child(ANN, upn=None, reference="other"))) == {"created": 1}
    assert await small_trust.value("SELECT count(*) FROM pupils") == 2


# A number recorded in error


async def recorded_in_error(vendor: Any) -> tuple[str, dict[str, Any]]:
    """Ann, sent with Ben's UPN and corrected since; and Ben's UPN."""
    await put(vendor, child(ANN, upn=upn(BEN)))
    await put(vendor, child(ANN))
    return upn(BEN), await pupil(vendor, surname="Archer")


async def test_ben_comes_by_roll_with_the_number_that_ann_had(small_trust: Trust, vendor: Any) -> None:
    number, ann = await recorded_in_error(vendor)
    answer = await put(vendor, child(BEN), child(ANN, formerUpns=[number]))
    assert (counted(answer), warned(answer)) == ({"created": 1, "unchanged": 1}, {"/entries/0/upn": "upn-released"})
    ben = await pupil(vendor, surname="Baker")
    assert (await upns(small_trust, ann["id"]), await upns(small_trust, ben["id"])) == ({upn(ANN): True}, {number: True})
    again = await put(vendor, child(BEN), child(ANN, formerUpns=[number]))
    assert (counted(again), warned(again)) == ({"unchanged": 2}, {})
    assert counted(await put(vendor, child(ANN, formerUpns=[number]))) == {"unchanged": 1}
    kept = await small_trust.operator.fetch("SELECT pupil_id::text, kind, upn FROM identity_history")
    assert [tuple(row) for row in kept] == [(ann["id"], "upn released", number)]


async def test_ben_comes_in_the_very_roll_that_corrects_ann(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN, upn=upn(BEN)))
    for entries in ([child(BEN), child(ANN)], [child(ANN, formerUpns=[upn(BEN)]), child(BEN)]):
        answer = await sent(vendor, "/v1/pupils?dryRun=true", roll("Oak", entries))
        assert counted(answer) == {"created": 1, "updated": 1}
    await put(vendor, child(BEN), child(ANN))
    assert [(await pupil(vendor, surname=name))["upn"] for name in ("Archer", "Baker")] == [upn(ANN), upn(BEN)]
    rejected = await refuse(vendor, child(BEN, upn=upn(ANN)), child(ANN, upn=upn(90), yearGroup="?"))
    assert rejected == {"/entries/0": "pupil-merge-needed", "/entries/1/yearGroup": "year-group-invalid"}


async def test_ben_comes_with_his_id_or_by_patch(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(BEN, upn=None))
    number, ann = await recorded_in_error(vendor)
    ben = await pupil(vendor, surname="Baker")
    row = child(BEN, reference=None) | {"id": ben["id"]}
    answer = await sent(vendor, "/v1/pupils?dryRun=true", roll("Oak", [row]))
    assert (counted(answer), warned(answer)) == ({"updated": 1}, {"/entries/0/upn": "upn-released"})
    answer = await patch(vendor, ben, upn=number)
    assert (answer["outcome"], warned(answer)) == ("updated", {"/upn": "upn-released"})
    assert (await upns(small_trust, ann["id"]), await upns(small_trust, ben["id"])) == ({upn(ANN): True}, {number: True})


async def test_a_replaced_upn_names_nobody(small_trust: Trust, vendor: Any) -> None:
    """In judgements, targets and groups; a number that nobody had is still not found."""
    await opened(vendor)
    number, _ = await recorded_in_error(vendor)
    school = {"school": {"urn": URNS["Oak"]}}
    aim = {"subject": "reading", "horizon": {"academicYear": "2017-18", "point": "KS2"}, "grade": 105, "basis": "teacher"}
    group = {"code": "6W", "name": "6W", "kind": "class"}
    for named, code in (({"upn": number}, "upn-replaced"), ({"upn": upn(77)}, "pupil-not-found")):
        wrong = await sent(vendor, "/v1/judgements", batch("Oak", [named | {"subject": "reading", "grade": 100}]), 422)
        assert issues(wrong) == {"/entries/0/upn": code}
        wrong = await sent(vendor, "/v1/targets", school | {"entries": [named | aim]}, 422)
        assert issues(wrong) == {"/entries/0/upn": code}
        groups = school | {"academicYear": "2017-18", "asOf": "2018-05-01", "entries": [group | {"members": [named]}]}
        assert issues(await sent(vendor, "/v1/groups", groups, 422)) == {"/entries/0/members/0/upn": code}
        assert number not in str(wrong)
    assert await small_trust.value("SELECT count(*) FROM judgements") == 0
    elsewhere = batch("Elm", [{"upn": number, "subject": "reading", "grade": 100}])
    assert issues(await sent(vendor, "/v1/judgements", elsewhere, 422)) == {"/entries/0/upn": "pupil-not-found"}
    await put(vendor, child(BEN))
    landed = await sent(vendor, "/v1/judgements", batch("Oak", [{"upn": number, "subject": "reading", "grade": 100}]))
    assert counted(landed) == {"created": 1}
    assert await small_trust.value("SELECT p.forename FROM judgements j JOIN pupils p ON p.id = j.pupil_id") == "Ben"


async def test_a_replaced_upn_with_the_facts_of_who_had_it_is_refused(small_trust: Trust, vendor: Any) -> None:
    await recorded_in_error(vendor)
    before = await small_trust.everything()
    for reference in ("other", None):
        assert await refuse(vendor, child(ANN, upn=upn(BEN), reference=reference)) == {"/entries/0": "upn-replaced"}
    assert await small_trust.everything() == before


async def test_the_owner_at_another_school_gets_the_number_and_learns_nothing(small_trust: Trust, vendor: Any) -> None:
    _, ann = await recorded_in_error(vendor)
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    read = await vendor.get("/v1/pupils")
    answer = await put(elm, child(BEN), at="Elm")
    assert (counted(answer), warned(answer)) == ({"created": 1}, {"/entries/0/upn": "upn-released"})
    assert ann["id"] not in str(answer)
    assert await upns(small_trust, ann["id"]) == {upn(ANN): True}
    after = await vendor.get("/v1/pupils", headers={"If-None-Match": read.headers["ETag"]})
    assert after.status_code == 200


# Exchanges


async def test_two_rows_exchange_their_upns(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN, upn=upn(BEN)), child(BEN, upn=upn(ANN)))
    ann, ben = await pupil(vendor, surname="Archer"), await pupil(vendor, surname="Baker")
    by_id = child(BEN, reference=None) | {"id": ben["id"]}
    for entries in ([child(ANN), child(BEN)], [by_id, child(ANN, formerUpns=[upn(BEN)])]):
        assert counted(await sent(vendor, "/v1/pupils?dryRun=true", roll("Oak", entries))) == {"updated": 2}
    assert counted(await put(vendor, child(ANN), child(BEN))) == {"updated": 2}
    assert counted(await put(vendor, child(BEN), child(ANN))) == {"unchanged": 2}
    assert (await upns(small_trust, ann["id"]), await upns(small_trust, ben["id"])) == ({upn(ANN): True}, {upn(BEN): True})


async def test_two_rows_exchange_temporary_upns_too(small_trust: Trust, vendor: Any) -> None:
    """Twins among others: their birthday says nothing."""
    numbers = [upn(10 * n, temporary=True) for n in (EVA, EVAN, BEN)]
    await put(vendor, *(child(n, upn=number) for n, number in zip((EVA, EVAN, BEN), numbers, strict=True)))
    ids = [(await pupil(vendor, forename=name))["id"] for name in ("Eva", "Evan", "Ben")]
    passed = [child(n, upn=number) for n, number in zip((EVAN, BEN, EVA), numbers, strict=True)]
    assert counted(await put(vendor, *passed)) == {"updated": 3}
    assert counted(await put(vendor, *passed[::-1])) == {"unchanged": 3}
    found = [await upns(small_trust, id_) for id_ in ids]
    assert found == [{numbers[2]: True}, {numbers[0]: True}, {numbers[1]: True}]
    assert await refuse(vendor, child(EVA, upn=numbers[0])) == {"/entries/0": "pupil-merge-needed"}
    eva, evan = await pupil(vendor, forename="Eva"), await pupil(vendor, forename="Evan")
    assert issues(await patch(vendor, eva, 422, upn=numbers[0])) == {"/upn": "pupil-merge-needed"}
    await patch(vendor, evan, upn=None)
    assert warned(await patch(vendor, eva, upn=numbers[0])) == {"/upn": "upn-released"}
    assert await upns(small_trust, evan["id"]) == {}


async def test_three_rows_pass_their_upns_on(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN, upn=upn(BEN)), child(BEN, upn=upn(EVA)), child(EVA, upn=upn(99)))
    ids = {name: (await pupil(vendor, surname=name))["id"] for name in ("Archer", "Baker", "Ellis")}
    assert counted(await put(vendor, child(ANN), child(BEN), child(EVA))) == {"updated": 3}
    assert [await upns(small_trust, id_) for id_ in ids.values()] == [
        {upn(ANN): True},
        {upn(BEN): True},
        {upn(EVA): True, upn(99): False},
    ]


async def test_an_exchange_of_which_half_is_rejected_is_none(vendor: Any) -> None:
    await put(vendor, child(ANN, upn=upn(BEN)), child(BEN, upn=upn(EVA)), child(EVA, upn=upn(99)))
    wrong = [child(EVA), child(BEN), child(ANN, forename="Other")]
    answer = await put(vendor, *wrong, child(EVAN), Prefer="handling=lenient")
    assert issues(answer) == {
        "/entries/0": "pupil-merge-needed",
        "/entries/1": "pupil-merge-needed",
        "/entries/2": "pupil-conflict",
    }
    assert (counted(answer), answer["warnings"]) == ({"rejected": 3, "created": 1}, [])
    names = {row["forename"]: row["upn"] for row in (await vendor.get("/v1/pupils?fields=forename,upn")).json()["data"]}
    assert names == {"Ann": upn(BEN), "Ben": upn(EVA), "Eva": upn(99), "Evan": upn(EVAN)}


async def test_two_patches_exchange_upns_with_null_first(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN, upn=upn(BEN)), child(BEN, upn=upn(ANN)))
    ann, ben = await pupil(vendor, surname="Archer"), await pupil(vendor, surname="Baker")
    assert issues(await patch(vendor, ann, 422, upn=upn(ANN))) == {"/upn": "pupil-merge-needed"}
    await patch(vendor, ann, upn=None)
    assert warned(await patch(vendor, ben, upn=upn(BEN))) == {"/upn": "upn-released"}
    assert warned(await patch(vendor, ann, upn=upn(ANN))) == {"/upn": "upn-released"}
    assert (await upns(small_trust, ann["id"]), await upns(small_trust, ben["id"])) == ({upn(ANN): True}, {upn(BEN): True})


# New references


async def test_a_new_reference_replaces_the_old_one(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN), child(BEN), child(EVA, upn=upn(EVA, temporary=True)))
    renumbered = [child(n, reference=f"N{n}") for n in (ANN, BEN)]
    answer = await put(vendor, *renumbered, child(EVA, upn=upn(EVA, temporary=True), reference="N3"))
    assert warned(answer) == {f"/entries/{at}/reference": "reference-replaced" for at in (0, 1)}
    assert counted(answer) == {"updated": 3}
    assert await references(small_trust) == {"Ann": ["N1"], "Ben": ["N2"], "Eva": ["N3", "P3"]}
    again = await put(vendor, *renumbered)
    assert (counted(again), again["warnings"]) == ({"unchanged": 2}, [])
    reused = await put(vendor, child(EVAN, reference="P1"))  # an id that once meant another child
    assert counted(reused) == {"created": 1}
    assert await references(small_trust) == {"Ann": ["N1"], "Ben": ["N2"], "Eva": ["N3", "P3"], "Evan": ["P1"]}


@pytest.mark.parametrize("changed", [{"surname": "Other"}, {"forename": "Ann Marie"}])
async def test_a_new_reference_is_kept_beside_the_old_where_not_all_agrees(
    small_trust: Trust, vendor: Any, changed: dict[str, Any]
) -> None:
    await put(vendor, child(ANN))
    answer = await put(vendor, child(ANN, reference="N1", **changed))
    assert (counted(answer), answer["warnings"]) == ({"updated": 1}, [])
    assert [*(await references(small_trust)).values()] == [["N1", "P1"]]


async def test_no_reference_is_replaced_while_both_are_in_one_batch(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN), child(BEN))
    assert await refuse(vendor, child(ANN), child(ANN, reference="N1")) == {"/entries/1": "duplicate-in-batch"}
    shifted = [child(EVAN, reference="P1"), child(ANN, reference="N1")]
    answer = await put(vendor, *shifted, Prefer="handling=lenient")
    assert (issues(answer), answer["warnings"]) == ({"/entries/0": "identity-changed"}, [])
    assert await references(small_trust) == {"Ann": ["N1", "P1"], "Ben": ["P2"]}


async def test_references_of_other_clients_and_schools_stay(small_trust: Trust, vendor: Any) -> None:
    other = await small_trust.client("other", f"trust:{TRUST}=all")
    guest = [{"from": "2018-01-08", "status": "G"}]
    await put(vendor, child(ANN, enrolments=[{"from": "2014-09-01", "status": "M"}]))
    await put(other, child(ANN, reference="O1", enrolments=[{"from": "2014-09-01", "status": "M"}]))
    await put(vendor, child(ANN, reference="E1", enrolments=guest), at="Elm")
    await put(vendor, child(ANN, reference="N1", enrolments=[{"from": "2014-09-01", "status": "M"}]))
    assert await references(small_trust) == {"Ann": ["E1", "N1", "O1"]}


async def test_as_many_statements_for_many_as_for_few(small_trust: Trust, vendor: Any) -> None:
    """An exchange, a number that is released, and new references."""

    async def count(first: int, size: int) -> int:
        numbers = range(first, first + 2 * size, 2)
        await put(vendor, *(entry(n, upn=upn(n + 1)) for n in numbers), *(entry(n + 1, upn=upn(n)) for n in numbers))
        with small_trust.statements.counting() as counted_statements:
            await put(vendor, *(entry(n) for n in numbers), *(entry(n + 1) for n in numbers))
            await put(vendor, *(entry(n, reference=f"N{n}") for n in numbers))
        return len(counted_statements)

    assert await count(100, 2) == await count(200, 40)


# A number that changes hands while a write waits


@pytest.mark.parametrize("key", ["upn", "reference"])
async def test_a_judgement_goes_to_whom_its_key_means_when_it_is_written(small_trust: Trust, vendor: Any, key: str) -> None:
    """It was matched before it waited for a roll that gave the number to another child."""
    await put(vendor, child(ANN, upn=upn(BEN), reference="B"), child(BEN, upn=upn(ANN), reference="A"))
    await opened(vendor)
    numbers = {"upn": (upn(ANN), upn(BEN)), "reference": ("A", "B")}[key]
    table, owner = ("upns", "pupil_id") if key == "upn" else ("external_ids", "id")
    column = "upn" if key == "upn" else "value"
    async with small_trust.operator.transaction():
        await small_trust.operator.execute("SELECT 1 FROM school_versions FOR UPDATE")
        body = batch("Oak", [{key: numbers[0], "subject": "writing", "grade": "EXS"}])
        posted = asyncio.create_task(sent(vendor, "/v1/judgements", body))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
        while not posted.done() and not await small_trust.value(waiting):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await small_trust.operator.execute(
            f"UPDATE {table} a SET {owner} = b.{owner} FROM {table} b"
            f" WHERE (a.{column}, b.{column}) IN (($1, $2), ($2, $1)) AND a.tenant_id = b.tenant_id",
            *numbers,
        )
    assert counted(await posted) == {"created": 1}
    judged = await small_trust.value("SELECT p.forename FROM judgements j JOIN pupils p ON p.id = j.pupil_id")
    assert judged == "Ann"
