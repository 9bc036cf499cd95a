"""The GraphQL types, made with Strawberry from the declared resources and the inputs and outputs of the commands."""

import keyword
import types
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cache
from inspect import cleandoc
from math import isfinite
from typing import Any, Generic, TypeVar

import msgspec
import strawberry
from graphql import FloatValueNode, GraphQLError, GraphQLFloat, GraphQLScalarType, IntValueNode, ValueNode
from msgspec import inspect
from strawberry.annotation import StrawberryAnnotation
from strawberry.scalars import JSON
from strawberry.types.arguments import StrawberryArgument
from strawberry.types.base import StrawberryObjectDefinition
from strawberry.types.field import StrawberryField
from strawberry.types.scalar import ScalarDefinition

from api.http.json_numbers import read_fraction
from domain import RESOURCES
from domain.declare.ranges import Comparison
from domain.declare.resource import Field, Link, Resource
from domain.declare.value_types import ValueType
from domain.read.query import DEFAULT_FIRST, MAX_FIRST, MAX_NESTED_FIRST

N = TypeVar("N")
F = TypeVar("F", bound=StrawberryField)
RANGE = "range"
NAMES: dict[str, Any] = {
    "ID": strawberry.ID,
    "String": str,
    "Int": int,
    "Float": float,
    "Boolean": bool,
    "Date": date,
    "DateTime": datetime,
    "JSON": JSON,
}
"""The types by name. Resources refer to one another, so a field has the name of its type, which is resolved when the schema is made."""


def make_annotation(expression: str) -> StrawberryAnnotation:
    """The annotation of a type, such as `Name`, `list[Name]` or `Name | None`."""
    return StrawberryAnnotation(expression, namespace=NAMES)


def make_argument(name: str, type_: str, description: str | None = None, default: Any = strawberry.UNSET) -> StrawberryArgument:
    """An argument of a field."""
    return StrawberryArgument(name, name, make_annotation(type_), description=description, default=default)


def make_field(
    kind: type[F],
    name: str,
    type_: str,
    description: str | None = None,
    arguments: Sequence[StrawberryArgument] = (),
    **options: Any,
) -> F:
    """A field. `make_type` removes its annotation: Strawberry would resolve the type of a field with an annotation at once."""
    field = kind(python_name=_python_name(name), graphql_name=name, description=description, **options)
    field.annotation = make_annotation(type_)  # type: ignore[attr-defined]
    field.arguments = list(arguments)
    return field


def make_type(name: str, fields: Mapping[str, StrawberryField], description: str | None, *bases: type, **options: Any) -> type:
    """A type with these fields, which is added to NAMES. `strawberry.tools.create_type` would resolve the types of the fields at once."""
    members = {_python_name(key): field for key, field in fields.items()}
    annotations = {key: field.__dict__.pop("annotation") for key, field in members.items()}
    space = {"__annotations__": annotations, "__module__": __name__, **members}
    plain = types.new_class(name, bases, {}, lambda namespace: namespace.update(space))
    NAMES[name] = strawberry.type(plain, name=name, description=description, **options)
    return NAMES[name]  # type: ignore[no-any-return]


def make_enum(name: str, values: Sequence[str], description: str) -> Callable[[str], StrEnum]:
    """An enumeration of texts."""
    create: Any = StrEnum  # mypy takes no names that it cannot read
    members = create(name, {value: value for value in values})
    NAMES[name] = strawberry.enum(members, name=name, description=description)
    return members  # type: ignore[no-any-return]


def _python_name(name: str) -> str:
    """The attribute name of a field: it must not be a keyword of Python."""
    return f"{name}_" if keyword.iskeyword(name) else name


def _make_input(name: str, members: Mapping[str, StrawberryField], description: str | None) -> None:
    """An input object. Resolvers get the mapping that was sent, in which a missing member differs from null."""
    type_ = make_type(name, members, description, is_input=True)
    definition: StrawberryObjectDefinition = type_.__strawberry_definition__  # type: ignore[attr-defined]
    definition.from_input = lambda cls, values, context: values


