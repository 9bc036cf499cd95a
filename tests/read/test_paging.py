"""Paging: however a list is ordered, page by page it is the list, with no row skipped and none repeated. Nulls come last in either direction.

So it is while rows come, move and go between the pages: who stays in its place is shown once, and what comes is shown where it comes ahead.
"""

import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from domain import RESOURCES
from domain.access.caller import ReachSnapshot
from domain.clients.clients import read_client_status
from domain.declare.resource import Field, Resource
from domain.declare.scopes import Scope
from domain.declare.value_types import ValueType
from domain.read import prepared
from domain.read.checks import list_default_fields
from domain.read.query import FieldValue, HasNextPage, ListQuery, Order, PageRows, RowCursor
from domain.roster.names import make_sort_key
from tests.fixtures.interfaces import Interfaces, read_exact_json
from tests.fixtures.random_queries import Document, Question
from tests.fixtures.sizes import choose_size
from tests.fixtures.two_trusts import AUTUMN, AWKWARD, GRADES, TRUSTS, TwoTrusts, batch, window

Row = tuple[Any, ...]
SEVERAL = choose_size(5, 60)
"""How many orders by two or three fields at once."""
WALKS = {"pupil": choose_size(2, 3), "group": choose_size(2, 5), "judgement": choose_size(3, 6)}
"""By what a list holds, how often it is walked while it changes."""


async def page(
    two_trusts: TwoTrusts, client_id: UUID, asked: ListQuery, snapshot: ReachSnapshot | None = None
) -> tuple[list[Row], bool, str | None]:
    """The rows of a page, each as what is ordered by and then its key; whether more follow; and where the page ends."""
    (body,) = await prepared.read([asked], two_trusts.database, client_id, two_trusts.cursors, snapshot, frozenset(Scope))
    found = json.loads(body or b"", parse_float=str, parse_int=str)
    return [tuple(row.values()) for row in found["data"]], found["more"], found["end"]


def ordered(resource: Resource, order: Sequence[Order]) -> ListQuery:
    """Every row in an order, in one page."""
    keys = [Field(resource.source.c[name], "") for name in resource.order]
    items = tuple((f"k{i}", FieldValue(field)) for i, field in enumerate([*(by.field for by in order), *keys]))
    return ListQuery(
        resource, (("data", PageRows(items)), ("more", HasNextPage()), ("end", RowCursor())), order=tuple(order), first=1000
    )


async def walked(
    two_trusts: TwoTrusts, client_id: UUID, asked: ListQuery, draw: random.Random, snapshot: ReachSnapshot | None = None
) -> list[Row]:
    """The rows page by page, in pages of any size; larger ones where the list turns out to be long."""
    rows: list[Row] = []
    while True:
        found, more, end = await page(two_trusts, client_id, replace(asked, first=draw.randint(3, 13) + len(rows)), snapshot)
        rows += found
        if not more:
            return rows
        assert end is not None
        asked = replace(asked, after=two_trusts.cursors.decrypt_position(end, client_id, asked.fingerprint()))


def orders(resource: Resource) -> list[tuple[Order, ...]]:
    """By no field, and by each field either way."""
    by = [(Order(name, field, down),) for name, field in resource.fields.items() if field.sortable for down in (False, True)]
    return [(), *by]


async def read_snapshot(two_trusts: TwoTrusts, client: str) -> ReachSnapshot:
    async with two_trusts.database.without_caller() as connection:
        stands = await read_client_status(connection, two_trusts.clients[client].caller.client_id)
    assert stands is not None
    return stands.snapshot


