"""Both checks between tenants, together and each alone: the query excludes what is out of reach, and row-level security excludes it again.

Random requests of one tenant's client, over every resource and link, ask for another tenant's rows: by id, by filters with its values,
from its place in the order, through links. Each row answered says whose it is.
"""

import random
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations, product
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from sqlalchemy import func, literal_column, select, true

from domain import RESOURCES as EVERY_RESOURCE
from domain.access.caller import ReachSnapshot
from domain.assessment.judgements import judgements
from domain.clients.clients import read_client_status
from domain.declare.ids import new_id
from domain.declare.resource import Field, Resource
from domain.declare.value_types import ValueType
from domain.read import compile, page_rows, prepared
from domain.read.query import (
    Condition,
    FieldValue,
    ListQuery,
    Order,
    OutputFields,
    PageRows,
    Query,
    RowCursor,
    RowQuery,
    ToMany,
    ToOne,
)
from domain.roster.pupils import pupils
from domain.roster.schools import schools
from domain.store.database import Database
from domain.store.embedded import SUPERUSER
from tests.fixtures.sizes import choose_size
from tests.fixtures.two_trusts import TENANTS, TwoTrusts, sort_repeatably

Catalogue = Mapping[str, Resource]
Row = dict[str, Any]

REGISTER = ("trust", "school", "membership")
"""Published by the Department for Education; row-level security leaves it to the reach."""
RESOURCES = {name: resource for name, resource in EVERY_RESOURCE.items() if name != "code"}
"""Those whose rows are somebody's: code lists are the same for all."""
OPEN = {name: replace(resource, reach=lambda scope: true()) for name, resource in RESOURCES.items()}
"""The catalogue as it would be if nobody had written the reach down."""
CHECKS: dict[str, tuple[Catalogue, str]] = {
    "both": (RESOURCES, "app"),
    "row-level security alone": (OPEN, "app"),
    "the reach alone": (RESOURCES, "superuser"),
}


def _select_every_tenant(after: str | None = None, *, descending: bool = False) -> Any:
    """The tenants that a list is asked for one by one, as they would be if nobody had written the reach down."""
    every = select(schools.c.tenant_id).distinct()
    return every.order_by(schools.c.tenant_id.desc() if descending else schools.c.tenant_id).subquery("tenants")


