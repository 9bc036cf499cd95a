"""Targets: what a pupil is meant to reach, by when, on what basis and set by whom. A target is a grade of a scheme; nothing predicts progress."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Column, DateTime, Index, Integer, SmallInteger, Table, Text, UniqueConstraint, Uuid

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql, rows_of_pupil
from domain.assessment.schemes import column_of_grade
from domain.assessment.subjects import aspects, subject_code_of, subjects
from domain.declare.errors import Current, Invalid, NotFound
from domain.declare.ids import new_id
from domain.declare.inputs import Input, Instant
from domain.declare.inputs import Text as ShortText
from domain.declare.resource import Field, Filter, Link, Resource, declare_view
from domain.declare.scopes import Scope
from domain.roster import years
from domain.roster.pupils import PupilRow, find_pupils, pupils, resolve_schools
from domain.roster.schools import SchoolInReach, SchoolRef, schools
from domain.store.database import Connection, transpose
from domain.store.metadata import metadata
from domain.support.slices import iterate_in_slices, split_into_parts
from domain.write.batch import Batch, Recorded
from domain.write.command import command
from domain.write.conflicts import ConflictingRow, Version, reject_conflicts
from domain.write.locks import SchoolLocks

TARGET = 9

targets = Table(
    "targets",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("pupil_id", Uuid, nullable=False),
    Column("school_id", Uuid, nullable=False),
    Column("subject_no", SmallInteger, nullable=False),
    Column("aspect_no", SmallInteger, nullable=False),
    Column("horizon_year", SmallInteger, nullable=False),
    Column("horizon_point", Text, nullable=False),
    Column("basis", Text, nullable=False),
    Column("scheme_version_no", SmallInteger, nullable=False),
    Column("grade_no", SmallInteger, nullable=False),
    Column("visibility", Text, nullable=False),
    Column("locked_at", DateTime(timezone=True)),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("actor", Text),
    Column("version", Integer, nullable=False),
    UniqueConstraint("tenant_id", "pupil_id", "subject_no", "aspect_no", "horizon_year", "horizon_point", "basis"),
    Index("targets_by_id", "id"),
    Index("targets_by_school", "tenant_id", "school_id"),
)
t = targets.c
current_targets = declare_view("current_targets", targets)

TARGETS = Resource(
    name="target",
    plural="targets",
    doc="What a pupil is meant to reach in a subject by a point in time.",
    source=targets,
    type_number=TARGET,
    scope=Scope.TARGETS_READ,
    order=("tenant_id", "id"),
    reach=rows_of_pupil(t.tenant_id, t.school_id, t.pupil_id),
    fields={
        "id": Field(t.id, "Stable id."),
        "pupilId": Field(t.pupil_id, "The pupil's id."),
        "subjectCode": Field(subject_code_of(subjects, t.tenant_id, t.subject_no), "The subject's code."),
        "aspect": Field(subject_code_of(aspects, t.tenant_id, t.aspect_no), "main unless said otherwise."),
        "horizonYear": Field(
            years.academic_year_text(t.horizon_year), "Academic year by which it is meant to be reached.", nullable=False
        ),
        "horizonPoint": Field(t.horizon_point, "The point in that year, such as KS2 or end-of-year."),
        "grade": Field(column_of_grade(t, "code"), "The grade aimed at."),
        "basis": Field(t.basis, "What it rests on: teacher, prior-attainment, benchmark or aspiration."),
        "visibility": Field(t.visibility, "Who is meant to see it: staff, school or family."),
        "lockedAt": Field(t.locked_at, "Since when it cannot be changed."),
        "recordedAt": Field(t.recorded_at, "When it was set."),
        "receivedAt": Field(t.received_at, "When it arrived here."),
        "actor": Field(t.actor, "Who set it, as the vendor names them.", filter=Filter.BODY),
        "version": Field(t.version, "Grows by one with each change."),
    },
    links={
        "pupil": Link(
            "pupil",
            ((t.tenant_id, pupils.c.tenant_id), (t.pupil_id, pupils.c.id)),
            "The pupil.",
            reverse="targets",
            reverse_doc="Targets.",
            target_in_reach=True,
            source_in_reach=True,
        ),
        "subject": Link(
            "subject", ((t.tenant_id, subjects.c.tenant_id), (t.subject_no, subjects.c.no)), "The subject.", target_in_reach=True
        ),
        "school": Link("school", ((t.school_id, schools.c.id),), "The pupil's school of main registration."),
    },
    links_from_others={
        "pupil": {
            "currentTargets": Link(
                "target",
                ((pupils.c.tenant_id, current_targets.c.tenant_id), (pupils.c.id, current_targets.c.pupil_id)),
                "The targets of each subject and aspect for the nearest academic year that is not over.",
                many=True,
                source=current_targets,
                target_in_reach=True,
            )
        }
    },
)


class Horizon(Input, kw_only=True):
    """By when: an academic year and a point in it."""

    academic_year: str
    point: Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 -]{0,29}$")]


class TargetEntry(PupilRow, kw_only=True):
    """A target. Without a scheme, the grade is read in the scheme this school last judged the subject in.

    A change is refused unless expectedVersion is the version stored; 0 means that nothing may be stored yet.
    """

    subject: ShortText
    aspect: ShortText = "main"
    horizon: Horizon
    grade: Annotated[str, Meta(min_length=1, max_length=20)] | int
    scheme: ShortText | UnsetType = UNSET
    basis: Literal["teacher", "prior-attainment", "benchmark", "aspiration"]
    visibility: Literal["staff", "school", "family"] = "school"
    expected_version: Version | UnsetType = UNSET
    recorded_at: Instant | UnsetType = UNSET
    actor: ShortText | None = None


class TargetBatch(Input, kw_only=True):
    """Targets of one school, or of several of one trust."""

    school: SchoolRef | UnsetType = UNSET
    entries: list[TargetEntry]


_GRADES = """
WITH version AS (
    SELECT NULL::uuid AS school_id, NULL::smallint AS subject_no, s.code AS scheme, max(v.no) AS no, 0 AS age
    FROM schemes s JOIN scheme_versions v ON v.tenant_id = s.tenant_id AND v.scheme_id = s.id WHERE s.tenant_id = $1 GROUP BY s.code
    UNION ALL
    SELECT p.school_id, p.subject_no, NULL, p.scheme_version_no, row_number() OVER (PARTITION BY p.school_id, p.subject_no ORDER BY w.census_on DESC, w.no DESC)
    FROM pins p JOIN windows w ON w.tenant_id = p.tenant_id AND w.no = p.window_no WHERE p.tenant_id = $1 AND p.school_id = ANY ($2)
)
SELECT v.school_id, v.subject_no, v.scheme, v.age, v.no AS version_no, g.code, g.no FROM version v
JOIN grades g ON g.tenant_id = $1 AND g.scheme_version_no = v.no ORDER BY v.age, v.scheme, g.no
"""


class TargetGrades:
    """Finds the grade a target names: in the scheme it names, or in the latest scheme of its school and subject that has it."""

    def __init__(self, rows: list[Any]) -> None:
        self._by_scheme: dict[str, dict[str, tuple[int, int]]] = {}
        self._by_subject: dict[tuple[UUID, int], dict[str, tuple[int, int]]] = {}
        for row in rows:
            named = (
                self._by_scheme.setdefault(row["scheme"], {})
                if row["scheme"] is not None
                else self._by_subject.setdefault((row["school_id"], row["subject_no"]), {})
            )
            named.setdefault(row["code"], (row["version_no"], row["no"]))

    def find(self, batch: Batch[Any, Any], at: int, entry: TargetEntry, school_id: UUID, subject_no: int) -> tuple[int, int] | None:
        """(scheme version no, grade no), or None after rejecting the row."""
        if entry.scheme is not UNSET:
            if entry.scheme not in self._by_scheme:
                batch.reject(
                    at, "scheme", "scheme-unknown", f"This tenant has no such scheme. It has: {', '.join(self._by_scheme)}."
                )
                return None
            known = self._by_scheme[entry.scheme]
        else:
            known = self._by_subject.get((school_id, subject_no), {})
            if not known:
                batch.reject(
                    at, "scheme", "scheme-needed", "This school has not judged the subject in any window yet; name the scheme."
                )
                return None
        if str(entry.grade) not in known:
            near = batch.suggestions.suggest(str(entry.grade), tuple(known))
            hint = "" if entry.scheme is not UNSET else " Name the scheme if the target is in another one."
            batch.reject(at, "grade", "grade-unknown", f"The scheme has no such grade.{near}{hint}")
            return None
        return known[str(entry.grade)]


@command(scope=Scope.TARGETS_WRITE, fails=(Invalid, NotFound))
async def record_targets(connection: Connection, caller: Caller, given: Batch[TargetBatch, TargetEntry]) -> Recorded:
    """Record a batch of targets. The same batch twice changes nothing."""
    settled = await resolve_schools(connection, caller, Scope.TARGETS_WRITE, given)
    if not settled:
        given.refuse_if_strict()
        return given.summarise()
    tenant_id = next(iter(settled.values())).tenant_id
    codes = await connection.fetch(
        "SELECT 'subject' AS kind, code, no FROM subjects WHERE tenant_id = $1 AND NOT derived"
        " UNION ALL SELECT 'aspect', code, no FROM aspects WHERE tenant_id = $1 ORDER BY kind, no",
        tenant_id,
    )
    numbers = {(row["kind"], row["code"]): row["no"] for row in codes}
    finder = TargetGrades(await connection.fetch(_GRADES, tenant_id, list({school.id for school in settled.values()})))
    good = given.list_good_rows()
    people = await find_pupils(connection, caller, tenant_id, given, settled)
    numbered = [
        (at, entry, key)
        async for part in iterate_in_slices(good)
        for at, entry in part
        if (key := resolve_entry(given, numbers, finder, settled[at], at, entry)) is not None
    ]
    rows = await given.reject_duplicates(
        [(at, entry, (people[at], *key)) for at, entry, key in numbered if at in people],
        lambda row: (row[0], row[2][:6]),
        "pupil, subject, horizon and basis",
    )
    given.refuse_if_strict()
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock({school.id for school in settled.values()}, {key[0] for _, _, key in rows})
    changed, now = await compare_with_stored(connection, caller, tenant_id, given, rows)
    given.refuse_if_strict()
    if changed:
        await write_targets(connection, caller, tenant_id, changed, now)
        await locks.increment_versions()
    return given.summarise()


def resolve_entry(
    batch: Batch[Any, Any], numbers: dict[Any, int], finder: TargetGrades, school: SchoolInReach, at: int, entry: TargetEntry
) -> tuple[Any, ...] | None:
    """(subject, aspect, horizon year, point, basis, scheme version, grade), or None after rejecting the row with every issue."""
    before = len(batch.issues)
    year = 0
    try:
        year = years.parse_academic_year(entry.horizon.academic_year)
    except ValueError as problem:
        batch.reject(at, "horizon/academicYear", "academic-year-invalid", str(problem))
    for kind, code in (("subject", entry.subject), ("aspect", entry.aspect)):
        if (kind, code) not in numbers:
            known = ", ".join(c for k, c in numbers if k == kind)
            batch.reject(at, kind, f"{kind}-unknown", f"This tenant has no such {kind}. It has: {known}.")
    if len(batch.issues) > before:
        return None
    subject_no = numbers["subject", entry.subject]
    grade = finder.find(batch, at, entry, school.id, subject_no)
    return grade and (subject_no, numbers["aspect", entry.aspect], year, entry.horizon.point, entry.basis, *grade)


Keyed = tuple[int, TargetEntry, tuple[Any, ...]]


_STORED = f"""
SELECT (SELECT clock_timestamp()) AS now, g.n, p.school_id, t.id, t.scheme_version_no, t.grade_no, t.visibility, t.recorded_at, t.version, t.locked_at
FROM unnest($2::uuid[], $3::smallint[], $4::smallint[], $5::smallint[], $6::text[], $7::text[])
    WITH ORDINALITY AS g (pupil_id, subject_no, aspect_no, horizon_year, horizon_point, basis, n)
