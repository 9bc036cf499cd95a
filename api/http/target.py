"""The target of a request (RFC 3986 section 2.1): the escapes of its query are whole and stand for UTF-8, and a slash that is escaped in its path
separates nothing.
"""

import re
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.types import Scope

from domain.declare.errors import BadRequest, Issue, describe_unreadable

_NO_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
MAX_ISSUES = 100


_SLASH = "\x1f"
"""Stands for an escaped slash while routes are matched. No path holds it, since control characters are refused."""


def keep_slashes(scope: Scope) -> None:
    """Sets the path of a request in which a slash is escaped, so that routes do not take it for the end of a segment."""
    path: bytes = scope.get("raw_path") or b""
    if b"%2F" in path or b"%2f" in path:
        segments = (unquote_to_bytes(segment).decode("utf-8", "replace").replace("/", _SLASH) for segment in path.split(b"/"))
        scope["path"] = "/".join(segments)


def read_path(request: Request, name: str) -> str:
    """The value of a parameter in the path."""
    value: str = request.path_params.get(name, "")
    return value.replace(_SLASH, "/")


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
    raise BadRequest(describe_unreadable(len(issues)), code="parameter-invalid", issues=tuple(issues))


def _is_text(part: bytes) -> bool:
    try:
        unquote_to_bytes(part).decode()
    except UnicodeDecodeError:
        return False
    return _NO_ESCAPE.search(part) is None
