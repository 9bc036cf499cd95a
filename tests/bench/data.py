"""The data that is measured: made once on the real, migrated schema and kept, so that only the first run waits for it. Each run works on a copy.

Register, clients, grants, schemes and windows are written by the real commands; pupils and what is judged of them by COPY, and cells and
totals are then counted by the product's own function. COPY and the count run as the superuser: PostgreSQL refuses COPY into a table with
forced row-level security to anybody else. 200 schools in eight trusts, 60,000 pupils, 9 windows, 2 million judgements and 180,000 targets, times the
scale; and as many trusts without pupils as make up 400 tenants and 2,000 schools, for a client with a wide reach.
The schema `fixed` beside it holds the same rows in tables that never change (limit/): pgbench and the ordinary servers use these.
"""

import asyncio
import hashlib
import json
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from itertools import accumulate
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.progress import Progress

from domain import COMMANDS
from domain.access.caller import Caller
from domain.clients.clients import create_client
from domain.clients.grants import approve_grant, parse_grant
from domain.clients.signing_keys import ensure_signing_key
from domain.declare.scopes import Scope
from domain.roster.gias.apply import apply_gias
from domain.roster.years import format_academic_year
from domain.store import embedded
from domain.store.database import Connection, Database
from domain.store.migrate import migrate
from domain.store.single_transaction import run_single_transaction
from domain.write.run import perform
from tests.bench import rows
from tests.fixtures import gias_rows

TRUSTS = (100, 50, 20, 10, 8, 5, 4, 3)
"""Schools of each trust."""
TENANTS, SCHOOLS = 400, 2000
FIRST_UID, FIRST_URN = 4001, 100001
CENSUS = {"autumn": (10, 2), "spring": (1, 15), "summer": (5, 21)}
SCHEMES = ("wts-exs-gds", "below-at-above")
"""Every fourth school marks in the second."""
JOINED = "2018-09-01"
LIMIT_FOLDER = Path(__file__).parent / "limit"


@dataclass(frozen=True)
class Trust:
    """A trust of the register; `first` is the number of its first pupil."""

    uid: int
    urns: list[int]
    first: int
    id: str = ""

    @property
    def pupils(self) -> int:
        return len(self.urns) * rows.PUPILS


@dataclass(frozen=True)
class Data:
    """What is there, and who may ask for it: client ids and secrets by name. `window` is the code of the one that is open. `pupil_ids` are
    those of the first trust, where the server has chosen them."""

    scale: int
    secret: str
    window: str
    window_year: int
    trusts: list[Trust]
    clients: dict[str, tuple[str, str]]
    pupil_ids: list[str] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "Data":
        """What `write` has written."""
        found = json.loads(path.read_text())
        clients = {name: (client_id, secret) for name, (client_id, secret) in found["clients"].items()}
        return cls(**found | {"trusts": [Trust(**trust) for trust in found["trusts"]], "clients": clients})

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(asdict(self)))
        path.chmod(0o600)

    def pupil_id(self, n: int) -> str:
        return self.pupil_ids[n] if self.pupil_ids else rows.pupil_id(n)

    def trust(self, schools: int) -> Trust:
        return next(trust for trust in self.trusts if len(trust.urns) == schools)


GRANTS = {
    "school": (f"school:{FIRST_URN}=all",),
    "trust": (f"trust:{FIRST_UID}=all",),
    "ten": (f"trust:{FIRST_UID + TRUSTS.index(10)}=all",),
    "wide": ("trusts=all", "schools=all"),
}
"""By client: one that reaches a school, a trust of 100 schools, a trust of 10, and everything."""


@contextmanager
def start_cluster(folder: Path) -> Iterator[tuple[embedded.Cluster, Path]]:
    """A running cluster in the folder, and the file that is there once its data is whole. What was left unfinished is removed first."""
    facts = folder / "data.json"
    if folder.exists() and not facts.exists():
        embedded.start(folder / "postgresql").stop()  # what a run that was ended left running
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cluster = embedded.start(folder / "postgresql")
    try:
        yield cluster, facts
    finally:
        cluster.stop()


@contextmanager
def kept(folder: Path, scale: int, console: Console) -> Iterator[tuple[embedded.Cluster, Data]]:
    """The running cluster with the newest schema, and its data, made now where it is not whole."""
    with start_cluster(folder) as (cluster, facts):
        migrate(cluster.url(embedded.DATABASE, "markonce_owner"))
        if not facts.exists():
            with Progress(console=console) as progress:
                made = asyncio.run(_make(cluster, scale, progress))
            made.write(facts)
        asyncio.run(_fix(cluster))
        yield cluster, Data.read(facts)


