"""What a tenant marks with, as a batch needs it: windows, subjects, aspects, pinned scheme versions and their grades.

It changes a few times a term and is asked for with every judgement, so that a book is kept, and used as long as the version of all references
(migration 0013) is what it was when the book was read.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from domain.declare.ids import parse_id
from domain.store.database import Connection
from domain.support.lru import Lru
from domain.support.suggestions import Suggestions


@dataclass(frozen=True)
class CodeTable:
    """`windows` by code and by id; subjects and aspects that can be judged, by code; pins by (window, school, subject, aspect); grades by (version, code)."""

    windows: dict[str, Any]
    subjects: dict[str, int]
    aspects: dict[str, int]
    pins: dict[tuple[int, UUID, int, int], int]
    grades: dict[tuple[int, str], int]

    @cached_property
    def _codes(self) -> dict[int, tuple[str, ...]]:
        found: dict[int, list[str]] = {}
        for version, code in self.grades:
            found.setdefault(version, []).append(code)
        return {version: tuple(codes) for version, codes in found.items()}

    def unknown_grade(self, version_no: int, given: str, suggestions: Suggestions) -> str:
        codes = self._codes.get(version_no, ())
        shown = ", ".join(codes) if len(codes) <= 20 else f"{', '.join(codes[:3])} … {', '.join(codes[-3:])}"
        return f"The scheme has no such grade.{suggestions.suggest(given, codes)} It has: {shown}."


_NAMES = """
SELECT 'subject' AS kind, code, no FROM subjects WHERE tenant_id = $1 AND NOT derived
UNION ALL SELECT 'aspect', code, no FROM aspects WHERE tenant_id = $1
ORDER BY kind, no
"""
_WINDOWS = """
SELECT w.id, w.code, w.no, w.academic_year, w.state, p.school_id, p.subject_no, p.aspect_no, p.scheme_version_no
FROM windows w LEFT JOIN pins p ON p.tenant_id = w.tenant_id AND p.window_no = w.no
WHERE w.tenant_id = $1 AND (w.code = ANY ($2) OR w.id = ANY ($3))
"""


_VERSION = "SELECT version, xid::text, clock_timestamp() AS now FROM data_versions WHERE name = 'references'"


def _weight(key: tuple[UUID, frozenset[str]], kept: tuple[object, CodeTable]) -> int:
    book = kept[1]
    return (
        2000
        + sum(100 + len(name) for name in key[1])
        + 1000 * len(book.windows)
        + 200 * (len(book.subjects) + len(book.aspects))
        + 300 * len(book.pins)
        + 200 * len(book.grades)
    )


code_tables: Lru[tuple[UUID, frozenset[str]], tuple[tuple[int, str], CodeTable]] = Lru(
    "gradebooks", 8_000_000, share=4, weigh=_weight
)
"""By tenant and the windows named, with the version of the references that each was read at."""


async def read_codes(connection: Connection, tenant_id: UUID, named: Collection[str]) -> tuple[CodeTable, datetime]:
    """The gradebook for the windows named, by code or id, and the database's clock. The caller must have shown that it reaches the tenant."""
    ((version, xid, now),) = await connection.fetch(_VERSION)
    key = tenant_id, frozenset(named)
    known = code_tables.get(key)
    if known is not None and known[0] == (version, xid):
        return known[1], now
    book = await _read(connection, tenant_id, named)
    code_tables.put(key, ((version, xid), book))
    return book, now


async def _read(connection: Connection, tenant_id: UUID, named: Collection[str]) -> CodeTable:
    codes = await connection.fetch(_NAMES, tenant_id)
    ids = [parsed for name in named if (parsed := parse_id(name)) is not None]
    windows: dict[str, Any] = {}
    pins: dict[tuple[int, UUID, int, int], int] = {}
    for row in await connection.fetch(_WINDOWS, tenant_id, list(named), ids):
        windows[row["code"]] = windows[str(row["id"])] = row
        if row["school_id"] is not None:
            pins[row["no"], row["school_id"], row["subject_no"], row["aspect_no"]] = row["scheme_version_no"]
    grades = await connection.fetch(
        "SELECT scheme_version_no, code, no FROM grades WHERE tenant_id = $1 AND scheme_version_no = ANY ($2) ORDER BY scheme_version_no, no",
        *(tenant_id, list(set(pins.values()))),
    )
    return CodeTable(
        windows,
        {row["code"]: row["no"] for row in codes if row["kind"] == "subject"},
        {row["code"]: row["no"] for row in codes if row["kind"] == "aspect"},
        pins,
        {(row["scheme_version_no"], row["code"]): row["no"] for row in grades},
    )
