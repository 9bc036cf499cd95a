"""Random questions to ask of both doors, in neither door's words: what is asked, how REST is told, and how GraphQL may be told."""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import httpx2
from graphql import GraphQLInputObjectType

from api.graphql.schema import graphql_schema as schema
from domain import RESOURCES
from domain.access.caller import Caller
from domain.declare.resource import Filter, Link, Resource
from domain.declare.value_types import ValueType
from domain.read.checks import list_default_fields


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
    choices: dict[str, str] = field(default_factory=dict)
    first: int = 50
    after: str | None = None
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

    def body(self) -> dict[str, Any]:
        after = {} if self.after is None else {"after": self.after}
        return {"where": self.where | self.compared, "first": self.first, **self.shown, **self.choices, **after}

    def parameters(self) -> httpx2.QueryParams:
        """The query string; `first` is left out where it is the usual. What a link is told belongs there where the list is the link's own."""
        pairs: list[tuple[str, Any]] = [(name, ",".join(value)) for name, value in self.shown.items() if value]
        pairs += [(name, in_url(value)) for name, values in self.where.items() for value in values]
        pairs += [(name, in_url(value)) for name, value in self.compared.items()]
        pairs += [(f"{path}.first", str(ask.first)) for path, ask in self.nested()]
        pairs += [(f"{path}.{name}", value) for path, ask in self.nested() for name, value in (ask.given | ask.choices).items()]
        pairs += (self.given | self.choices).items()
        pairs += [("first", str(self.first))] if self.first != 50 else []
        return httpx2.QueryParams(pairs if self.after is None else [*pairs, ("after", self.after)])

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
        ask = self.narrowed(self.about(resource, depth), list(Filter))
        ask.first = self.draw.choice((1, 3, 7)) if depth > 1 else self.draw.choice((2, 5, 50, 1000))
        if any(below.resource.name == "return" for _, below in ask.nested()):  # each costs what many values do
            ask.first = min(ask.first, 5)
        if ask.identifies:  # a lookup takes no size of linked pages
            ask.links = {name: below for name, below in ask.links.items() if not below.links}
            for _, below in ask.nested():
                below.first, below.given, below.choices = 50, {}, {}
            ask.first = min(ask.first, 50)
        return ask

    def narrowed(self, ask: Ask, filters: list[Filter]) -> Ask:
        """The question with filters on fields that may be filtered so, and an order."""
        resource, may = ask.resource, list_default_fields(ask.resource, self.caller)
        names = [name for name in may if resource.fields[name].filter in filters and resource.fields[name].filterable]
        for name in self.draw.sample(names, min(len(names), self.draw.choice((0, 0, 1, 1, 2)))):
            given = [row[name] for row in self.draw.choices(self.rows[resource.name], k=2) if row[name] is not None]
            if resource.fields[name].kind is ValueType.TEXTS:
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
        return ask

    def of_row(self) -> tuple[Resource, str, str, Ask]:
        """A question about what a row leads to, in pages of few: the row's resource and id, and the link's name."""
        known = [of for name, rows in self.rows.items() if rows and (of := RESOURCES[name]).has_id]
        ways = [(of, name) for of in known for name, link in of.links.items() if link.many and self.rows.get(link.target)]
        resource, name = self.draw.choice(ways)
        target = RESOURCES[resource.links[name].target]
        ask = self.narrowed(self.about(target, self.draw.choice((0, 0, 1)), resource.links[name]), [Filter.ANYWHERE])
        ask.first, ask.given = self.draw.choice((1, 2, 3)), self.told(resource.links[name])
        return resource, self.draw.choice(self.rows[resource.name])["id"], name, ask

    def about(self, resource: Resource, depth: int, by: Link | None = None) -> Ask:
        may = list(list_default_fields(resource, self.caller, by))
        ask = Ask(resource, may, first=self.draw.choice((1, 2, 10)), named=self.draw.random() < 0.85)
        if by is None or by.many:
            chosen = [name for name in resource.choices if self.draw.random() < 0.7]
            ask.choices = {name: self.draw.choice([*resource.choices[name].conditions]) for name in chosen}
        if ask.named:
            ask.fields = self.draw.sample(may, self.draw.randint(1, min(4, len(may))))
        links = [name for name, link in resource.links.items() if RESOURCES[link.target].scope in self.caller.scopes]
        for name in self.draw.sample(links, min(len(links), depth, 2)):
            ask.links[name] = self.about(RESOURCES[resource.links[name].target], depth - 1, resource.links[name])
            ask.links[name].given = self.told(resource.links[name])
        return ask

    def told(self, link: Link) -> dict[str, str]:
        if "on" in link.arguments and self.draw.random() < 0.7:
            return {"on": self.draw.choice(("2024-11-01", "2025-02-01", "2019-01-01"))}
        return {}


