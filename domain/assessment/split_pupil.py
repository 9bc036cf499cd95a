"""Splits a record that is of two children: a new record gets the spells, windows and facts that the request names.

It undoes a merge: with the spells, windows, targets and facts that the merged record had, both records are as before.
"""

from datetime import date
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from domain.access.caller import Caller
from domain.assessment.merge_pupil import RecordChanged
from domain.assessment.record_discounts import split_discounts
from domain.assessment.record_rows import (
    check_confirmation,
    choose_main_school,
    find_records,
    find_schools_of,
    make_confirmation,
    require_everywhere,
)
from domain.assessment.split_plan import PupilSplit, SplitPlan, find_split_schools, make_plan
from domain.assessment.split_references import split_references
from domain.assessment.split_rows import split_judgements, split_memberships, split_targets
from domain.assessment.stored_merges import find_merge, undo_merge
from domain.declare.errors import Conflict, Forbidden, Invalid, Issue, NotFound, PupilMerged, Stale
from domain.declare.ids import new_id, parse_id
from domain.declare.scopes import Scope
from domain.declare.type_numbers import PUPIL, RECORD_CHANGE
from domain.roster.characteristics import YEAR_GROUP
from domain.roster.merged_pupils import make_not_found
from domain.roster.record_pupils.changes import PupilChanges, PupilFacts, write_changes
from domain.roster.record_pupils.doubts import refresh_same_children
from domain.roster.retired import copy_new_identity
from domain.store.database import Connection, transpose
from domain.support.clock import find_start_year, read_today
from domain.write.action import Action
from domain.write.aggregates import adjust_for_pupils
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.dry_run import is_dry_run
from domain.write.locks import SchoolLocks
from domain.write.partial import require_readable


@command(scope=Scope.PUPILS_MERGE, fails=(Invalid, NotFound, PupilMerged, Forbidden, Conflict, Stale))
async def split_pupil(connection: Connection, caller: Caller, action: Action[PupilSplit]) -> RecordChanged:
    """Split a record that is of two children: make a new record of some of its spells, windows and facts. Do a dry run first.

    The answer's id is the new record's. It needs pupils:merge, pupils:upn and judgements:write at every school where
    the pupil ever had a spell.
    """
    fields, checks = action.fields, Checks()
    record = (await find_records(connection, caller, [action.id])).get(action.id)
    if record is None:
        raise await make_not_found(connection, caller, action.id, Scope.PUPILS_MERGE)
    tenant_id = record["tenant_id"]
    schools = await find_split_schools(connection, caller, fields, tenant_id, checks)
    locks = SchoolLocks(connection, tenant_id)
    own_schools = await find_schools_of(connection, tenant_id, [action.id])
    await locks.lock({record["school_id"], *own_schools, *(school.id for school in schools.values())}, [action.id])
    await require_everywhere(connection, caller, tenant_id, locks.school_ids, "splitPupil")
    record = (await find_records(connection, caller, [action.id])).get(action.id)
    if record is None:
        raise await make_not_found(connection, caller, action.id, Scope.PUPILS_MERGE)
    with checks.attempt():
        if record["version"] != fields.expected_version:
            message = f"This record has version {record['version']} now. Read it again."
            raise Stale(message, issues=(Issue("/expectedVersion", Stale.code, message),))
    plan = await make_plan(connection, caller, record, fields, schools, checks)
    require_readable(fields)
    wish = msgspec.json.encode(msgspec.structs.replace(fields, confirmation=UNSET, expected_version=0)).decode()
    confirmation = await make_confirmation(connection, caller, tenant_id, [action.id], wish)
    check_confirmation(fields.confirmation, confirmation)
    new_pupil_id = new_id(PUPIL)
    merge = await find_merge(connection, record, fields, plan.upn, [(spell.where, spell.from_on) for spell in plan.new])
    async with adjust_for_pupils(locks, (action.id, new_pupil_id)):
        await _write_new_record(connection, caller, plan, fields, new_pupil_id)
        given_up = await split_references(
            connection, caller, tenant_id, (action.id, new_pupil_id), plan.references, plan.left_schools, merge
        )
        await split_judgements(connection, tenant_id, action.id, new_pupil_id, plan.windows, merge)
        await split_discounts(connection, tenant_id, action.id, new_pupil_id, plan.windows, merge)
        target_ids = [id_ for text in fields.targets if (id_ := parse_id(text)) is not None]
        await split_targets(connection, tenant_id, action.id, new_pupil_id, target_ids, merge)
        await undo_merge(connection, record, merge, new_pupil_id)
        await _settle_schools(connection, plan, new_pupil_id)
        await copy_new_identity(connection, tenant_id, action.id, new_pupil_id)
    await refresh_same_children(connection, tenant_id, [action.id, new_pupil_id])
    (moved,) = await connection.fetch(_COUNT, tenant_id, new_pupil_id)
    return RecordChanged(
        id=str(new_pupil_id),
        version=1,
        other_id=str(action.id),
        outcome="split",
        spells=len(plan.new),
        judgements=moved["judgements"],
        targets=moved["targets"],
        references_given_up=given_up,
        dry_run=is_dry_run(),
        confirmation=confirmation if is_dry_run() else None,
    )


