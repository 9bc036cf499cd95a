"""Both walls between tenants, together and each alone: what is out of reach is out of the query, and row-level security says it a second time.

Random requests of one tenant's client, over every resource and link, ask for another tenant's rows: by id, by filters with its values,
from its place in the order, through links. Each row answered says whose it is.
"""

import json
import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import func, literal_column, select, true

from domain import RESOURCES
from domain.assessment.judgements import judgements
from domain.engine import query
from domain.engine.access import Caller
from domain.engine.database import Database
from domain.engine.embedded import SUPERUSER
from domain.engine.errors import DomainError, Forbidden
from domain.engine.ids import new_id
from domain.engine.resource import Field, Filter, Resource
from domain.engine.selection import Condition, Cursor, Items, Many, One, Order, Root, Rows, Selection, Single, Value, permit
from domain.roster.pupils import pupils
from tests.conftest import Databases
from tests.world import AUTUMN, COLLECTS, HOUSE, KS2, SCHOOLS, SUMMER, TENANTS, TRUSTS, World, batch, build, upn, window

Catalogue = Mapping[str, Resource]
Row = dict[str, Any]

REGISTER = ("trust", "school", "membership")
"""Published by the Department for Education; row-level security leaves it to the reach."""
OPEN = {name: replace(resource, reach=lambda scope: true()) for name, resource in RESOURCES.items()}
"""The catalogue as it would be if nobody had written the reach down."""
WALLS: dict[str, tuple[Catalogue, str]] = {
    "both": (RESOURCES, "app"),
    "row-level security alone": (OPEN, "app"),
    "the reach alone": (RESOURCES, "superuser"),
}
SHAPES, DRAWS, ROOTS = 100, 10, 5
"""5,000 requests: statements of five roots each, of which ten at a time have one shape and differ in their values."""

OWNERS = {
    name: ("register" if name in REGISTER else "owner", Field(column, "Whose row it is."))
    for name, resource in RESOURCES.items()
    for column in [resource.source.c["school_id" if name == "membership" else "id" if name == "trust" else "tenant_id"]]
}
PLACES = {name: {f"@{column}": Field(resource.source.c[column], "") for column in resource.order} for name, resource in RESOURCES.items()}


@pytest_asyncio.fixture(scope="module")
async def world(module_databases: Databases) -> AsyncIterator[World]:
    made = await build(module_databases)
    yield made
    await made.database.close()


@pytest_asyncio.fixture(scope="module")
async def roles(world: World) -> AsyncIterator[dict[str, Database]]:
    """The database as the app, and as the superuser, for whom no policy holds. One plan a statement: planning takes most of the time."""

    async def plan_once(connection: Any) -> None:
        await connection.execute("SET plan_cache_mode = force_generic_plan")

    urls = {"app": world.databases.app_url, "superuser": world.databases.cluster.url(world.databases.name, SUPERUSER)}
    opened = {role: await Database.open(url, size=1, serving=role == "app", on_connect=plan_once) for role, url in urls.items()}
    yield opened
    for database in opened.values():
        await database.close()


async def rows_of(database: Database, caller: Caller, world: World, resource: Resource) -> list[Row]:
    """Every row a caller sees, each with whose it is and its place in the order."""
    shown = {**resource.fields, **PLACES[resource.name]}
    items: Items = (*((key, Value(field)) for key, field in shown.items()), ("owner", Value(OWNERS[resource.name][1])))
    (body,) = await query.read([Selection(resource, (("data", Rows(items)),), first=1000)], database, caller.client_id, world.cursors)
    found: list[Row] = json.loads(body or b"", parse_float=str, parse_int=str)["data"]
    return found


@dataclass(frozen=True)
class Known:
    """What there is to ask for: the rows of each tenant by resource, as its own client sees them, and who owns each school and trust."""

    rows: dict[str, dict[str, list[Row]]]
    owner: dict[str, str]


