"""Disclosure control: which rows of an aggregate answer are hidden, so that no small group of children can be
calculated from it.

*Primary* suppression hides a row of 1 to 5 eligible pupils, as the DfE does: its performance tables publish nothing for
fewer than six. *Complementary* suppression hides further rows, because whoever knows a total (of the school, of the
trust, of the boys) subtracts what is shown from it. Two readers are guarded against: one knows all totals of an answer
over any of its dimensions, and that no count is below zero; the other also has the coarser answers. From the rows
neither can calculate a hidden row that has pupils, or a small sum of hidden rows. An answer cannot protect what totals
disclose without any row: that a Year 2 of three is taught in one school alone; or, where no girl is disadvantaged, what
SEN by sex and SEN by disadvantage together say of the disadvantaged boys.

The method is the *hypercube method* of statistical disclosure control (Repsilber; also in tau-ARGUS). A hidden row is a
corner of a hidden box, two values along each dimension: a line in one dimension, a rectangle in two, a cube in three.
Moving pupils round the corners, one more here and one fewer there, changes each corner and no total, so that no
arithmetic on totals can find where they were. Boxes are added until every group of rows whose sum can be calculated
counts at least the threshold; the box that hides the fewest further pupils is taken first. The search is exact enough
for tables of real schools; where most rows of a three-way table are empty it is a heuristic (one of 40,000 such
generated tables disclosed the sum of two rows).

- School, year group, sex, disadvantaged, EAL and SEN divide pupils, each into parts whose counts add up. Subjects and
  windows do not: they count the same pupils again. A group hidden in one subject is hidden in all of them, RWM
  included, since its size hardly differs between them; each window is suppressed by itself.
- A group hidden by a coarser query stays hidden in a finer one: every part of a small group is hidden, and the box
  around it is hidden again wherever the group has pupils. Otherwise the parts shown would add up to what was hidden.
- An empty row discloses nothing of a child, so it is shown (as `z`), with two exceptions: inside a small group, where
  "none of the three is in this category" says what all three are; and as a corner of a box where there is no other box,
  as in a school with girls only beside a school with three girls.
- Where nobody or everybody is disadvantaged, the other part is the whole group, and both parts are hidden whatever
  their size, as in the DfE's key stage 2 tables (124937 in 2018: 26 pupils, none disadvantaged, others suppressed). A
  school for girls is no secret.
- 0 % and 100 % need no rule of their own: what they disclose, they disclose of a small group, and that is hidden whole.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import combinations, product
from math import prod
from typing import Literal, NamedTuple

THRESHOLD = 6
"""The smallest group that is published. A trust may raise it, nobody may lower it."""

REPEATING = frozenset({"subject", "window"})
"""Dimensions along which the same pupils are counted again; every other dimension divides them."""

LISTED = frozenset({"sex", "disadvantaged", "eal", "sen"})
"""Dimensions of which every category is listed: a missing row would disclose that the group is empty. Year groups are
listed only where a school has them, which is public."""

_MAX_PARTNERS = 4
"""Partners tried along each dimension before all of them are, so that the search for a box is linear in the rows."""
_MAX_SUMMANDS = 5
"""Rows whose small sum is searched for. Without a limit the search would grow with the empty rows."""

EXCLUSIVE = ("disadvantaged", ("true", "false"))
"""A dimension, and two of its categories. An answer must not disclose that everybody is in the same one."""

Reason = Literal["primary", "complement"]
Cell = tuple[int, ...]
"""A position in a table: one rank for each of its axes."""


class EligibleRow(NamedTuple):
    """A row of an aggregate answer: the values of its dimensions, in order, and its number of eligible pupils."""

    values: tuple[Hashable, ...]
    eligible: int


def suppress(rows: Sequence[EligibleRow], dimensions: tuple[str, ...], threshold: int = THRESHOLD) -> list[Reason | None]:
    """Decides which rows of one aggregate answer are hidden.

    Args:
        rows: The whole answer, each combination of values once, with the empty rows of every category in LISTED. Whole
            also means: all the schools whose pupils a published total pools, and all the subjects and categories that
            may be queried. A query for some of them is filtered *after* suppression; filtered before, two queries would
            differ by the very group that one of them hides.
        dimensions: The names of the rows' values. At most three of them divide pupils (a fourth takes seconds, not
            milliseconds).
        threshold: The smallest number of eligible pupils that is published.

    Returns:
        For each row, in order: None (shown), "primary" (a small group) or "complement" (hidden to protect one). The
        decision on a row does not depend on the order of the rows.

    Raises:
        ValueError: The threshold is below six, or the rows are not a whole answer.
    """
    if threshold < THRESHOLD:
        raise ValueError(f"threshold {threshold} is below {THRESHOLD}")
    _check_whole(rows, dimensions)
    ranks = [_rank_values({row.values[i] for row in rows}) for i in range(len(dimensions))]
    dividing = [i for i, name in enumerate(dimensions) if name not in REPEATING]
    window = [i for i, name in enumerate(dimensions) if name == "window"]
    subject = next((i for i, name in enumerate(dimensions) if name == "subject"), None)
    subjects = 1 if subject is None else len(ranks[subject])

    windows: defaultdict[Cell, defaultdict[Cell, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0] * subjects))
    positions: list[tuple[Cell, Cell]] = []
    for row in rows:
        row_ranks = [rank[value] for rank, value in zip(ranks, row.values, strict=True)]
        in_window, cell = tuple(row_ranks[i] for i in window), tuple(row_ranks[i] for i in dividing)
        windows[in_window][cell][0 if subject is None else row_ranks[subject]] = row.eligible
        positions.append((in_window, cell))

    exclusive = None
    if EXCLUSIVE[0] in dimensions:
        at_dimension = dimensions.index(EXCLUSIVE[0])
        pair = [ranks[at_dimension][value] for value in EXCLUSIVE[1] if value in ranks[at_dimension]]
        exclusive = (dividing.index(at_dimension), pair)
    hidden = {in_window: _choose_hidden(counts, threshold, exclusive) for in_window, counts in windows.items()}
    return [
        _find_reason(row.eligible, cell in hidden[in_window], threshold)
        for row, (in_window, cell) in zip(rows, positions, strict=True)
    ]


def _find_reason(eligible: int, hidden: bool, threshold: int) -> Reason | None:
    if not hidden:
        return None
    return "primary" if 0 < eligible < threshold else "complement"


def _rank_values(values: set[Hashable]) -> dict[Hashable, int]:
    """Numbers a dimension's values in their own order, so that ties are broken the same way whatever the order of the
    rows."""
    return {value: rank for rank, value in enumerate(sorted(values, key=lambda value: (value is not None, str(value))))}


def _check_whole(rows: Sequence[EligibleRow], dimensions: tuple[str, ...]) -> None:
    """Raises ValueError for a duplicate row, and for a missing row of a dimension in LISTED: both would make the
    arithmetic silently wrong."""
    duplicates = [values for values, times in Counter(row.values for row in rows).items() if times > 1]
    if duplicates:
        raise ValueError(f"given twice: {duplicates}")
    listed = [i for i, name in enumerate(dimensions) if name in LISTED]
    others = [i for i, name in enumerate(dimensions) if name not in LISTED]
    categories = prod(len({row.values[i] for row in rows}) for i in listed)
    groups = Counter(tuple(row.values[i] for i in others) for row in rows)
    incomplete = [group for group, count in groups.items() if count < categories]
    if incomplete:
        raise ValueError(f"categories of {', '.join(dimensions[i] for i in listed)} are missing at {incomplete}")


def _choose_hidden(counts: Mapping[Cell, Sequence[int]], threshold: int, exclusive: tuple[int, list[int]] | None) -> set[Cell]:
    """Returns the cells to hide in one window. `counts` are the eligible pupils of each cell in each subject.

    Every collapsed table is protected before the tables finer than it, exactly as where it is the answer to a query of
    its own. An axis with one value divides nothing and is left out: a single school has no other among which it can be
    hidden.
    """
    width = len(next(iter(counts)))
    axes = tuple(axis for axis in range(width) if len({cell[axis] for cell in counts}) > 1)
    tables: dict[tuple[int, ...], _Table] = {}
    for chosen in (chosen for size in range(len(axes) + 1) for chosen in combinations(axes, size)):
        table = _Table(_collapse(counts, chosen), threshold)
        if exclusive is not None and exclusive[0] in chosen:
            table.hide_everybody(chosen.index(exclusive[0]), exclusive[1])
        for coarser in tables:
            if set(coarser) < set(chosen):
                table.inherit(tables[coarser], tuple(chosen.index(axis) for axis in coarser))
        table.protect()
        tables[chosen] = table
    return {cell for cell in counts if tuple(cell[axis] for axis in axes) in tables[axes].hidden}


def _collapse(counts: Mapping[Cell, Sequence[int]], axes: tuple[int, ...]) -> dict[Cell, tuple[int, ...]]:
    collapsed: dict[Cell, tuple[int, ...]] = {}
    for cell, eligible in counts.items():
        coarse = tuple(cell[axis] for axis in axes)
        collapsed[coarse] = (
            tuple(map(sum, zip(collapsed[coarse], eligible, strict=True))) if coarse in collapsed else tuple(eligible)
        )
    return collapsed


class _Box:
    """Two values along each of some axes: the first corner is the one that is protected."""

    def __init__(self, even: Sequence[Cell], odd: Sequence[Cell]) -> None:
        """`even` and `odd` are the corners an even and an odd number of steps from the first."""
        self.even, self.odd, self.corners = even, odd, (*even, *odd)
        self._signs = dict.fromkeys(even, 1) | dict.fromkeys(odd, -1)

    def change(self, group: tuple[Cell, ...]) -> int:
        """Returns what moving one pupil round the box adds to the sum of a group. Where it is 0, the box does not
        protect the sum."""
        return sum([self._signs.get(cell, 0) for cell in group])


class _Table:
    """The pupils of one window counted along some axes, and the hidden cells."""

    def __init__(self, counts: dict[Cell, tuple[int, ...]], threshold: int) -> None:
        self.counts = counts
        self.threshold = threshold
        self.small = {cell for cell, eligible in counts.items() if any(0 < count < threshold for count in eligible)}
        self.hidden = set(self.small)
        self.boxes: list[_Box] = []
        self._touching: defaultdict[tuple[Cell, int, int], list[_Box]] = defaultdict(list)  # by corner, subject, least firmness
        self._lines: defaultdict[tuple[int, Cell], list[Cell]] = defaultdict(list)
        for cell in sorted(counts):
            for line in _list_lines(cell):
                self._lines[line].append(cell)
        self._totals = {
            line: [sum(eligible) for eligible in zip(*(counts[cell] for cell in cells), strict=True)]
            for line, cells in self._lines.items()
        }

    def inherit(self, coarser: "_Table", axes: tuple[int, ...]) -> None:
        """Hides what a coarser table hides. `axes` are the indexes of its axes among this table's."""
        parts: defaultdict[Cell, list[Cell]] = defaultdict(list)
        for cell in self.counts:
            parts[tuple(cell[axis] for axis in axes)].append(cell)
        for cell in coarser.small:
            self.hidden.update(parts[cell])
        for box in coarser.boxes:
            for part in parts[box.even[0]]:
                if any(self.counts[part]):
                    corners = (_move_along(part, axes, corner) for corner in box.corners)
                    self.hidden.update(corner for corner in corners if corner in self.counts)
            for corner in box.corners:
                peopled = [part for part in parts[corner] if any(self.counts[part])]
                if peopled and self.hidden.isdisjoint(peopled):
                    self.hidden.add(min(peopled, key=lambda part: (sum(self.counts[part]), part)))

    def hide_everybody(self, axis: int, pair: Sequence[int]) -> None:
        """Hides a cell whose twin is empty: everybody is then in the same one of the two categories."""
        for cell in [cell for cell in self.counts if cell[axis] in pair]:
            twins = [
                self.counts[twin] for value in pair if value != cell[axis] and (twin := _step(cell, axis, value)) in self.counts
            ]
            if any(count and not other[subject] for other in twins for subject, count in enumerate(self.counts[cell])):
                self.hidden.add(cell)

    def protect(self) -> None:
        """Hides boxes until no hidden cell can be calculated, alone or in a small sum."""
        waiting = deque(sorted(self.hidden, key=lambda cell: (self.counts[cell], cell)))
        while waiting:
            cell = waiting.popleft()
            for subject, count in enumerate(self.counts[cell]):
                for box in self._find_boxes(cell, subject) if count else ():
                    waiting.extend(corner for corner in box.corners if corner not in self.hidden)
                    self._hide(box)

    def _find_boxes(self, cell: Cell, subject: int) -> Iterator[_Box]:
        """Yields the boxes still needed to protect a cell, the firmest first. Each must be hidden before the next is
        requested."""
        for firmness in (2, 1, 0):
            while group := self._find_recoverable((cell,), subject, firmness):
                box = self._find_cheapest(group, subject, firmness)
                if box is None:
                    break
                yield box
            else:
                return

    def _hide(self, box: _Box) -> None:
        self.hidden.update(box.corners)
        self.boxes.append(box)
        for subject in range(len(self.counts[box.corners[0]])):
            firmness = self._rate_firmness(box, subject)
            for corner, least in product(box.corners, range(firmness + 1)):
                self._touching[corner, subject, least].append(box)

    def _rate_firmness(self, box: _Box, subject: int) -> int:
        """Returns 2 where pupils can be moved round the box without a count below zero, 1 where totals show no corner
        to be empty, else 0."""
        counts = self.counts
        if all(counts[cell][subject] for cell in box.even) or all(counts[cell][subject] for cell in box.odd):
            return 2
        return int(all(self._totals[line][subject] for cell in box.corners for line in _list_lines(cell)))

    def _find_recoverable(self, group: tuple[Cell, ...], subject: int, firmness: int) -> tuple[Cell, ...] | None:
        """Returns a group, grown from this one, that no hidden box protects, where it is a single cell or a small sum;
        else None.

        A sum can be calculated only if no box changes it, so a box that does change it forces another of its corners
        into the group.
        """
        if self._is_total(group, subject):
            return None
        boxes = (box for cell in group for box in self._touching.get((cell, subject, firmness), ()))
        box = next((box for box in boxes if box.change(group)), None)
        if box is None:
            return group
        if len(group) == _MAX_SUMMANDS:
            return None
        room = self.threshold - sum([self.counts[cell][subject] for cell in group])
        for corner in box.odd if box.change(group) > 0 else box.even:
            if corner not in group and self.counts[corner][subject] < room:
                recoverable = self._find_recoverable((*group, corner), subject, firmness)
                if recoverable:
                    return recoverable
        return None

    def _is_total(self, group: tuple[Cell, ...], subject: int) -> bool:
        """Whether a group is all that is unknown of a line through its first cell. Its sum is then the line's total, a
        cell of a coarser table."""
        if len(group) == 1:
            return False
        lines = (self._lines[line] for line in _list_lines(group[0]) if self._totals[line][subject] < self.threshold)
        return any(all(part in group or not (part in self.hidden or self.counts[part][subject]) for part in line) for line in lines)

    def _find_cheapest(self, group: tuple[Cell, ...], subject: int, firmness: int) -> _Box | None:
        """Returns the box round a group's first cell that changes the group's sum and hides the fewest further pupils.

        For a cell without neighbours along some axis (the only school with a Year 2) it is a box along the other axes.
        """
        axes = range(len(group[0]))
        for size in (len(axes),) if firmness or len(group) > 1 else range(len(axes), 0, -1):
            for max_partners in (_MAX_PARTNERS, None):
                best, least = None, (0, 0)
                for box in (
                    box for chosen in combinations(axes, size) for box in self._list_boxes(group[0], chosen, subject, max_partners)
                ):
                    if self._rate_firmness(box, subject) < firmness or not box.change(group):
                        continue
                    empty = sum([not self.counts[corner][subject] for corner in box.corners])
                    cost = sum([sum(self.counts[corner]) for corner in box.corners if corner not in self.hidden])
                    if best is None or (empty, cost) < least:
                        best, least = box, (empty, cost)
                    if least == (0, 0):
                        break
                if best:
                    return best
        return None

    def _list_boxes(self, cell: Cell, axes: tuple[int, ...], subject: int, max_partners: int | None) -> Iterator[_Box]:
        """Yields the boxes along these axes with a corner at this cell, those with its best neighbours first."""

        def preference(neighbour: Cell) -> tuple[bool, bool, int, Cell]:
            eligible = self.counts[neighbour]
            return not eligible[subject], neighbour not in self.hidden, sum(eligible), neighbour

        partners = []
        for axis in axes:
            neighbours = [other for other in self._lines[_list_lines(cell)[axis]] if other != cell]
            partners.append([other[axis] for other in sorted(neighbours, key=preference)[:max_partners]])
        for values in product(*partners):
            even, odd = [cell], list[Cell]()
            for axis, value in zip(axes, values, strict=True):
                even, odd = (
                    even + [_step(corner, axis, value) for corner in odd],
                    odd + [_step(corner, axis, value) for corner in even],
                )
            if all(corner in self.counts for corner in (*even, *odd)):
                yield _Box(even, odd)


def _step(cell: Cell, axis: int, value: int) -> Cell:
    """Returns the cell with this value on this axis."""
    return (*cell[:axis], value, *cell[axis + 1 :])


def _list_lines(cell: Cell) -> list[tuple[int, Cell]]:
    """Returns the keys of the lines through a cell, one along each axis. The cells of a line differ on that axis alone."""
    return [(axis, _step(cell, axis, -1)) for axis in range(len(cell))]


def _move_along(cell: Cell, axes: tuple[int, ...], values: Cell) -> Cell:
    for axis, value in zip(axes, values, strict=True):
        cell = _step(cell, axis, value)
    return cell
