"""The history of a pupil's own record: what changed, from what to what, by which client; read by who may read the pupil and the field today."""

import importlib
from typing import Any

from tests.fixtures.small_trust import URNS, Trust, asked, entry, roll, sent, upn
from tests.roster.children import ANN, BEN, child, patch, pupil, put
from tests.roster.test_merging import confirmed, merge_body, two_records

SHOWN = (
    "field outcome fromName toName fromUpn toUpn fromDateOfBirth toDateOfBirth fromValue toValue characteristic fromCharacteristic toCharacteristic"
    " fromFirstDay fromLastDay toFirstDay toLastDay fromLeavingReason toLeavingReason schoolId differing mergedId client clientId actor changedAt pupilId"
)
OF_PUPIL = f"query ($id: ID!) {{ pupil(id: $id) {{ recordHistory(first: 100) {{ totalCount nodes {{ {SHOWN} }} }} }} }}"


async def read(client: Any, pupil_id: str, **parameters: Any) -> list[dict[str, Any]]:
    """The history of a record, of the values that are not null; the same in both interfaces."""
    answer = await client.get(f"/v1/pupils/{pupil_id}/recordHistory", params=parameters)
    assert answer.status_code == 200, answer.text
    return [{name: value for name, value in row.items() if value is not None} for row in answer.json()["data"]]


