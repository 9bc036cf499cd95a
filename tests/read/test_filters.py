"""Filters take what writes take, and say what is wrong with a value that nothing can have; through both interfaces.

The walk is generated from the catalogue: a filter by a value outside its vocabulary never answers an empty list.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from domain import RESOURCES
from domain.declare.ids import new_id
from domain.declare.resource import Field, Filter, Resource
from domain.declare.type_numbers import PUPIL, WINDOW
from domain.declare.value_types import ValueType
from tests.fixtures.interfaces import Interfaces

FREE = {
    "trust.name",
    *(f"school.{name}" for name in ("name", "town", "shortName", "sourceClient")),
    *(f"pupil.{name}" for name in ("reference", "surname", "forename", "preferredSurname", "preferredForename")),
    *("enrolment.leavingReason", "plannedEnrolment.leavingReason"),
    "recordChange.client",
    *("group.code", "group.name"),
    *("code.meaning", "code.source"),
    *("subject.name", "aspect.name", "scheme.name", "grade.label", "grade.band"),
    *("scheme.progressStatement", "scheme.progressDeclaredBy"),
    *(
        "window.name",
        "window.purpose",
        "window.decision",
        "window.audience",
        "publication.client",
        "publicationChange.client",
        "publicationChange.reason",
        "windowStateChange.client",
        "windowStateChange.reason",
    ),
    *("target.lockReason", "targetChange.client", "targetChange.reason"),
    *(f"commonScale.{name}" for name in ("name", "bands", "bandLabels", "signedBy", "signerRole")),
    *(f"commonScale.{level}{part}" for level in ("expected", "higher") for part in ("From", "Label")),
    *("crosswalk.signedBy", "crosswalk.signerRole", "crosswalkGrade.band", "crosswalkGrade.grade"),
    *("judgement.source", "judgement.method", "judgementChange.client", "judgementChange.source", "judgementChange.method"),
    *("receipt.client", "plannedRoll.client", "return.schoolName", "return.lastClient", "dataIssue.client"),
    *(f"{noun}.{name}" for noun in ("collection", "collectionAnswer") for name in ("purpose", "audience", "decision", "impact")),
    "collectionAnswer.client",
    "discount.reason",
    *(
        "clientChange.client",
        "grantChange.client",
        "client.name",
        "grant.clientName",
        "grant.targetName",
        "grant.purpose",
        "grant.agreementVersion",
        "grant.approvedBy",
    ),
}
"""Fields of any text, in which nothing is outside a vocabulary. A new field of text has one, or is named here."""
OUTSIDE = "no such value!"


def list_filters() -> Iterator[tuple[Resource, str, Field]]:
    for resource in RESOURCES.values():
        for name, field in resource.fields.items():
            if field.filterable:
                yield resource, name, field


def is_free(resource: Resource, name: str, field: Field) -> bool:
    return field.kind in (ValueType.TEXT, ValueType.TEXTS) and field.vocabulary is None and field.codes is None


def test_every_field_of_text_has_a_vocabulary_or_is_free() -> None:
    assert {f"{resource.name}.{name}" for resource, name, field in list_filters() if is_free(resource, name, field)} == FREE


async def ask(interfaces: Interfaces, resource: Resource, name: str, *values: Any, client: str = "everything") -> tuple[Any, Any]:
    """The answers of REST, by the URL or in a body, and of GraphQL."""
    field = resource.fields[name]
    if field.filter is Filter.BODY:
        rest = await interfaces.http.post(
            f"/v1/{resource.path}/lookup", json={"where": {name: [*values]}}, headers=interfaces.tokens[client]
        )
    else:
        rest = await interfaces.http.get(f"/v1/{resource.path}", params={name: [*values]}, headers=interfaces.tokens[client])
    row = "id" if "id" in resource.fields else next(iter(resource.fields))
    query = f"query($where: {resource.type_name}Where) {{ {resource.plural}(where: $where) {{ nodes {{ {row} }} }} }}"
    body = {"query": query, "variables": {"where": {name: [*values]}}}
    headers = interfaces.tokens[client] | {"Accept": "application/graphql-response+json"}
    return rest, await interfaces.http.post("/graphql", json=body, headers=headers)


def list_ids(answer: Any) -> list[str]:
    body = json.loads(answer.content)
    rows = body["data"] if isinstance(body["data"], list) else next(iter(body["data"].values()))["nodes"]
    return [row["id"] for row in rows]


async def test_no_filter_answers_an_empty_list_for_a_value_outside_its_vocabulary(interfaces: Interfaces) -> None:
    walked, statuses = 0, set()
    for resource, name, field in list_filters():
        if is_free(resource, name, field):
            continue
        rest, graphql = await ask(interfaces, resource, name, OUTSIDE)
        problem = rest.json()
        assert rest.status_code in (400, 422), (resource.name, name, rest.text[:300])
        (issue,) = problem["issues"]
        assert name in issue["at"], (name, issue)
        if field.vocabulary is not None and field.vocabulary.words:
            assert (rest.status_code, issue["code"]) == (400, "filter-value-invalid")
            assert all(word in issue["message"] for word in field.vocabulary.words), issue
        assert graphql.status_code == rest.status_code, (resource.name, name, graphql.text[:300])
        assert [*graphql.json()] == ["errors"]
        statuses.add(rest.status_code)
        walked += 1
    assert walked > 120
    assert statuses == {400, 422}


async def test_a_fault_of_form_hides_no_unknown_code(interfaces: Interfaces) -> None:
    """A 400 for what cannot be read tells the codes that nobody has too, which alone are a 422."""
    headers, walked = interfaces.tokens["everything"], 0
    for resource, name, field in list_filters():
        if field.codes is None:
            continue
        code = next(code for code in ("zzz", "999", "Z") if _is_of_form(field, code))
        row = "id" if "id" in resource.fields else next(iter(resource.fields))
        alone = await interfaces.http.get(f"/v1/{resource.path}", params={name: code}, headers=headers)
        rest = await interfaces.http.get(f"/v1/{resource.path}", params={name: code, "first": "0"}, headers=headers)
        body = {"where": {name: code}, "first": 0}
        lookup = await interfaces.http.post(f"/v1/{resource.path}/lookup", json=body, headers=headers)
        query = f'{{ {resource.plural}(first: 0, where: {{{name}: ["{code}"]}}) {{ nodes {{ {row} }} }} }}'
        graphql = await interfaces.graphql("everything", query)
        assert "issues" in alone.json(), (resource.name, name, code, alone.text[:300])
        unknown = [issue["code"] for issue in alone.json()["issues"]]
        assert (alone.status_code, rest.status_code) == (422, 400), (resource.name, name, rest.text[:300])
        assert [issue["code"] for issue in rest.json()["issues"]] == ["parameter-invalid", *unknown]
        assert [issue["at"] for issue in rest.json()["issues"]] == ["first", name]
        if lookup.status_code not in (404, 405):
            told = [(issue["at"], issue["code"]) for issue in lookup.json()["issues"]]
            assert (lookup.status_code, told) == (400, [("/first", "parameter-invalid"), (f"/where/{name}", unknown[0])])
        (problem,) = [error["extensions"]["problem"] for error in graphql["errors"]]
        assert problem["status"] == "400"
        assert [issue["code"] for issue in problem["issues"]] == ["argument-invalid", *unknown]
        walked += 1
    assert walked > 25
    altered = await interfaces.http.get("/v1/windows", params={"code": "zzz", "after": "zzz"}, headers=headers)
    told = [(issue["at"], issue["code"]) for issue in altered.json()["issues"]]
    assert (altered.status_code, told) == (400, [("after", "cursor-invalid"), ("code", "window-not-found")])
    asks = {"groupBy": "school", "window": "zzz", "subject": "zzz", "trust": "zzz", "school": "zzz", "first": "0"}
    wrong = await interfaces.http.get("/v1/aggregates", params=asks, headers=headers)
    query = '{ aggregates(groupBy: [SCHOOL], window: "zzz", subject: "zzz", trust: "zzz", school: ["zzz"], first: 0) { pageInfo { hasNextPage } } }'
    found = await interfaces.graphql("everything", query.replace("[SCHOOL]", "[school]"))
    assert "issues" in wrong.json(), wrong.text[:400]
    (problem,) = [error["extensions"]["problem"] for error in found["errors"]]
    assert "issues" in problem, problem
    for status, told_issues in ((wrong.status_code, wrong.json()["issues"]), (int(problem["status"]), problem["issues"])):
        assert (status, {issue["at"] for issue in told_issues}) == (400, {"first", "window", "subject", "trust", "school"})


def _is_of_form(field: Field, text: str) -> bool:
    try:
        field.parse_filter(text)
    except ValueError:
        return False
    return True


async def test_no_filter_takes_an_empty_value(interfaces: Interfaces) -> None:
    for resource, name, _ in list_filters():
        rest, graphql = await ask(interfaces, resource, name, "")
        assert rest.status_code == 400, (resource.name, name, rest.text[:300])
        assert graphql.status_code == 400, (resource.name, name, graphql.text[:300])


async def test_no_filter_takes_no_value_at_all(interfaces: Interfaces) -> None:
    """An empty list, in a body and in GraphQL, whatever the field; of aggregates it was every school."""
    everything = interfaces.tokens["everything"]
    for resource, name, _ in list_filters():
        if resource.has_lookup:
            rest = await interfaces.http.post(f"/v1/{resource.path}/lookup", json={"where": {name: []}}, headers=everything)
            assert (rest.status_code, rest.json()["issues"][0]["at"]) == (400, f"/where/{name}"), (resource.name, name)
        _, graphql = await ask(interfaces, resource, name)
        (issue,) = graphql.json()["errors"][0]["extensions"]["problem"]["issues"]
        assert (issue["at"], issue["code"]) == (f"{resource.plural}.where.{name}", "filter-value-invalid")
    query = '{ aggregates(groupBy: [school], window: "2024-25/KS2", subject: "maths", school: []) { nodes { schoolUrn } } }'
    problem = (await interfaces.graphql("North", query))["errors"][0]["extensions"]["problem"]
    assert (problem["status"], [issue["at"] for issue in problem["issues"]]) == ("400", ["school"])


async def test_no_filter_by_id_takes_the_id_of_another_table(interfaces: Interfaces) -> None:
    """It is told with its place; an id of the right table that nothing has, or that is out of reach, finds nothing."""
    ids = {noun: new_id(number) for noun, number in (("window", WINDOW), ("pupil", PUPIL))}
    of_another, walked = {"window": ids["pupil"]}, 0
    for resource, name, field in list_filters():
        is_text = name in ("pupilIds", "missingPupilIds")
        if field.kind is not ValueType.ID and not is_text:
            continue
        noun = name.removesuffix("Id") if name != "id" else resource.name
        other = str(of_another.get(noun, ids["window"]))
        for value, reason in ((other, "is none that it can have. It is the id of a "), (other[:-1], ""), (other.upper(), "")):
            rest, graphql = await ask(interfaces, resource, name, value)
            (issue,) = rest.json()["issues"]
            assert (rest.status_code, issue["at"], issue["code"]) == (400, name, "filter-value-invalid"), (resource.name, name)
            assert reason in issue["message"]
            (told,) = graphql.json()["errors"][0]["extensions"]["problem"]["issues"]
            assert (told["at"], told["message"]) == (f"{resource.plural}.where.{name}", issue["message"])
        if name == "pupilId":
            for absent in (str(ids["pupil"]), interfaces.rows["South"]["pupil"][0]["id"]):
                rest, graphql = await ask(interfaces, resource, name, absent, client="North")
                assert rest.json()["data"] == []
                assert [*graphql.json()["data"].values()] == [{"nodes": []}]
        walked += 1
    assert walked > 30
    judgement = f"{ids['window']}.1.1.0"
    assert (await get(interfaces, f"judgements?id={judgement}"))[:2] == (400, {"id": "filter-value-invalid"})
    assert (await get(interfaces, f"judgements?id={ids['pupil']}.1.1.0"))[0] == 200


async def test_a_conjunction_is_reported_to_be_one(interfaces: Interfaces) -> None:
    """Reading, writing and maths combined is asked for in aggregates; nothing that is judged has it."""
    told = "rwm is the conjunction of reading, writing and maths"
    for path, name in (
        ("judgements", "subjectCode"),
        ("targets", "subjectCode"),
        ("receipts", "subjectCode"),
        ("subjects", "combines"),
    ):
        status, codes, messages = await get(interfaces, f"{path}?{name}=rwm")
        assert (status, codes) == (400, {name: "filter-value-invalid"}), path
        assert told in messages[name]
    answer = await interfaces.graphql("North", '{ judgements(where: {subjectCode: ["rwm"]}) { nodes { id } } }')
    assert told in answer["errors"][0]["extensions"]["problem"]["issues"][0]["message"]
    question = "aggregates?groupBy=school&window=2024-25/KS2&subject="
    rest = await interfaces.http.get(f"/v1/{question}rwm", headers=interfaces.tokens["North"])
    assert {row["subject"] for row in rest.json()["data"]} == {"rwm"}
    for form in ("RWM", "reading,writing,maths", "maths, Reading, writing"):
        status, codes, messages = await get(interfaces, question + form)
        assert (status, codes) == (422, {"subject": "subject-not-found"}), form
        assert told in messages["subject"]
        query = f'{{ aggregates(groupBy: [school], window: "2024-25/KS2", subject: "{form}") {{ nodes {{ subject }} }} }}'
        problem = (await interfaces.graphql("North", query))["errors"][0]["extensions"]["problem"]
        assert "?subject=rwm" in problem["issues"][0]["message"]
    assert told not in (await get(interfaces, question + "reading,maths"))[2]["subject"]


FORMS: list[tuple[str, str, tuple[str, ...]]] = [
    ("pupil.yearGroup", "5", ("Y5", "Year 5", "yr5", "05", " 5 ")),
    ("pupil.sex", "F", ("f", " F ")),
    ("pupil.enrolmentStatus", "C", ("c",)),
    ("enrolment.status", "M", ("m",)),
    ("group.academicYear", "2024-25", ("2024/25", " 2024-25 ")),
    ("group.kind", "class", ("Class", "CLASS")),
    ("window.academicYear", "2024-25", ("2024/25",)),
    ("window.yearGroups", "5", ("Y5", "year 5")),
    ("window.state", "open", ("Open",)),
    ("judgement.academicYear", "2024-25", ("2024/25",)),
    ("judgement.status", "notTaught", ("nottaught", "NotTaught")),
    ("target.horizonYear", "2039-40", ("2039/40",)),
    ("target.horizonPoint", "end-of-year", (" end-of-year ",)),
    ("target.basis", "teacher", ("Teacher",)),
    ("target.visibility", "school", ("SCHOOL",)),
    ("receipt.operation", "recordPupils", ("recordpupils",)),
    ("school.urn", "100001", ()),
    ("school.status", "open", ("Open",)),
    ("school.phase", "Primary", ("primary",)),
    ("school.rollState", "previous", ("Previous",)),
    ("trust.kind", "multi-academy", ("Multi-academy",)),
    ("trust.status", "open", ("Open",)),
    ("subject.nationalCode", "MAT", ("mat",)),
    ("scheme.template", "ks2-writing-ta", ("KS2-Writing-TA",)),
    ("code.list", "enrolmentStatus", ("enrolmentstatus",)),
    ("grade.yearGroup", "5", ("Y5",)),
]


@pytest.mark.parametrize(("path", "canonical", "forms"), FORMS, ids=[path for path, _, _ in FORMS])
async def test_a_filter_takes_every_form_that_a_write_takes(
    path: str, canonical: str, forms: tuple[str, ...], interfaces: Interfaces
) -> None:
    name, _, field = path.partition(".")
    resource = RESOURCES[name]
    row = "id" if "id" in resource.fields else field
    parameters = {"fields": row, "first": 1000}
    rest = await interfaces.http.get(
        f"/v1/{resource.path}", params=parameters | {field: canonical}, headers=interfaces.tokens["everything"]
    )
    assert rest.json()["data"], rest.text
    for form in forms:
        told = await interfaces.http.get(
            f"/v1/{resource.path}", params=parameters | {field: form}, headers=interfaces.tokens["everything"]
        )
        assert told.json() | {"page": None} == rest.json() | {"page": None}, form
        type_ = "Int" if field == "urn" else "String"
        nodes = f"(first: 1000, where: {{{field}: $form}}) {{ nodes {{ {row} }} }}"
        query = f"query($form: [{type_}!]) {{ {resource.plural}{nodes} }}"
        answer = await interfaces.graphql("everything", query, form=[form])
        assert answer["data"][resource.plural]["nodes"] == rest.json()["data"], answer


async def test_a_laestab_and_a_upn_are_found_in_every_form(interfaces: Interfaces) -> None:
    (school,) = [row for row in interfaces.rows["North"]["school"] if row["name"] == "Alder"]
    for form in (
        school["laestab"],
        f"{school['laestab'][:3]}/{school['laestab'][3:]}",
        f"{school['laestab'][:3]} {school['laestab'][3:]}",
    ):
        rest, graphql = await ask(interfaces, RESOURCES["school"], "laestab", form, client="North")
        assert list_ids(rest) == list_ids(graphql) == [school["id"]]
    pupil = next(row for row in interfaces.rows["North"]["pupil"] if row["upn"])
    for form in (pupil["upn"], pupil["upn"].lower(), f" {pupil['upn'].lower()} "):
        rest, graphql = await ask(interfaces, RESOURCES["pupil"], "upn", form, client="North")
        assert list_ids(rest) == list_ids(graphql) == [pupil["id"]]


async def get(interfaces: Interfaces, query: str, client: str = "North") -> tuple[int, dict[str, str], dict[str, str]]:
    """Status, and by place the code and the message of each issue."""
    answer = await interfaces.http.get(f"/v1/{query}", headers=interfaces.tokens[client])
    found = answer.json().get("issues", [])
    return answer.status_code, {i["at"]: i["code"] for i in found}, {i["at"]: i["message"] for i in found}


async def test_unknown_codes_are_reported_all_at_once(interfaces: Interfaces) -> None:
    status, codes, messages = await get(
        interfaces, "judgements?subjectCode=reading&subjectCode=riding&windowCode=2024-25/KS3&aspect=mood&grade=ZZ"
    )
    assert (status, codes) == (
        422,
        {
            "subjectCode": "subject-not-found",
            "windowCode": "window-not-found",
            "aspect": "aspect-not-found",
            "grade": "grade-not-found",
        },
    )
    assert "2024-25/KS2" in messages["windowCode"]
    assert "effort" in messages["aspect"]
    for query, at in (("subjects?code=riding", "code"), ("windows?code=2024-25/KS3", "code"), ("schemes?code=hous", "code")):
        status, codes, _ = await get(interfaces, query)
        assert status == 422, query
        assert [*codes] == [at]
    body = {"where": {"subjectCode": ["reading", "riding", "ryding"]}}
    query = "query($where: JudgementWhere) { pupils { nodes { judgements(where: $where) { nodes { id } } } } }"
    answer = await interfaces.graphql("North", query, **body)
    problem = answer["errors"][0]["extensions"]["problem"]
    assert (problem["status"], [issue["at"] for issue in problem["issues"]]) == (
        "422",
        ["judgements.where.subjectCode.1", "judgements.where.subjectCode.2"],
    )


async def test_a_code_that_others_have_is_unknown(interfaces: Interfaces) -> None:
    """A client learns of no code outside its reach: a code of South's only is as unknown to North as any other."""
    await interfaces.two_trusts.do(
        "South", "create_scheme", {"tenant": {"trust": {"groupUid": 4002}}, "code": "southern", "name": "S", "template": "effort"}
    )
    assert (await get(interfaces, "schemes?code=southern", "South"))[0] == 200
    theirs, none = await get(interfaces, "schemes?code=southern"), await get(interfaces, "schemes?code=nothing")
    assert theirs == none
    assert theirs[0] == 422


