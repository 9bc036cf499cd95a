"""The public register as GIAS publishes it: trusts, schools, memberships, succession, and which tenant controls a school.

Rows are matched by GIAS's own keys (Group UID, URN) and written by a fixed number of statements, however many there are; what says
nothing new is not written. An import never moves pupil data: where a school that holds some has changed trust, it stays with the
tenant that has it and is reported as needing a transfer.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from functools import cache
from typing import Any, Literal, NamedTuple
from uuid import UUID

from msgspec.structs import asdict
from sqlalchemy import Table

from domain.declare.ids import new_id
from domain.declare.inputs import Output
from domain.read.statement import DIALECT
from domain.roster.gias.parse import TRUST_TYPES, Establishment, Extract, Group, GroupLink
from domain.roster.schools import SCHOOL, schools
from domain.roster.trusts import MEMBERSHIP, TRUST, memberships, trusts
from domain.store.database import Connection
from domain.support.slices import run_in_thread, split_into_parts

OTHER_GROUPS = {
    1: "Federation",
    2: "Trust",
    5: "School sponsor",
    7: "Umbrella trust",
    8: "Children's Centres Group",
    9: "Children's Centres Collaboration",
}
"""GIAS's names of the group types that are no academy trusts, for the report; a type it adds later is shown by its code."""

OLDEST = 99  # years; a statutory age above it is a slip of the pen


# What an import answers.


class ImportCounts(Output, kw_only=True):
    """What became of the rows of one kind: received = created + updated + unchanged + all that were ignored, by reason."""

    received: int
    created: int
    updated: int
    unchanged: int
    ignored: dict[str, int]


class ImportIssue(Output, kw_only=True):
    """Something wrong. An `error` kept its row, or the whole file, out. Without a file and a line, the message names the rows."""

    file: str | None = None
    line: int | None = None
    column: str
    code: str
    message: str
    severity: Literal["error", "note"] = "error"


class TransferNeeded(Output, kw_only=True):
    """A school that another tenant should control, were there not pupil data with the present one."""

    school_id: str
    urn: int
    from_tenant_id: str
    to_tenant_id: str


class ImportReport(Output, kw_only=True):
    """What became of an extract.

    `unread` counts rows and files that could not be read, each of them among the issues; `succession`, the links between schools;
    `ended`, memberships whose link is gone; `moved`, schools known before that came under another tenant.
    """

    unread: int
    trusts: ImportCounts
    schools: ImportCounts
    memberships: ImportCounts
    succession: ImportCounts
    ended: int
    moved: int
    transfer_needed: list[TransferNeeded]
    issues: list[ImportIssue]


# The rules. Nothing here reads or writes.


class Membership(NamedTuple):
    """A row of `memberships`, in the order of its columns."""

    id: UUID
    trust_id: UUID
    school_id: UUID
    joined_on: date | None
    left_on: date | None


class RegisteredRow(NamedTuple):
    """A trust or a school of the register, as this import has left it."""

    id: UUID
    status: str
    closed_on: date | None


class Register(NamedTuple):
    """What links are judged by: trusts by Group UID, schools by URN, and the day of the extract."""

    trusts: Mapping[int, RegisteredRow]
    schools: Mapping[int, RegisteredRow]
    as_of: date

    def closed_on(self, link: GroupLink) -> date | None:
        """The day the trust closed, from the link or else from the trust itself."""
        return link.group_closed_on or self.trusts[link.group_uid].closed_on

    def is_current(self, link: GroupLink) -> bool:
        """Whether the school is in the trust on that day: it has joined, and the trust has not closed."""
        closed_on = self.closed_on(link)
        begun = link.joined_on is None or link.joined_on <= self.as_of
        return begun and self.trusts[link.group_uid].status != "closed" and (closed_on is None or closed_on > self.as_of)


class Account:
    """Rows of one kind: how many were received, the keys of those created and updated, and why some are ignored."""

    def __init__(self, received: int) -> None:
        self.received = received
        self.created: set[Any] = set()
        self.updated: set[Any] = set()
        self.ignored: Counter[str] = Counter()

    def counts(self) -> ImportCounts:
        created, updated = len(self.created), len(self.updated)
        unchanged = self.received - created - updated - self.ignored.total()
        return ImportCounts(
            received=self.received, created=created, updated=updated, unchanged=unchanged, ignored=dict(self.ignored)
        )


