"""How texts that people type are cleaned before they are stored: Unicode's NFC (UAX #15), no blanks at the ends, one
blank between words; and which characters cannot be seen.
"""

import re
import unicodedata

BLANK = "[ \\t-\\r\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"
"""Unicode's white space (PropList.txt), as a class of a regular expression."""
_BLANKS = re.compile(f"{BLANK}+")

_FORMATTING = (
    "[\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]"
)
_OTHERS = "[\\0-\\x08\\x0e-\\x1f\x7f-\x84\x86-\x9f\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0]"
_BEYOND_16_BITS = "[\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
_INVISIBLE = re.compile(f"{_FORMATTING}|{_OTHERS}|{_BEYOND_16_BITS}")
"""Control characters, formatting (category Cf, with those that turn the direction of writing), fillers and variation
selectors (Default_Ignorable_Code_Point)."""


def clean_text(text: str) -> str:
    """Returns the text in NFC, without blanks at its ends; each run of blanks is one space."""
    if text.isascii() and text.isprintable() and "  " not in text:  # nearly every text
        return text.strip(" ")
    return unicodedata.normalize("NFC", _BLANKS.sub(" ", text).strip(" "))


def find_invisible(text: str) -> tuple[int, str] | None:
    """Returns the position (from 1) and the code point (as `U+200B`) of the first character that cannot be seen.

    None if every character can be.
    """
    if text.isascii() and text.isprintable():
        return None
    found = _INVISIBLE.search(text)
    return (found.start() + 1, f"U+{ord(found.group()):04X}") if found else None


def remove_invisible(text: str) -> str:
    """Returns the text without the characters that cannot be seen."""
    return text if text.isascii() and text.isprintable() else _INVISIBLE.sub("", text)
