"""Targets: the grade a pupil is meant to reach in a subject, by when, on what basis and set by whom.

Nothing predicts progress.
"""

from collections.abc import Callable
from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    any_,
    case,
    func,
    select,
)

from domain.access.reach import rows_of_pupil, rows_of_school
from domain.assessment.as_of import AS_OF, holds_on, make_known_columns
from domain.assessment.code_lists import TARGET_BASIS, TARGET_VISIBILITY
from domain.assessment.horizons import find_horizon_date
from domain.assessment.scheme_versions import versions
from domain.assessment.schemes import column_of_grade, schemes
from domain.assessment.subjects import JUDGED, aspects, code_of, codes_of, subjects
from domain.assessment.target_visibility import OR_SCOPES, SeenNow, sees_target
from domain.declare.arguments import Argument
from domain.declare.resource import Field, Filter, Link, Resource, declare_view
from domain.declare.scopes import Scope
from domain.declare.type_numbers import TARGET
from domain.declare.vocabulary import VERSION, declare_form
from domain.read.time_binds import THIS_YEAR
from domain.roster import years
from domain.roster.pupils import CHANGED_AT, pupils
from domain.roster.schools import schools
from domain.store.metadata import metadata

HORIZON_POINT_PATTERN = "[A-Za-z0-9][A-Za-z0-9 -]{0,29}"
HORIZON_POINT = declare_form(
    HORIZON_POINT_PATTERN, "A point has 1 to 30 letters, digits, blanks and hyphens, and begins with a letter or digit."
)

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
    Column("changed_at", DateTime(timezone=True), comment="Null until it changes"),
    Column("recorded_at_school_id", Uuid, comment="Null of what older programs wrote"),
    Column("lock_reason", Text),
    Column("locked_by", Text),
    UniqueConstraint("tenant_id", "pupil_id", "subject_no", "aspect_no", "horizon_year", "horizon_point", "basis"),
    Index("targets_by_id", "id"),
    Index("targets_by_school", "tenant_id", "school_id"),
)
t = targets.c
targets_known = declare_view("targets_known", targets, *make_known_columns(), Column("visibility_now", Text, nullable=False))
target_history = declare_view("target_history", targets, Column("until", DateTime(timezone=True), nullable=False))


def _is_nearest(row: Any) -> ColumnElement[bool]:
    """Whether a target is of the nearest academic year that is not over, of those with targets of its subject and aspect that the
    caller sees: a hidden one hides no other.
    """
    n = targets.alias()
    same = [n.c[name] == row[name] for name in ("tenant_id", "pupil_id", "subject_no", "aspect_no")]
    nearest = select(func.min(n.c.horizon_year)).where(*same, n.c.horizon_year >= THIS_YEAR, sees_target(n.c))
    nearest_year: ColumnElement[int] = nearest.correlate_except(n).scalar_subquery()
    is_nearest: ColumnElement[bool] = row.horizon_year == nearest_year
    return is_nearest


def _stood_and_is_seen(row: Any, day: ColumnElement[Any]) -> ColumnElement[bool]:
    return holds_on(row, day) & sees_target(SeenNow(row))


def _scheme_code() -> ColumnElement[Any]:
    m = schemes.alias()
    matches = (versions.c.tenant_id == t.tenant_id) & (versions.c.no == t.scheme_version_no)
    of_version = (m.c.tenant_id == versions.c.tenant_id) & (m.c.id == versions.c.scheme_id)
    code: ColumnElement[Any] = select(m.c.code).where(matches, of_version).correlate_except(versions, m).scalar_subquery()
    return code


