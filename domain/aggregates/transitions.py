"""How the pupils of two windows moved between the places of their grades: counts alone, of schools where the client holds aggregates:internal.

Pupils are matched by the record and the school: those of both censuses of one school, whose grades both count and both have a place. Everyone else
of either census is left out and counted, with the reason; so the matrix closes, and a school cannot look better by whom it lacks. A function of the
database counts as its owner, and checks the scope at every school itself.
"""

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from operator import itemgetter
from typing import Any

import msgspec

from domain.access.caller import Caller, Need
from domain.access.reach import IN_FORCE, set_caller_first
from domain.access.standing import check_standing
from domain.aggregates.aggregate_rows import AggregateScale
from domain.aggregates.school_names import parse_number, resolve_laestabs
from domain.aggregates.transition_query import TransitionQuery
from domain.aggregates.transition_rows import (
    TransitionBasis,
    TransitionGroup,
    TransitionPage,
    TransitionPageInfo,
    TransitionRow,
    TransitionWindow,
    Unmatched,
    UnmatchedSchool,
)
from domain.assessment.codes import list_codes
from domain.assessment.templates import describe_conjunction
from domain.declare.errors import Invalid, Issue, make_invalid
from domain.declare.ids import parse_id
from domain.declare.scopes import Scope
from domain.read.cursors import Cursors
from domain.read.groups_read import CollectedGroup, list_groups
from domain.roster.years import format_academic_year
from domain.store.database import Database
from domain.support import clock
from domain.support.suggestions import Suggestions

_FIND = set_caller_first(f"""
    WITH reached AS MATERIALIZED (
        SELECT DISTINCT r.tenant_id, r.school_id FROM reach r JOIN schools s ON s.id = r.school_id
        WHERE r.client_id = $1 AND '{Scope.AGGREGATES_INTERNAL}' = ANY (r.scopes) AND {IN_FORCE}
            AND ($2::text IS NULL OR r.tenant_id = $3 OR r.tenant_id = (SELECT t.id FROM trusts t WHERE t.group_uid = $4))
    ), tenants AS MATERIALIZED (
        SELECT DISTINCT tenant_id FROM reached
    )
    SELECT json_build_object(
        'trusts', (SELECT count(*) FROM tenants),
        'windows', (SELECT COALESCE(json_agg(json_build_object('tenant', w.tenant_id, 'no', w.no, 'id', w.id, 'code', w.code, 'year', w.academic_year,
            'censusOn', w.census_on, 'opened', window_state(w.state, w.opens_at, w.closes_at, $5) <> 'planned',
            'openedByThen', $6::timestamptz IS NULL OR w.opens_at < $6) ORDER BY w.census_on DESC, w.no), '[]')
            FROM windows w WHERE w.tenant_id IN (SELECT tenant_id FROM tenants)),
        'subjects', (SELECT COALESCE(json_agg(json_build_object('tenant', s.tenant_id, 'no', s.no, 'code', s.code) ORDER BY s.code), '[]')
            FROM subjects s WHERE s.tenant_id IN (SELECT tenant_id FROM tenants) AND NOT s.derived),
        'aspects', (SELECT COALESCE(json_agg(json_build_object('tenant', s.tenant_id, 'no', s.no, 'code', s.code) ORDER BY s.code), '[]')
            FROM aspects s WHERE s.tenant_id IN (SELECT tenant_id FROM tenants)),
        'schools', (SELECT COALESCE(json_agg(json_build_object('tenant', r.tenant_id, 'id', s.id, 'urn', s.urn, 'name', s.name,
            'laestab', CASE WHEN s.status <> 'closed' THEN s.laestab END) ORDER BY s.urn), '[]')
            FROM reached r JOIN schools s ON s.id = r.school_id)
    )::text AS found WHERE c.s IS NOT NULL OFFSET 0
""")
_COUNT = set_caller_first("""
    SELECT (SELECT COALESCE(json_agg(t), '[]') FROM count_transitions($2, $3, $4, $5, $6, $7, $8, $9, $10) t)::text AS rows,
        (SELECT json_build_object('id', k.id, 'name', k.name, 'expectedLabel', k.expected_label, 'higherLabel', k.higher_label, 'bands', k.bands)
            FROM common_scales k WHERE k.tenant_id = $2 AND k.id = find_scale($2, $8))::text AS scale,
        EXISTS (SELECT 1 FROM pins n JOIN scheme_versions v ON v.tenant_id = $2 AND v.no = n.scheme_version_no
            JOIN schemes m ON m.tenant_id = $2 AND m.id = v.scheme_id AND m.progress_method = $10
            WHERE n.tenant_id = $2 AND n.window_no IN ($3, $4) AND n.subject_no = $5 AND n.aspect_no = $6 AND n.school_id = ANY ($7)) AS is_declared
    WHERE c.s IS NOT NULL OFFSET 0
""")


