"""A window is published, read and withdrawn over HTTP: what readers get are the rows of the edition, and nothing else."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx2
import msgspec
import pytest
import pytest_asyncio

from domain import LEDGER
from domain.publishing import installed
from domain.publishing.preview_groups import find_extremes, make_body
from domain.publishing.publisher import Publisher
from domain.store.database import Database
from domain.store.ledger_reapply import Reapplied
from domain.store.schema import MIGRATIONS
from tests.attack.generated_trusts import CODE, GeneratedTrust, Mark, count_cells, generate_trust, load_trust, record_marks
from tests.attack.readings import Reader, list_questions
from tests.attack.verdicts import judge
from tests.fixtures.databases import Databases
from tests.fixtures.registration import authorise, register_client
from tests.fixtures.sizes import choose_size
from tests.protection.test_protection import make_trust
from tests.publishing.installation import open_installation
from tests.publishing.later_editions import decide, freeze_trust

SCOPES = "publications:write,aggregates:read,aggregates:internal,windows:read,windows:write"


@dataclass
class Published:
    """A trust with an edition, and its clients: who publishes, who reads the trust, and who reads one school of it."""

    trust: GeneratedTrust
    operator: Any
    database: Database
    http: httpx2.AsyncClient
    manager: dict[str, str]
    portal: dict[str, str]
    one_school: dict[str, str]
    live: dict[Any, list[dict[str, Any]]]
    """What the manager read before, by question."""
    publication: dict[str, Any]
    app_url: str
    ids: dict[str, str]
    owner_url: str
    two_trusts: dict[str, str]
    other: GeneratedTrust
    """A trust without an edition."""

    async def get(self, path: str, token: dict[str, str], **parameters: Any) -> httpx2.Response:
        return await self.http.get(path, params=parameters, headers=token)

    async def post(self, path: str, body: Any, token: dict[str, str] | None = None) -> httpx2.Response:
        return await self.http.post(path, json=body, headers=self.manager if token is None else token)

    @property
    def window(self) -> str:
        return str(self.trust.ids["window"])


@pytest_asyncio.fixture(scope="module")
async def published(module_databases: Databases) -> AsyncIterator[Published]:
    async with open_installation(module_databases) as (operator, database, http):
        trust = generate_trust(3, 3, ("5", "6"), 50)
        await load_trust(operator, trust, 0)
        grants = {
            "manager": f"trust:5000={SCOPES}",
            "portal": "trust:5000=aggregates:read",
            "one school": f"school:{trust.urns[0]}=aggregates:read",
            "windows alone": "trust:5000=windows:read,trusts:read",
        }
        other = generate_trust(4, 2, ("6",), 30)
        await load_trust(operator, other, 1)
        credentials = {name: await register_client(operator, name, text) for name, text in grants.items()}
        two_trusts = "trust:5000=aggregates:read", "trust:5001=aggregates:read"
        credentials["two trusts"] = await register_client(operator, "two trusts", *two_trusts)
        tokens = [await authorise(http, each) for each in credentials.values()]
        ids = {name: each[0] for name, each in credentials.items()}
        made = Published(
            trust,
            operator,
            database,
            http,
            *tokens[:3],
            {},
            {},
            module_databases.app_url,
            ids,
            module_databases.owner_url,
            tokens[4],
            other,
        )
        reader = Reader(http, made.manager, CODE)
        made.live = {question: await reader.read_json(*question) for question in list(list_questions())[:: choose_size(4, 1)]}
        answer = await made.post(f"/v1/windows/{made.window}/publish", {"kind": "provisional", "reason": "Governors meet"})
        assert answer.status_code == 200, answer.text
        await take_over(made)
        assert await Publisher(database, processes=1).publish_next()
        made.publication = (await made.get(f"/v1/publications/{answer.json()['id']}", made.manager)).json()
        yield made


async def take_over(made: Published) -> None:
    """Another server takes the publication over while a first one protects it, after a mark came late: the first one publishes nothing."""
    first = asyncio.create_task(Publisher(made.database, processes=1).publish_next())
    while await made.operator.fetchval("SELECT frozen_at FROM publications") is None:  # noqa: ASYNC110
        await asyncio.sleep(0.05)
    assert not await Publisher(made.database).publish_next(), "it is claimed"
    await made.operator.execute("UPDATE publications SET holder = gen_random_uuid()")
    await first
    assert await made.operator.fetchval("SELECT state FROM publications") == "protecting"
    assert await made.operator.fetchval("SELECT count(*) FROM edition_rows") == 0
    trust = made.trust
    late = next(i for i, pupil in enumerate(trust.pupils) if pupil.marks["maths"].code is None)
    pupil, mark = trust.ids[f"pupil {late}"], Mark("113", 3)
    school = trust.ids[str(trust.urns[trust.pupils[late].school])]
    await record_marks(made.operator, trust, [(pupil, school, "maths", mark)])
    await count_cells(made.operator, trust)
    await made.operator.execute("UPDATE publications SET leased_until = now()")


async def test_a_publication_says_what_it_is(published: Published) -> None:
    found = published.publication
    assert (found["state"], found["problem"], found["edition"], found["kind"]) == ("published", None, 1, "provisional")
    assert (found["subjects"], found["leftOut"]) == (["reading", "writing", "maths", "rwm"], [])
    assert found["partsDone"] == found["parts"]
    rows = await published.operator.fetch("SELECT figures IS NULL AS hidden FROM edition_rows")
    assert (found["hidden"], found["populations"]) == (sum(row["hidden"] for row in rows), len(rows)), "no more than a reader sees"


async def test_an_edition_has_the_figures_of_the_instant_when_they_were_frozen(published: Published) -> None:
    """Whoever finished it, and whatever came late: the live figures have another mark."""
    question = {"window": CODE, "groupBy": "school", "subject": "maths"}
    now = (await published.get("/v1/aggregates", published.manager, **question)).json()["data"]
    edition = (await published.get("/v1/aggregates", published.portal, **question)).json()["data"]
    assert sum(row["valid"] for row in now) == sum(row["valid"] for row in edition) + 1


async def test_what_is_shown_is_what_the_internal_reader_saw(published: Published) -> None:
    """Through both interfaces and CSV; a row of the trust pools the schools whose own total is shown."""
    reader, shown, hidden = Reader(published.http, published.portal, CODE), 0, 0
    for number, (question, live) in enumerate(published.live.items()):
        rows = await reader.read_json(*question)
        if number % choose_size(3, 1) == 0:
            assert rows == await reader.read_csv(*question)
            assert rows == await reader.read_graphql(*question)
        by_key = {
            tuple(row[name] for name in ("schoolUrn", "subject", "yearGroup", "sex", "disadvantaged", "eal", "sen")): row
            for row in live
        }
        for row in rows:
            if row["status"] == "c":
                hidden += 1
                continue
            shown += 1
            same = by_key[tuple(row[name] for name in ("schoolUrn", "subject", "yearGroup", "sex", "disadvantaged", "eal", "sen"))]
            if row["schools"] == same["schools"]:
                names = [name for name in row if name != "average" or row["average"] is not None]
                assert {name: row[name] for name in names} == {name: same[name] for name in names}
    assert shown > 30
    assert hidden > 20


async def test_nobody_finds_an_unsafe_group(published: Published) -> None:
    """The attacker, who reads HTTP alone: a row of the trust pools the schools whose own total of the same years is shown."""
    readings = await Reader(published.http, published.portal, CODE).read_all()
    shown = defaultdict(set)
    for reading in readings:
        if reading.school is not None and reading.dimension is None and reading.status != "c":
            shown[reading.year].add(reading.school)
    readings = [each._replace(pooled=frozenset(shown[each.year])) if each.school is None else each for each in readings]
    found = judge(published.trust, readings)
    assert (found.exact_sizes, found.narrow_sizes, found.exact_counts) == ([], [], [])
    assert found.sizes > 5


async def test_a_reader_of_one_school_gets_its_rows(published: Published) -> None:
    question = {"window": CODE, "groupBy": "subject,sex", "first": 1000}
    rows = (await published.get("/v1/aggregates", published.one_school, **question)).json()["data"]
    of_school = (await published.get("/v1/aggregates", published.portal, **question | {"school": published.trust.urns[0]})).json()[
        "data"
    ]
    assert len(rows) == 8
    assert [row | {"schoolId": None, "schoolUrn": None, "schoolName": None} for row in of_school] == rows
    named = {"windows": CODE, "groupBy": "subject,sex", "first": 1000}
    assert (await published.get("/v1/aggregates", published.one_school, **named)).json()["data"] == rows
    for more, status in (({"windows": [CODE, "elsewhen"]}, 400), ({"windows": "elsewhen"}, 422), ({"gap": "sex"}, 403)):
        refused = await published.get("/v1/aggregates", published.one_school, **named | {"groupBy": "subject"} | more)
        assert refused.status_code == status, refused.text


async def test_who_reads_everything_may_look_as_a_reader(published: Published) -> None:
    question = {"window": CODE, "groupBy": "school,sen", "subject": "reading", "first": 1000}
    as_reader = (await published.get("/v1/aggregates", published.manager, **question | {"view": "public"})).json()
    assert as_reader["data"] == (await published.get("/v1/aggregates", published.portal, **question)).json()["data"]
    assert {row["status"] for row in as_reader["data"]} >= {"c", None}


@pytest.mark.parametrize(
    ("question", "code"),
    [
        ({"groupBy": "sex,sen"}, "grouping-not-published"),
        ({"groupBy": "sex", "crosswalksOn": "2026-01-01"}, "grouping-not-published"),
        ({"groupBy": "sex", "subject": "science"}, "subject-not-published"),
        ({"groupBy": "sex", "school": ["URN 0", "URN 1"]}, "sum-not-published"),
        ({"groupBy": "sex", "trust": "5001"}, "trust-not-found"),
    ],
)
async def test_what_no_edition_has_is_refused(published: Published, question: dict[str, Any], code: str) -> None:
    """Nothing is calculated for a reader: neither another grouping nor a sum of two schools."""
    named = {"subject": "reading", "window": CODE} | question
    if "school" in named:
        named["school"] = published.trust.urns[:2]
    answer = await published.get("/v1/aggregates", published.portal, **named)
    assert answer.status_code == 422, answer.text
    assert [issue["code"] for issue in answer.json()["issues"]] == [code]


async def test_only_who_may_publish_publishes(published: Published) -> None:
    for token in (published.portal, published.one_school):
        refused = await published.post(f"/v1/windows/{published.window}/publish", {"kind": "provisional"}, token)
        assert refused.status_code == 403


async def test_without_the_packages_that_protect_nothing_is_published(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    answer = await published.post(f"/v1/windows/{published.window}/publish", {"kind": "provisional"})
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (503, "publishing-not-installed")
    assert int(answer.headers["retry-after"]) > 60
    await Publisher(published.database).run()  # which then ends at once


async def test_the_database_shows_rows_to_whoever_reaches_what_they_pool(published: Published) -> None:
    """Also where no statement asks who is calling: a row of the trust only to whoever reaches all its schools."""
    app = await asyncpg.connect(published.app_url)
    numbers = {}
    for name in ("manager", "portal", "one school", "windows alone"):
        await app.execute("SELECT set_config('markonce.caller', $1, false)", published.ids[name])
        numbers[name] = (
            await app.fetchval("SELECT count(*) FROM edition_rows"),
            await app.fetchval("SELECT count(DISTINCT school_id) FROM edition_rows"),
        )
        assert await app.fetchval("SELECT count(*) FROM publication_parts") == 0
    await app.close()
    assert numbers["manager"] == numbers["portal"]
    assert numbers["portal"][1] == 4
    assert numbers["one school"][1] == 1
    assert numbers["windows alone"] == (0, 0)


async def test_a_preview_says_what_an_edition_hides_and_why(published: Published) -> None:
    """Groups and what is hidden are those of the edition with the same figures; through both interfaces and CSV; to nobody who reads less."""
    url = f"/v1/windows/{published.window}/publication-preview"
    assert (await published.get(url, published.manager)).status_code == 404
    lower = await published.post(url, {"level": "department", "attainmentFrom": 5})
    assert lower.status_code == 422
    for body in ({"level": "strict"}, {}):  # the second one replaces the first
        answer = await published.post(url, body)
        assert (answer.status_code, answer.json()["state"]) == (200, "queued")
    waits = (await published.get(url, published.manager)).json()
    assert (waits["state"], waits["level"], waits["groups"]) == ("queued", "department", [])
    publisher = Publisher(published.database, processes=1)
    assert await publisher.preview_next()
    assert not await publisher.preview_next()
    made = (await published.get(url, published.manager)).json()
    groups = made["groups"]
    assert (made["state"], made["populations"], made["hidden"]) == ("ready", len(groups), sum(each["hidden"] for each in groups))
    assert sum(each["groups"] for each in made["reasons"]) == made["hidden"] > 20
    assert {each["reason"] for each in made["reasons"]} >= {"few-eligible", "other-side", "hidden-before"}
    assert all((each["reason"] is not None) == each["hidden"] for each in groups)
    tried = {reason for urn in published.trust.urns for reason in await check_reasons(published, groups, urn)}
    assert {"hidden-before", "few-eligible"} <= tried, "it would be the second edition"
    document = f'{{ publicationPreview(window: "{published.window}") {{ groups {{ {" ".join(groups[0])} }} hidden }} }}'
    graphql = await published.post("/graphql", {"query": document})
    assert "data" in graphql.json(), graphql.text
    assert graphql.json()["data"]["publicationPreview"] == {"groups": groups, "hidden": made["hidden"]}
    lines = (await published.get(url, published.manager, format="csv")).text.splitlines()
    assert len(lines) == len(groups) + 1
    assert await published.operator.fetchval("SELECT count(*) FROM publications") == 1, "nothing is published"
    for token in (published.portal, published.one_school, published.two_trusts):
        for refused in (await published.get(url, token), await published.post(url, {}, token)):
            assert refused.status_code == 403
        assert "preview" not in (await published.get("/v1/publications", token)).text


async def check_reasons(published: Published, groups: list[dict[str, Any]], urn: int) -> set[str | None]:
    """What is hidden by its own figures is what the live reader counts: six or more pupils and marks are in what is shown."""
    question = {"window": CODE, "groupBy": "yearGroup,subject,sex", "school": urn, "first": 1000}
    live = (await published.get("/v1/aggregates", published.manager, **question)).json()["data"]
    by_key: defaultdict[Any, list[dict[str, Any]]] = defaultdict(list)
    for row in live:
        by_key[row["yearGroup"], row["sex"]].append(row)
    tried = set()
    for each in groups:
        rows = by_key.get((each["yearGroup"], each["category"]), [])
        if each["schoolUrn"] != urn or each["category"] != "F" or not rows:
            continue
        tried.add(each["reason"])
        few = [any(0 < row[name] < 6 for row in rows) for name in ("eligible", "valid")]
        assert (each["reason"] == "few-eligible") == few[0], (each, rows)
        assert (each["reason"] == "few-contributors") == (few[1] and not few[0])
        shown = [] if each["hidden"] else [row for row in rows if 6 <= row["eligible"] <= 10]
        assert each["nobodyExpected"] == [row["subject"] for row in shown if row["expected"] == 0]
        assert each["everybodyExpected"] == [row["subject"] for row in shown if row["expected"] and row["expected"] == row["valid"]]
    return tried


def test_a_complement_says_what_it_is_one_of() -> None:
    """Of a first edition, where nothing was hidden before."""
    frozen = freeze_trust(make_trust(2))
    groups = make_body(frozen, decide(frozen).groups).groups
    assert {group.reason for group in groups} >= {"complement", "few-eligible", "other-side", None}
    assert all(bool(group.complement_of) == (group.reason == "complement") and not group.held_back for group in groups)


def test_a_small_group_is_named_of_which_nobody_or_everybody_is_at_expected() -> None:
    figures = {
        "a": [10, 8, 0, 0, None],
        "b": [6, 5, 5, 1, None],
        "c": [8, 8, 7, 1, None],
        "d": [11, 9, 0, 0, None],
        "e": [7, 7, None, None, None],
    }
    assert find_extremes(msgspec.json.encode(figures)) == (["a"], ["b"])
    assert find_extremes(None) == ([], [])


async def test_a_window_that_is_deleted_meanwhile_is_not_found(published: Published) -> None:
    """Whoever asks for its publication or preview waits for the deletion, and is told that there is no window."""
    for no, path in ((97, "publish"), (98, "publication-preview")):
        change: dict[str, Any] = {"id": str(uuid4()), "no": no, "code": f"Deleted {no}", "census_on": "2001-01-01"}
        await published.operator.execute(_COPY_WINDOW, UUID(published.window), json.dumps(change))
        deleting = await asyncpg.connect(published.owner_url)
        async with deleting.transaction():
            assert await deleting.execute("DELETE FROM windows WHERE id = $1", UUID(change["id"])) == "DELETE 1"
            body = {"kind": "provisional"} if path == "publish" else {}
            asking = asyncio.create_task(published.post(f"/v1/windows/{change['id']}/{path}", body))
            while not await published.operator.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                assert not asking.done(), "it does not wait"
                await asyncio.sleep(0.02)
        await deleting.close()
        answer = await asking
        assert answer.status_code == 404, answer.text


async def test_a_preview_is_for_whoever_reads_every_school(published: Published) -> None:
    """A client with aggregates:internal at one school alone may neither ask for it, nor read it, nor see that it is there."""
    grant = f"school:{published.trust.urns[0]}=aggregates:internal,aggregates:read,windows:read"
    token = await authorise(published.http, await register_client(published.operator, "one school's staff", grant))
    url = f"/v1/windows/{published.window}/publication-preview"
    assert (await published.post(url, {})).status_code == 200
    assert (await published.post(url, {}, token)).status_code == 404
    assert (await published.get(url, token)).status_code == 404
    query = f'{{ publicationPreview(window: "{published.window}") {{ state }} }}'
    found = (await published.post("/graphql", {"query": query}, token)).json()
    assert found["data"] == {"publicationPreview": None} or found["errors"], found
    assert "queued" not in json.dumps(found)


async def test_a_trust_without_an_edition_is_read_as_before(published: Published) -> None:
    """Also by who reads another that has one: its schools are live beside the rows of the edition, and nothing is added up over both."""
    question = {"window": CODE, "groupBy": "school,sex", "subject": "maths", "first": 1000}
    both = (await published.get("/v1/aggregates", published.two_trusts, **question)).json()
    alone = (await published.get("/v1/aggregates", published.portal, **question)).json()
    trust = {"trust": str(published.other.ids["trust"])}
    other = (await published.get("/v1/aggregates", published.two_trusts, **question | trust)).json()
    assert other["editions"] == []
    assert {row["schoolUrn"] for row in other["data"]} == set(published.other.urns)
    assert both["data"] == sorted([*alone["data"], *other["data"]], key=lambda row: (row["schoolUrn"], row["sex"]))
    assert both["coverage"]["schools"] == 5
    pooled = await published.get("/v1/aggregates", published.two_trusts, **question | {"groupBy": "sex"})
    assert [issue["code"] for issue in pooled.json()["issues"]] == ["trust-required"]


async def test_what_closed_before_an_upgrade_is_queued_and_a_window_publishes_itself(published: Published) -> None:
    """As the first client that may read all its figures; in both cases the trust is read as before until then."""
    grant = f"trust:5001={SCOPES}"
    manager = await authorise(published.http, await register_client(published.operator, "another manager", grant))
    window = str(published.other.ids["window"])
    owner = await asyncpg.connect(published.owner_url)
    (migration,) = (MIGRATIONS / "versions").glob("*_due_publications.py")
    first_editions = import_module(f"migrations.versions.{migration.stem}").FIRST_EDITIONS
    await owner.execute(first_editions)
    assert await owner.fetchval("SELECT count(*) FROM publications") == 1, "the other window is open"
    assert (await published.post(f"/v1/windows/{window}/close", {}, manager)).status_code == 200
    for _ in range(2):
        await owner.execute(first_editions)
    await owner.close()
    (queued,) = (await published.get("/v1/publications", manager)).json()["data"]
    assert (queued["state"], queued["client"]) == ("queued", "another manager")
    again = await published.post(f"/v1/windows/{window}/publish", {"kind": "final"}, manager)
    assert (again.status_code, again.json()["type"].rpartition("/")[2]) == (409, "publication-running")
    withdrawn = await published.post(f"/v1/publications/{queued['id']}/withdraw", {"reason": "Not yet"}, manager)
    assert withdrawn.json()["state"] == "withdrawn"
    waits = await published.post(
        f"/v1/windows/{window}/publish", {"kind": "final", "daysAfterClosing": 3, "attainmentFrom": 20}, manager
    )
    assert waits.json()["state"] == "queued"
    found = (await published.get(f"/v1/publications/{waits.json()['id']}", manager)).json()
    assert [found[name] for name in ("level", "sizesFrom", "attainmentFrom")] == ["department", 6, 20]
    headers = manager | {"If-Match": (await published.get(f"/v1/windows/{window}", manager)).headers["etag"]}
    deleted = await published.http.request("DELETE", f"/v1/windows/{window}", headers=headers)
    assert (deleted.status_code, deleted.json()["type"].rpartition("/")[2]) == (409, "window-in-use")
    assert "publication" in deleted.json()["detail"]
    publisher = Publisher(published.database, processes=1)
    assert not await publisher.publish_next(), "it is not due"
    question = {"window": CODE, "groupBy": "subject", "trust": str(published.other.ids["trust"])}
    assert (await published.get("/v1/aggregates", published.two_trusts, **question)).json()["editions"] == []
    await published.operator.execute("UPDATE windows SET closed_at = now() - interval '4 days' WHERE id = $1", UUID(window))
    assert await publisher.publish_next()
    lower = {"kind": "final", "level": "department", "sizesFrom": 6, "attainmentFrom": 19}
    refused = (await published.post(f"/v1/windows/{window}/publish", lower, manager)).json()
    assert ("/attainmentFrom", "protection-lowered") in {(issue["at"], issue["code"]) for issue in refused["issues"]}
    (edition,) = (await published.get("/v1/aggregates", published.two_trusts, **question)).json()["editions"]
    assert (edition["publicationId"], edition["edition"]) == (waits.json()["id"], 2)


async def test_what_was_queued_is_checked_again_when_its_turn_comes(published: Published) -> None:
    """A window whose census day has moved is about the same pupils as an edition; and what was published meanwhile raised the numbers."""
    change: dict[str, Any] = {"id": str(uuid4()), "no": 99, "code": "Moved", "census_on": "2000-01-01"}
    await published.operator.execute(_COPY_WINDOW, UUID(published.window), json.dumps(change))
    await published.operator.execute(_COPY_PINS, UUID(published.window))
    await published.operator.execute(
        "UPDATE windows SET opens_at = now() + interval '1 day', closes_at = now() + interval '2 days' WHERE no = 99"
    )
    planned = await published.get("/v1/aggregates", published.portal, window="Moved", groupBy="subject")
    assert (planned.status_code, planned.json()["type"].rpartition("/")[2]) == (409, "not-published")
    await published.operator.execute("UPDATE windows SET opens_at = now() - interval '1 day' WHERE no = 99")
    queued = await published.post(f"/v1/windows/{change['id']}/publish", {"kind": "provisional"})
    assert queued.json()["state"] == "queued", queued.text
    await published.operator.execute("UPDATE publications SET sizes_from = 8 WHERE id = $1", UUID(published.publication["id"]))
    publisher = Publisher(published.database, processes=1)
    await published.operator.execute(_MOVE_CENSUS, UUID(change["id"]), UUID(published.window))
    assert await publisher.publish_next()
    found = (await published.get(f"/v1/publications/{queued.json()['id']}", published.manager)).json()
    assert (found["state"], found["problem"], found["sizesFrom"]) == ("failed", "census-day-published", 6)
    await published.operator.execute("UPDATE windows SET census_on = '2000-01-01' WHERE no = 99")
    again = await published.operator.fetchval(
        "UPDATE publications SET state = 'queued', problem = NULL WHERE id = $1 RETURNING id", UUID(found["id"])
    )
    assert await publisher.publish_next()
    found = (await published.get(f"/v1/publications/{again}", published.manager)).json()
    assert (found["state"], found["problem"], found["sizesFrom"]) == ("failed", "nobody-eligible", 8)


_COPY_WINDOW = "INSERT INTO windows SELECT (jsonb_populate_record(w, $2::text::jsonb)).* FROM windows w WHERE id = $1"
_COPY_PINS = """
INSERT INTO pins SELECT (jsonb_populate_record(i, '{"window_no": 99}')).* FROM pins i JOIN windows w ON w.tenant_id = i.tenant_id AND w.no = i.window_no
WHERE w.id = $1
"""
_MOVE_CENSUS = "UPDATE windows SET census_on = (SELECT census_on FROM windows WHERE id = $2) WHERE id = $1"


async def test_a_withdrawn_edition_is_read_by_nobody(published: Published) -> None:
    """The last of these tests, since there is no other edition. Whoever has its answer is not told that nothing changed."""
    question = {"window": CODE, "groupBy": "subject"}
    before = await published.get("/v1/aggregates", published.portal, **question)
    path = f"/v1/publications/{published.publication['id']}/withdraw"
    assert (await published.post(path, {})).status_code == 422
    assert (await published.post(path, {"reason": "A child's record was erased"}, published.portal)).status_code == 403
    assert (await published.post(path, {"reason": "A child's record was erased", "actor": "DPO"})).json()["state"] == "withdrawn"
    headers = published.portal | {"If-None-Match": before.headers["etag"]}
    answer = await published.get("/v1/aggregates", headers, **question)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "publication-withdrawn")
    assert (await published.post(path, {"reason": "Again"})).status_code == 409
    of_it = {"publicationId": published.publication["id"]}
    history = (await published.get("/v1/publication-changes", published.portal, **of_it)).json()["data"]
    assert [(row["outcome"], row["reason"]) for row in history] == [
        ("requested", "Governors meet"),
        ("published", None),
        ("withdrawn", "A child's record was erased"),
    ]
    app = await asyncpg.connect(published.app_url)
    await app.execute("SELECT set_config('markonce.caller', $1, false)", published.ids["portal"])
    assert await app.fetchval("SELECT count(*) FROM edition_rows") == 0
    await app.close()
    # a restore of a backup brings it back, and the ledger takes it away again
    facts = {"tenant": str(published.trust.ids["trust"]), "publication": published.publication["id"]}
    await published.operator.execute("UPDATE publications SET state = 'published' WHERE id = $1", UUID(facts["publication"]))
    outcomes = [await LEDGER["publication"](published.operator, facts) for _ in range(2)]
    assert outcomes == [Reapplied.DONE, Reapplied.NOTHING_TO_DO]
    assert (await published.get("/v1/aggregates", published.portal, **question)).status_code == 409
