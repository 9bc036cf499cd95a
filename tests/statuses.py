"""A request that is in order for each operation of the contract, and how each status is provoked at it."""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import asyncpg
import httpx2

from api.app import build_app
from api.rest.openapi.document import make_document
from api.settings import Settings
from domain import COMMANDS, RESOURCES
from domain.clients import clients as registered
from domain.clients.grants import approve_grant, parse_grant
from domain.declare.ids import new_id
from domain.store.database import Database
from domain.store.embedded import SUPERUSER
from tests.clock import PLANNED_DAY, PLANNING, standing_at
from tests.conftest import SECRET, Databases
from tests.roster import gias_rows
from tests.trust import BASE, TRUST, URNS, WINDOW, Trust, batch, entry, judged, opened, roll, sent, trust, upn, window

DOCUMENT = make_document(BASE)
OPERATIONS = {
    operation["operationId"]: (method, path, operation)
    for path, of in DOCUMENT["paths"].items()
    for method, operation in of.items()
}
BY_OPERATION = {command.operation: command for command in COMMANDS.values()}
PROBLEM, GRAPHQL = "application/problem+json", "application/graphql-response+json"
MIB = 1024 * 1024
ROLL = "mutation ($b: PupilBatchInput!, $key: String) { recordPupils(input: $b, idempotencyKey: $key) { received } }"
RENAME = "mutation ($c: PupilChangeInput!) { updatePupil(input: $c) { id } }"


DISCOUNT = {"school": {"urn": URNS["Oak"]}, "pupil": {"reference": "P1"}, "reason": "Came from abroad", "author": "Head"}


@dataclass(frozen=True)
class Request:
    """A request, and by whom: a client's name, or nobody."""

    method: str
    url: str
    client: str | None = "vendor"
    params: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    more: dict[str, Any] = field(default_factory=dict)

    def having(self, **headers: str) -> "Request":
        return replace(self, headers=self.headers | {name.replace("_", "-"): value for name, value in headers.items()})

    def asking(self, **params: str) -> "Request":
        return replace(self, params=self.params | params)

    def sending(self, **more: Any) -> "Request":
        return replace(self, more=more)