def make_trust_rows(groups: Iterable[Group], account: Account) -> list[tuple[Any, ...]]:
    """Rows of `trusts`, in the order of its columns. A trust is a company: it opened when it was incorporated."""
    rows: list[tuple[Any, ...]] = []
    for g in groups:
        if kind := TRUST_TYPES.get(g.type_code):
            opened_on = g.incorporated_on or g.opened_on
            names = (g.uid, g.group_id, g.name, kind, g.status, g.companies_house_number, g.ukprn)
            rows.append((new_id(TRUST), *names, opened_on, g.closed_on))
        else:
            account.ignored[f"not-a-trust: {_name_type(g.type_code)}"] += 1
    return rows


def make_school_rows(establishments: Iterable[Establishment], account: Account, issues: list[ImportIssue]) -> list[tuple[Any, ...]]:
    """Rows of `schools`, in the order of its columns. A new school is a tenant of its own until its membership says otherwise."""
    rows: list[tuple[Any, ...]] = []
    for e in establishments:
        if e.la_code is None:
            account.ignored["no-local-authority"] += 1
            message = f"URN {e.urn} has no local authority"
            issues.append(ImportIssue(column="LA (code)", code="gias-no-local-authority", message=message))
        elif max(e.low_age or 0, e.high_age or 0) > OLDEST:
            account.ignored["impossible-age"] += 1
            message = f"URN {e.urn} has a statutory age above {OLDEST} years"
            issues.append(ImportIssue(column="StatutoryHighAge", code="gias-impossible-age", message=message))
        else:
            id_ = new_id(SCHOOL)
            names = (e.urn, e.laestab, e.ukprn, e.name, e.la_code, e.la_name or e.la_code, e.type_name, e.phase, e.status)
            rows.append((id_, id_, *names, e.low_age, e.high_age, e.opened_on, e.closed_on, e.town, e.postcode))
    return rows


def choose_links(links: Iterable[GroupLink], register: Register, account: Account, issues: list[ImportIssue]) -> list[GroupLink]:
    """Links of schools with trusts, both in the register. Of two trusts a school is in at once, the one it joined later counts."""
    usable: list[GroupLink] = []
    current: dict[int, GroupLink] = {}
    for link in sorted(links, key=lambda link: (link.joined_on or date.min, link.group_uid), reverse=True):
        if link.type_code not in TRUST_TYPES:
            account.ignored[f"not-a-trust-link: {_name_type(link.type_code)}"] += 1
        elif link.urn not in register.schools:
            account.ignored["unknown-establishment"] += 1
        elif link.group_uid not in register.trusts:
            account.ignored["unknown-group"] += 1
        elif not register.is_current(link) or (kept := current.setdefault(link.urn, link)) is link:
            usable.append(link)
        else:
            account.ignored["second-trust"] += 1
            message = f"URN {link.urn} is in groups {link.group_uid} and {kept.group_uid} at once; {kept.group_uid} is kept"
            issues.append(ImportIssue(column="Group UID", code="gias-second-trust", message=message))
    return usable


def find_continued(link: GroupLink, spells: Iterable[Membership]) -> Membership | None:
    """Which of a school's spells in a trust the link speaks of; None if it is a new one, begun after the others had ended.

    So a corrected date of joining changes a spell, and a school that left and came back has two.
    """

    def closeness(spell: Membership) -> tuple[bool, bool, date]:
        return spell.joined_on == link.joined_on, spell.left_on is None, spell.left_on or date.min

    joined_on = link.joined_on or date.min
    same = [spell for spell in spells if spell.joined_on == link.joined_on or joined_on <= (spell.left_on or date.max)]
    return max(same, key=closeness, default=None)


def link_memberships(links: Iterable[GroupLink], register: Register, stored: Iterable[Membership]) -> list[Membership]:
    """The membership each link speaks of, as it is to be."""
    spells: dict[tuple[UUID, UUID], list[Membership]] = {}
    for spell in stored:
        spells.setdefault((spell.trust_id, spell.school_id), []).append(spell)
    rows: list[Membership] = []
    for link in links:
        pair = register.trusts[link.group_uid].id, register.schools[link.urn].id
        before = find_continued(link, spells.get(pair, ()))
        rows.append(Membership(before.id if before else new_id(MEMBERSHIP), *pair, link.joined_on, register.closed_on(link)))
    return rows


