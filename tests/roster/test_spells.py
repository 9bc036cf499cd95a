"""What a roll says of an academic year: spells on roll and characteristics, whole, against what is stored."""

import asyncio
from typing import Any

import pytest

from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import URNS, Trust, asked, at, batch, counted, entry, issues, judged, opened, roll, sent, upn

SPELLS = """
SELECT e.from_on::text, e.to_on::text, e.status FROM enrolments e JOIN upns u USING (tenant_id, pupil_id) JOIN schools s ON s.id = e.school_id
WHERE u.upn = $1 AND s.name = $2 ORDER BY e.from_on
"""
FORMER = SPELLS.replace("enrolments e", "enrolment_history e").replace("ORDER BY e.from_on", "ORDER BY e.until")
VALUES = """
SELECT c.kind, c.value, c.from_on::text, c.to_on::text FROM characteristics c JOIN upns u USING (tenant_id, pupil_id)
WHERE u.upn = $1 AND c.kind <> 'yearGroup' ORDER BY 1, 3
"""
FORMER_VALUES = VALUES.replace("characteristics c", "characteristic_history c")
DISADVANTAGED = "SELECT disadvantaged FROM cells WHERE subject_no = 1 AND aspect_no = 0 AND n > 0"
C = {"status": "C"}


async def told(here: Trust, statement: str, *arguments: Any) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await here.operator.fetch(statement, upn(1), *arguments)]


async def said(client: Any, *spells: dict[str, Any], day: str = "2017-10-23", status: int = 200, **changed: Any) -> Any:
    """Pupil 1 on Oak's roll with these spells."""
    changed = {"enrolments": [C | spell for spell in spells], "characteristics": None} | changed
    return await sent(client, "/v1/pupils", roll("Oak", [entry(1, **changed)], asOf=day), status)


@pytest.fixture
def fill_trust(request: pytest.FixtureRequest) -> Filling:
    return open_window_with_oak if "oak" in request.fixturenames else register_vendor


async def open_window_with_oak(trust: Trust) -> None:
    await opened(await register_vendor(trust))
    await trust.client("oak", f"school:{URNS['Oak']}=all")


@pytest.fixture
def oak(small_trust: Trust) -> Any:
    """The client of Oak alone, with an open window."""
    return small_trust.made[1]


async def test_a_first_day_that_moves_and_a_leaver_leave_one_spell_and_no_ghost(small_trust: Trust, oak: Any) -> None:
    await said(oak, {"from": "2017-09-01"}, day="2017-09-01")
    (first,) = (await oak.get("/v1/enrolments")).json()["data"]
    await said(oak, {"from": "2017-09-03"}, day="2017-09-04")
    assert await told(small_trust, SPELLS, "Oak") == [("2017-09-03", None, "C")]
    await said(oak, {"from": "2017-09-03", "to": "2017-10-22", "leavingReason": "Moved"})
    assert await told(small_trust, SPELLS, "Oak") == [("2017-09-03", "2017-10-22", "C")]
    (last,) = (await oak.get("/v1/enrolments")).json()["data"]
    assert (last["id"], last["from"], last["to"]) == (first["id"], "2017-09-03", "2017-10-22")
    assert await told(small_trust, FORMER, "Oak") == [("2017-09-01", None, "C"), ("2017-09-03", None, "C")]
    for day, there in (("2017-09-02", 0), ("2017-09-03", 1), ("2017-10-22", 1), ("2017-10-23", 0)):
        query = "query($on: Date) { schools { nodes { onRoll(on: $on) { nodes { id } } } } }"
        assert len((await asked(oak, query, on=day))["schools"]["nodes"][0]["onRoll"]["nodes"]) == there, day
    assert await miscounted(small_trust) == (0, 0, 0)
    before = await small_trust.everything()
    assert counted(await said(oak, {"from": "2017-09-03", "to": "2017-10-22", "leavingReason": "Moved"})) == {"unchanged": 1}
    assert await small_trust.everything() == before


