"""Disclosure control, tried by readers who subtract: what they may not find is computed here by linear algebra and linear programming."""

from collections import Counter
from functools import cache
from itertools import combinations, product
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from domain.aggregates.disclosure import THRESHOLD, EligibleRow, suppress

CATEGORIES = {
    "school": tuple("ABCDE"),
    "yearGroup": tuple("12345"),
    "sex": ("F", "M"),
    "disadvantaged": (False, True),
    "eal": (None, False, True),
    "sen": tuple("NKE"),
}
Vector = np.ndarray


def table(text):
    """Rows of a two-way table written as lines of `category: count count …`; columns are numbered."""
    lines = [line.split() for line in text.strip().splitlines()]
    return [EligibleRow((name.rstrip(":"), column), int(count)) for name, *counts in lines for column, count in enumerate(counts)]


def hidden(rows, dimensions, threshold=THRESHOLD):
    decisions = suppress(rows, dimensions, threshold)
    return {row.values: decision for row, decision in zip(rows, decisions, strict=True) if decision}


def collapse(rows, kept):
    totals = Counter()
    for row in rows:
        totals[tuple(row.values[i] for i in kept)] += row.eligible
    return [EligibleRow(values, eligible) for values, eligible in totals.items()]


# One dimension


def test_nothing_is_hidden_where_no_group_is_small():
    rows = [EligibleRow(values, 6) for values in product("ABC", ("1", "2"), ("reading", "maths"), ("F", "M"))]
    assert hidden(rows, ("school", "window", "subject", "sex")) == {}


def test_of_two_categories_both_are_hidden():
    rows = [EligibleRow(("F",), 5), EligibleRow(("M",), 30)]
    assert hidden(rows, ("sex",)) == {("F",): "primary", ("M",): "complement"}


def test_of_several_categories_the_smallest_other_one_is_hidden():
    rows = [EligibleRow(("N",), 40), EligibleRow(("K",), 10), EligibleRow(("E",), 3)]
    assert hidden(rows, ("sen",)) == {("E",): "primary", ("K",): "complement"}


def test_small_groups_protect_each_other_only_if_together_they_are_not_small():
    assert set(hidden([EligibleRow((y,), n) for y, n in (("1", 2), ("2", 3), ("3", 30), ("4", 9))], ("yearGroup",))) == {
        ("1",),
        ("2",),
        ("4",),
    }
    assert set(hidden([EligibleRow((y,), n) for y, n in (("1", 2), ("2", 4), ("3", 30), ("4", 9))], ("yearGroup",))) == {
        ("1",),
        ("2",),
    }


def test_equal_complements_are_distinguished_by_their_names():
    rows = [EligibleRow((school,), 3 if school == "B" else 20) for school in "DCBA"]
    assert set(hidden(rows, ("school",))) == {("A",), ("B",)}


def test_an_empty_group_is_shown_beside_a_hidden_one():
    rows = [EligibleRow(("N",), 40), EligibleRow(("K",), 3), EligibleRow(("E",), 0)]
    assert set(hidden(rows, ("sen",))) == {("N",), ("K",)}


def test_inside_a_small_group_not_even_an_empty_category_is_shown():
    rows = [EligibleRow(("N",), 0), EligibleRow(("K",), 3), EligibleRow(("E",), 0)]
    assert hidden(rows, ("sen",)) == {("N",): "complement", ("K",): "primary", ("E",): "complement"}


def test_a_large_group_in_one_category_is_shown():
    assert hidden([EligibleRow(("F",), 40), EligibleRow(("M",), 0)], ("sex",)) == {}


def test_a_school_alone_has_no_neighbour_to_hide_behind():
    assert hidden([EligibleRow(("A",), 4)], ("school",)) == {("A",): "primary"}
    assert hidden([EligibleRow(("A",), 6)], ("school",)) == {}
    assert hidden([EligibleRow((), 4)], ()) == {(): "primary"}
    assert hidden([], ("school",)) == {}


# Two and three dimensions


def test_a_single_school_hides_just_the_pair():
    rows = [EligibleRow(("A", year, sex), 3 if (year, sex) == ("2", "F") else 15) for year, sex in product("123", "FM")]
    assert set(hidden(rows, ("school", "yearGroup", "sex"))) == {("A", year, sex) for year, sex in product("12", "FM")}
    assert hidden(table("A: 3 30"), ("school", "sex")) == {("A", 0): "primary", ("A", 1): "complement"}


def test_the_boys_of_the_trust_are_known_so_one_more_school_hides_its_pair():
    rows = table("""
        A: 3 30
        B: 20 20
        C: 25 12
        D: 14 16""")
    assert hidden(rows, ("school", "sex")) == {
        ("A", 0): "primary",
        ("A", 1): "complement",
        ("D", 0): "complement",
        ("D", 1): "complement",
    }


