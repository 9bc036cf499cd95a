"""A whole roll: who is on roll at its school and absent from it has left, behind a guard against a roll that was cut short.

Only spells without an end that had begun by `asOf` are on it: a child who is to start later is on no roll yet, and one whose end is known stays as told.
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
from domain.roster.schools import UNSET_SETTING, SchoolInReach, find_school
from domain.store.database import Connection
from domain.write.batch import Batch

NOT_ON_ROLL = "not-on-roll"
MAX_TOLD = 100
"""Leavers whose ids a refusal lists."""


@dataclass(frozen=True)
class OpenSpell:
    """An open spell at the school of a whole roll; `version` is the pupil's, None where this school neither has nor shares the pupil."""

    pupil_id: UUID
    from_on: date
    version: int | None


async def find_whole_roll_school(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], schools: dict[int, SchoolInReach]
) -> SchoolInReach | None:
    """The school whose whole roll the batch says it is, None if it does not; Invalid unless the batch names that school and no other."""
    if not batch.head.complete:
        return None
    named = batch.head.school
    school = await find_school(connection, caller, Scope.PUPILS_WRITE, named, "/school") if named else None
    if school is None or any(each.id != school.id for each in schools.values()):
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
    """Whoever is on roll at the school that day, in any status, with no end known."""
    return [OpenSpell(*row) for row in await connection.fetch(_ON_ROLL, school.tenant_id, school.id, day, caller.client_id)]


_OFF_ROLL = """
SELECT x.pupil_id FROM unnest($3::uuid[]) AS x (pupil_id) WHERE NOT EXISTS (
    SELECT 1 FROM enrolments e WHERE e.tenant_id = $1 AND e.school_id = $2 AND e.pupil_id = x.pupil_id AND COALESCE(e.to_on, 'infinity') >= $4
)
"""


async def check_named(connection: Connection, school: SchoolInReach, batch: Batch[Any, Any], rows: list[PupilEntryRow]) -> None:
    """Rejects who is named in a whole roll, has left, and comes without the spell that would put the pupil on roll again."""
    silent = {row.pupil_id: row for row in rows if not row.entry.enrolments}
    off = await connection.fetch(_OFF_ROLL, school.tenant_id, school.id, list(silent), batch.head.as_of)
    for each in off:
        message = "This pupil has left and is in the whole roll: give the spell that puts the pupil on roll again."
        batch.reject(silent[each["pupil_id"]].at, "enrolments", "enrolment-required", message)


_SETTING = "SELECT max_leavers_percent FROM school_settings WHERE tenant_id = $1 AND school_id = $2"


async def read_max_leavers(connection: Connection, school: SchoolInReach, given: int | UnsetType) -> int:
    """How many percent may leave at once: as given, else as the school has set it."""
    if given is not UNSET:
        return given
    setting = await connection.fetchval(_SETTING, school.tenant_id, school.id)
    return int(UNSET_SETTING["max_leavers_percent"] if setting is None else setting)


def find_absent(batch: Batch[Any, Any], rolled: list[OpenSpell], present: Collection[UUID | None], share: int) -> list[OpenSpell]:
    """The spells of who is absent; Conflict if those are more than `share` percent.

    Nobody leaves by a roll with rejected rows, since a rejected row may be who seems absent; an issue says so.
    """
    if len(batch.list_good_rows()) < batch.received:
        message = "Nobody was taken off roll, because rows of this roll were rejected. Mend them and send the whole roll again."
        batch.issues.append(Issue("/complete", "leavers-not-closed", message))
        return []
    gone = [spell for spell in rolled if spell.pupil_id not in present]
    left, before = sorted({spell.pupil_id for spell in gone}), len({spell.pupil_id for spell in rolled})
    most = max(before * share // 100, min(share, 1))
    if len(left) > most:
        raise Conflict(
            f"{len(left)} of the {before} pupils on roll are not in this batch, and maxLeavers ({share} percent) lets {most} leave at once."
            f" The issues list {'them' if len(left) <= MAX_TOLD else f'{MAX_TOLD} of them'}; nothing was written. If the roll was cut short, send it whole."
            " If they have left, send their spells with an end, or raise maxLeavers.",
            code="too-many-leavers",
            title="Too many pupils would leave",
            issues=tuple(
                Issue("/complete", "too-many-leavers", f"{id_} is on roll and not in this batch.") for id_ in left[:MAX_TOLD]
            ),
        )
    return gone


def record_leavers(changes: PupilChanges, school: SchoolInReach, as_of: date, gone: list[OpenSpell]) -> None:
    """Ends the leavers' spells on the day before, and stops sharing those who attended as a second school's."""
    changes.closed += [(spell.pupil_id, school.id, spell.from_on, as_of, NOT_ON_ROLL) for spell in gone]
    changes.unshared += [(spell.pupil_id, school.id) for spell in gone]
    changes.touched |= {spell.pupil_id for spell in gone}
