"""Pupils: what is known of a child, whom a body means by an id, a UPN or a reference, and where a row's school stands."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType
from sqlalchemy import (
    Column,
    Date,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    func,
    select,
)

from domain.access.caller import Caller
from domain.access.reach import CALLER, IN_FORCE, rows_of_pupil
from domain.declare.errors import Issue, make_invalid
from domain.declare.ids import parse_id
from domain.declare.inputs import Input
from domain.declare.resource import Field, Filter, Link, Resource
from domain.declare.scopes import Scope
from domain.roster import upn as upn_rules
from domain.roster.schools import SchoolInReach, SchoolRef, find_schools, make_school_issue, schools
from domain.store.database import Connection
from domain.store.metadata import metadata
from domain.support.slices import iterate_in_slices
from domain.write.batch import Batch
from domain.write.receipts import Location

PUPIL = 4
CHANGED_AT = "When it last changed here. changedAt.gte asks for what changed since an instant: begin a minute earlier, since a change may land late."

pupils = Table(
    "pupils",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("school_id", Uuid, ForeignKey("schools.id"), nullable=False, comment="Main registration"),
    Column("upn", Text),
    Column("surname", Text, nullable=False),
    Column("forename", Text, nullable=False),
    Column("date_of_birth", Date, nullable=False),
    Column("sex", Text, nullable=False),
    Column("year_group", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Index("pupils_by_id", "id"),
    Index("pupils_by_school", "tenant_id", "school_id", "id"),
    Index("pupils_by_name", "tenant_id", "school_id", "surname", "forename", "id"),
)

external_ids = Table(
    "external_ids",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("source", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    Column("value", Text, primary_key=True),
    Column("id", Uuid, nullable=False),
    Index("external_ids_by_id", "tenant_id", "id"),
)

_own = external_ids.alias()
_reference = (
    select(func.min(_own.c.value))
    .where(_own.c.tenant_id == pupils.c.tenant_id, _own.c.id == pupils.c.id, _own.c.kind == "pupil", _own.c.source == CALLER)
    .correlate_except(_own)
    .scalar_subquery()
)

PUPILS = Resource(
    name="pupil",
    plural="pupils",
    doc="A pupil whose main registration is at a school within the caller's reach, or whom such a school shares.",
    source=pupils,
    type_number=PUPIL,
    scope=Scope.PUPILS_READ,
    order=("tenant_id", "id"),
    reach=rows_of_pupil(pupils.c.tenant_id, pupils.c.school_id, pupils.c.id),
    fields={
        "id": Field(pupils.c.id, "Stable id; it survives a new UPN and a new MIS."),
        "reference": Field(_reference, "This client's own reference for the pupil.", filter=Filter.BODY),
        "upn": Field(
            pupils.c.upn, "Unique pupil number; null for a pupil who has none.", scope=Scope.PUPILS_UPN, filter=Filter.BODY
        ),
        "surname": Field(pupils.c.surname, "Legal surname.", scope=Scope.PUPILS_NAME, filter=Filter.BODY),
        "forename": Field(pupils.c.forename, "Forename.", scope=Scope.PUPILS_NAME, filter=Filter.BODY),
        "dateOfBirth": Field(pupils.c.date_of_birth, "Date of birth.", scope=Scope.PUPILS_BIRTH, filter=Filter.BODY),
        "sex": Field(pupils.c.sex, "F or M, as in DfE exchange."),
        "yearGroup": Field(pupils.c.year_group, "National curriculum year today: N1, N2, R, 1 to 14 or X."),
        "schoolId": Field(pupils.c.school_id, "Id of the school of main registration."),
        "version": Field(pupils.c.version, "Grows by one with each change."),
        "changedAt": Field(pupils.c.changed_at, CHANGED_AT),
    },
    links={
        "school": Link(
            "school",
            on=((pupils.c.school_id, schools.c.id),),
            doc="The school of main registration.",
            reverse="pupils",
            reverse_doc="Pupils whose main registration is here.",
        )
    },
)


class PupilKey(Input, kw_only=True):
    """A pupil, named by exactly one of id, UPN and the client's own reference."""

    id: str | UnsetType = UNSET
    upn: str | UnsetType = UNSET
    reference: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        if sum(given is not UNSET for given in (self.id, self.upn, self.reference)) != 1:
            raise ValueError("Name the pupil by exactly one of id, upn and reference")


class PupilRow(PupilKey, kw_only=True):
    """A row about a pupil, at its own school or the batch's."""

    school: SchoolRef | UnsetType = UNSET


@dataclass(frozen=True)
class KeyMatch:
    """Whom in the tenant the keys of a row belong to."""

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
    def hits(self) -> list[UUID]:
        """The pupils found, by the keys in order of trust."""
        return [hit for hit in (self.by_id, self.by_reference, self.by_upn, self.by_former_upn) if hit is not None]


_CANDIDATES = f"""
SELECT s.id, s.tenant_id, s.name FROM reach r JOIN schools s ON s.id = r.school_id
WHERE r.client_id = $1 AND $2 = ANY (r.scopes) AND {IN_FORCE}
GROUP BY s.id ORDER BY s.name LIMIT 11
"""