def list_changes(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """The values of each change, but times, clients and the pupil."""
    return [
        tuple(value for name, value in row.items() if name not in ("pupilId", "changedAt", "client", "clientId")) for row in rows
    ]


async def test_every_change_says_when_from_what_to_what_and_by_which_client(small_trust: Trust, vendor: Any) -> None:
    other = await small_trust.client("markbook", "trust:4128=all")
    await put(vendor, child(ANN))
    ann = await pupil(vendor, surname="Archer")
    await put(vendor, child(ANN))  # unchanged: no change
    await patch(other, ann, surname="Archer-Bell", preferredForename="Annie")
    await patch(vendor, ann, dateOfBirth="2007-03-02", preferredForename=None)
    await patch(other, ann, yearGroup="7", sex="M")
    said = {"upn": upn(60), "dateOfBirth": "2007-04-04", "sameChild": True, "actor": "staff-7"}
    await patch(vendor, ann, **said)
    rows = await read(vendor, ann["id"])
    assert list_changes(rows[:1]) == [("pupil", "created")]
    assert sorted(list_changes(rows[1:3])) == [
        ("preferredForename", "updated", "Annie"),
        ("surname", "updated", "Archer", "Archer-Bell"),
    ]
    assert list_changes(rows[3:]) == [
        ("dateOfBirth", "updated", ann["dateOfBirth"], "2007-03-02"),
        ("preferredForename", "updated", "Annie"),
        ("sex", "updated", "F", "M"),
        ("yearGroup", "updated", "6", "7"),
        ("dateOfBirth", "updated", "2007-03-02", "2007-04-04"),
        ("upn", "updated", upn(ANN), upn(60)),
        ("sameChild", "said", ["upn", "dateOfBirth", "surname"], "staff-7"),
    ]
    assert [row["client"] for row in rows] == ["vendor", *["markbook"] * 2, *["vendor"] * 2, *["markbook"] * 2, *["vendor"] * 3]
    ids = {name: id_ for name, (id_, _) in small_trust.credentials.items()}
    assert [row["clientId"] for row in rows] == [ids[row["client"]] for row in rows]
    assert [row["changedAt"] for row in rows] == sorted(row["changedAt"] for row in rows)
    whole = (await vendor.get(f"/v1/pupils/{ann['id']}/recordHistory")).json()["data"]
    told = (await asked(vendor, OF_PUPIL, id=ann["id"]))["pupil"]["recordHistory"]
    assert told["totalCount"] == len(whole)
    assert told["nodes"] == [{name: row[name] for name in told["nodes"][0]} for row in whole]
    assert (await vendor.get("/v1/record-changes", params={"pupilId": ann["id"]})).json()["data"] == whole
    included = (await vendor.get(f"/v1/pupils/{ann['id']}", params={"include": "recordHistory"})).json()
    assert included["recordHistory"]["data"] == whole
    assert [row["field"] for row in await read(vendor, ann["id"], field=["surname", "sex"])] == ["surname", "sex"]


async def test_values_need_the_scopes_of_the_pupils_own_fields(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN))
    ann = await pupil(vendor, surname="Archer")
    await put(vendor, child(ANN, characteristics=[{"kind": "lookedAfter", "value": "true", "from": "2017-09-01"}]))
    await patch(vendor, ann, upn=upn(60), preferredSurname="Archer-Bell")
    await patch(vendor, ann, dateOfBirth="2007-03-02", forename="Zoe", sameChild=True, actor="staff-7")
    everything = await read(vendor, ann["id"])
    assert ("characteristic", "created", "lookedAfter", "true", "2017-09-01") in list_changes(everything)
    bare = await small_trust.client("bare", f"school:{URNS['Oak']}=pupils:read")
    answer = await bare.get(f"/v1/pupils/{ann['id']}/recordHistory")
    assert [row["field"] for row in answer.json()["data"]] == [
        row["field"] for row in everything if row["field"] != "characteristic"
    ]
    secrets = ("Archer", "Zoe", upn(ANN), upn(60), "2007-0", "lookedAfter", "2017-09-01", "staff-7")
    assert not any(secret in answer.text for secret in secrets)
    needs = {
        "pupils:name": ("fromName", "toName"),
        "pupils:upn": ("fromUpn", "toUpn"),
        "pupils:birth": ("fromDateOfBirth", "toDateOfBirth"),
        "pupils:sensitive": ("characteristic", "fromCharacteristic", "toCharacteristic"),
        "audit:read": ("actor",),
    }
    for scope, names in needs.items():
        for name in names:
            refused = await bare.get(f"/v1/pupils/{ann['id']}/recordHistory", params={"fields": name})
            (issue,) = refused.json()["issues"]
            assert (refused.status_code, issue["code"], issue["at"]) == (403, "scope-missing", f"recordChange.{name}")
            assert scope in issue["message"]
        # held elsewhere, and pupils:read here: the value is null, and a characteristic is no row
        grants = (f"school:{URNS['Oak']}=pupils:read", f"school:{URNS['Elm']}=pupils:read,{scope}")
        elsewhere = await small_trust.client(f"not-{scope}", *grants)
        assert not any(names_ in row for row in await read(elsewhere, ann["id"]) for names_ in names)
        here = await small_trust.client(scope, f"school:{URNS['Oak']}=pupils:read,{scope}")
        rows = await read(here, ann["id"])
        assert all(any(name in row for row in rows) for name in names if name != "fromCharacteristic"), (scope, rows)
    for name in ("actor", "fromName", "toUpn"):
        for parameters in ({name: "x"}, {"sort": name}):
            status = 422 if name == "actor" else 400  # by whom something was done is no order, and says why
            assert (await vendor.get("/v1/record-changes", params=parameters)).status_code == status
    lookup = await vendor.post("/v1/record-changes/lookup", json={"where": {"pupilId": [ann["id"]]}})
    assert lookup.status_code == 404


