"""The authorization server over HTTP, in process and on a real database: discovery, secrets, requests, scope and rotation."""

import base64
import hashlib
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import quote_plus
from uuid import UUID

import pytest
from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
from joserfc import jwt
from joserfc.jwk import KeySet

from api.oauth.client_auth import ASSERTION_TYPE
from domain.clients import clients, signing_keys
from domain.clients.grants import approve_grant, parse_grant, revoke_grant
from domain.declare.errors import DatabaseError
from domain.declare.scopes import Scope
from tests.fixtures.oauth_installation import BASE, HELD, SECRET, Installation


async def test_the_metadata_is_valid_and_what_it_names_exists(installation: Installation) -> None:
    answer = await installation.http.get("/.well-known/oauth-authorization-server")
    document = answer.json()
    metadata = AuthorizationServerMetadata(document)
    # the validator takes an empty list for a missing one; RFC 8414 requires the list, and there are no response types yet
    for name in set(AuthorizationServerMetadata.REGISTRY_KEYS) - {"response_types_supported"}:
        getattr(metadata, f"validate_{name}")()
    assert document["response_types_supported"] == []
    assert document["issuer"] == BASE
    assert document["scopes_supported"] == list(Scope)
    assert (await installation.http.post(document["token_endpoint"])).status_code == 400
    assert (await installation.http.get(document["jwks_uri"])).status_code == 200
    assert set(document) == {
        *("issuer", "token_endpoint", "jwks_uri", "scopes_supported", "response_types_supported", "grant_types_supported"),
        *("token_endpoint_auth_methods_supported", "token_endpoint_auth_signing_alg_values_supported"),
    }


async def test_the_resource_names_its_authorization_server(installation: Installation) -> None:
    document = (await installation.http.get("/.well-known/oauth-protected-resource")).json()
    assert document["resource"] == BASE
    assert document["authorization_servers"] == [BASE]
    assert document["bearer_methods_supported"] == ["header"]


async def test_the_token_is_an_at_jwt_that_the_published_keys_verify(installation: Installation) -> None:
    answer = await installation.ask(auth=(installation.client_id, installation.secret))
    body = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 600, HELD)
    keys = KeySet.import_key_set((await installation.http.get("/oauth/jwks")).json())
    assert not any(key.is_private for key in keys)
    read = jwt.decode(body["access_token"], keys, ["ES256"])
    assert (read.header["typ"], read.header["alg"]) == ("at+jwt", "ES256")
    assert {name: read.claims[name] for name in ("iss", "aud", "sub", "client_id", "scope")} == {
        **{"iss": BASE, "aud": BASE, "sub": installation.client_id, "client_id": installation.client_id, "scope": HELD},
    }
    assert read.claims["exp"] - read.claims["iat"] == 600
    assert read.claims["jti"]


async def test_secrets_come_in_the_header_or_in_the_body(installation: Installation) -> None:
    in_body = {"client_id": installation.client_id, "client_secret": installation.secret}
    for answer in (await installation.ask(auth=(installation.client_id, installation.secret)), await installation.ask(in_body)):
        caller = await installation.who(answer.json()["access_token"])
        assert caller.json() == {"client": installation.client_id, "scope": HELD}


async def test_the_header_holds_form_urlencoded_parts(installation: Installation) -> None:
    secret = "a:b c%20d+e/é"
    await installation.operator.execute(
        "INSERT INTO client_secrets (client_id, sha256) VALUES ($1, $2)",
        UUID(installation.client_id),
        hashlib.sha256(secret.encode()).digest(),
    )
    joined = f"{quote_plus(installation.client_id)}:{quote_plus(secret)}"
    answer = await installation.ask(headers={"Authorization": "basic " + base64.b64encode(joined.encode()).decode()})
    assert answer.status_code == 200


async def test_an_unknown_client_and_a_wrong_secret_are_answered_the_same(installation: Installation) -> None:
    unknown = "01890000-0000-7014-8000-000000000000"
    wrong = [
        (installation.client_id, "wrong"),
        (unknown, installation.secret),
        ("no id at all", "wrong"),
        (installation.signer, "wrong"),
    ]
    answers = [await installation.ask(auth=pair) for pair in wrong]
    assert len({installation.refused(answer, "invalid_client", 401) for answer in answers}) == 1
    assert {answer.headers["www-authenticate"] for answer in answers} == {'Basic realm="markonce", charset="UTF-8"'}
    by_post = [await installation.ask({"client_id": client_id, "client_secret": secret}) for client_id, secret in wrong]
    assert {installation.refused(answer, "invalid_client", 401) for answer in by_post} == {answers[0].json()["error_description"]}
    assert "www-authenticate" not in by_post[0].headers


@pytest.mark.parametrize(
    "header", ["Basic", "Basic !!!", "Basic " + base64.b64encode(b"no colon").decode(), "Bearer abc", "Basic w6k="]
)
async def test_a_malformed_header_is_no_authentication(installation: Installation, header: str) -> None:
    answer = await installation.ask(headers={"Authorization": header})
    installation.refused(answer, "invalid_client", 401)
    assert answer.headers["www-authenticate"].startswith("Basic ")


async def test_no_method_is_no_authentication_and_two_are_one_too_many(installation: Installation) -> None:
    installation.refused(await installation.ask({"client_id": installation.client_id}), "invalid_client", 401)
    both = {"client_id": installation.client_id, "client_secret": installation.secret}
    installation.refused(await installation.ask(both, auth=(installation.client_id, installation.secret)), "invalid_request")
    installation.refused(await installation.present(installation.sign(), client_secret="x"), "invalid_request")
    installation.refused(await installation.ask({"client_assertion_type": ASSERTION_TYPE}), "invalid_request")
    installation.refused(
        await installation.ask({"client_id": installation.signer}, auth=(installation.client_id, installation.secret)),
        "invalid_request",
    )
    installation.refused(await installation.present(installation.sign(), client_id=installation.client_id), "invalid_request")


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
async def test_a_body_that_cannot_be_taken_is_refused(installation: Installation, body: bytes, error: str) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await installation.http.post(
        "/oauth/token", content=body, headers=headers, auth=(installation.client_id, installation.secret)
    )
    installation.refused(answer, error)


