"""Whose the references of other clients are after a split: those that may be either child's are nobody's until they are said again."""

from typing import Any

from tests.fixtures.small_trust import URNS, WINDOW, Trust, asked, batch, issues, opened, sent, upn
from tests.roster.children import BORN, EVA, EVAN, NAMES, SEX, SURNAME, child, pupil, put, references
from tests.roster.test_merging import confirmed, merge_body

SPELL = {"school": {"urn": URNS["Oak"]}, "from": "2014-09-01", "status": "C"}


def of_other(number: int, **changed: Any) -> dict[str, Any]:
    return child(number, reference=f"X{number}", **changed)


async def split_body(client: Any, record_id: str, number: int, **changed: Any) -> dict[str, Any]:
    """The split of one of two children who came to Oak on one day."""
    facts = {"forename": NAMES[number], "surname": SURNAME[number], "dateOfBirth": BORN[number], "sex": SEX[number]}
    return {
        "expectedVersion": (await client.get(f"/v1/pupils/{record_id}")).json()["version"],
        **facts,
        "upn": upn(number),
        "yearGroup": "6",
        "enrolments": [SPELL],
        "remainingEnrolments": [SPELL],
        **changed,
    }


async def judge_by(client: Any, reference: str, status: int = 200) -> Any:
    row = {"reference": reference, "subject": "reading", "grade": 101}
    return await sent(client, "/v1/judgements", batch("Oak", [row]), status)


async def list_judged(here: Trust) -> list[str]:
    rows = await here.operator.fetch("SELECT p.forename FROM judgements j JOIN pupils p ON p.id = j.pupil_id ORDER BY 1")
    return [row[0] for row in rows]


async def put_twins(here: Trust, vendor: Any) -> tuple[Any, str, str]:
    """The other client, which has the twins too, and their ids."""
    other = await here.client("other", "trust:4128=all")
    await opened(vendor)
    await put(vendor, child(EVA), child(EVAN))
    await put(other, of_other(EVA), of_other(EVAN))
    return other, (await pupil(vendor, forename="Eva"))["id"], (await pupil(vendor, forename="Evan"))["id"]


async def test_a_split_takes_the_references_of_other_clients_off_both(small_trust: Trust, vendor: Any) -> None:
    other = await small_trust.client("other", "trust:4128=all")
    await opened(vendor)
    await put(vendor, child(EVA))
    await put(other, of_other(EVA))
    eva = (await pupil(vendor, forename="Eva"))["id"]
    url, body = f"/v1/pupils/{eva}/split", await split_body(vendor, eva, EVAN)
    dry = await sent(vendor, f"{url}?dryRun=true", body)
    assert dry["referencesGivenUp"] == 1
    assert await references(small_trust) == {"Eva": ["P3", "X3"]}, "a dry run writes nothing"
    done = await sent(vendor, url, body | {"confirmation": dry["confirmation"]})
    assert done["referencesGivenUp"] == 1
    assert await references(small_trust) == {"Eva": ["P3"]}
    assert issues(await judge_by(other, "X3", 422)) == {"/entries/0/reference": "pupil-not-found"}
    await put(other, of_other(EVA), of_other(EVAN))
    assert await references(small_trust) == {"Eva": ["P3", "X3"], "Evan": ["X4"]}
    await judge_by(other, "X3")
    assert await list_judged(small_trust) == ["Eva"]


async def test_a_reference_at_a_school_of_the_new_record_alone_is_taken_off_too(small_trust: Trust, vendor: Any) -> None:
    """The other client may have both children there: which of them it means nobody knows."""
    other = await small_trust.client("other", "trust:4128=all")
    at_elm = {"enrolments": [{"from": "2017-09-01", "status": "C"}]}
    await put(vendor, child(EVA, enrolments=[{"from": "2014-09-01", "to": "2017-07-20", "status": "C"}]))
    await put(vendor, child(EVA, **at_elm), at="Elm")
    await put(other, of_other(EVA, **at_elm), at="Elm")
    eva = (await pupil(vendor, forename="Eva"))["id"]
    spell = {"school": {"urn": URNS["Elm"]}, "from": "2017-09-01", "status": "C"}
    body = await split_body(vendor, eva, EVAN, enrolments=[spell])
    del body["remainingEnrolments"]
    done = await confirmed(vendor, f"/v1/pupils/{eva}/split", body)
    assert done["referencesGivenUp"] == 1
    assert await references(small_trust) == {"Eva": ["P3"], "Evan": ["P3"]}, "of this client, one at each school"


async def test_a_merge_that_is_undone_gives_each_record_its_own_references_again(small_trust: Trust, vendor: Any) -> None:
    other, eva, evan = await put_twins(small_trust, vendor)
    await confirmed(vendor, f"/v1/pupils/{evan}/merge", await merge_body(vendor, evan, eva))
    await put(await small_trust.client("third", "trust:4128=all"), child(EVA, reference="later"))
    done = await confirmed(vendor, f"/v1/pupils/{eva}/split", await split_body(vendor, eva, EVAN, windows=[WINDOW]))
    assert done["referencesGivenUp"] == 1, "whom a reference means that came after the merge nobody knows"
    assert await references(small_trust) == {"Eva": ["P3", "X3"], "Evan": ["P4", "X4"]}
    await judge_by(other, "X4")
    assert await list_judged(small_trust) == ["Evan"]
    gone = await other.get(f"/v1/pupils/{evan}")
    assert (gone.status_code, gone.json()["mergedInto"]) == (410, done["id"]), "the old id leads to the child"


async def test_the_other_child_of_a_merge_may_be_split_off(small_trust: Trust, vendor: Any) -> None:
    """Both came on one day, so that the spells do not say whose the new record is; its facts do."""
    other, eva, evan = await put_twins(small_trust, vendor)
    await judge_by(other, "X4")
    await confirmed(vendor, f"/v1/pupils/{evan}/merge", await merge_body(vendor, evan, eva))
    query = "mutation ($input: PupilSplitInput!, $dry: Boolean) { splitPupil(input: $input, dryRun: $dry) { confirmation referencesGivenUp } }"
    body = await split_body(vendor, eva, EVA, references=[{"school": {"urn": URNS["Oak"]}, "reference": "P3"}]) | {"id": eva}
    dry = (await asked(vendor, query, input=body, dry=True))["splitPupil"]
    done = (await asked(vendor, query, input=body | {"confirmation": dry["confirmation"]}))["splitPupil"]
    assert (dry["referencesGivenUp"], done["referencesGivenUp"]) == (2, 2)
    own = await small_trust.operator.fetch("SELECT value, id::text = $1 FROM external_ids ORDER BY 1", eva)
    assert [tuple(row) for row in own] == [("P3", False), ("P4", True)]
    assert issues(await judge_by(other, "X4", 422)) == {"/entries/0/reference": "pupil-not-found"}
