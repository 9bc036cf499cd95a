"""Clients that make clients and give grants, in both interfaces: no way to hold more, by the API and by the database without it.

A trust (Oak, Elm, Ash) and a school of its own (Quay). `manager` and `second` hold much over the trust, `head` at Oak alone, `quay` over Quay,
`operator` on the installation.
"""

import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest
import pytest_asyncio

from domain.clients.clients import revoke_client, set_origins
from domain.clients.grants import approve_grant, narrow_grant, parse_grant
from domain.declare.ids import NIL, new_id
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT, GRANT
from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, entry, issues, open_trust, roll, sent

YEAR = datetime(2098, 8, 31, tzinfo=UTC)
HOLDS = "schools:read,trusts:read,pupils:read,pupils:name,clients:write,grants:write"
CLIENTS = {
    "manager": (f"trust:{TRUST}={HOLDS},judgements:read,imports:write",),
    "second": (f"trust:{TRUST}={HOLDS}",),
    "head": (f"school:{URNS['Oak']}={HOLDS}",),
    "quay": (f"school:{URNS['Quay']}={HOLDS}",),
    "operator": ("installation=schools:read,trusts:read,clients:write,grants:write,pupils:read",),
    "vendor": (f"trust:{TRUST}=schools:read",),
    "maker": (f"trust:{TRUST}=clients:write,schools:read",),
    "everywhere": ("trusts=schools:read,grants:write,clients:write",),
}
WHOLE, OAK = {"trust": {"groupUid": TRUST}}, {"school": {"urn": URNS["Oak"]}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as made:
        for name, grants in CLIENTS.items():
            await made.client(name, *grants)
        await made.operator.execute(
            "UPDATE grants SET expires_at = $1 WHERE target <> 'installation' AND client_id = ANY ($2)",
            YEAR,
            [UUID(made.credentials[n][0]) for n in ("manager", "second", "head")],
        )
        await made.operator.execute("SELECT derive_reach()")
        yield made


def http_of(here: Trust, name: str) -> httpx2.AsyncClient:
    return here.made[list(CLIENTS).index(name)]


def id_of(here: Trust, name: str) -> str:
    return here.credentials[name][0]


def grant_for(client: str, target: Any = WHOLE, *scopes: str, **more: Any) -> dict[str, Any]:
    usual = {
        "client": client,
        "target": target,
        "scopes": [*scopes] or ["pupils:read"],
        "purpose": "Shows lists",
        "approvedBy": "DPO",
    }
    return usual | more


async def made_client(here: Trust, name: str, by: str = "manager", **more: Any) -> tuple[str, str]:
    made = await sent(http_of(here, by), "/v1/clients", {"name": name} | more, 201)
    return made["id"], made["clientSecret"]


async def given(here: Trust, client: str, *scopes: str, by: str = "manager", target: Any = WHOLE, **more: Any) -> dict[str, Any]:
    return dict(await sent(http_of(here, by), "/v1/grants", grant_for(client, target, *scopes, **more), 201))


async def names_of(client: httpx2.AsyncClient, path: str, **params: str) -> set[str]:
    answer = await client.get(path, params={"first": "1000", **params})
    assert answer.status_code == 200, answer.text
    return {row["name"] if "name" in row else row["id"] for row in answer.json()["data"]}


async def test_a_client_is_made_used_rotated_and_revoked_within_its_tenant(here: Trust) -> None:
    manager = http_of(here, "manager")
    client_id, secret = await made_client(here, "Class lists", origins=["https://lists.example"])
    row = (await manager.get(f"/v1/clients/{client_id}")).json()
    assert (row["name"], row["origins"], row["madeBy"], row["revokedAt"]) == (
        "Class lists",
        ["https://lists.example"],
        id_of(here, "manager"),
        None,
    )
    grant = await given(here, client_id, "pupils:read", "schools:read")
    assert (grant["clientName"], grant["target"], grant["expiresAt"]) == ("Class lists", "trust", "2098-08-31T00:00:00Z")
    here.credentials["lists"] = client_id, secret
    lists = here.connect(await here.authorise("lists"))
    assert await names_of(lists, "/v1/schools") == {"Oak", "Elm", "Ash"}
    rotated = await sent(manager, f"/v1/clients/{client_id}/rotate-secret", {"overlapHours": 0})
    with pytest.raises(AssertionError, match="invalid_client"):
        await here.authorise("lists")
    here.credentials["lists"] = client_id, rotated["clientSecret"]
    await here.authorise("lists")
    ended = await sent(manager, f"/v1/clients/{client_id}/revoke")
    assert (ended["name"], ended["unconfirmedGrants"]) == ("Class lists", [])
    assert (await lists.get("/v1/schools")).status_code == 401
    assert (await manager.get(f"/v1/grants/{grant['id']}")).json()["state"] == "revoked"
    assert (await made_client(here, "Class lists"))[0] != client_id  # its name is free again
    assert (await manager.post("/v1/clients", json={"name": "Class lists"})).json()["type"].endswith("name-in-use")
    refused = await sent(manager, f"/v1/clients/{client_id}/rotate-secret", {}, 409)
    assert refused["type"].endswith("client-revoked")


async def test_a_client_is_listed_rotated_and_revoked_by_its_own_tenant_alone(here: Trust) -> None:
    own = {by: (await made_client(here, f"of {by}", by))[0] for by in ("manager", "quay", "operator")}
    seen = {by: await names_of(http_of(here, by), "/v1/clients") for by in own}
    for by, client in own.items():
        assert [other for other in own if f"of {by}" in seen[other]] == [by]
        graphs = {other: (await asked(http_of(here, other), "{ clients { nodes { name } } }"))["clients"]["nodes"] for other in own}
        assert [other for other in own if {"name": f"of {by}"} in graphs[other]] == [by]
        for other in {*own} - {by}:
            for path in (f"/v1/clients/{client}", f"/v1/clients/{client}/revoke", f"/v1/clients/{client}/rotate-secret"):
                http = http_of(here, other)
                answer = await (http.get(path) if path.endswith(client) else http.post(path))
                assert (answer.status_code, client in answer.text) == (404, False), (other, path)
    assert (await http_of(here, "head").get("/v1/clients")).json()["data"] == []  # of the school, and not of its trust as a whole
    assert (await http_of(here, "head").post("/v1/clients", json={"name": "x"})).status_code == 422
    assert issues((await http_of(here, "head").post("/v1/clients", json={"name": "x", "tenant": WHOLE})).json()) == {
        "/tenant/trust": "trust-not-found"
    }
    assert (await http_of(here, "vendor").get("/v1/clients")).status_code == 403


async def test_a_secret_is_in_the_first_answer_alone(here: Trust, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    manager, key = http_of(here, "manager"), {"Idempotency-Key": "secrets-1"}
    made = await sent(manager, "/v1/clients", {"name": "kept"}, 201, **key)
    again = await manager.post("/v1/clients", json={"name": "kept"}, headers=key)
    assert (again.headers["idempotency-replayed"], again.json()["clientSecret"], again.json()["id"]) == ("true", None, made["id"])
    assert "rotate it" in again.json()["warnings"][0]["message"]
    rotated = await sent(manager, f"/v1/clients/{made['id']}/rotate-secret", {}, **key)
    replayed = await sent(manager, f"/v1/clients/{made['id']}/rotate-secret", {}, **key)
    assert (rotated["clientSecret"] is None, replayed["clientSecret"], replayed["warnings"][0]["code"]) == (
        False,
        None,
        "secret-not-repeated",
    )
    graph = 'mutation { createClient(input: {name: "kept too"}, idempotencyKey: "secrets-2") { clientSecret warnings { code } } }'
    first, second = [(await asked(manager, graph))["createClient"] for _ in range(2)]
    assert (len(first["clientSecret"]), second) == (43, {"clientSecret": None, "warnings": [{"code": "secret-not-repeated"}]})
    dry = await sent(manager, "/v1/clients?dryRun=true", {"name": "dry"})
    assert (dry["clientSecret"], dry["dryRun"], dry["warnings"]) == (None, True, [])
    stored = (await manager.get("/v1/idempotency-keys/secrets-1")).text
    secrets = [made["clientSecret"], rotated["clientSecret"], first["clientSecret"]]
    everywhere = stored + caplog.text + json.dumps([str(row) for row in await _everything(here)])
    assert [secret for secret in secrets if secret in everywhere] == []
    assert made["id"] in stored


async def _everything(here: Trust) -> list[Any]:
    tables = await here.operator.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
    )
    rows: list[Any] = []
    for (table,) in tables:
        rows += (
            await here.operator.fetch(f"SELECT t::text FROM {table} t")
            if await here.value(f"SELECT has_table_privilege('{table}', 'SELECT')")
            else []
        )
    return rows


LATER, NEVER = {"expiresAt": "2099-01-01T00:00:00Z"}, {"expiresAt": None}
WIDER: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "to oneself": ("manager", {"client": "manager"}, {"/client": "grant-to-oneself"}),
    "a scope that the giver lacks": ("second", {"scopes": ["pupils:read", "judgements:read"]}, {"/scopes/1": "grant-too-wide"}),
    "later": ("manager", LATER, {"/expiresAt": "grant-too-wide"}),
    "for ever": ("manager", NEVER, {"/expiresAt": "grant-too-wide"}),
    "over already": ("manager", {"expiresAt": "2020-01-01T00:00:00Z"}, {"/expiresAt": "wrong-value"}),
    "over already, and to nobody": (
        "manager",
        {"expiresAt": "0001-01-01T00:00:00Z", "client": "x"},
        {"/expiresAt": "wrong-value", "/client": "grantee-unknown"},
    ),
    "the trust, of a school": ("head", {}, {"/target/trust": "trust-not-found"}),
    "another school": ("head", {"target": {"school": {"urn": URNS["Elm"]}}}, {"/target/school": "school-not-found"}),
    "another tenant": ("manager", {"target": {"school": {"urn": URNS["Quay"]}}}, {"/target/school": "school-not-found"}),
    "the schools of a trust, of all trusts": ("everywhere", {"scopes": ["schools:read"]}, {"/scopes/0": "grant-too-wide"}),
    "what gives power": (
        "manager",
        {"scopes": ["clients:write", "grants:write", "imports:write"]},
        {f"/scopes/{i}": "scope-not-given" for i in range(3)},
    ),
    "everything": ("manager", {"scopes": ["all"]}, {"/scopes/0": "scope-unknown"}),
    "nothing": ("manager", {"scopes": []}, {"/scopes": "required"}),
    "null": ("manager", {"scopes": None}, {"/scopes": "wrong-value"}),
    "the maintained schools of an authority, of a school": (
        "head",
        {"target": {"localAuthority": "936"}},
        {"/target/localAuthority": "unknown-field", "/target": "wrong-value"},
    ),
    "to nobody": ("manager", {"client": str(new_id(CLIENT))}, {"/client": "grantee-unknown"}),
    "all at once": (
        "second",
        {"client": "second", "scopes": ["judgements:read", "grants:write"], **LATER},
        {
            "/client": "grant-to-oneself",
            "/scopes/0": "grant-too-wide",
            "/scopes/1": "scope-not-given",
            "/expiresAt": "grant-too-wide",
        },
    ),
}


