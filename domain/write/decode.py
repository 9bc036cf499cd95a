"""Decodes JSON values to typed inputs, with every text cleaned (support/texts.py).

msgspec reports the first fault of a value; this module reports all of them, each with its pointer, and reads what can be read
(partial.py).
"""

import math
import re
import types
import typing
from collections.abc import Iterable
from datetime import datetime
from functools import cache
from itertools import chain, islice
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from domain.declare.errors import FaultyValue, Issue
from domain.declare.inputs import Form, convert_custom
from domain.declare.value_types import MAX_TEXT
from domain.declare.vocabulary import find_word, list_words
from domain.support.suggestions import Suggestions
from domain.support.texts import clean_text, find_invisible, find_unreadable, is_clean
from domain.write.partial import UNREADABLE, PartialList, Unreadable, is_partial, make_partial
from domain.write.predicted_progress import PREDICTED_PROGRESS, is_predicted_progress

T = TypeVar("T", bound=Struct)
MAX_ISSUES = 100
"""Issues reported of one body, or of one row of a batch."""
MAX_UNKNOWN_FIELDS = 20
"""Unknown fields reported of one object."""
YEARS = (1900, 2200)
"""The years of valid instants. Instants near the years 1 and 9999 cannot be converted to UTC."""

_TYPE_DESCRIPTIONS = {
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
    type_: type[T], data: object, at: str, suggestions: Suggestions | None = None, max_issues: int = MAX_ISSUES
) -> tuple[T | None, list[Issue]]:
    """Returns the typed value and its issues.

    With issues the value is a partial input, None if the JSON value is no object. `at` is the JSON pointer of `data`.
    """
    try:
        value = msgspec.convert(data, type_, dec_hook=convert_custom)
        if _is_plausible(structs.astuple(value)):
            return value, []
    except (msgspec.ValidationError, OverflowError):
        pass
    data, suggestions = _choose_words(type_, _clean_texts(data)), suggestions or Suggestions()
    try:
        value = msgspec.convert(data, type_, dec_hook=convert_custom)
        issues = list(islice(_find_implausible(type_, value, at), max_issues))
        if not issues:
            return value, []
    except (msgspec.ValidationError, OverflowError):
        issues = list(islice(_find_issues(type_, data, at, suggestions), max_issues))
    faulty = {issue.at for issue in issues}
    issues = [*issues, *(issue for issue in _find_misformed(type_, data, at) if issue.at not in faulty)][:max_issues]
    return (_read_struct(type_, data, suggestions) if isinstance(data, dict) else None), issues  # type: ignore[return-value]


def _read(type_: Any, data: Any, suggestions: Suggestions) -> Any:
    """Returns a JSON value as far as it has this type: the typed value, a partial one, or UNREADABLE."""
    struct, item = _find_struct(type_), _find_item_type(type_)
    try:
        value = msgspec.convert(data, type_, dec_hook=convert_custom)
        if next(chain(_find_implausible(type_, value, ""), _find_misformed(type_, data, "")), None) is None:
            return value
    except (msgspec.ValidationError, OverflowError):
        pass
    if struct is not None and isinstance(data, dict):
        partial = _read_struct(struct, data, suggestions)
        return UNREADABLE if any(_find_broken_rules(partial)) else partial
    if item is not None and isinstance(data, list) and len(data) <= _find_max_length(type_):
        elements = [_read(item, element, suggestions) for element in data]
        readable = [(i, element) for i, element in enumerate(elements) if element is not UNREADABLE]
        if len(readable) < len(elements):
            return PartialList(readable)
        return elements if any(map(is_partial, elements)) else UNREADABLE
    return UNREADABLE


def _read_struct(struct: type[Struct], data: dict[str, Any], suggestions: Suggestions) -> Struct:
    """Returns the partial input of an object. What a misspelled field says cannot be read."""
    fields = _map_fields(struct)
    names = tuple(fields)
    unknown = list(islice((name for name in data if name not in fields), MAX_UNKNOWN_FIELDS))
    values = {fields[meant].name: UNREADABLE for name in unknown if (meant := suggestions.find_similar(name, names))}
    values |= {fields[name].name: _read(fields[name].type, data[name], suggestions) for name in data if name in fields}
    return make_partial(struct, values)


@cache
def _find_max_length(type_: Any) -> float:
    """Returns how many elements a list of this type may have."""
    lengths = (getattr(note, "max_length", None) for note in _list_notes(type_))
    return min((length for length in lengths if length is not None), default=math.inf)


