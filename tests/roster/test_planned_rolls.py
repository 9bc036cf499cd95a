"""Of which days a roll may be; and rolls of the coming academic year, which change nothing until their day and are applied then by themselves."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.fixtures.clock import freeze_clock, set_clock
from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import URNS, Trust, asked, batch, counted, entry, issues, judged, opened, roll, sent, upn

JUNE, JULY = datetime(2017, 6, 1, 9, tzinfo=UTC), datetime(2017, 7, 10, 9, tzinfo=UTC)
BEFORE, AFTER = datetime(2017, 8, 31, 22, 59, 59, tzinfo=UTC), datetime(2017, 8, 31, 23, 0, 0, tzinfo=UTC)
"""One second before 1 September begins in England, and then."""
FIRST = "2017-09-01"
SPELLS = "SELECT u.upn, e.from_on::text, e.to_on::text FROM enrolments e JOIN upns u USING (tenant_id, pupil_id) ORDER BY 1, 2"
READS = (
    "/v1/pupils?fields=upn,yearGroup,surname,onRoll&sort=upn",
    "/v1/pupils?roll=all&fields=upn,version&sort=upn",
    "/v1/enrolments",
    "/v1/schools?fields=name,rollYear,rollState",
    "/v1/data-issues",
    f"/v1/schools?urn={URNS['Oak']}&include=pupils,onRoll&fields=name,pupils.upn,onRoll.upn",
)
STAYS = {"enrolments": [{"from": "2014-09-01", "status": "C"}]}
JOINS = {"enrolments": [{"from": FIRST, "status": "C"}]}


def old(number: int, **changed: Any) -> dict[str, Any]:
    """A pupil of Year 5 in 2016-17."""
    return entry(number, **({"yearGroup": "5", "characteristics": None} | changed))


def new(number: int, **changed: Any) -> dict[str, Any]:
    """One who is of Year 6 in 2017-18."""
    return old(number, **({"yearGroup": "6"} | changed))


async def planned(client: Any, *entries: dict[str, Any], at: str = "Oak", status: int = 200, path: str = "", **head: Any) -> Any:
    return await sent(
        client, f"/v1/pupils{path}", roll(at, entries, **({"asOf": FIRST} | head)), status, Prefer="return=representation"
    )


async def listed(client: Any) -> list[Any]:
    """The state of each planned roll, the same in both interfaces."""
    fields = ("asOf", "state", "rowCount", "problem", "created", "updated", "unchanged", "rejected", "left")
    rows = (await client.get("/v1/planned-rolls", params={"fields": ",".join(fields)})).json()["data"]
    nodes = (await asked(client, f"{{ plannedRolls {{ nodes {{ {' '.join(fields)} }} }} }}"))["plannedRolls"]["nodes"]
    assert nodes == rows
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


async def told(client: Any) -> dict[str, tuple[str, str]]:
    """Reference and year group of who is on roll today, by UPN."""
    rows = (await client.get("/v1/pupils?fields=upn,yearGroup,surname")).json()["data"]
    return {row["upn"]: (row["yearGroup"], row["surname"]) for row in rows}


@pytest.fixture
def fill_trust(request: pytest.FixtureRequest) -> Filling:
    return record_roll_of_may if "oak" in request.fixturenames else register_vendor


async def record_roll_of_may(trust: Trust) -> None:
    with freeze_clock(JUNE):
        await sent(await register_vendor(trust), "/v1/pupils", roll("Oak", [old(1), old(2), old(3)], asOf="2017-05-01"))
        await trust.client("oak", f"school:{URNS['Oak']}=all")


@pytest.fixture
def oak(small_trust: Trust, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The client of Oak, in June 2017: pupils 1 to 3 are on roll."""
    set_clock(monkeypatch, JUNE)
    return small_trust.made[1]


DAYS = {
    ("2017-05-31T22:59:59", "2017-09-01"): "refused",  # 31 May in England
    ("2017-05-31T23:00:00", "2017-09-01"): "planned",
    ("2017-06-01T09:00:00", "2017-09-30"): "planned",
    ("2017-06-01T09:00:00", "2017-10-01"): "refused",
    ("2017-06-01T09:00:00", "2018-09-01"): "refused",
    ("2017-06-01T09:00:00", "2017-06-02"): "recorded",
    ("2017-06-01T09:00:00", "2017-06-03"): "refused",
    ("2017-06-01T09:00:00", "2017-08-31"): "refused",
    ("2017-08-30T23:30:00", "2017-09-01"): "planned",  # tomorrow is of the coming year: nothing of today changes
    ("2017-08-31T22:59:59", "2017-09-02"): "planned",
    ("2017-08-31T23:00:00", "2017-09-01"): "recorded",
    ("2017-08-31T23:00:00", "2017-09-02"): "recorded",
    ("2017-08-31T23:00:00", "2017-09-03"): "refused",
    ("2017-11-01T12:00:00", "2017-11-03"): "refused",
    ("2017-12-31T12:00:00", "2018-01-01"): "recorded",
    ("2017-03-25T23:59:59", "2017-03-26"): "recorded",
    ("2017-03-25T23:59:59", "2017-03-27"): "refused",
}


