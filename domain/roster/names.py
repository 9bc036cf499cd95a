"""How names of people are compared and sorted, in one place."""

import unicodedata
from functools import cache
from pathlib import Path

from domain.support.texts import clean_text, join_visible

NAMES_RULE = 1
"""The version of the rules of this file, stored beside the keys made by them. Whoever changes a rule increments it."""

NAME_KEYS = (
    *("surname_folded", "forename_folded", "preferred_surname_folded", "preferred_forename_folded"),
    *("surname_key", "forename_key", "preferred_surname_key", "preferred_forename_key", "names_rule"),
)
"""The columns of pupils that `make_name_keys` fills."""

_APOSTROPHES = "'`´ʹʻʼʽʾʿˈ‘’‛′‵՚׳\u1ffdꞌ＇"
_HYPHENS = "-‐‑‒–—―⁃−֊־﹘﹣－"
_LIKE = str.maketrans(dict.fromkeys(_APOSTROPHES, "'") | dict.fromkeys(_HYPHENS, "-"))
_DOTS = str.maketrans({"ı": "i"})


def unify_punctuation(text: str) -> str:
    """Returns the text with every kind of apostrophe as `'` and every kind of hyphen as `-`: which of them is typed says
    more about the keyboard than about the name.
    """
    return text.replace("`", "'") if text.isascii() else text.translate(_LIKE)


def fold_name(text: str) -> str:
    """Returns the key by which names are compared: names with the same key are the same name.

    Case, Unicode's forms of the same letters (NFC, NFD, wide letters, ligatures), kinds of apostrophe and hyphen, runs
    of blanks and invisible characters make no difference; accents do. It is Unicode's case folding of compatible
    forms (The Unicode Standard 3.13, D146), with the Turkish dotted and dotless i as one letter, since a name in
    capitals has lost the difference.
    """
    if text.isascii():
        return unify_punctuation(clean_text(join_visible(text))).lower()
    folded = unicodedata.normalize("NFKD", unify_punctuation(join_visible(text))).casefold()
    folded = unicodedata.normalize("NFKD", folded).translate(_DOTS).replace("i\u0307", "i")
    return unicodedata.normalize("NFC", clean_text(unify_punctuation(folded)))


def keep_spelling(text: str | None, stored: str | None) -> str | None:
    """Returns the stored name if the text is the same but for kinds of apostrophe and of hyphen, otherwise the text."""
    is_same = text is not None and stored is not None and unify_punctuation(text) == unify_punctuation(stored)
    return stored if is_same else text


_LOWEST = 0x21
"""The code point of weight 0. The blank below it separates the levels of a key."""
LOWEST_WEIGHT = chr(_LOWEST)
UNLISTED = "\ufffd"

_Weights = tuple[str, str, str]


def make_sort_key(text: str) -> str:
    """Returns a text whose order by code points (PostgreSQL's collation "C") is that of the names in Unicode's root
    order: by letters, then by accents, then by case (UTS #10). No particle is moved, and blanks and signs count, as in
    the root collation of CLDR.

    Every PostgreSQL sorts these keys alike; one without ICU, such as the embedded one, cannot sort the names. Kinds of
    apostrophe and of hyphen are sorted as one.
    """
    weights = [weigh(character) for character in unicodedata.normalize("NFKC", unify_punctuation(clean_text(join_visible(text))))]
    primary, secondary, tertiary = (("".join(level)) for level in zip(*weights, strict=True)) if weights else ("", "", "")
    # without the lowest weights at its end, a level has the same order: whatever follows is lower still
    return f"{primary} {secondary.rstrip(LOWEST_WEIGHT)} {tertiary.rstrip(LOWEST_WEIGHT)}"


@cache
def list_weights() -> dict[str, _Weights]:
    """Returns the weights of characters, each as a code point."""
    order: dict[str, _Weights] = {}
    for line in Path(__file__).with_name("root_order.txt").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            code_point, *elements = line.split()
            levels = zip(*(element.split(".") for element in elements), strict=True)
            primary, secondary, tertiary = ("".join(chr(_LOWEST + int(n)) for n in level if n != "-") for level in levels)
            order[chr(int(code_point, 16))] = primary, secondary, tertiary
    return order


def weigh(character: str) -> _Weights:
    """Returns the weights of a character, or of the parts it is composed of.

    One that is not listed comes after all that are, by its code point.
    """
    order = list_weights()
    if character in order:
        return order[character]
    parts = [order.get(part, (UNLISTED + part, LOWEST_WEIGHT, LOWEST_WEIGHT)) for part in unicodedata.normalize("NFD", character)]
    primary, secondary, tertiary = ("".join(level) for level in zip(*parts, strict=True))
    return primary, secondary, tertiary


def make_name_keys(
    surname: str, forename: str, preferred_surname: str | None, preferred_forename: str | None
) -> tuple[str | int | None, ...]:
    """Returns the values of NAME_KEYS for the names of a pupil."""
    folded = (None if name is None else fold_name(name) for name in (surname, forename, preferred_surname, preferred_forename))
    sorted_by = (surname, forename, preferred_surname or surname, preferred_forename or forename)
    return *folded, *map(make_sort_key, sorted_by), NAMES_RULE
