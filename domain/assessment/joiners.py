"""Pupils who come with a batch of judgements, because they have just joined."""

from typing import Any

from msgspec import UNSET

from domain.access.caller import Caller
from domain.declare.errors import Invalid
from domain.declare.scopes import Scope
from domain.roster import retired
from domain.roster.record_pupils.changed_identity import CHANGED
from domain.roster.record_pupils.command import record_pupils, write_joiners
from domain.roster.record_pupils.entries import PupilBatch
from domain.roster.record_pupils.row_problem import CONFLICT, MERGE, REPLACED
from domain.roster.school_refs import SchoolInReach
from domain.roster.upn import find_upn
from domain.store.database import Connection
from domain.write.batch import Batch, Counts
from domain.write.partial import UNREADABLE, make_partial, needs_unreadable

DOUBTS = frozenset({CONFLICT, MERGE, REPLACED, CHANGED, retired.CODE})
"""Codes of rows that may be about another child than their keys say."""


async def record_joiners(connection: Connection, caller: Caller, batch: Batch[Any, Any]) -> Counts | None:
    """Writes the batch's pupils and returns their counts, None without pupils.

    Their issues refuse the whole batch when it is checked, and so does what is wrong with the head for them.
    """
    pupils = batch.companions["pupils"]
    if not pupils.received:
        return None
    caller.require_scope(Scope.PUPILS_WRITE, "pupils in recordJudgements")
    school, as_of = getattr(batch.head, "school", UNREADABLE), getattr(batch.head, "as_of", UNREADABLE)
    if as_of is UNSET:
        batch.fault("/asOf", "required", "asOf is required with pupils: the day of the roll.")
        as_of = UNREADABLE
    facts: dict[str, Any] = {"school": school, "as_of": as_of, "entries": []}
    pupils.head = make_partial(PupilBatch, facts) if UNREADABLE in (school, as_of) else PupilBatch(**facts)
    pupils.operation = record_pupils.operation
    try:
        await write_joiners(connection, caller, pupils)
    except (Invalid, AttributeError) as error:
        if not pupils.faults and not batch.faults:
            raise
        if isinstance(error, AttributeError) and not needs_unreadable(error):
            raise
    return pupils.count_rows()


def leave_joiners_out(batch: Batch[Any, Any], schools: dict[int, SchoolInReach]) -> dict[int, SchoolInReach]:
    """Returns the schools without those of the judgements whose pupil is not looked for, since no row of `pupils` was written
    for a fault of the head.
    """
    pupils = batch.companions["pupils"]
    named = {key for _, row in (pupils.list_all_rows() if batch.faults or pupils.faults else ()) for key in _list_keys(row)}
    waiting = {at for at, entry in (batch.list_all_rows() if named else ()) if not named.isdisjoint(_list_keys(entry))}
    for at in waiting:
        batch.drop(at)
    return {at: school for at, school in schools.items() if at not in waiting} if waiting else schools


def reject_doubtful(batch: Batch[Any, Any]) -> None:
    """Rejects the judgements that name their pupil as a row of `pupils` does which was rejected since it may be about
    another child: the judgement is that child's too.

    Where the batch is refused as a whole, the row's own issue says enough.
    """
    pupils = batch.companions["pupils"]
    doubts = {pupils.find_index(issue): issue for issue in pupils.issues if issue.code in DOUBTS}
    if not doubts or not batch.lenient:
        return
    issue_of = {
        (pupils.locations.get(at), name, text): doubts[at]
        for at, row in pupils.rows
        if at in doubts
        for name, text in _list_keys(row)
    }
    for at, entry in batch.list_good_rows():
        for name, text in _list_keys(entry):
            issue = issue_of.get((batch.locations.get(at), name, text))
            if issue is not None:
                message = f"{issue.at} names this pupil too and may be about another child. Nothing was written."
                batch.reject_alone(at, name, issue.code, message)


def _list_keys(row: Any) -> list[tuple[str, str]]:
    """Returns by what a row names its pupil: the names of its keys, and their texts in canonical form."""
    keys = [(name, text) for name in ("id", "reference") if isinstance(text := getattr(row, name, UNSET), str)]
    if (upn := find_upn(getattr(row, "upn", UNSET))) is not None:  # one that is not valid is an issue of the row itself
        keys.append(("upn", upn))
    return keys
