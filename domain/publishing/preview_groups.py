"""What an edition would hide and why: its groups of pupils, made of the frozen figures and of what is decided."""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal
from uuid import UUID

import msgspec

from domain.aggregates.edition_figures import EditionFigures
from domain.declare.ids import NIL
from domain.declare.inputs import Output, describe
from domain.publishing.frozen import SPLITS, Frozen
from domain.publishing.messages import DecidedGroup
from domain.publishing.rows import NewRow, list_rows

SMALLEST, LARGEST = 6, 10
"""Groups of so many eligible pupils are named where nobody, or everybody, is at the expected standard."""
MAX_CAUSES = 10

PreviewReason = Literal[
    "few-eligible",
    "few-contributors",
    "side-empty",
    "other-side",
    "within-hidden",
    "nothing-pooled",
    "hidden-before",
    "complement",
]


class PreviewGroup(Output, kw_only=True):
    """A group of pupils of the edition, and whether and why it is hidden."""

    school_urn: Annotated[int | None, describe("The school; null for the trust.")]
    year_group: Annotated[str | None, describe("The year group; null for all of them.")]
    dimension: Annotated[str | None, describe("The characteristic that divides pupils; null for all pupils.")]
    category: Annotated[str | None, describe("The category of it.")]
    hidden: bool
    held_back: Annotated[
        bool,
        describe(
            "It keeps the figures that an earlier edition showed: so few pupils changed that what they changed would be told, or it would"
            " tell such a group."
        ),
    ] = False
    reason: Annotated[
        PreviewReason | None,
        describe(
            "Why it is hidden. By its own figures: few-eligible, few-contributors (marks), side-empty (of two categories one is empty);"
            " other-side: by those of its other category; within-hidden: a larger group that it is part of is hidden;"
            " nothing-pooled: no school's total is shown; hidden-before: an earlier edition hid it, and shown now it would tell what it was;"
            " complement: it would tell another hidden group. Null where it is shown."
        ),
    ]
    complement_of: Annotated[
        list[str], describe(f"Of a complement, up to {MAX_CAUSES} groups beside it that are hidden by their own figures.")
    ]
    schools: Annotated[int, describe("How many schools it pools.")]
    of_schools: Annotated[int, describe("How many schools have pupils there.")]
    not_pooled: Annotated[
        list[int],
        describe("URNs of schools of which the trust's row has no pupils: their own total is hidden, or they collect otherwise."),
    ]
    nobody_expected: Annotated[
        list[str], describe(f"Shown groups of {SMALLEST} to {LARGEST}: subjects in which nobody is at the expected standard.")
    ]
    everybody_expected: Annotated[list[str], describe("The same: subjects in which everybody is who has a mark.")]


class PreviewCount(Output, kw_only=True):
    """How many groups are hidden for a reason."""

    reason: PreviewReason
    groups: int


class PreviewBody(Output, kw_only=True):
    """What is stored of a preview."""

    reasons: list[PreviewCount]
    groups: list[PreviewGroup]


def make_body(frozen: Frozen, decided: list[DecidedGroup]) -> PreviewBody:
    """Returns every group of the edition that would be published."""
    groups = list(_Explainer(frozen, decided).list_groups())
    counts = Counter(group.reason for group in groups if group.reason is not None)
    return PreviewBody(
        reasons=[PreviewCount(reason=reason, groups=number) for reason, number in sorted(counts.items())], groups=groups
    )


