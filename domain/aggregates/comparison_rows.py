"""Gaps between two groups of pupils, and changes between two windows: the differences with their numbers and how sure they are."""

from typing import Annotated, Literal

from domain.declare.inputs import Output, describe

Unfit = Literal["nobody-eligible", "nothing-judged", "no-standard", "no-marks", "not-numeric", "several-schemes"]
"""Why there is no difference: on one side nobody is eligible, nothing is judged yet, no scheme has the standard, nobody has a mark, no mark is a
number; or the numbers of the two come from different schemes, and have no mean in common."""
METHOD = (
    "Newcombe's hybrid score interval: two Wilson intervals of 95 % (Newcombe 1998, Statistics in Medicine 17, 873-890, method 10)."
    " It takes the two for different pupils, drawn independently."
)


class PercentageDifference(Output, kw_only=True):
    """The difference of two percentages of a standard, in percentage points, and the interval of 95 % around it."""

    pupils: Annotated[int | None, describe("How many of the first reach the standard.")] = None
    of: Annotated[int | None, describe("Of how many of the first, whose schemes have the standard.")] = None
    against_pupils: Annotated[int | None, describe("How many of the second reach it.")] = None
    against_of: Annotated[int | None, describe("Of how many of the second.")] = None
    difference: Annotated[float | None, describe("The first percentage less the second, to one decimal place.")] = None
    low: Annotated[float | None, describe("The lower end of the interval.")] = None
    high: Annotated[float | None, describe("The upper end of the interval: one that holds 0 does not tell the two apart.")] = None
    reason: Annotated[Unfit | None, describe("Why there is no difference.")] = None


class AverageDifference(Output, kw_only=True):
    """The difference of two averages. It has no interval, since only sums of marks are kept."""

    average: Annotated[float | None, describe("The average of the first.")] = None
    of: Annotated[int | None, describe("Of how many marks.")] = None
    against_average: Annotated[float | None, describe("The average of the second.")] = None
    against_of: Annotated[int | None, describe("Of how many marks.")] = None
    difference: Annotated[float | None, describe("The first average less the second, to one decimal place.")] = None
    reason: Annotated[Unfit | None, describe("Why there is no difference.")] = None


class AggregateGap(Output, kw_only=True):
    """The gap between two groups of the pupils of a row: `group` less `against`."""

    dimension: str
    group: str
    against: str
    in_neither: Annotated[int, describe("How many of the eligible are in neither, such as those of whom it is unknown.")]
    expected: PercentageDifference
    higher: PercentageDifference
    average: AverageDifference
    method: str


class AggregateChange(Output, kw_only=True):
    """The change between two windows of one season: this window less the earlier one."""

    from_window: str
    from_academic_year: str
    from_eligible: Annotated[int, describe("How many were eligible in the earlier window; 0 where it has no such group.")]
    from_valid: Annotated[int, describe("How many of them had a value that counts: with `valid`, whether both are as complete.")]
    expected: PercentageDifference
    higher: PercentageDifference
    average: AverageDifference
    method: str
