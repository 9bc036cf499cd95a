"""Re-keys a client's references of a school's pupils in bulk: after a change of MIS, or where an MIS numbers its pupils anew.

A batch is one change: rows may exchange references, or pass them on. Of what a row names, the reference of another pupil
is free only if another row of the batch takes it from that pupil.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, ClassVar
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_pupil_sql
from domain.declare.errors import Forbidden, Invalid, Issue, NotFound
from domain.declare.inputs import Input, Name, RuledInput, Text, describe
from domain.declare.scopes import Scope
from domain.roster.pupil_keys import PupilRow, StoredIdentity, find_and_lock_pupils, read_identities, replace_references_sql
from domain.roster.record_pupils.changes import touch_pupils
from domain.roster.record_pupils.identity import is_same_name
from domain.roster.references import IS_IDENTIFIER, is_identifier, may_repeat
from domain.roster.retired import describe_reference, reject_retired
from domain.roster.school_refs import SchoolInReach, SchoolRef, find_schools
from domain.store.database import Connection, SnapshotChanged, transpose
from domain.support.slices import iterate_in_slices, split_into_parts
from domain.write.batch import Recorded, RowBatch
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import Unreadable
from domain.write.receipts import Location


def _check_key(entry: Any) -> str | None:
    by_upn = [value is not UNSET for value in (entry.upn, entry.surname, entry.forename, entry.date_of_birth)]
    if any(by_upn) != all(by_upn) or all(by_upn) == (entry.old_reference is not UNSET):
        return "Name the pupil either by oldReference or by upn with surname, forename and dateOfBirth"
    return None


class ReferenceEntry(RuledInput, kw_only=True):
    """A pupil's new reference. The pupil is named by the old one, or by UPN with names and date of birth."""

    may_repeat: ClassVar[Callable[[str], bool] | None] = may_repeat
    rules = (_check_key,)

    reference: Annotated[Text, describe("The sender's own id of the pupil at this school from now on.")]
    old_reference: Annotated[Text | UnsetType, describe("The sender's own id of the pupil at this school until now.")] = UNSET
    upn: Annotated[
        str | UnsetType, describe("Unique pupil number. The reference replaces all that the sender has for the pupil.")
    ] = UNSET
    surname: Annotated[Name | UnsetType, describe("Legal surname, with the UPN.")] = UNSET
    forename: Annotated[Name | UnsetType, describe("Legal forename, with the UPN.")] = UNSET
    date_of_birth: Annotated[date | UnsetType, describe("Date of birth, with the UPN.")] = UNSET


class ReferenceBatch(Input, kw_only=True):
    """New references of a school's pupils, for the client that sends them."""

    entries: list[ReferenceEntry]


@dataclass(frozen=True)
class StoredReference:
    """Whom a reference of this client at the school names. `rekeyed_from` is None where it was never re-keyed."""

    pupil_id: UUID
    rekeyed_from: str | None


@dataclass
class ReferenceRow:
    """A row whose pupil is known. `ended` are the references that it takes from the pupil; the row changes nothing if it
    is done.
    """

    at: int
    entry: ReferenceEntry
    pupil_id: UUID
    ended: set[str] = field(default_factory=set)
    is_done: bool = False


@command(scope=Scope.PUPILS_WRITE, fails=(Invalid, NotFound, Forbidden))
async def record_school_references(
    connection: Connection, caller: Caller, batch: RowBatch[ReferenceBatch, ReferenceEntry]
) -> Recorded:
    """Re-key this client's references of a school's pupils: old to new, or by UPN, names and date of birth. The same batch twice changes nothing.

    References may be exchanged within a batch. It needs pupils:write and pupils:upn at the school.
    """
    school = await _find_school(connection, caller, batch.row_id)
    batch.default_location = Location(school.tenant_id, school.id)
    await _reject_bad_references(connection, caller, batch, school)
    rows, stored = await _find_rows(connection, caller, batch, school)
    _find_done(rows, stored)
    rows = await _reject_duplicate_pupils(batch, rows)
    rows = await _reject_taken(batch, rows, stored)
    batch.refuse_if_strict()
    await _write(connection, caller, school, [row for row in rows if not row.is_done])
    stored_versions = await connection.fetch(_VERSIONS, school.tenant_id, [row.pupil_id for row in rows], caller.client_id)
    versions = {row["id"]: row["version"] for row in stored_versions}
    for row in rows:
        batch.record_outcome(row.at, "unchanged" if row.is_done else "updated", row.pupil_id, versions.get(row.pupil_id))
    return batch.summarise()


