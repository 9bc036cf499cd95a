"""Identifiers: UUIDv7 (RFC 9562) made by the application, with a type number in the rand_a bits, so that an id names its table."""

import os
import time
from uuid import UUID

NIL = UUID(int=0)
"""The installation itself, where a tenant or a school is meant (rights that belong to no school)."""


def new_id(type_number: int) -> UUID:
    """A new id of this type (0-4095). Sorts by time of making, to the millisecond."""
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=(milliseconds << 80) | (0x7 << 76) | (type_number << 64) | (0b10 << 62) | random)


def type_number(id_: UUID) -> int:
    """The type number an id carries."""
    return (id_.int >> 64) & 0xFFF


def parse_id(text: str) -> UUID | None:
    """The id in its canonical form, or None for any other text: an id is one string, not a family of spellings."""
    try:
        parsed = UUID(text)
    except ValueError:
        return None
    return parsed if str(parsed) == text else None
