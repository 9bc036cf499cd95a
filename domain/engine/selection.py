"""What a reader asks for, in terms both doors share: a tree of items over declared resources. It holds no SQL and no HTTP.

The doors decide the names (`key`) under which things stand in the answer: REST writes {data, page}, GraphQL {edges, pageInfo} under
whatever aliases the client chose. The compiler (query.py) turns a tuple of roots into one statement.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from domain.engine.resource import Field, Link, Picked, Resource


@dataclass(frozen=True)
class Value:
    """A field's value."""

    field: Field


@dataclass(frozen=True)
class Literal:
    """A fixed text (GraphQL's __typename)."""

    text: str


@dataclass(frozen=True)
class Cursor:
    """The cursor of a row (in a row), or of the page's last or first row (in a page)."""

    first: bool = False


@dataclass(frozen=True)
class HasMore:
    """Whether rows follow the page."""


@dataclass(frozen=True)
class HasBefore:
    """Whether the page was reached by a cursor."""


@dataclass(frozen=True)
class One:
    """The linked row, or null where there is none within reach."""

    link: Link
    resource: Resource
    row: "Items"


@dataclass(frozen=True)
class Many:
    """The page of linked rows."""

    link: Link
    selection: "Selection"


@dataclass(frozen=True)
class Rows:
    """In a page: its rows, as a list."""

    row: "Items"


@dataclass(frozen=True)
class Nested:
    """An object around items of the same row or page (GraphQL's node, pageInfo)."""

    items: "Items"


Item: TypeAlias = Value | Literal | Cursor | HasMore | HasBefore | One | Many | Rows | Nested
Items: TypeAlias = tuple[tuple[str, Item], ...]


@dataclass(frozen=True)
class Condition:
    """A field equals one of the values (already parsed to the field's kind)."""

    name: str
    field: Field
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Order:
    name: str
    field: Field
    descending: bool


@dataclass(frozen=True)
class Selection:
    """A page of a resource."""

    resource: Resource
    items: Items
    where: tuple[Condition, ...] = ()
    order: tuple[Order, ...] = ()
    first: int = 50
    after: tuple[str | None, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """What a cursor is bound to, beside the client: the resource, its filters and its order."""
        where = sorted((c.name, sorted(map(str, c.values))) for c in self.where)
        return repr((self.resource.name, where, [(o.name, o.descending) for o in self.order]))


@dataclass(frozen=True)
class Single:
    """One row of a resource, picked by values of the source's columns; null where it is not within reach."""

    resource: Resource
    picked_by: Picked
    row: Items


Root: TypeAlias = Selection | Single