def _has_scheme(tenant: ColumnElement[Any], matches: Callable[[ColumnElement[Any]], ColumnElement[bool]]) -> ColumnElement[bool]:
    """Returns the condition that a target's grade is of a scheme whose code matches, by the numbers of its versions."""
    v, m = versions.alias(), schemes.alias()
    numbers = select(v.c.no).where(v.c.tenant_id == tenant, m.c.tenant_id == tenant, m.c.id == v.c.scheme_id, matches(m.c.code))
    found = func.array(numbers.correlate_except(v, m).scalar_subquery(), type_=ARRAY(SmallInteger))
    has_scheme: ColumnElement[bool] = t.scheme_version_no == any_(found)
    return has_scheme


TARGETS = Resource(
    name="target",
    plural="targets",
    doc="What a pupil is meant to reach in a subject by a point in time. targets:staff, targets:family or targets:write suffices too:"
    " each sees the targets that its scope may see.",
    source=targets,
    type_number=TARGET,
    is_looked_up=True,
    arguments={"asOf": Argument(Date(), AS_OF, _stood_and_is_seen, source=targets_known)},
    scope=Scope.TARGETS_READ,
    or_scopes=OR_SCOPES,
    visibility=lambda has_everywhere: sees_target(t, has_everywhere),
    order=("tenant_id", "id"),
    reach=rows_of_pupil(t.tenant_id, t.school_id, t.pupil_id),
    fields={
        "id": Field(t.id, "Stable id."),
        "pupilId": Field(t.pupil_id, "The pupil's id."),
        "subjectCode": Field(code_of(subjects, t.tenant_id, t.subject_no), "The subject's code.", vocabulary=JUDGED),
        "aspect": Field(code_of(aspects, t.tenant_id, t.aspect_no), "main by default."),
        "horizonYear": Field(
            years.academic_year_text(t.horizon_year),
            "Academic year by which it is meant to be reached.",
            nullable=False,
            vocabulary=years.ACADEMIC_YEAR,
        ),
        "horizonPoint": Field(t.horizon_point, "The point in that year, such as KS2 or end-of-year.", vocabulary=HORIZON_POINT),
        "horizonOn": Field(
            find_horizon_date(t.tenant_id, t.horizon_year, t.horizon_point),
            "The date of the point: the last day of the tests for KS2, the census day of a window whose code it is, 31 August for"
            " end-of-year and for a point that means nothing else.",
            nullable=False,
        ),
        "grade": Field(column_of_grade(t, "code"), "The grade aimed at."),
        "schemeCode": Field(
            _scheme_code(),
            "Code of the scheme that the grade is of.",
            nullable=False,
            codes=codes_of(schemes, "scheme"),
            find=_has_scheme,
        ),
        "basis": Field(t.basis, "What it rests on: teacher, prior-attainment, benchmark or aspiration.", vocabulary=TARGET_BASIS),
        "visibility": Field(t.visibility, "Who sees it: staff, school, trust or family.", vocabulary=TARGET_VISIBILITY),
        "lockedAt": Field(t.locked_at, "Since when it cannot be changed."),
        "lockReason": Field(
            case((t.locked_at.is_not(None), t.lock_reason)), "Why it was locked; null while it is not.", is_prose=True
        ),
        "recordedAt": Field(t.recorded_at, "When it was set."),
        "receivedAt": Field(t.received_at, "When it first arrived here; it never changes."),
        "changedAt": Field(func.greatest(t.changed_at, t.received_at, type_=DateTime(timezone=True)), CHANGED_AT, nullable=False),
        "actor": Field(
            t.actor,
            "Who set it, as the vendor names them. Shown where the scope is held at the school that recorded it.",
            scope=Scope.AUDIT_READ,
            reach=rows_of_school(t.tenant_id, t.recorded_at_school_id),
            filter=Filter.NOWHERE,
        ),
        "version": Field(t.version, "Grows by one with each change.", vocabulary=VERSION),
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
                ((pupils.c.tenant_id, t.tenant_id), (pupils.c.id, t.pupil_id)),
                "The targets of each subject and aspect for the nearest academic year that is not over.",
                many=True,
                condition=_is_nearest,
                target_in_reach=True,
            )
        }
    },
)
