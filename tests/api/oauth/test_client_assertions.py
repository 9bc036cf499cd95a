"""private_key_jwt (RFC 7523 with draft-ietf-oauth-rfc7523bis): what the token endpoint takes for a client's assertion, and what not."""

import asyncio
import base64
import hmac
import time
from typing import Any

import pytest
from joserfc.jwk import ECKey

from tests.fixtures.oauth_installation import BASE, EDWARDS, RSA, SIGNS, Installation, forged


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
@pytest.mark.parametrize(
    ("key", "alg"),
    [(SIGNS, "ES256"), (RSA, "RS256"), (RSA, "PS256"), (EDWARDS, "EdDSA"), (EDWARDS, "Ed25519")],
    ids=lambda v: str(v)[:7],
)
async def test_an_assertion_by_each_algorithm_is_taken(installation: Installation, key: Any, alg: str) -> None:
    answer = await installation.present(installation.sign(key, alg), client_id=installation.signer)
    assert answer.status_code == 200, answer.text
    assert (await installation.who(answer.json()["access_token"])).json()["client"] == installation.signer


async def test_an_assertion_may_say_its_type_and_put_its_audience_in_an_array(installation: Installation) -> None:
    assert (
        await installation.present(installation.sign(header={"typ": "client-authentication+jwt"}, aud=[BASE]))
    ).status_code == 200


async def test_an_assertion_is_used_once(installation: Installation) -> None:
    assertion = installation.sign()
    assert (await installation.present(assertion)).status_code == 200
    assert "jti" in installation.refused(await installation.present(assertion), "invalid_client", 401)


async def test_of_two_uses_at_the_same_time_one_is_refused(installation: Installation) -> None:
    assertion = installation.sign()
    answers = await asyncio.gather(*(installation.present(assertion) for _ in range(4)))
    assert sorted(answer.status_code for answer in answers) == [200, 401, 401, 401]


async def test_a_refused_assertion_uses_up_nothing(installation: Installation) -> None:
    installation.refused(
        await installation.present(installation.sign(aud="https://elsewhere.example", jti="one")), "invalid_client", 401
    )
    installation.refused(
        await installation.present(installation.sign(ECKey.generate_key("P-256", {"kid": "first"}), jti="one")),
        "invalid_client",
        401,
    )
    assert (await installation.present(installation.sign(jti="one"))).status_code == 200


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
async def test_an_assertion_with_a_wrong_claim_is_refused(installation: Installation, changed: dict[str, Any], said: str) -> None:
    assert said in installation.refused(await installation.present(installation.sign(**changed)), "invalid_client", 401)


async def test_an_assertion_is_good_for_five_minutes_at_most(installation: Installation) -> None:
    assert (await installation.present(installation.sign(exp=int(time.time()) + 300))).status_code == 200
    assert "300 seconds" in installation.refused(
        await installation.present(installation.sign(exp=int(time.time()) + 400)), "invalid_client", 401
    )


async def test_an_access_token_is_no_assertion(installation: Installation) -> None:
    assert "typ" in installation.refused(
        await installation.present(installation.sign(header={"typ": "at+jwt"})), "invalid_client", 401
    )


async def test_none_and_symmetric_algorithms_are_refused(installation: Installation) -> None:
    public = SIGNS.as_pem(private=False)

    def keyed(signed: bytes) -> bytes:
        return hmac.new(public, signed, "sha256").digest()

    for assertion in (
        forged({"alg": "none"}, installation.claims()),
        forged({"alg": "none", "kid": "first"}, installation.claims()),
        forged({"alg": "HS256", "kid": "first"}, installation.claims(), keyed),
        forged({"alg": "ES256", "kid": "first"}, installation.claims(), keyed),
        forged({"alg": "ES256", "kid": "second"}, installation.claims(), keyed),
        installation.sign(header={"kid": "unknown"}),
        installation.sign(ECKey.generate_key("P-256", {"kid": "mine"}), header={"jwk": SIGNS.as_dict(private=False)}),
    ):
        installation.refused(await installation.present(assertion), "invalid_client", 401)


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
async def test_a_malformed_assertion_is_refused_like_an_unknown_client(installation: Installation, assertion: str) -> None:
    assert "not known" in installation.refused(await installation.present(assertion), "invalid_client", 401)
