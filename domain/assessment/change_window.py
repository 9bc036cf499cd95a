"""Changes the terms of a window, or deletes a window in which nothing was ever judged."""

from contextlib import suppress
from datetime import date
from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.assessment.new_window import Season
from domain.assessment.open_close_window import lock_window_row
from domain.assessment.pin_schemes import pin_schemes
from domain.assessment.seasons import find_season
from domain.assessment.statutory_windows import REASONS, check_reasons, check_season
from domain.assessment.stopped_collections import hold_stopped_windows, refuse_stopped
from domain.assessment.templates import PREDICTED, YEARS_OF_PREDICTED
from domain.assessment.window_templates import find_window_template
from domain.assessment.window_terms import WindowTerms, check_window_terms
from domain.assessment.workload_budget import Workload, check_workload_budget
from domain.declare.errors import Conflict, Invalid, Issue, NotFound, Stale
from domain.declare.inputs import Instant, LongText, Text, describe
from domain.declare.scopes import Scope
from domain.roster import years
from domain.roster.years import YearGroupText
from domain.store.database import Connection
from domain.write.aggregates import rebuild
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.partial import Unreadable, require_readable
from domain.write.patch import Changed, Patch, PatchInput, Removal


class WindowChange(PatchInput, kw_only=True):
    """The fields that may change until a window is locked; opensAt, censusOn, season and yearGroups only while it is planned.

    A censusOn that is moved out of its season moves the window to another one, unless season says which.
    closesAt of a closed window changes by reopening it.
    """

    name: Text | UnsetType = UNSET
    opens_at: Instant | UnsetType = UNSET
    closes_at: Instant | UnsetType = UNSET
    accept_until: Instant | UnsetType | None = UNSET
    purpose: LongText | UnsetType = UNSET
    decision: LongText | UnsetType = UNSET
    audience: Annotated[LongText | UnsetType, describe("Who reads the values, in at least two words.")] = UNSET
    census_on: date | UnsetType = UNSET
    season: Annotated[Season | UnsetType, describe("The season that it is of, which is at most a month from censusOn.")] = UNSET
    year_groups: Annotated[list[YearGroupText], Meta(min_length=1, max_length=20)] | UnsetType = UNSET


_UPDATE = """
UPDATE windows SET name = $3, opens_at = $4, closes_at = $5, accept_until = $6, purpose = $7, decision = $8, audience = $9, census_on = $10,
    season = $11, year_groups = $12, version = version + 1
WHERE tenant_id = $1 AND id = $2 RETURNING version
"""


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(Invalid, NotFound, Conflict, Stale))
async def update_window(connection: Connection, caller: Caller, patch: Patch[WindowChange]) -> Changed:
    """Change a window's terms. While it is planned, schemes are pinned and pupils counted again."""
    stored, locks = await lock_window_row(connection, caller, patch.id)
    stored = {**stored, "season": stored["season"] or find_season(stored["census_on"])}
    checks, terms = Checks(), patch.merge_over(stored)
    with checks.attempt():
        patch.check_version(stored["version"])
    checked = ("census_on", "opens_at", "closes_at", "accept_until", "year_groups")
    academic_year = years.format_academic_year(stored["academic_year"])
    year, terms["year_groups"], issues = check_window_terms(WindowTerms(academic_year, **{name: terms[name] for name in checked}))
    checks.add(*issues)
    with suppress(Unreadable):
        if (
            patch.fields.season is UNSET
            and terms["census_on"] != stored["census_on"]
            and check_season(terms["season"], terms["census_on"])
        ):
            terms["season"] = find_season(terms["census_on"])
        checks.add(*check_season(terms["season"], terms["census_on"]), *_check_template(stored, terms))
    changed = {name for name, value in terms.items() if stored[name] != value}
    checks.add(*check_reasons(terms, tuple(name for name in REASONS if name in changed)))
    with checks.attempt():
        _check_changeable(stored["state"], changed)
    lines: list[tuple[Any, ...]] = []
    if not stored["statutory"] and changed.intersection(_BUDGETED):
        lines = [tuple(row) for row in await connection.fetch(_LINES, stored["tenant_id"], stored["no"])]
    with checks.attempt():
        pointer = next((_BUDGETED[name] for name in _BUDGETED if name in changed), None)
        if pointer and year is not None and not stored["statutory"] and stored["frequency_reasons"] is None:
            workload = Workload(stored["tenant_id"], year, terms["season"], terms["year_groups"], lines, stored["no"])
            await check_workload_budget(connection, workload, pointer)
    with checks.attempt():
        if "season" in changed and not stored["statutory"]:
            await refuse_stopped(connection, stored["tenant_id"], terms["season"], lines, "/season")
    is_of_others = "year_groups" in changed and not set(terms["year_groups"]) <= set(YEARS_OF_PREDICTED)
    if is_of_others and await connection.fetchval(_PREDICTED, stored["tenant_id"], stored["no"], PREDICTED):
        message = "The window collects predicted grades, which are of Years 10 to 13."
        checks.add(Issue("/yearGroups", "predicted-years", message))
    checks.refuse_if_any()
    require_readable(patch.fields)
    if not changed:
        return patch.make_result("unchanged", stored["version"])
    version = await connection.fetchval(_UPDATE, stored["tenant_id"], patch.id, *terms.values())
    if stored["state"] == "planned":
        await pin_schemes(locks, stored["no"], replaces=True)
        await rebuild(locks, [stored["no"]])
        await hold_stopped_windows(connection, stored["tenant_id"], stored["now"])
    return patch.make_result("updated", version)


