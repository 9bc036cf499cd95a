"""References that were exchanged or given to another child: no row makes one child another where only the reference says that it is her."""

from typing import Any

import pytest

from tests.fixtures.small_trust import Trust, asked, counted, issues, roll, sent, upn
from tests.roster.children import ANN, BEN, EVA, EVAN, child, patch, pupil, put, refuse


def unnumbered(number: int, **changed: Any) -> dict[str, Any]:
    return child(number, upn=None, **changed)


@pytest.mark.parametrize("sex", ["F", "M"])
@pytest.mark.parametrize("are_numbered", [True, False])
async def test_twins_whose_references_are_exchanged_stay_who_they_are(
    small_trust: Trust, vendor: Any, are_numbered: bool, sex: str
) -> None:
    twins = (child(EVA), child(EVAN, sex=sex)) if are_numbered else (unnumbered(EVA), unnumbered(EVAN, sex=sex))
    await put(vendor, *twins)
    before = await small_trust.everything()
    eva, evan = unnumbered(EVA, reference="P4"), unnumbered(EVAN, reference="P3", sex=sex)
    assert await refuse(vendor, eva, evan) == {"/entries/0": "pupil-conflict", "/entries/1": "pupil-conflict"}
    for half in (eva, evan):
        assert await refuse(vendor, half) == {"/entries/0": "pupil-conflict"}
    assert await small_trust.everything() == before


async def test_a_reference_that_went_to_a_twin_who_is_new_renames_nobody(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, unnumbered(EVA))
    before = await small_trust.everything()
    moved = unnumbered(EVA, reference="new"), unnumbered(EVAN, reference="P3", sex="F")
    assert await refuse(vendor, *moved) == {"/entries/1": "pupil-conflict"}
    assert await small_trust.everything() == before


@pytest.mark.parametrize("changed", [{"dateOfBirth": "2007-03-02"}, {"forename": "Hanna"}], ids=["birthday", "forename"])
async def test_a_reference_alone_does_not_correct_a_fact_and_the_surname(small_trust: Trust, vendor: Any, changed: Any) -> None:
    """A leaver's reference is given to a new child who has her forename, or her birthday."""
    await put(vendor, child(ANN))
    before = await small_trust.everything()
    assert await refuse(vendor, unnumbered(ANN, surname="Nolan", **changed)) == {"/entries/0": "pupil-conflict"}
    assert await small_trust.everything() == before
    assert counted(await put(vendor, child(ANN, surname="Nolan", **changed))) == {"updated": 1}


async def test_a_reference_alone_does_not_correct_the_forename_and_the_sex(small_trust: Trust, vendor: Any) -> None:
    """A twin who is not stored yet comes under her brother's reference."""
    await put(vendor, child(EVA))
    before = await small_trust.everything()
    assert await refuse(vendor, unnumbered(EVAN, reference="P3")) == {"/entries/0": "pupil-conflict"}
    assert await small_trust.everything() == before
    assert counted(await put(vendor, child(EVA, forename="Evan", sex="M"))) == {"updated": 1}


@pytest.mark.parametrize("changed", [{"surname": "Nolan"}, {"forename": "Hanna"}, {"dateOfBirth": "2007-03-02"}])
async def test_one_difference_is_a_correction(vendor: Any, changed: Any) -> None:
    await put(vendor, unnumbered(ANN), unnumbered(EVA), unnumbered(EVAN))
    assert counted(await put(vendor, unnumbered(ANN, **changed))) == {"updated": 1}


async def test_a_person_may_say_that_a_name_was_exchanged_and_not_the_reference(vendor: Any) -> None:
    await put(vendor, unnumbered(EVA), unnumbered(EVAN))
    found = (await sent(vendor, "/v1/pupils/lookup", {"where": {"forename": "Eva"}}))["data"][0]
    said = unnumbered(EVAN, reference="P3", sex="F", id=found["id"], sameChild=True)
    assert counted(await put(vendor, said)) == {"updated": 1}


async def test_two_new_children_with_one_upn_are_both_reported(small_trust: Trust, vendor: Any) -> None:
    """Whichever comes first: the order of rows decides nothing."""
    before = await small_trust.everything()
    for rows in ((child(ANN), child(BEN, upn=upn(ANN))), (child(BEN, upn=upn(ANN)), child(ANN))):
        answer = await sent(vendor, "/v1/pupils", roll("Oak", [*rows, child(EVA)]), 422)
        assert issues(answer) == {"/entries/0/upn": "pupil-conflict", "/entries/1/upn": "pupil-conflict"}
        assert "/entries/1 has the same UPN and another date of birth and forename and sex" in answer["issues"][0]["message"]
    assert await small_trust.everything() == before