async def test_every_wrong_value_is_reported_with_its_place(interfaces: Interfaces) -> None:
    status, codes, messages = await get(
        interfaces, "pupils?sex=F&sex=Q&yearGroup=Z9&enrolmentStatus=Z&sex.not=F&changedAt.gte=never"
    )
    assert status == 400
    assert codes == {
        "sex": "filter-value-invalid",
        "yearGroup": "filter-value-invalid",
        "enrolmentStatus": "filter-value-invalid",
        "sex.not": "filter-unknown",
        "changedAt.gte": "filter-value-invalid",
    }
    assert messages["sex"] == "The value given for sex is none that it can have. It is one of F, M."
    where = {"upn": ["A801200005001", "B801200005001", "x"], "sex": "q"}
    answer = await interfaces.http.post("/v1/pupils/lookup", json={"where": where}, headers=interfaces.tokens["North"])
    assert [issue["at"] for issue in answer.json()["issues"]] == ["/where/upn/0", "/where/upn/2", "/where/sex"]
    assert "801200005001" not in answer.text


async def test_a_template_that_is_known_parses_again(interfaces: Interfaces) -> None:
    """A request whose plan is cached, by which values are bound without parsing the query."""
    for _ in range(2):
        assert (await get(interfaces, "pupils?yearGroup=Year 5&sex=f&fields=id"))[0] == 200
        assert (await get(interfaces, "pupils?yearGroup=Year 55&sex=f&fields=id"))[:2] == (
            400,
            {"yearGroup": "filter-value-invalid"},
        )
        assert (await get(interfaces, "judgements?subjectCode=reading"))[0] == 200
        assert (await get(interfaces, "judgements?subjectCode=riding"))[:2] == (422, {"subjectCode": "subject-not-found"})


