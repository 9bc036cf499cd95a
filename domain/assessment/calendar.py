"""The calendar of a trust or school: when its windows open and close, and their census days. It holds nothing else.

As iCalendar (RFC 5545) it can be subscribed to. A calendar program sends no token, so it reads by a secret link (calendar_links.py).
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from msgspec import Struct

from domain.access.reach import IN_FORCE, reaches_sql
from domain.assessment.seasons import season_sql
from domain.assessment.window_state import state_sql
from domain.declare.errors import NotFound
from domain.declare.ids import read_creation_time
from domain.declare.inputs import Output, describe
from domain.declare.scopes import Scope
from domain.roster.years import format_academic_year
from domain.store.database import Connection, Database
from domain.support import clock

MAX_WINDOWS = 1_000
"""Windows that a calendar has at most, the newest of them."""


class CalendarWindow(Output, kw_only=True):
    """A window and its dates."""

    id: str
    code: str
    name: str
    academic_year: str
    season: str
    state: str
    statutory: bool
    census_on: date
    opens_at: datetime
    closes_at: datetime
    accept_until: datetime | None
    closed_at: Annotated[datetime | None, describe("When it closed, by itself or early; null while it is not closed.")]


class Calendar(Output, kw_only=True):
    """The windows of a trust or school in the order in which they open."""

    data: list[CalendarWindow]


class CalendarOf(Struct, frozen=True):
    """Whose calendar it is: a tenant's, or that of one of its schools. `name` is theirs."""

    tenant_id: UUID
    school_id: UUID | None
    name: str


_READS_TENANT = (
    f"EXISTS (SELECT 1 FROM reach r WHERE r.client_id = $1 AND r.tenant_id = {{}} AND $3 = ANY (r.scopes) AND {IN_FORCE})"
)
_TRUST = f"SELECT t.id AS tenant_id, t.name FROM trusts t WHERE t.id = $2 AND {_READS_TENANT.format('t.id')}"
_SCHOOL = f"SELECT s.tenant_id, s.id AS school_id, s.name FROM schools s WHERE s.id = $2 AND {reaches_sql('$1', 's.tenant_id', 's.id', '$3')}"
_WINDOWS = f"""
SELECT w.id, w.code, w.name, w.academic_year, {season_sql("w")} AS season, {state_sql("$3::timestamptz")} AS state,
    w.statutory, w.census_on, w.opens_at, w.closes_at, w.accept_until, w.version, w.changed_at,
    CASE WHEN {state_sql("$3::timestamptz")} IN ('closed', 'locked') THEN COALESCE(w.closed_at, w.closes_at) END AS closed_at
FROM windows w WHERE w.tenant_id = $1 AND ($2::uuid IS NULL OR EXISTS (
    SELECT 1 FROM pins p WHERE p.tenant_id = $1 AND p.window_no = w.no AND p.school_id = $2
)) ORDER BY w.opens_at DESC, w.no DESC LIMIT {MAX_WINDOWS}
"""


async def find_calendar(connection: Connection, client_id: UUID, noun: str, row_id: UUID | None) -> CalendarOf:
    """Returns whose calendar the id of a trust or school means. Raises NotFound unless the client reads windows there."""
    statement = _TRUST if noun == "trust" else _SCHOOL
    row = await connection.fetchrow(statement, client_id, row_id, Scope.WINDOWS_READ.value)
    if row is None:
        raise NotFound()
    return CalendarOf(row["tenant_id"], None if noun == "trust" else row["school_id"], row["name"])


async def read_calendar(database: Database, client_id: UUID, noun: str, row_id: UUID | None) -> tuple[CalendarOf, list[Any]]:
    """Returns whose calendar it is, and the rows of its windows in the order in which they open. Raises NotFound."""

    async def work(connection: Connection) -> tuple[CalendarOf, list[Any]]:
        of = await find_calendar(connection, client_id, noun, row_id)
        rows = await connection.fetch(_WINDOWS, of.tenant_id, of.school_id, clock.read_now())
        return of, list(reversed(rows))

    return await database.run_transaction(client_id, work)


def make_calendar(rows: list[Any]) -> Calendar:
    """Returns the calendar as JSON has it."""
    names = ("code", "name", "season", "state", "statutory", "census_on", "opens_at", "closes_at", "accept_until", "closed_at")
    return Calendar(
        data=[
            CalendarWindow(
                id=str(row["id"]),
                academic_year=format_academic_year(row["academic_year"]),
                **{name: row[name] for name in names},
            )
            for row in rows
        ]
    )


def write_icalendar(of: CalendarOf, rows: list[Any]) -> bytes:
    """Returns the calendar as iCalendar: for each window an event from its opening to its closing, and one for its census day.

    It is the same until a window changes: calendar programs that compare texts see no change where there is none.
    """
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Markonce//Windows//EN", "CALSCALE:GREGORIAN"]
    lines += [f"NAME:{_escape(of.name)}", f"X-WR-CALNAME:{_escape(of.name)}"]
    for row in rows:
        changed_at = _write_instant(row["changed_at"] or read_creation_time(row["id"]))
        stamp = (f"DTSTAMP:{changed_at}", f"LAST-MODIFIED:{changed_at}")
        title, sequence = _escape(f"{row['name']} ({row['code']})"), f"SEQUENCE:{row['version']}"
        closed_at = max(row["closed_at"] or row["closes_at"], row["opens_at"] + timedelta(seconds=1))
        begin, end = f"DTSTART:{_write_instant(row['opens_at'])}", f"DTEND:{_write_instant(closed_at)}"
        kind = f"CATEGORIES:{row['season']}"
        lines += ["BEGIN:VEVENT", f"UID:{row['id']}@markonce", *stamp, begin, end, f"SUMMARY:{title}", kind, sequence, "END:VEVENT"]
        day, next_day = (f"{each:%Y%m%d}" for each in (row["census_on"], row["census_on"] + timedelta(days=1)))
        lines += [
            "BEGIN:VEVENT",
            f"UID:{row['id']}-census@markonce",
            *stamp,
            f"DTSTART;VALUE=DATE:{day}",
            f"DTEND;VALUE=DATE:{next_day}",
        ]
        lines += [f"SUMMARY:Census day of {title}", kind, "TRANSP:TRANSPARENT", sequence, "END:VEVENT"]
    return "".join(f"{part}\r\n" for line in [*lines, "END:VCALENDAR"] for part in _fold(line)).encode()


def _write_instant(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y%m%dT%H%M%SZ}"


def _escape(text: str) -> str:
    """Returns a text as RFC 5545 section 3.3.11 writes it."""
    escaped = text.replace("\\", "\\\\").replace(";", "\\;").replace(",", "\\,")
    return " ".join(escaped.split())


def _fold(line: str) -> Iterator[str]:
    """Yields the parts of a line, of at most 75 octets each; those after the first begin with a blank (RFC 5545 section 3.1)."""
    part, size = "", 0
    for character in line:
        length = len(character.encode())
        if size + length > 75:
            yield part
            part, size = " ", 1
        part, size = part + character, size + length
    yield part
