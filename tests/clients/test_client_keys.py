"""Public keys of a client by the API and the command line: registered, read back, changed and removed, and in force with the next request for a token."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
import pytest_asyncio
from joserfc.jwk import ECKey, OKPKey, RSAKey

from domain.clients.clients import list_keys, remove_keys, set_keys
from domain.clients.grants import approve_grant, parse_grant
from domain.declare.ids import new_id
from domain.declare.type_numbers import CLIENT
from tests.fixtures.databases import Databases
from tests.fixtures.registration import list_public, present_key
from tests.fixtures.small_trust import BASE, TRUST, URNS, Trust, asked, issues, open_trust, sent

FIRST, SECOND = [ECKey.generate_key("P-256", {"kid": kid}) for kid in ("first", "second")]
CLIENTS = {
    "admin": (f"trust:{TRUST}=clients:write,schools:read,pupils:read",),
    "maker": (f"trust:{TRUST}=clients:write,schools:read",),
    "quay": (f"school:{URNS['Quay']}=clients:write,schools:read",),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as made:
        for name, grants in CLIENTS.items():
            await made.client(name, *grants)
        yield made


def http_of(here: Trust, name: str) -> httpx2.AsyncClient:
    return here.made[list(CLIENTS).index(name)]


async def present(here: Trust, client: str, key: Any) -> int:
    return await present_key(here.http, client, key, BASE)


async def by_secret(here: Trust, client: str, secret: str) -> int:
    return (await here.http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=(client, secret))).status_code


async def read_keys(here: Trust, client: str) -> list[dict[str, Any]]:
    """The client's keys, as REST and, equal to that, as GraphQL answer them."""
    rows = (await http_of(here, "admin").get(f"/v1/clients/{client}/publicKeys")).json()["data"]
    kept = [{name: value for name, value in row.items() if value is not None and name not in ("clientId", "no")} for row in rows]
    graph = await asked(
        http_of(here, "admin"), f'{{ client(id: "{client}") {{ publicKeys {{ nodes {{ kty kid crv x y n e }} }} }} }}'
    )
    nodes = graph["client"]["publicKeys"]["nodes"]
    assert [{name: value for name, value in node.items() if value is not None} for node in nodes] == kept
    return kept


async def test_keys_are_registered_read_changed_and_removed(here: Trust) -> None:
    admin = http_of(here, "admin")
    kinds = [FIRST, RSAKey.generate_key(2048, {"kid": "rsa"}), OKPKey.generate_key("Ed25519", {"kid": "ed"})]
    made = await sent(admin, "/v1/clients", {"name": "signs", "publicKeys": list_public(*kinds)}, 201)
    client = made["id"]
    assert (made["clientSecret"], made["warnings"]) == (None, [])
    assert await read_keys(here, client) == list_public(*kinds)
    assert [await present(here, client, key) for key in (*kinds, SECOND)] == [200, 200, 200, 401]
    path = f"/v1/clients/{client}"
    await sent(admin, f"{path}/set-keys", {"publicKeys": list_public(SECOND)})
    assert await read_keys(here, client) == list_public(SECOND)
    assert [await present(here, client, key) for key in (FIRST, SECOND)] == [401, 200]
    refused = await sent(admin, f"{path}/rotate-secret", {}, 409)
    assert refused["type"].endswith("no-secret")
    graph = (
        f'mutation {{ removeClientKeys(input: {{id: "{client}"}}, idempotencyKey: "k") {{ clientSecret warnings {{ code }} }} }}'
    )
    removed, again = [(await asked(admin, graph))["removeClientKeys"] for _ in range(2)]
    assert (removed["warnings"], again) == ([], {"clientSecret": None, "warnings": [{"code": "secret-not-repeated"}]})
    assert await read_keys(here, client) == []
    assert await present(here, client, SECOND) == 401
    assert await by_secret(here, client, removed["clientSecret"]) == 200
    assert (await sent(admin, f"{path}/remove-keys", None, 409))["type"].endswith("no-keys")
    await sent(admin, f"{path}/set-keys", {"publicKeys": list_public(FIRST), "overlapHours": 1})  # both for an hour
    assert (await by_secret(here, client, removed["clientSecret"]), await present(here, client, FIRST)) == (200, 200)
    await sent(admin, f"{path}/set-keys", {"publicKeys": list_public(FIRST)})
    assert await by_secret(here, client, removed["clientSecret"]) == 401
    history = (await admin.get(f"{path}/history", params={"fields": "outcome"})).json()["data"]
    assert [row["outcome"] for row in history] == ["made", *["keys-changed"] * 2, "secret-rotated", "keys-changed"]
    await sent(admin, f"{path}/revoke")
    assert await present(here, client, FIRST) == 401
    assert (await sent(admin, f"{path}/set-keys", {"publicKeys": list_public(FIRST)}, 409))["type"].endswith("client-revoked")
    assert (await sent(admin, f"{path}/remove-keys", None, 409))["type"].endswith("client-revoked")


