"""The operations of the OpenAPI document that are neither a resource's nor a command's."""

import inspect
from http import HTTPStatus

from api.rest import csv
from api.rest.aggregate_formats import FORMATS
from api.rest.aggregate_pictures import MAX_BARS, MAX_PANELS, MAX_WINDOWS
from api.rest.openapi import parameters
from api.rest.openapi.components import (
    CSV_CONTENT,
    OF_A_KEY,
    READING,
    SENDING,
    SVG_CONTENT,
    deprecate_response,
    make_body,
    make_operation,
    make_read_responses,
    make_response,
    refer_to_problems,
)
from api.rest.openapi.schemas import JsonObject, make_count, refer
from domain.aggregates import aggregate_rows, dimensions, explanation_query, query, transition_query
from domain.aggregates.explanation_rows import AggregateExplanation
from domain.aggregates.readiness import TrustReadiness
from domain.aggregates.transition_rows import TransitionPage
from domain.clients.me import Me
from domain.declare.scopes import Scope
from domain.jobs.job import MAX_ISSUES_PER_PAGE, Job
from domain.publishing.read_preview import PublicationPreview

SHAPE = """Of CSV alone. long (the default): a row per row; wide: a row per school and no pages, with a column per combination of the other dimensions \
and figure, such as `reading.expectedPercent` or `reading.sex=F.expectedPercent`; c suppressed, z not applicable, x not available."""

FORMAT = f"""csv is for spreadsheets; svg is a picture of all rows, without pages: bars, at most {MAX_BARS}, or where it is grouped by several windows \
their course, at most {MAX_PANELS} of {MAX_WINDOWS} windows. Its description has every figure in words, and `Link` (rel=alternate) leads to its table. \
`Accept: text/csv` and `Accept: image/svg+xml` mean the same."""
VIEW = """public: the response as a reader with aggregates:read at the same schools gets it, with the reason beside each suppressed row. It needs \
aggregates:internal at every school counted."""

GRAPHQL_RESPONSE = "application/graphql-response+json"
GRAPHQL = f"""\
The schema is available by introspection, and holds the same resources and commands.

A request that is refused before its document is read gets a problem, as in REST. Once a document was read, the response is GraphQL's, in the
media type that is accepted. As {GRAPHQL_RESPONSE}, which is also sent where there is no Accept header, it has a status: an operation of which nothing was
done has no `data`, and the status of its error. So it is for a mutation all of whose commands failed with one status; where some were carried out, or they
failed differently, it is 200 with `data` and `errors`. As application/json it is always 200. In both, the headers are those of REST: where anything may be
tried again, `Retry-After` says after how many seconds; `Idempotency-Replayed` is sent where every command's answer was stored from an earlier request."""
ICALENDAR_CONTENT = {"text/calendar": {"schema": {"type": "string"}}}
_REFUSED = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.NOT_ACCEPTABLE,
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    HTTPStatus.TOO_MANY_REQUESTS,
)
"""Statuses of a request that is refused before its document is read."""
_FAILED = (
    HTTPStatus.FORBIDDEN,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED,
    HTTPStatus.UNPROCESSABLE_ENTITY,
)
"""Statuses of an operation that failed."""
_RETRIED = ("Retry-After", "Idempotency-Replayed", "Markonce-Version")


def describe_aggregates() -> JsonObject:
    """GET /v1/aggregates."""
    either = "One of them; needed unless it is grouped by."
    dimension = {"type": "string", "enum": list(dimensions.DIMENSIONS)}
    group_by = parameters.make_names(
        "groupBy", query.GROUP_BY, dimension, minItems=1, maxItems=query.MAX_DIMENSIONS, uniqueItems=True
    )
    schools = {"type": "array", "items": {"type": "string"}, "maxItems": query.MAX_SCHOOLS}
    text = {"type": "string"}
    response = make_response("A page of groups, or a picture of all of them.", "AggregatePage", "Link")
    response["content"] |= CSV_CONTENT | SVG_CONTENT
    responses, condition = make_read_responses(response, is_versioned=True)
    make_query = parameters.make_query
    options = [
        *condition,
        group_by | {"required": True},
        make_query("window", f"A window's code or id. {either}", text),
        make_query("windows", query.WINDOWS, {"type": "array", "items": text, "maxItems": query.MAX_WINDOWS}),
        make_query("pool", query.POOL, {"enum": ["window"]}),
        make_query("subject", f"A subject's code. {either}", text),
        make_query("trust", "A trust's id or GIAS group UID: its members on the window's census date.", text),
        make_query("school", "A school's id, URN or LAESTAB; repeat for several.", schools),
        parameters.make_names("include", query.INCLUDE, {"type": "string", "enum": list(query.INCLUDED)}, uniqueItems=True),
        *(
            make_query(name, query.FILTER, {"type": "array", "items": {"enum": list(dimensions.list_values(name))}})
            for name in dimensions.FILTERS
        ),
        make_query("gap", query.GAP, text),
        make_query("changeFrom", query.CHANGE_FROM, text),
        make_query("view", VIEW, {"enum": list(query.VIEWS), "default": query.VIEWS[0]}),
        make_query("crosswalksOn", query.CROSSWALKS_ON, {"type": "string", "format": "date"}),
        make_query("asOf", query.AS_OF, {"type": "string", "format": "date"}),
        make_query("format", FORMAT, {"enum": list(FORMATS)}),
        make_query("bom", parameters.BOM, {"type": "boolean", "default": False}),
        make_query("shape", SHAPE, {"enum": list(csv.SHAPES)}),
        make_query("first", "How many rows.", make_count(query.MAX_ROWS, default=query.DEFAULT_ROWS)),
        make_query("after", "The endCursor of the page before.", text),
    ]
    doc = inspect.cleandoc(aggregate_rows.AggregateRow.__doc__ or "")
    scopes, statuses = (
        [Scope.AGGREGATES_READ, Scope.AGGREGATES_INTERNAL],
        (*READING, HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY),
    )
    return make_operation("listAggregates", "Results pooled over pupils", scopes, responses, statuses, options, doc=doc)


