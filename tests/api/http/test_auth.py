"""Bearer tokens: which are taken, what the others are told, and what a process remembers."""

import hmac
import json
import time
from typing import Any
from uuid import UUID

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from api.http import auth
from api.settings import Settings
from domain.clients import clients, signing_keys
from domain.clients.tokens import Attempt, read_facts
from tests.fixtures.oauth_installation import BASE, SECRET, Installation, forged


async def test_the_refusal_of_a_request_without_a_token_says_where_to_get_one(installation: Installation) -> None:
    where = f'Bearer resource_metadata="{BASE}/.well-known/oauth-protected-resource"'
    token = await installation.token()
    for headers, params in (({}, {}), ({"Authorization": "Basic eDp5"}, {}), ({}, {"access_token": token})):
        answer = await installation.http.get("/who", headers=headers, params=params)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, where)


async def test_a_bad_token_is_refused_as_invalid(installation: Installation) -> None:
    token = await installation.token()
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
    answers = [await installation.who(bad) for bad in ("", "x", "a.b.c", token[:-4] + "AAAA", token + "x")]
    for answer in [*answers, await installation.http.get("/who", headers=twice)]:
        assert answer.status_code == 401
        assert 'error="invalid_token", error_description="' in answer.headers["www-authenticate"]
    assert (await installation.http.get("/who", headers={"Authorization": f"bearer {token}"})).status_code == 200


async def test_only_our_own_access_tokens_for_us_are_taken(installation: Installation) -> None:
    kid = await installation.operator.fetchval("SELECT kid FROM signing_keys WHERE retired_at IS NULL")
    facts = await read_facts(installation.app.state.database, Attempt(UUID(installation.client_id)))
    ours, now = facts.decrypt_key(SECRET), int(time.time())
    good = {
        "iss": BASE,
        "aud": BASE,
        "sub": installation.client_id,
        "client_id": installation.client_id,
        "scope": "pupils:read",
        "exp": now + 60,
    }

    def signed(header: dict[str, Any] | None = None, key: Any = ours, **changed: Any) -> str:
        claims = {name: value for name, value in (good | changed).items() if value is not None}
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": kid, **(header or {})}, claims, key, ["ES256"])

    assert (await installation.who(signed())).status_code == 200
    assert (await installation.who(signed({"typ": "application/at+jwt"}))).status_code == 200
    assert (await installation.who(signed(exp=now - 10))).status_code == 200  # clocks may differ
    expired = await installation.who(signed(exp=now - 60))
    assert (expired.status_code, expired.text) == (401, "The access token has expired. Get a new one from POST /oauth/token.")
    public = json.dumps(ours.as_dict(private=False)).encode()
    for bad in (
        signed({"typ": "JWT"}),
        signed(iss="https://elsewhere.example"),
        signed(aud="https://elsewhere.example"),
        signed(aud=None),
        signed(exp=None),
        signed(client_id=None),
        signed(key=ECKey.generate_key("P-256")),
        signed({"kid": "unknown"}),
        forged({"alg": "none", "typ": "at+jwt", "kid": kid}, good),
        forged({"alg": "HS256", "typ": "at+jwt", "kid": kid}, good, lambda signed: hmac.new(public, signed, "sha256").digest()),
    ):
        assert (await installation.who(bad)).status_code == 401


async def test_a_remembered_token_still_expires(installation: Installation) -> None:
    token = await installation.token()
    assert (await installation.who(token)).status_code == 200
    tokens = installation.app.state.authenticator._tokens
    caller, _ = tokens.get(token)
    tokens.put(token, (caller, time.time() - 1))
    await installation.operator.execute("DELETE FROM signing_keys")
    await signing_keys.ensure_signing_key(installation.operator, SECRET)
    installation.app.state.authenticator._read_at = float("-inf")
    assert (await installation.who(token)).status_code == 401
    assert tokens.get(token) is None


async def test_memory_is_bounded_and_made_up_keys_cost_one_read(installation: Installation) -> None:
    authenticator = auth.Authenticator(installation.app.state.database, Settings("", SECRET, BASE))
    tokens, bytes_kept = authenticator._tokens, auth.MAX_TOKEN_BYTES
    for i in range(bytes_kept // 1000):
        tokens.put(f"{i:09}" + "x" * 1000, (None, 0.0))  # type: ignore[arg-type]
    await authenticator.find_caller([f"Bearer {await installation.token()}"])
    assert bytes_kept * 0.9 < tokens.weight <= bytes_kept
    assert tokens.get("000000000" + "x" * 1000) is None
    read_at = []
    for kid in ("a", "b", "c"):
        with pytest.raises(auth.Unauthorised):
            await authenticator.find_caller([f"Bearer {installation.sign(header={'kid': kid})}"])
        read_at.append(authenticator._read_at)
    assert len(set(read_at)) == 1


async def test_a_revoked_client_is_remembered_as_active_for_a_few_seconds_at_most(installation: Installation) -> None:
    token = await installation.token()
    assert (await installation.who(token)).status_code == 200
    await clients.revoke_client(installation.operator, UUID(installation.client_id))
    standing, client_id = installation.app.state.authenticator._statuses, UUID(installation.client_id)
    stands, counted_at, read_at = standing.get(client_id)
    standing.put(client_id, (stands, counted_at - auth.STATUS_SECONDS, read_at))
    assert (await installation.who(token)).status_code == 401