async def _find_school(connection: Connection, caller: Caller, school_id: UUID) -> SchoolInReach:
    """Returns the school. Raises NotFound where the caller may not write there, and Forbidden where it may not see UPNs."""
    operation = record_school_references.operation
    caller.require_scope(Scope.PUPILS_UPN, operation)
    ref = SchoolRef(id=str(school_id))
    (school,) = await find_schools(connection, caller, Scope.PUPILS_WRITE, [ref])
    if school is None:
        raise NotFound()
    if await find_schools(connection, caller, Scope.PUPILS_UPN, [ref]) == [None]:
        message = f"{operation} needs {Scope.PUPILS_UPN} at the school."
        raise Forbidden(message, issues=(Issue(operation, "scope-missing", message),))
    return school


async def _reject_bad_references(
    connection: Connection, caller: Caller, batch: RowBatch[ReferenceBatch, ReferenceEntry], school: SchoolInReach
) -> None:
    """Rejects rows whose new reference is an identifier, stands in two rows or is retired, or whose old one is in two."""
    async for part in iterate_in_slices(batch.list_all_rows()):
        for at, entry in part:
            reference = getattr(entry, "reference", None)
            if reference is not None and is_identifier(reference):
                batch.reject(at, "reference", *IS_IDENTIFIER)
    rows = await batch.reject_duplicates(batch.list_good_rows(), lambda row: (row[0], row[1].reference), "school and reference")
    old = [row for row in rows if row[1].old_reference is not UNSET]
    await batch.reject_duplicates(old, lambda row: (row[0], row[1].old_reference), "school and oldReference")
    references = ((at, getattr(entry, "reference", None)) for at, entry in batch.list_all_rows())
    texts = [(at, describe_reference(caller.client_id, school.id, text)) for at, text in references if text is not None]
    await reject_retired(connection, batch, school.tenant_id, texts)


_READ = """
SELECT value, id, rekeyed_from FROM external_ids
WHERE tenant_id = $1 AND source = $2 AND kind = 'pupil' AND school_id = $3 AND (value = ANY ($4) OR id = ANY ($5))
"""


async def _read_references(
    connection: Connection, caller: Caller, school: SchoolInReach, values: Iterable[str], pupil_ids: Iterable[UUID]
) -> dict[str, StoredReference]:
    rows = await connection.fetch(_READ, school.tenant_id, caller.client_id, school.id, list(values), list(pupil_ids))
    return {value: StoredReference(id_, rekeyed_from) for value, id_, rekeyed_from in rows}


async def _find_rows(
    connection: Connection, caller: Caller, batch: RowBatch[ReferenceBatch, ReferenceEntry], school: SchoolInReach
) -> tuple[list[ReferenceRow], dict[str, StoredReference]]:
    """Locks the schools of all pupils; returns the rows whose pupil is known, and this client's references of them and of
    the rows. Rejects the others.
    """
    entries, bad_rows = batch.list_good_rows(), batch.list_bad_rows()
    values = {value for _, entry in entries for value in (entry.reference, entry.old_reference) if value is not UNSET}
    of_bad_rows = {value for _, entry in bad_rows for value in _list_references(entry)}
    unlocked = await _read_references(connection, caller, school, values, ())
    by_upn: RowBatch[Any, Any] = RowBatch(batch.head, [], len(entries), row_id=school.id)
    by_upn.rows = [(at, PupilRow(upn=upn)) for at, entry in (*entries, *bad_rows) if (upn := _get_upn(entry)) is not UNSET]
    for at, _ in bad_rows:
        by_upn.drop(at)
    locks, also = SchoolLocks(connection, school.tenant_id), {reference.pupil_id for reference in unlocked.values()}
    school_of = dict.fromkeys((at for at, _ in by_upn.rows), school)
    found = await find_and_lock_pupils(connection, caller, locks, school.tenant_id, by_upn, school_of, {school.id}, also)
    bad_ats = {at for at, _ in bad_rows}
    good_ids = {pupil_id for at, pupil_id in found.items() if at not in bad_ats}
    stored = await _read_references(connection, caller, school, values, good_ids)
    if not {reference.pupil_id for reference in stored.values()} <= also | good_ids:
        raise SnapshotChanged
    if of_bad_rows:
        stored = await _read_references(connection, caller, school, of_bad_rows, ()) | stored
    for issue in by_upn.issues:
        batch.reject(by_upn.find_index(issue), "/".join(issue.at.split("/")[3:]), issue.code, issue.message)
    identities = await read_identities(connection, school.tenant_id, set(found.values())) if found else {}
    references_of: dict[UUID, set[str]] = {}
    for value, reference in stored.items():
        references_of.setdefault(reference.pupil_id, set()).add(value)
    rows = []
    for at, entry in bad_rows:
        with suppress(Unreadable):
            if at in found and not _is_meant(entry, identities[found[at]]):
                batch.reject(at, "", *_IS_ANOTHER)
            elif entry.upn is UNSET and entry.old_reference is not UNSET and not _is_known(entry, stored):
                batch.reject(at, "oldReference", *_IS_UNKNOWN)
    for at, entry in batch.list_good_rows():
        if at in found and not _is_meant(entry, identities[found[at]]):
            batch.reject(at, "", *_IS_ANOTHER)
        elif at in found:
            ended = references_of.get(found[at], set())
            rows.append(ReferenceRow(at, entry, found[at], ended, ended == {entry.reference}))
        elif (row := _find_by_reference(at, entry, stored)) is not None:
            rows.append(row)
        else:
            batch.reject(at, "oldReference", *_IS_UNKNOWN)
    return rows, stored


