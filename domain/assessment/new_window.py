"""The input of create_window: a window, what it collects, and why."""

from datetime import date
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from domain.assessment.window_templates import load_window_templates
from domain.declare.inputs import Input, Instant, LongText, describe
from domain.declare.inputs import Text as ShortText
from domain.roster.school_refs import SchoolRef
from domain.roster.tenant_ref import TenantRef
from domain.roster.years import AcademicYearText, YearGroupText

Season = Literal["autumn", "spring", "summer"]
_TEMPLATES = ", ".join(template.code for template in load_window_templates())
Audience = Annotated[
    LongText | UnsetType,
    describe("Who reads the values, in at least two words. Without it, that of the newest window of its kind."),
]
YearGroups = Annotated[list[YearGroupText], Meta(min_length=1, max_length=20)]


class Collect(Input, kw_only=True):
    """A subject and aspect to judge, the scheme, and the schools: null means all without a line of their own."""

    subject: ShortText
    scheme: ShortText
    aspect: ShortText = "main"
    schools: Annotated[list[SchoolRef], Meta(min_length=1, max_length=200)] | None = None


class FrequencyReasons(Input, kw_only=True):
    """The three reasons that a window beyond the workload budget must give, as inspectors ask for them."""

    actions: LongText
    time_to_set_and_analyse: LongText
    time_to_act: LongText


class NewWindow(Input, kw_only=True):
    """A window, planned until opensAt or until it is opened earlier. purpose, audience and decision are what justifies the collection.

    For past results give a past censusOn, and instants from today on: after closesAt nothing is accepted. A statutory window is made from a
    template, which says what is left out: the name, censusOn where the day is known, why, and from whom what is collected.
    """

    tenant: TenantRef
    code: Annotated[str, Meta(min_length=1, max_length=50, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ./_-]*$")]
    template: Annotated[
        ShortText | UnsetType,
        describe(
            f"The statutory collection that it is: {_TEMPLATES}, in any case. GET /v1/codes?list=windowTemplate says in which years."
        ),
    ] = UNSET
    name: Annotated[ShortText | UnsetType, describe("Name; needed without a template.")] = UNSET
    academic_year: AcademicYearText
    census_on: Annotated[date | UnsetType, describe("The census day; needed unless the template knows the day of this year.")] = (
        UNSET
    )
    season: Annotated[Season | UnsetType, describe("The season that it is of; without it, that of censusOn.")] = UNSET
    opens_at: Instant
    closes_at: Instant
    accept_until: Instant | None = None
    statutory: Annotated[bool | UnsetType, describe("Whether it has a template. It need not be sent.")] = UNSET
    purpose: Annotated[
        LongText | UnsetType,
        describe("What the values are for, in at least two words. Without it, that of the newest window of its kind."),
    ] = UNSET
    audience: Audience = UNSET
    decision: Annotated[
        LongText | UnsetType,
        describe("The decision they inform, in at least two words. Without it, that of the newest window of its kind."),
    ] = UNSET
    year_groups: Annotated[YearGroups | UnsetType, describe("National curriculum years; needed without a template.")] = UNSET
    collects: Annotated[
        Annotated[list[Collect], Meta(min_length=1, max_length=200)] | UnsetType,
        describe(
            "What it collects; needed unless the template says it. The subjects of a template are switched on where they are not."
        ),
    ] = UNSET
    frequency_reasons: FrequencyReasons | None = None
