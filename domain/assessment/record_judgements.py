"""Records, corrects and withdraws judgements in bulk, together with pupils who have just joined.

The same batch twice changes nothing.

A row that changes nothing never fails, whatever the window's state and whatever version it expects, so that a batch may
be sent again.

recordedAt orders the values that have it. A row without it counts from its commit: the later commit wins, whatever the
clock says, which may go back.
"""

from datetime import date
from operator import itemgetter
from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType, structs

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.assessment.codes_of_batch import read_codes_of_batch
from domain.assessment.joiners import leave_joiners_out, record_joiners, reject_doubtful
from domain.assessment.judgement_rows import WITHDRAWN, JudgementEntry, JudgementRow, check_without_tenant, resolve_entry
from domain.assessment.judgements import judgements
from domain.assessment.uncounted import NOT_COUNTED, warn_of_uncounted
from domain.assessment.window_state import state_sql
from domain.declare.errors import Busy, Current, Invalid, NotFound
from domain.declare.inputs import Input, Text
from domain.declare.scopes import Scope
from domain.roster.pupil_keys import find_and_lock_pupils, reject_malformed_keys
from domain.roster.record_pupils.entries import PupilEntry
from domain.roster.school_refs import SchoolRef, find_only_tenant, resolve_schools
from domain.store.database import Connection, transpose
from domain.support import clock
from domain.support.slices import iterate_in_slices, split_into_parts
from domain.write.aggregates import adjust_for_judgements
from domain.write.batch import Batch, Counts, Recorded
from domain.write.command import command
from domain.write.conflicts import ConflictingRow, reject_conflicts
from domain.write.locks import SchoolLocks


class JudgementBatch(Input, kw_only=True):
    """Judgements of one school, or of several of one trust; window by id or code.

    pupils, as recordPupils takes them, are written first in the same transaction, so that a joiner and their judgements
    need one request; they need asOf and the scope pupils:write.
    """

    school: SchoolRef | UnsetType = UNSET
    window: Text | UnsetType = UNSET
    as_of: date | UnsetType = UNSET
    pupils: list[PupilEntry] = []
    entries: list[JudgementEntry]


class JudgementsRecorded(Recorded, kw_only=True):
    """What became of a batch of judgements and of its pupils: for each, received is the sum of the outcomes.

    Of the created and updated, notCounted are of pupils who do not count in the window; a warning of each says why.
    """

    not_counted: int = 0
    pupils: Counts | None = None

    @property
    def has_written(self) -> bool:
        return super().has_written or (self.pupils is not None and self.pupils.has_written)


def describe_row(batch: Batch[Any, Any]) -> JudgementsRecorded:
    """Returns the output for a batch of one judgement, which was accepted."""
    recorded = batch.summarise()
    not_counted = sum(warning.code == NOT_COUNTED for warning in recorded.warnings)
    return JudgementsRecorded(**structs.asdict(recorded), not_counted=not_counted)


@command(scope=Scope.JUDGEMENTS_WRITE, fails=(Invalid, NotFound), describe_row=describe_row)
async def record_judgements(
    connection: Connection, caller: Caller, batch: Batch[JudgementBatch, JudgementEntry]
) -> JudgementsRecorded:
    """Record, correct or withdraw a batch of judgements. The same batch twice changes nothing."""
    pupils = await record_joiners(connection, caller, batch)
    not_counted = await record_entries(connection, caller, batch)
    return JudgementsRecorded(**structs.asdict(batch.summarise()), not_counted=not_counted, pupils=pupils)


