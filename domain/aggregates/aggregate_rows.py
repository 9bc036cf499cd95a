"""The response of an aggregate query: its rows, page, excluded schools and coverage."""

from datetime import datetime
from typing import Annotated, Literal

from domain.aggregates.breakdown_rows import BandTable, GradeTable
from domain.aggregates.comparison_rows import AggregateChange, AggregateGap
from domain.aggregates.disclosure import Reason
from domain.declare.inputs import Output, describe
from domain.read.groups_read import GroupsRead

Status = Literal["c", "z", "x"]
"""Why figures are null: c suppressed, z not applicable, x not available."""
Exclusion = Literal["not-a-member", "not-collected", "nobody-eligible", "nothing-judged", "no-place"]


AverageReason = Literal["no-marks", "not-numeric", "several-schemes", "not-told"]
_WHY = (
    "Why figures are null: c hidden, since 1 to 5 pupils are eligible, or since the row would give away one that is hidden;"
    " z nobody is eligible; x nothing is judged yet."
)


class AggregateRow(Output, kw_only=True):
    """Results of a group of pupils. The dimensions that were grouped by or filtered to one value identify the group;
    `schools` says how many it pools.

    Counts are of pupils; percentages are whole. Those of a standard are of the eligible at the schools whose schemes have it: `expectedOf`
    and `higherOf` say of how many, and `averageOf` how many values are numbers. `expectedStatus` and `higherStatus` say why the figures
    of a standard are null, in the same symbols: z where no scheme has such a standard, x where it is not published yet, or where the figures
    of the schools that have it would tell how many pupils a hidden school has. `status` says why figures are null: c suppressed
    (all figures), z not applicable (nobody eligible), x not available (nothing judged yet). `coveragePercent` is the
    percentage of the eligible who have a counting value. `reason`, only with view=public, says why a row is suppressed:
    primary (a small group) or complement (it would help to calculate a small group).

    Discounted pupils are left out. To a reader with aggregates:internal at every school pooled, `discounted` says how
    many there are, and the figures that end in WithDiscounted include them; these are null where nobody is discounted.
    """

    school_id: Annotated[str | None, describe("The school's id, where it is grouped by school or filtered to one.")] = None
    school_urn: Annotated[int | None, describe("The school's URN, with `schoolId`.")] = None
    school_name: Annotated[str | None, describe("The school's name, with `schoolId`.")] = None
    subject: Annotated[str | None, describe("The subject's code.")] = None
    window: Annotated[str | None, describe("The window's code.")] = None
    academic_year: Annotated[str | None, describe("The academic year of the window.")] = None
    year_group: Annotated[
        str | None, describe("The national curriculum year on the census day; null where it is not grouped by.")
    ] = None
    class_id: Annotated[
        str | None,
        describe(
            "The id of the class or registration group of the pupils on the census day, where it is grouped by class; null for those in none."
        ),
    ] = None
    class_code: Annotated[str | None, describe("The code of the class, with `classId`.")] = None
    sex: Annotated[str | None, describe("F or M; null where it is not grouped by.")] = None
    disadvantaged: Annotated[str | None, describe("The category of disadvantage; null where it is not grouped by.")] = None
    eal: Annotated[str | None, describe("The category of English as an additional language; null where it is not grouped by.")] = (
        None
    )
    sen: Annotated[str | None, describe("The category of special educational needs; null where it is not grouped by.")] = None
    schools: Annotated[int, describe("How many schools the row pools.")]
    windows: Annotated[int | None, describe("How many windows the row pools, with pool=window.")] = None
    eligible: Annotated[
        int | None, describe("How many pupils are eligible: they count in the window and subject, and are not discounted.")
    ] = None
    valid: Annotated[int | None, describe("How many of the eligible have a value that counts.")] = None
    expected: Annotated[int | None, describe("How many of the eligible reach the expected standard.")] = None
    expected_of: Annotated[
        int | None, describe("Of how many pupils `expectedPercent` is: the eligible at schools whose schemes have the standard.")
    ] = None
    expected_percent: Annotated[int | None, describe("The percentage of `expectedOf` who reach the expected standard.")] = None
    expected_status: Annotated[
        Status | None,
        describe("Why `expected` is null: z no such standard, x not published yet, or it would give a hidden school away."),
    ] = None
    higher: Annotated[int | None, describe("How many of the eligible reach the higher standard.")] = None
    higher_of: Annotated[
        int | None, describe("Of how many pupils `higherPercent` is: the eligible at schools whose schemes have the standard.")
    ] = None
    higher_percent: Annotated[int | None, describe("The percentage of `higherOf` who reach the higher standard.")] = None
    higher_status: Annotated[
        Status | None,
        describe("Why `higher` is null: z no such standard, x not published yet, or it would give a hidden school away."),
    ] = None
    average: Annotated[float | None, describe("The average of the values that are numbers, such as scaled scores.")] = None
    average_of: Annotated[int | None, describe("Of how many pupils `average` is: those whose value is a number.")] = None
    average_reason: Annotated[
        AverageReason | None,
        describe(
            "Why `average` is null: no-marks, nobody has a value that counts; not-numeric, no such value is a number; several-schemes,"
            " whose numbers have no mean in common; or not-told, to a reader with aggregates:read, for whichever of them or since too few are numbers."
        ),
    ] = None
    coverage_percent: Annotated[int | None, describe("The percentage of the eligible who have a value that counts.")] = None
    edition: Annotated[
        int | None,
        describe(
            "Of published figures the edition that they are of: an earlier one than `editions` names where so few pupils changed since then that"
            " what they changed would be told. Null where figures are live or hidden."
        ),
    ] = None
    bands: Annotated[BandTable | None, describe("The pupils by band of the common scale, where it is asked for.")] = None
    grades: Annotated[GradeTable | None, describe("The pupils by grade of the schools' schemes, where it is asked for.")] = None
    gap: Annotated[AggregateGap | None, describe("The gap between two groups of the pupils, where it is asked for.")] = None
    change: Annotated[AggregateChange | None, describe("The change since an earlier window, where it is asked for.")] = None
    status: Annotated[Status | None, describe(_WHY)] = None
    reason: Annotated[Reason | None, describe("With view=public, why the row is hidden: primary or complement.")] = None
    discounted: Annotated[
        int | None, describe("How many are discounted, to a reader with aggregates:internal; null for nobody.")
    ] = None
    eligible_with_discounted: Annotated[int | None, describe("`eligible` with the discounted.")] = None
    valid_with_discounted: Annotated[int | None, describe("`valid` with the discounted.")] = None
    expected_with_discounted: Annotated[int | None, describe("`expected` with the discounted.")] = None
    expected_percent_with_discounted: Annotated[int | None, describe("`expectedPercent` with the discounted.")] = None
    higher_with_discounted: Annotated[int | None, describe("`higher` with the discounted.")] = None
    higher_percent_with_discounted: Annotated[int | None, describe("`higherPercent` with the discounted.")] = None
    average_with_discounted: Annotated[float | None, describe("`average` with the discounted.")] = None


