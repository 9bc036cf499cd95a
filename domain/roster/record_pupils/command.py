"""Records a school's roll in bulk: who is on it, since when, and their dated characteristics.

The same roll twice changes nothing.

Whom a row means, and when it may be another child, is decided in identity.py; nothing is merged silently. Absence from
a batch takes nobody off roll unless the batch is complete (leavers.py). A subsidiary or guest school writes only its
own spells and reference, and a former school only when and why its spells ended; the main school writes the rest of a
pupil.
"""

from collections.abc import Collection
from functools import partial
from typing import Any
from uuid import UUID

from msgspec import UNSET, structs

from domain.access.caller import Caller
from domain.declare.errors import Conflict, Invalid, NotFound
from domain.declare.ids import parse_id
from domain.declare.scopes import Scope
from domain.roster.merged_pupils import tell_merged
from domain.roster.record_pupils import leavers
from domain.roster.record_pupils.changed_identity import reject_changed_identities
from domain.roster.record_pupils.changes import read_stored, record_said, write_changes
from domain.roster.record_pupils.compare import compare_with_stored
from domain.roster.record_pupils.doubts import report_doubts, tell_same_children, warn_of_same_children
from domain.roster.record_pupils.entries import PupilBatch, PupilEntry, PupilEntryRow, apply_rules
from domain.roster.record_pupils.matching import (
    drop_rejected,
    match_and_lock,
    move_and_share_pupils,
    reject_ambiguous,
    reject_pupils_of_other_schools,
    reject_takers,
)
from domain.roster.record_pupils.plan import ALL_PERCENT, plan_roll
from domain.roster.record_pupils.recorded_roll import RecordedRoll
from domain.roster.record_pupils.refused_rows import check_refused_rows, report_repeated
from domain.roster.record_pupils.retired_rows import list_identifiers
from domain.roster.record_pupils.roll_day import IMPLAUSIBLE, find_roll_day_problem, is_planned_day
from domain.roster.record_pupils.source import report_differences, report_leavers
from domain.roster.record_pupils.stored_rules import drop_superseded, reject_claims, reject_overlaps
from domain.roster.retired import reject_retired
from domain.roster.roll_year import record_roll_year
from domain.roster.school_refs import SchoolInReach, resolve_schools
from domain.store.database import Connection
from domain.support.slices import iterate_in_slices
from domain.write.aggregates import adjust_for_pupils
from domain.write.batch import Batch, Result
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import UNREADABLE, copy_fields


@command(scope=Scope.PUPILS_WRITE, fails=(Invalid, NotFound, Conflict))
async def record_pupils(connection: Connection, caller: Caller, batch: Batch[PupilBatch, PupilEntry]) -> RecordedRoll:
    """Record a school's roll, or part of it. The same batch twice changes nothing; absence from a batch removes nobody, unless it is complete."""
    as_of = getattr(batch.head, "as_of", None)
    _check_day(batch, None if as_of is None else find_roll_day_problem(as_of))
    if as_of is not None and is_planned_day(as_of) and not batch.faults:
        return await plan_roll(connection, caller, batch, partial(write_roll, planned_stays=()))
    return await write_roll(connection, caller, batch)


async def write_joiners(connection: Connection, caller: Caller, batch: Batch[PupilBatch, PupilEntry]) -> None:
    """Writes pupils who come with judgements. A day of the coming academic year is a fault too."""
    as_of = getattr(batch.head, "as_of", None)
    problem = None if as_of is None else find_roll_day_problem(as_of)
    if as_of is not None and is_planned_day(as_of):
        problem = "These pupils join in the coming academic year: send them as a roll, and judgements once it has begun."
    _check_day(batch, problem)
    await write_roll(connection, caller, batch)


def _check_day(batch: Batch[PupilBatch, PupilEntry], problem: str | None) -> None:
    """Adds the problem of asOf to the faults of the batch: its rows are checked as if asOf could not be read."""
    if problem is not None:
        batch.fault("/asOf", IMPLAUSIBLE, problem)
        batch.head = copy_fields(batch.head, PupilBatch, as_of=UNREADABLE)


async def _list_rows(batch: Batch[PupilBatch, PupilEntry], schools: dict[int, SchoolInReach]) -> list[PupilEntryRow]:
    """Returns the rows that meet the rules; rejects the others, with every issue of what can be read of them."""
    bad_rows = batch.list_bad_rows()
    rows = [
        row
        async for part in iterate_in_slices(batch.list_good_rows())
        for at, entry in part
        if (row := apply_rules(batch, at, entry, schools[at])) is not None
    ]
    for at, entry in bad_rows:
        apply_rules(batch, at, entry, schools.get(at))
    return rows