@dataclass
class Contract:
    """Applications on one database: as it is, with next to no quota, and with a pool of one connection. Ids of rows by noun."""

    here: Trust
    apps: dict[str, httpx2.AsyncClient]
    taken: Database
    """Of the application `busy`, whose one connection is easily lent to another."""
    tokens: dict[str, str]
    basic: str
    ids: dict[str, str]
    gone: dict[str, str]
    """Ids of a pupil who was merged, and of a judgement of that record, by noun."""
    _numbers: Any = field(default_factory=lambda: count(1))

    async def send(self, request: Request, app: str = "usual") -> httpx2.Response:
        headers = request.headers
        if request.client is not None:
            headers = {"Authorization": f"Bearer {self.tokens[request.client]}"} | headers
        http = self.apps[app]
        built = http.build_request(request.method, request.url, params=request.params, headers=headers, **request.more)
        return await http.send(built)

    async def fresh_window(self) -> str:
        made = await sent(self.here.made[0], "/v1/windows", window(f"w{next(self._numbers)}"), 201)
        return str(made["id"])

    async def fresh_discount(self) -> str:
        made = await sent(self.here.made[0], f"/v1/windows/{await self.fresh_window()}/discounts", DISCOUNT, 201)
        return str(made["id"])

    async def fresh_group(self) -> str:
        given = class_list(f"g{next(self._numbers)}", [])
        results = await sent(self.here.made[0], "/v1/groups", given, Prefer="return=representation")
        return str(results["results"][0]["id"])

    async def fresh_pupils(self, count: int, **changed: Any) -> list[Any]:
        """Rows of new pupils, who were sent with another UPN before."""
        numbers = [1000 + next(self._numbers) for _ in range(count)]
        made: list[Any] = []
        for upns in ({"upn": None}, {}):
            rows = [entry(n, **upns, **changed) for n in numbers]
            made = (await sent(self.here.made[0], "/v1/pupils", roll("Oak", rows), Prefer="return=representation"))["results"]
        return [row | {"number": n} for row, n in zip(made, numbers, strict=True)]

    async def in_steps(self, name: str) -> tuple[str, dict[str, Any]]:
        """A fresh pupil's id, and the body of a command about the record, with the confirmation of its dry run."""
        pupil, other = await self.fresh_pupils(2)
        number, version = pupil["number"], {"expectedVersion": pupil["version"]}
        if name == "releasePupilUpn":
            temporary = upn(number, temporary=True)
            await sent(self.here.made[0], "/v1/pupils", roll("Oak", [entry(number, formerUpns=[temporary])]))
            return pupil["id"], {"upn": temporary}
        names = {key: entry(number)[key] for key in ("surname", "forename", "dateOfBirth", "sex", "yearGroup")}
        if name == "reidentifyPupil":
            return pupil["id"], version | {"surname": "New", "forename": "Name"}
        where = {"school": {"urn": URNS["Oak"]}, "status": "C"}
        spells = {
            "enrolments": [where | {"from": "2016-09-01"}],
            "remainingEnrolments": [where | {"from": "2014-09-01", "to": "2016-08-31"}],
        }
        merge = {"into": other["id"], "intoVersion": other["version"]}
        body = version | (merge if name == "mergePupil" else names | spells)
        dry = await sent(self.here.made[0], f"/v1/pupils/{pupil['id']}/{name[:5]}?dryRun=true", body)
        return pupil["id"], body | {"confirmation": dry["confirmation"]}

    async def fresh_planned_roll(self) -> str:
        number = next(self._numbers)
        spells = [{"from": PLANNED_DAY, "status": "C"}]
        starter = entry(5000 + number, yearGroup="R", dateOfBirth="2026-01-01", enrolments=spells, characteristics=None)
        with standing_at(PLANNING):
            answer = await sent(self.here.made[0], "/v1/pupils", roll("Oak", [starter], asOf=PLANNED_DAY))
        return str(answer["plannedRollIds"][0])

    async def good(self, name: str) -> Request:
        """A request that is answered well."""
        method, path, operation = OPERATIONS[name]
        noun = path.split("/")[2] if path.startswith("/v1/") else ""
        id_ = self.ids.get(noun, "")
        body: dict[str, Any] = {}
        if name in RECORD_COMMANDS:
            id_, body = await self.in_steps(name)
        elif name in ("deleteWindow", "openWindow", "closeWindow", "reopenWindow", "repinWindow"):
            id_ = await self.fresh_window()
            for verb in {"closeWindow": ["open"], "reopenWindow": ["open", "close"]}.get(name, []):
                await sent(self.here.made[0], f"/v1/windows/{id_}/{verb}")
        elif name == "recordSchoolReferences":
            id_ = str(self.here.ids["Oak"])
        elif name == "createWindowDiscount":
            id_ = await self.fresh_window()
        elif name == "withdrawPlannedRoll":
            id_ = await self.fresh_planned_roll()
        elif name == "withdrawDiscount":
            id_ = await self.fresh_discount()
        elif name in ("updateAspect", "retireAspect", "updateSubject", "retireSubject"):
            made = {"tenant": TENANT, "code": f"m{next(self._numbers)}", "name": "Made"}
            id_ = str((await sent(self.here.made[0], f"/v1/{noun}", made, 201))["id"])
        elif name == "deleteGroup":
            id_ = await self.fresh_group()
        elif noun == "receipts":
            id_ = ""
        url = path.replace("{id}", id_).replace("{key}", "kept").replace("{code}", "grade-unknown")
        request = Request(method.upper(), url)
        if any(parameter.get("$ref", "").endswith("/IfMatch") for parameter in operation.get("parameters", ())):
            request = request.having(If_Match="*")
        bodies: dict[str, Any] = {
            "recordPupils": roll("Oak", [entry(1)]),
            "recordGroups": class_list("6W", [{"reference": "P1"}]),
            "recordJudgements": batch("Oak", [judged(1)]),
            "recordTargets": {"school": {"urn": URNS["Oak"]}, "entries": [AIMED]},
            "createScheme": {"tenant": TENANT, "code": f"s{next(self._numbers)}", "name": "S", "template": "effort"},
            "createSchemeVersion": {"grades": [{"code": "1", "label": "One"}]},
            "createSubject": {"tenant": TENANT, "code": f"s{next(self._numbers)}", "name": "S"},
            "updateSubject": {"name": f"Renamed {next(self._numbers)}"},
            "createAspect": {"tenant": TENANT, "code": f"a{next(self._numbers)}", "name": "A"},
            "updateAspect": {"name": f"Renamed {next(self._numbers)}"},
            "createWindow": window(f"w{next(self._numbers)}"),
            "createWindowDiscount": DISCOUNT,
            "withdrawDiscount": {"author": "Head"},
            "updateGroup": {"name": f"Renamed {next(self._numbers)}"},
            "recordSchoolReferences": {"entries": [{"reference": "P1", "oldReference": "P1"}]},
            "updateSchool": {"shortName": f"Renamed {next(self._numbers)}"},
            "updatePupil": {"forename": f"Renamed{next(self._numbers)}"},
            "updateWindow": {"name": f"Renamed {next(self._numbers)}"},
            "graphql": {"query": "{ schools { nodes { id } } }"},
        } | dict.fromkeys(RECORD_COMMANDS, body)
        if name in bodies:
            return request.sending(json=bodies[name])
        if name.startswith("lookup"):
            return request.sending(json={"where": {}})
        if name == "issueToken":
            return replace(request, client=None).having(Authorization=self.basic).sending(data={"grant_type": "client_credentials"})
        if name == "importGias":
            return replace(request, client="importer").sending(data={"asOf": "2022-04-20"}, files={"file": ("groups.csv", GROUPS)})
        return request.asking(groupBy="subject", window=WINDOW) if name == "listAggregates" else request


