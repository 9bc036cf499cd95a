"""Records a batch of targets. The same batch twice changes nothing."""

from collections.abc import Mapping
from datetime import UTC, datetime
from operator import itemgetter
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.assessment.codes import SUBJECTS_AND_ASPECTS
from domain.assessment.subjects import AspectCode, SubjectCode
from domain.assessment.targets import HORIZON_POINT_PATTERN, targets
from domain.assessment.templates import describe_unknown_code, is_used
from domain.assessment.window_state import state_sql
from domain.declare.errors import Current, Invalid, NotFound
from domain.declare.ids import new_id
from domain.declare.inputs import Input, Instant, describe
from domain.declare.inputs import Text as ShortText
from domain.declare.scopes import Scope
from domain.declare.type_numbers import TARGET
from domain.roster import years
from domain.roster.pupil_keys import PupilRow, find_and_lock_pupils, reject_malformed_keys
from domain.roster.school_refs import SchoolInReach, SchoolRef, find_only_tenant, resolve_schools
from domain.roster.years import AcademicYearText
from domain.store.database import Connection, transpose
from domain.support import clock
from domain.support.slices import iterate_in_slices, split_into_parts
from domain.write.batch import Batch, Recorded
from domain.write.command import command
from domain.write.conflicts import ConflictingRow, ExpectedVersion, reject_conflicts
from domain.write.locks import SchoolLocks


class Horizon(Input, kw_only=True):
    """By when: an academic year and a point in it."""

    academic_year: Annotated[AcademicYearText, describe("Such as 2026-27.")]
    point: Annotated[Annotated[str, Meta(pattern=f"^{HORIZON_POINT_PATTERN}$")], describe("A point in the year, such as Summer.")]


class TargetEntry(PupilRow, kw_only=True):
    """A target. Without a scheme, the grade is one of the scheme in which this school last judged the subject.

    A change is refused unless expectedVersion is the version stored; 0 means that nothing may be stored yet.
    """

    subject: SubjectCode
    aspect: AspectCode = "main"
    horizon: Annotated[Horizon, describe("By when the target is to be reached.")]
    grade: Annotated[Annotated[str, Meta(min_length=1, max_length=20)] | int, describe("Code of the grade aimed at, or a score.")]
    scheme: Annotated[
        ShortText | UnsetType,
        describe("Code of the scheme that the grade is of. Without it, the scheme in which this school last judged the subject."),
    ] = UNSET
    basis: Annotated[Literal["teacher", "prior-attainment", "benchmark", "aspiration"], describe("What the target is based on.")]
    visibility: Annotated[
        Literal["staff", "school", "trust", "family"] | UnsetType,
        describe("Who sees it. Left out, a stored target keeps its own, and a new one is of staff."),
    ] = UNSET
    expected_version: ExpectedVersion = UNSET
    recorded_at: Annotated[
        Instant | UnsetType, describe("When the target was set. The later one holds; without it, the later request.")
    ] = UNSET
    actor: Annotated[ShortText | None, describe("Who set it, as the sender knows them: a staff code.")] = None


class TargetBatch(Input, kw_only=True):
    """Targets of one school, or of several of one trust."""

    school: SchoolRef | UnsetType = UNSET
    entries: list[TargetEntry]


_GRADES = f"""
WITH version AS (
    SELECT NULL::uuid AS school_id, NULL::smallint AS subject_no, s.code AS scheme, max(v.no) AS no, 0 AS age
    FROM schemes s JOIN scheme_versions v ON v.tenant_id = s.tenant_id AND v.scheme_id = s.id WHERE s.tenant_id = $1 GROUP BY s.code
    UNION ALL
    SELECT p.school_id, p.subject_no, NULL, p.scheme_version_no, row_number() OVER (PARTITION BY p.school_id, p.subject_no ORDER BY w.census_on DESC, w.no DESC)
    FROM pins p JOIN windows w ON w.tenant_id = p.tenant_id AND w.no = p.window_no
    WHERE p.tenant_id = $1 AND p.school_id = ANY ($2) AND {state_sql("$3")} <> 'planned'
)
SELECT v.school_id, v.subject_no, v.scheme, v.age, v.no AS version_no, g.code, g.no, g.valid_from, g.valid_to FROM version v
JOIN grades g ON g.tenant_id = $1 AND g.scheme_version_no = v.no ORDER BY v.age, v.scheme, g.no
"""