class _Named(msgspec.Struct, rename="camel"):
    tenant: str
    no: int
    code: str


class _Window(_Named, rename="camel"):
    id: str
    year: int
    census_on: str
    opened: bool
    opened_by_then: bool


class _School(msgspec.Struct):
    tenant: str
    id: str
    urn: int
    name: str
    laestab: str | None


class _Found(msgspec.Struct):
    """What is within reach with the scope."""

    trusts: int
    windows: list[_Window]
    subjects: list[_Named]
    aspects: list[_Named]
    schools: list[_School]


class _Scale(msgspec.Struct, rename="camel"):
    id: str
    name: str
    expected_label: str | None
    higher_label: str | None
    bands: list[str]


class _Counted(msgspec.Struct):
    """A row of count_transitions."""

    school_id: str
    compared_by: Any
    from_place: str | None
    from_no: int | None
    to_place: str | None
    to_no: int | None
    moved: Any
    left_out: Any
    pupils: int
    change_of: int
    change: float


class _Question(msgspec.Struct):
    """What a query names, found."""

    from_window: _Window
    to_window: _Window
    subject: _Named
    aspect: _Named
    schools: list[_School]


async def read_transitions(database: Database, caller: Caller, cursors: Cursors, query: TransitionQuery) -> TransitionPage:
    """Returns the page that the query asks for.

    Raises Forbidden without aggregates:internal; Invalid naming every parameter whose value is not within reach, or by which method no
    school's difference is progress; BadRequest for a cursor of another query.
    """
    caller.require_scope(Scope.AGGREGATES_INTERNAL, "transitions")
    after = None if query.after is None else cursors.decrypt_position(query.after, caller.client_id, query.fingerprint)
    trust = query.trust
    names = (trust, None if trust is None else parse_id(trust), None if trust is None else parse_number(trust))
    known_before = None if query.as_of is None else clock.find_end(query.as_of)
    found: Any = await database.read(
        _FIND, caller.client_id, *names, clock.read_now(), known_before, name="find transitions", may_lag=True
    )
    named = msgspec.json.decode(found["found"], type=_Found)
    if not named.schools and trust is None:
        await check_standing(database, caller.client_id, {"transitions": Need(Scope.AGGREGATES_INTERNAL)})
    question = _find_named(query, named, await resolve_laestabs(database, query.school))
    crosswalks_on = query.crosswalks_on or query.as_of or clock.read_today()
    numbers = (question.from_window.no, question.to_window.no, question.subject.no, question.aspect.no)
    answer: Any = await database.read(
        _COUNT,
        caller.client_id,
        parse_id(question.to_window.tenant),
        *numbers,
        [parse_id(school.id) for school in question.schools],
        crosswalks_on,
        known_before,
        query.change,
        name="count transitions",
        may_lag=True,
    )
    rows = msgspec.json.decode(answer["rows"], type=list[_Counted])
    if query.change is not None and not any(row.change_of for row in rows):
        _refuse_change(query, is_declared=answer["is_declared"])
    scale = None if answer["scale"] is None else msgspec.json.decode(answer["scale"], type=_Scale)
    basis = TransitionBasis(
        judgements="current" if query.as_of is None else "as-of",
        as_of=None if query.as_of is None else str(query.as_of),
        crosswalks_on=str(crosswalks_on),
        scale=None
        if scale is None
        else AggregateScale(id=scale.id, name=scale.name, expected_label=scale.expected_label, higher_label=scale.higher_label),
        bands=[] if scale is None else scale.bands,
    )
    ordered = _order_rows(rows, question.schools, by_school=query.by_school)
    start = 0 if after is None else bisect_right(ordered, after, key=itemgetter(0))
    page = ordered[start : start + query.first]
    has_more = start + len(page) < len(ordered)
    end = cursors.encrypt_position(json.dumps(page[-1][0]).encode(), caller.client_id, query.fingerprint) if page else None
    transitions = TransitionPage(
        from_window=_describe_window(question.from_window),
        to_window=_describe_window(question.to_window),
        subject=question.subject.code,
        aspect=question.aspect.code,
        basis=basis,
        data=[row for _, row in page],
        groups=_make_groups(rows, question.schools, query),
        excluded=list(_list_unmatched(rows, question.schools)),
        page=TransitionPageInfo(has_more=has_more, end_cursor=end),
    )
    unmatched, tenant_id = {school.school_id for school in transitions.excluded}, question.to_window.tenant
    vars(transitions)["groups_read"] = list_groups(
        CollectedGroup(tenant_id, school.id, window.no, question.subject.no, question.aspect.no, "transitions")
        for window in (question.from_window, question.to_window)
        for school in question.schools
        if school.id not in unmatched
    )
    return transitions


