"""What is told of a refused row: what there is instead, its own reference, and everything else that is wrong with it and the others."""

import json
from typing import Any

import pytest

from tests.fixtures.random_queries import Name, literal
from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.small_trust import WINDOW, Trust, asked, batch, entry, issues, judged, opened, roll, sent, upn, window


@pytest.fixture
def fill_trust() -> Filling:
    return open_window_with_five_pupils


async def open_window_with_five_pupils(trust: Trust) -> None:
    client = await register_vendor(trust)
    await opened(client)
    await sent(client, "/v1/pupils", roll("Oak", [entry(n) for n in range(4)]))
    await sent(client, "/v1/pupils", roll("Elm", [entry(20)]))


def told(answer: dict[str, Any]) -> dict[str, str]:
    return {issue["at"]: issue["message"] for issue in answer["issues"]}


async def test_an_unknown_window_lists_those_of_the_tenant(small_trust: Trust, vendor: Any) -> None:
    quay = await small_trust.client("quay", "school:100004=all")
    await sent(quay, "/v1/windows", window("secret", tenant={"school": {"urn": 100004}}), 201)
    refused = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)], window="nothing"), 422)
    assert told(refused) == {"/window": f"This tenant has no such window. It has: {WINDOW}."}
    refused = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, window="nothing"), judged(2)]), 422)
    assert told(refused) == {"/entries/0/window": f"This tenant has no such window. It has: {WINDOW}."}
    for n in range(30):
        await sent(vendor, "/v1/windows", window(f"w{n}"), 201)
    refused = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)], window="nothing"), 422)
    listed = told(refused)["/window"]
    assert listed.endswith(" and more.")
    assert listed.count(",") == 19
    assert "secret" not in listed


async def test_what_is_not_collected_is_reported_with_what_is(vendor: Any) -> None:
    lines = [
        {"subject": "reading", "scheme": "ks2-scaled-score"},
        {"subject": "writing", "aspect": "teacher", "scheme": "ks2-writing-ta"},
    ]
    elm = [{"subject": "science", "scheme": "ks2-science-ta", "schools": [{"urn": 100002}]}]
    await opened(vendor, "small", collects=[*lines, *elm])
    refused = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, "maths")], window="small"), 422)
    expected = "The window does not collect this subject and aspect from Oak. It collects: reading, writing (teacher)."
    assert told(refused) == {"/entries/0/subject": expected}


async def test_issues_and_results_repeat_the_rows_own_reference(small_trust: Trust, vendor: Any) -> None:
    rows = [judged(1), judged(2, grade="ZZ"), {"upn": upn(3), "subject": "reading", "grade": 99}, judged(0, mark="x"), judged(9)]
    prefer = {"Prefer": "handling=lenient, return=representation", "Idempotency-Key": "k1"}
    answer = await vendor.post("/v1/judgements", json=batch("Oak", rows), headers=prefer)
    first = answer.json()
    assert {issue["at"]: issue.get("reference") for issue in first["issues"]} == {
        "/entries/1/grade": "P2",
        "/entries/3/mark": "P0",
        "/entries/4/reference": "P9",
    }
    assert [result["reference"] for result in first["results"]] == ["P1", "P2", None, "P0", "P9"]
    again = await vendor.post("/v1/judgements", json=batch("Oak", rows), headers=prefer)
    assert (again.headers["Idempotency-Replayed"], again.content) == ("true", answer.content)
    kept = await small_trust.value("SELECT answer FROM idempotency")
    assert not any(f'"P{n}"' in kept for n in range(10))  # what is kept holds no reference
    assert '"P1"' not in (await vendor.get("/v1/idempotency-keys/k1")).text
    strict = await sent(vendor, "/v1/judgements", batch("Oak", rows), 422)
    assert [issue["reference"] for issue in strict["issues"]] == ["P2", "P0", "P9"]
    pupils = await sent(vendor, "/v1/pupils", roll("Oak", [entry(1, sex="Q")]), 422)
    assert pupils["issues"][0]["reference"] == "P1"
    target = {
        "reference": "P1",
        "subject": "none",
        "grade": 1,
        "basis": "teacher",
        "horizon": {"academicYear": "2018-19", "point": "KS2"},
    }
    targets = await sent(vendor, "/v1/targets", {"school": {"urn": 100001}, "entries": [target]}, 422)
    assert targets["issues"][0]["reference"] == "P1"


