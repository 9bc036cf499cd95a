"""JSON Schema (2020-12) of everything the REST door takes and answers, for openapi.py; examples, by schema, stand in examples.json."""

import json
import re
from inspect import cleandoc
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from api.http.body import MAX_BODY, MAX_FILES
from api.oauth.form import MAX_BODY as MAX_FORM
from api.rest.openapi.problem_codes import CODE, TYPE_PATTERN, list_problem_schemas
from api.rest.query_string import MAX_DEPTH
from domain import COMMANDS, RESOURCES
from domain.aggregates.aggregate_rows import AggregatePage
from domain.aggregates.query import MAX_ROWS
from domain.clients.me import Me
from domain.declare.errors import Issue
from domain.declare.resource import Comparison, Field, Link, Resource
from domain.declare.value_types import MAX_TEXT, ValueType
from domain.read.query import DEFAULT_FIRST, MAX_FIRST, MAX_VALUES
from domain.roster.gias.report import ImportReport
from domain.write.command import MAX_ENTRIES
from domain.write.decode import MAX_ISSUES
from domain.write.stored_answers import KeptAnswers

JsonObject: TypeAlias = dict[str, Any]

MAX_ID = 80
"""What CHANGES.md promises: ids are opaque, and some are no UUIDs."""
EXAMPLES = Path(__file__).with_name("examples.json")

SCALARS: dict[ValueType, JsonObject] = {
    ValueType.ID: {"type": "string", "maxLength": MAX_ID},
    ValueType.TEXT: {"type": "string"},
    ValueType.TEXTS: {"type": "array", "items": {"type": "string"}},
    ValueType.INTEGER: {"type": "integer", "format": "int32"},
    ValueType.NUMBER: {"type": "number"},
    ValueType.BOOLEAN: {"type": "boolean"},
    ValueType.DATE: {"type": "string", "format": "date"},
    ValueType.INSTANT: {"type": "string", "format": "date-time"},
}

BOUNDS: JsonObject = {
    "string": {"maxLength": MAX_TEXT},
    "integer": {"format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    "array": {"maxItems": MAX_ENTRIES * MAX_ISSUES},
}
"""What holds for every value of a type, where nothing narrower is said. The longest array is the one of a batch's issues."""
MAX_SHEET = 2**30
"""Of a page as CSV: PostgreSQL makes no longer text."""
LENGTHS = {"date": 10, "date-time": 35, "binary": MAX_FILES}
"""Of a string of a format, in characters: an instant may have nanoseconds and an offset."""

_TEXT, _OBJECT = {"type": "string"}, {"type": ["object", "null"]}
_FORM_TEXT = {"type": "string", "maxLength": MAX_FORM}
_QUERY = {"type": "string", "maxLength": 100_000}  # as api/graphql/limits.py has it, which this door does not know
_ECHO = {"type": "string", "maxLength": MAX_BODY}  # it may repeat a word of the body

OF_THE_WEB: dict[str, JsonObject] = {
    "Problem": {
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": {
                "type": "string",
                "format": "uri",
                "pattern": TYPE_PATTERN,
                "description": "Stable; it ends in the problem's code, one of ProblemCode. GET /problems/{code} explains it.",
            },
            "title": {"type": "string", "description": "The same for every problem of this type."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599, "description": "The status of the response."},
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
            "scope": _FORM_TEXT | {"description": "Blank-separated; without it, every scope that a grant in force gives."},
            "client_id": _TEXT,
            "client_secret": _TEXT,
            "client_assertion_type": {"type": "string", "enum": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"]},
            "client_assertion": _FORM_TEXT | {"description": "A JWT whose audience is this server alone."},
        },
        "required": ["grant_type"],
    },
    "Token": {
        "type": "object",
        "properties": {
            "access_token": _FORM_TEXT,
            "token_type": {"const": "Bearer"},
            "expires_in": {"type": "integer", "minimum": 1},
            "scope": _FORM_TEXT,
        },
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
        "properties": {"query": _QUERY, "operationName": {"type": ["string", "null"]}, "variables": _OBJECT, "extensions": _OBJECT},
        "required": ["query"],
    },
    "GraphqlAnswer": {
        "type": "object",
        "description": "An error that is one of the domain holds the problem object of REST in extensions.problem.",
        "properties": {
            "data": _OBJECT,
            "errors": {"type": "array", "items": {"type": "object", "properties": {"message": _ECHO}, "required": ["message"]}},
            "extensions": {"type": "object"},
        },
    },
}


