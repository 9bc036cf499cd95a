"""What a reader asks for, in terms both doors share: a tree of items over declared resources. It holds no SQL and no HTTP.

The doors decide the names (`key`) under which things stand in the answer: REST writes {data, page}, GraphQL {edges, pageInfo} under
whatever aliases the client chose. The compiler (query.py) turns a tuple of roots into one statement.
"""

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, ref

from domain.access.reach import Caller, Scope, scope_missing
from domain.declare.errors import BadRequest, Issue
from domain.declare.resource import Comparison, Field, Link, Picked, Resource

T = TypeVar("T")

FIRST, MAX_FIRST, MAX_NESTED_FIRST = 50, 1000, 100
"""Rows a page: when nothing is said, at most, and at most where it is nested in a row."""


MAX_VALUES, MAX_VALUES_IN_ALL = 1000, 5000
"""Values of one filter, and of all filters of a request; also names in a list."""


class Lifted(str):
    """A text of a request that stands for a value and nothing else, so that the same request with another text there has the same form.
    `at` says which of the request's texts it is."""

    at: int

    def __new__(cls, text: str, at: int) -> "Lifted":
        lifted = super().__new__(cls, text)
        lifted.at = at
        return lifted


@dataclass(frozen=True, slots=True)
class Held:
    """A value that a lifted text was read as, and how the text of another request is; `read` raises ValueError."""

    value: Any
    at: int
    read: Callable[[str], Any]


def held(given: Any, read: Callable[[Any], T]) -> T | Held:
    """What a value is read as; ValueError where it cannot be."""
    value = read(given)
    return Held(value, given.at, read) if isinstance(given, Lifted) else value


def picked_by(resource: Resource, given: str) -> Picked | None:
    """What picks the row with this id, held where the id is lifted; None where the text cannot be an id of the resource."""

    def nth(i: int) -> Callable[[str], Any]:
        def read(text: str) -> Any:
            picked = resource.identify(text)
            if picked is None or len(picked) <= i:
                raise ValueError("cannot be such an id")
            return picked[i][1]

        return read

    picked = resource.identify(given)
    if picked is None or not isinstance(given, Lifted):
        return picked
    return tuple((column, Held(value, given.at, nth(i))) for i, (column, value) in enumerate(picked))


def plain(value: Any) -> Any:
    return value.value if isinstance(value, Held) else value


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
    """A field equals one of the values (already parsed to the field's kind), or compares with the only one."""

    name: str
    field: Field
    values: tuple[Any, ...]
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Order:
    name: str
    field: Field
    descending: bool


@dataclass(frozen=True)
class Selection:
    """A page of a resource. Reached by a link, it is told `within` which, and `given` the values of the link's arguments."""

    resource: Resource
    items: Items
    where: tuple[Condition, ...] = ()
    order: tuple[Order, ...] = ()
    first: int = FIRST
    after: "tuple[str | None, ...] | Held | None" = None
    within: str = ""
    given: tuple[tuple[str, Any], ...] = ()

    def fingerprint(self, value_of: Callable[[Any], Any] = plain) -> str:
        """What a cursor is bound to, beside the client: the resource, the link it was reached by, its filters and its order."""
        where = sorted((c.name, c.comparison or "", sorted({str(value_of(value)) for value in c.values})) for c in self.where)
        given = sorted((name, str(value_of(value))) for name, value in self.given)
        return repr((self.within, self.resource.name, given, where, [(o.name, o.descending) for o in self.order]))


@dataclass(frozen=True)
class Single:
    """One row of a resource, picked by values of the source's columns; null where it is not within reach, or nothing picks one."""

    resource: Resource
    picked_by: Picked
    row: Items


Root: TypeAlias = Selection | Single


