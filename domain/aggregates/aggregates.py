"""Aggregates: results pooled over pupils, for one caller and one query. REST and GraphQL both call read_aggregates.

A query groups by one to three dimensions. Subject and window are each grouped by or filtered to one value, since a sum
over either would count pupils more than once. Percentages are whole, rounded half up, and of *eligible* pupils, as in
the performance tables (Department for Education, "Primary school accountability", technical guidance). A trust's result
pools its pupils and is never a mean of its schools' percentages. An average is over pupils with a counting value that
has a number. It is null where the numbers come from several schemes, since a scaled score and a percentage have no
mean.

Which schools count: those within reach with `aggregates:read` or `aggregates:internal` (which includes the former);
with `trust`, those that were its members on the window's census date, whoever controls their data today. A row that
pools a school reached without `aggregates:internal` may be suppressed (disclosure.py). A caller can subtract the
figures that it sees unsuppressed, so in such a row only the pupils of the other schools count as protection.

A grade that no scheme or scale places by a standard is not below it. Schools that judge in such a scheme are excluded, and a percentage
of the standard is that of the others (`expectedOf` pupils), where it gives no hidden school away (groups.withhold_parts), and no child
(groups.leave_out_few). The same holds of an average (`averageOf` pupils).

Suppression needs the whole answer, so filters are applied after it:
- Every subject is counted, whatever `subject` says.
- A school is suppressed among the schools of its *population*, whose pooled result can be queried: the trust it was in
  on the census date or, without one, its local authority. All of the population within reach is counted, whatever
  `school` says.
- Schools that are named but not grouped by are pooled from their own rows, and a suppressed one suppresses the sum. So
  a query for some schools discloses nothing that grouping by school does not.

The reason of a suppressed row is withheld from whoever might learn from it. "primary" says that a group counts one to
five, "complement" that it does not: of two suppressed rows that are 7 together, the primary one has 1 and the other 6.
A reason that discloses nothing new is implied by the figures shown, and only a search of all tables that look the same
finds out which reasons are (tests/aggregates/test_labels.py searches small ones). So reasons are only for a caller that
may see every figure behind the answer and asks for `view=public`: the answer precisely as a reader with aggregates:read
at the same schools gets it, and why.

`excluded` discloses of a school only what its rows disclose when grouped by school and subject: a school that has a
suppressed row there, in a window and subject of the query, counts as contributing, judged or not. What a window
collects, and the members of a trust, are public.
"""

import json
from asyncio import to_thread
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

import msgspec

from domain.access.caller import Caller, Need, make_scope_error
from domain.access.reach import set_caller_first
from domain.access.standing import check_standing
from domain.aggregates.aggregate_rows import (
    AggregateBasis,
    AggregatePage,
    AggregateRow,
    AggregateScale,
    Coverage,
    ExcludedSchool,
    PageInfo,
)
from domain.aggregates.breakdowns import Breakdowns
from domain.aggregates.comparisons import make_change, make_gap
from domain.aggregates.covered_schools import list_earlier, list_excluded, resolve_schools
from domain.aggregates.dimensions import CLASS, DIMENSIONS, FILTERS
from domain.aggregates.disclosure import LISTED
from domain.aggregates.edition_groups import list_editions, list_unpublished, make_stored_groups
from domain.aggregates.editions import Covered, EditionRow, find_covered, is_by_school, read_rows
from domain.aggregates.groups import (
    PupilGroup,
    fold_gap,
    leave_out_few,
    make_groups,
    make_row,
    make_sort_key,
    match_earlier,
    pool_schools,
    suppress_groups,
    withhold_parts,
)
from domain.aggregates.query import AggregateQuery
from domain.aggregates.results import AggregateResult, Tally
from domain.aggregates.school_names import parse_names, resolve_laestabs
from domain.aggregates.statement import compile_aggregate
from domain.aggregates.template import AggregateTemplate
from domain.assessment.templates import PARTS_OF
from domain.declare.errors import BadRequest, Forbidden, Invalid, PartlyRead
from domain.declare.ids import parse_id
from domain.declare.scopes import Scope
from domain.read.cursors import Cursors
from domain.read.groups_read import GroupsRead, pool_groups
from domain.read.staff_names import make_class_issue, refuse_comparison
from domain.read.statement import Statement
from domain.roster.years import format_academic_year
from domain.store.database import Database
from domain.support import clock


