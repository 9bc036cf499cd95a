"""A person says that two records which seem to be one child are two children."""

from typing import Any

from tests.fixtures.small_trust import URNS, Trust, asked, issues, sent, upn
from tests.roster.children import ANN, BEN, child, patch, put, warned
from tests.roster.test_data_issues import listed
from tests.roster.test_same_children import SAME, list_ids, unnumbered

SAY = "mutation ($input: ChildrenDistinctionInput!) { distinguishPupil(input: $input) { id otherId outcome } }"
HISTORY = (
    "query ($id: ID!) { pupil(id: $id) { recordHistory(where: {field: differentChildren})"
    " { nodes { field outcome otherPupilId client actor } } } }"
)


async def twins(vendor: Any) -> tuple[str, str]:
    await put(vendor, unnumbered(ANN), unnumbered(ANN, reference="other"))
    one, two = await list_ids(vendor)
    return one, two


async def test_two_children_are_said_and_taken_back_in_both_interfaces(small_trust: Trust, vendor: Any) -> None:
    one, two = await twins(vendor)
    url = f"/v1/pupils/{one}/distinguish"
    before = await small_trust.everything()
    said = {"id": one, "otherId": two, "outcome": "said"}
    assert await sent(vendor, f"{url}?dryRun=true", {"otherId": two}) == said | {"dryRun": True}
    assert await small_trust.everything() == before
    assert await sent(vendor, url, {"otherId": two, "actor": "Head"}) == said
    assert await listed(vendor) == []
    assert (await sent(vendor, url, {"otherId": two}))["outcome"] == "unchanged"
    mirrored = await sent(vendor, f"/v1/pupils/{two}/distinguish", {"otherId": one})
    assert mirrored["outcome"] == "unchanged"
    taken_back = {"id": two, "otherId": one, "different": False}
    answer = (await asked(vendor, SAY, input=taken_back))["distinguishPupil"]
    assert answer == {"id": two, "otherId": one, "outcome": "withdrawn"}
    assert [kind for kind, _ in await listed(vendor)] == [SAME]
    for id_, other in ((one, two), (two, one)):
        rows = (await vendor.get(f"/v1/pupils/{id_}/recordHistory?field=differentChildren")).json()["data"]
        assert [(row["outcome"], row["otherPupilId"], row["actor"]) for row in rows] == [
            ("said", other, "Head"),
            ("withdrawn", other, None),
        ]


async def test_it_holds_when_the_rows_are_sent_again_and_ends_with_the_facts(small_trust: Trust, vendor: Any) -> None:
    one, two = await twins(vendor)
    await sent(vendor, f"/v1/pupils/{one}/distinguish", {"otherId": two})
    for changed in ({}, {"yearGroup": "5"}, {"upn": upn(60, temporary=True)}, {"surname": "ARCHER"}):
        answer = await put(vendor, child(ANN, **{"upn": None} | changed), unnumbered(ANN, reference="other"))
        assert (warned(answer), await listed(vendor)) == ({}, []), changed
    for id_ in (one, two):
        renamed = await patch(vendor, {"id": id_}, surname="Bowman")
    assert [warning["code"] for warning in renamed["warnings"]] == [SAME]
    assert [kind for kind, _ in await listed(vendor)] == [SAME]


async def test_a_third_record_is_another_question(small_trust: Trust, vendor: Any) -> None:
    one, two = await twins(vendor)
    await sent(vendor, f"/v1/pupils/{one}/distinguish", {"otherId": two})
    await put(vendor, unnumbered(ANN, reference="third"))
    assert len(await listed(vendor, kind=SAME)) == 2


async def test_it_is_said_by_who_writes_both_and_of_records_that_are_alike(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, unnumbered(ANN), child(BEN))
    await put(vendor, unnumbered(ANN, reference="Elm-1"), at="Elm")
    ids = await list_ids(vendor)
    names = {row["id"]: row["surname"] for row in (await vendor.get("/v1/pupils?roll=all")).json()["data"]}
    alike = [id_ for id_ in ids if names[id_] == "Archer"]
    (ben,) = {*ids} - {*alike}
    oak = await small_trust.client("oak", f"school:{URNS['Oak']}=all")
    url = f"/v1/pupils/{alike[0]}/distinguish"
    assert issues(await sent(oak, url, {"otherId": alike[1]}, 422)) == {"/otherId": "pupil-not-found"}
    assert issues(await sent(vendor, url, {"otherId": ben}, 422)) == {"/otherId": "not-alike"}
    assert issues(await sent(vendor, url, {"otherId": alike[0]}, 422)) == {"/otherId": "wrong-value"}
    await sent(vendor, url, {"otherId": alike[1]})
    row = (await oak.get(f"/v1/pupils/{alike[0]}/recordHistory?field=differentChildren")).json()["data"][0]
    assert row["otherPupilId"] is None


async def test_a_new_identity_and_a_merge_end_it(small_trust: Trust, vendor: Any) -> None:
    one, two = await twins(vendor)
    await sent(vendor, f"/v1/pupils/{one}/distinguish", {"otherId": two})
    version = (await vendor.get(f"/v1/pupils/{one}")).json()["version"]
    await sent(vendor, f"/v1/pupils/{one}/new-identity", {"expectedVersion": version, "surname": "New", "forename": "Name"})
    assert await small_trust.value("SELECT count(*) FROM different_children") == 0
    assert await small_trust.value("SELECT count(*) FROM pupil_history WHERE field = 'differentChildren'") == 0
