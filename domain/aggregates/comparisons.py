"""The differences between two sets of pupils: of percentages with Newcombe's interval, and of averages."""

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from math import sqrt

from domain.aggregates.comparison_rows import METHOD, AggregateChange, AggregateGap, AverageDifference, PercentageDifference, Unfit
from domain.aggregates.groups import compute_average
from domain.aggregates.query import ComparedGroups
from domain.aggregates.results import FoundWindow, PupilCounts

_Z = 1.959963984540054
"""The quantile of the normal distribution between whose negative and itself are 95 %."""


def find_wilson_interval(reached: int, of: int) -> tuple[float, float]:
    """Returns the score interval of 95 % of a proportion (Wilson 1927). `of` is more than 0."""
    share, square = reached / of, _Z * _Z
    centre, spread = reached + square / 2, _Z * sqrt(reached * (1 - share) + square / 4)
    # nobody and everybody are the ends themselves, which rounding would miss
    low = 0.0 if reached == 0 else (centre - spread) / (of + square)
    return low, 1.0 if reached == of else (centre + spread) / (of + square)


def find_newcombe_interval(reached: int, of: int, against: int, against_of: int) -> tuple[float, float]:
    """Returns the hybrid score interval of 95 % of the difference of two proportions: method 10 of R. G. Newcombe, "Interval estimation for the
    difference between independent proportions: comparison of eleven methods", Statistics in Medicine 17 (1998), 873-890.
    """
    first, second = reached / of, against / against_of
    (low, high), (low_against, high_against) = find_wilson_interval(reached, of), find_wilson_interval(against, against_of)
    below = sqrt((first - low) ** 2 + (high_against - second) ** 2)
    above = sqrt((high - first) ** 2 + (second - low_against) ** 2)
    return first - second - below, first - second + above


def make_gap(comparison: ComparedGroups, whole: PupilCounts, first: PupilCounts, second: PupilCounts) -> AggregateGap:
    """Returns the gap between two groups of the pupils of `whole`."""
    return AggregateGap(
        dimension=comparison.dimension,
        group=comparison.group,
        against=comparison.against,
        in_neither=whole.eligible - first.eligible - second.eligible,
        expected=_compare_standard(first, second, "expected"),
        higher=_compare_standard(first, second, "higher"),
        average=_compare_averages(first, second),
        method=METHOD,
    )


def make_change(now: PupilCounts, earlier: PupilCounts, window: FoundWindow) -> AggregateChange:
    """Returns the change since an earlier window."""
    return AggregateChange(
        from_window=window.code,
        from_academic_year=window.academic_year,
        from_eligible=earlier.eligible,
        from_valid=earlier.valid,
        expected=_compare_standard(now, earlier, "expected"),
        higher=_compare_standard(now, earlier, "higher"),
        average=_compare_averages(now, earlier),
        method=METHOD,
    )


def _find_reason(*sides: PupilCounts) -> Unfit | None:
    if not all(side.eligible for side in sides):
        return "nobody-eligible"
    return None if all(side.valid or side.judged for side in sides) else "nothing-judged"


def _compare_standard(first: PupilCounts, second: PupilCounts, standard: str) -> PercentageDifference:
    (reached, of), (against, against_of) = ((getattr(s, standard), getattr(s, f"{standard}_of")) for s in (first, second))
    reason = _find_reason(first, second)
    if reason is None and not (of and against_of):
        reason = "no-standard"
    if reason is not None:
        return PercentageDifference(reason=reason)
    low, high = find_newcombe_interval(reached, of, against, against_of)
    return PercentageDifference(
        pupils=reached,
        of=of,
        against_pupils=against,
        against_of=against_of,
        difference=_round(100 * (Fraction(reached, of) - Fraction(against, against_of))),
        low=_round(100 * Fraction(low)),
        high=_round(100 * Fraction(high)),
    )


def _compare_averages(first: PupilCounts, second: PupilCounts) -> AverageDifference:
    reason = _find_reason(first, second)
    if reason is None and not (first.valid and second.valid):
        reason = "no-marks"
    if reason is None and not (first.valued and second.valued):
        reason = "not-numeric"
    if reason is None and len(first.schemes | second.schemes) > 1:
        reason = "several-schemes"
    if reason is not None:
        return AverageDifference(reason=reason)
    difference = Fraction(first.hundredths, first.valued) - Fraction(second.hundredths, second.valued)
    return AverageDifference(
        average=compute_average(first.hundredths, first.valued),
        of=first.valued,
        against_average=compute_average(second.hundredths, second.valued),
        against_of=second.valued,
        difference=_round(difference / 100),
    )


def _round(number: Fraction) -> float:
    """Returns a number to one decimal place, a half away from zero, so that a gap the other way round is its negative."""
    quotient = Decimal(number.numerator) / Decimal(number.denominator)
    return float(quotient.quantize(Decimal("0.1"), ROUND_HALF_UP)) + 0.0
