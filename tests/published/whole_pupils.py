"""Whole pupils that give exactly the percentages the Department for Education published for their school.

The key stage 2 school tables say, for each school, how many pupils were eligible (by sex, and by disadvantage) and what whole
percentage of each group reached the expected and the higher standard in reading, writing, maths and all three. This module looks
for pupils, each with a sex, disadvantage and three outcomes, from which every one of those percentages comes out again: an integer
programme with one unknown per kind of pupil (2 sexes x 2 x 3 outcomes cubed = 108). The pupils are invented; only the totals are
real. They can then be sent through the API, and what it answers compared with what was published.

    python tests/published/whole_pupils.py FILE-2018.csv     says for how many schools of a file whole pupils exist

A file is named by the year in which its academic year starts: FILE-2018.csv holds the summer of 2019.
"""

import csv
import random
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy.optimize import Bounds, LinearConstraint, milp

OUTCOMES = ("below", "expected", "higher")
SUBJECTS = ("reading", "writing", "maths")
MEASURES = {"reading": "PTREAD", "writing": "PTWRITTA", "maths": "PTMAT", "rwm": "PTRWM"}
LEVELS = {"expected": "EXP", "higher": "HIGH"}
GROUPS = {  # the column with the number of eligible pupils, and the suffix of the percentages
    "all": ("TELIG", ""),
    "disadvantaged": ("TFSM6CLA1A", "_FSM6CLA1A"),
    "other": ("TNotFSM6CLA1A", "_NotFSM6CLA1A"),
    "boys": ("BELIG", "_B"),
    "girls": ("GELIG", "_G"),
}
SUPPRESSED = "SUPP"  # 1 to 5 pupils, or a group that would give such a group away
NOT_PUBLISHED = ("", "NA", "NE", "NP", "LOWCOV")  # not applicable, no entries, not published, low coverage
SECONDS = 30  # per school; all of Surrey 2018 takes under two


@dataclass(frozen=True)
class Pupil:
    """One eligible pupil. `sex` is M or F; an outcome is below, expected or higher (`OUTCOMES`)."""

    sex: str
    disadvantaged: bool
    reading: str
    writing: str
    maths: str


@dataclass(frozen=True)
class Figure:
    """A published cell: the whole percentage of a group at a level or above, or None where DfE suppressed it."""

    measure: str
    level: str
    group: str
    value: int | None


@dataclass(frozen=True)
class Year:
    """An academic year whose pupils of Year 6 the tables are about; `start` is the calendar year in which it starts."""

    start: int

    @classmethod
    def of_file(cls, path: Path) -> "Year":
        """The year that the file's name ends with. Raises ValueError."""
        if (found := re.fullmatch(r".*(20\d\d)(?:-[a-z]+)?", path.stem)) is None:
            raise ValueError(f"{path.name} does not name the year in which the academic year starts, as in surrey-2018.csv")
        return cls(int(found[1]))

    @property
    def window(self) -> str:
        return f"{self.start}-{(self.start + 1) % 100}/KS2"

    @property
    def tests_on(self) -> date:
        """The Monday of the week of the tests, the second of May, on which pupils on roll are counted."""
        first = date(self.start + 1, 5, 1)
        return first + timedelta(days=7 + -first.weekday() % 7)

    @property
    def roll_on(self) -> date:
        return date(self.start + 1, 5, 1)

    @property
    def recorded_at(self) -> str:
        return f"{self.start + 1}-07-10T09:00:00Z"

    @property
    def admitted(self) -> str:
        """The year of admission to Reception, in the two digits that a UPN has."""
        return f"{(self.start - 6) % 100:02}"

    @property
    def eldest(self) -> date:
        return date(self.start - 11, 9, 1)


@dataclass(frozen=True, eq=False)
class School:
    """A school of the tables of one academic year. `eligible` counts the pupils of each of `GROUPS`, None where DfE suppressed the count."""

    year: Year
    urn: str
    name: str
    laestab: str
    eligible: Mapping[str, int | None]
    figures: tuple[Figure, ...]


KINDS = tuple(Pupil(*kind) for kind in product("MF", (True, False), OUTCOMES, OUTCOMES, OUTCOMES))
COLUMNS = {  # by sex DfE publishes only the three subjects combined
    (measure, level, group): f"{stem}_{ending}{suffix}"
    for (measure, stem), (level, ending), (group, (_, suffix)) in product(MEASURES.items(), LEVELS.items(), GROUPS.items())
    if measure == "rwm" or group not in ("boys", "girls")
}


def belongs(pupil: Pupil, group: str) -> bool:
    """Whether a pupil is in one of `GROUPS`."""
    return {
        "all": True,
        "disadvantaged": pupil.disadvantaged,
        "other": not pupil.disadvantaged,
        "boys": pupil.sex == "M",
        "girls": pupil.sex == "F",
    }[group]


