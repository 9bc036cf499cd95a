"""Streams that are too long to be answered at once: staged, applied school by school, resumed and read by their client alone."""

import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from api.rest.streams import make_row_reader
from domain import COMMANDS
from domain.jobs import apply, staging
from domain.jobs.job import CLEANUP
from domain.jobs.worker import Worker
from domain.store.cleanup import clean_up
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
        await opened(vendor, tenant={"school": {"urn": URNS["Quay"]}})
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
    answer = await streamed(vendor, JUDGEMENTS, lines(rows), Prefer="handling=strict")
    job = answer.json()
    assert (job["state"], job["rows"], job["rowsDone"], job["handling"], job["handledPer"]) == ("queued", 16, 0, "strict", "school")
    assert (answer.headers["preference-applied"], answer.headers["cache-control"]) == ("handling=strict", "no-store")
    assert await small_trust.value("SELECT count(*) FROM staged_rows") == 16
    job = await finished(vendor, worker, answer)
    assert outcomes(job) == {"created": 5, "rejected": 11}
    by_school = {each["schoolId"]: (each["state"], each["created"], each["rejected"]) for each in job["schools"]}
    ids = {name: str(small_trust.ids[name]) for name in ("Oak", "Elm", "Ash", "Quay")}
    assert by_school == {
        ids["Oak"]: ("refused", 0, 9),
        ids["Elm"]: ("applied", 4, 0),
        ids["Quay"]: ("applied", 1, 0),
        ids["Ash"]: ("refused", 0, 1),
        None: ("refused", 0, 1),
    }
    found = [(issue["at"], issue["code"], issue["line"]) for issue in job["issues"]]
    assert found == [
        ("/entries/13/grade", "grade-unknown", 14),
        ("/entries/13", "duplicate-in-batch", 14),
        ("/entries/14/reference", "pupil-not-found", 15),
        ("/entries/15/school", "school-not-found", 16),
    ]
    assert job["issues"][1]["message"].endswith("are already in /entries/3.")
    assert job["issueCount"] == 4
    assert await small_trust.value("SELECT count(*) FROM staged_rows") == 0
    assert await small_trust.value("SELECT sum(staged_bytes) FROM jobs") == 0
    asked_of = {"rejected.gt": "0", "operation": "recordJudgements", "fields": "rejected,schoolId"}
    told = (await vendor.get("/v1/receipts", params=asked_of)).json()["data"]
    assert sum(each["rejected"] for each in told if each["schoolId"] == ids["Oak"]) == 9


async def test_rows_and_issues_are_those_of_json(vendor: Any, worker: Worker) -> None:
    rows: list[Any] = [
        row(0, subject="maths"),
        row(1, grade="xx"),
        row(2, unknown=1),
        5,
        row(3, subject="maths"),
        row(3, subject="maths"),
    ]
    rows += [row(4, grade=None, status="absent", subject="maths"), {**row(5), "reference": None}]
    told = await sent(vendor, "/v1/judgements?dryRun=true", batch("Oak", rows), Prefer="handling=lenient")
    answer = await streamed(vendor, f"{JUDGEMENTS}&school={URNS['Oak']}", b"\n" + lines(rows), Prefer="handling=lenient")
    job = await finished(vendor, worker, answer)
    shown = [{k: v for k, v in issue.items() if k != "line"} for issue in job["issues"]]
    assert shown == [{k: v for k, v in issue.items() if k != "reference"} for issue in told["issues"]]
    assert [issue["line"] for issue in job["issues"]] == [int(issue["at"].split("/")[2]) + 2 for issue in told["issues"]]
    assert outcomes(job) == {name: told[name] for name in ("created", "rejected")}
    pages, after, part = [], None, job
    while after is None or part["page"]["hasMore"]:
        params = {"first": 2} | ({"after": after} if after else {})
        part = (await vendor.get(answer.headers["location"], params=params)).json()
        after = part["page"]["endCursor"]
        pages.append(part["issues"])
    assert [issue for page in pages for issue in page] == job["issues"]
    assert len(pages) > 2
    assert (await vendor.get(answer.headers["location"], params={"after": "x"})).status_code == 400


