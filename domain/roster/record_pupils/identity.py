"""Who a row of a roll means, and which rows may not be written because they may be about another child.

A row means the pupil of its id; else of its client's reference at its school; else of its permanent UPN; else of a
temporary UPN with the same birthday; never of a name alone. A former permanent UPN identifies nobody, since it may have
been recorded in error; a former temporary one still does (Department for Education, guide to UPNs: it is allocated
until the permanent one is known).

The facts about a child are the permanent UPN, the birthday and the whole forename. Where one differs from what is
stored, the row corrects it. Where two differ, it is another child, unless a person says otherwise (`sameChild`). The
surname and the sex count beside the birthday and the forename where no permanent UPN confirms the row: the birthday of
a child of another surname is no correction. Nor is it one where the batch has a row of its own for the child whom it
would replace, or where the row is wholly that of a stored twin: references were exchanged.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import date
from typing import NamedTuple
from uuid import UUID

from domain.roster.names import fold_name
from domain.roster.pupil_keys import KeyMatch, StoredIdentity, read_identities
from domain.roster.record_pupils.entries import PupilEntry, PupilEntryRow
from domain.roster.record_pupils.row_problem import (
    BIRTHDAY,
    CONFLICT,
    FORENAME,
    MERGE,
    REPLACED,
    SEX,
    SURNAME,
    UPN,
    RowProblem,
)
from domain.roster.upn import is_temporary
from domain.store.database import Connection, transpose
from domain.support.slices import iterate_in_slices


def is_same_forename(forename: str, other: str) -> bool:
    """Whether two forenames may be the same child's: split at blanks and hyphens, they begin with the same name, and the
    shorter only leaves out others of the longer. Names written together are the same as written apart.

    "Anne-Marie", "Anne Marie" and "Annemarie" are the same, and so are "Mary" and "Mary Jane", since a second forename
    may be left out; "Eva" and "Evan" are two, as are "Mohammed Ali" and "Mohammed Hassan".
    """
    if forename == other:
        return True
    names, other_names = (fold_name(text).replace("-", " ").split() for text in (forename, other))
    if "".join(names) == "".join(other_names):
        return True
    shorter, longer = sorted((names, other_names), key=len)
    rest = iter(longer)
    return bool(shorter) and shorter[0] == longer[0] and all(name in rest for name in shorter)


def is_same_name(name: str, other: str) -> bool:
    """Whether two names are the same as a whole."""
    return name == other or fold_name(name) == fold_name(other)


def compare_children(child: PupilEntry | StoredIdentity, other: PupilEntry | StoredIdentity) -> list[str]:
    """Returns which of birthday, forename and sex differ."""
    facts = [BIRTHDAY] * (child.date_of_birth != other.date_of_birth)
    facts += [FORENAME] * (not is_same_forename(child.forename, other.forename))
    return facts + [SEX] * (child.sex != other.sex)


def list_differing_facts(row: PupilEntryRow, stored: StoredIdentity) -> list[str]:
    """Returns which of the facts differ: permanent UPN, birthday, whole forename. What is unknown does not differ."""
    facts = [UPN] * has_other_upn(row.upn, stored.upn, stored.former_upns)
    return facts + [fact for fact in compare_children(row.entry, stored) if fact != SEX]


def list_contradictions(row: PupilEntryRow, stored: StoredIdentity) -> list[str]:
    """Returns the facts that differ; where one of them is the birthday or the forename and no permanent UPN is the same,
    also the surname and the sex that differ. More than one is another child.
    """
    facts = list_differing_facts(row, stored)
    if not _is_confirmed(row, stored) and {BIRTHDAY, FORENAME} & {*facts}:
        facts += [SURNAME] * (not is_same_name(row.entry.surname, stored.surname)) + [SEX] * (row.entry.sex != stored.sex)
    return facts


def _is_confirmed(row: PupilEntryRow, stored: StoredIdentity) -> bool:
    """Whether the row bears the permanent UPN that the pupil has."""
    return _is_permanent(row.upn) and row.upn == stored.upn


def has_other_upn(upn: str | None, stored: str | None, former: Collection[str]) -> bool:
    """Whether a UPN is another permanent one than the pupil has or, where there is none now, than those that the pupil
    had and that were not released.
    """
    if not _is_permanent(upn):
        return False
    had = [stored] if _is_permanent(stored) else [number for number in former if _is_permanent(number)]
    return bool(had) and upn not in had


def _is_permanent(upn: str | None) -> bool:
    return upn is not None and not is_temporary(upn)


def replaces_upn(row: PupilEntryRow, stored: StoredIdentity) -> bool:
    """Whether the row brings another UPN in place of the stored one, both permanent or both temporary."""
    if row.upn is None or stored.upn is None or row.upn == stored.upn:
        return False
    return is_temporary(row.upn) == is_temporary(stored.upn)


def is_another_child(row: PupilEntryRow, stored: StoredIdentity) -> bool:
    """Whether the row's birthday, forename or sex contradict what is stored of a pupil who has or had the row's UPN."""
    return bool(compare_children(row.entry, stored))


def is_wholly_same(row: PupilEntryRow, stored: StoredIdentity) -> bool:
    """Whether whole name, birthday and sex agree."""
    return _describe_child(row.entry) == _describe_child(stored)


def _describe_child(child: PupilEntry | StoredIdentity) -> tuple[str, str, date, str]:
    """Returns folded names, birthday and sex: equal for children of whom these agree."""
    return fold_name(child.surname), fold_name(child.forename), child.date_of_birth, child.sex


def has_name_and_birthday(row: PupilEntryRow, stored: StoredIdentity) -> bool:
    """Whether the row has the stored birthday and the stored surname or forename."""
    entry = row.entry
    has_same_name = is_same_name(entry.surname, stored.surname) or is_same_name(entry.forename, stored.forename)
    return has_same_name and entry.date_of_birth == stored.date_of_birth


class Identities:
    """The stored pupils to whom the keys of a batch belong, and what its rows do to each other's UPNs.

    `given_up` are the pupils whose UPN another row of the batch may take, since the pupil's own row, which names the
    pupil by id or reference, brings another one of its kind. `upns` are the UPNs that the rows bring.
    """

    def __init__(self, stored: Mapping[UUID, StoredIdentity], rows: list[PupilEntryRow], released: Collection[tuple[UUID, str]]):
        self.stored = stored
        self.released = released
        self.upns = {row.upn for row in rows}
        self.given_up = {row.named_ids[0] for row in rows if row.named_ids and self._gives_up(row)}

    def _gives_up(self, row: PupilEntryRow) -> bool:
        """Whether the row, which names its pupil, replaces the pupil's UPN."""
        row.pupil = self.stored[row.named_ids[0]]
        return row.writes_facts and replaces_upn(row, row.pupil)

    def find_meant(self, row: PupilEntryRow) -> list[StoredIdentity]:
        """Returns the distinct pupils whom the row's keys identify, the most reliable key first."""
        ids = [*row.named_ids]
        if row.match.by_upn is not None and self._identifies(row, row.upn, row.match.by_upn, bool(row.match.is_current)):
            ids.append(row.match.by_upn)
        former = [(number, match.by_upn, match) for number, match in zip(row.former_upns, row.former_matches, strict=True)]
        ids += [id_ for number, id_, _ in former if id_ is not None and self._identifies(row, number, id_, is_current=False)]
        if not ids:  # the row itself says that its permanent UPN has replaced the stored one
            ids += [id_ for _, id_, match in former if id_ and match.is_current and not is_another_child(row, self.stored[id_])]
        return [self.stored[id_] for id_ in dict.fromkeys(ids)]

    def _identifies(self, row: PupilEntryRow, upn: str | None, owner_id: UUID, is_current: bool) -> bool:
        """Whether a UPN of the row identifies the pupil who has or had it.

        A pupil whose UPN was taken away has it back from a row with the same whole name, birthday and sex.
        """
        owner = self.stored[owner_id]
        if upn is None:
            return False
        if is_temporary(upn):
            return owner.date_of_birth == row.entry.date_of_birth
        return is_current or (upn == row.upn and owner.upn is None and is_wholly_same(row, owner))

    def identify(self, row: PupilEntryRow) -> None:
        """Sets the pupil whom the row means, or the problem that it has; the UPNs to take from other pupils; and the
        former UPNs to record.
        """
        meant = self.find_meant(row)
        row.pupil = next(iter(meant), None)
        owner = self._get_owner(row.match)
        if row.named_ids:
            row.problem = self._find_problem_of_named(row, meant, owner)
        elif owner is not None and row.upn is not None:
            row.problem = self._find_problem_of_unnamed(row, row.upn, meant, owner)
        elif row.pupil is not None:
            row.problem = _compare(row, meant)
        row.problem = row.problem or self._check_former_upns(row)

    def _get_owner(self, match: KeyMatch) -> StoredIdentity | None:
        return None if match.by_upn is None else self.stored[match.by_upn]

    def _find_problem_of_named(
        self, row: PupilEntryRow, meant: list[StoredIdentity], owner: StoredIdentity | None
    ) -> RowProblem | None:
        """Returns the problem of a row that names its pupil by id or reference. `owner` has or had its UPN."""
        pupil = meant[0]
        differing = list_contradictions(row, pupil)
        if len(differing) > 1 and not row.entry.same_child:
            return RowProblem(CONFLICT, (pupil.id,), tuple(differing))
        others = [each.id for each in meant[1:]]
        if owner is not None and row.upn is not None and owner.id not in row.named_ids:
            if row.match.is_current and row.writes_facts and owner.id in self.given_up:
                others = [id_ for id_ in others if id_ != owner.id]
                row.released_upns = [(row.upn, owner.id)]
                row.taken_from, row.problem_if_kept = owner.id, RowProblem(MERGE, (pupil.id, owner.id))
            elif is_temporary(row.upn) and not self._is_taken_away(row, owner):
                others.append(owner.id)
            elif is_temporary(row.upn):
                others = [id_ for id_ in others if id_ != owner.id] + self._release(row, row.upn, owner)
            elif not row.match.is_current:
                others += self._release(row, row.upn, owner)
        others = list(dict.fromkeys(others))
        return RowProblem(MERGE, (pupil.id, *others)) if others else None

    def _is_taken_away(self, row: PupilEntryRow, owner: StoredIdentity) -> bool:
        """Whether a temporary UPN that `owner` had was taken away and not replaced, and the row is about another child."""
        return not row.match.is_current and owner.upn is None and is_another_child(row, owner)

    def _release(self, row: PupilEntryRow, upn: str, owner: StoredIdentity) -> list[UUID]:
        """Takes a former UPN of `owner` for the row's pupil; returns the owner where both seem to be one child."""
        if row.writes_facts:
            row.released_upns = [(upn, owner.id)]
        return [owner.id] if is_wholly_same(row, owner) else []

    def _find_problem_of_unnamed(
        self, row: PupilEntryRow, upn: str, meant: list[StoredIdentity], owner: StoredIdentity
    ) -> RowProblem | None:
        """Returns the problem of a row that names its pupil by UPN alone. `owner` has or had this UPN."""
        if owner in meant:
            problem = _compare(row, meant)
            if meant != [owner] or owner.id not in self.given_up or not is_another_child(row, owner):
                return problem
            row.pupil, row.released_upns = None, [(upn, owner.id)]
            row.taken_from, row.problem_if_kept = owner.id, problem
            return None
        if is_temporary(upn):
            return RowProblem(CONFLICT, (owner.id,), (BIRTHDAY,))
        if meant:  # by a temporary UPN among the former ones
            others = self._release(row, upn, owner)
            return RowProblem(MERGE, (meant[0].id, *others)) if others else _compare(row, meant)
        if not is_another_child(row, owner):
            return RowProblem(REPLACED)
        row.released_upns = [(upn, owner.id)]
        return None

    def _check_former_upns(self, row: PupilEntryRow) -> RowProblem | None:
        """Sets the former UPNs that are to be recorded for the row's pupil: those of another child are left out.

        Returns a problem where the row claims a permanent UPN that a pupil has now, and that may be the same child.
        """
        for number, match in zip(row.former_upns, row.former_matches, strict=True):
            owner = self._get_owner(match)
            if (row.pupil_id, number) in self.released or (number != row.upn and number in self.upns):
                continue
            if owner is None or owner.id == row.pupil_id:
                row.former_upns_to_record.append(number)
            elif match.is_current and not is_temporary(number) and not {BIRTHDAY, FORENAME} & {*list_differing_facts(row, owner)}:
                return (
                    RowProblem(CONFLICT, (owner.id,), (UPN,)) if row.pupil is None else RowProblem(MERGE, (row.pupil.id, owner.id))
                )
        return None


