"""Gives a child a new identity: for one who is adopted or at risk.

Nothing leads from the new identity to the old one, or back: the id is another one, and so are those of spells and
targets; the old names, UPNs and references are nowhere any more, and stay as keyed hashes, so that a system that still
sends them is refused (Department for Education, guide to UPNs: a new UPN where a pupil is adopted).
"""

from datetime import date
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import reaches_sql
from domain.declare.errors import Conflict, Invalid, Issue, NotFound, PupilMerged, Stale
from domain.declare.ids import new_id
from domain.declare.inputs import DryRun, Input, Name, Output, Text, describe
from domain.declare.scopes import Scope
from domain.declare.type_numbers import PUPIL
from domain.roster import retired
from domain.roster import upn as upn_rules
from domain.roster.former_names import delete_planned_names, describe_former_names
from domain.roster.merged_pupils import make_not_found
from domain.roster.pupil_keys import match_keys
from domain.roster.record_pupils.changes import PupilChanges, PupilFacts, write_changes
from domain.roster.record_pupils.dates import NO_BIRTHDAY, find_new_age_problem, find_school_day, list_date_problems
from domain.roster.retired import describe_name
from domain.roster.upn import UpnText
from domain.store.database import Connection
from domain.store.ledger_notes import note
from domain.support import clock
from domain.write.action import Action
from domain.write.aggregates import adjust_for_pupils
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.partial import require_readable


class NewIdentity(Input, kw_only=True):
    """Who the child is from now on. What is left out stays, but the UPN, the references and the preferred names, which
    are gone.
    """

    expected_version: Annotated[int, describe("The version of the pupil in the URL.")]
    surname: Annotated[Name, describe("Legal surname from now on.")]
    forename: Annotated[Name, describe("Legal forename from now on.")]
    date_of_birth: Annotated[date | UnsetType, describe("Date of birth, if it has to be another one.")] = UNSET
    sex: Annotated[Literal["F", "M"] | UnsetType, describe("Sex, if it has to be another one.")] = UNSET
    upn: Annotated[UpnText | None, describe("The new UPN; null until it is known.")] = None
    reference: Annotated[Text | None, describe("This client's new reference for the pupil at the main school.")] = None


class IdentityGiven(Output, kw_only=True):
    """The new id and its version. The old id does not exist any more."""

    id: str
    version: int
    dry_run: DryRun = UNSET


_FIND = f"SELECT p.* FROM pupils p WHERE p.id = $2 AND {reaches_sql('$1', 'p.tenant_id', 'p.school_id', '$3')}"


@command(scope=Scope.PRIVACY_WRITE, path="new-identity", fails=(Invalid, NotFound, PupilMerged, Conflict, Stale))
async def reidentify_pupil(connection: Connection, caller: Caller, action: Action[NewIdentity]) -> IdentityGiven:
    """Give a pupil a new identity, to which nothing leads from the old one. It cannot be undone.

    The judgements, spells and groups follow. Every other system of the school has to know the new UPN and names: rows
    with an old one are refused.
    """
    arguments = (caller.client_id, action.id, Scope.PRIVACY_WRITE.value)
    found = await connection.fetchrow(_FIND, *arguments)
    if found is None:
        raise await make_not_found(connection, caller, action.id, Scope.PRIVACY_WRITE)
    locks = SchoolLocks(connection, found["tenant_id"])
    await locks.lock([found["school_id"]], [action.id])
    stored = await connection.fetchrow(_FIND, *arguments)
    if stored is None:
        raise await make_not_found(connection, caller, action.id, Scope.PRIVACY_WRITE)
    fields, checks = action.fields, Checks()
    with checks.attempt():
        if stored["version"] != fields.expected_version:
            message = f"The row has version {stored['version']} now. Read it again, and change it as it is."
            raise Stale(message, issues=(Issue("/expectedVersion", Stale.code, message),))
    await _check_keys(connection, caller, stored, fields, checks)
    await _check_birthday(connection, stored, fields, checks)
    checks.refuse_if_any()
    require_readable(fields)
    facts = _make_facts(stored, fields)
    new_pupil_id = new_id(PUPIL)
    await replace_identity(connection, caller.client_id, locks, stored, new_pupil_id, facts, fields.reference)
    await _note_identity(connection, caller, stored, new_pupil_id, facts, fields.reference)
    return IdentityGiven(id=str(new_pupil_id), version=1)


async def replace_identity(
    connection: Connection,
    client_id: UUID,
    locks: SchoolLocks,
    stored: Any,
    new_pupil_id: UUID,
    facts: PupilFacts,
    reference: str | None,
) -> None:
    """Gives all that is stored of a locked pupil to a new one with these facts and this reference of the client's, and retires
    what the pupil was named by.
    """
    tenant_id, school_id, old_pupil_id = stored["tenant_id"], stored["school_id"], stored["id"]
    new_name = describe_name(facts.surname, facts.forename, facts.date_of_birth)
    former_names = await describe_former_names(connection, stored, facts.date_of_birth) - {new_name}
    async with adjust_for_pupils(locks, (old_pupil_id, new_pupil_id)):
        await write_changes(connection, tenant_id, client_id, PupilChanges(new_pupils={new_pupil_id: facts}))
        texts = [retired.describe_id(old_pupil_id), *sorted(former_names)]
        await connection.execute("SELECT retire_identity($1, $2, $3, $4)", tenant_id, old_pupil_id, new_pupil_id, texts)
        await delete_planned_names(connection, tenant_id, former_names)
        await connection.execute("SELECT move_pupils($1, $2, $3)", tenant_id, [new_pupil_id], school_id)  # changedAt
        if facts.upn is not None:
            await connection.execute(_INSERT_UPN, tenant_id, facts.upn, new_pupil_id, school_id)
        if reference is not None:
            await connection.execute(_INSERT_REFERENCE, tenant_id, client_id, school_id, reference, new_pupil_id)


