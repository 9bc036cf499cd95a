"""One row changed or deleted, for the version that was read of it: in both interfaces with the same outcome, and never over somebody else's change."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from domain import COMMANDS
from domain.declare.ids import new_id
from tests.fixtures.clock import set_clock
from tests.fixtures.databases import Databases
from tests.fixtures.recount import miscounted
from tests.fixtures.server import serving
from tests.fixtures.small_trust import (
    AS_OF,
    TRUST,
    URNS,
    Trust,
    asked,
    batch,
    counted,
    entry,
    issues,
    judged,
    open_trust,
    opened,
    roll,
    sent,
    upn,
    window,
)


@dataclass(frozen=True)
class Answer:
    """What became of a row, or the problem object, as either interface says it."""

    status: int
    body: dict[str, Any]


async def by_rest(client: httpx2.AsyncClient, command: str, id_: str, version: int, change: dict[str, Any]) -> Answer:
    verb, noun = command.split("_")
    url, headers = f"/v1/{noun}s/{id_}", {"If-Match": f'"{version}"'}
    if verb == "delete":
        answer = await client.delete(url, headers=headers)
        return (
            Answer(200, {"id": id_, "outcome": "deleted"})
            if answer.status_code == 204
            else Answer(answer.status_code, answer.json())
        )
    answer = await client.patch(url, json=change, headers=headers | {"Content-Type": "application/merge-patch+json"})
    body = answer.json()
    if answer.status_code == 200:
        assert answer.headers["etag"] == f'"{body["version"]}"'
        assert body.pop("warnings") == []
    return Answer(answer.status_code, body)


async def by_graphql(client: httpx2.AsyncClient, command: str, id_: str, version: int, change: dict[str, Any]) -> Answer:
    verb, noun = command.split("_")
    shown, type_ = ("id outcome", "Removal") if verb == "delete" else ("id outcome version", f"{noun.title()}Change")
    query = f"mutation ($input: {type_}Input!) {{ {verb}{noun.title()}(input: $input) {{ {shown} }} }}"
    given = {"id": id_, "expectedVersion": version, **change}
    answer = (await client.post("/graphql", json={"query": query, "variables": {"input": given}})).json()
    if "errors" not in answer:
        return Answer(200, answer["data"][f"{verb}{noun.title()}"])
    problem = answer["errors"][0]["extensions"]["problem"]
    return Answer(problem["status"], problem)


Send = Callable[[httpx2.AsyncClient, str, str, int, dict[str, Any]], Awaitable[Answer]]
both_interfaces = pytest.mark.parametrize("send", [by_rest, by_graphql], ids=["rest", "graphql"])


EVENING = datetime.combine(AS_OF, time(22, 59, 59), UTC)
"""The day of the rolls is over in a second, in England."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_trust(module_databases: Databases) -> AsyncIterator[Trust]:
    """Twenty pupils at Oak, of whom the first is shared with Elm, some judged in a window that is open."""
    async with open_trust(module_databases) as made:
        vendor = await made.client("vendor", f"trust:{TRUST}=all")
        await made.client("stranger", f"school:{URNS['Quay']}=all")
        await opened(vendor)
        dual = entry(0, enrolments=[{"from": "2014-09-01", "status": "M"}])
        await sent(vendor, "/v1/pupils", roll("Oak", [dual, *(entry(n) for n in range(1, 20))]))
        await sent(vendor, "/v1/pupils", roll("Elm", [entry(0, enrolments=[{"from": "2014-09-01", "status": "S"}])]))
        await sent(vendor, "/v1/judgements", batch("Oak", [judged(n) for n in range(20)]))
        yield made


@pytest.fixture
def vendor(small_trust: Trust) -> httpx2.AsyncClient:
    return small_trust.made[0]


async def pupil(client: httpx2.AsyncClient, number: int) -> dict[str, Any]:
    """A pupil's row, by its surname's number."""
    found = await client.post("/v1/pupils/lookup", json={"where": {"surname": [f"Surname{number}"]}})
    (row,) = found.json()["data"]
    return still(row)


