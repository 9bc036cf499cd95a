"""What a window collects from each school: subjects and aspects, each with the scheme version that it is judged in.

A mark book draws its drop-down from the grades, which are those of the window's academic year.
"""

from typing import Any

from sqlalchemy import Column, MetaData, SmallInteger, Table, Text, Uuid, cast

from domain.access.reach import rows_of_school
from domain.assessment.schemes import scheme_grades, schemes
from domain.assessment.subjects import JUDGED, aspects, code_of, codes_of, subjects
from domain.assessment.windows import windows
from domain.declare.arguments import Argument
from domain.declare.ids import get_type_number, parse_id
from domain.declare.resource import Field, KeyValues, LabelOf, Link, Resource, declare_view
from domain.declare.scopes import Scope
from domain.declare.type_numbers import SCHOOL
from domain.declare.vocabulary import ROUNDING, VERSION, Vocabulary
from domain.roster.pupils import ROLL_OF_DAY, pupils
from domain.roster.schools import schools

window_subjects = Table(
    "window_subjects",
    MetaData(),
    Column("tenant_id", Uuid, nullable=False),
    Column("window_no", SmallInteger, nullable=False),
    Column("school_id", Uuid, nullable=False),
    Column("subject_no", SmallInteger, nullable=False),
    Column("aspect_no", SmallInteger, nullable=False),
    Column("scheme_version_no", SmallInteger, nullable=False),
    Column("scheme_id", Uuid, nullable=False),
    Column("scheme_version", SmallInteger, nullable=False),
    Column("rounding", SmallInteger),
    comment="A view: the pins of the schools within reach",
)
window_grades = declare_view("window_grades", scheme_grades, Column("window_no", SmallInteger, nullable=False))
s = window_subjects.c
window_pupils = declare_view(
    "window_pupils", pupils, Column("window_no", SmallInteger, nullable=False), Column("census_school_id", Uuid)
)
_KEY = (s.school_id, s.window_no, s.subject_no, s.aspect_no)


def _make_id() -> Any:
    """Returns in SQL the public id, which encodes the natural key. Its form differs from that of a judgement's."""
    school, *numbers = (cast(column, Text) for column in _KEY)
    return school + "-" + numbers[0] + "-" + numbers[1] + "-" + numbers[2]


def parse_window_subject_id(text: str) -> KeyValues | None:
    """Returns the natural key that a public id encodes, None for any other text."""
    school, *numbers = text.rsplit("-", 3)
    school_id = parse_id(school)
    if (
        school_id is None
        or get_type_number(school_id) != SCHOOL
        or len(numbers) != 3
        or not all(n.isascii() and n.isdigit() and len(n) < 5 and str(int(n)) == n for n in numbers)
    ):
        return None
    return tuple(zip(_KEY, (school_id, *map(int, numbers)), strict=True))


def _check_id(text: str) -> str:
    if parse_window_subject_id(text) is None:
        raise ValueError("The id is one that the API gave.")
    return text


WINDOW_SUBJECTS = Resource(
    name="windowSubject",
    plural="windowSubjects",
    slug="window-subjects",
    doc="What a window collects from a school in a subject and aspect, and the scheme version that it is judged in.",
    source=window_subjects,
    scope=Scope.WINDOWS_READ,
    order=("tenant_id", "window_no", "school_id", "subject_no", "aspect_no"),
    reach=rows_of_school(s.tenant_id, s.school_id),
    parse_key=parse_window_subject_id,
    fields={
        "id": Field(_make_id(), "Stable id; it encodes the natural key.", nullable=False, vocabulary=Vocabulary(_check_id)),
        "windowCode": Field(code_of(windows, s.tenant_id, s.window_no), "The window's code."),
        "schoolId": Field(s.school_id, "The school's id."),
        "subjectCode": Field(code_of(subjects, s.tenant_id, s.subject_no), "The subject's code.", vocabulary=JUDGED),
        "aspect": Field(code_of(aspects, s.tenant_id, s.aspect_no), "The aspect's code."),
        "schemeCode": Field(
            LabelOf(
                schemes,
                ((s.tenant_id, schemes.c.tenant_id), (s.scheme_id, schemes.c.id)),
                "code",
                codes=codes_of(schemes, "scheme"),
            ),
            "The scheme's code.",
        ),
        "schemeVersion": Field(s.scheme_version, "The version of the scheme, from 1.", vocabulary=VERSION),
        "rounding": Field(
            s.rounding,
            "Decimals to which a mark is rounded; null where a mark with more than two decimals is refused.",
            vocabulary=ROUNDING,
        ),
    },
    links_from_others={
        "window": {
            "pupils": Link(
                "pupil",
                ((windows.c.tenant_id, window_pupils.c.tenant_id), (windows.c.no, window_pupils.c.window_no)),
                "Who sits it, where within reach today: the pupils of its year groups on roll as a main registration on the census day, at a"
                " school that it collects from.",
                many=True,
                source=window_pupils,
                arguments={
                    "countedAt": Argument(
                        Uuid(),
                        "Id of a school within reach: who counts there. All by default.",
                        lambda row, value: value.is_(None) | (row.census_school_id == value),
                    )
                },
                choices={"roll": ROLL_OF_DAY},
            )
        }
    },
    links={
        "window": Link(
            "window",
            ((s.tenant_id, windows.c.tenant_id), (s.window_no, windows.c.no)),
            "The window.",
            reverse="collects",
            reverse_doc="What it collects from each school within reach, with the scheme version of each subject and aspect.",
            nullable=False,
            target_in_reach=True,
        ),
        "school": Link("school", ((s.school_id, schools.c.id),), "The school."),
        "subject": Link(
            "subject", ((s.tenant_id, subjects.c.tenant_id), (s.subject_no, subjects.c.no)), "The subject.", target_in_reach=True
        ),
        "scheme": Link(
            "scheme", ((s.tenant_id, schemes.c.tenant_id), (s.scheme_id, schemes.c.id)), "The scheme.", target_in_reach=True
        ),
        "grades": Link(
            "grade",
            (
                (s.tenant_id, window_grades.c.tenant_id),
                (s.window_no, window_grades.c.window_no),
                (s.scheme_version_no, window_grades.c.scheme_version_no),
            ),
            "What may be written: the grades of that version which the window's academic year has, in their order.",
            many=True,
            source=window_grades,
            target_in_reach=True,
        ),
    },
)
