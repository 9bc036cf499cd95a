"""The audit of collections: every type of data that a school collects, what is said of it, and what was measured.

A type is a subject and aspect in a scheme and a kind of window, at one school. Figures are of windows that closed within 13 months or have not closed,
since reads are counted that long. They are counted by the owner for whoever holds collections:read at the school, and never by teacher, class or pupil.
"""

from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Date,
    DateTime,
    Integer,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    and_,
    case,
    cast,
    func,
    literal_column,
    or_,
)

from domain.access.reach import rows_of_school
from domain.assessment.collection_answers import LEVELS, SECONDS, VERDICT, WINDOW_KIND
from domain.assessment.schemes import schemes
from domain.assessment.subjects import JUDGED, aspects, code_of, codes_of, subjects
from domain.declare.resource import Field, Filter, LabelOf, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.vocabulary import COUNT, PERCENT, declare_list, declare_range
from domain.read.statement import DIALECT
from domain.read.time_binds import TODAY
from domain.roster.schools import schools

WRITERS = ("0", "1–2", "3–5", "6+")
FROM = declare_list(*LEVELS, "window")

collections = Table(
    "collections",
    MetaData(),
    *(Column(name, Uuid, nullable=False) for name in ("tenant_id", "school_id", "scheme_id")),
    *(Column(name, SmallInteger, nullable=False) for name in ("subject_no", "aspect_no")),
    Column("window_kind", Text, nullable=False),
    Column("statutory", Boolean, nullable=False),
    *(Column(f"{name}{suffix}", Text) for name in ("purpose", "audience", "decision", "impact") for suffix in ("", "_level")),
    Column("verdict", Text),
    Column("decided_by", Text),
    Column("review_on", Date),
    Column("verdict_level", Text),
    *(
        Column(name, Integer, nullable=False)
        for name in (
            *("windows", "groups", "groups_never_read", "entered", "never_read", "overwritten", "unchanged", "writers"),
            *("typed", "imported", "carried", "typed_seconds", "imported_seconds", "carried_seconds"),
            *("reads", "aggregate_reads", "sync_reads", "analytics_reads", "unknown_kind_reads", "front_ends"),
            *("not_modified_unknown", "lost_counts"),
        )
    ),
    Column("reuse", Numeric),
    Column("counted_since", DateTime(timezone=True), nullable=False),
    comment="A view over a function of the owner",
)
c = collections.c


def _number(value: int) -> ColumnElement[int]:
    return literal_column(str(value), Integer)


def _text(value: str) -> ColumnElement[str]:
    return literal_column(f"'{value}'", Text)


def _percent_of(part: Column[int]) -> ColumnElement[Any]:
    return case((c.entered > _number(0), cast(func.round(part * literal_column("100.0") / c.entered), Integer)))


_seconds = c.typed * c.typed_seconds + c.imported * c.imported_seconds + c.carried * c.carried_seconds
MINUTES: ColumnElement[int] = cast(func.ceil(_seconds / literal_column("60.0")), Integer)
_writers: ColumnElement[str] = case(
    (c.writers == _number(0), _text(WRITERS[0])),
    (c.writers <= _number(2), _text(WRITERS[1])),
    (c.writers <= _number(5), _text(WRITERS[2])),
    else_=_text(WRITERS[3]),
)
_counted_on = cast(func.timezone(_text("Europe/London"), c.counted_since), Date)
_is_unread = and_(c.entered > _number(0), c.never_read == c.entered)
_is_settled = and_(c.verdict.is_not(None), or_(c.verdict == _text("stop"), c.review_on > TODAY))
IS_CANDIDATE = and_(
    _is_unread, ~func.coalesce(_is_settled, literal_column("false")), func.has_full_term(_counted_on, TODAY, type_=Boolean)
)
"""Whether a type may be stopped."""


def write_in_sql(expression: ColumnElement[Any], today: str) -> str:
    """Returns an expression of the columns of the view as SQL text, for a statement that reads `collections` by that name. `today` is the SQL of the day."""
    compiled = expression.compile(dialect=DIALECT)
    assert set(compiled.params) <= {TODAY.key}
    return compiled.string.replace("$1", today)


def _declare_inherited(name: str, column: str, doc: str) -> dict[str, Field]:
    """Returns a field that answers inherit, and one that says from which level its value is."""
    return {
        name: Field(c[column], f"{doc}; null where nobody has said it.", is_prose=True),
        f"{name}From": Field(
            c[f"{column}_level"],
            f"From which level {name} is: that of an answer, or window, where the newest window of the kind says it.",
            vocabulary=FROM,
        ),
    }


def _count(column: str, doc: str) -> Field:
    return Field(c[column], doc, vocabulary=COUNT)


