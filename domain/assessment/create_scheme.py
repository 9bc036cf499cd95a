"""Creates an assessment scheme, from its grades or from a template, and the next version of one.

A version never changes, so that a value keeps its meaning. What changes is said by the next version; windows are judged
in the version that was pinned when they were planned.
"""

from collections.abc import Sequence
from datetime import date
from types import SimpleNamespace
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.assessment.refused_names import refuse_predicted_progress
from domain.assessment.templates import (
    Grade,
    SchemeTemplate,
    TemplateVersion,
    describe_unknown_code,
    find_standards,
    load_templates,
)
from domain.assessment.tenant_setup import SchemeRows, append_versions, prepare_tenant, write_schemes
from domain.declare.errors import Conflict, Invalid, Issue, NotFound, make_invalid
from domain.declare.ids import new_id
from domain.declare.inputs import DryRun, ExactNumber, Input, Output, RuledInput, describe, round_half_up
from domain.declare.inputs import Text as ShortText
from domain.declare.scopes import Scope
from domain.declare.type_numbers import SCHEME
from domain.declare.vocabulary import LEAST_RANK, MOST_RANK, STORED_DECIMALS
from domain.roster import years
from domain.roster.school_refs import SchoolRef, find_school
from domain.roster.tenant_ref import TenantRef, find_named_tenant, find_tenant
from domain.roster.years import AcademicYearText, YearGroupText
from domain.store.database import Connection
from domain.support.suggestions import Suggestions
from domain.write.action import Action
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.partial import UNREADABLE, is_partial, list_readable, require_readable


def _check_standards(grade: Any) -> str | None:
    return "A grade that meets the higher standard meets the expected one" if grade.higher and not grade.expected else None


def _check_counting(grade: Any) -> str | None:
    if (grade.expected and not grade.valid) or (grade.valid and not grade.eligible):
        return "A grade that meets a standard is valid, and a valid grade is eligible"
    return None


def _check_validity(grade: Any) -> str | None:
    if grade.valid_from is not None and grade.valid_to is not None and grade.valid_to < grade.valid_from:
        return "A grade cannot end before it begins"
    return None


class GradeInput(RuledInput, kw_only=True):
    """A grade. rank orders it, higher is better; value enters averages; eligible keeps the pupil in the denominator."""

    rules = (_check_standards, _check_counting, _check_validity)

    code: Annotated[str, Meta(min_length=1, max_length=20)]
    label: ShortText
    rank: Annotated[int, Meta(ge=LEAST_RANK, le=MOST_RANK)] | None = None
    value: ExactNumber | None = None
    points: ExactNumber | None = None
    year_group: Annotated[
        YearGroupText | None,
        describe("Curriculum year that it is for: E1, E2, N1, N2, R, 1 to 14 or X; also written Year 4 or Y4."),
    ] = None
    band: ShortText | None = None
    eligible: bool = True
    valid: bool = True
    expected: bool = False
    higher: bool = False
    valid_from: Annotated[date | None, describe("First day of the academic year from which it is used.")] = None
    valid_to: Annotated[date | None, describe("Last day of the academic year until which it is used.")] = None


GradeInputs = Annotated[list[GradeInput], Meta(min_length=1, max_length=500)]
Rounding = Annotated[int, Meta(ge=0, le=STORED_DECIMALS)]
ROUNDING = "Decimals to which marks are rounded; without it, a mark with more than two decimals is refused."


def _check_grades(scheme: Any) -> str | None:
    ways = [scheme.template, scheme.grades, scheme.copy_of]
    return "Give exactly one of template, grades and copyOf" if sum(way is not UNSET for way in ways) != 1 else None


def _check_owner(scheme: Any) -> str | None:
    return "Name the tenant or the school" if scheme.tenant is UNSET and scheme.school is UNSET else None


