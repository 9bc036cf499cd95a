"""JSON Schemas (2020-12) of every request and response body of REST. Their examples are in examples.json, by the name of the schema."""

import json
import re
from inspect import cleandoc
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from api.http.body import MAX_BODY, MAX_FILES
from api.http.problems import MAX_ERROR_STATUS, MIN_ERROR_STATUS
from api.oauth.form import MAX_BODY as MAX_FORM
from api.rest.field_tree import MAX_DEPTH
from api.rest.openapi.problem_codes import CODE, TYPE_PATTERN, list_problem_schemas
from api.rest.openapi.streams import list_stream_schemas
from domain import COMMANDS, RESOURCES
from domain.aggregates.aggregate_rows import AggregatePage
from domain.aggregates.explanation_rows import AggregateExplanation
from domain.aggregates.query import MAX_ROWS
from domain.aggregates.readiness import TrustReadiness
from domain.aggregates.transition_rows import TransitionPage
from domain.assessment.calendar import Calendar
from domain.clients.me import Me
from domain.declare.errors import Issue
from domain.declare.inputs import describe_custom
from domain.declare.ranges import Comparison
from domain.declare.resource import Field, Link, Resource
from domain.declare.value_types import MAX_TEXT, ValueType
from domain.jobs.job import Job
from domain.publishing.read_preview import PublicationPreview
from domain.read.query import DEFAULT_FIRST, MAX_FIRST, MAX_VALUES
from domain.roster.gias.report import ImportReport
from domain.write.command import MAX_ENTRIES
from domain.write.decode import MAX_ISSUES
from domain.write.stored_answers import KeptAnswers

JsonObject: TypeAlias = dict[str, Any]

MAX_ID = 80
"""Characters of an id. Ids are opaque and some are not UUIDs (openapi/CHANGES.md)."""
EXAMPLES = Path(__file__).with_name("examples.json")

SCALARS: dict[ValueType, JsonObject] = {
    ValueType.ID: {"type": "string", "maxLength": MAX_ID},
    ValueType.TEXT: {"type": "string"},
    ValueType.TEXTS: {"type": "array", "items": {"type": "string"}},
    ValueType.INTEGER: {"type": "integer", "format": "int32"},
    ValueType.NUMBER: {"type": "number"},
    ValueType.BOOLEAN: {"type": "boolean"},
    ValueType.DATE: {"type": "string", "format": "date"},
    ValueType.OBJECT: {"type": "object"},
    ValueType.INSTANT: {"type": "string", "format": "date-time"},
}

BOUNDS: JsonObject = {
    "string": {"maxLength": MAX_TEXT},
    "integer": {"format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    "array": {"maxItems": MAX_ENTRIES * MAX_ISSUES},
}
"""The bounds of every value of a type, where its schema sets no narrower ones. The longest array is that of a batch's issues."""
MAX_CSV = 2**30
"""Characters of a page as CSV: PostgreSQL makes no longer text."""
LENGTHS = {"date": 10, "date-time": 35, "binary": MAX_FILES}
"""Maximum length of a string with this format, in characters. An instant may have nanoseconds and an offset."""

_TEXT, _OBJECT = {"type": "string"}, {"type": ["object", "null"]}
_FORM_TEXT = {"type": "string", "maxLength": MAX_FORM}
_QUERY = {"type": "string", "maxLength": 100_000}  # Limits.bytes of api/graphql/limits.py, which REST does not import
_ECHO = {"type": "string", "maxLength": MAX_BODY}  # it may quote a word of the body

HTTP_SCHEMAS: dict[str, JsonObject] = {
    "ListPageInfo": {
        "type": "object",
        "description": "Whether further rows follow, and the cursor at which they begin.",
        "properties": {
            "totalCount": {
                "type": "integer",
                "minimum": 0,
                "description": "How many rows there are on all pages, where it is asked for.",
            },
            "hasMore": {"type": "boolean"},
            "endCursor": {"type": ["string", "null"]},
        },
        "required": ["hasMore", "endCursor"],
        "additionalProperties": False,
    },
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
            "status": {
                "type": "integer",
                "minimum": MIN_ERROR_STATUS,
                "maximum": MAX_ERROR_STATUS,
                "description": "The status of the response.",
            },
            "detail": {"type": "string", "description": "What went wrong this time. It holds no personal data."},
            "issues": {
                "type": "array",
                "items": {"$ref": "#/components/schemas/Issue"},
                "description": "Everything that is wrong.",
            },
            "violated-policies": {
                "type": "array",
                "items": {"type": "string"},
                "description": "With quota-exceeded, the policies of RateLimit-Policy that were exceeded.",
            },
            "mergedInto": {
                "type": "string",
                "format": "uuid",
                "description": "With pupil-merged, the id of the record that remains.",
            },
        },
        "required": ["type", "title", "status", "detail"],
    },
    "TokenRequest": {
        "type": "object",
        "description": "The client authenticates by HTTP Basic, by client_secret, or by client_assertion (RFC 7523), and by one of them only.",
        "properties": {
            "grant_type": {"type": "string", "enum": ["client_credentials"]},
            "scope": _FORM_TEXT | {"description": "Separated by spaces; without it, every scope that a grant in force gives."},
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
            "scope": _FORM_TEXT
            | {"description": "Separated by spaces; left out where no grant in force gives any: GET /v1/me lists the grants."},
        },
        "required": ["access_token", "token_type", "expires_in"],
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
            "force": {"enum": ["true", "false"], "description": "Import it although the last extract is newer."},
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
        "description": "An error that REST would answer with a problem holds the same object in extensions.problem.",
        "properties": {
            "data": _OBJECT,
            "errors": {"type": "array", "items": {"type": "object", "properties": {"message": _ECHO}, "required": ["message"]}},
            "extensions": {"type": "object"},
        },
    },
}