async def test_only_a_small_form_in_the_body_is_read(installation: Installation) -> None:
    credentials = (installation.client_id, installation.secret)
    installation.refused(await installation.ask({"x": "1" * 20_000}, auth=credentials), "invalid_request", 413)
    installation.refused(await installation.ask(auth=credentials, params={"client_secret": "x"}), "invalid_request")
    installation.refused(
        await installation.http.post("/oauth/token", json={"grant_type": "client_credentials"}, auth=credentials), "invalid_request"
    )
    assert (await installation.http.get("/oauth/token")).status_code == 405


async def test_a_client_may_ask_for_less_than_it_holds(installation: Installation) -> None:
    credentials = (installation.client_id, installation.secret)
    narrowed = (await installation.ask({"scope": "pupils:read"}, auth=credentials)).json()
    assert narrowed["scope"] == "pupils:read"
    assert (await installation.who(narrowed["access_token"])).json()["scope"] == "pupils:read"
    assert (await installation.ask({"scope": ""}, auth=credentials)).json()["scope"] == HELD
    description = installation.refused(
        await installation.ask({"scope": "pupils:read pupils:name nothing:else"}, auth=credentials), "invalid_scope"
    )
    assert "pupils:name, nothing:else" in description
    for malformed in ("a  b", 'pupils:read "', "pupils:re\u00e4d", " pupils:read"):
        installation.refused(await installation.ask({"scope": malformed}, auth=credentials), "invalid_scope")


async def test_what_no_grant_in_force_gives_is_not_held(installation: Installation) -> None:
    credentials = (installation.client_id, installation.secret)
    asked = parse_grant("installation=imports:write")
    later = await approve_grant(installation.operator, UUID(installation.client_id), asked, purpose="tests", approved_by="tests")
    assert "imports:write" in (await installation.ask(auth=credentials)).json()["scope"]
    await installation.operator.execute("UPDATE grants SET expires_at = now() - interval '1 second' WHERE id = $1", later)
    await installation.operator.execute("SELECT derive_reach(ARRAY[$1::uuid])", UUID(installation.client_id))
    assert (await installation.ask(auth=credentials)).json()["scope"] == HELD
    await revoke_grant(installation.operator, installation.grant_id)
    without = (await installation.ask(auth=credentials)).json()
    assert (sorted(without), without["token_type"]) == (["access_token", "expires_in", "token_type"], "Bearer")
    assert (await installation.who(without["access_token"])).json() == {"client": installation.client_id, "scope": ""}
    refused = installation.refused(await installation.ask({"scope": "pupils:read"}, auth=credentials), "invalid_scope")
    assert refused == "No grant in force gives this client pupils:read. GET /v1/me lists its grants."


async def test_an_old_secret_works_during_the_overlap_only(installation: Installation) -> None:
    new = await clients.rotate_secret(installation.operator, UUID(installation.client_id), timedelta(hours=1))
    for secret in (installation.secret, new):
        assert (await installation.ask(auth=(installation.client_id, secret))).status_code == 200
    newest = await clients.rotate_secret(installation.operator, UUID(installation.client_id))
    for secret in (installation.secret, new):
        installation.refused(await installation.ask(auth=(installation.client_id, secret)), "invalid_client", 401)
    assert (await installation.ask(auth=(installation.client_id, newest))).status_code == 200


async def test_tokens_of_a_retired_key_are_good_until_they_expire_and_those_of_the_new_key_at_once(
    installation: Installation,
) -> None:
    before = await installation.token()
    assert (await installation.who(before)).status_code == 200
    await signing_keys.rotate_signing_key(installation.operator, SECRET)
    after = await installation.token()
    assert (await installation.who(after)).status_code == 200
    assert (await installation.who(before)).status_code == 200
    installation.forget()
    assert [(await installation.who(token)).status_code for token in (before, after)] == [200, 200]
    await installation.operator.execute(
        "UPDATE signing_keys SET retired_at = now() - interval '1 hour' WHERE retired_at IS NOT NULL"
    )
    installation.forget()
    assert [(await installation.who(token)).status_code for token in (before, after)] == [401, 200]


async def test_a_revoked_client_gets_no_token_and_its_tokens_are_refused(installation: Installation) -> None:
    token = await installation.token()
    for client_id in (installation.client_id, installation.signer):
        await clients.revoke_client(installation.operator, UUID(client_id))
    unknown = installation.refused(await installation.ask(auth=("unknown", "x")), "invalid_client", 401)
    assert (
        installation.refused(await installation.ask(auth=(installation.client_id, installation.secret)), "invalid_client", 401)
        == unknown
    )
    installation.refused(await installation.present(installation.sign()), "invalid_client", 401)
    answer = await installation.who(token)
    assert (answer.status_code, answer.text) == (401, "The client is revoked.")


async def test_a_token_endpoint_without_a_key_or_with_another_secret_says_so(installation: Installation) -> None:
    installation.app.state.settings = SimpleNamespace(base_url=BASE, secrets=(b"another",))
    with pytest.raises(DatabaseError, match="MARKONCE_SECRET"):
        await installation.token()
    await installation.operator.execute("DELETE FROM signing_keys")
    with pytest.raises(DatabaseError, match="no signing key"):
        await installation.token()
