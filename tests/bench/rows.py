"""The rows of pupils and of what is judged of them, as the lines of COPY: the same for the same school, in the form that the commands leave.

Pupils are numbered from 0 through all schools, and the number stands in the last digits of the id, so that pgbench can name one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from random import Random
from uuid import UUID

from api.demo.names import POOLS
from domain.declare.ids import new_id
from domain.declare.type_numbers import ENROLMENT, TARGET
from domain.roster.upn import compute_check_letter

PUPILS = 300
"""A school's."""
SUBJECTS = ("reading", "writing", "maths", "science")
TARGETED = SUBJECTS[:3]
OUT_OF, MISSING = 27, (0, 13)
"""Of as many judgements that could be there, those that are missing: 33.3 of a pupil's 36 are there."""


def pupil_id(n: int) -> str:
    """A UUIDv7 with the type number of pupils, made in the summer of 2024."""
    return f"0190f6a0-0000-7004-8000-{n:012x}"


@dataclass(frozen=True)
class Window:
    """A window of one tenant."""

    no: int
    year: int
    census_on: date


@dataclass(frozen=True)
class School:
    """A school, the first of its pupils, and what its tenant's numbers are."""

    id: UUID
    tenant_id: UUID
    urn: int
    first: int
    windows: tuple[Window, ...]
    subjects: dict[str, int]
    scheme_version_no: int
    grades: tuple[int, ...]
    client_id: UUID

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + PUPILS)

    @property
    def this_year(self) -> int:
        """The year after the last window's."""
        return self.windows[-1].year + 1

    def grade(self, draw: Random) -> int:
        return draw.choices(self.grades, (20, 15, 45, 20) if len(self.grades) == 4 else (25, 55, 20))[0]


def describe_school(urn: int, first: int, this_year: int) -> School:
    """A school of which no more is known than its pupils need."""
    nobody, last = UUID(int=0), Window(1, this_year - 1, date(this_year, 5, 21))
    return School(nobody, nobody, urn, first, (last,), {}, 0, (), nobody)


Line = tuple[object, ...]


def year_group(n: int, years_ago: int = 0) -> str:
    """Years 3 to 6 today, so that everybody was at school in all three years of the windows."""
    return "R123456"[3 + n % 4 - years_ago]


def pupils(school: School) -> Iterator[Line]:
    draw = Random(school.first)
    for n in school.numbers:
        pool, sex = draw.choices(POOLS, [pool.share for pool in POOLS])[0], "FM"[n // 4 % 2]
        forename = draw.choice(pool.girls if sex == "F" else pool.boys)
        born = date(school.this_year - 7 - n % 4, 9, 1) + timedelta(draw.randrange(365))
        yield (
            school.tenant_id,
            pupil_id(n),
            school.id,
            _upn(school, n),
            draw.choice(pool.surnames),
            forename,
            born,
            sex,
            year_group(n),
        )


def _upn(school: School, n: int) -> str:
    rest = f"850{school.urn % 10000:04}{(school.this_year - 2 - n % 4) % 100:02}{n % PUPILS:03}"
    return compute_check_letter(rest) + rest


def upns(school: School) -> Iterator[Line]:
    for n in school.numbers:
        yield school.tenant_id, _upn(school, n), pupil_id(n), school.id, "t"


def enrolments(school: School) -> Iterator[Line]:
    for n in school.numbers:
        yield school.tenant_id, new_id(ENROLMENT), pupil_id(n), school.id, "C", date(school.this_year - 3 - n % 4, 9, 1)


def characteristics(school: School) -> Iterator[Line]:
    draw = Random(school.first)
    for n in school.numbers:
        for years_ago in range(4):
            since = date(school.this_year - years_ago, 9, 1)
            yield school.tenant_id, pupil_id(n), "yearGroup", since, school.id, year_group(n, years_ago)
        since = date(school.this_year - 3, 9, 1)
        for kind, values, weights in (
            ("ever6Fsm", ("true", "false"), (30, 70)),
            ("eal", "12", (78, 22)),
            ("sen", "NKE", (82, 14, 4)),
        ):
            yield school.tenant_id, pupil_id(n), kind, since, school.id, draw.choices(values, weights)[0]


def judgements(school: School) -> Iterator[Line]:
    draw, at = Random(school.first), 0
    for n in school.numbers:
        at = n * len(school.windows) * len(SUBJECTS)
        for window in school.windows:
            judged = f"{window.census_on + timedelta(draw.randrange(21))} 15:30:00+00"
            for subject in SUBJECTS:
                at += 1
                if at % OUT_OF in MISSING:
                    continue
                grade, status = (None, "absent") if draw.random() < 0.01 else (school.grade(draw), None)
                yield (
                    *(school.tenant_id, window.year, pupil_id(n), window.no, school.subjects[subject], 0, school.id),
                    *(school.scheme_version_no, grade, status, judged, judged, school.id, school.client_id),
                    *(f"staff-{school.urn % 10}{n % 4}", "mis", "teacher-assessment"),
                )


def targets(school: School) -> Iterator[Line]:
    draw, set_on = Random(school.first), f"{school.this_year}-09-25 16:00:00+00"
    for n in school.numbers:
        for subject in TARGETED:
            grade = max(school.grade(draw), school.grades[-3] + 1)
            yield (
                *(school.tenant_id, new_id(TARGET), pupil_id(n), school.id, school.subjects[subject], 0, school.this_year),
                *("end-of-year", "teacher", school.scheme_version_no, grade, set_on, set_on, school.client_id, "staff-00"),
            )


JUDGEMENT = (
    *("tenant_id", "academic_year", "pupil_id", "window_no", "subject_no", "aspect_no", "school_id"),
    *("scheme_version_no", "grade_no", "status_code", "recorded_at", "received_at", "recorded_at_school_id", "client_id"),
    *("actor", "source", "method"),
)
TARGET_COLUMNS = (
    *("tenant_id", "id", "pupil_id", "school_id", "subject_no", "aspect_no", "horizon_year"),
    *("horizon_point", "basis", "scheme_version_no", "grade_no", "recorded_at", "received_at", "client_id", "actor"),
)
TABLES: dict[str, tuple[tuple[str, ...], Callable[[School], Iterator[Line]]]] = {
    "pupils": (
        ("tenant_id", "id", "school_id", "upn", "surname", "forename", "date_of_birth", "sex", "year_group"),
        pupils,
    ),
    "upns": (("tenant_id", "upn", "pupil_id", "school_id", "current"), upns),
    "enrolments": (("tenant_id", "id", "pupil_id", "school_id", "status", "from_on"), enrolments),
    "characteristics": (("tenant_id", "pupil_id", "kind", "from_on", "school_id", "value"), characteristics),
    "judgements": (JUDGEMENT, judgements),
    "targets": (TARGET_COLUMNS, targets),
}
"""By table, in the order that foreign keys need: its columns, and the lines of a school."""


def as_text(lines: Iterator[Line]) -> bytes:
    """COPY's text format; nothing here holds what it would have to escape."""
    return "".join("\t".join("\\N" if value is None else str(value) for value in line) + "\n" for line in lines).encode()