def test_a_girls_school_hides_its_empty_row_where_no_other_school_can_help():
    rows = table("""
        A: 3 30
        B: 40 0""")
    assert len(hidden(rows, ("school", "sex"))) == 4


def test_two_hidden_rows_in_every_line_are_not_enough():
    """Two squares of small groups and C1, which joins them: C1 is columns 0 and 1 less schools A and B, though no line hides one row."""
    rows = table("""
        A: 5 5 30 30
        B: 5 5 30 30
        C: 30 5 5 5
        D: 30 30 5 5""")
    totals = with_empty_rows(rows, [total for kept in collapsed("ab") for total in vectors(rows, kept).values()])
    joining = np.eye(len(rows))[9]
    assert rows[9] == EligibleRow(("C", 1), 5)
    only_small = Reader(rows, [*totals, *np.eye(len(rows))[[row.eligible >= THRESHOLD for row in rows]]])
    assert only_small.computes(joining)
    decided = hidden(rows, ("school", "yearGroup"))
    assert not Reader(rows, [*totals, *np.eye(len(rows))[[row.values not in decided for row in rows]]]).computes(joining)
    assert len(decided) == 10


def test_a_finer_question_does_not_add_up_to_what_a_coarser_one_hides():
    """By SEN alone, E hides behind N; by SEN and sex, E would hide behind K, and the parts of N would be shown."""
    rows = [
        EligibleRow((sen, sex), n)
        for sen, counts in {"E": (3, 0), "K": (10, 10), "N": (12, 7)}.items()
        for sex, n in zip("FM", counts, strict=True)
    ]
    assert set(hidden(collapse(rows, (0,)), ("sen",))) == {("E",), ("N",)}
    assert {("E", "F"), ("E", "M"), ("N", "F"), ("N", "M")} <= set(hidden(rows, ("sen", "sex")))


def test_rows_known_to_be_empty_hide_nobody():
    """With Year 2 shown, all girls are in it, so that the empty rows of Years 1 and 3 would protect neither year's boys."""
    rows = table("""
        1: 0 9
        2: 9 0
        3: 0 4""")
    assert len(hidden(rows, ("yearGroup", "sex"))) == 6


def test_a_finer_question_does_not_give_away_a_small_group_with_its_empty_neighbour():
    """N (5) hides behind E (9). Were E shown in school A, where all of it is, what N and E have together would leave N."""
    rows = table("""
        N: 0 5
        K: 23 13
        E: 9 0""")
    assert set(hidden(collapse(rows, (0,)), ("sen",))) == {("N",), ("E",)}
    assert ("E", 0) in hidden(rows, ("sen", "school"))


def test_a_small_group_is_not_given_away_by_its_line():
    """Were E shown, Year 1 less its 19 would leave the one pupil of N, K being empty."""
    rows = table("""
        N: 1 0
        K: 0 7
        E: 19 0""")
    assert len(hidden(rows, ("sen", "yearGroup"))) == 6


def test_schools_without_the_year_groups_in_question_are_passed_over():
    rows = [EligibleRow((school, "1"), 10) for school in "BCDE"]
    rows += [EligibleRow(("A", "1"), 3), EligibleRow(("A", "2"), 30), EligibleRow(("F", "1"), 40), EligibleRow(("F", "2"), 40)]
    assert set(hidden(rows, ("school", "yearGroup"))) == {("A", "1"), ("A", "2"), ("F", "1"), ("F", "2")}


def test_a_year_group_taught_in_one_school_hides_within_the_school():
    rows = [EligibleRow(("A", "1"), 20), EligibleRow(("A", "2"), 3), EligibleRow(("B", "8"), 10), EligibleRow(("B", "9"), 50)]
    assert set(hidden(rows, ("school", "yearGroup"))) >= {("A", "1"), ("A", "2")}


def test_what_is_hidden_stays_modest_in_a_large_trust():
    random = Random(75)
    rows = [EligibleRow((school, year, sex), random.randint(11, 19)) for school, year, sex in product(range(75), range(1, 7), "FM")]
    rows[100] = rows[100]._replace(eligible=4)
    assert len(hidden(rows, ("school", "yearGroup", "sex"))) == 8


# Subjects, windows, thresholds


def test_a_group_hidden_in_one_subject_is_hidden_in_every_subject():
    counts = {"reading": (5, 20), "maths": (6, 19), "rwm": (0, 18)}
    rows = [EligibleRow((subject, sex), n) for subject, pair in counts.items() for sex, n in zip("FM", pair, strict=True)]
    assert hidden(rows, ("subject", "sex")) == {row.values: "primary" if row.eligible == 5 else "complement" for row in rows}


