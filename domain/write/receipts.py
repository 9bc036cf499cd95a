"""Receipts: what became of a batch at each school, and of judgements in each window, subject and aspect. They are counts and hold no value.

What can be read of them is declared in domain/assessment/receipts.py.
"""

from collections import Counter
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import Boolean, Column, DateTime, Index, Integer, SmallInteger, Table, Text, Uuid

from domain.access.caller import Caller
from domain.declare.ids import new_id
from domain.store.cleanup import Cleanup
from domain.store.database import Connection, transpose
from domain.store.metadata import metadata

RECEIPT = 14
CLEANUP = (Cleanup("receipts older than 13 months", "SELECT remove_old_receipts($1)"),)
OUTCOMES = ("created", "updated", "unchanged", "superseded", "withdrawn", "rejected")

receipts = Table(
    "receipts",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("school_id", Uuid, nullable=False),
    Column("window_no", SmallInteger),
    Column("subject_no", SmallInteger),
    Column("aspect_no", SmallInteger),
    Column("client_id", Uuid, nullable=False),
    Column("operation", Text, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("received", Integer, nullable=False),
    *(Column(outcome, Integer, nullable=False) for outcome in OUTCOMES),
    Index("receipts_by_time", "tenant_id", "received_at", "id"),
    Index("receipts_by_school", "tenant_id", "school_id", "received_at", "id"),
    Index("receipts_by_line", "tenant_id", "school_id", "window_no", "subject_no", "aspect_no", "received_at"),
)


class Location(NamedTuple):
    """Where a row of a batch belongs, as far as that is known."""

    tenant_id: UUID
    school_id: UUID
    window_no: int | None = None
    subject_no: int | None = None
    aspect_no: int | None = None


OutcomeCounts: TypeAlias = dict[tuple[str, Location], Counter[str]]
"""By operation and place, how many rows had each outcome."""

_WRITE = f"""
INSERT INTO receipts (client_id, accepted, id, operation, tenant_id, school_id, window_no, subject_no, aspect_no, received, {", ".join(OUTCOMES)})
SELECT $1, $2, * FROM unnest($3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::smallint[], $8::smallint[], $9::smallint[], $10::integer[],
    {", ".join(f"${n}::integer[]" for n in range(11, 11 + len(OUTCOMES)))})
"""


async def write_receipts(connection: Connection, caller: Caller, tallies: OutcomeCounts, *, accepted: bool) -> None:
    """A receipt for each tally. One statement, or none where no row belongs to a school."""
    rows = [
        (new_id(RECEIPT), operation, *place, tally.total(), *(tally[outcome] for outcome in OUTCOMES))
        for (operation, place), tally in tallies.items()
    ]
    if rows:
        await connection.execute(_WRITE, caller.client_id, accepted, *transpose(rows, len(rows[0])))
