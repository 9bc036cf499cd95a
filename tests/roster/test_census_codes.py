"""Codes of the census on the roll: early years, statuses, free meals, languages; and references that are no references."""

from datetime import date
from typing import Any, get_args, get_type_hints

import pytest

from domain.roster.characteristics import Kind
from domain.roster.code_lists import load_code_lists
from domain.roster.enrolments import Spell
from domain.roster.on_roll import MAIN
from domain.roster.references import is_identifier
from domain.roster.years import YEARS
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import (
    Trust,
    asked,
    at,
    batch,
    counted,
    entry,
    issues,
    judged,
    opened,
    roll,
    sent,
    upn,
    window,
)

STATUSES = {"C": True, "M": True, "S": False, "G": False, "F": True, "O": True}
"""By status, whether DfE counts the pupil at this school: Common Basic Data Set 2024, enrolment status; school census guide 2024 to 2025."""
STAGES: dict[str | None, str] = {
    "EYFS": "E1 E2 N1 N2 R",
    "KS1": "1 2",
    "KS2": "3 4 5 6",
    "KS3": "7 8 9",
    "KS4": "10 11",
    "KS5": "12 13",
    None: "14 X",
}
"""DfE, The national curriculum: overview 2014; Common Basic Data Set 2024, NC year actual."""
MEALS = {"targeted": "targeted", "none": "none", "true": "targeted", "false": "none", "TRUE": "targeted", " Targeted ": "targeted"}
LANGUAGES = {"1": "1", "2": "2", "3": "3"} | {"ENG": "1", "ENB": "1", "OTH": "2", "OTB": "2", "REF": "3", "NOT": "3", "enb": "1"}
"""DfE school census guide 2024 to 2025, language code, and how it publishes first language: English, other than English, unclassified."""


LATE = [{"from": "2017-09-01", "status": "C"}]
"""The spell of a pupil who was too young in 2014."""


def test_the_code_lists_are_what_the_program_knows() -> None:
    lists = load_code_lists()
    assert tuple(code.code for code in lists["yearGroup"].codes) == YEARS
    assert {code.code: code.stage for code in lists["yearGroup"].codes} == {
        y: stage for stage, of in STAGES.items() for y in of.split()
    }
    assert {code.code: code.eligible for code in lists["enrolmentStatus"].codes} == STATUSES
    assert {code for code, eligible in STATUSES.items() if eligible} == set(MAIN)
    written = get_args(get_args(get_type_hints(Spell, include_extras=True)["status"])[0])
    assert set(written) == set(STATUSES)
    assert set(get_args(Kind)) <= lists.keys()


@pytest.mark.parametrize(("year", "born"), [("E1", "2018-01-20"), ("E2", "2016-10-01"), ("E2", "2016-06-30")])
async def test_babies_are_on_roll_in_the_years_before_nursery(vendor: Any, year: str, born: str) -> None:
    """In every other year group a pupil of that age is refused."""
    spell = [{"from": "2018-03-01", "status": "C"}]
    row = entry(1, yearGroup=year, dateOfBirth=born, enrolments=spell, characteristics=[])
    answer = await sent(vendor, "/v1/pupils", roll("Oak", [row]))
    assert (counted(answer), answer["warnings"]) == ({"created": 1}, [])
    refused = await sent(vendor, "/v1/pupils", roll("Oak", [row | {"yearGroup": "1", "reference": "P2", "upn": upn(2)}]), 422)
    assert set(issues(refused).values()) == {"age-implausible"}


@pytest.mark.parametrize("year", ["E1", "E2", "Early first year", "e2"])
async def test_the_two_years_before_nursery(vendor: Any, year: str) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, yearGroup=year, dateOfBirth="2015-11-01", enrolments=LATE)]))
    (shown,) = (await vendor.get("/v1/pupils?fields=yearGroup")).json()["data"]
    assert shown["yearGroup"] == ("E2" if "2" in year else "E1")


