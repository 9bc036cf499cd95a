"""The schools that a query of aggregates names or covers, and why some of them contribute to no percentage."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from domain.aggregates.aggregate_rows import ExcludedSchool, Exclusion
from domain.aggregates.groups import PupilGroup
from domain.aggregates.query import AggregateQuery
from domain.aggregates.results import AggregateResult, FoundWindow
from domain.assessment.codes import list_codes
from domain.assessment.templates import PARTS_OF, describe_conjunction
from domain.declare.errors import Issue, make_invalid
from domain.support.suggestions import Suggestions

_NO_PLACE: Exclusion = "no-place"


def resolve_schools(query: AggregateQuery, result: AggregateResult) -> set[str]:
    """Returns the ids of the schools that the query names.

    Raises Invalid, naming every parameter whose value is not within reach. One that does not exist is reported the
    same.
    """
    ids = {name: school.id for school in result.schools for name in (school.laestab, str(school.urn), school.id)}
    windows = {name for window in result.windows for name in (window.code, window.id)}
    at = "window" if query.window is not None else "windows"
    missing = [(at, "window") for name in query.window_names if name not in windows]
    missing += [("changeFrom", "window")] if query.change_from is not None and query.change_from not in windows else []
    in_reach = {"subject": query.subject is None or result.subject, "trust": result.trust}
    missing += [(name, name) for name, is_in_reach in in_reach.items() if not is_in_reach]
    missing += [("school", "school") for school in query.school if school not in ids]
    if missing:
        message = "There is no such {} within the reach of this client's aggregates."
        conjunction = _find_conjunction(query.subject or "")
        subject_codes = sorted({code for *_, code in result.subject_codes})
        meant = Suggestions().suggest(query.subject or "", subject_codes)
        reasons = {
            "window": list_codes(result.window_codes),
            "subject": f" {conjunction}" if conjunction else meant + list_codes(subject_codes),
        }
        raise make_invalid([Issue(at, f"{noun}-not-found", message.format(noun) + reasons.get(noun, "")) for at, noun in missing])
    if not result.opened:
        raise make_invalid([Issue("asOf", "window-not-open", "No such window had opened by this day: nothing stood yet.")])
    if issues := list(_find_window_issues(query, result)):
        raise make_invalid(issues)
    return {ids[school] for school in query.school}


def list_earlier(query: AggregateQuery, result: AggregateResult) -> list[FoundWindow]:
    """Returns the windows from which the change is, which several trusts may have by one code."""
    return [window for window in result.windows if query.change_from in (window.code, window.id)]


def _find_window_issues(query: AggregateQuery, result: AggregateResult) -> Iterator[Issue]:
    """Yields why windows cannot be pooled or compared: other seasons have other results, and a pupil of one year would count twice."""
    rows = [window for window in result.windows if {window.code, window.id} & {*query.window_names}]
    if query.pools_windows:
        if len({window.season for window in rows}) > 1:
            yield Issue("windows", "windows-of-other-seasons", "These windows are of several seasons: pool those of one.")
        codes_by_year: defaultdict[str, set[str]] = defaultdict(set)
        for window in rows:
            codes_by_year[window.academic_year].add(window.code)
        for year in sorted(year for year, codes in codes_by_year.items() if len(codes) > 1):
            message = f"Several of these windows are of {year}, and would count its pupils several times."
            yield Issue("windows", "windows-of-one-year", message)
    if query.change_from is not None:
        earlier = list_earlier(query, result)
        if {window.season for window in earlier} != {window.season for window in rows}:
            yield Issue(
                "changeFrom",
                "windows-of-other-seasons",
                "The two windows are of different seasons, in which results are not alike.",
            )
        if max(window.academic_year for window in earlier) >= min(window.academic_year for window in rows):
            yield Issue("changeFrom", "windows-reversed", "changeFrom is of an earlier academic year than window.")
        if not any(window.has_opened for window in earlier):
            yield Issue("changeFrom", "window-not-open", "This window has not opened: it has no results.")


def _find_conjunction(subject: str) -> str | None:
    """Returns how the conjunction is asked for that a text may mean, by its code in another case or by the subjects of which it is one."""
    named = {part.strip().casefold() for part in re.split("[,+&]", subject)}
    return next((describe_conjunction(code) for code, parts in PARTS_OF.items() if named in ({code}, {*parts})), None)


def list_excluded(query: AggregateQuery, result: AggregateResult, groups: list[PupilGroup]) -> Iterable[ExcludedSchool]:
    """Yields the excluded schools by URN. `groups` are by school, subject and window."""
    statuses: defaultdict[str | None, set[str | None]] = defaultdict(set)
    placed = {group.key[1:4] for group in groups if group.counts.expected_of}
    scaled = {tenant for tenant, *_ in result.scales}
    needing = {school.id for school in result.schools if school.tenant in scaled}
    for group in groups:
        if query.subject in (None, group.key.subject):
            needs_place = group.key.school in needing or group.key[1:4] in placed
            has_no_place = group.status is None and needs_place and not group.counts.expected_of
            statuses[group.key.school].add(_NO_PLACE if has_no_place else group.status)
    collected = result.list_collected_subjects()
    subjects = set(PARTS_OF.get(query.subject, (query.subject,)) if query.subject else ())
    for school in sorted(result.schools, key=lambda school: school.urn):
        of_school = statuses[school.id]
        if of_school & {None, "c"}:
            continue
        reason: Exclusion = "not-collected"
        if school.joined_elsewhen:
            reason = "not-a-member"
        elif _NO_PLACE in of_school:
            reason = _NO_PLACE
        elif "x" in of_school:
            reason = "nothing-judged"
        elif of_school or any(subjects <= codes for codes in collected[school.id]):
            reason = "nobody-eligible"
        yield ExcludedSchool(school_id=school.id, school_urn=school.urn, school_name=school.name, reason=reason)
