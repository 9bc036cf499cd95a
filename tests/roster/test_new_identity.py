"""A new identity: the old one is nowhere any more, nothing leads to it, and who still sends it is refused and learns nothing."""

from typing import Any

import pytest

from domain.declare.ids import new_id
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, batch, counted, entry, issues, judged, opened, roll, sent, upn

OLD = {"surname": "Oldname", "forename": "Forma"}
PREFERRED = {"preferredSurname": "Oldpref", "preferredForename": "Shorty"}
NEW = {"surname": "Newname", "forename": "Mara", "upn": upn(77), "reference": "N1"}


async def find(client: Any, **where: Any) -> list[dict[str, Any]]:
    return list((await sent(client, "/v1/pupils/lookup", {"where": where}))["data"])


async def renamed(here: Trust, vendor: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """A pupil before and after, judged, with a target, in a class, once merged, and with answers stored that name her."""
    await opened(vendor)
    await sent(
        vendor,
        "/v1/pupils",
        roll("Oak", [entry(1, **OLD, **PREFERRED), entry(2)]),
        Prefer="return=representation",
        Idempotency_Key="k1",
    )
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]), Prefer="return=representation", Idempotency_Key="k2")
    target = judged(1, horizon={"academicYear": "2018-19", "point": "KS3"}, basis="teacher", scheme="ks2-scaled-score")
    await sent(vendor, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": [target]})
    group = {"code": "6A", "name": "6A", "kind": "class", "members": [{"reference": "P1"}]}
    await sent(vendor, "/v1/groups", roll("Oak", [group], academicYear="2017-18"))
    (before,) = await find(vendor, upn=[upn(1)])
    body = {"expectedVersion": before["version"], **NEW}
    given = await sent(vendor, f"/v1/pupils/{before['id']}/new-identity", body, Idempotency_Key="k3")
    assert before["id"] not in str(given)
    (after,) = await find(vendor, upn=[NEW["upn"]])
    assert after["id"] == given["id"]
    return before, after


async def test_judgements_follow_and_the_old_identity_is_stored_nowhere(small_trust: Trust, vendor: Any) -> None:
    before, after = await renamed(small_trust, vendor)
    assert after["id"] != before["id"]
    shown = (await vendor.get(f"/v1/pupils/{after['id']}", params={"include": "judgements,enrolments,targets"})).json()
    assert [row["grade"] for row in shown["judgements"]["data"]] == ["100"]
    assert [len(shown[link]["data"]) for link in ("enrolments", "targets")] == [1, 1]
    assert await miscounted(small_trust) == (0, 0, 0)
    tables = await small_trust.operator.fetch(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
        " AND has_table_privilege(c.oid, 'SELECT')"
    )
    for (table,) in tables:
        stored = str(await small_trust.operator.fetch(f"SELECT t::text FROM {table} t"))
        for old in (before["id"], OLD["surname"], OLD["surname"].lower(), *PREFERRED.values(), "oldpref", "shorty", upn(1), "P1,"):
            assert old not in stored, (table, old)


async def test_nothing_answers_with_both(small_trust: Trust, vendor: Any) -> None:
    before, after = await renamed(small_trust, vendor)
    assert (before["preferredSurname"], before["preferredForename"]) == ("Oldpref", "Shorty")
    assert (after["preferredSurname"], after["preferredForename"]) == (None, None)
    old, new = (before["id"], OLD["surname"], upn(1), *PREFERRED.values()), (after["id"], NEW["surname"], NEW["upn"])
    answers = []
    for path in (f"/v1/pupils/{before['id']}", f"/v1/pupils/{before['id']}/judgements", f"/v1/judgements/{before['id']}.1.1.0"):
        answer = await vendor.get(path)
        assert answer.status_code == 404
        assert answer.content == (await vendor.get(f"/v1/pupils/{new_id(4)}")).content
        answers.append(answer.text)
    patch = await vendor.patch(f"/v1/pupils/{before['id']}", json={"forename": "Ann"}, headers={"If-Match": "*"})
    assert patch.status_code == 404
    assert (await asked(vendor, "query ($id: ID!) { node(id: $id) { id } }", id=before["id"]))["node"] is None
    for where in ({"upn": [upn(1)]}, {"surname": [OLD["surname"]]}, {"preferredForename": ["Shorty"]}, {"reference": ["P1"]}):
        assert await find(vendor, **where) == []
    for plural in ("pupils", "judgements", "enrolments", "targets", "groupMembers", "receipts", "data-issues", "groups"):
        answers += [(await vendor.get(f"/v1/{plural}")).text, (await vendor.get(f"/v1/{plural}", params={"format": "csv"})).text]
    answers += [(await vendor.get(f"/v1/idempotency-keys/{key}")).text for key in ("k1", "k2", "k3")]
    for answer in answers:
        assert not any(text in answer for text in old)
    assert any(new[0] in answer for answer in answers)


@pytest.mark.parametrize(
    "row",
    [
        {"upn": upn(1), "reference": "X1"},
        {"upn": None, "reference": "P1"},
        {**OLD, "upn": upn(50), "reference": "X2"},
        {"surname": "OLDNAME", "forename": "forma", "upn": NEW["upn"], "reference": "N1"},
        {"upn": upn(51), "reference": "X3", "formerUpns": [upn(1)]},
        {"upn": upn(52), "reference": "X4", "surname": "Oldpref", "forename": "Shorty"},
        {"upn": NEW["upn"], "reference": "N1", "surname": "Newname", "forename": "Mara", **PREFERRED},
        {"upn": NEW["upn"], "reference": "N1", "surname": "Newname", "forename": "Forma", "preferredSurname": "OLDNAME"},
    ],
    ids=[
        *("upn", "reference", "name", "new upn with the old name", "former upn", "old preferred name as the legal one"),
        *("old preferred name", "old name as the preferred one"),
    ],
)
async def test_a_row_that_brings_an_old_identifier_is_refused_and_nothing_more_is_said(
    small_trust: Trust, vendor: Any, row: dict[str, Any]
) -> None:
    _, after = await renamed(small_trust, vendor)
    refused = await sent(vendor, "/v1/pupils", roll("Oak", [entry(9, **row)]), 422)
    assert issues(refused) == {"/entries/0": "identifier-retired"}
    assert after["id"] not in str(refused)
    lenient = await sent(vendor, "/v1/pupils", roll("Oak", [entry(9, **row), entry(2)]), Prefer="handling=lenient")
    assert (lenient["rejected"], lenient["unchanged"]) == (1, 1)


async def test_a_patch_to_the_old_name_and_a_judgement_by_an_old_key_are_refused(small_trust: Trust, vendor: Any) -> None:
    _, after = await renamed(small_trust, vendor)
    for change in (OLD, PREFERRED, {"preferredSurname": "oldname", "preferredForename": "forma"}):
        patch = await vendor.patch(f"/v1/pupils/{after['id']}", json=change, headers={"If-Match": "*"})
        assert (patch.status_code, [issue["code"] for issue in patch.json()["issues"]]) == (422, ["identifier-retired"])
    for key in ({"upn": upn(1)}, {"reference": "P1"}):
        row = {"subject": "maths", "grade": 100, **key}
        refused = await sent(vendor, "/v1/judgements", batch("Oak", [row]), 422)
        assert set(issues(refused).values()) == {"identifier-retired"}
    await sent(vendor, "/v1/judgements", batch("Oak", [{"subject": "maths", "grade": 100, "reference": "N1"}]))


async def merge(client: Any, gone: dict[str, Any], into: dict[str, Any]) -> None:
    body = {"expectedVersion": gone["version"], "into": into["id"], "intoVersion": into["version"]}
    dry = await sent(client, f"/v1/pupils/{gone['id']}/merge?dryRun=true", body)
    await sent(client, f"/v1/pupils/{gone['id']}/merge", body | {"confirmation": dry["confirmation"]})


async def test_names_and_birthdays_that_were_corrected_long_ago_are_retired_too(small_trust: Trust, vendor: Any) -> None:
    """Also by PATCH, and those of a record that was merged in; but no name of a twin who is stored, and no name alone."""
    first = {"surname": "Firstly", "forename": "Typo", "preferredForename": "Nick", "dateOfBirth": "2006-05-01"}
    twin = entry(2, surname="Lastly", forename="Evan", dateOfBirth="2006-05-02")
    merged = entry(3, surname="Mergedly", forename="Eva", dateOfBirth="2006-05-02", upn=None)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, **first), twin, merged]))
    for change in (
        *({"surname": "Lastly"}, {"forename": "Eva"}, {"preferredForename": None}, {"dateOfBirth": "2006-05-02"}),
        *({"forename": "Evan"}, {"forename": "Eva"}),  # once the twin's
    ):
        (pupil,) = await find(vendor, upn=[upn(1)])
        answer = await vendor.patch(
            f"/v1/pupils/{pupil['id']}",
            json=change | ({"sameChild": True, "actor": "office"} if change == {"forename": "Evan"} else {}),
            headers={"If-Match": "*"},
        )
        assert answer.status_code == 200, answer.text
    (pupil,), (gone,) = await find(vendor, upn=[upn(1)]), await find(vendor, surname=["Mergedly"])
    await merge(vendor, gone, pupil)
    (pupil,) = await find(vendor, upn=[upn(1)])
    body = {"expectedVersion": pupil["version"], **NEW}
    await sent(vendor, f"/v1/pupils/{pupil['id']}/new-identity", body)
    old = [
        *(("Firstly", "Typo", "2006-05-01"), ("Lastly", "Typo", "2006-05-01"), ("LASTLY", "eva", "2006-05-01")),
        *(("Firstly", "Nick", "2006-05-01"), ("Lastly", "Eva", "2006-05-02"), ("Mergedly", "Eva", "2006-05-02")),
        ("Mergedly", "Eva", "2006-05-01"),
    ]
    rows = [
        entry(n, surname=surname, forename=forename, dateOfBirth=day, upn=None, reference=f"X{n}")
        for n, (surname, forename, day) in enumerate(old, 20)
    ]
    refused = await sent(vendor, "/v1/pupils", roll("Oak", rows), 422)
    assert issues(refused) == {f"/entries/{n}": "identifier-retired" for n in range(len(rows))}
    others = [entry(30, surname="Firstly", forename="Typo", dateOfBirth="2006-07-01"), twin]
    assert counted(await sent(vendor, "/v1/pupils", roll("Oak", others))) == {"created": 1, "unchanged": 1}


