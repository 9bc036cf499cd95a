"""Partial inputs: what can be read of a JSON value that does not have its type.

Each field that has its type can be read, so that a fault of one field hides no fault of another. Reading any other raises
Unreadable: a check that needs it is not made. Nothing of a partial input is ever written.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NoReturn, TypeVar

from msgspec import UNSET, Struct, structs

T = TypeVar("T")
S = TypeVar("S", bound=Struct)


class Unreadable(AttributeError):
    """A check reads a field that the request left out though it is required, or that does not have its type."""


def needs_unreadable(error: AttributeError) -> bool:
    """Whether an error means that a field which cannot be read was needed. msgspec's own functions, such as `asdict`, raise a
    plain AttributeError.
    """
    return isinstance(error, Unreadable) or str(error).endswith("is unset")


class _UnreadableValue:
    """A value that does not have its type: whatever is done with it raises Unreadable."""

    def _refuse(self, *others: object) -> NoReturn:
        raise Unreadable

    __getattr__ = __iter__ = __len__ = __bool__ = __lt__ = __le__ = __gt__ = __ge__ = __str__ = _refuse


UNREADABLE: Any = _UnreadableValue()
"""What stands for a value that does not have its type, until a partial input is made."""


class PartialList(list[Any]):
    """A list with elements that do not have their type: `list_readable` lists the others, and nothing else can be done."""

    def __init__(self, elements: Sequence[tuple[int, Any]]) -> None:
        super().__init__(element for _, element in elements)
        self.readable = elements

    def __iter__(self) -> NoReturn:
        raise Unreadable

    def __getitem__(self, index: Any) -> NoReturn:
        raise Unreadable


def list_readable(elements: Sequence[T]) -> list[tuple[int, T]]:
    """Returns the elements of a list that have their type, each with its index."""
    return list(elements.readable) if isinstance(elements, PartialList) else list(enumerate(elements))


@cache
def _derive(struct: type[Struct]) -> type[Struct]:
    """Returns the type of a struct's partial inputs, which are not checked by its rules."""

    def refuse(self: Struct, name: str = "") -> NoReturn:
        raise Unreadable(name)

    members = {"__getattr__": refuse, "__repr__": refuse, "__post_init__": lambda self: None, "is_partial": True}
    kind: Any = type(struct)
    derived: type[Struct] = kind(f"Partial{struct.__name__}", (struct,), members)
    return derived


def make_partial(struct: type[S], values: dict[str, Any]) -> S:
    """Returns a partial input that has these values, by the names of its fields, and the defaults of fields that are not
    required. A value of UNREADABLE is that of a field which cannot be read.
    """
    fields = structs.fields(struct)
    absent = [f.name for f in fields if values.get(f.name, UNREADABLE if f.required else None) is UNREADABLE]
    kind: Any = _derive(struct)
    partial: S = kind(**{**values, **dict.fromkeys(absent, UNSET)})
    for name in absent:
        delattr(partial, name)
    return partial


def is_partial(value: object) -> bool:
    """Whether a value is a partial input."""
    return getattr(type(value), "is_partial", False)


def require_readable(value: object) -> None:
    """Raises Unreadable if a value is a partial input, of which nothing more can be checked."""
    if is_partial(value):
        raise Unreadable


def copy_fields(source: Struct, struct: type[S], **others: Any) -> S:
    """Returns an input of another type with the fields of `source` and others; what cannot be read there cannot be read here."""
    values = {name: getattr(source, name, UNREADABLE) for name in source.__struct_fields__} | others
    if is_partial(source) or any(value is UNREADABLE for value in values.values()):
        return make_partial(struct, values)
    return struct(**values)
