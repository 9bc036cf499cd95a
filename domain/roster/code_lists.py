"""Code lists as dated data: which codes there are, what they mean, from when until when, and by what source.

The lists of the roster stand in code_lists.json. A code that comes or goes is a change of that file.
"""

from collections.abc import Mapping
from datetime import date
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct, field

from domain.declare.vocabulary import Vocabulary, list_words


class Code(Struct, rename="camel", frozen=True, forbid_unknown_fields=True):
    """A code. `also` are other texts that are accepted for it.

    It is valid from `valid_from` to `valid_to`, both included. `eligible`: whether the pupil counts in the denominator;
    `valid`: whether it is a counting value; None where the list is not about that.
    """

    code: str
    meaning: str
    valid_from: date | None = None
    valid_to: date | None = None
    also: tuple[str, ...] = ()
    stage: str | None = None
    eligible: bool | None = None
    valid: bool | None = None

    def is_valid_on(self, day: date) -> bool:
        """Whether the code exists on this day."""
        return (self.valid_from is None or self.valid_from <= day) and (self.valid_to is None or day <= self.valid_to)


class CodeList(Struct, frozen=True, forbid_unknown_fields=True):
    """The codes of one field, in the order in which they are shown."""

    name: str = field(name="list")
    source: str
    codes: tuple[Code, ...]


@cache
def load_code_lists() -> dict[str, CodeList]:
    """Returns the code lists of the roster by name."""
    return read_code_lists(Path(__file__).parent / "code_lists.json")


def read_code_lists(path: Path) -> dict[str, CodeList]:
    """Returns the code lists of a file by name."""
    return {codes.name: codes for codes in msgspec.json.decode(path.read_bytes(), type=list[CodeList])}


@cache
def _index_codes(name: str) -> Mapping[str, Code]:
    return _index_forms(load_code_lists()[name])


def _index_forms(codes: CodeList) -> Mapping[str, Code]:
    return {form: code for code in codes.codes for text in (*code.also, code.code) for form in (text.upper(), code.code)}


def make_vocabulary(codes: CodeList) -> Vocabulary:
    """Returns the vocabulary of the fields that hold a code of a list."""
    forms, words = _index_forms(codes), tuple(code.code for code in codes.codes)

    def parse(text: str) -> str:
        code = forms.get(text.strip().upper())
        if code is None:
            raise ValueError(list_words(words))
        return code.code

    return Vocabulary(parse, words)


def find_code(name: str, text: str) -> Code | None:
    """Returns the code of a list that a text means, in any case and with blanks around it; None for any other text."""
    codes = _index_codes(name)
    return codes.get(text) or codes.get(text.strip().upper())


def describe_validity(code: Code) -> str:
    """Returns from when until when a code is valid, for a message."""
    if code.valid_to is None:
        return f"from {code.valid_from} on" if code.valid_from else "always"
    return f"from {code.valid_from} to {code.valid_to}" if code.valid_from else f"until {code.valid_to}"


SEX, ENROLMENT_STATUS = (make_vocabulary(load_code_lists()[name]) for name in ("sex", "enrolmentStatus"))
