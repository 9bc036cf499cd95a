"""What follows from readings: bounds of every count, by substitution, by linear programmes over all tables, subjects and conjunctions
together, and in whole numbers.

A reader knows how pupils are counted: the categories of a characteristic add up to all pupils, the year groups and the schools to
the whole, nobody is expected without a mark or higher without being expected, and a conjunction counts whoever is in all three
subjects. A variable is a count of the pupils of one category in one year group of one school.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.optimize._highspy import _core as highs
from scipy.sparse import csr_array

from tests.attack.readings import SUBJECTS, Reading

PARTS = SUBJECTS[:3]
COUNTS = ("eligible", *((subject, what) for subject in SUBJECTS for what in ("valid", "expected", "higher")))
"""What is counted of a group: how many pupils, and how many of them have a mark, reach the expected and the higher standard."""
INDEX = {name: index for index, name in enumerate(COUNTS)}
CLOSE = 1e-6
ENDLESS = 1e9
"""More pupils than any trust has."""

Count = str | tuple[str, str]


class Cell(NamedTuple):
    """The pupils of one category (None: all) in one year group of one school."""

    school: int
    year: str
    dimension: str | None
    category: str | None


class Question(NamedTuple):
    """A count of a group, and how many values of it must remain possible."""

    school: int | None
    year: str | None
    dimension: str | None
    category: str | None
    count: Count
    enough: int
    pooled: frozenset[int] | None = None
    """The schools that a row of the trust adds up, None for all."""


class Range(NamedTuple):
    """The whole numbers that a count may be. It was not widened further once it held enough of them."""

    low: int
    high: int

    @property
    def width(self) -> int:
        return self.high - self.low + 1


def count_whole(low: float, high: float) -> int:
    """How many whole numbers there are from `low` to `high`."""
    return 0 if low > high else math.floor(high + CLOSE) - math.ceil(low - CLOSE) + 1


class Attack:
    """Relations among the counts of one trust in one window, and bounds that they give."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.years: defaultdict[int, set[str]] = defaultdict(set)
        self.categories: defaultdict[str, set[str]] = defaultdict(set)
        for reading in readings:
            if reading.school is not None and reading.year is not None and reading.dimension is None:
                self.years[reading.school].add(reading.year)
            if reading.dimension is not None and reading.category is not None:
                self.categories[reading.dimension].add(reading.category)
        self._columns: dict[Cell, int] = {}
        self._rows: list[tuple[list[int], list[float], float, float]] = []
        for school, years in sorted(self.years.items()):
            for year in sorted(years):
                self._relate_cell(school, year)
        self._read(readings)
        self._substitute()
        self._build()

    # Relations

    def _find_column(self, cell: Cell) -> int:
        return self._columns.setdefault(cell, len(self._columns) * len(COUNTS))

    def _relate_cell(self, school: int, year: str) -> None:
        whole = self._find_column(Cell(school, year, None, None))
        self._relate_counts(whole)
        for dimension, categories in self.categories.items():
            parts = [self._find_column(Cell(school, year, dimension, category)) for category in sorted(categories)]
            for part in parts:
                self._relate_counts(part)
            for index in range(len(COUNTS)):
                self._rows.append(([whole + index, *(part + index for part in parts)], [-1, *[1] * len(parts)], 0, 0))

    def _relate_counts(self, column: int) -> None:
        """What holds of any group of pupils."""

        def at(subject: str, what: str) -> int:
            return column + INDEX[subject, what]

        def order(more: Sequence[int], less: Sequence[int]) -> None:
            self._rows.append(([*more, *less], [*[1] * len(more), *[-1] * len(less)], 0, math.inf))

        for subject in SUBJECTS:
            steps = [column, *(at(subject, what) for what in ("valid", "expected", "higher"))]
            for more, less in pairwise(steps):
                order([more], [less])
        for what in ("valid", "expected", "higher"):
            for part in PARTS:
                order([at(part, what)], [at("rwm", what)])
            everywhere = [at(part, what) for part in PARTS]
            self._rows.append(([at("rwm", what), column, *everywhere], [1, 2, -1, -1, -1], 0, math.inf))
        for upper, lower in (("valid", "expected"), ("expected", "higher")):
            # whoever reaches the upper in all subjects, but not the lower, misses the lower in one of them
            order(
                [*(at(part, upper) for part in PARTS), at("rwm", lower)], [*(at(part, lower) for part in PARTS), at("rwm", upper)]
            )

    def _list_columns(self, of: Reading | Question) -> list[int]:
        schools = (of.school,) if of.school is not None else self.years if of.pooled is None else of.pooled
        return [
            self._columns[Cell(school, year, of.dimension, of.category)]
            for school in schools
            for year in self.years[school]
            if of.year in (None, year)
        ]

    def _read(self, readings: Iterable[Reading]) -> None:
        known: dict[tuple[int, ...], float] = {}
        for reading in readings:
            if reading.status == "c":
                continue
            columns = self._list_columns(reading)
            counts: list[tuple[Count, int | None]] = [("eligible", reading.eligible)]
            counts += [((reading.subject, what), getattr(reading, what)) for what in ("valid", "expected", "higher")]
            for count, value in counts:
                if value is not None and columns:
                    key = tuple(sorted(column + INDEX[count] for column in columns))
                    assert known.setdefault(key, value) == value, f"two answers differ: {reading}"
        self._rows += [(list(key), [1.0] * len(key), value, value) for key, value in known.items()]

    # Solving

    def _substitute(self) -> None:
        """Finds what arithmetic alone gives: an equation with one unknown left, again and again."""
        self._values: dict[int, float] = {}
        equations = [(columns, factors, low) for columns, factors, low, high in self._rows if low == high]
        by_column: defaultdict[int, list[int]] = defaultdict(list)
        for number, (columns, _, _) in enumerate(equations):
            for column in columns:
                by_column[column].append(number)
        waiting = list(range(len(equations)))
        while waiting:
            columns, factors, value = equations[waiting.pop()]
            unknown = [(column, factor) for column, factor in zip(columns, factors, strict=True) if column not in self._values]
            if len(unknown) == 1:
                ((column, factor),) = unknown
                rest = sum(f * self._values[c] for c, f in zip(columns, factors, strict=True) if c != column)
                self._values[column] = (value - rest) / factor
                waiting += by_column[column]
            elif all(f > 0 for _, f in unknown) and not value - sum(
                f * self._values[c] for c, f in zip(columns, factors, strict=True) if c in self._values
            ):
                for column, _ in unknown:  # they add up to nothing
                    self._values[column] = 0
                    waiting += by_column[column]

    def _build(self) -> None:
        self._unknown = {
            column: number
            for number, column in enumerate(
                column for column in range(len(self._columns) * len(COUNTS)) if column not in self._values
            )
        }
        rows: dict[tuple[tuple[int, float], ...], tuple[float, float]] = {}
        for columns, factors, low, high in self._rows:
            terms = tuple(sorted((self._unknown[c], f) for c, f in zip(columns, factors, strict=True) if c in self._unknown))
            rest = sum(f * self._values[c] for c, f in zip(columns, factors, strict=True) if c in self._values)
            if terms:
                before = rows.get(terms, (-math.inf, math.inf))
                rows[terms] = max(before[0], low - rest), min(before[1], high - rest)
        starts, indexes, factors_ = [0], [], []
        for terms in rows:
            indexes += [index for index, _ in terms]
            factors_ += [factor for _, factor in terms]
            starts.append(len(indexes))
        shape = len(rows), len(self._unknown)
        self._matrix = csr_array((np.array(factors_, float), np.array(indexes, int), np.array(starts, int)), shape=shape)
        self._low = np.array([low for low, _ in rows.values()], float)
        self._high = np.array([high for _, high in rows.values()], float)
        self._solver = open_solver(self._matrix, self._low, self._high)

    def _make_objective(self, question: Question) -> tuple[np.ndarray, float]:
        """Returns the factor of each unknown, and what is already certain."""
        objective, certain = np.zeros(len(self._unknown)), 0.0
        for column in self._list_columns(question):
            index = column + INDEX[question.count]
            if index in self._unknown:
                objective[self._unknown[index]] += 1
            else:
                certain += self._values[index]
        return objective, certain

    def find_ranges(self, questions: Sequence[Question]) -> list[Range]:
        """Bounds of each count by linear programmes. What is found for one question may answer others."""
        objectives = [self._make_objective(question) for question in questions]
        factors = np.array([objective for objective, _ in objectives]).reshape(len(questions), len(self._unknown))
        low = np.full(len(questions), math.inf)
        high = np.full(len(questions), -math.inf)
        for number, question in enumerate(questions):
            if not factors[number].any():
                low[number] = high[number] = 0
                continue
            for sign in (1, -1):
                if count_whole(low[number], high[number]) >= question.enough:
                    break
                found = minimise(self._solver, sign * factors[number])
                if found is None:
                    high[number] = ENDLESS
                else:
                    values = factors @ found
                    low, high = np.minimum(low, values), np.maximum(high, values)
        certain = np.array([each for _, each in objectives])
        return [Range(math.ceil(a - CLOSE), math.floor(b + CLOSE)) for a, b in zip(low + certain, high + certain, strict=True)]

    def find_whole_range(self, question: Question, seconds: float = 5) -> Range | None:
        """The bounds of a count where every count is a whole number, or None where they are not found in time."""
        objective, certain = self._make_objective(question)
        if not objective.any():
            return Range(round(certain), round(certain))
        bounds = []
        for sign in (1, -1):
            found = milp(
                sign * objective,
                constraints=LinearConstraint(self._matrix, self._low, self._high),
                bounds=Bounds(0, np.inf),
                integrality=np.ones(len(self._unknown)),
                options={"time_limit": seconds},
            )
            if found.status != 0:
                return None
            bounds.append(round(sign * found.fun + certain))
        return Range(*bounds)