async def read_aggregates(database: Database, caller: Caller, cursors: Cursors, query: AggregateQuery) -> AggregatePage:
    """Returns the page that the query asks for, read by one SQL statement for a caller that reads everything within reach.

    Another one asks first whether editions answer a reader, and one for a LAESTAB.

    Raises Forbidden without either scope, or for view=public where the caller may not see every figure unsuppressed;
    Invalid naming every parameter whose value is not within reach; BadRequest for a cursor of another query.
    """
    caller.require_any(Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL, what="aggregates")
    if query.view == "public":
        caller.require_scope(Scope.AGGREGATES_INTERNAL, "view=public")
    caller.require({name: Need(Scope.AGGREGATES_INTERNAL) for name in query.internal_names})
    if CLASS in query.group_by:
        await _check_class(database, caller)
    fingerprint = query.fingerprint
    query = replace(query, school=await resolve_laestabs(database, query.school))
    after = None if query.after is None else cursors.decrypt_position(query.after, caller.client_id, fingerprint)

    def encrypt_position(position: bytes) -> str:
        return cursors.encrypt_position(position, caller.client_id, fingerprint)

    live = replace(query, crosswalks_on=query.crosswalks_on or query.as_of or clock.read_today())
    if _reads_everything(caller, query):
        result, is_current = await _run_read(database, caller, live)
        if is_current:
            return await to_thread(_make_page, live, result, after, encrypt_position)
    if not query.is_internal and (covered := await find_covered(database, caller, query)) is not None:
        named = await read_result(database, caller, replace(query, group_by=("subject", "window")))
        resolve_schools(query, named)
        if query.windows:
            chosen = {(window.code, window.academic_year) for window in named.windows}
            covered.windows = [each for each in covered.windows if (each.code, format_academic_year(each.academic_year)) in chosen]
        rows = await read_rows(database, caller, query, covered)
        elsewhere = replace(query, school=tuple(covered.others), crosswalks_on=clock.read_today())
        beside = (elsewhere, await read_result(database, caller, elsewhere)) if covered.others else None
        return await to_thread(_make_edition_page, query, named, covered, rows, beside, after, encrypt_position)
    result = await read_result(database, caller, live)
    # suppression among hundreds of schools takes seconds of arithmetic; in a thread, other requests continue meanwhile
    return await to_thread(_make_page, live, result, after, encrypt_position)


def _reads_everything(caller: Caller, query: AggregateQuery) -> bool:
    """Whether the caller asks as itself, and by its snapshot reads all figures wherever it reaches: no edition answers it."""
    scopes = frozenset[str]() if caller.snapshot is None else caller.snapshot.scopes & caller.scopes
    return query.view == "own" and Scope.AGGREGATES_INTERNAL in scopes


_ONLY_SCHOOL = set_caller_first("SELECT find_only_school() AS id WHERE c.s IS NOT NULL OFFSET 0")


async def _check_class(database: Database, caller: Caller) -> None:
    """Raises Invalid with the reason unless the client reads aggregates of one school alone, by grants on that school, and all of it."""
    found: Any = await database.read(_ONLY_SCHOOL, caller.client_id, name="find only school")
    if Scope.AGGREGATES_INTERNAL not in caller.scopes or found is None or found["id"] is None:
        reason = "Only a client that reads aggregates of one school alone, by a grant on that school with aggregates:internal, divides them by class."
        raise refuse_comparison([make_class_issue("groupBy", reason)])


async def add_unknown_names(database: Database, caller: Caller, problem: PartlyRead) -> BadRequest:
    """Returns the error of a malformed query, with what the rest of it names and is not within reach."""
    query = problem.readable
    if not isinstance(query, AggregateQuery) or (query.window_names, query.subject, query.trust, query.school) == (
        (),
        None,
        None,
        (),
    ):
        return problem
    try:
        caller.require_any(Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL, what="aggregates")
        query = replace(query, school=await resolve_laestabs(database, query.school))
        resolve_schools(query, await read_result(database, caller, query))
    except Invalid as unknown:
        return problem.add_issues(unknown.issues)
    except Forbidden:
        pass  # nothing is told to a client without the scope
    return problem


async def read_result(database: Database, caller: Caller, query: AggregateQuery) -> AggregateResult:
    """Returns the counts that a query asks for, of all that is within reach."""
    result, is_current = await _run_read(database, caller, query)
    if caller.snapshot is not None and not is_current:
        scopes = (Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL)
        await check_standing(
            database, caller.client_id, {"aggregates": Need(next(scope for scope in scopes if scope in caller.scopes))}
        )
    return result


async def _run_read(database: Database, caller: Caller, query: AggregateQuery) -> tuple[AggregateResult, bool]:
    """Returns the counts, and whether the caller's snapshot, if it has one, is current."""
    statement, values = prepare_read(caller, query)
    text, is_current = await statement.run(database, values)
    return msgspec.json.decode(text, type=AggregateResult), is_current