_IS_ANOTHER = "pupil-conflict", "The pupil with this UPN has another name or date of birth. Nothing was written."
_IS_TAKEN = "reference-taken", "Another pupil of the school has this reference."
_IS_UNKNOWN = "reference-unknown", "This client has no such reference at the school."


def _get_upn(entry: Any) -> str | UnsetType:
    """Returns the UPN of a row that names its pupil by it; UNSET for a row that has another way too, since whom it means is not known."""
    upn: str | UnsetType = getattr(entry, "upn", UNSET)
    return upn if getattr(entry, "old_reference", None) is UNSET else UNSET


def _list_references(entry: Any) -> list[str]:
    """Returns the old and the new reference of a row, as far as they can be read."""
    return [text for name in ("reference", "old_reference") if isinstance(text := getattr(entry, name, None), str)]


def _is_known(entry: ReferenceEntry, stored: dict[str, StoredReference]) -> bool:
    """Whether the old reference of a bad row is a pupil's, or the row may have been written once already."""
    after = stored.get(getattr(entry, "reference", ""))
    return entry.old_reference in stored or (after is not None and after.rekeyed_from == entry.old_reference)


def _is_meant(entry: ReferenceEntry, pupil: StoredIdentity) -> bool:
    has_same_names = is_same_name(str(entry.surname), pupil.surname) and is_same_name(str(entry.forename), pupil.forename)
    return has_same_names and entry.date_of_birth == pupil.date_of_birth


def _find_by_reference(at: int, entry: ReferenceEntry, stored: dict[str, StoredReference]) -> ReferenceRow | None:
    """Returns the row of the pupil who has the old reference, or who had it before this row was written once already."""
    old, new = str(entry.old_reference), entry.reference
    before, after = stored.get(old), stored.get(new)
    if before is not None and old == new:
        return ReferenceRow(at, entry, before.pupil_id, {old}, True)
    if after is not None and after.rekeyed_from == old and (before is None or before.rekeyed_from is not None):
        return ReferenceRow(at, entry, after.pupil_id if before is None else before.pupil_id, {old}, True)
    return None if before is None else ReferenceRow(at, entry, before.pupil_id, {old})


def _find_done(rows: list[ReferenceRow], stored: dict[str, StoredReference]) -> None:
    """Leaves `is_done` of the rows by old reference only where every row that shares a reference with them, directly or
    through others, is done too; sets the pupil of each such row, and the references that each other row ends.

    Rows that exchanged two references were done before, if sent again. But a row that passes a reference on to a new one
    shows that the reference is to be given anew.
    """
    undone = {value for row in rows if not row.is_done for value in (*row.ended, row.entry.reference)}
    waiting = [row for row in rows if row.is_done]
    while again := [
        row for row in waiting if not undone.isdisjoint((*row.ended, row.entry.reference)) and _can_be_done(row, stored)
    ]:
        for row in again:
            row.is_done = False
            undone.update((*row.ended, row.entry.reference))
        waiting = [row for row in waiting if row.is_done]
    for row in rows:
        after = stored.get(row.entry.reference)
        if row.is_done and after is not None:
            row.pupil_id = after.pupil_id
        elif not row.is_done and after is not None and after.pupil_id == row.pupil_id:
            row.ended.add(row.entry.reference)  # the pupil has both: it is written anew