def _compare(row: PupilEntryRow, meant: list[StoredIdentity]) -> RowProblem | None:
    """Returns the problem of a row that means its pupil by UPN alone: keys of two pupils, or another fact or sex."""
    if len(meant) > 1:
        return RowProblem(MERGE, tuple(pupil.id for pupil in meant))
    (pupil,) = meant
    differing = list_differing_facts(row, pupil) + [SEX] * (row.entry.sex != pupil.sex)
    if pupil.upn in row.former_upns:
        differing = [fact for fact in differing if fact != UPN]
    return RowProblem(CONFLICT, (pupil.id,), tuple(differing)) if differing else None


async def identify_rows(
    connection: Connection, tenant_id: UUID, rows: list[PupilEntryRow], others: Sequence[PupilEntryRow] = ()
) -> None:
    """Sets whom each row means, and the problem of a row that may mean another child. `others` are rows of the same batch
    that are identified already. At most three statements.
    """
    all_rows = [*rows, *others] if others else rows
    pupil_ids = {id_ async for part in iterate_in_slices(all_rows) for row in part for id_ in row.matched_ids}
    former_upns = {number for row in rows for number in row.former_upns}
    released = await connection.fetch(_RELEASED, tenant_id, list(former_upns)) if former_upns else []
    stored = await read_identities(connection, tenant_id, pupil_ids) if pupil_ids else {}
    identities = Identities(stored, all_rows, {tuple(pair) for pair in released})
    corrected: list[tuple[PupilEntryRow, StoredIdentity]] = []
    async for part in iterate_in_slices(rows):
        for row in part:
            identities.identify(row)
            if row.problem is None and row.pupil is not None and _is_correction(row, row.pupil):
                corrected.append((row, row.pupil))
    if corrected:
        await _find_exchanged(connection, tenant_id, corrected, all_rows)