def still(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what goes with the clock."""
    return {name: value for name, value in row.items() if name != "changedAt"}


async def row_of(client: httpx2.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["etag"].startswith(f'"{answer.json()["version"]}.')
    return still(answer.json())


# Pupils


@both_interfaces
async def test_a_pupil_is_corrected_and_what_changes_nothing_keeps_the_version(vendor: Any, small_trust: Trust, send: Send) -> None:
    before = await pupil(vendor, 1)
    change = {
        "forename": f"By {send.__name__}",
        "sex": "FM"[before["sex"] == "F"],
        "dateOfBirth": f"2006-12-3{int(send is by_rest)}",
    }
    refused = await send(vendor, "update_pupil", before["id"], before["version"], change)  # two facts: another child
    assert (refused.status, issues(refused.body)) == (422, {"": "pupil-conflict"})
    said = change | {"sameChild": True, "actor": "staff-1"}
    answer = await send(vendor, "update_pupil", before["id"], before["version"], said)
    version = before["version"] + 1
    assert answer == Answer(200, {"id": before["id"], "outcome": "updated", "version": version})
    assert await row_of(vendor, f"/v1/pupils/{before['id']}") == before | change | {"version": version}
    for again in (change, {}, {"upn": before["upn"], "yearGroup": "Year 6", "surname": "Surname1"}):
        answer = await send(vendor, "update_pupil", before["id"], version, again)
        assert answer == Answer(200, {"id": before["id"], "outcome": "unchanged", "version": version})
    assert await miscounted(small_trust) == (0, 0, 0)


@both_interfaces
async def test_a_change_is_for_the_version_that_was_read(vendor: Any, small_trust: Trust, send: Send) -> None:
    """The answer tells which version the row has, at the place of the one that was sent; nothing is written, also where the change would change nothing."""
    row = await pupil(vendor, 2)
    planned = await sent(vendor, "/v1/windows", window(f"stale {send.__name__}"), 201)
    school = await row_of(vendor, f"/v1/schools/{small_trust.ids['Oak']}")
    written = await small_trust.everything()
    for command, id_, version in (
        ("update_pupil", row["id"], row["version"]),
        ("update_window", planned["id"], 1),
        ("delete_window", planned["id"], 1),
        ("update_school", school["id"], school["version"]),
    ):
        for other in (version + 1, version - 1, -1, 2**31 - 1):
            answer = await send(vendor, command, id_, other, {})
            assert (answer.status, answer.body["type"].rsplit("/", 1)[1]) == (412, "precondition-failed")
            assert [(issue["at"], f"version {version} now" in issue["message"]) for issue in answer.body["issues"]] == [
                ("If-Match" if send is by_rest else "/expectedVersion", True)
            ]
    assert await small_trust.everything() == written


@both_interfaces
async def test_a_year_group_holds_from_this_year_and_the_years_before_keep_theirs(
    vendor: Any, small_trust: Trust, send: Send
) -> None:
    row = await pupil(vendor, 3 + (send is by_rest))
    answer = await send(vendor, "update_pupil", row["id"], row["version"], {"yearGroup": "Year 7"})
    assert (answer.status, answer.body["outcome"]) == (200, "updated")
    assert (await row_of(vendor, f"/v1/pupils/{row['id']}"))["yearGroup"] == "7"
    dated = "SELECT array_agg(value ORDER BY from_on) FROM characteristics WHERE pupil_id = $1 AND kind = 'yearGroup'"
    assert await small_trust.value(dated, row["id"]) == ["6", "7"]
    answer = await send(vendor, "update_pupil", row["id"], row["version"] + 1, {"yearGroup": "8"})
    assert (answer.body["outcome"], await small_trust.value(dated, row["id"])) == ("updated", ["6", "8"])


@both_interfaces
async def test_a_upn_keeps_its_history_and_null_takes_it_away(
    vendor: Any, small_trust: Trust, send: Send, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_clock(monkeypatch, EVENING)
    number = 5 + (send is by_rest)
    row = await pupil(vendor, number)
    for version, given in enumerate((upn(100 + number), None, None), row["version"]):
        answer = await send(vendor, "update_pupil", row["id"], version, {"upn": given})
        assert answer.status == 200
    assert (answer.body["outcome"], answer.body["version"]) == ("unchanged", row["version"] + 2)
    assert (await row_of(vendor, f"/v1/pupils/{row['id']}"))["upn"] is None
    history = "SELECT array_agg((upn, current) ORDER BY received_at) FROM upns WHERE pupil_id = $1"
    assert await small_trust.value(history, row["id"]) == [(upn(number), False), (upn(100 + number), False)]
    back = await sent(vendor, "/v1/pupils", roll("Oak", [entry(number, reference=None)]), Prefer="return=representation")
    assert (back["results"][0]["outcome"], back["results"][0]["id"]) == ("updated", row["id"])
    assert (await pupil(vendor, number))["upn"] == upn(number)


@both_interfaces
async def test_a_roll_of_an_earlier_day_does_not_undo_a_change(vendor: Any, send: Send, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is said on its day in England, one that changes nothing too; a roll of that day changes it again."""
    number = 17 + (send is by_rest)
    rolls = [roll("Oak", [entry(number)], asOf=str(AS_OF + timedelta(days=days))) for days in (-1, 0, 1)]
    for seconds, outcomes in ((0, ["superseded", "updated"]), (1, ["superseded", "superseded", "updated"])):
        set_clock(monkeypatch, EVENING + timedelta(seconds=seconds))
        row = await pupil(vendor, number)
        for version, outcome in ((row["version"], "updated"), (row["version"] + 1, "unchanged")):
            answer = await send(vendor, "update_pupil", row["id"], version, {"forename": "Corrected"})
            assert answer.body["outcome"] == outcome
        told = [await sent(vendor, "/v1/pupils", body, Prefer="return=representation") for body in rolls[: len(outcomes)]]
        assert [answer["results"][0]["outcome"] for answer in told] == outcomes


@both_interfaces
async def test_what_is_wrong_with_a_pupil_is_said_at_once_and_named_by_its_field(
    vendor: Any, small_trust: Trust, send: Send
) -> None:
    row = await pupil(vendor, 7)
    written = await small_trust.everything()
    wrong = {"upn": "H000", "yearGroup": "nursery", "dateOfBirth": "1899-12-31"}
    answer = await send(vendor, "update_pupil", row["id"], row["version"], wrong)
    assert (answer.status, issues(answer.body)) == (
        422,
        {"/upn": "upn-invalid", "/yearGroup": "year-group-invalid", "/dateOfBirth": "date-of-birth-implausible"},
    )
    answer = await send(vendor, "update_pupil", row["id"], row["version"], {"surname": None, "forename": "", "sex": "X"})
    assert (answer.status, issues(answer.body)) == (422, dict.fromkeys(("/surname", "/forename", "/sex"), "wrong-value"))
    taken = await send(vendor, "update_pupil", row["id"], row["version"], {"upn": upn(8)})
    assert (taken.status, issues(taken.body)) == (422, {"/upn": "pupil-merge-needed"})
    assert "Surname" not in str(taken.body)
    assert upn(8) not in str(taken.body)
    assert await small_trust.everything() == written


@both_interfaces
async def test_only_the_main_school_corrects_a_pupil(small_trust: Trust, send: Send) -> None:
    row = await pupil(small_trust.made[0], 0)
    guest = await small_trust.client(f"guest by {send.__name__}", f"school:{URNS['Elm']}=pupils:read,pupils:name,pupils:write")
    reader = await small_trust.client(
        f"reader by {send.__name__}", f"school:{URNS['Oak']}=pupils:read", f"school:{URNS['Elm']}=pupils:write"
    )
    for client in (guest, reader):
        assert (await client.get(f"/v1/pupils/{row['id']}")).status_code == 200
        answer = await send(client, "update_pupil", row["id"], row["version"], {"forename": "Ours"})
        assert (answer.status, answer.body["type"].rsplit("/", 1)[1]) == (404, "not-found")
    nobody = await small_trust.client(f"nobody by {send.__name__}", f"school:{URNS['Oak']}=pupils:read")
    answer = await send(nobody, "update_pupil", row["id"], row["version"], {})
    assert (answer.status, "updatePupil needs pupils:write" in answer.body["detail"]) == (403, True)


# Windows


@both_interfaces
async def test_the_terms_of_a_planned_window(vendor: Any, send: Send) -> None:
    made = await sent(vendor, "/v1/windows", window(f"terms {send.__name__}", acceptUntil="2099-08-31T17:00:00Z"), 201)
    change = {
        "name": "Tests",
        "opensAt": "2099-05-01T07:00:00Z",
        "closesAt": "2099-06-30T16:00:00Z",
        "acceptUntil": None,
        "purpose": "To see",
        "decision": "To help",
        "censusOn": "2018-05-21",
        "yearGroups": ["Y5", "6", "5"],
    }
    answer = await send(vendor, "update_window", made["id"], 1, change)
    assert answer == Answer(200, {"id": made["id"], "outcome": "updated", "version": 2})
    row = await row_of(vendor, f"/v1/windows/{made['id']}")
    shown = {name: row[name] for name in change}
    assert shown == change | {"yearGroups": ["5", "6"]}
    assert (await send(vendor, "update_window", made["id"], 2, change)).body["outcome"] == "unchanged"
    wrong = {
        "closesAt": "2099-05-01T07:00:00Z",
        "acceptUntil": "2099-04-01T00:00:00Z",
        "censusOn": "2019-01-01",
        "yearGroups": ["5", "six"],
    }
    answer = await send(vendor, "update_window", made["id"], 2, wrong)
    assert (answer.status, issues(answer.body)) == (
        422,
        {
            "/censusOn": "outside-academic-year",
            "/yearGroups/1": "year-group-invalid",
            "/closesAt": "closes-before-opening",
            "/acceptUntil": "accepts-before-closing",
        },
    )


@both_interfaces
async def test_who_is_counted_is_settled_when_a_window_opens_and_everything_when_it_is_locked(
    vendor: Any, small_trust: Trust, send: Send
) -> None:
    code = f"open {send.__name__}"
    id_ = await opened(vendor, code)
    counts = {"censusOn": "2018-05-15", "yearGroups": ["5"]}
    answer = await send(vendor, "update_window", id_, 2, {"name": "Renamed", **counts})
    assert (answer.status, issues(answer.body)) == (409, {"/censusOn": "window-state", "/yearGroups": "window-state"})
    same = {"name": "Renamed", "censusOn": "2018-05-14", "yearGroups": ["Year 6"], "acceptUntil": "2099-08-01T00:00:00Z"}
    assert (await send(vendor, "update_window", id_, 2, same)).body["outcome"] == "updated"
    await sent(vendor, f"/v1/windows/{id_}/close")
    answer = await send(vendor, "update_window", id_, 4, {"closesAt": "2099-07-30T17:00:00Z"})
    assert (answer.status, issues(answer.body)) == (409, {"/closesAt": "window-state"})
    assert (await send(vendor, "update_window", id_, 4, {"acceptUntil": None})).body["outcome"] == "updated"
    await small_trust.operator.execute("UPDATE windows SET state = 'locked' WHERE code = $1", code)
    answer = await send(vendor, "update_window", id_, 5, {"purpose": "Another purpose"})
    assert (answer.status, issues(answer.body)) == (409, {"/purpose": "window-state"})


async def test_more_year_groups_count_against_the_workload_budget(vendor: Any, small_trust: Trust) -> None:
    budget = await small_trust.value("SELECT workload_budget FROM tenants WHERE id = $1", small_trust.ids["trust"])
    made = [
        await sent(
            vendor, "/v1/windows", window(f"budget {n}", academicYear="2019-20", censusOn="2020-01-15", frequencyReasons=None), 201
        )
        for n in range(budget)
    ]
    other = await sent(
        vendor,
        "/v1/windows",
        window("other", academicYear="2019-20", censusOn="2020-01-15", frequencyReasons=None, yearGroups=["5"]),
        201,
    )
    for id_, year_groups, status in (
        (other["id"], ["5", "6"], 409),
        (made[0]["id"], ["6", "5"], 200),
        (other["id"], ["5", "4"], 200),
    ):
        answer = await by_rest(vendor, "update_window", id_, 1, {"yearGroups": year_groups})
        assert answer.status == status, answer
        assert status == 200 or issues(answer.body) == {"/yearGroups": "workload-budget-exceeded"}


@both_interfaces
async def test_a_window_in_which_nothing_was_judged_is_deleted_with_what_it_counted(
    vendor: Any, small_trust: Trust, send: Send
) -> None:
    planned = await sent(vendor, "/v1/windows", window(f"planned {send.__name__}"), 201)
    unused = await opened(vendor, f"unused {send.__name__}")
    left = "SELECT " + ", ".join(
        f"(SELECT count(*) FROM {table} WHERE window_no = $1)" for table in ("cells", "totals", "pins", "collects")
    )
    no = await small_trust.value("SELECT no FROM windows WHERE code = $1", f"unused {send.__name__}")
    assert all(await small_trust.operator.fetchrow(left, no))
    for id_, version in ((planned["id"], 1), (unused, 2)):
        answer = await send(vendor, "delete_window", id_, version, {})
        assert answer == Answer(200, {"id": id_, "outcome": "deleted"})
        assert (await vendor.get(f"/v1/windows/{id_}")).status_code == 404
        assert (await send(vendor, "delete_window", id_, version, {})).status == 404
        assert (await send(vendor, "update_window", id_, version, {})).status == 404
    assert not any(await small_trust.operator.fetchrow(left, no))


@both_interfaces
async def test_a_window_in_which_something_was_judged_stays(vendor: Any, small_trust: Trust, send: Send) -> None:
    """Also for a client that has the right over the trust and reaches none of its schools."""
    office = await small_trust.client(f"office by {send.__name__}", "trusts=windows:read,windows:write")
    (row,) = (await vendor.get("/v1/windows", params={"code": "2017-18/KS2"})).json()["data"]
    for client in (vendor, office):
        answer = await send(client, "delete_window", row["id"], row["version"], {})
        assert (answer.status, answer.body["issues"][0]["code"], "open" in answer.body["detail"]) == (409, "window-in-use", True)


# Schools


@both_interfaces
async def test_a_school_says_some_things_of_itself_and_the_register_the_rest(vendor: Any, small_trust: Trust, send: Send) -> None:
    name = "Ash" if send is by_rest else "Elm"
    path = f"/v1/schools/{small_trust.ids[name]}"
    before = await row_of(vendor, path)
    assert (before["shortName"], before["maxLeaversPercent"], before["version"]) == (None, 5, 1)
    for version, change in enumerate(
        ({"shortName": "The wood"}, {"maxLeaversPercent": 0}, {"shortName": None, "maxLeaversPercent": 100}), 1
    ):
        answer = await send(vendor, "update_school", before["id"], version, change)
        assert answer == Answer(200, {"id": before["id"], "outcome": "updated", "version": version + 1})
        before |= change | {"version": version + 1}
        assert await row_of(vendor, path) == before
    assert (await send(vendor, "update_school", before["id"], 4, {"maxLeaversPercent": 100})).body["outcome"] == "unchanged"
    wrong = {"shortName": "", "maxLeaversPercent": 101}
    answer = await send(vendor, "update_school", before["id"], 4, wrong)
    assert (answer.status, issues(answer.body)) == (422, dict.fromkeys(("/shortName", "/maxLeaversPercent"), "wrong-value"))
    listed = await vendor.get(
        "/v1/schools", params={"maxLeaversPercent": ["5", "100"], "sort": "-maxLeaversPercent", "fields": "maxLeaversPercent"}
    )
    assert [row["maxLeaversPercent"] for row in listed.json()["data"]][:1] == [100]


async def test_what_belongs_to_the_register_is_refused_by_name(vendor: Any, small_trust: Trust) -> None:
    answer = await by_rest(vendor, "update_school", str(small_trust.ids["Oak"]), 1, {"name": "Oakwood", "urn": 1, "shortName": 7})
    assert (answer.status, issues(answer.body)) == (
        422,
        {"/name": "unknown-field", "/urn": "unknown-field", "/shortName": "wrong-value"},
    )
    assert all("register" in issue["message"] for issue in answer.body["issues"] if issue["code"] == "unknown-field")


async def test_settings_follow_a_school_to_another_trust(small_trust: Trust) -> None:
    quay = small_trust.ids["Quay"]
    assert (await by_rest(small_trust.made[1], "update_school", str(quay), 1, {"shortName": "Q"})).status == 200
    await small_trust.operator.execute("UPDATE schools SET tenant_id = $1 WHERE id = $2", small_trust.ids["trust"], quay)
    assert await small_trust.value("SELECT tenant_id FROM school_settings WHERE school_id = $1", quay) == small_trust.ids["trust"]
    await small_trust.operator.execute("UPDATE schools SET tenant_id = id WHERE id = $1", quay)
    assert (await row_of(small_trust.made[1], f"/v1/schools/{quay}"))["shortName"] == "Q"


# Interfaces


@both_interfaces
async def test_anothers_row_and_a_row_that_is_nowhere_are_the_same_404(vendor: Any, small_trust: Trust, send: Send) -> None:
    stranger = small_trust.made[1]
    row, (shown, *_) = await pupil(vendor, 9), (await vendor.get("/v1/windows")).json()["data"]
    written = await small_trust.everything()
    for command, id_ in (
        ("update_pupil", row["id"]),
        ("update_window", shown["id"]),
        ("delete_window", shown["id"]),
        ("update_school", str(small_trust.ids["Oak"])),
    ):
        answers = [
            await send(stranger, command, each, 1, {}) for each in (id_, str(new_id(4)), str(new_id(8)), "nothing", id_.upper())
        ]
        assert answers == [answers[0]] * 5
        assert answers[0].status == 404
    assert await small_trust.everything() == written


VERSIONS = {
    '"{}"': 200,
    '"{}-gzip"': 200,
    "*": 200,
    ' "x", "{}" ,': 200,
    'W/"1","1","2", "{}"': 200,
    '"a,b", "{}"': 200,
    'W/"{}"': 412,
    '"0{}"': 412,
    '"{}-br"': 412,
    '""': 412,
    '"abc"': 412,
    '"' + "9" * 5000 + '"': 412,
    '"é"': 412,
    "{}": 400,
    "": 400,
    " , ": 400,
    '*, "{}"': 400,
    '"{}': 400,
    "'{}'": 400,
    'w/"{}"': 400,
}


@pytest.mark.parametrize("given", VERSIONS)
async def test_if_match_as_rfc_9110_has_it(vendor: Any, small_trust: Trust, given: str) -> None:
    row = await pupil(vendor, 10)
    headers = {"If-Match": given.format(row["version"]).encode()}
    answer = await vendor.patch(f"/v1/pupils/{row['id']}", json={}, headers=headers)
    assert answer.status_code == VERSIONS[given], answer.text
    if answer.status_code == 400:
        assert issues(answer.json()) == {"If-Match": "if-match-malformed"}


async def test_if_match_in_two_headers_is_one_list(vendor: Any) -> None:
    row = await pupil(vendor, 10)
    headers = [("If-Match", '"0"'), ("If-Match", f'"{row["version"]}"')]
    assert (await vendor.patch(f"/v1/pupils/{row['id']}", json={}, headers=headers)).status_code == 200


@pytest.mark.parametrize("path", ["/v1/pupils/{id}", "/v1/windows/{id}", "/v1/schools/{id}"])
async def test_without_if_match_nothing_is_changed_or_looked_for(vendor: Any, path: str) -> None:
    for id_ in (str(new_id(4)), "nothing"):
        answers = [await vendor.patch(path.format(id=id_), json={"bad": 1})]
        answers += [await vendor.delete(path.format(id=id_))] if "windows" in path else []
        for answer in answers:
            assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (428, "precondition-required")


async def test_graphql_needs_the_version_too(vendor: Any) -> None:
    change = f'updatePupil(input: {{id: "{(await pupil(vendor, 1))["id"]}", forename: "A"}})'
    answer = await vendor.post("/graphql", json={"query": f"mutation {{ {change} {{ id }} }}"})
    assert issues(answer.json()["errors"][0]["extensions"]["problem"]) == {"/expectedVersion": "required"}


async def test_a_body_is_a_merge_patch_of_what_can_change(vendor: Any, small_trust: Trust) -> None:
    row = await pupil(vendor, 11)
    path, headers, written = f"/v1/pupils/{row['id']}", {"If-Match": "*"}, await small_trust.everything()
    for name in ("id", "expectedVersion", "version", "reference", "school", "enrolments", "Surname", ""):
        answer = await vendor.patch(path, json={name: 1, "forename": 7}, headers=headers)
        assert (answer.status_code, issues(answer.json())) == (422, {f"/{name}": "unknown-field", "/forename": "wrong-value"})
        assert "yearGroup" in answer.json()["issues"][0]["message"]
    for body in ("[]", "null", '"forename"', "3"):
        answer = await vendor.patch(path, content=body, headers=headers | {"Content-Type": "application/merge-patch+json"})
        assert (answer.status_code, [issue["at"] for issue in answer.json()["issues"]]) == (422, [""])
    for kind in ("application/json-patch+json", "text/plain"):
        answer = await vendor.patch(path, content="{}", headers=headers | {"Content-Type": kind})
        assert (answer.status_code, answer.headers["accept-patch"]) == (415, "application/merge-patch+json, application/json")
    answer = await vendor.patch(path, content="", headers=headers | {"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert (await vendor.patch(path, json={}, headers=headers, params={"first": 1})).status_code == 400
    (shown, *_) = (await vendor.get("/v1/windows")).json()["data"]
    answer = await vendor.request("DELETE", f"/v1/windows/{shown['id']}", json={"sure": True}, headers=headers)
    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (400, "body-unexpected")
    assert await small_trust.everything() == written


async def test_a_plain_row_carries_its_version_and_is_the_same_row(vendor: Any, small_trust: Trust) -> None:
    row = await pupil(vendor, 12)
    path = f"/v1/pupils/{row['id']}"
    for fields in ("id", "surname,version", "version"):
        answer = await vendor.get(path, params={"fields": fields})
        assert answer.headers["etag"].startswith(f'"{row["version"]}.')
        assert answer.json() == {name: row[name] for name in fields.split(",")}
    with_school = (await vendor.get(path, params={"include": "school"})).headers["etag"]
    refused = await vendor.patch(path, json={"forename": "Ada"}, headers={"If-Match": with_school})
    assert refused.status_code == 412  # it is no version of the row
    plain = (await vendor.head(path)).headers["etag"]
    assert plain.startswith(f'"{row["version"]}.')
    dry = await vendor.patch(path, json={"forename": "Ada"}, headers={"If-Match": plain}, params={"dryRun": "true"})
    assert (dry.status_code, dry.json()["outcome"]) == (200, "updated")
    (judgement, *_) = (await vendor.get("/v1/judgements")).json()["data"]
    answer = await vendor.get(f"/v1/judgements/{judgement['id']}")
    assert answer.json() == judgement
    with small_trust.statements.counting() as found:
        await vendor.get(path)
    assert len(found) == 1


async def test_a_dry_run_and_a_repeated_request(vendor: Any, small_trust: Trust) -> None:
    row = await pupil(vendor, 13)
    path, first = f"/v1/pupils/{row['id']}", {"If-Match": f'"{row["version"]}"'}
    dry = await vendor.patch(path, json={"forename": "Dry"}, headers=first, params={"dryRun": "true"})
    assert (dry.status_code, dry.json()["outcome"], dry.json()["dryRun"], "etag" in dry.headers) == (200, "updated", True, False)
    assert await pupil(vendor, 13) == row
    keyed = first | {"Idempotency-Key": "change-13"}
    answers = [await vendor.patch(path, json={"forename": "Once"}, headers=keyed) for _ in range(2)]
    assert [(answer.status_code, answer.headers["etag"], answer.content) for answer in answers] == [
        (200, f'"{row["version"] + 1}"', answers[0].content)
    ] * 2
    assert answers[1].headers["idempotency-replayed"] == "true"
    for change, headers in (({"forename": "Twice"}, keyed), ({"forename": "Once"}, keyed | {"If-Match": "*"})):
        answer = await vendor.patch(path, json=change, headers=headers)
        assert (answer.status_code, issues(answer.json())) == (422, {"Idempotency-Key": "idempotency-key-reused"})
    other = await pupil(vendor, 14)
    answer = await vendor.patch(f"/v1/pupils/{other['id']}", json={"forename": "Once"}, headers=keyed)
    assert answer.status_code == 422

    made = await sent(vendor, "/v1/windows", window("unwanted"), 201)
    assert "dryRun" not in made
    mutation = "mutation ($i: WindowOpeningInput!, $dry: Boolean) { openWindow(input: $i, dryRun: $dry) { state dryRun } }"
    dry_open = await asked(vendor, mutation, i={"id": made["id"]}, dry=True)
    assert dry_open == {"openWindow": {"state": "open", "dryRun": True}}
    path, headers = f"/v1/windows/{made['id']}", {"If-Match": '"1"', "Idempotency-Key": "unwanted"}
    dry = await vendor.delete(path, headers={"If-Match": '"1"'}, params={"dryRun": "true"})
    assert (dry.status_code, dry.json()) == (
        200,
        {"id": made["id"], "outcome": "deleted", "version": 1, "warnings": [], "dryRun": True},
    )
    answers = [await vendor.delete(path, headers=headers) for _ in range(2)]
    assert [(answer.status_code, answer.content, answer.headers.get("idempotency-replayed")) for answer in answers] == [
        (204, b"", None),
        (204, b"", "true"),
    ]
    assert (await vendor.delete(path, headers={"If-Match": "*"})).status_code == 404


@both_interfaces
async def test_of_two_changes_at_once_one_is_made(vendor: Any, small_trust: Trust, send: Send) -> None:
    made = await sent(vendor, "/v1/windows", window(f"race {send.__name__}"), 201)
    ids = {"pupil": (await pupil(vendor, 15))["id"], "window": made["id"], "school": str(small_trust.ids["Oak"])}
    fields = {"pupil": "forename", "window": "name", "school": "shortName"}
    for n in range(5):
        for noun, id_ in ids.items():
            version = (await row_of(vendor, f"/v1/{noun}s/{id_}"))["version"]
            said = [f"{send.__name__} {n} {who}" for who in range(4)]
            answers = await asyncio.gather(*(send(vendor, f"update_{noun}", id_, version, {fields[noun]: name}) for name in said))
            assert sorted(answer.status for answer in answers) == [200, 412, 412, 412]
            winner = said[[answer.status for answer in answers].index(200)]
            row = await row_of(vendor, f"/v1/{noun}s/{id_}")
            assert (row[fields[noun]], row["version"]) == (winner, version + 1)


async def test_a_change_and_a_roll_at_once_are_both_made(vendor: Any, small_trust: Trust, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes second changes what the first one wrote."""
    set_clock(monkeypatch, EVENING)
    for n in range(5):
        row = await pupil(vendor, 16)
        dob = f"2007-02-{n + 1:02}"
        alone = by_rest(vendor, "update_pupil", row["id"], row["version"], {"upn": upn(160 + n)})
        bulk = vendor.post("/v1/pupils", json=roll("Oak", [entry(16, upn=None, dateOfBirth=dob)], asOf=str(AS_OF)))
        answer, rolled = await asyncio.gather(alone, bulk)
        assert counted(rolled.json()) == {"updated": 1}
        now = await pupil(vendor, 16)
        assert now["dateOfBirth"] == dob
        assert (answer.status, now["upn"]) in ((200, upn(160 + n)), (412, row["upn"]))
        assert now["version"] == row["version"] + (2 if answer.status == 200 else 1)


def test_on_a_socket(small_trust: Trust) -> None:
    """What only a server shows: an empty 204, and changes that arrive on connections of their own."""
    with serving(small_trust.databases) as server:
        server.register("by socket", f"trust:{TRUST}=all")
        with server.client("by socket") as client, ThreadPoolExecutor(8) as pool:
            path = f"/v1/schools/{small_trust.ids['Oak']}"
            tag = client.get(path).headers["etag"]

            def change(name: str) -> httpx2.Response:
                headers = {"If-Match": tag, "Content-Type": "application/merge-patch+json"}
                return client.patch(path, json={"shortName": name}, headers=headers)

            answers = list(pool.map(change, "abcdefgh"))
            assert sorted(answer.status_code for answer in answers) == [200, *[412] * 7]
            (made,) = [answer for answer in answers if answer.status_code == 200]
            assert made.json()["outcome"] == "updated"
            assert client.get(path).headers["etag"].startswith(made.headers["etag"][:-1] + ".")
            unwanted = client.post("/v1/windows", json=window("on a socket")).json()["id"]
            assert client.delete(f"/v1/windows/{unwanted}").status_code == 428
            gone = client.delete(f"/v1/windows/{unwanted}", headers={"If-Match": '"1"'})
            assert (gone.status_code, gone.content, "content-type" in gone.headers) == (204, b"", False)
            assert client.get(f"/v1/windows/{unwanted}").status_code == 404


def test_the_answer_of_every_command_says_whether_it_was_a_dry_run() -> None:
    assert [command.name for command in COMMANDS.values() if "dry_run" not in command.output.__struct_fields__] == []
