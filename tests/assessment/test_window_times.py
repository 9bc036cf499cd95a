"""A window opens, closes and stops accepting at its own instants, without anybody calling; the verbs do it earlier."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fixtures.clock import set_clock
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import Trust, asked, batch, counted, entry, issues, judged, roll, sent, window

CODE = "2017-18/by-itself"
OPENS, CLOSES, UNTIL = (datetime(2026, 11, day, 8, tzinfo=UTC) for day in (9, 20, 24))
SECOND = timedelta(seconds=1)
TERMS = {"opensAt": OPENS.isoformat(), "closesAt": CLOSES.isoformat(), "acceptUntil": UNTIL.isoformat()}
PLANNED = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass
class StandingClock:
    """The clock of the calendar and of windows, which stands still."""

    monkeypatch: pytest.MonkeyPatch

    def stand(self, instant: datetime) -> None:
        set_clock(self.monkeypatch, instant)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> StandingClock:
    made = StandingClock(monkeypatch)
    made.stand(PLANNED)
    return made


async def plan(vendor: Any, **changed: Any) -> str:
    """The id of a planned window."""
    made = await sent(vendor, "/v1/windows", window(CODE, **(TERMS | changed)), 201)
    assert made["state"] == "planned"
    return str(made["id"])


async def read_state(vendor: Any, id_: str) -> tuple[Any, Any]:
    """The window's state and closedAt, which both interfaces and the filter agree on."""
    row = (await vendor.get(f"/v1/windows/{id_}?fields=state,closedAt")).json()
    query = "query ($id: ID!) { window(id: $id) { state closedAt } }"
    assert (await asked(vendor, query, id=id_))["window"] == row
    for state in ("planned", "open", "closed", "locked"):
        listed = (await vendor.get("/v1/windows", params={"state": state, "code": CODE, "fields": "id"})).json()["data"]
        assert bool(listed) == (state == row["state"])
    return row["state"], row["closedAt"] and datetime.fromisoformat(row["closedAt"])


async def put(vendor: Any, number: int, status: int = 200, **more: Any) -> Any:
    return await sent(vendor, "/v1/judgements", batch("Oak", [judged(number, **more)], window=CODE), status)


NOT_OPEN, CLOSED = {"/entries/0/window": "window-not-open"}, {"/entries/0/window": "window-closed"}


async def test_one_second_before_and_after_each_instant(small_trust: Trust, vendor: Any, clock: StandingClock) -> None:
    id_ = await plan(vendor)
    clock.stand(OPENS - SECOND)
    assert await read_state(vendor, id_) == ("planned", None)
    assert issues(await put(vendor, 1, 422)) == NOT_OPEN
    clock.stand(OPENS + SECOND)
    assert await read_state(vendor, id_) == ("open", None)
    assert counted(await put(vendor, 1)) == {"created": 1}
    clock.stand(CLOSES - SECOND)
    assert await read_state(vendor, id_) == ("open", None)
    assert counted(await put(vendor, 2)) == {"created": 1}
    clock.stand(CLOSES + SECOND)
    assert await read_state(vendor, id_) == ("closed", CLOSES)
    early, late = ((CLOSES + difference).isoformat() for difference in (-SECOND, SECOND))
    assert issues(await put(vendor, 3, 422)) == CLOSED
    assert issues(await put(vendor, 3, 422, recordedAt=late)) == CLOSED
    assert counted(await put(vendor, 3, recordedAt=early)) == {"created": 1}
    assert counted(await put(vendor, 1)) == {"unchanged": 1}
    clock.stand(UNTIL - SECOND)
    assert counted(await put(vendor, 4, recordedAt=early)) == {"created": 1}
    clock.stand(UNTIL + SECOND)
    assert issues(await put(vendor, 5, 422, recordedAt=early)) == CLOSED
    assert counted(await put(vendor, 4, recordedAt=early)) == {"unchanged": 1}
    assert await miscounted(small_trust) == (0, 0, 0)


READS = (
    "/v1/windows/{id}",
    "/v1/windows?fields=code,state",
    "/v1/judgements?include=window&first=1",
    "/v1/pupils?include=judgements.window&first=1&fields=id",
    f"/v1/aggregates?window={CODE}&groupBy=subject",
)


async def read_linked_state(vendor: Any) -> tuple[set[str], set[str]]:
    """The state of the window by name, as the judgements in it show it, in both interfaces."""
    await put(vendor, 1, recordedAt=(OPENS + SECOND).isoformat())
    linked = (
        await vendor.get("/v1/judgements", params={"windowCode": CODE, "include": "window", "fields": "window.state"})
    ).json()["data"]
    query = "query ($code: [String!]) { judgements(where: {windowCode: $code}) { nodes { window { state } } } }"
    nodes = (await asked(vendor, query, code=[CODE]))["judgements"]["nodes"]
    return {row["window"]["state"] for row in linked}, {node["window"]["state"] for node in nodes}


