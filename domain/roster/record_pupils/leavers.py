"""The leavers of a complete roll: pupils who are on roll at its school and absent from it.

A roll that would end too many spells is refused. A rejected row keeps on roll the pupils to whom its own keys point, and
no others, also where such a key was replaced since. A pupil of whom a newer roll has said something stays as that roll said.

A row with a retired identifier points to nobody, and the child may be on roll with a new identity. So it keeps every absent
child of the school who has one on roll: nothing may tell which of them it was.

Only spells that had begun by `asOf` and have no last day count: a pupil who starts later is not on roll yet, and a last
day that is known stays.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.declare.errors import Conflict, Issue
from domain.declare.scopes import Scope
from domain.roster.pupil_keys import find_indicated
from domain.roster.record_pupils.changes import PupilChanges, StoredPupils
from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.record_pupils.rejected_rows import list_rejected_rows
from domain.roster.record_pupils.spells import NOT_ON_ROLL, YearRange, find_rests
from domain.roster.references import may_repeat
from domain.roster.retired import find_new_identities, find_retired
from domain.roster.school_refs import SchoolInReach, find_school, read_ref
from domain.roster.schools import DEFAULT_SETTINGS
from domain.store.database import Connection
from domain.write.batch import Batch

TOO_MANY = "too-many-leavers"
MAX_LEAVERS_LISTED = 100
"""The number of leavers whose ids an error lists."""


@dataclass(frozen=True)
class OpenSpell:
    """An open spell at the school of a complete roll; `version` is the pupil's, None where this school neither has nor
    shares the pupil. `is_said_later` says whether a newer roll was about the pupil.
    """

    id: UUID
    pupil_id: UUID
    version: int | None
    is_said_later: bool


ROW_OF_NOBODY = "row-of-nobody"
UNREADABLE_ROW = "A row cannot be read: whose it is nobody can say, so that no pupil may be taken off roll."


async def find_complete_school(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], schools: dict[int, SchoolInReach]
) -> SchoolInReach | None:
    """Returns the school of a complete roll, None for any other batch; adds a fault unless a complete roll names one school
    and no other, and where a row of it names nobody since it is no object.
    """
    ref = read_ref(batch.head)
    if not getattr(batch.head, "complete", False) or ref is None or any(issue.at == "/school" for issue in batch.faults):
        return None
    school = await find_school(connection, caller, Scope.PUPILS_WRITE, ref, "/school") if ref else None
    if school is None or any(other.id != school.id for other in schools.values()):
        batch.fault("/complete", "one-school-needed", "A complete roll is one school's: name it in the batch, and no other.")
        return None
    if any(not isinstance(value, dict) for value in batch.undecoded.values()):
        batch.fault("/complete", ROW_OF_NOBODY, UNREADABLE_ROW)
    return school


_ON_ROLL = f"""
SELECT e.id, e.pupil_id, p.version, COALESCE(r.as_of > $3, false) AS is_said_later FROM enrolments e
LEFT JOIN pupil_rolls r ON r.tenant_id = e.tenant_id AND r.pupil_id = e.pupil_id AND r.school_id = e.school_id
LEFT JOIN pupils p ON p.tenant_id = e.tenant_id AND p.id = e.pupil_id AND {reaches_pupil_sql("$4", "p", "id")}
WHERE e.tenant_id = $1 AND e.school_id = $2 AND e.to_on IS NULL AND e.from_on <= $3
ORDER BY e.pupil_id
"""


async def read_on_roll(connection: Connection, caller: Caller, school: SchoolInReach, day: date) -> list[OpenSpell]:
    """Returns the spells at the school on that day, in any status, that have no last day."""
    return [OpenSpell(*row) for row in await connection.fetch(_ON_ROLL, school.tenant_id, school.id, day, caller.client_id)]


def reject_named_leavers(batch: Batch[Any, Any], rows: list[PupilEntryRow], stored: StoredPupils) -> None:
    """Rejects rows of a complete roll whose pupil has left and which give no spell that puts the pupil on roll again.

    An empty list of spells may be sent again: it takes back a pupil who has none in the academic year.
    """
    for row in rows:
        if row.pupil_id is None or row.spells:
            continue
        spells, year = stored.get_spells(row.pupil_id, row.school.id), YearRange.find(row.as_of)
        has_left = all(spell.last_day < row.as_of for spell in spells)
        if has_left and (row.entry.enrolments is UNSET or any(find_rests(spell, [], year) != [spell] for spell in spells)):
            message = "This pupil has left and is in the complete roll: give the spell that puts the pupil on roll again."
            batch.reject(row.at, "enrolments", "enrolment-required", message)


async def find_pupils_to_spare(
    connection: Connection,
    caller: Caller,
    batch: Batch[Any, Any],
    school: SchoolInReach,
    on_roll: list[OpenSpell],
    planned_stays: Collection[UUID] | None,
) -> set[UUID]:
    """Returns the pupils who stay on roll though no good row is theirs: those to whom rejected rows point and, where one of
    these has a retired identifier or the roll was planned, those with a new identity. At most five statements.

    `planned_stays` are those of a planned roll besides
    (planned_stays.py), None for any other roll.

    A planned roll may have waited without the row, or lost it when the child was given the new identity.
    """
    rejected = list_rejected_rows(batch)
    keys = [key for row in rejected for key in row.list_keys(school.id)]
    spared = set[UUID]().union(*await find_indicated(connection, caller, school.tenant_id, keys, Scope.PUPILS_WRITE))
    texts = [(0, text) for row in rejected for text in row.list_identifiers(caller.client_id, school.id)]
    spared |= {*(planned_stays or ())}
    if planned_stays is not None or await find_retired(connection, school.tenant_id, texts):
        spared |= await find_new_identities(connection, school.tenant_id, {spell.pupil_id for spell in on_roll} - spared)
    return spared


_SETTING = "SELECT max_leavers_percent FROM school_settings WHERE tenant_id = $1 AND school_id = $2"


async def read_max_leavers(connection: Connection, school: SchoolInReach, max_leavers: int | UnsetType) -> int:
    """Returns the percentage of pupils that may leave at once: the batch's, else the school's own setting."""
    if max_leavers is not UNSET:
        return max_leavers
    setting = await connection.fetchval(_SETTING, school.tenant_id, school.id)
    return int(DEFAULT_SETTINGS["max_leavers_percent"] if setting is None else setting)


_REFERENCES = f"""
SELECT e.id, min(e.value) FROM external_ids e JOIN pupils p ON p.tenant_id = e.tenant_id AND p.id = e.id
WHERE e.tenant_id = $1 AND e.id = ANY ($2) AND e.kind = 'pupil' AND e.source = $3 AND e.school_id = $4
    AND {reaches_pupil_sql("$5", "p", "id", "$6")}
