"""Authlib decides every token request, and what it leaves open by itself is closed here: the faults that its documentation alone leads to."""

import asyncio
import base64
import json
import logging
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio
from authlib.oauth2.rfc6749 import AuthorizationServer
from authlib.oauth2.rfc6749.errors import OAuth2Error
from authlib.oauth2.rfc6749.grants import ClientCredentialsGrant
from joserfc.jwk import ECKey

from api.oauth.client_auth import ASSERTION_TYPE, METHODS
from api.settings import Settings
from domain.clients import clients
from domain.clients.grants import approve_grant, parse_grant
from tests.fixtures.databases import fresh_database
from tests.fixtures.oauth_installation import SECRET, SIGNS, Installation
from tests.fixtures.server import serving
from tests.fixtures.settings import ROOT

UNKNOWN = "01890000-0000-7014-8000-000000000000"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
STRANGE = ('"', "é", "\\", "\x00", "\u2028", 'x" onerror="', "\r\nSet-Cookie: a=b", "a" * 9000)
PARAMETERS = (
    *("grant_type", "client_id", "client_secret", "client_assertion", "client_assertion_type", "scope", "redirect_uri"),
    *("response_type", "state", "code", "code_verifier", "refresh_token", "username", "password", "resource", "nonce", "token"),
)
"""What this endpoint reads, and what Authlib's grants read."""


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


async def ask_by(here: Installation, method: str, **form: str) -> httpx2.Response:
    """A right request for a token by this method."""
    if method == "client_secret_basic":
        return await here.ask(form, headers=basic(here.client_id, here.secret))
    if method == "client_secret_post":
        return await here.ask({"client_id": here.client_id, "client_secret": here.secret, **form})
    return await here.present(here.sign(), **form)


# Authlib decides.


@pytest_asyncio.fixture
async def decisions(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Any]]:
    """What Authlib's create_token_response has answered."""
    seen: list[Any] = []
    authlibs = AuthorizationServer.create_token_response

    def note(self: Any, request: Any = None) -> Any:
        seen.append(authlibs(self, request))
        return seen[-1]

    monkeypatch.setattr(AuthorizationServer, "create_token_response", note)
    yield seen


@pytest.mark.filterwarnings("error::authlib.deprecate.AuthlibDeprecationWarning")
@pytest.mark.parametrize("method", METHODS)
async def test_authlib_answers_every_request_that_is_authenticated(
    installation: Installation, decisions: list[Any], method: str
) -> None:
    answer = await ask_by(installation, method)
    assert answer.status_code == 200
    assert [each.body["access_token"] for each in decisions] == [answer.json()["access_token"]]
    refused = await ask_by(installation, method, scope="nothing:else")
    assert [each.error for each in decisions[1:]] == ["invalid_scope"]
    installation.refused(refused, "invalid_scope")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("step", ["validate_token_request", "create_token_response"])
async def test_a_grant_that_refuses_is_refused(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, step: str, method: str
) -> None:
    """No token is issued beside Authlib's grant. An error of its own becomes the same kind of response as ours."""

    def refuse(_: Any) -> None:
        raise OAuth2Error("The grant refuses.", error="access_denied")

    monkeypatch.setattr(ClientCredentialsGrant, step, refuse)
    assert installation.refused(await ask_by(installation, method), "access_denied") == "The grant refuses."


