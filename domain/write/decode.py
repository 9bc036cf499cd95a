"""From JSON values to typed inputs, with every issue at once: msgspec says the first thing that is wrong, this says all of them, each with its place."""

import re
import types
import typing
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from itertools import islice
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from domain.declare.errors import Issue
from domain.support.suggestions import Suggestions

T = TypeVar("T", bound=Struct)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
MAX_ISSUES = 100
"""Issues told of one body, or of one row of a batch: two bytes can be three issues."""
MOST_UNKNOWN = 20
"""Unknown fields of one object that are told: finding what was meant takes time."""
YEARS = (1900, 2200)
"""Instants outside are slips of the pen; near the years 1 and 9999 they could not be turned into UTC."""

_WORDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "an array",
    "object": "an object",
    "null": "null",
    "date": "a date such as 2026-09-01",
    "datetime": "an instant such as 2026-09-01T08:30:00Z",
}


def decode(
    type_: type[T], data: object, at: str, suggestions: Suggestions | None = None, most: int = MAX_ISSUES
) -> tuple[T | None, list[Issue]]:
    """The typed value, or None and what is wrong with it, at `most` so many issues; `at` is the JSON pointer of `data`."""
    try:
        value = msgspec.convert(data, type_)
    except (msgspec.ValidationError, OverflowError):
        return None, list(islice(_issues(type_, data, at, suggestions or Suggestions()), most))
    return value, [] if _plausible(structs.astuple(value)) else list(islice(_implausible(value, at), most))


def _plausible(parts: Iterable[object]) -> bool:
    """Decides for good rows, quickly, what `_implausible` then finds in the others; it may doubt a text that is sound after all."""
    for part in parts:
        if part is None or part is msgspec.UNSET:
            continue
        if isinstance(part, str):
            if part.isspace() or not part.isprintable():
                return False
        elif isinstance(part, datetime):
            if not YEARS[0] <= part.year <= YEARS[1]:
                return False
        elif isinstance(part, list):
            if not _plausible(part):
                return False
        elif isinstance(part, Struct) and not _plausible(structs.astuple(part)):
            return False
    return True


def _implausible(value: object, at: str) -> typing.Iterator[Issue]:
    """What has the right type and cannot be meant: blank texts, control characters, instants that could not be turned into UTC."""
    if isinstance(value, str):
        if value and (not any(c.isprintable() and not c.isspace() for c in value) or _CONTROL.search(value)):
            yield Issue(at, "text-unreadable", "The text is blank or holds control characters.")
    elif isinstance(value, datetime):
        if not YEARS[0] <= value.year <= YEARS[1]:
            yield Issue(at, "wrong-value", f"An instant lies in the years {YEARS[0]} to {YEARS[1]}.")
    elif isinstance(value, list):
        for i, element in enumerate(value):
            yield from _implausible(element, f"{at}/{i}")
    elif isinstance(value, Struct):
        for attribute, name in _names(type(value)):
            yield from _implausible(getattr(value, attribute), f"{at}/{name}")


@cache
def _names(struct: type[Struct]) -> list[tuple[str, str]]:
    """The attributes of a struct and their names on the wire."""
    return [(field.name, field.encode_name) for field in structs.fields(struct)]


def _issues(type_: Any, data: object, at: str, suggestions: Suggestions) -> typing.Iterator[Issue]:
    struct, item = _struct_in(type_), _item_in(type_)
    if struct is not None and isinstance(data, dict):
        yield from _object_issues(struct, data, at, suggestions)
    elif item is not None and isinstance(data, list):
        found = False
        for i, element in enumerate(data):
            if _is_right(item, element):  # which is known sooner than that nothing in it is wrong
                continue
            for issue in _issues(item, element, f"{at}/{i}", suggestions):
                found = True
                yield issue
        if not found:
            yield from _whole(type_, data, at)
    else:
        yield from _whole(type_, data, at)


def _is_right(type_: Any, data: object) -> bool:
    try:
        msgspec.convert(data, type_)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True


def _whole(type_: Any, data: object, at: str) -> typing.Iterator[Issue]:
    """What is wrong with a value that has no parts, or whose parts are right."""
    try:
        msgspec.convert(data, type_)
    except (msgspec.ValidationError, OverflowError) as problem:
        allowed = [
            value for member in _members(type_) if typing.get_origin(member) is typing.Literal for value in typing.get_args(member)
        ]
        hint = f" It is one of {', '.join(map(str, allowed))}." if allowed and isinstance(data, str) else ""
        yield Issue(at, "wrong-value", hint.strip() or _in_words(str(problem)))


@cache
def _fields(struct: type[Struct]) -> dict[str, structs.FieldInfo]:
    """The fields of a struct by their names on the wire."""
    return {field.encode_name: field for field in structs.fields(struct)}


def _object_issues(struct: type[Struct], data: dict[str, Any], at: str, suggestions: Suggestions) -> typing.Iterator[Issue]:
    fields = _fields(struct)
    unknown = [name for name in data if name not in fields]
    told = getattr(struct, "unknown", "There is no such field.").format(fields=", ".join(fields)) if unknown else ""
    for name in unknown[:MOST_UNKNOWN]:
        pointer = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
        yield Issue(pointer, "unknown-field", told + suggestions.suggest(name, tuple(fields)))
    found = False
    for name, field in fields.items():
        if name in data:
            for issue in _issues(field.type, data[name], f"{at}/{name}", suggestions):
                found = True
                yield issue
        elif field.required:
            found = True
            yield Issue(f"{at}/{name}", "required", f"{name} is required.")
    if not found and not unknown:
        yield from _whole(struct, data, at)  # a rule of the whole object (__post_init__)


@cache
def _struct_in(type_: Any) -> type[Struct] | None:
    return next((t for t in _members(type_) if isinstance(t, type) and issubclass(t, Struct)), None)


@cache
def _item_in(type_: Any) -> Any:
    return next((typing.get_args(t)[0] for t in _members(type_) if typing.get_origin(t) is list), None)


def lists_in(struct: type[Struct]) -> dict[str, type[Struct]]:
    """The fields of a struct that are lists of structs, by their names on the wire, and of which."""
    found = {field.encode_name: _item_in(field.type) for field in structs.fields(struct)}
    return {name: row for name, item in found.items() if item is not None and (row := _struct_in(item)) is not None}


def _members(type_: Any) -> list[Any]:
    if typing.get_origin(type_) is typing.Annotated:
        return _members(typing.get_args(type_)[0])
    if typing.get_origin(type_) in (typing.Union, types.UnionType):
        return [m for t in typing.get_args(type_) for m in _members(t)]
    return [type_]


def _in_words(message: str) -> str:
    """msgspec's message without its path, and without the value itself (it may be a name)."""
    message = message.split(" - at `$")[0]
    if message.startswith("Invalid enum value"):
        return "This is not one of the values allowed."
    if message.startswith("Invalid RFC3339"):
        return f"This is not {_WORDS['datetime' if 'datetime' in message else 'date']}."
    message = re.sub("`([^`]+)`", lambda found: " or ".join(_WORDS.get(name, name) for name in found[1].split(" | ")), message)
    return message.rstrip(".") + "."
