"""JSON Schema (2020-12) of everything the REST door takes and answers, for openapi.py; examples, by schema, stand in examples.json."""

import json
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from api.rest.request import MAX_DEPTH
from domain import COMMANDS, RESOURCES
from domain.consent.me import Me
from domain.engine.answers import KeptAnswers
from domain.engine.command import MAX_ENTRIES
from domain.engine.errors import Issue
from domain.engine.resource import Comparison, Field, Kind, Link, Resource
from domain.engine.selection import FIRST, MAX_FIRST
from domain.insight.aggregates import AggregatePage
from domain.roster.register import ImportReport

Json: TypeAlias = dict[str, Any]

EXAMPLES = Path(__file__).with_name("examples.json")
MAX_VALUES = 1000

SCALARS: dict[Kind, Json] = {
    Kind.ID: {"type": "string"},
    Kind.TEXT: {"type": "string"},
    Kind.TEXTS: {"type": "array", "items": {"type": "string"}},
    Kind.INTEGER: {"type": "integer", "format": "int32"},
    Kind.NUMBER: {"type": "number"},
    Kind.BOOLEAN: {"type": "boolean"},
    Kind.DATE: {"type": "string", "format": "date"},
    Kind.INSTANT: {"type": "string", "format": "date-time"},
}

_TEXT, _OBJECT = {"type": "string"}, {"type": ["object", "null"]}

OF_THE_WEB: dict[str, Json] = {
    "Problem": {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": {"type": "string", "format": "uri", "description": "Stable; it ends in the problem's code."},
            "title": {"type": "string", "description": "The same for every problem of this type."},
            "status": {"type": "integer", "description": "The status of the response."},
            "detail": {"type": "string", "description": "What went wrong this time. It holds no personal data."},
            "issues": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/Issue"},
                "description": "Everything that is wrong.",
            },
            "violated-policies": {
                "type": "array",
                "items": {"type": "string"},
                "description": "With quota-exceeded, the policies of RateLimit-Policy that refuse it.",
            },
        },
        "required": ["type", "title", "status", "detail"],
    },
    "TokenRequest": {
        "type": "object",
        "description": "The client proves itself by HTTP Basic, by client_secret, or by client_assertion (RFC 7523), and by one of them only.",
        "properties": {
            "grant_type": {"type": "string", "enum": ["client_credentials"]},
            "scope": {"type": "string", "description": "Blank-separated; without it, every scope that a grant in force gives."},
            "client_id": _TEXT,
            "client_secret": _TEXT,
            "client_assertion_type": {"type": "string", "enum": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]},
            "client_assertion": {"type": "string", "description": "A JWT whose audience is this server alone."},
        },
        "required": ["grant_type"],
    },
    "Token": {
        "type": "object",
        "properties": {"access_token": _TEXT, "token_type": {"const": "Bearer"}, "expires_in": {"type": "integer"}, "scope": _TEXT},
        "required": ["access_token", "token_type", "expires_in", "scope"],
    },
    "TokenRefusal": {
        "type": "object",
        "properties": {"error": _TEXT, "error_description": _TEXT},
        "required": ["error", "error_description"],
    },
    "GiasFiles": {
        "type": "object",
        "description": "Establishments, groups and group links, as downloaded, under any names.",
        "properties": {
            "asOf": {"type": "string", "format": "date", "description": "The day of the extract."},
            "files": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1, "maxItems": 10},
        },
        "required": ["asOf", "files"],
    },
    "GraphqlRequest": {
        "type": "object",
        "properties": {"query": _TEXT, "operationName": {"type": ["string", "null"]}, "variables": _OBJECT, "extensions": _OBJECT},
        "required": ["query"],
    },
    "GraphqlAnswer": {
        "type": "object",
        "description": "An error that is one of the domain holds the problem object of REST in extensions.problem.",
        "properties": {
            "data": _OBJECT,
            "errors": {"type": "array", "items": {"type": "object", "properties": {"message": _TEXT}, "required": ["message"]}},
            "extensions": {"type": "object"},
        },
    },
}