JOIN pupils p ON p.tenant_id = $1 AND p.id = g.pupil_id AND {reaches_pupil_sql("$8", "p", "id")}
LEFT JOIN targets t ON t.tenant_id = $1 AND t.pupil_id = g.pupil_id AND t.subject_no = g.subject_no AND t.aspect_no = g.aspect_no
    AND t.horizon_year = g.horizon_year AND t.horizon_point = g.horizon_point AND t.basis = g.basis
"""
_COLUMNS = ", ".join((*targets.columns.keys(), "xid"))
_HISTORY = f"""
INSERT INTO target_history ({_COLUMNS}, until)
SELECT {_COLUMNS}, GREATEST($3, received_at) FROM targets WHERE tenant_id = $1 AND id = ANY ($2)
"""
_WRITE = """
INSERT INTO targets AS t (tenant_id, client_id, received_at, id, school_id, pupil_id, subject_no, aspect_no, horizon_year, horizon_point, basis,
    scheme_version_no, grade_no, visibility, recorded_at, actor)
SELECT $1, $2, $3, * FROM unnest($4::uuid[], $5::uuid[], $6::uuid[], $7::smallint[], $8::smallint[], $9::smallint[], $10::text[], $11::text[],
    $12::smallint[], $13::smallint[], $14::text[], $15::timestamptz[], $16::text[])
