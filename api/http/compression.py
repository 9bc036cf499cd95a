"""gzip for who asks for it (RFC 9110 section 12.5.3). Starlette compresses; when it should, and what then becomes of an ETag, is decided here."""

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipResponder
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SMALL = 1_000
"""Bytes below which it is not worth the while."""
LEVEL = 5


class Gzip:
    """Compresses answers. A strong ETag names bytes, so that of a compressed answer is another one: "x" becomes "x-gzip" (RFC 9110 section 8.8.3.3)."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        accepted = [value for name, value in scope["headers"] if name == b"accept-encoding"]
        if not accepted or not is_gzip_wanted(b", ".join(accepted).decode("latin-1")):

            async def send_as_is(message: Message) -> None:
                if message["type"] == "http.response.start" and _read_length(message) >= SMALL:
                    message["headers"].append((b"vary", b"Accept-Encoding"))
                await send(message)

            return await self.app(scope, receive, send_as_is)

        async def send_tagged(message: Message) -> None:
            if message["type"] == "http.response.start":
                _mark_tag(MutableHeaders(scope=message), message["status"], Headers(scope=scope).get("if-none-match", ""))
            await send(message)

        await GZipResponder(self.app, SMALL, LEVEL)(scope, receive, send_tagged)


def _read_length(message: Message) -> int:
    return int(next((value for name, value in message["headers"] if name == b"content-length"), b"0"))


def _mark_tag(headers: MutableHeaders, status: int, known: str) -> None:
    """The ETag as this answer has it; a 304 has that of the answer it stands for, which is the one the client knows."""
    tag = headers.get("etag", "")
    if tag.startswith('"'):
        compressed = f'{tag[:-1]}-gzip"'
        if headers.get("content-encoding") == "gzip" or (status == 304 and compressed in known):
            headers["ETag"] = compressed


def is_gzip_wanted(accepted: str) -> bool:
    """Whether an Accept-Encoding takes gzip, and not less gladly than an answer as it is."""
    weights: dict[str, float] = {}
    for part in accepted.lower().split(","):
        coding, *parameters = (piece.strip() for piece in part.split(";"))
        try:
            weights[coding] = float(next((p[2:] for p in parameters if p.startswith("q=")), "1"))
        except ValueError:
            weights[coding] = 0.0
    gzip = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzip > 0 and gzip >= weights.get("identity", 0.0)
