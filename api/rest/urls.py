"""Every URL of the REST interface: one list of endpoints, from which the router, the OpenAPI document and the tests are made."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from api.http.body import Handler
from api.http.deprecation import deprecate
from api.rest.calendars import get_calendar, get_linked_calendar
from api.rest.collection_summaries import get_collection_summary
from api.rest.functions import (
    get_aggregates,
    get_explanation,
    get_me,
    get_publication_preview,
    get_readiness,
    get_stored_answers,
    get_transitions,
    import_register,
)
from api.rest.jobs import get_job
from api.rest.read import link_handler, list_handler, lookup_handler, row_handler
from api.rest.write import command_handler
from domain import COMMANDS, RESOURCES
from domain.declare.resource import Resource
from domain.write.command import Command


@dataclass(frozen=True)
class ReadList:
    """A list of a resource."""

    resource: Resource


@dataclass(frozen=True)
class ReadRow:
    """One row of a resource, by its id."""

    resource: Resource


@dataclass(frozen=True)
class ReadLinkedList:
    """The list that a link of one row leads to."""

    resource: Resource
    link: str


@dataclass(frozen=True)
class ReadLookup:
    """A list of a resource, with the filters in a body."""

    resource: Resource


class Function(Enum):
    """An operation that is neither a resource's nor a command's."""

    AGGREGATES = auto()
    IDEMPOTENCY_KEY = auto()
    RECEIPT_OF_KEY = auto()
    ME = auto()
    IMPORT = auto()
    JOB = auto()
    READINESS = auto()
    PUBLICATION_PREVIEW = auto()
    TRANSITIONS = auto()
    AGGREGATE_EXPLANATION = auto()
    TRUST_CALENDAR = auto()
    SCHOOL_CALENDAR = auto()
    LINKED_CALENDAR = auto()
    TRUST_COLLECTION_SUMMARY = auto()
    SCHOOL_COLLECTION_SUMMARY = auto()


RestOperation: TypeAlias = ReadList | ReadRow | ReadLinkedList | ReadLookup | Function | Command


@dataclass(frozen=True)
class RestEndpoint:
    """A method and a path, what it does, and the handler that does it."""

    method: str
    path: str
    operation: RestOperation
    handler: Handler


@cache
def list_endpoints() -> tuple[RestEndpoint, ...]:
    """Every endpoint, in the order of the OpenAPI document."""
    return tuple(_make_endpoints())


def _make_endpoints() -> Iterator[RestEndpoint]:
    for resource in RESOURCES.values():
        url = f"/v1/{resource.path}"
        yield RestEndpoint("GET", url, ReadList(resource), list_handler(resource))
        if resource.has_id:
            yield RestEndpoint("GET", f"{url}/{{id}}", ReadRow(resource), row_handler(resource))
            for name, link in resource.links.items():
                if link.many:
                    handler = link_handler(resource, name)
                    yield RestEndpoint("GET", f"{url}/{{id}}/{name}", ReadLinkedList(resource, name), handler)
        if resource.has_lookup:
            yield RestEndpoint("POST", f"{url}/lookup", ReadLookup(resource), lookup_handler(resource))
    yield RestEndpoint("GET", "/v1/aggregates", Function.AGGREGATES, get_aggregates)
    yield RestEndpoint("GET", "/v1/aggregates/transitions", Function.TRANSITIONS, get_transitions)
    yield RestEndpoint("GET", "/v1/aggregates/explain", Function.AGGREGATE_EXPLANATION, get_explanation)
    yield RestEndpoint("GET", "/v1/trusts/{id}/readiness", Function.READINESS, get_readiness)
    preview = "/v1/windows/{id}/publication-preview"
    yield RestEndpoint("GET", preview, Function.PUBLICATION_PREVIEW, get_publication_preview)
    yield RestEndpoint("GET", "/v1/idempotency-keys/{key:path}", Function.IDEMPOTENCY_KEY, get_stored_answers)
    renamed = deprecate(get_stored_answers, "/v1/receipts/", "/v1/idempotency-keys/")
    yield RestEndpoint("GET", "/v1/receipts/{key:path}", Function.RECEIPT_OF_KEY, renamed)
    yield RestEndpoint("GET", "/v1/me", Function.ME, get_me)
    yield RestEndpoint("GET", "/v1/jobs/{id}", Function.JOB, get_job)
    yield RestEndpoint("GET", "/v1/trusts/{id}/calendar", Function.TRUST_CALENDAR, get_calendar("trust"))
    yield RestEndpoint("GET", "/v1/schools/{id}/calendar", Function.SCHOOL_CALENDAR, get_calendar("school"))
    summaries = {"trust": Function.TRUST_COLLECTION_SUMMARY, "school": Function.SCHOOL_COLLECTION_SUMMARY}
    for noun, function in summaries.items():
        yield RestEndpoint("GET", f"/v1/{noun}s/{{id}}/collection-summary", function, get_collection_summary(noun))
    yield RestEndpoint("GET", "/v1/calendars/{secret}", Function.LINKED_CALENDAR, get_linked_calendar)
    yield RestEndpoint("POST", "/v1/imports/gias", Function.IMPORT, import_register)
    for command in COMMANDS.values():
        yield RestEndpoint(*url_of(command), command, command_handler(command))


def url_of(command: Command) -> tuple[str, str]:
    """The method and path of a command, by its name.

    record_pupils and create_window are a POST to the list of the resource, update_pupil and delete_window a PATCH and a DELETE of one row. Any other
    verb, such as that of open_window, is a POST to a URL below the row. create_window_discount is a POST to the discounts of one window,
    and create_scheme_version to the versions of one scheme; release_pupil_upn is a POST to release-upn below one pupil,
    and record_school_references one to the references of one school.
    """
    verb, noun = command.name.split("_", 1)
    paths = _list_paths()
    owner, _, below = noun.partition("_")
    if verb == "create" and owner in paths and below in paths:
        return "POST", f"/v1/{paths[owner]}/{{id}}/{paths[below]}"
    if verb == "create" and owner in paths and below:
        return "POST", f"/v1/{paths[owner]}/{{id}}/{below}s"
    path = paths.get(noun)
    if path is None and below and owner in paths:
        return "POST", f"/v1/{paths[owner]}/{{id}}/{below if verb == 'record' else f'{verb}-{below}'}"
    if path is None:
        raise ValueError(
            f"The command {command.name} is named as no resource: after its verb stands the name or the plural of one."
        )
    match verb:
        case "record" | "create":
            return "POST", f"/v1/{path}"
        case "update":
            return "PATCH", f"/v1/{path}/{{id}}"
        case "delete":
            return "DELETE", f"/v1/{path}/{{id}}"
    return "POST", f"/v1/{path}/{{id}}/{command.path or verb}"


@cache
def _list_paths() -> dict[str, str]:
    """The path of each resource, by its name and its plural in snake case."""
    return {_make_snake(name): resource.path for resource in RESOURCES.values() for name in (resource.name, resource.plural)}


def _make_snake(name: str) -> str:
    """The name in snake case: plannedRoll is planned_roll."""
    return re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", name)


@cache
def _list_sent_again() -> frozenset[str]:
    """The lists whose rows are changed by sending them again, since they have neither PATCH nor DELETE."""
    recorded = {url_of(command)[1] for command in COMMANDS.values() if command.name.startswith("record_")}
    changed = {
        url_of(command)[1].removesuffix("/{id}") for command in COMMANDS.values() if command.name.startswith(("update_", "delete_"))
    }
    return frozenset(recorded - changed)


def find_resending_path(path: str) -> str | None:
    """The list to which the row of this path is sent again to change it; None for any other path."""
    above, _, row_id = path.rpartition("/")
    return above if row_id and above in _list_sent_again() else None


class FixedRoute(Route):
    """The route of a path without parameters. It answers a method that it does not have by a 405, where Starlette's would leave the request to
    a later route whose parameter matches the path: `lookup` is no id of a pupil.
    """

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the path is that of the route. `handle` raises the 405."""
        match, child_scope = super().matches(scope)
        return (Match.FULL if match is Match.PARTIAL else match), child_scope


@cache
def make_routes() -> tuple[Route, ...]:
    """One route for each path, so that a 405 lists every method of the path. Paths without parameters are tried first."""
    handlers: dict[str, dict[str, Handler]] = {}
    for endpoint in list_endpoints():
        handlers.setdefault(endpoint.path, {})[endpoint.method] = endpoint.handler
    paths = sorted(handlers, key=lambda path: "{" in path)
    kinds = {path: Route if "{" in path else FixedRoute for path in paths}
    return tuple(kinds[path](path, _dispatch(handlers[path]), methods=list(handlers[path])) for path in paths)


def _dispatch(handlers: dict[str, Handler]) -> Handler:
    """The handler of all methods of a path. HEAD is answered as GET."""

    async def handle(request: Request) -> Response:
        return await handlers["GET" if request.method == "HEAD" else request.method](request)

    return handle
