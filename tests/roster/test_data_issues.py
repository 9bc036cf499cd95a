"""Data issues: what is doubtful is listed in both interfaces, to who reaches it, until its cause is gone."""

from typing import Any

from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, entry, issues, roll, sent, upn


async def listed(client: Any, **where: str) -> list[tuple[str, list[str]]]:
    """Kind and pupils of the issues that a client reads, alike in both interfaces."""
    answer = await client.get("/v1/data-issues", params=where)
    assert answer.status_code == 200, answer.text
    rows = answer.json()["data"]
    query = "{ dataIssues { nodes { id kind schoolId pupilIds differing client clientId foundAt } } }"
    shown = (await asked(client, query))["dataIssues"]["nodes"]
    assert where or shown == rows
    assert all((row["client"] is None) == (row["clientId"] is None) for row in rows)
    return sorted((row["kind"], row["pupilIds"]) for row in rows)


async def two_keys(vendor: Any) -> list[str]:
    """Two pupils of Oak, of whom one is then named by reference with the other's UPN; returns their ids."""
    rows = [entry(1), entry(2)]
    made = await sent(vendor, "/v1/pupils", roll("Oak", rows), Prefer="return=representation")
    refused = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, upn=upn(2))]), 422)
    assert set(issues(refused).values()) <= {"pupil-merge-needed", "pupil-conflict"}
    return sorted(result["id"] for result in made["results"])


async def test_a_refused_batch_leaves_its_doubt_until_the_row_is_right(small_trust: Trust, vendor: Any) -> None:
    ids = await two_keys(vendor)
    ((kind, pupils),) = await listed(vendor)
    assert (kind in ("pupil-merge-needed", "pupil-conflict"), set(pupils) <= set(ids)) == (True, True)
    again = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, upn=upn(2)), entry(4)]), Prefer="handling=lenient")
    assert again["rejected"] == 1
    assert len(await listed(vendor)) == 1, "the same doubt is one issue"
    school = (await vendor.get("/v1/schools", params={"urn": URNS["Oak"], "include": "dataIssues"})).json()["data"][0]
    assert [row["kind"] for row in school["dataIssues"]["data"]] == [kind]
    assert await listed(vendor, kind=kind, schoolId=str(small_trust.ids["Oak"])) == [(kind, pupils)]
    assert await listed(vendor, schoolId=str(small_trust.ids["Elm"])) == []
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    assert await listed(vendor) == []


async def test_a_dry_run_leaves_no_issue(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2)]))
    await sent(vendor, "/v1/pupils?dryRun=true", roll("Oak", [entry(1, upn=upn(2))]), 422)
    assert await listed(vendor) == []


async def test_an_issue_is_reported_where_the_school_is_within_reach(small_trust: Trust, vendor: Any) -> None:
    await two_keys(vendor)
    near = await small_trust.client("near", f"school:{URNS['Oak']}=pupils:read")
    far = await small_trust.client("far", f"school:{URNS['Elm']}=pupils:read")
    portal = await small_trust.client("portal", f"trust:{TRUST}=aggregates:read")
    assert (len(await listed(near)), await listed(far)) == (1, [])
    assert (await portal.get("/v1/data-issues")).status_code == 403


async def test_pupils_out_of_reach_are_not_named(small_trust: Trust, vendor: Any) -> None:
    """Oak sends the UPN of a pupil of Elm: its client reads of its own pupil alone."""
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    made = await sent(vendor, "/v1/pupils", roll("Elm", [entry(2)]), Prefer="return=representation")
    oak = await small_trust.client("oak", f"school:{URNS['Oak']}=pupils:read,pupils:write")
    await sent(oak, "/v1/pupils", roll("Oak", [entry(3, reference="mine")]))
    await sent(oak, "/v1/pupils", roll("Oak", [entry(3, reference="mine", upn=upn(2))]), 422)
    answers = (
        (await oak.get("/v1/data-issues")).text,
        (await oak.post("/graphql", json={"query": "{dataIssues{nodes{pupilIds}}}"})).text,
    )
    assert [made["results"][0]["id"] in answer for answer in answers] == [False, False]


async def test_a_row_that_changes_upn_and_surname_is_held_back_and_listed(small_trust: Trust, vendor: Any) -> None:
    """It wins over any other contradiction; each of the two alone is a correction."""
    made = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]), Prefer="return=representation")
    (id_,) = (result["id"] for result in made["results"])
    for changed in (
        {},
        {"dateOfBirth": "2006-01-01"},
        {"reference": "new", "formerUpns": [upn(1)]},
        {"id": id_, "reference": None},
    ):
        refused = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, upn=upn(3), surname="Other", **changed)]), 422)
        assert issues(refused) == {"/entries/0": "identity-changed"}
        assert await listed(vendor) == [("identity-changed", [id_])]
    patch = await vendor.patch(f"/v1/pupils/{id_}", json={"upn": upn(3), "surname": "Other"}, headers={"If-Match": "*"})
    assert [issue["code"] for issue in patch.json()["issues"]] == ["identity-changed"]
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, surname="Other")]))
    assert await listed(vendor) == []


async def test_one_child_in_two_schools_is_reported_to_who_reaches_both_until_a_upn_distinguishes_them(
    small_trust: Trust, vendor: Any
) -> None:
    made = [
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, upn=None)]), Prefer="return=representation"),
        await sent(vendor, "/v1/pupils", roll("Elm", [entry(2, surname="SURNAME1", sex="M")]), Prefer="return=representation"),
    ]
    ids = sorted(answer["results"][0]["id"] for answer in made)
    oak = await small_trust.client("oak", f"school:{URNS['Oak']}=pupils:read")
    assert await listed(vendor) == [("possible-same-child", ids)] * 2
    assert await listed(oak) == []
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    assert await listed(vendor) == []