async def record_entries(connection: Connection, caller: Caller, batch: Batch[JudgementBatch, JudgementEntry]) -> int:
    """Writes the judgements and records the outcome of each; returns how many were accepted and do not count."""
    schools = await resolve_schools(connection, caller, Scope.JUDGEMENTS_WRITE, batch, by_pupil=True)
    reject_doubtful(batch)
    location = batch.default_location if not schools else next(iter(batch.locations.values()))
    tenant_id = await find_only_tenant(connection, caller, Scope.JUDGEMENTS_WRITE) if location is None else location.tenant_id
    if tenant_id is None:
        reject_malformed_keys(batch, batch.list_bad_rows())
        for at, entry in batch.list_bad_rows():
            check_without_tenant(batch, at, entry, clock.read_now())
        batch.refuse_if_strict()
        return 0
    codes, now = await read_codes_of_batch(connection, tenant_id, batch)
    good_rows, bad_rows = batch.list_good_rows(), batch.list_bad_rows()
    locks, school_ids = SchoolLocks(connection, tenant_id), {schools[at].id for at, _ in good_rows}
    pupil_ids = await find_and_lock_pupils(
        connection, caller, locks, tenant_id, batch, leave_joiners_out(batch, schools), school_ids, values_sql=_RECORDED
    )
    rows: list[JudgementRow] = []
    async for part in iterate_in_slices(sorted([*good_rows, *bad_rows], key=itemgetter(0)) if bad_rows else good_rows):
        for at, entry in part:
            row = resolve_entry(batch, codes, schools.get(at), pupil_ids.get(at), at, entry, now)
            if row is not None:
                rows.append(row)
    rows = await batch.reject_duplicates(rows, lambda row: (row.at, row.key), "pupil, subject, aspect and window")
    changed = await compare_with_stored(connection, caller, tenant_id, batch, rows, locks)
    batch.refuse_if_strict()
    if not changed:
        return 0
    await write_judgements(connection, caller, tenant_id, changed)
    changed_ids = {row.pupil_id for row in changed}
    if len(changed) < len(good_rows):
        await locks.leave_unchanged({row.school.id for row in changed}, changed_ids)
    uncounted = await adjust_for_judgements(locks, changed_ids, {row.window["no"] for row in changed})
    written = [(row.at, (row.pupil_id, row.window["no"])) for row in changed if uncounted and not row.entry.withdrawn]
    return await warn_of_uncounted(connection, tenant_id, batch, written, uncounted)


_RECORDED = """
SELECT DISTINCT pupil_id, recorded_at_school_id FROM judgements
WHERE tenant_id = $1 AND pupil_id = ANY ($2) AND recorded_at_school_id = ANY ($3)
"""


_STORED = f"""
SELECT (SELECT clock_timestamp()) AS now, g.n, p.school_id AS main_school_id, {state_sql("$8")} AS state,
    COALESCE(w.closed_at, w.closes_at) AS closed_at, w.accept_until > $8 AS accepts,
    EXISTS (
        SELECT 1 FROM enrolments e WHERE e.tenant_id = $1 AND e.pupil_id = g.pupil_id AND e.school_id = g.school_id
            AND COALESCE(e.to_on, 'infinity') >= w.census_on
            AND e.from_on <= GREATEST(w.census_on, (COALESCE(w.closed_at, w.closes_at) AT TIME ZONE 'Europe/London')::date)
    ) AS on_roll,
    j.scheme_version_no, j.grade_no, j.mark, j.status_code, j.recorded_at, j.version, j.recorded_at_school_id, w.version AS window_version
FROM unnest($2::smallint[], $3::uuid[], $4::smallint[], $5::smallint[], $6::smallint[], $9::uuid[])
    WITH ORDINALITY AS g (year, pupil_id, window_no, subject_no, aspect_no, school_id, n)
JOIN windows w ON w.tenant_id = $1 AND w.no = g.window_no
CROSS JOIN LATERAL (
    SELECT school_id FROM pupils x WHERE tenant_id = $1 AND id = g.pupil_id AND {reaches_pupil_sql("$7", "x", "id")} LIMIT 1
) p
LEFT JOIN LATERAL (
    SELECT * FROM judgements WHERE tenant_id = $1 AND academic_year = g.year AND pupil_id = g.pupil_id
        AND window_no = g.window_no AND subject_no = g.subject_no AND aspect_no = g.aspect_no LIMIT 1
) j ON true
"""


