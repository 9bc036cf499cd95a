"""The rows of an edition, made of its frozen figures and of what is decided."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from uuid import UUID

import msgspec

from domain.aggregates.edition_figures import EditionFigures
from domain.declare.ids import NIL
from domain.publishing.frozen import SPLITS, Frozen, FrozenGroup
from domain.publishing.messages import DecidedGroup

_Counts = list[list[int]]


@dataclass(frozen=True)
class NewRow:
    """A group of pupils of an edition. `school_id` is NIL for the trust; `figures` is None where they are hidden.

    `is_held`: the row keeps the figures last shown in place of these, which are shown only when they are released, if `is_releasable`.
    """

    school_id: UUID
    year_group: str
    dimension: str
    category: str
    pooled: list[UUID]
    figures: bytes | None
    is_held: bool = False
    is_releasable: bool = False


def write_array(ids: list[UUID]) -> str:
    """An array as PostgreSQL writes one: unnest has no arrays of arrays."""
    return "{" + ",".join(map(str, ids)) + "}"


def list_rows(frozen: Frozen, decided: list[DecidedGroup]) -> Iterator[NewRow]:
    """Yields the rows of every school, and of the trust as far as the schools of the main group are pooled."""
    for number, (group, decision) in enumerate(zip(frozen.groups, decided, strict=True)):
        writer = _GroupWriter(group, decision)
        for at in range(len(group.schools)):
            yield from writer.list_rows_of_school(at)
        if number == 0:
            yield from writer.list_rows_of_trust()


class _GroupWriter:
    """Writes the rows of a group of schools."""

    def __init__(self, group: FrozenGroup, decided: DecidedGroup) -> None:
        self._group, self._decided = group, decided
        self._ids = [UUID(school.id) for school in group.schools]
        self._years = range(len(group.years))

    def _sum(self, name: str, schools: list[int], year: int) -> _Counts:
        """Adds up the first side of a split. The year after the last is all of them."""
        of_years = self._years if year == len(self._years) else [year]
        total = [[0] * 4 for _ in self._group.subjects]
        for school in schools:
            for each in of_years:
                for row, counts in zip(total, self._group.figures[name][school][each], strict=True):
                    row[:] = [one + more for one, more in zip(row, counts, strict=True)]
        return total

    def _has_pupils(self, schools: list[int], year: int) -> bool:
        """Whether there are any, or an earlier edition had a row of them."""
        of_years = self._years if year == len(self._years) else [year]
        there = self._decided.there or self._group.pupils[""]
        return any(there[school][each] for school in schools for each in of_years)

    def list_rows_of_school(self, at: int) -> Iterator[NewRow]:
        for year in range(len(self._years) + 1):
            if self._has_pupils([at], year):  # which years a school has is no secret
                yield from self._list_sides(self._ids[at], [at], at, year)

    def list_rows_of_trust(self) -> Iterator[NewRow]:
        schools = range(len(self._ids))
        for year in range(len(self._years) + 1):
            if self._has_pupils(list(schools), year):
                yield from self._list_sides(NIL, None, len(self._ids), year)

    def _list_sides(self, school_id: UUID, schools: list[int] | None, position: int, year: int) -> Iterator[NewRow]:
        """Yields all pupils at a position and both sides of each split. `schools` is None where the decision says which are pooled."""
        year_group = "" if year == len(self._years) else self._group.years[year]
        for name in self._group.figures:
            pooled = schools
            if pooled is None:
                found = self._decided.pooled[name]
                pooled = [each for each in range(len(self._ids)) if found[each][year] and self._has_pupils([each], year)]
            is_held = bool(self._decided.held) and self._decided.held[name][position][year]
            is_releasable = is_held and self._decided.releasable[name][position][year]
            is_hidden = not is_held and (self._decided.hidden[name][position][year] or not pooled)
            first = self._sum(name, pooled, year)
            ids = [self._ids[each] for each in pooled]
            if not name:
                row = self._make(school_id, year_group, "", "", ids, pooled, first, is_hidden)
                yield replace(row, is_held=is_held, is_releasable=is_releasable)
                continue
            split = SPLITS[name]
            whole = self._sum(split.parent, pooled, year)
            rest = [[one - less for one, less in zip(row, part, strict=True)] for row, part in zip(whole, first, strict=True)]
            for category, counts in zip(split.shown, (first, rest), strict=True):
                if category is not None:
                    row = self._make(school_id, year_group, split.dimension, category, ids, pooled, counts, is_hidden)
                    yield replace(row, is_held=is_held, is_releasable=is_releasable)

    def _make(
        self,
        school_id: UUID,
        year_group: str,
        dimension: str,
        category: str,
        ids: list[UUID],
        pooled: list[int],
        counts: _Counts,
        is_hidden: bool,
    ) -> NewRow:
        figures = {}
        for subject, placed, row in zip(self._group.subjects, self._group.placed, counts, strict=True):
            marks = self._find_marks(subject, pooled, row[1]) if not year_group and not dimension else None
            figures[subject] = EditionFigures(row[0], row[1], row[2] if placed[0] else None, row[3] if placed[1] else None, marks)
        body = None if is_hidden else msgspec.json.encode(figures)
        return NewRow(school_id, year_group, dimension, category, ids, body)

    def _find_marks(self, subject: str, pooled: list[int], valid: int) -> int | None:
        """The sum of marks of all pupils of schools whose totals are shown, so that it tells of nobody else: None where some have no mark."""
        found = [marks for each in pooled if (marks := self._group.schools[each].marks.get(subject)) is not None]
        if len({scheme for *_, scheme in found}) != 1 or sum(number for _, number, _ in found) != valid:
            return None
        return sum(hundredths for hundredths, *_ in found)
