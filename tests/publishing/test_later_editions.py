"""A window is published again and again over HTTP: a row in which few pupils changed keeps what was shown, and nobody finds what they changed."""

import copy
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest_asyncio

from domain.publishing.messages import EarlierEdition
from domain.publishing.publisher import Publisher
from domain.store.database import Database
from tests.attack.editions import find_few, judge_changes
from tests.attack.generated_trusts import CODE, GeneratedTrust, Mark, count_cells, generate_trust, load_trust, record_marks
from tests.attack.readings import Reader, Reading, list_questions, make_reading
from tests.attack.verdicts import SMALL, Shown, Verdicts, judge
from tests.fixtures.databases import Databases
from tests.fixtures.registration import authorise, register_client
from tests.fixtures.sizes import choose_size
from tests.protection.test_protection import make_trust
from tests.publishing.installation import open_installation
from tests.publishing.later_editions import decide, freeze_trust, list_fresh

SCOPES = "publications:write,aggregates:read,aggregates:internal,windows:read"
REASON = {"reason": "The parents of both agree", "actor": "DPO"}


@dataclass
class Editions:
    """A trust, the clients who publish and who read, and what was published of it."""

    trust: GeneratedTrust
    operator: Any
    database: Database
    http: httpx2.AsyncClient
    manager: dict[str, str]
    portal: dict[str, str]
    app_url: str
    ids: dict[str, str]
    publications: list[dict[str, Any]] = field(default_factory=list)
    counted: list[GeneratedTrust] = field(default_factory=list)
    """The pupils of each edition."""
    readings: list[list[Reading]] = field(default_factory=list)
    """What the portal read of each edition."""
    rows: list[dict[tuple[Any, ...], dict[str, Any]]] = field(default_factory=list)

    async def publish(self, kind: str = "provisional") -> dict[str, Any]:
        """Publishes the window once more, and reads it as the portal."""
        path = f"/v1/windows/{self.trust.ids['window']}/publish"
        answer = await self.http.post(path, json={"kind": kind}, headers=self.manager)
        assert answer.status_code == 200, answer.text
        assert await Publisher(self.database, processes=1).publish_next()
        made: dict[str, Any] = (await self.http.get(f"/v1/publications/{answer.json()['id']}", headers=self.manager)).json()
        assert made["state"] == "published", made
        self.publications.append(made)
        self.counted.append(copy.deepcopy(self.trust))
        await self.read()
        return made

    async def read(self) -> None:
        readings, rows = await read_edition(self.http, self.portal)
        self.readings.append(readings)
        self.rows.append(rows)

    async def change(self, marks: Sequence[tuple[int, str, Mark]], sexes: Sequence[int] = ()) -> None:
        """Gives pupils, by their index, marks in subjects, and turns what others are."""
        trust = self.trust
        late = [(trust.ids[f"pupil {at}"], trust.ids[str(trust.urns[trust.pupils[at].school])], s, mark) for at, s, mark in marks]
        await record_marks(self.operator, trust, late)
        for at, subject, mark in marks:
            trust.pupils[at].marks[subject] = mark
        for at in sexes:
            pupil = trust.pupils[at]
            pupil.values["sex"] = "M" if pupil.values["sex"] == "F" else "F"
            await self.operator.execute("UPDATE pupils SET sex = $2 WHERE id = $1", trust.ids[f"pupil {at}"], pupil.values["sex"])
        await count_cells(self.operator, trust)

    def get_fresh(self, number: int) -> list[Reading]:
        """What edition `number` shows with its own figures, from 1; rows that keep others are as good as hidden."""
        fresh = []
        for reading in self.readings[number - 1]:
            row = self.rows[number - 1][make_key(reading)]
            is_fresh = row["edition"] == number
            hidden = dict.fromkeys(("eligible", "valid", "expected", "higher", "average"))
            fresh.append(reading if is_fresh else reading._replace(**hidden, status="c"))
        return fresh


def make_key(reading: Reading) -> tuple[Any, ...]:
    return tuple(reading[:5])


