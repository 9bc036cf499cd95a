"""Class lists in bulk: a school's groups of an academic year and who is in them. The same batch twice changes nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from typing import Annotated, Any
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType, structs

from domain.access.caller import Caller
from domain.declare.errors import Invalid, Issue, NotFound, make_invalid
from domain.declare.ids import new_id
from domain.declare.inputs import Input
from domain.declare.inputs import Text as ShortText
from domain.declare.scopes import Scope
from domain.roster.groups import GROUP, Code, Kind
from domain.roster.pupils import PupilKey, find_pupils, resolve_schools
from domain.roster.schools import SchoolInReach, SchoolRef
from domain.roster.years import academic_year_range, parse_academic_year
from domain.store.database import Connection, transpose
from domain.write.batch import Batch, Recorded
from domain.write.command import command
from domain.write.locks import SchoolLocks


class Member(PupilKey, kw_only=True):
    """A pupil in a group: since a day, the batch's asOf unless said, and until one, included."""

    from_: date | UnsetType = UNSET
    to: date | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.from_ is not UNSET and isinstance(self.to, date) and self.to < self.from_:
            raise ValueError("A membership cannot end before it begins")


class GroupEntry(Input, kw_only=True):
    """A group as the school's MIS knows it, and who is in it."""

    code: Code
    name: ShortText
    kind: Kind
    members: Annotated[list[Member], Meta(max_length=1000)] = []
    school: SchoolRef | UnsetType = UNSET


class GroupBatch(Input, kw_only=True):
    """Groups of an academic year as they stood on a day. With complete, who is in a group that day and not named leaves it the day before;
    who is to join later stays."""

    school: SchoolRef | UnsetType = UNSET
    academic_year: str
    as_of: date
    complete: bool = False
    entries: list[GroupEntry]


MemberSpells = dict[tuple[UUID, date], date | None]
"""Memberships of one group: by pupil and first day, the last day."""


@dataclass
class GroupRow:
    """An entry, its school, whom its members are (by their index), and what is stored of the group."""

    at: int
    entry: GroupEntry
    school: SchoolInReach
    people: dict[int, UUID]
    id: UUID
    stored: Any = None
    before: MemberSpells = field(default_factory=dict)
    after: MemberSpells = field(default_factory=dict)


@command(scope=Scope.GROUPS_WRITE, fails=(Invalid, NotFound))
async def record_groups(connection: Connection, caller: Caller, given: Batch[GroupBatch, GroupEntry]) -> Recorded:
    """Record groups and who is in them. The same batch twice changes nothing; a group absent from a batch stays as it is."""
    try:
        year = parse_academic_year(given.head.academic_year)
    except ValueError as problem:
        raise make_invalid([Issue("/academicYear", "academic-year-invalid", str(problem))]) from problem
    first, last = academic_year_range(year)
    if not first <= given.head.as_of <= last:
        raise make_invalid([Issue("/asOf", "outside-academic-year", "asOf lies outside the academic year of the groups.")])
    settled = await resolve_schools(connection, caller, Scope.GROUPS_WRITE, given)
    if not settled:
        given.refuse_if_strict()
        return given.summarise()
    tenant_id = next(iter(settled.values())).tenant_id
    entries = await given.reject_duplicates(
        given.list_good_rows(), lambda row: (row[0], (settled[row[0]].id, row[1].code)), "school and code"
    )
    people = await find_members(connection, caller, tenant_id, given, entries, settled)
    rows = [GroupRow(at, entry, settled[at], people[at], new_id(GROUP)) for at, entry in entries]
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock({row.school.id for row in rows}, [])
    await read_stored(connection, tenant_id, year, rows)
    changed = [row for row in rows if compare_with_stored(given, row)]
    given.refuse_if_strict()
    if changed:
        await write_groups(connection, tenant_id, year, changed)
        await locks.increment_versions()
    return given.summarise()


async def find_members(
    connection: Connection,
    caller: Caller,
    tenant_id: UUID,
    batch: Batch[GroupBatch, GroupEntry],
    entries: list[tuple[int, GroupEntry]],
    settled: dict[int, SchoolInReach],
) -> dict[int, dict[int, UUID]]:
    """By the entries' index, the pupil of every member by theirs. One that is not found is an issue; with handling=lenient the others are in."""
    places = [(at, i) for at, entry in entries for i in range(len(entry.members))]
    members: Batch[Any, Any] = Batch(batch.head, [], len(places))
    members.rows = [(n, member) for n, member in enumerate(member for _, entry in entries for member in entry.members)]
    found = await find_pupils(connection, caller, tenant_id, members, {n: settled[at] for n, (at, _) in enumerate(places)})
    for issue in members.issues:
        _, _, row, *below = issue.at.split("/")
        at, i = places[int(row)]
        batch.issues.append(structs.replace(issue, at="/".join(["", "entries", str(at), "members", str(i), *below])))
    people: dict[int, dict[int, UUID]] = {at: {} for at, _ in entries}
    for n, pupil_id in found.items():
        at, i = places[n]
        people[at][i] = pupil_id
    return people