async def compare_with_stored(
    connection: Connection,
    caller: Caller,
    tenant_id: UUID,
    batch: Batch[Any, Any],
    rows: list[JudgementRow],
    locks: SchoolLocks,
) -> list[JudgementRow]:
    """Records the outcome of each row and returns the rows to write; rejects a change in a window that no longer
    accepts it, or does not accept it yet. The window's state is that after the locks.

    A value that is confirmed at a later instant is unchanged; from then on values recorded before that instant are
    superseded.
    """
    by_n = dict(enumerate(rows, 1))
    keys, school_ids = transpose([row.key for row in rows], 5), [row.school.id for row in rows]
    changed: list[JudgementRow] = []
    confirmed: list[tuple[Any, ...]] = []
    conflicts: list[ConflictingRow] = []
    async for part in iterate_in_slices(
        await connection.fetch(_STORED, tenant_id, *keys, caller.client_id, clock.read_now(), school_ids)
    ):
        for stored in part:
            row = by_n.pop(stored["n"])
            row.stored = stored
            if stored["window_version"] != row.window["version"]:
                raise Busy("The window has just been changed; nothing of this request was written.")
            exists, is_dated = stored["version"] is not None, getattr(row.entry, "recorded_at", None) is not UNSET
            public_id = ".".join(map(str, (row.pupil_id, row.window["no"], row.subject_no, row.aspect_no)))
            if not is_dated:
                row.recorded_at = max(stored["now"], stored["recorded_at"] or stored["now"])
            if stored["state"] == "planned":
                batch.reject(row.at, "window", "window-not-open", "The window is planned and not open yet.")
            elif not row.is_change_of(stored):
                batch.record_outcome(row.at, "unchanged", public_id if exists else None, stored["version"])
                is_newer = exists and is_dated and row.recorded_at is not None and row.recorded_at > stored["recorded_at"]
                if is_newer and stored["state"] == "open" and not row.is_bad:
                    confirmed.append((*row.key, row.recorded_at))
            else:
                has_conflict = getattr(row.entry, "expected_version", UNSET) not in (UNSET, stored["version"] or 0)
                if has_conflict:
                    conflicts.append(describe_conflict(row, stored))
                if exists and (row.recorded_at is None or row.recorded_at < stored["recorded_at"]):
                    if not has_conflict:
                        batch.record_outcome(row.at, "superseded", public_id, stored["version"])
                    continue
                reject_refused(batch, row, stored, is_dated=is_dated)
                if not has_conflict and not batch.is_rejected(row.at):
                    outcome = "created" if not exists else WITHDRAWN if row.entry.withdrawn else "updated"
                    batch.record_outcome(row.at, outcome, public_id, stored["version"] + 1 if exists else 1)
                    changed.append(row)
    for row in by_n.values():
        batch.reject(row.at, "", "pupil-not-found", "The pupil's main school is not within the reach of this client.")
    await reject_conflicts(connection, caller, Scope.JUDGEMENTS_READ, tenant_id, batch, conflicts)
    if confirmed:
        await connection.execute(_CONFIRM, tenant_id, *transpose(confirmed, 6))
        await locks.increment_versions()
    return changed


def reject_refused(batch: Batch[Any, Any], row: JudgementRow, stored: Any, *, is_dated: bool) -> None:
    """Rejects a row for each reason why its judgement may not be changed, of those that need no field which cannot be read."""
    if stored["version"] is not None and stored["recorded_at_school_id"] == stored["main_school_id"] != row.school.id:
        message = "The pupil's main school has recorded this; a second school cannot replace it."
        batch.reject(row.at, "", "recorded-by-main-school", message)
    if not stored["on_roll"] and getattr(row.entry, "withdrawn", None) is False:
        message = f"The pupil was not on roll at {row.school.name} on the census day, nor later until the window closes."
        batch.reject(row.at, "", "not-on-roll", message)
    may_be_late = is_dated and stored["accepts"] and (row.recorded_at is None or row.recorded_at <= stored["closed_at"])
    if stored["state"] == "locked" or (stored["state"] == "closed" and not may_be_late):
        batch.reject(row.at, "window", "window-closed", f"The window is {stored['state']} and accepts no changes.")


