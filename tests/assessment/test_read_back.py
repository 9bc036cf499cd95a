"""What a window collects and why, and what is stored of a pupil beside names: it can be read by who may, and by nobody else."""

from typing import Any

import pytest

from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.small_trust import WINDOW, Trust, asked, entry, opened, roll, sent, upn, window

REASONS = {"actions": "Groups are made anew.", "timeToSetAndAnalyse": "Two hours.", "timeToAct": 'A "morning".'}
COLLECTS = """query ($code: [String!]) { windows(first: 1, where: {code: $code}) { nodes {
    collects(where: {subjectCode: ["writing"], aspect: ["main"]}, first: 20) { nodes {
        schoolId schemeCode schemeVersion rounding grades(first: 100) { nodes { code label } } } } } } }"""


@pytest.fixture
def fill_trust() -> Filling:
    """Nothing is stored yet."""
    return register_vendor


async def collected(client: Any, code: str = WINDOW, **more: Any) -> list[dict[str, Any]]:
    """What a window collects, as REST answers it."""
    (found,) = (await client.get("/v1/windows", params={"code": code})).json()["data"]
    answer = await client.get(
        f"/v1/windows/{found['id']}/collects",
        params={"first": 20, **{name.replace("_", "."): value for name, value in more.items()}},
    )
    assert answer.status_code == 200, answer.text
    return list(answer.json()["data"])


async def test_a_window_lists_what_it_collects_with_each_schools_scheme_version_and_its_grades(
    small_trust: Trust, vendor: Any
) -> None:
    own = {
        "tenant": {"trust": {"groupUid": 4128}},
        "code": "own",
        "name": "Own",
        "rounding": 1,
        "grades": [{"code": "1", "label": "1"}],
    }
    made = await sent(vendor, "/v1/schemes", own, 201)
    await sent(vendor, f"/v1/schemes/{made['id']}/versions", {"rounding": 2, "grades": [{"code": "2", "label": "Two"}]}, 201)
    lines = [
        {"subject": "writing", "scheme": "ks2-writing-ta"},
        {"subject": "writing", "scheme": "own", "schools": [{"urn": 100002}]},
    ]
    await sent(vendor, "/v1/windows", window("summer", collects=lines), 201)
    rows = await collected(
        vendor, "summer", include="grades,school", fields="schoolId,schemeCode,schemeVersion,rounding,grades.code"
    )
    by_school = {row["school"]["name"]: row for row in rows}
    assert set(by_school) == {"Oak", "Elm", "Ash"}
    elm = by_school["Elm"]
    assert (elm["schemeCode"], elm["schemeVersion"], elm["rounding"]) == ("own", 2, 2)
    assert [grade["code"] for grade in elm["grades"]["data"]] == ["2"]
    oak = [grade["code"] for grade in by_school["Oak"]["grades"]["data"]]
    assert {"WTS", "EXS", "GDS", "BLW", "D"} <= {*oak}  # the codes of 2017-18 and no others: EM came in 2021-22
    assert "EM" not in oak
    answer = await asked(vendor, COLLECTS, code=["summer"])
    (found,) = answer["windows"]["nodes"]
    told = {node["schoolId"]: node for node in found["collects"]["nodes"]}
    for row in rows:
        node = told[row["schoolId"]]
        assert [grade["code"] for grade in node["grades"]["nodes"]] == [grade["code"] for grade in row["grades"]["data"]]
        assert [node[name] for name in ("schemeCode", "schemeVersion", "rounding")] == [
            row[name] for name in ("schemeCode", "schemeVersion", "rounding")
        ]


