"""The input of a roll, and the rules that each row must meet by itself, before it is matched with a stored pupil."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType, structs

from domain.declare.inputs import Input, Name, RuledInput, Text, describe
from domain.roster import upn as upn_rules
from domain.roster import years
from domain.roster.characteristics import Characteristic
from domain.roster.enrolments import Spell
from domain.roster.on_roll import MAIN
from domain.roster.pupil_keys import Key, KeyMatch, StoredIdentity
from domain.roster.record_pupils.dates import check_dates
from domain.roster.record_pupils.row_problem import RowProblem
from domain.roster.references import IS_IDENTIFIER, is_identifier, may_repeat
from domain.roster.school_refs import SchoolInReach, SchoolRef
from domain.roster.upn import UpnText
from domain.roster.years import YearGroupText
from domain.write.batch import Batch
from domain.write.partial import list_readable

NO_MATCH = KeyMatch(None, None, None, None)

SameChild = Annotated[
    bool,
    describe(
        "Says, with the pupil's id, that it is this pupil though two of UPN, date of birth and forename differ, or UPN and surname have changed."
    ),
]
SaidBy = Annotated[
    Text | UnsetType, describe("Who says that it is the same child, as the sender knows them: a staff code. Kept in history.")
]
"""Fields of an entry, and of a patch."""


def check_actor(entry: Any) -> str | None:
    """Returns what is wrong with an actor of whom nothing is told."""
    return "Give actor only with sameChild" if entry.actor is not UNSET and not entry.same_child else None


def _check_same_child(entry: Any) -> str | None:
    return "Give sameChild only with the pupil's id" if entry.same_child and entry.id is UNSET else None


def _check_key(entry: Any) -> str | None:
    if entry.id is UNSET and entry.reference is UNSET and entry.upn is None:
        return "Name the pupil by reference, UPN or id: without one, sending the row again would create a second pupil"
    return None


class PupilEntry(RuledInput, kw_only=True):
    """A pupil as recorded in the school's MIS. The year group holds from the 1 September of the roll's academic year."""

    may_repeat: ClassVar[Callable[[str], bool] | None] = may_repeat
    rules = (_check_same_child, check_actor, _check_key)

    id: Annotated[str | UnsetType, describe("The id of a pupil that is stored.")] = UNSET
    reference: Annotated[Text | UnsetType, describe("The sender's own id of the pupil at this school.")] = UNSET
    upn: Annotated[
        UpnText | None, describe("Unique pupil number, permanent or temporary. Left out or null, the stored one stays.")
    ] = None
    former_upns: Annotated[Annotated[list[UpnText], Meta(max_length=10)], describe("UPNs that the pupil had before.")] = []
    surname: Annotated[Name, describe("Legal surname.")]
    forename: Annotated[Name, describe("Legal forename.")]
    preferred_surname: Annotated[
        Name | UnsetType | None,
        describe("Surname that the school uses instead of the legal one. Left out, the stored one stays; null removes it."),
    ] = UNSET
    preferred_forename: Annotated[
        Name | UnsetType | None,
        describe("Forename that the school uses instead of the legal one. Left out, the stored one stays; null removes it."),
    ] = UNSET
    date_of_birth: Annotated[date, describe("Date of birth.")]
    sex: Annotated[Literal["F", "M"], describe("Sex, as in DfE data exchange.")]
    year_group: Annotated[
        YearGroupText, describe("National curriculum year: E1, E2, N1, N2, R, 1 to 14 or X; also written Year 4, Y4, or 0 for R.")
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
    same_child: SameChild = False
    actor: SaidBy = UNSET


class PupilBatch(Input, kw_only=True):
    """A roll, or part of one, as it was on a day until tomorrow. Pupils absent from a complete roll left on the day
    before, at most maxLeavers percent at once (by default the school's own setting).

    From 1 June on, asOf may be a day of the coming academic year until its 30 September. Such a roll is planned: it
    changes nothing until that day, and is applied then by itself. A complete one replaces every planned roll of its
    school and year, another one the planned rows about its pupils.
    """

    school: SchoolRef | UnsetType = UNSET
    as_of: date
    complete: bool = False
    max_leavers: Annotated[int, Meta(ge=0, le=100)] | UnsetType = UNSET
    entries: list[PupilEntry]


@dataclass
class PupilEntryRow:
    """An entry that meets the rules: canonical UPN, former UPNs and year group.

    `match` and `former_matches` are those of its keys. identity.py sets the rest: `pupil` is whom the row means, or
    `problem` why it may not be written. `released_upns` are taken from pupils for whom they were recorded in error.
    `taken_from` is the pupil whose own row in the batch gives up this row's UPN; `problem_if_kept` is this row's problem
    if that row is rejected. Where the sender is not the school's source, `entry` is without spells, and `said` is with
    them. `confirms_identity` says that a person allows a change of permanent UPN and surname.
    """

    at: int
    entry: PupilEntry
    school: SchoolInReach
    upn: str | None
    former_upns: list[str]
    year_group: str
    as_of: date
    match: KeyMatch = NO_MATCH
    former_matches: list[KeyMatch] = field(default_factory=list)
    pupil: StoredIdentity | None = None
    problem: RowProblem | None = None
    former_upns_to_record: list[str] = field(default_factory=list)
    released_upns: list[tuple[str, UUID]] = field(default_factory=list)
    taken_from: UUID | None = None
    confirms_identity: bool = False
    problem_if_kept: RowProblem | None = None
    said: PupilEntry | None = None

    @property
    def is_of_source(self) -> bool:
        """Whether the sender may write names, enrolments and characteristics of the row's school."""
        return self.said is None

    @property
    def keys(self) -> list[Key]:
        """The keys to match: one of all that names the pupil, then each former UPN."""
        main_key = (self.school.id, self.entry.id or None, self.entry.reference or None, self.upn)
        return [main_key, *((self.school.id, None, None, upn) for upn in self.former_upns)]

    @property
    def matched_ids(self) -> list[UUID]:
        """The distinct pupils to whom the keys belong, whether they identify them or not."""
        return list(dict.fromkeys(id_ for match in (self.match, *self.former_matches) for id_ in match.pupil_ids))

    @property
    def named_ids(self) -> list[UUID]:
        """The distinct pupils whom the row names by id or reference."""
        return list(dict.fromkeys(id_ for id_ in (self.match.by_id, self.match.by_reference) if id_ is not None))

    @property
    def pupil_id(self) -> UUID | None:
        """The pupil whom the row means; None for a new one."""
        return None if self.pupil is None else self.pupil.id

    @property
    def match_at_other_school(self) -> StoredIdentity | None:
        """The pupil, where the stored main school is not the row's."""
        return self.pupil if self.pupil is not None and self.pupil.school_id != self.school.id else None

    @property
    def writes_facts(self) -> bool:
        """Whether the row's school is the main one, which alone writes names, UPNs and characteristics."""
        return self.match_at_other_school is None or self.is_moving_here

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


def apply_rules(
    batch: Batch[Any, Any], at: int, entry: PupilEntry, school: SchoolInReach | None, *, checks_age: bool = True
) -> PupilEntryRow | None:
    """Returns the row if it meets the rules, or None after rejecting it with every issue of what can be read of it."""
    former_upns = list_readable(getattr(entry, "former_upns", []))
    upns: list[str | None] = []
    for place, text in [("upn", getattr(entry, "upn", None)), *((f"formerUpns/{i}", former) for i, former in former_upns)]:
        try:
            upns.append(None if text is None else upn_rules.parse_upn(text).text)
        except ValueError as problem:
            batch.reject(at, place, "upn-invalid", str(problem))
    reference, year_text, year_group = getattr(entry, "reference", UNSET), getattr(entry, "year_group", None), None
    if reference is not UNSET and is_identifier(reference):
        batch.reject(at, "reference", *IS_IDENTIFIER)
    try:
        year_group = None if year_text is None else years.parse_year_group(year_text)
    except ValueError as problem:
        batch.reject(at, "yearGroup", "year-group-invalid", str(problem))
    check_dates(batch, at, entry, year_group, checks_age=checks_age)
    as_of = getattr(batch.head, "as_of", None)
    if batch.is_rejected(at) or school is None or year_group is None or as_of is None:
        return None
    row = PupilEntryRow(at, entry, school, upns[0], [upn for upn in upns[1:] if upn], year_group, as_of)
    if school.has_other_source:
        row.entry, row.said = structs.replace(entry, enrolments=UNSET, characteristics=UNSET), entry
    return row
