"""Which client was given which groups of collected values: counted through both interfaces, from kept answers and for 304s, and never twice."""

import asyncio
from collections import Counter
from functools import partial
from typing import Any
from uuid import UUID

import httpx2
import pytest

from api.http.answer import make_response_cache
from domain.declare.errors import Busy
from domain.read import read_counts
from domain.read.groups_read import GroupsRead
from domain.read.read_counts import ReadCounts
from domain.store.database import Database
from domain.store.outages import OutcomeUnknown
from tests.fixtures.small_trust import WINDOW, Trust, asked, batch, judged, opened, roll, sent
from tests.fixtures.small_trust import entry as pupil

SUBJECTS = ("reading", "maths", "gps", "writing", "science")
READS = "schools:read,pupils:read,judgements:read,windows:read"


async def make_reader(trust: Trust, name: str, kind: str | None, scopes: str = READS) -> httpx2.AsyncClient:
    """A client of the trust whose grant says what it does with the data. It asks for nothing twice."""
    await trust.client(name, f"trust:4128={scopes}")
    await trust.operator.execute("UPDATE grants SET kind = $2 WHERE client_id = $1::uuid", trust.credentials[name][0], kind)
    transport = httpx2.ASGITransport(trust.transport.app)
    made = httpx2.AsyncClient(transport=transport, base_url=trust.http.base_url, headers=await trust.authorise(name))
    trust.made.append(made)
    return made


async def flush(trust: Trust) -> None:
    await app_of(trust).state.read_counts.flush(trust.database)


def app_of(trust: Trust) -> Any:
    return trust.transport.app


async def read_numbers(trust: Trust) -> Counter[tuple[str, ...]]:
    """By client, kind, resource, school, window, subject and aspect, how often it was read."""
    await flush(trust)
    rows = await trust.operator.fetch(
        "SELECT c.display_name, r.kind, r.resource, s.name, w.code, b.code, a.code, sum(r.number)::int FROM read_counts r"
        " JOIN clients c ON c.id = r.client_id JOIN schools s ON s.id = r.school_id JOIN windows w ON w.tenant_id = r.tenant_id AND w.no = r.window_no"
        " JOIN subjects b ON b.tenant_id = r.tenant_id AND b.no = r.subject_no JOIN aspects a ON a.tenant_id = r.tenant_id AND a.no = r.aspect_no"
        " GROUP BY 1, 2, 3, 4, 5, 6, 7"
    )
    return Counter({tuple(row)[:7]: row[7] for row in rows})


@pytest.fixture
async def filled(small_trust: Trust, vendor: Any) -> Trust:
    """Values of Oak in five subjects and one more aspect, and of Elm in one subject."""
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(n) for n in range(3)]))
    await sent(vendor, "/v1/pupils", roll("Elm", [pupil(n) for n in range(20, 22)]))
    grades = {"writing": "EXS", "science": "EXS"}
    entries = [judged(n, subject, grades.get(subject, 100)) for n in range(3) for subject in SUBJECTS]
    await sent(vendor, "/v1/judgements", batch("Oak", [*entries, judged(1, "writing", "GDS", aspect="teacher")]))
    await sent(vendor, "/v1/judgements", batch("Elm", [judged(20), judged(21)]))
    app_of(small_trust).state.response_cache = make_response_cache(32_000_000)
    return small_trust


