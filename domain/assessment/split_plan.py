"""The request for a split of a record, and what it means: its names resolved, and everything that is wrong with it."""

from dataclasses import dataclass, field
from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.access.caller import Caller
from domain.assessment.merge_pupil import check_locked_windows
from domain.assessment.split_dates import check_split_dates
from domain.declare.errors import Issue, make_invalid
from domain.declare.ids import new_id
from domain.declare.inputs import Input, Name, Text, describe
from domain.declare.scopes import Scope
from domain.declare.type_numbers import ENROLMENT
from domain.roster import upn as upn_rules
from domain.roster import years
from domain.roster.characteristics import Characteristic
from domain.roster.enrolments import Spell
from domain.roster.pupil_keys import match_keys
from domain.roster.school_refs import SchoolInReach, SchoolRef, find_schools, make_school_issue, read_ref
from domain.roster.unite_spells import DatedSpell
from domain.store.database import Connection
from domain.write.checks import Checks
from domain.write.partial import is_partial, list_readable


class SplitSpell(Spell, kw_only=True):
    """A whole spell on roll, with its school."""

    school: Annotated[SchoolRef, describe("The school.")]


class SplitReference(Input, kw_only=True):
    """This client's own reference for the new record, with its school."""

    school: Annotated[SchoolRef, describe("The school.")]
    reference: Annotated[Text, describe("The client's own id of the pupil there, which the record has now.")]


class PupilSplit(Input, kw_only=True):
    """The new record: its facts, its spells, and the windows whose judgements are its own."""

    expected_version: Annotated[int, describe("The version of the record in the URL, which remains.")]
    surname: Annotated[Name, describe("Legal surname of the new record.")]
    forename: Annotated[Name, describe("Legal forename of the new record.")]
    preferred_surname: Annotated[Name | None, describe("Surname that the school uses instead, for the new record.")] = None
    preferred_forename: Annotated[Name | None, describe("Forename that the school uses instead, for the new record.")] = None
    date_of_birth: Annotated[date, describe("Date of birth of the new record.")]
    sex: Annotated[Literal["F", "M"], describe("Sex of the new record, as in DfE data exchange.")]
    year_group: Annotated[years.YearGroupText, describe("National curriculum year of the new record today.")]
    upn: Annotated[upn_rules.UpnText | None, describe("UPN of the new record: one it has or had, or one that nobody has.")] = None
    enrolments: Annotated[
        Annotated[list[SplitSpell], Meta(min_length=1, max_length=50)],
        describe("Spells on roll of the new record. The record loses those with the same school and first day."),
    ]
    remaining_enrolments: Annotated[
        Annotated[list[SplitSpell], Meta(min_length=1, max_length=50)] | UnsetType,
        describe(
            "Spells that the record in the URL has afterwards, where they are others than those it has now less the new record's."
        ),
    ] = UNSET
    windows: Annotated[
        Annotated[list[Text], Meta(max_length=200)],
        describe("Codes of the windows whose judgements and discounts are the new record's."),
    ] = []
    targets: Annotated[Annotated[list[str], Meta(max_length=500)], describe("Ids of the targets that are the new record's.")] = []
    groups: Annotated[
        Annotated[list[str], Meta(max_length=200)],
        describe("Ids of the groups of the new record, besides those when it alone was on roll."),
    ] = []
    references: Annotated[
        Annotated[list[SplitReference], Meta(max_length=50)],
        describe(
            "References that are the new record's. Those of other clients are taken off both records, and are found again when their"
            " client names the pupil by UPN; but where a merge is undone, each record has its own again."
        ),
    ] = []
    characteristics: Annotated[
        Annotated[list[Characteristic], Meta(max_length=200)], describe("Spells of the new record's characteristics.")
    ] = []
    remaining_characteristics: Annotated[
        Annotated[list[Characteristic], Meta(max_length=200)] | UnsetType,
        describe("Spells of the record's own characteristics from now on; left out, they stay as they are."),
    ] = UNSET
    locked_windows: Annotated[list[Text], describe("Codes of the locked windows whose judgements may move.")] = []
    confirmation: Annotated[str | UnsetType, describe("What the dry run of the same request answered.")] = UNSET


