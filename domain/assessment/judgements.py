"""Judgements: one value per pupil, subject, aspect and window, entered once. Sending it again changes nothing and says so."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import Column, ColumnElement, DateTime, Integer, Numeric, SmallInteger, Table, Text, Uuid, case, cast, select

from domain.assessment.grading import Gradebook, read_gradebook
from domain.assessment.schemes import of_grade, scheme_grades
from domain.assessment.subjects import aspects, code_of, subjects
from domain.assessment.targets import targets
from domain.assessment.windows import windows
from domain.engine.access import Caller, Scope, by_pupil
from domain.engine.command import Batch, Input, Instant, Recorded, command
from domain.engine.command import Text as ShortText
from domain.engine.counting import Counting
from domain.engine.database import Connection, columns, metadata
from domain.engine.errors import Invalid, Issue, NotFound, invalid
from domain.engine.ids import parse_id
from domain.engine.resource import Field, Filter, Link, Picked, Resource
from domain.roster.pupils import PupilNamed, find_pupils, pupils, settle_schools
from domain.roster.schools import Reached, SchoolRef, schools
from domain.roster.years import academic_year_text

AHEAD = timedelta(minutes=5)

judgements = Table(
    "judgements",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("academic_year", SmallInteger, primary_key=True),
    Column("pupil_id", Uuid, primary_key=True),
    Column("window_no", SmallInteger, primary_key=True),
    Column("subject_no", SmallInteger, primary_key=True),
    Column("aspect_no", SmallInteger, primary_key=True),
    Column("school_id", Uuid, nullable=False),
    Column("scheme_version_no", SmallInteger, nullable=False),
    Column("grade_no", SmallInteger),
    Column("mark", Numeric(8, 2)),
    Column("status_code", Text),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("recorded_at_school_id", Uuid, nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("actor", Text),
    Column("source", Text),
    Column("method", Text),
    Column("version", Integer, nullable=False),
)
j = judgements.c


def judgement_id(pupil_id: Any, window_no: Any, subject_no: Any, aspect_no: Any) -> Any:
    """The public id encodes the natural key, in SQL as in Python."""
    return cast(pupil_id, Text) + "." + cast(window_no, Text) + "." + cast(subject_no, Text) + "." + cast(aspect_no, Text)


def identified_by(given: str) -> Picked | None:
    pupil, *numbers = given.split(".")
    pupil_id = parse_id(pupil)
    if (
        pupil_id is None
        or len(numbers) != 3
        or not all(n.isascii() and n.isdigit() and len(n) < 5 and str(int(n)) == n for n in numbers)
    ):
        return None
    window_no, subject_no, aspect_no = map(int, numbers)
    return ((j.pupil_id, pupil_id), (j.window_no, window_no), (j.subject_no, subject_no), (j.aspect_no, aspect_no))


def _against_target() -> ColumnElement[Any]:
    """By rank within one scheme version, against the target with the nearest horizon from the judgement's year on."""
    t, aimed = targets.alias(), scheme_grades.alias()
    same = (
        (t.c.tenant_id == j.tenant_id)
        & (t.c.pupil_id == j.pupil_id)
        & (t.c.subject_no == j.subject_no)
        & (t.c.aspect_no == j.aspect_no)
    )
    comparable = (t.c.scheme_version_no == j.scheme_version_no) & (t.c.horizon_year >= j.academic_year)
    grade = (
        (aimed.c.tenant_id == t.c.tenant_id) & (aimed.c.scheme_version_no == t.c.scheme_version_no) & (aimed.c.no == t.c.grade_no)
    )
    rank = of_grade(j, "rank")
    verdict = case((rank > aimed.c.rank, "above"), (rank == aimed.c.rank, "on"), (rank < aimed.c.rank, "below"))
    nearest = (
        select(verdict)
        .select_from(t.join(aimed, grade))
        .where(same, comparable)
        .order_by(t.c.horizon_year, t.c.horizon_point, t.c.id)
        .limit(1)
    )
    return nearest.correlate_except(t, aimed).scalar_subquery()


