"""The sender's own ids of pupils, which must be no number that identifies a child elsewhere.

A UPN and the NHS number (from 2026 the single unique identifier for children) have fields or rules of their own, or are
never stored. As a reference they would be shown to whoever may see references.
"""

import re

from domain.roster.upn import parse_upn

NHS_DIGITS = 10
_BETWEEN = r"[\s./-]*"
"""What people write between the groups of a number."""
_NHS_NUMBER = re.compile(f"[0-9]{{3}}{_BETWEEN}[0-9]{{3}}{_BETWEEN}[0-9]{{4}}")
IS_IDENTIFIER = "reference-is-identifier", "A reference may not be a UPN or an NHS number."
"""Code and message of a reference that is one."""
NO_REFERENCE = "A reference is no UPN and no NHS number; a UPN has a field of its own."


def is_identifier(reference: str) -> bool:
    """Whether a reference is a valid UPN or a valid NHS number, however it is divided into groups."""
    return _is_upn(re.sub(_BETWEEN, "", reference)) or _is_nhs_number(reference.strip())


def may_repeat(reference: str) -> bool:
    """Whether issues and results may repeat a reference as it was sent: not where it is a UPN or an NHS number, or has one
    between other signs, such as `UPN: P207000016049`.
    """
    if len(reference) < NHS_DIGITS:
        return True
    words = re.split(r"[^0-9A-Za-z]+", reference)
    return not any(map(is_identifier, (reference, "".join(words), *words)))


def _is_upn(text: str) -> bool:
    try:
        parse_upn(text)
    except ValueError:
        return False
    return True


def _is_nhs_number(text: str) -> bool:
    """Whether 10 digits agree with their check digit.

    Source: NHS Data Dictionary, NHS NUMBER. The first nine are weighted 10 to 2; 11 minus the sum modulo 11 is the
    check digit, 11 is written 0, and 10 is never issued.
    """
    if not _NHS_NUMBER.fullmatch(text):
        return False
    digits = [int(character) for character in text if character.isdigit()]
    return (11 - sum(weight * digit for weight, digit in zip(range(10, 1, -1), digits, strict=False)) % 11) % 11 == digits[9]
