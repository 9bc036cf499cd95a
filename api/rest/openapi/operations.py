"""The operations of the OpenAPI document: one for each endpoint in urls.py, and those of the token endpoint and GraphQL."""

from http import HTTPStatus

from api.http.problems import STATUS
from api.rest.openapi import parameters
from api.rest.openapi.components import (
    CSV_CONTENT,
    READING,
    SENDING,
    WRITING,
    make_body,
    make_operation,
    make_read_responses,
    make_response,
)
from api.rest.openapi.functions import (
    describe_aggregates,
    describe_explanation,
    describe_graphql,
    describe_import,
    describe_job,
    describe_linked_calendar,
    describe_me,
    describe_publication_preview,
    describe_readiness,
    describe_receipt,
    describe_school_calendar,
    describe_school_collection_summary,
    describe_stored_answers,
    describe_token,
    describe_transitions,
    describe_trust_calendar,
    describe_trust_collection_summary,
)
from api.rest.openapi.schemas import JsonObject
from api.rest.openapi.streams import ACCEPTED, describe_head_parameters, describe_stream_content
from api.rest.urls import Function, ReadLinkedList, ReadList, ReadLookup, ReadRow, RestEndpoint, list_endpoints, url_of
from api.rest.write import MERGE_PATCH, success_status
from domain import RESOURCES
from domain.declare.resource import Resource
from domain.write.command import Command

_FUNCTIONS = {
    Function.AGGREGATES: describe_aggregates,
    Function.READINESS: describe_readiness,
    Function.PUBLICATION_PREVIEW: describe_publication_preview,
    Function.TRANSITIONS: describe_transitions,
    Function.AGGREGATE_EXPLANATION: describe_explanation,
    Function.IDEMPOTENCY_KEY: describe_stored_answers,
    Function.RECEIPT_OF_KEY: describe_receipt,
    Function.ME: describe_me,
    Function.IMPORT: describe_import,
    Function.JOB: describe_job,
    Function.TRUST_CALENDAR: describe_trust_calendar,
    Function.SCHOOL_CALENDAR: describe_school_calendar,
    Function.LINKED_CALENDAR: describe_linked_calendar,
    Function.TRUST_COLLECTION_SUMMARY: describe_trust_collection_summary,
    Function.SCHOOL_COLLECTION_SUMMARY: describe_school_collection_summary,
}


def list_paths() -> dict[str, JsonObject]:
    """The operations of each path, by method."""
    paths: dict[str, JsonObject] = {}
    for endpoint in list_endpoints():
        paths.setdefault(endpoint.path.replace(":path", ""), {})[endpoint.method.lower()] = _describe(endpoint)
    return {**paths, "/oauth/token": {"post": describe_token()}, "/graphql": {"post": describe_graphql()}}


def _describe(endpoint: RestEndpoint) -> JsonObject:
    match endpoint.operation:
        case ReadList(resource):
            return _describe_list(resource)
        case ReadRow(resource):
            return _describe_row(resource)
        case ReadLinkedList(resource, name):
            return _describe_linked_list(resource, name)
        case ReadLookup(resource):
            return _describe_lookup(resource)
        case Command() as command:
            return _describe_command(command)
        case Function() as function:
            return _FUNCTIONS[function]()


def has_body(command: Command) -> bool:
    """Whether a command has a body. The URL of any other command says everything."""
    method, path = url_of(command)
    return method == "PATCH" or "{id}" not in path or command.is_action


def _describe_list(resource: Resource) -> JsonObject:
    responses, condition = make_read_responses(_make_list_response(resource), resource.versioned)
    operation, summary = f"list{_capitalise(resource.plural)}", f"List {resource.plural} within reach"
    options = [*condition, *parameters.make_arguments(resource), *parameters.list_for_list(resource)]
    statuses = (*READING, *_list_unknown(resource))
    return make_operation(operation, summary, [resource.scope], responses, statuses, options, doc=resource.doc)


def _describe_linked_list(resource: Resource, name: str) -> JsonObject:
    link = resource.links[name]
    target = RESOURCES[link.target]
    arguments = parameters.make_arguments(target, link)
    responses, condition = make_read_responses(_make_list_response(target, link.doc), resource.versioned and target.versioned)
    options = [parameters.refer("Id"), *condition, *arguments, *parameters.list_for_list(target, link)]
    operation = f"list{_capitalise(name)}Of{resource.type_name}"
    summary = f"List {name} of one {resource.name}"
    statuses = (*READING, *_list_missing(resource), *_list_unknown(target))
    return make_operation(operation, summary, [target.scope], responses, statuses, options, doc=link.doc)


