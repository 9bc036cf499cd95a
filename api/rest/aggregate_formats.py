"""In which media type aggregates are answered: JSON, CSV or a picture, by `format` or else by Accept."""

from http import HTTPStatus

from starlette.requests import Request

from api.http.accept import choose_media_type, read_weights
from api.http.field_values import join_lines
from api.http.problems import HttpProblem
from api.http.response import JSON, HeaderField
from api.rest import csv
from domain.aggregates.dimensions import CLASS
from domain.declare.errors import Issue
from domain.declare.vocabulary import find_word
from domain.read.staff_names import make_class_issue

FORMATS = (*csv.FORMATS, "svg")
SVG = (b"content-type", b"image/svg+xml; charset=utf-8")
SVG_HEADERS: tuple[HeaderField, ...] = (
    (b"content-disposition", b'inline; filename="aggregates.svg"'),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    ),
)
"""The header fields of a picture: a browser runs nothing in it, loads nothing for it and takes it for nothing else."""
_OFFERED = {"application/json": JSON, "text/csv": csv.CSV, "image/svg+xml": SVG}


def choose_format(request: Request) -> HeaderField:
    """Returns the media type that a request for aggregates prefers: by `format`, or without a valid one by Accept.

    A client that accepts none of them gets JSON (RFC 9110, section 12.5.1). Raises HttpProblem 406 where it asks for an image of another type, since
    whatever shows an image cannot show JSON.
    """
    name = find_word(request.query_params.get("format", ""), FORMATS)
    if name is not None:
        return (JSON, csv.CSV, SVG)[FORMATS.index(name)]
    header = join_lines(request.scope, b"accept")
    if header is None or "format" in request.query_params:
        return JSON
    chosen = choose_media_type(header, tuple(_OFFERED))
    if chosen is None and any(kind.startswith("image/") and weight > 0 for kind, weight in read_weights(header).items()):
        raise HttpProblem(HTTPStatus.NOT_ACCEPTABLE, "not-acceptable", f"Accept one of {', '.join(_OFFERED)}.")
    return _OFFERED[chosen or "application/json"]


def find_picture_issues(request: Request) -> list[Issue]:
    """Returns what is wrong with the parameters of a picture beside those of any question."""
    parameters = request.query_params
    issues = []
    if len(parameters.getlist("format")) > 1:
        issues.append(Issue("format", "parameter-repeated", "format appears more than once."))
    issues += [
        Issue(name, "parameter-invalid", f"{name} is for CSV only; ask for it with format=csv.")
        for name in ("bom", "shape")
        if name in parameters
    ]
    message = "A picture has no pages: leave {} out."
    issues += [Issue(name, "picture-is-whole", message.format(name)) for name in ("first", "after") if name in parameters]
    if any(find_word(name.strip(), (CLASS,)) for name in ",".join(parameters.getlist("groupBy")).split(",")):
        issues.append(make_class_issue("groupBy", "A picture is never divided by class, since it travels farther than its reader."))
    return issues