@pytest_asyncio.fixture(scope="module")
async def known(world: World) -> Known:
    rows = {
        tenant: {name: await rows_of(world.database, world.clients[tenant].caller, world, resource) for name, resource in RESOURCES.items()}
        for tenant in TENANTS
    }
    owner = {str(world.schools[school]): tenant for tenant, schools in TENANTS.items() for school in schools}
    return Known(rows, owner | {str(id_): tenant for tenant, id_ in world.tenants.items()})


class Request:
    """Writes a root that asks for a tenant's rows. `shape` decides its form and `draw` its values, so that the values change under one plan."""

    def __init__(self, catalogue: Catalogue, asked: dict[str, list[Row]], own: dict[str, list[Row]], shape: random.Random, draw: random.Random) -> None:
        self.catalogue, self.asked, self.own, self.shape, self.draw = catalogue, asked, own, shape, draw

    def root(self) -> Root:
        of = self.asked if self.shape.random() < 0.85 else self.own
        resource = self.catalogue[self.shape.choice([name for name, rows in of.items() if rows])]
        row = self.draw.choice(of[resource.name])
        depth = self.shape.choice((0, 0, 1, 1, 2, 3))
        if resource.has_id and self.shape.random() < 0.4:
            picked = resource.identify(row["id"])
            assert picked is not None
            return Single(resource, picked, self.row(resource, depth))
        return self.page(resource, row, depth)

    def page(self, resource: Resource, row: Row, depth: int) -> Selection:
        """A page filtered by what this row holds, or from a place in the order just before it."""
        rows = self.asked[resource.name] or [row]
        usable = [name for name, field in resource.fields.items() if field.filter is not Filter.NOWHERE and any(r[name] is not None for r in rows)]
        where = []
        for name in self.shape.sample(usable, min(len(usable), self.shape.choice((0, 1, 1, 2)))):
            given = [r[name] for r in (row, *self.draw.sample(rows, len(rows))) if r[name] is not None]
            values = tuple(dict.fromkeys(resource.fields[name].kind.parse(value) for value in given))
            if (several := self.shape.random() < 0.3) and len(values) == 1:
                values *= 2
            where.append(Condition(name, resource.fields[name], values[: 2 if several else 1]))
        sortable = [name for name, field in resource.fields.items() if field.sortable]
        order = tuple(Order(name, resource.fields[name], self.shape.random() < 0.5) for name in self.shape.sample(sortable, self.shape.choice((0, 0, 1, 2))))
        after = None
        if not where and self.shape.random() < 0.5:
            after = tuple(None if value is None else str(value).lower() if isinstance(value, bool) else value for value in [*(row[o.name] for o in order), *(row[f"@{c}"] for c in resource.order)])
        items: Items = (("data", Rows(self.row(resource, depth))), ("end", Cursor()))
        return Selection(resource, items, tuple(where), order, self.draw.choice((1, 5, 100)), after)

    def row(self, resource: Resource, depth: int) -> Items:
        """Some fields, whose row it is, and links, whose pages are filtered by the other tenant's values too."""
        key, owner = OWNERS[resource.name]
        items: list[tuple[str, Any]] = [(key, Value(owner))]
        items += [(name, Value(resource.fields[name])) for name in self.shape.sample(list(resource.fields), 3)]
        for name in self.shape.sample(list(resource.links), min(depth, len(resource.links), 2)):
            link, target = resource.links[name], self.catalogue[resource.links[name].target]
            if not link.many:
                items.append((name, One(link, target, self.row(target, depth - 1))))
            elif rows := self.asked[target.name]:
                items.append((name, Many(link, self.page(target, self.draw.choice(rows), depth - 1))))
        return tuple(items)


def statements(catalogue: Catalogue, known: Known, shapes: int = SHAPES) -> Iterator[tuple[str, str, list[Root]]]:
    """Who asks, whose rows, and the roots of one statement; always the same."""
    pairs = list(permutations(TENANTS, 2))
    for n in range(shapes):
        asker, asked = pairs[n % len(pairs)]
        for d in range(DRAWS):
            draw = random.Random(f"values {n} {d}")
            yield asker, asked, [Request(catalogue, known.rows[asked], known.rows[asker], random.Random(f"shape {n} {r}"), draw).root() for r in range(ROOTS)]


