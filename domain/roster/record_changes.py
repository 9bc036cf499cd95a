"""The history of pupils' own records: what changed of a pupil, when, from what to what and by which client, and the
decisions about who a pupil is.

Triggers write it (migration 0048). A row is read where the pupil is reached today; one of a spell on roll only where
its school is reached too, as the spell itself, and one of a characteristic only with the scope of characteristics.
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Date,
    DateTime,
    MetaData,
    Table,
    Text,
    Uuid,
    and_,
    case,
    cast,
    exists,
    func,
    literal_column,
    null,
    or_,
    select,
)

from domain.access.client_names import find_client_name
from domain.access.reach import rows_of_pupil, rows_of_school
from domain.declare.resource import Field, Filter, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT
from domain.declare.vocabulary import declare_ids, declare_list
from domain.roster.characteristics import KINDS
from domain.roster.pupil_filters import upns
from domain.roster.pupils import PUPILS, pupils, record_changes
from domain.roster.schools import schools

pupil_changes = Table(
    "pupil_changes",
    MetaData(),
    *(Column(name, Uuid, nullable=False) for name in ("tenant_id", "id", "pupil_id", "school_id")),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    *(Column(name, Text, nullable=False) for name in ("field", "outcome")),
    *(Column(name, Uuid) for name in ("client_id", "spell_school_id", "recorded_at_school_id")),
    *(
        Column(name, Text)
        for name in ("from_value", "to_value", "characteristic", "from_leaving_reason", "to_leaving_reason", "actor")
    ),
    *(Column(name, Date) for name in ("from_first_on", "from_last_on", "to_first_on", "to_last_on")),
    Column("differing", ARRAY(Text)),
    comment="A view over the history of pupils, with the school of main registration",
)
c = pupil_changes.c
NAMES = ("surname", "forename", "preferredSurname", "preferredForename")
DIFFERENT = "differentChildren"
FIELDS = (
    *("pupil", *NAMES, "upn", "dateOfBirth", "sex", "yearGroup", "enrolment", "characteristic", "reference", "sameChild"),
    DIFFERENT,
)
_of_pupil = rows_of_pupil(c.tenant_id, c.school_id, c.pupil_id)


def _is_told(scope: Scope | None) -> ColumnElement[bool]:
    """Returns the condition that a change is told: the pupil is within reach, and so is what the change is about."""
    return and_(
        _of_pupil(scope),
        or_(c.spell_school_id.is_(None), rows_of_school(c.tenant_id, c.spell_school_id)(scope)),
        or_(c.characteristic.is_(None), _of_pupil(Scope.PUPILS_SENSITIVE)),
    )


def _is_about(*fields: str) -> ColumnElement[bool]:
    return c.field.in_([literal_column(f"'{field}'", Text) for field in fields])


def _select_where(condition: ColumnElement[bool], value: ColumnElement[Any]) -> ColumnElement[Any]:
    return case((condition, value), else_=null())


def _declare_values(
    name: str, of: str, condition: ColumnElement[bool], scope: Scope | None = None, type_: Any = None
) -> dict[str, Field]:
    """Returns the fields of what was before and after, of the rows of which the condition holds."""
    return {
        f"{side}{name}": Field(
            _select_where(condition, value if type_ is None else cast(value, type_)),
            f"{of} {when}.",
            scope=scope,
            filter=Filter.NOWHERE,
        )
        for side, when, value in (("from", "before", c.from_value), ("to", "after", c.to_value))
    }


def _select_own_upn(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Returns a UPN in SQL while it is or was the pupil's: one that was released turned out to be another child's."""
    u = upns.alias()
    is_own = exists(
        select(literal_column("1"))
        .select_from(u)
        .where(u.c.tenant_id == c.tenant_id, u.c.upn == value, u.c.pupil_id == c.pupil_id)
        .correlate_except(u)
    )
    return _select_where(and_(_is_about("upn"), is_own), value)


def _declare_column(name: Column[Any], doc: str) -> Field:
    return Field(name, doc, filter=Filter.NOWHERE)


_client_name = find_client_name(c.client_id)
_merge = record_changes.alias()
_merged_id = (
    select(_merge.c.other_id)
    .where(
        _merge.c.tenant_id == c.tenant_id,
        _merge.c.id == c.id,
        _merge.c.pupil_id == c.pupil_id,
        _merge.c.kind == literal_column("'merged'", Text),
    )
    .correlate_except(_merge)
    .scalar_subquery()
)


def _find_other() -> ColumnElement[Any]:
    """Returns in SQL the id of the other record of differentChildren, where within reach."""
    p = pupils.alias()
    is_named = cast(p.c.id, Text) == func.coalesce(c.to_value, c.from_value)
    is_reached = rows_of_pupil(p.c.tenant_id, p.c.school_id, p.c.id)(Scope.PUPILS_READ)
    of_row = and_(_is_about(DIFFERENT), p.c.tenant_id == c.tenant_id, is_named, is_reached)
    return select(p.c.id).where(of_row).correlate_except(p).scalar_subquery()


