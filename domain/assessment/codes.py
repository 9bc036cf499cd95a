"""Cache of the codes that a batch of judgements names: windows, subjects, aspects, pinned scheme versions and their
grades, with their numbers.

They change a few times a term and every batch needs them. An entry is valid while the version of all references
(migration 0013) is the one at which it was read.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from functools import cached_property
from typing import Any
from uuid import UUID

from domain.assessment.templates import is_used
from domain.declare.ids import parse_id
from domain.roster.years import format_academic_year
from domain.store.database import Connection
from domain.support.lru import Lru
from domain.support.suggestions import Suggestions, list_first

MAX_LISTED = 20
"""Codes that a message lists."""


def list_codes(codes: Sequence[str]) -> str:
    """Returns the sentence that says which codes there are, empty where there are none."""
    return f" There are: {list_first(codes, MAX_LISTED)}." if codes else ""


@dataclass(frozen=True)
class CodeTable:
    """Codes of a tenant, with their numbers.

    `windows` are rows, by code and by id. `subjects` and `aspects` that can be judged are by code. `pins` are scheme
    versions by window, school, subject and aspect. `grades` are by scheme version and code; `dated` are the first and
    last day of those that come or go. `rounding` are the decimals to which a scheme version rounds marks.
    """

    windows: dict[str, Any]
    subjects: dict[str, int]
    aspects: dict[str, int]
    pins: dict[tuple[int, UUID, int, int], int]
    grades: dict[tuple[int, str], int]
    dated: dict[tuple[int, str], tuple[date | None, date | None]]
    rounding: dict[int, int]
    listed_windows: tuple[str, ...] = ()
    """Codes of the tenant's windows, the newest first, for a message."""

    def describe_unknown_window(self, code: object, suggestions: Suggestions) -> str:
        """Returns the message for a window that the tenant does not have."""
        if not self.listed_windows:
            return "This tenant has no window."
        meant = suggestions.suggest(code, self.listed_windows) if isinstance(code, str) else ""
        return f"This tenant has no such window.{meant} It has: {list_first(self.listed_windows, MAX_LISTED)}."

    def describe_collected(self, window_no: int, school_id: UUID) -> str:
        """Returns the sentence that says what a window collects from a school."""
        subject_of = {no: code for code, no in self.subjects.items()}
        aspect_of = {no: code for code, no in self.aspects.items()}
        keys = sorted((s, a) for window, school, s, a in self.pins if (window, school) == (window_no, school_id))
        named = [subject_of.get(s, "?") + (f" ({aspect_of.get(a, '?')})" if aspect_of.get(a) != "main" else "") for s, a in keys]
        return f"It collects: {list_first(named, MAX_LISTED)}." if named else "It collects nothing there."

    def find_grade(self, version_no: int, code: str, academic_year: int) -> int | None:
        """Returns the number of a grade that the scheme version has in an academic year, None without one."""
        key = version_no, code
        if key in self.dated and not is_used(*self.dated[key], academic_year):
            return None
        return self.grades.get(key)

    @cached_property
    def _grade_codes(self) -> dict[int, tuple[str, ...]]:
        codes_of: dict[int, list[str]] = {}
        for version, code in self.grades:
            codes_of.setdefault(version, []).append(code)
        return {version: tuple(codes) for version, codes in codes_of.items()}

    def describe_unknown_grade(self, version_no: int, code: str, academic_year: int, suggestions: Suggestions) -> str:
        """Returns the message for a grade that the scheme version does not have in an academic year."""
        all_codes = self._grade_codes.get(version_no, ())
        codes = tuple(c for c in all_codes if self.find_grade(version_no, c, academic_year) is not None)
        in_year = f" in {format_academic_year(academic_year)}" if code in all_codes else ""
        listed = ", ".join(codes) if len(codes) <= 20 else f"{', '.join(codes[:3])} … {', '.join(codes[-3:])}"
        return f"The scheme has no such grade{in_year}.{suggestions.suggest(code, codes)} It has: {listed}."


