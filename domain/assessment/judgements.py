"""Judgements: one value per pupil, subject, aspect and window."""

from functools import partial
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
    DateTime,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    any_,
    cast,
    exists,
    false,
    func,
    literal_column,
    select,
    tuple_,
)

from domain.access.reach import rows_of_pupil, rows_of_school
from domain.assessment.against_target import compare_with_target, find_target, judge_outcome
from domain.assessment.as_of import AS_OF, holds_on, make_known_columns
from domain.assessment.code_lists import JUDGEMENT_STATUS
from domain.assessment.schemes import column_of_grade
from domain.assessment.subjects import JUDGED, aspects, code_of, codes_of, subjects
from domain.assessment.window_state import has_opened
from domain.assessment.windows import pins, windows
from domain.declare.arguments import Argument
from domain.declare.ids import get_type_number, parse_id
from domain.declare.resource import Field, Filter, KeyValues, Link, Resource, declare_view
from domain.declare.scopes import Scope
from domain.declare.type_numbers import PUPIL, TARGET
from domain.declare.value_types import MAX_SHORT_TEXT
from domain.declare.vocabulary import NUMBER, VERSION, Vocabulary, declare_ids, declare_list
from domain.roster.pupils import CHANGED_AT, pupils
from domain.roster.schools import schools
from domain.roster.years import ACADEMIC_YEAR, academic_year_text
from domain.store.metadata import metadata

