"""Schools as GIAS publishes them, with what each says of itself, and how a body names one: by id, URN or LAESTAB."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType
from sqlalchemy import (
    Column,
    ColumnElement,
    Date,
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

from domain.access.caller import Caller
from domain.access.reach import reaches_sql, rows_of_registered_school
from domain.declare.errors import Invalid, Issue, NotFound, Stale, make_invalid
from domain.declare.ids import parse_id
from domain.declare.inputs import Input
from domain.declare.inputs import Text as ShortText
from domain.declare.resource import Field, Link, Resource
from domain.declare.scopes import Scope
from domain.roster import roll_year
from domain.roster.trusts import memberships, trusts
from domain.roster.years import academic_year_text
from domain.store.database import Connection
from domain.store.metadata import metadata
from domain.write.command import command
from domain.write.locks import SchoolLocks
from domain.write.patch import Changed, Patch, PatchInput

SCHOOL = 3

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
    UniqueConstraint("tenant_id", "id", name="schools_by_tenant"),
    Index("schools_by_laestab", "laestab"),
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
    comment="What a school says of itself; a school without a row says UNSAID",
)
UNSET_SETTING: dict[str, Any] = {"short_name": None, "max_leavers_percent": 5, "version": 1}


def _setting_of(column: Column[Any]) -> ColumnElement[Any]:
    """A setting of the school, or what stands while it says nothing."""
    s = school_settings
    of_school = select(column).where(s.c.tenant_id == schools.c.tenant_id, s.c.school_id == schools.c.id)
    said = of_school.correlate_except(s).scalar_subquery()
    return said if UNSET_SETTING[column.name] is None else func.coalesce(said, UNSET_SETTING[column.name], type_=column.type)


SCHOOLS = Resource(
    name="school",
    plural="schools",
    doc="A school within the caller's reach.",
    source=schools,
    type_number=SCHOOL,
    scope=Scope.SCHOOLS_READ,
    order=("id",),
    reach=rows_of_registered_school(schools.c.id),
    fields={
        "id": Field(schools.c.id, "Stable id; it survives a new URN only through succession."),
        "urn": Field(schools.c.urn, "Unique reference number, 6 digits. A school that converts to an academy gets a new one."),
        "laestab": Field(schools.c.laestab, "Local authority (3 digits) and establishment number (4), as text."),
        "ukprn": Field(schools.c.ukprn, "UK provider reference number."),
        "name": Field(schools.c.name, "Name as registered."),
        "localAuthorityCode": Field(schools.c.local_authority_code, "Three-digit code of the local authority."),
        "localAuthority": Field(schools.c.local_authority, "Name of the local authority."),
        "kind": Field(schools.c.kind, "Type of establishment, in GIAS's words."),
        "phase": Field(schools.c.phase, "Phase of education, in GIAS's words."),
        "status": Field(schools.c.status, "open, closed, proposed to open or proposed to close."),
        "lowAge": Field(schools.c.low_age, "Lowest statutory age, in years."),
        "highAge": Field(schools.c.high_age, "Highest statutory age, in years."),
        "openedOn": Field(schools.c.opened_on, "When the school was opened."),
        "closedOn": Field(schools.c.closed_on, "When the school was closed."),
        "town": Field(schools.c.town, "Town."),
        "postcode": Field(schools.c.postcode, "Postcode."),
        "shortName": Field(_setting_of(school_settings.c.short_name), "What the school calls itself, for portals to show."),
        "maxLeaversPercent": Field(
            _setting_of(school_settings.c.max_leavers_percent),
            "How many of those on roll may be missing from a complete roll before it is taken for a mistake, in percent.",
            nullable=False,
        ),
        "version": Field(
            _setting_of(school_settings.c.version),
            "Grows by one with each change of what the school says itself: shortName and maxLeaversPercent.",
            nullable=False,
        ),
        "academicYear": Field(
            academic_year_text(roll_year.THIS_YEAR),
            "Today's academic year, such as 2026-27. 1 September starts it, in England's time.",
            nullable=False,
        ),
        "rollYear": Field(
            roll_year.value_of_school(schools, academic_year_text(roll_year.school_versions.c.roll_year)),
            "Academic year of the newest roll accepted here, by its asOf; null where there has been none.",
        ),
        "rollState": Field(
            func.coalesce(
                roll_year.value_of_school(
                    schools, roll_year.roll_state_of(roll_year.school_versions.c.roll_year, roll_year.THIS_YEAR)
                ),
                "none",
            ),
            "current: a roll of this academic year, or the next, has arrived. previous: this year's has not; pupils, year groups and"
            " classes are still those of rollYear. none: there has been no roll, and lists are empty.",
            nullable=False,
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
    type_number=2,
    scope=Scope.SCHOOLS_READ,
    order=("id",),
    reach=rows_of_registered_school(memberships.c.school_id),
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


class SchoolRef(Input, kw_only=True):
    """A school, by exactly one of its names. A LAESTAB means the open school that has it."""

    id: str | UnsetType = UNSET
    urn: str | int | UnsetType = UNSET
    laestab: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        if sum(given is not UNSET for given in (self.id, self.urn, self.laestab)) != 1:
            raise ValueError("Name the school by exactly one of id, urn and laestab")


@dataclass(frozen=True)
class SchoolInReach:
    """A school within reach and the tenant that controls it."""

    id: UUID
    tenant_id: UUID
    name: str


_FIND = f"""
SELECT g.n, s.id, s.tenant_id, s.name FROM unnest($2::uuid[], $3::integer[], $4::text[]) WITH ORDINALITY AS g (id, urn, laestab, n)
JOIN schools s ON s.id = g.id OR s.urn = g.urn OR (s.laestab = g.laestab AND s.status <> 'closed')
WHERE {reaches_sql("$1", "s.tenant_id", "s.id", "$5")}
FOR KEY SHARE OF s
"""


async def find_schools(connection: Connection, caller: Caller, scope: Scope, refs: list[SchoolRef]) -> list[SchoolInReach | None]:
    """Each school within reach with this scope, or None: absent and out of reach are the same. One statement.

    The lock keeps an import from moving a school to another tenant before the command has written.
    """
    keys: list[tuple[UUID | None, int | None, str | None]] = []
    for ref in refs:
        urn = (
            int(ref.urn)
            if ref.urn is not UNSET and str(ref.urn).isascii() and str(ref.urn).isdigit() and len(str(ref.urn)) == 6
            else None
        )
        keys.append(
            (
                parse_id(ref.id) if ref.id is not UNSET else None,
                urn,
                ref.laestab.replace("/", "") if ref.laestab is not UNSET else None,
            )
        )
    ids, urns, laestabs = zip(*keys, strict=True) if keys else ((), (), ())
    rows = await connection.fetch(_FIND, caller.client_id, ids, urns, laestabs, scope.value)
    found = {row["n"]: SchoolInReach(row["id"], row["tenant_id"], row["name"]) for row in rows}
    return [found.get(n + 1) for n in range(len(refs))]


async def find_school(connection: Connection, caller: Caller, scope: Scope, ref: SchoolRef, at: str) -> SchoolInReach:
    """The school within reach; Invalid, naming the place, where there is none."""
    (found,) = await find_schools(connection, caller, scope, [ref])
    if found is None:
        raise make_invalid([make_school_issue(at, scope)])
    return found


def make_school_issue(at: str, scope: Scope) -> Issue:
    return Issue(at, "school-not-found", f"There is no such school within the reach of this client's scope {scope}.")


class SchoolChange(PatchInput, kw_only=True):
    """What a school says of itself; the rest is the register's to say."""

    unknown: ClassVar[str] = "{fields} can be changed here; the rest of a school is the register's to say (GIAS)."

    short_name: ShortText | UnsetType | None = UNSET
    max_leavers_percent: Annotated[int, Meta(ge=0, le=100)] | UnsetType = UNSET


