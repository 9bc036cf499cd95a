"""Keeping the public register as GIAS publishes it: trusts, schools, dated memberships and succession, and who controls each school's data.

Rows are matched by GIAS's own keys (Group UID, URN) and written by a fixed number of statements, however many there are; what says
nothing new is not written. An import never moves pupil data: where a school that holds some has changed trust, it stays with the
tenant that has it and is reported as needing a transfer.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql

from domain.engine.command import Output
from domain.engine.database import Connection
from domain.engine.ids import new_id
from domain.files.gias import TRUST_TYPES, Establishment, Extract, Group, GroupLink
from domain.roster.schools import SCHOOL, schools
from domain.roster.trusts import MEMBERSHIP, TRUST, memberships, trusts

OTHER_GROUPS = {
    1: "Federation",
    2: "Trust",
    5: "School sponsor",
    7: "Umbrella trust",
    8: "Children's Centres Group",
    9: "Children's Centres Collaboration",
}
"""GIAS's names of the group types that are no academy trusts, for the report; a type it adds later is shown by its code."""

OLDEST = 99
"""A statutory age above this one, in years, is a slip of the pen."""


# What an import answers.


class Counts(Output):
    """What became of the rows of one kind: received = created + updated + unchanged + all that were ignored, by reason."""

    received: int
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    ignored: dict[str, int] = {}


class ImportIssue(Output):
    """Something wrong. An `error` kept its row, or the whole file, out; `file` and `line` are null where only the message names the rows."""

    file: str | None = None
    line: int | None = None
    column: str
    code: str
    message: str
    severity: Literal["error", "note"] = "note"


class TransferNeeded(Output):
    """A school that another tenant should control, were there not pupil data with the present one."""

    school_id: str
    urn: int
    from_tenant_id: str
    to_tenant_id: str


class ImportReport(Output):
    """What became of an extract. `succession` counts links between schools; `unread`, the rows and files that could not be read.

    `ended` counts memberships that ended because their link is gone, and `moved`, schools known before that came under another tenant.
    """

    unread: int
    trusts: Counts
    schools: Counts
    memberships: Counts
    succession: Counts
    ended: int
    moved: int
    transfer_needed: list[TransferNeeded]
    issues: list[ImportIssue]


# The rules. None of these functions reads or writes anything.


class Membership(NamedTuple):
    """A row of `memberships`, in the order of its columns."""

    id: UUID
    trust_id: UUID
    school_id: UUID
    joined_on: date | None
    left_on: date | None


class Known(NamedTuple):
    """A trust or school of the register, as it stands after this import."""

    id: UUID
    status: str
    closed_on: date | None


class Register(NamedTuple):
    """What memberships are judged by: trusts by Group UID, schools by URN, and the day the extract was made."""

    trusts: Mapping[int, Known]
    schools: Mapping[int, Known]
    as_of: date

    def is_current(self, link: GroupLink) -> bool:
        """Whether the school is in the trust on that day: it has joined, and the trust has not closed."""
        closed_on = self.closed_on(link)
        begun = link.joined_on is None or link.joined_on <= self.as_of
        return begun and self.trusts[link.group_uid].status != "closed" and (closed_on is None or closed_on > self.as_of)

    def closed_on(self, link: GroupLink) -> date | None:
        """The day the trust closed, from the link or else from the trust itself."""
        return link.group_closed_on or self.trusts[link.group_uid].closed_on


def trust_rows(groups: Iterable[Group], ignored: Counter[str]) -> list[tuple[Any, ...]]:
    """Rows of `trusts`, in the order of its columns. Companies are incorporated, so that is when a trust opened."""
    rows: list[tuple[Any, ...]] = []
    for group in groups:
        kind = TRUST_TYPES.get(group.type_code)
        if kind is None:
            ignored[f"not-a-trust: {_type_name(group.type_code)}"] += 1
            continue
        name_and_kind = (group.group_id, group.name, kind, group.status, group.companies_house_number, group.ukprn)
        rows.append((new_id(TRUST), group.uid, *name_and_kind, group.incorporated_on or group.opened_on, group.closed_on))
    return rows


