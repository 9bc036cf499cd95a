"""Characteristics of pupils, as dated spells that may be entered for the past. Unknown is not false.

Disadvantaged is derived from them by the DfE's definition (FSM in the last six years, looked after, left care) and
never stored. It is not the same as FSM6 or pupil premium: service children count only in pupil premium.
"""

import re
from datetime import date
from typing import Annotated, Literal

from sqlalchemy import Column, Date, Table, Text, Uuid

from domain.declare.inputs import Input, describe
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
Kind = Literal["fsm", "ever6Fsm", "pupilPremium", "serviceChild", "lookedAfter", "leftCare", "eal", "sen", "ethnicity"]
VALUES: dict[Kind, tuple[str, str]] = {
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

    kind: Annotated[Kind, describe("Which characteristic.")]
    value: Annotated[
        str,
        describe(
            "true or false. eal: 1 English, 2 another language, 3 unclassified. sen: N none, K SEN support, E EHC plan."
            " ethnicity: a four-letter DfE main code."
        ),
    ]
    from_: Annotated[date, describe("First day.")]
    to: Annotated[date | None, describe("Last day; null or left out: until the next spell of this kind.")] = None

    def __post_init__(self) -> None:
        pattern, description = VALUES[self.kind]
        if not re.fullmatch(pattern, self.value):
            raise ValueError(f"The value of {self.kind} is {description}")
        if self.to is not None and self.to < self.from_:
            raise ValueError("A spell cannot end before it begins")
