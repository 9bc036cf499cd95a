"""Every code list as a resource: the codes of the census and of assessments, when they are valid, what they mean, and
what each of them counts for.

`migrate` writes them to the database (migrations/after.py), so that they are read, filtered and cached as everything
else is.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import ARRAY, Boolean, Column, ColumnElement, Date, SmallInteger, Table, Text

from domain.access.reach import has_grant
from domain.assessment.templates import Grade, SchemeTemplate, load_templates
from domain.assessment.window_templates import list_window_template_rows
from domain.declare.predicates import TenantRows
from domain.declare.resource import Field, Narrowing, Resource
from domain.declare.scopes import Scope
from domain.declare.vocabulary import Codes, declare_list, list_words
from domain.roster.code_lists import load_code_lists, make_vocabulary, read_code_lists
from domain.roster.text_order import sort_by_text
from domain.store.metadata import metadata

codes = Table(
    "codes",
    metadata,
    Column("list", Text, primary_key=True),
    Column("no", SmallInteger, primary_key=True),
    Column("code", Text, nullable=False),
    Column("meaning", Text, nullable=False),
    Column("valid_from", Date),
    Column("valid_to", Date),
    Column("also", ARRAY(Text), nullable=False),
    Column("stage", Text),
    Column("subjects", ARRAY(Text), nullable=False),
    Column("method", Text),
    Column("eligible", Boolean),
    Column("valid", Boolean),
    Column("in_average", Boolean),
    Column("expected", Boolean),
    Column("higher", Boolean),
    Column("national_code", Text),
    Column("source", Text, nullable=False),
)

_LISTS = load_code_lists() | read_code_lists(Path(__file__).parent / "code_lists.json")
_TEMPLATES = tuple(template.code for template in load_templates().schemes)
JUDGEMENT_STATUS, WINDOW_STATE, TARGET_BASIS, TARGET_VISIBILITY = (
    make_vocabulary(_LISTS[name]) for name in ("judgementStatus", "windowState", "targetBasis", "targetVisibility")
)
TEMPLATE = declare_list(*_TEMPLATES)


def _is_read(scope: Scope | None) -> ColumnElement[bool]:
    return has_grant(scope, lambda r: r.client_id.is_not(None))


def _declare_codes(column: Column[str]) -> Codes:
    """Returns the values of a column; beside a filter by list, those of that list."""
    return Codes("value", ((column, _is_read),), narrowed_by={"list": codes.c.list})


@cache
def _index_values(name: str) -> Mapping[str, tuple[str, ...]]:
    """Returns the values of a column of `codes` by list."""
    at, by_list = codes.columns.keys().index(name), dict[str, dict[str, None]]()
    for row in list_code_rows():
        values = row[at] if isinstance(row[at], list | tuple) else [row[at]] if row[at] is not None else []
        by_list.setdefault(row[0], {}).update(dict.fromkeys(values))
    return {of: tuple(values) for of, values in by_list.items()}


def _narrow(column: Column[Any]) -> Narrowing:
    """Returns that a filter by list says which values of a column there are: those that a code of one of the lists has."""

    def check(value: str, lists: tuple[str, ...]) -> None:
        values = tuple(dict.fromkeys(value for of in lists for value in _index_values(column.key).get(of, ())))
        if value not in values:
            there_are = list_words(values).removesuffix(".") if values else "None has any"
            raise ValueError(f"is none that a code of {' or '.join(lists)} has. {there_are}")

    return Narrowing("list", check)


CODES = Resource(
    name="code",
    plural="codes",
    doc="A code of a code list: of the census, of a template of a scheme or window, of subjects, or of this contract.",
    source=codes,
    scope=Scope.SCHOOLS_READ,
    order=("list", "no"),
    reach=TenantRows(_is_read),
    fields={
        "list": Field(
            codes.c.list,
            "The list, named as the field that it is of: enrolmentStatus. That of a template is its code.",
            vocabulary=declare_list(*_LISTS, "subject", "aspect", "windowTemplate", *_TEMPLATES),
        ),
        "code": Field(codes.c.code, "What is written.", codes=_declare_codes(codes.c.code)),
        "meaning": Field(codes.c.meaning, "What it means.", sort_key=sort_by_text(codes.c.meaning)),
        "validFrom": Field(codes.c.valid_from, "First day on which it is valid; null: from the beginning."),
        "validTo": Field(codes.c.valid_to, "Last day on which it is valid; null: no end is known."),
        "also": Field(
            codes.c.also,
            "Other texts that are accepted for it.",
            vocabulary=declare_list(
                *(text for codes_of_list in _LISTS.values() for code in codes_of_list.codes for text in code.also)
            ),
            narrowing=_narrow(codes.c.also),
        ),
        "stage": Field(
            codes.c.stage,
            "Key stage, where it is of one.",
            vocabulary=declare_list("EYFS", "KS1", "KS2", "KS3", "KS4", "KS5"),
            narrowing=_narrow(codes.c.stage),
        ),
        "subjects": Field(
            codes.c.subjects,
            "Codes of the subjects that it is for; empty: any.",
            vocabulary=declare_list(*(subject.code for subject in load_templates().subjects)),
            narrowing=_narrow(codes.c.subjects),
        ),
        "method": Field(
            codes.c.method,
            "How it is found: test or teacher assessment.",
            vocabulary=declare_list("test", "teacher assessment"),
            narrowing=_narrow(codes.c.method),
        ),
        "eligible": Field(codes.c.eligible, "Whether the pupil is in the denominator of every percentage."),
        "valid": Field(
            codes.c.valid, "Whether it is a counting value. A code that is eligible and not valid counts as not achieved."
        ),
        "inAverage": Field(codes.c.in_average, "Whether it enters the average."),
        "expected": Field(
            codes.c.expected,
            "Whether it meets the expected standard; null where there is none, or the STA has not published it yet.",
        ),
        "higher": Field(codes.c.higher, "Whether it meets the higher standard; null where there is none."),
        "nationalCode": Field(
            codes.c.national_code,
            "Code of a subject in the DfE's Common Basic Data Set.",
            codes=_declare_codes(codes.c.national_code),
        ),
        "source": Field(codes.c.source, "Where it is published."),
    },
)


def list_code_rows() -> Iterator[tuple[Any, ...]]:
    """Yields every code that this program knows, as the columns of `codes`."""
    for name, codes_of_list in _LISTS.items():
        for no, code in enumerate(codes_of_list.codes, 1):
            dates = (code.valid_from, code.valid_to)
            counts = (code.eligible, code.valid, False if code.valid is False else None, None, None)
            yield (
                name,
                no,
                code.code,
                code.meaning,
                *dates,
                [*code.also],
                code.stage,
                [],
                None,
                *counts,
                None,
                codes_of_list.source,
            )
    templates = load_templates()
    nothing = (None,) * 5
    for no, subject in enumerate(templates.subjects, 1):
        source = "Derived: DfE headline measures" if subject.derived else templates.subjects_source
        yield (
            "subject",
            no,
            subject.code,
            subject.name,
            None,
            None,
            [],
            None,
            subject.combines,
            None,
            *nothing,
            subject.national_code,
            source,
        )
    for no, aspect in enumerate(templates.aspects, 1):
        yield ("aspect", no, aspect.code, aspect.name, None, None, [], None, [], None, *nothing, None, "This contract")
    yield from list_window_template_rows()
    for template in templates.schemes:
        for no, grade in enumerate(template.list_grades(), 1):
            yield (
                template.code,
                no,
                grade.code,
                grade.label,
                grade.valid_from,
                grade.valid_to,
                [],
                *_describe_grade(template, grade),
            )


def _describe_grade(template: SchemeTemplate, grade: Grade) -> tuple[Any, ...]:
    version = next(template.list_versions())
    expected = None if version.expected else grade.expected
    higher = None if version.higher else grade.higher
    counts = (grade.eligible, grade.valid, grade.valid and grade.value is not None, expected, higher)
    return (template.stage, template.subjects, template.method, *counts, None, template.source)