def describe_readiness() -> JsonObject:
    """GET /v1/trusts/{id}/readiness."""
    doc, statuses = inspect.cleandoc(TrustReadiness.__doc__ or ""), {*READING, HTTPStatus.NOT_FOUND}
    summary = "What stops each school from being aggregated, and who can mend it"
    responses = {200: make_response(doc, "TrustReadiness")}
    return make_operation(
        "getReadiness", summary, [Scope.AGGREGATES_INTERNAL], responses, statuses, [parameters.refer("Id")], doc=doc
    )


def describe_publication_preview() -> JsonObject:
    """GET /v1/windows/{id}/publication-preview."""
    doc, statuses = inspect.cleandoc(PublicationPreview.__doc__ or ""), {*READING, HTTPStatus.NOT_FOUND}
    response = make_response("How far it is, and every group of the edition.", "PublicationPreview")
    response["content"] |= CSV_CONTENT
    options = [
        parameters.refer("Id"),
        parameters.make_query("format", "csv is for spreadsheets. `Accept: text/csv` means the same.", {"enum": ["json", "csv"]}),
        parameters.make_query("bom", parameters.BOM, {"type": "boolean", "default": False}),
    ]
    summary = "What an edition of the window would hide, and why"
    return make_operation(
        "getPublicationPreview", summary, [Scope.AGGREGATES_INTERNAL], {200: response}, statuses, options, doc=doc
    )


def describe_explanation() -> JsonObject:
    """GET /v1/aggregates/explain."""
    text, make_query = {"type": "string"}, parameters.make_query
    schools = {"type": "array", "items": text, "maxItems": query.MAX_SCHOOLS}
    picks = [
        make_query(name, f"Only pupils whose {name} is this.", {"enum": list(dimensions.list_values(name))})
        for name in dimensions.FILTERS
    ]
    options = [
        make_query("window", "The window's code or id.", text) | {"required": True},
        make_query("subject", "The subject's code.", text) | {"required": True},
        make_query("trust", "A trust's id or GIAS group UID: its members on the window's census date.", text),
        make_query("school", "A school's id, URN or LAESTAB; repeat for several.", schools),
        *picks,
        make_query("crosswalksOn", query.CROSSWALKS_ON, {"type": "string", "format": "date"}),
        make_query("first", "How many pupils.", make_count(explanation_query.MAX_PUPILS, default=explanation_query.DEFAULT_PUPILS)),
        make_query("after", "The endCursor of the page before.", text),
    ]
    doc = inspect.cleandoc(AggregateExplanation.__doc__ or "")
    response = make_response("The figure, and what it came from.", "AggregateExplanation", "Link")
    summary, statuses = "Where one figure comes from", (*READING, HTTPStatus.UNPROCESSABLE_ENTITY)
    return make_operation("explainAggregate", summary, [Scope.AGGREGATES_INTERNAL], {200: response}, statuses, options, doc=doc)


