"""Which browser apps may read an answer. Each test asks as a browser does, over a socket."""

import time
from collections.abc import Callable, Iterator

import httpx2
import pytest

from domain.store import embedded
from tests.fixtures.databases import fresh_database
from tests.fixtures.server import Server, import_register, serving

APP, PORTAL, STRANGER = "https://app.example", "http://localhost:5173", "https://stranger.example"
GRANT = "schools=trusts:read,schools:read"


@pytest.fixture(scope="module")
def web(cluster: embedded.Cluster) -> Iterator[Server]:
    """Two clients, each with a browser app of its own."""
    with serving(fresh_database(cluster)) as server:
        import_register(server)
        for name, origin in (("app", APP), ("portal", PORTAL)):
            server.register(name, GRANT, origins=(origin,))
        yield server


def preflight(web: Server, origin: str, path: str = "/v1/schools", method: str = "GET") -> httpx2.Response:
    return httpx2.options(web.base_url + path, headers={"Origin": origin, "Access-Control-Request-Method": method})


def allowed(answer: httpx2.Response) -> str | None:
    return answer.headers.get("access-control-allow-origin")


def test_a_preflight_is_answered_for_an_origin_that_any_client_lists(web: Server) -> None:
    for origin in (APP, PORTAL):
        answer = preflight(web, origin, "/v1/judgements", "POST")
        assert (answer.status_code, allowed(answer), answer.headers["vary"]) == (204, origin, "Origin")
        assert {"PATCH", "DELETE"} <= set(answer.headers["access-control-allow-methods"].split(", "))
        taken = {
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "Prefer",
            "If-Match",
            "If-None-Match",
            "Markonce-Min-Version",
            "X-Request-Id",
        }
        assert taken == set(answer.headers["access-control-allow-headers"].split(", "))
        assert "access-control-allow-credentials" not in answer.headers
    refused = preflight(web, STRANGER)
    assert (refused.status_code, allowed(refused), refused.headers["vary"]) == (403, None, "Origin")
    assert refused.json()["type"].endswith("/origin-unknown")


def test_an_answer_is_read_only_from_an_origin_of_the_calling_client(web: Server) -> None:
    with web.client("app") as app:
        for path, status in (("/v1/schools", 200), ("/v1/schools?nonsense=1", 400), ("/v1/pupils", 403), ("/v1/schools/none", 404)):
            answers = {origin: app.get(path, headers={"Origin": origin}) for origin in (APP, PORTAL, STRANGER)}
            assert {origin: answer.status_code for origin, answer in answers.items()} == dict.fromkeys(answers, status)
            assert {origin: allowed(answer) for origin, answer in answers.items()} == {APP: APP, PORTAL: None, STRANGER: None}
            assert all("Origin" in answer.headers["vary"].split(", ") for answer in answers.values())
        told = set(answers[APP].headers["access-control-expose-headers"].split(", "))
        assert {"Link", "ETag", "Retry-After", "RateLimit", "X-Request-Id", "Idempotency-Replayed"} <= told
        answer = app.post("/graphql", json={"query": "{ schools { nodes { id } } }"}, headers={"Origin": APP})
        assert (answer.status_code, allowed(answer)) == (200, APP)


def test_an_app_can_distinguish_an_expired_token_from_a_broken_network(web: Server) -> None:
    """An answer to nobody is read from any origin that a client lists: it holds nothing of anybody's."""
    for path, status in (("/v1/schools", 401), ("/v1/nothing", 404)):
        answers = [httpx2.get(web.base_url + path, headers={"Origin": origin}) for origin in (APP, STRANGER)]
        assert [(answer.status_code, allowed(answer)) for answer in answers] == [(status, APP), (status, None)]
        assert all("x-request-id" in answer.headers for answer in answers)


def test_the_description_is_open_and_tokens_are_for_servers(web: Server) -> None:
    assert allowed(httpx2.get(f"{web.base_url}/openapi.json", headers={"Origin": STRANGER})) == "*"
    refused = preflight(web, APP, "/oauth/token", "POST")
    assert (refused.status_code, allowed(refused)) == (403, None)
    form = {"grant_type": "client_credentials"}
    answer = httpx2.post(f"{web.base_url}/oauth/token", data=form, auth=web.secrets["app"], headers={"Origin": APP})
    assert (answer.status_code, allowed(answer)) == (200, None)


def test_an_origin_taken_away_is_refused(web: Server) -> None:
    web.register_by_command("short", GRANT, origins=("https://short.example", "http://127.0.0.1:5173"))
    assert "browser apps at https://short.example http://127.0.0.1:5173" in web.command("client", "list")
    until(lambda: preflight(web, "https://short.example").status_code == 204)
    web.command("client", "origins", "short", "--none")
    until(lambda: preflight(web, "https://short.example").status_code == 403)
    with web.client("short") as short:
        assert allowed(short.get("/v1/schools", headers={"Origin": "https://short.example"})) is None


def until(holds: Callable[[], bool]) -> None:
    """Waits for what is remembered for a few seconds to be asked again."""
    for _ in range(100):
        if holds():
            return
        time.sleep(0.2)
    raise AssertionError("it never held")
