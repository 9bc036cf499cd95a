"""Predicted progress is refused with the reason and its source, wherever it is sent; a teacher's predicted grade is a judgement that nothing counts."""

import json
from typing import Any

import pytest

from tests.fixtures.small_trust import TRUST, URNS, asked, batch, counted, entry, issues, judged, opened, roll, sent, window

OWN = {"trust": {"groupUid": TRUST}}
NAMES = (
    "predictedProgress",
    "progress_prediction",
    "Expected Progress",
    "forecastP8",
    "projectedProgress8",
    "estimatedValueAdded",
    "flightPath",
)
CODE = "predicted-progress"


@pytest.mark.parametrize("name", NAMES)
async def test_a_field_of_predicted_progress_is_refused_in_every_noun_and_format(vendor: Any, name: str) -> None:
    school = {"urn": URNS["Oak"]}
    aim = {
        "reference": "P1",
        "subject": "reading",
        "grade": 1,
        "basis": "teacher",
        "horizon": {"academicYear": "2017-18", "point": "KS2"},
    }
    for path, body in (
        ("/v1/judgements", batch("Oak", [judged(1, **{name: "0.5"})])),
        ("/v1/targets", {"school": school, "entries": [aim | {name: 1}]}),
        ("/v1/pupils", roll("Oak", [entry(1) | {name: 1}])),
    ):
        refused = await sent(vendor, path, body, 422)
        assert issues(refused)[f"/entries/0/{name}"] == CODE
        text = next(issue["message"] for issue in refused["issues"] if issue["code"] == CODE)
        assert all(word in text for word in ("Ofsted", "2017", "Making data work"))
    group = {"code": "g", "name": "g", "kind": "class", "members": [{"reference": "P1"}]}
    groups = {"school": school, "academicYear": "2017-18", "asOf": "2018-01-01", "entries": [group | {name: 1}]}
    assert issues(await sent(vendor, "/v1/groups", groups, 422))[f"/entries/0/{name}"] == CODE
    of_lines = {
        "judgements": ("reference,subject,grade", "P1,reading,100", "&window=w"),
        "targets": ("reference,subject,grade,basis", "P1,reading,100,teacher", ""),
        "pupils": ("reference,surname", "P1,Thorne", "&asOf=2018-05-01"),
    }
    for noun, (columns, values, more) in of_lines.items():
        answer = await vendor.post(
            f"/v1/{noun}?school={URNS['Oak']}{more}",
            content=f"{columns},{name}\r\n{values},0.5\r\n",
            headers={"Content-Type": "text/csv"},
        )
        assert (answer.status_code, CODE in answer.text, "Ofsted" in answer.text) == (400, True, True), answer.text
        line = dict(zip(columns.split(","), values.split(","), strict=True)) | {name: 0.5}
        answer = await vendor.post(
            f"/v1/{noun}?school={URNS['Oak']}{more}", content=json.dumps(line), headers={"Content-Type": "application/x-ndjson"}
        )
        assert (answer.status_code, CODE in answer.text, "Ofsted" in answer.text) == (422, True, True), answer.text
    for operation, body in (("recordJudgements", batch("Oak", [judged(1, **{name: "0.5"})])), ("recordGroups", groups)):
        kind = f"{operation[6:-1]}BatchInput"
        query = f"mutation ($input: {kind}!) {{ {operation}(input: $input) {{ received }} }}"
        answer = await vendor.post("/graphql", json={"query": query, "variables": {"input": body}})
        assert (CODE in answer.text, "Ofsted" in answer.text) == (True, True), answer.text


async def test_no_subject_or_aspect_is_made_of_it_and_none_is_named_so(vendor: Any) -> None:
    for noun in ("subjects", "aspects"):
        body = {"tenant": OWN, "code": "predicted-progress", "name": "Expected progress 8"}
        assert issues(await sent(vendor, f"/v1/{noun}", body, 422)) == {"/code": CODE, "/name": CODE}
    scheme = {"tenant": OWN, "code": "flight-path", "name": "Predicted progress", "template": "points"}
    assert issues(await sent(vendor, "/v1/schemes", scheme, 422)) == {"/code": CODE, "/name": CODE}
    await opened(vendor)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    refused = await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, aspect="predicted-progress")]), 422)
    assert issues(refused) == {"/entries/0/aspect": CODE}
    for name in ("progress", "predicted", "predictedGrade"):  # which are something else
        assert CODE not in issues(await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, **{name: 1})]), 422)).values()


async def test_a_predicted_grade_is_a_judgement_of_years_10_to_13_that_no_aggregate_counts(vendor: Any) -> None:
    line = {"subject": "maths", "scheme": "gcse-9-1"}
    await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "gcse-9-1", "name": "GCSE", "template": "gcse-9-1"}, 201)
    collects = [line, line | {"aspect": "predicted"}]
    refused = await sent(vendor, "/v1/windows", window("w", collects=collects, yearGroups=["9", "10"]), 422)
    assert issues(refused) == {"/collects/1/aspect": "predicted-years"}
    id_ = await opened(vendor, "w", collects=collects, yearGroups=["11"])
    planned = await sent(vendor, "/v1/windows", window("v", collects=collects, yearGroups=["11"]), 201)
    answer = await vendor.patch(f"/v1/windows/{planned['id']}", json={"yearGroups": ["9"]}, headers={"If-Match": '"1"'})
    assert issues(answer.json()) == {"/yearGroups": "predicted-years"}
    rows = [
        entry(
            n,
            yearGroup="11",
            dateOfBirth="2002-01-01",
            characteristics=[{"kind": "yearGroup", "value": "11", "from": "2017-09-01"}],
        )
        for n in (1, 2)
    ]
    await sent(vendor, "/v1/pupils", roll("Oak", [{k: v for k, v in row.items() if k != "characteristics"} for row in rows]))
    marks = [judged(n, "maths", 7, aspect="predicted") for n in (1, 2)] + [judged(1, "maths", 5)]
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", marks, window="w"))) == {"created": 3}
    shown = (await vendor.get(f"/v1/windows/{id_}/judgements?aspect=predicted&fields=grade")).json()["data"]
    assert shown == [{"grade": "7"}] * 2
    (row,) = (await vendor.get("/v1/aggregates?window=w&subject=maths&groupBy=subject")).json()["data"]
    assert row["valid"] == 1
    nodes = (await asked(vendor, '{ judgements(where: {aspect: ["predicted"]}) { nodes { grade } } }'))["judgements"]["nodes"]
    assert nodes == shown