async def test_what_is_withdrawn_stays_and_spells_are_reported_at_their_schools(small_trust: Trust, vendor: Any) -> None:
    started = [{"kind": "sen", "value": "K", "from": "2017-09-01"}]
    await put(vendor, child(ANN, enrolments=[{"from": "2017-09-01", "status": "C"}], characteristics=started))
    ann = await pupil(vendor, surname="Archer")
    await put(vendor, child(ANN, enrolments=[{"from": "2017-09-03", "status": "C"}], characteristics=[]))
    left = [{"from": "2017-09-03", "to": "2018-04-30", "status": "C", "leavingReason": "moved"}]
    await put(vendor, child(ANN, enrolments=left, characteristics=[]))
    oak, elm = str(small_trust.ids["Oak"]), str(small_trust.ids["Elm"])
    arrived = child(ANN, reference="E1", enrolments=[{"from": "2018-05-01", "status": "C"}], characteristics=[])
    await sent(vendor, "/v1/pupils", roll("Elm", [arrived], asOf="2018-05-02"))
    rows = [row for row in await read(vendor, ann["id"]) if row["field"] in ("enrolment", "characteristic")]
    spells = [row for row in rows if row["field"] == "enrolment"]
    first = {"fromFirstDay": "2017-09-01", "fromValue": "C", "schoolId": oak}
    assert first.items() <= spells[0].items()
    assert {"toFirstDay": "2018-05-01", "toValue": "C", "schoolId": elm, "outcome": "created"}.items() <= spells[-1].items()
    ended = {"fromFirstDay": "2017-09-03", "toFirstDay": "2017-09-03", "toLastDay": "2018-04-30", "toLeavingReason": "moved"}
    assert any(ended.items() <= row.items() for row in spells)
    assert [row for row in rows if row["field"] == "characteristic"] == [
        {
            "pupilId": ann["id"],
            "field": "characteristic",
            "outcome": "withdrawn",
            "changedAt": rows[0]["changedAt"] if rows[0]["field"] == "characteristic" else rows[1]["changedAt"],
            "characteristic": "sen",
            "fromCharacteristic": "K",
            "fromFirstDay": "2017-09-01",
            "client": "vendor",
            "clientId": small_trust.credentials["vendor"][0],
        }
    ]
    new_school = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    old_school = await small_trust.client("oak", f"school:{URNS['Oak']}=all")
    seen = await new_school.get(f"/v1/pupils/{ann['id']}/recordHistory")
    assert oak not in seen.text
    assert [row["schoolId"] for row in seen.json()["data"] if row["field"] == "enrolment"] == [elm]
    for path in (f"/v1/pupils/{ann['id']}/recordHistory", f"/v1/pupils/{'0' * 8}-7c00-7004-8000-{'0' * 12}/recordHistory"):
        assert (await old_school.get(path)).status_code == 404
    assert (await old_school.get("/v1/record-changes")).json()["data"] == []
    assert await asked(old_school, OF_PUPIL, id=ann["id"]) == {"pupil": None}


async def test_only_what_differs_is_a_change(vendor: Any) -> None:
    """A roll says spells and characteristics whole; those that are said again as they were are no change."""
    eal, sen = {"kind": "eal", "value": "2", "from": "2014-09-01"}, {"kind": "sen", "value": "K", "from": "2016-09-01"}
    spells = [{"from": "2014-09-01", "to": "2015-07-20", "status": "C"}, {"from": "2016-09-01", "status": "C"}]
    await put(vendor, child(ANN, enrolments=spells, characteristics=[eal, sen]))
    for _ in range(2):
        await put(vendor, child(ANN, enrolments=spells, characteristics=[eal, sen | {"value": "E"}]), child(BEN))
    ann = await pupil(vendor, surname="Archer")
    changed = ("characteristic", "updated", "sen", "K", "E", "2016-09-01", "2016-09-01")
    assert list_changes(await read(vendor, ann["id"])) == [("pupil", "created"), changed]
    ben = (await pupil(vendor, surname="Baker"))["id"]
    (created,) = await read(vendor, ben)
    since = {"changedAt.gte": created["changedAt"]}  # Ben was new in the roll that changed Ann
    ids = [row["pupilId"] for row in (await vendor.get("/v1/record-changes", params=since)).json()["data"]]
    assert sorted(ids) == sorted([ann["id"], ben])
    lines = (await vendor.get("/v1/record-changes", params=since | {"format": "csv"})).text.splitlines()
    assert (len(lines), lines[0].split(",")[:3]) == (3, ["pupilId", "field", "outcome"])