_TABLES = (AggregateExplanation, AggregatePage, PublicationPreview, TransitionPage, TrustReadiness)
_ANSWERS = (*_TABLES, Calendar, ImportReport, Issue, Job, KeptAnswers, Me)


def make_schemas(structs: set[type[msgspec.Struct]]) -> dict[str, JsonObject]:
    """Every schema by name: of the structs and all they hold, of the resources, their pages and lookups, and of HTTP."""
    _, schemas = msgspec.json.schema_components(
        {*structs, *_ANSWERS},
        ref_template="#/components/schemas/{name}",
        schema_hook=describe_custom,
    )
    for schema in schemas.values():
        _remove_defaults(schema)
        if "description" in schema:
            schema["description"] = cleandoc(schema["description"])
    for command in COMMANDS.values():
        for name in command.row_types if command.input in structs else ():
            schemas[command.input.__name__]["properties"][name]["maxItems"] = MAX_ENTRIES
    for page in ("AggregateExplanation", "AggregatePage", "TransitionPage"):
        schemas[page]["properties"]["data"]["maxItems"] = MAX_ROWS
    for name in ("current", "reference", "line"):  # the members that are left out where there is none
        schemas["Issue"]["required"].remove(name)
    for name in ("at", "message"):
        schemas["Issue"]["properties"][name] |= _ECHO
    for resource in RESOURCES.values():
        schemas[resource.type_name] = make_row(resource)
        schemas[f"{resource.type_name}Page"] = make_page(resource)
        schemas |= make_name_enums(resource)
    schemas |= {f"{resource.type_name}Lookup": make_lookup(resource) for resource in RESOURCES.values() if resource.has_lookup}
    schemas |= HTTP_SCHEMAS | list_problem_schemas() | list_stream_schemas()
    for name in ("Issue", "ImportIssue"):
        schemas[name]["properties"]["code"] = CODE
    for name, example in json.loads(EXAMPLES.read_text()).items():
        schemas[name]["examples"] = [example]
    return dict(sorted(schemas.items()))


def _remove_defaults(schema: JsonObject) -> None:
    """Removes the defaults of a struct's properties: some generated clients require a property that has one.

    A response has every property but those that are UNSET by default, so all the others are required.
    In a request they are optional, and the description states the default.
    """
    properties = schema["properties"]
    defaults = {name: properties[name].pop("default") for name in properties if "default" in properties[name]}
    if schema.get("additionalProperties") is not False:
        schema["required"] = [name for name in properties if name in defaults or name in schema.get("required", ())]
        return
    for name, default in defaults.items():
        if default not in (None, []):
            description = properties[name].get("description", "")
            properties[name]["description"] = f"{description} Default: {str(default).lower()}.".strip()


def make_row(resource: Resource) -> JsonObject:
    """The schema of a row. No property is required: `fields` narrows a row, and a field that the token has no scope for is left out."""
    properties = {name: _make_field(name, field) for name, field in resource.fields.items()}
    properties |= {name: _make_link(link) for name, link in resource.links.items()}
    return {
        "type": "object",
        "description": resource.doc,
        "properties": properties,
        "additionalProperties": False,
        "x-scope": resource.scope.value,
    }


def _make_field(name: str, field: Field) -> JsonObject:
    schema = SCALARS[ValueType.ID if name == "id" else field.kind] | {"description": field.doc}
    if field.members:
        texts = {member: {"type": "string", "description": doc} for member, doc in field.members.items()}
        schema |= {"properties": texts, "required": [*texts], "additionalProperties": False}
    if field.may_be_null:
        schema["type"] = [schema["type"], "null"]
    return schema if field.scope is None else schema | {"x-scope": field.scope.value}


def _make_link(link: Link) -> JsonObject:
    target = refer(f"{RESOURCES[link.target].type_name}{'Page' if link.many else ''}")
    if link.many or not link.nullable:
        return target | {"description": link.doc}
    return {"anyOf": [target, {"type": "null"}], "description": link.doc}


def make_page(resource: Resource) -> JsonObject:
    return {
        "type": "object",
        "properties": {
            "data": {"type": "array", "items": refer(resource.type_name), "maxItems": MAX_FIRST},
            "page": refer("ListPageInfo"),
        },
        "required": ["data", "page"],
        "additionalProperties": False,
    }


