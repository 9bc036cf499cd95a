"""Whose judgement is accepted, whose counts, and what the answer says of it."""

from typing import Any

import pytest

from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import URNS, WINDOW, Trust, asked, batch, counted, entry, issues, judged, opened, roll, sent

MAY, SPRING = "2018-05-14", "2018-02-01"
"""The census day of the window, and a day before."""
FIRST = "2014-09-01"


def spell(first: str, last: str | None = None, status: str = "C") -> dict[str, Any]:
    return {"from": first, "status": status} | ({} if last is None else {"to": last, "leavingReason": "Moved"})


async def enrol(vendor: Any, number: int, *spells: dict[str, Any], **changed: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(number, enrolments=list(spells), **changed)], asOf="2018-07-20"))


async def read_eligible(vendor: Any, subject: str = "reading") -> int:
    (row,) = (await vendor.get("/v1/aggregates", params={"window": WINDOW, "subject": subject, "groupBy": "subject"})).json()[
        "data"
    ]
    return int(row["eligible"])


@pytest.mark.parametrize(
    ("first", "last"),
    [(FIRST, "2018-06-26"), (FIRST, MAY), (MAY, None)],
    ids=["left before the results", "left that day", "came that day"],
)
async def test_who_was_on_roll_on_the_census_day_is_accepted_and_counted(
    small_trust: Trust, vendor: Any, first: str, last: str | None
) -> None:
    """Results days come after pupils have left."""
    await enrol(vendor, 50, spell(first, last))
    answer = await sent(vendor, "/v1/judgements", batch("Oak", [judged(50)]))
    assert (counted(answer), answer["warnings"], answer["notCounted"]) == ({"created": 1}, [], 0)
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_who_joined_after_the_census_day_is_accepted_and_not_counted(small_trust: Trust, vendor: Any) -> None:
    before = await read_eligible(vendor)
    await enrol(vendor, 50, spell("2018-05-15"))
    rows = [judged(1), judged(50), judged(50, "maths")]
    answer = await sent(vendor, "/v1/judgements", batch("Oak", rows))
    assert (counted(answer), answer["notCounted"]) == ({"created": 3}, 2)
    assert issues({"issues": answer["warnings"]}) == {"/entries/1": "not-counted", "/entries/2": "not-counted"}
    assert all("2018-05-14" in warning["message"] for warning in answer["warnings"])
    assert await read_eligible(vendor) == before
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", rows))) == {"unchanged": 3}
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_another_year_group_is_accepted_and_not_counted(vendor: Any) -> None:
    await enrol(vendor, 50, spell(FIRST), yearGroup="5")
    mutation = (
        "mutation ($rows: [JudgementEntryInput!]!, $window: String!, $urn: ID!) {"
        " recordJudgements(input: {window: $window, school: {urn: $urn}, entries: $rows}) { created notCounted warnings { at code message } } }"
    )
    told = (await asked(vendor, mutation, rows=[judged(50, grade="100")], window=WINDOW, urn=URNS["Oak"]))["recordJudgements"]
    assert (told["created"], told["notCounted"]) == (1, 1)
    ((at, code, message),) = [warning.values() for warning in told["warnings"]]
    assert (at, code, "year group" in message) == ("/entries/0", "not-counted", True)


async def test_a_second_registration_is_accepted_and_not_counted_there(vendor: Any) -> None:
    await enrol(vendor, 50, spell(FIRST, status="G"))
    answer = await sent(vendor, "/v1/judgements", batch("Oak", [judged(50)]))
    assert (counted(answer), answer["notCounted"]) == ({"created": 1}, 1)


async def test_who_was_never_there_from_the_census_day_on_is_refused(small_trust: Trust, vendor: Any) -> None:
    await enrol(vendor, 50, spell(FIRST, "2018-05-13"))
    await enrol(vendor, 51, spell(FIRST, SPRING), spell("2018-05-20", "2018-05-25"))
    refused = await sent(vendor, "/v1/judgements", batch("Oak", [judged(50), judged(51), judged(1)]), 422)
    assert issues(refused) == {"/entries/0": "not-on-roll"}
    answer = await sent(vendor, "/v1/judgements", batch("Oak", [judged(50), judged(51)]), Prefer="handling=lenient")
    assert (counted(answer), answer["notCounted"], issues(answer)) == (
        {"created": 1, "rejected": 1},
        1,
        {"/entries/0": "not-on-roll"},
    )
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_what_is_stored_of_one_who_was_never_there_is_unchanged_and_withdrawn(vendor: Any) -> None:
    """The roll was corrected after the judgement came: the same row again never fails, and it can be taken back."""
    await enrol(vendor, 50, spell(FIRST))
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(50)]))
    await enrol(vendor, 50, spell(FIRST, SPRING))
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [judged(50)]))) == {"unchanged": 1}
    assert issues(await sent(vendor, "/v1/judgements", batch("Oak", [judged(50, grade=101)]), 422)) == {"/entries/0": "not-on-roll"}
    withdrawn = judged(50, grade=None, withdrawn=True)
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [withdrawn]))) == {"withdrawn": 1}


