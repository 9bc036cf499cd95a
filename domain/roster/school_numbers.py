"""The numbers and words by which the public register (GIAS) knows schools and trusts, and how requests write them.

Source: Department for Education, "Get Information about Schools": guidance on establishment and group fields.
"""

import re

from domain.declare.vocabulary import Vocabulary, declare_form, declare_list, declare_range

URN_PATTERN, UKPRN_PATTERN = "[1-9][0-9]{5}", "[1-9][0-9]{7}"
LA_PATTERN, ESTABLISHMENT_PATTERN = "[0-9]{3}", "[0-9]{4}"
TRUST_TYPES = {6: "multi-academy", 10: "single-academy"}
"""Group type codes that are trusts, among sponsors, federations, children's centres and others."""

_LONG_STATUSES = {"open, but proposed to close": "proposed to close"}
_LAESTAB = re.compile(f"({LA_PATTERN})[ /]?({ESTABLISHMENT_PATTERN})", re.ASCII)


def parse_urn(urn: str | int) -> int:
    """Returns a unique reference number. Raises ValueError for anything else."""
    text = str(urn).strip()
    if not re.fullmatch(URN_PATTERN, text, re.ASCII):
        raise ValueError("A URN has six digits.")
    return int(text)


def parse_laestab(text: str) -> str:
    """Returns a LAESTAB as seven digits; accepts `999/2101` and `999 2101`. Raises ValueError for anything
    else.
    """
    parts = _LAESTAB.fullmatch(text.strip())
    if not parts:
        raise ValueError("A LAESTAB has seven digits, such as 9992101 or 999/2101.")
    return parts[1] + parts[2]


def parse_status(text: str) -> str:
    """Returns the status of a school or trust in lower case; any text is one, since GIAS may get others."""
    status = text.lower()
    return _LONG_STATUSES.get(status, status)


def pad_company_number(text: str) -> str:
    """Restores the leading zeros of a Companies House number, which has eight characters; data frames drop them from
    numbers.
    """
    return text.zfill(8) if text.isdecimal() else text


def _write_postcode(text: str) -> str:
    characters = "".join(text.upper().split())
    return f"{characters[:-3]} {characters[-3:]}"


def _clean_status(text: str) -> str:
    return parse_status(text.strip())


URN = Vocabulary(parse_urn, least=100_000, most=999_999, sentence="A URN has six digits.")
MAX_AGE = 99
"""The highest statutory age of a school, in years, that is not a typing error."""
AGE = declare_range(0, MAX_AGE)
LAESTAB = Vocabulary(parse_laestab)
UKPRN = declare_form(UKPRN_PATTERN, "A UKPRN has eight digits.")
LA_CODE = declare_form(LA_PATTERN, "The code of a local authority has three digits.")
GROUP_ID = declare_form("[A-Z]{2}[0-9]{1,8}", "A GIAS group id is such as TR02541.", lambda text: text.strip().upper())
COMPANY_NUMBER = declare_form(
    "[0-9A-Z]{8}", "A number at Companies House has eight characters.", lambda text: pad_company_number(text.strip().upper())
)
POSTCODE = declare_form("[A-Z]{1,2}[0-9][0-9A-Z]? [0-9][A-Z]{2}", "A postcode is such as GU2 7XH.", _write_postcode)
TRUST_KIND = declare_list(*TRUST_TYPES.values())
TRUST_STATUS = declare_list("open", "closed", "proposed to open", clean=_clean_status)
SCHOOL_STATUS = declare_list("open", "closed", "proposed to open", "proposed to close", clean=_clean_status)
PHASE = declare_list(
    *("Nursery", "Primary", "Middle deemed primary", "Secondary", "Middle deemed secondary", "16 plus", "All-through"),
    "Not applicable",
)