def _refuse_change(query: TransitionQuery, *, is_declared: bool) -> None:
    """Raises Invalid where no scheme of these schools in these windows has the method. One that reaches nobody leaves an empty figure."""
    if is_declared:
        return
    message = (
        "Nobody has declared for the schemes of these schools that a difference of their points is progress: a point means what its school says."
        " POST /v1/schemes/{id}/declare-progress declares it."
        if query.change == "points"
        else "No scheme of these schools is one of standardised scores. POST /v1/schemes/{id}/declare-progress says that one is."
    )
    raise Invalid(message, code="progress-method-undefined", issues=(Issue("change", "progress-method-undefined", message),))


def _find_named(query: TransitionQuery, found: _Found, school_names: tuple[str, ...]) -> _Question:
    """Returns what the query names. Raises Invalid with an issue for each name that is not within reach."""
    issues: list[Issue] = []

    def find(at: str, noun: str, name: str, among: list[Any]) -> Any:
        fits = [each for each in among if name in (each.code, getattr(each, "id", None))]
        tenants = {each.tenant for each in fits}
        if len(tenants) > 1 and at == "from":
            issues.append(Issue("trust", "trust-required", "Several trusts within reach have such windows. Name one."))
        if not fits:
            codes = list(dict.fromkeys(each.code for each in among))
            message = f"There is no such {noun} within the reach of this client's aggregates."
            hint = describe_conjunction(name) if noun == "subject" else None
            message += f" {hint}" if hint else Suggestions().suggest(name, codes) + list_codes(codes)
            issues.append(Issue(at, f"{noun}-not-found", message))
        return fits

    if query.trust is not None and not found.trusts:
        issues.append(Issue("trust", "trust-not-found", "There is no such trust within the reach of this client's aggregates."))
    from_windows: list[_Window] = find("from", "window", query.from_window, found.windows)
    to_windows: list[_Window] = find("to", "window", query.to_window, found.windows)
    subjects: list[_Named] = find("subject", "subject", query.subject, found.subjects)
    aspects: list[_Named] = find("aspect", "aspect", query.aspect, found.aspects)
    named = {name for school in found.schools for name in (school.id, str(school.urn), school.laestab)}
    message = "There is no such school within the reach of this client's aggregates."
    issues += [Issue("school", "school-not-found", message) for name in school_names if name not in named]
    if from_windows and to_windows and not issues:
        tenant = from_windows[0].tenant
        to_windows = [window for window in to_windows if window.tenant == tenant]
        if not to_windows:
            issues.append(Issue("to", "window-not-found", "The two windows are of different trusts."))
        elif (from_windows[0].census_on, from_windows[0].no) >= (to_windows[0].census_on, to_windows[0].no):
            issues.append(Issue("to", "windows-reversed", "The window to is later than the window from, by their census days."))
    for at, windows in (("from", from_windows), ("to", to_windows)):
        if windows and not windows[0].opened:
            issues.append(Issue(at, "window-not-open", "This window has not opened yet."))
        elif windows and not windows[0].opened_by_then:
            issues.append(Issue("asOf", "window-not-open", f"The window {at} had not opened by this day: nothing stood yet."))
    if issues:
        raise make_invalid(issues)
    tenant = from_windows[0].tenant
    schools = [school for school in found.schools if school.tenant == tenant]
    if query.school:
        schools = [school for school in schools if {school.id, str(school.urn), school.laestab}.intersection(school_names)]
    (subject,) = (each for each in subjects if each.tenant == tenant)
    (aspect,) = (each for each in aspects if each.tenant == tenant)
    return _Question(from_windows[0], to_windows[0], subject, aspect, schools)


