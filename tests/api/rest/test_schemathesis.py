"""A real server, asked with a real token, keeps to its OpenAPI document: schemathesis makes requests that the document allows and some that it does
not, and then come requests that a client would make. No answer lies outside the document, and none is a 5xx.

The operations are taken from the document itself, whose base URL is another: a document from a fixture is beyond schemathesis 4.32.
"""

import os
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi import checks as openapi

from api.rest.openapi.document import make_document
from api.settings import Settings
from domain import RESOURCES
from domain.store import embedded
from tests.fixtures.databases import fresh_database
from tests.fixtures.server import Server, import_register, serving
from tests.published import results, whole_pupils

DATA = Path(__file__).parents[2] / "published" / "data"
SCHOOL = next(school for school in whole_pupils.read(DATA / "ks2-2018.csv") if school.urn == "139721")
TRUST = "trust:3201"
CLIENT = "everything"
OWN = {"trust": {"groupUid": 3201}}
PARTS = [{"subjects": ["reading"]}, {"subjects": ["maths"]}]
CONJUNCTION = {"tenant": OWN, "code": "core", "name": "Reading and maths", "combines": PARTS}
SCALE = {"tenant": OWN, "name": "Ours", "bands": [{"code": "b", "label": "B"}, {"code": "a", "label": "A"}], "expectedFrom": "a"}
CROSSWALK = {"tenant": OWN, "scheme": "ks2-scaled-score", "grades": [{"fromGrade": "80", "toGrade": "120", "band": "a"}]}
GRANT = {"target": OWN, "scopes": ["schools:read", "pupils:read"], "purpose": "Shows lists", "approvedBy": "Head"}
GRANT |= {"expiresAt": "2090-01-01T00:00:00Z"}
LONGEST_URL = 8000
CHECKS = [
    not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
]


@schemathesis.serializer("application/x-ndjson", "text/csv")
def write_text(context: Any, value: Any) -> bytes:
    """The body of a stream of rows: a text as it is, and anything else as its text."""
    return (value if isinstance(value, str) else str(value)).encode(errors="replace")


DOCUMENT = make_document(Settings.base_url)
schema = schemathesis.openapi.from_dict(DOCUMENT)
pytestmark = pytest.mark.xdist_group("schemathesis")


@pytest.fixture(scope="module")
def server(cluster: embedded.Cluster) -> Iterator[Server]:
    """A server that holds a school's pupils, judgements and a target, and a client that may do everything in the school's trust.

    The quota is wide: how many requests are made in a second depends on the machine.
    """
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MARKONCE_RATE", "100000")
        environment.setenv("MARKONCE_BURST", "1000000")
        with serving(fresh_database(cluster)) as running:
            import_register(running)
            running.register(CLIENT, f"{TRUST}=all", "installation=imports:write")
            with running.client(CLIENT) as client:
                _fill(client)
            yield running


def _fill(client: Any) -> None:
    pupils = whole_pupils.pupils(SCHOOL) or []
    results.post(client, "/v1/pupils", whole_pupils.roster(SCHOOL, pupils))
    window = results.post(client, "/v1/windows", results.window_of(TRUST, SCHOOL.year))["id"]
    results.post(client, f"/v1/windows/{window}/open", None)
    results.post(client, "/v1/judgements", judgements())
    results.post(client, "/v1/targets", target())
    results.post(client, "/v1/groups", class_list())
    results.post(client, "/v1/subjects", CONJUNCTION)
    results.post(client, "/v1/common-scales", SCALE)
    results.post(client, "/v1/crosswalks", CROSSWALK)
    school = client.get("/v1/schools", params={"urn": SCHOOL.urn, "fields": "id"}).json()["data"][0]["id"]
    results.post(client, f"/v1/schools/{school}/calendar-links", {})
    another = results.post(client, "/v1/clients", {"name": "Class lists", "tenant": OWN})["id"]
    results.post(client, "/v1/grants", GRANT | {"client": another})


def judgements(**changed: Any) -> dict[str, Any]:
    """Every pupil's judgements or, with changes, the first one changed."""
    batch = whole_pupils.judgements(SCHOOL, whole_pupils.pupils(SCHOOL) or [])
    return {**batch, "entries": [{**batch["entries"][0], **changed}]} if changed else batch


def target(**changed: Any) -> dict[str, Any]:
    """A batch of one target."""
    aim = {"upn": whole_pupils.upn(SCHOOL, 1), "subject": "reading", "grade": "110", "basis": "teacher"}
    return {"school": {"urn": SCHOOL.urn}, "entries": [{**aim, "horizon": {"academicYear": "2018-19", "point": "KS2"}, **changed}]}


def class_list() -> dict[str, Any]:
    """A class of one pupil."""
    members = [{"upn": whole_pupils.upn(SCHOOL, 1)}]
    entry = {"code": "6W", "name": "6 Willow", "kind": "class", "members": members}
    return {"school": {"urn": SCHOOL.urn}, "academicYear": "2018-19", "asOf": "2018-10-01", "entries": [entry]}