async def resolve_schools(connection: Connection, caller: Caller, scope: Scope, batch: Batch[Any, Any]) -> dict[int, SchoolInReach]:
    """The school of every good row, by the row's index: its own, else the batch's, else the only school within reach.

    Raises Invalid `ambiguous`, listing candidates, where nothing names it and there are several; rejects rows whose school is not within reach.
    """
    named = batch.head.school
    refs: dict[str, SchoolRef] = {} if named is UNSET else {repr(named): named}
    async for part in iterate_in_slices(batch.rows):
        for _, row in part:
            ref = row.school if row.school is not UNSET else named
            if ref is not UNSET:
                refs[repr(ref)] = ref
    found = dict(zip(refs, await find_schools(connection, caller, scope, list(refs.values())), strict=True))
    if named is not UNSET and found[repr(named)] is None:
        raise make_invalid([make_school_issue("/school", scope)])
    if any(row.school is UNSET for _, row in batch.rows) and named is UNSET:
        found["unset"] = await _find_only_school(connection, caller, scope)
    home = found.get("unset" if named is UNSET else repr(named))
    batch.default_location = None if home is None else Location(home.tenant_id, home.id)
    settled: dict[int, SchoolInReach] = {}
    async for part in iterate_in_slices(batch.rows):
        for at, row in part:
            ref = row.school if row.school is not UNSET else named
            school = found["unset" if ref is UNSET else repr(ref)]
            if school is None:
                issue = make_school_issue("", scope)
                batch.reject(at, "school", issue.code, issue.message)
            else:
                settled[at] = school
                batch.locations[at] = Location(school.tenant_id, school.id)
    if len({school.tenant_id for school in settled.values()}) > 1:
        raise make_invalid(
            [
                Issue(
                    f"/{batch.name}",
                    "several-tenants",
                    "The schools of a batch must be controlled by one trust or school. Send a batch for each.",
                )
            ]
        )
    return settled


async def _find_only_school(connection: Connection, caller: Caller, scope: Scope) -> SchoolInReach:
    candidates = await connection.fetch(_CANDIDATES, caller.client_id, scope.value)
    if len(candidates) == 1:
        return SchoolInReach(candidates[0]["id"], candidates[0]["tenant_id"], candidates[0]["name"])
    listed = ", ".join(f"{row['name']} ({row['id']})" for row in candidates[:10]) + (" and more" if len(candidates) > 10 else "")
    message = f"Name the school: this client reaches {listed}." if candidates else f"This client reaches no school with {scope}."
    raise make_invalid([Issue("/school", "ambiguous", message)])


async def match_keys(
    connection: Connection, caller: Caller, tenant_id: UUID, keys: Sequence[tuple[UUID, str | None, str | None, str | None]]
) -> list[KeyMatch]:
    """Whom each (school, id, reference, UPN and after a blank a former UPN) belongs to. One statement."""
    once = list(dict.fromkeys(keys))
    school_ids, ids, references, upns = zip(*once, strict=True) if once else ((), (), (), ())
    parsed = [parse_id(given) if given else None async for part in iterate_in_slices(ids) for given in part]
    names = tuple(KeyMatch.__dataclass_fields__)
    rows = await connection.fetch(
        f"SELECT {', '.join(names)} FROM match_pupils($1, $2, $3, $4, $5, $6) ORDER BY n",
        tenant_id,
        caller.client_id,
        school_ids,
        parsed,
        references,
        upns,
    )
    matched = {
        key: KeyMatch(*(row[name] for name in names))
        async for part in iterate_in_slices(zip(once, rows, strict=True))
        for key, row in part
    }
    return [matched[key] for key in keys]


_AT_SCHOOL = """
SELECT g.n FROM unnest($2::uuid[], $3::uuid[]) WITH ORDINALITY AS g (pupil_id, school_id, n)
WHERE EXISTS (SELECT 1 FROM enrolments e WHERE e.tenant_id = $1 AND e.pupil_id = g.pupil_id AND e.school_id = g.school_id)
"""


async def find_pupils(
    connection: Connection, caller: Caller, tenant_id: UUID, batch: Batch[Any, Any], settled: dict[int, SchoolInReach]
) -> dict[int, UUID]:
    """The pupil of every good row, by the row's index; rejects rows whose pupil is unknown or was never on roll at the row's school."""
    rows = batch.list_good_rows()
    keys: list[tuple[UUID, str | None, str | None, str | None]] = []
    wrong: set[int] = set()
    async for part in iterate_in_slices(rows):
        for at, row in part:
            upn = None
            if row.upn is not UNSET:
                try:
                    upn = upn_rules.check_upn(row.upn).text
                except ValueError as problem:
                    batch.reject(at, "upn", "upn-invalid", str(problem))
                    wrong.add(at)
            keys.append((settled[at].id, row.id or None, row.reference or None, upn))
    matches = await match_keys(connection, caller, tenant_id, keys)
    found: dict[int, UUID] = {}
    async for pairs in iterate_in_slices(zip(rows, matches, strict=True)):
        for (at, _), match in pairs:
            if match.hits:
                found[at] = match.hits[0]
    at_school = await connection.fetch(_AT_SCHOOL, tenant_id, list(found.values()), [settled[at].id for at in found])
    places = list(found)
    present = {places[row["n"] - 1] for row in at_school}
    async for part in iterate_in_slices(rows):
        for at, row in part:
            if at not in present and at not in wrong:
                key = next(name for name in ("id", "upn", "reference") if getattr(row, name) is not UNSET)
                batch.reject(at, key, "pupil-not-found", f"No pupil with this {key} is or was on roll at {settled[at].name}.")
    return {at: pupil_id for at, pupil_id in found.items() if at in present}
