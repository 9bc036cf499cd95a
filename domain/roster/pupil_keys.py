"""How a request names a pupil (by id, UPN or the client's own reference), and which stored pupil such keys match."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.declare.ids import parse_id
from domain.declare.inputs import Input, describe
from domain.declare.scopes import Scope
from domain.roster import upn as upn_rules
from domain.roster.merged_pupils import tell_merged
from domain.roster.references import is_identifier
from domain.roster.retired import describe_reference, describe_upn, reject_retired
from domain.roster.school_refs import SchoolInReach, SchoolRef
from domain.store.database import Connection
from domain.support.slices import iterate_in_slices
from domain.write.batch import Batch


class PupilKey(Input, kw_only=True):
    """A pupil, named by exactly one of id, UPN and the client's own reference."""

    id: Annotated[str | UnsetType, describe("The id of the pupil here.")] = UNSET
    upn: Annotated[str | UnsetType, describe("Unique pupil number.")] = UNSET
    reference: Annotated[str | UnsetType, describe("The sender's own id of the pupil at the school.")] = UNSET

    def __post_init__(self) -> None:
        if sum(key is not UNSET for key in (self.id, self.upn, self.reference)) != 1:
            raise ValueError("Name the pupil by exactly one of id, upn and reference")


class PupilRow(PupilKey, kw_only=True):
    """A row about a pupil, at its own school or the batch's."""

    school: Annotated[SchoolRef | UnsetType, describe("The row's school, unless the batch names one.")] = UNSET


@dataclass(frozen=True)
class KeyMatch:
    """The pupils of the tenant that the keys of one row match, and the stored identity of the first of them."""

    by_id: UUID | None
    by_reference: UUID | None
    by_upn: UUID | None
    by_former_upn: UUID | None
    school_id: UUID | None
    open_main_from: date | None
    open_main_status: str | None
    surname: str | None
    forename: str | None
    date_of_birth: date | None

    @property
    def pupil_ids(self) -> list[UUID]:
        """The matching pupils, the most reliable key first."""
        return [id_ for id_ in (self.by_id, self.by_reference, self.by_upn, self.by_former_upn) if id_ is not None]


async def match_keys(
    connection: Connection, caller: Caller, tenant_id: UUID, keys: Sequence[tuple[UUID, str | None, str | None, str | None]]
) -> list[KeyMatch]:
    """Returns the match of each key: (school, id, reference, UPN and optionally a blank and a former UPN).

    One statement.
    """
    distinct = list(dict.fromkeys(keys))
    school_ids, ids, references, upns = zip(*distinct, strict=True) if distinct else ((), (), (), ())
    parsed_ids = [parse_id(id_) if id_ else None async for part in iterate_in_slices(ids) for id_ in part]
    names = tuple(KeyMatch.__dataclass_fields__)
    rows = await connection.fetch(
        f"SELECT {', '.join(names)} FROM match_pupils($1, $2, $3, $4, $5, $6) ORDER BY n",
        tenant_id,
        caller.client_id,
        school_ids,
        parsed_ids,
        references,
        upns,
    )
    match_of = {
        key: KeyMatch(*(row[name] for name in names))
        async for part in iterate_in_slices(zip(distinct, rows, strict=True))
        for key, row in part
    }
    return [match_of[key] for key in keys]


_AT_SCHOOL = """
SELECT g.n FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS g (pupil_id, school_id, n)
WHERE EXISTS (SELECT 1 FROM enrolments e WHERE e.tenant_id = $1 AND e.pupil_id = g.pupil_id AND e.school_id = g.school_id)
"""


async def find_pupils(
    connection: Connection, caller: Caller, tenant_id: UUID, batch: Batch[Any, Any], schools: dict[int, SchoolInReach]
) -> dict[int, UUID]:
    """Returns the pupil of every good row, by the row's index; rejects rows whose pupil is unknown or was never on roll
    at the row's school.
    """
    rows = batch.list_good_rows()
    keys: list[tuple[UUID, str | None, str | None, str | None]] = []
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
    matches = await match_keys(connection, caller, tenant_id, keys)
    pupil_ids: dict[int, UUID] = {}
    async for pairs in iterate_in_slices(zip(rows, matches, strict=True)):
        for (at, _), match in pairs:
            if match.pupil_ids:
                pupil_ids[at] = match.pupil_ids[0]
    at_school = await connection.fetch(_AT_SCHOOL, tenant_id, list(pupil_ids.values()), [schools[at].id for at in pupil_ids])
    indexes = list(pupil_ids)
    present = {indexes[row["n"] - 1] for row in at_school}
    unmatched = [(at, row, key) for (at, row), key in zip(rows, keys, strict=True) if at not in present and at not in invalid]
    identifiers = [(at, describe_upn(key[3])) for at, _, key in unmatched if key[3]]
    identifiers += [(at, describe_reference(caller.client_id, key[0], key[2])) for at, _, key in unmatched if key[2]]
    invalid |= await reject_retired(connection, batch, tenant_id, identifiers)
    async for part in iterate_in_slices(rows):
        for at, row in part:
            if at not in present and at not in invalid:
                key = next(name for name in ("id", "upn", "reference") if getattr(row, name) is not UNSET)
                if key == "reference" and is_identifier(row.reference):
                    batch.reject(at, key, "reference-is-identifier", "A reference may not be a UPN or an NHS number.")
                    continue
                batch.reject(at, key, "pupil-not-found", f"No pupil with this {key} is or was on roll at {schools[at].name}.")
    named = {at: id_ for at, row in rows if row.id is not UNSET and (id_ := parse_id(row.id)) is not None}
    await tell_merged(connection, caller, batch, named, Scope.PUPILS_READ)
    return {at: pupil_id for at, pupil_id in pupil_ids.items() if at in present}
