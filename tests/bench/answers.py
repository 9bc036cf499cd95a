"""Before anything is measured: every contender's answer to the same question has the same values. Nobody is fast by being wrong.
After what writes was measured: the counts that the product keeps are those of a recount."""

import json
import random
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from tests.bench.load import Database
from tests.bench.reads import GROUP
from tests.bench.servers import Server, Unfit
from tests.bench.traffic import BATCH, CONSTANT, FASTAPI, LIMIT, OURS, Bench, Request, Stream, Workload
from tests.fixtures.recount import CONTRIBUTIONS, DIFFERING_CELLS, DIFFERING_TOTALS, GRAIN

CHECKED = 5
"""Requests of a workload that are compared."""
_NUMBER = re.compile(r"0190f6a0-0000-7004-8000-([0-9a-f]{12})")


def plain(value: Any) -> Any:
    """An answer as every contender would write it: pages are lists, instants are instants, and lists have no order."""
    match value:
        case {"data": inner, **rest} if not rest.keys() - {"page", "extensions", "excluded", "coverage"}:
            return plain(inner)
        case {"nodes": inner, **rest} if not rest.keys() - {"pageInfo"}:
            return plain(inner)
        case {"pupil": inner} | {"pupils": inner} | {"aggregates": inner}:
            return plain(inner)
        case dict():
            return {name: plain(inner) for name, inner in value.items()}
        case list():
            return sorted((plain(inner) for inner in value), key=lambda each: json.dumps(each, sort_keys=True))
        case str() if re.match(r"\d{4}-\d\d-\d\dT", value):
            return datetime.fromisoformat(value).timestamp()
    return value


def numbered(request: Request) -> int:
    """The number of the pupil that a request names."""
    found = _NUMBER.search(request.path + request.body)
    assert found
    return int(found[1], 16)


def require_same(workload: Workload, contender: str, expected: Any, found: Any) -> None:
    """Raises Unfit, naming the contender, where two answers differ."""
    if expected != found:
        raise Unfit(f"{workload.name}: {contender} answers otherwise:\n{str(found)[:1500]}\nexpected:\n{str(expected)[:1500]}")


def fetch_answer(workload: Workload, contender: str, server: Server, request: Request) -> Any:
    """A read's answer, plain."""
    if request.if_none_match:
        return server.send("GET", request.path, **{"If-None-Match": request.if_none_match}).status_code
    found = server.ask(request.method, request.path, request.body or None, workload.client_of(contender))
    return _figures(plain(found)) if workload.name.startswith("R4") else plain(found)


async def check(
    workload: Workload, bench: Bench, servers: Mapping[str, Server], streams: Mapping[str, Stream], database: Database
) -> None:
    """Raises Unfit, naming the contender and the first answer that differs."""
    connection = await asyncpg.connect(database.superuser_url, server_settings={"search_path": "fixed"})
    try:
        if workload.writes:
            for contender, stream in streams.items():
                await check_write(workload, contender, bench, servers[contender], stream, connection)
            for script, _ in workload.limit:
                await _check_limit(workload, script, bench, connection)
        elif workload.name != "R5":
            await _check_reads(workload, bench, servers, streams, connection)
        else:
            for contender, stream in streams.items():
                for request in stream.requests[:CHECKED] if contender != CONSTANT else ():
                    require_same(workload, contender, 304, fetch_answer(workload, contender, servers[contender], request))
    finally:
        await connection.close()


async def _check_reads(
    workload: Workload, bench: Bench, servers: Mapping[str, Server], streams: Mapping[str, Stream], connection: Any
) -> None:
    first, *others = streams
    bench.draw = random.Random(4)
    named = workload.asks[FASTAPI](bench) if FASTAPI in workload.asks else []
    for i in range(min(CHECKED, len(streams[first].requests))):
        expected = fetch_answer(workload, first, servers[first], streams[first].requests[i])
        assert expected, f"{workload.name} finds nothing"
        for contender in others:
            require_same(
                workload, contender, expected, fetch_answer(workload, contender, servers[contender], streams[contender].requests[i])
            )
        if workload.limit:
            n = numbered(named[i]) if named else 0
            text = await connection.fetchval(_statement(workload.limit[0][0], {**bench.variables(workload), "n": n}))
            found = plain(json.loads(text))
            if workload.name.startswith("R4"):  # ours is a page of it
                page = {row[:3] for row in expected}
                found = [row for row in _figures(found) if row[:3] in page]
            require_same(workload, LIMIT, expected, found)


def _figures(rows: Any) -> list[tuple[Any, ...]]:
    """Of an aggregate's rows; the first three values name the group."""
    return sorted(tuple(row[name] for name in GROUP.split()) for row in rows)


