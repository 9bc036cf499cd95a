"""The history of targets: each change, when it was made, from what to what, by which client; also locking and unlocking.

A change is shown to whoever saw the target then and sees it now. A target that was replaced by that of another record, in a merge, has the
visibility of its last value.
"""

from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
    and_,
    case,
    literal_column,
)

from domain.access.client_names import find_client_name
from domain.access.reach import rows_of_pupil, rows_of_school
from domain.assessment.code_lists import TARGET_BASIS, TARGET_VISIBILITY
from domain.assessment.schemes import column_of_grade
from domain.assessment.subjects import JUDGED, aspects, code_of, subjects
from domain.assessment.target_visibility import OR_SCOPES, SeenNow, sees_target
from domain.assessment.targets import HORIZON_POINT, targets
from domain.declare.resource import Field, Filter, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT, TARGET
from domain.declare.vocabulary import VERSION, declare_ids, declare_list
from domain.roster import years
from domain.roster.pupils import pupils
from domain.roster.schools import schools
from domain.roster.text_order import sort_by_text

target_changes = Table(
    "target_changes",
    MetaData(),
    *(Column(name, Uuid, nullable=False) for name in ("tenant_id", "id", "pupil_id", "school_id", "client_id")),
    *(
        Column(name, SmallInteger, nullable=False)
        for name in ("subject_no", "aspect_no", "horizon_year", "scheme_version_no", "grade_no")
    ),
    Column("version", Integer, nullable=False),
    *(Column(name, Text, nullable=False) for name in ("horizon_point", "basis", "visibility", "visibility_now")),
    *(Column(name, Text) for name in ("lock_reason", "locked_by", "actor", "before_visibility")),
    *(Column(name, SmallInteger) for name in ("before_scheme_version_no", "before_grade_no")),
    *(Column(name, DateTime(timezone=True)) for name in ("locked_at", "before_locked_at")),
    *(Column(name, DateTime(timezone=True), nullable=False) for name in ("recorded_at", "changed_at")),
    Column("recorded_at_school_id", Uuid),
    comment="A view over targets and their history",
)
c = target_changes.c
_client_name = find_client_name(c.client_id)


class _Before:
    """The columns of a row that say what was replaced, as `column_of_grade` reads them."""

    tenant_id, scheme_version_no, grade_no = c.tenant_id, c.before_scheme_version_no, c.before_grade_no


_OUTCOMES = ("created", "updated", "locked", "unlocked")
_outcome: Any = case(
    (c.before_scheme_version_no.is_(None), literal_column("'created'", Text)),
    (c.locked_at.is_not(None) & c.before_locked_at.is_(None), literal_column("'locked'", Text)),
    (c.locked_at.is_(None) & c.before_locked_at.is_not(None), literal_column("'unlocked'", Text)),
    else_=literal_column("'updated'", Text),
)

_is_about_lock = c.before_scheme_version_no.is_not(None) & (c.locked_at.is_(None) != c.before_locked_at.is_(None))

TARGET_CHANGES = Resource(
    name="targetChange",
    plural="targetChanges",
    slug="target-changes",
    doc="A change of a target: when, from what to what, and by which client. Shown to whoever saw the target then and sees it now.",
    source=target_changes,
    scope=Scope.TARGETS_READ,
    or_scopes=OR_SCOPES,
    visibility=lambda has_everywhere: and_(sees_target(c, has_everywhere), sees_target(SeenNow(c), has_everywhere)),
    order=("tenant_id", "id", "version"),
    reach=rows_of_pupil(c.tenant_id, c.school_id, c.pupil_id),
    fields={
        "targetId": Field(c.id, "The target's id.", vocabulary=declare_ids(TARGET, "target")),
        "pupilId": Field(c.pupil_id, "The pupil's id."),
        "subjectCode": Field(code_of(subjects, c.tenant_id, c.subject_no), "The subject's code.", vocabulary=JUDGED),
        "aspect": Field(code_of(aspects, c.tenant_id, c.aspect_no), "The aspect's code."),
        "horizonYear": Field(
            years.academic_year_text(c.horizon_year),
            "Academic year of the horizon.",
            nullable=False,
            vocabulary=years.ACADEMIC_YEAR,
        ),
        "horizonPoint": Field(c.horizon_point, "The point in that year.", vocabulary=HORIZON_POINT),
        "basis": Field(c.basis, "What the target rests on.", vocabulary=TARGET_BASIS),
        "version": Field(c.version, "The version of the target that the change made.", vocabulary=VERSION),
        "outcome": Field(_outcome, "created, updated, locked or unlocked.", nullable=False, vocabulary=declare_list(*_OUTCOMES)),
        "changedAt": Field(c.changed_at, "When it was made."),
        "fromGrade": Field(column_of_grade(_Before, "code"), "The grade before."),
        "toGrade": Field(column_of_grade(c, "code"), "The grade after."),
        "fromVisibility": Field(c.before_visibility, "Who saw it before.", vocabulary=TARGET_VISIBILITY),
        "toVisibility": Field(c.visibility, "Who saw it after.", vocabulary=TARGET_VISIBILITY),
        "reason": Field(case((_is_about_lock, c.lock_reason)), "Why it was locked or unlocked.", is_prose=True),
        "lockedBy": Field(
            case((_is_about_lock, c.locked_by)),
            "Who locked or unlocked it, as the sender names them. Shown where the scope is held at the school that recorded the target.",
            scope=Scope.AUDIT_READ,
            reach=rows_of_school(c.tenant_id, c.recorded_at_school_id),
            filter=Filter.NOWHERE,
        ),
        "recordedAt": Field(c.recorded_at, "When the target was set."),
        "client": Field(_client_name, "Name of the client that sent it.", sort_key=sort_by_text(_client_name)),
        "clientId": Field(c.client_id, "Id of that client: names may be used again.", vocabulary=declare_ids(CLIENT, "client")),
        "actor": Field(
            c.actor,
            "Who set it, as the vendor names them. Shown where the scope is held at the school that recorded it.",
            scope=Scope.AUDIT_READ,
            reach=rows_of_school(c.tenant_id, c.recorded_at_school_id),
            filter=Filter.NOWHERE,
        ),
    },
    links={
        "target": Link(
            "target",
            ((c.tenant_id, targets.c.tenant_id), (c.id, targets.c.id)),
            "The target; null where a merge replaced it.",
            reverse="history",
            reverse_doc="Every change of it, the first of them first.",
            target_in_reach=True,
            source_in_reach=True,
        ),
        "pupil": Link(
            "pupil",
            ((c.tenant_id, pupils.c.tenant_id), (c.pupil_id, pupils.c.id)),
            "The pupil.",
            reverse="targetHistory",
            reverse_doc="Every change of the pupil's targets.",
            target_in_reach=True,
            source_in_reach=True,
        ),
        "school": Link("school", ((c.school_id, schools.c.id),), "The pupil's school of main registration."),
    },
)
