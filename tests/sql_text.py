"""SQL for people to review: the same tokens, in lines that show how they nest."""

import re
from collections.abc import Iterator, Sequence
from typing import TypeAlias

WIDTH, INDENT = 110, "  "
_TOKEN = re.compile(r"(\s*)(E'(?:[^'\\]|''|\\.)*'|'(?:[^']|'')*'|\"[^\"]*\"|\|\||::|[<>!=]=|<>|[\w$.]+|\S)", re.DOTALL)
_BREAKS: tuple[tuple[str, ...], ...] = (
    ("SELECT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "UNION"),
    ("JOIN", "LEFT"),
    (",",),
    ("WHEN", "ELSE"),
    ("OR",),
    ("AND",),
    ("||",),
    ("FILTER", "OVER"),
)
"""The tokens at which a line that is too long is broken, those that bind the least first. A comma ends its line, the others begin theirs."""

Token: TypeAlias = tuple[str, str]
"""The blank before a token, and its text."""
Item: TypeAlias = "Token | list[Item]"
"""A token, or the tokens from a parenthesis or CASE to its end."""


def split_tokens(sql: str) -> list[str]:
    """The tokens of a statement, which `format_sql` keeps."""
    return [text for _, text in _TOKEN.findall(sql)]


def format_sql(sql: str) -> str:
    """The statement in lines of at most WIDTH characters, where its tokens allow it."""
    tokens = iter((" " if blank else "", text) for blank, text in _TOKEN.findall(sql))
    return "\n".join(_write_lines(_nest(tokens), 0)) + "\n"


def _nest(tokens: Iterator[Token]) -> list[Item]:
    items: list[Item] = []
    for token in tokens:
        if token[1] in ("(", "CASE"):
            items.append([token, *_nest(tokens)])
        else:
            items.append(token)
            if token[1] in (")", "END"):
                break
    return items


def _flatten(items: Sequence[Item]) -> str:
    return "".join(item[0] + item[1] if isinstance(item, tuple) else _flatten(item) for item in items)


def _write_lines(items: Sequence[Item], depth: int) -> list[str]:
    margin = INDENT * depth
    if len(flat := margin + _flatten(items).strip()) <= WIDTH:
        return [flat]
    for breaks in _BREAKS:
        parts = _split(items, breaks)
        if len(parts) > 1:
            is_list_of_equals = breaks[0] in ("SELECT", "WHEN") or (breaks == (",",) and not _begins_clause(items))
            further = depth if is_list_of_equals else depth + 1
            return [line for i, part in enumerate(parts) for line in _write_lines(part, further if i else depth)]
    lines = [margin]
    for item in items:
        if isinstance(item, tuple) or len(lines[-1] + _flatten(item)) <= WIDTH:
            lines[-1] += _flatten([item])
        else:
            opening, inside, closing = item[:1], item[1:-1], item[-1:]
            while inside and isinstance(inside[-1], list) and len(inside) <= 2:  # as in `(EXISTS (`
                group = inside[-1]
                opening, inside, closing = [*opening, *inside[:-1], group[0]], group[1:-1], [group[-1], *closing]
            lines[-1] += _flatten(opening)
            lines += _write_lines(inside, depth + 1)
            lines.append(margin + _flatten(closing).strip())
    return [margin + lines[0].strip(), *lines[1:]]


def _begins_clause(items: Sequence[Item]) -> bool:
    return isinstance(items[0], tuple) and items[0][1] in _BREAKS[0]


def _split(items: Sequence[Item], breaks: tuple[str, ...]) -> list[list[Item]]:
    parts: list[list[Item]] = [[]]
    for item in items:
        if isinstance(item, tuple) and item[1] in breaks:
            if item[1] == ",":
                parts[-1].append(item)
                parts.append([])
                continue
            if parts[-1]:
                parts.append([])
        parts[-1].append(item)
    return [part for part in parts if part]