async def read_edition(
    http: httpx2.AsyncClient, token: dict[str, str]
) -> tuple[list[Reading], dict[tuple[Any, ...], dict[str, Any]]]:
    """Everything that a reader of aggregates may ask, and each row as it was answered."""
    readings: list[Reading] = []
    rows = {}
    for dimensions, subject in list_questions():
        named = {"window": CODE, "groupBy": ",".join(dimensions), "first": 1000} | ({"subject": subject} if subject else {})
        answer = await http.get("/v1/aggregates", params=named, headers=token)
        assert answer.status_code == 200, answer.text
        for row in answer.json()["data"]:
            defaults = dict.fromkeys(
                ("schoolUrn", "yearGroup", "eligible", "valid", "expected", "higher", "average", "status", "edition")
            )
            reading = make_reading(defaults | row, dimensions)
            rows[make_key(reading)] = defaults | row
            readings.append(reading)
    shown = defaultdict(set)
    for reading in readings:
        if reading.school is not None and reading.dimension is None and reading.status != "c":
            shown[reading.year].add(reading.school)
    return [each._replace(pooled=frozenset(shown[each.year])) if each.school is None else each for each in readings], rows


@pytest_asyncio.fixture(scope="module")
async def editions(module_databases: Databases) -> AsyncIterator[Editions]:
    """Three editions: one, then a late mark and a corrected sex, then the late marks of a whole year group in one school."""
    async with open_installation(module_databases) as (operator, database, http):
        trust = generate_trust(11, 3, ("5", "6"), 60)
        late = [at for at, pupil in enumerate(trust.pupils) if pupil.school == 0 and pupil.year == "6"][:14]
        for at in late:
            trust.pupils[at].marks["maths"] = Mark(None, 0)
        await load_trust(operator, trust, 0)
        grants = {"manager": f"trust:5000={SCOPES}", "portal": "trust:5000=aggregates:read"}
        credentials = {name: await register_client(operator, name, text) for name, text in grants.items()}
        tokens = [await authorise(http, each) for each in credentials.values()]
        ids = {name: each[0] for name, each in credentials.items()}
        made = Editions(trust, operator, database, http, *tokens, module_databases.app_url, ids)
        await made.publish()
        other = next(at for at, pupil in enumerate(trust.pupils) if pupil.school == 1 and pupil.year == "5")
        await made.change([(late[0], "maths", Mark("113", 3))], [other])
        await made.publish()
        await made.change([(at, "maths", Mark(*(("104", 2) if at % 2 else ("93", 1)))) for at in late[1:]])
        await made.publish("provisional")
        yield made


async def test_a_row_in_which_few_changed_keeps_what_was_shown(editions: Editions) -> None:
    """And says of which edition it is; all others are of the new one. A hidden row stays hidden."""
    before, after = editions.counted[:2]
    first, second = editions.rows[:2]
    few = set(find_few(before, after, editions.readings[0], SMALL))
    assert len(few) > 8
    kept = 0
    for reading in editions.readings[1]:
        key = make_key(reading)
        school = None if reading.school is None else before.urns.index(reading.school)
        was, row = first[key], second[key]
        assert (row["status"] == "c") == (was["status"] == "c"), row
        if row["status"] == "c":
            assert row["edition"] is None
        elif (school, *reading[1:4]) in few:
            assert row == was, "what was shown last"
            assert row["edition"] == 1
            kept += 1
        elif row["edition"] == 1:
            assert row == was, "a complement"
    assert kept == 4 * len(few)
    assert {row["edition"] for row in second.values()} == {None, 1, 2}
    publication = editions.publications[1]
    held = await editions.operator.fetchval(
        "SELECT count(*) FROM edition_rows WHERE publication_id = $1 AND edition = 1", UUID(publication["id"])
    )
    assert (publication["edition"], publication["heldBack"]) == (2, held)
    assert 0 < held < publication["populations"] - publication["hidden"]


async def test_both_interfaces_and_csv_say_the_edition_of_a_row(editions: Editions) -> None:
    dimensions = "school", "subject", "sex"
    reader = Reader(editions.http, editions.portal, CODE)
    rows = await reader.read_json(dimensions, None)
    assert rows == await reader.read_csv(dimensions, None)
    named = f'window: "{CODE}", groupBy: [school, subject, sex], first: 1000'
    query = f"{{ aggregates({named}) {{ nodes {{ schoolUrn subject sex edition }} }} }}"
    answer = (await editions.http.post("/graphql", json={"query": query}, headers=editions.portal)).json()
    assert "data" in answer, answer
    of_rows = {(row["schoolUrn"], row["subject"], row["sex"]): row["edition"] for row in answer["data"]["aggregates"]["nodes"]}
    for (school, _, dimension, category, subject), row in editions.rows[-1].items():
        if school is not None and row["yearGroup"] is None and dimension == "sex":
            assert of_rows[school, subject, category] == row["edition"]


