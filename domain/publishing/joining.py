"""Joins what is decided of parts of a group of schools. A row of the trust adds up the parts that show theirs."""

from collections.abc import Sequence

import numpy as np

from domain.protection.figures import Mask
from domain.publishing.earlier import PartScope
from domain.publishing.frozen import FrozenGroup
from domain.publishing.messages import DecidedGroup, EarlierEdition, Rows, ShownPart


class Joiner:
    """The parts of a group, each with its schools and what is decided. `in_trust`: the trust's rows are of this group."""

    def __init__(
        self,
        group: FrozenGroup,
        scopes: Sequence[PartScope],
        decided: Sequence[DecidedGroup],
        earlier: Sequence[EarlierEdition],
        *,
        in_trust: bool,
    ) -> None:
        self._group, self._scopes, self._decided, self._in_trust = group, scopes, decided, in_trust
        self._latest = earlier[-1].parts if earlier else []
        self._ids = [school.id for school in group.schools]
        pupils = np.array(group.pupils[""], np.int64)
        self._there = pupils > 0
        for edition in earlier:
            for part in edition.parts:
                self._add_there(part)

    def _add_there(self, part: ShownPart) -> None:
        """A year of which a school had rows has them still: that nobody is there any more is not told of a few."""
        for school, of_school in zip(part.schools, part.there, strict=True):
            for year, is_there in zip(part.years, of_school, strict=True):
                if is_there and school in self._ids and year in self._group.years:
                    self._there[self._ids.index(school), self._group.years.index(year)] = True

    @property
    def _there_with_sums(self) -> Mask:
        with_all = np.concatenate([self._there, self._there.any(1, keepdims=True)], axis=1)
        return np.concatenate([with_all, with_all.any(0, keepdims=True)])

    def join(self) -> DecidedGroup:
        names = list(self._group.figures)
        shape = len(self._ids) + 1, len(self._group.years) + 1
        rows = {what: {name: np.zeros(shape, np.bool_) for name in names} for what in ("hidden", "held", "releasable")}
        pooled = {name: np.zeros((shape[0] - 1, shape[1]), np.bool_) for name in names}
        for name in names:
            for scope, decided in zip(self._scopes, self._decided, strict=True):
                chosen = list(scope.schools)
                rows["hidden"][name][chosen] = np.array(decided.hidden[name], np.bool_)[:-1]
                if decided.held:
                    rows["held"][name][chosen] = np.array(decided.held[name], np.bool_)[:-1]
                    rows["releasable"][name][chosen] = np.array(decided.releasable[name], np.bool_)[:-1]
            for year in range(shape[1]):
                self._join_sum(name, year, {what: of[name] for what, of in rows.items()}, pooled[name])
        found = {what: {name: mask.tolist() for name, mask in of.items()} for what, of in rows.items()}
        has_earlier = bool(self._latest)
        return DecidedGroup(
            hidden=found["hidden"],
            pooled={name: mask.tolist() for name, mask in pooled.items()},
            held=found["held"] if has_earlier else {},
            releasable=found["releasable"] if has_earlier else {},
            there=self._there.tolist(),
        )

    def _join_sum(self, name: str, year: int, rows: dict[str, Mask], pooled: Mask) -> None:
        """Decides a row of the trust: it is of the parts that show theirs, and is held where one that it was of is not shown anew."""
        was_shown = has_hidden = is_held = False
        can_release = True
        for scope, decided in zip(self._scopes, self._decided, strict=True):
            is_hidden = decided.hidden[name][-1][year]
            holds = bool(decided.held) and decided.held[name][-1][year]
            was_pooled = self._was_pooled(scope, name, year)
            has_hidden |= is_hidden
            was_shown |= was_pooled
            if holds and was_pooled:
                is_held = True
                can_release &= decided.releasable[name][-1][year]
            if not is_hidden and (was_pooled or not holds):
                for at, of_part in zip(scope.schools, decided.pooled[name], strict=True):
                    pooled[at, year] = of_part[year]
        if self._has_lost_part(name, year):
            is_held, can_release, was_shown = True, False, True
        is_pooled = bool((pooled[:, year] & self._there_with_sums[:-1, year]).any())
        if not is_pooled and len(self._scopes) == 1:
            pooled[:, year] = np.array(self._decided[0].pooled[name], np.bool_)[:, year]
        rows["held"][-1, year] = is_held
        rows["releasable"][-1, year] = is_held and can_release
        rows["hidden"][-1, year] = not was_shown and has_hidden and not is_pooled

    def _was_pooled(self, scope: PartScope, name: str, year: int) -> bool:
        """Whether the trust's row has shown the sum of a part."""
        part = scope.latest
        return part is not None and part.in_trust and self._was_shown(part, name, year)

    def _was_shown(self, part: ShownPart, name: str, year: int) -> bool:
        of_year = self._group.years[year] if year < len(self._group.years) else ""
        years = [*part.years, ""]
        if name not in part.shown or of_year not in years:
            return False
        at = years.index(of_year)
        there = any(row[at] for row in part.there) if of_year else True
        return there and part.shown[name][-1][at]

    def _has_lost_part(self, name: str, year: int) -> bool:
        """Whether the trust's row was of a part whose schools are no longer all of this group."""
        if not self._in_trust:
            return False
        whole = [
            scope.latest for scope in self._scopes if scope.latest is not None and len(scope.schools) == len(scope.latest.schools)
        ]
        lost = [part for part in self._latest if part.in_trust and not any(part is each for each in whole)]
        return any(self._was_shown(part, name, year) for part in lost)

    def list_shown(self) -> list[ShownPart]:
        """What is shown of each part after this edition."""
        return [self._describe_part(scope, decided) for scope, decided in zip(self._scopes, self._decided, strict=True)]

    def _describe_part(self, scope: PartScope, decided: DecidedGroup) -> ShownPart:
        shown: dict[str, Rows] = {}
        fresh: dict[str, Rows] = {}
        released: dict[str, Rows] = {}
        for name, rows in decided.hidden.items():
            hidden = np.array(rows, np.bool_)
            held = np.array(decided.held[name], np.bool_) if decided.held else np.zeros_like(hidden)
            releasable = np.array(decided.releasable[name], np.bool_) if decided.held else held
            shown[name], fresh[name] = (~hidden).tolist(), (~hidden & ~held).tolist()
            released[name] = (~hidden & (~held | releasable)).tolist()
        pooled = next(iter(decided.pooled.values()))
        schools = [self._ids[at] for at in scope.schools]
        there = self._there[list(scope.schools)].tolist()
        return ShownPart(schools, self._group.years, self._in_trust, there, pooled, shown, fresh, released)