async def test_a_later_window_has_the_codes_of_its_own_year(small_trust: Trust, vendor: Any) -> None:
    later = {"academicYear": "2022-23", "censusOn": "2023-05-09"}
    await sent(vendor, "/v1/windows", window("later", **later), 201)
    of_oak = {"subjectCode": "writing", "aspect": "main", "schoolId": str(small_trust.ids["Oak"])}
    (row,) = await collected(vendor, "later", include="grades", grades_first=100, **of_oak)
    codes = [grade["code"] for grade in row["grades"]["data"]]
    assert "EM" in codes
    assert not {"BLW", "D"} & {*codes}
    whole = (await vendor.get(f"/v1/window-subjects/{row['id']}/grades", params={"first": 1000})).json()["data"]
    assert [grade["code"] for grade in whole] == codes


async def test_what_other_schools_are_asked_for_is_shown_to_who_reaches_them(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    elm = await small_trust.client("elm", "school:100002=windows:read,schemes:read,schools:read")
    quay = await small_trust.client("quay", "school:100004=all")
    blind = await small_trust.client("blind", "trust:4128=windows:read,schools:read")
    everywhere = await collected(vendor)
    assert {row["schoolId"] for row in everywhere} == {str(small_trust.ids[name]) for name in ("Oak", "Elm", "Ash")}
    assert {row["schoolId"] for row in await collected(elm)} == {str(small_trust.ids["Elm"])}
    assert (await elm.get("/v1/window-subjects", params={"first": 1000})).json()["data"] == await collected(elm)
    answer = await asked(elm, COLLECTS, code=[WINDOW])
    assert [node["schoolId"] for node in answer["windows"]["nodes"][0]["collects"]["nodes"]] == [str(small_trust.ids["Elm"])]
    ((oak, *_),) = [[row["id"] for row in everywhere if row["schoolId"] == str(small_trust.ids["Oak"])]]
    for client in (elm, quay):
        assert (await client.get(f"/v1/window-subjects/{oak}")).status_code == 404
        assert (await client.get(f"/v1/window-subjects/{oak}/grades")).status_code == 404
        assert (await asked(client, "query ($id: ID!) { windowSubject(id: $id) { id } node(id: $id) { id } }", id=oak)) == {
            "windowSubject": None,
            "node": None,
        }
    assert (await quay.get("/v1/window-subjects")).json()["data"] == []
    assert len(await collected(blind)) == len(everywhere)
    assert (await blind.get(f"/v1/window-subjects/{oak}/grades")).status_code == 403  # grades need schemes:read
    for id_ in ("x", f"{oak}0000", oak.replace("-0", "-00"), oak[:-1]):
        assert (await vendor.get(f"/v1/window-subjects/{id_}")).status_code == 404


async def test_the_reasons_for_one_more_window_can_be_read(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/windows", window("more", frequencyReasons=REASONS), 201)
    await sent(vendor, "/v1/windows", window("none", frequencyReasons=None), 201)
    rows = {row["code"]: row for row in (await vendor.get("/v1/windows")).json()["data"]}
    assert rows["more"]["frequencyReasons"] == REASONS
    assert rows["none"]["frequencyReasons"] is None
    row = await vendor.get(f"/v1/windows/{rows['more']['id']}", params={"fields": "frequencyReasons"})
    assert row.json() == {"frequencyReasons": REASONS}
    query = "{ windows { nodes { code frequencyReasons { why: actions timeToAct __typename } } } }"
    told = {node["code"]: node["frequencyReasons"] for node in (await asked(vendor, query))["windows"]["nodes"]}
    assert told == {
        "none": None,
        "more": {"why": REASONS["actions"], "timeToAct": REASONS["timeToAct"], "__typename": "WindowFrequencyReasons"},
    }
    for refused in ({"frequencyReasons": "x"}, {"sort": "frequencyReasons"}):
        assert (await vendor.get("/v1/windows", params=refused)).status_code == 400
    spreadsheet = await vendor.get("/v1/windows", params={"fields": "code,frequencyReasons", "format": "csv"})
    assert spreadsheet.status_code == 200


SPELLS = [
    {"kind": "sen", "value": "K", "from": "2016-09-01", "to": "2017-08-31"},
    {"kind": "sen", "value": "E", "from": "2017-09-01"},
    {"kind": "lookedAfter", "value": "true", "from": "2017-10-01"},
]
OF_PUPIL = "{ pupils(roll: all) { nodes { characteristics { nodes { kind value from to } } } } }"


async def test_characteristics_are_dated_spells_behind_a_scope_of_their_own(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, characteristics=SPELLS)]))
    await sent(
        vendor, "/v1/pupils", roll("Elm", [entry(2, characteristics=[{"kind": "eal", "value": "ENB", "from": "2017-09-01"}])])
    )
    expected = sorted([{"to": None, **spell} for spell in SPELLS], key=lambda spell: (spell["kind"], spell["from"]))
    pupils = (
        await vendor.get(
            "/v1/pupils",
            params={
                "include": "characteristics,school",
                "fields": "id,school.name,characteristics.kind,characteristics.value,characteristics.from,characteristics.to",
            },
        )
    ).json()["data"]
    by_school = {pupil["school"]["name"]: pupil for pupil in pupils}
    assert by_school["Oak"]["characteristics"]["data"] == expected
    assert [spell["value"] for spell in by_school["Elm"]["characteristics"]["data"]] == ["1"]
    linked = (
        await vendor.get(f"/v1/pupils/{by_school['Oak']['id']}/characteristics", params={"fields": "kind,value,from,to"})
    ).json()["data"]
    assert linked == expected
    told = [node["characteristics"]["nodes"] for node in (await asked(vendor, OF_PUPIL))["pupils"]["nodes"]]
    assert expected in told
    elm = await small_trust.client("elm", "trust:4128=pupils:read", "school:100002=pupils:sensitive")
    plain = await small_trust.client("plain", "trust:4128=pupils:read,pupils:name,judgements:read")
    assert [row["kind"] for row in (await elm.get("/v1/characteristics")).json()["data"]] == ["eal"]
    assert (await elm.get(f"/v1/pupils/{by_school['Oak']['id']}/characteristics")).json()["data"] == []
    assert (await elm.get("/v1/characteristics", params={"kind": "lookedAfter"})).json()["data"] == []
    for path in ("/v1/characteristics", f"/v1/pupils/{by_school['Oak']['id']}/characteristics"):
        refused = await plain.get(path)
        assert (refused.status_code, refused.json()["issues"][0]["code"]) == (403, "scope-missing")
    refused = (await plain.post("/graphql", json={"query": OF_PUPIL})).json()
    assert "pupils:sensitive" in str(refused["errors"])


