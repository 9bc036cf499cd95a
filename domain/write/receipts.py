"""Receipts: how many rows of a batch had each outcome, by school and, for judgements, by window, subject and aspect.
They hold no values.

domain/assessment/receipts.py declares what can be read of them.
"""

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple, TypeAlias
from uuid import UUID

from sqlalchemy import Boolean, Column, DateTime, Index, Integer, SmallInteger, Table, Text, Uuid

from domain.access.caller import Caller
from domain.declare.ids import new_id
from domain.declare.type_numbers import RECEIPT
from domain.store.cleanup import Cleanup
from domain.store.database import Connection, transpose
from domain.store.metadata import metadata

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
    """The school of a row and, for a judgement, its window, subject and aspect, as far as they are known."""

    tenant_id: UUID
    school_id: UUID
    window_no: int | None = None
    subject_no: int | None = None
    aspect_no: int | None = None


OutcomeCounts: TypeAlias = dict[tuple[str, Location], Counter[str]]
"""How many rows had each outcome, by operation and location."""
Receipt: TypeAlias = tuple[tuple[str, Location], Counter[str]]
"""The operation and location of a receipt, and how many rows had each outcome."""

_INSERT_RECEIPTS = f"""
INSERT INTO receipts (client_id, accepted, id, operation, tenant_id, school_id, window_no, subject_no, aspect_no, received, {", ".join(OUTCOMES)})
SELECT $1, $2, * FROM unnest($3::uuid[], $4::text[], $5::uuid[], $6::uuid[], $7::smallint[], $8::smallint[], $9::smallint[], $10::integer[],
    {", ".join(f"${n}::integer[]" for n in range(11, 11 + len(OUTCOMES)))})
"""


async def write_receipts(connection: Connection, caller: Caller, entries: Iterable[Receipt], *, accepted: bool) -> None:
    """Writes receipts. `accepted` is False for a batch that was rejected as a whole."""
    rows = [
        (new_id(RECEIPT), operation, *location, outcomes.total(), *(outcomes[outcome] for outcome in OUTCOMES))
        for (operation, location), outcomes in entries
    ]
    if rows:
        await connection.execute(_INSERT_RECEIPTS, caller.client_id, accepted, *transpose(rows, len(rows[0])))