MEMBERS = [
    {"reference": "P1"},
    {"reference": "ghost"},
    {"reference": "P2", "from": "yesterday"},
    {"upn": upn(99)},
    {"reference": upn(3)},
    {"reference": f"{upn(3)[:4]} {upn(3)[4:8]} {upn(3)[8:]}"},
]
OF_MEMBERS = {
    "0/members/1/reference": "ghost",
    "0/members/2/from": "P2",
    "1/members/1/reference": "ghost",
    "1/members/2/upn": None,
    "1/members/3/reference": None,
    "1/members/4/reference": None,
}
"""By place, the reference that is repeated: the member's own, unless it is an identifier."""


async def test_issues_of_members_repeat_the_members_own_reference(vendor: Any) -> None:
    groups = [
        {"code": "8x/Hi", "name": "History", "kind": "class", "members": MEMBERS[:3]},
        {"code": "8x/Ge", "name": "Geography", "kind": "class", "members": [MEMBERS[0], MEMBERS[1], *MEMBERS[3:]]},
    ]
    body = {"school": {"urn": 100001}, "academicYear": "2017-18", "asOf": "2018-05-01", "entries": groups}
    record = "mutation($i: GroupBatchInput!) { recordGroups(input: $i) { issues { at reference } } }"
    wanted = {f"/entries/{at}": reference for at, reference in OF_MEMBERS.items()}
    for prefer, status in (("handling=lenient", 200), ("handling=strict", 422)):
        answer = await sent(vendor, "/v1/groups", body, status, Prefer=prefer)
        assert {issue["at"]: issue.get("reference") for issue in answer["issues"]} == wanted
        of_identifiers = {
            issue["code"] for issue in answer["issues"] if "/members/3/" in issue["at"] or "/members/4/" in issue["at"]
        }
        assert of_identifiers == {"reference-is-identifier"}
        assert "9362" not in str(answer)
    graphql = (await vendor.post("/graphql", json={"query": record, "variables": {"i": body}})).json()
    (problem,) = [error["extensions"]["problem"] for error in graphql["errors"]]
    assert {issue["at"]: issue.get("reference") for issue in problem["issues"]} == wanted
    lenient = record.replace("input: $i", 'input: $i, handling: "lenient"')
    told_there = (await asked(vendor, lenient, i=body))["recordGroups"]["issues"]
    assert {issue["at"]: issue["reference"] for issue in told_there} == wanted


async def test_a_judgement_or_target_by_the_pupils_id_needs_no_school(small_trust: Trust, vendor: Any) -> None:
    pupils = {row["surname"]: row["id"] for row in (await vendor.get("/v1/pupils", params={"first": 100})).json()["data"]}
    rows = [{"id": pupils[name], "subject": "reading", "grade": 99} for name in ("Surname1", "Surname20")]
    answer = await sent(vendor, "/v1/judgements", {"window": WINDOW, "entries": rows})
    assert answer["created"] == 2
    receipts = (await vendor.get("/v1/receipts", params={"operation": "recordJudgements"})).json()["data"]
    assert {row["schoolId"] for row in receipts} == {str(small_trust.ids["Oak"]), str(small_trust.ids["Elm"])}
    horizon = {"horizon": {"academicYear": "2018-19", "point": "KS2"}, "basis": "teacher", "scheme": "ks2-scaled-score"}
    assert (await sent(vendor, "/v1/targets", {"entries": [row | horizon for row in rows]}))["created"] == 2
    query = "mutation ($i: JudgementBatchInput!) { recordJudgements(input: $i) { unchanged } }"
    assert (await asked(vendor, query, i={"window": WINDOW, "entries": rows}))["recordJudgements"] == {"unchanged": 2}
    mixed = [rows[0], {"upn": upn(2), "subject": "reading", "grade": 98}]
    assert issues(await sent(vendor, "/v1/judgements", {"window": WINDOW, "entries": mixed}, 422)) == {"/school": "ambiguous"}
    reader = await small_trust.client("reader", "trust:4128=pupils:read", "school:100002=judgements:write")
    absent = {"id": pupils["Surname20"][:-1] + ("1" if pupils["Surname20"][-1] == "0" else "0"), "subject": "reading", "grade": 99}
    refused = await sent(reader, "/v1/judgements", {"window": WINDOW, "entries": [rows[0], absent]}, 422)
    assert {issue["message"] for issue in refused["issues"]} == {"There is no such pupil within the reach of this client."}
    assert set(issues(refused)) == {"/entries/0/id", "/entries/1/id"}