def achieves(pupil: Pupil, measure: str, level: str) -> bool:
    """Whether a pupil is at a level or above; rwm asks it of all three subjects at once."""
    subjects = SUBJECTS if measure == "rwm" else (measure,)
    return all(OUTCOMES.index(getattr(pupil, subject)) >= OUTCOMES.index(level) for subject in subjects)


def half_up(achieved: int, eligible: int) -> int:
    """The whole percentage as DfE publishes it, a half rounded up: 1 of 8 is 13. Whole numbers throughout, no floats."""
    return (200 * achieved + eligible) // (2 * eligible)


def percentage(pupils: Sequence[Pupil], measure: str, level: str, group: str) -> int | None:
    """The whole percentage of a group's pupils at a level or above; None for a group without pupils."""
    members = [pupil for pupil in pupils if belongs(pupil, group)]
    return half_up(sum(achieves(pupil, measure, level) for pupil in members), len(members)) if members else None


def read(path: Path) -> list[School]:
    """The schools of a DfE key stage 2 file (UTF-8) whose number of eligible pupils is published, in its order.

    Raises ValueError for a name that tells no year, naming every missing column, or the line and column of every bad cell.
    """
    year = Year.of_file(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, restval="(nothing)")
        counts = [column for column, _ in GROUPS.values()]
        needed = ["RECTYPE", "LEA", "ESTAB", "URN", "SCHNAME", *counts, *COLUMNS.values()]
        if missing := [column for column in needed if column not in (rows.fieldnames or ())]:
            raise ValueError(f"{path.name} lacks the columns {', '.join(missing)}")
        schools: list[School] = []
        problems: list[str] = []
        for row in rows:
            if row["RECTYPE"] in ("1", "2") and row["TELIG"] not in (SUPPRESSED, *NOT_PUBLISHED):
                school, wrong = _school(row, year)
                schools.append(school)
                problems += [f"line {rows.line_num}, {place}" for place in wrong]
    if problems:
        raise ValueError("\n".join(problems))
    return schools


def _school(row: Mapping[str, str], year: Year) -> tuple[School, list[str]]:
    """A row as a school, and what is wrong with the row, each with its column."""
    problems: list[str] = []
    eligible: dict[str, int | None] = {}
    for group, (column, _) in GROUPS.items():
        count = row[column]
        eligible[group] = int(count) if re.fullmatch(r"[0-9]+", count) else None
        if eligible[group] is None and count not in (SUPPRESSED, *NOT_PUBLISHED):
            problems.append(f"{column}: {count!r} is not a number of pupils")
    figures: list[Figure] = []
    for (measure, level, group), column in COLUMNS.items():
        cell = row[column]
        if cell == SUPPRESSED:
            figures.append(Figure(measure, level, group, None))
        elif not re.fullmatch(r"(100|[0-9]{1,2})%", cell):
            if cell not in NOT_PUBLISHED:
                problems.append(f"{column}: {cell!r} is not a whole percentage")
        elif not eligible[group]:
            problems.append(f"{column}: {cell!r} of an unknown number of pupils")
        else:
            figures.append(Figure(measure, level, group, int(cell[:-1])))
    return School(year, row["URN"], row["SCHNAME"], row["LEA"] + row["ESTAB"], eligible, tuple(figures)), problems


def pupils(school: School) -> list[Pupil] | None:
    """Whole pupils that give a school's counts and percentages, or None where none can (some published figures disagree).

    Of all that fit, as few as possible stand far apart in their three subjects, as in real classes. The order is shuffled and the
    same every time. Raises RuntimeError where the solver does not come to an answer within `SECONDS`.
    """
    members = {group: np.array([belongs(kind, group) for kind in KINDS]) for group in GROUPS}
    lines = [(members[group], count, count) for group, count in school.eligible.items() if count is not None]
    for figure in school.figures:
        count = school.eligible[figure.group]
        if figure.value is None or count is None:
            continue
        achieved = [n for n in range(count + 1) if half_up(n, count) == figure.value]
        if not achieved:
            return None
        counted = members[figure.group] & np.array([achieves(kind, figure.measure, figure.level) for kind in KINDS])
        lines.append((counted, achieved[0], achieved[-1]))
    matrix, lowest, highest = zip(*lines, strict=True)
    ranks = np.array([[OUTCOMES.index(getattr(kind, subject)) for subject in SUBJECTS] for kind in KINDS])
    answer = milp(
        np.ptp(ranks, axis=1),
        integrality=np.ones(len(KINDS)),
        bounds=Bounds(0, np.inf),
        constraints=LinearConstraint(np.array(matrix, dtype=float), lowest, highest),
        options={"time_limit": SECONDS},
    )
    if answer.status == 2:  # proven infeasible
        return None
    if answer.status != 0:
        raise RuntimeError(f"URN {school.urn}: {answer.message}")
    found = [kind for kind, number in zip(KINDS, answer.x, strict=True) for _ in range(round(number))]
    random.Random(int(school.urn)).shuffle(found)
    return found


