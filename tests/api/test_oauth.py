"""The authorization server and the reading of its tokens, over HTTP in process and a real database."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote_plus
from uuid import UUID

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from api import auth, oauth
from domain.consent import clients
from domain.consent.grants import approve_grant, parse_grant, revoke_grant
from domain.engine.access import Scope
from domain.engine.database import Database

BASE = "https://markonce.example"
SECRET = b"a secret of the installation, for tests"
HELD = "judgements:write pupils:read schools:read"
SIGNS = ECKey.generate_key("P-256", {"kid": "first"})
RSA = RSAKey.generate_key(2048, {"kid": "second"})
EDWARDS = OKPKey.generate_key("Ed25519", {"kid": "third"})


async def who(request: Request) -> Response:
    caller = await auth.authenticate(request)
    return JSONResponse({"client": str(caller.client_id), "scope": " ".join(sorted(caller.scopes))})


async def unauthorised(request: Request, problem: Any) -> Response:
    return Response(str(problem), 401, {"WWW-Authenticate": problem.challenge})


@dataclass
class World:
    """An application, its HTTP client, the operator's connection, and two registered clients with the same grant."""

    http: httpx2.AsyncClient
    app: Starlette
    operator: Any
    client_id: str
    secret: str
    signer: str
    grant_id: UUID

    async def ask(self, data: dict[str, str] | None = None, **options: Any) -> httpx2.Response:
        return await self.http.post("/oauth/token", data={"grant_type": "client_credentials", **(data or {})}, **options)

    async def token(self) -> str:
        return str((await self.ask(auth=(self.client_id, self.secret))).json()["access_token"])

    async def assert_(self, assertion: str, **more: str) -> httpx2.Response:
        return await self.ask({"client_assertion_type": oauth.ASSERTION_TYPE, "client_assertion": assertion, **more})

    def claims(self, **changed: Any) -> dict[str, Any]:
        now = int(time.time())
        usual = {
            "iss": self.signer,
            "sub": self.signer,
            "aud": BASE,
            "iat": now,
            "exp": now + 60,
            "jti": str(time.perf_counter_ns()),
        }
        return {name: value for name, value in (usual | changed).items() if value is not None}

    def sign(self, key: Any = SIGNS, alg: str = "ES256", header: dict[str, Any] | None = None, **changed: Any) -> str:
        return jwt.encode({"alg": alg, "kid": key.kid, **(header or {})}, self.claims(**changed), key, [alg])

    async def who(self, token: str) -> httpx2.Response:
        return await self.http.get("/who", headers={"Authorization": f"Bearer {token}"})

    def forget(self) -> None:
        """What a process that has just started knows."""
        if hasattr(self.app.state, "authenticator"):
            del self.app.state.authenticator


@pytest_asyncio.fixture
async def world(databases: Any) -> AsyncIterator[World]:
    operator = await asyncpg.connect(databases.operator_url)
    await clients.ensure_signing_key(operator, SECRET)
    client_id, secret = await clients.create_client(operator, "MIS", "client_secret")
    keys = {"keys": [key.as_dict(private=False) for key in (SIGNS, RSA, EDWARDS)]}
    signer, _ = await clients.create_client(operator, "signer", "private_key_jwt", keys)
    asked = parse_grant("installation=schools:read,pupils:read,judgements:write")
    grant_id = await approve_grant(operator, client_id, asked, purpose="tests", approved_by="tests")
    await approve_grant(operator, signer, asked, purpose="tests", approved_by="tests")
    app = Starlette(routes=[*oauth.routes(), Route("/who", who)], exception_handlers={auth.Unauthorised: unauthorised})
    app.state.database = await Database.open(databases.app_url)
    app.state.settings = SimpleNamespace(base_url=BASE, secret=SECRET)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=BASE) as http:
        yield World(http, app, operator, str(client_id), str(secret), str(signer), grant_id)
    await app.state.database.close()
    await operator.close()


def refused(answer: httpx2.Response, error: str, status: int = 400) -> str:
    """Checks an error response (RFC 6749 section 5.2) and gives its description."""
    body = answer.json()
    assert (answer.status_code, body["error"], answer.headers["cache-control"]) == (status, error, "no-store"), body
    assert all(0x20 <= ord(c) <= 0x7E and c not in '"\\' for c in body["error_description"])
    return str(body["error_description"])


