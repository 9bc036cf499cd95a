"""How many rows and buffers the main reads touch, as EXPLAIN counts them: as many for a client of one tenant in a database of many as where it is
alone, and for a client of many tenants no more than its answer needs.

The plans of the commonest reads are committed in expected/plans, so that a slower one is seen as a diff. `make attack` compares them.
"""

import math
import os
import re
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx2
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from domain.read.explain import RecordingDatabase, open_recording_database
from tests.fixtures.golden import check_costly_golden
from tests.fixtures.many_tenants import add_schools, add_tenants, let_reach
from tests.fixtures.settings import ROOT, SECRET
from tests.fixtures.sizes import choose_size
from tests.fixtures.small_trust import BASE, SCALED, WINDOW, Trust, opened

TENANTS, PUPILS = 500, choose_size(16, 40)
"""With the full number the trust is a tenant of average size, as the plans presume."""
CODES = f"windowCode={WINDOW}&subjectCode=reading"
READS = {
    "one pupil": "/v1/pupils/{id}?include=latestJudgements,currentTargets&fields=id,latestJudgements.grade,latestJudgements.subjectCode,currentTargets.grade",
    "pupils": "/v1/pupils?first=20&fields=id,forename,school.name&include=school",
    "pupils after others": "/v1/pupils?first=20&fields=id,forename&after={cursor}",
    "pupils by name": "/v1/pupils?first=20&fields=id&sort=surname",
    "pupils after others by name": "/v1/pupils?first=20&fields=id&sort=surname,forename&after={by_name}",
    "pupils by preferred name": "/v1/pupils?first=20&fields=id&sort=preferredSurname",
    "judgements": "/v1/judgements?first=10",
    "judgements by code": f"/v1/judgements?first=10&{CODES}",
    "judgements by codes": f"/v1/judgements?first=10&{CODES}&subjectCode=maths",
    "targets": "/v1/targets?first=10&subjectCode=reading",
    "targets by scheme": f"/v1/targets?first=10&schemeCode={SCALED}",
    "receipts": "/v1/receipts?first=10",
    "returns": "/v1/returns?first=10&fields=schoolId,subject,expected,received",
    "returns of a window": f"/v1/returns?first=10&windowCode={WINDOW}&fields=schoolId,subject,expected,received",
}


CHECKS = 600
"""Rows of reach that the checks of one statement may read: the table is so small here that each check scans it."""
SORTED = {"targets"}
"""Beside tenants of 16 pupils the planner takes the trust for one of them, and sorts its 300 targets of a subject in place of walking an index."""
PLANNED = ("one pupil", "pupils", "pupils after others", "judgements", "returns of a window")
"""The reads whose plans are committed."""
PLANS = ROOT / "expected" / "plans"
EXACT = 9
"""Up to so many rows a plan says exactly; of more only the power of two, since random ids move them a little."""


@dataclass(frozen=True)
class Touched:
    """What a read touched: rows of tables, those that a condition left out among them; buffers; and the rows of its answer."""

    rows: int
    buffers: int
    answered: int
    plan: str = field(default="", compare=False, repr=False)


class Explained:
    """Clients of one database, and how PostgreSQL answers them."""

    def __init__(self, trust: Trust, database: RecordingDatabase, clients: dict[str, httpx2.AsyncClient]) -> None:
        self.trust = trust
        self._database = database
        self._clients = clients

    async def touch(self, client: str, reads: Iterable[str] = READS) -> dict[str, Touched]:
        http = self._clients[client]
        page = (await http.get("/v1/pupils?first=30&fields=id")).json()
        by_name = (await http.get("/v1/pupils?first=30&fields=id&sort=surname,forename")).json()
        names = {"id": page["data"][0]["id"], "cursor": page["page"]["endCursor"], "by_name": by_name["page"]["endCursor"]}
        return {name: await self._explain(http, READS[name].format(**names)) for name in reads}

    async def _explain(self, http: httpx2.AsyncClient, path: str) -> Touched:
        for _ in range(2):  # the first request reads the reach too
            self._database.recorded = []
            answer = await http.get(path)
            assert answer.status_code == 200, answer.text
        statement = max(self._database.recorded or [], key=lambda read: len(read[0]))
        self._database.recorded = None
        await self._database.explain(*statement)  # the first time reads the catalogue too
        plan = (await self._database.explain(*statement)).plan
        rows, loops = 0.0, 1
        for line in plan:
            if found := re.search(r"\(actual .*rows=([\d.]+) loops=(\d+)\)", line):
                loops = int(found[2])
                rows += float(found[1]) * loops if " Scan " in line and "Bitmap Index" not in line else 0
            elif found := re.search(r"Rows Removed by (?:Index Recheck|Filter|Join Filter): (\d+)", line):
                rows += int(found[1]) * loops
        buffers = sum(map(int, re.findall(r"(?:hit|read)=(\d+)", next(line for line in plan if "Buffers:" in line))))
        return Touched(round(rows), buffers, len(answer.json().get("data", [answer])), outline_plan(plan))


