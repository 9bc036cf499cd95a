"""Merges two records of one child: the record of the URL goes, the other one gets its spells, values and references.

The dry run comes first: it says what would be put together and what would be lost, and gives the confirmation for the
real call. The record that remains keeps its facts, and gets a preferred name that only the other one has.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, NoReturn
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.assessment.move_judgements import MovingValues, move_judgements, move_targets, read_moving_values
from domain.assessment.record_discounts import read_moving_discounts, withdraw_doubled
from domain.assessment.record_rows import (
    check_confirmation,
    choose_main_school,
    find_records,
    find_schools_of,
    make_confirmation,
    require_everywhere,
)
from domain.assessment.record_spells import RecordSpells, read_record_spells
from domain.declare.errors import Conflict, Forbidden, Invalid, Issue, NotFound, PupilMerged, Stale, make_invalid
from domain.declare.ids import NIL, new_id, parse_id
from domain.declare.inputs import Input, Output, Text, describe
from domain.declare.scopes import Scope
from domain.declare.type_numbers import RECORD_CHANGE
from domain.roster import upn as upn_rules
from domain.roster.merged_pupils import find_replacements, make_not_found
from domain.roster.names import NAME_KEYS, make_name_keys
from domain.roster.record_pupils.doubts import refresh_same_children
from domain.store.database import Connection
from domain.write.action import Action
from domain.write.aggregates import adjust_for_pupils
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.dry_run import is_dry_run
from domain.write.locks import SchoolLocks
from domain.write.partial import require_readable


class PupilMerge(Input, kw_only=True):
    """The record that remains, and the versions that both records are known to have."""

    expected_version: Annotated[int, describe("The version of the record in the URL, which goes.")]
    into: Annotated[str, describe("Id of the pupil who remains.")]
    into_version: Annotated[int, describe("The version of the pupil who remains.")]
    locked_windows: Annotated[
        list[Text], describe("Codes of the locked windows whose judgements may move. A locked window that is not named is refused.")
    ] = []
    confirmation: Annotated[str | UnsetType, describe("What the dry run of the same request answered.")] = UNSET


class RecordConflict(Output, kw_only=True):
    """What both records had: what stands, and which record it is of (`into` or `merged`). Values are not shown."""

    kind: str
    stands: str
    window: str | None = None
    subject: str | None = None
    aspect: str | None = None
    detail: str | None = None


class RecordChanged(Output, kw_only=True):
    """What became of two records. `confirmation` stands in the answer to a dry run; the real call sends it.

    `differences` names the facts that both records of a merge had, each another: those of the one that remains stand.
    `referencesGivenUp` counts the references of other clients that a split takes off both records.
    """

    id: str
    version: int
    other_id: str
    outcome: str
    spells: int
    judgements: int
    targets: int
    references_given_up: int = 0
    differences: list[str] = []
    conflicts: list[RecordConflict] = []
    dry_run: bool = False
    confirmation: str | None = None


@command(scope=Scope.PUPILS_MERGE, fails=(Invalid, NotFound, PupilMerged, Forbidden, Conflict, Stale))
async def merge_pupil(connection: Connection, caller: Caller, action: Action[PupilMerge]) -> RecordChanged:
    """Merge a pupil's record into another record of the same child. Do a dry run first, and send its confirmation.

    It needs pupils:merge, pupils:upn and judgements:write at every school where either record ever had a spell.
    """
    gone, remaining, locks, checks = await lock_both(connection, caller, action)
    tenant_id = gone["tenant_id"]
    values = await read_moving_values(connection, tenant_id, gone["id"], remaining["id"])
    with checks.attempt():
        check_locked_windows({row["window"] for row in values.judgements if row["state"] == "locked"}, action.fields.locked_windows)
    checks.refuse_if_any()
    require_readable(action.fields)
    wish = (action.fields.into, sorted(action.fields.locked_windows))
    confirmation = await make_confirmation(connection, caller, tenant_id, (gone["id"], remaining["id"]), wish)
    check_confirmation(action.fields.confirmation, confirmation)
    spells = await read_record_spells(connection, tenant_id, gone["id"], remaining["id"])
    discounts = await read_moving_discounts(connection, tenant_id, gone["id"], remaining["id"])
    async with adjust_for_pupils(locks, (gone["id"], remaining["id"])):
        await _record_merge(connection, caller, gone, remaining, values, spells, discounts)
        await withdraw_doubled(connection, tenant_id, discounts)
        await move_judgements(connection, tenant_id, gone["id"], remaining["id"], values)
        await move_targets(connection, tenant_id, values)
        await spells.write(connection, tenant_id, gone["id"], remaining["id"])
        await _merge_facts(connection, gone, remaining, spells)
    return RecordChanged(
        id=str(remaining["id"]),
        version=remaining["version"] + 1,
        other_id=str(gone["id"]),
        outcome="merged",
        spells=spells.moving_count,
        judgements=len(values.judgements),
        targets=len(values.targets),
        differences=list_differences(gone, remaining),
        conflicts=list_conflicts(values, spells, discounts),
        dry_run=is_dry_run(),
        confirmation=confirmation if is_dry_run() else None,
    )


async def lock_both(connection: Connection, caller: Caller, action: Action[PupilMerge]) -> tuple[Any, Any, SchoolLocks, Checks]:
    """Locks every school of both records; returns the rows as they are then, and checks with what is wrong with their
    versions. Raises what is wrong with the request where there are no two records.
    """
    named_id = parse_id(text) if isinstance(text := getattr(action.fields, "into", None), str) else None
    ids = [action.id] if named_id is None else [action.id, named_id]
    checks, fields = Checks(), action.fields
    records = await find_records(connection, caller, ids)
    if action.id not in records:
        raise await make_not_found(connection, caller, action.id, Scope.PUPILS_MERGE)
    tenant_id, into_id = records[action.id]["tenant_id"], NIL
    with checks.attempt():
        into_id = await _find_remaining(connection, caller, action, records)
    if into_id == NIL:
        with checks.attempt():
            _check_versions([("/expectedVersion", records[action.id], fields.expected_version)])
        checks.refuse()
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock({row["school_id"] for row in records.values()} | await find_schools_of(connection, tenant_id, ids), ids)
    await require_everywhere(connection, caller, tenant_id, locks.school_ids, "mergePupil")
    records = await find_records(connection, caller, ids)
    if action.id not in records:
        raise await make_not_found(connection, caller, action.id, Scope.PUPILS_MERGE)
    into_id = await _find_remaining(connection, caller, action, records)
    sent = {"/expectedVersion": (action.id, "expected_version"), "/intoVersion": (into_id, "into_version")}
    with checks.attempt():
        _check_versions([(place, records[id_], getattr(fields, name, None)) for place, (id_, name) in sent.items()])
    return records[action.id], records[into_id], locks, checks


def _check_versions(rows: Iterable[tuple[str, Any, int | None]]) -> None:
    """Raises Stale where a record has another version than was sent. Of each: the place, the record, and the version sent,
    None if it cannot be read.
    """
    message = "This record has version {} now. Read it again."
    issues = [
        Issue(place, Stale.code, message.format(row["version"])) for place, row, sent in rows if sent not in (None, row["version"])
    ]
    if issues:
        raise Stale("A record has changed since it was read.", issues=tuple(issues))


async def _find_remaining(connection: Connection, caller: Caller, action: Action[PupilMerge], records: Mapping[UUID, Any]) -> UUID:
    """Returns the id of the record that remains. Raises what is wrong with it."""
    into_id = parse_id(action.fields.into)
    if into_id == action.id:
        _refuse("merge-with-itself", "A record cannot be merged into itself.")
    if into_id is not None and into_id in records:
        if records[into_id]["tenant_id"] != records[action.id]["tenant_id"]:
            _refuse("several-tenants", "Both records must be controlled by one trust or school.")
        return into_id
    if into_id is not None and (found := await find_replacements(connection, caller, [into_id], Scope.PUPILS_MERGE)):
        _refuse("pupil-merged", f"This pupil was merged into {found[into_id]}. Use that id.")
    _refuse("pupil-not-found", "There is no such pupil within the reach of this client's scope pupils:merge.")


def _refuse(code: str, message: str) -> NoReturn:
    raise make_invalid([Issue("/into", code, message)])


def check_locked_windows(locked: Collection[str], named: Collection[str]) -> None:
    """Raises Conflict where judgements in a locked window would move and the request does not name it. Both are codes."""
    if unnamed := sorted({*locked} - {*named}):
        message = f"Judgements in locked windows would move: {', '.join(unnamed)}. Name them in lockedWindows if they may."
        raise Conflict(message, code="window-locked", issues=(Issue("/lockedWindows", "window-locked", message),))


def list_conflicts(values: MovingValues, spells: RecordSpells, discounts: Collection[Any]) -> list[RecordConflict]:
    """Returns what both records had with different values."""

    def name_winner(row: Any) -> str:
        return "into" if row["into_stands"] else "merged"

    found = [
        RecordConflict(kind="judgement", stands=name_winner(row), **{name: row[name] for name in ("window", "subject", "aspect")})
        for row in values.judgements
        if row["into_version"] is not None and row["differs"]
    ]
    found += [
        RecordConflict(kind="target", stands=name_winner(row), subject=row["subject"], aspect=row["aspect"])
        for row in values.targets
        if row["into_id"] is not None and row["differs"]
    ]
    found += [RecordConflict(kind="discount", stands="into", window=row["window"]) for row in discounts if row["is_doubled"]]
    return found + [RecordConflict(kind=kind, stands="into", detail=detail) for kind, detail in spells.list_conflicts()]


_COMPARED = {
    **{"upn": "upn", "date_of_birth": "dateOfBirth", "forename": "forename", "surname": "surname", "sex": "sex"},
    **{"preferred_forename": "preferredForename", "preferred_surname": "preferredSurname"},
}
"""The facts that are compared, by column, with the names of the fields."""


def list_differences(gone: Any, remaining: Any) -> list[str]:
    """Returns the names of the facts that both records have and that differ. Values are not shown."""
    return [name for column, name in _COMPARED.items() if None not in (both := {gone[column], remaining[column]}) and len(both) > 1]


_FACTS = (
    *("surname", "forename", "preferred_surname", "preferred_forename", "date_of_birth", "sex"),
    *("upn", "year_group"),
)
_HISTORY = """
SELECT ARRAY(SELECT ARRAY[source::text, school_id::text, value] FROM external_ids WHERE tenant_id = $1 AND id = $2 AND kind = 'pupil') AS "references",
    ARRAY(SELECT ARRAY[source::text, school_id::text, value] FROM external_ids WHERE tenant_id = $1 AND id = $3 AND kind = 'pupil') AS "intoReferences",
    ARRAY(SELECT id::text FROM record_changes WHERE tenant_id = $1 AND pupil_id = $2) AS changes,
    ARRAY(SELECT id::text FROM pupil_history WHERE tenant_id = $1 AND pupil_id = $2) AS history