# --- discovery ---------------------------------------------------------------------------------------------------------------------------


async def test_the_metadata_is_valid_and_what_it_names_exists(world: World) -> None:
    answer = await world.http.get("/.well-known/oauth-authorization-server")
    document = answer.json()
    metadata = AuthorizationServerMetadata(document)
    # the validator takes an empty list for a missing one; RFC 8414 requires the list, and there are no response types yet
    for name in set(AuthorizationServerMetadata.REGISTRY_KEYS) - {"response_types_supported"}:
        getattr(metadata, f"validate_{name}")()
    assert document["response_types_supported"] == []
    assert document["issuer"] == BASE
    assert document["scopes_supported"] == list(Scope)
    assert (await world.http.post(document["token_endpoint"])).status_code == 400
    assert (await world.http.get(document["jwks_uri"])).status_code == 200
    assert set(document) == {
        *("issuer", "token_endpoint", "jwks_uri", "scopes_supported", "response_types_supported", "grant_types_supported"),
        *("token_endpoint_auth_methods_supported", "token_endpoint_auth_signing_alg_values_supported"),
    }


async def test_the_resource_names_its_authorization_server(world: World) -> None:
    document = (await world.http.get("/.well-known/oauth-protected-resource")).json()
    assert document["resource"] == BASE
    assert document["authorization_servers"] == [BASE]
    assert document["bearer_methods_supported"] == ["header"]


async def test_the_token_is_an_at_jwt_that_the_published_keys_verify(world: World) -> None:
    answer = await world.ask(auth=(world.client_id, world.secret))
    body = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 600, HELD)
    keys = KeySet.import_key_set((await world.http.get("/oauth/jwks")).json())
    assert [key.is_private for key in keys] == [False]
    read = jwt.decode(body["access_token"], keys, ["ES256"])
    assert (read.header["typ"], read.header["alg"]) == ("at+jwt", "ES256")
    assert {name: read.claims[name] for name in ("iss", "aud", "sub", "client_id", "scope")} == {
        **{"iss": BASE, "aud": BASE, "sub": world.client_id, "client_id": world.client_id, "scope": HELD},
    }
    assert read.claims["exp"] - read.claims["iat"] == 600
    assert read.claims["jti"]


# --- client authentication -----------------------------------------------------------------------------------------------------------------


async def test_secrets_come_in_the_header_or_in_the_body(world: World) -> None:
    in_body = {"client_id": world.client_id, "client_secret": world.secret}
    for answer in (await world.ask(auth=(world.client_id, world.secret)), await world.ask(in_body)):
        caller = await world.who(answer.json()["access_token"])
        assert caller.json() == {"client": world.client_id, "scope": HELD}


async def test_the_header_holds_form_urlencoded_parts(world: World) -> None:
    secret = "a:b c%20d+e/é"
    await world.operator.execute(
        "INSERT INTO client_secrets (client_id, sha256) VALUES ($1, $2)",
        UUID(world.client_id),
        hashlib.sha256(secret.encode()).digest(),
    )
    joined = f"{quote_plus(world.client_id)}:{quote_plus(secret)}"
    answer = await world.ask(headers={"Authorization": "basic " + base64.b64encode(joined.encode()).decode()})
    assert answer.status_code == 200


async def test_an_unknown_client_and_a_wrong_secret_are_told_the_same(world: World) -> None:
    unknown = "01890000-0000-7014-8000-000000000000"
    wrong = [(world.client_id, "wrong"), (unknown, world.secret), ("no id at all", "wrong"), (world.signer, "wrong")]
    answers = [await world.ask(auth=pair) for pair in wrong]
    assert len({refused(answer, "invalid_client", 401) for answer in answers}) == 1
    assert {answer.headers["www-authenticate"] for answer in answers} == {'Basic realm="markonce", charset="UTF-8"'}
    by_post = [await world.ask({"client_id": client_id, "client_secret": secret}) for client_id, secret in wrong]
    assert {refused(answer, "invalid_client", 401) for answer in by_post} == {answers[0].json()["error_description"]}
    assert "www-authenticate" not in by_post[0].headers


