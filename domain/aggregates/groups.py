"""Groups of pupils while an answer is made: empty categories are added, small groups suppressed, schools pooled, and
groups become rows."""

from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, product, starmap
from typing import Any

from msgspec import structs

from domain.aggregates.aggregate_rows import AggregateRow, AverageReason, Status
from domain.aggregates.dimensions import CATEGORIES
from domain.aggregates.disclosure import LISTED, EligibleRow, Reason, suppress
from domain.aggregates.query import ComparedGroups
from domain.aggregates.results import AggregateResult, Categories, DiscountedCounts, GroupFacts, GroupKey, PupilCounts, Tally
from domain.assessment.templates import PARTS_OF
from domain.roster.years import YEARS


@dataclass
class PupilGroup:
    """Pupils with the same key and categories. `hidden` is the reason why their figures are suppressed, if they are."""

    key: GroupKey
    categories: Categories
    facts: GroupFacts
    counts: PupilCounts
    hidden: Reason | None = None
    sides: tuple[PupilCounts, PupilCounts] | None = None
    """The two groups of pupils of which the gap is."""
    earlier: PupilCounts | None = None
    """The same pupils in the earlier window, from which the change is."""
    withheld: frozenset[int] = frozenset()
    """The measures (_MEASURES) that may not be of a part of its pupils alone, since that would tell the size of a hidden school."""
    edition: int | None = None
    """The edition of the window whose figures they are; None where they are live."""

    @property
    def status(self) -> Status | None:
        if self.hidden:
            return "c"
        if not self.counts.eligible:
            return "z"
        return None if self.counts.valid or self.counts.judged else "x"

    def values(self, dimensions: tuple[str, ...]) -> tuple[Hashable, ...]:
        """Returns the group's value of each of these dimensions."""
        school, subject, window, academic_year, year_group, class_id = self.key
        of_key = {
            "school": school,
            "subject": subject,
            "window": (window, academic_year),
            "yearGroup": year_group,
            "class": class_id,
        }
        by_name: Mapping[str, Hashable] = of_key | self.categories._asdict()
        return tuple(by_name[name] for name in dimensions)


def make_groups(result: AggregateResult, tally: Tally, dimensions: tuple[str, ...]) -> list[PupilGroup]:
    """Returns the groups of a tally. Every category of a dimension in LISTED is present, with no pupils if need be."""
    facts, counts = result.pool(tally)
    axes: list[Iterable[str | None]] = []
    for name in Categories._fields:
        always, sometimes = CATEGORIES[name]
        present = {getattr(categories, name) for _, categories in counts}
        is_listed = name in dimensions and name in LISTED
        axes.append((*always, *(category for category in sometimes if category in present)) if is_listed else (None,))
    combinations = list(starmap(Categories, product(*axes)))
    groups = [
        PupilGroup(key, categories, facts_of_key, counts.get((key, categories)) or PupilCounts())
        for key, facts_of_key in facts.items()
        for categories in combinations
    ]
    _describe_combined(groups)
    return groups


def fold_gap(groups: Iterable[PupilGroup], comparison: ComparedGroups) -> list[PupilGroup]:
    """Adds up the categories of a characteristic that rows are not divided by, and keeps the two of which the gap is."""
    folded: dict[tuple[GroupKey, Categories], PupilGroup] = {}
    for group in groups:
        category = getattr(group.categories, comparison.dimension)
        first, second = (group.counts if category == side else PupilCounts() for side in (comparison.group, comparison.against))
        categories = group.categories._replace(**{comparison.dimension: None})
        whole = folded.get((group.key, categories))
        if whole is None:
            folded[group.key, categories] = replace(group, categories=categories, sides=(first, second))
        else:
            whole.counts = whole.counts + group.counts
            one, other = whole.sides or (PupilCounts(), PupilCounts())
            whole.sides = one + first, other + second
    _describe_combined(list(folded.values()))
    return list(folded.values())


