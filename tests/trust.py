"""A trust of three schools and a school without one, on the whole application in process, asked over HTTP by clients with real tokens."""

import base64
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
import httpx2

from api.app import build_app
from api.settings import Settings
from domain.clients import clients, signing_keys
from domain.clients.grants import approve_grant, parse_grant
from domain.declare.ids import new_id
from domain.roster.upn import compute_check_letter
from domain.store.database import Database
from tests.conftest import SECRET, Databases, Statements, counting_database
from tests.exact import Exact

BASE = "http://markonce.example"
TRUST, URNS = 4128, {"Oak": 100001, "Elm": 100002, "Ash": 100003, "Quay": 100004}
LAESTABS = {"Oak": "9362001", "Elm": "9362002", "Ash": "9362003", "Quay": "9362004"}
WINDOW = "2017-18/KS2"
CENSUS, AS_OF = date(2018, 5, 14), date(2018, 5, 1)
SCALED, WRITING, SCIENCE = "ks2-scaled-score", "ks2-writing-ta", "ks2-science-ta"
COLLECTED = (
    ("reading", "main", SCALED),
    ("maths", "main", SCALED),
    ("gps", "main", SCALED),
    ("writing", "main", WRITING),
    ("science", "main", SCIENCE),
    ("writing", "teacher", WRITING),
)
WRITTEN = (
    *("judgements", "judgement_history", "targets", "target_history", "cells", "totals", "school_versions", "idempotency"),
    *("pupils", "upns", "external_ids", "enrolments", "characteristics", "shared_pupils", "school_settings", "windows"),
)


@dataclass
class Trust:
    """The application, its database as the operator sees it, and the ids of the schools and of the trust."""

    databases: Databases
    database: Database
    operator: Any
    http: httpx2.AsyncClient
    transport: httpx2.ASGITransport
    statements: Statements
    ids: dict[str, UUID]
    made: list[httpx2.AsyncClient] = field(default_factory=list)

    async def client(self, name: str, *grants: str) -> httpx2.AsyncClient:
        """A registered client with a token, as its HTTP client."""
        client_id, secret = await clients.create_client(self.operator, name, "client_secret")
        for grant in grants:
            await approve_grant(self.operator, client_id, parse_grant(grant), purpose="tests", approved_by="tests")
        basic = base64.b64encode(f"{client_id}:{secret}".encode()).decode()
        answer = await self.http.post(
            "/oauth/token", data={"grant_type": "client_credentials"}, headers={"Authorization": f"Basic {basic}"}
        )
        assert answer.status_code == 200, answer.text
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        self.made.append(httpx2.AsyncClient(transport=self.transport, base_url=BASE, headers=headers, timeout=120))
        return self.made[-1]

    async def everything(self) -> dict[str, list[Any]]:
        """Every row written so far, with where it lies and which transaction wrote it: equal only if no row was written between."""
        return {
            table: await self.operator.fetch(f"SELECT tableoid, ctid::text, xmin::text, t::text FROM {table} t ORDER BY 1, 2")
            for table in WRITTEN
        }

    async def value(self, statement: str, *arguments: Any) -> Any:
        return await self.operator.fetchval(statement, *arguments)


@asynccontextmanager
async def trust(databases: Databases, *, pool: int = 10) -> AsyncIterator[Trust]:
    """The register in a fresh database, and the application on it."""
    statements = Statements()

    async def watch(connection: Any) -> None:
        connection.add_query_logger(statements.note)

    operator = await asyncpg.connect(databases.operator_url)
    ids = {"trust": new_id(1)} | {name: new_id(3) for name in URNS}
    await operator.execute(
        "INSERT INTO trusts (id, group_uid, name, kind, status) VALUES ($1, $2, 'Hedgerow', 'multi-academy', 'open')",
        ids["trust"],
        TRUST,
    )
    await operator.executemany(
        "INSERT INTO schools (id, tenant_id, urn, laestab, name, local_authority_code, local_authority, status)"
        " VALUES ($1, $2, $3, $4, $5, '936', 'Surrey', 'open')",
        [(ids[n], ids[n] if n == "Quay" else ids["trust"], URNS[n], LAESTABS[n], n) for n in URNS],
    )
    await signing_keys.ensure_signing_key(operator, SECRET.encode())
    database = await counting_database(statements).open(databases.app_url, size=pool, on_connect=watch)
    app = build_app(Settings(databases.app_url, SECRET.encode(), BASE, rate=100_000, burst=1_000_000, cache_mb=0), database)
    transport = Exact(app, statements)
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as http:
        made = Trust(databases, database, operator, http, transport, statements, ids)
        yield made
    for client in made.made:
        await client.aclose()
    await database.close()
    await operator.close()


