"""Signs common scales and crosswalks: a named person says that they are right, and from which day on they hold.

A signature is a claim of the client's (name and role). One that is signed stays as it is; signing it again renews the signature, such as
where the person has gone, and its first day stays. What replaces it is another one, signed later.
"""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.assessment.open_close_window import lock_all_schools
from domain.declare.errors import Invalid, Issue, NotFound
from domain.declare.inputs import DryRun, Input, Output, describe
from domain.declare.inputs import Text as ShortText
from domain.declare.scopes import Scope
from domain.store.database import Connection
from domain.support import clock
from domain.write.action import Action
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.partial import require_readable


class Signature(Input, kw_only=True):
    """Who signs."""

    name: Annotated[ShortText, describe("Name of the person who signs.")]
    role: Annotated[ShortText, describe("What they are, such as director of education.")]
    from_on: Annotated[
        date | UnsetType | None, describe("The day from which it is in force: today, without it, or later. Earlier figures stay.")
    ] = UNSET


class MovedGrade(Output, kw_only=True):
    """A grade whose place another crosswalk, or another scale, moves."""

    scheme: Annotated[str, describe("The scheme's code.")]
    scheme_version: Annotated[int, describe("The version of the scheme.")]
    grade: Annotated[str, describe("The grade's code.")]
    from_band: Annotated[str | None, describe("The band where it was; null: in none.")]
    to_band: Annotated[str | None, describe("The band where it is then; null: in none.")]
    was_expected: Annotated[bool | None, describe("Whether it was expected; null where nothing placed it.")]
    is_expected: Annotated[bool | None, describe("Whether it is expected then.")]
    was_higher: Annotated[bool | None, describe("Whether it was higher.")]
    is_higher: Annotated[bool | None, describe("Whether it is higher then.")]
    judged: Annotated[
        int | None,
        describe("How many values have it, at schools where the client holds aggregates:internal; null without that scope."),
    ]


class SignedScale(Output, kw_only=True):
    """What was signed, and what moves by it."""

    id: str
    from_on: Annotated[str, describe("The day from which it is in force.")]
    moved: Annotated[list[MovedGrade], describe("The grades that have another place on that day than before.")]
    version: int
    dry_run: DryRun = UNSET


_FIND = """
SELECT x.tenant_id, x.from_on, x.version FROM {table} x WHERE x.id = $2 AND {reach} FOR UPDATE
"""
_SIGN = """
UPDATE {table} SET from_on = COALESCE(from_on, $3), signed_at = clock_timestamp(), first_signed_at = COALESCE(first_signed_at, signed_at, clock_timestamp()),
    signed_by = $4, signer_role = $5, signed_client_id = $6,
    version = version + 1
WHERE tenant_id = $1 AND id = $2 RETURNING from_on, signed_at, version
"""
_KEEP = """
INSERT INTO scale_signatures (tenant_id, of_id, signed_at, signed_by, signer_role, client_id) VALUES ($1, $2, $3, $4, $5, $6)
"""
_PLACES = "SELECT scheme_version_no, grade_no, band, expected, higher FROM list_places($1, $2)"
_NAMES = """
SELECT v.no AS version_no, g.no AS grade_no, m.code AS scheme, v.version, g.code FROM scheme_versions v
JOIN schemes m ON m.tenant_id = $1 AND m.id = v.scheme_id JOIN grades g ON g.tenant_id = $1 AND g.scheme_version_no = v.no
JOIN unnest($2::smallint[], $3::smallint[]) AS f (version_no, grade_no) ON f.version_no = v.no AND f.grade_no = g.no
WHERE v.tenant_id = $1 ORDER BY m.code, v.version, g.no
"""
_JUDGED = f"""
SELECT c.scheme_version_no, c.grade_no, sum(c.n) AS n FROM cells c
WHERE c.tenant_id = $1 AND c.scheme_version_no = ANY ($2) AND {reaches_sql("$3", "$1", "c.school_id", f"'{Scope.AGGREGATES_INTERNAL}'")}
GROUP BY 1, 2
"""


@command(scope=Scope.SCHEMES_WRITE, at_school=False, fails=(Invalid, NotFound))
async def sign_common_scale(connection: Connection, caller: Caller, action: Action[Signature]) -> SignedScale:
    """Sign a common scale, or renew its signature. A dry run says which grades would move."""
    return await _sign(connection, caller, action, "common_scales")


