"""What earlier editions of the same pupils leave to a later one to decide, for schools that are protected together.

A row that an edition hid stays hidden: shown later, it would tell what it was. Any other is shown anew unless few pupils changed in it since one
of the editions that showed it; then it keeps the figures that were shown last. How many changed is counted by subject: whoever joined,
left, or has another mark there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from domain.protection.figures import Integers, Mask
from domain.protection.rules import Level
from domain.protection.settled import Settled
from domain.protection.tables import TOTAL, Population, Side
from domain.publishing.frozen import SPLITS, Frozen, FrozenGroup
from domain.publishing.messages import EarlierEdition, Rows, ShownPart


@dataclass(frozen=True)
class PartScope:
    """Schools of a group that are protected together, by index. `latest` is what was last shown of them; None where nothing was."""

    schools: tuple[int, ...]
    latest: ShownPart | None = None


def list_scopes(group: FrozenGroup, earlier: Sequence[EarlierEdition]) -> tuple[list[PartScope], list[int]]:
    """Returns the schools that earlier editions protected together, and those that no edition has."""
    left, scopes = list(range(len(group.schools))), []
    for edition in reversed(earlier):
        for part in edition.parts:
            of_part = {*part.schools}
            if mine := [at for at in left if group.schools[at].id in of_part]:
                scopes.append(PartScope(tuple(mine), part))
                left = [at for at in left if at not in mine]
    return scopes, left


class History:
    """What was shown of the schools of a scope, on the axes of their tables."""

    def __init__(self, group: FrozenGroup, scope: PartScope, earlier: Sequence[EarlierEdition], level: Level) -> None:
        self._group, self._scope, self._earlier, self._level = group, scope, earlier, level
        self._ids = [group.schools[at].id for at in scope.schools]
        self._shape = len(self._ids) + 1, len(group.years) + 1

    @property
    def is_whole(self) -> bool:
        """Whether these are all the schools that were protected together, so that their sum is of the same schools."""
        return self._is_same(self._scope.latest)

    def _is_same(self, part: ShownPart | None) -> bool:
        return part is not None and {*part.schools} == {*self._ids}

    @cached_property
    def pooled(self) -> Mask:
        """The schools that the sums add up, [school, year + 1]. A year that is new is of all schools."""
        part = self._scope.latest
        assert part is not None
        pooled = np.ones((len(self._ids), self._shape[1]), np.bool_)
        for at, year, was_at, was_year in self._match(part):
            pooled[at, year] = part.pooled[was_at][was_year]
        return pooled

    def _match(self, part: ShownPart) -> Iterable[tuple[int, int, int, int]]:
        """Yields each position of a school, and the same of a part."""
        schools = {school: at for at, school in enumerate(part.schools)}
        years = {year: at for at, year in enumerate(part.years)} | {"": len(part.years)}
        for at, school in enumerate(self._ids):
            for year, name in enumerate([*self._group.years, ""]):
                if school in schools and name in years:
                    yield at, year, schools[school], years[name]

    def _place(self, part: ShownPart, rows: Rows) -> Mask:
        """Returns rows of a part at their positions here; of the sum where it is of the same schools."""
        mask = np.zeros(self._shape, np.bool_)
        for at, year, was_at, was_year in self._match(part):
            mask[at, year] = rows[was_at][was_year]
        if self._is_same(part):
            years = {year: at for at, year in enumerate(part.years)} | {"": len(part.years)}
            for year, name in enumerate([*self._group.years, ""]):
                mask[-1, year] = name in years and rows[-1][years[name]]
        return mask

    def _place_there(self, part: ShownPart) -> Mask:
        there = np.array(part.there, np.bool_)
        with_all = np.concatenate([there, there.any(1, keepdims=True)], axis=1)
        return self._place(part, np.concatenate([with_all, with_all.any(0, keepdims=True)]).tolist())

    @cached_property
    def there(self) -> Mask:
        """The rows that an edition had, [school + 1, year + 1]."""
        return np.asarray(np.any([self._place_there(part) for edition in self._earlier for part in edition.parts], axis=0))

    @cached_property
    def shown(self) -> dict[str, Mask]:
        """The rows that an edition has shown."""
        found = {name: np.zeros(self._shape, np.bool_) for name in self._group.figures}
        for edition in self._earlier:
            for part in edition.parts:
                for name in found.keys() & part.shown:
                    found[name] |= self._place(part, part.shown[name]) & self._place_there(part)
        return found

    @cached_property
    def hidden(self) -> dict[str, Mask]:
        """The rows that an edition had and none has shown."""
        had = {name: np.zeros(self._shape, np.bool_) for name in self._group.figures}
        for edition in self._earlier:
            for part in edition.parts:
                for name in had.keys() & part.shown:
                    had[name] |= self._place_there(part)
        if not self.is_whole:
            for mask in had.values():
                mask[-1] = True
        return {name: mask & ~self.shown[name] for name, mask in had.items()}

    # What changed

    @cached_property
    def changed(self) -> dict[Population, Mask]:
        """The populations of which few pupils changed since an edition that showed them."""
        found: dict[Population, Mask] = {}
        for edition in self._earlier:
            now, before = (self._count(frozen) for frozen in (None, edition.frozen))
            marks = self._find_changed_marks(edition.frozen)
            for name, side in now:
                mask = self._find_few(now[name, side], before[name, side], None if name else marks)
                fresh = np.zeros(self._shape, np.bool_)
                for part in edition.parts:
                    if name in part.fresh:
                        fresh |= self._place(part, part.fresh[name]) & self._place_there(part)
                population = Population(name or TOTAL, side)
                found[population] = found.get(population, np.zeros(self._shape, np.bool_)) | (mask & fresh)
        return found

    def _count(self, frozen: Frozen | None) -> dict[tuple[str, Side], Integers]:
        """Returns pupils by what they have in each subject, [school + 1, year + 1, subject, kind], of each side of each split: of these schools
        now, or in an edition. The first of the subjects is none: it has how many pupils there are."""
        firsts = {name: self._count_first(name, frozen) for name in self._group.figures}
        counted: dict[tuple[str, Side], Integers] = {("", "first"): firsts[""]}
        for name, first in firsts.items():
            if name:
                counted[name, "first"], counted[name, "rest"] = first, firsts[SPLITS[name].parent] - first
        return {key: self._add_sums(figures) for key, figures in counted.items()}

    def _count_first(self, name: str, frozen: Frozen | None) -> Integers:
        subjects = self._group.subjects
        figures = np.zeros((len(self._ids), len(self._group.years), 1 + len(subjects), 4), np.int64)
        for group in [self._group] if frozen is None else frozen.groups:
            if name not in group.figures:
                continue
            for was_at, school in enumerate(group.schools):
                if school.id not in self._ids:
                    continue
                for was_year, year in enumerate(group.years):
                    if year in self._group.years:
                        cell = figures[self._ids.index(school.id), self._group.years.index(year)]
                        cell[0, 0] = group.pupils[name][was_at][was_year]
                        for number, subject in enumerate(group.subjects):
                            if subject in subjects:
                                cell[1 + subjects.index(subject)] = group.figures[name][was_at][was_year][number]
        figures[..., :-1] -= figures[..., 1:]
        return figures

    def _add_sums(self, figures: Integers) -> Integers:
        schools, years = figures.shape[:2]
        summed = np.zeros((schools + 1, years + 1, *figures.shape[2:]), np.int64)
        summed[:schools, :years], summed[:schools, years] = figures, figures.sum(1)
        summed[schools] = (summed[:schools] * self.pooled[..., None, None]).sum(0)
        return summed

    def _find_few(self, now: Integers, before: Integers, marks: Mask | None) -> Mask:
        """Whether so few pupils explain what differs in a subject that what they changed is unsafe. `marks`: where an average differs too."""
        difference = now - before
        fewest = np.maximum(np.maximum(difference, 0).sum(-1), np.maximum(-difference, 0).sum(-1))
        if marks is not None:
            fewest = np.maximum(fewest, marks)
        return np.asarray(((fewest > 0) & (fewest < self._level.attainment_from)).any(-1))

    def _find_changed_marks(self, frozen: Frozen) -> Mask:
        """Where an average tells of another mark, [school + 1, year + 1, subject]: it is of all pupils of a school, or of the sum."""
        before = {school.id: school.marks for group in frozen.groups for school in group.schools}
        changed = np.zeros((*self._shape, 1 + len(self._group.subjects)), np.bool_)
        for at, of_group in enumerate(self._scope.schools):
            marks, was = self._group.schools[of_group].marks, before.get(self._ids[at], {})
            for number, subject in enumerate(self._group.subjects):
                changed[at, -1, 1 + number] = marks.get(subject) != was.get(subject)
        changed[-1, -1] = changed[:-1, -1].any(0)
        return changed

    def settle(self, closed: Mapping[str, Mask], *, with_changes: bool) -> Settled:
        """Returns what is settled, where some rows are closed; by changes too, or as if nothing had changed."""
        none = np.zeros(self._shape, np.bool_)
        populations = [
            Population(name or TOTAL, side) for name in self._group.figures for side in (("first", "rest") if name else ("first",))
        ]
        changed = {each: self.changed.get(each, none) if with_changes else none for each in populations}
        return Settled(self.pooled, closed, changed)
