"""Single judgements and targets that are written together: each has the outcome, receipt, stored answer and error that it has alone."""

import asyncio
import random
from typing import Any

import asyncpg
import pytest

from domain.write import together
from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.recount import miscounted
from tests.fixtures.singles import GAPS, UNRECEIPTED, Singles
from tests.fixtures.small_trust import URNS, WINDOW, Trust, batch, counted, entry, judged, opened, roll, sent, upn, window

MUTATION = """mutation ($input: JudgementBatchInput!, $key: String) {
    recordJudgements(input: $input, idempotencyKey: $key, return: "representation") {
        received created updated unchanged rejected notCounted results { at reference outcome id version } warnings { at code message }
    }
}"""


@pytest.fixture
def fill_trust() -> Filling:
    return open_window_with_pupils


async def open_window_with_pupils(trust: Trust) -> None:
    """20 pupils at Oak, 5 at Elm, and of Oak one of Year 5, who does not count in the window."""
    vendor = await register_vendor(trust)
    await opened(vendor)
    await sent(vendor, "/v1/windows", window("planned"), 201)
    await sent(vendor, "/v1/pupils", roll("Oak", [*(entry(n) for n in range(20)), entry(40, yearGroup="5")]))
    await sent(vendor, "/v1/pupils", roll("Elm", [entry(n) for n in range(20, 25)]))


def targeted(number: int, grade: Any = 110, **more: Any) -> dict[str, Any]:
    horizon = {"academicYear": "2018-19", "point": "Summer"}
    return judged(number, grade=grade, horizon=horizon, basis="teacher", scheme="ks2-scaled-score", **more)


def of_oak(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"school": {"urn": URNS["Oak"]}, "entries": list(entries)}


def read_answer(answer: Any) -> Any:
    """What an answer says, without what differs between two requests."""
    return answer.status_code, answer.json(), {n: answer.headers.get(n) for n in ("preference-applied", "idempotency-replayed")}


async def post_together(client: Any, path: str, bodies: list[Any], headers: list[dict[str, str]] | None = None) -> list[Any]:
    """The answers to requests that are sent at once: the first is performed alone, and the others wait for it."""
    named = headers or [{} for _ in bodies]
    return await asyncio.gather(*(client.post(path, json=b, headers=h) for b, h in zip(bodies, named, strict=True)))


async def test_those_that_wait_are_written_in_one_transaction(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(0)]))  # what the trust marks with is read once
    small_trust.statements.seen.clear()
    answers = await post_together(vendor, "/v1/judgements", [batch("Oak", [judged(n)]) for n in range(20)])
    begun = [query for query in small_trust.statements.seen if query.startswith("BEGIN")]
    assert [counted(answer.json()) for answer in answers] == [{"unchanged": 1}] + [{"created": 1}] * 19
    assert len(begun) == 2
    small_trust.statements.seen.clear()
    answers = await post_together(vendor, "/v1/targets", [of_oak(targeted(n)) for n in range(20)])
    begun = [query for query in small_trust.statements.seen if query.startswith("BEGIN")]
    assert [counted(answer.json()) for answer in answers] == [{"created": 1}] * 20
    assert len(begun) == 2
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_each_has_the_answer_that_it_has_alone(small_trust: Trust, vendor: Any) -> None:
    """Errors and warnings name their place in the request itself, whether the row or the head of its batch said the school."""
    oak, former = {"urn": URNS["Oak"]}, "936/2999"
    await small_trust.operator.execute(
        "INSERT INTO former_laestabs (school_id, laestab, replaced_on) VALUES ($1, $2, '2017-01-01')",
        small_trust.ids["Oak"],
        former.replace("/", ""),
    )
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(n) for n in (9, 10, 40)]))
    row = judged(9, grade=101)
    bodies = [
        batch("Oak", [judged(9, grade=999)]),
        batch("Oak", [judged(77)]),
        batch("Oak", [judged(9, "nothing")]),
        batch("Oak", [judged(9)], window="2017-18/KS3"),
        batch("Oak", [judged(9, window="planned")]),
        batch("Oak", [judged(9, grade=105, expectedVersion=7)]),
        batch("Oak", [judged(9, aspect="effort")]),
        batch("Oak", [{"upn": "A123", "subject": "reading", "grade": 100}]),
        batch("Oak", [{"upn": upn(20), "subject": "reading", "grade": 100}]),
        {"window": WINDOW, "entries": [row]},
        {"window": WINDOW, "school": {"urn": 999999}, "entries": [row]},
        {"window": WINDOW, "entries": [row | {"school": {"urn": 999999}}]},
        {"window": WINDOW, "entries": [judged(10, recordedAt="2098-01-01T00:00:00Z") | {"school": oak}]},
        {"window": WINDOW, "school": {"laestab": former}, "entries": [judged(10)]},
        {"entries": [judged(9) | {"school": {"laestab": former}, "window": WINDOW}]},
        {"window": WINDOW, "school": oak, "entries": [judged(10, recordedAt="2018-01-01T00:00:00Z", grade=99)]},
        batch("Oak", [judged(40, "maths", withdrawn=True, grade=None)]),
        batch("Oak", [judged(40)]),
    ]
    for prefer in ("return=representation", "handling=lenient, return=representation", ""):
        headers = [{"Prefer": prefer}] * len(bodies) if prefer else None
        ahead = [batch("Oak", [judged(0)])]
        together_ = (await post_together(vendor, "/v1/judgements", ahead + bodies, headers and [*headers, headers[0]]))[1:]
        alone = [await vendor.post("/v1/judgements", json=body, headers=(headers or [{}])[0]) for body in bodies]
        assert list(map(read_answer, together_)) == list(map(read_answer, alone))
    assert [answer.status_code for answer in alone] == [422] * 13 + [200] * 5
    assert [w["at"] for answer in alone[13:15] for w in answer.json()["warnings"]] == [
        "/school/laestab",
        "/entries/0/school/laestab",
    ]


