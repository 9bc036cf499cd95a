"""Writes a GIAS extract into the register: trusts, schools, memberships, successions, and which tenant controls each
school.

Rows are matched by GIAS's keys (Group UID, URN) and written by a fixed number of statements for each part of the rows;
rows that do not differ are not written. An import never moves pupil data: a school that has some and has changed trust
stays with its tenant and is reported as needing a transfer.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import cache
from typing import Any
from uuid import UUID

from msgspec.structs import asdict
from sqlalchemy import Table

from domain.read.statement import DIALECT
from domain.roster.gias.report import ImportIssue, ImportReport, RowTally, TransferNeeded
from domain.roster.gias.rows import Extract
from domain.roster.gias.rules import (
    MembershipRow,
    Register,
    RegisteredRow,
    choose_links,
    find_ended_memberships,
    list_successions,
    make_membership_rows,
    make_school_rows,
    make_trust_rows,
)
from domain.roster.schools import schools
from domain.roster.trusts import memberships, trusts
from domain.store.database import Connection
from domain.support.slices import run_in_thread, split_into_parts

_LOCK = "LOCK TABLE trusts, schools, memberships, succession IN SHARE ROW EXCLUSIVE MODE"
"""Serialises imports. Neither reads nor writes of pupil data wait for it."""
_MEMBERSHIPS = "SELECT id, trust_id, school_id, joined_on, left_on FROM memberships"

_INSERT_SUCCESSIONS = """
INSERT INTO succession (predecessor_urn, successor_urn) SELECT * FROM unnest($1::integer[], $2::integer[]) ON CONFLICT DO NOTHING
RETURNING predecessor_urn, successor_urn
"""

_KEEP_LAESTABS = """
INSERT INTO former_laestabs (school_id, laestab, replaced_on)
SELECT s.id, s.laestab, $3 FROM unnest($1::integer[], $2::text[]) AS g (urn, laestab) JOIN schools s ON s.urn = g.urn
WHERE s.laestab IS DISTINCT FROM g.laestab AND s.laestab IS NOT NULL
ON CONFLICT (school_id, laestab) DO UPDATE SET replaced_on = excluded.replaced_on
"""
_DROP_LAESTABS = "DELETE FROM former_laestabs f USING schools s WHERE s.id = f.school_id AND s.laestab = f.laestab"
"""A school that has its former LAESTAB again."""

_SCHOOLS_TO_MOVE = """
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
"""Schools whose tenant is not the controller of that day. A closed school stays with its tenant.

The lock keeps new pupils out of schools that are moved.
"""

_MOVE = "UPDATE schools s SET tenant_id = g.tenant_id FROM unnest($1::uuid[], $2::uuid[]) AS g (id, tenant_id) WHERE s.id = g.id"

_DERIVE_REACH_OF_AUTHORITIES = """
SELECT derive_reach(array_agg(DISTINCT client_id)) FROM grants WHERE target = 'localAuthority' AND revoked_at IS NULL HAVING count(*) > 0
"""
"""A grant on a local authority reaches the schools that it maintains today. No other reach depends on what changes in a school."""


@cache
def _write_sql(table: Table, key: str) -> str:
    """Returns SQL that inserts rows with a new key and updates rows that differ.

    Other rows are neither written nor locked.
    """
    columns = [column for column in table.columns if column.server_default is None]  # the database fills the others
    names = [column.name for column in columns]
    arrays = ", ".join(f"${n}::{column.type.compile(dialect=DIALECT)}[]" for n, column in enumerate(columns, 1))
    compared = [name for name in names if name not in ("id", "tenant_id", key)]
    before, after = (", ".join(f"{alias}.{name}" for name in compared) for alias in ("t", "g"))
    return f"""
    INSERT INTO {table.name} ({", ".join(names)})
    SELECT g.* FROM unnest({arrays}) AS g ({", ".join(names)}) LEFT JOIN {table.name} t ON t.{key} = g.{key}
    WHERE t.{key} IS NULL OR ({before}) IS DISTINCT FROM ({after})
    ON CONFLICT ({key}) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in compared)}
    RETURNING {key} AS key, xmax = 0 AS created
    """  # xmax is 0 in a row that was inserted, not in one that was updated


async def _write(connection: Connection, table: Table, key: str, rows: Sequence[Sequence[Any]], tally: RowTally) -> None:
    """Writes the rows of a table and adds the keys of those created and updated to the tally."""
    for part in split_into_parts(rows):
        for row in await connection.fetch(_write_sql(table, key), *zip(*part, strict=True)):
            (tally.created if row["created"] else tally.updated).add(row["key"])


