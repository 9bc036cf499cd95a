"""From a validated GraphQL operation to ListQuery and RowQuery: fragments, aliases, @skip and @include are resolved here, rules and SQL are elsewhere."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLIncludeDirective,
    GraphQLInterfaceType,
    GraphQLObjectType,
    GraphQLSchema,
    GraphQLSkipDirective,
    SelectionSetNode,
)
from graphql.execution.values import VariableValues, get_argument_values, get_directive_values
from graphql.type import get_named_type

from api.graphql.types import RANGE
from domain import RESOURCES
from domain.access.caller import Caller
from domain.declare.errors import BadRequest, Issue, make_invalid
from domain.declare.ids import get_type_number, parse_id
from domain.declare.ranges import Comparison
from domain.declare.resource import Link, Resource
from domain.read.contradictions import find_contradictions, find_excluded
from domain.read.cursors import Cursors
from domain.read.query import (
    MAX_FIRST,
    MAX_NESTED_FIRST,
    MAX_VALUES,
    MAX_VALUES_PER_REQUEST,
    Condition,
    FieldValue,
    FixedText,
    HasNextPage,
    HasPreviousPage,
    ListQuery,
    NestedObject,
    ObjectMembers,
    Order,
    OutputField,
    OutputFields,
    PageRows,
    Parameter,
    ParameterText,
    Query,
    RowCursor,
    RowQuery,
    ToMany,
    ToOne,
    TotalCount,
    decode_key,
    decode_parameter,
    place_value,
)
from domain.support.slices import Steps
from domain.write.command import MAX_ENTRIES, make_size_issue

Collected = dict[str, list[FieldNode]]
STRIDE = 32
"""Elements of a list that are shown before others may go on."""
_PLACEHOLDER = "\1"


def restore_texts(value: Any, texts: Sequence[str]) -> Any:
    """An argument with the texts of the document in place of their placeholders."""
    match value:
        case str() if value.startswith(_PLACEHOLDER) and value[1:].isdigit() and int(value[1:]) < len(texts):
            return ParameterText(texts[int(value[1:])], int(value[1:]))
        case list():
            return [restore_texts(one, texts) for one in value]
        case dict():
            return {name: restore_texts(one, texts) for name, one in value.items()}
    return value


@dataclass
class Reader:
    """Turns the selection sets of one operation into Selections for one caller."""

    schema: GraphQLSchema
    fragments: dict[str, FragmentDefinitionNode]
    variables: VariableValues
    caller: Caller
    cursors: Cursors
    texts: Sequence[str] = ()
    """The texts of the document that placeholders replace in it."""
    issues: list[Issue] = field(default_factory=list)
    depends_on_texts: bool = False
    """Whether the queries hold for these texts alone, because a text is not a valid id."""
    values: int = 0
    """The number of filter values so far. Several filters may use one variable."""
    row_ids: dict[tuple[str, str], str] = field(default_factory=dict)
    """The ids of rows that arguments name by a code, by resource and code."""
    entries: int = 0
    """The number of rows in the inputs of the commands so far."""
    _fields: dict[Any, list[tuple[str, str, GraphQLObjectType | None, list[SelectionSetNode]]]] = field(default_factory=dict)
    """What selection sets show of the objects of a type: key, name, and of an object its type and selection sets."""

    def collect(self, sets: Sequence[SelectionSetNode], type_: GraphQLObjectType) -> Collected:
        """The fields of an object, by response name, in the order of the document (GraphQL spec, CollectFields)."""
        found: Collected = {}
        visited: set[str] = set()

        def visit(chosen: SelectionSetNode) -> None:
            for node in chosen.selections:
                if not self._is_included(node):
                    continue
                if isinstance(node, FieldNode):
                    found.setdefault(node.alias.value if node.alias else node.name.value, []).append(node)
                elif isinstance(node, FragmentSpreadNode):
                    if node.name.value not in visited:
                        visited.add(node.name.value)
                        fragment = self.fragments[node.name.value]
                        if self._is_applicable(fragment.type_condition.name.value, type_):
                            visit(fragment.selection_set)
                elif node.type_condition is None or self._is_applicable(node.type_condition.name.value, type_):  # type: ignore[attr-defined]
                    visit(node.selection_set)  # type: ignore[attr-defined]

        for chosen in sets:
            visit(chosen)
        return found

    def _is_included(self, node: Any) -> bool:
        skip = get_directive_values(GraphQLSkipDirective, node, self.variables)
        include = get_directive_values(GraphQLIncludeDirective, node, self.variables)
        return not (skip and skip["if"]) and not (include and not include["if"])

    def _is_applicable(self, condition: str, type_: GraphQLObjectType) -> bool:
        if condition == type_.name:
            return True
        named = self.schema.type_map[condition]
        return isinstance(named, GraphQLInterfaceType) and named in type_.interfaces

    def read_arguments(self, parent: GraphQLObjectType, node: FieldNode) -> dict[str, Any]:
        values = get_argument_values(parent.fields[node.name.value], node, self.variables)
        return {name: restore_texts(value, self.texts) for name, value in values.items()} if self.texts else values

    def count_entries(self, command_input: Any) -> None:
        """Counts the rows of a command with those of the commands before it, whose input may be the same variable. Raises Invalid."""
        for name, rows in command_input.items() if isinstance(command_input, dict) else ():
            if isinstance(rows, list):
                self.entries += len(rows)
                if self.entries > MAX_ENTRIES:
                    raise make_invalid([make_size_issue(name, self.entries)])

    def make_query(self, root_type: GraphQLObjectType, nodes: list[FieldNode]) -> Query | None:
        """The query of a root field that selects rows; None where it can find nothing."""
        name = nodes[0].name.value
        if name == "node":
            return self.make_node_query(self.read_arguments(root_type, nodes[0])["id"], nodes)
        for resource in RESOURCES.values():
            if name == resource.name:
                return self.make_row_query(resource, self.read_arguments(root_type, nodes[0])["id"], nodes)
            if name == resource.plural:
                return self.make_list_query(resource, root_type, nodes)
        raise AssertionError(name)

    def find_type(self, parent: GraphQLObjectType, node: FieldNode) -> GraphQLObjectType:
        type_ = get_named_type(parent.fields[node.name.value].type)
        assert isinstance(type_, GraphQLObjectType)
        return type_

    def make_row_query(self, resource: Resource, id_: str, nodes: list[FieldNode]) -> RowQuery:
        """`pupil(id:)`. A text that cannot be an id of the resource picks nothing, unless it is the code of a row."""
        id_ = self.row_ids.get((resource.name, id_), id_)
        picked = decode_key(resource, id_)
        if picked is None:
            self.depends_on_texts = True
        return RowQuery(resource, picked or (), self.make_row_fields(resource, _list_selection_sets(nodes)))

    def make_node_query(self, id_: str, nodes: list[FieldNode]) -> RowQuery | None:
        """`node(id:)`: the id itself says of what it is."""
        for resource in RESOURCES.values():
            if resource.parse_key is not None and resource.identify(id_) is not None:
                return self.make_row_query(resource, id_, nodes)
        parsed = parse_id(id_)
        numbered = {resource.type_number: resource for resource in RESOURCES.values() if resource.type_number is not None}
        named = numbered.get(get_type_number(parsed)) if parsed is not None else None
        self.depends_on_texts = self.depends_on_texts or named is None
        return None if named is None else self.make_row_query(named, id_, nodes)

    def make_row_fields(self, resource: Resource, sets: Sequence[SelectionSetNode]) -> OutputFields:
        type_ = self._find_named_type(resource.type_name)
        items: list[tuple[str, Any]] = []
        for key, nodes in self.collect(sets, type_).items():
            name = nodes[0].name.value
            if name == "__typename":
                items.append((key, FixedText(resource.type_name)))
            elif name in resource.fields and resource.fields[name].members:
                field_type = self.find_type(type_, nodes[0])
                members = self.collect(_list_selection_sets(nodes), field_type)
                items.append((key, ObjectMembers(resource.fields[name], _name_members(members, field_type))))
            elif name in resource.fields:
                items.append((key, FieldValue(resource.fields[name])))
            else:
                link = resource.links[name]
                target = RESOURCES[link.target]
                if link.many:
                    items.append((key, ToMany(link, self.make_list_query(target, type_, nodes, link, f"{resource.name}.{name}"))))
                else:
                    items.append((key, ToOne(link, target, self.make_row_fields(target, _list_selection_sets(nodes)))))
        return tuple(items)

    def make_list_query(
        self,
        resource: Resource,
        parent: GraphQLObjectType,
        nodes: list[FieldNode],
        link: Link | None = None,
        within: str = "",
    ) -> ListQuery:
        """The query of a connection: its arguments, and the response names of its edges, nodes and pageInfo."""
        arguments, most = self.read_arguments(parent, nodes[0]), MAX_FIRST if link is None else MAX_NESTED_FIRST
        at = nodes[0].alias.value if nodes[0].alias else nodes[0].name.value
        first = arguments.get("first")
        if first is None or not 1 <= first <= most:
            self.issues.append(Issue(f"{at}.first", "argument-invalid", f"first is a whole number from 1 to {most}."))
            first = 1
        where = self._read_conditions(f"{at}.where", resource, arguments.get("where") or {})
        named: dict[str, Order] = {}
        for by in arguments.get("orderBy") or ():
            name = str(by["field"])  # a member of an enumeration, whose repr would make cursors of GraphQL's own
            named.setdefault(name, Order(name, resource.fields[name], by.get("direction") == "DESC"))
        order = tuple(named.values())
        connection = self.find_type(parent, nodes[0])
        items = self._make_page_fields(resource, connection, _list_selection_sets(nodes))
        list_arguments = self._read_arguments(at, resource, link, arguments)
        chosen = {name: str(arguments[name]) for name in resource.choices if arguments.get(name) is not None}
        choices = resource.choose(chosen, [condition.name for condition in where], link)
        self._add_contradictions(find_excluded(resource, link, choices, where))
        query = ListQuery(resource, items, where, order, first, path=within, arguments=list_arguments, choices=choices)
        if arguments.get("after") is None:
            return query
        try:
            text = arguments["after"]
            place = self.cursors.decrypt_position(text, self.caller.client_id, query.fingerprint(), f"{at}.after")
            after = Parameter(place, text.text_index, str) if isinstance(text, ParameterText) else place
        except BadRequest as problem:
            self.issues += problem.issues
            return query
        return replace(query, after=after)

    def _read_conditions(self, at: str, resource: Resource, where: dict[str, Any]) -> tuple[Condition, ...]:
        found = []
        for name, value in where.items():
            if name != RANGE:
                field = resource.fields[name]
                values = self._read_values(f"{at}.{name}", name, value, field.parse_filter)
                found.append(Condition(name, field, values, at=f"{at}.{name}"))
                continue
            bounds = [(ranged, by, bound) for ranged, range_ in (value or {}).items() for by, bound in (range_ or {}).items()]
            for ranged, by, bound in bounds:
                ranged_field, comparison, place = resource.fields[ranged], Comparison(by), f"{at}.{RANGE}.{ranged}.{by}"
                parse = partial(ranged_field.parse_bound, comparison)
                values = self._read_values(place, f"{ranged}.{by}", None if bound is None else [bound], parse)
                found.append(Condition(ranged, ranged_field, values, comparison, place))
        self._add_contradictions(find_contradictions([condition for condition in found if "" not in condition.values]))
        return tuple(found)

    def _add_contradictions(self, found: Iterable[tuple[Condition, int, str]]) -> None:
        for condition, i, problem in found:
            place = place_value(condition.at, i, len(condition.values))
            self.issues.append(Issue(place, "filter-value-invalid", f"The value given for {condition.label} {problem}."))

    def _read_arguments(
        self, at: str, resource: Resource, link: Link | None, values: dict[str, Any]
    ) -> tuple[tuple[str, Any], ...]:
        """The arguments of the list, parsed. One that is null is left out."""
        sent = {name: each for name, each in resource.list_arguments(link).items() if values.get(name) is not None}
        for name in [name for name, argument in sent.items() if argument.same_as in sent]:
            message = f"{name} is another name of {sent[name].same_as}. Send one of them."
            self.issues.append(Issue(f"{at}.{name}", "parameter-repeated", message))
        return tuple((each.same_as or name, decode_parameter(values[name], each.kind.parse)) for name, each in sent.items())

    def _read_values(self, at: str, name: str, values: list[Any] | None, parse: Callable[[Any], Any]) -> tuple[Any, ...]:
        if values is None:
            self.issues.append(Issue(at, "filter-value-invalid", "null is not a value to filter by; leave the filter out."))
            return ("",)
        if not values:
            self.issues.append(Issue(at, "filter-value-invalid", f"{name} is given no value; leave the filter out."))
            return ("",)
        self.values += len(values)
        if self.values > MAX_VALUES_PER_REQUEST:
            message = f"The filters up to this one are given more than {MAX_VALUES_PER_REQUEST:,} values in all."
            self.issues.append(Issue(at, "filter-too-long", message))
            raise BadRequest("Some arguments cannot be used.", code="argument-invalid", issues=tuple(self.issues))
        if len(values) > MAX_VALUES:
            self.issues.append(Issue(at, "filter-too-long", f"{name} is given more than {MAX_VALUES:,} values."))
            return ("",)
        parsed = []
        for i, value in enumerate(values):
            try:
                parsed.append(decode_parameter(value, parse))
            except ValueError as problem:
                place = place_value(at, i, len(values))
                self.issues.append(Issue(place, "filter-value-invalid", f"The value given for {name} {problem}."))
        return tuple(parsed) if len(parsed) == len(values) else ("",)

    def _make_page_fields(
        self, resource: Resource, connection: GraphQLObjectType, sets: Sequence[SelectionSetNode]
    ) -> OutputFields:
        items: list[tuple[str, Any]] = []
        for key, nodes in self.collect(sets, connection).items():
            below = _list_selection_sets(nodes)
            match nodes[0].name.value:
                case "__typename":
                    items.append((key, FixedText(connection.name)))
                case "totalCount":
                    items.append((key, TotalCount()))
                case "nodes":
                    items.append((key, PageRows(self.make_row_fields(resource, below))))
                case "edges":
                    items.append((key, PageRows(self._make_edge_fields(resource, self.find_type(connection, nodes[0]), below))))
                case _:
                    items.append((key, NestedObject(self._make_info_fields(self.find_type(connection, nodes[0]), below))))
        return tuple(items)

    def _make_edge_fields(self, resource: Resource, edge: GraphQLObjectType, sets: Sequence[SelectionSetNode]) -> OutputFields:
        items: list[tuple[str, Any]] = []
        for key, nodes in self.collect(sets, edge).items():
            match nodes[0].name.value:
                case "__typename":
                    items.append((key, FixedText(edge.name)))
                case "cursor":
                    items.append((key, RowCursor()))
                case _:
                    items.append((key, NestedObject(self.make_row_fields(resource, _list_selection_sets(nodes)))))
        return tuple(items)

    def _make_info_fields(self, info: GraphQLObjectType, sets: Sequence[SelectionSetNode]) -> OutputFields:
        written: dict[str, OutputField] = {
            "hasNextPage": HasNextPage(),
            "hasPreviousPage": HasPreviousPage(),
            "startCursor": RowCursor(first=True),
            "endCursor": RowCursor(),
        }
        return tuple(
            (key, FixedText(info.name) if nodes[0].name.value == "__typename" else written[nodes[0].name.value])
            for key, nodes in self.collect(sets, info).items()
        )

    def project(self, value: Any, type_: GraphQLObjectType, sets: Sequence[SelectionSetNode]) -> Steps[Any]:
        """The fields of a plain value (the output of a command, aggregates) that a selection set names."""
        if value is None:
            return None
        if isinstance(value, list):
            elements = []
            for i, element in enumerate(value):
                if i % STRIDE == STRIDE - 1:
                    yield
                elements.append((yield from self.project(element, type_, sets)))
            return elements
        selected: dict[str, Any] = {}
        for key, name, inner, below in self._list_fields(type_, sets):
            if name == "__typename":
                selected[key] = type_.name
            else:
                selected[key] = value.get(name) if inner is None else (yield from self.project(value.get(name), inner, below))
        return selected

    def list_names(self, type_: GraphQLObjectType, sets: Sequence[SelectionSetNode], *path: str) -> set[str]:
        """The names of the fields that are selected of an object, or of one that it leads to by a path of fields."""
        fields = self._list_fields(type_, sets)
        if not path:
            return {name for _, name, _, _ in fields}
        below = ((inner, sets) for _, name, inner, sets in fields if name == path[0] and inner is not None)
        return {name for inner, sets in below for name in self.list_names(inner, sets, *path[1:])}

    def _list_fields(
        self, type_: GraphQLObjectType, sets: Sequence[SelectionSetNode]
    ) -> list[tuple[str, str, GraphQLObjectType | None, list[SelectionSetNode]]]:
        key = type_.name, *map(id, sets)
        if key not in self._fields:
            self._fields[key] = []
            for answered, nodes in self.collect(sets, type_).items():
                name = nodes[0].name.value
                inner = None if name == "__typename" else get_named_type(type_.fields[name].type)
                inner = inner if isinstance(inner, GraphQLObjectType) else None
                self._fields[key].append((answered, name, inner, _list_selection_sets(nodes)))
        return self._fields[key]

    def _find_named_type(self, name: str) -> GraphQLObjectType:
        type_ = self.schema.type_map[name]
        assert isinstance(type_, GraphQLObjectType)
        return type_


def _name_members(members: Collected, type_: GraphQLObjectType) -> tuple[tuple[str, str, bool], ...]:
    named = ((key, nodes[0].name.value) for key, nodes in members.items())
    return tuple((key, type_.name, True) if name == "__typename" else (key, name, False) for key, name in named)


def _list_selection_sets(nodes: list[FieldNode]) -> list[SelectionSetNode]:
    return [node.selection_set for node in nodes if node.selection_set is not None]
