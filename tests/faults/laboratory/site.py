"""The installation that a trial harms: a PostgreSQL of its own with a trust and a school of another tenant, copied for each trial."""

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from domain.store import embedded
from domain.store.migrate import migrate
from tests.faults.laboratory.disk import programs_with_disk
from tests.faults.laboratory.processes import Postgres, Server
from tests.faults.laboratory.result import Result
from tests.fixtures.databases import Databases
from tests.fixtures.recount import miscounted
from tests.fixtures.registration import register_client
from tests.fixtures.small_trust import URNS, batch, entry, judged, open_trust, opened, roll, sent

EACH = 120
"""Pupils on the roll of each school."""
SCHOOLS = ("Oak", "Elm", "Ash", "Quay")
"""Quay is in no trust: a tenant by itself."""
GRANTS = {
    "trust": ("trust:4128=all",),
    "second": ("trust:4128=all",),
    "quay": (f"school:{URNS['Quay']}=all",),
    "both": ("trust:4128=all", f"school:{URNS['Quay']}=all"),
}
"""By client, what it may do where."""
_FOUND = """
SELECT 'j:' || mark::text AS value FROM judgements WHERE mark IS NOT NULL
UNION ALL SELECT 'j:' || mark::text FROM judgement_history WHERE mark IS NOT NULL
UNION ALL SELECT 'p:' || surname FROM pupils WHERE surname LIKE 'Value%'
UNION ALL SELECT 't:' || horizon_point FROM targets UNION ALL SELECT 't:' || horizon_point FROM target_history
UNION ALL SELECT 'g:' || code FROM groups
"""
_WITHOUT_HISTORY = """
SELECT count(*) FROM judgements j WHERE version <> 1 + (SELECT count(*) FROM judgement_history h WHERE h.tenant_id = j.tenant_id
    AND h.academic_year = j.academic_year AND h.pupil_id = j.pupil_id AND h.window_no = j.window_no
    AND h.subject_no = j.subject_no AND h.aspect_no = j.aspect_no)
"""
_WITHOUT_RECEIPT = """
SELECT (SELECT count(*) FROM judgements) + (SELECT count(*) FROM judgement_history)
    - (SELECT COALESCE(sum(created + updated + withdrawn), 0) FROM receipts WHERE accepted AND operation = 'recordJudgements')
"""
_WORKING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = $1 AND usename = 'markonce_app' AND (state <> 'idle' OR state IS NULL) AND backend_type = 'client backend'
"""


@dataclass
class Reader:
    """What tests/fixtures/recount.py asks."""

    ids: dict[str, UUID]
    connection: Any

    async def value(self, statement: str, *arguments: Any) -> Any:
        return await self.connection.fetchval(statement, *arguments)


@dataclass
class Laboratory:
    """A PostgreSQL with the template that each trial's database is copied from. `clients` are ids and secrets."""

    folder: Path
    postgres: Postgres
    ids: dict[str, UUID]
    clients: dict[str, tuple[str, str]] = field(repr=False)
    _names: "count[int]" = field(default_factory=lambda: count(1))

    async def fresh(self, options: str = "") -> Databases:
        """A copy of the template."""
        name = f"trial{next(self._names)}"
        await self.as_superuser(f"CREATE DATABASE {name} TEMPLATE {embedded.DATABASE} OWNER markonce_owner {options}")
        return Databases(self.postgres.cluster, name)

    def server(self, databases: Databases, *, port: int | None = None, **settings: int) -> Server:
        """A server on a database, not started; through a proxy where a port is named. Settings are MARKONCE_… by their ends."""
        cluster = self.postgres.cluster
        url = databases.app_url.replace(f":{cluster.port}/", f":{port or cluster.port}/")
        named = {f"MARKONCE_{name.upper()}": str(value) for name, value in settings.items()}
        return Server(url, self.folder / f"{databases.name}.log", named)

    async def superuser(self, database: str = "postgres") -> Any:
        """A connection that may do everything, whatever a trial has set for others."""
        settings = {"default_transaction_read_only": "off", "lock_timeout": "0", "idle_session_timeout": "0"}
        settings["idle_in_transaction_session_timeout"] = "0"
        url = self.postgres.cluster.url(database, embedded.SUPERUSER)
        return await asyncpg.connect(url, timeout=30, server_settings=settings)

    async def as_superuser(self, *statements: str, database: str = "postgres") -> None:
        connection = await self.superuser(database)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    async def end_sessions(self, databases: Databases) -> int:
        """Ends the sessions of the app's role, as an administrator does. Returns how many."""
        connection = await self.superuser()
        ended = await connection.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND usename = 'markonce_app'", databases.name
        )
        await connection.close()
        return len(ended)

    async def backends(self, databases: Databases) -> list[int]:
        """The processes of the app's sessions, those that work first."""
        connection = await self.superuser()
        rows = await connection.fetch(
            "SELECT pid FROM pg_stat_activity WHERE datname = $1 AND usename = 'markonce_app' ORDER BY state = 'idle', random()",
            databases.name,
        )
        await connection.close()
        return [row["pid"] for row in rows]

    async def settle(self, databases: Databases) -> None:
        """Waits until nothing of the app's is being carried out."""
        connection = await self.superuser()
        for _ in range(500):
            if await connection.fetchval(_WORKING, databases.name) == 0:
                break
            await asyncio.sleep(0.02)
        await connection.close()

    async def find_values(self, databases: Databases) -> "Counter[str]":
        """How often each value that writers write stands in the database, history included, once nothing is being written."""
        await self.settle(databases)
        connection = await self.superuser(databases.name)
        found = Counter(row["value"] for row in await connection.fetch(_FOUND))
        await connection.close()
        return found

    async def check_counts(self, databases: Databases, result: Result) -> None:
        """Cells and totals against a recount, versions against history, and receipts against what they are receipts of."""
        await self.settle(databases)
        connection = await self.superuser(databases.name)
        for name in ("trust", "Quay"):
            wrong = await miscounted(Reader({"trust": self.ids[name]}, connection))  # type: ignore[arg-type]
            result.expect(wrong == (0, 0, 0), "counts equal a recount", f"{name}: {wrong} of (negative, cells, totals)")
        for promise, statement in (
            ("each version but the last is in history", _WITHOUT_HISTORY),
            ("each judgement has its receipt", _WITHOUT_RECEIPT),
        ):
            wrong_rows = await connection.fetchval(statement)
            result.expect(wrong_rows == 0, promise, f"{wrong_rows} rows")
        await connection.close()

    @asynccontextmanager
    async def connections_taken(self, databases: Databases) -> AsyncIterator[int]:
        """Others have all the connections that there are, but for those that the app's role has open. Yields how many they have."""
        others: list[Any] = []
        try:
            with suppress(asyncpg.TooManyConnectionsError):
                while True:
                    others.append(await asyncpg.connect(databases.operator_url, timeout=30))
            yield len(others)
        finally:
            for other in others:
                with suppress(OSError, asyncpg.PostgresError):
                    await other.close()

    async def drop(self, databases: Databases) -> None:
        """Removes a trial's database."""
        await self.as_superuser(f"DROP DATABASE IF EXISTS {databases.name} WITH (FORCE)")


