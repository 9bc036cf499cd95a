"""A complete roll: who is absent from it has left, unless too many would have."""

from typing import Any

import pytest

from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import URNS, Trust, batch, counted, entry, issues, judged, opened, roll, sent, upn

FULL = {"Prefer": "return=representation"}
VERSION = "SELECT version FROM school_versions WHERE school_id = $1"
SPELLS = """
SELECT e.from_on::text, e.to_on::text, e.leaving_reason
FROM enrolments e JOIN upns u USING (tenant_id, pupil_id) JOIN schools s ON s.id = e.school_id
WHERE s.name = $1 AND u.upn = $2 ORDER BY e.from_on
"""


@pytest.fixture
def fill_trust(request: pytest.FixtureRequest) -> Filling:
    return open_window_with_40_pupils if "oak" in request.fixturenames else register_vendor


async def open_window_with_40_pupils(trust: Trust) -> None:
    await opened(await register_vendor(trust))
    await sent(await trust.client("oak", f"school:{URNS['Oak']}=all"), "/v1/pupils", whole(40))


@pytest.fixture
def oak(small_trust: Trust) -> Any:
    """The client of Oak alone, with an open window and 40 pupils there."""
    return small_trust.made[1]


def whole(first: int, last: int | None = None, at: str = "Oak", **changed: Any) -> dict[str, Any]:
    """The complete roll of the pupils from 0 to `first`, or from `first` to `last`."""
    numbers = range(first) if last is None else range(first, last)
    return roll(at, [entry(n) for n in numbers], complete=True, **changed)


async def spells(here: Trust, number: int, at: str = "Oak") -> list[tuple[str, str | None, str | None]]:
    return [tuple(row) for row in await here.operator.fetch(SPELLS, at, upn(number))]


async def test_who_is_absent_leaves_the_day_before(small_trust: Trust, oak: Any) -> None:
    await sent(oak, "/v1/judgements", batch("Oak", [judged(39), judged(38)]))
    version = await small_trust.value(VERSION, small_trust.ids["Oak"])
    answer = await sent(oak, "/v1/pupils", whole(38), **FULL)
    assert (counted(answer), answer["left"]) == ({"unchanged": 38}, 2)
    left = [result for result in answer["results"] if result["outcome"] == "left"]
    assert [(r["at"], r["version"]) for r in left] == [("/complete", 2)] * 2
    assert answer["results"][-2:] == left
    assert await spells(small_trust, 39) == [("2014-09-01", "2018-04-30", "not-on-roll")]
    assert await spells(small_trust, 37) == [("2014-09-01", None, None)]
    assert await small_trust.value("SELECT eligible FROM totals WHERE subject_no = 1 AND aspect_no = 0") == 38
    assert await small_trust.value(VERSION, small_trust.ids["Oak"]) == version + 1
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_the_same_complete_roll_twice_changes_nothing(small_trust: Trust, oak: Any) -> None:
    await sent(oak, "/v1/pupils", whole(38))
    before = await small_trust.everything()
    answer = await sent(oak, "/v1/pupils", whole(38), **FULL)
    assert (counted(answer), answer["left"], len(answer["results"])) == ({"unchanged": 38}, 0, 38)
    assert await small_trust.everything() == before


async def test_a_roll_cut_short_is_refused_and_lists_whom_it_leaves_out(small_trust: Trust, oak: Any) -> None:
    ids = {str(r["id"]): r["upn"] for r in await small_trust.operator.fetch("SELECT id, upn FROM pupils")}
    before = await small_trust.everything()
    for prefer in ("handling=strict", "handling=lenient"):
        refused = await sent(oak, "/v1/pupils", whole(37), 409, Prefer=prefer)
        assert refused["type"].endswith("/too-many-leavers")
        assert refused["detail"].startswith("3 of the 40 pupils on roll")
        named = [ids[issue["message"].split()[0]] for issue in refused["issues"]]
        assert sorted(named) == sorted(upn(n) for n in (37, 38, 39))
        assert {issue["at"] for issue in refused["issues"]} == {"/complete"}
        assert {ids[issue["message"].split()[0]]: issue["reference"] for issue in refused["issues"]} == {
            upn(n): f"P{n}" for n in (37, 38, 39)
        }
        assert not any(upn(n) in str(refused) or f"Surname{n}" in str(refused) for n in (37, 38, 39))
    assert await small_trust.everything() == before
    assert (await sent(oak, "/v1/pupils", whole(37, maxLeavers=8)))["left"] == 3