def outline_plan(plan: list[str]) -> str:
    """The nodes of a plan that ran, with the rows that each gave in all its loops."""
    lines = []
    for line in plan:
        found = re.match(r"( *)(?:->  )?(.*?)  \(.*\(actual .*rows=([\d.]+) loops=(\d+)\)", line)
        if found:
            indent, node, rows, loops = found[1], found[2], float(found[3]), int(found[4])
            lines.append(
                f"{indent}{re.sub(' on [a-z_]+ [a-z_0-9]+$', lambda name: name[0].rpartition(' ')[0], node)}: {round_rows(rows * loops)}"
            )
    return "\n".join(lines) + "\n"


def round_rows(rows: float) -> str:
    whole = round(rows)
    return str(whole) if whole <= EXACT else f"about {2 ** round(math.log2(whole))}"


@pytest_asyncio.fixture
async def explained(small_trust: Trust, vendor: httpx2.AsyncClient) -> AsyncIterator[Explained]:
    """A trust of 23 schools, and its clients: one, and one that shall reach more."""
    broad = await small_trust.client("broad", "trust:4128=all")
    await opened(vendor)
    await opened(vendor, "2018-19/KS2", academicYear="2018-19", censusOn="2019-05-14")
    await add_schools(small_trust.databases, small_trust.ids["trust"], schools=20, pupils=15)
    await reach(small_trust, "vendor", [small_trust.ids["trust"]])
    database = await open_recording_database(small_trust.databases.app_url, 100)
    app = build_app(
        Settings(small_trust.databases.app_url, SECRET.encode(), BASE, rate=100_000, burst=1_000_000, cache_mb=0), database
    )
    transport = httpx2.ASGITransport(app)
    async with (
        httpx2.AsyncClient(transport=transport, base_url=BASE, headers=vendor.headers) as one,
        httpx2.AsyncClient(transport=transport, base_url=BASE, headers=broad.headers) as many,
    ):
        yield Explained(small_trust, database, {"one": one, "many": many})
    await database.close()


async def reach(trust: Trust, client: str, tenants: list[UUID]) -> None:
    await let_reach(trust.databases, UUID(trust.credentials[client][0]), tenants)


async def test_what_is_read_is_in_proportion_to_the_answer(explained: Explained) -> None:
    trust = explained.trust
    alone = await explained.touch("one")
    tenants = await add_tenants(trust.databases, trust.ids["trust"], TENANTS, pupils=PUPILS)
    among_many = await explained.touch("one")
    grown: dict[str, Any] = {
        name: (before, after)
        for name, before in alone.items()
        for after in (among_many[name],)
        if name not in SORTED
        if after.rows > 1.1 * before.rows + 200
        or after.buffers > 1.5 * before.buffers + 20  # an index of more rows is a page deeper
    }
    assert grown == {}
    assert {
        name: read for name, read in among_many.items() if name not in SORTED and read.rows > 100 * read.answered + CHECKS
    } == {}

    await reach(trust, "broad", [trust.ids["trust"], *tenants])
    broad = await explained.touch("many")
    by_name = {name for name in READS if "name" in name}
    few = {name: read for name, read in broad.items() if name not in by_name}
    assert {name: read for name, read in few.items() if read.rows > 100 * read.answered + 5 * TENANTS} == {}
    if choose_size(0, 1) and os.environ.get("MARKONCE_POSTGRES") != "system":  # another version plans otherwise
        for name, read in (await explained.touch("one", PLANNED)).items():
            check_costly_golden(PLANS / f"{name.replace(' ', '_')}.txt", read.plan)