@pytest.mark.parametrize("case", WIDER)
async def test_no_grant_is_wider_than_its_givers(here: Trust, case: str) -> None:
    by, changed, expected = WIDER[case]
    document = grant_for(id_of(here, "vendor")) | changed
    document["client"] = id_of(here, document["client"]) if document["client"] in CLIENTS else document["client"]
    before = await here.value("SELECT count(*) FROM grants")
    answer = await http_of(here, by).post("/v1/grants", json=document)
    assert (answer.status_code, issues(answer.json())) == (422, expected)
    graph = await http_of(here, by).post(
        "/graphql", json={"query": "mutation ($i: NewGrantInput!) { createGrant(input: $i) { id } }", "variables": {"i": document}}
    )
    assert issues(graph.json()["errors"][0]["extensions"]["problem"]) == expected
    assert await here.value("SELECT count(*) FROM grants") == before


@pytest.mark.parametrize("target", ["installation", "trusts", "schools", "localAuthority"])
async def test_targets_of_many_are_the_operators(here: Trust, target: str) -> None:
    answer = await http_of(here, "everywhere").post("/v1/grants", json=grant_for(id_of(here, "vendor")) | {"target": {target: {}}})
    assert answer.status_code == 422
    assert f"/target/{target}" in issues(answer.json())