def open_solver(matrix: csr_array, low: np.ndarray, high: np.ndarray) -> highs._Highs:
    """A solver that keeps its basis from one objective to the next. All unknowns are at least 0."""
    solver = highs._Highs()
    for name, value in (("output_flag", False), ("threads", 1), ("simplex_strategy", 4), ("presolve", "off")):
        solver.setOptionValue(name, value)
    model = highs.HighsLp()
    model.num_row_, model.num_col_ = matrix.shape
    model.col_cost_, model.col_lower_ = np.zeros(matrix.shape[1]), np.zeros(matrix.shape[1])
    model.col_upper_ = np.full(matrix.shape[1], highs.kHighsInf)
    model.row_lower_, model.row_upper_ = low, high
    model.a_matrix_.format_ = highs.MatrixFormat.kRowwise
    model.a_matrix_.num_row_, model.a_matrix_.num_col_ = matrix.shape
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
    solver.passModel(model)
    return solver


def minimise(solver: highs._Highs, objective: np.ndarray) -> np.ndarray | None:
    """The unknowns where the objective is least, or None where it has no bound."""
    solver.changeColsCost(len(objective), np.arange(len(objective), dtype=np.int32), objective)
    solver.run()
    if (status := solver.getModelStatus()) == highs.HighsModelStatus.kUnbounded:
        return None
    if status != highs.HighsModelStatus.kOptimal:  # once more from the start
        solver.clearSolver()
        solver.run()
        status = solver.getModelStatus()
    assert status == highs.HighsModelStatus.kOptimal, status
    return np.array(solver.getSolution().col_value)