class NewScheme(RuledInput, kw_only=True):
    """A scheme by its grades, or as a copy of a template or of a scheme."""

    rules = (_check_grades, _check_owner)

    tenant: Annotated[TenantRef | UnsetType, describe("Whose it is; may be left out beside `school`.")] = UNSET
    school: Annotated[
        SchoolRef | UnsetType,
        describe("The school inside a trust whose own it is: no other may be collected in it. Without it, it is all schools'."),
    ] = UNSET
    code: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,49}$")]
    name: ShortText
    template: str | UnsetType = UNSET
    grades: GradeInputs | UnsetType = UNSET
    copy_of: Annotated[ShortText | UnsetType, describe("Code of a scheme of the same trust, whose newest version it copies.")] = (
        UNSET
    )
    rounding: Annotated[Rounding | None, describe(ROUNDING)] = None


class NewSchemeVersion(RuledInput, kw_only=True):
    """The next version of a scheme, with all its grades. A window may be pinned to it that holds no other grade."""

    grades: GradeInputs
    academic_years: Annotated[
        Annotated[list[AcademicYearText], Meta(min_length=1, max_length=50)] | None,
        describe("The academic years whose windows are judged in it; null: all for which there is no version of their own."),
    ] = None
    standard: Annotated[
        Literal["later"] | None,
        describe("later: the next version of the scheme tells the expected standard; until then no percentage is shown."),
    ] = None
    rounding: Annotated[Rounding | None, describe(ROUNDING)] = None


class SchemeMade(Output, kw_only=True):
    """A scheme and its newest version."""

    id: str
    code: str
    version: int
    grades: int
    dry_run: DryRun = UNSET


class SchemeRetirement(Input, kw_only=True):
    """Nothing else is needed."""


class RetiredScheme(Output, kw_only=True):
    """A scheme, and whether it is retired."""

    id: str
    code: str
    retired: bool
    dry_run: DryRun = UNSET


@command(scope=Scope.SCHEMES_WRITE, fails=(Invalid, Conflict))
async def create_scheme(connection: Connection, caller: Caller, scheme: NewScheme) -> SchemeMade:
    """Create a scheme for a trust or school, by its grades, from a template or as a copy. Its first version never changes."""
    checks, versions = Checks(), list[TemplateVersion]()
    tenant_id, school_id = await _find_owner(connection, caller, scheme, checks)
    await prepare_tenant(connection, tenant_id)
    with checks.attempt():
        if await connection.fetchval("SELECT 1 FROM schemes WHERE tenant_id = $1 AND code = $2", tenant_id, scheme.code):
            message = "A scheme with this code exists."
            raise Conflict(message, code="scheme-exists", issues=(Issue("/code", "scheme-exists", message),))
    with checks.attempt():
        refuse_predicted_progress(scheme, checks)
    with checks.attempt():
        if scheme.grades is not UNSET:
            grades = make_grades(scheme.grades, checks)
            versions = [TemplateVersion(grades, None, *find_standards(grades))]
    with checks.attempt():
        if scheme.template is not UNSET:
            versions = [*_find_template(scheme.template).list_versions()]
    with checks.attempt():
        if scheme.copy_of is not UNSET:
            versions = [await _copy_newest(connection, tenant_id, scheme.copy_of)]
    checks.refuse_if_any()
    require_readable(scheme)
    for version in versions:
        version.rounding = version.rounding if scheme.rounding is None else scheme.rounding
    scheme_id = new_id(SCHEME)
    await write_schemes(connection, tenant_id, [SchemeRows(scheme_id, scheme.code, scheme.name, versions, school_id=school_id)])
    return SchemeMade(id=str(scheme_id), code=scheme.code, version=len(versions), grades=len(versions[0].grades))