def describe_transitions() -> JsonObject:
    """GET /v1/aggregates/transitions."""
    text, make_query = {"type": "string"}, parameters.make_query
    day = {"type": "string", "format": "date"}
    schools = {"type": "array", "items": text, "maxItems": query.MAX_SCHOOLS}
    options = [
        make_query("from", "The earlier window's code or id.", text) | {"required": True},
        make_query("to", "The later window's code or id.", text) | {"required": True},
        make_query("subject", "A subject's code, of one that is judged.", text) | {"required": True},
        make_query("aspect", "An aspect's code.", text | {"default": "main"}),
        make_query("trust", "A trust's id or GIAS group UID; needed where several within reach have such windows.", text),
        make_query("school", "A school's id, URN or LAESTAB; repeat for several.", schools),
        make_query("groupBy", "By school; without it, all schools are pooled.", {"enum": ["school"]}),
        make_query("change", transition_query.CHANGE, {"enum": list(transition_query.CHANGES)}),
        make_query("crosswalksOn", transition_query.CROSSWALKS_ON, day),
        make_query("asOf", transition_query.AS_OF, day),
        make_query("format", "csv is for spreadsheets. `Accept: text/csv` means the same.", {"enum": ["json", "csv"]}),
        make_query("bom", parameters.BOM, {"type": "boolean", "default": False}),
        make_query("first", "How many rows.", make_count(query.MAX_ROWS, default=query.DEFAULT_ROWS)),
        make_query("after", "The endCursor of the page before.", text),
    ]
    doc = inspect.cleandoc(TransitionPage.__doc__ or "")
    response = make_response("The matrix, and who is left out of it.", "TransitionPage", "Link")
    response["content"] |= CSV_CONTENT
    summary, statuses = "How pupils moved between two windows", (*READING, HTTPStatus.UNPROCESSABLE_ENTITY)
    return make_operation("listTransitions", summary, [Scope.AGGREGATES_INTERNAL], {200: response}, statuses, options, doc=doc)


def describe_receipt() -> JsonObject:
    """GET /v1/receipts/{key}, which has another name now."""
    operation = describe_stored_answers("getKeptAnswers")
    responses = {status: deprecate_response(response) for status, response in operation["responses"].items()}
    return operation | {"deprecated": True, "responses": responses}


def describe_stored_answers(name: str = "getIdempotencyKey") -> JsonObject:
    """GET /v1/idempotency-keys/{key}."""
    doc = "What the client was answered; 404 where no request with the key ended well within 7 days."
    summary = "What became of a request whose answer was lost"
    responses, options = {200: make_response(doc, "KeptAnswers")}, [parameters.refer("Key")]
    return make_operation(name, summary, [], responses, OF_A_KEY, options, doc=doc, tag="Assessment")


def describe_me() -> JsonObject:
    """GET /v1/me."""
    doc, statuses = inspect.cleandoc(Me.__doc__ or ""), {*READING} - {HTTPStatus.FORBIDDEN}
    summary = "What this client may do; needs no scope"
    return make_operation("getMe", summary, [], {200: make_response(doc, "Me")}, statuses, [], doc=doc, tag="Authentication")


def describe_job() -> JsonObject:
    """GET /v1/jobs/{id}."""
    doc = inspect.cleandoc(Job.__doc__ or "")
    options = [
        parameters.refer("Id"),
        parameters.make_query(
            "first", "How many issues and warnings.", make_count(MAX_ISSUES_PER_PAGE, default=MAX_ISSUES_PER_PAGE)
        ),
        parameters.make_query("after", "The endCursor of the page before.", {"type": "string"}),
    ]
    summary, statuses = (
        "What became of a stream of rows; the client's own alone",
        {*READING, HTTPStatus.NOT_FOUND} - {HTTPStatus.FORBIDDEN},
    )
    return make_operation("getJob", summary, [], {200: make_response(doc, "Job")}, statuses, options, doc=doc, tag="Assessment")


def describe_trust_calendar() -> JsonObject:
    """GET /v1/trusts/{id}/calendar."""
    return _describe_calendar("trust")


def describe_school_calendar() -> JsonObject:
    """GET /v1/schools/{id}/calendar."""
    return _describe_calendar("school")


def _describe_calendar(noun: str) -> JsonObject:
    doc = "When windows open and close, and their census days; nothing else. Accept: text/calendar or format=ics gives iCalendar (RFC 5545)."
    response = make_response("The windows in the order in which they open.", "Calendar")
    response["content"] |= ICALENDAR_CONTENT
    responses, condition = make_read_responses(response, is_versioned=True)
    format_ = parameters.make_query("format", "ics is iCalendar.", {"enum": ["json", "ics"]})
    summary, statuses = f"The calendar of one {noun}", (*READING, HTTPStatus.NOT_FOUND)
    name = f"get{noun.title()}Calendar"
    options = [parameters.refer("Id"), *condition, format_]
    return make_operation(name, summary, [Scope.WINDOWS_READ], responses, statuses, options, doc=doc)


def describe_trust_collection_summary() -> JsonObject:
    """GET /v1/trusts/{id}/collection-summary."""
    return _describe_collection_summary("trust")


def describe_school_collection_summary() -> JsonObject:
    """GET /v1/schools/{id}/collection-summary."""
    return _describe_collection_summary("school")


