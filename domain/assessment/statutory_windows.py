"""Windows made from a template of a statutory collection (window_templates.py), and the reasons that a window inherits."""

from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any
from uuid import UUID

from msgspec import UNSET

from domain.assessment.new_window import Collect, NewWindow
from domain.assessment.seasons import find_season, season_sql
from domain.assessment.templates import PREDICTED, YEARS_OF_PREDICTED, load_templates
from domain.assessment.window_templates import WINDOW_TEMPLATE, WindowTemplate, find_window_template
from domain.declare.errors import Conflict, Issue
from domain.declare.ids import new_id
from domain.declare.type_numbers import SUBJECT
from domain.declare.vocabulary import list_words
from domain.roster.years import format_academic_year, parse_academic_year, parse_year_group
from domain.store.database import Connection
from domain.write.checks import Checks
from domain.write.partial import is_partial, list_readable

REASONS = ("purpose", "audience", "decision")
"""Why a window collects what it does, by the names of its columns."""
MARGIN = timedelta(days=31)
"""How far beyond its season the census day of a window may lie: what was judged in autumn may be collected in January."""


def fill_from_template(window: NewWindow, checks: Checks) -> WindowTemplate | None:
    """Gives the window what its template says and the request leaves out; returns the template, None where it names none, or
    none that is held in its year. Adds the issues of both.
    """
    code = getattr(window, "template", UNSET)
    if code is UNSET or not isinstance(code, str):
        if getattr(window, "statutory", UNSET) is True:
            message = f"A statutory window is made from a template: send template. {list_words(WINDOW_TEMPLATE.words)}"
            checks.add(Issue("/statutory", "template-needed", message))
        return None
    template = find_window_template(code)
    if template is None:
        checks.add(Issue("/template", "template-unknown", f"There is no such template. {list_words(WINDOW_TEMPLATE.words)}"))
        return None
    if getattr(window, "statutory", UNSET) is False:
        checks.add(Issue("/statutory", "outside-template", "A window with a template is statutory. Leave out statutory."))
    start = _read_year(window)
    lines = [] if start is None else template.list_lines(start)
    if start is not None and not template.is_held_in(start):
        message = (
            f"{template.code} was not held in {format_academic_year(start)}. GET /v1/codes?list=windowTemplate says when it is."
        )
        checks.add(Issue("/template", "template-not-held", message))
        start = None
    known = {
        "name": template.name,
        "season": template.season,
        "purpose": template.purpose,
        "audience": template.audience,
        "decision": template.decision,
        "year_groups": [*template.year_groups],
        "census_on": UNSET if start is None else template.find_day(start) or UNSET,
        "collects": [Collect(subject=line.subject, aspect=line.aspect, scheme=line.scheme) for line in lines if line.subject]
        or UNSET,
    }
    for name, value in known.items():
        if getattr(window, name, None) is UNSET:
            setattr(window, name, value)
    return template


def check_against_template(window: NewWindow, template: WindowTemplate, start: int) -> list[Issue]:
    """Returns an issue for all that the window says beyond its template."""
    issues = []
    for i, text in list_readable(getattr(window, "year_groups", None) or []):
        if _read_year_group(text) not in (None, *template.year_groups):
            message = f"{template.code} is of year group {' and '.join(template.year_groups)}. Plan another window for others."
            issues.append(Issue(f"/yearGroups/{i}", "outside-template", message))
    lines = template.list_lines(start)
    for i, line in list_readable(getattr(window, "collects", None) or []):
        if is_partial(line):
            continue
        if not any(known.subject in (None, line.subject) and known[1:] == (line.aspect, line.scheme) for known in lines):
            schemes = ", ".join(dict.fromkeys(f"{known.subject or 'any subject'} in {known.scheme}" for known in lines))
            message = f"{template.code} does not collect this. It collects {schemes}. Plan another window for the rest."
            issues.append(Issue(f"/collects/{i}", "outside-template", message))
    if getattr(window, "season", template.season) != template.season:
        issues.append(Issue("/season", "outside-template", f"{template.code} is held in {template.season}."))
    return issues


def check_predicted(lines: Sequence[tuple[int, Any]], year_groups: list[str]) -> list[Issue]:
    """Returns an issue for each line, with its index, of predicted grades that pupils of other years would get."""
    if set(year_groups) <= set(YEARS_OF_PREDICTED):
        return []
    message = f"A predicted grade is of Years {YEARS_OF_PREDICTED[0]} to {YEARS_OF_PREDICTED[-1]}. Plan another window for them."
    return [
        Issue(f"/collects/{i}/aspect", "predicted-years", message)
        for i, line in lines
        if getattr(line, "aspect", None) == PREDICTED
    ]


