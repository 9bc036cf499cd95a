"""Cells and totals: the counted pupils, and the one statement that pools them over the schools a caller reaches.

A cell counts the pupils of a school, window, subject and aspect who share year group, characteristics and grade; a total sums the cells
of a school, window, subject and aspect. They are kept by the database (migration 0005) and only read here; a question that groups by
school, subject and window alone reads totals, which are some thirty times fewer.

Tenants number their subjects, windows and grades themselves, so what several tenants have is pooled by code; windows by code and academic
year, since one tenant's "autumn" may be another year's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Integer,
    Null,
    Numeric,
    Select,
    SmallInteger,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    exists,
    false,
    func,
    literal,
    literal_column,
    null,
    select,
    table,
    true,
)

from domain.access.reach import CALLER, is_in_force, reach
from domain.aggregates.results import Categories
from domain.assessment.schemes import schemes
from domain.assessment.subjects import subjects
from domain.assessment.tenant_setup import tenants
from domain.assessment.windows import pins, windows
from domain.declare.scopes import Scope
from domain.read.statement import Statement, make_statement
from domain.roster.schools import schools
from domain.roster.trusts import memberships, trusts
from domain.roster.years import academic_year_text
from domain.store.metadata import metadata
from domain.support.lru import Lru

_SUMMED = ("eligible", "valid", "expected", "higher", "valued", "value_sum")
_GRAIN = ("tenant_id", "window_no", "school_id", "subject_no", "aspect_no")
MAIN = 0
"""The aspect that is aggregated; `teacher`, `test` and `effort` stand beside it."""

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

_grades = table(
    "grades", *map(column, ("tenant_id", "scheme_version_no", "no", "eligible", "valid", "expected", "higher", "value"))
)
_versions = table("scheme_versions", *map(column, ("tenant_id", "no", "scheme_id")))


@dataclass(frozen=True)
class AggregateTemplate:
    """What a statement depends on: how it groups, and which filters it has. `categories` are names of Categories' fields."""

    by_school: bool
    by_year_group: bool
    categories: frozenset[str]
    window: bool
    trust: bool
    schools: bool

    @property
    def from_totals(self) -> bool:
        return not (self.by_year_group or self.categories)

    @property
    def of_schools(self) -> "AggregateTemplate":
        """By school alone, whatever a school's pupils are divided into."""
        return replace(self, by_school=True, by_year_group=False, categories=frozenset(), schools=False)

    @property
    def pools_schools(self) -> bool:
        """Whether schools are added up, here or later; one alone marks a subject of a window in one scheme."""
        return self.schools or not self.by_school


statements: Lru[AggregateTemplate, Statement] = Lru("aggregate statements", 2_000_000)


def compile_aggregate(shape: AggregateTemplate) -> Statement:
    """The statement of a shape, compiled once."""
    return statements.get(shape) or statements.put(shape, _compile(shape))


def _compile(shape: AggregateTemplate) -> Statement:
    """The statement of a shape: one column, the JSON text of a Pooled.

    Its values: caller; internal, whether the token holds aggregates:internal; subject, a code or None; and, where the shape has the
    filter, window and window_id, trust_id and trust_uid (one of them None), school_ids and urns.
    """
    reached = _reached()
    counted = _counted(reached, shape)
    measured = _measured(counted, shape, "measured")
    by_school = measured if shape.from_totals and shape.by_school else _measured(counted, shape.of_schools, "by_school")
    tenant_ids, s = select(reached.c.tenant_id), subjects.c
    answer = {
        "window": exists().where(windows.c.tenant_id.in_(tenant_ids), _window_asked()) if shape.window else true(),
        "subject": exists().where(s.tenant_id.in_(tenant_ids), s.code == bindparam("subject", type_=Text)),
        "trust": exists().where(_trust_asked(), _trust_reached(reached)) if shape.trust else true(),
        "schools": _list(_asked_about(reached, counted, shape)),
        "empty": _list(_empty(counted, by_school)),
        "subject_codes": _list(select(_array(s.tenant_id, s.no, s.code).label("item")).where(s.tenant_id.in_(tenant_ids))),
        "scheme_codes": _list(_scheme_codes(measured)),
        "groups": _tally(measured, shape),
        "by_school": null() if by_school is measured else _tally(by_school, shape.of_schools),
    }
    text = cast(func.json_build_object(*chain.from_iterable(answer.items())), Text)
    return make_statement([select(text).scalar_subquery()])


def _reached() -> CTE:
    """The schools within reach; a school has a row of reach for each grant."""
    r, s = reach.c, schools.c
    read, internal = (literal(scope.value) == any_(r.scopes) for scope in (Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL))
    return (
        select(s.id, s.tenant_id, s.urn, s.name, s.local_authority_code)
        .add_columns((func.bool_or(internal) & bindparam("internal", type_=Boolean)).label("internal"))
        .join_from(reach, schools, (s.id == r.school_id) & (s.tenant_id == r.tenant_id))
        .where(r.client_id == CALLER, is_in_force(r), read | internal)
        .group_by(s.id)
        .cte("reached")
    )