JUDGEMENTS = Resource(
    name="judgement",
    plural="judgements",
    doc="What was judged of a pupil in a subject and window.",
    source=judgements,
    scope=Scope.JUDGEMENTS_READ,
    order=("tenant_id", "academic_year", "pupil_id", "window_no", "subject_no", "aspect_no"),
    reach=by_pupil(j.tenant_id, j.school_id, j.pupil_id),
    identified_by=identified_by,
    fields={
        "id": Field(
            judgement_id(j.pupil_id, j.window_no, j.subject_no, j.aspect_no),
            "Stable id; it stands for the natural key.",
            nullable=False,
        ),
        "academicYear": Field(academic_year_text(j.academic_year), "Academic year, such as 2017-18.", nullable=False),
        "pupilId": Field(j.pupil_id, "The pupil's id."),
        "schoolId": Field(j.school_id, "The pupil's school of main registration today."),
        "windowCode": Field(code_of(windows, j.tenant_id, j.window_no), "The window's code."),
        "subjectCode": Field(code_of(subjects, j.tenant_id, j.subject_no), "The subject's code."),
        "aspect": Field(
            code_of(aspects, j.tenant_id, j.aspect_no),
            "main unless said otherwise: a test score, a teacher's judgement and effort can stand side by side.",
        ),
        "grade": Field(of_grade(j, "code"), "The grade as written; null where a status says why there is none."),
        "expected": Field(of_grade(j, "expected"), "Whether the grade meets the expected standard."),
        "higher": Field(of_grade(j, "higher"), "Whether the grade meets the higher standard."),
        "mark": Field(j.mark, "The mark behind the grade, where there is one."),
        "status": Field(j.status_code, "Why there is no grade: absent, new, left, notTaught or exempt."),
        "againstTarget": Field(
            _against_target(),
            "above, on or below the pupil's target, by rank within one scheme.",
            scope=Scope.TARGETS_READ,
            filter=Filter.NOWHERE,
            sortable=False,
        ),
        "recordedAt": Field(j.recorded_at, "When the teacher judged."),
        "receivedAt": Field(j.received_at, "When it arrived here."),
        "actor": Field(j.actor, "Who judged, as the vendor names them.", filter=Filter.NOWHERE),
        "source": Field(j.source, "Where it was entered."),
        "method": Field(j.method, "How it was judged."),
        "version": Field(j.version, "Grows by one with each change.", filter=Filter.NOWHERE),
    },
    links={
        "pupil": Link(
            "pupil",
            ((j.tenant_id, pupils.c.tenant_id), (j.pupil_id, pupils.c.id)),
            "The pupil.",
            reverse="judgements",
            reverse_doc="Judgements.",
        ),
        "window": Link(
            "window",
            ((j.tenant_id, windows.c.tenant_id), (j.window_no, windows.c.no)),
            "The window.",
            reverse="judgements",
            reverse_doc="Values.",
        ),
        "subject": Link("subject", ((j.tenant_id, subjects.c.tenant_id), (j.subject_no, subjects.c.no)), "The subject."),
        "school": Link("school", ((j.school_id, schools.c.id),), "The pupil's school of main registration."),
    },
)

STATUSES = ("absent", "new", "left", "notTaught", "exempt")


class JudgementEntry(PupilNamed, kw_only=True):
    """A judgement. grade, or a status that says why there is none, so that a missing value is never a zero."""

    subject: ShortText
    aspect: ShortText = "main"
    window: ShortText | UnsetType = UNSET
    grade: Annotated[str, Meta(min_length=1, max_length=20)] | int | None = None
    mark: Annotated[float, Meta(ge=-99_999, le=99_999)] | None = None
    status: str | None = None
    recorded_at: Instant | UnsetType = UNSET
    actor: ShortText | None = None
    source: ShortText | None = None
    method: ShortText | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.grade is None) == (self.status is None):
            raise ValueError("Give either a grade or the status that says why there is none")
        if self.status is not None and self.status not in STATUSES:
            raise ValueError(f"status is one of {', '.join(STATUSES)}")


class JudgementBatch(Input, kw_only=True):
    """Judgements of one school, or of several of one trust; window by id or code."""

    school: SchoolRef | UnsetType = UNSET
    window: ShortText | UnsetType = UNSET
    entries: list[JudgementEntry]


@dataclass
class Row:
    """An entry with everything it names resolved to the tenant's small numbers."""

    at: int
    entry: JudgementEntry
    school: Reached
    pupil_id: UUID
    window: Any
    subject_no: int
    aspect_no: int
    scheme_version_no: int
    grade_no: int | None
    recorded_at: datetime
    stored: Any = None

    @property
    def key(self) -> tuple[Any, ...]:
        return (self.window["academic_year"], self.pupil_id, self.window["no"], self.subject_no, self.aspect_no)

    @property
    def value(self) -> tuple[Any, ...]:
        mark = None if self.entry.mark is None else Decimal(str(self.entry.mark)).quantize(Decimal("0.01"))
        return (self.scheme_version_no, self.grade_no, mark, self.entry.status)