def schemas(structs: set[type[msgspec.Struct]]) -> dict[str, JsonObject]:
    """Every schema by name: of the structs and all they hold, of the resources, their pages and the lookup, of what belongs to the web."""
    _, found = msgspec.json.schema_components(
        {*structs, AggregatePage, ImportReport, Issue, KeptAnswers, Me}, ref_template="#/components/schemas/{name}"
    )
    for schema in found.values():
        _without_defaults(schema)
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
    for command in COMMANDS.values():
        for name in command.row_types if command.input in structs else ():
            found[command.input.__name__]["properties"][name]["maxItems"] = MAX_ENTRIES
    found["AggregatePage"]["properties"]["data"]["maxItems"] = MAX_ROWS
    found["Issue"]["required"].remove("current")  # the one thing that is left out where there is none
    for name in ("at", "message"):
        found["Issue"]["properties"][name] |= _ECHO
    for name in ("Issue", "ImportIssue"):
        found[name]["properties"]["code"] = CODE
    for resource in RESOURCES.values():
        found[resource.type_name] = row(resource)
        found[f"{resource.type_name}Page"] = page(resource)
        found |= names(resource)
    found |= {
        f"{resource.type_name}Lookup": lookup(resource) for resource in RESOURCES.values() if resource.has_lookup
    } | OF_THE_WEB
    found |= list_problem_schemas()
    for name, example in json.loads(EXAMPLES.read_text()).items():
        found[name]["examples"] = [example]
    return dict(sorted(found.items()))


def _without_defaults(schema: JsonObject) -> None:
    """Some clients take a property with a default for one that is always there. In an answer it is: a struct leaves nothing out. What is
    sent (and closed to unknown properties) may leave it out: there the default is told in words."""
    properties = schema["properties"]
    defaults = {name: properties[name].pop("default") for name in properties if "default" in properties[name]}
    if schema.get("additionalProperties") is not False:
        schema["required"] = list(properties)
        return
    for name, default in defaults.items():
        if default not in (None, []):
            description = properties[name].get("description", "")
            properties[name]["description"] = f"{description} {str(default).lower()} unless given.".strip()


def row(resource: Resource) -> JsonObject:
    """No property is required, since `fields` narrows and a field out of scope is left out."""
    properties = {name: _field(name, field) for name, field in resource.fields.items()}
    properties |= {name: _link(link) for name, link in resource.links.items()}
    return {
        "type": "object",
        "description": resource.doc,
        "properties": properties,
        "additionalProperties": False,
        "x-scope": resource.scope.value,
    }


def _field(name: str, field: Field) -> JsonObject:
    schema = SCALARS[ValueType.ID if name == "id" else field.kind] | {"description": field.doc}
    if field.may_be_null:
        schema["type"] = [schema["type"], "null"]
    return schema if field.scope is None else schema | {"x-scope": field.scope.value}


def _link(link: Link) -> JsonObject:
    target = ref(f"{RESOURCES[link.target].type_name}{'Page' if link.many else ''}")
    if link.many or not link.nullable:
        return target | {"description": link.doc}
    return {"anyOf": [target, {"type": "null"}], "description": link.doc}


def page(resource: Resource) -> JsonObject:
    return {
        "type": "object",
        "properties": {"data": {"type": "array", "items": ref(resource.type_name), "maxItems": MAX_FIRST}, "page": ref("PageInfo")},
        "required": ["data", "page"],
        "additionalProperties": False,
    }


