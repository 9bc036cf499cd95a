"""Writes of judgements and targets read no table from end to end: in a trust of 1,200 judged pupils a row that is written reads those of its pupil and school.

PostgreSQL itself counts the rows that sequential scans read. A session says them when it ends, so each write has a pool of its own.
"""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import httpx2
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from domain.store.embedded import SUPERUSER
from tests.fixtures.databases import Statements, open_counted
from tests.fixtures.many_tenants import add_schools
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import BASE, SCALED, URNS, Trust, batch, entry, judged, opened, roll, sent

GRADES = "UPDATE judgements SET grade_no = 1 + abs(hashtext(pupil_id::text || subject_no)) % 5"
"""Many tuples of grades, and so many cells."""
COUNTED = "SELECT rebuild_cells($1, ARRAY(SELECT id FROM schools WHERE tenant_id = $1), ARRAY(SELECT no FROM windows WHERE tenant_id = $1))"
SCANNED = "SELECT relname, seq_tup_read FROM pg_stat_user_tables"
FEW = 500
"""Rows that a write may read of tables that do not grow with the pupils: twice the grades of the trust's schemes, the most of them."""


@pytest_asyncio.fixture
async def grown(small_trust: Trust, vendor: httpx2.AsyncClient) -> AsyncIterator[Trust]:
    await opened(vendor)
    await add_schools(small_trust.databases, small_trust.ids["trust"], schools=40, pupils=30)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(1, 4)]))
    connection = await asyncpg.connect(small_trust.databases.cluster.url(small_trust.databases.name, SUPERUSER))
    await connection.execute(GRADES)
    await connection.execute(COUNTED, small_trust.ids["trust"])
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    yield small_trust


async def count_scanned(trust: Trust) -> dict[str, int]:
    return {row["relname"]: row["seq_tup_read"] for row in await trust.operator.fetch(SCANNED)}


async def test_a_write_scans_no_table_that_grows(grown: Trust, vendor: httpx2.AsyncClient) -> None:
    target = {
        "subject": "reading",
        "scheme": SCALED,
        "grade": 105,
        "horizon": {"academicYear": "2017-18", "point": "KS2"},
        "basis": "teacher",
    }
    writes: dict[str, tuple[str, Any]] = {
        "a judgement": ("/v1/judgements", batch("Oak", [judged(1)])),
        "another grade": ("/v1/judgements", batch("Oak", [judged(1, grade=110)])),
        "several": ("/v1/judgements", batch("Oak", [judged(n, s) for n in (1, 2, 3) for s in ("reading", "maths", "gps")])),
        "a target": ("/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": [{"reference": "P1"} | target]}),
    }
    scanned = {}
    for name, (path, body) in writes.items():
        before = await count_scanned(grown)
        database = await open_counted(Statements(), grown.databases.app_url)
        app = build_app(Settings(grown.databases.app_url, SECRET.encode(), BASE, cache_mb=0), database)
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE, headers=vendor.headers) as client:
            await sent(client, path, body)
        await database.close()
        after = await count_scanned(grown)
        scanned |= {(name, table): rows - before[table] for table, rows in after.items() if rows - before[table] > 0}
    assert {found: rows for found, rows in scanned.items() if rows > FEW} == {}
