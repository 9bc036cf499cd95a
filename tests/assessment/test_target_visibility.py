"""Who sees a target: by its visibility, the scopes of the grant and of the token, in every place that tells of targets."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import (
    URNS,
    Trust,
    asked,
    batch,
    counted,
    entry,
    issues,
    judged,
    open_trust,
    opened,
    roll,
    sent,
    upn,
)

WORDS = ("family", "school", "trust", "staff")
REST = "pupils:read,windows:read,judgements:read,schools:read"
OAK, TRUST = "school:100001", "trust:4128"
READERS: dict[str, tuple[str, str | None, set[str]]] = {
    "family": (f"{OAK}=targets:family,{REST}", None, {"family"}),
    "family of the trust": (f"{TRUST}=targets:family,{REST}", None, {"family"}),
    "school": (f"{OAK}=targets:read,{REST}", None, {"family", "school"}),
    "trust": (f"{TRUST}=targets:read,{REST}", None, {"family", "school", "trust"}),
    "staff": (f"{OAK}=targets:read,targets:staff,{REST}", None, set(WORDS)),
    "staff alone": (f"{OAK}=targets:staff,{REST}", None, set(WORDS)),
    "staff with a narrower token": (
        f"{OAK}=targets:read,targets:staff,{REST}",
        f"targets:read {REST.replace(',', ' ')}",
        {"family", "school"},
    ),
    "family with a narrower token": (
        f"{OAK}=targets:read,targets:family,{REST}",
        f"targets:family {REST.replace(',', ' ')}",
        {"family"},
    ),
    "writer of another": (f"{OAK}=targets:write,{REST}", None, set()),
}
"""By reader, the grant, the scopes that its token asks for, and what it sees of four targets, which another client wrote."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trust(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as made:
        vendor = await made.client("vendor", f"{TRUST}=all")
        await opened(vendor)
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(4)]))
        await sent(vendor, "/v1/judgements", batch("Oak", [judged(n) for n in range(4)]))
        for n, word in enumerate(WORDS):
            await _aim(vendor, n, visibility=word)
        for name, (grant, scope, _) in READERS.items():
            await made.client(name, grant)
            if scope is not None:
                form = {"grant_type": "client_credentials", "scope": scope}
                answer = await made.http.post("/oauth/token", data=form, auth=made.credentials[name])
                made.made[-1].headers["authorization"] = f"Bearer {answer.json()['access_token']}"
        yield made


def _target(number: int, grade: int = 100, point: str = "KS2", **more: Any) -> dict[str, Any]:
    horizon = {"academicYear": "2039-40", "point": point}
    return {
        "upn": upn(number),
        "subject": "reading",
        "scheme": "ks2-scaled-score",
        "grade": grade,
        "basis": "teacher",
        "horizon": horizon,
    } | more


async def _aim(client: Any, number: int, grade: int = 100, point: str = "KS2", **more: Any) -> Any:
    body = {"school": {"urn": URNS["Oak"]}, "entries": [_target(number, grade, point, **more)]}
    return await sent(client, "/v1/targets", body, Prefer="return=representation")


def _reader(trust: Trust, name: str) -> Any:
    return trust.made[1 + list(READERS).index(name)]


async def _words(client: Any, url: str, **params: str) -> set[str]:
    answer = await client.get(url, params={"fields": "visibility"} | params)
    assert answer.status_code == 200, answer.text
    return {row["visibility"] for row in answer.json()["data"]}