async def _read_registered(connection: Connection, table: Table, key: str) -> dict[int, RegisteredRow]:
    rows = await connection.fetch(f"SELECT {key}, id, status, closed_on FROM {table.name}")
    return {row[key]: RegisteredRow(row["id"], row["status"], row["closed_on"]) for row in rows}


async def _move_schools(connection: Connection, school_ids: Collection[UUID], as_of: date) -> tuple[set[int], list[TransferNeeded]]:
    """Moves schools without pupil data to the tenant that controls them on this day; returns their URNs, and the
    transfers that the others need.
    """
    to_move = await connection.fetch(_SCHOOLS_TO_MOVE, school_ids, as_of)
    # a statement after the one that locks, so that it sees the pupils written by whoever held the lock before
    with_pupils = await connection.fetchval("SELECT holds_pupils($1)", [row["id"] for row in to_move])
    movable = [row for row in to_move if row["id"] not in with_pupils]
    await connection.execute(_MOVE, [row["id"] for row in movable], [row["controller"] for row in movable])
    transfers = [
        TransferNeeded(school_id=str(id_), urn=urn, from_tenant_id=str(tenant_id), to_tenant_id=str(controller))
        for id_, urn, tenant_id, controller in to_move
        if id_ in with_pupils
    ]
    return {row["urn"] for row in movable}, transfers


async def apply_gias(
    connection: Connection, extract: Extract, as_of: date, on_progress: Callable[[str, int, int], None] | None = None
) -> ImportReport:
    """Writes the extract of the day `as_of`, and the reach that follows from it, in the caller's transaction; returns
    the report.

    The same extract again writes no row. Rows that the extract does not have are left as they are, since an extract may
    be a part of the register. `on_progress` is called with a kind of rows, how many of them are done, and how many
    there are.
    """
    unread = {(issue.file, issue.line) for issue in extract.issues if issue.severity == "error"}
    issues = [ImportIssue(**asdict(issue)) for issue in extract.issues]

    @contextmanager
    def count_rows(kind: str, received: int) -> Iterator[RowTally]:
        if on_progress:
            on_progress(kind, 0, received)
        yield RowTally(received)
        if on_progress:
            on_progress(kind, received, received)

    await connection.execute(_LOCK)
    with count_rows("trusts", len(extract.groups)) as trust_tally:
        trust_rows = await run_in_thread(make_trust_rows, extract.groups, trust_tally)
        await _write(connection, trusts, "group_uid", trust_rows, trust_tally)
    with count_rows("schools", len(extract.establishments)) as school_tally:
        school_rows = await run_in_thread(make_school_rows, extract.establishments, school_tally, issues)
        await connection.execute(_KEEP_LAESTABS, [row[2] for row in school_rows], [row[3] for row in school_rows], as_of)
        await _write(connection, schools, "urn", school_rows, school_tally)
        await connection.execute(_DROP_LAESTABS)
    with count_rows("memberships", len(extract.links)) as membership_tally:
        register = Register(
            await _read_registered(connection, trusts, "group_uid"), await _read_registered(connection, schools, "urn"), as_of
        )
        stored = [MembershipRow(*row) for row in await connection.fetch(_MEMBERSHIPS)]
        links = await run_in_thread(choose_links, extract.links, register, membership_tally, issues)
        rows = await run_in_thread(make_membership_rows, links, register, stored, issues)
        extracted_ids = {register.schools[e.urn].id for e in extract.establishments if e.urn in register.schools}
        ended = await run_in_thread(find_ended_memberships, register, stored, rows, set() if unread else extracted_ids)
        await _write(connection, memberships, "id", [*rows, *ended], membership_tally)
        membership_tally.updated -= {row.id for row in ended}
    with count_rows("succession", sum(len(e.links) for e in extract.establishments)) as succession_tally:
        pairs = list(await run_in_thread(list_successions, extract.establishments, succession_tally))
        columns = [before for before, _ in pairs], [after for _, after in pairs]
        succession_tally.created.update(await connection.fetch(_INSERT_SUCCESSIONS, *columns))

    moved, transfer_needed = await _move_schools(connection, extracted_ids.union(row.school_id for row in [*rows, *ended]), as_of)
    moved -= school_tally.created
    school_tally.updated |= moved & {row[2] for row in school_rows}
    if trust_tally.created or school_tally.created or moved:
        await connection.execute("SELECT derive_reach()")
    elif school_tally.updated:  # their local authority, type, status or closing day
        await connection.execute(_DERIVE_REACH_OF_AUTHORITIES)
    return ImportReport(
        unread=len(unread),
        trusts=trust_tally.make_counts(),
        schools=school_tally.make_counts(),
        memberships=membership_tally.make_counts(),
        succession=succession_tally.make_counts(),
        ended=len(ended),
        moved=len(moved),
        transfer_needed=transfer_needed,
        issues=issues,
    )
