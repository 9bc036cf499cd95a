"""The audit of collections: what is collected, what is said of it, what it costs and who reads it, and what a stop does."""

from datetime import date
from typing import Any

import httpx2
import pytest

from api.http.answer import make_response_cache
from api.rest.collection_summaries import write_page
from domain.assessment.collection_summary import BudgetWindow, CollectionSummary
from tests.fixtures.ready_trusts import register_vendor
from tests.fixtures.small_trust import (
    SCALED,
    TRUST,
    URNS,
    Trust,
    asked,
    batch,
    entry,
    issues,
    judged,
    opened,
    roll,
    sent,
    upn,
    window,
)
from tests.read.test_read_counts import flush, make_reader

SUBJECTS = ("reading", "maths", "gps", "writing", "science")
TENANT = {"trust": {"groupUid": TRUST}}
GRADES = {"writing": "EXS", "science": "EXS"}
WHO = {"decidedBy": "Ada Okafor", "reviewOn": "2098-09-01"}
ONE = [{"subject": "reading", "scheme": SCALED}]


async def fill_two_windows(trust: Trust) -> None:
    vendor = await register_vendor(trust)
    await opened(vendor, "one")
    await opened(vendor, "two")
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(3)]))
    await sent(vendor, "/v1/pupils", roll("Elm", [entry(n) for n in range(20, 22)]))


@pytest.fixture
def fill_trust() -> Any:
    return fill_two_windows


async def judge_all(vendor: httpx2.AsyncClient, code: str, **more: Any) -> None:
    rows = [judged(n, subject, GRADES.get(subject, 100), **more) for n in range(3) for subject in SUBJECTS]
    await sent(vendor, "/v1/judgements", batch("Oak", rows, window=code))


async def audit(client: httpx2.AsyncClient, **parameters: str) -> dict[str, dict[str, Any]]:
    """The rows of Oak's main aspect, by subject."""
    answer = await client.get("/v1/collections", params={"first": "100", "aspect": "main", **parameters})
    assert answer.status_code == 200, answer.text
    return {row["subjectCode"]: row for row in answer.json()["data"] if row["values"]}


async def say(client: httpx2.AsyncClient, status: int = 200, **answer: Any) -> Any:
    owner = {} if "school" in answer else {"tenant": TENANT}
    return await sent(client, "/v1/collection-answers", owner | answer, status)


async def test_five_of_ten_groups_are_never_read(small_trust: Trust, vendor: Any) -> None:
    """Two front ends read the five of one window, three of them through kept answers and 304s; a nightly sync reads all ten."""
    small_trust.transport.app.state.response_cache = make_response_cache(32_000_000)
    await judge_all(vendor, "one")
    await judge_all(vendor, "two")
    first, second = [await make_reader(small_trust, name, "front-end") for name in ("first", "second")]
    night = await make_reader(small_trust, "night", "sync")
    for client in (first, second):
        for subject in SUBJECTS:
            url = f"/v1/judgements?windowCode=one&subjectCode={subject}"
            tag = (await client.get(url)).headers["etag"]
            if subject in SUBJECTS[:3]:
                assert (await client.get(url)).status_code == 200
                assert (await client.get(url, headers={"If-None-Match": tag})).status_code == 304
    assert len((await night.get("/v1/judgements?first=1000")).json()["data"]) == 30
    await flush(small_trust)
    rows = await audit(vendor)
    assert set(rows) == set(SUBJECTS)
    assert sum(row["groups"] for row in rows.values()) == 10
    assert sum(row["groupsNeverRead"] for row in rows.values()) == 5
    for subject, row in rows.items():
        assert (row["values"], row["valuesNeverRead"], row["neverReadPercent"], row["neverRead"]) == (6, 3, 50, False)
        assert (row["reads"], row["syncReads"], row["aggregateReads"]) == (6 if subject in SUBJECTS[:3] else 2, 2, 0)
        assert (row["frontEnds"], row["reuse"], row["windowKind"]) == (2, 1.0, "summer")
    nodes = await asked(
        vendor, '{ collections(first: 100, where: {neverRead: false, aspect: "main"}) { nodes { subjectCode reuse } } }'
    )
    assert {node["subjectCode"] for node in nodes["collections"]["nodes"]} >= set(SUBJECTS)
    table = (
        await vendor.get("/v1/collections?format=csv&aspect=main&fields=subjectCode,values,valuesNeverRead,reuse&subjectCode=gps")
    ).text
    assert {"subjectCode,values,valuesNeverRead,reuse", "gps,6,3,1.0"} <= {*table.lstrip("\ufeff").splitlines()}