@pytest.mark.parametrize("name", READERS)
async def test_a_reader_sees_the_targets_of_its_scope_everywhere(trust: Trust, name: str) -> None:
    client, (*_, seen), vendor = _reader(trust, name), READERS[name], trust.made[0]
    assert await _words(client, "/v1/targets") == seen
    csv = (await client.get("/v1/targets?fields=visibility&format=csv")).text.split()[1:]
    assert set(csv) == seen
    looked_up = await sent(client, "/v1/targets/lookup", {"where": {"subjectCode": ["reading"]}, "fields": ["visibility"]})
    assert {row["visibility"] for row in looked_up["data"]} == seen
    changes = (await client.get("/v1/target-changes")).json()
    assert "data" in changes, changes
    assert {row["toVisibility"] for row in changes["data"]} == seen
    assert {row["visibility"] for row in (await asked(client, "{ targets { nodes { visibility } } }"))["targets"]["nodes"]} == seen
    count = (await asked(client, "{ targets { totalCount } }"))["targets"]["totalCount"]
    assert count == len(seen)
    every = (await vendor.get("/v1/targets?fields=id,pupilId,visibility")).json()["data"]
    for row in every:
        is_seen = row["visibility"] in seen
        for url in (f"/v1/targets/{row['id']}", f"/v1/targets/{row['id']}/history"):
            assert ((await client.get(url)).status_code == 200) == is_seen, url
        for link in ("targets", "currentTargets", "targetHistory"):
            assert bool((await client.get(f"/v1/pupils/{row['pupilId']}/{link}")).json()["data"]) == is_seen
        nested = (
            await client.get(f"/v1/pupils/{row['pupilId']}?include=targets,currentTargets&fields=id,targets.id,currentTargets.id")
        ).json()
        assert [len(nested[link]["data"]) for link in ("targets", "currentTargets")] == [is_seen] * 2
    if "targets:read" in (READERS[name][1] or READERS[name][0]):
        params = {"fields": "pupilId,againstTarget,againstTargetId"}
        rows = (await client.get("/v1/judgements", params=params)).json()["data"]
        ids = {row["pupilId"]: row["id"] for row in every if row["visibility"] in seen}
        assert [row["againstTargetId"] for row in rows] == [ids.get(row["pupilId"]) for row in rows]
        assert [row["againstTarget"] for row in rows] == ["on" if row["pupilId"] in ids else None for row in rows]


async def test_whoever_holds_aggregates_internal_counts_every_target_and_sees_none(trust: Trust) -> None:
    counts, window = {"eligible": 4, "onTarget": 4, "noTarget": 0}, await trust.value("SELECT id::text FROM windows")
    url = f"/v1/windows/{window}/targetOutcomes?subjectCode=reading&aspect=main&fields=schoolId,eligible,onTarget,noTarget"
    for grant, rows in ((f"{OAK}=aggregates:internal,windows:read", 1), ("school:100002=aggregates:internal,windows:read", 0)):
        counter = await trust.client(f"counter {grant}", grant)
        found = (await counter.get(url)).json()["data"]
        assert [{name: row[name] for name in counts} for row in found if row["eligible"]] == [counts] * rows
        assert (await counter.get("/v1/targets")).status_code == 403
    assert (await _reader(trust, "staff").get(url)).status_code == 403


async def test_a_hidden_target_hides_no_other_and_no_304_is_wrong(trust: Trust) -> None:
    vendor, school = trust.made[0], _reader(trust, "school")
    await _aim(vendor, 3, 99, "end-of-year", visibility="school")
    await _aim(vendor, 3, 120, "KS2", horizon={"academicYear": "2038-39", "point": "KS2"}, visibility="staff")
    pupil = (await sent(vendor, "/v1/pupils/lookup", {"where": {"reference": ["P3"]}, "fields": ["id"]}))["data"][0]["id"]
    current = (await school.get(f"/v1/pupils/{pupil}/currentTargets?fields=grade")).json()["data"]
    assert current == [{"grade": "99"}], "the nearest year of those that are seen"
    judgement = (await school.get(f"/v1/judgements?pupilId={pupil}&fields=againstTarget")).json()["data"]
    assert judgement == [{"againstTarget": "above"}]
    url = f"/v1/pupils/{pupil}/targets?fields=grade,visibility"
    first = await school.get(url)
    await _aim(vendor, 3, 99, "end-of-year", visibility="staff")
    second = await school.get(url, headers={"If-None-Match": first.headers["etag"]})
    assert (second.status_code, second.json()["data"]) == (200, []), "what it saw is hidden now, its history too"
    assert (await school.get(f"/v1/pupils/{pupil}/targetHistory")).json()["data"] == []
    await _aim(vendor, 3, 99, "end-of-year", visibility="school")
    shown = (await school.get(f"/v1/pupils/{pupil}/targetHistory?fields=toVisibility")).json()["data"]
    assert shown == [{"toVisibility": "school"}] * 2, "a value of the time when it was staff's stays theirs"


