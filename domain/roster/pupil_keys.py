"""How a request names a pupil (by id, UPN or the client's own reference), and which stored pupil such keys match."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any, ClassVar
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.declare.ids import parse_id
from domain.declare.inputs import Rule, RuledInput, describe
from domain.declare.scopes import Scope
from domain.roster import upn as upn_rules
from domain.roster.merged_pupils import find_replacements, tell_merged
from domain.roster.references import IS_IDENTIFIER, is_identifier, may_repeat
from domain.roster.retired import describe_reference, describe_upn, reject_retired
from domain.roster.school_refs import SchoolInReach, SchoolRef
from domain.roster.upn import UpnText
from domain.store.database import Connection, SnapshotChanged, transpose
from domain.support.slices import iterate_in_slices
from domain.write.batch import Batch
from domain.write.locks import SchoolLocks


def _check_one_key(key: Any) -> str | None:
    if sum(name is not UNSET for name in (key.id, key.upn, key.reference)) != 1:
        return "Name the pupil by exactly one of id, upn and reference"
    return None


class PupilKey(RuledInput, kw_only=True):
    """A pupil, named by exactly one of id, UPN and the client's own reference."""

    may_repeat: ClassVar[Callable[[str], bool] | None] = may_repeat
    rules: ClassVar[tuple[Rule, ...]] = (_check_one_key,)

    id: Annotated[str | UnsetType, describe("The id of the pupil here.")] = UNSET
    upn: Annotated[UpnText | UnsetType, describe("Unique pupil number.")] = UNSET
    reference: Annotated[str | UnsetType, describe("The sender's own id of the pupil at the school.")] = UNSET


class PupilRow(PupilKey, kw_only=True):
    """A row about a pupil, at its own school or the batch's."""

    school: Annotated[SchoolRef | UnsetType, describe("The row's school, unless the batch names one.")] = UNSET


@dataclass(frozen=True)
class KeyMatch:
    """The pupils of the tenant to whom an id, a reference and a UPN belong.

    `is_current` says whether the UPN is that pupil's own now, not a former one; None without a pupil.
    """

    by_id: UUID | None
    by_reference: UUID | None
    by_upn: UUID | None
    is_current: bool | None

    @property
    def pupil_ids(self) -> list[UUID]:
        """The matching pupils, the most reliable key first."""
        return [id_ for id_ in (self.by_id, self.by_reference, self.by_upn) if id_ is not None]

    def is_replaced(self, upn: str | None) -> bool:
        """Whether this UPN is a permanent one that its pupil no longer has.

        Such a number identifies nobody: it may have been recorded in error and be another child's.
        """
        return self.is_current is False and upn is not None and not upn_rules.is_temporary(upn)


Key = tuple[UUID, str | None, str | None, str | None]
"""What a row names a pupil by: its school, the id, the client's reference at that school, and a UPN in canonical form."""


async def match_keys(connection: Connection, caller: Caller, tenant_id: UUID, keys: Sequence[Key]) -> list[KeyMatch]:
    """Returns the match of each key. One statement."""
    return [KeyMatch(*row) for row in await _find_owners(connection, caller, tenant_id, keys, _OWNERS)]


_OWNERS = "SELECT by_id, by_reference, by_upn, is_current FROM find_key_owners($1, $2, $3, $4, $5, $6) ORDER BY n"
_OWNERS_AT_SCHOOL = """
WITH k AS MATERIALIZED (SELECT *, COALESCE(by_id, by_reference, by_upn) AS pupil_id FROM find_key_owners($1, $2, $3, $4, $5, $6)),
p AS MATERIALIZED (
    SELECT DISTINCT pupil_id, school_id FROM enrolments WHERE tenant_id = $1 AND pupil_id = ANY (ARRAY(SELECT k.pupil_id FROM k))
)
SELECT k.by_id, k.by_reference, k.by_upn, k.is_current, p.pupil_id IS NOT NULL AS at_school
FROM k LEFT JOIN p ON p.pupil_id = k.pupil_id AND p.school_id = ($3::uuid[])[k.n] ORDER BY k.n
"""
"""The enrolments of all pupils are read at once: one look-up for each key costs ten times as much under row-level security."""


async def _find_owners(connection: Connection, caller: Caller, tenant_id: UUID, keys: Sequence[Key], statement: str) -> list[Any]:
    """Returns the statement's row for each key. It is asked once for each distinct key."""
    distinct = list(dict.fromkeys(keys))
    school_ids, ids, references, upns = zip(*distinct, strict=True) if distinct else ((), (), (), ())
    parsed_ids = [parse_id(id_) if id_ else None async for part in iterate_in_slices(ids) for id_ in part]
    rows = await connection.fetch(statement, tenant_id, caller.client_id, school_ids, parsed_ids, references, upns)
    row_of = {key: row async for part in iterate_in_slices(zip(distinct, rows, strict=True)) for key, row in part}
    return [row_of[key] for key in keys]