_COUNT = """
SELECT (SELECT count(*) FROM judgements WHERE tenant_id = $1 AND pupil_id = $2) AS judgements,
    (SELECT count(*) FROM targets WHERE tenant_id = $1 AND pupil_id = $2) AS targets
"""
"""What the new record has, since it had nothing before."""
_INSERT_SPELLS = """
INSERT INTO enrolments (tenant_id, pupil_id, id, school_id, from_on, to_on, status, leaving_reason)
SELECT $1, $2, * FROM unnest($3::uuid[], $4::uuid[], $5::date[], $6::date[], $7::text[], $8::text[])
"""
_INSERT_CHARACTERISTICS = """
INSERT INTO characteristics (tenant_id, pupil_id, school_id, kind, from_on, to_on, value)
SELECT $1, $2, $3, * FROM unnest($4::text[], $5::date[], $6::date[], $7::text[])
ON CONFLICT (tenant_id, pupil_id, kind, from_on) DO UPDATE SET to_on = excluded.to_on, value = excluded.value
"""
_COPY_YEAR_GROUPS = f"""
INSERT INTO characteristics (tenant_id, pupil_id, school_id, kind, from_on, to_on, value)
SELECT tenant_id, $3, $4, kind, from_on, to_on, value FROM characteristics WHERE tenant_id = $1 AND pupil_id = $2 AND kind = '{YEAR_GROUP}'
"""
_RECORD = """
INSERT INTO record_changes (tenant_id, id, kind, pupil_id, other_id, client_id, details) VALUES ($1, $2, 'split', $3, $4, $5, '{}')
"""