class ExcludedSchool(Output, kw_only=True):
    """A school that the query covers and that contributes to no percentage of the expected standard, and the reason, over
    all windows and subjects queried.

    not-a-member: it was not in the trust on a census date; not-collected: no window collects such a subject from it;
    nobody-eligible; nothing-judged: somebody is eligible, and no value is recorded yet; no-place: it judges in schemes none of
    whose grades says whether it is expected, where other schools have one that does, or that no crosswalk maps to the common scale in
    force. A school that is suppressed
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


class AggregateScale(Output, kw_only=True):
    """The common scale by whose bands results are compared, and the trust's own names of its standards."""

    id: str
    name: str
    expected_label: str | None
    higher_label: str | None


class AggregateBasis(Output, kw_only=True):
    """What the figures rest on: the judgements as they are now, as they stood on a day or as editions have them, and the scales and crosswalks
    of a day."""

    judgements: Annotated[
        Literal["current", "as-of", "published"],
        describe("current; as-of: as they stood on the day of `asOf`; or published: as the editions have them."),
    ]
    as_of: Annotated[str | None, describe("The day as of which judgements are counted; null for those of now.")] = None
    crosswalks_on: Annotated[str, describe("The day whose scales and crosswalks place the grades.")]
    scale: Annotated[
        AggregateScale | None,
        describe(
            "The common scale in force then; null where none is, and the grades' own standards count, or where trusts have several."
        ),
    ]


class AggregateEdition(Output, kw_only=True):
    """An edition that rows are of."""

    publication_id: str
    window: str
    academic_year: str
    edition: int
    kind: Annotated[str, describe("provisional, revised or final.")]
    frozen_at: Annotated[datetime, describe("Of which instant the figures are.")]
    published_at: datetime


class UnpublishedWindow(Output, kw_only=True):
    """A window that the query covers and that is left out, since it has no edition: not-published, or withdrawn."""

    window: str
    academic_year: str
    reason: Literal["not-published", "withdrawn"]
    due_at: Annotated[datetime | None, describe("When it is meant to be published; null where nobody has said it.")]


class PageInfo(Output, kw_only=True):
    """Whether further rows follow, and the cursor at which they begin."""

    has_more: bool
    end_cursor: str | None


class AggregatePage(Output, kw_only=True, dict=True):
    """A page of rows. `excluded`, `coverage` and `basis` are of the whole answer."""

    data: list[AggregateRow]
    page: PageInfo
    excluded: list[ExcludedSchool]
    coverage: Coverage
    basis: AggregateBasis
    editions: Annotated[
        list[AggregateEdition], describe("The editions that the rows are of; none where they are not published.")
    ] = []
    unpublished: Annotated[
        list[UnpublishedWindow], describe("Windows that are left out, since the trust publishes and they have no edition.")
    ] = []

    @property
    def cursors(self) -> list[str]:
        """A cursor for each row. They are no part of the JSON, since only GraphQL shows them."""
        return list(vars(self)["cursors"])

    @property
    def included_codes(self) -> list[str]:
        """The names of the counts of bands and grades of the whole answer (breakdowns.name_count), which only CSV has."""
        return list(vars(self).get("included_codes", ()))

    @property
    def groups(self) -> GroupsRead | None:
        """The groups of collected values that the rows pool, which are no part of the JSON either."""
        groups: GroupsRead | None = vars(self)["groups"]
        return groups