async def test_a_job_is_its_clients_own(small_trust: Trust, vendor: Any, worker: Worker) -> None:
    other = small_trust.made[1]
    answer = await streamed(vendor, JUDGEMENTS, lines([row(n, subject="gps") for n in range(8)]))
    path = answer.headers["location"]
    job_id = path.rsplit("/")[-1]
    absent, foreign = await other.get("/v1/jobs/019a5c1e-7c00-7013-8c1f-3f2a9d5b6e70"), await other.get(path)
    assert (foreign.status_code, foreign.content) == (404, absent.content)
    assert (await vendor.get("/v1/jobs/nonsense")).status_code == 404
    query = "query($id: ID!) { job(id: $id) { id state rows handling schools { schoolId received } issues { at line } page { hasMore } } }"
    assert (await asked(other, query, id=job_id))["job"] is None
    told = (await asked(vendor, query, id=job_id))["job"]
    assert (told["id"], told["state"], told["rows"], told["schools"][0]["received"]) == (job_id, "queued", 8, 8)
    for table in ("jobs", "job_parts", "job_schools", "staged_rows", "job_issues"):
        columns = f"SELECT count(*) FROM {table}"
        client_id = small_trust.credentials["other"][0]
        seen = await small_trust.database.run_transaction(UUID(client_id), lambda c, q=columns: c.fetchval(q))
        assert seen == 0, table
    assert outcomes(await finished(vendor, worker, answer)) == {"created": 8}


