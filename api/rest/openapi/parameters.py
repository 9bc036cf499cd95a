"""The parameters of the OpenAPI document: those of each resource's rows and lists, and those of any operation. Operations refer to them by name."""

from typing import Any

from api.rest.field_tree import MAX_DEPTH
from api.rest.openapi.schemas import (
    MAX_ID,
    SCALARS,
    JsonObject,
    describe_comparison,
    make_array,
    make_count,
    make_field_path,
    make_filter,
    make_link_path,
)
from api.rest.openapi.schemas import (
    refer as refer_to_schema,
)
from domain import RESOURCES
from domain.declare.ranges import Comparison
from domain.declare.resource import Field, Filter, Link, Resource
from domain.declare.vocabulary import list_words
from domain.read.query import DEFAULT_FIRST, MAX_FIRST, MAX_NESTED_FIRST

BOM = "Whether CSV begins with a byte order mark, by which some spreadsheets know UTF-8."


def make_query(name: str, doc: str, schema: JsonObject) -> JsonObject:
    """A parameter of the query string."""
    return {"name": name, "in": "query", "description": doc, "schema": schema}


def make_names(name: str, doc: str, item: JsonObject, **limits: Any) -> JsonObject:
    """A parameter that is a list of names, separated by commas."""
    return make_query(name, doc, make_array(item) | limits) | {"style": "form", "explode": False}


def _make_filters(name: str, field: Field) -> list[JsonObject]:
    """The filter of a field, which may be repeated, and its comparisons (`mark.gte`)."""
    item = SCALARS[field.kind].get("items") or make_filter(field)
    words = "" if field.vocabulary is None or not field.vocabulary.words else f" {list_words(field.vocabulary.words)}"
    unknown = " One that nothing within reach has is an error (422)." if field.codes is not None else ""
    doc = f"{field.doc}{words}{unknown} Repeated: any of them."
    equal = make_query(name, doc, make_array(item)) | {"style": "form", "explode": True}
    if not field.comparable:
        return [equal]
    return [equal, *(make_query(f"{name}.{by}", describe_comparison(name, by), SCALARS[field.kind]) for by in Comparison)]


def make_choices(resource: Resource, link: Link | None = None, path: str = "") -> list[JsonObject]:
    """The choices of a list; `path` is that of a nested list, with its dot."""
    return [
        make_query(path + name, choice.doc, {"enum": [*choice.conditions]}) for name, choice in resource.list_choices(link).items()
    ]


def make_arguments(resource: Resource, link: Link | None = None, path: str = "") -> list[JsonObject]:
    """The arguments of a list; `path` is that of a nested list, with its dot."""
    return [
        make_query(path + name, argument.doc, SCALARS[argument.kind]) for name, argument in resource.list_arguments(link).items()
    ]


def _make_row_parameters(resource: Resource) -> list[JsonObject]:
    parameters = [make_names("fields", "The fields wanted; of linked rows, with dots.", make_field_path(resource))]
    if resource.links:
        parameters.append(make_names("include", f"The links wanted, up to {MAX_DEPTH} deep with dots.", make_link_path(resource)))
    for name, link in resource.links.items():
        if link.many:
            doc = f"How many {name} a row, where include brings them (default {DEFAULT_FIRST})."
            parameters.append(make_query(f"{name}.first", doc, make_count(MAX_NESTED_FIRST)))
            counted = f"Whether the page of {name} of each row tells how many there are on all pages."
            parameters.append(make_query(f"{name}.totalCount", counted, {"type": "boolean"}))
            parameters += make_arguments(RESOURCES[link.target], link, f"{name}.")
            parameters += make_choices(RESOURCES[link.target], link, f"{name}.")
    return parameters


def _make_list_parameters(resource: Resource) -> list[JsonObject]:
    return [
        make_names(
            "sort",
            "Order, by one field after another; - for descending. Nulls come last.",
            refer_to_schema(f"{resource.type_name}Sort"),
        ),
        *(
            parameter
            for name, field in resource.fields.items()
            if field.filter is Filter.ANYWHERE
            for parameter in _make_filters(name, field)
        ),
    ]