class TargetGrades:
    """The grades that targets may name: by scheme, and by school and subject in the schemes last used there, the latest
    first.
    """

    def __init__(self, rows: list[Any]) -> None:
        self._by_scheme: dict[str, dict[str, list[Any]]] = {}
        self._by_subject: dict[tuple[UUID, int], dict[str, list[Any]]] = {}
        for row in rows:
            grades = (
                self._by_scheme.setdefault(row["scheme"], {})
                if row["scheme"] is not None
                else self._by_subject.setdefault((row["school_id"], row["subject_no"]), {})
            )
            same = grades.setdefault(row["code"], [])
            if not same or same[-1]["valid_from"] is not None or same[-1]["valid_to"] is not None:
                same.append(row)  # an older one, of other years than the latest

    def find(
        self,
        batch: Batch[Any, Any],
        at: int,
        entry: TargetEntry,
        school: SchoolInReach | None,
        subject_no: int | None,
        year: int | None,
    ) -> tuple[int, int] | None:
        """Returns the numbers of the scheme version and of the grade in the year of the horizon, or None after rejecting
        the row with every issue of what can be read of it. Where the year is not known, the grade may be of any.
        """
        scheme, code = getattr(entry, "scheme", None), getattr(entry, "grade", None)
        if scheme is None:
            return None
        if scheme is not UNSET:
            if scheme not in self._by_scheme:
                batch.reject(at, "scheme", *describe_unknown_code("scheme", scheme, self._by_scheme, batch.suggestions))
                return None
            grades = self._by_scheme[scheme]
        elif school is None or subject_no is None:
            return None
        else:
            grades = self._by_subject.get((school.id, subject_no), {})
            if not grades:
                batch.reject(
                    at, "scheme", "scheme-needed", "This school has not judged the subject in any window yet; name the scheme."
                )
                return None
        if code is None:
            return None
        found = (row for row in grades.get(str(code), ()) if year is None or is_used(row["valid_from"], row["valid_to"], year))
        grade = next(found, None)
        if grade is None:
            suggestion = batch.suggestions.suggest(str(code), tuple(grades))
            hint = "" if scheme is not UNSET else " Name the scheme if the target is in another one."
            batch.reject(at, "grade", "grade-unknown", f"The scheme has no such grade.{suggestion}{hint}")
            return None
        return grade["version_no"], grade["no"]


