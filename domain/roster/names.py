"""How names of people are compared and sorted, in one place."""

import unicodedata

from domain.support.texts import clean_text, remove_invisible

_APOSTROPHES = "'`´ʹʻʼʽʾʿˈ‘’‛′‵՚׳´ꞌ＇"
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
        return unify_punctuation(clean_text(remove_invisible(text))).lower()
    folded = unicodedata.normalize("NFKD", unify_punctuation(remove_invisible(text))).casefold()
    folded = unicodedata.normalize("NFKD", folded).translate(_DOTS).replace("i\u0307", "i")
    return unicodedata.normalize("NFC", clean_text(unify_punctuation(folded)))
