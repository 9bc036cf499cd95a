"""How a request names a school (by id, URN or LAESTAB), and which school each row of a batch belongs to."""

from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import IN_FORCE, reaches_sql
from domain.declare.errors import Issue, make_invalid
from domain.declare.ids import parse_id
from domain.declare.inputs import RuledInput, describe
from domain.declare.scopes import Scope
from domain.roster import former_laestabs
from domain.roster.former_laestabs import FIND_SQL
from domain.roster.school_numbers import parse_laestab, parse_urn
from domain.store.database import Connection
from domain.support.slices import iterate_in_slices
from domain.write.batch import Batch
from domain.write.partial import is_partial
from domain.write.receipts import Location


def _check_one_name(ref: Any) -> str | None:
    if sum(key is not UNSET for key in (ref.id, ref.urn, ref.laestab)) != 1:
        return "Name the school by exactly one of id, urn and laestab"
    return None


class SchoolRef(RuledInput, kw_only=True):
    """A school, by exactly one of its names. A LAESTAB means the open school that has it or, if none
    has it now, the one that had it last.
    """

    rules = (_check_one_name,)

    id: Annotated[str | UnsetType, describe("Its id here.")] = UNSET
    urn: Annotated[str | int | UnsetType, describe("Unique reference number, six digits (GIAS).")] = UNSET
    laestab: Annotated[str | UnsetType, describe("LA code and establishment number, such as 999/2101 (GIAS).")] = UNSET


@dataclass(frozen=True)
class SchoolInReach:
    """A school within reach and the tenant that controls it. `has_other_source` says whether it has named another client
    than the caller as the source of names, enrolments and characteristics; `is_by_former_laestab`, whether the request
    named it by a LAESTAB that it no longer has.
    """

    id: UUID
    tenant_id: UUID
    name: str
    has_other_source: bool
    is_by_former_laestab: bool = field(default=False, compare=False)


_SCHOOL = "s.id, s.tenant_id, s.name, COALESCE(x.source_client_id <> $1, false) AS has_other_source"
"""The columns of a SchoolInReach, of schools s with these settings; $1 is the caller."""
_SETTINGS = "LEFT JOIN school_settings x ON x.tenant_id = s.tenant_id AND x.school_id = s.id"

_FIND = f"""
SELECT g.n, {_SCHOOL},
    f.school_id IS NOT NULL AS is_by_former_laestab
FROM unnest($2::uuid[], $3::integer[], $4::text[]) WITH ORDINALITY AS g (id, urn, laestab, n)
LEFT JOIN LATERAL ({FIND_SQL.format(laestab="g.laestab").strip()}) f ON g.laestab IS NOT NULL
JOIN schools s ON s.id = COALESCE(g.id, f.school_id) OR s.urn = g.urn OR (s.laestab = g.laestab AND s.status <> 'closed')
{_SETTINGS}
WHERE {reaches_sql("$1", "s.tenant_id", "s.id", "$5")}
FOR KEY SHARE OF s
"""


async def find_schools(connection: Connection, caller: Caller, scope: Scope, refs: list[SchoolRef]) -> list[SchoolInReach | None]:
    """Returns, for each reference, the school that the caller reaches with this scope, or None. One statement.

    A school that does not exist and one that is out of reach are the same. The rows are locked FOR KEY SHARE, so that a
    GIAS import cannot move a school to another tenant before the command has written.
    """
    keys: list[tuple[UUID | None, int | None, str | None]] = []
    for ref in refs:
        keys.append((parse_id(ref.id) if ref.id is not UNSET else None, None, None))
        with suppress(ValueError):  # a number that none can have names no school
            if ref.urn is not UNSET:
                keys[-1] = None, parse_urn(ref.urn), None
            if ref.laestab is not UNSET:
                keys[-1] = None, None, parse_laestab(ref.laestab)
    ids, urns, laestabs = zip(*keys, strict=True) if keys else ((), (), ())
    rows = await connection.fetch(_FIND, caller.client_id, ids, urns, laestabs, scope.value)
    found = {row["n"]: SchoolInReach(*row[1:]) for row in rows}
    return [found.get(n + 1) for n in range(len(refs))]


