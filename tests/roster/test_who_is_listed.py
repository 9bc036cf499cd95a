"""Who a list of pupils shows: who is on roll today, unless the request says otherwise or names the rows it means."""

from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from tests.fixtures.clock import set_clock
from tests.fixtures.small_trust import Trust, asked, entry, roll, sent

TODAY = datetime(2018, 5, 14, 10, tzinfo=UTC)
CURRENT, LEFT, COMING, BACK_SOON = 1, 2, 3, 4
SPELLS = {
    CURRENT: [{"from": "2014-09-01", "status": "C"}],
    LEFT: [{"from": "2014-09-01", "to": "2018-03-29", "status": "C"}],
    COMING: [{"from": "2018-05-15", "status": "C"}],
    BACK_SOON: [{"from": "2014-09-01", "to": "2018-04-30", "status": "C"}, {"from": "2018-05-15", "status": "C"}],
}
EVERYBODY = {f"P{n}" for n in SPELLS}
BY_ROLL = {"current": {f"P{CURRENT}"}, "left": {f"P{LEFT}", f"P{BACK_SOON}"}, "all": EVERYBODY}


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, TODAY)


@pytest.fixture
async def oak(small_trust: Trust, vendor: httpx2.AsyncClient) -> httpx2.AsyncClient:
    """The client of the trust, after a roll of Oak."""
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n, enrolments=spells) for n, spells in SPELLS.items()]))
    return vendor


async def listed(client: httpx2.AsyncClient, path: str, **parameters: Any) -> set[str]:
    answer = await client.get(path, params={"fields": "reference"} | parameters)
    assert answer.status_code == 200, answer.text
    return {row["reference"] for row in answer.json()["data"]}


async def connected(client: httpx2.AsyncClient, arguments: str = "") -> set[str]:
    """The references that GraphQL's `pupils` shows."""
    data = await asked(client, f"{{ pupils{arguments} {{ nodes {{ reference }} }} }}")
    return {node["reference"] for node in data["pupils"]["nodes"]}


@pytest.mark.parametrize("value", BY_ROLL)
async def test_a_list_shows_who_the_roll_parameter_says(small_trust: Trust, oak: httpx2.AsyncClient, value: str) -> None:
    school = small_trust.ids["Oak"]
    assert await listed(oak, "/v1/pupils", roll=value) == BY_ROLL[value]
    assert await listed(oak, f"/v1/schools/{school}/pupils", roll=value) == BY_ROLL[value]
    parameters = {"include": "pupils", "fields": "id,pupils.reference", "pupils.roll": value}
    nested = (await oak.get(f"/v1/schools/{school}", params=parameters)).json()
    assert {row["reference"] for row in nested["pupils"]["data"]} == BY_ROLL[value]
    assert await connected(oak, f"(roll: {value})") == BY_ROLL[value]
    query = "query($roll: PupilRoll, $id: ID!) { pupils(roll: $roll) { nodes { reference } } school(id: $id) { pupils(roll: $roll) { nodes { reference } } } }"
    data = await asked(oak, query, roll=value, id=str(school))
    for page in (data["pupils"], data["school"]["pupils"]):
        assert {node["reference"] for node in page["nodes"]} == BY_ROLL[value]


async def test_without_the_parameter_a_list_shows_who_is_on_roll_today(small_trust: Trust, oak: httpx2.AsyncClient) -> None:
    school = small_trust.ids["Oak"]
    current = BY_ROLL["current"]
    assert await listed(oak, "/v1/pupils") == current
    assert await listed(oak, "/v1/pupils", yearGroup="6", sort="-yearGroup") == current
    assert await listed(oak, f"/v1/schools/{school}/pupils") == current
    nested = (await oak.get("/v1/schools", params={"include": "pupils", "fields": "id,pupils.reference", "id": str(school)})).json()
    assert {row["reference"] for row in nested["data"][0]["pupils"]["data"]} == current
    assert (
        await connected(oak)
        == await connected(oak, '(where: {yearGroup: ["6"]})')
        == await connected(oak, "(roll: null)")
        == current
    )
    data = await asked(oak, "{ schools { nodes { urn pupils { nodes { reference } } } } }")
    shown = {node["urn"]: {row["reference"] for row in node["pupils"]["nodes"]} for node in data["schools"]["nodes"]}
    assert shown[100001] == current


