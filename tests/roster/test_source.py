"""A school names one client as the source of names, enrolments and characteristics; what another one says of these is told, and not written."""

from datetime import UTC, datetime
from typing import Any

import pytest
import pytest_asyncio

from tests.fixtures.clock import set_clock
from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, batch, counted, entry, issues, opened, roll, sent, upn
from tests.roster.children import ANN, BEN, EVA, child, patch, pupil, put, references, warned

SPELLS = [{"from": "2014-09-01", "to": "2018-03-01", "status": "C"}]
ROWS = "SELECT e::text FROM enrolments e UNION ALL SELECT c::text FROM characteristics c ORDER BY 1"
OTHER = [{"kind": "eal", "value": "2", "from": "2014-09-01"}]


@pytest_asyncio.fixture
async def other(small_trust: Trust, vendor: Any) -> Any:
    """Another client of the trust; the vendor is Oak's source, and has sent Ann and Ben."""
    await put(vendor, child(ANN), child(BEN))
    client = await small_trust.client("other", f"trust:{TRUST}=all")
    await name(small_trust, client, "vendor")
    return client


async def name(here: Trust, client: Any, source: str | None, status: int = 200, at: str = "Oak") -> Any:
    url = f"/v1/schools/{here.ids[at]}"
    answer = await client.patch(url, json={"sourceClient": source}, headers={"If-Match": "*"})
    assert answer.status_code == status, answer.text
    return answer.json()


async def listed(client: Any) -> list[tuple[list[str], list[str], str]]:
    answer = await client.get("/v1/data-issues", params={"kind": "not-source"})
    return sorted((row["pupilIds"], row["differing"], row["client"]) for row in answer.json()["data"])


async def test_a_school_shows_its_source_and_takes_it_back(small_trust: Trust, vendor: Any, other: Any) -> None:
    vendor_id = str(await small_trust.value("SELECT id FROM clients WHERE name = 'vendor'"))
    read = await vendor.get(f"/v1/schools/{small_trust.ids['Oak']}")
    assert (read.json()["sourceClient"], read.json()["sourceClientId"], read.json()["version"]) == ("vendor", vendor_id, 2)
    assert await name(small_trust, other, vendor_id) == {
        "id": read.json()["id"],
        "outcome": "unchanged",
        "version": 2,
        "warnings": [],
    }
    query = "mutation ($i: SchoolChangeInput!) { updateSchool(input: $i) { outcome version } }"
    back = {"id": read.json()["id"], "expectedVersion": 2, "sourceClient": None}
    assert (await asked(vendor, query, i=back))["updateSchool"] == {"outcome": "updated", "version": 3}
    again = await vendor.get(f"/v1/schools/{small_trust.ids['Oak']}", headers={"If-None-Match": read.headers["ETag"]})
    assert (again.status_code, again.json()["sourceClient"], again.json()["sourceClientId"]) == (200, None, None)
    shown = (await asked(vendor, "{ schools { nodes { urn sourceClient } } }"))["schools"]["nodes"]
    assert {row["sourceClient"] for row in shown} == {None}


async def test_no_client_names_itself_or_one_that_may_not_write(small_trust: Trust, vendor: Any, other: Any) -> None:
    other_id = str(await small_trust.value("SELECT id FROM clients WHERE name = 'other'"))
    await small_trust.client("reads", f"trust:{TRUST}=pupils:read")
    await small_trust.client("elm", f"school:{URNS['Elm']}=pupils:write")
    before = await small_trust.everything()
    for itself in ("other", other_id):
        assert issues(await name(small_trust, other, itself, 422)) == {"/sourceClient": "source-is-caller"}
    unknown = [await name(small_trust, other, who, 422) for who in ("reads", "elm", "nobody", str(small_trust.ids["Oak"]))]
    assert [issues(answer) for answer in unknown] == [{"/sourceClient": "client-unknown"}] * 4
    assert {answer["issues"][0]["message"] for answer in unknown} == {unknown[0]["issues"][0]["message"]}
    assert await small_trust.everything() == before


