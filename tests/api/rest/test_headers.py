"""Header fields as HTTP means them: preferences, media types by weight, HEAD, character sets, repeated requests and the bytes of query strings."""

import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from api.http.accept import choose_media_type
from api.http.field_values import split_elements, split_parameters
from api.http.problem_catalogue import PROBLEM_CODES
from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import (
    TRUST,
    URNS,
    WINDOW,
    Trust,
    asked,
    batch,
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

GRAPHQL = "application/graphql-response+json"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_trust(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as made:
        vendor = await made.client("vendor", f"trust:{TRUST}=all")
        await opened(vendor)
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(6)]))
        await sent(vendor, "/v1/judgements", batch("Oak", [judged(n) for n in range(6)]))
        yield made


@pytest.fixture
def vendor(small_trust: Trust) -> Any:
    return small_trust.made[0]


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        ("a, b ,,c", ["a", "b", "c"]),
        ('a="x, y", b', ['a="x, y"', "b"]),
        (r'a="x\", y", b', [r'a="x\", y"', "b"]),
        ('a="never closed, b', ['a="never closed, b']),
        ("", []),
    ],
)
def test_a_comma_in_a_quoted_string_separates_nothing(value: str, elements: list[str]) -> None:
    assert [*split_elements(value)] == elements


def test_quotes_and_backslashes_without_end_are_read_once() -> None:
    for value in ('"\\' * 40_000, '"' * 80_001 + "\\", 'a="' + '\\"' * 40_000):
        assert [*split_elements(value)] == [value]
        assert split_parameters(value)[1] == []


def test_parameters_have_names_in_any_case_and_quoted_values() -> None:
    assert split_parameters("") == split_parameters(" ;; ") == ("", [])
    assert split_parameters('text/csv; Header="a;b" ;Q=0.5') == ("text/csv", [("header", "a;b"), ("q", "0.5")])


PREFERRED = [
    (["handling=lenient, handling=strict"], True),
    (["handling=strict, handling=lenient"], False),
    (["handling=strict", "handling=lenient"], False),
    (['foo="a, handling=strict", handling=lenient'], True),
    (['foo="a, handling=lenient"'], False),
    (['foo; bar="handling=lenient, x"'], False),
    (['HANDLING="lenient"'], True),
    (["handling = lenient; x=1"], True),
    (["respond-async, , handling=lenient"], True),
    (["handling=other, handling=lenient"], False),
]


@pytest.mark.parametrize(("fields", "is_lenient"), PREFERRED, ids=[" | ".join(fields) for fields, _ in PREFERRED])
async def test_the_first_of_a_doubled_preference_counts(fields: list[str], is_lenient: bool, vendor: Any) -> None:
    body = batch("Oak", [judged(1), judged(2, grade="ZZ")])
    answer = await vendor.post("/v1/judgements?dryRun=true", json=body, headers=[("Prefer", value) for value in fields])
    assert answer.status_code == (200 if is_lenient else 422), answer.text
    if is_lenient:
        assert answer.headers["preference-applied"] == "handling=lenient"


CSV = [
    ("text/csv", True),
    ("TEXT/CSV", True),
    ("application/json;q=0.5, text/csv", True),
    ("text/csv;q=0.1, application/json", False),
    ("text/csv;q=0.4, application/json;q=0.9", False),
    ("text/csv;Q=0.9,application/json;q=0.4", True),
    ("application/json;q=0, text/csv;q=0.001", True),
    ("text/csv;q=0", False),
    ("text/csv;q=0, */*", False),
    ("text/*", True),
    ("text/*;q=0.5, application/json;q=0.4", True),
    ("*/*", False),
    ("*/*;q=0.1, text/csv;q=0.05", False),
    ("text/html, */*;q=0.8", False),
    ("application/json, text/csv", False),
    ("text/csv, application/json", True),
    ("text/csv;header=present", True),
    ('text/plain;x="a, text/csv", application/json', False),
    ("text/html", False),
    ("", False),
]