@command(scope=Scope.TARGETS_WRITE, fails=(Invalid, NotFound), describe_row=Batch.summarise)
async def record_targets(connection: Connection, caller: Caller, batch: Batch[TargetBatch, TargetEntry]) -> Recorded:
    """Record a batch of targets. The same batch twice changes nothing."""
    schools = await resolve_schools(connection, caller, Scope.TARGETS_WRITE, batch, by_pupil=True)
    tenant_id = next((school.tenant_id for school in schools.values()), None)
    if tenant_id is None:
        tenant_id = await find_only_tenant(connection, caller, Scope.TARGETS_WRITE)
    if tenant_id is None:
        reject_malformed_keys(batch, batch.list_bad_rows())
        for at, entry in batch.list_bad_rows():
            _find_year(batch, at, entry)
        batch.refuse_if_strict()
        return batch.summarise()
    codes = await connection.fetch(SUBJECTS_AND_ASPECTS, tenant_id)
    numbers = {(row["kind"], row["code"]): row["no"] for row in codes}
    school_ids = {school.id for school in schools.values()}
    grades = TargetGrades(await connection.fetch(_GRADES, tenant_id, list(school_ids), clock.read_now()))
    good_rows, bad_rows = batch.list_good_rows(), batch.list_bad_rows()
    locks = SchoolLocks(connection, tenant_id)
    locked_ids = {schools[at].id for at, _ in good_rows}
    pupil_ids = await find_and_lock_pupils(connection, caller, locks, tenant_id, batch, schools, locked_ids, values_sql=_RECORDED)
    keyed = [
        (at, entry, key)
        async for part in iterate_in_slices(sorted([*good_rows, *bad_rows], key=itemgetter(0)) if bad_rows else good_rows)
        for at, entry in part
        if (key := resolve_entry(batch, numbers, grades, schools.get(at), at, entry)) is not None
    ]
    rows = await batch.reject_duplicates(
        [(at, entry, (pupil_ids[at], *key)) for at, entry, key in keyed if at in pupil_ids],
        lambda row: (row[0], row[2][:6]),
        "pupil, subject, horizon and basis",
    )
    changed, now = await compare_with_stored(connection, caller, tenant_id, batch, rows, schools)
    batch.refuse_if_strict()
    if changed:
        await write_targets(connection, caller, tenant_id, changed, now)
        if len(changed) < len(good_rows):
            await locks.leave_unchanged({row[-1] for row in changed}, {row[2] for row in changed})
    return batch.summarise()


def resolve_entry(
    batch: Batch[Any, Any],
    numbers: dict[Any, int],
    grades: TargetGrades,
    school: SchoolInReach | None,
    at: int,
    entry: TargetEntry,
) -> tuple[Any, ...] | None:
    """Returns (subject, aspect, horizon year, point, basis, scheme version, grade) after rejecting the row with every issue of
    what can be read of it. The scheme version and the grade of a bad row may be None; None where another part is not known.
    """
    year = _find_year(batch, at, entry)
    for kind in ("subject", "aspect"):
        code = getattr(entry, kind, None)
        if code is not None and (kind, code) not in numbers:
            codes = [other for other_kind, other in numbers if other_kind == kind]
            batch.reject(at, kind, *describe_unknown_code(kind, code, codes, batch.suggestions))
    subject_no = numbers.get(("subject", getattr(entry, "subject", None)))
    aspect_no = numbers.get(("aspect", getattr(entry, "aspect", None)))
    grade = grades.find(batch, at, entry, school, subject_no, year) or (None, None)
    horizon, basis = getattr(entry, "horizon", None), getattr(entry, "basis", None)
    key = (subject_no, aspect_no, year, getattr(horizon, "point", None), basis)
    return None if school is None or None in key else (*key, *grade)


def _find_year(batch: Batch[Any, Any], at: int, entry: TargetEntry) -> int | None:
    """Returns the calendar year in which the academic year of the horizon begins."""
    text = getattr(getattr(entry, "horizon", None), "academic_year", None)
    try:
        return None if text is None else years.parse_academic_year(text)
    except ValueError as problem:
        batch.reject(at, "horizon/academicYear", "academic-year-invalid", str(problem))
    return None