def owned(body: bytes | None, known: Known, *keys: str) -> set[str]:
    """The tenants whose rows stand in an answer. A text in it cannot look like these keys: its quotes are escaped."""
    found = re.findall(rb'"(%s)":"([0-9a-f-]{36})"' % "|".join(keys).encode(), body or b"")
    return {known.owner[id_.decode()] for _, id_ in found}


@pytest.mark.parametrize("wall", WALLS)
async def test_five_thousand_requests_find_no_row_of_another_tenant(wall: str, world: World, roles: dict[str, Database], known: Known) -> None:
    catalogue, role = WALLS[wall]
    keys = ("owner",) if catalogue is OPEN else ("owner", "register")
    requests, own, leaked = 0, 0, []
    for asker, asked, roots in statements(catalogue, known):
        for root, body in zip(roots, await query.read(roots, roles[role], world.clients[asker].caller.client_id, world.cursors), strict=True):
            requests += 1
            found = owned(body, known, *keys)
            own += asker in found
            if found - {asker}:
                leaked.append((asker, asked, root.resource.name, body))
    assert (requests, leaked) == (5000, [])
    assert own > 250  # the asker's own rows are found by the same statements


async def test_without_either_wall_the_same_requests_find_them(world: World, roles: dict[str, Database], known: Known) -> None:
    """So the test above can fail, and its two kinds of switched-off wall are off."""
    requests = found = 0
    for asker, asked, roots in statements(OPEN, known, shapes=20):
        bodies = await query.read(roots, roles["superuser"], world.clients[asker].caller.client_id, world.cursors)
        requests += len(roots)
        found += sum(asked in owned(body, known, "owner", "register") for body in bodies)
    assert found > requests / 2


async def test_row_level_security_leaves_the_register_to_the_reach(world: World, roles: dict[str, Database], known: Known) -> None:
    """Schools, trusts and memberships are public, so only the reach keeps them apart; pupils below them stay behind the wall."""
    caller = world.clients["Fir"].caller
    for name in RESOURCES:
        seen = {known.owner[row["owner"]] for row in await rows_of(roles["app"], caller, world, OPEN[name])}
        assert seen == (set(TENANTS) - {"Fir" if name in ("trust", "membership") else ""} if name in REGISTER else {"Fir"})
        within = {known.owner[row["owner"]] for row in await rows_of(roles["app"], caller, world, RESOURCES[name])}
        assert within == (set() if name in ("trust", "membership") else {"Fir"})


# The context of a statement

PLANNERS = {
    "as it comes": (),
    "generic plans": ("plan_cache_mode = force_generic_plan",),
    "custom plans": ("plan_cache_mode = force_custom_plan",),
    "without nested loops": ("enable_nestloop = off", "enable_material = off"),
    "without index scans": ("enable_indexscan = off", "enable_bitmapscan = off", "enable_indexonlyscan = off"),
    "in parallel": ("debug_parallel_query = on", "parallel_setup_cost = 0", "parallel_tuple_cost = 0", "min_parallel_table_scan_size = 0"),
}


