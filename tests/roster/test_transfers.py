"""Pupils who change school inside a trust: by a client that reaches both schools, and by two vendors that reach one each."""

from typing import Any

import pytest
import pytest_asyncio

from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import CENSUS, DAY, URNS, WINDOW, Trust, at, batch, counted, issues, opened, roll, sent, upn

SPELLS = """
SELECT s.name, e.status, e.from_on::text, e.to_on::text FROM enrolments e JOIN upns u USING (tenant_id, pupil_id) JOIN schools s ON s.id = e.school_id
WHERE u.upn = $1 ORDER BY e.from_on, s.name
"""
COUNTED_AT = (
    "SELECT s.name FROM totals t JOIN schools s ON s.id = t.school_id WHERE subject_no = 1 AND aspect_no = 0 AND eligible = 1"
)
HORIZON = {"academicYear": "2017-18", "point": "KS2"}
JUDGED = {"upn": upn(1), "subject": "reading", "grade": 100}
TARGET = {"upn": upn(1), "subject": "reading", "horizon": HORIZON, "grade": 105, "basis": "teacher"}
HAS, HAS_NOT = ([upn(1)], ["100"], ["105"]), ([], [], [])
STAYED = {"from": "2014-09-01", "status": "C"}
LEFT = STAYED | {"to": "2018-05-10", "leavingReason": "Moved"}
CAME = {"from": "2018-05-11", "status": "C"}


async def written(client: Any, body: dict[str, Any]) -> dict[str, int]:
    return counted(await sent(client, "/v1/pupils", body))


async def spells(here: Trust) -> list[tuple[str, str, str, str | None]]:
    """School, status, first and last day of each spell of pupil 1."""
    return [tuple(row) for row in await here.operator.fetch(SPELLS, upn(1))]


@pytest_asyncio.fixture
async def schools(small_trust: Trust, vendor: Any) -> dict[str, Any]:
    """A client for each of Oak and Elm, with pupil 1 at Oak, judged there and with a target."""
    await opened(vendor)
    made = {name: await small_trust.client(name, f"school:{URNS[name]}=all") for name in ("Oak", "Elm")}
    await written(made["Oak"], at("Oak", STAYED, day="2018-05-01"))
    await sent(made["Oak"], "/v1/judgements", batch("Oak", [JUDGED]))
    await sent(made["Oak"], "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": [TARGET]})
    return made


async def sees(client: Any) -> tuple[list[str | None], list[str], list[str]]:
    """The UPNs of the pupils, the judgements and the targets that a client sees."""
    pupils, judgements, targets = [
        (await client.get(f"/v1/{name}")).json()["data"] for name in ("pupils?roll=all", "judgements", "targets")
    ]
    return [p["upn"] for p in pupils], [j["grade"] for j in judgements], [t["grade"] for t in targets]


async def test_a_client_of_both_schools_moves_a_pupil(small_trust: Trust, vendor: Any, schools: dict[str, Any]) -> None:
    """The old main spell ends on the day before, judgements and targets follow, and the census counts where the pupil then is."""
    assert await written(vendor, at("Elm", CAME)) == {"updated": 1}
    assert await spells(small_trust) == [("Oak", "C", "2014-09-01", "2018-05-10"), ("Elm", "C", "2018-05-11", None)]
    assert (await sees(schools["Elm"]), await sees(schools["Oak"])) == (HAS, HAS_NOT)
    assert str(CENSUS) > DAY
    assert await small_trust.value(COUNTED_AT) == "Elm"
    assert await miscounted(small_trust) == (0, 0, 0)
    before = await small_trust.everything()
    assert await written(vendor, at("Elm", CAME)) == {"unchanged": 1}
    assert await small_trust.everything() == before


