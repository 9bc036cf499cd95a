"""One child with two records in one school or in two: told by warnings and data issues to who reaches both, and never merged."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from domain.declare.scopes import Scope
from domain.roster.record_pupils.doubts import _SAME_CHILDREN
from tests.fixtures.small_trust import AS_OF, URNS, Trust, asked, batch, counted, judged, opened, roll, sent, upn
from tests.roster.children import ANN, BEN, EVA, EVAN, child, pupil, put, warned
from tests.roster.test_data_issues import listed

SAME = "possible-same-child"


def unnumbered(number: int, **changed: Any) -> dict[str, Any]:
    return child(number, upn=None, **changed)


async def list_ids(client: Any) -> list[str]:
    """The ids of all pupils, also of those who left."""
    return [row["id"] for row in (await client.get("/v1/pupils?roll=all&fields=id&sort=id")).json()["data"]]


@pytest.mark.parametrize("dry_run", [False, True])
async def test_new_ids_of_an_mis_double_children_without_a_upn_and_each_is_reported(
    small_trust: Trust, vendor: Any, dry_run: bool
) -> None:
    """The old records leave by the same complete roll. Who has a permanent UPN is not doubled."""
    await put(vendor, unnumbered(ANN), unnumbered(EVA), unnumbered(EVAN), child(BEN))
    before = await list_ids(vendor)
    rows = [unnumbered(number, reference=f"new-{number}") for number in (ANN, EVA, EVAN)]
    rows += [child(BEN, reference="new-2")]
    body = roll("Oak", rows, complete=True, maxLeavers=100, asOf="2018-06-01")
    answer = await sent(vendor, f"/v1/pupils{'?dryRun=true' if dry_run else ''}", body)
    assert (counted(answer), answer["left"]) == ({"created": 3, "updated": 1}, 3)
    assert warned(answer) == {**{f"/entries/{n}": SAME for n in range(3)}, "/entries/3/reference": "reference-replaced"}
    ids = await list_ids(vendor)
    assert all(sum(id_ in warning["message"] for id_ in before) == 1 for warning in answer["warnings"][:3])
    if dry_run:
        assert (ids, await listed(vendor)) == (before, [])
        return
    assert len(ids) == 7
    told = await listed(vendor, kind=SAME)
    assert [len({*pair} & {*before}) for _, pair in told] == [1, 1, 1]
    assert len({id_ for _, pair in told for id_ in pair}) == 6
    again = await sent(vendor, "/v1/pupils", body)
    assert (counted(again), warned(again), await listed(vendor, kind=SAME)) == ({"unchanged": 4}, {}, told)


@pytest.mark.parametrize(
    ("row", "is_same"),
    [
        (unnumbered(ANN, reference="new"), True),
        (unnumbered(ANN, reference="new", forename="ANN", surname="archer"), True),
        (child(ANN, reference="new", upn=upn(50, temporary=True)), True),
        (child(ANN, reference="new", upn=upn(50)), True),
        (unnumbered(ANN, reference="new", sex="M"), False),
        (unnumbered(ANN, reference="new", forename="Anna"), False),
        (unnumbered(ANN, reference="new", dateOfBirth="2007-03-02"), False),
        (unnumbered(ANN, reference="new", surname="Archery"), False),
        (unnumbered(ANN, preferredForename="Annie"), False),
    ],
    ids=["no UPN", "written otherwise", "temporary UPN", "a UPN now", "sex", "forename", "birthday", "surname", "her own row"],
)
async def test_names_sex_and_birthday_are_one_childs(small_trust: Trust, vendor: Any, row: dict[str, Any], is_same: bool) -> None:
    await put(vendor, unnumbered(ANN))
    answer = await put(vendor, row)
    assert warned(answer) == ({"/entries/0": SAME} if is_same else {})
    assert len(await listed(vendor)) == is_same


async def test_who_left_and_comes_back_with_another_id_is_reported_too(small_trust: Trust, vendor: Any) -> None:
    """A school gives a child who enrols again a fresh number."""
    await put(vendor, unnumbered(ANN, enrolments=[{"from": "2014-09-01", "to": "2017-07-20", "status": "C"}]))
    answer = await put(vendor, unnumbered(ANN, reference="again", enrolments=[{"from": "2018-04-16", "status": "C"}]))
    assert (counted(answer), warned(answer)) == ({"created": 1}, {"/entries/0": SAME})
    assert len(await listed(vendor)) == 1


async def test_two_permanent_upns_are_two_children(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN))
    answer = await put(vendor, child(ANN, reference="new", upn=upn(50)))
    assert (counted(answer), warned(answer), await listed(vendor)) == ({"created": 1}, {}, [])
    one, _ = await list_ids(vendor)
    taken = await vendor.patch(f"/v1/pupils/{one}", json={"upn": None}, headers={"If-Match": "*"})
    assert [(w["at"], w["code"]) for w in taken.json()["warnings"]] == [("", SAME)]
    assert len(await listed(vendor)) == 1


async def test_two_rows_of_one_batch_are_both_reported(small_trust: Trust, vendor: Any) -> None:
    answer = await put(vendor, unnumbered(ANN), unnumbered(ANN, reference="new"))
    assert (counted(answer), warned(answer)) == ({"created": 2}, {f"/entries/{n}": SAME for n in (0, 1)})


async def test_a_merge_is_the_end_of_it(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, unnumbered(ANN))
    query = "mutation ($b: PupilBatchInput!) { recordPupils(input: $b) { created warnings { at code message } } }"
    body = roll("Oak", [unnumbered(ANN, reference="new")])
    (warning,) = (await asked(vendor, query, b=body))["recordPupils"]["warnings"]
    assert (warning["at"], warning["code"]) == ("/entries/0", SAME)
    old, new = await list_ids(vendor)
    assert (old in warning["message"], new in warning["message"]) == (True, False)
    merge = {"expectedVersion": 1, "into": old, "intoVersion": 1}
    dry = await sent(vendor, f"/v1/pupils/{new}/merge?dryRun=true", merge)
    await sent(vendor, f"/v1/pupils/{new}/merge", merge | {"confirmation": dry["confirmation"]})
    assert await listed(vendor) == []
    for reference in ("P1", "new"):
        assert (await pupil(vendor, reference=reference))["id"] == old


async def test_joiners_of_a_batch_of_judgements_are_reported_too(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    await put(vendor, unnumbered(ANN))
    joiner = unnumbered(ANN, reference="new")
    body = batch("Oak", [judged(1) | {"reference": "new"}], pupils=[joiner], asOf=str(AS_OF))
    answer = await sent(vendor, "/v1/judgements", body)
    assert warned(answer) == {"/pupils/0": SAME}
    assert [kind for kind, _ in await listed(vendor)] == [SAME]


async def test_of_two_schools_it_is_reported_to_who_reaches_both(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, unnumbered(ANN))
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    first = await put(elm, unnumbered(ANN, reference="Elm-1"), at="Elm")
    assert (counted(first), warned(first), await listed(elm)) == ({"created": 1}, {}, [])
    assert len(await listed(vendor)) == 2
    answer = await put(vendor, unnumbered(ANN, reference="Ash-1"), at="Ash")
    assert warned(answer) == {"/entries/0": SAME}
    (warning,) = answer["warnings"]
    assert sum(id_ in warning["message"] for id_ in await list_ids(vendor)) == 2


def list_discarded(node: dict[str, Any]) -> Iterator[int]:
    """Yields how many pairs of rows each join of a plan compared in vain."""
    yield round(node.get("Rows Removed by Join Filter", 0) * node["Actual Loops"])
    for inner in node.get("Plans", ()):
        yield from list_discarded(inner)


async def test_other_records_are_found_without_a_comparison_of_each_issue_with_each_row(small_trust: Trust, vendor: Any) -> None:
    """Children of one birthday, sent again and again with new references: what is compared grows with the issues alone."""
    names = [f"Archer{chr(97 + n)}" for n in range(20)]
    for night in range(4):
        rows = [unnumbered(ANN, surname=name, reference=f"{night}-{name}") for name in names]
        answer = await sent(vendor, "/v1/pupils", roll("Oak", rows))
    assert len(answer["warnings"]) == 20
    assert await small_trust.value("SELECT count(*) FROM data_issues") == 120
    ids = [row["id"] for row in await small_trust.operator.fetch("SELECT id FROM pupils ORDER BY id DESC LIMIT 20")]
    tenant = await small_trust.value("SELECT tenant_id FROM pupils LIMIT 1")
    client = await small_trust.value("SELECT id FROM clients WHERE name = 'vendor'")
    explain = "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) " + _SAME_CHILDREN
    (plan,) = await small_trust.operator.fetch(explain, tenant, ids, client, Scope.PUPILS_WRITE.value)
    (tree,) = json.loads(plan[0])
    assert tree["Plan"]["Actual Rows"] == 60
    assert sum(list_discarded(tree["Plan"])) <= 120, tree