async def test_a_304_and_an_answer_from_the_cache_end_at_the_instant(vendor: Any, clock: StandingClock) -> None:
    id_ = await plan(vendor)
    paths = [path.replace("{id}", id_) for path in READS]
    for before, after in ((OPENS - SECOND, OPENS + SECOND), (CLOSES - SECOND, CLOSES + SECOND), (UNTIL - SECOND, UNTIL + SECOND)):
        clock.stand(before - SECOND)
        tags = [(await vendor.get(path)).headers["etag"] for path in paths]
        clock.stand(before)
        again = [await vendor.get(path, headers={"If-None-Match": tag}) for path, tag in zip(paths, tags, strict=True)]
        assert [answer.status_code for answer in again] == [304] * len(paths)
        clock.stand(after)
        again = [await vendor.get(path, headers={"If-None-Match": tag}) for path, tag in zip(paths, tags, strict=True)]
        assert [answer.status_code for answer in again] == [200] * len(paths)
        state = (await vendor.get(f"/v1/windows/{id_}")).json()["state"]
        assert again[0].json()["state"] == state == ("open" if after < CLOSES else "closed")
        assert await read_linked_state(vendor) == ({state}, {state})


async def test_a_linked_window_shows_its_state_at_the_time_of_the_request(vendor: Any, clock: StandingClock) -> None:
    """Codes and states of windows stand in a cache of labels."""
    await plan(vendor)
    path = "/v1/judgements?include=window&fields=window.code,window.state&first=1000"
    for instant, state in ((OPENS + SECOND, "open"), (CLOSES - SECOND, "open"), (CLOSES, "closed")):
        clock.stand(instant)
        await put(vendor, 1) if instant < CLOSES else None
        windows = [row["window"] for row in (await vendor.get(path)).json()["data"]]
        assert {window["state"] for window in windows if window["code"] == CODE} == {state}


async def test_aggregates_and_returns_show_a_window_once_it_is_open(small_trust: Trust, vendor: Any, clock: StandingClock) -> None:
    """Nothing is written at the instant: what is counted was counted when it was planned, and is kept while the roll changes."""
    id_ = await plan(vendor)
    await sent(
        vendor,
        "/v1/pupils",
        roll("Oak", [entry(1, reference="P1", enrolments=[{"from": "2014-09-01", "status": "C", "to": "2017-12-31"}])]),
    )
    assert await miscounted(small_trust) == (0, 0, 0)
    asks = {"window": CODE, "groupBy": "subject"}
    before = await small_trust.everything()
    clock.stand(OPENS - SECOND)
    assert (await vendor.get("/v1/aggregates", params=asks)).json()["data"] == []
    assert (await vendor.get(f"/v1/windows/{id_}/returns")).json()["data"] == []
    clock.stand(OPENS + SECOND)
    rows = (await vendor.get("/v1/aggregates", params=asks)).json()["data"]
    assert {row["valid"] for row in rows} == {0}
    assert {row["subject"] for row in rows} >= {"reading", "writing", "maths", "rwm"}
    returns = (await vendor.get(f"/v1/windows/{id_}/returns")).json()["data"]
    expected = await small_trust.value(
        "SELECT count(*) FROM census WHERE window_no = (SELECT no FROM windows WHERE code = $1)", CODE
    )
    assert {row["eligible"] for row in rows} == {expected}
    assert sum(row["expected"] for row in returns if row["subject"] == "reading" and row["aspect"] == "main") == expected
    assert await small_trust.everything() == before


async def test_a_planned_window_counts_again_when_its_terms_change(small_trust: Trust, vendor: Any, clock: StandingClock) -> None:
    id_ = await plan(vendor, yearGroups=["5"])
    counted_in = (
        "SELECT COALESCE(sum(n), 0) FROM cells WHERE window_no = (SELECT no FROM windows WHERE code = $1) AND aspect_no = 0"
    )
    assert await small_trust.value(counted_in, CODE) == 0
    changed = await vendor.patch(f"/v1/windows/{id_}", json={"yearGroups": ["6"]}, headers={"If-Match": "*"})
    assert changed.status_code == 200
    assert await small_trust.value(counted_in, CODE) > 0
    assert await miscounted(small_trust) == (0, 0, 0)
    clock.stand(OPENS)
    refused = await vendor.patch(
        f"/v1/windows/{id_}", json={"yearGroups": ["5"], "opensAt": CLOSES.isoformat()}, headers={"If-Match": "*"}
    )
    assert (refused.status_code, issues(refused.json())) == (
        422,
        {"/closesAt": "closes-before-opening", "/opensAt": "window-state", "/yearGroups": "window-state"},
    )