async def test_instants_and_booleans_are_read_as_writes_read_them(interfaces: Interfaces) -> None:
    whole = await get(interfaces, "pupils?roll=all&changedAt.gte=2020-01-01T00:00:00Z&fields=id&sort=id&first=100")
    for form in ("2020-01-01t01:00:00%2B01:00", "2020-01-01 00:00:00z", "2020-01-01T01:00:00+01:00", "%202020-01-01T00:00:00.000Z"):
        answer = await interfaces.http.get(
            f"/v1/pupils?roll=all&changedAt.gte={form}&fields=id&first=100", headers=interfaces.tokens["North"]
        )
        assert len(answer.json()["data"]) > 20, answer.text
    assert whole[0] == 200
    for form in ("TRUE", "True", " true "):
        rest, _ = await ask(interfaces, RESOURCES["pupil"], "onRoll", form)
        assert rest.json()["data"]
    for form in ("1", "yes", "t"):
        rest, _ = await ask(interfaces, RESOURCES["pupil"], "onRoll", form)
        assert (rest.status_code, rest.json()["issues"][0]["code"]) == (400, "filter-value-invalid")


async def test_aggregates_take_a_school_by_its_laestab(interfaces: Interfaces) -> None:
    """As writes do: with or without the slash. A closed school's means none."""
    (school,) = [row for row in interfaces.rows["North"]["school"] if row["name"] == "Alder"]
    laestab = school["laestab"]
    question = "aggregates?groupBy=school,subject&window=2024-25/KS2&school="
    by_urn = await interfaces.http.get(f"/v1/{question}{school['urn']}", headers=interfaces.tokens["North"])
    assert by_urn.json()["data"]
    for form in (laestab, f"{laestab[:3]}/{laestab[3:]}"):
        answer = await interfaces.http.get(f"/v1/{question}{form}", headers=interfaces.tokens["North"])
        assert answer.json()["data"] == by_urn.json()["data"]
        query = 'query ($s: [ID!]) { aggregates(groupBy: [school, subject], window: "2024-25/KS2", school: $s) { nodes { schoolUrn } } }'
        told = await interfaces.graphql("North", query, s=[form])
        assert {row["schoolUrn"] for row in told["data"]["aggregates"]["nodes"]} == {school["urn"]}
    for form in ("9999999", "999/999", laestab[:6]):
        assert (await get(interfaces, question + form))[:2] == (422, {"school": "school-not-found"})


