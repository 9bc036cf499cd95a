"""Made-up rows of GIAS downloads, and what the register says after an import."""

import csv
import io
from collections.abc import Iterable
from datetime import date
from typing import Any

from domain.roster.gias.parse import parse_gias
from domain.roster.gias.report import ImportCounts
from domain.roster.gias.rows import Extract

FILES = ("establishments.csv", "groups.csv", "group_links.csv")
SPRING, SUMMER = date(2022, 4, 20), date(2022, 7, 20)
COUNTED = ("trusts", "schools", "memberships", "succession")

Row = dict[str, str]

COLUMNS = {
    "name": "EstablishmentName",
    "status": "EstablishmentStatus (name)",
    "la": "LA (code)",
    "age": "StatutoryHighAge",
    "closed": "CloseDate",
    "links": "Linked establishments",
}


def school(urn: int, **changes: str) -> Row:
    """An open school's row, with changes named as in COLUMNS."""
    row = {
        "URN": str(urn),
        "LA (code)": "850",
        "LA (name)": "Hampshire",
        "EstablishmentNumber": f"{urn % 10000:04}",
        "EstablishmentName": f"School {urn}",
        "TypeOfEstablishment (name)": "Academy converter",
        "EstablishmentStatus (name)": "Open",
        "PhaseOfEducation (name)": "Primary",
        "StatutoryLowAge": "4",
        "StatutoryHighAge": "11",
        "OpenDate": "01-09-2012",
        "CloseDate": "",
        "UKPRN": "10000001",
        "Town": "Alton",
        "Postcode": "GU34 1AA",
        "Linked establishments": "",
    }
    return row | {COLUMNS[what]: value for what, value in changes.items()}


def group(uid: int, kind: int = 6, status: str = "Open", closed: str = "") -> Row:
    """An open multi-academy trust's row, or another group's."""
    return {
        "Group UID": str(uid),
        "Group ID": f"TR{uid:05}",
        "Group Name": f"Trust {uid}",
        "Companies House Number": "07654321",
        "Group Type (code)": str(kind),
        "Group Status": status,
        "Closed Date": closed,
        "Open date": "",
        "Incorporated on (open date)": "2011-07-07",
        "UKPRN": "10000002",
    }


def link(urn: int, uid: int, joined: str = "2018-09-01", kind: int = 6, closed: str = "") -> Row:
    """The row of a school in a group."""
    return {"URN": str(urn), "Group UID": str(uid), "Group Type (code)": str(kind), "Joined date": joined, "Closed Date": closed}


def extract(schools: Iterable[Row] = (), groups: Iterable[Row] = (), links: Iterable[Row] = ()) -> Extract:
    """What is read of files with these rows; a file without rows is left out."""
    files = {}
    for name, rows in zip(FILES, (list(schools), list(groups), list(links)), strict=True):
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, rows[0])
            writer.writeheader()
            writer.writerows(rows)
            files[name] = text.getvalue().encode()
    return parse_gias(files)


def explained(counts: ImportCounts) -> int:
    """How many rows of those received the report accounts for."""
    return counts.created + counts.updated + counts.unchanged + sum(counts.ignored.values())


async def as_role(connection: Any, role: str) -> None:
    """Goes on as this role, in a superuser's transaction."""
    await connection.execute(f"SET LOCAL ROLE {role}")


async def tenants(connection: Any) -> dict[int, int | None]:
    """URN → Group UID of the trust that controls the school, or None where it controls its own data."""
    rows = await connection.fetch(
        "SELECT s.urn, t.group_uid, s.tenant_id = s.id AS own FROM schools s LEFT JOIN trusts t ON t.id = s.tenant_id"
    )
    assert all(row["own"] == (row["group_uid"] is None) for row in rows)
    return {row["urn"]: row["group_uid"] for row in rows}


async def spells(connection: Any) -> list[tuple[int, int, str | None, str | None]]:
    """URN, Group UID, first and last day of every membership."""
    rows = await connection.fetch(
        "SELECT s.urn, t.group_uid, m.joined_on::text, m.left_on::text FROM memberships m"
        " JOIN schools s ON s.id = m.school_id JOIN trusts t ON t.id = m.trust_id ORDER BY 1, 3, 2"
    )
    return [tuple(row) for row in rows]


async def written(connection: Any) -> int:
    """How many rows this transaction has written so far, in all tables."""
    return int(await connection.fetchval("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_xact_user_tables"))