def schemas(structs: set[type[msgspec.Struct]]) -> dict[str, Json]:
    """Every schema by name: of the structs and all they hold, of the resources, their pages and the lookup, of what belongs to the web."""
    _, found = msgspec.json.schema_components(
        {*structs, AggregatePage, ImportReport, Issue, KeptAnswers, Me}, ref_template="#/components/schemas/{name}"
    )
    for command in COMMANDS.values():
        for name in command.lists if command.takes in structs else ():
            found[command.takes.__name__]["properties"][name]["maxItems"] = MAX_ENTRIES
    for resource in RESOURCES.values():
        found[resource.type_name] = row(resource)
        found[f"{resource.type_name}Page"] = page(resource)
    found |= {
        f"{resource.type_name}Lookup": lookup(resource) for resource in RESOURCES.values() if resource.has_lookup
    } | OF_THE_WEB
    for name, example in json.loads(EXAMPLES.read_text()).items():
        found[name]["examples"] = [example]
    return dict(sorted(found.items()))


def row(resource: Resource) -> Json:
    """No property is required, since `fields` narrows and a field out of scope is left out."""
    properties = {name: _field(field) for name, field in resource.fields.items()}
    properties |= {name: _link(link) for name, link in resource.links.items()}
    return {
        "type": "object",
        "description": resource.doc,
        "properties": properties,
        "additionalProperties": False,
        "x-scope": resource.scope.value,
    }


def _field(field: Field) -> Json:
    schema = SCALARS[field.kind] | {"description": field.doc}
    if field.may_be_null:
        schema["type"] = [schema["type"], "null"]
    return schema if field.scope is None else schema | {"x-scope": field.scope.value}


def _link(link: Link) -> Json:
    target = RESOURCES[link.target]
    if link.many:
        return ref(f"{target.type_name}Page") | {"description": link.doc}
    return {"anyOf": [ref(target.type_name), {"type": "null"}][: 1 + link.nullable], "description": link.doc}


def page(resource: Resource) -> Json:
    return {
        "type": "object",
        "properties": {"data": {"type": "array", "items": ref(resource.type_name)}, "page": ref("PageInfo")},
        "required": ["data", "page"],
        "additionalProperties": False,
    }


def lookup(resource: Resource) -> Json:
    """The body of a lookup: what a list takes in its URL, and the filters that may not stand there."""
    filters = {
        name: {
            "anyOf": [SCALARS[field.kind], {"type": "array", "items": SCALARS[field.kind], "maxItems": MAX_VALUES}],
            "description": field.doc,
            **({"x-scope": field.scope.value} if field.scope else {}),
        }
        for name, field in resource.fields.items()
    }
    filters |= {
        f"{name}.{comparison}": SCALARS[field.kind] | {"description": compared(name, comparison)}
        for name, field in resource.fields.items()
        if field.comparable
        for comparison in Comparison
    }
    properties = {
        "where": {
            "type": "object",
            "properties": filters,
            "additionalProperties": False,
            "description": "All of these; of several values, any.",
        },
        "fields": {"type": "array", "items": field_path(resource)},
        "include": {"type": "array", "items": link_path(resource)},
        "sort": {"type": "array", "items": sort_terms(resource)},
        "first": whole(MAX_FIRST, default=FIRST),
        "after": {"type": "string"},
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


_COMPARED = {Comparison.GTE: "at least", Comparison.GT: "above", Comparison.LTE: "at most", Comparison.LT: "below"}


def compared(name: str, comparison: Comparison) -> str:
    """What a filter such as mark.gte means."""
    return f"{name} is {_COMPARED[comparison]} this (of dates, no earlier or later)."


def field_path(resource: Resource) -> Json:
    """A field of the resource, or of what its links lead to."""
    own: Json = {"type": "string", "enum": list(resource.fields)}
    return {"anyOf": [own, _below(resource, MAX_DEPTH)]} if resource.links else own


def link_path(resource: Resource) -> Json:
    """A link of the resource, or of what its links lead to."""
    return {"anyOf": [{"type": "string", "enum": list(resource.links)}, _below(resource, MAX_DEPTH - 1)]}


def _below(resource: Resource, most: int) -> Json:
    return {"type": "string", "pattern": f"^({'|'.join(resource.links)})(\\.[A-Za-z]+){{1,{most}}}$"}


def sort_terms(resource: Resource) -> Json:
    names = [name for name, field in resource.fields.items() if field.sortable]
    return {"type": "string", "enum": [sign + name for name in names for sign in ("", "-")]}


def whole(most: int, *, default: int | None = None) -> Json:
    return {"type": "integer", "minimum": 1, "maximum": most, **({"default": default} if default else {})}


def ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}
