"""Coerces the variables of an operation (GraphQL specification, section 6.1.2).

The input of a command is parsed by the command, in GraphQL as in REST. A variable that holds such an input, or a part of one, reaches the command as it
was sent where it does not have its declared type. So one wrong value is an issue of its row and refuses no lenient batch.
"""

from collections.abc import Collection, Iterator
from typing import Any

from graphql import GraphQLError, GraphQLInputObjectType, GraphQLList, GraphQLNonNull, GraphQLSchema, Node, type_from_ast
from graphql.execution.values import VariableValues, get_variable_values
from graphql.language import ArgumentNode, VariableDefinitionNode, VariableNode

from api.graphql.document import Operation
from api.graphql.limits import MAX_ERRORS
from api.graphql.literals import INPUT, read_literal
from domain.declare.errors import FaultyValue


def coerce_variables(schema: GraphQLSchema, operation: Operation, variables: dict[str, Any]) -> VariableValues | list[GraphQLError]:
    """The values of the variables and of the literals that are inputs of commands, or the errors of those that no command parses."""
    coerced = _coerce_declared(schema, operation, variables)
    if isinstance(coerced, list) or not operation.literals:
        return coerced
    values = {**coerced.coerced, **variables}
    inputs = {name: _coerce_lists(literal.type, read_literal(literal.node, values)) for name, literal in operation.literals.items()}
    return coerced._replace(coerced=coerced.coerced | inputs)


def _coerce_declared(schema: GraphQLSchema, operation: Operation, variables: dict[str, Any]) -> VariableValues | list[GraphQLError]:
    definitions = operation.definition.variable_definitions or ()
    coerced = get_variable_values(schema, definitions, variables, MAX_ERRORS, True)
    if operation.is_query or not isinstance(coerced, list):
        return coerced
    names = _list_inputs(operation)
    inputs = {
        name: _coerce_lists(type_from_ast(schema, definition.type), variables[name])
        for definition in definitions
        if (name := definition.variable.name.value) in names and variables.get(name) is not None
    }
    others = [definition for definition in definitions if definition.variable.name.value not in inputs]
    coerced = get_variable_values(schema, others, variables, MAX_ERRORS, True)
    return coerced if isinstance(coerced, list) else coerced._replace(coerced=coerced.coerced | inputs)


def _coerce_lists(type_: Any, value: Any) -> Any:
    """The value with a list in place of a single value where the type is a list (section 3.11), whatever else is wrong with it."""
    if isinstance(type_, GraphQLNonNull):
        return _coerce_lists(type_.of_type, value)
    if isinstance(type_, GraphQLList) and value is not None and not isinstance(value, FaultyValue):
        return [_coerce_lists(type_.of_type, element) for element in (value if isinstance(value, list) else [value])]
    if isinstance(type_, GraphQLInputObjectType) and isinstance(value, dict):
        fields = type_.fields
        return {name: _coerce_lists(fields[name].type, member) if name in fields else member for name, member in value.items()}
    return value


def _list_inputs(operation: Operation) -> Collection[str]:
    """The variables that stand in inputs of commands alone."""
    used: dict[bool, set[str]] = {True: set(), False: set()}
    for definition in operation.executable.definitions:
        for is_input, name in _list_uses(definition, False):
            used[is_input].add(name)
    for literal in operation.literals.values():
        used[True].update(name for _, name in _list_uses(literal.node, True))
    return used[True] - used[False]


def _list_uses(node: Node, is_input: bool) -> Iterator[tuple[bool, str]]:
    """The names of the variables below a node, each with whether it stands in the input of a command."""
    if isinstance(node, VariableDefinitionNode):
        return
    if isinstance(node, VariableNode):
        yield is_input, node.name.value
        return
    is_input = is_input or (isinstance(node, ArgumentNode) and node.name.value == INPUT)
    for key in node.keys:
        below = getattr(node, key, None)
        for child in below if isinstance(below, list | tuple) else (below,):
            if isinstance(child, Node):
                yield from _list_uses(child, is_input)
