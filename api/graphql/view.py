"""GraphQL over HTTP: POST of JSON, one operation a request, `application/graphql-response+json` or `application/json` as the client accepts."""

from starlette.requests import Request
from starlette.responses import Response

from api.auth import authenticate
from api.body import read_json
from api.graphql.execute import LIMITS, Answer, Asker, execute, refused
from api.problems import HttpProblem

RESPONSE, JSON = "application/graphql-response+json", "application/json"


async def graphql(request: Request) -> Response:
    """POST /graphql."""
    media_type = accepted(request.headers.get("accept", "*/*"))
    asker_state = request.app.state
    caller = await authenticate(request)
    document, _ = await read_json(request)
    asker = Asker(
        caller, asker_state.database, asker_state.cursors, asker_state.settings.base_url, asker_state.settings.introspection
    )
    answer = await _answer(asker, document)
    # the older media type says 200 for every request that could be read as GraphQL (GraphQL over HTTP, section 6.4.1)
    status = answer.status if media_type == RESPONSE or answer.status in (400, 401) else 200
    return Response(
        answer.body, status, {"Cache-Control": "private, no-store", "Vary": "Accept, Authorization"}, f"{media_type}; charset=utf-8"
    )


async def _answer(asker: Asker, document: object) -> Answer:
    if not isinstance(document, dict):
        return refused([{"message": "Send one request, an object with query and variables; batches are not taken."}])
    wrong = [
        {"message": f"{name} must be {words}."}
        for name, types, words in (
            ("query", (str,), "text, and is needed"),
            ("operationName", (str, type(None)), "text"),
            ("variables", (dict, type(None)), "an object"),
            ("extensions", (dict, type(None)), "an object"),
        )
        if not isinstance(document.get(name), types)
    ]
    if wrong:
        return refused(wrong)
    if len(document["query"].encode()) > LIMITS.bytes:
        return refused([{"message": f"A document has at most {LIMITS.bytes:,} bytes.", "extensions": {"code": "graphql-too-long"}}])
    return await execute(asker, document["query"], document.get("operationName") or None, document.get("variables") or {})


def accepted(header: str) -> str:
    """The media type to answer in; 406 where the client takes neither."""
    ranges = []
    for part in header.split(","):
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        try:
            ranges.append((float(quality), kind))
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