async def test_what_differs_is_reported_and_not_written_and_the_rest_is(small_trust: Trust, vendor: Any, other: Any) -> None:
    ann, ben = await pupil(vendor, surname="Archer"), await pupil(vendor, surname="Baker")
    said = {
        "surname": "Archer-Cole",
        "preferredForename": "Annie",
        "yearGroup": "5",
        "enrolments": SPELLS,
        "characteristics": OTHER,
    }
    row = child(ANN, reference="O1", **said) | {"id": ann["id"]}
    stored = await small_trust.operator.fetch(ROWS)
    for n, outcome in enumerate(("updated", "unchanged")):
        answer = await put(other, row, child(BEN, reference="O2", sex="F") | {"id": ben["id"]})
        assert (counted(answer).get(outcome), warned(answer)) == (
            2,
            {f"/entries/0/{field}": "not-source" for field in said},
        ), n
    fields = ["surname", "preferredForename", "yearGroup", "characteristics", "enrolments"]
    assert await listed(vendor) == [([ann["id"]], fields, "other")]
    after = await pupil(vendor, surname="Archer")
    names = ("surname", "forename", "preferredForename", "yearGroup", "onRoll")
    assert [after[field] for field in names] == [ann[field] for field in names]
    assert await small_trust.operator.fetch(ROWS) == stored
    assert ((await pupil(vendor, surname="Baker"))["sex"], ben["sex"]) == ("F", "M")
    assert await references(small_trust) == {"Ann": ["O1", "P1"], "Ben": ["O2", "P2"]}
    assert counted(await put(vendor, child(ANN), child(BEN, sex="F"))) == {"unchanged": 2}
    assert len(await listed(vendor)) == 1, "the source's row does not resolve what another client says"
    assert warned(await put(other, child(ANN, reference="O1"))) == {}
    assert await listed(vendor) == []


async def test_a_patch_is_reported_too(small_trust: Trust, vendor: Any, other: Any) -> None:
    ann = await pupil(vendor, surname="Archer")
    answer = await patch(other, ann, surname="Cole", yearGroup="14", sex="M")
    assert (answer["outcome"], warned(answer)) == ("updated", {"/surname": "not-source", "/yearGroup": "not-source"})
    assert await listed(vendor) == [([ann["id"]], ["surname", "yearGroup"], "other")]
    after = await pupil(vendor, upn=[upn(ANN)])
    assert (after["surname"], after["yearGroup"], after["sex"]) == ("Archer", ann["yearGroup"], "M")
    query = "mutation ($i: PupilChangeInput!) { updatePupil(input: $i) { outcome version warnings { at code } } }"
    change = {"id": ann["id"], "expectedVersion": after["version"], "preferredSurname": "Cole"}
    told = {"at": "/preferredSurname", "code": "not-source"}
    unchanged = {"outcome": "unchanged", "version": after["version"], "warnings": [told]}
    assert (await asked(other, query, i=change))["updatePupil"] == unchanged
    assert (await patch(vendor, ann, preferredSurname="Cole"))["outcome"] == "updated"


async def test_another_client_brings_no_child_on_roll_and_takes_none_off(small_trust: Trust, vendor: Any, other: Any) -> None:
    ben = await pupil(vendor, surname="Baker")
    await put(vendor, child(EVA), at="Elm")
    before = await small_trust.operator.fetch("SELECT id, school_id FROM pupils ORDER BY id")
    new = await sent(other, "/v1/pupils", roll("Oak", [child(ANN), entry(9)]), 422)
    assert issues(new) == {"/entries/1": "not-source"}
    moving = await put(other, child(EVA, reference="O3", enrolments=[{"from": "2018-04-01", "status": "C"}]))
    assert warned(moving) == {"/entries/0/enrolments": "not-source"}
    assert await small_trust.operator.fetch("SELECT id, school_id FROM pupils ORDER BY id") == before
    for lenient in (False, True):
        whole = roll("Oak", [child(ANN, reference="O1")], complete=True)
        answer = await sent(other, "/v1/pupils", whole, **({"Prefer": "handling=lenient"} if lenient else {}))
        assert (answer["left"], warned(answer)) == (0, {"/complete": "not-source"})
        assert await listed(vendor) == [([ben["id"]], ["enrolments"], "other")]
    assert await small_trust.value("SELECT count(*) FROM enrolments WHERE to_on IS NOT NULL") == 0
    empty = await put(other, child(ANN, reference="O1", enrolments=[]))
    assert warned(empty) == {"/entries/0/enrolments": "not-source"}