async def test_what_was_stored_before_there_was_a_history_is_filled_in(small_trust: Trust, vendor: Any) -> None:
    """By the migration, as far as it was stored: without clients. Nothing is told twice."""
    await put(vendor, child(ANN, enrolments=[{"from": "2017-09-01", "status": "C"}]))
    ann = await pupil(vendor, surname="Archer")
    for spell in ({"from": "2017-09-03"}, {"from": "2017-09-03", "to": "2018-04-30"}, {"from": "2017-09-03", "to": "2018-04-29"}):
        await put(vendor, child(ANN, enrolments=[spell | {"status": "C"}], characteristics=[]))
    await patch(vendor, ann, forename="Zoe", dateOfBirth="2007-03-02", sameChild=True, actor="staff-7")
    written = [row for row in await read(vendor, ann["id"]) if row["outcome"] in ("withdrawn", "said") or "fromFirstDay" in row]
    assert {row["field"] for row in written} == {"enrolment", "characteristic", "sameChild"}
    migration = importlib.import_module("migrations.versions.0048_pupil_history")
    fill = (migration.FILL_SPELLS, migration.FILL_CHARACTERISTICS, migration.FILL_DECISIONS, migration.FILL_RECORDS)
    await small_trust.operator.execute("DELETE FROM pupil_history")
    for _ in range(2):
        for statement in fill:
            await small_trust.operator.execute(statement)
    await small_trust.operator.execute("UPDATE school_versions SET version = version + 1")
    filled = await read(vendor, ann["id"])
    assert sorted(map(str, list_changes(filled))) == sorted(map(str, list_changes(written)))
    assert [row.get("client") for row in filled] == [None if row["field"] != "sameChild" else "vendor" for row in filled]
    assert all(("client" in row) == ("clientId" in row) for row in filled)


async def test_who_said_same_child_is_reported_where_it_was_said(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN))
    ann = await pupil(vendor, surname="Archer")
    said = {"forename": "Zoe", "dateOfBirth": "2007-04-04"}
    left = child(ANN, **said, enrolments=[{"from": "2014-09-01", "to": "2018-04-30", "status": "C"}])
    await put(vendor, left | {"id": ann["id"], "sameChild": True, "actor": "oak-7"})
    main, second = [await small_trust.client(name, f"school:{URNS[name]}=all") for name in ("Oak", "Elm")]
    assert [row["actor"] for row in await read(main, ann["id"], field="sameChild")] == ["oak-7"]
    arrived = child(ANN, **said, reference="E1", enrolments=[{"from": "2018-05-01", "status": "C"}])
    await sent(vendor, "/v1/pupils", roll("Elm", [arrived], asOf="2018-05-02"))
    assert list_changes(await read(second, ann["id"], field="sameChild")) == [("sameChild", "said", ["dateOfBirth", "forename"])]
    assert [row["actor"] for row in await read(vendor, ann["id"], field="sameChild")] == ["oak-7"]
    told = (await asked(second, OF_PUPIL, id=ann["id"]))["pupil"]["recordHistory"]["nodes"]
    assert [row["actor"] for row in told if row["field"] == "sameChild"] == [None]


async def test_a_number_recorded_in_error_is_reported_as_released_and_not_shown(vendor: Any) -> None:
    await put(vendor, child(ANN, upn=upn(BEN)))
    await put(vendor, child(ANN))
    ann = await pupil(vendor, surname="Archer")
    assert ("upn", "updated", upn(BEN), upn(ANN)) in list_changes(await read(vendor, ann["id"]))
    await put(vendor, child(BEN))
    rows = [row for row in await read(vendor, ann["id"]) if row["field"] == "upn"]
    assert list_changes(rows) == [("upn", "updated", upn(ANN)), ("upn", "released")]


