"""Makes and parses identifiers: UUIDv7 (RFC 9562) with a type number in the rand_a bits, so that an id names its table."""

import os
import time
from datetime import UTC, datetime
from uuid import UUID

NIL = UUID(int=0)
"""Denotes the installation in columns for a tenant or a school: a grant that belongs to no school."""


def new_id(type_number: int) -> UUID:
    """Returns a new id with this type number (0-4095). Ids sort by their creation time in milliseconds."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (type_number << 64) | (0b10 << 62) | random)


def read_creation_time(id_: UUID) -> datetime:
    """Returns when an id was made, to the millisecond."""
    return datetime.fromtimestamp((id_.int >> 80) / 1000, UTC)


def get_type_number(id_: UUID) -> int:
    """Returns the type number of an id."""
    return (id_.int >> 64) & 0xFFF


def parse_id(text: str) -> UUID | None:
    """Returns the id of a text in canonical form (RFC 9562, lower case with hyphens), or None for any other text."""
    try:
        parsed = UUID(text)
    except ValueError:
        return None
    return parsed if str(parsed) == text else None