def test_the_complement_protects_in_every_subject():
    """In reading E hides behind K, the smaller; in writing nobody is in K, so that N is hidden too."""
    counts = {"reading": (30, 10, 3), "writing": (30, 0, 4)}
    rows = [EligibleRow((sen, subject), n) for subject, row in counts.items() for sen, n in zip("NKE", row, strict=True)]
    assert set(hidden([row for row in rows if row.values[1] == "reading"], ("sen", "subject"))) == {
        ("E", "reading"),
        ("K", "reading"),
    }
    assert set(hidden(rows, ("sen", "subject"))) == {row.values for row in rows}


def test_each_window_is_decided_by_itself():
    counts = {"autumn": (5, 20), "spring": (6, 20)}
    rows = [EligibleRow((window, sex), n) for window, pair in counts.items() for sex, n in zip("FM", pair, strict=True)]
    assert set(hidden(rows, ("window", "sex"))) == {("autumn", "F"), ("autumn", "M")}


def test_a_trust_may_raise_the_threshold_but_not_lower_it():
    rows = [EligibleRow(("F",), 9), EligibleRow(("M",), 30)]
    assert hidden(rows, ("sex",)) == {}
    assert hidden(rows, ("sex",), 10) == {("F",): "primary", ("M",): "complement"}
    with pytest.raises(ValueError, match="5 is below 6"):
        suppress(rows, ("sex",), 5)


def test_rows_that_are_not_a_whole_answer_are_refused():
    rows = table("""
        A: 3 30
        B: 40 7""")
    with pytest.raises(ValueError, match=r"sex are missing at .*'B',"):
        suppress(rows[:3], ("school", "sex"))
    with pytest.raises(ValueError, match=r"given twice: .*'A', 0"):
        suppress([*rows, rows[0]], ("school", "sex"))
    assert (
        hidden([EligibleRow(("A", "2"), 20), EligibleRow(("B", "9"), 90)], ("school", "yearGroup")) == {}
    )  # a school has its own year groups


# Readers who subtract


@st.composite
def answers(draw):
    """A whole answer of one to three dimensions that divide pupils, with many small groups and some empty ones."""
    names = draw(st.lists(st.sampled_from(sorted(CATEGORIES)), min_size=1, max_size=3, unique=True))
    values = [CATEGORIES[name][: draw(st.integers(2, 5)) if name in ("school", "yearGroup") else None] for name in names]
    cells = list(product(*values))
    most = draw(st.sampled_from((8, 14, 40)))
    counts = draw(st.lists(st.integers(0, most), min_size=len(cells), max_size=len(cells)))
    return tuple(names), [EligibleRow(cell, count) for cell, count in zip(cells, counts, strict=True)]


class Reader:
    """Someone who knows some sums of the rows of a table, each a 0/1 vector over the rows."""

    def __init__(self, rows, known):
        self.pupils = np.array([row.eligible for row in rows], float)
        self.known = np.array(known or [np.zeros(len(rows))])
        _, sizes, directions = np.linalg.svd(self.known)
        self.free = directions[int((sizes > 1e-9).sum()) :]  # ways in which the rows may differ with every known sum the same

    def computes(self, sums: Vector) -> bool:
        return not self.free.size or bool(np.abs(self.free @ sums).max() < 1e-9)

    def encloses(self, sums: Vector) -> bool:
        """Whether knowing that no row is below zero leaves one value only."""
        ends = [linprog(sign * sums, A_eq=self.known, b_eq=self.known @ self.pupils, method="highs") for sign in (1, -1)]
        assert all(end.status in (0, 3) for end in ends)
        return all(end.status == 0 for end in ends) and abs(ends[0].fun + ends[1].fun) < 1e-6


def with_empty_rows(rows, known):
    """What is known, and each row of a sum known to be 0."""
    pupils = np.array([row.eligible for row in rows])
    return [*known, *np.eye(len(rows))[[any(sums[i] and not sums @ pupils for sums in known) for i in range(len(rows))]]]


def vectors(rows, kept):
    """The cells of a collapsed table, as sums of rows."""
    cells = {tuple(row.values[i] for i in kept) for row in rows}
    return {cell: np.array([float(tuple(row.values[i] for i in kept) == cell) for row in rows]) for cell in cells}


def collapsed(dimensions):
    return [kept for size in range(len(dimensions)) for kept in combinations(range(len(dimensions)), size)]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(answers())
