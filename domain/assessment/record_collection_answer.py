"""Records what somebody says of the types of collected data at a level: what they are for, and whether they are kept."""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.assessment.collection_answers import MAX_SECONDS, VERDICTS, WINDOW_KIND
from domain.assessment.open_close_window import lock_all_schools
from domain.assessment.statutory_windows import check_reasons
from domain.assessment.stopped_collections import hold_stopped_windows
from domain.assessment.subjects import AspectCode, SubjectCode
from domain.assessment.templates import describe_unknown_code
from domain.assessment.tenant_setup import prepare_tenant
from domain.assessment.window_templates import WINDOW_TEMPLATE
from domain.declare.errors import Invalid, Issue
from domain.declare.ids import new_id
from domain.declare.inputs import DryRun, LongText, Output, RuledInput, Text, describe
from domain.declare.scopes import Scope
from domain.declare.type_numbers import COLLECTION_ANSWER
from domain.roster.school_refs import SchoolRef, find_school
from domain.roster.tenant_ref import TenantRef, find_named_tenant, list_tenants
from domain.store.database import Connection
from domain.support import clock
from domain.support.suggestions import Suggestions
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.partial import UNREADABLE, require_readable

Seconds = Annotated[int, Meta(ge=0, le=MAX_SECONDS)]
_TEXTS = ("purpose", "audience", "decision", "impact")
_VERDICT = ("verdict", "decided_by", "review_on")
SAID = (*_TEXTS, *_VERDICT, "typed_seconds", "imported_seconds", "carried_seconds")
"""What an answer may say, by the names of its columns."""
_INHERIT = "What is left out stays as it was said; null takes it back, so that it is inherited."


def _check_owner(answer: Any) -> str | None:
    return "Name exactly one of tenant and school" if (answer.tenant is UNSET) == (answer.school is UNSET) else None


def _check_aspect(answer: Any) -> str | None:
    return "An aspect is one of a subject: name the subject too" if answer.aspect is not UNSET and answer.subject is UNSET else None


class CollectionSaying(RuledInput, kw_only=True):
    """What is said of types of collected data, and of which: of all of a tenant or of one school, in a subject, an aspect and a kind of window.

    All types below inherit it, each field by itself, unless a more specific answer says something else. What is left out stays as it was said;
    null takes it back. A verdict has a person who has decided so, and a day on which to look again.
    """

    rules = (_check_owner, _check_aspect)

    tenant: Annotated[TenantRef | UnsetType, describe("The tenant as a whole.")] = UNSET
    school: Annotated[SchoolRef | UnsetType, describe("One school, in place of the tenant.")] = UNSET
    subject: Annotated[SubjectCode | UnsetType, describe("Code of a subject; without it, all.")] = UNSET
    aspect: Annotated[AspectCode | UnsetType, describe("Code of an aspect of the subject; without it, all.")] = UNSET
    window_kind: Annotated[
        Text | UnsetType, describe("A season, or the code of a statutory collection, in any case; without it, all windows.")
    ] = UNSET
    purpose: Annotated[LongText | UnsetType | None, describe("What the values are for, in at least two words.")] = UNSET
    audience: Annotated[LongText | UnsetType | None, describe("Who reads them, in at least two words.")] = UNSET
    decision: Annotated[LongText | UnsetType | None, describe("The decision they inform, in at least two words.")] = UNSET
    impact: Annotated[LongText | UnsetType | None, describe("What the collection does to children, in at least two words.")] = UNSET
    verdict: Annotated[
        Literal["keep", "change", "stop"] | UnsetType | None,
        describe("keep, change or stop. A stop refuses new windows that collect it, and holds those that are planned."),
    ] = UNSET
    decided_by: Annotated[Text | UnsetType | None, describe("The person who has decided so, by name. A verdict needs one.")] = UNSET
    review_on: Annotated[date | UnsetType | None, describe("The day on which to look again. A verdict needs one to come.")] = UNSET
    typed_seconds: Annotated[Seconds | UnsetType | None, describe("Seconds that a typed value takes.")] = UNSET
    imported_seconds: Annotated[Seconds | UnsetType | None, describe("Seconds that an imported value takes.")] = UNSET
    carried_seconds: Annotated[Seconds | UnsetType | None, describe("Seconds that a carried value takes.")] = UNSET


class CollectionAnswerNow(Output, kw_only=True):
    """What became of an answer: created, updated, unchanged or withdrawn, and the windows whose opening has come to need a reason, or needs none
    any more."""

    id: Annotated[
        str | None, describe("Its id; of one that is withdrawn, that of the last. Null where there was none to withdraw.")
    ]
    outcome: Annotated[Literal["created", "updated", "unchanged", "withdrawn"], describe("What became of it.")]
    version: int
    held_windows: Annotated[list[str], describe("Codes of planned windows that open only with a reason from now on.")]
    released_windows: Annotated[list[str], describe("Codes of planned windows that open at their time again.")]
    dry_run: DryRun = UNSET


_AT_LEVEL = """
WHERE tenant_id = $1 AND COALESCE(school_id, tenant_id) = COALESCE($2, $1) AND COALESCE(subject_no, -1) = COALESCE($3, -1)
    AND COALESCE(aspect_no, -1) = COALESCE($4, -1) AND COALESCE(window_kind, '') = COALESCE($5, '')
"""
_CURRENT = f"""
SELECT id, version, {", ".join(SAID)} FROM collection_answers
{_AT_LEVEL} AND replaced_at IS NULL FOR UPDATE
"""
_REPLACE = "UPDATE collection_answers SET replaced_at = clock_timestamp() WHERE tenant_id = $1 AND id = $2"
_INSERT = f"""
INSERT INTO collection_answers (tenant_id, id, client_id, version, school_id, subject_no, aspect_no, window_kind, {", ".join(SAID)})
VALUES ({", ".join(f"${n}" for n in range(1, 9 + len(SAID)))})
"""
_VERSIONS = f"""
SELECT COALESCE(max(version), 0) FROM collection_answers
{_AT_LEVEL}
"""
_CODES = {
    "subject": "SELECT code, no, derived FROM subjects WHERE tenant_id = $1 ORDER BY no",
    "aspect": "SELECT code, no, false AS derived FROM aspects WHERE tenant_id = $1 ORDER BY no",
}