def match_earlier(groups: Iterable[PupilGroup], windows: Container[tuple[str | None, str | None]]) -> list[PupilGroup]:
    """Returns the groups of the window that rows are of, each with its counts in the earlier one. `windows` are the codes and academic years of
    the latter."""
    found = list(groups)
    earlier: dict[tuple[GroupKey, Categories], PupilCounts] = {}
    for group in found:
        if group.key[2:4] in windows:
            place = group.key._replace(window=None, academic_year=None), group.categories
            earlier[place] = earlier[place] + group.counts if place in earlier else group.counts
    rows = [group for group in found if group.key[2:4] not in windows]
    for group in rows:
        group.earlier = earlier.get((group.key._replace(window=None, academic_year=None), group.categories), PupilCounts())
    return rows


def _describe_combined(groups: list[PupilGroup]) -> None:
    """A combined subject counts as judged where all its parts are judged: before that, nobody can have reached the
    standard in all. It has a standard where all its parts have one."""
    counts_of = {(group.key, group.categories): group.counts for group in groups}
    for group in groups:
        if group.key.subject in PARTS_OF:
            keys = [(group.key._replace(subject=part), group.categories) for part in PARTS_OF[group.key.subject]]
            parts = [counts_of[key] for key in keys if key in counts_of]
            group.counts.judged = len(parts) == len(keys) and all(part.judged for part in parts)
            group.counts.standards = frozenset(standard for part in parts for standard in part.standards)


_MEASURES = (("expected_of", "expected", "eligible"), ("higher_of", "higher", "eligible"), ("valued", "hundredths", "valid"))
"""Of the expected standard, the higher one and the average: whose figure it is, the figure, and of whom they are a part."""
_AVERAGE = 2


def _is_told(group: PupilGroup, index: int) -> bool:
    """Whether a group has a figure of a measure: of all, or of a part of them where that gives nothing away."""
    of, _, whole = _MEASURES[index]
    part = getattr(group.counts, of)
    return bool(part) and (part == getattr(group.counts, whole) or index not in group.withheld)


def _find_status(group: PupilGroup, index: int) -> Status | None:
    """Returns why a group has no figures of the expected (0) or the higher (1) standard, None where it has them.

    Where only some of the schools' schemes have the standard, the figures are of those alone.
    """
    counts = group.counts
    if (counts.expected_of, counts.higher_of)[index] == counts.eligible or _is_told(group, index):
        return None
    found = {standard[index] for standard in counts.standards}
    return "z" if found == {"z"} else "x"


def _divides(dimensions: tuple[str, ...]) -> bool:
    return any(name not in ("school", "subject", "window") for name in dimensions)


def leave_out_few(groups: Iterable[PupilGroup], of_schools: Iterable[PupilGroup], dimensions: tuple[str, ...]) -> None:
    """Takes out of percentages and averages the pupils of a school who are too few to be told of: those with a place, or a number, where most
    of the school have none, such as one who came from a school of another scheme. Their figure would be that of a child, and the sum of all schools
    less those of the others would tell it. `dimensions` are those of the groups.
    """
    taken: defaultdict[tuple[Hashable, ...], list[tuple[int, int, int]]] = defaultdict(list)
    for school in of_schools:
        counts = school.counts
        for index, (of, figure, whole) in enumerate(_MEASURES):
            part = getattr(counts, of)
            if not school.facts.internal and 0 < part < school.facts.threshold and part < getattr(counts, whole):
                taken[school.key[1:4]].append((index, part, getattr(counts, figure)))
                setattr(counts, of, 0)
                setattr(counts, figure, 0)
    for group in groups:
        if group.key.school is None and not group.facts.internal and not _divides(dimensions):
            for index, part, amount in taken[group.key[1:4]]:
                of, figure, _ = _MEASURES[index]
                setattr(group.counts, of, getattr(group.counts, of) - part)
                setattr(group.counts, figure, getattr(group.counts, figure) - amount)