_STORED = """
SELECT x.n, g.id, g.name, g.kind, g.version FROM unnest($2::uuid[], $3::text[]) WITH ORDINALITY AS x (school_id, code, n)
JOIN groups g ON g.tenant_id = $1 AND g.school_id = x.school_id AND g.academic_year = $4 AND g.code = x.code
"""
_MEMBERS = "SELECT group_id, pupil_id, from_on, to_on FROM group_members WHERE tenant_id = $1 AND group_id = ANY ($2)"


async def read_stored(connection: Connection, tenant_id: UUID, year: int, rows: list[GroupRow]) -> None:
    """What is stored of the groups. Two statements."""
    keys = transpose([(row.school.id, row.entry.code) for row in rows], 2)
    for stored in await connection.fetch(_STORED, tenant_id, *keys, year):
        row = rows[stored["n"] - 1]
        row.id, row.stored = stored["id"], stored
    by_id = {row.id: row for row in rows}
    for spell in await connection.fetch(_MEMBERS, tenant_id, list(by_id)):
        by_id[spell["group_id"]].before[spell["pupil_id"], spell["from_on"]] = spell["to_on"]


def compare_with_stored(batch: Batch[GroupBatch, GroupEntry], row: GroupRow) -> bool:
    """Whether the row changes something, after noting the outcome or rejecting it."""
    head, entry, issues = batch.head, row.entry, len(batch.issues)
    spells = dict(row.before)
    for i, pupil_id in row.people.items():
        member = entry.members[i]
        covering = [begun for who, begun in list_lasting(spells, head.as_of) if who == pupil_id]
        begins = member.from_ if member.from_ is not UNSET else max(covering, default=head.as_of)
        ends = member.to if member.to is not UNSET else spells.get((pupil_id, begins))
        if ends is not None and ends < begins:
            batch.reject(row.at, f"members/{i}/to", "membership-inverted", "A membership cannot end before it begins.")
        spells[pupil_id, begins] = ends
    if head.complete and len(row.people) == len(entry.members):  # one who was not found may be one of those who are absent
        named = set(row.people.values())
        left = [key for key in list_lasting(spells, head.as_of) if key[0] not in named]
        spells |= dict.fromkeys(left, head.as_of - timedelta(days=1))
    row.after = {(who, begun): to for (who, begun), to in spells.items() if to is None or to >= begun}
    twice = set(find_overlaps(row.after))
    for i, pupil_id in row.people.items():
        if pupil_id in twice:
            batch.reject(row.at, f"members/{i}", "spells-overlap", "This pupil would be in the group twice on one day.")
    if len(batch.issues) > issues:
        return False
    if row.stored is None:
        batch.record_outcome(row.at, "created", row.id, 1)
        return True
    if row.after == row.before and (entry.name, entry.kind) == (row.stored["name"], row.stored["kind"]):
        batch.record_outcome(row.at, "unchanged", row.id, row.stored["version"])
        return False
    batch.record_outcome(row.at, "updated", row.id, row.stored["version"] + 1)
    return True


def list_lasting(spells: MemberSpells, day: date) -> list[tuple[UUID, date]]:
    """The memberships on a day, by pupil and first day."""
    return [(who, begun) for (who, begun), to in spells.items() if begun <= day and (to is None or to >= day)]


def find_overlaps(spells: MemberSpells) -> Iterator[UUID]:
    """The pupils who would be in a group twice on one day."""
    for earlier, later in pairwise(sorted(spells)):
        ended = spells[earlier]
        if earlier[0] == later[0] and (ended is None or ended >= later[1]):
            yield earlier[0]


_WRITE = """
INSERT INTO groups AS g (tenant_id, academic_year, id, school_id, code, name, kind)
SELECT $1, $2, * FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[])
ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name, kind = excluded.kind, version = g.version + 1, changed_at = now(), xid = pg_current_xact_id()
"""
_REMOVE = """
DELETE FROM group_members m USING unnest($2::uuid[], $3::uuid[], $4::date[]) AS x (group_id, pupil_id, from_on)
WHERE m.tenant_id = $1 AND m.group_id = x.group_id AND m.pupil_id = x.pupil_id AND m.from_on = x.from_on
"""
_ADMIT = """
INSERT INTO group_members (tenant_id, group_id, pupil_id, from_on, school_id, to_on)
SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::date[], $5::uuid[], $6::date[])
ON CONFLICT (tenant_id, group_id, pupil_id, from_on) DO UPDATE SET to_on = excluded.to_on
"""


async def write_groups(connection: Connection, tenant_id: UUID, year: int, rows: list[GroupRow]) -> None:
    """The changed groups and memberships. Three statements at most."""
    described = [(row.id, row.school.id, row.entry.code, row.entry.name, row.entry.kind) for row in rows]
    await connection.execute(_WRITE, tenant_id, year, *transpose(described, 5))
    removed = [(row.id, *key) for row in rows for key in row.before.keys() - row.after.keys()]
    if removed:
        await connection.execute(_REMOVE, tenant_id, *transpose(removed, 3))
    admitted = [
        (row.id, *key, row.school.id, to) for row in rows for key, to in row.after.items() if row.before.get(key, key) != to
    ]
    if admitted:
        await connection.execute(_ADMIT, tenant_id, *transpose(admitted, 5))