def test_a_reader_who_knows_every_total_recovers_nothing(answer):
    dimensions, rows = answer
    shown = [decision is None for decision in suppress(rows, dimensions)]
    totals = [total for kept in collapsed(dimensions) for total in vectors(rows, kept).values()]
    totals = with_empty_rows(rows, totals)
    before, after = Reader(rows, totals), Reader(rows, [*totals, *np.eye(len(rows))[shown]])
    whole = {tuple(total * before.pupils > 0) for total in totals}  # a small total is small whatever is shown

    @cache
    def known_before(sums):
        return before.computes(np.array(sums)) or before.encloses(np.array(sums))

    closed = [row for row, is_shown in zip(np.eye(len(rows)), shown, strict=True) if not is_shown and row @ before.pupils]
    for row in closed:
        assert not after.computes(row) or known_before(tuple(row))
    small = [row for row in closed if row @ before.pupils < THRESHOLD]
    for group in (group for size in (2, 3) for group in combinations(small[:12], size)):
        sums = np.sum(group, axis=0)
        if sums @ before.pupils < THRESHOLD and tuple(sums > 0) not in whole:
            assert not after.computes(sums) or known_before(tuple(sums))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(answers())
def test_a_reader_who_knows_that_no_count_is_below_zero_recovers_nothing(answer):
    dimensions, rows = answer
    shown = [decision is None for decision in suppress(rows, dimensions)]
    totals = [total for kept in collapsed(dimensions) for total in vectors(rows, kept).values()]
    before, after = Reader(rows, totals), Reader(rows, [*totals, *np.eye(len(rows))[shown]])
    small = [vector for vector, row in zip(np.eye(len(rows)), rows, strict=True) if 0 < row.eligible < THRESHOLD]
    for row in small[:10]:
        assert not after.encloses(row) or before.encloses(row)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(answers())
def test_a_reader_who_puts_coarser_answers_beside_it_recovers_nothing(answer):
    dimensions, rows = answer
    known, secret = [], []
    for kept in [*collapsed(dimensions), tuple(range(len(dimensions)))]:
        coarser = list(known)
        answered, cells = collapse(rows, kept), vectors(rows, kept)
        for row, decision in zip(answered, suppress(answered, tuple(dimensions[i] for i in kept)), strict=True):
            (secret if decision else known).append(cells[row.values])
    secret = [sums for sums in secret if sums @ [row.eligible for row in rows]]
    reader = Reader(rows, known)
    assert not any(reader.computes(sums) for sums in secret)
    before, after = Reader(rows, with_empty_rows(rows, coarser)), Reader(rows, with_empty_rows(rows, known))
    assert not any(after.computes(sums) and not before.computes(sums) for sums in secret)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(answers(), st.lists(st.integers(0, 2), min_size=5, max_size=5), st.randoms(use_true_random=False))
def test_decisions_do_not_depend_on_the_order_of_rows_and_hide_every_small_group(answer, absent, random):
    """Three windows, two subjects; a few pupils of each group are not assessed in the second."""
    names, groups = answer
    dimensions = (*names, "window", "subject")
    rows = [
        EligibleRow((*row.values, window, subject), max(0, row.eligible + window - (absent[i % 5] if subject == "maths" else 0)))
        for i, row in enumerate(groups)
        for window, subject in product(range(3), ("reading", "maths"))
    ]
    decided = hidden(rows, dimensions)
    for row in rows:
        assert (decided.get(row.values) == "primary") == (0 < row.eligible < THRESHOLD)
    assert {values[:-1] for values in decided if values[-1] == "maths"} == {
        values[:-1] for values in decided if values[-1] == "reading"
    }
    shuffled = random.sample(rows, len(rows))
    assert hidden(shuffled, dimensions) == decided
    for window in range(3):
        alone = [row for row in rows if row.values[-2] == window]
        assert hidden(alone, dimensions) == {values: reason for values, reason in decided.items() if values[-2] == window}


@pytest.mark.parametrize(("disadvantaged", "others"), [(0, 26), (26, 0)])
def test_nobody_and_everybody_disadvantaged_are_hidden_whatever_the_size(disadvantaged: int, others: int) -> None:
    """As in the DfE's tables of 2018, where 124937 has 26 pupils, none disadvantaged, and its others are suppressed."""
    rows = [EligibleRow(("true",), disadvantaged), EligibleRow(("false",), others)]
    assert suppress(rows, ("disadvantaged",)) == ["complement", "complement"]


def test_a_school_for_girls_is_no_secret() -> None:
    assert suppress([EligibleRow(("F",), 26), EligibleRow(("M",), 0)], ("sex",)) == [None, None]


def test_a_school_without_disadvantaged_pupils_is_hidden_among_the_others_too() -> None:
    counts = {"a": (0, 26), "b": (10, 20), "c": (12, 30)}
    rows = [
        EligibleRow((school, value), n) for school, pair in counts.items() for value, n in zip(("true", "false"), pair, strict=True)
    ]
    hidden = {row.values for row, reason in zip(rows, suppress(rows, ("school", "disadvantaged")), strict=True) if reason}
    assert {("a", "true"), ("a", "false")} < hidden
    assert len(hidden) == 4
