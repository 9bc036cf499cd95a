"""The history of judgements: each change, when it was made, from what to what and by which client.

A row is about a pupil and is read where the pupil is reached today. What a change replaced is that before it in the
chain of versions, which a merge of two records joins.
"""

from typing import Any

from sqlalchemy import (
    Column,
    DateTime,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    case,
    literal_column,
)

from domain.access.client_names import find_client_name
from domain.access.reach import rows_of_pupil, rows_of_school
from domain.assessment.code_lists import JUDGEMENT_STATUS
from domain.assessment.judgements import check_judgement_id, judgements, make_judgement_id
from domain.assessment.schemes import column_of_grade
from domain.assessment.subjects import JUDGED, aspects, code_of, subjects
from domain.assessment.windows import windows
from domain.declare.resource import Field, Filter, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT
from domain.declare.value_types import MAX_SHORT_TEXT
from domain.declare.vocabulary import NUMBER, VERSION, Vocabulary, declare_ids, declare_list
from domain.roster.pupils import pupils
from domain.roster.schools import schools
from domain.roster.text_order import sort_by_text

judgement_changes = Table(
    "judgement_changes",
    MetaData(),
    *(Column(name, Uuid, nullable=False) for name in ("tenant_id", "pupil_id", "school_id", "recorded_at_school_id", "client_id")),
    *(Column(name, SmallInteger, nullable=False) for name in ("academic_year", "window_no", "subject_no", "aspect_no")),
    Column("version", Integer, nullable=False),
    Column("scheme_version_no", SmallInteger, nullable=False),
    Column("grade_no", SmallInteger),
    Column("mark", Numeric(8, 2)),
    Column("status_code", Text),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("actor", Text),
    Column("source", Text),
    Column("method", Text),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("before_scheme_version_no", SmallInteger),
    Column("before_grade_no", SmallInteger),
    Column("before_mark", Numeric(8, 2)),
    Column("before_status_code", Text),
    comment="A view over judgements and their history",
)
c = judgement_changes.c
_client_name = find_client_name(c.client_id)


class _Before:
    """The columns of a row that say what was replaced, as `column_of_grade` reads them."""

    tenant_id, scheme_version_no, grade_no = c.tenant_id, c.before_scheme_version_no, c.before_grade_no


_KEY = ("tenant_id", "academic_year", "pupil_id", "window_no", "subject_no", "aspect_no")
_outcome: Any = case(
    (c.before_scheme_version_no.is_(None), literal_column("'created'", Text)),
    (c.status_code == literal_column("'withdrawn'"), literal_column("'withdrawn'", Text)),
    else_=literal_column("'updated'", Text),
)

JUDGEMENT_CHANGES = Resource(
    name="judgementChange",
    plural="judgementChanges",
    slug="judgement-changes",
    doc="A change of a judgement: when, from what to what, and by which client.",
    source=judgement_changes,
    scope=Scope.JUDGEMENTS_READ,
    order=(*_KEY, "version"),
    reach=rows_of_pupil(c.tenant_id, c.school_id, c.pupil_id),
    collected=("recorded_at_school_id", "window_no", "subject_no", "aspect_no"),
    fields={
        "judgementId": Field(
            make_judgement_id(c.pupil_id, c.window_no, c.subject_no, c.aspect_no),
            "The judgement's id.",
            nullable=False,
            vocabulary=Vocabulary(check_judgement_id),
        ),
        "pupilId": Field(c.pupil_id, "The pupil's id."),
        "windowCode": Field(
            code_of(windows, c.tenant_id, c.window_no, (c.academic_year, windows.c.academic_year)), "The window's code."
        ),
        "subjectCode": Field(code_of(subjects, c.tenant_id, c.subject_no), "The subject's code.", vocabulary=JUDGED),
        "aspect": Field(code_of(aspects, c.tenant_id, c.aspect_no), "The aspect's code."),
        "version": Field(c.version, "The version of the judgement that the change made.", vocabulary=VERSION),
        "outcome": Field(
            _outcome,
            "created, updated or withdrawn.",
            nullable=False,
            vocabulary=declare_list("created", "updated", "withdrawn"),
        ),
        "changedAt": Field(c.changed_at, "When it was made."),
        "fromGrade": Field(column_of_grade(_Before, "code"), "The grade before."),
        "fromMark": Field(c.before_mark, "The mark before.", vocabulary=NUMBER),
        "fromStatus": Field(c.before_status_code, "The status before.", vocabulary=JUDGEMENT_STATUS),
        "toGrade": Field(column_of_grade(c, "code"), "The grade after."),
        "toMark": Field(c.mark, "The mark after.", vocabulary=NUMBER),
        "toStatus": Field(c.status_code, "The status after.", vocabulary=JUDGEMENT_STATUS),
        "recordedAt": Field(c.recorded_at, "When the teacher judged."),
        "client": Field(_client_name, "Name of the client that sent it.", sort_key=sort_by_text(_client_name)),
        "clientId": Field(c.client_id, "Id of that client: names may be used again.", vocabulary=declare_ids(CLIENT, "client")),
        "actor": Field(
            c.actor,
            "Who judged, as the vendor names them. Shown where the scope is held at the school that recorded it.",
            scope=Scope.AUDIT_READ,
            reach=rows_of_school(c.tenant_id, c.recorded_at_school_id),
            filter=Filter.NOWHERE,
        ),
        "source": Field(c.source, "Where it was entered.", longest=MAX_SHORT_TEXT),
        "method": Field(c.method, "How it was judged.", longest=MAX_SHORT_TEXT),
    },
    links={
        "pupil": Link(
            "pupil",
            ((c.tenant_id, pupils.c.tenant_id), (c.pupil_id, pupils.c.id)),
            "The pupil.",
            reverse="history",
            reverse_doc="Every change of the pupil's judgements.",
            target_in_reach=True,
            source_in_reach=True,
        ),
        "judgement": Link(
            "judgement",
            tuple((c[name], judgements.c[name]) for name in _KEY),
            "The judgement.",
            reverse="history",
            reverse_doc="Every change of it, the first of them first.",
            nullable=False,
            target_in_reach=True,
            source_in_reach=True,
        ),
        "school": Link("school", ((c.school_id, schools.c.id),), "The pupil's school of main registration."),
    },
)