async def test_a_token_gives_no_more_than_it_holds(here: Trust) -> None:
    body = {"grant_type": "client_credentials", "scope": "grants:write schools:read"}
    token = (await here.http.post("/oauth/token", data=body, auth=here.credentials["manager"])).json()["access_token"]
    narrow = here.connect({"Authorization": f"Bearer {token}"})
    answer = await narrow.post("/v1/grants", json=grant_for(id_of(here, "vendor"), WHOLE, "schools:read", "pupils:read"))
    assert issues(answer.json()) == {"/scopes/1": "grant-too-wide"}


async def test_who_gave_a_grant_sees_it_and_the_name_of_its_client_alone(here: Trust) -> None:
    """The client is Quay's own, with a grant there too; the trust gives it one at Oak."""
    client, _ = await made_client(here, "of Quay, for Oak", "quay")
    at_quay = await given(here, client, by="quay", target={"school": {"urn": URNS["Quay"]}})
    at_oak = await given(here, client, by="head", target=OAK, kind="sync", agreementVersion="7")
    for by, expected in (("head", {at_oak["id"]}), ("manager", {at_oak["id"]}), ("quay", {at_quay["id"]}), ("operator", set())):
        seen = (await http_of(here, by).get("/v1/grants", params={"clientId": client})).json()["data"]
        assert {row["id"] for row in seen} == expected, by
        assert all(row["clientName"] == "of Quay, for Oak" for row in seen)
    assert (await http_of(here, "head").get(f"/v1/clients/{client}")).status_code == 404
    row = (await http_of(here, "head").get(f"/v1/grants/{at_oak['id']}")).json()
    assert (row["kind"], row["agreementVersion"], row["targetName"], row["givenBy"]) == ("sync", "7", "Oak", id_of(here, "head"))
    for by, grant in (("head", at_quay), ("quay", at_oak), ("operator", at_oak)):
        for verb, document in (("narrow", {"scopes": ["pupils:read"]}), ("extend", NEVER), ("end", None), ("confirm", None)):
            answer = await http_of(here, by).post(f"/v1/grants/{grant['id']}/{verb}", json=document)
            assert answer.status_code == 404, (by, verb)
    assert (await here.connect(await here.authorise("vendor")).get("/v1/grants")).status_code == 403


async def test_one_grant_is_narrowed_extended_and_ended_at_once_for_tokens_that_are_out(here: Trust) -> None:
    manager = http_of(here, "manager")
    client, secret = await made_client(here, "narrowed")
    grant = await given(here, client, "schools:read", "trusts:read", "pupils:read", expiresAt="2097-01-01T00:00:00Z")
    here.credentials["narrowed"] = client, secret
    http = here.connect(await here.authorise("narrowed"))
    assert [(await http.get(path)).status_code for path in ("/v1/schools", "/v1/pupils")] == [200, 200]
    narrowed = await sent(manager, f"/v1/grants/{grant['id']}/narrow", {"scopes": ["schools:read", "trusts:read"]})
    assert narrowed["scopes"] == ["schools:read", "trusts:read"]
    assert [(await http.get(path)).status_code for path in ("/v1/schools", "/v1/pupils")] == [200, 403]
    wider = await manager.post(f"/v1/grants/{grant['id']}/narrow", json={"scopes": ["schools:read", "pupils:read"], **LATER})
    assert issues(wider.json()) == {"/scopes/1": "grant-too-wide", "/expiresAt": "grant-too-wide"}
    assert (await manager.post(f"/v1/grants/{grant['id']}/narrow", json={})).status_code == 422
    extended = await sent(manager, f"/v1/grants/{grant['id']}/extend", {"expiresAt": "2098-01-01T00:00:00Z"})
    assert extended["expiresAt"] == "2098-01-01T00:00:00Z"
    shown = (await http.get("/v1/me")).json()["grants"]
    assert [(each["expiresAt"], each["scopes"]) for each in shown] == [("2098-01-01T00:00:00Z", ["schools:read", "trusts:read"])]
    for document in (LATER, NEVER):
        answer = await manager.post(f"/v1/grants/{grant['id']}/extend", json=document)
        assert issues(answer.json()) == {"/expiresAt": "grant-too-wide"}
    ended = await sent(manager, f"/v1/grants/{grant['id']}/end")
    assert ended["revokedAt"] is not None
    refused = await http.get("/v1/schools")
    assert (refused.status_code, refused.json()["type"].rsplit("/")[-1]) == (403, "grant-ended")
    for verb, document in (
        ("narrow", {"scopes": ["schools:read"]}),
        ("extend", {"expiresAt": "2098-02-01T00:00:00Z"}),
        ("confirm", None),
    ):
        answer = await manager.post(f"/v1/grants/{grant['id']}/{verb}", json=document)
        assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (409, "grant-over")