@command(scope=Scope.JUDGEMENTS_WRITE, fails=(Invalid, NotFound))
async def record_judgements(connection: Connection, caller: Caller, given: Batch[JudgementBatch, JudgementEntry]) -> Recorded:
    """Record a batch of judgements. The same batch twice changes nothing."""
    settled = await settle_schools(connection, caller, Scope.JUDGEMENTS_WRITE, given)
    if not settled:
        given.check()
        return given.recorded()
    tenant_id = next(iter(settled.values())).tenant_id
    codes = {given.head.window, *(entry.window for _, entry in given.rows)} - {UNSET}
    book = await read_gradebook(connection, tenant_id, {str(code) for code in codes})
    if given.head.window is not UNSET and given.head.window not in book.windows:
        raise invalid([Issue("/window", "window-unknown", "This tenant has no such window.")])
    now: datetime = await connection.fetchval("SELECT clock_timestamp()")
    good = given.good()
    people = await find_pupils(connection, caller, tenant_id, given, settled)
    numbered = [
        (at, entry, found) for at, entry in good if (found := resolved(given, book, settled[at], at, entry, now)) is not None
    ]
    rows = given.once(
        [Row(at, entry, settled[at], people[at], *found) for at, entry, found in numbered if at in people],
        lambda row: (row.at, row.key),
        "pupil, subject, aspect and window",
    )
    given.check()
    counting = Counting(connection, tenant_id)
    await counting.lock({row.school.id for row in rows}, {row.pupil_id for row in rows})
    changed = await compared(connection, tenant_id, given, rows)
    given.check()
    if changed:
        async with counting.of_pupils({row.pupil_id for row in changed}, {row.window["no"] for row in changed}):
            await write(connection, caller, tenant_id, changed, now)
    return given.recorded()


def _window(batch: Batch[Any, Any], entry: JudgementEntry) -> str | UnsetType:
    return entry.window if entry.window is not UNSET else batch.head.window


def resolved(
    batch: Batch[Any, Any], book: Gradebook, school: Reached, at: int, entry: JudgementEntry, now: datetime
) -> tuple[Any, ...] | None:
    """The entry's window, subject, aspect, scheme version, grade and time, or None after rejecting it with every issue."""
    before = len(batch.issues)
    code = _window(batch, entry)
    window = None if code is UNSET else book.windows.get(str(code))
    if window is None:
        message = (
            "Name the window by its code or id, in the entry or in the batch."
            if code is UNSET
            else "This tenant has no such window."
        )
        batch.reject(at, "window", "window-unknown", message)
    recorded_at = now if entry.recorded_at is UNSET else entry.recorded_at.astimezone(UTC)
    if recorded_at > now + AHEAD:
        batch.reject(at, "recordedAt", "recorded-in-future", "recordedAt lies more than 5 minutes ahead of the server's clock.")
    subject_no, aspect_no = book.subjects.get(entry.subject), book.aspects.get(entry.aspect)
    if subject_no is None:
        batch.reject(at, "subject", "subject-unknown", f"This tenant has no such subject. It has: {', '.join(book.subjects)}.")
    if aspect_no is None:
        batch.reject(at, "aspect", "aspect-unknown", f"This tenant has no such aspect. It has: {', '.join(book.aspects)}.")
    if window is None or subject_no is None or aspect_no is None or len(batch.issues) > before:
        return None
    if window["state"] == "planned":
        batch.reject(at, "window", "window-not-open", "The window is planned and not open yet.")
        return None
    version_no = book.pins.get((window["no"], school.id, subject_no, aspect_no))
    if version_no is None:
        batch.reject(at, "subject", "not-collected", f"The window does not collect this subject and aspect from {school.name}.")
        return None
    grade_no = None
    if entry.grade is not None:
        grade_no = book.grades.get((version_no, str(entry.grade)))
        if grade_no is None:
            batch.reject(at, "grade", "grade-unknown", book.unknown_grade(version_no, str(entry.grade)))
            return None
    return window, subject_no, aspect_no, version_no, grade_no, recorded_at


_STORED = """
SELECT g.n, p.school_id AS main_school_id, w.state, w.closes_at, w.accept_until, w.accept_until >= now() AS accepts,
    j.scheme_version_no, j.grade_no, j.mark, j.status_code, j.recorded_at, j.version, j.recorded_at_school_id
FROM unnest($2::smallint[], $3::uuid[], $4::smallint[], $5::smallint[], $6::smallint[])
    WITH ORDINALITY AS g (year, pupil_id, window_no, subject_no, aspect_no, n)
JOIN windows w ON w.tenant_id = $1 AND w.no = g.window_no
CROSS JOIN LATERAL (SELECT school_id FROM pupils WHERE tenant_id = $1 AND id = g.pupil_id LIMIT 1) p
LEFT JOIN LATERAL (
    SELECT * FROM judgements WHERE tenant_id = $1 AND academic_year = g.year AND pupil_id = g.pupil_id
        AND window_no = g.window_no AND subject_no = g.subject_no AND aspect_no = g.aspect_no LIMIT 1
) j ON true
"""


