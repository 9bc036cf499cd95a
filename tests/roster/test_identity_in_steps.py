"""A new identity in steps: permanent UPN and surname that change one after the other are held back as both at once are."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fixtures.clock import set_clock
from tests.fixtures.small_trust import AS_OF, Trust, asked, counted, upn
from tests.roster.children import ANN, BEN, child, patch, pupil, put, refuse, upns

OTHER = {"surname": "Adopted"}
HELD = ({"/entries/0": "identity-changed"}, "identity-changed")
Step = tuple[str, dict[str, Any]]
"""By a roll or by a PATCH, with what changes."""


@pytest.fixture(autouse=True)
def today(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day of the rolls, so that they are not older than a PATCH."""
    set_clock(monkeypatch, datetime(AS_OF.year, AS_OF.month, AS_OF.day, 9, tzinfo=UTC))


async def take(client: Any, id_: str, before: dict[str, Any], step: Step, *, is_held: bool = False) -> dict[str, Any]:
    """Takes a step of the child from `before`, as its roll would say it; returns how it is then."""
    interface, change = step
    if interface == "roll" and is_held:
        assert await refuse(client, child(ANN, **before | change)) == HELD[0]
    elif interface == "roll":
        assert counted(await put(client, child(ANN, **before | change))) == {"updated": 1}
    else:
        answer = await patch(client, {"id": id_}, 422 if is_held else 200, **change)
        assert not is_held or [issue["code"] for issue in answer["issues"]] == [HELD[1]]
    return before if is_held else before | change


STEPS: dict[str, list[dict[str, Any]]] = {
    "surname, UPN": [OTHER, {"upn": upn(50)}],
    "UPN, surname": [{"upn": upn(50)}, OTHER],
    "null, both": [{"upn": None}, {"upn": upn(50), **OTHER}],
    "null, UPN, surname": [{"upn": None}, {"upn": upn(50)}, OTHER],
    "null, surname, UPN": [{"upn": None}, OTHER, {"upn": upn(50)}],
    "null and surname, UPN": [{"upn": None, **OTHER}, {"upn": upn(50)}],
    "temporary between": [{"upn": None}, {"upn": upn(5, temporary=True)}, {"upn": upn(50), **OTHER}],
    "two surnames, UPN": [{"surname": "Between"}, OTHER, {"upn": upn(50)}],
    "surname, forename, UPN": [OTHER, {"forename": "Mara"}, {"upn": upn(50)}],
}


@pytest.mark.parametrize(("first", "last"), [("roll", "roll"), ("roll", "patch"), ("patch", "roll")])
@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
async def test_the_last_step_is_held_back(
    small_trust: Trust, vendor: Any, steps: list[dict[str, Any]], first: str, last: str
) -> None:
    await put(vendor, child(ANN))
    ann, now = await pupil(vendor, surname="Archer"), dict[str, Any]()
    for change in steps[:-1]:  # a row without a UPN keeps the stored one
        now = await take(vendor, ann["id"], now, ("patch" if change.get("upn", "") is None else first, change))
    before = await small_trust.everything()
    await take(vendor, ann["id"], now, (last, steps[-1]), is_held=True)
    assert await small_trust.everything() == before
    (issue,) = (await vendor.get("/v1/data-issues")).json()["data"]
    assert (issue["kind"], issue["pupilIds"]) == ("identity-changed", [ann["id"]])


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
async def test_who_says_that_it_is_the_same_child_passes_once(small_trust: Trust, vendor: Any, steps: list[dict[str, Any]]) -> None:
    await put(vendor, child(ANN))
    ann, now = await pupil(vendor, surname="Archer"), dict[str, Any]()
    for change in steps[:-1]:
        now = await take(vendor, ann["id"], now, ("patch", change))
    said = {"sameChild": True, "actor": "staff-7"}
    now |= steps[-1]
    assert counted(await put(vendor, child(ANN, **now) | {"id": ann["id"], **said})) == {"updated": 1}
    after = await pupil(vendor, surname="Adopted")
    assert (after["id"], after["upn"]) == (ann["id"], upn(50))
    assert await small_trust.value("SELECT facts FROM identity_history WHERE actor = 'staff-7'") == "upn surname"
    assert counted(await put(vendor, child(ANN, **now))) == {"unchanged": 1}
    await put(vendor, child(ANN, **now | {"upn": upn(51)}))  # settled: an ordinary correction again
    assert await upns(small_trust, ann["id"]) == {upn(ANN): False, upn(50): False, upn(51): True} | (
        {upn(5, temporary=True): False} if {"upn": upn(5, temporary=True)} in steps else {}
    )


