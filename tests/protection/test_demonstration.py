"""What protection hides of the demonstration's windows: as much as the prototype of the method did, which was attacked and measured."""

import os
from datetime import UTC, datetime

import pytest

from api.demo.assessment_data import AUTUMN, KS2, SUBJECTS, SUMMER, DemoWindow, make_judgements
from api.demo.school_data import SCHOOLS, DemoPupil, make_pupils
from domain.protection.protect import protect
from domain.protection.rules import LEVELS
from tests.attack.generated_trusts import GeneratedTrust, Mark, Pupil
from tests.protection.publications import count_hidden, count_tables

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
LEVEL_OF_GRADE = {"PK3": 1, "PK4": 1, "B": 1, "WTS": 1, "EXS": 2, "GDS": 3, "Below": 1, "Just at": 1, "At": 2, "Above": 3}
HIDDEN = {
    KS2: (133, 110, {"department": 50, "strict": 64}),
    AUTUMN: (803, 403, {"department": 211, "strict": 267}),
    SUMMER: (673, 347, {"department": 144, "strict": 217}),
}
"""Of each window the pupils, the populations, and how many of those are hidden."""
TRIED = list(HIDDEN) if os.environ.get("MARKONCE_FULL") else [KS2]


def find_level(grade: str | None) -> int:
    if grade is None or grade == "A":
        return 0
    return LEVEL_OF_GRADE[grade] if grade in LEVEL_OF_GRADE else 1 + (int(grade) >= 100) + (int(grade) >= 110)


def read_window(window: DemoWindow) -> GeneratedTrust:
    """The pupils who were there on the census day, with their marks."""
    everybody = make_pupils()
    grades = {
        (entry["reference"], entry["subject"]): entry.get("grade")
        for body in make_judgements(everybody, NOW)
        if body["window"] == window.code
        for entry in body["entries"]
    }
    urns = [school.urn for school in SCHOOLS]
    pupils = []
    for each in everybody:
        spell, year = each.find_main_spell(window.census_on), window.start - each.entry
        if spell is not None and year in window.years:
            marks = {subject: grades.get((each.reference, subject)) for subject in SUBJECTS}
            made = {subject: Mark(grade, find_level(grade)) for subject, grade in marks.items()}
            pupils.append(Pupil(urns.index(spell.school.urn), str(year), read_characteristics(each), made))
    return GeneratedTrust(pupils, urns)


def read_characteristics(pupil: DemoPupil) -> dict[str, str]:
    found = pupil.characteristics
    disadvantaged = found.get("ever6Fsm", "false")  # what is not known belongs to the rest
    return {"sex": pupil.sex, "disadvantaged": disadvantaged, "eal": found["eal"], "sen": found["sen"]}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("window", TRIED, ids=lambda window: window.code)
def test_no_more_is_hidden_than_by_the_prototype(window: DemoWindow, level: str) -> None:
    pupils, populations, hidden = HIDDEN[window]
    trust = read_window(window)
    assert len(trust.pupils) == pupils
    tables = count_tables(trust)
    counted = count_hidden(tables, protect(tables, LEVELS[level]))
    assert counted["populations"] == populations
    assert counted["hidden"] <= hidden[level]