@pytest.mark.parametrize(("accept", "as_csv"), CSV)
async def test_the_media_type_with_most_weight_is_sent(accept: str, as_csv: bool, vendor: Any) -> None:
    """Of a list, of a list below a row and of aggregates; a client that accepts neither gets JSON. Several fields are one list."""
    (school,) = (await vendor.get("/v1/schools?urn=100001")).json()["data"]
    for path in ("/v1/schools", f"/v1/schools/{school['id']}/pupils", f"/v1/aggregates?groupBy=subject&window={WINDOW}"):
        for headers in ([("Accept", accept)], [("Accept", each) for each in accept.split(", ")] if '"' not in accept else []):
            if headers:
                answer = await vendor.get(path, headers=headers)
                assert answer.headers["content-type"].split(";")[0] == ("text/csv" if as_csv else "application/json")
                assert "Accept" in answer.headers["vary"]


def test_of_equal_weights_the_first_that_is_named_is_chosen() -> None:
    offered = ("application/json", "text/html")
    assert choose_media_type("text/html, application/json", offered) == "text/html"
    assert choose_media_type("text/html;q=0.9, application/json;q=0.9", offered) == "text/html"
    assert choose_media_type("*/*", offered) == "application/json"
    assert choose_media_type("image/*", offered) is None
    assert choose_media_type("text/html;level=1;q=0.3, text/html;q=0.7, */*;q=0.5", offered) == "text/html"


async def test_head_says_what_get_says(vendor: Any) -> None:
    """Link included, and to conditional requests."""
    for path in ("/v1/pupils?first=2", "/v1/pupils?first=2&format=csv", "/v1/judgements?first=1&grade=100", "/v1/pupils?sex=q"):
        get, head = [await vendor.request(method, path, headers={"Range": "bytes=0-1"}) for method in ("GET", "HEAD")]
        assert head.status_code == get.status_code
        for name in ("link", "etag", "content-type", "content-length", "vary"):
            assert head.headers.get(name) == get.headers.get(name), (path, name)
    assert 'rel="next"' in (await vendor.head("/v1/pupils?first=2")).headers["link"]
    tag = (await vendor.head("/v1/pupils?first=2")).headers["etag"]
    for method in ("GET", "HEAD"):
        assert (await vendor.request(method, "/v1/pupils?first=2", headers={"If-None-Match": tag})).status_code == 304


REUSED = "idempotency-key-reused"


async def repeat(vendor: Any, content: bytes, status: int, query: str = "", **headers: str) -> Any:
    named = {"Content-Type": "application/json", "Idempotency-Key": "form"} | {n.replace("_", "-"): v for n, v in headers.items()}
    answer = await vendor.post(f"/v1/judgements{query}", content=content, headers=named)
    assert answer.status_code == status, answer.text
    return answer


async def test_a_key_compares_the_document_and_not_its_bytes(vendor: Any, small_trust: Trust) -> None:
    body = batch("Oak", [judged(1, grade=100, actor="Zoë", mark=7)])
    first = await repeat(vendor, json.dumps(body).encode(), 200)
    turned = {name: body[name] for name in reversed(body)}
    turned["entries"] = [{name: entry[name] for name in reversed(entry)} for entry in body["entries"]]
    forms = [
        json.dumps(body, indent=4).encode(),
        json.dumps(turned, ensure_ascii=False).encode(),
        json.dumps(body).replace('"mark": 7', '"mark": 7.0').encode(),
        json.dumps(body).replace('"mark": 7', '"mark": 0.7e1').encode(),
        json.dumps(body).replace('"window"', '"\\u0077indow"').encode(),
    ]
    for form in forms:
        again = await repeat(vendor, form, 200)
        assert (again.headers["idempotency-replayed"], again.content) == ("true", first.content)
    for other in ('"mark": 8', '"mark": "7"', '"mark": 7.5'):
        refused = await repeat(vendor, json.dumps(body).replace('"mark": 7', other).encode(), 422)
        assert "idempotency-replayed" not in refused.headers


@pytest.mark.parametrize(
    ("query", "headers", "differing"),
    [
        ("?dryRun=true", {}, "dryRun"),
        ("", {"Prefer": "handling=lenient"}, "Prefer (handling)"),
        ("", {"Prefer": "return=representation"}, "Prefer (return)"),
        ("?dryRun=true", {"Prefer": "handling=lenient"}, "dryRun and another Prefer (handling)"),
    ],
)
async def test_what_differs_is_named(query: str, headers: dict[str, str], differing: str, vendor: Any) -> None:
    body = json.dumps(batch("Oak", [judged(2)])).encode()
    key = {"Idempotency_Key": "differs"}
    await repeat(vendor, body, 200, **key)
    refused = (await repeat(vendor, body, 422, query, **key, **headers)).json()
    assert issues(refused) == {"Idempotency-Key": REUSED}
    assert f"another {differing}." in refused["detail"]
    assert "body" not in refused["detail"]
    changed = json.dumps(batch("Oak", [judged(3)])).encode()
    assert "another body" in (await repeat(vendor, changed, 422, **key)).json()["detail"]