async def test_nobody_finds_what_few_pupils_changed(editions: Editions) -> None:
    """The attacker, who reads HTTP alone, has all editions: of each, and of what differs between any two of them, nothing unsafe is found."""
    for later in (2, 3):
        fresh = editions.get_fresh(later)
        of_edition = judge(editions.counted[later - 1], fresh)
        assert (of_edition.exact_sizes, of_edition.narrow_sizes, of_edition.exact_counts) == ([], [], [])
        for earlier in range(1, later):
            found = judge_changes(*(editions.counted[at - 1] for at in (earlier, later)), editions.get_fresh(earlier), fresh)
            assert (found.exact_sizes, found.narrow_sizes, found.exact_counts) == ([], [], []), (earlier, later)
            assert found.sizes > 20 or earlier > 1


async def test_many_changes_are_shown_anew(editions: Editions) -> None:
    """Thirteen marks of one year group: its row, and what contains it, are of the third edition."""
    urn = editions.trust.urns[0]
    for key in ((urn, "6", None, None, "maths"), (urn, None, None, None, "maths")):
        row = editions.rows[2][key]
        assert (row["status"], row["edition"]) == (None, 3)
        assert row["valid"] == editions.rows[0][key]["valid"] + 14


async def test_the_database_shows_what_is_kept_to_nobody_who_reads_less(editions: Editions) -> None:
    """The frozen figures of an edition have every hidden one."""
    app = await asyncpg.connect(editions.app_url)
    numbers = {}
    for name in ("manager", "portal"):
        await app.execute("SELECT set_config('markonce.caller', $1, false)", editions.ids[name])
        numbers[name] = await app.fetchval("SELECT count(*) FROM edition_bases")
    await app.close()
    assert numbers == {"manager": 3, "portal": 0}


async def test_a_release_shows_what_was_held_back(editions: Editions) -> None:
    """With a reason that is kept, by whoever reads everything; of the newest edition alone, and once."""
    publication = editions.publications[-1]
    path = f"/v1/publications/{publication['id']}/release"
    for body, token, status in ((REASON, editions.portal, 403), ({}, editions.manager, 422)):
        assert (await editions.http.post(path, json=body, headers=token)).status_code == status
    older = await editions.http.post(
        f"/v1/publications/{editions.publications[1]['id']}/release", json=REASON, headers=editions.manager
    )
    assert (older.status_code, older.json()["type"].rpartition("/")[2]) == (409, "publication-state")
    dry = await editions.http.post(path, params={"dryRun": "true"}, json=REASON, headers=editions.manager)
    assert dry.json()["dryRun"] is True, dry.text
    assert publication["heldBack"] > 0
    released = await editions.http.post(path, json=REASON, headers=editions.manager)
    assert released.status_code == 200, released.text
    again = await editions.http.post(path, json=REASON, headers=editions.manager)
    assert (again.status_code, again.json()["type"].rpartition("/")[2]) == (409, "publication-state")
    now = (await editions.http.get(f"/v1/publications/{publication['id']}", headers=editions.portal)).json()
    assert now["releasedAt"] is not None
    assert now["heldBack"] < publication["heldBack"]
    history = await editions.http.get(
        "/v1/publication-changes", params={"publicationId": publication["id"]}, headers=editions.portal
    )
    last = history.json()["data"][-1]
    assert (last["outcome"], last["reason"]) == ("released", REASON["reason"])
    _, rows = await read_edition(editions.http, editions.portal)
    shown = [key for key, row in rows.items() if row["edition"] == 3 and editions.rows[2][key]["edition"] != 3]
    assert shown
    trust = editions.counted[2]
    live = await Reader(editions.http, editions.manager, CODE).read_json(("school", "subject", "sex"), None)
    of_live = {(row["schoolUrn"], row["subject"], row["sex"]): row for row in live}
    for school, year, dimension, category, subject in shown:
        if school is not None and year is None and dimension == "sex":
            for name in ("eligible", "valid", "expected", "higher"):
                row = rows[school, year, dimension, category, subject]
                assert row[name] == of_live[school, subject, category][name], trust.urns


