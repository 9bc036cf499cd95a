"""Plans a roll of the coming academic year: it is tried as it would be written, undone, and stored until its day.

So the sender is told at once what will become of each row, and nothing that is read for today changes. A complete roll
replaces every planned roll of its school and year, until it is withdrawn; any other sets the planned rows about its pupils aside
(planned_stays.py).
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, structs

from domain.access.caller import Caller
from domain.declare.errors import Conflict, Issue
from domain.declare.ids import new_id, parse_id
from domain.declare.scopes import Scope
from domain.declare.type_numbers import PLANNED_ROLL
from domain.roster import years
from domain.roster.record_pupils.entries import PupilBatch, PupilEntry
from domain.roster.record_pupils.leavers import TOO_MANY, find_complete_school
from domain.roster.record_pupils.planned_stays import PlannedStay, list_stays, replace_rolls, set_rows_aside, store_stays
from domain.roster.record_pupils.recorded_roll import RecordedRoll
from domain.roster.record_pupils.row_problem import NOT_SOURCE
from domain.roster.school_refs import SchoolInReach, resolve_schools
from domain.roster.upn import parse_upn
from domain.store.database import Connection, transpose
from domain.store.ledger_notes import collect_notes
from domain.support.slices import iterate_in_slices, split_into_parts
from domain.write.batch import Batch, Result
from domain.write.findings import collect_findings
from domain.write.locks import SchoolLocks, track_locks

Rolls: TypeAlias = Batch[PupilBatch, PupilEntry]
WriteRoll: TypeAlias = Callable[[Connection, Caller, Rolls], Awaitable[RecordedRoll]]

UNTIL_THE_DAY = frozenset({"pupil-elsewhere"})
"""Issues of rows that may be gone on the day of the roll: another school has the pupil until it ends its main spell."""
ALL_PERCENT = 100
NOT_PLANNED = (
    "Nothing is planned for a school that has named another client as the source of names, enrolments and characteristics."
)


@dataclass(frozen=True)
class PlannedRow:
    """A row to store: its entry as JSON, what its pupil is known by, and what would become of it today."""

    entry: bytes
    pupil_id: UUID | None
    reference: str | None
    upns: list[str]
    outcome: str


async def plan_roll(connection: Connection, caller: Caller, batch: Rolls, write: WriteRoll) -> RecordedRoll:
    """Stores a roll until its day. Returns what `write` says would become of it today; ids of new pupils are not among
    the results, since there are none yet.
    """
    untouched = batch.copy_unchanged()
    schools = await resolve_schools(connection, caller, Scope.PUPILS_WRITE, batch)
    complete_school = await find_complete_school(connection, caller, batch, schools)
    trial, recorded, warnings = await _try(connection, caller, untouched, write)
    _take_issues(batch, trial)
    batch.refuse_if_strict()
    rows: dict[SchoolInReach, list[PlannedRow]] = {} if complete_school is None else {complete_school: []}
    if any(school.has_other_source for school in (*schools.values(), *rows)):
        warnings.append(Issue("/asOf", NOT_SOURCE, NOT_PLANNED))
    async for part in iterate_in_slices(batch.list_good_rows()):
        for at, entry in part:
            result = trial.results.get(at) or Result(at=batch.make_pointer(at), outcome="updated")
            pupil_id = None if result.outcome == "created" else parse_id(result.id or "")
            batch.record_outcome(at, result.outcome, pupil_id, None)
            rows.setdefault(schools[at], []).append(_make_row(entry, pupil_id, result.outcome))
    answer = batch.summarise()
    answer.warnings += warnings
    if answer.results is not None:
        answer.results += [structs.replace(r, version=None) for r in recorded.results or () if r.outcome == "left"]
    rows = {school: planned for school, planned in rows.items() if not school.has_other_source}
    stays = await list_stays(connection, caller, batch, schools, rows.keys())
    ids = await _store(connection, caller, batch.head, rows, stays)
    return RecordedRoll(**structs.asdict(answer), left=recorded.left, planned_roll_ids=[str(id_) for id_ in ids])


async def _try(connection: Connection, caller: Caller, batch: Rolls, write: WriteRoll) -> tuple[Rolls, RecordedRoll, list[Issue]]:
    """Writes a copy of the batch and undoes it; returns the copy, the answer, and warnings about the whole roll.

    Where too many pupils would leave, that is a warning: whoever prepares the next year has not ended their spells yet.
    """
    warnings: list[Issue] = []
    for max_leavers in (batch.head.max_leavers, ALL_PERCENT):
        trial = batch.copy_unchanged()
        trial.lenient, trial.head = True, structs.replace(batch.head, max_leavers=max_leavers)
        await connection.execute("SAVEPOINT planned")
        try:
            with track_locks(), collect_findings(), collect_notes():
                recorded = await write(connection, caller, trial)
        except Conflict as problem:
            if problem.code != TOO_MANY or max_leavers == ALL_PERCENT:
                raise
            message = f"This roll will be refused on its day unless that has changed by then. {problem.detail}"
            warnings = [Issue("/complete", TOO_MANY, message)]
        else:
            await connection.execute("ROLLBACK TO SAVEPOINT planned")
            return trial, recorded, warnings
        await connection.execute("ROLLBACK TO SAVEPOINT planned")
    raise AssertionError("unreachable")


def _take_issues(batch: Rolls, trial: Rolls) -> None:
    """Takes over the issues and warnings of the copy; an issue that may be gone on the day is a warning."""
    for issue in trial.issues[len(batch.issues) :]:
        at = batch.find_index(issue)
        path = issue.at.removeprefix(batch.make_pointer(at)).removeprefix("/")
        if issue.code in UNTIL_THE_DAY:
            batch.warn(at, path, issue.code, issue.message)
        else:
            batch.reject(at, path, issue.code, issue.message, issue.current)
    batch.warnings += trial.warnings[len(batch.warnings) :]


def _make_row(entry: PupilEntry, pupil_id: UUID | None, outcome: str) -> PlannedRow:
    upns = [parse_upn(text).text for text in (entry.upn, *entry.former_upns) if text is not None]
    text = msgspec.json.encode(structs.replace(entry, school=UNSET, year_group=years.parse_year_group(entry.year_group)))
    return PlannedRow(text, pupil_id, None if entry.reference is UNSET else entry.reference, upns, outcome)


_FIND_SAME = """
SELECT p.id FROM planned_rolls p
WHERE p.tenant_id = $1 AND p.school_id = $2 AND p.client_id = $3 AND p.state = 'planned' AND p.replaced_by IS NULL AND p.digest = $4
    AND p.row_count = (
        SELECT count(*) FROM planned_pupils x WHERE x.tenant_id = p.tenant_id AND x.planned_roll_id = p.id AND x.replaced_by = '{}'
    )
    AND NOT (p.complete AND EXISTS (
        SELECT 1 FROM planned_rolls q WHERE q.tenant_id = p.tenant_id AND q.school_id = p.school_id
            AND q.academic_year = p.academic_year AND q.state = 'planned' AND q.replaced_by IS NULL AND q.received_at > p.received_at
    ))