@asynccontextmanager
async def laboratory(*, durable: bool) -> AsyncIterator[Laboratory]:
    """Starts PostgreSQL in a folder that its user can reach, makes the template, and removes all of it at the end."""
    folder = _make_folder()
    postgres = Postgres(folder / "data", durable, programs_with_disk(folder))
    try:
        await postgres.start()
        await asyncio.to_thread(migrate, postgres.cluster.url(embedded.DATABASE, "markonce_owner"))
        ids, registered = await _seed(Databases(postgres.cluster, embedded.DATABASE))
        yield Laboratory(folder, postgres, ids, registered)
    finally:
        await postgres.stop()
        with suppress(OSError):
            shutil.rmtree(folder)


def _make_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="markonce-faults-"))
    folder.chmod(0o755)
    return folder


async def _seed(databases: Databases) -> tuple[dict[str, UUID], dict[str, tuple[str, str]]]:
    """Rolls, an open window in each tenant, judgements of every pupil, and clients."""
    registered: dict[str, tuple[str, str]] = {}
    async with open_trust(databases) as here:
        for name, grants in GRANTS.items():
            registered[name] = await register_client(here.operator, name, *grants)
        manager = await here.client("manager", *GRANTS["both"])
        await opened(manager)
        await opened(manager, tenant={"school": {"urn": URNS["Quay"]}})
        for number, school in enumerate(SCHOOLS):
            numbers = range(number * EACH, (number + 1) * EACH)
            await sent(manager, "/v1/pupils", roll(school, [entry(n) for n in numbers]))
            await sent(manager, "/v1/judgements", batch(school, _judgements(numbers)))
        ids = dict(here.ids)
    connection = await asyncpg.connect(databases.cluster.url(databases.name, embedded.SUPERUSER))
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return ids, registered


def _judgements(numbers: Sequence[int]) -> list[dict[str, Any]]:
    return [judged(n, subject, 80 + n % 41) for n in numbers for subject in ("reading", "maths")]