_SETTINGS = "SELECT short_name, max_leavers_percent, version FROM school_settings WHERE tenant_id = $1 AND school_id = $2"
_SAVE = """
INSERT INTO school_settings (tenant_id, school_id, version, short_name, max_leavers_percent) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (tenant_id, school_id) DO UPDATE
SET version = excluded.version, short_name = excluded.short_name, max_leavers_percent = excluded.max_leavers_percent
"""


@command(scope=Scope.SCHOOLS_WRITE, fails=(Invalid, NotFound, Stale))
async def update_school(connection: Connection, caller: Caller, given: Patch[SchoolChange]) -> Changed:
    """Change a school's own settings. Everything else about a school comes from the register."""
    (school,) = await find_schools(connection, caller, Scope.SCHOOLS_WRITE, [SchoolRef(id=str(given.id))])
    if school is None:
        raise NotFound()
    locks = SchoolLocks(connection, school.tenant_id)
    await locks.lock([school.id], [])
    row = await connection.fetchrow(_SETTINGS, school.tenant_id, school.id)
    stored = UNSET_SETTING if row is None else dict(row)
    version = stored["version"]
    given.check_version(version)
    said = given.merge_over(stored)
    if all(stored[name] == value for name, value in said.items()):
        return given.make_result("unchanged", version)
    await connection.execute(_SAVE, school.tenant_id, school.id, version + 1, said["short_name"], said["max_leavers_percent"])
    await locks.increment_versions()
    return given.make_result("updated", version + 1)