async def test_a_window_is_no_longer_carried_over_by_one_that_is_only_planned(vendor: Any, clock: StandingClock) -> None:
    """carriedFrom says that a later window has collected the subject: a planned one has not."""
    first, later = "2017-18/first", "2017-18/later"
    made = await sent(vendor, "/v1/windows", window(first, **(TERMS | {"censusOn": "2018-06-05"})), 201)
    await sent(vendor, f"/v1/windows/{made['id']}/open")
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)], window=first))
    await sent(vendor, "/v1/windows", window(later, **(TERMS | {"censusOn": "2018-07-05"})), 201)
    asks = {"windowCode": first, "fields": "carriedFrom"}
    assert (await vendor.get("/v1/judgements", params=asks)).json()["data"] == [{"carriedFrom": None}]
    clock.stand(OPENS + SECOND)
    assert (await vendor.get("/v1/judgements", params=asks)).json()["data"] == [{"carriedFrom": first}]


async def test_the_verbs_do_it_earlier(vendor: Any, clock: StandingClock) -> None:
    id_ = await plan(vendor)
    assert (await sent(vendor, f"/v1/windows/{id_}/open"))["state"] == "open"
    assert await read_state(vendor, id_) == ("open", None)
    assert datetime.fromisoformat((await vendor.get(f"/v1/windows/{id_}")).json()["opensAt"]) == PLANNED
    clock.stand(PLANNED + SECOND)
    assert (await sent(vendor, f"/v1/windows/{id_}/close"))["state"] == "closed"
    assert await read_state(vendor, id_) == ("closed", PLANNED + SECOND)
    clock.stand(PLANNED + 2 * SECOND)
    assert (await sent(vendor, f"/v1/windows/{id_}/reopen"))["state"] == "open"
    clock.stand(CLOSES)
    assert await read_state(vendor, id_) == ("closed", CLOSES)


async def test_a_window_that_has_opened_or_closed_by_itself_is_in_that_state_for_the_verbs(
    vendor: Any, clock: StandingClock
) -> None:
    id_ = await plan(vendor)
    clock.stand(OPENS)
    assert (await sent(vendor, f"/v1/windows/{id_}/open", status=409))["type"].endswith("/window-state")
    clock.stand(CLOSES)
    for verb in ("open", "close"):
        assert (await sent(vendor, f"/v1/windows/{id_}/{verb}", status=409))["type"].endswith("/window-state")
    refused = await vendor.patch(f"/v1/windows/{id_}", json={"closesAt": "2027-01-01T00:00:00Z"}, headers={"If-Match": "*"})
    assert (refused.status_code, issues(refused.json())) == (
        422,
        {"/acceptUntil": "accepts-before-closing", "/closesAt": "window-state"},
    )


async def test_reopening_takes_a_new_closes_at(vendor: Any, clock: StandingClock) -> None:
    id_ = await plan(vendor)
    clock.stand(UNTIL)
    path = f"/v1/windows/{id_}/reopen"
    assert issues(await sent(vendor, path, status=422)) == {"/closesAt": "closes-in-past"}
    assert issues(await sent(vendor, path, {"closesAt": UNTIL.isoformat()}, 422)) == {"/closesAt": "closes-in-past"}
    assert issues(await sent(vendor, path, {"closesAt": "soon"}, 422)) == {"/closesAt": "wrong-value"}
    new = UNTIL + timedelta(days=2)
    assert (await sent(vendor, path, {"closesAt": new.isoformat()}))["state"] == "open"
    row = (await vendor.get(f"/v1/windows/{id_}?fields=closesAt,acceptUntil,closedAt")).json()
    assert {name: value and datetime.fromisoformat(value) for name, value in row.items()} == {
        "closesAt": new,
        "acceptUntil": new,
        "closedAt": None,
    }
    assert counted(await put(vendor, 1)) == {"created": 1}
    clock.stand(new)
    assert issues(await put(vendor, 1, 422, grade=101)) == CLOSED
    mutation = "mutation ($id: String!, $at: DateTime!) { reopenWindow(input: {id: $id, closesAt: $at}) { state } }"
    assert (await asked(vendor, mutation, id=id_, at=(new + SECOND).isoformat()))["reopenWindow"] == {"state": "open"}
    assert counted(await put(vendor, 1, grade=101)) == {"updated": 1}


async def test_past_results_are_entered_in_a_window_with_a_past_census(
    small_trust: Trust, vendor: Any, clock: StandingClock
) -> None:
    id_ = await plan(vendor, opensAt=(PLANNED + SECOND).isoformat())
    clock.stand(PLANNED + SECOND)
    assert counted(await put(vendor, 1)) == {"created": 1}
    past = await sent(
        vendor, "/v1/windows", window("2017-18/over", opensAt="2018-05-14T08:00:00Z", closesAt="2018-07-31T16:00:00Z"), 201
    )
    assert past["state"] == "closed"
    assert (await read_state(vendor, id_))[0] == "open"
