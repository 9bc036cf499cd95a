"""The GraphQL schema, made from the catalogue and the commands' inputs and outputs. Nothing about a field is said here a second time.

Reads have no resolvers: execute.py compiles them to one SQL statement. graphql-core parses, validates and answers introspection.
"""

import functools
from collections.abc import Callable
from inspect import cleandoc
from typing import Any

import msgspec
from graphql import (
    GraphQLArgument,
    GraphQLBoolean,
    GraphQLEnumType,
    GraphQLField,
    GraphQLFloat,
    GraphQLID,
    GraphQLInputField,
    GraphQLInputObjectType,
    GraphQLInt,
    GraphQLInterfaceType,
    GraphQLList,
    GraphQLNonNull,
    GraphQLObjectType,
    GraphQLScalarType,
    GraphQLSchema,
    GraphQLString,
    print_schema,
)
from msgspec import inspect

from domain import COMMANDS, RESOURCES
from domain.consent.me import Me
from domain.engine.answers import KeptAnswer
from domain.engine.change import Which
from domain.engine.command import GRAPHQL, Command
from domain.engine.resource import Comparison, Kind, Resource
from domain.engine.selection import FIRST, MAX_FIRST, MAX_NESTED_FIRST
from domain.insight.aggregates import AggregateRow, Coverage, ExcludedSchool
from domain.insight.question import DIMENSIONS, VIEWS


def _text_scalar(name: str, description: str, kind: Kind) -> GraphQLScalarType:
    def coerce(value: Any) -> Any:
        kind.parse(value)
        return value

    return GraphQLScalarType(name, coerce_input_value=coerce, description=description)


_COMPARED = {
    Comparison.GTE: "This or more, or later.",
    Comparison.GT: "More than this, or later.",
    Comparison.LTE: "This or less, or earlier.",
    Comparison.LT: "Less than this, or earlier.",
}
DATE = _text_scalar("Date", "A date, as 2026-09-01 (ISO 8601).", Kind.DATE)
INSTANT = _text_scalar("DateTime", "An instant with its offset, as 2026-09-01T08:30:00Z (RFC 3339).", Kind.INSTANT)
JSON = GraphQLScalarType("JSON", description="Any JSON value, as REST answers it.")
SCALARS: dict[Kind, Any] = {
    Kind.ID: GraphQLID,
    Kind.TEXT: GraphQLString,
    Kind.TEXTS: GraphQLList(GraphQLNonNull(GraphQLString)),
    Kind.INTEGER: GraphQLInt,
    Kind.NUMBER: GraphQLFloat,
    Kind.BOOLEAN: GraphQLBoolean,
    Kind.DATE: DATE,
    Kind.INSTANT: INSTANT,
}
RANGE = "range"
RANGES = {
    kind: GraphQLInputObjectType(
        f"{kind.graphql}Range",
        {comparison.value: GraphQLInputField(SCALARS[kind], description=_COMPARED[comparison]) for comparison in Comparison},
        description="Bounds; every one given must hold.",
    )
    for kind in (Kind.INTEGER, Kind.NUMBER, Kind.DATE, Kind.INSTANT)
}
NODE = GraphQLInterfaceType(
    "Node", {"id": GraphQLField(GraphQLNonNull(GraphQLID), description="Stable id.")}, description="Anything with an id."
)
DIRECTION = GraphQLEnumType("Direction", {"ASC": "ASC", "DESC": "DESC"}, description="Nulls come last in either.")
PAGE_INFO = GraphQLObjectType(
    "PageInfo",
    {
        "hasNextPage": GraphQLField(GraphQLNonNull(GraphQLBoolean), description="Whether more follow."),
        "hasPreviousPage": GraphQLField(GraphQLNonNull(GraphQLBoolean), description="Whether the page was reached by a cursor."),
        "startCursor": GraphQLField(GraphQLString, description="The first row's cursor."),
        "endCursor": GraphQLField(GraphQLString, description="The last row's cursor: give it as `after`."),
    },
    description="Where a page stands.",
)