async def test_one_fault_hides_no_other(vendor: Any) -> None:
    rows = [
        judged(1, "none", aspect="other", mark="x"),
        judged(2, grade="ZZ"),
        judged(9, "maths"),
        judged(3, "reading", window=5, recordedAt="2999-01-01T00:00:00Z"),
    ]
    refused = await sent(vendor, "/v1/judgements", batch("Oak", rows), 422)
    assert issues(refused) == {
        "/entries/0/mark": "wrong-value",
        "/entries/0/subject": "subject-unknown",
        "/entries/0/aspect": "aspect-unknown",
        "/entries/1/grade": "grade-unknown",
        "/entries/2/reference": "pupil-not-found",
        "/entries/3/window": "wrong-value",
        "/entries/3/recordedAt": "wrong-value",
    }
    head = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, "none"), judged(9)], window="nothing"), 422)
    assert issues(head) == {
        "/window": "window-unknown",
        "/entries/0/subject": "subject-unknown",
        "/entries/1/reference": "pupil-not-found",
    }
    malformed = await sent(
        vendor, "/v1/judgements", {"school": {"urn": 100001}, "windw": WINDOW, "asOf": 5, "entries": [judged(1, mark="x")]}, 422
    )
    assert issues(malformed) == {"/windw": "unknown-field", "/asOf": "wrong-value", "/entries/0/mark": "wrong-value"}
    lenient = await vendor.post(
        "/v1/judgements", json=batch("Oak", [judged(1)], window="nothing"), headers={"Prefer": "handling=lenient"}
    )
    assert (lenient.status_code, issues(lenient.json())) == (422, {"/window": "window-unknown"})


BAD_UPN, HORIZON = "A801200005001", {"academicYear": "20", "point": "KS2"}
TOLD_TOGETHER: list[tuple[str, str, dict[str, Any], dict[str, str]]] = [
    (
        "/v1/pupils",
        "PupilBatch",
        roll("Oak", [entry(1, sex="Q", upn=BAD_UPN, formerUpns=[BAD_UPN], yearGroup="99"), entry(2, upn=BAD_UPN)]),
        {
            "/entries/0/sex": "wrong-value",
            "/entries/0/upn": "upn-invalid",
            "/entries/0/formerUpns/0": "upn-invalid",
            "/entries/0/yearGroup": "year-group-invalid",
            "/entries/1/upn": "upn-invalid",
        },
    ),
    (
        "/v1/groups",
        "GroupBatch",
        {
            "school": {"urn": 100001},
            "academicYear": "20",
            "asOf": "never",
            "entries": [{"code": "a", "name": 5, "kind": "class", "members": [{"upn": BAD_UPN}]}],
        },
        {
            "/asOf": "wrong-value",
            "/academicYear": "academic-year-invalid",
            "/entries/0/name": "wrong-value",
            "/entries/0/members/0/upn": "upn-invalid",
        },
    ),
    (
        "/v1/targets",
        "TargetBatch",
        {
            "school": {"urn": 100001},
            "entries": [judged(1, "none", basis="x", horizon=HORIZON), judged(2, basis="teacher", horizon=HORIZON)],
        },
        {
            "/entries/0/basis": "wrong-value",
            "/entries/0/subject": "subject-unknown",
            "/entries/0/horizon/academicYear": "academic-year-invalid",
            "/entries/1/horizon/academicYear": "academic-year-invalid",
        },
    ),
    (
        "/v1/judgements",
        "JudgementBatch",
        batch("Oak", [judged(1, "none"), judged(99), judged(2, mark="x", window="never")], asOf="never"),
        {
            "/asOf": "wrong-value",
            "/entries/0/subject": "subject-unknown",
            "/entries/1/reference": "pupil-not-found",
            "/entries/2/mark": "wrong-value",
            "/entries/2/window": "window-unknown",
        },
    ),
    (
        "/v1/judgements",
        "JudgementBatch",
        batch("Oak", [judged(1, "none"), judged(2)], window=5),
        {"/window": "wrong-value", "/entries/0/subject": "subject-unknown"},
    ),
    (
        "/v1/windows",
        "NewWindow",
        window("w", name=5, academicYear="20", yearGroups=["99", "6"]),
        {"/name": "wrong-value", "/academicYear": "academic-year-invalid", "/yearGroups/0": "year-group-invalid"},
    ),
]


@pytest.mark.parametrize(("path", "type_", "body", "expected"), TOLD_TOGETHER)
async def test_a_value_of_another_type_hides_no_value_of_another_form(
    vendor: Any, path: str, type_: str, body: dict[str, Any], expected: dict[str, str]
) -> None:
    """In the same row, in other rows and in the head, strictly or leniently, in both interfaces."""
    for handling in ("strict", "lenient"):
        refused = await vendor.post(path, json=body, headers={"Prefer": f"handling={handling}"})
        assert (refused.status_code, issues(refused.json())) == (422, expected)
    operation = "createWindow" if type_ == "NewWindow" else f"record{type_.removesuffix('Batch')}s"
    query = f"mutation ($i: {type_}Input!) {{ {operation}(input: $i) {{ __typename }} }}"
    told_too = (await vendor.post("/graphql", json={"query": query, "variables": {"i": body}})).json()
    assert issues(told_too["errors"][0]["extensions"]["problem"]) == expected


