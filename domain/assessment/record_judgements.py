"""Records, corrects and withdraws judgements in bulk, together with pupils who have just joined.

The same batch twice changes nothing.

A row that changes nothing never fails, whatever the window's state and whatever version it expects, so that a batch may
be sent again.

recordedAt orders the values that have it. A row without it counts from its commit: the later commit wins, whatever the
clock says, which may go back.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType, structs

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.assessment.codes import CodeTable
from domain.assessment.codes_of_batch import read_codes_of_batch
from domain.assessment.joiners import record_joiners, reject_doubtful
from domain.assessment.judgements import judgements
from domain.assessment.marks import resolve_mark
from domain.assessment.subjects import AspectCode, SubjectCode
from domain.assessment.templates import describe_unknown_code
from domain.assessment.uncounted import warn_of_uncounted
from domain.assessment.window_state import state_sql
from domain.declare.errors import Busy, Current, Invalid, NotFound
from domain.declare.inputs import ExactNumber, Input, Instant, Text, describe
from domain.declare.scopes import Scope
from domain.roster.pupil_keys import PupilRow, find_and_lock_pupils
from domain.roster.record_pupils.entries import PupilEntry
from domain.roster.school_refs import SchoolInReach, SchoolRef, resolve_schools
from domain.store.database import Connection, transpose
from domain.support import clock
from domain.support.slices import iterate_in_slices, split_into_parts
from domain.write.aggregates import adjust_for_judgements
from domain.write.batch import Batch, Counts, Recorded
from domain.write.command import command
from domain.write.conflicts import ConflictingRow, ExpectedVersion, reject_conflicts
from domain.write.locks import SchoolLocks
from domain.write.receipts import Location

MAX_CLOCK_SKEW = timedelta(minutes=5)
WITHDRAWN = "withdrawn"


class JudgementEntry(PupilRow, kw_only=True):
    """A judgement: a grade, or a status that says why there is none (a missing value is never a zero), or withdrawn.

    A change is refused unless expectedVersion is the version stored; 0 means that nothing may be stored yet.
    """

    subject: SubjectCode
    aspect: AspectCode = "main"
    window: Annotated[Text | UnsetType, describe("Id or code of the window, unless the batch names one.")] = UNSET
    grade: Annotated[
        Annotated[str, Meta(min_length=1, max_length=20)] | int | None,
        describe("Code of a grade of the window's scheme for the subject, or a score. Give a grade or a status."),
    ] = None
    mark: Annotated[ExactNumber | None, describe("The mark behind the grade, where there is one.")] = None
    status: Annotated[
        Literal["absent", "new", "left", "notTaught", "exempt"] | None,
        describe(
            "Why there is no grade. left takes the pupil out of the eligible; with any other status the pupil stays eligible."
        ),
    ] = None
    withdrawn: Annotated[bool, describe("Takes the judgement back. History keeps it.")] = False
    expected_version: ExpectedVersion = UNSET
    recorded_at: Annotated[
        Instant | UnsetType, describe("When the judgement was made. The later one holds; without it, the later request.")
    ] = UNSET
    actor: Annotated[Text | None, describe("Who judged, as the sender knows them: a staff code, never a child's name.")] = None
    source: Annotated[Text | None, describe("The system that the judgement was entered in.")] = None
    method: Annotated[Text | None, describe("How it was judged, such as test or teacher assessment.")] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.withdrawn and (self.grade, self.status, self.mark) != (None, None, None):
            raise ValueError("A judgement that is withdrawn has no grade, no status and no mark")
        if not self.withdrawn and (self.grade is None) == (self.status is None):
            raise ValueError("Give either a grade or the status that says why there is none, or withdraw the judgement")


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


@dataclass
class JudgementRow:
    """An entry, with the codes that it names resolved to the tenant's numbers."""

    at: int
    entry: JudgementEntry
    school: SchoolInReach
    pupil_id: UUID
    window: Any
    subject_no: int
    aspect_no: int
    scheme_version_no: int
    grade_no: int | None
    mark: Decimal | None
    recorded_at: datetime
    stored: Any = None

    @property
    def key(self) -> tuple[Any, ...]:
        """The natural key."""
        return (self.window["academic_year"], self.pupil_id, self.window["no"], self.subject_no, self.aspect_no)

    @property
    def value(self) -> tuple[Any, ...]:
        """The scheme version, grade, mark and status to store."""
        return (self.scheme_version_no, self.grade_no, self.mark, WITHDRAWN if self.entry.withdrawn else self.entry.status)

    def is_change_of(self, stored: Any) -> bool:
        """Whether the row differs from what is stored. A judgement that does not exist counts as withdrawn."""
        if self.entry.withdrawn:
            return stored["version"] is not None and stored["status_code"] != WITHDRAWN
        return self.value != (stored["scheme_version_no"], stored["grade_no"], stored["mark"], stored["status_code"])