async def test_a_warning_and_a_result_are_those_of_the_row(vendor: Any) -> None:
    headers = [{"Prefer": "return=representation"}] * 3
    bodies = [batch("Oak", [judged(n)]) for n in (1, 40, 2)]
    _, uncounted, other = [answer.json() for answer in await post_together(vendor, "/v1/judgements", bodies, headers)]
    assert [(w["at"], w["code"]) for w in uncounted["warnings"]] == [("/entries/0", "not-counted")]
    assert (uncounted["notCounted"], other["notCounted"], other["warnings"]) == (1, 0, [])
    assert [(r["at"], r["reference"], r["outcome"], r["version"]) for r in other["results"]] == [("/entries/0", "P2", "created", 1)]


async def test_rows_of_one_natural_key_are_written_one_after_another(small_trust: Trust, vendor: Any) -> None:
    """Also where they name the pupil by different keys, so that only the transaction finds it out."""
    grades = [str(90 + n) for n in range(6)]
    keys = [{"reference": "P3"}, {"upn": upn(3)}, {"reference": "P3"}, {"upn": upn(3)}, {"reference": "P3"}, {"upn": upn(3)}]
    bodies = [batch("Oak", [key | {"subject": "reading", "grade": g}]) for key, g in zip(keys, grades, strict=True)]
    answers = await post_together(vendor, "/v1/judgements", bodies, [{"Prefer": "return=representation"}] * 6)
    assert sorted(answer.json()["results"][0]["version"] for answer in answers) == [1, 2, 3, 4, 5, 6]
    rows = await small_trust.operator.fetch("SELECT version FROM judgement_history ORDER BY version")
    assert [row["version"] for row in rows] == [1, 2, 3, 4, 5]
    assert await small_trust.value("SELECT version FROM judgements") == 6


async def test_keys_keep_their_own_answers(small_trust: Trust, vendor: Any) -> None:
    bodies = [batch("Oak", [judged(n)]) for n in range(8)]
    headers = [{"Idempotency-Key": f"k{n}", "Prefer": "return=representation"} for n in range(8)]
    first = await post_together(vendor, "/v1/judgements", bodies, headers)
    again = await post_together(vendor, "/v1/judgements", bodies, headers)
    assert [answer.content for answer in again] == [answer.content for answer in first]
    assert {answer.headers.get("idempotency-replayed") for answer in first} == {None}
    assert {answer.headers.get("idempotency-replayed") for answer in again} == {"true"}
    stored = await small_trust.operator.fetch("SELECT of_tenant FROM idempotency")
    assert [row["of_tenant"] for row in stored] == [small_trust.ids["trust"]] * 8
    other = await post_together(vendor, "/v1/judgements", bodies, headers[1:] + headers[:1])
    assert {answer.json()["issues"][0]["code"] for answer in other} == {"idempotency-key-reused"}
    twins = await post_together(vendor, "/v1/judgements", [batch("Oak", [judged(9)])] * 4, [{"Idempotency-Key": "twin"}] * 4)
    assert {answer.status_code for answer in twins} <= {200, 409}
    assert sum(answer.status_code == 200 and "idempotency-replayed" not in answer.headers for answer in twins) == 1
    assert await small_trust.value("SELECT count(*) FROM receipts WHERE accepted AND operation = 'recordJudgements'") == 9


