"""Applies the rows of one school of a job: the command runs as if the client had sent them as a batch of their own.

What became of the rows is written in the transaction of the command, in which the staged rows are deleted. So whatever ends the process in between, they
are applied once.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import structlog

from domain.access.caller import Caller
from domain.access.standing import check_standing
from domain.declare.errors import Busy, DomainError, FaultyValue, Invalid, Issue, make_invalid
from domain.declare.ids import NIL
from domain.jobs.job import APPLIED, COUNTS, DONE, FAILED, MAX_ISSUES, REFUSED, WAITING
from domain.roster.record_pupils.leavers import ROW_OF_NOBODY
from domain.store.database import Connection, Database, DatabaseUse, database_use, transpose
from domain.support.slices import run_in_slices
from domain.write.batch import Batch
from domain.write.command import MAX_ENTRIES, Command, make_size_issue
from domain.write.receipts import write_receipts
from domain.write.run import perform

ReadRow = Callable[[int, bytes], object]
"""Reads a row by its line and its bytes."""
MakeReader = Callable[[str, Command, Mapping[str, Any], str | None], ReadRow]
"""Returns how the rows of a stream are read, by its media type, command, head and header line."""

UNKNOWN_SCHOOL = "The school of a row is not known: its pupil may be of any, so that no pupil may be taken off roll."


log = structlog.get_logger()
batch_counts: Counter[str] = Counter(dict.fromkeys((APPLIED, REFUSED, FAILED), 0))
"""How many batches of a school this process has applied or refused, and how many jobs it has ended as failed."""


@dataclass(frozen=True)
class ClaimedJob:
    """A job that this process applies for now."""

    client_id: UUID
    id: UUID
    command: Command
    scopes: frozenset[str]
    head: Mapping[str, Any]
    is_lenient: bool
    read_row: ReadRow

    @property
    def caller(self) -> Caller:
        """The client with the scopes of its token. Which of them grants in force still give, and where, is checked as the rows are applied."""
        return Caller(self.client_id, self.scopes)

    def make_head(self, school_id: UUID) -> dict[str, Any]:
        """The head of the batch of one school. A whole roll is that of its school, which the rows alone may have named."""
        if self.head.get("complete") is True and school_id != NIL:
            return {"school": {"id": str(school_id)}, **self.head}
        return dict(self.head)


class _Finished(Exception):
    """Another process has applied the rows meanwhile."""


_JOB = "SELECT operation, said, scopes, header FROM jobs WHERE client_id = $1 AND id = $2"
_NEXT = f"""
SELECT school_id FROM job_schools WHERE client_id = $1 AND job_id = $2 AND state = '{WAITING}'
ORDER BY school_id = '{NIL}', school_id LIMIT 1
"""
_LOCK = f"SELECT 1 FROM job_schools WHERE client_id = $1 AND job_id = $2 AND school_id = $3 AND state = '{WAITING}' FOR UPDATE"
_ROWS = """
SELECT n, line, body, fault FROM staged_rows WHERE client_id = $1 AND job_id = $2 AND school_id = $3 AND n > $4 ORDER BY n LIMIT $5
"""
_DELETE = """
WITH gone AS (
    DELETE FROM staged_rows WHERE client_id = $1 AND job_id = $2 AND school_id = $3 AND n <= $4 RETURNING length(body) AS size
)
UPDATE jobs SET staged_bytes = staged_bytes - COALESCE((SELECT sum(size) FROM gone), 0), touched_at = clock_timestamp()
WHERE client_id = $1 AND id = $2
"""
_ADD = f"""
UPDATE job_schools SET state = $4, problem = $5, issue_count = issue_count + $6, {", ".join(f"{name} = {name} + ${n}" for n, name in enumerate(COUNTS[1:], 7))}
WHERE client_id = $1 AND job_id = $2 AND school_id = $3
"""
_HOLD_ISSUES = f"""
INSERT INTO job_issues (client_id, job_id, n, is_warning, at, code, message, line)
SELECT $1, $2, * FROM unnest($3::integer[], $4::boolean[], $5::text[], $6::text[], $7::text[], $8::integer[])
LIMIT GREATEST({MAX_ISSUES} - (SELECT count(*) FROM job_issues WHERE client_id = $1 AND job_id = $2), 0)
"""
_RELEASE = f"""
UPDATE jobs j SET leased_until = NULL, touched_at = clock_timestamp(),
    state = CASE WHEN w.waiting THEN 'running' ELSE '{DONE}' END, finished_at = CASE WHEN w.waiting THEN NULL ELSE clock_timestamp() END