async def test_references_of_leavers_are_the_clients_own_and_for_those_who_may_read_pupils(small_trust: Trust, oak: Any) -> None:
    writer = await small_trust.client("writer", f"school:{URNS['Oak']}=pupils:write,pupils:upn,pupils:name,pupils:birth")
    other = await small_trust.client("other", f"school:{URNS['Oak']}=all")
    for client in (writer, other):
        rows = [entry(n, reference=f"X{n}") for n in range(37)]
        refused = await sent(client, "/v1/pupils", roll("Oak", rows, complete=True), 409)
        assert [set(issue) for issue in refused["issues"]] == [{"at", "code", "message"}] * 3
    await sent(other, "/v1/pupils", roll("Oak", [entry(39, reference="X39")]))
    refused = await sent(other, "/v1/pupils", roll("Oak", rows, complete=True), 409)
    assert [issue["reference"] for issue in refused["issues"] if "reference" in issue] == ["X39"]
    await sent(writer, "/v1/pupils", roll("Oak", [entry(39, reference="Y39")]))
    assert "reference" not in str((await sent(writer, "/v1/pupils", roll("Oak", rows, complete=True), 409))["issues"])


@pytest.mark.parametrize(
    ("stay", "most", "left"), [(39, 1, 1), (38, 1, None), (39, 0, None), (40, 0, 0), (38, 5, 2), (37, 5, None), (0, 100, 40)]
)
async def test_how_many_may_leave(oak: Any, stay: int, most: int, left: int | None) -> None:
    """A percentage of the 40 on roll, and at least one pupil unless it is 0."""
    answer = await sent(oak, "/v1/pupils?dryRun=true", whole(stay, maxLeavers=most), 409 if left is None else 200)
    assert answer.get("left") == left


async def test_a_refusal_lists_a_hundred_and_says_how_many(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", whole(130))
    refused = await sent(vendor, "/v1/pupils", whole(0), 409)
    assert (len(refused["issues"]), refused["detail"].split(",")[0]) == (100, "130 of the 130 pupils on roll are not in this batch")


async def test_a_rejected_row_keeps_the_child_of_a_reference_in_any_form_of_unicode(vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, reference="Zo\u00eb"), entry(2)]))
    rows = [{"reference": " Zoe\u0308", "unknown": 1}, entry(2)]
    answer = await sent(vendor, "/v1/pupils", roll("Oak", rows, complete=True, maxLeavers=100), Prefer="handling=lenient")
    assert (counted(answer), answer["left"]) == ({"unchanged": 1, "rejected": 1}, 0)


async def test_a_rejected_row_keeps_on_roll_whom_its_own_keys_point_to_and_nobody_else(small_trust: Trust, oak: Any) -> None:
    """By reference, by UPN or by id, whether the row breaks a rule or cannot even be decoded. All others leave."""
    ids = {r["upn"]: str(r["id"]) for r in await small_trust.operator.fetch("SELECT id, upn FROM pupils")}
    bad = whole(38)
    bad["entries"][0] |= {"upn": "A000000000001"}
    bad["entries"][1] |= {"surname": 5}
    bad["entries"][2] = bad["entries"][2] | {"yearGroup": "Nursery"}
    del bad["entries"][2]["reference"]
    bad["entries"][3] = {"id": ids[upn(3)], "sex": "?"}
    bad["entries"][4] = {"reference": " P4 ", "unknown": 1}
    before = await small_trust.everything()
    assert "/entries/0/upn" in issues(await sent(oak, "/v1/pupils", bad, 422))
    assert await small_trust.everything() == before
    bad["entries"][5] |= {"surname": "Renamed"}
    answer = await sent(oak, "/v1/pupils", bad, Prefer="handling=lenient")
    assert (counted(answer), answer["left"]) == ({"updated": 1, "unchanged": 32, "rejected": 5}, 2)
    assert "/complete" not in issues(answer)
    for number in range(5):
        assert await spells(small_trust, number) == [("2014-09-01", None, None)]
    for number in (38, 39):
        assert await spells(small_trust, number) == [("2014-09-01", "2018-04-30", "not-on-roll")]
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_lasting_conflict_freezes_no_leaver(small_trust: Trust, oak: Any) -> None:
    """Night after night one row is refused, points to nobody, and who is absent leaves all the same."""
    stranger = entry(90, reference=None, upn="A000000000001")
    for last, left in ((39, 1), (38, 1), (38, 0)):
        roll_of_night = whole(last) | {"entries": [*whole(last)["entries"], stranger]}
        answer = await sent(oak, "/v1/pupils", roll_of_night, Prefer="handling=lenient")
        assert (answer["left"], answer["rejected"]) == (left, 1)
    assert await spells(small_trust, 39) == [("2014-09-01", "2018-04-30", "not-on-roll")]