async def test_values_are_measured_as_they_were_entered(small_trust: Trust, vendor: Any) -> None:
    night = await make_reader(
        small_trust, "night", "sync", "schools:read,pupils:read,judgements:read,judgements:write,windows:read"
    )
    await judge_all(vendor, "one")
    await judge_all(vendor, "one")  # unchanged
    await sent(
        vendor,
        "/v1/judgements",
        batch("Oak", [judged(0, "maths", 101, actor="a"), judged(1, "maths", 101, actor="b")], window="one"),
    )
    methods: list[dict[str, Any]] = [{"method": "carried"}, {"method": "Imported"}, {"actor": "c"}]
    rows = [{"upn": upn(n), "subject": "gps", "grade": 100, **more} for n, more in enumerate(methods)]
    await sent(night, "/v1/judgements", batch("Oak", rows, window="two"))
    found = await audit(vendor)
    maths, gps = found["maths"], found["gps"]
    assert (maths["values"], maths["valuesOverwritten"], maths["overwrittenPercent"], maths["unchangedResends"]) == (3, 2, 67, 3)
    assert (maths["writers"], maths["valuesTyped"], maths["minutes"]) == ("3–5", 3, 1)
    assert (gps["valuesTyped"], gps["valuesImported"], gps["valuesCarried"], gps["writers"]) == (3, 2, 1, "3–5")
    await say(vendor, subject="maths", typedSeconds=600)
    await say(vendor, typedSeconds=60, importedSeconds=30)
    found = await audit(vendor)
    assert (found["maths"]["minutes"], found["gps"]["minutes"]) == (30, 5)  # 3 × 60 + 2 × 30 + 1 × 2 seconds
    assert all("actor" not in name.lower() for row in found.values() for name in row)
    for name in ("groupBy", "actor", "teacher"):
        assert (await vendor.get(f"/v1/collections?{name}=teacher")).status_code in (400, 422)


async def test_answers_are_inherited_field_by_field_and_say_from_where(small_trust: Trust, vendor: Any) -> None:
    await judge_all(vendor, "one")
    made = await say(vendor, impact="No extra tests", verdict="keep", **WHO)
    assert (made["outcome"], made["version"]) == ("created", 1)
    assert (await say(vendor, impact="No extra tests"))["outcome"] == "unchanged"
    await say(vendor, windowKind="Summer", impact="A day of tests")
    await say(vendor, subject="maths", decision="Who joins the group")
    await say(vendor, school={"urn": URNS["Oak"]}, subject="maths", verdict="change", **WHO)
    rows = await audit(vendor)
    reading, maths = rows["reading"], rows["maths"]
    assert (reading["impact"], reading["impactFrom"]) == ("A day of tests", "kind")
    assert (reading["purpose"], reading["purposeFrom"]) == ("National curriculum assessment", "window")
    assert (reading["audience"], reading["audienceFrom"]) == (None, None)
    assert (reading["verdict"], reading["verdictFrom"]) == ("keep", "trust")
    assert (maths["decision"], maths["decisionFrom"], maths["verdict"], maths["verdictFrom"]) == (
        *("Who joins the group", "subject", "change", "school+subject"),
    )
    assert await audit(vendor, verdict="change") == {"maths": maths}
    undone = await say(vendor, school={"urn": URNS["Oak"]}, subject="maths", verdict=None, decidedBy=None, reviewOn=None)
    assert undone["outcome"] == "withdrawn"
    assert (await audit(vendor))["maths"]["verdictFrom"] == "trust"
    history = (await vendor.get("/v1/collection-answers?level=school%2Bsubject&fields=verdict,current,version,client")).json()[
        "data"
    ]
    assert history == [{"verdict": "change", "current": False, "version": 1, "client": "vendor"}]
    assert (await say(vendor, verdict="keep"))["outcome"] == "unchanged"  # it has a name and a day already


async def test_an_answer_is_refused_with_all_that_is_wrong_with_it(vendor: Any) -> None:
    refused = await say(vendor, 422, subject="rwm", windowKind="weekly", purpose="Tracking", verdict="keep", decidedBy="Ada")
    assert issues(refused) == {
        "/subject": "subject-derived" if issues(refused)["/subject"] == "subject-derived" else "subject-unknown",
        "/windowKind": "wrong-value",
        "/purpose": "too-few-words",
        "/decidedBy": "too-few-words",
        "/reviewOn": "required",
    }
    assert issues(await say(vendor, 422, windowKind="ks2", verdict="stop", **WHO)) == {"/verdict": "stop-of-statutory"}
    assert issues(await say(vendor, 422, verdict="keep", decidedBy="Ada Okafor", reviewOn="2020-01-01")) == {
        "/reviewOn": "wrong-value"
    }