def _connection(name: str, node: GraphQLObjectType, **more: GraphQLField) -> GraphQLObjectType:
    edge = GraphQLObjectType(
        f"{name}Edge",
        {
            "cursor": GraphQLField(GraphQLNonNull(GraphQLString), description="This row's cursor."),
            "node": GraphQLField(GraphQLNonNull(node), description="The row."),
        },
        description="A row and its cursor.",
    )
    return GraphQLObjectType(
        f"{name}Connection",
        {
            "edges": GraphQLField(GraphQLNonNull(GraphQLList(GraphQLNonNull(edge))), description="The rows with their cursors."),
            "nodes": GraphQLField(GraphQLNonNull(GraphQLList(GraphQLNonNull(node))), description="The rows."),
            "pageInfo": GraphQLField(GraphQLNonNull(PAGE_INFO), description="Where the page stands."),
            **more,
        },
        description="A page (Relay cursor connections).",
    )


class _Reads:
    """The object types, connections and arguments of the resources."""

    def __init__(self) -> None:
        self.types = {name: self._object(resource) for name, resource in RESOURCES.items()}
        self.connections = {name: _connection(RESOURCES[name].type_name, type_) for name, type_ in self.types.items()}
        self.arguments = {name: self._arguments(resource) for name, resource in RESOURCES.items()}

    def _object(self, resource: Resource) -> GraphQLObjectType:
        def fields() -> dict[str, GraphQLField]:
            found = {}
            for name, field in resource.fields.items():
                type_: Any = GraphQLID if name == "id" else SCALARS[field.kind]
                needs = f" Needs {field.scope}." if field.scope is not None else ""
                found[name] = GraphQLField(type_ if field.may_be_null else GraphQLNonNull(type_), description=field.doc + needs)
            for name, link in resource.links.items():
                if link.many:
                    connection = GraphQLNonNull(self.connections[link.target])
                    told = {n: GraphQLArgument(SCALARS[a.kind], description=a.doc) for n, a in link.arguments.items()}
                    found[name] = GraphQLField(connection, self.arguments[link.target] | told, description=link.doc)
                else:
                    found[name] = GraphQLField(self.types[link.target], description=link.doc)
            return found

        node = [NODE] if resource.has_id else []
        return GraphQLObjectType(resource.type_name, fields, interfaces=node, description=f"{resource.doc} Needs {resource.scope}.")

    def _arguments(self, resource: Resource) -> dict[str, GraphQLArgument]:
        filters = {
            name: GraphQLInputField(
                SCALARS[Kind.TEXTS]
                if field.kind is Kind.TEXTS
                else GraphQLList(GraphQLNonNull(GraphQLID if name == "id" else SCALARS[field.kind])),
                description=field.doc,
            )
            for name, field in resource.fields.items()
        }
        ranges = {
            name: GraphQLInputField(RANGES[field.kind], description=field.doc)
            for name, field in resource.fields.items()
            if field.comparable
        }
        if ranges:
            between = GraphQLInputObjectType(f"{resource.type_name}Ranges", ranges, description="Every range given must hold.")
            filters[RANGE] = GraphQLInputField(between, description="Numbers and dates between bounds.")
        where = GraphQLInputObjectType(
            f"{resource.type_name}Where",
            filters,
            description="Every field given must equal one of its values; a list must hold one of them.",
        )
        sortable = {name: name for name, field in resource.fields.items() if field.sortable}
        by = GraphQLEnumType(f"{resource.type_name}SortField", sortable, description=f"What {resource.plural} can be ordered by.")
        order = GraphQLInputObjectType(
            f"{resource.type_name}OrderBy",
            {"field": GraphQLInputField(GraphQLNonNull(by)), "direction": GraphQLInputField(DIRECTION, default_value="ASC")},
        )
        return {
            "first": GraphQLArgument(
                GraphQLInt,
                default_value=FIRST,
                description=f"Rows a page: at most {MAX_FIRST:,} at the top and {MAX_NESTED_FIRST} nested.",
            ),
            "after": GraphQLArgument(GraphQLString, description="A cursor."),
            "where": GraphQLArgument(where),
            "orderBy": GraphQLArgument(GraphQLList(GraphQLNonNull(order))),
        }