def _make_scalar(kind: ValueType, description: str) -> ScalarDefinition:
    def parse(value: Any) -> Any:
        kind.parse(value)
        return value

    return strawberry.scalar(name=kind.graphql, description=description, parse_value=parse)


def _parse_float(value: Any) -> float | Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not isfinite(value):
        raise GraphQLError("Float cannot represent a value that is no number.")
    return value if isinstance(value, Decimal) else float(value)


def _parse_float_literal(node: ValueNode, variables: Any = None) -> float | Decimal:
    """The value of a literal, with every digit: a mark is stored as it was sent."""
    if not isinstance(node, FloatValueNode | IntValueNode):
        raise GraphQLError("Float cannot represent a value that is no number.", node)
    return _parse_float(read_fraction(node.value))


def _make_float() -> ScalarDefinition:
    """GraphQL's Float, with other parsers. graphql-core lets nobody make a type of that name, and so it is named afterwards."""
    exact = GraphQLScalarType(
        "ExactFloat", GraphQLFloat.serialize, _parse_float, _parse_float_literal, description=GraphQLFloat.description
    )
    exact.name = "Float"
    return ScalarDefinition(
        exact.name, exact.description, None, exact.serialize, exact.parse_value, exact.parse_literal, implementation=exact
    )


SCALARS: dict[object, ScalarDefinition] = {
    float: _make_float(),
    date: _make_scalar(ValueType.DATE, "A date, as 2026-09-01 (ISO 8601)."),
    datetime: _make_scalar(ValueType.INSTANT, "An instant with its offset, as 2026-09-01T08:30:00Z (RFC 3339)."),
    JSON: strawberry.scalar(name="JSON", description="Any JSON value, as REST answers it."),
}


@strawberry.interface(description="Anything with an id.")
class Node:
    id: strawberry.ID = strawberry.field(description="Stable id.")


@strawberry.type(name="PageInfo", description="The cursors of a page, and whether rows follow or precede it.")
class RelayPageInfo:
    hasNextPage: bool = strawberry.field(description="Whether more follow.")
    hasPreviousPage: bool = strawberry.field(description="Whether the page was reached by a cursor.")
    startCursor: str | None = strawberry.field(description="The first row's cursor.")
    endCursor: str | None = strawberry.field(description="The last row's cursor: give it as `after`.")


@strawberry.type(description="A row and its cursor.")
class Edge(Generic[N]):
    cursor: str = strawberry.field(description="This row's cursor.")
    node: N = strawberry.field(description="The row.")


@strawberry.type(description="A page (Relay cursor connections).")
class UncountedConnection(Generic[N]):
    edges: list[Edge[N]] = strawberry.field(description="The rows with their cursors.")
    nodes: list[N] = strawberry.field(description="The rows.")
    pageInfo: RelayPageInfo = strawberry.field(description="The cursors of the page, and whether rows follow.")


@strawberry.type(description="A page (Relay cursor connections).")
class Connection(UncountedConnection[N]):
    totalCount: int = strawberry.field(
        description="How many rows there are on all pages, within reach; counted where it is selected."
    )


NAMES |= {"Node": Node, "PageInfo": RelayPageInfo, "Edge": Edge, "Connection": Connection}
_DIRECTION = make_enum("Direction", ("ASC", "DESC"), "Nulls come last in either.")
_COMPARED = {
    Comparison.GTE: "This or more, or later.",
    Comparison.GT: "More than this, or later.",
    Comparison.LTE: "This or less, or earlier.",
    Comparison.LT: "Less than this, or earlier.",
}


def _make_ranges() -> None:
    for kind in (ValueType.INTEGER, ValueType.NUMBER, ValueType.DATE, ValueType.INSTANT):
        bounds = {c.value: make_field(StrawberryField, c.value, f"{kind.graphql} | None", _COMPARED[c]) for c in Comparison}
        _make_input(f"{kind.graphql}Range", bounds, "Bounds; every one given must hold.")


