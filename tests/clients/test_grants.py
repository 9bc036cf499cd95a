"""Grants: how they are written on the command line, and the reach that follows from them."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from domain.clients.clients import create_client, revoke_client
from domain.clients.grants import GrantRequest, approve_grant, list_grants, parse_grant, revoke_grant
from domain.declare.errors import Conflict, Invalid, NotFound
from domain.declare.ids import NIL, get_type_number, new_id
from domain.declare.scopes import NAMED_ALONE, Scope
from domain.declare.type_numbers import CLIENT, GRANT
from domain.roster.gias.apply import apply_gias
from tests.fixtures import gias_rows

AGREED: dict[str, Any] = {"purpose": "Assessment in the classroom", "approved_by": "Head teacher"}


@pytest_asyncio.fixture
async def operator(module_databases: Any) -> AsyncIterator[Any]:
    """The operator's connection, in a transaction that is rolled back."""
    connection = await asyncpg.connect(module_databases.operator_url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


@pytest_asyncio.fixture
async def register(operator: Any) -> dict[str, UUID]:
    """A trust of two academies and a maintained school."""
    ids = {name: new_id(1 if name == "trust" else 3) for name in ("trust", "oak", "elm", "ash")}
    await operator.execute(
        "INSERT INTO trusts (id, group_uid, name, kind, status) VALUES ($1, 4128, 'Hedgerow Trust', 'multi-academy', 'open')",
        ids["trust"],
    )
    for urn, name in ((125121, "oak"), (125122, "elm"), (125123, "ash")):
        await operator.execute(
            "INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, status)"
            " VALUES ($1, $2, $3, $4, '936', 'Surrey', 'open')",
            *(ids[name], ids[name] if name == "ash" else ids["trust"], urn, f"{name.title()} Primary"),
        )
    return ids


@pytest_asyncio.fixture
async def client_id(operator: Any) -> UUID:
    return (await create_client(operator, "MIS", "client_secret"))[0]


async def reached(operator: Any, client_id: UUID) -> set[tuple[UUID, UUID]]:
    return {
        (row["tenant_id"], row["school_id"]) for row in await operator.fetch("SELECT * FROM reach WHERE client_id = $1", client_id)
    }


def test_a_grant_is_read_from_its_text() -> None:
    both = (Scope.PUPILS_READ, Scope.JUDGEMENTS_WRITE)
    assert parse_grant("school:125123=judgements:write, pupils:read,pupils:read") == GrantRequest("school", 125123, both)
    assert parse_grant("trust:4128=aggregates:read") == GrantRequest("trust", 4128, (Scope.AGGREGATES_READ,))
    assert parse_grant("localAuthority:036=pupils:read") == GrantRequest("localAuthority", 36, (Scope.PUPILS_READ,))
    usual = tuple(scope for scope in Scope if scope not in NAMED_ALONE)
    alone = {"pupils:merge", "privacy:write", "imports:write", "clients:write", "grants:write", "publications:write"}
    assert {*Scope} - {*usual} == alone
    assert parse_grant("installation=all") == GrantRequest("installation", None, usual)
    assert Scope.PUPILS_MERGE in parse_grant("trust:4128=all,pupils:merge").scopes


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "school:125123=pupil:read,judgments:write,pupils:read",
            ["'pupil:read'. Did you mean pupils:read", "'judgments:write'. Did"],
        ),
        ("shool:1=nothing", ["no target 'shool'. Did you mean school?", "no scope 'nothing'"]),
        ("school=pupils:read", ["school needs its URN"]),
        ("trust:TR02541=pupils:read", ["trust needs its GIAS group UID"]),
        ("schools:125123=pupils:read", ["schools takes no number"]),
        ("schools=", ["no scope is named"]),
        ("pupils:read", ["TARGET=SCOPES is expected", "no target 'pupils'"]),
    ],
)
def test_all_that_is_wrong_with_a_text_is_said(text: str, said: list[str]) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (its words are what is tested)
        parse_grant(text)
    for words in said:
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("school:125123", [("ash", "ash")]),
        ("school:125121", [("trust", "oak")]),
        ("trust:4128", [("trust", "oak"), ("trust", "elm"), ("trust", "trust")]),
        ("schools", [("trust", "oak"), ("trust", "elm"), ("ash", "ash")]),
        ("trusts", [("trust", "trust")]),
    ],
)
async def test_each_target_reaches_what_it_names(operator: Any, register: Any, client_id: UUID, place: str, expected: Any) -> None:
    grant_id = await approve_grant(operator, client_id, parse_grant(f"{place}=pupils:read"), **AGREED)
    assert await reached(operator, client_id) == {(register[tenant], register[school]) for tenant, school in expected}
    (grant,) = await list_grants(operator, client_id)
    assert (grant.id, grant.target, grant.scopes, grant.purpose) == (grant_id, place, ["pupils:read"], AGREED["purpose"])
    assert get_type_number(grant_id) == GRANT


async def test_the_installation_is_the_nil_tenant(operator: Any, client_id: UUID) -> None:
    await approve_grant(operator, client_id, parse_grant("installation=schools:write"), **AGREED)
    assert await reached(operator, client_id) == {(NIL, NIL)}


