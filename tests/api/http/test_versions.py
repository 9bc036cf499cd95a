"""Markonce-Min-Version is read strictly, whether there are replicas or not; `make operations` tries replicas themselves."""

from typing import Any
from uuid import UUID, uuid4

from api.http.versions import MAX_VERSIONS, write_versions
from domain.store.database import Database
from domain.store.replicas import ReadTerms, add_terms
from tests.fixtures.small_trust import Trust

TENANT = "01a220f6-8c03-7001-b1f4-a7fc20690c98"


async def test_values(small_trust: Trust, vendor: Any) -> None:
    other = write_versions({uuid4(): 3})
    for good in (f"{TENANT}.0", f"{TENANT}.17, {other.decode()}", ", ".join([f"{TENANT}.1"] * MAX_VERSIONS)):
        assert (await vendor.get("/v1/schools", headers={"Markonce-Min-Version": good})).status_code == 200
    for bad in (
        "",
        ",",
        "17",
        TENANT,
        f"{TENANT}.",
        f"{TENANT}.-1",
        f"{TENANT}.1.2",
        f"{TENANT}.01",
        f'"{TENANT}.1"',
        f"{TENANT.upper()}.1",
        f"{TENANT}.{10**18}",
    ):
        answer = await vendor.get("/v1/schools", headers={"Markonce-Min-Version": bad})
        assert (answer.status_code, answer.json()["issues"][0]["at"]) == (400, "Markonce-Min-Version"), bad
        assert answer.json()["issues"][0]["code"] == "min-version-malformed"
    many = ", ".join([f"{TENANT}.1"] * (MAX_VERSIONS + 1))
    for method, path in (("GET", "/v1/me"), ("POST", "/graphql"), ("POST", "/v1/pupils/lookup"), ("GET", "/v1/aggregates")):
        answer = await vendor.request(method, path, json=None if method == "GET" else {}, headers={"Markonce-Min-Version": many})
        assert (answer.status_code, answer.json()["issues"][0]["at"]) == (400, "Markonce-Min-Version"), path


async def test_no_version_without_replicas(small_trust: Trust, vendor: Any) -> None:
    answer = await vendor.post(
        "/v1/schemes", json={"tenant": {"trust": {"groupUid": 4128}}, "code": "s", "name": "S", "template": "effort"}
    )
    assert answer.status_code == 201
    assert "Markonce-Version" not in answer.headers


async def test_terms(small_trust: Trust, vendor: Any) -> None:
    """A statement with terms returns its row where they are met, and else none."""
    database: Database = small_trust.database
    async with database.without_caller() as connection:
        client, reach = await connection.fetchrow("SELECT id, reach_version FROM clients ORDER BY created_at DESC LIMIT 1")
    for terms, is_met in (
        (ReadTerms(client, reach, 0.0), True),
        (ReadTerms(client, reach - 1, 0.0), True),
        (ReadTerms(client, reach + 1, 0.0), False),
        (ReadTerms(uuid4(), 0, 0.0), False),
        (ReadTerms(client, reach, 0.0, (UUID(TENANT),), (0,)), True),
        (ReadTerms(client, reach, 0.0, (UUID(TENANT),), (1,)), False),
    ):
        statement, arguments = add_terms("SELECT $1::int AS n, 1 AS n", [7], terms)
        row = await database.read(statement, *arguments)
        assert (row is not None and tuple(row) == (7, 1)) == is_met, terms
