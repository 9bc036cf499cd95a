"""Editions of generated trusts without a server: their figures are frozen pupil by pupil, and the process that protects them decides."""

from collections.abc import Iterator, Sequence

import msgspec

from domain.aggregates.edition_figures import EditionFigures
from domain.declare.ids import NIL
from domain.publishing.frozen import SPLITS, Frozen, FrozenGroup, FrozenSchool
from domain.publishing.messages import DecidedAll, EarlierEdition, Task
from domain.publishing.process import run
from domain.publishing.rows import list_rows
from tests.attack.generated_trusts import GeneratedTrust, Pupil
from tests.attack.readings import SUBJECTS, Reading

_FIRST = {"sex": ("F",), "disadvantaged": ("true",), "eal": ("2",), "sen": ("K", "E"), "sen.E": ("E",)}


def make_id(urn: int) -> str:
    return f"01900000-0000-7003-8000-{urn:012d}"


def freeze_trust(trust: GeneratedTrust) -> Frozen:
    """The figures of a trust."""
    years = sorted({pupil.year for pupil in trust.pupils})

    def count(name: str) -> tuple[list[list[list[list[int]]]], list[list[int]]]:
        figures = [[[[0] * 4 for _ in SUBJECTS] for _ in years] for _ in trust.urns]
        pupils = [[0] * len(years) for _ in trust.urns]
        for pupil in trust.pupils:
            if name and pupil.values[SPLITS[name].dimension] not in _FIRST[name]:
                continue
            at = years.index(pupil.year)
            pupils[pupil.school][at] += 1
            for number, subject in enumerate(SUBJECTS):
                level = find_level(pupil, subject)
                for index, least in enumerate((0, 1, 2, 3)):
                    figures[pupil.school][at][number][index] += level >= least
        return figures, pupils

    counted = {name: count(name) for name in ("", *_FIRST)}
    schools = [FrozenSchool(make_id(urn), urn, f"School {urn}", {}) for urn in trust.urns]
    group = FrozenGroup(
        [*SUBJECTS],
        [*SUBJECTS[:3]],
        [(True, True)] * len(SUBJECTS),
        False,
        schools,
        years,
        {name: each[0] for name, each in counted.items()},
        {name: each[1] for name, each in counted.items()},
    )
    return Frozen([group], [*SUBJECTS], [])


def find_level(pupil: Pupil, subject: str) -> int:
    return min(pupil.marks[part].level for part in (SUBJECTS[:3] if subject == "rwm" else (subject,)))


def decide(frozen: Frozen, earlier: Sequence[EarlierEdition] = (), level: str = "department") -> DecidedAll:
    task = Task(frozen, level, 6, 11 if level == "strict" else 6, 1, {}, 1, [*earlier])
    *_, outcome = run(msgspec.json.encode(task))
    assert outcome.decided is not None
    return outcome.decided


def list_fresh(frozen: Frozen, decided: DecidedAll) -> Iterator[Reading]:
    """The rows that an edition shows with its own figures; all others are hidden."""
    urns = {make_id(school.urn): school.urn for group in frozen.groups for school in group.schools}
    for row in list_rows(frozen, decided.groups):
        school = None if row.school_id == NIL else urns[str(row.school_id)]
        pooled = frozenset(urns[str(each)] for each in row.pooled) if school is None else None
        figures = None if row.is_held or row.figures is None else msgspec.json.decode(row.figures, type=dict[str, EditionFigures])
        for subject in SUBJECTS:
            counts: list[int | None] = [None] * 4
            if figures is not None:
                found = figures[subject]
                counts = [found.eligible, found.valid, found.expected, found.higher]
            key = school, row.year_group or None, row.dimension or None, row.category or None
            yield Reading(*key, subject, *counts, None, "c" if figures is None else None, pooled)