def _can_be_done(row: ReferenceRow, stored: dict[str, StoredReference]) -> bool:
    """Whether there is anything that the row could change: its old reference is a pupil's, and is not the new one."""
    return row.entry.old_reference in stored and row.entry.old_reference != row.entry.reference


async def _reject_duplicate_pupils(batch: RowBatch[ReferenceBatch, ReferenceEntry], rows: list[ReferenceRow]) -> list[ReferenceRow]:
    """Returns the rows without those about a pupil whom another row names by UPN."""
    by_upn: dict[UUID, int] = {}
    for row in rows:
        if row.entry.upn is not UNSET:
            by_upn.setdefault(row.pupil_id, row.at)
    good = []
    for row in rows:
        if by_upn.get(row.pupil_id, row.at) != row.at:
            message = f"This is the same pupil as {batch.make_pointer(by_upn[row.pupil_id])}."
            batch.reject(row.at, "", "duplicate-in-batch", message)
        else:
            good.append(row)
    return good


async def _reject_taken(
    batch: RowBatch[ReferenceBatch, ReferenceEntry], rows: list[ReferenceRow], stored: dict[str, StoredReference]
) -> list[ReferenceRow]:
    """Returns the rows without those whose new reference is another pupil's and stays so, since no other good row takes
    it from that pupil. Tells it of bad rows too.
    """
    while True:
        free = {value for row in rows if not row.is_done for value in row.ended}
        good = []
        async for part in iterate_in_slices(rows):
            for row in part:
                after = stored.get(row.entry.reference)
                if after is None or after.pupil_id == row.pupil_id or row.entry.reference in free:
                    good.append(row)
                else:
                    batch.reject(row.at, "reference", *_IS_TAKEN)
        if len(good) == len(rows):
            break
        rows = good
    of_good = {row.at for row in rows}
    told = {batch.find_index(issue) for issue in batch.issues if issue.code == "reference-taken"} | of_good
    for at, entry in batch.list_bad_rows():
        before, after = (stored.get(getattr(entry, name, "")) for name in ("old_reference", "reference"))
        if before is None or after is None or at in told:
            continue
        if after.pupil_id != before.pupil_id and entry.reference not in free:
            batch.reject(at, "reference", *_IS_TAKEN)
    return rows


_REPLACE = replace_references_sql("(SELECT $3::uuid, value FROM unnest($4::text[]) AS value)", source="$2")
_INSERT = """
INSERT INTO external_ids (tenant_id, source, kind, school_id, value, id, rekeyed_from)
SELECT $1, $2, 'pupil', $3, * FROM unnest($4::text[], $5::uuid[], $6::text[])
"""
_RECORD = """
INSERT INTO identity_history (tenant_id, client_id, pupil_id, kind)
SELECT $1, $2, p.id, 'reference replaced' FROM pupils p WHERE p.tenant_id = $1 AND p.id = ANY ($3)
"""
_VERSIONS = f"""
SELECT p.id, p.version FROM pupils p WHERE p.tenant_id = $1 AND p.id = ANY ($2) AND {reaches_pupil_sql("$3", "p", "id")}
"""


async def _write(connection: Connection, caller: Caller, school: SchoolInReach, rows: list[ReferenceRow]) -> None:
    """Writes the references, and that they were replaced."""
    if not rows:
        return
    key = (school.tenant_id, caller.client_id)
    await connection.execute(_REPLACE, *key, school.id, [value for row in rows for value in row.ended])
    written = [
        (row.entry.reference, row.pupil_id, "" if row.entry.old_reference is UNSET else row.entry.old_reference) for row in rows
    ]
    for part in split_into_parts(written):
        await connection.execute(_INSERT, *key, school.id, *transpose(part, 3))
    pupil_ids = list({row.pupil_id for row in rows})
    await connection.execute(_RECORD, *key, pupil_ids)
    await touch_pupils(connection, school.tenant_id, pupil_ids)
