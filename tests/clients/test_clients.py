"""Clients, their secrets and keys, and the installation's signing keys."""

import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey

from domain.clients import clients, signing_keys
from domain.declare.errors import Conflict, DatabaseError, Invalid, NotFound
from domain.declare.ids import get_type_number, new_id

SECRET = b"a secret of the installation, for tests"


@pytest_asyncio.fixture
async def operator(module_databases: Any) -> AsyncIterator[Any]:
    """The operator's connection, in a transaction that is rolled back."""
    connection = await asyncpg.connect(module_databases.operator_url)
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


def jwks(*keys: Any) -> dict[str, Any]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


async def hashes_in_force(operator: Any, client_id: Any) -> set[bytes]:
    rows = await operator.fetch(
        "SELECT sha256 FROM client_secrets WHERE client_id = $1 AND (expires_at IS NULL OR expires_at > clock_timestamp())",
        client_id,
    )
    return {row["sha256"] for row in rows}


def hashed(secret: str | None) -> bytes:
    assert secret is not None
    return hashlib.sha256(secret.encode()).digest()


async def test_a_secret_has_256_bits_and_only_its_hash_is_kept(operator: Any) -> None:
    client_id, secret = await clients.create_client(operator, "MIS", "client_secret")
    assert get_type_number(client_id) == clients.CLIENT
    assert secret is not None
    assert len(secret) == 43
    assert await hashes_in_force(operator, client_id) == {hashed(secret)}


async def test_a_client_is_found_by_id_and_by_name(operator: Any) -> None:
    client_id, _ = await clients.create_client(operator, " MIS ", "client_secret")
    await clients.create_client(operator, "Governors", "client_secret")
    found = await clients.find_client(operator, "MIS")
    assert found is not None
    assert found.id == client_id
    assert await clients.find_client(operator, str(client_id)) == found
    assert await clients.find_client(operator, "nobody") is None
    assert [client.name for client in await clients.list_clients(operator)] == ["Governors", "MIS"]


async def test_a_name_is_used_once(operator: Any) -> None:
    await clients.create_client(operator, "MIS", "client_secret")
    with pytest.raises(Conflict, match="MIS"):
        await clients.create_client(operator, "MIS", "client_secret")


@pytest.mark.parametrize(
    "key", [ECKey.generate_key("P-256"), RSAKey.generate_key(2048), OKPKey.generate_key("Ed25519")], ids=["EC", "RSA", "OKP"]
)
async def test_public_keys_of_each_kind_are_taken(operator: Any, key: Any) -> None:
    client_id, secret = await clients.create_client(operator, "signs", "private_key_jwt", jwks(key))
    assert secret is None
    kept = await operator.fetchval("SELECT jwks::text FROM clients WHERE id = $1", client_id)
    assert '"d"' not in kept
    with pytest.raises(Conflict, match="has no secret"):
        await clients.rotate_secret(operator, client_id)


