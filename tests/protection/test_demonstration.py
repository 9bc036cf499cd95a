"""What protection hides of a fictional trust's three windows: as much as the prototype of the method did, which was attacked and measured.

`data/demonstration.csv` has a line for each pupil: what a demonstration once generated. A level is 0 for no mark, 1 below, 2 expected, 3 higher.
"""

import csv
from pathlib import Path

import pytest

from domain.protection.protect import protect
from domain.protection.rules import LEVELS
from tests.attack.generated_trusts import CATEGORIES, SUBJECTS, GeneratedTrust, Mark, Pupil
from tests.fixtures.sizes import choose_size
from tests.protection.publications import count_hidden, count_tables

DATA = Path(__file__).with_name("data") / "demonstration.csv"
SCHOOLS = 6
HIDDEN = {
    "KS2": (133, 110, {"department": 50, "strict": 64}),
    "Autumn": (803, 403, {"department": 211, "strict": 267}),
    "Summer": (673, 347, {"department": 144, "strict": 217}),
}
"""Of each window the pupils, the populations, and how many of those are hidden."""
TRIED = list(HIDDEN)[: choose_size(1, len(HIDDEN))]


def read_window(window: str) -> GeneratedTrust:
    with DATA.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["window"] == window]
    pupils = [
        Pupil(
            int(row["school"]),
            row["year"],
            {name: row[name] for name in CATEGORIES},
            {subject: Mark(None, int(row[subject])) for subject in SUBJECTS},
        )
        for row in rows
    ]
    return GeneratedTrust(pupils, list(range(SCHOOLS)))


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("window", TRIED)
def test_no_more_is_hidden_than_by_the_prototype(window: str, level: str) -> None:
    pupils, populations, hidden = HIDDEN[window]
    trust = read_window(window)
    assert len(trust.pupils) == pupils
    tables = count_tables(trust)
    counted = count_hidden(tables, protect(tables, LEVELS[level]))
    assert counted["populations"] == populations
    assert counted["hidden"] <= hidden[level]
