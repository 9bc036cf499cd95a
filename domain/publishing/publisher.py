"""Publishes what was asked for: freezes the figures, has them protected by a process of its own, and stores the edition.

Every server has one publisher. A publication is claimed for a while by whoever protects it; what is done of it is stored, so that another server
goes on where one has ended. Each write says which holder it is of, and writes nothing once another one holds the publication.
"""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import msgspec
import structlog

from domain.access.caller import Caller
from domain.aggregates.aggregates import prepare_read
from domain.aggregates.query import AggregateQuery
from domain.aggregates.results import AggregateResult
from domain.assessment.publications import FAILED, PROTECTING, PUBLISHED, READY, note_publication_change
from domain.declare.errors import Busy
from domain.declare.scopes import Scope
from domain.publishing.bases import add_years, read_earlier, store_basis
from domain.publishing.frozen import Frozen, NothingToPublish, freeze
from domain.publishing.installed import is_installed
from domain.publishing.messages import Basis, DecidedAll, DecidedGroup, EarlierEdition, Outcome, Task
from domain.publishing.preview_groups import make_body
from domain.publishing.rows import list_rows, write_array
from domain.publishing.same_pupils import find_same_pupils
from domain.store.database import Connection, Database, transpose

log = structlog.get_logger()
T = TypeVar("T")

LEASE_SECONDS, RENEW_SECONDS = 60, 15.0
POLL_SECONDS = 5.0
MAX_ATTEMPTS = 5
"""How often a publication is begun before it fails: what kills its process would kill the next one too."""
FROZEN = "frozen"
FOLDER = Path(__file__).parents[2]
"""Where the process finds the packages."""
MAX_LINE = 256_000_000
"""Bytes of one line of the process."""

_READ = """
SELECT p.window_no, w.id AS window_id, p.level, p.sizes_from, p.attainment_from, p.seed, p.attempts FROM {table} p
JOIN windows w ON w.tenant_id = p.tenant_id AND w.no = p.window_no WHERE p.tenant_id = $1 AND p.id = $2
"""
_PARTS = "SELECT part, body FROM publication_parts WHERE tenant_id = $1 AND publication_id = $2"
_HOLD = "SELECT 1 FROM {table} WHERE tenant_id = $1 AND id = $2 AND holder = $3 AND state = 'protecting' FOR UPDATE"
_RENEW = """
UPDATE {table} SET leased_until = clock_timestamp() + make_interval(secs => $4)
WHERE tenant_id = $1 AND id = $2 AND holder = $3 AND state = 'protecting' RETURNING 1
"""
_END_PREVIEW = """
UPDATE publication_previews SET state = $3, problem = $4, populations = $5, hidden = $6, body = $7, leased_until = NULL WHERE tenant_id = $1 AND id = $2
"""
_STORE = "INSERT INTO publication_parts (tenant_id, publication_id, part, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
_FREEZE = """
UPDATE {table} SET frozen_at = now(), subjects = $3, left_out = $4, school_count = $5 WHERE tenant_id = $1 AND id = $2
"""
_RAISE = """
UPDATE publications p SET level = GREATEST(p.level, m.level), sizes_from = GREATEST(p.sizes_from, m.sizes_from),
    attainment_from = GREATEST(p.attainment_from, m.attainment_from)
FROM (SELECT max(level) AS level, max(sizes_from) AS sizes_from, max(attainment_from) AS attainment_from FROM publications
    WHERE tenant_id = $1 AND published_at IS NOT NULL) AS m
WHERE p.tenant_id = $1 AND p.id = $2
"""
"""What was published while this one was queued may have raised them."""
_COUNT = "UPDATE {table} SET parts = $3, parts_done = $4 WHERE tenant_id = $1 AND id = $2"
_ROWS = """
INSERT INTO edition_rows (tenant_id, publication_id, school_id, year_group, dimension, category, pooled, figures, edition)
SELECT $1, $2, g.school, g.year, g.dimension, g.category, COALESCE(o.pooled, g.pooled::uuid[]),
    CASE WHEN g.held THEN o.figures ELSE g.figures::jsonb END,
    CASE WHEN g.held AND o.figures IS NOT NULL THEN COALESCE(o.edition, l.no) WHEN g.figures IS NOT NULL THEN p.no END
FROM publications p
CROSS JOIN unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::boolean[])
    AS g (school, year, dimension, category, pooled, figures, held)
LEFT JOIN LATERAL (
    SELECT n.id, n.no FROM publications n WHERE n.tenant_id = $1 AND n.window_no = p.window_no AND n.no < p.no AND n.state = 'published'
    ORDER BY n.no DESC LIMIT 1
) l ON true
LEFT JOIN edition_rows o ON g.held AND o.tenant_id = $1 AND o.publication_id = l.id AND o.school_id = g.school
    AND o.year_group = g.year AND o.dimension = g.dimension AND o.category = g.category AND o.figures IS NOT NULL
WHERE p.tenant_id = $1 AND p.id = $2
"""
"""A row that is held back keeps what the last edition that is not withdrawn shows of it, and is hidden where that is nothing."""
_COUNTS = """
SELECT count(*) AS rows, count(*) FILTER (WHERE r.figures IS NULL) AS hidden, count(*) FILTER (WHERE r.edition <> p.no) AS held
FROM publications p JOIN edition_rows r ON r.tenant_id = $1 AND r.publication_id = p.id WHERE p.tenant_id = $1 AND p.id = $2
"""
_CLEAR = "DELETE FROM publication_parts WHERE tenant_id = $1 AND publication_id = $2"
_END = """
UPDATE publications SET state = $3, problem = $4, populations = $5, hidden = $6, held = $7, version = version + 1, leased_until = NULL,
    published_at = CASE WHEN $3 = 'published' THEN clock_timestamp() END
WHERE tenant_id = $1 AND id = $2 RETURNING version
"""


