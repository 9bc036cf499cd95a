"""Splits a record that is of two children: a new record gets the spells, windows and facts that the request names.

It undoes a merge: with the spells, windows, targets and facts that the merged record had, both records are as before.
"""

from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.assessment.merge_pupil import RecordChanged, check_locked_windows
from domain.assessment.record_discounts import split_discounts
from domain.assessment.record_rows import (
    check_confirmation,
    choose_main_school,
    find_records,
    find_schools_of,
    make_confirmation,
    require_everywhere,
)
from domain.assessment.split_dates import list_split_problems
from domain.assessment.split_references import split_references
from domain.assessment.split_rows import split_judgements, split_memberships, split_targets
from domain.assessment.stored_merges import find_merge, undo_merge
from domain.declare.errors import Conflict, Forbidden, Invalid, Issue, NotFound, PupilMerged, Stale, make_invalid
from domain.declare.ids import new_id, parse_id
from domain.declare.inputs import Input, Name, Text, describe
from domain.declare.scopes import Scope
from domain.declare.type_numbers import ENROLMENT, PUPIL, RECORD_CHANGE
from domain.roster import upn as upn_rules
from domain.roster import years
from domain.roster.characteristics import YEAR_GROUP, Characteristic
from domain.roster.enrolments import Spell
from domain.roster.merged_pupils import make_not_found
from domain.roster.pupil_keys import match_keys
from domain.roster.record_pupils.changes import PupilChanges, PupilFacts, write_changes
from domain.roster.record_pupils.doubts import refresh_same_children
from domain.roster.retired import copy_new_identity
from domain.roster.school_refs import SchoolInReach, SchoolRef, find_schools, make_school_issue
from domain.roster.unite_spells import DatedSpell
from domain.store.database import Connection, transpose
from domain.support.clock import find_start_year, read_today
from domain.write.action import Action
from domain.write.aggregates import adjust_for_pupils
from domain.write.command import command
from domain.write.dry_run import is_dry_run
from domain.write.locks import SchoolLocks


class SplitSpell(Spell, kw_only=True):
    """A whole spell on roll, with its school."""

    school: Annotated[SchoolRef, describe("The school.")]


class SplitReference(Input, kw_only=True):
    """This client's own reference for the new record, with its school."""

    school: Annotated[SchoolRef, describe("The school.")]
    reference: Annotated[Text, describe("The client's own id of the pupil there, which the record has now.")]


class PupilSplit(Input, kw_only=True):
    """The new record: its facts, its spells, and the windows whose judgements are its own."""

    expected_version: Annotated[int, describe("The version of the record in the URL, which remains.")]
    surname: Annotated[Name, describe("Legal surname of the new record.")]
    forename: Annotated[Name, describe("Legal forename of the new record.")]
    preferred_surname: Annotated[Name | None, describe("Surname that the school uses instead, for the new record.")] = None
    preferred_forename: Annotated[Name | None, describe("Forename that the school uses instead, for the new record.")] = None
    date_of_birth: Annotated[date, describe("Date of birth of the new record.")]
    sex: Annotated[Literal["F", "M"], describe("Sex of the new record, as in DfE data exchange.")]
    year_group: Annotated[years.YearGroupText, describe("National curriculum year of the new record today.")]
    upn: Annotated[upn_rules.UpnText | None, describe("UPN of the new record: one it has or had, or one that nobody has.")] = None
    enrolments: Annotated[
        Annotated[list[SplitSpell], Meta(min_length=1, max_length=50)],
        describe("Spells on roll of the new record. The record loses those with the same school and first day."),
    ]
    remaining_enrolments: Annotated[
        Annotated[list[SplitSpell], Meta(min_length=1, max_length=50)] | UnsetType,
        describe(
            "Spells that the record in the URL has afterwards, where they are others than those it has now less the new record's."
        ),
    ] = UNSET
    windows: Annotated[
        Annotated[list[Text], Meta(max_length=200)],
        describe("Codes of the windows whose judgements and discounts are the new record's."),
    ] = []
    targets: Annotated[Annotated[list[str], Meta(max_length=500)], describe("Ids of the targets that are the new record's.")] = []
    groups: Annotated[
        Annotated[list[str], Meta(max_length=200)],
        describe("Ids of the groups of the new record, besides those when it alone was on roll."),
    ] = []
    references: Annotated[
        Annotated[list[SplitReference], Meta(max_length=50)],
        describe(
            "References that are the new record's. Those of other clients are taken off both records, and are found again when their"
            " client names the pupil by UPN; but where a merge is undone, each record has its own again."
        ),
    ] = []
    characteristics: Annotated[
        Annotated[list[Characteristic], Meta(max_length=200)], describe("Spells of the new record's characteristics.")
    ] = []
    remaining_characteristics: Annotated[
        Annotated[list[Characteristic], Meta(max_length=200)] | UnsetType,
        describe("Spells of the record's own characteristics from now on; left out, they stay as they are."),
    ] = UNSET
    locked_windows: Annotated[list[Text], describe("Codes of the locked windows whose judgements may move.")] = []
    confirmation: Annotated[str | UnsetType, describe("What the dry run of the same request answered.")] = UNSET