"""
_INSERT_ROLL = """
INSERT INTO planned_rolls (tenant_id, id, school_id, client_id, as_of, academic_year, complete, max_leavers, row_count, digest)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
_INSERT_ROWS = """
INSERT INTO planned_pupils (tenant_id, planned_roll_id, school_id, n, pupil_id, reference, upns, entry, outcome)
SELECT $1, $2, $3, g.n, g.pupil_id, g.reference, string_to_array(g.upns, ' '), g.entry::jsonb, g.outcome
FROM unnest($4::integer[], $5::uuid[], $6::text[], $7::text[], $8::text[], $9::text[]) AS g (n, pupil_id, reference, upns, entry, outcome)
"""


async def _store(
    connection: Connection,
    caller: Caller,
    head: PupilBatch,
    rows: dict[SchoolInReach, list[PlannedRow]],
    stays: dict[SchoolInReach, list[PlannedStay]],
) -> list[UUID]:
    """Stores the rows of each school as a planned roll, in place of what they replace; returns the ids. The same rows
    again change nothing.
    """
    if not rows:
        return []
    tenant_id = next(iter(rows)).tenant_id
    with track_locks():  # no data version depends on planned rolls
        await SchoolLocks(connection, tenant_id).lock([school.id for school in rows], [])
    return [await _store_of_school(connection, caller, head, school, rows[school], stays.get(school, [])) for school in rows]


async def _store_of_school(
    connection: Connection,
    caller: Caller,
    head: PupilBatch,
    school: SchoolInReach,
    rows: list[PlannedRow],
    stays: list[PlannedStay],
) -> UUID:
    tenant_id, client_id = school.tenant_id, caller.client_id
    max_leavers = None if head.max_leavers is UNSET else head.max_leavers
    described = f"{head.as_of} {head.complete} {max_leavers}".encode()
    digest = hashlib.sha256(
        b"\n".join([described, *sorted(row.entry for row in rows), *sorted(repr(stay).encode() for stay in stays)])
    ).digest()
    same: UUID | None = await connection.fetchval(_FIND_SAME, tenant_id, school.id, client_id, digest)
    if same is not None:
        return same
    of_year = (tenant_id, school.id, years.parse_academic_year(years.academic_year_of(head.as_of)))
    roll_id = new_id(PLANNED_ROLL)
    if head.complete:
        await replace_rolls(connection, *of_year, roll_id)
    facts = (of_year[1], client_id, head.as_of, of_year[2], head.complete, max_leavers, len(rows), digest)
    await connection.execute(_INSERT_ROLL, tenant_id, roll_id, *facts)
    numbered = [(n, row.pupil_id, row.reference, " ".join(row.upns), row.entry.decode(), row.outcome) for n, row in enumerate(rows)]
    for part in split_into_parts(numbered):
        await connection.execute(_INSERT_ROWS, tenant_id, roll_id, school.id, *transpose(part, 6))
    await store_stays(connection, tenant_id, roll_id, school.id, stays)
    if not head.complete:
        await set_rows_aside(connection, tenant_id, roll_id)
    return roll_id