def prepare_read(caller: Caller, query: AggregateQuery) -> tuple[Statement, dict[str, Any]]:
    """Returns the statement of a query, and its values. The first column of its row is the JSON of an AggregateResult."""
    template = AggregateTemplate(
        by_school="school" in query.group_by or bool(query.school),
        by_year_group="yearGroup" in query.group_by,
        categories=LISTED.intersection(query.group_by) | ({query.gap.dimension} if query.gap else set()),
        window=bool(query.window_names),
        trust=query.trust is not None,
        schools=bool(query.school),
        by_class=CLASS in query.group_by,
        as_of=query.as_of is not None,
        breaks_down=bool(query.include),
        filters=frozenset(FILTERS[name] for name, _ in query.filters),
        pools_windows=query.pools_windows,
        compares_windows=query.change_from is not None,
        compares=query.gap is not None,
    )
    named = parse_names(query.school, query.trust)
    values = {
        "caller": caller.client_id,
        "reach_version": None if caller.snapshot is None else caller.snapshot.version,
        "until": None if caller.snapshot is None else caller.snapshot.until,
        "internal": Scope.AGGREGATES_INTERNAL in caller.scopes,
        "subject": query.subject,
        "windows": list(query.window_names),
        "window_ids": [id_ for name in query.window_names if (id_ := parse_id(name))],
        "earlier": query.change_from,
        "earlier_id": parse_id(query.change_from or ""),
        **{f"of_{FILTERS[name]}": list(values) for name, values in query.filters},
        "trust_id": named.trust_id,
        "trust_uid": named.trust_uid,
        "school_ids": named.school_ids,
        "urns": named.urns,
        "laestabs": list(query.school),
        "places_on": query.crosswalks_on or clock.read_today(),
        "known_before": None if query.as_of is None else clock.find_end(query.as_of),
    }
    return compile_aggregate(template), values


def _make_page(
    query: AggregateQuery, result: AggregateResult, after: tuple[str | None, ...] | None, encrypt_position: Callable[[bytes], str]
) -> AggregatePage:
    groups, excluded = _list_live_groups(query, result)
    of_page, info, cursors = _cut_page(groups, query, after, encrypt_position)
    rows = [make_row(group, with_reason=query.view == "public") for group in of_page]
    breakdowns = _add_measures(query, result, rows, of_page)
    coverage = Coverage(schools=len(result.schools), contributing=len(result.schools) - len(excluded))
    page = AggregatePage(data=rows, page=info, excluded=excluded, coverage=coverage, basis=_describe_basis(query, result))
    if breakdowns is not None:
        vars(page)["included_codes"] = breakdowns.list_names(query.include)
    vars(page)["cursors"] = cursors
    of_windows = [window.code for window in result.windows]
    vars(page)["groups"] = _find_groups(
        rows, [school.id for school in result.schools], {each.school_id for each in excluded}, of_windows
    )
    return page


def _add_measures(
    query: AggregateQuery, result: AggregateResult, rows: list[AggregateRow], groups: list[PupilGroup]
) -> Breakdowns | None:
    """Adds to rows what the query includes and compares. Returns the grades that it includes, if it does."""
    breakdowns = Breakdowns.of(result) if query.include else None
    earlier = next(iter(list_earlier(query, result)), None)
    for row, group in zip(rows, groups, strict=True):
        if breakdowns is not None:
            breakdowns.add(row, group, query.include)
        if query.gap is not None and group.sides is not None:
            row.gap = make_gap(query.gap, group.counts, *group.sides)
        if earlier is not None and group.earlier is not None:
            row.change = make_change(group.counts, group.earlier, earlier)
    return breakdowns


def _list_live_groups(query: AggregateQuery, result: AggregateResult) -> tuple[list[PupilGroup], list[ExcludedSchool]]:
    """Returns the groups that a question is about, hidden where they must be, and the excluded schools."""
    schools = resolve_schools(query, result)
    by_school = "school" in query.group_by or bool(query.school)
    dimensions = tuple(name for name in DIMENSIONS if name in ("subject", "window", *query.group_by, *(["school"] * by_school)))
    divided = (*dimensions, query.gap.dimension) if query.gap else dimensions
    groups = _make_suppressed_groups(query, result, result.groups, divided)
    of_schools = groups
    if result.by_school is not None:
        of_schools = _make_suppressed_groups(query, result, result.by_school, ("school", "subject", "window"))
    if query.gap is not None:
        groups = fold_gap(groups, query.gap)
    if query.change_from is not None:
        earlier = {(window.code, window.academic_year) for window in list_earlier(query, result)}
        groups, of_schools = (match_earlier(of, earlier) for of in (groups, of_schools))
    leave_out_few(groups, of_schools, dimensions)
    withhold_parts(groups, of_schools, dimensions)
    excluded = list(list_excluded(query, result, of_schools))
    if query.subject is not None:
        groups = [group for group in groups if group.key.subject == query.subject]
    if query.school:
        groups = [group for group in groups if group.key.school in schools]
        if "school" not in query.group_by and len(schools) > 1:
            groups = pool_schools(groups)
    return groups, excluded