def replace_references_sql(named: str, source: str) -> str:
    """Returns the statement after which the references `named` (a table of school and value) of the client `source`, both
    SQL expressions without columns, identify nobody in the tenant $1; whose they were is kept.
    """
    return f"""
    WITH gone AS (
        DELETE FROM external_ids x USING {named} AS g (school_id, value)
        WHERE x.tenant_id = $1 AND x.source = {source} AND x.kind = 'pupil' AND x.school_id = g.school_id AND x.value = g.value
        RETURNING x.school_id, x.value, x.id
    )
    INSERT INTO external_ids (tenant_id, source, kind, school_id, value, id) SELECT $1, {source}, 'replaced', * FROM gone
    ON CONFLICT (tenant_id, source, kind, school_id, value) DO UPDATE SET id = excluded.id
    """


_REPLACED = """
SELECT x.school_id, x.value, x.id FROM unnest($3::uuid[], $4::text[]) AS g (school_id, value)
JOIN external_ids x ON x.tenant_id = $1 AND x.source = $2 AND x.kind = 'replaced' AND x.school_id = g.school_id AND x.value = g.value
"""


async def find_indicated(
    connection: Connection, caller: Caller, tenant_id: UUID, keys: Sequence[Key], scope: Scope
) -> list[set[UUID]]:
    """Returns to whom each key points, though it may identify nobody: also by a reference that was replaced, by any former
    UPN, and by the id of a merged record. Whoever is absent from a whole list stays for such a key. At most three statements.
    """
    if not keys:
        return []
    found = [{*match.pupil_ids} for match in await match_keys(connection, caller, tenant_id, keys)]
    open_ = [(key, ids) for key, ids in zip(keys, found, strict=True) if not ids]
    references = {(key[0], key[2]) for key, _ in open_ if key[2]}
    if references:
        rows = await connection.fetch(_REPLACED, tenant_id, caller.client_id, *transpose(list(references), 2))
        owners = {(row["school_id"], row["value"]): row["id"] for row in rows}
        for key, ids in open_:
            if (owner := owners.get((key[0], key[2] or ""))) is not None:
                ids.add(owner)
    named = [(id_, ids) for key, ids in open_ if key[1] and (id_ := parse_id(key[1])) is not None]
    replacements = await find_replacements(connection, caller, [id_ for id_, _ in named], scope) if named else {}
    for id_, ids in named:
        if id_ in replacements:
            ids.add(replacements[id_])
    return found


@dataclass(frozen=True)
class StoredIdentity:
    """By what a row is compared with a stored pupil, and the pupil's open main spell at the main school.

    `former_surname` is the surname before the last changes of it. `former_upns` are permanent ones, of a pupil who has
    none now.
    """

    id: UUID
    school_id: UUID
    upn: str | None
    surname: str
    forename: str
    date_of_birth: date
    sex: str
    open_main_from: date | None
    open_main_status: str | None
    former_surname: str | None
    surname_changed_on: date | None
    upn_changed_on: date | None
    former_upns: list[str]


async def read_identities(connection: Connection, tenant_id: UUID, pupil_ids: Collection[UUID]) -> dict[UUID, StoredIdentity]:
    """Returns what is stored of these pupils of the tenant, within the caller's reach or not. One statement."""
    columns = ", ".join(StoredIdentity.__dataclass_fields__)
    rows = await connection.fetch(f"SELECT {columns} FROM read_pupil_identities($1, $2)", tenant_id, list(pupil_ids))
    return {row["id"]: StoredIdentity(*row) async for part in iterate_in_slices(rows) for row in part}


UPN_REPLACED = (
    "This permanent UPN is no longer that of the pupil who had it, and may have been recorded in error. Name the pupil by the UPN"
    " that replaced it, by reference or by id."
)


async def find_and_lock_pupils(
    connection: Connection,
    caller: Caller,
    locks: SchoolLocks,
    tenant_id: UUID,
    batch: Batch[Any, Any],
    schools: dict[int, SchoolInReach],
    school_ids: Collection[UUID],
    other_pupil_ids: Collection[UUID] = (),
    *,
    values_sql: str = "",
) -> dict[int, UUID]:
    """Locks these schools and every school of the good rows' pupils and of the others, and returns the pupil of each row
    (`find_pupils`).

    A UPN or a reference may become another pupil's until the locks are taken, so that the rows are matched under them.
    Raises SnapshotChanged where they then name a pupil whose schools are not locked. Nothing is locked for the pupils of
    rows that were rejected before; they are looked for so that all that is wrong with such a row is told.
    """
    rows, bad_rows = batch.list_good_rows(), batch.list_bad_rows()
    keys = [
        (schools[at].id, row.id or None, row.reference or None, upn_rules.find_upn(row.upn))
        async for part in iterate_in_slices(rows)
        for at, row in part
    ]
    if all(row.id is not UNSET for _, row in rows):
        pupil_ids = {id_ for _, id_text, _, _ in keys if (id_ := parse_id(id_text or "")) is not None}
    else:
        pupil_ids = {id_ for match in await match_keys(connection, caller, tenant_id, keys) for id_ in match.pupil_ids}
    await locks.lock(school_ids, pupil_ids | {*other_pupil_ids})
    found = await find_pupils(connection, caller, tenant_id, batch, schools, rows, values_sql)
    if not set(found.values()) <= pupil_ids:
        raise SnapshotChanged
    if not bad_rows:
        return found
    reject_malformed_keys(batch, [(at, row) for at, row in bad_rows if at not in schools or not has_one_key(row)])
    bad_rows = [(at, row) for at, row in bad_rows if at in schools and has_one_key(row)]
    return found | await find_pupils(connection, caller, tenant_id, batch, schools, bad_rows, values_sql) if bad_rows else found