# 23 and 16 have no common factor, so the first 368 pupils of a school have different names.
SURNAMES = (
    "Abara", "Ashdown", "Bellweather", "Bhatt", "Coppard", "Dunmore", "Eastlake", "Farrow",
    "Grønholt", "Hussain", "Jarecki", "Kestrel", "Lindqvist", "Marlowe", "Núñez", "O'Dowd",
    "Pemberley-Cole", "Quillan", "Rahimi", "Stanhope", "Tolland", "Umeh", "Wychling",
)  # fmt: skip
FORENAMES = {
    "F": (
        "Aisha", "Beth", "Carys", "Dorota", "Elsie", "Freya", "Grace", "Hana",
        "Imogen", "Jia", "Kezia", "Leila", "Maeve", "Nadia", "Orla", "Zoë",
    ),
    "M": (
        "Adam", "Bilal", "Callum", "Daniel", "Eryk", "Finn", "George", "Harvey",
        "Idris", "Jacob", "Kofi", "Luca", "Mohammed", "Noah", "Oscar", "Théo",
    ),
}  # fmt: skip
SCALED_SCORES = {"below": (80, 99), "expected": (100, 109), "higher": (110, 120)}
WRITING = {"below": "WTS", "expected": "EXS", "higher": "GDS"}


def upn(school: School, serial: int) -> str:
    """A unique pupil number with its right check letter: LAESTAB, year of admission, serial number 1 to 999 (DfE's UPN guide)."""
    digits = f"{school.laestab}{school.year.admitted}{serial:03}"
    return "ABCDEFGHJKLMNPQRTUVWXYZ"[sum(weight * int(digit) for weight, digit in enumerate(digits, start=2)) % 23] + digits


def roster(school: School, pupils: Sequence[Pupil]) -> dict[str, Any]:
    """The body of POST /v1/pupils that puts the pupils on roll. Names, dates of birth, EAL and SEN are invented, not from DfE."""
    entries = []
    for index, pupil in enumerate(pupils):
        forenames = FORENAMES[pupil.sex]
        known = {"ever6Fsm": "true" if pupil.disadvantaged else "false", "eal": "1", "sen": "N"}
        entries.append(
            {
                "reference": f"ks2:{school.urn}:{index + 1:04}",
                "upn": upn(school, index + 1),
                "surname": SURNAMES[(int(school.urn) + index) % len(SURNAMES)],
                "forename": forenames[index % len(forenames)],
                "dateOfBirth": (school.year.eldest + timedelta(days=index * 37 % 365)).isoformat(),
                "sex": pupil.sex,
                "yearGroup": "6",
                "enrolments": [{"from": f"{school.year.start}-09-01", "to": None, "status": "C"}],
                "characteristics": [
                    {"kind": kind, "value": value, "from": f"{school.year.start - 1}-09-01"} for kind, value in known.items()
                ],
            }
        )
    return {"school": {"urn": school.urn}, "asOf": school.year.roll_on.isoformat(), "entries": entries}


def judgements(school: School, pupils: Sequence[Pupil]) -> dict[str, Any]:
    """The body of POST /v1/judgements with three values a pupil, in the order of `roster`: scaled scores, and WTS, EXS or GDS."""
    entries = []
    for index, pupil in enumerate(pupils):
        for subject in SUBJECTS:
            outcome = getattr(pupil, subject)
            low, high = SCALED_SCORES[outcome]
            # A step without a factor in common with any range uses every score; each subject starts elsewhere.
            score = low + (7 * index + len(subject)) % (high - low + 1)
            entries.append(
                {
                    "upn": upn(school, index + 1),
                    "subject": subject,
                    "grade": WRITING[outcome] if subject == "writing" else str(score),
                    "recordedAt": school.year.recorded_at,
                }
            )
    return {"school": {"urn": school.urn}, "window": school.year.window, "entries": entries}


def main(arguments: Sequence[str]) -> None:
    """Print for how many schools of a file whole pupils exist, and which have none. Exits with a message on a bad file."""
    if len(arguments) != 1:
        sys.exit("usage: python tests/published/whole_pupils.py FILE-2018.csv")
    try:
        schools = read(Path(arguments[0]))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    console = Console(highlight=False)
    solved = {school.urn: pupils(school) is not None for school in track(schools, "Solving", console=console)}
    figures = [figure.value for school in schools if solved[school.urn] for figure in school.figures]
    shown = sum(value is not None for value in figures)
    console.print(f"{sum(solved.values())} of {len(schools)} schools can be given by whole pupils.")
    console.print(f"Their percentages: {shown:,} published, {len(figures) - shown:,} suppressed.")
    for school in schools:
        if not solved[school.urn]:
            console.print(f"No whole pupils give the figures of {school.urn} {school.name}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main(sys.argv[1:])
