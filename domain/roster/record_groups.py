"""Records class lists in bulk: a school's groups of an academic year and their members.

The same batch twice changes nothing.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise
from typing import Annotated, Any, ClassVar
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType, structs

from domain.access.caller import Caller
from domain.declare.errors import Invalid, Issue, NotFound
from domain.declare.ids import new_id, parse_id
from domain.declare.inputs import Input, describe
from domain.declare.inputs import Text as ShortText
from domain.declare.scopes import Scope
from domain.declare.type_numbers import GROUP
from domain.roster.groups import Code, Kind
from domain.roster.pupil_keys import PupilKey, find_and_lock_pupils, find_indicated, reject_malformed_keys
from domain.roster.record_pupils.dates import find_date_problem, find_first_day_problem
from domain.roster.record_pupils.roll_day import IMPLAUSIBLE
from domain.roster.references import may_repeat
from domain.roster.retired import CODE as RETIRED
from domain.roster.retired import describe_id, find_new_identities, find_retired
from domain.roster.school_refs import SchoolInReach, SchoolRef, resolve_schools
from domain.roster.upn import find_upn
from domain.roster.years import AcademicYearText, academic_year_range, parse_academic_year
from domain.store.database import Connection, transpose
from domain.write.batch import Batch, Recorded
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import UNREADABLE, Unreadable, copy_fields, list_readable


def _check_days(member: Any) -> str | None:
    if member.from_ is not UNSET and isinstance(member.to, date) and member.to < member.from_:
        return "A membership cannot end before it begins"
    return None


class Member(PupilKey, kw_only=True):
    """A pupil in a group, from a day (by default the batch's asOf) to a day, both included."""

    rules = (*PupilKey.rules, _check_days)

    from_: Annotated[date | UnsetType, describe("First day in the group; by default the day of the batch.")] = UNSET
    to: Annotated[date | UnsetType | None, describe("Last day in the group. Null or left out: no end is known.")] = UNSET


class GroupEntry(Input, kw_only=True):
    """A group as the school's MIS knows it, and who is in it."""

    may_repeat: ClassVar[Callable[[str], bool] | None] = may_repeat
    code: Annotated[Code, describe("The group's code at the school, unique in an academic year.")]
    name: Annotated[ShortText, describe("Name, as the school shows it.")]
    kind: Annotated[Kind, describe("What kind of group it is.")]
    members: Annotated[Annotated[list[Member], Meta(max_length=1000)], describe("Who is in it.")] = []
    school: Annotated[SchoolRef | UnsetType, describe("The group's school, unless the batch names one.")] = UNSET


class GroupBatch(Input, kw_only=True):
    """Groups of an academic year as they were on a day. With complete, a member on that day whom the batch does not
    name leaves on the day before; one who is to join later stays.
    """

    school: SchoolRef | UnsetType = UNSET
    academic_year: AcademicYearText
    as_of: date
    complete: bool = False
    entries: list[GroupEntry]


MemberSpells = dict[tuple[UUID, date], date | None]
"""Memberships of one group: by pupil and first day, the last day."""


@dataclass
class GroupRow:
    """An entry, its school, the pupils that its members are (by their index), and the stored group.

    `before` are the memberships that are stored, `after` those that are to be. `spared_ids` stay in a complete group though
    it does not name them. `has_retired` says whether it names a member by a retired identifier.
    """

    at: int
    entry: GroupEntry
    school: SchoolInReach
    pupil_ids: dict[int, UUID]
    id: UUID
    has_retired: bool = False
    spared_ids: set[UUID] = field(default_factory=set)
    stored: Any = None
    before: MemberSpells = field(default_factory=dict)
    after: MemberSpells = field(default_factory=dict)


@command(scope=Scope.GROUPS_WRITE, fails=(Invalid, NotFound))
async def record_groups(connection: Connection, caller: Caller, batch: Batch[GroupBatch, GroupEntry]) -> Recorded:
    """Record groups and who is in them. The same batch twice changes nothing; a group absent from a batch stays as it is."""
    year = check_head(batch)
    schools = await resolve_schools(connection, caller, Scope.GROUPS_WRITE, batch)
    without_school = [(at, entry) for at, entry in batch.list_bad_rows() if at not in schools]
    check_without_school(batch, without_school)
    if not schools:
        batch.refuse_if_strict()
        return batch.summarise()
    tenant_id = next(iter(schools.values())).tenant_id
    bad_rows = [(at, entry) for at, entry in batch.list_bad_rows() if at in schools]
    entries = await batch.reject_duplicates(
        batch.list_good_rows(), lambda row: (row[0], (schools[row[0]].id, row[1].code)), "school and code"
    )
    locks = SchoolLocks(connection, tenant_id)
    members, with_retired, remaining = await find_members(connection, caller, locks, tenant_id, batch, entries, bad_rows, schools)
    rows = [
        GroupRow(at, entry, schools[at], members[at], new_id(GROUP), at in with_retired, remaining[at]) for at, entry in entries
    ]
    bad = [GroupRow(at, entry, schools[at], members[at], new_id(GROUP)) for at, entry in bad_rows]
    birthdays = await read_birthdays(connection, tenant_id, [*rows, *bad])
    for row in (*rows, *bad):
        reject_impossible_members(batch, row.at, row.entry, {i: birthdays.get(id_, date.min) for i, id_ in row.pupil_ids.items()})
    if year is None or not hasattr(batch.head, "as_of"):
        batch.refuse_if_strict()
        return batch.summarise()
    await read_stored(connection, tenant_id, year, rows)
    await spare_new_identities(connection, tenant_id, rows)
    changed = [row for row in rows if compare_with_stored(batch, row)]
    if bad := [row for row in bad if isinstance(getattr(row.entry, "code", None), str)]:
        await read_stored(connection, tenant_id, year, bad)
    for row in bad:
        with suppress(Unreadable):
            compare_with_stored(batch, row)
    batch.refuse_if_strict()
    if changed:
        await write_groups(connection, tenant_id, year, changed)
    return batch.summarise()


def check_head(batch: Batch[GroupBatch, GroupEntry]) -> int | None:
    """Returns the calendar year in which the academic year begins, None where it is not known; adds the faults of the head."""
    text, as_of, year = getattr(batch.head, "academic_year", None), getattr(batch.head, "as_of", None), None
    try:
        year = None if text is None else parse_academic_year(text)
    except ValueError as problem:
        batch.fault("/academicYear", "academic-year-invalid", str(problem))
    if as_of is None:
        return year
    first, last = (date.min, date.max) if year is None else academic_year_range(year)
    faults = len(batch.faults)
    if not first <= as_of <= last:
        batch.fault("/asOf", "outside-academic-year", "asOf lies outside the academic year of the groups.")
    elif (impossible := find_date_problem(as_of)) is not None:
        batch.fault("/asOf", IMPLAUSIBLE, impossible)
    if len(batch.faults) > faults:  # the rows are checked as if it could not be read
        batch.head = copy_fields(batch.head, GroupBatch, as_of=UNREADABLE)
    return year


def check_without_school(batch: Batch[GroupBatch, GroupEntry], rows: list[tuple[int, GroupEntry]]) -> None:
    """Rejects rows whose school is not known for what is wrong with their members whatever is stored."""
    members, positions = list_members(batch, rows)
    reject_malformed_keys(members, members.rows + members.partial_rows)
    copy_issues(batch, members, positions)
    for at, entry in rows:
        reject_impossible_members(batch, at, entry, {})


def list_members(
    batch: Batch[GroupBatch, GroupEntry], rows: Iterable[tuple[int, GroupEntry]]
) -> tuple[Batch[Any, Any], list[tuple[int, int]]]:
    """Returns the members of these rows as a batch, and of each the index of its row and its index there."""
    found = [(at, i, member) for at, entry in rows for i, member in list_readable(getattr(entry, "members", []))]
    members: Batch[Any, Any] = Batch(batch.head, [], len(found))
    for n, (_, _, member) in enumerate(found):
        members.add_row(n, member)
    return members, [(at, i) for at, i, _ in found]


def copy_issues(batch: Batch[GroupBatch, GroupEntry], members: Batch[Any, Any], positions: list[tuple[int, int]]) -> None:
    """Adds the issues of members, each with its place in the batch."""
    for issue in members.issues:
        _, _, row, *path = issue.at.split("/")
        at, i = positions[int(row)]
        batch.issues.append(structs.replace(issue, at="/".join(["", "entries", str(at), "members", str(i), *path])))


async def find_members(
    connection: Connection,
    caller: Caller,
    locks: SchoolLocks,
    tenant_id: UUID,
    batch: Batch[GroupBatch, GroupEntry],
    entries: list[tuple[int, GroupEntry]],
    bad_rows: list[tuple[int, GroupEntry]],
    schools: dict[int, SchoolInReach],
) -> tuple[dict[int, dict[int, UUID]], set[int], dict[int, set[UUID]]]:
    """Returns the pupil of every member that is found, by the index of the entry and then of the member, and the indexes
    of the entries with a member of a retired identifier, and to whom the keys of the members point that were not found; adds
    an issue for each of these.

    With handling=lenient the members that are found are still recorded. Those of bad rows are only looked for.
    """
    members, positions = list_members(batch, (*entries, *bad_rows))
    bad_indexes = {at for at, _ in bad_rows}
    for n, (at, _) in enumerate(positions):
        if at in bad_indexes:
            members.drop(n)
    member_schools = {n: schools[at] for n, (at, _) in enumerate(positions)}
    matches = await find_and_lock_pupils(
        connection, caller, locks, tenant_id, members, member_schools, {schools[at].id for at, _ in entries}
    )
    copy_issues(batch, members, positions)
    pupil_ids: dict[int, dict[int, UUID]] = {at: {} for at, _ in (*entries, *bad_rows)}
    for n, pupil_id in matches.items():
        at, i = positions[n]
        pupil_ids[at][i] = pupil_id
    lost = {
        n: (member_schools[n].id, row.id or None, row.reference or None, find_upn(row.upn))
        for n, row in members.rows
        if n not in matches
    }
    named = [(n, describe_id(id_)) for n, key in lost.items() if (id_ := parse_id(key[1] or "")) is not None]
    retired = await find_retired(connection, tenant_id, named)
    indicated = await find_indicated(connection, caller, tenant_id, list(lost.values()), Scope.GROUPS_WRITE)
    remaining: dict[int, set[UUID]] = {at: set() for at in pupil_ids}
    for n, ids in zip(lost, indicated, strict=True):
        remaining[positions[n][0]] |= ids
    retired |= {members.find_index(issue) for issue in members.issues if issue.code == RETIRED}
    return pupil_ids, {positions[n][0] for n in retired}, remaining


async def spare_new_identities(connection: Connection, tenant_id: UUID, rows: list[GroupRow]) -> None:
    """Sets who stays in a complete group that names a member by a retired identifier: it may be any member with a new
    identity. At most one statement.
    """
    rows = [row for row in rows if row.has_retired]
    spared = await find_new_identities(connection, tenant_id, {pupil_id for row in rows for pupil_id, _ in row.before})
    for row in rows:
        row.spared_ids |= spared


_STORED = """
SELECT x.n, g.id, g.name, g.kind, g.version FROM unnest($2::uuid[], $3::text[]) WITH ORDINALITY AS x (school_id, code, n)
JOIN groups g ON g.tenant_id = $1 AND g.school_id = x.school_id AND g.academic_year = $4 AND g.code = x.code
"""
_MEMBERS = "SELECT group_id, pupil_id, from_on, to_on FROM group_members WHERE tenant_id = $1 AND group_id = ANY ($2)"


async def read_stored(connection: Connection, tenant_id: UUID, year: int, rows: list[GroupRow]) -> None:
    """Sets `id`, `stored` and `before` of the rows whose groups are stored. Two statements."""
    keys = transpose([(row.school.id, row.entry.code) for row in rows], 2)
    for stored in await connection.fetch(_STORED, tenant_id, *keys, year):
        row = rows[stored["n"] - 1]
        row.id, row.stored = stored["id"], stored
    by_id = {row.id: row for row in rows}
    for spell in await connection.fetch(_MEMBERS, tenant_id, list(by_id)):
        by_id[spell["group_id"]].before[spell["pupil_id"], spell["from_on"]] = spell["to_on"]


_BIRTHDAYS = "SELECT id, date_of_birth FROM pupils WHERE tenant_id = $1 AND id = ANY ($2)"


async def read_birthdays(connection: Connection, tenant_id: UUID, rows: list[GroupRow]) -> dict[UUID, date]:
    """Returns the dates of birth of the members whom the batch names, by pupil."""
    pupil_ids = {pupil_id for row in rows for pupil_id in row.pupil_ids.values()}
    return {row["id"]: row["date_of_birth"] for row in await connection.fetch(_BIRTHDAYS, tenant_id, list(pupil_ids))}


def reject_impossible_members(batch: Batch[GroupBatch, GroupEntry], at: int, entry: GroupEntry, birthdays: dict[int, date]) -> None:
    """Rejects a row with a membership that begins on an impossible day, by the rules of spells on roll. `birthdays` are those
    of the members who were found, by their index; the row is recorded without any other.
    """
    as_of = getattr(batch.head, "as_of", None)
    for i, member in list_readable(getattr(entry, "members", [])):
        from_on = getattr(member, "from_", None)
        begins = as_of if from_on is UNSET else from_on
        problem = None if begins is None else find_first_day_problem(begins, birthdays.get(i, date.min))
        if problem is not None and i in birthdays:
            batch.reject(at, f"members/{i}/from", "spell-implausible", problem)
        elif problem is not None:
            batch.issues.append(Issue(f"{batch.make_pointer(at)}/members/{i}/from", "spell-implausible", problem))


def compare_with_stored(batch: Batch[GroupBatch, GroupEntry], row: GroupRow) -> bool:
    """Sets `after`, records the row's outcome or rejects it, and returns whether the row is to be written."""
    head, entry = batch.head, row.entry
    spells, members = dict(row.before), dict(list_readable(entry.members)) if row.pupil_ids else {}
    for i, pupil_id in row.pupil_ids.items():
        member = members[i]
        covering = [from_on for who, from_on in list_members_on(spells, head.as_of) if who == pupil_id]
        begins = member.from_ if member.from_ is not UNSET else max(covering, default=head.as_of)
        ends = member.to if member.to is not UNSET else spells.get((pupil_id, begins))
        if ends is not None and ends < begins:
            batch.reject(row.at, f"members/{i}/to", "membership-inverted", "A membership cannot end before it begins.")
        spells[pupil_id, begins] = ends
    if head.complete:  # a member who was not found is nobody who is in the group, unless a key pointed to one or is retired
        named = {*row.pupil_ids.values(), *row.spared_ids}
        leavers = [key for key in list_members_on(spells, head.as_of) if key[0] not in named]
        spells |= dict.fromkeys(leavers, head.as_of - timedelta(days=1))
    row.after = {(pupil_id, from_on): to for (pupil_id, from_on), to in spells.items() if to is None or to >= from_on}
    overlapping = set(find_overlaps(row.after))
    for i, pupil_id in row.pupil_ids.items():
        if pupil_id in overlapping:
            batch.reject(row.at, f"members/{i}", "spells-overlap", "This pupil would be in the group twice on one day.")
    if batch.is_rejected(row.at):
        return False
    if row.stored is None:
        batch.record_outcome(row.at, "created", row.id, 1)
        return True
    if row.after == row.before and (entry.name, entry.kind) == (row.stored["name"], row.stored["kind"]):
        batch.record_outcome(row.at, "unchanged", row.id, row.stored["version"])
        return False
    batch.record_outcome(row.at, "updated", row.id, row.stored["version"] + 1)
    return True


def list_members_on(spells: MemberSpells, day: date) -> list[tuple[UUID, date]]:
    """Returns the keys (pupil, first day) of the memberships on a day."""
    return [(pupil_id, from_on) for (pupil_id, from_on), to in spells.items() if from_on <= day and (to is None or to >= day)]


def find_overlaps(spells: MemberSpells) -> Iterator[UUID]:
    """Returns the pupils who would be in the group twice on one day."""
    for earlier, later in pairwise(sorted(spells)):
        ended = spells[earlier]
        if earlier[0] == later[0] and (ended is None or ended >= later[1]):
            yield earlier[0]


_UPSERT_GROUPS = """
INSERT INTO groups AS g (tenant_id, academic_year, changed_at, id, school_id, code, name, kind)
SELECT $1, $2, clock_timestamp(), * FROM unnest($3::uuid[], $4::uuid[], $5::text[], $6::text[], $7::text[])
ON CONFLICT (tenant_id, id) DO UPDATE SET name = excluded.name, kind = excluded.kind, version = g.version + 1,
    changed_at = excluded.changed_at, xid = pg_current_xact_id()
"""
_DELETE_MEMBERS = """
DELETE FROM group_members m USING unnest($2::uuid[], $3::uuid[], $4::date[]) AS x (group_id, pupil_id, from_on)
WHERE m.tenant_id = $1 AND m.group_id = x.group_id AND m.pupil_id = x.pupil_id AND m.from_on = x.from_on
"""
_UPSERT_MEMBERS = """
INSERT INTO group_members (tenant_id, group_id, pupil_id, from_on, school_id, to_on)
SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::date[], $5::uuid[], $6::date[])
ON CONFLICT (tenant_id, group_id, pupil_id, from_on) DO UPDATE SET to_on = excluded.to_on
"""


async def write_groups(connection: Connection, tenant_id: UUID, year: int, rows: list[GroupRow]) -> None:
    """Writes the changed groups and memberships. At most three statements."""
    group_rows = [(row.id, row.school.id, row.entry.code, row.entry.name, row.entry.kind) for row in rows]
    await connection.execute(_UPSERT_GROUPS, tenant_id, year, *transpose(group_rows, 5))
    deleted = [(row.id, *key) for row in rows for key in row.before.keys() - row.after.keys()]
    if deleted:
        await connection.execute(_DELETE_MEMBERS, tenant_id, *transpose(deleted, 3))
    upserted = [
        (row.id, *key, row.school.id, to) for row in rows for key, to in row.after.items() if row.before.get(key, key) != to
    ]
    if upserted:
        await connection.execute(_UPSERT_MEMBERS, tenant_id, *transpose(upserted, 5))