SWAPS: dict[str, tuple[bool, list[dict[str, Any]]]] = {
    "forename": (False, [{"forename": "Evan"}]),
    "forename, numbered": (True, [{"forename": "Evan"}]),
    "a part of the forename": (False, [{"forename": "Evan James"}]),
    "sex, then forename": (False, [{"sex": "M"}, {"forename": "Evan"}]),
    "sex, then forename, numbered": (True, [{"sex": "M"}, {"forename": "Evan"}]),
    "forename with her UPN, then sex": (True, [{"forename": "Evan", "upn": upn(EVA)}, {"sex": "M"}]),
    "sex, then forename with her UPN": (True, [{"sex": "M"}, {"forename": "Evan", "upn": upn(EVA)}]),
    "another forename, then his": (False, [{"forename": "Ina"}, {"forename": "EVAN"}]),
}


@pytest.mark.parametrize("name", SWAPS)
async def test_patches_in_steps_make_no_twin_the_other(small_trust: Trust, vendor: Any, name: str) -> None:
    are_numbered, steps = SWAPS[name]
    await put(vendor, *((child if are_numbered else unnumbered)(number) for number in (EVA, EVAN)))
    eva = await pupil(vendor, forename="Eva")
    for change in steps[:-1]:
        await patch(vendor, eva, **change)
    before = await small_trust.everything()
    assert issues(await patch(vendor, eva, 422, **steps[-1])) == {"": "pupil-conflict"}
    query = "mutation ($input: PupilChangeInput!) { updatePupil(input: $input) { outcome } }"
    change = {"id": eva["id"], "expectedVersion": len(steps), **steps[-1]}
    refused = (await vendor.post("/graphql", json={"query": query, "variables": {"input": change}})).json()
    assert issues(refused["errors"][0]["extensions"]["problem"]) == {"": "pupil-conflict"}
    assert await small_trust.everything() == before
    assert (await asked(vendor, query, input=change | {"sameChild": True}))["updatePupil"] == {"outcome": "updated"}


@pytest.mark.parametrize(
    "change",
    [
        {"forename": "Zoe", "sex": "M"},
        {"forename": "Zoe", "dateOfBirth": "2007-07-08"},
        {"forename": "Zoe", "upn": upn(50)},
        {"upn": upn(50), "dateOfBirth": "2007-07-08"},
    ],
    ids=lambda change: " ".join(change),
)
async def test_a_patch_of_two_facts_is_another_child_unless_a_person_says_so(
    small_trust: Trust, vendor: Any, change: dict[str, Any]
) -> None:
    await put(vendor, child(EVA))
    eva, before = await pupil(vendor, forename="Eva"), await small_trust.everything()
    assert issues(await patch(vendor, eva, 422, **change)) == {"": "pupil-conflict"}
    assert await small_trust.everything() == before
    assert (await patch(vendor, eva, **change, sameChild=True))["outcome"] == "updated"


@pytest.mark.parametrize("change", [{"sex": "M"}, {"forename": "Zoe"}, {"sex": "M", "surname": "Nolan"}], ids=" ".join)
async def test_a_patch_of_one_fact_is_a_correction(vendor: Any, change: dict[str, Any]) -> None:
    await put(vendor, child(EVA), child(EVAN))
    assert (await patch(vendor, await pupil(vendor, forename="Eva"), **change))["outcome"] == "updated"


async def test_names_of_twins_that_were_exchanged_are_corrected_in_one_batch(small_trust: Trust, vendor: Any) -> None:
    """Each row bears the permanent UPN of its pupil. One of them alone would make two children of one name."""
    await put(vendor, child(EVA), child(EVAN))
    eva, evan = child(EVA, forename="Evan", sex="M"), child(EVAN, forename="Eva", sex="F")
    before = await small_trust.everything()
    assert await refuse(vendor, eva) == {"/entries/0": "pupil-conflict"}
    assert await small_trust.everything() == before
    assert counted(await put(vendor, eva, evan)) == {"updated": 2}