@pytest.mark.parametrize("client", ["North", "mixed", "everything"])
@pytest.mark.parametrize("name", RESOURCES)
async def test_pages_make_up_the_list_in_every_order(name: str, client: str, two_trusts: TwoTrusts) -> None:
    """`mixed` sees nulls where it holds no scope; `everything` reaches several tenants. In the suite they ask for some of the orders. The pages of
    North are read by the statements of a client of one tenant, its whole lists by those of a client of any."""
    client_id, resource, draw = two_trusts.clients[client].caller.client_id, RESOURCES[name], random.Random(name)
    usual, _, _ = await page(two_trusts, client_id, ordered(resource, ()))
    every = list(orders(resource))
    some = {"North": (len(every) + 5) // 6, "mixed": min(len(every), 2), "everything": min(len(every), 2)}[client]
    snapshot = await read_snapshot(two_trusts, client) if client == "North" else None
    for order in [(), *draw.sample(every[1:], choose_size(some, len(every)) - 1)]:
        asked = ordered(resource, order)
        whole, more, _ = await page(two_trusts, client_id, asked)
        assert (sorted(row[len(order) :] for row in whole), more) == (sorted(usual), False)
        assert await walked(two_trusts, client_id, asked, draw, snapshot) == whole
        for by in order:
            in_order([row[0] for row in whole], by)


def in_order(values: list[Any], by: Order) -> None:
    """Nulls last; and the others as they should be, where it is not the database's collation that decides."""
    if by.name in ("preferredSurname", "preferredForename"):  # who has none is sorted by the legal name
        return
    known = [value for value in values if value is not None]
    assert values == known + [None] * (len(values) - len(known))
    if by.field.kind in (ValueType.INTEGER, ValueType.NUMBER):
        assert known == sorted(known, key=float, reverse=by.descending)
    elif by.field.kind is ValueType.INSTANT:
        assert known == sorted(known, key=datetime.fromisoformat, reverse=by.descending)
    elif by.field.kind is not ValueType.TEXT:
        assert known == sorted(known, reverse=by.descending)


async def test_a_page_goes_on_where_another_tenant_was_within_reach(two_trusts: TwoTrusts) -> None:
    """A cursor may be of a time when the client reached another tenant than the one that it reaches now."""
    caller, asked = two_trusts.clients["everything"].caller, ordered(RESOURCES["pupil"], ())
    snapshot = await read_snapshot(two_trusts, "everything")
    tenants = sorted(snapshot.tenants, key=str)
    assert len(tenants) > 1
    whole, _, _ = await page(two_trusts, caller.client_id, asked)
    first = next(i for i, row in enumerate(whole) if row[0] != whole[0][0])
    after = replace(asked, after=whole[first - 2])
    for tenant in tenants:
        found, _, _ = await page(two_trusts, caller.client_id, after, replace(snapshot, tenants=(tenant,)))
        # of the tenant of the cursor alone, or of every one: the snapshot says one, and the reach has several
        expected = (
            [row for row in whole[first - 1 :] if row[0] == str(tenant)] if str(tenant) == whole[0][0] else whole[first - 1 :]
        )
        assert found == expected


async def test_pages_make_up_the_list_ordered_by_several_fields(two_trusts: TwoTrusts) -> None:
    draw, north = random.Random(4), two_trusts.clients["North"].caller.client_id
    for _ in range(SEVERAL):
        resource = RESOURCES[draw.choice(("pupil", "judgement", "target", "enrolment", "grade", "school"))]
        sortable = [(name, field) for name, field in resource.fields.items() if field.sortable]
        order = [Order(name, field, draw.random() < 0.5) for name, field in draw.sample(sortable, draw.choice((2, 3)))]
        asked = ordered(resource, order)
        whole, _, _ = await page(two_trusts, north, asked)
        assert await walked(two_trusts, north, asked, draw) == whole
        assert len(set(whole)) == len(whole)


@dataclass
class Change:
    """What a school sends between two pages: each change is a command, through REST."""

    interfaces: Interfaces
    draw: random.Random
    home: str = "Alder"
    names: dict[str, str] = field(default_factory=dict)
    """By what a list may be of, its id."""
    judged: list[tuple[str, ...]] = field(default_factory=list)

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        headers = {name.replace("_", "-"): value for name, value in headers.items()} | self.interfaces.tokens["North"]
        answer = await self.interfaces.http.request(method, f"/v1/{path}", json=body, headers=headers)
        assert answer.is_success, answer.text
        return read_exact_json(answer) if answer.content else None

    def name(self) -> str:
        return self.draw.choice((*AWKWARD, "B", "b", "Ba", "ba", "z"))

    async def pupil_comes(self, rows: list[Row]) -> None:
        """On roll and into the class."""
        entry = {
            "reference": f"comes-{self.draw.getrandbits(60)}",
            "surname": self.name(),
            "forename": self.name(),
            "dateOfBirth": str(date(2014, self.draw.randint(1, 12), self.draw.randint(1, 28))),
            "sex": self.draw.choice("FM"),
            "yearGroup": self.draw.choice(("5", "6")),
            "enrolments": [{"from": "2024-09-02", "status": "C"}],
        }
        answer = await self.send("POST", "pupils", batch(self.home, [entry], asOf="2024-10-01"), prefer="return=representation")
        self.names["pupil"] = answer["results"][0]["id"]
        await self.member({"id": self.names["pupil"]})

    async def member(self, member: dict[str, str]) -> None:
        """In the class, or no longer."""
        entry = {"code": "walked", "name": "Walked", "kind": "class", "members": [member]}
        await self.send("POST", "groups", batch(self.home, [entry], academicYear="2024-25", asOf="2024-10-01"))

    async def pupil_moves(self, rows: list[Row]) -> None:
        """To another place in the order, if it is by what is corrected or by when that was."""
        born = str(date(2014, self.draw.randint(1, 12), self.draw.randint(1, 28)))
        change = {
            "surname": self.name(),
            "forename": self.name(),
            "dateOfBirth": born,
            "sex": self.draw.choice("FM"),
            "sameChild": True,
        }
        await self.send("PATCH", f"pupils/{self.draw.choice(rows)[0]}", change, if_match="*")

    async def pupil_goes(self, rows: list[Row]) -> None:
        """To another school: off this one's roll, and out of the class."""
        id_ = self.draw.choice(rows)[0]
        facts = await self.send("GET", f"pupils/{id_}?fields=id,surname,forename,dateOfBirth,sex,yearGroup,schoolId")
        if facts.pop("schoolId") == self.names["school"]:
            spell = {"from": "2025-09-01", "status": "C"}
            await self.send("POST", "pupils", batch("Birch", [facts | {"enrolments": [spell]}], asOf="2025-09-02"))

    async def member_goes(self, rows: list[Row]) -> None:
        await self.member({"id": self.draw.choice(rows)[0], "from": "2024-10-01", "to": "2025-01-31"})

    async def group_comes(self, rows: list[Row]) -> None:
        entry = {"code": f"{self.draw.getrandbits(50)}", "name": self.name(), "kind": self.draw.choice(("class", "adhoc"))}
        await self.send("POST", "groups", batch(self.home, [entry], academicYear="2024-25", asOf="2024-10-01"))

    async def group_moves(self, rows: list[Row]) -> None:
        change = self.draw.choice(({"name": self.name()}, {"code": f"{self.draw.getrandbits(50)}"}, {"kind": "teaching"}))
        await self.send("PATCH", f"groups/{self.draw.choice(rows)[0]}", change, if_match="*")

    async def group_goes(self, rows: list[Row]) -> None:
        """One that nobody was ever in."""
        row = self.draw.choice(rows)
        if not (await self.send("GET", f"groups/{row[0]}/members?first=1"))["data"]:
            await self.send("DELETE", f"groups/{row[0]}", if_match="*")
            rows.remove(row)

    async def judgement_comes(self, rows: list[Row]) -> None:
        """Or another value takes its place, or it stands again."""
        await self.judge(self.grade(), tuple(map(self.draw.choice, (SUBJECTS, ASPECTS, CODES))))

    async def judgement_moves(self, rows: list[Row]) -> None:
        await self.judge(self.grade(), self.draw.choice(self.judged))

    async def judgement_goes(self, rows: list[Row]) -> None:
        """It is taken back, or an absence takes its place: nothing of it stands, and its history does."""
        await self.judge(self.draw.choice(({"withdrawn": True}, {"status": "absent"})), self.draw.choice(self.judged))

    def grade(self) -> dict[str, Any]:
        at = f"2025-0{self.draw.randint(1, 6)}-1{self.draw.randint(0, 9)}T09:30:00.{self.draw.choice(('5', '25', '123456'))}Z"
        said = {"recordedAt": at, "actor": self.draw.choice((None, *AWKWARD)), "source": self.draw.choice((None, "markbook"))}
        return said | {"grade": self.draw.choice(GRADES["own"][:3]), "mark": self.draw.choice((None, 2, 10, 7.25))}

    async def judge(self, value: dict[str, Any], what: tuple[str, ...]) -> None:
        subject, aspect, code = what
        entry = {"id": self.names["pupil"], "subject": subject, "aspect": aspect, **value}
        await self.send("POST", "judgements", batch(self.home, [entry], window=code))
        self.judged.append(what)

    async def begin(self, target: str) -> None:
        """What the lists of a walk are of: a school, its class, and a pupil with judgements; with some rows of the target."""
        self.names["school"] = str(self.interfaces.two_trusts.schools[self.home])
        for _ in range(5 if target == "pupil" else 1):
            await self.pupil_comes([])
        self.names["group"] = (await self.send("GET", "groups?code=walked"))["data"][0]["id"]
        for _ in range(10):
            if target == "group":
                await self.group_comes([])
            elif target == "judgement":
                await self.judgement_comes([])


SUBJECTS, ASPECTS = ("reading", "writing", "science", "gps"), ("main", "teacher", "test")
CODES = ("2023-24/walked-1", "2023-24/walked-2")
Does = Callable[[Change, list[Row]], Awaitable[None]]
OF_PUPILS: tuple[Does, ...] = (Change.pupil_comes, Change.pupil_moves, Change.pupil_goes)
OF_GROUPS: tuple[Does, ...] = (Change.group_comes, Change.group_moves, Change.group_goes)
OF_JUDGEMENTS: tuple[Does, ...] = (Change.judgement_comes, Change.judgement_moves, Change.judgement_goes)
LISTS: dict[str, tuple[str, str, tuple[Does, ...]]] = {
    "pupils": ("North", "pupil", OF_PUPILS),
    "pupils, of whom some have no name": ("mixed", "pupil", OF_PUPILS),
    "school.onRoll": ("North", "pupil", OF_PUPILS),
    "group.pupils": ("North", "pupil", (*OF_PUPILS, Change.member_goes)),
    "groups": ("North", "group", OF_GROUPS),
    "school.groups": ("North", "group", OF_GROUPS),
    "pupil.judgements": ("North", "judgement", OF_JUDGEMENTS),
    "pupil.latestJudgements": ("North", "judgement", OF_JUDGEMENTS),
}
"""By list, who reads it, what its rows are, and how they come, move and go."""
OFTEN = {"surname", "forename", "dateOfBirth", "name", "kind", "grade", "mark", "recordedAt"}
"""Fields to order by more often than by others, since a row moves when they change."""


@pytest_asyncio.fixture(scope="module")
async def windows(interfaces: Interfaces) -> None:
    """Two windows that collect many subjects, open."""
    collects = [{"subject": subject, "aspect": aspect, "scheme": "own"} for subject in SUBJECTS for aspect in ASPECTS]
    for code in CODES:
        asked = window({"trust": {"groupUid": TRUSTS["North"]}}, AUTUMN) | {
            "code": code,
            "academicYear": "2023-24",
            "censusOn": "2023-11-01",
            "collects": collects,
        }
        made = await interfaces.two_trusts.do("North", "create_window", asked)
        await interfaces.two_trusts.do("North", "open_window", {"id": made["id"]})


@dataclass
class Walk:
    """One reader's way through a list, each page by either interface."""

    interfaces: Interfaces
    client: str
    ask: Question
    of: tuple[Resource, str, str] | None
    """The row that the list is of, and the link."""
    draw: random.Random

    async def rest(self, client: str, ask: Question) -> Any:
        if self.of is not None:
            return await self.interfaces.of_row(client, *self.of, ask)
        if ask.resource.has_lookup and self.draw.random() < 0.5:
            url = f"/v1/{ask.resource.path}/lookup"
            return await self.interfaces.http.post(url, json=ask.body(), headers=self.interfaces.tokens[client])
        return await self.interfaces.rest(client, ask)

    async def graphql(self, client: str, ask: Question) -> tuple[Any, Callable[[Any], Any]]:
        """The answer and what reads it."""
        document = Document(random.Random(1), "variables")
        if self.of is None:
            asked, read = document.asking(document.page(ask, ask.resource.plural))
            return await self.interfaces.graphql(client, asked, **document.values), lambda data: read(data)[0]
        resource, id_, link = self.of
        within = Question(resource, ["id"], {link: ask})
        row = self.draw.choice((document.by_id, document.node))(within, id_)
        asked, read = document.asking(row)
        return await self.interfaces.graphql(client, asked, **document.values), lambda data: read(data)[0][link]

    async def page(self, ask: Question, *, by_rest: bool) -> tuple[list[Row], bool, str | None]:
        if by_rest:
            page = read_exact_json(await self.rest(self.client, ask))
        else:
            answer, read = await self.graphql(self.client, ask)
            page = read(answer["data"])
        rows = [tuple(known(ask, name, row[name]) for name in ask.fields) for row in page["data"]]
        return rows, page["page"]["hasMore"], page["page"]["endCursor"]

    async def whole(self) -> list[Row]:
        rows, more, _ = await self.page(replace(self.ask, first=1000), by_rest=True)
        assert not more
        assert rows == self.in_place(rows)
        return rows

    def in_place(self, rows: Sequence[Row]) -> list[Row]:
        """The rows as they should be ordered: names by their keys; the database's collation is C, as Python's."""
        placed = sorted(rows, key=lambda row: (row[0].split(".")[0], *map(int, row[0].split(".")[1:])))
        for name, descending in reversed(self.ask.order):
            at = self.ask.fields.index(name)
            key = make_sort_key if self.ask.resource.fields[name].sort_key is not None else None
            some = sorted((row for row in placed if row[at] is not None), key=partial(find_place, at, key), reverse=descending)
            placed = some + [row for row in placed if row[at] is None]
        return placed

    def following(self, rows: list[Row], last: Row | None) -> list[Row]:
        """The rows beyond the place of one that was shown, wherever that is now."""
        if last is None:
            return rows
        placed = self.in_place([*{*rows, last}])
        return placed[placed.index(last) + 1 :]


def find_place(at: int, key: Callable[[str], str] | None, row: Row) -> Any:
    """What a row is sorted by."""
    return row[at] if key is None else key(row[at])


def known(ask: Question, name: str, value: Any) -> Any:
    """A value of an answer as one that can be compared."""
    match ask.resource.fields[name].kind:
        case _ if value is None:
            return None
        case ValueType.INTEGER | ValueType.NUMBER:
            return Decimal(value)
        case ValueType.INSTANT:
            return datetime.fromisoformat(value)
    return value


def walk(interfaces: Interfaces, name: str, change: Change, draw: random.Random) -> Walk:
    """The beginning of a walk in the usual order, or in one by one or two fields either way."""
    client, target, _ = LISTS[name]
    resource = RESOURCES[target]
    row, _, link = name.partition(".")
    shown_fields = list_default_fields(resource, interfaces.two_trusts.clients[client].caller)
    may = [n for n in shown_fields if resource.fields[n].sortable and not n.startswith("preferred")]
    names = dict.fromkeys(draw.choices([*may, *3 * [n for n in may if n in OFTEN]], k=draw.choice((0, 1, 1, 2, 2))))
    order = [(by, draw.random() < 0.5) for by in names]
    everybody = {"roll": "all"} if target == "pupil" else {}  # a lookup shows all unless told otherwise, a list does not
    ask = Question(resource, [*dict.fromkeys(["id", *(by for by, _ in order)])], order=order, choices=everybody)
    if name == "pupils":
        ask.where = {"schoolId": [change.names["school"]]}
    return Walk(interfaces, client, ask, (RESOURCES[row], change.names[row], link) if link else None, draw)


@pytest.mark.parametrize("target", WALKS)
async def test_pages_are_true_of_a_list_that_changes_between_them(target: str, interfaces: Interfaces, windows: None) -> None:
    told: Counter[str] = Counter()
    for name in (name for name, (_, of, _) in LISTS.items() if of == target):
        for n in range(WALKS[target]):
            told += await walked_while_it_changes(interfaces, name, random.Random(f"{name} {n}"))
    assert {what for what, times in told.items() if times > 0} == {"stayed", "ahead", "behind", "moved", "gone"}, told


async def walked_while_it_changes(interfaces: Interfaces, name: str, draw: random.Random) -> Counter[str]:
    """Walks to the end, page by page as it has to be, and tells how many rows stayed, came, moved and went."""
    change, (_, target, does) = Change(interfaces, draw), LISTS[name]
    await change.begin(target)
    walked = walk(interfaces, name, change, draw)
    seen, shown, pages = [await walked.whole()], list[Row](), list[int]()
    ask, more = replace(walked.ask), True
    while more:
        ask.first = draw.randint(1, 2 + len(seen[0]) // 6)
        rows, more, ask.after = await walked.page(ask, by_rest=draw.random() < 0.5)
        ahead = walked.following(seen[-1], shown[-1] if shown else None)
        assert (name, rows, more) == (name, ahead[: ask.first], len(ahead) > ask.first), (ask.order, shown, seen)
        shown += rows
        if more:
            there = [*seen[-1]]
            for _ in range(draw.randint(0, 3)):
                await draw.choice(does)(change, there)
            seen.append(await walked.whole())
            pages.append(len(shown))
    stayed = set(seen[0]).intersection(*seen)
    assert [row for row in shown if row in stayed] == [row for row in seen[0] if row in stayed]
    assert shown == walked.in_place([*{*shown}])
    moved = {row[0] for rows in seen for row in rows} - {row[0] for row in stayed}
    assert {id_ for id_, times in Counter(row[0] for row in shown).items() if times > 1} <= moved
    told = Counter(stayed=len(stayed))
    for i, page in enumerate(pages, 1):
        before, after = ({row[0]: row for row in rows} for rows in (seen[i - 1], seen[i]))
        came = {row for id_, row in after.items() if id_ not in before}
        ahead_of = came.intersection(walked.following(seen[i], shown[page - 1]))
        stays = came.intersection(*seen[i:])
        assert stays.intersection(shown[page:]) == stays & ahead_of
        told["ahead"] += len(ahead_of)
        told["behind"] += len(came - ahead_of)
        told["moved"] += sum(before[id_] != row for id_, row in after.items() if id_ in before)
        told["gone"] += len(before.keys() - after.keys())
    return told


@pytest.mark.parametrize("name", LISTS)
async def test_a_cursor_that_is_anothers_or_altered_is_refused(name: str, interfaces: Interfaces, windows: None) -> None:
    draw, (client, target, _) = random.Random(f"refused {name}"), LISTS[name]
    change = Change(interfaces, draw)
    await change.begin(target)
    walked = walk(interfaces, name, change, draw)
    _, more, cursor = await walked.page(replace(walked.ask, first=1), by_rest=True)
    assert more
    assert cursor is not None
    asked = replace(walked.ask, first=2, after=cursor)
    assert await walked.page(asked, by_rest=True) == await walked.page(asked, by_rest=False)
    for token in altered(cursor, draw):
        await refused(walked, client, replace(asked, after=token))
    await refused(walked, "everything", asked)
    await refused(walked, client, replace(asked, order=[("version", True)] if asked.order != [("version", True)] else []))
    await refused(walked, client, replace(asked, where=asked.where | {"version": [1]}))
    of = {"pupil": ("school", "pupils"), "group": ("school", "groups"), "judgement": ("pupil", "targets")}[target]
    elsewhere = None if walked.of is not None else (RESOURCES[of[0]], change.names[of[0]], of[1])
    await refused(replace(walked, of=elsewhere), client, asked)


def altered(cursor: str, draw: random.Random) -> list[str]:
    """The cursor with another character in a place, without one, and with one more. Its last may be one of several that mean the same bits."""
    tokens = ["", cursor[:-1], cursor + "A", cursor[1:], cursor[::-1], "é" + cursor[1:]]
    for at in draw.sample(range(len(cursor) - 1), 6):
        other = draw.choice([letter for letter in "AZaz059" if letter != cursor[at]])
        tokens += [cursor[:at] + other + cursor[at + 1 :], cursor[:at] + cursor[at + 1 :], cursor[:at] + other + cursor[at:]]
    return [token for token in tokens if token != cursor]


async def refused(walked: Walk, client: str, ask: Question) -> None:
    """In both interfaces, for the cursor alone."""
    rest = await walked.rest(client, ask)
    told = [(issue["at"].strip("/"), issue["code"]) for issue in read_exact_json(rest).get("issues", [])]
    assert (rest.status_code, told) == (400, [("after", "cursor-invalid")]), (ask.after, rest.text)
    answer, _ = await walked.graphql(client, ask)
    (error,) = answer["errors"]
    problem = error["extensions"]["problem"]
    assert (problem["status"], [issue["code"] for issue in problem["issues"]]) == ("400", ["cursor-invalid"])
    assert problem["issues"][0]["at"].endswith(".after")