class QueryShape:
    """Roots without what differs between requests, hashed once. Those that are equal are one object (`of`), so that finding a statement compares nothing."""

    __slots__ = ("__weakref__", "_hash", "roots")

    def __init__(self, roots: tuple[Root, ...]) -> None:
        self.roots = roots
        self._hash = hash(roots)

    @classmethod
    def of(cls, roots: tuple[Root, ...]) -> "QueryShape":
        """The one shape of these roots, for as long as anybody refers to it."""
        shape = cls(roots)
        found = _shapes.setdefault(shape, ref(shape))()
        return shape if found is None else found

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, QueryShape) and self._hash == other._hash and self.roots == other.roots)


_shapes: WeakKeyDictionary[QueryShape, ref[QueryShape]] = WeakKeyDictionary()

permitted: ContextVar[list[Root] | None] = ContextVar("permitted", default=None)
"""Whoever wants to know what a request was read as sets a list before it asks."""

MAX_COST = 200_000
"""How many values an answer may hold, if every page in it were full."""


def permit(roots: Sequence[Root], caller: Caller) -> None:
    """Raises Forbidden, naming each field and scope, when something asked for needs a scope the caller's token does not carry.

    A field's scope is tested again per row, and the reach of every row, by the statement itself.
    """
    missing: dict[str, str] = {}

    def need(scope: Scope | None, what: str) -> None:
        if scope is not None and scope not in caller.scopes:
            missing.setdefault(what, scope)

    def resource(of: Resource, items: Items) -> None:
        need(of.scope, of.plural)
        for _, item in items:
            walk(of, item)

    def selection(chosen: Selection) -> None:
        resource(chosen.resource, chosen.items)
        filters = sorted(chosen.where, key=lambda condition: condition.name)  # the doors meet them in different orders
        for name, field in [(w.name, w.field) for w in filters] + [(o.name, o.field) for o in chosen.order]:
            need(field.scope, f"{chosen.resource.name}.{name}")

    def walk(of: Resource, item: Item) -> None:
        match item:
            case Value(field=field):
                need(field.scope, f"{of.name}.{next(name for name, f in of.fields.items() if f is field)}")
            case One(resource=target, row=row):
                resource(target, row)
            case Many(selection=chosen):
                selection(chosen)
            case Rows(row=items) | Nested(items=items):
                for _, nested in items:
                    walk(of, nested)

    for root in roots:
        selection(root) if isinstance(root, Selection) else resource(root.resource, root.row)
    if missing:
        raise scope_missing(missing)
    if (noted := permitted.get()) is not None:
        noted[:] = roots


def visible(resource: Resource, caller: Caller, link: Link | None = None) -> dict[str, Field]:
    """The fields shown when none are named: all whose scope the caller holds somewhere, less the costly ones that the link does not show."""
    return {
        name: field
        for name, field in resource.fields.items()
        if (field.scope is None or field.scope in caller.scopes) and (not field.costly or (link is not None and name in link.shows))
    }


def cost(root: Root) -> int:
    """How many values the answer holds if every page in it is full, and what the pages cost beside."""

    def items(chosen: Items) -> int:
        return sum(item(one) for _, one in chosen)

    def item(one: Item) -> int:
        match one:
            case One(row=row) | Nested(items=row):
                return 1 + items(row)
            case Many(selection=chosen):
                return cost(chosen)
            case Rows(row=row):
                return 1 + items(row)
        return 1

    if isinstance(root, Single):
        return items(root.row)
    return root.resource.weight + max(root.first, 1) * max(items(root.items), 1)


def check_cost(roots: Sequence[Root], beside: int = 0) -> int:
    """The cost of the roots and of what is asked beside them; raises BadRequest when it is beyond what one request may ask."""
    total = beside + sum(cost(root) for root in roots)
    if total > MAX_COST:
        message = (
            f"This could answer {total:,} values; one request may ask for {MAX_COST:,}. Ask for fewer rows (first) or fewer links."
        )
        raise BadRequest(message, code="too-costly", issues=(Issue("", "too-costly", message),))
    return total