async def test_an_empty_list_takes_back_a_no_show_and_a_field_left_out_says_nothing(small_trust: Trust, oak: Any) -> None:
    await said(oak, {"from": "2017-09-01"}, day="2017-09-01")
    assert counted(await said(oak, enrolments=None)) == {"unchanged": 1}
    assert await told(small_trust, SPELLS, "Oak") == [("2017-09-01", None, "C")]
    assert counted(await said(oak)) == {"updated": 1}
    assert await told(small_trust, SPELLS, "Oak") == []
    assert await told(small_trust, FORMER, "Oak") == [("2017-09-01", None, "C")]
    assert await small_trust.value("SELECT sum(eligible) FROM totals") == 0
    before = await small_trust.everything()
    assert counted(await said(oak)) == {"unchanged": 1}
    assert await small_trust.everything() == before
    refused = await sent(oak, "/v1/judgements", batch("Oak", [judged(1)]), 422)
    assert issues(refused) == {"/entries/0/reference": "pupil-not-found"}
    assert counted(await said(oak, {"from": "2017-09-11"})) == {"updated": 1}
    assert await told(small_trust, SPELLS, "Oak") == [("2017-09-11", None, "C")]
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_no_show_on_a_complete_roll_night_after_night(small_trust: Trust, oak: Any) -> None:
    stays = entry(2)
    await sent(
        oak, "/v1/pupils", roll("Oak", [entry(1, enrolments=[C | {"from": "2017-09-01"}]), stays], asOf="2017-09-01", complete=True)
    )
    no_show = roll("Oak", [entry(1, enrolments=[]), stays], complete=True)
    for day, outcome in (
        ("2017-09-05", {"updated": 1, "unchanged": 1}),
        ("2017-09-06", {"unchanged": 2}),
        ("2017-09-06", {"unchanged": 2}),
    ):
        answer = await sent(oak, "/v1/pupils", no_show | {"asOf": day})
        assert (counted(answer), answer["left"]) == (outcome, 0)
    assert await told(small_trust, SPELLS, "Oak") == []


async def test_the_year_before_stays_as_it_was_said(small_trust: Trust, oak: Any) -> None:
    """A row says nothing of earlier academic years: the census of last year still counts who was there."""
    await said(oak, {"from": "2014-09-01"}, day="2017-05-01")
    await said(oak, {"from": "2017-09-04"})
    assert await told(small_trust, SPELLS, "Oak") == [("2014-09-01", "2017-08-31", "C"), ("2017-09-04", None, "C")]
    await said(oak, day="2017-10-24")
    assert await told(small_trust, SPELLS, "Oak") == [("2014-09-01", "2017-08-31", "C")]
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_spell_from_an_earlier_year_is_corrected_whole(small_trust: Trust, oak: Any) -> None:
    """It overlaps the stored one, with the same status and a first day in the same academic year: they are the same spell."""
    await said(oak, {"from": "2014-09-01"})
    assert counted(await said(oak, {"from": "2015-01-05"})) == {"updated": 1}
    assert await told(small_trust, SPELLS, "Oak") == [("2015-01-05", None, "C")]


async def test_another_status_from_a_day_of_an_earlier_year_leaves_what_was_before(small_trust: Trust, oak: Any) -> None:
    """The child was on roll on last year's census day, in the status that was said then."""
    await said(oak, {"from": "2014-09-01"}, day="2016-05-01")
    main = [C | {"from": "2016-01-11", "status": "M"}]
    assert counted(await said(oak, enrolments=main)) == {"updated": 1}
    stored = [("2014-09-01", "2016-01-10", "C"), ("2016-01-11", None, "M")]
    assert await told(small_trust, SPELLS, "Oak") == stored
    assert counted(await said(oak, enrolments=main, day="2017-10-24")) == {"unchanged": 1}
    # the same status again, from a later academic year on, is the same spell and takes nothing back
    assert counted(await said(oak, enrolments=[C | {"from": "2017-03-01", "status": "M"}], day="2017-10-25")) == {"updated": 1}
    assert await told(small_trust, SPELLS, "Oak") == [stored[0], ("2016-01-11", "2017-02-28", "M"), ("2017-03-01", None, "M")]
    # a spell of a few weeks leaves the days before and after
    guest = [C | {"from": "2017-05-01", "to": "2017-05-31", "status": "G"}, C | {"from": "2017-09-04"}]
    assert counted(await said(oak, enrolments=guest, day="2017-10-26")) == {"updated": 1}
    assert (await told(small_trust, SPELLS, "Oak"))[2:] == [
        ("2017-03-01", "2017-04-30", "M"),
        ("2017-05-01", "2017-05-31", "G"),
        ("2017-06-01", "2017-08-31", "M"),
        ("2017-09-04", None, "C"),
    ]
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_spells_that_overlap_stored_ones_of_another_year_are_refused(small_trust: Trust, oak: Any) -> None:
    past = {"from": "2014-09-01", "to": "2016-07-20"}
    await said(oak, past, {"from": "2017-09-04"})
    before = await small_trust.everything()
    for first in ("2016-07-20", "2016-01-04", "2014-08-31"):
        refused = await said(oak, {"from": first}, status=422)
        assert issues(refused) == {"/entries/0/enrolments": "spells-overlap"}
    assert await small_trust.everything() == before
    assert counted(await said(oak, {"from": "2016-07-21"})) == {"updated": 1}
    assert await told(small_trust, SPELLS, "Oak") == [("2014-09-01", "2016-07-20", "C"), ("2016-07-21", None, "C")]
    # the stored one is in the row too, so that the row says what both are
    assert counted(await said(oak, past | {"to": "2015-12-31"}, {"from": "2016-01-04"})) == {"updated": 1}
    assert await told(small_trust, SPELLS, "Oak") == [("2014-09-01", "2015-12-31", "C"), ("2016-01-04", None, "C")]