async def test_both_at_once_pass_who_says_that_it_is_the_same_child(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN))
    ann = await pupil(vendor, surname="Archer")
    change = {"upn": upn(50), **OTHER}
    assert await refuse(vendor, child(ANN, **change)) == HELD[0]
    query = "mutation ($input: PupilChangeInput!) { updatePupil(input: $input) { outcome } }"
    said = {"id": ann["id"], "expectedVersion": 1, "sameChild": True, "actor": "staff-7"}
    assert await asked(vendor, query, input=said | change) == {"updatePupil": {"outcome": "updated"}}


@pytest.mark.parametrize(
    "steps",
    [
        [OTHER, {"surname": "Archer"}, {"upn": upn(50)}],
        [OTHER, {"surname": "ARCHER"}, {"upn": upn(50)}],
        [{"upn": upn(50)}, {"upn": upn(ANN)}, OTHER],
        [{"upn": None}, {"upn": upn(ANN)}, OTHER],
        [{"upn": None}, {"upn": upn(ANN), **OTHER}],
        [{"surname": "ARCHER"}, {"upn": upn(50)}],
        [{"upn": upn(50)}, {"upn": upn(51)}],
        [OTHER, {"surname": "Married"}],
        [OTHER, {"forename": "Anna"}],
    ],
)
async def test_ordinary_corrections_pass(vendor: Any, steps: list[dict[str, Any]]) -> None:
    await put(vendor, child(ANN))
    ann, now = await pupil(vendor, surname="Archer"), dict[str, Any]()
    for change in steps:
        now = await take(vendor, ann["id"], now, ("patch", change))
    assert (await vendor.get("/v1/data-issues")).json()["data"] == []


@pytest.mark.parametrize(("moment", "is_held"), [("2019-08-31T22:59:59", True), ("2019-08-31T23:00:00", False)])
@pytest.mark.parametrize("steps", [[OTHER, {"upn": upn(50)}], [{"upn": upn(50)}, OTHER]])
async def test_a_change_is_remembered_until_the_next_academic_year_ends(
    vendor: Any, monkeypatch: pytest.MonkeyPatch, steps: list[dict[str, Any]], moment: str, is_held: bool
) -> None:
    await put(vendor, child(ANN))
    ann = await pupil(vendor, surname="Archer")
    await patch(vendor, ann, **steps[0])
    set_clock(monkeypatch, datetime.fromisoformat(f"{moment}+00:00"))
    await take(vendor, ann["id"], {}, ("patch", steps[1]), is_held=is_held)


async def test_a_released_upn_was_never_the_pupils(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN))
    ann = await pupil(vendor, surname="Archer")
    await patch(vendor, ann, upn=None)
    released = await vendor.post(f"/v1/pupils/{ann['id']}/release-upn", json={"upn": upn(ANN)})
    assert released.status_code == 200, released.text
    await patch(vendor, ann, upn=upn(50), **OTHER)


async def test_another_upn_in_place_of_none_counts_as_one_of_two_facts(vendor: Any) -> None:
    await put(vendor, child(ANN), child(BEN))
    ann = await pupil(vendor, surname="Archer")
    await patch(vendor, ann, upn=None)
    assert await refuse(vendor, child(ANN, upn=upn(50), forename="Zoe")) == {"/entries/0": "pupil-conflict"}
    assert counted(await put(vendor, child(ANN, upn=upn(50)))) == {"updated": 1}


async def test_what_was_remembered_is_gone_with_a_new_identity(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN))
    ann = await pupil(vendor, surname="Archer")
    await patch(vendor, ann, **OTHER)
    body = {"expectedVersion": 2, "surname": "New", "forename": "Mara", "upn": upn(50)}
    given = await vendor.post(f"/v1/pupils/{ann['id']}/new-identity", json=body)
    assert given.status_code == 200, given.text
    assert (
        await small_trust.value("SELECT count(*) FROM pupils WHERE former_surname IS NOT NULL OR surname_changed_on IS NOT NULL")
        == 0
    )
    await patch(vendor, given.json(), upn=upn(51))
    row = child(ANN, upn=upn(52), reference="X1", forename="Mara", **OTHER)
    assert await refuse(vendor, row | {"forename": "Ann", "surname": "Archer"}) == {"/entries/0": "identifier-retired"}
