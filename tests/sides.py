"""One world asked with row-level security and without it: what is out of reach is kept out by every statement itself."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import httpx2

from api.app import build_app
from api.settings import Settings
from domain import RESOURCES
from domain.clients.clients import create_client
from domain.clients.grants import approve_grant, parse_grant
from domain.declare.ids import new_id
from domain.store.embedded import SUPERUSER
from tests.conftest import SECRET, Databases, Statements, counting_database
from tests.naming import Names
from tests.world import SCHOOLS, SUMMER, TRUSTS, World, build, upn, window

BASE = "http://reach"


@dataclass
class Sides:
    """The world asked as the app's role and as a role without row-level security, by clients of the tenant North, of its school Alder and of its
    school Birch; the statements that the latter role ran."""

    world: World
    http: dict[tuple[str, str], httpx2.AsyncClient]
    statements: Statements
    own: Names
    foreign: Names
    neighbour: Names
    absent: Names


@asynccontextmanager
async def unwalled(databases: Databases) -> AsyncIterator[str]:
    """The URL of a new role that may do what the app's may, and bypasses row-level security."""
    name, password = f"unwalled_{secrets.token_hex(4)}", secrets.token_hex(16)
    superuser = await asyncpg.connect(databases.cluster.url(databases.name, SUPERUSER))
    await superuser.execute(f"CREATE ROLE {name} LOGIN BYPASSRLS PASSWORD '{password}' IN ROLE markonce_app")
    try:
        at = urlsplit(databases.app_url)
        yield at._replace(netloc=f"{name}:{password}@{at.hostname}:{at.port}").geturl()
    finally:
        await superuser.execute(f"DROP ROLE {name}")
        await superuser.close()


NOUNS = ("pupil", "group", "window", "school", "subject", "aspect", "scheme", "discount", "plannedRoll")


async def _names(world: World, tenant: str, school: str, trust: dict[str, Any]) -> Names:
    """A school's and its tenant's own."""
    caller, id_ = world.clients[tenant].caller, str(world.schools[school])
    found = {name: await world.rows(world.database, caller, RESOURCES[name]) for name in NOUNS}
    row = next(row for row in found["pupil"] if row["upn"] == upn(school, 6))
    group = next(row for row in found["group"] if row["schoolId"] == id_)
    laestab = next(row["laestab"] for row in found["school"] if row["id"] == id_)
    autumn = next(row for row in found["window"] if row["code"] == "2024-25/autumn")
    return Names(
        school={"id": id_, "urn": SCHOOLS[school], "laestab": laestab},
        trust=trust,
        pupil={"id": row["id"], "upn": row["upn"], "reference": row["reference"]},
        window=autumn["id"],
        window_code=autumn["code"],
        group=group["id"],
        discount=next(row["id"] for row in found["discount"] if row["schoolId"] == id_),
        subject="reading",
        aspect="main",
        scheme="house",
        ids={name: next(row["id"] for row in found[name] if not row.get("derived")) for name in ("subject", "aspect", "scheme")}
        | {"planned": next(row["id"] for row in found["plannedRoll"] if row["schoolId"] == id_)},
    )


_LATIN = """
WITH s AS (INSERT INTO subjects (tenant_id, id, no, code, name, derived) VALUES ('{tenant}', '{id_}', 99, 'latin', 'Latin', false))
INSERT INTO aspects (tenant_id, id, no, code, name, counted) VALUES ('{tenant}', '{aspect_id}', 99, 'oral', 'Oral', false)
"""


async def _foreign(world: World) -> Names:
    """What South alone has."""
    ref = {"trust": {"groupUid": TRUSTS["South"]}}
    await world.do("South", "create_scheme", {"tenant": ref, "code": "souths", "name": "South's", "template": "effort"})
    await world.as_superuser(_LATIN.format(tenant=world.tenants["South"], id_=new_id(6), aspect_id=new_id(11)))
    collects = [{"subject": "science", "scheme": "ks2-science-ta"}]
    opened = await world.do("South", "create_window", window(ref, SUMMER) | {"code": "souths", "collects": collects})
    await world.do("South", "open_window", {"id": opened["id"]})
    souths = await _names(world, "South", "Damson", {"id": str(world.tenants["South"]), "groupUid": TRUSTS["South"]})
    return replace(souths, window=opened["id"], window_code="souths", subject="latin", aspect="oral", scheme="souths")


ABSENT = Names(
    school={"id": str(new_id(3)), "urn": 199999, "laestab": "8509999"},
    trust={"id": str(new_id(1)), "groupUid": 4999},
    pupil={"id": str(new_id(4)), "upn": upn("Damson", 99), "reference": "nobody"},
    window=str(new_id(8)),
    window_code="nowhere",
    group=str(new_id(10)),
    discount=str(new_id(17)),
    subject="nothing",
    aspect="nothing",
    scheme="nothing",
    ids={"subject": str(new_id(6)), "aspect": str(new_id(11)), "scheme": str(new_id(7)), "planned": str(new_id(18))},
)


@asynccontextmanager
async def both_sides(databases: Databases) -> AsyncIterator[Sides]:
    """A new world, with row-level security and without."""
    world, statements = await build(databases), Statements()
    operator = await asyncpg.connect(databases.operator_url)
    credentials = {"North": (str(world.clients["North"].caller.client_id), world.clients["North"].secret)}
    for name in ("Alder", "Birch"):
        client_id, secret = await create_client(operator, name, "client_secret")
        await approve_grant(operator, client_id, parse_grant(f"school:{SCHOOLS[name]}=all"), purpose="tests", approved_by="tests")
        credentials[name] = str(client_id), str(secret)
    await operator.close()

    async def watch(connection: Any) -> None:
        connection.add_query_logger(statements.note)

    async with unwalled(databases) as url:
        without = await counting_database(statements).open(url, serving=False, on_connect=watch)
        http = {}
        for role, database in (("app", world.database), ("unwalled", without)):
            settings = Settings("", SECRET.encode(), BASE, rate=100_000, burst=1_000_000, cache_mb=0)
            transport = httpx2.ASGITransport(app=build_app(settings, database))
            for client, basic in credentials.items():
                http[role, client] = httpx2.AsyncClient(transport=transport, base_url=BASE)
                answer = await http[role, client].post("/oauth/token", data={"grant_type": "client_credentials"}, auth=basic)
                http[role, client].headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        north = {"id": str(world.tenants["North"]), "groupUid": TRUSTS["North"]}
        names = [await _names(world, "North", school, north) for school in ("Alder", "Birch")]
        yield Sides(world, http, statements, names[0], await _foreign(world), names[1], ABSENT)
        for client in http.values():
            await client.aclose()
        await without.close()
    await world.database.close()