async def _find_owner(connection: Connection, caller: Caller, scheme: NewScheme, checks: Checks) -> tuple[UUID, UUID | None]:
    """Returns the tenant, and the school inside a trust whose own the scheme is, if it is one's."""
    school = None
    if getattr(scheme, "school", UNSET) is UNSET:
        is_named = getattr(scheme, "tenant", UNSET) is not UNSET
        named = scheme if is_named else SimpleNamespace(tenant=UNREADABLE)
        return await find_named_tenant(connection, caller, Scope.SCHEMES_WRITE, named, checks), None
    with checks.attempt():
        school = await find_school(connection, caller, Scope.SCHEMES_WRITE, scheme.school, "/school")  # type: ignore[arg-type]
    if school is None:
        checks.refuse()
    with checks.attempt():
        if (
            scheme.tenant is not UNSET
            and await find_tenant(connection, caller, Scope.SCHEMES_WRITE, scheme.tenant, "/tenant") != school.tenant_id
        ):
            checks.add(Issue("/school", "school-not-found", "The school is not of this trust."))
    return school.tenant_id, None if school.id == school.tenant_id else school.id


_NEWEST = """
SELECT v.no, v.rounding, v.expected_status, v.higher_status FROM schemes s JOIN scheme_versions v ON v.tenant_id = s.tenant_id AND v.scheme_id = s.id
WHERE s.tenant_id = $1 AND s.code = $2 AND NOT s.derived ORDER BY v.version DESC LIMIT 1
"""
_COPIED = """
SELECT code, label, rank, value, points, year_group, band, eligible, valid, expected, higher, valid_from, valid_to FROM grades
WHERE tenant_id = $1 AND scheme_version_no = $2 ORDER BY no
"""


async def _copy_newest(connection: Connection, tenant_id: UUID, code: str) -> TemplateVersion:
    """Returns the newest version of a scheme of the tenant, as the first of another. Raises Invalid."""
    newest = await connection.fetchrow(_NEWEST, tenant_id, code)
    if newest is None:
        rows = await connection.fetch("SELECT code FROM schemes WHERE tenant_id = $1 AND NOT derived ORDER BY code", tenant_id)
        unknown, message = describe_unknown_code("scheme", code, [row["code"] for row in rows], Suggestions())
        raise make_invalid([Issue("/copyOf", unknown, message)])
    grades = [Grade(**dict(row)) for row in await connection.fetch(_COPIED, tenant_id, newest["no"])]
    return TemplateVersion(grades, None, newest["expected_status"], newest["higher_status"], newest["rounding"])


def _find_template(code: str) -> SchemeTemplate:
    """Returns the template with this code. Raises Invalid."""
    template = load_templates().find_scheme(code)
    if template is None or template.derived:
        codes = [other.code for other in load_templates().schemes if not other.derived]
        message = f"There is no such template.{Suggestions().suggest(code, codes)} Templates: {', '.join(codes)}."
        raise make_invalid([Issue("/template", "template-unknown", message)])
    return template


_FIND = f"""
SELECT s.tenant_id, s.code, s.derived, s.template, s.retired FROM schemes s
WHERE s.id = $2 AND {reaches_sql("$1", "s.tenant_id", "COALESCE(s.school_id, s.tenant_id)", "$3")} FOR UPDATE
"""


@command(scope=Scope.SCHEMES_WRITE, fails=(NotFound, Conflict))
async def retire_scheme(connection: Connection, caller: Caller, action: Action[SchemeRetirement]) -> RetiredScheme:
    """Retire a scheme: no new window may collect it. What was judged in it stays, and windows go on as they are."""
    return await _set_retired(connection, caller, action.id, retired=True)


@command(scope=Scope.SCHEMES_WRITE, fails=(NotFound, Conflict))
async def restore_scheme(connection: Connection, caller: Caller, action: Action[SchemeRetirement]) -> RetiredScheme:
    """Bring a retired scheme back: new windows may collect it again, in its newest version."""
    return await _set_retired(connection, caller, action.id, retired=False)


