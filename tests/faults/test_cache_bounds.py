"""Whatever a client asks for, the caches hold no more than they say: 40 lists of 50,000 ids once held 32 MB of answers and 235 MB of their keys.

`MARKONCE_FAULT_FACTOR` multiplies how often each client asks (1 by default), and the caches are as large as in a server from 8 on.
"""

import ast
import gc
import os
import re
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import permutations
from typing import Any
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio

from api.app import build_app
from api.http.auth import Authenticator
from api.settings import Settings
from domain.declare.type_numbers import PUPIL
from domain.read.labels import get_label_cache
from domain.store.database import Database
from domain.store.pool import Connection, Pool
from domain.store.pulse import Pulse
from domain.store.urls import read_url
from domain.support.lru import list_caches
from domain.write.together import WritesTogether
from tests.fixtures.settings import ROOT, SECRET
from tests.fixtures.sizes import choose_some
from tests.fixtures.small_trust import BASE, URNS, WINDOW, Trust, batch, entry, judged, opened, roll, sent

FACTOR = int(os.environ.get("MARKONCE_FAULT_FACTOR", "1"))
SMALLER = max(8 // FACTOR, 1)
SLACK = 1_000_000
"""Bytes that the process may grow by beside its caches: what libraries make once."""

Ask = tuple[str, str, Any]
"""Method, URL and what is sent with it: headers of a GET, the JSON of a POST."""


def make_pupil_id(n: int) -> str:
    """An id of the pupils' table that nobody has."""
    return str(UUID(int=n << 80 | (0x7000 | PUPIL) << 64 | 1 << 63))


def lists_of_ids() -> Iterator[Ask]:
    """One query, each time with other ids."""
    query = "query ($ids: [ID!]) { pupils(where: {id: $ids}, first: 10) { nodes { id } } }"
    for n in range(15 * FACTOR):
        yield (
            "POST",
            "/graphql",
            {"query": query, "variables": {"ids": [make_pupil_id(n * 1_000 + i) for i in range(1_000)]}},
        )


def lists_of_every_length() -> Iterator[Ask]:
    """One query that has as many forms as its list has lengths."""
    query = "query ($ids: [ID!]) { pupils(where: {id: $ids}, first: 10) { nodes { id } } }"
    for n in range(15 * FACTOR):
        yield "POST", "/graphql", {"query": query, "variables": {"ids": [make_pupil_id(i) for i in range(1_000 - n)]}}


def lists_in_urls() -> Iterator[Ask]:
    for n in range(30 * FACTOR):
        yield "GET", f"/v1/pupils?fields=id&{'&'.join(f'version={n * 900 + i + 1}' for i in range(900))}", {}


def documents() -> Iterator[Ask]:
    """Documents that differ in their aliases, each of which is compiled to a statement of its own."""
    for n in range(27 * FACTOR):
        fields = f"a{n}: id judgements(first: 2) {{ nodes {{ subjectCode grade window {{ code name }} }} }}"
        pages = " ".join(f"p{i}: pupils(first: {i + 1}) {{ nodes {{ {fields} }} }}" for i in range(5))
        yield "POST", "/graphql", {"query": f"{{ {pages} }}"}


def documents_that_are_not_valid() -> Iterator[Ask]:
    for n in range(12 * FACTOR):
        yield "POST", "/graphql", {"query": f"{{ pupils {{ nodes {{ {' '.join(f'field{n}x{i}' for i in range(300))} }} }} }}"}


def documents_of_one_long_text() -> Iterator[Ask]:
    for n in range(15 * FACTOR):
        text = f"{n} {'x' * 45_000}"
        yield "POST", "/graphql", {"query": f"# {text}\n{{ pupils(first: 1) {{ nodes {{ id }} }} }}"}


def introspections() -> Iterator[Ask]:
    query = "query ($a: Boolean) { __schema { types { name description fields(includeDeprecated: $a) { name description } } } }"
    for n in range(12 * FACTOR):
        yield "POST", "/graphql", {"query": f"# {n}\n{query}", "variables": {"a": True}}


def introspections_of_one_document() -> Iterator[Ask]:
    fields = "types { name description fields(includeDeprecated: true) { name description } }"
    query = f"query ($name: String!) {{ __schema {{ {fields} }} __type(name: $name) {{ name }} }}"
    for n in range(12 * FACTOR):
        yield "POST", "/graphql", {"query": query, "variables": {"name": f"None{n}"}}


def urls() -> Iterator[Ask]:
    """URLs that differ in the order of their fields, each of which is compiled to a statement of its own."""
    orders = permutations(("id", "forename", "surname", "yearGroup", "sex", "version"))
    links = "include=school,judgements.window&fields=school.name,judgements.grade,judgements.window.code,"
    for fields, n in zip(orders, range(30 * FACTOR), strict=False):
        versions = "&".join(f"version={i + 1}" for i in range(200))
        yield "GET", f"/v1/pupils?{links}{','.join(fields)}&first={n + 1}&{versions}", {}


def urls_of_many_parameters() -> Iterator[Ask]:
    for n in range(20 * FACTOR):
        yield "GET", f"/v1/pupils?{'&'.join(['a'] * 60)}&b={n}", {}


def aggregates() -> Iterator[Ask]:
    """Questions about schools in every order."""
    dimensions = permutations(("school", "yearGroup", "sex", "disadvantaged", "eal", "sen"), 3)
    for chosen, n in zip(dimensions, range(22 * FACTOR), strict=False):
        schools = "&".join(f"school={URNS[name]}" for name in ("Oak", "Elm", "Ash"))
        yield "GET", f"/v1/aggregates?groupBy={','.join(chosen)}&subject=reading&window={WINDOW}&{schools}&first={n + 1}", {}


def headers() -> Iterator[Ask]:
    for n in range(20 * FACTOR):
        yield "POST", "/graphql", {"query": "{ __typename }", "accept": f"application/json;x={n}{'x' * 100_000}"}


def gradebooks() -> Iterator[Ask]:
    """Batches that name windows which are not there."""
    for n in range(30 * FACTOR):
        entries = [judged(i % 5, window=f"{n}-{i}-{'x' * 150}") for i in range(100)]
        yield "POST", "/v1/judgements", {"school": {"urn": URNS["Oak"]}, "window": "none", "entries": entries}


ATTACKS: dict[str, tuple[Callable[[], Iterator[Ask]], str, tuple[str, ...]]] = {
    "lists of ids": (lists_of_ids, "200", ()),
    "lists of every length": (lists_of_every_length, "200", ("request templates",)),
    "lists in urls": (lists_in_urls, "200", ()),
    "documents": (documents, "200", ("GraphQL documents", "statements")),
    "documents that are not valid": (documents_that_are_not_valid, "200 errors", ()),
    "documents of one long text": (documents_of_one_long_text, "200", ()),
    "introspections": (introspections, "200", ("introspection",)),
    "introspections of one document": (introspections_of_one_document, "200", ("introspection",)),
    "urls": (urls, "200", ("request templates",)),
    "urls of many parameters": (urls_of_many_parameters, "400", ("query strings",)),
    "aggregates": (aggregates, "200", ("aggregate statements",)),
    "headers": (headers, "200", ()),
    "gradebooks": (gradebooks, "422", ()),
}
"""By name, what is asked, how it is answered, and which caches must be full by then."""


@pytest_asyncio.fixture
async def client(small_trust: Trust, vendor: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """The vendor at an application that keeps nothing yet, and then as much as a server does, or an eighth of it."""
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(5)]))
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(n) for n in range(5)]))
    app = build_app(
        Settings(small_trust.databases.app_url, SECRET.encode(), BASE, rate=100_000, burst=100_000), small_trust.database
    )
    limits = [(cache, cache.limit) for cache in list_caches()]
    for cache, limit in limits:
        cache.clear()
        cache.resize(limit // SMALLER)
    async with httpx2.AsyncClient(
        transport=httpx2.ASGITransport(app=app), base_url=BASE, headers=vendor.headers, timeout=60
    ) as made:
        yield made
    for cache, limit in limits:
        cache.resize(limit)


async def ask(client: httpx2.AsyncClient, asked: Ask) -> str:
    """The status, and whether the data says what is wrong."""
    method, url, sent_with = asked
    if method == "GET":
        answer = await client.get(url, headers=sent_with)
    else:
        accept = {"Accept": sent_with.pop("accept")} if "accept" in sent_with else {}
        answer = await client.post(url, json=sent_with, headers=accept)
    return f"{answer.status_code} errors" if answer.text.startswith('{"errors"') else str(answer.status_code)


@pytest.mark.parametrize("name", choose_some(ATTACKS, 2, "second"))
async def test_memory_grows_by_what_the_caches_say(name: str, client: httpx2.AsyncClient, small_trust: Trust) -> None:
    attack, expected, full = ATTACKS[name]
    for _ in range(2):
        assert await ask(client, next(attack())) == expected
    before = {cache: cache.weight for cache in list_caches()}
    gc.collect()
    tracemalloc.start()
    for asked in attack():
        assert await ask(client, asked) == expected
    await small_trust.database.close()  # with the statements that each connection keeps, of which another test is
    small_trust.statements.seen.clear()
    gc.collect()
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert [cache.name for cache in before if cache.weight > cache.limit] == []
    sizes = {cache.name: (cache.size, cache.weight, cache.limit) for cache in sorted(before, key=lambda cache: cache.weight)}
    kept = sum(max(cache.weight - weight, 0) for cache, weight in before.items())
    assert grown <= kept + SLACK, sizes
    for cache in full:
        _, weight, limit = sizes[cache]
        assert weight > limit * 0.7, f"{cache} was not filled: {sizes[cache]}"


async def _never_connect() -> Connection:
    raise AssertionError("nothing is asked")


def test_every_cache_is_documented_with_its_limit() -> None:
    before = list_caches()
    app = build_app(Settings("", SECRET.encode(), BASE))
    database = Database(Pool(_never_connect, 1), Pulse(read_url("postgresql://nowhere")))
    made = app, Authenticator(app.state.database, app.state.settings), WritesTogether(database), get_label_cache(database)
    limits = {cache.name: cache.limit for cache in before + [cache for cache in list_caches() if cache not in before]}
    rows = re.findall(r"^\| ([\w ]+) \| ([\d.]+) \|", (ROOT / "docs" / "memory.md").read_text(), re.MULTILINE)
    documented = {name: round(float(megabytes) * 1_000_000) for name, megabytes in rows}
    assert {name: limit for name, limit in limits.items() if "test" not in name} == documented
    assert f"at most {sum(documented.values()) / 1_000_000:.1f} MB" in (ROOT / "docs" / "memory.md").read_text()
    del made


CLOSED = {
    "api/graphql/endpoint.py": {"make_endpoint"},
    "api/graphql/schema.py": {"make_schema"},
    "api/graphql/types.py": {"make_input_type", "make_output_type", "make_page_arguments", "_make_paging_arguments"},
    "api/pages/__init__.py": {"load_assets", "compute_version"},
    "api/pages/problems.py": {"_encode_list", "_write_list"},
    "api/rest/openapi/document.py": {"_encode"},
    "api/rest/urls.py": {"list_endpoints", "make_routes", "_list_paths", "_list_sent_again"},
    "domain/assessment/code_lists.py": {"_index_values"},
    "domain/assessment/horizon_days.py": {"load_horizons"},
    "domain/assessment/window_templates.py": {"load_window_templates"},
    "domain/assessment/templates.py": {"load_templates"},
    "domain/write/decode.py": {
        "_list_names",
        "_list_words",
        "_map_fields",
        "_find_struct",
        "_find_item_type",
        "_is_prose",
        "_find_form",
        "_find_max_length",
    },
    "domain/write/partial.py": {"_derive"},
    "domain/read/natural_keys.py": {"_prepare"},
    "domain/roster/code_lists.py": {"load_code_lists", "_index_codes"},
    "domain/roster/names.py": {"list_weights"},
    "domain/roster/gias/apply.py": {"_write_sql"},
}
"""Functions whose results functools keeps: what they are asked is a part of the program or a setting, never of a request."""

WEAK = {
    "domain/support/lru.py": {"_caches"},
    "domain/read/json_sql.py": {"_fixed"},
    "domain/read/labels.py": {"_caches"},
    "domain/read/query.py": {"_templates"},
    "domain/support/slices.py": {"_turns"},
}
"""Collections of a module that start empty: they keep nothing that nobody else refers to."""


def name_of(node: ast.expr) -> str:
    """The last name of `functools.cache`, `cache` or `cache(…)`."""
    match node:
        case ast.Call(func=func):
            return name_of(func)
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def handmade(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """What looks like a cache that is no Lru: its kind, and its name or its source."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name, decorator_list=decorators) | ast.AsyncFunctionDef(name=name, decorator_list=decorators):
                if any(name_of(each) in ("cache", "lru_cache", "cached", "alru_cache") for each in decorators):
                    yield "functools", name
            case ast.Call(func=ast.Name(id="lru_cache" | "cache") | ast.Attribute(attr="lru_cache" | "cache")):
                yield "called", ast.unparse(node)
            case ast.Name(id="OrderedDict") | ast.Attribute(attr="OrderedDict") | ast.alias(name="OrderedDict"):
                yield "ordered", "OrderedDict"
            case ast.Call(func=ast.Attribute(attr="popitem")):
                yield "eviction", ast.unparse(node)
            case ast.Call(func=ast.Attribute(attr="pop"), args=[ast.Call(func=ast.Name(id="next")), *_]):
                yield "eviction", ast.unparse(node)
            case ast.Delete(targets=targets):
                if any(isinstance(target, ast.Subscript) and name_of(target.slice) == "next" for target in targets):
                    yield "eviction", ast.unparse(node)
            case ast.If(
                test=ast.Compare(left=ast.Call(func=ast.Name(id="len"))),
                body=[ast.Expr(value=ast.Call(func=ast.Attribute(attr="clear")))],
            ):
                yield "eviction", ast.unparse(node)
    for node in tree.body:
        value = node.value if isinstance(node, ast.Assign | ast.AnnAssign) else None
        empty = isinstance(value, ast.Dict) and not value.keys
        if empty or (isinstance(value, ast.Call) and name_of(value).lower() in COLLECTIONS and not value.args):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            yield "module", ast.unparse(target)


COLLECTIONS = {"dict", "defaultdict", "weakkeydictionary", "weakvaluedictionary", "weakset"}


def test_there_is_no_cache_beside_them() -> None:
    """A cache of one's own either has no bound, or bounds the number of its entries and not what they hold."""
    found: dict[str, set[tuple[str, str]]] = {}
    for path in sorted([*(ROOT / "api").rglob("*.py"), *(ROOT / "domain").rglob("*.py")]):
        name = str(path.relative_to(ROOT))
        caches_of_it = set(handmade(ast.parse(path.read_text())))
        caches_of_it -= {("functools", function) for function in CLOSED.get(name, ())} | {
            ("module", each) for each in WEAK.get(name, ())
        }
        if caches_of_it:
            found[name] = caches_of_it
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        "@lru_cache(maxsize=None)\ndef plan(shape): ...",
        "@functools.cache\ndef plan(shape): ...",
        "plan = lru_cache(maxsize=100)(compile)",
        "from collections import OrderedDict",
        "class Kept:\n    def keep(self):\n        del self._bodies[next(iter(self._bodies))]",
        "def keep(known):\n    known.pop(next(iter(known)), None)",
        "def keep(known):\n    known.popitem()",
        "def keep(known):\n    if len(known) >= 20:\n        known.clear()",
        "_kept: dict[str, bytes] = {}",
        "_kept = dict()",
    ],
)
def test_what_such_a_cache_looks_like(source: str) -> None:
    assert list(handmade(ast.parse(source))) != []