@pytest.mark.parametrize(
    "header", ["Basic", "Basic !!!", "Basic " + base64.b64encode(b"no colon").decode(), "Bearer abc", "Basic w6k="]
)
async def test_a_malformed_header_is_no_authentication(world: World, header: str) -> None:
    answer = await world.ask(headers={"Authorization": header})
    refused(answer, "invalid_client", 401)
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_no_method_is_no_authentication_and_two_are_one_too_many(world: World) -> None:
    refused(await world.ask({"client_id": world.client_id}), "invalid_client", 401)
    both = {"client_id": world.client_id, "client_secret": world.secret}
    refused(await world.ask(both, auth=(world.client_id, world.secret)), "invalid_request")
    refused(await world.assert_(world.sign(), client_secret="x"), "invalid_request")
    refused(await world.ask({"client_assertion_type": oauth.ASSERTION_TYPE}), "invalid_request")
    refused(await world.ask({"client_id": world.signer}, auth=(world.client_id, world.secret)), "invalid_request")
    refused(await world.assert_(world.sign(), client_id=world.client_id), "invalid_request")


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize(
    ("key", "alg"),
    [(SIGNS, "ES256"), (RSA, "RS256"), (RSA, "PS256"), (EDWARDS, "EdDSA"), (EDWARDS, "Ed25519")],
    ids=lambda v: str(v)[:7],
)
async def test_an_assertion_by_each_algorithm_is_taken(world: World, key: Any, alg: str) -> None:
    answer = await world.assert_(world.sign(key, alg), client_id=world.signer)
    assert answer.status_code == 200, answer.text
    assert (await world.who(answer.json()["access_token"])).json()["client"] == world.signer


async def test_an_assertion_may_say_its_type_and_put_its_audience_in_an_array(world: World) -> None:
    assert (await world.assert_(world.sign(header={"typ": "client-authentication+jwt"}, aud=[BASE]))).status_code == 200


async def test_an_assertion_is_used_once(world: World) -> None:
    assertion = world.sign()
    assert (await world.assert_(assertion)).status_code == 200
    assert "jti" in refused(await world.assert_(assertion), "invalid_client", 401)


async def test_of_two_uses_at_the_same_time_one_is_refused(world: World) -> None:
    assertion = world.sign()
    answers = await asyncio.gather(*(world.assert_(assertion) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


async def test_a_refused_assertion_uses_up_nothing(world: World) -> None:
    refused(await world.assert_(world.sign(aud="https://elsewhere.example", jti="one")), "invalid_client", 401)
    refused(await world.assert_(world.sign(ECKey.generate_key("P-256", {"kid": "first"}), jti="one")), "invalid_client", 401)
    assert (await world.assert_(world.sign(jti="one"))).status_code == 200


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"aud": f"{BASE}/oauth/token"}, "aud"),
        ({"aud": [BASE, "https://elsewhere.example"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"iss": "https://elsewhere.example"}, "iss"),
        ({"jti": None}, "jti"),
        ({"jti": ""}, "jti"),
        ({"jti": "a\0b"}, "jti"),
        ({"jti": "\ud800"}, "jti"),
        ({"jti": ["a"]}, "jti"),
        ({"exp": None}, "exp"),
        ({"iat": None}, "iat"),
        ({"exp": 1}, "expired"),
        ({"exp": float("nan")}, "exp"),
        ({"exp": 10**400}, "exp"),
        ({"exp": True}, "exp"),
        ({"iat": 10**12}, "future"),
        ({"nbf": 10**12}, "not yet valid"),
    ],
    ids=str,
)
async def test_an_assertion_with_a_wrong_claim_is_refused(world: World, changed: dict[str, Any], said: str) -> None:
    assert said in refused(await world.assert_(world.sign(**changed)), "invalid_client", 401)


async def test_an_assertion_is_good_for_five_minutes_at_most(world: World) -> None:
    assert (await world.assert_(world.sign(exp=int(time.time()) + 300))).status_code == 200
    assert "300 seconds" in refused(await world.assert_(world.sign(exp=int(time.time()) + 400)), "invalid_client", 401)


