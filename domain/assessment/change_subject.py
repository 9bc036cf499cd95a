"""Creates, changes and retires the subjects and the aspects of a trust or school."""

from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.assessment.conjunctions import DeclaredParts, LeastWeight, check_parts, insert_parts
from domain.assessment.open_close_window import lock_all_schools
from domain.assessment.refused_names import refuse_predicted_progress
from domain.assessment.subjects import NATIONAL_CODE, NATIONAL_CODE_FORM
from domain.assessment.templates import load_templates
from domain.assessment.tenant_setup import prepare_tenant
from domain.declare.errors import Conflict, Invalid, Issue, NotFound, Stale
from domain.declare.ids import new_id
from domain.declare.inputs import DryRun, Input, Output, Text, describe
from domain.declare.scopes import Scope
from domain.declare.type_numbers import ASPECT, SUBJECT
from domain.roster.tenant_ref import TenantRef, find_named_tenant
from domain.store.database import Connection
from domain.write.action import Action
from domain.write.aggregates import rebuild
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.partial import require_readable
from domain.write.patch import Changed, Patch, PatchInput

Code = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9-]{0,49}$")]
NationalCode = Annotated[str, Meta(pattern=r"^[A-Za-z0-9]{1,10}$")]
IN_USE = "Its code cannot change, since judgements are sent with it."


def _clean_national_code(code: Any) -> Any:
    """Returns a code as it is stored and filtered by; null, and what was left out, as they are."""
    return NATIONAL_CODE_FORM.parse(code) if isinstance(code, str) else code


class NewSubject(Input, kw_only=True):
    """A subject. One of the common ones needs its code alone, in any case: GET /v1/codes?list=subject lists them."""

    tenant: TenantRef
    code: Annotated[Code, describe("Short code, unique in the trust. " + IN_USE)]
    name: Annotated[Text | UnsetType, describe("Name; a common subject has one.")] = UNSET
    national_code: Annotated[NationalCode | UnsetType | None, describe(NATIONAL_CODE)] = UNSET
    combines: DeclaredParts | UnsetType = UNSET
    least_weight: LeastWeight | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.national_code = _clean_national_code(self.national_code)


class NewAspect(Input, kw_only=True):
    """A part of every subject that is judged by itself."""

    tenant: TenantRef
    code: Annotated[Code, describe("Short code, unique in the trust. " + IN_USE)]
    name: Annotated[Text, describe("Name.")]
    national_code: Annotated[NationalCode | None, describe(NATIONAL_CODE)] = None

    def __post_init__(self) -> None:
        self.national_code = _clean_national_code(self.national_code)


class CodedThing(Output, kw_only=True):
    """A subject or an aspect."""

    id: str
    code: str
    version: int
    dry_run: DryRun = UNSET


class SubjectChange(PatchInput, kw_only=True):
    """Fields of a subject or an aspect that may change. retired false brings it back."""

    name: Text | UnsetType = UNSET
    national_code: NationalCode | UnsetType | None = UNSET
    retired: bool | UnsetType = UNSET

    def __post_init__(self) -> None:
        self.national_code = _clean_national_code(self.national_code)


class Retirement(Input, kw_only=True):
    """Nothing else is needed."""


_INSERT_SUBJECT = """
INSERT INTO subjects (tenant_id, id, no, code, name, derived, national_code, combines, least_weight)
SELECT $1, $2, COALESCE(max(no), 0) + 1, $3, $4, $6::text[] IS NOT NULL, $5, $6::text[], $7::smallint FROM subjects WHERE tenant_id = $1
"""
_INSERT_ASPECT = """
INSERT INTO aspects (tenant_id, id, no, code, name, counted, national_code)
SELECT $1, $2, COALESCE(max(no), -1) + 1, $3, $4, false, $5 FROM aspects WHERE tenant_id = $1
"""


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(Invalid, Conflict))
async def create_subject(connection: Connection, caller: Caller, subject: NewSubject) -> CodedThing:
    """Create a subject or a conjunction of subjects of a trust or school, or switch on one of the common subjects by its code."""
    checks, template = Checks(), None
    tenant_id = await find_named_tenant(connection, caller, Scope.WINDOWS_WRITE, subject, checks)
    await _lock_codes(connection, tenant_id)
    refuse_predicted_progress(subject, checks)
    with checks.attempt():
        template = load_templates().find_subject(subject.code)
        await _require_free(connection, "subjects", "subject", tenant_id, subject.code if template is None else template.code)
    with checks.attempt():
        if subject.name is UNSET and template is None and subject.code:
            checks.add(Issue("/name", "required", "name is required: this is none of the common subjects."))
    parts: list[tuple[Any, ...]] = []
    with checks.attempt():
        if subject.combines is not UNSET:
            if template is not None:
                checks.add(Issue("/combines", "wrong-value", "This is one of the common subjects: give another code."))
            parts = await check_parts(connection, tenant_id, subject.combines, getattr(subject, "least_weight", UNSET), checks)
    with checks.attempt():
        if subject.least_weight is not UNSET and subject.combines is UNSET:
            checks.add(Issue("/leastWeight", "wrong-value", "This is of a conjunction: give combines."))
    checks.refuse_if_any()
    require_readable(subject)
    name = template.name if subject.name is UNSET and template is not None else subject.name
    common = None if template is None else template.national_code
    national_code = common if subject.national_code is UNSET else subject.national_code
    combines = None if template is None else template.combines or None
    code = subject.code if template is None else template.code
    subject_id = new_id(SUBJECT)
    if subject.combines is not UNSET:
        combines = [part_code for part in subject.combines for part_code in part.subjects]
    least_weight = None if subject.least_weight is UNSET else subject.least_weight
    await connection.execute(_INSERT_SUBJECT, tenant_id, subject_id, code, name, national_code, combines, least_weight)
    if parts:
        await insert_parts(connection, tenant_id, subject_id, parts)
    if combines is not None:
        await _count_again(connection, tenant_id)
    return CodedThing(id=str(subject_id), code=code, version=1)


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(Invalid, Conflict))
async def create_aspect(connection: Connection, caller: Caller, aspect: NewAspect) -> CodedThing:
    """Create an aspect of a trust or school. Its judgements enter no aggregates."""
    checks = Checks()
    tenant_id = await find_named_tenant(connection, caller, Scope.WINDOWS_WRITE, aspect, checks)
    await _lock_codes(connection, tenant_id)
    refuse_predicted_progress(aspect, checks)
    with checks.attempt():
        await _require_free(connection, "aspects", "aspect", tenant_id, aspect.code)
    checks.refuse_if_any()
    require_readable(aspect)
    aspect_id = new_id(ASPECT)
    await connection.execute(_INSERT_ASPECT, tenant_id, aspect_id, aspect.code, aspect.name, aspect.national_code)
    return CodedThing(id=str(aspect_id), code=aspect.code, version=1)


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(Invalid, NotFound, Conflict, Stale))
async def update_subject(connection: Connection, caller: Caller, patch: Patch[SubjectChange]) -> Changed:
    """Change a subject's name or national code, retire it or bring it back. Derived subjects are protected."""
    return await _change(connection, caller, "subjects", patch)


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(Invalid, NotFound, Conflict, Stale))
async def update_aspect(connection: Connection, caller: Caller, patch: Patch[SubjectChange]) -> Changed:
    """Change an aspect's name or national code, retire it or bring it back. The main aspect is protected."""
    return await _change(connection, caller, "aspects", patch)


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(NotFound, Conflict))
async def retire_subject(connection: Connection, caller: Caller, action: Action[Retirement]) -> Changed:
    """Retire a subject: no new window may collect it. What was judged in it stays, and windows go on as they are."""
    return await _change(connection, caller, "subjects", Patch(action.id, None, SubjectChange(retired=True)))