async def test_a_faulty_head_writes_nothing(small_trust: Trust, vendor: Any) -> None:
    """Good rows beside it are looked at and never written, leniently neither."""
    before = await small_trust.everything()
    for wrong in ({"asOf": "never"}, {"nothing": 1}, {"school": 5}, {"window": []}):
        for prefer in ("handling=lenient", "handling=strict"):
            body = batch("Oak", [judged(1), judged(2)]) | wrong
            answer = await vendor.post("/v1/judgements", json=body, headers={"Prefer": prefer})
            assert (answer.status_code, {*issues(answer.json())}) == (422, {f"/{name}" for name in wrong}), answer.text
    assert await small_trust.everything() == before


async def test_a_number_keeps_its_digits_beside_a_faulty_one(vendor: Any) -> None:
    rows = [
        '{"reference": "P1", "subject": "reading", "grade": 100, "mark": 1e400}',
        '{"reference": "P3", "subject": "maths", "grade": 99, "mark": 12.340000000000000001}',
    ]
    document = f'{{"school": {{"urn": 100001}}, "window": "{WINDOW}", "entries": [{", ".join(rows)}]}}'
    answer = await vendor.post("/v1/judgements", content=document, headers={"Content-Type": "application/json"})
    expected = {"/entries/0/mark": "json-number-range", "/entries/1/mark": "too-many-decimals"}
    assert (answer.status_code, issues(answer.json())) == (400, expected)


async def test_faulty_json_in_a_row_is_reported_with_the_other_faults(vendor: Any) -> None:
    """Numbers, texts and keys that JSON can write and nobody can mean: issues of their rows, in both interfaces; alone they are a 400, as ever."""
    rows = [
        '{"reference": "P1", "subject": "reading", "grade": 100, "mark": 1e400}',
        '{"reference": "P2", "subject": "none", "grade": 100}',
        '{"reference": "P3", "subject": "maths", "grade": 99}',
        '{"reference": "P0", "subject": "maths", "grade": 99, "grade": 98}',
        '{"reference": "P0", "subject": "gps", "grade": 99, "actor": "a\\u0000b", "method": "\\ud800", "mark": NaN}',
        '{"reference": "P0", "subject": "reading", "grade": 36893488147419103232, "mark": "x"}',
    ]
    expected = {
        "/entries/0/mark": "json-number-range",
        "/entries/1/subject": "subject-unknown",
        "/entries/3/grade": "json-duplicate-key",
        "/entries/4/actor": "json-nul",
        "/entries/4/method": "json-surrogate",
        "/entries/4/mark": "json-not-a-number",
        "/entries/5/grade": "json-number-range",
        "/entries/5/mark": "wrong-value",
    }
    document = f'{{"school": {{"urn": 100001}}, "window": "{WINDOW}", "entries": [{", ".join(rows)}]}}'
    json_type, lenient = {"Content-Type": "application/json"}, {"Prefer": "handling=lenient", "Idempotency-Key": "faulty"}
    strict = await vendor.post("/v1/judgements", content=document, headers=json_type)
    assert (strict.status_code, issues(strict.json())) == (400, expected)
    query = "mutation ($i: JudgementBatchInput!, $h: String, $d: Boolean) { recordJudgements(input: $i, handling: $h, dryRun: $d)"
    query += " { created rejected issues { at code } } }"
    body = f'{{"query": "{query}", "variables": {{"h": "HANDLING", "d": DRY, "i": {document}}}}}'
    told_strict = (
        await vendor.post("/graphql", content=body.replace("HANDLING", "strict").replace("DRY", "true"), headers=json_type)
    ).json()
    assert (told_strict["status"], issues(told_strict)) == (400, expected)
    dry = (
        await vendor.post("/graphql", content=body.replace("HANDLING", "lenient").replace("DRY", "true"), headers=json_type)
    ).json()
    assert (dry["data"]["recordJudgements"]["created"], issues(dry["data"]["recordJudgements"])) == (1, expected)
    first, again = [await vendor.post("/v1/judgements", content=document, headers=json_type | lenient) for _ in range(2)]
    assert (first.status_code, first.json()["created"], first.json()["rejected"]) == (200, 1, 5)
    assert issues(first.json()) == expected
    assert (again.headers["Idempotency-Replayed"], again.content) == ("true", first.content)
    alone = document.replace(", ".join(rows), rows[0])
    refused = await vendor.post("/v1/judgements", content=alone, headers=json_type)
    assert (refused.status_code, issues(refused.json())) == (400, {"/entries/0/mark": "json-number-range"})
    for faulty in (
        body.replace(document, alone).replace("HANDLING", "strict").replace("DRY", "true"),
        body.replace("DRY", "1e400"),
    ):
        answer = await vendor.post("/graphql", content=faulty, headers=json_type)
        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (400, "json-malformed")
    reading = '{"query": "query ($n: Int) { pupils(first: $n) { nodes { id } } }", "variables": {"n": 1e400}}'
    assert issues((await vendor.post("/graphql", content=reading, headers=json_type)).json()) == {
        "/variables/n": "json-number-range"
    }
    made = (
        json.dumps(window("w", name=5, censusOn="never")).replace('"Key stage 2"', "1e400").replace('"National', '"\\u0000National')
    )
    planned = await vendor.post("/v1/windows", content=made, headers=json_type)
    assert (planned.status_code, issues(planned.json())) == (
        400,
        {"/name": "wrong-value", "/censusOn": "wrong-value", "/purpose": "json-nul"},
    )
    for whole in ('{"entries": [1e400', "1e400", '{"\\u0000": 1, "entries": []}', '{"entries": [{"\\ud800": 5}]}'):
        answer = await vendor.post("/v1/judgements", content=whole, headers=json_type)
        assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (400, "json-malformed"), whole