async def test_former_upns_are_the_pupils_own(small_trust: Trust, vendor: Any) -> None:
    """A temporary number that was replaced is told; one that turned out to be another child's is not."""
    temporary, wrong = upn(1, temporary=True), upn(2)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, upn=temporary)]))
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, upn=wrong)]))
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(2, forename="Ben", dateOfBirth="2007-05-05")]))

    async def told(client: Any) -> dict[str, Any]:
        rows = (await client.get("/v1/pupils", params={"fields": "upn,formerUpns"})).json()["data"]
        nodes = (await asked(client, "{ pupils { nodes { upn formerUpns } } }"))["pupils"]["nodes"]
        assert rows == nodes
        return {row["upn"]: row["formerUpns"] for row in rows}

    assert await told(vendor) == {upn(1): [temporary], upn(2): []}
    found = await sent(vendor, "/v1/pupils/lookup", {"where": {"formerUpns": temporary}, "fields": ["upn"]})
    assert found["data"] == [{"upn": upn(1)}]
    assert (await vendor.get("/v1/pupils", params={"formerUpns": temporary})).status_code == 400
    elm = await small_trust.client("elm", "trust:4128=pupils:read", "school:100002=pupils:upn")
    assert await told(elm) == {None: None}
    plain = await small_trust.client("plain", "trust:4128=pupils:read")
    assert (await plain.get("/v1/pupils", params={"fields": "formerUpns"})).status_code == 403
