"""Two PostgreSQL servers, each with one of two trusts, and the smallest router there is: by the tenant that a statement binds.

Both servers have the whole schema, and equal rows of what no tenant owns: the register, clients, grants, reach and keys. The statements of
clients of one trust are listed with the tenants that they bind: none binds two. Each client is then answered from its own trust's server, byte
for byte as from one server with both.
"""

import asyncio
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import httpx2

from api.app import build_app
from api.settings import Settings
from domain import RESOURCES
from domain.store import embedded
from domain.store.database import Database
from domain.store.migrate import migrate
from domain.store.programs import find_binaries
from domain.store.renewal import remove_rows
from tests.fixtures.databases import Databases
from tests.fixtures.registration import authorise
from tests.fixtures.settings import ROOT, SECRET, WIDE
from tests.fixtures.two_trusts import TwoTrusts, build_two_trusts

BASE = "http://shards"
TABLES = set(re.findall(r"^CREATE (?:TABLE|VIEW) public\.(\w+)", (ROOT / "docs" / "schema.sql").read_text(), re.MULTILINE))
TRUSTS = ("North", "South")
SHARED = {
    "clients",
    "client_secrets",
    "codes",
    "grants",
    "memberships",
    "reach",
    "signing_keys",
    "trusts",
    "used_assertions",
    "unnest",
}
"""Relations whose rows are equal on every server, so that any of them answers."""
LISTED = {"planned_rolls", "data_versions", "window_instants"}
"""What a statement asks by the client alone, and is routed by the client's trust: which rolls are due, and when what this server holds has changed or
will change (each server counts for itself)."""
CATALOGUE = {"pg_roles", "pg_class", "pg_policy", "typebases"}


@dataclass
class Router:
    """Finds of each statement the tenants whose ids it binds; `unbound` are the relations of those that bind none, `both` what binds two."""

    tenants: dict[UUID, str]
    bound: Counter[str] = field(default_factory=Counter)
    unbound: Counter[str] = field(default_factory=Counter)
    both: list[str] = field(default_factory=list)

    def note(self, record: Any) -> None:
        values = [part for value in record.args or () for part in (value if isinstance(value, list | tuple) else [value])]
        found = {self.tenants[value] for value in values if isinstance(value, UUID) and value in self.tenants}
        found |= {name for tenant, name in self.tenants.items() if str(tenant) in record.query}
        if len(found) > 1:
            self.both.append(record.query[:300])
        elif found:
            self.bound[found.pop()] += 1
        else:
            self.unbound.update(re.findall(r"\b(?:FROM|JOIN|UPDATE|INTO) ([a-z_]+)", record.query))


def check_shards(folder: Path) -> None:
    """Runs it. Raises AssertionError."""
    clusters = [embedded.start(folder / name, durable=False) for name in TRUSTS]
    try:
        migrate(clusters[0].url(embedded.DATABASE, "markonce_owner"))
        asyncio.run(_check(clusters))
    finally:
        for cluster in clusters:
            cluster.stop()


async def _check(clusters: list[embedded.Cluster]) -> None:
    whole = await build_two_trusts(Databases(clusters[0], embedded.DATABASE))
    await whole.database.close()
    shards = {name: Databases(cluster, f"shard_{name.lower()}") for name, cluster in zip(TRUSTS, clusters, strict=True)}
    for databases in shards.values():
        await asyncio.to_thread(_copy, whole.databases, databases)
    await _divide(whole, shards)
    router = Router({whole.tenants[name]: name for name in TRUSTS})
    clients = {name: name for name in TRUSTS}
    expected = await _ask(whole, whole.databases, clients, router)
    answered: dict[str, bytes] = {}
    for name in TRUSTS:
        answered |= await _ask(whole, shards[name], {name: name}, None)
    different = [path for path, content in expected.items() if answered[path] != content]
    assert different == [], different
    assert router.both == [], router.both[:3]
    beyond = {name for name in router.unbound if name in TABLES} - SHARED - LISTED - CATALOGUE
    assert beyond == set(), f"these are asked without a trust: {beyond}"
    assert all(router.bound[name] > len(RESOURCES) // 2 for name in TRUSTS), (router.bound, router.unbound)
    print(
        f"    {sum(router.bound.values())} statements bind one trust, 0 bind both; {len(expected)} answers of two servers are those of one",
        flush=True,
    )
    print(f"    without a trust: {', '.join(sorted(TABLES & router.unbound.keys()))}", flush=True)


def _copy(source: Databases, target: Databases) -> None:
    """Copies the whole database, with PostgreSQL's own programs."""
    programs = find_binaries().folder

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run([programs / program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    superuser = embedded.SUPERUSER
    run("psql", "--command", f"CREATE DATABASE {target.name} OWNER markonce_owner", target.cluster.url("postgres", superuser))
    with tempfile.NamedTemporaryFile() as file:
        run("pg_dump", "--format=custom", f"--file={file.name}", source.cluster.url(source.name, superuser))
        run("pg_restore", "--exit-on-error", f"--dbname={target.cluster.url(target.name, superuser)}", file.name)


async def _divide(whole: TwoTrusts, shards: dict[str, Databases]) -> None:
    """Removes from each server the rows of the trusts that are not its own, and compares the tables without a tenant."""
    equal = {}
    for name, databases in shards.items():
        connection = await asyncpg.connect(databases.cluster.url(databases.name, embedded.SUPERUSER))
        try:
            for other, tenant in whole.tenants.items():
                if other != name and other in TRUSTS:
                    async with connection.transaction():
                        kept = await connection.fetch("SELECT * FROM tenants WHERE id = $1", tenant)
                        await remove_rows(connection, tenant)
                        await connection.executemany("INSERT INTO tenants SELECT ($1::tenants).*", [(tuple(row),) for row in kept])
            shared = ("clients", "client_secrets", "grants", "reach", "trusts", "schools", "memberships", "signing_keys", "codes")
            equal[name] = [
                await connection.fetchval(f"SELECT md5(string_agg(t::text, E'\\n' ORDER BY t::text)) FROM {table} t")
                for table in shared
            ]
        finally:
            await connection.close()
    first, second = equal.values()
    assert first == second, "shared tables differ"


async def _ask(whole: TwoTrusts, databases: Databases, clients: dict[str, str], router: Router | None) -> dict[str, bytes]:
    """Every list as each of these clients, once without and once after a write. Returns the bodies by client and path."""

    async def watch(connection: Any) -> None:
        if router is not None:
            connection.add_query_logger(router.note)

    database = await Database.open(databases.app_url, size=2, on_connect=watch)
    try:
        settings = replace(Settings(databases.app_url, SECRET.encode(), BASE, cache_mb=0), **WIDE)
        transport = httpx2.ASGITransport(build_app(settings, database))
        answers = {}
        async with httpx2.AsyncClient(transport=transport, base_url=BASE) as http:
            for client in clients:
                headers = await authorise(http, whole.clients[client].credentials)
                for resource in [*RESOURCES.values()] * 2:  # a statement is logged from its second run on, when it stays prepared
                    answer = await http.get(f"/v1/{resource.path}?first=100", headers=headers)
                    assert answer.status_code in (200, 403, 404), answer.text
                    answers[f"{client} {resource.path}"] = re.sub(rb'"endCursor":"[^"]*"', b"", answer.content)
        return answers
    finally:
        await database.close()