KeyedEntry = tuple[int, TargetEntry, tuple[Any, ...]]
"""The index of an entry, the entry, and its pupil followed by what `resolve_entry` returns."""
_RECORDED = """
SELECT DISTINCT pupil_id, COALESCE(recorded_at_school_id, school_id) FROM targets
WHERE tenant_id = $1 AND pupil_id = ANY ($2) AND COALESCE(recorded_at_school_id, school_id) = ANY ($3)
"""
_STORED = f"""
SELECT (SELECT clock_timestamp()) AS now, g.n, p.school_id,
    EXISTS (SELECT 1 FROM enrolments e WHERE e.tenant_id = $1 AND e.pupil_id = g.pupil_id AND e.school_id = g.row_school_id) AS was_on_roll,
    t.id, t.scheme_version_no, t.grade_no, t.visibility, t.recorded_at, t.version, t.locked_at, t.client_id,
    GREATEST(t.recorded_at, t.confirmed_at) AS holds_from,
    (t.scheme_version_no, t.grade_no) = (g.version_no, g.grade_no) OR EXISTS (
        SELECT 1 FROM grades o JOIN scheme_versions v ON v.tenant_id = $1 AND v.no = o.scheme_version_no
        JOIN scheme_versions w ON w.tenant_id = $1 AND w.scheme_id = v.scheme_id AND w.no = g.version_no
        JOIN grades n ON n.tenant_id = $1 AND n.scheme_version_no = w.no AND n.no = g.grade_no AND n.code = o.code
        WHERE o.tenant_id = $1 AND o.scheme_version_no = t.scheme_version_no AND o.no = t.grade_no
    ) AS is_same_grade
FROM unnest($2::uuid[], $3::smallint[], $4::smallint[], $5::smallint[], $6::text[], $7::text[], $10::smallint[], $11::smallint[], $9::uuid[])
    WITH ORDINALITY AS g (pupil_id, subject_no, aspect_no, horizon_year, horizon_point, basis, version_no, grade_no, row_school_id, n)
JOIN pupils p ON p.tenant_id = $1 AND p.id = g.pupil_id AND {reaches_pupil_sql("$8", "p", "id")}
LEFT JOIN targets t ON t.tenant_id = $1 AND t.pupil_id = g.pupil_id AND t.subject_no = g.subject_no AND t.aspect_no = g.aspect_no
    AND t.horizon_year = g.horizon_year AND t.horizon_point = g.horizon_point AND t.basis = g.basis
"""
_COLUMNS = ", ".join((*targets.columns.keys(), "xid"))


TARGET_HISTORY = f"""
INSERT INTO target_history ({_COLUMNS}, until)
SELECT {_COLUMNS}, GREATEST($3, received_at, changed_at) FROM targets WHERE tenant_id = $1 AND id = ANY ($2)
"""
_WRITE = """
INSERT INTO targets AS t (tenant_id, client_id, received_at, id, school_id, pupil_id, subject_no, aspect_no, horizon_year, horizon_point, basis,
    scheme_version_no, grade_no, visibility, recorded_at, actor, recorded_at_school_id)
SELECT $1, $2, $3, * FROM unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::smallint[], $8::smallint[], $9::smallint[], $10::text[], $11::text[],
    $12::smallint[], $13::smallint[], $14::text[], $15::timestamptz[], $16::text[], $17::uuid[])
ON CONFLICT (tenant_id, pupil_id, subject_no, aspect_no, horizon_year, horizon_point, basis) DO UPDATE SET
    scheme_version_no = excluded.scheme_version_no, grade_no = excluded.grade_no, visibility = excluded.visibility, recorded_at = excluded.recorded_at,
    changed_at = GREATEST(excluded.received_at, t.received_at, t.changed_at), client_id = excluded.client_id, actor = excluded.actor,
    recorded_at_school_id = excluded.recorded_at_school_id, confirmed_at = NULL,
    version = t.version + 1, xid = pg_current_xact_id()
"""
_CONFIRM = """
UPDATE targets t SET confirmed_at = g.at FROM unnest($2::uuid[], $3::timestamptz[]) AS g (id, at) WHERE t.tenant_id = $1 AND t.id = g.id
"""