def _capitalise(name: str) -> str:
    return name[0].upper() + name[1:]


def _make_list_response(resource: Resource, doc: str = "") -> JsonObject:
    response = make_response(doc or resource.doc, f"{resource.type_name}Page", "Link")
    response["content"] |= CSV_CONTENT
    return response


def _describe_row(resource: Resource) -> JsonObject:
    responses, condition = make_read_responses(make_response(resource.doc, resource.type_name), resource.versioned)
    options = [parameters.refer("Id"), *condition, *parameters.list_for_row(resource)]
    operation, summary, statuses = f"get{resource.type_name}", f"Get one {resource.name}", (*READING, *_list_missing(resource))
    return make_operation(operation, summary, [resource.scope], responses, statuses, options, doc=resource.doc)


def _describe_lookup(resource: Resource) -> JsonObject:
    summary = f"List {resource.plural} by what must not be in a URL"
    responses = {200: make_response(resource.doc, f"{resource.type_name}Page")}
    body = make_body(f"{resource.type_name}Lookup")
    statuses = (*SENDING, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, *_list_unknown(resource))
    operation = f"lookup{resource.plural.capitalize()}"
    return make_operation(operation, summary, [resource.scope], responses, statuses, [], body, resource.doc)


def _list_missing(resource: Resource) -> tuple[HTTPStatus, ...]:
    """The statuses of a row that is not found: 410 where its id is that of a pupil, or begins with it."""
    is_of_pupil = resource.name == "pupil" or (resource.parse_key is not None and "pupil_id" in resource.order)
    return (HTTPStatus.NOT_FOUND, HTTPStatus.GONE) if is_of_pupil else (HTTPStatus.NOT_FOUND,)


def _list_unknown(resource: Resource) -> tuple[HTTPStatus, ...]:
    """The status of a list that is filtered by a code which nothing within reach has."""
    is_coded = any(field.codes is not None for field in resource.fields.values())
    return (HTTPStatus.UNPROCESSABLE_ENTITY,) if is_coded else ()


def _describe_command(command: Command) -> JsonObject:
    """A command that records a batch takes Prefer; one that changes a row takes If-Match."""
    method, path = url_of(command)
    has_id, is_batch, is_change = "{id}" in path, command.entries is not None, command.is_single_row
    names = ["Id"] * has_id + ["IfMatch"] * is_change + ["IdempotencyKey", "DryRun"] + ["Prefer"] * is_batch
    headers = ["Idempotency-Replayed", "Markonce-Version", *["Preference-Applied"] * is_batch, *["ETag"] * (method == "PATCH")]
    response = make_response(command.doc, command.output.__name__, *headers)
    status = success_status(command)
    if status == 204:
        del response["content"]
    responses = {200: make_response("What a dry run would have done.", command.output.__name__), status: response}
    statuses = {*WRITING, *(STATUS[kind] for kind in command.fails)}
    statuses |= {HTTPStatus.UNSUPPORTED_MEDIA_TYPE} if has_body(command) else set()
    statuses |= {HTTPStatus.PRECONDITION_REQUIRED} if is_change else set()
    statuses -= set() if has_id else {HTTPStatus.NOT_FOUND}  # what the body names and does not exist is an issue of the body
    body = make_body(command.input.__name__, *MERGE_PATCH[: method == "PATCH"]) if has_body(command) else None
    if body is not None and command.is_action and not command.requires_fields:
        body["required"] = False
    summary, options = command.doc.split(". ")[0].rstrip("."), [parameters.refer(name) for name in names]
    if body is not None and (streams := describe_stream_content(command)):
        body["content"] |= streams
        responses[HTTPStatus.ACCEPTED] = make_response(
            ACCEPTED, "Job", "Idempotency-Replayed", "Preference-Applied", "Location", "Retry-After"
        )
        statuses |= {HTTPStatus.INSUFFICIENT_STORAGE}
    options += describe_head_parameters(command)
    return make_operation(command.operation, summary, [command.scope], responses, statuses, options, body, command.doc)