async def test_a_conjunction_cannot_be_judged(vendor: Any) -> None:
    horizon = {"horizon": {"academicYear": "2018-19", "point": "KS2"}, "basis": "teacher"}
    told_of = "rwm is the conjunction of reading, writing and maths"
    for path, body in (
        ("/v1/judgements", batch("Oak", [judged(1, "rwm"), judged(2, "rwm", mark="x")])),
        ("/v1/targets", {"school": {"urn": 100001}, "entries": [judged(1, "rwm") | horizon]}),
    ):
        refused = await sent(vendor, path, body, 422)
        of_subjects = [issue for issue in refused["issues"] if issue["at"].endswith("/subject")]
        assert {issue["code"] for issue in of_subjects} == {"subject-derived"}
        assert len(of_subjects) == len(body["entries"])  # type: ignore[arg-type]
        assert all(told_of in issue["message"] for issue in of_subjects)
    made = window("rwm", collects=[{"subject": "rwm", "scheme": "ks2-scaled-score"}])
    assert told_of in told(await sent(vendor, "/v1/windows", made, 422))["/collects/0/subject"]


BY_GRAPHQL = """
mutation ($i: JudgementBatchInput!, $handling: String) {
  recordJudgements(input: $i, handling: $handling) { received created rejected issues { at code message reference } }
}"""


async def test_graphql_refuses_one_row_for_one_wrong_value(vendor: Any) -> None:
    """An impossible instant, mark, code, id, truth value or null; the good rows are written, with the issues that REST has."""
    wrong = {
        "recordedAt": ["2018-05-32T08:00:00Z", "never"],
        "mark": ["x", True],
        "grade": [None, 1.5],
        "subject": [7, "x" * 5000],
        "status": ["ill"],
        "withdrawn": ["no"],
        "id": [5],
        "upn": [None],
        "school": [{"urn": []}, "Oak"],
    }
    rows = [judged(1, **{name: value}) for name, values in wrong.items() for value in values]
    document = batch("Oak", [*rows, judged(2), judged(3, grade=99)])
    rest = await sent(vendor, "/v1/judgements?dryRun=true", document, Prefer="handling=lenient")
    assert (rest["created"], rest["rejected"]) == (2, len(rows))
    made = (await asked(vendor, BY_GRAPHQL, i=document, handling="lenient"))["recordJudgements"]
    assert (made["created"], made["rejected"]) == (2, len(rows))
    assert [{"current": None, **issue} for issue in made["issues"]] == [
        {"current": None, "reference": None, **issue} for issue in rest["issues"]
    ]
    answer = await vendor.post("/graphql", json={"query": BY_GRAPHQL, "variables": {"i": document}})
    refused = answer.json()["errors"][0]["extensions"]["problem"]
    assert refused["status"] == 422
    assert issues(refused) == issues(rest)
    parts = """mutation ($rows: [JudgementEntryInput!]!, $window: String, $dry: Boolean) {
      recordJudgements(input: {school: {urn: 100001}, window: $window, entries: $rows}, handling: "lenient", dryRun: $dry)
      { rejected issues { at code } }
    }"""
    told_parts = (await asked(vendor, parts, rows=document["entries"], window=WINDOW, dry=True))["recordJudgements"]
    assert (told_parts["rejected"], issues(told_parts)) == (len(rows), issues(rest))
    other = await vendor.post("/graphql", json={"query": parts, "variables": {"rows": rows, "window": WINDOW, "dry": "yes"}})
    assert other.json()["errors"][0]["extensions"]["problem"]["issues"][0]["at"] == "/variables/dry"