RECORD_COMMANDS = ("releasePupilUpn", "mergePupil", "splitPupil", "reidentifyPupil")
TENANT = {"trust": {"groupUid": TRUST}}
HORIZON = {"academicYear": "2017-18", "point": "KS2"}
AIMED = {"reference": "P1", "subject": "reading", "grade": 100, "basis": "teacher", "horizon": HORIZON}
GROUPS = "\n".join([",".join(gias_rows.group(9001)), ",".join(gias_rows.group(9001).values()), ""]).encode()


def class_list(code: str, members: list[Any]) -> dict[str, Any]:
    entries = [{"code": code, "name": "A class", "kind": "class", "members": members}]
    return {"school": {"urn": URNS["Oak"]}, "academicYear": "2017-18", "asOf": "2018-05-01", "entries": entries}


@asynccontextmanager
async def under_contract(databases: Databases) -> AsyncIterator[Contract]:
    """The applications, on a trust that has a row of everything."""
    async with trust(databases) as here:
        vendor = await here.client("vendor", "trust:4128=all")
        clients = {"vendor": vendor}
        for name, grant in {
            "schools": "trust:4128=schools:read",
            "trusts": "trust:4128=trusts:read",
            "importer": "installation=imports:write",
        }.items():
            clients[name] = await here.client(name, grant)
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(1, 5)]))
        await opened(vendor)
        await sent(vendor, "/v1/judgements", batch("Oak", [judged(n) for n in range(1, 5)]), Idempotency_Key="kept")
        await sent(vendor, "/v1/groups", class_list("6W", [{"reference": "P1"}]))
        await sent(vendor, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": [AIMED]})
        await here.operator.execute(
            "INSERT INTO memberships (id, trust_id, school_id) VALUES ($1, $2, $3)", new_id(2), here.ids["trust"], here.ids["Oak"]
        )
        (window_row,) = (await vendor.get("/v1/windows?fields=id")).json()["data"]
        await sent(vendor, f"/v1/windows/{window_row['id']}/discounts", DISCOUNT, 201)
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(5, upn=upn(6)), entry(6, upn=None)]))
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(6)]), 422)  # a data issue
        gone = await merged(vendor)
        with standing_at(PLANNING):
            starter = entry(
                4999,
                yearGroup="R",
                dateOfBirth="2026-01-01",
                enrolments=[{"from": PLANNED_DAY, "status": "C"}],
                characteristics=None,
            )
            await sent(vendor, "/v1/pupils", roll("Oak", [starter], asOf=PLANNED_DAY))
        ids = {}
        for noun in {path.split("/")[2] for path in DOCUMENT["paths"] if "{id}" in path}:
            only = {"derived": "false"} if noun == "schemes" else {}  # a derived scheme has no further versions
            ids[noun] = (await vendor.get(f"/v1/{noun}", params={"first": "1", **only})).json()["data"][0]["id"]
        client_id, secret = await _credentials(here)
        basic = f"Basic {base64.b64encode(f'{client_id}:{secret}'.encode()).decode()}"
        tokens = {name: client.headers["authorization"].removeprefix("Bearer ") for name, client in clients.items()}
        async with another_app(databases, 1) as (tight, _), another_app(databases, 100_000) as (busy, taken):
            yield Contract(here, {"usual": here.http, "tight": tight, "busy": busy}, taken, tokens, basic, ids, gone)


