"""What a planned roll says can be read until its day, row by row, in both interfaces, by who may read it of pupils."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fixtures.clock import set_clock
from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, roll, sent, upn
from tests.roster.test_planned_rolls import AFTER, FIRST, JUNE, new, old, planned

SAID = new(
    1,
    upn=upn(1).lower(),
    formerUpns=[upn(1, temporary=True)],
    preferredForename="Sammy",
    preferredSurname="Other",
    yearGroup="Year 6",
    enrolments=[
        {"from": "2014-09-01", "to": "2016-07-20", "status": "C", "leavingReason": "moved"},
        {"from": "2016-09-05", "status": "M"},
    ],
    characteristics=[
        {"kind": "sen", "value": "k", "from": FIRST, "to": "2018-01-31"},
        {"kind": "fsm", "value": "true", "from": FIRST},
    ],
)
FIELDS = (
    *("number", "outcome", "reference", "upn", "formerUpns", "surname", "forename", "preferredSurname", "preferredForename"),
    *("dateOfBirth", "sex", "yearGroup", "saysEnrolments", "sameChild", "actor"),
)
SPELL, CHARACTERISTIC = ("status", "from", "to", "leavingReason"), ("kind", "value", "from", "to")
IDENTIFYING = ("upn", "surname", "forename", "preferredSurname", "preferredForename", "dateOfBirth")


@pytest.fixture
async def oak(small_trust: Trust, vendor: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client of Oak, in June 2017: pupils 1 and 2 are on roll."""
    set_clock(monkeypatch, JUNE)
    await sent(vendor, "/v1/pupils", roll("Oak", [old(1), old(2)], asOf="2017-05-01"))
    return await small_trust.client("oak", f"school:{URNS['Oak']}=all")


async def read(client: Any, **where: str) -> list[dict[str, Any]]:
    """The planned rows, alike in both interfaces."""
    names = ["id", "plannedRollId", "schoolId", "pupilId", *FIELDS, *(f"enrolments.{n}" for n in SPELL)]
    names += [f"characteristics.{n}" for n in CHARACTERISTIC]
    answer = await client.get(
        "/v1/planned-pupils", params={"fields": ",".join(names), "include": "enrolments,characteristics", **where}
    )
    assert answer.status_code == 200, answer.text
    rows = [row | {link: row[link]["data"] for link in ("enrolments", "characteristics")} for row in answer.json()["data"]]
    links = f"enrolments {{ nodes {{ {' '.join(SPELL)} }} }} characteristics {{ nodes {{ {' '.join(CHARACTERISTIC)} }} }}"
    query = f"{{ plannedPupils {{ nodes {{ id plannedRollId schoolId pupilId {' '.join(FIELDS)} {links} }} }} }}"
    nodes = (await asked(client, query))["plannedPupils"]["nodes"]
    same = [row | {link: row[link]["nodes"] for link in ("enrolments", "characteristics")} for row in nodes]
    assert where or same == rows
    return rows


async def test_every_field_of_a_row_is_read_back_until_its_day(
    small_trust: Trust, oak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pupils = {row["upn"]: row["id"] for row in (await oak.get("/v1/pupils?fields=id,upn")).json()["data"]}
    confirmed = new(2, surname="Corrected", enrolments=None, id=pupils[upn(2)], sameChild=True, actor="Head")
    answer = await planned(oak, SAID, confirmed, new(4, enrolments=[{"from": FIRST, "status": "C"}]))
    (roll_id,) = answer["plannedRollIds"]
    first, second, third = await read(oak)
    assert [row["id"] for row in (first, second, third)] == [f"{roll_id}-{n}" for n in range(3)]
    assert [row["pupilId"] for row in (first, second, third)] == [pupils[upn(1)], pupils[upn(2)], None]
    assert [row["outcome"] for row in (first, second, third)] == ["updated", "updated", "created"]
    assert {name: first[name] for name in FIELDS if name not in ("outcome", "actor")} == {
        **{"number": 0, "reference": "P1", "upn": upn(1), "formerUpns": [upn(1, temporary=True)]},
        **{"surname": "Surname1", "forename": "Sam", "preferredSurname": "Other", "preferredForename": "Sammy"},
        **{"dateOfBirth": "2007-01-01", "sex": "M", "yearGroup": "6", "saysEnrolments": True, "sameChild": False},
    }
    assert first["enrolments"] == [
        {"status": "C", "from": "2014-09-01", "to": "2016-07-20", "leavingReason": "moved"},
        {"status": "M", "from": "2016-09-05", "to": None, "leavingReason": None},
    ]
    assert first["characteristics"] == [
        {"kind": "sen", "value": "K", "from": FIRST, "to": "2018-01-31"},
        {"kind": "fsm", "value": "targeted", "from": FIRST, "to": None},
    ]
    assert [second[name] for name in ("surname", "saysEnrolments", "sameChild", "actor", "enrolments")] == [
        *("Corrected", False, True, "Head"),
        [],
    ]
    assert (await oak.get(f"/v1/planned-pupils/{roll_id}-2")).json()["upn"] == upn(4)
    for id_ in (f"{roll_id}-3", f"{roll_id}-02", roll_id):
        assert (await oak.get(f"/v1/planned-pupils/{id_}")).status_code == 404
    below = (await oak.get(f"/v1/planned-rolls/{roll_id}/pupils", params={"fields": "id", "outcome": "created"})).json()
    assert below["data"] == [{"id": f"{roll_id}-2"}]
    assert [row["id"] for row in await read(oak, yearGroup="Y6", plannedRollId=roll_id)] == [f"{roll_id}-{n}" for n in range(3)]
    set_clock(monkeypatch, AFTER)
    assert await read(oak) == []
    assert (await oak.get("/v1/planned-rolls?fields=state,rejected")).json()["data"] == [{"state": "applied", "rejected": 0}]


async def test_rows_are_paged_and_go_with_their_roll(oak: Any) -> None:
    (first,) = (await planned(oak, *(new(n, enrolments=[{"from": FIRST, "status": "C"}]) for n in range(3, 10))))["plannedRollIds"]
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await oak.get(f"/v1/planned-rolls/{first}/pupils", params={"first": 3, "fields": "upn"} | after)).json()
        seen += [row["upn"] for row in page["data"]]
        if not page["page"]["hasMore"]:
            break
        after = {"after": page["page"]["endCursor"]}
    assert seen == [upn(n) for n in range(3, 10)]
    await planned(oak, new(3, enrolments=[{"from": FIRST, "status": "C"}], surname="Later"))
    assert sorted(row["surname"] for row in await read(oak)) == ["Later", *(f"Surname{n}" for n in range(4, 10))]
    await sent(oak, f"/v1/planned-rolls/{first}/withdraw")
    assert [row["surname"] for row in await read(oak)] == ["Later"]


