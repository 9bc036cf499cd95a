"""A body is bounded in what it holds and not in its bytes alone, and however large it is, others are answered while it is read and worked on."""

import asyncio
import gc
import json
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import AsyncIterator
from typing import Any

import pytest

from api.http import body as bodies
from api.http.body import MAX_BODY, MAX_BODY_VALUES, MAX_OTHER_BODY
from domain.declare.ids import new_id
from domain.read.query import MAX_VALUES as IN_A_FILTER
from domain.read.query import MAX_VALUES_PER_REQUEST as IN_ALL
from domain.write.batch import MAX_BATCH_ISSUES
from domain.write.command import MAX_ENTRIES
from tests.fixtures.call_counts import count_calls
from tests.fixtures.sizes import choose_some
from tests.fixtures.small_trust import COLLECTED, Trust, batch, entry, judged, opened, roll, sent, upn

JSON = {"Content-Type": "application/json"}
MUTATION = "mutation($input: JudgementBatchInput!) { recordJudgements(input: $input) { received } }"
TEN = "query($ids: [ID!]) { " + " ".join(f"a{i}: pupils(where: {{id: $ids}}) {{ nodes {{ id }} }}" for i in range(10)) + " }"

# What a body may hold

HALF = MAX_BODY_VALUES // 2 + 1
HOSTILE = {
    "objects": b"[" + b"{}," * HALF + b"{}]",
    "arrays": b"[" + b"[]," * HALF + b"[]]",
    "arrays in one another": b"[" + b"[[[]]]," * (HALF // 2) + b"0]",
    "numbers": b"[" + b"1," * MAX_BODY_VALUES + b"1]",
    "texts": b"[" + rb'"\"\\",' * MAX_BODY_VALUES + b'""]',
    "small objects": b"[" + b'{"a":1},' * HALF + b"0]",
    "members": b"{" + b",".join(b'"%d":[]' % i for i in range(HALF)) + b"}",
}


def places(hostile: bytes) -> list[tuple[str, bytes]]:
    """Where it may be put in requests of either interface."""
    return [
        ("/v1/judgements", b'{"window":"2017-18/KS2","entries":' + hostile + b"}"),
        ("/v1/pupils", hostile),
        ("/graphql", json.dumps({"query": MUTATION}).encode()[:-1] + b',"variables":{"input":' + hostile + b"}}"),
        ("/graphql", b'{"query":"{__typename}","variables":{"unused":' + hostile + b"}}"),
    ]


@pytest.mark.parametrize("name", HOSTILE)
async def test_too_many_values_are_refused_before_any_is_built(vendor: Any, name: str) -> None:
    for path, content in choose_some(places(HOSTILE[name]), 5, name):
        assert len(content) < MAX_BODY
        gc.collect()
        tracemalloc.start()
        answer = await vendor.post(path, content=content, headers=JSON)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (413, "body-too-many-values"), answer.text[:300]
        assert f"{MAX_BODY_VALUES:,}" in answer.json()["detail"]
        assert peak < 4 * len(content) + 10_000_000, f"{path}: {peak / len(content):.0f} times the body"


async def test_commas_and_brackets_in_texts_are_no_values(vendor: Any) -> None:
    rows = [judged(n, actor=',[{\\"' * 30) for n in range(MAX_ENTRIES)]
    content = json.dumps(batch("Oak", rows)).encode()
    assert sum(content.count(sign) for sign in (b",", b"[", b"{")) > MAX_BODY_VALUES
    answer = await vendor.post("/v1/judgements", content=content, headers=JSON)
    assert answer.status_code == 422
    assert "window-unknown" in {issue["code"] for issue in answer.json()["issues"]}, answer.text[:300]


async def test_a_full_batch_is_taken(vendor: Any) -> None:
    """20,000 judgements of ten fields, and 10,000 pupils with two spells and four characteristics."""
    judgement = judged(1, mark=1.5, status=None, window="x", school={"urn": 100001}, actor="a", source="b", method="c")
    spells = [{"from": f"201{i}-09-01", "to": None, "status": "C"} for i in range(2)]
    dated = [{"kind": "ever6Fsm", "value": "true", "from": f"201{i}-09-01", "to": None} for i in range(4)]
    pupil = entry(1, enrolments=spells, characteristics=dated)
    for path, body in (
        ("/v1/judgements", batch("Oak", [judgement] * MAX_ENTRIES)),
        ("/v1/pupils", roll("Oak", [pupil] * (MAX_ENTRIES // 2), asOf="nonsense")),
    ):
        assert (await vendor.post(path, json=body)).status_code == 422  # read whole, and refused for what it says


async def test_what_is_no_batch_is_smaller(small_trust: Trust, vendor: Any) -> None:
    query = {
        "query": "query($ids: [ID!]) { pupils(where: {id: $ids}) { nodes { id } } }",
        "variables": {"ids": ["x" * MAX_OTHER_BODY]},
    }
    for method, path, body in (
        ("POST", "/v1/pupils/lookup", {"where": {"upn": ["x" * MAX_OTHER_BODY]}}),
        ("POST", "/v1/schemes", {"code": "x" * MAX_OTHER_BODY}),
        ("PATCH", f"/v1/schools/{small_trust.ids['Oak']}", {"name": "x" * MAX_OTHER_BODY}),
        ("POST", "/graphql", query),
        ("POST", "/graphql", query | {"variables": {"unused": [str(new_id(4))] * 40_000}}),
    ):
        answer = await vendor.request(method, path, json=body, headers={"If-Match": "*"} if method == "PATCH" else {})
        assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (413, "body-too-large"), (path, answer.text[:300])


async def test_a_large_element_is_refused_at_its_place(vendor: Any) -> None:
    row = b'{"reference":"P1","subject":"reading","grade":"100","actor":["%b"]}' % (b'","' * 150_000)
    content = b'{"window":"x",\n"entries":[' + b'{"reference":"P1"},' * 60_000 + b"\n" + row + b"]}"
    answer = await vendor.post("/v1/judgements", content=content, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["issues"][0]["code"] == "json-too-large"
    assert answer.json()["issues"][0]["message"].startswith("Line ")


# What a list may be used for


async def test_ids_count_wherever_they_are_used(vendor: Any) -> None:
    """Values of variables are counted before they are looked at, and those of filters each time that they are."""
    ids = [str(new_id(4)) for _ in range(IN_ALL + 1)]
    for count, more in ((IN_A_FILTER // 2, 0), (IN_A_FILTER, 1), (IN_A_FILTER + 1, 1), (IN_ALL + 1, 0)):
        body = {"query": TEN, "variables": {"ids": ids[:count], "unused": ids * more}}
        async with count_calls() as work:
            answer = (await vendor.post("/graphql", json=body)).json()
        if count * 10 <= IN_ALL:
            assert len(answer["data"]) == 10
            continue
        (error,) = answer["errors"]
        assert {issue["code"] for issue in error["extensions"]["problem"]["issues"]} == {"filter-too-long"}
        assert work.calls["parse_id"] <= 2 * IN_ALL


async def test_a_list_of_200_000_ids_costs_nothing(vendor: Any) -> None:
    content = json.dumps({"query": TEN, "variables": {"ids": [str(new_id(4)) for _ in range(200_000)]}}).encode()
    await vendor.post("/graphql", json={"query": TEN})  # which is validated once
    async with count_calls() as work:
        answer = await vendor.post("/graphql", content=content, headers=JSON)
    assert answer.status_code == 413
    assert work.total < 20_000


async def test_literals_that_fragments_repeat_are_counted(vendor: Any) -> None:
    ids = " ".join(f'"{new_id(4)}"' for _ in range(900))
    roots = " ".join(f"a{i}: schools {{ nodes {{ ...F }} }}" for i in range(50))
    query = f"{{ {roots} }} fragment F on School {{ onRoll(where: {{id: [{ids}]}}) {{ nodes {{ id }} }} }}"
    async with count_calls() as work:
        answer = (await vendor.post("/graphql", json={"query": query})).json()
    issues = answer["errors"][0]["extensions"]["problem"]["issues"]
    assert issues[-1]["code"] == "filter-too-long"
    assert work.calls["parse_id"] <= 2 * IN_ALL


async def test_filters_of_a_lookup_are_counted(vendor: Any) -> None:
    filters = ("id", "surname", "forename", "upn", "sex", "yearGroup")
    ids = [str(new_id(4)) for _ in range(IN_A_FILTER + 1)]
    values = dict.fromkeys(filters, ids[1:]) | {
        "upn": [upn(1)] * IN_A_FILTER,
        "sex": ["F"] * IN_A_FILTER,
        "yearGroup": ["6"] * IN_A_FILTER,
    }
    for where, at in (
        ({"id": ids}, "/where/id"),
        (values, "/where/yearGroup"),
    ):
        answer = await vendor.post("/v1/pupils/lookup", json={"where": where})
        assert (at, "filter-too-long") in [(issue["at"], issue["code"]) for issue in answer.json()["issues"]]
    url = "/v1/pupils?" + "&".join(["id=x"] * (IN_ALL + 200))
    assert (await vendor.get(url)).json()["issues"][0]["code"] in ("filter-too-long", "too-many-parameters")


async def test_commands_of_one_operation_share_the_rows_of_a_batch(small_trust: Trust, vendor: Any) -> None:
    query = (
        "mutation($i: JudgementBatchInput!) { "
        + " ".join(f"a{n}: recordJudgements(input: $i) {{ received }}" for n in range(3))
        + " }"
    )
    rows = [judged(n) for n in range(MAX_ENTRIES // 2)]
    answer = (await vendor.post("/graphql", json={"query": query, "variables": {"i": batch("Oak", rows)}})).json()
    codes = [error["extensions"]["problem"]["issues"][0]["code"] for error in answer["errors"]]
    assert codes[2] == "too-many-entries"
    assert "too-many-entries" not in codes[:2]


async def test_a_batch_too_long_is_refused_before_its_rows_are_read(vendor: Any) -> None:
    rows = [{}] * (MAX_ENTRIES + 1)
    for path, body in (
        ("/v1/judgements", {"entries": rows}),
        ("/graphql", {"query": MUTATION, "variables": {"input": {"entries": rows}}}),
    ):
        async with count_calls() as work:
            answer = (await vendor.post(path, json=body)).json()
        problem = answer["errors"][0]["extensions"]["problem"] if path == "/graphql" else answer
        assert [issue["code"] for issue in problem["issues"]] == ["too-many-entries"]
        assert work.calls["decode"] + work.calls["coerce_input_value"] < 100


async def test_what_is_reported_of_bad_rows_is_bounded_and_every_row_is_named(vendor: Any) -> None:
    rows = [{"reference": f"P{n}", "characteristics": [{}] * 50} for n in range(1_000)]
    issues = (await sent(vendor, "/v1/pupils", roll("Oak", rows), 422))["issues"]
    assert {issue["at"].split("/")[2] for issue in issues} == {str(n) for n in range(1_000)}
    assert MAX_BATCH_ISSUES <= len(issues) < MAX_BATCH_ISSUES + 1_000


ENDLESS = {
    "quotes that are escaped": '"' + '\\"' * 50_000,
    "a backslash between quotes": '"\\' * 50_000,
    "blocks": '"""' + '"" ' * 33_000,
    "blocks with escapes": '"""' + '\\"""' * 25_000 + '""',
}


def test_a_text_that_never_ends_is_looked_through_once() -> None:
    """All of them in a process that is stopped after 20 seconds of its own: before, the first of these took 32."""
    texts = [text[:100_000] for text in ENDLESS.values()]
    program = f"from api.graphql.plans import split_template; assert [split_template(text)[1] for text in {texts!r}] == [[]] * {len(texts)}"
    done = subprocess.run(
        [sys.executable, "-c", "import sys; exec(sys.stdin.read())"],
        input=program,
        text=True,
        capture_output=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (20, 20)),
    )
    assert done.returncode == 0, done.stderr[-500:]


# What others notice


MOST_OF_THE_WORK = 0.2  # a slice is about 0.05 to 0.1, more on a faster machine, which takes fewer turns; work that is not cut up is a half and more


def share(work: Any) -> float:
    """The largest part of the work that was done in one turn of the event loop."""
    return float(work.most / work.total)


async def test_other_requests_have_their_turn_while_a_batch_is_written(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(1_000)]))
    grades = {"reading": 100, "maths": 101, "gps": 99, "writing": "EXS", "science": "EXS"}
    rows = [judged(n, subject, grades[subject], aspect=aspect) for n in range(1_000) for subject, aspect, _ in COLLECTED]
    command = 'mutation($input: JudgementBatchInput!) { recordJudgements(input: $input, return: "representation") { received results { at outcome id } } }'
    await vendor.post("/graphql", json={"query": command})  # which makes the schema
    for path, body, key in (
        ("/v1/judgements", batch("Oak", rows), "received"),
        ("/graphql", {"query": command, "variables": {"input": batch("Oak", rows)}}, "data"),
        ("/v1/judgements", batch("Oak", [row | {"grade": "nothing", "x": 1} for row in rows]), "issues"),
    ):
        async with count_calls() as work:
            answer = await vendor.post(path, json=body, headers={"Prefer": "return=representation"})
        assert key in answer.json(), answer.text[:300]
        assert share(work) < MOST_OF_THE_WORK, f"{path}: {work.most:,} of {work.total:,} calls in one turn"


async def test_other_requests_have_their_turn_while_a_roll_is_written(vendor: Any) -> None:
    body = roll("Oak", [entry(n) for n in range(2_000)])
    for _ in range(2):
        async with count_calls() as work:
            await sent(vendor, "/v1/pupils", body)
        assert share(work) < MOST_OF_THE_WORK, f"{work.most:,} of {work.total:,} calls in one turn"


async def test_other_requests_have_their_turn_while_faults_are_searched(vendor: Any) -> None:
    for content in (
        b'{"entries":[' + b'{"a":"\\u0000"},' * 20_000 + b"{}]}",
        b'{"entries":[' + b'{"a":[[[[[1]]]]]},' * 4_000 + b'{"a" 1}]}',
        b'{"a":[' + b"[1,[2,[3,[4,[5]]]]]," * 9_000 + b"1 2]}",
    ):
        async with count_calls() as work:
            answer = await vendor.post("/v1/judgements", content=content, headers=JSON)
        assert answer.status_code == 400
        assert work.most < 30_000, f"{work.most:,} of {work.total:,} calls in one turn"


async def test_other_requests_have_their_turn_while_a_sheet_is_written(vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(1_000)]))
    await vendor.get("/v1/pupils?format=csv&first=1")  # the statement is compiled once, in one piece
    async with count_calls() as work:
        answer = await vendor.get("/v1/pupils?format=csv")
    assert len(answer.text.splitlines()) == 1_001
    assert share(work) < 0.25, f"{work.most:,} of {work.total:,} calls in one turn"


# How many are in memory at once


async def test_a_client_has_one_large_body_in_memory_and_others_have_theirs(small_trust: Trust) -> None:
    first, second = [await small_trust.client(name, "trust:4128=all") for name in ("first", "second")]
    taken = dict.fromkeys(("a", "b", "c", "d", "other"), 0)
    go_on, both, all_begun = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def content(name: str) -> AsyncIterator[bytes]:
        yield b'{"entries":[' + b" " * 60_000
        for _ in range(100):
            taken[name] += 1
            if all(taken.values()):
                all_begun.set()
            yield b" " * 100_000
        if taken["other"] == 100 == max(taken[name] for name in "abcd"):
            both.set()
        await go_on.wait()
        yield b"]}"

    size = {"Content-Length": str(len(b'{"entries":[') + 60_000 + 100 * 100_000 + 2)}
    posts = [
        asyncio.create_task(client.post("/v1/judgements", content=content(name), headers=JSON | size))
        for name, client in ((name, second if name == "other" else first) for name in taken)
    ]
    await asyncio.wait_for(both.wait(), 30)
    await asyncio.wait_for(all_begun.wait(), 30)
    for _ in range(200):
        await asyncio.sleep(0)
    assert sorted(taken[name] for name in "abcd") == [1, 1, 1, 100]
    go_on.set()
    assert [answer.status_code for answer in await asyncio.gather(*posts)] == [200] * 5
    assert set(taken.values()) == {100}


async def test_small_bodies_wait_for_nobody(vendor: Any) -> None:
    """Not even where their sizes are not declared."""
    arrived = 0
    all_there = asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        nonlocal arrived
        yield b'{"entries":[' + b" " * 50_000
        arrived += 1
        if arrived == 30:
            all_there.set()
        await asyncio.wait_for(all_there.wait(), 30)
        yield b"]}"

    answers = await asyncio.gather(*(vendor.post("/v1/judgements", content=content(), headers=JSON) for _ in range(30)))
    assert [answer.status_code for answer in answers] == [200] * 30


async def test_the_refusal_after_too_long_a_wait_says_when_to_try_again(
    small_trust: Trust, vendor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.http.body_memory.MAX_WAIT_SECONDS", 0.05)
    go_on, is_read = asyncio.Event(), asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        yield b" " * (MAX_BODY - 14)
        is_read.set()
        await go_on.wait()
        yield b'{"entries":[]}'

    size = {"Content-Length": str(MAX_BODY)}
    first = asyncio.create_task(vendor.post("/v1/judgements", content=content(), headers=JSON | size))
    await asyncio.wait_for(is_read.wait(), 30)
    answer = await vendor.post("/v1/judgements", content=content(), headers=JSON)
    assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (503, "busy")
    assert int(answer.headers["Retry-After"]) >= 1
    assert (await vendor.get("/v1/schools?first=1")).status_code == 200
    small = b'{"entries":[' + b" " * 500_000 + b"]}"
    assert (await vendor.post("/v1/judgements", content=small, headers=JSON)).status_code == 200
    go_on.set()
    assert (await first).status_code == 400  # so many blanks are in no batch


async def test_what_ends_badly_gives_its_part_back(vendor: Any) -> None:
    async def cut_short() -> AsyncIterator[bytes]:
        yield b" " * (MAX_BODY - 1)
        raise OSError("hung up")

    for _ in range(5):
        assert (await vendor.post("/v1/judgements", content=cut_short(), headers=JSON)).status_code == 400
        stopped = asyncio.create_task(vendor.post("/v1/judgements", content=_forever(), headers=JSON))
        await asyncio.sleep(0.01)
        stopped.cancel()
        assert (await stopped).status_code == 503
    assert (await vendor.post("/v1/judgements", content=b" " * (MAX_BODY - 2) + b"{}", headers=JSON)).status_code == 400


async def _forever() -> AsyncIterator[bytes]:
    while True:
        yield b" " * 1_000_000
        await asyncio.sleep(0.001)


def test_full_collections_go_on_when_the_last_large_body_is_answered() -> None:
    usual = gc.get_threshold()
    collections = bodies.FullCollections()
    collections.postpone()
    collections.postpone()
    collections.resume()
    assert gc.get_threshold()[2] > usual[2]
    collections.resume()
    assert gc.get_threshold() == usual
