"""A statutory window is made from a dated template, and nothing else escapes the workload budget; why a window is held is said or inherited."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fixtures.clock import set_clock
from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.small_trust import REASONS, TRUST, URNS, Trust, at, entry, issues, roll, sent, window

OWN = {"trust": {"groupUid": TRUST}}
LEFT_OUT = ("name", "censusOn", "purpose", "decision", "yearGroups", "collects", "frequencyReasons")


@pytest.fixture
def fill_trust() -> Filling:
    """Nothing is stored yet."""
    return register_vendor


def _plan(code: str, template: str, year: str, **more: Any) -> dict[str, Any]:
    """A window that leaves to its template what can be left to it."""
    usual = {name: value for name, value in window(code).items() if name not in LEFT_OUT}
    return usual | {"template": template, "academicYear": year} | more


async def _read(client: Any, id_: str, *fields: str) -> list[Any]:
    row = (await client.get(f"/v1/windows/{id_}?fields={','.join(fields)}")).json()
    return [row[name] for name in fields]


async def test_a_template_says_what_a_statutory_window_is(vendor: Any) -> None:
    days = {
        "2016-17": "2017-05-08",
        "2017-18": "2018-05-14",
        "2018-19": "2019-05-13",
        "2021-22": "2022-05-09",
        "2025-26": "2026-05-11",
    }
    for year, day in days.items():
        made = await sent(vendor, "/v1/windows", _plan(f"{year}/KS2", "ks2", year), 201)
        fields = ("template", "statutory", "censusOn", "season", "yearGroups", "frequencyReasons")
        assert await _read(vendor, made["id"], *fields) == ["KS2", True, day, "summer", ["6"], None]
        source, purpose, audience, decision, name = await _read(
            vendor, made["id"], "source", "purpose", "audience", "decision", "name"
        )
        assert "STA" in source
        assert all(len(text.split()) > 1 for text in (purpose, audience, decision, name))
    lines = (await vendor.get(f"/v1/windows/{made['id']}/collects?fields=subjectCode,aspect,schemeCode&first=100")).json()["data"]
    assert {tuple(line.values()) for line in lines} == {
        *((subject, "main", "ks2-scaled-score") for subject in ("reading", "maths", "gps")),
        ("writing", "main", "ks2-writing-ta"),
        ("science", "main", "ks2-science-ta"),
        *((subject, "teacher", "ks2-reading-maths-ta") for subject in ("reading", "maths")),
    }


async def test_the_templates_switch_their_subjects_on(vendor: Any) -> None:
    for template, day, subjects in (("MTC", "2026-06-01", 1), ("phonics", "2026-06-08", 1), ("EYFSP", None, 17)):
        plan = _plan(f"2025-26/{template}", template, "2025-26")
        if day is None:
            assert issues(await sent(vendor, "/v1/windows", plan, 422)) == {"/censusOn": "required"}
            plan |= {"censusOn": "2026-06-30"}
        made = await sent(vendor, "/v1/windows", plan, 201)
        assert (await _read(vendor, made["id"], "censusOn"))[0] in (day, "2026-06-30")
        lines = (await vendor.get(f"/v1/windows/{made['id']}/collects?fields=subjectCode&first=100")).json()["data"]
        assert len({line["subjectCode"] for line in lines}) == subjects
    await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "gcse-9-1", "name": "GCSE", "template": "gcse-9-1"}, 201)
    await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": "latin"}, 201)
    collects = [{"subject": "latin", "scheme": "gcse-9-1"}]
    await sent(vendor, "/v1/windows", _plan("KS4", "KS4", "2025-26", censusOn="2026-05-21", collects=collects), 201)


@pytest.mark.parametrize(
    ("changed", "status", "told"),
    [
        ({"template": "SATs"}, 422, {"/template": "template-unknown"}),
        ({"academicYear": "2019-20", "censusOn": "2020-05-11"}, 422, {"/template": "template-not-held"}),
        ({"academicYear": "2020-21", "censusOn": "2021-05-10"}, 422, {"/template": "template-not-held"}),
        ({"academicYear": "2015-16", "censusOn": "2016-05-09"}, 422, {"/template": "template-not-held"}),
        ({"template": "MTC", "academicYear": "2018-19", "censusOn": "2019-06-10"}, 422, {"/template": "template-not-held"}),
        ({"statutory": False}, 422, {"/statutory": "outside-template"}),
        ({"statutory": True}, 201, {}),
        ({"yearGroups": ["6", "Year 5"]}, 422, {"/yearGroups/1": "outside-template"}),
        ({"collects": [{"subject": "reading", "scheme": "ks2-writing-ta"}]}, 422, {"/collects/0": "outside-template"}),
        (
            {"collects": [{"subject": "reading", "aspect": "effort", "scheme": "ks2-scaled-score"}]},
            422,
            {"/collects/0": "outside-template"},
        ),
        ({"season": "autumn"}, 422, {"/season": "outside-template"}),
        ({"censusOn": "2017-11-10"}, 422, {"/season": "outside-season"}),
        (
            {"code": "taken", "collects": [{"subject": "reading", "scheme": "ks2-scaled-score"}]},
            409,
            {"/template": "template-used"},
        ),
    ],
)
async def test_what_a_template_does_not_have_is_refused(
    vendor: Any, changed: dict[str, Any], status: int, told: dict[str, str]
) -> None:
    if status == 409:
        at_oak = [{"subject": "reading", "scheme": "ks2-scaled-score", "schools": [{"urn": URNS["Oak"]}]}]
        await sent(vendor, "/v1/windows", _plan("first", "KS2", "2017-18", collects=at_oak), 201)
        at_elm = [at_oak[0] | {"schools": [{"urn": URNS["Elm"]}]}]
        await sent(vendor, "/v1/windows", _plan("second", "KS2", "2017-18", collects=at_elm), 201)
    answer = await sent(vendor, "/v1/windows", _plan("w", "KS2", "2017-18") | changed, status)
    found = issues(answer) if status != 201 else {}
    assert {at_: found.get(at_) for at_ in told} == told, found


async def test_statutory_without_a_template_is_refused_and_stored_windows_keep_their_flag(vendor: Any, small_trust: Trust) -> None:
    refused = await sent(vendor, "/v1/windows", window("w", statutory=True), 422)
    assert issues(refused) == {"/statutory": "template-needed"}
    made = await sent(vendor, "/v1/windows", window("w", statutory=False), 201)
    await small_trust.operator.execute(
        "UPDATE windows SET statutory = true, frequency_reasons = NULL, season = NULL, template = NULL"
    )
    changed = await vendor.patch(f"/v1/windows/{made['id']}", json={"yearGroups": ["5", "6"]}, headers={"If-Match": '"1"'})
    assert changed.json()["outcome"] == "updated", changed.text
    assert await _read(vendor, made["id"], "statutory", "season", "template") == [True, "summer", None]
    for n in range(4):  # they never count against the budget
        await small_trust.operator.execute(
            "INSERT INTO windows (tenant_id, id, no, code, name, academic_year, census_on, opens_at, closes_at, state, statutory, purpose, decision,"
            " year_groups) SELECT tenant_id, gen_random_uuid(), no + 10 + $1, code || $1, name, academic_year, census_on, opens_at, closes_at, state,"
            " true, purpose, decision, year_groups FROM windows WHERE code = 'w'",
            n,
        )
    await sent(vendor, "/v1/windows", window("another", frequencyReasons=None), 201)


async def test_a_window_of_a_template_stays_within_it_when_it_is_changed(vendor: Any) -> None:
    made = await sent(vendor, "/v1/windows", _plan("w", "KS2", "2017-18"), 201)
    for change, told in (
        ({"yearGroups": ["6", "5"]}, {"/yearGroups/1": "outside-template"}),
        ({"censusOn": "2017-11-10"}, {"/season": "outside-template"}),
        ({"purpose": "Tests"}, {"/purpose": "too-few-words"}),
    ):
        answer = await vendor.patch(f"/v1/windows/{made['id']}", json=change, headers={"If-Match": '"1"'})
        assert (answer.status_code, issues(answer.json())) == (422, told), answer.text


async def test_a_season_is_said_or_that_of_the_census_and_counts_in_the_budget(vendor: Any) -> None:
    terms = {"academicYear": "2019-20", "frequencyReasons": None}
    for code, day, season, stored in (
        ("a", "2020-01-10", "autumn", "autumn"),
        ("b", "2020-02-10", None, "spring"),
        ("c", "2020-06-10", None, "summer"),
    ):
        said = {} if season is None else {"season": season}
        made = await sent(vendor, "/v1/windows", window(code, censusOn=day, **said, **terms), 201)
        assert await _read(vendor, made["id"], "season") == [stored]
    assert (await vendor.get("/v1/windows?season=autumn&fields=code")).json()["data"] == [{"code": "a"}]
    budget = {"/frequencyReasons": "workload-budget-exceeded"}
    assert issues(await sent(vendor, "/v1/windows", window("d", censusOn="2020-01-20", season="spring", **terms), 409)) == budget
    answer = await sent(vendor, "/v1/windows", window("d", censusOn="2020-02-20", season="autumn", academicYear="2019-20"), 422)
    assert issues(answer) == {"/season": "outside-season"}
    answer = await vendor.patch(f"/v1/windows/{made['id']}", json={"censusOn": "2020-02-12"}, headers={"If-Match": '"1"'})
    assert (answer.json()["outcome"], await _read(vendor, made["id"], "season")) == ("updated", ["spring"])


async def test_reasons_are_two_words_or_inherited_from_the_last_window_of_the_season(vendor: Any) -> None:
    nothing = {name: value for name, value in window("w").items() if name not in ("purpose", "decision")}
    assert issues(await sent(vendor, "/v1/windows", nothing, 422)) == {"/purpose": "required", "/decision": "required"}
    refused = await sent(vendor, "/v1/windows", window("w", purpose="Tracking", audience="Us", decision="None"), 422)
    assert issues(refused) == dict.fromkeys(("/purpose", "/audience", "/decision"), "too-few-words")
    first = {"purpose": "To see progress", "audience": "All teachers", "decision": "Who is helped"}
    await sent(vendor, "/v1/windows", window("last year", academicYear="2016-17", censusOn="2017-05-15", **first), 201)
    made = await sent(vendor, "/v1/windows", nothing | {"decision": "What is taught"}, 201)
    assert await _read(vendor, made["id"], "purpose", "audience", "decision") == [
        "To see progress",
        "All teachers",
        "What is taught",
    ]
    autumn = nothing | {"code": "autumn", "censusOn": "2017-11-15"}
    assert issues(await sent(vendor, "/v1/windows", autumn, 422)) == {"/purpose": "required", "/decision": "required"}


async def test_a_moved_pupils_excess_is_listed_and_refuses_nothing(vendor: Any, monkeypatch: Any) -> None:
    set_clock(monkeypatch, datetime(2018, 6, 20, 12, tzinfo=UTC))
    usual = {
        "frequencyReasons": None,
        "collects": [{"subject": "reading", "scheme": "ks2-scaled-score", "schools": [{"urn": URNS["Oak"]}]}],
    }
    at_elm = usual | {"collects": [usual["collects"][0] | {"schools": [{"urn": URNS["Elm"]}]}]}  # type: ignore[index]
    for code, day in (("autumn", "2017-11-10"), ("spring", "2018-02-10"), ("late spring", "2018-04-10")):
        await sent(vendor, "/v1/windows", window(f"Oak {code}", censusOn=day, **usual), 201)
    enrolments = [{"from": "2017-09-01", "status": "C"}]
    await sent(
        vendor, "/v1/pupils", roll("Oak", [entry(1, enrolments=enrolments), entry(2, enrolments=enrolments)], asOf="2017-09-10")
    )
    await sent(vendor, "/v1/pupils", at("Elm", {"from": "2018-05-01", "status": "C"}, day="2018-05-02", upn=entry(1)["upn"]))
    for code, day in (("early summer", "2018-05-10"), ("summer", "2018-06-10")):
        reasons = {"frequencyReasons": REASONS} if code == "summer" else {}
        await sent(vendor, "/v1/windows", window(f"Elm {code}", censusOn=day, **(at_elm | reasons)), 201)
    rows = (await vendor.get("/v1/pupils?collectionsBeyondBudget.gte=1&fields=reference,collectionsBeyondBudget,yearGroup")).json()[
        "data"
    ]
    assert rows == [{"reference": "Elm-1", "collectionsBeyondBudget": 2, "yearGroup": "6"}]
    rows = (await vendor.get("/v1/pupils?fields=collectionsBeyondBudget&sort=collectionsBeyondBudget")).json()["data"]
    assert [row["collectionsBeyondBudget"] for row in rows] == [0, 2]


async def test_the_templates_are_listed_with_their_years(vendor: Any) -> None:
    rows = (await vendor.get("/v1/codes?list=windowTemplate&fields=code,validFrom,validTo,stage,source")).json()["data"]
    assert [(row["validFrom"], row["validTo"]) for row in rows if row["code"] == "KS2"] == [
        ("2016-09-01", "2019-08-31"),
        ("2021-09-01", None),
    ]
    assert {row["code"] for row in rows} == {"EYFSP", "phonics", "MTC", "KS2", "KS4", "KS5"}
    assert all(row["source"] for row in rows)