@pytest.mark.parametrize("planner", PLANNERS)
async def test_a_statement_sets_its_own_context_fails_closed_and_leaves_nothing_behind(planner: str, world: World) -> None:
    """On the PostgreSQL in use: no predicate but row-level security's, one connection for all."""
    counted = [select(func.count()).select_from(table).scalar_subquery() for table in (pupils, judgements)]
    plan, failing = query.finish(counted), query.finish([literal_column("1 / (SELECT count(*) - count(*) FROM pupils)")])
    truth = {row["tenant_id"]: (row["pupils"], row["judgements"]) for row in await as_superuser(world, _COUNTS)}
    connection = await asyncpg.connect(world.databases.app_url)

    async def seen(caller: UUID | None) -> tuple[int, ...]:
        return tuple(await connection.fetchrow(plan.sql, caller) or ())

    async def nothing_is_left() -> None:
        assert await connection.fetchval("SELECT current_setting('markonce.caller', true)") in (None, "")
        assert await connection.fetchval("SELECT count(*) FROM pupils") == 0

    for setting in PLANNERS[planner]:
        await connection.execute(f"SET {setting}")
    await nothing_is_left()
    for _ in range(7):  # PostgreSQL thinks of a generic plan after five
        for tenant, tenant_id in world.tenants.items():
            assert await seen(world.clients[tenant].caller.client_id) == truth[tenant_id]
            await nothing_is_left()
            assert await seen(new_id(20)) == await seen(None) == (0, 0)
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetchrow(failing.sql, world.clients[tenant].caller.client_id)
            await nothing_is_left()
    await connection.close()


_COUNTS = """
SELECT tenant_id, count(*) AS pupils, (SELECT count(*) FROM judgements j WHERE j.tenant_id = p.tenant_id) AS judgements FROM pupils p GROUP BY tenant_id
"""


async def as_superuser(world: World, statement: str) -> list[Any]:
    connection = await asyncpg.connect(world.databases.cluster.url(world.databases.name, SUPERUSER))
    rows: list[Any] = await connection.fetch(statement)
    await connection.close()
    return rows


# Scopes of fields

MASKED = {
    ("pupil", "upn"): ("pupils:upn", {"Birch"}),
    ("pupil", "surname"): ("pupils:name", {"Alder"}),
    ("pupil", "forename"): ("pupils:name", {"Alder"}),
    ("pupil", "dateOfBirth"): ("pupils:birth", {"Cedar"}),
    ("judgement", "againstTarget"): ("targets:read", {"Birch"}),
}
"""Every field with a scope of its own, and at which schools the client `mixed` holds it."""


def test_every_field_with_a_scope_of_its_own_is_tried() -> None:
    declared = {(name, key): field.scope for name, resource in RESOURCES.items() for key, field in resource.fields.items() if field.scope}
    assert declared == {key: scope for key, (scope, _) in MASKED.items()}


@pytest.mark.parametrize(("name", "key"), MASKED)
def test_a_scope_held_nowhere_is_refused_with_its_field(name: str, key: str) -> None:
    resource, (scope, _) = RESOURCES[name], MASKED[name, key]
    field, shown = resource.fields[key], (("id", Value(resource.fields["id"])),)
    caller = Caller(new_id(20), frozenset({"pupils:read", "judgements:read", "schools:read"}))
    page = Selection(resource, (("data", Rows(shown)),))
    permit([page], caller)
    school, back = RESOURCES["school"], RESOURCES["pupil"].links["judgements" if name == "judgement" else "school"]
    asking: list[Root] = [
        Selection(resource, (("data", Rows(((key, Value(field)),))),)),
        Single(resource, (), ((key, Value(field)),)),
        replace(page, where=(Condition(key, field, ("x",)),)),
        replace(page, order=(Order(key, field, False),)),
        Single(school, (), (("below", Many(back, replace(page, order=(Order(key, field, True),)))),)),
    ]
    for root in asking:
        with pytest.raises(Forbidden) as refused:
            permit([root], caller)
        assert [(issue.at, issue.code) for issue in refused.value.issues] == [(f"{name}.{key}", "scope-missing")]
        assert f"{name}.{key} needs {scope}" in refused.value.detail