@pytest.mark.parametrize("status", STATUSES)
async def test_who_counts_by_status(small_trust: Trust, vendor: Any, status: str) -> None:
    await opened(vendor)
    spell = {"from": "2014-09-01", "status": status}
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, enrolments=[spell]), *(entry(n) for n in range(2, 10))]))
    shown = (await vendor.get("/v1/enrolments?fields=status&status=" + status)).json()["data"]
    assert {row["status"] for row in shown} == {status}
    rows = (await vendor.get("/v1/aggregates?window=2017-18/KS2&subject=reading&groupBy=school")).json()["data"]
    assert {row["schoolName"]: row["eligible"] for row in rows}["Oak"] == 8 + STATUSES[status]
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_child_of_a_referral_unit_is_counted_there_once(small_trust: Trust, vendor: Any) -> None:
    """The status O is a main registration: the child who was Oak's is now Elm's."""
    await opened(vendor)
    await sent(vendor, "/v1/pupils", at("Oak", {"from": "2014-09-01", "status": "C"}))
    await sent(vendor, "/v1/pupils", at("Elm", {"from": "2018-02-01", "status": "O"}, day="2018-05-13"))
    rows = (await vendor.get("/v1/aggregates?window=2017-18/KS2&subject=reading&groupBy=school")).json()["data"]
    assert {row["schoolName"]: row["eligible"] for row in rows if row["eligible"]} == {"Elm": 1}
    assert await miscounted(small_trust) == (0, 0, 0)


def told(kind: str, value: str, from_: str = "2017-09-01", to: str | None = None) -> list[dict[str, Any]]:
    return [{"kind": kind, "value": value, "from": from_, "to": to}]


STORED = "SELECT value FROM characteristics WHERE kind = $1"


@pytest.mark.parametrize("value", MEALS)
async def test_free_meals_are_stored_by_their_category(small_trust: Trust, vendor: Any, value: str) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, characteristics=told("fsm", value))]))
    assert await small_trust.value(STORED, "fsm") == MEALS[value]
    again = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, characteristics=told("fsm", MEALS[value]))]))
    assert counted(again) == {"unchanged": 1}


@pytest.mark.parametrize("value", LANGUAGES)
async def test_language_codes_are_stored_by_their_class(small_trust: Trust, vendor: Any, value: str) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, characteristics=told("eal", value))]))
    assert await small_trust.value(STORED, "eal") == LANGUAGES[value]


@pytest.mark.parametrize(
    ("kind", "value"),
    [*(("fsm", v) for v in ("yes", "T", "expand", "1", "")), *(("eal", v) for v in ("EN", "4", "ENGL", "0")), ("sen", "X")],
)
async def test_a_value_that_is_no_code_is_reported_with_the_list(vendor: Any, kind: str, value: str) -> None:
    answer = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, characteristics=told(kind, value))]), 422)
    assert issues(answer) == {"/entries/0/characteristics/0": "wrong-value"}
    listed = {
        "fsm": "targeted, expanded, none, true, false",
        "eal": "1, 2, 3, ENG, ENB, OTH, OTB, REF, NOT",
        "sen": "N, K, E, A, P, S",
    }
    assert listed[kind] in answer["issues"][0]["message"]


FOUND: list[tuple[list[str], list[str], set[str]]] = [
    (["fsm"], ["true"], {"targeted"}),
    (["fsm"], ["Targeted"], {"targeted"}),
    (["fsm"], ["targeted", "false"], {"targeted", "none"}),
    (["lookedAfter"], ["TRUE"], {"true"}),
    (["fsm", "lookedAfter"], ["true"], {"targeted", "true"}),
    (["eal"], ["eng", " 2 "], {"1"}),
    (["sen"], ["k"], {"K"}),
    (["ethnicity"], ["wbri"], {"WBRI"}),
    (["ethnicity"], ["weng"], {"WENG"}),
    ([], ["true"], {"targeted", "true"}),
    ([], ["1"], {"1"}),
]
"""By kinds and values of a filter, the values that it finds."""
NONE_OF_IT = [("eal", "true"), ("sen", "targeted"), ("ethnicity", "E"), ("ever6Fsm", "none"), ("lookedAfter", "2"), ("fsm", "1")]


