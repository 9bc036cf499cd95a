"""Without recordedAt the later commit wins, also where the database's clock goes back: a value that was acknowledged is never dropped as superseded."""

import asyncio
from typing import Any

import asyncpg
import httpx2
import pytest

from tests.fixtures.small_trust import Trust, batch, entry, judged, opened, roll, sent

HORIZON = {"academicYear": "2017-18", "point": "KS2"}


async def put_stored_ahead(here: Trust, table: str, seconds: int = 1) -> None:
    """What stands when the clock has gone back: rows of an instant that is still to come."""
    superuser = await asyncpg.connect(here.databases.cluster.url(here.databases.name, "postgres"))
    await superuser.execute(
        f"UPDATE {table} SET recorded_at = clock_timestamp() + $1 * interval '1 second', received_at = clock_timestamp() + $1 * interval '1 second'",
        seconds,
    )
    await superuser.close()


async def shown(client: httpx2.AsyncClient) -> Any:
    return (await client.get("/v1/judgements", params={"fields": "grade,status,version,recordedAt,receivedAt"})).json()["data"]


def target(grade: int, **more: Any) -> dict[str, Any]:
    row = {"reference": "P1", "subject": "reading", "grade": grade, "horizon": HORIZON, "basis": "teacher", **more}
    return {"school": {"urn": 100001}, "entries": [row]}


@pytest.fixture
async def client(small_trust: Trust) -> httpx2.AsyncClient:
    vendor = await small_trust.client("vendor", "trust:4128=all")
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    return vendor


@pytest.mark.parametrize("later", [{"grade": 101}, {"grade": None, "status": "absent"}, {"grade": None, "withdrawn": True}])
async def test_the_later_write_wins_when_the_clock_has_gone_back(
    small_trust: Trust, client: httpx2.AsyncClient, later: dict[str, Any]
) -> None:
    await sent(client, "/v1/judgements", batch("Oak", [judged(1, grade=100)]))
    await put_stored_ahead(small_trust, "judgements", 60)
    (before,) = await shown(client)
    answer = await sent(client, "/v1/judgements", batch("Oak", [judged(1, **later)]))
    assert (answer["superseded"], answer["updated"] + answer["withdrawn"]) == (0, 1)
    rows = await shown(client)
    assert [(row["grade"], row["version"]) for row in rows if row["status"] != "withdrawn"] == (
        [] if later.get("withdrawn") else [(str(later["grade"]) if later["grade"] else None, 2)]
    )
    assert all(row["recordedAt"] >= before["recordedAt"] and row["receivedAt"] >= before["receivedAt"] for row in rows)
    backwards = await small_trust.value("SELECT count(*) FROM judgement_history WHERE until < received_at")
    assert backwards == 0


async def test_the_later_target_wins_when_the_clock_has_gone_back(small_trust: Trust, client: httpx2.AsyncClient) -> None:
    await sent(client, "/v1/judgements", batch("Oak", [judged(1, grade=100)]))
    await sent(client, "/v1/targets", target(100, scheme="ks2-scaled-score"))
    await put_stored_ahead(small_trust, "targets", 60)
    answer = await sent(client, "/v1/targets", target(105, scheme="ks2-scaled-score"))
    assert (answer["updated"], answer["superseded"]) == (1, 0)
    assert [row["grade"] for row in (await client.get("/v1/targets?fields=grade")).json()["data"]] == ["105"]


async def test_of_two_writes_at_once_the_later_commit_wins(small_trust: Trust, client: httpx2.AsyncClient) -> None:
    """Both have begun before either has the lock; whoever has it last is the later one, though it may have begun first."""
    await sent(client, "/v1/judgements", batch("Oak", [judged(1, grade=100)]))
    for round_ in range(8):
        answers = await asyncio.gather(
            *(sent(client, "/v1/judgements", batch("Oak", [judged(1, grade=81 + 2 * round_ + n)])) for n in range(2))
        )
        assert [answer["updated"] for answer in answers] == [1, 1]
    (row,) = await shown(client)
    assert row["version"] == 17


async def test_a_recorded_instant_still_orders_those_who_say_it(small_trust: Trust, client: httpx2.AsyncClient) -> None:
    await sent(client, "/v1/judgements", batch("Oak", [judged(1, grade=100, recordedAt="2018-05-16T10:00:00Z")]))
    older = await sent(client, "/v1/judgements", batch("Oak", [judged(1, grade=90, recordedAt="2018-05-16T09:00:00Z")]))
    assert older["superseded"] == 1
    assert [row["grade"] for row in await shown(client)] == ["100"]


async def test_what_arrives_after_closing_is_late_only_where_it_says_when_it_was_recorded(
    small_trust: Trust, client: httpx2.AsyncClient
) -> None:
    """With a clock that has gone back, a value that arrives after the window was closed seems to be from before."""
    windows = (await client.get("/v1/windows?fields=id")).json()["data"]
    await client.patch(f"/v1/windows/{windows[0]['id']}", json={"acceptUntil": "2099-12-01T00:00:00Z"}, headers={"If-Match": "*"})
    await sent(client, f"/v1/windows/{windows[0]['id']}/close")
    superuser = await asyncpg.connect(small_trust.databases.cluster.url(small_trust.databases.name, "postgres"))
    await superuser.execute("UPDATE windows SET closed_at = clock_timestamp() + interval '60 seconds', accept_until = '2099-12-01'")
    await superuser.close()
    refused = await sent(client, "/v1/judgements", batch("Oak", [judged(1, grade=100)]), 422)
    assert [issue["code"] for issue in refused["issues"]] == ["window-closed"]
    await sent(client, "/v1/judgements", batch("Oak", [judged(1, grade=100, recordedAt="2018-05-16T10:00:00Z")]))
