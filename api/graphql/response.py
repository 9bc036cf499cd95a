"""GraphQL responses: the body of a result, and status and headers as in REST."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from graphql import GraphQLError
from strawberry.types import ExecutionResult

from api.graphql.errors import domain_errors
from api.graphql.schema import MutationResult
from api.http.problems import headers_of, merge_headers, status_of


@dataclass(frozen=True)
class Answer:
    """A response: its body and headers, and the status it has where the media type lets it have one (GraphQL over HTTP, section 6.4).

    `refusal` stands for the body there, where nothing was done: a response with `data` must be a 2xx.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    refusal: bytes | None = None


def make_answer(result: ExecutionResult) -> Answer:
    """The response to an operation."""
    if isinstance(result, MutationResult) and result.data is not None:
        return _answer_mutation(result)
    if result.errors:
        causes = domain_errors(result.errors)
        if not causes:
            return Answer(_encode_errors(result.errors), 400)
        return Answer(_encode_errors(result.errors), status_of(causes[0]), headers_of(causes[0]))
    if result.extensions:
        return Answer(encode_body({"data": result.data, "extensions": result.extensions}))
    return Answer(encode_body({"data": result.data}))


def _answer_mutation(result: MutationResult) -> Answer:
    """200 with whatever was done. Where every command failed with one status, the answer has this status. The headers are REST's."""
    errors = result.errors or []
    causes = domain_errors(errors)
    headers = merge_headers(causes)
    if result.replayed == result.commands:
        headers["Idempotency-Replayed"] = "true"
    if not errors:
        return Answer(encode_body({"data": result.data}), headers=headers)
    body = encode_body({"errors": [error.formatted for error in errors], "data": result.data})
    statuses = {status_of(cause) for cause in causes} | ({400} if len(causes) < len(errors) else set())
    if len(errors) < result.commands or len(statuses) > 1:
        return Answer(body, headers=headers)
    return Answer(body, statuses.pop(), headers, refusal=_encode_errors(errors))


def _encode_errors(errors: list[GraphQLError]) -> bytes:
    formatted: list[Any] = [error.formatted for error in errors]
    return encode_body({"errors": formatted})


def encode_body(body: object) -> bytes:
    """JSON of a response, in which rows are JSON already (`msgspec.Raw`)."""
    return msgspec.json.encode(body)