async def test_a_spell_that_begins_next_year_stays(small_trust: Trust, oak: Any) -> None:
    later = {"from": "2018-09-03"}
    await said(oak, {"from": "2017-09-04", "to": "2018-03-29"}, later)
    await said(oak, {"from": "2017-09-05", "to": "2018-03-29"})
    assert await told(small_trust, SPELLS, "Oak") == [("2017-09-05", "2018-03-29", "C"), ("2018-09-03", None, "C")]


async def test_characteristics_are_said_whole_and_unknown_is_not_false(small_trust: Trust, oak: Any) -> None:
    def known(*spells: tuple[str, str, str]) -> list[dict[str, str]]:
        return [{"kind": kind, "value": value, "from": from_} for kind, value, from_ in spells]

    spell, day = {"from": "2014-09-01"}, "2018-05-01"
    fsm, sen = ("ever6Fsm", "true", "2017-09-01"), ("sen", "K", "2016-09-01")
    await said(oak, spell, day=day, characteristics=known(fsm, sen))
    assert [row[0] for row in await small_trust.operator.fetch(DISADVANTAGED)] == ["true"]
    await said(oak, spell, day=day, characteristics=known(("ever6Fsm", "true", "2017-09-03"), sen))
    assert await told(small_trust, VALUES) == [("ever6Fsm", "true", "2017-09-03", None), ("sen", "K", "2016-09-01", None)]
    assert counted(await said(oak, spell, day=day)) == {"unchanged": 1}
    assert counted(await said(oak, spell, day=day, characteristics=known(("sen", "N", "2018-01-08"), sen))) == {"updated": 1}
    assert await told(small_trust, VALUES) == [("sen", "K", "2016-09-01", "2018-01-07"), ("sen", "N", "2018-01-08", None)]
    assert [row[0] for row in await small_trust.operator.fetch(DISADVANTAGED)] == ["unknown"]
    before = await small_trust.everything()
    assert counted(await said(oak, spell, day=day, characteristics=known(("sen", "N", "2018-01-08"), sen))) == {"unchanged": 1}
    assert await small_trust.everything() == before
    assert counted(await said(oak, spell, day=day, characteristics=[])) == {"updated": 1}
    assert await told(small_trust, VALUES) == [("sen", "K", "2016-09-01", "2017-08-31")]
    assert [row[0] for row in await small_trust.operator.fetch("SELECT DISTINCT sen FROM cells WHERE n > 0")] == ["unknown"]
    kept = await told(small_trust, FORMER_VALUES)
    assert ("ever6Fsm", "true", "2017-09-01", None) in kept
    assert ("sen", "N", "2018-01-08", None) in kept
    assert await miscounted(small_trust) == (0, 0, 0)