async def test_every_way_to_read_values_is_counted_once(filled: Trust, vendor: Any) -> None:
    assert await read_numbers(filled) == Counter()  # the answers to writes are no reads
    app = await make_reader(filled, "app", "front-end")

    async def count(get: Any) -> Counter[tuple[str, ...]]:
        before = await read_numbers(filled)
        answer = await get
        if isinstance(answer, httpx2.Response):
            assert answer.status_code == 200, answer.text
        after = await read_numbers(filled)
        after.subtract(before)
        assert {key[:3] for key, n in after.items() if n} <= {
            ("app", "front-end", "judgements"),
            ("app", "front-end", "judgementChanges"),
        }
        return Counter({key[3:]: n for key, n in after.items() if n})

    def key(subject: str, school: str = "Oak", aspect: str = "main") -> tuple[str, ...]:
        return school, WINDOW, subject, aspect

    everything = Counter(
        {key(subject): 1 for subject in SUBJECTS} | {key("writing", aspect="teacher"): 1, key("reading", "Elm"): 1}
    )
    assert await count(app.get("/v1/judgements?first=100")) == everything
    assert await count(app.get("/v1/judgements?first=100&format=csv")) == everything
    assert await count(app.get("/v1/judgements?subjectCode=maths&fields=grade")) == Counter({key("maths"): 1})
    assert await count(app.get("/v1/judgements?first=1&subjectCode=maths&subjectCode=reading&sort=-recordedAt")) in (
        Counter({key(*place): 1}) for place in (("maths",), ("reading",), ("reading", "Elm"))
    )
    assert await count(app.get("/v1/judgements?asOf=2099-01-01&subjectCode=gps")) == Counter({key("gps"): 1})
    assert await count(app.get("/v1/pupils?first=100")) == Counter()
    rows = (await app.get("/v1/pupils?first=100&fields=id,school.name&include=school,judgements")).json()["data"]
    oak = next(row for row in rows if row["school"]["name"] == "Oak")
    await flush(filled)
    assert await count(app.get(f"/v1/pupils/{oak['id']}?include=latestJudgements")) >= Counter({key(s): 1 for s in SUBJECTS})
    assert await count(app.get(f"/v1/pupils/{oak['id']}/judgements?subjectCode=science")) == Counter({key("science"): 1})
    judgement = next(row["id"] for row in oak["judgements"]["data"] if row["id"])
    one = await count(app.get(f"/v1/judgements/{judgement}"))
    assert one.total() == 1
    assert one <= everything
    assert await count(app.post("/v1/judgements/lookup", json={"where": {"subjectCode": "maths"}})) == Counter({key("maths"): 1})
    assert (await count(app.get("/v1/judgement-changes?first=100")))[key("maths")] == 1
    assert await count(app.head("/v1/judgements?first=100")) == Counter()  # a HEAD has no body
    for document, found in (
        ("{ judgements(first: 100) { nodes { grade } } }", everything),
        ("{ judgements(first: 100) { edges { node { grade } } nodes { id } } }", everything),
        ("{ judgements(first: 100) { totalCount } }", Counter()),
        (
            '{ a: judgements(where: {subjectCode: "maths"}) { nodes { grade } } b: judgements(where: {subjectCode: "gps"}) { nodes { grade } } }',
            Counter({key("maths"): 1, key("gps"): 1}),
        ),
        ('{ me { client { id } } judgements(where: {subjectCode: "maths"}) { nodes { grade } } }', Counter({key("maths"): 1})),
        (f'{{ node(id: "{judgement}") {{ id }} judgement(id: "{judgement}") {{ grade }} }}', one),
    ):
        assert await count(asked(app, document)) == found, document


async def test_kept_answers_and_304s_are_reads_of_their_groups(filled: Trust, vendor: Any) -> None:
    app, night = await make_reader(filled, "app", "front-end"), await make_reader(filled, "night", "sync")
    url = "/v1/judgements?subjectCode=maths"
    tag = (await app.get(url)).headers["etag"]
    assert [(await app.get(url)).status_code for _ in range(2)] == [200, 200]
    for _ in range(3):
        assert (await app.get(url, headers={"If-None-Match": tag})).status_code == 304
    assert (await app.head(url, headers={"If-None-Match": tag})).status_code == 304
    await night.get("/v1/judgements?first=100")
    numbers = await read_numbers(filled)
    assert numbers["app", "front-end", "judgements", "Oak", WINDOW, "maths", "main"] == 6
    assert {key[1] for key in numbers if key[0] == "night"} == {"sync"}
    app_of(filled).state.response_cache.clear()  # as after a restart
    assert (await app.get(url, headers={"If-None-Match": tag})).status_code == 304
    assert (await app.get("/v1/pupils?first=1")).status_code == 200
    assert (await read_numbers(filled)) == numbers
    told = await filled.operator.fetch("SELECT kind, not_modified, lost FROM unknown_reads")
    assert [tuple(row) for row in told] == [("front-end", 1, 0)]


