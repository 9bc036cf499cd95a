"""Linear programmes over some hidden positions: how far a figure can change while everything else stays as it is.

What is found for a few positions holds for the whole, since all others keep their true figures. A variable is a change of one figure of the
first side of a split at a position of a single year. The solver is HiGHS; it keeps its basis from one objective to the next.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize._highspy import _core as highs
from scipy.sparse import csr_array

from domain.protection.figures import Integers
from domain.protection.plan import Plan, ShownSums
from domain.protection.proofs import Bank, Target, list_open, note_change
from domain.protection.tables import TOTAL, Population, Position

CLOSE = 1e-6
ENDLESS = 99
"""The change that is noted where a figure has no bound."""
_OPTIONS = {"output_flag": False, "threads": 1, "presolve": "off", "simplex_strategy": 4}
"""Primal simplex without presolve: only the objective changes, so that the last basis stays feasible."""
Vector = NDArray[np.float64]


class Unbounded(Exception):
    """The objective has no bound."""


@dataclass
class _Rows:
    """The rows of a programme while they are collected."""

    rows: list[Integers] = field(default_factory=list)
    columns: list[Integers] = field(default_factory=list)
    factors: list[Vector] = field(default_factory=list)
    low: list[Vector] = field(default_factory=list)
    high: list[Vector] = field(default_factory=list)
    count: int = 0

    def add(self, blocks: Sequence[tuple[Integers, Integers, Vector]], low: Vector, high: Vector) -> None:
        """Adds rows whose coefficients are the sum of blocks: row (from 0), column, factor."""
        for row, column, factor in blocks:
            self.rows.append(self.count + row)
            self.columns.append(column)
            self.factors.append(factor)
        self.low.append(low)
        self.high.append(high)
        self.count += len(low)


class Programme:
    """A programme over hidden positions of single years, by split. All programmes of one object have the same conditions."""

    def __init__(self, plan: Plan, positions: Mapping[str, Sequence[Position]]) -> None:
        self._plan, self.positions = plan, positions
        self._length = plan.tables.layout.length
        self._offsets = {
            key: number * self._length
            for number, key in enumerate((name, position) for name, each in positions.items() for position in each)
        }
        self.size = len(self._offsets) * self._length
        self._sums = {name: plan.find_sums(name) for name in positions}
        plan.work.models += 1
        self._solver = self._open()

    def _list_terms(self, population: Population, position: Position) -> list[tuple[int, int]]:
        """Returns the change of a population as offsets of variables, each with a factor."""
        name, side = population
        mine = [(self._offsets[name, position], 1)] if (name, position) in self._offsets else []
        if side == "first":
            return mine
        parent = self._plan.tables.splits[name].parent
        assert parent is not None
        return self._list_terms(parent, position) + [(offset, -factor) for offset, factor in mine]

    def _list_changing(self, name: str) -> Iterator[Population]:
        """Yields the populations that change with a split. Of a split within it that has no variables, the first side keeps its figures."""
        sides = [Population(name, side) for side in self._plan.tables.splits[name].sides]
        yield from sides
        for population in sides:
            for inner in self._plan.tables.inner.get(population, ()):
                if inner not in self.positions:
                    yield Population(inner, "rest")

    def _open(self) -> highs._Highs:
        rows = _Rows()
        low, high = np.full(self.size, -math.inf), np.full(self.size, math.inf)
        for name, positions in self.positions.items():
            for population in self._list_changing(name):
                for position in positions:
                    self._add_conditions(rows, low, high, population, position)
            self._add_sums(rows, name)
        shape = rows.count, self.size
        coordinates = np.concatenate(rows.rows), np.concatenate(rows.columns)
        matrix = csr_array((np.concatenate(rows.factors), coordinates), shape=shape)
        return _open_solver(matrix, np.concatenate(rows.low), np.concatenate(rows.high), low, high)

    def _add_conditions(self, rows: _Rows, low: Vector, high: Vector, population: Population, position: Position) -> None:
        """Adds that the population remains one of pupils."""
        relations, length = self._plan.tables.layout.relations, self._length
        figures = self._plan.tables.get_figures(population)[position]
        terms = self._list_terms(population, position)
        row, column = np.nonzero(relations)
        factors = relations[row, column].astype(np.float64)
        blocks = [(row, offset + column, factor * factors) for offset, factor in terms]
        rows.add(blocks, -(relations @ figures).astype(np.float64), np.full(len(relations), math.inf))
        figure = np.arange(length)
        if len(terms) > 1:
            blocks = [(figure, offset + figure, np.full(length, float(factor))) for offset, factor in terms]
            rows.add(blocks, -figures.astype(np.float64), np.full(length, math.inf))
            return
        for offset, factor in terms:
            variables = slice(offset, offset + length)
            if factor > 0:
                low[variables] = np.maximum(low[variables], -figures)
            else:
                high[variables] = np.minimum(high[variables], figures)

    def _add_sums(self, rows: _Rows, name: str) -> None:
        """Adds that the sums that are shown keep their values."""
        sums, groups = self._sums[name], dict[tuple[str, int], list[Position]]()
        for position in self.positions[name]:
            school, year = position
            if sums.of_school[school]:
                groups.setdefault(("school", school), []).append(position)
            if sums.of_year[position]:
                groups.setdefault(("year", year), []).append(position)
            if sums.of_all[school]:
                groups.setdefault(("all", 0), []).append(position)
        figure, ones, zeros = np.arange(self._length), np.ones(self._length), np.zeros(self._length)
        for positions in groups.values():
            rows.add([(figure, self._offsets[name, position] + figure, ones) for position in positions], zeros, zeros)

    def make_objective(self, target: Target, sign: float) -> Vector:
        objective = np.zeros(self.size)
        column = sign * self._plan.tables.layout.published[:, target.figure]
        for position in self.positions.get(target.split, ()):
            if self._sums[target.split].count_effect(target.position, [(position, 1)]):
                for offset, factor in self._list_terms(target.population, position):
                    objective[offset : offset + self._length] += factor * column
        return objective

    def maximise(self, objective: Vector) -> Vector | None:
        """Returns the variables where the objective is greatest, or None where the solver fails. Raises Unbounded."""
        work = self._plan.work
        work.programmes += 1
        if TOTAL in self.positions:
            work.joint_variables += self.size
        self._solver.changeColsCost(self.size, np.arange(self.size, dtype=np.int32), objective)
        self._solver.run()
        status = self._solver.getModelStatus()
        if status == highs.HighsModelStatus.kOptimal:
            found = np.array(self._solver.getSolution().col_value)
            work.fractional += bool(np.abs(found - np.round(found)).max(initial=0) > CLOSE)
            return found
        self._solver.clearSolver()
        if status in (highs.HighsModelStatus.kUnbounded, highs.HighsModelStatus.kUnboundedOrInfeasible):
            raise Unbounded
        return None

    def note_changes(self, found: Vector, targets: Sequence[Target], bank: Bank) -> None:
        """Notes the changes that a solution gives targets, rounded towards none."""
        changes, needed = self._sum_changes(found)
        whole = {population: _round_inwards(change) for population, change in changes.items()}
        for target in list_open(bank, targets):
            if target.population in whole:
                note_change(bank, target, int(whole[target.population][target.position][target.figure]), needed)

    def _sum_changes(self, found: Vector) -> tuple[dict[Population, Vector], frozenset[Position]]:
        """Returns what changes of each population, [school + 1, year + 1, published figure], and where."""
        tables = self._plan.tables
        changes: dict[Population, Vector] = {}
        needed: set[Position] = set()
        for name, positions in self.positions.items():
            for side in tables.splits[name].sides:
                population = Population(name, side)
                change = np.zeros((*tables.shape, self._length))
                for position in positions:
                    for offset, factor in self._list_terms(population, position):
                        change[position] += factor * found[offset : offset + self._length]
                _add_changes(change, self._sums[name])
                changes[population] = change @ tables.layout.published
                if side == "first":
                    moved = np.argwhere(np.abs(change).max(-1) > CLOSE / 10)
                    needed |= {(int(school), int(year)) for school, year in moved}
        return changes, frozenset(needed)

    def list_positions(self, target: Target) -> frozenset[Position]:
        """All positions that a change without bound may need."""
        return frozenset({target.position, *(position for positions in self.positions.values() for position in positions)})


def _round_inwards(change: Vector) -> Integers:
    """Rounds changes towards none, unless they are whole but for the solver's tolerance."""
    return np.asarray(np.sign(change) * np.floor(np.abs(change) + CLOSE)).astype(np.int64)


def _add_changes(change: Vector, sums: ShownSums) -> None:
    schools, years = sums.of_year.shape
    change[:schools, years] = change[:schools, :years].sum(1)
    change[schools, :years] = (change[:schools, :years] * sums.pooled[..., None]).sum(0)
    change[schools, years] = (change[:schools, years] * sums.pooled_schools[:, None]).sum(0)


def _open_solver(matrix: csr_array, row_low: Vector, row_high: Vector, low: Vector, high: Vector) -> highs._Highs:
    solver = highs._Highs()
    for name, value in _OPTIONS.items():
        solver.setOptionValue(name, value)
    model = highs.HighsLp()
    model.num_row_, model.num_col_ = matrix.shape
    model.col_cost_, model.col_lower_, model.col_upper_ = np.zeros(matrix.shape[1]), low, high
    model.row_lower_, model.row_upper_ = row_low, row_high
    model.a_matrix_.format_ = highs.MatrixFormat.kRowwise
    model.a_matrix_.num_row_, model.a_matrix_.num_col_ = matrix.shape
    model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = matrix.indptr, matrix.indices, matrix.data
    model.sense_ = highs.ObjSense.kMaximize
    solver.passModel(model)
    return solver
