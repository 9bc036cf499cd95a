"""expectedVersion: a change made from another version than the stored one is refused, and told what is stored where its client may read that."""

from typing import Any

from tests.fixtures.small_trust import URNS, Trust, asked, batch, counted, issues, judged, sent, upn

STALE = "version-conflict"
TARGETED = {"subject": "reading", "horizon": {"academicYear": "2017-18", "point": "KS2"}, "basis": "teacher"}


async def test_a_change_needs_the_version_it_was_made_from(small_trust: Trust, vendor: Any) -> None:
    async def at(version: int, grade: Any, status: int = 200) -> Any:
        return await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=grade, expectedVersion=version)]), status)

    refused = await at(1, 100, 422)
    assert issues(refused) == {"/entries/0/expectedVersion": STALE}
    assert refused["issues"][0]["current"] == {"version": 0, "grade": None, "status": None, "mark": None, "recordedAt": None}
    assert counted(await at(0, 100)) == {"created": 1}
    assert counted(await at(0, 100)) == {"unchanged": 1}  # sent again: it changes nothing, so it does not fail
    assert issues(await at(0, 101, 422)) == {"/entries/0/expectedVersion": STALE}
    assert counted(await at(1, 101)) == {"updated": 1}
    current = (await at(1, 102, 422))["issues"][0]["current"]
    assert current == {"version": 2, "grade": "101", "status": None, "mark": None, "recordedAt": current["recordedAt"]}
    assert await small_trust.value("SELECT max(version) FROM judgements") == 2


async def test_of_many_only_the_stale_are_refused(vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(n, mark=40.5) for n in range(6)]))
    rows = [judged(n, grade=110, expectedVersion=1 + n % 2) for n in range(6)] + [{**judged(6), "expectedVersion": 0}]
    lenient = await sent(vendor, "/v1/judgements", batch("Oak", rows), Prefer="handling=lenient")
    assert counted(lenient) == {"updated": 3, "created": 1, "rejected": 3}
    assert issues(lenient) == {f"/entries/{n}/expectedVersion": STALE for n in (1, 3, 5)}
    assert [(i["current"]["version"], i["current"]["grade"], i["current"]["mark"]) for i in lenient["issues"]] == [
        (1, "100", 40.5)
    ] * 3


async def test_what_is_stored_is_shown_only_to_who_may_read_it_there(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    await sent(vendor, "/v1/judgements", batch("Elm", [judged(20)]))
    stale = {"subject": "reading", "grade": 90, "expectedVersion": 7}
    rows = [{"upn": upn(n), "school": {"urn": URNS[at]}, **stale} for n, at in ((1, "Oak"), (20, "Elm"))]
    one_sided = await small_trust.client(
        "one-sided", f"school:{URNS['Oak']}=judgements:write", f"school:{URNS['Elm']}=judgements:write,judgements:read"
    )
    refused = await sent(one_sided, "/v1/judgements", batch("Oak", rows), 422)
    assert [(issue["code"], "current" in issue) for issue in refused["issues"]] == [(STALE, False), (STALE, True)]
    blind = await small_trust.client("blind", "trust:4128=judgements:write")
    refused = await sent(blind, "/v1/judgements", batch("Oak", rows), 422)
    assert ["current" in issue for issue in refused["issues"]] == [False, False]


async def test_targets_too(vendor: Any) -> None:
    async def at(version: int, grade: Any, status: int = 200) -> Any:
        body = {
            "school": {"urn": URNS["Oak"]},
            "entries": [{"reference": "P1", **TARGETED, "grade": grade, "expectedVersion": version}],
        }
        return await sent(vendor, "/v1/targets", body, status)

    assert counted(await at(0, 100)) == {"created": 1}
    refused = await at(0, 105, 422)
    assert issues(refused) == {"/entries/0/expectedVersion": STALE}
    assert (refused["issues"][0]["current"]["version"], refused["issues"][0]["current"]["grade"]) == (1, "100")
    assert counted(await at(1, 105)) == {"updated": 1}


async def test_graphql_shows_the_same(vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    told = await asked(
        vendor,
        'mutation ($b: JudgementBatchInput!) { recordJudgements(input: $b, handling: "lenient") '
        "{ rejected issues { at code current { version grade status mark recordedAt } } } }",
        b=batch("Oak", [judged(1, grade=90, expectedVersion=0), judged(2)]),
    )
    (issue,) = told["recordJudgements"]["issues"]
    rest = (await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=90, expectedVersion=0)]), 422))["issues"][0]
    assert issue == {name: rest[name] for name in ("at", "code", "current")}