RECORD_CHANGES = Resource(
    name="recordChange",
    plural="recordChanges",
    slug="record-changes",
    doc="A change of a pupil's own record, or a decision about who the pupil is: when, from what to what, and by which client. What came with the pupil's"
    " first row is not repeated: the row pupil, created tells of it.",
    source=pupil_changes,
    scope=Scope.PUPILS_READ,
    order=("tenant_id", "pupil_id", "changed_at", "field", "id"),
    reach=_is_told,
    fields={
        "pupilId": Field(c.pupil_id, "The pupil's id."),
        "field": Field(
            c.field,
            "What changed: pupil (the record as a whole), a field of the pupil, enrolment, characteristic or reference; or sameChild, a person's word that"
            " a row that differs is about this child; or differentChildren, a person's word that another record is another child's.",
            vocabulary=declare_list(*FIELDS),
        ),
        "outcome": Field(
            c.outcome,
            "created, updated or withdrawn; of a pupil also merged (another record into this one) or split; of a UPN also released (it was recorded in error);"
            " of sameChild said; of differentChildren said or withdrawn.",
            vocabulary=declare_list("created", "updated", "withdrawn", "merged", "split", "released", "said"),
        ),
        "changedAt": Field(c.changed_at, "When it was made."),
        **_declare_values("Name", "The name", _is_about(*NAMES), Scope.PUPILS_NAME),
        "fromUpn": Field(
            _select_own_upn(c.from_value),
            "The UPN before. A number that turned out to be another child's is not shown.",
            scope=Scope.PUPILS_UPN,
            filter=Filter.NOWHERE,
        ),
        "toUpn": Field(_select_own_upn(c.to_value), "The UPN after, likewise.", scope=Scope.PUPILS_UPN, filter=Filter.NOWHERE),
        **_declare_values("DateOfBirth", "The date of birth", _is_about("dateOfBirth"), Scope.PUPILS_BIRTH, Date),
        **_declare_values(
            "Value", "The sex, the year group or the status of an enrolment", _is_about("sex", "yearGroup", "enrolment")
        ),
        "characteristic": Field(
            c.characteristic,
            "Which characteristic.",
            scope=Scope.PUPILS_SENSITIVE,
            vocabulary=declare_list(*KINDS),
        ),
        **_declare_values("Characteristic", "The value of the characteristic", _is_about("characteristic"), Scope.PUPILS_SENSITIVE),
        "fromFirstDay": _declare_column(c.from_first_on, "First day of the enrolment or characteristic before."),
        "fromLastDay": _declare_column(c.from_last_on, "Its last day before."),
        "toFirstDay": _declare_column(c.to_first_on, "Its first day after; null where it was withdrawn."),
        "toLastDay": _declare_column(c.to_last_on, "Its last day after; null also where it has no end."),
        "fromLeavingReason": _declare_column(c.from_leaving_reason, "Why the enrolment ended, before."),
        "toLeavingReason": _declare_column(c.to_leaving_reason, "Why the enrolment ended, after."),
        "schoolId": Field(c.spell_school_id, "Id of the enrolment's school."),
        "differing": Field(
            c.differing,
            "Names of the fields that differed where sameChild was said.",
            vocabulary=declare_list(*PUPILS.fields),
        ),
        "mergedId": Field(_merged_id, "Id of the record that was merged into this one.", filter=Filter.NOWHERE),
        "otherPupilId": Field(
            _find_other(), "Id of the record that differentChildren is about, where within reach.", filter=Filter.NOWHERE
        ),
        "client": Field(_client_name, "Name of the client that sent it; null where it was not stored."),
        "clientId": Field(c.client_id, "Id of that client: names may be used again.", vocabulary=declare_ids(CLIENT, "client")),
        "actor": Field(
            c.actor,
            "Who said sameChild or differentChildren, as the vendor names them. Shown where the scope is held at the school where it was said.",
            scope=Scope.AUDIT_READ,
            reach=rows_of_school(c.tenant_id, c.recorded_at_school_id),
            filter=Filter.NOWHERE,
        ),
    },
    links={
        "pupil": Link(
            "pupil",
            ((c.tenant_id, pupils.c.tenant_id), (c.pupil_id, pupils.c.id)),
            "The pupil.",
            reverse="recordHistory",
            reverse_doc="Every change of the pupil's own record, the first of them first.",
            nullable=False,
            target_in_reach=True,
        ),
        "school": Link("school", ((c.spell_school_id, schools.c.id),), "The enrolment's school."),
    },
)
