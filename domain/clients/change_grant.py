"""Gives, narrows, extends, ends and confirms one grant, for a client that holds grants:write where the grant is.

A grant holds no more scopes, no wider target and no later expiry than its giver's. Nobody gives one to itself, and nobody
gives clients:write, grants:write, imports:write or the installation. Functions of the owner write (migration 0072) and check
all of it again: the application's role may not write grants.
"""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from msgspec import UNSET, UnsetType

from domain.access.caller import Caller
from domain.access.reach import IN_FORCE, reaches_sql
from domain.assessment.tenant_setup import prepare_tenant
from domain.clients.change_client import run_as_owner
from domain.clients.grants import Kind, Target, make_confirmed_error, make_over_error, make_unconfirmed_error
from domain.clients.revocations import note_grants
from domain.declare.errors import Conflict, Invalid, Issue, NotFound, make_invalid
from domain.declare.ids import NIL, new_id, parse_id
from domain.declare.inputs import DryRun, Input, Instant, LongText, Output, RuledInput, Text, describe
from domain.declare.scopes import NEVER_GIVEN, Scope
from domain.declare.type_numbers import GRANT
from domain.roster.school_refs import SchoolRef, find_school
from domain.roster.tenant_ref import TenantRef, TrustRef, check_one_tenant, find_tenant
from domain.store.database import Connection
from domain.support.suggestions import Suggestions
from domain.write.action import Action
from domain.write.checks import Checks
from domain.write.command import command
from domain.write.partial import Unreadable, list_readable, require_readable


class GrantTarget(RuledInput, kw_only=True):
    """A trust as a whole, or one school."""

    rules = (check_one_tenant,)

    trust: TrustRef | UnsetType = UNSET
    school: SchoolRef | UnsetType = UNSET


class NewGrant(Input, kw_only=True):
    """A grant to give to a client, on the trust or school (`target`) whose data it is about. It holds no more scopes, no wider target and no later
    expiry than the caller's own grants."""

    client: Annotated[Text, describe("Id of the client that gets it, of whichever tenant, and not the caller.")]
    target: GrantTarget
    scopes: Annotated[
        list[Text],
        describe(
            "The scopes that it gives, of those that the caller holds there; never clients:write, grants:write or imports:write."
        ),
    ]
    purpose: Annotated[LongText, describe("What the data is for.")]
    approved_by: Annotated[Text, describe("Who approved it, as the sender knows them.")]
    kind: Annotated[
        Kind | None,
        describe(
            "What the client does with the data: front-end shows it to people, sync copies it elsewhere, analytics evaluates it."
        ),
    ] = None
    agreement_version: Annotated[Text | None, describe("Version of the agreement that it rests on.")] = None
    expires_at: Annotated[
        Instant | UnsetType | None,
        describe("When it expires. Left out: with the caller's own grants. null: never, where these do not expire."),
    ] = UNSET


class GrantNarrowing(Input, kw_only=True):
    """What the grant keeps: fewer scopes, an earlier expiry, or both."""

    scopes: Annotated[list[Text] | UnsetType, describe("The scopes that it keeps.")] = UNSET
    expires_at: Annotated[Instant | UnsetType, describe("When it expires now, sooner than before.")] = UNSET


class GrantExtension(Input, kw_only=True):
    """How long the grant lasts."""

    expires_at: Annotated[
        Instant | None, describe("When it expires now, later than before and no later than the caller's own grants; null: never.")
    ]


class GrantRef(Input, kw_only=True):
    """A grant by its id."""

    id: str


class GrantNow(Output, kw_only=True):
    """A grant as it is now. Of its client the name is shown. `unconfirmedGrants` are the ids of the grants that this client gave to others and holds no
    more: they end in 30 days unless they are confirmed."""

    id: str
    client_id: str
    client_name: str
    target: Target
    target_id: str | None
    scopes: list[str]
    starts_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    confirm_by: datetime | None
    unconfirmed_grants: list[str] = []
    dry_run: DryRun = UNSET


class _Holding(NamedTuple):
    """Until when the caller holds a scope at a place; None: it does not end."""

    until: datetime | None