async def test_a_writer_reads_back_what_it_wrote_and_a_resend_changes_nothing(trust: Trust) -> None:
    writer = await trust.client("writer", f"{OAK}=targets:write,{REST}")
    body = {"school": {"urn": URNS["Oak"]}, "entries": [_target(1, 90, "autumn")]}
    assert counted(await sent(writer, "/v1/targets", body)) == {"created": 1}
    assert counted(await sent(writer, "/v1/targets", body)) == {"unchanged": 1}
    assert await _words(writer, "/v1/targets") == {"staff"}, "a new target is of staff"
    for word in ("family", "trust"):
        changed = body | {"entries": [_target(1, 90, "autumn", visibility=word)]}
        assert counted(await sent(writer, "/v1/targets", changed)) == {"updated": 1}
        assert counted(await sent(writer, "/v1/targets", body)) == {"unchanged": 1}, "left out, it keeps what is stored"
        assert await _words(writer, "/v1/targets") == {word}
    graded = body | {"entries": [_target(1, 91, "autumn")]}
    assert counted(await sent(writer, "/v1/targets", graded)) == {"updated": 1}
    assert await _words(writer, "/v1/targets") == {"trust"}
    hidden = body | {"entries": [_target(3, 80, expectedVersion=9)]}
    (issue,) = (await sent(writer, "/v1/targets", hidden, 422))["issues"]
    assert (issue["code"], issue.get("current")) == ("version-conflict", None), "the stored value is another's"
    none = await trust.client("nothing", f"{OAK}={REST}")
    assert (await none.get("/v1/targets")).status_code == 403


async def test_a_target_is_locked_and_unlocked_with_a_reason_in_its_history(trust: Trust) -> None:
    vendor = trust.made[0]
    id_ = (await _aim(vendor, 2, 105, "spring", visibility="school"))["results"][0]["id"]
    url = f"/v1/targets/{id_}"
    assert issues(await sent(vendor, f"{url}/lock", {}, 422)) == {"/reason": "required"}
    locked = await sent(vendor, f"{url}/lock", {"reason": "Agreed with the parents", "actor": "head"})
    assert locked == {"id": id_, "locked": True, "version": 2}
    assert (await sent(vendor, f"{url}/lock", {"reason": "Again"}, 409))["issues"][0]["code"] == "target-state"
    body = {"school": {"urn": URNS["Oak"]}, "entries": [_target(2, 106, "spring")]}
    assert issues(await sent(vendor, "/v1/targets", body, 422)) == {"/entries/0": "target-locked"}
    same = body | {"entries": [_target(2, 105, "spring")]}
    assert counted(await sent(vendor, "/v1/targets", same)) == {"unchanged": 1}
    mutation = "mutation ($i: TargetLockInput!) { unlockTarget(input: $i) { locked version } }"
    undone = await asked(vendor, mutation, i={"id": id_, "reason": "A mistake"})
    assert undone["unlockTarget"] == {"locked": False, "version": 3}
    assert counted(await sent(vendor, "/v1/targets", body)) == {"updated": 1}
    rows = (await vendor.get(f"{url}/history?fields=outcome,reason,lockedBy,fromGrade,toGrade,version")).json()["data"]
    assert [tuple(row.values()) for row in rows] == [
        ("created", None, None, None, "105", 1),
        ("locked", "Agreed with the parents", "head", "105", "105", 2),
        ("unlocked", "A mistake", None, "105", "105", 3),
        ("updated", None, None, "105", "106", 4),
    ]
    assert (await _reader(trust, "staff").get(f"{url}/history?fields=lockedBy")).status_code == 403
    other = await trust.client("other school", "school:100002=targets:write")
    assert (await other.post(f"{url}/lock", json={"reason": "None of theirs"})).status_code == 404
