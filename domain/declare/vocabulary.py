"""Vocabularies: what a field of words may hold, and the one parser that writes and filters of it share.

A Vocabulary knows its values by itself: a closed list, or a form such as that of a UPN. The values of Codes are rows of
the database, such as the subjects of a tenant, and are looked up by the statement that filters by them.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from sqlalchemy import Column

from domain.declare.ids import get_type_number, parse_id
from domain.declare.predicates import RowPredicate


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What a field may hold. `parse` returns the canonical form of a value, or raises ValueError with a sentence that says
    what is accepted. `words` are all values of a closed list, `least` and `most` the bounds of numbers with at most so many
    `decimals`, and `sentence` says so.
    """

    parse: Callable[[Any], Any]
    words: tuple[str, ...] = ()
    least: int | None = None
    most: int | None = None
    decimals: int = 0
    sentence: str = ""


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of rows that tenants have. `noun` is the name of one in messages and in the code of the issue
    (`subject-not-found`). `sources` are the columns that hold them, each with the predicate of the rows within reach.
    `narrowed_by` are columns of the same rows, by the fields whose filters say which of the codes there are: those of a list.
    """

    noun: str
    sources: tuple[tuple[Column[Any], RowPredicate], ...]
    code: str = ""
    narrowed_by: Mapping[str, Column[Any]] = field(default_factory=dict)

    @property
    def issue_code(self) -> str:
        return self.code or f"{self.noun}-not-found"


def find_word(text: str, words: tuple[str, ...]) -> str | None:
    """Returns the word of a closed list that a text means: in any case, with any white space. None without one."""
    if text in words:
        return text
    plain = " ".join(text.split()).casefold()
    return next((word for word in words if word.casefold() == plain), None)


def list_words(words: tuple[str, ...]) -> str:
    """Returns the sentence that says which values a closed list has."""
    return f"It is one of {', '.join(words)}."


def declare_list(*words: str, clean: Callable[[str], str] = str) -> Vocabulary:
    """Returns the vocabulary of a closed list, whose words are looked for once a text is cleaned."""

    def parse(text: str) -> str:
        word = find_word(clean(text), words)
        if word is None:
            raise ValueError(list_words(words))
        return word

    return Vocabulary(parse, words)


def declare_form(pattern: str, sentence: str, clean: Callable[[str], str] = str.strip) -> Vocabulary:
    """Returns the vocabulary of texts that match a pattern once they are cleaned. `sentence` says what they are."""
    matches = re.compile(pattern, re.ASCII).fullmatch

    def parse(text: str) -> str:
        cleaned = clean(text)
        if not matches(cleaned):
            raise ValueError(sentence)
        return cleaned

    return Vocabulary(parse)


def declare_range(least: int, most: int | None = None, decimals: int = 0) -> Vocabulary:
    """Returns the vocabulary of numbers from `least` to `most`, if there is one, with at most so many decimals."""
    kind = f"a number with at most {decimals} decimals" if decimals else "a whole number"
    sentence = f"It is {kind} from {least:,} {'on' if most is None else f'to {most:,}'}."

    def parse(number: Any) -> Any:
        if number < least or (most is not None and number > most) or number != round(number, decimals):
            raise ValueError(sentence)
        return number

    return Vocabulary(parse, (), least, most, decimals, sentence)


ANY = Vocabulary(lambda value: value)
VERSION = declare_range(1)
"""Of the versions of rows, and of schemes."""
COUNT = declare_range(0)
LEAST_NUMBER, MOST_NUMBER, STORED_DECIMALS = -99_999, 99_999, 2
"""The bounds of marks, and of the values and points of grades, and their decimals in the database."""
NUMBER, PERCENT, ROUNDING = (
    declare_range(LEAST_NUMBER, MOST_NUMBER, STORED_DECIMALS),
    declare_range(0, 100),
    declare_range(0, STORED_DECIMALS),
)
LEAST_RANK, MOST_RANK = 0, 30_000
RANK = declare_range(LEAST_RANK, MOST_RANK)


def declare_ids(type_number: int, noun: str) -> Vocabulary:
    """Returns the vocabulary of the ids of one table, as ids or as texts. The id of a row of another table is none of them,
    so that a filter by it says so; whether a row has an id is not told.
    """

    def parse(value: UUID | str) -> UUID | str:
        parsed = parse_id(value) if isinstance(value, str) else value
        if parsed is None or get_type_number(parsed) != type_number:
            raise ValueError(f"It is the id of a {noun}.")
        return value

    return Vocabulary(parse)
