"""GraphQL responses: the errors of a document or of the domain as they are told, and status and headers as in REST."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
from graphql import GraphQLError

from api.problems import headers_of, merge_headers, problem, status_of
from domain.engine.errors import DomainError


@dataclass(frozen=True)
class Answer:
    """A response: its body and headers, and the status it has where the media type lets it have one (GraphQL over HTTP, section 6.4).

    `refusal` stands for the body there, where nothing was done: a response with `data` must be a 2xx.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    refusal: bytes | None = None


_WITH_VALUE = re.compile(r"^(.*?)(?:[,.]? [Ff]ound: .*|(?<=found String) .*|(?<=value): .*|(?<=got invalid value) .*)$", re.DOTALL)


def told(error: GraphQLError) -> dict[str, Any]:
    """An error of graphql-core's as it is answered: with its place, and without the value, which may be a name or a UPN."""
    formatted = cast(dict[str, Any], error.formatted)
    message = _WITH_VALUE.sub(lambda match: match[1].rstrip(" ,:") + ".", error.message)
    extensions = formatted.get("extensions") or {"code": "graphql-invalid"}
    return {**formatted, "message": message, "extensions": extensions}


def refused(errors: list[dict[str, Any]], status: int = 400) -> Answer:
    """The answer to a document that cannot be executed."""
    return Answer(msgspec.json.encode({"errors": errors}), status)


def failed(error: DomainError, base_url: str, path: list[str | int] | None = None) -> Answer:
    """The answer to an operation of which nothing was done."""
    return Answer(msgspec.json.encode({"errors": [describe(error, base_url, path)]}), status_of(error), headers_of(error))


def describe(error: DomainError, base_url: str, path: list[str | int] | None = None) -> dict[str, Any]:
    """An error of the domain as it is answered, with the problem object that REST answers."""
    told: dict[str, Any] = {"message": error.detail, "extensions": {"code": error.code, "problem": problem(error, base_url)}}
    return {**told, "path": path} if path else told


@dataclass
class Outcomes:
    """What became of the commands of an operation: what they answered, by response name, the errors as they are told and as they are."""

    data: dict[str, Any] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    errors: list[DomainError] = field(default_factory=list)
    commands: int = 0
    replayed: int = 0

    def fail(self, key: str, error: DomainError, formatted: dict[str, Any]) -> None:
        """Notes that the command of this response name failed."""
        self.errors.append(error)
        self.told.append({**formatted, "path": [key]})

    def respond(self) -> Answer:
        """200 with whatever was done; where every command failed with one status, an answer of this status. The headers are REST's."""
        headers = merge_headers(self.errors)
        if self.commands and self.replayed == self.commands:
            headers["Idempotency-Replayed"] = "true"
        if not self.told:
            return Answer(msgspec.json.encode({"data": self.data}), headers=headers)
        body = msgspec.json.encode({"errors": self.told, "data": self.data})
        statuses = {status_of(error) for error in self.errors}
        if len(self.errors) < self.commands or len(statuses) > 1:
            return Answer(body, headers=headers)
        return Answer(body, statuses.pop(), headers, refusal=msgspec.json.encode({"errors": self.told}))