UNSEEN = ["\u200b", "a\u202eb", "a\nb", "\ufeff"]


async def test_no_filter_takes_a_text_that_no_write_takes(interfaces: Interfaces) -> None:
    """Characters that cannot be seen are refused by writes (`text-unreadable`); sentences may hold those that format."""
    walked = 0
    for resource, name, field in list_filters():
        if not is_free(resource, name, field):
            continue
        for text in UNSEEN:
            rest, graphql = await ask(interfaces, resource, name, text)
            if field.is_prose and text == "a\u202eb":
                assert (rest.status_code, graphql.status_code) == (200, 200), (resource.name, name, rest.text)
                continue
            assert [issue["code"] for issue in rest.json()["issues"]] == ["filter-value-invalid"], (resource.name, name, text)
            assert graphql.status_code == rest.status_code == 400, (resource.name, name, graphql.text[:300])
            walked += 1
    assert walked > 100


OUTSIDE_OF_IT: list[tuple[str, tuple[Any, ...], str]] = [
    ("target.horizonPoint", ("Ω", "£", "-x", "x" * 31), "begins with a letter or digit"),
    (
        "pupil.reference",
        ("B801200005001", "b801 2000 05001", "943 476 5919", "943-476-5919", "9434765919"),
        "no UPN and no NHS number",
    ),
    ("plannedRoll.problem", ("zzz", "no-such-code"), "GET /problems lists them"),
    ("plannedRoll.issueCodes", ("zzz",), "GET /problems lists them"),
    ("school.maxLeaversPercent", (101, -1), "from 0 to 100"),
    ("windowSubject.rounding", (3, -1), "from 0 to 2"),
    ("grade.rank", (-1, 30_001), "from 0 to 30,000"),
    ("judgement.mark", (100_000_000, -100_000, 1.005), "at most 2 decimals from -99,999 to 99,999"),
    ("grade.value", (100_000,), "from -99,999 to 99,999"),
    ("pupil.version", (0, -1), "from 1 on"),
    ("trust.groupUid", (0, -1), "from 1 on"),
    ("school.lowAge", (-1, 100), "from 0 to 99"),
    ("school.highAge", (-1, 100), "from 0 to 99"),
    *((f"receipt.{name}", (-1,), "from 0 on") for name in ("received", "created", "unchanged", "rejected")),
    *((f"return.{name}", (-1,), "from 0 on") for name in ("expected", "received", "missing", "lastRejected")),
    *((f"plannedRoll.{name}", (-1,), "from 0 on") for name in ("rowCount", "created", "left")),
    ("plannedPupil.number", (-1,), "from 0 on"),
    ("code.also", ("no such text", "Z9"), "Reception"),
    ("pupil.surname", ("x" * 101, "x" * 101 + "*"), "at most 100 characters"),
    ("enrolment.leavingReason", ("x" * 101,), "at most 100 characters"),
    ("group.code", ("x" * 51,), "at most 50 characters"),
    ("group.name", ("x" * 201,), "at most 200 characters"),
]
"""By field, values that no write can store, and what is said of them."""


