"""GraphQL errors: a domain error gets the problem of REST, and an error of graphql-core loses the value it quotes, which may be a name or a UPN."""

import re
from typing import Any

from graphql import EnumValueNode, GraphQLError

from api.http.problems import as_domain_error, make_problem
from domain.declare.errors import BadRequest, DomainError, Issue
from domain.read.staff_names import make_staff_issue, names_staff, refuse_comparison

_WITH_VALUE = re.compile(r"^(.*?)(?:[,.]? [Ff]ound: .*|(?<=found String) .*|(?<=value): .*|(?<=got invalid value) .*)$", re.DOTALL)


_WITH_CAUSE = re.compile(r", but encountered error '(.*)'(?:;.*)?$", re.DOTALL)


def strip_error(error: GraphQLError, at: str = "") -> GraphQLError:
    """An error of graphql-core without the value it quotes. It keeps its locations but not the document, so that it can be cached.

    `at` is the place of the literal that is wrong. `_add_problem` makes an issue of it.
    """
    named = _OF_NAME.search(error.message)
    if named is not None and names_staff(named[1] or named[3] or named[4], divides=named[2] == "Dimension"):
        staffed = GraphQLError(make_staff_issue("").message, path=error.path, extensions={"code": _STAFF, "at": at})
        staffed.locations = error.locations
        return staffed
    message = _WITH_VALUE.sub(lambda match: match[1].rstrip(" ,:") + ".", error.message)
    message = _WITH_CAUSE.sub(lambda match: f": it {match[1].rstrip('.')}.", message).replace("not to be None.", "not to be null.")
    if error.nodes and isinstance(error.nodes[0], EnumValueNode) and _OF_TEXT.match(message):
        message += " Write a text in double quotes."
    extensions = error.extensions or {"code": "graphql-invalid"}
    stripped = GraphQLError(message, path=error.path, extensions=extensions | {"at": at} if at else extensions)
    stripped.locations = error.locations
    return stripped


_STAFF = refuse_comparison(()).code
_OF_NAME = re.compile(
    r"Value '(\w+)' does not exist in '\w+(Dimension|SortField)' enum"
    r"|Expected value of type '\w+Where' not to include unknown field '(\w+)'|Unknown argument '(\w+)' on field"
)
"""The messages of graphql-core for a dimension, a filter or an order, and an argument that the schema has not."""
_OF_TEXT = re.compile("(String|ID) cannot represent")
_OF_VARIABLE = re.compile(r"Variable '\$(\w+)' has invalid value(?: at ([^:]+))?(?:: (.*)|\.)", re.DOTALL)


def _add_problem(error: GraphQLError, base_url: str) -> GraphQLError:
    """The error with its problem in `extensions`, which names the place of a variable in the body of the request."""
    extensions = {**(error.extensions or {})}
    if "problem" in extensions:
        return error
    issues: tuple[Issue, ...] = ()
    if extensions["code"] == _STAFF:
        at = extensions.pop("at")
        problem = make_problem(refuse_comparison([make_staff_issue(at)]), base_url)
        return _with_problem(error, extensions, problem)
    if (at := extensions.pop("at", None)) is not None:
        issues = (Issue(at, "wrong-type", error.message),)
    if (of_variable := _OF_VARIABLE.match(error.message)) is not None:
        path = "".join(f"/{index or name}" for name, index in _PATH.findall(of_variable[2] or ""))
        message = of_variable[3] or "The value does not have the type of the variable."
        issues = (Issue(f"/variables/{of_variable[1]}{path}", "wrong-type", message),)
    problem = make_problem(BadRequest(error.message, code=extensions["code"], issues=issues), base_url)
    return _with_problem(error, extensions, problem)


def _with_problem(error: GraphQLError, extensions: dict[str, Any], problem: Any) -> GraphQLError:
    described = GraphQLError(error.message, path=error.path, extensions={**extensions, "problem": problem})
    described.locations = error.locations
    return described


_PATH = re.compile(r"\.(\w+)|\[(\d+)\]")


def describe_error(error: Exception, base_url: str) -> GraphQLError:
    """The error of a response for an error of an operation. Its `original_error` is the domain error, if there is one.

    An error of graphql-core is a problem too, with status 400. An unforeseen error is logged, and the response says nothing of its cause.
    """
    cause = error.original_error if isinstance(error, GraphQLError) else error
    path = error.path if isinstance(error, GraphQLError) else None
    if isinstance(error, GraphQLError) and (cause is None or isinstance(cause, GraphQLError)):
        return _add_problem(strip_error(error), base_url)
    assert isinstance(cause, Exception)
    domain_error = as_domain_error(cause)
    extensions = {"code": domain_error.code, "problem": make_problem(domain_error, base_url)}
    return GraphQLError(domain_error.detail, path=path, extensions=extensions, original_error=domain_error)


def list_domain_errors(errors: list[GraphQLError]) -> list[DomainError]:
    """The domain errors among the errors of a result."""
    return [error.original_error for error in errors if isinstance(error.original_error, DomainError)]