_RELEASED = "SELECT pupil_id, upn FROM identity_history WHERE tenant_id = $1 AND kind = 'upn released' AND upn = ANY ($2)"


async def _find_exchanged(
    connection: Connection, tenant_id: UUID, corrected: list[tuple[PupilEntryRow, StoredIdentity]], rows: list[PupilEntryRow]
) -> None:
    """Sets the problem of rows that name a pupil by id or reference and say the name and birthday of another child: of
    twins whose references were exchanged, each row differs in the forename alone.

    It is another child where the pupil has another row in the batch, or the row's child is stored as another pupil. A row
    that a permanent UPN confirms makes no pupil wholly the same as another who has a permanent UPN too, unless that
    one's own row says otherwise.
    """
    said = {_describe_child(row.entry) for row in rows}
    changed_ids = {row.pupil.id for row in rows if row.pupil is not None and not is_wholly_same(row, row.pupil)}
    columns = [(pupil.id, pupil.school_id, fold_name(row.entry.surname), row.entry.date_of_birth) for row, pupil in corrected]
    siblings: dict[int, list[_Sibling]] = {}
    for n, *values in await connection.fetch(_SIBLINGS, tenant_id, *transpose(columns, 4)):
        siblings.setdefault(n, []).append(_Sibling(*values))
    for n, (row, pupil) in enumerate(corrected, 1):
        differing = compare_children(row.entry, pupil)
        if _is_confirmed(row, pupil):
            is_other = any(each.is_wholly(row.entry) and each.id not in changed_ids for each in siblings.get(n, ()))
        else:
            is_other = differing != [SEX] and _describe_child(pupil) in said
            is_other = is_other or any(each.may_be(row.entry, with_sex=differing == [SEX]) for each in siblings.get(n, ()))
        if is_other:
            row.problem = RowProblem(CONFLICT, (pupil.id,), tuple(differing))


