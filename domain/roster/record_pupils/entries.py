"""The input of a roll, and the rules that each row must meet by itself, before it is matched with a stored pupil."""

from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.declare.inputs import Input, Name, Text, describe
from domain.roster import upn as upn_rules
from domain.roster import years
from domain.roster.characteristics import Characteristic
from domain.roster.enrolments import Spell
from domain.roster.on_roll import MAIN
from domain.roster.pupil_keys import KeyMatch
from domain.roster.record_pupils.dates import check_dates
from domain.roster.references import is_identifier
from domain.roster.school_refs import SchoolInReach, SchoolRef
from domain.write.batch import Batch


class PupilEntry(Input, kw_only=True):
    """A pupil as recorded in the school's MIS. The year group holds from the 1 September of the roll's academic year."""

    id: Annotated[str | UnsetType, describe("The id of a pupil that is stored.")] = UNSET
    reference: Annotated[Text | UnsetType, describe("The sender's own id of the pupil at this school.")] = UNSET
    upn: Annotated[str | None, describe("Unique pupil number, permanent or temporary. Left out or null, the stored one stays.")] = (
        None
    )
    former_upns: Annotated[Annotated[list[str], Meta(max_length=10)], describe("UPNs that the pupil had before.")] = []
    surname: Annotated[Name, describe("Legal surname.")]
    forename: Annotated[Name, describe("Legal forename.")]
    date_of_birth: Annotated[date, describe("Date of birth.")]
    sex: Annotated[Literal["F", "M"], describe("Sex, as in DfE data exchange.")]
    year_group: Annotated[
        str, describe("National curriculum year: E1, E2, N1, N2, R, 1 to 14 or X; also written Year 4, Y4, or 0 for R.")
    ]
    enrolments: Annotated[
        Annotated[list[Spell], Meta(max_length=50)] | UnsetType,
        describe(
            "All spells on roll at this school in the academic year of asOf. Stored ones that are not among them are withdrawn, all of"
            " them by an empty list. Left out: the stored ones stay. A spell is sent whole, also where it began in an earlier year."
        ),
    ] = UNSET
    characteristics: Annotated[
        Annotated[list[Characteristic], Meta(max_length=200)] | UnsetType,
        describe(
            "All spells of characteristics in the academic year of asOf. Stored ones that are not among them are withdrawn, and are then"
            " unknown, not false. Left out: the stored ones stay."
        ),
    ] = UNSET
    school: Annotated[SchoolRef | UnsetType, describe("The row's school, unless the batch names one.")] = UNSET

    def __post_init__(self) -> None:
        if self.id is UNSET and self.reference is UNSET and self.upn is None:
            raise ValueError(
                "Name the pupil by reference, UPN or id: without one, sending the row again would create a second pupil"
            )


class PupilBatch(Input, kw_only=True):
    """A roll, or part of one, as it was on a day. Pupils absent from a complete roll left on the day before, at most
    maxLeavers percent at once (by default the school's own setting).
    """

    school: SchoolRef | UnsetType = UNSET
    as_of: date
    complete: bool = False
    max_leavers: Annotated[int, Meta(ge=0, le=100)] | UnsetType = UNSET
    entries: list[PupilEntry]


