"""The templates of the sector: subjects, aspects and schemes, as dated data with their source.

They stand in templates.json. A grade may be valid from one academic year to another. A standard may be told later: a
threshold is added to the file for its academic year, and until then no grade of the scheme says whether it is expected.
"""

import json
from collections.abc import Iterable, Iterator
from datetime import date
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Literal

from msgspec import Struct, convert, structs

from domain.declare.vocabulary import find_word
from domain.roster.years import academic_year_range, parse_academic_year
from domain.support.suggestions import Suggestions
from domain.write.predicted_progress import PREDICTED_PROGRESS, is_predicted_progress

Standard = Literal["x", "z"] | None
"""Why a version of a scheme has no such standard, in the DfE's symbols: x not available yet, z not applicable. None where it has one."""


class Grade(Struct, rename="camel"):
    """A grade of a scheme. `rank` orders it, `value` counts in averages; `eligible` keeps the pupil in the denominator,
    `valid` is a counting value. It is used in windows of academic years that begin from `valid_from` to `valid_to`.
    """

    code: str
    label: str
    rank: int | None = None
    value: Decimal | None = None
    points: Decimal | None = None
    year_group: str | None = None
    band: str | None = None
    eligible: bool = True
    valid: bool = True
    expected: bool = False
    higher: bool = False
    valid_from: date | None = None
    valid_to: date | None = None

    def is_used_in(self, start: int) -> bool:
        """Whether it is used in the academic year that begins in a calendar year."""
        return is_used(self.valid_from, self.valid_to, start)


def is_used(valid_from: date | None, valid_to: date | None, start: int) -> bool:
    """Whether a code that is valid on these days is used in the academic year that begins in a calendar year."""
    first, last = academic_year_range(start)
    return (valid_from is None or valid_from <= last) and (valid_to is None or valid_to >= first)


class ScoreRange(Struct, rename="camel"):
    """Whole scores from and to (inclusive), each a grade of its own, written as a number, as points or as a reading age."""

    from_: int
    to: int
    expected_from: int | None = None
    higher_from: int | None = None
    as_: Literal["score", "points", "months"] = "score"

    def list_grades(self) -> list[Grade]:
        def has_reached(score: int, threshold: int | None) -> bool:
            return threshold is not None and score >= threshold

        def describe(n: int) -> tuple[str, str]:
            if self.as_ == "months":
                return f"{n // 12}:{n % 12:02}", f"{n // 12} years {n % 12} months"
            return str(n), f"{n} points" if self.as_ == "points" else str(n)

        return [
            Grade(
                *describe(n),
                rank=n,
                value=Decimal(n),
                points=Decimal(n) if self.as_ == "points" else None,
                expected=has_reached(n, self.expected_from),
                higher=has_reached(n, self.higher_from),
            )
            for n in range(self.from_, self.to + 1)
        ]


class Threshold(Struct, rename="camel"):
    """The score from which the standard of an academic year is met."""

    academic_year: str
    expected_from: int


class TemplateVersion(Struct):
    """A version of a scheme as a template has it. `years` are the academic years it is for, by the calendar year in
    which they begin; None: all others.
    """

    grades: list[Grade]
    years: list[int] | None
    expected: Standard
    higher: Standard
    rounding: int | None = None


class SchemeTemplate(Struct, rename="camel"):
    """A scheme to copy. Every tenant starts with those that have `prepare`."""

    code: str
    name: str
    source: str
    grades: list[Grade]
    range: ScoreRange | None = None
    prepare: bool = False
    derived: bool = False
    stage: str | None = None
    method: str | None = None
    subjects: list[str] = []
    standard: Literal["later"] | None = None
    thresholds: list[Threshold] = []

    def list_grades(self) -> list[Grade]:
        return (self.range.list_grades() if self.range else []) + self.grades

    def list_versions(self) -> Iterator[TemplateVersion]:
        """Yields the versions of the scheme: one for all years, and one for the years of each threshold that was told."""
        grades = self.list_grades()
        expected, higher = find_standards(grades)
        yield TemplateVersion(grades, None, "x" if self.standard == "later" else expected, higher)
        for score in sorted({threshold.expected_from for threshold in self.thresholds}):
            assert self.range is not None
            graded = structs.replace(self.range, expected_from=score).list_grades() + self.grades
            years = [parse_academic_year(t.academic_year) for t in self.thresholds if t.expected_from == score]
            yield TemplateVersion(graded, sorted(years), *find_standards(graded))


