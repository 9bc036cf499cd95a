"""Every answer of the token endpoint, byte for byte: expected/token_answers.txt."""

import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import httpx2
from joserfc.jwk import ECKey

from api.http.rate_limit import Buckets
from domain.clients.clients import revoke_client
from tests.fixtures.golden import check_golden
from tests.fixtures.oauth_installation import BASE, EDWARDS, RSA, Installation, forged

GOLDEN = Path(__file__).parents[3] / "expected" / "token_answers.txt"
UNKNOWN = "01890000-0000-7014-8000-000000000000"
FORM = "application/x-www-form-urlencoded"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
OTHERS = ECKey.generate_key("P-256", {"kid": "first"})


def basic(client_id: str, secret: str | None) -> dict[str, str]:
    joined = client_id if secret is None else f"{client_id}:{secret}"
    return {"Authorization": "Basic " + base64.b64encode(joined.encode("latin-1")).decode()}


def form(**parameters: str) -> str:
    return urlencode({"grant_type": "client_credentials", **parameters})


def asserted(assertion: str, **more: str) -> str:
    return form(client_assertion_type=ASSERTION, client_assertion=assertion, **more)


def _of_secrets(client_id: str, secret: str, signer: str) -> dict[str, tuple[str, Mapping[str, str]]]:
    good = basic(client_id, secret)
    names = {"known": client_id, "unknown": UNKNOWN, "no id": "somebody", "one that signs": signer, "nobody": ""}
    return {
        "basic": (form(), good),
        "post": (form(client_id=client_id, client_secret=secret), {}),
        "basic, and its client_id": (form(client_id=client_id), good),
        "less scope": (form(scope="pupils:read"), good),
        "scope in another order, twice": (form(scope="schools:read pupils:read schools:read"), good),
        "more scope": (form(scope="pupils:read pupils:name nothing:else"), good),
        "scope that is none": (form(scope='pupils:read "'), good),
        "scope without a value": (form(scope=""), good),
        **{f"basic, wrong secret, {name}": (form(), basic(id_, "wrong")) for name, id_ in names.items()},
        **{f"post, wrong secret, {name}": (form(client_id=id_, client_secret="wrong"), {}) for name, id_ in names.items()},
        "post, no client_id": (form(client_secret=secret), {}),
        "basic, no colon": (form(), basic(client_id, None)),
        "basic, not base64": (form(), {"Authorization": "Basic !!!"}),
        "basic, no UTF-8": (form(), basic(client_id, "\xff\xe9")),
        "basic, no UTF-8 in the name": (form(), basic("\xff\xe9", secret)),
        "basic, escapes that are no UTF-8": (form(), basic(client_id, "%ff%e9")),
        "bearer": (form(), {"Authorization": "Bearer abc"}),
        "basic and post": (form(client_id=client_id, client_secret=secret), good),
        "basic for another client_id": (form(client_id=signer), good),
        "basic and an assertion": (asserted("x"), good),
        "basic for a client_id that is no ASCII": (form(client_id='é"\\'), good),
    }


def _of_requests(client_id: str, secret: str) -> dict[str, tuple[str, Mapping[str, str]]]:
    good = basic(client_id, secret)
    strange = {"redirect_uri": 'https://é.example/"\\', "state": 'é"', "response_type": 'é"', "code": "\x00"}
    return {
        "nobody": (form(client_id=client_id), {}),
        "nobody, strange parameters": (form(client_id='é"\\', **strange), {}),
        "strange parameters": (form(**strange), good),
        "no grant": ("scope=pupils%3Aread", good),
        "grant without a value": ("grant_type=", good),
        "another grant": ("grant_type=password", good),
        "another grant, nobody": ("grant_type=authorization_code&code=x", {}),
        "a grant that is no ASCII": (urlencode({"grant_type": 'é"\\'}), {}),
        "a grant twice": (form() + "&grant_type=client_credentials", good),
        "a client_id twice": (form(client_id=client_id) + f"&client_id={client_id}", good),
        "a secret twice": (form(client_id=client_id, client_secret=secret) + f"&client_secret={secret}", {}),
        "a scope twice": (form(scope="pupils:read") + "&scope=pupils:read", good),
        "an unknown parameter twice": (form() + "&x=&x=1", good),
        "forty parameters": (form() + "".join(f"&x{i}=1" for i in range(40)), good),
        "escapes that are no UTF-8": (form() + "&x=%ff", good),
        "no separators": ("grant_type", good),
        "nothing": ("", good),
        "another media type": (form(), good | {"Content-Type": "application/json"}),
        "a large body": (form(x="1" * 20_000), good),
    }