async def test_an_access_token_is_no_assertion(world: World) -> None:
    assert "typ" in refused(await world.assert_(world.sign(header={"typ": "at+jwt"})), "invalid_client", 401)


def forged(header: dict[str, Any], claims: dict[str, Any], sign: Any = lambda _: b"") -> str:
    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    signed = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(sign(signed.encode()))}"


async def test_none_and_symmetric_algorithms_are_refused(world: World) -> None:
    public = SIGNS.as_pem(private=False)

    def keyed(signed: bytes) -> bytes:
        return hmac.new(public, signed, "sha256").digest()

    for assertion in (
        forged({"alg": "none"}, world.claims()),
        forged({"alg": "none", "kid": "first"}, world.claims()),
        forged({"alg": "HS256", "kid": "first"}, world.claims(), keyed),
        forged({"alg": "ES256", "kid": "first"}, world.claims(), keyed),
        forged({"alg": "ES256", "kid": "second"}, world.claims(), keyed),
        world.sign(header={"kid": "unknown"}),
        world.sign(ECKey.generate_key("P-256", {"kid": "mine"}), header={"jwk": SIGNS.as_dict(private=False)}),
    ):
        refused(await world.assert_(assertion), "invalid_client", 401)


@pytest.mark.parametrize(
    "assertion",
    [
        *("x", "..", "a.b.c", "é.é.é", "e30.e30.e30", "W10.W10.W10", "IiI.IiI.IiI", "ImFsZyI.e30.e30", "bnVsbA.bnVsbA.bnVsbA"),
        forged({"alg": ["ES256"]}, {"sub": "x"}),
        forged({"alg": "ES256", "crit": ["b64"], "b64": False}, {"sub": "x"}),
        "e30." + base64.urlsafe_b64encode(b"[" * 7000).decode() + ".e30",
        forged({"alg": "ES256"}, {"sub": {"sub": 1}}),
    ],
)
async def test_a_malformed_assertion_is_refused_like_an_unknown_client(world: World, assertion: str) -> None:
    assert "not known" in refused(await world.assert_(assertion), "invalid_client", 401)


async def test_a_verified_token_too_deep_to_read_is_refused(world: World) -> None:
    payload = f'{{"sub": "{world.signer}", "deep": {"[" * 5000}'.encode()
    head = base64.urlsafe_b64encode(b'{"alg":"ES256","kid":"first"}').rstrip(b"=")
    refused(
        await world.assert_(b".".join((head, base64.urlsafe_b64encode(payload).rstrip(b"="), b"AAAA")).decode()),
        "invalid_client",
        401,
    )


