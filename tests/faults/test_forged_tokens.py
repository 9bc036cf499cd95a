"""Forged tokens, as access tokens at every URL and as client assertions at the token endpoint: each is 401, and none is 500 or 200.

`MARKONCE_FORGERIES` says how many of each place are tried (0: all of them, about 500 each); by default some of every family.
"""

import os
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio
import structlog
from joserfc.jwk import ECKey, OKPKey, RSAKey

from api.oauth.client_auth import ASSERTION_TYPE
from domain.clients import clients
from domain.clients.grants import approve_grant, parse_grant
from domain.clients.tokens import Attempt, read_facts
from tests.faults.forgeries import Forgery, Signer, forgeries, trailing_bits
from tests.fixtures.databases import Databases
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import BASE, Trust, open_trust

COUNT = int(os.environ.get("MARKONCE_FORGERIES", "210"))
SIGNS = ECKey.generate_key("P-256", {"kid": "first"})
URLS = (
    *(("GET", url) for url in ("/v1/me", "/v1/schools?first=1", "/v1/aggregates", "/v1/judgements?format=csv")),
    *(("POST", url) for url in ("/graphql", "/v1/judgements", "/v1/pupils/lookup")),
    *(("PATCH", "/v1/pupils/01890000-0000-7014-8000-000000000000"), ("DELETE", "/v1/groups/x"), ("HEAD", "/v1/schools")),
)


class Place:
    """An installation, who signs its access tokens, and a client that signs assertions."""

    def __init__(self, here: Trust, http: httpx2.AsyncClient, client_id: str, kid: str, key: Any) -> None:
        self.here, self.http, self.client_id = here, http, client_id
        now = int(time.time())
        self.access = Signer(
            "access",
            key,
            {"alg": "ES256", "typ": "at+jwt", "kid": kid},
            lambda: {
                **{"iss": BASE, "aud": BASE, "sub": client_id, "client_id": client_id, "scope": "schools:read"},
                **{"iat": now, "exp": now + 300, "jti": str(time.perf_counter_ns())},
            },
            texts=("iss", "aud", "sub", "client_id", "scope"),
            needed=("iss", "aud", "sub", "client_id", "exp"),
        )
        self.assertion = Signer(
            "assertion",
            SIGNS,
            {"alg": "ES256", "typ": "JWT", "kid": "first"},
            lambda: {
                "iss": client_id,
                "sub": client_id,
                "aud": BASE,
                "iat": now,
                "exp": now + 200,
                "jti": str(time.perf_counter_ns()),
            },
            texts=("iss", "aud", "sub"),
            needed=("iss", "aud", "sub", "iat", "exp", "jti"),
        )

    async def ask(self, token: str, method: str = "GET", url: str = "/v1/me") -> httpx2.Response:
        headers = [(b"authorization", b"Bearer " + token.encode("utf-8", "surrogatepass"))]
        body = {"json": {"query": "{ me { name } }"}} if method == "POST" else {}
        return await self.http.request(method, url, headers=headers, **body)

    async def present(self, assertion: str, **more: str) -> httpx2.Response:
        form = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
        return await self.http.post("/oauth/token", data=form | more)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def place(module_databases: Databases) -> AsyncIterator[Place]:
    async with open_trust(module_databases) as here:
        keys = [SIGNS, RSAKey.generate_key(2048, {"kid": "second"}), OKPKey.generate_key("Ed25519", {"kid": "third"})]
        key_set = {"keys": [key.as_dict(private=False) for key in keys]}
        client_id, _ = await clients.create_client(here.operator, "signs", "private_key_jwt", key_set)
        grant = parse_grant("trust:4128=schools:read")
        await approve_grant(here.operator, client_id, grant, purpose="tests", approved_by="tests")
        facts = await read_facts(here.database, Attempt(client_id))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(here.transport.app), base_url=BASE) as http:
            yield Place(here, http, str(client_id), str(facts.kid), facts.decrypt_key(SECRET.encode()))


def refusal(answer: httpx2.Response) -> str:
    """How a bearer token was refused; empty where that is as it should be."""
    challenge = answer.headers.get("www-authenticate", "")
    is_right = answer.status_code == 401 and challenge.startswith("Bearer ") and 'error="invalid_token"' in challenge
    return "" if is_right else f"{answer.status_code} {challenge}"


def refusal_of_client(answer: httpx2.Response) -> str:
    body = answer.json()
    is_right = (answer.status_code, body.get("error"), answer.headers["cache-control"]) == (401, "invalid_client", "no-store")
    return "" if is_right else f"{answer.status_code} {body.get('error')}"


async def test_every_forged_access_token_is_refused(place: Place) -> None:
    tried = forgeries(place.access, COUNT)
    assert len(tried) >= min(COUNT or 10_000, 400)
    wrong = {}
    for i, (name, token) in enumerate(tried):
        if said := refusal(await place.ask(token, *URLS[i % len(URLS)])):
            wrong[name] = said
    assert wrong == {}
    assert (await place.ask(place.access.sign())).status_code == 200


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
async def test_every_forged_assertion_is_refused(place: Place) -> None:
    before = await place.here.value("SELECT count(*) FROM used_assertions")
    wrong = {}
    for name, token in forgeries(place.assertion, COUNT):
        if token and (said := refusal_of_client(await place.present(token))):
            wrong[name] = said
    assert wrong == {}
    assert await place.here.value("SELECT count(*) FROM used_assertions") == before
    assert (await place.present(place.assertion.sign())).status_code == 200