async def _note_identity(
    connection: Connection, caller: Caller, stored: Any, new_pupil_id: UUID, facts: PupilFacts, reference: str | None
) -> None:
    """Notes for the ledger what gives the child the same identity again. Of the old one it holds the id and keyed hashes."""
    hashes = await connection.fetchrow("SELECT * FROM list_new_retired($1)", stored["tenant_id"])
    assert hashes is not None
    note(
        "identity",
        {
            "tenant": str(stored["tenant_id"]),
            "from": str(stored["id"]),
            "to": str(new_pupil_id),
            "client": str(caller.client_id),
            "surname": facts.surname,
            "forename": facts.forename,
            "dateOfBirth": facts.date_of_birth.isoformat(),
            "sex": facts.sex,
            "upn": facts.upn,
            "reference": reference,
            "key": hashes["key_check"].hex(),
            "hashes": [value.hex() for value in hashes["hashes"]],
        },
    )


async def _check_keys(connection: Connection, caller: Caller, stored: Any, fields: NewIdentity, checks: Checks) -> None:
    """Checks what the new identity is known by: none of it may be wrong, another pupil's, retired, or the old one."""
    tenant_id, school_id = stored["tenant_id"], stored["school_id"]
    upn, reference = getattr(fields, "upn", None), getattr(fields, "reference", None)
    try:
        upn = None if upn is None else upn_rules.parse_upn(upn).text
    except ValueError as problem:
        upn = None
        checks.add(Issue("/upn", "upn-invalid", str(problem)))
    (match,) = await match_keys(connection, caller, tenant_id, [(school_id, None, reference, upn)])
    if match.by_upn is not None:
        checks.add(Issue("/upn", "upn-taken", "Another pupil has or had this UPN."))
    if match.by_reference is not None:
        checks.add(Issue("/reference", "reference-taken", "A pupil of the school has this reference."))
    places = [("/upn", retired.describe_upn(upn))] if upn is not None else []
    places += [("/reference", retired.describe_reference(caller.client_id, school_id, reference))] if reference is not None else []
    with checks.attempt():
        facts = _make_facts(stored, fields)
        places.append(("/surname", describe_name(facts.surname, facts.forename, facts.date_of_birth)))
    found = await retired.find_retired(connection, tenant_id, [(n, text) for n, (_, text) in enumerate(places)])
    checks.add(*(Issue(places[n][0], retired.CODE, retired.MESSAGE) for n in sorted(found)))


def _make_facts(stored: Any, fields: NewIdentity) -> PupilFacts:
    """Returns the new facts."""
    return PupilFacts(
        school_id=stored["school_id"],
        upn=None if fields.upn is None else upn_rules.find_upn(fields.upn),
        surname=fields.surname,
        forename=fields.forename,
        date_of_birth=stored["date_of_birth"] if fields.date_of_birth is UNSET else fields.date_of_birth,
        sex=stored["sex"] if fields.sex is UNSET else fields.sex,
        year_group=stored["year_group"],
    )


_SPELLS = "SELECT from_on, to_on FROM enrolments WHERE tenant_id = $1 AND pupil_id = $2"


async def _check_birthday(connection: Connection, stored: Any, fields: NewIdentity, checks: Checks) -> None:
    """Checks another date of birth: it may be impossible, also beside the spells or the year group."""
    born_on = getattr(fields, "date_of_birth", UNSET)
    if born_on is UNSET or born_on == stored["date_of_birth"]:
        return
    issues = [Issue(*problem) for problem in list_date_problems(born_on, {})]
    spells = [(row["from_on"], row["to_on"]) for row in await connection.fetch(_SPELLS, stored["tenant_id"], stored["id"])]
    if not issues and any(first < born_on for first, _ in spells):
        issues.append(Issue("/dateOfBirth", NO_BIRTHDAY, "The pupil was on roll before this day."))
    before, after = ((birthday, stored["year_group"]) for birthday in (stored["date_of_birth"], born_on))
    problem = find_new_age_problem(before, after, find_school_day(spells, clock.read_today()))
    if not issues and problem is not None and problem.is_error:
        issues.append(Issue("/dateOfBirth", problem.code, problem.message))
    checks.add(*issues)


_INSERT_UPN = "INSERT INTO upns (tenant_id, upn, pupil_id, school_id, current) VALUES ($1, $2, $3, $4, true)"
_INSERT_REFERENCE = """
INSERT INTO external_ids (tenant_id, source, kind, school_id, value, id) VALUES ($1, $2, 'pupil', $3, $4, $5)
"""
