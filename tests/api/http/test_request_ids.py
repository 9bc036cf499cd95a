"""X-Request-Id: a request's own id is kept where it is safe in a log, and the log's line says who asked and what it cost."""

from typing import Any

import pytest
import structlog

from tests.fixtures.small_trust import Trust

KEPT = ("a", "9f86d081.884c_7d65-9A2f", "x" * 64)
REPLACED = ("", "x" * 65, "two words", "a,b", "line%0abreak", "caf\u00e9", 'a"b')


async def test_a_request_keeps_its_id_and_is_logged_with_what_it_cost(small_trust: Trust) -> None:
    client = await small_trust.client("vendor", "trust:4128=all")
    for sent in KEPT:
        with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as lines:
            answer = await client.get("/v1/schools?fields=name", headers={"X-Request-Id": sent})
        assert answer.headers["X-Request-Id"] == sent
        (line,) = (line for line in lines if line["status"] != 304)  # which the client of the tests asks for by itself
        assert (line["request_id"], line["route"], line["status"], line["bytes"]) == (sent, "/v1/schools", 200, len(answer.content))
        assert line["client"] == small_trust.credentials["vendor"][0]
        assert line["tenant"] == str(small_trust.ids["trust"])
    with structlog.testing.capture_logs() as lines:
        await small_trust.http.get("/v1/schools")
    assert [(line["client"], line["status"], line["problem"], line["log_level"]) for line in lines] == [
        (None, 401, "unauthorised", "info")
    ]


@pytest.mark.parametrize("sent", REPLACED)
async def test_an_id_that_is_not_safe_in_a_log_is_replaced(small_trust: Trust, sent: str) -> None:
    answer = await small_trust.http.get("/v1/schools", headers={b"X-Request-Id": sent.encode()})  # type: ignore[dict-item]
    assert answer.headers["X-Request-Id"] not in (sent, "")
    assert len(answer.headers["X-Request-Id"]) == 32


async def test_two_ids_are_none(small_trust: Trust) -> None:
    answer: Any = await small_trust.http.get("/v1/schools", headers=[("X-Request-Id", "a"), ("X-Request-Id", "b")])
    assert len(answer.headers["X-Request-Id"]) == 32


async def test_the_line_of_a_token_names_the_client_whose_secret_is_right_or_wrong(small_trust: Trust) -> None:
    """By its id where there is such a client, and never by another text that stands in place of an id."""
    await small_trust.client("vendor", "trust:4128=all")
    client, secret = small_trust.credentials["vendor"]
    tries = ((client, secret), (client, "wrong"), ("01a21ec3-7ca0-7014-86f3-064aa04e0abf", "wrong"), (secret, secret))
    with structlog.testing.capture_logs() as lines:
        for credentials in tries:
            await small_trust.http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=credentials)
    assert [(line["status"], line["client"]) for line in lines] == [(200, client), (401, client), (401, None), (401, None)]
    assert secret not in str(lines)
