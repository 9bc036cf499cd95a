"""Declares by which method a difference of a scheme's grades is progress, and withdraws it.

Without a declaration no difference of points is shown: what a point means only its school can say, and a number that nobody has given a meaning
invents progress. Scores that are standardised (mean 100, standard deviation 15) are told from others by the same declaration.
"""

from typing import Annotated, Any, Literal

from msgspec import UNSET

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Conflict, Invalid, Issue, NotFound
from domain.declare.inputs import DryRun, Input, LongText, Output, Text, describe
from domain.declare.scopes import Scope
from domain.store.database import Connection
from domain.write.action import Action
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.partial import require_readable


class ProgressDeclaration(Input, kw_only=True):
    """By which method a difference of a scheme's grades is progress."""

    method: Annotated[
        Literal["points", "standardised"],
        describe(
            "points: the difference of the points of two grades; standardised: of two age-standardised scores, by the values of the grades."
        ),
    ]
    statement: Annotated[LongText, describe("What a difference means at this school, and where that is from.")]
    name: Annotated[Text, describe("Name of the person who declares it.")]


class ProgressWithdrawal(Input, kw_only=True):
    """Nothing else is needed."""


class SchemeProgress(Output, kw_only=True):
    """A scheme, and the method by which a difference of its grades is progress; null where none is declared."""

    id: str
    code: str
    progress_method: str | None
    dry_run: DryRun = UNSET


_FIND = f"""
SELECT s.tenant_id, s.code, s.derived, s.template, s.progress_method,
    (SELECT bool_or(g.points IS NOT NULL) FROM grades g JOIN scheme_versions v ON v.tenant_id = s.tenant_id AND v.no = g.scheme_version_no
        WHERE g.tenant_id = s.tenant_id AND v.scheme_id = s.id AND g.valid) AS points,
    (SELECT bool_or(g.value IS NOT NULL) FROM grades g JOIN scheme_versions v ON v.tenant_id = s.tenant_id AND v.no = g.scheme_version_no
        WHERE g.tenant_id = s.tenant_id AND v.scheme_id = s.id AND g.valid) AS standardised
FROM schemes s WHERE s.id = $2 AND {reaches_sql("$1", "s.tenant_id", "COALESCE(s.school_id, s.tenant_id)", "$3")} FOR UPDATE
"""
_WRITE = """
UPDATE schemes SET progress_method = $3, progress_statement = $4, progress_declared_by = $5,
    progress_declared_at = CASE WHEN $3::text IS NOT NULL THEN clock_timestamp() END
WHERE tenant_id = $1 AND id = $2
"""


@command(scope=Scope.SCHEMES_WRITE, fails=(Invalid, NotFound, Conflict))
async def declare_scheme_progress(connection: Connection, caller: Caller, action: Action[ProgressDeclaration]) -> SchemeProgress:
    """Declare by which method a difference of the grades of a scheme is progress. It replaces what was declared before."""
    scheme = await _find(connection, caller, action.id)
    checks, method = Checks(), getattr(action.fields, "method", None)
    if scheme["derived"] or scheme["template"] is not None:
        message = "A statutory scheme has neither points nor standardised scores."
        raise Conflict(message, code="code-protected", issues=(Issue("", "code-protected", message),))
    if method is not None and not scheme[method]:
        what = "points" if method == "points" else "a value"
        checks.add(Issue("/method", "wrong-value", f"No grade of this scheme has {what}."))
    checks.refuse_if_any()
    require_readable(action.fields)
    fields = action.fields
    await connection.execute(_WRITE, scheme["tenant_id"], action.id, fields.method, fields.statement, fields.name)
    return SchemeProgress(id=str(action.id), code=scheme["code"], progress_method=fields.method)


@command(scope=Scope.SCHEMES_WRITE, fails=(NotFound,))
async def withdraw_scheme_progress(connection: Connection, caller: Caller, action: Action[ProgressWithdrawal]) -> SchemeProgress:
    """Withdraw the declared method: no difference of this scheme is shown any more."""
    scheme = await _find(connection, caller, action.id)
    await connection.execute(_WRITE, scheme["tenant_id"], action.id, None, None, None)
    return SchemeProgress(id=str(action.id), code=scheme["code"], progress_method=None)


async def _find(connection: Connection, caller: Caller, scheme_id: Any) -> Any:
    scheme = await connection.fetchrow(_FIND, caller.client_id, scheme_id, Scope.SCHEMES_WRITE.value)
    if scheme is None:
        raise NotFound()
    return scheme