def roster(**changed: Any) -> dict[str, Any]:
    """A roll of one pupil."""
    return whole_pupils.roster(SCHOOL, (whole_pupils.pupils(SCHOOL) or [])[:1]) | changed


def ask(server: Server, method: str, path: str, headers: dict[str, str] | None = None, **request: Any) -> Any:
    """The answer to a request, after checking it against the document."""
    case = schema[path][method].Case(headers=headers or {}, **request)
    authorization = {"Authorization": f"Bearer {server.token(CLIENT)}"}
    return case.call_and_validate(base_url=server.base_url, headers=authorization, checks=CHECKS)


NOT_FILLED = (
    "dataIssue",
    "discount",
    "publication",
    "publicationChange",
    "plannedRoll",
    "plannedPupil",
    "plannedEnrolment",
    "plannedCharacteristic",
    "collectionAnswer",
    "publicKey",
)
"""What the school of these tests has none of."""
EXAMPLES = int(os.environ.get("MARKONCE_EXAMPLES", "1"))
"""Requests made up at random for each operation: one in the suite, more in make conformance."""
EVERY = 1 if EXAMPLES > 1 else 12
"""Of the requests at the edges of each parameter, of which an operation has up to a thousand: one in so many in the suite, beyond the first six."""
FIRST = 6
ALIKE = r"^/v1/[A-Za-z]+/\{id\}/(?!pupils$|returns$|receipts$|open$|close$|reopen$)"
"""Lists that belong to one row: one handler and the parameters of the list itself, so that some of them stand for all."""
RESOURCE = "|".join(resource.path for resource in RESOURCES.values())
NESTED, ROWS = r"(?!planned-pupils)[a-z-]+/\{id\}/[a-z]+", rf"(?!(pupils|judgements)/)({RESOURCE})/\{{id\}}"
LISTS = rf"^/v1/((?!(pupils|judgements)$)({RESOURCE})|{NESTED}|{ROWS}|(?!pupils)[a-z]+/lookup)$"
"""Lists and rows that the suite leaves to `make conformance`: pupils and judgements have parameters of every type that there is."""


def list_operations() -> Iterator[tuple[str, str]]:
    """The methods and the paths that are asked."""
    for path, operations in DOCUMENT["paths"].items():
        for method in {"get", "post", "patch", "delete"} & operations.keys() if not re.match(ALIKE, path) else ():
            if EXAMPLES > 1 or not (re.match(LISTS, path) and (method == "get" or path.endswith("/lookup"))):
                yield method.upper(), path


@pytest.fixture(scope="module")
def connection(server: Server) -> Iterator[requests.Session]:
    """One connection for thousands of requests, each of which would otherwise open one and read the proxies of the environment."""
    with requests.Session() as made:
        made.trust_env = False
        yield made


@pytest.mark.parametrize(("method", "path"), sorted(list_operations()))
def test_every_answer_is_in_the_document(server: Server, connection: requests.Session, method: str, path: str) -> None:
    """The requests are made up here: schemathesis itself makes them for every operation in every process that collects."""

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def check(case: schemathesis.Case) -> None:
        asked.append(case)
        if len(asked) > FIRST and len(asked) % EVERY:
            return
        authorization = {"Authorization": f"Bearer {server.token(CLIENT)}"}
        answer = case.call(base_url=server.base_url, headers=authorization, session=connection)
        if answer.status_code in (414, 431):  # a thousand of the longest values make a URL that the HTTP server does not read
            assert len(answer.request.url or "") > LONGEST_URL
        else:
            case.validate_response(answer, checks=CHECKS)

    asked: list[schemathesis.Case] = []
    build_operation_test(
        config=schema.config, operation=schema[path][method], test_func=check, given_kwargs={}, feedback=FeedbackSources()
    )()
    assert asked


@pytest.mark.parametrize("resource", RESOURCES.values(), ids=RESOURCES)
def test_rows_with_all_they_link_to(server: Server, resource: Any) -> None:
    path, include = f"/v1/{resource.path}", ",".join(resource.links)
    sort = ",".join(f"-{name}" for name, field in resource.fields.items() if field.sortable)
    listed = ask(server, "GET", path, query={"include": include, "sort": sort, "first": "3"})
    assert (listed.status_code, bool(listed.json()["data"])) == (200, resource.name not in NOT_FILLED)
    to_one = [name for name, link in resource.links.items() if not link.many]
    sheet = ask(server, "GET", path, query={"include": ",".join(to_one), "format": "csv"})
    assert (sheet.status_code, sheet.headers["content-type"][0].split(";")[0]) == (200, "text/csv")
    if resource.has_id:
        for row in listed.json()["data"]:
            found = ask(server, "GET", f"{path}/{{id}}", path_parameters={"id": row["id"]}, query={"include": include})
            assert (found.status_code, found.json()["id"]) == (200, row["id"])


