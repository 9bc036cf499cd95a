"""The form of a GraphQL request: its document and variables without the texts that stand for values, so that a client whose documents hold its values
is served as one that sends variables.
"""

import re
from collections.abc import Collection, Hashable, Mapping, Sequence
from typing import Any

from graphql import GraphQLEnumType, GraphQLInputObjectType, GraphQLInputType, OperationDefinitionNode, type_from_ast
from graphql.type import get_named_type

from api.graphql.schema import schema
from domain.engine.selection import Lifted

# What is never closed is taken to its end, where it has one: from each quote in it, the rest would be looked through again.
_STRINGS = re.compile(r'"""(?:\\"""|[^"]|"(?!""))*(?:"""|\Z)|#[^\n\r]*|"([^"\\\n\r]*)"|"(?:[^"\\\n\r]|\\.)*(?:"|$|(?=[\n\r\\]))')
_PLACEHOLDER = "\1"


def lift(source: str) -> tuple[str, list[str]]:
    """The document with its strings replaced by placeholders, and the strings. Those with escapes, and in blocks, stay."""
    texts: list[str] = []

    def lifted(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0]
        texts.append(found[1])
        return f'"\\u0001{len(texts) - 1}"'

    return _STRINGS.sub(lifted, source), texts


def replaced(value: Any, texts: Sequence[str]) -> Any:
    """An argument with the lifted texts in place of their placeholders."""
    match value:
        case str() if value.startswith(_PLACEHOLDER) and value[1:].isdigit() and int(value[1:]) < len(texts):
            return Lifted(texts[int(value[1:])], int(value[1:]))
        case list():
            return [replaced(one, texts) for one in value]
        case dict():
            return {name: replaced(one, texts) for name, one in value.items()}
    return value


def lift_variables(variables: Mapping[str, Any], shaping: Collection[str], texts: list[str]) -> tuple[Hashable, dict[str, Any]]:
    """The form of the variables, and they with their texts lifted (and added to `texts`); those that are `shaping` are a part of the form as they are."""

    def lifted(value: Any) -> tuple[Hashable, Any]:
        match value:
            case str():
                texts.append(value)
                return None, Lifted(value, len(texts) - 1)
            case list():
                pairs = [lifted(one) for one in value]
                return ("[", *(form for form, _ in pairs)), [one for _, one in pairs]
            case dict():
                named = {name: lifted(one) for name, one in value.items()}
                return ("{", *((name, form) for name, (form, _) in named.items())), {name: one for name, (_, one) in named.items()}
            case None:
                return ("null",), None
        return (type(value), value), value

    forms: list[Hashable] = []
    given: dict[str, Any] = {}
    for name, value in variables.items():
        form, given[name] = (_frozen(value), value) if name in shaping else lifted(value)
        forms.append((name, form))
    return tuple(forms), given


def _frozen(value: Any) -> Hashable:
    match value:
        case list():
            return ("[", *map(_frozen, value))
        case dict():
            return ("{", *((name, _frozen(one)) for name, one in value.items()))
    return (type(value), value)


def shaping_variables(operation: OperationDefinitionNode) -> frozenset[str]:
    """The variables whose texts may name an order, which are a part of what is asked and no values."""
    return frozenset(
        definition.variable.name.value
        for definition in operation.variable_definitions or ()
        if (type_ := type_from_ast(schema(), definition.type)) is None or _has_enum(type_, set())  # type: ignore[arg-type]
    )


def _has_enum(type_: GraphQLInputType, seen: set[str]) -> bool:
    named = get_named_type(type_)
    if isinstance(named, GraphQLEnumType):
        return True
    if not isinstance(named, GraphQLInputObjectType) or named.name in seen:
        return False
    seen.add(named.name)
    return any(_has_enum(member.type, seen) for member in named.fields.values())
