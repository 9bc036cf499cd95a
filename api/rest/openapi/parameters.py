"""The parameters of the OpenAPI document, each said once and referred to: those of a resource's rows and lists, and those of any operation."""

from typing import Any

from api.rest.openapi.schemas import MAX_ID, SCALARS, JsonObject, compared, field_path, link_path, listed, ref, whole
from api.rest.query_string import MAX_DEPTH
from domain import RESOURCES
from domain.declare.resource import Comparison, Field, Filter, Resource
from domain.read.query import DEFAULT_FIRST, MAX_FIRST, MAX_NESTED_FIRST


def query(name: str, doc: str, schema: JsonObject) -> JsonObject:
    return {"name": name, "in": "query", "description": doc, "schema": schema}


def names(name: str, doc: str, item: JsonObject, **limits: Any) -> JsonObject:
    """A parameter that is a list of names with commas between them."""
    return query(name, doc, listed(item) | limits) | {"style": "form", "explode": False}


def _filters(name: str, field: Field) -> list[JsonObject]:
    """A parameter that may repeat, and those that compare with a bound."""
    item = SCALARS[field.kind].get("items", SCALARS[field.kind])
    equal = query(name, f"{field.doc} Repeated: any of them.", listed(item)) | {"style": "form", "explode": True}
    if not field.comparable:
        return [equal]
    return [equal, *(query(f"{name}.{by}", compared(name, by), SCALARS[field.kind]) for by in Comparison)]


def _of_row(resource: Resource) -> list[JsonObject]:
    parameters = [names("fields", "The fields wanted; of linked rows, with dots.", field_path(resource))]
    if resource.links:
        parameters.append(names("include", f"The links wanted, up to {MAX_DEPTH} deep with dots.", link_path(resource)))
    for name, link in resource.links.items():
        if link.many:
            many = f"How many {name} a row, where include brings them: {DEFAULT_FIRST} unless told."
            parameters.append(query(f"{name}.first", many, whole(MAX_NESTED_FIRST)))
            parameters += [query(f"{name}.{told}", a.doc, SCALARS[a.kind]) for told, a in link.arguments.items()]
    return parameters


def _of_list(resource: Resource) -> list[JsonObject]:
    return [
        names("sort", "Order, by one field after another; - for descending. Nulls come last.", ref(f"{resource.type_name}Sort")),
        *(
            parameter
            for name, field in resource.fields.items()
            if field.filter is Filter.ANYWHERE
            for parameter in _filters(name, field)
        ),
    ]


def shared(parameter: str) -> JsonObject:
    return {"$ref": f"#/components/parameters/{parameter}"}


COMMON: dict[str, JsonObject] = {
    "First": query("first", "How many rows.", whole(MAX_FIRST, default=DEFAULT_FIRST)),
    "After": query("after", "The endCursor of the page before. It holds for the same filters and order.", {"type": "string"}),
    "Format": query(
        "format",
        "csv is for spreadsheets: it takes no to-many links, and has 1,000 rows a page unless `first` says otherwise. `Accept: text/csv` means the same.",
        {"enum": ["json", "csv"]},
    ),
    "Id": {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1, "maxLength": MAX_ID}},
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
        "description": "Any text of the client's own. For 7 days the same key and body get the same answer and change nothing a second time.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[!-~]+$"},
    },
    "IfNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "The ETag of an earlier answer to the same request: where it would be the same again, 304 says so (RFC 9110, 13.1.2).",
        "schema": {"type": "string", "examples": ['"0f5d8a3b1c2e4f60718293a4"']},
    },
    "IfMatch": {
        "name": "If-Match",
        "in": "header",
        "required": True,
        "description": "The ETag of the row as it was read, so that nobody's change is lost (RFC 9110, 13.1.1); * is whichever it is now.",
        "schema": {"type": "string", "examples": ['"3"']},
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "description": "handling=strict (the default) lands all rows or none, lenient the good ones; return=representation adds `results`. "
        "Commas stand between two (RFC 7240).",
        "schema": {"type": "string", "examples": ["handling=lenient, return=representation"]},
    },
    "DryRun": {
        "name": "dryRun",
        "in": "query",
        "description": "Do everything, answer, and undo it.",
        "schema": {"type": "boolean", "default": False},
    },
}


def every() -> dict[str, JsonObject]:
    """Every shared parameter by its name in the document: those of a resource begin with the name of its type."""
    return COMMON | {_named(of, each): each for of in RESOURCES.values() for each in (*_of_row(of), *_of_list(of))}


def of_row(resource: Resource) -> list[JsonObject]:
    """What one row of it may be asked with."""
    return [shared(_named(resource, each)) for each in _of_row(resource)]


def of_list(resource: Resource) -> list[JsonObject]:
    """What a list of it may be asked with."""
    return [
        *of_row(resource),
        *(shared(_named(resource, each)) for each in _of_list(resource)),
        *map(shared, ("First", "After", "Format")),
    ]


def _named(resource: Resource, parameter: JsonObject) -> str:
    return f"{resource.type_name}.{parameter['name']}"