@command(scope=Scope.GRANTS_WRITE, at_school=False, fails=(Invalid,))
async def create_grant(connection: Connection, caller: Caller, grant: NewGrant) -> GrantNow:
    """Give a client a grant on the trust or a school, within the caller's own grants. It is in force at once."""
    checks = Checks()
    tenant_id, school_id = NIL, NIL
    with checks.attempt():
        tenant_id, school_id = await _find_target(connection, caller, grant.target)
    with checks.attempt():
        await _check_client(connection, caller, grant.client)
    with checks.attempt():
        until = grant.expires_at
        if until is not UNSET and until is not None and await connection.fetchval("SELECT $1::timestamptz <= now()", until):
            checks.add(Issue("/expiresAt", "wrong-value", "A grant expires at an instant that is still to come."))
    names = _check_names(checks, grant, "scopes")
    held = await _read_holdings(connection, caller, tenant_id, school_id)
    expires_at: datetime | None = None
    if tenant_id != NIL:
        for i, scope in names:
            if scope not in held:
                message = f"The caller does not hold {scope} there, in its token and by a grant of the command line: what another client gave is not given on."
                checks.add(Issue(f"/scopes/{i}", "grant-too-wide", message))
        with checks.attempt():
            expires_at = _choose_expiry(held, [scope for _, scope in names], grant.expires_at)
    checks.refuse_if_any()
    require_readable(grant)
    await prepare_tenant(connection, tenant_id)
    grant_id, scopes = new_id(GRANT), list(dict.fromkeys(scope for _, scope in names))
    await run_as_owner(
        connection,
        "SELECT give_grant($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        *(grant_id, UUID(grant.client), tenant_id, school_id, sorted(scopes), grant.purpose, grant.kind),
        *(grant.agreement_version, grant.approved_by, expires_at),
    )
    return await _describe(connection, grant_id)


@command(scope=Scope.GRANTS_WRITE, at_school=False, on_installation=True, fails=(Invalid, NotFound, Conflict))
async def narrow_grant(connection: Connection, caller: Caller, action: Action[GrantNarrowing]) -> GrantNow:
    """Leave a grant fewer scopes, or let it expire sooner. At once, for tokens that are out too."""
    grant, checks = await _find_grant(connection, caller, action.id), Checks()
    with checks.attempt():
        _refuse_over(grant)
    with checks.attempt():
        if action.fields.scopes is UNSET and action.fields.expires_at is UNSET:
            checks.add(Issue("", "required", "Say which scopes the grant keeps, or when it expires."))
    names = _check_names(checks, action.fields, "scopes") if getattr(action.fields, "scopes", UNSET) is not UNSET else []
    for i, scope in names:
        if scope not in grant["scopes"]:
            checks.add(Issue(f"/scopes/{i}", "grant-too-wide", f"The grant does not give {scope}. Give another grant instead."))
    with checks.attempt():
        expires_at = action.fields.expires_at
        if expires_at is not UNSET and grant["expires_at"] is not None and expires_at > grant["expires_at"]:
            checks.add(Issue("/expiresAt", "grant-too-wide", "The grant expires sooner than that. Extend it instead."))
        if expires_at is not UNSET and expires_at <= grant["now"]:
            checks.add(Issue("/expiresAt", "wrong-value", "A grant expires at an instant that is still to come. End it instead."))
    checks.refuse_if_any()
    require_readable(action.fields)
    kept = sorted({scope for _, scope in names}) or grant["scopes"]
    until = None if action.fields.expires_at is UNSET else action.fields.expires_at
    rows = await run_as_owner(
        connection, "SELECT narrow_grant AS id FROM narrow_grant($1, $2, $3) ORDER BY 1", action.id, kept, until
    )
    await note_grants(connection, [action.id])
    return await _describe(connection, action.id, rows)


