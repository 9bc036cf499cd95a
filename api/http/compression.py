"""Compresses responses with gzip (RFC 9110, section 12.5.3), by Starlette's GZipResponder. This module reads Accept-Encoding and adapts the ETag."""

from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipResponder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.field_values import join_lines

MIN_SIZE = 1_000
"""Bytes of the smallest response that is compressed."""
LEVEL = 5


class Gzip:
    """ASGI middleware that compresses responses.

    A strong ETag identifies bytes, so that of a compressed response differs: "x" becomes "x-gzip" (RFC 9110, section 8.8.3.3).
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        if not is_gzip_wanted(join_lines(scope, b"accept-encoding") or ""):

            async def send_uncompressed(message: Message) -> None:
                if message["type"] == "http.response.start" and _read_length(message) >= MIN_SIZE:
                    message["headers"].append((b"vary", b"Accept-Encoding"))
                await send(message)

            return await self.app(scope, receive, send_uncompressed)

        async def send_compressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                _adapt_etag(MutableHeaders(scope=message), message["status"], join_lines(scope, b"if-none-match") or "")
            await send(message)

        await GZipResponder(self.app, MIN_SIZE, LEVEL)(scope, receive, send_compressed)


def _read_length(message: Message) -> int:
    return int(next((value for name, value in message["headers"] if name == b"content-length"), b"0"))


def _adapt_etag(headers: MutableHeaders, status: int, if_none_match: str) -> None:
    """Changes the ETag of a compressed response, and of a 304 to the one that If-None-Match lists."""
    tag = headers.get("etag", "")
    if tag.startswith('"'):
        compressed = f'{tag[:-1]}-gzip"'
        if headers.get("content-encoding") == "gzip" or (status == 304 and compressed in if_none_match):
            headers["ETag"] = compressed


def is_gzip_wanted(accepted: str) -> bool:
    """Whether Accept-Encoding accepts gzip with a weight no lower than that of identity."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        try:
            weights[coding] = float(next((p[2:] for p in parameters if p.startswith("q=")), "1"))
        except ValueError:
            weights[coding] = 0.0
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)