async def test_values_of_characteristics_are_filtered_by_their_kind(vendor: Any) -> None:
    spells = [("fsm", "true"), ("lookedAfter", "true"), ("eal", "ENB"), ("sen", "K"), ("serviceChild", "false")]
    one = [spell for kind, value in (*spells, ("ethnicity", "WBRI")) for spell in told(kind, value)]
    other = [*told("ethnicity", "WENG"), *told("fsm", "false"), *told("lookedAfter", "false")]
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, characteristics=one), entry(2, characteristics=other)]))
    pupil = (await sent(vendor, "/v1/pupils/lookup", {"where": {"reference": "P1"}, "fields": ["id"]}))["data"][0]["id"]
    query = "query($w: PupilCharacteristicWhere) { characteristics(first: 100, where: $w) { nodes { value } } }"
    for kinds, values, found in FOUND:
        where = {name: texts for name, texts in (("kind", kinds), ("value", values)) if texts}
        rest = (await vendor.get("/v1/characteristics", params=where | {"fields": "value"})).json()
        assert {row["value"] for row in rest["data"]} == found, (where, rest)
        assert (await asked(vendor, query, w=where))["characteristics"]["nodes"] == rest["data"]
        of_pupil = (await vendor.get(f"/v1/pupils/{pupil}/characteristics", params=where | {"fields": "value"})).json()
        assert {row["value"] for row in of_pupil["data"]} == found - {"WENG", "none"}
    lists = {
        "eal": "1, 2, 3, ENG",
        "sen": "N, K, E",
        "ethnicity": "WBRI, WIRI",
        "ever6Fsm": "true, false",
        "lookedAfter": "true, false",
    }
    for kind, value in NONE_OF_IT:
        where = {"kind": [kind], "value": [value]}
        for path in ("/v1/characteristics", f"/v1/pupils/{pupil}/characteristics", "/v1/planned-characteristics"):
            refused = await vendor.get(path, params=where)
            assert (refused.status_code, issues(refused.json())) == (400, {"value": "filter-value-invalid"}), refused.text
            assert f"none that {kind} can have" in refused.json()["issues"][0]["message"]
            assert lists.get(kind, "targeted, expanded, none, true") in refused.json()["issues"][0]["message"]
        graphql = await vendor.post("/graphql", json={"query": query, "variables": {"w": where}})
        (problem,) = [error["extensions"]["problem"] for error in graphql.json()["errors"]]
        assert [(issue["at"], issue["code"]) for issue in problem["issues"]] == [
            ("characteristics.where.value", "filter-value-invalid")
        ]
    for value in ("Klingon", "ZWENG", "4"):
        assert issues((await vendor.get("/v1/characteristics", params={"value": value})).json()) == {
            "value": "filter-value-invalid"
        }


@pytest.mark.parametrize(("day", "accepted"), [("2026-07-31", False), ("2026-08-01", True), ("2026-10-01", True)])
async def test_expanded_meals_begin_in_august_2026(vendor: Any, day: str, accepted: bool) -> None:
    row = entry(1, characteristics=told("fsm", "expanded", day), dateOfBirth="2016-01-01", enrolments=LATE)
    if accepted:
        await sent(vendor, "/v1/pupils", roll("Oak", [row], asOf="2026-11-02"))
        return
    answer = await sent(
        vendor,
        "/v1/pupils",
        roll("Oak", [row, entry(2, dateOfBirth="2016-01-01", enrolments=LATE)], asOf="2026-11-02"),
        Prefer="handling=lenient",
    )
    assert (counted(answer), issues(answer)) == ({"created": 1, "rejected": 1}, {"/entries/0/characteristics/0": "wrong-value"})
    assert "expanded from 2026-08-01 on" in answer["issues"][0]["message"]


NEVER: list[dict[str, Any]] = [{"kind": "ever6Fsm", "value": "false", "from": "2017-09-01"}]
CENSUS = date(2026, 10, 1)
DISADVANTAGED = {
    "targeted today": (told("fsm", "targeted", "2025-09-01"), "true"),
    "targeted until five years ago": (told("fsm", "targeted", "2019-09-01", "2021-09-30"), "true"),
    "targeted until six years ago to the day": (told("fsm", "targeted", "2019-09-01", "2020-10-01"), "true"),
    "targeted until more than six years ago": (told("fsm", "targeted", "2019-09-01", "2020-09-30"), "unknown"),
    "targeted, ended by the next spell six years ago": (
        told("fsm", "targeted", "2016-09-01") + told("fsm", "none", "2018-09-01"),
        "unknown",
    ),
    "targeted, ended by the next spell last year": (
        told("fsm", "targeted", "2016-09-01") + told("fsm", "none", "2025-09-01"),
        "true",
    ),
    "targeted after the census": (told("fsm", "targeted", "2026-10-02"), "unknown"),
    "expanded": (told("fsm", "expanded", "2026-09-01"), "unknown"),
    "expanded, and none in six years": (NEVER + told("fsm", "expanded", "2026-09-01"), "false"),
    "none": (told("fsm", "none", "2020-09-01"), "unknown"),
    "a former true": (NEVER + told("fsm", "true", "2024-09-01"), "true"),
    "looked after, expanded": (told("lookedAfter", "true", "2024-09-01") + told("fsm", "expanded", "2026-09-01"), "true"),
}