async def test_a_merge_and_a_split_are_in_history_and_each_record_keeps_its_own(small_trust: Trust, vendor: Any) -> None:
    oak, elm = await two_records(vendor)
    await patch(vendor, await pupil(vendor, id=elm), preferredForename="Willow")
    own = [list_changes(await read(vendor, id_)) for id_ in (oak, elm)]
    await confirmed(vendor, f"/v1/pupils/{elm}/merge", await merge_body(vendor, elm, oak))
    merged = await read(vendor, oak)
    assert ("pupil", "merged", elm) in list_changes(merged)
    assert all(change in list_changes(merged) for change in own[0] + own[1])
    gone = await vendor.get(f"/v1/pupils/{elm}/recordHistory")
    assert (gone.status_code, gone.json()["mergedInto"]) == (410, oak)
    split = {
        "expectedVersion": (await vendor.get(f"/v1/pupils/{oak}")).json()["version"],
        **{name: entry(1)[name] for name in ("forename", "dateOfBirth", "sex", "yearGroup", "characteristics")},
        **{"surname": "Surname-One", "preferredForename": "Willow"},
        "enrolments": [{"school": {"urn": URNS["Elm"]}, "from": "2018-05-21", "status": "C"}],
    }
    new = (await confirmed(vendor, f"/v1/pupils/{oak}/split", split))["id"]
    again = [list_changes(await read(vendor, id_)) for id_ in (oak, new)]
    assert ("preferredForename", "updated", "Wil", "Willow") in again[1]
    assert ("preferredForename", "updated", "Wil", "Willow") not in again[0]
    assert [("pupil", "split") in changes for changes in again] == [True, True]
    assert "Willow" in (await vendor.get(f"/v1/pupils/{oak}/recordHistory")).text  # taken over by the merge, and lost by the split
    body = {"expectedVersion": 1, "surname": "Other", "forename": "Name"}
    await sent(vendor, f"/v1/pupils/{new}/new-identity", body)
    everything = (await vendor.get("/v1/record-changes", params={"include": "pupil"})).text
    assert [trace for trace in (new, elm, "Wil", "Surname-One") if trace in everything] == []
    assert ("pupil", "split") in list_changes(await read(vendor, oak))


async def test_no_history_leads_from_a_new_identity_to_the_old_one(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(BEN, upn=upn(ANN)))  # Ann's number was recorded for another child, too
    await put(vendor, child(BEN))
    await put(vendor, child(ANN))
    old = await pupil(vendor, surname="Archer")
    await put(vendor, child(ANN, characteristics=[{"kind": "lookedAfter", "value": "true", "from": "2017-09-01"}]))
    await patch(vendor, old, preferredForename="Annie", upn=upn(60))
    await patch(vendor, old, dateOfBirth="2007-03-02")
    version = (await pupil(vendor, id=old["id"]))["version"]
    body = {"expectedVersion": version, "surname": "Other", "forename": "Name", "dateOfBirth": "2007-05-05"}
    new = (await sent(vendor, f"/v1/pupils/{old['id']}/new-identity", body))["id"]
    await patch(vendor, await pupil(vendor, id=new), forename="Named")
    assert (await vendor.get(f"/v1/pupils/{old['id']}/recordHistory")).status_code == 404
    texts = [
        (await vendor.get(f"/v1/pupils/{new}/recordHistory", params={"include": "pupil"})).text,
        (await vendor.get("/v1/record-changes", params={"include": "pupil"})).text,
        str(await asked(vendor, OF_PUPIL, id=new)),
        str(await small_trust.operator.fetch("SELECT h::text FROM pupil_history h")),
    ]
    traces = (old["id"], "Archer", "Ann", upn(ANN), upn(60), f'"{old["reference"]}"', old["dateOfBirth"], "2007-03-02")
    for text in texts:
        assert [trace for trace in traces if trace in text] == []
    changes = list_changes(await read(vendor, new))
    assert ("forename", "updated", "Name", "Named") in changes
    assert ("characteristic", "created", "lookedAfter", "true", "2017-09-01") in changes