async def test_everything_wrong_with_keys_is_said_at_once_in_both_interfaces(here: Trust) -> None:
    admin = http_of(here, "admin")
    wrong: list[Any] = [
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA"},
        *list_public(ECKey.generate_key("P-384")),
        {"kty": "RSA", "n": "AQAB", "e": "AQAB"},
        {"kty": "OKP"},
    ]
    answer = await admin.post("/v1/clients", json={"name": "", "publicKeys": wrong})
    assert issues(answer.json()) == {"/name": "wrong-value"} | {f"/publicKeys/{i}": "wrong-value" for i in range(4)}
    client = (await sent(admin, "/v1/clients", {"name": "has a secret"}, 201))["id"]
    path = f"/v1/clients/{client}/set-keys"
    graph = "mutation ($i: ClientKeysInput!) { setClientKeys(input: $i) { id } }"
    for keys, expected in (
        (wrong, {f"/publicKeys/{i}": "wrong-value" for i in range(4)}),
        ([], {"/publicKeys": "wrong-value"}),
        ([*list_public(FIRST)] * 2, {"/publicKeys": "wrong-value"}),
        ([*list_public(FIRST)] * 11, {"/publicKeys": "wrong-value"}),
    ):
        assert issues((await admin.post(path, json={"publicKeys": keys})).json()) == expected
        body = {"query": graph, "variables": {"i": {"id": client, "publicKeys": keys}}}
        problem = (await admin.post("/graphql", json=body)).json()["errors"][0]["extensions"]["problem"]
        assert issues(problem) == expected
    secret = FIRST.as_dict(private=True)
    answer = await admin.post(path, json={"publicKeys": [secret, {"kty": "oct", "k": "abc"}]})
    assert {"/publicKeys/0/d", "/publicKeys/1/kty", "/publicKeys/1/k"} <= {*issues(answer.json())}
    assert secret["d"] not in answer.text
    assert await read_keys(here, client) == []


SET, REMOVE, MAKE = (
    "SELECT set_client_keys($1, $2, $3)",
    "SELECT remove_client_keys($1, $2)",
    "SELECT make_key_client($1, $2, 'k', '{}', $3)",
)


async def as_caller(here: Trust, name: str, statement: str, *values: Any) -> None:
    """Runs a statement of the application's role in the caller's context, without the API."""
    connection = await asyncpg.connect(here.databases.app_url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT set_config('markonce.caller', $1, true)", here.credentials[name][0])
            await connection.fetch(statement, *values)
    finally:
        await connection.close()


async def test_who_may_not_rotate_a_secret_sets_no_key(here: Trust) -> None:
    """By the API, and as the application's role without it."""
    client = (await sent(http_of(here, "admin"), "/v1/clients", {"name": "stronger", "publicKeys": list_public(FIRST)}, 201))["id"]
    grant = parse_grant(f"trust:{TRUST}=pupils:read")
    await approve_grant(here.operator, UUID(client), grant, purpose="tests", approved_by="tests")
    body = {"publicKeys": list_public(SECOND)}
    for by, status in (("maker", 403), ("quay", 404)):
        for verb, document in (("set-keys", body), ("remove-keys", None)):
            assert (await http_of(here, by).post(f"/v1/clients/{client}/{verb}", json=document)).status_code == status
        assert (await http_of(here, by).get("/v1/public-keys", params={"clientId": client})).json()["data"] == (
            [] if by == "quay" else (await http_of(here, "admin").get(f"/v1/clients/{client}/publicKeys")).json()["data"]
        )
    good, private = json.dumps({"keys": list_public(SECOND)}), json.dumps({"keys": [SECOND.as_dict(private=True)]})
    tried: list[tuple[str, str, tuple[Any, ...]]] = [
        *((by, SET, (UUID(client), good, timedelta(0))) for by in ("maker", "quay")),
        *((by, REMOVE, (UUID(client), b"x" * 32)) for by in ("maker", "quay")),
        ("maker", MAKE, (new_id(CLIENT), here.ids["Quay"], good)),
        *(
            ("admin", SET, (UUID(client), keys, timedelta(0)))
            for keys in (private, "{}", '{"keys": []}', '{"keys": [{"kty": "oct"}]}')
        ),
        ("admin", MAKE, (new_id(CLIENT), here.ids["trust"], private)),
        ("admin", SET, (UUID(client), good, timedelta(days=8))),
        ("admin", REMOVE, (UUID(client), b"x")),
    ]
    for by, statement, values in tried:
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError)):
            await as_caller(here, by, statement, *values)
    assert await read_keys(here, client) == list_public(FIRST)


async def test_the_command_line_sets_and_removes_keys(here: Trust) -> None:
    client = (await sent(http_of(here, "admin"), "/v1/clients", {"name": "by command"}, 201))["id"]
    async with here.operator.transaction():
        await set_keys(here.operator, UUID(client), {"keys": list_public(FIRST, SECOND)})
    assert await list_keys(here.operator, UUID(client)) == list_public(FIRST, SECOND)
    assert await present(here, client, SECOND) == 200
    async with here.operator.transaction():
        secret = await remove_keys(here.operator, UUID(client))
    assert (await present(here, client, SECOND), await by_secret(here, client, secret)) == (401, 200)