@dataclass
class SplitPlan:
    """A request whose names are resolved. `remaining` and `new` are the spells of both records."""

    record: Any
    year_group: str = ""
    upn: str | None = None
    new: list[DatedSpell] = field(default_factory=list)
    remaining: list[DatedSpell] = field(default_factory=list)
    windows: list[int] = field(default_factory=list)
    references: list[tuple[UUID, str]] = field(default_factory=list)

    @property
    def left_schools(self) -> set[UUID]:
        """The schools where the new record has spells and the remaining one has none."""
        return {spell.where for spell in self.new} - {spell.where for spell in self.remaining}


_LISTS = {"enrolments": "enrolments", "references": "references", "remaining_enrolments": "remainingEnrolments"}
"""The lists of a request whose elements name schools, with their names in JSON."""


def _list_sent(fields: PupilSplit, name: str) -> list[tuple[int, Any]]:
    """Returns the elements of a list of the request that can be read, each with its index."""
    sent = getattr(fields, name, UNSET)
    return [] if sent is UNSET else list_readable(sent)


async def find_split_schools(
    connection: Connection, caller: Caller, fields: PupilSplit, tenant_id: UUID, checks: Checks
) -> dict[str, SchoolInReach]:
    """Returns the schools that the request names, by their reference; adds an issue for each that is out of reach."""
    named = {f"/{at}/{i}/school": read_ref(item) for name, at in _LISTS.items() for i, item in _list_sent(fields, name)}
    places = {place: ref for place, ref in named.items() if isinstance(ref, SchoolRef)}
    found = await find_schools(connection, caller, Scope.PUPILS_MERGE, list(places.values()))
    schools = {
        repr(ref): school
        for ref, school in zip(places.values(), found, strict=True)
        if school is not None and school.tenant_id == tenant_id
    }
    checks.add(*(make_school_issue(place, Scope.PUPILS_MERGE) for place, ref in places.items() if repr(ref) not in schools))
    return schools


_SPELLS = "SELECT id, school_id, from_on, to_on, status, leaving_reason FROM enrolments WHERE tenant_id = $1 AND pupil_id = $2"
_WINDOWS = "SELECT code, no, state FROM windows WHERE tenant_id = $1 AND code = ANY ($2)"
_TARGETS = """
SELECT id::text FROM targets WHERE tenant_id = $1 AND pupil_id = $2 UNION SELECT id::text FROM target_history WHERE tenant_id = $1 AND pupil_id = $2
"""
_GROUPS = "SELECT group_id::text AS id FROM group_members WHERE tenant_id = $1 AND pupil_id = $2"
_REFERENCES = "SELECT school_id, value FROM external_ids WHERE tenant_id = $1 AND id = $2 AND source = $3 AND kind = 'pupil'"