ON CONFLICT (tenant_id, pupil_id, subject_no, aspect_no, horizon_year, horizon_point, basis) DO UPDATE SET
    scheme_version_no = excluded.scheme_version_no, grade_no = excluded.grade_no, visibility = excluded.visibility, recorded_at = excluded.recorded_at,
    received_at = GREATEST(excluded.received_at, t.received_at), client_id = excluded.client_id, actor = excluded.actor,
    version = t.version + 1, xid = pg_current_xact_id()
"""


async def compare_with_stored(
    connection: Connection, caller: Caller, tenant_id: UUID, batch: Batch[Any, Any], rows: list[Keyed]
) -> tuple[list[tuple[Any, ...]], Any]:
    """The rows of columns that change something, after noting the outcome of each entry; and the database's time, taken after the locks. A target
    without recordedAt stands from its commit on: the later commit wins, whatever the clock says."""
    by_n = dict(enumerate(rows, 1))
    changed: list[tuple[Any, ...]] = []
    now: datetime | None = None
    conflicts: list[ConflictingRow] = []
    keys = transpose([key[:6] for _, _, key in rows], 6)
    async for part in iterate_in_slices(await connection.fetch(_STORED, tenant_id, *keys, caller.client_id)):
        for stored in part:
            at, entry, key = by_n.pop(stored["n"])
            exists, now = stored["id"] is not None, stored["now"]
            recorded_at = (
                max(now, stored["recorded_at"] or now) if entry.recorded_at is UNSET else entry.recorded_at.astimezone(UTC)
            )
            if exists and (*key[6:], entry.visibility) == (stored["scheme_version_no"], stored["grade_no"], stored["visibility"]):
                batch.record_outcome(at, "unchanged", stored["id"], stored["version"])
            elif entry.expected_version not in (UNSET, stored["version"] or 0):
                current = Current(stored["version"] or 0, recorded_at=stored["recorded_at"])
                conflicts.append(ConflictingRow(at, key[0], stored["scheme_version_no"], stored["grade_no"], current))
            elif exists and recorded_at < stored["recorded_at"]:
                batch.record_outcome(at, "superseded", stored["id"], stored["version"])
            elif stored["locked_at"] is not None:
                batch.reject(at, "", "target-locked", "This target is locked and takes no changes.")
            else:
                target_id = stored["id"] if exists else new_id(TARGET)
                batch.record_outcome(at, "updated" if exists else "created", target_id, stored["version"] + 1 if exists else 1)
                changed.append((target_id, stored["school_id"], *key, entry.visibility, recorded_at, entry.actor))
    for at, _, _ in by_n.values():
        batch.reject(at, "", "pupil-not-found", "The pupil's main school is not within the reach of this client.")
    await reject_conflicts(connection, caller, Scope.TARGETS_READ, tenant_id, batch, conflicts)
    return changed, now


async def write_targets(
    connection: Connection, caller: Caller, tenant_id: UUID, rows: list[tuple[Any, ...]], now: datetime
) -> None:
    """The changed targets, and into history what they replace."""
    for part in split_into_parts(rows):
        written = transpose(part, len(part[0]))
        await connection.execute(_HISTORY, tenant_id, written[0], now)
        await connection.execute(_WRITE, tenant_id, caller.client_id, now, *written)
