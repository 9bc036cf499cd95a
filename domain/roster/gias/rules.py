"""The rules of a GIAS import: which rows of the register follow from an extract.

Nothing here reads or writes the database.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from domain.declare.ids import new_id
from domain.declare.type_numbers import MEMBERSHIP, SCHOOL, TRUST
from domain.roster.gias.report import ImportIssue, RowTally
from domain.roster.gias.rows import Establishment, Group, GroupLink
from domain.roster.school_numbers import MAX_AGE, TRUST_TYPES

OTHER_GROUPS = {
    1: "Federation",
    2: "Trust",
    5: "School sponsor",
    7: "Umbrella trust",
    8: "Children's Centres Group",
    9: "Children's Centres Collaboration",
}
"""GIAS's names of the group types that are no academy trusts, for the report; a type that GIAS adds later is reported
by its code.
"""


class MembershipRow(NamedTuple):
    """A row of `memberships`, in the order of its columns."""

    id: UUID
    trust_id: UUID
    school_id: UUID
    joined_on: date | None
    left_on: date | None


class RegisteredRow(NamedTuple):
    """A trust or a school of the register, after this import has written it."""

    id: UUID
    status: str
    closed_on: date | None


class Register(NamedTuple):
    """The register that links refer to: trusts by Group UID, schools by URN, and the day of the extract."""

    trusts: Mapping[int, RegisteredRow]
    schools: Mapping[int, RegisteredRow]
    as_of: date

    def find_closing_day(self, link: GroupLink) -> date | None:
        """Returns the day on which the link's trust closed, from the link or else from the trust."""
        return link.group_closed_on or self.trusts[link.group_uid].closed_on

    def is_current(self, link: GroupLink) -> bool:
        """Whether the school is in the trust on that day: it has joined, and the trust has not closed."""
        closed_on = self.find_closing_day(link)
        has_joined = link.joined_on is None or link.joined_on <= self.as_of
        return has_joined and self.trusts[link.group_uid].status != "closed" and (closed_on is None or closed_on > self.as_of)


def make_trust_rows(groups: Iterable[Group], tally: RowTally) -> list[tuple[Any, ...]]:
    """Returns rows of `trusts`, in the order of its columns. A trust is a company: it opened when it was incorporated."""
    rows: list[tuple[Any, ...]] = []
    for g in groups:
        if kind := TRUST_TYPES.get(g.type_code):
            opened_on = g.incorporated_on or g.opened_on
            names = (g.uid, g.group_id, g.name, kind, g.status, g.companies_house_number, g.ukprn)
            rows.append((new_id(TRUST), *names, opened_on, g.closed_on))
        else:
            tally.ignored[f"not-a-trust: {_name_type(g.type_code)}"] += 1
    return rows


def make_school_rows(establishments: Iterable[Establishment], tally: RowTally, issues: list[ImportIssue]) -> list[tuple[Any, ...]]:
    """Returns rows of `schools`, in the order of its columns.

    A new school is its own tenant until apply.py moves it to its trust.
    """
    rows: list[tuple[Any, ...]] = []
    for e in establishments:
        if e.la_code is None:
            tally.ignored["no-local-authority"] += 1
            message = f"URN {e.urn} has no local authority"
            issues.append(ImportIssue(column="LA (code)", code="gias-no-local-authority", message=message))
        elif max(e.low_age or 0, e.high_age or 0) > MAX_AGE:
            tally.ignored["impossible-age"] += 1
            message = f"URN {e.urn} has a statutory age above {MAX_AGE} years"
            issues.append(ImportIssue(column="StatutoryHighAge", code="gias-impossible-age", message=message))
        else:
            id_ = new_id(SCHOOL)
            names = (e.urn, e.laestab, e.ukprn, e.name, e.la_code, e.la_name or e.la_code, e.type_name, e.phase, e.status)
            rows.append((id_, id_, *names, e.low_age, e.high_age, e.opened_on, e.closed_on, e.town, e.postcode))
    return rows


def choose_links(links: Iterable[GroupLink], register: Register, tally: RowTally, issues: list[ImportIssue]) -> list[GroupLink]:
    """Returns the links of schools with trusts, both in the register.

    If a school is in two trusts at once, the one it joined later counts.
    """
    usable: list[GroupLink] = []
    current: dict[int, GroupLink] = {}
    for link in sorted(links, key=lambda link: (link.joined_on or date.min, link.group_uid), reverse=True):
        if link.type_code not in TRUST_TYPES:
            tally.ignored[f"not-a-trust-link: {_name_type(link.type_code)}"] += 1
        elif link.urn not in register.schools:
            tally.ignored["unknown-establishment"] += 1
        elif link.group_uid not in register.trusts:
            tally.ignored["unknown-group"] += 1
        elif not register.is_current(link) or (later := current.setdefault(link.urn, link)) is link:
            usable.append(link)
        else:
            tally.ignored["second-trust"] += 1
            message = f"URN {link.urn} is in groups {link.group_uid} and {later.group_uid} at once; {later.group_uid} is kept"
            issues.append(ImportIssue(column="Group UID", code="gias-second-trust", message=message))
    return usable


