"""Where a client stands, asked over HTTP in both interfaces: each gives the same, and only what is the client's own."""

import asyncio
import json
from typing import Any
from uuid import UUID

import httpx2
from graphql import GraphQLObjectType, get_named_type

from api.app import collect_limits
from api.graphql.endpoint import RESPONSE
from api.graphql.schema import graphql_schema as schema
from api.settings import Settings
from domain.access.caller import Caller
from domain.clients.clients import find_client, rotate_secret
from domain.clients.grants import approve_grant, list_grants, parse_grant, revoke_grant
from domain.clients.me import read_me
from domain.declare.ids import new_id
from tests.fixtures.small_trust import URNS, Trust


def whole(type_: Any) -> str:
    """Every field of a type, and of the types below it."""
    fields = {name: get_named_type(field.type) for name, field in type_.fields.items()}
    return " ".join(f"{name} {{ {whole(of)} }}" if isinstance(of, GraphQLObjectType) else name for name, of in fields.items())


async def standing(client: httpx2.AsyncClient) -> Any:
    """What both interfaces answer about the client, after checking that it is the same."""
    rest = await client.get("/v1/me")
    assert rest.status_code == 200, rest.text
    graphql = await client.post("/graphql", json={"query": f"{{ one: me {{ {whole(schema().type_map['Me'])} }} }}"})
    assert graphql.json()["data"] == {"one": rest.json()}
    return rest.json()


async def the_id(small_trust: Trust, name: str) -> UUID:
    client = await find_client(small_trust.operator, name)
    assert client is not None
    return client.id


def scopes(places: list[dict[str, Any]]) -> dict[str, list[str]]:
    return {place["name"]: place["scopes"] for place in places}


async def test_grants_are_listed_and_merged_by_school(small_trust: Trust) -> None:
    grants = ("trust:4128=windows:read,pupils:read", "school:100001=pupils:read,pupils:upn", "school:100004=schools:write")
    told = await standing(await small_trust.client("app", *grants, "installation=imports:write"))
    assert scopes(told["schools"]) == {
        "Ash": ["pupils:read", "windows:read"],
        "Elm": ["pupils:read", "windows:read"],
        "Oak": ["pupils:read", "pupils:upn", "windows:read"],
        "Quay": ["schools:write"],
    }
    assert list(scopes(told["schools"])) == sorted(URNS)
    assert {school["urn"] for school in told["schools"]} == set(URNS.values())
    assert scopes(told["trusts"]) == {"Hedgerow": ["pupils:read", "windows:read"]}
    assert told["installation"] == ["imports:write"]
    assert [told[count] for count in ("grantsCount", "schoolsCount", "trustsCount")] == [4, 4, 1]
    shown = [(g["state"], g["target"], g["targetName"], g["purpose"], g["approvedBy"]) for g in told["grants"]]
    assert shown == [
        ("in-force", target, name, "tests", "tests")
        for target, name in (("trust", "Hedgerow"), ("school", "Oak"), ("school", "Quay"), ("installation", None))
    ]
    assert told["grants"][0]["targetId"] == str(small_trust.ids["trust"])
    assert told["token"]["scopes"] == ["imports:write", "pupils:read", "pupils:upn", "schools:write", "windows:read"]