def _counted(reached: CTE, shape: AggregateTemplate) -> CTE:
    """The schools and windows that count: within reach, of the trust asked for, in the populations of the schools named."""
    q, w = reached.c, windows.c
    trust_id = select(func.min(cast(memberships.c.trust_id, Text))).where(_member(q.id, w.census_on)).scalar_subquery()
    counted = (
        select(q.id, q.tenant_id, q.urn, q.name, q.internal, tenants.c.suppression_threshold.label("threshold"))
        .add_columns(w.no, w.code, w.census_on, academic_year_text(w.academic_year).label("academic_year"))
        .add_columns(func.coalesce(trust_id, q.local_authority_code).label("population"))
        .join_from(reached, windows, w.tenant_id == q.tenant_id)
        .join(tenants, tenants.c.id == q.tenant_id)
    )
    if shape.window:
        counted = counted.where(_window_asked())
    if shape.trust:
        counted = counted.where(exists().where(_trust_asked(), memberships.c.trust_id == trusts.c.id, _member(q.id, w.census_on)))
    every = counted.cte("counted").prefix_with("MATERIALIZED")
    if not shape.schools:
        return every
    return select(every).where(every.c.population.in_(select(every.c.population).where(_named(every)))).cte("neighbours")


def _asked_about(reached: CTE, counted: CTE, shape: AggregateTemplate) -> Select[Any]:
    """SchoolAsked of the schools named; or of those that are of the trust asked for, or were, or will be; or of those with such a window."""
    q = reached.c
    windowed = exists().where(windows.c.tenant_id == q.tenant_id, _window_asked() if shape.window else true())
    elsewhen = and_(windowed, q.id.not_in(select(counted.c.id))) if shape.trust else false()
    asked = select(_array(q.id, q.urn, q.name, elsewhen).label("item"))
    if shape.schools:
        return asked.where(_named(reached))
    if shape.trust:
        member = exists().where(_trust_asked(), memberships.c.trust_id == trusts.c.id, memberships.c.school_id == q.id)
        return asked.where(member | exists().where(_trust_asked(), trusts.c.id == q.tenant_id))
    return asked.where(windowed)


def _empty(counted: CTE, by_school: CTE) -> Select[Any]:
    """The windows of a school in which nobody is counted, with what it collects. Where somebody is, each subject collected has a total."""
    c, m = counted.c, by_school.c
    pinned = and_(pins.c.tenant_id == c.tenant_id, pins.c.window_no == c.no, pins.c.school_id == c.id, pins.c.aspect_no == MAIN)
    return (
        select(_array(c.tenant_id, c.id, func.json_agg(pins.c.subject_no)).label("item"))
        .join_from(counted, pins, pinned)
        .where(~exists().where(m.school == c.id, m.window == c.code))
        .group_by(c.tenant_id, c.id, c.no)
    )


def _measured(counted: CTE, shape: AggregateTemplate, name: str) -> CTE:
    """One row a total, or a cell, with what it adds to each count.

    Only what a row cannot do without is joined to it: row-level security looks at each row of each table, at some microseconds.
    """
    source: Table = totals if shape.from_totals else cells
    c, t = counted.c, source.c
    rows = (
        select(c.tenant_id, c.id.label("school"), c.urn, c.name, c.internal, c.threshold, c.population)
        .add_columns(c.code.label("window"), c.census_on, c.academic_year, t.subject_no)
        .join_from(counted, source, (t.tenant_id == c.tenant_id) & (t.window_no == c.no) & (t.school_id == c.id))
        .where(t.aspect_no == MAIN)
    )
    if not shape.from_totals:
        g = _grades.c
        graded = (g.tenant_id == t.tenant_id) & (g.scheme_version_no == t.scheme_version_no) & (g.no == t.grade_no)
        rows = rows.add_columns(*_of_cells(), t.scheme_version_no.label("version_no")).outerjoin(_grades, graded).where(t.n > 0)
    elif shape.pools_schools:
        rows = rows.add_columns(*_of_totals(), pins.c.scheme_version_no.label("version_no"))
        rows = rows.outerjoin(pins, and_(*(pins.c[name] == t[name] for name in _GRAIN)))
    else:
        rows = rows.add_columns(*_of_totals(), cast(null(), SmallInteger).label("version_no"))
    return rows.cte(name)


def _of_totals() -> list[ColumnElement[Any]]:
    t = totals.c
    judged = exists().where(*(cells.c[name] == t[name] for name in _GRAIN), cells.c.grade_no > 0, cells.c.n > 0)
    return [*(t[name] for name in _SUMMED), case((t.valid > 0, true()), else_=judged).label("judged")]