def typed(resource: Resource, name: str, value: Any) -> Any:
    """A value as JSON types it."""
    return {ValueType.INTEGER: int, ValueType.NUMBER: float}.get(resource.fields[name].kind, lambda same: same)(value)


Read: TypeAlias = Callable[[Any], Any]
"""From a part of a GraphQL answer to the same part of REST's."""
Below: TypeAlias = tuple[list[str], Read]
"""The selections of an object, and how to read it."""
Chosen: TypeAlias = tuple[str, str, Below | None]
"""A field by its name, with its arguments and what is selected below."""

MOST_ALIASES = 35
"""Fields that get another name though they need none: a document may hold 60."""


class Name(str):
    """A text that GraphQL writes without quotes: the value of an enum."""


def literal(value: Any) -> str:
    """A JSON value as GraphQL writes it."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name}: {literal(each)}' for name, each in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(literal, value))}]"
    return str(value) if isinstance(value, Name) else json.dumps(value)


class Document:
    """Questions as GraphQL may put them, and how to read its answer as REST would have written it.

    `told` is whether values are literals or variables; the same draw makes the same document of either, names included.
    """

    def __init__(self, draw: random.Random, told: Literal["either", "literals", "variables"] = "either") -> None:
        self.draw, self.told = draw, told
        self.variables: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.fragments: list[str] = []
        self.aliases = 0

    def asking(self, *chosen: Chosen) -> tuple[str, Read]:
        """The document of these roots, and how to read its data: as a list, one of each."""
        parts, read = self.object("Query", list(chosen))
        declared = ", ".join(f"${name}: {type_}" for name, type_ in self.variables.items())
        definitions = [f"query ({declared}) {{ {' '.join(parts)} }}" if declared else f"{{ {' '.join(parts)} }}", *self.fragments]
        self.draw.shuffle(definitions)
        return " ".join(definitions), read

    def page(self, ask: Ask, called: str, depth: int = 0) -> Chosen:
        """A connection by its field's name."""
        type_ = ask.resource.type_name
        arguments = [f"first: {self.given('Int', ask.first)}"]
        if ask.where or ask.ranges:
            arguments.append(f"where: {self.where(ask)}")
        arguments += [f"{name}: {self.given('Date', value)}" for name, value in ask.given.items()]
        arguments += [f"{name}: {self.given(type_ + name.title(), Name(value))}" for name, value in ask.choices.items()]
        if ask.order:
            by = [{"field": Name(name), "direction": Name("DESC" if down else "ASC")} for name, down in ask.order]
            arguments.append(f"orderBy: {self.given(f'[{type_}OrderBy!]', by)}")
        if ask.after is not None or self.happens(0.1):
            arguments.append(f"after: {self.given('String', ask.after)}")
        self.draw.shuffle(arguments)
        row, flat = self.row(ask, depth)
        names = ["hasNextPage", "endCursor", "hasPreviousPage", "startCursor"]
        info = self.object("PageInfo", [(name, "", None) for name in names])
        if edges := depth < 2 and self.happens(0.5):  # they nest a level deeper, and depth is limited
            parts, edge = self.object(f"{type_}Edge", [("cursor", "", None), ("node", "", (row, flat))])
            rows: Chosen = ("edges", "", (parts, lambda found: [edge(each) for each in found]))
        else:
            rows = ("nodes", "", (row, lambda found: [(None, flat(each)) for each in found]))
        parts, read = self.object(f"{type_}Connection", [rows, ("pageInfo", "", info)])

        def flatten(found: Any) -> Any:
            rows, (more, end, reached, start) = read(found)
            cursors = [cursor for cursor, _ in rows]
            assert reached is (ask.after is not None)
            assert (start is None, end is None) == (not rows, not rows)
            assert not edges or (cursors[:1], cursors[-1:]) == ([start][: len(rows)], [end][: len(rows)])
            return {"data": [row for _, row in rows], "page": {"hasMore": more, "endCursor": end}}

        return called, f"({', '.join(arguments)})", (parts, flatten)

    def by_id(self, ask: Ask, id_: str) -> Chosen:
        """A row by the field of its resource."""
        return ask.resource.name, f"(id: {self.given('ID!', id_)})", self.row(ask, 1)

    def node(self, ask: Ask, id_: str) -> Chosen:
        """A row as a node, and nothing of what it is not."""
        row, flat = self.row(ask, 1)
        other = "Trust" if ask.resource.type_name == "School" else "School"
        parts = [self.fragment(ask.resource.type_name, " ".join(row)), f"... on {other} {{ __typename }}"]
        return "node", f"(id: {self.given('ID!', id_)})", (parts, flat)

    def row(self, ask: Ask, depth: int) -> Below:
        """The fields of a row and what it leads to."""
        chosen: list[Chosen] = [(name, "", self.members(ask.resource, name)) for name in ask.fields]
        for name, below in ask.links.items():
            many = ask.resource.links[name].many
            chosen.append(self.page(below, name, depth + 1) if many else (name, "", self.row(below, depth + 1)))
        parts, read = self.object(ask.resource.type_name, chosen)
        names = [name for name, _, _ in chosen]
        return parts, lambda found: None if found is None else dict(zip(names, read(found), strict=True))

    def members(self, resource: Resource, name: str) -> Below | None:
        """All members of a field that is an object."""
        members = resource.fields[name].members
        if not members:
            return None
        parts, read = self.object(f"{resource.type_name}{name[0].upper()}{name[1:]}", [(member, "", None) for member in members])
        return parts, lambda found: None if found is None else dict(zip(members, read(found), strict=True))

    def object(self, type_: str, chosen: list[Chosen]) -> Below:
        """An object's selections, each in one of the ways that mean the same, and what reads them in turn after making sure that nothing else is there."""
        parts: list[str] = []
        reads: dict[str, Read] = {}
        for name, arguments, below in chosen:
            key = self.key(name, name in reads)
            head = (name if key == name else f"{key}: {name}") + arguments + (self.kept() if self.happens(0.1) else "")
            parts.append(self.wrapped(type_, head if below is None else self.around(head, below[0])))
            reads[key] = (lambda same: same) if below is None else below[1]
        typename = self.key("__typename") if self.happens(0.15) else None
        if typename is not None:
            parts.append(self.wrapped(type_, "__typename" if typename == "__typename" else f"{typename}: __typename"))

        def read(found: Any) -> list[Any]:
            assert found.keys() == reads.keys() | ({typename} - {None})
            assert typename is None or found[typename] == type_
            return [each(found[key]) for key, each in reads.items()]

        return parts, read

    def around(self, head: str, parts: list[str]) -> str:
        """The selections in an object's braces, or some of them in one and the others in another of the same object."""
        at = self.draw.randint(1, len(parts) - 1) if len(parts) > 1 and self.happens(0.15) else len(parts)
        self.aliases += at < len(parts)
        return " ".join(f"{head} {{ {' '.join(some)} }}" for some in (parts[:at], parts[at:]) if some)

    def wrapped(self, type_: str, text: str) -> str:
        """The selection as it is, or in one or several of the ways that mean the same."""
        way = self.draw.randrange(16)
        if way == 0:
            text = f"... on {type_}{self.kept() if self.happens(0.3) else ''} {{ {text} }}"
        elif way == 1:
            text = f"...{self.kept()} {{ {text} }}"
        elif way == 2:
            text = self.fragment(type_, text)
        elif way == 3:
            text = f"{text} ... on {type_}{self.dropped()} {{ __typename }} __typename{self.dropped()}"
        elif way == 4 and type_ in NODES:
            text = f"... on Node {{ ... on {type_} {{ {text} }} }}"
        elif way == 5 and "{" not in text and "..." not in text:
            # the first spread is left out, and the second is no repetition of it
            self.aliases += ":" in text
            spread = self.fragment(type_, text)
            text = f"{spread}{self.dropped()} {spread}"
        return self.wrapped(type_, text) if way < 5 and self.happens(0.3) else text

    def fragment(self, type_: str, text: str) -> str:
        """A named fragment, spread."""
        name = f"f{len(self.fragments)}"
        self.fragments.append(f"fragment {name} on {type_} {{ {text} }}")
        return f"...{name}"

    def kept(self) -> str:
        """A directive that leaves a selection in."""
        included = self.happens(0.5)
        return f" @{'include' if included else 'skip'}(if: {self.given('Boolean!', included)})"

    def dropped(self) -> str:
        """Directives that leave a selection out: one that says so is enough."""
        includes = [] if (way := self.draw.randrange(3)) == 0 else [f" @include(if: {self.given('Boolean!', way == 1)})"]
        skips = [] if way == 2 else [f" @skip(if: {self.given('Boolean!', True)})"]
        return "".join([*skips, *includes])

    def given(self, type_: str, value: Any) -> str:
        """An argument or a part of one: a literal, or a variable, whose value may be the default that the document gives it."""
        is_literal, is_default = self.happens(0.5), self.happens(0.2)
        if self.told == "literals" or (self.told == "either" and is_literal):
            return literal(value)
        name = f"v{len(self.variables)}"
        self.variables[name] = f"{type_} = {literal(value)}" if is_default else type_
        self.values |= {} if is_default else {name: value}
        return f"${name}"

    def where(self, ask: Ask) -> str:
        """Filters as one value, or as values in an object. One value stands for a list of it."""
        type_ = schema().type_map[f"{ask.resource.type_name}Where"]
        assert isinstance(type_, GraphQLInputObjectType)
        if self.happens(0.4):
            return self.given(type_.name, ask.where | ({"range": ask.ranges} if ask.ranges else {}))
        parts = []
        for name, values in ask.where.items():
            text = self.given(str(type_.fields[name].type), values)
            parts.append(f"{name}: {text[1:-1] if self.happens(0.5) and len(values) == 1 and text[0] == '[' else text}")
        ranges = []
        for name, bounds in ask.ranges.items():
            each = [f"{by}: {self.given(ask.resource.fields[name].kind.graphql, value)}" for by, value in bounds.items()]
            ranges.append(f"{name}: {{{', '.join(each)}}}")
        parts += [f"range: {{{', '.join(ranges)}}}"] if ranges else []
        return f"{{{', '.join(parts)}}}"

    def key(self, name: str, taken: bool = False) -> str:
        """A field's own name or another."""
        if not taken and (not self.happens(0.2) or self.aliases >= MOST_ALIASES):
            return name
        self.aliases += 1
        return f"n{self.aliases}"

    def happens(self, share: float) -> bool:
        return self.draw.random() < share


NODES = {resource.type_name for resource in RESOURCES.values() if resource.has_id}
