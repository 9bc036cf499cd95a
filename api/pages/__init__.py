"""The pages for a person at a browser: /docs, the reference of the API, and /explorer, where GraphQL is asked.

Both work without the internet: what they name is served here, and their Content-Security-Policy lets a browser speak to no other host. They
show the public contract, so they need no token. The reference is drawn by Scalar (MIT), whose file comes with the package offapi (Apache-2.0);
the rest is in this folder, as it is served: there is no build step.
"""

import gzip
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent
SCALAR = Path(
    str(distribution("offapi").locate_file("offapi/scalar.js"))
)  # found, not imported: importing it reads every file it has
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".html": "text/html"}

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{}; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
CHECKED = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable", "Vary": "Accept-Encoding", **CHECKED}


def routes() -> list[Route]:
    """The pages, and whatever they name."""
    return [
        # Scalar writes its styles into the page
        Route("/docs", _page("docs.html", POLICY.format(" 'unsafe-inline'")), methods=["GET"]),
        Route("/explorer", _page("explorer.html", POLICY.format("")), methods=["GET"]),
        Route("/assets/{version}/{name}", _asset, methods=["GET"]),
    ]


@dataclass(frozen=True)
class Asset:
    """A file as it is sent, plain or compressed."""

    body: bytes
    zipped: bytes
    media_type: str


@cache
def assets() -> dict[str, Asset]:
    """Every file that is served, by its name; nothing else can be asked for."""
    found = sorted(path for path in (*FOLDER.iterdir(), SCALAR) if path.suffix in MEDIA_TYPES and path.suffix != ".html")
    bodies = {path.name: path.read_bytes() for path in found}
    return {name: Asset(body, gzip.compress(body, mtime=0), MEDIA_TYPES[Path(name).suffix]) for name, body in bodies.items()}


@cache
def version() -> str:
    """Changes with any byte of any asset, so that a browser may keep what it has for ever."""
    return sha256(b"".join(asset.body for asset in assets().values())).hexdigest()[:16]


def _page(name: str, policy: str) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint of a page. It is asked for again each time, and names its assets by their version."""

    async def page(request: Request) -> Response:
        named = await run_in_threadpool(version)
        body = (FOLDER / name).read_text("utf-8").replace("{assets}", f"assets/{named}")
        return Response(body, 200, {"Content-Security-Policy": policy, "Cache-Control": "no-cache", **CHECKED}, "text/html")

    return page


async def _asset(request: Request) -> Response:
    asked, name = request.path_params["version"], request.path_params["name"]
    asset = (await run_in_threadpool(assets)).get(name)
    if asset is None or asked != version():
        raise HTTPException(404)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.zipped, 200, {"Content-Encoding": "gzip", **FOR_EVER}, asset.media_type)
    return Response(asset.body, 200, FOR_EVER, asset.media_type)