@command(scope=Scope.COLLECTIONS_WRITE, at_school=False, fails=(Invalid,))
async def record_collection_answer(connection: Connection, caller: Caller, saying: CollectionSaying) -> CollectionAnswerNow:
    """Say of types of collected data what they are for, what they do to children and whether they are kept: of all, or of a school, a subject, an
    aspect, a kind of window, or several of these. The same answer twice changes nothing."""
    checks = Checks()
    tenant_id, school_id = await _find_owner(connection, caller, saying, checks)
    await prepare_tenant(connection, tenant_id)
    await lock_all_schools(connection, tenant_id)
    subject_no = await _find_number(connection, tenant_id, "subject", getattr(saying, "subject", UNSET), checks)
    aspect_no = await _find_number(connection, tenant_id, "aspect", getattr(saying, "aspect", UNSET), checks)
    kind = _read_kind(getattr(saying, "window_kind", UNSET), checks)
    level = (school_id, subject_no, aspect_no, kind)
    stored: Any = await connection.fetchrow(_CURRENT, tenant_id, *level)
    said = {name: None if stored is None else stored[name] for name in SAID}
    sent = {name: value for name in SAID if (value := getattr(saying, name, UNSET)) is not UNSET}
    _check_said(sent, said | sent, kind, checks)
    checks.refuse_if_any()
    require_readable(saying)
    now = said | sent
    if now == said:
        return _describe(None if stored is None else stored["id"], "unchanged", 0 if stored is None else stored["version"])
    version = await connection.fetchval(_VERSIONS, tenant_id, *level) + 1
    if stored is not None:
        await connection.execute(_REPLACE, tenant_id, stored["id"])
    answer_id, outcome = new_id(COLLECTION_ANSWER), "created" if stored is None else "updated"
    if any(value is not None for value in now.values()):
        await connection.execute(_INSERT, tenant_id, answer_id, caller.client_id, version, *level, *now.values())
    else:
        answer_id, outcome, version = stored["id"], "withdrawn", stored["version"]
    waiting, released = await hold_stopped_windows(connection, tenant_id, clock.read_now())
    return _describe(answer_id, outcome, version, waiting, released)


def _describe(
    answer_id: Any, outcome: Any, version: int, waiting: list[str] | None = None, released: list[str] | None = None
) -> CollectionAnswerNow:
    return CollectionAnswerNow(
        id=None if answer_id is None else str(answer_id),
        outcome=outcome,
        version=version,
        held_windows=waiting or [],
        released_windows=released or [],
    )


async def _find_owner(connection: Connection, caller: Caller, saying: Any, checks: Checks) -> tuple[UUID, UUID | None]:
    """Returns the tenant, and the school where one is named."""
    if getattr(saying, "school", UNSET) is not UNSET:
        with checks.attempt():
            school = await find_school(connection, caller, Scope.COLLECTIONS_WRITE, saying.school, "/school")
            return school.tenant_id, school.id
    elif getattr(saying, "tenant", UNREADABLE) is not UNSET:
        return await find_named_tenant(connection, caller, Scope.COLLECTIONS_WRITE, saying, checks), None
    tenant_ids = await list_tenants(connection, caller, Scope.COLLECTIONS_WRITE)
    if len(tenant_ids) != 1:
        checks.refuse()
    return tenant_ids[0], None


async def _find_number(connection: Connection, tenant_id: UUID, noun: str, code: Any, checks: Checks) -> int | None:
    if not isinstance(code, str):
        return None
    rows = {row["code"]: row for row in await connection.fetch(_CODES[noun], tenant_id)}
    if code in rows and not rows[code]["derived"]:
        return int(rows[code]["no"])
    usable = [other for other, row in rows.items() if not row["derived"]]
    unknown, message = describe_unknown_code(noun, code, usable, Suggestions())
    checks.add(Issue(f"/{noun}", unknown, message))
    return None


def _read_kind(kind: Any, checks: Checks) -> str | None:
    if not isinstance(kind, str):
        return None
    try:
        return str(WINDOW_KIND.parse(kind))
    except ValueError as problem:
        checks.add(Issue("/windowKind", "wrong-value", str(problem)))
        return None


def _check_said(sent: dict[str, Any], now: dict[str, Any], kind: str | None, checks: Checks) -> None:
    checks.add(*check_reasons(sent, _TEXTS), *check_reasons({"decidedBy": sent.get("decided_by")}, ("decidedBy",)))
    names = {"verdict": "verdict", "decided_by": "decidedBy", "review_on": "reviewOn"}
    missing = [name for name in _VERDICT if now[name] is None]
    if missing and len(missing) < len(_VERDICT):
        message = "A verdict has all three: verdict, decidedBy and reviewOn; taken back, all are null."
        checks.add(*(Issue(f"/{names[name]}", "required", message) for name in missing))
    if isinstance(review_on := sent.get("review_on"), date) and review_on <= clock.read_today():
        checks.add(Issue("/reviewOn", "wrong-value", "The day on which to look again is one to come."))
    if now["verdict"] == VERDICTS[-1] and kind in WINDOW_TEMPLATE.words:
        checks.add(Issue("/verdict", "stop-of-statutory", "This collection is required by law: it may be kept or changed."))