async def test_a_client_that_also_names_itself_is_refused_alike(place: Place) -> None:
    """Many libraries send client_id beside the assertion; a malformed assertion is 401 with it too."""
    for name, token in forgeries(place.assertion, 60):
        if token and "sub" not in name and not name.startswith("all claims"):  # two ids that differ are an error of the request
            assert refusal_of_client(await place.present(token, client_id=place.client_id)) == "", name


async def test_every_url_refuses_alike(place: Place) -> None:
    """Each URL and method of both interfaces, with a forgery of each kind that was once taken or was once a 500."""
    signer = place.access
    kinds: list[Forgery] = [
        ("crit", signer.headed(crit=[])),
        ("UTF-16", signer.part("claims", str(signer.good()).replace("'", '"').encode("utf-16"))),
        ("client_id", signer.claiming(client_id=5)),
        ("scope", signer.claiming(scope=["schools:read"])),
    ]
    routes = [(route.path, method) for route in place.here.transport.app.routes for method in route.methods or ()]
    unguarded = "/v1/calendars/{secret}"  # calendar programs send no token: the secret is the credential
    guarded = [
        (path.replace("{id}", place.client_id), method)
        for path, method in routes
        if path.startswith(("/v1", "/graphql")) and path != unguarded
    ]
    assert len(guarded) > 60
    assert "/graphql" in dict(guarded)
    for i, (path, method) in enumerate(guarded):
        name, token = kinds[i % len(kinds)]
        assert refusal(await place.ask(token, method, path)) == "", f"{method} {path}: {name}"
    assert {path for path, _ in routes} >= {unguarded}
    for name, token in kinds:
        assert (await place.ask(token, "GET", "/v1/calendars/guessed")).status_code == 404, name


@pytest.mark.parametrize("kind", ["access", "assertion"])
async def test_what_the_standards_allow_is_taken(place: Place, kind: str) -> None:
    signer: Signer = getattr(place, kind)
    typ = {"access": "Application/AT+JWT", "assertion": "Client-Authentication+JWT"}[kind]
    blanks = " ".join(str(signer.good()).replace("'", '"').split(" ")) + "\r\n\t "
    allowed = {
        "as it is": signer.sign(),
        "typ in capitals": signer.headed(typ=typ),
        "aud in a list": signer.claiming(aud=[BASE]),
        "another claim": signer.claiming(more={"deep": [1, None]}),
        "blanks": signer.part("claims", b"\n" + blanks.encode()),
        "escapes": signer.part("header", str(signer.header).replace("'", '"').replace('"alg"', '"\\u0061lg"').encode()),
        "times with fractions": signer.claiming(exp=time.time() + 100.5, iat=time.time() - 0.5, nbf=time.time() - 0.5),
        "a clock that differs": signer.claiming(iat=int(time.time()) + 20, nbf=int(time.time()) + 20),
        "jti in another script": signer.claiming(jti="ключ 钥匙 🔑"),
    }
    if kind == "assertion":
        allowed |= {"no typ": signer.part("header", b'{"alg":"ES256","kid":"first"}'), "x5t": signer.headed(x5t="abc")}
    for name, token in allowed.items():
        answer = await (place.ask(token) if kind == "access" else place.present(token))
        assert answer.status_code == 200, f"{name}: {answer.text}"


async def test_a_key_without_a_name_is_taken_where_there_is_one(place: Place) -> None:
    key = ECKey.generate_key("P-256", {"kid": "only"})
    client_id, _ = await clients.create_client(
        place.here.operator, "one key", "private_key_jwt", {"keys": [key.as_dict(private=False)]}
    )
    await approve_grant(
        place.here.operator, client_id, parse_grant("trust:4128=schools:read"), purpose="tests", approved_by="tests"
    )
    signer = place.assertion
    one = Signer(
        "assertion", key, {"alg": "ES256"}, lambda: signer.good() | {"iss": str(client_id), "sub": str(client_id)}, texts=()
    )
    assert (await place.present(one.sign())).status_code == 200
    assert refusal_of_client(await place.present(one.sign(key=SIGNS))) == ""
    assert refusal_of_client(await place.present(one.headed(kid="another"))) == ""
    assert UUID(one.good()["sub"]) == client_id


async def test_nothing_of_a_token_is_logged(place: Place) -> None:
    with structlog.testing.capture_logs() as logged:
        for signer, send in ((place.access, place.ask), (place.assertion, place.present)):
            for token in (
                signer.headed(crit=[]),
                signer.claiming(jti=["a-jti"]),
                signer.claiming(sub=5),
                trailing_bits(signer, "claims")[1],
            ):
                await send(token)  # type: ignore[operator]
    named = {(line["route"], line.pop("client")) for line in logged}
    assert named == {
        ("/v1/me", None),
        ("/oauth/token", None),
        ("/oauth/token", place.client_id),
    }  # the client that asks, if it exists
    text = str(logged)
    assert not any(secret in text for secret in ("eyJ", "a-jti", place.client_id, "unforeseen"))