def lookup(resource: Resource) -> JsonObject:
    """The body of a lookup: what a list takes in its URL, and the filters that may not stand there."""
    filters = {
        name: {
            "anyOf": [SCALARS[field.kind], listed(SCALARS[field.kind])],
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
        "fields": listed(field_path(resource)),
        "include": listed(link_path(resource)),
        "sort": listed(ref(f"{resource.type_name}Sort")),
        "first": whole(MAX_FIRST) | {"description": f"How many rows: {DEFAULT_FIRST} unless said."},
        "after": _TEXT,
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


_COMPARED = {Comparison.GTE: "at least", Comparison.GT: "above", Comparison.LTE: "at most", Comparison.LT: "below"}


def compared(name: str, comparison: Comparison) -> str:
    """What a filter such as mark.gte means."""
    return f"{name} is {_COMPARED[comparison]} this (of dates, no earlier or later)."


def names(resource: Resource) -> dict[str, JsonObject]:
    """What can be named of a resource, by schema: its fields, its links and its terms of order."""
    sortable = [name for name, field in resource.fields.items() if field.sortable]
    found = {
        "Field": _one_of(list(resource.fields), f"A field of {resource.plural}."),
        "Sort": _one_of(
            [sign + name for name in sortable for sign in ("", "-")], f"What {resource.plural} can be ordered by; - for descending."
        ),
    }
    if resource.links:
        found["Link"] = _one_of(list(resource.links), f"A link of {resource.plural}.")
    return {f"{resource.type_name}{what}": schema for what, schema in found.items()}


def _one_of(values: list[str], doc: str) -> JsonObject:
    """An enum; clients that make constants of its values are told good names for them: DATE_OF_BIRTH, and DATE_OF_BIRTH_DESC for -dateOfBirth."""
    upper = [re.sub("([A-Z])", r"_\1", value.lstrip("-")).upper() + "_DESC" * value.startswith("-") for value in values]
    return {"type": "string", "enum": values, "x-enum-varnames": upper, "description": doc}


def field_path(resource: Resource) -> JsonObject:
    """A field of the resource, or of what its links lead to."""
    own = ref(f"{resource.type_name}Field")
    return {"anyOf": [own, _below(resource, MAX_DEPTH)]} if resource.links else own


def link_path(resource: Resource) -> JsonObject:
    """A link of the resource, or of what its links lead to."""
    return {"anyOf": [ref(f"{resource.type_name}Link"), _below(resource, MAX_DEPTH - 1)]}


def _below(resource: Resource, most: int) -> JsonObject:
    return {"type": "string", "pattern": f"^({'|'.join(resource.links)})(\\.[A-Za-z]+){{1,{most}}}$"}


def listed(item: JsonObject) -> JsonObject:
    return {"type": "array", "items": item, "maxItems": MAX_VALUES}


def whole(most: int, **more: int) -> JsonObject:
    """A number of rows. A default that clients would send is only for what may always be sent."""
    return {"type": "integer", "minimum": 1, "maximum": most, **more}


def bounded(node: Any) -> Any:
    """The document, or a part of it, with the bounds of BOUNDS where a schema has none of its own."""
    if isinstance(node, list):
        return [bounded(child) for child in node]
    if not isinstance(node, dict):
        return node
    told = {name: bounded(child) for name, child in node.items()}
    types = node.get("type")
    if "enum" not in node and "const" not in node:
        for type_ in [types] if isinstance(types, str) else types if isinstance(types, list) else ():
            told = BOUNDS.get(type_, {}) | told
    if types == "string" and "maxLength" not in node and "format" in node:
        told["maxLength"] = LENGTHS.get(node["format"], MAX_TEXT)
    return told


def ref(schema: str) -> JsonObject:
    return {"$ref": f"#/components/schemas/{schema}"}
