"""The response of a query of transitions: its rows, its groups and what they rest on."""

from typing import Annotated, Literal

from domain.aggregates.aggregate_rows import AggregateScale
from domain.declare.inputs import Output, describe
from domain.read.groups_read import GroupsRead

ComparedBy = Literal["band", "standards", "expected", "rank"]
Moved = Literal["higher", "same", "lower"]
LeftOut = Literal[
    "left",
    "new",
    "to-another-school",
    "from-another-school",
    "not-collected",
    "discounted",
    "not-judged",
    "not-judged-from",
    "not-judged-to",
    "not-placed",
    "not-placed-from",
    "not-placed-to",
]
Unmatched = Literal["not-collected", "nothing-judged", "no-place", "nobody-matched"]
ChangeOf = Literal["points", "standardised"]
_WHY = (
    "Why they are not matched; null for the matched. left, new: on roll at no school of the trust on the later, or the earlier census day;"
    " to-another-school, from-another-school: on roll at another of its schools then; not-collected: of a year group, or at a school, that one"
    " of the windows does not collect from; discounted in one of them; not-judged: no value that counts, in both or in the one that is named;"
    " not-placed: the grade has no place on the common scale, in both or in the one that is named."
)


class TransitionRow(Output, kw_only=True):
    """Pupils of one cell of the matrix, or pupils who are left out for one reason. Each pupil of a school's two censuses is in one row of it."""

    school_id: Annotated[str | None, describe("The school's id, where it is grouped by school.")] = None
    school_urn: Annotated[int | None, describe("The school's URN, with `schoolId`.")] = None
    school_name: Annotated[str | None, describe("The school's name, with `schoolId`.")] = None
    compared_by: Annotated[
        ComparedBy | None,
        describe(
            "By what both grades are placed: band of the common scale; standards: below, expected, higher; expected: below and expected, where"
            " one of the schemes has no higher standard; rank inside one version of a scheme, which has no standard. Null for those left out."
        ),
    ] = None
    from_place: Annotated[str | None, describe("The place in the earlier window; null by rank.")] = None
    to_place: Annotated[str | None, describe("The place in the later window; null by rank.")] = None
    moved: Annotated[Moved | None, describe("Whether the later place is higher, the same or lower.")] = None
    left_out: Annotated[LeftOut | None, describe(_WHY)] = None
    pupils: Annotated[int, describe("How many.")]


class TransitionGroup(Output, kw_only=True):
    """A school, or all of them: how many pupils are matched, and by how much their values changed, if it was asked."""

    school_id: Annotated[str | None, describe("The school's id, where it is grouped by school.")] = None
    school_urn: Annotated[int | None, describe("The school's URN, with `schoolId`.")] = None
    school_name: Annotated[str | None, describe("The school's name, with `schoolId`.")] = None
    schools: Annotated[int, describe("How many schools it pools.")]
    pupils: Annotated[int, describe("Pupils of either census, once for each school.")]
    matched: Annotated[int, describe("Of these, those of both censuses whose grades both have a place.")]
    change_of: Annotated[
        int | None,
        describe("With `change`, of how many pupils it is: those of both censuses whose values are of one scheme with the method."),
    ] = None
    change: Annotated[
        float | None, describe("The mean difference of their values, the later less the earlier, to one decimal.")
    ] = None


class UnmatchedSchool(Output, kw_only=True):
    """A school of which nobody is matched, and why: not-collected, nothing-judged, no-place, or nobody-matched: nobody is in both windows."""

    school_id: str
    school_urn: int
    school_name: str
    reason: Unmatched


class TransitionWindow(Output, kw_only=True):
    """A window that is compared."""

    id: str
    code: str
    academic_year: str
    census_on: str


class TransitionBasis(Output, kw_only=True):
    """What the figures rest on: the judgements of now or of a day, and the scale and crosswalks of a day."""

    judgements: Annotated[Literal["current", "as-of"], describe("The judgements as they are now, or as they stood on a day.")]
    as_of: Annotated[str | None, describe("At the end of which day they stood.")]
    crosswalks_on: Annotated[str, describe("The day whose scale and crosswalks place the grades.")]
    scale: Annotated[
        AggregateScale | None, describe("The common scale in force then; null where none is, and the grades' own standards count.")
    ]
    bands: Annotated[list[str], describe("The bands of the scale, the lowest first.")]


class TransitionPageInfo(Output, kw_only=True):
    """Whether further rows follow, and the cursor at which they begin."""

    has_more: bool
    end_cursor: str | None


class TransitionPage(Output, kw_only=True, dict=True):
    """How the pupils of two windows moved between the places of their grades: the whole matrix, with whoever is left out and why.

    Each pupil of the two censuses of a school is counted once there, so the rows of a group add up to its `pupils`. Nothing is predicted, and no
    figure says how far a pupil should have moved.
    """

    from_window: TransitionWindow
    to_window: TransitionWindow
    subject: str
    aspect: str
    basis: TransitionBasis
    data: list[TransitionRow]
    groups: Annotated[list[TransitionGroup], describe("Every group of the whole answer.")]
    excluded: Annotated[list[UnmatchedSchool], describe("The schools of which nobody is matched.")]
    page: TransitionPageInfo

    @property
    def groups_read(self) -> GroupsRead | None:
        """The groups of collected values that are compared. They are no part of the JSON."""
        groups: GroupsRead | None = vars(self)["groups_read"]
        return groups