@pytest.mark.parametrize(("instant", "as_of"), DAYS)
async def test_of_which_days_a_roll_may_be(vendor: Any, monkeypatch: pytest.MonkeyPatch, instant: str, as_of: str) -> None:
    set_clock(monkeypatch, datetime.fromisoformat(instant).replace(tzinfo=UTC))
    outcome = DAYS[instant, as_of]
    body = roll("Oak", [new(1)], asOf=as_of)
    answer = await sent(vendor, "/v1/pupils?dryRun=true", body, 422 if outcome == "refused" else 200)
    mutation = "mutation ($b: PupilBatchInput!) { recordPupils(input: $b, dryRun: true) { plannedRollIds } }"
    same = (await vendor.post("/graphql", json={"query": mutation, "variables": {"b": body}})).json()
    if outcome == "refused":
        assert issues(answer) == {"/asOf": "as-of-implausible"}
        assert issues(same["errors"][0]["extensions"]["problem"]) == {"/asOf": "as-of-implausible"}
    else:
        assert len(answer["plannedRollIds"]) == len(same["data"]["recordPupils"]["plannedRollIds"]) == (outcome == "planned")
    assert await told(vendor) == {}


async def test_next_years_roll_changes_nothing_until_its_day_and_is_applied_by_itself(
    small_trust: Trust, oak: Any, vendor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [await vendor.get(path) for path in READS]
    tables = await small_trust.everything()
    renamed = new(1, surname="Renamed", characteristics=[{"kind": "sen", "value": "K", "from": FIRST}])
    answer = await planned(
        oak,
        renamed,
        new(2, enrolments=[STAYS["enrolments"][0] | {"to": "2017-10-20"}]),
        new(4, **JOINS),
        complete=True,
        maxLeavers=50,
    )
    assert counted(answer) == {"created": 1, "updated": 2}
    assert (answer["left"], answer["issues"]) == (1, [])
    outcomes = {result["at"]: (result["outcome"], result["id"] is None) for result in answer["results"]}
    assert outcomes == {
        "/entries/0": ("updated", False),
        "/entries/1": ("updated", False),
        "/entries/2": ("created", True),
        "/complete": ("left", False),
    }
    (id_,) = answer["plannedRollIds"]
    assert (await oak.get(f"/v1/planned-rolls/{id_}")).json()["state"] == "planned"
    for moment in (JUNE + timedelta(hours=1), BEFORE):
        set_clock(monkeypatch, moment)
        after = [
            await vendor.get(path, headers={"If-None-Match": first.headers.get("etag", '"none"')})
            for path, first in zip(READS, before, strict=True)
        ]
        if moment.date() == JUNE.date():
            assert [each.status_code for each in after] == [304 if first.headers.get("etag") else 200 for first in before]
        again = [(await vendor.get(path)).json() for path in READS]
        assert again == [first.json() for first in before]
    assert await small_trust.everything() == tables
    set_clock(monkeypatch, AFTER)
    assert await told(vendor) == {upn(1): ("6", "Renamed"), upn(2): ("6", "Surname2"), upn(4): ("6", "Surname4")}
    assert {tuple(row) for row in await small_trust.operator.fetch(SPELLS)} == {
        (upn(1), "2014-09-01", None),
        (upn(2), "2014-09-01", "2017-10-20"),
        (upn(3), "2014-09-01", "2017-08-31"),
        (upn(4), FIRST, None),
    }
    assert (await vendor.get(f"/v1/schools?urn={URNS['Oak']}&fields=rollYear,rollState")).json()["data"] == [
        {"rollYear": "2017-18", "rollState": "current"}
    ]
    assert await listed(oak) == [
        {"asOf": FIRST, "state": "applied", "rowCount": 3, "created": 1, "updated": 2, "unchanged": 0, "rejected": 0, "left": 1}
    ]
    assert await small_trust.value("SELECT count(*) FROM planned_pupils") == 0
    assert await miscounted(small_trust) == (0, 0, 0)
    settled = await small_trust.everything()
    assert await told(vendor) == await told(oak)
    assert await small_trust.everything() == settled


async def test_two_requests_at_once_apply_it_once(
    small_trust: Trust, oak: Any, vendor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    await planned(oak, new(4, **JOINS), new(5, **JOINS))
    set_clock(monkeypatch, AFTER)
    answers = await asyncio.gather(*(told(client) for client in (oak, vendor) * 4))
    assert all({upn(4), upn(5)} < answer.keys() for answer in answers)
    assert await small_trust.value("SELECT count(*) FROM enrolments") == 5
    assert (
        await small_trust.value("SELECT count(*) FROM receipts WHERE operation = 'recordPupils' AND created = 2") == 2
    )  # when it was sent and applied


async def test_a_write_of_the_day_comes_after_the_roll(oak: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that what was said in June never replaces what is said in September."""
    await planned(oak, new(1, surname="June"))
    set_clock(monkeypatch, AFTER)
    assert counted(await sent(oak, "/v1/pupils", roll("Oak", [new(1, surname="September")], asOf=FIRST))) == {"updated": 1}
    assert (await told(oak))[upn(1)] == ("6", "September")


async def test_a_complete_roll_replaces_what_was_planned_and_another_its_pupils(
    small_trust: Trust, oak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    everybody = [new(1), new(2), new(3)]
    (first,) = (await planned(oak, *everybody, new(4, **JOINS), complete=True, asOf="2017-09-04"))["plannedRollIds"]
    (second,) = (await planned(oak, *everybody, complete=True))["plannedRollIds"]
    assert first != second
    assert [row["asOf"] for row in await listed(oak)] == [FIRST]
    (third,) = (await planned(oak, new(5, **JOINS), new(6, **JOINS)))["plannedRollIds"]
    (fourth,) = (await planned(oak, new(6, **JOINS, surname="Later"), asOf="2017-09-02"))["plannedRollIds"]
    assert len({second, third, fourth}) == 3
    assert (await planned(oak, new(6, **JOINS, surname="Later"), asOf="2017-09-02"))["plannedRollIds"] == [fourth]
    (corrected,) = (await planned(oak, new(5, **JOINS, surname="Corected")))["plannedRollIds"]
    (last,) = (await planned(oak, new(5, **JOINS, surname="Corrected")))["plannedRollIds"]  # of `corrected` nothing is left
    assert corrected not in {row["id"] for row in (await oak.get("/v1/planned-rolls")).json()["data"]}
    assert [row["rowCount"] for row in await listed(oak)] == [3, 2, 1, 1]
    assert last not in (third, fourth)
    set_clock(monkeypatch, AFTER)
    assert (await told(oak))[upn(5)] == ("6", "Corrected")
    assert (await told(oak))[upn(6)] == ("6", "Surname6"), "of the day before the later roll"
    set_clock(monkeypatch, AFTER + timedelta(days=1))
    now = await told(oak)
    assert now[upn(6)] == ("6", "Later")
    assert now.keys() == {upn(number) for number in (1, 2, 3, 5, 6)}
    assert {row["state"] for row in await listed(oak)} == {"applied"}


async def test_the_same_roll_again_changes_nothing(small_trust: Trust, oak: Any) -> None:
    statement = "SELECT string_agg(r::text, ' ') FROM (SELECT ctid, xmin, * FROM planned_rolls) r"
    for complete in (False, True):
        once = await planned(oak, new(1), new(2), new(3), complete=complete)
        before = await small_trust.value(statement)
        assert await planned(oak, new(3), new(1), new(2), complete=complete) != once  # the order alone differs
        assert await small_trust.value(statement) == before
    await planned(oak, new(7, **JOINS))
    await planned(oak, new(1), new(2), new(3), complete=True)
    assert [row["rowCount"] for row in await listed(oak)] == [3]


async def test_it_can_be_withdrawn_until_its_day(
    small_trust: Trust, oak: Any, vendor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    reader = await small_trust.client("reader", f"school:{URNS['Oak']}=pupils:read")
    (first,) = (await planned(oak, new(4, **JOINS)))["plannedRollIds"]
    assert (await elm.get(f"/v1/planned-rolls/{first}")).status_code == 404
    assert await listed(elm) == []
    for client, status in ((elm, 404), (reader, 403)):
        await sent(client, f"/v1/planned-rolls/{first}/withdraw", status=status)
    await sent(oak, f"/v1/planned-rolls/{first}/withdraw?dryRun=true")
    assert len(await listed(reader)) == 1
    assert await sent(vendor, f"/v1/planned-rolls/{first}/withdraw") == {"id": first, "rowCount": 1, "restored": 0, "recorded": 0}
    assert await listed(oak) == []
    (second,) = (await planned(oak, new(5, **JOINS)))["plannedRollIds"]
    mutation = "mutation ($id: String!) { withdrawPlannedRoll(input: {id: $id}) { rowCount } }"
    assert await asked(oak, mutation, id=second) == {"withdrawPlannedRoll": {"rowCount": 1}}
    (third,) = (await planned(oak, new(6, **JOINS)))["plannedRollIds"]
    set_clock(monkeypatch, AFTER)
    assert (await told(oak)).keys() == {upn(number) for number in (1, 2, 3, 6)}
    assert (await sent(oak, f"/v1/planned-rolls/{third}/withdraw", status=409))["type"].endswith("/planned-roll-done")
    await sent(oak, f"/v1/planned-rolls/{first}/withdraw", status=404)


async def test_bad_rows_are_reported_when_it_is_sent_and_nothing_is_stored(small_trust: Trust, oak: Any) -> None:
    rows = [new(1), new(2, yearGroup="16"), new(3, dateOfBirth="1990-01-01"), new(4, upn=upn(1), **JOINS), new(5, enrolments=None)]
    wrong = {
        "/entries/1/yearGroup": "year-group-invalid",
        "/entries/2/dateOfBirth": "age-implausible",
        "/entries/2": "pupil-conflict",
        "/entries/3": "pupil-conflict",
    }
    wrong |= {"/entries/4/enrolments": "enrolment-required"}
    assert issues(await planned(oak, *rows, status=422)) == wrong
    assert await listed(oak) == []
    assert (await oak.get("/v1/data-issues")).json()["data"] == []
    answer = await sent(oak, "/v1/pupils", roll("Oak", rows, asOf=FIRST), Prefer="handling=lenient")
    assert (counted(answer), issues(answer)) == ({"updated": 1, "rejected": 4}, wrong)
    assert [row["rowCount"] for row in await listed(oak)] == [1]


async def test_too_many_leavers_are_a_warning_in_summer_and_refuse_the_roll_on_its_day(
    small_trust: Trust, oak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for end_spells in (False, True):
        answer = await planned(oak, new(1), complete=True)
        assert (answer["left"], [w["code"] for w in answer["warnings"]]) == (2, ["too-many-leavers"])
        if end_spells:  # the school says in July who leaves
            set_clock(monkeypatch, JULY)
            ended = {"enrolments": [STAYS["enrolments"][0] | {"to": "2017-07-21"}]}
            await sent(oak, "/v1/pupils", roll("Oak", [old(2, **ended), old(3, **ended)], asOf="2017-07-10"))
        set_clock(monkeypatch, AFTER)
        if end_spells:
            assert await told(oak) == {upn(1): ("6", "Surname1")}
            assert (await listed(oak))[-1]["left"] == 0
        else:
            assert len(await told(oak)) == 3
            assert await listed(oak) == [{"asOf": FIRST, "state": "refused", "rowCount": 1, "problem": "too-many-leavers"}]
        set_clock(monkeypatch, JUNE)


async def test_a_pupil_of_another_school_is_a_warning_and_comes_once_that_school_has_let_go(
    small_trust: Trust, oak: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    comes = new(1, reference="Elm-1", **JOINS)
    answer = await planned(elm, comes, new(2, reference="Elm-2", **JOINS), at="Elm")
    assert counted(answer) == {"updated": 2}
    assert issues({"issues": answer["warnings"]}) == {f"/entries/{n}/enrolments": "pupil-elsewhere" for n in (0, 1)}
    set_clock(monkeypatch, JULY)
    await sent(
        oak, "/v1/pupils", roll("Oak", [old(1, enrolments=[STAYS["enrolments"][0] | {"to": "2017-07-21"}])], asOf="2017-07-10")
    )
    set_clock(monkeypatch, AFTER)
    assert (await told(elm)).keys() == {upn(1)}
    assert (await told(oak)).keys() == {upn(2), upn(3)}
    row = (await elm.get("/v1/planned-rolls?fields=state,updated,rejected,issueCodes")).json()["data"][0]
    assert row == {"state": "applied", "updated": 1, "rejected": 1, "issueCodes": ["pupil-elsewhere"]}


@pytest.mark.parametrize("ended", ["grants", "clients"])
async def test_the_roll_of_a_client_that_may_no_longer_write_is_refused(
    small_trust: Trust, oak: Any, vendor: Any, monkeypatch: pytest.MonkeyPatch, ended: str
) -> None:
    await planned(oak, new(4, **JOINS))
    await small_trust.operator.execute(
        f"UPDATE {ended} SET revoked_at = now() WHERE {'client_id' if ended == 'grants' else 'id'} = (SELECT id FROM clients WHERE name = 'oak')"
    )
    await small_trust.operator.execute("SELECT derive_reach()")
    set_clock(monkeypatch, AFTER)
    assert (await told(vendor)).keys() == {upn(number) for number in (1, 2, 3)}
    assert await listed(vendor) == [{"asOf": FIRST, "state": "refused", "rowCount": 1, "problem": "grant-ended"}]
    assert await small_trust.value("SELECT count(*) FROM planned_pupils") == 0


async def test_an_answer_that_was_lost_is_sent_again(oak: Any) -> None:
    body, key = roll("Oak", [new(4, **JOINS)], asOf=FIRST), {"Idempotency-Key": "summer"}
    first = await oak.post("/v1/pupils", json=body, headers=key)
    again = await oak.post("/v1/pupils", json=body, headers=key)
    assert (first.status_code, again.content, again.headers["idempotency-replayed"]) == (200, first.content, "true")
    assert len(await listed(oak)) == 1


async def test_pupils_sent_with_judgements_are_of_today(vendor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    await opened(vendor)
    set_clock(monkeypatch, JUNE)
    body = batch("Oak", [judged(1)], pupils=[new(1, **JOINS)])
    for as_of in (FIRST, "2017-06-03"):
        assert issues(await sent(vendor, "/v1/judgements", body | {"asOf": as_of}, 422)) == {"/asOf": "as-of-implausible"}


async def test_a_new_identity_takes_planned_rows_with_it(small_trust: Trust, oak: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the pupil, the UPN, the reference of the client that planned, and the name with the birthday, also one that was corrected since."""
    await planned(oak, new(1), new(2), new(3))
    other = await small_trust.client("other", f"school:{URNS['Oak']}=all")
    await sent(
        other,
        "/v1/pupils",
        roll("Oak", [new(1, reference="other-1", upn=None, **JOINS)], asOf=FIRST),
        200,
        Prefer="handling=lenient",
    )
    assert await small_trust.value("SELECT count(*) FROM planned_pupils WHERE entry::text LIKE '%Surname1%'") == 2
    target = next(r for r in (await oak.get("/v1/pupils?fields=id,version,upn")).json()["data"] if r["upn"] == upn(1))
    renamed = await oak.patch(f"/v1/pupils/{target['id']}", json={"surname": "Later"}, headers={"If-Match": "*"})
    target["version"] = renamed.json()["version"]
    identity = {"expectedVersion": target["version"], "surname": "Other", "forename": "Name", "upn": upn(90), "reference": "new"}
    await sent(oak, f"/v1/pupils/{target['id']}/new-identity", identity)
    assert await small_trust.value("SELECT count(*) FROM planned_pupils WHERE entry::text LIKE '%Surname1%'") == 0
    set_clock(monkeypatch, AFTER)
    assert (await told(oak))[upn(90)][1] == "Other"


async def test_statements_do_not_grow_with_the_roll(small_trust: Trust, oak: Any) -> None:
    async def count(numbers: range) -> int:
        with small_trust.statements.counting() as seen:
            await planned(oak, *(new(number, **JOINS) for number in numbers))
        return len(seen)

    await count(range(7, 10))
    few = await count(range(10, 13))
    assert await count(range(20, 80)) == few


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_planned_roll_leaves_a_child_with_a_new_identity_on_roll(
    vendor: Any, oak: Any, monkeypatch: pytest.MonkeyPatch, is_late: bool
) -> None:
    """It has the old row, which is refused (the identity changed before) or deleted (afterwards)."""
    rows = [new(n, **STAYS) for n in (1, 2)]

    async def plan() -> Any:
        return await sent(
            oak,
            "/v1/pupils",
            roll("Oak", rows, asOf=FIRST, complete=True, maxLeavers=100),
            Prefer="handling=lenient, return=representation",
        )

    if is_late:
        await plan()
    (row,) = (await sent(oak, "/v1/pupils/lookup", {"where": {"upn": [upn(1)]}}))["data"]
    body = {"expectedVersion": row["version"], "surname": "Other", "forename": "Ona", "upn": upn(70)}
    given = await sent(vendor, f"/v1/pupils/{row['id']}/new-identity", body)
    if not is_late:
        answer = await plan()
        assert (answer["rejected"], answer["left"], given["id"] in str(answer)) == (1, 1, False)
    set_clock(monkeypatch, AFTER)
    assert set(await told(oak)) == {upn(2), upn(70)}
    assert (await listed(oak))[0]["left"] == 1