@pytest.mark.parametrize("path", ["/v1/judgements", "/v1/targets", "/v1/pupils", "/v1/groups"])
async def test_a_lenient_batch_with_every_row_rejected_is_a_422(small_trust: Trust, vendor: Any, path: str) -> None:
    head: dict[str, Any] = {"school": {"urn": URNS["Oak"]}}
    rows = {
        "/v1/judgements": (head | {"window": WINDOW}, judged(1, grade="none"), judged(99)),
        "/v1/targets": (head, {"reference": "none"}, {"reference": "P1", "subject": "alchemy"}),
        "/v1/pupils": (head | {"asOf": MAY}, entry(60, yearGroup="hedge"), entry(61, sex="?")),
        "/v1/groups": (head | {"academicYear": "2017-18", "asOf": MAY}, {"code": "A"}, {"kind": "class"}),
    }
    given, *entries = rows[path]
    before = await small_trust.everything()
    refused = await sent(vendor, path, given | {"entries": entries}, 422, Prefer="handling=lenient")
    assert {issue["at"].split("/")[2] for issue in refused["issues"]} == {"0", "1"}
    assert await small_trust.everything() == before


async def test_an_empty_batch_and_one_with_pupils_alone_are_accepted(vendor: Any) -> None:
    assert (await sent(vendor, "/v1/judgements", batch("Oak", []), Prefer="handling=lenient"))["received"] == 0
    body = batch("Oak", [judged(1, grade="none")], asOf="2018-05-20", pupils=[entry(70)])
    answer = await sent(vendor, "/v1/judgements", body, Prefer="handling=lenient")
    assert (counted(answer), answer["pupils"]["created"]) == ({"rejected": 1}, 1)


async def test_left_leaves_the_denominator_as_grade_l_does(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(n, subject) for n in range(10) for subject in ("reading", "maths")]))
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(n, "writing", "EXS") for n in range(10)]))
    before = {subject: await read_eligible(vendor, subject) for subject in ("reading", "writing", "maths", "rwm")}
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=None, status="left"), judged(2, "writing", "L")]))
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(n, "maths", None, status="absent") for n in (3, 4)]))
    after = {subject: await read_eligible(vendor, subject) for subject in before}
    assert {subject: before[subject] - after[subject] for subject in before} == {"reading": 1, "writing": 1, "maths": 0, "rwm": 2}
    assert await miscounted(small_trust) == (0, 0, 0)
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=None, status="exempt"), judged(2, "writing", "EXS")]))
    assert {subject: await read_eligible(vendor, subject) for subject in before} == before
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_every_status_and_code_says_whether_it_is_eligible_and_valid(vendor: Any) -> None:
    statuses = ["absent", "new", "left", "notTaught", "exempt"]
    rows = [judged(n, grade=None, status=status) for n, status in enumerate(statuses)]
    codes = ["EXS", "WTS", "A", "L"]
    rows += [judged(n, "writing", code) for n, code in enumerate(codes)] + [judged(6), judged(7)]
    await sent(vendor, "/v1/judgements", batch("Oak", rows))
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(7, grade=None, withdrawn=True)]))
    listed = (await vendor.get("/v1/judgements?fields=grade,status,eligible,valid&first=100")).json()["data"]
    says = {row["grade"] or row["status"]: (row["eligible"], row["valid"]) for row in listed}
    unsaid = dict.fromkeys((*statuses, "withdrawn", "A"), (True, False))
    assert says == unsaid | {
        "left": (False, False),
        "L": (False, False),
        "EXS": (True, True),
        "WTS": (True, True),
        "100": (True, True),
    }
    nodes = (await asked(vendor, "{ judgements(first: 100) { nodes { grade status eligible valid } } }"))["judgements"]["nodes"]
    assert nodes == listed
    left = (await vendor.get("/v1/judgements?eligible=false&fields=status,grade")).json()["data"]
    assert {row["grade"] or row["status"] for row in left} == {"left", "L"}


async def test_a_window_of_the_past_takes_results_of_pupils_who_have_left(small_trust: Trust, vendor: Any) -> None:
    """Census 21 May, the window from 20 August, the child left on 26 June: accepted and counted."""
    await enrol(vendor, 50, spell(FIRST, "2018-06-26"))
    code = await opened(vendor, "2017-18/August", censusOn="2018-05-21") and "2017-18/August"
    answer = await sent(vendor, "/v1/judgements", batch("Oak", [judged(50)], window=code))
    assert (counted(answer), answer["notCounted"]) == ({"created": 1}, 0)
    assert await miscounted(small_trust) == (0, 0, 0)