def describe_conflict(row: JudgementRow, stored: Any) -> ConflictingRow:
    """Returns the row with what is stored, where the row expected another version."""
    mark = None if stored["mark"] is None else float(stored["mark"])
    current = Current(stored["version"] or 0, None, stored["status_code"], mark, stored["recorded_at"])
    return ConflictingRow(row.at, row.pupil_id, stored["scheme_version_no"], stored["grade_no"], current)


_CONFIRM = """
UPDATE judgements j SET recorded_at = g.recorded_at
FROM unnest($2::smallint[], $3::uuid[], $4::smallint[], $5::smallint[], $6::smallint[], $7::timestamptz[])
    AS g (year, pupil_id, window_no, subject_no, aspect_no, recorded_at)
WHERE j.tenant_id = $1 AND j.academic_year = g.year AND j.pupil_id = g.pupil_id AND j.window_no = g.window_no
    AND j.subject_no = g.subject_no AND j.aspect_no = g.aspect_no
"""
_COLUMNS = ", ".join((*judgements.columns.keys(), "xid"))
_WRITE = f"""
WITH entry AS (
    SELECT * FROM unnest($4::smallint[], $5::uuid[], $6::smallint[], $7::smallint[], $8::smallint[], $9::uuid[], $10::uuid[],
        $11::smallint[], $12::smallint[], $13::numeric[], $14::text[], $15::timestamptz[], $16::text[], $17::text[], $18::text[], $19::integer[])
    AS g (year, pupil_id, window_no, subject_no, aspect_no, school_id, recorded_at_school_id, scheme_version_no, grade_no, mark, status_code, recorded_at,
        actor, source, method, version)
), replaced AS (
    INSERT INTO judgement_history ({_COLUMNS}, until)
    SELECT {", ".join(f"j.{name}" for name in _COLUMNS.split(", "))}, GREATEST($3, j.received_at, j.changed_at) FROM entry g CROSS JOIN LATERAL (
        SELECT * FROM judgements j WHERE j.tenant_id = $1 AND j.academic_year = g.year AND j.pupil_id = g.pupil_id
            AND j.window_no = g.window_no AND j.subject_no = g.subject_no AND j.aspect_no = g.aspect_no LIMIT 1
    ) j WHERE g.version IS NOT NULL
)
INSERT INTO judgements AS j (tenant_id, client_id, received_at, academic_year, pupil_id, window_no, subject_no, aspect_no, school_id, recorded_at_school_id,
    scheme_version_no, grade_no, mark, status_code, recorded_at, actor, source, method)
SELECT $1, $2, $3, year, pupil_id, window_no, subject_no, aspect_no, school_id, recorded_at_school_id,
    scheme_version_no, grade_no, mark, status_code, recorded_at, actor, source, method FROM entry
ON CONFLICT (tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no) DO UPDATE SET
    scheme_version_no = excluded.scheme_version_no, grade_no = excluded.grade_no, mark = excluded.mark, status_code = excluded.status_code,
    recorded_at = excluded.recorded_at, changed_at = GREATEST(excluded.received_at, j.received_at, j.changed_at),
    recorded_at_school_id = excluded.recorded_at_school_id,
    client_id = excluded.client_id, actor = excluded.actor, source = excluded.source, method = excluded.method,
    version = j.version + 1, xid = pg_current_xact_id()
"""


async def write_judgements(connection: Connection, caller: Caller, tenant_id: UUID, rows: list[JudgementRow]) -> None:
    """Writes the changed rows, and the values that they replace into history."""
    values = [
        (
            *(*r.key, r.stored["main_school_id"], r.school.id, *r.value, r.recorded_at),
            *(r.entry.actor, r.entry.source, r.entry.method, r.stored["version"]),
        )
        async for part in iterate_in_slices(rows)
        for r in part
    ]
    for part in split_into_parts(values):
        await connection.execute(_WRITE, tenant_id, caller.client_id, rows[0].stored["now"], *transpose(part, 16))