async def test_a_revoked_an_expired_and_a_coming_grant_are_listed_and_give_nothing(small_trust: Trust) -> None:
    app = await small_trust.client(
        "app", "school:100001=all", "school:100002=all", "school:100003=all", "school:100004=schools:read"
    )
    client_id = await the_id(small_trust, "app")
    ids = {grant.target: grant.id for grant in await list_grants(small_trust.operator, client_id)}
    await revoke_grant(small_trust.operator, ids["school:100001"])
    ended = "UPDATE grants SET starts_at = now() - interval '2 days', expires_at = now() - interval '1 second' WHERE id = $1"
    await small_trust.operator.execute(ended, ids["school:100002"])
    await small_trust.operator.execute("UPDATE grants SET starts_at = now() + interval '1 day' WHERE id = $1", ids["school:100003"])
    await small_trust.operator.execute("SELECT derive_reach(ARRAY[$1::uuid])", client_id)
    told = await standing(app)
    assert [(g["targetName"], g["state"]) for g in told["grants"]] == [
        ("Quay", "in-force"),
        ("Ash", "to-come"),
        ("Elm", "expired"),
        ("Oak", "revoked"),
    ]
    assert scopes(told["schools"]) == {"Quay": ["schools:read"]}
    assert told["nextExpiry"] is None
    await revoke_grant(small_trust.operator, ids["school:100004"])
    told = await standing(app)
    assert (told["schools"], told["schoolsCount"], told["trusts"], told["installation"]) == ([], 0, [], [])
    assert "pupils:read" in told["token"]["scopes"]  # until the token ends, though it opens nothing


async def test_the_next_expiry_is_that_of_a_grant_or_a_secret(small_trust: Trust) -> None:
    app = await small_trust.client("app", "school:100001=schools:read")
    client_id, operator = await the_id(small_trust, "app"), small_trust.operator
    for days, school in ((30, 100002), (10, 100003)):
        grant = parse_grant(f"school:{school}=schools:read")
        ends = await operator.fetchval("SELECT date_trunc('second', now()) + $1 * interval '1 day'", days)
        await approve_grant(operator, client_id, grant, purpose="tests", approved_by="tests", expires_at=ends)
    told = await standing(app)
    assert [secret["expiresAt"] for secret in told["client"]["secrets"]] == [None]
    assert told["nextExpiry"] == told["grants"][2]["expiresAt"]
    overlap = await operator.fetchval("SELECT interval '1 day'")
    await rotate_secret(operator, client_id, overlap)
    told = await standing(app)
    old, new = told["client"]["secrets"]
    assert new["expiresAt"] is None
    assert told["nextExpiry"] == old["expiresAt"] < told["grants"][2]["expiresAt"]


async def test_nothing_of_another_client_is_shown(small_trust: Trust) -> None:
    other = await standing(await small_trust.client("other", "school:100001=all", "trust:4128=schools:read"))
    app = await small_trust.client("app", "school:100002=schools:read")
    answer = await app.get("/v1/me")
    hidden = {other["client"]["id"], *(grant["id"] for grant in other["grants"]), str(small_trust.ids["Oak"]), "Hedgerow", "Oak"}
    assert not {text for text in hidden if text in answer.text}
    assert scopes(answer.json()["schools"]) == {"Elm": ["schools:read"]}


async def test_of_two_thousand_schools_the_first_thousand_are_listed_by_one_statement(small_trust: Trust) -> None:
    """Each by a grant of its own, and all by another; the counts tell all."""
    await small_trust.operator.executemany(
        "INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, status)"
        " VALUES ($1, $1, $2, $3, '936', 'Surrey', 'open')",
        [(new_id(3), 200_000 + n, f"School {n * 7 % 2000:04}") for n in range(2000)],
    )
    app = await small_trust.client("app", "schools=schools:read")
    client_id = await the_id(small_trust, "app")
    await small_trust.operator.execute(
        "INSERT INTO grants (id, client_id, target, target_id, scopes, purpose, approved_by)"
        " SELECT gen_random_uuid(), $1, 'school', id, '{pupils:read}', 'tests', 'tests' FROM schools WHERE urn >= 200000",
        client_id,
    )
    await small_trust.operator.execute("SELECT derive_reach(ARRAY[$1::uuid])", client_id)
    told = await standing(app)
    assert (told["schoolsCount"], told["grantsCount"]) == (2004, 2001)
    assert (len(told["schools"]), len(told["grants"])) == (1000, 1000)
    assert [school["name"] for school in told["schools"]] == ["Ash", "Elm", "Oak", "Quay", *(f"School {n:04}" for n in range(996))]
    assert told["schools"][4]["scopes"] == ["pupils:read", "schools:read"]
    with small_trust.statements.counting() as statements:
        await read_me(small_trust.database, Caller(client_id, frozenset()), collect_limits(Settings("", b"")))
        await asyncio.sleep(0)  # asyncpg tells of a statement in the next turn of the loop
    assert len(statements) == 1


