"""Schools and their dated memberships of trusts, from GIAS, and the settings that a school keeps for itself."""

from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
    FetchedValue,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    select,
)

from domain.access.client_names import find_client_name
from domain.access.reach import rows_of_registered_school
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.declare.type_numbers import CLIENT, MEMBERSHIP, SCHOOL
from domain.declare.value_types import MAX_SHORT_TEXT
from domain.declare.vocabulary import PERCENT, VERSION, Codes, declare_ids, declare_list
from domain.read.time_binds import THIS_YEAR
from domain.roster import roll_year, school_numbers
from domain.roster.former_laestabs import list_former, match_laestab
from domain.roster.text_order import sort_by_text
from domain.roster.trusts import memberships, trusts
from domain.roster.years import ACADEMIC_YEAR, academic_year_text
from domain.store.metadata import metadata

schools = Table(
    "schools",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("tenant_id", Uuid, nullable=False, comment="Who controls its data: the id of its trust, or its own id"),
    Column("urn", Integer, nullable=False, unique=True),
    Column("laestab", Text),
    Column("ukprn", Text),
    Column("name", Text, nullable=False),
    Column("local_authority_code", Text, nullable=False),
    Column("local_authority", Text, nullable=False),
    Column("kind", Text),
    Column("phase", Text),
    Column("status", Text, nullable=False),
    Column("low_age", SmallInteger),
    Column("high_age", SmallInteger),
    Column("opened_on", Date),
    Column("closed_on", Date),
    Column("town", Text),
    Column("postcode", Text),
    Column("name_key", Text, nullable=False, server_default=FetchedValue()),
    UniqueConstraint("tenant_id", "id", name="schools_by_tenant"),
    Index("schools_by_laestab", "laestab"),
    info={"is_public": True},
)

succession = Table(
    "succession",
    metadata,
    Column("predecessor_urn", Integer, primary_key=True, autoincrement=False),
    Column("successor_urn", Integer, primary_key=True, autoincrement=False),
)

school_settings = Table(
    "school_settings",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("school_id", Uuid, primary_key=True),
    Column("short_name", Text),
    Column("max_leavers_percent", SmallInteger, nullable=False),
    Column("version", Integer, nullable=False),
    Column("source_client_id", Uuid, comment="The only client that writes names, enrolments and characteristics"),
    comment="A school's own settings; a school without a row has DEFAULT_SETTINGS",
)
DEFAULT_SETTINGS: dict[str, Any] = {"short_name": None, "max_leavers_percent": 5, "source_client_id": None, "version": 1}


def _in_register(column: Column[str]) -> Codes:
    """Returns the values that schools of the register within reach have: GIAS's words and codes, which may change."""
    return Codes("value", ((column, rows_of_registered_school(schools.c.id)),))


def _setting_of(column: Column[Any]) -> ColumnElement[Any]:
    """The school's setting; its default where the school has not set it."""
    s = school_settings
    of_school = select(column).where(s.c.tenant_id == schools.c.tenant_id, s.c.school_id == schools.c.id)
    setting = of_school.correlate_except(s).scalar_subquery()
    return (
        setting
        if DEFAULT_SETTINGS[column.name] is None
        else func.coalesce(setting, DEFAULT_SETTINGS[column.name], type_=column.type)
    )


_source_name = find_client_name(_setting_of(school_settings.c.source_client_id))