def _make_edition_page(
    query: AggregateQuery,
    named: AggregateResult,
    covered: Covered,
    rows: list[EditionRow],
    live: tuple[AggregateQuery, AggregateResult] | None,
    after: tuple[str | None, ...] | None,
    encrypt_position: Callable[[bytes], str],
) -> AggregatePage:
    """The page of rows of editions. `named` is read for the numbers of subjects, and so that names are told which are not within reach;
    `live` is of the schools of other trusts, whose rows follow among the others."""
    groups = list(make_stored_groups(query, covered, rows, {(tenant, code): no for tenant, no, code in named.subject_codes}))
    others, excluded = ([], list[ExcludedSchool]()) if live is None else _list_live_groups(*live)
    of_page, info, cursors = _cut_page(groups + others, query, after, encrypt_position)
    told = {row.school_id for row in rows} if is_by_school(query, covered) else {school.id for school in covered.schools}
    excluded += [
        ExcludedSchool(school_id=each.id, school_urn=each.urn, school_name=each.name, reason="nobody-eligible")
        for each in covered.schools
        if each.id not in told
    ]
    number = len(covered.schools) + len(covered.others)
    coverage = Coverage(schools=number, contributing=number - len(excluded))
    frozen_on = max(
        (clock.find_day(window.frozen_at) for window in covered.windows if window.frozen_at), default=clock.read_today()
    )
    basis = AggregateBasis(judgements="published", crosswalks_on=str(frozen_on), scale=None)
    data = [make_row(group, with_reason=False) for group in of_page]
    page = AggregatePage(data=data, page=info, excluded=excluded, coverage=coverage, basis=basis)
    page.editions, page.unpublished = list_editions(covered), list_unpublished(covered)
    vars(page)["cursors"] = cursors
    vars(page)["groups"] = _find_groups(
        data, [*(school.id for school in covered.schools), *covered.others], {each.school_id for each in excluded}
    )
    return page


def _find_groups(
    rows: list[AggregateRow], schools: list[str], excluded: set[str], pooled_windows: Sequence[str] = ()
) -> GroupsRead | None:
    """Returns the groups of collected values that the rows of a page pool. Of a conjunction they are those of its parts."""
    pooled = [school for school in schools if school not in excluded]
    of_rows = (
        (row.school_id, window, row.subject or "") for row in rows for window in ([row.window] if row.window else pooled_windows)
    )
    return pool_groups(pooled, ((school, window, PARTS_OF.get(subject, (subject,))) for school, window, subject in of_rows))


def _describe_basis(query: AggregateQuery, result: AggregateResult) -> AggregateBasis:
    scale = None
    if len(result.scales) == 1:
        ((_, id_, name, expected_label, higher_label, *_),) = result.scales
        scale = AggregateScale(id=id_, name=name, expected_label=expected_label, higher_label=higher_label)
    return AggregateBasis(
        judgements="current" if query.as_of is None else "as-of",
        as_of=None if query.as_of is None else str(query.as_of),
        crosswalks_on=str(query.crosswalks_on),
        scale=scale,
    )


def _make_suppressed_groups(
    query: AggregateQuery, result: AggregateResult, tally: Tally, dimensions: tuple[str, ...]
) -> list[PupilGroup]:
    """Returns all groups of a tally, suppressed for this caller or, with view=public, as for a reader with
    aggregates:read."""
    groups = make_groups(result, tally, dimensions)
    if query.view == "public":
        if not all(group.facts.internal for group in groups):
            required = f"{Scope.AGGREGATES_INTERNAL} at every school counted, including those among which a school is hidden"
            raise make_scope_error({"view=public": required})
        for group in groups:
            group.facts.internal, group.counts.guarded = False, group.counts.eligible
    suppress_groups(groups, dimensions)
    return groups


def _cut_page(
    groups: list[PupilGroup], query: AggregateQuery, after: tuple[str | None, ...] | None, encrypt_position: Callable[[bytes], str]
) -> tuple[list[PupilGroup], PageInfo, list[str]]:
    """Returns the groups of the page, ordered by the dimensions grouped by, and a cursor for each: its position in that
    order."""
    sort_key = make_sort_key(groups, tuple(dict.fromkeys((*query.group_by, "subject", "window"))))
    ordered = sorted(((sort_key(group), group) for group in groups), key=itemgetter(0))
    start = 0 if after is None else bisect_right(ordered, after, key=itemgetter(0))
    page = ordered[start:] if query.first is None else ordered[start : start + query.first]
    cursors = [encrypt_position(json.dumps(position).encode()) for position, _ in page]
    info = PageInfo(has_more=start + len(page) < len(ordered), end_cursor=cursors[-1] if cursors else None)
    return [group for _, group in page], info, cursors
