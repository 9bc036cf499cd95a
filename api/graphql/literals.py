"""Literals of a document: those in the input of a command, which the command parses as it parses variables, and the places of others."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from graphql import (
    ArgumentNode,
    BooleanValueNode,
    DirectiveNode,
    DocumentNode,
    EnumValueNode,
    FieldNode,
    FloatValueNode,
    GraphQLInputType,
    GraphQLSchema,
    IntValueNode,
    ListValueNode,
    NameNode,
    Node,
    ObjectFieldNode,
    ObjectValueNode,
    StringValueNode,
    ValueNode,
    VariableDefinitionNode,
    VariableNode,
    Visitor,
    visit,
)
from graphql.language import NullValueNode

from api.http.command_body import mark_fraction, mark_integer, mark_text

INPUT = "input"
"""The argument of a mutation that holds the input of its command."""


class InputLiteral(NamedTuple):
    """The literal of an input, and its type."""

    node: ValueNode
    type: GraphQLInputType


class _Replacer(Visitor):
    def __init__(self, schema: GraphQLSchema) -> None:
        super().__init__()
        assert schema.mutation_type is not None
        self._commands = schema.mutation_type.fields
        self.literals: dict[str, InputLiteral] = {}

    def enter_field(self, node: FieldNode, *_: Any) -> FieldNode | None:
        command = self._commands.get(node.name.value)
        if command is None or INPUT not in command.args:
            return None
        arguments = tuple(self._replace(argument, command.args[INPUT].type) for argument in node.arguments or ())
        return FieldNode(
            alias=node.alias,
            name=node.name,
            arguments=arguments,
            directives=node.directives,
            selection_set=node.selection_set,
            loc=node.loc,
        )

    def _replace(self, argument: ArgumentNode, type_: GraphQLInputType) -> ArgumentNode:
        if argument.name.value != INPUT or isinstance(argument.value, VariableNode | NullValueNode):
            return argument
        name = f"{INPUT} {len(self.literals)}"  # the blank stands in no variable of a document
        self.literals[name] = InputLiteral(argument.value, type_)
        return ArgumentNode(name=argument.name, value=VariableNode(name=NameNode(value=name)), loc=argument.loc)


def replace_inputs(schema: GraphQLSchema, document: DocumentNode) -> tuple[DocumentNode, dict[str, InputLiteral]]:
    """The document with a variable in place of each literal that is the input of a command, and the literals by these variables."""
    replacer = _Replacer(schema)
    return visit(document, replacer), replacer.literals


_MISSING = object()


def read_literal(node: ValueNode, variables: Mapping[str, Any]) -> Any:
    """The JSON value that a literal is. A variable without a value is null in a list, and leaves out the field of an object (section 3.10)."""
    value = _read_literal(node, variables)
    return None if value is _MISSING else value


def _read_literal(node: ValueNode, variables: Mapping[str, Any]) -> Any:
    match node:
        case VariableNode():
            return variables.get(node.name.value, _MISSING)
        case ObjectValueNode():
            members = ((field.name.value, _read_literal(field.value, variables)) for field in node.fields)
            return {name: value for name, value in members if value is not _MISSING}
        case ListValueNode():
            return [read_literal(element, variables) for element in node.values]
        case IntValueNode():
            return mark_integer(node.value)
        case FloatValueNode():
            return mark_fraction(node.value)
        case StringValueNode():
            return mark_text(node.value)
        case BooleanValueNode() | EnumValueNode():
            return node.value
    return None


def find_places(document: DocumentNode, nodes: set[int]) -> dict[int, str]:
    """The places of nodes, by their ids: the response name of the field, its argument, and the names and indexes below; of a default, the variable."""
    found: dict[int, str] = {}
    for definition in document.definitions:
        for node, path in _walk(definition, ()):
            if id(node) in nodes:
                found.setdefault(id(node), ".".join(path))
    return found


def _walk(node: Node, path: tuple[str, ...]) -> Iterator[tuple[Node, tuple[str, ...]]]:
    """Yields a node and all below it with their paths, without recursion."""
    remaining = [(node, path)]
    while remaining:
        node, path = remaining.pop()
        match node:
            case FieldNode():
                path = (*path, (node.alias or node.name).value)
            case DirectiveNode():
                path = (*path, f"@{node.name.value}")
            case VariableDefinitionNode():
                path = (f"${node.variable.name.value}",)
            case ArgumentNode() | ObjectFieldNode():
                path = (*path, node.name.value)
        yield node, path
        for key in node.keys:
            below = getattr(node, key, None)
            if isinstance(node, ListValueNode) and key == "values":
                remaining += [(child, (*path, str(i))) for i, child in enumerate(node.values)]
            else:
                children = below if isinstance(below, list | tuple) else (below,)
                remaining += [(child, path) for child in children if isinstance(child, Node)]
