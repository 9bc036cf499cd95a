"""GraphQL responses: the body of a result, and status and headers as in REST."""

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
    """A response: its body and headers, and the status it has where the media type lets it have one (GraphQL over HTTP, section 6.4).

    `refusal` stands for the body there, where nothing was done: a response with `data` must be a 2xx.
    """

    body: bytes
    status: int = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)
    refusal: bytes | None = None


def make_answer(result: ExecutionResult) -> GraphqlAnswer:
    """The response to an operation."""
    if isinstance(result, MutationResult) and result.data is not None:
        return _answer_mutation(result)
    if result.errors:
        causes = list_domain_errors(result.errors)
        if not causes:
            return GraphqlAnswer(_encode_errors(result.errors), HTTPStatus.BAD_REQUEST)
        return GraphqlAnswer(_encode_errors(result.errors), find_status(causes[0]), list_headers(causes[0]))
    if result.extensions:
        return GraphqlAnswer(encode_body({"data": result.data, "extensions": result.extensions}))
    return GraphqlAnswer(encode_body({"data": result.data}))


def _answer_mutation(result: MutationResult) -> GraphqlAnswer:
    """200 with whatever was done. Where every command failed with one status, the answer has this status. The headers are REST's."""
    errors = result.errors or []
    causes = list_domain_errors(errors)
    headers = merge_headers(causes)
    if result.replayed == result.commands:
        headers["Idempotency-Replayed"] = "true"
    if not errors:
        return GraphqlAnswer(encode_body({"data": result.data}), headers=headers)
    body = encode_body({"errors": [error.formatted for error in errors], "data": result.data})
    statuses = {find_status(cause) for cause in causes} | ({HTTPStatus.BAD_REQUEST} if len(causes) < len(errors) else set())
    if len(errors) < result.commands or len(statuses) > 1:
        return GraphqlAnswer(body, headers=headers)
    return GraphqlAnswer(body, statuses.pop(), headers, refusal=_encode_errors(errors))


def _encode_errors(errors: list[GraphQLError]) -> bytes:
    formatted: list[Any] = [error.formatted for error in errors]
    return encode_body({"errors": formatted})


def encode_body(body: object) -> bytes:
    """JSON of a response, in which rows are JSON already (`msgspec.Raw`)."""
    return msgspec.json.encode(body)