def school_rows(establishments: Iterable[Establishment], ignored: Counter[str], issues: list[ImportIssue]) -> list[tuple[Any, ...]]:
    """Rows of `schools`, in the order of its columns. A new school is a tenant of its own until its membership says otherwise."""
    rows: list[tuple[Any, ...]] = []
    for e in establishments:
        if e.la_code is None:
            ignored["no-local-authority"] += 1
            issues.append(ImportIssue(column="LA (code)", code="gias-missing-value", message=f"URN {e.urn} has no local authority and is ignored"))
            continue
        if max(e.low_age or 0, e.high_age or 0) > OLDEST:
            ignored["impossible-age"] += 1
            message = f"URN {e.urn} has a statutory age above {OLDEST} and is ignored"
            issues.append(ImportIssue(column="StatutoryHighAge", code="gias-impossible-age", message=message))
            continue
        id_ = new_id(SCHOOL)
        names = (e.urn, e.laestab, e.ukprn, e.name, e.la_code, e.la_name or e.la_code, e.type_name, e.phase, e.status)
        rows.append((id_, id_, *names, e.low_age, e.high_age, e.opened_on, e.closed_on, e.town, e.postcode))
    return rows


def usable_links(links: Iterable[GroupLink], register: Register, ignored: Counter[str], issues: list[ImportIssue]) -> list[GroupLink]:
    """Links of schools with trusts that the register knows. Where a school is in two trusts at once, the later joined counts."""
    usable: list[GroupLink] = []
    current: dict[int, GroupLink] = {}
    for link in sorted(links, key=lambda link: (link.joined_on or date.min, link.group_uid), reverse=True):
        if link.type_code not in TRUST_TYPES:
            ignored[f"not-a-trust-link: {_type_name(link.type_code)}"] += 1
        elif link.urn not in register.schools:
            ignored["unknown-establishment"] += 1
        elif link.group_uid not in register.trusts:
            ignored["unknown-group"] += 1
        elif not register.is_current(link):
            usable.append(link)
        elif (kept := current.setdefault(link.urn, link)) is link:
            usable.append(link)
        else:
            ignored["second-trust"] += 1
            message = f"URN {link.urn} is in groups {link.group_uid} and {kept.group_uid} at once; {kept.group_uid} is kept"
            issues.append(ImportIssue(column="Group UID", code="gias-second-trust", message=message))
    return usable


def continued(link: GroupLink, spells: Iterable[Membership]) -> Membership | None:
    """Which of the school's spells in this trust the link speaks of; None if it is a new one, joined after all of them had ended.

    So a corrected date of joining changes a spell, and a school that left and came back has two.
    """
    same = [
        spell
        for spell in spells
        if spell.left_on is None or link.joined_on is None or link.joined_on == spell.joined_on or link.joined_on <= spell.left_on
    ]
    return max(same, key=lambda s: (s.joined_on == link.joined_on, s.left_on is None, s.left_on or date.min), default=None)


def linked(links: Iterable[GroupLink], register: Register, stored: Iterable[Membership]) -> list[Membership]:
    """The membership each link speaks of, as it is to be."""
    spells: dict[tuple[UUID, UUID], list[Membership]] = {}
    for spell in stored:
        spells.setdefault((spell.trust_id, spell.school_id), []).append(spell)
    rows: list[Membership] = []
    for link in links:
        pair = register.trusts[link.group_uid].id, register.schools[link.urn].id
        spell = continued(link, spells.get(pair, ()))
        rows.append(Membership(spell.id if spell else new_id(MEMBERSHIP), *pair, link.joined_on, register.closed_on(link)))
    return rows


def ended(
    register: Register, stored: Iterable[Membership], rows: Sequence[Membership], covered: Mapping[UUID, int], complete: bool, issues: list[ImportIssue]
) -> list[Membership]:
    """Memberships that lasted, have no link in this extract any more, and are known to have ended; each with its last day.

    An extract may be a slice, so a missing link alone ends nothing. The school or the trust has closed, or the school has joined another
    trust; or else the extract has this school (`covered`: its id → URN) and links of this trust, and no row that could not be read
    (it might be this link): then the last day is the day of the extract.
    """
    closed_on = {known.id: known.closed_on for of in (register.trusts, register.schools) for known in of.values() if known.status == "closed"}
    spoken_of = {row.id for row in rows}
    joined: dict[UUID, list[date]] = {}
    for row in rows:
        if row.joined_on:
            joined.setdefault(row.school_id, []).append(row.joined_on)
    with_links = {row.trust_id for row in rows}
    gone: list[Membership] = []
    for spell in stored:
        if spell.left_on is not None or spell.id in spoken_of:
            continue
        began = spell.joined_on or date.min
        ends = [day for of in (spell.trust_id, spell.school_id) if (day := closed_on.get(of))]
        ends += [day - timedelta(1) for day in joined.get(spell.school_id, ()) if day > began]
        if ends:
            gone.append(spell._replace(left_on=min(ends)))
        elif spell.school_id in covered and spell.trust_id in with_links:
            if complete:
                gone.append(spell._replace(left_on=register.as_of))
            else:
                message = f"URN {covered[spell.school_id]} has lost its link to a trust, but as rows could not be read its membership is kept"
                issues.append(ImportIssue(column="URN", code="gias-membership-kept", message=message))
    return gone