def _of_assertions(installation: Installation) -> dict[str, tuple[str, Mapping[str, str]]]:
    here, signer = installation, installation.signer
    bodies = {
        "assertion": asserted(here.sign()),
        "assertion, and its client_id": asserted(here.sign(), client_id=signer),
        "assertion by RS256": asserted(here.sign(RSA, "RS256")),
        "assertion by PS256": asserted(here.sign(RSA, "PS256")),
        "assertion by Ed25519": asserted(here.sign(EDWARDS, "Ed25519")),
        "assertion, audience in a list": asserted(here.sign(aud=[BASE])),
        "assertion, more scope": asserted(here.sign(), scope="nothing:else"),
        "assertion of a client with a secret": asserted(here.sign(iss=here.client_id, sub=here.client_id)),
        "assertion of nobody": asserted(here.sign(iss=UNKNOWN, sub=UNKNOWN)),
        "assertion of no id": asserted(here.sign(iss="somebody", sub="somebody")),
        "assertion by another key": asserted(here.sign(OTHERS)),
        "assertion by an unknown key": asserted(here.sign(header={"kid": "unknown"})),
        "assertion without a signature": asserted(forged({"alg": "none"}, here.claims())),
        "assertion of another typ": asserted(here.sign(header={"typ": "at+jwt"})),
        "assertion, two audiences": asserted(here.sign(aud=[BASE, "https://elsewhere.example"])),
        "assertion, audience is the endpoint": asserted(here.sign(aud=f"{BASE}/oauth/token")),
        "assertion, another issuer": asserted(here.sign(iss="https://elsewhere.example")),
        "assertion, no iat": asserted(here.sign(iat=None)),
        "assertion, no exp": asserted(here.sign(exp=None)),
        "assertion, expired": asserted(here.sign(exp=1)),
        "assertion, not yet": asserted(here.sign(nbf=10**12)),
        "assertion, long life": asserted(here.sign(exp=int(time.time()) + 10_000)),
        "assertion, exp is not a number": asserted(here.sign(exp=float("nan"))),
        "assertion, no jti": asserted(here.sign(jti=None)),
        "assertion, U+0000 in its jti": asserted(here.sign(jti="a\0b")),
        "assertion, malformed": asserted("é.é.é"),
        "assertion, sub is no text": asserted(here.sign(sub=5)),
        "assertion for another client_id": asserted(here.sign(), client_id=here.client_id),
        "assertion and a secret": asserted(here.sign(), client_secret="x"),
        "assertion of another type": form(client_assertion_type="x", client_assertion=here.sign()),
        "assertion without its type": form(client_assertion=here.sign()),
        "assertion type alone": form(client_assertion_type=ASSERTION),
    }
    return {name: (body, {}) for name, body in bodies.items()}


def _written(name: str, answer: httpx2.Response, installation: Installation) -> str:
    text = answer.text
    if "access_token" in text:
        token = answer.json()["access_token"]
        parts = [json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2]]
        header, claims = parts[0] | {"kid": "KID"}, parts[1]
        claims |= {"exp": claims["exp"] - claims["iat"], "iat": 0, "jti": "J" * len(claims["jti"])}
        told = json.dumps(header), json.dumps(claims, sort_keys=True), "S" * len(token.split(".")[2])
        text = text.replace(token, "TOKEN") + "\n" + "\n".join(told)
    for masked, by in ((installation.client_id, "CLIENT"), (installation.signer, "SIGNER")):
        text = text.replace(masked, by)
    headers = [f"{key}: {value}" for key, value in answer.headers.multi_items()]
    return "\n".join([f"## {name}", str(answer.status_code), *headers, text, ""])


async def _answers(here: Installation) -> AsyncIterator[str]:
    async def send(name: str, body: str, headers: Mapping[str, str], url: str = "/oauth/token") -> str:
        answer = await here.http.post(url, content=body, headers={"Content-Type": FORM, **headers})
        return _written(name, answer, here)

    requests = _of_secrets(here.client_id, here.secret, here.signer) | _of_requests(here.client_id, here.secret)
    for name, (body, headers) in (requests | _of_assertions(here)).items():
        yield await send(name, body, headers)
    good, replayed = basic(here.client_id, here.secret), asserted(here.sign())
    yield await send("parameters in the URL", form(), good, "/oauth/token?scope=pupils:read")
    yield await send("assertion, first use", replayed, {})
    yield await send("assertion, second use", replayed, {})
    here.app.state.token_rate_limits = Buckets(1, 1)
    for name in ("first", "second"):
        yield await send(f"of one, the {name}", form(), good)
        yield await send(f"of one, the {name} wrong", form(), basic(here.client_id, "wrong"))
        yield await send(f"of one, the {name} wrong assertion", asserted(here.sign(aud="x")), {})
    here.app.state.token_rate_limits = Buckets(100, 1000)
    for client_id in (here.client_id, here.signer):
        await revoke_client(here.operator, UUID(client_id))
    yield await send("basic, revoked", form(), good)
    yield await send("post, revoked", form(client_id=here.client_id, client_secret=here.secret), {})
    yield await send("assertion, revoked", asserted(here.sign()), {})


async def test_golden_token_answers(installation: Installation) -> None:
    attempts = installation.app.state.token_rate_limits
    try:
        text = "\n".join([answer async for answer in _answers(installation)])
    finally:
        installation.app.state.token_rate_limits = attempts
    check_golden(GOLDEN, text)


def test_the_reader_of_the_golden_finds_every_kind_of_answer() -> None:
    """It would say little if it held only refusals."""
    blocks: list[Any] = GOLDEN.read_text().split("## ")[1:]
    assert {block.split("\n")[1] for block in blocks} == {"200", "400", "401", "413", "429"}
