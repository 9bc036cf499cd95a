"""What people say of the types of data that schools collect: what each is for, what it does to children, and whether it is kept.

An answer is written at a level: for the trust as a whole, or for a school, a subject, an aspect of it, a kind of window, or several of these
together. Each field is inherited by all below that say nothing else. An answer that is replaced stays as history.
"""

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
    DateTime,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    Uuid,
    case,
    func,
    literal_column,
)

from domain.access.client_names import find_client_name
from domain.access.reach import rows_of_tenant
from domain.assessment.seasons import SEASON
from domain.assessment.subjects import JUDGED, aspects, code_of, subjects
from domain.assessment.window_templates import WINDOW_TEMPLATE
from domain.declare.resource import Field, Filter, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT, COLLECTION_ANSWER, SCHOOL
from domain.declare.vocabulary import VERSION, declare_ids, declare_list, declare_range
from domain.roster.schools import schools
from domain.roster.text_order import sort_by_text
from domain.store.metadata import metadata

VERDICTS = ("keep", "change", "stop")
VERDICT = declare_list(*VERDICTS)
WINDOW_KIND = declare_list(*SEASON.words, *WINDOW_TEMPLATE.words)
"""The kinds of windows: a statutory collection by the code of its template, any other by its season."""
MAX_SECONDS = 3600
SECONDS = declare_range(0, MAX_SECONDS)

collection_answers = Table(
    "collection_answers",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("school_id", Uuid),
    Column("subject_no", SmallInteger),
    Column("aspect_no", SmallInteger),
    Column("window_kind", Text),
    Column("purpose", Text),
    Column("audience", Text),
    Column("decision", Text),
    Column("impact", Text),
    Column("verdict", Text),
    Column("decided_by", Text),
    Column("review_on", Date),
    Column("typed_seconds", SmallInteger),
    Column("imported_seconds", SmallInteger),
    Column("carried_seconds", SmallInteger),
    Column("client_id", Uuid, nullable=False),
    Column("written_at", DateTime(timezone=True), nullable=False),
    Column("replaced_at", DateTime(timezone=True)),
    Column("version", Integer, nullable=False),
    Index("collection_answers_by_id", "id"),
)
a = collection_answers.c
_client_name = find_client_name(a.client_id)
_PARTS = ("school", "subject", "aspect", "kind")


def _list_levels() -> tuple[str, ...]:
    """Returns the levels, of which each names what it says something of."""
    levels = ["trust"]
    for bits in range(1, 1 << len(_PARTS)):
        parts = [part for i, part in enumerate(_PARTS) if bits >> i & 1]
        if "aspect" not in parts or "subject" in parts:
            levels.append("+".join(parts))
    return tuple(levels)


LEVELS = _list_levels()
LEVEL = declare_list(*LEVELS)


def _derive_level() -> ColumnElement[Any]:
    columns = zip(_PARTS, (a.school_id, a.subject_no, a.aspect_no, a.window_kind), strict=True)
    parts = [case((column.is_not(None), literal_column(f"'{part}'", Text))) for part, column in columns]
    named = func.nullif(func.concat_ws(literal_column("'+'"), *parts), literal_column("''"))
    return func.coalesce(named, literal_column("'trust'"), type_=Text)


COLLECTION_ANSWERS = Resource(
    name="collectionAnswer",
    plural="collectionAnswers",
    slug="collection-answers",
    doc="What somebody said of a type of collected data at a level, which all below inherit; with those that were replaced.",
    source=collection_answers,
    type_number=COLLECTION_ANSWER,
    scope=Scope.COLLECTIONS_READ,
    order=("tenant_id", "id"),
    reach=rows_of_tenant(a.tenant_id),
    fields={
        "id": Field(a.id, "Stable id; the answer that replaces it has another."),
        "level": Field(
            _derive_level(),
            "Of what it is said: trust, or school, subject, aspect and kind, joined by a plus. The more it names, the more specific it is:"
            " a school before a subject before an aspect before a kind of window.",
            nullable=False,
            vocabulary=LEVEL,
        ),
        "schoolId": Field(a.school_id, "The school's id; null: all schools.", vocabulary=declare_ids(SCHOOL, "school")),
        "subjectCode": Field(code_of(subjects, a.tenant_id, a.subject_no), "The subject's code; null: all.", vocabulary=JUDGED),
        "aspect": Field(code_of(aspects, a.tenant_id, a.aspect_no), "The aspect; null: all."),
        "windowKind": Field(
            a.window_kind, "A season, or the code of a statutory collection; null: all windows.", vocabulary=WINDOW_KIND
        ),
        "purpose": Field(a.purpose, "What the values are for; null: as inherited.", is_prose=True),
        "audience": Field(a.audience, "Who reads them; null: as inherited.", is_prose=True),
        "decision": Field(a.decision, "The decision they inform; null: as inherited.", is_prose=True),
        "impact": Field(a.impact, "What the collection does to children; null: as inherited.", is_prose=True),
        "verdict": Field(a.verdict, "keep, change or stop; null: as inherited.", vocabulary=VERDICT),
        "decidedBy": Field(a.decided_by, "Who has decided so.", filter=Filter.NOWHERE),
        "reviewOn": Field(a.review_on, "The day on which to look again."),
        "typedSeconds": Field(
            a.typed_seconds, "Seconds that a typed value takes; null: as inherited, else 20.", vocabulary=SECONDS
        ),
        "importedSeconds": Field(
            a.imported_seconds, "Seconds that an imported value takes; null: as inherited, else 1.", vocabulary=SECONDS
        ),
        "carriedSeconds": Field(
            a.carried_seconds, "Seconds that a carried value takes; null: as inherited, else 2.", vocabulary=SECONDS
        ),
        "client": Field(_client_name, "Name of the client that wrote it.", sort_key=sort_by_text(_client_name)),
        "clientId": Field(a.client_id, "Id of that client: names may be used again.", vocabulary=declare_ids(CLIENT, "client")),
        "writtenAt": Field(a.written_at, "When it was written."),
        "replacedAt": Field(a.replaced_at, "When another one replaced it, or it was taken back; null while it holds."),
        "current": Field(a.replaced_at.is_(None), "Whether it holds.", nullable=False),
        "version": Field(a.version, "How many answers there were at the level, with this one.", vocabulary=VERSION),
    },
    links={"school": Link("school", ((a.school_id, schools.c.id),), "The school; null where it is of all.")},
)