def _type_name(code: int) -> str:
    return OTHER_GROUPS.get(code, f"group type {code}")


# SQL.

# Nobody else changes the register meanwhile; readers, and writers of pupils' data, are not kept waiting.
_LOCK = "LOCK TABLE trusts, schools, memberships, succession IN SHARE ROW EXCLUSIVE MODE"

_SUCCEED = "INSERT INTO succession SELECT * FROM unnest($1::integer[], $2::integer[]) ON CONFLICT DO NOTHING RETURNING predecessor_urn"

# The data of a closed school stays with whoever controlled it. The lock makes a writer of its pupils come before or after.
_MISPLACED = """
SELECT s.id, s.urn, s.tenant_id, c.tenant_id AS controller
FROM schools s
LEFT JOIN LATERAL (
    SELECT m.trust_id FROM memberships m JOIN trusts t ON t.id = m.trust_id AND t.status <> 'closed'
    WHERE m.school_id = s.id AND (m.joined_on IS NULL OR m.joined_on <= $2) AND (m.left_on IS NULL OR m.left_on > $2)
    ORDER BY m.joined_on DESC NULLS LAST, m.id LIMIT 1
) m ON true
CROSS JOIN LATERAL (SELECT COALESCE(m.trust_id, CASE WHEN s.status = 'closed' THEN s.tenant_id ELSE s.id END)) c (tenant_id)
WHERE s.id = ANY ($1) AND s.tenant_id <> c.tenant_id
ORDER BY s.id FOR UPDATE OF s
"""

_MOVE = "UPDATE schools s SET tenant_id = g.tenant_id FROM unnest($1::uuid[], $2::uuid[]) AS g (id, tenant_id) WHERE s.id = g.id"


@cache
def _write_sql(table: Table, key: str) -> str:
    """Inserts the rows whose key is new, updates those that differ, and leaves the others untouched, not even locked."""
    types = ", ".join(f"${n}::{column.type.compile(dialect=postgresql.dialect())}[]" for n, column in enumerate(table.columns, 1))
    names = [column.name for column in table.columns]
    said = [name for name in names if name not in ("id", "tenant_id", key)]
    return f"""
    INSERT INTO {table.name} ({", ".join(names)})
    SELECT g.* FROM unnest({types}) AS g ({", ".join(names)}) LEFT JOIN {table.name} t ON t.{key} = g.{key}
    WHERE t.{key} IS NULL OR ({", ".join("t." + name for name in said)}) IS DISTINCT FROM ({", ".join("g." + name for name in said)})
    ON CONFLICT ({key}) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in said)}
    RETURNING {key} AS key, xmax = 0 AS created
    """  # xmax is 0 in a row that was just inserted, and this transaction in one that was updated


class Written(NamedTuple):
    """Keys of the rows that were inserted, and of those that were changed."""

    created: set[Any]
    updated: set[Any]

    def counts(self, received: int, ignored: Counter[str]) -> Counts:
        unchanged = received - len(self.created) - len(self.updated) - ignored.total()
        return Counts(received=received, created=len(self.created), updated=len(self.updated), unchanged=unchanged, ignored=dict(ignored))


async def _write(connection: Connection, table: Table, key: str, rows: Sequence[Sequence[Any]]) -> Written:
    columns = list(zip(*rows, strict=True)) or [()] * len(table.columns)
    written = await connection.fetch(_write_sql(table, key), *columns)
    return Written({row["key"] for row in written if row["created"]}, {row["key"] for row in written if not row["created"]})


async def _known(connection: Connection, as_of: date) -> Register:
    found = []
    for table, key in ((trusts, "group_uid"), (schools, "urn")):
        rows = await connection.fetch(f"SELECT {key}, id, status, closed_on FROM {table.name}")
        found.append({row[key]: Known(row["id"], row["status"], row["closed_on"]) for row in rows})
    return Register(found[0], found[1], as_of)


# Applying an extract.