async def _make(cluster: embedded.Cluster, scale: int, progress: Progress) -> Data:
    secret, clients = secrets.token_urlsafe(32), {}
    trusts = _planned(scale)

    async def begin(connection: Connection) -> None:
        await ensure_signing_key(connection, secret.encode())
        await apply_gias(connection, _register(trusts), date.today())
        for name, asked in GRANTS.items():
            client_id, client_secret = await create_client(connection, name, "client_secret")
            for grant in asked:
                await approve_grant(connection, client_id, parse_grant(grant), purpose="bench", approved_by="bench")
            clients[name] = (str(client_id), client_secret or "")

    await run_single_transaction(cluster.url(embedded.DATABASE, "markonce_operator"), begin)
    year = academic_year() - 3
    codes = [f"{format_academic_year(y)}/{term}" for y in range(year, year + 3) for term in CENSUS]
    await _windows(cluster, trusts, Caller(UUID(clients["wide"][0]), frozenset(Scope)), year, codes, progress)
    connection = await asyncpg.connect(cluster.url(embedded.DATABASE, embedded.SUPERUSER))
    try:
        schools = await _schools(connection, trusts, UUID(clients["trust"][0]))
        for table in rows.TABLES:
            await _copy(connection, table, schools, progress)
        await connection.execute("ANALYZE")
        await _count(connection, [school.id for school in schools], progress)
        await connection.execute("VACUUM ANALYZE")
        ids = dict(await connection.fetch("SELECT group_uid, id::text FROM trusts"))
    finally:
        await connection.close()
    known = [Trust(trust.uid, trust.urns, trust.first, ids[trust.uid]) for trust in trusts]
    return Data(scale, secret, codes[-1], year + 2, known, clients)


def academic_year() -> int:
    """The academic year of today."""
    today = date.today()
    return today.year if today.month >= 9 else today.year - 1


def _planned(scale: int) -> list[Trust]:
    sizes = TRUSTS * scale
    firsts = accumulate(sizes, initial=0)
    return [
        Trust(FIRST_UID + i, [FIRST_URN + first + j for j in range(size)], first * rows.PUPILS)
        for i, (size, first) in enumerate(zip(sizes, firsts, strict=False))
    ]


def _register(trusts: list[Trust]) -> gias_rows.Extract:
    """The register with those trusts and, beside them, those without pupils; their schools are dealt out in turn."""
    members = {urn: trust.uid for trust in trusts for urn in trust.urns}
    others = [FIRST_UID + len(trusts) + i for i in range(TENANTS - len(trusts))]
    for i in range(max(SCHOOLS - len(members), len(others))):
        members[FIRST_URN + len(members)] = others[i % len(others)]
    return gias_rows.extract(
        [gias_rows.school(urn) for urn in members],
        [gias_rows.group(uid) for uid in dict.fromkeys(members.values())],
        [gias_rows.link(urn, uid, JOINED) for urn, uid in members.items()],
    )


