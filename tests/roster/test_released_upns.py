"""A UPN recorded in error is released by a person, or taken by its owner; the school that had it is told."""

from typing import Any

import pytest

from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, batch, counted, issues, opened, roll, sent, upn
from tests.roster.children import ANN, BEN, child, patch, pupil, put, upns, warned

RELEASE = (
    "mutation ($input: UpnReleaseInput!, $dry: Boolean) { releasePupilUpn(input: $input, dryRun: $dry) { id outcome version } }"
)


async def recorded_in_error(vendor: Any) -> dict[str, Any]:
    """Ann, who was sent with Ben's UPN and is corrected since."""
    await put(vendor, child(ANN, upn=upn(BEN)))
    await put(vendor, child(ANN))
    return await pupil(vendor, surname="Archer")


async def told(client: Any) -> list[tuple[str, list[str], list[str]]]:
    answer = await client.get("/v1/data-issues", params={"kind": "upn-released"})
    return [(row["schoolId"], row["pupilIds"], row["differing"]) for row in answer.json()["data"]]


async def test_a_former_number_is_released_once(small_trust: Trust, vendor: Any) -> None:
    ann = await recorded_in_error(vendor)
    url, body = f"/v1/pupils/{ann['id']}/release-upn", {"upn": upn(BEN).lower()}
    read = await vendor.get("/v1/pupils")
    before = await small_trust.everything()
    dry = await sent(vendor, f"{url}?dryRun=true", body)
    assert (dry, await small_trust.everything()) == (
        {"id": ann["id"], "outcome": "released", "version": 3, "dryRun": True},
        before,
    )
    assert await sent(vendor, url, body) == {"id": ann["id"], "outcome": "released", "version": 3}
    assert await sent(vendor, url, body) == {"id": ann["id"], "outcome": "unchanged", "version": 3}
    assert await upns(small_trust, ann["id"]) == {upn(ANN): True}
    again = await vendor.get("/v1/pupils", headers={"If-None-Match": read.headers["ETag"]})
    assert (again.status_code, again.json()["data"][0]["version"]) == (200, 3)
    assert await told(vendor) == [], "who released it knows"
    assert (await sent(vendor, "/v1/pupils/lookup", {"where": {"upn": [upn(BEN)]}}))["data"] == []
    await opened(vendor)
    judged = batch("Oak", [{"upn": upn(BEN), "subject": "reading", "grade": 100}])
    assert issues(await sent(vendor, "/v1/judgements", judged, 422)) == {"/entries/0/upn": "pupil-not-found"}
    nightly = await put(vendor, child(ANN, formerUpns=[upn(BEN)]))
    assert (counted(nightly), await upns(small_trust, ann["id"])) == ({"unchanged": 1}, {upn(ANN): True})
    arrived = await put(vendor, child(BEN))
    assert (counted(arrived), warned(arrived)) == ({"created": 1}, {})


async def test_it_is_a_mutation_too(small_trust: Trust, vendor: Any) -> None:
    ann = await recorded_in_error(vendor)
    given = {"id": ann["id"], "upn": upn(BEN)}
    for dry, outcome in ((True, "released"), (False, "released"), (False, "unchanged")):
        answer = (await asked(vendor, RELEASE, input=given, dry=dry))["releasePupilUpn"]
        assert answer == {"id": ann["id"], "outcome": outcome, "version": 3}


async def test_a_number_that_the_pupil_has_or_never_had_is_not_released(small_trust: Trust, vendor: Any) -> None:
    ann = await recorded_in_error(vendor)
    await put(vendor, child(BEN, upn=None))
    before = await small_trust.everything()
    url = f"/v1/pupils/{ann['id']}/release-upn"
    for number, code in ((upn(ANN), "upn-not-former"), (upn(99), "upn-not-former"), ("X1", "upn-invalid"), ("", "upn-invalid")):
        refused = await sent(vendor, url, {"upn": number}, 422)
        assert issues(refused) == {"/upn": code}
        assert not number or number not in str(refused)
    ben = await pupil(vendor, surname="Baker")
    other = await sent(vendor, f"/v1/pupils/{ben['id']}/release-upn", {"upn": upn(BEN)}, 422)
    assert issues(other) == {"/upn": "upn-not-former"}, "it is Ann's former number"
    assert await small_trust.everything() == before


async def test_both_scopes_are_needed_at_the_main_school(small_trust: Trust, vendor: Any) -> None:
    ann = await recorded_in_error(vendor)
    url, body = f"/v1/pupils/{ann['id']}/release-upn", {"upn": upn(BEN)}
    before = await small_trust.everything()
    for name, grants, status in (
        ("writes", [f"trust:{TRUST}=pupils:write,pupils:read"], 403),
        ("reads", [f"trust:{TRUST}=pupils:upn,pupils:read"], 403),
        ("mixed", [f"school:{URNS['Oak']}=pupils:write", f"school:{URNS['Elm']}=pupils:write,pupils:upn"], 403),
        ("elsewhere", [f"school:{URNS['Elm']}=pupils:write,pupils:upn"], 404),
    ):
        client = await small_trust.client(name, *grants)
        refused = await sent(client, url, body, status)
        assert refused["type"].rsplit("/", 1)[1] == ("scope-missing" if status == 403 else "not-found")
    near = await small_trust.client("near", f"school:{URNS['Oak']}=pupils:write,pupils:upn")
    assert await small_trust.everything() == before
    assert (await sent(near, url, body))["outcome"] == "released"


@pytest.mark.parametrize("way", ["roll", "patch"])
async def test_the_loss_of_a_upn_to_its_owner_is_reported(small_trust: Trust, vendor: Any, way: str) -> None:
    await put(vendor, child(BEN, upn=None))
    ann, ben = await recorded_in_error(vendor), await pupil(vendor, surname="Baker")
    oak = [(str(small_trust.ids["Oak"]), [ann["id"]], ["upn"])]
    await sent(vendor, "/v1/pupils?dryRun=true", roll("Oak", [child(BEN)]))
    assert await told(vendor) == []
    if way == "patch":
        await patch(vendor, ben, upn=upn(BEN))
    else:
        await put(vendor, child(BEN), child(ANN, formerUpns=[upn(BEN)]))
    assert await told(vendor) == oak
    await put(vendor, child(BEN), child(ANN))
    assert await told(vendor) == oak, "it tells of something done"
    shown = (await asked(vendor, "{ dataIssues { nodes { kind pupilIds } } }"))["dataIssues"]["nodes"]
    assert shown == [{"kind": "upn-released", "pupilIds": [ann["id"]]}]


async def test_a_batch_that_corrects_both_pupils_leaves_nothing_to_look_at(small_trust: Trust, vendor: Any) -> None:
    await put(vendor, child(ANN, upn=upn(BEN)), child(BEN, upn=upn(ANN)))
    assert warned(await put(vendor, child(ANN), child(BEN))) == dict.fromkeys(("/entries/0/upn", "/entries/1/upn"), "upn-released")
    assert await told(vendor) == []


async def test_the_school_that_had_the_upn_is_informed_and_the_owners_is_not(small_trust: Trust, vendor: Any) -> None:
    ann = await recorded_in_error(vendor)
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    await put(elm, child(BEN), at="Elm")
    assert (await told(vendor), await told(elm)) == ([(str(small_trust.ids["Oak"]), [ann["id"]], ["upn"])], [])