@dataclass
class SplitPlan:
    """A request whose names are resolved. `remaining` and `new` are the spells of both records."""

    record: Any
    year_group: str = ""
    upn: str | None = None
    new: list[DatedSpell] = field(default_factory=list)
    remaining: list[DatedSpell] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)
    references: list[tuple[UUID, str]] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)

    @property
    def left_schools(self) -> set[UUID]:
        """The schools where the new record has spells and the remaining one has none."""
        return {spell.where for spell in self.new} - {spell.where for spell in self.remaining}

    def add_issue(self, at: str, code: str, message: str) -> None:
        self.issues.append(Issue(at, code, message))


@command(scope=Scope.PUPILS_MERGE, fails=(Invalid, NotFound, PupilMerged, Forbidden, Conflict, Stale))
async def split_pupil(connection: Connection, caller: Caller, action: Action[PupilSplit]) -> RecordChanged:
    """Split a record that is of two children: make a new record of some of its spells, windows and facts. Do a dry run first.

    The answer's id is the new record's. It needs pupils:merge, pupils:upn and judgements:write at every school where
    the pupil ever had a spell.
    """
    fields = action.fields
    record = (await find_records(connection, caller, [action.id])).get(action.id)
    if record is None:
        raise await make_not_found(connection, caller, action.id, Scope.PUPILS_MERGE)
    tenant_id = record["tenant_id"]
    schools = await _find_schools(connection, caller, fields, tenant_id)
    locks = SchoolLocks(connection, tenant_id)
    own_schools = await find_schools_of(connection, tenant_id, [action.id])
    await locks.lock({record["school_id"], *own_schools, *(school.id for school in schools.values())}, [action.id])
    await require_everywhere(connection, caller, tenant_id, locks.school_ids, "splitPupil")
    record = (await find_records(connection, caller, [action.id])).get(action.id)
    if record is None:
        raise await make_not_found(connection, caller, action.id, Scope.PUPILS_MERGE)
    if record["version"] != fields.expected_version:
        message = f"This record has version {record['version']} now. Read it again."
        raise Stale(message, issues=(Issue("/expectedVersion", Stale.code, message),))
    plan = await _make_plan(connection, caller, record, fields, schools)
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


async def _find_schools(connection: Connection, caller: Caller, fields: PupilSplit, tenant_id: UUID) -> dict[str, SchoolInReach]:
    """Returns the schools that the request names, by their reference; raises Invalid for those out of reach."""
    lists: dict[str, list[Any]] = {"enrolments": fields.enrolments, "references": fields.references}
    if fields.remaining_enrolments is not UNSET:
        lists["remainingEnrolments"] = fields.remaining_enrolments
    places = {f"/{name}/{i}/school": item.school for name, items in lists.items() for i, item in enumerate(items)}
    found = await find_schools(connection, caller, Scope.PUPILS_MERGE, list(places.values()))
    schools = {
        repr(ref): school
        for ref, school in zip(places.values(), found, strict=True)
        if school is not None and school.tenant_id == tenant_id
    }
    if issues := [make_school_issue(place, Scope.PUPILS_MERGE) for place, ref in places.items() if repr(ref) not in schools]:
        raise make_invalid(issues)
    return schools


_SPELLS = "SELECT id, school_id, from_on, to_on, status, leaving_reason FROM enrolments WHERE tenant_id = $1 AND pupil_id = $2"
_WINDOWS = "SELECT code, no, state FROM windows WHERE tenant_id = $1 AND code = ANY ($2)"
_TARGETS = """
SELECT id::text FROM targets WHERE tenant_id = $1 AND pupil_id = $2 UNION SELECT id::text FROM target_history WHERE tenant_id = $1 AND pupil_id = $2
"""
_GROUPS = "SELECT group_id::text AS id FROM group_members WHERE tenant_id = $1 AND pupil_id = $2"
_REFERENCES = "SELECT school_id, value FROM external_ids WHERE tenant_id = $1 AND id = $2 AND source = $3 AND kind = 'pupil'"