@pytest.mark.parametrize(("name", "key"), MASKED)
async def test_a_scope_held_at_some_schools_shows_filters_and_sorts_nothing_elsewhere(name: str, key: str, world: World, known: Known) -> None:
    """A pupil is at the school of main registration and at those that share the pupil; elsewhere the field is null, whatever is asked."""
    resource, (_, held) = RESOURCES[name], MASKED[name, key]
    field, mixed, of_pupil = resource.fields[key], world.clients["mixed"].caller, "id" if name == "pupil" else "pupilId"
    truth = {row["id"]: row[key] for row in known.rows["North"][name]}
    at = await schools_of_pupils(world)
    rows = await rows_of(world.database, mixed, world, resource)
    visible = {row["id"] for row in rows if at[row[of_pupil]] & held}
    hidden = [row["id"] for row in rows if row["id"] not in visible]
    assert visible
    assert hidden
    assert {row["id"]: row[key] for row in rows} == {id_: truth[id_] if id_ in visible else None for id_ in [row["id"] for row in rows]}

    async def ids(**asked: Any) -> list[str]:
        page = Selection(resource, (("data", Rows((("id", Value(resource.fields["id"])),))),), first=1000, **asked)
        (body,) = await query.read([page], world.database, mixed.client_id, world.cursors)
        return [row["id"] for row in json.loads(body or b"")["data"]]

    values = {value for id_, value in truth.items() if value is not None}
    assert values & {truth[id_] for id_ in hidden}
    nulls = [row["id"] for row in rows if row[key] is None]  # in the order of those who did not sort
    for value in values if field.filter is not Filter.NOWHERE else ():
        assert set(await ids(where=(Condition(key, field, (field.kind.parse(value),)),))) <= visible
    for descending in (False, True) if field.sortable else ():
        ordered = await ids(order=(Order(key, field, descending),))
        assert ordered[-len(nulls) :] == nulls


async def schools_of_pupils(world: World) -> dict[str, set[str]]:
    rows = await as_superuser(world, "SELECT id, school_id FROM pupils UNION SELECT pupil_id, school_id FROM shared_pupils")
    names = {id_: name for name, id_ in world.schools.items()}
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(str(row["id"]), set()).add(names[row["school_id"]])
    return found


# Writes

@dataclass(frozen=True)
class Names:
    """What a body may name: things of another tenant, or things that are nowhere."""

    urn: int
    school: str
    trust: str
    uid: int
    pupil: str
    upn: str
    reference: str
    window: str
    window_code: str
    scheme: str


ENTRY = {"surname": "A", "forename": "B", "dateOfBirth": "2014-01-01", "sex": "F", "yearGroup": "5", "enrolments": [{"from": "2024-09-01", "status": "C"}]}
JUDGED = {"subject": "reading", "grade": HOUSE[0]["code"]}
AIMED = {"subject": "reading", "grade": HOUSE[0]["code"], "scheme": "house", "basis": "teacher", "horizon": {"academicYear": "2025-26", "point": "KS2"}}
HERE = {"reference": "Alder-0"}
"""A pupil of the caller's own, at Alder."""


def planned(tenant: Any, **line: Any) -> dict[str, Any]:
    return window(tenant, SUMMER) | {"code": "new", "collects": [{"subject": "science", "scheme": "ks2-science-ta"} | line]}