async def test_two_vendors_hand_a_pupil_over(small_trust: Trust, schools: dict[str, Any]) -> None:
    """The old school ends its spell first; each vendor may then go on sending what its school knows, night after night."""
    oak, elm = schools["Oak"], schools["Elm"]
    assert issues(await sent(elm, "/v1/pupils", at("Elm", CAME), 422)) == {"/entries/0/enrolments": "pupil-elsewhere"}
    assert await written(oak, at("Oak", LEFT)) == {"updated": 1}
    assert await sees(oak) == HAS  # nobody else has the pupil yet
    assert await written(elm, at("Elm", CAME)) == {"updated": 1}
    assert await spells(small_trust) == [("Oak", "C", "2014-09-01", "2018-05-10"), ("Elm", "C", "2018-05-11", None)]
    assert (await sees(elm), await sees(oak)) == (HAS, HAS_NOT)
    before = await small_trust.everything()
    assert await written(oak, at("Oak", LEFT, surname="As Oak has it", upn=None)) == {"unchanged": 1}
    assert await written(elm, at("Elm", CAME)) == {"unchanged": 1}
    assert await small_trust.everything() == before
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_complete_roll_lets_go(small_trust: Trust, schools: dict[str, Any]) -> None:
    """The old school's vendor need not say who left: the pupil is absent from its whole roll, and the new school takes them."""
    empty = roll("Oak", [], asOf="2018-05-11", complete=True)
    assert (await sent(schools["Oak"], "/v1/pupils", empty))["left"] == 1
    assert await written(schools["Elm"], at("Elm", CAME)) == {"updated": 1}
    assert await spells(small_trust) == [("Oak", "C", "2014-09-01", "2018-05-10"), ("Elm", "C", "2018-05-11", None)]
    assert (await sent(schools["Oak"], "/v1/pupils", empty))["left"] == 0
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_what_the_old_school_sees_of_who_left(small_trust: Trust, schools: dict[str, Any]) -> None:
    """Its own spell, when and why it ended, and its results; no longer the child, whose page is as absent as one that never was."""
    oak = schools["Oak"]
    id_ = (await oak.get("/v1/pupils")).json()["data"][0]["id"]
    await written(oak, at("Oak", LEFT, day="2018-05-11"))
    await written(schools["Elm"], at("Elm", CAME))
    (spell,) = (await oak.get("/v1/enrolments", params={"include": "pupil,school"})).json()["data"]
    assert (spell["from"], spell["to"], spell["leavingReason"]) == ("2014-09-01", "2018-05-10", "Moved")
    assert (spell["pupil"], spell["school"]["name"]) == (None, "Oak")
    query = "{ enrolments { nodes { to leavingReason pupil { id } } } }"
    told = (await oak.post("/graphql", json={"query": query})).json()["data"]["enrolments"]["nodes"]
    assert told == [{"to": "2018-05-10", "leavingReason": "Moved", "pupil": None}]
    gone, never = [await oak.get(f"/v1/pupils/{each}") for each in (id_, "00000000-0000-0000-0000-000000000000")]
    assert (gone.status_code, gone.content) == (404, never.content)
    assert (await sent(oak, "/v1/pupils/lookup", {"where": {"upn": upn(1)}}))["data"] == []


async def test_the_old_school_keeps_what_was_counted_there(small_trust: Trust, schools: dict[str, Any]) -> None:
    """Who moves after the census stays in the old school's results, with the judgement that the new one now sees."""
    later = {"from": "2018-06-04", "status": "C"}
    await written(schools["Oak"], at("Oak", LEFT | {"to": "2018-06-01"}, day="2018-06-03"))
    await written(schools["Elm"], at("Elm", later, day="2018-06-05"))
    assert await sees(schools["Elm"]) == HAS
    assert await small_trust.value(COUNTED_AT) == "Oak"
    answers = [
        await schools[name].get("/v1/aggregates", params={"window": WINDOW, "subject": "reading", "groupBy": "school"})
        for name in schools
    ]
    eligible = [[(row["schoolName"], row["eligible"]) for row in answer.json()["data"]] for answer in answers]
    assert eligible[0] == [("Oak", 1)]
    assert not any(n for _, n in eligible[1])
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_the_old_school_corrects_its_own_spell_and_nothing_else(small_trust: Trust, schools: dict[str, Any]) -> None:
    oak = schools["Oak"]
    await written(oak, at("Oak", LEFT))
    await written(schools["Elm"], at("Elm", CAME))
    assert await written(oak, at("Oak", LEFT | {"to": "2018-05-09"}, surname="Changed")) == {"updated": 1}
    assert (await spells(small_trust))[0] == ("Oak", "C", "2014-09-01", "2018-05-09")
    assert await small_trust.value("SELECT surname FROM pupils") == "Surname1"
    before = await small_trust.everything()
    ended = {"from": "2018-05-12", "to": "2018-05-20", "status": "C"}
    for claimed in ([STAYED], [LEFT, CAME], [LEFT, {"from": "2018-05-12", "status": "S"}], [LEFT, ended], [LEFT | {"status": "M"}]):
        refused = await sent(oak, "/v1/pupils", at("Oak", *claimed, day="2018-05-21"), 422)
        assert issues(refused) == {"/entries/0/enrolments": "pupil-elsewhere"}
    assert await small_trust.everything() == before