async def compare_with_stored(
    connection: Connection,
    caller: Caller,
    tenant_id: UUID,
    batch: Batch[Any, Any],
    rows: list[KeyedEntry],
    schools: Mapping[int, SchoolInReach],
) -> tuple[list[tuple[Any, ...]], Any]:
    """Records the outcome of each entry; returns the rows to write, and the database's time after the locks were taken.

    A grade that the next version of the scheme has too is no other grade: the target stays in the version in which it was set, so that it can
    be compared with what is judged in that version.

    A target without recordedAt counts from its commit: the later commit wins, whatever the clock says. One that is sent again with a later
    recordedAt is unchanged; from then on targets that were set before that time are superseded.
    """
    by_n = dict(enumerate(rows, 1))
    changed: list[tuple[Any, ...]] = []
    confirmed: list[tuple[UUID, datetime]] = []
    now: datetime | None = None
    conflicts: dict[Scope, list[ConflictingRow]] = {Scope.TARGETS_READ: [], Scope.TARGETS_STAFF: []}
    *keys, versions, grades = transpose([key for _, _, key in rows], 8)
    school_ids = [schools[at].id for at, _, _ in rows]
    async for part in iterate_in_slices(
        await connection.fetch(_STORED, tenant_id, *keys, caller.client_id, school_ids, versions, grades)
    ):
        for stored in part:
            at, entry, key = by_n.pop(stored["n"])
            exists, now = stored["id"] is not None, stored["now"]
            said_at = getattr(entry, "recorded_at", None)
            recorded_at = max(now, stored["holds_from"] or now) if said_at is UNSET else said_at and said_at.astimezone(UTC)
            visibility = getattr(entry, "visibility", None)
            visibility = stored["visibility"] or "staff" if visibility is UNSET else visibility
            if exists and stored["is_same_grade"] and visibility == stored["visibility"]:
                batch.record_outcome(at, "unchanged", stored["id"], stored["version"])
                if said_at is not UNSET and recorded_at is not None and recorded_at > stored["holds_from"]:
                    confirmed.append((stored["id"], recorded_at))
                continue
            has_conflict = getattr(entry, "expected_version", UNSET) not in (UNSET, stored["version"] or 0)
            if has_conflict:
                current = Current(stored["version"] or 0, recorded_at=stored["recorded_at"])
                row = ConflictingRow(at, key[0], stored["scheme_version_no"], stored["grade_no"], current)
                may_be_read = stored["visibility"] in ("school", "family") or stored["client_id"] == caller.client_id
                conflicts[Scope.TARGETS_READ if may_be_read else Scope.TARGETS_STAFF].append(row)
            if exists and (recorded_at is None or recorded_at < stored["holds_from"]):
                if not has_conflict:
                    batch.record_outcome(at, "superseded", stored["id"], stored["version"])
                continue
            if not stored["was_on_roll"]:
                batch.reject(at, "", "not-on-roll", f"The pupil's spell on roll at {schools[at].name} was taken back.")
            if stored["locked_at"] is not None:
                batch.reject(at, "", "target-locked", "This target is locked and accepts no changes.")
            if not has_conflict and not batch.is_rejected(at):
                target_id = stored["id"] if exists else new_id(TARGET)
                batch.record_outcome(at, "updated" if exists else "created", target_id, stored["version"] + 1 if exists else 1)
                changed.append((target_id, stored["school_id"], *key, visibility, recorded_at, entry.actor, schools[at].id))
    for at, _, _ in by_n.values():
        batch.reject(at, "", "pupil-not-found", "The pupil's main school is not within the reach of this client.")
    for scope, rows_of_scope in conflicts.items():
        await reject_conflicts(connection, caller, scope, tenant_id, batch, rows_of_scope)
    if confirmed:
        await connection.execute(_CONFIRM, tenant_id, *transpose(confirmed, 2))
    return changed, now


async def write_targets(
    connection: Connection, caller: Caller, tenant_id: UUID, rows: list[tuple[Any, ...]], now: datetime
) -> None:
    """Writes the changed targets, and the values that they replace into history."""
    for part in split_into_parts(rows):
        columns = transpose(part, len(part[0]))
        await connection.execute(TARGET_HISTORY, tenant_id, columns[0], now)
        await connection.execute(_WRITE, tenant_id, caller.client_id, now, *columns)