async def test_graphql_refuses_one_row_of_a_roll_for_one_impossible_date(vendor: Any) -> None:
    rows = [
        entry(1, dateOfBirth="2018-99-99"),
        entry(2, enrolments=[{"from": "2014-02-30", "status": "C"}]),
        entry(3, forename="Kim"),
    ]
    document = roll("Oak", rows)
    query = """mutation ($i: PupilBatchInput!) { recordPupils(input: $i, handling: "lenient") { updated rejected issues { at code } } }"""
    made = (await asked(vendor, query, i=document))["recordPupils"]
    assert (made["updated"], made["rejected"]) == (1, 2)
    assert issues(made) == {"/entries/0/dateOfBirth": "wrong-value", "/entries/1/enrolments/0/from": "wrong-value"}


async def test_a_literal_of_an_input_has_the_issues_of_a_variable(vendor: Any) -> None:
    """Of its rows too: the good ones of a lenient batch are written. Variables may be parts of it."""
    rows = [
        judged(1, mark="x", recordedAt="never", status=Name("FOO"), nope=1),
        judged(2, subject=None, grade=True, mark=1.0000000000000000001),
        {"subject": "reading"},
        judged(3, grade=99),
    ]
    document = batch("Oak", rows) | {"window": WINDOW}
    selected = "{ received created rejected issues { at code message reference } }"
    by_literal = f'mutation {{ recordJudgements(input: {literal(document)}, handling: "lenient") {selected} }}'
    by_variable = (
        f'mutation ($i: JudgementBatchInput!) {{ recordJudgements(input: $i, handling: "lenient", dryRun: true) {selected} }}'
    )
    of_variable = await asked(vendor, by_variable, i=document)
    of_literal = await asked(vendor, by_literal)
    assert of_literal == of_variable
    made = of_literal["recordJudgements"]
    assert (made["received"], made["created"], made["rejected"]) == (4, 1, 3)
    assert (
        issues(made).items()
        >= {"/entries/0/mark": "wrong-value", "/entries/0/nope": "unknown-field", "/entries/2": "wrong-value"}.items()
    )
    parts = literal(document | {"entries": [*rows[:2], Name("$row"), rows[3]], "window": Name("$window")})
    mixed = f'mutation ($row: JudgementEntryInput!, $window: String) {{ recordJudgements(input: {parts}, handling: "lenient") {selected} }}'
    of_parts = (await asked(vendor, mixed, row=rows[2], window=WINDOW))["recordJudgements"]
    assert [issue["at"] for issue in of_parts["issues"]] == [issue["at"] for issue in made["issues"]]
    (row,) = (await vendor.get("/v1/pupils?first=1&fields=id,version")).json()["data"]
    change = {"id": row["id"], "expectedVersion": "x", "dateOfBirth": "2015-02-30", "yearGroup": 99}
    problems = [
        (await vendor.post("/graphql", json=body)).json()["errors"][0]["extensions"]["problem"]
        for body in (
            {"query": f"mutation {{ updatePupil(input: {literal(change)}) {{ id }} }}"},
            {"query": "mutation ($i: PupilChangeInput!) { updatePupil(input: $i) { id } }", "variables": {"i": change}},
        )
    ]
    assert problems[0] == problems[1]
    assert [*issues(problems[0])] == ["/expectedVersion", "/dateOfBirth", "/yearGroup"]