async def find_school(connection: Connection, caller: Caller, scope: Scope, ref: SchoolRef, pointer: str) -> SchoolInReach:
    """Returns the school; raises Invalid with this JSON pointer where the caller does not reach it."""
    (school,) = await find_schools(connection, caller, scope, [ref])
    if school is None:
        raise make_invalid([make_school_issue(pointer, scope)])
    return school


def warn_of_former_laestab(warnings: list[Issue], school: SchoolInReach | None, pointer: str) -> None:
    """Adds a warning, once, where a request names a school by a LAESTAB that it no longer has."""
    warning = Issue(pointer, former_laestabs.CODE, former_laestabs.MESSAGE)
    if school is not None and school.is_by_former_laestab and warning not in warnings:
        warnings.append(warning)


def make_school_issue(pointer: str, scope: Scope) -> Issue:
    return Issue(pointer, "school-not-found", f"There is no such school within the reach of this client's scope {scope}.")


_CANDIDATES = f"""
SELECT {_SCHOOL} FROM reach r JOIN schools s ON s.id = r.school_id {_SETTINGS}
WHERE r.client_id = $1 AND $2 = ANY (r.scopes) AND {IN_FORCE}
GROUP BY s.id, x.source_client_id ORDER BY s.name LIMIT 11
"""


async def resolve_schools(
    connection: Connection, caller: Caller, scope: Scope, batch: Batch[Any, Any], *, by_pupil: bool = False
) -> dict[int, SchoolInReach]:
    """Returns the school of every good row, by the row's index: the row's own, else the batch's, else the only school
    within reach. `by_pupil`: a row without a school that names its pupil by id is of the pupil's school.

    Rejects the rows whose school is not within reach. Adds a fault where the batch's school is not, where the schools have
    several tenants, and (`ambiguous`, with the candidates) where nothing names the school and the caller reaches several:
    such a batch is refused, and no row has a school that only the fault would give it.
    """
    return _choose_tenant(batch, await find_schools_of_rows(connection, caller, scope, batch, by_pupil=by_pupil))


async def find_schools_of_rows(
    connection: Connection, caller: Caller, scope: Scope, batch: Batch[Any, Any], *, by_pupil: bool
) -> dict[int, SchoolInReach]:
    """Does the same for rows that may be of several tenants."""
    rows, batch_ref = batch.list_all_rows(), read_ref(batch.head)
    own = {at: ref async for part in iterate_in_slices(rows) for at, row in part if (ref := read_ref(row)) is not UNSET}
    refs = {repr(ref): ref for ref in (batch_ref, *own.values()) if ref}
    school_of = dict(zip(refs, await find_schools(connection, caller, scope, list(refs.values())), strict=True))
    unnamed = [(at, row) for at, row in rows if at not in own] if batch_ref is UNSET else []
    ids = {at: getattr(row, "id", None) for at, row in unnamed} if by_pupil else {}
    named = {at: parse_id(id_ or "") for at, id_ in ids.items() if id_ is not UNSET}
    of_pupil = await _find_schools_of_pupils(connection, caller, scope, {id_ for id_ in named.values() if id_}) if named else {}
    default = school_of[repr(batch_ref)] if batch_ref else None
    if batch_ref and default is None:
        issue = make_school_issue("/school", scope)
        batch.fault(issue.at, issue.code, issue.message)
    elif batch_ref:
        warn_of_former_laestab(batch.warnings, default, "/school/laestab")
    elif len(unnamed) > len(named):
        default = await _find_only_school(connection, caller, scope, batch)
    batch.default_location = None if default is None else Location(default.tenant_id, default.id)
    schools: dict[int, SchoolInReach] = {}
    async for part in iterate_in_slices(rows):
        for at, _ in part:
            if at in own:
                school = school_of.get(repr(own[at]))
                if school is None and own[at] is not None:
                    issue = make_school_issue("", scope)
                    batch.reject(at, "school", issue.code, issue.message)
                warn_of_former_laestab(batch.warnings, school, f"{batch.make_pointer(at)}/school/laestab")
            elif at in named:
                school = of_pupil.get(named[at])
                if school is None and ids[at] is not None:
                    batch.reject(at, "id", "pupil-not-found", "There is no such pupil within the reach of this client.")
            else:
                school = default
            if school is None:
                batch.drop(at)
            else:
                schools[at] = school
                batch.locations[at] = Location(school.tenant_id, school.id)
    return schools