@pytest.mark.parametrize(("path", "values", "said"), OUTSIDE_OF_IT, ids=[path for path, _, _ in OUTSIDE_OF_IT])
async def test_a_value_that_no_write_can_store_is_reported_with_what_can_be(
    path: str, values: tuple[Any, ...], said: str, interfaces: Interfaces
) -> None:
    name, _, field = path.partition(".")
    for value in values:
        rest, graphql = await ask(interfaces, RESOURCES[name], field, value)
        assert (rest.status_code, [issue["code"] for issue in rest.json()["issues"]]) == (400, ["filter-value-invalid"]), rest.text
        assert said in rest.json()["issues"][0]["message"]
        assert str(value) not in rest.json()["issues"][0]["message"] or len(str(value)) < 6
        assert graphql.status_code == 400, graphql.text[:300]


async def test_a_code_of_an_error_that_no_roll_has_finds_none(interfaces: Interfaces) -> None:
    for name in ("problem", "issueCodes"):
        rest, graphql = await ask(interfaces, RESOURCES["plannedRoll"], name, " Too-Many-Leavers ")
        assert list_ids(rest) == list_ids(graphql) == []


async def test_a_bound_may_be_any_number_that_leaves_values(interfaces: Interfaces) -> None:
    """A range is no value: it may reach beyond what can be stored."""
    for query in (
        "pupils?version.gte=0&fields=id&first=5",
        "judgements?mark.lte=1000000&mark.gte=-1000000&first=1",
        "judgements?mark.gt=99998.99&first=1",
        "schools?lowAge.gt=-1&lowAge.lt=1&fields=id&first=1",
        "schools?lowAge.gte=5&lowAge.lte=5&lowAge=5&lowAge=20&fields=id",
        "schools?urn.lt=2000000&openedOn.gte=2001-01-01&openedOn.lte=2001-01-01&fields=id",
    ):
        assert (await get(interfaces, query, "everything"))[0] == 200, query


