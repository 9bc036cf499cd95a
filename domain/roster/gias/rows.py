"""The rows of GIAS downloads, and which column each field is read from.

A field's annotation holds the header of its column and the reader of its cells. A field without a default requires its
column.
"""

from datetime import date
from typing import Annotated, Literal, NamedTuple

from msgspec import Struct

from domain.roster.gias.cells import (
    CellReader,
    SchoolLink,
    make_number_reader,
    make_text_reader,
    read_company_number,
    read_date,
    read_links,
    read_text,
    require,
)
from domain.roster.school_numbers import ESTABLISHMENT_PATTERN, LA_PATTERN, UKPRN_PATTERN, URN_PATTERN, parse_status


class ParseIssue(Struct, frozen=True):
    """A problem in a file. An `error` leaves out its row or the whole file; a `note` leaves out nothing."""

    file: str
    line: int  # physical line in the file, from 1; of a row with line breaks inside quotation marks, the first
    column: str  # header of the column; empty where the whole row or file is meant
    code: str
    message: str
    severity: Literal["error", "note"] = "error"


class Column(NamedTuple):
    """Where a field comes from: the header of the download, and the reader of its cells."""

    header: str
    read: CellReader


_ESTABLISHMENT_NUMBER = make_text_reader(
    ESTABLISHMENT_PATTERN, "gias-invalid-establishment-number", "an establishment number of four digits"
)


_LA = make_text_reader(LA_PATTERN, "gias-invalid-la-code", "a local authority code of three digits")


_NUMBER = make_number_reader("[0-9]{1,9}", "gias-invalid-number", "a whole number")


_URN = make_number_reader(URN_PATTERN, "gias-invalid-urn", "a URN of six digits")


_URN_IN_GROUP = make_number_reader("[1-9][0-9]{4,5}", "gias-invalid-urn", "a URN of six digits (five for a children's centre)")


_UKPRN = make_text_reader(UKPRN_PATTERN, "gias-invalid-ukprn", "a UKPRN of eight digits")


class Establishment(Struct, frozen=True):
    """A school, open, closed or proposed. Its key is the URN; a school that becomes an academy gets a new one."""

    urn: Annotated[int, Column("URN", require(_URN))]
    la_code: Annotated[str | None, Column("LA (code)", _LA)]
    establishment_number: Annotated[str | None, Column("EstablishmentNumber", _ESTABLISHMENT_NUMBER)]
    name: Annotated[str, Column("EstablishmentName", require(read_text))]
    type_name: Annotated[str | None, Column("TypeOfEstablishment (name)", read_text)]
    status: Annotated[str, Column("EstablishmentStatus (name)", require(parse_status))]
    phase: Annotated[str | None, Column("PhaseOfEducation (name)", read_text)]
    low_age: Annotated[int | None, Column("StatutoryLowAge", _NUMBER)]
    high_age: Annotated[int | None, Column("StatutoryHighAge", _NUMBER)]
    opened_on: Annotated[date | None, Column("OpenDate", read_date)]
    closed_on: Annotated[date | None, Column("CloseDate", read_date)]
    ukprn: Annotated[str | None, Column("UKPRN", _UKPRN)]
    la_name: Annotated[str | None, Column("LA (name)", read_text)] = None
    type_group: Annotated[str | None, Column("EstablishmentTypeGroup (name)", read_text)] = None
    open_reason: Annotated[str | None, Column("ReasonEstablishmentOpened (name)", read_text)] = None
    close_reason: Annotated[str | None, Column("ReasonEstablishmentClosed (name)", read_text)] = None
    town: Annotated[str | None, Column("Town", read_text)] = None
    postcode: Annotated[str | None, Column("Postcode", read_text)] = None
    links: Annotated[tuple[SchoolLink, ...], Column("Linked establishments", read_links)] = ()

    @property
    def laestab(self) -> str | None:
        """LA code and establishment number in one, seven digits as text; None where either is not recorded."""
        return self.la_code + self.establishment_number if self.la_code and self.establishment_number else None


class Group(Struct, frozen=True):
    """A trust (see `school_numbers.TRUST_TYPES`) or another group. Trusts have `incorporated_on`, other groups `opened_on`."""

    uid: Annotated[int, Column("Group UID", require(_NUMBER))]
    group_id: Annotated[str | None, Column("Group ID", read_text)]
    name: Annotated[str, Column("Group Name", require(read_text))]
    companies_house_number: Annotated[str | None, Column("Companies House Number", read_company_number)]
    type_code: Annotated[int, Column("Group Type (code)", require(_NUMBER))]
    status: Annotated[str, Column("Group Status", require(parse_status))]
    opened_on: Annotated[date | None, Column("Open date", read_date)]
    closed_on: Annotated[date | None, Column("Closed Date", read_date)]
    incorporated_on: Annotated[date | None, Column("Incorporated on (open date)", read_date)]
    ukprn: Annotated[str | None, Column("UKPRN", _UKPRN)] = None


class GroupLink(Struct, frozen=True):
    """An establishment in a group on the day of the download. `joined_on` is None where GIAS has not recorded the day."""

    urn: Annotated[int, Column("URN", require(_URN_IN_GROUP))]
    group_uid: Annotated[int, Column("Group UID", require(_NUMBER))]
    type_code: Annotated[int, Column("Group Type (code)", require(_NUMBER))]
    joined_on: Annotated[date | None, Column("Joined date", read_date)]
    group_closed_on: Annotated[date | None, Column("Closed Date", read_date)] = None


class Extract(Struct, frozen=True):
    """The content of the files: one row per key (URN, Group UID, or both for a link), in file order, and all issues."""

    establishments: list[Establishment]
    groups: list[Group]
    links: list[GroupLink]
    issues: list[ParseIssue]
