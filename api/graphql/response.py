"""Makes the response to a GraphQL operation: its body, and the status and headers that REST would send."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import msgspec
from graphql import GraphQLError
from strawberry.types import ExecutionResult

from api.graphql.errors import list_domain_errors
from api.graphql.schema import MutationResult
from api.http.problems import find_status, list_headers, merge_headers


@dataclass(frozen=True)
class GraphqlAnswer:
    """A response. `status` is sent in application/graphql-response+json only (GraphQL over HTTP, section 6.4).

    `refusal` replaces the body in that media type, where nothing was done: a response with `data` must be a 2xx.
    """

    body: bytes
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    refusal: bytes | None = None


def make_answer(result: ExecutionResult) -> GraphqlAnswer:
    """The response to an operation."""
    if isinstance(result, MutationResult) and result.data is not None:
        return _make_mutation_answer(result)
    if result.errors:
        causes = list_domain_errors(result.errors)
        if not causes:
            return GraphqlAnswer(_encode_errors(result.errors), HTTPStatus.BAD_REQUEST)
        return GraphqlAnswer(_encode_errors(result.errors), find_status(causes[0]), list_headers(causes[0]))
    if result.extensions:
        return GraphqlAnswer(msgspec.json.encode({"data": result.data, "extensions": result.extensions}))
    return GraphqlAnswer(msgspec.json.encode({"data": result.data}))


def _make_mutation_answer(result: MutationResult) -> GraphqlAnswer:
    """The response to a mutation: 200, or the status with which every command failed. The headers are those of REST."""
    errors = result.errors or []
    causes = list_domain_errors(errors)
    headers = merge_headers(causes)
    if result.replayed == result.commands:
        headers["Idempotency-Replayed"] = "true"
    rest: dict[str, Any] = {"data": result.data}
    if result.extensions:
        rest["extensions"] = result.extensions
    if not errors:
        return GraphqlAnswer(msgspec.json.encode(rest), headers=headers)
    body = msgspec.json.encode({"errors": [error.formatted for error in errors], **rest})
    statuses = {find_status(cause) for cause in causes} | ({HTTPStatus.BAD_REQUEST} if len(causes) < len(errors) else set())
    if len(errors) < result.commands or len(statuses) > 1:
        return GraphqlAnswer(body, headers=headers)
    return GraphqlAnswer(body, statuses.pop(), headers, refusal=_encode_errors(errors))


def _encode_errors(errors: list[GraphQLError]) -> bytes:
    formatted: list[Any] = [error.formatted for error in errors]
    return msgspec.json.encode({"errors": formatted})