async def test_a_complete_roll_is_of_the_one_school_it_names(vendor: Any) -> None:
    for body in (
        whole(2) | {"entries": [entry(1), entry(2, school={"urn": URNS["Elm"]})]},
        {"asOf": "2018-05-01", "complete": True, "entries": [entry(1, school={"urn": URNS["Oak"]})]},
        {"asOf": "2018-05-01", "complete": True, "entries": []},
    ):
        assert issues(await sent(vendor, "/v1/pupils", body, 422)) == {"/complete": "one-school-needed"}
    away = whole(2) | {"school": {"urn": URNS["Quay"]}}
    assert issues(await sent(vendor, "/v1/pupils", away, 422)) == {"/school": "school-not-found"}


async def test_a_spell_ends_no_sooner_than_it_began_and_later_ones_stay(small_trust: Trust, oak: Any) -> None:
    joined = [
        entry(50, enrolments=[{"from": "2018-05-01", "status": "C"}]),
        entry(51, enrolments=[{"from": "2018-09-03", "status": "C"}]),
    ]
    ending = entry(52, enrolments=[{"from": "2014-09-01", "to": "2018-07-20", "status": "C", "leavingReason": "Moves away"}])
    await sent(oak, "/v1/pupils", roll("Oak", [*joined, ending]))
    assert (await sent(oak, "/v1/pupils", whole(40)))["left"] == 1
    assert await spells(small_trust, 50) == [("2018-05-01", "2018-05-01", "not-on-roll")]
    assert await spells(small_trust, 51) == [("2018-09-03", None, None)]
    assert await spells(small_trust, 52) == [("2014-09-01", "2018-07-20", "Moves away")]


async def test_who_comes_back_gets_a_new_spell(small_trust: Trust, oak: Any) -> None:
    await sent(oak, "/v1/pupils", whole(39))
    back = whole(39, asOf="2018-06-20")
    back["entries"].append(entry(39, enrolments=[{"from": "2018-06-18", "status": "C"}]))
    answer = await sent(oak, "/v1/pupils", back)
    assert (counted(answer), answer["left"]) == ({"updated": 1, "unchanged": 39}, 0)
    assert await spells(small_trust, 39) == [("2014-09-01", "2018-04-30", "not-on-roll"), ("2018-06-18", None, None)]
    assert await small_trust.value("SELECT count(*) FROM pupils") == 40
    assert await miscounted(small_trust) == (0, 0, 0)
    never_left = entry(38)
    await sent(oak, "/v1/pupils", whole(38, asOf="2018-06-21"))
    assert counted(await sent(oak, "/v1/pupils", roll("Oak", [never_left], asOf="2018-06-21"))) == {"updated": 1}
    assert await spells(small_trust, 38) == [("2014-09-01", None, None)]


async def test_who_has_left_and_is_named_without_a_spell_is_reported(small_trust: Trust, oak: Any) -> None:
    """A roll that was cut short and is sent whole again would otherwise leave the child off roll, and say nothing."""
    await sent(oak, "/v1/pupils", whole(39))
    again = whole(39)
    again["entries"].append(entry(39, enrolments=[]))
    refused = await oak.post("/v1/pupils", json=again)
    assert (refused.status_code, [(i["at"], i["code"]) for i in refused.json()["issues"]]) == (
        422,
        [("/entries/39/enrolments", "enrolment-required")],
    )
    assert counted(await sent(oak, "/v1/pupils", whole(39) | {"complete": False})) == {"unchanged": 39}


