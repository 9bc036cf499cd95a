"""The frozen figures of a window: what an edition is made of, in plain numbers, for the process that protects them too.

Schools are protected in groups of those that collect the same subjects in schemes with the same standards, since a sum over others would tell
how many pupils these have. The trust's rows pool schools of the main group alone.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from domain.aggregates.results import AggregateResult, Categories, GroupKey, PupilCounts
from domain.assessment.templates import PARTS_OF
from domain.roster.years import YEARS

MAX_SUBJECTS = 5
"""Subjects of an edition: how many kinds of pupil there are grows by four with each."""


class Division(NamedTuple):
    """A characteristic that divides pupils in two: what it divides, and the categories whose pupils are its first side."""

    parent: str
    dimension: str
    first: frozenset[str]
    shown: tuple[str | None, str | None]
    """The categories as which its sides are shown; None of a side that is shown by its own parts alone."""


SPLITS = {
    "sex": Division("", "sex", frozenset("F"), ("F", "M")),
    "disadvantaged": Division("", "disadvantaged", frozenset({"true"}), ("true", "false")),
    "eal": Division("", "eal", frozenset("2"), ("2", "1")),
    "sen": Division("", "sen", frozenset("KESAP"), (None, "N")),
    "sen.E": Division("sen", "sen", frozenset("E"), ("E", "K")),
}
"""What is not known of a pupil belongs to the second side, always: a recoding that depends on no data."""


class FrozenSchool(Struct):
    """A school, and the sums of its marks in hundredths by subject, with how many marks these are and their scheme, where all are of one."""

    id: str
    urn: int
    name: str
    marks: dict[str, tuple[int, int, str]]


class FrozenGroup(Struct):
    """Schools that are protected together. `figures` are eligible, valid, expected and higher of each subject, by split, of its first side
    (of all pupils under the empty name), [school][year][subject]; `pupils` how many pupils there are at least, [school][year].

    `combined` are the subjects that the last of `subjects` is the conjunction of; empty where there is none. `placed` says of each subject
    whether the schools' schemes have an expected and a higher standard. `has_excused`: somebody is not eligible in a subject.
    """

    subjects: list[str]
    combined: list[str]
    placed: list[tuple[bool, bool]]
    has_excused: bool
    schools: list[FrozenSchool]
    years: list[str]
    figures: dict[str, list[list[list[list[int]]]]]
    pupils: dict[str, list[list[int]]]


class Frozen(Struct):
    """A window's figures. The first group is the main one, whose schools the trust's rows pool."""

    groups: list[FrozenGroup]
    subjects: list[str]
    left_out: list[str]


class NothingToPublish(Exception):
    """Nobody is eligible in any subject."""


_Cell = dict[str, PupilCounts]
_Signature = tuple[tuple[str, bool, bool], ...]


def freeze(result: AggregateResult) -> Frozen:
    """Returns the figures of a window from its cells by school, year group and all characteristics at once. Raises NothingToPublish."""
    facts, counts = result.pool(result.groups)
    subjects = choose_subjects({key.subject for key in facts})
    cells: defaultdict[str, dict[tuple[str, Categories], _Cell]] = defaultdict(lambda: defaultdict(dict))
    for (key, categories), counted in counts.items():
        if key.subject in subjects and counted.eligible:
            cells[key.school or ""][key.year_group or "", categories][key.subject] = counted
    by_signature: defaultdict[_Signature, list[str]] = defaultdict(list)
    for school_id, of_school in cells.items():
        by_signature[_find_signature(subjects, of_school.values())].append(school_id)
    if not by_signature:
        raise NothingToPublish
    urns = {key.school: (facts_of.urn or 0, facts_of.name or "") for key, facts_of in facts.items()}
    recorded = {name for name in Categories._fields if _is_known(name, counts)}
    groups = [
        _make_group(signature, sorted(schools, key=lambda school: urns[school]), cells, urns, recorded)
        for signature, schools in by_signature.items()
    ]
    groups.sort(key=lambda group: (-sum(map(sum, group.pupils[""])), group.schools[0].urn))
    left_out = sorted({key.subject for key in facts} - {*subjects})
    return Frozen(groups, subjects, left_out)


def choose_subjects(codes: Iterable[str]) -> list[str]:
    """Returns the subjects of an edition: a conjunction and its parts, if they are collected, and more subjects as far as there is room. The
    conjunction is the last one."""
    found = set(codes)
    derived = sorted(code for code, parts in PARTS_OF.items() if code in found and found.issuperset(parts))
    parts = list(PARTS_OF[derived[0]]) if derived else []
    others = sorted(found - {*parts, *PARTS_OF})
    return [*parts, *others[: MAX_SUBJECTS - len(parts)], *derived[:1]]


def _is_known(dimension: str, counts: Iterable[tuple[GroupKey, Categories]]) -> bool:
    """Whether a characteristic is recorded of anybody. Where it is not, no figure is of a side of it."""
    return any(getattr(categories, dimension) != "unknown" for _, categories in counts)


def _find_signature(subjects: list[str], cells: Iterable[_Cell]) -> _Signature:
    """Returns the subjects in which anybody of a school is eligible, and whether all of them have a place by each standard."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for cell in cells:
        for subject, counts in cell.items():
            for index, number in enumerate((counts.eligible, counts.expected_of, counts.higher_of)):
                sums[subject][index] += number
    return tuple(
        (subject, sums[subject][1] == sums[subject][0], sums[subject][2] == sums[subject][0])
        for subject in subjects
        if sums[subject][0]
    )