async def make_plan(
    connection: Connection, caller: Caller, record: Any, fields: PupilSplit, schools: dict[str, SchoolInReach], checks: Checks
) -> SplitPlan:
    """Returns what the request means; raises everything that is wrong with it, and what `checks` have found before."""
    plan = SplitPlan(record)
    key = (record["tenant_id"], record["id"])
    year_text, year_group = getattr(fields, "year_group", None), None
    try:
        year_group = None if year_text is None else years.parse_year_group(year_text)
    except ValueError as problem:
        checks.add(Issue("/yearGroup", "year-group-invalid", str(problem)))
    plan.year_group = year_group or ""
    with checks.attempt():
        plan.upn = await _find_upn(connection, caller, record, fields)
    stored = [
        DatedSpell(r["id"], r["school_id"], r["from_on"], r["to_on"], r["status"], r["leaving_reason"])
        for r in await connection.fetch(_SPELLS, *key)
    ]
    plan.new = _read_spells(checks, "enrolments", _list_sent(fields, "enrolments"), schools)
    taken = {(spell.where, spell.from_on) for spell in plan.new}
    plan.remaining = _read_spells(checks, "remainingEnrolments", _list_sent(fields, "remaining_enrolments"), schools)
    with checks.attempt():
        if fields.remaining_enrolments is UNSET:
            plan.remaining = [spell for spell in stored if (spell.where, spell.from_on) not in taken]
            if not plan.remaining:
                message = "The record that remains needs at least one spell on roll."
                checks.add(Issue("/enrolments", "enrolment-required", message))
    check_split_dates(checks, plan.record, fields, year_group, plan.new)
    sent_windows = dict(_list_sent(fields, "windows"))
    windows = {row["code"]: row for row in await connection.fetch(_WINDOWS, key[0], list(sent_windows.values()))}
    plan.windows = [row["no"] for row in windows.values()]
    own = {
        "windows": (set(windows), "window-unknown", "This tenant has no such window."),
        "targets": (await _read_ids(connection, _TARGETS, key), "target-unknown", "The record has no such target."),
        "groups": (await _read_ids(connection, _GROUPS, key), "group-unknown", "The record is in no such group."),
    }
    for name, (known_names, code, message) in own.items():
        unknown = (i for i, text in _list_sent(fields, name) if text not in known_names)
        checks.add(*(Issue(f"/{name}/{i}", code, message) for i in unknown))
    references = {tuple(row) for row in await connection.fetch(_REFERENCES, *key, caller.client_id)}
    for i, item in _list_sent(fields, "references"):
        school, reference = schools.get(repr(read_ref(item))), getattr(item, "reference", None)
        if school is None or reference is None:
            continue
        plan.references.append((school.id, reference))
        if plan.references[-1] not in references:
            message = "This client has no such reference for the record there."
            checks.add(Issue(f"/references/{i}/reference", "reference-unknown", message))
    with checks.attempt():
        check_locked_windows({code for code, row in windows.items() if row["state"] == "locked"}, fields.locked_windows)
    checks.refuse_if_any()
    return plan


async def _read_ids(connection: Connection, statement: str, key: tuple[UUID, UUID]) -> set[str]:
    return {row["id"] for row in await connection.fetch(statement, *key)}


async def _find_upn(connection: Connection, caller: Caller, record: Any, fields: PupilSplit) -> str | None:
    """Returns the new record's UPN in canonical form. Raises Invalid where another pupil has it."""
    if fields.upn is None:
        return None
    try:
        upn = upn_rules.parse_upn(fields.upn).text
    except ValueError as problem:
        raise make_invalid([Issue("/upn", "upn-invalid", str(problem))]) from problem
    (match,) = await match_keys(connection, caller, record["tenant_id"], [(record["school_id"], None, None, upn)])
    if match.pupil_ids and match.pupil_ids != [record["id"]]:
        raise make_invalid([Issue("/upn", "upn-taken", "Another pupil has or had this UPN.")])
    return upn


def _read_spells(checks: Checks, name: str, spells: list[tuple[int, Any]], schools: dict[str, SchoolInReach]) -> list[DatedSpell]:
    """Returns the spells that can be read, with new ids; adds an issue for each that overlaps another one at its school."""
    made: list[DatedSpell] = []
    for i, spell in spells:
        school = schools.get(repr(read_ref(spell)))
        if school is None or is_partial(spell):
            continue
        dated = DatedSpell(new_id(ENROLMENT), school.id, spell.from_, spell.to, spell.status, spell.leaving_reason)
        if any(other.where == school.id and other.overlaps(dated) for other in made):
            checks.add(Issue(f"/{name}/{i}", "spells-overlap", "Two spells at one school overlap."))
        made.append(dated)
    return made