def forget_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements of the OPEN catalogue are asked of every tenant. Its templates are its own, so that no other statement is."""
    monkeypatch.setattr(page_rows, "select_tenants", _select_every_tenant)


SHAPES, DRAWS, ROOTS = choose_size(4, 50), choose_size(2, 20), 5
"""Statements of five roots each, of which some at a time have one shape and differ in their values: 5,000 requests in `make attack`."""

OWNERS: dict[str, tuple[str, Field]] = {
    name: ("register" if name in REGISTER else "owner", Field(column, "Whose row it is."))
    for name, resource in RESOURCES.items()
    for column in [resource.source.c["school_id" if name == "membership" else "id" if name == "trust" else "tenant_id"]]
}
PLACES = {name: {f"@{c}": Field(resource.source.c[c], "") for c in resource.order} for name, resource in RESOURCES.items()}
"""By resource, the key that ends every order; PLACES in a row, and whose the row is, are asked for as fields."""


@pytest_asyncio.fixture(scope="module")
async def roles(two_trusts: TwoTrusts) -> AsyncIterator[dict[str, Database]]:
    """The database as the app, and as the superuser, for whom no policy holds. One plan a statement: planning takes most of the time."""

    async def plan_once(connection: Any) -> None:
        await connection.execute("SET plan_cache_mode = force_generic_plan")

    urls = {
        "app": two_trusts.databases.app_url,
        "superuser": two_trusts.databases.cluster.url(two_trusts.databases.name, SUPERUSER),
    }
    opened = {role: await Database.open(url, size=1, serving=role == "app", on_connect=plan_once) for role, url in urls.items()}
    yield opened
    for database in opened.values():
        await database.close()


@dataclass(frozen=True)
class Known:
    """What there is to ask for: the rows of each tenant by resource, as its own client sees them, and who owns each school and trust."""

    rows: dict[str, dict[str, list[Row]]]
    owner: dict[str, str]


@pytest_asyncio.fixture(scope="module")
async def known(two_trusts: TwoTrusts) -> Known:
    rows: dict[str, dict[str, list[Row]]] = {}
    for tenant in TENANTS:
        caller = two_trusts.clients[tenant].caller
        rows[tenant] = {
            name: sort_repeatably(await two_trusts.rows(two_trusts.database, caller, of, **PLACES[name]))
            for name, of in RESOURCES.items()
        }
    owner = {str(two_trusts.schools[school]): tenant for tenant, schools in TENANTS.items() for school in schools}
    return Known(rows, owner | {str(id_): tenant for tenant, id_ in two_trusts.tenants.items()})


@dataclass
class Request:
    """Writes a root that asks for a tenant's rows. `shape` decides its form and `draw` its values, so that they change under one plan."""

    catalogue: Catalogue
    asked: dict[str, list[Row]]
    own: dict[str, list[Row]]
    shape: random.Random
    draw: random.Random

    def root(self) -> Query:
        of = self.asked if self.shape.random() < 0.85 else self.own
        resource = self.catalogue[self.shape.choice([name for name, rows in of.items() if rows])]
        row, depth = self.draw.choice(of[resource.name]), self.shape.choice((0, 0, 1, 1, 2, 3))
        if resource.has_id and self.shape.random() < 0.4:
            picked = resource.identify(row["id"])
            assert picked is not None
            return RowQuery(resource, picked, self.row(resource, depth))
        return self.page(resource, row, depth)

    def page(self, resource: Resource, row: Row, depth: int) -> ListQuery:
        """A page filtered by what this row holds, or that begins at its place in the order."""
        where = tuple(self.condition(name, field, row) for name, field in self.filters(resource))
        sortable = [name for name, field in resource.fields.items() if field.sortable]
        order = tuple(
            Order(name, resource.fields[name], self.shape.random() < 0.5)
            for name in self.shape.sample(sortable, self.shape.choice((0, 0, 1, 2)))
        )
        after = None
        if not where and self.shape.random() < 0.5:
            after = tuple(as_place(row[name]) for name in (*(by.name for by in order), *PLACES[resource.name]))
        items: OutputFields = (("data", PageRows(self.row(resource, depth))), ("end", RowCursor()))
        return ListQuery(resource, items, where, order, self.draw.choice((1, 5, 100)), after)

    def filters(self, resource: Resource) -> list[tuple[str, Field]]:
        """Some fields of which the tenant asked for has a value."""
        filled = [
            (name, field)
            for name, field in resource.fields.items()
            if any(row[name] is not None for row in self.asked[resource.name])
        ]
        return self.shape.sample(filled, min(len(filled), self.shape.choice((0, 1, 1, 2))))

    def condition(self, name: str, field: Field, row: Row) -> Condition:
        """The row's own value, or that of others where it has none; or two."""
        rows = self.asked[next(of.name for of in RESOURCES.values() if of.fields.get(name) is field)]
        given = [r[name] for r in (row, *self.draw.sample(rows, len(rows))) if r[name] is not None]
        if field.kind is ValueType.TEXTS:
            given = [text for texts in given for text in texts]
        return Condition(name, field, tuple(map(field.parse_filter, (given * 2)[: self.shape.choice((1, 1, 2))])))

    def row(self, resource: Resource, depth: int) -> OutputFields:
        """Whose row it is, some fields, and links, whose pages are filtered by the other tenant's values too."""
        key, owner = OWNERS[resource.name]
        items: list[tuple[str, Any]] = [(key, FieldValue(owner))]
        items += [
            (name, FieldValue(resource.fields[name]))
            for name in self.shape.sample(list(resource.fields), min(3, len(resource.fields)))
        ]
        for name in self.shape.sample(list(resource.links), min(depth, len(resource.links), 2)):
            link, target = resource.links[name], self.catalogue[resource.links[name].target]
            if not link.many:
                items.append((name, ToOne(link, target, self.row(target, depth - 1))))
            elif rows := self.asked[target.name]:
                items.append((name, ToMany(link, self.page(target, self.draw.choice(rows), depth - 1))))
        return tuple(items)