def list_comparable() -> Iterator[tuple[Resource, str, Field]]:
    return ((resource, name, field) for resource, name, field in list_filters() if field.comparable)


def test_every_number_has_a_range() -> None:
    numbers = [(resource.name, name, field.vocabulary) for resource, name, field in list_comparable() if field.kind in NUMBERS]
    assert [(of, name) for of, name, vocabulary in numbers if vocabulary is None or vocabulary.least is None] == []
    assert all(vocabulary.sentence for _, _, vocabulary in numbers if vocabulary is not None)


NUMBERS = (ValueType.INTEGER, ValueType.NUMBER)
EXAMPLES: dict[ValueType, tuple[Any, Any]] = {
    ValueType.INTEGER: (3, 5),
    ValueType.NUMBER: ("1.01", "1.02"),
    ValueType.DATE: ("2015-08-31", "2015-09-01"),
    ValueType.INSTANT: ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001Z"),
}
"""By type, two values of which the first is less."""
EMPTY = [
    ("gte", 1, "lte", 0),
    ("gt", 0, "lt", 0),
    ("gt", 0, "lte", 0),
    ("gte", 0, "lt", 0),
    ("gt", 1, "lt", 0),
    ("gte", 1, "lt", 1),
]
"""A lower and an upper bound, of the two values, that leave none."""


async def compare(interfaces: Interfaces, resource: Resource, name: str, bounds: dict[str, Any], *values: Any) -> tuple[Any, Any]:
    """The answers of REST, by the URL or in a body, and of GraphQL."""
    where = {f"{name}.{comparison}": bound for comparison, bound in bounds.items()} | ({name: [*values]} if values else {})
    headers = interfaces.tokens["everything"]
    if resource.fields[name].filter is Filter.BODY:
        rest = await interfaces.http.post(f"/v1/{resource.path}/lookup", json={"where": where}, headers=headers)
    else:
        rest = await interfaces.http.get(f"/v1/{resource.path}", params=where, headers=headers)
    row = "id" if "id" in resource.fields else next(iter(resource.fields))
    query = f"query($where: {resource.type_name}Where) {{ {resource.plural}(where: $where) {{ nodes {{ {row} }} }} }}"
    if resource.fields[name].kind is ValueType.NUMBER:
        bounds = {comparison: float(bound) for comparison, bound in bounds.items()}
    told = {"range": {name: bounds}} | ({name: [*values]} if values else {})
    body = {"query": query, "variables": {"where": told}}
    accept = {"Accept": "application/graphql-response+json"}
    return rest, await interfaces.http.post("/graphql", json=body, headers=headers | accept)


def list_issues(rest: Any, graphql: Any) -> tuple[list[Any], list[Any]]:
    """The place and message of each issue in both, after checking that they are of the same status and code."""
    assert (rest.status_code, graphql.status_code) == (400, 400), (rest.text[:300], graphql.text[:300])
    problems = rest.json(), graphql.json()["errors"][0]["extensions"]["problem"]
    for problem in problems:
        assert {issue["code"] for issue in problem["issues"]} == {"filter-value-invalid"}
    both = [[(issue["at"], issue["message"]) for issue in problem["issues"]] for problem in problems]
    assert [message for _, message in both[0]] == [message for _, message in both[1]]
    return both[0], both[1]


