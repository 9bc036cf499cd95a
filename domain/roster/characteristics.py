"""Characteristics of pupils, as dated spells that may be entered for the past. Unknown is not false.

Disadvantaged is derived from them by the DfE's definition (targeted FSM in the last six years, looked after, left care)
and never stored. Expanded free meals, from September 2026, do not make a pupil disadvantaged. It is not the same as
FSM6 or pupil premium: service children count only in pupil premium.
"""

import re
from collections.abc import Callable, Iterable
from datetime import date
from typing import Annotated, Any, Literal, get_args

from sqlalchemy import Column, ColumnElement, Date, Table, Text, Uuid, and_, any_, func, literal_column, or_

from domain.access.reach import rows_of_pupil
from domain.declare.inputs import RuledInput, describe
from domain.declare.resource import Field, Link, Narrowing, Resource, TextMatch, TextRange
from domain.declare.scopes import Scope
from domain.declare.vocabulary import Vocabulary, declare_list, list_words
from domain.roster.code_lists import describe_validity, find_code, load_code_lists
from domain.roster.pupils import pupils
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
KINDS: tuple[Kind, ...] = get_args(Kind)
DATED: tuple[Kind, ...] = ("fsm",)
"""The kinds of which a spell begins while its code is valid. An MIS may send other codes with days before they came."""
_ETHNICITY = re.compile("[ABCMOW][A-Z]{3}")
"""The extended codes of local authorities. Each belongs to a main code, whose group its first letter names (Common Basic Data Set)."""
YEAR_GROUP = "yearGroup"
"""The kind of a pupil's national curriculum year.

It is dated from 1 September; in a request it is the row's own field `yearGroup`.
"""


def find_value(kind: str, text: str) -> str | None:
    """Returns the canonical code of a value of a kind: `targeted` for `true`, `1` for `ENG`. None for a value that it does not
    have.
    """
    code = find_code(kind, text)
    if code is not None:
        return code.code
    extended = text.strip().upper()
    return extended if kind == "ethnicity" and _ETHNICITY.fullmatch(extended) else None


def _list_values(kinds: Iterable[str]) -> str:
    """Returns the sentence that says which values these kinds have."""
    codes = [code for kind in kinds for code in load_code_lists()[kind].codes]
    also = (text for code in codes for text in code.also)
    return list_words(tuple(dict.fromkeys([*(code.code for code in codes), *also])))


def _parse_value_filter(text: str) -> str:
    """Returns a value of any kind in capitals. Raises ValueError for one that no kind has."""
    if all(find_value(kind, text) is None for kind in KINDS):
        raise ValueError(_list_values(KINDS))
    return text.strip().upper()


def _check_value_of_kinds(value: TextRange, kinds: tuple[str, ...]) -> None:
    """Raises ValueError for a value that none of these kinds has."""
    if all(find_value(kind, value.low) is None for kind in kinds):
        raise ValueError(f"is none that {' or '.join(kinds)} can have. {_list_values(kinds).removesuffix('.')}")


def _match_value(kind: Column[str], value: Column[str]) -> TextMatch:
    """Returns how a filter finds a value: by its code, or by another text that its kind takes for the code. A text means
    another code of another kind: `true` is `targeted` of fsm and `true` of lookedAfter.
    """
    also = [(of, text.upper(), code.code) for of in KINDS for code in load_code_lists()[of].codes for text in code.also]

    def find(is_meant: Callable[[ColumnElement[str]], ColumnElement[bool]]) -> ColumnElement[bool]:
        def quote(text: str) -> ColumnElement[str]:
            return literal_column(f"'{text}'", Text)

        others = (and_(kind == quote(of), value == quote(code), is_meant(quote(text))) for of, text, code in also)
        return or_(is_meant(func.upper(value)), *others)

    return TextMatch(
        lambda text: TextRange(str(text), str(text)),
        lambda low, high: find(lambda text: text == low),
        lambda texts, beginnings: find(lambda text: text == any_(texts)),
    )


def make_value_field(kind: Column[str], value: Column[str]) -> Field:
    """Returns the field of the value of a characteristic, which is filtered as values are written."""
    return Field(
        value,
        "Its value; /v1/codes lists those of each kind with their meaning.",
        vocabulary=Vocabulary(_parse_value_filter),
        match=_match_value(kind, value),
        narrowing=Narrowing("kind", _check_value_of_kinds),
    )


CHARACTERISTICS = Resource(
    name="pupilCharacteristic",
    plural="characteristics",
    doc="A spell of a characteristic of a pupil. A characteristic of which no spell tells is unknown, not false.",
    source=characteristics,
    scope=Scope.PUPILS_SENSITIVE,
    order=("tenant_id", "pupil_id", "kind", "from_on"),
    reach=rows_of_pupil(characteristics.c.tenant_id, characteristics.c.school_id, characteristics.c.pupil_id),
    condition=characteristics.c.kind != literal_column(f"'{YEAR_GROUP}'"),
    fields={
        "pupilId": Field(characteristics.c.pupil_id, "The pupil's id."),
        "kind": Field(
            characteristics.c.kind,
            f"Which characteristic: {', '.join(KINDS)}.",
            vocabulary=declare_list(*KINDS),
        ),
        "value": make_value_field(characteristics.c.kind, characteristics.c.value),
        "from": Field(characteristics.c.from_on, "First day."),
        "to": Field(characteristics.c.to_on, "Last day; null: until the next spell of this kind."),
    },
    links={
        "pupil": Link(
            "pupil",
            ((characteristics.c.tenant_id, pupils.c.tenant_id), (characteristics.c.pupil_id, pupils.c.id)),
            "The pupil.",
            reverse="characteristics",
            reverse_doc="Characteristics, as dated spells.",
            target_in_reach=True,
            source_in_reach=True,
        )
    },
)


def parse_value(kind: Kind, text: str, day: date | None) -> str:
    """Returns the canonical code of a value of a spell that begins on a day: `targeted` for `true`, `1` for `ENG`. Without a
    day, one that has been valid on any.

    Raises ValueError for a value that the kind does not have, not yet, or no longer.
    """
    value, code = find_value(kind, text), find_code(kind, text)
    if value is None:
        raise ValueError(f"The value of {kind} {_list_values([kind]).removeprefix('It ').removesuffix('.')}")
    if code is None:
        return value
    if day is not None and not code.is_valid_on(day) and (kind in DATED or (code.valid_to is not None and day > code.valid_to)):
        raise ValueError(f"{kind} has the value {code.code} {describe_validity(code)}")
    return code.code


def _choose_code(spell: Any) -> str | None:
    """Sets the canonical code of the value, or returns what is wrong with the value."""
    try:
        spell.value = parse_value(spell.kind, spell.value, getattr(spell, "from_", None))
    except ValueError as problem:
        return str(problem)
    return None


def _check_days(spell: Any) -> str | None:
    return "A spell cannot end before it begins" if spell.to is not None and spell.to < spell.from_ else None


class Characteristic(RuledInput, kw_only=True):
    """A spell of a characteristic, from a day until the next spell of its kind or `to`."""

    rules = (_choose_code, _check_days)

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