@command(scope=Scope.WINDOWS_WRITE, at_school=False, fails=(NotFound, Conflict))
async def retire_aspect(connection: Connection, caller: Caller, action: Action[Retirement]) -> Changed:
    """Retire an aspect: no new window may collect it. What was judged in it stays, and windows go on as they are."""
    return await _change(connection, caller, "aspects", Patch(action.id, None, SubjectChange(retired=True)))


async def _count_again(connection: Connection, tenant_id: UUID) -> None:
    """Counts every window again, since a derived subject has cells of its own."""
    locks = await lock_all_schools(connection, tenant_id)
    await rebuild(locks, [row["no"] for row in await connection.fetch("SELECT no FROM windows WHERE tenant_id = $1", tenant_id)])


async def _lock_codes(connection: Connection, tenant_id: UUID) -> None:
    """Prepares the tenant, and lets one request at a time number its subjects and aspects."""
    await prepare_tenant(connection, tenant_id)
    await connection.execute("SELECT 1 FROM tenants WHERE id = $1 FOR UPDATE", tenant_id)


async def _require_free(connection: Connection, table: str, noun: str, tenant_id: UUID, code: str) -> None:
    """Raises Conflict if the tenant has this code, in any case of its letters."""
    if await connection.fetchval(f"SELECT 1 FROM {table} WHERE tenant_id = $1 AND lower(code) = lower($2)", tenant_id, code):
        message = f"{'A' if noun == 'subject' else 'An'} {noun} with this code exists."
        raise Conflict(message, code=f"{noun}-exists", issues=(Issue("/code", f"{noun}-exists", message),))


async def _change(connection: Connection, caller: Caller, table: str, patch: Patch[SubjectChange]) -> Changed:
    """Changes a row of a table of codes within reach."""
    declared = "EXISTS (SELECT 1 FROM conjunction_parts p WHERE p.tenant_id = x.tenant_id AND p.subject_no = x.no)"
    is_protected = f"x.derived AND NOT {declared}" if table == "subjects" else "x.no = 0"
    stored: Any = await connection.fetchrow(
        f"SELECT x.tenant_id, x.name, x.national_code, x.retired, x.version, {is_protected} AS is_protected FROM {table} x"
        f" WHERE x.id = $2 AND {reaches_sql('$1', 'x.tenant_id', 'x.tenant_id', '$3')} FOR UPDATE",
        *(caller.client_id, patch.id, Scope.WINDOWS_WRITE.value),
    )
    if stored is None:
        raise NotFound()
    checks, merged = Checks(), patch.merge_over(stored)
    is_changed = any(stored[name] != value for name, value in merged.items())
    with checks.attempt():
        patch.check_version(stored["version"])
    with checks.attempt():
        if is_changed and stored["is_protected"]:
            message = "This is derived from others, or is the main aspect; it cannot be changed."
            raise Conflict(message, code="code-protected", issues=(Issue("", "code-protected", message),))
    checks.refuse_if_any()
    require_readable(patch.fields)
    if not is_changed:
        return patch.make_result("unchanged", stored["version"])
    await connection.execute(
        f"UPDATE {table} SET name = $3, national_code = $4, retired = $5, version = version + 1 WHERE tenant_id = $1 AND id = $2",
        *(stored["tenant_id"], patch.id, merged["name"], merged["national_code"], merged["retired"]),
    )
    return patch.make_result("updated", stored["version"] + 1)
