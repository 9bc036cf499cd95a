"""Checks the query string of a request (RFC 3986 section 2.1): its escapes are whole, and stand for UTF-8."""

import re
from urllib.parse import unquote_to_bytes

from starlette.types import Scope

from domain.declare.errors import BadRequest, Issue

_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
MAX_ISSUES = 100


def check_query(scope: Scope) -> None:
    """Raises BadRequest with an issue for each parameter whose bytes are no text."""
    query: bytes = scope["query_string"]
    if (b"%" not in query and query.isascii()) or _is_text(query):
        return
    issues: list[Issue] = []
    for part in query.split(b"&"):
        if not _is_text(part) and len(issues) < MAX_ISSUES:
            name = unquote_to_bytes(part.partition(b"=")[0]).decode("utf-8", "replace")
            message = f"{name} is not UTF-8, with each byte of other characters than ASCII escaped as % and two hexadecimal digits."
            issues.append(Issue(name, "parameter-invalid", message))
    noun = "parameter" if len(issues) == 1 else "parameters"
    raise BadRequest(f"{len(issues)} {noun} cannot be read.", code="parameter-invalid", issues=tuple(issues))


def _is_text(part: bytes) -> bool:
    try:
        unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        return False
    return _NO_ESCAPE.search(part) is None
