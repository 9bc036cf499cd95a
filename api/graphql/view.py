"""GraphQL over HTTP: POST of JSON, one operation a request, `application/graphql-response+json` or `application/json` as the client accepts."""

from functools import lru_cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from api.answer import Json
from api.auth import authenticate
from api.body import MAX_BODY, MAX_OTHER_BODY, read_json, too_large, with_body
from api.graphql.execute import LIMITS, Answer, Asker, execute, failed, reads, refused
from api.problems import HttpProblem, TooMany
from api.quota import QuotaExceeded

RESPONSE, JSON = "application/graphql-response+json", "application/json"


@with_body
async def graphql(request: Request) -> Response:
    """POST /graphql."""
    media_type = accepted(request.headers.get("accept", "*/*"))
    try:
        caller = await authenticate(request)
    except QuotaExceeded as exceeded:
        return _respond(failed(TooMany(exceeded.wait), request.app.state.settings.base_url), media_type)
    introspection = request.app.state.settings.introspection
    document, _ = await read_json(request, most=MAX_BODY, check=lambda document: check_large(document, introspection))
    wrong = malformed(document)
    if wrong:
        return _respond(refused(wrong), media_type)
    state = request.app.state
    settings = state.settings
    asker = Asker(
        caller, state.database, state.cursors, settings.base_url, settings.introspection, state.limits, state.forms, state.kept
    )
    assert isinstance(document, dict)
    answer = await execute(asker, document["query"], document.get("operationName") or None, document.get("variables") or {})
    # the older media type says 200 whenever a request could be read, whatever its document came to (GraphQL over HTTP, section 6.4.1)
    return _respond(answer, media_type, answer.status if media_type == RESPONSE else 200)


def _respond(answer: Answer, media_type: str, status: int | None = None) -> Response:
    more = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    return Json(answer.body, *more, kind=(b"content-type", f"{media_type}; charset=utf-8".encode()), status=status or answer.status)


def check_large(document: object, introspection: bool) -> None:
    """Refuses the large body of a query before its variables are read: only a batch may have one. Raises HttpProblem."""
    source = document.get("query") if isinstance(document, dict) else None
    if isinstance(document, dict) and isinstance(source, str) and reads(source, document.get("operationName"), introspection):
        raise too_large(MAX_OTHER_BODY)


def malformed(document: object) -> list[dict[str, Any]]:
    """What keeps a body from being a GraphQL request."""
    if not isinstance(document, dict):
        return [{"message": "Send one request, an object with query and variables; batches are not taken."}]
    wrong: list[dict[str, Any]] = [
        {"message": f"{name} must be {words}."}
        for name, types, words in (
            ("query", (str,), "text, and is needed"),
            ("operationName", (str, type(None)), "text"),
            ("variables", (dict, type(None)), "an object"),
            ("extensions", (dict, type(None)), "an object"),
        )
        if not isinstance(document.get(name), types)
    ]
    if not wrong and len(document["query"].encode()) > LIMITS.bytes:
        wrong.append({"message": f"A document has at most {LIMITS.bytes:,} bytes.", "extensions": {"code": "graphql-too-long"}})
    return wrong


@lru_cache(maxsize=200)
def accepted(header: str) -> str:
    """The media type to answer in; 406 where the client takes neither."""
    ranges: list[tuple[float, str]] = []
    for part in header.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            ranges.append((float(weight), kind))
        except ValueError:
            continue
    ranges.sort(key=lambda each: -each[0])
    for quality, kind in ranges:
        if quality > 0 and kind == RESPONSE:
            return RESPONSE
        if quality > 0 and kind in (JSON, "application/*", "*/*"):
            return JSON
    detail = f"Accept {RESPONSE} or {JSON}."
    raise HttpProblem(406, "not-acceptable", "There is no such representation", detail)
