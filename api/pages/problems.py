"""GET /problems and GET /problems/{code}: the error codes, as JSON or as a page for a person at a browser (RFC 9457 section 3.1.1)."""

import json
from functools import cache
from html import escape
from http import HTTPStatus

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.http.accept import choose_media_type
from api.http.field_values import join_lines
from api.http.problem_catalogue import PROBLEM_CODES, ProblemCode
from api.http.problems import ProblemUnknown
from api.http.response import SECURITY_HEADERS
from api.pages import FOLDER, POLICY, compute_version
from api.rest.query_string import check_parameters

CACHED = {"Cache-Control": "public, max-age=3600", "Vary": "Accept"}
JSON, HTML = "application/json", "text/html"
TEMPLATE = (FOLDER / "problem.html").read_text("utf-8")


def make_routes() -> list[Route]:
    """The list of codes, and each code."""
    return [Route("/problems", _list_codes, methods=["GET"]), Route("/problems/{code}", _show_code, methods=["GET"])]


async def _list_codes(request: Request) -> Response:
    check_parameters(request.query_params)
    if prefers_html(request):
        return await _make_page("Error codes", _write_list(), root="")
    return Response(_encode_list(request.app.state.settings.base_url), headers=CACHED, media_type=JSON)


async def _show_code(request: Request) -> Response:
    """Raises ProblemUnknown for a code that is not in the catalogue."""
    check_parameters(request.query_params)
    base_url, code = request.app.state.settings.base_url, PROBLEM_CODES.get(request.path_params["code"])
    if code is None:
        raise ProblemUnknown()
    if prefers_html(request):
        return await _make_page(code.code, _write_code(code, base_url), root="../")
    return Response(msgspec.json.encode(code.describe(base_url)), headers=CACHED, media_type=JSON)


def prefers_html(request: Request) -> bool:
    """Whether Accept prefers text/html to JSON."""
    return choose_media_type(join_lines(request.scope, b"accept") or "", (JSON, HTML)) == HTML


@cache
def _encode_list(base_url: str) -> bytes:
    return msgspec.json.encode({"data": [code.describe(base_url) for code in PROBLEM_CODES.values()]})


async def _make_page(title: str, main: str, root: str) -> Response:
    """The page with this content. `root` leads from its URL to that of the API."""
    assets = f"assets/{await run_in_threadpool(compute_version)}"
    body = TEMPLATE.replace("{title}", escape(title)).replace("{root}", root).replace("{assets}", assets).replace("{main}", main)
    return Response(body, headers={"Content-Security-Policy": POLICY.format(""), **CACHED, **SECURITY_HEADERS}, media_type=HTML)


@cache
def _write_list() -> str:
    items = [
        f'<li><a href="problems/{escape(code.code)}">{escape(code.code)}</a> <span>{escape(code.title)}</span></li>'
        for code in PROBLEM_CODES.values()
    ]
    return "\n".join(
        [
            "<h1>Error codes</h1>",
            '<p class="title">What each error of the API means, and what to do about it</p>',
            "<p>A code is the last part of a problem's <code>type</code>, the <code>code</code> of one of its <code>issues</code> or of an import's,"
            " the <code>error</code> of the token endpoint, or the <code>extensions.code</code> of a GraphQL error.</p>",
            '<ul class="codes">',
            *items,
            "</ul>",
        ]
    )


def _write_code(code: ProblemCode, base_url: str) -> str:
    statuses = ", ".join(str(status) for status in code.statuses if status != HTTPStatus.OK)
    where = [f"Status {statuses}"] if statuses else []
    if HTTPStatus.OK in code.statuses:
        where.append("among the issues of an answer with status 200")
    example = json.dumps(code.make_example(base_url), indent=2, ensure_ascii=False, default=str)
    return "\n".join(
        [
            '<p class="trail"><a href="../problems">Error codes</a></p>',
            f'<h1 class="code">{escape(code.code)}</h1>',
            f'<p class="title">{escape(code.title)}</p>',
            f'<p class="statuses">{escape(", or ".join(where).capitalize())}</p>',
            f"<h2>What is wrong</h2>\n<p>{escape(code.meaning)}</p>",
            f"<h2>What to do</h2>\n<p>{escape(code.action)}</p>",
            f"<h2>Example</h2>\n<pre>{escape(example)}</pre>",
        ]
    )