async def test_a_range_without_a_value_is_refused_with_both_of_its_bounds(interfaces: Interfaces) -> None:
    """Of every field, by some pair of bounds: they differ by the least step that its values have, or are one value that one of them leaves out."""
    walked = 0
    for i, (resource, name, field) in enumerate(list_comparable()):
        two = {"urn": (100_003, 100_005), "schoolUrn": (100_003, 100_005), "rounding": (1, 2)}.get(name, EXAMPLES[field.kind])
        lower, low, upper, high = EMPTY[1 if name == "rounding" else i % len(EMPTY)]
        rest, graphql = list_issues(*await compare(interfaces, resource, name, {lower: two[low], upper: two[high]}))
        prefix = "/where/" if field.filter is Filter.BODY else ""
        assert [at for at, _ in rest] == [f"{prefix}{name}.{lower}", f"{prefix}{name}.{upper}"], rest
        assert [at for at, _ in graphql] == [f"{resource.plural}.where.range.{name}.{each}" for each in (lower, upper)]
        for _, message in rest:
            assert f"{name}.{lower}" in message, rest
            assert f"{name}.{upper}" in message, rest
        walked += 1
    assert walked > 90


async def test_a_bound_outside_the_range_of_a_field_is_refused_with_that_range(interfaces: Interfaces) -> None:
    walked = 0
    for resource, name, field in list_comparable():
        if field.vocabulary is None:
            continue
        least, most, sentence = field.vocabulary.least, field.vocabulary.most, field.vocabulary.sentence
        bounds = [("lt", least), ("lte", (least or 0) - 1), *([("gt", most), ("gte", most + 1)] if most is not None else [])]
        comparison, bound = bounds[walked % len(bounds)]
        ((place, message),), ((of_graphql, _),) = list_issues(*await compare(interfaces, resource, name, {comparison: bound}))
        assert (place, of_graphql) == (f"{name}.{comparison}", f"{resource.plural}.where.range.{name}.{comparison}")
        assert sentence.removesuffix(".") in message
        walked += 1
    assert walked > 40


async def test_bounds_without_a_value_between_them_are_refused(interfaces: Interfaces) -> None:
    """No whole number lies between two that follow one another, no day between two days, no mark between two hundredths."""
    for path, bounds in (
        ("school.lowAge", {"gt": 4, "lt": 5}),
        ("pupil.dateOfBirth", {"gt": "2015-08-31", "lt": "2015-09-01"}),
        ("judgement.mark", {"gte": "1.001", "lte": "1.009"}),
        ("judgement.mark", {"gt": "1.01", "lt": "1.02"}),
        ("school.lowAge", {"gte": 4, "gt": 6, "lte": 5, "lt": 20}),
    ):
        name, _, field = path.partition(".")
        rest, _ = list_issues(*await compare(interfaces, RESOURCES[name], field, bounds))
        assert len(rest) == 2, (path, rest)
    for path, comparison, day in (("pupil.dateOfBirth", "gt", "9999-12-31"), ("school.openedOn", "lt", "0001-01-01")):
        name, _, field = path.partition(".")
        rest, _ = list_issues(*await compare(interfaces, RESOURCES[name], field, {comparison: day}))
        assert rest[0][1].endswith("leaves no value.")


async def test_values_all_outside_a_range_are_refused(interfaces: Interfaces) -> None:
    school = RESOURCES["school"]
    rest, graphql = list_issues(*await compare(interfaces, school, "lowAge", {"gte": 5, "lt": 8}, 4, 8))
    assert [at for at, _ in rest] == ["lowAge", "lowAge"]
    assert ["lowAge.gte" in rest[0][1], "lowAge.lt" in rest[1][1]] == [True, True]
    assert [at for at, _ in graphql] == ["schools.where.lowAge.0", "schools.where.lowAge.1"]
    rest_answer, told = await compare(interfaces, school, "lowAge", {"gte": 5, "lt": 8}, 4, 7)
    assert (rest_answer.status_code, told.status_code) == (200, 200)


async def test_a_cached_plan_refuses_a_range_without_a_value(interfaces: Interfaces) -> None:
    """The plan of a good request is bound to values of which none is met."""
    for _ in range(2):
        assert (await get(interfaces, "schools?lowAge.gte=3&lowAge.lte=5&fields=id"))[0] == 200
        status, codes, _ = await get(interfaces, "schools?lowAge.gte=6&lowAge.lte=5&fields=id")
        assert (status, [*codes]) == (400, ["lowAge.gte", "lowAge.lte"])
        assert (await get(interfaces, "codes?list=sex&code=F&fields=code"))[0] == 200
        assert (await get(interfaces, "codes?list=sex&code=EXS&fields=code"))[0] == 422
        query = "query($a: Int, $b: Int) { schools(where: {range: {lowAge: {gte: $a, lte: $b}}}) { nodes { id } } }"
        assert "data" in await interfaces.graphql("North", query, a=3, b=5)
        assert "errors" in await interfaces.graphql("North", query, a=6, b=5)