async def test_it_needs_privacy_write_at_the_main_school_and_the_version(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    (pupil,) = await find(vendor, upn=[upn(1)])
    url, body = f"/v1/pupils/{pupil['id']}/new-identity", {"expectedVersion": 1, "surname": "A", "forename": "B"}
    writer = await small_trust.client("writer", f"trust:{TRUST}=pupils:read,pupils:write,pupils:upn,pupils:merge")
    far = await small_trust.client("far", f"school:{URNS['Elm']}=all")
    assert (await sent(writer, url, body, 403))["issues"][0]["code"] == "scope-missing"
    await sent(far, url, body, 404)
    assert issues(await sent(vendor, url, body | {"expectedVersion": 2}, 412)) == {"/expectedVersion": "precondition-failed"}
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(2)]))
    taken = await sent(vendor, url, body | {"upn": upn(2), "reference": "P2"}, 422)
    assert issues(taken) == {"/upn": "upn-taken", "/reference": "reference-taken"}


# Lists that should name everybody, and still name the old identity

LENIENT = "handling=lenient, return=representation"
BAD_OLD = entry(1, **OLD, yearGroup="none")
"""The old row, refused for another reason before its identifiers are looked at."""
BY_OLD_NAME = {"reference": "X9", "upn": None}
BY_NOTHING_ELSE = {"reference": None, "upn": None, "surname": "Respelt"}


