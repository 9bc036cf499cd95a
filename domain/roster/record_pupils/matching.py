"""Matches the rows of a roll with stored pupils, locks them, and rejects rows that are ambiguous or about another
school's pupil.
"""

from datetime import date
from itertools import islice
from typing import Any
from uuid import UUID

from msgspec import UNSET

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.declare.scopes import Scope
from domain.roster.pupil_keys import match_keys
from domain.roster.record_pupils import leavers
from domain.roster.record_pupils.changes import SHARE, UNSHARE, PupilChanges
from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.record_pupils.identity import (
    compare_children,
    has_name_and_birthday,
    identify_rows,
    replaces_upn,
)
from domain.roster.record_pupils.row_problem import CONFLICT, NOT_SOURCE, REPLACED, RowProblem, describe_shared_upn
from domain.roster.school_refs import SchoolInReach, SchoolRef, find_schools
from domain.store.database import Connection
from domain.support.slices import iterate_in_slices
from domain.write.batch import Batch
from domain.write.locks import SchoolLocks


async def match_and_lock(
    connection: Connection,
    caller: Caller,
    locks: SchoolLocks,
    tenant_id: UUID,
    rows: list[PupilEntryRow],
    complete_school: SchoolInReach | None,
    as_of: date,
) -> list[leavers.OpenSpell]:
    """Sets whom the rows mean and locks the schools of all pupils to whom their keys belong; returns the open spells at
    `complete_school`, the school of a complete roll.

    It matches without locks, locks every school in one order, and matches again until no new pupil appears.
    """
    school_ids = {row.school.id for row in rows} | ({complete_school.id} if complete_school is not None else set())
    locked: set[UUID] | None = None
    while True:
        await match_rows(connection, caller, tenant_id, rows)
        on_roll = await leavers.read_on_roll(connection, caller, complete_school, as_of) if complete_school is not None else []
        pupil_ids = {id_ async for part in iterate_in_slices(rows) for row in part for id_ in row.matched_ids}
        pupil_ids |= {spell.pupil_id for spell in on_roll}
        if locked is not None and pupil_ids <= locked:
            await identify_rows(connection, tenant_id, rows)
            return on_roll
        await locks.lock(school_ids, pupil_ids)
        locked = pupil_ids


async def match_rows(connection: Connection, caller: Caller, tenant_id: UUID, rows: list[PupilEntryRow]) -> None:
    """Sets to whom the keys of each row belong. One statement."""
    keys = [key async for part in iterate_in_slices(rows) for row in part for key in row.keys]
    matches = iter(await match_keys(connection, caller, tenant_id, keys))
    async for part in iterate_in_slices(rows):
        for row in part:
            row.match, *row.former_matches = islice(matches, len(row.keys))


async def reject_ambiguous(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], tenant_id: UUID, rows: list[PupilEntryRow]
) -> list[PupilEntryRow]:
    """Returns the rows that mean one pupil or a new one; rejects those that may be about another child, and a pupil,
    reference or UPN that appears twice in the batch.
    """
    visible_ids = await find_visible(connection, caller, tenant_id, [row.problem for row in rows if row.problem is not None])
    seen: dict[object, PupilEntryRow] = {}
    async for part in iterate_in_slices(rows):
        for row in part:
            if row.entry.id is not UNSET and row.match.by_id is None:
                batch.reject(row.at, "id", "pupil-not-found", "No pupil of this tenant has this id.")
                continue
            if row.problem is not None:
                batch.reject(row.at, "", row.problem.code, row.problem.describe(visible_ids))
                continue
            if row.pupil_id is None and not row.is_of_source:
                message = "This pupil is not stored, and the school has named another client as the source of names and enrolments."
                batch.reject(row.at, "", NOT_SOURCE, message)
            elif row.pupil_id is None and not row.spells:
                batch.reject(row.at, "enrolments", "enrolment-required", "A new pupil needs at least one spell on roll.")
            reference = f"reference {row.school.id} {row.entry.reference}" if row.entry.reference is not UNSET else None
            upn = f"upn {row.upn}" if row.upn is not None else None
            for key in (row.pupil_id, reference, upn, *(f"upn {number}" for number in row.former_upns_to_record)):
                if key is None:
                    continue
                if (other := seen.setdefault(key, row)) is row:
                    continue
                if row.upn == other.upn and (facts := compare_children(row.entry, other.entry)):
                    for one, two in ((row, other), (other, row)):
                        batch.reject(one.at, "upn", CONFLICT, describe_shared_upn(batch.make_pointer(two.at), facts))
                else:
                    batch.reject(row.at, "", "duplicate-in-batch", f"This is the same pupil as {batch.make_pointer(other.at)}.")
                break
    return drop_rejected(batch, rows)


async def reject_takers(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], tenant_id: UUID, rows: list[PupilEntryRow]
) -> list[PupilEntryRow]:
    """Returns the rows without those that take the UPN of a pupil whose own row, which would have given it up, is
    rejected.

    It is the last check before the write, since a row may be rejected for any reason.
    """
    takers = {row.taken_from: row for row in rows if row.taken_from is not None}
    if not takers:
        return rows
    givers = {row.pupil_id for row in rows if row.pupil is not None and replaces_upn(row, row.pupil)}
    waiting = [row for owner_id, row in takers.items() if owner_id not in givers]
    problems = [row.problem_if_kept for row in takers.values() if row.problem_if_kept is not None]
    visible_ids = await find_visible(connection, caller, tenant_id, problems if waiting else [])
    while waiting:
        row = waiting.pop()
        problem = row.problem_if_kept or RowProblem(REPLACED)
        batch.reject(row.at, "", problem.code, problem.describe(visible_ids))
        if row.pupil_id in takers:
            waiting.append(takers.pop(row.pupil_id))
    return drop_rejected(batch, rows)