async def test_the_tenant_behind_a_school_or_trust_is_prepared(operator: Any, register: Any, client_id: UUID) -> None:
    for place in ("school:125121", "school:125123", "trust:4128", "schools"):
        await approve_grant(operator, client_id, parse_grant(f"{place}=pupils:read"), **AGREED)
    prepared = {row["id"]: row["kind"] for row in await operator.fetch("SELECT id, kind FROM tenants")}
    assert prepared == {register["trust"]: "trust", register["ash"]: "school"}
    assert await operator.fetchval("SELECT count(DISTINCT tenant_id) FROM subjects") == 2


async def test_a_revoked_grant_reaches_nothing_and_leaves_the_others(operator: Any, register: Any, client_id: UUID) -> None:
    first = await approve_grant(operator, client_id, parse_grant("school:125123=pupils:read"), **AGREED)
    await approve_grant(operator, client_id, parse_grant("school:125121=pupils:read"), **AGREED)
    await revoke_grant(operator, first)
    revoked = [grant.revoked_at for grant in await list_grants(operator, client_id)]
    await revoke_grant(operator, first)
    assert await reached(operator, client_id) == {(register["trust"], register["oak"])}
    assert [grant.revoked_at for grant in await list_grants(operator, client_id)] == revoked
    assert [at is None for at in revoked] == [False, True]
    with pytest.raises(NotFound):
        await revoke_grant(operator, new_id(GRANT))


async def test_a_revoked_client_reaches_nothing_and_is_granted_nothing(operator: Any, register: Any, client_id: UUID) -> None:
    await approve_grant(operator, client_id, parse_grant("schools=pupils:read"), **AGREED)
    await revoke_client(operator, client_id)
    assert await reached(operator, client_id) == set()
    with pytest.raises(Conflict, match="revoked"):
        await approve_grant(operator, client_id, parse_grant("schools=pupils:read"), **AGREED)
    with pytest.raises(NotFound):
        await approve_grant(operator, new_id(CLIENT), parse_grant("schools=pupils:read"), **AGREED)


async def test_an_expiring_grant_reaches_until_then(operator: Any, register: Any, client_id: UUID) -> None:
    ends = datetime.now(UTC) + timedelta(days=365)
    asked = parse_grant("school:125123=pupils:read")
    await approve_grant(operator, client_id, asked, agreement_version="2026-1", expires_at=ends, **AGREED)
    assert await operator.fetchval("SELECT ends_at FROM reach") == ends
    (grant,) = await list_grants(operator, client_id)
    assert (grant.expires_at, grant.agreement_version) == (ends, "2026-1")


async def test_everything_wrong_with_a_grant_is_said_at_once(operator: Any, client_id: UUID) -> None:
    with pytest.raises(Invalid) as caught:
        await approve_grant(
            operator,
            client_id,
            GrantRequest("trust", 99, (Scope.PUPILS_READ,)),
            purpose=" ",
            approved_by="",
            expires_at=datetime(2020, 1, 1, tzinfo=UTC),
        )
    assert [issue.at for issue in caught.value.issues] == ["/target", "/purpose", "/approvedBy", "/expiresAt"]
    assert await list_grants(operator, client_id) == []


async def test_grants_approved_at_the_same_time_all_reach(databases: Any) -> None:
    first, second, watcher = [await asyncpg.connect(databases.operator_url) for _ in range(3)]
    client_id, _ = await create_client(watcher, "MIS", "client_secret")
    before = await approve_grant(watcher, client_id, parse_grant("installation=imports:write"), **AGREED)
    begun = first.transaction()
    await begun.start()
    one = await approve_grant(first, client_id, parse_grant("installation=schools:read"), **AGREED)
    waiting = asyncio.create_task(approve_grant(second, client_id, parse_grant("installation=schools:write"), **AGREED))
    while not waiting.done() and not await watcher.fetchval("SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)"):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await begun.commit()
    other = await waiting
    assert {row["grant_id"] for row in await watcher.fetch("SELECT grant_id FROM reach")} == {before, one, other}
    for connection in (first, second, watcher):
        await connection.close()


async def test_a_local_authority_reaches_a_school_until_it_closes_or_is_an_academy(
    operator: Any, register: Any, client_id: UUID
) -> None:
    """The day is known before: the last one is the school's, in England's time. What an import changes is in force with it."""
    await approve_grant(operator, client_id, parse_grant("localAuthority:936=pupils:read"), **AGREED)
    assert await reached(operator, client_id) == {(register["ash"], register["ash"])}
    await operator.execute("UPDATE schools SET closed_on = '2099-08-31' WHERE id = $1", register["ash"])
    await operator.execute("SELECT derive_reach(ARRAY[$1::uuid])", client_id)
    assert await operator.fetchval("SELECT ends_at FROM reach WHERE client_id = $1", client_id) == datetime(
        2099, 8, 31, 23, tzinfo=UTC
    )
    converted = gias_rows.extract([gias_rows.school(125123, la="936")], [], [])
    await apply_gias(operator, converted, gias_rows.SUMMER)
    assert await reached(operator, client_id) == set()
