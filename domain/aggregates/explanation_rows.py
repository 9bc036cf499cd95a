"""The response that explains a figure: which schools, schemes, crosswalks and pupils it came from, and who is left out of it and why."""

from typing import Annotated, Literal

from domain.aggregates.aggregate_rows import (
    AggregateBasis,
    AggregateEdition,
    AggregateRow,
    Coverage,
    ExcludedSchool,
    UnpublishedWindow,
)
from domain.aggregates.transition_rows import TransitionPageInfo
from domain.declare.inputs import Output, describe
from domain.read.groups_read import GroupsRead

Outcome = Literal["higher", "expected", "below-expected", "no-place", "no-value", "not-eligible", "discounted"]
_OUTCOME = (
    "higher: reaches both standards; expected: the expected one alone; below-expected; no-place: has a value that counts, which no standard places, so that"
    " it enters no percentage; no-value: eligible, without a value that counts; not-eligible: taken out by a value or status; discounted: left out on request."
)


class OutcomeCount(Output, kw_only=True):
    """How many pupils have one outcome."""

    outcome: Annotated[Outcome, describe(_OUTCOME)]
    pupils: int


class ExplainedScheme(Output, kw_only=True):
    """A version of a scheme that pupils are judged in, and the crosswalk by which its grades have their bands."""

    subject: str
    scheme: Annotated[str, describe("The code of the scheme.")]
    version: Annotated[int, describe("The version of the scheme.")]
    crosswalk_id: Annotated[
        str | None, describe("The crosswalk in force on the day; null where the grades' own standards are the place.")
    ]
    crosswalk_from: Annotated[str | None, describe("From which day on the crosswalk is in force.")]
    signed_by: Annotated[str | None, describe("Who signed the crosswalk.")]
    pupils: Annotated[int, describe("How many pupils of the group are judged, or expected, in it.")]


class ExplainedSchool(Output, kw_only=True):
    """A school that the figure counts. Its outcomes add up to the pupils of the group there."""

    school_id: str
    school_urn: int
    school_name: str
    outcomes: list[OutcomeCount]
    schemes: list[ExplainedScheme]
    lists_pupils: Annotated[
        bool, describe("Whether `data` has the pupils of the school: the client reads pupils and judgements there.")
    ]


class ExplainedValue(Output, kw_only=True):
    """What is stored of a pupil in a subject; of a conjunction there is one for each of its subjects."""

    subject: str
    scheme: str
    version: int
    grade: str | None
    status: Annotated[str | None, describe("Why there is no grade, such as absent.")]
    band: Annotated[str | None, describe("The band of the common scale.")]


class ExplainedPupil(Output, kw_only=True):
    """A pupil of the group, and what became of it."""

    pupil_id: str
    school_id: str
    outcome: Annotated[Outcome, describe(_OUTCOME)]
    values: list[ExplainedValue]


class AggregateExplanation(Output, kw_only=True, dict=True):
    """Where one figure of aggregates comes from: its row, the schools, the schemes with their crosswalks, and the pupils with their outcomes.

    The outcomes add up to the row: `eligible` is all but not-eligible and discounted, `valid` those of them that have a value, `expected` those that are
    expected or higher. `data` is a page of pupils, of the schools where the client reads pupils and judgements; `unlisted` counts the others.
    """

    figures: AggregateRow
    basis: AggregateBasis
    outcomes: list[OutcomeCount]
    schools: list[ExplainedSchool]
    excluded: Annotated[list[ExcludedSchool], describe("The schools that contribute to no percentage, and why.")]
    coverage: Coverage
    editions: Annotated[
        list[AggregateEdition], describe("The editions in which others read the window; the figure itself is live.")
    ]
    unpublished: list[UnpublishedWindow]
    data: list[ExplainedPupil]
    unlisted: Annotated[int, describe("How many pupils are at schools where the client does not read pupils and judgements.")]
    page: TransitionPageInfo

    @property
    def groups_read(self) -> GroupsRead | None:
        """The groups of collected values that the figure pools. They are no part of the JSON."""
        groups: GroupsRead | None = vars(self)["groups_read"]
        return groups
