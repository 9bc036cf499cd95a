"""Creates an assessment scheme, from its grades or from a template."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.assessment.tenant_setup import Grade, load_templates, prepare_tenant, write_scheme
from domain.declare.errors import Conflict, Invalid, Issue, make_invalid
from domain.declare.inputs import Input, Output
from domain.declare.inputs import Text as ShortText
from domain.declare.scopes import Scope
from domain.roster.tenant_ref import TenantRef, find_tenant
from domain.store.database import Connection
from domain.support.suggestions import Suggestions
from domain.write.command import command


class GradeInput(Input, kw_only=True):
    """A grade. rank orders it, higher is better; value enters averages; eligible keeps the pupil in the denominator."""

    code: Annotated[str, Meta(min_length=1, max_length=20)]
    label: ShortText
    rank: Annotated[int, Meta(ge=0, le=30_000)] | None = None
    value: Annotated[float, Meta(ge=-99_999, le=99_999)] | None = None
    points: Annotated[float, Meta(ge=-99_999, le=99_999)] | None = None
    year_group: ShortText | None = None
    band: ShortText | None = None
    eligible: bool = True
    valid: bool = True
    expected: bool = False
    higher: bool = False

    def __post_init__(self) -> None:
        if self.higher and not self.expected:
            raise ValueError("A grade that meets the higher standard meets the expected one")
        if (self.expected and not self.valid) or (self.valid and not self.eligible):
            raise ValueError("A grade that meets a standard is valid, and a valid grade is eligible")


class NewScheme(Input, kw_only=True):
    """A scheme by its grades, or as a copy of a template."""

    tenant: TenantRef
    code: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,49}$")]
    name: ShortText
    template: str | UnsetType = UNSET
    grades: Annotated[list[GradeInput], Meta(min_length=1, max_length=500)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        if (self.template is UNSET) == (self.grades is UNSET):
            raise ValueError("Give either template or grades")


class SchemeMade(Output, kw_only=True):
    """A scheme and its first version."""

    id: str
    code: str
    version: int
    grades: int


@command(scope=Scope.SCHEMES_WRITE, fails=(Invalid, Conflict))
async def create_scheme(connection: Connection, caller: Caller, scheme: NewScheme) -> SchemeMade:
    """Create a scheme for a trust or school, by its grades or from a template. Its first version never changes."""
    tenant_id = await find_tenant(connection, caller, Scope.SCHEMES_WRITE, scheme.tenant, "/tenant")
    await prepare_tenant(connection, tenant_id)
    if await connection.fetchval("SELECT 1 FROM schemes WHERE tenant_id = $1 AND code = $2", tenant_id, scheme.code):
        message = "A scheme with this code exists."
        raise Conflict(message, code="scheme-exists", issues=(Issue("/code", "scheme-exists", message),))
    if scheme.grades is not UNSET:
        codes = [grade.code for grade in scheme.grades]
        duplicates = [
            Issue(f"/grades/{i}/code", "duplicate-grade", "This code appears more than once.")
            for i, code in enumerate(codes)
            if code in codes[:i]
        ]
        if duplicates:
            raise make_invalid(duplicates)
        grades = [Grade(**{name: getattr(grade, name) for name in grade.__struct_fields__}) for grade in scheme.grades]
    else:
        template = load_templates().find_scheme(str(scheme.template))
        if template is None or template.derived:
            codes = [other.code for other in load_templates().schemes if not other.derived]
            message = (
                f"There is no such template.{Suggestions().suggest(str(scheme.template), codes)} Templates: {', '.join(codes)}."
            )
            raise make_invalid([Issue("/template", "template-unknown", message)])
        grades = template.list_grades()
    scheme_id = await write_scheme(connection, tenant_id, scheme.code, scheme.name, None, grades)
    return SchemeMade(id=str(scheme_id), code=scheme.code, version=1, grades=len(grades))
