"""Drafts common scales and crosswalks. A draft counts for nothing until it is signed (sign_scale.py)."""

from collections import Counter
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.assessment.tenant_setup import prepare_tenant
from domain.declare.errors import Invalid, Issue
from domain.declare.ids import new_id, parse_id
from domain.declare.inputs import DryRun, Input, Output, RuledInput, describe
from domain.declare.inputs import Text as ShortText
from domain.declare.scopes import Scope
from domain.declare.type_numbers import COMMON_SCALE, CROSSWALK
from domain.roster.tenant_ref import TenantRef, find_named_tenant
from domain.store.database import Connection, transpose
from domain.support.suggestions import Suggestions
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.partial import is_partial, list_readable, require_readable

BandCode = Annotated[str, Meta(min_length=1, max_length=20)]


class Band(Input, kw_only=True):
    """A band of a scale."""

    code: Annotated[BandCode, describe("Short code. It keeps its meaning in later scales of the trust.")]
    label: Annotated[ShortText, describe("What it means.")]


class NewCommonScale(Input, kw_only=True):
    """A draft of a common scale."""

    tenant: TenantRef
    name: ShortText
    bands: Annotated[Annotated[list[Band], Meta(min_length=2, max_length=30)], describe("The bands in order, the lowest first.")]
    expected_from: Annotated[BandCode, describe("The lowest band that meets the expected standard.")]
    expected_label: Annotated[ShortText | None, describe("The trust's own name of that standard, such as 4+.")] = None
    higher_from: Annotated[
        BandCode | None, describe("The lowest band that meets the higher standard; without it there is none.")
    ] = None
    higher_label: Annotated[ShortText | None, describe("The trust's own name of that standard, such as 5+.")] = None


def _check_grades(line: Any) -> str | None:
    is_range = line.from_grade is not UNSET or line.to_grade is not UNSET
    if is_range and (line.from_grade is UNSET or line.to_grade is UNSET):
        return "A range has both fromGrade and toGrade"
    return "Give either grade or a range" if (line.grade is UNSET) != is_range else None


class MappedGrades(RuledInput, kw_only=True):
    """One grade, or all grades from one rank to another, and their band."""

    rules = (_check_grades,)

    grade: Annotated[BandCode | UnsetType, describe("Code of a grade.")] = UNSET
    from_grade: Annotated[BandCode | UnsetType, describe("Code of the lowest grade of a range, by rank.")] = UNSET
    to_grade: Annotated[BandCode | UnsetType, describe("Code of the highest grade of a range.")] = UNSET
    band: Annotated[BandCode | None, describe("Code of the band; null: not mapped.")]


class NewCrosswalk(Input, kw_only=True):
    """A draft of a crosswalk. Each grade that counts has exactly one line."""

    tenant: TenantRef
    scheme: Annotated[ShortText, describe("Code of the scheme.")]
    scheme_version: Annotated[Annotated[int, Meta(ge=1, le=32_767)] | None, describe("Its version; the newest, without it.")] = None
    scale: Annotated[str | None, describe("Id of the scale; the one signed last, without it, else the draft made last.")] = None
    grades: Annotated[list[MappedGrades], Meta(min_length=1, max_length=500)]


class DraftedScale(Output, kw_only=True):
    """A draft of a scale or of a crosswalk."""

    id: str
    version: int
    dry_run: DryRun = UNSET


_SCALE = """
INSERT INTO common_scales (tenant_id, id, name, bands, band_labels, expected_from, expected_label, higher_from, higher_label, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp())
"""