async def test_what_was_given_in_two_steps_is_no_more(here: Trust) -> None:
    """Given and extended by another who holds less; narrowed first, extended after; a stronger client's secret; a grant of one's own."""
    manager, second, maker = [http_of(here, name) for name in ("manager", "second", "maker")]
    client, _ = await made_client(here, "in two steps")
    grant = await given(here, client, "judgements:read", "pupils:read", expiresAt="2097-01-01T00:00:00Z")
    answer = await second.post(f"/v1/grants/{grant['id']}/extend", json={"expiresAt": "2098-01-01T00:00:00Z"})
    assert issues(answer.json()) == {"": "grant-too-wide"}
    await sent(second, f"/v1/grants/{grant['id']}/narrow", {"scopes": ["pupils:read"]})
    await sent(second, f"/v1/grants/{grant['id']}/extend", {"expiresAt": "2098-01-01T00:00:00Z"})
    for by, http in (("maker", maker), ("second", second)):  # maker holds no pupils:read, second all of it
        answer = await http.post(f"/v1/clients/{client}/rotate-secret", json={})
        assert (answer.status_code, "client-holds-more" in answer.text) == ((403, True) if by == "maker" else (200, False))
    to_manager = await given(here, id_of(here, "manager"), "pupils:read", by="second", expiresAt="2097-01-01T00:00:00Z")
    answer = await manager.post(f"/v1/grants/{to_manager['id']}/extend", json={"expiresAt": "2098-01-01T00:00:00Z"})
    assert issues(answer.json()) == {"": "grant-to-oneself"}
    await sent(manager, f"/v1/grants/{to_manager['id']}/end")


async def test_a_grant_of_a_client_that_has_ended_is_not_taken_up_again(here: Trust) -> None:
    """Neither by its giver nor, where that has ended too, by who confirms it; and no function changes anything else of a grant."""
    manager = http_of(here, "manager")
    client, _ = await made_client(here, "ended")
    grant, unconfirmed = [(await given(here, client, expiresAt="2089-01-01T00:00:00Z"))["id"] for _ in range(2)]
    for change in (
        {"kind": "analytics"},
        {"scopes": None},
        {"client": id_of(here, "vendor")},
        {"target": OAK},
        {"expiresAt": None},
    ):
        answer = await manager.post(f"/v1/grants/{grant}/narrow", json=change)
        assert answer.status_code == 422, (change, answer.text)
        assert {f"/{name}" for name in change} <= {*issues(answer.json())}, (change, answer.text)
    await here.operator.execute(
        "UPDATE grants SET confirm_by = expires_at, approved_until = $1 WHERE id = $2", SOON, UUID(unconfirmed)
    )
    async with here.operator.transaction():
        await revoke_client(here.operator, UUID(client))
    for id_, verb, document in (
        (grant, "extend", {"expiresAt": "2090-01-01T00:00:00Z"}),
        (grant, "narrow", {"scopes": ["pupils:read"]}),
        (unconfirmed, "confirm", None),
    ):
        answer = await manager.post(f"/v1/grants/{id_}/{verb}", json=document)
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (409, "grant-over"), verb
    for statement, values in (
        ("SELECT extend_grant($1, $2)", (UUID(grant), SOON)),
        ("SELECT confirm_grant($1)", (UUID(unconfirmed),)),
        ("SELECT rotate_client($1, $2, $3)", (UUID(client), b"x" * 32, timedelta(0))),
        (GIVE, (new_id(GRANT), UUID(client), here.ids["trust"], here.ids["trust"], ["pupils:read"], SOON)),
    ):
        with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.InvalidParameterValueError)):
            await as_caller(here, "manager", statement, *values)


async def as_caller(here: Trust, name: str, statement: str, *values: Any) -> Any:
    """The result of a statement of the application's role in the caller's context, without the API."""
    connection = await asyncpg.connect(here.databases.app_url)
    try:
        async with connection.transaction():
            await connection.execute(
                "SELECT set_config('markonce.caller', $1, true)", id_of(here, name) if name in CLIENTS else name
            )
            return await connection.fetch(statement, *values)
    finally:
        await connection.close()


CHANGES: dict[str, tuple[Any, ...]] = {
    "SELECT narrow_grant($1, $2, NULL)": (["pupils:read"],),
    "SELECT extend_grant($1, $2)": (datetime(2090, 1, 1, tzinfo=UTC),),
    "SELECT end_grant($1)": (),
    "SELECT confirm_grant($1)": (),
}
GIVE = "SELECT give_grant($1, $2, $3, $4, $5, 'p', NULL, NULL, 'a', $6)"
SOON = datetime(2090, 1, 1, tzinfo=UTC)


