"""Who guesses at a client, or replays what it sent, takes nothing from it: not its tokens, not its quota, not its connections to the database."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2
import pytest
import pytest_asyncio
from joserfc.jwk import ECKey

from api.app import build_app
from api.http import rate_limit
from api.oauth.client_auth import ASSERTION_TYPE
from api.settings import Settings
from domain.clients import clients, signing_keys
from domain.clients.grants import approve_grant, parse_grant
from domain.declare.ids import new_id
from tests.faults.forgeries import OTHERS, Signer
from tests.fixtures.databases import Databases
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import BASE, Trust, open_trust

RATE, BURST = 1, 20
HERE, ELSEWHERE = "192.0.2.1", "198.51.100.7"
KEY = ECKey.generate_key("P-256", {"kid": "first"})


@dataclass
class Office:
    """An application that allows little, a client with a secret and one that signs, and whoever asks from an address."""

    here: Trust
    app: Any
    secret: str
    with_secret: str
    signer: Signer
    by_address: dict[str, httpx2.AsyncClient] = field(default_factory=dict)

    def at(self, address: str) -> httpx2.AsyncClient:
        if address not in self.by_address:
            transport = httpx2.ASGITransport(self.app, client=(address, 50_000))
            self.by_address[address] = httpx2.AsyncClient(transport=transport, base_url=BASE, timeout=60)
        return self.by_address[address]

    async def ask(self, address: str, auth: Any = None, **form: str) -> httpx2.Response:
        return await self.at(address).post("/oauth/token", data={"grant_type": "client_credentials", **form}, auth=auth)

    async def present(self, address: str, assertion: str) -> httpx2.Response:
        return await self.ask(address, client_assertion_type=ASSERTION_TYPE, client_assertion=assertion)

    async def honest(self, who: str, address: str = HERE) -> httpx2.Response:
        if who == "secret":
            return await self.ask(address, auth=(self.with_secret, self.secret))
        return await self.present(address, self.signer.sign())


def signer_of(client_id: str) -> Signer:
    def good() -> dict[str, Any]:
        now = int(time.time())
        return {"iss": client_id, "sub": client_id, "aud": BASE, "iat": now, "exp": now + 200, "jti": secrets.token_hex(8)}

    return Signer("assertion", KEY, {"alg": "ES256", "kid": "first"}, good, texts=())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def installed(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as here:
        yield here


class StandingClock:
    """For the buckets: nothing comes back into them while a test runs, however long it takes."""

    def monotonic(self) -> float:
        return 1e9


@pytest_asyncio.fixture
async def office(installed: Trust, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Office]:
    """New clients, and a process that knows nothing yet."""
    monkeypatch.setattr(rate_limit, "time", StandingClock())
    name, key_set = secrets.token_hex(4), {"keys": [KEY.as_dict(private=False)]}
    with_secret, secret = await clients.create_client(installed.operator, f"{name} secret", "client_secret")
    signs, _ = await clients.create_client(installed.operator, f"{name} signs", "private_key_jwt", key_set)
    for client_id in (with_secret, signs):
        grant = parse_grant("trust:4128=schools:read")
        await approve_grant(installed.operator, client_id, grant, purpose="tests", approved_by="tests")
    settings = Settings(installed.databases.app_url, SECRET.encode(), BASE, rate=RATE, burst=BURST, cache_mb=0)
    app = build_app(settings, installed.database)
    made = Office(installed, app, str(secret), str(with_secret), signer_of(str(signs)))
    yield made
    for http in made.by_address.values():
        await http.aclose()


def guesses(office: Office, way: str) -> Callable[[str], Any]:
    """A wrong attempt of this kind, from an address."""
    client_id, signer = office.with_secret, office.signer
    replayed, expired = signer.sign(), signer.claiming(exp=int(time.time()) - 100, iat=int(time.time()) - 200)

    async def guess(address: str) -> httpx2.Response:
        match way:
            case "basic":
                return await office.ask(address, auth=(client_id, secrets.token_urlsafe(32)))
            case "post":
                return await office.ask(address, client_id=client_id, client_secret=secrets.token_urlsafe(32))
            case "secret of a client that signs":
                return await office.ask(address, auth=(signer.good()["sub"], "guess"))
            case "assertion of a client with a secret":
                return await office.present(address, signer_of(client_id).sign())
            case "signature":
                return await office.present(address, signer.sign(key=OTHERS))
            case "no kid, other algorithm":
                return await office.present(address, signer.headed(alg="RS256"))
            case "audience":
                return await office.present(address, signer.claiming(aud="https://elsewhere.example"))
            case "expired":
                return await office.present(address, expired)
            case "replayed":
                return await office.present(address, replayed)
        raise AssertionError(way)

    return guess


WAYS = (
    *("basic", "post", "secret of a client that signs", "assertion of a client with a secret", "signature"),
    *("no kid, other algorithm", "audience", "expired", "replayed"),
)


@pytest.mark.parametrize("address", [HERE, ELSEWHERE], ids=["same address", "another address"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_right_one_is_never_refused_for_the_wrong_ones_of_others(office: Office, way: str, address: str) -> None:
    who = "secret" if way in ("basic", "post", "assertion of a client with a secret") else "signs"
    guess = guesses(office, way)
    first = await guess(ELSEWHERE) if way == "replayed" else None  # it is good once
    assert first is None or first.status_code == 200
    told: Counter[int] = Counter()
    for _ in range(BURST - 6):  # within what the client may ask for by itself
        answers = await asyncio.gather(*(guess(address) for _ in range(8)), office.honest(who))
        told.update(answer.status_code for answer in answers[:-1])
        assert answers[-1].status_code == 200, answers[-1].text
    assert told == {401: BURST, 429: 8 * (BURST - 6) - BURST}  # they are told to stop


async def test_wrong_ones_are_counted_by_client_and_address(office: Office) -> None:
    async def guess(address: str, client_id: str = office.with_secret) -> int:
        answer = await office.ask(address, auth=(client_id, "wrong"))
        assert answer.status_code != 429 or int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"] == ("invalid_client" if answer.status_code == 401 else "temporarily_unavailable")
        return answer.status_code

    assert [await guess("2001:db8::1") for _ in range(BURST + 2)] == [401] * BURST + [429, 429]
    assert await guess("2001:db8::ffff:1") == 429  # one host has a /64 at its disposal
    assert await guess("2001:db8:0:1::1") == 401
    assert await guess(HERE) == 401
    assert await guess("2001:db8::1", office.signer.good()["sub"]) == 401
    for _ in range(BURST):
        await guess(ELSEWHERE)
    assert await guess(f"::ffff:{ELSEWHERE}") == 429


async def test_a_client_that_does_not_exist_is_answered_like_one_that_does(office: Office) -> None:
    """The same answers in the same order, also beyond the limit; and the same for one that is revoked."""
    revoked, secret = await clients.create_client(office.here.operator, secrets.token_hex(8), "client_secret")
    await clients.revoke_client(office.here.operator, revoked)
    named = [office.with_secret, str(new_id(clients.CLIENT)), str(revoked)]

    def told(answer: httpx2.Response) -> tuple[Any, ...]:
        headers = {
            name: value for name, value in answer.headers.items() if name not in ("x-request-id", "server-timing", "retry-after")
        }
        return answer.status_code, answer.json(), headers

    for _ in range(BURST + 5):
        answers = await asyncio.gather(*(office.ask(HERE, auth=(client_id, secret)) for client_id in named))
        assert told(answers[0]) == told(answers[1]) == told(answers[2])
    assert answers[0].status_code == 429
    signs = [office.signer.good()["sub"], str(new_id(clients.CLIENT))]
    for _ in range(BURST + 5):
        answers = await asyncio.gather(*(office.present(HERE, signer_of(client_id).sign(key=OTHERS)) for client_id in signs))
        assert told(answers[0]) == told(answers[1])
    assert answers[0].status_code == 429


async def test_ids_that_are_made_up_are_remembered_within_bounds(office: Office) -> None:
    assert office.app.state.token_rate_limits._buckets.entries == rate_limit.MAX_BUCKETS
    office.app.state.token_rate_limits._buckets.entries = 50
    for _ in range(5):
        await asyncio.gather(*(office.ask(HERE, auth=(str(new_id(clients.CLIENT)), "x")) for _ in range(40)))
    state = office.app.state
    assert state.token_rate_limits._buckets.size == 50
    assert len(state.credential_reads._waiting) == 0


async def test_a_flood_of_guesses_is_a_handful_of_statements(office: Office) -> None:
    seen = office.here.statements.seen

    async def flood(*attempts: Any) -> list[str]:
        seen.clear()
        answers = await asyncio.gather(*attempts)
        assert {answer.status_code for answer in answers} <= {401, 429}
        return list(seen)

    replayed = office.signer.sign()
    assert (await office.present(HERE, replayed)).status_code == 200
    for statements in (
        await flood(*(office.ask(HERE, auth=(office.with_secret, f"guess {i}")) for i in range(200))),
        await flood(*(office.ask(f"192.0.2.{i}", auth=(str(new_id(clients.CLIENT)), "x")) for i in range(200))),
        await flood(*(office.present(HERE, office.signer.sign(key=OTHERS)) for _ in range(200))),
        await flood(*(office.present(HERE, replayed) for _ in range(200))),
    ):
        assert len(statements) <= 20, Counter(statement[:60] for statement in statements)
        assert not any("INSERT" in statement or "BEGIN" in statement for statement in statements)


async def test_what_changes_holds_at_once_while_somebody_guesses(office: Office) -> None:
    """Nothing that is remembered of a client decides: a new secret is good at once, an old one and a revoked client are none."""
    client_id, guess = UUID(office.with_secret), guesses(office, "basic")
    for _ in range(3):
        new = await clients.rotate_secret(office.here.operator, client_id)
        flood = asyncio.gather(*(guess(HERE) for _ in range(30)))
        assert (await office.honest("secret")).status_code in (401, 429)
        office.secret = new
        assert (await office.honest("secret")).status_code == 200
        await flood
    flood = asyncio.gather(*(guess(HERE) for _ in range(30)))
    await clients.revoke_client(office.here.operator, client_id)
    assert (await office.honest("secret", ELSEWHERE)).status_code == 401
    await flood


@pytest.mark.parametrize("who", ["secret", "signs"])
async def test_what_a_client_itself_asks_for_is_limited_as_before(office: Office, who: str) -> None:
    answers = [await office.honest(who, f"192.0.2.{i}") for i in range(BURST + 10)]
    assert [answer.status_code for answer in answers] == [200] * BURST + [429] * 10
    refused = answers[-1]
    assert refused.json()["error"] == "temporarily_unavailable"
    assert int(refused.headers["retry-after"]) >= 1
    assert (await guesses(office, "basic" if who == "secret" else "signature")(ELSEWHERE)).status_code == 401


async def test_refused_tokens_cost_no_quota_and_no_statements(office: Office) -> None:
    token = (await office.honest("secret")).json()["access_token"]
    bearer, seen = {"Authorization": f"Bearer {token}"}, office.here.statements.seen
    assert (await office.at(HERE).get("/v1/me", headers=bearer)).status_code == 200
    bucket = office.app.state.authenticator.quotas.find(UUID(office.with_secret))
    left = bucket.tokens
    header, claims, signature = token.split(".")
    strangers = [signer_of(office.with_secret).headed(typ="at+jwt", kid=f"unknown {i}") for i in range(50)]
    for bad in ("x", token[:-4] + "AAAA", f"{header}.{claims}.", f"{header}.{claims[:-4]}.{signature}", *strangers):
        seen.clear()
        answers = [await office.at(HERE).get("/v1/me", headers={"Authorization": f"Bearer {bad}"}) for _ in range(3)]
        assert {answer.status_code for answer in answers} == {401}
        assert not seen or bad == strangers[0]  # the first of an unknown kid may be a new key's
    assert bucket.tokens >= left


async def test_a_new_signing_key_is_known_though_strangers_ask_for_others(office: Office) -> None:
    """Keys are read again for an unknown kid every few seconds at most. Who sends such tokens all the time does not use that up for a new key."""
    http = office.at(HERE)
    assert (
        await http.get("/v1/me", headers={"Authorization": f"Bearer {(await office.honest('signs')).json()['access_token']}"})
    ).status_code == 200
    stranger = signer_of(office.with_secret).headed(typ="at+jwt", kid="unknown")
    assert (await http.get("/v1/me", headers={"Authorization": f"Bearer {stranger}"})).status_code == 401
    await signing_keys.rotate_signing_key(office.here.operator, SECRET.encode())
    token = (await office.honest("secret")).json()["access_token"]
    assert (await http.get("/v1/me", headers={"Authorization": f"Bearer {token}"})).status_code == 200


async def test_tokens_of_a_revoked_client_cost_no_statement_each(office: Office) -> None:
    token = (await office.honest("secret")).json()["access_token"]
    await clients.revoke_client(office.here.operator, UUID(office.with_secret))
    seen, told = office.here.statements.seen, set()
    seen.clear()
    for _ in range(30):
        answer = await office.at(HERE).get("/v1/me", headers={"Authorization": f"Bearer {token}"})
        told.add(answer.status_code)
    assert told == {401}
    assert len(seen) <= 4, seen  # the keys, the clock, and how the client stands


async def test_asking_for_the_public_keys_costs_no_statement_each(office: Office) -> None:
    seen = office.here.statements.seen
    seen.clear()
    answers = await asyncio.gather(*(office.at(HERE).get("/oauth/jwks") for _ in range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(seen) <= 10