def upn(number: int, *, temporary: bool = False) -> str:
    """A valid UPN, another for each number below 100,000 (temporary: below 10,000)."""
    rest = f"93620{number // 100:05}{number % 100:02}" if temporary else f"9362{number:08}"
    rest = rest[:11] + "A" if temporary else rest
    return compute_check_letter(rest) + rest


def entry(number: int, **changed: Any) -> dict[str, Any]:
    """A pupil of Year 6 as a roll has them."""
    usual = {
        "reference": f"P{number}",
        "upn": upn(number),
        "surname": f"Surname{number}",
        "forename": "Sam",
        "dateOfBirth": "2007-01-01",
        "sex": "FM"[number % 2],
        "yearGroup": "6",
        "enrolments": [{"from": "2014-09-01", "status": "C"}],
        "characteristics": [{"kind": "ever6Fsm", "value": "true" if number % 3 else "false", "from": "2017-09-01"}],
    }
    return {name: value for name, value in (usual | changed).items() if value is not None}


def roll(at: str, entries: Sequence[dict[str, Any]], **changed: Any) -> dict[str, Any]:
    return {"school": {"urn": URNS[at]}, "asOf": str(AS_OF), "entries": list(entries)} | changed


DAY = "2018-05-12"
"""Before the census."""


def at(school: str, *spells: dict[str, Any], day: str = DAY, **changed: Any) -> dict[str, Any]:
    """Pupil 1 on a school's roll, as the school knows it."""
    return roll(school, [entry(1, reference=f"{school}-1", enrolments=list(spells), **changed)], asOf=day)


def judged(number: int, subject: str = "reading", grade: Any = 100, **more: Any) -> dict[str, Any]:
    return {"reference": f"P{number}", "subject": subject, "grade": grade} | more


def batch(at: str, entries: Sequence[dict[str, Any]], **changed: Any) -> dict[str, Any]:
    return {"school": {"urn": URNS[at]}, "window": WINDOW, "entries": list(entries)} | changed


def window(code: str = WINDOW, **changed: Any) -> dict[str, Any]:
    """A window of the trust, to be planned: of the past by its census, and open when a test opens it."""
    usual = {
        "tenant": {"trust": {"groupUid": TRUST}},
        "code": code,
        "name": "Key stage 2",
        "academicYear": "2017-18",
        "censusOn": str(CENSUS),
        "opensAt": "2098-05-14T08:00:00+01:00",
        "closesAt": "2099-07-31T17:00:00+01:00",
        "statutory": True,
        "purpose": "National curriculum assessment",
        "decision": "Reporting to parents",
        "yearGroups": ["6"],
        "collects": [{"subject": s, "aspect": a, "scheme": m} for s, a, m in COLLECTED],
    }
    return usual | changed


async def sent(client: httpx2.AsyncClient, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
    """What the API answers to a POST, after checking its status. Underscores in names of headers stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = await (client.post(path, headers=named) if body is None else client.post(path, json=body, headers=named))
    assert answer.status_code == status, answer.text[:2000]
    return answer.json()


async def opened(manager: httpx2.AsyncClient, code: str = WINDOW, **changed: Any) -> str:
    """The id of a window, open."""
    made = await sent(manager, "/v1/windows", window(code, **changed), 201)
    await sent(manager, f"/v1/windows/{made['id']}/open")
    return str(made["id"])


def counted(answer: dict[str, Any]) -> dict[str, int]:
    """The counts that are not 0, after checking that they add up."""
    outcomes = {name: answer[name] for name in ("created", "updated", "unchanged", "superseded", "withdrawn", "rejected")}
    assert answer["received"] == sum(outcomes.values()), answer
    return {name: n for name, n in outcomes.items() if n}


def issues(answer: dict[str, Any]) -> dict[str, str]:
    """By place, the code of what is wrong there."""
    return {issue["at"]: issue["code"] for issue in answer["issues"]}


async def asked(client: httpx2.AsyncClient, query: str, **variables: Any) -> Any:
    """What GraphQL answers: `data`, after checking that there are no errors."""
    answer = (await client.post("/graphql", json={"query": query, "variables": variables})).json()
    assert "errors" not in answer, answer
    return answer["data"]
