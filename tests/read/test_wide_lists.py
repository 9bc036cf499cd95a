"""What lists over a wide reach cost, as EXPLAIN counts it: a trust of 60 more schools, whose statistics PostgreSQL has."""

import re
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from domain.read.explain import Explanation, RecordingDatabase, open_recording_database
from domain.store.embedded import SUPERUSER
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import BASE, Trust

SCHOOLS, PUPILS = 60, 100
DATA = f"""
INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, status)
SELECT gen_random_uuid(), $1, 200000 + n, 'S' || n, '936', 'Surrey', 'open' FROM generate_series(1, {SCHOOLS}) n;
INSERT INTO reach (client_id, tenant_id, school_id, grant_id, scopes, starts_at, ends_at)
SELECT r.client_id, s.tenant_id, s.id, r.grant_id, r.scopes, r.starts_at, r.ends_at FROM schools s, (SELECT * FROM reach LIMIT 1) r WHERE s.urn > 200000;
UPDATE clients SET reach_version = reach_version + 1;
INSERT INTO pupils (tenant_id, id, school_id, surname, forename, date_of_birth, sex, year_group, surname_folded, forename_folded, surname_key, forename_key)
SELECT s.tenant_id, gen_random_uuid(), s.id, n, n, '2010-01-01', 'F', '6', n, n, n, n
FROM schools s, generate_series(1, {PUPILS}) i, LATERAL (SELECT md5(s.urn || '-' || i) AS n) x WHERE s.urn > 200000;
INSERT INTO enrolments (tenant_id, id, pupil_id, school_id, status, from_on)
SELECT tenant_id, gen_random_uuid(), id, school_id, 'C', '2016-09-01' FROM pupils
"""


class Wide:
    """A client who reaches all the schools, and how PostgreSQL answers it."""

    def __init__(self, database: RecordingDatabase, http: httpx2.AsyncClient) -> None:
        self._database = database
        self._http = http

    async def explain(self, where: dict[str, Any] | None = None, **query: Any) -> Explanation:
        """How a list of pupils is read, or a lookup."""
        for _ in range(2):  # the first request reads the reach too
            self._database.recorded = []
            if where is None:
                answer = await self._http.get("/v1/pupils", params={"fields": "id", **query})
            else:
                answer = await self._http.post("/v1/pupils/lookup", json={"where": where, "fields": ["id"]})
            assert answer.status_code == 200, answer.text
            assert answer.json()["data"]
        statement = max(self._database.recorded or [], key=lambda read: len(read[0]))
        self._database.recorded = None
        await self._database.explain(*statement)
        return await self._database.explain(*statement)


@pytest_asyncio.fixture
async def wide(small_trust: Trust, vendor: httpx2.AsyncClient) -> AsyncIterator[Wide]:
    superuser = await asyncpg.connect(small_trust.databases.cluster.url(small_trust.databases.name, SUPERUSER))
    for statement in DATA.replace("$1", f"'{small_trust.ids['trust']}'").split(";\n"):
        await superuser.execute(statement)
    await superuser.execute("ANALYZE")
    await superuser.close()
    database = await open_recording_database(small_trust.databases.app_url, 100)
    app = build_app(
        Settings(small_trust.databases.app_url, SECRET.encode(), BASE, rate=100_000, burst=1_000_000, cache_mb=0), database
    )
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE, headers=vendor.headers) as http:
        yield Wide(database, http)
    await database.close()


def count_buffers(explained: Explanation) -> int:
    return int(re.findall(r"Buffers: shared hit=(\d+)", "\n".join(explained.plan))[0])


async def test_who_is_on_roll_is_one_search_of_an_index_for_each_pupil(wide: Wide) -> None:
    for query in ({"sort": "-enrolmentStatus"}, {"sort": "surname", "onRoll": "true"}):
        explained = await wide.explain(**query)
        searches = [int(n) for n in re.findall(r"Index Searches: (\d+)", "\n".join(explained.plan))]
        assert max(searches) <= SCHOOLS * PUPILS, "an index that begins with tenant and school is searched for each school"
        assert count_buffers(explained) < 20 * SCHOOLS * PUPILS


async def test_the_beginning_of_a_name_is_found_by_an_index_that_begins_with_the_tenant(small_trust: Trust, wide: Wide) -> None:
    for where in ({"surname": "a1*"}, {"surname": "a1*", "forename": "a1*"}):
        plan = "\n".join((await wide.explain(where)).plan)
        index = re.search(r"Index (?:Only )?Scan using (\w+) on pupils pupils1 .*\n +Index Cond: .*surname_folded >= ", plan)
        assert index is not None, plan
        definition = await small_trust.value("SELECT pg_get_indexdef($1::text::regclass)", index[1])
        assert re.search(r"\(tenant_id, .*surname_folded", definition)