def test_pages_and_lookups_of_pupils(server: Server) -> None:
    page = ask(server, "GET", "/v1/pupils", query={"first": "20", "yearGroup": ["5", "6"]})
    assert page.json()["page"]["hasMore"]
    last = ask(
        server, "GET", "/v1/pupils", query={"first": "20", "yearGroup": ["5", "6"], "after": page.json()["page"]["endCursor"]}
    )
    assert (len(last.json()["data"]), last.json()["page"]["hasMore"], "link" in last.headers) == (9, False, False)
    body = {
        "where": {"upn": whole_pupils.upn(SCHOOL, 1), "sex": ["F", "M"]},
        "include": ["judgements.window"],
        "sort": ["surname"],
    }
    found = ask(server, "POST", "/v1/pupils/lookup", body=body, media_type="application/json")
    assert [len(row["judgements"]["data"]) for row in found.json()["data"]] == [3]


@pytest.mark.parametrize(
    "by", ["subject,window", "school,subject,window", "window,subject,yearGroup", "subject,window,disadvantaged"]
)
def test_aggregates(server: Server, by: str) -> None:
    answer = ask(server, "GET", "/v1/aggregates", query={"groupBy": by, "first": "2"})
    assert (answer.status_code, len(answer.json()["data"])) == (200, 2)
    more = ask(server, "GET", "/v1/aggregates", query={"groupBy": by, "after": answer.json()["page"]["endCursor"]})
    assert more.status_code == 200


def test_writes(server: Server) -> None:
    post = partial(ask, server, "POST", media_type="application/json")
    keyed = {"Idempotency-Key": "a-key", "Prefer": "handling=lenient, return=representation"}
    first, again = (post("/v1/judgements", keyed, body=judgements()) for _ in range(2))
    assert (first.status_code, first.json()["unchanged"], len(first.json()["results"])) == (200, 87, 87)
    assert (first.headers["preference-applied"], again.headers["idempotency-replayed"]) == (
        ["handling=lenient, return=representation"],
        ["true"],
    )
    assert post("/v1/judgements", keyed, body=judgements(grade="120")).status_code == 422
    lenient = post("/v1/judgements", {"Prefer": "handling=lenient"}, body=judgements(grade="no such grade"))
    assert (lenient.status_code, [issue["code"] for issue in lenient.json()["issues"]]) == (422, ["grade-unknown"])
    scheme = {"tenant": {"trust": {"groupUid": 3201}}, "code": "ours", "name": "Ours", "template": "wts-exs-gds"}
    dry, made, twice = (post("/v1/schemes", body=scheme, query=query) for query in ({"dryRun": "true"}, {}, {}))
    assert [answer.status_code for answer in (dry, made, twice)] == [200, 201, 409]


def test_the_states_of_a_window(server: Server) -> None:
    (window,) = ask(server, "GET", "/v1/windows").json()["data"]
    moves = ["close", "reopen", "open"]
    answers = [ask(server, "POST", f"/v1/windows/{{id}}/{move}", path_parameters={"id": window["id"]}) for move in moves]
    assert [answer.status_code for answer in answers] == [200, 200, 409]


EARLIEST, LATEST = "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"
ANOTHER = results.window_of(TRUST, SCHOOL.year) | {"code": "another"}
EDGES: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"judged {at}": ("/v1/judgements", judgements(recordedAt=at)) for at in (EARLIEST, LATEST)},
    **{f"set {at}": ("/v1/targets", target(recordedAt=at)) for at in (EARLIEST, LATEST)},
    **{f"opens {at}": ("/v1/windows", ANOTHER | {"opensAt": at}) for at in (EARLIEST, LATEST)},
    **{f"accepts until {at}": ("/v1/windows", ANOTHER | {"acceptUntil": at}) for at in (EARLIEST, LATEST)},
    **{f"as of {day}": ("/v1/pupils", roster(asOf=day)) for day in ("0001-01-01", "9999-12-31")},
}


@pytest.mark.parametrize(("path", "body"), EDGES.values(), ids=EDGES)
def test_instants_and_days_at_the_edge_of_the_calendar(server: Server, path: str, body: dict[str, Any]) -> None:
    answer = ask(server, "POST", path, body=body, media_type="application/json", query={"dryRun": "true"})
    assert answer.status_code == 422


@pytest.mark.parametrize(
    "query", [{"mark": ["-999999999999.999999"]}, {"mark": ["1", "999999999999"]}, {"id": ["x"]}, {"recordedAt": [LATEST]}]
)
def test_filters_at_the_edge_of_their_type(server: Server, query: dict[str, Any]) -> None:
    assert ask(server, "GET", "/v1/judgements", query=query).status_code in (200, 400)