def _statement(script: str, variables: dict[str, object]) -> str:
    """A script of pgbench's with literals in place of its variables."""
    text = (Path(__file__).parent / "limit" / f"{script}.sql").read_text()
    statement = "\n".join(line for line in text.splitlines() if not line.startswith("\\set") and not line.endswith("\\gset"))

    def literal(found: re.Match[str]) -> str:
        value = variables[found[1]]
        return str(value) if isinstance(value, int) else f"'{value}'"

    return re.sub(r"(?<!:):([a-z]+)", literal, statement).rstrip(";\n")


_STORED = """
SELECT j.pupil_id::text, s.code AS subject, g.code AS grade FROM {schema}.judgements j
JOIN {schema}.windows w ON w.tenant_id = j.tenant_id AND w.no = j.window_no
JOIN {schema}.subjects s ON s.tenant_id = j.tenant_id AND s.no = j.subject_no
JOIN {schema}.grades g ON g.tenant_id = j.tenant_id AND g.scheme_version_no = j.scheme_version_no AND g.no = j.grade_no
WHERE j.tenant_id = $1::text::uuid AND w.code = $2 AND j.pupil_id = ANY ($3::text[]::uuid[]) AND s.code = ANY ($4)
"""


async def check_write(workload: Workload, contender: str, bench: Bench, server: Server, stream: Stream, connection: Any) -> None:
    """The next write of a contender is answered as it has to be, and is in the table that it writes."""
    request = stream.take()
    while not _entries(request):  # it reads
        request = stream.take()
    said = json.dumps(server.ask(request.method, request.path, request.body, workload.client_of(contender)), separators=(",", ":"))
    if stream.expected not in said:
        raise Unfit(f"{workload.name}: {contender} answers {said[:600]}, not {stream.expected}")
    entries, window = _entries(request), _batch_of(request)["window"]
    names = (bench.trust.id, window, [e["id"] for e in entries], list({e["subject"] for e in entries}))
    statement = _STORED.format(schema="public" if contender in OURS else "fixed")
    found = {(row["pupil_id"], row["subject"]): row["grade"] for row in await connection.fetch(statement, *names)}
    require_same(workload, contender, {(e["id"], e["subject"]): e["grade"] for e in entries}, found)


async def _check_limit(workload: Workload, script: str, bench: Bench, connection: Any) -> None:
    """A script that writes changes as many rows as a request of the workload; one that repeats writes all that it may repeat."""
    if script.startswith("r"):
        return
    variables = {**bench.variables(workload), "s": 2, "turn": 0}
    first, rows = variables["first"], f"INSERT 0 {workload.rows}"
    assert isinstance(first, int)
    if script == "w2_unchanged":
        batches = variables["batches"]
        assert isinstance(batches, int)
        for b in range(batches):
            await connection.execute(_statement(script, {**variables, "n": first + BATCH * b}))
        rows = "INSERT 0 0"
    elif script == "w2_created":
        await connection.fetchval("SELECT nextval('created')")
    require_same(workload, LIMIT, rows, await connection.execute(_statement(script, {**variables, "n": first})))


def _entries(request: Request) -> list[dict[str, str]]:
    """Of a body of any contender's; none of a read's."""
    found: list[dict[str, str]] = _batch_of(request).get("entries", [])
    return found


def _batch_of(request: Request) -> Any:
    body = json.loads(request.body or "{}")
    inner = body.get("variables", body)
    return inner.get("input", inner)


async def check_counts(workload: Workload, url: str, tenant_id: str) -> None:
    """Raises Unfit where cells or totals of a tenant's open windows differ from a recount of what is stored. Nothing else was written."""
    connection, tenant = await asyncpg.connect(url), UUID(tenant_id)
    try:
        await connection.execute("VACUUM ANALYZE")
        opened = await connection.fetch("SELECT no FROM windows WHERE tenant_id = $1 AND state = 'open'", tenant)
        numbers = ", ".join(str(row["no"]) for row in opened)
        for table in ("census", "cells", "totals"):  # the recount reads these in their place, and is nine times as quick
            await connection.execute(f"CREATE TEMP VIEW {table} AS SELECT * FROM public.{table} WHERE window_no IN ({numbers})")
        counted = {
            "cells below zero": await connection.fetchval("SELECT count(*) FROM cells WHERE n < 0"),
            "cells": await connection.fetchval(CONTRIBUTIONS + DIFFERING_CELLS.format(grain=GRAIN), tenant),
            "totals": await connection.fetchval(CONTRIBUTIONS + DIFFERING_TOTALS, tenant),
        }
    finally:
        await connection.close()
    if wrong := {name: count for name, count in counted.items() if count}:
        raise Unfit(f"{workload.name}: counts differ from a recount: {wrong}")
