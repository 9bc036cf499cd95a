"""Data issues: doubts about pupils that a batch or a change raised, by school, until their cause is gone."""

from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Uuid, and_, any_, func, literal_column, or_, select

from domain.access.client_names import find_client_name
from domain.access.reach import rows_of_pupil, rows_of_school
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT, DATA_ISSUE
from domain.declare.vocabulary import declare_ids, declare_list
from domain.roster.pupils import PUPIL_IDS, PUPILS, pupils
from domain.roster.schools import schools
from domain.roster.text_order import sort_by_text
from domain.write.findings import FOUND_IN_ROWS, data_issues

d = data_issues.c
SAME_CHILD = "possible-same-child"
"""The kind that is told only to who reaches every pupil of the issue."""
KINDS = (*FOUND_IN_ROWS, "not-source", "upn-released", "reference-collides", SAME_CHILD)


def _select_pupils(make_value: Any, scope: Scope | None) -> ColumnElement[Any]:
    """Returns in SQL a value of the issue's pupils that are within reach."""
    p = pupils.alias()
    is_reached = rows_of_pupil(p.c.tenant_id, p.c.school_id, p.c.id)(scope)
    of_issue = and_(p.c.tenant_id == d.tenant_id, p.c.id == any_(d.pupil_ids), is_reached)
    return select(make_value(p.c.id)).where(of_issue).correlate_except(p).scalar_subquery()


def _is_told(scope: Scope | None) -> ColumnElement[bool]:
    """Returns the condition that an issue is told: its school is within reach and, of a possible-same-child, every
    pupil.
    """
    reaches_all = func.cardinality(d.pupil_ids) == _select_pupils(func.count, scope)
    return and_(rows_of_school(d.tenant_id, d.school_id)(scope), or_(d.kind != SAME_CHILD, reaches_all))


def _list_ids(pupil_id: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.array_agg(pupil_id.distinct()), literal_column("'{}'::uuid[]"), type_=ARRAY(Uuid))


_client_name = find_client_name(d.client_id)

DATA_ISSUES = Resource(
    name="dataIssue",
    plural="dataIssues",
    slug="data-issues",
    versioned=False,
    doc="A doubt about pupils that somebody has to look at; it is gone when its cause is. A possible-same-child is shown only to who reaches all of its"
    " pupils.",
    source=data_issues,
    type_number=DATA_ISSUE,
    scope=Scope.PUPILS_READ,
    order=("tenant_id", "id"),
    reach=_is_told,
    fields={
        "id": Field(d.id, "Id of the issue."),
        "kind": Field(
            d.kind,
            "What is wrong. pupil-merge-needed: the keys of a row belong to several pupils. pupil-conflict: a row contradicts the pupil it names."
            " identity-changed: a row changes permanent UPN and surname. not-source: a client other than the school's source sent something else."
            " upn-released: a UPN that was recorded for the pupil in error went to its owner; told for 30 days. reference-collides: an old reference of"
            " one pupil differs from another's in blanks or Unicode's form alone, so that it cannot be sent any more."
            " possible-same-child: two pupils, of one school or of two, seem to be one child, and one of them has no permanent UPN.",
            vocabulary=declare_list(*KINDS),
        ),
        "schoolId": Field(d.school_id, "Id of the school that it is about."),
        "pupilIds": Field(
            _select_pupils(_list_ids, Scope.PUPILS_READ),
            "Ids of its pupils, of those within reach.",
            nullable=False,
            vocabulary=PUPIL_IDS,
        ),
        "differing": Field(
            d.fields, "Names of the fields that differ, where the kind is about fields.", vocabulary=declare_list(*PUPILS.fields)
        ),
        "client": Field(
            _client_name,
            "Name of the client that sent it; null where it was found in stored data.",
            sort_key=sort_by_text(_client_name),
        ),
        "clientId": Field(d.client_id, "Id of that client: names may be used again.", vocabulary=declare_ids(CLIENT, "client")),
        "foundAt": Field(d.found_at, "When it was found first."),
    },
    links={
        "school": Link(
            "school",
            ((d.school_id, schools.c.id),),
            "The school.",
            reverse="dataIssues",
            reverse_doc="What is doubtful about its pupils.",
        )
    },
)