async def is_on_roll(client: Any, id_: str) -> bool:
    return bool((await client.get(f"/v1/pupils/{id_}")).json()["onRoll"])


@pytest.mark.parametrize(
    "row",
    [
        entry(1, **OLD),
        entry(1, **OLD, **BY_OLD_NAME),
        BAD_OLD,
        BAD_OLD | {"sex": "?", "surname": 7},
        entry(1, **OLD, **BY_OLD_NAME) | {"upn": "?"},
        entry(1, **OLD, **BY_OLD_NAME) | {"sex": "?"},
        entry(1, **BY_NOTHING_ELSE) | {"id": "old"},
    ],
    ids=["whole", "name", "bad year group", "undecoded", "name and bad UPN", "name, undecoded", "id"],
)
async def test_a_complete_roll_with_the_old_row_leaves_the_child_on_roll(
    small_trust: Trust, vendor: Any, row: dict[str, Any]
) -> None:
    """The answer is the same as of a roll with a row that is nobody's: it does not tell that a child stays."""
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(2, 6)]))
    before, after = await renamed(small_trust, vendor)
    row = {name: before["id"] if value == "old" else value for name, value in row.items()}
    body = roll("Oak", [*(entry(n) for n in range(2, 5)), row], complete=True, maxLeavers=40, asOf="2018-06-01")
    dry = await sent(vendor, "/v1/pupils?dryRun=true", body, Prefer=LENIENT)
    answer = await sent(vendor, "/v1/pupils", body, Prefer=LENIENT, Idempotency_Key="night")
    assert counted(dry) == counted(answer) == {"unchanged": 3, "rejected": 1}
    (gone,) = await find(vendor, upn=[upn(5)])
    assert [result["id"] for result in answer["results"] if result["outcome"] == "left"] == [gone["id"]]
    assert (dry["left"], answer["left"], gone["onRoll"]) == (1, 1, False)
    assert not any(text in str(answer) for text in (after["id"], NEW["surname"], NEW["upn"]))
    again = await sent(vendor, "/v1/pupils", body, Prefer=LENIENT, Idempotency_Key="night")
    assert (again["left"], await is_on_roll(vendor, after["id"])) == (1, True)
    refused = await sent(vendor, "/v1/pupils", body | {"entries": [row], "maxLeavers": 0}, 409, Prefer=LENIENT)
    assert after["id"] not in str(refused)
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_without_the_old_row_the_child_leaves_as_any_other(small_trust: Trust, vendor: Any) -> None:
    _, after = await renamed(small_trust, vendor)
    unknown = entry(9, yearGroup="none")
    left = await sent(vendor, "/v1/pupils", roll("Oak", [entry(2), unknown], complete=True, maxLeavers=50), Prefer=LENIENT)
    assert (left["left"], await is_on_roll(vendor, after["id"])) == (1, False)


