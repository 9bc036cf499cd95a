"""How texts that people type are cleaned before they are stored: Unicode's NFC (UAX #15), no white space at the ends,
one blank between words; and which characters cannot be seen.
"""

import re
import unicodedata

_BLANK = "\t \xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
_BREAK = "\n-\r\x85\u2028\u2029"
"""White space that ends a line. With _BLANK it is Unicode's White_Space (PropList.txt)."""
_BLANKS, _WHITE = re.compile(f"[{_BLANK}]+"), re.compile(f"[{_BLANK}{_BREAK}]+")
_ENDS = re.compile(f"^[{_BLANK}{_BREAK}]+|[{_BLANK}{_BREAK}]+$")

_CONTROLS = "\\0-\\x08\\x0e-\\x1f\x7f-\x84\x86-\x9f"
_FORMATTING = (
    "\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
)
_FILLERS = "\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0"
_BEYOND_16_BITS = "\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
_INVISIBLE = re.compile(f"[{_CONTROLS}{_FORMATTING}{_FILLERS}{_BEYOND_16_BITS}]")
"""Control characters, formatting (category Cf, with those that turn the direction of writing), fillers and variation
selectors (Default_Ignorable_Code_Point).
"""
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNREADABLE = re.compile(f"{_INVISIBLE.pattern}|[{_BREAK}]")


def is_clean(text: str) -> bool:
    """Whether `clean_text` returns the text as it is, and every character can be seen."""
    if text.isascii():
        return text.isprintable() and text[:1] != " " and text[-1:] != " " and "  " not in text
    return find_invisible(text) is None and clean_text(text) == text


def clean_text(text: str) -> str:
    """Returns the text in NFC, without white space at its ends; each run of blanks is one space."""
    return unicodedata.normalize("NFC", _BLANKS.sub(" ", _ENDS.sub("", text)))


def find_invisible(text: str) -> tuple[int, str] | None:
    """Returns the position (from 1) and the code point (as `U+200B`) of the first character that cannot be seen or ends
    a line; None if there is none.
    """
    found = _UNREADABLE.search(text)
    return (found.start() + 1, f"U+{ord(found.group()):04X}") if found else None


def find_unreadable(text: str, *, may_be_formatted: bool) -> str | None:
    """Returns what is wrong with a text that people cannot read; None if they can. Sentences may hold formatting characters."""
    if text and not any(c.isprintable() and not c.isspace() for c in text):
        return "The text is blank."
    found = find_invisible(text)
    if found is None or (may_be_formatted and not _CONTROL.search(text)):
        return None
    position, code_point = found
    return f"Character {position} of the text is {code_point}, which cannot be seen. Leave it out."


def join_visible(text: str) -> str:
    """Returns the text in one line, without the characters that cannot be seen."""
    return _INVISIBLE.sub("", _WHITE.sub(" ", text))
