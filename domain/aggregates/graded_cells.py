"""The pupils of an aggregate by the grade that they have, counted in SQL where a question includes bands or grades."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Integer, Select, Text, and_, bindparam, cast, exists, func, literal_column, or_, select

from domain.aggregates.cells import grades, scheme_versions
from domain.aggregates.measures import Sources, count_eligible, join_counted, join_grades, list_categories
from domain.aggregates.template import AggregateTemplate
from domain.assessment.schemes import schemes
from domain.assessment.subjects import subjects

_FIRST_KEYS = ("tenant_id", "school", "subject_no", "window", "academic_year")


def select_graded(sources: Sources, template: AggregateTemplate) -> Select[Any]:
    """A row for each group of pupils of the question and each grade: the key and categories of the group, the grade and its pupils."""
    source, s = sources.counts.cells, subjects.c
    t = source.c
    requested = bindparam("subject", type_=Text)
    collected = exists().where(
        s.tenant_id == t.tenant_id, s.no == t.subject_no, ~s.derived, or_(cast(requested, Text).is_(None), s.code == requested)
    )
    rows = join_grades(join_counted(sources, source), source).where(collected)
    rows = list_categories(rows, template, t).add_columns(
        t.scheme_version_no.label("version_no"), t.grade_no, count_eligible(source, grades.c)[0].label("n")
    )
    return rows


def gather_graded(rows: Any, template: AggregateTemplate, categories: Iterable[str]) -> Select[Any]:
    """A JSON array for each group: its key, its categories, and its numbers of scheme versions and grades with their pupils."""
    r = rows.c
    nothing: ColumnElement[Any] = literal_column("NULL")
    pooled = {"school"} if not template.by_school else set()
    pooled |= {"window", "academic_year"} if template.pools_windows else set()
    key = [nothing if name in pooled else r[name] for name in _FIRST_KEYS]
    key += [r.year_group if template.by_year_group else nothing, r.class_id if template.by_class else nothing]
    divided = [r[name] if name in template.categories else nothing for name in categories]
    by = [value for value in (*key, *divided) if value is not nothing]
    pupils = func.sum(r.n)
    summed = select(*by, r.version_no, r.grade_no, cast(pupils, Integer).label("n")).group_by(*by, r.version_no, r.grade_no)
    counted = summed.having(pupils > literal_column("0")).subquery("graded_groups")
    c = counted.c
    of_key = [value if value is nothing else c[value.name] for value in key]
    of_divided = [value if value is nothing else c[value.name] for value in divided]
    graded = func.json_agg(func.json_build_array(c.version_no, c.grade_no, c.n))
    return select(
        func.json_build_array(func.json_build_array(*of_key), func.json_build_array(*of_divided), graded).label("item")
    ).group_by(*(value for value in (*of_key, *of_divided) if value is not nothing))


def select_grade_facts(rows: Any, sources: Sources) -> Select[Any]:
    """A JSON array for each grade that somebody has: GradeFacts."""
    used = select(rows.c.tenant_id, rows.c.version_no, rows.c.grade_no).distinct().subquery("used_grades")
    u, v, m, g, p, o = used.c, scheme_versions.c, schemes.c, grades.c, sources.places.c, sources.placed_versions.c
    same = and_(g.tenant_id == u.tenant_id, g.scheme_version_no == u.version_no, g.no == u.grade_no)
    placed = and_(p.tenant_id == u.tenant_id, p.scheme_version_no == u.version_no, p.grade_no == u.grade_no)
    of_version = and_(o.tenant_id == u.tenant_id, o.scheme_version_no == u.version_no)
    facts = (u.tenant_id, u.version_no, u.grade_no, m.code, v.version, g.code, g.label, g.rank, g.valid, p.band_no, p.expected)
    return (
        select(func.json_build_array(*facts, func.coalesce(o.expected, literal_column("false"))).label("item"))
        .select_from(used)
        .join(scheme_versions, (v.tenant_id == u.tenant_id) & (v.no == u.version_no))
        .join(schemes, (m.tenant_id == v.tenant_id) & (m.id == v.scheme_id))
        .outerjoin(grades, same)
        .outerjoin(sources.places, placed)
        .outerjoin(sources.placed_versions, of_version)
    )