async def test_who_names_rows_or_asks_what_changed_is_shown_everybody(oak: httpx2.AsyncClient) -> None:
    """A mirror must see the leaver go."""
    since = "2000-01-01T00:00:00Z"
    assert await listed(oak, "/v1/pupils", **{"changedAt.gte": since}) == EVERYBODY
    assert await listed(oak, "/v1/pupils", **{"changedAt.gte": since, "roll": "current"}) == BY_ROLL["current"]
    assert await connected(oak, f'(where: {{range: {{changedAt: {{gte: "{since}"}}}}}})') == EVERYBODY
    answer = await oak.get("/v1/pupils", params={"roll": "all", "fields": "id,reference"})
    ids = {row["reference"]: row["id"] for row in answer.json()["data"]}
    left = ids[f"P{LEFT}"]
    assert await listed(oak, "/v1/pupils", id=left) == {f"P{LEFT}"}
    assert (await oak.get(f"/v1/pupils/{left}")).status_code == 200
    assert await connected(oak, f'(where: {{id: ["{left}"]}})') == {f"P{LEFT}"}
    assert await asked(oak, f'{{ pupil(id: "{left}") {{ id }} node(id: "{left}") {{ id }} }}') == {
        "pupil": {"id": left},
        "node": {"id": left},
    }
    for where in ({"surname": [f"Surname{n}" for n in SPELLS]}, {"yearGroup": "6"}, {}):
        found = await sent(oak, "/v1/pupils/lookup", {"where": where, "fields": ["reference"]})
        assert {row["reference"] for row in found["data"]} == EVERYBODY
    narrowed = await sent(oak, "/v1/pupils/lookup", {"where": {"yearGroup": "6"}, "fields": ["reference"], "roll": "left"})
    assert {row["reference"] for row in narrowed["data"]} == BY_ROLL["left"]
    assert await connected(oak, '(where: {dateOfBirth: ["2007-01-01"]})') == EVERYBODY
    assert await listed(oak, "/v1/pupils", onRoll="false") == EVERYBODY - BY_ROLL["current"]
    assert await listed(oak, "/v1/pupils", **{"leftOn.gte": "2018-04-01"}) == {f"P{BACK_SOON}"}
    data = await asked(oak, "{ enrolments { nodes { pupil { reference } } } }")
    assert {node["pupil"]["reference"] for node in data["enrolments"]["nodes"]} == EVERYBODY


