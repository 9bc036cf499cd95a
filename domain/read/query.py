"""What a reader asks for, in terms both doors share: a tree of items over declared resources. It holds no SQL and no HTTP.

The doors decide the names (`key`) under which things stand in the answer: REST writes {data, page}, GraphQL {edges, pageInfo} under
whatever aliases the client chose. The compiler (query.py) turns a tuple of roots into one statement.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, ref

from domain.declare.resource import Comparison, Field, KeyValues, Link, Resource

T = TypeVar("T")

DEFAULT_FIRST, MAX_FIRST, MAX_NESTED_FIRST = 50, 1000, 100
"""Rows a page: when nothing is said, at most, and at most where it is nested in a row."""


MAX_VALUES, MAX_VALUES_PER_REQUEST = 1000, 5000
"""Values of one filter, and of all filters of a request; also names in a list."""


class ParameterText(str):
    """A text of a request that stands for a value and nothing else, so that the same request with another text there has the same form.
    `at` says which of the request's texts it is."""

    at: int

    def __new__(cls, text: str, at: int) -> "ParameterText":
        lifted = super().__new__(cls, text)
        lifted.at = at
        return lifted


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that a lifted text was read as, and how the text of another request is; `read` raises ValueError."""

    value: Any
    at: int
    read: Callable[[str], Any]


def decode_parameter(given: Any, read: Callable[[Any], T]) -> T | Parameter:
    """What a value is read as; ValueError where it cannot be."""
    value = read(given)
    return Parameter(value, given.at, read) if isinstance(given, ParameterText) else value


def decode_key(resource: Resource, given: str) -> KeyValues | None:
    """What picks the row with this id, held where the id is lifted; None where the text cannot be an id of the resource."""

    def nth(i: int) -> Callable[[str], Any]:
        def read(text: str) -> Any:
            picked = resource.identify(text)
            if picked is None or len(picked) <= i:
                raise ValueError("cannot be such an id")
            return picked[i][1]

        return read

    picked = resource.identify(given)
    if picked is None or not isinstance(given, ParameterText):
        return picked
    return tuple((column, Parameter(value, given.at, nth(i))) for i, (column, value) in enumerate(picked))


def value_now(value: Any) -> Any:
    return value.value if isinstance(value, Parameter) else value


@dataclass(frozen=True)
class FieldValue:
    """A field's value."""

    field: Field


@dataclass(frozen=True)
class FixedText:
    """A fixed text (GraphQL's __typename)."""

    text: str


@dataclass(frozen=True)
class RowCursor:
    """The cursor of a row (in a row), or of the page's last or first row (in a page)."""

    first: bool = False


@dataclass(frozen=True)
class HasNextPage:
    """Whether rows follow the page."""


@dataclass(frozen=True)
class HasPreviousPage:
    """Whether the page was reached by a cursor."""


@dataclass(frozen=True)
class ToOne:
    """The linked row, or null where there is none within reach."""

    link: Link
    resource: Resource
    row: "OutputFields"


@dataclass(frozen=True)
class ToMany:
    """The page of linked rows."""

    link: Link
    selection: "ListQuery"


@dataclass(frozen=True)
class PageRows:
    """In a page: its rows, as a list."""

    row: "OutputFields"


@dataclass(frozen=True)
class NestedObject:
    """An object around items of the same row or page (GraphQL's node, pageInfo)."""

    items: "OutputFields"


OutputField: TypeAlias = (
    FieldValue | FixedText | RowCursor | HasNextPage | HasPreviousPage | ToOne | ToMany | PageRows | NestedObject
)
OutputFields: TypeAlias = tuple[tuple[str, OutputField], ...]


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
class ListQuery:
    """A page of a resource. Reached by a link, it is told `path`, which link, and `arguments`, the values of the link's arguments."""

    resource: Resource
    items: OutputFields
    where: tuple[Condition, ...] = ()
    order: tuple[Order, ...] = ()
    first: int = DEFAULT_FIRST
    after: "tuple[str | None, ...] | Parameter | None" = None
    path: str = ""
    arguments: tuple[tuple[str, Any], ...] = ()

    def fingerprint(self, value_of: Callable[[Any], Any] = value_now) -> str:
        """What a cursor is bound to, beside the client: the resource, the link it was reached by, its filters and its order."""
        where = sorted((c.name, c.comparison or "", sorted({str(value_of(value)) for value in c.values})) for c in self.where)
        given = sorted((name, str(value_of(value))) for name, value in self.arguments)
        return repr((self.path, self.resource.name, given, where, [(o.name, o.descending) for o in self.order]))


@dataclass(frozen=True)
class RowQuery:
    """One row of a resource, picked by values of the source's columns; null where it is not within reach, or nothing picks one."""

    resource: Resource
    key_values: KeyValues
    row: OutputFields


Query: TypeAlias = ListQuery | RowQuery


class QueryTemplate:
    """Roots without what differs between requests, hashed once. Those that are equal are one object (`of`), so that finding a statement compares nothing."""

    __slots__ = ("__weakref__", "_hash", "roots")

    def __init__(self, roots: tuple[Query, ...]) -> None:
        self.roots = roots
        self._hash = hash(roots)

    @classmethod
    def of(cls, roots: tuple[Query, ...]) -> "QueryTemplate":
        """The one shape of these roots, for as long as anybody refers to it."""
        shape = cls(roots)
        found = _templates.setdefault(shape, ref(shape))()
        return shape if found is None else found

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, QueryTemplate) and self._hash == other._hash and self.roots == other.roots)


_templates: WeakKeyDictionary[QueryTemplate, ref[QueryTemplate]] = WeakKeyDictionary()