def as_place(value: Any) -> str | None:
    """A value as a cursor holds it."""
    return str(value).lower() if isinstance(value, bool) else value


def statements(catalogue: Catalogue, known: Known, shapes: int = SHAPES) -> Iterator[tuple[str, str, list[Query]]]:
    """Who asks, whose rows, and the roots of one statement; always the same."""
    pairs = list(permutations(TENANTS, 2))
    for n, d in product(range(shapes), range(DRAWS)):
        asker, asked = pairs[n % len(pairs)]
        of, own, draw = known.rows[asked], known.rows[asker], random.Random(f"values {n} {d}")
        requests = [Request(catalogue, of, own, random.Random(f"shape {n} {r}"), draw) for r in range(ROOTS)]
        yield asker, asked, [request.root() for request in requests]


def owned(body: bytes | None, known: Known, *keys: str) -> set[str]:
    """The tenants whose rows stand in an answer. A text in it cannot look like these keys: its quotes are escaped."""
    found = re.findall(rb'"(%s)":"([0-9a-f-]{36})"' % "|".join(keys).encode(), body or b"")
    return {known.owner[id_.decode()] for _, id_ in found}


@pytest_asyncio.fixture(scope="module")
async def snapshot(two_trusts: TwoTrusts) -> dict[str, ReachSnapshot]:
    """What each client's grants give wherever it reaches: with it, a statement asks rows for no scope, and does not look for linked ones in reach again."""
    found = {}
    async with two_trusts.database.without_caller() as connection:
        for name, client in two_trusts.clients.items():
            stands = await read_client_status(connection, client.caller.client_id)
            assert stands is not None
            found[name] = stands.snapshot
    return found