def check_reasons(values: Any, names: tuple[str, ...] = REASONS) -> list[Issue]:
    """Returns an issue for each reason of a window that is less than two words: one word is no purpose. `values` are those by name."""
    issues = []
    for name in names:
        text = values.get(name)
        if isinstance(text, str) and len(text.split()) < 2:
            issues.append(Issue(f"/{name}", "too-few-words", f"{name} needs at least two words, so that others understand it."))
    return issues


def check_season(season: Any, census_on: Any) -> list[Issue]:
    """Returns an issue where the census day lies more than a month beyond the season."""
    if not date.min + MARGIN < census_on < date.max - MARGIN:
        return []  # of no academic year, which is another issue
    near = {find_season(census_on + shift) for shift in (-MARGIN, timedelta(), MARGIN)}
    if season in near:
        return []
    message = f"censusOn lies in {find_season(census_on)}, more than a month from {season}."
    return [Issue("/season", "outside-season", message)]


_FORMER = f"""
SELECT purpose, audience, decision FROM windows w
WHERE tenant_id = $1 AND template IS NOT DISTINCT FROM $2 AND {season_sql("w")} = $3 ORDER BY census_on DESC, no DESC LIMIT 1
"""


async def inherit_reasons(
    connection: Connection, tenant_id: UUID, window: NewWindow, template: WindowTemplate | None, season: str
) -> None:
    """Gives the window the reasons that the request leaves out, as the newest window of its kind has them: of its template, or
    without one of its season."""
    missing = [name for name in REASONS if getattr(window, name, None) is UNSET]
    if missing:
        former = await connection.fetchrow(_FORMER, tenant_id, None if template is None else template.code, season)
        for name in missing:
            if former is not None and former[name] is not None:
                setattr(window, name, former[name])


_SUBJECTS = """
INSERT INTO subjects (tenant_id, id, no, code, name, derived, national_code)
SELECT $1, g.id, COALESCE((SELECT max(no) FROM subjects WHERE tenant_id = $1), 0) + g.n, g.code, g.name, false, g.national_code
FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY AS g (id, code, name, national_code, n)
"""


async def switch_on_subjects(connection: Connection, tenant_id: UUID, template: WindowTemplate, start: int) -> None:
    """Inserts the common subjects that the template collects and the tenant lacks. All schools of the tenant are locked."""
    await connection.execute("SELECT 1 FROM tenants WHERE id = $1 FOR UPDATE", tenant_id)
    present = {row["code"].lower() for row in await connection.fetch("SELECT code FROM subjects WHERE tenant_id = $1", tenant_id)}
    codes = dict.fromkeys(line.subject for line in template.list_lines(start) if line.subject)
    missing = [s for code in codes if code.lower() not in present and (s := load_templates().find_subject(code)) is not None]
    if missing:
        columns = (
            [new_id(SUBJECT) for _ in missing],
            *([getattr(s, name) for s in missing] for name in ("code", "name", "national_code")),
        )
        await connection.execute(_SUBJECTS, tenant_id, *columns)


_USED = """
SELECT w.code, s.code AS subject FROM windows w JOIN collects c ON c.tenant_id = $1 AND c.window_no = w.no
JOIN subjects s ON s.tenant_id = $1 AND s.no = c.subject_no
JOIN unnest($4::smallint[], $5::smallint[], $6::uuid[]) AS l (subject_no, aspect_no, school_id)
    ON l.subject_no = c.subject_no AND l.aspect_no = c.aspect_no AND (l.school_id = c.school_id OR $1 IN (l.school_id, c.school_id))
WHERE w.tenant_id = $1 AND w.template = $2 AND w.academic_year = $3 ORDER BY w.no, s.no LIMIT 1
"""


async def require_unused(connection: Connection, tenant_id: UUID, template: WindowTemplate, start: int, lines: list[Any]) -> None:
    """Raises Conflict where another window of this template and year collects the same of a school: a statutory assessment is held once."""
    columns = [[line[i] for line in lines] for i in range(3)]
    used = await connection.fetchrow(_USED, tenant_id, template.code, start, *columns)
    if used is not None:
        message = f"The window {used['code']} collects {used['subject']} of {template.code} of this year already. Correct it there."
        raise Conflict(message, code="template-used", issues=(Issue("/template", "template-used", message),))


def _read_year(window: NewWindow) -> int | None:
    try:
        return parse_academic_year(window.academic_year)
    except (ValueError, AttributeError):
        return None


def _read_year_group(text: Any) -> str | None:
    try:
        return parse_year_group(text)
    except (ValueError, AttributeError):
        return None