judgements = Table(
    "judgements",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("academic_year", SmallInteger, primary_key=True),
    Column("pupil_id", Uuid, primary_key=True),
    Column("window_no", SmallInteger, primary_key=True),
    Column("subject_no", SmallInteger, primary_key=True),
    Column("aspect_no", SmallInteger, primary_key=True),
    Column("school_id", Uuid, nullable=False),
    Column("scheme_version_no", SmallInteger, nullable=False),
    Column("grade_no", SmallInteger),
    Column("mark", Numeric(8, 2)),
    Column("status_code", Text),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("recorded_at_school_id", Uuid, nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("actor", Text),
    Column("source", Text),
    Column("method", Text),
    Column("version", Integer, nullable=False),
    Column("changed_at", DateTime(timezone=True), comment="Null until it changes"),
)
j = judgements.c
latest_judgements = declare_view("latest_judgements", judgements)
judgements_known = declare_view("judgements_known", judgements, *make_known_columns())


def make_judgement_id(pupil_id: Any, window_no: Any, subject_no: Any, aspect_no: Any) -> Any:
    """Returns in SQL the public id of a judgement, which encodes its natural key."""
    return cast(pupil_id, Text) + "." + cast(window_no, Text) + "." + cast(subject_no, Text) + "." + cast(aspect_no, Text)


def parse_judgement_id(text: str) -> KeyValues | None:
    """Returns the natural key that a public id encodes, None for any other text."""
    pupil, *numbers = text.split(".")
    pupil_id = parse_id(pupil)
    if (
        pupil_id is None
        or get_type_number(pupil_id) != PUPIL
        or len(numbers) != 3
        or not all(n.isascii() and n.isdigit() and len(n) < 5 and str(int(n)) == n for n in numbers)
    ):
        return None
    window_no, subject_no, aspect_no = map(int, numbers)
    return ((j.pupil_id, pupil_id), (j.window_no, window_no), (j.subject_no, subject_no), (j.aspect_no, aspect_no))


def check_judgement_id(text: str) -> str:
    """Returns the text of a judgement's id. Raises ValueError for any other text."""
    if parse_judgement_id(text) is None:
        raise ValueError("The id of a judgement is one that the API gave.")
    return text


def _find_carried_from() -> ColumnElement[Any]:
    """Returns in SQL the code of the judgement's window, if a later window collects the same from the pupil and no
    later one has a grade; else null.
    """
    own, later, pinned, other, pupil = windows.alias(), windows.alias(), pins.alias(), judgements.alias(), pupils.alias()
    after = (later.c.tenant_id == j.tenant_id) & (tuple_(later.c.census_on, later.c.no) > tuple_(own.c.census_on, own.c.no))
    collected = (
        (pinned.c.tenant_id == j.tenant_id)
        & (pinned.c.window_no == later.c.no)
        & (pinned.c.school_id == j.school_id)
        & (pinned.c.subject_no == j.subject_no)
        & (pinned.c.aspect_no == j.aspect_no)
    )
    of_pupil = (pupil.c.tenant_id == j.tenant_id) & (pupil.c.id == j.pupil_id) & (pupil.c.year_group == any_(later.c.year_groups))
    is_collected_later = exists().where(after, has_opened(later.c), collected, of_pupil).correlate_except(later, pinned, pupil)
    same = (
        (other.c.tenant_id == j.tenant_id)
        & (other.c.academic_year >= j.academic_year)
        & (other.c.pupil_id == j.pupil_id)
        & (other.c.subject_no == j.subject_no)
        & (other.c.aspect_no == j.aspect_no)
        & (other.c.window_no == later.c.no)
        & other.c.grade_no.is_not(None)
    )
    is_replaced = exists().where(after, same).correlate_except(later, other)
    has_grade = (own.c.tenant_id == j.tenant_id) & (own.c.no == j.window_no) & j.grade_no.is_not(None)
    return select(own.c.code).where(has_grade, is_collected_later, ~is_replaced).correlate_except(own).scalar_subquery()


def _was_latest(row: Any, day: ColumnElement[Any]) -> ColumnElement[bool]:
    """Whether a grade stood on the day, and none of a later window did of the same pupil, subject and aspect."""
    own, later, other = windows.alias(), windows.alias(), judgements_known.alias()
    same = [other.c[name] == row[name] for name in ("tenant_id", "pupil_id", "subject_no", "aspect_no")]
    of_windows = [
        (own.c.tenant_id == row.tenant_id) & (own.c.no == row.window_no),
        (later.c.tenant_id == row.tenant_id) & (later.c.no == other.c.window_no),
        tuple_(later.c.census_on, later.c.no) > tuple_(own.c.census_on, own.c.no),
    ]
    is_later = exists().where(*same, *of_windows, other.c.grade_no.is_not(None), holds_on(other.c, day))
    was_latest: ColumnElement[bool] = row.grade_no.is_not(None) & ~is_later.correlate_except(own, later, other)
    return holds_on(row, day) & was_latest


JUDGEMENTS = Resource(
    name="judgement",
    plural="judgements",
    doc="What was judged of a pupil in a subject and window.",
    source=judgements,
    scope=Scope.JUDGEMENTS_READ,
    order=("tenant_id", "academic_year", "pupil_id", "window_no", "subject_no", "aspect_no"),
    reach=rows_of_pupil(j.tenant_id, j.school_id, j.pupil_id),
    collected=("recorded_at_school_id", "window_no", "subject_no", "aspect_no"),
    parse_key=parse_judgement_id,
    is_looked_up=True,
    arguments={"asOf": Argument(Date(), AS_OF, holds_on, source=judgements_known)},
    fields={
        "id": Field(
            make_judgement_id(j.pupil_id, j.window_no, j.subject_no, j.aspect_no),
            "Stable id; it encodes the natural key.",
            nullable=False,
            vocabulary=Vocabulary(check_judgement_id),
        ),
        "academicYear": Field(
            academic_year_text(j.academic_year), "Academic year, such as 2017-18.", nullable=False, vocabulary=ACADEMIC_YEAR
        ),
        "pupilId": Field(j.pupil_id, "The pupil's id."),
        "schoolId": Field(j.school_id, "The pupil's school of main registration today."),
        "windowCode": Field(
            code_of(windows, j.tenant_id, j.window_no, (j.academic_year, windows.c.academic_year)), "The window's code."
        ),
        "subjectCode": Field(code_of(subjects, j.tenant_id, j.subject_no), "The subject's code.", vocabulary=JUDGED),
        "aspect": Field(
            code_of(aspects, j.tenant_id, j.aspect_no),
            "main by default: a test score, a teacher's judgement and effort can be separate aspects.",
        ),
        "grade": Field(column_of_grade(j, "code"), "The grade as written; null where a status says why there is none."),
        "expected": Field(
            column_of_grade(j, "expected"),
            "Whether the grade meets the expected standard; null where the scheme has none, or a later version has it: the STA publishes some after the test.",
        ),
        "higher": Field(
            column_of_grade(j, "higher"), "Whether the grade meets the higher standard; null where the scheme has none."
        ),
        "eligible": Field(
            column_of_grade(j, "eligible", j.status_code.is_distinct_from(literal_column("'left'"))),
            "Whether the grade or status leaves the pupil in the denominator, where neither a discount nor the census takes the pupil out.",
            nullable=False,
        ),
        "valid": Field(
            column_of_grade(j, "valid", false()),
            "Whether the grade is a value that counts; a status is none.",
            nullable=False,
        ),
        "mark": Field(j.mark, "The mark behind the grade, where there is one.", vocabulary=NUMBER),
        "status": Field(
            j.status_code,
            "Why there is no grade: absent, new, left, notTaught or exempt; withdrawn where the value was taken back.",
            vocabulary=JUDGEMENT_STATUS,
        ),
        "againstTarget": Field(
            compare_with_target(j),
            "above, on or below againstTargetId: by the bands of the common scale where the trust has one, else by rank within one version of"
            " a scheme; null where neither tells.",
            scope=Scope.TARGETS_READ,
            on_day=partial(compare_with_target, j),
            vocabulary=declare_list("above", "on", "below"),
        ),
        "targetOutcome": Field(
            judge_outcome(j),
            "above, on or below as againstTarget says; no-target where the caller sees none, not-comparable where againstTarget is null; null"
            " without a grade. Shown where it is named.",
            scope=Scope.TARGETS_READ,
            on_day=partial(judge_outcome, j),
            costly=True,
            vocabulary=declare_list("above", "on", "below", "no-target", "not-comparable"),
        ),
        "againstTargetId": Field(
            find_target(j),
            "The target with the nearest horizon from the window's census day on, as it stood when the window closed, or now while it"
            " is open. Shown where it is named.",
            scope=Scope.TARGETS_READ,
            on_day=partial(find_target, j),
            costly=True,
            vocabulary=declare_ids(TARGET, "target"),
        ),
        "recordedAt": Field(j.recorded_at, "When the teacher judged."),
        "receivedAt": Field(j.received_at, "When it first arrived here; it never changes."),
        "changedAt": Field(func.greatest(j.changed_at, j.received_at, type_=DateTime(timezone=True)), CHANGED_AT, nullable=False),
        "actor": Field(
            j.actor,
            "Who judged, as the vendor names them. Shown where the scope is held at the school that recorded it.",
            scope=Scope.AUDIT_READ,
            reach=rows_of_school(j.tenant_id, j.recorded_at_school_id),
            filter=Filter.NOWHERE,
        ),
        "source": Field(j.source, "Where it was entered.", longest=MAX_SHORT_TEXT),
        "method": Field(j.method, "How it was judged.", longest=MAX_SHORT_TEXT),
        "version": Field(j.version, "Grows by one with each change.", vocabulary=VERSION),
        "carriedFrom": Field(
            _find_carried_from(),
            "The window's code, where a later window has collected the subject from the pupil and holds no grade, so that this one"
            " still applies; null otherwise. Shown where it is named, and in latestJudgements.",
            costly=True,
            codes=codes_of(windows, "window"),
        ),
    },
    links={
        "pupil": Link(
            "pupil",
            ((j.tenant_id, pupils.c.tenant_id), (j.pupil_id, pupils.c.id)),
            "The pupil.",
            reverse="judgements",
            reverse_doc="Judgements.",
            target_in_reach=True,
            source_in_reach=True,
        ),
        "window": Link(
            "window",
            ((j.tenant_id, windows.c.tenant_id), (j.window_no, windows.c.no)),
            "The window.",
            reverse="judgements",
            reverse_doc="Values.",
            target_in_reach=True,
        ),
        "subject": Link(
            "subject", ((j.tenant_id, subjects.c.tenant_id), (j.subject_no, subjects.c.no)), "The subject.", target_in_reach=True
        ),
        "school": Link("school", ((j.school_id, schools.c.id),), "The pupil's school of main registration."),
    },
    links_from_others={
        "pupil": {
            "latestJudgements": Link(
                "judgement",
                ((pupils.c.tenant_id, latest_judgements.c.tenant_id), (pupils.c.id, latest_judgements.c.pupil_id)),
                "The latest grade of each subject and aspect, whichever window it is from.",
                many=True,
                source=latest_judgements,
                also_shows=("carriedFrom",),
                arguments={"asOf": Argument(Date(), AS_OF, _was_latest, source=judgements_known)},
                target_in_reach=True,
            )
        }
    },
)