async def test_a_stop_refuses_new_windows_for_the_schools_named_and_holds_planned_ones(small_trust: Trust, vendor: Any) -> None:
    planned = await sent(vendor, "/v1/windows", window("planned", collects=ONE), 201)
    other = await sent(vendor, "/v1/windows", window("other", collects=[{"subject": "maths", "scheme": SCALED}]), 201)
    dry = await sent(
        vendor, "/v1/collection-answers?dryRun=true", {"tenant": TENANT, "subject": "reading", "verdict": "stop", **WHO}
    )
    assert (dry["heldWindows"], dry["dryRun"]) == (["planned"], True)
    stopped = await say(vendor, school={"urn": URNS["Oak"]}, subject="reading", windowKind="summer", verdict="stop", **WHO)
    assert stopped["heldWindows"] == ["planned"]
    refused = await sent(vendor, "/v1/windows", window("new", collects=ONE), 409)
    assert refused["type"].endswith("collection-stopped")
    assert issues(refused) == {"/collects": "collection-stopped"} or "Oak (100001), reading" in refused["detail"]
    assert "Oak (100001), reading" in refused["detail"]
    assert "Elm" not in refused["detail"]
    elsewhere = [{**ONE[0], "schools": [{"urn": URNS["Elm"]}, {"urn": URNS["Ash"]}]}]
    await sent(vendor, "/v1/windows", window("new", collects=elsewhere), 201)  # the rest go on
    autumn = window("autumn", collects=ONE, censusOn="2017-10-05")
    made = await sent(vendor, "/v1/windows", autumn, 201)  # another kind
    answer = await vendor.patch(
        f"/v1/windows/{made['id']}", json={"season": "summer", "censusOn": "2018-05-20"}, headers={"If-Match": "*"}
    )
    assert (answer.status_code, "collection-stopped" in answer.text) == (409, True)
    url = f"/v1/windows/{planned['id']}"
    await vendor.patch(url, json={"opensAt": "2018-01-01T00:00:00Z"}, headers={"If-Match": "*"})
    assert (await vendor.get(url)).json()["state"] == "planned"  # its time has come, and yet it waits
    refused = await sent(vendor, f"{url}/open", None, 409)
    assert (refused["type"].rpartition("/")[2], "Oak (100001), reading" in refused["detail"]) == ("collection-stopped", True)
    assert issues(await sent(vendor, f"{url}/open", {"reason": "Because"}, 422)) == {"/reason": "too-few-words"}
    assert (await sent(vendor, f"{url}/open", {"reason": "Governors asked once more", "actor": "head"}))["state"] == "open"
    history = (await vendor.get(f"{url}/history?fields=outcome,reason")).json()["data"]
    assert history == [{"outcome": "opened", "reason": "Governors asked once more"}]
    assert (await sent(vendor, f"/v1/windows/{other['id']}/open"))["state"] == "open"  # it collects nothing that is to stop
    assert (await say(vendor, school={"urn": URNS["Oak"]}, subject="reading", windowKind="summer", verdict="keep"))[
        "outcome"
    ] == "updated"
    await sent(vendor, "/v1/windows", window("again", collects=ONE), 201)


async def test_a_window_held_by_a_stop_opens_by_itself_once_the_stop_is_taken_back(small_trust: Trust, vendor: Any) -> None:
    made = await sent(vendor, "/v1/windows", window("planned", collects=ONE), 201)
    await say(vendor, verdict="stop", **WHO)
    await vendor.patch(f"/v1/windows/{made['id']}", json={"opensAt": "2018-01-01T00:00:00Z"}, headers={"If-Match": "*"})
    statutory = {"tenant": TENANT, "code": "ks2", "template": "KS2", "academicYear": "2017-18", "opensAt": "2098-05-14T08:00:00Z"}
    await sent(vendor, "/v1/windows", statutory | {"closesAt": "2099-07-31T17:00:00Z"}, 201)  # the law is not stopped
    assert (await vendor.get(f"/v1/windows/{made['id']}")).json()["state"] == "planned"
    assert (await say(vendor, verdict=None, decidedBy=None, reviewOn=None))["releasedWindows"] == ["planned"]
    assert (await vendor.get(f"/v1/windows/{made['id']}")).json()["state"] == "open"