class _Sibling(NamedTuple):
    """Another stored child of the school with the surname and birthday that a row says."""

    id: UUID
    upn: str | None
    forename: str
    sex: str

    def may_be(self, entry: PupilEntry, *, with_sex: bool) -> bool:
        """Whether the entry's forename and, `with_sex`, its sex may be this child's."""
        return is_same_forename(entry.forename, self.forename) and not (with_sex and entry.sex != self.sex)

    def is_wholly(self, entry: PupilEntry) -> bool:
        """Whether forename and sex are this child's, who has a permanent UPN."""
        return _is_permanent(self.upn) and is_same_name(entry.forename, self.forename) and entry.sex == self.sex


def _is_correction(row: PupilEntryRow, pupil: StoredIdentity) -> bool:
    """Whether the row corrects the birthday, forename or sex of the pupil whom it names by id or reference, and no person
    says that it is the same child.
    """
    if not row.named_ids or row.entry.same_child or not row.writes_facts:
        return False
    return bool(compare_children(row.entry, pupil))


_SIBLINGS = """
SELECT g.n, p.id, p.upn, p.forename, p.sex
FROM unnest($2::uuid[], $3::uuid[], $4::text[], $5::date[]) WITH ORDINALITY AS g (pupil_id, school_id, surname, date_of_birth, n)
JOIN pupils p ON p.tenant_id = $1 AND p.school_id = g.school_id AND p.surname_folded = g.surname AND p.date_of_birth = g.date_of_birth
    AND p.id <> g.pupil_id
"""