@command(scope=Scope.SCHEMES_WRITE, at_school=False, fails=(Invalid, NotFound))
async def sign_crosswalk(connection: Connection, caller: Caller, action: Action[Signature]) -> SignedScale:
    """Sign a crosswalk, or renew its signature. A dry run says which grades would move."""
    return await _sign(connection, caller, action, "crosswalks")


async def _sign(
    connection: Connection, caller: Caller, action: Action[Signature], table: Literal["common_scales", "crosswalks"]
) -> SignedScale:
    find = _FIND.format(table=table, reach=reaches_sql("$1", "x.tenant_id", "x.tenant_id", "$3"))
    stored = await connection.fetchrow(find, caller.client_id, action.id, Scope.SCHEMES_WRITE.value)
    if stored is None:
        raise NotFound()
    fields, today, checks = action.fields, clock.read_today(), Checks()
    with checks.attempt():
        if fields.from_on is not UNSET and fields.from_on is not None:
            if stored["from_on"] is not None and fields.from_on != stored["from_on"]:
                message = "It is signed, and its first day stays. Draft and sign another one instead."
                checks.add(Issue("/fromOn", "signed-already", message))
            elif stored["from_on"] is None and fields.from_on < today:
                checks.add(
                    Issue("/fromOn", "from-in-past", "Figures of the past stay: it is in force from today on, or from a later day.")
                )
    checks.refuse_if_any()
    require_readable(fields)
    tenant_id = stored["tenant_id"]
    await lock_all_schools(connection, tenant_id)
    from_on = stored["from_on"] or fields.from_on or today
    before = await _read_places(connection, tenant_id, from_on)
    signed = await connection.fetchrow(
        _SIGN.format(table=table), tenant_id, action.id, from_on, fields.name, fields.role, caller.client_id
    )
    assert signed is not None
    await connection.execute(_KEEP, tenant_id, action.id, signed["signed_at"], fields.name, fields.role, caller.client_id)
    after = await _read_places(connection, tenant_id, from_on)
    moved = await _list_moved(connection, caller, tenant_id, before, after)
    return SignedScale(id=str(action.id), from_on=str(signed["from_on"]), moved=moved, version=signed["version"])


_Place = tuple[str | None, bool | None, bool | None]


async def _read_places(connection: Connection, tenant_id: UUID, on: date) -> dict[tuple[int, int], _Place]:
    """Returns the band, and whether it is expected and higher, of each grade that has a place on a day."""
    rows = await connection.fetch(_PLACES, tenant_id, on)
    return {(row["scheme_version_no"], row["grade_no"]): (row["band"], row["expected"], row["higher"]) for row in rows}


async def _list_moved(
    connection: Connection,
    caller: Caller,
    tenant_id: UUID,
    before: dict[tuple[int, int], _Place],
    after: dict[tuple[int, int], _Place],
) -> list[MovedGrade]:
    nowhere: _Place = (None, None, None)
    moved = [key for key in {*before, *after} if before.get(key, nowhere) != after.get(key, nowhere)]
    if not moved:
        return []
    version_nos, grade_nos = [no for no, _ in moved], [no for _, no in moved]
    judged: dict[tuple[int, int], int] | None = None
    if Scope.AGGREGATES_INTERNAL in caller.scopes:
        rows: Any = await connection.fetch(_JUDGED, tenant_id, version_nos, caller.client_id)
        judged = {(row["scheme_version_no"], row["grade_no"]): row["n"] for row in rows}
    found = []
    for row in await connection.fetch(_NAMES, tenant_id, version_nos, grade_nos):
        key = row["version_no"], row["grade_no"]
        (from_band, was_expected, was_higher), (to_band, is_expected, is_higher) = before.get(key, nowhere), after.get(key, nowhere)
        found.append(
            MovedGrade(
                scheme=row["scheme"],
                scheme_version=row["version"],
                grade=row["code"],
                from_band=from_band,
                to_band=to_band,
                was_expected=was_expected,
                is_expected=is_expected,
                was_higher=was_higher,
                is_higher=is_higher,
                judged=None if judged is None else judged.get(key, 0),
            )
        )
    return found
