"""An age that is impossible for the year group is refused wherever it can come from; a correction of a leaver's birthday is judged by the days on roll."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fixtures.clock import set_clock
from tests.fixtures.small_trust import AS_OF, URNS, Trust, asked, counted, entry, issues, roll, sent
from tests.roster.children import patch, pupil, put, warned

OLD, UNUSUAL = "1999-12-31", "2004-01-01"
"""Birthdays of Year 6 in 2017-18: impossible, and of an unusual age."""
SUBSIDIARY, MAIN = ({"from": "2018-01-08", "status": status} for status in "SC")
LEFT = {"from": "1994-09-05", "to": "2005-07-20", "status": "C"}


@pytest.fixture(autouse=True)
def spring(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, datetime(2018, 5, 2, 9, tzinfo=UTC))


async def test_a_spell_that_becomes_the_main_one_brings_no_impossible_age(small_trust: Trust, vendor: Any) -> None:
    """At a second school, and by a transfer: the age is that of the row's own birthday and year group."""
    ends = [{"from": "2014-09-01", "to": "2018-04-20", "status": "C"}]
    await put(vendor, entry(1, characteristics=None))
    at_elm = {"reference": "Elm-1", "characteristics": None}
    await put(vendor, entry(1, enrolments=[SUBSIDIARY], **at_elm), at="Elm")
    await put(vendor, entry(1, enrolments=ends, characteristics=None))
    before = await small_trust.everything()
    for changed in ({"dateOfBirth": OLD}, {"yearGroup": "14"}):
        body = roll("Elm", [entry(1, enrolments=[MAIN], **at_elm, **changed)])
        assert set(issues(await sent(vendor, "/v1/pupils", body, 422)).values()) <= {"age-implausible"}
    assert await small_trust.everything() == before
    answer = await put(vendor, entry(1, enrolments=[MAIN], dateOfBirth=UNUSUAL, **at_elm), at="Elm")
    assert (counted(answer), warned(answer)) == ({"updated": 1}, {"/entries/0/yearGroup": "age-unusual"})
    row = await pupil(vendor, reference="Elm-1")
    assert (row["dateOfBirth"], row["schoolId"]) == (UNUSUAL, str(small_trust.ids["Elm"]))
    assert issues(await patch(vendor, row, 422, yearGroup="R")) == {"/yearGroup": "age-implausible"}
    assert [w["code"] for w in (await patch(vendor, row, yearGroup="7"))["warnings"]] == []