async def merged(vendor: httpx2.AsyncClient) -> dict[str, str]:
    """The ids of a pupil with a judgement who is merged into another one."""
    rows = [entry(7), entry(8)]
    made = (await sent(vendor, "/v1/pupils", roll("Oak", rows), Prefer="return=representation"))["results"]
    judgement = await sent(vendor, "/v1/judgements", batch("Oak", [judged(7)]), Prefer="return=representation")
    body = {"expectedVersion": 1, "into": made[1]["id"], "intoVersion": 1}
    url = f"/v1/pupils/{made[0]['id']}/merge"
    dry = await sent(vendor, f"{url}?dryRun=true", body)
    await sent(vendor, url, body | {"confirmation": dry["confirmation"]})
    return {"pupils": made[0]["id"], "judgements": judgement["results"][0]["id"]}


async def _credentials(here: Trust) -> tuple[str, str]:
    client_id, secret = await registered.create_client(here.operator, "asks for tokens", "client_secret")
    await approve_grant(here.operator, client_id, parse_grant("trust:4128=schools:read"), purpose="tests", approved_by="tests")
    return str(client_id), str(secret)


@asynccontextmanager
async def another_app(databases: Databases, rate: int) -> AsyncIterator[tuple[httpx2.AsyncClient, Database]]:
    """The application with this quota, on a pool of one connection."""
    database = await Database.open(databases.app_url, size=1)
    app = build_app(Settings("", SECRET.encode(), BASE, rate=rate, burst=rate, cache_mb=0), database)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=BASE) as http:
        yield http, database
    await database.close()


# How each status is provoked

Provoke = Callable[[Contract, str, Request], Awaitable[httpx2.Response]]


async def unknown_parameter(c: Contract, name: str, good: Request) -> httpx2.Response:
    if name == "graphql":
        return await c.send(good.sending(json={"query": 1}))
    if name == "issueToken":
        return await c.send(good.sending(data={}))
    return await c.send(
        good.asking(nonsense="1")
        if name not in ("getKeptAnswers", "getIdempotencyKey")
        else replace(good, url="/v1/idempotency-keys/k%20k")
    )


async def nobody(c: Contract, name: str, good: Request) -> httpx2.Response:
    if name == "issueToken":
        return await c.send(good.having(Authorization="Basic eDp5"))
    return await c.send(replace(good, client=None))


