"""Aggregates: results pooled over pupils, for one caller and one question; the same answer in both doors.

A question groups by one to three dimensions; subject and window are each grouped by or filtered to one, since a sum over either would
count pupils again. Percentages are whole, rounded half up, and of *eligible* pupils, as in the performance tables (Department for
Education, "Primary school accountability", technical guidance); a trust's result pools its pupils and is never a mean of its schools'
percentages. An average is over pupils with a counting value that has a number, and null where the numbers come from several schemes:
a scaled score and a percentage have no mean.

Which schools count: those within reach with `aggregates:read` or `aggregates:internal` (which includes the former); with `trust`, those
that were its members on the window's census date, whoever controls their data today. A row that pools a school reached without
`aggregates:internal` may be suppressed (disclosure.py). What a caller sees unsuppressed it can subtract, so that in such a row only the
pupils of the other schools count as protection.

Suppression needs the whole answer, so filters come after it:
- Every subject is counted, whatever `subject` says.
- A school is hidden among the schools of its *population*, whose pooled result can be asked for: the trust it was in on the census date
  or, without one, its local authority. All of the population within reach is counted, whatever `school` says.
- Schools named but not grouped by are pooled from their own rows, and a hidden one hides the sum: asking about some schools tells
  nothing that grouping by school does not.
"""

import json
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product, starmap
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct
from sqlalchemy import (
    CTE,
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    FromClause,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    case,
    cast,
    column,
    exists,
    func,
    literal,
    literal_column,
    or_,
    select,
    table,
    true,
)

from domain.assessment.schemes import schemes
from domain.assessment.subjects import subjects
from domain.assessment.tenants import tenants
from domain.assessment.windows import academic_year_text, windows
from domain.engine.access import CALLER, Caller, Scope, reach
from domain.engine.command import Output
from domain.engine.cursor import Cursors
from domain.engine.database import Database, metadata
from domain.engine.errors import BadRequest, Forbidden, Invalid, Issue, invalid
from domain.engine.ids import parse_id
from domain.engine.query import Plan, finish
from domain.engine.resource import Kind, closest
from domain.insight.disclosure import LISTED, Count, suppress
from domain.roster.schools import schools
from domain.roster.trusts import memberships, trusts
from domain.roster.years import YEARS

DIMENSIONS = ("school", "subject", "window", "yearGroup", "sex", "disadvantaged", "eal", "sen")
PARAMETERS = ("groupBy", "window", "subject", "trust", "school", "first", "after")
MOST_DIMENSIONS, MOST_SCHOOLS, FIRST, MOST_FIRST = 3, 200, 100, 1000

_PERSONAL = ("teacher", "class", "group", "actor")
_RWM, _IN_RWM = "rwm", ("reading", "writing", "maths")
_CATEGORIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "sex": (("F", "M"), ()),
    "disadvantaged": (("true", "false"), ("unknown",)),
    "eal": (("1", "2", "3"), ("unknown",)),
    "sen": (("N", "K", "E"), ("S", "A", "P", "unknown")),
}
"""The categories of the dimensions that are listed everywhere, in order: those always shown, and those shown once a pupil is in them."""

_GRAIN = ("tenant_id", "window_no", "school_id", "subject_no", "aspect_no")

