"""Header fields of REST requests and responses: If-Match, Prefer, the ETag of a row that was changed, and Link."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request

from api.http.etag import ENTITY_TAG
from api.http.field_values import join_lines, split_elements, split_parameters, unquote
from api.http.problems import HttpProblem
from domain.declare.errors import BadRequest, Issue

_ROW_VERSION = re.compile(r"([1-9][0-9]{0,9})(?:\.[0-9a-f]+)?(?:-gzip)?")


def make_row_etag(version: object) -> str:
    """The ETag that the response to a change of a row carries: its new version. The ETag of a GET adds a dot and a digest."""
    return f'"{version}"'


def read_if_match(request: Request) -> frozenset[int] | None:
    """The row versions that If-Match lists, or None for `*` (RFC 9110, 13.1.1).

    A weak tag and a tag that does not begin with a version match no row. Raises HttpProblem 428 where the header is missing, and BadRequest where it
    is malformed.
    """
    value = join_lines(request.scope, b"if-match")
    if value is None:
        detail = 'If-Match says which version of the row this is for: the ETag of its GET, or its version in quotes, such as "3".'
        raise HttpProblem(HTTPStatus.PRECONDITION_REQUIRED, "precondition-required", detail)
    if value.strip() == "*":
        return None
    tags = ENTITY_TAG.findall(value)
    if not tags or ENTITY_TAG.sub("", value).strip(" \t,"):
        message = 'If-Match holds entity tags in double quotes, such as "3", or a * alone.'
        raise BadRequest(message, code="if-match-malformed", issues=(Issue("If-Match", "if-match-malformed", message),))
    versions = [_ROW_VERSION.fullmatch(opaque) for weak, opaque in tags if not weak]
    return frozenset(int(version[1]) for version in versions if version)


def refuse_if_match(request: Request, message: str) -> None:
    """Raises BadRequest for a precondition that the write would ignore, though RFC 9110 section 13.1 forbids the write where it is false."""
    if "if-match" in request.headers:
        raise BadRequest(message, code="if-match-unused", issues=(Issue("If-Match", "if-match-unused", message),))


def refuse_if_none_match(request: Request) -> None:
    """Does the same for If-None-Match, which no write takes."""
    if "if-none-match" in request.headers:
        message = "A write creates or changes what it names, whatever is there: leave If-None-Match out."
        raise BadRequest(message, code="if-none-match-unused", issues=(Issue("If-None-Match", "if-none-match-unused", message),))


@dataclass(frozen=True)
class Preferences:
    """The preferences of a write that this API supports (RFC 7240). `applied` is the value of Preference-Applied, and `applied_to_jobs` that of the
    answer to a stream that becomes a job, which `is_async` asks for."""

    lenient: bool = False
    with_results: bool = False
    applied: str = ""
    applied_to_jobs: str = ""
    is_async: bool = False


def read_preferences(request: Request) -> Preferences:
    """The preferences in the Prefer headers, of each the first. Unknown preferences are ignored (RFC 7240, section 2)."""
    preferences: dict[str, str] = {}
    for element in split_elements(join_lines(request.scope, b"prefer") or ""):
        name, _, value = split_parameters(element)[0].partition("=")
        preferences.setdefault(name.strip().lower(), unquote(value.strip()).lower())
    applied = [
        f"{name}={preferences[name]}"
        for name, supported in (("handling", ("strict", "lenient")), ("return", ("minimal", "representation")))
        if preferences.get(name) in supported
    ]
    is_async = "respond-async" in preferences
    of_jobs = [each for each in applied if each.startswith("handling")] + ["respond-async"] * is_async
    lenient, with_results = preferences.get("handling") == "lenient", preferences.get("return") == "representation"
    return Preferences(lenient, with_results, ", ".join(applied), ", ".join(of_jobs), is_async)


def make_next_link(request: Request, after: str) -> str:
    """The Link header that leads to the page after a cursor (RFC 8288). It keeps the request's other parameters."""
    query = request.scope["query_string"].decode("latin-1").replace("<", "%3C").replace(">", "%3E")
    others = "&".join(part for part in query.split("&") if part and not part.startswith("after="))
    path = quote(request.scope["raw_path"].decode("latin-1"), safe="/%:@!$&'()*+,;=~-._")
    return f'<{path}?{others}{"&" if others else ""}after={after}>; rel="next"'