# --- the request -----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "invalid_request"),
        (b"scope=pupils:read", "invalid_request"),
        (b"grant_type=", "invalid_request"),
        (b"grant_type=password", "unsupported_grant_type"),
        (b"grant_type=client_credentials&grant_type=client_credentials", "invalid_request"),
        (b"grant_type=client_credentials&x=&x=1", "invalid_request"),
        (b"grant_type=client_credentials&x=%ff", "invalid_request"),
        (b"grant_type=client_credentials&x=\xc3\xa9", "invalid_request"),
        (b"grant_type", "invalid_request"),
        (b"grant_type=client_credentials" + b"".join(b"&x%d=1" % i for i in range(40)), "invalid_request"),
    ],
)
async def test_a_body_that_cannot_be_taken_is_refused(world: World, body: bytes, error: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await world.http.post("/oauth/token", content=body, headers=headers, auth=(world.client_id, world.secret))
    refused(answer, error)


async def test_only_a_small_form_in_the_body_is_read(world: World) -> None:
    credentials = (world.client_id, world.secret)
    refused(await world.ask({"x": "1" * 20_000}, auth=credentials), "invalid_request", 413)
    refused(await world.ask(auth=credentials, params={"client_secret": "x"}), "invalid_request")
    refused(await world.http.post("/oauth/token", json={"grant_type": "client_credentials"}, auth=credentials), "invalid_request")
    assert (await world.http.get("/oauth/token")).status_code == 405


# --- scope ---------------------------------------------------------------------------------------------------------------------------------


async def test_a_client_may_ask_for_less_than_it_holds(world: World) -> None:
    credentials = (world.client_id, world.secret)
    narrowed = (await world.ask({"scope": "pupils:read"}, auth=credentials)).json()
    assert narrowed["scope"] == "pupils:read"
    assert (await world.who(narrowed["access_token"])).json()["scope"] == "pupils:read"
    assert (await world.ask({"scope": ""}, auth=credentials)).json()["scope"] == HELD
    description = refused(await world.ask({"scope": "pupils:read pupils:name nothing:else"}, auth=credentials), "invalid_scope")
    assert "pupils:name, nothing:else" in description
    for malformed in ("a  b", 'pupils:read "', "pupils:re\u00e4d", " pupils:read"):
        refused(await world.ask({"scope": malformed}, auth=credentials), "invalid_scope")


async def test_what_no_grant_in_force_gives_is_not_held(world: World) -> None:
    credentials = (world.client_id, world.secret)
    later = await approve_grant(
        world.operator, UUID(world.client_id), parse_grant("installation=audit:read".replace("audit:read", "imports:write")),
        purpose="tests", approved_by="tests",
    )  # fmt: skip
    assert "imports:write" in (await world.ask(auth=credentials)).json()["scope"]
    await world.operator.execute("UPDATE grants SET expires_at = now() - interval '1 second' WHERE id = $1", later)
    await world.operator.execute("SELECT derive_reach(ARRAY[$1::uuid])", UUID(world.client_id))
    assert (await world.ask(auth=credentials)).json()["scope"] == HELD
    await revoke_grant(world.operator, world.grant_id)
    assert "No grant in force" in refused(await world.ask(auth=credentials), "invalid_scope")


# --- rotation and revocation -----------------------------------------------------------------------------------------------------------------


async def test_an_old_secret_works_during_the_overlap_only(world: World) -> None:
    from datetime import timedelta

    new = await clients.rotate_secret(world.operator, UUID(world.client_id), timedelta(hours=1))
    for secret in (world.secret, new):
        assert (await world.ask(auth=(world.client_id, secret))).status_code == 200
    newest = await clients.rotate_secret(world.operator, UUID(world.client_id))
    for secret in (world.secret, new):
        refused(await world.ask(auth=(world.client_id, secret)), "invalid_client", 401)
    assert (await world.ask(auth=(world.client_id, newest))).status_code == 200


async def test_tokens_of_a_retired_key_are_good_until_they_expire_and_those_of_the_new_key_at_once(world: World) -> None:
    before = await world.token()
    assert (await world.who(before)).status_code == 200
    await clients.rotate_signing_key(world.operator, SECRET)
    after = await world.token()
    assert (await world.who(after)).status_code == 200
    assert (await world.who(before)).status_code == 200
    world.forget()
    assert [(await world.who(token)).status_code for token in (before, after)] == [200, 200]
    await world.operator.execute("UPDATE signing_keys SET retired_at = now() - interval '1 hour' WHERE retired_at IS NOT NULL")
    world.forget()
    assert [(await world.who(token)).status_code for token in (before, after)] == [401, 200]


async def test_a_revoked_client_gets_no_token_and_its_tokens_are_refused(world: World) -> None:
    token = await world.token()
    for client_id in (world.client_id, world.signer):
        await clients.revoke_client(world.operator, UUID(client_id))
    unknown = refused(await world.ask(auth=("unknown", "x")), "invalid_client", 401)
    assert refused(await world.ask(auth=(world.client_id, world.secret)), "invalid_client", 401) == unknown
    refused(await world.assert_(world.sign()), "invalid_client", 401)
    answer = await world.who(token)
    assert (answer.status_code, answer.text) == (401, "The client is revoked.")


async def test_a_revoked_client_is_remembered_as_active_for_a_few_seconds_at_most(world: World) -> None:
    token = await world.token()
    assert (await world.who(token)).status_code == 200
    await clients.revoke_client(world.operator, UUID(world.client_id))
    active = world.app.state.authenticator._active
    active[UUID(world.client_id)] -= auth.ACTIVE_FOR
    assert (await world.who(token)).status_code == 401


# --- bearer tokens ---------------------------------------------------------------------------------------------------------------------------


async def test_a_request_without_a_token_is_told_where_to_get_one(world: World) -> None:
    where = f'Bearer resource_metadata="{BASE}/.well-known/oauth-protected-resource"'
    token = await world.token()
    for headers, params in (({}, {}), ({"Authorization": "Basic eDp5"}, {}), ({}, {"access_token": token})):
        answer = await world.http.get("/who", headers=headers, params=params)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, where)