_PREDICTED = """
SELECT 1 FROM collects c JOIN aspects a ON a.tenant_id = $1 AND a.no = c.aspect_no AND a.code = $3 WHERE c.tenant_id = $1 AND c.window_no = $2 LIMIT 1
"""
_LINES = "SELECT subject_no, aspect_no, school_id FROM collects WHERE tenant_id = $1 AND window_no = $2"
_CHANGE_WHILE_PLANNED = {"opens_at", "census_on", "season", "year_groups"}
_BUDGETED = {"year_groups": "/yearGroups", "census_on": "/censusOn", "season": "/season"}
"""What the workload budget goes by, with the pointer of an issue."""


def _check_template(stored: Any, terms: dict[str, Any]) -> list[Issue]:
    """Returns an issue where the changed terms are not those of the template that the window is made from."""
    template = None if stored["template"] is None else find_window_template(stored["template"])
    if template is None:
        return []
    issues = [
        Issue(f"/yearGroups/{i}", "outside-template", f"{template.code} is of year group {' and '.join(template.year_groups)}.")
        for i, year_group in enumerate(terms["year_groups"])
        if year_group not in template.year_groups
    ]
    if terms["season"] != template.season:
        issues.append(Issue("/season", "outside-template", f"{template.code} is held in {template.season}."))
    return issues


def _check_changeable(state: str, changed: set[str]) -> None:
    """Raises Conflict with an issue for each changed field that may not change in this state."""
    when = dict.fromkeys(changed & _CHANGE_WHILE_PLANNED, "only while the window is planned") if state != "planned" else {}
    if state == "closed" and "closes_at" in changed:
        when["closes_at"] = "by reopening the window"
    if state == "locked":
        when = dict.fromkeys(changed, "no longer")
    if when:
        public_names = zip(WindowChange.__struct_fields__, WindowChange.__struct_encode_fields__, strict=True)
        issues = [
            Issue(f"/{name}", "window-state", f"{name} changes {when[field]}.") for field, name in public_names if field in when
        ]
        raise Conflict(f"The window is {state}.", code="window-state", issues=tuple(issues))


_PUBLICATION = "SELECT 1 FROM publications WHERE tenant_id = $1 AND window_no = $2 LIMIT 1"


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(NotFound, Conflict, Stale))
async def delete_window(connection: Connection, caller: Caller, patch: Patch[Removal]) -> Changed:
    """Delete a window in which nothing was ever judged, and what it collects. One that is locked stays until it is unlocked."""
    stored, _ = await lock_window_row(connection, caller, patch.id)
    version: int = stored["version"]
    patch.check_version(version)
    if stored["state"] == "locked":
        message = "The window is locked: unlock it first, with the reason."
        raise Conflict(message, code="window-state", issues=(Issue("", "window-state", message),))
    if await connection.fetchval(_PUBLICATION, stored["tenant_id"], stored["no"]):
        message = "The window has a publication, queued, made or withdrawn, of which the history stays."
        raise Conflict(message, code="window-in-use", issues=(Issue("", "window-in-use", message),))
    if not await connection.fetchval("SELECT delete_window($1, $2)", stored["tenant_id"], stored["no"]):
        message = (
            f"The window is {stored['state']} and holds judgements, or has held some; what was judged is not deleted with a window."
        )
        raise Conflict(message, code="window-in-use", issues=(Issue("", "window-in-use", message),))
    return patch.make_result("deleted", version)