@command(scope=Scope.JUDGEMENTS_WRITE, fails=(Invalid, NotFound))
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
    if location is None:
        batch.refuse_if_strict()
        return 0
    tenant_id = location.tenant_id
    codes, now = await read_codes_of_batch(connection, tenant_id, batch)
    if not schools:
        batch.refuse_if_strict()
        return 0
    good_rows = batch.list_good_rows()
    locks, school_ids = SchoolLocks(connection, tenant_id), {school.id for school in schools.values()}
    pupil_ids = await find_and_lock_pupils(connection, caller, locks, tenant_id, batch, schools, school_ids, values_sql=_RECORDED)
    rows: list[JudgementRow] = []
    async for part in iterate_in_slices(good_rows):
        for at, entry in part:
            resolved = resolve_entry(batch, codes, schools[at], at, entry, now)
            if resolved is not None and at in pupil_ids:
                rows.append(JudgementRow(at, entry, schools[at], pupil_ids[at], *resolved))
    rows = await batch.reject_duplicates(rows, lambda row: (row.at, row.key), "pupil, subject, aspect and window")
    changed = await compare_with_stored(connection, caller, tenant_id, batch, rows, locks)
    batch.refuse_if_strict()
    if not changed:
        return 0
    await write_judgements(connection, caller, tenant_id, changed)
    uncounted = await adjust_for_judgements(locks, {row.pupil_id for row in changed}, {row.window["no"] for row in changed})
    written = [(row.at, (row.pupil_id, row.window["no"])) for row in changed if uncounted and not row.entry.withdrawn]
    return await warn_of_uncounted(connection, tenant_id, batch, written, uncounted)


_RECORDED = """
SELECT DISTINCT pupil_id, recorded_at_school_id FROM judgements
WHERE tenant_id = $1 AND pupil_id = ANY ($2) AND recorded_at_school_id = ANY ($3)
"""


def _get_window_code(batch: Batch[Any, Any], entry: JudgementEntry) -> str | UnsetType:
    """Returns the window's code or id: the entry's own, else the batch's."""
    return entry.window if entry.window is not UNSET else batch.head.window


def resolve_entry(
    batch: Batch[Any, Any], codes: CodeTable, school: SchoolInReach, at: int, entry: JudgementEntry, now: datetime
) -> tuple[Any, ...] | None:
    """Returns the entry's window, subject, aspect, scheme version, grade, mark and time, or None after rejecting it
    with every issue.
    """
    issue_count = len(batch.issues)
    code = _get_window_code(batch, entry)
    window = None if code is UNSET else codes.windows.get(str(code))
    if window is None:
        if code is UNSET:
            batch.reject(at, "window", "window-unknown", "Name the window by its code or id, in the entry or in the batch.")
        elif entry.window is not UNSET:
            batch.reject(at, "window", "window-unknown", codes.describe_unknown_window())
    recorded_at = now if entry.recorded_at is UNSET else entry.recorded_at.astimezone(UTC)
    if recorded_at > now + MAX_CLOCK_SKEW:
        batch.reject(at, "recordedAt", "recorded-in-future", "recordedAt lies more than 5 minutes ahead of the server's clock.")
    subject_no, aspect_no = codes.subjects.get(entry.subject), codes.aspects.get(entry.aspect)
    if subject_no is None:
        batch.reject(at, "subject", *describe_unknown_code("subject", entry.subject, codes.subjects))
    if aspect_no is None:
        batch.reject(at, "aspect", *describe_unknown_code("aspect", entry.aspect, codes.aspects))
    batch.locations[at] = Location(school.tenant_id, school.id, window and window["no"], subject_no, aspect_no)
    if window is None or subject_no is None or aspect_no is None or len(batch.issues) > issue_count:
        return None
    version_no = codes.pins.get((window["no"], school.id, subject_no, aspect_no))
    if version_no is None:
        collected = codes.describe_collected(window["no"], school.id)
        message = f"The window does not collect this subject and aspect from {school.name}. {collected}"
        batch.reject(at, "subject", "not-collected", message)
        return None
    grade_no = None
    if entry.grade is not None:
        grade = version_no, str(entry.grade), window["academic_year"]
        if (grade_no := codes.find_grade(*grade)) is None:
            batch.reject(at, "grade", "grade-unknown", codes.describe_unknown_grade(*grade, batch.suggestions))
    mark = None if entry.mark is None else resolve_mark(batch, at, entry.mark, codes.rounding.get(version_no))
    if len(batch.issues) > issue_count:
        return None
    return window, subject_no, aspect_no, version_no, grade_no, mark, recorded_at


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
            exists = stored["version"] is not None
            public_id = ".".join(map(str, (row.pupil_id, row.window["no"], row.subject_no, row.aspect_no)))
            is_dated = row.entry.recorded_at is not UNSET
            if not is_dated:
                row.recorded_at = max(stored["now"], stored["recorded_at"] or stored["now"])
            is_accepted_late = is_dated and stored["accepts"] and row.recorded_at <= stored["closed_at"]
            if stored["state"] == "planned":
                batch.reject(row.at, "window", "window-not-open", "The window is planned and not open yet.")
            elif not row.is_change_of(stored):
                batch.record_outcome(row.at, "unchanged", public_id if exists else None, stored["version"])
                if exists and is_dated and row.recorded_at > stored["recorded_at"] and stored["state"] == "open":
                    confirmed.append((*row.key, row.recorded_at))
            elif row.entry.expected_version not in (UNSET, stored["version"] or 0):
                conflicts.append(describe_conflict(row, stored))
            elif exists and row.recorded_at < stored["recorded_at"]:
                batch.record_outcome(row.at, "superseded", public_id, stored["version"])
            elif exists and stored["recorded_at_school_id"] == stored["main_school_id"] != row.school.id:
                batch.reject(
                    row.at,
                    "",
                    "recorded-by-main-school",
                    "The pupil's main school has recorded this; a second school cannot replace it.",
                )
            elif not stored["on_roll"] and not row.entry.withdrawn:
                message = f"The pupil was not on roll at {row.school.name} on the census day, nor later until the window closes."
                batch.reject(row.at, "", "not-on-roll", message)
            elif stored["state"] == "locked" or (stored["state"] == "closed" and not is_accepted_late):
                batch.reject(row.at, "window", "window-closed", f"The window is {stored['state']} and accepts no changes.")
            else:
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
