"""The API's clock may be wrong: tokens are issued and verified by the database's."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from api.app import build_app
from api.http import auth
from api.settings import Settings
from domain.clients import clients, signing_keys
from domain.clients.tokens import Attempt, read_facts
from tests.faults.forgeries import Signer
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import BASE, Trust


@contextmanager
def clock_off_by(seconds: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    right = time.time
    with monkeypatch.context() as changed:
        changed.setattr(time, "time", lambda: right() + seconds)
        yield


@pytest.mark.parametrize("seconds", [-100_000, -31, 31, 700, 100_000])
async def test_a_fresh_token_is_good_whatever_the_clock_of_the_machine_says(
    small_trust: Trust, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    vendor = await small_trust.client("vendor", "trust:4128=schools:read")
    settings = Settings(small_trust.databases.app_url, SECRET.encode(), BASE, cache_mb=0)
    with clock_off_by(seconds, monkeypatch):
        app = build_app(settings, small_trust.database)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE, headers=vendor.headers) as http:
            assert (await http.get("/v1/me")).status_code == 200
            assert (await http.post("/graphql", json={"query": "{ me { name } }"})).status_code == 200
    with clock_off_by(seconds, monkeypatch):  # while it runs
        assert (await vendor.get("/v1/me")).status_code == 200


async def test_a_token_ends_by_the_clock_it_was_issued_by(small_trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of the machine that stands still makes no token last."""
    vendor = await small_trust.client("vendor", "trust:4128=schools:read")
    authenticator: Any = small_trust.transport.app.state.authenticator
    assert (await vendor.get("/v1/me")).status_code == 200
    (token,) = authenticator._tokens._by_key
    later = datetime.now(UTC) + signing_keys.TOKEN_LIFE + timedelta(seconds=auth.LEEWAY + 1)
    stands = time.time()
    monkeypatch.setattr(time, "time", lambda: stands)
    authenticator.note_issued(next(iter(authenticator._keys)).kid, later)
    authenticator._missed_at = time.monotonic()  # the database is not asked again: its clock did not move
    with pytest.raises(auth.Unauthorised, match="expired"):
        await authenticator.find_caller([f"Bearer {token}"])


async def test_a_database_clock_that_was_set_is_followed(small_trust: Trust) -> None:
    """Tokens that another process issued tell nothing of the time: it is read again, at most every few seconds."""
    client_id, _ = await clients.create_client(small_trust.operator, "vendor", "client_secret")
    facts = await read_facts(small_trust.database, Attempt(client_id))
    now = int(facts.client.now.timestamp())
    claims = {"iss": BASE, "aud": BASE, "sub": str(client_id), "client_id": str(client_id), "scope": "schools:read"}
    header = {"alg": "ES256", "typ": "at+jwt", "kid": facts.kid}
    signer = Signer("access", facts.decrypt_key(SECRET.encode()), header, lambda: claims | {"iat": now, "exp": now + 600}, ())
    authenticator = auth.get_authenticator(small_trust.transport.app.state)
    assert await authenticator.find_caller([f"Bearer {signer.sign()}"])
    for off in (timedelta(hours=1), -timedelta(hours=1)):
        authenticator.note_issued(str(facts.kid), facts.client.now + off)  # before the clock was set
        authenticator._missed_at = float("-inf")
        assert await authenticator.find_caller([f"Bearer {signer.claiming(jti=str(off))}"])