def read_ref(named: Any) -> SchoolRef | UnsetType | None:
    """Returns how a row or the head of a batch names its school, None where that cannot be read."""
    ref = getattr(named, "school", None)
    return None if ref is None or is_partial(ref) else ref


def _choose_tenant(batch: Batch[Any, Any], schools: dict[int, SchoolInReach]) -> dict[int, SchoolInReach]:
    """Returns the schools of one tenant, by row. Adds a fault where the rows have several tenants; in a batch that is
    lenient, bad rows of another tenant than the good ones are only not checked any further.
    """
    good = [schools[at] for at, _ in batch.list_good_rows()]
    tenants = dict.fromkeys(school.tenant_id for school in (*good, *schools.values()))
    if len(tenants) < 2:
        return schools
    if len({school.tenant_id for school in (good if batch.lenient else schools.values())}) > 1:
        message = "The schools of a batch must be controlled by one trust or school. Send a batch for each."
        batch.fault(f"/{batch.name}", "several-tenants", message)
    tenant_id = next(iter(tenants))
    for at in [at for at, school in schools.items() if school.tenant_id != tenant_id]:
        batch.drop(at)
        del schools[at]
    return schools


_TENANTS = f"""
SELECT DISTINCT s.tenant_id FROM reach r JOIN schools s ON s.id = r.school_id WHERE r.client_id = $1 AND $2 = ANY (r.scopes) AND {IN_FORCE}
LIMIT 2
"""


async def find_only_tenant(connection: Connection, caller: Caller, scope: Scope) -> UUID | None:
    """Returns the tenant of all schools that the caller reaches with this scope, None if they have several: for the checks
    of rows whose school is not known.
    """
    rows = await connection.fetch(_TENANTS, caller.client_id, scope.value)
    return rows[0]["tenant_id"] if len(rows) == 1 else None


_OF_PUPILS = f"""
SELECT DISTINCT ON (p.pupil_id) p.pupil_id, {_SCHOOL} FROM (
    SELECT id AS pupil_id, tenant_id, school_id, 1 AS rank FROM pupils WHERE id = ANY ($2)
    UNION ALL SELECT pupil_id, tenant_id, school_id, 2 FROM shared_pupils WHERE pupil_id = ANY ($2)
) p JOIN schools s ON s.id = p.school_id {_SETTINGS}
WHERE {reaches_sql("$1", "p.tenant_id", "p.school_id", "$3")}
ORDER BY p.pupil_id, p.rank, s.id
"""


async def _find_schools_of_pupils(
    connection: Connection, caller: Caller, scope: Scope, pupil_ids: set[UUID]
) -> dict[UUID | None, SchoolInReach]:
    """Returns the school of each of these pupils: of main registration, else a second one, where within reach. One statement."""
    rows = await connection.fetch(_OF_PUPILS, caller.client_id, list(pupil_ids), scope.value)
    return {row["pupil_id"]: SchoolInReach(*tuple(row)[1:]) for row in rows}


async def _find_only_school(connection: Connection, caller: Caller, scope: Scope, batch: Batch[Any, Any]) -> SchoolInReach | None:
    candidates = await connection.fetch(_CANDIDATES, caller.client_id, scope.value)
    if len(candidates) == 1:
        return SchoolInReach(*candidates[0])
    listed = ", ".join(f"{row['name']} ({row['id']})" for row in candidates[:10]) + (" and more" if len(candidates) > 10 else "")
    message = f"Name the school: this client reaches {listed}." if candidates else f"This client reaches no school with {scope}."
    batch.fault("/school", "ambiguous", message)
    return None
