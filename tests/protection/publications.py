"""What a publication of a generated trust would show, as a reader gets it."""

from collections import Counter

import numpy as np

from domain.protection.figures import Layout
from domain.protection.protect import Decision
from domain.protection.tables import TOTAL, Population, SplitFigures, Tables
from tests.attack.generated_trusts import GeneratedTrust, Pupil
from tests.attack.readings import SUBJECTS, Reading

ALL = Population(TOTAL, "first")
SEN = Population("sen", "first")
SPLITS = {
    "sex": (ALL, "sex", ("F",)),
    "disadvantaged": (ALL, "disadvantaged", ("true",)),
    "eal": (ALL, "eal", ("2",)),
    "sen": (ALL, "sen", ("K", "E")),
    "sen.E": (SEN, "sen", ("E",)),
}
"""Each split: what it divides, and the values of a characteristic that its first side has."""
SHOWN = {
    TOTAL: ((None, None), None),
    "sex": (("sex", "F"), ("sex", "M")),
    "disadvantaged": (("disadvantaged", "true"), ("disadvantaged", "false")),
    "eal": (("eal", "2"), ("eal", "1")),
    "sen": (None, ("sen", "N")),
    "sen.E": (("sen", "E"), ("sen", "K")),
}
"""The categories that the sides of each split are shown as. Of SEN its parts are shown, and the rest."""
LAYOUT = Layout()


def count_tables(trust: GeneratedTrust, layout: Layout = LAYOUT) -> Tables:
    """The tables of a trust, counted pupil by pupil."""
    years = sorted({pupil.year for pupil in trust.pupils})
    shape = len(trust.urns), len(years), layout.length

    def count(dimension: str | None, values: tuple[str, ...]) -> np.ndarray:
        figures = np.zeros(shape, np.int64)
        for pupil in trust.pupils:
            if dimension is None or pupil.values[dimension] in values:
                figures[pupil.school, years.index(pupil.year)] += describe(pupil, layout)
        return figures

    splits = {name: SplitFigures(parent, count(dimension, values)) for name, (parent, dimension, values) in SPLITS.items()}
    return Tables(layout, count(None, ()), splits)


def describe(pupil: Pupil, layout: Layout = LAYOUT) -> np.ndarray:
    return layout.describe_pupil(tuple(pupil.marks[subject].level - 1 for subject in layout.subjects))


def list_readings(trust: GeneratedTrust, tables: Tables, decision: Decision) -> list[Reading]:
    """The rows of a publication. Year groups that a school does not have are no rows."""
    years = [*sorted({pupil.year for pupil in trust.pupils}), None]
    urns = [*trust.urns, None]
    there = tables.splits[TOTAL].frame > 0
    there[tables.schools] = True
    readings = []
    for name, split in tables.splits.items():
        for side, category in zip(split.sides, SHOWN[name], strict=False):
            if category is None:
                continue
            layout = tables.layout
            figures = tables.get_figures(Population(name, side)) @ layout.published
            for school, year in np.argwhere(there):
                is_hidden = bool(decision.hidden[name][school, year])
                pooled = None
                if school == tables.schools:
                    included = decision.pooled[name][:, year]
                    pooled = frozenset(urn for urn, is_pooled in zip(trust.urns, included, strict=True) if is_pooled)
                for subject in SUBJECTS:
                    at = "conjunction" if subject == "rwm" else subject
                    valid, expected, higher = (layout.names.index((at, what)) for what in ("valid", "expected", "higher"))
                    counts = [figures[school, year][index] for index in (layout.eligible_of[valid], valid, expected, higher)]
                    shown = [None] * 4 if is_hidden else [int(count) for count in counts]
                    status = "c" if is_hidden else None
                    readings.append(Reading(urns[school], years[year], *category, subject, *shown, None, status, pooled))
    return readings


def count_hidden(tables: Tables, decision: Decision) -> Counter[str]:
    """How many populations with pupils there are, and how many of them are hidden. All with SEN together are none of them."""
    counter: Counter[str] = Counter()
    for population in tables.list_populations():
        if SHOWN[population.split][0 if population.side == "first" else 1] is not None:
            there = tables.get_figures(population)[..., 0] > 0
            counter["populations"] += int(there.sum())
            counter["hidden"] += int((there & decision.hidden[population.split]).sum())
    return counter
