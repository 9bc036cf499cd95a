"""What the stored data say against the rows of a roll that are refused already, by a fault of their own or of the head, so
that one fault hides no other.

Such a row is compared as far as it can be read: a fact that cannot be read is taken to be as it is stored, and contradicts
nothing. Its checks are those of good rows, in a batch of their own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from msgspec import UNSET

from domain.access.caller import Caller
from domain.declare.ids import NIL, parse_id
from domain.declare.scopes import Scope
from domain.roster.merged_pupils import tell_merged
from domain.roster.pupil_keys import StoredIdentity, match_keys, read_identities
from domain.roster.record_pupils.changed_identity import CHANGED, reject_changed_identities
from domain.roster.record_pupils.changes import read_stored
from domain.roster.record_pupils.entries import PupilBatch, PupilEntry, PupilEntryRow
from domain.roster.record_pupils.identity import compare_children, identify_rows
from domain.roster.record_pupils.matching import match_rows, reject_ambiguous, reject_pupils_of_other_schools
from domain.roster.record_pupils.retired_rows import list_identifiers
from domain.roster.record_pupils.row_problem import CONFLICT, MERGE, NOT_SOURCE, REPLACED
from domain.roster.record_pupils.stored_rules import drop_superseded, reject_claims, reject_overlaps
from domain.roster.references import is_identifier
from domain.roster.retired import reject_retired
from domain.roster.school_refs import SchoolInReach, find_only_tenant
from domain.roster.upn import find_upn
from domain.store.database import Connection
from domain.support import clock
from domain.write.batch import Batch
from domain.write.partial import UNREADABLE, PartialList, is_partial, list_readable, make_partial

_UNKNOWN_FACTS = {"surname": "-", "forename": "-", "date_of_birth": date.min, "sex": "F"}
"""The facts of a row, with what stands for one that cannot be read where no pupil is stored: they are compared with nothing."""
_OF_IDENTITY = frozenset({CONFLICT, MERGE, REPLACED, CHANGED, "pupil-not-found", "pupil-merged"})
"""Codes of what is wrong whatever the spells of a row are."""

DUPLICATE = "duplicate-in-batch"
_OF_NEW = frozenset({"enrolment-required", NOT_SOURCE})
"""Codes of what is wrong with a row about a new pupil: one whose UPN cannot be read may be about a stored one."""


@dataclass
class _RefusedRow:
    """A row with its own values and with what stands for those that cannot be read. `has_spells` says whether its spells and
    the day of the roll can be read, `has_facts` whether all of its facts and UPNs can.
    """

    row: PupilEntryRow
    has_spells: bool
    has_facts: bool


async def check_refused_rows(
    connection: Connection, caller: Caller, batch: Batch[Any, Any], schools: Mapping[int, SchoolInReach], rows: list[PupilEntryRow]
) -> list[PupilEntryRow]:
    """Adds to refused rows what stored data say against them, and returns those that were compared. Where the head of the
    batch has faults, every row is refused; otherwise `rows` are the good ones. A fixed number of statements.
    """
    entries = batch.list_all_rows() if batch.faults or is_partial(batch.head) else batch.list_bad_rows()
    await _reject_unknown_ids(connection, caller, batch, entries, schools)
    refused = await _make_rows(connection, caller, batch, [(at, entry) for at, entry in entries if at in schools], schools)
    if not refused:
        return []
    tenant_id = refused[0].row.school.tenant_id
    texts = [*list_identifiers(caller.client_id, [each.row for each in refused if each.has_facts])]
    texts += list_identifiers(caller.client_id, [each.row for each in refused if not each.has_facts], with_names=False)
    retired = await reject_retired(connection, batch, tenant_id, texts)
    refused = [each for each in refused if each.row.at not in retired]
    compared = [each.row for each in refused]
    others = [row for row in rows if row.at not in {each.at for each in compared}]
    await identify_rows(connection, tenant_id, compared, others)
    own: Batch[Any, Any] = Batch(PupilBatch(as_of=_find_day(batch), entries=[]), [], batch.received, name=batch.name)
    own.rows = [(row.at, row.entry) for row in compared]
    left = await reject_changed_identities(own, compared)
    left = await reject_pupils_of_other_schools(connection, caller, own, tenant_id, left)
    left = await reject_ambiguous(connection, caller, own, tenant_id, left)
    stored = await read_stored(connection, caller, tenant_id, [row.pupil_id for row in left if row.pupil_id is not None])
    left = await drop_superseded(own, left, stored)
    await reject_overlaps(own, await reject_claims(connection, own, tenant_id, left), stored)
    _tell(batch, own, {each.row.at: each for each in refused})
    named = {row.at: id_ for row in compared if row.entry.id is not UNSET and (id_ := parse_id(row.entry.id)) is not None}
    await tell_merged(connection, caller, batch, named, Scope.PUPILS_READ)
    return compared


def _find_day(batch: Batch[Any, Any]) -> date:
    """Returns the day of the roll, today where it cannot be read."""
    return getattr(batch.head, "as_of", None) or clock.read_today()


def _tell(batch: Batch[Any, Any], own: Batch[Any, Any], refused: Mapping[int, _RefusedRow]) -> None:
    """Adds the issues of the rows' own batch, less those that may be wrong since something cannot be read. Rows that are
    doubled in it are told by `report_repeated`.
    """
    there = {(issue.at, issue.code) for issue in batch.issues}
    all_have_facts = all(each.has_facts for each in refused.values())
    for issue in own.issues:
        at, path = own.find_index(issue), "/".join(issue.at.split("/")[3:])
        is_sure = issue.code in _OF_IDENTITY or (refused[at].has_spells and (refused[at].has_facts or issue.code not in _OF_NEW))
        is_sure = is_sure and issue.code != DUPLICATE and (all_have_facts or (issue.code, path) != (CONFLICT, "upn"))
        if is_sure and (issue.at, issue.code) not in there:
            batch.reject(at, path, issue.code, issue.message)


def report_repeated(batch: Batch[Any, Any], rows: list[PupilEntryRow]) -> None:
    """Adds to rows of a strict batch that they name the pupil of an earlier row by the same reference or id, also where either
    is refused for another reason.

    Only what was sent is compared: who is stored under it may be out of reach. Of a lenient batch a row stands where an
    earlier one is bad.
    """
    if batch.lenient:
        return
    there = {batch.find_index(issue) for issue in batch.issues if issue.code == DUPLICATE}
    seen: dict[tuple[object, ...], PupilEntryRow] = {}
    for row in sorted(rows, key=lambda row: row.at):
        keys = [("reference", row.school.id, row.entry.reference), ("id", row.entry.id)]
        firsts = [seen.setdefault(key, row) for key in keys if key[-1] is not UNSET]
        other = next((first for first in firsts if first is not row), None)
        if other is None or row.at in there or (row.upn == other.upn and compare_children(row.entry, other.entry)):
            continue  # two children under one UPN are told as such
        batch.reject(row.at, "", DUPLICATE, f"This is the same pupil as {batch.make_pointer(other.at)}.")


async def _reject_unknown_ids(
    connection: Connection,
    caller: Caller,
    batch: Batch[Any, Any],
    entries: list[tuple[int, Any]],
    schools: Mapping[int, SchoolInReach],
) -> None:
    """Adds to rows that the id which they name a pupil by is no pupil's of the tenant, whatever their school."""
    rows = [(at, entry) for at, entry in entries if isinstance(getattr(entry, "id", None), str)]
    if not rows:
        return
    tenant_id = next((school.tenant_id for school in schools.values()), None)
    tenant_id = tenant_id or await find_only_tenant(connection, caller, Scope.PUPILS_WRITE)
    if tenant_id is None:
        return
    matches = await match_keys(connection, caller, tenant_id, [(NIL, entry.id, None, None) for _, entry in rows])
    for (at, _), match in zip(rows, matches, strict=True):
        if match.by_id is None:
            batch.reject(at, "id", "pupil-not-found", "No pupil of this tenant has this id.")
    named = {at: id_ for at, entry in rows if (id_ := parse_id(entry.id)) is not None}
    await tell_merged(connection, caller, batch, named, Scope.PUPILS_READ)