def trespasses(n: Names) -> dict[str, tuple[str, Any]]:
    """Every way a body of a client of North can name what is another tenant's, by what it tries."""
    own = {"trust": {"groupUid": TRUSTS["North"]}}
    pupil_names = {"id": n.pupil, "upn": n.upn, "reference": n.reference}
    schools = {"urn": {"urn": n.urn}, "id": {"id": n.school}}
    tenants = {"uid": {"trust": {"groupUid": n.uid}}, "trust id": {"trust": {"id": n.trust}}, "school": {"school": {"id": n.school}}}
    tries: dict[str, tuple[str, Any]] = {
        "roll: a pupil's id": ("record_pupils", batch("Alder", [ENTRY | {"id": n.pupil}], asOf="2024-10-01")),
        "judgement: the window's id": ("record_judgements", batch("Alder", [HERE | JUDGED], window=n.window)),
        "judgement: the window's code": ("record_judgements", batch("Alder", [HERE | JUDGED], window=n.window_code)),
        "target: the scheme": ("record_targets", batch("Alder", [HERE | AIMED | {"scheme": n.scheme}])),
        "window: a collecting school": ("create_window", planned(own, schools=[{"id": n.school}])),
        "window: the scheme": ("create_window", planned(own, scheme=n.scheme)),
        "open": ("open_window", {"id": n.window}),
        "close": ("close_window", {"id": n.window}),
        "reopen": ("reopen_window", {"id": n.window}),
    }
    for how, school in schools.items():
        tries[f"roll: the school's {how}"] = ("record_pupils", {"school": school, "asOf": "2024-10-01", "entries": [ENTRY]})
        tries[f"roll: an entry's school's {how}"] = ("record_pupils", batch("Alder", [ENTRY | {"school": school}], asOf="2024-10-01"))
        tries[f"judgement: the school's {how}"] = ("record_judgements", {"school": school, "window": AUTUMN, "entries": [HERE | JUDGED]})
        tries[f"target: the school's {how}"] = ("record_targets", {"school": school, "entries": [HERE | AIMED]})
    for key, value in pupil_names.items():
        tries[f"judgement: a pupil's {key}"] = ("record_judgements", batch("Alder", [JUDGED | {key: value}], window=AUTUMN))
        tries[f"target: a pupil's {key}"] = ("record_targets", batch("Alder", [AIMED | {key: value}]))
    for how, tenant in tenants.items():
        tries[f"scheme: the {how}"] = ("create_scheme", {"tenant": tenant, "code": "new", "name": "New", "template": "effort"})
        tries[f"window: the {how}"] = ("create_window", planned(tenant))
    return tries


TRIES = list(trespasses(Names(0, "", "", 0, "", "", "", "", "", "")))
SMUGGLED = [tried for tried in TRIES if re.search("a pupil's|the window's|the scheme|collecting", tried)]
"""Those that name what is South's inside a batch or window of North's, which no reach makes right."""


@pytest_asyncio.fixture(scope="module")
async def named(world: World, known: Known) -> tuple[Names, Names]:
    """What South alone has, and what nobody has."""
    ref = {"trust": {"groupUid": TRUSTS["South"]}}
    await world.do("South", "create_scheme", {"tenant": ref, "code": "souths", "name": "South's", "template": "effort"})
    opened = await world.do("South", "create_window", planned(ref) | {"code": "souths"})
    await world.do("South", "open_window", {"id": opened["id"]})
    pupil = next(row for row in known.rows["South"]["pupil"] if row["upn"] == upn("Damson", 0))
    souths = Names(SCHOOLS["Damson"], str(world.schools["Damson"]), str(world.tenants["South"]), TRUSTS["South"], pupil["id"], pupil["upn"], pupil["reference"], opened["id"], "souths", "souths")
    school, trust, nobody, never = (str(new_id(number)) for number in (3, 1, 4, 8))
    return souths, Names(199999, school, trust, 4999, nobody, upn("Damson", 99), "nobody", never, "nowhere", "nothing")


@pytest.mark.parametrize(("client", "tried"), [*(("North", tried) for tried in TRIES), *(("everything", tried) for tried in SMUGGLED)])
async def test_a_command_that_names_what_is_anothers_writes_nothing_and_answers_as_if_it_were_absent(
    client: str, tried: str, world: World, named: tuple[Names, Names]
) -> None:
    """Also for a client that reaches both tenants."""
    answers = []
    before = await contents(world)
    for names in named:
        command, document = trespasses(names)[tried]
        with pytest.raises(DomainError) as refused:
            await world.do(client, command, document)
        answers.append((type(refused.value), refused.value.code, refused.value.detail, refused.value.issues))
    assert answers[0] == answers[1]
    assert await contents(world) == before


async def contents(world: World) -> dict[str, str]:
    """A fingerprint of every table."""
    tables = await as_superuser(world, "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition")
    hashed = ", ".join(f"(SELECT md5(COALESCE(string_agg(t::text, '' ORDER BY t::text), '')) FROM {row['relname']} t) AS {row['relname']}" for row in tables)
    (row,) = await as_superuser(world, f"SELECT {hashed}")
    return dict(row)