async def test_a_guest_who_is_absent_is_shared_no_longer(small_trust: Trust, oak: Any, vendor: Any) -> None:
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    guest = entry(1, reference="E1", enrolments=[{"from": "2018-01-08", "status": "G"}])
    await sent(vendor, "/v1/pupils", roll("Elm", [guest, *(entry(n) for n in range(200, 220))]))
    assert len((await elm.get("/v1/pupils")).json()["data"]) == 21
    answer = await sent(elm, "/v1/pupils", whole(200, 220, at="Elm"), **FULL)
    assert (answer["left"], answer["results"][-1]["version"]) == (
        1,
        await small_trust.value("SELECT version FROM pupils WHERE upn = $1", upn(1)),
    )
    assert len((await elm.get("/v1/pupils")).json()["data"]) == 20
    assert await spells(small_trust, 1, "Elm") == [("2018-01-08", "2018-04-30", "not-on-roll")]
    assert await spells(small_trust, 1) == [("2014-09-01", None, None)]
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_statements_do_not_grow_with_the_roll(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    await sent(vendor, "/v1/pupils", whole(600))
    with small_trust.statements.counting() as few:
        assert (await sent(vendor, "/v1/pupils?dryRun=true", whole(599)))["left"] == 1
    with small_trust.statements.counting() as many:
        assert (await sent(vendor, "/v1/pupils", whole(150, maxLeavers=75)))["left"] == 450
    assert len(many) <= len(few) <= 26
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_leaving_reason_alone_is_an_update(small_trust: Trust, oak: Any) -> None:
    def left(**said: Any) -> dict[str, Any]:
        return roll("Oak", [entry(1, enrolments=[{"from": "2014-09-01", "to": "2018-04-30", "status": "C"} | said])])

    for reason, outcome in (
        ("Moved house", "updated"),
        ("Moved house", "unchanged"),
        ("Home education", "updated"),
        (None, "updated"),
    ):
        body = left() if reason is None else left(leavingReason=reason)
        assert counted(await sent(oak, "/v1/pupils", body)) == {outcome: 1}
        assert await spells(small_trust, 1) == [("2014-09-01", "2018-04-30", reason)]
    for wrong in ({"leavingReason": "x" * 101}, {"leavingReason": ""}):
        assert issues(await sent(oak, "/v1/pupils", left(**wrong), 422)) == {"/entries/0/enrolments/0/leavingReason": "wrong-value"}
    lasting = left(leavingReason="Moved house", to=None)
    assert issues(await sent(oak, "/v1/pupils", lasting, 422)) == {"/entries/0/enrolments/0": "wrong-value"}


async def test_a_complete_roll_by_graphql(oak: Any) -> None:
    """The mutation takes the same batch and tells the same."""
    mutation = "mutation($i: PupilBatchInput!) { recordPupils(input: $i) { received unchanged left } }"
    answer = (await oak.post("/graphql", json={"query": mutation, "variables": {"i": whole(38)}})).json()
    assert answer["data"]["recordPupils"] == {"received": 38, "unchanged": 38, "left": 2}
    refused = (await oak.post("/graphql", json={"query": mutation, "variables": {"i": whole(30)}})).json()
    assert refused["errors"][0]["extensions"]["code"] == "too-many-leavers"
    assert {issue["reference"] for issue in refused["errors"][0]["extensions"]["problem"]["issues"]} == {
        f"P{n}" for n in range(30, 38)
    }


async def test_a_rejected_row_keeps_the_child_of_a_merged_record(small_trust: Trust, vendor: Any) -> None:
    """By its old id, and by the reference or the UPN that came with it."""
    rows = [entry(1), entry(2), entry(3)]
    made = await sent(vendor, "/v1/pupils", roll("Oak", rows), **FULL)
    first, second, _ = (result["id"] for result in made["results"])
    body = {"expectedVersion": 1, "into": first, "intoVersion": 1}
    token = (await sent(vendor, f"/v1/pupils/{second}/merge?dryRun=true", body))["confirmation"]
    await sent(vendor, f"/v1/pupils/{second}/merge", body | {"confirmation": token})
    without_keys = {name: value for name, value in entry(2).items() if name not in ("reference", "upn")}
    for row, code in (
        (without_keys | {"id": second}, "pupil-merged"),
        ({"id": second, "sex": "?"}, "wrong-value"),
        (without_keys | {"reference": "P2", "yearGroup": "99"}, "year-group-invalid"),
        (without_keys | {"upn": upn(2), "yearGroup": "99"}, "year-group-invalid"),
    ):
        whole_roll = roll("Oak", [row, entry(3)], complete=True, maxLeavers=100)
        answer = await sent(vendor, "/v1/pupils?dryRun=true", whole_roll, Prefer="handling=lenient")
        assert (answer["left"], answer["rejected"], code in issues(answer).values()) == (0, 1, True)
    mutation = 'mutation($i: PupilBatchInput!) { recordPupils(input: $i, handling: "lenient") { left rejected issues { code } } }'
    whole_roll = roll("Oak", [without_keys | {"id": second}, entry(3)], complete=True, maxLeavers=100)
    answer = (await vendor.post("/graphql", json={"query": mutation, "variables": {"i": whole_roll}})).json()
    assert answer["data"]["recordPupils"] == {"left": 0, "rejected": 1, "issues": [{"code": "pupil-merged"}]}