def end_memberships(
    register: Register, stored: Iterable[Membership], rows: Collection[Membership], covered: Collection[UUID]
) -> list[Membership]:
    """Memberships that lasted, have no link in the extract any more and must have ended, each with its last day.

    An extract may be a slice, so a missing link alone ends nothing. Either the school or the trust has closed, or the school is in
    another trust; or else the extract has the school (it is `covered`) and links of that trust. Where nothing tells the last day, it
    is the day of the extract.
    """
    known = (*register.trusts.values(), *register.schools.values())
    closed_on = {of.id: of.closed_on for of in known if of.status == "closed"}
    joined: dict[UUID, list[date]] = {}
    for row in rows:
        joined.setdefault(row.school_id, []).append(row.joined_on or date.min)
    elsewhere = {row.school_id for row in rows if row.left_on is None}
    linked_trusts = {row.trust_id for row in rows}
    spoken_of = {row.id for row in rows}
    gone: list[Membership] = []
    for spell in stored:
        if spell.left_on is not None or spell.id in spoken_of:
            continue
        ends = [day for of in (spell.trust_id, spell.school_id) if (day := closed_on.get(of))]
        ends += [day - timedelta(1) for day in joined.get(spell.school_id, ()) if day > (spell.joined_on or date.min)]
        if not ends and (spell.school_id in elsewhere or (spell.school_id in covered and spell.trust_id in linked_trusts)):
            ends = [register.as_of]
        if ends:
            gone.append(spell._replace(left_on=min(ends)))
    return gone


def list_successions(establishments: Iterable[Establishment], account: Account) -> set[tuple[int, int]]:
    """Pairs of URNs, predecessor first, from the links of either school; the other one may be unknown."""
    pairs: set[tuple[int, int]] = set()
    for school in establishments:
        for link in school.links:
            pair = (link.urn, school.urn) if link.kind == "predecessor" else (school.urn, link.urn)
            if link.urn == school.urn:
                account.ignored["follows-itself"] += 1
            elif pair in pairs:
                account.ignored["said-by-both-schools"] += 1
            else:
                pairs.add(pair)
    return pairs


def _name_type(code: int) -> str:
    return OTHER_GROUPS.get(code, f"group type {code}")


# SQL.

# One import at a time. Readers, and writers of pupil data, are not kept waiting.
_LOCK = "LOCK TABLE trusts, schools, memberships, succession IN SHARE ROW EXCLUSIVE MODE"

_MEMBERSHIPS = "SELECT id, trust_id, school_id, joined_on, left_on FROM memberships"

_SUCCEED = """
INSERT INTO succession (predecessor_urn, successor_urn) SELECT * FROM unnest($1::integer[], $2::integer[]) ON CONFLICT DO NOTHING
RETURNING predecessor_urn, successor_urn
"""

# The data of a closed school stays with whoever controlled it. The lock keeps new pupils out of schools that are about to move.
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
    """Inserts rows whose key is new, updates those that differ, and leaves the others alone: they are not even locked."""
    names = [column.name for column in table.columns]
    given = ", ".join(f"${n}::{column.type.compile(dialect=DIALECT)}[]" for n, column in enumerate(table.columns, 1))
    said = [name for name in names if name not in ("id", "tenant_id", key)]
    before, after = (", ".join(f"{alias}.{name}" for name in said) for alias in ("t", "g"))
    return f"""
    INSERT INTO {table.name} ({", ".join(names)})
    SELECT g.* FROM unnest({given}) AS g ({", ".join(names)}) LEFT JOIN {table.name} t ON t.{key} = g.{key}
    WHERE t.{key} IS NULL OR ({before}) IS DISTINCT FROM ({after})
    ON CONFLICT ({key}) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in said)}
    RETURNING {key} AS key, xmax = 0 AS created
    """  # xmax is 0 in a row that was inserted, not in one that was updated


async def _write(connection: Connection, table: Table, key: str, rows: Sequence[Sequence[Any]], account: Account) -> None:
    for part in split_into_parts(rows):
        for row in await connection.fetch(_write_sql(table, key), *zip(*part, strict=True)):
            (account.created if row["created"] else account.updated).add(row["key"])