async def test_a_filter_that_the_choice_of_a_list_excludes_is_refused(interfaces: Interfaces) -> None:
    """Nobody who has left is on roll; of a school's list, another one may have the pupil on roll."""
    school = interfaces.rows["North"]["school"][0]["id"]
    query = "query($roll: PupilRoll, $where: PupilWhere) { pupils(roll: $roll, where: $where) { nodes { id } } }"
    for roll, name, value, is_refused in (
        ("left", "onRoll", True, True),
        ("left", "onRoll", False, False),
        ("left", "enrolmentStatus", "C", True),
        ("current", "onRoll", False, True),
        ("current", "onRoll", True, False),
        ("current", "leftOn", "2025-08-31", True),
        ("all", "onRoll", True, False),
    ):
        text = str(value).lower() if isinstance(value, bool) else value
        for _ in range(2):
            answer = await interfaces.http.get(
                "/v1/pupils", params={"roll": roll, name: text, "fields": "id"}, headers=interfaces.tokens["North"]
            )
            assert answer.status_code == (400 if is_refused else 200), (roll, name, value, answer.text)
            told = await interfaces.graphql("North", query, roll=roll, where={name: [value]})
            assert ("errors" in told) is is_refused, told
        if is_refused:
            (issue,) = answer.json()["issues"]
            assert (issue["at"], issue["code"], f"roll={roll}" in issue["message"]) == (name, "filter-value-invalid", True)
            (of_graphql,) = told["errors"][0]["extensions"]["problem"]["issues"]
            assert (of_graphql["at"], of_graphql["message"]) == (f"pupils.where.{name}", issue["message"])
        of_school = await interfaces.http.get(
            f"/v1/schools/{school}/pupils", params={"roll": roll, name: text, "fields": "id"}, headers=interfaces.tokens["North"]
        )
        assert of_school.status_code == (400 if is_refused and roll == "current" else 200)
    ranged = await interfaces.http.get("/v1/pupils?roll=current&leftOn.gte=2020-01-01", headers=interfaces.tokens["North"])
    assert [issue["at"] for issue in ranged.json()["issues"]] == ["leftOn.gte"]


async def test_a_code_is_unknown_outside_its_list(interfaces: Interfaces) -> None:
    """A code of another list is unknown in this one, and the codes that there are are told; so are a national code and another text of it."""
    query = "query($where: CodeWhere) { codes(where: $where) { nodes { list code } } }"
    for where, status, at, there_are in (
        ({"list": ["sex"], "code": ["EXS"]}, 422, "code", "There are: F, M."),
        ({"list": ["sex", "enrolmentStatus"], "code": ["EXS", "F"]}, 422, "code", "There are: C, F, G, M, O, S."),
        ({"list": ["sex"], "nationalCode": ["MAT"]}, 422, "nationalCode", "has this value"),
        ({"list": ["sex"], "also": ["y4"]}, 400, "also", "None has any."),
        ({"list": ["fsm"], "also": ["year 4"]}, 400, "also", "It is one of true, false."),
        ({"list": ["fsm"], "stage": ["KS2"]}, 400, "stage", "None has any."),
        ({"list": ["gcse-9-1"], "stage": ["KS2"]}, 400, "stage", "It is one of KS4."),
        ({"list": ["phonics"], "method": ["teacher assessment"]}, 400, "method", "It is one of test."),
        ({"list": ["phonics"], "subjects": ["maths"]}, 400, "subjects", "It is one of phonics."),
    ):
        answer = await interfaces.http.get("/v1/codes", params=where, headers=interfaces.tokens["North"])
        (issue,) = answer.json()["issues"]
        assert (answer.status_code, issue["at"], there_are in issue["message"]) == (status, at, True), answer.text
        told = (await interfaces.graphql("North", query, where=where))["errors"][0]["extensions"]["problem"]
        assert (told["status"], told["issues"][0]["message"]) == (str(status), issue["message"])
    for where, code in (({"list": "sex", "code": "F"}, "F"), ({"also": "year 4"}, "4"), ({"list": "yearGroup", "also": "Y4"}, "4")):
        rows = (await interfaces.http.get("/v1/codes", params=where, headers=interfaces.tokens["North"])).json()["data"]
        assert [row["code"] for row in rows] == [code]
        assert [row["code"] for row in (await interfaces.graphql("North", query, where=where))["data"]["codes"]["nodes"]] == [code]


async def test_aggregates_and_lists_take_words_in_any_case_and_blanks_at_the_ends(interfaces: Interfaces) -> None:
    headers = interfaces.tokens["North"]

    async def read(path: str, **parameters: Any) -> Any:
        answer = await interfaces.http.get(f"/v1/{path}", params=parameters, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json() if "json" in answer.headers["content-type"] else answer.text

    (school,) = [row for row in interfaces.rows["North"]["school"] if row["name"] == "Alder"]
    usual = {"groupBy": "sex", "window": "2024-25/KS2", "subject": "rwm", "school": school["id"], "view": "own"}
    sent_otherwise = {
        "groupBy": " SEX ",
        "window": " 2024-25/KS2 ",
        "subject": " rwm\t",
        "school": f" {school['id']} ",
        "view": "OWN",
    }
    found = await read("aggregates", **usual)
    assert found["data"]
    for name, text in sent_otherwise.items():
        assert await read("aggregates", **usual | {name: text}) == found, name
    query = "query($w: String, $s: String, $of: [ID!]) { aggregates(groupBy: [sex], window: $w, subject: $s, school: $of) { nodes { sex eligible } } }"
    answers = [
        await interfaces.graphql("North", query, w=form["window"], s=form["subject"], of=[form["school"]])
        for form in (usual, sent_otherwise)
    ]
    assert answers[0] == answers[1]
    assert answers[0]["data"]["aggregates"]["nodes"]
    assert await read("aggregates", **usual, format=" CSV", shape="Long") == await read("aggregates", **usual, format="csv")
    left = {"fields": "id", "sort": "id", "first": 10}
    assert await read("pupils", **left, roll="ALL", totalCount=" True ") == await read(
        "pupils", **left, roll="all", totalCount="true"
    )
    assert await read("pupils", **left, format="Csv") == await read("pupils", **left, format="csv")
    for name in ("roll", "totalCount", "format"):
        assert (await get(interfaces, f"pupils?{name}=maybe"))[:2] == (400, {name: "parameter-invalid"})