"""
_RECORD = """
INSERT INTO record_changes (tenant_id, id, kind, pupil_id, other_id, client_id, details) VALUES ($1, $2, 'merged', $3, $4, $5, $6::jsonb)
"""


async def _record_merge(
    connection: Connection,
    caller: Caller,
    gone: Any,
    remaining: Any,
    values: MovingValues,
    spells: RecordSpells,
    discounts: Collection[Any],
) -> None:
    """Writes the merge into history: the facts of the record that goes, and which values, discounts, references, earlier
    merges and earlier changes were its own.
    """
    keys = ("academic_year", "window_no", "subject_no", "aspect_no")
    details = {
        "facts": {name: gone[name] for name in _FACTS},
        "judgements": [[*(row[key] for key in keys), row["into_version"] or 0, row["version"]] for row in values.judgements],
        "replacedTargets": values.list_replaced_targets(),
        "discounts": [row["id"] for row in discounts],
        "withdrawnDiscounts": [row["id"] for row in discounts if row["is_doubled"]],
        "spells": spells.describe_moving(),
        "taken": list_taken_names(gone, remaining),
    }
    details |= dict((await connection.fetch(_HISTORY, gone["tenant_id"], gone["id"], remaining["id"]))[0])
    document = msgspec.json.encode(details).decode()
    ids = (gone["tenant_id"], new_id(RECORD_CHANGE), remaining["id"], gone["id"], caller.client_id)
    await connection.execute(_RECORD, *ids, document)


PREFERRED_NAMES = ("preferred_surname", "preferred_forename")


def list_taken_names(gone: Any, remaining: Any) -> list[str]:
    """Returns the preferred names that only the record that goes has: the one that remains gets them."""
    return [name for name in PREFERRED_NAMES if remaining[name] is None and gone[name] is not None]


_WRITTEN = (*PREFERRED_NAMES, *NAME_KEYS)
_UPDATE = f"""
UPDATE pupils SET upn = $3, school_id = $4, {", ".join(f"{name} = ${n}" for n, name in enumerate(_WRITTEN, 5))},
    version = version + 1, changed_at = clock_timestamp(), xid = pg_current_xact_id() WHERE tenant_id = $1 AND id = $2