@command(scope=Scope.SCHEMES_WRITE, at_school=False, fails=(Invalid,))
async def create_common_scale(connection: Connection, caller: Caller, scale: NewCommonScale) -> DraftedScale:
    """Draft a common scale of a trust or school: bands in order, and which of them are expected and higher. It counts once it is signed."""
    checks = Checks()
    tenant_id = await find_named_tenant(connection, caller, Scope.SCHEMES_WRITE, scale, checks)
    await prepare_tenant(connection, tenant_id)
    codes: list[str] = []
    with checks.attempt():
        for i, band in list_readable(scale.bands):
            if band.code in codes:
                checks.add(Issue(f"/bands/{i}/code", "duplicate-band", "This code appears more than once."))
            codes.append(band.code)
    for name, pointer in (("expected_from", "/expectedFrom"), ("higher_from", "/higherFrom")):
        with checks.attempt():
            code = getattr(scale, name)
            if code is not None and code not in codes:
                checks.add(Issue(pointer, "band-unknown", _describe_bands(code, codes)))
    with checks.attempt():
        if (
            scale.higher_from in codes
            and scale.expected_from in codes
            and codes.index(scale.higher_from) < codes.index(scale.expected_from)
        ):
            checks.add(Issue("/higherFrom", "wrong-value", "The higher standard is not below the expected one."))
    with checks.attempt():
        if scale.higher_from is None and scale.higher_label is not None:
            checks.add(
                Issue("/higherFrom", "wrong-value", "higherLabel names a standard that the scale has not: say where it begins.")
            )
    checks.refuse_if_any()
    require_readable(scale)
    scale_id = new_id(COMMON_SCALE)
    await connection.execute(
        _SCALE,
        *(tenant_id, scale_id, scale.name, codes, [band.label for band in scale.bands]),
        *(scale.expected_from, scale.expected_label, scale.higher_from, scale.higher_label),
    )
    return DraftedScale(id=str(scale_id), version=1)


def _describe_bands(code: str, codes: list[str]) -> str:
    return f"The scale has no such band.{Suggestions().suggest(code, codes)} It has: {', '.join(codes)}."


_FIND_SCALE = """
SELECT id, bands FROM common_scales WHERE tenant_id = $1 AND ($2::uuid IS NULL OR id = $2)
ORDER BY from_on IS NULL, from_on DESC, COALESCE(first_signed_at, signed_at) DESC, created_at DESC LIMIT 1
"""
_FIND_SCHEME = "SELECT id, derived FROM schemes WHERE tenant_id = $1 AND code = $2"
_FIND_VERSION = """
SELECT v.scheme_id, v.no, v.version FROM scheme_versions v WHERE v.tenant_id = $1 AND v.scheme_id = $2 AND ($3::integer IS NULL OR v.version = $3)
ORDER BY v.version DESC LIMIT 1
"""
_GRADES = "SELECT no, code, rank, valid FROM grades WHERE tenant_id = $1 AND scheme_version_no = $2 ORDER BY no"
_CROSSWALK = """
INSERT INTO crosswalks (tenant_id, id, scale_id, scheme_version_no, scheme_id, scheme_version, created_at) VALUES ($1, $2, $3, $4, $5, $6, clock_timestamp())
"""
_LINES = """
INSERT INTO crosswalk_grades (tenant_id, crosswalk_id, grade_no, grade, band)
SELECT $1, $2, * FROM unnest($3::smallint[], $4::text[], $5::text[])
"""


@command(scope=Scope.SCHEMES_WRITE, at_school=False, fails=(Invalid,))
async def create_crosswalk(connection: Connection, caller: Caller, crosswalk: NewCrosswalk) -> DraftedScale:
    """Draft a crosswalk: to which band of the common scale each grade of one version of a scheme belongs. It counts once it is signed."""
    checks = Checks()
    tenant_id = await find_named_tenant(connection, caller, Scope.SCHEMES_WRITE, crosswalk, checks)
    await prepare_tenant(connection, tenant_id)
    scale: Any = None
    version: Any = None
    bands: list[tuple[int, str, str | None]] = []
    with checks.attempt():
        scale = await _find_scale(connection, tenant_id, crosswalk, checks)
    with checks.attempt():
        version = await _find_version(connection, tenant_id, crosswalk, checks)
    with checks.attempt():
        grades = [] if version is None else await connection.fetch(_GRADES, tenant_id, version["no"])
        bands = _map_grades(crosswalk, scale, grades, checks)
    checks.refuse_if_any()
    require_readable(crosswalk)
    crosswalk_id = new_id(CROSSWALK)
    await connection.execute(
        _CROSSWALK, tenant_id, crosswalk_id, scale["id"], version["no"], version["scheme_id"], version["version"]
    )
    await connection.execute(_LINES, tenant_id, crosswalk_id, *transpose(bands, 3))
    return DraftedScale(id=str(crosswalk_id), version=1)


async def _find_scale(connection: Connection, tenant_id: UUID, crosswalk: NewCrosswalk, checks: Checks) -> Any:
    """Returns the scale, None with an issue where there is none."""
    scale_id = None if crosswalk.scale is None else parse_id(crosswalk.scale)
    is_id = crosswalk.scale is None or scale_id is not None
    if is_id and (scale := await connection.fetchrow(_FIND_SCALE, tenant_id, scale_id)) is not None:
        return scale
    message = (
        "There is no such common scale."
        if crosswalk.scale
        else "There is no common scale yet: draft one by POST /v1/common-scales."
    )
    checks.add(Issue("/scale", "scale-unknown", message))
    return None