async def test_nothing_is_a_candidate_before_a_full_term_of_counting(small_trust: Trust, vendor: Any) -> None:
    await judge_all(vendor, "one")
    rows = await audit(vendor)
    assert {(row["neverRead"], row["stopCandidate"]) for row in rows.values()} == {(True, False)}
    operator = small_trust.operator
    await operator.execute("UPDATE judgements SET received_at = received_at - interval '300 days'")
    await operator.execute("UPDATE read_counting SET began_at = began_at - interval '300 days'")
    rows = await audit(vendor)
    assert {row["stopCandidate"] for row in rows.values()} == {True}
    await say(vendor, subject="maths", verdict="keep", **WHO)
    app = await make_reader(small_trust, "app", "front-end")
    portal = await make_reader(small_trust, "portal", "front-end", "schools:read,aggregates:internal,windows:read")
    stranger = await make_reader(small_trust, "stranger", None)
    await app.get("/v1/judgements?subjectCode=gps")
    await portal.get("/v1/aggregates?groupBy=school&subject=writing&window=one")
    await stranger.get("/v1/judgements?subjectCode=science")
    await flush(small_trust)
    rows = await audit(vendor)
    assert {subject for subject, row in rows.items() if row["stopCandidate"]} == {"reading"}
    assert (rows["writing"]["aggregateReads"], rows["writing"]["reads"], rows["science"]["unknownKindReads"]) == (1, 0, 1)


async def test_the_audit_shows_the_schools_of_its_scope_and_nothing_of_a_pupil(small_trust: Trust, vendor: Any) -> None:
    await judge_all(vendor, "one")
    await sent(vendor, "/v1/judgements", batch("Elm", [judged(20)], window="one"))
    governor = await small_trust.client("governor", "school:100002=collections:read,windows:read,schools:read")
    rows = (await governor.get("/v1/collections?first=100&fields=schoolId,subjectCode,values")).json()["data"]
    assert {row["schoolId"] for row in rows} == {str(small_trust.ids["Elm"])}
    assert {row["subjectCode"]: row["values"] for row in rows}["reading"] == 1
    assert (await governor.get("/v1/judgements")).status_code == 403
    nobody = await small_trust.client("nobody", "trust:4128=windows:read,schools:read")
    assert (await nobody.get("/v1/collections")).status_code == 403
    refused = await sent(governor, "/v1/collection-answers", {"tenant": TENANT, "purpose": "To plan lessons"}, 403)
    assert refused["type"].endswith("scope-missing")
    head = await small_trust.client("head", "school:100002=collections:read,collections:write")
    assert issues(await sent(head, "/v1/collection-answers", {"tenant": TENANT, "purpose": "To plan lessons"}, 422))
    await sent(head, "/v1/collection-answers", {"school": {"urn": URNS["Elm"]}, "purpose": "To plan lessons"})


async def test_the_page_for_governors_is_one_sheet_about_no_single_child_or_teacher(small_trust: Trust, vendor: Any) -> None:
    await judge_all(vendor, "one", actor="Miss Honey <b>")
    await say(vendor, impact="No extra <i>tests</i>", verdict="keep", **WHO)
    trust, oak = small_trust.ids["trust"], small_trust.ids["Oak"]
    governor = await small_trust.client("governor", "school:100001=collections:read")
    for client, url in ((vendor, f"/v1/trusts/{trust}/collection-summary"), (governor, f"/v1/schools/{oak}/collection-summary")):
        answer = await client.get(url)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8"), answer.text
        page = answer.text
        assert "{" not in page.partition("<body>")[2]
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        for text in ("Who gets help", "Two hours", "A term", "keep", "100 %", "under 1 h"):
            assert text in page, text
        for hidden in ("Honey", "Okafor", "Surname1", "Sam", upn(1), "<i>"):
            assert hidden not in page, hidden
    for client, url in (
        (governor, f"/v1/schools/{small_trust.ids['Elm']}/collection-summary"),
        (vendor, f"/v1/trusts/{oak}/collection-summary"),
    ):
        assert (await client.get(url)).status_code == 404
    reader = await small_trust.client("reader", "trust:4128=windows:read")
    assert (await reader.get(f"/v1/trusts/{trust}/collection-summary")).status_code == 403
    assert (await small_trust.http.get(f"/v1/trusts/{trust}/collection-summary")).status_code == 401


def test_texts_of_the_page_are_no_placeholders() -> None:
    """Not even where a name looks like the place of another text."""
    window = BudgetWindow("2025-26/Autumn", "{rows} & {lost}", "{name}", "Two hours", "A term")
    day = date(2026, 11, 28)
    page = write_page(CollectionSummary("The {schools} Trust", day, 2, [], [window], day, 0))
    assert page.count("The {schools} Trust") == 2
    assert "{rows} &amp; {lost}" in page
    assert "<dd>{name}</dd>" in page