def _describe_collection_summary(noun: str) -> JsonObject:
    doc = (
        "For governors and trustees, to print: what is collected, what it costs, who reads it, what may be stopped, and the reasons of windows beyond"
        " the workload budget. It says nothing of a single child or member of staff."
    )
    response: JsonObject = make_response("The page, of one sheet of A4.", "Collection")
    response["content"] = {"text/html": {"schema": {"type": "string"}}}
    summary, statuses = f"What a {noun} collects, on one page", {*READING, HTTPStatus.NOT_FOUND}
    name = f"get{noun.title()}CollectionSummary"
    return make_operation(name, summary, [Scope.COLLECTIONS_READ], {200: response}, statuses, [parameters.refer("Id")], doc=doc)


def describe_linked_calendar() -> JsonObject:
    """GET /v1/calendars/{secret}."""
    doc = "For calendar programs, which send no token. The link is made by POST /v1/trusts/{id}/calendar-links or that of a school."
    response = make_response("The windows, their dates and census days.", "Calendar")
    response["content"] = ICALENDAR_CONTENT
    responses, condition = make_read_responses(response, is_versioned=True)
    secret = {
        "name": "secret",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
        "description": "The secret of a link.",
    }
    statuses = {*READING, HTTPStatus.NOT_FOUND} - {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS}
    operation = make_operation(
        "getLinkedCalendar",
        "A calendar by its secret link",
        [],
        responses,
        statuses,
        [secret, *condition],
        doc=doc,
        tag="Assessment",
    )
    return operation | {"security": []}


def describe_import() -> JsonObject:
    """POST /v1/imports/gias."""
    body = {"required": True, "content": {"multipart/form-data": {"schema": refer("GiasFiles")}}}
    response = make_response("What became of the rows; rows and files that could not be read are among the issues.", "ImportReport")
    summary = "Import the register that GIAS publishes"
    statuses = (*SENDING, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.UNPROCESSABLE_ENTITY)
    doc = "Trusts, schools and memberships as they were on the day of the extract; what is unchanged is not written again."
    return make_operation("importGias", summary, [Scope.IMPORTS_WRITE], {200: response}, statuses, [], body, doc)


def describe_token() -> JsonObject:
    """POST /oauth/token."""
    content = {"application/x-www-form-urlencoded": {"schema": refer("TokenRequest")}}
    doc = "Refused, and why (RFC 6749, section 5.2)."
    plain = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    responses = {200: make_response("The token.", "Token")}
    responses |= {status: make_response(doc, "TokenRefusal") for status in plain}
    responses[HTTPStatus.UNAUTHORIZED] = make_response(
        f"{doc} WWW-Authenticate is sent where the client used HTTP Basic.", "TokenRefusal", "WWW-Authenticate"
    )
    responses[HTTPStatus.TOO_MANY_REQUESTS] = make_response(
        "Too many requests, or too many failed ones from this address.", "TokenRefusal", "Retry-After"
    )
    failures = (HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
    return {
        "operationId": "issueToken",
        "summary": "An access token by client_credentials (RFC 6749, section 4.4)",
        "description": "It is valid for ten minutes and carries every scope of the client's grants, or those that were requested.",
        "tags": ["Authentication"],
        "security": [{"client": []}, {}],
        "requestBody": {"required": True, "content": content},
        "responses": {str(int(status)): response for status, response in responses.items()} | refer_to_problems(failures),
    }


def describe_graphql() -> JsonObject:
    """POST /graphql. A request is refused before its document is read, or its operation fails; 400, 500 and 503 are both."""
    both = (HTTPStatus.BAD_REQUEST, HTTPStatus.INTERNAL_SERVER_ERROR, HTTPStatus.SERVICE_UNAVAILABLE)
    responses = {200: make_response("The response, with `errors` where something could not be done.", "GraphqlAnswer", *_RETRIED)}
    responses[200]["content"][GRAPHQL_RESPONSE] = {"schema": refer("GraphqlAnswer")}
    for status in (*both, *_FAILED):
        headers = _RETRIED[: status in (HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE)]
        response = responses[status] = make_response("Nothing was done; `errors` says why.", "GraphqlAnswer", *headers)
        response["content"] = {GRAPHQL_RESPONSE: {"schema": refer("GraphqlAnswer")}}
        if status in both:
            response["content"]["application/problem+json"] = {"schema": refer("Problem")}
    return {
        "operationId": "graphql",
        "summary": "One GraphQL operation",
        "description": GRAPHQL,
        "tags": ["GraphQL"],
        "security": [{"oauth2": []}],
        "requestBody": make_body("GraphqlRequest"),
        "responses": {str(int(status)): response for status, response in sorted(responses.items())} | refer_to_problems(_REFUSED),
    }