async def _make_rows(
    connection: Connection,
    caller: Caller,
    batch: Batch[Any, Any],
    entries: list[tuple[int, Any]],
    schools: Mapping[int, SchoolInReach],
) -> list[_RefusedRow]:
    """Returns the rows of which it can be read by what they name a pupil, matched. At most three statements."""
    has_day, made = hasattr(batch.head, "as_of"), []
    for at, entry in entries:
        values = {name: getattr(entry, name, UNREADABLE) for name in PupilEntry.__struct_fields__}
        if values["id"] is UNREADABLE or values["reference"] is UNREADABLE:
            continue
        reference = values["reference"]
        values["reference"] = UNSET if reference is not UNSET and is_identifier(reference) else reference
        former = list_readable([] if values["former_upns"] is UNREADABLE else values["former_upns"])
        values["former_upns"] = [upn for _, text in former if (upn := find_upn(text)) is not None]
        upn = find_upn(values["upn"])
        has_facts = UNREADABLE not in [values[name] for name in _UNKNOWN_FACTS] and (upn is not None or values["upn"] is None)
        has_facts = has_facts and len(values["former_upns"]) == len(former)
        values["upn"] = UNREADABLE if upn is None and values["upn"] is not None else upn
        values["same_child"] = values["same_child"] is UNREADABLE or values["same_child"]
        has_spells = has_day and all(_is_readable(values[name]) for name in ("enrolments", "characteristics"))
        for name in ("enrolments", "characteristics", "preferred_surname", "preferred_forename", "actor", "school"):
            values[name] = values[name] if _is_readable(values[name]) else UNSET
        values["year_group"] = ""
        row = PupilEntryRow(at, _fill(values, None), schools[at], upn, values["former_upns"], "", _find_day(batch))
        if row.school.has_other_source:
            row.said, has_spells = row.entry, False
            values |= dict.fromkeys(("enrolments", "characteristics"), UNSET)
        if any(row.keys[0][1:]) or row.former_upns:
            made.append((_RefusedRow(row, has_spells, has_facts), values))
    if not made:
        return []
    tenant_id = made[0][0].row.school.tenant_id
    await match_rows(connection, caller, tenant_id, [each.row for each, _ in made])
    stored = await read_identities(connection, tenant_id, {id_ for each, _ in made for id_ in each.row.matched_ids})
    for each, values in made:
        pupil = next((stored[id_] for id_ in each.row.matched_ids), None)
        each.row.entry = _fill(values, pupil)
        each.row.upn = each.row.entry.upn
    await match_rows(connection, caller, tenant_id, [each.row for each, _ in made])
    return [each for each, _ in made]


def _is_readable(value: Any) -> bool:
    """Whether a value can be read with all that is in it."""
    return value is not UNREADABLE and not isinstance(value, PartialList) and not any(map(is_partial, _list_elements(value)))


def _list_elements(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _fill(values: Mapping[str, Any], pupil: StoredIdentity | None) -> PupilEntry:
    """Returns an entry in which facts that cannot be read are the stored ones."""
    stored = {**_UNKNOWN_FACTS, "upn": None} if pupil is None else {name: getattr(pupil, name) for name in (*_UNKNOWN_FACTS, "upn")}
    filled = {name: value for name, value in stored.items() if values[name] is UNREADABLE}
    return make_partial(PupilEntry, {**values, **filled})
