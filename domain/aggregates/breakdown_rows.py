"""How many pupils of a row have each band of the common scale, and each grade of the schools' own schemes."""

from typing import Annotated, Literal

from domain.declare.inputs import Output, describe

Missing = Literal["nobody-eligible", "nothing-judged", "conjunction", "no-scale", "several-scales", "no-place"]
"""Why there are no counts: nobody is eligible; nothing is judged yet; a conjunction is no grade and has no band; the trust has signed no common
scale, or trusts with different ones are pooled; no pupil is judged in a scheme that a crosswalk maps to the scale."""
Why = Literal["below-expected", "no-mark", "no-place"]
_OF = "Of how many pupils the percentages are: "


class BandCount(Output, kw_only=True):
    """The pupils in a band, from the lowest band to the highest. Those without a band follow, with `why`."""

    band: Annotated[str | None, describe("The code of the band.")] = None
    label: Annotated[str | None, describe("What the trust calls the band.")] = None
    why: Annotated[
        Why | None,
        describe(
            "Why pupils have no band: below-expected, where the scheme says no more than that; no-mark, who have no value that counts; or no-place,"
            " whose grade no crosswalk maps, and who enter no percentage."
        ),
    ] = None
    pupils: Annotated[int, describe("How many of the eligible.")]
    percent: Annotated[int | None, describe("The percentage of `of`.")] = None


class BandTable(Output, kw_only=True):
    """The pupils of a row by band. The counts add up to `eligible`."""

    counts: Annotated[list[BandCount] | None, describe("Every band of the scale, with or without pupils; null with `reason`.")] = (
        None
    )
    of: Annotated[int | None, describe(f"{_OF}the eligible but for those without a place.")] = None
    reason: Annotated[Missing | None, describe("Why `counts` is null.")] = None


class GradeCount(Output, kw_only=True):
    """The pupils with a grade of a scheme, from the lowest rank on."""

    scheme: Annotated[str | None, describe("The code of the scheme.")] = None
    grade: Annotated[
        str | None, describe("The code of the grade; null for the pupils without a judgement, or with a status alone.")
    ] = None
    label: Annotated[str | None, describe("What the newest version of the scheme calls it.")] = None
    pupils: Annotated[int, describe("How many of the eligible.")]
    percent: Annotated[int, describe("The percentage of `of`.")]


class GradeTable(Output, kw_only=True):
    """The pupils of a row by grade: those grades that somebody has. The counts add up to `eligible`."""

    counts: Annotated[list[GradeCount] | None, describe("Each grade that anybody has; null with `reason`.")] = None
    of: Annotated[int | None, describe(f"{_OF}the eligible.")] = None
    reason: Annotated[Missing | None, describe("Why `counts` is null.")] = None