async def _find_version(connection: Connection, tenant_id: UUID, crosswalk: NewCrosswalk, checks: Checks) -> Any:
    """Returns the version of the scheme, None with an issue where there is none."""
    scheme = await connection.fetchrow(_FIND_SCHEME, tenant_id, crosswalk.scheme)
    if scheme is None:
        found = await connection.fetch("SELECT code FROM schemes WHERE tenant_id = $1 AND NOT derived ORDER BY code", tenant_id)
        message = f"This tenant has no such scheme.{Suggestions().suggest(crosswalk.scheme, [row['code'] for row in found])}"
        checks.add(Issue("/scheme", "scheme-unknown", message))
        return None
    if scheme["derived"]:
        checks.add(Issue("/scheme", "scheme-derived", "The grades of this scheme are computed from others."))
    version = await connection.fetchrow(_FIND_VERSION, tenant_id, scheme["id"], crosswalk.scheme_version)
    if version is None:
        checks.add(Issue("/schemeVersion", "version-unknown", "The scheme has no such version."))
    return version


def _map_grades(crosswalk: NewCrosswalk, scale: Any, grades: Any, checks: Checks) -> list[tuple[int, str, str | None]]:
    """Returns number, code and band of each grade that a line names. Adds everything that is wrong with the lines; what cannot be
    read of one hides nothing of the others. `grades` are those of the version, none where it is unknown.
    """
    bands = [] if scale is None else list(scale["bands"])
    by_code = {grade["code"]: grade for grade in grades}
    found: list[tuple[int, str, str | None]] = []
    for i, line in list_readable(crosswalk.grades):
        with checks.attempt():
            if line.band is not None and scale is not None and line.band not in bands:
                checks.add(Issue(f"/grades/{i}/band", "band-unknown", _describe_bands(line.band, bands)))
        unknown = _list_unknown(line, by_code, f"/grades/{i}") if grades else []
        checks.add(*unknown)
        if grades and not unknown and not is_partial(line):
            selected = _select_grades(line, grades, by_code, f"/grades/{i}", checks)
            found += [(grade["no"], grade["code"], line.band) for grade in selected]
    times = Counter(code for _, code, _ in found)
    if repeated := [code for code, n in times.items() if n > 1]:
        checks.add(Issue("/grades", "duplicate-grade", f"More than one line has: {', '.join(repeated[:20])}."))
    for line in crosswalk.grades:  # one that cannot be read may be that of any grade
        require_readable(line)
    if missing := [grade["code"] for grade in grades if grade["valid"] and grade["code"] not in times]:
        message = (
            f"Each grade that counts needs a line, with band null where it is not mapped. Without one: {', '.join(missing[:20])}."
        )
        checks.add(Issue("/grades", "grades-unmapped", message))
    return found


def _list_unknown(line: MappedGrades, by_code: dict[str, Any], pointer: str) -> list[Issue]:
    """Returns an issue for each grade that a line names and that there is not; a field that cannot be read names none."""
    codes = {"grade": "grade", "fromGrade": "from_grade", "toGrade": "to_grade"}
    named = ((name, getattr(line, attribute, UNSET)) for name, attribute in codes.items())
    return [
        Issue(f"{pointer}/{name}", "grade-unknown", f"The scheme has no such grade.{Suggestions().suggest(code, [*by_code])}")
        for name, code in named
        if code is not UNSET and code not in by_code
    ]


def _select_grades(line: MappedGrades, grades: Any, by_code: dict[str, Any], pointer: str, checks: Checks) -> list[Any]:
    """Returns the grades that a line means: one, or those of a range that count."""
    if line.grade is not UNSET:
        return [by_code[line.grade]]
    first, last = by_code[str(line.from_grade)]["rank"], by_code[str(line.to_grade)]["rank"]
    if first is None or last is None or first > last:
        checks.add(Issue(pointer, "range-invalid", "A range goes from a grade to one that is not below it; both have a rank."))
        return []
    return [grade for grade in grades if grade["valid"] and grade["rank"] is not None and first <= grade["rank"] <= last]