async def test_a_row_is_shown_within_reach_and_its_fields_by_their_scopes(small_trust: Trust, oak: Any, vendor: Any) -> None:
    await planned(oak, SAID)
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    await planned(elm, new(1, reference="Elm-1", enrolments=[{"from": FIRST, "status": "C"}]), at="Elm")
    (mine,) = await read(elm)
    assert (mine["schoolId"], mine["reference"], mine["pupilId"]) == (str(small_trust.ids["Elm"]), "Elm-1", None)
    assert [row["reference"] for row in await read(vendor)] == [None, None], "a reference is its sender's own"
    oaks_id = next(row["id"] for row in await read(vendor) if row["schoolId"] == str(small_trust.ids["Oak"]))
    assert (await elm.get(f"/v1/planned-pupils/{oaks_id}")).status_code == 404
    plain = await small_trust.client("plain", f"trust:{TRUST}=pupils:read")
    rows = (await plain.get("/v1/planned-pupils")).json()["data"]
    assert [row["yearGroup"] for row in rows] == ["6", "6"]
    assert not any(text in str(rows) for text in ("Surname1", "Sammy", upn(1), "2007-01-01"))
    for name in (*IDENTIFYING, "formerUpns"):
        assert (await plain.get("/v1/planned-pupils", params={"fields": name})).status_code == 403
    assert (await plain.get("/v1/planned-characteristics")).status_code == 403
    assert len((await plain.get("/v1/planned-enrolments")).json()["data"]) == 3
    some = await small_trust.client(
        "some", f"trust:{TRUST}=pupils:read", f"school:{URNS['Elm']}=pupils:name,pupils:upn,pupils:birth,pupils:sensitive"
    )
    for row in (await some.get("/v1/planned-pupils")).json()["data"]:
        is_shown = row["schoolId"] == str(small_trust.ids["Elm"])
        assert [row[name] is not None for name in ("upn", "surname", "dateOfBirth")] == [is_shown] * 3
    assert (await some.get("/v1/planned-characteristics")).json()["data"] == []
    for name in IDENTIFYING:  # neither a URL nor a body filters by them
        assert (await oak.get("/v1/planned-pupils", params={name: "x"})).status_code == 400
        assert (await oak.get("/v1/planned-pupils", params={"sort": name})).status_code == 400
    writer = await small_trust.client("writer", f"school:{URNS['Oak']}=pupils:write")
    assert (await writer.get("/v1/planned-pupils")).status_code == 403


async def test_rows_of_an_old_identity_are_gone(oak: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await planned(oak, SAID, new(2))
    (row,) = (await sent(oak, "/v1/pupils/lookup", {"where": {"upn": [upn(1)]}}))["data"]
    body = {"expectedVersion": row["version"], "surname": "Other", "forename": "Ona", "upn": upn(70)}
    given = await sent(oak, f"/v1/pupils/{row['id']}/new-identity", body)
    rows = await read(oak)
    assert [each["upn"] for each in rows] == [upn(2)]
    assert given["id"] not in str(rows)
    set_clock(monkeypatch, datetime(2017, 6, 2, 9, tzinfo=UTC))
    assert [row["rowCount"] for row in (await oak.get("/v1/planned-rolls?fields=rowCount")).json()["data"]] == [2]
