"""Exchange: facts of one load, a decision in memory, its effects in one persist."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
from joserfc.jwk import ECKey

from domain.clients import clients, signing_keys
from domain.clients.grants import approve_grant, parse_grant
from domain.clients.tokens import Assertion, Attempt, Effects, Facts, exchange, read_credentials, read_facts
from domain.declare.errors import Busy, DatabaseError
from domain.declare.ids import NIL, new_id
from domain.store.database import Database
from tests.fixtures.databases import Databases, Statements

SECRET = b"a secret of the installation, for tests"
KEY = ECKey.generate_key("P-256", {"kid": "first"})
LATER = datetime.now(UTC) + timedelta(minutes=5)


@pytest_asyncio.fixture
async def operator(databases: Databases) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(databases.operator_url)
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def signer(operator: Any) -> UUID:
    client_id, _ = await clients.create_client(operator, "signs", "private_key_jwt", {"keys": [KEY.as_dict(private=False)]})
    await approve_grant(operator, client_id, parse_grant("installation=schools:read"), purpose="tests", approved_by="tests")
    return client_id


async def used(operator: Any) -> list[str]:
    return [row["jti"] for row in await operator.fetch("SELECT jti FROM used_assertions ORDER BY jti")]


def use(facts: Facts, effects: Effects) -> str:
    """Takes the assertion with the jti `one`, unless somebody has used it."""
    if facts.client.is_used:
        return "used before"
    effects.used_assertion = Assertion("one", LATER)
    return "taken"


async def test_the_facts_are_those_of_the_client_that_is_named(operator: Any, signer: UUID, database: Database) -> None:
    kid = await signing_keys.ensure_signing_key(operator, SECRET)
    facts = await read_facts(database, Attempt(signer))
    assert (facts.client.client_id, facts.client.scopes, facts.client.is_used) == (signer, {"schools:read"}, False)
    assert facts.client.jwks == {"keys": [KEY.as_dict(private=False)]}
    assert facts.decrypt_key(SECRET).thumbprint() == facts.kid == kid
    assert facts.decrypt_key(SECRET) is (await read_facts(database, Attempt(signer))).decrypt_key(SECRET)  # it is decrypted once
    assert abs((facts.client.now - datetime.now(UTC)).total_seconds()) < 60
    with pytest.raises(DatabaseError, match="MARKONCE_SECRET"):
        facts.decrypt_key(b"another")


async def test_a_client_that_is_unknown_or_revoked_has_nothing(operator: Any, signer: UUID, database: Database) -> None:
    await clients.revoke_client(operator, signer)
    for client_id in (signer, new_id(clients.CLIENT), NIL):
        client = (await read_facts(database, Attempt(client_id))).client
        assert (client.secret_hashes, client.jwks, client.scopes, client.has_secret("")) == ([], None, frozenset(), False)


async def test_what_is_read_for_a_guess_is_what_the_facts_say(operator: Any, signer: UUID, database: Database) -> None:
    await exchange(database, Attempt(signer, "one"), use)
    attempts = [Attempt(signer, "one"), Attempt(signer, "two"), Attempt(signer), Attempt(new_id(clients.CLIENT), "one")]
    found = await read_credentials(database, attempts)
    for attempt in attempts:
        client = (await read_facts(database, attempt)).client
        assert (client.jwks, client.secret_hashes, client.is_used) == (
            *(found[attempt].jwks, found[attempt].secret_hashes, found[attempt].is_used),
        )
    assert [found[attempt].is_used for attempt in attempts] == [True, False, False, False]


async def test_a_decision_without_effects_is_one_statement_and_one_with_effects_one_transaction_more(
    signer: UUID, database: Database, statements: Statements
) -> None:
    attempt = Attempt(signer, "one")

    async def run(decide: Callable[[Facts, Effects], Any]) -> list[str]:
        await exchange(database, attempt, decide)
        await asyncio.sleep(0)  # asyncpg tells of a statement in the next round of the loop
        seen = [statement.split()[0].rstrip(";") for statement in statements.seen]
        statements.seen.clear()
        return seen

    await run(lambda facts, effects: None)  # which connects
    assert await run(lambda facts, effects: None) == ["SELECT"]
    assert await run(use) == ["SELECT", "BEGIN", "INSERT", "COMMIT"]
    assert await run(use) == ["SELECT"]


async def test_effects_are_written_before_the_answer_is_sent_and_not_where_the_decision_raises(
    operator: Any, signer: UUID, database: Database
) -> None:
    def fail(facts: Facts, effects: Effects) -> None:
        use(facts, effects)
        raise DatabaseError("There is no signing key yet.")

    with pytest.raises(DatabaseError):
        await exchange(database, Attempt(signer, "one"), fail)
    assert await used(operator) == []
    assert await exchange(database, Attempt(signer, "one"), use) == "taken"
    assert await used(operator) == ["one"]


async def test_a_decision_that_another_was_faster_than_is_made_again_of_newer_facts(
    operator: Any, signer: UUID, database: Database
) -> None:
    """With no effects of the one before."""
    seen: list[tuple[bool, bool]] = []

    def decide(facts: Facts, effects: Effects) -> str:
        seen.append((facts.client.is_used, effects == Effects()))
        return use(facts, effects)

    answers = await asyncio.gather(*(exchange(database, Attempt(signer, "one"), decide) for _ in range(8)))
    assert sorted(answers) == ["taken", *["used before"] * 7]
    assert await used(operator) == ["one"]
    assert all(is_new for _, is_new in seen)


async def test_a_decision_that_never_can_be_written_is_busy(operator: Any, signer: UUID, database: Database) -> None:
    assert await exchange(database, Attempt(signer, "one"), use) == "taken"
    decided: list[Facts] = []

    def insist(facts: Facts, effects: Effects) -> str:
        decided.append(facts)
        effects.used_assertion = Assertion("one", LATER)
        return "taken"

    with pytest.raises(Busy):
        await exchange(database, Attempt(signer, "one"), insist)
    assert len(decided) > 1
    assert await used(operator) == ["one"]