@functools.cache
def input_type(struct: type[msgspec.Struct], *with_those_of: type[msgspec.Struct]) -> GraphQLInputObjectType:
    """The input object of a command's input; a field may be left out unless it is required."""
    infos = [inspect.type_info(each) for each in (*with_those_of, struct)]
    name = struct.__name__ if struct.__name__.endswith("Input") else f"{struct.__name__}Input"
    fields = lambda: {f.encode_name: GraphQLInputField(_input(f.type, f.required)) for info in infos for f in info.fields}  # type: ignore[attr-defined]  # noqa: E731
    return GraphQLInputObjectType(name, fields, description=cleandoc(struct.__doc__ or ""))


def _input(type_: inspect.Type, required: bool) -> Any:
    found, nullable = _wrapped(type_, input_type)
    return GraphQLNonNull(found) if required and not nullable else found


@functools.cache
def output_type(struct: type[msgspec.Struct]) -> GraphQLObjectType:
    """The object type of what a command or another function of the domain answers."""
    info = inspect.type_info(struct)
    assert isinstance(info, inspect.StructType)

    def fields() -> dict[str, GraphQLField]:
        found = {}
        for field in info.fields:
            type_, nullable = _wrapped(field.type, output_type)
            found[field.encode_name] = GraphQLField(type_ if nullable else GraphQLNonNull(type_))
        return found

    return GraphQLObjectType(struct.__name__, fields, description=cleandoc(struct.__doc__ or ""))


_PLAIN: dict[type[inspect.Type], Any] = {
    inspect.StrType: GraphQLString,
    inspect.LiteralType: GraphQLString,
    inspect.IntType: GraphQLInt,
    inspect.FloatType: GraphQLFloat,
    inspect.BoolType: GraphQLBoolean,
    inspect.DateType: DATE,
    inspect.DateTimeType: INSTANT,
    inspect.RawType: JSON,
}


def _wrapped(type_: inspect.Type, of_struct: Callable[[type[msgspec.Struct]], Any]) -> tuple[Any, bool]:
    """The GraphQL type of a Python one, and whether it may be null or left out."""
    if isinstance(type_, inspect.UnionType):
        members = [t for t in type_.types if not isinstance(t, inspect.NoneType)]
        if len(members) > 1:  # text or number: an ID takes both
            return GraphQLID, len(members) < len(type_.types)
        return _wrapped(members[0], of_struct)[0], len(members) < len(type_.types)
    if isinstance(type_, inspect.ListType):
        item, nullable = _wrapped(type_.item_type, of_struct)
        return GraphQLList(item if nullable else GraphQLNonNull(item)), False
    if isinstance(type_, inspect.StructType):
        return of_struct(type_.cls), False
    return _PLAIN[type(type_)], False


def _mutation(command: Command) -> GraphQLField:
    arguments = {"input": GraphQLArgument(GraphQLNonNull(input_type(command.takes, *[Which] * command.changes)))}
    if command.entries is not None:
        handling = "strict (all or nothing, the default) or lenient (good rows land, bad rows are listed)."
        arguments["handling"] = GraphQLArgument(GraphQLString, default_value="strict", description=handling)
        arguments["return"] = GraphQLArgument(
            GraphQLString, default_value="minimal", description="minimal or representation (what became of each row)."
        )
    arguments["dryRun"] = GraphQLArgument(GraphQLBoolean, default_value=False, description="Do everything, then undo it.")
    key = "The same key and input within 7 days give the first answer."
    arguments["idempotencyKey"] = GraphQLArgument(GraphQLString, description=key)
    return GraphQLField(output_type(command.gives), arguments, description=f"{command.doc} Needs {command.scope}.")