"""


_UNITE_ROLLS = (
    """UPDATE pupil_rolls b SET as_of = GREATEST(b.as_of, a.as_of) FROM pupil_rolls a WHERE a.tenant_id = $1 AND a.pupil_id = $2
    AND b.tenant_id = $1 AND b.pupil_id = $3 AND b.school_id = a.school_id""",
    """DELETE FROM pupil_rolls a USING pupil_rolls b WHERE a.tenant_id = $1 AND a.pupil_id = $2
    AND b.tenant_id = $1 AND b.pupil_id = $3 AND b.school_id = a.school_id""",
)


async def _merge_facts(connection: Connection, gone: Any, remaining: Any, spells: RecordSpells) -> None:
    """Gives the remaining record the UPNs, references and the rest of the one that goes, which is deleted."""
    tenant_id, into_id = gone["tenant_id"], remaining["id"]
    upn = choose_upn(remaining["upn"], gone["upn"])
    school_id: UUID = choose_main_school(spells.enrolments.spells, remaining["school_id"])
    await connection.execute(
        "UPDATE upns SET current = (upn = $3) WHERE tenant_id = $1 AND pupil_id = ANY ($2)",
        *(tenant_id, [gone["id"], into_id], upn),
    )
    for statement in _UNITE_ROLLS:
        await connection.execute(statement, tenant_id, gone["id"], into_id)
    await connection.execute("DELETE FROM shared_pupils WHERE tenant_id = $1 AND pupil_id = $2", tenant_id, gone["id"])
    await connection.execute("SELECT repoint_pupil($1, $2, $3)", tenant_id, gone["id"], into_id)
    await connection.execute("DELETE FROM pupils WHERE tenant_id = $1 AND id = $2", tenant_id, gone["id"])
    taken = list_taken_names(gone, remaining)
    preferred = [(gone if name in taken else remaining)[name] for name in PREFERRED_NAMES]
    keys = make_name_keys(remaining["surname"], remaining["forename"], *preferred)
    await connection.execute(_UPDATE, tenant_id, into_id, upn, school_id, *preferred, *keys)
    await connection.execute("SELECT move_pupils($1, $2, $3)", tenant_id, [into_id], school_id)
    await refresh_same_children(connection, tenant_id, [into_id])


def choose_upn(remaining: str | None, other: str | None) -> str | None:
    """Returns the current UPN of both: the remaining record's, unless only the other one's is permanent."""
    if remaining is None or (
        other is not None and upn_rules.parse_upn(remaining).is_temporary and not upn_rules.parse_upn(other).is_temporary
    ):
        return other
    return remaining
