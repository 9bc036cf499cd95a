"""The response of an aggregate query: its rows, page, excluded schools and coverage."""

from typing import Literal

from domain.aggregates.disclosure import Reason
from domain.declare.inputs import Output

Status = Literal["c", "z", "x"]
"""Why figures are null: c suppressed, z not applicable, x not available."""
Exclusion = Literal["not-a-member", "not-collected", "nobody-eligible", "nothing-judged"]


class AggregateRow(Output, kw_only=True):
    """Results of a group of pupils. The dimensions that were grouped by or filtered to one value identify the group;
    `schools` says how many it pools.

    Counts are of pupils; percentages are whole and of the eligible. `expectedStatus` and `higherStatus` say why the figures
    of a standard are null, in the same symbols: z where a scheme has no such standard, x where it is told later or some of
    the schools have none. `status` says why figures are null: c suppressed
    (all figures), z not applicable (nobody eligible), x not available (nothing judged yet). `coveragePercent` is the
    percentage of the eligible who have a counting value. `reason`, only with view=public, says why a row is suppressed:
    primary (a small group) or complement (it would help to calculate a small group).

    Discounted pupils are left out. To a reader with aggregates:internal at every school pooled, `discounted` says how
    many there are, and the figures that end in WithDiscounted include them; these are null where nobody is discounted.
    """

    school_id: str | None = None
    school_urn: int | None = None
    school_name: str | None = None
    subject: str | None = None
    window: str | None = None
    academic_year: str | None = None
    year_group: str | None = None
    sex: str | None = None
    disadvantaged: str | None = None
    eal: str | None = None
    sen: str | None = None
    schools: int
    eligible: int | None = None
    valid: int | None = None
    expected: int | None = None
    expected_percent: int | None = None
    expected_status: Status | None = None
    higher: int | None = None
    higher_percent: int | None = None
    higher_status: Status | None = None
    average: float | None = None
    coverage_percent: int | None = None
    status: Status | None = None
    reason: Reason | None = None
    discounted: int | None = None
    eligible_with_discounted: int | None = None
    valid_with_discounted: int | None = None
    expected_with_discounted: int | None = None
    expected_percent_with_discounted: int | None = None
    higher_with_discounted: int | None = None
    higher_percent_with_discounted: int | None = None
    average_with_discounted: float | None = None


class ExcludedSchool(Output, kw_only=True):
    """A school that the query covers and that contributes to no row's figures, and the reason, over all windows and
    subjects queried.

    not-a-member: it was not in the trust on a census date; not-collected: no window collects such a subject from it;
    nobody-eligible; nothing-judged: somebody is eligible, and no value is recorded yet. A school that is suppressed
    when grouped by school and subject never has one of the last two reasons.
    """

    school_id: str
    school_urn: int
    school_name: str
    reason: Exclusion


class Coverage(Output, kw_only=True):
    """How many schools the query covers, and how many of them are not excluded. It covers the schools named; or all
    that were ever in the trust; or, with neither, all within reach that have such a window. A school that is suppressed
    when grouped by school and subject counts as contributing."""

    schools: int
    contributing: int


class PageInfo(Output, kw_only=True):
    """Whether further rows follow, and the cursor at which they begin."""

    has_more: bool
    end_cursor: str | None


class AggregatePage(Output, kw_only=True, dict=True):
    """A page of rows. `excluded` and `coverage` are of the whole answer."""

    data: list[AggregateRow]
    page: PageInfo
    excluded: list[ExcludedSchool]
    coverage: Coverage

    @property
    def cursors(self) -> list[str]:
        """A cursor for each row. They are no part of the JSON, since only GraphQL shows them."""
        return list(vars(self)["cursors"])