cells = Table(
    "cells",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("academic_year", SmallInteger),
    Column("window_no", SmallInteger, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    Column("subject_no", SmallInteger, primary_key=True),
    Column("aspect_no", SmallInteger, primary_key=True),
    Column("year_group", Text, primary_key=True),
    Column("sex", Text, primary_key=True),
    Column("disadvantaged", Text, primary_key=True),
    Column("eal", Text, primary_key=True),
    Column("sen", Text, primary_key=True),
    Column("scheme_version_no", SmallInteger, primary_key=True),
    Column("grade_no", SmallInteger, primary_key=True, comment="0 is no judgement"),
    Column("n", Integer, nullable=False),
)

totals = Table(
    "totals",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("academic_year", SmallInteger),
    Column("window_no", SmallInteger, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    Column("subject_no", SmallInteger, primary_key=True),
    Column("aspect_no", SmallInteger, primary_key=True),
    Column("eligible", Integer, nullable=False),
    Column("valid", Integer, nullable=False),
    Column("expected", Integer, nullable=False),
    Column("higher", Integer, nullable=False),
    Column("valued", Integer, nullable=False),
    Column("value_sum", Numeric, nullable=False),
)

_grades = table("grades", *map(column, ("tenant_id", "scheme_version_no", "no", "eligible", "valid", "expected", "higher", "value")))
_pins = table("pins", *map(column, (*_GRAIN, "scheme_version_no")))
_versions = table("scheme_versions", *map(column, ("tenant_id", "no", "scheme_id")))


@dataclass(frozen=True)
class Question:
    """What is asked, as checked: `window` is a code or id, `trust` an id or GIAS group UID, a `school` an id or URN."""

    group_by: tuple[str, ...]
    window: str | None = None
    subject: str | None = None
    trust: str | None = None
    school: tuple[str, ...] = ()
    first: int = FIRST
    after: str | None = None

    @property
    def fingerprint(self) -> str:
        """What a cursor is bound to, beside the client."""
        return repr(("aggregates", self.group_by, self.window, self.subject, self.trust, sorted(self.school)))


class AggregateRow(Output, kw_only=True):
    """Results of a group of pupils. The group is told by what was grouped by or filtered to one of; `schools` says how many it pools.

    Counts are pupils; percentages are whole and of the eligible. `status` says why figures are null: c suppressed (all of them),
    z not applicable (nobody eligible), x not available (nothing judged yet).
    """

    school_id: str | None = None
    school_urn: int | None = None
    school_name: str | None = None
    subject: str | None = None
    window: str | None = None
    academic_year: str | None = None
    year_group: str | None = None
    sex: str | None = None
    disadvantaged: str | None = None
    eal: str | None = None
    sen: str | None = None
    schools: int
    eligible: int | None = None
    valid: int | None = None
    expected: int | None = None
    expected_percent: int | None = None
    higher: int | None = None
    higher_percent: int | None = None
    average: float | None = None
    status: Literal["c", "z", "x"] | None = None


class PageInfo(Output, kw_only=True):
    """Whether rows follow, and where they begin."""

    has_more: bool
    end_cursor: str | None


class AggregatePage(Output, kw_only=True, dict=True):
    """A page of rows. `cursors`, one a row, are no part of it as JSON: only one door shows them."""

    data: list[AggregateRow]
    page: PageInfo

    @property
    def cursors(self) -> list[str]:
        return list(vars(self)["cursors"])


def read_question(pairs: Iterable[tuple[str, str]]) -> Question:
    """The question of named texts, as in a query string; `groupBy` may hold several names, with commas, and repeat, `school` may repeat.

    Raises BadRequest with everything that is wrong, or Invalid where it groups by whoever taught the pupils.
    """
    given: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        given[name].append(value)
    group_by = [name for value in given["groupBy"] for name in value.split(",")]
    issues = list(_issues(given, group_by))
    if any(issue.code == "teacher-comparison-not-supported" for issue in issues):
        raise Invalid("Results are not compared by teacher.", code="teacher-comparison-not-supported", issues=tuple(issues))
    if issues:
        noun = "parameter" if len(issues) == 1 else "parameters"
        raise BadRequest(f"{len(issues)} {noun} cannot be read.", code="parameter-invalid", issues=tuple(issues))
    single = {name: given[name][0] for name in ("window", "subject", "trust", "after") if given[name]}
    return Question(tuple(group_by), school=tuple(given["school"]), first=int(given["first"][0]) if given["first"] else FIRST, **single)


def _issues(given: dict[str, list[str]], group_by: list[str]) -> Iterable[Issue]:
    for name, values in given.items():
        if name not in PARAMETERS:
            yield Issue(name, "parameter-unknown", f"There is no parameter {name} here.{closest(name, PARAMETERS)}")
        elif len(values) > 1 and name not in ("groupBy", "school"):
            yield Issue(name, "parameter-repeated", f"{name} stands more than once.")
        elif any("\0" in value or not value.isprintable() for value in values):
            yield Issue(name, "parameter-invalid", f"{name} holds a character that cannot be in it.")
    for name in dict.fromkeys(group_by):
        if name.lower().removesuffix("es").removesuffix("s") in _PERSONAL:
            reason = "Results are not compared by teacher: pay and appraisal must not hang on them."
            yield Issue("groupBy", "teacher-comparison-not-supported", reason)
        elif name not in DIMENSIONS:
            message = f"There is no dimension {name}.{closest(name, DIMENSIONS)} There are: {', '.join(DIMENSIONS)}."
            yield Issue("groupBy", "dimension-unknown", message)
        elif group_by.count(name) > 1:
            yield Issue("groupBy", "dimension-repeated", f"{name} stands more than once.")
    if not 1 <= len(group_by) <= MOST_DIMENSIONS:
        yield Issue("groupBy", "dimensions-count", f"Group by one to {MOST_DIMENSIONS} dimensions.")
    for name in ("subject", "window"):
        if name not in group_by and not given.get(name):
            yield Issue(name, f"{name}-required", f"Group by {name} or give one: pupils would be counted several times.")
    if len(given.get("school", ())) > MOST_SCHOOLS:
        yield Issue("school", "too-many-schools", f"Name at most {MOST_SCHOOLS} schools, or a trust, or none.")
    for first in given.get("first", ()):
        if not (first.isascii() and first.isdigit() and len(first) < 6 and 1 <= int(first) <= MOST_FIRST):
            yield Issue("first", "parameter-invalid", f"first is a whole number from 1 to {MOST_FIRST}.")