def _is_plausible(parts: Iterable[object]) -> bool:
    """Quickly decides whether every text is clean and no value is implausible.

    `_clean_texts` and `_find_implausible` then examine the others, which may be valid.
    """
    for part in parts:
        if part is None or part is msgspec.UNSET:
            continue
        if isinstance(part, str):
            if not is_clean(part):
                return False
        elif isinstance(part, datetime):
            if not YEARS[0] <= part.year <= YEARS[1]:
                return False
        elif isinstance(part, list):
            if not _is_plausible(part):
                return False
        elif isinstance(part, Struct) and not _is_plausible(structs.astuple(part)):
            return False
    return True


def _clean_texts(data: Any) -> Any:
    """Returns a JSON value with every text in it cleaned.

    A text stays as it is if nothing would be left of it, or if it holds a character that cannot be seen: its issue
    tells that character's position.
    """
    if isinstance(data, str):
        cleaned = data if is_clean(data) else clean_text(data)
        return data if find_invisible(cleaned) else cleaned or data
    if isinstance(data, list):
        return [_clean_texts(element) for element in data]
    if isinstance(data, dict):
        return {name: _clean_texts(value) for name, value in data.items()}
    return data


def _choose_words(type_: Any, data: Any) -> Any:
    """Returns a JSON value with the words of closed lists in it as the lists have them; they may be sent in any case."""
    if isinstance(data, str):
        words = _list_words(type_)
        return data if not words else find_word(data, words) or data
    if isinstance(data, list) and (item := _find_item_type(type_)) is not None:
        return [_choose_words(item, element) for element in data]
    if isinstance(data, dict) and (struct := _find_struct(type_)) is not None:
        fields = _map_fields(struct)
        return {name: _choose_words(fields[name].type, value) if name in fields else value for name, value in data.items()}
    return data


@cache
def _list_words(type_: Any) -> tuple[str, ...]:
    """Returns the words of a type that is a closed list."""
    literals = (member for member in _list_union_members(type_) if typing.get_origin(member) is typing.Literal)
    return tuple(value for literal in literals for value in typing.get_args(literal))


def _find_implausible(type_: Any, value: object, at: str) -> typing.Iterator[Issue]:
    """Yields the issues of values with the right type that cannot be meant: texts that are blank or hold characters
    that cannot be seen, and instants out of range.
    """
    if isinstance(value, str):
        if (message := find_unreadable(value, may_be_formatted=_is_prose(type_))) is not None:
            yield Issue(at, "text-unreadable", message)
    elif isinstance(value, datetime):
        if not YEARS[0] <= value.year <= YEARS[1]:
            yield Issue(at, "wrong-value", f"An instant lies in the years {YEARS[0]} to {YEARS[1]}.")
    elif isinstance(value, list):
        for i, element in enumerate(value):
            yield from _find_implausible(_find_item_type(type_), element, f"{at}/{i}")
    elif isinstance(value, Struct):
        for field in structs.fields(value):
            yield from _find_implausible(field.type, getattr(value, field.name), f"{at}/{field.encode_name}")


@cache
def _is_prose(type_: Any) -> bool:
    """Whether the values of a type are sentences (`LongText`)."""
    return any(getattr(note, "max_length", None) == MAX_TEXT for note in _list_notes(type_))


def _find_issues(type_: Any, data: object, at: str, suggestions: Suggestions) -> typing.Iterator[Issue]:
    """Yields every issue of a value that does not have this type, or cannot be meant."""
    if isinstance(data, FaultyValue):
        yield Issue(at, data.code, data.message)
        return
    try:
        value = msgspec.convert(data, type_, dec_hook=convert_custom)
    except (msgspec.ValidationError, OverflowError) as problem:
        issue = Issue(at, "wrong-value", _describe_problem(type_, data, problem))
    else:
        yield from _find_implausible(type_, value, at)
        return
    struct, item = _find_struct(type_), _find_item_type(type_)
    has_issues = False
    if struct is not None and isinstance(data, dict):
        for each in _find_object_issues(struct, data, at, suggestions):
            has_issues = True
            yield each
    elif item is not None and isinstance(data, list):
        for i, element in enumerate(data):
            for each in _find_issues(item, element, f"{at}/{i}", suggestions):
                has_issues = True
                yield each
    if not has_issues:
        yield issue


def _find_misformed(type_: Any, data: object, at: str) -> typing.Iterator[Issue]:
    """Yields the issues of texts that do not have their `Form`."""
    if isinstance(data, str) and (form := _find_form(type_)) is not None:
        try:
            form.parse(data)
        except ValueError as problem:
            yield Issue(at, form.code, str(problem))
    elif isinstance(data, list) and (item := _find_item_type(type_)) is not None:
        for i, element in enumerate(data):
            yield from _find_misformed(item, element, f"{at}/{i}")
    elif isinstance(data, dict) and (struct := _find_struct(type_)) is not None:
        for name, field in _map_fields(struct).items():
            yield from _find_misformed(field.type, data.get(name), f"{at}/{name}")


