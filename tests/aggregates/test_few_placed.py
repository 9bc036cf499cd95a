"""A school of which few pupils have a place, such as one who came from a school of another scheme: no figure is theirs alone, nor leaves them over."""

from random import Random
from typing import Any

import pytest

from domain.aggregates.groups import PupilGroup, leave_out_few, make_row, withhold_parts
from domain.aggregates.results import Categories, GroupFacts, GroupKey, PupilCounts

DIMENSIONS = ("school", "subject", "window")


def group(school: str | None, eligible: int, placed: int, *, internal: bool = False, sex: str | None = None) -> PupilGroup:
    """Pupils of a school, or of all: half of the placed are expected, a third is higher, and their values are 10 each."""
    facts = GroupFacts(1, internal, 6, 1, "2026-10-01", "trust", 1, school)
    counts = PupilCounts(eligible, eligible, eligible, placed // 2, placed // 3, placed, placed, placed, 1000 * placed, True)
    return PupilGroup(GroupKey(school, "reading", "w", "2026-27", None, None), Categories(sex), facts, counts)


def rows(groups: list[PupilGroup], of_schools: list[PupilGroup], dimensions: tuple[str, ...]) -> list[Any]:
    leave_out_few(groups, of_schools, dimensions)
    withhold_parts(groups, of_schools, dimensions)
    return [make_row(each, with_reason=False) for each in groups]


def figures(row: Any) -> tuple[Any, ...]:
    return row.expected_of, row.expected_percent, row.higher_of, row.average_of, row.average, row.expected_status


@pytest.mark.parametrize("placed", [1, 5, 6, 149, 150])
def test_few_placed_pupils_are_shown_to_readers_of_every_child_alone(placed: int) -> None:
    (told,) = rows(of := [group("Ash", 150, placed)], of, DIMENSIONS)
    is_few = placed < 6
    assert (told.eligible, told.valid) == (150, 150)
    assert (figures(told)[0], figures(told)[3:]) == (
        None if is_few else placed,
        (None, None, "x") if is_few else (placed, 10.0, None),
    )
    (seen,) = rows(of := [group("Ash", 150, placed, internal=True)], of, DIMENSIONS)
    assert (seen.expected_of, seen.average_of) == (placed, placed)


def test_groups_that_are_divided_further_are_shown_where_every_pupil_is_placed() -> None:
    of_schools = [group("Ash", 150, 7)]
    divided = [group("Ash", 75, 6, sex="F"), group("Ash", 75, 1, sex="M"), group("Oak", 40, 40, sex="F")]
    assert [figures(row)[0] for row in rows(divided, of_schools, (*DIMENSIONS, "sex"))] == [None, None, 40]


def test_the_trust_less_the_shown_schools_leaves_nobody() -> None:
    random = Random(17)
    for _ in range(300):
        sizes = [(eligible, random.choice((0, 1, 3, 5, 6, eligible))) for eligible in random.choices(range(7, 60), k=5)]
        schools = [group(f"School {n}", *size) for n, size in enumerate(sizes)]
        whole = group(None, *map(sum, zip(*sizes, strict=True)))
        whole.counts.expected = sum(placed // 2 for _, placed in sizes)
        (trust,) = rows([whole], schools, ("subject", "window"))
        told = [row for row in rows(schools, schools, DIMENSIONS) if row.expected_of is not None]
        left = (trust.expected_of or 0) - sum(row.expected_of for row in told)
        assert left == 0
        assert (trust.expected or 0) - sum(row.expected for row in told) == 0
        assert (trust.average_of or 0) - sum(row.average_of or 0 for row in told) == 0