async def _write_new_record(connection: Connection, caller: Caller, plan: SplitPlan, fields: PupilSplit, pupil_id: UUID) -> None:
    """Writes the new pupil with its UPN, spells, characteristics and groups, and takes them from the record."""
    tenant_id, old_id = plan.record["tenant_id"], plan.record["id"]
    school_id = choose_main_school(plan.new, max(plan.new, key=lambda spell: spell.last_day).where)
    facts = PupilFacts(
        school_id=school_id,
        upn=plan.upn,
        surname=fields.surname,
        forename=fields.forename,
        preferred_surname=fields.preferred_surname,
        preferred_forename=fields.preferred_forename,
        date_of_birth=fields.date_of_birth,
        sex=fields.sex,
        year_group=plan.year_group,
    )
    await write_changes(connection, tenant_id, caller.client_id, PupilChanges(new_pupils={pupil_id: facts}))
    await connection.execute(_RECORD, tenant_id, new_id(RECORD_CHANGE), old_id, pupil_id, caller.client_id)
    if plan.upn is not None:
        await connection.execute(
            "INSERT INTO upns (tenant_id, upn, pupil_id, school_id, current) VALUES ($1, $2, $3, $4, true)"
            " ON CONFLICT (tenant_id, upn) DO UPDATE SET pupil_id = excluded.pupil_id, school_id = excluded.school_id, current = true",
            *(tenant_id, plan.upn, pupil_id, school_id),
        )
    kept = [(spell.where, spell.from_on) for spell in plan.remaining]
    await connection.execute(_KEEP_SPELLS, tenant_id, old_id, *transpose(kept, 2))
    await connection.execute(_DELETE_SPELLS, tenant_id, old_id, *transpose(kept, 2))
    for owner, spells in ((pupil_id, plan.new), (old_id, plan.remaining)):
        rows = [(s.id, s.where, s.from_on, s.to_on, s.value, s.note) for s in spells]
        statement = _INSERT_SPELLS + (_REPLACE if owner == old_id else "")
        await connection.execute(statement, tenant_id, owner, *transpose(rows, 6))
    await connection.execute(_COPY_YEAR_GROUPS, tenant_id, old_id, pupil_id, school_id)
    own: list[tuple[Any, ...]] = [(YEAR_GROUP, date(find_start_year(read_today()), 9, 1), None, plan.year_group)]
    own += [(c.kind, c.from_, c.to, c.value) for c in fields.characteristics]
    await connection.execute(_INSERT_CHARACTERISTICS, tenant_id, pupil_id, school_id, *transpose(own, 4))
    if fields.remaining_characteristics is not UNSET:
        await connection.execute(
            "DELETE FROM characteristics WHERE tenant_id = $1 AND pupil_id = $2 AND kind <> $3", tenant_id, old_id, YEAR_GROUP
        )
        others = [(c.kind, c.from_, c.to, c.value) for c in fields.remaining_characteristics]
        await connection.execute(_INSERT_CHARACTERISTICS, tenant_id, old_id, plan.record["school_id"], *transpose(others, 4))
    await connection.execute(_COPY_ROLLS, tenant_id, old_id, pupil_id, list({spell.where for spell in plan.new}))
    group_ids = [parse_id(text) for text in fields.groups]
    await split_memberships(connection, tenant_id, (old_id, pupil_id), (plan.remaining, plan.new), group_ids)


_KEEP_SPELLS = """
INSERT INTO enrolment_history (tenant_id, id, pupil_id, school_id, status, from_on, to_on, leaving_reason, until)
SELECT tenant_id, id, pupil_id, school_id, status, from_on, to_on, leaving_reason, clock_timestamp() FROM enrolments
WHERE tenant_id = $1 AND pupil_id = $2 AND NOT (school_id, from_on) IN (SELECT * FROM unnest($3::uuid[], $4::date[]))
"""
_DELETE_SPELLS = """
DELETE FROM enrolments WHERE tenant_id = $1 AND pupil_id = $2
    AND NOT (school_id, from_on) IN (SELECT * FROM unnest($3::uuid[], $4::date[]))
"""
_REPLACE = """
ON CONFLICT (tenant_id, pupil_id, school_id, from_on) DO UPDATE
SET to_on = excluded.to_on, status = excluded.status, leaving_reason = excluded.leaving_reason
"""
_COPY_ROLLS = """
INSERT INTO pupil_rolls (tenant_id, pupil_id, school_id, as_of)
SELECT tenant_id, $3, school_id, as_of FROM pupil_rolls WHERE tenant_id = $1 AND pupil_id = $2 AND school_id = ANY ($4)
"""
_UPDATE_RECORD = """
UPDATE pupils p SET upn = (SELECT u.upn FROM upns u WHERE u.tenant_id = $1 AND u.pupil_id = $2 AND u.current), school_id = $3,
    version = version + 1, changed_at = clock_timestamp(), xid = pg_current_xact_id()
WHERE p.tenant_id = $1 AND p.id = $2
"""


async def _settle_schools(connection: Connection, plan: SplitPlan, pupil_id: UUID) -> None:
    """Gives the rows of both records their main school, and shares the pupils with second schools."""
    tenant_id, old_id = plan.record["tenant_id"], plan.record["id"]
    main_school = choose_main_school(plan.remaining, max(plan.remaining, key=lambda spell: spell.last_day).where)
    await connection.execute("DELETE FROM shared_pupils WHERE tenant_id = $1 AND pupil_id = $2", tenant_id, old_id)
    await connection.execute(_UPDATE_RECORD, tenant_id, old_id, main_school)
    await connection.execute("SELECT move_pupils($1, $2, $3)", tenant_id, [old_id], main_school)
    new_school = choose_main_school(plan.new, max(plan.new, key=lambda spell: spell.last_day).where)
    await connection.execute("SELECT move_pupils($1, $2, $3)", tenant_id, [pupil_id], new_school)
