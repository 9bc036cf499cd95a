"""Characteristics of pupils, as dated spells that may be entered for the past. Unknown is not false.

Disadvantaged is derived from them by the DfE's definition (FSM in the last six years, looked after, left care) and
never stored. It is not the same as FSM6 or pupil premium: service children count only in pupil premium.
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
"""By kind, the pattern of its values and what an error says they are."""
YEAR_GROUP = "yearGroup"
"""The kind of a pupil's national curriculum year.

It is dated from 1 September; in a request it is the row's own field `yearGroup`.
"""


class Characteristic(Input, kw_only=True):
    """A spell of a characteristic, from a day until the next spell of its kind or `to`."""

    kind: str
    value: str
    from_: date
    to: date | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        pattern, description = KINDS[self.kind]
        if not re.fullmatch(pattern, self.value):
            raise ValueError(f"The value of {self.kind} is {description}")
        if self.to is not None and self.to < self.from_:
            raise ValueError("A spell cannot end before it begins")