@command(scope=Scope.GRANTS_WRITE, at_school=False, on_installation=True, fails=(Invalid, NotFound, Conflict))
async def extend_grant(connection: Connection, caller: Caller, action: Action[GrantExtension]) -> GrantNow:
    """Let a grant in force expire later, within the caller's own grants, which must still hold all that it gives."""
    grant, checks = await _find_grant(connection, caller, action.id), Checks()
    with checks.attempt():
        _refuse_over(grant)
        if grant["confirm_by"] is not None:
            raise make_unconfirmed_error()
    with checks.attempt():
        until = action.fields.expires_at
        if until is not None and (grant["expires_at"] is None or until < grant["expires_at"] or until <= grant["now"]):
            checks.add(Issue("/expiresAt", "wrong-value", "The grant lasts longer already. Narrow it instead."))
        else:
            await _check_holding(connection, caller, grant, until)
    checks.refuse_if_any()
    require_readable(action.fields)
    await run_as_owner(connection, "SELECT extend_grant($1, $2)", action.id, action.fields.expires_at)
    return await _describe(connection, action.id)


@command(scope=Scope.GRANTS_WRITE, at_school=False, on_installation=True, fails=(NotFound,))
async def end_grant(connection: Connection, caller: Caller, ref: GrantRef) -> GrantNow:
    """End one grant, at once, for tokens that are out too. The client's other grants stay. It cannot be taken back: give another."""
    grant_id = UUID(str((await _find_grant(connection, caller, parse_id(ref.id)))["id"]))
    rows = await run_as_owner(connection, "SELECT end_grant AS id FROM end_grant($1) ORDER BY 1", grant_id)
    await note_grants(connection, [grant_id])
    return await _describe(connection, grant_id, rows)


@command(scope=Scope.GRANTS_WRITE, at_school=False, on_installation=True, fails=(Invalid, NotFound, Conflict))
async def confirm_grant(connection: Connection, caller: Caller, ref: GrantRef) -> GrantNow:
    """Keep a grant whose giver has ended: the caller gives it now, and must hold all of it. It expires when it was approved to."""
    grant_id = parse_id(ref.id)
    grant = await _find_grant(connection, caller, grant_id)
    _refuse_over(grant)
    if grant["confirm_by"] is None:
        raise make_confirmed_error()
    await _check_holding(connection, caller, grant, grant["approved_until"])
    await run_as_owner(connection, "SELECT confirm_grant($1)", grant_id)
    return await _describe(connection, grant_id)


async def _find_target(connection: Connection, caller: Caller, target: GrantTarget) -> tuple[UUID, UUID]:
    """Returns the tenant of a target, and the school or once more the tenant. Raises Invalid where the caller may give nothing there."""
    named = getattr(target, "school", UNSET)  # where the other cannot be read, this one is checked all the same
    if named is not UNSET:
        school = await find_school(connection, caller, Scope.GRANTS_WRITE, named, "/target/school")
        return school.tenant_id, school.id
    if target.trust is UNSET:  # of a target that cannot be read as a whole
        raise Unreadable
    tenant_id = await find_tenant(connection, caller, Scope.GRANTS_WRITE, TenantRef(trust=target.trust), "/target")
    return tenant_id, tenant_id


async def _check_client(connection: Connection, caller: Caller, text: str) -> None:
    client_id = parse_id(text)
    if client_id == caller.client_id:
        raise make_invalid([Issue("/client", "grant-to-oneself", "A client gives no grant to itself.")])
    if not await connection.fetchval("SELECT true FROM clients WHERE id = $1 AND revoked_at IS NULL", client_id):
        raise make_invalid(
            [Issue("/client", "grantee-unknown", "No client that is not revoked has this id. Its holder reads it from GET /v1/me.")]
        )


def _check_names(checks: Checks, fields: Any, name: str) -> list[tuple[int, str]]:
    """Returns the scopes that a request names, each with its index, without those that cannot be given, which become issues."""
    found, suggestions = list[tuple[int, str]](), Suggestions()
    known = [scope.value for scope in Scope if scope not in NEVER_GIVEN]
    with checks.attempt():
        named = getattr(fields, name)
        if not named:
            checks.add(Issue(f"/{name}", "required", "A grant gives one scope or more."))
        for i, scope in list_readable(named):
            if scope in NEVER_GIVEN:
                message = f"No client gives {scope} to another: the operator grants it, by the command line."
                checks.add(Issue(f"/{name}/{i}", "scope-not-given", message))
            elif scope not in known:
                message = (
                    f"There is no scope of this name.{suggestions.suggest(scope, known)} GET /v1/me lists those of the caller."
                )
                checks.add(Issue(f"/{name}/{i}", "scope-unknown", message))
            else:
                found.append((i, scope))
    return found