def find_standards(grades: list[Grade]) -> tuple[Standard, Standard]:
    """Returns why grades have no expected and no higher standard: not applicable where no grade meets it."""
    return None if any(grade.expected for grade in grades) else "z", None if any(grade.higher for grade in grades) else "z"


class SubjectTemplate(Struct, rename="camel"):
    """A subject. Every tenant starts with those that have `prepare`; the others are ready to be switched on.

    `combines` are the subjects that a derived one is the conjunction of.
    """

    code: str
    name: str
    national_code: str | None = None
    prepare: bool = False
    derived: bool = False
    combines: list[str] = []


class AspectTemplate(Struct):
    """An aspect. `counted`: whether its judgements enter aggregates."""

    code: str
    name: str
    counted: bool = False


class TenantTemplates(Struct, rename="camel"):
    """All templates."""

    subjects_source: str
    subjects: list[SubjectTemplate]
    aspects: list[AspectTemplate]
    schemes: list[SchemeTemplate]

    def find_scheme(self, code: str) -> SchemeTemplate | None:
        """Returns the template that a code means, in any case."""
        word = find_word(code, tuple(template.code for template in self.schemes))
        return next((template for template in self.schemes if template.code == word), None)

    def find_subject(self, code: str) -> SubjectTemplate | None:
        """Returns the common subject that a code means, in any case."""
        word = find_word(code, tuple(template.code for template in self.subjects))
        return next((template for template in self.subjects if template.code == word), None)


@cache
def load_templates() -> TenantTemplates:
    """Returns the templates of this program."""
    text = (Path(__file__).parent / "templates.json").read_text()
    return convert(json.loads(text, parse_float=Decimal), TenantTemplates, strict=False)


PREDICTED, YEARS_OF_PREDICTED = "predicted", ("10", "11", "12", "13")
"""The aspect of a teacher's predicted grade, and the years in which there is one: university applications need it, and no aggregate counts
it (UCAS, predicted grades: guidance for schools).
"""


PARTS_OF = {subject.code: tuple(subject.combines) for subject in load_templates().subjects if subject.combines}
"""The derived subjects, such as reading, writing and maths combined, and the subjects that each combines."""


def describe_conjunction(code: str) -> str | None:
    """Returns what a derived subject is and how it is asked for; None for the code of another subject."""
    parts = PARTS_OF.get(code)
    if parts is None:
        return None
    combined = f"{', '.join(parts[:-1])} and {parts[-1]}"
    return (
        f"{code} is the conjunction of {combined}, derived for each pupil from these; it is never judged."
        f' Aggregates count it: GET /v1/aggregates?subject={code}, or aggregates(subject: "{code}") in GraphQL.'
    )


def describe_unknown_code(noun: str, code: str, codes: Iterable[str], suggestions: Suggestions) -> tuple[str, str]:
    """Returns the code and the message of the issue of a subject, aspect or scheme that cannot be judged. `codes` are those that can."""
    if noun == "subject" and (reason := describe_conjunction(code)) is not None:
        return "subject-derived", reason
    if is_predicted_progress(code):
        return "predicted-progress", PREDICTED_PROGRESS
    names = tuple(codes)
    return f"{noun}-unknown", f"This tenant has no such {noun}.{suggestions.suggest(code, names)} It has: {', '.join(names)}."