@pytest.mark.parametrize(
    ("kind", "before", "after"),
    [
        ("sen", "K", "E"),
        ("fsm", "none", "targeted"),
        ("lookedAfter", "true", "false"),
        ("eal", "2", "1"),
        ("ethnicity", "WBRI", "REFU"),
    ],
)
async def test_another_value_from_a_day_of_an_earlier_year_leaves_what_was_before(
    small_trust: Trust, oak: Any, kind: str, before: str, after: str
) -> None:
    """Windows of past years count by it. A joiner of a batch of judgements is said in the same way."""
    spell = {"enrolments": [C | {"from": "2014-09-01"}]}

    def known(value: str, from_: str) -> dict[str, Any]:
        return spell | {"characteristics": [{"kind": kind, "value": value, "from": from_}]}

    await said(oak, **known(before, "2015-09-01"), day="2016-05-01")
    assert counted(await said(oak, **known(after, "2016-01-11"))) == {"updated": 1}
    stored = [(kind, before, "2015-09-01", "2016-01-10"), (kind, after, "2016-01-11", None)]
    assert await told(small_trust, VALUES) == stored
    assert counted(await said(oak, **known(after, "2016-01-11"), day="2017-10-24")) == {"unchanged": 1}
    joiner = entry(1, **known(before, "2017-03-01"))
    await sent(oak, "/v1/judgements", batch("Oak", [judged(1)], pupils=[joiner], asOf="2017-10-25"))
    assert await told(small_trust, VALUES) == [
        stored[0],
        (kind, after, "2016-01-11", "2017-02-28"),
        (kind, before, "2017-03-01", None),
    ]
    # the same value with another first day of the same academic year is a correction of that day
    assert counted(await said(oak, **known(before, "2017-04-03"), day="2017-10-26")) == {"updated": 1}
    assert (await told(small_trust, VALUES))[-1] == (kind, before, "2017-04-03", None)
    # taken back for this year: what earlier years were said stays
    assert counted(await said(oak, **spell | {"characteristics": []}, day="2017-10-27")) == {"updated": 1}
    assert (await told(small_trust, VALUES))[-1] == (kind, before, "2017-04-03", "2017-08-31")
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_characteristics_that_overlap_stored_ones_of_another_year_and_value_are_refused(small_trust: Trust, oak: Any) -> None:
    def sen(value: str, from_: str, to: str | None = None) -> dict[str, Any]:
        return {"kind": "sen", "value": value, "from": from_} | ({"to": to} if to else {})

    spell = {"from": "2014-09-01"}
    past = sen("K", "2015-09-01", "2016-07-20")
    await said(oak, spell, characteristics=[past])
    for wrong in ([sen("E", "2016-07-20")], [sen("N", "2015-01-01", "2015-09-01")]):
        assert issues(await said(oak, spell, characteristics=wrong, status=422)) == {"/entries/0/characteristics": "spells-overlap"}
    ends_late = [sen("K", "2017-09-04", "2017-10-10"), sen("E", "2017-10-10")]
    assert issues(await said(oak, spell, characteristics=ends_late, status=422)) == {"/entries/0/characteristics": "spells-overlap"}
    assert counted(await said(oak, spell, characteristics=[sen("E", "2016-07-21")])) == {"updated": 1}
    assert counted(await said(oak, spell, characteristics=[past, sen("N", "2016-07-21")])) == {"updated": 1}
    assert await told(small_trust, VALUES) == [("sen", "K", "2015-09-01", "2016-07-20"), ("sen", "N", "2016-07-21", None)]


async def test_an_older_roll_never_overwrites_a_newer_one(small_trust: Trust, oak: Any) -> None:
    """Neither its names, nor its spells, nor its leavers; an unchanged newer one counts too, and a row of another pupil goes through."""
    spell = {"from": "2014-09-01"}
    await said(oak, spell, day="2018-04-30")
    await said(oak, spell, day="2018-05-02")
    before = await small_trust.everything()
    older = [entry(1, surname="Before", enrolments=[C | {"from": "2014-09-02"}], characteristics=[], yearGroup="5"), entry(2)]
    answer = await sent(oak, "/v1/pupils", roll("Oak", older, asOf="2018-05-01"), prefer="return=representation")
    assert counted(answer) == {"superseded": 1, "created": 1}
    assert answer["results"][0]["outcome"] == "superseded"
    assert answer["results"][0]["id"] is not None
    assert await told(small_trust, SPELLS, "Oak") == [("2014-09-01", None, "C")]
    assert await small_trust.value("SELECT surname FROM pupils WHERE upn = $1", upn(1)) == "Surname1"
    empty = roll("Oak", [], asOf="2018-05-01", complete=True, maxLeavers=100)
    assert (await sent(oak, "/v1/pupils", empty))["left"] == 1  # pupil 2, of whom nothing newer was said
    assert await told(small_trust, SPELLS, "Oak") == [("2014-09-01", None, "C")]
    assert before["characteristics"]
    assert counted(await said(oak, spell, day="2018-05-02", surname="After")) == {"updated": 1}
    mutation = "mutation($i: PupilBatchInput!) { recordPupils(input: $i) { received superseded } }"
    assert (await asked(oak, mutation, i=roll("Oak", older[:1], asOf="2018-05-01")))["recordPupils"] == {
        "received": 1,
        "superseded": 1,
    }
    joined = batch("Oak", [judged(1)], pupils=older[:1], asOf="2018-05-01")
    assert (await sent(oak, "/v1/judgements", joined))["pupils"]["superseded"] == 1