SCHOOLS = Resource(
    name="school",
    plural="schools",
    doc="A school within the caller's reach.",
    source=schools,
    type_number=SCHOOL,
    scope=Scope.SCHOOLS_READ,
    order=("id",),
    reach=rows_of_registered_school(schools.c.id),
    is_register=True,
    fields={
        "id": Field(schools.c.id, "Stable id; it survives a new URN only through succession."),
        "urn": Field(
            schools.c.urn,
            "Unique reference number, 6 digits. A school that converts to an academy gets a new one.",
            vocabulary=school_numbers.URN,
        ),
        "laestab": Field(
            schools.c.laestab,
            "Local authority (3 digits) and establishment number (4), as text. A filter finds a school by a former one too, unless"
            " another school has it now.",
            vocabulary=school_numbers.LAESTAB,
            match=match_laestab(schools),
        ),
        "formerLaestabs": Field(
            list_former(schools.c.id),
            "LAESTABs that the school had before, the latest first.",
            nullable=False,
            vocabulary=school_numbers.LAESTAB,
        ),
        "ukprn": Field(schools.c.ukprn, "UK provider reference number.", vocabulary=school_numbers.UKPRN),
        "name": Field(schools.c.name, "Name as registered.", sort_key=schools.c.name_key),
        "localAuthorityCode": Field(
            schools.c.local_authority_code,
            "Three-digit code of the local authority.",
            vocabulary=school_numbers.LA_CODE,
            codes=_in_register(schools.c.local_authority_code),
        ),
        "localAuthority": Field(
            schools.c.local_authority,
            "Name of the local authority.",
            codes=_in_register(schools.c.local_authority),
            sort_key=sort_by_text(schools.c.local_authority),
        ),
        "kind": Field(schools.c.kind, "Type of establishment, in GIAS's words.", codes=_in_register(schools.c.kind)),
        "phase": Field(schools.c.phase, "Phase of education, in GIAS's words.", vocabulary=school_numbers.PHASE),
        "status": Field(
            schools.c.status, "open, closed, proposed to open or proposed to close.", vocabulary=school_numbers.SCHOOL_STATUS
        ),
        "lowAge": Field(schools.c.low_age, "Lowest statutory age, in years.", vocabulary=school_numbers.AGE),
        "highAge": Field(schools.c.high_age, "Highest statutory age, in years.", vocabulary=school_numbers.AGE),
        "openedOn": Field(schools.c.opened_on, "When the school was opened."),
        "closedOn": Field(schools.c.closed_on, "When the school was closed."),
        "town": Field(schools.c.town, "Town.", sort_key=sort_by_text(schools.c.town)),
        "postcode": Field(schools.c.postcode, "Postcode.", vocabulary=school_numbers.POSTCODE),
        "shortName": Field(
            _setting_of(school_settings.c.short_name),
            "What the school calls itself, for portals to show.",
            sort_key=sort_by_text(_setting_of(school_settings.c.short_name)),
            longest=MAX_SHORT_TEXT,
        ),
        "maxLeaversPercent": Field(
            _setting_of(school_settings.c.max_leavers_percent),
            "The largest share of the pupils on roll, in percent, that may be missing from a complete roll. Beyond it the roll is refused.",
            nullable=False,
            vocabulary=PERCENT,
        ),
        "sourceClient": Field(
            _source_name,
            "Name of the client that alone writes names, year groups, enrolments and characteristics of the school's pupils; null: any that may.",
            sort_key=sort_by_text(_source_name),
        ),
        "sourceClientId": Field(
            _setting_of(school_settings.c.source_client_id), "Id of that client.", vocabulary=declare_ids(CLIENT, "client")
        ),
        "version": Field(
            _setting_of(school_settings.c.version),
            "Grows by one with each change of the school's own settings: shortName, maxLeaversPercent, sourceClient and a corrected rollYear.",
            nullable=False,
            vocabulary=VERSION,
        ),
        "academicYear": Field(
            academic_year_text(THIS_YEAR),
            "Today's academic year, such as 2026-27. 1 September starts it, in England's time.",
            nullable=False,
            vocabulary=ACADEMIC_YEAR,
        ),
        "rollYear": Field(
            roll_year.value_of_school(schools, academic_year_text(roll_year.school_versions.c.roll_year)),
            "Academic year of the newest roll accepted here, by its asOf; null where there has been none.",
            vocabulary=ACADEMIC_YEAR,
        ),
        "rollState": Field(
            func.coalesce(
                roll_year.value_of_school(schools, roll_year.roll_state_of(roll_year.school_versions.c.roll_year, THIS_YEAR)),
                "none",
            ),
            "current: a roll of this academic year, or the next, has arrived. previous: this year's has not; pupils, year groups and"
            " classes are still those of rollYear. none: there has been no roll, and lists are empty.",
            nullable=False,
            vocabulary=declare_list("current", "previous", "none"),
        ),
    },
    links={
        "trust": Link(
            "trust",
            on=((schools.c.tenant_id, trusts.c.id),),
            doc="The trust that controls the school's data today; null for a school that controls its own.",
            reverse="schools",
            reverse_doc="The schools whose data this trust controls today, within the caller's reach.",
        )
    },
)

MEMBERSHIPS = Resource(
    name="membership",
    plural="memberships",
    doc="A dated membership of a school in a trust. Aggregates use the membership on a window's census date.",
    source=memberships,
    type_number=MEMBERSHIP,
    scope=Scope.SCHOOLS_READ,
    order=("id",),
    reach=rows_of_registered_school(memberships.c.school_id),
    is_register=True,
    fields={
        "id": Field(memberships.c.id, "Stable id."),
        "joinedOn": Field(memberships.c.joined_on, "First day; null where GIAS has none recorded."),
        "leftOn": Field(memberships.c.left_on, "Last day; null while it lasts."),
    },
    links={
        "school": Link(
            "school",
            ((memberships.c.school_id, schools.c.id),),
            "The member.",
            reverse="memberships",
            reverse_doc="Its trusts, dated.",
        ),
        "trust": Link(
            "trust",
            ((memberships.c.trust_id, trusts.c.id),),
            "The trust.",
            reverse="memberships",
            reverse_doc="Its members, dated.",
        ),
    },
)