async def test_groups_and_days_of_the_past_show_everybody(
    small_trust: Trust, oak: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [{"reference": f"P{n}", "from": "2017-09-01"} for n in (CURRENT, LEFT)]
    group = {
        "school": {"urn": 100001},
        "academicYear": "2017-18",
        "asOf": "2018-05-01",
        "entries": [{"code": "6A", "name": "6A", "kind": "class", "members": members}],
    }
    answer = await sent(oak, "/v1/groups", group, prefer="return=representation")
    pupils = f"/v1/groups/{answer['results'][0]['id']}/pupils"
    school = small_trust.ids["Oak"]
    assert await listed(oak, pupils, on="2018-03-01") == {"P1", "P2"}
    assert await listed(oak, pupils, on="2018-03-01", roll="current") == {"P1"}
    assert await listed(oak, f"/v1/schools/{school}/onRoll", on="2018-03-01") == {"P1", "P2", "P4"}
    assert await listed(oak, f"/v1/schools/{school}/onRoll", on="2018-03-01", roll="left") == {"P2", "P4"}
    assert await listed(oak, f"/v1/schools/{school}/onRoll") == BY_ROLL["current"]


async def test_a_pupil_says_whether_and_how_it_is_on_roll(oak: httpx2.AsyncClient) -> None:
    fields = "reference,onRoll,leftOn,enrolmentStatus"
    rows = (await oak.get("/v1/pupils", params={"roll": "all", "fields": fields})).json()["data"]
    assert {row.pop("reference"): row for row in rows} == {
        "P1": {"onRoll": True, "leftOn": None, "enrolmentStatus": "C"},
        "P2": {"onRoll": False, "leftOn": "2018-03-29", "enrolmentStatus": None},
        "P3": {"onRoll": False, "leftOn": None, "enrolmentStatus": None},
        "P4": {"onRoll": False, "leftOn": "2018-04-30", "enrolmentStatus": None},
    }
    data = await asked(oak, "{ pupils(roll: all, orderBy: [{field: leftOn}]) { nodes { leftOn onRoll enrolmentStatus } } }")
    assert [node["leftOn"] for node in data["pupils"]["nodes"]] == ["2018-03-29", "2018-04-30", None, None]
    row = (await oak.get(f"/v1/pupils/{(await oak.get('/v1/pupils')).json()['data'][0]['id']}")).json()
    assert (row["onRoll"], row["leftOn"], row["enrolmentStatus"]) == (True, None, "C")


async def test_the_day_after_the_last_day_the_pupil_has_left(
    small_trust: Trust, vendor: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written at midnight in England, and yet no response from before is confirmed."""
    spell = {"from": "2014-09-01", "to": "2018-05-14", "status": "C"}
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, enrolments=[spell])]))
    paths = ["/v1/pupils?fields=reference", f"/v1/schools/{small_trust.ids['Oak']}/pupils?fields=reference&roll=left"]
    (row,) = (await vendor.get("/v1/pupils")).json()["data"]
    paths.append(f"/v1/pupils/{row['id']}?fields=onRoll,leftOn&include=school")
    set_clock(monkeypatch, datetime(2018, 5, 14, 22, 59, 59, tzinfo=UTC))
    before = {path: await vendor.get(path) for path in paths}
    assert [len(answer.json().get("data", [])) for answer in before.values()] == [1, 0, 0]
    for path, answer in before.items():
        assert (await vendor.get(path, headers={"If-None-Match": answer.headers["ETag"]})).status_code == 304
    set_clock(monkeypatch, datetime(2018, 5, 14, 23, 0, 0, tzinfo=UTC))
    after = [await vendor.get(path, headers={"If-None-Match": answer.headers["ETag"]}) for path, answer in before.items()]
    assert [answer.status_code for answer in after] == [200, 200, 200]
    assert [len(answer.json().get("data", [])) for answer in after] == [0, 1, 0]
    assert (after[2].json()["onRoll"], after[2].json()["leftOn"]) == (False, "2018-05-14")


async def test_a_second_school_sees_its_own_enrolment(small_trust: Trust, vendor: httpx2.AsyncClient) -> None:
    main = {"from": "2014-09-01", "status": "M"}
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, enrolments=[main])]))
    second = {"from": "2018-01-08", "to": "2018-05-11", "status": "S"}
    await sent(vendor, "/v1/pupils", roll("Elm", [entry(1, reference="E1", enrolments=[second])], asOf="2018-01-08"))
    fields = "schoolId,onRoll,leftOn,enrolmentStatus"
    elm = await small_trust.client("elm", "school:100002=all")
    oak = await small_trust.client("oak", "school:100001=all")

    async def told(client: httpx2.AsyncClient, of: str) -> list[dict[str, Any]]:
        rows = (await client.get("/v1/pupils", params={"roll": of, "fields": fields})).json()["data"]
        for row in rows:
            assert row.pop("schoolId") == str(small_trust.ids["Oak"])
        return rows  # type: ignore[no-any-return]

    here = {"onRoll": True, "leftOn": None, "enrolmentStatus": "M"}
    gone = {"onRoll": False, "leftOn": "2018-05-11", "enrolmentStatus": None}
    assert (await told(oak, "current"), await told(oak, "left")) == ([here], [])
    assert (await told(vendor, "current"), await told(vendor, "left")) == ([here], [])
    assert (await told(elm, "current"), await told(elm, "left"), await told(elm, "all")) == ([], [gone], [gone])
    assert (await elm.get("/v1/pupils", params={"roll": "all", "onRoll": "true"})).json()["data"] == []


async def test_a_schools_pupils_are_on_roll_at_that_school(small_trust: Trust, vendor: httpx2.AsyncClient) -> None:
    """Who left the main school, and is a guest elsewhere, is no pupil of the main school today."""
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, enrolments=[{"from": "2014-09-01", "status": "M"}])]))
    guest = {"from": "2018-01-08", "status": "G"}
    await sent(vendor, "/v1/pupils", roll("Elm", [entry(1, reference="E1", enrolments=[guest])], asOf="2018-01-08"))
    ended = {"from": "2014-09-01", "to": "2018-05-11", "status": "M"}
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, enrolments=[ended])], asOf="2018-05-12"))
    oak = f"/v1/schools/{small_trust.ids['Oak']}/pupils"
    assert [len(await listed(vendor, oak, roll=value)) for value in ("current", "left", "all")] == [0, 1, 1]
    assert [len(await listed(vendor, "/v1/pupils", roll=value)) for value in ("current", "left", "all")] == [1, 0, 1]


async def test_a_cursor_holds_for_one_value_of_roll(oak: httpx2.AsyncClient) -> None:
    await sent(oak, "/v1/pupils", roll("Oak", [entry(n) for n in (5, 6, 7)]))
    page = (await oak.get("/v1/pupils", params={"first": 2})).json()["page"]
    same = await oak.get("/v1/pupils", params={"first": 2, "after": page["endCursor"], "roll": "current"})
    assert (same.status_code, len(same.json()["data"]), same.json()["page"]["hasMore"]) == (200, 2, False)
    other = await oak.get("/v1/pupils", params={"first": 2, "after": page["endCursor"], "roll": "all"})
    assert (other.status_code, other.json()["issues"][0]["code"]) == (400, "cursor-invalid")
    first = await oak.get("/v1/pupils", params={"first": 3, "roll": "all"})
    link = first.headers["Link"].split(";")[0].strip("<>")
    assert "roll=all" in link
    assert len((await oak.get(link)).json()["data"]) == 3
    document = "{ pupils(first: 2, roll: all, after: %s) { nodes { id } } }"
    answer = (await oak.post("/graphql", json={"query": document % f'"{page["endCursor"]}"'})).json()
    assert answer["errors"][0]["extensions"]["problem"]["issues"][0]["code"] == "cursor-invalid"


async def test_a_spreadsheet_shows_the_same(oak: httpx2.AsyncClient) -> None:
    for value, references in BY_ROLL.items():
        text = (await oak.get("/v1/pupils", params={"roll": value, "format": "csv", "fields": "reference,onRoll,leftOn"})).text
        assert {line.split(",")[0] for line in text.splitlines()[1:]} == references
    assert "P2,false,2018-03-29" in (await oak.get("/v1/pupils?roll=left&format=csv&fields=reference,onRoll,leftOn")).text


@pytest.mark.parametrize(
    ("path", "place", "code"),
    [
        ("/v1/pupils?roll=gone", "roll", "parameter-invalid"),
        ("/v1/pupils?roll=", "roll", "parameter-invalid"),
        ("/v1/pupils?roll=all&roll=left", "roll", "parameter-repeated"),
        ("/v1/schools?include=pupils&pupils.roll=here", "pupils.roll", "parameter-invalid"),
        ("/v1/schools?roll=all", "roll", "filter-unknown"),
        ("/v1/judgements?include=pupil&pupil.roll=all", "pupil.roll", "link-to-one"),
        ("/v1/schools?include=groups&groups.roll=all", "groups.roll", "parameter-unknown"),
    ],
)
async def test_another_value_or_place_is_named(vendor: httpx2.AsyncClient, path: str, place: str, code: str) -> None:
    answer = await vendor.get(path)
    assert answer.status_code == 400
    assert [(issue["at"], issue["code"]) for issue in answer.json()["issues"]] == [(place, code)]


async def test_a_row_takes_no_roll(oak: httpx2.AsyncClient) -> None:
    (row,) = (await oak.get("/v1/pupils")).json()["data"]
    answer = await oak.get(f"/v1/pupils/{row['id']}?roll=all")
    assert (answer.status_code, answer.json()["issues"][0]["code"]) == (400, "parameter-unknown")
    wrong = await sent(oak, "/v1/pupils/lookup", {"where": {}, "roll": "gone"}, 400)
    assert [(issue["at"], issue["code"]) for issue in wrong["issues"]] == [("/roll", "parameter-invalid")]
    wrong = await sent(oak, "/v1/pupils/lookup", {"where": {}, "roll": ["all"]}, 400)
    assert [(issue["at"], issue["code"]) for issue in wrong["issues"]] == [("/roll", "parameter-invalid")]


async def test_a_list_of_a_roll_is_one_statement(small_trust: Trust, oak: httpx2.AsyncClient) -> None:
    for value in BY_ROLL:
        await oak.get("/v1/pupils", params={"roll": value})
        with small_trust.statements.counting() as statements:
            assert (
                await oak.get("/v1/pupils", params={"roll": value, "fields": "id,onRoll,leftOn,enrolmentStatus"})
            ).status_code == 200
        assert len(statements) == 1