async def test_the_database_refuses_a_wider_grant_without_the_api(here: Trust) -> None:
    trust, quay, oak = here.ids["trust"], here.ids["Quay"], here.ids["Oak"]
    vendor, manager = UUID(id_of(here, "vendor")), UUID(id_of(here, "manager"))
    good = (vendor, trust, trust, ["pupils:read"], SOON)
    refused: list[tuple[str, tuple[Any, ...]]] = [
        ("manager", (manager, *good[1:])),
        ("second", (*good[:3], ["judgements:read"], SOON)),
        ("manager", (*good[:4], YEAR + timedelta(seconds=1))),
        ("manager", (*good[:4], None)),
        ("head", good),
        ("head", (vendor, trust, here.ids["Elm"], *good[3:])),
        ("manager", (vendor, quay, quay, *good[3:])),
        ("manager", (vendor, trust, quay, *good[3:])),
        ("everywhere", (*good[:3], ["schools:read"], None)),
        *(("manager", (*good[:3], [scope], SOON)) for scope in ("clients:write", "grants:write", "imports:write", "all")),
        ("manager", (*good[:3], [], SOON)),
        ("manager", (*good[:3], ["pupils:read", None], SOON)),
        ("manager", (UUID(str(new_id(CLIENT))), *good[1:])),
        ("operator", (vendor, NIL, NIL, ["schools:read"], SOON)),
        ("operator", (vendor, trust, trust, ["schools:read"], SOON)),
        ("vendor", good),
        ("", good),
        (str(new_id(CLIENT)), good),
    ]
    before = await here.value("SELECT count(*) FROM grants")
    for by, (client, tenant, school, scopes, until) in refused:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_caller(here, by, GIVE, new_id(GRANT), client, tenant, school, scopes, until)
    assert await here.value("SELECT count(*) FROM grants") == before
    await as_caller(here, "head", GIVE, new_id(GRANT), vendor, trust, oak, ["pupils:read"], SOON)
    assert await here.value("SELECT count(*) FROM grants") == before + 1


