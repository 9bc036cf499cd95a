"""GraphQL over HTTP: POST of JSON with one operation, answered in `application/graphql-response+json` or `application/json`, as the client accepts."""

import asyncio
from functools import cache
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from strawberry.asgi import GraphQL
from strawberry.types.unset import UNSET

from api.graphql.context import OperationContext
from api.graphql.document import is_query, read_document
from api.graphql.errors import list_domain_errors
from api.graphql.response import GraphqlAnswer, make_answer
from api.graphql.schema import graphql_schema, make_schema
from api.http.accept import choose_media_type
from api.http.auth import allow_replicas, authenticate, confirm_client
from api.http.body import MAX_BODY, MAX_OTHER_BODY, make_too_large
from api.http.command_body import CommandBody
from api.http.context import get_context
from api.http.field_values import join_lines
from api.http.problems import HttpProblem
from api.http.response import JsonResponse
from domain.declare.errors import BadRequest, ClientRevoked, Issue

RESPONSE, JSON = "application/graphql-response+json", "application/json"


class GraphqlEndpoint(GraphQL[OperationContext, None]):
    """Strawberry's ASGI endpoint, with the body limits, media types and statuses of this API."""

    async def run(self, request: Any, context: Any = UNSET, root_value: Any = UNSET) -> Any:
        """The response to a POST. Raises what is wrong before a document is read, which RequestMiddleware answers with problem+json."""
        media_type = negotiate_media_type(join_lines(request.scope, b"accept") or "")
        context = await self.get_context(request, None)
        body = CommandBody()
        document, _ = await body.read(
            request, most=MAX_BODY, check=lambda document: reject_large_query(document, context.introspection)
        )
        if body.malformed is not None and not is_mutation(document, context.introspection):
            raise body.malformed
        check_request(document)
        assert isinstance(document, dict)
        if context.database.replicas is not None and not is_mutation(document, context.introspection):
            allow_replicas(request)
        result = await self.schema.execute(
            document["query"],
            document.get("variables") or {},
            context_value=context,
            operation_name=document.get("operationName") or None,
        )
        errors = list_domain_errors(result.errors or [])
        of_request = get_context(request.scope)
        of_request.problems += errors
        if body.malformed is not None and len(errors) < len(result.errors or []):
            raise body.malformed  # such as of a variable that stands in no input
        for error in errors:
            if isinstance(error, ClientRevoked):
                raise error
            body.raise_if_malformed(error)
        if result.errors:
            await confirm_client(request.scope, errors)
        if result.data is not None:
            result.extensions = {"cost": of_request.cost, **(result.extensions or {})}
        return _respond(make_answer(result), media_type)

    async def get_context(self, request: Any, response: Any) -> OperationContext:
        """The context of a request's operation. Raises Unauthorised and QuotaExceeded."""
        state = request.app.state
        settings = state.settings
        caller = await authenticate(request)
        return OperationContext(
            caller,
            state.database,
            state.cursors,
            settings.base_url,
            settings.introspection,
            state.limits,
            state.plan_cache,
            state.response_cache,
            state.writes,
            get_context(request.scope).charge,
            state.read_counts,
        )

    def encode_json(self, data: object) -> str:
        """A result as JSON text, since WebSocket handlers send bytes as binary messages."""
        return msgspec.json.encode(data).decode()


@cache
def make_endpoint() -> GraphqlEndpoint:
    """The endpoint, made once. GET is off, since a query in a URL could hold a name or a UPN; the page with an editor is /explorer."""
    return GraphqlEndpoint(make_schema(), graphql_ide=None, allow_queries_via_get=False)


async def graphql(request: Request) -> Response:
    """POST /graphql."""
    preparation: asyncio.Task[GraphqlEndpoint] | None = getattr(request.app.state, "graphql_preparation", None)
    endpoint = make_endpoint() if preparation is None or preparation.done() else await asyncio.shield(preparation)
    response: Response = await endpoint.run(request)
    return response


def prepare_endpoint() -> "asyncio.Task[GraphqlEndpoint]":
    """Makes the endpoint in a thread: the schema takes 0.2 s, for which no request should wait but those that need it."""
    return asyncio.create_task(asyncio.to_thread(make_endpoint))


def _respond(answer: GraphqlAnswer, media_type: str) -> Response:
    """The response. As application/json it is 200 once a document was read: other statuses could be those of a proxy (GraphQL over HTTP, section 6.4.1)."""
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    kind = (b"content-type", f"{media_type}; charset=utf-8".encode())
    if media_type == JSON:
        return JsonResponse(answer.body, *headers, kind=kind)
    return JsonResponse(answer.body if answer.refusal is None else answer.refusal, *headers, kind=kind, status=answer.status)


def is_mutation(document: object, introspection: bool) -> bool:
    """Whether a body is that of a request for a mutation."""
    if not isinstance(document, dict) or not isinstance(source := document.get("query"), str):
        return False
    operation = read_document(graphql_schema(), source, introspection).find_operation(document.get("operationName") or None)
    return operation is not None and not operation.is_query


def reject_large_query(document: object, introspection: bool) -> None:
    """Raises HttpProblem 413 where a large body is that of a query, before its variables are parsed: only a mutation may have one."""
    if not isinstance(document, dict) or not isinstance(source := document.get("query"), str):
        return
    if is_query(graphql_schema(), source, document.get("operationName"), introspection):
        raise make_too_large(MAX_OTHER_BODY)


def check_request(document: object) -> None:
    """Raises BadRequest with every issue of a body that is not a GraphQL request (GraphQL over HTTP, section 5.4.1)."""
    if not isinstance(document, dict):
        detail = "Send one request, an object with query and variables; batches of requests are not supported."
        raise BadRequest(detail, code="graphql-malformed", issues=(Issue("", "wrong-type", detail),))
    issues = [
        Issue(f"/{name}", "wrong-type" if name in document else "required", f"{name} must be {words}.")
        for name, types, words in (
            ("query", (str,), "text, and is needed"),
            ("operationName", (str, type(None)), "text"),
            ("variables", (dict, type(None)), "an object"),
            ("extensions", (dict, type(None)), "an object"),
        )
        if not isinstance(document.get(name), types)
    ]
    if issues:
        raise BadRequest("This is not a GraphQL request.", code="graphql-malformed", issues=tuple(issues))


def negotiate_media_type(header: str) -> str:
    """The media type of the response. Raises HttpProblem 406 where the client accepts neither.

    Without an Accept header it is the newer one (GraphQL over HTTP, section 6.1.1), for a wildcard the older.
    """
    chosen = choose_media_type(header, (JSON, RESPONSE)) if header else RESPONSE
    if chosen is None:
        detail = f"Accept {RESPONSE} or {JSON}."
        raise HttpProblem(HTTPStatus.NOT_ACCEPTABLE, "not-acceptable", detail)
    return chosen
