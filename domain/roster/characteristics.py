"""Characteristics of pupils, as dated spells that may be entered for the past. Unknown is not false.

Disadvantaged is derived from them by the DfE's definition (targeted FSM in the last six years, looked after, left care)
and never stored. Expanded free meals, from September 2026, do not make a pupil disadvantaged. It is not the same as
FSM6 or pupil premium: service children count only in pupil premium.
"""

import re
from datetime import date
from typing import Annotated, Literal

from sqlalchemy import Column, Date, Table, Text, Uuid

from domain.declare.inputs import Input, describe
from domain.roster.code_lists import describe_validity, find_code, load_code_lists
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

Kind = Literal["fsm", "ever6Fsm", "pupilPremium", "serviceChild", "lookedAfter", "leftCare", "eal", "sen", "ethnicity"]
DATED: tuple[Kind, ...] = ("fsm",)
"""The kinds of which a spell begins while its code is valid. An MIS may send other codes with days before they came."""
_ETHNICITY = re.compile("[A-Z]{4}")
"""The main codes, and the extended ones of local authorities, which each belong to a main code (Common Basic Data Set)."""
YEAR_GROUP = "yearGroup"
"""The kind of a pupil's national curriculum year.

It is dated from 1 September; in a request it is the row's own field `yearGroup`.
"""


def parse_value(kind: Kind, text: str, day: date) -> str:
    """Returns the canonical code of a value of a spell that begins on a day: `targeted` for `true`, `1` for `ENG`.

    Raises ValueError for a value that the kind does not have, or not yet.
    """
    code = find_code(kind, text)
    if code is None:
        if kind == "ethnicity" and _ETHNICITY.fullmatch(text.strip().upper()):
            return text.strip().upper()
        codes = load_code_lists()[kind].codes
        also = "".join(f", {other}" for code in codes for other in code.also)
        raise ValueError(f"The value of {kind} is one of {', '.join(code.code for code in codes)}{also}")
    if kind in DATED and not code.is_valid_on(day):
        raise ValueError(f"{kind} has the value {code.code} {describe_validity(code)}")
    return code.code


class Characteristic(Input, kw_only=True):
    """A spell of a characteristic, from a day until the next spell of its kind or `to`."""

    kind: Annotated[Kind, describe("Which characteristic.")]
    value: Annotated[
        str,
        describe(
            "true or false. fsm: targeted, expanded (from 2026-08-01) or none; true is targeted, false none. eal: 1 English,"
            " 2 another language, 3 unclassified, or the language codes ENG ENB, OTH OTB, REF NOT. sen: N none, K SEN support,"
            " E EHC plan. ethnicity: a four-letter DfE code."
        ),
    ]
    from_: Annotated[date, describe("First day.")]
    to: Annotated[date | None, describe("Last day; null or left out: until the next spell of this kind.")] = None

    def __post_init__(self) -> None:
        self.value = parse_value(self.kind, self.value, self.from_)
        if self.to is not None and self.to < self.from_:
            raise ValueError("A spell cannot end before it begins")