def reject_malformed_keys(batch: Batch[Any, Any], rows: Iterable[tuple[int, Any]]) -> None:
    """Rejects rows that name a pupil by a UPN that is none, or by a reference that is an identifier, whatever is stored: those
    whose pupil cannot be looked for.
    """
    for at, row in rows:
        upn, reference = getattr(row, "upn", UNSET), getattr(row, "reference", UNSET)
        try:
            upn_rules.parse_upn("" if upn is UNSET else upn)
        except ValueError as problem:
            if upn is not UNSET:
                batch.reject(at, "upn", "upn-invalid", str(problem))
        if reference is not UNSET and is_identifier(reference):
            batch.reject(at, "reference", *IS_IDENTIFIER)


def has_one_key(row: PupilKey) -> bool:
    """Whether exactly one key is there, and the others were left out: whom another row means is not known."""
    keys = [getattr(row, name, None) for name in ("id", "upn", "reference")]
    return None not in keys and keys.count(UNSET) == len(keys) - 1


async def find_pupils(
    connection: Connection,
    caller: Caller,
    tenant_id: UUID,
    batch: Batch[Any, Any],
    schools: dict[int, SchoolInReach],
    rows: list[tuple[int, Any]],
    values_sql: str = "",
) -> dict[int, UUID]:
    """Returns the pupil of every row, by the row's index; rejects rows whose pupil is unknown or was never on roll at the
    row's school, and those that name the pupil by a permanent UPN that was replaced.

    A pupil whose spell at the school was taken back is one of it as long as values are stored that the school recorded,
    so that they can be sent again and withdrawn. `values_sql` reads the (pupil, school) of such values for a tenant,
    pupils and schools. It runs only where a row's pupil was never on roll.
    """
    keys: list[Key] = []
    invalid: set[int] = set()
    async for part in iterate_in_slices(rows):
        for at, row in part:
            upn = None
            if row.upn is not UNSET:
                try:
                    upn = upn_rules.parse_upn(row.upn).text
                except ValueError as problem:
                    batch.reject(at, "upn", "upn-invalid", str(problem))
                    invalid.add(at)
            keys.append((schools[at].id, row.id or None, row.reference or None, upn))
    owners = await _find_owners(connection, caller, tenant_id, keys, _OWNERS_AT_SCHOOL)
    present: dict[int, UUID] = {}
    never_there: dict[int, tuple[UUID, UUID]] = {}
    replaced: set[int] = set()
    async for triples in iterate_in_slices(zip(rows, keys, owners, strict=True)):
        for (at, _), key, (*owner, at_school) in triples:
            match = KeyMatch(*owner)
            if at_school:
                present[at] = match.pupil_ids[0]
            elif match.pupil_ids:
                never_there[at] = match.pupil_ids[0], key[0]
            if match.is_replaced(key[3]):
                replaced.add(at)
    if values_sql and never_there:
        pupil_ids, school_ids = (list(set(ids)) for ids in zip(*never_there.values(), strict=True))
        recorded = {tuple(row) for row in await connection.fetch(values_sql, tenant_id, pupil_ids, school_ids)}
        present |= {at: pair[0] for at, pair in never_there.items() if pair in recorded}
    unmatched = [(at, row, key) for (at, row), key in zip(rows, keys, strict=True) if at not in present and at not in invalid]
    identifiers = [(at, describe_upn(key[3])) for at, _, key in unmatched if key[3]]
    identifiers += [(at, describe_reference(caller.client_id, key[0], key[2])) for at, _, key in unmatched if key[2]]
    invalid |= await reject_retired(connection, batch, tenant_id, identifiers)
    async for part in iterate_in_slices(rows):
        for at, row in part:
            if at in present and at in replaced:
                batch.reject(at, "upn", "upn-replaced", UPN_REPLACED)
            elif at not in present and at not in invalid:
                key_name = next(name for name in ("id", "upn", "reference") if getattr(row, name) is not UNSET)
                if key_name == "reference" and is_identifier(row.reference):
                    batch.reject(at, key_name, *IS_IDENTIFIER)
                    continue
                batch.reject(
                    at, key_name, "pupil-not-found", f"No pupil with this {key_name} is or was on roll at {schools[at].name}."
                )
    named = {at: id_ for at, row in rows if row.id is not UNSET and (id_ := parse_id(row.id)) is not None}
    await tell_merged(connection, caller, batch, named, Scope.PUPILS_READ)
    return {at: pupil_id for at, pupil_id in present.items() if at not in replaced}