async def test_a_key_of_an_older_program_is_compared_by_its_bytes(vendor: Any, small_trust: Trust) -> None:
    body = json.dumps(batch("Oak", [judged(4)])).encode()
    key = {"Idempotency_Key": "older"}
    first = await repeat(vendor, body, 200, **key)
    old = hashlib.sha256(body + repr((False, False)).encode()).digest()
    assert await small_trust.value("SELECT fingerprint FROM idempotency WHERE key = 'older'") == old
    await small_trust.operator.execute("UPDATE idempotency SET request = NULL WHERE key = 'older'")
    assert (await repeat(vendor, body, 200, **key)).content == first.content
    assert issues((await repeat(vendor, body + b" ", 422, **key)).json()) == {"Idempotency-Key": REUSED}
    assert "another dryRun." in (await repeat(vendor, body, 422, "?dryRun=true", **key)).json()["detail"]


async def test_a_list_on_two_lines_is_one_list(vendor: Any) -> None:
    """RFC 9110, section 5.3: of If-None-Match, Accept, If-Match and Prefer, of lists, aggregates and rows, in both interfaces."""
    (school,) = (await vendor.get("/v1/schools?urn=100001")).json()["data"]
    for path in ("/v1/pupils", f"/v1/schools/{school['id']}", f"/v1/aggregates?groupBy=school&window={WINDOW}&subject=reading"):
        for coding in ("identity", "gzip"):
            tag = (await vendor.get(path, headers={"Accept-Encoding": coding})).headers["etag"]
            for tags in (['"other"', tag], [tag, '"other"'], ['"a", "b"', f'W/"c", {tag}'], ["", tag]):
                lines = [("If-None-Match", value) for value in tags] + [("Accept-Encoding", "br"), ("Accept-Encoding", coding)]
                answer = await vendor.get(path, headers=lines)
                assert (answer.status_code, answer.headers["etag"]) == (304, tag), (path, tags)
            assert (await vendor.get(path, headers=[("If-None-Match", '"a"'), ("If-None-Match", '"b"')])).status_code == 200
    answer = await vendor.get("/v1/pupils", headers=[("Accept", "application/json;q=0.1"), ("Accept", "text/csv")])
    assert answer.headers["content-type"].startswith("text/csv")
    lines = [("Accept", "text/html"), ("Accept", f"{GRAPHQL};q=0.9, application/json;q=0.2")]
    answer = await vendor.post("/graphql", json={"query": "{ me { client { id } } }"}, headers=lines)
    assert answer.headers["content-type"].startswith(GRAPHQL)
    path, change = f"/v1/schools/{school['id']}", {"shortName": "O"}
    version = (await vendor.get(path)).json()["version"]
    for tags, status in (
        ([f'"{version}"', '"99"'], 200),
        (['"99"', f'"{version}"'], 200),
        (['"98"', '"99"'], 412),
        (["*", '"1"'], 400),
    ):
        answer = await vendor.patch(f"{path}?dryRun=true", json=change, headers=[("If-Match", tag) for tag in tags])
        assert answer.status_code == status, (tags, answer.text)