async def apply_gias(
    connection: Connection, extract: Extract, as_of: date, on_progress: Callable[[str, int, int], None] | None = None
) -> ImportReport:
    """Write what the extract of the day `as_of` says into the register, inside the caller's transaction. The same extract twice writes no row.

    Rows that the register has and the extract has not are left alone: an extract may be a slice. Grants follow, in the same transaction.
    `on_progress` is told a kind of row, how many of it are done, and of how many.
    """
    tell = on_progress or (lambda kind, done, of: None)
    unread = {(issue.file, issue.line) for issue in extract.issues if issue.severity == "error"}
    issues = [ImportIssue(file=i.file, line=i.line, column=i.column, code=i.code, message=i.message, severity=i.severity) for i in extract.issues]
    await connection.execute(_LOCK)

    groups, ignored_groups = len(extract.groups), Counter[str]()
    tell("trusts", 0, groups)
    of_trusts = await _write(connection, trusts, "group_uid", trust_rows(extract.groups, ignored_groups))
    tell("trusts", groups, groups)

    establishments, ignored_schools = len(extract.establishments), Counter[str]()
    tell("schools", 0, establishments)
    of_schools = await _write(connection, schools, "urn", school_rows(extract.establishments, ignored_schools, issues))
    tell("schools", establishments, establishments)

    links, ignored_links = len(extract.links), Counter[str]()
    tell("memberships", 0, links)
    register = await _known(connection, as_of)
    stored = [Membership(*row) for row in await connection.fetch("SELECT id, trust_id, school_id, joined_on, left_on FROM memberships")]
    rows = linked(usable_links(extract.links, register, ignored_links, issues), register, stored)
    covered = {register.schools[e.urn].id: e.urn for e in extract.establishments if e.urn in register.schools}
    gone = ended(register, stored, rows, covered, not unread, issues)
    written = await _write(connection, memberships, "id", [*rows, *gone])
    of_links = Written(written.created, written.updated - {row.id for row in gone})
    tell("memberships", links, links)

    succession = await _succeed(connection, extract.establishments, tell)
    concerned = covered.keys() | {row.school_id for row in [*rows, *gone]}
    moved, transfers = await _place(connection, concerned, as_of)
    newly_placed = moved - of_schools.created
    of_schools.updated.update(newly_placed & {e.urn for e in extract.establishments})
    if of_trusts.created or of_schools.created or moved:
        await connection.execute("SELECT derive_reach()")
    return ImportReport(
        unread=len(unread),
        trusts=of_trusts.counts(groups, ignored_groups),
        schools=of_schools.counts(establishments, ignored_schools),
        memberships=of_links.counts(links, ignored_links),
        succession=succession,
        ended=len(gone),
        moved=len(newly_placed),
        transfer_needed=transfers,
        issues=issues,
    )


async def _succeed(connection: Connection, establishments: Iterable[Establishment], tell: Callable[[str, int, int], None]) -> Counts:
    """Writes which URN follows which, from the links of both; one of the two may be unknown to the register."""
    pairs: set[tuple[int, int]] = set()
    ignored: Counter[str] = Counter()
    said = [(link.urn, e.urn) if link.kind == "predecessor" else (e.urn, link.urn) for e in establishments for link in e.links]
    tell("succession", 0, len(said))
    for pair in said:
        if pair[0] == pair[1]:
            ignored["follows-itself"] += 1
        elif pair in pairs:
            ignored["said-by-both-schools"] += 1
        pairs.add(pair)
    distinct = [pair for pair in pairs if pair[0] != pair[1]]
    created = await connection.fetch(_SUCCEED, [before for before, _ in distinct], [after for _, after in distinct])
    tell("succession", len(said), len(said))
    return Counts(received=len(said), created=len(created), unchanged=len(distinct) - len(created), ignored=dict(ignored))


async def _place(connection: Connection, school_ids: Iterable[UUID], as_of: date) -> tuple[set[int], list[TransferNeeded]]:
    """Gives schools without pupil data to the tenant that controls them on this day; URNs of those that moved, and the others."""
    misplaced = await connection.fetch(_MISPLACED, list(school_ids), as_of)
    # A statement of its own, after the lock: it sees pupils that were being written when the lock was asked for.
    holding = set(await connection.fetchval("SELECT holds_pupils($1)", [row["id"] for row in misplaced]))
    free = [row for row in misplaced if row["id"] not in holding]
    await connection.execute(_MOVE, [row["id"] for row in free], [row["controller"] for row in free])
    transfers = [
        TransferNeeded(school_id=str(row["id"]), urn=row["urn"], from_tenant_id=str(row["tenant_id"]), to_tenant_id=str(row["controller"]))
        for row in misplaced
        if row["id"] in holding
    ]
    return {row["urn"] for row in free}, transfers