_HOLDINGS = f"""
SELECT s.scope, NULLIF(max(COALESCE(r.ends_at, 'infinity')), 'infinity') AS until
FROM reach r JOIN grants g ON g.id = r.grant_id CROSS JOIN unnest(r.scopes) s (scope)
WHERE r.client_id = $1 AND r.tenant_id = $2 AND r.school_id = $3 AND g.target <> 'trusts' AND g.given_by IS NULL AND {IN_FORCE} GROUP BY s.scope
"""
"""A grant on all trusts reaches no school of theirs, so it is less than one on a trust. What another client gave is not given on: two clients would
otherwise keep alive what each gave to the other."""


async def _read_holdings(connection: Connection, caller: Caller, tenant_id: UUID, school_id: UUID) -> dict[str, _Holding]:
    """Returns the scopes of the caller's token that grants in force give it there, and until when."""
    rows = await connection.fetch(_HOLDINGS, caller.client_id, tenant_id, school_id)
    return {row["scope"]: _Holding(row["until"]) for row in rows if row["scope"] in caller.scopes}


def _choose_expiry(holdings: dict[str, _Holding], scopes: Collection[str], wanted: datetime | UnsetType | None) -> datetime | None:
    """Returns when a grant expires: as it is wanted or, left out, with the first of what the caller holds. Raises Invalid where
    that ends sooner than what is wanted."""
    ends = [holdings[scope].until for scope in {*scopes, Scope.GRANTS_WRITE.value} if scope in holdings]
    first = min((end for end in ends if end is not None), default=None)
    if wanted is UNSET:
        return first
    if first is not None and (wanted is None or wanted > first):
        message = "It would expire later than the caller's own grants. GET /v1/me says when these do."
        raise make_invalid([Issue("/expiresAt", "grant-too-wide", message)])
    return wanted


async def _check_holding(connection: Connection, caller: Caller, grant: Any, until: datetime | None) -> None:
    """Raises Invalid unless the caller may give this very grant until then."""
    issues = []
    if grant["client_id"] == caller.client_id:
        issues.append(Issue("", "grant-to-oneself", "A client gives no grant to itself."))
    held = await _read_holdings(connection, caller, grant["tenant_id"], grant["school_id"])
    more = [scope for scope in grant["scopes"] if scope not in held or scope in NEVER_GIVEN]
    if grant["target"] not in ("trust", "school"):
        issues.append(Issue("", "grant-too-wide", "The operator alone gives this grant, by the command line."))
    elif more or Scope.GRANTS_WRITE not in held:
        issues.append(
            Issue(
                "", "grant-too-wide", f"The caller does not hold {', '.join(more) or 'grants:write'} there. Narrow the grant first."
            )
        )
    if issues:
        raise make_invalid(issues)
    _choose_expiry(held, grant["scopes"], until)


_FIND = f"""
SELECT v.*, g.approved_until, now() AS now FROM given_grants v JOIN grants g ON g.id = v.id
WHERE v.id = $2 AND {reaches_sql("$1", "v.tenant_id", "v.school_id", "$3")}
"""


async def _find_grant(connection: Connection, caller: Caller, grant_id: UUID | None) -> Any:
    """Returns a grant that was given where the caller holds grants:write. Raises NotFound."""
    row = await connection.fetchrow(_FIND, caller.client_id, grant_id, Scope.GRANTS_WRITE.value)
    if row is None:
        raise NotFound()
    return row


def _refuse_over(grant: Any) -> None:
    if grant["state"] in ("revoked", "expired"):
        raise make_over_error()


async def _describe(connection: Connection, grant_id: UUID | None, unconfirmed: Collection[Any] = ()) -> GrantNow:
    row = await connection.fetchrow("SELECT * FROM given_grants WHERE id = $1", grant_id)
    assert row is not None
    return GrantNow(
        id=str(row["id"]),
        client_id=str(row["client_id"]),
        client_name=row["client_name"],
        target=row["target"],
        target_id=None if row["target_id"] is None else str(row["target_id"]),
        scopes=row["scopes"],
        starts_at=row["starts_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        confirm_by=row["confirm_by"],
        unconfirmed_grants=[str(each["id"]) for each in unconfirmed],
    )