@pytest.mark.parametrize("key", ["reference", "upn", "id"])
async def test_a_complete_group_with_the_old_member_leaves_the_child_in_it(small_trust: Trust, vendor: Any, key: str) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(3)]))
    before, after = await renamed(small_trust, vendor)
    members = [{"reference": "N1"}, {"reference": "P2"}, {"reference": "P3"}]
    group = {"code": "6A", "name": "6A", "kind": "class", "members": members}
    await sent(vendor, "/v1/groups", roll("Oak", [group], academicYear="2017-18"))
    old = {"reference": "P1", "upn": upn(1), "id": before["id"]}
    group |= {"members": [{"reference": "P2"}, {key: old[key]}]}
    body = roll("Oak", [group], academicYear="2017-18", complete=True, asOf="2018-06-01")
    answer = await sent(vendor, "/v1/groups", body, Prefer=LENIENT)
    assert (counted(answer), after["id"] in str(answer)) == ({"updated": 1}, False)  # P3 left
    rows = (await vendor.get("/v1/groupMembers?fields=pupilId,to")).json()["data"]
    assert {row["pupilId"] for row in rows if row["to"] is None} == {after["id"], (await find(vendor, reference=["P2"]))[0]["id"]}
    group |= {"members": [{"reference": "P2"}]}
    await sent(vendor, "/v1/groups", roll("Oak", [group], academicYear="2017-18", complete=True, asOf="2018-06-01"))
    rows = (await vendor.get("/v1/groupMembers?fields=pupilId,to")).json()["data"]
    assert after["id"] not in {row["pupilId"] for row in rows if row["to"] is None}