async def _make_plan(
    connection: Connection, caller: Caller, record: Any, fields: PupilSplit, schools: dict[str, SchoolInReach]
) -> SplitPlan:
    """Returns what the request means; raises Invalid with every issue, and Conflict for a locked window."""
    plan = SplitPlan(record)
    key = (record["tenant_id"], record["id"])
    try:
        plan.year_group = years.parse_year_group(fields.year_group)
    except ValueError as problem:
        plan.add_issue("/yearGroup", "year-group-invalid", str(problem))
    await _check_upn(connection, caller, plan, fields)
    stored = [
        DatedSpell(r["id"], r["school_id"], r["from_on"], r["to_on"], r["status"], r["leaving_reason"])
        for r in await connection.fetch(_SPELLS, *key)
    ]
    plan.new = _read_spells(plan, "enrolments", fields.enrolments, schools)
    taken = {(spell.where, spell.from_on) for spell in plan.new}
    if fields.remaining_enrolments is UNSET:
        plan.remaining = [spell for spell in stored if (spell.where, spell.from_on) not in taken]
        if not plan.remaining:
            plan.add_issue("/enrolments", "enrolment-required", "The record that remains needs at least one spell on roll.")
    else:
        plan.remaining = _read_spells(plan, "remainingEnrolments", fields.remaining_enrolments, schools)
    for place, code, message in list_split_problems(plan.record, fields, plan.year_group, plan.new):
        plan.add_issue(place, code, message)
    windows = {row["code"]: row for row in await connection.fetch(_WINDOWS, key[0], fields.windows)}
    plan.windows = [row["no"] for row in windows.values()]
    own = {
        "windows": (fields.windows, set(windows), "window-unknown", "This tenant has no such window."),
        "targets": (fields.targets, await _read_ids(connection, _TARGETS, key), "target-unknown", "The record has no such target."),
        "groups": (fields.groups, await _read_ids(connection, _GROUPS, key), "group-unknown", "The record is in no such group."),
    }
    for name, (named, known_names, code, message) in own.items():
        for i, text in enumerate(named):
            if text not in known_names:
                plan.add_issue(f"/{name}/{i}", code, message)
    references = {tuple(row) for row in await connection.fetch(_REFERENCES, *key, caller.client_id)}
    for i, item in enumerate(fields.references):
        plan.references.append((schools[repr(item.school)].id, item.reference))
        if plan.references[-1] not in references:
            plan.add_issue(
                f"/references/{i}/reference", "reference-unknown", "This client has no such reference for the record there."
            )
    if plan.issues:
        raise make_invalid(plan.issues)
    check_locked_windows({code for code, row in windows.items() if row["state"] == "locked"}, fields.locked_windows)
    return plan


async def _read_ids(connection: Connection, statement: str, key: tuple[UUID, UUID]) -> set[str]:
    return {row["id"] for row in await connection.fetch(statement, *key)}


async def _check_upn(connection: Connection, caller: Caller, plan: SplitPlan, fields: PupilSplit) -> None:
    """Sets the new record's UPN, or adds the issue: another pupil has it."""
    if fields.upn is None:
        return
    try:
        plan.upn = upn_rules.parse_upn(fields.upn).text
    except ValueError as problem:
        return plan.add_issue("/upn", "upn-invalid", str(problem))
    record = plan.record
    (match,) = await match_keys(connection, caller, record["tenant_id"], [(record["school_id"], None, None, plan.upn)])
    if match.pupil_ids and match.pupil_ids != [record["id"]]:
        plan.add_issue("/upn", "upn-taken", "Another pupil has or had this UPN.")


def _read_spells(plan: SplitPlan, name: str, spells: list[SplitSpell], schools: dict[str, SchoolInReach]) -> list[DatedSpell]:
    """Returns the spells with new ids; adds an issue for each that overlaps another one at its school."""
    made: list[DatedSpell] = []
    for i, spell in enumerate(spells):
        school_id = schools[repr(spell.school)].id
        dated = DatedSpell(new_id(ENROLMENT), school_id, spell.from_, spell.to, spell.status, spell.leaving_reason)
        if any(other.where == school_id and other.overlaps(dated) for other in made):
            plan.add_issue(f"/{name}/{i}", "spells-overlap", "Two spells at one school overlap.")
        made.append(dated)
    return made


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