def _make_group(
    signature: _Signature,
    schools: list[str],
    cells: dict[str, dict[tuple[str, Categories], _Cell]],
    names: dict[str | None, tuple[int, str]],
    recorded: set[str],
) -> FrozenGroup:
    subjects = [subject for subject, *_ in signature]
    conjunction = subjects[-1] if subjects[-1] in PARTS_OF and {*PARTS_OF[subjects[-1]]} <= {*subjects} else None
    combined = list(PARTS_OF[conjunction]) if conjunction else []
    placed = [(expected, higher) for _, expected, higher in signature]
    found = {year for school in schools for year, _ in cells[school]}
    years = sorted(found, key=YEARS.index)
    splits = {"": None} | {name: split for name, split in SPLITS.items() if split.dimension in recorded}
    figures = {name: [[[[0] * 4 for _ in subjects] for _ in years] for _ in schools] for name in splits}
    pupils = {name: [[0] * len(years) for _ in schools] for name in splits}
    has_excused = False
    for at, school in enumerate(schools):
        for (year, categories), cell in cells[school].items():
            counts = [_list_counts(cell.get(subject), place) for subject, place in zip(subjects, placed, strict=True)]
            number = _count_least(counts, subjects, combined)
            has_excused |= any(each[0] != number for each in counts)
            for name, split in splits.items():
                if split is None or getattr(categories, split.dimension) in split.first:
                    in_year = years.index(year)
                    pupils[name][at][in_year] += number
                    for total, each in zip(figures[name][at][in_year], counts, strict=True):
                        total[:] = [one + more for one, more in zip(total, each, strict=True)]
    of_schools = [FrozenSchool(school, *names[school], _sum_marks(cells[school].values())) for school in schools]
    return FrozenGroup(subjects, combined, placed, has_excused, of_schools, years, figures, pupils)


def _list_counts(counts: PupilCounts | None, placed: tuple[bool, bool]) -> list[int]:
    if counts is None:
        return [0] * 4
    return [counts.eligible, counts.valid, counts.expected * placed[0], counts.higher * placed[1]]


def _count_least(counts: list[list[int]], subjects: list[str], combined: list[str]) -> int:
    """Returns how many pupils there are at least. Whoever is not eligible in all of a conjunction is not eligible in a part of it."""
    least = max(each[0] for each in counts)
    if combined:
        parts = [counts[subjects.index(part)][0] for part in combined]
        least = max(least, -(-(sum(parts) - counts[-1][0]) // (len(parts) - 1)))
    return least


def _sum_marks(cells: Iterable[_Cell]) -> dict[str, tuple[int, int, str]]:
    """Returns the sums of marks of subjects in which every counting value is a number, all of one scheme."""
    sums: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    schemes: defaultdict[str, set[str]] = defaultdict(set)
    for cell in cells:
        for subject, counts in cell.items():
            schemes[subject].update(counts.schemes)
            for index, number in enumerate((counts.hundredths, counts.valued, counts.valid)):
                sums[subject][index] += number
    return {
        subject: (hundredths, valued, next(iter(schemes[subject])))
        for subject, (hundredths, valued, valid) in sums.items()
        if valued and valued == valid and len(schemes[subject]) == 1
    }
