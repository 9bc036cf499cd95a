"""What each total and cell adds to the counts of an aggregate, in SQL.

Where a tenant has no common scale in force, a grade's own standards are its place: totals and cells have its counts. Where it has one,
its cells are counted by the places that `list_places` gives their grades on a day, and conjunctions by the tuples of their parts; so
another crosswalk needs no recount.

Cells have the judgements of now, of whole schools. As of a day, or by class, `count_rows` of the database counts judgements for the query, at
schools where the caller holds aggregates:internal, and what it returns takes the place of the cells.
"""

from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    Boolean,
    ColumnElement,
    Date,
    DateTime,
    FromClause,
    Integer,
    Select,
    SmallInteger,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    cast,
    column,
    distinct,
    exists,
    false,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import distinct_on

from domain.aggregates.cells import MAIN_ASPECT, cells, discounted_cells, grades, totals
from domain.aggregates.template import AggregateTemplate
from domain.aggregates.unplaced import Unplaced
from domain.assessment.common_scales import common_scales
from domain.assessment.conjunctions import conjunction_parts
from domain.assessment.subjects import subjects
from domain.assessment.windows import pins

SUMMED = ("eligible", "valid", "expected", "higher", "valued", "expected_of", "higher_of", "value_sum")
_KEY_OF_TOTAL = ("tenant_id", "window_no", "school_id", "subject_no", "aspect_no")
_CATEGORIES = ("year_group", "sex", "disadvantaged", "eal", "sen")
_CLASS = ("class_id", "class_code")
_ZERO: ColumnElement[Any] = literal_column("0")
PLACES_ON = bindparam("places_on", type_=Date)
"""The day whose scales and crosswalks place the grades."""
KNOWN_BEFORE = bindparam("known_before", type_=DateTime(timezone=True))
"""The instant at which the day ends as of which judgements are counted."""


@dataclass(frozen=True)
class Counted:
    """Where the counts of pupils are: in the tables of cells and totals, or in rows that are counted for the query.

    `name` tells its relations in a statement from those of others; `known_before` and `by_class` are the arguments of the functions of the database that count.
    """

    name: str
    cells: FromClause
    discounted_cells: FromClause
    totals: FromClause
    known_before: ColumnElement[Any]
    by_class: ColumnElement[bool]

    @classmethod
    def for_query(cls, counted: CTE, template: AggregateTemplate) -> "Counted":
        """Returns the rows that `count_rows` counts, as cells and totals."""
        known_before = KNOWN_BEFORE if template.as_of else _NOW
        by_class = true() if template.by_class else false()
        name = "rows_by_class" if template.by_class else "rows"
        tenants = _list_tenants(counted, counted.c.has_opened).subquery(f"tenants_of_{name}")
        t = tenants.c
        small, words = ("academic_year", "window_no", "subject_no", "scheme_version_no", "grade_no"), (*_CATEGORIES, "class_code")
        types: dict[Any, Any] = dict.fromkeys(small, SmallInteger) | dict.fromkeys(words, Text) | {"apart": Boolean, "n": Integer}
        columns = [column(key, type_) for key, type_ in (types | {"school_id": Uuid, "class_id": Uuid}).items()]
        found = (
            func.count_rows(t.tenant_id, t.windows, t.schools, known_before, by_class).table_valued(*columns).lateral(f"of_{name}")
        )
        made = (
            select(t.tenant_id, *found.c, literal_column(str(MAIN_ASPECT), SmallInteger).label("aspect_no"))
            .select_from(tenants.join(found, true()))
            .where(found.c.scheme_version_no.is_not(None))
            .cte(name)
            .prefix_with("MATERIALIZED")
        )
        of_all, of_discounted = (select(made).where(made.c.apart == apart) for apart in (false(), true()))
        as_cells = of_all.cte(f"{name}_counted")
        return cls(
            name, as_cells, of_discounted.cte(f"{name}_discounted"), _sum_cells(as_cells, f"{name}_summed"), known_before, by_class
        )


_NOW = cast(null(), DateTime(timezone=True))
IN_TABLES = Counted("cells", cells, discounted_cells, totals, _NOW, false())
"""The counts of now, of whole schools."""


