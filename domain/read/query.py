"""The query tree that REST and GraphQL requests are translated to: output fields over declared resources, without SQL
or HTTP.

Each output field has a key, its name in the JSON response: REST writes {data, page}, GraphQL {edges, pageInfo} under
the client's aliases. read/compile.py compiles a tuple of queries into one SQL statement.

Requests that differ only in values share one compiled query. REST and GraphQL split a request into a template and its
texts (an id, a cursor, a filter value). While the template is parsed, each such text is a ParameterText, and each value
parsed from one is a Parameter in the tree. A later request with the same template skips parsing: its texts are decoded
by the same Parameters and bound.
"""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary, ref

from domain.declare.ranges import Comparison
from domain.declare.resource import Field, KeyValues, Link, Resource
from domain.declare.value_types import ValueType

T = TypeVar("T")

DEFAULT_FIRST, MAX_FIRST, MAX_NESTED_FIRST = 50, 1000, 100
"""Rows of a page: the default, the maximum, and the maximum of a page nested in a row."""

MAX_VALUES, MAX_VALUES_PER_REQUEST = 1000, 5000
"""Values of one filter, and of all filters of a request; also names of a list such as `fields`."""

ONE_VALUE, MANY_VALUES = ("one",), ("many",)
"""Replaces the values of a Condition in a QueryTemplate: they are bound as one value or as an array."""


class ParameterText(str):
    """A text of a request that is a value and may differ between requests with the same template.

    `text_index` is its position among the request's texts.
    """

    text_index: int

    def __new__(cls, text: str, text_index: int) -> "ParameterText":
        parameter_text = super().__new__(cls, text)
        parameter_text.text_index = text_index
        return parameter_text


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value decoded from a ParameterText.

    `decode` gives the value of another request from its text at `text_index`; it raises ValueError.
    """

    value: Any
    text_index: int
    decode: Callable[[str], Any]


def decode_parameter(raw: Any, decode: Callable[[Any], T]) -> T | Parameter:
    """Returns the decoded value, as a Parameter if `raw` is a ParameterText.

    Raises ValueError if it cannot be decoded.
    """
    value = decode(raw)
    return Parameter(value, raw.text_index, decode) if isinstance(raw, ParameterText) else value


def decode_key(resource: Resource, id_text: str) -> KeyValues | None:
    """Returns the key values of the row with this id, as Parameters if the id is a ParameterText.

    Returns None if the text cannot be an id of the resource.
    """

    def make_decoder(i: int) -> Callable[[str], Any]:
        def decode(text: str) -> Any:
            key_values = resource.identify(text)
            if key_values is None or len(key_values) <= i:
                raise ValueError("cannot be such an id")
            return key_values[i][1]

        return decode

    key_values = resource.identify(id_text)
    if key_values is None or not isinstance(id_text, ParameterText):
        return key_values
    return tuple((column, Parameter(value, id_text.text_index, make_decoder(i))) for i, (column, value) in enumerate(key_values))


def unwrap_parameter(value: Any) -> Any:
    """Returns the value of a Parameter, and any other value as it is."""
    return value.value if isinstance(value, Parameter) else value


@dataclass(frozen=True)
class FieldValue:
    """The value of a field."""

    field: Field


@dataclass(frozen=True)
class ObjectMembers:
    """Members of a field that is an object, as (key, name of the member or fixed text, whether it is fixed); null if the
    field is.
    """

    field: Field
    members: tuple[tuple[str, str, bool], ...]


@dataclass(frozen=True)
class FixedText:
    """A fixed text, such as GraphQL's __typename."""

    text: str


@dataclass(frozen=True)
class RowCursor:
    """In a row, its cursor. In a page, the cursor of its last row, or of its first."""

    first: bool = False


@dataclass(frozen=True)
class HasNextPage:
    """Whether rows follow the page. In a page only."""


@dataclass(frozen=True)
class HasPreviousPage:
    """Whether the page was requested by a cursor. In a page only."""


@dataclass(frozen=True)
class ToOne:
    """The linked row, or null if there is none within reach."""

    link: Link
    resource: Resource
    fields: "OutputFields"


@dataclass(frozen=True)
class ToMany:
    """A page of linked rows."""

    link: Link
    query: "ListQuery"