def refer(parameter: str) -> JsonObject:
    """A reference to a shared parameter."""
    return {"$ref": f"#/components/parameters/{parameter}"}


COMMON: dict[str, JsonObject] = {
    "First": make_query("first", "How many rows.", make_count(MAX_FIRST, default=DEFAULT_FIRST)),
    "After": make_query("after", "The endCursor of the page before. It holds for the same filters and order.", {"type": "string"}),
    "TotalCount": make_query(
        "totalCount", "Whether `page` tells how many rows there are on all pages.", {"type": "boolean", "default": False}
    ),
    "Format": make_query(
        "format",
        "csv is for spreadsheets: it takes no to-many links, and has 1,000 rows a page unless `first` says otherwise. `Accept: text/csv` means the same."
        " The fields of a linked row are columns such as window.name, the elements of a list are separated by semicolons.",
        {"enum": ["json", "csv"]},
    ),
    "Bom": make_query("bom", BOM, {"type": "boolean", "default": False}),
    "Id": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The id. A window may be named by its code, with its slash escaped: 2026-27%2FAutumn.",
        "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID},
    },
    "Key": {
        "name": "key",
        "in": "path",
        "required": True,
        "description": "The Idempotency-Key of the request.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Any text that the client chooses. For 7 days the same key,"
        " body, parameters and Prefer header get the same response and change nothing a second time.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": 'The ETag of an earlier response to the same request, such as "0f5d8a3b1c2e4f60718293a4". The response is a 304 where it would be'
        " the same (RFC 9110, 13.1.2).",
        "schema": {"type": "string"},
    },
    "MinVersion": {
        "name": "Markonce-Min-Version",
        "in": "header",
        "description": "What Markonce-Version said in the answers to the client's writes, several with commas: the response is at least as new, "
        "whichever replica of the database answers.",
        "schema": {"type": "string", "pattern": "^[0-9a-f-]{36}\\.(0|[1-9][0-9]{0,17})(, [0-9a-f-]{36}\\.(0|[1-9][0-9]{0,17}))*$"},
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "required": True,
        "description": "The ETag of the row as it was read, so that no change is lost (RFC 9110, 13.1.1); * matches any version.",
        "schema": {"type": "string", "examples": ['"3"']},
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "handling=strict (the default) records all rows or none, lenient the valid ones; return=representation adds `results`. "
        "Several preferences are separated by commas (RFC 7240).",
        "schema": {"type": "string", "examples": ["handling=lenient, return=representation"]},
    },
    "DryRun": {
        "name": "dryRun",
        "in": "query",
        "description": "Do everything, respond, and roll back.",
        "schema": {"type": "boolean", "default": False},
    },
}


def list_shared() -> dict[str, JsonObject]:
    """Every shared parameter by its name in the document. The name of a resource's parameter begins with the name of its type."""
    return COMMON | {
        _name(resource, parameter): parameter
        for resource in RESOURCES.values()
        for parameter in (*_make_row_parameters(resource), *_make_list_parameters(resource))
    }


def list_for_row(resource: Resource) -> list[JsonObject]:
    """References to the parameters of one row."""
    return [refer(_name(resource, parameter)) for parameter in _make_row_parameters(resource)]


def list_for_list(resource: Resource, link: Link | None = None) -> list[JsonObject]:
    """The parameters of a list, or of one that a link leads to: references, and the list's choices."""
    return [
        *list_for_row(resource),
        *make_choices(resource, link),
        *(refer(_name(resource, parameter)) for parameter in _make_list_parameters(resource)),
        *map(refer, ("First", "After", "TotalCount", "Format", "Bom")),
    ]


def _name(resource: Resource, parameter: JsonObject) -> str:
    return f"{resource.type_name}.{parameter['name']}"