SUBJECTS_AND_ASPECTS = """
SELECT 'subject' AS kind, code, no FROM subjects WHERE tenant_id = $1 AND NOT derived
UNION ALL SELECT 'aspect', code, no FROM aspects WHERE tenant_id = $1
ORDER BY kind, no
"""
"""The numbers of the subjects that can be judged and of the aspects of tenant $1."""
_WINDOWS = """
SELECT w.id, w.code, w.no, w.academic_year, w.version, p.school_id, p.subject_no, p.aspect_no, p.scheme_version_no
FROM windows w LEFT JOIN pins p ON p.tenant_id = w.tenant_id AND p.window_no = w.no
WHERE w.tenant_id = $1 AND (w.code = ANY ($2) OR w.id = ANY ($3))
"""
_GRADES = """
SELECT v.no AS version_no, v.rounding, g.code, g.no, g.valid_from, g.valid_to
FROM scheme_versions v JOIN grades g ON g.tenant_id = v.tenant_id AND g.scheme_version_no = v.no
WHERE v.tenant_id = $1 AND v.no = ANY ($2) ORDER BY v.no, g.no
"""
_VERSION = "SELECT version, xid::text, clock_timestamp() AS now FROM data_versions WHERE name = 'references'"


def _weight(key: tuple[UUID, frozenset[str]], entry: tuple[object, CodeTable]) -> int:
    codes = entry[1]
    return (
        2000
        + sum(100 + len(name) for name in key[1])
        + 1000 * len(codes.windows)
        + 200 * (len(codes.subjects) + len(codes.aspects))
        + 300 * len(codes.pins)
        + 200 * (len(codes.grades) + len(codes.dated))
    )


code_tables: Lru[tuple[UUID, frozenset[str]], tuple[tuple[int, str], CodeTable]] = Lru(
    "codes of batches", 8_000_000, share=4, weigh=_weight
)
"""By tenant and the windows named, with the version of the references at which each was read."""


async def read_codes(connection: Connection, tenant_id: UUID, window_names: Collection[str]) -> tuple[CodeTable, datetime]:
    """Returns the codes for these windows (each named by code or id), and the database's time.

    The caller's reach of the tenant is not checked here.
    """
    ((version, xid, now),) = await connection.fetch(_VERSION)
    key = tenant_id, frozenset(window_names)
    cached = code_tables.get(key)
    if cached is not None and cached[0] == (version, xid):
        return cached[1], now
    codes = await _read_codes(connection, tenant_id, window_names)
    code_tables.put(key, ((version, xid), codes))
    return codes, now


_LISTED = "SELECT code FROM windows WHERE tenant_id = $1 ORDER BY census_on DESC, no DESC LIMIT $2"


async def name_windows(connection: Connection, tenant_id: UUID, codes: CodeTable) -> CodeTable:
    """Returns the codes with those of the tenant's newest windows, for the message about an unknown one."""
    rows = await connection.fetch(_LISTED, tenant_id, MAX_LISTED + 1)
    return replace(codes, listed_windows=tuple(row["code"] for row in rows))


async def _read_codes(connection: Connection, tenant_id: UUID, window_names: Collection[str]) -> CodeTable:
    codes = await connection.fetch(SUBJECTS_AND_ASPECTS, tenant_id)
    ids = [parsed for name in window_names if (parsed := parse_id(name)) is not None]
    windows: dict[str, Any] = {}
    pins: dict[tuple[int, UUID, int, int], int] = {}
    for row in await connection.fetch(_WINDOWS, tenant_id, list(window_names), ids):
        windows[row["code"]] = windows[str(row["id"])] = row
        if row["school_id"] is not None:
            pins[row["no"], row["school_id"], row["subject_no"], row["aspect_no"]] = row["scheme_version_no"]
    grades = await connection.fetch(_GRADES, tenant_id, list(set(pins.values())))
    return CodeTable(
        windows,
        {row["code"]: row["no"] for row in codes if row["kind"] == "subject"},
        {row["code"]: row["no"] for row in codes if row["kind"] == "aspect"},
        pins,
        {(row["version_no"], row["code"]): row["no"] for row in grades},
        {
            (row["version_no"], row["code"]): (row["valid_from"], row["valid_to"])
            for row in grades
            if row["valid_from"] is not None or row["valid_to"] is not None
        },
        {row["version_no"]: row["rounding"] for row in grades if row["rounding"] is not None},
    )
