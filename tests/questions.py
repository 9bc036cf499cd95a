"""Random questions to ask of both doors, in neither door's words: what is asked, how REST is told, and how GraphQL may be told."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import httpx2

from domain import RESOURCES
from domain.engine.access import Caller
from domain.engine.resource import Filter, Kind, Link, Resource
from domain.engine.selection import visible


@dataclass
class Ask:
    """A question in neither door's words: fields of a resource, pages or rows it is linked with, filters, an order and a size."""

    resource: Resource
    fields: list[str]
    links: dict[str, "Ask"] = field(default_factory=dict)
    where: dict[str, list[Any]] = field(default_factory=dict)
    ranges: dict[str, dict[str, Any]] = field(default_factory=dict)
    order: list[tuple[str, bool]] = field(default_factory=list)
    given: dict[str, str] = field(default_factory=dict)
    first: int = 50
    named: bool = True
    """Whether REST is told the fields. They are all that the client may see, where it is not."""

    @property
    def identifies(self) -> bool:
        """Whether a filter may not stand in a URL."""
        return any(self.resource.fields[name].filter is Filter.BODY for name in (*self.where, *self.ranges))

    @property
    def compared(self) -> dict[str, Any]:
        """The ranges by REST's names, such as mark.gte."""
        return {f"{name}.{by}": value for name, bounds in self.ranges.items() for by, value in bounds.items()}

    def below(self, path: str = "") -> Iterator[tuple[str, "Ask"]]:
        """Every linked question with its dotted path, which ends in a dot."""
        for name, ask in self.links.items():
            yield f"{path}{name}.", ask
            yield from ask.below(f"{path}{name}.")

    @property
    def shown(self) -> dict[str, list[str]]:
        """The reserved parameters that are lists."""
        return {
            "fields": [f"{path}{name}" for path, ask in [("", self), *self.below()] if ask.named for name in ask.fields],
            "include": [path.removesuffix(".") for path, _ in self.below()],
            "sort": [("-" if descending else "") + name for name, descending in self.order],
        }

    def body(self, after: str | None) -> dict[str, Any]:
        return {"where": self.where | self.compared, "first": self.first, **self.shown, **({"after": after} if after else {})}

    def parameters(self, after: str | None) -> httpx2.QueryParams:
        """The query string; `first` is left out where it is the usual."""
        pairs: list[tuple[str, Any]] = [(name, ",".join(value)) for name, value in self.shown.items() if value]
        pairs += [(name, in_url(value)) for name, values in self.where.items() for value in values]
        pairs += [(name, in_url(value)) for name, value in self.compared.items()]
        pairs += [(f"{path}.first", str(ask.first)) for path, ask in self.nested()]
        pairs += [(f"{path}.{name}", value) for path, ask in self.nested() for name, value in ask.given.items()]
        pairs += [("first", str(self.first))] if self.first != 50 else []
        return httpx2.QueryParams([*pairs, ("after", after)] if after else pairs)

    def nested(self, path: str = "") -> Iterator[tuple[str, "Ask"]]:
        """The linked pages."""
        for name, ask in self.links.items():
            if self.resource.links[name].many:
                yield path + name, ask
            yield from ask.nested(f"{path}{name}.")


