"""Why the public is not told why: the labels primary and complement, given to a reader who knows the method and puts equal-looking tables together."""

from collections import Counter, defaultdict
from itertools import combinations, product

import pytest

from domain.aggregates.disclosure import EligibleRow, suppress

DIMENSIONS = ("school", "yearGroup")


def looks(counts, shape):
    """What a reader sees of a table, its collapsed tables included, and the labels of its rows."""
    cells, shown = list(product(*map(range, shape))), []
    for kept in (kept for size in range(len(shape) + 1) for kept in combinations(range(len(shape)), size)):
        totals = Counter()
        for cell, count in zip(cells, counts, strict=True):
            totals[tuple(cell[i] for i in kept)] += count
        labels = suppress([EligibleRow(*row) for row in totals.items()], tuple(DIMENSIONS[i] for i in kept))
        shown.append(tuple("c" if label else count for count, label in zip(totals.values(), labels, strict=True)))
    return tuple(shown), tuple(labels)


def readers(shape, most):
    """All tables of a shape: those that look the same, without the labels and with them."""
    without, with_labels = defaultdict(list), defaultdict(list)
    for counts in product(range(most + 1), repeat=len(list(product(*map(range, shape))))):
        shown, labels = looks(counts, shape)
        without[shown].append(counts)
        with_labels[shown, labels].append(counts)
    return without, with_labels


def possible(tables):
    """What each row may count, given the tables it may be."""
    return [set(column) for column in zip(*tables, strict=True)]


def test_two_hidden_rows_that_are_seven_together_are_distinguished_by_their_labels() -> None:
    without, with_labels = readers((2,), 15)
    shown, labels = looks((1, 6), (2,))
    assert (shown, labels) == (((7,), ("c", "c")), ("primary", "complement"))
    assert possible(without[shown]) == [{1, 2, 3, 4, 5, 6}] * 2
    assert possible(with_labels[shown, labels]) == [{1}, {6}]


def test_which_of_two_is_small_is_revealed_by_a_label_whatever_they_are_together() -> None:
    without, with_labels = readers((2,), 15)
    shown, labels = looks((3, 12), (2,))
    assert {12, 3} <= possible(without[shown])[0]
    assert possible(with_labels[shown, labels])[0] == {1, 2, 3, 4, 5} & possible(without[shown])[0]


@pytest.mark.parametrize(("shape", "most"), [((2,), 15), ((3,), 11), ((2, 2), 7)], ids=["two", "three", "two by two"])
def test_labels_reveal_counts_that_nothing_else_reveals(shape: tuple[int, ...], most: int) -> None:
    """In one dimension and in two there are tables of which a label gives a small count away exactly: no reader without every figure gets labels."""
    without, with_labels = readers(shape, most)
    given_away = [
        (shown, row)
        for (shown, labels), tables in with_labels.items()
        for row, label in enumerate(labels)
        if label == "primary" and len(possible(tables)[row]) == 1 < len(possible(without[shown])[row])
    ]
    assert given_away