async def test_a_planned_roll_is_of_the_age_on_its_day(small_trust: Trust, vendor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """26 in September, and 25 when it is sent."""
    set_clock(monkeypatch, datetime(2018, 6, 4, 9, tzinfo=UTC))
    adult = entry(1, dateOfBirth="1992-07-15", yearGroup="X", characteristics=None)
    assert counted(await put(vendor, adult)) == {"created": 1}
    assert issues(await sent(vendor, "/v1/pupils", roll("Oak", [adult], asOf="2018-09-03"), 422)) == {
        "/entries/0/dateOfBirth": "age-implausible"
    }


async def test_a_leavers_birthday_is_corrected_by_the_age_when_on_roll(small_trust: Trust, vendor: Any) -> None:
    """In Year 11 in 2005: today's age, and that year group today, would be impossible."""
    child = entry(1, yearGroup="11", dateOfBirth="1989-05-01", enrolments=[LEFT], characteristics=None)
    await sent(vendor, "/v1/pupils", roll("Oak", [child], asOf="2005-07-01"))
    row = await pupil(vendor, reference="P1")
    answer = await patch(vendor, row, dateOfBirth="1988-05-01")
    assert (answer["outcome"], answer["warnings"]) == ("updated", [])
    assert [w["code"] for w in (await patch(vendor, row, dateOfBirth="1986-05-01"))["warnings"]] == ["age-unusual"]
    query = "mutation ($input: PupilChangeInput!) { updatePupil(input: $input) { outcome } }"
    change = {"id": row["id"], "expectedVersion": 3, "dateOfBirth": "1979-05-01"}
    refused = (await vendor.post("/graphql", json={"query": query, "variables": {"input": change}})).json()
    assert "age-implausible" in issues(refused["errors"][0]["extensions"]["problem"]).values()
    assert (await asked(vendor, query, input=change | {"dateOfBirth": "1989-06-01"}))["updatePupil"] == {"outcome": "updated"}


@pytest.mark.parametrize(
    ("born_on", "place"),
    [
        ("1999-12-31", "/dateOfBirth"),
        ("2015-01-01", "/dateOfBirth"),
        ("2018-05-03", "/dateOfBirth"),
        ("1899-12-31", "/dateOfBirth"),
    ],
    ids=["age", "on roll before birth", "future", "before 1900"],
)
async def test_a_new_identity_and_a_split_have_possible_birthdays_too(
    small_trust: Trust, vendor: Any, born_on: str, place: str
) -> None:
    await put(vendor, entry(1, characteristics=None))
    row = await pupil(vendor, reference="P1")
    before = await small_trust.everything()
    body = {"expectedVersion": row["version"], "surname": "New", "forename": "Mara", "dateOfBirth": born_on}
    refused = await sent(vendor, f"/v1/pupils/{row['id']}/new-identity", body, 422)
    assert {at: code.rpartition("-")[2] for at, code in issues(refused).items()} == {place: "implausible"}
    split = body | {"sex": "F", "yearGroup": "6"}
    split |= {"enrolments": [{"school": {"urn": URNS["Oak"]}, "from": "2014-09-01", "status": "C", "to": str(AS_OF)}]}
    split |= {"remainingEnrolments": [{"school": {"urn": URNS["Oak"]}, "from": "2014-09-01", "status": "C"}]}
    refused = await sent(vendor, f"/v1/pupils/{row['id']}/split?dryRun=true", split, 422)
    assert {code.rpartition("-")[2] for code in issues(refused).values()} == {"implausible"}
    assert await small_trust.everything() == before


def sen(value: str, from_: str, to: str | None = None) -> dict[str, Any]:
    return {"kind": "sen", "value": value, "from": from_, "to": to}


def spell(from_: str, to: str | None = None) -> dict[str, Any]:
    return {"school": {"urn": URNS["Oak"]}, "from": from_, "status": "C", "to": to}


async def test_both_records_of_a_split_have_possible_days_that_do_not_overlap(small_trust: Trust, vendor: Any) -> None:
    """By the rules of a row: before birth, before 1944, more than 400 days ahead, and one kind of characteristic twice."""
    await put(vendor, entry(1, characteristics=None))
    row = await pupil(vendor, reference="P1")
    before = await small_trust.everything()
    good: dict[str, Any] = {"expectedVersion": row["version"], "surname": "New", "forename": "Mara", "dateOfBirth": "2007-03-03"}
    good |= {"sex": "F", "yearGroup": "6", "enrolments": [spell("2014-09-01", "2016-07-20")]}
    good |= {"remainingEnrolments": [spell("2016-09-01")]}
    for change, places in (
        ({"enrolments": [spell("2007-03-02", "2016-07-20")]}, {"/enrolments/0/from"}),
        ({"enrolments": [spell("1943-09-01", "2016-07-20")]}, {"/enrolments/0/from"}),
        ({"enrolments": [spell("2014-09-01", "2016-07-20"), spell("2098-09-01")]}, {"/enrolments/1/from"}),
        ({"characteristics": [sen("K", "2007-03-02"), sen("E", "2098-01-01")]}, {"/characteristics/0/from", "/characteristics/1/from"}),
        ({"characteristics": [sen("K", "2015-09-01"), sen("E", "2015-09-01")]}, {"/characteristics"}),
        ({"characteristics": [sen("K", "2015-09-01", "2016-03-01"), sen("E", "2016-03-01")]}, {"/characteristics"}),
        ({"remainingEnrolments": [spell("2006-12-31", "2007-02-01"), spell("2098-09-01")]}, {"/remainingEnrolments/0/from", "/remainingEnrolments/1/from"}),
        ({"remainingCharacteristics": [sen("K", "2006-12-31")]}, {"/remainingCharacteristics/0/from"}),
        ({"remainingCharacteristics": [sen("K", "2015-09-01"), sen("E", "2015-09-01")]}, {"/remainingCharacteristics"}),
    ):  # fmt: skip
        refused = await sent(vendor, f"/v1/pupils/{row['id']}/split?dryRun=true", good | change, 422)
        assert set(issues(refused)) == places, refused
        assert set(issues(refused).values()) <= {"spell-implausible", "spells-overlap"}
    assert (await sent(vendor, f"/v1/pupils/{row['id']}/split?dryRun=true", good))["outcome"] == "split"
    assert await small_trust.everything() == before