def withhold_parts(groups: Iterable[PupilGroup], of_schools: Iterable[PupilGroup], dimensions: tuple[str, ...]) -> None:
    """Decides which groups may not have figures of a part of them alone: of the schools whose schemes have a standard, or of the values that are numbers.

    The number of these pupils, and so that of the others, is told by such a figure. A reader who does not see every
    school may subtract the shown ones, and is left with the hidden schools on each side: their sum is protected as any small
    group is. Where the pupils are divided further, the hidden groups of schools are those of another answer, so nothing is told.
    """
    divides = _divides(dimensions)
    sums: defaultdict[tuple[Any, ...], int] = defaultdict(int)
    thresholds: defaultdict[Hashable, int] = defaultdict(int)
    for school in of_schools:
        if school.hidden and not school.facts.internal:
            population = school.facts.population
            thresholds[population] = max(thresholds[population], school.facts.threshold)
            for index, (of, _, whole) in enumerate(_MEASURES):
                part = getattr(school.counts, of)
                sums[population, *school.key[1:4], index, True] += part
                sums[population, *school.key[1:4], index, False] += getattr(school.counts, whole) - part
    unsafe: defaultdict[tuple[Hashable, ...], set[int]] = defaultdict(set)
    for (population, *key, index, _), pupils in sums.items():
        if 0 < pupils < thresholds[population]:
            unsafe[*key].add(index)
    every = frozenset(range(len(_MEASURES)))
    for group in groups:
        if not group.facts.internal:
            of_pooled = unsafe[group.key[1:4]] if group.key.school is None else ()
            group.withheld = every if divides else frozenset(of_pooled)


def suppress_groups(groups: list[PupilGroup], dimensions: tuple[str, ...]) -> None:
    """Suppresses groups in each population. A group that the caller reaches with aggregates:internal is not suppressed
    and protects no other."""
    populations: defaultdict[str | None, list[PupilGroup]] = defaultdict(list)
    for group in groups:
        if not group.facts.internal:
            populations[group.facts.population].append(group)
    for population in populations.values():
        rows = [EligibleRow(group.values(dimensions), group.counts.guarded) for group in population]
        threshold = max(group.facts.threshold for group in population)
        for group, reason in zip(population, suppress(rows, dimensions, threshold), strict=True):
            group.hidden = reason


def pool_schools(groups: list[PupilGroup]) -> list[PupilGroup]:
    """Adds up the schools' groups. A suppressed group suppresses the sum, from which it could be calculated."""
    pooled: dict[tuple[GroupKey, Categories], PupilGroup] = {}
    for group in groups:
        key = group.key._replace(school=None)
        whole = pooled.get((key, group.categories))
        if whole is None:
            pooled[key, group.categories] = replace(group, key=key, facts=structs.replace(group.facts, urn=None, name=None))
        else:
            whole.facts, whole.counts = whole.facts + group.facts, whole.counts + group.counts
            whole.hidden = "complement" if whole.hidden or group.hidden else None
            if whole.sides and group.sides:
                whole.sides = whole.sides[0] + group.sides[0], whole.sides[1] + group.sides[1]
            if whole.earlier and group.earlier:
                whole.earlier = whole.earlier + group.earlier
    return list(pooled.values())


def make_sort_key(groups: list[PupilGroup], dimensions: tuple[str, ...]) -> Callable[[PupilGroup], tuple[str, ...]]:
    """Returns a function that gives a group's position as texts, which a cursor can carry.

    Schools are ordered by URN, subjects by their number in the tenant, windows by census date, year groups by age.
    """
    numbers: dict[str, int] = {}
    dates: dict[tuple[str | None, str | None], str] = {}
    for key, facts in ((group.key, group.facts) for group in groups):
        window = key.window, key.academic_year
        numbers[key.subject] = min(facts.order, numbers.get(key.subject, facts.order))
        dates[window] = min(facts.census_on, dates.get(window, facts.census_on))

    def position(group: PupilGroup, dimension: str) -> tuple[str, ...]:
        key = group.key
        match dimension:
            case "school":
                return (f"{group.facts.urn:06}",)
            case "subject":
                return f"{numbers[key.subject]:05}", key.subject
            case "window":
                return dates[key.window, key.academic_year], key.window or "", key.academic_year or ""
            case "yearGroup":
                return (f"{YEARS.index(key.year_group or ''):02}",)
            case "class":  # who is in none comes last
                return ("1" if key.class_id is None else "0", group.facts.class_code or "", key.class_id or "")
        always, sometimes = CATEGORIES[dimension]
        return (str((always + sometimes).index(getattr(group.categories, dimension))),)

    return lambda group: tuple(chain.from_iterable(position(group, dimension) for dimension in dimensions))