@pytest.mark.parametrize("case", DISADVANTAGED)
async def test_only_targeted_meals_make_disadvantaged(small_trust: Trust, vendor: Any, case: str) -> None:
    spells, disadvantaged = DISADVANTAGED[case]
    term = {
        "academicYear": "2026-27",
        "censusOn": str(CENSUS),
    }
    await opened(vendor, "2026-27/Autumn", **term)
    assert window()["yearGroups"] == ["6"]
    body = roll("Oak", [entry(1, characteristics=spells, dateOfBirth="2016-01-01", enrolments=LATE)], asOf="2026-11-02")
    await sent(vendor, "/v1/pupils", body)
    rows = await small_trust.operator.fetch("SELECT DISTINCT disadvantaged FROM cells WHERE n > 0")
    assert [row["disadvantaged"] for row in rows] == [disadvantaged]
    assert await miscounted(small_trust) == (0, 0, 0)


IDENTIFIERS = (upn(1), upn(7, temporary=True), upn(1).lower(), "943 476 5919", "9434765919", "943-476-5919")
"""UPNs, and the NHS number that the NHS Data Dictionary shows as its example."""


@pytest.mark.parametrize("reference", IDENTIFIERS)
async def test_no_answer_repeats_a_reference_that_identifies_the_child_elsewhere(vendor: Any, reference: str) -> None:
    """Whatever else is wrong with the row: it cannot be read, its school or window is unknown, or the whole head is wrong."""
    horizon = {"horizon": {"academicYear": "2018-19", "point": "KS2"}, "basis": "teacher"}
    school = (await vendor.get("/v1/schools?urn=100001")).json()["data"][0]["id"]
    good, elsewhere = entry(3), {"urn": 999_999}
    bodies = {
        "/v1/pupils": (
            "PupilBatch",
            roll("Oak", [entry(1, reference=reference, sex="Q"), entry(2, reference=reference, school=elsewhere), good]),
        ),
        "/v1/judgements": (
            "JudgementBatch",
            batch(
                "Oak",
                [judged(1, reference=reference, mark="x"), judged(2, "none", reference=f" {reference}.", grade=[]), judged(3)],
            ),
        ),
        "/v1/targets": (
            "TargetBatch",
            {"school": {"urn": 100001}, "entries": [judged(1, reference=reference, withdrawn="x") | horizon, judged(3) | horizon]},
        ),
        f"/v1/schools/{school}/references": (
            "ReferenceBatch",
            {"entries": [{"reference": reference, "oldReference": 5}, {"reference": "P3"}]},
        ),
    }
    for path, (type_, body) in bodies.items():
        for document in (body, body | {"window": 5, "asOf": "never", "nothing": 1}):
            for prefer in ("handling=strict", "handling=lenient, return=representation"):
                answer = await vendor.post(f"{path}?dryRun=true", json=document, headers={"Prefer": prefer})
                assert answer.status_code in (200, 422)
                assert len(answer.json()["issues"]) > 0
                assert not any(word in answer.text for word in (reference, reference.strip().upper())), (path, answer.text)
            operation = "recordSchoolReferences" if "references" in path else f"record{path[4].upper()}{path[5:]}"
            given = document | ({"id": school} if "references" in path else {})
            query = f'mutation ($i: {type_}Input!) {{ {operation}(input: $i, dryRun: true, handling: "lenient", return: "representation")'
            shown = " { issues { at code message reference } results { at reference } warnings { at reference } } }"
            graphql = await vendor.post("/graphql", json={"query": query + shown, "variables": {"i": given}})
            assert "issues" in graphql.text
            assert not any(word in graphql.text for word in (reference, reference.strip().upper())), (path, graphql.text)
    told = await vendor.post(
        "/v1/judgements", json=batch("Oak", [judged(1, mark="x"), judged(1, reference="9434765918", mark="x")])
    )
    of_rows = {issue.get("reference") for issue in told.json()["issues"] if issue["at"].startswith("/entries")}
    assert of_rows == {"P1", "9434765918"}  # which is no NHS number