async def test_who_left_by_a_newer_complete_roll_does_not_come_back_by_an_older_one(small_trust: Trust, oak: Any) -> None:
    both = [entry(1), entry(2)]
    await sent(oak, "/v1/pupils", roll("Oak", both, asOf="2018-04-30"))
    await sent(oak, "/v1/pupils", roll("Oak", both[1:], asOf="2018-05-02", complete=True, maxLeavers=50))
    assert counted(await sent(oak, "/v1/pupils", roll("Oak", both, asOf="2018-05-01"))) == {"superseded": 2}
    assert await told(small_trust, SPELLS, "Oak") == [("2014-09-01", "2018-05-01", "C")]


STAYED = {"from": "2017-09-01", "status": "C"}


async def claimed(client: Any, school: str, first: str, day: str, status: int = 200) -> Any:
    body = at(school, {"from": first, "status": "C"}, day=day, characteristics=None)
    return await sent(client, "/v1/pupils", body, status)


@pytest.mark.parametrize("first_there", ["2017-09-01", "2017-08-28"])
async def test_of_two_schools_that_claim_a_child_the_first_keeps_it_night_after_night(
    small_trust: Trust, vendor: Any, first_there: str
) -> None:
    await opened(vendor)
    assert counted(await claimed(vendor, "Oak", "2017-09-01", "2017-09-05")) == {"created": 1}
    for day in ("2017-09-05", "2017-09-06", "2017-09-07"):
        refused = await claimed(vendor, "Elm", first_there, day, 422)
        assert issues(refused) == {"/entries/0/enrolments": "pupil-elsewhere"}
        assert counted(await claimed(vendor, "Oak", "2017-09-01", day)) == {"unchanged": 1}
    assert await told(small_trust, SPELLS, "Elm") == []
    assert counted(await claimed(vendor, "Elm", "2017-09-08", "2017-09-08")) == {"updated": 1}
    assert await told(small_trust, SPELLS, "Oak") == [("2017-09-01", "2017-09-07", "C")]
    for day in ("2017-09-08", "2017-09-09"):  # now it is the other that is told
        assert issues(await claimed(vendor, "Oak", "2017-09-01", day, 422)) == {"/entries/0/enrolments": "pupil-elsewhere"}
        assert counted(await claimed(vendor, "Elm", "2017-09-08", day)) == {"unchanged": 1}
    assert await told(small_trust, SPELLS, "Elm") == [("2017-09-08", None, "C")]
    assert await small_trust.value("SELECT school_id FROM pupils") == small_trust.ids["Elm"]
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_claim_against_a_spell_whose_last_day_is_known(small_trust: Trust, vendor: Any) -> None:
    """It is on roll at the first school until then; a client that reaches the second alone is refused as well."""
    spell = STAYED | {"to": "2018-07-20"}
    await sent(vendor, "/v1/pupils", at("Oak", spell, day="2017-09-05"))
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    for client in (vendor, elm):
        assert issues(await claimed(client, "Elm", "2017-09-01", "2017-09-06", 422)) == {"/entries/0/enrolments": "pupil-elsewhere"}
    assert counted(await claimed(elm, "Elm", "2018-07-21", "2018-07-21")) == {"updated": 1}


async def test_times_are_taken_after_the_locks(small_trust: Trust, vendor: Any) -> None:
    """A write that waits for another has a later changedAt, so that who polls by it misses neither."""
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2)]))
    clock = await small_trust.value("SELECT clock_timestamp()")
    statement = "SELECT count(*) FROM pupils WHERE changed_at > $1"
    async with small_trust.operator.transaction():
        await small_trust.operator.fetch("SELECT 1 FROM school_versions FOR UPDATE")
        waiting = [
            asyncio.create_task(sent(vendor, "/v1/pupils", roll("Oak", [entry(1, surname="Changed"), entry(3)]))),
            asyncio.create_task(sent(vendor, "/v1/groups", groups("7A"))),
        ]
        while await small_trust.value("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted") < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        released = await small_trust.value("SELECT clock_timestamp()")
    for task in waiting:
        await task
    assert released > clock
    assert await small_trust.value(statement, released) == 2
    assert await small_trust.value("SELECT changed_at FROM groups") > released


def groups(code: str) -> dict[str, Any]:
    form = {"code": code, "name": code, "kind": "class", "members": []}
    return {"school": {"urn": URNS["Oak"]}, "academicYear": "2017-18", "asOf": "2018-05-01", "entries": [form]}