def _of_cells() -> list[ColumnElement[Any]]:
    """A pupil without a judgement has no grade: eligible, not valid."""
    c, g = cells.c, _grades.c
    valued = g.valid & g.value.is_not(None)
    counts = [
        case((counted, c.n), else_=0) for counted in (func.coalesce(g.eligible, true()), g.valid, g.expected, g.higher, valued)
    ]
    counts.append(case((valued, c.n * g.value), else_=0))
    named = [count.label(name) for count, name in zip(counts, _SUMMED, strict=True)]
    return [c.year_group, c.sex, c.disadvantaged, c.eal, c.sen, *named, (c.grade_no > 0).label("judged")]


def _tally(measured: CTE, shape: AggregateTemplate) -> ColumnElement[Any]:
    """The JSON text of a Tally."""
    m, pooled = measured.c, null()
    key = [m.tenant_id, m.school if shape.by_school else pooled, m.subject_no, m.window, m.academic_year]
    key.append(m.year_group if shape.by_year_group else pooled)
    categories = [m[name] if name in shape.categories else pooled for name in Categories._fields]
    how_many = literal_column("1") if shape.by_school else func.count(m.school.distinct())
    place = [how_many, func.bool_and(m.internal), func.max(m.threshold), m.subject_no, func.min(m.census_on)]
    place += [func.min(value) if shape.by_school else pooled for value in (m.population, m.urn, m.name)]
    places, parts = _grouped([key], _array(*place)), _grouped([key, categories], *_sums(measured))
    return func.json_build_object("places", _list(places), "parts", _list(parts))


def _sums(measured: CTE) -> list[ColumnElement[Any]]:
    """Counts, and the scheme versions the values come from."""
    m = measured.c
    eligible, *counts, value_sum = (func.sum(m[name]) for name in _SUMMED)
    guarded = func.coalesce(func.sum(m.eligible).filter(~m.internal), 0)
    versions = func.array_agg(m.version_no.distinct()).filter(m.valued > 0, m.version_no.is_not(None))
    counted = _array(eligible, guarded, *counts, cast(value_sum * 100, BigInteger), func.bool_or(m.judged))
    return [counted, func.coalesce(func.to_json(versions), _array())]


def _scheme_codes(measured: CTE) -> Select[Any]:
    used = select(measured.c.tenant_id, measured.c.version_no).where(measured.c.valued > 0).distinct().subquery()
    v, m = _versions.c, schemes.c
    return (
        select(_array(v.tenant_id, v.no, m.code).label("item"))
        .join_from(used, _versions, (v.tenant_id == used.c.tenant_id) & (v.no == used.c.version_no))
        .join(schemes, (m.tenant_id == v.tenant_id) & (m.id == v.scheme_id))
    )


def _grouped(keys: Sequence[Sequence[ColumnElement[Any]]], *figures: ColumnElement[Any]) -> Select[Any]:
    """Arrays of each of the keys, then the figures, grouped by the keys' columns."""
    by = (value for key in keys for value in key if not isinstance(value, Null))
    return select(_array(*(_array(*key) for key in keys), *figures).label("item")).group_by(*by)


def _array(*items: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.json_build_array(*items)


def _list(items: Select[Any]) -> ColumnElement[Any]:
    """A JSON array of the rows' one column."""
    return select(func.coalesce(func.json_agg(items.subquery().c.item), _array())).scalar_subquery()


def _window_asked() -> ColumnElement[bool]:
    return (windows.c.code == bindparam("window", type_=Text)) | (windows.c.id == bindparam("window_id", type_=Uuid))


def _trust_asked() -> ColumnElement[bool]:
    return (trusts.c.id == bindparam("trust_id", type_=Uuid)) | (trusts.c.group_uid == bindparam("trust_uid", type_=Integer))


def _trust_reached(reached: CTE) -> ColumnElement[bool]:
    """A school within reach is in the trust, or was."""
    member = exists().where(memberships.c.trust_id == trusts.c.id, memberships.c.school_id.in_(select(reached.c.id)))
    return member | trusts.c.id.in_(select(reached.c.tenant_id))


def _member(school_id: ColumnElement[Any], on: ColumnElement[Any]) -> ColumnElement[bool]:
    """A membership of the school on a day; the register leaves out when some began."""
    m = memberships.c
    return and_(m.school_id == school_id, m.joined_on.is_(None) | (m.joined_on <= on), m.left_on.is_(None) | (m.left_on >= on))


def _named(school: CTE) -> ColumnElement[bool]:
    ids, urns = bindparam("school_ids", type_=ARRAY(Uuid)), bindparam("urns", type_=ARRAY(Integer))
    return (school.c.id == any_(ids)) | (school.c.urn == any_(urns))