async def test_a_token_that_is_not_good_is_told_so(world: World) -> None:
    token = await world.token()
    twice = [("Authorization", f"Bearer {token}"), ("Authorization", "Bearer x")]
    answers = [await world.who(bad) for bad in ("", "x", "a.b.c", token[:-4] + "AAAA", token + "x")]
    for answer in [*answers, await world.http.get("/who", headers=twice)]:
        assert answer.status_code == 401
        assert 'error="invalid_token", error_description="' in answer.headers["www-authenticate"]
    assert (await world.http.get("/who", headers={"Authorization": f"bearer {token}"})).status_code == 200


async def test_only_our_own_access_tokens_for_us_are_taken(world: World) -> None:
    kid = await world.operator.fetchval("SELECT kid FROM signing_keys")
    applicant = await clients.admit(world.app.state.database, UUID(world.client_id), lambda _: None)
    ours, now = applicant.signing_key(SECRET), int(time.time())
    good = {"iss": BASE, "aud": BASE, "sub": world.client_id, "client_id": world.client_id, "scope": "pupils:read", "exp": now + 60}

    def signed(header: dict[str, Any] | None = None, key: Any = ours, **changed: Any) -> str:
        claims = {name: value for name, value in (good | changed).items() if value is not None}
        return jwt.encode({"alg": "ES256", "typ": "at+jwt", "kid": kid, **(header or {})}, claims, key, ["ES256"])

    assert (await world.who(signed())).status_code == 200
    assert (await world.who(signed({"typ": "application/at+jwt"}))).status_code == 200
    assert (await world.who(signed(exp=now - 10))).status_code == 200  # clocks may differ
    expired = await world.who(signed(exp=now - 60))
    assert (expired.status_code, expired.text) == (401, "The access token has expired.")
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
        assert (await world.who(bad)).status_code == 401


async def test_a_remembered_token_still_expires(world: World) -> None:
    token = await world.token()
    assert (await world.who(token)).status_code == 200
    tokens = world.app.state.authenticator._tokens
    caller, _ = tokens[token]
    tokens[token] = caller, time.time() - 1
    await world.operator.execute("DELETE FROM signing_keys")
    await clients.ensure_signing_key(world.operator, SECRET)
    world.app.state.authenticator._read_at = float("-inf")
    assert (await world.who(token)).status_code == 401
    assert token not in tokens


async def test_memory_is_bounded_and_made_up_keys_cost_one_read(world: World) -> None:
    authenticator = auth.Authenticator(world.app.state.database, BASE)
    authenticator._tokens = {str(i): (None, 0.0) for i in range(auth.MAX_TOKENS)}  # type: ignore[misc]
    await authenticator.caller([f"Bearer {await world.token()}"])
    assert len(authenticator._tokens) == auth.MAX_TOKENS
    assert "0" not in authenticator._tokens
    read_at = []
    for kid in ("a", "b", "c"):
        with pytest.raises(auth.Unauthorised):
            await authenticator.caller([f"Bearer {world.sign(header={'kid': kid})}"])
        read_at.append(authenticator._read_at)
    assert len(set(read_at)) == 1


async def test_a_token_endpoint_without_a_key_or_with_another_secret_says_so(world: World) -> None:
    from domain.engine.errors import DatabaseError

    world.app.state.settings = SimpleNamespace(base_url=BASE, secret=b"another")
    with pytest.raises(DatabaseError, match="MARKONCE_SECRET"):
        await world.token()
    await world.operator.execute("DELETE FROM signing_keys")
    with pytest.raises(DatabaseError, match="no signing key"):
        await world.token()