@pytest.mark.parametrize("reference", IDENTIFIERS)
async def test_a_reference_that_identifies_the_child_elsewhere_is_refused(small_trust: Trust, vendor: Any, reference: str) -> None:
    await opened(vendor)
    row, refused = entry(1, reference=reference), {"/entries/0/reference": "reference-is-identifier"}
    answer = await sent(vendor, "/v1/pupils", roll("Oak", [row]), 422)
    assert issues(answer) == refused
    assert reference not in str(answer)
    joiner = batch("Oak", [judged(2)], asOf="2018-05-01", pupils=[row, entry(2)])
    assert issues(await sent(vendor, "/v1/judgements", joiner, 422)) == {"/pupils/0/reference": "reference-is-identifier"}
    graphql = await vendor.post(
        "/graphql",
        json={
            "query": "mutation($input: PupilBatchInput!) { recordPupils(input: $input) { rejected } }",
            "variables": {"input": roll("Oak", [row])},
        },
    )
    assert "reference-is-identifier" in graphql.text
    lenient = {"Prefer": "handling=lenient, return=representation", "Idempotency-Key": "identifier"}
    first, again = [await vendor.post("/v1/pupils", json=roll("Oak", [row, entry(3)]), headers=lenient) for _ in range(2)]
    assert (again.headers["Idempotency-Replayed"], again.content) == ("true", first.content)
    assert reference not in first.text
    assert issues(await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, reference=reference)]), 422)) == refused
    assert await small_trust.value("SELECT array_agg(value) FROM external_ids") == ["P3"]


@pytest.mark.parametrize("reference", ["9434765918", "943476591", "94347659199", "A" + upn(1), upn(1)[:-1], "P1", "X00180001701B"])
def test_other_references_are_references(reference: str) -> None:
    assert not is_identifier(reference)


@pytest.mark.parametrize("status", ["F", "O"])
async def test_two_main_spells_overlap_whatever_their_status(vendor: Any, status: str) -> None:
    """What holds of C and M holds of F and O: one main registration at a time."""
    spells = [{"from": "2014-09-01", "status": "C"}, {"from": "2017-09-01", "status": status}]
    answer = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, enrolments=spells)]), 422)
    assert issues(answer) == {"/entries/0/enrolments": "spells-overlap"}
    moved = [entry(1, reference="elm", enrolments=[{"from": "2018-03-01", "status": status}])]
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    await sent(vendor, "/v1/pupils", roll("Elm", moved))
    rows = (await vendor.get("/v1/enrolments?fields=status,to&sort=from")).json()["data"]
    assert rows == [{"status": "C", "to": "2018-02-28"}, {"status": status, "to": None}]


@pytest.mark.parametrize(
    ("kind", "value", "last_day", "first_day_after"),
    [
        ("ethnicity", "CHNE", "2024-08-31", "2024-09-01"),
        ("sen", "S", "2018-03-31", "2018-04-01"),
        ("sen", "P", "2015-08-31", "2015-09-01"),
    ],
)
async def test_a_code_that_has_ended_begins_no_spell(
    small_trust: Trust, vendor: Any, kind: str, value: str, last_day: str, first_day_after: str
) -> None:
    def row(day: str) -> dict[str, Any]:
        return entry(1, characteristics=told(kind, value, day), dateOfBirth="2008-01-01")

    refused = await sent(vendor, "/v1/pupils", roll("Oak", [row(first_day_after)]), 422)
    (issue,) = refused["issues"]
    assert (issue["at"], issue["code"]) == ("/entries/0/characteristics/0", "wrong-value")
    assert last_day in issue["message"]
    await sent(vendor, "/v1/pupils", roll("Oak", [row(last_day)]))
    assert await small_trust.value(STORED, kind) == value
