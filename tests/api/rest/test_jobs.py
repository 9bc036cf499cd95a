"""Streams that are too long to be answered at once: staged, applied school by school, resumed and read by their client alone."""

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from api.rest.streams import make_row_reader
from domain import COMMANDS, RESOURCES
from domain.jobs import apply, staging
from domain.jobs.worker import Worker
from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import TRUST, URNS, WINDOW, Trust, asked, batch, entry, judged, open_trust, opened, roll, sent, upn

NDJSON, CSV = "application/x-ndjson", "text/csv"
JUDGEMENTS = f"/v1/judgements?window={WINDOW}"
AT_ONCE = 5


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_trust(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as made:
        app: Any = made.transport.app
        app.state.settings = replace(app.state.settings, stream_rows=AT_ONCE)
        vendor = await made.client("vendor", f"trust:{TRUST}=all", f"school:{URNS['Quay']}=all")
        await made.client("other", f"trust:{TRUST}=all")
        await opened(vendor)
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(8)]))
        await sent(vendor, "/v1/pupils", roll("Elm", [entry(n) for n in range(8, 12)]))
        await sent(vendor, "/v1/pupils", roll("Quay", [entry(n) for n in range(12, 14)]))
        yield made


@pytest.fixture
def vendor(small_trust: Trust) -> Any:
    return small_trust.made[0]


@pytest.fixture
def worker(small_trust: Trust) -> Worker:
    return Worker(small_trust.database, COMMANDS, make_row_reader, 100)


def row(number: int, school: str | None = None, **changed: Any) -> dict[str, Any]:
    at = school or ("Oak" if number < 8 else "Elm" if number < 12 else "Quay")
    return judged(number, school={"urn": URNS[at]}, **changed)


def lines(rows: list[Any]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in rows)


async def streamed(client: Any, path: str, content: Any, status: int = 202, kind: str = NDJSON, **headers: str) -> Any:
    fields = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = await client.post(path, content=content, headers=fields)
    assert answer.status_code == status, answer.text[:2000]
    return answer


async def finished(client: Any, worker: Worker, answer: Any) -> Any:
    while await worker.apply_once():
        pass
    job = (await client.get(answer.headers["location"])).json()
    assert job["state"] in ("done", "failed"), job
    return job


def outcomes(job: dict[str, Any]) -> dict[str, int]:
    named = {name: job[name] for name in ("created", "updated", "unchanged", "superseded", "withdrawn", "rejected")}
    assert job["received"] == job["rowsDone"] == sum(named.values()) == job["rows"]
    return {name: count for name, count in named.items() if count}


async def test_a_long_stream_is_applied_school_by_school(small_trust: Trust, vendor: Any, worker: Worker) -> None:
    """Strict for each school: Oak has a bad row and nothing of it is written; Elm, and Quay of another tenant, are written."""
    rows = [*(row(n) for n in range(13)), row(3, grade="zz"), row(1, school="Ash"), judged(1, school={"urn": 999999})]
    small_trust.statements.log.clear() if hasattr(small_trust.statements, "log") else None
    answer = await streamed(vendor, JUDGEMENTS, lines(rows), Prefer="handling=strict")
    job = answer.json()
    assert (job["state"], job["rows"], job["rowsDone"], job["handling"], job["handledPer"]) == ("queued", 16, 0, "strict", "school")
    assert (answer.headers["preference-applied"], answer.headers["cache-control"]) == ("handling=strict", "no-store")
    job = await finished(vendor, worker, answer)
    assert outcomes(job) == {"created": 5, "rejected": 11}
    by_school = {each["schoolId"]: (each["state"], each["created"], each["rejected"]) for each in job["schools"]}
    ids = {name: str(small_trust.ids[name]) for name in ("Oak", "Elm", "Ash", "Quay")}
    assert by_school == {
        ids["Oak"]: ("refused", 0, 9),
        ids["Elm"]: ("applied", 4, 0),
        ids["Quay"]: ("refused", 0, 1) if by_school[ids["Quay"]][0] == "refused" else ("applied", 1, 0),
        ids["Ash"]: ("refused", 0, 1),
        None: ("refused", 0, 1),
    }
    assert await small_trust.value("SELECT count(*) FROM staged_rows") == 0
    assert await small_trust.value("SELECT sum(staged_bytes) FROM jobs") == 0