@dataclass
class PupilEntryRow:
    """An entry that meets the rules: canonical UPN, former UPNs and year group, and the matches of its keys."""

    at: int
    entry: PupilEntry
    school: SchoolInReach
    upn: str | None
    former_upns: list[str]
    year_group: str
    as_of: date
    matches: list[KeyMatch] = field(default_factory=list)

    @property
    def keys(self) -> list[tuple[UUID, str | None, str | None, str | None]]:
        """The keys to match: one of all that names the pupil, then each further former UPN alone, since it may be
        another child's.
        """
        first = " ".join([self.upn or "-", *self.former_upns[:1]])
        main_key = (self.school.id, self.entry.id or None, self.entry.reference or None, first)
        return [main_key, *((self.school.id, None, None, f"- {upn}") for upn in self.former_upns[1:])]

    @property
    def matched_ids(self) -> list[UUID]:
        """The distinct pupils that the keys match."""
        return list(dict.fromkeys(id_ for match in self.matches for id_ in match.pupil_ids))

    @property
    def pupil_id(self) -> UUID | None:
        """The matched pupil; None for a new one."""
        return next(iter(self.matched_ids), None)

    @property
    def match_at_other_school(self) -> KeyMatch | None:
        """The match of a pupil whose stored main school is not the row's."""
        return next((m for m in self.matches if m.pupil_ids and m.school_id != self.school.id), None)

    @property
    def spells(self) -> list[Spell]:
        """The spells on roll that the row says; none where it says nothing of them."""
        return [] if self.entry.enrolments is UNSET else self.entry.enrolments

    @property
    def main_from(self) -> date | None:
        """The first day of the row's main spell that includes `as_of`; None without such a spell."""
        return next((spell.from_ for spell in self.spells if spell.status in MAIN and spell.is_on(self.as_of)), None)

    @property
    def is_moving_here(self) -> bool:
        """Whether the row's school is the main one on that day, and no later main spell is open at the pupil's stored
        school.
        """
        match = self.match_at_other_school
        stored_from = None if match is None else match.open_main_from
        return self.main_from is not None and (stored_from is None or self.main_from >= stored_from)

    @property
    def is_former(self) -> bool:
        """Whether all spells of the row are over."""
        return bool(self.spells) and all(spell.is_over(self.as_of) for spell in self.spells)

    @property
    def is_second(self) -> bool:
        """Whether the row's school is a second one: no main spell among those that are not over or, where all are over,
        among all.
        """
        spells = self.spells
        current = [spell for spell in spells if not spell.is_over(self.as_of)] or spells
        return bool(spells) and all(spell.status not in MAIN for spell in current)

    def has_identity_of(self, match: KeyMatch) -> bool:
        """Whether the row has the stored date of birth and the stored surname or forename."""
        names = (self.entry.surname, match.surname or ""), (self.entry.forename, match.forename or "")
        has_same_name = any(name.casefold() == stored_name.casefold() for name, stored_name in names)
        return has_same_name and self.entry.date_of_birth == match.date_of_birth

    @property
    def is_another_child(self) -> bool:
        """Whether a new reference comes with the UPN of a child with another date of birth or another forename (a
        twin).

        A forename that is a longer or shorter form of the stored one is the same.
        """
        match = next((match for match in self.matches if match.pupil_ids), None)
        if match is None or self.entry.id is not UNSET or self.entry.reference is UNSET or match.by_reference is not None:
            return False
        forename, stored_forename = self.entry.forename.casefold(), (match.forename or "").casefold()
        return self.entry.date_of_birth != match.date_of_birth or not (
            forename.startswith(stored_forename) or stored_forename.startswith(forename)
        )


def apply_rules(
    batch: Batch[Any, Any], at: int, entry: PupilEntry, school: SchoolInReach, *, checks_age: bool = True
) -> PupilEntryRow | None:
    """Returns the row if it meets the rules, or None after rejecting it with every issue."""
    before = len(batch.issues)
    upns: list[str | None] = []
    for field_name, text in [("upn", entry.upn)] + [(f"formerUpns/{i}", former) for i, former in enumerate(entry.former_upns)]:
        try:
            upns.append(None if text is None else upn_rules.parse_upn(text).text)
        except ValueError as problem:
            batch.reject(at, field_name, "upn-invalid", str(problem))
    if entry.reference is not UNSET and is_identifier(entry.reference):
        batch.reject(at, "reference", "reference-is-identifier", "A reference may not be a UPN or an NHS number.")
    year_group = ""
    try:
        year_group = years.parse_year_group(entry.year_group)
    except ValueError as problem:
        batch.reject(at, "yearGroup", "year-group-invalid", str(problem))
    check_dates(batch, at, entry, year_group if checks_age and year_group else None)
    if len(batch.issues) > before:
        return None
    return PupilEntryRow(at, entry, school, upns[0], [upn for upn in upns[1:] if upn], year_group, batch.head.as_of)