@dataclass(frozen=True)
class TotalCount:
    """How many rows the list has on all its pages. In a page only."""


@dataclass(frozen=True)
class PageRows:
    """The rows of a page, as a list of objects with these fields. In a page only."""

    fields: "OutputFields"


@dataclass(frozen=True)
class NestedObject:
    """An object that groups fields of the same row or page, such as GraphQL's node and pageInfo."""

    fields: "OutputFields"


OutputField: TypeAlias = (
    FieldValue
    | ObjectMembers
    | FixedText
    | RowCursor
    | HasNextPage
    | HasPreviousPage
    | TotalCount
    | ToOne
    | ToMany
    | PageRows
    | NestedObject
)
OutputFields: TypeAlias = tuple[tuple[str, OutputField], ...]
"""Pairs of (key, output field), in the order of the JSON object."""


@dataclass(frozen=True)
class Condition:
    """A filter: the field equals one of the values, or compares with the only value by `comparison`.

    The values have the field's type, or are Parameters. `at` is its place in the request, for issues.
    """

    name: str
    field: Field
    values: tuple[Any, ...]
    comparison: Comparison | None = None
    at: str = dataclass_field(default="", compare=False)

    @property
    def label(self) -> str:
        """Its name in a query string, such as `mark.gte`."""
        return self.name if self.comparison is None else f"{self.name}.{self.comparison}"


def place_value(at: str, index: int, count: int) -> str:
    """Returns the place of a value of a filter: that of the filter `at`, with its index where a list has several. A query
    string repeats the name instead.
    """
    if count == 1 or not ("/" in at or ".where." in at):
        return at
    return f"{at}/{index}" if "/" in at else f"{at}.{index}"


@dataclass(frozen=True)
class Order:
    """A field that a list is sorted by. `name` is the field's name."""

    name: str
    field: Field
    descending: bool


@dataclass(frozen=True)
class ListQuery:
    """A page of rows of a resource. `after` is the position of the cursor that the page follows.

    `arguments` are the values of its arguments; for rows reached by a link, `path` is the path of the link.
    `choices` has the value of each of the list's choices, which belong to the template.
    """

    resource: Resource
    fields: OutputFields
    where: tuple[Condition, ...] = ()
    order: tuple[Order, ...] = ()
    first: int = DEFAULT_FIRST
    after: "tuple[str | None, ...] | Parameter | None" = None
    path: str = ""
    arguments: tuple[tuple[str, Any], ...] = ()
    choices: tuple[tuple[str, str], ...] = ()

    def fingerprint(self, value_of: Callable[[Any], Any] = unwrap_parameter) -> str:
        """Returns what a cursor of this query is bound to: resource, path, arguments, choices, filters and order.

        `value_of` returns the current value of a Parameter.
        """
        where = sorted((c.name, c.comparison or "", sorted({str(value_of(value)) for value in c.values})) for c in self.where)
        arguments = sorted((name, str(value_of(value))) for name, value in self.arguments)
        order = [(o.name, o.descending, o.field.kind is ValueType.TEXT) for o in self.order]
        return repr((self.path, self.resource.name, arguments, where, order, *self.choices))


@dataclass(frozen=True)
class RowQuery:
    """One row of a resource, selected by key values. Null if the row is not within reach, or there are no key values."""

    resource: Resource
    key_values: KeyValues
    fields: OutputFields


Query: TypeAlias = ListQuery | RowQuery


class QueryTemplate:
    """Queries without the values that differ between requests.

    Equal templates are one object (`intern`), hashed once, so that the cache of compiled statements compares no trees.
    """

    __slots__ = ("__weakref__", "_hash", "queries")

    def __init__(self, queries: tuple[Query, ...]) -> None:
        self.queries = queries
        self._hash = hash(queries)

    @classmethod
    def intern(cls, queries: tuple[Query, ...]) -> "QueryTemplate":
        """Returns the one template of these queries. It lives as long as something refers to it."""
        template = cls(queries)
        interned = _templates.setdefault(template, ref(template))()
        return template if interned is None else interned

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, QueryTemplate) and self._hash == other._hash and self.queries == other.queries)


_templates: WeakKeyDictionary[QueryTemplate, ref[QueryTemplate]] = WeakKeyDictionary()