async def test_graphql_and_rest_wait_together(small_trust: Trust, vendor: Any) -> None:
    bodies = [batch("Oak", [judged(n)]) for n in range(10)]
    small_trust.statements.seen.clear()
    answers = await asyncio.gather(
        *(vendor.post("/v1/judgements", json=body) for body in bodies[:5]),
        *(vendor.post("/graphql", json={"query": MUTATION, "variables": {"input": body}}) for body in bodies[5:]),
    )
    assert [counted(answer.json()) for answer in answers[:5]] == [{"created": 1}] * 5
    recorded = [answer.json()["data"]["recordJudgements"] for answer in answers[5:]]
    assert [(each["created"], each["results"][0]["at"]) for each in recorded] == [(1, "/entries/0")] * 5
    assert len([query for query in small_trust.statements.seen if query.startswith("BEGIN")]) <= 5


async def test_a_receipt_is_of_each_request(small_trust: Trust, vendor: Any) -> None:
    bodies = [batch("Oak", [judged(1)]), *(batch("Oak", [judged(n)]) for n in range(2, 5)), batch("Oak", [judged(5, grade=999)])]
    await post_together(vendor, "/v1/judgements", bodies)
    rows = await small_trust.operator.fetch(
        "SELECT received, created, rejected, accepted, window_no IS NOT NULL AND subject_no IS NOT NULL AS is_located FROM receipts"
        " WHERE operation = 'recordJudgements'"
    )
    assert sorted(map(tuple, rows)) == [(1, 0, 1, False, True)] + [(1, 1, 0, True, True)] * 4


async def test_a_client_of_several_tenants_waits_by_school(small_trust: Trust) -> None:
    wide = await small_trust.client("wide", "trust:4128=all", f"school:{URNS['Quay']}=all")
    bodies = [batch(school, [judged(n) | {"upn": upn(n), "reference": None}]) for school, n in (("Oak", 1), ("Elm", 20))]
    bodies = [body | {"entries": [{k: v for k, v in body["entries"][0].items() if v is not None}]} for body in bodies]
    for body in bodies:
        await sent(wide, "/v1/judgements", body)
    small_trust.statements.seen.clear()
    many = [
        batch("Elm" if n >= 20 else "Oak", [{"upn": upn(n), "subject": "maths", "grade": 100}]) for n in (*range(5), *range(20, 25))
    ]
    answers = await post_together(wide, "/v1/judgements", many)
    assert [counted(answer.json()) for answer in answers] == [{"created": 1}] * 10
    assert len([query for query in small_trust.statements.seen if query.startswith("BEGIN")]) == 4


async def test_tokens_of_other_scopes_do_not_go_together(small_trust: Trust, vendor: Any) -> None:
    answer = await small_trust.http.post(
        "/oauth/token",
        data={"grant_type": "client_credentials", "scope": "judgements:write"},
        auth=small_trust.credentials["vendor"],
    )
    narrow = small_trust.connect({"Authorization": f"Bearer {answer.json()['access_token']}"})
    for client in (vendor, narrow):
        await sent(client, "/v1/judgements", batch("Oak", [judged(0)]))
    small_trust.statements.seen.clear()
    bodies = [batch("Oak", [judged(n)]) for n in range(8)]
    answers = await asyncio.gather(*(client.post("/v1/judgements", json=body) for body in bodies for client in (vendor, narrow)))
    assert {answer.status_code for answer in answers} == {200}
    begun = [query for query in small_trust.statements.seen if query.startswith("BEGIN")]
    assert len(begun) >= 4


@pytest.mark.parametrize("path", ["/v1/judgements", "/v1/targets"])
async def test_a_school_whose_rows_are_unchanged_keeps_its_version(small_trust: Trust, vendor: Any, path: str) -> None:
    """Also where a row of another school in the same transaction is changed."""

    def make(school: str, number: int, grade: int) -> Any:
        row = judged(number, grade=grade) if path == "/v1/judgements" else targeted(number, grade)
        return batch(school, [row]) if path == "/v1/judgements" else of_oak(row) | {"school": {"urn": URNS[school]}}

    async def read_versions() -> dict[str, int]:
        rows = await small_trust.operator.fetch("SELECT name, version FROM school_versions v JOIN schools s ON s.id = v.school_id")
        return dict(map(tuple, rows))

    for school, number in (("Oak", 1), ("Oak", 2), ("Elm", 20)):
        await sent(vendor, path, make(school, number, 100))
    before = await read_versions()
    bodies = [make("Oak", 1, 100), make("Elm", 20, 100), make("Oak", 2, 101)]
    answers = await post_together(vendor, path, bodies)
    assert [counted(answer.json()) for answer in answers] == [{"unchanged": 1}, {"unchanged": 1}, {"updated": 1}]
    assert await read_versions() == before | {"Oak": before["Oak"] + 1}