async def test_aggregates_are_reads_of_every_group_that_they_pool(filled: Trust, vendor: Any) -> None:
    portal = await make_reader(filled, "portal", "front-end", "schools:read,aggregates:internal,windows:read")
    for query, subjects in (
        ("groupBy=school&subject=reading&window=" + WINDOW, {"reading"}),
        ("groupBy=window&subject=rwm", {"reading", "writing", "maths"}),
        ("groupBy=school,subject&window=" + WINDOW, {*SUBJECTS}),
    ):
        before = await read_numbers(filled)
        answer = await portal.get(f"/v1/aggregates?{query}")
        assert answer.status_code == 200, answer.text
        after = await read_numbers(filled)
        after.subtract(before)
        found = {key: n for key, n in after.items() if n}
        assert {key[:3] for key in found} == {("portal", "front-end", "aggregates")}
        assert {key[5] for key in found if key[3] == "Oak"} == subjects, query
        assert set(found.values()) == {1}
    before = await read_numbers(filled)
    await asked(portal, f'{{ aggregates(groupBy: [school], subject: "reading", window: "{WINDOW}") {{ nodes {{ eligible }} }} }}')
    after = await read_numbers(filled)
    assert (
        after["portal", "front-end", "aggregates", "Oak", WINDOW, "reading", "main"] - 1
        == before["portal", "front-end", "aggregates", "Oak", WINDOW, "reading", "main"]
    )


async def test_counts_that_are_lost_are_counted(filled: Trust, vendor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flush that certainly wrote nothing is made again; one of which that is not known is not, and is told as lost; so is what found no room."""
    app = await make_reader(filled, "app", "front-end")
    url, counts = "/v1/judgements?subjectCode=maths", app_of(filled).state.read_counts
    transact = Database.run_transaction

    async def fail(*_: Any, **__: Any) -> None:
        raise error

    for error, written in ((Busy("no"), 2), (OutcomeUnknown(), 2)):
        before = (await read_numbers(filled))["app", "front-end", "judgements", "Oak", WINDOW, "maths", "main"]
        await app.get(url)
        monkeypatch.setattr(Database, "run_transaction", fail)
        await counts.flush(filled.database)
        monkeypatch.setattr(Database, "run_transaction", transact)
        await app.get(url)
        after = (await read_numbers(filled))["app", "front-end", "judgements", "Oak", WINDOW, "maths", "main"]
        assert (
            after - before == written if isinstance(error, Busy) and not isinstance(error, OutcomeUnknown) else after - before == 1
        )
    await flush(filled)
    monkeypatch.setattr(read_counts, "MAX_BODIES", 1)
    await app.get(url)
    await app.get("/v1/judgements?subjectCode=gps")
    await app.get("/v1/judgements?subjectCode=gps")
    await flush(filled)
    assert await filled.operator.fetchval("SELECT sum(lost)::int FROM unknown_reads") == 3


async def test_servers_that_count_the_same_groups_never_wait_in_a_circle(filled: Trust, vendor: Any) -> None:
    """Each has read them in another order."""
    app = await make_reader(filled, "app", "front-end")
    client = next(iter(filled.credentials["app"]))
    await app.get("/v1/judgements?first=100")
    (known,) = [groups for _, groups in app_of(filled).state.read_counts._bodies]
    groups = known.list_groups()
    before = await read_numbers(filled)

    servers = [ReadCounts() for _ in range(6)]
    for _ in range(5):
        for n, server in enumerate(servers):
            for group in groups if n % 2 else reversed(groups):
                server.count(UUID(client), GroupsRead(partial(list, [group]), 1))
        await asyncio.gather(*(server.flush(filled.database) for server in servers))
    after = await read_numbers(filled)
    assert {after[key] - before[key] for key in after} == {30}
    assert sum(server.lost for server in servers) == 0