def _sum_cells(counted: CTE, name: str) -> CTE:
    """Totals of cells, as the database adds them up in the table."""
    t, g = counted.c, grades.c
    eligible, valid, valued = count_eligible(counted, g)
    counts = {"eligible": eligible, "valid": valid, "valued": valued, "value_sum": _sum_values(counted, g)}
    counts |= {name: case((g[name], t.n), else_=_ZERO) for name in ("expected", "higher")}
    graded = (g.tenant_id == t.tenant_id) & (g.scheme_version_no == t.scheme_version_no) & (g.no == t.grade_no)
    keys = [t[key] for key in _KEY_OF_TOTAL]
    summed = select(*keys, *(func.sum(count).label(key) for key, count in counts.items()))
    return summed.select_from(counted.outerjoin(grades, graded)).group_by(*keys).cte(name)


def _list_tenants(counted: CTE, *conditions: ColumnElement[bool]) -> Select[Any]:
    """The tenants that count, with the numbers of their windows and the ids of their schools."""
    c = counted.c
    windows, schools = func.array_agg(distinct(c.no)), func.array_agg(distinct(c.id))
    return (
        select(c.tenant_id, cast(windows, ARRAY(SmallInteger)).label("windows"), cast(schools, ARRAY(Uuid)).label("schools"))
        .where(*conditions)
        .group_by(c.tenant_id)
    )


@dataclass(frozen=True)
class Sources:
    """The schools and windows that count, and how their grades are placed.

    `scaled` are the tenants that have a common scale in force, `places` the places of their grades, and `placed_versions` the versions
    of schemes of which any grade has one. `combined` are the outcomes of conjunctions.
    """

    counted: CTE
    unplaced: Unplaced
    scaled: CTE
    places: CTE
    placed_versions: CTE
    counts: Counted
    combined: CTE

    @classmethod
    def of(cls, reached: CTE, counted: CTE, counts: Counted) -> "Sources":
        k = common_scales.c
        scaled = (
            select(k.tenant_id, k.id.label("scale_id"))
            .ext(distinct_on(k.tenant_id))
            .where(k.tenant_id.in_(select(reached.c.tenant_id)), k.from_on <= PLACES_ON)
            .order_by(k.tenant_id, k.from_on.desc(), func.coalesce(k.first_signed_at, k.signed_at).desc())
            .cte("scaled")
            .prefix_with("MATERIALIZED")
        )
        place = (
            func.list_places(scaled.c.tenant_id, PLACES_ON)
            .table_valued(
                column("scheme_version_no", SmallInteger),
                column("grade_no", SmallInteger),
                column("band", Text),
                column("band_no", Integer),
                column("expected", Boolean),
                column("higher", Boolean),
            )
            .lateral("place")
        )
        p = place.c
        places = (
            select(scaled.c.tenant_id, p.scheme_version_no, p.grade_no, p.band_no, p.expected, p.higher)
            .join_from(scaled, place, true())
            .cte("places")
            .prefix_with("MATERIALIZED")
        )
        c = places.c
        placed_versions = (
            select(c.tenant_id, c.scheme_version_no)
            .add_columns(
                func.bool_or(c.expected.is_not(None)).label("expected"), func.bool_or(c.higher.is_not(None)).label("higher")
            )
            .group_by(c.tenant_id, c.scheme_version_no)
            .cte("placed_versions")
            .prefix_with("MATERIALIZED")
        )
        return cls(
            counted, Unplaced.of(reached, counted), scaled, places, placed_versions, counts, _combine(counted, scaled, counts)
        )

    def with_counts(self, counts: Counted) -> "Sources":
        """Returns the same with other counts of pupils."""
        return replace(self, counts=counts, combined=_combine(self.counted, self.scaled, counts))

    def has_scale(self, tenant_id: ColumnElement[Any]) -> ColumnElement[bool]:
        return tenant_id.in_(select(self.scaled.c.tenant_id))


def select_measures(sources: Sources, template: AggregateTemplate, name: str) -> CTE:
    """A row for each total or cell, with what it adds to each count, and a row for each cell of discounted pupils.

    Only indispensable tables are joined, since row-level security checks each row of each table, which takes
    microseconds.
    """
    of_all, of_discounted = (sources.counts.cells, false()), (sources.counts.discounted_cells, true())
    parts = [_select_totals(sources) if template.from_totals else _select_cells(sources, template, *of_all)]
    parts.append(_select_cells(sources, template, *of_discounted))
    parts += [_select_placed_cells(sources, template, *of) for of in (of_all, of_discounted)]
    parts.append(_select_conjunctions(sources, template))
    return union_all(*parts).cte(name)


