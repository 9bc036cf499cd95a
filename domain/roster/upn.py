"""Unique pupil numbers (UPNs): their form and their check letter.

Source: Department for Education, "Unique pupil numbers (UPNs): a guide for schools and local authorities". A UPN has 13
characters: a check letter; the local authority (3 digits) and establishment (4 digits) that allocated it; the year of
allocation (2 digits); a serial number (3 digits, or in a temporary UPN 2 digits and a letter). The letters I, O and S
are never used.

Whether the local authority exists is not checked, since authorities are created and abolished. No message or repr
contains the number.
"""

import re
from dataclasses import dataclass, field
from typing import Annotated

from domain.declare.inputs import Form
from domain.declare.vocabulary import Vocabulary

_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"
_VALUES = {character: value for characters in ("0123456789", _LETTERS) for value, character in enumerate(characters)}
_LENGTH = 13
_REST = re.compile(rf"[0-9]{{11}}[0-9{_LETTERS}]")


@dataclass(frozen=True, slots=True)
class Upn:
    """A valid UPN. `text` is its canonical form: 13 characters, upper case."""

    text: str = field(repr=False)

    @property
    def is_temporary(self) -> bool:
        """Whether it is a temporary UPN, allocated until the permanent one is known: its last character is a letter."""
        return is_temporary(self.text)


def is_temporary(upn: str) -> bool:
    """Whether a UPN in canonical form is a temporary one."""
    return upn[-1] in _LETTERS


def parse_upn(text: str) -> Upn:
    """Returns the UPN that a text holds, in any case and with blanks around it; raises ValueError that says what is
    wrong.
    """
    upn = text.strip().upper()
    if len(upn) != _LENGTH:
        raise ValueError(f"A UPN has {_LENGTH} characters; this one has {len(upn)}.")
    letter, rest = upn[0], upn[1:]
    if letter not in _LETTERS:
        raise ValueError("A UPN starts with a letter other than I, O or S.")
    if letter != compute_check_letter(rest):
        raise ValueError("The check letter of this UPN does not agree with its other characters, so at least one of them is wrong.")
    return Upn(upn)


def find_upn(text: object) -> str | None:
    """Returns the UPN that a value holds in canonical form, None where it holds none."""
    try:
        return parse_upn(text).text if isinstance(text, str) else None
    except ValueError:
        return None


UpnText = Annotated[str, Form("upn-invalid", parse_upn)]
"""A field of an input that holds a UPN."""
UPN = Vocabulary(lambda text: parse_upn(text).text)


def compute_check_letter(rest: str) -> str:
    """Returns the first letter of a UPN, from its other 12 characters; raises ValueError if these do not have a UPN's
    form.

    Each character's value (a letter's is its index among the 23 letters used, from 0) is multiplied by its position in
    the UPN, 2 to 13; the sum modulo 23 is the index of the check letter.
    """
    if not _REST.fullmatch(rest):
        raise ValueError("After its check letter a UPN has 12 digits, the last of which may be a letter other than I, O or S.")
    return _LETTERS[sum(position * _VALUES[character] for position, character in enumerate(rest, 2)) % len(_LETTERS)]