def _describe_window(window: _Window) -> TransitionWindow:
    year = format_academic_year(window.year)
    return TransitionWindow(id=window.id, code=window.code, academic_year=year, census_on=window.census_on)


def _name_school(school: _School | None) -> dict[str, Any]:
    """Returns the members of a row that name its school, if it is of one."""
    return {} if school is None else {"school_id": school.id, "school_urn": school.urn, "school_name": school.name}


_Position = tuple[str, ...]
_METHODS = ("band", "standards", "expected", "rank", None)


def _order_rows(rows: list[_Counted], schools: list[_School], *, by_school: bool) -> list[tuple[_Position, TransitionRow]]:
    """Returns the rows of the answer with their positions: the schools by URN, the matched by the places from the lowest, then those left out."""
    by_id = {school.id: school for school in schools}
    summed: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        key = (row.compared_by, row.from_no, row.from_place, row.to_no, row.to_place, row.moved, row.left_out)
        summed[row.school_id if by_school else None, *key] += row.pupils
    found = []
    for (school_id, by, from_no, from_place, to_no, to_place, moved, left_out), pupils in summed.items():
        school = by_id.get(school_id)
        made = TransitionRow(
            **_name_school(school),
            compared_by=by,
            from_place=from_place,
            to_place=to_place,
            moved=moved,
            left_out=left_out,
            pupils=pupils,
        )
        places = (f"{-1 if from_no is None else from_no:06}", f"{-1 if to_no is None else to_no:06}")
        urn = "" if school is None else f"{school.urn:06}"
        found.append(((urn, str(_METHODS.index(by)), *places, moved or "", left_out or ""), made))
    return sorted(found, key=itemgetter(0))


def _make_groups(rows: list[_Counted], schools: list[_School], query: TransitionQuery) -> list[TransitionGroup]:
    """Returns the schools that have pupils in either census, or all of them as one group."""
    of_group: defaultdict[str | None, list[_Counted]] = defaultdict(list)
    for row in rows:
        of_group[row.school_id if query.by_school else None].append(row)
    groups = []
    named: list[_School | None] = [*schools] if query.by_school else [None]
    for school in named:
        counted = of_group.get(None if school is None else school.id, [])
        if school is not None and not counted:
            continue
        change_of = sum(row.change_of for row in counted)
        groups.append(
            TransitionGroup(
                **_name_school(school),
                schools=len({row.school_id for row in counted}),
                pupils=sum(row.pupils for row in counted),
                matched=sum(row.pupils for row in counted if row.left_out is None),
                change_of=None if query.change is None else change_of,
                change=_compute_mean(sum(row.change for row in counted), change_of) if change_of else None,
            )
        )
    return groups


def _compute_mean(total: float, of: int) -> float:
    """Returns the mean of differences to one decimal place, rounded half away from zero. `total` is in hundredths at the finest."""
    tenths, rest = divmod(abs(round(total * 100)), 10 * of)
    rounded = (tenths + (2 * rest >= 10 * of)) / 10
    return rounded if total >= 0 else -rounded


def _list_unmatched(rows: list[_Counted], schools: list[_School]) -> Iterable[UnmatchedSchool]:
    """Yields the schools of which nobody is matched, by URN."""
    reasons: defaultdict[str, set[str | None]] = defaultdict(set)
    for row in rows:
        reasons[row.school_id].add(row.left_out)
    for school in schools:
        of_school = reasons[school.id]
        if None in of_school:
            continue
        reason: Unmatched = "nobody-matched"
        if not of_school or of_school == {"not-collected"}:
            reason = "not-collected"
        elif any((each or "").startswith("not-placed") for each in of_school):
            reason = "no-place"
        elif any((each or "").startswith("not-judged") for each in of_school):
            reason = "nothing-judged"
        yield UnmatchedSchool(school_id=school.id, school_urn=school.urn, school_name=school.name, reason=reason)
