"""No name and no UPN in a URL, a cursor, a log or a refusal. The logs of the whole suite are read too (tests/conftest.py, tests/fixtures/demo.py)."""

import base64
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from domain import RESOURCES
from domain.declare.resource import Filter
from tests.fixtures.interfaces import Interfaces, read_exact_json
from tests.fixtures.privacy import PLANTED, find_personal_data
from tests.fixtures.server import Server
from tests.fixtures.two_trusts import upn

JSON = {"Content-Type": "application/json"}


def cursors(answer: Any) -> Iterator[str]:
    """Every cursor of an answer, at whatever depth."""
    if isinstance(answer, dict):
        for key, value in answer.items():
            if key in ("endCursor", "startCursor", "cursor") and value is not None:
                yield value
            else:
                yield from cursors(value)
    elif isinstance(answer, list):
        for each in answer:
            yield from cursors(each)


async def test_cursors_and_links_contain_no_name(interfaces: Interfaces) -> None:
    """Sorted by what identifies a child, at the top and nested; the cursor's bytes are looked at, not only its letters."""
    rows = interfaces.rows["North"]["pupil"]
    names = {row[name] for row in rows for name in ("surname", "forename")} | {row["upn"] for row in rows if row["upn"]}
    by_graphql = """{ schools { nodes { pupils(first: 3, orderBy: [{field: surname}, {field: upn}]) {
        edges { cursor } pageInfo { startCursor endCursor } } } } }"""
    seen = list(cursors(await interfaces.graphql("North", by_graphql)))
    for sort in ("surname", "-forename", "upn", "dateOfBirth,surname"):
        answer = await interfaces.http.get(f"/v1/pupils?first=3&sort={sort}&include=school", headers=interfaces.tokens["North"])
        assert find_personal_data(unquote(answer.headers["link"]), names) == set()
        seen += cursors(read_exact_json(answer))
    assert len(seen) > 10
    for cursor in seen:
        plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        assert find_personal_data(cursor, names) == find_personal_data(plain.decode("latin-1"), names) == set()
        assert not any(name.encode() in plain for name in names if len(name) > 3)


def test_what_identifies_a_person_is_filtered_in_a_body_only() -> None:
    identifying = {(of.name, name) for of in RESOURCES.values() for name, field in of.fields.items() if field.filter is Filter.BODY}
    named = {
        ("pupil", name)
        for name in (
            "reference",
            "upn",
            "formerUpns",
            "surname",
            "forename",
            "preferredSurname",
            "preferredForename",
            "dateOfBirth",
        )
    }
    assert identifying == named


async def test_a_refusal_repeats_no_name_and_no_upn(interfaces: Interfaces) -> None:
    """Wherever somebody puts one: as a value that is not taken, in a URL, in a query."""
    known, surname = upn("Alder", 0), PLANTED
    pupil = {
        "reference": "x",
        "upn": known[::-1],
        "surname": surname,
        "forename": 7,
        "dateOfBirth": surname,
        "sex": surname,
        "yearGroup": surname,
    }
    judged = {"upn": known, "subject": "reading", "window": "2024-25/autumn", "grade": "EX", "recordedAt": surname}
    bodies = [
        ("/v1/pupils", {"school": {"urn": 100001}, "asOf": "2024-10-01", "entries": [pupil | {"enrolments": surname}]}),
        ("/v1/judgements", {"school": {"urn": 100001}, "entries": [judged, judged | {"recordedAt": "2025-01-01T00:00:00Z"}]}),
        ("/v1/pupils/lookup", {"where": {"yearGroup": 6, "dateOfBirth": surname, "upn": [known, 5]}}),
        (
            "/graphql",
            {"query": "query ($d: Date) { pupils(where: {dateOfBirth: [$d]}) { nodes { id } } }", "variables": {"d": surname}},
        ),
        ("/graphql", {"query": f'{{ pupil(id: "{known}") {{ id }} pupils(after: "{surname}") {{ nodes {{ id }} }} }}'}),
    ]
    roll = "mutation ($i: PupilBatchInput!) { recordPupils(input: $i) { received } }"
    misspelt = {
        "school": {"urn": 100001},
        "asOf": "2024-10-01",
        "entries": [{"surname": surname, "upnn": known, "forenam": surname}],
    }
    bodies += [
        ("/graphql", {"query": roll, "variables": {"i": misspelt}}),
        ("/graphql", {"query": f'{{ pupils(where: {{surname: ["{surname}"], forname: ["{surname}"]}}) {{ nodes {{ id }} }} }}'}),
        (
            "/graphql",
            {"query": "query ($w: PupilWhere) { pupils(where: $w) { nodes { id } } }", "variables": {"w": {"surnam": [surname]}}},
        ),
        ("/graphql", {"query": f'{{ pupils(where: {{dateOfBirth: ["{surname}"]}}, first: "{surname}") {{ nodes {{ id }} }} }}'}),
    ]
    answers = [await interfaces.http.post(url, json=body, headers=interfaces.tokens["North"]) for url, body in bodies]
    answers += [
        await interfaces.http.get(f"/v1/{path}", headers=interfaces.tokens["North"])
        for path in (f"pupils/{known}", f"receipts/{surname}", surname)
    ]
    answers.append(
        await interfaces.http.get(
            f"/v1/pupils?dateOfBirth={surname}&after={surname}&upn={known}", headers=interfaces.tokens["North"]
        )
    )
    for answer in answers:
        assert find_personal_data(answer.text, {surname, known, known[::-1]}) == set(), answer.text
    assert {answer.status_code for answer in answers} <= {200, 400, 404, 422}


def test_the_log_of_a_server_contains_no_name_wherever_it_was_put(server: Server) -> None:
    """Its log is read when the session ends; here is what puts names in its way."""
    with server.client("operator") as client:
        for path in (
            "/v1/pupils/Featherstonehaugh",
            "/Featherstonehaugh?q=Featherstonehaugh",
            "/v1/pupils?surname=Featherstonehaugh",
        ):
            assert client.get(path).status_code in (400, 403, 404)
        assert client.post("/v1/pupils", content=b'{"surname": "Featherstonehaugh", ', headers=JSON).status_code in (400, 403)
    assert find_personal_data("path=/v1/pupils/Featherstonehaugh", {PLANTED}) == {PLANTED}
    assert find_personal_data(f"key ({upn('Alder', 1)}) exists") == {upn("Alder", 1)}