def _select_totals(sources: Sources) -> Select[Any]:
    t, k = sources.counts.totals.c, sources.counts.cells.c
    rows = join_counted(sources, sources.counts.totals).where(~sources.has_scale(t.tenant_id))
    rows = rows.outerjoin(pins, and_(*(pins.c[name] == t[name] for name in _KEY_OF_TOTAL)))
    rows = sources.unplaced.join(rows, t, pins.c.scheme_version_no)
    judged = exists().where(*(k[name] == t[name] for name in _KEY_OF_TOTAL), k.grade_no > 0, k.n > 0)
    counts = [t.eligible, t.valid, t.expected, t.higher, t.valued, *sources.unplaced.limit(t.eligible), t.value_sum]
    return _add_measures(rows, counts, case((t.valid > 0, true()), else_=judged), pins.c.scheme_version_no, false())


def _select_cells(sources: Sources, template: AggregateTemplate, source: FromClause, apart: ColumnElement[Any]) -> Select[Any]:
    """Cells of tenants without a scale. A pupil without a judgement has grade 0, and is eligible and not valid; with grade -1, neither."""
    t, g = source.c, grades.c
    rows = join_grades(join_counted(sources, source), source).where(~sources.has_scale(t.tenant_id))
    rows = list_categories(sources.unplaced.join(rows, t, t.scheme_version_no), template, t)
    counts = count_eligible(source, g)
    counts = [counts[0], counts[1], case((g.expected, t.n), else_=_ZERO), case((g.higher, t.n), else_=_ZERO), counts[2]]
    counts += [*sources.unplaced.limit(counts[0]), _sum_values(source, g)]
    return _add_measures(rows, counts, t.grade_no > 0, t.scheme_version_no, apart)


def _select_placed_cells(
    sources: Sources, template: AggregateTemplate, source: FromClause, apart: ColumnElement[Any]
) -> Select[Any]:
    """Cells of tenants with a scale, by the places of their grades. Conjunctions are counted by their tuples."""
    t, g, p, v = source.c, grades.c, sources.places.c, sources.placed_versions.c
    rows = join_grades(join_counted(sources, source), source).where(sources.has_scale(t.tenant_id))
    rows = rows.where(~exists().where(subjects.c.tenant_id == t.tenant_id, subjects.c.no == t.subject_no, subjects.c.derived))
    of_grade = (p.tenant_id == t.tenant_id) & (p.scheme_version_no == t.scheme_version_no) & (p.grade_no == t.grade_no)
    rows = rows.outerjoin(sources.places, of_grade)
    rows = rows.outerjoin(sources.placed_versions, (v.tenant_id == t.tenant_id) & (v.scheme_version_no == t.scheme_version_no))
    rows = list_categories(rows, template, t)
    eligible, valid, valued = count_eligible(source, g)
    reached = [case((g.valid & p[name], t.n), else_=_ZERO) for name in ("expected", "higher")]
    placed = [case((g.valid, p[name].is_not(None)), else_=func.coalesce(v[name], false())) for name in ("expected", "higher")]
    counts = [eligible, valid, *reached, valued, *(case((is_placed, eligible), else_=_ZERO) for is_placed in placed)]
    counts.append(_sum_values(source, g))
    return _add_measures(rows, counts, t.grade_no > 0, t.scheme_version_no, apart)


def _select_conjunctions(sources: Sources, template: AggregateTemplate) -> Select[Any]:
    """Tuples of conjunctions: of tenants with a scale all of them, of others those that they have declared themselves."""
    c, m = sources.counted.c, sources.combined.c
    of_school = (c.tenant_id == m.tenant_id) & (c.no == m.window_no) & (c.id == m.school_id)
    rows = select(*_list_keys(c), m.subject_no).join_from(sources.counted, sources.combined, of_school).where(c.has_opened)
    counts: list[ColumnElement[Any]] = [case((m[name], m.n), else_=_ZERO) for name in ("eligible", "valid", "expected", "higher")]
    counts += [_ZERO, *(case((m[name], m.n), else_=_ZERO) for name in ("expected_of", "higher_of")), _ZERO]
    return _add_measures(list_categories(rows, template, m), counts, m.judged, cast(null(), SmallInteger), m.apart)