def _name_type(name: str, kind: ValueType) -> str:
    if kind is ValueType.TEXTS:
        return "list[String]"
    return "ID" if name == "id" else kind.graphql


def _make_object(resource: Resource) -> None:
    fields: dict[str, StrawberryField] = {}
    for name, field in resource.fields.items():
        type_ = _make_members(resource, name, field) if field.members else _name_type(name, field.kind)
        needs = f" Needs {field.scope}." if field.scope is not None else ""
        fields[name] = make_field(StrawberryField, name, f"{type_} | None" if field.may_be_null else type_, field.doc + needs)
    for name, link in resource.links.items():
        target = RESOURCES[link.target]
        if link.many:
            arguments = make_page_arguments(target, link)
            fields[name] = make_field(StrawberryField, name, f"Connection[{target.type_name}]", link.doc, arguments)
        else:
            fields[name] = make_field(StrawberryField, name, f"{target.type_name} | None", link.doc)
    make_type(resource.type_name, fields, f"{resource.doc} Needs {resource.scope}.", *[Node] * resource.has_id)


def _make_members(resource: Resource, name: str, field: Field) -> str:
    """Makes the type of a field that is an object, and returns its name."""
    type_name = f"{resource.type_name}{name[0].upper()}{name[1:]}"
    members = {member: make_field(StrawberryField, member, "String", doc) for member, doc in field.members.items()}
    make_type(type_name, members, field.doc)
    return type_name


def make_page_arguments(resource: Resource, link: Link | None = None) -> tuple[StrawberryArgument, ...]:
    """The arguments of a connection of a resource, or of one that a link leads to."""
    paging = _make_paging_arguments(resource)
    choices = [
        make_argument(name, f"{_name_choice(resource, name)} | None", choice.doc)
        for name, choice in resource.list_choices(link).items()
    ]
    declared = resource.list_arguments(link).items()
    arguments = [make_argument(name, f"{_name_type('', each.kind)} | None", each.doc) for name, each in declared]
    return (*paging, *choices, *arguments)


def _name_choice(resource: Resource, name: str) -> str:
    """The name of the enumeration of a choice."""
    return f"{resource.type_name}{name[0].upper()}{name[1:]}"


@cache
def _make_paging_arguments(resource: Resource) -> tuple[StrawberryArgument, ...]:
    name = resource.type_name
    for choice_name, choice in resource.choices.items():
        make_enum(_name_choice(resource, choice_name), list(choice.conditions), f"Which {resource.plural} are listed.")
    _make_filters(resource)
    sortable = [field_name for field_name, field in resource.fields.items() if field.sortable]
    make_enum(f"{name}SortField", sortable, f"What {resource.plural} can be ordered by.")
    order = {
        "field": make_field(StrawberryField, "field", f"{name}SortField"),
        "direction": make_field(StrawberryField, "direction", "Direction | None", default=_DIRECTION("ASC")),
    }
    _make_input(f"{name}OrderBy", order, None)
    rows = f"Rows a page: at most {MAX_FIRST:,} at the top and {MAX_NESTED_FIRST} nested."
    return (
        make_argument("first", "Int | None", rows, default=DEFAULT_FIRST),
        make_argument("after", "String | None", "A cursor."),
        make_argument("where", f"{name}Where | None"),
        make_argument("orderBy", f"list[{name}OrderBy] | None"),
    )


def _make_filters(resource: Resource) -> None:
    name = resource.type_name
    filters = {
        key: make_field(StrawberryField, key, f"{_name_filter_type(key, field)} | None", field.doc)
        for key, field in resource.fields.items()
        if field.filterable
    }
    ranges = {
        key: make_field(StrawberryField, key, f"{field.kind.graphql}Range | None", field.doc)
        for key, field in resource.fields.items()
        if field.comparable
    }
    if ranges:
        _make_input(f"{name}Ranges", ranges, "Every range given must hold.")
        filters[RANGE] = make_field(StrawberryField, RANGE, f"{name}Ranges | None", "Numbers and dates between bounds.")
    _make_input(f"{name}Where", filters, "Every field given must equal one of its values; a list must hold one of them.")


