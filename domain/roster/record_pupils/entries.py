"""What a roll says of each pupil, and the rules that a row is held to by itself, before it is known whom it means."""

from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.declare.inputs import Input, Text
from domain.roster import upn as upn_rules
from domain.roster import years
from domain.roster.characteristics import Characteristic
from domain.roster.enrolments import MAIN, Spell
from domain.roster.pupils import KeyMatch
from domain.roster.schools import SchoolInReach, SchoolRef
from domain.write.batch import Batch

Name = Annotated[str, Meta(min_length=1, max_length=100)]


class PupilEntry(Input, kw_only=True):
    """A pupil as the school's MIS knows them. The year group holds from the 1 September of the roll's academic year."""

    id: str | UnsetType = UNSET
    reference: Text | UnsetType = UNSET
    upn: str | None = None
    former_upns: Annotated[list[str], Meta(max_length=10)] = []
    surname: Name
    forename: Name
    date_of_birth: date
    sex: Literal["F", "M"]
    year_group: str
    enrolments: Annotated[list[Spell], Meta(max_length=50)] = []
    characteristics: Annotated[list[Characteristic], Meta(max_length=200)] = []
    school: SchoolRef | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.id is UNSET and self.reference is UNSET and self.upn is None:
            raise ValueError("Name the pupil by reference, UPN or id: without one a second sending would make a second child")


class PupilBatch(Input, kw_only=True):
    """A roll, or part of one, as it stood on a day. Who is absent from a complete one left the day before: at most maxLeavers percent at once, by
    the school's own setting unless said."""

    school: SchoolRef | UnsetType = UNSET
    as_of: date
    complete: bool = False
    max_leavers: Annotated[int, Meta(ge=0, le=100)] | UnsetType = UNSET
    entries: list[PupilEntry]


@dataclass
class PupilEntryRow:
    """An entry with its rules applied: canonical UPN, former UPNs and year group, and whom its keys belong to."""

    at: int
    entry: PupilEntry
    school: SchoolInReach
    upn: str | None
    former: list[str]
    year_group: str
    as_of: date
    matches: list[KeyMatch] = field(default_factory=list)

    @property
    def keys(self) -> list[tuple[UUID, str | None, str | None, str | None]]:
        """What to look up: all that names the pupil, then each further former UPN by itself, since it may be another child's."""
        first = " ".join([self.upn or "-", *self.former[:1]])
        own = (self.school.id, self.entry.id or None, self.entry.reference or None, first)
        return [own, *((self.school.id, None, None, f"- {former}") for former in self.former[1:])]

    @property
    def hits(self) -> list[UUID]:
        return list(dict.fromkeys(hit for match in self.matches for hit in match.hits))

    @property
    def pupil_id(self) -> UUID | None:
        return next(iter(self.hits), None)

    @property
    def elsewhere(self) -> KeyMatch | None:
        """The match of a pupil whose main school is stored as another one."""
        return next((m for m in self.matches if m.hits and m.school_id != self.school.id), None)

    @property
    def main_from(self) -> date | None:
        """Since when the row's school has been the main one on that day; None if the row does not say that it is."""
        return next((spell.from_ for spell in self.entry.enrolments if spell.status in MAIN and spell.covers(self.as_of)), None)

    @property
    def takes_over(self) -> bool:
        """Whether the row's school is the main one on that day, and no later main spell has begun where the pupil is now."""
        there = None if self.elsewhere is None else self.elsewhere.open_main_from
        return self.main_from is not None and (there is None or self.main_from >= there)

    @property
    def is_former(self) -> bool:
        """Whether all spells that the row tells of are over."""
        return bool(self.entry.enrolments) and all(spell.is_over(self.as_of) for spell in self.entry.enrolments)

    @property
    def is_second(self) -> bool:
        """Whether what lasts, or where nothing does what is over, is a second school's."""
        spells = self.entry.enrolments
        lasting = [spell for spell in spells if not spell.is_over(self.as_of)] or spells
        return bool(spells) and all(spell.status not in MAIN for spell in lasting)

    def describes(self, match: KeyMatch) -> bool:
        """Whether the row knows the child: born the same day, and with the surname or the forename that is stored."""
        mine, theirs = (self.entry.surname, self.entry.forename), (match.surname or "", match.forename or "")
        alike = any(given.casefold() == stored.casefold() for given, stored in zip(mine, theirs, strict=True))
        return alike and self.entry.date_of_birth == match.date_of_birth

    @property
    def is_another_child(self) -> bool:
        """Whether a reference that was never heard of comes with a UPN of a child born another day, or of another forename, as a twin has.

        A forename may be the longer or shorter form of the same, as schools write it.
        """
        match = next((match for match in self.matches if match.hits), None)
        if match is None or self.entry.id is not UNSET or self.entry.reference is UNSET or match.by_reference is not None:
            return False
        mine, theirs = self.entry.forename.casefold(), (match.forename or "").casefold()
        return self.entry.date_of_birth != match.date_of_birth or not (mine.startswith(theirs) or theirs.startswith(mine))


def apply_rules(batch: Batch[Any, Any], at: int, entry: PupilEntry, school: SchoolInReach) -> PupilEntryRow | None:
    """The row with its rules applied, or None after rejecting it with every issue."""
    before = len(batch.issues)
    numbers: list[str | None] = []
    for where, given in [("upn", entry.upn)] + [(f"formerUpns/{i}", former) for i, former in enumerate(entry.former_upns)]:
        try:
            numbers.append(None if given is None else upn_rules.check_upn(given).text)
        except ValueError as problem:
            batch.reject(at, where, "upn-invalid", str(problem))
    year_group = ""
    try:
        year_group = years.parse_year_group(entry.year_group)
    except ValueError as problem:
        batch.reject(at, "yearGroup", "year-group-invalid", str(problem))
    if not (entry.date_of_birth.year >= 1900 and entry.date_of_birth <= batch.head.as_of):
        batch.reject(at, "dateOfBirth", "date-of-birth-implausible", "The date of birth lies after asOf or before 1900.")
    if len({spell.from_ for spell in entry.enrolments}) < len(entry.enrolments):
        batch.reject(at, "enrolments", "spells-overlap", "Two spells begin on the same day.")
    main = sorted((spell for spell in entry.enrolments if spell.status in MAIN), key=lambda spell: spell.from_)
    if any(earlier.to is None or earlier.to >= later.from_ for earlier, later in pairwise(main)):
        batch.reject(at, "enrolments", "spells-overlap", "Two main spells at this school overlap.")
    if len({(c.kind, c.from_) for c in entry.characteristics}) < len(entry.characteristics):
        batch.reject(at, "characteristics", "spells-overlap", "Two spells of one kind begin on the same day.")
    if len(batch.issues) > before:
        return None
    return PupilEntryRow(at, entry, school, numbers[0], [n for n in numbers[1:] if n], year_group, batch.head.as_of)