async def unite(client: Any, from_id: str, into_id: str) -> dict[str, Any]:
    """Merges two records, after the dry run."""
    versions = [(await client.get(f"/v1/pupils/{id_}")).json()["version"] for id_ in (from_id, into_id)]
    body = {"expectedVersion": versions[0], "into": into_id, "intoVersion": versions[1]}
    dry = await sent(client, f"/v1/pupils/{from_id}/merge?dryRun=true", body)
    return dict(await sent(client, f"/v1/pupils/{from_id}/merge", body | {"confirmation": dry["confirmation"]}))


async def is_spared(client: Any, row: dict[str, Any], id_: str) -> bool:
    """Whether a pupil is on roll after a complete roll that has this row and pupil 2 alone. The row is refused."""
    body = roll("Oak", [entry(2), row], complete=True, maxLeavers=100, asOf="2018-06-01")
    answer = await sent(client, "/v1/pupils", body, Prefer=LENIENT)
    assert list(issues(answer).values()) == ["identifier-retired"]
    assert not any(text in str(answer) for text in (id_, NEW["surname"], NEW["upn"]))
    return await is_on_roll(client, id_)


@pytest.mark.parametrize("into", ["the other record", "the new identity"])
async def test_a_merge_keeps_a_new_identity_apart_from_the_old_one(small_trust: Trust, vendor: Any, into: str) -> None:
    """Whichever record remains: the old row is refused, the child stays on roll, and the old names are nowhere."""
    before, after = await renamed(small_trust, vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(3, upn=None)]))
    other = (await find(vendor, reference=["P3"]))[0]["id"]
    gone, remaining = (after["id"], other) if into == "the other record" else (other, after["id"])
    await unite(vendor, gone, remaining)
    for row in (
        entry(1, **OLD),
        entry(1, **OLD, **BY_OLD_NAME),
        entry(9, reference="X1", upn=upn(1)),
        entry(9, formerUpns=[upn(1)]),
    ):
        refused = await sent(vendor, "/v1/pupils", roll("Oak", [row]), 422)
        assert issues(refused) == {"/entries/0": "identifier-retired"}
        assert remaining not in str(refused)
    assert await is_spared(vendor, entry(1, **OLD), remaining)
    tables = await small_trust.operator.fetch(
        "SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p')"
        " AND has_table_privilege(c.oid, 'SELECT')"
    )
    for (table,) in tables:
        stored = str(await small_trust.operator.fetch(f"SELECT t::text FROM {table} t"))
        assert [old for old in (before["id"], OLD["surname"], *PREFERRED.values(), upn(1)) if old in stored] == [], table
    assert await miscounted(small_trust) == (0, 0, 0)
    left = await sent(vendor, "/v1/pupils", roll("Oak", [entry(2)], complete=True, maxLeavers=100, asOf="2018-06-02"))
    assert (left["left"], await is_on_roll(vendor, remaining)) == (1, False)


async def test_a_split_of_a_merged_new_identity_marks_both(small_trust: Trust, vendor: Any) -> None:
    """Either record may be that child's."""
    _, after = await renamed(small_trust, vendor)
    await sent(vendor, "/v1/pupils", roll("Elm", [entry(3, upn=None, enrolments=[{"from": "2018-01-08", "status": "S"}])]))
    other = (await find(vendor, reference=["P3"]))[0]["id"]
    await unite(vendor, after["id"], other)
    row = (await vendor.get(f"/v1/pupils/{other}")).json()
    split = {
        "expectedVersion": row["version"],
        **{"surname": "Newname", "forename": "Mara", "dateOfBirth": "2007-01-01", "sex": "M", "yearGroup": "6", "upn": NEW["upn"]},
        "enrolments": [{"school": {"urn": URNS["Oak"]}, "from": "2014-09-01", "status": "C"}],
    }
    dry = await sent(vendor, f"/v1/pupils/{other}/split?dryRun=true", split)
    new = (await sent(vendor, f"/v1/pupils/{other}/split", split | {"confirmation": dry["confirmation"]}))["id"]
    assert await is_spared(vendor, entry(1, **OLD), new)
