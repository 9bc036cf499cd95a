"""HTML pages: /docs, the API reference, and /explorer, where a person writes and runs GraphQL queries.

Both work without the internet: their assets are served here, and their Content-Security-Policy allows no other host.
They show the public contract, so they need no token. The reference is drawn by Scalar (MIT), whose file comes with the
package offapi (Apache-2.0). All other files are in this folder and served as they are, without a build step.
"""

import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from http import HTTPStatus
from importlib.metadata import distribution
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.http.compression import is_gzip_wanted
from api.http.field_values import join_lines
from api.http.response import SECURITY_HEADERS

FOLDER = Path(__file__).parent
# located without importing offapi, which would read all of its files
SCALAR = Path(str(distribution("offapi").locate_file("offapi/scalar.js")))
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{}; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ASSET_HEADERS = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding", **SECURITY_HEADERS}


def make_routes() -> list[Route]:
    """Returns the routes of the pages and their assets."""
    return [
        # Scalar writes its styles into the page
        Route("/docs", _make_page_endpoint("docs.html", POLICY.format(" 'unsafe-inline'")), methods=["GET"]),
        Route("/explorer", _make_page_endpoint("explorer.html", POLICY.format("")), methods=["GET"]),
        Route("/assets/{version}/{name}", _serve_asset, methods=["GET"]),
    ]


@dataclass(frozen=True)
class Asset:
    """A file, uncompressed and compressed."""

    body: bytes
    gzipped: bytes
    media_type: str


@cache
def load_assets() -> dict[str, Asset]:
    """Returns every file that is served, by name."""
    paths = sorted(path for path in (*FOLDER.iterdir(), SCALAR) if path.suffix in MEDIA_TYPES and path.suffix != ".html")
    bodies = {path.name: path.read_bytes() for path in paths}
    return {name: Asset(body, gzip.compress(body, mtime=0), MEDIA_TYPES[Path(name).suffix]) for name, body in bodies.items()}


@cache
def compute_version() -> str:
    """Returns a hash of all assets. It is part of their URLs, so that a browser may cache them for ever."""
    return sha256(b"".join(asset.body for asset in load_assets().values())).hexdigest()[:16]


def _make_page_endpoint(name: str, policy: str) -> Callable[[Request], Awaitable[Response]]:
    """Returns the endpoint of a page. The page is not cached and names the present version of its assets."""

    async def serve_page(request: Request) -> Response:
        version = await run_in_threadpool(compute_version)
        body = (FOLDER / name).read_text("utf-8").replace("{assets}", f"assets/{version}")
        return Response(
            body, 200, {"Content-Security-Policy": policy, "Cache-Control": "no-cache", **SECURITY_HEADERS}, "text/html"
        )

    return serve_page


async def _serve_asset(request: Request) -> Response:
    version, name = request.path_params["version"], request.path_params["name"]
    asset = (await run_in_threadpool(load_assets)).get(name)
    if asset is None or version != compute_version():
        raise HTTPException(HTTPStatus.NOT_FOUND)
    if is_gzip_wanted(join_lines(request.scope, b"accept-encoding") or ""):
        return Response(asset.gzipped, 200, {"Content-Encoding": "gzip", **ASSET_HEADERS}, asset.media_type)
    return Response(asset.body, 200, ASSET_HEADERS, asset.media_type)