@cache
def _find_form(type_: Any) -> Form | None:
    """Returns the form of the texts of a type."""
    return next((note for note in _list_notes(type_) if isinstance(note, Form)), None)


def _describe_problem(type_: Any, data: object, problem: Exception) -> str:
    """Returns what is wrong with a value that has no parts, or whose parts are all valid."""
    words = _list_words(type_) if isinstance(data, str) else ()
    return list_words(words) if words else _describe_message(str(problem))


@cache
def _map_fields(struct: type[Struct]) -> dict[str, structs.FieldInfo]:
    """Returns the fields of a struct by their names in JSON."""
    return {field.encode_name: field for field in structs.fields(struct)}


def _find_object_issues(struct: type[Struct], data: dict[str, Any], at: str, suggestions: Suggestions) -> typing.Iterator[Issue]:
    fields = _map_fields(struct)
    unknown = [name for name in data if name not in fields]
    message = getattr(struct, "unknown", "There is no such field.").format(fields=", ".join(fields)) if unknown else ""
    for name in unknown[:MAX_UNKNOWN_FIELDS]:
        pointer = f"{at}/{name.replace('~', '~0').replace('/', '~1')}"
        if is_predicted_progress(name):
            yield Issue(pointer, "predicted-progress", PREDICTED_PROGRESS)
        else:
            yield Issue(pointer, "unknown-field", message + suggestions.suggest(name, tuple(fields)))
    for name, field in fields.items():
        if name in data:
            yield from _find_issues(field.type, data[name], f"{at}/{name}", suggestions)
        elif field.required:
            yield Issue(f"{at}/{name}", "required", f"{name} is required.")
    has_rules = bool(getattr(struct, "rules", ()))
    if has_rules and (problems := list(_find_broken_rules(_read_struct(struct, data, suggestions)))):
        yield Issue(at, "wrong-value", " ".join(problem.rstrip(".") + "." for problem in problems))


def _find_broken_rules(partial: Struct) -> typing.Iterator[str]:
    """Yields what is wrong with a partial input by the rules of the whole object, of those that need no field with a fault."""
    for rule in getattr(partial, "rules", ()):
        try:
            problem = rule(partial)
        except Unreadable:
            continue
        if problem is not None:
            yield problem


@cache
def _find_struct(type_: Any) -> type[Struct] | None:
    return next((t for t in _list_union_members(type_) if isinstance(t, type) and issubclass(t, Struct)), None)


@cache
def _find_item_type(type_: Any) -> Any:
    return next((typing.get_args(t)[0] for t in _list_union_members(type_) if typing.get_origin(t) is list), None)


def find_lists(struct: type[Struct]) -> dict[str, type[Struct]]:
    """Returns the fields of a struct that are lists of structs: the struct of each list, by the field's name in JSON."""
    item_types = {field.encode_name: _find_item_type(field.type) for field in structs.fields(struct)}
    return {name: row for name, item in item_types.items() if item is not None and (row := _find_struct(item)) is not None}


def _list_union_members(type_: Any) -> list[Any]:
    if typing.get_origin(type_) is typing.Annotated:
        return _list_union_members(typing.get_args(type_)[0])
    if typing.get_origin(type_) in (typing.Union, types.UnionType):
        return [m for t in typing.get_args(type_) for m in _list_union_members(t)]
    return [type_]


def _list_notes(type_: Any) -> list[Any]:
    """Returns what a type and the members of a union are annotated with."""
    if typing.get_origin(type_) is typing.Annotated:
        inner, *notes = typing.get_args(type_)
        return [*notes, *_list_notes(inner)]
    if typing.get_origin(type_) in (typing.Union, types.UnionType):
        return [note for member in typing.get_args(type_) for note in _list_notes(member)]
    return []


def _describe_message(message: str) -> str:
    """Returns msgspec's message in plain words, without its path and without the value, which may be personal data."""
    message = message.split(" - at `$")[0]
    if message.startswith("Invalid enum value"):
        return "This is not one of the values allowed."
    if message.startswith("Invalid RFC3339"):
        return f"This is not {_TYPE_DESCRIPTIONS['datetime' if 'datetime' in message else 'date']}."
    message = re.sub(
        "`([^`]+)`", lambda match: " or ".join(_TYPE_DESCRIPTIONS.get(name, name) for name in match[1].split(" | ")), message
    )
    return message.rstrip(".") + "."
