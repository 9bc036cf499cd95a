"""The keys by which names of people are compared and sorted."""

import sys
import unicodedata

import pytest

from domain.roster.names import fold_name, make_sort_key
from domain.support.texts import clean_text, find_invisible
from tests.fixtures.sizes import choose_size


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zoë", "Zoe\u0308"),  # NFC and NFD
        ("O’Brien", "O'Brien"),
        ("Oʼbrien", "O`BRIEN"),
        ("D´Souza", "D'Souza"),
        ("Anne‑Marie", "Anne-Marie"),
        ("Smith–Jones", "smith-jones"),
        ("AINSWORTH", "Ainsworth"),
        ("STRASSE", "Straße"),
        ("İPEK", "ipek"),
        ("IŞIK", "Işık"),
        ("ΠΑΠΑΣ", "Παπας"),
        ("Ｙａｍａｄａ", "Yamada"),
        ("ﬁsher", "Fisher"),
        ("ǅaković", "džaković"),
        (" de\u00a0 Souza\t", "de Souza"),
        ("An\u200bn", "Ann"),  # stored before invisible characters were refused
    ],
)
def test_names_that_differ_in_writing_alone_have_the_same_key(one: str, other: str) -> None:
    assert fold_name(one) == fold_name(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Zoë", "Zoe"),
        ("Łucja", "Lucja"),
        ("Eva", "Evan"),
        ("Smith-Jones", "Smith Jones"),
        ("O'Brien", "OBrien"),
        ("Ann", "Anne"),
        ("Ann", ""),
    ],
)
def test_other_names_have_other_keys(one: str, other: str) -> None:
    assert fold_name(one) != fold_name(other)


def test_the_key_of_any_character_does_not_depend_on_case_or_on_unicodes_form() -> None:
    wrong = []
    for code_point in range(0, sys.maxunicode + 1, choose_size(3, 1)):
        character = chr(code_point)
        if unicodedata.category(character) in {"Cn", "Co", "Cs"}:
            continue
        name = f"A{character}b"
        key = fold_name(name)
        forms = [name.upper(), name.lower(), name.title(), *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
        if any(fold_name(form) != key for form in [*forms, key]):
            wrong.append(f"U+{code_point:04X}")
    assert wrong == []


def test_every_control_and_formatting_character_is_invisible_unless_it_is_a_blank() -> None:
    wrong = []
    for code_point in range(sys.maxunicode + 1):
        character = chr(code_point)
        category = unicodedata.category(character)
        is_blank = clean_text(f"a{character}b") == "a b"
        if category == "Zs" and not is_blank:
            wrong.append(f"U+{code_point:04X} is not a blank")
        if category in {"Cc", "Cf", "Zl", "Zp"} and not is_blank and find_invisible(f"a{character}b") != (2, f"U+{code_point:04X}"):
            wrong.append(f"U+{code_point:04X} is not found")
        if category[0] in "LN" and find_invisible(character) and "FILLER" not in unicodedata.name(character):
            wrong.append(f"U+{code_point:04X} is a letter")
    assert wrong == []


@pytest.mark.parametrize("text", ["", " ", "\u3000", "\t\n", "\u2028"])
def test_a_text_of_blanks_is_cleaned_to_nothing(text: str) -> None:
    assert clean_text(text) == ""


def test_a_clean_text_is_in_nfc_with_single_blanks() -> None:
    assert clean_text("\u00a0 Zoe\u0308 \t de\u2009la  Cruz \r\n") == "Zoë de la Cruz"


ROOT_ORDER = [
    *(
        "",
        "-",
        "'t Hooft",
        "1st",
        "Ångström",
        "d'Arcy",
        "d’Arcy",
        "De Souza",
        "de Vries",
        "Dean",
        "Đorđević",
        "Dos Santos",
        "Élan",
        "Isik",
        "Işık",
    ),
    *(
        "Łuczak",
        "Łukasz",
        "Müller",
        "Muller-Smith",
        "Mullerson",
        "O'Brien",
        "O’Connor",
        "O'Neill",
        "Obrien",
        "Oster",
        "Øster",
        "Østergaard",
    ),
    *("Özil", "Van den Berg", "van der Berg", "Zeta", "Zhou", "Żuk", "Παπάς", "Иванов", "Йовков", "أحمد", "王"),
]
"""As ICU 72 sorts them with the root collation. It splits names by the kind of their apostrophe, which is not wanted."""


def test_names_are_sorted_in_unicodes_root_order() -> None:
    unsorted = sorted(ROOT_ORDER)
    assert sorted(unsorted, key=lambda name: (make_sort_key(name).encode(), name)) == ROOT_ORDER


def test_a_sort_key_does_not_depend_on_unicodes_form() -> None:
    for name in ROOT_ORDER:
        assert make_sort_key(unicodedata.normalize("NFD", name)) == make_sort_key(name)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("Smith", "Smith Jones"),  # the shorter one first
        ("Zoe", "Zoë"),  # accents only where the letters are the same
        ("Zoëa", "Zoeb"),
        ("mc donald", "McDonald"),  # a blank sorts before every letter
        ("adam", "Adam"),  # small letters first, where all else is the same
        ("Muñoz", "Muoz"),
        ("strasse", "straße"),
        ("Zzz", "ጸሐይ"),
        ("Zzz", "\U0001f600"),  # what is not listed comes last
    ],
)
def test_letters_sort_before_accents_and_accents_before_case(first: str, second: str) -> None:
    assert make_sort_key(first).encode() < make_sort_key(second).encode()
