"""Reads header fields that are lists or have parameters (RFC 9110 section 5.6): a comma in a quoted string separates nothing."""

import re
from collections.abc import Iterator

_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.?)*(?:"|\Z))+', re.DOTALL)
_PART = re.compile(r'(?:[^;"]|"(?:[^"\\]|\\.?)*(?:"|\Z))+', re.DOTALL)
"""A string that is never closed matches up to its end, so that the rest is not searched again from each quote in it."""
_ESCAPED = re.compile(r"\\(.)")


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