@pytest.mark.parametrize("by_both", [True, False])
async def test_a_subsidiary_spell_turns_main(small_trust: Trust, vendor: Any, schools: dict[str, Any], by_both: bool) -> None:
    """Whether the school says that the subsidiary spell ended or only that a main one began."""
    oak, elm = (vendor, vendor) if by_both else (schools["Oak"], schools["Elm"])
    await written(oak, at("Oak", STAYED | {"status": "M"}, day="2018-05-01"))
    assert await written(elm, at("Elm", {"from": "2018-01-08", "status": "S"}, day="2018-05-01")) == {"updated": 1}
    assert await small_trust.value(COUNTED_AT) == "Oak"
    if not by_both:
        assert await written(oak, at("Oak", LEFT | {"status": "M"})) == {"updated": 1}
    assert await written(elm, at("Elm", CAME)) == {"updated": 1}
    expected = [
        ("Oak", "M", "2014-09-01", "2018-05-10"),
        ("Elm", "S", "2018-01-08", "2018-05-10"),
        ("Elm", "C", "2018-05-11", None),
    ]
    assert await spells(small_trust) == expected
    assert await written(elm, at("Elm", CAME)) == {"unchanged": 1}
    assert (await sees(schools["Elm"]), await sees(schools["Oak"])) == (HAS, HAS_NOT)
    assert await small_trust.value("SELECT count(*) FROM shared_pupils") == 0
    assert await small_trust.value(COUNTED_AT) == "Elm"
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_main_and_subsidiary_school_change_places(small_trust: Trust, vendor: Any, schools: dict[str, Any]) -> None:
    """Each school sends its whole history; the one that was the main school is shared with from then on."""
    await written(vendor, at("Oak", STAYED | {"status": "M"}, day="2018-05-01"))
    await written(vendor, at("Elm", {"from": "2018-01-08", "status": "S"}, day="2018-05-01"))
    now_main = at("Elm", {"from": "2018-01-08", "to": "2018-05-10", "status": "S"}, CAME | {"status": "M"})
    now_second = at("Oak", LEFT | {"status": "M"}, CAME | {"status": "S"})
    for body in (now_main, now_second):
        assert await written(vendor, body) == {"updated": 1}
    before = await small_trust.everything()
    for body in (now_main, now_second):
        assert await written(vendor, body) == {"unchanged": 1}
    assert await small_trust.everything() == before
    assert (await sees(schools["Elm"]), await sees(schools["Oak"])) == (HAS, HAS)
    assert await small_trust.value("SELECT school_id FROM pupils") == small_trust.ids["Elm"]
    assert await small_trust.value(COUNTED_AT) == "Elm"
    assert await miscounted(small_trust) == (0, 0, 0)


@pytest.mark.parametrize("by_both", [True, False])
async def test_a_pupil_who_arrives_twice_is_one(small_trust: Trust, vendor: Any, schools: dict[str, Any], by_both: bool) -> None:
    """At Oak, then at Elm, then at Oak again: one pupil, three spells, and what was written follows them."""
    oak, elm = (vendor, vendor) if by_both else (schools["Oak"], schools["Elm"])
    await written(oak, at("Oak", LEFT))
    assert await written(elm, at("Elm", CAME)) == {"updated": 1}
    back = {"from": "2018-06-04", "status": "C"}
    if not by_both:
        assert await written(elm, at("Elm", CAME | {"to": "2018-06-03"}, day="2018-06-05")) == {"updated": 1}
    assert await written(oak, at("Oak", LEFT, back, day="2018-06-05")) == {"updated": 1}
    expected = [
        ("Oak", "C", "2014-09-01", "2018-05-10"),
        ("Elm", "C", "2018-05-11", "2018-06-03"),
        ("Oak", "C", "2018-06-04", None),
    ]
    assert await spells(small_trust) == expected
    assert (await sees(schools["Oak"]), await sees(schools["Elm"])) == (HAS, HAS_NOT)
    assert await small_trust.value(COUNTED_AT) == "Elm"
    assert await small_trust.value("SELECT count(*) FROM pupils") == 1
    assert await miscounted(small_trust) == (0, 0, 0)