async def test_a_token_is_needed_and_nothing_else(small_trust: Trust) -> None:
    assert (await small_trust.http.get("/v1/me")).status_code == 401
    app = await small_trust.client("app", "school:100001=windows:read")
    assert (await standing(app))["client"]["name"] == "app"
    refused = await app.get("/v1/me", params={"fields": "client"})
    assert (refused.status_code, [issue["code"] for issue in refused.json()["issues"]]) == (400, ["parameter-unknown"])


async def test_the_limits_shown_are_those_in_force(small_trust: Trust) -> None:
    app = await small_trust.client("app", "trust:4128=schools:read,pupils:read,pupils:write")
    limits = (await standing(app))["limits"]
    for path, name in (("/v1/schools?first=", "first"), ("/v1/schools?include=pupils&first=9&pupils.first=", "nestedFirst")):
        statuses = [(await app.get(f"{path}{limits[name] + more}")).status_code for more in (0, 1)]
        assert statuses == [200, 400], name
    many = {"school": {"urn": URNS["Oak"]}, "asOf": "2018-05-01", "entries": [{}] * (limits["batchEntries"] + 1)}
    answer = await app.post("/v1/pupils", json=many)
    assert [issue["code"] for issue in answer.json()["issues"]] == ["too-many-entries"]
    too_large = await app.post("/v1/pupils", content=b" " * (limits["bodyBytes"] + 1), headers={"Content-Type": "application/json"})
    assert too_large.status_code == 413
    ids = [str(small_trust.ids["Oak"])] * (limits["filterValues"] + 1)
    query = "query($ids: [ID!]) { " + " ".join(f"s{n}: schools(where: {{id: $ids}}) {{ nodes {{ id }} }}" for n in range(6)) + " }"
    for body, status in (
        (b"[" + b"0," * limits["bodyValues"] + b"0]", 413),
        (b'{"query":"{__typename}","variables":{"unused":["' + b"x" * limits["otherBodyBytes"] + b'"]}}', 413),
        (json.dumps({"query": query, "variables": {"ids": ids}}).encode(), 400),
        (json.dumps({"query": query, "variables": {"ids": ids[: limits["filterValuesInAll"] // 6]}}).encode(), 200),
    ):
        told = await app.post("/graphql", content=body, headers={"Content-Type": "application/json", "Accept": RESPONSE})
        assert told.status_code == status, told.text[:300]
    for name, document in (
        ("aliases", "{ " + " ".join(f"a{n}: __typename" for n in range(limits["graphql"]["aliases"] + 1)) + " }"),
        ("tokens", "{ " + "__typename " * limits["graphql"]["tokens"] + "}"),
    ):
        (error,) = (await app.post("/graphql", json={"query": document})).json()["errors"]
        assert error["extensions"]["code"] == f"graphql-too-many-{name}"


async def test_me_may_be_queried_with_other_roots(small_trust: Trust) -> None:
    app = await small_trust.client("app", "trust:4128=schools:read,aggregates:read")
    document = """query ($no: Boolean = false) {
        a: me { ...name } b: me { token { lifetime } gone: limits @include(if: $no) { first } __typename }
        aggregates(groupBy: [subject, window]) { nodes { subject } } schools { nodes { name } }
    } fragment name on Me { client { called: name } }"""
    answer = (await app.post("/graphql", json={"query": document})).json()
    assert list(answer["data"]) == ["a", "b", "aggregates", "schools"]
    assert answer["data"]["a"] == {"client": {"called": "app"}}
    assert answer["data"]["b"] == {"token": {"lifetime": 600}, "__typename": "Me"}
    assert answer["data"]["aggregates"] == {"nodes": []}
    assert len(answer["data"]["schools"]["nodes"]) == 3
