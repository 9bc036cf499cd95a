"""Assessment windows: what is collected, when, from whom, and why. `state` decides what is accepted; a scheme version is pinned when a window opens."""

from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta
from sqlalchemy import (
    ARRAY,
    Boolean,
    Column,
    Date,
    DateTime,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)

from domain.access.caller import Caller
from domain.access.reach import reaches_sql, rows_of_tenant
from domain.assessment.tenant_setup import prepare_tenant
from domain.declare.errors import Conflict, Invalid, Issue, NotFound, make_invalid
from domain.declare.ids import new_id, parse_id
from domain.declare.inputs import Input, Instant, LongText, Output
from domain.declare.inputs import Text as ShortText
from domain.declare.resource import Field, Resource
from domain.declare.scopes import Scope
from domain.roster import years
from domain.roster.schools import SchoolRef, find_schools, make_school_issue
from domain.roster.tenant_ref import TenantRef, find_tenant
from domain.store.database import Connection, transpose
from domain.store.metadata import metadata
from domain.write import aggregates
from domain.write.command import command
from domain.write.locks import SchoolLocks

WINDOW = 8

windows = Table(
    "windows",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("no", SmallInteger, nullable=False),
    Column("code", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("academic_year", SmallInteger, nullable=False),
    Column("census_on", Date, nullable=False),
    Column("opens_at", DateTime(timezone=True), nullable=False),
    Column("closes_at", DateTime(timezone=True), nullable=False),
    Column("accept_until", DateTime(timezone=True)),
    Column("closed_at", DateTime(timezone=True)),
    Column("state", Text, nullable=False),
    Column("statutory", Boolean, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("decision", Text, nullable=False),
    Column("year_groups", ARRAY(Text), nullable=False),
    Column("published_at", DateTime(timezone=True)),
    Column("version", Integer, nullable=False),
    UniqueConstraint("tenant_id", "no"),
    UniqueConstraint("tenant_id", "code"),
    Index("windows_by_id", "id"),
)


pins = Table(
    "pins",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("window_no", SmallInteger, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    Column("subject_no", SmallInteger, primary_key=True),
    Column("aspect_no", SmallInteger, primary_key=True),
    Column("scheme_version_no", SmallInteger, nullable=False),
    comment="The scheme version of each school, subject and aspect, fixed when the window opened",
)

WINDOWS = Resource(
    name="window",
    plural="windows",
    doc="An assessment window of a trust or school.",
    source=windows,
    type_number=WINDOW,
    scope=Scope.WINDOWS_READ,
    order=("tenant_id", "id"),
    reach=rows_of_tenant(windows.c.tenant_id),
    is_lookup_table=True,
    fields={
        "id": Field(windows.c.id, "Stable id."),
        "code": Field(windows.c.code, "Code, unique in the tenant, such as 2017-18/KS2."),
        "name": Field(windows.c.name, "Name."),
        "academicYear": Field(years.academic_year_text(windows.c.academic_year), "Academic year, such as 2017-18.", nullable=False),
        "censusOn": Field(
            windows.c.census_on, "Who is on roll on this day is eligible, with the school, trust and characteristics of this day."
        ),
        "opensAt": Field(windows.c.opens_at, "When it is meant to open."),
        "closesAt": Field(windows.c.closes_at, "When it is meant to close."),
        "acceptUntil": Field(windows.c.accept_until, "Values recorded before it closed are taken until then."),
        "closedAt": Field(windows.c.closed_at, "When it was closed; null while it is not."),
        "state": Field(windows.c.state, "planned, open, closed or locked; this decides what is accepted."),
        "statutory": Field(windows.c.statutory, "Whether the collection is required by law."),
        "purpose": Field(windows.c.purpose, "What the values are for."),
        "decision": Field(windows.c.decision, "The decision they inform."),
        "yearGroups": Field(windows.c.year_groups, "National curriculum years it collects."),
        "publishedAt": Field(windows.c.published_at, "When its results were published."),
        "version": Field(windows.c.version, "Grows by one with each change."),
    },
)


class Collect(Input, kw_only=True):
    """A subject (and aspect) to be judged, the scheme to judge it in, and by which schools: null means all that have no line of their own."""

    subject: ShortText
    scheme: ShortText
    aspect: ShortText = "main"
    schools: Annotated[list[SchoolRef], Meta(min_length=1, max_length=200)] | None = None


class FrequencyReasons(Input, kw_only=True):
    """What inspectors ask of a school that collects more often: the three reasons a window beyond the workload budget must carry."""

    actions: LongText
    time_to_set_and_analyse: LongText
    time_to_act: LongText


class NewWindow(Input, kw_only=True):
    """A window, planned until it is opened. purpose and decision are what justifies the collection."""

    tenant: TenantRef
    code: Annotated[str, Meta(min_length=1, max_length=50, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ./_-]*$")]
    name: ShortText
    academic_year: str
    census_on: date
    opens_at: Instant
    closes_at: Instant
    accept_until: Instant | None = None
    statutory: bool = False
    purpose: LongText
    decision: LongText
    year_groups: Annotated[list[str], Meta(min_length=1, max_length=20)]
    collects: Annotated[list[Collect], Meta(min_length=1, max_length=200)]
    frequency_reasons: FrequencyReasons | None = None


class WindowRef(Input, kw_only=True):
    """A window by its id."""

    id: str


class WindowNow(Output, kw_only=True):
    """A window and the state it is in now."""

    id: str
    code: str
    state: str
    version: int


@dataclass(frozen=True)
class WindowTerms:
    """What is checked of a window that is, as of one that is to be made."""

    academic_year: str
    census_on: date
    opens_at: datetime
    closes_at: datetime
    accept_until: datetime | None
    year_groups: list[str]


@command(scope=Scope.WINDOWS_WRITE, fails=(Invalid, Conflict))
async def create_window(connection: Connection, caller: Caller, given: NewWindow) -> WindowNow:
    """Plan a window for a trust or school. It accepts nothing until it is opened."""
    tenant_id = await find_tenant(connection, caller, Scope.WINDOWS_WRITE, given.tenant, "/tenant")
    await prepare_tenant(connection, tenant_id)
    year, year_groups, issues = check_window(given)
    if year is not None and not await connection.fetchval("SELECT 1 FROM academic_years WHERE year = $1", year):
        issues.append(
            Issue(
                "/academicYear",
                "academic-year-not-prepared",
                "This academic year is not prepared for; the operator's `migrate` adds years.",
            )
        )
    lines = await resolve_lines(connection, caller, tenant_id, given, issues)
    if issues:
        raise make_invalid(issues)
    if not given.statutory and given.frequency_reasons is None:
        await check_size(connection, tenant_id, year, year_groups, "/frequencyReasons")
    if await connection.fetchval("SELECT 1 FROM windows WHERE tenant_id = $1 AND code = $2", tenant_id, given.code):
        raise Conflict(
            "A window with this code exists.",
            code="window-exists",
            issues=(Issue("/code", "window-exists", "A window with this code exists."),),
        )
    reasons = None if given.frequency_reasons is None else msgspec.json.encode(given.frequency_reasons).decode()
    row = await connection.fetchrow(
        "INSERT INTO windows (tenant_id, id, no, code, name, academic_year, census_on, opens_at, closes_at, accept_until, statutory, purpose, decision,"
        " frequency_reasons, year_groups) SELECT $1, $2, COALESCE(max(no), 0) + 1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13::jsonb, $14"
        " FROM windows WHERE tenant_id = $1 RETURNING id, no, code, state, version",
        *(
            tenant_id,
            new_id(WINDOW),
            given.code,
            given.name,
            year,
            given.census_on,
            given.opens_at,
            given.closes_at,
            given.accept_until,
        ),
        *(given.statutory, given.purpose, given.decision, reasons, year_groups),
    )
    assert row is not None
    await connection.execute(
        "INSERT INTO collects (tenant_id, window_no, subject_no, aspect_no, school_id, scheme_id)"
        " SELECT $1, $2, * FROM unnest($3::smallint[], $4::smallint[], $5::uuid[], $6::uuid[])",
        *(tenant_id, row["no"], *transpose(lines, 4)),
    )
    return _read_window(row)


def check_window(given: NewWindow | WindowTerms) -> tuple[int | None, list[str], list[Issue]]:
    """The first calendar year of the academic year, the canonical year groups, and what is wrong."""
    issues: list[Issue] = []
    year = None
    try:
        year = years.parse_academic_year(given.academic_year)
        first, last = years.academic_year_range(year)
        if not first <= given.census_on <= last:
            issues.append(Issue("/censusOn", "outside-academic-year", "The census date lies outside the academic year."))
    except ValueError as problem:
        issues.append(Issue("/academicYear", "academic-year-invalid", str(problem)))
    year_groups: list[str] = []
    for i, text in enumerate(given.year_groups):
        try:
            year_groups.append(years.parse_year_group(text))
        except ValueError as problem:
            issues.append(Issue(f"/yearGroups/{i}", "year-group-invalid", str(problem)))
    if given.closes_at <= given.opens_at:
        issues.append(Issue("/closesAt", "closes-before-opening", "A window closes after it opens."))
    if given.accept_until is not None and given.accept_until < given.closes_at:
        issues.append(Issue("/acceptUntil", "accepts-before-closing", "acceptUntil lies at or after closesAt."))
    return year, list(dict.fromkeys(year_groups)), issues


CollectedLine = tuple[int, int, UUID, UUID]


async def resolve_lines(
    connection: Connection, caller: Caller, tenant_id: UUID, given: NewWindow, issues: list[Issue]
) -> list[CollectedLine]:
    """The lines (subject no, aspect no, school or tenant, scheme), adding an issue for everything that cannot be resolved."""
    subjects = {
        r["code"]: r
        for r in await connection.fetch("SELECT code, no, derived FROM subjects WHERE tenant_id = $1 ORDER BY no", tenant_id)
    }
    aspects = {
        r["code"]: r["no"]
        for r in await connection.fetch("SELECT code, no FROM aspects WHERE tenant_id = $1 ORDER BY no", tenant_id)
    }
    schemes = {
        r["code"]: r
        for r in await connection.fetch("SELECT code, id, derived FROM schemes WHERE tenant_id = $1 ORDER BY code", tenant_id)
    }
    refs = [(i, j, ref) for i, line in enumerate(given.collects) for j, ref in enumerate(line.schools or [])]
    found = {
        (i, j): s
        for (i, j, _), s in zip(
            refs, await find_schools(connection, caller, Scope.WINDOWS_WRITE, [r for *_, r in refs]), strict=True
        )
    }
    lines: dict[tuple[int, int, UUID], UUID] = {}
    for i, line in enumerate(given.collects):
        at, before = f"/collects/{i}", len(issues)
        for name, code, known in (("subject", line.subject, subjects), ("scheme", line.scheme, schemes)):
            if code not in known:
                issues.append(
                    Issue(f"{at}/{name}", f"{name}-unknown", f"This tenant has no such {name}. It has: {', '.join(known)}.")
                )
            elif known[code]["derived"]:
                issues.append(
                    Issue(f"{at}/{name}", f"{name}-derived", f"This {name} is computed from others and cannot be collected.")
                )
        if line.aspect not in aspects:
            issues.append(Issue(f"{at}/aspect", "aspect-unknown", f"This tenant has no such aspect. It has: {', '.join(aspects)}."))
        school_ids: list[UUID] = [tenant_id] if line.schools is None else []
        for j in range(len(line.schools or [])):
            school = found[i, j]
            if school is None or school.tenant_id != tenant_id:
                issues.append(make_school_issue(f"{at}/schools/{j}", Scope.WINDOWS_WRITE))
            else:
                school_ids.append(school.id)
        if len(issues) > before:
            continue
        for school_id in school_ids:
            key = (subjects[line.subject]["no"], aspects[line.aspect], school_id)
            if key in lines:
                issues.append(Issue(at, "collected-twice", "This subject and aspect is collected twice for the same school."))
            lines[key] = schemes[line.scheme]["id"]
    return [(*key, scheme_id) for key, scheme_id in lines.items()]


async def check_size(
    connection: Connection, tenant_id: UUID, year: int | None, year_groups: list[str], at: str, beside: int = 0
) -> None:
    """Raises Conflict, at this place, for a window beyond the tenant's workload budget; `beside` is its own no, where it has one. Statutory windows
    do not count, and one that gives the three reasons may go beyond.

    Source: the Department for Education's workload reduction toolkit and the inspectorate's handbook on frequency of data collection.
    """
    row = await connection.fetchrow(
        "SELECT t.workload_budget AS budget, (SELECT COALESCE(max(n), 0) FROM (SELECT count(*) AS n FROM windows w, unnest(w.year_groups) y"
        " WHERE w.tenant_id = t.id AND w.academic_year = $2 AND NOT w.statutory AND w.no <> $4 AND y = ANY ($3) GROUP BY y) x) AS used"
        " FROM tenants t WHERE t.id = $1",
        *(tenant_id, year, year_groups, beside),
    )
    if row is not None and row["used"] >= row["budget"]:
        message = f"Pupils would be assessed in more than {row['budget']} windows this year. Give frequencyReasons, all three, or choose fewer windows."
        raise Conflict(message, code="workload-budget-exceeded", issues=(Issue(at, "workload-budget-exceeded", message),))


_PIN = """
INSERT INTO pins (tenant_id, window_no, school_id, subject_no, aspect_no, scheme_version_no)
SELECT DISTINCT ON (s.id, c.subject_no, c.aspect_no) $1, $2, s.id, c.subject_no, c.aspect_no, v.no
FROM collects c
JOIN schools s ON s.tenant_id = $1 AND c.school_id IN (s.id, $1)
JOIN LATERAL (SELECT no FROM scheme_versions v WHERE v.tenant_id = $1 AND v.scheme_id = c.scheme_id ORDER BY version DESC LIMIT 1) v ON true
WHERE c.tenant_id = $1 AND c.window_no = $2
ORDER BY s.id, c.subject_no, c.aspect_no, c.school_id = s.id DESC
ON CONFLICT DO NOTHING
"""


@command(scope=Scope.WINDOWS_WRITE, fails=(NotFound, Conflict))
async def open_window(connection: Connection, caller: Caller, given: WindowRef) -> WindowNow:
    """Open a planned window: pin each school's scheme versions and count who is eligible."""
    return await _set_state(connection, caller, given, ("planned",), "open")


@command(scope=Scope.WINDOWS_WRITE, fails=(NotFound, Conflict))
async def close_window(connection: Connection, caller: Caller, given: WindowRef) -> WindowNow:
    """Close an open window: from now on it refuses changes, except values recorded before, until acceptUntil."""
    return await _set_state(connection, caller, given, ("open",), "closed")


@command(scope=Scope.WINDOWS_WRITE, fails=(NotFound, Conflict))
async def reopen_window(connection: Connection, caller: Caller, given: WindowRef) -> WindowNow:
    """Open a closed window again."""
    return await _set_state(connection, caller, given, ("closed",), "open")


_FIND = f"SELECT w.tenant_id FROM windows w WHERE w.id = $2 AND {reaches_sql('$1', 'w.tenant_id', 'w.tenant_id', '$3')}"
_ROW = (
    f"SELECT {', '.join(column.name for column in windows.columns)}, frequency_reasons"
    " FROM windows WHERE tenant_id = $1 AND id = $2 FOR UPDATE"
)


async def lock_window(connection: Connection, caller: Caller, window_id: UUID | None) -> tuple[Any, SchoolLocks]:
    """The window's row, while all its tenant's schools are locked, and with them every judgement; raises NotFound."""
    found = await connection.fetchrow(_FIND, caller.client_id, window_id, Scope.WINDOWS_WRITE.value)
    if found is None:
        raise NotFound()
    tenant_id = found["tenant_id"]
    schools = [row["id"] for row in await connection.fetch("SELECT id FROM schools WHERE tenant_id = $1 ORDER BY id", tenant_id)]
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock(schools, [])
    now = await connection.fetchrow(_ROW, tenant_id, window_id)
    if now is None:
        raise NotFound()
    return now, locks


async def _set_state(connection: Connection, caller: Caller, given: WindowRef, before: tuple[str, ...], after: str) -> WindowNow:
    window, locks = await lock_window(connection, caller, parse_id(given.id))
    tenant_id, no, state = window["tenant_id"], window["no"], window["state"]
    if state not in before:
        raise Conflict(
            f"The window is {state}; only a window that is {' or '.join(before)} can become {after}.", code="window-state"
        )
    row = await connection.fetchrow(
        "UPDATE windows SET state = $3, closed_at = CASE $3 WHEN 'closed' THEN clock_timestamp() END, version = version + 1"
        " WHERE tenant_id = $1 AND no = $2 RETURNING id, code, state, version",
        *(tenant_id, no, after),
    )
    if after == "open":
        await connection.execute(_PIN, tenant_id, no)
        await aggregates.rebuild(locks, [no])
    await locks.increment_versions()
    return _read_window(row)


def _read_window(row: Any) -> WindowNow:
    return WindowNow(id=str(row["id"]), code=row["code"], state=row["state"], version=row["version"])