def in_url(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class Asking:
    """Makes up questions that a caller may ask, with filters from the rows it sees of each resource."""

    def __init__(self, caller: Caller, rows: dict[str, list[Any]], draw: random.Random) -> None:
        self.caller, self.rows, self.draw = caller, rows, draw

    def question(self) -> Ask:
        known = [name for name, rows in self.rows.items() if rows]
        resource = RESOURCES[self.draw.choice([*known, "pupil", "pupil", "judgement"])]
        depth = self.draw.choice((0, 0, 0, 1, 1, 1, 2, 3))
        ask = self.about(resource, depth)
        may = visible(resource, self.caller)
        filters = list(may)
        for name in self.draw.sample(filters, min(len(filters), self.draw.choice((0, 0, 1, 1, 2)))):
            given = [row[name] for row in self.draw.choices(self.rows[resource.name], k=2) if row[name] is not None]
            if resource.fields[name].kind is Kind.TEXTS:
                given = [text for texts in given for text in texts]
            values = [typed(resource, name, value) for value in dict.fromkeys(given)]
            if values and resource.fields[name].comparable and self.draw.random() < 0.5:
                ask.ranges[name] = {self.draw.choice(("gte", "gt")): values[0]} | {
                    self.draw.choice(("lte", "lt")): value for value in values[1:]
                }
            elif values:
                ask.where[name] = values
        sortable = [name for name in may if resource.fields[name].sortable]
        ask.order = [(name, self.draw.random() < 0.5) for name in self.draw.sample(sortable, self.draw.choice((0, 1, 1, 2)))]
        ask.first = self.draw.choice((1, 3, 7)) if depth > 1 else self.draw.choice((2, 5, 50, 1000))
        if ask.identifies:  # a lookup takes no size of linked pages
            ask.links = {name: below for name, below in ask.links.items() if not below.links}
            for _, below in ask.nested():
                below.first, below.given = 50, {}
            ask.first = min(ask.first, 50)
        return ask

    def about(self, resource: Resource, depth: int, by: Link | None = None) -> Ask:
        may = list(visible(resource, self.caller, by))
        ask = Ask(resource, may, first=self.draw.choice((1, 2, 10)), named=self.draw.random() < 0.85)
        if ask.named:
            ask.fields = self.draw.sample(may, self.draw.randint(1, min(4, len(may))))
        links = [name for name, link in resource.links.items() if RESOURCES[link.target].scope in self.caller.scopes]
        for name in self.draw.sample(links, min(len(links), depth, 2)):
            ask.links[name] = self.about(RESOURCES[resource.links[name].target], depth - 1, resource.links[name])
            if "on" in resource.links[name].arguments and self.draw.random() < 0.7:
                ask.links[name].given["on"] = self.draw.choice(("2024-11-01", "2025-02-01", "2019-01-01"))
        return ask


def typed(resource: Resource, name: str, value: Any) -> Any:
    """A value as JSON types it."""
    return {Kind.INTEGER: int, Kind.NUMBER: float}.get(resource.fields[name].kind, lambda same: same)(value)


Read: TypeAlias = Callable[[Any], Any]
"""From a part of a GraphQL answer to the same part of REST's."""


class Document:
    """A question as GraphQL may put it, and how to read its answer as REST would have written it."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.variables: dict[str, tuple[str, Any]] = {"yes": ("Boolean!", True), "no": ("Boolean!", False)}
        self.fragments: list[str] = []
        self.names = 0

    def name(self) -> str:
        self.names += 1
        return f"n{self.names}"

    def text(self, root: str) -> str:
        declared = ", ".join(f"${name}: {type_}" for name, (type_, _) in self.variables.items())
        # every variable is used: a field that is never there takes the two that a document may not need
        return f"query ({declared}) {{ {root} gone: __typename @skip(if: $yes) gone: __typename @include(if: $no) }} {' '.join(self.fragments)}"

    @property
    def values(self) -> dict[str, Any]:
        return {name: value for name, (_, value) in self.variables.items()}

    def given(self, type_: str, value: Any, literal: str) -> str:
        """An argument: a literal or a variable."""
        if self.draw.random() < 0.5:
            return literal
        name = self.name()
        self.variables[name] = (type_, value)
        return f"${name}"

    def page(self, ask: Ask, called: str, *, after: str | None = None, depth: int = 0) -> tuple[str, Read]:
        """A connection by its field's name."""
        arguments = [f"first: {self.given('Int', ask.first, str(ask.first))}"]
        if ask.where or ask.ranges:
            whole = ask.where | ({"range": ask.ranges} if ask.ranges else {})
            self.variables[where := self.name()] = (f"{ask.resource.type_name}Where", whole)
            arguments.append(f"where: ${where}")
        arguments += [f"{name}: {self.given('Date', value, json.dumps(value))}" for name, value in ask.given.items()]
        if ask.order:
            by = [{"field": name, "direction": "DESC" if descending else "ASC"} for name, descending in ask.order]
            literal = ", ".join(f"{{field: {each['field']}, direction: {each['direction']}}}" for each in by)
            arguments.append(f"orderBy: {self.given(f'[{ask.resource.type_name}OrderBy!]', by, f'[{literal}]')}")
        if after is not None:
            arguments.append(f"after: {self.given('String', after, json.dumps(after))}")
        row, read = self.row(ask, depth)
        edges = depth < 2 and self.draw.random() < 0.5  # they nest a level deeper, and depth is limited
        rows = f"edges {{ cursor node {{ {row} }} }}" if edges else f"nodes {{ {row} }}"
        key = self.name()

        def flatten(answer: Any) -> Any:
            found = answer[key]
            data = [edge["node"] for edge in found["edges"]] if edges else found["nodes"]
            assert not edges or [edge["cursor"] for edge in found["edges"]][-1:] == [found["info"]["endCursor"]][: len(data)]
            return {
                "data": [read(each) for each in data],
                "page": {"hasMore": found["info"]["hasNextPage"], "endCursor": found["info"]["endCursor"]},
            }

        return f"{key}: {called}({', '.join(arguments)}) {{ {rows} info: pageInfo {{ hasNextPage endCursor }} }}", flatten

    def row(self, ask: Ask, depth: int) -> tuple[str, Read]:
        """The fields of an object, some of them in fragments, and fields that are left out."""
        type_, parts, keys = ask.resource.type_name, [], {}
        reads: list[tuple[str, str | None, Read]] = []
        for name in ask.fields:
            keys[name] = self.name() if self.draw.random() < 0.2 else name
            parts.append(self.wrapped(type_, name if keys[name] == name else f"{keys[name]}: {name}"))
        for name, below in ask.links.items():
            if ask.resource.links[name].many:
                text, read = self.page(below, name, depth=depth + 1)
                reads.append((name, None, read))
            else:
                text, read = self.row(below, depth + 1)
                reads.append((name, name, read))
                text = f"{name} {{ {text} }}"
            parts.append(self.wrapped(type_, text))
        if typename := self.draw.random() < 0.3:
            parts.append("__typename")
        if of_node := ask.resource.has_id and self.draw.random() < 0.2:
            parts.append("... on Node { same: id __typename }")

        def flatten(row: Any) -> Any:
            if row is None:
                return None
            assert row.get("__typename") == (type_ if typename or of_node else None)
            assert ("same" in row) == of_node
            flat = {name: row[key] for name, key in keys.items()}
            return flat | {name: read(row if key is None else row[key]) for name, key, read in reads}

        return " ".join(parts), flatten

    def wrapped(self, type_: str, text: str) -> str:
        """The selection as it is, or in one of the ways that mean the same."""
        way = self.draw.randrange(12)
        if way == 0:
            return f"... on {type_} {{ {text} }}"
        if way == 1:
            return f"... @include(if: $yes) {{ {text} }}"
        if way == 2:
            self.fragments.append(f"fragment {(name := self.name())} on {type_} {{ {text} }}")
            return f"...{name}"
        if way == 3:
            return f"{text} ... on {type_} @skip(if: $yes) {{ __typename }}"
        return text
