"""GraphQL errors: a domain error gets the problem of REST, and an error of graphql-core loses the value it quotes, which may be a name or a UPN."""

import re

from graphql import GraphQLError

from api.http.problems import as_domain_error, make_problem
from domain.declare.errors import DomainError

_WITH_VALUE = re.compile(r"^(.*?)(?:[,.]? [Ff]ound: .*|(?<=found String) .*|(?<=value): .*|(?<=got invalid value) .*)$", re.DOTALL)


def strip_error(error: GraphQLError) -> GraphQLError:
    """An error of graphql-core without the value it quotes. It keeps its locations but not the document, so that it can be cached."""
    message = _WITH_VALUE.sub(lambda match: match[1].rstrip(" ,:") + ".", error.message)
    stripped = GraphQLError(message, path=error.path, extensions=error.extensions or {"code": "graphql-invalid"})
    stripped.locations = error.locations
    return stripped


def describe_error(error: Exception, base_url: str) -> GraphQLError:
    """The error of a response for an error of an operation. Its `original_error` is the domain error, if there is one.

    An unforeseen error is logged, and the response says nothing of its cause.
    """
    cause = error.original_error if isinstance(error, GraphQLError) else error
    path = error.path if isinstance(error, GraphQLError) else None
    if isinstance(error, GraphQLError) and (cause is None or isinstance(cause, GraphQLError)):
        return strip_error(error)
    assert isinstance(cause, Exception)
    domain_error = as_domain_error(cause)
    extensions = {"code": domain_error.code, "problem": make_problem(domain_error, base_url)}
    return GraphQLError(domain_error.detail, path=path, extensions=extensions, original_error=domain_error)


def list_domain_errors(errors: list[GraphQLError]) -> list[DomainError]:
    """The domain errors among the errors of a result."""
    return [error.original_error for error in errors if isinstance(error.original_error, DomainError)]