class _Explainer:
    """Says of each row of an edition why it is hidden."""

    def __init__(self, frozen: Frozen, decided: list[DecidedGroup]) -> None:
        self._frozen, self._decided = frozen, decided
        self._urns = {UUID(school.id): school.urn for group in frozen.groups for school in group.schools}
        self._found = {
            UUID(school.id): (number, at) for number, group in enumerate(frozen.groups) for at, school in enumerate(group.schools)
        }
        self._found[NIL] = 0, len(frozen.groups[0].schools)
        self._sides = {
            (split.dimension, category): (name, side) for name, split in SPLITS.items() for side, category in enumerate(split.shown)
        } | {("", ""): ("", 0)}

    def list_groups(self) -> Iterator[PreviewGroup]:
        for row in list_rows(self._frozen, self._decided):
            reason = self._find_reason(row) if row.figures is None else None
            schools = self._list_schools(row)
            nobody, everybody = find_extremes(row.figures)
            yield PreviewGroup(
                school_urn=self._urns.get(row.school_id),
                year_group=row.year_group or None,
                dimension=row.dimension or None,
                category=row.category or None,
                hidden=row.figures is None,
                held_back=row.is_held,
                reason=reason,
                complement_of=self._list_causes(row) if reason == "complement" else [],
                schools=len(row.pooled),
                of_schools=len(schools),
                not_pooled=sorted(self._urns[school] for school in schools - {*row.pooled}),
                nobody_expected=nobody,
                everybody_expected=everybody,
            )

    def _find_position(self, row: NewRow) -> tuple[int, int, int]:
        number, at = self._found[row.school_id]
        years = self._frozen.groups[number].years
        return number, at, years.index(row.year_group) if row.year_group else len(years)

    def _list_schools(self, row: NewRow) -> set[UUID]:
        """The schools with pupils in a row."""
        if row.school_id != NIL:
            return {row.school_id}
        found = set()
        for group in self._frozen.groups:
            for school, pupils in zip(group.schools, group.pupils[""], strict=True):
                of_year = dict(zip(group.years, pupils, strict=True))
                if of_year.get(row.year_group, 0) if row.year_group else sum(pupils):
                    found.add(UUID(school.id))
        return found

    def _find_reason(self, row: NewRow) -> PreviewReason:
        number, at, year = self._find_position(row)
        decided = self._decided[number]
        name, side = self._sides[row.dimension, row.category]
        own = decided.reasons[name][at][year]
        if own[side]:
            reason: PreviewReason = msgspec.convert(own[side], PreviewReason)
            return reason
        if any(own):
            return "other-side"
        if name and decided.hidden[SPLITS[name].parent][at][year]:
            return "within-hidden"
        if not row.pooled:
            return "nothing-pooled"
        return "hidden-before" if decided.held else "complement"

    def _list_causes(self, row: NewRow) -> list[str]:
        """The groups beside a complement that their own figures hide: in its split those of its school and of its year, else those of its split,
        else those of its school."""
        number, at, year = self._find_position(row)
        name, _ = self._sides[row.dimension, row.category]
        found = [(split, *cause) for split in self._decided[number].reasons for cause in self._list_primary(number, split)]
        own = [each for each in found if each[0] == name]
        beside = [each for each in own if each[1] == at or each[2] == year]
        causes = beside or own or [each for each in found if each[1] == at]
        return [self._describe(number, *cause) for cause in causes[:MAX_CAUSES]]

    def _list_primary(self, number: int, name: str) -> Iterator[tuple[int, int, int]]:
        """Yields the positions and sides of a split that are hidden by their own figures."""
        decided = self._decided[number]
        for at, of_years in enumerate(decided.reasons[name]):
            for year, sides in enumerate(of_years):
                if decided.hidden[name][at][year]:
                    yield from ((at, year, side) for side, reason in enumerate(sides) if reason)

    def _describe(self, number: int, name: str, at: int, year: int, side: int) -> str:
        group = self._frozen.groups[number]
        where = f"school {group.schools[at].urn}" if at < len(group.schools) else "trust"
        when = f" year {group.years[year]}" if year < len(group.years) else ""
        if not name:
            return f"{where}{when}"
        split = SPLITS[name]
        return f"{where}{when} {split.dimension} {split.shown[side] or ' or '.join(sorted(split.first))}"


def find_extremes(body: bytes | None) -> tuple[list[str], list[str]]:
    """Returns the subjects in which nobody, and in which everybody with a mark, of a small group is at the expected standard."""
    nobody: list[str] = []
    everybody: list[str] = []
    for subject, figures in ({} if body is None else msgspec.json.decode(body, type=dict[str, EditionFigures])).items():
        if SMALLEST <= figures.eligible <= LARGEST and figures.expected is not None:
            if figures.expected == 0:
                nobody.append(subject)
            elif figures.expected >= figures.valid:
                everybody.append(subject)
    return nobody, everybody
