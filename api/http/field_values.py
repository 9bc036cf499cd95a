"""Reads header fields that are lists or have parameters (RFC 9110 section 5.6): a comma in a quoted string separates nothing.

A list may stand on several lines (section 5.3). A field of one value may not, since recipients differ in which of the lines counts.
"""

import re
from collections.abc import Iterator

from starlette.types import Scope

from domain.declare.errors import BadRequest, Issue

_SINGLE = {
    b"authorization": "Authorization",
    b"content-type": "Content-Type",
    b"idempotency-key": "Idempotency-Key",
    b"origin": "Origin",
}
"""Fields of one value, by their names in a scope. The server itself refuses two lines of Content-Length, Host and the like (api/server/head.py)."""

_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.?)*(?:"|\Z))+', re.DOTALL)
_PART = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.?)*(?:"|\Z))+', re.DOTALL)
"""A string that is never closed matches up to its end, so that the rest is not searched again from each quote in it."""
_ESCAPED = re.compile(r"\\(.)")


def check_single(scope: Scope) -> None:
    """Raises BadRequest for every field of one value that stands on several lines."""
    names = [name for name, _ in scope["headers"]]
    if len(set(names)) == len(names):
        return
    issues = [
        Issue(title, "header-repeated", f"A request has one {title} field.")
        for name, title in _SINGLE.items()
        if names.count(name) > 1
    ]
    if issues:
        raise BadRequest(issues[0].message, code="header-repeated", issues=tuple(issues))


def join_lines(scope: Scope, name: bytes) -> str | None:
    """The value of a field that is a list, whose lines are joined with commas; None where the request has no such field."""
    lines: list[bytes] = [value for key, value in scope["headers"] if key == name]
    return b", ".join(lines).decode("latin-1") if lines else None


def split_elements(value: str) -> Iterator[str]:
    """The elements of a list, without white space around them and without empty ones (section 5.6.1.2)."""
    return _split(_ELEMENT, value)


def split_parameters(element: str) -> tuple[str, list[tuple[str, str]]]:
    """What stands before the first semicolon, and the parameters after it: names in lower case, and their values without
    quotes."""
    parts = [*_split(_PART, element)]
    head = parts.pop(0) if parts and not element.startswith(";") else ""
    pairs = [(name.strip().lower(), unquote(value.strip())) for part in parts for name, _, value in [part.partition("=")]]
    return head, pairs


def unquote(value: str) -> str:
    """The text of a quoted string; a token as it is."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        return _ESCAPED.sub(r"\1", value[1:-1])
    return value


def _split(pattern: re.Pattern[str], value: str) -> Iterator[str]:
    return (text for found in pattern.findall(value) if (text := found.strip(" \t")))