@pytest.mark.parametrize("method", METHODS)
async def test_a_client_whose_method_is_taken_from_authlib_is_refused(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Authlib's authenticate_client calls the readers here, and nothing else authenticates."""
    others = [each for each in METHODS if each != method]
    monkeypatch.setattr("api.oauth.server.ClientCredentials.TOKEN_ENDPOINT_AUTH_METHODS", others)
    assert (await ask_by(installation, method)).json()["error"] == "invalid_client"
    for each in others:
        assert (await ask_by(installation, each)).status_code == 200


COUNTING = """
from authlib.oauth2.rfc6749 import AuthorizationServer
authlibs = AuthorizationServer.create_token_response
def note(self, request=None):
    answer = authlibs(self, request)
    with open({path!r}, "a") as file:
        print(getattr(answer, "status", None) or answer.error, file=file)
    return answer
AuthorizationServer.create_token_response = note
"""


def test_authlib_answers_in_the_server_process(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python -m api serve`, asked over its socket. Python imports sitecustomize when it starts."""
    noted = tmp_path / "answers"
    (tmp_path / "sitecustomize.py").write_text(COUNTING.format(path=str(noted)))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with serving(fresh_database(cluster)) as server:
        url, credentials = f"{server.base_url}/oauth/token", server.secrets["operator"]
        form = {"grant_type": "client_credentials"}
        assert httpx2.post(url, data=form, auth=credentials).status_code == 200
        assert httpx2.post(url, data=form | {"scope": "nothing:else"}, auth=credentials).status_code == 400
        assert httpx2.post(url, data=form, auth=(credentials[0], "wrong")).status_code == 401
    assert noted.read_text().split() == ["200", "invalid_scope"]


async def test_requests_at_the_same_time_get_each_its_own(installation: Installation) -> None:
    """Nothing of a decision stands where another could read it."""
    granted = parse_grant("installation=aggregates:read")
    other, secret = await clients.create_client(installation.operator, f"other {time.perf_counter_ns()}", "client_secret")
    await approve_grant(installation.operator, other, granted, purpose="tests", approved_by="tests")
    scopes = {str(other): "aggregates:read", installation.client_id: "pupils:read", installation.signer: "schools:read"}

    async def ask(client_id: str) -> None:
        if client_id == installation.signer:
            answer = await installation.present(installation.sign(), scope=scopes[client_id])
        else:
            right = str(secret) if client_id == str(other) else installation.secret
            answer = await installation.ask({"scope": scopes[client_id]}, headers=basic(client_id, right))
        claims = json.loads(base64.urlsafe_b64decode(answer.json()["access_token"].split(".")[1] + "=="))
        assert (claims["sub"], claims["client_id"], claims["scope"]) == (client_id, client_id, scopes[client_id])

    await asyncio.gather(*(ask(client_id) for client_id in scopes for _ in range(20)))


# What it leaves open.


@pytest.mark.parametrize("name", PARAMETERS)
async def test_no_text_in_a_parameter_is_a_fault_of_the_server(installation: Installation, name: str) -> None:
    """Of nobody, and beside right credentials. Authlib raises ValueError for a description with characters that it repeats."""
    for text in STRANGE:
        form = {"grant_type": "client_credentials", name: text}
        for headers in ({}, basic(installation.client_id, installation.secret)):
            answer = await installation.http.post("/oauth/token", content=urlencode(form), headers=FORM | headers)
            assert answer.status_code in (200, 400, 401), (text, answer.text)
            assert answer.status_code != 200 or name not in ("grant_type", "client_id", "client_secret", "scope")
            if answer.status_code != 200:
                installation.refused(answer, answer.json()["error"], answer.status_code)


@pytest.mark.parametrize(
    "value",
    [
        b"Basic \xff\xfe",
        b"Basic \xc3\xa9",
        b"\xff",
        b"Basic " + base64.b64encode(b"\xff:\xfe"),
        b"Basic " + base64.b64encode(b"\xe9:secret"),
        b"Basic " + base64.b64encode(b"%ff:%fe"),
        b"Basic " + base64.b64encode("é:è".encode()),
        b"Basic " + base64.b64encode(b"\x00:\x00"),
        b"Basic " + base64.b64encode(b"no colon"),
        b"Basic OnNlY3JldA",
        b"",
    ],
    ids=ascii,
)
async def test_an_authorization_header_of_any_bytes_is_401(installation: Installation, value: bytes) -> None:
    body = b"grant_type=client_credentials"
    headers = [(b"content-type", FORM["Content-Type"].encode()), (b"authorization", value)]
    answer = await installation.http.post("/oauth/token", content=body, headers=headers)
    installation.refused(answer, "invalid_client", 401)
    assert answer.headers["www-authenticate"] == 'Basic realm="markonce", charset="UTF-8"'


async def test_a_request_means_one_thing(installation: Installation) -> None:
    """No parameter twice, whether its values are equal or not; no two methods; no header twice."""
    right = {"client_id": installation.client_id, "client_secret": installation.secret}
    form = {"grant_type": "client_credentials", "scope": "pupils:read", "redirect_uri": "https://app.example", **right}
    for name, value in form.items():
        for second in (value, "x"):
            body = urlencode([*form.items(), (name, second)])
            installation.refused(await installation.http.post("/oauth/token", content=body, headers=FORM), "invalid_request")
    header = basic(installation.client_id, installation.secret)["Authorization"]
    for values in ([header, header], [header, "Bearer x"], ["Basic eDp5", header]):
        headers = [*FORM.items(), *(("Authorization", value) for value in values)]
        body = "grant_type=client_credentials"
        installation.refused(await installation.http.post("/oauth/token", content=body, headers=headers), "invalid_request")
    asserted = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": installation.sign()}
    for form in (right | asserted, {"client_secret": "x"} | asserted):
        installation.refused(await installation.ask(form), "invalid_request")
    for form in (right, asserted):
        installation.refused(await installation.ask(form, headers={"Authorization": header}), "invalid_request")


@pytest.mark.parametrize("method", METHODS)
async def test_no_answer_reveals_who_is_a_client(installation: Installation, method: str) -> None:
    """An unknown client, a revoked one, one registered for another method and a wrong proof are the same bytes."""
    here, strangers = installation, ECKey.generate_key("P-256", {"kid": "first"})
    revoked, secret = await clients.create_client(here.operator, f"revoked {time.perf_counter_ns()}", "client_secret")
    keys = {"keys": [SIGNS.as_dict(private=False)]}
    signed, _ = await clients.create_client(here.operator, f"signed {time.perf_counter_ns()}", "private_key_jwt", keys)
    for each in (revoked, signed):
        await clients.revoke_client(here.operator, UUID(str(each)))

    async def wrong(client_id: str) -> httpx2.Response:
        if method == "client_secret_basic":
            return await here.ask(headers=basic(client_id, str(secret)))
        if method == "client_secret_post":
            return await here.ask({"client_id": client_id, "client_secret": str(secret)})
        key = SIGNS if client_id in (str(signed), here.client_id, UNKNOWN) else strangers
        return await here.present(here.sign(key, iss=client_id, sub=client_id), client_id=client_id)

    named = [here.client_id, here.signer, str(revoked), str(signed), UNKNOWN, "nobody", here.client_id.upper()]
    answers = [await wrong(client_id) for client_id in named]
    assert {answer.status_code for answer in answers} == {401}
    assert len({(answer.content, str(answer.headers.multi_items())) for answer in answers}) == 1


@pytest.mark.parametrize(
    "url", ["https://markonce.example", "http://markonce.example", "http://10.1.2.3:8000", "http://127.0.0.1:8000"]
)
async def test_the_url_that_a_request_came_to_decides_nothing(installation: Installation, url: str) -> None:
    """Behind a proxy that ends TLS it is http and names the machine. Authlib takes such a URL for an insecure transport. Tokens name the public one."""
    installation.app.state.settings = Settings("", SECRET, url)
    installation.forget()
    inside = httpx2.AsyncClient(transport=httpx2.ASGITransport(installation.app), base_url="http://app-1.internal:8000")
    async with inside as http:
        answer = await http.post(
            "/oauth/token", data={"grant_type": "client_credentials"}, headers=basic(installation.client_id, installation.secret)
        )
        assert answer.status_code == 200, answer.text
        claims = json.loads(base64.urlsafe_b64decode(answer.json()["access_token"].split(".")[1] + "=="))
        assert (claims["iss"], claims["aud"]) == (url, url)


async def test_a_description_holds_no_character_that_it_must_not(installation: Installation) -> None:
    """Also where it repeats a setting (RFC 6749 section 5.2)."""
    installation.app.state.settings = Settings("", SECRET, 'https://schüle.example/"\\')
    said = installation.refused(await installation.present(installation.sign()), "invalid_client", 401)
    assert "aud is the issuer, https://sch?le.example/??, and nothing else" in said


def _secrets(here: Installation, answers: list[httpx2.Response], assertion: str) -> list[str]:
    tokens = [answer.json()["access_token"] for answer in answers]
    return [
        *tokens,
        *(token.split(".")[2] for token in tokens),
        assertion,
        here.secret,
        basic(here.client_id, here.secret)["Authorization"],
    ]


async def test_no_token_or_secret_is_logged_at_any_level(installation: Installation, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG Authlib logs the tokens that it issues."""
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("some.library").debug("this is seen")
        answers = [await ask_by(installation, method) for method in METHODS[:2]]
        answers.append(await installation.present(assertion := installation.sign()))
        installation.refused(await installation.ask(headers=basic(installation.client_id, "wrong")), "invalid_client", 401)
    assert "this is seen" in caplog.text
    assert not any(secret in caplog.text for secret in _secrets(installation, answers, assertion))
    assert not any(record.name.startswith("authlib") for record in caplog.records)


def test_nothing_deprecated_of_authlib_is_imported() -> None:
    """Keys and tokens are joserfc's. Neither does Authlib itself import its older module for them."""
    program = (
        "import sys, api.app; print([name for name in sys.modules if name.startswith(('authlib.jose', 'authlib.integrations'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