COLLECTIONS = Resource(
    name="collection",
    plural="collections",
    versioned=False,
    doc="A type of data that a school collects: what is said of it, what it costs and who reads it. Figures are of the windows that closed within 13 months,"
    " or have not closed. Counts of reads appear within seconds.",
    source=collections,
    scope=Scope.COLLECTIONS_READ,
    order=("tenant_id", "school_id", "subject_no", "aspect_no", "window_kind", "scheme_id"),
    weight=2_000,
    reach=rows_of_school(c.tenant_id, c.school_id, tests_each_row=True),
    fields={
        "schoolId": Field(c.school_id, "The school's id."),
        "subjectCode": Field(code_of(subjects, c.tenant_id, c.subject_no), "The subject's code.", vocabulary=JUDGED),
        "aspect": Field(code_of(aspects, c.tenant_id, c.aspect_no), "The aspect."),
        "schemeCode": Field(
            LabelOf(
                schemes,
                ((c.tenant_id, schemes.c.tenant_id), (c.scheme_id, schemes.c.id)),
                "code",
                codes=codes_of(schemes, "scheme"),
            ),
            "The scheme's code.",
        ),
        "windowKind": Field(
            c.window_kind, "The kind of window: its season, or the code of the statutory collection.", vocabulary=WINDOW_KIND
        ),
        "statutory": Field(c.statutory, "Whether the collection is required by law."),
        **_declare_inherited("purpose", "purpose", "What the values are for"),
        **_declare_inherited("audience", "audience", "Who reads them"),
        **_declare_inherited("decision", "decision", "The decision they inform"),
        **_declare_inherited("impact", "impact", "What the collection does to children"),
        "verdict": Field(c.verdict, "keep, change or stop; null where nobody has decided.", vocabulary=VERDICT),
        "decidedBy": Field(c.decided_by, "Who has decided so.", filter=Filter.NOWHERE),
        "reviewOn": Field(c.review_on, "The day on which to look again."),
        "verdictFrom": Field(c.verdict_level, "From which level the verdict is.", vocabulary=declare_list(*LEVELS)),
        "windows": _count("windows", "Windows that collect it."),
        "groups": _count("groups", "Groups of values: windows in which the school has entered some."),
        "groupsNeverRead": _count(
            "groups_never_read",
            "Of these, those that no front end was given, neither as values nor in aggregates. A client whose grant does not say what it"
            " does with the data counts as one here.",
        ),
        "values": _count("entered", "Values that were entered and stand."),
        "valuesNeverRead": _count("never_read", "Of these, those in groups never read."),
        "neverReadPercent": Field(
            _percent_of(c.never_read), "The share of values never read; null without values.", vocabulary=PERCENT
        ),
        "neverRead": Field(_is_unread, "Whether there are values and none was ever read.", nullable=False),
        "valuesOverwritten": _count("overwritten", "Values that were changed after they had been entered."),
        "overwrittenPercent": Field(
            _percent_of(c.overwritten), "The share of values overwritten; null without values.", vocabulary=PERCENT
        ),
        "unchangedResends": _count("unchanged", "Values that were sent again and had not changed, so that nothing was written."),
        "writers": Field(
            _writers, "How many people or programs entered the values, roughly.", nullable=False, vocabulary=declare_list(*WRITERS)
        ),
        "minutes": Field(MINUTES, "Estimated minutes that entering the values took.", nullable=False, vocabulary=COUNT),
        "valuesTyped": _count(
            "typed",
            "Values that were typed: their method says so, or it says neither imported nor carried and no grant for sync sent them.",
        ),
        "valuesImported": _count(
            "imported",
            "Values that were imported: their method says so, or a client sent them whose grant is for sync or analytics.",
        ),
        "valuesCarried": _count("carried", "Values whose method says that they were carried on."),
        "typedSeconds": Field(c.typed_seconds, "Seconds that a typed value takes.", vocabulary=SECONDS),
        "importedSeconds": Field(c.imported_seconds, "Seconds that an imported value takes.", vocabulary=SECONDS),
        "carriedSeconds": Field(c.carried_seconds, "Seconds that a carried value takes.", vocabulary=SECONDS),
        "reads": _count("reads", "How often a front end was given values, with answers 304 for values that it had."),
        "aggregateReads": _count("aggregate_reads", "How often a front end was given aggregates that pool the values."),
        "syncReads": _count("sync_reads", "How often clients were given them that copy the data elsewhere, which is no use."),
        "analyticsReads": _count("analytics_reads", "How often clients were given them that evaluate the data, which is no use."),
        "unknownKindReads": _count(
            "unknown_kind_reads", "How often clients were given them whose grants do not say what they do with the data."
        ),
        "notModifiedUnknown": _count(
            "not_modified_unknown",
            "Of the whole trust: how often a front end was told that what it has is current, where it is not known what it has.",
        ),
        "lostCounts": _count(
            "lost_counts", "Of the whole trust: how many counts of reads were lost, so that the others are too low."
        ),
        "frontEnds": _count("front_ends", "How many front ends were given values of one group, at most."),
        "reuse": Field(
            c.reuse,
            "Front ends that were given a value, per value entered; null without values.",
            vocabulary=declare_range(0, None, 2),
        ),
        "countedSince": Field(
            c.counted_since, "Since when reads of it are counted: since its first value, or since reads are counted here."
        ),
        "stopCandidate": Field(
            IS_CANDIDATE,
            "Whether it may be stopped: no value was ever read in a full term of counting, and nobody has decided to keep, change or stop it"
            " until a later day.",
            nullable=False,
        ),
    },
    links={
        "school": Link(
            "school",
            ((c.tenant_id, schools.c.tenant_id), (c.school_id, schools.c.id)),
            "The school.",
            nullable=False,
            target_in_reach=True,
        )
    },
)