FROM (SELECT EXISTS (SELECT 1 FROM job_schools WHERE client_id = $1 AND job_id = $2 AND state = '{WAITING}') AS waiting) w
WHERE j.client_id = $1 AND j.id = $2 AND j.state = 'running'
"""
_FAIL = f"""
WITH gone AS (DELETE FROM staged_rows WHERE client_id = $1 AND job_id = $2), refused AS (
    UPDATE job_schools SET state = '{REFUSED}', problem = $3, rejected = received - created - updated - unchanged - superseded - withdrawn
    WHERE client_id = $1 AND job_id = $2 AND state = '{WAITING}'
)
UPDATE jobs SET state = '{FAILED}', problem = $3, staged_bytes = 0, leased_until = NULL, finished_at = clock_timestamp()
WHERE client_id = $1 AND id = $2 AND state = 'running'
"""


async def read_claimed(
    database: Database, client_id: UUID, job_id: UUID, commands: Mapping[str, Command], make_reader: MakeReader
) -> ClaimedJob | None:
    """Returns what is needed to apply a job, None where it was deleted."""
    row = await database.run_transaction(client_id, lambda connection: connection.fetchrow(_JOB, client_id, job_id))
    if row is None:
        return None
    said, command = msgspec.json.decode(row["said"]), commands[row["operation"]]
    read_row = make_reader(said["kind"], command, said["head"], row["header"])
    return ClaimedJob(client_id, job_id, command, frozenset(row["scopes"]), said["head"], said["handling"] == "lenient", read_row)


async def apply_next(database: Database, job: ClaimedJob) -> bool:
    """Applies the rows of the next school; at most MAX_ENTRIES of them where the job is lenient. Returns whether there may be more.

    Raises Busy where nothing was applied and it may be tried again.
    """
    token = database_use.set(DatabaseUse(client=job.client_id))
    try:
        school_id = await database.run_transaction(
            job.client_id, lambda connection: connection.fetchval(_NEXT, job.client_id, job.id)
        )
        if school_id is not None:
            try:
                await check_standing(database, job.client_id, {job.command.operation: job.command.need})
            except Busy:
                raise
            except DomainError as problem:  # the client is revoked, or its grants have ended
                arguments = job.client_id, job.id, problem.code
                await database.run_transaction(job.client_id, lambda connection: connection.execute(_FAIL, *arguments))
                batch_counts[FAILED] += 1
                log.warning(
                    "job failed", job=str(job.id), client=str(job.client_id), operation=job.command.operation, problem=problem.code
                )
                return False
            await _apply_school(database, job, school_id)
        await database.run_transaction(job.client_id, lambda connection: connection.execute(_RELEASE, job.client_id, job.id))
        return school_id is not None
    finally:
        database_use.reset(token)


async def _apply_school(database: Database, job: ClaimedJob, school_id: UUID) -> None:
    batch = await database.run_transaction(job.client_id, partial(_read_part, job=job, school_id=school_id, after=-1))
    assert batch is not None
    try:
        if job.head.get("complete") is True and await _has_more(database, job, school_id, batch):
            raise make_invalid([make_size_issue("entries", MAX_ENTRIES + 1)])  # absent pupils of a part would leave
        if job.head.get("complete") is True and school_id != NIL and await _has_rows_of_nobody(database, job):
            raise make_invalid([Issue("complete", ROW_OF_NOBODY, UNKNOWN_SCHOOL)])
        command = replace(job.command, run=partial(_run, job=job, school_id=school_id))
        await perform(database, command, job.caller, batch)
        batch_counts[APPLIED] += 1
    except _Finished:
        pass
    except Busy:
        raise
    except DomainError as problem:
        await _refuse(database, job, school_id, problem.issues, problem.code)
    except Exception:
        await _refuse(database, job, school_id, (), "unforeseen")
        raise


async def _read_part(connection: Connection, job: ClaimedJob, school_id: UUID, after: int) -> Batch[Any, Any] | None:
    """Returns the batch of the next rows of a school, None where there is none."""
    rows = await connection.fetch(_ROWS, job.client_id, job.id, school_id, after, MAX_ENTRIES)
    if not rows:
        return None
    values = [job.read_row(row["line"], row["body"]) if row["fault"] is None else FaultyValue(*row["fault"]) for row in rows]
    numbers = [row["n"] for row in rows]
    steps = job.command.parse_in_steps({**job.make_head(school_id), "entries": values}, lenient=job.is_lenient, numbers=numbers)
    batch: Batch[Any, Any] = await run_in_slices(steps)
    batch.lines = {row["n"]: row["line"] for row in rows}
    return batch


async def _has_rows_of_nobody(database: Database, job: ClaimedJob) -> bool:
    """Whether the school of any row is not known: its pupil may be of any of the schools."""
    arguments = "SELECT 1 FROM job_schools WHERE client_id = $1 AND job_id = $2 AND school_id = $3", job.client_id, job.id, NIL
    return await database.run_transaction(job.client_id, lambda connection: connection.fetchval(*arguments)) is not None


async def _has_more(database: Database, job: ClaimedJob, school_id: UUID, batch: Batch[Any, Any]) -> bool:
    if batch.received < MAX_ENTRIES:
        return False
    arguments = job.client_id, job.id, school_id, batch.numbers[-1], 1
    return bool(await database.run_transaction(job.client_id, lambda connection: connection.fetch(_ROWS, *arguments)))


async def _run(connection: Connection, caller: Caller, batch: Batch[Any, Any], *, job: ClaimedJob, school_id: UUID) -> Any:
    """Runs the command on the rows of a school, and writes what became of them. Where the job is strict, all parts of the school are run in this one
    transaction, so that all of its rows are written or none."""
    if await connection.fetchval(_LOCK, job.client_id, job.id, school_id) is None:
        raise _Finished
    counts: Counter[str] = Counter()
    issues: list[Issue] = []
    warnings: list[Issue] = []
    answer = None
    part: Batch[Any, Any] | None = batch
    last = -1
    while part is not None:
        last = part.numbers[-1]
        try:
            result = await job.command.run(connection, caller, part)
            part.refuse_if_all_rejected()
        except Invalid as problem:
            if job.is_lenient or not problem.issues:
                raise
            issues += problem.issues  # those of the other parts are told too
        else:
            counts.update({name: getattr(result, "left" if name == "leavers" else name, 0) for name in COUNTS})
            warnings += result.warnings
            issues += result.issues
            if part is not batch:  # whose receipts the caller of the command writes
                await write_receipts(connection, caller, part.count_outcomes(accepted=True).items(), accepted=True)
            if answer is None or not answer.has_written:
                answer = result
        part = None if job.is_lenient else await _read_part(connection, job, school_id, last)
    if issues and not job.is_lenient:
        raise make_invalid(issues)
    is_last = not await connection.fetch(_ROWS, job.client_id, job.id, school_id, last, 1)
    await _note(connection, job, school_id, APPLIED if is_last else WAITING, None, issues, warnings, counts)
    await connection.execute(_DELETE, job.client_id, job.id, school_id, last)
    return answer


async def _note(
    connection: Connection,
    job: ClaimedJob,
    school_id: UUID,
    became: str,
    problem: str | None,
    issues: list[Issue],
    warnings: list[Issue],
    counts: Mapping[str, int],
) -> None:
    """Adds what became of rows to the job. References are not kept: they may outlive the right to read them."""
    numbers = [counts.get(name, 0) for name in COUNTS[1:]]
    await connection.execute(_ADD, job.client_id, job.id, school_id, became, problem, len(issues), *numbers)
    told = [
        (_find_number(issue), is_warning, issue.at, issue.code, issue.message, issue.line)
        for is_warning, found in ((False, issues), (True, warnings))
        for issue in found[:MAX_ISSUES]
    ]
    if told:
        await connection.execute(_HOLD_ISSUES, job.client_id, job.id, *transpose(told, 6))


def _find_number(issue: Issue) -> int:
    """Returns the number of the row that an issue is about, -1 for the head."""
    parts = issue.at.split("/")
    return int(parts[2]) if len(parts) > 2 and parts[1] == "entries" and parts[2].isdecimal() else -1


async def _refuse(database: Database, job: ClaimedJob, school_id: UUID, issues: tuple[Issue, ...], code: str) -> None:
    """Notes that rows of a school were refused: all of them where the job is strict, a part of them where it is lenient."""

    async def work(connection: Connection) -> None:
        if await connection.fetchval(_LOCK, job.client_id, job.id, school_id) is None:
            return
        most = MAX_ENTRIES if job.is_lenient else 2**31 - 1
        rows = await connection.fetch(
            f"SELECT max(n) AS last, count(*) AS n FROM ({_ROWS}) r", job.client_id, job.id, school_id, -1, most
        )
        last, count = rows[0]["last"], rows[0]["n"]
        is_last = not await connection.fetch(_ROWS, job.client_id, job.id, school_id, last, 1)
        became = REFUSED if is_last else WAITING
        await _note(connection, job, school_id, became, code, list(issues), [], {"rejected": count})
        await connection.execute(_DELETE, job.client_id, job.id, school_id, last)

    await database.run_transaction(job.client_id, work)
    batch_counts[REFUSED] += 1
    facts = {"job": str(job.id), "client": str(job.client_id), "operation": job.command.operation, "school": str(school_id)}
    log.warning("job refused a school", **facts, problem=code, issues=len(issues))