def make_row(group: PupilGroup, *, with_reason: bool) -> AggregateRow:
    """Returns the group as a row, without figures where it is suppressed."""
    key, facts, counts = group.key, group.facts, group.counts
    row = AggregateRow(
        school_id=key.school,
        school_urn=facts.urn,
        school_name=facts.name,
        subject=key.subject,
        window=key.window,
        academic_year=key.academic_year,
        year_group=key.year_group,
        class_id=key.class_id,
        class_code=facts.class_code,
        schools=facts.schools,
        windows=facts.windows,
        **group.categories._asdict(),
    )
    row.status = row.expected_status = row.higher_status = group.status
    if group.hidden:
        row.reason = group.hidden if with_reason else None
        return row
    row.edition = group.edition
    row.eligible, row.valid = counts.eligible, counts.valid
    if counts.eligible:
        row.coverage_percent = compute_percent(counts.valid, counts.eligible)
    if row.status is None:
        row.expected_status, row.higher_status = _find_status(group, 0), _find_status(group, 1)
        if row.expected_status is None:
            row.expected, row.expected_of = counts.expected, counts.expected_of
            row.expected_percent = compute_percent(counts.expected, counts.expected_of)
        if row.higher_status is None:
            row.higher, row.higher_of = counts.higher, counts.higher_of
            row.higher_percent = compute_percent(counts.higher, counts.higher_of)
        if len(counts.schemes) <= 1 and _is_told(group, _AVERAGE):
            row.average, row.average_of = compute_average(counts.hundredths, counts.valued), counts.valued
        else:
            row.average_reason = _find_average_reason(group)
    if counts.discounted and counts.discounted.eligible and facts.internal:
        _set_figures_with_discounted(row, counts, counts.discounted)
    return row


def _find_average_reason(group: PupilGroup) -> AverageReason:
    """Returns why a group has no average. What a reader with aggregates:read is not told might be that few marks are numbers, which says whose."""
    if not group.counts.valid:
        return "no-marks"
    if not group.facts.internal:
        return "not-told"
    return "several-schemes" if group.counts.valued else "not-numeric"


def _set_figures_with_discounted(row: AggregateRow, counts: PupilCounts, discounted: DiscountedCounts) -> None:
    eligible, valid = counts.eligible + discounted.eligible, counts.valid + discounted.valid
    row.discounted, row.eligible_with_discounted, row.valid_with_discounted = discounted.eligible, eligible, valid
    if valid or counts.judged:
        if expected_of := counts.expected_of + discounted.expected_of:
            row.expected_with_discounted = counts.expected + discounted.expected
            row.expected_percent_with_discounted = compute_percent(row.expected_with_discounted, expected_of)
        if higher_of := counts.higher_of + discounted.higher_of:
            row.higher_with_discounted = counts.higher + discounted.higher
            row.higher_percent_with_discounted = compute_percent(row.higher_with_discounted, higher_of)
        if (valued := counts.valued + discounted.valued) and len(counts.schemes) <= 1:
            row.average_with_discounted = compute_average(counts.hundredths + discounted.hundredths, valued)


def compute_percent(number: int, of: int) -> int:
    """Returns a whole percentage, rounded half up."""
    return (200 * number + of) // (2 * of)


def compute_average(hundredths: int, of: int) -> float:
    """Returns the mean of values whose sum is in hundredths, to one decimal place, rounded half up."""
    return (hundredths + 5 * of) // (10 * of) / 10