async def test_figures_of_a_withdrawn_edition_are_shown_by_no_later_one(editions: Editions) -> None:
    """An edition after a release compares itself with what was released; a row that still has the figures of one that is withdrawn is hidden."""
    _, released = await read_edition(editions.http, editions.portal)
    await editions.change([], [1])
    await editions.publish()
    rows = editions.rows[-1]
    kept = [key for key, row in rows.items() if row["edition"] == 3]
    assert any(editions.rows[2][key]["edition"] != 3 for key in kept), "shown by the release"
    assert all(rows[key] == released[key] for key in kept)
    source = editions.publications[2]
    answer = await editions.http.post(f"/v1/publications/{source['id']}/withdraw", json=REASON, headers=editions.manager)
    assert answer.status_code == 200
    _, now = await read_edition(editions.http, editions.portal)
    for key, row in now.items():
        if key in kept:
            assert (row["status"], row["eligible"], row["edition"]) == ("c", None, None)
        else:
            assert row == rows[key]


async def test_what_is_no_longer_kept_ends_the_editions_of_a_window(editions: Editions) -> None:
    path = f"/v1/windows/{editions.trust.ids['window']}/publish"
    assert await editions.operator.fetchval("SELECT remove_old_edition_bases(100)") == 0
    await editions.operator.execute("UPDATE publications SET published_at = published_at - interval '401 days'")
    assert await editions.operator.fetchval("SELECT remove_old_edition_bases(2)") == 2
    answer = await editions.http.post(path, json={"kind": "provisional"}, headers=editions.manager)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "edition-exists")


def test_nobody_finds_what_few_pupils_changed_in_other_trusts() -> None:
    """The same without a server. The same attacker finds it where an edition is decided anew, or hides rows with few changes and nothing else."""
    anew, alone = Verdicts(), Verdicts()
    hidden = dict.fromkeys(("eligible", "valid", "expected", "higher"))
    for number in range(8, 8 + 3 * choose_size(1, 60), 3):
        trust, later = change_one_and_many(make_trust(number))
        frozen, again = freeze_trust(trust), freeze_trust(later)
        decided = decide(frozen)
        first = list(list_fresh(frozen, decided))
        earlier = [EarlierEdition(frozen, decided.parts)]
        decisions = [decide(again, earlier) for _ in range(2)]
        assert decisions[0] == decisions[1], "the same data give the same edition"
        second = list(list_fresh(again, decisions[0]))
        for found in (judge(later, second), judge_changes(trust, later, first, second)):
            assert (found.exact_sizes, found.narrow_sizes, found.exact_counts) == ([], [], [])
        without_history = list(list_fresh(again, decide(again)))
        anew.add(judge_changes(trust, later, first, without_history))
        few = {
            (None if group.school is None else trust.urns[group.school], *group[1:])
            for group in find_few(trust, later, first, SMALL)
        }
        without_complements = [each._replace(**hidden, status="c") if each[:4] in few else each for each in without_history]
        alone.add(judge_changes(trust, later, first, without_complements))
    assert len(anew.exact_sizes) > 10
    assert len(anew.exact_counts) > 10
    assert alone.exact_sizes
    assert alone.exact_counts


def change_one_and_many(trust: GeneratedTrust) -> tuple[GeneratedTrust, GeneratedTrust]:
    """Changes one pupil in a year group and many in another: the school's total less the one tells of the other."""
    later = copy.deepcopy(trust)
    school = trust.pupils[-1].school
    changed = [pupil for pupil in later.pupils if (pupil.school, pupil.year) == (school, "5")][:12]
    changed.append(next(pupil for pupil in later.pupils if (pupil.school, pupil.year) == (school, "4")))
    for pupil in changed:
        is_high = pupil.marks["maths"].level > 1
        pupil.marks = {subject: Mark("90", 1) if is_high else Mark("113", 3) for subject in pupil.marks}
    return trust, later


def test_a_school_that_is_new_joins_the_rows_of_the_trust() -> None:
    """It is protected apart, as if its own sums were published; what that tells of the others is what the first edition told of them."""
    full = generate_trust(22, 4, ("5", "6"), 50)
    before = GeneratedTrust([pupil for pupil in full.pupils if pupil.school < 3], full.urns)
    frozen, again = freeze_trust(replace(before, urns=full.urns[:3])), freeze_trust(full)
    decided = decide(frozen)
    first = list(list_fresh(frozen, decided))
    second = list(list_fresh(again, decide(again, [EarlierEdition(frozen, decided.parts)])))
    pools = [{len(each.pooled or ()) for each in readings if each[:3] == (None, None, None)} for readings in (first, second)]
    assert pools == [{3}, {4}]
    found = judge(full, second)
    assert (found.exact_sizes, found.narrow_sizes) == ([], [])
    shown = Shown(first)
    assert all(shown.implies(question) for question in found.exact_counts)