def find_continued_membership(link: GroupLink, spells: Iterable[MembershipRow]) -> MembershipRow | None:
    """Returns the membership that a link continues, of a school's memberships of one trust; None if the link began
    after all of them had ended.

    So a corrected joining date changes a membership, and a school that left and came back has two.
    """

    def rank_spell(spell: MembershipRow) -> tuple[bool, bool, date]:
        return spell.joined_on == link.joined_on, spell.left_on is None, spell.left_on or date.min

    joined_on = link.joined_on or date.min
    candidates = [spell for spell in spells if spell.joined_on == link.joined_on or joined_on <= (spell.left_on or date.max)]
    return max(candidates, key=rank_spell, default=None)


def end_not_before(joined_on: date | None, left_on: date | None) -> date | None:
    """Returns the last day of a membership, which is not before the first."""
    return joined_on if joined_on is not None and left_on is not None and left_on < joined_on else left_on


def make_membership_rows(
    links: Iterable[GroupLink], register: Register, stored: Iterable[MembershipRow], issues: list[ImportIssue]
) -> list[MembershipRow]:
    """Returns the row of `memberships` that each link creates or continues. None ends before it begins: where the trust
    closed earlier, the first day is the last, and a note says so.
    """
    spells: dict[tuple[UUID, UUID], list[MembershipRow]] = {}
    for spell in stored:
        spells.setdefault((spell.trust_id, spell.school_id), []).append(spell)
    rows: list[MembershipRow] = []
    for link in links:
        pair = register.trusts[link.group_uid].id, register.schools[link.urn].id
        before = find_continued_membership(link, spells.get(pair, ()))
        closed_on = register.find_closing_day(link)
        left_on = end_not_before(link.joined_on, closed_on)
        if left_on != closed_on:
            message = (
                f"URN {link.urn} joined group {link.group_uid} on {link.joined_on}, and the group closed before, on {closed_on}"
            )
            issues.append(ImportIssue(column="Joined date", code="gias-membership-inverted", message=message, severity="note"))
        rows.append(MembershipRow(before.id if before else new_id(MEMBERSHIP), *pair, link.joined_on, left_on))
    return rows


def find_ended_memberships(
    register: Register, stored: Iterable[MembershipRow], rows: Collection[MembershipRow], extracted_ids: Collection[UUID]
) -> list[MembershipRow]:
    """Returns the open memberships that have no link in the extract and must have ended, each with its last day.

    An extract may be a part of the register, so a missing link alone ends nothing. A membership has ended if the school
    or the trust has closed, if the school is in another trust, or if the extract has both the school (it is in
    `extracted_ids`) and links of that trust. Where no last day is known, it is the day of the extract.
    """
    registered = (*register.trusts.values(), *register.schools.values())
    closed_on = {row.id: row.closed_on for row in registered if row.status == "closed"}
    joining_days: dict[UUID, list[date]] = {}
    for row in rows:
        joining_days.setdefault(row.school_id, []).append(row.joined_on or date.min)
    schools_in_trusts = {row.school_id for row in rows if row.left_on is None}
    linked_trusts = {row.trust_id for row in rows}
    linked_ids = {row.id for row in rows}
    ended: list[MembershipRow] = []
    for spell in stored:
        if spell.left_on is not None or spell.id in linked_ids:
            continue
        last_days = [day for id_ in (spell.trust_id, spell.school_id) if (day := closed_on.get(id_))]
        last_days += [day - timedelta(1) for day in joining_days.get(spell.school_id, ()) if day > (spell.joined_on or date.min)]
        if not last_days and (
            spell.school_id in schools_in_trusts or (spell.school_id in extracted_ids and spell.trust_id in linked_trusts)
        ):
            last_days = [register.as_of]
        if last_days:
            ended.append(spell._replace(left_on=end_not_before(spell.joined_on, min(last_days))))
    return ended


def list_successions(establishments: Iterable[Establishment], tally: RowTally) -> set[tuple[int, int]]:
    """Returns pairs of URNs, predecessor first, from the links of either school; the other school may not be in the
    register.
    """
    pairs: set[tuple[int, int]] = set()
    for school in establishments:
        for link in school.links:
            pair = (link.urn, school.urn) if link.kind == "predecessor" else (school.urn, link.urn)
            if link.urn == school.urn:
                tally.ignored["follows-itself"] += 1
            elif pair in pairs:
                tally.ignored["said-by-both-schools"] += 1
            else:
                pairs.add(pair)
    return pairs


def _name_type(code: int) -> str:
    return OTHER_GROUPS.get(code, f"group type {code}")
