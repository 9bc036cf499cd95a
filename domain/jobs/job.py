"""Jobs: streams of rows that are too long to be answered at once, and what a client reads of its own."""

from datetime import datetime
from typing import Any
from uuid import UUID

from domain.access.caller import Caller
from domain.access.standing import check_standing
from domain.declare.errors import BadRequest, Issue, NotFound
from domain.declare.ids import NIL, parse_id
from domain.declare.inputs import Output
from domain.store.cleanup import Cleanup
from domain.store.database import Connection, Database
from domain.write.locks import note_versions

CLEANUP = (Cleanup("staged rows of yesterday, and jobs of 7 days ago", "SELECT remove_old_jobs($1)"),)
MAX_ISSUES_PER_PAGE = 1_000
MAX_ISSUES = 100_000
"""Issues that are kept of one job. `issueCount` counts all of them."""
RECEIVING, QUEUED, RUNNING, DONE, FAILED = "receiving", "queued", "running", "done", "failed"
WAITING, APPLIED, REFUSED = "waiting", "applied", "refused"
COUNTS = ("received", "created", "updated", "unchanged", "superseded", "withdrawn", "rejected", "leavers", "not_counted")


class JobSchool(Output, kw_only=True):
    """The rows of one school: waiting; applied; or refused as a whole, for `problem`. `schoolId` is null for rows whose school is not known."""

    school_id: str | None
    state: str
    received: int
    created: int
    updated: int
    unchanged: int
    superseded: int
    withdrawn: int
    rejected: int
    left: int
    not_counted: int
    problem: str | None


class JobIssuePage(Output, kw_only=True):
    """Whether there are more issues, and the cursor of the last one, for `after`."""

    has_more: bool
    end_cursor: str | None


class Job(Output, kw_only=True):
    """A stream of rows that is applied school by school.

    `state` is receiving, queued, running, done or failed. `handling` is strict or lenient for each school by itself (`handledPer`): where it is
    strict, all rows of a school are written or none. The counts add up the schools that are `applied` or `refused`. `issues` and `warnings` are in the
    order of the rows, at most 1,000 of each a page.
    """

    id: str
    operation: str
    state: str
    handling: str
    handled_per: str = "school"
    created_at: datetime
    finished_at: datetime | None
    problem: str | None
    decoded_bytes: int
    rows: int
    rows_done: int
    received: int
    created: int
    updated: int
    unchanged: int
    superseded: int
    withdrawn: int
    rejected: int
    left: int
    not_counted: int
    schools: list[JobSchool]
    issue_count: int
    issues: list[Issue]
    warnings: list[Issue]
    page: JobIssuePage


_JOB = """
SELECT operation, state, said->>'handling' AS handling, created_at, finished_at, problem, decoded_bytes, row_count FROM jobs
WHERE client_id = $1 AND id = $2
"""
_SCHOOLS = f"SELECT school_id, state, {', '.join(COUNTS)}, issue_count, problem FROM job_schools WHERE client_id = $1 AND job_id = $2 ORDER BY school_id"
_ISSUES = """
SELECT n, seq, is_warning, at, code, message, line FROM job_issues
WHERE client_id = $1 AND job_id = $2 AND (n, seq) > ($3, $4) ORDER BY n, seq LIMIT $5
"""


def _read_cursor(after: str | None) -> tuple[int, int]:
    """Returns the row and the number of the last issue that the client has. Raises BadRequest for a text that is no cursor."""
    parts = (after or "-2.0").split(".")
    try:
        if len(parts) != 2 or any(len(part) > 10 or not part.removeprefix("-").isdecimal() for part in parts):
            raise ValueError
        return int(parts[0]), int(parts[1])
    except ValueError:
        message = "after is the endCursor of the page before."
        raise BadRequest(message, code="cursor-invalid", issues=(Issue("after", "cursor-invalid", message),)) from None


async def read_job(
    database: Database, caller: Caller, job_id: str, first: int = MAX_ISSUES_PER_PAGE, after: str | None = None
) -> Job:
    """Returns a job of the caller's own, with a page of its issues. Raises NotFound for any other."""
    caller.require_any(what="job")
    await check_standing(database, caller.client_id, {})
    position, parsed = _read_cursor(after), parse_id(job_id)
    if parsed is None:
        raise NotFound()

    async def work(connection: Connection) -> Job:
        row = await connection.fetchrow(_JOB, caller.client_id, parsed)
        if row is None:
            raise NotFound()
        schools = await connection.fetch(_SCHOOLS, caller.client_id, parsed)
        issues = await connection.fetch(_ISSUES, caller.client_id, parsed, *position, first + 1)
        await note_versions(connection, database, caller.only_tenant)
        return make_job(parsed, row, schools, issues, first)

    return await database.run_transaction(caller.client_id, work)


def make_job(job_id: UUID, row: Any, schools: list[Any], issues: list[Any], first: int) -> Job:
    """Returns what a client reads of a job, from its rows."""
    page = issues[:first]
    ended = [each for each in schools if each["state"] != WAITING]
    totals = {name: sum(each[name] for each in ended) for name in COUNTS}
    totals["left"] = totals.pop("leavers")
    shown = [(each["is_warning"], Issue(each["at"], each["code"], each["message"], line=each["line"])) for each in page]
    return Job(
        id=str(job_id),
        operation=row["operation"],
        state=row["state"],
        handling=row["handling"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        problem=row["problem"],
        decoded_bytes=row["decoded_bytes"],
        rows=row["row_count"],
        rows_done=totals["received"],
        **totals,
        schools=[_make_school(each) for each in schools],
        issue_count=sum(each["issue_count"] for each in schools),
        issues=[issue for is_warning, issue in shown if not is_warning],
        warnings=[issue for is_warning, issue in shown if is_warning],
        page=JobIssuePage(has_more=len(issues) > first, end_cursor=f"{page[-1]['n']}.{page[-1]['seq']}" if page else None),
    )


def _make_school(row: Any) -> JobSchool:
    counts = {name: row[name] for name in COUNTS}
    counts["left"] = counts.pop("leavers")
    school_id = None if row["school_id"] == NIL else str(row["school_id"])
    return JobSchool(school_id=school_id, state=row["state"], problem=row["problem"], **counts)