def make_filter(field: Field) -> JsonObject:
    """The schema of a value that a filter by a field takes, with the bounds of a number."""
    vocabulary = field.vocabulary
    bounds = {} if vocabulary is None else {"minimum": vocabulary.least, "maximum": vocabulary.most}
    return SCALARS[field.kind] | {name: bound for name, bound in bounds.items() if bound is not None}


def make_lookup(resource: Resource) -> JsonObject:
    """The schema of a lookup's body: the parameters of a list, and the filters that must not be in a URL."""
    filters = {
        name: {
            "anyOf": [make_filter(field), make_array(make_filter(field))],
            "description": field.doc,
            **({"x-scope": field.scope.value} if field.scope else {}),
        }
        for name, field in resource.fields.items()
        if field.filterable
    }
    filters |= {
        f"{name}.{comparison}": SCALARS[field.kind] | {"description": describe_comparison(name, comparison)}
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
        "fields": make_array(make_field_path(resource)),
        "include": make_array(make_link_path(resource)),
        "sort": make_array(refer(f"{resource.type_name}Sort")),
        "first": make_count(MAX_FIRST) | {"description": f"How many rows (default {DEFAULT_FIRST})."},
        "after": _TEXT,
        "totalCount": {"type": "boolean", "description": "Whether `page` tells how many rows there are on all pages."},
    }
    for name, choice in resource.choices.items():
        properties[name] = {
            "enum": [*choice.conditions],
            "description": f"{choice.doc.split(' Default: ')[0]} Default: {choice.widest}.",
        }
    return {"type": "object", "properties": properties, "additionalProperties": False}


_COMPARISONS = {Comparison.GTE: "at least", Comparison.GT: "above", Comparison.LTE: "at most", Comparison.LT: "below"}


def describe_comparison(name: str, comparison: Comparison) -> str:
    """The description of a filter such as mark.gte."""
    return f"{name} is {_COMPARISONS[comparison]} this (of dates, no earlier or later)."


def make_name_enums(resource: Resource) -> dict[str, JsonObject]:
    """The enums of the names that parameters may use, by schema: a resource's fields, links and terms of order."""
    sortable = [name for name, field in resource.fields.items() if field.sortable]
    enums = {
        "Field": _make_enum(list(resource.fields), f"A field of {resource.plural}."),
        "Sort": _make_enum(
            [sign + name for name in sortable for sign in ("", "-")], f"What {resource.plural} can be ordered by; - for descending."
        ),
    }
    if resource.links:
        enums["Link"] = _make_enum(list(resource.links), f"A link of {resource.plural}.")
    return {f"{resource.type_name}{suffix}": schema for suffix, schema in enums.items()}


def _make_enum(values: list[str], doc: str) -> JsonObject:
    """An enum, with names for generators of constants: DATE_OF_BIRTH, and DATE_OF_BIRTH_DESC for -dateOfBirth."""
    upper = [re.sub("([A-Z])", r"_\1", value.lstrip("-")).upper() + "_DESC" * value.startswith("-") for value in values]
    return {"type": "string", "enum": values, "x-enum-varnames": upper, "description": doc}


def make_field_path(resource: Resource) -> JsonObject:
    """The schema of a path to a field of the resource, or of a linked resource."""
    own = refer(f"{resource.type_name}Field")
    return {"anyOf": [own, _make_longer_path(resource, MAX_DEPTH)]} if resource.links else own


def make_link_path(resource: Resource) -> JsonObject:
    """The schema of a path to a link of the resource, or of a linked resource."""
    return {"anyOf": [refer(f"{resource.type_name}Link"), _make_longer_path(resource, MAX_DEPTH - 1)]}


def _make_longer_path(resource: Resource, most: int) -> JsonObject:
    return {"type": "string", "pattern": f"^({'|'.join(resource.links)})(\\.[A-Za-z]+){{1,{most}}}$"}


def make_array(item: JsonObject) -> JsonObject:
    """An array of at most MAX_VALUES items."""
    return {"type": "array", "items": item, "maxItems": MAX_VALUES}


def make_count(most: int, **options: int) -> JsonObject:
    """A number of rows. `default` is only for what may always be sent, since generated clients send defaults."""
    return {"type": "integer", "minimum": 1, "maximum": most, **options}


def add_bounds(node: Any) -> Any:
    """A copy of a part of the document, with the bounds of BOUNDS and LENGTHS where a schema has none of its own."""
    if isinstance(node, list):
        return [add_bounds(child) for child in node]
    if not isinstance(node, dict):
        return node
    result = {name: add_bounds(child) for name, child in node.items()}
    types = node.get("type")
    if "enum" not in node and "const" not in node:
        for type_ in [types] if isinstance(types, str) else types if isinstance(types, list) else ():
            result = BOUNDS.get(type_, {}) | result
    if types == "string" and "maxLength" not in node and "format" in node:
        result["maxLength"] = LENGTHS.get(node["format"], MAX_TEXT)
    return result


def refer(schema: str) -> JsonObject:
    """A reference to a schema."""
    return {"$ref": f"#/components/schemas/{schema}"}
