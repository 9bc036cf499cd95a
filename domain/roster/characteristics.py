"""Characteristics as dated spells, backfillable; unknown is not false. Disadvantaged is derived from them (domain: the DfE's definition), never stored.

Disadvantaged (FSM in the last six years, looked after, left care), FSM6 and pupil premium are kept apart: service children count only in
pupil premium.
"""

import re
from datetime import date

from sqlalchemy import Column, Date, Table, Text, Uuid

from domain.declare.inputs import Input
from domain.store.metadata import metadata

characteristics = Table(
    "characteristics",
    metadata,
    Column("tenant_id", Uuid, primary_key=True),
    Column("pupil_id", Uuid, primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("from_on", Date, primary_key=True),
    Column("school_id", Uuid, nullable=False),
    Column("to_on", Date),
    Column("value", Text, nullable=False),
)

_YES_NO = ("true|false", "true or false")
KINDS: dict[str, tuple[str, str]] = {
    "fsm": _YES_NO,
    "ever6Fsm": _YES_NO,
    "pupilPremium": _YES_NO,
    "serviceChild": _YES_NO,
    "lookedAfter": _YES_NO,
    "leftCare": _YES_NO,
    "eal": ("1|2|3", "1 English, 2 another language, 3 unclassified"),
    "sen": ("[NKESAP]", "N none, K SEN support, E EHC plan (S, A and P in history)"),
    "ethnicity": ("[A-Z]{4}", "a four-letter DfE main code"),
}
YEAR_GROUP = "yearGroup"
"""A pupil's national curriculum year is dated like the rest, from 1 September; it is given as the row's own yearGroup."""


class Characteristic(Input, kw_only=True):
    """A spell of a characteristic, from a day until the next spell of its kind or `to`."""

    kind: str
    value: str
    from_: date
    to: date | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        pattern, words = KINDS[self.kind]
        if not re.fullmatch(pattern, self.value):
            raise ValueError(f"The value of {self.kind} is {words}")
        if self.to is not None and self.to < self.from_:
            raise ValueError("A spell cannot end before it begins")
