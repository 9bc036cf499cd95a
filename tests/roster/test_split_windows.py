"""What follows the new record of a split: all of the windows that it names, also what was recorded after a merge. The dry run and the answer say what moved."""

from typing import Any

from tests.assessment.test_discounts import REASON, find_window
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import URNS, WINDOW, Trust, asked, batch, opened, roll, sent
from tests.roster.children import EVA, EVAN, child, put
from tests.roster.test_merging import confirmed, merge_body, pupil, values
from tests.roster.test_split_references import split_body

THIRD = {"forename": "Ida", "surname": "Third", "dateOfBirth": "2007-11-11", "upn": None}
"""Facts of a child who is neither of the twins."""


async def twins(vendor: Any) -> tuple[str, str]:
    """The ids of two children who came to Oak on one day."""
    await opened(vendor)
    await put(vendor, child(EVA), child(EVAN))
    return (await pupil(vendor, forename="Eva"))["id"], (await pupil(vendor, forename="Evan"))["id"]


async def judge(client: Any, number: int, subject: str, grade: int = 101) -> None:
    await sent(client, "/v1/judgements", batch("Oak", [{"reference": f"P{number}", "subject": subject, "grade": grade}]))


async def discount(client: Any, id_: str) -> str:
    body = {"school": {"urn": URNS["Oak"]}, "pupil": {"id": id_}} | REASON
    return str((await sent(client, f"/v1/windows/{await find_window(client)}/discounts", body, 201))["id"])


async def discounted(client: Any, id_: str) -> list[str]:
    rows = (await client.get(f"/v1/discounts?pupilId={id_}&fields=id,withdrawnAt")).json()["data"]
    return [row["id"] for row in rows if row["withdrawnAt"] is None]


async def merge(client: Any, gone: str, into: str) -> Any:
    return await confirmed(client, f"/v1/pupils/{gone}/merge", await merge_body(client, gone, into))


async def split(client: Any, id_: str, number: int, **changed: Any) -> Any:
    return await confirmed(client, f"/v1/pupils/{id_}/split", await split_body(client, id_, number, windows=[WINDOW], **changed))


async def test_what_came_after_a_merge_follows_its_window(small_trust: Trust, vendor: Any) -> None:
    """Whether the new record is the merged child or another one with the same spells."""
    for facts in ({}, THIRD):
        eva, evan = await twins(vendor) if not facts else (eva, done["id"])  # noqa: F821
        await merge(vendor, evan, eva)
        if not facts:
            await judge(vendor, EVAN, "reading")
            given = await discount(vendor, eva)
        done = await split(vendor, eva, EVAN, **facts)
        assert done["judgements"] == 1
        assert await values(small_trust, done["id"]) == {"reading": "101"}
        assert await values(small_trust, eva) == {}
        assert (await discounted(vendor, eva), await discounted(vendor, done["id"])) == ([], [given])
        assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_merge_that_is_undone_leaves_the_record_what_it_had_before(small_trust: Trust, vendor: Any) -> None:
    eva, evan = await twins(vendor)
    await judge(vendor, EVA, "reading", 90)
    await judge(vendor, EVAN, "maths", 110)
    for_eva, for_evan = await discount(vendor, eva), await discount(vendor, evan)
    done = await merge(vendor, evan, eva)
    assert [(c["kind"], c["stands"], c["window"]) for c in done["conflicts"] if c["kind"] == "discount"] == [
        ("discount", "into", WINDOW)
    ]
    assert await discounted(vendor, eva) == [for_eva], "one is in force in a window"
    await judge(vendor, EVA, "reading", 95)
    await judge(vendor, EVAN, "gps", 99)
    done = await split(vendor, eva, EVAN)
    assert done["judgements"] == 2
    assert await values(small_trust, eva) == {"reading": "95"}
    assert await values(small_trust, done["id"]) == {"maths": "110", "gps": "99"}
    assert (await discounted(vendor, eva), await discounted(vendor, done["id"])) == ([for_eva], [for_evan])
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_only_a_named_window_moves_and_the_count_is_of_what_moved(small_trust: Trust, vendor: Any) -> None:
    """By the mutation, whose dry run says the same."""
    eva, evan = await twins(vendor)
    await judge(vendor, EVA, "reading", 90)
    await judge(vendor, EVAN, "reading", 110)
    await discount(vendor, evan)
    await merge(vendor, evan, eva)
    query = "mutation ($input: PupilSplitInput!, $dry: Boolean) { splitPupil(input: $input, dryRun: $dry) { id judgements confirmation } }"
    body = await split_body(vendor, eva, EVAN) | {"id": eva}
    assert (await asked(vendor, query, input=body, dry=True))["splitPupil"]["judgements"] == 0
    body["windows"] = [WINDOW]
    dry = (await asked(vendor, query, input=body, dry=True))["splitPupil"]
    done = (await asked(vendor, query, input=body | {"confirmation": dry["confirmation"]}))["splitPupil"]
    assert (dry["judgements"], done["judgements"]) == (1, 1)
    assert (await values(small_trust, eva), await values(small_trust, done["id"])) == ({"reading": "90"}, {"reading": "110"})
    assert len(await discounted(vendor, done["id"])) == 1
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_memberships_follow_the_spells_of_one_school(small_trust: Trust, vendor: Any) -> None:
    """Both children are of one school, at different times."""
    await put(vendor, child(EVA))
    eva = (await pupil(vendor, forename="Eva"))["id"]
    for code, first, last, year in (
        ("A", "2016-09-05", "2017-07-20", "2016-17"),
        ("B", "2017-09-05", None, "2017-18"),
    ):
        member = {"id": eva, "from": first} | ({"to": last} if last else {})
        group = {"code": code, "name": code, "kind": "adhoc", "members": [member]}
        await sent(vendor, "/v1/groups", roll("Oak", [group], academicYear=year, asOf=first))
    at_oak = {"school": {"urn": URNS["Oak"]}, "status": "C"}
    body = await split_body(
        vendor,
        eva,
        EVAN,
        enrolments=[at_oak | {"from": "2017-09-01"}],
        remainingEnrolments=[at_oak | {"from": "2014-09-01", "to": "2017-07-21"}],
    )
    done = await confirmed(vendor, f"/v1/pupils/{eva}/split", body)
    rows = await small_trust.operator.fetch(
        "SELECT g.code, m.pupil_id::text FROM group_members m JOIN groups g ON g.id = m.group_id"
    )
    assert {row[0]: row[1] for row in rows} == {"A": eva, "B": done["id"]}