@pytest.fixture
async def oak_locked(small_trust: Trust) -> Any:
    """A transaction that has locked Oak, as a large batch does. Ending it lets the writers go on."""
    await small_trust.operator.execute(
        "INSERT INTO school_versions (tenant_id, school_id) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        *(small_trust.ids["trust"], small_trust.ids["Oak"]),
    )
    connection = await asyncpg.connect(small_trust.databases.operator_url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("SELECT 1 FROM school_versions WHERE school_id = $1 FOR UPDATE", small_trust.ids["Oak"])
    yield transaction
    await connection.close()


async def wait_for(condition: Any) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not come")


async def begin_posts(trust: Trust, vendor: Any, count: int) -> list[Any]:
    """Tasks that post a judgement each: the first leads, and the others wait."""
    trust.statements.seen.clear()
    posts = []
    for n in range(count):
        posts.append(asyncio.create_task(vendor.post("/v1/judgements", json=batch("Oak", [judged(n)]))))
        if n == 0:
            await wait_for(lambda: any(query.startswith("BEGIN") for query in trust.statements.seen))
    return posts


async def test_a_queue_is_bounded_and_delays_nobody_else(
    small_trust: Trust, vendor: Any, oak_locked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "MAX_WAITING", 3)
    other = await small_trust.client("other", "trust:4128=all")
    posts = await begin_posts(small_trust, vendor, 6)
    await wait_for(lambda: sum(post.done() for post in posts) == 2)
    full = [post.result() for post in posts if post.done()]
    assert [(a.status_code, a.headers["retry-after"], "nothing of this request was written" in a.text) for a in full] == [
        (503, "1", True)
    ] * 2
    assert counted(await sent(other, "/v1/judgements", batch("Elm", [{"upn": upn(20), "subject": "reading", "grade": 99}])))
    assert sum(post.done() for post in posts) == 2
    await oak_locked.rollback()
    answers = await asyncio.gather(*posts)
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [503] * 2
    assert await small_trust.value("SELECT count(*) FROM judgements") == 5


async def test_who_stops_waiting_writes_nothing_and_keeps_nobody(small_trust: Trust, vendor: Any, oak_locked: Any) -> None:
    """One is stopped while it waits, and one while its transaction waits for the lock; the others are written once."""
    waits = small_trust.transport.app.state.writes.count_waiting  # type: ignore[attr-defined]
    posts = await begin_posts(small_trust, vendor, 5)
    await wait_for(lambda: waits() == 4)
    posts[0].cancel()  # which leads
    await wait_for(lambda: waits() == 0)
    posts[1].cancel()  # of the transaction that has begun
    await asyncio.sleep(0.05)
    posts += [asyncio.create_task(vendor.post("/v1/judgements", json=batch("Oak", [judged(n)]))) for n in (5, 6)]
    await wait_for(lambda: waits() == 2)
    posts[5].cancel()
    await oak_locked.rollback()
    answers = await asyncio.gather(*posts, return_exceptions=True)
    written = await small_trust.operator.fetch(
        "SELECT x.value FROM judgements j JOIN external_ids x ON x.id = j.pupil_id WHERE j.version = 1 ORDER BY 1"
    )
    assert [row["value"] for row in written] == ["P2", "P3", "P4", "P6"]
    done = [answer for answer in answers if not isinstance(answer, BaseException) and answer.status_code == 200]
    assert [counted(answer.json()) for answer in done] == [{"created": 1}] * 4
    assert await small_trust.value("SELECT count(*) FROM receipts WHERE accepted AND operation = 'recordJudgements'") == 4


async def test_draining_waits_for_those_that_are_written(small_trust: Trust, vendor: Any, oak_locked: Any) -> None:
    writes = small_trust.transport.app.state.writes  # type: ignore[attr-defined]
    posts = await begin_posts(small_trust, vendor, 3)
    await wait_for(lambda: writes.count_waiting() == 2)
    posts[0].cancel()
    await wait_for(lambda: writes.count_waiting() == 0)
    drained = asyncio.create_task(writes.drain())
    await asyncio.sleep(0.05)
    assert not drained.done()
    await oak_locked.rollback()
    await drained
    assert await small_trust.value("SELECT count(*) FROM judgements") == 2
    await asyncio.gather(*posts, return_exceptions=True)


async def test_many_at_random_do_what_a_plain_model_says(small_trust: Trust, vendor: Any) -> None:
    """Corrections in any order, keys, twins, withdrawals, unknown codes and pupils who move meanwhile. `make faults` sends 20,000."""
    other = await small_trust.client("other", "trust:4128=all")
    singles = Singles([vendor, other], random.Random(15))
    for _ in range(6):
        await singles.run_round(40)
    assert await singles.find_differences(small_trust.operator) == []
    assert {"created", "updated", "unchanged", "superseded", "withdrawn", "version-conflict"} <= singles.outcomes.keys()
    assert await small_trust.value(GAPS) == 0
    assert await small_trust.value(UNRECEIPTED) == 0
    assert await miscounted(small_trust) == (0, 0, 0)