async def compared(connection: Connection, tenant_id: UUID, batch: Batch[Any, Any], rows: list[Row]) -> list[Row]:
    """The rows that change something, after noting the outcome of each; rejects a change in a window that no longer takes it.

    A value confirmed at a later instant is unchanged, and stands from then on against anything recorded before.
    """
    by_n = dict(enumerate(rows, 1))
    changed: list[Row] = []
    confirmed: list[tuple[Any, ...]] = []
    for stored in await connection.fetch(_STORED, tenant_id, *columns([row.key for row in rows], 5)):
        row = by_n.pop(stored["n"])
        row.stored = stored
        exists = stored["version"] is not None
        public_id = ".".join(map(str, (row.pupil_id, row.window["no"], row.subject_no, row.aspect_no)))
        late = stored["accepts"] and row.recorded_at <= stored["closes_at"]
        if exists and row.value == (stored["scheme_version_no"], stored["grade_no"], stored["mark"], stored["status_code"]):
            batch.note(row.at, "unchanged", public_id, stored["version"])
            if row.entry.recorded_at is not UNSET and row.recorded_at > stored["recorded_at"] and stored["state"] == "open":
                confirmed.append((*row.key, row.recorded_at))
        elif exists and row.recorded_at < stored["recorded_at"]:
            batch.note(row.at, "superseded", public_id, stored["version"])
        elif exists and stored["recorded_at_school_id"] == stored["main_school_id"] != row.school.id:
            batch.reject(
                row.at,
                "",
                "recorded-by-main-school",
                "The pupil's main school has recorded this; a second school cannot replace it.",
            )
        elif stored["state"] == "locked" or (stored["state"] == "closed" and not late):
            batch.reject(row.at, "window", "window-closed", f"The window is {stored['state']} and takes no changes.")
        else:
            batch.note(row.at, "updated" if exists else "created", public_id, stored["version"] + 1 if exists else 1)
            changed.append(row)
    for row in by_n.values():
        batch.reject(row.at, "", "pupil-not-found", "The pupil's main school is not within the reach of this client.")
    if confirmed:
        await connection.execute(_CONFIRM, tenant_id, *columns(confirmed, 6))
    return changed


_CONFIRM = """
UPDATE judgements j SET recorded_at = g.recorded_at
FROM unnest($2::smallint[], $3::uuid[], $4::smallint[], $5::smallint[], $6::smallint[], $7::timestamptz[])
    AS g (year, pupil_id, window_no, subject_no, aspect_no, recorded_at)
WHERE j.tenant_id = $1 AND j.academic_year = g.year AND j.pupil_id = g.pupil_id AND j.window_no = g.window_no
    AND j.subject_no = g.subject_no AND j.aspect_no = g.aspect_no
"""
_HISTORY = """
INSERT INTO judgement_history SELECT j.*, now() FROM judgements j
JOIN unnest($2::smallint[], $3::uuid[], $4::smallint[], $5::smallint[], $6::smallint[]) AS g (year, pupil_id, window_no, subject_no, aspect_no)
    ON j.academic_year = g.year AND j.pupil_id = g.pupil_id AND j.window_no = g.window_no AND j.subject_no = g.subject_no AND j.aspect_no = g.aspect_no
WHERE j.tenant_id = $1
"""
_WRITE = """
INSERT INTO judgements AS j (tenant_id, client_id, received_at, academic_year, pupil_id, window_no, subject_no, aspect_no, school_id, recorded_at_school_id,
    scheme_version_no, grade_no, mark, status_code, recorded_at, actor, source, method)
SELECT $1, $2, $3, * FROM unnest($4::smallint[], $5::uuid[], $6::smallint[], $7::smallint[], $8::smallint[], $9::uuid[], $10::uuid[],
    $11::smallint[], $12::smallint[], $13::numeric[], $14::text[], $15::timestamptz[], $16::text[], $17::text[], $18::text[])
ON CONFLICT (tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no) DO UPDATE SET
    scheme_version_no = excluded.scheme_version_no, grade_no = excluded.grade_no, mark = excluded.mark, status_code = excluded.status_code,
    recorded_at = excluded.recorded_at, received_at = excluded.received_at, recorded_at_school_id = excluded.recorded_at_school_id,
    client_id = excluded.client_id, actor = excluded.actor, source = excluded.source, method = excluded.method,
    version = j.version + 1, xid = pg_current_xact_id()
"""


async def write(connection: Connection, caller: Caller, tenant_id: UUID, rows: list[Row], now: datetime) -> None:
    """The changed rows, and into history what they replace. Two statements at most."""
    replaced = [row.key for row in rows if row.stored["version"] is not None]
    if replaced:
        await connection.execute(_HISTORY, tenant_id, *columns(replaced, 5))
    written = [
        (*r.key, r.stored["main_school_id"], r.school.id, *r.value, r.recorded_at, r.entry.actor, r.entry.source, r.entry.method)
        for r in rows
    ]
    await connection.execute(_WRITE, tenant_id, caller.client_id, now, *columns(written, 15))