async def test_a_precondition_that_a_write_would_ignore_is_refused(vendor: Any, small_trust: Trust) -> None:
    """RFC 9110 section 13.1 forbids a write whose precondition is false. Nothing is written, and the issue names the field that was sent."""
    (school,) = (await vendor.get("/v1/schools?urn=100001")).json()["data"]
    path, version, written = f"/v1/schools/{school['id']}", school["version"], await small_trust.everything()
    for method, url, body, headers, code in (
        ("PATCH", path, {"shortName": "O"}, {"If-Match": f'"{version}"', "If-None-Match": "*"}, "if-none-match-unused"),
        ("PATCH", path, {"shortName": "O"}, {"If-Match": "*", "If-None-Match": f'"{version}"'}, "if-none-match-unused"),
        ("POST", "/v1/windows", window("inm"), {"If-None-Match": "*"}, "if-none-match-unused"),
        ("POST", "/v1/windows", window("im"), {"If-Match": '"1"'}, "if-match-unused"),
        ("POST", "/v1/pupils", roll("Oak", [entry(77)]), {"If-Match": "*"}, "if-match-unused"),
    ):
        answer = await vendor.request(method, url, json=body, headers=headers)
        (issue,) = answer.json()["issues"]
        assert (answer.status_code, issue["code"]) == (400, code), answer.text
        assert issue["at"] == ("If-Match" if code == "if-match-unused" else "If-None-Match")
    operator = await small_trust.client("operator", "installation=all")
    for name, code in (("If-Match", "if-match-unused"), ("If-None-Match", "if-none-match-unused")):
        answer = await operator.post("/v1/imports/gias", files={"asOf": (None, "2018-05-01")}, headers={name: "*"})
        assert [issue["code"] for issue in answer.json()["issues"]] == [code]
    assert await small_trust.everything() == written


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("Content-Type", ["application/json", "application/json"]),
        ("Content-Type", ["application/json", "text/plain"]),
        ("Idempotency-Key", ["a", "a"]),
        ("Idempotency-Key", ["a", "b"]),
        ("Authorization", ["", "Bearer x"]),
        ("Origin", ["https://a.example", "https://b.example"]),
    ],
)
async def test_a_field_of_one_value_may_be_sent_once(field: str, values: list[str], vendor: Any) -> None:
    first = vendor.headers["Authorization"] if field == "Authorization" else values[0]
    lines = [(field, value) for value in (first, *values[1:])]
    others = [] if field == "Content-Type" else [("Content-Type", "application/json")]
    query = {"query": 'mutation { createSubject(input: {code: "x"}) { id } }'}
    for path, body in (("/v1/judgements", batch("Oak", [judged(5)])), ("/v1/pupils/lookup", {}), ("/graphql", query)):
        answer = await vendor.post(path, content=json.dumps(body), headers=[*others, *lines])
        assert (answer.status_code, issues(answer.json())) == (400, {field: "header-repeated"}), path
    if field not in ("Idempotency-Key", "Origin"):
        others = [] if field == "Content-Type" else [("Content-Type", "application/x-www-form-urlencoded")]
        answer = await vendor.post("/oauth/token", content="grant_type=client_credentials", headers=[*others, *lines])
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_request_has_one_key(vendor: Any) -> None:
    answer = await vendor.post("/v1/judgements", json={}, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert answer.status_code in (400, 422)
    body = batch("Oak", [judged(5)])
    answer = await vendor.post("/v1/judgements", json=body, headers=[("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
    assert (answer.status_code, issues(answer.json())) == (400, {"Idempotency-Key": "header-repeated"})


@pytest.mark.parametrize(
    ("charset", "status"),
    [
        ("charset=utf-8", 200),
        ('charset="UTF-8"', 200),
        ("CHARSET=utf8", 200),
        ("charset=utf-16", 415),
        ("charset=iso-8859-1", 415),
        ("charset=utf-8; charset=utf-16", 415),
        ("boundary=x; charset=windows-1252", 415),
        ("profile=x", 200),
    ],
)
async def test_a_body_is_utf_8(charset: str, status: int, vendor: Any) -> None:
    body = json.dumps(batch("Oak", [judged(1)])).encode()
    headers = {"Content-Type": f"application/json; {charset}"}
    answer = await vendor.post("/v1/judgements?dryRun=true", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    query = json.dumps({"query": "{ me { client { id } } }"}).encode()
    answer = await vendor.post("/graphql", content=query, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 415:
        assert answer.headers["accept-post"] == "application/json"


@pytest.mark.parametrize(
    ("query", "places"),
    [
        ("sex=%FF", ["sex"]),
        ("sex=F&yearGroup=%C3&phase=%ED%A0%80", ["yearGroup", "phase"]),
        ("%FF=1", ["\ufffd"]),
        ("sex=%", ["sex"]),
        ("sex=%zz", ["sex"]),
        ("sex=%C0%AF", ["sex"]),
    ],
)
async def test_bytes_that_are_no_text_are_refused(query: str, places: list[str], vendor: Any) -> None:
    for path in ("/v1/pupils", "/v1/aggregates", "/v1/me", "/v1/nothing"):
        answer = await vendor.get(f"{path}?{query}")
        assert answer.status_code == 400, answer.text
        assert [issue["at"] for issue in answer.json()["issues"]] == places
        assert {issue["code"] for issue in answer.json()["issues"]} == {"parameter-invalid"}


async def test_instants_end_in_z(vendor: Any) -> None:
    """In rows, CSV, GraphQL, me, receipts and stored answers."""
    await repeat(vendor, json.dumps(batch("Oak", [judged(1)])).encode(), 200, Idempotency_Key="instant")
    for path in ("judgements", "pupils", "windows", "receipts", "me", "idempotency-keys/instant", "judgements?format=csv"):
        answer = await vendor.get(f"/v1/{path}")
        assert "+00:00" not in answer.text
        assert "Z" in answer.text
    query = "{ judgements { nodes { recordedAt receivedAt changedAt } } windows { nodes { opensAt closesAt } } }"
    answer = await vendor.post("/graphql", json={"query": query})
    assert "+00:00" not in answer.text
    instants = [value for row in answer.json()["data"]["judgements"]["nodes"] for value in row.values()]
    assert len(instants) > 10
    assert all(instant.endswith("Z") for instant in instants)


@pytest.mark.parametrize("first", [0, -1, 1001])
async def test_first_is_from_1_on_in_both_interfaces(first: int, vendor: Any) -> None:
    rest = await vendor.get(f"/v1/pupils?first={first}")
    assert (rest.status_code, issues(rest.json())) == (400, {"first": "parameter-invalid"})
    for query in (
        f"{{ pupils(first: {first}) {{ nodes {{ id }} }} }}",
        f"{{ schools {{ nodes {{ pupils(first: {first}) {{ nodes {{ id }} }} }} }} }}",
    ):
        answer = await vendor.post("/graphql", json={"query": query}, headers={"Accept": GRAPHQL})
        assert answer.status_code == 400
        (error,) = answer.json()["errors"]
        assert issues(error["extensions"]["problem"]) == {"pupils.first": "argument-invalid"}


async def test_every_graphql_error_is_a_problem(vendor: Any) -> None:
    """Of variables of another type with their places, of a document that does not fit the schema, and of one over a limit."""
    query = "query ($n: Int!, $w: PupilWhere, $l: [String!]) { pupils(first: $n, where: $w) { nodes { id } } me { client { id } } }"
    variables = {"n": "two", "w": {"sex": ["F", 1], "upn": [upn(1)], "changedAt": ["now"]}, "l": "x"}
    answer = await vendor.post(
        "/graphql", json={"query": query.replace(", $l: [String!]", ""), "variables": variables}, headers={"Accept": GRAPHQL}
    )
    assert answer.status_code == 400
    problems = [error["extensions"]["problem"] for error in answer.json()["errors"]]
    assert [issue["at"] for problem in problems for issue in problem["issues"]] == [
        "/variables/n",
        "/variables/w/sex/1",
        "/variables/w/changedAt/0",
    ]
    for problem in problems:
        assert (problem["status"], problem["type"].rsplit("/", 1)[1]) == (400, "graphql-invalid")
        assert problem["title"] == PROBLEM_CODES["graphql-invalid"].title
        assert {issue["code"] for issue in problem["issues"]} == {"wrong-type"}
    assert upn(1) not in answer.text
    assert "two" not in answer.text
    for text, code in (
        ("{ nope }", "graphql-invalid"),
        ("{", "graphql-invalid"),
        ("{ " + "a " * 3000 + "}", "graphql-too-many-tokens"),
    ):
        answer = await vendor.post("/graphql", json={"query": text}, headers={"Accept": GRAPHQL})
        for error in answer.json()["errors"]:
            assert error["extensions"]["code"] == code
            assert error["extensions"]["problem"]["type"].endswith(f"/problems/{code}")
            assert error["extensions"]["problem"]["detail"] == error["message"]


async def test_a_body_without_a_media_type_is_415(vendor: Any) -> None:
    for headers in ({}, {"Content-Type": ""}, {"Content-Type": ";"}):
        for path in ("/v1/judgements", "/v1/pupils/lookup", "/graphql"):
            answer = await vendor.post(path, content=b"{}", headers=headers)
            assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (415, "media-type")


async def test_a_window_is_named_by_its_code_in_a_path(vendor: Any, small_trust: Trust) -> None:
    """Reads, lists below it, changes and verbs; whatever stands in the code, and however it is escaped."""
    made = await sent(vendor, "/v1/windows", window("2017-18/Mock 1_a.b-c"), 201)
    path = "/v1/windows/2017-18%2FMock%201_a.b-c"
    row = await vendor.get(path)
    assert row.json() == (await vendor.get(f"/v1/windows/{made['id']}")).json()
    assert (await vendor.get(path.replace("%2F", "%2f"))).json()["id"] == made["id"]
    assert (await vendor.head(path)).headers["etag"] == row.headers["etag"]
    assert (await vendor.get(path, headers={"If-None-Match": row.headers["etag"]})).status_code == 304
    assert (await vendor.get(path, headers={"Origin": "https://portal.example"})).json()["id"] == made["id"]
    below = await vendor.get(f"/v1/windows/{WINDOW.replace('/', '%2F')}/judgements?first=2")
    assert len(below.json()["data"]) == 2
    next_url = below.headers["link"][1:].partition(">")[0]
    assert len((await vendor.get(next_url)).json()["data"]) == 2
    changed = await vendor.patch(path, json={"name": "Mock"}, headers={"If-Match": row.headers["etag"]})
    assert (changed.status_code, changed.json()["id"]) == (200, made["id"])
    by_code = "query ($id: ID!) { window(id: $id) { id name } again: window(id: $id) { code } schools { nodes { urn } } }"
    found = await asked(vendor, by_code, id="2017-18/Mock 1_a.b-c")
    assert (found["window"], found["again"]) == ({"id": made["id"], "name": "Mock"}, {"code": "2017-18/Mock 1_a.b-c"})
    assert (await asked(vendor, '{ window(id: "2017-18/Mock 1_a.b-c") { id } }'))["window"]["id"] == made["id"]
    assert (await asked(vendor, by_code, id="2017-18/Mock"))["window"] is None
    assert (await vendor.post(f"{path}/open")).json()["state"] == "open"
    assert (await vendor.post(f"{path}/close")).json()["state"] == "closed"
    key = {"If-Match": "*", "Idempotency-Key": "named"}
    assert [(await vendor.delete(url, headers=key)).status_code for url in (path, f"/v1/windows/{made['id']}")] == [204, 204]
    none, nowhere = await vendor.get(path), await vendor.get("/v1/windows/2017-18%252FKS2")
    assert (none.status_code, none.content) == (nowhere.status_code, nowhere.content) == (404, none.content)
    assert (await vendor.get("/v1/windows/2017-18/KS2")).status_code == 404
    assert (await vendor.get("/v1/pupils/2017-18%2FKS2")).status_code == 404


async def test_a_code_of_several_tenants_names_no_window(small_trust: Trust) -> None:
    both = await small_trust.client("both", f"trust:{TRUST}=all", f"school:{URNS['Quay']}=all")
    quay = {"school": {"urn": URNS["Quay"]}}
    own = await sent(both, "/v1/windows", window(tenant=quay), 201)
    answer = await both.get(f"/v1/windows/{WINDOW.replace('/', '%2F')}")
    assert (answer.status_code, issues(answer.json())) == (400, {"id": "code-ambiguous"})
    assert own["id"] in answer.json()["detail"]
    assert (await both.post(f"/v1/windows/{WINDOW.replace('/', '%2F')}/close")).status_code == 400
    query = "query ($id: ID!) { w: window(id: $id) { id } }"
    problem = (await both.post("/graphql", json={"query": query, "variables": {"id": WINDOW}})).json()["errors"][0]["extensions"][
        "problem"
    ]
    assert (problem["status"], issues(problem)) == (400, {"w.id": "code-ambiguous"})
    reader = await small_trust.client("quay", f"school:{URNS['Quay']}=all")
    assert (await reader.get(f"/v1/windows/{WINDOW.replace('/', '%2F')}")).json()["id"] == own["id"]
    assert (await asked(reader, query, id=WINDOW))["w"]["id"] == own["id"]
    refused = await sent(both, "/v1/windows", window(str(own["id"]), tenant=quay), 422)
    assert issues(refused) == {"/code": "wrong-value"}


async def test_a_key_with_a_slash_is_found_again(vendor: Any) -> None:
    await repeat(vendor, json.dumps(batch("Oak", [judged(1)])).encode(), 200, Idempotency_Key="night/1")
    for key in ("night/1", "night%2F1"):
        assert (await vendor.get(f"/v1/idempotency-keys/{key}")).status_code == 200