async def without_scope(c: Contract, name: str, good: Request) -> httpx2.Response:
    if name == "graphql":
        return await c.send(replace(good, client="trusts").having(Accept=GRAPHQL))
    needed = {scope for way in OPERATIONS[name][2]["security"] for scope in way["oauth2"]}
    return await c.send(replace(good, client="trusts" if "schools:read" in needed else "schools"))


async def absent(c: Contract, name: str, good: Request) -> httpx2.Response:
    if name == "graphql":
        given = {"query": RENAME, "variables": {"c": {"id": str(new_id(4)), "expectedVersion": 1, "forename": "A"}}}
        return await c.send(good.having(Accept=GRAPHQL).sending(json=given))
    if name in ("getKeptAnswers", "getIdempotencyKey", "getProblem"):
        return await c.send(replace(good, url=good.url.rsplit("/", 1)[0] + "/never"))
    return await c.send(replace(good, url=re.sub(r"(/v1/[^/]+/)[^/]+", rf"\g<1>{new_id(4)}", good.url)))


async def unacceptable(c: Contract, name: str, good: Request) -> httpx2.Response:
    return await c.send(good.having(Accept="text/html"))


async def too_slow(c: Contract, name: str, good: Request) -> httpx2.Response:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"--x\r\n" if name == "importGias" else b"{"
        await asyncio.sleep(5)

    kinds = list(OPERATIONS[name][2].get("requestBody", {"content": {"application/json": 0}})["content"])
    kind = f"{kinds[0]}; boundary=x" if kinds[0].startswith("multipart") else kinds[0]
    return await c.send(good.having(Content_Type=kind, Content_Length="100").sending(content=slowly()))


async def in_progress(c: Contract, name: str, good: Request) -> httpx2.Response:
    """Another session holds the key as a request that has not finished does."""
    command = {"graphql": "record_pupils", "getKeptAnswers": "record_pupils", "getIdempotencyKey": "record_pupils"}.get(
        name
    ) or BY_OPERATION[name].name
    client_id = await c.here.value("SELECT id FROM clients WHERE name = 'vendor'")
    lock = "SELECT pg_{}advisory_{}lock(hashtextextended($1, 0))"
    named = f"{client_id} {command} running"
    await c.here.operator.execute(lock.format("", ""), named)
    try:
        if name in ("getKeptAnswers", "getIdempotencyKey"):
            return await c.send(replace(good, url="/v1/idempotency-keys/running"))
        if name == "graphql":
            given = {"query": ROLL, "variables": {"b": roll("Oak", [entry(1)]), "key": "running"}}
            return await c.send(good.having(Accept=GRAPHQL).sending(json=given))
        return await c.send(good.having(Idempotency_Key="running"))
    finally:
        await c.here.operator.execute(lock.format("", "un"), named)


async def stale(c: Contract, name: str, good: Request) -> httpx2.Response:
    if name == "graphql":
        given = {"query": RENAME, "variables": {"c": {"id": c.ids["pupils"], "expectedVersion": 999, "forename": "A"}}}
        return await c.send(good.having(Accept=GRAPHQL).sending(json=given))
    if name in RECORD_COMMANDS:
        return await c.send(good.sending(json=good.more["json"] | {"expectedVersion": 999}))
    return await c.send(good.having(If_Match='"999"'))


async def gone(c: Contract, name: str, good: Request) -> httpx2.Response:
    """A pupil who was merged into another, whom the client reaches."""
    noun = good.url.split("/")[2]
    return await c.send(replace(good, url=re.sub(r"(/v1/[^/]+/)[^/]+", rf"\g<1>{c.gone[noun]}", good.url)))