async def test_a_literal_outside_of_inputs_is_refused_at_its_place(vendor: Any) -> None:
    """The document is refused; each issue names the field, the argument and what is below, and nothing of the value."""
    wrong = {"dateOfBirth": ["2015-09-01", "Amelia-Rose"], "sex": 5, "range": {"changedAt": {"gte": "Amelia-Rose"}}, "nope": 1}
    first = '{ some: pupils(first: "Amelia-Rose") { nodes { judgements(where: {mark: "Amelia-Rose"}) { nodes { id } } } } '
    query = (
        f"{first} schools(where: {{lowAge: [1, 1.5]}}) {{ nodes {{ id }} }} pupils(where: {literal(wrong)}) {{ nodes {{ id }} }} }}"
    )
    answer = await vendor.post("/graphql", json={"query": query})
    found = [issue for error in answer.json()["errors"] for issue in error["extensions"]["problem"]["issues"]]
    assert {issue["at"]: issue["message"] for issue in found} == {
        "some.first": "Int cannot represent non-integer value.",
        "some.nodes.judgements.where.mark": "Float cannot represent a value that is no number.",
        "schools.where.lowAge.1": "Int cannot represent non-integer value.",
        "pupils.where.dateOfBirth.1": "Expected value of type 'Date': it is not a date such as 2026-09-01.",
        "pupils.where.sex": "String cannot represent a non string value.",
        "pupils.where.range.changedAt.gte": "Expected value of type 'DateTime': it is not an instant with its offset, such as 2026-09-01T08:30:00Z.",
        "pupils.where.nope": "Expected value of type 'PupilWhere' not to include unknown field 'nope'.",
    }
    assert {issue["code"] for issue in found} == {"wrong-type"}
    assert "Amelia" not in answer.text
    for query, at in (
        ('query ($n: Int = "Amelia-Rose") { pupils(first: $n) { nodes { id } } }', "$n"),
        ("query ($w: PupilWhere = {sex: 5}) { pupils(where: $w) { nodes { id } } }", "$w.sex"),
        ('{ pupils @include(if: "Amelia-Rose") { totalCount } }', "pupils.@include.if"),
        ('mutation { openWindow(input: {id: "x"}, dryRun: "Amelia-Rose") { id } }', "openWindow.dryRun"),
    ):
        problem = (await vendor.post("/graphql", json={"query": query})).json()["errors"][0]["extensions"]["problem"]
        assert ([*issues(problem)], "Amelia" in str(problem)) == ([at], False)


async def test_a_bad_code_does_not_hide_a_closed_window(vendor: Any) -> None:
    """What the stored data refuses is told with what can be seen in the row."""
    await sent(vendor, "/v1/windows", window("planned"), 201)
    rows = [judged(1, "none"), judged(2, window="planned"), judged(3)]
    refused = await sent(vendor, "/v1/judgements", batch("Oak", rows), 422)
    assert issues(refused) == {"/entries/0/subject": "subject-unknown", "/entries/1/window": "window-not-open"}
    assert (await vendor.get("/v1/judgements")).json()["data"] == []


async def test_a_code_in_another_case_is_suggested(vendor: Any) -> None:
    """In judgements, targets, windows and aggregates."""
    rows = [judged(0, "READING"), judged(1, "writing", "exs", aspect="teacher"), judged(2, aspect="MAIN")]
    refused = told(await sent(vendor, "/v1/judgements", batch("Oak", rows), 422))
    assert "no such subject. Did you mean reading? It has: " in refused["/entries/0/subject"]
    assert "no such grade. Did you mean EXS? It has: " in refused["/entries/1/grade"]
    assert "no such aspect. Did you mean main? It has: " in refused["/entries/2/aspect"]
    refused = told(await sent(vendor, "/v1/judgements", batch("Oak", [judged(0)], window=WINDOW.lower()), 422))
    assert f"Did you mean {WINDOW}?" in refused["/window"]
    target = {
        "reference": "P0",
        "subject": "Maths",
        "scheme": "KS2-Scaled-Score",
        "grade": 100,
        "horizon": {"academicYear": "2018-19", "point": "summer"},
        "basis": "teacher",
    }
    refused = told(await sent(vendor, "/v1/targets", {"school": {"urn": 100001}, "entries": [target]}, 422))
    assert "Did you mean maths?" in refused["/entries/0/subject"]
    assert "Did you mean ks2-scaled-score?" in refused["/entries/0/scheme"]
    planned = window("another", collects=[{"subject": "Writing", "aspect": "teacher", "scheme": "ks2-writing-ta"}])
    assert "Did you mean writing?" in told(await sent(vendor, "/v1/windows", planned, 422))["/collects/0/subject"]


async def test_aggregates_list_the_windows_and_subjects_that_there_are(small_trust: Trust, vendor: Any) -> None:
    quay = await small_trust.client("quay", "school:100004=all")
    await sent(quay, "/v1/windows", window("secret", tenant={"school": {"urn": 100004}}), 201)
    answer = await vendor.get("/v1/aggregates", params={"groupBy": "school", "window": WINDOW.lower(), "subject": "Maths"})
    found = told(answer.json())
    assert found["window"].endswith(f" aggregates. There are: {WINDOW}.")
    assert " Did you mean maths? There are: " in found["subject"]
    nothing = await vendor.get("/v1/aggregates", params={"groupBy": "school", "window": "x", "subject": "x"})
    assert told(nothing.json())["window"].endswith(f" aggregates. There are: {WINDOW}.")
    query = '{ aggregates(groupBy: [school], window: "x", subject: "maths") { nodes { schools } } }'
    refused = (await vendor.post("/graphql", json={"query": query})).json()["errors"][0]["extensions"]["problem"]
    assert refused["issues"][0]["message"].endswith(f" There are: {WINDOW}.")