def _name_filter_type(name: str, field: Field) -> str:
    type_ = _name_type(name, field.kind)
    return type_ if field.kind is ValueType.TEXTS else f"list[{type_}]"


_make_ranges()
for _resource in RESOURCES.values():
    _make_object(_resource)


@cache
def make_input_type(struct: type[msgspec.Struct], *more_structs: type[msgspec.Struct]) -> str:
    """Makes the input object of a command's input, with the fields of `more_structs`, and returns its name."""
    name = struct.__name__ if struct.__name__.endswith("Input") else f"{struct.__name__}Input"
    members = {}
    for members_of in (*more_structs, struct):
        for field in inspect.type_info(members_of).fields:  # type: ignore[attr-defined]
            type_, nullable = _unwrap(field.type, make_input_type)
            annotation = f"{type_} | None" if nullable or not field.required else type_
            members[field.encode_name] = make_field(StrawberryField, field.encode_name, annotation, _describe(field.type))
    _make_input(name, members, cleandoc(struct.__doc__ or ""))
    return name


@cache
def make_output_type(struct: type[msgspec.Struct]) -> str:
    """Makes the object type of an answer of the domain, and returns its name."""
    fields = {}
    for field in inspect.type_info(struct).fields:  # type: ignore[attr-defined]
        type_, nullable = _unwrap(field.type, make_output_type)
        is_left_out = not field.required and field.default is field.default_factory is msgspec.NODEFAULT  # UNSET by default
        annotation = f"{type_} | None" if nullable or is_left_out else type_
        fields[field.encode_name] = make_field(StrawberryField, field.encode_name, annotation, _describe(field.type))
    make_type(struct.__name__, fields, cleandoc(struct.__doc__ or ""))
    return struct.__name__


_PLAIN: dict[type[inspect.Type], str] = {
    inspect.StrType: "String",
    inspect.LiteralType: "String",
    inspect.IntType: "Int",
    inspect.FloatType: "Float",
    inspect.BoolType: "Boolean",
    inspect.DateType: "Date",
    inspect.DateTimeType: "DateTime",
    inspect.RawType: "JSON",
}


def _describe(type_: inspect.Type) -> str | None:
    """The description of a field of an input or an answer, with its closed list of values where it has one."""
    if not isinstance(type_, inspect.Metadata):
        return None
    description = str((type_.extra_json_schema or {}).get("description", ""))
    members = type_.type.types if isinstance(type_.type, inspect.UnionType) else (type_.type,)
    values = [str(value) for member in members if isinstance(member, inspect.LiteralType) for value in member.values]
    return f"{description} One of {', '.join(values)}." if values else description


def _unwrap(type_: inspect.Type, make_struct: Any) -> tuple[str, bool]:
    """The name of the GraphQL type of a Python type, and whether it may be null or left out. `make_struct` makes the type of a struct."""
    if isinstance(type_, inspect.Metadata):
        return _unwrap(type_.type, make_struct)
    if isinstance(type_, inspect.UnionType):
        members = [t for t in type_.types if not isinstance(t, inspect.NoneType)]
        if len(members) > 1:  # text or number: an ID takes both
            return "ID", len(members) < len(type_.types)
        return _unwrap(members[0], make_struct)[0], len(members) < len(type_.types)
    if isinstance(type_, inspect.CustomType):
        return "Float", False
    if isinstance(type_, inspect.ListType):
        item, nullable = _unwrap(type_.item_type, make_struct)
        return f"list[{item} | None]" if nullable else f"list[{item}]", False
    if isinstance(type_, inspect.StructType):
        return make_struct(type_.cls), False
    return _PLAIN[type(type_)], False