async def _read_known(connection: Connection, table: Table, key: str) -> dict[int, RegisteredRow]:
    rows = await connection.fetch(f"SELECT {key}, id, status, closed_on FROM {table.name}")
    return {row[key]: RegisteredRow(row["id"], row["status"], row["closed_on"]) for row in rows}


async def _place_schools(
    connection: Connection, school_ids: Collection[UUID], as_of: date
) -> tuple[set[int], list[TransferNeeded]]:
    """Moves schools that hold no pupil data to the tenant that controls them on this day: URNs of these, and the others."""
    misplaced = await connection.fetch(_MISPLACED, school_ids, as_of)
    # A statement of its own, after the lock was granted: so it sees the pupils of whoever had it before.
    holding = await connection.fetchval("SELECT holds_pupils($1)", [row["id"] for row in misplaced])
    free = [row for row in misplaced if row["id"] not in holding]
    await connection.execute(_MOVE, [row["id"] for row in free], [row["controller"] for row in free])
    transfers = [
        TransferNeeded(school_id=str(id_), urn=urn, from_tenant_id=str(tenant_id), to_tenant_id=str(controller))
        for id_, urn, tenant_id, controller in misplaced
        if id_ in holding
    ]
    return {row["urn"] for row in free}, transfers


async def apply_gias(
    connection: Connection, extract: Extract, as_of: date, on_progress: Callable[[str, int, int], None] | None = None
) -> ImportReport:
    """Write what the extract of the day `as_of` says, and the reach that follows from it, inside the caller's transaction.

    The same extract again writes no row. What the register has and the extract has not is left as it is: an extract may be a slice.
    `on_progress` is told a kind of row, how many of it are done, and of how many.
    """
    unread = {(issue.file, issue.line) for issue in extract.issues if issue.severity == "error"}
    issues = [ImportIssue(**asdict(issue)) for issue in extract.issues]

    @contextmanager
    def accounting(kind: str, received: int) -> Iterator[Account]:
        if on_progress:
            on_progress(kind, 0, received)
        yield Account(received)
        if on_progress:
            on_progress(kind, received, received)

    await connection.execute(_LOCK)
    with accounting("trusts", len(extract.groups)) as of_trusts:
        await _write(connection, trusts, "group_uid", await run_in_thread(make_trust_rows, extract.groups, of_trusts), of_trusts)
    with accounting("schools", len(extract.establishments)) as of_schools:
        given_schools = await run_in_thread(make_school_rows, extract.establishments, of_schools, issues)
        await _write(connection, schools, "urn", given_schools, of_schools)
    with accounting("memberships", len(extract.links)) as of_links:
        register = Register(
            await _read_known(connection, trusts, "group_uid"), await _read_known(connection, schools, "urn"), as_of
        )
        stored = [Membership(*row) for row in await connection.fetch(_MEMBERSHIPS)]
        links = await run_in_thread(choose_links, extract.links, register, of_links, issues)
        rows = await run_in_thread(link_memberships, links, register, stored)
        present = {register.schools[e.urn].id for e in extract.establishments if e.urn in register.schools}
        gone = await run_in_thread(end_memberships, register, stored, rows, set() if unread else present)
        await _write(connection, memberships, "id", [*rows, *gone], of_links)
        of_links.updated -= {row.id for row in gone}
    with accounting("succession", sum(len(e.links) for e in extract.establishments)) as of_succession:
        pairs = list(await run_in_thread(list_successions, extract.establishments, of_succession))
        columns = [before for before, _ in pairs], [after for _, after in pairs]
        of_succession.created.update(await connection.fetch(_SUCCEED, *columns))

    moved, transfer_needed = await _place_schools(connection, present.union(row.school_id for row in [*rows, *gone]), as_of)
    moved -= of_schools.created
    of_schools.updated |= moved & {row[2] for row in given_schools}
    if of_trusts.created or of_schools.created or moved:  # nothing else of the register bears on reach
        await connection.execute("SELECT derive_reach()")
    return ImportReport(
        unread=len(unread),
        trusts=of_trusts.counts(),
        schools=of_schools.counts(),
        memberships=of_links.counts(),
        succession=of_succession.counts(),
        ended=len(gone),
        moved=len(moved),
        transfer_needed=transfer_needed,
        issues=issues,
    )