async def _windows(
    cluster: embedded.Cluster, trusts: list[Trust], caller: Caller, first_year: int, codes: list[str], progress: Progress
) -> None:
    """Schemes and windows of each trust, by the commands; all but the last window are closed again. Nobody is on roll yet."""
    database = await Database.open(cluster.url(embedded.DATABASE, "markonce_app"), size=1)

    async def do(command: str, document: dict[str, Any]) -> Any:
        chosen = COMMANDS[command]
        return json.loads((await perform(database, chosen, caller, chosen.parse(document))).answer)

    try:
        for trust in progress.track(trusts, description="windows"):
            tenant = {"trust": {"groupUid": trust.uid}}
            for scheme in SCHEMES:
                await do("create_scheme", {"tenant": tenant, "code": scheme, "name": scheme, "template": scheme})
            for i, code in enumerate(codes):
                made = await do("create_window", describe_window(trust, code, first_year + i // 3, code.split("/")[1]))
                await do("open_window", {"id": made["id"]})
                if code != codes[-1]:
                    await do("close_window", {"id": made["id"]})
    finally:
        await database.close()


def describe_window(trust: Trust, code: str, year: int, term: str) -> dict[str, Any]:
    """The input that creates a window of the trust for a term of an academic year."""
    month, day = CENSUS[term]
    census_on = date(year if month >= 9 else year + 1, month, day)
    second = [{"urn": urn} for urn in trust.urns if urn % 4 == 0]
    collects: list[dict[str, Any]] = [{"subject": subject, "scheme": SCHEMES[0]} for subject in rows.SUBJECTS]
    collects += [{"subject": subject, "scheme": SCHEMES[1], "schools": second} for subject in rows.SUBJECTS if second]
    return {
        "tenant": {"trust": {"groupUid": trust.uid}},
        "code": code,
        "name": f"{term.title()} {census_on.year}",
        "academicYear": format_academic_year(year),
        "censusOn": census_on.isoformat(),
        "opensAt": "2098-09-01T08:00:00Z",
        "closesAt": "2099-07-31T17:00:00Z",
        "purpose": "Teachers' judgement of the term.",
        "decision": "Who gets support.",
        "yearGroups": ["R", *"123456"],
        "collects": collects,
    }


async def _schools(connection: Any, trusts: list[Trust], client_id: UUID) -> list[rows.School]:
    """The schools that have pupils, with their tenants' numbers."""
    known = {row["urn"]: row for row in await connection.fetch("SELECT id, tenant_id, urn FROM schools")}
    windows: dict[UUID, list[rows.Window]] = {}
    for row in await connection.fetch("SELECT tenant_id, no, academic_year, census_on FROM windows ORDER BY tenant_id, no"):
        windows.setdefault(row["tenant_id"], []).append(rows.Window(row["no"], row["academic_year"], row["census_on"]))
    subjects: dict[UUID, dict[str, int]] = {}
    for row in await connection.fetch("SELECT tenant_id, code, no FROM subjects"):
        subjects.setdefault(row["tenant_id"], {})[row["code"]] = row["no"]
    pinned = dict(await connection.fetch("SELECT DISTINCT school_id, scheme_version_no FROM pins"))
    grades: dict[tuple[UUID, int], list[int]] = {}
    for row in await connection.fetch("SELECT tenant_id, scheme_version_no, no FROM grades ORDER BY 1, 2, 3"):
        grades.setdefault((row["tenant_id"], row["scheme_version_no"]), []).append(row["no"])
    found = []
    for trust in trusts:
        for i, urn in enumerate(trust.urns):
            id_, tenant_id = known[urn]["id"], known[urn]["tenant_id"]
            of_school = (id_, tenant_id, urn, trust.first + i * rows.PUPILS, tuple(windows[tenant_id]), subjects[tenant_id])
            found.append(rows.School(*of_school, pinned[id_], tuple(grades[tenant_id, pinned[id_]]), client_id))
    return found


async def _copy(connection: Any, table: str, schools: list[rows.School], progress: Progress) -> None:
    columns, lines_of = rows.TABLES[table]
    task = progress.add_task(table, total=len(schools))

    async def texts() -> AsyncIterator[bytes]:
        for school in schools:
            yield rows.as_text(lines_of(school))
            progress.advance(task)

    await connection.copy_to_table(table, source=texts(), columns=columns, format="text")


async def _count(connection: Any, school_ids: list[UUID], progress: Progress) -> None:
    """Builds cells and totals of schools, ten schools at a time."""
    statement = (
        "SELECT rebuild_cells(s.tenant_id, array_agg(s.id), (SELECT array_agg(w.no) FROM windows w WHERE w.tenant_id = s.tenant_id))"
        " FROM schools s WHERE s.id = ANY ($1) GROUP BY s.tenant_id"
    )
    task = progress.add_task("cells", total=len(school_ids))
    for start in range(0, len(school_ids), 10):
        await connection.execute(statement, school_ids[start : start + 10])
        progress.advance(task, 10)


async def _fix(cluster: embedded.Cluster) -> None:
    """Makes the schema `fixed` and its rows, again where limit/ says something else than it was made by."""
    statements = "".join((LIMIT_FOLDER / name).read_text() for name in ("schema.sql", "copy.sql"))
    made_by = hashlib.sha256(statements.encode()).hexdigest()
    connection = await asyncpg.connect(cluster.url(embedded.DATABASE, embedded.SUPERUSER))
    try:
        if await connection.fetchval("SELECT obj_description(to_regnamespace('fixed'), 'pg_namespace')") == made_by:
            return
        async with connection.transaction():
            await connection.execute("DROP SCHEMA IF EXISTS fixed CASCADE")
            await connection.execute(statements)
            await connection.execute(f"COMMENT ON SCHEMA fixed IS '{made_by}'")
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()


async def copy_database(cluster: embedded.Cluster, name: str) -> None:
    """The database as it is, under another name, in place of what had that name."""
    connection = await asyncpg.connect(cluster.url("postgres", embedded.SUPERUSER))
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name} TEMPLATE {embedded.DATABASE} STRATEGY FILE_COPY OWNER markonce_owner")
    finally:
        await connection.close()


async def drop_database(cluster: embedded.Cluster, name: str) -> None:
    connection = await asyncpg.connect(cluster.url("postgres", embedded.SUPERUSER))
    await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    await connection.close()