async def test_another_clients_newer_roll_does_not_supersede_the_sources(small_trust: Trust, vendor: Any, other: Any) -> None:
    later = roll("Oak", [child(ANN, reference="O1")]) | {"asOf": "2018-09-10"}
    answer = await sent(other, "/v1/pupils", later)
    assert answer["rejected"] == 0
    changed = await put(vendor, child(ANN, surname="Cole"))
    assert counted(changed) == {"updated": 1}
    school = (await vendor.get(f"/v1/schools/{small_trust.ids['Oak']}")).json()
    assert school["rollYear"] == "2017-18"


async def test_joiners_of_a_batch_of_judgements_are_reported_too(small_trust: Trust, vendor: Any, other: Any) -> None:
    await opened(vendor)
    body = batch("Oak", [{"reference": "O1", "subject": "reading", "grade": 100}], asOf="2018-05-01")
    answer = await sent(other, "/v1/judgements", body | {"pupils": [child(ANN, reference="O1", surname="Cole")]})
    assert (counted(answer), warned(answer)) == ({"created": 1}, {"/pupils/0/surname": "not-source"})


async def test_a_source_that_is_taken_back_or_named_anew_resolves_what_was_reported(
    small_trust: Trust, vendor: Any, other: Any
) -> None:
    row = child(ANN, reference="O1", surname="Cole")
    await put(other, row)
    assert len(await listed(vendor)) == 1
    await name(small_trust, vendor, "other")
    assert await listed(vendor) == []
    assert counted(await put(other, row)) == {"updated": 1}
    assert warned(await put(vendor, child(ANN))) == {"/entries/0/surname": "not-source"}
    await name(small_trust, vendor, None)
    assert await listed(vendor) == []
    assert counted(await put(vendor, child(ANN))) == {"updated": 1}


async def test_other_schools_of_the_trust_have_a_source_of_their_own(small_trust: Trust, vendor: Any, other: Any) -> None:
    await put(vendor, child(EVA), at="Elm")
    assert counted(await put(other, child(EVA, surname="Cole", reference="O3"), at="Elm")) == {"updated": 1}
    only_oak = await small_trust.client("only", f"school:{URNS['Oak']}=all")
    unnamed = {"asOf": "2018-05-01", "entries": [child(ANN, reference="U1", surname="Cole")]}
    assert warned(await sent(only_oak, "/v1/pupils", unnamed)) == {"/entries/0/surname": "not-source"}


async def test_another_client_plans_nothing(small_trust: Trust, vendor: Any, other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, datetime(2018, 7, 10, 9, tzinfo=UTC))
    spell = [{"from": "2014-09-01", "status": "C"}]
    coming = roll("Oak", [child(ANN, yearGroup="7", enrolments=spell), child(BEN, yearGroup="7", enrolments=spell)])
    await sent(vendor, "/v1/pupils", coming | {"asOf": "2018-09-01"})
    mine = roll("Oak", [child(ANN, reference="O1", yearGroup="8", enrolments=spell)], complete=True)
    answer = await sent(other, "/v1/pupils", mine | {"asOf": "2018-09-01"})
    assert {"/asOf", "/entries/0/yearGroup"} <= warned(answer).keys()
    rolls = (await vendor.get("/v1/planned-rolls", params={"fields": "state,rowCount"})).json()["data"]
    assert rolls == [{"state": "planned", "rowCount": 2}]