async def test_an_unknown_link_lists_the_links_there_are(vendor: Any) -> None:
    answer = (await vendor.get("/v1/pupils?include=qqq")).json()
    assert told(answer)["include"].startswith("pupil has no link qqq. It has: ")
    assert "judgements" in told(answer)["include"]
    looked_up = await sent(vendor, "/v1/pupils/lookup", {"where": {"surname": "A*"}, "include": ["qqq"]}, 400)
    assert [*told(looked_up).values()] == [*told(answer).values()]


@pytest.mark.parametrize("plural", ["judgements", "targets"])
async def test_a_row_that_has_no_patch_is_sent_again(vendor: Any, plural: str) -> None:
    for method in ("PATCH", "DELETE"):
        answer = await vendor.request(method, f"/v1/{plural}/x")
        assert (answer.status_code, answer.json()["detail"]) == (405, f"Use GET, HEAD. Send the row again by POST /v1/{plural}.")
    assert "Send" not in (await vendor.delete("/v1/pupils/x")).json()["detail"]


async def test_a_key_that_is_used_with_another_preference_says_so(vendor: Any) -> None:
    first = {"Idempotency-Key": "preferred", "Prefer": "handling=lenient, return=representation"}
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]), **first)
    refused = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]), 422, Idempotency_Key="preferred")
    assert told(refused)["Idempotency-Key"].startswith("This Idempotency-Key was used with another Prefer (handling, return). ")
    refused = await sent(
        vendor, "/v1/judgements", batch("Oak", [judged(2)]), 422, Idempotency_Key="preferred", Prefer="handling=lenient"
    )
    assert " with another body and another Prefer (return). " in told(refused)["Idempotency-Key"]


async def test_an_enum_in_place_of_a_text_gets_a_hint_to_quote_it(vendor: Any) -> None:
    query = "mutation($i: JudgementBatchInput!) { recordJudgements(input: $i, handling: lenient) { received } }"
    answer = await vendor.post("/graphql", json={"query": query, "variables": {"i": batch("Oak", [judged(1)])}})
    message = answer.json()["errors"][0]["message"]
    assert message.endswith(" Write a text in double quotes.")
    assert "lenient" not in message


async def test_receipts_of_references_are_found_by_their_operation(small_trust: Trust, vendor: Any) -> None:
    row = {"entries": [{"oldReference": "P1", "reference": "N1"}]}
    await sent(vendor, f"/v1/schools/{small_trust.ids['Oak']}/references", row)
    found = (await vendor.get("/v1/receipts?operation=recordSchoolReferences")).json()["data"]
    assert [receipt["operation"] for receipt in found] == ["recordSchoolReferences"]


async def test_a_token_request_says_how_it_is_made(small_trust: Trust) -> None:
    as_json = await small_trust.http.post("/oauth/token", json={"grant_type": "client_credentials"})
    assert as_json.json()["error_description"] == "The body must be application/x-www-form-urlencoded."
    bare = await small_trust.http.post("/oauth/token", data={"grant_type": "client_credentials"})
    assert bare.json()["error_description"].endswith("by HTTP Basic with its id and secret, or by private_key_jwt.")
    wrong = await small_trust.http.get("/v1/me", headers={"Authorization": "Bearer x"})
    assert wrong.json()["detail"] == "The access token is not valid here. Get a new one from POST /oauth/token."


async def test_a_repeated_row_of_a_strict_roll_is_reported_beside_any_other_fault(vendor: Any) -> None:
    """Whether the first one breaks a rule, cannot be decoded, or contradicts what is stored; a lenient roll takes the second."""
    wrong = [{"upn": "A000000000001"}, {"surname": 5}, {"enrolments": []}, {"upn": upn(3)}]
    for fault in wrong:
        rows = [entry(50, **fault), entry(50)]
        assert issues(await sent(vendor, "/v1/pupils", roll("Oak", rows), 422))["/entries/1"] == "duplicate-in-batch"
        repeated = issues(await sent(vendor, "/v1/pupils", roll("Oak", rows[::-1]), 422))
        assert repeated["/entries/1"] == "duplicate-in-batch"
        assert "/entries/0" not in repeated
    at_elm = roll("Oak", [entry(50, surname=5), entry(51, reference="P50") | {"school": {"urn": 100002}}])
    assert "/entries/1" not in issues(await sent(vendor, "/v1/pupils", at_elm, 422))
    answer = await sent(vendor, "/v1/pupils?dryRun=true", roll("Oak", [entry(50, surname=5), entry(50)]), Prefer="handling=lenient")
    assert (answer["created"], answer["rejected"]) == (1, 1)