@pytest.mark.parametrize("asks_rows", [True, False], ids=["rows are asked for scopes", "reach gives them everywhere"])
@pytest.mark.parametrize("check", CHECKS)
async def test_random_requests_find_no_row_of_another_tenant(
    check: str,
    asks_rows: bool,
    two_trusts: TwoTrusts,
    roles: dict[str, Database],
    known: Known,
    snapshot: dict[str, ReachSnapshot],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    catalogue, role = CHECKS[check]
    if catalogue is OPEN:  # no statement is bound to the one tenant either
        forget_reach(monkeypatch)
        snapshot = {name: replace(held, tenants=()) for name, held in snapshot.items()}
    keys = ("owner",) if catalogue is OPEN else ("owner", "register")
    requests, own, leaked = 0, 0, []
    for asker, asked, roots in statements(catalogue, known):
        held = None if asks_rows else snapshot[asker]
        caller = two_trusts.clients[asker].caller
        bodies = await prepared.read(roots, roles[role], caller.client_id, two_trusts.cursors, held, caller.scopes)
        requests += len(bodies)
        for root, body in zip(roots, bodies, strict=True):
            found = owned(body, known, *keys)
            own += asker in found
            if found - {asker}:
                leaked.append((asker, asked, root.resource.name, body))
    assert (requests, leaked) == (SHAPES * DRAWS * ROOTS, [])
    assert own > requests / 20  # the asker's own rows are found by the same statements


async def test_without_either_check_the_same_requests_find_them(
    two_trusts: TwoTrusts, roles: dict[str, Database], known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above can fail, and its two kinds of switched-off check are off."""
    forget_reach(monkeypatch)
    requests = found = 0
    for asker, asked, roots in statements(OPEN, known, shapes=choose_size(5, 20)):
        caller = two_trusts.clients[asker].caller
        bodies = await prepared.read(roots, roles["superuser"], caller.client_id, two_trusts.cursors, scopes=caller.scopes)
        requests += len(roots)
        found += sum(asked in owned(body, known, "owner", "register") for body in bodies)
    assert found > requests / 3


async def test_row_level_security_leaves_the_register_to_the_reach(
    two_trusts: TwoTrusts, roles: dict[str, Database], known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schools, trusts and memberships are public, so only the reach keeps them apart; pupils below them stay out of reach."""
    caller = two_trusts.clients["Fir"].caller
    for name in RESOURCES:
        owner = OWNERS[name][1]
        with monkeypatch.context() as patches:
            forget_reach(patches)
            behind = {known.owner[row["owner"]] for row in await two_trusts.rows(roles["app"], caller, OPEN[name], owner=owner)}
        within = {known.owner[row["owner"]] for row in await two_trusts.rows(roles["app"], caller, RESOURCES[name], owner=owner)}
        of_trusts = name in ("trust", "membership")  # Fir has none
        assert behind == ({"North", "South"} | (set() if of_trusts else {"Fir"}) if name in REGISTER else {"Fir"})
        assert within == (set() if of_trusts else {"Fir"})


async def test_the_checks_agree(
    two_trusts: TwoTrusts, roles: dict[str, Database], known: Known, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To a client that holds every scope wherever it reaches, each check alone shows exactly the rows that both show."""
    for client in (*TENANTS, "everything"):
        caller = two_trusts.clients[client].caller
        for name, resource in OPEN.items():
            if name not in REGISTER:
                with monkeypatch.context() as patches:
                    forget_reach(patches)
                    behind = await two_trusts.rows(roles["app"], caller, resource)
                within = await two_trusts.rows(roles["superuser"], caller, RESOURCES[name])
                assert behind == within == await two_trusts.rows(two_trusts.database, caller, RESOURCES[name])


async def test_a_stray_row_shares_a_pupil_with_no_school_of_another_tenant(
    two_trusts: TwoTrusts, roles: dict[str, Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no command writes: a pupil of North, shared with a school of South."""
    pupil = (await two_trusts.rows(two_trusts.database, two_trusts.clients["North"].caller, RESOURCES["pupil"]))[0]["id"]
    north, damson = two_trusts.tenants["North"], two_trusts.schools["Damson"]
    await two_trusts.as_superuser(f"INSERT INTO shared_pupils VALUES ('{north}', '{pupil}', '{damson}')")
    try:
        for catalogue, role in CHECKS.values():
            with monkeypatch.context() as patches:
                if catalogue is OPEN:
                    forget_reach(patches)
                seen = await two_trusts.rows(roles[role], two_trusts.clients["South"].caller, catalogue["pupil"])
            assert pupil not in {row["id"] for row in seen}
    finally:
        await two_trusts.as_superuser(f"DELETE FROM shared_pupils WHERE school_id = '{damson}'")


_OWNED = """
SELECT c.relname AS name, c.relkind = 'v' AS is_view FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND c.relname <> 'schools'
"""


async def test_row_level_security_covers_every_table_and_view(two_trusts: TwoTrusts) -> None:
    """The app's role in the context of South's client, with statements that no command would send, about rows of North."""
    app, north, south = (
        await asyncpg.connect(two_trusts.databases.app_url),
        two_trusts.tenants["North"],
        two_trusts.tenants["South"],
    )

    async def tried(statement: str) -> str:
        try:
            async with app.transaction():
                await app.execute(
                    "SELECT set_config('markonce.caller', $1, true)", str(two_trusts.clients["South"].caller.client_id)
                )
                return str(await app.execute(statement))
        except asyncpg.InsufficientPrivilegeError:
            return "refused"

    owned = await two_trusts.as_superuser(_OWNED)
    assert len(owned) > 20
    for name, is_view in owned:
        assert await tried(f"SELECT 1 FROM {name} WHERE tenant_id IS DISTINCT FROM '{south}'") in ("SELECT 0", "refused")
        if not is_view:
            row = f'json_populate_record(NULL::{name}, \'{{"tenant_id": "{north}", "academic_year": 2024}}\')'
            assert await tried(f"INSERT INTO {name} SELECT * FROM {row}") == "refused"
            assert await tried(f"UPDATE {name} SET tenant_id = '{south}' WHERE tenant_id = '{north}'") in ("UPDATE 0", "refused")
            assert await tried(f"DELETE FROM {name} WHERE tenant_id = '{north}'") in ("DELETE 0", "refused")
    assert await tried(f"SELECT 1 FROM tenants WHERE id <> '{south}'") == "SELECT 0"
    assert await tried(f"UPDATE pupils SET tenant_id = '{north}'") == "refused"
    for call in (
        f"match_pupils('{north}', '{north}', ARRAY['{north}'::uuid], ARRAY[NULL::uuid], ARRAY[NULL::text], ARRAY[NULL::text])",
        f"find_key_owners('{north}', '{north}', ARRAY['{north}'::uuid], ARRAY[NULL::uuid], ARRAY[NULL::text], ARRAY[NULL::text])",
        f"read_identities('{north}', ARRAY['{north}'::uuid])",
        f"release_upns('{north}', ARRAY['x'], ARRAY['{north}'::uuid], '{north}')",
        *(f"{name}('{north}', '{{}}', '{{}}')" for name in ("lock_schools", "rebuild_cells", "adjust_cells")),
        f"adjust_cells('{north}', '{{}}', '{{}}', 1)",
        f"bump_versions('{north}', '{{}}')",
        f"move_pupils('{north}', '{{}}', '{two_trusts.schools['Damson']}')",
        f"move_pupils('{south}', '{{}}', '{two_trusts.schools['Alder']}')",
    ):
        assert await tried(f"SELECT * FROM {call}") == "refused"
    await app.close()


# The context of a statement

PLANNERS = {
    "as it comes": (),
    "generic plans": ("plan_cache_mode = force_generic_plan",),
    "custom plans": ("plan_cache_mode = force_custom_plan",),
    "without nested loops": ("enable_nestloop = off", "enable_material = off"),
    "without index scans": ("enable_indexscan = off", "enable_bitmapscan = off", "enable_indexonlyscan = off"),
    "in parallel": (
        "debug_parallel_query = on",
        "parallel_setup_cost = 0",
        "parallel_tuple_cost = 0",
        "min_parallel_table_scan_size = 0",
    ),
}


@pytest.mark.parametrize("planner", PLANNERS)
async def test_a_statement_sets_its_own_context_fails_closed_and_leaves_nothing_behind(planner: str, two_trusts: TwoTrusts) -> None:
    """On the PostgreSQL in use: no predicate but row-level security's, one connection for all."""
    counted = [select(func.count()).select_from(table).scalar_subquery() for table in (pupils, judgements)]
    plan, failing = (
        compile.make_statement(counted),
        compile.make_statement([literal_column("1 / (SELECT count(*) - count(*) FROM pupils)")]),
    )
    truth = {row["tenant_id"]: (row["pupils"], row["judgements"]) for row in await two_trusts.as_superuser(_COUNTS)}
    connection = await asyncpg.connect(two_trusts.databases.app_url)

    async def seen(caller: UUID | None) -> tuple[int, ...]:
        return tuple(await connection.fetchrow(plan.sql, caller) or ())

    async def nothing_is_left() -> None:
        assert await connection.fetchval("SELECT current_setting('markonce.caller', true)") in (None, "")
        assert await connection.fetchval("SELECT count(*) FROM pupils") == 0

    for setting in PLANNERS[planner]:
        await connection.execute(f"SET {setting}")
    await nothing_is_left()
    for _ in range(7):  # PostgreSQL thinks of a generic plan after five
        for tenant, tenant_id in two_trusts.tenants.items():
            assert await seen(two_trusts.clients[tenant].caller.client_id) == truth[tenant_id]
            await nothing_is_left()
            assert await seen(new_id(20)) == await seen(None) == (0, 0)
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.fetchrow(failing.sql, two_trusts.clients[tenant].caller.client_id)
            await nothing_is_left()
    await connection.close()


_COUNTS = """
SELECT tenant_id, count(*) AS pupils, (SELECT count(*) FROM judgements j WHERE j.tenant_id = p.tenant_id) AS judgements FROM pupils p GROUP BY tenant_id
"""