async def test_everything_wrong_with_keys_is_said_at_once(operator: Any) -> None:
    private = ECKey.generate_key("P-256").as_dict(private=True)
    shared = OctKey.generate_key(256).as_dict()
    odd = ECKey.generate_key("P-384").as_dict(private=False)
    encrypting = {**ECKey.generate_key("P-256").as_dict(private=False), "use": "enc"}
    off_the_curve = {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"}
    given = [private, shared, odd, encrypting, off_the_curve, {"kty": "EC", "crv": "P-0", "x": "", "y": ""}, 7]
    with pytest.raises(Invalid) as caught:
        await clients.create_client(operator, "", "private_key_jwt", {"keys": given})
    assert [issue.at for issue in caught.value.issues] == ["/name", *(f"/jwks/keys/{i}" for i in range(len(given)))]
    assert await clients.list_clients(operator) == []


@pytest.mark.parametrize("given", [None, [], {}, {"keys": []}, {"keys": {}}, {"keys": [{}] * 11}])
async def test_what_is_no_key_set_is_refused(operator: Any, given: object) -> None:
    with pytest.raises(Invalid) as caught:
        await clients.create_client(operator, "signs", "private_key_jwt", given)
    assert [issue.at for issue in caught.value.issues] == ["/jwks/keys"]


async def test_keys_are_distinguished_by_kid_and_belong_to_clients_that_sign(operator: Any) -> None:
    first, second = (ECKey.generate_key("P-256", {"kid": "same"}) for _ in range(2))
    with pytest.raises(Invalid, match="1 issue"):
        await clients.create_client(operator, "signs", "private_key_jwt", jwks(first, second))
    with pytest.raises(Invalid, match="1 issue"):
        await clients.create_client(operator, "MIS", "client_secret", jwks(first))


async def test_an_old_secret_ends_at_once_or_after_the_overlap_and_never_later_than_it_would_have(operator: Any) -> None:
    client_id, first = await clients.create_client(operator, "MIS", "client_secret")
    second = await clients.rotate_secret(operator, client_id, timedelta(hours=1))
    assert await hashes_in_force(operator, client_id) == {hashed(first), hashed(second)}
    ends = await operator.fetchval("SELECT expires_at FROM client_secrets WHERE sha256 = $1", hashed(first))
    third = await clients.rotate_secret(operator, client_id, timedelta(days=1))
    assert await operator.fetchval("SELECT expires_at FROM client_secrets WHERE sha256 = $1", hashed(first)) == ends
    fourth = await clients.rotate_secret(operator, client_id)
    assert await hashes_in_force(operator, client_id) == {hashed(fourth)}
    assert len({first, second, third, fourth}) == 4


async def test_what_does_not_exist_or_is_revoked_gets_no_secret(operator: Any) -> None:
    with pytest.raises(NotFound):
        await clients.rotate_secret(operator, new_id(clients.CLIENT))
    with pytest.raises(NotFound):
        await clients.revoke_client(operator, new_id(clients.CLIENT))
    client_id, _ = await clients.create_client(operator, "MIS", "client_secret")
    assert await clients.read_client_status(operator, client_id)
    await clients.revoke_client(operator, client_id)
    assert await clients.read_client_status(operator, client_id) is None
    with pytest.raises(Conflict, match="revoked"):
        await clients.rotate_secret(operator, client_id)


async def test_a_client_revoked_twice_was_revoked_when_it_first_was(operator: Any) -> None:
    client_id, _ = await clients.create_client(operator, "MIS", "client_secret")
    await clients.revoke_client(operator, client_id)
    first = await clients.find_client(operator, "MIS")
    await clients.revoke_client(operator, client_id)
    assert await clients.find_client(operator, "MIS") == first


async def test_the_signing_key_is_made_once_and_sealed(operator: Any) -> None:
    kid = await signing_keys.ensure_signing_key(operator, SECRET)
    assert await signing_keys.ensure_signing_key(operator, SECRET) == kid
    (published,) = (await signing_keys.read_public_keys(operator))["keys"]
    assert published["kid"] == kid
    assert published["alg"] == "ES256"
    assert "d" not in published
    sealed = await operator.fetchval("SELECT private_encrypted FROM signing_keys")
    assert b'"kty"' not in sealed
    with pytest.raises(DatabaseError, match="MARKONCE_SECRET"):
        await signing_keys.ensure_signing_key(operator, b"another secret")


async def test_a_sealed_key_cannot_take_the_place_of_another(operator: Any) -> None:
    await signing_keys.ensure_signing_key(operator, SECRET)
    await operator.execute("UPDATE signing_keys SET kid = 'another'")
    with pytest.raises(DatabaseError):
        await signing_keys.ensure_signing_key(operator, SECRET)


async def test_a_retired_key_is_published_for_as_long_as_its_tokens_live(operator: Any) -> None:
    old = await signing_keys.ensure_signing_key(operator, SECRET)
    new = await signing_keys.rotate_signing_key(operator, SECRET)
    assert {key.kid for key in KeySet.import_key_set(await signing_keys.read_public_keys(operator))} == {new, old}
    assert await signing_keys.ensure_signing_key(operator, SECRET) == new
    await operator.execute("UPDATE signing_keys SET retired_at = now() - interval '12 minutes' WHERE kid = $1", old)
    assert [key.kid for key in KeySet.import_key_set(await signing_keys.read_public_keys(operator))] == [new]


async def test_an_origin_is_written_as_a_browser_sends_it(operator: Any) -> None:
    good = [
        "https://app.example",
        "https://app.example:8443",
        "http://localhost:5173",
        "http://127.0.0.1",
        "https://xn--caf-dma.example",
    ]
    client_id, _ = await clients.create_client(operator, "web", "client_secret", origins=[*good, good[0]])
    assert (await clients.find_client(operator, "web")).origins == good  # type: ignore[union-attr]
    wrong = ["https://a.example/", "https://A.example", "https://*.example", "https://a.example:443", "http://localhost:80", "null"]
    wrong += [
        "a.example",
        "",
        "https://a.example:0",
        "https://a.example:65536",
        "https://u@a.example",
        "ftp://a.example",
        "http://a.example",
    ]
    with pytest.raises(Invalid) as raised:
        await clients.set_origins(operator, client_id, wrong)
    assert [issue.at for issue in raised.value.issues] == [f"/origins/{i}" for i in range(len(wrong))]
    with pytest.raises(Invalid, match="1 issue"):
        await clients.set_origins(operator, client_id, [f"https://{i}.example" for i in range(clients.MAX_ORIGINS + 1)])
    assert await clients.list_origins(operator) == frozenset(good)
    await clients.revoke_client(operator, client_id)
    assert await clients.list_origins(operator) == frozenset()