async def too_large(c: Contract, name: str, good: Request) -> httpx2.Response:
    if name == "issueToken":
        return await c.send(good.sending(data={"scope": "x" * 20_000}))
    kind = "multipart/form-data; boundary=x" if name == "importGias" else "application/json"
    return await c.send(good.having(Content_Type=kind, Content_Length=str(65 * MIB)).sending(content=b"{}"))


async def another_media_type(c: Contract, name: str, good: Request) -> httpx2.Response:
    return await c.send(good.having(Content_Type="text/plain").sending(content=b"{}"))


def find_coded(name: str) -> str | None:
    """A filter of a list that is looked up, so that a value which nothing has is unknown."""
    if name.startswith("lookup"):
        lists = [of for of in RESOURCES.values() if name == f"lookup{of.plural.capitalize()}"]
    else:
        named = {ref["$ref"].rsplit("/", 1)[1] for ref in OPERATIONS[name][2].get("parameters", ()) if "$ref" in ref}
        lists = [of for of in RESOURCES.values() if f"{of.type_name}.sort" in named]
    return next((key for of in lists for key, field in of.fields.items() if field.codes and not field.vocabulary), None)


async def invalid(c: Contract, name: str, good: Request) -> httpx2.Response:
    if name == "graphql":
        given = {"query": ROLL, "variables": {"b": roll("Oak", [entry(1)], asOf="1850-01-01")}}
        return await c.send(good.having(Accept=GRAPHQL).sending(json=given))
    if name == "listAggregates":
        return await c.send(good.asking(groupBy="teacher"))
    if name == "importGias":
        return await c.send(good.sending(data={"asOf": "2022-04-20"}, files={"file": ("x.csv", b"a,b\n1,2\n")}))
    if (coded := find_coded(name)) is not None:
        where = {coded: "nothing"}
        return await c.send(good.sending(json={"where": where}) if name.startswith("lookup") else good.asking(**where))
    if "requestBody" in OPERATIONS[name][2]:
        return await c.send(good.sending(json={"nonsense": 1}))
    key = f"used {name}".replace(" ", "-")  # a key that was used for another row
    assert (await c.send(good.having(Idempotency_Key=key))).status_code in (200, 204)
    return await c.send((await c.good(name)).having(Idempotency_Key=key))


async def without_version(c: Contract, name: str, good: Request) -> httpx2.Response:
    return await c.send(replace(good, headers={}))


async def beyond_quota(c: Contract, name: str, good: Request) -> httpx2.Response:
    for _ in range(3):
        answer = await c.send(good, "tight")
        if answer.status_code == 429:
            break
    return answer


@asynccontextmanager
async def without_tables(databases: Databases, *tables: str) -> AsyncIterator[None]:
    """The database as an installation must never have it, for a while."""
    superuser = await asyncpg.connect(databases.cluster.url(databases.name, SUPERUSER))
    await superuser.execute("; ".join(f"ALTER TABLE {table} RENAME TO {table}_gone" for table in tables))
    try:
        yield
    finally:
        await superuser.execute("; ".join(f"ALTER TABLE {table}_gone RENAME TO {table}" for table in tables))
        await superuser.close()


async def broken(c: Contract, name: str, good: Request) -> httpx2.Response:
    """Tables that every operation needs are not there."""
    async with without_tables(c.here.databases, "reach", "idempotency"):
        return await c.send(good.having(Accept=GRAPHQL) if name == "graphql" else good)


async def busy(c: Contract, name: str, good: Request) -> httpx2.Response:
    """The one connection is lent to another for longer than a request waits."""
    async with c.taken.without_caller():
        return await c.send(good.having(Accept=GRAPHQL) if name == "graphql" else good, "busy")


PROVOKED: dict[int, Provoke] = {
    400: unknown_parameter,
    401: nobody,
    403: without_scope,
    404: absent,
    406: unacceptable,
    408: too_slow,
    409: in_progress,
    410: gone,
    412: stale,
    413: too_large,
    415: another_media_type,
    422: invalid,
    428: without_version,
    429: beyond_quota,
    500: broken,
    503: busy,
}