AGGREGATE_DIMENSION = GraphQLEnumType(
    "AggregateDimension", {name: name for name in DIMENSIONS}, description="What aggregates can be grouped by."
)
AGGREGATE_VIEW = GraphQLEnumType(
    "AggregateView",
    {name: name for name in VIEWS},
    description="own: as the caller is entitled to. public: as a reader with aggregates:read sees it, with reasons; needs aggregates:internal.",
)


def _aggregates() -> GraphQLField:
    arguments = {
        "groupBy": GraphQLArgument(
            GraphQLNonNull(GraphQLList(GraphQLNonNull(AGGREGATE_DIMENSION))), description="One to three dimensions."
        ),
        "window": GraphQLArgument(GraphQLString, description="A window by code or id; needed unless grouped by."),
        "subject": GraphQLArgument(GraphQLString, description="A subject by code; needed unless grouped by."),
        "trust": GraphQLArgument(
            GraphQLID, description="A trust by id or GIAS group UID: its members on the window's census date."
        ),
        "school": GraphQLArgument(GraphQLList(GraphQLNonNull(GraphQLID)), description="Schools by id or URN."),
        "view": GraphQLArgument(AGGREGATE_VIEW, default_value=VIEWS[0], description="As whom to see them."),
        "first": GraphQLArgument(GraphQLInt, default_value=100),
        "after": GraphQLArgument(GraphQLString),
    }
    excluded = GraphQLNonNull(GraphQLList(GraphQLNonNull(output_type(ExcludedSchool))))
    connection = _connection(
        "Aggregate",
        output_type(AggregateRow),
        excluded=GraphQLField(excluded, description="The schools asked about that contribute to no row."),
        coverage=GraphQLField(GraphQLNonNull(output_type(Coverage)), description="How many schools contribute."),
    )
    doc = "Results pooled over pupils. Needs aggregates:read, which hides small groups, or aggregates:internal."
    return GraphQLField(GraphQLNonNull(connection), arguments, description=doc)


@functools.cache
def schema() -> GraphQLSchema:
    """The schema, made once."""
    reads = _Reads()
    query: dict[str, GraphQLField] = {
        "node": GraphQLField(NODE, {"id": GraphQLArgument(GraphQLNonNull(GraphQLID))}, description="Anything by its id, or null.")
    }
    for name, resource in RESOURCES.items():
        if resource.has_id:
            by_id = {"id": GraphQLArgument(GraphQLNonNull(GraphQLID))}
            query[name] = GraphQLField(reads.types[name], by_id, description=f"{resource.doc} Null where it is not within reach.")
        query[resource.plural] = GraphQLField(
            GraphQLNonNull(reads.connections[name]), reads.arguments[name], description=resource.doc
        )
    query["aggregates"] = _aggregates()
    query["receipt"] = GraphQLField(
        GraphQLList(GraphQLNonNull(output_type(KeptAnswer))),
        {"key": GraphQLArgument(GraphQLNonNull(GraphQLString), description="The idempotencyKey of the request.")},
        description="What became of a request whose answer was lost; null where no request with the key ended well within 7 days.",
    )
    query["me"] = GraphQLField(GraphQLNonNull(output_type(Me)), description="Where the client stands. Needs no scope.")
    mutation = {command.operation: _mutation(command) for command in COMMANDS.values() if GRAPHQL in command.doors}
    return GraphQLSchema(
        GraphQLObjectType("Query", query, description="Everything that can be read."),
        GraphQLObjectType("Mutation", mutation, description="Everything that can be written."),
        types=list(reads.types.values()),
    )


def schema_text() -> str:
    """The schema in SDL, as committed in schema.graphql."""
    return print_schema(schema()) + "\n"