class _Lost(Exception):
    """Another process holds the publication."""


class _Failed(Exception):
    """It cannot be published; `args` is the code of the reason."""


@dataclass
class Claim:
    """A publication that this process protects for now, as the client that asked for it."""

    tenant_id: UUID
    id: UUID
    client_id: UUID
    holder: UUID
    done: dict[str, DecidedGroup] = field(default_factory=dict)
    is_preview: bool = False
    """Whether nothing is published of it; what is done of it is then not stored."""

    def name_table(self, statement: str) -> str:
        return statement.format(table="publication_previews" if self.is_preview else "publications")

    @property
    def key(self) -> tuple[UUID, UUID]:
        return self.tenant_id, self.id


class Publisher:
    """`processes` is how many there may be at a time for one publication."""

    def __init__(self, database: Database, processes: int = 2) -> None:
        self._database, self._processes = database, processes
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Says that there is something to publish."""
        self._woken.set()

    async def run(self) -> None:
        """Publishes until it is cancelled."""
        while is_installed():
            try:
                has_worked = await self.publish_next() or await self.preview_next()
            except Busy:
                has_worked = False
            except Exception as error:
                log.warning("a publication was not made", kind=type(error).__name__)
                has_worked = False
            if has_worked:
                continue
            self._woken.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._woken.wait()

    async def publish_next(self) -> bool:
        """Publishes what waits longest. Returns whether there was something. Raises Busy."""
        return await self._work("claim_publication", is_preview=False)

    async def preview_next(self) -> bool:
        """Decides what the edition would hide whose preview waits longest. Returns whether there was something. Raises Busy."""
        return await self._work("claim_preview", is_preview=True)

    async def _work(self, function: str, *, is_preview: bool) -> bool:
        holder = uuid4()
        statement = f"SELECT tenant_id, id, client_id FROM {function}($1, $2)"
        claimed = await self._database.run_transaction(
            None, lambda connection: connection.fetchrow(statement, holder, LEASE_SECONDS)
        )
        if claimed is None:
            return False
        claim = Claim(claimed["tenant_id"], claimed["id"], claimed["client_id"], holder, is_preview=is_preview)
        try:
            await self._make(claim)
        except _Lost:
            log.warning("another process makes the publication", publication=str(claim.id))
        except (_Failed, NothingToPublish) as problem:
            await self._fail(claim, str(problem.args[0]) if problem.args else "nobody-eligible")
        return True

    async def _fail(self, claim: Claim, code: str) -> None:
        async def store(connection: Connection) -> None:
            if claim.is_preview:
                await connection.execute(_END_PREVIEW, *claim.key, FAILED, code, None, None, None)
                return
            await connection.execute(_CLEAR, *claim.key)
            await _end(connection, claim, FAILED, code)

        await self._transact(claim, store)
        log.warning("publication failed", publication=str(claim.id), problem=code)

    async def _make(self, claim: Claim) -> None:
        row: Any = await self._transact(claim, lambda connection: connection.fetchrow(claim.name_table(_READ), *claim.key))
        if row["attempts"] > MAX_ATTEMPTS:
            raise _Failed("publishing-failed")
        stored = {
            each["part"]: each["body"]
            for each in await self._transact(claim, lambda connection: connection.fetch(_PARTS, *claim.key))
        }
        body = stored.pop(FROZEN, None)
        if body is None and not claim.is_preview:
            await self._transact(claim, lambda connection: _check_again(connection, claim, row["window_no"]))
            row = await self._transact(claim, lambda connection: connection.fetchrow(claim.name_table(_READ), *claim.key))
        earlier = await self._transact(claim, lambda connection: read_earlier(connection, claim.tenant_id, row["window_no"]))
        if body is None:
            frozen = await self._freeze(claim, row["window_id"], earlier)
        else:
            frozen = msgspec.json.decode(body, type=Frozen)
        claim.done = {part: msgspec.json.decode(each, type=DecidedGroup) for part, each in stored.items()}
        levels = row["level"], row["sizes_from"], row["attainment_from"]
        decided = await self._protect(claim, Task(frozen, *levels, row["seed"], claim.done, self._processes, earlier))
        await (self._preview if claim.is_preview else self._publish)(claim, frozen, decided)

    async def _preview(self, claim: Claim, frozen: Frozen, decided: DecidedAll) -> None:
        preview = await asyncio.to_thread(lambda: make_body(frozen, decided.groups))
        numbers = len(preview.groups), sum(group.hidden for group in preview.groups)
        values = *claim.key, READY, None, *numbers, msgspec.json.encode(preview)
        await self._transact(claim, lambda connection: connection.execute(_END_PREVIEW, *values))
        log.info("previewed", groups=numbers[0], hidden=numbers[1])

    async def _publish(self, claim: Claim, frozen: Frozen, decided: DecidedAll) -> None:
        rows = await asyncio.to_thread(lambda: list(list_rows(frozen, decided.groups)))
        basis = Basis(frozen, decided.groups, decided.parts)
        columns = [
            (
                each.school_id,
                each.year_group,
                each.dimension,
                each.category,
                write_array(each.pooled),
                None if each.is_held or each.figures is None else each.figures.decode(),
                each.is_held,
            )
            for each in rows
        ]

        async def store(connection: Connection) -> None:
            await connection.execute(_ROWS, *claim.key, *transpose(columns, 7))
            await store_basis(connection, claim.key, basis)
            await connection.execute(_CLEAR, *claim.key)
            await connection.execute("SELECT bump_published($1, $2, $3)", *claim.key, claim.holder)
            counts: Any = await connection.fetchrow(_COUNTS, *claim.key)
            await _end(connection, claim, PUBLISHED, None, *counts)

        await self._transact(claim, store)
        log.info("published", publication=str(claim.id), rows=len(rows))

    async def _freeze(self, claim: Claim, window_id: UUID, earlier: list[EarlierEdition]) -> Frozen:
        """Reads the figures as the client that asked for the publication. Raises _Failed where it may no longer read all of them."""
        caller = Caller(claim.client_id, frozenset({Scope.AGGREGATES_INTERNAL.value}))
        dimensions = "school", "subject", "yearGroup", "sex", "disadvantaged", "eal", "sen"
        statement, values = prepare_read(caller, AggregateQuery(dimensions, window=str(window_id)))
        row: Any = await self._transact(claim, lambda connection: connection.fetchrow(statement.sql, *statement.bind(values)))
        frozen = await asyncio.to_thread(lambda: freeze(msgspec.json.decode(row[0], type=AggregateResult)))
        add_years(frozen, earlier)
        schools = sum(len(group.schools) for group in frozen.groups)

        async def store(connection: Connection) -> None:
            if not await connection.fetchval("SELECT counts_all_schools($1)", claim.tenant_id):
                raise _Failed("scope-missing")
            if not claim.is_preview:
                await connection.execute(_STORE, *claim.key, FROZEN, msgspec.json.encode(frozen))
            await connection.execute(claim.name_table(_FREEZE), *claim.key, frozen.subjects, frozen.left_out, schools)

        await self._transact(claim, store)
        return frozen

    async def _protect(self, claim: Claim, task: Task) -> DecidedAll:
        """Has the process decide, and stores each part that it has done."""
        environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "domain.publishing.process"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=FOLDER,
            env=environment,
            limit=MAX_LINE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        reading = asyncio.create_task(self._read_outcomes(claim, process.stdout))
        renewing = asyncio.create_task(self._renew(claim))
        try:
            with suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(msgspec.json.encode(task))
                await process.stdin.drain()
            process.stdin.close()
            await asyncio.wait({reading, renewing}, return_when=asyncio.FIRST_COMPLETED)
            if renewing.done():
                await renewing
            decided = await reading
        finally:
            for each in (reading, renewing):
                each.cancel()
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        if decided is None:
            raise RuntimeError("the process ended before it had decided")
        return decided

    async def _read_outcomes(self, claim: Claim, lines: asyncio.StreamReader) -> DecidedAll | None:
        number = 0
        while line := await lines.readline():
            outcome = msgspec.json.decode(line, type=Outcome)
            if outcome.problem is not None:
                raise _Failed(outcome.problem)
            if outcome.decided is not None:
                return outcome.decided
            part = outcome.done
            if outcome.parts is not None:
                number = outcome.parts.number
            elif part is not None:
                claim.done[part.part] = part.decided

            async def store(connection: Connection, part: Any = part, number: int = number) -> None:
                if part is not None and not claim.is_preview:
                    await connection.execute(_STORE, *claim.key, part.part, msgspec.json.encode(part.decided))
                await connection.execute(claim.name_table(_COUNT), *claim.key, number, len(claim.done))

            await self._transact(claim, store)
        return None

    async def _renew(self, claim: Claim) -> None:
        """Holds the publication. Raises _Lost."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            await self._transact(
                claim, lambda connection: connection.execute(claim.name_table(_RENEW), *claim.key, claim.holder, LEASE_SECONDS)
            )

    async def _transact(self, claim: Claim, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Runs work as the client, as long as this process holds the publication. Raises _Lost."""

        async def check_and_work(connection: Connection) -> T:
            if await connection.fetchval(claim.name_table(_HOLD), *claim.key, claim.holder) is None:
                raise _Lost
            return await work(connection)

        return await self._database.run_transaction(claim.client_id, check_and_work, tenant=claim.tenant_id)


async def _check_again(connection: Connection, claim: Claim, window_no: int) -> None:
    """Raises its numbers to those of the trust. Raises _Failed where another window has become one of the same pupils since it was queued."""
    if await find_same_pupils(connection, claim.tenant_id, window_no, PROTECTING) is not None:
        raise _Failed("census-day-published")
    await connection.execute(_RAISE, *claim.key)


async def _end(
    connection: Connection,
    claim: Claim,
    state: str,
    problem: str | None,
    populations: int | None = None,
    hidden: int | None = None,
    waiting: int | None = None,
) -> None:
    version = await connection.fetchval(_END, *claim.key, state, problem, populations, hidden, waiting)
    await note_publication_change(connection, *claim.key, version, state, claim.client_id)