async def test_the_database_refuses_every_change_of_what_is_not_the_callers(here: Trust) -> None:
    own, other = (await made_client(here, "apart"))[0], (await made_client(here, "apart", "quay"))[0]
    grant, at_quay = (
        await given(here, own, "judgements:read", expiresAt="2090-01-01T00:00:00Z"),
        await given(here, own, by="quay", target={"school": {"urn": URNS["Quay"]}}),
    )
    digest, none, one, two = b"x" * 32, timedelta(0), UUID(grant["id"]), UUID(at_quay["id"])
    own_grant = await here.value("SELECT id FROM grants WHERE client_id = $1", UUID(id_of(here, "manager")))
    to_second = UUID((await given(here, id_of(here, "second"), "pupils:read", expiresAt="2090-01-01T00:00:00Z"))["id"])
    trust, quay = here.ids["trust"], here.ids["Quay"]
    refused: list[tuple[str, str, tuple[Any, ...]]] = [
        ("quay", "SELECT rotate_client($1, $2, $3)", (UUID(own), digest, none)),
        ("maker", "SELECT rotate_client($1, $2, $3)", (UUID(own), digest, none)),  # which holds more than its maker
        ("head", "SELECT rotate_client($1, $2, $3)", (UUID(own), digest, none)),
        ("operator", "SELECT rotate_client($1, $2, $3)", (UUID(own), digest, none)),
        ("manager", "SELECT rotate_client($1, $2, $3)", (UUID(id_of(here, "vendor")), digest, none)),
        *(
            (by, "SELECT end_client($1)", (UUID(client),))
            for by, client in (("quay", own), ("manager", other), ("head", own), ("vendor", own))
        ),
        *(("manager", "SELECT make_client($1, $2, 'm', '{}', $3)", (new_id(CLIENT), tenant, digest)) for tenant in (quay, NIL)),
        ("head", "SELECT make_client($1, $2, 'm', '{}', $3)", (new_id(CLIENT), trust, digest)),
        *(("manager", statement, (two, *more)) for statement, more in CHANGES.items()),
        ("manager", "SELECT extend_grant($1, $2)", (own_grant, None)),
        ("second", "SELECT extend_grant($1, $2)", (to_second, SOON + timedelta(days=1))),
        ("second", "SELECT extend_grant($1, $2)", (one, SOON + timedelta(days=1))),
        ("manager", "SELECT extend_grant($1, $2)", (one, YEAR + timedelta(days=1))),
        ("manager", "SELECT extend_grant($1, NULL)", (one,)),
        ("manager", "SELECT narrow_grant($1, $2, NULL)", (one, ["judgements:read", "pupils:read"])),
        ("manager", "SELECT narrow_grant($1, $2, $3)", (one, ["judgements:read"], YEAR)),
        ("manager", "SELECT confirm_grant($1)", (one,)),
    ]
    tables = " UNION ALL ".join(f"SELECT {table}::text AS t FROM {table}" for table in ("grants", "clients", "client_secrets"))
    state = f"SELECT array_agg(t ORDER BY t) FROM ({tables}) x"
    before = await here.value(state)
    for by, statement, values in refused:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_caller(here, by, statement, *values)
    for hidden in (
        "acts_for('pupils:read', $1, $1)",
        "lock_own_client($1)",
        "lock_given_grant($1)",
        "await_confirmation($1)",
        "holds_at($1, $1, $1, '{}', NULL)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_caller(here, "manager", f"SELECT {hidden}", UUID(own))
    assert await here.value(state) == before
    views = {
        view: await as_caller(here, "second", f"SELECT DISTINCT tenant_id FROM {view}") for view in ("own_clients", "given_grants")
    }
    assert {view: [row[0] for row in rows] for view, rows in views.items()} == {view: [trust] for view in views}
    assert await as_caller(here, "vendor", "SELECT id FROM own_clients UNION ALL SELECT id FROM given_grants") == []
    assert await as_caller(here, "", "SELECT id FROM own_clients UNION ALL SELECT id FROM given_grants") == []


async def test_the_application_may_not_write_clients_grants_secrets_or_reach(here: Trust) -> None:
    """A right of any kind, on the table or on one of its columns, its own or by another role."""
    rows = await here.operator.fetch(
        "SELECT c.relname, right_ FROM pg_class c, unnest(ARRAY['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) right_"
        " WHERE c.relname IN ('clients', 'grants', 'client_secrets', 'reach', 'signing_keys', 'own_clients', 'given_grants')"
        " AND (has_table_privilege('markonce_app', c.oid, right_)"
        " OR (right_ IN ('INSERT', 'UPDATE', 'REFERENCES') AND has_any_column_privilege('markonce_app', c.oid, right_)))"
    )
    assert [tuple(row) for row in rows] == []
    called = await here.operator.fetch(
        "SELECT p.proname FROM pg_proc p WHERE p.pronamespace = 'public'::regnamespace"
        " AND p.prosrc ~ '(INSERT INTO|UPDATE|DELETE FROM) (clients|grants|client_secrets)'"
        " AND has_function_privilege('markonce_app', p.oid, 'EXECUTE')"
    )
    checked = {
        "make_key_client",
        "set_client_keys",
        "remove_client_keys",
        "make_client",
        "rotate_client",
        "end_client",
        "give_grant",
        "narrow_grant",
        "extend_grant",
        "end_grant",
        "confirm_grant",
    }
    assert {row["proname"] for row in called} == checked | {"derive_reach", "remove_expired_secrets"}
    for table in ("clients", "grants", "client_secrets"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_caller(here, "manager", f"DELETE FROM {table}")


async def test_what_an_ended_client_gave_ends_unless_another_confirms_it(here: Trust) -> None:
    manager, second = http_of(here, "manager"), http_of(here, "second")
    here.credentials["leaving"] = leaving = await made_client(here, "leaving")
    await approve_grant(
        here.operator, UUID(leaving[0]), parse_grant(f"trust:{TRUST}={HOLDS},judgements:read"), purpose="p", approved_by="a"
    )
    http = here.connect(await here.authorise("leaving"))
    clients = [(await made_client(here, f"left {i}"))[0] for i in range(3)]
    kept, lost, more = [
        (await sent(http, "/v1/grants", grant_for(client, WHOLE, scope, **NEVER), 201))["id"]
        for client, scope in zip(clients, ("pupils:read", "pupils:read", "judgements:read"), strict=True)
    ]
    ended = await sent(manager, f"/v1/clients/{leaving[0]}/revoke")
    assert {*ended["unconfirmedGrants"]} == {kept, lost, more}
    rows = (await second.get("/v1/grants", params={"state": "unconfirmed"})).json()["data"]
    assert {kept, lost, more} <= {row["id"] for row in rows}
    in_30_days = datetime.now(UTC) + timedelta(days=30)
    for row in rows:
        assert row["expiresAt"] == row["confirmBy"]
        assert abs(datetime.fromisoformat(row["confirmBy"]) - in_30_days) < timedelta(hours=1)
    for grant, expected in (
        (kept, {"/expiresAt": "grant-too-wide"}),
        (more, {"": "grant-too-wide"}),
    ):  # it was approved for ever; second ends in 2098
        answer = await second.post(f"/v1/grants/{grant}/confirm")
        assert (answer.status_code, issues(answer.json())) == (422, expected)
    answer = await second.post(f"/v1/grants/{kept}/extend", json={"expiresAt": "2090-01-01T00:00:00Z"})
    assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (409, "grant-unconfirmed")
    await here.operator.execute("UPDATE grants SET approved_until = $1 WHERE id = ANY ($2)", SOON, [UUID(kept), UUID(more)])
    confirmed = await sent(second, f"/v1/grants/{kept}/confirm")
    assert (confirmed["confirmBy"], confirmed["expiresAt"]) == (None, "2090-01-01T00:00:00Z")
    assert (await second.get(f"/v1/grants/{kept}")).json()["givenBy"] == id_of(here, "second")
    assert (await second.post(f"/v1/grants/{kept}/confirm")).json()["type"].endswith("grant-confirmed")
    await here.operator.execute("UPDATE grants SET expires_at = now() - interval '1 second' WHERE id = $1", UUID(lost))
    assert (await manager.post(f"/v1/grants/{lost}/confirm")).status_code == 409


async def test_what_a_client_gave_awaits_confirmation_when_it_holds_it_no_more(here: Trust) -> None:
    """Its grant is narrowed by the command line; it confirms nothing that it does not hold, and goes on with the rest."""
    here.credentials["shrinking"] = shrinking = await made_client(here, "shrinking")
    own = await approve_grant(
        here.operator, UUID(shrinking[0]), parse_grant(f"trust:{TRUST}={HOLDS}"), purpose="p", approved_by="a"
    )
    http = here.connect(await here.authorise("shrinking"))
    client, _ = await made_client(here, "shrunk")
    names, rows = [
        (await sent(http, "/v1/grants", grant_for(client, WHOLE, scope), 201))["id"] for scope in ("pupils:name", "pupils:read")
    ]
    kept = [Scope.PUPILS_READ, Scope.GRANTS_WRITE]
    async with here.operator.transaction():
        assert [str(each) for each in await narrow_grant(here.operator, own, kept)] == [names]
    states = {row["id"]: row["state"] for row in (await http.get("/v1/grants", params={"clientId": client})).json()["data"]}
    assert states == {names: "unconfirmed", rows: "in-force"}
    assert issues((await http.post(f"/v1/grants/{names}/confirm")).json()) == {"": "grant-too-wide"}


async def test_a_school_that_changes_its_trust_leaves_what_the_trust_gave(here: Trust) -> None:
    client, _ = await made_client(here, "moving")
    await given(here, client, by="head", target=OAK)
    reached = "SELECT count(*) FROM reach WHERE client_id = $1"
    assert await here.value(reached, UUID(client)) == 1
    transaction = here.operator.transaction()
    await transaction.start()
    await here.operator.execute("UPDATE schools SET tenant_id = id WHERE id = $1", here.ids["Oak"])
    await here.operator.execute("SELECT derive_reach()")
    assert await here.value(reached, UUID(client)) == 0
    await transaction.rollback()


async def test_the_installation_reaches_the_register_and_clients_and_no_child(here: Trust) -> None:
    operator = http_of(here, "operator")
    assert await names_of(operator, "/v1/schools") == {*URNS}
    assert await names_of(operator, "/v1/trusts") == {"Hedgerow"}
    assert (await operator.get("/v1/memberships")).status_code == 200
    assert await names_of(operator, "/v1/schools", localAuthorityCode="936") == {*URNS}
    assert (await operator.get(f"/v1/schools/{here.ids['Oak']}", params={"include": "trust"})).json()["trust"]["name"] == "Hedgerow"
    graph = await asked(operator, "{ schools { nodes { name trust { name } } } trusts { nodes { schools { nodes { name } } } } }")
    assert ({each["name"] for each in graph["schools"]["nodes"]}, len(graph["trusts"]["nodes"][0]["schools"]["nodes"])) == (
        {*URNS},
        3,
    )
    for path in (
        "/v1/pupils",
        "/v1/judgements",
        "/v1/targets",
        "/v1/aggregates?window=x&subject=y&groupBy=school",
        "/v1/groups",
        "/v1/windows",
        f"/v1/schools/{here.ids['Oak']}/pupils",
        "/v1/schools?include=pupils",
    ):
        assert (await operator.get(path)).status_code == 403, path
    errors = (await operator.post("/graphql", json={"query": "{ schools { nodes { pupils { nodes { id } } } } }"})).json()["errors"]
    assert errors[0]["extensions"]["problem"]["status"] == 403
    assert (
        await as_caller(
            here, "operator", "SELECT 1 FROM pupils UNION ALL SELECT 1 FROM windows UNION ALL SELECT 1 FROM school_versions"
        )
        == []
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await as_caller(here, "operator", "SELECT acts_in($1)", here.ids["trust"])
    token = (
        await here.http.post(
            "/oauth/token", data={"grant_type": "client_credentials", "scope": "trusts:read"}, auth=here.credentials["operator"]
        )
    ).json()
    less = here.connect({"Authorization": f"Bearer {token['access_token']}"})
    assert [(await less.get(path)).status_code for path in ("/v1/trusts", "/v1/schools", "/v1/clients")] == [200, 403, 403]
    both = await here.client("both", f"trust:{TRUST}=schools:read,pupils:read", "installation=schools:read")
    assert await names_of(both, "/v1/schools") == {*URNS}
    assert (await both.get("/v1/schools", params={"include": "pupils"})).status_code == 200


async def test_clients_of_one_name_are_distinguished_by_their_ids(here: Trust) -> None:
    """Of two tenants, with rights at the same school."""
    twins = [(await made_client(here, "twins", by))[0] for by in ("manager", "quay")]
    for twin in twins:
        await approve_grant(
            here.operator, UUID(twin), parse_grant(f"school:{URNS['Oak']}=pupils:write"), purpose="p", approved_by="a"
        )
    editor = await here.client("editor", f"trust:{TRUST}=schools:read,schools:write")
    path = f"/v1/schools/{here.ids['Oak']}"
    answer = await editor.patch(path, json={"sourceClient": "twins"}, headers={"If-Match": "*"})
    assert (answer.status_code, issues(answer.json())) == (422, {"/sourceClient": "client-unknown"})
    for name, status in ((twins[1], 200), (None, 200)):
        answer = await editor.patch(path, json={"sourceClient": name}, headers={"If-Match": "*"})
        assert answer.status_code == status, answer.text
        shown = (await editor.get(path)).json()
        assert (shown["sourceClient"], shown["sourceClientId"]) == ((None, None) if name is None else ("twins", name))
    here.credentials["teller"] = await made_client(here, "teller")
    reads = (
        f"trust:{TRUST}=schools:read,pupils:read,pupils:write,pupils:name,pupils:birth,pupils:sensitive,pupils:upn,judgements:read"
    )
    await approve_grant(here.operator, UUID(here.credentials["teller"][0]), parse_grant(reads), purpose="p", approved_by="a")
    teller = here.connect(await here.authorise("teller"))
    await sent(teller, "/v1/pupils", roll("Oak", [entry(1)]))
    (receipt,) = (await teller.get("/v1/receipts")).json()["data"]
    (pupil,) = (await teller.get("/v1/pupils", params={"roll": "all"})).json()["data"]
    history = (await teller.get(f"/v1/pupils/{pupil['id']}/recordHistory")).json()["data"]
    assert {(row["client"], row["clientId"]) for row in [receipt, *history]} == {("teller", here.credentials["teller"][0])}


async def history_of(here: Trust, by: str, path: str, field: str) -> list[tuple[str, str | None]]:
    """The changes that a client sees of a grant or client, as REST and, equal to that, as GraphQL answer them."""
    http = http_of(here, by)
    noun, id_ = path.split("/")
    rows = (await http.get(f"/v1/{path}/history")).json()["data"]
    seen = [(row["outcome"], row["clientId"]) for row in rows]
    graph = await asked(http, f'{{ {noun[:-1]}(id: "{id_}") {{ history {{ nodes {{ outcome clientId }} }} }} }}')
    assert [(node["outcome"], node["clientId"]) for node in graph[noun[:-1]]["history"]["nodes"]] == seen
    listed = (await http.get(f"/v1/{noun[:-1]}-changes", params={field: id_})).json()["data"]
    assert [row["outcome"] for row in listed] == [outcome for outcome, _ in seen]
    assert [row["no"] for row in listed] == [*range(1, len(seen) + 1)]
    return seen


async def test_who_changed_a_grant_and_when_is_read_by_those_who_may_list_it(here: Trust) -> None:
    """Each way of writing it: by its giver, by another client, by the command line, by the end of its client."""
    manager, second = id_of(here, "manager"), id_of(here, "second")
    client, _ = await made_client(here, "changing", origins=["https://a.example"])
    grant = (await given(here, client, "pupils:read", "schools:read", target=OAK, expiresAt="2090-01-01T00:00:00Z"))["id"]
    path = f"/v1/grants/{grant}"
    await sent(http_of(here, "head"), f"{path}/narrow", {"scopes": ["schools:read"]})
    await sent(http_of(here, "second"), f"{path}/extend", {"expiresAt": "2095-01-01T00:00:00Z"})
    await sent(http_of(here, "manager"), f"{path}/narrow", {"expiresAt": "2095-01-01T00:00:00Z"})  # as it is
    refused = await http_of(here, "manager").post(f"{path}/extend", json=NEVER)
    dry = await http_of(here, "manager").post(f"{path}/end?dryRun=true")
    assert (refused.status_code, dry.status_code) == (422, 200)
    async with here.operator.transaction():
        await narrow_grant(here.operator, UUID(grant), expires_at=SOON)
    await sent(http_of(here, "quay"), f"{path}/end", None, 404)
    await sent(http_of(here, "manager"), f"{path}/end")
    await sent(http_of(here, "manager"), f"{path}/end")  # again: nothing changes
    expected = [("given", manager), ("narrowed", id_of(here, "head")), ("extended", second), ("narrowed", None), ("ended", manager)]
    for by in ("manager", "head"):
        assert await history_of(here, by, f"grants/{grant}", "grantId") == expected
    rows = (await http_of(here, "head").get(f"{path}/history", params={"fields": "scopes,expiresAt,client,changedAt"})).json()[
        "data"
    ]
    assert [(row["scopes"], row["expiresAt"][:4], row["client"]) for row in rows] == [
        (["pupils:read", "schools:read"], "2090", "manager"),
        (["schools:read"], "2090", "head"),
        (["schools:read"], "2095", "second"),
        (["schools:read"], "2090", None),
        (["schools:read"], "2090", "manager"),
    ]
    assert rows == sorted(rows, key=lambda row: str(row["changedAt"]))
    for by in ("quay", "operator"):
        assert (await http_of(here, by).get(f"{path}/history")).status_code == 404
        assert (await http_of(here, by).get("/v1/grant-changes", params={"grantId": grant})).json()["data"] == []
    assert (await http_of(here, "vendor").get("/v1/grant-changes")).status_code == 403
    for statement in (
        "INSERT INTO grant_changes SELECT * FROM grant_changes",
        "DELETE FROM client_changes",
        "SELECT 1 FROM grant_changes",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_caller(here, "manager", statement)


async def test_who_changed_a_client_and_when_is_read_by_those_who_may_list_it(here: Trust) -> None:
    client, _ = await made_client(here, "changed")
    grant = (await given(here, client))["id"]
    await sent(http_of(here, "second"), f"/v1/clients/{client}/rotate-secret", {})
    async with here.operator.transaction():
        await set_origins(here.operator, UUID(client), ["https://b.example"])
    await sent(http_of(here, "maker"), f"/v1/clients/{client}/revoke")
    expected = [("made", "manager"), ("secret-rotated", "second"), ("origins-changed", None), ("revoked", "maker")]
    ids = [(outcome, by and id_of(here, by)) for outcome, by in expected]
    for by in ("manager", "maker"):
        assert await history_of(here, by, f"clients/{client}", "changedClientId") == ids
    assert await history_of(here, "manager", f"grants/{grant}", "grantId") == [
        ("given", id_of(here, "manager")),
        ("ended", id_of(here, "maker")),
    ]
    for by in ("quay", "operator"):
        assert (await http_of(here, by).get(f"/v1/clients/{client}/history")).status_code == 404
    assert (await http_of(here, "vendor").get("/v1/client-changes")).status_code == 403


async def test_what_another_client_gave_is_not_given_on(here: Trust) -> None:
    """Two clients would keep alive what each gave to the other, after the command line has ended it."""
    only = f"trust:{TRUST}=grants:write,clients:write,schools:read"
    first, other = [await here.client(f"gives {i}", only) for i in range(2)]
    ids = [(await client.get("/v1/me")).json()["client"]["id"] for client in (first, other)]
    grants = [
        (
            await sent(
                http_of(here, "manager"),
                "/v1/grants",
                grant_for(ids[0], WHOLE, "pupils:read", expiresAt="2090-01-01T00:00:00Z"),
                201,
            )
        ),
    ]
    answer = await first.post(
        "/v1/grants", json=grant_for(ids[1], WHOLE, "pupils:read", "schools:read", expiresAt="2089-01-01T00:00:00Z")
    )
    assert issues(answer.json()) == {"/scopes/0": "grant-too-wide"}
    here.credentials["gives 0"] = ids[0], ""
    for statement, values in (
        (GIVE, (new_id(GRANT), UUID(ids[1]), here.ids["trust"], here.ids["trust"], ["pupils:read"], SOON)),
        ("SELECT extend_grant($1, $2)", (UUID(grants[0]["id"]), YEAR)),
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await as_caller(here, ids[0], statement, *values)
    await sent(first, "/v1/grants", grant_for(ids[1], WHOLE, "schools:read"), 201)