GROUP BY e.id
"""


async def _read_references(connection: Connection, caller: Caller, school: SchoolInReach, ids: list[UUID]) -> dict[UUID, str]:
    """Returns the caller's own references of those pupils at the school whom it may read."""
    if Scope.PUPILS_READ not in caller.scopes:
        return {}
    scope = Scope.PUPILS_READ.value
    rows = await connection.fetch(_REFERENCES, school.tenant_id, ids, caller.client_id, school.id, caller.client_id, scope)
    return {id_: text for id_, text in map(tuple, rows) if may_repeat(text)}


async def find_leavers(
    connection: Connection,
    caller: Caller,
    school: SchoolInReach,
    on_roll: list[OpenSpell],
    present: Collection[UUID | None],
    max_percent: int,
) -> list[OpenSpell]:
    """Returns the spells of the absent pupils; raises Conflict if these are more than `max_percent` of the pupils on
    roll, with the caller's own references of those whom it may read.
    """
    absent = [spell for spell in on_roll if spell.pupil_id not in present and not spell.is_said_later]
    leaver_ids, before = sorted({spell.pupil_id for spell in absent}), len({spell.pupil_id for spell in on_roll})
    max_leavers = max(before * max_percent // 100, min(max_percent, 1))
    if len(leaver_ids) > max_leavers:
        listed_ids = leaver_ids[:MAX_LEAVERS_LISTED]
        references = await _read_references(connection, caller, school, listed_ids)
        listed = "them" if len(leaver_ids) <= MAX_LEAVERS_LISTED else f"{MAX_LEAVERS_LISTED} of them"
        raise Conflict(
            f"{len(leaver_ids)} of the {before} pupils on roll are not in this batch, and maxLeavers ({max_percent} percent) lets {max_leavers} leave at once."
            f" The issues list {listed}; nothing was written. If the roll was cut short, send the complete roll."
            " If they have left, send their spells with an end, or raise maxLeavers.",
            code=TOO_MANY,
            issues=tuple(
                Issue("/complete", TOO_MANY, f"{id_} is on roll and not in this batch.", reference=references.get(id_))
                for id_ in listed_ids
            ),
        )
    return absent


def record_leavers(changes: PupilChanges, school: SchoolInReach, as_of: date, leavers: list[OpenSpell]) -> None:
    """Adds the changes that end the leavers' spells on the day before `as_of`, and stop sharing them with this school."""
    changes.ended_spells += [(spell.id, as_of, NOT_ON_ROLL) for spell in leavers]
    changes.ended_shares += [(spell.pupil_id, school.id) for spell in leavers]
    changes.said_pairs |= {(spell.pupil_id, school.id) for spell in leavers}
    changes.touched_ids |= {spell.pupil_id for spell in leavers}