def _combine(counted: CTE, scaled: CTE, counts: Counted) -> CTE:
    """The tuples of conjunctions with their outcomes. They are computed once, whatever joins them."""
    c = counted.c
    declares = exists().where(conjunction_parts.c.tenant_id == c.tenant_id)
    has_scale = c.tenant_id.in_(select(scaled.c.tenant_id))
    which = _list_tenants(counted, c.has_opened, or_(has_scale, declares)).add_columns(has_scale.label("is_scaled"))
    tenants = which.subquery(f"combining_{counts.name}")
    flags = ("eligible", "valid", "expected_of", "expected", "higher_of", "higher", "judged", "apart")
    types: dict[Any, Any] = dict.fromkeys(("window_no", "subject_no"), SmallInteger) | dict.fromkeys(flags, Boolean)
    types |= dict.fromkeys((*_CATEGORIES, "class_code"), Text) | dict.fromkeys(("school_id", "class_id"), Uuid) | {"n": Integer}
    t = tenants.c
    found = (
        func.measure_counted_conjunctions(
            t.tenant_id, t.windows, t.schools, PLACES_ON, ~t.is_scaled, counts.known_before, counts.by_class
        )
        .table_valued(*(column(name, type_) for name, type_ in types.items()))
        .lateral(f"of_{counts.name}_combined")
    )
    combined = select(t.tenant_id, *found.c).select_from(tenants.join(found, true()))
    return combined.cte(f"combined_{counts.name}").prefix_with("MATERIALIZED")


def _add_measures(
    rows: Select[Any],
    counts: list[ColumnElement[Any]],
    judged: ColumnElement[Any],
    version_no: ColumnElement[Any],
    apart: ColumnElement[Any],
) -> Select[Any]:
    """Adds the counts, and those of discounted pupils: a row that is apart has only the latter."""
    is_constant = apart.compare(true()) or apart.compare(false())

    def choose(value: ColumnElement[Any], is_apart: bool, otherwise: ColumnElement[Any]) -> ColumnElement[Any]:
        if is_constant:
            return value if apart.compare(true()) == is_apart else otherwise
        return case((apart if is_apart else ~apart, value), else_=otherwise)

    named = list(zip(SUMMED, counts, strict=True))
    rows = rows.add_columns(*(choose(count, False, _ZERO).label(name) for name, count in named))
    rows = rows.add_columns(choose(judged, False, false()).label("judged"))
    rows = rows.add_columns(choose(version_no, False, cast(null(), SmallInteger)).label("version_no"), apart.label("is_discounted"))
    return rows.add_columns(*(choose(count, True, _ZERO).label(f"discounted_{name}") for name, count in named))


def _list_keys(c: Any) -> list[ColumnElement[Any]]:
    """What identifies the groups of a row of `counted`, but for the subject."""
    names = (c.tenant_id, c.id.label("school"), c.urn, c.name, c.internal, c.threshold, c.population)
    return [*names, c.code.label("window"), c.census_on, c.academic_year]


def join_counted(sources: Sources, source: FromClause) -> Select[Any]:
    """The rows of totals or cells that count, with what identifies their groups."""
    c, t = sources.counted.c, source.c
    return (
        select(*_list_keys(c), t.subject_no)
        .join_from(sources.counted, source, (t.tenant_id == c.tenant_id) & (t.window_no == c.no) & (t.school_id == c.id))
        .where(t.aspect_no == MAIN_ASPECT, c.has_opened)
    )


def join_grades(rows: Select[Any], source: FromClause) -> Select[Any]:
    """Adds the grade of each cell, if it has one, and leaves out empty cells."""
    t, g = source.c, grades.c
    graded = (g.tenant_id == t.tenant_id) & (g.scheme_version_no == t.scheme_version_no) & (g.no == t.grade_no)
    return rows.outerjoin(grades, graded).where(t.n > 0)


def list_categories(rows: Select[Any], template: AggregateTemplate, c: Any) -> Select[Any]:
    """Adds the characteristics of the pupils of cells, where the question needs any, and leaves out those that it filters out."""
    names = (*_CATEGORIES, *(_CLASS if template.by_class else ()))
    rows = rows if template.from_totals else rows.add_columns(*(c[name].label(name) for name in names))
    return rows.where(*(c[name] == any_(bindparam(f"of_{name}", type_=ARRAY(Text))) for name in sorted(template.filters)))


def count_eligible(source: FromClause, g: Any) -> list[ColumnElement[Any]]:
    """Returns what a cell adds to the eligible, the valid and the valued."""
    c = source.c
    valued = g.valid & g.value.is_not(None)
    is_eligible = func.coalesce(g.eligible, c.grade_no >= _ZERO)
    return [case((counted, c.n), else_=_ZERO) for counted in (is_eligible, g.valid, valued)]


def _sum_values(source: FromClause, g: Any) -> ColumnElement[Any]:
    return case((g.valid & g.value.is_not(None), source.c.n * g.value), else_=_ZERO)