async def test_a_worker_that_is_killed_loses_and_doubles_nothing(
    small_trust: Trust, vendor: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before and after the rows of a school are written, and after they are committed."""
    rows = [row(n, subject="science", grade="EXS") for n in range(12)]
    answer = await streamed(vendor, JUDGEMENTS, lines(rows))
    before = await small_trust.value("SELECT count(*) FROM judgements")

    class Killed(BaseException):
        pass

    async def die(*_: Any, **__: Any) -> None:
        raise Killed

    for name in ("_note", "perform"):
        with monkeypatch.context() as patched:
            patched.setattr(apply, name, die)
            with pytest.raises(Killed):
                await worker.apply_once()
        assert await small_trust.value("SELECT count(*) FROM judgements") == before
        assert not await worker.apply_once()  # the job is still claimed
        await small_trust.operator.execute("UPDATE jobs SET leased_until = clock_timestamp()")
    with monkeypatch.context() as patched:
        whole = small_trust.database.run_transaction

        async def die_at_release(caller: Any, work: Any, *rest: Any) -> Any:
            if await small_trust.value("SELECT count(*) FROM judgements") > before:
                raise Killed
            return await whole(caller, work, *rest)

        patched.setattr(small_trust.database, "run_transaction", die_at_release)
        with pytest.raises(Killed):
            await worker.apply_once()
    await small_trust.operator.execute("UPDATE jobs SET leased_until = clock_timestamp()")
    assert outcomes(await finished(vendor, worker, answer)) == {"created": 12}
    assert await small_trust.value("SELECT count(*) FROM judgements") == before + 12
    assert await small_trust.value("SELECT count(*) FROM judgement_history WHERE version > 1") == 0
    assert outcomes(await finished(vendor, worker, await streamed(vendor, JUDGEMENTS, lines(rows)))) == {"unchanged": 12}


async def cut(client: Any, path: str, pieces: list[bytes], headers: dict[str, str]) -> int:
    """The status of a request whose client breaks the connection after these pieces."""
    app, messages = client._transport.app, [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    url = client.build_request("POST", path).url
    fields = {**headers, "authorization": client.headers["authorization"], "host": url.host, "transfer-encoding": "chunked"}
    scope = {
        **{"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "root_path": ""},
        **{
            "path": url.path,
            "raw_path": url.raw_path.split(b"?")[0],
            "query_string": url.query,
            "client": ("127.0.0.1", 1),
            "server": ("x", 80),
        },
        "headers": [(name.lower().encode(), value.encode()) for name, value in fields.items()],
    }
    statuses = []

    async def receive() -> Any:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(scope, receive, send)
    return int(statuses[0])


async def test_a_stream_that_broke_off_goes_on_by_its_key(
    small_trust: Trust, vendor: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staging, "ROWS_PER_PART", 3)
    content = lines([row(n, subject="writing", grade="EXS") for n in range(12)])
    headers = {"Content-Type": NDJSON, "Idempotency-Key": "night-1", "Prefer": "respond-async"}
    path = f"{JUDGEMENTS}&school={URNS['Oak']}"
    assert await cut(vendor, path, [content[:400], content[400:700]], headers) == 400
    first = await small_trust.operator.fetchrow("SELECT id, state, row_count FROM jobs WHERE key = 'night-1'")
    assert first["state"] == "receiving"
    assert 0 < first["row_count"] < 12
    assert not await worker.apply_once()  # nothing is applied of a stream that is not whole
    other = await streamed(vendor, path, content.replace(b"EXS", b"GDS"), 422, Idempotency_Key="night-1")
    assert other.json()["type"].endswith("/idempotency-key-reused")
    head = await streamed(vendor, JUDGEMENTS, content, 422, Idempotency_Key="night-1")
    assert head.json()["type"].endswith("/idempotency-key-reused")
    assert await small_trust.value("SELECT row_count FROM jobs WHERE key = 'night-1'") == first["row_count"]
    answer = await streamed(vendor, path, gzip.compress(content), Idempotency_Key="night-1", Content_Encoding="gzip")
    assert answer.json()["id"] == str(first["id"])
    assert "idempotency-replayed" not in answer.headers
    assert await small_trust.value("SELECT count(*) FROM staged_rows") == 12
    again = await streamed(vendor, path, content, Idempotency_Key="night-1")
    assert (again.headers["idempotency-replayed"], again.json()["id"]) == ("true", str(first["id"]))
    assert outcomes(await finished(vendor, worker, answer)) == {"created": 12}
    assert (await streamed(vendor, path, content, Idempotency_Key="night-1")).json()["state"] == "done"
    shorter = await streamed(
        vendor, path, lines([row(n, subject="writing", grade="EXS") for n in range(11)]), 422, Idempotency_Key="night-1"
    )
    assert shorter.json()["type"].endswith("/idempotency-key-reused")
    small = await streamed(vendor, path, lines([row(1)]), 422, Idempotency_Key="night-1")
    assert small.json()["type"].endswith("/idempotency-key-reused")
    kept = (await vendor.get("/v1/idempotency-keys/night-1")).json()["data"]
    assert kept[0]["answer"] == {"job": str(first["id"])}


async def test_without_a_key_a_stream_that_broke_off_leaves_nothing(small_trust: Trust, vendor: Any) -> None:
    before = await small_trust.value("SELECT count(*) FROM jobs")
    content = lines([row(n, subject="writing") for n in range(12)])
    assert await cut(vendor, JUDGEMENTS, [content], {"Content-Type": NDJSON}) == 400
    bad = "reference,subject,grade\n" + "P0,maths,100\n" * 9 + '"'
    answer = await streamed(vendor, f"{JUDGEMENTS}&school={URNS['Oak']}", bad.encode(), 400, CSV, Idempotency_Key="bad-csv")
    assert answer.json()["type"].endswith("/csv-malformed")
    assert await small_trust.value("SELECT count(*) FROM jobs") == before
    faulty = await streamed(vendor, "/v1/pupils?asOf=soon", lines([entry(n) for n in range(8)]), 422)
    assert [(issue["at"], issue["code"]) for issue in faulty.json()["issues"]] == [("asOf", "wrong-value")]
    dry = await streamed(vendor, f"{JUDGEMENTS}&dryRun=true", content, 422)
    assert [(issue["at"], issue["code"]) for issue in dry.json()["issues"]] == [("dryRun", "too-many-entries")]
    assert await small_trust.value("SELECT count(*) FROM jobs") == before


async def test_staging_of_all_clients_is_bounded(small_trust: Trust, vendor: Any) -> None:
    app: Any = small_trust.transport.app
    settings = app.state.settings
    app.state.settings = replace(settings, staging_mb=1)
    try:
        rows = lines([row(n % 8, actor="x" * 190, source="y" * 190, method="z" * 190) for n in range(2_000)])
        answer = await streamed(vendor, JUDGEMENTS, rows, 507, Idempotency_Key="too-much")
        assert answer.json()["type"].endswith("/staging-full")
        assert int(answer.headers["retry-after"]) > 0
        assert await small_trust.value("SELECT count(*) FROM jobs WHERE key = 'too-much'") == 0
        assert await small_trust.value("SELECT count_staged_bytes()") == 0
    finally:
        app.state.settings = settings


async def test_a_stream_needs_the_memory_of_a_part(small_trust: Trust, vendor: Any) -> None:
    """In bytes held while 30 MB are staged, which arrive as fast as they are taken."""
    each = lines([row(n % 8, actor="x" * 190, source="y" * 190, method="z" * 190) for n in range(1_000)])

    async def content() -> AsyncIterator[bytes]:
        for _ in range(45):
            yield each

    tracemalloc.start()
    answer = await streamed(vendor, JUDGEMENTS, content())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert answer.json()["decodedBytes"] == 45 * len(each) > 28_000_000
    assert answer.json()["rows"] == 45_000
    assert peak < 16 * 1024 * 1024 + 14_000_000, peak  # what an ordinary body may have is kept until it is known to be longer
    await small_trust.operator.execute("DELETE FROM jobs WHERE id::text = $1", answer.json()["id"])


async def test_a_job_ends_with_the_grants_of_its_client(small_trust: Trust, worker: Worker) -> None:
    lapsed = await small_trust.client("lapsed", f"school:{URNS['Oak']}=all")
    answer = await streamed(lapsed, JUDGEMENTS, lines([row(n, subject="maths") for n in range(8)]))
    client_id = small_trust.credentials["lapsed"][0]
    revoke = "UPDATE grants SET revoked_at = now() WHERE client_id::text = $1"
    await small_trust.operator.execute(revoke, client_id)
    await small_trust.operator.execute("SELECT derive_reach(ARRAY[$1::text::uuid])", client_id)
    while await worker.apply_once():
        pass
    stored = await small_trust.operator.fetchrow("SELECT state, problem FROM jobs WHERE client_id::text = $1", client_id)
    assert tuple(stored) == ("failed", "grant-ended")
    assert (await lapsed.get(answer.headers["location"])).status_code == 403
    assert await small_trust.value("SELECT count(*) FROM judgements WHERE client_id::text = $1", client_id) == 0
    assert await small_trust.value("SELECT count(*) FROM staged_rows WHERE client_id::text = $1", client_id) == 0


async def test_rolls_of_several_schools_are_whole_each_for_itself(small_trust: Trust, vendor: Any, worker: Worker) -> None:
    header = "school.urn,reference,upn,surname,forename,dateOfBirth,sex,yearGroup,enrolments.0.from,enrolments.0.status\n"
    pupils = [(URNS["Oak"], n) for n in range(30, 34)] + [(URNS["Elm"], n) for n in range(8, 12)]
    cells = [f"{urn},P{n},{upn(n)},Surname{n},Sam,2007-01-01,{'FM'[n % 2]},6,2014-09-01,C\n" for urn, n in reversed(pupils)]
    path = "/v1/pupils?asOf=2018-05-20&complete=true&maxLeavers=100"
    job = await finished(vendor, worker, await streamed(vendor, path, (header + "".join(cells)).encode(), 202, CSV))
    by_school = {each["schoolId"]: (each["state"], each["created"], each["left"]) for each in job["schools"]}
    assert by_school == {str(small_trust.ids["Oak"]): ("applied", 4, 8), str(small_trust.ids["Elm"]): ("applied", 0, 0)}
    assert job["left"] == 8
    for bad in (",P8,,,,,,,,\n", "999999,P9,,,,,,,,\n", "x\n"):
        content = (header + cells[0] + bad).encode()
        answer = await streamed(vendor, path, content, 202, CSV, Prefer="respond-async, handling=lenient")
        job = await finished(vendor, worker, answer)
        assert ({each["state"] for each in job["schools"]}, job["left"]) == ({"refused"}, 0)
        assert "row-of-nobody" in {issue["code"] for issue in job["issues"]}


async def test_a_line_that_names_nobody_ends_nobody(vendor: Any) -> None:
    path = f"/v1/pupils?school={URNS['Elm']}&asOf=2018-05-20&complete=true&maxLeavers=100&dryRun=true"
    good = entry(8, enrolments=None)
    left = await streamed(vendor, path, lines([good]), 200, Prefer="handling=lenient")
    assert left.json()["left"] == 3
    for bad in (b'{"reference": "P9",\n', b"5\n"):
        answer = await streamed(vendor, path, lines([good]) + bad, 400 if b"{" in bad else 422, Prefer="handling=lenient")
        assert ("complete", "row-of-nobody") in {(issue["at"], issue["code"]) for issue in answer.json()["issues"]}


async def test_short_streams_are_jobs_when_that_is_preferred(vendor: Any, worker: Worker) -> None:
    path = f"{JUDGEMENTS}&school={URNS['Elm']}"
    answer = await streamed(vendor, path, lines([judged(8, "maths")]), Prefer="respond-async, handling=lenient")
    assert answer.headers["preference-applied"] == "handling=lenient, respond-async"
    second = await streamed(vendor, path, lines([judged(9, "maths")]), Prefer="respond-async")
    assert await worker.apply_once()  # a client's jobs are applied one after another
    states = [(await vendor.get(each.headers["location"])).json()["state"] for each in (answer, second)]
    assert states == ["done", "queued"]
    assert outcomes(await finished(vendor, worker, second)) == {"created": 1}


async def test_nothing_is_staged_for_longer_than_a_day(small_trust: Trust, vendor: Any) -> None:
    answer = await streamed(vendor, JUDGEMENTS, lines([row(n, subject="maths") for n in range(9)]))
    await clean_up(small_trust.database, CLEANUP)
    assert await small_trust.value("SELECT count(*) FROM staged_rows") == 9
    await small_trust.operator.execute("UPDATE jobs SET created_at = created_at - interval '23 hours'")
    await clean_up(small_trust.database, CLEANUP)
    assert await small_trust.value("SELECT count(*) FROM staged_rows") == 0
    job = (await vendor.get(answer.headers["location"])).json()
    assert (job["state"], job["problem"]) == ("failed", "busy")
    await small_trust.operator.execute("UPDATE jobs SET finished_at = finished_at - interval '7 days'")
    await clean_up(small_trust.database, CLEANUP)
    assert await small_trust.value("SELECT count(*) FROM job_schools") == 0