async def _set_retired(connection: Connection, caller: Caller, scheme_id: UUID | None, *, retired: bool) -> RetiredScheme:
    scheme = await connection.fetchrow(_FIND, caller.client_id, scheme_id, Scope.SCHEMES_WRITE.value)
    if scheme is None:
        raise NotFound()
    if scheme["derived"] or scheme["template"] is not None:
        message = "A statutory scheme is never retired."
        raise Conflict(message, code="code-protected", issues=(Issue("", "code-protected", message),))
    await connection.execute(
        "UPDATE schemes SET retired = $3 WHERE tenant_id = $1 AND id = $2", scheme["tenant_id"], scheme_id, retired
    )
    return RetiredScheme(id=str(scheme_id), code=scheme["code"], retired=retired)


@command(scope=Scope.SCHEMES_WRITE, fails=(Invalid, NotFound))
async def create_scheme_version(connection: Connection, caller: Caller, action: Action[NewSchemeVersion]) -> SchemeMade:
    """Make the next version of a scheme. Earlier versions stay as they are; windows planned from now on are judged in this one."""
    scheme = await connection.fetchrow(_FIND, caller.client_id, action.id, Scope.SCHEMES_WRITE.value)
    if scheme is None:
        raise NotFound()
    checks, fields = Checks(), action.fields
    grades, starts = list[Grade](), None
    if scheme["derived"]:
        checks.add(Issue("", "scheme-derived", "The grades of this scheme are computed from others."))
    with checks.attempt():
        grades = make_grades(fields.grades, checks)
    expected, higher = find_standards(grades)
    with checks.attempt():
        if fields.standard == "later" and grades and expected is None:
            checks.add(Issue("/standard", "wrong-value", "The expected standard is told later: no grade can meet it yet."))
    with checks.attempt():
        starts = None if fields.academic_years is None else _parse_years(fields.academic_years, checks)
    checks.refuse_if_any()
    require_readable(fields)
    expected = "x" if fields.standard == "later" else expected
    version = TemplateVersion(grades, starts, expected, higher, fields.rounding)
    (number,) = await append_versions(connection, scheme["tenant_id"], [(action.id, version)])
    return SchemeMade(id=str(action.id), code=scheme["code"], version=number, grades=len(grades))


def _parse_years(texts: Sequence[str], checks: Checks) -> list[int]:
    """Returns the calendar years in which academic years begin; adds an issue for each that is none."""
    starts = set()
    for i, text in list_readable(texts):
        try:
            starts.add(years.parse_academic_year(text))
        except ValueError as problem:
            checks.add(Issue(f"/academicYears/{i}", "academic-year-invalid", str(problem)))
    return sorted(starts)


def make_grades(inputs: Sequence[GradeInput], checks: Checks) -> list[Grade]:
    """Returns the grades of a version that can be read; adds everything that is wrong with them."""
    codes: set[str] = set()
    grades = []
    for i, grade in list_readable(inputs):
        facts = {name: value for name in grade.__struct_fields__ if (value := getattr(grade, name, UNSET)) is not UNSET}
        if (code := facts.get("code")) in codes:
            checks.add(Issue(f"/grades/{i}/code", "duplicate-grade", "This code appears more than once."))
        codes |= {code} if code is not None else set()
        if facts.get("year_group") is not None:
            try:
                facts["year_group"] = years.parse_year_group(facts["year_group"])
            except ValueError as problem:
                checks.add(Issue(f"/grades/{i}/yearGroup", "year-group-invalid", str(problem)))
        for name in ("value", "points"):
            if facts.get(name) is not None:
                rounded = round_half_up(facts[name], STORED_DECIMALS)
                if rounded != facts[name]:
                    message = f"This has more than {STORED_DECIMALS} decimals; rounded it would be {rounded}."
                    checks.add(Issue(f"/grades/{i}/{name}", "too-many-decimals", message))
        if not is_partial(grade):
            grades.append(Grade(**facts))
    return grades