async def write_roll(
    connection: Connection,
    caller: Caller,
    batch: Batch[PupilBatch, PupilEntry],
    planned_stays: Collection[UUID] | None = None,
) -> RecordedRoll:
    """Writes a roll as it is on its day. `planned_stays` are those of one that was planned (planned_stays.py), else None."""
    schools = await resolve_schools(connection, caller, Scope.PUPILS_WRITE, batch)
    complete_school = await leavers.find_complete_school(connection, caller, batch, schools)
    rows = await _list_rows(batch, schools)
    row_schools = (row.school for row in rows)
    tenant_id = next((school.tenant_id for school in (complete_school, *row_schools) if school is not None), None)
    if tenant_id is None or batch.faults:
        report_repeated(batch, await check_refused_rows(connection, caller, batch, schools, []))
        batch.refuse_if_strict()
        return summarise(batch, [])
    as_of = batch.head.as_of
    await reject_retired(connection, batch, tenant_id, list_identifiers(caller.client_id, rows))
    rows = drop_rejected(batch, rows)
    locks = SchoolLocks(connection, tenant_id)
    on_roll = await match_and_lock(connection, caller, locks, tenant_id, rows, complete_school, as_of)
    refused = await check_refused_rows(connection, caller, batch, schools, rows)
    matched = rows
    rows = await reject_changed_identities(batch, rows)
    rows = await reject_pupils_of_other_schools(connection, caller, batch, tenant_id, rows)
    rows = await reject_ambiguous(connection, caller, batch, tenant_id, rows)
    present = {row.pupil_id for row in rows}
    pupil_ids = [pupil_id async for part in iterate_in_slices(rows) for row in part if (pupil_id := row.pupil_id) is not None]
    stored = await read_stored(connection, caller, tenant_id, pupil_ids)
    rows = await drop_superseded(batch, rows, stored)
    rows = await reject_overlaps(batch, await reject_claims(connection, batch, tenant_id, rows), stored)
    if complete_school is not None and not complete_school.has_other_source:
        leavers.reject_named_leavers(batch, rows, stored)
        rows = drop_rejected(batch, rows)
    rows = await reject_takers(connection, caller, batch, tenant_id, rows)
    named = {row.at: id_ for row in matched if row.entry.id is not UNSET and (id_ := parse_id(row.entry.id)) is not None}
    await tell_merged(connection, caller, batch, named, Scope.PUPILS_READ)
    report_doubts(batch, tenant_id, matched, complete_school)
    report_repeated(batch, [*refused, *matched])
    batch.refuse_if_strict()
    ended: list[leavers.OpenSpell] = []
    if complete_school is not None:
        max_percent = await leavers.read_max_leavers(connection, complete_school, batch.head.max_leavers)
        present |= await leavers.find_pupils_to_spare(connection, caller, batch, complete_school, on_roll, planned_stays)
        if complete_school.has_other_source:
            absent = await leavers.find_leavers(connection, caller, complete_school, on_roll, present, ALL_PERCENT)
            report_leavers(batch, complete_school, absent)
        else:
            ended = await leavers.find_leavers(connection, caller, complete_school, on_roll, present, max_percent)
    changes = await move_and_share_pupils(connection, tenant_id, rows)
    arrived_ids = changes.moved_ids | {pupil_id for pupil_id, _ in changes.shared_pairs}
    if arrived_ids:  # row-level security did not show them before
        stored.replace_pupils(await read_stored(connection, caller, tenant_id, list(arrived_ids)))
    references = {(schools[at].id, entry.reference) for at, entry in batch.rows if at in schools and entry.reference is not UNSET}
    async for part in iterate_in_slices(rows):
        for row in part:
            report_differences(batch, row, stored)
            compare_with_stored(batch, row, stored, changes, references)
    if complete_school is not None:
        leavers.record_leavers(changes, complete_school, as_of, ended)
    if changes.touched_ids:
        async with adjust_for_pupils(locks, changes.touched_ids):
            await write_changes(connection, tenant_id, caller.client_id, changes)
        warn_of_same_children(batch, await tell_same_children(connection, caller, tenant_id, changes))
    await record_said(connection, tenant_id, changes.said_pairs, as_of)
    roll_schools = {row.school for row in rows} | ({complete_school} if complete_school is not None else set())
    await record_roll_year(connection, tenant_id, {school.id for school in roll_schools if not school.has_other_source}, as_of)
    return summarise(batch, ended)


def summarise(batch: Batch[Any, Any], ended: list[leavers.OpenSpell]) -> RecordedRoll:
    """Returns what became of the rows and of the leavers, whose spells `ended`."""
    recorded = batch.summarise()
    left = {spell.pupil_id: None if spell.version is None else spell.version + 1 for spell in ended}
    if recorded.results is not None:
        recorded.results += [Result(at="/complete", outcome="left", id=str(id_), version=version) for id_, version in left.items()]
    return RecordedRoll(**structs.asdict(recorded), left=len(left))
