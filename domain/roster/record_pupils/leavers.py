"""The leavers of a complete roll: pupils who are on roll at its school and absent from it.

A roll that would end too many spells is refused.

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
from domain.declare.errors import Conflict, Issue, make_invalid
from domain.declare.scopes import Scope
from domain.roster.record_pupils.changes import PupilChanges
from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.school_refs import SchoolInReach, find_school
from domain.roster.schools import DEFAULT_SETTINGS
from domain.store.database import Connection
from domain.write.batch import Batch

NOT_ON_ROLL = "not-on-roll"
MAX_LEAVERS_LISTED = 100
"""The number of leavers whose ids an error lists."""


@dataclass(frozen=True)
class OpenSpell:
    """An open spell at the school of a complete roll; `version` is the pupil's, None where this school neither has nor
    shares the pupil.
    """

    pupil_id: UUID
    from_on: date
    version: int | None


async def find_complete_school(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], schools: dict[int, SchoolInReach]
) -> SchoolInReach | None:
    """Returns the school of a complete roll, None for any other batch; raises Invalid unless a complete roll names one
    school and no other.
    """
    if not batch.head.complete:
        return None
    ref = batch.head.school
    school = await find_school(connection, caller, Scope.PUPILS_WRITE, ref, "/school") if ref else None
    if school is None or any(other.id != school.id for other in schools.values()):
        raise make_invalid(
            [Issue("/complete", "one-school-needed", "A complete roll is one school's: name it in the batch, and no other.")]
        )
    return school


_ON_ROLL = f"""
SELECT e.pupil_id, e.from_on, p.version FROM enrolments e
LEFT JOIN pupils p ON p.tenant_id = e.tenant_id AND p.id = e.pupil_id AND {reaches_pupil_sql("$4", "p", "id")}
WHERE e.tenant_id = $1 AND e.school_id = $2 AND e.to_on IS NULL AND e.from_on <= $3
ORDER BY e.pupil_id
"""


async def read_on_roll(connection: Connection, caller: Caller, school: SchoolInReach, day: date) -> list[OpenSpell]:
    """Returns the spells at the school on that day, in any status, that have no last day."""
    return [OpenSpell(*row) for row in await connection.fetch(_ON_ROLL, school.tenant_id, school.id, day, caller.client_id)]


_OFF_ROLL = """
SELECT x.pupil_id FROM unnest($3::uuid[]) AS x (pupil_id) WHERE NOT EXISTS (
    SELECT 1 FROM enrolments e WHERE e.tenant_id = $1 AND e.school_id = $2 AND e.pupil_id = x.pupil_id AND COALESCE(e.to_on, 'infinity') >= $4
)
"""


async def reject_named_leavers(
    connection: Connection, school: SchoolInReach, batch: Batch[Any, Any], rows: list[PupilEntryRow]
) -> None:
    """Rejects rows of a complete roll whose pupil has left and which give no spell that puts the pupil on roll again."""
    without_spells = {row.pupil_id: row for row in rows if not row.entry.enrolments}
    leavers = await connection.fetch(_OFF_ROLL, school.tenant_id, school.id, list(without_spells), batch.head.as_of)
    for left in leavers:
        message = "This pupil has left and is in the complete roll: give the spell that puts the pupil on roll again."
        batch.reject(without_spells[left["pupil_id"]].at, "enrolments", "enrolment-required", message)


_SETTING = "SELECT max_leavers_percent FROM school_settings WHERE tenant_id = $1 AND school_id = $2"


async def read_max_leavers(connection: Connection, school: SchoolInReach, max_leavers: int | UnsetType) -> int:
    """Returns the percentage of pupils that may leave at once: the batch's, else the school's own setting."""
    if max_leavers is not UNSET:
        return max_leavers
    setting = await connection.fetchval(_SETTING, school.tenant_id, school.id)
    return int(DEFAULT_SETTINGS["max_leavers_percent"] if setting is None else setting)


def find_leavers(
    batch: Batch[Any, Any], on_roll: list[OpenSpell], present: Collection[UUID | None], max_percent: int
) -> list[OpenSpell]:
    """Returns the spells of the absent pupils; raises Conflict if these are more than `max_percent` of the pupils on
    roll.

    Nobody leaves by a roll with rejected rows, since a rejected row may be about a pupil who seems absent; an issue
    reports this.
    """
    if len(batch.list_good_rows()) < batch.received:
        message = (
            "Nobody was taken off roll, because rows of this roll were rejected. Correct them and send the complete roll again."
        )
        batch.issues.append(Issue("/complete", "leavers-not-closed", message))
        return []
    absent = [spell for spell in on_roll if spell.pupil_id not in present]
    leaver_ids, before = sorted({spell.pupil_id for spell in absent}), len({spell.pupil_id for spell in on_roll})
    max_leavers = max(before * max_percent // 100, min(max_percent, 1))
    if len(leaver_ids) > max_leavers:
        listed = "them" if len(leaver_ids) <= MAX_LEAVERS_LISTED else f"{MAX_LEAVERS_LISTED} of them"
        raise Conflict(
            f"{len(leaver_ids)} of the {before} pupils on roll are not in this batch, and maxLeavers ({max_percent} percent) lets {max_leavers} leave at once."
            f" The issues list {listed}; nothing was written. If the roll was cut short, send the complete roll."
            " If they have left, send their spells with an end, or raise maxLeavers.",
            code="too-many-leavers",
            title="Too many pupils would leave",
            issues=tuple(
                Issue("/complete", "too-many-leavers", f"{id_} is on roll and not in this batch.")
                for id_ in leaver_ids[:MAX_LEAVERS_LISTED]
            ),
        )
    return absent


def record_leavers(changes: PupilChanges, school: SchoolInReach, as_of: date, leavers: list[OpenSpell]) -> None:
    """Adds the changes that end the leavers' spells on the day before `as_of`, and stop sharing them with this school."""
    changes.ended_spells += [(spell.pupil_id, school.id, spell.from_on, as_of, NOT_ON_ROLL) for spell in leavers]
    changes.ended_shares += [(spell.pupil_id, school.id) for spell in leavers]
    changes.touched_ids |= {spell.pupil_id for spell in leavers}
