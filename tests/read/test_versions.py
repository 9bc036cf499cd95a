"""Entity tags come from versions, and a kept body is served only while they are current: no answer is stale.

tests/fixtures/conditional_transport.py checks the same for every GET that the suite repeats.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
import strawberry

from api.app import build_app
from api.http.answer import Answer, make_response_cache
from api.settings import Settings
from domain.declare.ids import new_id
from domain.declare.type_numbers import PUPIL
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import BASE, URNS, Trust, at, batch, entry, judged, opened, roll, sent

PUPILS = "/v1/pupils?include=judgements,latestJudgements,targets&fields=id,forename,judgements.mark"


@pytest_asyncio.fixture(params=[5, 0], ids=["by school", "by tenant"])
async def keeping(small_trust: Trust, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application as it is served, which keeps bodies; to a client with few schools, and with many."""
    monkeypatch.setattr("domain.clients.clients.MAX_COUNTED_SCHOOLS", request.param)
    return build_app(
        Settings(small_trust.databases.app_url, SECRET.encode(), BASE, rate=100_000, burst=100_000), small_trust.database
    )


@pytest_asyncio.fixture
async def reader(small_trust: Trust, vendor: Any, keeping: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """The vendor again, at that application."""
    async with served(keeping, vendor) as client:
        yield client


def served(app: Any, client: Any) -> httpx2.AsyncClient:
    """The same client, at another application."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=BASE, headers=client.headers)


async def prepared(vendor: Any) -> str:
    """Two pupils of Oak and one of Elm, and a window; the id of the first."""
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2)]))
    await sent(vendor, "/v1/pupils", roll("Elm", [entry(3)]))
    found = await sent(vendor, "/v1/pupils/lookup", {"where": {"reference": ["P1"]}, "fields": ["id"]})
    return str(found["data"][0]["id"])


async def test_what_has_not_changed_is_not_sent_again(reader: Any, vendor: Any) -> None:
    id_ = await prepared(reader)
    one = f"/v1/pupils/{id_}?include=latestJudgements,currentTargets"
    for url in (one, PUPILS, f"/v1/pupils/{id_}/judgements", "/v1/windows", "/v1/aggregates?groupBy=school,subject,window"):
        first = await reader.get(url)
        tag = first.headers["etag"]
        again = await reader.get(url, headers={"If-None-Match": f'"other", W/{tag}'})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["cache-control"] == first.headers["cache-control"]
        assert (await reader.get(url, headers={"If-None-Match": "*"})).status_code == 304
        kept = await reader.get(url)
        assert (kept.status_code, kept.content, kept.headers["etag"]) == (200, first.content, tag)
        compressed = await reader.get(url, headers={"Accept-Encoding": "gzip"})
        known = {"Accept-Encoding": "gzip", "If-None-Match": compressed.headers["etag"]}
        assert (await reader.get(url, headers=known)).status_code == 304
    # at another school than the pupil's: the row stands, the lists do not
    tags = {url: (await reader.get(url)).headers["etag"] for url in (one, PUPILS)}
    await sent(vendor, "/v1/judgements", batch("Elm", [judged(3)]))
    found = {url: (await reader.get(url, headers={"If-None-Match": tag})).status_code for url, tag in tags.items()}
    assert found == {one: 304, PUPILS: 200}
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    assert (await reader.get(one, headers={"If-None-Match": tags[one]})).status_code == 200


async def test_any_tag_is_no_way_around_what_is_wrong(reader: Any, small_trust: Trust, keeping: Any) -> None:
    """If-None-Match: * is of what there is: not of what is absent, refused or cannot be read, however often it is asked for."""
    id_ = await prepared(reader)
    await reader.get(f"/v1/pupils/{id_}?include=judgements")
    fewer = await small_trust.client("fewer", "trust:4128=pupils:read")
    any_ = {"If-None-Match": "*"}
    async with served(keeping, fewer) as other:
        for _ in range(2):
            assert (await reader.get(f"/v1/pupils/{new_id(PUPIL)}?include=judgements", headers=any_)).status_code == 404
            assert (await reader.get(f"/v1/pupils/{new_id(PUPIL)}/judgements", headers=any_)).status_code == 404
            assert (await reader.get("/v1/aggregates?groupBy=school", headers=any_)).status_code == 400
            assert (await other.get("/v1/aggregates?groupBy=school,subject,window", headers=any_)).status_code == 403
            assert (await other.get("/v1/judgements", headers=any_)).status_code == 403


async def test_what_is_asked_for_otherwise_has_another_tag(reader: Any, small_trust: Trust, keeping: Any) -> None:
    await prepared(reader)
    urls = (
        "/v1/pupils?first=1",
        "/v1/pupils?first=2",
        "/v1/pupils?first=2&format=csv",
        "/v1/pupils?first=2&yearGroup=6",
        "/v1/schools",
    )
    tags = {(await reader.get(url)).headers["etag"] for url in urls}
    assert len(tags) == len(urls)
    fewer = await small_trust.client("fewer", "trust:4128=pupils:read")
    async with served(keeping, fewer) as other:
        theirs = await other.get(
            "/v1/pupils?first=2", headers={"If-None-Match": (await reader.get("/v1/pupils?first=2")).headers["etag"]}
        )
    assert theirs.status_code == 200
    assert "surname" not in theirs.json()["data"][0]


async def test_a_kept_body_costs_a_tiny_read(reader: Any, small_trust: Trust) -> None:
    id_ = await prepared(reader)
    for url in (PUPILS, f"/v1/pupils/{id_}?include=judgements"):
        first = await reader.get(url)
        await asyncio.sleep(0)
        with small_trust.statements.counting() as seen:
            assert (await reader.get(url)).content == first.content
            await asyncio.sleep(0)
        assert len(seen) == 1
        assert "surname" not in seen[0]


async def test_graphql_executes_what_has_not_changed_once(reader: Any, vendor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Aggregates are executed again after a write, introspection never, and what has errors each time."""
    executed, execute = [], strawberry.Schema.execute

    async def count(*arguments: Any, **named: Any) -> Any:
        executed.append(arguments)
        return await execute(*arguments, **named)

    async def ask(query: str) -> tuple[Any, int]:
        executed.clear()
        response = await reader.post("/graphql", json={"query": query})
        return response.json(), len(executed)

    monkeypatch.setattr(strawberry.Schema, "execute", count)
    await prepared(reader)
    aggregates = "{ aggregates(groupBy: [school, subject, window]) { nodes { eligible } } }"
    first, times = await ask(aggregates)
    assert (times, "errors" in first, first["extensions"]) == (1, False, {"cost": 21, "values": 20_000})
    assert await ask(aggregates) == (first, 0)
    await sent(vendor, "/v1/judgements", batch("Elm", [judged(3)]))
    assert (await ask(aggregates))[1] == 1
    for wrong in (
        "{ aggregates(groupBy: [school]) { nodes { eligible } } }",
        '{ receipt(key: "none") { key } aggregates { nodes { eligible } } }',
    ):
        refused = await ask(wrong)
        assert (refused, refused[1], "errors" in refused[0]) == (await ask(wrong), 1, True)
    introspection = (
        f"{{ __schema {{ types {{ name }} }} __typename }} # {new_id(PUPIL)}"  # no other test of this process has sent it
    )
    types, times = await ask(introspection)
    assert (times, types["data"]["__typename"]) == (1, "Query")
    assert await ask(introspection) == (types, 0)


async def test_a_row_by_itself_changes_with_all_that_it_shows(reader: Any, small_trust: Trust, keeping: Any) -> None:
    """Its version counts its own changes: not those of the register, nor who may see what of it."""
    id_ = await prepared(reader)
    fewer = await small_trust.client("fewer", "trust:4128=pupils:read,schools:read")
    async with served(keeping, fewer) as other:
        for _ in range(2):
            mine, theirs = await reader.get(f"/v1/pupils/{id_}"), await other.get(f"/v1/pupils/{id_}")
            assert mine.content != theirs.content
            crossed = await other.get(f"/v1/pupils/{id_}", headers={"If-None-Match": mine.headers["etag"]})
            assert (crossed.status_code, crossed.content) == (200, theirs.content)
        school = f"/v1/schools/{small_trust.ids['Oak']}"
        for client in (reader, other):
            tag = (await client.get(school)).headers["etag"]
            assert (await client.get(school, headers={"If-None-Match": tag})).headers["etag"] == tag
        await small_trust.operator.execute("UPDATE schools SET name = 'Acorn' WHERE id = $1", small_trust.ids["Oak"])
        for client in (reader, other):
            renamed = await client.get(school, headers={"If-None-Match": tag})
            assert (renamed.status_code, renamed.json()["name"]) == (200, "Acorn")


async def test_a_row_that_moves_is_followed(reader: Any, vendor: Any, small_trust: Trust, keeping: Any) -> None:
    """To the trust, and to each of the two schools, whatever each has seen of the pupil before."""
    id_ = await prepared(reader)
    here = {name: await small_trust.client(name, f"school:{URNS[name]}=all") for name in ("Oak", "Elm")}
    keepers = [(served(keeping, who), who) for who in (vendor, *here.values())]
    urls = [f"/v1/pupils/{id_}", f"/v1/pupils/{id_}?include=latestJudgements,enrolments", f"/v1/pupils/{id_}/judgements"]
    tags: dict[tuple[int, str], str] = {}

    async def look() -> None:
        for n, (keeper, plain) in enumerate(keepers):
            for url in urls * 2:
                known = {"If-None-Match": tags[n, url]} if (n, url) in tags else {}
                shown, kept, truth = await keeper.get(url, headers=known), await keeper.get(url), await plain.get(url)
                assert (url, kept.status_code, kept.content) == (url, truth.status_code, truth.content)
                assert shown.status_code in (304, truth.status_code)
                assert shown.status_code != 304 or known["If-None-Match"] == kept.headers["etag"]
                if "etag" in kept.headers:
                    tags[n, url] = kept.headers["etag"]

    await look()
    for path, change in (
        ("/v1/judgements", batch("Oak", [judged(1)])),
        ("/v1/pupils", at("Elm", {"from": "2018-05-11", "status": "C"})),
        ("/v1/judgements", batch("Oak", [judged(2)])),
        ("/v1/judgements", batch("Elm", [judged(1, grade=110) | {"reference": "Elm-1"}])),
        ("/v1/pupils", at("Oak", {"from": "2018-05-12", "status": "G"})),
        ("/v1/judgements", batch("Elm", [judged(1, grade=111) | {"reference": "Elm-1"}])),
    ):
        await sent(vendor, path, change)
        await look()
    for keeper, _ in keepers:
        await keeper.aclose()


async def test_a_guest_changes_for_both_schools(reader: Any, small_trust: Trust, keeping: Any) -> None:
    """The school that a pupil visits sees what the main school writes, although it reaches no version of that school."""
    id_ = await prepared(reader)
    await sent(reader, "/v1/pupils", roll("Elm", [entry(1, reference="E1", enrolments=[{"from": "2018-01-08", "status": "G"}])]))
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=pupils:read,pupils:name,judgements:read")
    urls = (f"/v1/pupils/{id_}?include=latestJudgements", f"/v1/pupils/{id_}/judgements", "/v1/pupils?include=latestJudgements")
    async with served(keeping, elm) as guest:
        before = {url: await guest.get(url) for url in urls}
        assert {answer.status_code for answer in before.values()} == {200}
        for path, change in (
            ("/v1/judgements", batch("Oak", [judged(1)])),
            ("/v1/pupils", roll("Oak", [entry(1, forename="Alex"), entry(2)])),
            ("/v1/judgements", batch("Oak", [{"reference": "P1", "subject": "reading", "withdrawn": True}])),
        ):
            await sent(reader, path, change)
            for url, answer in before.items():
                now, truth = await guest.get(url, headers={"If-None-Match": answer.headers["etag"]}), await elm.get(url)
                assert now.status_code == 200 or truth.content == answer.content
                if now.status_code == 200:
                    assert now.content == truth.content
                    before[url] = now


async def test_a_reach_that_is_taken_away_is_gone_from_what_is_kept(reader: Any, small_trust: Trust) -> None:
    await prepared(reader)
    assert len((await reader.get(PUPILS)).json()["data"]) == 3
    tag = (await reader.get(PUPILS)).headers["etag"]
    await small_trust.operator.execute(
        "UPDATE grants SET revoked_at = now() WHERE client_id = (SELECT id FROM clients WHERE name = 'vendor')"
    )
    await small_trust.operator.execute("SELECT derive_reach(NULL)")
    answer = await reader.get(PUPILS, headers={"If-None-Match": tag})
    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (403, "grant-ended")


async def test_readers_never_see_less_than_what_was_written_before_they_asked(reader: Any, vendor: Any) -> None:
    """One writes marks that only grow while others read the same pupil, whose answer is kept, and a list."""
    id_ = await prepared(reader)
    one, written, reading = f"/v1/pupils/{id_}?include=latestJudgements&fields=id,latestJudgements.grade", 80, True

    async def write() -> None:
        nonlocal written, reading
        for grade in range(81, 121):
            await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=grade)]))
            written = grade
        reading = False

    async def read(url: str, at: Any) -> int:
        checked, tag = 0, ""
        while reading:
            before = written
            answer = await reader.get(url, headers={"If-None-Match": tag} if checked % 2 and tag else {})
            assert answer.status_code in (200, 304)
            if answer.status_code == 200:
                shown = at(answer.json())
                latest = int(shown[0]["grade"]) if shown else 80
                tag = answer.headers.get("etag", "")
            assert latest >= before  # a 304 says that what was read last still stands
            checked += 1
        return checked

    lists = "/v1/pupils?include=latestJudgements&fields=id,latestJudgements.grade"
    checked = await asyncio.gather(
        write(),
        *(read(one, lambda row: row["latestJudgements"]["data"]) for _ in range(3)),
        read(lists, lambda page: next(row for row in page["data"] if row["id"] == id_)["latestJudgements"]["data"]),
    )
    assert sum(filter(None, checked)) > 20  # type: ignore[misc]


def test_what_is_kept_is_bounded() -> None:
    kept, keys = make_response_cache(100_000), [bytes([n]) for n in range(50)]
    for key in keys:
        kept.put(key, Answer(bytes(4_500), (), b"s"))
    assert [key for key in keys if kept.get(key) is not None] == keys[-20:]
    kept.put(b"large", Answer(bytes(13_000), (), b"s"))
    assert (kept.get(b"large"), kept.get(keys[49])) == (None, Answer(bytes(4_500), (), b"s"))
    kept.put(keys[49], Answer(bytes(10), (), b"t"))
    assert kept.get(keys[49]) == Answer(bytes(10), (), b"t")
