"""References that were replaced identify nobody, and keep their pupil on roll or in a group where a rejected row still has one."""

from typing import Any

import pytest
import pytest_asyncio

from tests.fixtures.clock import set_clock
from tests.fixtures.small_trust import Trust, asked, entry, issues, roll, sent, upn
from tests.roster.test_planned_rolls import AFTER, FIRST, JUNE, STAYS, new

LENIENT = {"Prefer": "handling=lenient"}
WHOLE = {"complete": True, "maxLeavers": 100}
REFERENCES = "SELECT kind, value FROM external_ids WHERE value <> 'P3' ORDER BY value"


@pytest_asyncio.fixture
async def ids(small_trust: Trust, vendor: Any) -> list[str]:
    """Three pupils of Oak. The reference of the first was re-keyed twice, that of the second replaced by a roll."""
    made = await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in (1, 2, 3)]), Prefer="return=representation")
    school = small_trust.ids["Oak"]
    for old, changed in (("P1", "A1"), ("A1", "B1")):
        await sent(vendor, f"/v1/schools/{school}/references", {"entries": [{"oldReference": old, "reference": changed}]})
    answer = await sent(vendor, "/v1/pupils", roll("Oak", [entry(2, reference="A2")]))
    assert [warning["code"] for warning in answer["warnings"]] == ["reference-replaced"]
    assert [tuple(row) for row in await small_trust.operator.fetch(REFERENCES)] == [
        ("replaced", "A1"),
        ("pupil", "A2"),
        ("pupil", "B1"),
        ("replaced", "P1"),
        ("replaced", "P2"),
    ]
    return [result["id"] for result in made["results"]]


def bad(reference: str) -> dict[str, Any]:
    row = {name: value for name, value in entry(9).items() if name not in ("upn", "reference")}
    return row | {"reference": reference, "yearGroup": "99"}


async def test_a_rejected_row_with_a_replaced_reference_keeps_its_pupil_on_roll(vendor: Any, ids: list[str]) -> None:
    mutation = 'mutation($i: PupilBatchInput!) { recordPupils(input: $i, handling: "lenient", dryRun: true) { left rejected } }'
    for rows, left in (
        ([bad("P1"), bad("P2")], 0),
        ([bad("A1"), {"reference": " P2 ", "unknown": 1}], 0),
        ([bad("P1"), bad("B1")], 1),
        ([bad("P9"), bad("P2")], 1),
    ):
        body = roll("Oak", [*rows, entry(3)], **WHOLE)
        answer = await sent(vendor, "/v1/pupils?dryRun=true", body, **LENIENT)
        assert (answer["left"], answer["rejected"]) == (left, 2), rows
        if "unknown" not in rows[1]:  # GraphQL knows no such field
            assert (await asked(vendor, mutation, i=body))["recordPupils"] == {"left": left, "rejected": 2}


async def test_a_replaced_reference_of_another_child_now_points_to_that_child_alone(vendor: Any, ids: list[str]) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(4, reference="P1")]))
    answer = await sent(vendor, "/v1/pupils?dryRun=true", roll("Oak", [bad("P1"), entry(3)], **WHOLE), **LENIENT)
    assert answer["left"] == 2


async def test_a_replaced_reference_is_the_senders_own(small_trust: Trust, vendor: Any, ids: list[str]) -> None:
    other = await small_trust.client("other", "trust:4128=all")
    answer = await sent(other, "/v1/pupils?dryRun=true", roll("Oak", [bad("P1"), entry(3)], **WHOLE), **LENIENT)
    assert answer["left"] == 2


@pytest.mark.parametrize("by_mutation", [False, True])
async def test_a_complete_group_keeps_whom_a_refused_member_points_to(
    small_trust: Trust, vendor: Any, ids: list[str], by_mutation: bool
) -> None:
    """By a replaced reference and by a replaced permanent UPN. A member of no key of theirs leaves."""
    patched = await vendor.patch(f"/v1/pupils/{ids[1]}", json={"upn": upn(70)}, headers={"If-Match": "*"})
    assert patched.status_code == 200, patched.text
    group = {"code": "6A", "name": "6A", "kind": "class", "members": [{"id": id_} for id_ in ids]}
    await sent(vendor, "/v1/groups", roll("Oak", [group], academicYear="2017-18"))
    members = [{"reference": "P1"}, {"upn": upn(2)}]
    whole = roll("Oak", [group | {"members": members}], academicYear="2017-18", complete=True)
    if by_mutation:
        mutation = 'mutation($i: GroupBatchInput!) { recordGroups(input: $i, handling: "lenient") { issues { at code } } }'
        answer = (await asked(vendor, mutation, i=whole))["recordGroups"]
    else:
        answer = await sent(vendor, "/v1/groups", whole, **LENIENT)
    assert issues(answer) == {
        "/entries/0/members/0/reference": "pupil-not-found",
        "/entries/0/members/1/upn": "upn-replaced",
    }
    on = await small_trust.operator.fetch("SELECT pupil_id::text FROM group_members WHERE to_on IS NULL")
    assert {row[0] for row in on} == {ids[0], ids[1]}


async def test_a_merge_moves_replaced_references_and_a_new_identity_retires_them(
    small_trust: Trust, vendor: Any, ids: list[str]
) -> None:
    versions = [(await vendor.get(f"/v1/pupils/{id_}")).json()["version"] for id_ in ids]
    body = {"expectedVersion": versions[0], "into": ids[2], "intoVersion": versions[2]}
    token = (await sent(vendor, f"/v1/pupils/{ids[0]}/merge?dryRun=true", body))["confirmation"]
    await sent(vendor, f"/v1/pupils/{ids[0]}/merge", body | {"confirmation": token})
    whole = roll("Oak", [bad("P1"), entry(2, reference="A2")], **WHOLE)
    assert (await sent(vendor, "/v1/pupils?dryRun=true", whole, **LENIENT))["left"] == 0
    version = (await vendor.get(f"/v1/pupils/{ids[2]}")).json()["version"]
    identity = {"expectedVersion": version, "surname": "Other", "forename": "Ona", "upn": upn(71)}
    await sent(vendor, f"/v1/pupils/{ids[2]}/new-identity", identity)
    assert await small_trust.value("SELECT count(*) FROM external_ids WHERE value IN ('P1', 'A1', 'B1')") == 0
    answer = await sent(vendor, "/v1/pupils", roll("Oak", [entry(8, reference="A1")]), status=422)
    assert set(issues(answer).values()) == {"identifier-retired"}


async def test_a_rejected_row_of_a_plan_keeps_the_pupil_of_a_replaced_reference(
    small_trust: Trust, vendor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, JUNE)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n, yearGroup="5") for n in (1, 2)], asOf="2017-05-01"))
    body = roll("Oak", [bad("P1"), new(2, **STAYS)], asOf=FIRST, **WHOLE)
    await sent(vendor, "/v1/pupils", body, **LENIENT)
    rekeyed = {"entries": [{"oldReference": "P1", "reference": "A1"}]}
    await sent(vendor, f"/v1/schools/{small_trust.ids['Oak']}/references", rekeyed)
    set_clock(monkeypatch, AFTER)
    assert {row["upn"] for row in (await vendor.get("/v1/pupils?fields=upn")).json()["data"]} == {upn(1), upn(2)}
