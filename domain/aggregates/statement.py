"""The SQL statement of an aggregate query: it pools cells or totals over the schools that the caller reaches, and
returns one JSON text.

A query that groups only by school, subject and window reads totals, any other reads cells. Tenants number their
subjects, windows and grades themselves, so rows of several tenants are pooled by code; windows by code and academic
year, since the same code may recur in another year.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Boolean,
    ColumnElement,
    Integer,
    Null,
    Select,
    Text,
    Uuid,
    and_,
    any_,
    bindparam,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
)

from domain.access.reach import CALLER, is_in_force, reach
from domain.aggregates.cells import MAIN_ASPECT, scheme_versions
from domain.aggregates.graded_cells import gather_graded, select_grade_facts, select_graded
from domain.aggregates.measures import IN_TABLES, KNOWN_BEFORE, SUMMED, Counted, Sources, select_measures
from domain.aggregates.results import Categories
from domain.aggregates.template import AggregateTemplate
from domain.assessment.codes import MAX_LISTED
from domain.assessment.common_scales import common_scales
from domain.assessment.schemes import schemes
from domain.assessment.seasons import derive_season
from domain.assessment.subjects import subjects
from domain.assessment.tenant_setup import tenants
from domain.assessment.window_state import has_opened
from domain.assessment.windows import pins, windows
from domain.declare.scopes import Scope
from domain.read.statement import Statement, make_statement
from domain.roster.schools import schools
from domain.roster.trusts import memberships, trusts
from domain.roster.years import academic_year_text
from domain.support.lru import Lru

statements: Lru[AggregateTemplate, Statement] = Lru("aggregate statements", 4_000_000)


def compile_aggregate(template: AggregateTemplate) -> Statement:
    """Returns the statement of a template. It is compiled once and cached."""
    return statements.get(template) or statements.put(template, _compile(template))


def _compile(template: AggregateTemplate) -> Statement:
    """Compiles the statement of a template. Its columns are the JSON text of an AggregateResult,
    and whether the snapshot of the reach is current.

    Its parameters: `caller`; `reach_version` and `until` of the snapshot; `internal`, whether the token has
    aggregates:internal; `subject`, a code or None; and, where the template has the filter, `windows` and `window_ids`, `earlier` and `earlier_id`,
    `trust_id` and `trust_uid` (one of them None), `school_ids`, `urns` and `laestabs`, and `known_before`, the end of the day as of which
    judgements are counted.
    """
    reached = _select_reached(template)
    counted = _select_counted(reached, template)
    sources = Sources.of(reached, counted, Counted.for_query(counted, template) if template.counts_rows else IN_TABLES)
    measured = by_school = select_measures(sources, template, "measured")
    broken_down = _break_down(sources, template) if template.breaks_down else {}
    if not (template.from_totals and template.by_school):
        whole = template.by_school_alone
        if template.by_class:  # whose rows count a pupil of two classes twice
            sources = sources.with_counts(Counted.for_query(counted, whole) if whole.as_of else IN_TABLES)
        by_school = select_measures(sources, whole, "by_school")
    tenant_ids, s = select(reached.c.tenant_id), subjects.c
    is_window_there = exists().where(windows.c.tenant_id.in_(tenant_ids), _is_requested(windows.c))
    requested = (_is_requested(windows.c),) if template.window else ()
    answer = {
        "windows": _aggregate_array(_select_windows(tenant_ids, template)) if template.window else _build_array(),
        "window_codes": case((is_window_there, _build_array()), else_=_list_windows(tenant_ids))
        if template.window
        else _build_array(),
        "opened": exists().where(windows.c.tenant_id.in_(tenant_ids), *requested, _had_opened(template))
        if template.as_of
        else true(),
        "subject": exists().where(s.tenant_id.in_(tenant_ids), s.code == bindparam("subject", type_=Text)),
        "trust": exists().where(_is_requested_trust(), _is_trust_in_reach(reached)) if template.trust else true(),
        "schools": _aggregate_array(_select_requested_schools(reached, counted, template)),
        "empty": _aggregate_array(_select_empty_windows(counted, by_school, template)),
        "subject_codes": _aggregate_array(
            select(_build_array(s.tenant_id, s.no, s.code).label("item")).where(s.tenant_id.in_(tenant_ids))
        ),
        "scheme_codes": _aggregate_array(_select_scheme_codes(measured, tenant_ids)),
        "scales": _aggregate_array(_select_scales(sources)),
        "groups": _build_tally(measured, template),
        "by_school": null() if by_school is measured else _build_tally(by_school, template.by_school_alone),
        **broken_down,
    }
    text = cast(func.json_build_object(*chain.from_iterable(answer.items())), Text)
    return make_statement([select(text).scalar_subquery()], checks_snapshot=True, name="read aggregates")


def _break_down(sources: Sources, template: AggregateTemplate) -> dict[str, ColumnElement[Any]]:
    """The pupils of each group by grade, and the facts of these grades."""
    graded = select_graded(sources, template).cte("graded")
    return {
        "graded": _aggregate_array(gather_graded(graded, template, Categories._fields)),
        "grade_facts": _aggregate_array(select_grade_facts(graded, sources)),
    }


def _select_reached(template: AggregateTemplate) -> CTE:
    """The schools within reach. A school has a row of reach for each grant."""
    r, s = reach.c, schools.c
    read, internal = (literal(scope.value) == any_(r.scopes) for scope in (Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL))
    scoped = internal if template.is_internal else read | internal
    return (
        select(s.id, s.tenant_id, s.urn, s.name, s.local_authority_code)
        .add_columns((func.bool_or(internal) & bindparam("internal", type_=Boolean)).label("internal"))
        .add_columns(case((s.status != literal_column("'closed'"), s.laestab)).label("laestab"))
        .join_from(reach, schools, (s.id == r.school_id) & (s.tenant_id == r.tenant_id))
        .where(r.client_id == CALLER, is_in_force(r), scoped)
        .group_by(s.id)
        .cte("reached")
    )


def _select_counted(reached: CTE, template: AggregateTemplate) -> CTE:
    """The schools and windows that count: within reach, in the trust of the query, and in the populations of the
    schools it names."""
    q, w = reached.c, windows.c
    trust_id = select(func.min(cast(memberships.c.trust_id, Text))).where(_is_member(q.id, w.census_on)).scalar_subquery()
    counted = (
        select(q.id, q.tenant_id, q.urn, q.laestab, q.name, q.internal, tenants.c.suppression_threshold.label("threshold"))
        .add_columns(w.no, w.code, w.id.label("window_id"), w.census_on, academic_year_text(w.academic_year).label("academic_year"))
        .add_columns(func.coalesce(trust_id, q.local_authority_code).label("population"))
        .add_columns(_had_opened(template).label("has_opened"))
        .join_from(reached, windows, w.tenant_id == q.tenant_id)
        .join(tenants, tenants.c.id == q.tenant_id)
    )
    if template.window:
        counted = counted.where(_is_requested(w) | _is_earlier(w) if template.compares_windows else _is_requested(w))
    if template.trust:
        counted = counted.where(
            exists().where(_is_requested_trust(), memberships.c.trust_id == trusts.c.id, _is_member(q.id, w.census_on))
        )
    all_counted = counted.cte("counted").prefix_with("MATERIALIZED")
    if not template.schools:
        return all_counted
    populations = select(all_counted.c.population).where(_is_requested_school(all_counted))
    return select(all_counted).where(all_counted.c.population.in_(populations)).cte("neighbours")


def _select_windows(tenant_ids: Select[Any], template: AggregateTemplate) -> Select[Any]:
    """FoundWindow of the windows that the query names, within reach."""
    w = windows.c
    named = _is_requested(w) | _is_earlier(w) if template.compares_windows else _is_requested(w)
    facts = (w.id, w.code, academic_year_text(w.academic_year), derive_season(w), has_opened(w))
    return select(_build_array(*facts).label("item")).where(w.tenant_id.in_(tenant_ids), named)


def _had_opened(template: AggregateTemplate) -> ColumnElement[bool]:
    """A window has opened, by the day of the query."""
    return has_opened(windows.c) & (windows.c.opens_at < KNOWN_BEFORE) if template.as_of else has_opened(windows.c)


def _select_requested_schools(reached: CTE, counted: CTE, template: AggregateTemplate) -> Select[Any]:
    """RequestedSchool of the schools that the query names; or of past, present and future members of its trust; or of
    all that have such a window."""
    q = reached.c
    has_window = exists().where(windows.c.tenant_id == q.tenant_id, _is_requested(windows.c) if template.window else true())
    then = select(counted.c.id).where(_is_of_rows(counted.c, template))
    elsewhen = and_(has_window, q.id.not_in(then)) if template.trust else false()
    requested = select(_build_array(q.id, q.urn, q.name, elsewhen, q.laestab, q.tenant_id).label("item"))
    if template.schools:
        return requested.where(_is_requested_school(reached))
    if template.trust:
        member = exists().where(_is_requested_trust(), memberships.c.trust_id == trusts.c.id, memberships.c.school_id == q.id)
        return requested.where(member | exists().where(_is_requested_trust(), trusts.c.id == q.tenant_id))
    return requested.where(has_window)


def _select_empty_windows(counted: CTE, by_school: CTE, template: AggregateTemplate) -> Select[Any]:
    """The windows of a school in which no pupil is counted, with the subjects collected. Where a pupil is counted, each
    subject collected has a total."""
    c, m = counted.c, by_school.c
    pinned = and_(
        pins.c.tenant_id == c.tenant_id, pins.c.window_no == c.no, pins.c.school_id == c.id, pins.c.aspect_no == MAIN_ASPECT
    )
    return (
        select(_build_array(c.tenant_id, c.id, func.json_agg(pins.c.subject_no)).label("item"))
        .join_from(counted, pins, pinned)
        .where(c.has_opened, ~exists().where(m.school == c.id, m.window == c.code), _is_of_rows(c, template))
        .group_by(c.tenant_id, c.id, c.no)
    )


def _build_tally(measured: CTE, template: AggregateTemplate) -> ColumnElement[Any]:
    """The JSON of a Tally."""
    m, nothing = measured.c, null()
    of_window = [nothing, nothing] if template.pools_windows else [m.window, m.academic_year]
    key = [m.tenant_id, m.school if template.by_school else nothing, m.subject_no, *of_window]
    key += [m.year_group if template.by_year_group else nothing, m.class_id if template.by_class else nothing]
    categories = [m[name] if name in template.categories else nothing for name in Categories._fields]
    schools = literal_column("1") if template.by_school else func.count(m.school.distinct())
    facts = [schools, func.bool_and(m.internal), func.max(m.threshold), m.subject_no, func.min(m.census_on)]
    facts += [func.min(value) if template.by_school else nothing for value in (m.population, m.urn, m.name)]
    facts.append(func.min(m.class_code) if template.by_class else nothing)
    facts += [func.count(m.window.distinct())] if template.pools_windows else []
    facts_by_key = _group_into_arrays([key], _build_array(*facts))
    counts_by_key = _group_into_arrays([key, categories], *_sum_measures(measured))
    return func.json_build_object("facts", _aggregate_array(facts_by_key), "counts", _aggregate_array(counts_by_key))


def _sum_measures(measured: CTE) -> list[ColumnElement[Any]]:
    """PupilCounts, the numbers of the scheme versions that the values come from, and those of all scheme versions."""
    m = measured.c
    eligible, *counts, value_sum = (func.sum(m[name]) for name in SUMMED)
    guarded = func.coalesce(func.sum(m.eligible).filter(~m.internal), 0)
    versions = func.array_agg(m.version_no.distinct())
    *discounted, discounted_sum = (func.sum(m[f"discounted_{name}"]) for name in SUMMED)
    apart = case((func.bool_or(m.is_discounted), _build_array(*discounted, cast(discounted_sum * 100, BigInteger))))
    counted = _build_array(eligible, guarded, *counts, cast(value_sum * 100, BigInteger), func.bool_or(m.judged), apart)
    lists = (versions.filter(m.valued > 0, m.version_no.is_not(None)), versions.filter(m.version_no.is_not(None)))
    return [counted, *(func.coalesce(func.to_json(numbers), _build_array()) for numbers in lists)]


def _select_scheme_codes(measured: CTE, tenant_ids: Select[Any]) -> Select[Any]:
    """The scheme versions that values come from, with the codes of their schemes. The tenants are named once more, since
    the distinct rows of a CTE tell the planner nothing of whose they are.
    """
    used = select(measured.c.tenant_id, measured.c.version_no).distinct().subquery()
    v, m = scheme_versions.c, schemes.c
    return (
        select(_build_array(v.tenant_id, v.no, m.code, v.expected_status, v.higher_status).label("item"))
        .join_from(used, scheme_versions, (v.tenant_id == used.c.tenant_id) & (v.no == used.c.version_no))
        .join(schemes, (m.tenant_id == v.tenant_id) & (m.id == v.scheme_id))
        .where(v.tenant_id.in_(tenant_ids))
    )


def _select_scales(sources: Sources) -> Select[Any]:
    """The common scales in force, with the names of their standards."""
    k, c = sources.scaled.c, common_scales.c
    facts = (k.tenant_id, c.id, c.name, c.expected_label, c.higher_label, c.bands, c.band_labels)
    return select(_build_array(*facts).label("item")).join_from(
        sources.scaled, common_scales, (c.tenant_id == k.tenant_id) & (c.id == k.scale_id)
    )


def _group_into_arrays(keys: Sequence[Sequence[ColumnElement[Any]]], *figures: ColumnElement[Any]) -> Select[Any]:
    """Rows of one column, a JSON array: an array of each key, then the figures. They are grouped by the columns of the
    keys."""
    by = (value for key in keys for value in key if not isinstance(value, Null))
    return select(_build_array(*(_build_array(*key) for key in keys), *figures).label("item")).group_by(*by)


def _build_array(*items: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.json_build_array(*items)


def _aggregate_array(items: Select[Any]) -> ColumnElement[Any]:
    """A JSON array of the one column of all rows."""
    return select(func.coalesce(func.json_agg(items.subquery().c.item), _build_array())).scalar_subquery()


def _is_requested(w: Any) -> ColumnElement[bool]:
    """Whether a window is one of those that the rows are of."""
    return _is_named(w.code, w.id)


def _is_earlier(w: Any) -> ColumnElement[bool]:
    return or_(w.code == bindparam("earlier", type_=Text), w.id == bindparam("earlier_id", type_=Uuid))


def _is_of_rows(c: Any, template: AggregateTemplate) -> ColumnElement[bool]:
    """Whether a row of `counted` is of a window that the rows are of, and not of the earlier one."""
    return _is_named(c.code, c.window_id) if template.compares_windows else true()


def _is_named(code: ColumnElement[Any], id_: ColumnElement[Any]) -> ColumnElement[bool]:
    codes, ids = bindparam("windows", type_=ARRAY(Text)), bindparam("window_ids", type_=ARRAY(Uuid))
    return or_(code == any_(codes), id_ == any_(ids))


def _list_windows(tenant_ids: Select[Any]) -> ColumnElement[Any]:
    """A JSON array of the codes of the newest windows, one more than a message lists."""
    w = windows.c
    newest = select(w.code.label("item")).where(w.tenant_id.in_(tenant_ids)).group_by(w.code)
    return _aggregate_array(newest.order_by(func.max(w.census_on).desc(), w.code).limit(MAX_LISTED + 1))


def _is_requested_trust() -> ColumnElement[bool]:
    return (trusts.c.id == bindparam("trust_id", type_=Uuid)) | (trusts.c.group_uid == bindparam("trust_uid", type_=Integer))


def _is_trust_in_reach(reached: CTE) -> ColumnElement[bool]:
    """A school within reach is a member of the trust, or was."""
    member = exists().where(memberships.c.trust_id == trusts.c.id, memberships.c.school_id.in_(select(reached.c.id)))
    return member | trusts.c.id.in_(select(reached.c.tenant_id))


def _is_member(school_id: ColumnElement[Any], on: ColumnElement[Any]) -> ColumnElement[bool]:
    """A membership of the school on a day. The register does not say when some memberships began."""
    m = memberships.c
    return and_(m.school_id == school_id, m.joined_on.is_(None) | (m.joined_on <= on), m.left_on.is_(None) | (m.left_on >= on))


def _is_requested_school(school: CTE) -> ColumnElement[bool]:
    ids, urns = bindparam("school_ids", type_=ARRAY(Uuid)), bindparam("urns", type_=ARRAY(Integer))
    laestabs = bindparam("laestabs", type_=ARRAY(Text))
    return (school.c.id == any_(ids)) | (school.c.urn == any_(urns)) | (school.c.laestab == any_(laestabs))
