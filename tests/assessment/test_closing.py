"""A window closed at noon: what was recorded before it may arrive until acceptUntil, and what changes nothing never fails."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fixtures.small_trust import Trust, batch, counted, issues, judged, sent, window

CODE = "2017-18/noon"
CLOSED = {"/entries/0/window": "window-closed"}


def ago(minutes: float) -> str:
    return (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()


async def noon(vendor: Any, *, until: float | None) -> str:
    """The id of an open window that closes by itself in ten minutes; values from before are taken for so many minutes from now."""
    accept = {} if until is None else {"acceptUntil": ago(-until)}
    made = await sent(vendor, "/v1/windows", window(CODE, closesAt=ago(-10), opensAt=ago(-5), **accept), 201)
    await sent(vendor, f"/v1/windows/{made['id']}/open")
    return str(made["id"])


async def put(vendor: Any, grade: Any, recorded: float, status: int = 200, number: int = 1, **more: Any) -> Any:
    row = judged(number, grade=grade, recordedAt=ago(recorded), **more)
    return await sent(vendor, "/v1/judgements", batch("Oak", [row], window=CODE), status)


async def test_values_recorded_before_it_closed_arrive_until_accept_until(small_trust: Trust, vendor: Any) -> None:
    window_id = await noon(vendor, until=30)
    assert counted(await put(vendor, 100, 90)) == {"created": 1}
    await sent(vendor, f"/v1/windows/{window_id}/close")
    closed_at = (await vendor.get(f"/v1/windows/{window_id}?fields=closedAt")).json()["closedAt"]
    assert abs(datetime.fromisoformat(closed_at) - datetime.now(UTC)) < timedelta(minutes=5)
    assert counted(await put(vendor, 101, 80)) == {"updated": 1}  # a correction from before
    assert counted(await put(vendor, 99, 100, number=2)) == {"created": 1}
    assert issues(await put(vendor, 102, -1, 422)) == CLOSED  # recorded after it closed
    assert issues(await put(vendor, None, -1, 422, withdrawn=True)) == CLOSED
    assert counted(await put(vendor, None, 70, withdrawn=True)) == {"withdrawn": 1}
    await small_trust.operator.execute(
        "UPDATE windows SET opens_at = now() - interval '3 hours', closes_at = now() - interval '1 hour', accept_until = now() - interval '1 minute'"
        " WHERE code = $1",
        CODE,
    )
    assert issues(await put(vendor, 103, 65, 422)) == CLOSED


async def test_what_was_recorded_while_it_was_still_open_counts_as_before(small_trust: Trust, vendor: Any) -> None:
    """It was closed now; and one that was closed earlier takes nothing recorded after."""
    window_id = await noon(vendor, until=30)
    await sent(vendor, f"/v1/windows/{window_id}/close")
    assert counted(await put(vendor, 100, 30)) == {"created": 1}
    await small_trust.operator.execute("UPDATE windows SET closed_at = now() - interval '2 hours' WHERE code = $1", CODE)
    assert issues(await put(vendor, 101, 29, 422)) == CLOSED


async def test_without_accept_until_nothing_is_taken_and_reopened_everything(vendor: Any) -> None:
    window_id = await noon(vendor, until=None)
    await sent(vendor, f"/v1/windows/{window_id}/close")
    assert issues(await put(vendor, 100, 90, 422)) == CLOSED
    await sent(vendor, f"/v1/windows/{window_id}/reopen")
    assert (await vendor.get(f"/v1/windows/{window_id}?fields=closedAt")).json()["closedAt"] is None
    assert counted(await put(vendor, 100, 90)) == {"created": 1}


@pytest.mark.parametrize("state", ["closed", "locked"])
async def test_rows_that_change_nothing_never_fail(small_trust: Trust, vendor: Any, state: str) -> None:
    window_id = await noon(vendor, until=30)
    rows = [judged(1), judged(2, grade=None, status="absent"), judged(3)]
    recorded = [row | {"recordedAt": ago(90)} for row in rows]
    await sent(vendor, "/v1/judgements", batch("Oak", recorded, window=CODE))
    await put(vendor, None, 80, number=3, withdrawn=True)
    await sent(vendor, f"/v1/windows/{window_id}/close")
    await small_trust.operator.execute("UPDATE windows SET state = $2 WHERE code = $1", CODE, state)
    before = await small_trust.everything()
    same = [rows[0], recorded[1], judged(3, grade=None, withdrawn=True), judged(4, grade=None, withdrawn=True)]
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", same, window=CODE))) == {"unchanged": 4}
    older = judged(1, grade=90, recordedAt=ago(95))
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [older], window=CODE))) == {"superseded": 1}
    assert await small_trust.everything() == before
    changed = [judged(1, grade=90), judged(4), judged(2, grade=None, withdrawn=True)]
    refused = await sent(vendor, "/v1/judgements", batch("Oak", changed, window=CODE), 422)
    assert issues(refused) == {f"/entries/{n}/window": "window-closed" for n in range(3)}


async def test_a_locked_window_takes_nothing_late(small_trust: Trust, vendor: Any) -> None:
    window_id = await noon(vendor, until=30)
    await sent(vendor, f"/v1/windows/{window_id}/close")
    await small_trust.operator.execute("UPDATE windows SET state = 'locked' WHERE code = $1", CODE)
    assert issues(await put(vendor, 100, 90, 422)) == CLOSED