_VISIBLE = f"SELECT p.id FROM pupils p WHERE p.tenant_id = $1 AND p.id = ANY ($2) AND {reaches_pupil_sql('$3', 'p', 'id')}"


async def find_visible(connection: Connection, caller: Caller, tenant_id: UUID, problems: list[RowProblem]) -> set[UUID]:
    """Returns which of the pupils whom the problems name are within the caller's reach."""
    pupil_ids = {id_ for problem in problems for id_ in problem.pupil_ids}
    if not pupil_ids:
        return set()
    return {row["id"] for row in await connection.fetch(_VISIBLE, tenant_id, list(pupil_ids), caller.client_id)}


def drop_rejected(batch: Batch[Any, Any], rows: list[PupilEntryRow]) -> list[PupilEntryRow]:
    """Returns the rows that are not rejected."""
    good = {at for at, _ in batch.list_good_rows()}
    return [row for row in rows if row.at in good]


async def reject_pupils_of_other_schools(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], tenant_id: UUID, rows: list[PupilEntryRow]
) -> list[PupilEntryRow]:
    """Returns the rows about pupils whom this client may write; rejects those about a pupil of a school that it does
    not reach.

    Such a pupil may be taken over only with the right name and date of birth (a UPN alone can be guessed), and only
    when the other school has ended its main spell or gives a main dual spell, which means that there is a second
    school. A former school may still correct when and why its own spells ended.
    """
    rows_elsewhere = [
        (row, match) async for part in iterate_in_slices(rows) for row in part if (match := row.match_at_other_school) is not None
    ]
    if not rows_elsewhere:
        return rows
    refs = {match.school_id: SchoolRef(id=str(match.school_id)) for _, match in rows_elsewhere}
    school_of = dict(zip(refs, await find_schools(connection, caller, Scope.PUPILS_WRITE, list(refs.values())), strict=True))
    pupil_ids = [row.pupil_id for row, _ in rows_elsewhere]
    shared = {tuple(pair) for pair in await connection.fetch(_SHARED, tenant_id, pupil_ids)}
    spells = {tuple(spell) for spell in await connection.fetch(_SPELLS, tenant_id, pupil_ids)}
    for row, match in rows_elsewhere:
        row_spells = {(row.pupil_id, row.school.id, spell.from_, spell.status) for spell in row.spells}
        has_ended = match.open_main_from is None and bool(row.spells)
        is_released = match.open_main_status == "M" if row.is_second else has_ended
        if school_of[match.school_id] is not None or (row.is_second and (row.pupil_id, row.school.id) in shared):
            continue
        if row.is_former and row_spells <= spells:
            continue
        if not row.is_of_source and any(spell[:2] == (row.pupil_id, row.school.id) for spell in spells):
            continue
        if row.entry.id is not UNSET:
            batch.reject(row.at, "id", "pupil-not-found", "No pupil of this tenant has this id.")
        elif not (is_released and has_name_and_birthday(row, match)):
            message = (
                "This is a pupil of another school of the trust. That school must end its main spell, or give it the status M for a second school,"
                " and the name and date of birth must be the same; or a client that reaches both schools sends it."
            )
            batch.reject(row.at, "enrolments", "pupil-elsewhere", message)
    return drop_rejected(batch, rows)


_SHARED = "SELECT pupil_id, school_id FROM shared_pupils WHERE tenant_id = $1 AND pupil_id = ANY ($2)"
_SPELLS = "SELECT pupil_id, school_id, from_on, status FROM enrolments WHERE tenant_id = $1 AND pupil_id = ANY ($2)"


async def move_and_share_pupils(connection: Connection, tenant_id: UUID, rows: list[PupilEntryRow]) -> PupilChanges:
    """Moves pupils whose main school is now the row's, and shares or stops sharing those who attend it as a second
    school; returns what was changed.

    This runs before the pupils are read, since row-level security does not show them before.
    """
    changes = PupilChanges()
    pupils_elsewhere = [(row, row.pupil_id) for row in rows if row.match_at_other_school is not None and row.pupil_id is not None]
    second = [(pupil_id, row) for row, pupil_id in pupils_elsewhere if row.is_second or row.is_former]
    for statement, is_attending in ((SHARE, True), (UNSHARE, False)):
        pairs = [
            (pupil_id, row.school.id)
            for pupil_id, row in second
            if is_attending is any(spell.is_on(row.as_of) for spell in row.spells)
        ]
        if pairs:
            written = await connection.fetch(statement, tenant_id, *zip(*pairs, strict=True))
            changes.shared_pairs |= {(row["pupil_id"], row["school_id"]) for row in written}
    arrivals: dict[UUID, list[UUID]] = {}
    for row, pupil_id in pupils_elsewhere:
        if row.is_moving_here:
            arrivals.setdefault(row.school.id, []).append(pupil_id)
    for school_id, pupil_ids in arrivals.items():
        await connection.execute("SELECT move_pupils($1, $2, $3)", tenant_id, pupil_ids, school_id)
        changes.moved_ids.update(pupil_ids)
    return changes
