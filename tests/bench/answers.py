"""Before anything is measured: every contender's answer to the same question has the same values. Nobody is fast by being wrong."""

import json
import random
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import asyncpg

from tests.bench import rows
from tests.bench.servers import Server, Unfit
from tests.bench.workloads import BATCH, CONSTANT, FASTAPI, GROUP, LIMIT, Bench, Request, Workload

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


async def check(workload: Workload, bench: Bench, servers: dict[str, Server], asked: dict[str, list[Request]], url: str) -> None:
    """Raises Unfit, naming the contender and the first answer that differs. M1 is made of what R1 and W1 check."""
    connection = await asyncpg.connect(url)
    try:
        if workload.writes:
            await _check_writes(workload, bench, servers, asked, connection)
        elif workload.name != "R5":
            await _check_reads(workload, bench, servers, asked, connection)
        else:
            for request in asked[next(iter(asked))][:CHECKED]:
                answer = servers[next(iter(asked))].send("GET", request.path, **{"If-None-Match": request.if_none_match})
                _same(workload, CONSTANT, 304 if request.if_none_match else 200, answer.status_code)
    finally:
        await connection.close()


def _same(workload: Workload, contender: str, expected: Any, found: Any) -> None:
    if expected != found:
        raise Unfit(f"{workload.name}: {contender} answers otherwise:\n{str(found)[:1500]}\nexpected:\n{str(expected)[:1500]}")


async def _check_reads(
    workload: Workload, bench: Bench, servers: dict[str, Server], asked: dict[str, list[Request]], connection: Any
) -> None:
    first, *others = asked
    bench.draw = random.Random(4)
    named = workload.asks[FASTAPI](bench) if FASTAPI in workload.asks else []
    for i in range(min(CHECKED, len(asked[first]))):

        def answered(contender: str, i: int = i) -> Any:
            request = asked[contender][i]
            answer = servers[contender].ask(request.method, request.path, request.body or None, workload.client_of(contender))
            return _figures(plain(answer)) if workload.name.startswith("R4") else plain(answer)

        expected = answered(first)
        assert expected, f"{workload.name} finds nothing"
        for contender in others:
            _same(workload, contender, expected, answered(contender))
        if workload.limit:
            n = numbered(named[i]) if named else 0
            text = await connection.fetchval(_statement(workload.limit[0][0], {**bench.variables(workload), "n": n}))
            found = plain(json.loads(text))
            if workload.name.startswith("R4"):  # ours is a page of it
                page = {row[:3] for row in expected}
                found = [row for row in _figures(found) if row[:3] in page]
            _same(workload, LIMIT, expected, found)


def _figures(rows: Any) -> list[tuple[Any, ...]]:
    """Of an aggregate's rows; the first three values name the group."""
    return sorted(tuple(row[name] for name in GROUP.split()) for row in rows)


def _statement(script: str, variables: dict[str, object]) -> str:
    """A script of pgbench's with literals in place of its variables."""
    text = (Path(__file__).parent / "limit" / f"{script}.sql").read_text()
    statement = "\n".join(line for line in text.splitlines() if not line.startswith("\\set"))

    def literal(found: re.Match[str]) -> str:
        value = variables[found[1]]
        return str(value) if isinstance(value, int) else f"'{value}'"

    return re.sub(r"(?<!:):([a-z]+)", literal, statement).rstrip(";\n")


_STORED = """
SELECT j.pupil_id::text, s.code AS subject, g.code AS grade FROM judgements j
JOIN windows w ON w.tenant_id = j.tenant_id AND w.no = j.window_no
JOIN subjects s ON s.tenant_id = j.tenant_id AND s.no = j.subject_no
JOIN grades g ON g.tenant_id = j.tenant_id AND g.scheme_version_no = j.scheme_version_no AND g.no = j.grade_no
WHERE j.tenant_id = $1::text::uuid AND w.code = $2 AND j.pupil_id = ANY ($3::text[]::uuid[]) AND s.code = ANY ($4)
"""
_FORGET = """
UPDATE judgements j SET grade_no = NULL, status_code = 'absent', recorded_at = w.opens_at FROM windows w, subjects s
WHERE w.tenant_id = j.tenant_id AND w.no = j.window_no AND s.tenant_id = j.tenant_id AND s.no = j.subject_no
    AND j.tenant_id = $1::text::uuid AND w.code = $2 AND j.pupil_id = ANY ($3::text[]::uuid[]) AND s.code = ANY ($4)
"""


async def _check_writes(
    workload: Workload, bench: Bench, servers: dict[str, Server], asked: dict[str, list[Request]], connection: Any
) -> None:
    """The first write of each is in the table; what was there says nothing before."""
    for contender, requests in asked.items():
        request = next(request for request in requests if request.method == "POST" and '"entries"' in request.body)
        entries = _entries(json.loads(request.body))
        names = (bench.trust.id, bench.data.window, [e["id"] for e in entries], list({e["subject"] for e in entries}))
        await connection.execute(_FORGET, *names)
        servers[contender].ask(request.method, request.path, request.body, workload.client_of(contender))
        found = {(row["pupil_id"], row["subject"]): row["grade"] for row in await connection.fetch(_STORED, *names)}
        _same(workload, contender, {(e["id"], e["subject"]): e["grade"] for e in entries}, found)
    if workload.limit[-1][0] == "w1":
        n, (subject, grade) = bench.trust.first, (2, 1)
        names = (bench.trust.id, bench.data.window, [rows.pupil_id(n)], [rows.SUBJECTS[subject]])
        await connection.execute(_statement("w1", {**bench.variables(workload), "n": n, "s": subject, "g": grade}))
        found = [row["grade"] for row in await connection.fetch(_STORED, *names)]
        _same(workload, LIMIT, [bench.grades(n)[grade]], found)
    else:
        done = await connection.execute(_statement("w2", {**bench.variables(workload), "n": bench.trust.first, "g": 1}))
        _same(workload, LIMIT, f"INSERT 0 {BATCH * len(rows.SUBJECTS)}", done)


def _entries(body: Any) -> list[dict[str, str]]:
    """Of a body of any contender's."""
    inner = body.get("variables", body)
    found: list[dict[str, str]] = inner.get("input", inner)["entries"]
    return found
